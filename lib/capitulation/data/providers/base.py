"""What a provider is, and the few checks that every provider's parser shares."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from capitulation.data.addresses import is_readable
from capitulation.data.http import Response
from capitulation.data.panel import FIRST_DAY, LAST_POSSIBLE_DAY
from capitulation.errors import DataError, InputError, one_line

SECONDS_PER_DAY = 86_400
HASHES_PER_DIFFICULTY = 2**32
SHORT = 80
MISSING_TEXT = ("", "nan", "null", "none")


class Get(Protocol):
    """How a provider asks for one answer: address, query and the query's secret part."""

    def __call__(self, url: str, query: Mapping[str, str], secrets: Mapping[str, str] | None = None) -> Response: ...


@dataclass(frozen=True)
class Fetched:
    """Answers by the file name they are stored under, their panel, and one-line remarks (why a fallback was taken)."""

    responses: dict[str, Response]
    panel: pd.DataFrame
    notes: tuple[str, ...] = ()


def fetched(
    responses: dict[str, Response], parse: Callable[[Mapping[str, bytes]], pd.DataFrame], notes: tuple[str, ...] = ()
) -> Fetched:
    """`responses` with the panel that `parse` finds in them; its `DataError` where they are not what is documented."""
    return Fetched(responses, parse({name: response.body for name, response in responses.items()}), notes)


@dataclass(frozen=True)
class Provider:
    """One source of daily data: fetching (network) and parsing (pure) apart.

    `fetch(get)` returns the provider's answers; `parse(files)` turns their bytes into a panel and raises `DataError` in
    one line where they are not what is documented.
    """

    name: str
    title: str
    licence: str
    attribution: str
    fetch: Callable[[Get], Fetched]
    parse: Callable[[Mapping[str, bytes]], pd.DataFrame]


def base_url(variable: str, default: str) -> str:
    """The service's address: the environment variable where set (a mirror, a test server), else the public one.

    `InputError` where the variable holds no http or https address.
    """
    url = (os.environ.get(variable) or default).rstrip("/")
    if not is_readable(url) or urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise InputError(f"{variable}: not an http or https address; unset or correct it")
    return url


def check_daily_steps(days: pd.DatetimeIndex, what: str) -> None:
    """`DataError` where most neighbouring days are more than one day apart: the service has thinned the series out."""
    steps = days.to_series().diff().dt.days.dropna()
    if len(steps) and steps.median() > 1:
        raise DataError(f"{what}: one value every {steps.median():.0f} days instead of every day (thinned out)")


def implied_block_count(hash_rate_hs: pd.Series, difficulty: pd.Series) -> pd.Series:
    """Blocks of the day from its hash rate [H/s] and difficulty: hash rate * 86400 / (difficulty * 2**32).

    Rounded where it lies within 0.02 of an integer (so an exact count stays exact), unrounded elsewhere; NaN where
    either is.
    """
    count = hash_rate_hs * SECONDS_PER_DAY / (difficulty * HASHES_PER_DIFFICULTY)
    near = (count - count.round()).abs() < 0.02
    return count.where(~near, count.round())


def load_json(data: bytes, what: str) -> Any:
    """The JSON value in `data`; `DataError` for HTML, truncated or any other text."""
    head = data.lstrip()[:1]
    if head == b"<":
        raise DataError(f"{what}: the answer is an HTML page, not data")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what}: not complete JSON: {one_line(error, SHORT)}") from None


def field(record: Any, name: str, what: str) -> Any:
    """`record[name]`, or a `DataError` that names the missing field."""
    if not isinstance(record, Mapping) or name not in record:
        raise DataError(f"{what}: the field {name!r} is missing; the service may have renamed it")
    return record[name]


def _number(value: Any) -> float:
    """One value as a float, NaN for a missing one; `ValueError` for what is no number."""
    if value is None:
        return math.nan
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in MISSING_TEXT:
            return math.nan
        if "_" in text:  # Python reads 1_000 as a number
            raise ValueError(text)
        return float(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    return float(value)


def numbers(values: Iterable[Any], what: str, minimum: float = 0.0) -> np.ndarray:
    """`values` (also as text; None or empty = missing) as floats; other text, infinite or small ones are refused."""
    parsed = []
    for value in values:
        try:
            number = _number(value)
            if math.isinf(number) or number < minimum:
                raise ValueError(value)
        except (ValueError, OverflowError):
            shown = one_line(repr(value), SHORT)
            raise DataError(f"{what}: {shown} is not a number of at least {minimum:g}") from None
        parsed.append(number)
    return np.array(parsed, dtype=float)


def daily_index(days: pd.Series | pd.DatetimeIndex, what: str) -> pd.DatetimeIndex:
    """`days` as the panel's kind of index; NaT or a day outside the chain's life is refused."""
    index = pd.DatetimeIndex(days).normalize().as_unit("us")
    wrong = index.isna() | (index < FIRST_DAY) | (index > LAST_POSSIBLE_DAY)
    if wrong.any():
        raise DataError(
            f"{what}: {index[wrong][0]} is not a day between {FIRST_DAY.date()} and {LAST_POSSIBLE_DAY.date()}"
        )
    return index


def unique_days(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """`frame` sorted by day; a day given twice with equal values counts once, with different values it is refused."""
    frame = frame[~(frame.index.duplicated() & frame.reset_index().duplicated().to_numpy())]
    twice = frame.index[frame.index.duplicated()]
    if len(twice):
        raise DataError(f"{what}: {twice[0].date()} is given twice with different values")
    return frame.sort_index()
