"""Market bottoms and how the ends of capitulations stand to them.

A bottom is known only when the days after it are: everything here looks forward on purpose and enters no signal. A
price is a Series on a daily index without gaps, NaN = missing; days after its last known value are still to come. A
lowest close may rest on a window in which a tenth of the closes is missing, not more; it begins with the first price.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

import numpy as np
import pandas as pd

from capitulation.mining.episodes import ALL_AND_EACH, n_effective, of_grade
from capitulation.mining.hashrate import KNOWN_SHARE
from capitulation.study.chance import max_rotation_test, rotation_test
from capitulation.study.returns import SINCE, event_marks

AROUND_DAYS = 180  # on either side of a bottom
LOW_WINDOWS = ((90, 180), (180, 180))  # days over which a close was the lowest, days for which it should hold


def _lows(price: pd.Series, before: int, after: int) -> tuple[pd.Series, pd.Series]:
    """Lowest close of the last `before` days, today's included, and of the next `after` days, where they are known."""
    known = price[price.first_valid_index() : price.last_valid_index()].astype("float64")
    past, future = (known.rolling(days, min_periods=ceil(KNOWN_SHARE * days)).min() for days in (before, after))
    return past.iloc[before - 1 :].reindex(price.index), future.shift(-after).reindex(price.index)


def market_bottoms(price: pd.Series, around: int = AROUND_DAYS, since: str = SINCE) -> pd.DatetimeIndex:
    """Days since `since` whose close is the lowest of the `around` days on either side; of equal closes the first.

    >>> price = pd.Series([3.0, 2, 1, 2, 3, 4], pd.date_range("2020-01-01", periods=6))
    >>> market_bottoms(price, around=2).day.tolist()
    [3]
    """
    past, future = _lows(price, around, around)
    return price.index[(price < past.shift(1)) & (price <= future) & (price.index >= (since or "1900"))]


def days_to_next(index: pd.DatetimeIndex, events: Iterable[pd.Timestamp]) -> pd.Series:
    """Days from each day of `index` to the next event, 0 on its day; missing after the last one of `index`.

    >>> days_to_next(pd.date_range("2020-01-01", periods=4), ["2020-01-03"]).tolist()
    [2.0, 1.0, 0.0, nan]
    """
    day = index.to_series()
    return (day.where(event_marks(index, events)).bfill() - day).dt.days.rename("days_to_next")


def bottoms(price: pd.Series, episodes: pd.DataFrame, around: int = AROUND_DAYS, since: str = SINCE) -> pd.DataFrame:
    """The market bottoms and the capitulations next to them, a row each (bottoms.csv).

    `episodes`: one rule's (`start`, `end`, `grade`). Columns: date, price_usd; days_to_next_recovery and grade_of_next,
    the grade of the capitulation that ended then, missing where none has ended since; days_since_start, from the last
    start to the bottom, missing where there was none.

    >>> days = pd.date_range("2020-01-01", periods=6)
    >>> found = pd.DataFrame({"start": days[[1]], "end": days[[4]], "grade": "real"})
    >>> bottoms(pd.Series([3.0, 2, 1, 2, 3, 4], days), found, around=2)["days_to_next_recovery"].tolist()
    [2.0]
    """
    at, days = market_bottoms(price, around, since), price.index.to_series()
    ended = episodes.dropna(subset=["end"]).sort_values("end")
    since_start = days - days.where(event_marks(price.index, episodes["start"])).ffill()
    table = {
        "price_usd": price[at],
        "days_to_next_recovery": days_to_next(price.index, ended["end"])[at],
        "grade_of_next": np.append(ended["grade"].to_numpy(object), np.nan)[ended["end"].searchsorted(at)],
        "days_since_start": since_start[at].dt.days,
    }
    return pd.DataFrame(table, at).rename_axis("date").reset_index()


def low_stood(price: pd.Series, window: int, horizon: int) -> pd.Series:
    """Whether the lowest close of the last `window` days, today's included, was not undercut in the next `horizon`.

    1.0 or 0.0; missing where either is not known.

    >>> low_stood(pd.Series([2.0, 3, 2, 1], pd.date_range("2020-01-01", periods=4)), window=2, horizon=1).tolist()
    [nan, 1.0, 0.0, nan]
    """
    past, future = _lows(price, window, horizon)
    return (future >= past).where(past.notna() & future.notna()).astype("float64").rename("low_stood")


def above_low(price: pd.Series, around: int = AROUND_DAYS) -> pd.Series:
    """How far each close lies above the lowest of the `around` days on either side (fraction); missing where unknown.

    >>> above_low(pd.Series([2.0, 3, 4], pd.date_range("2020-01-01", periods=3)), around=1).tolist()
    [nan, 0.5, nan]
    """
    past, future = _lows(price, around + 1, around)
    return (price / np.minimum(past, future) - 1).rename("above_low")


def low_held(
    price: pd.Series,
    episodes: pd.DataFrame,
    windows: Iterable[tuple[int, int]] = LOW_WINDOWS,
    since: str = SINCE,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """How often the low before a recovery held, by grade of the capitulation, beside any day (low_held.csv).

    `episodes`: one rule's (`end`, `grade`); `windows`: arguments of `low_stood`. A row per window and grade (all of
    them first). Columns: window_days, horizon_days; n recoveries since `since` whose outcome is known; share of them in
    which the low held, base_share of all days, p (rotation, one-sided: held more often); grade; excess (share minus
    base_share) with its interval ci_low, ci_high from that same rotation; p_family, which counts all rows; n_effective
    (recoveries that share no day of the horizon).

    >>> days = pd.date_range("2014-01-01", periods=500)
    >>> found = pd.DataFrame({"end": days[[250]], "grade": "real"})
    >>> low_held(pd.Series(np.arange(1.0, 501), days), found)[["share", "base_share"]].iloc[0].tolist()
    [1.0, 1.0]
    """
    split = {grade: of_grade(episodes, grade)["end"] for grade in ALL_AND_EACH}
    stood = {(window, horizon): low_stood(price, window, horizon)[since or None :] for window, horizon in windows}
    rows = []
    for (window, horizon), whole in stood.items():
        held = whole.dropna()
        for grade, when in split.items():
            test, own = rotation_test(held, when, confidence=confidence), held[event_marks(held.index, when)]
            row = (window, horizon, test.n, own.mean(), held.mean(), test.p, grade, test.excess, *test.interval)
            rows.append((*row, n_effective(own.index, horizon)))
    names = ["window_days", "horizon_days", "n", "share", "base_share", "p", "grade", "excess", "ci_low", "ci_high"]
    table, sample = pd.DataFrame(rows, columns=[*names, "n_effective"]), price[since or None :].index
    marks = np.array([event_marks(sample, when) for when in split.values()])
    family = (
        max_rotation_test(np.column_stack(list(stood.values())), marks).p_family.T.ravel() if len(sample) else np.nan
    )
    table.insert(len(names), "p_family", family)
    return table
