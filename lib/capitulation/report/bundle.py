"""A zip to send: the whole report in one file, its tables and its record; the same bytes for the same report."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from capitulation.paths import reports_folder
from capitulation.report.publish import hidden, open_report, run_lock

EARLIEST = (1980, 1, 1, 0, 0, 0)
FILES = ("report.html", "run.json", "state.json", "tables/*.csv")
READABLE = 0o644 << 16


def bundle(run: str) -> Path:
    """Write reports/<run>.zip from the published report and give its path; `InputError` where there is no report."""
    folder = open_report(run)
    with run_lock(run, lambda line: None):
        return _write(folder, run)


def _write(folder: Path, run: str) -> Path:
    """The zip, written beside its place and moved there; the run's lock keeps the report as it is meanwhile."""
    target = reports_folder() / f"{run}.zip"
    for stale in hidden(run, "zip"):
        stale.unlink(missing_ok=True)
    partial = target.with_name(f".{run}.zip-{os.getpid()}")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(path for pattern in FILES for path in folder.glob(pattern)):
                archive.writestr(_entry(f"{run}/{path.relative_to(folder).as_posix()}"), path.read_bytes())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EARLIEST)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, READABLE
    return entry
