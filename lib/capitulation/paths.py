"""Where the project's folders are, and how a file is put there.

The project root is the checkout that holds this package (it is installed editable); the environment variable
`CAPITULATION_HOME` names another one, as the tests do.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]


def project_root() -> Path:
    """The folder that holds params/, data/, notebooks/ and reports/."""
    return Path(os.environ.get("CAPITULATION_HOME") or CHECKOUT)


def raw_folder() -> Path:
    """Provider snapshots: verbatim responses, never edited."""
    return project_root() / "data" / "raw"


def reference_folder() -> Path:
    """Small curated tables with a source per row; always those of this checkout, never of `CAPITULATION_HOME`."""
    return CHECKOUT / "data" / "reference"


def register_folder() -> Path:
    """Forecasts that were written down before their outcome."""
    return project_root() / "data" / "register"


def notebooks_folder() -> Path:
    """The numbered notebooks and explore.ipynb."""
    return project_root() / "notebooks"


def params_folder() -> Path:
    """Run profiles."""
    return project_root() / "params"


def reports_folder() -> Path:
    """One folder per published run."""
    return project_root() / "reports"


def write_whole(target: Path, content: bytes) -> Path:
    """Put `target` in its place whole or not at all, its folder made where absent; one writer at a time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_bytes(content)
        return partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_json(target: Path, values: Any, default: Callable[[Any], Any] | None = None) -> Path:
    """`values` as JSON, the same for the same values, by `write_whole`.

    NaN is a `ValueError`; what JSON has no type for is a `TypeError`, or written as `default` of it.
    """
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False, default=default)
    return write_whole(target, f"{text}\n".encode())


def read_json(path: Path) -> dict[str, Any]:
    """The JSON in `path`; {} where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
