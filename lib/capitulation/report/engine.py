"""Notebooks through papermill, each in a process of its own, several at once.

Two engines give the same results. "in-process": a process forked from the warm driver, which has imported everything,
runs the cells in an IPython shell of its own; no kernel, no socket. "kernel": papermill's own engine, a fresh kernel
per notebook, for systems that cannot fork safely and for those who want what JupyterLab would do.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import io
import json
import logging
import multiprocessing
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

if "rfc3987_syntax" not in sys.modules:  # an optional grammar of jsonschema, never needed: 0.9 s to import
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from nbformat.v4 import new_output
from papermill.engines import Engine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import execute_notebook
from traitlets import Type
from traitlets.config import Config

from capitulation.errors import ReportError, one_line
from capitulation.report.render import Page, render_notebook

SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,16}\b")
CELL_FILE = re.compile(r"<ipython-input-\d+-[0-9a-f]+>|\S*ipykernel_\d+/\d+\.py")
STOPS = {signal.SIGINT, signal.SIGTERM}
DIED = "the process died (killed, or out of memory)"
PR_SET_PDEATHSIG = 1


class NotebookFailed(ReportError):
    """A notebook that stopped: `notebook` is its name, the message names cell and error."""

    def __init__(self, notebook: str, reason: str) -> None:
        super().__init__(f"notebook {notebook}, {reason}")
        self.notebook = notebook


class Job(NamedTuple):
    """One notebook to run: plain values, so that it can be sent to a new process.

    `folder`: where its results go, with the market in it. `hidden`: folders of this machine and what to write instead.
    """

    name: str
    source: Path
    output: Path
    folder: Path
    parameters: dict[str, Any]
    hidden: dict[str, str]
    engine: str
    cell_timeout: float


# --- the engine that runs cells in this process ---------------------------------------------------------------------


class _Stream(io.TextIOBase):
    """Standard output or error of a cell."""

    encoding = "utf-8"

    def __init__(self, shell: Shell, name: str) -> None:
        self.shell, self.name = shell, name

    def write(self, text: str) -> int:
        last = self.shell.outputs[-1] if self.shell.outputs else {}
        if last.get("name") == self.name:
            last["text"] += text
        elif text:
            self.shell.outputs.append(new_output("stream", name=self.name, text=text))
        return len(text)


class _Publisher(DisplayPublisher):
    def publish(self, data, metadata=None, *args, transient=None, update=False, **kwargs) -> None:
        self.shell.show("display_data", data, metadata, (transient or {}).get("display_id"), update)

    def clear_output(self, wait: bool = False) -> None:
        self.shell.outputs.clear()


class _Hook(DisplayHook):
    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict, md_dict=None) -> None:
        self.shell.show("execute_result", format_dict, md_dict, execution_count=self.prompt_count)

    def finish_displayhook(self) -> None:
        self._is_active = False


class Shell(InteractiveShell):
    """An IPython shell that keeps what a cell shows, in order, as the outputs of a notebook."""

    displayhook_class = Type(_Hook)
    display_pub_class = Type(_Publisher)

    def __init__(self, **kwargs: Any) -> None:
        self.outputs: list[Any] = []
        self.by_id: dict[str, list[Any]] = {}
        super().__init__(**kwargs)
        self.system = self.system_piped  # what `!command` prints arrives too

    def show(self, kind: str, data, metadata, display_id: str | None = None, update: bool = False, **more: Any) -> None:
        """One displayed object; with `update` it takes the place of what was shown under the same id."""
        data = {key: base64.b64encode(v).decode() if isinstance(v, bytes) else v for key, v in data.items()}
        same = self.by_id.setdefault(display_id, []) if display_id else []
        if update:
            for shown in same:
                shown.update(data=data, metadata=metadata or {})
        else:
            self.outputs.append(new_output(kind, data=data, metadata=metadata or {}, **more))
            same.append(self.outputs[-1])

    def enable_gui(self, gui=None) -> None:
        pass

    def _showtraceback(self, etype, evalue, stb) -> None:
        self.outputs.append(new_output("error", ename=etype.__name__, evalue=str(evalue), traceback=list(stb)))


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


class InProcess(Engine):
    """Runs the cells of a notebook in this process, which should be one of its own."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, *, on_cell_execute, **options) -> None:
        """See papermill's `Engine`: the first cell that fails ends the notebook."""
        InteractiveShell.clear_instance()
        shell = Shell.instance(config=Config({"HistoryManager": {"enabled": False}}))
        shell.enable_matplotlib("inline")
        sys.stdout, sys.stderr = _Stream(shell, "stdout"), _Stream(shell, "stderr")
        warnings.showwarning = _show_warning
        for number, cell in enumerate(nb_man.nb.cells):
            nb_man.cell_start(cell, number)
            if cell.cell_type == "code" and cell.source.strip():
                on_cell_execute(cell=cell, cell_index=number)
                shell.outputs, cell.execution_count = cell.outputs, shell.execution_count
                result = shell.run_cell(cell.source, store_history=True)
                if error := result.error_before_exec or result.error_in_exec:
                    if not any(output.output_type == "error" for output in cell.outputs):
                        shell._showtraceback(type(error), error, [])
                    nb_man.cell_exception(cell, number)
                    return
            nb_man.cell_complete(cell, number)


papermill_engines.register("in-process", InProcess)
papermill_engines.register("kernel", papermill_engines.get_engine("nbclient"))


# --- one notebook in a process of its own ---------------------------------------------------------------------------


def _work(job: Job, pipe: Connection, parent: int) -> None:
    """Run `job`; send ("cell", number) as cells begin, then ("done", page) or ("failed", reason)."""
    os.setsid()  # Ctrl-C in a terminal reaches the driver alone, which ends this group
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # end with the driver, however that ends
        if os.getppid() != parent:
            os._exit(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    private = str(job.folder.with_name(f"{job.name}.private"))
    for name in [name for name in os.environ if any(word in name.upper() for word in SECRETS)]:
        del os.environ[name]
    os.environ |= {
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        **{"CAPITULATION_RUN_FOLDER": str(job.folder), "CAPITULATION_NOTEBOOK": job.name},
        **{"IPYTHONDIR": private, "JUPYTER_RUNTIME_DIR": private, "PYTHONHASHSEED": "0"},
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, whatever the user has installed as python3
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    sys.path.insert(0, "")
    pipe.send(_run(job, lambda number: pipe.send(("cell", number))))


def _run(job: Job, on_cell: Callable[[int], None]) -> tuple[str, Page | str]:
    at = added = 0

    def started(cell: Any, cell_index: int) -> None:
        nonlocal at, added  # counted from 1, without the cell that papermill adds: as the author sees them
        added = added or "injected-parameters" in cell.metadata.get("tags", [])
        at = cell_index + 1 - added
        on_cell(at)

    for logger in ("papermill", "traitlets"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    source, output = (str(path).replace("{", "{{").replace("}", "}}") for path in (job.source, job.output))
    kernel = {"kernel_name": "python3", "language": "python", "engine_name": job.engine, "start_timeout": 120}
    saving = {"progress_bar": False, "request_save_on_cell_execute": False, "autosave_cell_every": 0}
    options = {**kernel, **saving, "cwd": str(job.source.parent), "on_cell_execute": started}
    try:
        execute_notebook(source, output, parameters=job.parameters, **options)
        tidy(job)
        return "done", render_notebook(job.output)
    except PapermillExecutionError as error:
        tidy(job)
        return "failed", f"cell {at}: {error.ename}: {one_line(error.evalue, 240)}"
    except Exception as error:
        dead = type(error).__name__ == "DeadKernelError"
        return "failed", f"cell {at}: {DIED if dead else f'{type(error).__name__}: {one_line(error, 240)}'}"


def tidy(job: Job) -> None:
    """Rewrite the executed notebook as the same bytes in every build: no times, paths, addresses or random ids."""
    notebook = json.loads(job.output.read_text(encoding="utf-8"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    known = {"kernelspec": kernel, "language_info": {"name": "python"}, "papermill": {"parameters": job.parameters}}
    notebook |= {"metadata": known, "nbformat_minor": 5}
    for position, cell in enumerate(notebook["cells"]):
        tags = cell["metadata"].get("tags", [])
        cell |= {"metadata": {"tags": tags} if tags else {}, "id": f"cell-{position}"}
        for output in cell.get("outputs", []):
            output.pop("transient", None)
            data = output.get("data", {})
            for place, key in [(output, "text"), (output, "traceback"), *((data, kind) for kind in data)]:
                if key in place and not key.startswith(("image/", "application/")):
                    place[key] = _plain(place[key], job.hidden)
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    job.output.write_text(text, encoding="utf-8", errors="backslashreplace")


def _plain(text: str | list[str], hidden: Mapping[str, str]) -> str | list[str]:
    if isinstance(text, list):
        return [_plain(line, hidden) for line in text]
    text = CELL_FILE.sub("<cell>", ADDRESS.sub("0x…", text))
    for folder, shown in hidden.items():
        text = text.replace(folder, shown)
    return text


# --- all of them ----------------------------------------------------------------------------------------------------


class _Running:
    """One notebook under way: its process, the cell it is at and since when."""

    def __init__(self, job: Job) -> None:
        self.job, self.cell = job, 0
        self.started = self.since = time.monotonic()
        context = multiprocessing.get_context("fork" if job.engine == "in-process" else "spawn")
        self.pipe, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(job, theirs, os.getpid()))
        self.process.start()
        theirs.close()

    def hear(self) -> tuple[str, Any]:
        try:
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            return "failed", f"cell {self.cell}: {DIED}"
        if kind == "cell":
            self.cell, self.since = value, time.monotonic()
        return kind, value

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()  # where it is so young that it has no group yet
        self.process.join()
        self.pipe.close()

    def failed(self, reason: str) -> NotebookFailed:
        """What to raise; a notebook that could not be saved is kept as written, with the reason in the cell."""
        if not self.job.output.is_file():
            notebook = json.loads(self.job.source.read_text(encoding="utf-8"))
            error = {"output_type": "error", "ename": "ReportError", "evalue": reason, "traceback": [reason]}
            if self.cell:
                notebook["cells"][self.cell - 1]["outputs"] = [error]
            self.job.output.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")
        return NotebookFailed(self.job.name, reason)


def run_all(
    jobs: Sequence[Job], at_once: int, on_done: Callable[[str, float], None] = lambda name, seconds: None
) -> dict[str, tuple[Page, float]]:
    """Run `jobs`, at most `at_once` at a time: by name, the rendered page and the seconds it took.

    A cell that runs longer than its job's `cell_timeout` is ended. The first failure ends the rest and raises
    `NotebookFailed`; no process outlives the call.
    """
    waiting, running, done = list(jobs), dict[Any, _Running](), {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # no process is started without being known
                try:
                    one = _Running(waiting.pop(0))
                    running[one.pipe] = one
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for pipe in wait(list(running), timeout=0.5):
                one = running[pipe]
                kind, value = one.hear()
                if kind == "failed":
                    raise one.failed(value)
                if kind == "done":
                    one.process.join()
                    del running[pipe]
                    done[one.job.name] = value, time.monotonic() - one.started
                    on_done(one.job.name, done[one.job.name][1])
            for one in running.values():
                if one.cell and time.monotonic() - one.since > one.job.cell_timeout:
                    limit = f"CELL_TIMEOUT={one.job.cell_timeout:g} seconds"
                    raise one.failed(f"cell {one.cell}: ran longer than {limit} and was ended")
    finally:
        for one in running.values():
            one.end()
    return done
