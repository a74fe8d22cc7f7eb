"""A notebook's cells run as they stand, in this process, on a panel of the test's choice."""

import json
from dataclasses import replace
from pathlib import Path

import capitulation as cap
from capitulation.data.market import Market
from capitulation.params import Params, shared_settings
from capitulation.paths import notebooks_folder
from capitulation.report.page import Page


def run_cells(name: str, panel, folder: Path, monkeypatch, *, simulated: bool = False, **rules) -> dict:
    """The notebook's names after its last cell; its tables, figures and findings are in `folder`."""
    market = Market(panel, "test", simulated, "", "", "", "", "", None)
    shared = shared_settings(Params())
    shared["rules"] |= rules
    page = Page(market, **shared, notebook=name, folder=folder)
    monkeypatch.setattr(cap, "open_page", lambda **_: replace(page))
    names = {"__name__": name}
    for cell in json.loads((notebooks_folder() / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # noqa: S102
    return names
