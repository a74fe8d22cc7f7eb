"""What the price did after a day: forward returns, paths around events, and how far the price went on the way.

A row of day t is complete some hours after the day ends, so a signal of day t is traded at the close of
t + `entry_lag_days`; every function here counts from that close. All of them look forward on purpose: they measure
outcomes. None of their values may ever enter a signal.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

Days = pd.DatetimeIndex | Iterable[pd.Timestamp]


def _daily(price: pd.Series) -> pd.Series:
    """`price` if its index is daily without gaps: a shift by rows is then a shift by days."""
    days = pd.DatetimeIndex(price.index)
    if len(days) > 1 and not (np.diff(days.to_numpy()) == np.timedelta64(1, "D")).all():
        raise ValueError("price must have one row per calendar day, sorted and without gaps")
    return price


def _log(price: pd.Series) -> np.ndarray:
    """Log price as float64; a missing or non-positive price is NaN."""
    values = _daily(price).to_numpy(dtype=float, na_value=np.nan)
    return np.log(np.where(values > 0, values, np.nan))


def _shifted(values: np.ndarray, by: int) -> np.ndarray:
    """`out[i] = values[i + by]` for by >= 0, NaN past the end."""
    out = np.full(len(values), np.nan)
    if by < len(values):
        out[: len(values) - by] = values[by:]
    return out


def _check_days(horizon_days: int, entry_lag_days: int) -> None:
    if horizon_days < 1 or entry_lag_days < 0:
        raise ValueError(f"need horizon_days >= 1 and entry_lag_days >= 0, got {horizon_days} and {entry_lag_days}")


def forward_log_returns(price: pd.Series, horizon_days: int, entry_lag_days: int = 1) -> pd.Series:
    """Log return over `horizon_days` from the entry after each anchor day t: log P(t+lag+h) - log P(t+lag).

    Parameters
    ----------
    price : Series, shape (n,), daily index without gaps, USD at the end of the day; NaN = missing.
    horizon_days, entry_lag_days : calendar days, h >= 1 and lag >= 0.

    Returns
    -------
    Series, shape (n,), same index (the anchor day), log return; NaN where either price is missing or still to come.

    Raises
    ------
    ValueError for days that are not consecutive, h < 1 or lag < 0.

    >>> days = pd.date_range("2020-01-01", periods=4)
    >>> forward_log_returns(pd.Series([1.0, 2.0, 4.0, 8.0], days), 1, 1).round(3).tolist()
    [0.693, 0.693, nan, nan]
    """
    _check_days(horizon_days, entry_lag_days)
    log_price = _log(price)
    returns = _shifted(log_price, entry_lag_days + horizon_days) - _shifted(log_price, entry_lag_days)
    return pd.Series(returns, index=price.index, name=f"log_return_{horizon_days}d")


def forward_log_return_table(price: pd.Series, horizons_days: Iterable[int], entry_lag_days: int = 1) -> pd.DataFrame:
    """`forward_log_returns` for several horizons: index anchor day, one column per horizon (its days as int)."""
    columns = {int(h): forward_log_returns(price, int(h), entry_lag_days) for h in horizons_days}
    return pd.DataFrame(columns, index=price.index)


def to_simple(log_returns: pd.Series) -> pd.Series:
    """Simple returns from log returns: exp(r) - 1; NaN stays NaN."""
    return np.expm1(log_returns)


def _positions(index: pd.Index, days: Days) -> np.ndarray:
    """Row of each day in `index`; a day outside raises, because a silent drop would change the count of events."""
    wanted = pd.DatetimeIndex(days)
    rows = pd.DatetimeIndex(index).get_indexer(wanted)
    if (rows < 0).any():
        raise ValueError(f"event day {wanted[rows < 0][0].date()} is not in the price series")
    return rows


def _windows(log_price: np.ndarray, entries: np.ndarray, before: int, after: int) -> np.ndarray:
    """Log prices around each entry row, shape (before + after + 1, events), NaN outside the series."""
    rows = entries[None, :] + np.arange(-before, after + 1)[:, None]
    inside = (rows >= 0) & (rows < len(log_price))
    return np.where(inside, log_price[np.clip(rows, 0, len(log_price) - 1)], np.nan)


def event_paths(
    price: pd.Series, days: Days, before: int = 60, after: int = 365, entry_lag_days: int = 1
) -> pd.DataFrame:
    """Log price around each event relative to the close at which it is traded.

    Row k of an event on day t is log P(t+lag+k) - log P(t+lag): row 0 is 0 and row h equals
    `forward_log_returns(price, h, lag)` on t.

    Parameters
    ----------
    price : Series, shape (n,), daily index without gaps, USD; NaN = missing.
    days : event days, each in the index of `price`.
    before, after : days shown on either side of the entry.

    Returns
    -------
    DataFrame, index `day` from -before to after, one column per event (its day); NaN where a price is missing, before
    the first day or still to come.

    Raises
    ------
    ValueError for a day outside the series.
    """
    _check_days(max(after, 1), entry_lag_days)
    wanted = pd.DatetimeIndex(days)
    entries = _positions(price.index, wanted) + entry_lag_days
    window = _windows(_log(price), entries, before, after)
    offsets = pd.RangeIndex(-before, after + 1, name="day")
    return pd.DataFrame(window - window[before], index=offsets, columns=wanted)


def excursions(price: pd.Series, days: Days, horizon_days: int, entry_lag_days: int = 1) -> pd.DataFrame:
    """Lowest and highest simple return seen at any close from the entry to `horizon_days` later.

    The entry itself counts (return 0), so max_adverse <= 0 <= max_favourable (Sweeney 1996).

    Returns
    -------
    DataFrame, index the event days, columns `max_adverse` and `max_favourable`, fractions; both NaN unless every
    price of the window is known.
    """
    _check_days(horizon_days, entry_lag_days)
    wanted = pd.DatetimeIndex(days)
    entries = _positions(price.index, wanted) + entry_lag_days
    window = _windows(_log(price), entries, 0, horizon_days)
    relative = np.expm1(window - window[0])
    extremes = {"max_adverse": relative.min(axis=0), "max_favourable": relative.max(axis=0)}
    return pd.DataFrame(extremes, index=wanted)
