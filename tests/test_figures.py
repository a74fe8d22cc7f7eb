"""Charts: whole and light, in words that follow what they were given, the same bytes each time, nothing left behind."""

import io
import warnings
from itertools import product
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.formatters import PNGFormatter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from capitulation import figures
from capitulation.figures import style
from capitulation.mining.difficulty import adjustments, halving_days
from capitulation.mining.economics import breakeven_usd_kwh, economics, fleet, read_rigs
from capitulation.mining.episodes import episodes
from capitulation.mining.hashrate import hash_rate_band, hash_ribbons
from capitulation.study.chance import max_rotation_test, rotation_test
from capitulation.study.duration import survival_curve
from capitulation.study.present import present_state
from capitulation.study.robustness import prequential
from capitulation.study.trading import backtest, random_entries

PRIMARY, HOLD, OWN, POWER = "hash_ribbons_recovery_hold_90d", "buy_and_hold", "my own rule of thumb", 0.07


def simple(log_return):
    return f"{100 * np.expm1(log_return):+.0f} %".replace("-", "−")


def after(price, days, horizon):
    every = np.log(price.shift(-1 - horizon) / price.shift(-1))["2014":].dropna()
    return every[every.index.isin(days)], every


def found(panel):
    return episodes(hash_ribbons(panel)["inverted"], panel)


def words(figure):
    return tuple(text.replace("\n", " ").replace("\u00a0", " ") for text in (figure.get_suptitle(), figure.get_label()))


def assert_whole(figure):
    """Words without "nan", a light picture, and nothing drawn beyond the figure's edge."""
    title, alt = words(figure)
    assert type(figure) is Figure and alt.startswith(title) and len(alt) > len(title) + 30
    assert not {"nan", "NaT", "None"} & set(f"{title} {alt}".replace(",", " ").split())
    assert len(style.png_bytes(figure)) < 90_000
    box, (wide, high) = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer()), figure.get_size_inches()
    assert min(box.x0, box.y0, wide - box.x1, high - box.y1) > -0.02


@pytest.fixture(scope="module")
def small(simulated_panel):
    """What the charts take: from one simulated market, or made up here."""
    rng, panel, price = np.random.default_rng(3), simulated_panel, simulated_panel["price_usd"]["2014":]
    keys = product(("hash_ribbons", OWN), ("start", "recovery", "buy"), (30, 90))
    table = pd.DataFrame(keys, columns=["definition", "anchor", "horizon_days"]).assign(n_events=9)
    table[["ci_low", "excess_log", "ci_high"]] = np.sort(rng.normal(0, 0.1, (12, 3)))
    table[["p_rotation", "p_matched", "p_hac", "p_hansen_hodrick", "t_ols"]] = rng.uniform(0, 1, (12, 5))
    own = found(panel)
    ends, curve = pd.DatetimeIndex(own["end"].dropna()[-16:]), survival_curve(own)
    returns, state = after(price, ends, 90)[1], present_state(panel, horizons=(30, 90))
    test, forecasts = rotation_test(returns, ends), prequential(panel, ends)
    many = max_rotation_test(returns, [returns.index.isin(days) for days in (ends, own["start"])])
    family = pd.DataFrame({"definition": ["hash_ribbons", OWN], "anchor": "recovery", "z": many.z})
    family["p_family"] = many.p_family
    grid = pd.DataFrame({"fast_days": [10, 10, 30, 30], "slow_days": [45, 60] * 2, "excess_log": rng.normal(size=4)})
    specifications = pd.concat([table.assign(sample_start=f"{year}-01-01", lag_days=1) for year in (2011, 2014)])
    run = backtest(price, ends, hold_days=90)
    random = {PRIMARY: random_entries(price, run.position, 200)}
    curves = pd.DataFrame({PRIMARY: run.equity, HOLD: price / price.iloc[0], "hash_ribbons_buy_hold_7d": run.equity**2})
    ledger = pd.DataFrame({"id": [1, 2], "source": ["One, a", "Two"], "verdict": ["reproduced", "contradicted"]})
    rates = pd.DataFrame({"label": ["exact rotation", "least squares"], "realistic_rate": [0.05, 0.21]})
    rates = rates.assign(stationary_rate=0.05, stationary_error=0.01, realistic_error=0.01)
    power = pd.DataFrame({"test": "rotation", "effect_log": [0.0, 0.2, 0.4], "rate": [0.05, 0.3, 0.7], "error": 0.02})
    return SimpleNamespace(**locals())


NETWORK = {  # charts of a panel alone
    "price": lambda p: figures.price_with_capitulations(p, found(p)),
    "ribbons": lambda p: figures.hash_rate_ribbons(hash_ribbons(p), found(p), hash_rate_band(p)),
    "gap": lambda p: figures.gap_with_noise(hash_ribbons(p), found(p), halvings=halving_days(p)),
    "gap_now": lambda p: figures.gap_now(hash_ribbons(p)),
    "timeline": lambda p: figures.definitions_timeline(found(p).assign(definition=OWN), p),
    "hashprice": lambda p: figures.hashprice(economics(p), halvings=halving_days(p)),
    "puell": lambda p: figures.puell(economics(p)),
    "cost": lambda p: figures.production_cost(p["price_usd"], fleet(p, POWER)),
    "rigs": lambda p: figures.rig_breakeven(breakeven_usd_kwh(p, read_rigs()), POWER),
    "adjustments": lambda p: figures.adjustment_bars(adjustments(p)),
    "survival": lambda p: figures.survival(survival_curve(found(p)), age=9),
}
CHARTS = {name: lambda f, draw=draw: draw(f.panel) for name, draw in NETWORK.items()} | {
    "paths": lambda f: figures.event_paths(f.panel, f.ends),
    "horizons": lambda f: figures.returns_by_horizon(f.panel, f.ends, horizons=(30, 90)),
    "rotation": lambda f: figures.rotation_null(f.test, days=90),
    "tests": lambda f: figures.test_comparison(f.table[f.table["definition"] == OWN]),
    "forest": lambda f: figures.forest(f.table),
    "family": lambda f: figures.family_null(f.family, f.many.null_max),
    "prequential": lambda f: figures.prequential(f.forecasts),
    "fan": lambda f: figures.comparable_fan(f.state),
    "windows": lambda f: figures.window_grid(f.grid),
    "specifications": lambda f: figures.specification_curve(f.specifications),
    "equity": lambda f: figures.equity(f.curves, PRIMARY),
    "drawdown": lambda f: figures.drawdown(f.curves, PRIMARY),
    "random": lambda f: figures.random_entries(f.random),
    "ledger": lambda f: figures.claims_verdicts(f.ledger),
    "rates": lambda f: figures.rejection_rates(f.rates),
    "power": lambda f: figures.power(f.power, {"rotation": "exact rotation"}, {"as claimed": 0.3}),
}
EMPTY = {name: lambda f, draw=draw: draw(f.panel * np.nan) for name, draw in NETWORK.items()} | {
    "paths": lambda f: figures.event_paths(f.panel, [], name="Hash Ribbons recoveries"),
    "priceless": lambda f: figures.event_paths(f.panel.assign(price_usd=np.nan), f.ends),
    "horizons": lambda f: figures.returns_by_horizon(f.panel, f.panel.index[-3:]),
    "rotation": lambda f: figures.rotation_null(rotation_test([0.1, 0.2], [False, False])),
    "tests": lambda f: figures.test_comparison(f.table.assign(n_events=0)),
    "forest": lambda f: figures.forest(f.table, days=7),
    "family": lambda f: figures.family_null(f.family.assign(z=np.nan), np.array([])),
    "prequential": lambda f: figures.prequential(f.forecasts.iloc[:2]),
    "fan": lambda f: figures.comparable_fan({"comparable": {"log_returns": []}}),
    "windows": lambda f: figures.window_grid(f.grid.assign(excess_log=np.nan)),
    "specifications": lambda f: figures.specification_curve(f.specifications.iloc[:0]),
    "equity": lambda f: figures.equity(f.curves.iloc[:0], PRIMARY),
    "drawdown": lambda f: figures.drawdown(f.curves.iloc[:0], PRIMARY),
    "random": lambda f: figures.random_entries({}),
    "ledger": lambda f: figures.claims_verdicts(f.ledger.iloc[:0]),
    "rates": lambda f: figures.rejection_rates(f.rates.iloc[:0]),
    "power": lambda f: figures.power(f.power.iloc[:0], {}),
}


@pytest.mark.parametrize("name", CHARTS)
def test_chart_is_whole_described_and_leaves_nothing_behind(small, name):
    before, figure = dict(mpl.rcParams), CHARTS[name](small)
    assert dict(mpl.rcParams) == before and figure.axes[0].axison
    assert_whole(figure)
    assert all(axes.get_yscale() != "log" or "log scale" in axes.get_ylabel() for axes in figure.axes)


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_to_draw_is_said(small, name):
    figure = EMPTY[name](small)
    assert_whole(figure)
    assert not figure.axes[0].axison
    assert {"no", "not", "without"} & set(words(figure)[0].lower().split())


def test_short_histories_give_whole_figures(small):
    none = found(small.panel).iloc[:0]
    for figure in (draw(small.panel.iloc[:90]) for draw in NETWORK.values()):
        assert_whole(figure)
    assert_whole(figures.price_with_capitulations(small.panel, none))
    assert_whole(figures.gap_with_noise(hash_ribbons(small.panel), none))


def test_words_hold_figures_computed_here(small):
    f, panel, at_90 = small, small.panel, small.table[small.table["horizon_days"] == 90]
    price, h, own, (chosen, every) = panel["price_usd"], panel["hash_rate_ehs"], f.own, after(f.price, f.ends, 90)
    ended = own.dropna(subset=["end", "price_start", "price_end"])
    below = (h.rolling(30).mean() < h.rolling(60).mean()).to_numpy()
    run = len(below) - 1 - np.flatnonzero(below != below[-1])[-1]
    coins, change = (panel["issuance_btc"] * price).dropna(), adjustments(panel)["change"].dropna()
    paid, cost = breakeven_usd_kwh(panel, read_rigs()).iloc[-1].dropna(), fleet(panel, POWER)["production_cost_usd"]
    p = at_90.set_index(["definition", "anchor"]).loc[(OWN, "recovery"), "p_rotation"]
    earlier = (chosen.index.to_numpy()[:, None] >= chosen.index + pd.Timedelta(days=91)).sum(axis=1)  # outcome known
    excess, framed = f.grid["excess_log"], f.grid["excess_log"].iloc[-1]  # 30 and 60 days stand last
    best, luck, moments = f.family["z"].max(), f.random[PRIMARY], f.state["comparable"]["log_returns"]
    fall = 100 * (1 - f.curves / f.curves.cummax()).max()
    expected = {
        "price": f"rose during {(ended.price_end > ended.price_start).sum()} of the {len(ended)} that ended",
        "ribbons": f"{'below' if below[-1] else 'above'} the slow one, for {run} day",
        "gap": f"Of {len(own)} inversions, {(own['depth_z'] < -3).sum()} go deeper",
        "gap_now": f"The gap is {100 * (h.tail(30).mean() / h.tail(60).mean() - 1):+.1f} % on {h.index[-1]:%Y-%m-%d}",
        "timeline": f"{OWN} {len(own)}.",
        "hashprice": f"A PH/s earns {(panel['revenue_usd'] / h).iloc[-1] / 1000:,.3g}",
        "puell": f"Puell multiple is {(coins / coins.rolling(365).mean()).iloc[-1]:.2f}",
        "cost": f"BTC costs {(price / cost).iloc[-1]:.2f} times the power that makes it",
        "rigs": f"{(paid >= POWER).sum()} of {len(paid)} rig models",
        "adjustments": f"{(change < 0).sum()} of {len(change)} difficulty adjustments were cuts",
        "survival": f"of {f.curve['n_at_risk'].iloc[0]} capitulations were over after",
        "paths": f"90 days after the median of {len(chosen)} events BTC stood at {simple(chosen.median())}",
        "horizons": f"90 days {simple(chosen.median())} against {simple(every.median())}",
        "rotation": f"observed {chosen.mean() - every.mean():+.3f}",
        "tests": f"exact rotation p = {p:.{3 if p < 0.1 else 2}f}",
        "forest": f"{(at_90['p_rotation'] < 0.05).sum()} of 6 pairs of definition and signal have a rotation p below",
        "family": f"In {100 * (f.many.null_max >= best - 1e-9).mean():.1f} % of common rotations",
        "prequential": f"Over {sum(earlier >= 3)} signals, forecasts from earlier signals",
        "fan": f"at {sum(row['median'] > row['base_median'] for row in moments)} of {len(moments)} horizons",
        "windows": f"above zero; 30/60 beats {100 * (excess < framed).mean():.0f} % of them",
        "specifications": f"{100 * (f.table['excess_log'] > 0).mean():.0f} % of 24 ways to ask the question",
        "equity": f"“recovery, hold 90 days”, {price.iloc[-1] / price['2014-01-01']:,.0f} USD by holding",
        "drawdown": f"fell {fall[PRIMARY]:.0f} % from its peak at worst, holding {fall[HOLD]:.0f} %",
        "random": f"“recovery, hold 90 days”, beats {100 * (luck.random < luck.observed).mean():.0f} % of random",
        "ledger": "1 of 2 published claims are reproduced, 1 contradicted",
        "rates": "1 of 2 tests keep their 5 % level in realistic markets; “least squares” rejects 21 %",
        "power": f"An effect of {simple(0.3)} would be found in 50 % of samples",
    }
    for name, draw in CHARTS.items():
        assert expected[name].replace("-", "−") in words(draw(f))[1].replace("-", "−"), name


def test_titles_follow_small_tables_by_hand():
    days = pd.date_range("2020-01-01", periods=10)
    modelled = {"production_cost_usd": 50.0, "n_recent": [1] * 2 + [5] * 8, "share_under_water": 0.5}
    modelled = pd.DataFrame(modelled, index=days)
    price = pd.Series([100.0, 100, 40, 40, *[75] * 6], index=days)
    cost = words(figures.production_cost(price, modelled))[0]
    assert "1.50 times" in cost and "25.0 % of days since 2020, the last 2020-01-04" in cost
    assert "coins" in words(figures.production_cost(price, modelled.assign(production_cost_usd=np.nan)))[0]
    table = pd.DataFrame({"change": [0.1, -0.1, -0.1, -0.1, 0.2, -0.1, 3.0], "negative_streak": [0, 1, 2, 3, 0, 1, 0]})
    bars = words(figures.adjustment_bars(table.assign(date=days[0] + pd.to_timedelta(14 * table.index, unit="D"))))[0]
    assert bars == "4 of 7 difficulty adjustments were cuts; the longest run of them, 3, ended on 2020-02-12"
    puell = figures.puell(pd.DataFrame({"puell_multiple": [np.nan] * 2 + [0.4] * 2 + [1.5] * 6}, index=days))
    assert "below 0.5 on 25 % of days, the last time on 2020-01-04" in words(puell)[0]
    years = pd.date_range("2020-01-01", "2023-01-01")
    rigs = {"old": (2020, 1.0), "better": (2020, 2.0), "worse": (2021, 1.5), "best": (2022, 4.0)}
    paid = {name: np.where(years.year >= year, level, np.nan) for name, (year, level) in rigs.items()}
    drawn = figures.rig_breakeven(pd.DataFrame(paid, index=years), 0.5)
    assert {text.get_text() for text in drawn.axes[0].texts} == {"better", "best", "0.5 assumed"}


def test_own_events_and_rules_are_called_by_their_own_names(small):
    panel, mean7 = small.panel, small.panel["hash_rate_ehs"].rolling(7).mean()
    ends = episodes(mean7 < 0.95 * mean7.rolling(90).max(), panel)["end"]
    options = {"name": "ends of falls", "days": 30}
    title = words(figures.event_paths(panel, ends, **options))[0]
    (own, every), weeks = after(panel["price_usd"], ends, 30), [after(panel["price_usd"], ends, h) for h in (7, 60)]
    assert f"the median of {len(own)} ends of falls BTC stood at {simple(own.median())}" in title
    assert title.startswith("30 days") and title.endswith(f"after the median day at {simple(every.median())}")
    assert title == words(figures.event_paths(panel, pd.Series(panel.index.isin(ends), panel.index), **options))[0]
    above = sum(own.median() > every.median() for own, every in weeks)
    title = words(figures.returns_by_horizon(panel, ends, horizons=(7, 60), name="ends of falls"))[0]
    assert "After ends of falls" in title and f"at {above} of 2 horizons" in title
    for events in ([], panel.index[-20:]):  # none, and none whose outcome is known
        title = words(figures.event_paths(panel, events, since="2015-01-01", **options))[0]
        assert title.startswith("No ends of falls since 2015-01-01 ")
    assert OWN in [name.get_text().replace("\n", " ") for name in CHARTS["forest"](small).axes[0].get_yticklabels()]


def test_verdicts_follow_the_numbers(small):
    rows, days = small.forecasts.dropna(), pd.date_range("2024-01-01", periods=30)
    for forecast, baseline, verdict in ((9.0, 0.01, "no less"), (0.01, 9.0, "less than")):
        made = rows.assign(forecast=rows["outcome"] + forecast, baseline=rows["outcome"] + baseline)
        assert f"missed by {verdict}" in words(figures.prequential(made))[0]
    for z, side in ((1.9, "within"), (-2.1, "outside")):
        ribbon = pd.DataFrame({"gap": 0.01 * z, "gap_se": 0.01, "gap_z": z}, index=days)
        assert f"{side} the band" in words(figures.gap_now(ribbon))[0]
    assert "beyond the sizes" in words(figures.power(small.power, {"rotation": "rotation"}, {"claimed": 0.9}))[0]
    for ongoing, verdict in ((False, "over after 30 days"), ([False, True, True, True], "Fewer than half of 4")):
        curve = survival_curve(pd.DataFrame({"days": [10, 30, 30, 40], "ongoing": ongoing}))
        old = figures.survival(curve, age=55)
        assert verdict in words(old)[0] and "day 55" in words(old)[1] and old.axes[0].get_xlim()[1] > 55


def test_limits_that_coincide_and_a_label_that_stays_off_the_zero_line(small):
    with warnings.catch_warnings(action="error"):
        figures.forest(small.table.assign(excess_log=0.0, ci_low=0.0, ci_high=0.0))
    axes = CHARTS["rotation"](small).axes[0]
    label = axes.texts[0].get_window_extent(FigureCanvasAgg(axes.figure).get_renderer())
    assert label.y0 > next(line for line in axes.lines if set(line.get_xdata()) == {0}).get_window_extent().y1


def test_readers_settings_change_nothing_and_bytes_repeat(small):
    figure = CHARTS["puell"](small)
    plain = style.png_bytes(figure)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "figure.constrained_layout.use": False}):
        assert style.png_bytes(CHARTS["puell"](small)) == plain
    assert PNGFormatter()(figure) == (plain, {"width": 730, "alt": figure.get_label()})  # as the last line of a cell
    assert style.png_bytes(style.watermark(style.watermark(figure))) != plain
    assert [text.get_text() for text in figure.texts].count("SIMULATED") == 1
    picture = Image.open(io.BytesIO(style.png_bytes(figure, colours=64)))
    assert picture.size == tuple(int(192 * inches) for inches in figure.get_size_inches()) and not picture.info
    assert len(picture.convert("RGB").getcolors(256)) <= 64


@given(st.lists(st.integers(0, 100), min_size=1, max_size=7))
def test_labels_are_moved_apart_and_keep_their_order(values):
    figure, axes = style.new_figure(height=6)
    axes.set_ylim(0, 100)
    style.label_ends(axes, [(value, str(i), "#000000") for i, value in enumerate(values)], gap=10)
    at = [axes.transData.transform((0, text.xy[1]))[1] * 72 / figure.dpi + text.xyann[1] for text in axes.texts]
    assert [values[int(text.get_text())] for text in axes.texts] == sorted(values)
    assert (np.diff(at) >= 9).all()


def test_anchors_are_told_apart_without_red_and_green_and_by_shape():
    # Machado, Oliveira and Fernandes (2009), deuteranopia of severity 1, in linear light.
    matrix = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    seen = [np.clip(matrix @ np.array(to_rgb(c)) ** 2.2, 0, 1) ** (1 / 2.2) for c in style.ANCHOR_COLOURS.values()]
    assert min(np.abs(a - b).sum() for i, a in enumerate(seen) for b in seen[:i]) > 0.4
    assert len(set(style.ANCHOR_MARKERS.values())) == len(style.ANCHOR_MARKERS) == 4
