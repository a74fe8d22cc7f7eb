"""All notebooks of a run: the first alone, the others side by side, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

from capitulation.errors import ReportError
from capitulation.report.kernels import WarmProcess, fork_is_safe
from capitulation.report.lean import load_machinery
from capitulation.report.progress import OnCell, OnDone
from capitulation.report.worker import Job, work

LONGEST_SOCKET_FOLDER = 50
SHORT_TEMPORARY_FOLDER = "/tmp"  # noqa: S108  sockets need short paths; the folder made inside is private


class NotebookFailed(ReportError):
    """A notebook that stopped: `notebook` is its name, the message names cell and error."""

    def __init__(self, notebook: str, reason: str) -> None:
        super().__init__(f"notebook {notebook}, {reason}")
        self.notebook = notebook


@dataclass
class Running:
    """One notebook under way."""

    job: Job
    process: BaseProcess
    pipe: Connection
    started: float = field(default_factory=time.perf_counter)


class KernelHost:
    """Where kernels live during a run: a folder for sockets that only this user can open, and the warm process.

    `zygote` is the folder that kernels are asked for in, empty where kernels are not forked.
    """

    def __init__(self) -> None:
        self.folder = Path()
        self.zygote = ""
        self._warm: WarmProcess | None = None

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        """Make the folder and start warming up, once."""
        if self.folder.is_absolute():
            return
        default = tempfile.gettempdir()
        parent = default if len(default) <= LONGEST_SOCKET_FOLDER else SHORT_TEMPORARY_FOLDER
        self.folder = Path(tempfile.mkdtemp(prefix="cap-", dir=parent)).resolve()
        if fork_is_safe():
            self._warm = WarmProcess(self.folder)
            self.zygote = str(self._warm.folder)

    def __exit__(self, *error: object) -> None:
        """End the warm process with every kernel it forked, remove the folder."""
        if self._warm:
            self._warm.close()
        if self.folder.is_absolute():
            shutil.rmtree(self.folder, ignore_errors=True)


def execute_all(
    jobs: Sequence[Job], n_processes: int, on_cell: OnCell, on_done: OnDone, seconds: dict[str, float]
) -> None:
    """Execute `jobs`: the first before all others, then at most `n_processes` at once.

    `on_cell` hears of each cell that ended, `on_done` of each notebook with its seconds, kept in
    `seconds`. The first failure stops the rest and raises `NotebookFailed`; no process outlives the call.
    """
    load_machinery()
    waiting, running = list(jobs), list[Running]()
    finished: dict[str, float] = {}
    try:
        while waiting or running:
            at_once = n_processes if len(seconds) > 0 or finished else 1
            while waiting and len(running) < at_once:
                running.append(_start(waiting.pop(0)))
            _tell(finished, seconds, on_done)
            finished = _step(running, on_cell)
        _tell(finished, seconds, on_done)
    finally:
        _stop(running)


def _tell(finished: dict[str, float], seconds: dict[str, float], on_done: OnDone) -> None:
    """Pass on what has finished, after its place was given to the next, so that nobody waits for the listener."""
    for name, took in finished.items():
        seconds[name] = took
        on_done(name, took)


@contextmanager
def _held_back(number: signal.Signals) -> Iterator[None]:
    """Deliver signal `number` only at the end; a process that is started meanwhile holds it back until it says."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(job: Job) -> Running:
    context = multiprocessing.get_context("fork" if fork_is_safe() else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(job, theirs, os.getpid()), daemon=False)
    with _held_back(signal.SIGINT):  # until the worker has said that it ignores it
        process.start()
    theirs.close()
    return Running(job, process, ours)


def _step(running: list[Running], on_cell: OnCell) -> dict[str, float]:
    """Hear every worker that has something to say; seconds of those that are done."""
    ready = wait([item.pipe for item in running])
    finished = {}
    for item in [item for item in running if item.pipe in ready]:
        kind, value = _receive(item)
        if kind == "cell":
            on_cell(item.job.name, value)
            continue
        item.process.join()
        item.pipe.close()
        running.remove(item)
        if kind == "failed":
            raise NotebookFailed(item.job.name, value)
        finished[item.job.name] = time.perf_counter() - item.started
    return finished


def _receive(item: Running) -> tuple:
    try:
        return item.pipe.recv()
    except EOFError:
        item.process.join()
        return "failed", f"its process ended with code {item.process.exitcode} (killed, or out of memory)"


def _stop(running: list[Running]) -> None:
    """End what still runs; kernels end with their worker."""
    for item in running:
        item.process.kill()
    for item in running:
        item.process.join()
        item.pipe.close()
