"""One notebook in one process: papermill executes it, and what went wrong is told to the driver in plain values."""

from __future__ import annotations

import json
import logging
import os
import signal
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from capitulation.errors import one_line
from capitulation.report.lean import load_machinery
from capitulation.report.notebooks import tidy

START_TIMEOUT = 120


@dataclass(frozen=True)
class Job:
    """All that a worker needs: plain values, so that it can be sent to a new process."""

    name: str
    source: str
    output: str
    run_folder: str
    private: str
    cwd: str
    parameters: dict[str, Any]
    zygote: str = ""
    hidden: dict[str, str] = field(default_factory=dict)


def work(job: Job, pipe: Connection, driver: int) -> None:
    """Execute `job`; send ("cell", number) as cells end, then ("done", None) or ("failed", reason)."""
    from capitulation.report.zygote import die_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent(driver)
    pipe.send(run_job(job, lambda number: pipe.send(("cell", number))))


def run_job(job: Job, on_cell: Any) -> tuple[str, str | None]:
    """("done", None), or ("failed", one line that names the cell and the error)."""
    load_machinery()
    from papermill.exceptions import PapermillExecutionError

    where = Where(on_cell)
    try:
        _execute(job, where)
    except PapermillExecutionError as error:
        return "failed", f"{where.cell()}: {error.ename}: {one_line(error.evalue, 240)}"
    except Exception as error:
        _save_unfinished(job, where.notebook)
        return "failed", f"{where.cell()}: {_reason(error)}"
    finally:
        _tidy_file(job)
    return "done", None


def _reason(error: Exception) -> str:
    name = type(error).__name__
    if name == "DeadKernelError":
        return "the kernel died (killed, or out of memory)"
    return f"{name}: {one_line(error, 240)}"


class Where:
    """Follows the cells of a run: `at` is the index of the cell being executed, in the executed notebook."""

    def __init__(self, on_cell: Any) -> None:
        self.at, self.injected, self.on_cell = -1, -1, on_cell
        self.notebook: Any = None

    def opened(self, notebook: Any) -> None:
        self.notebook = notebook

    def started(self, cell: Any, cell_index: int) -> None:
        self.at = cell_index
        if "injected-parameters" in cell.metadata.get("tags", []):
            self.injected = cell_index

    def ended(self, cell: Any, cell_index: int) -> None:
        self.on_cell(cell_index)

    def cell(self) -> str:
        """The cell by its number in the notebook as its author knows it, counted from 1."""
        if self.at < 0:
            return "before the first cell"
        before = self.injected >= 0 and self.at >= self.injected
        return f"cell {self.at + 1 - before}"


def _execute(job: Job, where: Where) -> None:
    from papermill.execute import execute_notebook

    from capitulation.report.kernels import PrivateKernelManager, kernel_environment, register_provisioners

    for logger in ("papermill", "traitlets"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    register_provisioners()
    private = Path(job.private)
    private.mkdir(parents=True, exist_ok=True)
    environment = kernel_environment(Path(job.run_folder), private)
    os.environ.clear()
    os.environ.update(environment)
    os.environ["CAPITULATION_KERNEL_FOLDER"] = str(private)
    if job.zygote:
        os.environ["CAPITULATION_ZYGOTE"] = job.zygote
    execute_notebook(
        _literal(job.source),
        _literal(job.output),
        parameters=job.parameters,
        kernel_name="python3",
        language="python",
        progress_bar=False,
        request_save_on_cell_execute=False,
        autosave_cell_every=0,
        start_timeout=START_TIMEOUT,
        cwd=job.cwd,
        kernel_manager_class=PrivateKernelManager,
        shutdown_kernel="immediate",
        record_timing=False,
        on_notebook_start=where.opened,
        on_cell_execute=where.started,
        on_cell_complete=where.ended,
    )


def _literal(path: str) -> str:
    """papermill fills braces in paths: doubled ones stand for themselves."""
    return path.replace("{", "{{").replace("}", "}}")


def _save_unfinished(job: Job, notebook: Any) -> None:
    """What there is of a notebook whose kernel died: papermill writes only those that stopped at an error."""
    if notebook is not None:
        Path(job.output).write_text(json.dumps(notebook), encoding="utf-8")


def _tidy_file(job: Job) -> None:
    """Rewrite the executed notebook as the same bytes in every build; what papermill left unwritten stays so."""
    path = Path(job.output)
    if not path.is_file():
        return
    notebook = json.loads(path.read_text(encoding="utf-8"))
    tidy(notebook, job.name, job.parameters, job.hidden)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
