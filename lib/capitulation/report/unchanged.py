"""Is the published report what would be made again? Told from digests alone, before anything large is loaded.

`make report` on local files keeps a note of all that decided about the report: what was asked for, the day (since it is
not finished), the versions, and every file that was read. While nothing of it changed and the report lies there as it
was made, there is nothing to do.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import capitulation
from capitulation.paths import notebooks_folder, params_folder, reference_folder, reports_folder, write_json

DEFAULT_RUN, LIBRARY = "latest", Path(capitulation.__file__).parent
PACKAGES = ("arch", "bokeh", "ipython", "matplotlib", "numpy", "pandas", "papermill", "scipy", "seaborn", "statsmodels")
ASKED = ("RUN", "PARAMS", "SET", "AS_OF", "DATA", "SOURCE", "LICENCE")
NOTHING_CHANGED = "nothing changed since reports/{} was made; FORCE=1 runs it again"


def digest(content: bytes) -> str:
    """SHA-256 of what a file holds."""
    return hashlib.sha256(content).hexdigest()


def files_below(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`, by its path there."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): digest(path.read_bytes()) for path in paths}


def versions() -> dict[str, str]:
    """Versions of this library, of Python and of every package that can change a figure."""
    known = {"capitulation": capitulation.__version__, "python": platform.python_version()}
    return known | {name: metadata.version(name) for name in PACKAGES}


def asked_plainly() -> bool:
    """Whether this is `make report`, all of whose settings are in the environment."""
    return sys.argv[1:] == ["report"]


def decides(files: Iterable[Path]) -> dict[str, Any]:
    """All that a report depends on which is made now of the local `files`."""
    asked = {name: os.environ.get(name, "") for name in ASKED} | {"": str(Path.cwd())}
    folders = (LIBRARY, reference_folder(), notebooks_folder(), params_folder())
    read = {str(folder): files_below(folder) for folder in folders}
    read |= {str(path): {"": digest(path.read_bytes())} for path in files}
    return {"asked": asked, "day": f"{dt.datetime.now(dt.UTC):%Y-%m-%d}", "versions": versions(), "read": read}


def _note(run: str) -> Path:
    return reports_folder() / ".made" / f"{quote(run, safe='')}.json"


def keep_note(run: str, files: Iterable[Path], decided: dict[str, Any]) -> None:
    """Keep in mind that the published report `run` was made from `files` when `decided` was what decides."""
    record = digest((reports_folder() / run / "run.json").read_bytes())
    write_json(_note(run), {"files": [*map(str, files)], "decided": decided, "record": record})


def same_report() -> Path | None:
    """The folder of the report that this `make report` would make, if it is there; None too where FORCE is set."""
    if not asked_plainly() or os.environ.get("FORCE", "") not in ("", "0"):
        return None
    run = os.environ.get("RUN") or DEFAULT_RUN
    folder = reports_folder() / run
    if folder.with_name(f"{run}.failed").exists():  # the next report that ends well puts it away
        return None
    with suppress(OSError, ValueError, KeyError, TypeError):
        note, record = json.loads(_note(run).read_bytes()), (folder / "run.json").read_bytes()
        if note["record"] == digest(record) and note["decided"] == decides(map(Path, note["files"])):
            return folder if json.loads(record)["files"].items() <= files_below(folder).items() else None
    return None


def tell(folder: Path) -> None:
    """The last lines of `make report`: which page to read, and on standard output the one to open."""
    print(f"to read or to e-mail: {folder / 'report.html'}; make open shows it", file=sys.stderr, flush=True)
    print(folder / "index.html", flush=True)
