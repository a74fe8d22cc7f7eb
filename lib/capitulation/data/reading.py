"""From bytes to numbers by day: JSON, CSV, numbers and times written as text, one row for each UTC day.

Used for the answers of providers and for local files alike. What cannot be read raises `DataError` in one line that
names the place, the value and what is allowed.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from capitulation.data.panel import DAY, FIRST_DAY, LAST_DAY
from capitulation.errors import DataError, one_line

MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "none", "\\n", "-")
THOUSANDS, SWAPPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?", re.ASCII), str.maketrans(".,", ",.")
DAY_TEXT = re.compile(  # year, separator, month, day, hours and minutes, seconds
    r"^([0-9]{4})([-/]?)([0-9]{2})\2([0-9]{2})"
    r"(?:[T ]((?:[01][0-9]|2[0-3]):[0-5][0-9])(:[0-5][0-9](?:\.[0-9]+)?)?)? ?(?:Z|UTC|GMT|[+-]00(?::?00)?)?\Z"
)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def load_json(data: bytes | str, what: str, *kinds: type) -> Any:
    """The JSON in `data`, which is one of `kinds` (an object without any); `DataError` for any other text."""
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        html = data.lstrip()[:1] in (b"<", "<")
        raise DataError(f"{what}: {'an HTML page' if html else 'not complete JSON'}: {one_line(error, 80)}") from None
    if not isinstance(answer, kinds or dict):
        raise DataError(f"{what}: not a JSON object; the service may have changed its answers")
    return answer


def records(data: bytes, name: str, what: str) -> pd.DataFrame:
    """The records in the list `name` of the JSON object in `data`, a column for each of their fields."""
    rows = load_json(data, what).get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{what}: the field {name!r} is no list of records; the service may have renamed it")
    return pd.DataFrame(rows, dtype=object)


def read_text(data: bytes, what: str) -> str:
    """The text in `data`: UTF-8, or UTF-16 where it says so; `DataError` for any other bytes."""
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{what}: not text in UTF-8: {one_line(error, 120)}; save it as UTF-8") from None


def table_from_csv(text: str, what: str) -> tuple[pd.DataFrame, str]:
    """The text in a CSV file, a column for each stripped name in its first line, and what separates its fields.

    Lines of one field above the names are passed over; without names (the first field is a day) columns are named
    1, 2, ... `DataError` where a line is not whole.
    """
    text = re.sub(r"\Asep=.\r?\n", "", text)  # as Excel writes
    first = next((line for line in text.splitlines() if re.search("[,;\t]", line)), "")
    try:
        separator = max("\t;,", key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
        lines = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise DataError(f"{what}: not a CSV file: {one_line(error, 120)}") from None
    lines = lines[next((n for n, (_number, row) in enumerate(lines) if len(row) > 1), len(lines)) :] or [(1, [])]
    names = [name.strip() for name in lines[0][1]]
    if names and DAY_TEXT.fullmatch(names[0]):
        names, lines = [str(place + 1) for place in range(len(names))], [(0, []), *lines]
    for number, row in lines[1:]:
        if len(row) != len(names):
            whole = f"line {number} has {len(row)} fields instead of {len(names)}"
            raise DataError(f"{what}: {whole if number != lines[-1][0] else 'ends in mid-line; the file was cut off'}")
    return pd.DataFrame([row for _number, row in lines[1:]], columns=names, dtype=object), separator


def numbers(
    table: pd.DataFrame, required: Sequence[str], what: str, optional: Sequence[str] = (), decimal_comma: bool = False
) -> pd.DataFrame:
    """The columns `required`, and of `optional` those that are there, as floats; marks like "", NA or NaN are missing.

    `decimal_comma`: 1.234,5 is read, else 1,234.5. `DataError` without any row or a required column, and for other
    text (1_000, ٣, true), infinite or negative numbers.
    """
    if table.empty:
        raise DataError(f"{what}: holds no values")
    for lost in (name for name in required if name not in table):
        raise DataError(f"{what}: the column {lost} is missing; it may have been renamed")

    def number(text: str, name: str) -> float:
        if text.lower() in MISSING:
            return np.nan
        plain = text.translate(SWAPPED) if decimal_comma else text
        plain = plain.replace(",", "") if THOUSANDS.fullmatch(plain) else plain
        if NUMBER.fullmatch(plain) and 0 <= float(plain) < np.inf:
            return float(plain)
        digits = " (digits other than 0 to 9)" if re.search(r"[^\D0-9]", text) else ""
        raise DataError(f"{what}: {name}: {one_line(repr(text), 80)} is not a number of at least 0{digits}")

    found = {}
    for name in [*required, *(name for name in optional if name in table)]:
        texts = table[name].map(lambda value: str(value).strip())
        found[name] = texts.map({text: number(text, name) for text in texts.unique()})
    return pd.DataFrame(found, dtype=float)


def times(values: pd.Series, what: str) -> pd.Series:
    """The UTC times in `values`: YYYY-MM-DD (or /) and what may follow, or Unix time; `DataError` for any other."""
    texts = values.map(lambda value: str(value).strip())
    parts = texts.str.extract(DAY_TEXT)
    days = pd.to_datetime(parts[0] + parts[2] + parts[3], format="%Y%m%d", errors="coerce").astype("datetime64[us]")
    clock = pd.to_timedelta(parts[4].fillna("00:00") + parts[5].fillna(":00"), errors="coerce")
    unix = pd.to_numeric(texts.where(days.isna() & texts.str.fullmatch(NUMBER)), errors="coerce")
    for _step in range(3):  # milli-, micro- and nanoseconds
        unix = unix.where(~(unix > 7.3e9), unix / 1000)
    found = days + clock
    found = found.fillna(pd.to_datetime((unix * 1e6).round(), unit="us", errors="coerce").astype("datetime64[us]"))
    reasons = {
        r".*[^\D0-9].*": "is written in digits other than 0 to 9",
        r"\d{1,2}([-/.])\d{1,2}\1\d{2,4}.*": "leaves open which is the month: write days as YYYY-MM-DD",
        r".*\d[+-]\d\d:?\d\d": "is not a time in UTC: write days as YYYY-MM-DD, in UTC",
        r".*": "is not a day as YYYY-MM-DD",
    }
    for wrong in texts[found.isna()]:
        why = next(reason for form, reason in reasons.items() if re.fullmatch(form, wrong, re.DOTALL))
        raise DataError(f"{what} {one_line(repr(wrong), 60)} {why}")
    return found


def midnights(found: pd.Series, what: str) -> pd.Series:
    """The days of times that are starts or last seconds of days; `DataError` for other times of day."""
    clock = found - found.dt.normalize()
    for odd in found[(clock > pd.Timedelta(0)) & (clock < DAY - pd.Timedelta(seconds=1))]:
        step = found.drop_duplicates().sort_values().diff().median()
        said = f"{odd} is a time of day, and there is a row every {step}"
        raise DataError(f"{what}: {said}: give one row a day, as of its end in UTC")
    return found.dt.normalize()


def by_day(days: pd.Series, table: pd.DataFrame, what: str) -> pd.DataFrame:
    """The rows of `table` by UTC day, sorted and without gaps; a day given twice with equal values counts once.

    `DataError` where its values differ, for a day outside the chain's life, and for a series that was thinned out.
    """
    index = pd.DatetimeIndex(days).normalize().as_unit("us")
    for wrong in index[index.isna() | (index < FIRST_DAY) | (index > LAST_DAY)]:
        raise DataError(f"{what}: {wrong} is not a day between {FIRST_DAY.date()} and {LAST_DAY.date()}")
    table = table.assign(day=index).drop_duplicates().set_index("day").sort_index()
    step = table.index.diff().median()
    if step < DAY:
        raise DataError(f"{what}: several rows a day: give one row a day, as of its end in UTC")
    for twice in table.index[table.index.duplicated()]:
        raise DataError(f"{what}: {twice.date()} is given twice with different values")
    if step > DAY:
        raise DataError(f"{what}: one value every {step.days} days instead of every day (thinned out): give every day")
    if len(table) > 10 and table.index.day_of_week.max() < 5:
        raise DataError(f"{what}: no Saturday and no Sunday (business days): give every day, Bitcoin knows no weekend")
    return table.reindex(pd.date_range(table.index[0], table.index[-1], unit="us"))


def stamped(data: bytes, name: str, fields: Sequence[str], what: str) -> pd.Series:
    """The daily series in the list `name` of a JSON object, records of time [Unix s] and value; zeros are missing."""
    points = numbers(records(data, name, what), fields, what)
    days = pd.to_datetime(points[fields[0]], unit="s", errors="coerce")
    values = by_day(days, points[[fields[1]]], what)[fields[1]]
    return values.where(values > 0)
