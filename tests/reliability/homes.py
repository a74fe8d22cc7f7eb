"""A small project to break: two quick notebooks, a local data file, and the command line run on it in a process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import capitulation
import local_server as ls
import report_help as rh
from capitulation.report.record import file_digest

SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
SOURCE = (
    "import capitulation as cap\n"
    "run = cap.open_run('{name}', globals())\n"
    "run.save_table(run.panel.tail(fast_days).reset_index(), '{table}')\n"
    "run.finding(f'The last {{fast_days}} days.')"
)
VARIANTS = ("fast_days=20", "fast_days=21")
DIFFERS = {"timings.json"}


def tiny_home(folder: Path) -> Path:
    """A project folder with two notebooks that take a moment and btc.csv, a market by code."""
    rh.make_home(folder, with_notebooks=False)
    for name, table in (("10-sum-up", "tail"), ("20-count-days", "days")):
        book = rh.cells_notebook(f"# {name}", SOURCE.format(name=name, table=table))
        rh.write_notebook(folder / "notebooks", name, book)
    (folder / "btc.csv").write_bytes(ls.coinmetrics_csv(ls.made_panel(200)))
    (folder / "tmp").mkdir(exist_ok=True)
    return folder


def frozen_library(home: Path) -> str:
    """Search path of a copy of the library, so that an edit during a long test does not change what a run makes."""
    root = Path(capitulation.__file__).resolve().parents[2]
    shutil.copytree(root / "lib" / "capitulation", home / "lib" / "capitulation", dirs_exist_ok=True)
    shutil.copytree(root / "data" / "reference", home / "data" / "reference", dirs_exist_ok=True)
    return os.pathsep.join([str(home / "lib"), str(root / "tests"), os.environ.get("PYTHONPATH", "")])


def add_cell_notebook(home: Path, name: str, source: str) -> None:
    """One more notebook, of a single code cell after its parameters."""
    rh.write_notebook(home / "notebooks", name, rh.cells_notebook(f"# {name}", source))


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without the suite's own variables, pointing at `home`."""
    own = ("RUN", "PARAMS", "SET", "AS_OF", "DATA", "SOURCE", "JOBS", "FORCE", "JSON", "WATCH", "A", "B")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return kept | {"CAPITULATION_HOME": str(home), "TMPDIR": str(home / "tmp"), **more}


def start(home: Path, *arguments: str, **env: str) -> subprocess.Popen:
    """The command line in a process group of its own, output captured."""
    command = [sys.executable, "-m", "capitulation.cli", *arguments]
    return subprocess.Popen(
        command, env=environment(home, **env), cwd=home, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen, seconds: float = 120) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a started command."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out, err


def cli(home: Path, *arguments: str, **env: str) -> tuple[int, str, str]:
    """Run one command to its end."""
    return finish(start(home, *arguments, **env))


def report(home: Path, *arguments: str, run: str = "t", variant: str = VARIANTS[0], **env: str) -> tuple[int, str, str]:
    """`report` on the home's own data file."""
    return cli(home, *report_arguments(home, run, variant), *arguments, **env)


def report_arguments(home: Path, run: str = "t", variant: str = VARIANTS[0]) -> list[str]:
    return ["report", "--run", run, "--data", str(home / "btc.csv"), "--set", variant, "--jobs", "2", "--force", "1"]


def digests(folder: Path) -> dict[str, str]:
    """Digest of every file of a report but its timings: equal dictionaries mean the same report, whole."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in DIFFERS]
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}


def rubbish(home: Path) -> list[str]:
    """What a process left behind: hidden folders of reports, half snapshots, kernel folders."""
    hidden = [path for path in (home / "reports").glob(".*") if path.name != ".locks"]
    writing = (home / "data" / "raw").rglob(".writing-*")
    return sorted(path.name for path in [*hidden, *writing, *(home / "tmp").glob("cap-*")])


def processes_of(home: Path) -> list[int]:
    """Living processes that were started with `home` in their environment, this one aside."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "environ").read_bytes()
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if f"CAPITULATION_HOME={home}\0".encode() in words and state != "Z" and int(path.name) != os.getpid():
            found.append(int(path.name))
    return found


def wait_until(condition, seconds: float = 30.0, what: str = "nothing happened in time") -> None:
    """Return when `condition()` holds; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def no_process_left(home: Path) -> None:
    """Fail where a process of `home` lives on."""
    wait_until(lambda: not processes_of(home), what="processes were left behind")


def one_error_line(err: str) -> str:
    """The last line of standard error, which must be the only one that tells of an error, without a traceback."""
    assert "Traceback" not in err, err
    lines = [line for line in err.splitlines() if line.startswith(("error: ", "interrupted: "))]
    assert len(lines) == 1, err
    assert err.splitlines()[-1] == lines[0]
    assert lines[0].isprintable()
    return lines[0]
