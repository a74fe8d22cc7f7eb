"""Where daily data come from: three providers and local files. Fetching (network) and parsing (pure) stand apart.

Coin Metrics has every column, Blockchain.com lacks issuance and fees, mempool.space has no price. A parser gives a
panel or raises `DataError` in one line where the bytes are not what the service documents.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pandas as pd

from capitulation.data.panel import DAY, FIRST_DAY, LAST_POSSIBLE_DAY, daily_panel
from capitulation.data.snapshots import Answer
from capitulation.errors import DataError, InputError, SourceUnavailable, one_line

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
Get = Callable[..., Answer]  # get(address, query, secrets), with the query's secret part apart
Fetched = tuple[dict[str, Answer], list[str]]  # answers by file name, and remarks such as why a fallback was taken


class Provider(NamedTuple):
    """One source: `fetch(get)` gives its answers, `parse(files)` the panel in their bytes."""

    licence: str
    attribution: str
    fetch: Callable[[Get], Fetched]
    parse: Callable[[Mapping[str, bytes]], pd.DataFrame]


def base_url(variable: str, default: str) -> httpx.URL:
    """The service's address: the environment variable's (a mirror, a test server) where set, else the public one."""
    try:
        url = httpx.URL((os.environ.get(variable) or default).rstrip("/"))
        if url.scheme in ("http", "https") and url.host and 0 < (url.port or 80) < 65_536:
            return url
    except httpx.InvalidURL:
        pass
    raise InputError(f"{variable}: not an http or https address; unset or correct it")


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


def records(answer: Mapping[str, Any], name: str, what: str) -> pd.DataFrame:
    """The records in the list `answer[name]`, a column for each of their fields, with whatever these hold."""
    rows = answer.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{what}: the field {name!r} is no list of records; the service may have renamed it")
    return pd.DataFrame(rows, dtype=object)


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
            return math.nan
        parsed = float(text) if NUMBER.fullmatch(text) else -1.0
        if parsed < 0 or math.isinf(parsed):
            raise DataError(f"{what}: {name}: {one_line(repr(value), 80)} is not a number of at least 0")
        return parsed

    names = [*required, *(name for name in optional if name in table)]
    return pd.DataFrame({name: [number(value, name) for value in table[name]] for name in names}, dtype=float)


def by_day(days: pd.Series, table: pd.DataFrame, what: str) -> pd.DataFrame:
    """The rows of `table` by UTC day, sorted and without gaps; a day given twice with equal values counts once.

    `DataError` where its values differ, for a day outside the chain's life, and where most neighbours lie more than a
    day apart: the service has thinned the series out.
    """
    index = pd.DatetimeIndex(days).normalize().as_unit("us")
    wrong = index.isna() | (index < FIRST_DAY) | (index > LAST_POSSIBLE_DAY)
    if wrong.any():
        raise DataError(
            f"{what}: {index[wrong][0]} is not a day between {FIRST_DAY.date()} and {LAST_POSSIBLE_DAY.date()}"
        )
    table = table.assign(day=index).drop_duplicates().set_index("day").sort_index()
    twice = table.index[table.index.duplicated()]
    if len(twice):
        raise DataError(f"{what}: {twice[0].date()} is given twice with different values")
    step = table.index.to_series().diff().median()
    if step > DAY:
        raise DataError(f"{what}: one value every {step.days} days instead of every day (thinned out)")
    return table.reindex(pd.date_range(table.index[0], table.index[-1], unit="us"))


def implied_block_count(hash_rate_hs: pd.Series, difficulty: pd.Series) -> pd.Series:
    """Blocks of the day: hash rate [H/s] * 86400 / 2**32 / difficulty, NaN where either is.

    Rounded where it lies within 0.02 of an integer (so an exact count stays exact), unrounded elsewhere.
    """
    count = hash_rate_hs * 86_400 / 2**32 / difficulty
    return count.where((count - count.round()).abs() >= 0.02, count.round())


REQUIRED, OPTIONAL = ("HashRate", "BlkCnt"), ("IssTotNtv", "IssTotUSD", "FeeTotNtv", "PriceUSD", "DiffMean")
CSV_FILE, API = "btc.csv", "Coin Metrics API"
KEY_VARIABLE = "COINMETRICS_API_KEY"


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
    blocks, price = table["BlkCnt"], table["PriceUSD"].where(table["PriceUSD"] > 0)
    hash_rate = table["HashRate"].where(table["HashRate"] > 0)
    derived = hash_rate * 1e12 * 86_400 / (2**32 * blocks.where(blocks > 0))
    columns = {
        "price_usd": price,
        "hash_rate_ehs": hash_rate / 1e6,
        "block_count": blocks,
        "difficulty": table["DiffMean"].where(table["DiffMean"] > 0).fillna(derived),
        "height": blocks.cumsum(skipna=False) if table.index[0] <= pd.Timestamp("2009-01-09") else blocks * math.nan,
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
    tables = [records(load_json(page, API), "data", API) for page in pages]
    return coinmetrics_panel(pd.concat([pd.DataFrame(), *tables], ignore_index=True), API)


def fetch_coinmetrics(get: Get) -> Fetched:
    """The API's answers, or the public CSV file where the API cannot be reached or does not answer as documented."""
    try:
        return _fetch_api(get)
    except (SourceUnavailable, DataError) as error:
        first = error
    url = base_url("CAPITULATION_COINMETRICS_CSV_URL", "https://raw.githubusercontent.com/coinmetrics/data/master/csv")
    try:
        answer = get(f"{url}/{CSV_FILE}")
        parse_coinmetrics({CSV_FILE: answer.body})
    except (SourceUnavailable, DataError) as error:
        raise type(error)(f"Coin Metrics: API: {first}; CSV: {error}") from None
    return {CSV_FILE: answer}, [f"API: {first}; read the public CSV instead"]


def _fetch_api(get: Get) -> Fetched:
    """The catalog first, as the free metrics change without notice; then every page of those that it offers.

    A key goes nowhere but into the request. Only characters that no encoding of an address changes are allowed in it,
    so that one form of it need be hidden.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if key and not re.fullmatch(r"[A-Za-z0-9._~-]{8,200}", key):
        raise InputError(f"{KEY_VARIABLE}: not a key (8 or more letters, digits, . _ ~ -); unset or correct it")
    default = f"https://{'api' if key else 'community-api'}.coinmetrics.io/v4"
    url, secrets = base_url("CAPITULATION_COINMETRICS_URL", default), {"api_key": key} if key else {}
    if key and url.scheme != "https" and url.host not in ("127.0.0.1", "localhost", "::1"):
        raise SourceUnavailable(f"{url.host}: {KEY_VARIABLE} is only sent over https; use an https address")
    catalog = get(f"{url}/catalog-v2/asset-metrics", {"assets": "btc"}, secrets)
    metrics = offered_metrics(catalog.body)
    query = {"assets": "btc", "metrics": ",".join(metrics), "frequency": "1d"}
    query |= {"page_size": "10000", "paging_from": "start"}
    pages: dict[str, Answer] = {}
    for number in range(1, 21):
        pages[f"page-{number:02d}.json"] = answer = get(f"{url}/timeseries/asset-metrics", query, secrets)
        token = load_json(answer.body, API).get("next_page_token")
        if not token:
            break
        query = query | {"next_page_token": str(token)}
    else:
        raise DataError(f"{API}: more than {number} pages of 10,000 days, given up")
    parse_coinmetrics({name: page.body for name, page in pages.items()})
    lost = [name for name in (*REQUIRED, *OPTIONAL[:-1]) if name not in metrics]
    return {"catalog.json": catalog, **pages}, [f"the API's catalog no longer offers {', '.join(lost)}"] if lost else []


def offered_metrics(catalog: bytes) -> list[str]:
    """The metrics offered daily; `DataError` where a required one is not, or the answer is no catalog."""
    what = f"{API} catalog"
    try:
        rows = load_json(catalog, what)["data"][0]["metrics"]
        daily = [row["metric"] for row in rows if any(item["frequency"] == "1d" for item in row["frequencies"])]
    except (KeyError, IndexError, TypeError):
        raise DataError(f"{what}: not what is documented") from None
    for lost in {*REQUIRED} - {*daily}:
        raise DataError(f"{what}: {lost} is not offered daily any more")
    return [name for name in (*REQUIRED, *OPTIONAL) if name in daily]


CHARTS = ("hash-rate", "difficulty", "market-price", "miners-revenue")
HASHES_PER_SECOND = {"H/s": 1.0, "GH/s": 1e9, "TH/s": 1e12, "PH/s": 1e15, "EH/s": 1e18}


def fetch_blockchain_com(get: Get) -> Fetched:
    """The four charts, whole history; the service thins a chart out unless asked with `sampled=false`."""
    url = base_url("CAPITULATION_BLOCKCHAIN_COM_URL", "https://api.blockchain.info/charts")
    query = {"timespan": "all", "format": "json", "sampled": "false"}
    return {f"{chart}.json": get(f"{url}/{chart}", query) for chart in CHARTS}, []


def parse_blockchain_com(files: Mapping[str, bytes]) -> pd.DataFrame:
    """The panel in the charts: price, hash rate, difficulty, revenue and the implied block count; zeros are missing.

    A point of the price chart stamped day D is the price at the START of D, so it is the panel's price of D-1. Heights
    stay unknown: the derived block counts of 2016 to 2018 are not exact. The service has answered 200 with an empty
    list for hours, which is refused.
    """
    series, units = {}, {}
    for chart in CHARTS:
        what = f"Blockchain.com {chart}"
        answer = load_json(files.get(f"{chart}.json", b""), what)
        points = numbers(records(answer, "values", what), ("x", "y"), what)
        values = by_day(pd.to_datetime(points["x"], unit="s", errors="coerce"), points[["y"]], what)["y"]
        series[chart], units[chart] = values.where(values > 0), one_line(answer.get("unit", ""), 20)
    unit = units["hash-rate"] or "TH/s"
    if unit not in HASHES_PER_SECOND:
        raise DataError(f"Blockchain.com hash-rate: unknown unit {unit!r}; known are {', '.join(HASHES_PER_SECOND)}")
    hash_rate, price = series["hash-rate"] * HASHES_PER_SECOND[unit], series["market-price"]
    columns = {
        "price_usd": price.set_axis(price.index - DAY),
        "hash_rate_ehs": hash_rate / 1e18,
        "block_count": implied_block_count(hash_rate, series["difficulty"]),
        "difficulty": series["difficulty"],
        "revenue_usd": series["miners-revenue"],
    }
    return daily_panel(columns)


def fetch_mempool_space(get: Get) -> Fetched:
    """The whole daily history in one answer."""
    url = base_url("CAPITULATION_MEMPOOL_SPACE_URL", "https://mempool.space/api")
    return {"hashrate.json": get(f"{url}/v1/mining/hashrate/all")}, []


def parse_mempool_space(files: Mapping[str, bytes]) -> pd.DataFrame:
    """The panel in the answer: hash rate, difficulty and the implied block count; all other columns are missing.

    The value stamped 00:00 of day D describes day D-1. It divides by the time between a day's first and last block, so
    the implied count is off by about one block: it stays unrounded. Difficulty is the one that held at noon.
    """
    what = "mempool.space hashrate"
    answer = load_json(files.get("hashrate.json", b""), what)
    points = numbers(records(answer, "hashrates", what), ("timestamp", "avgHashrate"), what)
    days = pd.to_datetime(points["timestamp"], unit="s", errors="coerce").dt.floor("D") - DAY
    hash_rate = by_day(days, points[["avgHashrate"]], what)["avgHashrate"]
    hash_rate = hash_rate.where(hash_rate > 0)
    steps = numbers(records(answer, "difficulty", what), ("time", "difficulty"), what).sort_values("time")
    at = np.searchsorted(steps["time"], hash_rate.index.as_unit("s").asi8 + 43_200)
    difficulty = pd.Series(np.append(np.nan, steps["difficulty"])[at], index=hash_rate.index)
    blocks = implied_block_count(hash_rate, difficulty)
    return daily_panel({"hash_rate_ehs": hash_rate / 1e18, "block_count": blocks, "difficulty": difficulty})


PROVIDERS = {
    "coinmetrics": Provider(
        "CC BY-NC 4.0",
        "Coin Metrics community network data, coinmetrics.io, CC BY-NC 4.0",
        fetch_coinmetrics,
        parse_coinmetrics,
    ),
    "blockchain_com": Provider(
        "Blockchain.com terms of service",
        "Blockchain.com charts, blockchain.com/explorer/charts",
        fetch_blockchain_com,
        parse_blockchain_com,
    ),
    "mempool_space": Provider(
        "mempool.space terms of service",
        "mempool.space, mempool.space/graphs/mining",
        fetch_mempool_space,
        parse_mempool_space,
    ),
}
"""In order of preference."""


def read_file(path: str | Path) -> tuple[pd.DataFrame, bytes]:
    """The panel in a local file in Coin Metrics' format, and its bytes; `DataError` where it cannot be had."""
    try:
        file = Path(path).expanduser()
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError("is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
        if not 0 < status.st_size <= 200_000_000:
            raise DataError(f"holds {status.st_size:,} bytes; more than none and at most 200,000,000 are read")
        data = file.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(one_line(getattr(error, "strerror", None) or error, 120)) from None
    return coinmetrics_panel(table_from_csv(data), "the file"), data
