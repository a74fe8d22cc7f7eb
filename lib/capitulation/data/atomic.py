"""Writing a folder whole or not at all, by one process at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from capitulation.errors import CapitulationError, one_line
from capitulation.paths import raw_folder

LOCK_FILE = ".lock"
LOCK_SECONDS = 120.0
TEMPORARY = ".writing-"


class StoreError(CapitulationError):
    """The store cannot be written or read (disk full, no permission); nothing half-written stays readable."""

    exit_code = 3


@contextlib.contextmanager
def store_lock(progress: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Hold the store's lock; says so when it has to wait, `StoreError` when it waits for more than two minutes."""
    from filelock import FileLock, Timeout

    with disk_errors("cannot be locked"):
        raw_folder().mkdir(parents=True, exist_ok=True)
        lock = FileLock(raw_folder() / LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress("another process is writing to data/raw; waiting for it")
            try:
                lock.acquire(timeout=LOCK_SECONDS)
            except Timeout:
                raise StoreError(f"data/raw: locked by another process for {LOCK_SECONDS:.0f} s, given up") from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Let whatever the disk refuses end as a `StoreError` of one line that says `what` was being done."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StoreError(f"data/raw: {what} ({one_line(reason, 80)}); nothing was changed") from None


def write_folder(parent: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """`files` as folder `parent/name` (numbered where taken): written into a hidden sibling, flushed, renamed.

    What an earlier process left behind when killed is removed first; the caller holds the lock.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for leftover in parent.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    folder = _free_name(parent, name)
    temporary = parent / f"{TEMPORARY}{os.getpid()}"
    try:
        temporary.mkdir()
        for file_name, body in files.items():
            _write_file(temporary / file_name, body)
        _flush_folder(temporary)
        temporary.rename(folder)
        _flush_folder(parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def _free_name(parent: Path, name: str) -> Path:
    """`name`, or with a number where two fetches ended in the same second."""
    candidates = [parent / name, *(parent / f"{name}-{number}" for number in range(2, 1000))]
    return next(path for path in candidates if not path.exists())


def _write_file(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
