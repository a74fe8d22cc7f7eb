"""Tables as people read them (HTML) and as programs read them (CSV).

Text from data reaches neither a page nor a spreadsheet unescaped. Names, order and units of the columns that users rely
on stand in data/reference/codebook.csv; a table that departs from them stops the run.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype, is_scalar

from capitulation.errors import ReportError
from capitulation.mining.rules import RULES
from capitulation.paths import reference_folder, write_whole
from capitulation.words import ANCHOR_WORDS

TABLE_NAME, MIDNIGHT = re.compile(r"[a-z][a-z0-9_]{0,60}"), " 00:00:00"  # of a column that is a day
UNITLESS = ("", "name", "text", "number", "ISO day", "true/false", "year", "p-value")
Words = Mapping[str, str] | None  # by column


@cache
def codebook() -> pd.DataFrame:
    """data/reference/codebook.csv: table, column, unit, description, contract ("yes": name and place are fixed)."""
    return pd.read_csv(reference_folder() / "codebook.csv", keep_default_na=False)


def _safe_cell(value: Any) -> Any:
    """Text on one line, with an apostrophe before what a spreadsheet would compute."""
    if not isinstance(value, str):
        return value
    line = re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", value)
    return f"'{line}" if re.match(r"\s*[=+@-]", line) else line


def csv_text(frame: pd.DataFrame) -> str:
    """`frame` as CSV: ISO days, fractions as they are, booleans true/false, missing cells empty, no index.

    >>> csv_text(pd.DataFrame({"day": pd.to_datetime(["2026-01-20"]), "up": [True], "name": ["=1+1"]}))
    "day,up,name\\n2026-01-20,true,'=1+1\\n"
    """
    out = frame.set_axis(range(frame.shape[1]), axis=1)
    for number, column in out.items():
        if is_bool_dtype(column):
            out[number] = column.astype(object).map({True: "true", False: "false"})
        elif not (is_numeric_dtype(column) or is_datetime64_any_dtype(column)):
            out[number] = column.astype(object).map(_safe_cell, na_action="ignore")
    header = [_safe_cell(str(key).removesuffix(MIDNIGHT)) for key in frame]
    return out.to_csv(index=False, header=header, date_format="%Y-%m-%d", lineterminator="\n")


def write_csv(frame: pd.DataFrame, name: str, folder: Path) -> None:
    """Write `folder`/`name`.csv; `ReportError` unless it starts with the columns that the codebook fixes for it."""
    if not TABLE_NAME.fullmatch(name):
        raise ReportError(f"table name {name!r}: must be lower-case letters, digits and underscores")
    fixed = codebook().query("table == @name and contract == 'yes'")["column"].tolist()
    if list(frame.columns[: len(fixed)]) != fixed:
        missing = [column for column in fixed if column not in frame.columns]
        detail = f"missing {', '.join(missing)}" if missing else f"order {', '.join(map(str, frame.columns))}"
        raise ReportError(f"table {name}.csv departs from data/reference/codebook.csv: {detail}")
    write_whole(folder / f"{name}.csv", csv_text(frame).encode())


def format_cell(value: Any, spec: str = "") -> str:
    """One cell as text: `spec` is a format specification or "p" for p-values; days are ISO; missing is a dash.

    >>> format_cell(0.123, "+.1%"), format_cell(float("nan")), format_cell(0.0004, "p"), format_cell(-0.05, ".0%")
    ('+12.3 %', '–', '<0.001', '−5 %')
    """
    if is_scalar(value) and (pd.isna(value) or value in (np.inf, -np.inf)):
        return "–"
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


def keep_units(text: str) -> str:
    """`text` in which a number and its per-cent sign, and a p and its value, stay on one line."""
    return re.sub(r"\bp ([=<≤]) ", "p\u00a0\\1\u00a0", text.replace(" %", "\u00a0%"))


def as_html(text: str) -> str:
    """`text` escaped, with `keep_units`."""
    return html.escape(keep_units(text))


def in_scroller(table: str, label: str = "Table") -> str:
    """A table that scrolls sideways on its own where the window is narrow; `label` names it aloud."""
    return f'<div class="table-scroll" tabindex="0" role="region" aria-label="{html.escape(label)}">{table}</div>'


def html_table(
    frame: pd.DataFrame, caption: str, *, formats: Words = None, headers: Words = None, name: str = ""
) -> str:
    """`frame` as a semantic table: caption, units under the headers, scopes, numerals aligned, a link to its CSV.

    Every text is escaped; definitions and anchors stand in words. The first column heads its row. `data-value` carries
    the raw number, by which the page's script sorts. `name`: the table's CSV, whose units the codebook knows.
    """
    formats, headers = formats or {}, headers or {}
    words = {"definition": {name: rule.words for name, rule in RULES.items()}, "anchor": ANCHOR_WORDS}
    frame = frame.assign(**{key: frame[key].replace(known) for key, known in words.items() if key in frame})
    units = codebook().query("table == @name").set_index("column")["unit"]
    numeric = [is_numeric_dtype(kind) and not is_bool_dtype(kind) for kind in frame.dtypes]
    head, body, before = [], [], ""
    for key, number in zip(frame, numeric, strict=True):
        unit = units.get(key, "")
        if formats.get(key, "").endswith("%"):  # shown as percent, a fraction does not call itself one
            unit = unit.removeprefix("fraction").strip()
        plain = str(key).removesuffix(MIDNIGHT)
        label = html.escape(headers.get(key, plain.replace("_", " ")))
        small = "" if unit in (*UNITLESS, label, before) else f' <span class="unit">{html.escape(unit)}</span>'
        before = unit  # of neighbours with one unit the first says it
        kind = ' class="num"' if number else ""
        head.append(f'<th scope="col"{kind} data-column="{html.escape(plain)}">{label}{small}</th>')
    for row in frame.itertuples(index=False):
        cells = []
        for key, number, value in zip(frame, numeric, row, strict=True):
            text = as_html(format_cell(value, formats.get(key, "")))
            sort = f' data-value="{float(value):.10g}"' if number and pd.notna(value) else ""
            kind = ' class="num"' if number else ' class="day"' if isinstance(value, pd.Timestamp) else ""
            cells.append(f"<td{kind}{sort}>{text}</td>" if cells else f'<th scope="row"{kind}{sort}>{text}</th>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    link = f' <a class="csv" href="tables/{html.escape(name)}.csv">CSV</a>' if name else ""
    table = f'<table class="data"><caption>{as_html(caption)}{link}</caption>'
    table += f"<thead><tr>{''.join(head)}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return in_scroller(table, caption.split(". ")[0].rstrip("."))
