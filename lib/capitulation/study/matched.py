"""Random entries that resemble the events: same halving era, same state of the market, same spacing.

A rule that buys after deep falls competes with other days after deep falls, not with any day. Events close to each
other move together as a block, so that their spacing stays; blocks keep at least the distance that the closest two
observed ones have. Everything that is matched was known on the entry day.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from capitulation.study.rotation import TIE_TOLERANCE

MOMENTUM_DAYS = 90
DRAWDOWN_EDGES = (0.2, 0.5)
BLOCK_GAP_DAYS = 90
"""Signals come in bursts. Moving each burst as one keeps the test honest; scattering its members singly found nearly
three times as many effects as there should be on simulated markets without any."""
MIN_CANDIDATES = 30
RETRIES = 30
UNKNOWN = -1


@dataclass(frozen=True)
class MatchedResult:
    """Outcome of a matched-entries test.

    observed : mean log return of the events. p : share of random sets, the observed one counted in, whose mean is at
    least that. null : shape (n,), mean of each random set. n_blocks : groups of events moved as one. n_coarsened :
    blocks with too few like days, matched on era and momentum or on era alone. spaced : share of placements that kept
    the distance.
    """

    observed: float
    p: float
    null: np.ndarray
    n_blocks: int
    n_coarsened: int
    spaced: float


def entry_states(price: pd.Series) -> pd.DataFrame:
    """State of the market on each day, from prices up to that day alone: index `price`, integer columns.

    momentum : 1 where the log return of the past 90 days is positive, else 0. drawdown : 0, 1, 2 for a price less than
    20 %, 20 to 50 %, and more than 50 % below its running peak. -1 where not known.
    """
    log_price = np.log(price.astype(float))
    past = log_price.diff(MOMENTUM_DAYS)
    fallen = 1 - np.exp(log_price - log_price.cummax())
    momentum = np.where(past.isna(), UNKNOWN, past > 0)
    depth = np.where(fallen.isna(), UNKNOWN, np.digitize(fallen.fillna(0), DRAWDOWN_EDGES))
    return pd.DataFrame({"momentum": momentum, "drawdown": depth}, index=price.index).astype("int64")


def match_levels(era: ArrayLike, states: pd.DataFrame) -> np.ndarray:
    """Cells of like days, shape (3, days): era with momentum and drawdown, era with momentum, era alone."""
    era_code = np.unique(np.asarray(era), return_inverse=True)[1]
    momentum, drawdown = (states[name].to_numpy() + 1 for name in ("momentum", "drawdown"))
    return np.array([(era_code * 3 + momentum) * 4 + drawdown, era_code * 3 + momentum, era_code])


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    """Event rows in groups that move as one: gaps of at most 90 days stay within a group."""
    return np.split(rows, np.flatnonzero(np.diff(rows) > BLOCK_GAP_DAYS) + 1)


def _candidates(levels: np.ndarray, block: np.ndarray) -> tuple[np.ndarray, bool]:
    """Days on which the block may start, and whether matching had to be coarsened to find enough of them."""
    last_start = levels.shape[1] - (block[-1] - block[0])
    pools = [np.flatnonzero(cells[:last_start] == cells[block[0]]).astype(np.int32) for cells in levels]
    depth = next((i for i, pool in enumerate(pools) if len(pool) >= MIN_CANDIDATES), len(pools) - 1)
    return pools[depth], depth > 0


def _draw(pool: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    return pool[rng.integers(0, len(pool), n)]


def _clashes(start: np.ndarray, reach: int, begins: np.ndarray, reaches: np.ndarray) -> np.ndarray:
    """Sets in which a block at `start` comes too close to one placed before; `reach` is a block's length and the gap.

    `begins`: shape (blocks placed, sets), `reaches`: shape (blocks placed,).
    """
    near = (start < begins + reaches[:, None]) & (begins < start + reach)
    return near.any(axis=0)


def _place(
    pools: list[np.ndarray], lengths: np.ndarray, gap: int, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Random start of every block in `n` sets, shape (blocks, n), the longest placed first; share that kept the gap."""
    starts = np.zeros((len(pools), n), dtype=np.int32)
    order, reaches = np.argsort(-lengths, kind="stable"), (lengths + gap).astype(np.int32)
    clashing = 0
    for turn, b in enumerate(order):
        begins, others = starts[order[:turn]], reaches[order[:turn]]
        pick = _draw(pools[b], n, rng)
        bad = np.flatnonzero(_clashes(pick, reaches[b], begins, others))
        for _ in range(RETRIES):
            if not len(bad):
                break
            pick[bad] = _draw(pools[b], len(bad), rng)
            bad = bad[_clashes(pick[bad], reaches[b], begins[:, bad], others)]
        starts[b] = pick
        clashing += len(bad)
    return starts, 1 - clashing / starts.size


def _set_sums(returns: np.ndarray, blocks: list[np.ndarray], starts: np.ndarray) -> np.ndarray:
    """Sum of returns of each random set, shape (sets,): runs of days in a block are differences of running sums."""
    running = np.concatenate([[0.0], np.cumsum(returns)])
    total = np.zeros(starts.shape[1])
    for block, start in zip(blocks, starts, strict=True):
        for run in np.split(block - block[0], np.flatnonzero(np.diff(block) > 1) + 1):
            total += running[start + run[-1] + 1] - running[start + run[0]]
    return total


def matched_test(
    returns: ArrayLike, events: ArrayLike, levels: np.ndarray, n: int = 2000, seed: int | list[int] = 0
) -> MatchedResult:
    """Matched random entries on arrays: `returns` and `events` of shape (days,), `levels` from `match_levels`.

    The mean return of the events against `n` sets of random entries; p = (1 + sets at least as good) / (1 + n).
    NaN and an empty null without any event. `ValueError` for NaN returns or unequal lengths.
    """
    r, e = np.asarray(returns, dtype=float), np.asarray(events, dtype=bool)
    if r.shape != e.shape or levels.shape[-1:] != r.shape or np.isnan(r).any() or n < 1:
        raise ValueError("need returns without NaN, events and levels of as many days, and n >= 1")
    rows = np.flatnonzero(e)
    if not len(rows):
        return MatchedResult(np.nan, np.nan, np.empty(0), 0, 0, np.nan)
    blocks = _blocks(rows)
    lengths = np.array([block[-1] - block[0] + 1 for block in blocks])
    gaps = [after[0] - before[-1] - 1 for before, after in pairwise(blocks)]
    pools, coarse = zip(*(_candidates(levels, block) for block in blocks), strict=True)
    starts, spaced = _place(list(pools), lengths, min(gaps, default=0), n, np.random.default_rng(seed))
    null = r.mean() + _set_sums(r - r.mean(), blocks, starts) / len(rows)
    observed = float(r[rows].mean())
    at_least = int((null >= observed - TIE_TOLERANCE * np.abs(r).max()).sum())
    return MatchedResult(observed, (1 + at_least) / (1 + n), null, len(blocks), sum(coarse), spaced)


def matched_entries_test(
    panel: pd.DataFrame, days: pd.DatetimeIndex, returns: pd.Series, era: pd.Series, n: int = 2000, seed: int = 0
) -> MatchedResult:
    """Test that the mean return after `days` is no higher than after random entries like them.

    Parameters
    ----------
    panel : daily panel (its `price_usd` gives momentum and drawdown).
    days : event days; those outside `returns` (before the sample, outcome not known) are left out.
    returns : log returns, index the days of the sample, NaN left out.
    era : halving era of each day, index at least that of `returns`.
    n, seed : random sets and seed.

    Returns
    -------
    MatchedResult; with no event NaN.
    """
    known = returns.dropna()
    levels = match_levels(era.reindex(known.index), entry_states(panel["price_usd"]).reindex(known.index))
    return matched_test(known.to_numpy(), known.index.isin(days), levels, n, seed)
