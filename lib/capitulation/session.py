"""What a notebook calls: open a run, state a finding, show a table, show a figure.

Inside `make report` the runner names a folder (environment variable `CAPITULATION_RUN_FOLDER`) that already holds
the market; tables, figures and findings are then also written there. In JupyterLab nothing is written and the
newest snapshot is used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from capitulation import contract, tables
from capitulation.errors import ReportError, one_line
from capitulation.params import Params, make_params

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from capitulation.data.market import Market
    from capitulation.plots import Chart

RUN_FOLDER = "CAPITULATION_RUN_FOLDER"


class DeclaredParams:
    """`Params` that answers only for names that the notebook declared.

    A run passes a notebook what it declares and nothing else, so a value that is used without being declared would
    silently keep its default, whatever the run was asked for. Here that is an error.
    """

    def __init__(self, params: Params, declared: frozenset[str], notebook: str) -> None:
        self._params, self._declared, self._notebook = params, declared, notebook

    def __getattr__(self, name: str) -> Any:
        if name in Params.model_fields and name not in self._declared:
            raise ReportError(f"{self._notebook}.ipynb uses parameter {name!r}: declare it in its parameters cell")
        return getattr(self._params, name)


@dataclass(frozen=True)
class Run:
    """One notebook's view of a run: its parameters, its market, where results go (`folder`: None in JupyterLab)."""

    notebook: str
    params: DeclaredParams
    market: Market
    folder: Path | None = None

    @property
    def panel(self) -> pd.DataFrame:
        """The daily panel, cut at `as_of`."""
        return self.market.panel

    @property
    def simulated(self) -> bool:
        """Whether the market is an artificial one."""
        return self.market.simulated

    @cached_property
    def as_of(self) -> str:
        """The last day of the panel, ISO."""
        return self.panel.index[-1].strftime("%Y-%m-%d")

    def other_panels(self) -> dict[str, pd.DataFrame]:
        """Panels of the other stored providers, by name; none for a local file or a simulated market."""
        from capitulation.data.market import other_panels

        return other_panels(self.market)

    def finding(self, sentence: str) -> None:
        """Show the page's one-sentence finding, and keep it for the index."""
        self._write_json(f"findings/{self.notebook}.json", {"notebook": self.notebook, "finding": sentence})
        _show_html(f'<p class="finding">{tables.as_html(sentence)}</p>', sentence)

    def note(self, sentence: str) -> None:
        """Show a sentence that was computed from a result."""
        _show_html(f"<p>{tables.as_html(sentence)}</p>", sentence)

    def table(
        self,
        frame: pd.DataFrame,
        name: str,
        caption: str,
        *,
        formats: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        full: pd.DataFrame | None = None,
    ) -> None:
        """Show `frame` and write `full` (default: `frame`) to tables/`name`.csv; contract tables are checked."""
        written = frame if full is None else full
        if self.folder:
            tables.write_csv(written, name, self.folder / "tables")
        page = tables.html_table(
            frame, caption, formats=formats, headers=headers, units=contract.units(name), csv_name=name
        )
        _show_html(page, caption)

    def save_table(self, frame: pd.DataFrame, name: str) -> None:
        """Write tables/`name`.csv without showing it: for long series."""
        if self.folder:
            tables.write_csv(frame, name, self.folder / "tables")

    def figure(self, chart: Chart, name: str, caption: str) -> None:
        """Show a chart with its alt text and caption, watermarked if simulated, and write figures/`name`.png."""
        from IPython.display import display

        from capitulation.plots.png import png_bytes
        from capitulation.plots.style import watermark

        if self.simulated:
            watermark(chart.figure)
        image = png_bytes(chart.figure)
        if self.folder:
            path = self.folder / "figures" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image)
        width = _width(chart.figure)
        alt = f"Simulated market, not real data. {chart.alt}" if self.simulated else chart.alt
        metadata = {"alt": alt, "caption": caption, "name": name, "title": chart.title, "width": width}
        display({"image/png": image, "text/plain": alt}, raw=True, metadata={"image/png": metadata})

    def save_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write `name`.json beside the pages, e.g. state.json."""
        self._write_json(f"{name}.json", values)

    def _write_json(self, name: str, values: Mapping[str, Any]) -> None:
        if self.folder:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False, default=str)
            path.write_text(text + "\n", encoding="utf-8")


def _width(figure: Figure) -> int:
    """Width of the figure on a page, in CSS pixels: 96 to the inch."""
    return round(figure.get_size_inches()[0] * 96)


def _show_html(page: str, plain: str) -> None:
    from IPython.display import display

    display({"text/html": page, "text/plain": one_line(plain, 500)}, raw=True)


def open_run(notebook: str, namespace: Mapping[str, Any]) -> Run:
    """Validate what a notebook declared in its parameters cell and open the market.

    `namespace` is the notebook's `globals()`; the names in it that are parameters are what it declared. A result that
    depends on any other parameter is refused (see `DeclaredParams`). Raises `InputError` for a value that cannot be
    used and `SourceUnavailable` where an insisted source cannot be had.
    """
    from capitulation.data.market import load_market, read_market

    folder = Path(os.environ[RUN_FOLDER]) if os.environ.get(RUN_FOLDER) else None
    declared = {name: namespace[name] for name in Params.model_fields if name in namespace}
    params = make_params(declared, where=f"the parameters cell of {notebook}.ipynb")
    market = read_market(folder / "market") if folder else load_market(params)
    return Run(notebook, DeclaredParams(params, frozenset(declared), notebook), market, folder)
