"""Where daily data come from: three providers and local files. Fetching (network) and parsing (pure) stand apart.

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
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pandas as pd

from capitulation.data.panel import DAY, FIRST_DAY, LAST_POSSIBLE_DAY, daily_panel
from capitulation.data.snapshots import Answer
from capitulation.errors import DataError, InputError, one_line

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


def load_json(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `data`; `DataError` for HTML, truncated or any other text."""
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        html = data.lstrip()[:1] == b"<"
        raise DataError(f"{what}: {'an HTML page' if html else 'not complete JSON'}: {one_line(error, 80)}") from None
    if not isinstance(answer, dict):
        raise DataError(f"{what}: not a JSON object; the service may have changed its answers")
    return answer


def records(data: bytes, name: str, what: str) -> pd.DataFrame:
    """The records in the list `name` of the JSON object in `data`, a column for each of their fields."""
    rows = load_json(data, what).get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{what}: the field {name!r} is no list of records; the service may have renamed it")
    return pd.DataFrame(rows, dtype=object)


def table_from_csv(data: bytes) -> pd.DataFrame:
    """The text in a CSV file, a column for each name in its first line; `DataError` where a line is not whole."""
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        lines = [(reader.line_num, row) for row in reader if row] or [(1, [])]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"not a CSV file: {one_line(error, 120)}") from None
    header = lines[0][1]
    for number, row in lines:
        if len(row) != len(header):
            whole = f"line {number} has {len(row)} fields instead of {len(header)}"
            raise DataError(whole if number != lines[-1][0] else "ends in mid-line; the file was cut off")
    table = pd.DataFrame([row for _number, row in lines[1:]], columns=header, dtype=object)
    return table.loc[:, ~table.columns.duplicated()]


def numbers(table: pd.DataFrame, required: Sequence[str], what: str, optional: Sequence[str] = ()) -> pd.DataFrame:
    """The columns `required`, and of `optional` those that are there, as floats; marks like "" or NaN are missing.

    `DataError` without any row or a required column, and for other text (1_000, ٣, true), infinite or negative numbers.
    """
    if table.empty:
        raise DataError(f"{what}: holds no values")
    for lost in (name for name in required if name not in table):
        raise DataError(f"{what}: the column {lost} is missing; it may have been renamed")

    def number(value: Any, name: str) -> float:
        text = str(value).strip()
        if text.lower() in ("", "nan", "null", "none"):
            return np.nan
        if NUMBER.fullmatch(text) and 0 <= float(text) < np.inf:
            return float(text)
        raise DataError(f"{what}: {name}: {one_line(repr(value), 80)} is not a number of at least 0")

    names = [*required, *(name for name in optional if name in table)]
    return pd.DataFrame({name: [number(value, name) for value in table[name]] for name in names}, dtype=float)


def by_day(days: pd.Series, table: pd.DataFrame, what: str) -> pd.DataFrame:
    """The rows of `table` by UTC day, sorted and without gaps; a day given twice with equal values counts once.

    `DataError` where its values differ, for a day outside the chain's life, and for a series that was thinned out.
    """
    index = pd.DatetimeIndex(days).normalize().as_unit("us")
    for wrong in index[index.isna() | (index < FIRST_DAY) | (index > LAST_POSSIBLE_DAY)]:
        raise DataError(f"{what}: {wrong} is not a day between {FIRST_DAY.date()} and {LAST_POSSIBLE_DAY.date()}")
    table = table.assign(day=index).drop_duplicates().set_index("day").sort_index()
    for twice in table.index[table.index.duplicated()]:
        raise DataError(f"{what}: {twice.date()} is given twice with different values")
    step = table.index.diff().median()
    if step > DAY:
        raise DataError(f"{what}: one value every {step.days} days instead of every day (thinned out)")
    return table.reindex(pd.date_range(table.index[0], table.index[-1], unit="us"))


def stamped(data: bytes, name: str, fields: Sequence[str], what: str) -> pd.Series:
    """The daily series in the list `name` of a JSON object, records of time [Unix s] and value; zeros are missing."""
    points = numbers(records(data, name, what), fields, what)
    days = pd.to_datetime(points[fields[0]], unit="s", errors="coerce")
    values = by_day(days, points[[fields[1]]], what)[fields[1]]
    return values.where(values > 0)


def network_columns(hash_rate_hs: pd.Series, difficulty: pd.Series) -> dict[str, pd.Series]:
    """Hash rate, difficulty and the blocks of the day that they imply: hash rate [H/s] * 86400 / 2**32 / difficulty.

    The count is rounded where it lies within 0.02 of an integer (so an exact count stays exact), unrounded elsewhere.
    """
    count = hash_rate_hs * 86_400 / 2**32 / difficulty
    count = count.where((count - count.round()).abs() >= 0.02, count.round())
    return {"hash_rate_ehs": hash_rate_hs / 1e18, "block_count": count, "difficulty": difficulty}


REQUIRED, OPTIONAL = ("HashRate", "BlkCnt"), ("IssTotNtv", "IssTotUSD", "FeeTotNtv", "PriceUSD", "DiffMean")
CSV_FILE, API, KEY_VARIABLE = "btc.csv", "Coin Metrics API", "COINMETRICS_API_KEY"


def coinmetrics_panel(text: pd.DataFrame, what: str) -> pd.DataFrame:
    """The panel in a table of Coin Metrics' daily metrics; days without a block have no hash rate and no difficulty.

    Difficulty is `DiffMean` where given, else hash rate [H/s] * 86400 / 2**32 / blocks. Height counts blocks from the
    chain's first day on, and is unknown after a gap and where the table begins later.
    """
    if "time" not in text:
        raise DataError(f"{what}: the column time is missing")
    midnight = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:T00:00:00(?:\.0+)?Z?)?$"
    said = text["time"].astype(str).str.extract(midnight, expand=False)
    days = pd.to_datetime(said, format="%Y-%m-%d", errors="coerce")
    for wrong in text["time"][days.isna()]:
        raise DataError(f"{what}: time {one_line(repr(wrong), 60)} is not a day as YYYY-MM-DD")
    table = by_day(days, numbers(text, REQUIRED, what, OPTIONAL), what).reindex(columns=[*REQUIRED, *OPTIONAL])
    positive = table.where(table > 0)
    hash_rate, blocks, price = positive["HashRate"], table["BlkCnt"], positive["PriceUSD"]
    derived = hash_rate * 1e12 * 86_400 / (2**32 * positive["BlkCnt"])
    columns = {
        "price_usd": price,
        "hash_rate_ehs": hash_rate / 1e6,
        "block_count": blocks,
        "difficulty": positive["DiffMean"].fillna(derived),
        "height": blocks.cumsum(skipna=False) if table.index[0] <= pd.Timestamp("2009-01-09") else blocks * np.nan,
        "issuance_btc": table["IssTotNtv"],
        "fees_btc": table["FeeTotNtv"],
        "revenue_usd": table["IssTotUSD"] + table["FeeTotNtv"] * price,
    }
    return daily_panel(columns)


def parse_coinmetrics(files: Mapping[str, bytes]) -> pd.DataFrame:
    """The panel in the public CSV (`btc.csv`), or in the API's pages (`page-*.json`), whose numbers come as text."""
    if CSV_FILE in files:
        return coinmetrics_panel(table_from_csv(files[CSV_FILE]), CSV_FILE)
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
    columns = network_columns(hash_rate_ths * 1e12, difficulty)
    return daily_panel({"price_usd": price.shift(-1, freq="D"), **columns, "revenue_usd": revenue})


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
    return daily_panel(network_columns(hash_rate, difficulty))


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


def read_file(path: str | Path) -> tuple[pd.DataFrame, bytes]:
    """The panel in a local file in Coin Metrics' format, and its bytes; `DataError` where it cannot be had."""
    try:
        file = Path(path).expanduser()
        size = file.stat().st_size
        if not file.is_file():
            raise DataError("is a folder" if file.is_dir() else "is not a regular file")
        if not 0 < size <= 200_000_000:
            raise DataError(f"holds {size:,} bytes; more than none and at most 200,000,000 are read")
        data = file.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(one_line(getattr(error, "strerror", None) or error, 120)) from None
    return coinmetrics_panel(table_from_csv(data), "the file"), data
