"""Where daily data come from, and what may be done with them. Fetching (network) and parsing (pure) stand apart.

Coin Metrics has every column; a node's headers give all of the network and no price; the mempool API has price too and
blocks by reckoning; Blockchain.com lacks issuance, fees and height. A parser gives a panel or raises `DataError` in one
line where the bytes are not what the service documents.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import NamedTuple

import pandas as pd

from capitulation.data import headers
from capitulation.data.headers import REGTEST, Chain
from capitulation.data.mempool import fetch_mempool_space, parse_mempool_space
from capitulation.data.node import fetch_node
from capitulation.data.panel import PANEL_COLUMNS, POSITIVE, block_heights, daily_panel, hash_rate_ehs
from capitulation.data.reading import (
    by_day,
    load_json,
    midnights,
    numbers,
    read_text,
    records,
    stamped,
    table_from_csv,
    times,
)
from capitulation.data.snapshots import Answer, Get, base_url
from capitulation.errors import DataError, InputError
from capitulation.paths import reference_folder

COMMERCIAL = {"yes": "yes", "no": "no", "ask": "to be asked"}


class Terms(NamedTuple):
    """What may be done with the data of a source, as in data/reference/sources.csv.

    `commercial` use is allowed: "yes", "no", or "ask" (the terms leave it open). `gives`: what it has, in words.
    """

    source: str
    name: str
    licence: str
    commercial: str
    attribution: str
    link: str
    gives: str


@cache
def all_terms() -> dict[str, Terms]:
    """The terms of every source by its name; read once."""
    table = pd.read_csv(reference_folder() / "sources.csv", dtype=str, keep_default_na=False)
    return {row.source: Terms(*row) for row in table[[*Terms._fields]].itertuples(index=False)}


class Provider(NamedTuple):
    """One source: `fetch` gives its answers (a later one where an earlier fails), `parse` the panel in their bytes.

    `chain`: that of a node, whose answers hold what is new; `parse` takes all headers and the clock that dates them.
    """

    parse: Callable[..., pd.DataFrame]
    fetch: tuple[Callable[[Get], dict[str, Answer]], ...]
    chain: Chain | None = None


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


def coinmetrics_metrics(
    files: Mapping[str, bytes], required: Iterable[str] = REQUIRED, optional: Iterable[str] = OPTIONAL
) -> pd.DataFrame:
    """Coin Metrics' metrics by day, in its public CSV (`btc.csv`) or its API's pages (`page-*.json`, numbers as text).

    `DataError` without one of the `required`; of the `optional` those that are there.
    """
    if CSV_FILE in files:
        what, text = CSV_FILE, table_from_csv(read_text(files[CSV_FILE], CSV_FILE), CSV_FILE)[0]
        text = text.loc[:, ~text.columns.duplicated()]
    else:
        pages = [files[name] for name in sorted(files) if re.fullmatch(r"page-\d+\.json", name)]
        tables = [records(page, "data", API) for page in pages]
        what, text = API, pd.concat([pd.DataFrame(), *tables], ignore_index=True)
    if "time" not in text:
        raise DataError(f"{what}: the column time is missing; it may have been renamed")
    table = numbers(text, [*required], what, [*optional])
    return by_day(midnights(times(text["time"], f"{what}: time"), what), table, what)


def parse_coinmetrics(files: Mapping[str, bytes]) -> pd.DataFrame:
    """The panel in Coin Metrics' answers; days without a block have no hash rate and no difficulty."""
    return assemble(coinmetrics_metrics(files).rename(columns=REQUIRED | OPTIONAL), 12)


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


PROVIDERS = {  # in order of preference
    "coinmetrics": Provider(parse_coinmetrics, (fetch_coinmetrics, fetch_coinmetrics_csv)),
    "node": Provider(headers.daily, (fetch_node,), headers.MAIN),
    "mempool_space": Provider(parse_mempool_space, (fetch_mempool_space,)),
    "blockchain_com": Provider(parse_blockchain_com, (fetch_blockchain_com,)),
    "node_regtest": Provider(headers.daily, (partial(fetch_node, chain=REGTEST, provider="node_regtest"),), REGTEST),
}
