"""Sentences state what their tables hold, and never claim more."""

import numpy as np
import pandas as pd
import pytest

from capitulation.params import make_params
from capitulation.study import findings
from capitulation.study.headline import definitions_sentence, headline, primary_row, primary_sentences
from capitulation.words import percent, signed

ROW = {
    "definition": "hash_ribbons",
    "anchor": "recovery",
    "horizon_days": 90,
    "n_events": 20,
    "n_clusters": 12,
    "hit_rate": 0.65,
    "median": 0.12,
    "base_hit_rate": 0.58,
    "base_median": 0.07,
    "excess_log": 0.05,
    "ci_low": -0.1,
    "ci_high": 0.2,
    "p_rotation": 0.3,
    "p_rotation_own_era": 0.3,
    "min_detectable_log": 0.4,
}


def _episodes(**changes) -> pd.DataFrame:
    row = {
        "start": pd.Timestamp("2026-01-06"),
        "end": pd.Timestamp("2026-02-26"),
        "ongoing": False,
        "depth": -0.0575,
        "depth_z": -5.26,
        "grade": "real",
    }
    return pd.DataFrame([row | {"grade": "noise-like"}, row | changes])


def test_capitulations_are_counted_by_grade_and_the_latest_is_named():
    text = findings.capitulations(_episodes())
    assert "2 times: 1 of these" in text
    assert "1 are no deeper than noise" in text
    assert "2026-01-06" in text and "−5.8 %" in text and "ended on 2026-02-26" in text
    assert "goes on" in findings.capitulations(_episodes(ongoing=True, end=pd.NaT))
    assert "not inverted" in findings.capitulations(_episodes().iloc[:0])


@pytest.mark.parametrize(("p", "words"), [(0.3, "cannot be told from chance"), (0.01, "stands out from chance")])
def test_the_verdict_follows_the_p_value(p, words):
    first, second = primary_sentences(pd.Series(ROW | {"p_rotation_own_era": p}))
    assert "13 of 20" in first and "65 %" in first and "58 %" in first
    assert words in second and "exact rotation p = 0.30" in second
    assert "no effect" not in second
    assert percent(np.expm1(0.4)) in second and "12 separate clusters" in second


def test_no_events_means_nothing_can_be_said():
    assert primary_sentences(pd.Series(ROW | {"n_events": 0})) == [
        "The sample holds no Hash Ribbons recoveries whose 90-day outcome is known, so nothing can be said."
    ]


def test_the_primary_row_is_the_one_fixed_in_the_parameters():
    table = pd.DataFrame([ROW | {"anchor": "buy"}, ROW | {"excess_log": 0.5}])
    assert primary_row(table, make_params())["excess_log"] == 0.5
    with pytest.raises(Exception, match="primary test"):
        primary_row(table, make_params({"primary_anchor": "start"}))
    story = headline(primary_row(table, make_params()), make_params(), "2026-01-20")
    assert story["primary"]["n_events"] == 20 and story["as_of"] == "2026-01-20"


def test_definitions_are_counted_beside_what_chance_gives():
    rows = [
        ROW | {"definition": name, "p_rotation": p} for name, p in (("hash_ribbons", 0.2), ("puell_multiple", 0.01))
    ]
    text = definitions_sentence(pd.DataFrame(rows), make_params())
    assert "Of 2 definitions, 1 has" in text and "Puell multiple" in text and "chance alone gives 0.1" in text


@pytest.mark.parametrize("cut", ["2026-01-20", "2026-03-22"])
def test_the_present_on_real_data(real_panel, cut):
    from capitulation.study.present import present_state
    from capitulation.study.present_tables import comparable_table, odds_table, state_table

    state = present_state(real_panel.loc[:cut], make_params())
    text = findings.present(state)
    assert text.startswith(f"On {cut} the ribbons say {state['ribbon_state']}")
    assert ("95 % interval" in text) == (len(odds_table(state)) > 0) == (state["ribbon_state"] != "expansion")
    assert state_table(state)["value"].str.len().min() > 0
    assert len(comparable_table(state)) == 6


def test_numbers_have_a_real_minus_sign():
    assert percent(-0.5) == "−50 %"
    assert signed(-1.25, 1) == "−1.2"
    assert percent(float("nan")) == signed(None) == "–"


def test_ways_to_ask_that_are_asked_twice_are_named():
    row = {"anchor": "start", "horizon_days": 90, "sample_start": "2014-01-01", "lag_days": 1, "n_events": 3}
    names = ("hash_ribbons", "hash_rate_growth_30d", "puell_multiple")
    curve = pd.DataFrame(
        [row | {"definition": n, "excess_log": x} for n, x in zip(names, (0.1, 0.1, -0.2), strict=True)]
    )
    best = {
        "definition": "hash_ribbons",
        "anchor": "start",
        "z": 1.2,
        "p_rotation": 0.1,
        "p_family": 0.4,
        "n_family": 3,
    }
    sentence = findings.robustness(curve, pd.DataFrame([best]))
    assert "67 % of 3 ways to ask the question (1 of them asked twice, where two rules name the same days)" in sentence
    assert "asked twice" not in findings.robustness(curve.iloc[1:], pd.DataFrame([best]))
