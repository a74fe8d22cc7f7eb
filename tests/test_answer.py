"""The answer in words, against the figures that it is made from: states, splits, what is missing."""

import re

import numpy as np
import pandas as pd
import pytest

from capitulation.study.answer import answers, summary
from capitulation.study.present import present_state
from panels import steady_panel, without

STUDY = {"fast_days": 30, "slow_days": 60, "confidence": 0.95}
NO_WORD = re.compile(r"\b(nan|None|NaT|inf)\b|–|\.\.|  |\b1 (days|events|cases|recoveries)\b")


def panel(n=900, falling=0):
    """Hash rate that grows for `n` days and then falls for `falling` days, a price that is 100 + the day's number."""
    days = np.arange(n + falling)
    rate = np.exp(0.002 * np.minimum(days, n) - 0.01 * np.maximum(days - n, 0))
    return steady_panel(rate, start="2016-01-01", price=100.0 + days).assign(height=400_000 + 144 * days)


def headline(**changes):
    row = {
        "definition": "hash_ribbons",
        "anchor": "recovery",
        "horizon_days": 90,
        "n_events": 20,
        "hit_rate": 0.55,
        "median": 0.03,
        "n_effective": 9.6,
    }
    row |= {"base_hit_rate": 0.57, "base_median": 0.07, "excess_own_era": -0.02, "ci_low_own_era": -0.2}
    row |= {"ci_high_own_era": 0.14, "p_rotation_own_era": 0.56, "p_two_sided_own_era": 0.84, "min_detectable_log": 0.4}
    return {"primary": row | changes, "p_column": "p_rotation_own_era"}


def graded(real_p=0.16, family=0.95):
    rows = [
        ("all", 20, 0.55, 0.03),
        ("real", 7, 6 / 7, 0.39),
        ("doubtful", 3, 1 / 3, -0.09),
        ("noise-like", 10, 0.5, 0.0),
    ]
    table = pd.DataFrame(rows, columns=["grade", "n_events", "hit_rate", "median"])
    return table.assign(anchor="recovery", horizon_days=90, p=real_p, p_family=family, p_two_sided=1.0)


def words(told):
    return "\n".join(" ".join([one.question, one.answer, *one.behind]) for one in told)


def test_every_question_is_answered_from_its_figures():
    state = present_state(panel(), horizons=[90])
    told = answers(state, headline(), graded(), **STUDY, age_days=2)
    stand, followed, sure, watch = (one.answer for one in told)
    assert f"day {state['days_in_state']}" in stand and "2018-06-18, 2 days ago" in stand and "999 USD" in stand
    assert "6 of 7" in followed and "5 of 10" in followed and "57 %" in followed and "+39 %" in followed
    assert "56 %" in sure and "p = 0.95" in sure and "+49 %" in words(told) and "10 separate" in words(told)
    assert watch and not NO_WORD.search(words(told)), words(told)


@pytest.mark.parametrize("price", [0.05, 5.3])
def test_a_price_of_the_early_years_keeps_its_digits(price):
    given = panel().assign(price_usd=price)
    assert f"{price} USD" in answers(present_state(given, horizons=[90]), {}, pd.DataFrame(), **STUDY)[0].answer


def test_what_is_not_defined_for_a_few_events_is_left_out_or_said():
    few = headline(p_rotation_own_era=None, excess_own_era=None, ci_low_own_era=None, ci_high_own_era=None)
    alone = headline(ci_low_own_era=None, ci_high_own_era=None, p_rotation_own_era=0.002)
    for given in (few, alone):
        told = answers({}, given, graded(real_p=np.nan), **STUDY)
        assert len(told) == 2 and not NO_WORD.search(words(told)) and "real ones" not in words(told), words(told)
    assert "below 1 %" in told[1].answer
    one = answers({}, headline(n_events=1, hit_rate=1.0), pd.DataFrame(), **STUDY)[0].answer
    assert "1 of 1 recovery " in one


def test_a_rule_other_than_that_of_the_state_is_named():
    told = answers({}, headline(definition="puell_compression"), graded(), **STUDY)
    assert "Puell" in told[0].answer and "Puell" not in answers({}, headline(), graded(), **STUDY)[0].answer


def test_what_stands_out_is_not_called_chance():
    chance, clear = (
        answers({}, headline(p_rotation_own_era=p), graded(family=p), **STUDY)[1].answer for p in (0.3, 0.01)
    )
    assert chance.split()[:4] != clear.split()[:4] and "1 %" in clear and "p = 0.010" in clear
    mixed = answers({}, headline(p_rotation_own_era=0.01), graded(family=0.9), **STUDY)[1].answer
    assert "either" not in mixed and "either" not in clear


@pytest.mark.parametrize("falling", [0, 20, 45, 100])
@pytest.mark.parametrize("hole", [(), ("price_usd",), ("height", "difficulty"), ("hash_rate_ehs",)])
def test_any_state_is_told_without_gaps(falling, hole):
    given = panel(falling=falling)
    given = without(given, range(len(given) - 30, len(given)), *hole) if hole else given
    state = present_state(given, horizons=[90])
    told = answers(state, {}, pd.DataFrame(), **STUDY)
    assert [bool(one.answer) for one in told] == [True, True] and not NO_WORD.search(words(told)), words(told)
    assert state["ribbon_state"] in told[0].answer.lower() or "hash_rate_ehs" in hole


def test_what_a_run_did_not_make_is_left_out():
    assert answers({}, {}, pd.DataFrame(), **STUDY) == []
    alone = answers({}, headline(min_detectable_log=None), pd.DataFrame(), **STUDY)
    assert len(alone) == 2 and "11 of 20" in alone[0].answer and not NO_WORD.search(words(alone))
    assert answers({}, headline(n_events=0), graded(), **STUDY) == []


def test_the_text_for_an_email_has_ten_lines_at_most():
    told = answers(present_state(panel(), horizons=[90]), headline(), graded(), **STUDY)
    lines = summary("Title", told, ["more"] * 9).splitlines()
    assert len(lines) == 10 and lines[0] == "Title"
    assert all(one.answer in line for one, line in zip(told, lines[2:], strict=False))
