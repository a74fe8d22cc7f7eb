"""What a report and each of its notebooks depend on, as digests of content: equal digests need no new run.

No time stamp of a file counts, so a fresh clone, a touched file or a changed clock neither hides nor fakes a change.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from capitulation.params import Params
from capitulation.paths import reference_folder
from capitulation.report.imports import LIBRARY, imported_names, modules, needed_modules
from capitulation.report.notebooks import Notebook, parameters_for
from capitulation.report.record import file_digest, versions

PREFERRED_SOURCE = "coinmetrics"
SKIPPED_FOLDERS = {"__pycache__"}


def digest(*parts: Any) -> str:
    """SHA-256 of values of JSON types."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def run_key(notebooks: Sequence[Notebook], params: Params) -> str:
    """Digest of all that a whole report depends on; "" where the data are not known without loading them."""
    data = data_key(params)
    if not data:
        return ""
    sources = [(notebook.name, file_digest(notebook.path)) for notebook in notebooks]
    return digest("run", sources, params.model_dump(mode="json"), data, versions(), library_digests(), reference_key())


def data_key(params: Params) -> str:
    """What identifies the raw data a run would use, found without reading them into a panel; "" if it must fetch."""
    if params.data:
        return _file_key(Path(params.data))
    if params.source == "simulated":
        return "simulated"
    return _snapshot_key(PREFERRED_SOURCE if params.source == "auto" else params.source, params)


def _file_key(path: Path) -> str:
    """Name and digest of a local file; "" where it cannot be read, which loading it will explain."""
    try:
        return f"file:{path.name}:{file_digest(path)}" if path.is_file() else ""
    except OSError:
        return ""


def _snapshot_key(provider: str, params: Params) -> str:
    from capitulation.data import store
    from capitulation.data.market import age_days, is_fresh

    snapshot, refused = store.newest_snapshot(provider)
    if snapshot is None or refused:
        return ""
    now = store.utc_now()
    if not is_fresh(snapshot, params, now):
        return ""
    age = 0 if params.as_of else math.floor(age_days(snapshot, now))
    return f"snapshot:{snapshot.name}:{age}:{digest(dict(snapshot.manifest))}"


def notebook_key(notebook: Notebook, params: Params, market: str) -> str:
    """Digest of all that one notebook depends on; `market` is the digest of the market it works on."""
    uses = {name: library_digests()[name] for name in library_files(notebook)}
    source, values = file_digest(notebook.path), parameters_for(notebook, params)
    return digest("notebook", notebook.name, source, values, market, versions(), uses, reference_key())


def library_files(notebook: Notebook) -> list[str]:
    """Files of the library that a notebook may use, and every file of it that is not Python."""
    known = modules()
    cells = json.loads(notebook.path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    needed = needed_modules(set().union(*map(_names_in_cell, sources)), known)
    chosen = {known[name].relative_to(LIBRARY).as_posix() for name in needed}
    others = {name for name in library_digests() if not name.endswith(".py") and not name.startswith("report/")}
    return sorted(chosen | others)


def _names_in_cell(source: str) -> set[str]:
    """Names that a cell imports; a cell with magics or errors counts as using everything."""
    try:
        return imported_names(source)
    except SyntaxError:
        return {"capitulation*"}


@cache
def library_digests() -> dict[str, str]:
    """Digest of every file of the library by its path in it."""
    paths = [path for path in sorted(LIBRARY.rglob("*")) if path.is_file() and not SKIPPED_FOLDERS & set(path.parts)]
    return {path.relative_to(LIBRARY).as_posix(): file_digest(path) for path in paths}


@cache
def reference_key() -> str:
    """Digest of the curated tables."""
    return digest([(path.name, file_digest(path)) for path in sorted(reference_folder().glob("*")) if path.is_file()])
