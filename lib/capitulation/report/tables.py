"""Tables as people read them (HTML) and as programs read them (CSV).

Text from data reaches neither a page nor a spreadsheet unescaped. Names, order and units of the columns that users rely
on stand in data/reference/codebook.csv; a table that departs from them stops the run.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
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
UNITLESS = ("", "name", "text", "number", "ISO day", "true/false", "year", "p-value", "by kind", "fraction or blocks")
UNITLESS += ("events", "retargets", "variants", "rules", "difficulty", "standard errors")  # which the head says
LONG, SHORT = 15, 24  # rows: a longer table is closed; characters: a shorter text stays on one line, room permitting
Words = Mapping[str, str] | None  # by column


@cache
def codebook() -> pd.DataFrame:
    """data/reference/codebook.csv: table, column, heading (in words), unit, description, contract ("yes": fixed)."""
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


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """tables/`name`.csv of the report in `folder`; empty where there is none."""
    path = folder / "tables" / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


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
    """`text` in which a number and its unit, a p and its value, and a "to" and what follows stay together."""
    text = re.sub(r" to (?=[+−])", " to\u00a0", text.replace(" %", "\u00a0%"))
    text = re.sub(r"(?<=\d) (?=(?:EH/s|USD)\b)", "\u00a0", text)
    return re.sub(r"\bp ([=<≤]) ", "p\u00a0\\1\u00a0", text)


def as_html(text: str) -> str:
    """`text` escaped, with `keep_units`."""
    return html.escape(keep_units(text))


def in_scroller(table: str, label: str = "Table") -> str:
    """A table that scrolls sideways on its own where the window is narrow; `label` names it aloud."""
    return f'<div class="table-scroll" tabindex="0" role="region" aria-label="{html.escape(label)}">{table}</div>'


def headings(frame: pd.DataFrame, name: str = "", headers: Words = None, formats: Words = None) -> list[str]:
    """The head of each column as HTML: the codebook's words for table `name`, its unit below where they lack it.

    `headers`: words for columns that the codebook cannot know. Of neighbours with one unit the first says it.
    """
    known = codebook().query("table == @name").set_index("column")
    heads, before = [], ""
    for key in frame:
        plain = str(key).removesuffix(MIDNIGHT)
        label = (headers or {}).get(key) or known["heading"].get(plain) or plain.replace("_", " ")
        unit = known["unit"].get(plain, "")
        if (formats or {}).get(key, "").endswith("%"):  # shown as percent, a fraction does not call itself one
            unit = unit.removeprefix("fraction").strip()
        said = unit in (*UNITLESS, before) or unit in label
        heads.append(html.escape(label) + ("" if said else f' <span class="unit">{html.escape(unit)}</span>'))
        before = unit
    return heads


def _cell(value: Any, spec: str, numeric: bool, place: int) -> str:
    """One cell of a row, the first of which heads it; its class says how it is aligned and whether it may wrap."""
    text = as_html(format_cell(value, spec))
    if numeric:
        kind = "num"
    elif isinstance(value, pd.Timestamp):
        kind = "day"
    else:
        kind = "short" if place and len(text) <= SHORT else ""
    kept = f' class="{kind}"' if kind else ""
    kept += f' data-value="{float(value):.10g}"' if numeric and pd.notna(value) and np.isfinite(value) else ""
    return f"<td{kept}>{text}</td>" if place else f'<th scope="row"{kept}>{text}</th>'


def _csv_link(name: str) -> str:
    return f' <a class="csv" href="tables/{html.escape(name)}.csv">CSV</a>' if name else ""


def html_table(
    frame: pd.DataFrame,
    caption: str,
    *,
    formats: Words = None,
    headers: Words = None,
    name: str = "",
    filters: Sequence[str] = (),
) -> str:
    """`frame` as a semantic table: caption, heads in words, scopes, numerals aligned, a link to its CSV.

    Every text is escaped; definitions and anchors stand in words. The first column heads its row. `data-value` carries
    the raw number, by which the page's script sorts. `name`: the table's CSV, whose heads and units the codebook knows.
    A table of more than `LONG` rows is closed, the first sentence of its caption opens it. `filters`: columns by whose
    values the page's script lets a reader choose rows.
    """
    formats = formats or {}
    words = {"definition": {name: rule.words for name, rule in RULES.items()}, "anchor": ANCHOR_WORDS}
    frame = frame.assign(**{key: frame[key].replace(known) for key, known in words.items() if key in frame})
    numeric = [is_numeric_dtype(kind) and not is_bool_dtype(kind) for kind in frame.dtypes]
    head, body = [], []
    for key, number, label in zip(frame, numeric, headings(frame, name, headers, formats), strict=True):
        kind = ' class="num"' if number else ""
        column = html.escape(str(key).removesuffix(MIDNIGHT))
        head.append(f'<th scope="col"{kind} data-column="{column}">{label}</th>')
    for row in frame.itertuples(index=False):
        parts = zip(row, [formats.get(key, "") for key in frame], numeric, range(len(row)), strict=True)
        body.append(f"<tr>{''.join(_cell(*part) for part in parts)}</tr>")
    first, _, rest = caption.partition(". ")
    long, first = len(frame) > LONG, first.rstrip(".")
    choose = f' data-filter="{html.escape(" ".join(filters))}"' if filters else ""
    table = f'<table class="data"{choose}><caption>{as_html(rest if long else caption)}{_csv_link(name)}</caption>'
    table += f"<thead><tr>{''.join(head)}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    table = in_scroller(table, first)
    closed = f'<details class="long"><summary>{as_html(first)} ({len(frame):,} rows)</summary>{table}</details>'
    return closed if long else table


def html_cards(frame: pd.DataFrame, caption: str, *, marks: Mapping[str, str], name: str = "") -> str:
    """`frame` as cards, one a row: its first three columns are verdict, source and statement, the others named below.

    `marks`: a glyph for each verdict, which also stands in words. Empty values are left out.
    """
    words = dict(zip(frame.columns[3:], headings(frame, name)[3:], strict=True))
    cards = []
    for row in frame.to_dict("records"):
        verdict, source, said, *_ = map(format_cell, row.values())
        told = {words[key]: format_cell(row[key]) for key in words}
        told = {word: text for word, text in told.items() if text not in ("", "–")}
        pill = f'<span class="pill {verdict.split()[0]}">{marks[verdict]} {as_html(verdict)}</span>'
        listed = "".join(f"<dt>{word}</dt><dd>{as_html(text)}</dd>" for word, text in told.items())
        head = f'<p class="verdict">{pill} <span class="source">{as_html(source)}</span></p>'
        cards.append(f'<li class="card claim">{head}<p class="said">{as_html(said)}</p><dl>{listed}</dl></li>')
    return f'<p class="cards-caption">{as_html(caption)}{_csv_link(name)}</p><ul class="cards">{"".join(cards)}</ul>'
