"""A local HTTP server that answers as the providers are documented to, and in every wrong way.

It serves only paths that exist there. Nothing here is real data: answers are made from a panel, as a rule a small one
built by code.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pandas as pd
import pytest

from capitulation.data import snapshots
from capitulation.data.mempool import HOURLY_SINCE
from capitulation.data.panel import panel_digest
from capitulation.mining.difficulty import adjustments
from panels import steady_panel

METRICS = {"hash_rate_ehs": "HashRate", "block_count": "BlkCnt", "issuance_btc": "IssTotNtv", "fees_btc": "FeeTotNtv"}
METRICS |= {"price_usd": "PriceUSD"}
API, CATALOG, CSV = "/v4/timeseries/asset-metrics", "/v4/catalog-v2/asset-metrics", "/csv/btc.csv"
CHARTS, CHAININFO = "/charts", "/rest/chaininfo.json"
MEMPOOL, BARE = "/api/v1/mining/hashrate/all", "/api/v1/mining/hashrate"  # the bare one: a BRK instance, and only there
ADJUSTMENTS, PRICES = "/api/v1/mining/difficulty-adjustments", "/api/v1/historical-price"
FEES = "/api/v1/mining/blocks/fees/all"
MEMPOOL_FILES = {"hashrate.json": MEMPOOL, "adjustments.json": ADJUSTMENTS, "prices.json": PRICES, "fees.json": FEES}
EXIST = [
    *map(re.escape, (API, CATALOG, CSV, CHAININFO, ADJUSTMENTS, PRICES)),
    CHARTS + "/(hash-rate|difficulty|market-price|miners-revenue)",
    r"/api/v1/mining/hashrate/(all|1m|3m|6m|1y|2y|3y)",
    r"/api/v1/mining/blocks/fees/(24h|3d|1w|1m|3m|6m|1y|2y|3y|all)",
    r"/rest/blockhashbyheight/\d+\.json",
    r"/rest/headers/(\d+/)?(HASH|[0-9a-f]{64})\.bin",  # HASH: of any block
    "/x",  # of no provider: for what holds of any answer
]


ANSWERS: dict[str, dict[str, bytes]] = {}  # by the digest of the panel that they were made from: bodies by path


def made_panel(days: int = 400, start: str = "2022-01-01", seed: int = 5, end: str = "") -> pd.DataFrame:
    """A small market by code: one retarget in the middle, Poisson blocks, a random-walk price, heights unknown."""
    random = np.random.default_rng(seed)
    first = pd.Timestamp(end) - pd.Timedelta(days=days - 1) if end else start
    blocks = random.poisson(144, days).astype(float)
    difficulty = np.where(np.arange(days) < days // 2, 2.4e13, 2.6e13)
    price = 40_000 * np.exp(np.cumsum(random.normal(0, 0.02, days)))
    panel = steady_panel(difficulty * 2**32 * blocks / 86400 / 1e18, blocks, first, price)
    return panel.assign(height=np.nan).set_axis(panel.index.as_unit("us"))


def metric_frame(panel: pd.DataFrame) -> pd.DataFrame:
    """The panel under Coin Metrics' names and units (hash rate in TH/s)."""
    frame = panel[[*METRICS]].rename(columns=METRICS)
    return frame.assign(HashRate=frame["HashRate"] * 1e6, IssTotUSD=frame["IssTotNtv"] * frame["PriceUSD"])


def coinmetrics_csv(panel: pd.DataFrame) -> bytes:
    """Coin Metrics' daily CSV with a column that is not used."""
    frame = metric_frame(panel)
    frame.insert(0, "AdrActCnt", 1)
    return frame.to_csv(index_label="time", date_format="%Y-%m-%d").encode()


def coinmetrics_rows(panel: pd.DataFrame) -> list[dict]:
    """One record per day as the API gives it: numbers as text, missing keys for missing values."""
    frame = metric_frame(panel)
    rows = []
    for day, values in zip(frame.index, frame.to_numpy(), strict=True):
        known = {name: repr(float(value)) for name, value in zip(frame.columns, values, strict=True) if value == value}
        rows.append({"asset": "btc", "time": f"{day:%Y-%m-%d}T00:00:00.000000000Z", **known})
    return rows


def coinmetrics_page(rows: list[dict], token: str = "") -> bytes:
    """One page of the API."""
    return json.dumps({"data": rows, **({"next_page_token": token} if token else {})}).encode()


def seconds(index: pd.DatetimeIndex) -> list[int]:
    return index.as_unit("s").asi8.tolist()


def blockchain_chart(values: pd.Series, unit: str) -> bytes:
    points = [{"x": x, "y": float(y)} for x, y in zip(seconds(values.index), values, strict=True)]
    return json.dumps({"status": "ok", "unit": unit, "period": "day", "values": points}).encode()


def blockchain_charts(panel: pd.DataFrame) -> dict[str, bytes]:
    """The four charts by file name: hash rate in TH/s, the price stamped one day later."""
    later = panel["price_usd"].set_axis(panel.index + pd.Timedelta(days=1))
    return {
        "hash-rate.json": blockchain_chart(panel["hash_rate_ehs"] * 1e6, "TH/s"),
        "difficulty.json": blockchain_chart(panel["difficulty"], "Difficulty"),
        "market-price.json": blockchain_chart(later, "USD"),
        "miners-revenue.json": blockchain_chart(panel["revenue_usd"], "USD"),
    }


def mempool_heights(panel: pd.DataFrame) -> pd.Series:
    """The panel's heights; made ones where it has none, in the era of 25 BTC, difficulty changing where it should."""
    if panel["height"].notna().any():
        return panel["height"]
    blocks, level = panel["block_count"].fillna(144).cumsum(), panel["difficulty"].ffill().bfill()
    changed = blocks.shift(1, fill_value=0)[level.pct_change().abs() > 1e-3]
    return blocks + 299_999 + (2016 - 300_000 - changed.sum()) % 2016 if len(changed) == 1 else blocks + 299_999


def mempool_answers(
    panel: pd.DataFrame, newest_first: bool = True, digits: int = 17, seed: int | None = None
) -> dict[str, bytes]:
    """mempool.space's answers by file name, for a market known from its first day on or made by code.

    Hash rates are stamped a day late and rounded to `digits`; prices come by the hour (some of them) since October 2013
    and by the week before, -1 and 0 among them; fees as a day's mean per block. With a `seed` there is luck: hash rates
    divide by the time from last block to last block, and adjustments come at random times of their day.
    """
    random, height, days = np.random.default_rng(seed), mempool_heights(panel), panel.index
    blocks, starts = panel["block_count"].fillna(144), dict(zip(days, seconds(days), strict=True))
    waits = random.exponential(600, len(panel) + 1) if seed is not None else np.zeros(len(panel) + 1)
    rate = panel["hash_rate_ehs"].fillna(0) * 1e18 / (1 - np.diff(waits) / 86_400)
    rates = [
        {"timestamp": starts[day] + 86_400, "avgHashrate": float(f"{value:.{digits}g}")} for day, value in rate.items()
    ]
    known = panel.assign(height=height, block_count=blocks, difficulty=panel["difficulty"].ffill().bfill())
    first = int(height.dropna().iloc[0] - blocks[height.first_valid_index()])
    steps = [(min(1_231_006_505, starts[days[0]] + 86_399), 0, 1.0, 0.0)] if first < 2016 else []
    rates += [{"timestamp": steps[0][0], "avgHashrate": 4.97e4}] if steps else []  # as of the first block alone
    steps = steps or [(starts[days[0]] - 86_400, first // 2016 * 2016, known["difficulty"].iloc[0], 1.0)]
    for row in adjustments(known).dropna().itertuples():
        new = height[row.date] - row.height + 1
        counts = np.array([blocks[row.date] - new + 0.5, new - 0.5])
        before, after = (counts if seed is None else random.gamma(counts + 0.5)) * [1, 1 + row.change]
        if row.difficulty > 1.0001:  # one that changes nothing is not listed
            when = starts[row.date] + int(86_400 * before / (before + after))
            steps.append((when, int(row.height), row.difficulty, round(1 + row.change, 5)))
    prices = []
    for day, price in panel["price_usd"].dropna().items():
        if day >= HOURLY_SINCE:
            hours = ((1, price * 1.01), (12, price * 0.99), (23, price))
            prices += [{"time": starts[day] + hour * 3600, "USD": value} for hour, value in hours]
        elif day.day_of_week == 6:
            prices.append({"time": starts[day] + 86_400, "USD": price})
    prices += [{"time": prices[len(prices) // 2]["time"] + 600, "USD": -1}, {"time": prices[-1]["time"] + 60, "USD": 0}]
    means = (panel["fees_btc"] / blocks.where(blocks > 0) * 1e8).dropna()
    fees = [
        {"avgHeight": int(height.get(day, 0)), "timestamp": starts[day] + 43_000, "avgFees": round(mean), "USD": 1}
        for day, mean in means.items()
    ]
    fields, order = ("time", "height", "difficulty", "adjustment"), -1 if newest_first else 1
    listed = [dict(zip(fields, step, strict=True)) for step in steps]
    answers = {
        "hashrate.json": {"hashrates": rates, "difficulty": listed, "currentHashrate": 1, "currentDifficulty": 1},
        "adjustments.json": steps[::-1],
        "prices.json": {"prices": prices[::order], "exchangeRates": {"USDEUR": 0.9}},
        "fees.json": fees,
    }
    return {name: json.dumps(answer).encode() for name, answer in answers.items()}


def be_quick(monkeypatch, timeout: float = 0.6) -> None:
    """Time limits of a fetch as a test can wait for them."""
    limits = {"TRIES": 3, "TOTAL_SECONDS": timeout, "FIRST_WAIT": 0.01, "LONGEST_WAIT": 1.0}
    for name, value in {**limits, "CONNECT_SECONDS": 1.0, "READ_SECONDS": 0.4}.items():
        monkeypatch.setattr(snapshots, name, value)


Behaviour = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Plays the next behaviour of the path that is asked for; the last one repeats."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.owner.requests.append((path, dict(parse_qsl(urlsplit(self.path).query)), dict(self.headers)))
        scripts = self.server.owner.scripts
        script = scripts.get(path) or scripts.get(re.sub("[0-9a-f]{64}", "HASH", path), [])
        behaviour = script.pop(0) if len(script) > 1 else script[0] if script else reply(404)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            behaviour(self)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        return

    def head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        return


class LocalServer:
    """`with LocalServer() as server`: let it `serve`, ask `server.url`, look at `server.requests`.

    `brk`: it stands for a BRK instance in place of a mempool.
    """

    brk = False

    def __enter__(self) -> LocalServer:
        self.scripts: dict[str, list[Behaviour]] = {}
        self.requests: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.owner = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, path: str, *behaviours: Behaviour) -> None:
        """From now on `path`, which must exist at a service, plays `behaviours` in turn, repeating the last."""
        real = path == BARE if self.brk and path.startswith(BARE) else any(re.fullmatch(form, path) for form in EXIST)
        assert real, f"no service has the path {path}"
        self.scripts[path] = list(behaviours)

    def serve_all(self, panel: pd.DataFrame) -> None:
        """Every provider answers well, with `panel`'s market."""
        digest = panel_digest(panel)
        if digest not in ANSWERS:
            ANSWERS[digest] = {
                API: coinmetrics_page(coinmetrics_rows(panel)),
                CSV: coinmetrics_csv(panel),
                **{MEMPOOL_FILES[name]: body for name, body in mempool_answers(panel).items()},
                **{f"{CHARTS}/{name.removesuffix('.json')}": body for name, body in blockchain_charts(panel).items()},
            }
        for path, body in ANSWERS[digest].items():
            self.serve(path, reply(body=body))

    def break_all(self, code: int = 404) -> None:
        """From now on every path answers with `code`."""
        for path in [*self.scripts]:
            self.serve(path, reply(code))

    def environment(self) -> dict[str, str]:
        """What points every provider at this server, a node aside (NODE_URL)."""
        return {
            "CAPITULATION_COINMETRICS_URL": f"{self.url}/v4",
            "CAPITULATION_COINMETRICS_CSV_URL": f"{self.url}/csv",
            "CAPITULATION_BLOCKCHAIN_COM_URL": f"{self.url}/charts",
            "MEMPOOL_URL": self.url,
        }


@contextlib.contextmanager
def services(monkeypatch, home: Path) -> Iterator[LocalServer]:
    """A server to which the addresses of all providers lead, a node's aside, for a project folder of its own."""
    monkeypatch.setenv("CAPITULATION_HOME", str(home))
    for name in ("COINMETRICS_API_KEY", "LICENCE", "NODE_URL"):
        monkeypatch.delenv(name, raising=False)
    be_quick(monkeypatch, timeout=5.0)
    with LocalServer() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


def reply(code: int = 200, body: bytes = b"", **headers: str) -> Behaviour:
    """A whole answer."""

    def play(handler: Handler) -> None:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.head(code, {"Content-Length": str(len(body)), **names})
        handler.wfile.write(body)

    return play


def drip(handler: Handler) -> None:
    """One byte at a time, each within the read time-out, far too slow together."""
    handler.head(200, {"Content-Length": "1000"})
    for _ in range(1000):
        handler.wfile.write(b"x")
        time.sleep(0.2)


def cut_short(body: bytes, reset: bool = False) -> Behaviour:
    """Announces the whole body, sends half and closes, or resets the connection."""

    def play(handler: Handler) -> None:
        handler.head(200, {"Content-Length": str(len(body))})
        handler.wfile.write(body[: len(body) // 2])
        handler.wfile.flush()
        if reset:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()

    return play


def endless(handler: Handler) -> None:
    """A body without end."""
    handler.head(200, {})
    while True:
        handler.wfile.write(b"x" * 65536)


@contextlib.contextmanager
def one_line_error(kind: type[Exception], text: str | None = None):
    """What `pytest.raises` gives, for an error that must be one short line."""
    with pytest.raises(kind, match=text) as caught:
        yield caught
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under `folder` (lock files aside) with its bytes: equal trees mean an untouched store."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
