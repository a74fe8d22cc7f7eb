"""Whatever goes wrong, when it likes: the last report stays whole, one line says what happened, no process lives on."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import homes
from capitulation.errors import InputError, ReportError
from capitulation.report import run
from homes import contents, report, write_notebook

LONG = pytest.mark.slow
KILL_SELF = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
HANG = """import ctypes, signal
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
signal.setitimer(signal.ITIMER_REAL, 0)
ctypes.PyDLL(None).sleep(600)"""  # deaf to signals, and no other thread runs
SLEEP = "import pathlib, time\npathlib.Path('started').write_text('')\ntime.sleep(60)"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(homes.make_home(tmp_path)))
    return tmp_path


@pytest.fixture
def tiny(tmp_path):
    return homes.tiny_home(tmp_path)


# --- cells that fail ------------------------------------------------------------------------------------------------


FAILING = {
    "error": ("raise KeyError('no\\nsuch')", "KeyError: .*no.*such.*"),
    "syntax": ("1 +", "SyntaxError: .*"),
    "magic": ("%nosuchmagic", "(UsageError|CellExecutionError): .*"),
    "exit": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "killed": (KILL_SELF, "the process died .killed, or out of memory."),
    "hangs": (HANG, "ran longer than CELL_TIMEOUT=2 seconds and was ended"),
}


@pytest.mark.parametrize(
    ("engine", "failure"),
    [("in-process", failure) for failure in FAILING]
    + [("kernel", failure) for failure in ("error", "exit", "killed", "hangs")],  # it tells the others as any error
)
def test_a_failing_cell_is_named_and_the_last_report_stays(home, engine, failure):
    source, reason = FAILING[failure]
    write_notebook(home, "10-fine-one", "# Fine", "1")
    good = contents(report())
    left = "import os\nos.fork()\n" if source == HANG and engine == "in-process" else ""  # a process that hangs too
    bad = write_notebook(home, "20-bad-one", "# Bad", "1", left + source, "2")
    with pytest.raises(ReportError) as caught:
        report(engine=engine, cell_timeout=2 if source == HANG else 60)
    assert re.fullmatch(f"notebook 20-bad-one, cell 4: {reason}; see reports/t.failed/, .*", str(caught.value))
    assert "\n" not in str(caught.value) and contents(home / "reports" / "t") == good
    homes.no_process_left(home)
    assert [path.name for path in (home / "reports" / "t.failed").iterdir()] == [bad.name]
    cells = json.loads((home / "reports" / "t.failed" / bad.name).read_text())["cells"]
    assert re.search("Error|Exit|Timeout", json.dumps([cell.get("outputs") for cell in cells]))
    assert sorted(path.name for path in (home / "reports").iterdir()) == [".locks", "t", "t.failed"]
    bad.unlink()
    report()
    assert not (home / "reports" / "t.failed").exists()


def test_two_notebooks_must_not_write_the_same_file(home):
    source = "import os, pathlib\npathlib.Path(os.environ['CAPITULATION_RUN_FOLDER'], 'x.json').write_text('1')"
    for name in ("10-a-b", "20-c-d"):
        write_notebook(home, name, source)
    with pytest.raises(ReportError, match=r"notebook 20-c-d writes x\.json, which another already wrote"):
        report()
    assert not (home / "reports" / "t").exists()


def test_a_hostile_file_name_is_only_a_name(home):
    homes.tiny_home(home)
    name = "x'''\"\"\"; import os; os.mkdir('pwned') #{x}\\n<script>.csv"
    shutil.copy(home / "btc.csv", home / name)
    write_notebook(home, "30-show-name", homes.OPEN + "page.finding(repr(data))")
    code, _out, err = homes.finish(homes.start(home, "report", "--run", "t", "--data", str(home / name)))
    assert code == 0, err
    finding = json.loads((home / "reports" / "t" / "findings" / "30-show-name.json").read_text())["finding"]
    assert finding == repr(name) and not list(home.rglob("pwned"))
    assert "<script>.csv" not in (home / "reports" / "t" / "30-show-name.html").read_text()


# --- publishing -----------------------------------------------------------------------------------------------------


def staged(home, mark):
    with run.staging_folder("t", lambda line: None) as staging:
        (staging / "run.json").write_text(mark)
        (staging / "other").write_text(mark)
        run.publish(staging, "t")


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "aside"])
def test_a_reader_finds_one_whole_report_or_the_other(home, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(run, "exchange", lambda one, other: False)
    staged(home, "0")
    torn, gone, stop = [], 0, threading.Event()

    def read():
        nonlocal gone
        while not stop.is_set():
            try:
                folder = os.open(home / "reports" / "t", os.O_RDONLY)
                opened = Path(f"/proc/self/fd/{folder}")  # the folder itself, whatever its name means by now
                marks = {(opened / name).read_text() for name in ("run.json", "other")}
                torn.extend([marks] if len(marks) > 1 else [])
                os.close(folder)
            except FileNotFoundError:
                gone += 1

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(50):
        staged(home, str(number % 2))
    stop.set()
    reader.join()
    assert torn == [] and homes.rubbish(home) == []


def test_a_process_that_died_while_publishing_is_made_good(home):
    staged(home, "old")
    (home / "reports" / "t").rename(home / "reports" / ".t.old")
    (home / "reports" / ".t.staging").mkdir()
    with run.staging_folder("t", lambda line: None):
        pass
    assert (home / "reports" / "t" / "other").read_text() == "old"
    staged(home, "new")
    assert homes.rubbish(home) == [] and (home / "reports" / "t" / "other").read_text() == "new"


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_report_is_never_replaced(home, kind):
    place = home / "reports" / "t"
    if kind == "file":
        place.write_text("mine")
    elif kind == "folder":
        (place / "mine").mkdir(parents=True)
    else:
        place.symlink_to(home / "notebooks")
    write_notebook(home, "10-a-b", "1")
    with pytest.raises(InputError, match="reports/t is there and no report"):
        report()
    assert os.path.lexists(place) and not (place / "run.json").exists()


# --- stopped from outside -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "engine"),
    [
        (signal.SIGINT, "in-process"),
        (signal.SIGKILL, "in-process"),
        pytest.param(signal.SIGTERM, "in-process", marks=LONG),
        pytest.param(signal.SIGINT, "kernel", marks=LONG),
        pytest.param(signal.SIGTERM, "kernel", marks=LONG),
        pytest.param(signal.SIGKILL, "kernel", marks=LONG),
    ],
)
def test_a_stopped_run_leaves_no_process_and_nothing_half_made(tiny, number, engine, monkeypatch):
    write_notebook(tiny, "15-sleep-long", SLEEP)
    process = homes.start(tiny, *homes.arguments(tiny), ENGINE=engine)
    homes.wait_until((tiny / "notebooks" / "started").exists, 60)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)  # a terminal tells the whole group
    code, out, err = homes.finish(process, 60)
    assert (code, out) == (-number if number == signal.SIGKILL else 130, "")
    homes.no_process_left(tiny)
    if number != signal.SIGKILL:
        assert homes.one_error_line(err) == "interrupted: nothing was published"
        assert [name for name in homes.rubbish(tiny) if name.startswith(".t")] == []
    assert not (tiny / "reports" / "t").exists()
    (tiny / "notebooks" / "15-sleep-long.ipynb").unlink()
    homes.make_in_process(tiny, monkeypatch)  # the next run needs no cleaning
    assert [name for name in homes.rubbish(tiny) if name.startswith(".t")] == []


INTERRUPTED_FORK = """
import os, signal, sys
from capitulation.cli import main
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
sys.exit(main(sys.argv[1:]))
"""


def test_an_interrupt_during_a_fork_is_not_lost(tiny):
    write_notebook(tiny, "15-sleep-long", SLEEP)
    command = [sys.executable, "-c", INTERRUPTED_FORK, *homes.arguments(tiny)]
    environment = os.environ | {"CAPITULATION_HOME": str(tiny), **homes.THREADS}
    done = subprocess.run(command, env=environment, cwd=tiny, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 130 and homes.one_error_line(done.stderr) == "interrupted: nothing was published"
    homes.no_process_left(tiny)


def test_reports_side_by_side_end_well_and_nothing_is_mixed(tiny):
    write_notebook(tiny, "30-sleep-short", "import time\ntime.sleep(1.5)")
    first = homes.start(tiny, *homes.arguments(tiny, "t", homes.VARIANTS[0]))
    homes.wait_until(lambda: any((tiny / "reports").glob(".t.staging")), 60)
    others = [homes.start(tiny, *homes.arguments(tiny, name, homes.VARIANTS[1])) for name in ("t", "u")]
    ended = [homes.finish(process) for process in (first, *others)]
    assert [code for code, _out, _err in ended] == [0, 0, 0], ended
    assert ["waiting for it" in err for _code, _out, err in ended] == [False, True, False]
    t, u = (contents(tiny / "reports" / name) for name in ("t", "u"))
    telling = {
        "run.json",
        "summary.txt",
        *(name for name in t if name.endswith(".html")),
    }  # the run, and what came before
    assert {name for name in t if t[name] != u.get(name)} <= telling
    assert "The last 21 days." in (tiny / "reports" / "t" / "index.html").read_text()


@pytest.mark.parametrize("limits", [(200, 3_000), pytest.param((20_000,), marks=LONG)])
def test_a_full_disk_ends_in_one_line_and_the_last_report_stays(tiny, limits, monkeypatch):
    """A limit on the size of files stands for a disk that is full at one step or another."""
    good = homes.make_in_process(tiny, monkeypatch)
    command = [sys.executable, "-m", "capitulation", *homes.arguments(tiny, variant=homes.VARIANTS[1])]
    for limit in limits:
        done = subprocess.run(
            command, env=os.environ | homes.THREADS, cwd=tiny, capture_output=True, text=True, check=False,
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )  # fmt: skip
        assert done.returncode in (1, 5), done
        assert "File too large" in homes.one_error_line(done.stderr)
        assert contents(tiny / "reports" / "t") == good
        homes.no_process_left(tiny)
    homes.make_in_process(tiny, monkeypatch)


@LONG
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT], ids=["kill", "interrupt"])
@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_moment_one_of_two_whole_reports_is_in_place(tiny, stop, seed):
    """From the first import to the last rename; every third time as close to the rename as can be."""
    complete, reports = [], tiny / "reports"
    for variant in (*homes.VARIANTS, homes.VARIANTS[0]):  # each tells what changed since the other; the first has none
        began = time.monotonic()
        assert homes.finish(homes.start(tiny, *homes.arguments(tiny, variant=variant)))[0] == 0
        complete.append(contents(reports / "t"))
    complete = complete[1:]
    length, moments, codes = time.monotonic() - began, random.Random(seed), set()
    for number in range(20):
        process = homes.start(tiny, *homes.arguments(tiny, variant=homes.VARIANTS[number % 2]))
        if number % 3 == 2:
            while process.poll() is None and not any(reports.glob(".t.staging/timings.json")):
                time.sleep(0.0003)
            time.sleep(moments.uniform(0, 0.006))
        else:
            time.sleep(moments.uniform(0, length))
        if process.poll() is None:
            (os.killpg if number % 2 else os.kill)(process.pid, stop)
        codes.add(homes.finish(process, 60)[0])
        homes.no_process_left(tiny)
        assert contents(reports / "t") in complete
    assert codes <= {0, 1, 130, -stop} and codes != {0}
    assert homes.finish(homes.start(tiny, *homes.arguments(tiny)))[0] == 0
    assert contents(reports / "t") == complete[1]
    assert [name for name in homes.rubbish(tiny) if name.startswith(".t")] == []
