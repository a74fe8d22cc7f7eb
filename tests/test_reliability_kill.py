"""Kill -9 at random moments of a whole report, and of the processes that work for it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import local_server as ls
from reliability import homes

KILLS, SLOW_KILLS = 5, 200


@pytest.fixture
def home(tmp_path):
    return homes.tiny_home(tmp_path)


def run_kills(home, kills, seed):
    command = [sys.executable, "-m", "reliability.kill_reports", str(home), str(kills), str(seed)]
    env = homes.environment(home, PYTHONPATH=homes.frozen_library(home))
    done = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [int(number) for number in re.findall(r"\d+", done.stdout)]
    assert found[0] == kills
    assert found[1] >= kills * 0.6, "most kills must hit a run under way"
    print(done.stdout)
    outcome = "one of the two complete versions in place, no process left, the next run needs no cleaning"
    ls.record_outcome("crash", "kill -9 at random moments of report, publishing included", kills, outcome)


def test_kills_leave_a_whole_report(home):
    run_kills(home, KILLS, 3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [17, 18])
def test_hundreds_of_kills_leave_a_whole_report(home, seed):
    run_kills(home, SLOW_KILLS // 2, seed)


DEATHS = {
    "kernel": ("os.kill(os.getpid(), 9)", r"notebook 30-die-now, cell 3: the kernel died"),
    "warm process": ("os.kill(os.getppid(), 9); time.sleep(60)", r"notebook 30-die-now, cell 3: the kernel died"),
    "worker": ("os.kill(worker(), 9); time.sleep(60)", r"notebook 30-die-now, its process ended with code -9"),
    "memory": ("resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32)); bytearray(2**33)",
               r"notebook 30-die-now, cell 3: MemoryError"),
}  # fmt: skip
WORKER = """
import os, pathlib, resource, time
def worker():
    driver = int(pathlib.Path('driver').read_text())
    children = pathlib.Path(f'/proc/{driver}/task/{driver}/children').read_text().split()
    return next(int(c) for c in children if b'zygote' not in pathlib.Path(f'/proc/{c}/cmdline').read_bytes())
"""


LONG = pytest.mark.slow
WHO = [pytest.param(who, marks=() if who in ("kernel", "worker") else LONG) for who in DEATHS]


@pytest.mark.parametrize("who", WHO)
def test_death_of_a_process_names_notebook_and_cell(home, who):
    """Out of memory, the system kills one process of a run: the kernel or one that serves it."""
    before = previous_report(home)
    action, expected = DEATHS[who]
    for path in (home / "notebooks").glob("*.ipynb"):
        path.unlink()
    book = homes.rh.cells_notebook(WORKER, action)
    homes.rh.write_notebook(home / "notebooks", "30-die-now", book)
    driver = homes.start(home, *homes.report_arguments(home))
    (home / "notebooks" / "driver").write_text(str(driver.pid))
    code, _out, err = homes.finish(driver)
    line = homes.one_error_line(err)
    assert code == 5
    assert re.search(expected, line), line
    assert "the previous report is untouched" in line
    assert homes.digests(home / "reports" / "t") == before
    homes.no_process_left(home)
    assert not homes.rubbish(home)
    ls.record_outcome("crash", f"killed during a notebook: {who}", 1, "one line naming notebook and cause")


def previous_report(home):
    """Something to lose: a folder where the report is to go."""
    folder = home / "reports" / "t"
    folder.mkdir()
    for name in ("index.html", "run.json"):
        (folder / name).write_text("previous")
    return homes.digests(folder)
