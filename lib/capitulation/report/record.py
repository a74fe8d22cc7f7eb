"""What a report records about itself: enough to rebuild it, and nothing that differs between two builds."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from capitulation import __version__
from capitulation.errors import DataError
from capitulation.params import Params, changed_from_default

RUN_FILE = "run.json"
TIMINGS_FILE = "timings.json"
FORMAT = 1
PARTS = {"parameters": dict, "market": dict, "versions": dict, "tables": dict, "notebooks": list}
MARKET_PARTS = {"simulated": bool, "snapshot": str, "digest": str, "age_days": float | int | None, "notes": list}
NOTEBOOK_PARTS = {"name": str, "key": str, "files": list}
PACKAGES = (
    "arch", "ipykernel", "matplotlib", "nbclient", "nbconvert", "numpy", "pandas", "papermill", "scipy", "seaborn",
    "statsmodels",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of this library, of Python and of every package that can change a figure."""
    found = {"capitulation": __version__, "python": platform.python_version()}
    return found | {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_record(
    run: str, params: Params, market: Mapping[str, Any], notebooks: Iterable[Mapping[str, Any]], folder: Path
) -> dict[str, Any]:
    """The content of run.json: parameters, data, versions, notebooks and the digest of every table."""
    return {
        "format": FORMAT,
        "run": run,
        "parameters": params.model_dump(mode="json"),
        "changed": changed_from_default(params),
        "market": dict(market),
        "versions": versions(),
        "notebooks": list(notebooks),
        "tables": {path.name: file_digest(path) for path in sorted((folder / "tables").glob("*.csv"))},
    }


def read_record(folder: Path) -> dict[str, Any]:
    """The run.json in `folder`; {} where there is none, or where it is damaged and so not to be relied on."""
    facts = read_json(folder / RUN_FILE, {})
    return facts if _is_record(facts) else {}


def require_record(folder: Path) -> dict[str, Any]:
    """The run.json in `folder`; `DataError` where it cannot be relied on."""
    facts = read_record(folder)
    if not facts:
        raise DataError(f"reports/{folder.name}/{RUN_FILE}: damaged; make the report again")
    return facts


def _is_record(facts: Any) -> bool:
    """Whether all that is read from a record has its kind, and no name in it leads out of the report."""
    if not isinstance(facts, dict) or not all(isinstance(facts.get(name), kind) for name, kind in PARTS.items()):
        return False
    notebooks = facts["notebooks"]
    if not all(isinstance(item, dict) for item in notebooks) or not _is_market(facts["market"]):
        return False
    if not all(isinstance(item.get(name), kind) for item in notebooks for name, kind in NOTEBOOK_PARTS.items()):
        return False
    names = [*facts["tables"], *(item["name"] for item in notebooks), *(f for item in notebooks for f in item["files"])]
    return all(isinstance(name, str) and _stays_inside(name) for name in names)


def _is_market(facts: Mapping[str, Any]) -> bool:
    """Whether what is read from a record's market has its kind; records of earlier versions name no `others`."""
    if not all(name in facts and isinstance(facts[name], kind) for name, kind in MARKET_PARTS.items()):
        return False
    others = facts.get("others", [])
    return isinstance(others, list) and all(isinstance(text, str) for text in [*facts["notes"], *others])


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def files_digest(folder: Path, names: Iterable[str]) -> str:
    """One digest of the named files in `folder`; "" where one cannot be read."""
    try:
        digests = [f"{name} {file_digest(folder / name)}" for name in sorted(names)]
    except OSError:
        return ""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def left_by(item: Mapping[str, Any]) -> list[str]:
    """Files that a notebook left in the report: its executed copy and what it wrote."""
    return [f"notebooks/{item['name']}.ipynb", *item["files"]]


def is_whole(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Whether every page that `facts` (run.json) speaks of is in `folder` and every table is as it was made."""
    pages = ["index.html", "report.html", *(f"{item['name']}.html" for item in facts["notebooks"])]
    tables = {f"tables/{name}": digest for name, digest in facts["tables"].items()}
    same = all((folder / name).is_file() and file_digest(folder / name) == tables[name] for name in tables)
    return same and all((folder / name).is_file() for name in pages)


def market_facts(market: Any) -> dict[str, Any]:
    """Provenance of a market, and the days it covers."""
    days = market.panel.index
    return {
        "source": market.source,
        "simulated": bool(market.simulated),
        "retrieved_at": market.retrieved_at,
        "snapshot": market.snapshot,
        "digest": market.digest,
        "licence": market.licence,
        "attribution": market.attribution,
        "age_days": market.age_days,
        "notes": list(market.notes),
        "findings": [dict(finding) for finding in market.findings],
        "files": [dict(facts) for facts in market.files],
        "others": list(market.others),
        "first_day": days[0].strftime("%Y-%m-%d"),
        "last_day": days[-1].strftime("%Y-%m-%d"),
        "n_days": len(days),
    }


def write_json(path: Path, values: Any) -> None:
    """`values` as JSON that is the same for the same values."""
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, default: Any = None) -> Any:
    """The JSON in `path`; `default` where there is none or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return default
