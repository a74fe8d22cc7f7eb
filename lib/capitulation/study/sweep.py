"""Every pair of moving averages at once: states, crossings, what followed them, and long/flat returns.

A pair is inverted while the fast mean of a signal (hash rate, price) is below the slow one. Three facts make thousands
of pairs cheap. Each mean is computed once, from one cumulative sum, however many pairs use it. A pair's history is its
few crossings: a comparison and an exclusive or per day find them, and nothing else looks at every day. And what
happened between two crossings is a difference of cumulative sums. Pairs are worked off in groups that share the slow
mean, so memory does not grow with their number.

Definitions are those of `mining.ribbons`, `episodes` and `study.backtest`: full windows only; start = first inverted
day, recovery = first known day after it that is not; long from each recovery (+ lag) to the next start (+ lag).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from capitulation.study.backtest import Costs

PAIRS_PER_PIECE = 512
FASTS_PER_GROUP = 128
WORD_BYTES = 8

Pair = tuple[int, int]
Group = tuple[int, tuple[int, ...]]
"""A slow window and the fast windows compared with it."""


@dataclass(frozen=True)
class SweepInputs:
    """What every pair needs; built once (`sweep_inputs`), sent to each worker once.

    means : shape (windows, n), rolling means of the signal, NaN where the window is not full.
    window_rows : row of each window in `means`.
    gaps : whether the signal has a missing day after its first known one.
    log_price, returns : shape (n,), log of the last known price (of the first before it) and simple return of each day.
    return_sums, square_sums : shape (n,), cumulative sums of the returns and of their squares.
    next_priced : shape (n + 1,), first row with a price at or after each row, n where there is none.
    forward : shape (horizons, n), forward log returns of the sample's days, NaN where unknown or before the sample.
    """

    means: np.ndarray
    window_rows: dict[int, int]
    gaps: bool
    log_price: np.ndarray
    returns: np.ndarray
    return_sums: np.ndarray
    square_sums: np.ndarray
    next_priced: np.ndarray
    forward: np.ndarray
    horizons: tuple[int, ...]
    first_row: int
    lag: int
    costs: Costs


@dataclass(frozen=True)
class Crossings:
    """Crossings of a group of pairs, in order of pair, then time: each start with the recovery that follows it.

    pair : row in the group; start, recovery : row of the day, n for a recovery that has not come.
    """

    pair: np.ndarray
    start: np.ndarray
    recovery: np.ndarray


def window_means(signal: ArrayLike, windows: Sequence[int]) -> np.ndarray:
    """Rolling means of one series, shape (windows, n), from one cumulative sum; NaN unless the window is full.

    Equal to `mining.hash_rate.rolling_mean` up to rounding (1e-13), so a comparison of two means can only differ where
    they tie; on the real hash rate that happens in 2009 alone, when difficulty was 1 and blocks are whole numbers.

    >>> window_means([1.0, 2.0, 6.0], [1, 2]).tolist()
    [[1.0, 2.0, 6.0], [nan, 1.5, 4.0]]
    """
    values = np.asarray(signal, dtype=float)
    known = ~np.isnan(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    out = np.full((len(windows), len(values)), np.nan)
    for row, days in zip(out, windows, strict=True):
        if days < 1:
            raise ValueError(f"window of {days} days: must be at least 1")
        full = counts[days:] - counts[:-days] == days
        row[days - 1 :] = np.where(full, (sums[days:] - sums[:-days]) / days, np.nan)[: max(len(row) - days + 1, 0)]
    return out


def pair_grid(fast: Iterable[int], slow: Iterable[int]) -> list[Pair]:
    """Every (fast, slow) with fast < slow, ordered by slow, then fast.

    >>> pair_grid([2, 3], [3, 4])
    [(2, 3), (2, 4), (3, 4)]
    """
    fasts = sorted(set(fast))
    return [(f, s) for s in sorted(set(slow)) for f in fasts if f < s]


def pair_groups(pairs: Iterable[Pair]) -> list[Group]:
    """The pairs by slow window, in ascending order, at most FASTS_PER_GROUP fast windows each; repeats are dropped."""
    by_slow: dict[int, set[int]] = {}
    for fast, slow in pairs:
        if not 0 < fast < slow:
            raise ValueError(f"pair ({fast}, {slow}): fast must be positive and smaller than slow")
        by_slow.setdefault(slow, set()).add(fast)
    parts = []
    for slow in sorted(by_slow):
        fasts = sorted(by_slow[slow])
        parts += [(slow, tuple(fasts[i : i + FASTS_PER_GROUP])) for i in range(0, len(fasts), FASTS_PER_GROUP)]
    return parts


def pieces_of(groups: Sequence[Group], pairs_per_piece: int = PAIRS_PER_PIECE) -> list[list[Group]]:
    """Groups bundled into pieces of about `pairs_per_piece` pairs: one task each, whoever works on it."""
    pieces: list[list[Group]] = []
    room = 0
    for group in groups:
        if room <= 0:
            pieces.append([])
            room = pairs_per_piece
        pieces[-1].append(group)
        room -= len(group[1])
    return pieces


def _price_columns(price: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(log of the last known price, simple return of each day, first row with a price at or after each row)."""
    known, n = ~np.isnan(price), len(price)
    if not known.any() or not (price[known] > 0).all():
        raise ValueError("price must hold a known value, and every known one must be positive")
    last = np.maximum.accumulate(np.where(known, np.arange(n), int(np.argmax(known))))
    log_price = np.log(price[last])
    ahead = np.append(np.where(known, np.arange(n), n), n)
    next_priced = np.minimum.accumulate(ahead[::-1])[::-1]
    return log_price, np.concatenate([[0.0], np.expm1(np.diff(log_price))]), next_priced


def _forward(price: np.ndarray, first: int, horizons: Sequence[int], lag: int) -> np.ndarray:
    """Forward log returns of days from row `first` on, shape (horizons, n), NaN elsewhere and where not known."""
    log_price, out = np.log(price), np.full((len(horizons), len(price)), np.nan)
    for row, horizon in zip(out, horizons, strict=True):
        stop = len(log_price) - lag - horizon
        if stop > first:
            row[first:stop] = log_price[first + lag + horizon :] - log_price[first + lag : stop + lag]
    return out


def sweep_inputs(
    signal: pd.Series,
    price: pd.Series,
    windows: Iterable[int],
    horizons_days: Sequence[int] = (),
    lag_days: int = 1,
    sample_start: str = "",
    fee_bps: float = 0.0,
    slippage_bps: float = 0.0,
) -> SweepInputs:
    """Everything that pairs over `windows` share; see `sweep` for the arguments."""
    if not signal.index.equals(price.index):
        raise ValueError("signal and price must have the same index")
    days = sorted(set(windows))
    values, prices = signal.to_numpy("float64"), price.to_numpy("float64")
    log_price, returns, next_priced = _price_columns(prices)
    known = np.flatnonzero(~np.isnan(values))
    first = max(int(price.index.searchsorted(pd.Timestamp(sample_start))) if sample_start else 0, _first(prices))
    return SweepInputs(
        means=window_means(values, days),
        window_rows={window: row for row, window in enumerate(days)},
        gaps=len(known) > 0 and len(known) < len(values) - known[0],
        log_price=log_price,
        returns=returns,
        return_sums=np.cumsum(returns),
        square_sums=np.cumsum(returns**2),
        next_priced=next_priced,
        forward=_forward(prices, first, horizons_days, lag_days),
        horizons=tuple(horizons_days),
        first_row=first,
        lag=lag_days,
        costs=Costs(fee_bps, slippage_bps),
    )


def _first(values: np.ndarray) -> int:
    return int(np.argmax(~np.isnan(values)))


def _inverted(inputs: SweepInputs, group: Group) -> np.ndarray:
    """Flags of the group as bytes, shape (pairs * (n + 1) + padding,): each row one False, then its n days.

    The False ends an inversion that still holds on the last day, so that starts and ends always alternate.
    """
    n, fasts = inputs.means.shape[1], [inputs.window_rows[fast] for fast in group[1]]
    slow = inputs.means[inputs.window_rows[group[0]]]
    size = len(fasts) * (n + 1)
    flat = np.zeros(-(-(size + 1) // WORD_BYTES) * WORD_BYTES, dtype=bool)
    flags = flat[:size].reshape(len(fasts), n + 1)[:, 1:]
    contiguous = fasts[-1] - fasts[0] == len(fasts) - 1
    fast = inputs.means[fasts[0] : fasts[-1] + 1] if contiguous else inputs.means[fasts]
    np.less(fast, slow, out=flags)
    if inputs.gaps:
        # A day that is not known keeps the state of the last known one: it neither starts nor ends an inversion.
        last_known = np.maximum.accumulate(np.where(np.isnan(slow), -1, np.arange(n)))
        flags[:] = flags[:, np.maximum(last_known, 0)] & (last_known >= 0)
    return flat.view(np.uint8)


def _changes(flat: np.ndarray) -> np.ndarray:
    """Positions at which a byte differs from the one before; found eight bytes at a time, since changes are rare."""
    changed = np.zeros_like(flat)
    np.bitwise_xor(flat[1:], flat[:-1], out=changed[1:])
    eights = changed.view(np.uint64)
    words = np.flatnonzero(eights != 0)
    # Flags in one dimension are what numpy finds fastest; position // 8 is the word, the rest the byte in it.
    byte = np.flatnonzero(eights[words].view(bool))
    return words[byte // WORD_BYTES] * WORD_BYTES + byte % WORD_BYTES


def crossings(inputs: SweepInputs, group: Group) -> Crossings:
    """Starts and recoveries of every pair of a group."""
    width = inputs.means.shape[1] + 1
    at = _changes(_inverted(inputs, group))
    pair, start = np.divmod(at[0::2], width)
    return Crossings(pair, start - 1, at[1::2] - pair * width - 1)
