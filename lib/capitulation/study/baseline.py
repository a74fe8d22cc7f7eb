"""What an event is compared with, when drift changes from era to era and price itself makes the events.

Two things bend a plain comparison of days after a capitulation with any day. Drift falls from one halving era to the
next while capitulations become more frequent, so the average day is an earlier, better day. And a capitulation comes
after a fall in price: the fall is part of the average that the days after it are held against, which flatters them
(the bias that Miller and Sanjurjo (2018) found in streaks). Both vanish when each day's return is held against the
mean day of its own era, with the year that led up to it left out. On simulated markets without any effect the
rotation test of such returns keeps its level, and so does the plain one, though only because its two faults cancel
there; rotation within eras does not. See `capitulation.study.trust` and notebook 90.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from capitulation.study.forward_returns import forward_log_returns

RUN_UP_DAYS = 365


def _mean_without_run_up(changes: np.ndarray, run_up_days: int, entry_lag_days: int) -> np.ndarray:
    """Mean of `changes` without days t - run_up + 1 … t + lag, for each t; NaN changes weigh nothing."""
    known = np.isfinite(changes)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, changes, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    day = np.arange(len(changes))
    begin, stop = np.maximum(day - run_up_days + 1, 0), np.minimum(day + entry_lag_days + 1, len(changes))
    left = counts[-1] - (counts[stop] - counts[begin])
    rest = sums[-1] - (sums[stop] - sums[begin])
    return np.where(left > 0, rest / np.maximum(left, 1), np.nan)


def own_era_excess(
    price: pd.Series,
    era: pd.Series,
    horizon_days: int,
    entry_lag_days: int = 1,
    sample_start: str = "2014-01-01",
    run_up_days: int = RUN_UP_DAYS,
) -> pd.Series:
    """Forward log return of each day, minus what its era's mean day gives over the same horizon.

    x_t = r_t(h) - h m_t, with m_t the mean daily log return over the days of t's era since `sample_start`, without
    the `run_up_days` up to t and the entry lag: prices that can have made the event do not enter what it is compared
    with.

    Parameters
    ----------
    price : Series, shape (n,), daily index without gaps, USD at the end of the day; NaN = missing.
    era : Series on the same index, label of each day's era (`mining.protocol.era_of`).
    horizon_days, entry_lag_days, run_up_days : calendar days.
    sample_start : first day of the sample, ISO.

    Returns
    -------
    Series, log return; index the days since `sample_start` whose outcome is known. Hand it to
    `rotation.rotation_test` together with the marks of the events on these days.

    Raises
    ------
    ValueError for days that are not consecutive.
    """
    returns = forward_log_returns(price, horizon_days, entry_lag_days)
    changes = np.log(price.where(price > 0)).diff()
    changes[changes.index < pd.Timestamp(sample_start)] = np.nan
    baseline = pd.Series(np.nan, index=price.index)
    for _, days in changes.groupby(era.reindex(price.index).to_numpy()):
        baseline[days.index] = _mean_without_run_up(days.to_numpy(), run_up_days, entry_lag_days)
    excess = returns - horizon_days * baseline
    return excess[sample_start:].dropna().rename(f"excess_log_return_{horizon_days}d")
