"""Charts of returns, choices, the present and the tests' record: whole, in words that follow what they were given."""

from itertools import product
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from capitulation import figures
from capitulation.mining.episodes import episodes
from capitulation.mining.hashrate import hash_ribbons
from capitulation.study.chance import max_rotation_test, rotation_test
from capitulation.study.duration import survival_curve
from capitulation.study.events import leave_one_out
from capitulation.study.present import present_state
from capitulation.study.robustness import prequential
from capitulation.study.tables import average_paths
from capitulation.study.trading import backtest, random_entries
from test_figures_network import assert_whole, words

PRIMARY, HOLD, OWN = "hash_ribbons_recovery_hold_90d", "buy_and_hold", "my own rule of thumb"


def simple(log_return):
    return f"{100 * np.expm1(log_return):+.0f} %".replace("-", "−")


def after(price, days, horizon):
    """Log returns since 2014 after `days` and after every day, bought at the next close."""
    every = np.log(price.shift(-1 - horizon) / price.shift(-1))["2014":].dropna()
    return every[every.index.isin(days)], every


@pytest.fixture(scope="module")
def small(simulated_panel):
    """What the charts take: from one simulated market, or made up here."""
    rng, panel, price = np.random.default_rng(3), simulated_panel, simulated_panel["price_usd"]["2014":]
    keys = product(("hash_ribbons", OWN), ("start", "recovery", "buy"), (30, 90))
    table = pd.DataFrame(keys, columns=["definition", "anchor", "horizon_days"]).assign(n_events=9)
    table[["ci_low", "excess_log", "ci_high"]] = np.sort(rng.normal(0, 0.1, (12, 3)))
    table[["p_rotation", "p_matched", "p_hac", "p_hansen_hodrick", "t_ols"]] = rng.uniform(0, 1, (12, 5))
    found = episodes((ribbon := hash_ribbons(panel))["inverted"], panel)
    ends, curve = pd.DatetimeIndex(found["end"].dropna()[-16:]), survival_curve(found)
    returns, state = after(price, ends, 90)[1], present_state(panel, horizons=(30, 90))
    events = {("hash_ribbons", "recovery"): ends, (OWN, "start"): pd.DatetimeIndex(found["start"])}
    test = rotation_test(returns, ends)
    many = max_rotation_test(returns, [returns.index.isin(days) for days in events.values()])
    family = pd.DataFrame(list(events), columns=["definition", "anchor"]).assign(z=many.z, p_family=many.p_family)
    paths = average_paths(panel["price_usd"], events)
    left_out, forecasts = leave_one_out(panel, ends), prequential(panel, ends)
    grid = pd.DataFrame({"fast_days": [10, 10, 30, 30], "slow_days": [45, 60] * 2, "excess_log": rng.normal(size=4)})
    specifications = pd.concat([table.assign(sample_start=f"{year}-01-01", lag_days=1) for year in (2011, 2014)])
    run = backtest(price, ends, hold_days=90)
    random = {PRIMARY: random_entries(price, run.position, 200)}
    curves = pd.DataFrame({PRIMARY: run.equity, HOLD: price / price.iloc[0], "hash_ribbons_buy_hold_7d": run.equity**2})
    traded = pd.DataFrame({"strategy": [*curves], "anchor": ["recovery", "", "buy"], "sharpe": [0.5, 0.9, 1.1]})
    traded["deflated_sharpe"] = [0.1, 0.3, 0.96]
    ledger = pd.DataFrame({"id": [1, 2], "source": ["One, a", "Two"], "verdict": ["reproduced", "contradicted"]})
    rates = pd.DataFrame({"label": ["exact rotation", "least squares"], "realistic_rate": [0.05, 0.21]})
    rates = rates.assign(stationary_rate=0.05, stationary_error=0.01, realistic_error=0.01)
    cover = pd.DataFrame(product(("mean", "zero"), ("stationary", "realistic")), columns=["of", "world"])
    cover = cover.assign(interval="mean", rate=[0.9, 0.91, 0.92, 0.93], error=0.01, markets=400)
    power = pd.DataFrame({"test": "rotation", "effect_log": [0.0, 0.2, 0.4], "rate": [0.05, 0.3, 0.7], "error": 0.02})
    return SimpleNamespace(**locals())


CHARTS = {
    "paths": lambda f: figures.event_paths(f.panel, f.ends),
    "horizons": lambda f: figures.returns_by_horizon(f.panel, f.ends, horizons=(30, 90)),
    "rotation": lambda f: figures.rotation_null(f.test, days=90),
    "tests": lambda f: figures.test_comparison(f.table[f.table["definition"] == OWN]),
    "forest": lambda f: figures.forest(f.table),
    "average": lambda f: figures.average_paths(f.paths),
    "left_out": lambda f: figures.leave_one_out(f.left_out),
    "family": lambda f: figures.family_null(f.family, f.many.null_max),
    "prequential": lambda f: figures.prequential(f.forecasts),
    "windows": lambda f: figures.window_grid(f.grid),
    "specifications": lambda f: figures.specification_curve(f.specifications),
    "equity": lambda f: figures.equity(f.curves, PRIMARY),
    "drawdown": lambda f: figures.drawdown(f.curves, PRIMARY),
    "random": lambda f: figures.random_entries(f.random),
    "deflated": lambda f: figures.deflated_sharpe(f.traded),
    "gap": lambda f: figures.gap_now(f.ribbon),
    "survival": lambda f: figures.survival(f.curve, age=9),
    "fan": lambda f: figures.comparable_fan(f.state),
    "ledger": lambda f: figures.claims_verdicts(f.ledger),
    "rates": lambda f: figures.rejection_rates(f.rates),
    "cover": lambda f: figures.interval_coverage(f.cover),
    "power": lambda f: figures.power(f.power, {"rotation": "exact rotation"}, {"as claimed": 0.3}),
}
EMPTY = {
    "paths": lambda f: figures.event_paths(f.panel, []),
    "priceless": lambda f: figures.event_paths(f.panel.assign(price_usd=np.nan), f.ends),
    "horizons": lambda f: figures.returns_by_horizon(f.panel, f.panel.index[-3:]),
    "rotation": lambda f: figures.rotation_null(rotation_test([0.1, 0.2], [False, False])),
    "tests": lambda f: figures.test_comparison(f.table.assign(n_events=0)),
    "forest": lambda f: figures.forest(f.table, days=7),
    "average": lambda f: figures.average_paths(f.paths.iloc[:0]),
    "left_out": lambda f: figures.leave_one_out(f.left_out.iloc[:1]),
    "family": lambda f: figures.family_null(f.family.assign(z=np.nan), np.array([])),
    "prequential": lambda f: figures.prequential(f.forecasts.iloc[:2]),
    "windows": lambda f: figures.window_grid(f.grid.assign(excess_log=np.nan)),
    "specifications": lambda f: figures.specification_curve(f.specifications.iloc[:0]),
    "random": lambda f: figures.random_entries({}),
    "deflated": lambda f: figures.deflated_sharpe(f.traded.assign(sharpe=np.nan)),
    "gap": lambda f: figures.gap_now(f.ribbon.iloc[:40]),
    "survival": lambda f: figures.survival(survival_curve(pd.DataFrame({"days": [], "ongoing": []}))),
    "fan": lambda f: figures.comparable_fan({"comparable": {"log_returns": []}}),
    "ledger": lambda f: figures.claims_verdicts(f.ledger.iloc[:0]),
    "rates": lambda f: figures.rejection_rates(f.rates.iloc[:0]),
    "cover": lambda f: figures.interval_coverage(f.cover.assign(rate=np.nan)),
    "power": lambda f: figures.power(f.power.iloc[:0], {}),
}


@pytest.mark.parametrize("name", CHARTS)
def test_chart_is_whole_described_and_leaves_nothing_behind(small, name):
    before, figure = dict(mpl.rcParams), CHARTS[name](small)
    assert dict(mpl.rcParams) == before and figure.axes[0].axison
    assert_whole(figure)


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_to_draw_is_said(small, name):
    title, alt = words(figure := EMPTY[name](small))
    assert not figure.axes[0].axison and alt.startswith(title) and "nan" not in alt.split()
    assert {"no", "none", "not", "without"} & set(title.lower().split())


def test_words_hold_figures_computed_here(small):
    f, price, at_90 = small, small.panel["price_usd"], small.table[small.table["horizon_days"] == 90]
    own, every = after(price, f.ends, 90)
    p = at_90.set_index(["definition", "anchor"]).loc[(OWN, "recovery"), "p_rotation"]
    earlier = (own.index.to_numpy()[:, None] >= own.index + pd.Timedelta(days=91)).sum(axis=1)  # whose outcome is known
    fewer, means = f.left_out["excess_log"].iloc[1:], f.paths[f.paths["day"] == 90]
    excess, chosen = f.grid["excess_log"], f.grid["excess_log"].iloc[-1]  # 30 and 60 days stand last
    best, luck, moments = f.family["z"].max(), f.random[PRIMARY], f.state["comparable"]["log_returns"]
    fall, h = 100 * (1 - f.curves / f.curves.cummax()).max(), f.panel["hash_rate_ehs"]
    expected = {
        "paths": f"median of {len(own)} the events BTC stood at {simple(own.median())}",
        "horizons": f"90 days: {simple(own.median())} against {simple(every.median())} (n = {len(own)})",
        "rotation": f"observed excess log return is {own.mean() - every.mean():+.3f}",
        "tests": f"exact rotation p = {p:.{3 if p < 0.1 else 2}f}",
        "forest": f"{(at_90['p_rotation'] < 0.05).sum()} of 6 pairs of definition and signal have a rotation p below",
        "average": f"{(means['mean'] > means['base_mean']).sum()} of 2 average paths lie above any day's",
        "left_out": f"{own.mean() - every.mean():+.2f} lies between {fewer.min():+.2f} and {fewer.max():+.2f}",
        "family": f"In {100 * (f.many.null_max >= best - 1e-9).mean():.1f} % of common rotations",
        "prequential": f"Over {sum(earlier >= 3)} signals, forecasts from earlier signals",
        "windows": f"above zero; 30/60 beats {100 * (excess < chosen).mean():.0f} % of them",
        "specifications": f"{100 * (f.table['excess_log'] > 0).mean():.0f} % of 24 ways to ask the question",
        "equity": f"“recovery, hold 90 days”, {price.iloc[-1] / price['2014-01-01']:,.0f} USD by holding",
        "drawdown": f"fell {fall[PRIMARY]:.0f} % from its peak at worst, holding {fall[HOLD]:.0f} %",
        "random": f"“recovery, hold 90 days”, beats {100 * (luck.random < luck.observed).mean():.0f} % of random",
        "deflated": "1 of 3 strategies has a deflated Sharpe probability above 0.95",
        "gap": f"The gap is {100 * (h.tail(30).mean() / h.tail(60).mean() - 1):+.1f} % on {h.index[-1]:%Y-%m-%d}",
        "survival": f"of {f.curve['n_at_risk'].iloc[0]} capitulations were over after",
        "fan": f"at {sum(row['median'] > row['base_median'] for row in moments)} of {len(moments)} horizons",
        "ledger": "1 of 2 published claims are reproduced, 1 contradicted",
        "rates": "1 of 2 tests keep their 5 % level in realistic markets; “least squares” rejects 21 %",
        "cover": "in 95 % of markets hold it in 90 % to 93 %",
        "power": f"An effect of {simple(0.3)} would be found in 50 % of samples",
    }
    alt = {name: words(draw(f))[1] for name, draw in CHARTS.items()}
    wrong = [name for name in CHARTS if expected[name].replace("-", "−") not in alt[name].replace("-", "−")]
    assert not wrong, [(expected[name], alt[name]) for name in wrong]


def test_own_events_and_rules_are_called_by_their_own_names(small):
    panel, mean7 = small.panel, small.panel["hash_rate_ehs"].rolling(7).mean()
    found = episodes(mean7 < 0.95 * mean7.rolling(90).max(), panel)["end"]
    options = {"name": "ends of falls", "days": 30}
    title = words(figures.event_paths(panel, found, **options))[0]
    (own, every), weeks = after(panel["price_usd"], found, 30), [after(panel["price_usd"], found, h) for h in (7, 60)]
    assert f"the median of {len(own)} ends of falls BTC stood at {simple(own.median())}" in title
    assert title.startswith("30 days") and title.endswith(f"after the median day at {simple(every.median())}")
    assert title == words(figures.event_paths(panel, pd.Series(panel.index.isin(found), panel.index), **options))[0]
    above = sum(own.median() > every.median() for own, every in weeks)
    title = words(figures.returns_by_horizon(panel, found, horizons=(7, 60), name="ends of falls"))[0]
    assert "After ends of falls" in title and f"at {above} of 2 horizons" in title
    assert "ends of falls" in words(figures.event_paths(panel, panel.index[-20:], **options))[0]  # no outcome known yet
    assert OWN in [axes.get_title("left") for axes in CHARTS["average"](small).axes]
    assert OWN in [name.get_text().replace("\n", " ") for name in CHARTS["forest"](small).axes[0].get_yticklabels()]


def test_verdicts_follow_the_numbers(small):
    rows, days = small.forecasts.dropna(), pd.date_range("2024-01-01", periods=30)
    for forecast, baseline, verdict in ((9.0, 0.01, "no less"), (0.01, 9.0, "less than")):
        made = rows.assign(forecast=rows["outcome"] + forecast, baseline=rows["outcome"] + baseline)
        assert f"missed by {verdict}" in words(figures.prequential(made))[0]
    for z, side in ((1.9, "within"), (-2.1, "outside")):
        ribbon = pd.DataFrame({"gap": 0.01 * z, "gap_se": 0.01, "gap_z": z}, index=days)
        assert f"{side} the band" in words(figures.gap_now(ribbon))[0]
    far = figures.power(small.power, {"rotation": "exact rotation"}, {"as claimed": 0.9})
    assert "beyond the sizes" in words(far)[0]
    for ongoing, verdict in ((False, "over after 30 days"), ([False, True, True, True], "Fewer than half of 4")):
        curve = survival_curve(pd.DataFrame({"days": [10, 30, 30, 40], "ongoing": ongoing}))
        old = figures.survival(curve, age=55)
        assert verdict in words(old)[0] and "day 55" in words(old)[1] and old.axes[0].get_xlim()[1] > 55
