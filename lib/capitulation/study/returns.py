"""What the price did after a day: forward returns, the sample they form, paths around events and excursions.

A row of day t is complete some hours after the day ends, so a signal of day t is traded at the close of t + `lag`; all
functions count from that close. They look forward on purpose: none of their values may ever enter a signal. A price is
a Series on a daily index without gaps, USD at the end of the day, NaN = missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from capitulation.words import count, stretches

SINCE = "2014-01-01"
RUN_UP_DAYS = 365
MIN_YARDSTICK_DAYS = 90
"""A mean daily return over fewer days, times the horizon, would be noise many times the size of any outcome."""


def _log_price(price: pd.Series) -> pd.Series:
    """Log of a daily price, missing where it is not positive; refuses days that do not follow each other."""
    if (np.diff(price.index.to_numpy()) != np.timedelta64(1, "D")).any():
        raise ValueError("price must have one row per calendar day, sorted and without gaps")
    values = price.to_numpy("float64", na_value=np.nan)
    return pd.Series(np.log(np.where(values > 0, values, np.nan)), price.index)


def forward_returns(price: pd.Series, days: int, lag: int = 1) -> pd.Series:
    """Log return over h = `days` from the close at which each day's signal is traded: log P(t+lag+h) - log P(t+lag).

    Index of `price`; NaN where a price is missing or still to come. `ValueError` for gaps, h < 1 or lag < 0.

    >>> price = pd.Series([1.0, 2.0, 4.0, 8.0], pd.date_range("2020-01-01", periods=4))
    >>> forward_returns(price, days=1, lag=1).round(3).tolist()
    [0.693, 0.693, nan, nan]
    """
    if days < 1 or lag < 0:
        raise ValueError(f"need days >= 1 and lag >= 0, got {days} and {lag}")
    known = np.append(_log_price(price).to_numpy(), np.full(lag + days, np.nan))
    entry, leave = known[lag : lag + len(price)], known[lag + days :]
    return pd.Series(leave - entry, price.index, name=f"log_return_{days}d")


def outcomes(data: pd.DataFrame | pd.Series, days: int, lag: int = 1, since: str = SINCE) -> pd.Series:
    """The sample of one horizon, against which events are held: forward log returns of all days with a known outcome.

    `data`: daily panel (`price_usd`) or price. `since`: first day, "" for all.
    """
    price = data["price_usd"] if isinstance(data, pd.DataFrame) else data
    return forward_returns(price, days, lag).loc[since or None :].dropna()


def event_marks(index: pd.Index, events: Any) -> np.ndarray:
    """Which days of `index` are events, boolean, shape (len(index),): the one place where events meet a sample.

    `events`: days (DatetimeIndex, Series or list), a boolean daily Series, or as many booleans as `index` has days.
    What is missing or outside `index` is left out; a time of day is dropped, a time zone turned into UTC. `ValueError`
    for numbers, which are neither, and for undated booleans of another length.
    """
    given = events if isinstance(events, pd.Series | pd.Index) else pd.Series(events)
    if pd.api.types.infer_dtype(given, skipna=True) == "boolean":
        flags = given.astype("boolean").fillna(False).to_numpy(bool)
        if not isinstance(given, pd.Series) or not isinstance(given.index, pd.DatetimeIndex):
            if len(flags) != len(index):
                raise ValueError(f"{len(flags)} booleans without days for {len(index)} days")
            return flags
        given = given.index[flags]
    known = pd.Index(given).dropna()
    if len(known) and pd.api.types.is_numeric_dtype(known.dtype):
        raise ValueError("events must be days or booleans, not numbers: compare the measure with a threshold first")
    days = known if isinstance(known, pd.DatetimeIndex) else pd.DatetimeIndex(pd.to_datetime(known, utc=True))
    days = days if days.tz is None else days.tz_convert("UTC").tz_localize(None)
    return index.isin(days if days.is_normalized else days.normalize())


def unknown_outcomes(price: pd.Series, events: Any, days: int, lag: int = 1, since: str = SINCE) -> str:
    """How many outcomes of events since `since` hang on a missing price, and its days, in words; empty without any.

    Outcomes that are still to come are not among them.

    >>> price = pd.Series([1.0, 2.0, np.nan, 4.0], pd.date_range("2020-01-01", periods=4))
    >>> unknown_outcomes(price, price.index, days=1, lag=0)
    '2 of 3 outcomes are not known: price missing on 2020-01-03'
    """
    at = np.flatnonzero(event_marks(price.index, events) & (price.index >= (since or "1900")))
    at = at[at + lag + days < len(price)]
    needed = np.array([at + lag, at + lag + days])
    missing = _log_price(price).isna().to_numpy()[needed]
    if not (n := missing.any(axis=0).sum()):
        return ""
    which = stretches(price.index[np.unique(needed[missing])])
    return f"{n} of {count(len(at), 'outcome')} {'is' if n == 1 else 'are'} not known: price missing on {which}"


def own_era_excess(price: pd.Series, era: pd.Series, days: int, lag: int = 1, since: str = SINCE) -> pd.Series:
    """Forward log return of each day, minus what the mean day of its own era gives over the same horizon.

    x_t = r_t(h) - h m_t, with m_t the mean daily log return over the days of t's era since `since`, without days
    t-364 ... t+lag+h: neither the fall of drift from era to era, nor the fall before a capitulation (the bias that
    Miller and Sanjurjo (2018) found in streaks), nor the outcome itself enters the comparison. `era`: label of each day
    (`mining.difficulty.era_of`). Index: the days since `since` of known outcome, whose era has 90 other days or more.

    >>> price = pd.Series(1.01 ** np.arange(800.0), pd.date_range("2014-01-01", periods=800))
    >>> bool(own_era_excess(price, price * 0, 30).abs().max() < 1e-9)  # a steady rise is no excess
    True
    """
    returns = forward_returns(price, days, lag)
    changes = np.where(price.index < (since or "1900"), np.nan, _log_price(price).diff())
    yardstick, labels = np.full(len(price), np.nan), era.reindex(price.index)
    for own in (np.flatnonzero(labels == label) for label in labels.unique()):
        known = np.nan_to_num(changes[own]), ~np.isnan(changes[own])
        running = np.pad(np.cumsum(known, axis=1), ((0, 0), (1, 0)))
        at = np.arange(len(own))
        begin, stop = np.maximum(at - RUN_UP_DAYS + 1, 0), np.minimum(at + lag + days + 1, len(own))
        rest, left = running[:, -1:] - (running[:, stop] - running[:, begin])
        yardstick[own] = np.where(left >= MIN_YARDSTICK_DAYS, rest / np.maximum(left, 1), np.nan)
    return (returns - days * yardstick).loc[since or None :].dropna().rename(f"excess_log_return_{days}d")


def describe(log_returns: ArrayLike) -> dict[str, float]:
    """Mean, median, hit_rate (share above zero), worst and best of the simple returns; NaN without any."""
    simple, names = np.expm1(np.asarray(log_returns, dtype=float)), ("mean", "median", "hit_rate", "worst", "best")
    if not len(simple):
        return dict.fromkeys(names, np.nan)
    values = (simple.mean(), np.median(simple), (simple > 0).mean(), simple.min(), simple.max())
    return dict(zip(names, map(float, values), strict=True))


def event_paths(price: pd.Series, events: Any, before: int = 60, after: int = 365, lag: int = 1) -> pd.DataFrame:
    """Log price around each event relative to the close at which it is traded: log P(t+lag+k) - log P(t+lag).

    Index `day` k from -`before` to `after` (row h equals `forward_returns`), a column per event (as `event_marks`) of
    `price`, in order of time; NaN where a price is missing, before the first day or still to come.

    >>> price = pd.Series([1.0, 2.0, 4.0, 8.0], pd.date_range("2020-01-01", periods=4))
    >>> event_paths(price, ["2020-01-01"], before=1, after=1)["2020-01-01"].round(3).tolist()
    [-0.693, 0.0, 0.693]
    """
    at = np.flatnonzero(event_marks(price.index, events))
    known = np.pad(_log_price(price).to_numpy(), (before, lag + after), constant_values=np.nan)
    ways = sliding_window_view(known, before + 1 + after)[at + lag]
    index = pd.RangeIndex(-before, after + 1, name="day")
    return pd.DataFrame((ways - ways[:, [before]]).T, index, price.index[at])


def excursions(price: pd.Series, events: Any, days: int, lag: int = 1) -> pd.DataFrame:
    """Lowest and highest simple return seen at any close from the entry to `days` later (Sweeney 1996).

    Columns max_adverse <= 0 <= max_favourable (the entry counts), fractions, NaN unless every price of the window is
    known; index: days of the events, in order of time.
    """
    ways = np.expm1(event_paths(price, events, 0, days, lag))
    return pd.DataFrame({"max_adverse": ways.min(skipna=False), "max_favourable": ways.max(skipna=False)})
