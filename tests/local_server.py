"""A local HTTP server that answers as the providers are documented to, and in every wrong way.

Nothing here is real data: answers are made from a small panel built by code.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import socketserver
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pandas as pd

METRIC_COLUMNS = {
    "HashRate": "hash_rate_ehs",
    "BlkCnt": "block_count",
    "IssTotNtv": "issuance_btc",
    "FeeTotNtv": "fees_btc",
    "PriceUSD": "price_usd",
}
API, CSV, CHARTS, MEMPOOL = "/cm/timeseries/asset-metrics", "/csv/btc.csv", "/charts", "/mempool/v1/mining/hashrate"
CATALOG = "/cm/catalog-v2/asset-metrics"


def made_panel(days: int = 400, start: str = "2022-01-01", seed: int = 5, end: str = "") -> pd.DataFrame:
    """A small market by code: one retarget in the middle, Poisson blocks, a random-walk price."""
    random = np.random.default_rng(seed)
    index = (
        pd.date_range(end=end, periods=days, name="date") if end else pd.date_range(start, periods=days, name="date")
    )
    blocks = random.poisson(144, days).astype(float)
    difficulty = np.where(np.arange(days) < days // 2, 2.4e13, 2.6e13)
    price = 40_000 * np.exp(np.cumsum(random.normal(0, 0.02, days)))
    issuance, fees = blocks * 6.25, blocks * 0.1
    return pd.DataFrame(
        {
            "price_usd": price,
            "hash_rate_ehs": difficulty * 2**32 * blocks / 86400 / 1e18,
            "block_count": blocks,
            "difficulty": difficulty,
            "height": np.nan,
            "issuance_btc": issuance,
            "fees_btc": fees,
            "revenue_usd": (issuance + fees) * price,
        },
        index=index.as_unit("us"),
    )


# --- answers in the providers' documented shapes -------------------------------------------------------------------


def metric_frame(panel: pd.DataFrame) -> pd.DataFrame:
    """The panel under Coin Metrics' names and units (hash rate in TH/s)."""
    frame = pd.DataFrame({metric: panel[column] for metric, column in METRIC_COLUMNS.items()})
    frame["HashRate"] *= 1e6
    frame["IssTotUSD"] = panel["issuance_btc"] * panel["price_usd"]
    return frame


def coinmetrics_csv(panel: pd.DataFrame) -> bytes:
    """Coin Metrics' daily CSV with a few columns that are not used."""
    frame = metric_frame(panel)
    frame.insert(0, "AdrActCnt", 1)
    return frame.to_csv(index_label="time", date_format="%Y-%m-%d").encode()


def coinmetrics_rows(panel: pd.DataFrame) -> list[dict]:
    """One record per day as the API gives it: numbers as text, missing keys for missing values."""
    frame = metric_frame(panel)
    rows = []
    for day, values in zip(frame.index, frame.to_dict("records"), strict=True):
        known = {name: repr(float(value)) for name, value in values.items() if pd.notna(value)}
        rows.append({"asset": "btc", "time": f"{day:%Y-%m-%d}T00:00:00.000000000Z", **known})
    return rows


def coinmetrics_page(rows: list[dict], token: str = "") -> bytes:
    """One page of the API."""
    page: dict = {"data": rows}
    if token:
        page |= {"next_page_token": token, "next_page_url": f"https://example.org/next?next_page_token={token}"}
    return json.dumps(page).encode()


def coinmetrics_catalog(metrics: tuple[str, ...] = (*METRIC_COLUMNS, "IssTotUSD")) -> bytes:
    """The catalog's answer, one asset."""
    rows = [{"metric": name, "frequencies": [{"frequency": "1d", "community": True}]} for name in metrics]
    return json.dumps({"data": [{"asset": "btc", "metrics": rows}]}).encode()


def blockchain_charts(panel: pd.DataFrame) -> dict[str, bytes]:
    """The four charts by path's last part: hash rate in TH/s, the price stamped one day later."""
    later = panel["price_usd"].set_axis(panel.index + pd.Timedelta(days=1))
    series = {
        "hash-rate": (panel["hash_rate_ehs"] * 1e6, "TH/s"),
        "difficulty": (panel["difficulty"], "Difficulty"),
        "market-price": (later, "USD"),
        "miners-revenue": (panel["revenue_usd"], "USD"),
    }
    return {name: blockchain_chart(values, unit) for name, (values, unit) in series.items()}


def blockchain_chart(values: pd.Series, unit: str) -> bytes:
    """One chart of Blockchain.com."""
    stamps = (values.index - pd.Timestamp(0)) // pd.Timedelta(seconds=1)
    points = [{"x": int(x), "y": float(y)} for x, y in zip(stamps, values, strict=True)]
    return json.dumps({"status": "ok", "unit": unit, "period": "day", "values": points}).encode()


def mempool_answer(panel: pd.DataFrame) -> bytes:
    """mempool.space's answer: stamps one day late, difficulty as steps with the ratio to the step before."""
    stamps = (panel.index - pd.Timestamp(0)) // pd.Timedelta(seconds=1) + 86400
    rates = [
        {"timestamp": int(t), "avgHashrate": float(h) * 1e18} for t, h in zip(stamps, panel.hash_rate_ehs, strict=True)
    ]
    ratio = panel["difficulty"] / panel["difficulty"].shift(1)
    steps = [
        {
            "time": int(day.timestamp()),
            "height": 700_000,
            "difficulty": float(panel.difficulty[day]),
            "adjustment": float(ratio[day]),
        }
        for day in ratio.index[ratio != 1][1:]
    ]
    return json.dumps({"hashrates": rates, "difficulty": steps, "currentHashrate": 1, "currentDifficulty": 1}).encode()


# --- the server ----------------------------------------------------------------------------------------------------

Behaviour = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Plays the next behaviour of the path that is asked for; the last one repeats."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        query = dict(parse_qsl(urlsplit(self.path).query))
        self.server.owner.requests.append((path, query))
        script = self.server.owner.scripts[path]
        behaviour = script.pop(0) if len(script) > 1 else script[0] if script else status(404)
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


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 50

    def handle_error(self, *_: object) -> None:
        return


@dataclass
class LocalServer:
    """`with LocalServer() as server`: set `server.scripts[path]`, ask `server.url`, look at `server.requests`."""

    scripts: dict[str, list[Behaviour]] = field(default_factory=lambda: defaultdict(list))
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __enter__(self) -> LocalServer:
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.owner = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, path: str, *behaviours: Behaviour) -> None:
        """From now on `path` plays `behaviours` in turn, repeating the last."""
        self.scripts[path] = list(behaviours)

    def serve_all(self, panel: pd.DataFrame) -> None:
        """Every provider answers well, with `panel`'s market."""
        self.serve(CATALOG, ok(coinmetrics_catalog()))
        self.serve(API, ok(coinmetrics_page(coinmetrics_rows(panel))))
        self.serve(CSV, ok(coinmetrics_csv(panel)))
        self.serve(MEMPOOL, ok(mempool_answer(panel)))
        for name, body in blockchain_charts(panel).items():
            self.serve(f"{CHARTS}/{name}", ok(body))

    def environment(self) -> dict[str, str]:
        """What points every provider at this server."""
        return {
            "CAPITULATION_COINMETRICS_URL": f"{self.url}/cm",
            "CAPITULATION_COINMETRICS_CSV_URL": f"{self.url}/csv",
            "CAPITULATION_BLOCKCHAIN_COM_URL": f"{self.url}/charts",
            "CAPITULATION_MEMPOOL_SPACE_URL": f"{self.url}/mempool",
        }


# --- behaviours ----------------------------------------------------------------------------------------------------


def reply(code: int, body: bytes = b"", **headers: str) -> Behaviour:
    """A whole answer."""

    def play(handler: Handler) -> None:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.head(code, {"Content-Length": str(len(body)), **names})
        handler.wfile.write(body)

    return play


def ok(body: bytes, **headers: str) -> Behaviour:
    """200 with `body`."""
    return reply(200, body, **headers)


def status(code: int, **headers: str) -> Behaviour:
    """A bare status."""
    return reply(code, b"no", **headers)


def zipped(body: bytes, damage: Callable[[bytes], bytes] = lambda data: data) -> Behaviour:
    """200 with a gzip body, after `damage`."""
    return ok(damage(gzip.compress(body)), Content_Encoding="gzip")


def silent(seconds: float = 5.0) -> Behaviour:
    """Accepts and says nothing."""
    return lambda handler: time.sleep(seconds)


def drip(body: bytes, seconds: float = 0.2) -> Behaviour:
    """One byte at a time, each within the read time-out, far too slow together."""

    def play(handler: Handler) -> None:
        handler.head(200, {"Content-Length": str(len(body))})
        for index in range(len(body)):
            handler.wfile.write(body[index : index + 1])
            time.sleep(seconds)

    return play


def reset_after(body: bytes, share: float = 0.5) -> Behaviour:
    """Part of the body, then a TCP reset."""

    def play(handler: Handler) -> None:
        handler.head(200, {"Content-Length": str(len(body))})
        handler.wfile.write(body[: int(len(body) * share)])
        handler.wfile.flush()
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return play


def cut_short(body: bytes) -> Behaviour:
    """Announces the whole body, sends half and closes."""

    def play(handler: Handler) -> None:
        handler.head(200, {"Content-Length": str(len(body))})
        handler.wfile.write(body[: len(body) // 2])

    return play


def endless(piece: bytes = b"x" * 65536) -> Behaviour:
    """A body without end."""

    def play(handler: Handler) -> None:
        handler.head(200, {})
        while True:
            handler.wfile.write(piece)

    return play


def redirect(location: str, code: int = 302) -> Behaviour:
    """A redirect."""
    return reply(code, b"", Location=location)


def refused_url() -> str:
    """An address on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under `folder` (lock files aside) with its bytes: equal trees mean an untouched store."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def record_outcome(area: str, fault: str, tried: int, outcome: str) -> None:
    """Add a line to the file named by CAPITULATION_RELIABILITY_LOG, from which docs/reliability.md is made."""
    log = os.environ.get("CAPITULATION_RELIABILITY_LOG")
    if log:
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"area": area, "fault": fault, "tried": tried, "outcome": outcome}) + "\n")
