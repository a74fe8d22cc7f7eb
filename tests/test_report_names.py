"""Run names, declared parameters, dependencies, tidying: everything decided before a kernel starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capitulation.errors import InputError, ReportError
from capitulation.params import make_params
from capitulation.report import fingerprint, imports, notebooks
from capitulation.report.names import check_run_name, published_folder, run_for_market
from report_help import cells_notebook, write_notebook


@pytest.mark.parametrize("name", ["latest", "real", "2026-01-20", "a" * 64, "A.b_c-1"])
def test_usable_run_names(name):
    assert check_run_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "/etc", "a/b", "a\\b", "a\0b", "a..b", "-x", ".x", "a b", "a\n", "é", "a" * 65, "x.failed",
     "x.zip", "x.LOCK", "compare", "<script>"],
)  # fmt: skip
def test_refused_run_names(name):
    with pytest.raises(InputError, match="^RUN=.*(must|reserved)") as caught:
        check_run_name(name)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=80))
def test_no_run_name_leaves_the_reports_folder(name):
    try:
        folder = published_folder(name)
    except InputError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert folder.name == name
        assert folder.resolve().parent == folder.parent.resolve()


def test_simulated_and_real_never_share_a_folder():
    assert run_for_market("real", simulated=True) == "simulated"
    assert run_for_market("", simulated=False) == "latest"
    with pytest.raises(InputError, match="reserved for simulated"):
        run_for_market("Simulated", simulated=False)


def test_declared_parameters_are_read_without_running_the_cell():
    source = '"""Text."""\nfast_days: int = 30  # days\nhorizons_days: list[int] = [7, 30]  # days\nseed = 1  # integer'
    assert notebooks.declared_names(source, "x.ipynb") == ("fast_days", "horizons_days", "seed")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("fast_days = 1 +", "not Python"),
        ("fast_days = open('x')", "must be a literal"),
        ("import os", "line 1: write one"),
        ("fast_days: int", "line 1: write one"),
        ("a = b = 1", "line 1: write one"),
        ("speed_days = 3  # days", "not a parameter"),
    ],
)
def test_parameters_cell_that_is_no_declaration(source, reason):
    with pytest.raises(ReportError, match=reason):
        notebooks.declared_names(source, "20-x.ipynb")


def test_only_declared_parameters_are_passed_and_a_file_without_its_folder(tmp_path):
    cell = "fast_days: int = 30  # days\ndata: str = ''  # path"
    path = write_notebook(tmp_path, "10-look-at-data", cells_notebook("1", parameters=cell))
    params = make_params({"data": "/secret/folder/btc.csv", "fast_days": 20, "seed": 3})
    assert notebooks.parameters_for(notebooks.read_notebook(path), params) == {"fast_days": 20, "data": "btc.csv"}


def test_override_that_no_notebook_declares(tmp_path):
    path = write_notebook(tmp_path, "10-look-at-data", cells_notebook("1"))
    book = notebooks.read_notebook(path)
    notebooks.check_overrides(["fast_days", "as_of", "source"], [book])
    with pytest.raises(InputError, match="SET seed: no notebook uses it; those in use are: fast_days"):
        notebooks.check_overrides(["seed"], [book])


def test_only_numbered_notebooks_count_and_in_order(tmp_path):
    for name in ("20-b-c", "10-a-b", "explore", "5-x", "30-Bad", "40-ok", ".30-x"):
        write_notebook(tmp_path, name, cells_notebook("1"))
    assert [book.name for book in notebooks.find_notebooks(tmp_path)] == ["10-a-b", "20-b-c", "40-ok"]


@pytest.mark.parametrize("content", ["", "[]", '{"cells": 3}', "\x00", '{"cells": [{}]}'])
def test_damaged_notebook_is_named(tmp_path, content):
    (tmp_path / "10-a-b.ipynb").write_text(content)
    with pytest.raises(ReportError, match="10-a-b.ipynb cannot be read"):
        notebooks.find_notebooks(tmp_path)


def test_tidy_removes_what_differs_between_builds():
    notebook = cells_notebook("print(object())")
    notebook["metadata"] |= {"papermill": {"input_path": "/home/x", "start_time": "now"}, "widgets": {}}
    cell = notebook["cells"][1]
    cell["metadata"] = {"papermill": {"duration": 1.0}, "execution": {"iopub.execute_input": "now"}, "tags": ["a"]}
    cell["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": ["<object at 0x7f00aa11bb22> /home/x/run/y"]}
    ]
    other = json.loads(json.dumps(notebook))
    other["cells"][1]["id"] = "random"
    other["cells"][1]["outputs"][0]["text"] = "<object at 0x55512345678> /home/x/run/y"
    for book in (notebook, other):
        notebooks.tidy(book, "10-x", {"fast_days": 1}, {"/home/x/run": "run"})
    assert notebook == other
    assert "/home/x" not in json.dumps(notebook)
    assert notebook["cells"][1]["metadata"] == {"tags": ["a"]}
    assert notebook["metadata"]["papermill"] == {"parameters": {"fast_days": 1}}


def write_library(folder: Path) -> dict[str, Path]:
    files = {
        "__init__.py": '_PUBLIC = {"x": "capitulation.used"}',
        "used.py": "def f():\n    from capitulation.deep import inner",
        "deep/__init__.py": "",
        "deep/inner.py": "import capitulation.deep.leaf",
        "deep/leaf.py": "import pandas",
        "plots/__init__.py": "import importlib\ndef g(n):\n    importlib.import_module(f'capitulation.plots.{n}')",
        "plots/one.py": "",
        "unused.py": "import capitulation.used",
    }
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return imports.modules(folder)


def test_dependencies_follow_imports_inside_functions_and_names_in_text(tmp_path):
    known = write_library(tmp_path)
    needed = imports.needed_modules(imports.imported_names("import capitulation as cap"), known)
    assert needed == {"capitulation"} | {f"capitulation.{n}" for n in ("used", "deep", "deep.inner", "deep.leaf")}


def test_package_that_imports_by_a_computed_name_counts_whole(tmp_path):
    known = write_library(tmp_path)
    assert "capitulation.plots.one" in imports.needed_modules({"capitulation.plots"}, known)


def test_real_notebook_api_depends_on_the_modules_it_runs_through():
    known = imports.modules()
    needed = imports.needed_modules(imports.imported_names("import capitulation as cap"), known)
    assert {"capitulation.session", "capitulation.params", "capitulation.data.market", "capitulation.tables"} <= needed
    assert not any(name.startswith("capitulation.report") for name in needed)


def test_key_of_a_notebook_changes_with_each_thing_it_depends_on(tmp_path, monkeypatch):
    path = write_notebook(tmp_path, "10-a-b", cells_notebook("import capitulation as cap"))
    book, params = notebooks.read_notebook(path), make_params()
    key = fingerprint.notebook_key(book, params, "m")
    assert key == fingerprint.notebook_key(book, make_params({"seed": 5}), "m"), "an undeclared parameter is no reason"
    assert key != fingerprint.notebook_key(book, make_params({"fast_days": 20}), "m")
    assert key != fingerprint.notebook_key(book, params, "other market")
    digests = fingerprint.library_digests()
    monkeypatch.setattr(fingerprint, "library_digests", lambda: digests | {"report/pages.py": "changed"})
    assert key == fingerprint.notebook_key(book, params, "m"), "how pages look does not change what a notebook does"
    monkeypatch.setattr(fingerprint, "library_digests", lambda: digests | {"session.py": "changed"})
    assert key != fingerprint.notebook_key(book, params, "m")
    monkeypatch.setattr(fingerprint, "library_digests", lambda: digests)
    write_notebook(tmp_path, "10-a-b", cells_notebook("import capitulation as cap  # changed"))
    assert key != fingerprint.notebook_key(book, params, "m")


def test_data_key_follows_content_not_time(tmp_path):
    path = tmp_path / "btc.csv"
    path.write_text("a")
    params = make_params({"data": str(path)})
    key = fingerprint.data_key(params)
    path.touch()
    assert fingerprint.data_key(params) == key
    path.write_text("b")
    assert fingerprint.data_key(params) != key
    path.unlink()
    assert fingerprint.data_key(params) == ""


def test_a_data_file_that_cannot_be_read_has_no_key(tmp_path, monkeypatch):
    """Why it cannot is said where it is loaded, with the exit code of a wrong DATA."""
    assert fingerprint.data_key(make_params({"data": "a" * 300})) == ""
    file = tmp_path / "btc.csv"
    file.write_text("a")

    def refused(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(fingerprint, "file_digest", refused)
    assert fingerprint.data_key(make_params({"data": str(file)})) == ""
