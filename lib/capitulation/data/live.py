"""Do the services still answer as documented? One small request per provider and path; nothing is ever stored.

What a fetch would ask for is asked for, of less history where a service has a smaller form of it. The answer must have
its documented fields, end a few days ago at most, and be at a level that Bitcoin has, which a changed unit would not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

import pandas as pd

from capitulation.data import mempool, sources
from capitulation.data.checks import usual, usual_factor
from capitulation.data.headers import MAIN, block_hash
from capitulation.data.market import utc_now
from capitulation.data.node import NODE_URL
from capitulation.data.panel import BLOCKS_PER_DAY, DAY, FIRST_DAY, HASHES_PER_EXAHASH, subsidy_btc
from capitulation.data.panel import UNITS as PANEL_UNITS
from capitulation.data.reading import load_json, numbers, records, stamped
from capitulation.data.snapshots import Answer, FetchError, Get, Progress, base_url, fetch_answer
from capitulation.errors import DataError, one_line

OK, DIFFERS, NO_ANSWER, NOT_ASKED = "ok", "differs", "no answer", "not asked"
PATIENCE = 20.0  # seconds
LATE_DAYS, LATE_ADJUSTMENT, WEEK = 7, 21, 7  # days; an epoch of difficulty lasts two weeks
METRICS = [name for name in (*sources.REQUIRED, *sources.OPTIONAL) if name != "DiffMean"]  # that one is not free
FEES_BTC = 0.1  # of a block in the mean: 0.01 to 1 in any month since 2013, but for some of 2017 and 2024
SMALL = {"paging_from": "end", "page_size": str(WEEK), "timespan": "7days"}  # in place of what a fetch asks for
Question = tuple[str, Mapping[str, str], Mapping[str, str]]  # address, query, what is secret of it


class Line(NamedTuple):
    """What is said of one path of a source; `status`: ok, differs, no answer or not asked."""

    source: str
    path: str
    status: str
    words: str


def check_live(progress: Progress = print) -> list[Line]:
    """A line for every path of every source, told to `progress` once it is known.

    A host that kept one waiting in vain is not asked again.
    """
    lines, silent = [], set[str]()
    for source, judge, *ways in _paths():
        address, began = urlsplit(ways[0][0] if ways else ""), time.monotonic()
        if not ways:
            line = Line(source, "", NOT_ASKED, judge)
        elif address.netloc in silent:
            line = Line(source, address.path, NO_ANSWER, "the host kept waiting before, so it was not asked again")
        else:
            line = _ask(source, judge, *ways)
        if line.status == NO_ANSWER and time.monotonic() - began > PATIENCE:
            silent.add(address.netloc)
        progress(f"{line.status:10}{line.source}{line.path and ' '}{line.path}: {line.words}")
        lines.append(line)
    return lines


def _ask(source: str, judge: Callable[[bytes], str], *ways: Question) -> Line:
    """What the first of the `ways` to ask that is known to the service gives; the first way's own name without any."""
    lost = None
    for url, query, secrets in ways:
        path = urlsplit(url).path
        try:
            return Line(source, path, OK, judge(fetch_answer(url, query, secrets, lambda _line: None).body))
        except FetchError as error:
            lost = lost or Line(source, path, NO_ANSWER, one_line(error, 300))
            if error.status not in (400, 404):
                break
        except DataError as error:
            return Line(source, path, DIFFERS, one_line(error, 300))
    return lost


def _asked(fetch: Callable[[Get], object]) -> list[Question]:
    """What a provider's fetch asks for, in its small form."""
    asked: list[Question] = []

    def get(url: object, query: Mapping[str, str] | None = None, secrets: Mapping[str, str] | None = None) -> Answer:
        small = {name: SMALL.get(name, value) for name, value in (query or {}).items()}
        asked.append((str(url), small, secrets or {}))
        return Answer(str(url), small, b"{}")

    fetch(get)
    return asked


def _paths() -> Iterator[tuple]:
    """Source, judge of the answer (words, or `DataError`), ways to ask; words alone of a source that is not asked."""
    [(url, query, secrets)] = _asked(sources.fetch_coinmetrics)
    yield "coinmetrics", partial(_metrics, "page-01.json"), (url, query, secrets)
    catalog, asset = url.replace("/timeseries/", "/catalog-v2/"), {"assets": "btc", "metrics": ",".join(METRICS)}
    yield "coinmetrics", _catalog, (catalog, asset, secrets)
    yield "coinmetrics", partial(_metrics, sources.CSV_FILE), *_asked(sources.fetch_coinmetrics_csv)
    for chart, question in zip(sources.CHARTS, _asked(sources.fetch_blockchain_com), strict=True):
        yield "blockchain_com", partial(_chart, chart), question

    if mempool.unwanted():
        yield "mempool_space", f"{mempool.MEMPOOL_URL} is {mempool.NOBODY}"
    else:
        hashes, steps, prices, fees = _asked(mempool.fetch_mempool_space)
        yield "mempool_space", _hash_rate, hashes, (hashes[0].removesuffix("/all"), {}, {})  # the second: BRK
        yield "mempool_space", lambda body: _steps({mempool.ADJUSTMENTS: body}), steps
        last = pd.Timestamp(utc_now().date()) - pd.Timedelta(hours=1)
        one = prices[1] | {"timestamp": f"{last.timestamp():.0f}"}
        yield "mempool_space", lambda body: _newest("price_usd", mempool.day_end_prices(body)), (prices[0], one, {})
        yield "mempool_space", lambda body: _newest("fees_btc", mempool.mean_fees(body)), fees

    if not os.environ.get(NODE_URL):
        yield "node", f"{NODE_URL} is not set"
        return
    rest, genesis = f"{base_url(NODE_URL, '')}/rest", block_hash(MAIN.genesis)[::-1].hex()
    yield "node", _node_state, (f"{rest}/chaininfo.json", {}, {})
    yield "node", partial(_node_hash, genesis), (f"{rest}/blockhashbyheight/0.json", {}, {})
    old = (f"{rest}/headers/1/{genesis}.bin", {}, {})  # before version 24
    yield "node", _node_header, (f"{rest}/headers/{genesis}.bin", {"count": "1"}, {}), old


def _newest(column: str, values: pd.Series, late: int = LATE_DAYS, first: str = "") -> str:
    """The newest day of a series and its level, in words; `DataError` where it is too old or in another unit."""
    known = values.dropna()
    if known.empty:
        raise DataError(f"{column}: holds no values")
    day, value = known.index[-1].normalize(), known.iloc[-WEEK:].median()
    days = (pd.Timestamp(utc_now().date()) - day).days
    if days > late:
        raise DataError(f"{column}: ends on {day:%Y-%m-%d}, {days} days ago")
    at, blocks = pd.DatetimeIndex([day]), BLOCKS_PER_DAY * ((day - FIRST_DAY) / DAY)
    if column == "revenue_usd":
        expected = usual("price_usd", at).iloc[0] * subsidy_btc(blocks) * BLOCKS_PER_DAY
    else:
        expected = {"block_count": BLOCKS_PER_DAY, "fees_btc": FEES_BTC}.get(column) or usual(column, at).iloc[0]
    limit = usual_factor(at)[0]
    unit = "BTC a block" if column == "fees_btc" else PANEL_UNITS[column]
    said = f"{value:{',.0f' if value >= 1000 else '.3g'}} {unit}"
    if not expected / limit < value < expected * limit:
        raise DataError(f"{column}: {said} is {value / expected:.3g} times what is usual: another unit?")
    return f"{first or f'{len(known):,} days'} to {day:%Y-%m-%d}, {said}"


def _metrics(file: str, body: bytes) -> str:
    """Coin Metrics' table, from the API or as CSV."""
    table = sources.coinmetrics_metrics({file: body}, METRICS, ())
    for column, values in (
        ("block_count", table["BlkCnt"]),
        ("price_usd", table["PriceUSD"]),
        ("revenue_usd", table["IssTotUSD"]),
        ("revenue_usd", table["IssTotNtv"] * table["PriceUSD"]),
        ("fees_btc", table["FeeTotNtv"] / table["BlkCnt"]),
    ):
        _newest(column, values)
    return _newest("hash_rate_ehs", table["HashRate"] / 1e6)


def _catalog(body: bytes) -> str:
    """Coin Metrics' list of what it gives for an asset."""
    what = "Coin Metrics catalog"
    assets = records(body, "data", what).to_dict("records")
    listed = next((row.get("metrics") for row in assets if row.get("asset") == "btc"), None)
    names = [item.get("metric") for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    for lost in (name for name in METRICS if name not in names):
        raise DataError(f"{what}: {lost} is not among the metrics of btc; it may no longer be free")
    return f"all {len(METRICS)} metrics are there"


def _chart(chart: str, body: bytes) -> str:
    columns = dict(zip(sources.CHARTS, ("hash_rate_ehs", "difficulty", "price_usd", "revenue_usd"), strict=True))
    values = stamped(body, "values", ("x", "y"), f"Blockchain.com {chart}")
    return _newest(columns[chart], values / (1e6 if chart == "hash-rate" else 1))


def _hash_rate(body: bytes) -> str:
    """The mempool API's hash rates, and its adjustments in the same answer."""
    _steps({mempool.HASH_RATE: body})
    return _newest("hash_rate_ehs", mempool.daily_hash_rate(body) / HASHES_PER_EXAHASH)


def _steps(files: Mapping[str, bytes]) -> str:
    steps = mempool.read_adjustments({mempool.HASH_RATE: b'{"difficulty": []}', **files})
    if steps["height"].isna().any():
        raise DataError("mempool adjustments: the column height is missing; it may have been renamed")
    levels = steps["difficulty"].set_axis(pd.to_datetime(steps["time"], unit="s"))
    return _newest("difficulty", levels, LATE_ADJUSTMENT, f"{len(steps)} adjustments")


def _node_state(body: bytes) -> str:
    state, what = load_json(body, "chaininfo"), "chaininfo"
    found = numbers(pd.DataFrame([state], dtype=object), ("blocks", "headers", "difficulty", "mediantime"), what)
    if state.get("chain") != MAIN.name or not isinstance(state.get("bestblockhash"), str):
        said = one_line(f"chain is {state.get('chain')!r}, bestblockhash {state.get('bestblockhash')!r}", 120)
        raise DataError(f"{what}: {said}; a node of the chain {MAIN.name!r} is needed")
    level = found["difficulty"].set_axis(mempool.moments(found["mediantime"], f"{what}: mediantime"))
    return _newest("difficulty", level, first=f"{found['blocks'].iloc[0]:,.0f} blocks")


def _node_hash(genesis: str, body: bytes) -> str:
    found = load_json(body, "blockhashbyheight").get("blockhash")
    if found != genesis:
        raise DataError(f"blockhashbyheight: the first block is {one_line(repr(found), 80)}, not {genesis}")
    return "the first block's hash"


def _node_header(body: bytes) -> str:
    if body != MAIN.genesis:
        raise DataError(f"headers: {len(body):,} bytes that are not the first block's {len(MAIN.genesis)}")
    return "the first block's header"
