"""Charts: whole and light, in words that follow what they were given, the same bytes each time, nothing left behind."""

import base64
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
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from capitulation import figures
from capitulation.data.market import Market
from capitulation.figures import style
from capitulation.mining.difficulty import adjustments
from capitulation.mining.economics import economics, fleet, rigs_under_water
from capitulation.mining.episodes import episodes
from capitulation.mining.hashrate import hash_ribbons
from capitulation.report.page import Page
from capitulation.study.chance import rotation_test
from capitulation.study.duration import survival_curve
from capitulation.study.forecasts import reliability
from capitulation.study.trading import backtest

PRIMARY, HOLD, OWN, POWER = "hash_ribbons_recovery_hold_90d", "buy_and_hold", "my own rule of thumb", 0.07


def simple(log_return):
    return f"{100 * np.expm1(log_return):+.0f} %".replace("-", "−")


def after(price, days, horizon):
    every = np.log(price.shift(-1 - horizon) / price.shift(-1))["2014":].dropna()
    return every[every.index.isin(days)], every


def found(panel):
    return episodes(hash_ribbons(panel)["inverted"], panel)


def timeline(panel, states, since="2011-01-01"):
    every = pd.concat([episodes(state, panel).assign(definition=name) for name, state in states.items()])
    return figures.definitions_timeline(every, panel, pd.DataFrame(states), since=since)


def words(figure):
    return tuple(text.replace("\n", " ").replace("\u00a0", " ") for text in (figure.get_suptitle(), figure.get_label()))


def assert_inside(figure, painted):
    """A light picture, if it is `painted`, and nothing drawn beyond the figure's edge."""
    if painted:
        assert len(style.png_bytes(figure)) < 90_000
    else:
        figure.set_dpi(192)
        figure.draw_without_rendering()
    box, (wide, high) = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer()), figure.get_size_inches()
    assert min(box.x0, box.y0, wide - box.x1, high - box.y1) > -0.02


def assert_whole(figure, painted=False):
    """Words without "nan", a whole picture, and another for telephones: of one width, legible, saying the same."""
    title, alt = words(figure)
    assert type(figure) is Figure and alt.startswith(title) and len(alt) > len(title) + 30
    assert not {"nan", "NaT", "None"} & set(f"{title} {alt}".replace(",", " ").split())
    narrow = figure.narrow()
    for picture in (figure, narrow):
        assert_inside(picture, painted)
    assert (figure.get_figwidth(), narrow.get_figwidth()) == (7.6, 3.6) and words(narrow) == words(figure)
    small = [text.get_text() for text in narrow.findobj(Text) if text.get_text() and text.get_fontsize() < 8.5]
    assert not small  # 11 px at 96 px an inch


@pytest.fixture(scope="module")
def small(simulated_panel):
    """What the charts take: from one simulated market, or made up here."""
    rng, panel, price = np.random.default_rng(3), simulated_panel, simulated_panel["price_usd"]["2014":]
    keys = product(("hash_ribbons", OWN), ("start", "recovery", "buy"), (30, 90))
    table = pd.DataFrame(keys, columns=["definition", "anchor", "horizon_days"]).assign(n_events=9)
    table[["ci_low", "excess_log", "ci_high"]] = np.sort(rng.normal(0, 0.1, (12, 3)))
    table["p_rotation"] = rng.uniform(0, 1, 12)
    table[["ci_low_own_era", "excess_own_era", "ci_high_own_era"]] = np.sort(rng.normal(0, 0.1, (12, 3)))
    table["p_rotation_own_era"] = np.linspace(0.01, 0.9, 12)
    table["p_family_own_era"] = np.linspace(0.2, 1, 12)
    table["same_as"] = ""
    own = found(panel)
    ends, curve = pd.DatetimeIndex(own["end"].dropna()[-16:]), survival_curve(own)
    test = rotation_test(after(price, ends, 90)[1], ends)
    grid = pd.DataFrame({"fast_days": [10, 10, 30, 30], "slow_days": [45, 60] * 2, "excess_log": rng.normal(size=4)})
    grid["p_family"] = 0.5
    specifications = pd.concat([table.assign(sample_start=f"{year}-01-01", lag_days=1) for year in (2011, 2014)])
    run = backtest(price, ends, hold_days=90)
    curves = pd.DataFrame({PRIMARY: run.equity, HOLD: price / price.iloc[0], "hash_ribbons_buy_hold_7d": run.equity**2})
    rates = pd.DataFrame({"label": ["exact rotation", "least squares"], "realistic_rate": [0.05, 0.21]})
    rates = rates.assign(stationary_rate=0.05, stationary_error=0.01, realistic_error=0.01)
    power = pd.DataFrame({"test": "rotation", "effect_log": [0.0, 0.2, 0.4], "rate": [0.05, 0.3, 0.7], "error": 0.02})
    odds = pd.DataFrame({"as_of": panel.index[-400:], "days": 30, "probability": rng.uniform(size=400)})
    odds["score"] = 0.0
    odds["outcome"] = (rng.uniform(size=400) < odds["probability"]).astype(float)
    said = pd.concat([reliability(odds.assign(kind=kind), kind, 30) for kind in ("capitulation ends", "relapse")])
    return SimpleNamespace(**locals())


@pytest.fixture(scope="module")
def nothing(small):
    """The same without anything that could be drawn."""
    void = {name: frame.iloc[:0] for name, frame in vars(small).items() if isinstance(frame, pd.DataFrame)}
    void |= {"panel": small.panel * np.nan, "ends": small.ends, "test": rotation_test([0.1, 0.2], [False, False])}
    void |= {"table": small.table.assign(n_events=0), "grid": small.grid.assign(excess_log=np.nan)}
    return SimpleNamespace(**void)


NETWORK = {  # charts of a panel alone
    "capitulations": lambda p: figures.capitulations(p, hash_ribbons(p), found(p)),
    "timeline": lambda p: timeline(p, {OWN: hash_ribbons(p)["inverted"]}),
    "economics": lambda p: figures.mining_economics(p, economics(p), fleet(p, POWER)),
    "rigs": lambda p: figures.rig_breakeven(rigs_under_water(p, POWER), POWER),
    "adjustments": lambda p: figures.adjustment_bars(adjustments(p)),
    "survival": lambda p: figures.survival(survival_curve(found(p)), age=9),
}
CHARTS = {name: lambda f, draw=draw: draw(f.panel) for name, draw in NETWORK.items()} | {
    "paths": lambda f: figures.event_paths(f.panel, f.ends),
    "horizons": lambda f: figures.returns_by_horizon(f.panel, f.ends, horizons=(30, 90), notes={90: "n = 16\np = 0.2"}),
    "ledger": lambda f: figures.ledger(f.panel, f.own),
    "nulls": lambda f: figures.nulls(
        {"this rule": (f.test.null, f.test.excess, "excess"), "none": (np.array([]), np.nan, "")}
    ),
    "forest": lambda f: figures.forest(f.table),
    "windows": lambda f: figures.window_grid(f.grid),
    "specifications": lambda f: figures.specification_curve(f.specifications),
    "equity": lambda f: figures.equity(f.curves, PRIMARY),
    "rates": lambda f: figures.rejection_rates(f.rates),
    "power": lambda f: figures.power(f.power, {"rotation": "exact rotation"}, {"as claimed": 0.3}),
    "reliability": lambda f: figures.reliability(f.said),
}


@pytest.mark.parametrize("name", CHARTS)
def test_chart_is_whole_described_and_leaves_nothing_behind(small, name):
    before, figure = dict(mpl.rcParams), CHARTS[name](small)
    assert dict(mpl.rcParams) == before and figure.axes[0].axison
    assert_whole(figure, painted=True)
    assert all(axes.get_yscale() != "log" or "log scale" in axes.get_ylabel() for axes in figure.axes)


@pytest.mark.parametrize("name", CHARTS)
def test_nothing_to_draw_is_said(nothing, name):
    figure = CHARTS[name](nothing)
    assert_whole(figure)
    assert not figure.axes[0].axison
    assert {"no", "not", "without"} & set(words(figure)[0].lower().split())


def test_short_histories_give_whole_figures(small):
    for draw, days in product(NETWORK.values(), (90, 900)):  # on the later day hash rate booms
        assert_whole(draw(small.panel.iloc[:days]))


def test_panels_show_the_same_days_and_what_is_not_known_is_left_out(small):
    recent, ribbon, own = small.panel.iloc[-800:-30], hash_ribbons(small.panel), small.own
    first, last = recent.index[[0, -1]]
    n = ((own["end"].isna() | (own["end"] > first)) & (own["start"] <= last)).sum()
    for prices, means, events, panels, says in (
        (recent, ribbon, own, 3, f"{n} capitulations since {first.year}, "),
        (recent, ribbon, own.iloc[:0], 3, "No capitulation counts; "),
        (recent.assign(price_usd=np.nan), ribbon, own, 2, f"{n} capitulations"),
        (recent, ribbon * np.nan, own.iloc[:0], 1, "Both means of hash rate are not known"),
    ):
        figure = figures.capitulations(prices, means, events)
        assert_whole(figure)
        assert len(figure.axes) == panels and words(figure)[0].startswith(says)
        assert {axes.get_xlim() for axes in figure.axes} == {tuple(date2num([first, last]))}


def test_words_hold_figures_computed_here(small):
    f, panel, at_90 = small, small.panel, small.table[small.table["horizon_days"] == 90]
    p_90 = at_90.loc[at_90["anchor"] == "recovery", ["p_rotation_own_era", "p_family_own_era"]].iloc[0].tolist()
    h, money = panel["hash_rate_ehs"], panel["revenue_usd"] / panel["hash_rate_ehs"] / 1000
    own, (chosen, every) = f.own, after(f.price, f.ends, 90)
    graded = {grade: after(f.price, ends, 90)[0] for grade, ends in own.groupby("grade")["end"]}
    deep, gap = (own["depth_z"] < -3).sum(), 100 * (h.tail(30).mean() / h.tail(60).mean() - 1)
    change, rigs = adjustments(panel)["change"].dropna(), rigs_under_water(panel, POWER)["breakeven_usd_kwh"]
    excess, framed = f.grid["excess_log"], f.grid["excess_log"].iloc[-1]  # 30 and 60 days stand last
    at_least, n = (f.test.null >= f.test.excess - 1e-9).mean(), len(every)
    fall, ends = 100 * (1 - f.curves / f.curves.cummax()).max(), f.curves.iloc[-1]
    likely, other = (f.odds.loc[(f.odds["probability"] >= 0.5) == high, "outcome"] for high in (True, False))
    expected = {
        "capitulations": f"{deep} deeper than block luck explains; on {h.index[-1]:%Y-%m-%d} the gap is {gap:+.1f} %",
        "timeline": f"since 2011 they count {(~(own['end'] <= '2011-01-01')).sum()} episodes",
        "economics": f"A PH/s earns {money.iloc[-1]:.3g} USD a day, ",
        "rigs": f"{(rigs >= POWER).sum()} of {len(rigs)} current rig models can pay {POWER} USD/kWh",
        "adjustments": f"{(change < 0).sum()} of {len(change)} difficulty adjustments were cuts",
        "survival": f"of {f.curve['n_at_risk'].iloc[0]} capitulations were over after",
        "paths": f"90 days after the median of {len(chosen)} events BTC stood at {simple(chosen.median())}",
        "horizons": f"90 days {simple(chosen.median())} against {simple(every.median())} (n = 16, p = 0.2)",
        "nulls": f"{100 * at_least:.1f} % of {n:,} rotations of the calendar do at least as well as the real one",
        "forest": "Of 2 definitions none can be told from chance 90 days after its recoveries: the best, Hash Ribbons, "
        f"has p = {p_90[0]:.2f} alone and p = {p_90[1]:.2f} once all 6 looks are counted",
        "ledger": f"BTC was higher 90 days after {(graded['real'] > 0).sum()} of {len(graded['real'])} recoveries from "
        "real capitulations, ",
        "windows": f"above zero; 30/60 beats {100 * (excess < framed).mean():.0f} % of them",
        "specifications": f"{100 * (f.table['excess_log'] > 0).mean():.0f} % of 24 ways to ask the question",
        "equity": f"{fall[PRIMARY]:.0f} % down) and {ends[HOLD]:.3g} USD by holding (at worst {fall[HOLD]:.0f} %",
        "rates": "rejects 5.0 % of realistic markets without any effect, where 5 % is right; 1 of 2 rows lie",
        "power": f"An effect of {simple(0.3)} would be found in 50 % of simulated histories",
        "reliability": f"in {100 * likely.mean():.0f} % of {len(likely)} said at 50 % or more, in "
        f"{100 * other.mean():.0f} % of {len(other)} below (capitulation ends within 30 days); in ",
    }
    for name, draw in CHARTS.items():
        assert expected[name].replace("-", "−") in words(draw(f))[1].replace("-", "−"), name


def test_titles_follow_small_tables_by_hand():
    days = pd.date_range("2020-01-01", periods=10)
    modelled = pd.DataFrame({"production_cost_usd": 50.0, "n_recent": [1] * 2 + [5] * 8}, index=days)
    panel = pd.DataFrame({"price_usd": [100.0, 100, 40, 40, *[75] * 6], "height": np.nan}, index=days)
    money = {"hashprice_usd_ph_day": [40.0, 20, *[30] * 8], "puell_multiple": [np.nan] * 2 + [0.4] * 2 + [1.5] * 6}
    drawn = figures.mining_economics(panel, pd.DataFrame(money, index=days), modelled)
    assert "a day, 50 % above the lowest since 2020; BTC costs 1.50 times the power" in words(drawn)[0]
    told = [axes.get_title(loc="left") for axes in drawn.axes]
    assert "20 USD on 2020-01-02" in told[0] and all("25.0 % of days, last 2020-01-04" in t for t in told[1:])
    table = pd.DataFrame({"change": [0.1, -0.1, -0.1, -0.1, 0.2, -0.1, 3.0], "negative_streak": [0, 1, 2, 3, 0, 1, 0]})
    bars = words(figures.adjustment_bars(table.assign(date=days[0] + pd.to_timedelta(14 * table.index, unit="D"))))[0]
    assert bars == "4 of 7 difficulty adjustments were cuts; the longest run of them, 3, ended on 2020-02-12"
    paid = pd.Series({"old": 0.04, "good": 0.09, "new": 0.12, "exact": 0.07}, name="breakeven_usd_kwh")
    drawn = figures.rig_breakeven(paid.to_frame().assign(under_water=paid < 0.07), 0.07)
    assert words(drawn)[0].startswith("3 of 4 current") and words(drawn)[0].endswith("the best one, new, up to 0.120")
    assert [name.get_text() for name in drawn.axes[0].get_yticklabels()] == ["new", "good", "exact", "old"]
    at = {line.get_marker(): (*line.get_xdata(), *line.get_ydata()) for line in drawn.axes[0].lines}
    assert at["o"] == (0.12, 0.09, 0.07, 0, 1, 2) and at["v"] == (0.04, 3)  # told apart without colour
    row = {"kind": "relapse", "days": 30, "low": 0.9, "high": 1.0, "n": 4, "n_separate": 4, "said": 0.95}
    table = pd.DataFrame([row]).assign(happened=0.5, ci_low=0.07, ci_high=0.93)
    for said, inside in ((0.92, 1), (0.95, 0)):  # what was said lies within the interval of what happened, or not
        title, alt = words(drawn := figures.reliability(table.assign(said=said)))
        assert title == "It happened in 50 % of 4 said at 50 % or more (relapse within 30 days)"
        assert alt.endswith(f"{100 * said:.0f} %: 50 % of 4; on the diagonal within {inside} of 1 intervals.")
        circle, cross = drawn.axes[0].collections[-2:]
        assert (len(circle.get_offsets()), len(cross.get_offsets())) == (inside, 1 - inside)


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
        paths = figures.event_paths(panel, events, since="2015-01-01", **options)
        dots = figures.returns_by_horizon(panel, events, horizons=(30, 60), name="ends of falls")
        for year, figure in ((2015, paths), (2014, dots)):
            assert words(figure)[0].startswith(f"No ends of falls since {year}-01-01 ")
    assert OWN in [name.get_text().replace("\n", " ") for name in CHARTS["forest"](small).axes[0].get_yticklabels()]


def test_single_paths_are_the_real_ones_or_the_extremes(small):
    months = {at: f"{at:%b %Y}" for at in small.ends}
    last = {at: small.panel["price_usd"].shift(-1).get(at + pd.Timedelta(days=365), np.nan) for at in small.ends}
    known = pd.Series({at: last[at] / small.panel["price_usd"].shift(-1)[at] for at in small.ends}).dropna()
    extremes = known.sort_values().index[[0, 1, -2, -1]]
    real = known.index[3:5]
    grades = pd.Series(["real" if at in real else "noise-like" for at in small.ends], small.ends)
    for options, days in (({}, extremes), ({"grades": grades}, real), ({"grades": grades[:0]}, extremes)):
        named = {text.get_text() for text in figures.event_paths(small.panel, small.ends, **options).axes[0].texts}
        assert named == {"median event", "median day", *(months[at] for at in days)}


def test_page_carries_a_narrow_picture_of_figures_that_can_draw_one(small, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw, metadata: shown.append((data, metadata)))
    figure, foreign = CHARTS["ledger"](small), Figure()
    foreign.subplots().plot([1, 2])
    for folder, simulated, drawn in ((tmp_path, False, figure), (tmp_path, True, figure), (None, False, figure)):
        Page(Market(small.panel, "test", simulated), {}, {}, {}, {}, folder=folder).figure(drawn, "ledger", "Caption.")
    Page(Market(small.panel, "test", False), {}, {}, {}, {}, folder=tmp_path).figure(foreign, "own", "Caption.")
    narrow = [metadata["image/png"].get("narrow") for _, metadata in shown]
    assert narrow[2:] == [None, None] and base64.b64decode(narrow[0]) == style.png_bytes(figure.narrow())
    assert base64.b64decode(narrow[1]) == style.png_bytes(style.watermark(figure.narrow()))


def test_verdicts_follow_the_numbers(small):
    for z, side in ((1.9, "within"), (-2.1, "beyond")):
        ribbon = hash_ribbons(small.panel).assign(gap_z=z)
        assert f"{side} block luck" in words(figures.capitulations(small.panel, ribbon, small.own))[0]
    assert "beyond the sizes" in words(figures.power(small.power, {"rotation": "rotation"}, {"claimed": 0.9}))[0]
    for ongoing, verdict in ((False, "over after 30 days"), ([False, True, True, True], "Fewer than half of 4")):
        curve = survival_curve(pd.DataFrame({"days": [10, 30, 30, 40], "ongoing": ongoing}))
        old = figures.survival(curve, age=55)
        assert verdict in words(old)[0] and "day 55" in words(old)[1] and old.axes[0].get_xlim()[1] > 55
    same = dict.fromkeys(["excess_own_era", "ci_low_own_era", "ci_high_own_era"], 0.0)
    with warnings.catch_warnings(action="error"):
        figures.forest(small.table.assign(**same))
    assert "at least one stands out" in words(figures.forest(small.table.assign(p_family_own_era=0.01)))[0]
    last = "one of 7 looks, p = 0.3 once all are counted"
    for figure in (
        figures.nulls({"this rule": (small.test.null, small.test.excess, "excess")}, verdict=last),
        figures.returns_by_horizon(small.panel, small.ends, verdict=last),
        figures.ledger(small.panel, small.own, verdict=last),
    ):
        assert words(figure)[0].endswith(f"; {last}")


def test_two_rules_that_are_one_are_one_row(small):
    twin = small.table.loc[small.table["definition"] == "hash_ribbons"].assign(definition="hash_rate_growth_30d")
    twin["same_as"] = "hash_ribbons"
    figure = figures.forest(pd.concat([small.table, twin]))
    names = [name.get_text().replace("\n", " ") for name in figure.axes[0].get_yticklabels()]
    assert (
        sorted(names) == sorted(["Hash Ribbons = 30-day hash-rate growth", OWN]) and "all 6 looks" in words(figure)[0]
    )
    inverted, never = hash_ribbons(small.panel)["inverted"], small.panel["price_usd"] < 0
    states = {"hash_ribbons": inverted, "hash_rate_growth_30d": inverted, "puell_multiple": never}
    figure = timeline(small.panel, states | {OWN: inverted.mask(inverted.notna())})
    assert len(figure.axes[0].get_yticks()) == 3
    assert "of 2 definitions known on" in words(figure)[0] and words(figure)[1].endswith(f"{OWN} not known.")
    share = f"{100 * inverted['2011':].mean():.0f} %"
    assert {text.get_text() for text in figure.axes[0].texts if "%" in text.get_text()} == {share, "0 %"}


def test_ledger_counts_by_grade_and_marks_what_is_not_known():
    days = pd.date_range("2015-01-01", periods=1000, name="date")
    price = pd.Series(100 * 1.01 ** np.minimum(np.arange(1000), 500), days)  # rises, then stands still
    panel = pd.DataFrame({"price_usd": price, "height": np.nan})
    rows = [(0, "real"), (100, "noise-like"), (600, "noise-like"), (700, "real"), (990, "doubtful")]
    ends = pd.DataFrame({"end": [days[at] for at, _ in rows], "grade": [grade for _, grade in rows], "ongoing": False})
    title, alt = words(figure := figures.ledger(panel, ends, days=30))
    assert title.startswith("BTC was higher 30 days after 1 of 2 recoveries from real capitulations and 1 of 2 from ")
    assert f"2015-01-01 real {simple(30 * np.log(1.01))}" in alt and alt.endswith("what followed on 2017-09-17.")
    assert "not known yet" in [text.get_text() for text in figure.axes[0].texts]
    shapes = {
        (line.get_marker(), line.get_markerfacecolor()) for line in figure.axes[0].lines if line.get_marker() in "Ddo"
    }
    assert len({shape for shape, _ in shapes}) == len({fill for _, fill in shapes}) == 3
    for some, says in (
        (ends.iloc[:1], "1 of 1 recovery from real capitulations; after"),
        (ends.iloc[2:3].assign(grade=None), "0 of 1 recovery from ungraded capitulations; after"),
        (ends.iloc[1:3], "1 of 2 recoveries from noise-like capitulations; after"),
        (ends.iloc[4:], "No recovery since 2014-01-01 has an outcome"),
        (ends.iloc[:0], "No recovery since 2014-01-01 has an outcome"),
    ):
        assert says in words(figures.ledger(panel, some, days=30))[0]
        assert_whole(figures.ledger(panel, some, days=30))
    at_start = ends.assign(start=ends["end"], end=pd.NaT, ongoing=True)
    title, alt = words(figures.ledger(panel, at_start, days=30, anchor="start", since=""))
    assert "1 of 2 starts of real capitulations" in title and alt.endswith("One capitulation is under way.")


@pytest.mark.parametrize(
    "change",
    [
        {"hash_rate_ehs": 1.0, "block_count": 144.0},  # never inverted
        {"block_count": np.nan, "difficulty": np.nan, "height": np.nan},
        {"price_usd": np.nan},
        "no price at the end",
    ],
    ids=str,
)
def test_odd_markets_give_whole_figures(small, change):
    panel = small.panel.assign(**change) if isinstance(change, dict) else small.panel.copy()
    if isinstance(change, str):
        panel.loc[panel.index[-30:], "price_usd"] = np.nan
    own = found(panel)
    ends = own["end"].dropna()[-16:]
    drawn = [draw(panel) for draw in NETWORK.values()]
    drawn += [figures.ledger(panel, own, anchor=anchor) for anchor in ("start", "recovery", "buy")]
    for figure in (*drawn, figures.event_paths(panel, ends), figures.returns_by_horizon(panel, ends)):
        assert_whole(figure)


def test_readers_settings_change_nothing_and_bytes_repeat(small):
    plain = style.png_bytes(figure := CHARTS["economics"](small))
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "figure.constrained_layout.use": False}):
        assert style.png_bytes(CHARTS["economics"](small)) == plain
    assert PNGFormatter()(figure) == (plain, {"width": 730, "alt": figure.get_label()})  # as the last line of a cell
    assert style.png_bytes(style.watermark(style.watermark(figure))) != plain
    assert [text.get_text() for text in figure.texts].count("SIMULATED") == 1
    picture = Image.open(io.BytesIO(style.png_bytes(figure)))
    assert picture.size == tuple(int(192 * inches) for inches in figure.get_size_inches()) and not picture.info
    assert len(picture.convert("RGB").getcolors(256)) <= 128


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
    assert len(set(style.ANCHOR_MARKERS.values())) == 4 and len(set(style.GRADE_MARKERS.values())) == 3
