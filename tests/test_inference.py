"""Bootstrap, regression, matched entries and multiple testing: closed forms, slow twins, known answers."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capitulation.study import matched
from capitulation.study.bootstrap import (
    bootstrap_excess,
    count_clusters,
    mean_excess_interval,
    mean_excess_intervals,
)
from capitulation.study.forward_returns import forward_log_returns
from capitulation.study.matched import entry_states, match_levels, matched_entries_test, matched_test
from capitulation.study.multiple import (
    deflated_sharpe,
    expected_max_sharpe,
    holm,
    min_detectable_log,
    probabilistic_sharpe,
)
from capitulation.study.regression import ols_hac_hansen_hodrick
from capitulation.study.rotation import rotation_test


def overlapping(n=1200, horizon=30, seed=0, step_sd=0.03):
    steps = np.random.default_rng(seed).normal(0, step_sd, n + horizon - 1)
    return np.convolve(steps, np.ones(horizon), "valid")


def spread_events(n, count, seed=0):
    marks = np.zeros(n, bool)
    marks[np.random.default_rng(seed).choice(n, count, replace=False)] = True
    return marks


# --- stationary bootstrap ---------------------------------------------------------------------------------------------


def test_bootstrap_equals_resampling_the_pairs_one_by_one_through_arch():
    from arch.bootstrap import StationaryBootstrap

    returns, events = overlapping(300), spread_events(300, 20)
    slow = []
    for data, _ in StationaryBootstrap(30, returns, events, seed=np.random.default_rng(5)).bootstrap(150):
        slow.append(data[0][data[1]].mean() - data[0].mean())
    fast = bootstrap_excess(returns, events, 30, 150, seed=5)[:, 0]
    assert fast == pytest.approx(np.array(slow), abs=1e-12)


def test_rules_share_resamples_so_each_has_the_interval_it_has_alone():
    returns = overlapping(500)
    events = np.array([spread_events(500, 10, 1), spread_events(500, 60, 2), np.zeros(500, bool)])
    together = mean_excess_intervals(returns, events, 30, 300, 0.95, 7)
    alone = [mean_excess_interval(returns, row, 30, 300, 0.95, 7) for row in events]
    assert together == pytest.approx(np.array(alone), abs=1e-12, nan_ok=True)
    assert np.isnan(together[2]).all()


def test_percentile_interval_is_the_quantile_of_the_resamples():
    returns, events = overlapping(400), spread_events(400, 40)
    draws = bootstrap_excess(returns, events, 30, 500, 3)[:, 0]
    interval = mean_excess_interval(returns, events, 30, 500, 0.9, 3, method="percentile")
    assert interval == pytest.approx(tuple(np.quantile(draws, [0.05, 0.95])))


def test_interval_of_independent_returns_has_the_textbook_width():
    """Blocks of one day, 400 events of 4,000 independent days: sd * sqrt(1/400 - 1/4000)."""
    returns, events = np.random.default_rng(1).normal(0, 0.5, 4000), np.arange(4000) % 10 == 0
    low, high = mean_excess_interval(returns, events, 1, 1000, 0.95, 2)
    assert high - low == pytest.approx(2 * 1.966 * 0.5 * np.sqrt(1 / 400 - 1 / 4000), rel=0.12)
    assert (low + high) / 2 == pytest.approx(returns[events].mean() - returns.mean(), abs=1e-12)


def test_more_confidence_is_wider_and_one_seed_is_one_interval():
    returns, events = overlapping(400), spread_events(400, 15)
    narrow, wide = (mean_excess_interval(returns, events, 30, 400, c, 1) for c in (0.8, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert narrow == mean_excess_interval(returns, events, 30, 400, 0.8, 1)
    assert narrow != mean_excess_interval(returns, events, 30, 400, 0.8, 2)


def test_one_cluster_gives_no_interval():
    """97 days in a row are one observation, from which no spread can be learnt."""
    returns, events = overlapping(800, 90), np.zeros(800, bool)
    events[300:397] = True
    assert np.isnan(mean_excess_interval(returns, events, 90, 200)).all()


def test_intervals_cover_a_null_about_as_often_as_they_say():
    hits = []
    for seed in range(120):
        returns, events = overlapping(1500, 60, seed), spread_events(1500, 12, seed)
        low, high = mean_excess_interval(returns, events, 60, 200, 0.9, seed)
        hits.append(low <= 0 <= high)
    assert 0.83 <= np.mean(hits) <= 1.0


@pytest.mark.parametrize("options", [{"method": "bca"}, {"confidence": 1.0}, {"block_days": 0}, {"n": 0}])
def test_bootstrap_options_are_checked(options):
    with pytest.raises(ValueError, match="need"):
        mean_excess_interval(overlapping(50), spread_events(50, 5), **{"block_days": 5, "n": 10, **options})


def test_bootstrap_refuses_missing_returns():
    with pytest.raises(ValueError, match="NaN"):
        bootstrap_excess([1.0, np.nan], [1, 0], 1, 5)


@pytest.mark.parametrize(("days", "gap", "expected"), [([0, 5, 20], 6, 2), ([0, 5, 20], 5, 3), ([], 5, 0), ([3], 9, 1)])
def test_clusters_are_counted_as_episodes_counts_them(days, gap, expected):
    from capitulation.episodes import clusters

    marks = np.zeros(30, bool)
    marks[days] = True
    assert count_clusters(marks, gap).tolist() == [expected]
    dates = pd.date_range("2020-01-01", periods=30)[marks]
    assert len(np.unique(clusters(dates, gap))) == expected


# --- regression -------------------------------------------------------------------------------------------------------


def slow_hac(returns, events, lags, weight):
    """Coefficient and variance of the event mark by the sandwich formula, summed term by term."""
    x = np.column_stack([np.ones(len(returns)), events.astype(float)])
    bread = np.linalg.inv(x.T @ x)
    beta = bread @ x.T @ returns
    scores = x * (returns - x @ beta)[:, None]
    meat = scores.T @ scores
    for lag in range(1, lags + 1):
        cross = scores[lag:].T @ scores[:-lag]
        meat += weight(lag, lags) * (cross + cross.T)
    return beta[1], (bread @ meat @ bread)[1, 1]


def test_robust_t_values_equal_the_formulas():
    returns, events = overlapping(600, 20), spread_events(600, 40)
    found = ols_hac_hansen_hodrick(returns, events, 20)
    coefficient, bartlett = slow_hac(returns, events, 19, lambda lag, lags: 1 - lag / (lags + 1))
    _, uniform = slow_hac(returns, events, 19, lambda lag, lags: 1.0)
    assert found["coef"] == pytest.approx(coefficient) and uniform > 0
    assert found["coef"] == pytest.approx(returns[events].mean() - returns[~events].mean())
    assert found["t_hac"] == pytest.approx(coefficient / np.sqrt(bartlett))
    assert found["t_hh"] == pytest.approx(coefficient / np.sqrt(uniform))


def test_plain_t_equals_the_two_sample_test_and_horizon_one_has_no_overlap():
    from scipy import stats

    returns, events = np.random.default_rng(4).normal(size=500), spread_events(500, 50)
    found = ols_hac_hansen_hodrick(returns, events, 1, alternative="two-sided")
    assert found["t_ols"] == pytest.approx(stats.ttest_ind(returns[events], returns[~events]).statistic)
    assert found["t_hac"] == pytest.approx(found["t_hh"])
    assert found["p_hac"] == pytest.approx(2 * stats.norm.sf(abs(found["t_hac"])))
    greater = ols_hac_hansen_hodrick(returns, events, 1)
    assert greater["p_hac"] == pytest.approx(stats.norm.sf(found["t_hac"]))


def test_a_variance_that_is_not_positive_gives_no_t_value():
    """Errors that change sign every day make the uniform kernel's variance negative."""
    returns = np.tile([1.0, -1.0], 100)
    events = np.zeros(200, bool)
    events[50:150] = True
    _, variance = slow_hac(returns, events, 1, lambda lag, lags: 1.0)
    assert variance <= 0
    found = ols_hac_hansen_hodrick(returns, events, 2)
    assert np.isnan(found["t_hh"]) and np.isnan(found["p_hh"]) and np.isfinite(found["t_hac"])


def test_lags_over_the_whole_sample_leave_no_variance_and_no_t_value():
    """With every lag at full weight the scores sum to zero: rounding must not pass for a tiny standard error."""
    found = ols_hac_hansen_hodrick(overlapping(120), spread_events(120, 10), 365)
    assert np.isnan(found["t_hh"]) and np.isfinite(found["t_ols"])


def test_a_sample_shorter_than_the_block_still_gives_an_interval_or_none():
    returns, events = overlapping(60), np.zeros(60, bool)
    events[[5, 50]] = True
    assert np.isnan(mean_excess_interval(returns, events, 365, 100)).all()
    low, high = mean_excess_interval(returns, events, 40, 100)
    assert low < high


@pytest.mark.parametrize("events", [np.zeros(100), np.ones(100)])
def test_nothing_to_compare_gives_nan(events):
    assert all(np.isnan(value) for value in ols_hac_hansen_hodrick(overlapping(100), events, 10).values())


@pytest.mark.parametrize("horizon", [0, -3])
def test_regression_refuses_a_horizon_below_one(horizon):
    with pytest.raises(ValueError, match="horizon"):
        ols_hac_hansen_hodrick(overlapping(100), spread_events(100, 5), horizon)


def test_one_long_episode_fools_the_regressions_but_not_the_rotation(real_panel):
    """97 days of falling hash rate (90-day growth of the 30-day mean), all of winter 2018/19, returns over 180 days."""
    mean = real_panel["hash_rate_ehs"].rolling(30).mean()
    returns = forward_log_returns(real_panel["price_usd"], 180, 0).loc["2014-01-01":"2019-05-15"]
    falling = (mean / mean.shift(90) - 1 < 0).reindex(returns.index).to_numpy()
    found = ols_hac_hansen_hodrick(returns, falling, 180)
    assert falling.sum() == 97 and count_clusters(falling, 180)[0] == 1
    t_values = [found[name] for name in ("t_ols", "t_hac", "t_hh")]
    assert t_values == pytest.approx([11.8, 4.4, 3.4], abs=0.05)
    assert rotation_test(returns, falling).p_two_sided == pytest.approx(0.28, abs=0.005)
    assert rotation_test(returns, falling).p_one_sided == pytest.approx(0.147, abs=0.005)


# --- matched random entries -------------------------------------------------------------------------------------------


def market(n=1500, seed=0):
    rng = np.random.default_rng(seed)
    days = pd.date_range("2015-01-01", periods=n, name="date")
    return pd.DataFrame({"price_usd": 100 * np.exp(np.cumsum(rng.normal(0, 0.03, n)))}, index=days)


def flat_levels(n):
    return np.zeros((3, n), dtype=int)


def test_states_are_known_on_the_day_and_named_as_documented():
    days = pd.date_range("2020-01-01", periods=100)
    price = pd.Series(np.r_[np.full(90, 100.0), 81.0, 79.0, 50.1, 49.9, np.full(5, 101.0), np.nan], days)
    states = entry_states(price)
    assert states["momentum"].iloc[:90].eq(-1).all() and states["momentum"].iloc[-1] == -1
    assert states["drawdown"].iloc[90:95].tolist() == [0, 1, 1, 2, 0]
    assert states["momentum"].iloc[90:95].tolist() == [0, 0, 0, 0, 1]
    assert states["drawdown"].iloc[-1] == -1


def test_a_single_event_is_compared_with_all_days_of_its_cell():
    """With one event the random sets are single days, so p tends to the share of like days that did as well."""
    returns = np.random.default_rng(2).normal(size=900)
    cell = np.repeat([0, 1, 2], 300)
    levels = np.array([cell, cell, cell])
    marks = np.zeros(900, bool)
    marks[400] = True
    result = matched_test(returns, marks, levels, 20_000, 1)
    share = (returns[cell == 1] >= returns[400]).mean()
    assert result.p == pytest.approx(share, abs=0.015)
    assert set(np.round(result.null, 9)) <= set(np.round(returns[cell == 1], 9))


def test_scarce_cells_are_coarsened_step_by_step():
    fine, middle, era = np.zeros(200, int), np.zeros(200, int), np.zeros(200, int)
    fine[:5] = 1
    marks = np.zeros(200, bool)
    marks[2] = True
    result = matched_test(np.arange(200.0), marks, np.array([fine, middle, era]), 500, 1)
    assert result.n_coarsened == 1 and result.null.max() > 5
    fine[:40] = 1
    result = matched_test(np.arange(200.0), marks, np.array([fine, middle, era]), 500, 1)
    assert result.n_coarsened == 0 and result.null.max() < 40


def test_blocks_move_as_one_and_keep_their_distance(monkeypatch):
    """Days 0, 10, 11 of a block stay 10 and 1 apart, and two blocks never come closer than they were."""
    seen = {}
    original = matched._place

    def spy(pools, lengths, gap, n, rng):
        starts, spaced = original(pools, lengths, gap, n, rng)
        seen.update(starts=starts, lengths=lengths, gap=gap, spaced=spaced)
        return starts, spaced

    monkeypatch.setattr(matched, "_place", spy)
    returns, marks = np.random.default_rng(3).normal(size=1000), np.zeros(1000, bool)
    marks[[100, 110, 111, 205, 500]] = True
    result = matched_test(returns, marks, flat_levels(1000), 400, 9)
    assert result.n_blocks == 3 and seen["gap"] == 93 and seen["spaced"] == 1.0
    pattern = np.array([0, 10, 11])
    starts = seen["starts"]
    by_hand = (returns[starts[0][:, None] + pattern].sum(axis=1) + returns[starts[1]] + returns[starts[2]]) / 5
    assert result.null == pytest.approx(by_hand, abs=1e-12)
    ordered = np.sort(starts, axis=0)
    ends = ordered[:-1] + np.take_along_axis(seen["lengths"][:, None], np.argsort(starts, axis=0)[:-1], axis=0)
    assert (ordered[1:] - ends >= 93).all()


def test_where_the_distance_cannot_be_kept_it_is_said():
    marks = np.zeros(300, bool)
    marks[[0, 150, 299]] = True
    result = matched_test(np.arange(300.0), marks, flat_levels(300), 200, 1)
    assert 0 < result.spaced < 1 and 0 < result.p <= 1


def test_matched_p_is_about_uniform_under_the_null():
    p = []
    for seed in range(300):
        returns = overlapping(700, 20, seed)
        p.append(matched_test(returns, spread_events(700, 8, seed), flat_levels(700), 199, seed).p)
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)


def test_matched_on_a_panel_leaves_out_events_without_outcome_and_repeats_with_its_seed():
    panel = market()
    returns = forward_log_returns(panel["price_usd"], 90, 1)
    era = pd.Series(np.where(panel.index < "2017-01-01", 2012, 2016), panel.index)
    days = panel.index[[200, 400, 900, 1495]]
    result = matched_entries_test(panel, days, returns, era, 300, 4)
    assert result.n_blocks == 3 and result.observed == pytest.approx(returns.loc[days].mean())
    assert np.array_equal(result.null, matched_entries_test(panel, days, returns, era, 300, 4).null)
    nothing = matched_entries_test(panel, days[:0], returns, era)
    assert np.isnan(nothing.p) and not len(nothing.null)


def test_events_after_falls_are_compared_with_other_days_after_falls():
    """Momentum that pays is no merit of a rule that merely trades momentum."""
    rng, n = np.random.default_rng(6), 2000
    rising = np.repeat(rng.random(n // 20) < 0.4, 20).astype(int)
    era, states = np.zeros(n), pd.DataFrame({"momentum": rising, "drawdown": np.zeros(n, int)})
    returns = rng.normal(0, 0.1, n) + 0.5 * rising
    marks = np.zeros(n, bool)
    marks[rng.choice(np.flatnonzero(rising), 10, replace=False)] = True
    assert rotation_test(returns, marks).p_one_sided < 0.05
    assert matched_test(returns, marks, match_levels(era, states), 500, 1).p > 0.05


# --- multiple testing -------------------------------------------------------------------------------------------------


def test_holm_equals_statsmodels_and_its_own_definition():
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(0).random(40) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_lies_between_the_p_value_and_bonferroni(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p) - 1e-12).all()
    assert (adjusted <= np.minimum(np.array(p) * len(p), 1) + 1e-12).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= -1e-12).all()


def test_holm_leaves_out_tests_that_were_not_made():
    assert holm([0.01, np.nan, 0.04]).tolist() == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)
    with pytest.raises(ValueError, match="p-values"):
        holm([1.2])


def test_deflated_sharpe_meets_the_published_example():
    """Annual Sharpe ratio 2.5 over five years of 250 days, 100 trials with variance 1/2, skewness -3, kurtosis 10."""
    assert round(expected_max_sharpe(100, 0.5 / 250), 4) == 0.1132
    assert round(deflated_sharpe(2.5 / np.sqrt(250), 1250, 100, 0.5 / 250, skew=-3, kurtosis=10), 4) == 0.9004


def test_expected_best_of_many_agrees_with_drawing_them():
    draws = np.random.default_rng(1).normal(0, 0.3, (20_000, 50)).max(axis=1).mean()
    assert expected_max_sharpe(50, 0.09) == pytest.approx(draws, rel=0.02)


def test_one_trial_deflates_nothing_and_more_trials_deflate_more():
    assert expected_max_sharpe(1, 0.5) == 0.0 and expected_max_sharpe(1.2, 0.5) >= 0
    one = deflated_sharpe(0.05, 2000, 1, 0.001)
    assert one == pytest.approx(probabilistic_sharpe(0.05, 0, 2000))
    values = [deflated_sharpe(0.05, 2000, n, 0.001) for n in (1, 5, 50, 500)]
    assert values == sorted(values, reverse=True) and values[-1] < values[0]


@pytest.mark.parametrize(("n_trials", "variance"), [(0, 0.1), (10, -0.1), (10, float("nan"))])
def test_impossible_trials_are_refused(n_trials, variance):
    with pytest.raises(ValueError, match="n_trials"):
        expected_max_sharpe(n_trials, variance)


@pytest.mark.parametrize(("sharpe", "n_obs"), [(float("nan"), 100), (0.1, 1)])
def test_sharpe_of_nothing_is_nan(sharpe, n_obs):
    assert np.isnan(probabilistic_sharpe(sharpe, 0.0, n_obs))


def test_the_detectable_effect_is_found_with_the_power_it_promises():
    sd, n = 0.4, 12
    effect = min_detectable_log(sd, n, alpha=0.05, power=0.8)
    means = np.random.default_rng(2).normal(effect, sd, (40_000, n)).mean(axis=1)
    assert (means > 1.6449 * sd / np.sqrt(n)).mean() == pytest.approx(0.8, abs=0.01)
    assert min_detectable_log(sd, 4 * n) == pytest.approx(effect / 2)
    assert np.isnan(min_detectable_log(sd, 0))
