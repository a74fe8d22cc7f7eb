"""The whole report against the same notebooks by papermill's and nbconvert's command lines, one after the other.

Takes minutes, so `run.py` leaves it out unless asked with --report.
"""

from __future__ import annotations

import os
import shutil
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


def ours(force: bool = True) -> None:
    """`make report` as typed; `force` runs every notebook again."""
    _quiet(["make", "--silent", "report", *(["FORCE=1"] if force else [])])


def _quiet(command: list[str]) -> None:
    done = subprocess.run(command, cwd=market.ROOT, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


def whole_report(runs: int) -> measure.Row:
    """Everything run again, on all cores."""
    ours()  # the first run fills caches on disk for both sides
    mine, theirs = measure.in_turn(lambda: measure.clock(ours), lambda: measure.clock(baseline), runs)
    note = f"{len(list(NOTEBOOKS.glob('[0-9]*.ipynb')))} notebooks, {os.cpu_count()} cores"
    return measure.compared("make report against papermill + nbconvert", mine, theirs, SPEED_UP, note)


def unchanged_report(runs: int) -> measure.Row:
    """The report asked for again with nothing changed."""
    seconds = [measure.clock(lambda: ours(force=False)) for _ in range(max(runs, 5))]
    shutil.rmtree(market.ROOT / "reports" / RUN, ignore_errors=True)
    return measure.limited("make report, nothing changed", seconds, UNCHANGED_SECONDS)


SECTIONS = (whole_report, unchanged_report)
