"""A published report as the repository's own pages read it: its tables, findings and pictures, and its source."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from capitulation.params import Params
from capitulation.report import markdown
from capitulation.report.record import read_json

KEY_FIGURES = (
    "price_capitulations", "ribbon_gap", "definitions_timeline", "returns_by_horizon", "event_paths", "rotation_null",
    "leave_one_out", "definitions_forest", "equity", "random_entries", "window_grid", "specification_curve",
    "family_null", "prequential", "rig_breakeven", "production_cost", "lead_and_lag", "claims_verdicts", "gap_now",
    "episode_survival", "rejection_rates", "power",
)  # fmt: skip
FIGURES_OF_OTHERS = 2


@dataclass(frozen=True)
class Picture:
    """A figure of the report: its file and what the notebook said about it."""

    path: Path
    alt: str
    caption: str


@dataclass(frozen=True)
class Told:
    """What an executed notebook shows: its title, its pictures, and the sentences it computed on the way."""

    title: str
    pictures: list[Picture]
    notes: list[str]

    @property
    def key_pictures(self) -> list[Picture]:
        """Those of its pictures that the docs show: the ones in `KEY_FIGURES`, else the first two."""
        chosen = [item for item in self.pictures if item.path.stem in KEY_FIGURES]
        return chosen or self.pictures[:FIGURES_OF_OTHERS]


@dataclass(frozen=True)
class Published:
    """A published report as the docs read it."""

    folder: Path
    record: Mapping[str, Any]
    params: Params

    @property
    def market(self) -> Mapping[str, Any]:
        return self.record["market"]

    @property
    def headline(self) -> dict[str, Any]:
        """headline.json; empty where the run has none."""
        return read_json(self.folder / "headline.json", {})

    def table(self, name: str) -> pd.DataFrame:
        """Table `name`; empty where the run has none."""
        path = self.folder / "tables" / f"{name}.csv"
        return pd.read_csv(path) if path.is_file() else pd.DataFrame()

    def finding(self, notebook: str) -> str:
        """What the notebook says in one sentence; empty where it says nothing."""
        return read_json(self.folder / "findings" / f"{notebook}.json", {}).get("finding", "")

    def notebook(self, name: str) -> Told:
        """What the executed notebook `name` shows; nothing but its name where it is not there."""
        path = self.folder / "notebooks" / f"{name}.ipynb"
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"] if path.is_file() else []
        pictures = [item for item in _pictures(cells, self.folder) if item.path.is_file()]
        return Told(_title(cells) or name, pictures, list(_notes(cells)))


def _title(cells: list[Mapping[str, Any]]) -> str:
    lines = [line for cell in cells if cell["cell_type"] == "markdown" for line in "".join(cell["source"]).splitlines()]
    return next((line.removeprefix("# ").strip() for line in lines if line.startswith("# ")), "")


def _outputs(cells: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    return (output for cell in cells for output in cell.get("outputs", []))


def _pictures(cells: Iterable[Mapping[str, Any]], folder: Path) -> Iterator[Picture]:
    for output in _outputs(cells):
        facts = output.get("metadata", {}).get("image/png", {})
        if "name" in facts:
            name = Path(facts["name"]).name
            yield Picture(folder / "figures" / f"{name}.png", facts.get("alt", ""), facts.get("caption", ""))


def _notes(cells: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Sentences shown by `Run.note`: a paragraph without a class, with its words as plain text."""
    for output in _outputs(cells):
        data = output.get("data", {})
        if "".join(data.get("text/html", "")).startswith("<p>"):
            yield "".join(data.get("text/plain", ""))


def key_pictures(run: Published) -> list[Picture]:
    """The pictures that the docs show, in the report's order."""
    return [picture for item in run.record["notebooks"] for picture in run.notebook(item["name"]).key_pictures]


def source_line(market: Mapping[str, Any]) -> str:
    """Where the data come from and under which licence they stand."""
    fetched = f", fetched {market['retrieved_at'][:10]}" if market["retrieved_at"] else ""
    line = f"Source: {markdown.text(market['attribution'])}{fetched}; licence: {markdown.text(market['licence'])}."
    if market["source"] == "file":
        line += (
            " Coin Metrics publishes its community data under CC BY-NC 4.0; what is computed from them is shown here"
            " with this attribution and for non-commercial use."
        )
    return line
