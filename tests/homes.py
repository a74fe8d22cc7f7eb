"""Project folders for the tests of reports: small markets, quick notebooks, the command line run on them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

import local_server as ls
from capitulation import cli
from capitulation.data.market import Market
from capitulation.data.panel import panel_digest
from capitulation.params import make_params
from capitulation.report.run import Options, make_report
from panels import steady_panel

TEST_NOTEBOOKS = Path(__file__).parent / "notebooks"
OPEN = "import capitulation as cap\npage = cap.open_page(data=data, as_of=as_of)\n"
PARAMETERS = 'data = ""  # path: file\nas_of = ""  # date: last day\nhold_days = 90  # days: holding period'
SUM_UP = OPEN + "page.save_table(page.panel.tail(hold_days).round(1).reset_index(), '{table}')\n"
SUM_UP += "page.finding(f'The last {{hold_days}} days.')"
VARIANTS = ("hold_days=20", "hold_days=21")
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def small_panel(days: int = 500, seed: int = 1) -> pd.DataFrame:
    """A panel that passes validation: a random walk and Poisson blocks."""
    rng = np.random.default_rng(seed)
    blocks, price = rng.poisson(144, days).astype(float), 500 * np.exp(np.cumsum(rng.normal(0, 0.03, days)))
    return steady_panel(blocks / 144, blocks, start="2014-01-01", price=price)


def small_market(simulated: bool = False, panel: pd.DataFrame | None = None, **changes) -> Market:
    """A market made of `small_panel`."""
    panel = small_panel() if panel is None else panel
    origin = {"what": "all of it", "columns": [*panel], "source": "file", "name": "local file", "licence": ""}
    origin |= {"commercial": "ask", "attribution": changes.pop("attribution", "a test"), "link": "", "as_of": ""}
    facts = {"source": "simulated" if simulated else "file", "retrieved_at": "", "snapshot": "test"}
    facts |= {"simulated": simulated, "origins": (origin,), "age_days": None, **changes}
    return Market(panel=panel, digest=panel_digest(panel), **facts)


def write_notebook(home: Path, name: str, *sources: str, parameters: str = PARAMETERS, tags: tuple = ()) -> Path:
    """A notebook of one parameters cell (with those `tags` too) and code cells, or Markdown where it starts with #."""
    cells = []
    for source in (parameters, *sources):
        kind = "markdown" if source.startswith("# ") else "code"
        cell = {"cell_type": kind, "id": f"c{len(cells)}", "metadata": {}, "source": source}
        cells.append(cell | ({"outputs": [], "execution_count": None} if kind == "code" else {}))
    cells[0]["metadata"]["tags"] = ["parameters", *tags]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = {"cells": cells, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5}
    path = home / "notebooks" / f"{name}.ipynb"
    path.write_text(json.dumps(book), encoding="utf-8")
    return path


def make_home(folder: Path, test_notebooks: bool = False) -> Path:
    """A project folder with empty reports, and the test notebooks if asked."""
    for name in ("notebooks", "reports", "data/raw", "params", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for path in TEST_NOTEBOOKS.glob("*.ipynb") if test_notebooks else ():
        shutil.copy(path, folder / "notebooks")
    return folder


def tiny_home(folder: Path) -> Path:
    """A project folder with two notebooks that take a moment, and a local data file."""
    make_home(folder)
    for name, table in (("10-sum-up", "tail"), ("20-count-days", "days")):
        write_notebook(folder, name, f"# {name}", SUM_UP.format(table=table))
    (folder / "btc.csv").write_bytes(ls.coinmetrics_csv(ls.made_panel(200)))
    return folder


def report(name: str = "t", said: list[str] | None = None, params=None, market: Market | None = None, **options):
    """`make_report` in this process on a small market; `said` hears its progress."""
    made = Options(**{"jobs": 2, **{key: options.pop(key) for key in [*options] if key in Options._fields}})
    progress, given = (said if said is not None else []).append, market or small_market()
    return make_report(params or make_params(), name, made, progress=progress, load=lambda *_: given, **options)


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file of a report but its timings: equal dictionaries mean the same report, whole."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "timings.json"]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def start(home: Path, *arguments: str, **env: str) -> subprocess.Popen:
    """The command line on `home`, in a process group of its own, output captured."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in cli.OPTIONS}
    kept |= {"CAPITULATION_HOME": str(home), "TMPDIR": str(home / "tmp"), **THREADS, **env}
    command = [sys.executable, "-m", "capitulation", *arguments]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=kept, cwd=home, text=True, start_new_session=True, **pipes)


def finish(process: subprocess.Popen, seconds: float = 120) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a started command."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out, err


def arguments(home: Path, run: str = "t", variant: str = VARIANTS[0]) -> list[str]:
    """A report on the home's own data file, every notebook anew."""
    return ["report", "--run", run, "--data", str(home / "btc.csv"), "--set", variant, "--jobs", "2", "--force", "1"]


def make_in_process(home: Path, monkeypatch, run: str = "t", variant: str = VARIANTS[0]) -> dict[str, str]:
    """The report of `arguments` made by the command line in this process; its contents."""
    for name in cli.OPTIONS:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("CAPITULATION_HOME", str(home))
    assert cli.main(arguments(home, run, variant)) == 0
    return contents(home / "reports" / run)


def rubbish(home: Path) -> list[str]:
    """What a process left behind in reports/ and in the temporary folder."""
    left = [path for path in (home / "reports").glob(".*") if path.name != ".locks"]
    return sorted(path.name for path in [*left, *(home / "tmp").iterdir()])


def wait_until(condition, seconds: float = 30.0, what: str = "nothing happened in time") -> None:
    """Return when `condition()` holds; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def no_process_left(home: Path) -> None:
    """Fail where a process that was started with `home` in its environment lives on, this one and its helper aside."""

    def alive() -> bool:
        facts = [process.info for process in psutil.process_iter(["pid", "environ", "status", "cmdline"])]
        ours = [fact for fact in facts if (fact["environ"] or {}).get("CAPITULATION_HOME") == str(home)]
        ours = [fact for fact in ours if fact["pid"] != os.getpid() and "resource_tracker" not in str(fact["cmdline"])]
        return any(fact["status"] != psutil.STATUS_ZOMBIE for fact in ours)

    wait_until(lambda: not alive(), what="processes were left behind")


def one_error_line(err: str) -> str:
    """The last line of standard error, which must be the only one that tells of an error, without a traceback."""
    assert "Traceback" not in err, err
    lines = [line for line in err.splitlines() if line.startswith(("error: ", "interrupted: "))]
    assert len(lines) == 1 and err.splitlines()[-1] == lines[0] and lines[0].isprintable(), err
    return lines[0]
