"""Saving a setting as a run profile, so that `make report PARAMS=` repeats it as a whole report."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import yaml

from capitulation.errors import InputError, one_line
from capitulation.params import Params, changed_from_default
from capitulation.paths import params_folder

PROFILE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
SHIPPED = ("default", "quick", "as-of-2026-01-20")


def save_profile(params: Params, name: str, folder: Path | None = None) -> Path:
    """Write what differs from the defaults to params/`name`.yml, replacing an earlier profile of that name at once.

    `make report PARAMS=<name>` (or the file's path) reads it. Raises `InputError` for a name that is not lower-case
    letters, digits and hyphens, or that belongs to a profile of the project.
    """
    if not PROFILE_NAME.fullmatch(name):
        raise InputError(f"profile name {one_line(name, 60)!r}: must be lower-case letters, digits and hyphens")
    if name in SHIPPED:
        raise InputError(f"profile name {name!r}: belongs to the project; choose another one")
    path = (folder or params_folder()) / f"{name}.yml"
    part = path.with_name(f".{name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(profile_text(params), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise InputError(f"profile {name}.yml: cannot be written: {error.strerror}") from None
    return path


def profile_text(params: Params) -> str:
    """The profile as YAML: one line per parameter that differs from its default.

    >>> profile_text(Params(fast_days=20)).splitlines()[-1]
    'fast_days: 20'
    """
    values = changed_from_default(params)
    head = "# Saved from explore.ipynb: what differs from the defaults.\n"
    return head + (yaml.safe_dump(values, sort_keys=False, default_flow_style=None) if values else "")
