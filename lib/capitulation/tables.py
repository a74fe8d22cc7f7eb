"""Tables as people read them (HTML) and as programs read them (CSV).

Text from data never reaches a page or a spreadsheet unescaped: HTML is escaped, and a CSV cell that a spreadsheet
would take for a formula gets a leading apostrophe.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from capitulation import contract
from capitulation.errors import ReportError
from capitulation.words import ANCHOR_WORDS, DEFINITION_WORDS

Formats = Mapping[str, str]
TABLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
FORMULA_START = ("=", "+", "-", "@")
MISSING = "–"
LARGE = 1000
COLUMN_WORDS = {"definition": DEFINITION_WORDS, "anchor": ANCHOR_WORDS}
UNITLESS = ("", "name", "text", "number", "ISO day", "true/false", "year")


def _safe_cell(value: Any) -> Any:
    """Text on one line, with an apostrophe before what a spreadsheet would compute."""
    if not isinstance(value, str):
        return value
    line = "".join(" " if unicodedata.category(char) == "Cc" else char for char in value)
    return "'" + line if line.lstrip().startswith(FORMULA_START) else line


def csv_text(frame: pd.DataFrame) -> str:
    """`frame` as CSV: ISO days, fractions as they are, booleans true/false, missing cells empty, no index.

    >>> csv_text(pd.DataFrame({"day": pd.to_datetime(["2026-01-20"]), "up": [True], "name": ["=1+1"]}))
    "day,up,name\\n2026-01-20,true,'=1+1\\n"
    """
    out = frame.copy()
    for name in out.columns:
        column = out[name]
        if pd.api.types.is_datetime64_any_dtype(column):
            out[name] = column.dt.strftime("%Y-%m-%d").astype(object)
        elif pd.api.types.is_bool_dtype(column):
            out[name] = column.astype(object).map({True: "true", False: "false"})
        elif not pd.api.types.is_numeric_dtype(column):
            out[name] = column.astype(object).map(_safe_cell, na_action="ignore")
    return out.to_csv(index=False, lineterminator="\n")


def write_csv(frame: pd.DataFrame, name: str, folder: Path) -> Path:
    """Write table `name` to `folder`/`name`.csv after checking its contract."""
    if not TABLE_NAME.fullmatch(name):
        raise ReportError(f"table name {name!r}: must be lower-case letters, digits and underscores")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.csv"
    path.write_text(csv_text(contract.check(name, frame)), encoding="utf-8")
    return path


def format_cell(value: Any, spec: str = "") -> str:
    """One cell as text: `spec` is a format specification or "p" for p-values; days are ISO; missing is a dash.

    >>> format_cell(0.123, "+.1%"), format_cell(float("nan")), format_cell(0.0004, "p"), format_cell(-0.05, ".0%")
    ('+12.3 %', '–', '<0.001', '−5 %')
    """
    if value is None or value is pd.NaT or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return MISSING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d")
    if spec == "p":
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    if isinstance(value, int | float | np.number):
        return format(value, spec or _default_spec(value)).replace("-", "−").replace("%", " %")
    return str(value)


def _default_spec(value: Any) -> str:
    if isinstance(value, int | np.integer):
        return "d"
    return ",.0f" if abs(value) >= LARGE else ".4g"


def in_words(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with the names of definitions and anchors as words; what has none stays.

    >>> in_words(pd.DataFrame({"definition": ["hash_ribbons"], "anchor": ["in_state"], "n": [1]})).to_numpy().tolist()
    [['Hash Ribbons', 'days in the state', 1]]
    """
    named = {name: words for name, words in COLUMN_WORDS.items() if name in frame}
    return frame.assign(**{name: frame[name].replace(words) for name, words in named.items()})


def html_table(
    frame: pd.DataFrame,
    caption: str,
    *,
    formats: Formats | None = None,
    units: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    csv_name: str = "",
    row_header: bool = True,
) -> str:
    """`frame` as a semantic table: caption, units under the headers, scopes, numerals aligned, a link to its CSV.

    Every text is escaped. The first column heads its row unless `row_header` is False. `data-value` carries the raw
    number, by which the page's script sorts.
    """
    formats, units, headers, frame = formats or {}, units or {}, headers or {}, in_words(frame)
    numeric = {name: pd.api.types.is_numeric_dtype(frame[name]) and frame[name].dtype != bool for name in frame.columns}
    head = "".join(
        _header(name, headers.get(name, name.replace("_", " ")), _unit(name, units, formats), numeric[name])
        for name in frame
    )
    body = "".join(
        _row(row, list(frame.columns), formats, numeric, row_header) for row in frame.itertuples(index=False)
    )
    link = f' <a class="csv" href="tables/{html.escape(csv_name)}.csv">CSV</a>' if csv_name else ""
    return (
        '<div class="table-scroll" tabindex="0" role="region" aria-label="'
        + html.escape(_plain(caption), quote=True)
        + '">'
        f'<table class="data"><caption>{as_html(caption)}{link}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def as_html(text: str) -> str:
    """`text` escaped, a percent sign kept on the line of its number.

    >>> as_html("5 % < 6")
    '5\xa0% &lt; 6'
    """
    return html.escape(text).replace(" %", "\u00a0%")


def _plain(caption: str) -> str:
    return caption.split(". ")[0].rstrip(".")


def _unit(name: str, units: Mapping[str, str], formats: Formats) -> str:
    """The unit under a header; a fraction that is shown as percent does not call itself one."""
    unit = units.get(name, "")
    return unit.removeprefix("fraction").strip() if formats.get(name, "").endswith("%") else unit


def _header(name: str, label: str, unit: str, numeric: bool) -> str:
    kind = ' class="num"' if numeric else ""
    small = f' <span class="unit">{html.escape(unit)}</span>' if unit not in UNITLESS else ""
    return f'<th scope="col"{kind} data-column="{html.escape(name)}">{html.escape(label)}{small}</th>'


def _row(row: Sequence[Any], names: list[str], formats: Formats, numeric: Mapping[str, bool], row_header: bool) -> str:
    cells = []
    for i, (name, value) in enumerate(zip(names, row, strict=True)):
        text = as_html(format_cell(value, formats.get(name, "")))
        sort = f' data-value="{float(value):.10g}"' if numeric[name] and pd.notna(value) else ""
        kind = ' class="num"' if numeric[name] else ' class="day"' if isinstance(value, pd.Timestamp) else ""
        tag = 'th scope="row"' if i == 0 and row_header else "td"
        cells.append(f"<{tag}{kind}{sort}>{text}</{tag.split()[0]}>")
    return f"<tr>{''.join(cells)}</tr>"
