"""Names of runs and of their folders: decided here, so that no user text ever becomes a path unchecked."""

from __future__ import annotations

import re
from pathlib import Path

from capitulation.errors import InputError, one_line
from capitulation.paths import reports_folder

DEFAULT_RUN = "latest"
SIMULATED_RUN = "simulated"
FAILED_SUFFIX = ".failed"
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RESERVED_SUFFIXES = (FAILED_SUFFIX, ".zip", ".lock")
COMPARISONS = "compare"


def check_run_name(name: str) -> str:
    """`name` if it can name a run; `InputError` with what is allowed otherwise.

    >>> check_run_name("2026-01-20")
    '2026-01-20'
    """
    shown = one_line(repr(name), 80)
    if not RUN_NAME.fullmatch(name) or ".." in name:
        raise InputError(
            f"RUN={shown}: must be 1 to 64 letters, digits, dots, dashes and underscores, start with a letter or digit"
            " and hold no '..'"
        )
    if name.lower().endswith(RESERVED_SUFFIXES) or name.lower() == COMPARISONS:
        raise InputError(f"RUN={shown}: reserved; names must not be {COMPARISONS!r} nor end in .failed, .zip or .lock")
    return name


def run_for_market(name: str, simulated: bool) -> str:
    """The run that a market is published as: a simulated market always as `simulated`, a real one never."""
    asked = check_run_name(name or DEFAULT_RUN)
    if simulated:
        return SIMULATED_RUN
    if asked.lower() == SIMULATED_RUN:
        raise InputError(f"RUN={asked}: reserved for simulated markets, this run has real data; choose another RUN")
    return asked


def published_folder(run: str) -> Path:
    """Where a run is published."""
    return reports_folder() / check_run_name(run)


def failed_folder(run: str) -> Path:
    """Where the broken notebooks of a failed run are kept."""
    return reports_folder() / f"{check_run_name(run)}{FAILED_SUFFIX}"
