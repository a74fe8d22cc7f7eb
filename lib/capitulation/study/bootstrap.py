"""Stationary-bootstrap intervals of the mean excess after events.

Days are drawn in blocks of random length (Politis and Romano 1994), the return and the event mark of a day together, so
that overlap, clusters and the scarcity of events all show in the width. The index draws come from `arch`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

CHUNK = 128
MIN_CLUSTERS = 2
METHODS = ("t", "percentile")


def _draw_counts(n: int, block_days: int, n_resamples: int, seed: int | list[int]) -> Iterator[np.ndarray]:
    """How often each of `n` days appears in each resample, in chunks of shape (up to 128, n)."""
    from arch.bootstrap import StationaryBootstrap

    draws = StationaryBootstrap(block_days, np.arange(n), seed=np.random.default_rng(seed)).bootstrap(n_resamples)
    rows: list[np.ndarray] = []
    for data, _ in draws:
        rows.append(np.bincount(data[0], minlength=n))
        if len(rows) == CHUNK:
            yield np.array(rows, dtype=float)
            rows = []
    if rows:
        yield np.array(rows, dtype=float)


def bootstrap_excess(
    returns: ArrayLike, events: ArrayLike, block_days: int, n: int = 2000, seed: int | list[int] = 0
) -> np.ndarray:
    """Mean return of the events minus that of every day, in each resample.

    Parameters
    ----------
    returns : shape (days,), log returns, no NaN.
    events : shape (rules, days), boolean or counts; all rules share the resamples.
    block_days : mean block length, at least the horizon of the returns.
    n, seed : resamples and seed (an int or a list of them).

    Returns
    -------
    ndarray, shape (n, rules); NaN where a resample holds no event of the rule.
    """
    r, e = np.asarray(returns, dtype=float), np.atleast_2d(np.asarray(events)).astype(float)
    if e.shape[1] != len(r) or np.isnan(r).any() or block_days < 1 or n < 1:
        raise ValueError("need returns without NaN, events of as many days, block_days >= 1 and n >= 1")
    weights = np.vstack([e * r, e, r[None, :]]).T
    sums = np.vstack([counts @ weights for counts in _draw_counts(len(r), block_days, n, seed)])
    k = len(e)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(sums[:, k : 2 * k] > 0, sums[:, :k] / sums[:, k : 2 * k], np.nan)
    return means - sums[:, [-1]] / len(r)


def count_clusters(events: ArrayLike, min_gap_days: int) -> np.ndarray:
    """Groups of events of each rule, one closer than `min_gap_days` to the event before it joining that one's.

    `events`: shape (rules, days). Shape (rules,), integer.

    >>> count_clusters([[1, 1, 0, 0, 0, 1]], 3).tolist()
    [2]
    """
    rows = (np.flatnonzero(row) for row in np.atleast_2d(np.asarray(events)) > 0)
    return np.array([int((np.diff(at) >= min_gap_days).sum()) + 1 if len(at) else 0 for at in rows])


def mean_excess_intervals(
    returns: ArrayLike,
    events: ArrayLike,
    block_days: int,
    n: int = 2000,
    confidence: float = 0.95,
    seed: int | list[int] = 0,
    method: str = "t",
) -> np.ndarray:
    """Interval of the mean excess of every rule at once: shape (rules, 2), low and high; as `mean_excess_interval`."""
    from scipy.stats import t

    if method not in METHODS or not 0 < confidence < 1:
        raise ValueError(f"need method in {METHODS} and confidence in (0, 1), got {method!r} and {confidence}")
    r, e = np.asarray(returns, dtype=float), np.atleast_2d(np.asarray(events)).astype(float)
    draws = bootstrap_excess(r, e, block_days, n, seed)
    clusters = count_clusters(e, block_days)
    out = np.full((len(e), 2), np.nan)
    for i in np.flatnonzero(clusters >= MIN_CLUSTERS):
        known = draws[~np.isnan(draws[:, i]), i]
        if method == "percentile":
            out[i] = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
            continue
        half = t.ppf((1 + confidence) / 2, clusters[i] - 1) * known.std(ddof=1)
        excess = r @ e[i] / e[i].sum() - r.mean()
        out[i] = excess - half, excess + half
    return out


def mean_excess_interval(
    returns: ArrayLike,
    events: ArrayLike,
    block_days: int,
    n: int = 2000,
    confidence: float = 0.95,
    seed: int | list[int] = 0,
    method: str = "t",
) -> tuple[float, float]:
    """Stationary-bootstrap interval of the mean return after events minus that of every day.

    Parameters
    ----------
    returns : shape (days,), log returns of consecutive days, no NaN.
    events : shape (days,), boolean or counts.
    block_days : mean block length; at least the horizon, else the overlap is cut and the interval too short.
    n, seed : resamples and seed.
    confidence : wanted coverage.
    method : "t" (default): excess ± Student quantile with (clusters - 1) degrees of freedom times the bootstrap's
        standard error, clusters being events at least `block_days` apart. "percentile": quantiles of the resamples,
        which on a random walk with 4 to 20 events covered 83 to 96 % where 95 % was asked; "t" covered 95 to 98 %.

    Returns
    -------
    (low, high); NaN for fewer than two clusters, from which no spread can be learnt.

    Raises
    ------
    ValueError for NaN returns, lengths that differ or options out of range.
    """
    low, high = mean_excess_intervals(returns, np.asarray(events)[None, :], block_days, n, confidence, seed, method)[0]
    return float(low), float(high)
