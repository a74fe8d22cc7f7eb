"""Staging folders, locks and the one rename that publishes a report.

A report is built in a hidden staging folder beside its place and then swapped in. Where the system can exchange two
folders in one step (Linux), there is no moment without a report; elsewhere the old one is moved aside first, and a
process that dies in between is made good by the next reader or run.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from capitulation.errors import InputError, ReportError
from capitulation.paths import reports_folder
from capitulation.report.names import check_run_name, published_folder

AT_FDCWD = -100
RENAME_EXCHANGE = 2
NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
LOCKS = ".locks"


@contextmanager
def run_lock(run: str, progress: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of run `run`; says so when it must wait for another process."""
    folder = reports_folder() / LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{check_run_name(run)}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"report {run!r} is being made by another process: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def check_place(run: str) -> None:
    """`InputError` where something else than a report lies at a run's place: it would be replaced, and so lost."""
    target = published_folder(run)
    if not os.path.lexists(target):
        return
    is_folder = target.is_dir() and not target.is_symlink()
    if not is_folder or (any(target.iterdir()) and not (target / "run.json").is_file()):
        raise InputError(f"RUN={run}: reports/{run} is there and no report; move it away or choose another RUN")


def new_staging(run: str) -> Path:
    """A fresh staging folder for `run`; what a killed run left is removed. Call it with the lock held."""
    recover(run)
    for stale in hidden(run, "staging"):
        shutil.rmtree(stale, ignore_errors=True)
    staging = reports_folder() / f".{run}.staging-{os.getpid()}"
    staging.mkdir(parents=True)
    return staging


def hidden(run: str, kind: str) -> list[Path]:
    """Hidden folders and files of `run`, `.run.kind-<process>`, never those of a run whose name only begins alike."""
    name = re.compile(rf"\.{re.escape(check_run_name(run))}\.{kind}-\d+")
    return sorted(path for path in reports_folder().glob(f".{run}.{kind}-*") if name.fullmatch(path.name))


def recover(run: str) -> None:
    """Put the previous report back if a process died between moving it aside and moving the new one in."""
    target = published_folder(run)
    aside = hidden(run, "old")
    if aside and not target.exists():
        with contextlib.suppress(FileNotFoundError):
            aside[-1].rename(target)
    for folder in aside:
        shutil.rmtree(folder, ignore_errors=True)


def publish(staging: Path, run: str) -> Path:
    """Make `staging` the published report of `run` in one step and remove the one before."""
    target = published_folder(run)
    try:
        if not target.exists():
            staging.rename(target)
        elif exchange(staging, target):
            shutil.rmtree(staging, ignore_errors=True)
        else:
            _move_aside(staging, target, run)
    except OSError as error:
        raise ReportError(
            f"report {run!r} could not be published: {error.strerror}; the previous one is intact"
        ) from None
    return target


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders atomically; False where the system cannot."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    failed = renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _move_aside(staging: Path, target: Path, run: str) -> None:
    old = target.with_name(f".{run}.old-{os.getpid()}")
    target.rename(old)
    try:
        staging.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def open_report(run: str) -> Path:
    """The folder of a published report; `InputError` if there is none of that name."""
    folder = published_folder(run)
    if not folder.exists() and hidden(run, "old"):
        with run_lock(run, lambda line: None):
            recover(run)
    if not (folder / "run.json").is_file():
        published = sorted(path.parent.name for path in reports_folder().glob("[A-Za-z0-9]*/run.json"))
        raise InputError(f"RUN={run}: no such report; there are: {', '.join(published) or 'none, run make report'}")
    return folder
