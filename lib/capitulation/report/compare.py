"""What changed between two reports, as a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

from capitulation.paths import reports_folder
from capitulation.report import markup
from capitulation.report.differences import SHOWN_REVISIONS, differences
from capitulation.report.names import COMPARISONS
from capitulation.report.pages import fill
from capitulation.report.publish import open_report, run_lock
from capitulation.report.record import require_record
from capitulation.tables import html_table
from capitulation.words import count

PARTS = {
    "parameters": ("Parameters", "Parameters that differ."),
    "market": ("Data", "Where the data came from and which days they cover."),
    "revisions": ("Revised days", "Days that both have, with other values; the largest relative changes first."),
    "headline": ("The primary test", "Figures of the primary test."),
    "present": ("The present state", "The state on the last day of each."),
    "episodes": ("Episodes", "Episodes that appeared, vanished or moved; the same episode overlaps in time."),
    "tables": ("Tables", "Tables whose content differs."),
    "versions": ("Software", "Versions that differ."),
}
IN_WORDS = ("market", "headline", "present")
FORMATS = {"relative_change": "+.3%", "first": ".6g", "second": ".6g"}


def compare_runs(a: str, b: str, progress: Callable[[str], None] = lambda line: None) -> Path:
    """Write reports/compare/<a>-and-<b>.html and give its path; `InputError` where a report is missing.

    The locks of both runs keep the reports as they are meanwhile.
    """
    one, other = open_report(a), open_report(b)
    with ExitStack() as locks:
        for run in sorted({a, b}):
            locks.enter_context(run_lock(run, progress))
        return _write(a, b, _page(a, b, one, other))


def _page(a: str, b: str, one: Path, other: Path) -> str:
    simulated = any(require_record(folder)["market"]["simulated"] for folder in (one, other))
    found = differences(one, other)
    sections = [_section(name, frame, a, b) for name, frame in found.items() if not frame.empty]
    same = [PARTS[name][0].lower() for name, frame in found.items() if frame.empty]
    told = sentence(found, a, b)
    return fill("compare.html.j2", a=a, b=b, sentence=told, sections=sections, same=same, simulated=simulated)


def _write(a: str, b: str, page: str) -> Path:
    """The page, written beside its place and moved there."""
    target = reports_folder() / COMPARISONS / f"{a}-and-{b}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def sentence(found: Mapping[str, pd.DataFrame], a: str, b: str) -> str:
    """The comparison in one sentence."""
    days = found["revisions"]["date"].nunique()
    episodes = found["episodes"]
    kinds = episodes["change"].value_counts() if not episodes.empty else {}
    parts = [
        count(len(found["parameters"]), "parameter") if len(found["parameters"]) else "",
        count(days, "revised day") if days else "",
        *(f"{count(n, 'episode')} {kind}" for kind, n in kinds.items()),
        count(len(found["tables"]), "table") if len(found["tables"]) else "",
    ]
    told = [part for part in parts if part]
    if not told:
        return f"{a} and {b} hold the same figures."
    return f"{a} and {b} differ: {', '.join(told)}.{_of_the_primary(found['headline'])}"


def _of_the_primary(headline: pd.DataFrame) -> str:
    """What became of the primary test's excess and p-value, as a second sentence; empty where they are the same."""
    words = {"excess_log": "excess log return", "p_rotation": "rotation p"}
    rows = headline[headline["name"].isin(words)].itertuples()
    moved = [f"{words[row.name]} {row.first} became {row.second}" for row in rows]
    return f" Of the primary test: {', '.join(moved)}." if moved else ""


def _section(name: str, frame: pd.DataFrame, a: str, b: str) -> dict[str, str]:
    title, caption = PARTS[name]
    shown = frame.head(SHOWN_REVISIONS) if name == "revisions" else frame
    if len(shown) < len(frame):
        caption += f" {len(shown)} of {len(frame):,} are shown."
    if name in IN_WORDS:
        shown = shown.assign(name=shown["name"].str.replace("_", " "))
    headers = {"first": a, "second": b}
    table = markup.clean(html_table(shown, caption, headers=headers, formats=FORMATS))
    return {"id": markup.slug(title), "title": title, "table": table}
