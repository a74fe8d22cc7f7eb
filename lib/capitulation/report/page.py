"""What a notebook shows: a finding, sentences, tables, figures; inside `make report` the same goes to files.

Inside a report the runner names a folder (environment variable `CAPITULATION_RUN_FOLDER`) that already holds the
market and the settings of the rules. In JupyterLab nothing is written and the newest data are used.
"""

from __future__ import annotations

import base64
import html
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from capitulation.data.market import Market, about, load_market, read_market
from capitulation.errors import one_line
from capitulation.params import Params, shared_settings
from capitulation.paths import write_json, write_whole
from capitulation.report.tables import Words, as_html, html_cards, html_table, write_csv
from capitulation.simulate.market import simulate_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUN_FOLDER, NOTEBOOK = "CAPITULATION_RUN_FOLDER", "CAPITULATION_NOTEBOOK"


@dataclass(frozen=True)
class Page:
    """One notebook's page: the market it works on, what is shared by the whole run, where results go (None: nowhere).

    rules : what counts as a capitulation, the keywords of `apply_rules`. primary : definition, anchor and days of the
    one primary test. stated : hypotheses written down before the events that decide them (`params.Hypothesis`).
    draws : n_bootstrap, n_matched, n_random_entries and seed.
    """

    market: Market
    rules: dict[str, Any]
    primary: dict[str, Any]
    stated: dict[str, Any]
    draws: dict[str, Any]
    notebook: str = "notebook"
    folder: Path | None = None

    @property
    def panel(self) -> pd.DataFrame:
        """The daily panel, cut at `as_of`."""
        return self.market.panel

    @property
    def simulated(self) -> bool:
        """Whether the market is an artificial one."""
        return self.market.simulated

    @property
    def as_of(self) -> str:
        """The last day of the panel, ISO."""
        return self.panel.index[-1].strftime("%Y-%m-%d")

    def finding(self, sentence: str) -> None:
        """Show the page's one-sentence finding, and keep it for the index."""
        self.save_json(f"findings/{self.notebook}", {"notebook": self.notebook, "finding": sentence})
        _show(f'<p class="finding">{as_html(sentence)}</p>', sentence)

    def note(self, sentence: str) -> None:
        """Show a sentence that was computed from a result."""
        _show(f"<p>{as_html(sentence)}</p>", sentence)

    def table(
        self,
        frame: pd.DataFrame,
        name: str,
        caption: str,
        *,
        formats: Words = None,
        headers: Words = None,
        filters: Sequence[str] = (),
        full: pd.DataFrame | None = None,
    ) -> None:
        """Show `frame` and write `full` (default: `frame`) to tables/`name`.csv.

        `formats`: a format specification by column ("p" for p-values); `headers`: words for columns that the codebook
        cannot know; `filters`: columns by which a reader chooses rows.
        """
        self.save_table(frame if full is None else full, name)
        page = html_table(frame, caption, formats=formats, headers=headers, name=name, filters=filters)
        _show(page, caption)

    def cards(
        self,
        frame: pd.DataFrame,
        name: str,
        caption: str,
        *,
        marks: Mapping[str, str],
        full: pd.DataFrame | None = None,
    ) -> None:
        """Show a card for each row of `frame` and write `full` (default: `frame`) to tables/`name`.csv.

        The first three columns are verdict, source and statement; `marks`: a glyph for each verdict.
        """
        self.save_table(frame if full is None else full, name)
        _show(html_cards(frame, caption, marks=marks, name=name), caption)

    def save_table(self, frame: pd.DataFrame, name: str) -> None:
        """Write tables/`name`.csv without showing it: for long series."""
        if self.folder:
            write_csv(frame, name, self.folder / "tables")

    def figure(self, figure: Figure, name: str, caption: str, *, alt: str = "") -> None:
        """Show any matplotlib figure, watermarked if simulated; write figures/`name`.png.

        `alt`: what the picture shows, in words; by default the figure's own label, else its title with the caption.
        A figure that can draw itself narrow, as each of the library can, brings that picture along for telephones.
        """
        from capitulation.figures.style import png_bytes, watermark  # who only asks for a panel need not wait for it

        titles = [figure.get_suptitle(), *(axes.get_title(loc) for axes in figure.axes for loc in ("center", "left"))]
        title = " ".join(next((text for text in titles if text), caption).replace("\u00a0", " ").split())
        alt = alt or str(figure.get_label()) or f"{title.rstrip('.')}. {caption}"
        if self.simulated:
            watermark(figure)
            alt = f"Simulated market, not real data. {alt}"
        image = png_bytes(figure)
        if self.folder:
            write_whole(self.folder / "figures" / f"{name}.png", image)
        if pyplot := sys.modules.get("matplotlib.pyplot"):
            pyplot.close(figure)  # else JupyterLab shows a figure made with pyplot a second time
        width = round(figure.get_size_inches()[0] * 96)  # CSS pixels
        metadata = {"alt": alt, "caption": caption, "name": name, "title": title, "width": width}
        if self.folder and (narrow := getattr(figure, "narrow", None)):
            small = narrow()
            if self.simulated:
                watermark(small)
            metadata["narrow"] = base64.b64encode(png_bytes(small)).decode()
        _display({"image/png": image, "text/plain": alt}, {"image/png": metadata})

    def history(self, chart: Mapping[str, Any]) -> None:
        """Write history.json, the chart to explore (as by Bokeh's `json_item`); in JupyterLab show its page."""
        if self.folder:
            self.save_json("history", chart)
            link = '<a href="history.html">the chart to explore</a>'
            _show(f"<p>The whole history, any rule and any stretch of days: {link}.</p>", "history.html")
            return
        from capitulation.report import explore, render  # half a second, for which no other notebook waits

        market = about(self.market) | {"last_day": self.as_of}
        page = render.fill("history.html.j2", run="", market=market, figure={}, **explore.chart_parts(chart))
        look = 'title="Chart to explore" sandbox="allow-scripts" style="width: 100%; height: 920px; border: 0"'
        _display({"text/html": f'<iframe {look} srcdoc="{html.escape(page)}"></iframe>'})

    def save_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write `name`.json beside the pages, e.g. state.json; NaN is a `ValueError`."""
        if self.folder:
            write_json(self.folder / f"{name}.json", values, default=str)


def _show(page: str, plain: str) -> None:
    _display({"text/html": page, "text/plain": one_line(plain, 500)})


def _display(data: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> None:
    from IPython.display import display

    display(data, raw=True, metadata=metadata)


def open_page(data: str = "", as_of: str = "", source: str = "auto", licence: str = "") -> Page:
    """The page of this notebook: with the data and settings of the run, whatever the arguments say, in `make report`.

    In JupyterLab: the data as by `open_panel`, which says what is raised, and the default settings.
    """
    if os.environ.get(RUN_FOLDER):
        folder = Path(os.environ[RUN_FOLDER])
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        return Page(
            read_market((folder / "market").resolve()), **settings, notebook=os.environ[NOTEBOOK], folder=folder
        )
    return Page(_market(data, source, as_of, "", licence), **shared_settings(Params()))


def _market(data: str, source: str, as_of: str, columns: str | Mapping[str, str], licence: str) -> Market:
    """The market for someone who explores; without a `licence` that of `make lab LICENCE=commercial` holds."""
    licence = licence or os.environ.get("LICENCE") or "any"
    return load_market(data, source, as_of, columns=columns, licence=licence, simulate=simulate_panel)


def open_panel(
    data: str | None = None,
    source: str | None = None,
    as_of: str | None = None,
    columns: str | Mapping[str, str] = "",
    licence: str = "",
) -> pd.DataFrame:
    """The daily panel of the newest good data, of local files or of a named source, up to and with the day `as_of`.

    Index `date` (UTC days, no gaps); columns price_usd, hash_rate_ehs, block_count, difficulty, height, issuance_btc,
    fees_btc, revenue_usd; a missing value is NaN. `source`: auto, coinmetrics, node, mempool_space, blockchain_com or
    simulated. `columns`: which column of the files holds which series, e.g. {"time": "Datum", "price": "Kurs"}.
    `licence` commercial: only sources that allow it. Raises `InputError`, `DataError` or `SourceUnavailable`.

    >>> open_panel(source="simulated", as_of="2014-01-01").shape
    (1825, 8)
    """
    return _market(data or "", source or "auto", as_of or "", columns, licence).panel
