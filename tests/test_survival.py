"""Kaplan-Meier odds against textbook values, a slow independent version and simulated truth."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capitulation.study import survival as sv


def episodes(days, ongoing=None):
    ongoing = [False] * len(days) if ongoing is None else ongoing
    return pd.DataFrame({"days": days, "ongoing": ongoing})


def slow_kaplan_meier(times, ended, horizon):
    """Product over event times, written from the definition."""
    alive = 1.0
    for t in sorted({time for time, over in zip(times, ended, strict=True) if over and time <= horizon}):
        at_risk = sum(time >= t for time in times)
        alive *= 1 - sum(time == t and over for time, over in zip(times, ended, strict=True)) / at_risk
    return alive


def test_freireich_remission_data_give_the_textbook_curve():
    """6-MP arm of Freireich et al. (1963), in Kalbfleisch and Prentice: S(10) = 0.753, S(23) = 0.448."""
    times = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    ended = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    table = episodes([t if e else t + 1 for t, e in zip(times, ended, strict=True)], [not e for e in ended])
    curve = sv.survival_curve(table).set_index("days")["survival"]
    assert curve[6] == pytest.approx(0.857, abs=5e-4)
    assert curve[10] == pytest.approx(0.753, abs=5e-4)
    assert curve[23] == pytest.approx(0.448, abs=5e-4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=30))
def test_own_curve_equals_statsmodels(rows):
    from statsmodels.duration.survfunc import SurvfuncRight

    sample = pd.DataFrame(rows, columns=["time", "ended"]).astype({"time": float})
    if not sample["ended"].any():
        assert len(sv.kaplan_meier(sample)[0]) == 0
        return
    theirs = SurvfuncRight(sample["time"].to_numpy(), sample["ended"].to_numpy().astype(int))
    times, survival, error = sv.kaplan_meier(sample)
    np.testing.assert_array_equal(times, theirs.surv_times)
    np.testing.assert_allclose(survival, theirs.surv_prob, atol=1e-12)
    alive = survival > 0
    np.testing.assert_allclose(error[alive], theirs.surv_prob_se[alive], atol=1e-12)


def test_odds_without_censoring_are_plain_shares():
    table = episodes([5, 10, 20, 40, 80])
    odds = sv.recovery_odds(table, age_days=11, within=(9, 10, 30, 69, 70)).set_index("within_days")
    # reached the 11th day: 20, 40 and 80; the 20-day one is out on day 21, ten days after day 11
    assert odds["n_at_risk"].eq(3).all()
    assert odds["odds"].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3, 1])
    assert odds["n_ended"].tolist() == [0, 1, 2, 2, 3]


def test_the_present_episode_is_not_counted_at_its_own_age():
    past = episodes([5, 10, 20, 40, 80])
    with_present = episodes([5, 10, 20, 40, 80, 11], [False] * 5 + [True])
    pd.testing.assert_frame_equal(sv.recovery_odds(past, 11), sv.recovery_odds(with_present, 11))


def test_an_ongoing_episode_is_censored_not_ended_and_not_dropped():
    past = episodes([10, 20, 30])
    longer = episodes([10, 20, 30, 100], [False] * 3 + [True])
    odds = sv.recovery_odds(longer, 1, within=(30,)).iloc[0]
    assert odds["odds"] == pytest.approx(3 / 4) and sv.recovery_odds(past, 1, within=(30,)).iloc[0]["odds"] == 1


def test_no_episode_of_that_age_gives_missing_odds():
    odds = sv.recovery_odds(episodes([5, 10]), 60)
    assert odds[["odds", "low", "high"]].isna().all().all() and odds["n_at_risk"].eq(0).all()
    assert sv.recovery_odds(episodes([]), 3)["odds"].isna().all()


def test_odds_beyond_the_last_censored_day_are_missing():
    odds = sv.recovery_odds(episodes([10, 41], [False, True]), 1, within=(40, 41)).set_index("within_days")["odds"]
    assert odds[40] == pytest.approx(0.5) and math.isnan(odds[41])


def test_none_ended_has_exact_bounds():
    odds = sv.recovery_odds(episodes([100] * 8), 1, within=(30,)).iloc[0]
    assert odds["odds"] == 0 and odds["low"] == 0
    assert odds["high"] == pytest.approx(1 - 0.025 ** (1 / 8))


def test_only_ongoing_episodes():
    odds = sv.recovery_odds(episodes([100, 90], [True, True]), 5, within=(30,)).iloc[0]
    assert odds["odds"] == 0 and odds["n_ended"] == 0 and 0 < odds["high"] < 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 120), st.booleans()), min_size=1, max_size=25),
    st.integers(1, 60),
    st.integers(1, 90),
)
def test_odds_equal_the_definition_and_lie_in_their_interval(rows, age, horizon):
    table = episodes([d for d, _ in rows], [not over for _, over in rows])
    result = sv.recovery_odds(table, age, within=(horizon,)).iloc[0]
    sample = [(d if over else d - 1, over) for d, over in rows]
    sample = [(t - (age - 1), over) for t, over in sample if t > age - 1]
    if math.isnan(result["odds"]):
        assert not sample or max(t for t, _ in sample) < horizon
        return
    alive = slow_kaplan_meier([t for t, _ in sample], [over for _, over in sample], horizon)
    assert result["odds"] == pytest.approx(1 - alive, abs=1e-12)
    assert 0 <= result["low"] <= result["odds"] + 1e-12 and result["odds"] <= result["high"] + 1e-12 <= 1 + 2e-12


def test_conditional_odds_are_the_ratio_of_two_survivals():
    rng = np.random.default_rng(3)
    table = episodes(rng.integers(1, 100, 40).tolist(), (rng.random(40) < 0.2).tolist())
    times, ended = sv.durations(table).T.to_numpy()
    odds = sv.recovery_odds(table, 25, within=(30,)).iloc[0]["odds"]
    ratio = slow_kaplan_meier(times, ended, 54) / slow_kaplan_meier(times, ended, 24)
    assert odds == pytest.approx(1 - ratio, abs=1e-12)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(11)
    truth, hits, runs = 1 - 0.98**30, 0, 150
    for _ in range(runs):
        length = rng.geometric(0.02, 30)
        limit = rng.integers(40, 200, 30)
        table = episodes(np.minimum(length, limit).tolist(), (length > limit).tolist())
        row = sv.recovery_odds(table, 1, within=(30,)).iloc[0]
        hits += row["low"] <= truth <= row["high"]
    assert 0.90 <= hits / runs <= 0.99
