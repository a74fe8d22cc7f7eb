"""The exact rotation test of every pair of a sweep, and of the best of them all, in one pass.

Picking the best of thousands of pairs finds something in any noise. Rotating the crossings of all pairs together, by
the same number of days, keeps how alike they are, and the largest standardised excess of each rotation is what luck
offers to someone who may choose. The best pair has to beat that (Westfall and Young 1993; White 2000).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from capitulation.study.chunks import ChunkMap, map_here
from capitulation.study.rotation import TIE_TOLERANCE
from capitulation.study.sweep import (
    FASTS_PER_GROUP,
    Group,
    Pair,
    SweepInputs,
    crossings,
    pair_groups,
    pieces_of,
    sweep_inputs,
)
from capitulation.study.sweep_figures import anchor_events
from capitulation.study.transforms import transform_length

COLUMNS = ("fast_days", "slow_days", "n_events", "excess_log", "z", "p_rotation")


class _Rotor:
    """Sums of the returns under rotated events, many rules at a time; its buffers serve one group after the other.

    Fresh memory for every group would cost more than the arithmetic, page by page.
    """

    def __init__(self, centred: np.ndarray) -> None:
        self.n, self.length = len(centred), transform_length(len(centred))
        twice = centred if self.length == self.n else np.concatenate([centred, centred[:-1]])
        self.spectrum = np.fft.rfft(twice, self.length)
        self.flags = np.zeros((FASTS_PER_GROUP, self.length))
        self.transformed = np.empty((FASTS_PER_GROUP, len(self.spectrum)), dtype=complex)
        self.out = np.empty((FASTS_PER_GROUP, self.length))

    def sums(self, rows: int, pair: np.ndarray, day: np.ndarray) -> np.ndarray:
        """S[i, k]: sum of the returns with the events (pair i, day) moved k days later; valid until the next call."""
        flags, transformed, out = self.flags[:rows], self.transformed[:rows], self.out[:rows]
        flags[pair, day] = 1.0
        np.fft.rfft(flags, out=transformed)
        flags[pair, day] = 0.0
        np.conjugate(transformed, out=transformed)
        transformed *= self.spectrum
        return np.fft.irfft(transformed, self.length, out=out)[:, : self.n]


def _tested(sums: np.ndarray, ties: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(z, one-sided p) of each rule and the best z of every rotation; NaN for a rule without events.

    `ties`: how much below the observed sum of a rule still counts as equal. Changes `sums`.
    """
    spread = np.sqrt(np.einsum("ij,ij->i", sums, sums) / sums.shape[1])
    live = spread > TIE_TOLERANCE * scale
    own = np.where(live, sums[:, 0], np.nan)
    at_least = np.count_nonzero(sums >= (own - ties)[:, None], axis=1)
    sums /= np.where(live, spread, np.inf)[:, None]
    best = sums.max(axis=0, initial=-np.inf, where=live[:, None])
    return np.where(live, sums[:, 0], np.nan), np.where(live, at_least / sums.shape[1], np.nan), best


def _piece_rotations(
    shared: tuple[SweepInputs, str, slice], piece: Sequence[Group]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Columns of all pairs of a piece, and the best z of every rotation."""
    inputs, anchor, sample = shared
    returns = inputs.forward[0, sample]
    centred = returns - returns.mean()
    rotor, parts, best = _Rotor(centred), [], np.full(len(returns), -np.inf)
    for slow, fasts in piece:
        pair, rows = anchor_events(inputs, crossings(inputs, (slow, fasts)), anchor)
        inside = (rows >= sample.start) & (rows < sample.stop)
        pair, day = pair[inside], rows[inside] - sample.start
        events = np.bincount(pair, minlength=len(fasts))
        sums = rotor.sums(len(fasts), pair, day)
        with np.errstate(invalid="ignore", divide="ignore"):
            excess = np.bincount(pair, weights=centred[day], minlength=len(fasts)) / events
        ties = TIE_TOLERANCE * np.abs(centred).max() * events
        z, p, group_best = _tested(sums, ties, np.abs(centred).sum())
        best = np.maximum(best, group_best)
        parts.append((np.array(fasts), np.full(len(fasts), slow), events, excess, z, p))
    return dict(zip(COLUMNS, map(np.concatenate, zip(*parts, strict=True)), strict=True)), best


def _sample_rows(inputs: SweepInputs) -> slice:
    """Rows whose outcome is known; `ValueError` where there are none, or one is missing in between."""
    known = np.flatnonzero(~np.isnan(inputs.forward[0]))
    if not len(known) or known[-1] - known[0] >= len(known):
        raise ValueError("the rotation test needs consecutive days whose outcome is known")
    return slice(int(known[0]), int(known[-1]) + 1)


def sweep_rotation(
    signal: pd.Series,
    price: pd.Series,
    pairs: Iterable[Pair],
    horizon_days: int,
    lag_days: int = 1,
    sample_start: str = "",
    anchor: str = "recovery",
    map_chunks: ChunkMap = map_here,
) -> pd.DataFrame:
    """Exact rotation test of each pair of moving averages, alone and as one of the family.

    Arguments as `sweep_figures.sweep`. All rotations of the days whose outcome is known are counted.

    Returns
    -------
    DataFrame, one row per pair, by slow, then fast: fast_days, slow_days, n_events, excess_log (mean log return of the
    events minus that of every day), z (excess over its standard deviation over rotations), p_rotation (one-sided, this
    pair alone), p_family (share of common rotations in which the best of all pairs does at least as well). NaN without
    events.

    Raises
    ------
    ValueError as `sweep`, and where a price is missing within the sample.
    """
    groups = pair_groups(pairs)
    windows = {window for slow, fasts in groups for window in (slow, *fasts)}
    inputs = sweep_inputs(signal, price, windows, [horizon_days], lag_days, sample_start)
    shared = (inputs, anchor, _sample_rows(inputs))
    parts, bests = zip(*map_chunks(_piece_rotations, shared, pieces_of(groups)), strict=True)
    table = pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in COLUMNS})
    null = np.sort(np.max(bests, axis=0))
    at_least = len(null) - np.searchsorted(null, table["z"].to_numpy() - TIE_TOLERANCE)
    return table.assign(p_family=np.where(table["z"].isna(), np.nan, at_least / len(null)))
