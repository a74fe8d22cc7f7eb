"""A notebook's cells run as they stand, in this process, on a panel of the test's choice."""

import json
from dataclasses import replace
from pathlib import Path

import capitulation as cap
from capitulation.data.market import Market
from capitulation.params import make_params, shared_settings
from capitulation.paths import notebooks_folder
from capitulation.report.page import Page


def laid_out(figure) -> bytes:
    """In place of the picture nothing, after all that could warn was done; nor is there one for telephones."""
    figure.draw_without_rendering()
    figure.narrow = None
    return b""


def run_cells(name: str, panel, folder: Path, monkeypatch, *, simulated: bool = False, **settings) -> dict:
    """The notebook's names after its last cell, and as `shown` every text that it put on its page.

    Its tables and findings are in `folder`; figures are laid out but not painted. `settings`: parameters of the run.
    """
    params, shown = make_params(settings), []
    page = Page(
        Market(panel, "test", simulated),
        **shared_settings(params),
        notebook=name,
        folder=folder,
    )

    def show(data, raw=True, metadata=None):
        of_figure = (metadata or {}).get("image/png", {})
        shown.extend(
            [data.get("text/html", data.get("text/plain", "")), *(of_figure.get(k, "") for k in ("title", "alt"))]
        )

    monkeypatch.setattr(cap, "open_page", lambda **_: replace(page))
    monkeypatch.setattr("IPython.display.display", show)
    monkeypatch.setattr("capitulation.figures.style.png_bytes", laid_out)
    names = {"__name__": name}
    for cell in json.loads((notebooks_folder() / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # noqa: S102
        if "parameters" in cell["metadata"].get("tags", []):
            names |= {key: getattr(params, key) for key in settings if key in names}
    return names | {"shown": shown}
