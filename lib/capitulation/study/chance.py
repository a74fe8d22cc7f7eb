"""Could it be chance? Rotation of the calendar, matched random entries, regressions, and several looks at once.

Forward returns over h days overlap, and events cluster; both survive when the whole pattern of events is rotated
through the sample (the last days re-enter at the front). So each rotation is a fair competitor where returns come from
one stationary process, and p is the share of rotations that do at least as well, the observed one included. Where drift
changes from era to era, plain rotation compares a good decade with a bad one; rotating `returns.own_era_excess` keeps
its level on simulated markets, `strata` and `less_own_mean` flatter events after a fall.
"""

from __future__ import annotations

from functools import reduce
from math import prod
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtr

from capitulation.study.returns import event_marks

LEVEL = 0.05  # at or below which a p-value counts as evidence, everywhere
ACCEPTED = 0.035, 0.065  # share of markets without effect that a test may reject and still keep that level
TIE_TOLERANCE = 1e-11  # of the largest return: far above the transform's rounding, far below what means something
MAX_ENUMERATED = 100_000
RULES_PER_BLOCK = 64
FEW_EVENTS = 60  # up to so many, adding up shifted returns takes less time than a transform
MOMENTUM_DAYS = 90
DRAWDOWN_EDGES = (0.2, 0.5)
BLOCK_GAP_DAYS = 90  # signals come in bursts: scattered singly they gave the matched test thrice the false alarms
MIN_CANDIDATES = 30
RETRIES = 30


class Rotation(NamedTuple):
    """Outcome of `rotation_test`; without any of the `n` events the null is empty, all else NaN.

    excess : mean return of the events minus its mean over all rotations. p, p_two_sided : share of rotations with one
    as high, or as far from zero. null : that of each rotation (exact : of every one), the observed first. interval :
    excess minus the null's upper and lower quantile.
    """

    excess: float
    p: float
    p_two_sided: float
    interval: tuple[float, float]
    null: np.ndarray
    n: int
    exact: bool


class MaxRotation(NamedTuple):
    """Outcome of `max_rotation_test`, arrays of shape (rules,) or (rules, horizons): `z`, the excess over the standard
    deviation of its rotations; `p_single`, each rule alone; `p_family`, the share of common rotations in which the best
    of all rules (`null_max`, shape (n,)) does at least as well; two-sided: lies at least as far from zero."""

    z: np.ndarray
    p_single: np.ndarray
    p_family: np.ndarray
    null_max: np.ndarray


def rotation_sums(returns: ArrayLike, events: ArrayLike) -> np.ndarray:
    """Sum of the returns under the events moved k days later, for every k: S[k] = sum over t of r[t] e[t - k].

    `returns`: shape (n,), no NaN. `events`: shape (n,) or (rules, n), boolean or counts; so is the result.
    """
    r, e = np.asarray(returns, dtype=float), np.asarray(events)
    # Written twice, the returns have no edge for the events to fall off.
    twice, rules = np.tile(r, 2), e.reshape(-1, len(r))
    sums, few = np.empty(rules.shape), np.count_nonzero(rules, axis=1) <= FEW_EVENTS
    ahead = sliding_window_view(twice, len(r))  # row s: the returns that an event on day s gathers, k days later
    for rule in np.flatnonzero(few):
        days = np.flatnonzero(rules[rule])
        sums[rule] = rules[rule, days] @ ahead[days]
    if not few.all():  # any length that is quick to transform does
        length = next_fast_len(2 * len(r), real=True)
        spectra = rfft(twice, length) * rfft(rules[~few].astype(float), length).conj()
        sums[~few] = irfft(spectra, length)[:, : len(r)]
    return sums.reshape(e.shape)


def rotation_scores(returns: ArrayLike, marks: ArrayLike) -> np.ndarray:
    """Excess of each rule in every rotation over its standard deviation, shape (rules, n), the observed one first.

    Arguments as `max_rotation_test`, one horizon. NaN for a rule all of whose rotations give the same.
    """
    r = np.asarray(returns, dtype=float)
    centred = np.nan_to_num(r - r[~np.isnan(r)].mean()) if np.isfinite(r).any() else np.zeros(len(r))
    sums = rotation_sums(centred, marks)
    spread = np.sqrt((sums**2).mean(axis=1, keepdims=True))
    return sums / np.where(spread > TIE_TOLERANCE * np.abs(centred).sum(), spread, np.nan)


def share_as_high(scores: np.ndarray, tolerance: ArrayLike = TIE_TOLERANCE) -> np.ndarray:
    """Share of each row (last axis) at or above its first value, ties and rounding counted as at."""
    return (scores >= scores[..., :1] - tolerance).mean(axis=-1)


def less_own_mean(returns: np.ndarray, labels: ArrayLike) -> np.ndarray:
    """Returns minus the mean of those with the same label."""
    code = np.unique(np.asarray(labels), return_inverse=True)[1]
    return returns - (np.bincount(code, returns) / np.bincount(code))[code]


def rotation_test(
    returns: pd.Series | ArrayLike,
    events: Any,
    *,
    strata: ArrayLike | None = None,
    confidence: float = 0.95,
    n_draws: int = 9_999,
    seed: int = 0,
) -> Rotation:
    """Exact test that the mean return after the events is no higher than after the same events rotated in time.

    `returns`: shape (n,), log returns of consecutive days whose outcome is known, no NaN: a Series on a daily index
    (`events` as in `returns.event_marks`) or an array (as many booleans or counts). `strata`: labels, shape (n,), e.g.
    eras, whose days rotate among themselves: up to 100,000 combinations are all counted, else `n_draws` random ones
    (`seed`) and the observed one (Phipson and Smyth 2010). The interval (coverage `confidence`) inverts this very
    test. `ValueError` for what cannot be used.

    >>> found = rotation_test(pd.Series([0.0, 0, 1, 0], pd.date_range("2020-01-01", periods=4)), ["2020-01-03"])
    >>> found.excess, found.p, found.n
    (0.75, 0.25, 1)
    """
    r = np.asarray(returns, dtype=float)
    e = np.asarray(event_marks(returns.index, events) if isinstance(returns, pd.Series) else events, dtype=float)
    labels = np.zeros(len(r)) if strata is None else np.asarray(strata)
    if e.shape != r.shape or labels.shape != r.shape or np.isnan(r).any() or not (e >= 0).all():
        raise ValueError("need returns without NaN (leave out days of unknown outcome) and as many booleans or counts")
    n = int(e.sum())
    if n == 0:
        return Rotation(np.nan, np.nan, np.nan, (np.nan, np.nan), np.empty(0), 0, exact=True)
    order = np.argsort(labels, kind="stable") if strata is not None else slice(None)
    edges = np.flatnonzero(labels[order][1:] != labels[order][:-1]) + 1
    # The mean of each stratum goes too, so that the rotations' own mean is zero.
    centred = [own - own.mean() for own in np.split(r[order], edges)]
    sums = [rotation_sums(*of) for of in zip(centred, np.split(e[order], edges), strict=True) if of[1].any()]
    sizes = [len(of_group) for of_group in sums]
    if exact := len(sums) == 1 or prod(sizes) <= MAX_ENUMERATED:
        null = reduce(np.add.outer, sums).ravel() / n
    else:
        rng = np.random.default_rng(seed)
        shifts = [np.append(0, rng.integers(0, size, n_draws)) for size in sizes]
        null = sum(of_group[by] for of_group, by in zip(sums, shifts, strict=True)) / n
    tolerance = TIE_TOLERANCE * max(np.abs(own).max() for own in centred)
    low, high = np.quantile(null, [(1 - confidence) / 2, (1 + confidence) / 2])
    p, p_two_sided = (float(share_as_high(scores, tolerance)) for scores in (null, np.abs(null)))
    return Rotation(float(null[0]), p, p_two_sided, (float(null[0] - high), float(null[0] - low)), null, n, exact)


def rotation_p(returns: ArrayLike, marks: ArrayLike) -> np.ndarray:
    """One- and two-sided p of many rules, each alone as in `rotation_test`: shape (2, rules), NaN without events.

    `returns`: shape (n,), no NaN. `marks`: shape (rules, n).
    """
    r, e = np.asarray(returns, dtype=float), np.asarray(marks)
    if not r.size:
        return np.full((2, len(e)), np.nan)
    n, centred = e.sum(axis=1), r - r.mean()
    sums, tolerance = rotation_sums(centred, e), TIE_TOLERANCE * np.abs(centred).max() * n[:, None]
    return np.where(n > 0, [share_as_high(scores, tolerance) for scores in (sums, np.abs(sums))], np.nan)


def excess_of(returns: ArrayLike, marks: ArrayLike) -> np.ndarray:
    """Mean return of each rule's events minus that of every day: marks of shape (rules, n), NaN without events."""
    r, e = np.asarray(returns, dtype=float), np.asarray(marks)
    at = np.flatnonzero(e)
    rule = at // max(len(r), 1)
    day, weight = at - rule * len(r), e.ravel()[at]
    count = np.bincount(rule, weight, len(e))
    total = np.bincount(rule, weight * r[day], len(e))
    return total / np.where(count > 0, count, np.nan) - (r.mean() if r.size else np.nan)


def holm(p: pd.Series) -> pd.Series:
    """Holm's (1979) p of each of several tests: the smallest counts for all, the next for one fewer, never less.

    Missing ones are no tests and stay missing.

    >>> holm(pd.Series([0.04, 0.01, None])).tolist()
    [0.04, 0.02, nan]
    """
    ordered = p.sort_values(kind="stable")
    return (ordered * (p.count() - np.arange(len(p)))).cummax().clip(upper=1).reindex(p.index)


def max_rotation_test(returns: ArrayLike, marks: ArrayLike, two_sided: bool = False) -> MaxRotation:
    """Family-wise p-values of many rules (and horizons): all are rotated together and the best one is what counts.

    Common rotations keep the dependence between rules and between horizons (Westfall and Young 1993; White 2000); each
    excess is divided by its standard deviation over its own rotations, so that three events and eight hundred compare.
    `returns`: shape (n,) or (n, horizons), log returns; NaN (outcome not known) weighs nothing, and every day rotates.
    `marks`: shape (rules, n), boolean or counts; a rule without events gets NaN and takes no part. `ValueError` for
    what cannot be used.

    >>> marks = np.array([[0, 1, 0, 0], [0, 0, 1, 0]], dtype=bool)
    >>> max_rotation_test(np.array([0.0, 1.0, 0.0, 0.0]), marks).p_family.tolist()
    [0.5, 1.0]
    """
    r, e = np.asarray(returns, dtype=float), np.asarray(marks)
    if e.ndim != 2 or not r.size or e.shape[1] != len(r) or not (e >= 0).all():
        raise ValueError(f"need days and marks (rules, days), booleans or counts; got shapes {r.shape} and {e.shape}")
    columns, null_max = np.atleast_2d(r.T), np.full(len(r), -np.inf)
    z, p_single = np.full((2, len(e), len(columns)), np.nan)
    for horizon, column in enumerate(columns):
        for first in range(0, len(e), RULES_PER_BLOCK):  # the scores of all rules at once would fill the memory
            rules = slice(first, first + RULES_PER_BLOCK)
            scores = rotation_scores(column, e[rules])
            z[rules, horizon], scores = scores[:, 0], np.abs(scores) if two_sided else scores
            p_single[rules, horizon] = share_as_high(scores)
            null_max = np.fmax(null_max, np.fmax.reduce(scores))
    reached = (np.abs(z) if two_sided else z) - TIE_TOLERANCE
    p_family = (len(r) - np.searchsorted(np.sort(null_max), reached)) / len(r)
    figures = np.where(np.isnan(z), np.nan, [z, p_single, p_family])
    return MaxRotation(*(figure.reshape(len(e), *r.shape[1:]) for figure in figures), null_max)


def match_levels(era: ArrayLike, price: pd.Series) -> np.ndarray:
    """Cells of like days, integers of shape (3, days): `era` with momentum and drawdown, era with momentum, era alone.

    From prices up to each day: a rise or a fall over 90 days; up to 20, 50, 100 % below the running peak; or unknown.
    `era`: label of each day of `price`.
    """
    log_price, eras = np.log(price.astype(float)), np.unique(np.asarray(era), return_inverse=True)[1]
    past, fallen = log_price.diff(MOMENTUM_DAYS), 1 - np.exp(log_price - log_price.cummax())
    momentum = np.where(past.isna(), 0, 1 + (past > 0))
    drawdown = np.where(fallen.isna(), 0, 1 + np.digitize(fallen.fillna(0), DRAWDOWN_EDGES))
    return np.array([(eras * 3 + momentum) * 4 + drawdown, eras * 3 + momentum, eras])


def _place(pools: list[np.ndarray], lengths: np.ndarray, gap: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Random starts (blocks, n), longest block first; one that finds no room in RETRIES draws stays where it fell."""
    order = np.argsort(-lengths, kind="stable")
    starts, reach = np.zeros((len(pools), n), dtype=np.uint32), (lengths[order] + gap).astype(np.uint32)
    for turn, block in enumerate(order):
        # A start is free of another where other - start >= own reach or start - other >= the other's reach: counted
        # from the first start that is too near, in integers that wrap around below zero, both are one comparison.
        begin, width = starts[:turn] - (reach[turn] - 1), (reach[:turn] + (reach[turn] - 1))[:, None]
        pool, bad = pools[block].astype(np.uint32), np.arange(n)
        for _ in range(1 + RETRIES):
            starts[turn, bad] = drawn = pool[rng.integers(0, len(pool), len(bad))]
            near = np.logical_or.reduce(drawn - begin < width).nonzero()[0]
            if not len(near):
                break
            bad, begin = bad[near], begin.take(near, axis=1)
    return starts[np.argsort(order)].astype(int)


def matched_test(
    returns: ArrayLike, marks: ArrayLike, levels: np.ndarray, n: int = 2000, seed: int | list[int] = 0
) -> tuple[float, np.ndarray]:
    """Test that the mean return after the events is no higher than after random entries that resemble them.

    A rule that buys after deep falls competes with other days after deep falls: same era, same state of the market (the
    finest of `match_levels` with 30 such days). Events at most 90 days apart move as one block, so that their spacing
    stays; blocks keep at least the distance of the closest two. `returns`, `marks`: shape (days,), log returns without
    NaN, booleans. Gives p = (1 + sets at least as good) / (1 + n) and the mean log return of each set; NaN and none
    without events. `ValueError` for what cannot be used.
    """
    r, e = np.asarray(returns, dtype=float), np.asarray(marks, dtype=bool)
    if r.shape != e.shape or levels.shape[-1:] != r.shape or np.isnan(r).any() or n < 1:
        raise ValueError("need returns without NaN, marks and levels of as many days, and n >= 1")
    rows = np.flatnonzero(e)
    if not len(rows):
        return np.nan, np.empty(0)
    days_to_next = np.diff(rows)
    far = days_to_next > BLOCK_GAP_DAYS
    first, last = rows[np.append(True, far)], rows[np.append(far, True)]  # of each block
    lengths, gap = last - first + 1, days_to_next[far].min() - 1 if far.any() else 0
    pools = []
    for day, length in zip(first, lengths, strict=True):
        for cells in levels:
            pool = np.flatnonzero(cells[: len(r) + 1 - length] == cells[day])
            if len(pool) >= MIN_CANDIDATES:
                break
        pools.append(pool)
    starts = _place(pools, lengths, gap, n, np.random.default_rng(seed))
    # Runs of days within a block are differences of running sums.
    running, apart = np.append(0.0, np.cumsum(r - r.mean())), days_to_next > 1
    begin, end = rows[np.append(True, apart)], rows[np.append(apart, True)] + 1
    total, moved = np.zeros(n), starts - first[:, None]
    for block, a, b in zip(np.searchsorted(first, begin, side="right") - 1, begin, end, strict=True):
        total += running[moved[block] + b] - running[moved[block] + a]
    null = r.mean() + total / len(rows)
    at_least = int((null >= r[rows].mean() - TIE_TOLERANCE * np.abs(r).max()).sum())
    return (1 + at_least) / (1 + n), null


def regression_tests(returns: ArrayLike, marks: ArrayLike, horizon: int) -> dict[str, float]:
    """t-values of the event mark as the literature prints them; they count days, of which hundreds may be one event.

    Least squares on a constant and the mark: the slope is sum g_t r_t, g_t = (e_t - mean e) / sum (e - mean e)^2; with
    residuals u and z_t = g_t u_t its variance is the sum over lags |l| < horizon of w_l sum z_t z_(t-l): Newey and West
    (1987) with w_l = 1 - |l|/horizon, which is the sum of squares of z added up over `horizon` days, over `horizon`;
    Hansen and Hodrick (1980) with w_l = 1, each z_t times all z less than `horizon` days away. `returns`: over
    `horizon` days, no NaN; `marks`: booleans or counts. Keys: coef (the slope), t_ols, t_hac, t_hansen_hodrick and the
    same with p (normal, one-sided: higher); NaN where nothing can be estimated. `ValueError` for what cannot be used.
    """
    r, e = np.asarray(returns, dtype=float), np.asarray(marks).astype(float)
    if r.shape != e.shape or r.ndim != 1 or np.isnan(r).any() or horizon < 1:
        raise ValueError("need returns without NaN, as many marks, and horizon >= 1")
    n, slope, t = len(r), np.nan, dict.fromkeys(("ols", "hac", "hansen_hodrick"), np.nan)
    if n > 2 and np.ptp(e) > 0:
        weight = (e - e.mean()) / ((e - e.mean()) ** 2).sum()
        slope = float(weight @ r)
        residual = r - r.mean() - slope * (e - e.mean())
        z, h = weight * residual, min(horizon, n)
        running = np.cumsum(np.pad(z, (h, h)))  # of which the difference over h days is a sum of h values of z
        windows = running[h:] - running[:-h]
        around = running[2 * h - 1 : -1] - running[: -2 * h]  # the values less than h days away from each
        plain = float(residual @ residual / (n - 2) * (weight @ weight))
        variances = (plain, float(windows @ windows / h), float(z @ around))
        t = {name: slope / v**0.5 if v > 1e-9 * plain else np.nan for name, v in zip(t, variances, strict=True)}
    p = {f"p_{name}": float(ndtr(-value)) for name, value in t.items()}
    return {"coef": slope, **{f"t_{name}": value for name, value in t.items()}, **p}
