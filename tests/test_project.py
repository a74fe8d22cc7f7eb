"""The project's own promises: both dependency lists agree, notebooks are clean, imports are cheap and point one way."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CONDA_NAMES = {"arch-py": "arch", "pandera": "pandera[pandas]"}
# Each layer may import only from itself and from layers before it.
LAYERS = (
    "errors paths words plain_yaml params contract tables",
    "data",
    "mining",
    "episodes",
    "study",
    "simulate",
    "plots",
    "session",
    "explore",
    "report",
    "cli",
)
# The simulated market stands in for data that cannot be had; it is imported inside the one function that needs it.
ALLOWED_BACKWARDS = {("data", "simulate")}


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _conda_requirements() -> set[str]:
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    plain = [entry for entry in entries if isinstance(entry, str)]
    names = [line for line in plain + pip if line != "pip" and not line.startswith(("python ", "--editable"))]
    split = [re.match(r"([A-Za-z0-9_.-]+)(.*)", line).groups() for line in names]
    return {CONDA_NAMES.get(name, name) + rest for name, rest in split}


def test_both_dependency_lists_agree():
    project = _project()
    extras = project["optional-dependencies"]
    assert _conda_requirements() == set(project["dependencies"]) | set(extras["test"]) | set(extras["dask"])


def test_every_dependency_is_pinned_and_no_host_is_named():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    text = (ROOT / "constraints.txt").read_text()
    pinned = {canonicalize_name(line.split("==")[0]) for line in text.splitlines() if "==" in line}
    project = _project()
    wanted = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    assert {canonicalize_name(Requirement(line).name) for line in wanted} <= pinned
    assert "://" not in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_are_clean(path):
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert not re.search(r"/(home|root|work|tmp|Users)/", path.read_text())
    assert max(len([x for x in "".join(cell["source"]).splitlines() if x.strip()]) for cell in code) <= 40


def _layer(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def _rank(layer: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if layer in names.split())


def _imports(path: Path) -> set[str]:
    """Layers that a module imports at any depth, type-checking imports included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("capitulation"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {_layer(alias.name) for alias in node.names if alias.name.startswith("capitulation.")}
    return found - {"__version__"}


@pytest.mark.parametrize("path", sorted((ROOT / "lib/capitulation").rglob("*.py")), ids=lambda path: path.stem)
def test_imports_point_one_way(path):
    layer = path.relative_to(ROOT / "lib/capitulation").with_suffix("").parts[0]
    if layer == "__init__":
        return
    backwards = {
        other for other in _imports(path) if _rank(other) > _rank(layer) and (layer, other) not in ALLOWED_BACKWARDS
    }
    assert not backwards


def test_import_is_cheap():
    heavy = "('pandas', 'scipy', 'statsmodels', 'matplotlib')"
    code = f"import sys, capitulation; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.xdist_group("project")
def test_a_group_of_tests_keeps_to_one_worker(request):
    """pytest-xdist tells groups apart by a suffix of the test's name; some pytest versions silently drop it."""
    grouped = request.config.getoption("loadgroup", False)
    assert request.node.nodeid.endswith("@project") == bool(grouped)


@pytest.mark.parametrize(
    "text", ["$(shell touch {0})", "`touch {0}`", "a$b#c $(error x).csv", 'it\'s \\ "x"', "$(RUN)"]
)
def test_make_passes_on_text_letter_by_letter(tmp_path, text):
    """Neither make nor a shell interprets what a user types."""
    text = text.format(tmp_path / "touched")
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\nprintf %s "$DATA"\n')
    program.chmod(0o755)
    command = ["make", "--silent", "report", f"PYTHON={program}", "STAMP=", f"DATA={text}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, text), done.stderr
    assert not (tmp_path / "touched").exists()
