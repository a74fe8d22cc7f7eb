"""Figures of the present and of the ledger: what they say, and that thin data are told rather than refused."""

import numpy as np
import pandas as pd
import pytest

from capitulation.episodes import find_episodes
from capitulation.mining.ribbons import ribbons
from capitulation.params import make_params
from capitulation.plots import claims, present
from capitulation.plots.png import png_bytes
from capitulation.study.present import present_state
from capitulation.study.survival import survival_curve
from figure_help import outside


def charts(panel):
    table, state = ribbons(panel), present_state(panel, make_params())
    curve = survival_curve(find_episodes(table["in_capitulation"], table["known"]))
    return {
        "gap": present.gap_now(table),
        "survival": present.survival(curve, state),
        "fan": present.comparable_fan(state),
    }


@pytest.fixture(scope="module")
def of_market(simulated_panel):
    return charts(simulated_panel)


@pytest.mark.parametrize("name", ["gap", "survival", "fan"])
def test_figure_is_small_whole_and_described(of_market, name):
    chart = of_market[name]
    assert len(png_bytes(chart.figure)) < 90_000
    assert outside(chart.figure) < 0.02
    assert chart.alt.startswith(chart.title) and len(chart.alt) > len(chart.title) + 40


def test_too_few_days_are_told(simulated_panel):
    told = {name: chart.title for name, chart in charts(simulated_panel.tail(40)).items()}
    assert "not known" in told["gap"] and "no capitulation" in told["survival"] and "No earlier" in told["fan"]


def test_a_source_without_price_still_has_its_gap(simulated_panel):
    told = charts(simulated_panel.tail(400).assign(price_usd=np.nan))
    assert "The gap is" in told["gap"].title
    assert "No earlier" in told["fan"].title


@pytest.mark.parametrize(("z", "word"), [(1.9, "within"), (-2.1, "outside")])
def test_gap_is_within_the_band_up_to_two_errors(z, word):
    days = pd.date_range("2024-01-01", periods=30, name="date")
    table = pd.DataFrame({"ribbon_gap": 0.01 * z, "ribbon_gap_se": 0.01}, index=days)
    chart = present.gap_now(table)
    assert f"{word} the band" in chart.title and "on 2024-01-30" in chart.title


def survival_of(days, ongoing, **state):
    episodes = pd.DataFrame({"days": days, "ongoing": ongoing})
    return present.survival(survival_curve(episodes), {"ribbon_state": "expansion", "days_in_state": 9, **state})


def test_median_length_and_the_age_of_the_present_one():
    assert "Half of 4 capitulations were over after 20 days" in survival_of([10, 20, 30, 40], [False] * 4).title
    late = survival_of([10, 20, 30, 40], [False] * 4, ribbon_state="recovering", days_in_state=55)
    axes = late.figure.axes[0]
    assert "day 55" in late.alt and axes.get_xlim()[1] > 55
    assert outside(late.figure) < 0.02
    assert "day 9" not in survival_of([10, 20], [False] * 2).alt


def test_too_few_endings_have_no_median():
    assert "Fewer than half" in survival_of([10, 30, 30, 30], [False, True, True, True]).title


def test_fan_shows_every_case_and_names_the_state():
    rows = [
        {
            "horizon_days": h,
            "n": 5,
            "worst": -0.6,
            "q25": -0.1,
            "median": m,
            "q75": 0.4,
            "best": 2.1,
            "base_median": 0.1,
        }
        for h, m in ((30, 0.05), (90, 0.2))
    ]
    state = {"ribbon_state": "recovering", "comparable": {"age_days": 7, "log_returns": rows}}
    chart = present.comparable_fan(state)
    low, high = chart.figure.axes[0].get_ylim()
    assert low < -0.6 and high > 2.1
    assert "day 7 of capitulation" in chart.title and "at 1 of 2 horizons" in chart.title


@pytest.fixture
def ledger():
    source = ["Edwards, one article", "A house", "Edwards, another", "Edwards", "A house"]
    verdict = ["contradicted", "reproduced", "reproduced", "not distinguishable from chance", "contradicted"]
    return pd.DataFrame({"id": range(1, 6), "source": source, "verdict": verdict})


def test_ledger_has_one_row_a_publisher(ledger):
    chart = claims.verdicts(ledger)
    names = [label.get_text() for label in chart.figure.axes[0].get_yticklabels()]
    assert names == ["Edwards", "A house"]
    assert chart.title == "2 of 5 published claims are reproduced, 2 contradicted"
    assert "Edwards: 1 reproduced, 1 contradicted, 1 not distinguishable" in chart.alt


def test_legend_of_the_ledger_is_whole_and_counts(ledger):
    figure = claims.verdicts(ledger).figure
    assert outside(figure) < 0.02
    keys = [text.get_text() for text in figure.legends[0].get_texts()]
    assert keys == ["reproduced (2)", "contradicted (2)", "not distinguishable from chance (1)"]


def test_every_claim_has_its_cell(ledger):
    axes = claims.verdicts(ledger).figure.axes[0]
    assert sorted(text.get_text() for text in axes.texts) == list("12345")
    assert len(axes.patches) == 5


def test_an_empty_ledger_is_told(ledger):
    assert "no published claim" in claims.verdicts(ledger.iloc[:0]).title
