"""Could it be chance? Rotation of the calendar, matched random entries, regressions, and several looks at once.

Forward returns over h days overlap, and events cluster; both survive when the whole pattern of events is rotated
through the sample (the last days re-enter at the front). So each rotation is a fair competitor where returns come from
one stationary process, and p is the share of rotations that do at least as well, the observed one included: no random
numbers. Where drift changes from one halving era to the next, plain rotation compares a good decade with a bad one. The
remedy that keeps its level on simulated markets is to rotate `returns.own_era_excess`; `strata` (rotate within each
era) and `demean_by` (take each era's mean off first) flatter events that follow a fall.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtr

from capitulation.study.returns import event_marks

TIE_TOLERANCE = 1e-11
"""Relative to the largest return: far above the transform's rounding, far below any difference that means something."""
MAX_ENUMERATED = 100_000
MOMENTUM_DAYS = 90
DRAWDOWN_EDGES = (0.2, 0.5)
BLOCK_GAP_DAYS = 90
"""Signals come in bursts. Moving each burst as one keeps the matched test honest; scattering its members singly found
nearly three times as many effects as there should be on simulated markets without any."""
MIN_CANDIDATES = 30
RETRIES = 30


class Rotation(NamedTuple):
    """Outcome of `rotation_test`; without any of the `n` events the null is empty, all else NaN.

    excess : mean return of the events minus its mean over all rotations (without strata: over all days). p, p_two_sided
    : share of rotations with an excess at least as high, or as far from zero. null : shape (rotations,), the excess of
    each, the observed first; interval : excess minus its upper and lower quantile. exact : every rotation was counted.
    """

    excess: float
    p: float
    p_two_sided: float
    interval: tuple[float, float]
    null: np.ndarray
    n: int
    exact: bool


class MaxRotation(NamedTuple):
    """Outcome of `max_rotation_test`: arrays of shape (rules,) or (rules, horizons).

    z : excess standardised by its own rotations. p_single : each rule alone. p_family : share of common rotations in
    which the best of all rules does at least as well. null_max : shape (n,), the best statistic of each rotation.
    """

    z: np.ndarray
    p_single: np.ndarray
    p_family: np.ndarray
    null_max: np.ndarray


class Matched(NamedTuple):
    """Outcome of `matched_test`: mean log return of the events, p, mean of each random set."""

    observed: float
    p: float
    null: np.ndarray


def rotation_sums(returns: ArrayLike, events: ArrayLike) -> np.ndarray:
    """Sum of the returns under the events moved k days later, for every k: S[k] = sum over t of r[t] e[t - k].

    `returns`: shape (n,), no NaN. `events`: shape (n,) or (rules, n), boolean or counts; so is the result.
    """
    r, e = np.asarray(returns, dtype=float), np.asarray(events, dtype=float)
    n = len(r)
    # Written twice, the returns have no edge for the events to fall off, so any length that is quick to transform does.
    length = next_fast_len(2 * n, real=True)
    spectrum = rfft(np.concatenate([r, r]), length) * rfft(e, length).conj()
    return irfft(spectrum, length)[..., :n]


def rotation_scores(returns: ArrayLike, marks: ArrayLike) -> np.ndarray:
    """Excess of each rule in every rotation over its standard deviation, shape (rules, n), the observed one first.

    Arguments as `max_rotation_test`, one horizon. NaN for a rule that says nothing, since all its rotations give the
    same: no day or every day is an event.
    """
    r = np.asarray(returns, dtype=float)
    centred = np.nan_to_num(r - r[~np.isnan(r)].mean()) if np.isfinite(r).any() else np.zeros(len(r))
    sums = rotation_sums(centred, marks)
    spread = np.sqrt((sums**2).mean(axis=1, keepdims=True))
    return sums / np.where(spread > TIE_TOLERANCE * np.abs(centred).sum(), spread, np.nan)


def _share_as_high(scores: np.ndarray, tolerance: ArrayLike) -> np.ndarray:
    """Share of each row (last axis) at or above its first value, ties and rounding counted as at."""
    return (scores >= scores[..., :1] - tolerance).mean(axis=-1)


def _less_own_mean(returns: np.ndarray, labels: ArrayLike | None) -> np.ndarray:
    """Returns minus the mean of those with the same label, or of all."""
    if labels is None:
        return returns - returns.mean()
    groups = pd.Series(returns).groupby(np.asarray(labels), dropna=False)
    return returns - groups.transform("mean").to_numpy()


def rotation_test(
    returns: pd.Series | ArrayLike,
    events: Any,
    *,
    strata: ArrayLike | None = None,
    demean_by: ArrayLike | None = None,
    confidence: float = 0.95,
    n_draws: int = 9_999,
    seed: int = 0,
) -> Rotation:
    """Exact test that the mean return after the events is no higher than after the same events rotated in time.

    `returns`: shape (n,), log returns of consecutive days whose outcome is known, no NaN: a Series on a daily index
    (`events` as in `returns.event_marks`) or an array (as many booleans or counts). `strata`: labels, shape (n,), e.g.
    halving eras, whose days rotate among themselves: up to 100,000 combinations are all counted, else `n_draws` random
    ones (`seed`) and the observed one (valid: Phipson and Smyth 2010). `demean_by`: labels whose mean return is taken
    off before. The interval (coverage `confidence`) inverts this very test. `ValueError` for NaN, unequal lengths or
    negative counts.

    >>> found = rotation_test(pd.Series([0.0, 0, 1, 0], pd.date_range("2020-01-01", periods=4)), ["2020-01-03"])
    >>> found.excess, found.p, found.n
    (0.75, 0.25, 1)
    """
    r = np.asarray(returns, dtype=float)
    e = np.asarray(event_marks(returns.index, events) if isinstance(returns, pd.Series) else events, dtype=float)
    if e.shape != r.shape or np.isnan(r).any() or not (e >= 0).all():
        raise ValueError("need returns without NaN (leave out days of unknown outcome) and as many booleans or counts")
    n = int(e.sum())
    if n == 0:
        return Rotation(np.nan, np.nan, np.nan, (np.nan, np.nan), np.empty(0), 0, exact=True)
    # The mean of each stratum goes too, so that the rotations' own mean is zero.
    centred = _less_own_mean(_less_own_mean(r, demean_by), strata)
    labels = np.zeros(len(r)) if strata is None else np.asarray(strata)
    groups = [labels == label for label in np.unique(labels[e > 0])]
    sums = [rotation_sums(centred[days], e[days]) for days in groups]
    sizes = [len(of_group) for of_group in sums]
    if exact := len(sums) == 1 or prod(sizes) <= MAX_ENUMERATED:
        shifts = np.indices(sizes).reshape(len(sizes), -1)
    else:
        rng = np.random.default_rng(seed)
        shifts = [np.append(0, rng.integers(0, size, n_draws)) for size in sizes]
    null = sum(of_group[by] for of_group, by in zip(sums, shifts, strict=True)) / n
    tolerance = TIE_TOLERANCE * np.abs(centred).max()
    low, high = np.quantile(null, [(1 - confidence) / 2, (1 + confidence) / 2])
    p, p_two_sided = (float(_share_as_high(scores, tolerance)) for scores in (null, np.abs(null)))
    interval = (float(null[0] - high), float(null[0] - low))
    return Rotation(float(null[0]), p, p_two_sided, interval, null, n, exact)


def rotation_p(returns: ArrayLike, marks: ArrayLike) -> np.ndarray:
    """One- and two-sided p of many rules, each alone as in `rotation_test`, all in one pair of transforms.

    `returns`: shape (n,), no NaN. `marks`: shape (rules, n). Shape (2, rules); NaN without events.
    """
    r, e = np.asarray(returns, dtype=float), np.asarray(marks, dtype=float)
    if not r.size:
        return np.full((2, len(e)), np.nan)
    n, centred = e.sum(axis=1), r - r.mean()
    sums, tolerance = rotation_sums(centred, e), TIE_TOLERANCE * np.abs(centred).max() * n[:, None]
    return np.where(n > 0, [_share_as_high(scores, tolerance) for scores in (sums, np.abs(sums))], np.nan)


def excess_of(returns: ArrayLike, marks: ArrayLike) -> np.ndarray:
    """Mean return of each rule's events minus that of every day: marks of shape (rules, n), NaN without events."""
    r, e = np.asarray(returns, dtype=float), np.asarray(marks, dtype=float)
    count = e.sum(axis=1)
    return e @ r / np.where(count > 0, count, np.nan) - (r.mean() if r.size else np.nan)


def max_rotation_test(returns: ArrayLike, marks: ArrayLike) -> MaxRotation:
    """Family-wise p-values of many rules (and horizons): all are rotated together and the best one is what counts.

    Common rotations keep the dependence between rules and between horizons (Westfall and Young 1993; White 2000); each
    excess is divided by its standard deviation over its own rotations, so that three events and eight hundred compare.
    `returns`: shape (n,) or (n, horizons), log returns; NaN (outcome not known) weighs nothing in its column, and every
    day rotates. `marks`: shape (rules, n), boolean or counts; a rule without events gets NaN and takes no part.
    `ValueError` for shapes that do not fit or negative counts.

    >>> marks = np.array([[0, 1, 0, 0], [0, 0, 1, 0]], dtype=bool)
    >>> max_rotation_test(np.array([0.0, 1.0, 0.0, 0.0]), marks).p_family.tolist()
    [0.5, 1.0]
    """
    r, e = np.asarray(returns, dtype=float), np.asarray(marks, dtype=float)
    if e.ndim != 2 or not r.size or e.shape[1] != len(r) or not (e >= 0).all():
        raise ValueError(f"need days and marks (rules, days), booleans or counts; got shapes {r.shape} and {e.shape}")
    scores = np.array([rotation_scores(column, e) for column in np.atleast_2d(r.T)])
    null_max = np.where(np.isnan(scores), -np.inf, scores).max(axis=(0, 1), initial=-np.inf)
    family = (null_max >= scores[..., :1] - TIE_TOLERANCE).mean(axis=-1)
    figures = np.array([scores[..., 0], _share_as_high(scores, TIE_TOLERANCE), family])
    figures[:, np.isnan(scores[..., 0])] = np.nan
    return MaxRotation(*(figure.T.reshape(len(e), *r.shape[1:]) for figure in figures), null_max)


def entry_states(price: pd.Series) -> pd.DataFrame:
    """State of the market on each day, from prices up to that day alone: index of `price`, integers, -1 where unknown.

    momentum : 1 where the log return of the past 90 days is positive, else 0. drawdown : 0, 1, 2 for a price less than
    20 %, 20 to 50 %, and more than 50 % below its running peak.
    """
    log_price = np.log(price.astype(float))
    past, fallen = log_price.diff(MOMENTUM_DAYS), 1 - np.exp(log_price - log_price.cummax())
    depth = np.digitize(fallen.fillna(0), DRAWDOWN_EDGES)
    states = {"momentum": np.where(past.isna(), -1, past > 0), "drawdown": np.where(fallen.isna(), -1, depth)}
    return pd.DataFrame(states, index=price.index)


def match_levels(era: ArrayLike, states: pd.DataFrame) -> np.ndarray:
    """Cells of like days, shape (3, days): era with momentum and drawdown, era with momentum, era alone.

    `era`: label of each day; `states`: as from `entry_states`, of the same days.
    """
    era_code = np.unique(np.asarray(era), return_inverse=True)[1]
    momentum, drawdown = (states[name].to_numpy() + 1 for name in ("momentum", "drawdown"))
    return np.array([(era_code * 3 + momentum) * 4 + drawdown, era_code * 3 + momentum, era_code])


def _place(pools: list[np.ndarray], lengths: np.ndarray, gap: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Random start of every block in `n` sets, shape (blocks, n), the longest placed first, drawn anew where too close.

    A block that finds no room in RETRIES draws stays where it fell.
    """
    starts, reach = np.zeros((len(pools), n), dtype=np.int32), (lengths + gap).astype(np.int32)[:, None]
    order = np.argsort(-lengths, kind="stable")
    for turn, block in enumerate(order):
        placed, bad = order[:turn], np.arange(n)
        for _ in range(1 + RETRIES):
            starts[block, bad] = pools[block][rng.integers(0, len(pools[block]), len(bad))]
            begin, others = starts[block, bad], starts[placed][:, bad]
            near = (begin < others + reach[placed]) & (others < begin + reach[block])
            bad = bad[near.any(axis=0)]
            if not len(bad):
                break
    return starts


def matched_test(
    returns: ArrayLike, marks: ArrayLike, levels: np.ndarray, n: int = 2000, seed: int | list[int] = 0
) -> Matched:
    """Test that the mean return after the events is no higher than after random entries that resemble them.

    A rule that buys after deep falls competes with other days after deep falls: same halving era, same state of the
    market, all known on the entry day (`levels`, from `match_levels`, shape (3, days): the finest one with 30 such
    days). Events at most 90 days apart move together as a block, so that their spacing stays; blocks keep at least the
    distance of the closest two. p = (1 + sets at least as good) / (1 + n). `returns`, `marks`: shape (days,), log
    returns without NaN, booleans. Without any event NaN and an empty null; `ValueError` for NaN or unequal lengths.
    """
    r, e = np.asarray(returns, dtype=float), np.asarray(marks, dtype=bool)
    if r.shape != e.shape or levels.shape[-1:] != r.shape or np.isnan(r).any() or n < 1:
        raise ValueError("need returns without NaN, marks and levels of as many days, and n >= 1")
    rows = np.flatnonzero(e)
    if not len(rows):
        return Matched(np.nan, np.nan, np.empty(0))
    blocks = np.split(rows, np.flatnonzero(np.diff(rows) > BLOCK_GAP_DAYS) + 1)
    lengths = np.array([block[-1] - block[0] + 1 for block in blocks])
    gap = min((after[0] - before[-1] - 1 for before, after in pairwise(blocks)), default=0)
    pools = []
    for block, length in zip(blocks, lengths, strict=True):
        alike = [np.flatnonzero(cells[: len(r) + 1 - length] == cells[block[0]]) for cells in levels]
        pools.append(next((days for days in alike if len(days) >= MIN_CANDIDATES), alike[-1]))
    starts = _place(pools, lengths, gap, n, np.random.default_rng(seed))
    # Runs of days within a block are differences of running sums.
    running, total = np.append(0.0, np.cumsum(r - r.mean())), np.zeros(n)
    for block, start in zip(blocks, starts, strict=True):
        for run in np.split(block - block[0], np.flatnonzero(np.diff(block) > 1) + 1):
            total += running[start + run[-1] + 1] - running[start + run[0]]
    null, observed = r.mean() + total / len(rows), float(r[rows].mean())
    at_least = int((null >= observed - TIE_TOLERANCE * np.abs(r).max()).sum())
    return Matched(observed, (1 + at_least) / (1 + n), null)


def regression_tests(returns: ArrayLike, marks: ArrayLike, horizon: int) -> dict[str, float]:
    """t-values of the event mark as the literature prints them, to show why they mislead here.

    Least squares of the return on a constant and the mark. The slope is sum of g_t r_t with g_t = (e_t - mean e) /
    sum (e - mean e)^2; with residuals u and z_t = g_t u_t its variance is the sum over lags |l| < horizon of w_l
    sum z_t z_(t-l): Newey and West (1987) with w_l = 1 - |l|/horizon, Hansen and Hodrick (1980) with w_l = 1. Both
    allow for the overlap but count days, while a state that holds for hundreds of days may be one observation.
    `returns`: log returns over `horizon` days of consecutive days, no NaN; `marks`: as many booleans or counts. Keys:
    coef (mean log return on event days minus that on all others), t_ols, t_hac, t_hh and p_ols, p_hac, p_hh (normal,
    one-sided: higher); NaN where nothing can be estimated, which equal weights do not promise. `ValueError` for NaN,
    unequal lengths or horizon < 1.
    """
    r, e = np.asarray(returns, dtype=float), np.asarray(marks).astype(float)
    if r.shape != e.shape or r.ndim != 1 or np.isnan(r).any() or horizon < 1:
        raise ValueError("need returns without NaN, as many marks, and horizon >= 1")
    n, slope, t = len(r), np.nan, dict.fromkeys(("ols", "hac", "hh"), np.nan)
    if n > 2 and np.ptp(e) > 0:
        weight = (e - e.mean()) / ((e - e.mean()) ** 2).sum()
        slope = float(weight @ r)
        residual = r - r.mean() - slope * (e - e.mean())
        z, lags = weight * residual, np.arange(min(horizon, n))
        covariance = np.array([z[lag:] @ z[: n - lag] for lag in lags]) * np.where(lags > 0, 2, 1)
        plain = float(residual @ residual / (n - 2) * (weight @ weight))
        variances = (plain, float((1 - lags / len(lags)) @ covariance), float(covariance.sum()))
        t = {name: slope / v**0.5 if v > 1e-9 * plain else np.nan for name, v in zip(t, variances, strict=True)}
    p = {f"p_{name}": float(ndtr(-value)) for name, value in t.items()}
    return {"coef": slope, **{f"t_{name}": value for name, value in t.items()}, **p}


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's (1979) step-down adjusted p-values, which control the family-wise error under any dependence.

    With the m values sorted, max over j <= i of (m - j + 1) p_(j), capped at 1; in the order given. NaN = test not
    made: left out of the family, NaN in the result. `ValueError` outside [0, 1].
    """
    p = np.asarray(p_values, dtype=float)
    if ((p < 0) | (p > 1)).any():
        raise ValueError("p-values must lie in [0, 1]")
    order = np.argsort(p, kind="stable")[: int((~np.isnan(p)).sum())]  # NaN come last
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(np.arange(len(order), 0, -1) * p[order]), 1.0)
    return adjusted
