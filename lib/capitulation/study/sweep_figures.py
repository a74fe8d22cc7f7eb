"""Figures of each pair of a sweep, from its crossings alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from capitulation.study.chunks import ChunkMap, map_here
from capitulation.study.performance import DAYS_PER_YEAR
from capitulation.study.sweep import (
    Crossings,
    Group,
    Pair,
    SweepInputs,
    crossings,
    pair_groups,
    pieces_of,
    sweep_inputs,
)

ANCHORS = ("recovery", "start")
EVENT_COLUMNS = ("n_events", "mean_log", "excess_log", "hit_rate")


def _sum_by(pair: np.ndarray, n_pairs: int, values: np.ndarray) -> np.ndarray:
    return np.bincount(pair, weights=values, minlength=n_pairs)


def stays(inputs: SweepInputs, found: Crossings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pair, entry row, exit row) of each time in the market: recovery to the next start, both `lag` days later.

    Exit row n means still open on the last day. A signal before the sample's first row does not count; a trade that
    falls due on a day without a price is done at the next one with.
    """
    n = inputs.means.shape[1]
    follows = np.append(found.pair[1:] == found.pair[:-1], False)
    leave = np.where(follows, np.append(found.start[1:], n), n) + inputs.lag
    enter = inputs.next_priced[np.minimum(found.recovery + inputs.lag, n)]
    leave = inputs.next_priced[np.minimum(leave, n)]
    held = (enter < leave) & (found.recovery >= inputs.first_row)
    return found.pair[held], enter[held], leave[held]


def long_flat(inputs: SweepInputs, found: Crossings, n_pairs: int) -> dict[str, np.ndarray]:
    """n_trades, total_return and sharpe (annualised) of being long outside inversions, per pair.

    The sums of daily returns and of their squares over each stay are differences of cumulative sums; the day of a
    purchase bears its cost, the day of a sale earns its return less the cost.
    """
    pair, enter, leave = stays(inputs, found)
    n, costs = inputs.means.shape[1], inputs.costs
    last = np.minimum(leave, n - 1)
    bought, kept = np.expm1(costs.log_buy), np.exp(costs.log_sell)
    sold = leave < n
    at_sale = inputs.returns[last]
    after = (1 + at_sale) * kept - 1
    first, square = inputs.return_sums, inputs.square_sums
    sums = first[last] - first[enter] + bought + np.where(sold, after - at_sale, 0.0)
    squares = square[last] - square[enter] + bought**2 + np.where(sold, after**2 - at_sale**2, 0.0)
    growth = inputs.log_price[last] - inputs.log_price[enter] + costs.log_buy + np.where(sold, costs.log_sell, 0.0)
    return {
        "n_trades": np.bincount(pair, minlength=n_pairs),
        "total_return": np.expm1(_sum_by(pair, n_pairs, growth)),
        "sharpe": _sharpe(_sum_by(pair, n_pairs, sums), _sum_by(pair, n_pairs, squares), n - 1 - inputs.first_row),
    }


def _sharpe(sums: np.ndarray, squares: np.ndarray, n: int) -> np.ndarray:
    """Annualised Sharpe ratio of n daily returns from their sum and sum of squares; NaN where nothing was earned."""
    variance = (squares - sums**2 / n) / (n - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(squares > 0, sums / n / np.sqrt(variance) * np.sqrt(DAYS_PER_YEAR), np.nan)


def anchor_events(inputs: SweepInputs, found: Crossings, anchor: str) -> tuple[np.ndarray, np.ndarray]:
    """(pair, row) of every event of the anchor that has happened."""
    rows = found.recovery if anchor == "recovery" else found.start
    happened = rows < inputs.means.shape[1]
    return found.pair[happened], rows[happened]


def event_figures(inputs: SweepInputs, found: Crossings, n_pairs: int, anchor: str) -> dict[str, np.ndarray]:
    """EVENT_COLUMNS at each horizon, named `<column>_<horizon>d`, per pair; NaN without events."""
    pair, rows = anchor_events(inputs, found, anchor)
    out = {}
    for horizon, forward in zip(inputs.horizons, inputs.forward, strict=True):
        values = forward[rows]
        known = ~np.isnan(values)
        count = np.bincount(pair[known], minlength=n_pairs)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = _sum_by(pair[known], n_pairs, values[known]) / count
            hits = _sum_by(pair[known], n_pairs, values[known] > 0) / count
        figures = (count, mean, mean - np.nanmean(forward) if known.any() else mean, hits)
        out |= {f"{name}_{horizon}d": column for name, column in zip(EVENT_COLUMNS, figures, strict=True)}
    return out


def _group_figures(inputs: SweepInputs, group: Group, anchor: str) -> dict[str, np.ndarray]:
    slow, fasts = group
    found, n_pairs, n = crossings(inputs, group), len(fasts), inputs.means.shape[1]
    inside = np.maximum(found.recovery - np.maximum(found.start, inputs.first_row), 0)
    recovered = found.pair[found.recovery < n]
    return {
        "fast_days": np.array(fasts),
        "slow_days": np.full(n_pairs, slow),
        "n_starts": np.bincount(found.pair, minlength=n_pairs),
        "n_recoveries": np.bincount(recovered, minlength=n_pairs),
        "share_inverted": _sum_by(found.pair, n_pairs, inside) / (n - inputs.first_row),
        **long_flat(inputs, found, n_pairs),
        **event_figures(inputs, found, n_pairs, anchor),
    }


def _piece_figures(shared: tuple[SweepInputs, str], piece: Sequence[Group]) -> dict[str, np.ndarray]:
    """Figures of all pairs of a piece, one array per column."""
    parts = [_group_figures(shared[0], group, shared[1]) for group in piece]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def sweep(
    signal: pd.Series,
    price: pd.Series,
    pairs: Iterable[Pair],
    horizons_days: Sequence[int] = (),
    lag_days: int = 1,
    sample_start: str = "",
    anchor: str = "recovery",
    fee_bps: float = 0.0,
    slippage_bps: float = 0.0,
    map_chunks: ChunkMap = map_here,
) -> pd.DataFrame:
    """Every pair of moving averages of a signal, and what price did around its crossings.

    Parameters
    ----------
    signal, price : Series, shape (n,), same daily index; the signal in any unit, price in USD at the close; NaN =
        unknown.
    pairs : (fast, slow) windows in days, fast < slow.
    horizons_days, lag_days : forward returns run from the close `lag_days` after a crossing.
    sample_start : first day of the study (ISO); events, baseline and trades before it do not count. "": the first
        known price.
    anchor : which crossing the events are: "recovery" (fast back above slow) or "start" (fast below slow).
    fee_bps, slippage_bps : per trade and side.
    map_chunks : where the pieces run (`study.chunks`): here by default, `threads()`, or `dask(client)`; the result is
        the same bit for bit.

    Returns
    -------
    DataFrame, one row per pair, by slow, then fast: fast_days, slow_days; n_starts, n_recoveries over the whole
    series; share_inverted of the sample's days; n_trades, total_return, sharpe (annualised with 365, over the sample's
    daily returns) of being long from each recovery to the next start; then n_events, mean_log, excess_log (over every
    day of the sample) and hit_rate, each with the suffix _<horizon>d.

    Raises
    ------
    ValueError for a pair whose fast window is not the smaller, unequal indexes, or a price that is not positive.

    >>> days = pd.date_range("2020-01-01", periods=8)
    >>> wave = pd.Series([4.0, 3.0, 2.0, 3.0, 4.0, 5.0, 4.0, 3.0], days)
    >>> sweep(wave, wave, [(1, 2)], lag_days=0)[["n_starts", "n_recoveries", "total_return"]].round(3).values.tolist()
    [[2.0, 1.0, 0.333]]
    """
    if anchor not in ANCHORS:
        raise ValueError(f"anchor={anchor!r}: must be one of {', '.join(ANCHORS)}")
    groups = pair_groups(pairs)
    if not groups:
        raise ValueError("no pairs to sweep")
    windows = {window for slow, fasts in groups for window in (slow, *fasts)}
    inputs = sweep_inputs(signal, price, windows, horizons_days, lag_days, sample_start, fee_bps, slippage_bps)
    parts = list(map_chunks(_piece_figures, (inputs, anchor), pieces_of(groups)))
    return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
