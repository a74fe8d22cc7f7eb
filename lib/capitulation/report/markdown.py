"""Markdown for the repository's own pages: text that stays text, tables, pictures, and regions that are rewritten."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping

import pandas as pd

from capitulation.errors import ReportError, one_line
from capitulation.tables import format_cell

SPECIAL = re.compile(r"([\\`*_\[\]<>|$~#])")
FORMULA_GUARD = re.compile(r"^'(?=\s*[=+\-@])")
LONGEST_TEXT = 2000


def text(value: object) -> str:
    """`value` on one line, with nothing in it that Markdown or HTML would take for markup.

    >>> text("a|b <i>")
    'a\\\\|b \\\\<i\\\\>'
    """
    return SPECIAL.sub(r"\\\1", one_line(value, LONGEST_TEXT).replace("&", "&amp;"))


def cell(value: object, spec: str = "") -> str:
    """One cell of a table: numbers by `spec` as in `tables.format_cell`.

    >>> cell(0.123, "+.1%"), cell("'+3 %"), cell(float("nan"))
    ('+12.3 %', '+3 %', '–')
    """
    if isinstance(value, str):
        return text(FORMULA_GUARD.sub("", value))
    return text(format_cell(value, spec))


def table(
    frame: pd.DataFrame, headers: Mapping[str, str] | None = None, formats: Mapping[str, str] | None = None
) -> str:
    """`frame` as a Markdown table: `headers` and `formats` by column; numbers stand to the right."""
    headers, formats = headers or {}, formats or {}
    numeric = [pd.api.types.is_numeric_dtype(frame[name]) and frame[name].dtype != bool for name in frame.columns]
    lines = [
        _line(text(headers.get(name, name.replace("_", " "))) for name in frame.columns),
        _line("---:" if right else "---" for right in numeric),
    ]
    for row in frame.itertuples(index=False):
        lines.append(_line(cell(value, formats.get(name, "")) for name, value in zip(frame.columns, row, strict=True)))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def picture(path: str, alt: str, caption: str = "", width: int = 0) -> str:
    """A picture with what it shows for those who do not see it, and its caption below; `width` in pixels if given."""
    image = f"![{text(alt)}]({path})"
    if width:
        image = f'<img src="{html.escape(path)}" width="{width}" alt="{html.escape(one_line(alt, LONGEST_TEXT))}">'
    return f"{image}\n\n*{text(caption)}*" if caption else image


def marks(name: str) -> tuple[str, str]:
    """The two comments around region `name`."""
    return f"<!-- generated:{name} -->", f"<!-- end:{name} -->"


def replace_region(page: str, name: str, content: str) -> str:
    """`page` with `content` between the marks of region `name`; `ReportError` unless both marks are there once.

    >>> replace_region("a\\n<!-- generated:x -->\\nold\\n<!-- end:x -->\\nb", "x", "new")
    'a\\n<!-- generated:x -->\\nnew\\n<!-- end:x -->\\nb'
    """
    begin, end = marks(name)
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed or begin in after or end in before + after:
        raise ReportError(f"README.md: the comments {begin} and {end} must each stand there once, in this order")
    return f"{before}{begin}\n{content.strip()}\n{end}{after}"
