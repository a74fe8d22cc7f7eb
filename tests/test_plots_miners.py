"""Figures of miners, rigs, network and trust: titles follow the data, thin sources are told, nothing is cut off."""

import numpy as np
import pandas as pd
import pytest

from capitulation.mining.economics import breakeven_usd_kwh, difficulty_regression, economics
from capitulation.mining.fleet import fleet, read_rigs
from capitulation.mining.protocol import halving_days
from capitulation.mining.retargets import retargets
from capitulation.plots import miners, network, rigs, trust
from capitulation.plots.png import png_bytes
from capitulation.study.causality import HASH_RATE_LEADS, PRICE_LEADS, PROJECTION_COLUMNS
from capitulation.study.trust import TESTS
from figure_help import outside
from mining_panels import steady_panel

POWER_PRICE = 0.07
MOST_BYTES = 90_000


def charts(panel):
    """Every figure of a panel, by name."""
    money, table, halvings = economics(panel), read_rigs(), halving_days(panel)
    modelled = fleet(panel, POWER_PRICE, table)
    price = panel["price_usd"]
    return {
        "hashprice": miners.hashprice(money, halvings),
        "revenue": miners.revenue(money, halvings),
        "breakeven": rigs.breakeven(breakeven_usd_kwh(panel, table), POWER_PRICE, halvings),
        "share": rigs.share_under_water(modelled, POWER_PRICE, halvings),
        "cost": miners.production_cost(price, modelled, halvings),
        "puell": miners.puell(money, 0.5, halvings),
        "retargets": network.retarget_bars(retargets(panel), halvings),
        "regression": network.difficulty_regression(price, difficulty_regression(panel), halvings),
    }


@pytest.fixture(scope="module")
def of_market(simulated_panel):
    return charts(simulated_panel)


def without(panel, *columns):
    return panel.assign(**dict.fromkeys(columns, np.nan))


@pytest.mark.parametrize(
    "name", ["hashprice", "revenue", "breakeven", "share", "cost", "puell", "retargets", "regression"]
)
def test_figure_is_small_whole_and_described(of_market, name):
    chart = of_market[name]
    assert len(png_bytes(chart.figure)) < MOST_BYTES
    assert outside(chart.figure) < 0.02
    assert chart.alt.startswith(chart.title) and len(chart.alt) > len(chart.title) + 40
    assert "nan" not in chart.alt.split()


@pytest.mark.parametrize("name", ["hashprice", "revenue", "breakeven", "cost", "puell", "regression"])
def test_logarithmic_axes_say_so(of_market, name):
    for axes in of_market[name].figure.axes:
        assert (axes.get_yscale() == "log") == ("log scale" in axes.get_ylabel())
    assert any(axes.get_yscale() == "log" for axes in of_market[name].figure.axes)


def test_a_source_without_price_gets_figures_that_say_so(simulated_panel):
    lacking = without(simulated_panel, "price_usd", "revenue_usd", "issuance_btc", "fees_btc", "height", "block_count")
    for name, chart in charts(lacking).items():
        assert "not known" in chart.title or "No difficulty" in chart.title, name
        assert outside(chart.figure) < 0.02
    nobody = network.local_projections(pd.DataFrame(columns=list(PROJECTION_COLUMNS)))
    assert "cannot be said" in nobody.title


def test_revenue_shows_what_the_source_knows():
    panel = steady_panel(np.full(60, 500.0))  # 144 blocks of 25 coins at 100 USD, one percent of fees
    money = economics(panel)
    chart = miners.revenue(money)
    assert "0.364 million USD a day, 1.0 % of it in fees" in chart.title and len(chart.figure.axes) == 3
    assert "0.0073 BTC a day" in chart.alt
    thin = miners.revenue(money.assign(fee_share=np.nan, hashprice_btc_ph_day=np.nan))
    assert "fees" not in thin.alt and len(thin.figure.axes) == 1
    assert "not known" in miners.revenue(money.assign(revenue_usd=np.nan)).title


def test_hashprice_title_compares_with_the_lowest():
    panel = steady_panel([2.0] * 40 + [4.0] * 10 + [3.2] * 10)
    assert "25 % above the lowest ever" in miners.hashprice(economics(panel)).title
    assert "least ever" in miners.hashprice(economics(panel.iloc[:50])).title


def test_breakeven_counts_the_rigs_that_earn_their_power():
    days = pd.date_range("2020-01-01", periods=3)
    table = pd.DataFrame({"Antminer A": [0.05] * 3, "B": [0.07] * 3, "C": [np.nan, 0.2, 0.2]}, index=days)
    chart = rigs.breakeven(table, 0.07)
    assert "2 of 3 rig models still earn their power at 0.07\u00a0USD/kWh" in chart.title
    assert "up to 0.200" in chart.title


def test_only_the_years_best_rigs_that_brought_progress_are_named():
    days = pd.date_range("2020-01-01", "2023-01-01")
    first = {"old": 2020, "better": 2020, "worse": 2021, "best": 2022}
    level = {"old": 1.0, "better": 2.0, "worse": 1.5, "best": 4.0}
    table = pd.DataFrame({n: np.where(days.year >= first[n], level[n], np.nan) for n in first}, index=days)
    assert rigs._progress(table) == ["better", "best"]


def test_share_title_counts_models_and_days():
    days = pd.date_range("2020-01-01", periods=10)
    modelled = pd.DataFrame({"share_under_water": [0.0] * 4 + [0.5] * 6, "n_recent": 4}, index=days)
    title = rigs.share_under_water(modelled, 0.07).title
    assert title.startswith("2 of 4 recent rig models lose money") and "a larger share than on 40 %" in title


def test_cost_below_price_is_told_by_its_last_day():
    days = pd.date_range("2020-01-01", periods=10)
    modelled = pd.DataFrame({"production_cost_usd": 50.0, "n_recent": 5}, index=days)
    price = pd.Series([100.0, 100, 40, 40, *[75] * 6], index=days)
    title = miners.production_cost(price, modelled).title
    assert "1.50 times" in title and "20.0 % of days since 2020" in title and "2020-01-04" in title
    assert "on every day since 2020" in miners.production_cost(price + 50, modelled).title


def test_cost_begins_with_the_fourth_model():
    days = pd.date_range("2020-01-01", periods=10)
    modelled = pd.DataFrame({"production_cost_usd": 50.0, "n_recent": [1] * 5 + [4, 3, 4, 4, 4]}, index=days)
    chart = miners.production_cost(pd.Series(100.0, index=days), modelled)
    assert "from 2020-01-06 to 2020-01-10" in chart.alt


def test_puell_counts_days_below_the_threshold():
    days = pd.date_range("2020-01-01", periods=20)
    values = pd.DataFrame({"puell_multiple": [np.nan] * 4 + [0.4] * 4 + [1.5] * 12}, index=days)
    title = miners.puell(values, 0.5).title
    assert "is 1.50; it was below 0.5 on 25 % of days, the last time on 2020-01-08" in title
    assert "the last time" not in miners.puell(values, 0.3).title


def test_retarget_title_counts_cuts_and_the_longest_run():
    change = [0.1, -0.1, -0.1, -0.1, 0.2, -0.1, 3.0]
    streak = [0, 1, 2, 3, 0, 1, 0]
    dates = pd.date_range("2020-01-01", periods=7, freq="14D")
    table = pd.DataFrame({"date": dates, "change": change, "negative_streak": streak})
    chart = network.retarget_bars(table)
    assert chart.title == "4 of 7 difficulty adjustments were cuts; the longest run of them, 3, ended on 2020-02-12"
    assert "bars end at +40" in chart.figure.axes[0].get_title(loc="left")
    assert "never 3 in a row" in network.retarget_bars(table.iloc[[0, 1, 4]]).title


def test_projections_count_intervals_clear_of_zero():
    rows = [(PRICE_LEADS, lag, 0.2, low, 0.4) for lag, low in ((1, -0.1), (2, 0.1), (3, 0.1))]
    rows += [(HASH_RATE_LEADS, lag, -0.2, -0.4, 0.1) for lag in (1, 2, 3)]
    frame = pd.DataFrame(rows, columns=["direction", "lag_weeks", "response", "low", "high"])
    title = network.local_projections(frame).title
    assert f"“{PRICE_LEADS}” 2 of 3" in title and f"“{HASH_RATE_LEADS}” 0 of 3" in title


def test_regression_title_says_which_side_price_is_on():
    days = pd.date_range("2020-01-01", periods=5)
    fit = pd.DataFrame({"regression_price_usd": 100.0, "slope": [0.5, 0.6, 0.7, 0.6, 0.55]}, index=days)
    low = network.difficulty_regression(pd.Series(80.0, index=days), fit).title
    assert "20 % below" in low and "0.50 to 0.70" in low
    assert "20 % above" in network.difficulty_regression(pd.Series(120.0, index=days), fit).title


@pytest.fixture
def rates():
    table = pd.DataFrame({"test": list(TESTS), "label": list(TESTS.values())})
    for world in trust.WORLDS:
        table[f"{world}_rate"], table[f"{world}_error"] = 0.05, 0.005
    return table


def test_rates_outside_the_band_are_named(rates):
    rates.loc[rates["test"] == "ols", "realistic_rate"] = 0.4
    chart = trust.rejection_rates(rates)
    assert f"{len(TESTS) - 1} of {len(TESTS)} tests keep" in chart.title and "rejects 40 %" in chart.title
    assert TESTS["ols"] in chart.alt and TESTS["matched"] not in chart.alt
    assert outside(chart.figure) < 0.02


def test_coverage_gives_the_span_and_the_lowest():
    rows = [("excess", "zero", 200, 0.93, 0.01, "stationary"), ("excess", "true excess", 200, 0.81, 0.01, "realistic")]
    table = pd.DataFrame(rows, columns=["interval", "of", "markets", "rate", "error", "world"])
    chart = trust.coverage(table)
    assert "81 % to 93 %" in chart.title and "realistic market" in chart.alt
    assert outside(chart.figure) < 0.02


def power_rows():
    effects = np.array([0.0, 0.1, 0.2, 0.4])
    frames = [
        pd.DataFrame({"test": test, "effect_log": effects, "rate": top * effects / 0.4, "error": 0.01})
        for test, top in (("matched", 0.5), ("rotation_own_era", 0.8))
    ]
    return pd.concat(frames, ignore_index=True)


def test_power_at_the_marked_effect_lies_between_the_measured_ones():
    chart = trust.power(power_rows(), {"claimed": 0.15})
    assert "found in 30 % of" in chart.title and f"{np.expm1(0.15):+.0%}".replace("%", " %") in chart.title
    assert "claimed" in [text.get_text() for text in chart.figure.axes[0].texts]
    assert "beyond" in trust.power(power_rows(), {"claimed": 0.9}).title
    assert outside(chart.figure) < 0.02


def test_a_test_off_its_level_is_marked_in_the_power_curve():
    rows = power_rows()
    rows.loc[rows["effect_log"] == 0, "rate"] = [0.068, 0.05]
    figure = trust.power(rows).figure
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [TESTS["rotation_own_era"], f"{TESTS['matched']} (off its level: 6.8 % at no effect)"]


def test_trust_without_markets_says_so(rates):
    columns = ["stationary_rate", "realistic_rate"]
    assert "No market" in trust.rejection_rates(rates.assign(**dict.fromkeys(columns, np.nan))).title
    assert "No market" in trust.power(power_rows().iloc[:0]).title


def test_real_figures_are_small_and_whole(real_panel):
    for name, chart in charts(real_panel).items():
        assert len(png_bytes(chart.figure)) < MOST_BYTES, name
        assert outside(chart.figure) < 0.02, name
