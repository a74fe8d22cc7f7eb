"""Tables as people read them (HTML) and as programs read them (CSV).

Text from data never reaches a page or a spreadsheet unescaped: HTML is escaped, and a CSV cell that a spreadsheet
would take for a formula gets a leading apostrophe. Names, order and units of the columns that users rely on stand in
data/reference/codebook.csv; a table that departs from them stops the run.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from capitulation.errors import ReportError
from capitulation.mining.rules import RULES
from capitulation.paths import reference_folder
from capitulation.words import ANCHOR_WORDS

TABLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
FORMULA_START = ("=", "+", "-", "@")
MISSING = "–"
UNITLESS = ("", "name", "text", "number", "ISO day", "true/false", "year")


@cache
def codebook() -> pd.DataFrame:
    """data/reference/codebook.csv: table, column, unit, description, contract ("yes": name and place are fixed)."""
    return pd.read_csv(reference_folder() / "codebook.csv", keep_default_na=False)


def check_contract(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """`frame`, if it starts with the columns that the codebook fixes for table `name`; other tables pass.

    Raises `ReportError` naming what is missing or out of place.
    """
    book = codebook()
    expected = book.loc[(book["table"] == name) & (book["contract"] == "yes"), "column"].tolist()
    if list(frame.columns[: len(expected)]) != expected:
        missing = [column for column in expected if column not in frame.columns]
        detail = f"missing {', '.join(missing)}" if missing else f"order {', '.join(map(str, frame.columns))}"
        raise ReportError(f"table {name}.csv departs from data/reference/codebook.csv: {detail}")
    return frame


def units(name: str) -> dict[str, str]:
    """Unit of each column of table `name`; empty for a table that the codebook does not list."""
    rows = codebook().loc[codebook()["table"] == name]
    return dict(zip(rows["column"], rows["unit"], strict=True))


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
    out = frame.rename(columns=_safe_cell)
    for i, name in enumerate(out.columns):
        column = frame.iloc[:, i]
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
    path.write_text(csv_text(check_contract(name, frame)), encoding="utf-8")
    return path


def format_cell(value: Any, spec: str = "") -> str:
    """One cell as text: `spec` is a format specification or "p" for p-values; days are ISO; missing is a dash.

    >>> format_cell(0.123, "+.1%"), format_cell(float("nan")), format_cell(0.0004, "p"), format_cell(-0.05, ".0%")
    ('+12.3 %', '–', '<0.001', '−5 %')
    """
    if value is None or value is pd.NA or value is pd.NaT:
        return MISSING
    if isinstance(value, float | np.floating) and not np.isfinite(value):
        return MISSING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d")
    if not isinstance(value, int | float | np.number):
        return str(value)
    if spec == "p":
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    plain = "d" if isinstance(value, int | np.integer) else ",.0f" if abs(value) >= 1000 else ".4g"
    return format(value, spec or plain).replace("-", "−").replace("%", " %")


def in_words(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with the names of definitions and anchors as words; what has none stays.

    >>> in_words(pd.DataFrame({"definition": ["hash_ribbons"], "anchor": ["in_state"], "n": [1]})).to_numpy().tolist()
    [['Hash Ribbons', 'days in the state', 1]]
    """
    words = {"definition": {name: rule.words for name, rule in RULES.items()}, "anchor": ANCHOR_WORDS}
    return frame.assign(**{name: frame[name].replace(known) for name, known in words.items() if name in frame})


def as_html(text: str) -> str:
    """`text` escaped, a percent sign kept on the line of its number.

    >>> as_html("5 % < 6")
    '5\xa0% &lt; 6'
    """
    return html.escape(text).replace(" %", "\u00a0%")


def html_table(
    frame: pd.DataFrame,
    caption: str,
    *,
    formats: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    name: str = "",
    row_header: bool = True,
) -> str:
    """`frame` as a semantic table: caption, units under the headers, scopes, numerals aligned, a link to its CSV.

    Every text is escaped. The first column heads its row unless `row_header` is False. `data-value` carries the raw
    number, by which the page's script sorts. `name`: the table's CSV, whose units the codebook knows.
    """
    formats, headers, unit_of, frame = formats or {}, headers or {}, units(name), in_words(frame)
    numeric = {
        key: pd.api.types.is_numeric_dtype(frame[key]) and not pd.api.types.is_bool_dtype(frame[key]) for key in frame
    }
    head, body = [], []
    for key in frame:
        unit = unit_of.get(key, "")
        if formats.get(key, "").endswith("%"):  # shown as percent, a fraction does not call itself one
            unit = unit.removeprefix("fraction").strip()
        small = "" if unit in UNITLESS else f' <span class="unit">{html.escape(unit)}</span>'
        label = html.escape(headers.get(key, key.replace("_", " ")))
        kind = ' class="num"' if numeric[key] else ""
        head.append(f'<th scope="col"{kind} data-column="{html.escape(key)}">{label}{small}</th>')
    for row in frame.itertuples(index=False):
        cells = []
        for i, (key, value) in enumerate(zip(frame.columns, row, strict=True)):
            text = as_html(format_cell(value, formats.get(key, "")))
            sort = f' data-value="{float(value):.10g}"' if numeric[key] and pd.notna(value) else ""
            kind = ' class="num"' if numeric[key] else ' class="day"' if isinstance(value, pd.Timestamp) else ""
            tag = 'th scope="row"' if i == 0 and row_header else "td"
            cells.append(f"<{tag}{kind}{sort}>{text}</{tag.split()[0]}>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    link = f' <a class="csv" href="tables/{html.escape(name)}.csv">CSV</a>' if name else ""
    label = html.escape(caption.split(". ")[0].rstrip("."), quote=True)
    return (
        f'<div class="table-scroll" tabindex="0" role="region" aria-label="{label}">'
        f'<table class="data"><caption>{as_html(caption)}{link}</caption>'
        f"<thead><tr>{''.join(head)}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
