"""Sentences on the record of the tests say what their tables hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from capitulation.study import trust, trust_words


def table(rates: dict[str, tuple[float, float]]) -> pd.DataFrame:
    rows = []
    for test, label in trust.TESTS.items():
        flat, real = rates.get(test, (0.05, 0.05))
        row = {"test": test, "label": label, "stationary_rate": flat, "realistic_rate": real}
        rows.append(row | {"stationary_at_level": 0.035 <= flat <= 0.065, "realistic_at_level": 0.035 <= real <= 0.065})
    return pd.DataFrame(rows)


def curve(rates: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"test": "rotation_own_era", "effect_log": [0.0, 0.2, 0.4], "rate": rates})


def test_the_finding_names_both_rates_and_the_worst_test():
    text = trust_words.trust_finding(table({"rotation_own_era": (0.051, 0.048), "ols": (0.1, 0.21)}), 2000)
    assert "5.1 % of stationary and 4.8 % of realistic" in text and "it keeps its level" in text
    assert "21.0 % of realistic ones (least squares, plain t-value)" in text


@pytest.mark.parametrize("rates", [(0.07, 0.05), (0.05, 0.034)])
def test_the_finding_admits_that_the_headline_is_off(rates):
    assert "it does not keep its level" in trust_words.trust_finding(table({"rotation_own_era": rates}), 2000)


def test_tests_off_their_level_are_listed_and_only_those():
    text = trust_words.off_level_sentence(table({"hac": (0.05, 0.3), "matched": (0.01, 0.05)}))
    assert text.startswith("2 tests of 14 outside") and "Newey-West" in text and "matched random" in text
    assert "bootstrap" not in text
    assert "All 14 tests lie within" in trust_words.off_level_sentence(table({}))


def test_coverage_is_given_with_its_distance_from_the_nominal_share():
    rows = pd.DataFrame(
        {
            "interval": ["excess", "excess"],
            "of": ["zero", "true excess"],
            "world": ["stationary", "realistic"],
            "rate": [0.92, 0.96],
        }
    )
    text = trust_words.coverage_sentence(rows, 0.95)
    assert "92.0 % (excess, zero, stationary world)" in text and "−3.0 to +1.0 percentage points" in text


def test_what_was_measured_is_named_since_a_run_may_ask_something_else():
    tests = {"horizon_days": 30, "fast_days": 20, "slow_days": 50, "sample_start": "2015-01-01", "confidence": 0.9}
    text = trust_words.settings_sentence(tests)
    assert "30-day returns after recoveries of the 20- and 50-day means since 2015-01-01" in text


def test_the_needed_effect_lies_between_the_measured_ones_or_is_missing():
    assert trust_words.needed_effect(curve([0.05, 0.6, 1.0])) == pytest.approx(0.3)
    assert np.isnan(trust_words.needed_effect(curve([0.05, 0.6, 0.7])))


def test_power_is_read_off_at_the_claimed_effect():
    text = trust_words.power_sentence(curve([0.0, 0.4, 1.0]))
    claimed = np.log(1.72 / 1.48)
    assert f"{100 * claimed * 2:.0f} % of realistic markets" in text and "(+16 %)" in text
    assert "four of five" in text
    assert "no measured effect" in trust_words.power_sentence(curve([0.0, 0.1, 0.2]))


def test_moments_outside_the_simulated_range_are_named():
    rows = pd.DataFrame({"moment": ["a", "b"], "within": [True, False]})
    text = trust_words.moments_sentence(rows)
    assert text.endswith("; outside: b.") and "1 of 2" in text
