"""Ctrl-C at any moment: a clean end, exit 130, no process, nothing half-made."""

from __future__ import annotations

import os
import random
import signal
import time

import pandas as pd
import pytest

import local_server as ls
from capitulation.data import store
from reliability import homes

SLOW_TRIES = 30
SLEEP = "import pathlib, time; pathlib.Path('started').write_text(''); time.sleep(60)"


@pytest.fixture
def home(tmp_path):
    return homes.tiny_home(tmp_path)


def interrupt(process, times=1):
    """What a terminal does: the signal goes to every process of the group."""
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    return homes.finish(process, 60)


@pytest.mark.parametrize("fork", ["1", pytest.param("0", marks=pytest.mark.slow)])
def test_ctrl_c_during_a_notebook(home, fork):
    homes.add_cell_notebook(home, "15-sleep-long", SLEEP)
    process = homes.start(home, *homes.report_arguments(home), CAPITULATION_FORK=fork)
    homes.wait_until((home / "notebooks" / "started").exists, 60)
    code, out, err = interrupt(process)
    assert (code, out) == (130, "")
    assert homes.one_error_line(err) == "interrupted: nothing was published"
    homes.no_process_left(home)
    assert not homes.rubbish(home)
    assert not (home / "reports" / "t").exists()
    ls.record_outcome("crash", "Ctrl-C during a notebook", 1, "exit 130, no process left, nothing published")


def test_ctrl_c_while_a_service_keeps_silent(home):
    with ls.LocalServer() as server:
        server.serve(ls.CATALOG, ls.silent(30))
        process = homes.start(home, "fetch", "--source", "coinmetrics", **server.environment())
        homes.wait_until(lambda: bool(server.requests))
        code, _out, err = interrupt(process)
    assert code == 130
    assert homes.one_error_line(err) == "interrupted: nothing was published"
    assert ls.tree(home / "data" / "raw") == {}
    ls.record_outcome("crash", "Ctrl-C during a fetch", 1, "exit 130, store untouched")


@pytest.mark.slow
def test_ctrl_c_at_random_moments_of_report(home):
    """From the first import to the last rename, pressed once or twice: one of two whole reports is in place."""
    complete, path = [], homes.frozen_library(home)
    for variant in homes.VARIANTS:
        began = time.monotonic()
        assert homes.report(home, variant=variant, PYTHONPATH=path)[0] == 0
        complete.append(homes.digests(home / "reports" / "t"))
    length = time.monotonic() - began
    moments = random.Random(5)
    codes = set()
    for number in range(SLOW_TRIES):
        process = homes.start(home, *homes.report_arguments(home, variant=homes.VARIANTS[number % 2]), PYTHONPATH=path)
        time.sleep(moments.uniform(0, length))
        code, _out, err = interrupt(process, 1 + number % 2)
        assert "Traceback" not in err or "cli.py" not in err, err  # Python itself was still starting
        codes.add(code)
        assert code in (0, 130, -signal.SIGINT)
        homes.no_process_left(home)
        assert homes.digests(home / "reports" / "t") in complete
    assert 130 in codes
    assert homes.report(home, PYTHONPATH=path)[0] == 0
    assert homes.digests(home / "reports" / "t") == complete[0]
    assert not homes.rubbish(home)
    outcome = "no traceback, no process left, a complete version in place"
    ls.record_outcome("crash", "Ctrl-C, once or twice, at random moments of report", SLOW_TRIES, outcome)


# --- several at once ------------------------------------------------------------------------------------------------

SHORT_SLEEP = "import time; time.sleep(1.5)"


def served(server) -> None:
    end = pd.Timestamp(store.utc_now().date()) - pd.Timedelta(days=1)
    server.serve_all(ls.made_panel(200, end=str(end.date())))


def test_reports_and_a_fetch_side_by_side(home, monkeypatch):
    """Two reports of one name and one of another, and a fetch beside them: all end well and nothing is mixed."""
    homes.add_cell_notebook(home, "30-sleep-short", SHORT_SLEEP)
    with ls.LocalServer() as server:
        served(server)
        first = homes.start(home, *homes.report_arguments(home, "t", homes.VARIANTS[0]))
        homes.wait_until(lambda: any((home / "reports").glob(".t.staging-*")), 60)
        others = [
            homes.start(home, *homes.report_arguments(home, "t", homes.VARIANTS[1])),
            homes.start(home, *homes.report_arguments(home, "u", homes.VARIANTS[1])),
            homes.start(home, "fetch", "--source", "coinmetrics", **server.environment()),
        ]
        ended = [homes.finish(process) for process in (first, *others)]
    assert [code for code, _out, _err in ended] == [0, 0, 0, 0], ended
    waiting = ["waiting for it" in err for _code, _out, err in ended]
    assert waiting == [False, True, False, False]
    for run in ("t", "u"):
        folder = home / "reports" / run
        assert len((folder / "tables" / "tail.csv").read_text().splitlines()) == 22
        assert len((folder / "tables" / "days.csv").read_text().splitlines()) == 22
        assert "The last 21 days." in (folder / "index.html").read_text()
        assert "The last 20 days." not in (folder / "report.html").read_text()
    t, u = (homes.digests(home / "reports" / run) for run in ("t", "u"))
    same = {name for name in t if t[name] == u.get(name)}
    assert {name for name in t if name.startswith(("tables/", "notebooks/", "findings/", "market/"))} <= same
    monkeypatch.setenv("CAPITULATION_HOME", str(home))
    assert [verdict.status for verdict in store.check_data()] == ["good"]
    assert not homes.rubbish(home)
    homes.no_process_left(home)
    outcome = "all end well, the second of one name waits and says so, nothing mixed"
    ls.record_outcome("concurrency", "two reports of one name, one of another, a fetch beside", 4, outcome)


def test_a_run_leaves_alone_what_belongs_to_a_run_whose_name_begins_alike(home, monkeypatch):
    """`.a.staging-1.staging-77` is the work of run `a.staging-1`, not a leftover of run `a`."""
    from capitulation.report import publish

    monkeypatch.setenv("CAPITULATION_HOME", str(home))
    theirs = [home / "reports" / name for name in (".a.staging-1.staging-77", ".a.old-1.staging-77")]
    for folder in theirs:
        folder.mkdir()
    publish.new_staging("a")
    assert all(folder.is_dir() for folder in theirs)
    assert not (home / "reports" / "a").exists()
