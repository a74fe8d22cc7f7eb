"""Sweeps of moving-average pairs: against vectorbt, with ten times the rules, all rotations, one worker and two."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import market
import measure
import numpy as np
import pandas as pd

from capitulation.study.performance import DAYS_PER_YEAR
from capitulation.study.sweep import pair_grid
from capitulation.study.sweep_figures import sweep
from capitulation.study.sweep_rotation import sweep_rotation

HERE = Path(__file__).resolve().parent
PEER_ENVIRONMENT = HERE / ".venv"
FAST, SLOW = (5, 65, 1), (20, 180, 2)
FEE_BPS = 10.0
HORIZONS = (7, 30, 60, 90, 180, 365)
EQUAL = 1e-9
LOG_LEVEL = logging.CRITICAL
TEN_TIMES_SLOW = (65, 777)
SCALING_SLOW = (65, 365)


def pairs() -> list[tuple[int, int]]:
    return pair_grid(range(*FAST), range(*SLOW))


def peer_python() -> Path:
    """Python of the peers' own environment, made on first use."""
    python = PEER_ENVIRONMENT / "bin" / "python"
    if not python.exists():
        print("making the peers' environment, once …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(PEER_ENVIRONMENT)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--requirement", str(HERE / "requirements.txt")], check=True)
    return python


class Peer:
    """vectorbt in its own process, waiting for the word to run."""

    def __init__(self, close: pd.Series, folder: Path) -> None:
        self.results = folder / "results.csv"
        close.to_csv(folder / "close.csv")
        windows = [":".join(map(str, span)) for span in (FAST, SLOW)]
        arguments = [str(folder / "close.csv"), str(self.results), str(FEE_BPS * 1e-4), *windows]
        command = [str(peer_python()), str(HERE / "vectorbt_peer.py"), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = self._answer()["ready"]

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("vectorbt's process ended early; its message stands above")
        return json.loads(line)

    def seconds(self) -> float:
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return self._answer()["seconds"]

    def close(self) -> pd.DataFrame:
        self.process.stdin.close()
        self.process.wait(timeout=60)
        return pd.read_csv(self.results)


def _with_first_day(sharpe: pd.Series, n: int) -> np.ndarray:
    """Our annualised ratio over n - 1 returns as the peer counts it: n returns, the first day's being zero."""
    x = sharpe.to_numpy() / np.sqrt(DAYS_PER_YEAR)
    squares = 1 / (n - 1) + (n - 2) / ((n - 1) ** 2 * x**2)  # sum of squares over the squared sum
    variance = (squares - 1 / n) / (n - 1)
    return np.sign(x) / n / np.sqrt(variance) * np.sqrt(DAYS_PER_YEAR)


def largest_difference(ours: pd.DataFrame, theirs: pd.DataFrame, n_days: int) -> float:
    """Largest relative difference of total return and Sharpe ratio; raises where pairs or trades differ."""
    keys = ["fast_days", "slow_days"]
    both = ours.merge(theirs, on=keys, suffixes=("", "_peer"), validate="one_to_one")
    assert len(both) == len(ours) == len(theirs), "the two sides swept different pairs"
    assert (both["n_trades"] == both["entries"]).all(), "crossings differ"
    growth = np.log1p(both["total_return"]) - np.log1p(both["total_return_peer"])
    ratio = _with_first_day(both["sharpe"], n_days) / both["sharpe_peer"] - 1
    return float(max(growth.abs().max(), ratio.abs().max()))


def against_vectorbt(runs: int) -> measure.Row:
    """Means, crossings, total return and Sharpe ratio of every pair, on one core each, results compared."""
    close, grid, found = market.close(), pairs(), []

    def ours() -> float:
        return measure.clock(lambda: found.append(sweep(close, close, grid, lag_days=0, fee_bps=FEE_BPS)))

    with tempfile.TemporaryDirectory() as folder, measure.one_core():
        peer = Peer(close, Path(folder))
        ours()  # first touch of memory: not counted, as the peer's compilation is not
        mine, theirs = measure.in_turn(ours, peer.seconds, runs)
        difference = largest_difference(found[-1], peer.close(), len(close))
    assert difference < EQUAL, f"results differ by {difference:.1e}"
    note = f"{len(grid):,} pairs, vectorbt {peer.version}; results equal within {difference:.0e}"
    return measure.compared("sweep: means, crossings, return, Sharpe", mine, theirs, 100, note)


def with_everything(runs: int) -> measure.Row:
    """The same sweep with forward returns at all horizons on top."""
    close, grid = market.close(), pairs()
    with measure.one_core():
        seconds = [
            measure.clock(lambda: sweep(close, close, grid, HORIZONS, fee_bps=FEE_BPS)) for _ in range(max(runs, 5))
        ]
    return measure.limited(f"sweep with forward returns at {len(HORIZONS)} horizons", seconds, 1.0, "one core")


def all_rotations(runs: int) -> measure.Row:
    """Exact rotation p of every pair and family-wise p of the best, hash rate against price."""
    data, grid = market.panel(), pairs()
    signal, price = data["hash_rate_ehs"], data["price_usd"]
    with measure.one_core():
        seconds = [
            measure.clock(lambda: sweep_rotation(signal, price, grid, 90, 1, "2014-01-01")) for _ in range(max(runs, 5))
        ]
    return measure.limited("exact rotation of all pairs together", seconds, 10.0, f"{len(grid):,} pairs, one core")


def ten_times(runs: int) -> measure.Row:
    """Cost of ten times the pairs over that of the pairs, per run."""
    close, fasts = market.close(), range(*FAST)
    few, many = pair_grid(fasts, range(*TEN_TIMES_SLOW, 10)), pair_grid(fasts, range(*TEN_TIMES_SLOW))
    with measure.one_core():
        large, small = measure.in_turn(
            lambda: measure.clock(lambda: sweep(close, close, many, HORIZONS)),
            lambda: measure.clock(lambda: sweep(close, close, few, HORIZONS)),
            runs,
        )
    rules, factor = len(many) / len(few), np.median(large) / np.median(small)
    note = f"{len(many):,} against {len(few):,} pairs: {rules:.1f} times the rules, {factor:.1f} times the time"
    row = measure.compared(
        "sweep of ten times the rules (peer: ours, a tenth of them)", list(large), list(small), 0, note
    )
    return measure.Row(**{**row.as_dict(), "target": "at most 11 times the time", "met": bool(factor <= 1.1 * rules)})


def two_workers(runs: int) -> measure.Row | None:
    """Rotations on a Dask cluster of two worker processes against one, results compared bit for bit."""
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        return None
    from capitulation.study.chunks import dask

    logging.getLogger("distributed").setLevel(LOG_LEVEL)

    data, grid = market.panel(), pair_grid(range(*FAST), range(*SCALING_SLOW))
    signal, price, found = data["hash_rate_ehs"], data["price_usd"], {}

    def timed(workers: int) -> Iterator[float]:
        options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": LOG_LEVEL}
        with LocalCluster(**options) as cluster, Client(cluster) as client:
            run = dask(client)
            while True:

                def once() -> None:
                    found[workers] = sweep_rotation(signal, price, grid, 90, 1, "2014-01-01", map_chunks=run)

                yield measure.clock(once)

    two, one = timed(2), timed(1)
    next(two), next(one)  # workers import the library: not counted
    both, alone = measure.in_turn(lambda: next(two), lambda: next(one), runs)
    two.close(), one.close()
    pd.testing.assert_frame_equal(found[1], found[2], check_exact=True)
    note = f"{len(grid):,} pairs; identical results; target is an efficiency of 80 % on two cores"
    return measure.compared("rotations on two Dask workers (peer: on one)", both, alone, 1.6, note)


SECTIONS = (against_vectorbt, with_everything, all_rotations, ten_times, two_workers)
