"""Notebooks as files: which there are, what they declare, and what is removed from an executed one.

A notebook declares the parameters it uses in the cell tagged `parameters`: one typed literal per line, with a comment
that names the unit. The cell is parsed, never run, to find them.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capitulation.errors import InputError, ReportError, one_line
from capitulation.params import Params

NUMBERED = re.compile(r"\d\d-[a-z0-9]+(-[a-z0-9]+)*")
PARAMETERS_TAG = "parameters"
RUNNER_LEVEL = frozenset({"source", "data", "as_of", "max_age_days"})
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,16}\b")
KEPT_METADATA = ("kernelspec", "language_info")
DECLARATION = "one `name: type = literal  # unit` per line"


@dataclass(frozen=True)
class Notebook:
    """A numbered notebook: its name without suffix, its file, the parameters it declares and its number of cells."""

    name: str
    path: Path
    declared: tuple[str, ...]
    n_cells: int


def find_notebooks(folder: Path) -> list[Notebook]:
    """Every `NN-verb-object.ipynb` in `folder`, in the order of the numbers; `ReportError` if there is none."""
    paths = sorted(path for path in folder.glob("[0-9][0-9]-*.ipynb") if NUMBERED.fullmatch(path.stem))
    if not paths:
        raise ReportError(f"no numbered notebook (NN-verb-object.ipynb) in {one_line(folder, 200)}")
    return [read_notebook(path) for path in paths]


def read_notebook(path: Path) -> Notebook:
    """`path` with what it declares; `ReportError` if it is not a notebook or its parameters cell cannot be read."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        tagged = [cell for cell in cells if PARAMETERS_TAG in cell["metadata"].get("tags", [])]
        sources = ["".join(cell["source"]) for cell in tagged]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"notebook {path.name} cannot be read: {one_line(repr(error), 160)}") from None
    return Notebook(path.stem, path, declared_names("\n".join(sources), path.name), len(cells))


def declared_names(source: str, where: str) -> tuple[str, ...]:
    """Names that a parameters cell declares, in its order.

    >>> declared_names("fast_days: int = 30  # days", "20-find-capitulations.ipynb")
    ('fast_days',)
    """
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise ReportError(f"{where}, parameters cell, line {error.lineno}: not Python; write {DECLARATION}") from None
    names = tuple(_declared_name(statement, where) for statement in statements if not _is_text(statement))
    unknown = [name for name in names if name not in Params.model_fields]
    if unknown:
        raise ReportError(f"{where} declares {unknown[0]!r}, which is not a parameter of capitulation.params.Params")
    return names


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _declared_name(statement: ast.stmt, where: str) -> str:
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    value = getattr(statement, "value", None)
    if len(targets) != 1 or not isinstance(targets[0], ast.Name) or value is None:
        raise ReportError(f"{where}, parameters cell, line {statement.lineno}: write {DECLARATION}")
    try:
        ast.literal_eval(value)
    except ValueError:
        raise ReportError(
            f"{where}, parameters cell, line {statement.lineno}: {targets[0].id} must be a literal"
        ) from None
    return targets[0].id


def check_overrides(overrides: Iterable[str], notebooks: Iterable[Notebook]) -> None:
    """`InputError` for an override that no notebook declares: it would change nothing, silently."""
    declared = {name for notebook in notebooks for name in notebook.declared}
    for name in sorted(overrides):
        if name not in declared | RUNNER_LEVEL:
            allowed = ", ".join(sorted(declared))
            raise InputError(f"SET {one_line(name, 60)}: no notebook uses it; those in use are: {allowed}")


def parameters_for(notebook: Notebook, params: Params) -> dict[str, Any]:
    """What `notebook` declares, with the run's values as JSON types; a local file by its name alone."""
    values = params.model_dump(mode="json")
    chosen = {name: values[name] for name in notebook.declared}
    if chosen.get("data"):
        chosen["data"] = Path(chosen["data"]).name
    return chosen


def tidy(notebook: dict[str, Any], name: str, parameters: Mapping[str, Any], hidden: Mapping[str, str]) -> None:
    """Make an executed notebook (nbformat 4 as plain dicts) the same in every build, in place.

    Cell ids follow from position and source, times and paths leave the metadata, memory addresses and the folders
    named in `hidden` leave the outputs.
    """
    metadata = notebook["metadata"]
    notebook["metadata"] = {key: metadata[key] for key in KEPT_METADATA if key in metadata}
    notebook["metadata"]["papermill"] = {"parameters": dict(parameters)}
    notebook["nbformat_minor"] = max(5, notebook.get("nbformat_minor", 5))
    for position, cell in enumerate(notebook["cells"]):
        tags = cell["metadata"].get("tags", [])
        cell["metadata"] = {"tags": tags} if tags else {}
        cell["id"] = _cell_id(name, position, cell)
        for output in cell.get("outputs", []):
            _tidy_output(output, hidden)


def _cell_id(name: str, position: int, cell: Mapping[str, Any]) -> str:
    text = f"{name}\0{position}\0{''.join(cell['source'])}"
    return f"c{position:02d}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _tidy_output(output: dict[str, Any], hidden: Mapping[str, str]) -> None:
    if "text" in output:
        output["text"] = _tidy_text(output["text"], hidden)
    data = output.get("data", {})
    for kind in data:
        if kind.startswith("text/"):
            data[kind] = _tidy_text(data[kind], hidden)
    output.pop("transient", None)


def _tidy_text(text: str | list[str], hidden: Mapping[str, str]) -> str:
    joined = ADDRESS.sub("0x…", "".join(text))
    for folder, shown in hidden.items():
        joined = joined.replace(folder, shown)
    return joined
