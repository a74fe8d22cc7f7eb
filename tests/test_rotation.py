"""The rotation test against brute force, known answers and its own guarantees."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from capitulation.study.rotation import max_rotation_test, rotation_sums, rotation_test

EPSILON = 1e-9


def brute_force(returns, events):
    """Every rotation one by one: (null, one-sided p, two-sided p)."""
    returns, events = np.asarray(returns, float), np.asarray(events, float)
    null = np.array([returns @ np.roll(events, k) / events.sum() for k in range(len(returns))]) - returns.mean()
    at_least = null >= null[0] - EPSILON
    return null, at_least.mean(), (np.abs(null) >= abs(null[0]) - EPSILON).mean()


def samples(seed, n=300, share=0.1):
    rng = np.random.default_rng(seed)
    return rng.normal(0.0, 0.3, n), rng.random(n) < share


@pytest.mark.parametrize("n", [2, 3, 97, 128, 365, 1009])
def test_all_rotations_equal_brute_force(n):
    returns, events = samples(n, n)
    events[n // 2] = True
    result = rotation_test(returns, events)
    null, one, two = brute_force(returns, events)
    assert np.abs(result.null - null).max() < 1e-12
    assert abs(result.p_one_sided - one) < 1e-12
    assert abs(result.p_two_sided - two) < 1e-12
    assert result.exact and result.n_events == events.sum()


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 2)), min_size=1, max_size=60), st.floats(1e-6, 1e6))
def test_ties_always_count_the_observed_rotation(days, scale):
    """Whole-number returns tie often; scaling them must not change a p-value, and no p may fall below 1/n."""
    returns, events = np.array(days, float).T
    result = rotation_test(returns * scale, events)
    if not events.any():
        assert np.isnan(result.p_one_sided) and np.isnan(result.statistic)
        return
    _, one, two = brute_force(returns, events)
    assert (result.p_one_sided, result.p_two_sided) == pytest.approx((one, two), abs=1e-12)
    assert min(result.p_one_sided, result.p_two_sided) >= 1 / len(days)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 400))
def test_p_is_the_same_wherever_the_circle_is_cut(seed, by):
    returns, events = samples(seed, 200)
    events[0] = True
    moved = rotation_test(np.roll(returns, by), np.roll(events, by))
    assert moved.p_one_sided == pytest.approx(rotation_test(returns, events).p_one_sided, abs=1e-12)


def test_constant_returns_and_every_day_an_event_are_no_evidence():
    assert rotation_test(np.full(50, 0.1), np.arange(50) < 5).p_one_sided == 1.0
    assert rotation_test(np.random.default_rng(1).normal(size=50), np.ones(50)).p_two_sided == 1.0


def test_a_planted_effect_is_found_and_its_mirror_image_is_not():
    returns, events = np.random.default_rng(3).normal(0, 0.1, 1000), np.zeros(1000, bool)
    events[[100, 300, 500, 700, 850]] = True
    returns[events] += 1.0
    found, mirrored = rotation_test(returns, events), rotation_test(-returns, events)
    assert found.p_one_sided == 1 / 1000 and mirrored.p_one_sided == 1.0
    assert found.p_two_sided == mirrored.p_two_sided == 1 / 1000


def test_p_is_uniform_under_the_null():
    """Overlapping returns and clustered events: exactly the case where t-tests fail."""
    rng, p = np.random.default_rng(5), []
    events = np.zeros(400, bool)
    events[[20, 21, 22, 23, 24, 150, 151, 152, 300]] = True
    for _ in range(600):
        noise = rng.normal(size=400)
        p.append(rotation_test(np.convolve(np.r_[noise, noise[:29]], np.ones(30), "valid"), events).p_one_sided)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.03 < np.mean(np.array(p) <= 0.05) < 0.075


def test_strata_of_one_label_change_nothing():
    returns, events = samples(8)
    plain, stratified = rotation_test(returns, events), rotation_test(returns, events, strata=np.full(300, "era"))
    assert stratified.p_one_sided == plain.p_one_sided and stratified.exact


def test_strata_equal_all_combinations_one_by_one():
    returns, events = samples(9, 27, 0.3)
    strata = np.repeat([2012, 2016, 2020], [8, 9, 10])
    events[[0, 10, 20]] = True
    parts = [np.flatnonzero(strata == era) for era in (2012, 2016, 2020)]
    null = []
    for shifts in itertools.product(*(range(len(part)) for part in parts)):
        moved = events.copy()
        for part, shift in zip(parts, shifts, strict=True):
            moved[part] = np.roll(events[part], shift)
        null.append(returns[moved].mean())
    null = np.array(null)
    result = rotation_test(returns, events, strata=strata)
    assert result.exact and len(result.null) == 8 * 9 * 10
    assert result.p_one_sided == pytest.approx((null >= null[0] - EPSILON).mean(), abs=1e-12)
    assert result.statistic == pytest.approx(null[0] - null.mean(), abs=1e-12)


def test_drawn_strata_come_close_to_all_combinations(monkeypatch):
    returns, events = samples(10, 60, 0.2)
    strata = np.repeat([1, 2], 30)
    exact = rotation_test(returns, events, strata=strata)
    monkeypatch.setattr("capitulation.study.rotation.MAX_ENUMERATED", 1)
    drawn = rotation_test(returns, events, strata=strata, n_draws=20_000, seed=4)
    assert exact.exact and not drawn.exact
    assert drawn.p_one_sided == pytest.approx(exact.p_one_sided, abs=4 * 0.5 / np.sqrt(20_000))
    again = rotation_test(returns, events, strata=strata, n_draws=20_000, seed=4)
    assert drawn.p_one_sided == again.p_one_sided


@pytest.mark.parametrize("option", ["strata", "demean_by"])
def test_an_era_of_high_drift_is_no_evidence_once_eras_are_respected(option):
    """Events that merely fell into the good era: plain rotation is impressed, the era-aware forms are not."""
    rng = np.random.default_rng(12)
    era = np.repeat([0, 1], 500)
    naive, aware = [], []
    for _ in range(200):
        returns = rng.normal(0, 0.2, 1000) + 0.5 * (era == 0)
        events = np.zeros(1000, bool)
        events[rng.choice(500, 12, replace=False)] = True
        naive.append(rotation_test(returns, events).p_one_sided <= 0.05)
        aware.append(rotation_test(returns, events, **{option: era}, n_draws=999).p_one_sided <= 0.05)
    assert np.mean(naive) > 0.3
    assert np.mean(aware) < 0.12


def test_demeaning_equals_taking_the_means_off_by_hand():
    returns, events = samples(14)
    era = np.arange(300) // 100
    by_hand = returns - np.array([returns[era == e].mean() for e in range(3)])[era]
    assert rotation_test(returns, events, demean_by=era).statistic == pytest.approx(
        rotation_test(by_hand, events).statistic, abs=1e-12
    )


@pytest.mark.parametrize(
    ("returns", "events"),
    [([1.0, np.nan], [1, 0]), ([1.0, 2.0], [1, 0, 0]), ([1.0, 2.0], [-1, 0]), ([], []), ([1.0, 2.0], [np.nan, 1])],
)
def test_unusable_input_is_refused(returns, events):
    with pytest.raises(ValueError):
        rotation_test(returns, events)


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="labels"):
        rotation_test([1.0, 2.0], [1, 0], strata=[1, 2, 3])


def brute_max(returns, events, two_sided=False):
    """Family-wise p by moving all rules together, one rotation at a time."""
    n = returns.shape[0]
    columns = returns[:, None] if returns.ndim == 1 else returns
    known = np.where(np.isnan(columns), 0.0, columns - np.nanmean(columns, axis=0))
    sums = np.array([np.roll(events, k, axis=1) @ known for k in range(n)])
    z = sums / sums.std(axis=0)
    z = np.abs(z) if two_sided else z
    best = np.nanmax(z.reshape(n, -1), axis=1)
    return np.array([[np.mean(best >= value - EPSILON) for value in row] for row in z[0]])


@pytest.mark.parametrize("two_sided", [False, True])
def test_family_wise_p_equals_brute_force(two_sided):
    rng = np.random.default_rng(21)
    returns = rng.normal(size=(150, 2))
    returns[140:, 1] = np.nan
    events = (rng.random((5, 150)) < [[0.01], [0.02], [0.1], [0.4], [0.8]]).astype(float)
    events[:, 75] = 1
    result = max_rotation_test(returns, events, alternative="two-sided" if two_sided else "greater")
    assert np.abs(result.p_family - brute_max(returns, events, two_sided)).max() < 1e-12
    assert (result.p_family >= result.p_single - 1e-12).all()


def test_one_rule_alone_has_its_own_p():
    returns, events = samples(22)
    alone = rotation_test(returns, events)
    for standardise in ("sd", "rank"):
        family = max_rotation_test(returns, events[None, :], standardise=standardise)
        assert family.p_family == pytest.approx([alone.p_one_sided], abs=1e-12)
        assert family.p_single == pytest.approx([alone.p_one_sided], abs=1e-12)


def test_copies_of_one_rule_cost_nothing_and_empty_rules_take_no_part():
    returns, events = samples(23)
    family = max_rotation_test(returns, np.array([events, events, events, np.zeros(300, bool)]))
    assert family.p_family[:3] == pytest.approx([rotation_test(returns, events).p_one_sided] * 3, abs=1e-12)
    assert np.isnan([family.z[3], family.p_single[3], family.p_family[3]]).all()


def test_a_rule_of_every_day_and_tiny_returns_are_told_apart():
    """All rotations of "every day" tie, so it says nothing; a real difference of 1e-15 is still a difference."""
    returns, events = samples(31)
    family = max_rotation_test(returns * 1e-15, np.array([np.ones(300), events]))
    assert np.isnan(family.p_family[0])
    assert family.p_family[1] == pytest.approx(rotation_test(returns, events).p_one_sided, abs=1e-12)


def test_many_rules_are_worked_in_blocks_with_the_same_result(monkeypatch):
    rng = np.random.default_rng(24)
    returns, events = rng.normal(size=200), rng.random((11, 200)) < 0.1
    whole = max_rotation_test(returns, events)
    monkeypatch.setattr("capitulation.study.rotation.RULES_PER_BLOCK", 3)
    blocks = max_rotation_test(returns, events)
    assert np.array_equal(whole.p_family, blocks.p_family)


@pytest.mark.parametrize("standardise", ["sd", "rank"])
def test_the_best_of_many_rules_is_found_by_chance_as_often_as_the_level_says(standardise):
    rng = np.random.default_rng(25)
    found = []
    for _ in range(300):
        events = rng.random((12, 300)) < rng.choice([0.01, 0.05, 0.3], (12, 1))
        returns = np.convolve(rng.normal(size=309), np.ones(10), "valid")
        found.append(np.nanmin(max_rotation_test(returns, events, standardise=standardise).p_family) <= 0.05)
    assert 0.02 < np.mean(found) < 0.09


def test_family_within_strata_uses_common_draws():
    rng = np.random.default_rng(26)
    returns, strata = rng.normal(size=1200), np.repeat([0, 1, 2], 400)
    events = rng.random((4, 1200)) < 0.02
    first = max_rotation_test(returns, events, strata=strata, n_draws=999, seed=3)
    second = max_rotation_test(returns, events, strata=strata, n_draws=999, seed=3)
    assert not first.exact and np.array_equal(first.p_family, second.p_family)
    assert (first.p_family >= first.p_single - 1e-12).all() and first.p_family.min() >= 1 / 1000


@pytest.mark.parametrize("options", [{"alternative": "less"}, {"standardise": "mean"}])
def test_unknown_options_are_refused(options):
    with pytest.raises(ValueError, match="need events"):
        max_rotation_test([1.0, 2.0], [[1, 0]], **options)


def test_all_rotations_of_the_real_sample_take_about_a_millisecond():
    returns, events = samples(30, 4500, 0.01)
    best = min(_seconds(lambda: rotation_test(returns, events)) for _ in range(20))
    assert best < 0.003
    assert rotation_sums(returns, events).shape == (4500,)


def _seconds(call):
    start = time.process_time()
    call()
    return time.process_time() - start
