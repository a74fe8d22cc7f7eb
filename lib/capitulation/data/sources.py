"""Where daily data come from: three providers. Fetching (network) and parsing (pure) stand apart.

Coin Metrics has every column, Blockchain.com lacks issuance and fees, mempool.space has no price. A parser gives a
panel or raises `DataError` in one line where the bytes are not what the service documents.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import httpx
import numpy as np
import pandas as pd

from capitulation.data.panel import (
    DAY,
    FIRST_DAY,
    LAST_DAY,
    PANEL_COLUMNS,
    POSITIVE,
    block_heights,
    daily_panel,
    hash_rate_ehs,
)
from capitulation.data.snapshots import Answer
from capitulation.errors import DataError, InputError, one_line

MISSING = ("", "na", "n/a", "#n/a", "nan", "null", "none", "\\n", "-")
THOUSANDS, SWAPPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?", re.ASCII), str.maketrans(".,", ",.")
DAY_TEXT = re.compile(  # year, separator, month, day, hours and minutes, seconds
    r"^([0-9]{4})([-/]?)([0-9]{2})\2([0-9]{2})"
    r"(?:[T ]((?:[01][0-9]|2[0-3]):[0-5][0-9])(:[0-5][0-9](?:\.[0-9]+)?)?)? ?(?:Z|UTC|GMT|[+-]00(?::?00)?)?\Z"
)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
Get = Callable[..., Answer]  # get(address, query, secrets), with the query's secret part apart


class Provider(NamedTuple):
    """One source: `fetch` gives its answers (a later one where an earlier fails), `parse` the panel in their bytes."""

    licence: str
    attribution: str
    parse: Callable[[Mapping[str, bytes]], pd.DataFrame]
    fetch: tuple[Callable[[Get], dict[str, Answer]], ...]


def base_url(variable: str, default: str) -> httpx.URL:
    """The service's address: the environment variable's (a mirror, a test server) where set, else the public one."""
    try:
        url = httpx.URL((os.environ.get(variable) or default).rstrip("/"))
    except httpx.InvalidURL:
        url = httpx.URL("")
    local = url.scheme == "http" and url.host in ("127.0.0.1", "localhost", "::1")
    if not url.host or not (url.scheme == "https" or local) or not 0 < (url.port or 443) < 65_536:
        raise InputError(f"{variable}: not an https address; unset or correct it")
    return url


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


def assemble(given: Mapping[str, pd.Series], power: int) -> pd.DataFrame:
    """The panel of daily series by name: panel columns (hash rate in 10**`power` H/s), `issuance_usd`. 0 is no price.

    What is not given on a day follows from hash rate [H/s] * 86400 = difficulty * 2**32 * blocks. A block count is then
    rounded where it lies within 0.02 of an integer (so an exact count stays exact). Height follows from the counts
    (`block_heights`), and is unknown where the table begins after the chain's first day.
    """
    frame = pd.DataFrame({name: given.get(name) for name in (*PANEL_COLUMNS, "issuance_usd")}, dtype=float)
    frame[[*POSITIVE]] = frame[[*POSITIVE]].where(frame[[*POSITIVE]] > 0)
    rate, blocks, difficulty = frame["hash_rate_ehs"], frame["block_count"], frame["difficulty"]
    hashes = rate * 10.0**power
    rate = (rate / 10.0 ** (18 - power)).fillna(hash_rate_ehs(difficulty, blocks.where(blocks > 0)))
    count = hashes * 86_400 / 2**32 / difficulty
    blocks = blocks.fillna(count.where((count - count.round()).abs() >= 0.02, count.round()))
    difficulty = difficulty.fillna(hashes * 86_400 / (2**32 * blocks.where(blocks > 0)))
    if frame["height"].isna().all() and "block_count" in given and frame.index[0] <= pd.Timestamp("2009-01-09"):
        frame["height"] = block_heights(blocks.where(blocks == blocks.round()), difficulty)
    if frame["revenue_usd"].isna().all():
        frame["revenue_usd"] = frame["issuance_usd"] + frame["fees_btc"] * frame["price_usd"]
    return daily_panel(frame.assign(hash_rate_ehs=rate, block_count=blocks, difficulty=difficulty))


CSV_FILE, API, KEY_VARIABLE = "btc.csv", "Coin Metrics API", "COINMETRICS_API_KEY"
REQUIRED = {"HashRate": "hash_rate_ehs", "BlkCnt": "block_count"}
OPTIONAL = {"IssTotNtv": "issuance_btc", "IssTotUSD": "issuance_usd", "FeeTotNtv": "fees_btc", "PriceUSD": "price_usd"}
OPTIONAL |= {"DiffMean": "difficulty"}


def coinmetrics_panel(text: pd.DataFrame, what: str) -> pd.DataFrame:
    """The panel in a table of Coin Metrics' daily metrics; days without a block have no hash rate and no difficulty."""
    if "time" not in text:
        raise DataError(f"{what}: the column time is missing")
    table = numbers(text, REQUIRED, what, OPTIONAL).rename(columns=REQUIRED | OPTIONAL)
    return assemble(by_day(midnights(times(text["time"], f"{what}: time"), what), table, what), 12)


def parse_coinmetrics(files: Mapping[str, bytes]) -> pd.DataFrame:
    """The panel in the public CSV (`btc.csv`), or in the API's pages (`page-*.json`), whose numbers come as text."""
    if CSV_FILE in files:
        table = table_from_csv(read_text(files[CSV_FILE], CSV_FILE), CSV_FILE)[0]
        return coinmetrics_panel(table.loc[:, ~table.columns.duplicated()], CSV_FILE)
    pages = [files[name] for name in sorted(files) if re.fullmatch(r"page-\d+\.json", name)]
    tables = [records(page, "data", API) for page in pages]
    return coinmetrics_panel(pd.concat([pd.DataFrame(), *tables], ignore_index=True), API)


def fetch_coinmetrics(get: Get) -> dict[str, Answer]:
    """Every page of the API, which passes over metrics that are no longer free; a key goes into the request alone."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if key and not re.fullmatch(r"[A-Za-z0-9._~-]{8,200}", key):  # no address encodes these: it has but one form
        raise InputError(f"{KEY_VARIABLE}: not a key (8 or more letters, digits, . _ ~ -); unset or correct it")
    default = f"https://{'api' if key else 'community-api'}.coinmetrics.io/v4"
    url, secrets = base_url("CAPITULATION_COINMETRICS_URL", default), {"api_key": key} if key else {}
    query = {"assets": "btc", "metrics": ",".join((*REQUIRED, *OPTIONAL)), "frequency": "1d", "page_size": "10000"}
    query |= {"paging_from": "start", "ignore_forbidden_errors": "true", "ignore_unsupported_errors": "true"}
    pages: dict[str, Answer] = {}
    for number in range(1, 21):
        pages[f"page-{number:02d}.json"] = answer = get(f"{url}/timeseries/asset-metrics", query, secrets)
        token = load_json(answer.body, API).get("next_page_token")
        if not token:
            return pages
        query = query | {"next_page_token": str(token)}
    raise DataError(f"{API}: more than {number} pages of 10,000 days, given up")


def fetch_coinmetrics_csv(get: Get) -> dict[str, Answer]:
    """The same data as a public file, where the API cannot be reached or does not answer as documented."""
    url = base_url("CAPITULATION_COINMETRICS_CSV_URL", "https://raw.githubusercontent.com/coinmetrics/data/master/csv")
    return {CSV_FILE: get(f"{url}/{CSV_FILE}")}


CHARTS = ("hash-rate", "difficulty", "market-price", "miners-revenue")


def fetch_blockchain_com(get: Get) -> dict[str, Answer]:
    """The four charts, whole history; the service thins a chart out unless asked with `sampled=false`."""
    url = base_url("CAPITULATION_BLOCKCHAIN_COM_URL", "https://api.blockchain.info/charts")
    query = {"timespan": "all", "format": "json", "sampled": "false"}
    return {f"{chart}.json": get(f"{url}/{chart}", query) for chart in CHARTS}


def parse_blockchain_com(files: Mapping[str, bytes]) -> pd.DataFrame:
    """The panel in the charts: price, hash rate, difficulty, revenue and the implied block count.

    A point of the price chart stamped day D is the price at the START of D, so it is the panel's price of D-1. Heights
    stay unknown: the derived block counts of 2016 to 2018 are not exact.
    """
    hash_rate_ths, difficulty, price, revenue = (
        stamped(files.get(f"{chart}.json", b""), "values", ("x", "y"), f"Blockchain.com {chart}") for chart in CHARTS
    )
    columns = {"hash_rate_ehs": hash_rate_ths, "difficulty": difficulty, "revenue_usd": revenue}
    return assemble(columns | {"price_usd": price.shift(-1, freq="D")}, 12)


def fetch_mempool_space(get: Get) -> dict[str, Answer]:
    """The whole daily history in one answer."""
    url = base_url("CAPITULATION_MEMPOOL_SPACE_URL", "https://mempool.space/api")
    return {"hashrate.json": get(f"{url}/v1/mining/hashrate/all")}


def parse_mempool_space(files: Mapping[str, bytes]) -> pd.DataFrame:
    """The panel in the answer: hash rate, difficulty and the implied block count; all other columns are missing.

    The value stamped 00:00 of day D describes day D-1. It divides by the time between a day's first and last block, so
    the implied count is off by about one block. Difficulty is the one that held at noon.
    """
    answer, what = files.get("hashrate.json", b""), "mempool.space hashrate"
    hash_rate = stamped(answer, "hashrates", ("timestamp", "avgHashrate"), what).shift(-1, freq="D")
    steps = numbers(records(answer, "difficulty", what), ("time", "difficulty"), what).sort_values("time")
    at = np.searchsorted(steps["time"], hash_rate.index.as_unit("s").asi8 + 43_200)
    difficulty = pd.Series(np.append(np.nan, steps["difficulty"])[at], index=hash_rate.index)
    return assemble({"hash_rate_ehs": hash_rate, "difficulty": difficulty}, 0)


TERMS = {  # licence and attribution
    "coinmetrics": ("CC BY-NC 4.0", "Coin Metrics community network data, coinmetrics.io, CC BY-NC 4.0"),
    "blockchain_com": ("Blockchain.com terms of service", "Blockchain.com charts, blockchain.com/explorer/charts"),
    "mempool_space": ("mempool.space terms of service", "mempool.space, mempool.space/graphs/mining"),
}
PROVIDERS = {  # in order of preference
    "coinmetrics": Provider(*TERMS["coinmetrics"], parse_coinmetrics, (fetch_coinmetrics, fetch_coinmetrics_csv)),
    "blockchain_com": Provider(*TERMS["blockchain_com"], parse_blockchain_com, (fetch_blockchain_com,)),
    "mempool_space": Provider(*TERMS["mempool_space"], parse_mempool_space, (fetch_mempool_space,)),
}
