"""Kill -9 at random moments of a real fetch: no half snapshot is ever read and the next fetch needs no cleaning.

Run as a program (`python test_data_kill.py KILLS SEED`, home and addresses in the environment) this file is the one who
kills: it imports everything once, then forks a child per kill that fetches again and again until it dies.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import local_server as ls
from capitulation.data import store
from capitulation.data.market import fetch, load_market
from capitulation.params import make_params
from capitulation.paths import raw_folder

KILLS, SLOW_KILLS = 20, 200


def kill_fetches(kills: int, seed: int) -> None:
    """Kill `kills` fetching children, each every other one while it writes; check the store after each."""
    params = make_params({"source": "coinmetrics", "max_age_days": 0})
    fetch(params, lambda line: None)
    began = time.monotonic()
    fetch(params, lambda line: None)
    length = time.monotonic() - began
    moments = random.Random(seed)
    unfinished = set()
    for number in range(kills):
        child = os.fork()
        if child == 0:
            while True:
                fetch(params, lambda line: None)
        if number % 2:
            wait_for_a_write()
            time.sleep(moments.uniform(0, length / 10))
        else:
            time.sleep(moments.uniform(0, length * 1.5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        verdicts = store.check_data()
        unfinished |= {verdict.name for verdict in verdicts if verdict.status == "leftover"}
        assert all(verdict.good for verdict in verdicts), verdicts
        snapshot, refused = store.newest_snapshot("coinmetrics")
        assert snapshot is not None
        assert refused == ()
    fetch(params, lambda line: None)
    assert not any(verdict.status == "leftover" for verdict in store.check_data())
    print(f"{kills} kills, {len(unfinished)} in the middle of a write, {len(store.check_data())} snapshots, all good")


def wait_for_a_write() -> None:
    """Return as soon as a snapshot is being written: a moment that chance alone would rarely hit."""
    end = time.monotonic() + 5
    while time.monotonic() < end and not any((raw_folder() / "coinmetrics").glob(".writing-*")):
        time.sleep(0.0005)


def run_kills(kills: int, tmp_path, monkeypatch) -> str:
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path))
    end = pd.Timestamp(store.utc_now().date()) - pd.Timedelta(days=1)
    panel = ls.made_panel(60, end=str(end.date()))
    with ls.LocalServer() as server:
        server.serve_all(panel)
        environment = os.environ | server.environment()
        command = [sys.executable, str(Path(__file__)), str(kills), "17"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        market = load_market(make_params({"source": "coinmetrics"}), progress=lambda line: None)
    pd.testing.assert_series_equal(market.panel.price_usd, panel.price_usd, check_freq=False)
    assert not list(raw_folder().rglob(".writing-*"))
    outcome = "no half snapshot read, all stored ones verify, the next fetch needs no cleaning"
    ls.record_outcome("crash", "kill -9 at random moments of fetch", kills, outcome)
    return done.stdout


def test_twenty_kills_leave_no_half_snapshot(tmp_path, monkeypatch):
    assert run_kills(KILLS, tmp_path, monkeypatch).startswith("20 kills")


@pytest.mark.slow
def test_two_hundred_kills_leave_no_half_snapshot(tmp_path, monkeypatch):
    assert run_kills(SLOW_KILLS, tmp_path, monkeypatch).startswith("200 kills")


if __name__ == "__main__":
    kill_fetches(int(sys.argv[1]), int(sys.argv[2]))
