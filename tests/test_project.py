"""The project's own promises: both dependency lists agree, notebooks are clean, the public names are few and true."""

import ast
import doctest
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

import capitulation as cap

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "lib" / "capitulation"
NOTEBOOKS = sorted([*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "docs" / "template").glob("*.ipynb")])
NUMBERED = [path for path in NOTEBOOKS if re.match(r"\d\d-", path.name)]
CONDA_NAMES = {"arch-py": "arch", "python-duckdb": "duckdb"}
ROOMS = ("data", "mining", "study", "simulate", "figures", "report")
# A layer may import those before it.
LAYERS = ("errors", "words", "paths", "ahead", *ROOMS[:5], "params", "report", "cli", "__main__")


def requirements() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def test_both_dependency_lists_agree_and_every_one_is_pinned_without_a_host():
    entries = YAML(typ="safe").load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    lines = [entry for entry in (*entries, *pip) if isinstance(entry, str)]
    lines = [line for line in lines if line != "pip" and not line.startswith(("python ", "--editable"))]
    conda = {
        CONDA_NAMES.get(name, name) + rest for name, rest in (re.match(r"([\w.-]+)(.*)", x).groups() for x in lines)
    }
    wanted = {line for extra in requirements().values() for line in extra}
    assert conda == wanted
    text = (ROOT / "constraints.txt").read_text()
    pinned = {canonicalize_name(line.split("==")[0]) for line in text.splitlines() if "==" in line}
    assert {canonicalize_name(Requirement(line).name) for line in wanted} <= pinned
    assert "://" not in text


def test_every_pin_can_be_installed_with_every_python_of_the_project():
    """Debian 12's among them; a package that asks for a newer one is pinned twice, each with a marker."""
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()]
    known = {canonicalize_name(item.name): item for item in metadata.distributions()}
    for python in ("3.11.2", "3.12.3", "3.13.0"):
        used = [pin for pin in pins if not pin.marker or pin.marker.evaluate({"python_full_version": python})]
        assert len(used) == len({canonicalize_name(pin.name) for pin in pins})
        for pin in used:
            item = known.get(canonicalize_name(pin.name))
            if item and pin.specifier.contains(item.version) and item.metadata.get("Requires-Python"):
                assert SpecifierSet(item.metadata["Requires-Python"]).contains(python), f"{pin} with {python}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_are_clean(path):
    notebook = json.loads(path.read_text())
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert not re.search(r"/(home|root|work|tmp|Users)/", path.read_text())
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)
def test_a_notebook_is_an_argument_that_checks_the_library(path):
    """Its method stands in pandas and is held against the library; its own parameters are few, their meaning beside."""
    cells = json.loads(path.read_text())["cells"]
    prose = [cell for cell in cells if cell["cell_type"] == "markdown"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    declared = next("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", []))
    tree = ast.parse("\n".join(code))
    asserted = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    compared = re.findall(r"assert_(?:allclose|series_equal|frame_equal|index_equal|array_equal)", "\n".join(code))
    assert len(asserted) + len(compared) >= 3
    assert 20 <= len(cells) <= 40 and 0.4 <= len(prose) / len(cells) <= 0.6
    assert sum(len("".join(cell["source"]).split()) for cell in prose) >= 500
    assert 2 <= len(declared.splitlines()) <= 9 and all("  # " in line for line in declared.splitlines())


def test_imports_point_one_way():
    rank = {name: i for i, name in enumerate(LAYERS)}
    for path in LIBRARY.rglob("*.py"):
        layer = path.relative_to(LIBRARY).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            module = getattr(node, "module", None) or ""
            if layer != "__init__" and module.startswith("capitulation."):
                assert rank[module.split(".")[1]] <= rank[layer], f"{path.name} imports {module}"


def test_the_package_loads_nothing_and_its_names_nothing_heavy():
    heavy = ["arch", "bokeh", "statsmodels", "scipy.stats", "papermill", "nbconvert", "seaborn", "matplotlib"]
    code = "import sys, capitulation as cap; print('pandas' in sys.modules)\n"
    code += "for name in cap.__all__: getattr(cap, name) if name != 'figures' else None\n"
    code += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["False", "[]"]


def test_tab_completion_offers_the_public_names_and_the_rooms():
    assert len(cap.__all__) <= 32 + len(ROOMS) and {*ROOMS} <= {*cap.__all__} == {*dir(cap)}
    for name in cap.__all__:
        assert hasattr(cap, name)
        assert name == "RULES" or (getattr(cap, name).__doc__ or "").strip(), name


@pytest.mark.parametrize("name", [module.name for module in pkgutil.walk_packages(cap.__path__, "capitulation.")])
def test_examples_in_docstrings(name, simulated_panel):
    """In the examples `panel` is a simulated market."""
    names = {"pd": pd, "np": np, "panel": simulated_panel.copy()}
    assert doctest.testmod(importlib.import_module(name), extraglobs=names).failed == 0


def test_every_public_function_has_an_example():
    opened = {"open_page", "save_profile"}  # they read or write files of the checkout
    functions = {name for name in cap.__all__ if inspect.isfunction(getattr(cap, name))} - opened
    assert [name for name in sorted(functions) if ">>>" not in getattr(cap, name).__doc__] == []


def test_a_rule_of_ones_own_in_six_lines(real_panel):
    """The figures of an independent computation in plain pandas, on data to 2026-03-22."""
    panel = real_panel[:"2026-03-22"]
    mean7 = panel["hash_rate_ehs"].rolling(7).mean()
    found = cap.episodes(mean7 < 0.9 * mean7.rolling(90).max(), panel)
    after = cap.forward_returns(panel["price_usd"], days=90, lag=1)
    test = cap.rotation_test(after["2014":].dropna(), found["end"])
    row = cap.event_study(panel, found["end"]).set_index("days").loc[90]
    assert test.n == row["n"] == 67
    assert test.p == pytest.approx(0.216, abs=5e-4) and row["p_plain"] == pytest.approx(test.p, abs=1e-12)
    assert (row["median"], row["hit_rate"]) == pytest.approx((0.132, 0.612), abs=5e-4)
    title = cap.figures.event_paths(panel, found["end"], name="ends of falls of a tenth").get_suptitle()
    assert "67 ends of falls of a tenth" in " ".join(title.split())


def test_what_the_design_says_in_ten_lines_of_pandas(real_panel):
    """The headline by hand equals the library: recoveries, 90 days, since 2014, every rotation."""
    panel = real_panel[:"2026-03-22"]
    h, price = panel["hash_rate_ehs"], panel["price_usd"]
    slow = h.rolling(60).mean()
    capitulation = (h.rolling(30).mean() < slow).where(slow.notna(), False)
    recovery = h.index[capitulation.shift(fill_value=False) & ~capitulation]
    r = np.log(price.shift(-91) / price.shift(-1)).loc["2014":].dropna()
    event = r.index.isin(recovery)
    null = np.array([r.to_numpy()[np.roll(event, k)].mean() for k in range(len(r))])
    ribbon = cap.hash_ribbons(panel)
    test = cap.rotation_test(r, cap.episodes(ribbon["inverted"], panel)["end"])
    assert (test.n, test.excess) == (event.sum(), pytest.approx(null[0] - r.mean(), abs=1e-12))
    assert test.p == pytest.approx((null >= null[0] - 1e-12).mean(), abs=1e-12)
