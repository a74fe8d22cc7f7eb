"""Rotation, matched entries, regressions and multiple looks: brute force, closed forms, independent packages."""

import itertools

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import StationaryBootstrap
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.sandwich_covariance import cov_hac, weights_bartlett, weights_uniform

from capitulation.study import chance
from capitulation.study.chance import (
    less_own_mean,
    match_levels,
    matched_test,
    max_rotation_test,
    regression_tests,
    rotation_p,
    rotation_sums,
    rotation_test,
)
from capitulation.study.tables import bootstrap_intervals

EPSILON = 1e-9


def brute_force(returns, events):
    """Every rotation one by one: (null, one-sided p, two-sided p)."""
    returns, events = np.asarray(returns, float), np.asarray(events, float)
    null = np.array([returns @ np.roll(events, k) / events.sum() for k in range(len(returns))]) - returns.mean()
    return null, (null >= null[0] - EPSILON).mean(), (np.abs(null) >= abs(null[0]) - EPSILON).mean()


def noise(seed, n=300, share=0.1):
    rng = np.random.default_rng(seed)
    return rng.normal(0.0, 0.3, n), rng.random(n) < share


def overlapping(n=1200, horizon=30, seed=0, step_sd=0.03):
    steps = np.random.default_rng(seed).normal(0, step_sd, n + horizon - 1)
    return np.convolve(steps, np.ones(horizon), "valid")


def spread(n, count, seed=0):
    marks = np.zeros(n, bool)
    marks[np.random.default_rng(seed).choice(n, count, replace=False)] = True
    return marks


# --- rotation ---


@pytest.mark.parametrize("n", [2, 3, 97, 128, 365, 1009])
def test_all_rotations_equal_brute_force(n):
    returns, events = noise(n, n)
    events[n // 2] = True
    found, (null, one, two) = rotation_test(returns, events), brute_force(returns, events)
    assert np.abs(found.null - null).max() < 1e-12
    assert (found.p, found.p_two_sided) == pytest.approx((one, two), abs=1e-12)
    low, high = np.quantile(null, [0.025, 0.975])
    assert found.interval == pytest.approx((null[0] - high, null[0] - low), abs=1e-12)
    assert found.exact and found.n == events.sum()
    assert np.abs(rotation_sums(returns, events) / found.n - returns.mean() - null).max() < 1e-12


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 2)), min_size=1, max_size=60), st.floats(1e-6, 1e6))
def test_ties_always_count_the_observed_rotation(days, scale):
    """Whole-number returns tie often; scaling them must not change a p-value, and no p may fall below 1/n."""
    returns, events = np.array(days, float).T
    found = rotation_test(returns * scale, events)
    if not events.any():
        assert np.isnan([found.p, found.p_two_sided, found.excess, *found.interval]).all() and found.n == 0
        return
    _, one, two = brute_force(returns, events)
    assert (found.p, found.p_two_sided) == pytest.approx((one, two), abs=1e-12)
    assert min(found.p, found.p_two_sided) >= 1 / len(days)


def test_p_is_uniform_and_the_interval_covers_where_t_tests_fail():
    """Overlapping returns and clustered events; a constant effect moves excess and interval alike."""
    p, held, events = [], [], np.zeros(400, bool)
    events[[20, 21, 22, 23, 24, 150, 151, 152, 300]] = True
    for seed in range(400):
        found = rotation_test(overlapping(400, 30, seed), events, confidence=0.9)
        p.append(found.p)
        held.append(found.interval[0] <= 0 <= found.interval[1])
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.03 < np.mean(np.array(p) <= 0.05) < 0.08
    assert 0.86 < np.mean(held) < 0.95


def test_days_and_marks_are_the_same_events_and_no_day_is_no_sample():
    returns, marks = noise(5)
    series = pd.Series(returns, pd.date_range("2020-01-01", periods=300, name="date"))
    found, wanted = rotation_test(series, [*series.index[marks], pd.NaT]), rotation_test(returns, marks)
    assert found[:4] == wanted[:4] and found.n == wanted.n
    nothing = rotation_test(series.iloc[:0], series.index)
    assert nothing.n == 0 and np.isnan(nothing.p) and not len(nothing.null)


def test_strata_equal_all_combinations_one_by_one():
    returns, events = noise(9, 27, 0.3)
    strata = np.repeat([2012, 2016, 2020], [8, 9, 10])
    events[[0, 10, 20]] = True
    parts, null = [np.flatnonzero(strata == era) for era in (2012, 2016, 2020)], []
    for shifts in itertools.product(*(range(len(part)) for part in parts)):
        moved = events.copy()
        for part, shift in zip(parts, shifts, strict=True):
            moved[part] = np.roll(events[part], shift)
        null.append(returns[moved].mean())
    found, null = rotation_test(returns, events, strata=strata), np.array(null)
    assert found.exact and len(found.null) == 8 * 9 * 10
    assert found.p == pytest.approx((null >= null[0] - EPSILON).mean(), abs=1e-12)
    assert found.excess == pytest.approx(null[0] - null.mean(), abs=1e-12)


def test_drawn_strata_come_close_to_all_combinations(monkeypatch):
    returns, events = noise(10, 60, 0.2)
    strata = np.repeat([1, 2], 30)
    exact = rotation_test(returns, events, strata=strata)
    monkeypatch.setattr(chance, "MAX_ENUMERATED", 1)
    drawn = rotation_test(returns, events, strata=strata, n_draws=20_000, seed=4)
    assert exact.exact and not drawn.exact
    assert drawn.p == pytest.approx(exact.p, abs=4 * 0.5 / np.sqrt(20_000))
    assert drawn.p == rotation_test(returns, events, strata=strata, n_draws=20_000, seed=4).p


def test_an_era_of_high_drift_is_no_evidence_once_eras_are_respected():
    rng, era, naive, aware, level = np.random.default_rng(12), np.repeat([0, 1], 500), [], [], []
    for _ in range(100):
        returns = rng.normal(0, 0.2, 1000) + 0.5 * (era == 0)
        events = np.zeros(1000, bool)
        events[rng.choice(500, 12, replace=False)] = True
        naive.append(rotation_test(returns, events).p <= 0.05)
        aware.append(rotation_test(returns, events, strata=era, n_draws=999).p <= 0.05)
        level.append(rotation_test(less_own_mean(returns, era), events).p <= 0.05)
    assert np.mean(naive) > 0.3 and max(np.mean(aware), np.mean(level)) < 0.14


def test_unusable_input_is_refused():
    for returns, events in (([1, np.nan], [1, 0]), ([1, 2], [1, 0, 0]), ([1, 2], [-1, 0]), ([1, 2], [np.nan, 1])):
        with pytest.raises(ValueError, match="need returns without NaN"):
            rotation_test(returns, events)
    for refused in (
        lambda: max_rotation_test([1.0, 2.0], [1, 0]),
        lambda: max_rotation_test([1.0, 2.0], [[1, 0, 0]]),
        lambda: max_rotation_test([1.0, 2.0], [[-1, 0]]),
        lambda: rotation_test([1.0, 2.0], [1, 0], strata=[1, 2, 3]),
        lambda: matched_test([np.nan] * 50, np.ones(50), np.zeros((3, 50))),
        lambda: regression_tests(np.ones(50), np.ones(50), 0),
        lambda: bootstrap_intervals(np.ones(50), np.ones(50), 5, 10, confidence=1.0),
        lambda: bootstrap_intervals(np.ones(50), np.ones(50), 0, 10),
    ):
        with pytest.raises(ValueError):
            refused()


# --- many rules ---


def test_many_rules_at_once_have_the_p_they_have_alone():
    returns, _ = noise(20)
    marks = np.array([noise(seed, share=share)[1] for seed, share in ((1, 0.01), (2, 0.1), (3, 0.9), (4, 0.0))])
    alone = [rotation_test(returns, mark) for mark in marks]
    one, two = rotation_p(returns, marks)
    np.testing.assert_allclose(one, [found.p for found in alone], atol=1e-12)
    np.testing.assert_allclose(two, [found.p_two_sided for found in alone], atol=1e-12)
    assert np.isnan(rotation_p([], np.zeros((2, 0)))).all()


def test_family_wise_p_equals_brute_force():
    rng = np.random.default_rng(21)
    returns = rng.normal(size=(150, 2))
    returns[140:, 1] = np.nan
    events = (rng.random((5, 150)) < [[0.01], [0.02], [0.1], [0.4], [0.8]]).astype(float)
    events[:, 75] = 1
    known = np.where(np.isnan(returns), 0.0, returns - np.nanmean(returns, axis=0))
    sums = np.array([np.roll(events, k, axis=1) @ known for k in range(150)])
    z = sums / sums.std(axis=0)
    best = z.reshape(150, -1).max(axis=1)
    wanted = (best[:, None, None] >= z[0] - EPSILON).mean(axis=0)
    found = max_rotation_test(returns, events)
    assert np.abs(found.p_family - wanted).max() < 1e-12
    assert (found.p_family >= found.p_single - 1e-12).all()
    np.testing.assert_allclose(found.null_max, best, atol=1e-9)


def test_copies_cost_nothing_and_rules_that_say_nothing_take_no_part():
    """No event, and every day an event: all rotations are alike. A difference of 1e-15 is still a difference."""
    returns, events = noise(23)
    marks = np.array([events, events, np.zeros(300), np.ones(300)])
    for scale in (1.0, 1e-15):
        family = max_rotation_test(returns * scale, marks)
        assert family.p_family[:2] == pytest.approx([rotation_test(returns, events).p] * 2, abs=1e-12)
        assert np.isnan([family.z[2:], family.p_single[2:], family.p_family[2:]]).all()


def test_the_best_of_many_rules_is_found_by_chance_as_often_as_the_level_says():
    rng, found = np.random.default_rng(25), []
    for seed in range(300):
        events = rng.random((12, 300)) < rng.choice([0.01, 0.05, 0.3], (12, 1))
        found.append(np.nanmin(max_rotation_test(overlapping(300, 10, seed), events).p_family) <= 0.05)
    assert 0.02 < np.mean(found) < 0.09


# --- matched entries ---


def flat(n):
    return np.zeros((3, n), int)


def test_cells_are_of_like_days():
    """90 days at 100, then 19, 21, 49.9 and 50.1 % below, and a rise; momentum is known from the 91st day on."""
    price = pd.Series(np.r_[np.full(90, 100.0), 81.0, 79.0, 50.1, 49.9, np.full(5, 101.0), np.nan])
    fine, coarse, era = match_levels(np.arange(100) == 92, price)
    assert (era == (np.arange(100) == 92)).all()
    assert [len(np.unique(level)) for level in (fine, coarse)] == [7, 4]  # unknown, at the peak, 19, 21 %, ..., unknown
    assert coarse[90] == coarse[91] == coarse[93] != coarse[92] and len({coarse[0], coarse[90], coarse[94]}) == 3
    assert (
        len({*fine[90:95], fine[0], fine[-1]}) == 7 and (fine[:90] == fine[0]).all() and (fine[94:99] == fine[94]).all()
    )


def test_a_single_event_is_compared_with_all_days_of_its_cell():
    """With one event the random sets are single days, so p tends to the share of like days that did as well."""
    returns, cell, marks = np.random.default_rng(2).normal(size=900), np.repeat([0, 1, 2], 300), np.zeros(900, bool)
    marks[400] = True
    p, null = matched_test(returns, marks, np.array([cell, cell, cell]), 20_000, 1)
    assert p == pytest.approx((returns[cell == 1] >= returns[400]).mean(), abs=0.015)
    assert set(np.round(null, 9)) <= set(np.round(returns[cell == 1], 9))


def test_scarce_cells_are_coarsened_step_by_step():
    """Of days 0 ... 199 (their own returns), 5 like days are too few, and 40 are enough."""
    levels, marks = flat(200), np.zeros(200, bool)
    marks[2] = True
    levels[0, :5] = 1
    assert matched_test(np.arange(200.0), marks, levels, 500, 1)[1].max() > 40
    levels[0, :40] = 1
    assert matched_test(np.arange(200.0), marks, levels, 500, 1)[1].max() < 40


def test_bursts_move_as_one_and_keep_their_distance():
    """Returns name their day, so that the sums of a set tell its days. The bursts are 93 days apart."""
    n, marks = 1000, np.zeros(1000, bool)
    marks[[100, 110, 111, 205]] = True
    null, again = (matched_test(np.arange(n) ** 2 * 1.0, marks, flat(n), 400, 9)[1] for _ in range(2))
    burst, single = np.meshgrid(np.arange(n - 11), np.arange(n), indexing="ij")
    apart = (single - (burst + 11) > 93) | (burst - single > 93)
    sums = burst**2 + (burst + 10) ** 2 + (burst + 11) ** 2 + single**2
    assert np.isin(np.round(null * 4), sums[apart]).all()
    np.testing.assert_array_equal(null, again)


def test_matched_p_is_about_uniform_under_the_null():
    p = [matched_test(overlapping(700, 20, s), spread(700, 8, s), flat(700), 199, s)[0] for s in range(300)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09
    assert np.mean(p) == pytest.approx(0.5, abs=0.07)


# --- regressions ---


@pytest.mark.parametrize(("n", "horizon", "count"), [(600, 20, 40), (400, 1, 30), (900, 90, 300), (150, 365, 12)])
def test_t_values_equal_statsmodels(n, horizon, count):
    returns, marks = overlapping(n, horizon), spread(n, count)
    fit = OLS(returns, np.column_stack([np.ones(n), marks])).fit()
    found, lags = regression_tests(returns, marks, horizon), min(horizon, n) - 1
    assert found["coef"] == pytest.approx(returns[marks].mean() - returns[~marks].mean())
    assert found["t_ols"] == pytest.approx(fit.tvalues[1])
    for name, weights in {"hac": weights_bartlett, "hansen_hodrick": weights_uniform}.items():
        variance = cov_hac(fit, nlags=lags, weights_func=weights, use_correction=False)[1, 1]
        t = found["coef"] / np.sqrt(variance) if variance > 1e-9 * fit.bse[1] ** 2 else np.nan
        assert found[f"t_{name}"] == pytest.approx(t, nan_ok=True)
        assert found[f"p_{name}"] == pytest.approx(stats.norm.sf(t), nan_ok=True)


def test_a_variance_that_is_not_positive_gives_no_t_value():
    """Errors that change sign every day; and lags over the whole sample, where all scores sum to zero but rounding."""
    marks = np.zeros(200, bool)
    marks[50:150] = True
    found = regression_tests(np.tile([1.0, -1.0], 100), marks, 2)
    assert np.isnan([found["t_hansen_hodrick"], found["p_hansen_hodrick"]]).all() and np.isfinite(found["t_hac"])
    found = regression_tests(overlapping(120), spread(120, 10), 365)
    assert np.isnan(found["t_hansen_hodrick"]) and np.isfinite(found["t_ols"])


@pytest.mark.parametrize("marks", [np.zeros(100), np.ones(100)])
def test_nothing_to_compare_gives_nan(marks):
    assert np.isnan(list(regression_tests(overlapping(100), marks, 10).values())).all()
    p, null = matched_test(np.arange(100.0), np.zeros(100, bool), flat(100))
    assert np.isnan(p) and not len(null)


# --- bootstrap ---


def test_bootstrap_equals_resampling_the_pairs_one_by_one_through_arch():
    returns, events, slow = overlapping(300), spread(300, 20), []
    for (r, e), _ in StationaryBootstrap(30, returns, events, seed=np.random.default_rng(5)).bootstrap(150):
        slow.append(r[e].mean() - r.mean())
    clusters = 1 + (np.diff(np.flatnonzero(events)) >= 30).sum()
    half = stats.t.ppf(0.95, clusters - 1) * np.std(slow, ddof=1)
    ((low, high),) = bootstrap_intervals(returns, events, 30, 150, 0.9, seed=5)
    assert (high - low, high + low) == pytest.approx((2 * half, 2 * (returns[events].mean() - returns.mean())))


def test_rules_share_resamples_so_each_has_the_interval_it_has_alone():
    """97 days in a row are one cluster, from which no spread can be learnt; no event is none."""
    returns, run = overlapping(500), np.isin(np.arange(500), np.arange(300, 397))
    events = np.array([spread(500, 10, 1), spread(500, 60, 2), np.zeros(500, bool), run])
    together = bootstrap_intervals(returns, events, 30, 300, 0.95, 7)
    alone = np.vstack([bootstrap_intervals(returns, row, 30, 300, 0.95, 7) for row in events])
    assert together == pytest.approx(alone, abs=1e-12, nan_ok=True)
    assert np.isfinite(together[:2]).all() and np.isnan(together[2:]).all()
