"""The whole report against the same notebooks by papermill's and nbconvert's command lines, one after the other.

Takes minutes; `run.py --quick` leaves it out.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import market
import measure

NOTEBOOKS = market.ROOT / "notebooks"
RUN = "bench"
SPEED_UP = 8
UNCHANGED_SECONDS = 0.7
PEAK_MEGABYTES, FILE_MEGABYTES = 600, 6
KILOBYTES = 1 if sys.platform == "darwin" else 1024
"""Bytes in the unit in which the system counts memory."""
LARGEST_PROCESS = """import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"""


def environment() -> dict[str, str]:
    """The environment's tools first on the PATH; the data from a local file, or simulated."""
    tools = str(Path(sys.executable).parent)
    data = {"DATA": str(market.data_file())} if market.data_file() else {"SOURCE": "simulated"}
    return {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "RUN": RUN, **data}


def data_parameter() -> list[str]:
    """The same data as papermill's parameter."""
    return ["-r", "data", str(market.data_file())] if market.data_file() else ["-r", "source", "simulated"]


def baseline() -> None:
    """Each numbered notebook by `papermill`, then `jupyter nbconvert --to html`, as one would type them."""
    with tempfile.TemporaryDirectory() as folder:
        for notebook in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
            done = str(Path(folder) / notebook.name)
            _quiet(["papermill", str(notebook), done, "--cwd", str(NOTEBOOKS), *data_parameter()])
            _quiet(["jupyter", "nbconvert", "--to", "html", done])


REPORT = ["make", "--silent", "report"]
FORCED = [*REPORT, "FORCE=1"]


def ours() -> None:
    """`make report` as typed; every notebook runs again."""
    _quiet(FORCED)


def _quiet(command: list[str]) -> str:
    """What `command` prints; an error where it fails."""
    done = subprocess.run(command, cwd=market.ROOT, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def whole_report(runs: int) -> measure.Row:
    """Everything run again, on all cores."""
    ours()  # the first run fills caches on disk for both sides
    mine, theirs = measure.in_turn(lambda: measure.clock(ours), lambda: measure.clock(baseline), runs)
    count = len(list(NOTEBOOKS.glob("[0-9]*.ipynb")))
    note = f"{count} notebooks, {os.cpu_count()} cores; {_bound(statistics.median(theirs))}"
    return measure.compared("make report against papermill + nbconvert", mine, theirs, SPEED_UP, note)


def _bound(baseline_seconds: float) -> str:
    """How much faster the report could be if nothing but the work inside the notebooks, kernels ready, took time."""
    run = RUN if market.data_file() else "simulated"
    timings = json.loads((market.ROOT / "reports" / run / "timings.json").read_text(encoding="utf-8"))
    work = sum(timings["notebooks"].values())
    most = baseline_seconds / (work / (os.cpu_count() or 1))
    return f"the notebooks' own work takes {work:.1f} s on both sides, which on these cores allows {most:.1f} times"


def unchanged_report(runs: int) -> measure.Row:
    """The report asked for again with nothing changed."""
    ours()
    seconds = [measure.clock(lambda: _quiet(REPORT)) for _ in range(max(runs, 5))]
    return measure.limited("make report, nothing changed", seconds, UNCHANGED_SECONDS)


def peak_memory(runs: int) -> measure.Row:
    """The largest process of a whole report: the most memory that any of them held at once."""
    command = [sys.executable, "-c", LARGEST_PROCESS, *FORCED]
    peaks = [int(_quiet(command)) * KILOBYTES / 1e6 for _ in range(max(runs, 5))]
    return measure.limited("memory of the largest process of a report", peaks, PEAK_MEGABYTES, unit="MB")


def one_file(runs: int) -> measure.Row:
    """Size of report.html, the whole report in one file."""
    ours()
    index = Path(_quiet(REPORT).strip().splitlines()[-1])
    size = (index.parent / "report.html").stat().st_size / 1e6
    shutil.rmtree(market.ROOT / "reports" / RUN, ignore_errors=True)
    return measure.limited("report.html", [size], FILE_MEGABYTES, unit="MB")


SECTIONS = (whole_report, unchanged_report, peak_memory, one_file)
