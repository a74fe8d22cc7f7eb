"""The pages of a report: each notebook, the index, and everything in one file; whole without network or server."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from capitulation.params import Params, changed_from_default
from capitulation.report.render import TEMPLATES, Heading, Page, shift_headings
from capitulation.report.story import Story

CSV_LINK = re.compile(r' <a class="csv"[^>]*>.*?</a>', re.DOTALL)
Chip = tuple[str, str, str]
LONGEST_VALUE = 60


@cache
def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


@cache
def content_policy() -> str:
    """Nothing is loaded; only the page's own script and style are allowed, by their hashes."""
    return "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"style-src {_hash(_asset('style.css'))}",
            f"script-src {_hash(_asset('page.js'))}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape

    from capitulation.report.markup import keep_days

    loader = FileSystemLoader(TEMPLATES)
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["days"] = lambda text: Markup(keep_days(str(escape(text))))  # noqa: S704  escaped first
    return made


def fill(template: str, **values: Any) -> str:
    """A page from its template, with style, script and policy."""
    common = {"style": _asset("style.css"), "script": _asset("page.js"), "policy": content_policy()}
    return _environment().get_template(template).render(**common, **values)


def chips(record: Mapping[str, Any], params: Params) -> list[Chip]:
    """The line of facts about a run: (label, value, kind)."""
    market = record["market"]
    items: list[Chip] = [
        ("as of", market["last_day"], ""),
        ("data", f"{market['first_day']} to {market['last_day']}", ""),
        ("source", market["source"], ""),
    ]
    if market["retrieved_at"]:
        items.append(("fetched", market["retrieved_at"], ""))
    if market["age_days"]:
        items.append(("age", f"{market['age_days']:.0f} days", ""))
    hidden = {"source", "data", "as_of", "max_age_days"}
    changed = {name: value for name, value in changed_from_default(params).items() if name not in hidden}
    items += [(name, _short(value), "changed") for name, value in changed.items()]
    return items + [("note", note, "note") for note in market["notes"]]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def write_pages(folder: Path, pages: Sequence[Page], record: Mapping[str, Any], params: Params, story: Story) -> None:
    """Write one page per notebook, index.html and report.html into `folder`."""
    common = {
        "run": record["run"],
        "market": record["market"],
        "simulated": record["market"]["simulated"],
        "chips": chips(record, params),
    }
    for i, page in enumerate(pages):
        around = {"previous": pages[i - 1] if i else None, "next": pages[i + 1] if i + 1 < len(pages) else None}
        _write(folder / page.file, fill("page.html.j2", page=page, body=page.html(), **around, **common))
    summary = {"story": story, "pages": pages, "tables": sorted(record["tables"]), **common}
    _write(folder / "index.html", fill("index.html.j2", link=lambda name: f"{name}.html", files=True, **summary))
    _write(folder / "report.html", _whole(pages, summary))


def _whole(pages: Sequence[Page], summary: Mapping[str, Any]) -> str:
    """Everything in one file; links to other files of the report are left out, as they do not travel with it."""
    bodies = [(page, CSV_LINK.sub("", shift_headings(page.html(), 1))) for page in pages]
    headings = [Heading(2, page.name, page.title) for page in pages]
    link = "#{}".format
    return fill("report.html.j2", bodies=bodies, headings=headings, link=link, files=False, **summary)


def _write(path: Path, page: str) -> None:
    path.write_text(page, encoding="utf-8")
