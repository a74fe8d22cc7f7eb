"""The exact rotation test: is the calendar of the events better than the same calendar, moved?

Forward returns over h days overlap, and the events cluster; both survive when the whole pattern of events is rotated
through the sample (the last days re-enter at the front). So each rotation is a fair competitor where returns come from
one stationary process, and the p-value is the share of rotations that do at least as well, the observed one included.
One pair of Fourier transforms gives all n rotations at once.

Where drift changes from one halving era to the next, plain rotation compares a good decade with a bad one. Two remedies
are offered: `strata` rotates within each era independently, `demean_by` takes each era's mean off the returns first.
Both have a price: an event that follows a fall is compared with an era whose mean includes that fall, so that what is
left of the era looks good even by chance. The shorter the eras, the stronger this is, and it is strongest for `strata`;
how far each form is off is measured on simulated markets, and the plain form stays the one beside which they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import ArrayLike

from capitulation.study.transforms import circular_sums

DRAWS = 9_999
MAX_ENUMERATED = 100_000
TIE_TOLERANCE = 1e-11
"""Relative to the largest return: far above the transform's rounding, far below any difference that means something."""
RULES_PER_BLOCK = 128
ALTERNATIVES = ("greater", "two-sided")
STANDARDISATIONS = ("sd", "rank")


@dataclass(frozen=True)
class RotationResult:
    """Outcome of a rotation test.

    statistic : mean return of the events minus its mean over all rotations (without strata: over all days).
    p_one_sided, p_two_sided : share of rotations with a statistic at least as high, or as far from zero.
    null : shape (rotations,), the statistic of every rotation; the first is the observed one.
    exact : whether every rotation was counted (else `null` is a random draw of them and the observed one).
    """

    statistic: float
    p_one_sided: float
    p_two_sided: float
    null: np.ndarray
    n_events: int
    exact: bool


@dataclass(frozen=True)
class MaxRotationResult:
    """Outcome of a max-rotation test over many rules; arrays of shape (rules,) or (rules, horizons).

    z : excess standardised by its own rotations; p_single : each rule alone; p_family : share of common rotations in
    which the best of all rules does at least as well. null_max : shape (rotations,), the best statistic of each.
    """

    z: np.ndarray
    p_single: np.ndarray
    p_family: np.ndarray
    null_max: np.ndarray
    exact: bool


@dataclass(frozen=True)
class _Plan:
    """Which days rotate together (`parts`, rows of the sample) and by how much in each rotation (`shifts`)."""

    parts: list[np.ndarray]
    shifts: list[np.ndarray]
    exact: bool


def rotation_sums(returns: ArrayLike, events: ArrayLike) -> np.ndarray:
    """Sum of the returns under the events, for every rotation of the events: S[k] = sum over t of r[t] e[t - k].

    Parameters
    ----------
    returns : shape (n,), no NaN.
    events : shape (n,) or (rules, n), boolean or counts.

    Returns
    -------
    ndarray, shape of `events`: position k of the last axis is the sum after moving the events k days later.

    >>> rotation_sums([1.0, 2.0, 4.0], [True, False, False]).round(9).tolist()
    [1.0, 2.0, 4.0]
    """
    r, e = np.asarray(returns, dtype=float), np.asarray(events, dtype=float)
    return circular_sums(r, e)


def _codes(labels: ArrayLike | None, n: int) -> np.ndarray:
    """Group number of each day; one group where there are no labels."""
    if labels is None:
        return np.zeros(n, dtype=int)
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"labels must have shape ({n},), got {labels.shape}")
    return np.unique(labels, return_inverse=True)[1]


def _centred(returns: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Returns minus the mean of their group; a missing return becomes 0, so that it weighs nothing."""
    known = ~np.isnan(returns)
    counts = np.bincount(codes[known], minlength=codes.max() + 1)
    sums = np.bincount(codes[known], weights=returns[known], minlength=codes.max() + 1)
    return np.where(known, returns - (sums / np.maximum(counts, 1))[codes], 0.0)


def _plan(codes: np.ndarray, used: np.ndarray, n_draws: int, seed: int) -> _Plan:
    """Rotations of each group that holds an event: all combinations if few, else the observed one and random draws."""
    parts = [np.flatnonzero(codes == code) for code in np.unique(codes[used])]
    sizes = [len(part) for part in parts]
    if prod(sizes) <= MAX_ENUMERATED or len(sizes) == 1:
        grid = np.indices(sizes).reshape(len(sizes), -1)
        return _Plan(parts, list(grid), exact=True)
    rng = np.random.default_rng(seed)
    shifts = [np.concatenate([[0], rng.integers(0, size, n_draws)]) for size in sizes]
    return _Plan(parts, shifts, exact=False)


def _null_sums(centred: np.ndarray, events: np.ndarray, plan: _Plan) -> np.ndarray:
    """Sum of centred returns under each rule's events, shape (rules, rotations); column 0 is the observed one."""
    total = np.zeros((len(events), len(plan.shifts[0])))
    for part, shifts in zip(plan.parts, plan.shifts, strict=True):
        total += rotation_sums(centred[part], events[:, part])[:, shifts]
    return total


def _share_at_least(null: np.ndarray, observed: np.ndarray | float, tolerance: float) -> np.ndarray | float:
    """Share of `null` (last axis) at or above `observed`, ties and rounding counted as at."""
    return (null >= np.expand_dims(np.asarray(observed) - tolerance, -1)).mean(axis=-1)


def _checked(returns: ArrayLike, events: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    r, e = np.asarray(returns, dtype=float), np.asarray(events)
    if e.shape[-1:] != r.shape[:1] or not r.size:
        raise ValueError(f"events must end in as many days as returns, got {e.shape} and {r.shape}")
    weights = e.astype(float)
    if not (weights >= 0).all():
        raise ValueError("events must be boolean or counts")
    return r, weights


def rotation_test(
    returns: ArrayLike,
    events: ArrayLike,
    strata: ArrayLike | None = None,
    demean_by: ArrayLike | None = None,
    n_draws: int = DRAWS,
    seed: int = 0,
) -> RotationResult:
    """Exact test that the mean return after the events is no higher than after the same events rotated in time.

    Parameters
    ----------
    returns : shape (n,), log returns of consecutive days whose outcome is known; no NaN.
    events : shape (n,), boolean, or counts of events per day.
    strata : shape (n,), labels (e.g. halving era); the days of each label rotate among themselves, independently. With
        one label holding all events, or up to 100,000 combinations, all are counted; else `n_draws` random ones
        (`seed`) and the observed one, which keeps the test valid (Phipson and Smyth 2010).
    demean_by : shape (n,), labels whose mean return is taken off before.

    Returns
    -------
    RotationResult. Without any event: NaN statistic and p-values, empty null.

    Raises
    ------
    ValueError for unequal lengths, NaN or negative counts.

    >>> result = rotation_test([0.0, 0.0, 1.0, 0.0], [False, False, True, False])
    >>> result.statistic, result.p_one_sided
    (0.75, 0.25)
    """
    r, e = _checked(returns, events)
    if np.isnan(r).any():
        raise ValueError("returns hold NaN: leave out the days whose outcome is not known")
    n_events = int(e.sum())
    if n_events == 0:
        return RotationResult(np.nan, np.nan, np.nan, np.empty(0), 0, exact=True)
    codes = _codes(strata, len(r))
    # The mean of each stratum goes too, so that the rotations' own mean is zero.
    centred = _centred(_centred(r, _codes(demean_by, len(r))), codes)
    plan = _plan(codes, e > 0, n_draws, seed)
    null = _null_sums(centred, e[None, :], plan)[0] / n_events
    tolerance = TIE_TOLERANCE * np.abs(centred).max()
    return RotationResult(
        statistic=float(null[0]),
        p_one_sided=float(_share_at_least(null, null[0], tolerance)),
        p_two_sided=float(_share_at_least(np.abs(null), abs(null[0]), tolerance)),
        null=null,
        n_events=n_events,
        exact=plan.exact,
    )


def _ranked(sums: np.ndarray) -> np.ndarray:
    """Each row's share of rotations strictly below: near 1 is best; ties share the lower, the conservative rank."""
    ordered = np.sort(sums, axis=1)
    tolerance = TIE_TOLERANCE * np.abs(sums).max(axis=1, keepdims=True)
    below = [np.searchsorted(row, value, side="left") for row, value in zip(ordered, sums - tolerance, strict=True)]
    return np.array(below) / sums.shape[1]


def _spread(sums: np.ndarray, scale: float) -> np.ndarray:
    """Standard deviation of each row over the rotations; NaN where all its rotations give the same, up to rounding."""
    spread = np.sqrt((sums**2).mean(axis=1))
    return np.where(spread > TIE_TOLERANCE * scale, spread, np.nan)


def _standardised(sums: np.ndarray, scale: float, alternative: str, standardise: str) -> tuple[np.ndarray, np.ndarray]:
    """(z of the observed rotation, comparable statistic of every rotation) per rule."""
    z = sums / _spread(sums, scale)[:, None]
    scores = np.abs(z) if alternative == "two-sided" else z
    return z[:, 0], _ranked(np.nan_to_num(scores)) if standardise == "rank" else scores


def max_rotation_test(
    returns: ArrayLike,
    events: ArrayLike,
    strata: ArrayLike | None = None,
    demean_by: ArrayLike | None = None,
    alternative: str = "greater",
    standardise: str = "sd",
    n_draws: int = DRAWS,
    seed: int = 0,
) -> MaxRotationResult:
    """Family-wise p-values of many rules (and horizons): all are rotated together and the best one is what counts.

    Common rotations keep the dependence between rules and between horizons (Westfall and Young 1993; White 2000). So
    that a rule with three events and one with eight hundred compare, each rule's excess is divided by its standard
    deviation over its own rotations ("sd"), or replaced by its rank among them ("rank": exactly balanced, but coarse
    near the top, since each rule has one best rotation).

    Parameters
    ----------
    returns : shape (n,) or (n, horizons), log returns; NaN (outcome not known) weighs nothing in its column, and every
        day rotates.
    events : shape (rules, n), boolean or counts; a rule without events gets NaN and takes no part.
    strata, demean_by, n_draws, seed : as in `rotation_test`; the draws are common to all rules.
    alternative : "greater" or "two-sided".

    Returns
    -------
    MaxRotationResult, arrays of shape (rules,) or (rules, horizons) as `returns`.

    Raises
    ------
    ValueError for shapes that do not fit or unknown options.
    """
    r, e = _checked(returns, events)
    if e.ndim != 2 or alternative not in ALTERNATIVES or standardise not in STANDARDISATIONS:
        raise ValueError(f"need events (rules, n), alternative in {ALTERNATIVES}, standardise in {STANDARDISATIONS}")
    codes, groups = _codes(strata, len(r)), _codes(demean_by, len(r))
    used = (e > 0).any(axis=0)
    plan = _plan(codes, used if used.any() else ~used, n_draws, seed)
    columns = [_centred(_centred(column, groups), codes) for column in np.atleast_2d(r.T)]
    family = _family(columns, e, plan, alternative, standardise)
    shape = (len(e), *r.shape[1:])
    z, single, own = (values.T.reshape(shape) for values in family[:3])
    null_max = family[3]
    p_family = _share_of_sorted(null_max, own)
    return MaxRotationResult(z, single, p_family, null_max, plan.exact)


def _family(
    columns: Sequence[np.ndarray], events: np.ndarray, plan: _Plan, alternative: str, standardise: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(z, single p, own score) of shape (horizons, rules) and the best score of every rotation; blocks bound memory."""
    z, single, own = (np.full((len(columns), len(events)), np.nan) for _ in range(3))
    null_max = np.full(len(plan.shifts[0]), -np.inf)
    for i, centred in enumerate(columns):
        scale = np.abs(centred).sum()
        for start in range(0, len(events), RULES_PER_BLOCK):
            block = slice(start, start + RULES_PER_BLOCK)
            sums = _null_sums(centred, events[block], plan)
            z[i, block], scores = _standardised(sums, scale, alternative, standardise)
            own[i, block] = np.where(np.isnan(z[i, block]), np.nan, scores[:, 0])
            valid = ~np.isnan(own[i, block])
            single[i, block] = np.where(valid, _share_at_least(scores, scores[:, 0], TIE_TOLERANCE), np.nan)
            null_max = np.maximum(null_max, scores[valid].max(axis=0, initial=-np.inf))
    return z, single, own, null_max


def _share_of_sorted(null_max: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Share of `null_max` at or above each of `own`; NaN stays NaN."""
    at_least = len(null_max) - np.searchsorted(np.sort(null_max), own - TIE_TOLERANCE, side="left")
    return np.where(np.isnan(own), np.nan, at_least / len(null_max))
