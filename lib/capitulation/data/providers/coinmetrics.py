"""Coin Metrics: the community API v4 first, its public daily CSV as the fallback; both in the same columns.

The free metrics change without notice (difficulty left them), so the catalog is asked first and difficulty and height
are derived: difficulty = HashRate[TH/s] * 1e12 * 86400 / (2**32 * BlkCnt), height = cumulative BlkCnt from the first
block on.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import pandas as pd

from capitulation.data.http import Response
from capitulation.data.panel import daily_panel, drop_incomplete
from capitulation.data.providers import base
from capitulation.errors import DataError, InputError, SourceUnavailable, one_line

METRICS = ("HashRate", "BlkCnt", "IssTotNtv", "IssTotUSD", "FeeTotNtv", "PriceUSD", "DiffMean")
REQUIRED = ("HashRate", "BlkCnt")
CSV_FILE = "btc.csv"
FIRST_BLOCK_DAY = pd.Timestamp("2009-01-09")
CATALOG_FILE = "catalog.json"
COMMUNITY_URL = "https://community-api.coinmetrics.io/v4"
PAID_URL = "https://api.coinmetrics.io/v4"
CSV_URL = "https://raw.githubusercontent.com/coinmetrics/data/master/csv"
KEY_VARIABLE = "COINMETRICS_API_KEY"
PAGE_SIZE, MAX_PAGES = 10_000, 20
SHORTEST_KEY = 8
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _days(times: pd.Series, what: str) -> pd.DatetimeIndex:
    text = times.astype(str)
    days = text.str.slice(0, 10).where(text.str.fullmatch(r"\d{4}-\d{2}-\d{2}(T00:00:00(\.0+)?Z?)?"))
    parsed = pd.to_datetime(days, format="%Y-%m-%d", errors="coerce")
    if parsed.isna().any():
        raise DataError(f"{what}: time {one_line(repr(text[parsed.isna()].iloc[0]), 60)} is not a day as YYYY-MM-DD")
    return base.daily_index(parsed, what)


def _check_fields(data: bytes, what: str) -> None:
    """`DataError` where a line has more or fewer fields than the first: a file cut off or damaged."""
    lines = data.splitlines()
    if not lines or b"time" not in lines[0]:
        return  # no such file at all; said by the check of its columns
    fields = [line.count(b",") + 1 for line in lines if line.strip()]
    wrong = next((number for number, count in enumerate(fields, 1) if count != fields[0]), None)
    if wrong is None:
        return
    if wrong == len(fields):
        raise DataError(f"{what}: ends in mid-line; the file was cut off")
    raise DataError(f"{what}: line {wrong} has {fields[wrong - 1]} fields instead of {fields[0]}")


def table_from_csv(data: bytes, what: str = CSV_FILE) -> pd.DataFrame:
    """The metrics in a CSV in Coin Metrics' format: index day, columns those of `METRICS` that the file has."""
    if b"\x00" in data:
        raise DataError(f"{what}: not a text file")
    _check_fields(data, what)
    try:
        wanted = {"time", *METRICS}
        raw = pd.read_csv(
            io.BytesIO(data), usecols=wanted.__contains__, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{what}: not a CSV file in Coin Metrics' format: {one_line(error, 120)}") from None
    return _metric_table(raw, what)


def _metric_table(raw: pd.DataFrame, what: str) -> pd.DataFrame:
    for name in ("time", *REQUIRED):
        if name not in raw.columns:
            raise DataError(
                f"{what}: the column {name} is missing; Coin Metrics' format has time, {', '.join(REQUIRED)}, …"
            )
    if raw.empty:
        raise DataError(f"{what}: no rows")
    days = _days(raw["time"], what)
    table = {name: base.numbers(raw[name], f"{what}, {name}") for name in METRICS if name in raw.columns}
    return base.unique_days(pd.DataFrame(table, index=days), what)


def table_from_pages(pages: list[bytes], what: str = "Coin Metrics API") -> pd.DataFrame:
    """The metrics in the API's JSON pages; numbers come as text, a missing key is a missing value."""
    rows: list[dict] = []
    for page in pages:
        data = base.field(base.load_json(page, what), "data", what)
        if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
            raise DataError(f"{what}: the field 'data' is not a list of records")
        rows += data
    if not rows:
        raise DataError(f"{what}: the answer holds no days")
    return _metric_table(pd.DataFrame(rows, dtype=object), what)


def panel_from_table(table: pd.DataFrame) -> pd.DataFrame:
    """The panel's columns from Coin Metrics' metrics; days without a block have hash rate and difficulty missing."""
    days = pd.date_range(table.index[0], table.index[-1], freq="D", unit="us")
    table = table.reindex(index=days, columns=list(METRICS))
    blocks, price = table["BlkCnt"], table["PriceUSD"].where(table["PriceUSD"] > 0)
    hash_rate = table["HashRate"].where(table["HashRate"] > 0)
    given = table["DiffMean"].where(table["DiffMean"] > 0)
    derived = hash_rate * 1e12 * base.SECONDS_PER_DAY / (base.HASHES_PER_DIFFICULTY * blocks.where(blocks > 0))
    columns = {
        "price_usd": price,
        "hash_rate_ehs": hash_rate / 1e6,
        "block_count": blocks,
        "difficulty": given.fillna(derived),
        "height": _height(blocks),
        "issuance_btc": table["IssTotNtv"],
        "fees_btc": table["FeeTotNtv"],
        "revenue_usd": table["IssTotUSD"] + table["FeeTotNtv"] * price,
    }
    return drop_incomplete(daily_panel(columns))


def _height(blocks: pd.Series) -> pd.Series:
    """Height of the day's last block = blocks so far; unknown after a gap and if the table begins late."""
    if blocks.index[0] > FIRST_BLOCK_DAY:
        return pd.Series(float("nan"), index=blocks.index)
    return blocks.cumsum(skipna=False)


def parse(files: Mapping[str, bytes]) -> pd.DataFrame:
    """The panel in a snapshot's files: the CSV (`btc.csv`) or the API's pages (`page-*.json`)."""
    if CSV_FILE in files:
        return panel_from_table(table_from_csv(files[CSV_FILE]))
    pages = sorted(name for name in files if re.fullmatch(r"page-\d+\.json", name))
    if not pages:
        raise DataError("Coin Metrics: neither btc.csv nor a page of the API in the snapshot")
    return panel_from_table(table_from_pages([files[name] for name in pages]))


def api_key() -> dict[str, str]:
    """The key of the environment as the API's query part, empty without one; it goes nowhere but into the request."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if key and (len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable()):
        raise InputError(
            f"{KEY_VARIABLE}: not a key (at least {SHORTEST_KEY} printable characters); unset or correct it"
        )
    return {"api_key": key} if key else {}


def fetch(get: base.Get) -> base.Fetched:
    """The API's answers, or the public CSV file where the API cannot be reached or does not answer as documented."""
    try:
        return _fetch_api(get)
    except (SourceUnavailable, DataError) as error:
        first = error
    url = base.base_url("CAPITULATION_COINMETRICS_CSV_URL", CSV_URL)
    try:
        responses = {CSV_FILE: get(f"{url}/{CSV_FILE}", {})}
        return base.fetched(responses, parse, (f"API: {first}; read the public CSV instead",))
    except SourceUnavailable as error:
        raise SourceUnavailable(f"Coin Metrics: API: {first}; CSV: {error}") from None
    except DataError as error:
        raise DataError(f"Coin Metrics: API: {first}; CSV: {error}") from None


def _fetch_api(get: base.Get) -> base.Fetched:
    key = api_key()
    url = base.base_url("CAPITULATION_COINMETRICS_URL", PAID_URL if key else COMMUNITY_URL)
    parts = urlsplit(url)
    if key and parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise SourceUnavailable(
            f"{parts.hostname}: {KEY_VARIABLE} is only sent over https; unset it or use an https address"
        )
    catalog = get(f"{url}/catalog-v2/asset-metrics", {"assets": "btc"}, key)
    metrics = free_metrics(catalog.body)
    pages = _fetch_pages(get, f"{url}/timeseries/asset-metrics", metrics, key)
    lost = [name for name in METRICS[:-1] if name not in metrics]
    notes = (f"the API's catalog no longer offers {', '.join(lost)}",) if lost else ()
    return base.fetched({CATALOG_FILE: catalog, **pages}, parse, notes)


def _fetch_pages(get: base.Get, url: str, metrics: list[str], key: dict[str, str]) -> dict[str, Response]:
    query = {"assets": "btc", "metrics": ",".join(metrics), "frequency": "1d", "page_size": str(PAGE_SIZE)}
    query["paging_from"] = "start"
    pages: dict[str, Response] = {}
    token = ""
    for number in range(1, MAX_PAGES + 1):
        answer = get(url, query | ({"next_page_token": token} if token else {}), key)
        pages[f"page-{number:02d}.json"] = answer
        page = base.load_json(answer.body, "Coin Metrics API")
        token = page.get("next_page_token") if isinstance(page, dict) else None
        if not token:
            return pages
        if not isinstance(token, str):
            raise DataError("Coin Metrics API: next_page_token is not text")
    raise DataError(f"Coin Metrics API: more than {MAX_PAGES} pages of {PAGE_SIZE} days, given up")


def free_metrics(catalog: bytes) -> list[str]:
    """Those of `METRICS` offered daily; `DataError` where a required one is not, or the answer is no catalog."""
    what = "Coin Metrics API catalog"
    assets = base.field(base.load_json(catalog, what), "data", what)
    rows = base.field(assets[0], "metrics", what) if isinstance(assets, list) and assets else []
    rows = rows if isinstance(rows, list) else []
    offered = [row.get("metric") for row in rows if isinstance(row, dict) and _is_daily(row)]
    lost = [name for name in REQUIRED if name not in offered]
    if lost:
        raise DataError(f"{what}: {', '.join(lost)} is not offered daily any more")
    return [name for name in METRICS if name in offered]


def _is_daily(row: Mapping) -> bool:
    frequencies = row.get("frequencies", [])
    return isinstance(frequencies, list) and any(
        isinstance(item, dict) and item.get("frequency") == "1d" for item in frequencies
    )


PROVIDER = base.Provider(
    name="coinmetrics",
    title="Coin Metrics community network data",
    licence="CC BY-NC 4.0",
    attribution="Coin Metrics community network data, coinmetrics.io, CC BY-NC 4.0",
    fetch=fetch,
    parse=parse,
)
