"""Small markets and notebooks for the tests of the report: enough to run the real machinery in a second or two."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

TEST_NOTEBOOKS = Path(__file__).parent / "notebooks"
GENESIS_BLOCKS = 144


def small_panel(days: int = 500, seed: int = 1) -> pd.DataFrame:
    """A panel that passes validation: a random walk and Poisson blocks."""
    from capitulation.data.panel import PANEL_COLUMNS

    rng = np.random.default_rng(seed)
    index = pd.date_range("2014-01-01", periods=days, freq="D", name="date")
    blocks = rng.poisson(144, days).astype(float)
    price = 500 * np.exp(np.cumsum(rng.normal(0, 0.03, days)))
    difficulty = np.full(days, 1e10)
    columns = {
        "price_usd": price,
        "hash_rate_ehs": difficulty * 2**32 * blocks / 86400 / 1e18,
        "block_count": blocks,
        "difficulty": difficulty,
        "height": 278_000 + np.cumsum(blocks),
        "issuance_btc": blocks * 25,
        "fees_btc": blocks * 0.1,
        "revenue_usd": blocks * 25.1 * price,
    }
    return pd.DataFrame(columns, index=index)[list(PANEL_COLUMNS)].astype("Float64").astype("float64")


def small_market(simulated: bool = False, **changes):
    """A market made of `small_panel`."""
    from capitulation.data.market import Market
    from capitulation.data.panel import panel_digest

    panel = changes.pop("panel", small_panel())
    facts = {
        "source": "simulated" if simulated else "file",
        "simulated": simulated,
        "retrieved_at": "",
        "snapshot": "test",
        "licence": "",
        "attribution": "a test",
        "age_days": None,
    } | changes
    return Market(panel=panel, digest=panel_digest(panel), **facts)


def loader(**changes):
    """What `make_report(load=...)` takes."""
    return lambda params, progress: small_market(**changes)


def cells_notebook(*sources: str, parameters: str = "fast_days: int = 30  # days") -> dict:
    """A notebook of one parameters cell and code cells; a source that starts with # and a blank is Markdown."""
    cells = [_cell("code", parameters, 0, ["parameters"])] if parameters else []
    for source in sources:
        cells.append(_cell("markdown" if source.startswith("# ") else "code", source, len(cells), []))
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": cells, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5}


def _cell(kind: str, source: str, number: int, tags: list[str]) -> dict:
    cell = {"cell_type": kind, "id": f"c{number}", "metadata": {"tags": tags} if tags else {}, "source": source}
    return cell | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def write_notebook(folder: Path, name: str, notebook: dict) -> Path:
    """Write a notebook as `folder`/`name`.ipynb."""
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


def make_home(folder: Path, with_notebooks: bool = True) -> Path:
    """A project folder with empty reports and the test notebooks."""
    for name in ("notebooks", "reports", "data/raw", "params"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if with_notebooks:
        for path in TEST_NOTEBOOKS.glob("*.ipynb"):
            shutil.copy(path, folder / "notebooks" / path.name)
    return folder
