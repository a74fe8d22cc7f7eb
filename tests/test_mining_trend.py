"""The filtered probability that hash rate falls: against the Kalman recursions written out, and known worlds."""

import time

import numpy as np
import pandas as pd

from capitulation.mining import trend
from mining_panels import mined_panel, steady_panel


def _luck(rate, seed):
    blocks = np.random.default_rng(seed).poisson(144, len(rate)).astype(float)
    return steady_panel(rate * blocks / 144, blocks, start="2014-01-01")


def _kalman(log_work, variance, slope_variance):
    """Filtered slope and its variance, step by step."""
    mean, cov = np.array([log_work[0], 0.0]), np.diag([1e4, 1e-2])
    step, noise = np.array([[1.0, 1.0], [0.0, 1.0]]), np.diag([0.0, slope_variance])
    slopes = []
    for value, r in zip(log_work, variance, strict=True):
        if np.isfinite(value):
            gain = cov[:, 0] / (cov[0, 0] + r)
            mean, cov = mean + gain * (value - mean[0]), cov - np.outer(gain, cov[0])
        slopes.append((mean[1], cov[1, 1]))
        mean, cov = step @ mean, step @ cov @ step.T + noise
    return np.array(slopes).T


def test_filter_equals_the_recursions_written_out():
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    log_work = np.cumsum(rng.normal(0, 0.01, 300)) + rng.normal(0, 0.08, 300)
    log_work[[50, 51, 120]] = np.nan
    variance = rng.uniform(0.005, 0.01, 300)
    slope, var = _kalman(log_work, variance, 1e-6)
    np.testing.assert_allclose(
        trend._falling(log_work.tobytes(), variance.tobytes(), 1e-6),
        norm.cdf(-slope / np.sqrt(var)),
        rtol=1e-9,
        atol=1e-12,
    )


def test_steady_growth_is_not_falling_and_a_collapse_is():
    growth = np.exp(0.6 / 365 * np.arange(1300))
    steady = trend.falling_probability(_luck(growth, 2))
    assert steady.dropna().median() < 0.2
    fallen = growth.copy()
    fallen[1100:1140] *= np.linspace(1, 0.6, 40)
    fallen[1140:] *= 0.6
    seen = trend.falling_probability(_luck(fallen, 2))
    assert seen.iloc[1135] > 0.95
    pd.testing.assert_series_equal(seen.iloc[:1100], steady.iloc[:1100], check_exact=True)


def test_probability_is_missing_until_two_years_are_known():
    probability = trend.falling_probability(_luck(np.ones(1000), 3))
    assert probability.first_valid_index() == pd.Timestamp("2016-01-01")
    assert probability.dropna().between(0, 1).all()
    assert trend.falling_probability(_luck(np.ones(300), 3)).isna().all()
    assert trend.falling_probability(steady_panel(np.full(900, np.nan))).isna().all()


def test_days_without_data_leave_the_filter_running():
    panel = _luck(np.ones(900), 4)
    panel.iloc[800:803, panel.columns.get_loc("hash_rate_ehs")] = np.nan
    assert trend.falling_probability(panel).iloc[731:].notna().all()


def test_repeated_calls_need_no_new_fit():
    panel, _ = mined_panel(1500, seed=3)
    trend.falling_probability(panel)
    misses = trend._fitted_slope_variance.cache_info().misses
    began = time.perf_counter()
    trend.falling_probability(panel.iloc[:-40])
    assert trend._fitted_slope_variance.cache_info().misses == misses
    assert time.perf_counter() - began < 1


def test_real_collapses_are_seen_as_they_happen(real_panel):
    probability = trend.falling_probability(real_panel)
    assert probability["2021-06-20"] > 0.99
    assert probability["2018-12-01"] > 0.95
    assert probability["2019-08-15"] < 0.25
    share = (probability.loc["2014":] > 0.5).mean()
    assert 0.1 < share < 0.35
