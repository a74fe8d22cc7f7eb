"""Notebooks through papermill, each in a process of its own, several at once.

Two engines give the same results. "in-process": a fork of the warm driver runs the cells in an IPython shell, without
kernel or socket. "kernel": papermill's own, a fresh kernel per notebook, for systems that cannot fork safely.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import gc
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot  # which every shell asks for
import nbformat
import psutil
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import find_gui_and_backend
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from papermill.engines import Engine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import execute_notebook
from traitlets import Type
from traitlets.config import Config

from capitulation.errors import ReportError, one_line
from capitulation.figures.style import warm_up as warm_up_figures
from capitulation.report.render import Page, fill, render_notebook

SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,16}\b")
CELL_FILE = re.compile(r"<ipython-input-\d+-[0-9a-f]+>|\S*ipykernel_\d+/\d+\.py")
DIED = "the process died (killed, or out of memory)"
PR_SET_PDEATHSIG = 1
LOADED_LATE = ("IPython.core.completer", "IPython.core.magics", "pandas.io.formats.csvs")
LOADED_LATE += ("matplotlib_inline.backend_inline", "pandas.io.formats.html", "pandas.io.formats.string")
TEXTS = ("text", "evalue", "traceback")  # beside text/html and the like, which hold folders and addresses
POLITE_ENDS = {signal.SIGINT, signal.SIGTERM}


class Job(NamedTuple):
    """One notebook to run, sent to a new process; results go to `folder`, which holds the market and the settings."""

    source: Path
    output: Path
    folder: Path
    parameters: dict[str, Any]
    hidden: dict[str, str]  # folders of this machine, those inside others first, and what to write instead
    engine: str
    cell_timeout: float


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
            self.shell.outputs.append(NotebookNode(output_type="stream", name=self.name, text=text))
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


class Shell(InteractiveShell):
    """An IPython shell that keeps what a cell shows, in order, as the outputs of a notebook."""

    displayhook_class, display_pub_class = Type(_Hook), Type(_Publisher)

    def __init__(self, **kwargs: Any) -> None:
        self.outputs, self.by_id = [], {}  # what the cell has shown; what was shown under an id, in any cell
        super().__init__(**kwargs)
        self.system = self.system_piped  # what `!command` prints arrives too

    def show(self, kind: str, data, metadata, display_id: str | None = None, update: bool = False, **more: Any) -> None:
        """One displayed object; with `update` it takes the place of what was shown under the same id."""
        data = {key: base64.b64encode(v).decode() if isinstance(v, bytes) else v for key, v in data.items()}
        if update:
            for shown in self.by_id.get(display_id, []):
                shown.update(data=data, metadata=metadata or {})
        else:
            self.outputs.append(NotebookNode(output_type=kind, data=data, metadata=metadata or {}, **more))
            self.by_id.setdefault(display_id, []).append(self.outputs[-1])

    def enable_gui(self, gui=None) -> None:
        pass

    def _showtraceback(self, etype, evalue, stb) -> None:
        self.outputs.append(new_output("error", ename=etype.__name__, evalue=str(evalue), traceback=list(stb)))


class InProcess(Engine):
    """Runs the cells of a notebook in this process, which should be one of its own."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, *, on_cell_execute, **options) -> None:
        """See papermill's `Engine`: the first cell that fails ends the notebook."""
        InteractiveShell.clear_instance()
        shell = Shell.instance(config=Config({"HistoryManager": {"enabled": False}}))
        shell.enable_matplotlib("inline")
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update({name: mpl.rcParamsDefault[name] for name in ("timezone", "date.epoch")})
        sys.stdout, sys.stderr = _Stream(shell, "stdout"), _Stream(shell, "stderr")
        warnings.showwarning = lambda *told: sys.stderr.write(warnings.formatwarning(*told[:4]))
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


def warm_up() -> None:
    """Do here, before any fork, what the first cell, figure and page of every notebook would each do again."""
    for module in LOADED_LATE:
        import_module(module)
    find_gui_and_backend("inline")  # looks through all that is installed
    warm_up_figures()
    cells = [new_markdown_cell("$x$"), new_code_cell("x = 1", outputs=[new_output("stream", text="x")])]
    nbformat.validate(new_notebook(cells=cells))
    fill("cells.html.j2", cells=cells, code=True)
    gc.freeze()  # what is here now is never garbage, and so its pages stay shared


def _work(job: Job, at: Any, pipe: Connection, driver: int) -> None:
    """Run `job` and send its page, or in a line why there is none; `at` tells the cell that runs, and since when."""
    os.setsid()  # Ctrl-C in a terminal reaches the driver alone, which ends this group
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # end with the driver, however that ends
        if os.getppid() != driver:
            os._exit(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    # An interrupt that came since the fork ends this here, in silence.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, POLITE_ENDS)
    for name in [name for name in os.environ if any(word in name.upper() for word in SECRETS)]:
        del os.environ[name]
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    os.environ |= dict.fromkeys(("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"), f"{job.folder}.private")
    os.environ |= {"CAPITULATION_RUN_FOLDER": str(job.folder), "CAPITULATION_NOTEBOOK": job.source.stem}
    os.environ |= {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "MATPLOTLIBRC": mpl.get_data_path()}
    os.environ["PYTHONHASHSEED"] = "0"
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, whatever the user has installed as python3
    sys.path.insert(0, "")
    pipe.send(_run(job, at))


def _run(job: Job, at: Any) -> Page | str:
    added = 0

    def begin(cell: Any, cell_index: int) -> None:
        nonlocal added  # the cell that papermill adds is not counted: the author does not see it
        added = added or "injected-parameters" in cell.metadata.get("tags", [])
        at[:] = cell_index + 1 - added, time.monotonic()

    source, output = (str(path).replace("{", "{{").replace("}", "}}") for path in (job.source, job.output))
    options = {"kernel_name": "python3", "language": "python", "engine_name": job.engine, "start_timeout": 120}
    options |= {"progress_bar": False, "request_save_on_cell_execute": False, "autosave_cell_every": 0}
    options |= {"cwd": str(job.source.parent), "on_cell_execute": begin}
    try:
        try:
            execute_notebook(source, output, job.parameters, **options)
        finally:
            at[1] = 0
            if job.output.is_file():  # saved, whole or up to the cell that failed
                tidy(job)
        return render_notebook(job.output)
    except DeadKernelError:
        return DIED
    except PapermillExecutionError as error:
        return f"{error.ename}: {one_line(error.evalue, 240)}"
    except Exception as error:
        return f"{type(error).__name__}: {one_line(error, 240)}"


def tidy(job: Job) -> None:
    """Rewrite the executed notebook as the same bytes in every build: no times, paths, addresses or random ids."""

    def plain(text: str) -> str:
        text = CELL_FILE.sub("<cell>", ADDRESS.sub("0x…", text))
        for folder, shown in job.hidden.items():
            text = re.sub(rf"{re.escape(folder)}(?![\w-])", shown, text)
        return text

    notebook = json.loads(job.output.read_bytes())
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    known = {"kernelspec": kernel, "language_info": {"name": "python"}, "papermill": {"parameters": job.parameters}}
    notebook.update(metadata=known, nbformat_minor=5)
    for position, cell in enumerate(notebook["cells"]):
        tags = cell["metadata"].get("tags")
        cell.update(metadata={"tags": tags} if tags else {}, id=f"cell-{position}")
        for output in cell.get("outputs", []):
            for place in (output, output.get("data", {})):
                for kind in [kind for kind in place if kind in TEXTS or kind.startswith("text/")]:
                    lines = place[kind]
                    place[kind] = plain(lines) if isinstance(lines, str) else [plain(line) for line in lines]
    job.output.write_text(json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


class _Running:
    """One notebook under way: its process, when it began; `at`: its cell's number from 1 (0: none yet), since when."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("fork" if job.engine == "in-process" else "spawn")
        self.job, self.began, self.at = job, time.monotonic(), context.Array("d", 2, lock=False)
        self.pipe, self.theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(job, self.at, self.theirs, os.getpid()))

    def start(self) -> None:
        """A signal that came during the fork would be lost: what Python runs right after one ignores exceptions."""
        signal.pthread_sigmask(signal.SIG_BLOCK, POLITE_ENDS)
        try:
            self.process.start()
            self.theirs.close()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, POLITE_ENDS)

    def result(self, late: bool) -> Page | str:
        """Its page, or why there is none; a process that has sent neither is ended."""
        with contextlib.suppress(EOFError, OSError):
            if self.pipe.poll():
                return self.pipe.recv()
        self.end()
        return f"ran longer than CELL_TIMEOUT={self.job.cell_timeout:g} seconds and was ended" if late else DIED

    def end(self) -> None:
        """Kill it with all that it started: a kernel has a process group of its own and may be deaf to its end."""
        if self.process.pid:
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(self.process.pid).children(recursive=True):
                    process.kill()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()  # where it is so young that it has no group yet
            self.process.join()

    def keep(self, kept: Path, reason: str) -> None:
        """Leave the notebook in `kept`; one that was not saved as its author wrote it, with the reason in the cell."""
        if not self.job.output.is_file():
            notebook = json.loads(self.job.source.read_bytes())
            if cell := int(self.at[0]):
                error = new_output("error", ename="ReportError", evalue=reason, traceback=[reason])
                notebook["cells"][cell - 1]["outputs"] = [error]
            self.job.output.write_text(json.dumps(notebook, indent=1), encoding="utf-8")
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        self.job.output.rename(kept / self.job.output.name)


def run_all(
    jobs: Sequence[Job],
    at_once: int,
    kept: Path,
    on_done: Callable[[str, float], None],
    meanwhile: Callable[[], None],
) -> dict[str, tuple[Page, float]]:
    """Run `jobs`, at most `at_once` at a time: by name, the rendered page and the seconds it took.

    `meanwhile` is called once, for what later ones or the caller shall find done: when all are under way or, where some
    have to wait, the first.

    The first failure, or cell above its `cell_timeout`, ends the rest, leaves the notebook in the folder `kept` and
    raises `ReportError` with its name, cell and error; no process outlives the call.
    """
    waiting, running, done = list(jobs), dict[Any, _Running](), {}
    if not jobs:
        meanwhile()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                one = _Running(waiting.pop(0))
                running[one.pipe] = one  # known before it starts, so that it is ended whatever happens
                one.start()
                if one.job is jobs[0 if len(jobs) > at_once else -1]:
                    meanwhile()
            heard = wait(list(running), timeout=0.5)
            for pipe, one in list(running.items()):
                late = 0 < one.at[1] < time.monotonic() - one.job.cell_timeout  # a cell can be deaf to any signal
                waiting_for = pipe not in heard and one.process.is_alive()  # what it left may keep the pipe open
                if waiting_for and not late:
                    continue
                result, name = one.result(late), one.job.source.stem
                if isinstance(result, str):
                    one.keep(kept, result)
                    see = f"see {kept.parent.name}/{kept.name}/, the previous report is untouched"
                    raise ReportError(f"notebook {name}, cell {one.at[0]:.0f}: {result}; {see}")
                one.process.join()
                del running[pipe]
                done[name] = result, time.monotonic() - one.began
                on_done(name, done[name][1])
    finally:
        for one in running.values():
            one.end()
    return done
