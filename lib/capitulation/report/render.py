"""Executed notebooks as pages: safe HTML, one page each, an index that tells the story, and everything in one file.

Markdown is rendered with raw HTML escaped, and HTML that a cell displays passes an allow-list, so nothing that comes
from data, a provider or a parameter can add a script, a style, a form or a request.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nh3
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from latex2mathml.converter import convert as convert_latex
from markupsafe import Markup, escape
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from capitulation.data.sources import COMMERCIAL
from capitulation.mining.rules import RULES
from capitulation.params import Params
from capitulation.report.tables import format_cell, in_scroller, keep_units
from capitulation.study.present import card_facts
from capitulation.words import ANCHOR_WORDS, between, exactly, percent, signed

TEMPLATES = Path(__file__).parent / "template"
TAGS = "a abbr b br caption code col colgroup dd div dl dt em h2 h3 h4 hr i li ol p pre s small span strong sub sup"
TAGS += " table tbody td tfoot th thead tr u ul"
FORMULA_TAGS = "math mrow mi mn mo ms mtext mspace mfrac msqrt mroot mstyle mpadded msub msup msubsup munder mover"
FORMULA_TAGS += " munderover mtable mtr mtd mphantom menclose"
FORMULA_ATTRIBUTES = "display mathvariant displaystyle scriptlevel stretchy fence separator accent accentunder lspace"
FORMULA_ATTRIBUTES += " rspace minsize maxsize width height depth linethickness form largeop movablelimits columnalign"
FORMULA_ATTRIBUTES += " rowspacing columnspacing columnlines rowlines notation"
ATTRIBUTES = {tag: set(FORMULA_ATTRIBUTES.split()) for tag in FORMULA_TAGS.split()} | {
    "*": {"class"},
    "a": {"href", "title"},
    "abbr": {"title"},
    "div": {"tabindex", "role", "aria-label"},
    "th": {"scope", "colspan", "rowspan", "data-column", "data-value"},
    "td": {"colspan", "rowspan", "data-value"},
}
TAG = re.compile(r"(<[^>]*>)")
DAY = re.compile(r"(?<![\w.-])\d{4}-\d{2}-\d{2}(?![\w.-]*\w)")
FIRST_FIGURES = ("capitulations", "ledger", "event_paths")


class Page(NamedTuple):
    """A notebook rendered: `body` is an HTML fragment whose ids all start with the notebook's number.

    headings : level (2 or 3), id, text. figures : page, name, alt, caption, title, CSS width and height, data (base64).
    """

    name: str
    title: str
    finding: str
    body: str
    headings: list[dict[str, Any]]
    figures: list[dict[str, Any]]


def clean(page: str) -> str:
    """`page` with nothing but plain, allowed elements and formulas."""
    return nh3.clean(
        page,
        tags={*TAGS.split(), *FORMULA_TAGS.split()},
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        clean_content_tags={"script", "style", "iframe", "object", "template", "svg", "noscript"},
        link_rel="noopener noreferrer",
    )


def formula(latex: str, display: str) -> str:
    """A LaTeX formula as MathML, without links or styles; as code where it cannot be converted."""
    try:
        return clean(convert_latex(latex.strip(), display=display))
    except Exception:
        return f"<code>{html.escape(latex)}</code>"


def displayed(page: str) -> str:
    """HTML that a cell displays, cleaned; a bare DataFrame in the look of the data tables."""
    cleaned = clean(page)
    if 'class="dataframe"' in cleaned:
        cleaned = in_scroller(re.search(r"<table.*</table>", cleaned, re.DOTALL)[0])
    return cleaned.replace('class="dataframe"', 'class="data plain dataframe"')


class _Renderer(IPythonRenderer):
    """Markdown without raw HTML, with MathML, and with external pictures as links."""

    def __init__(self) -> None:
        super().__init__(escape=True, allow_harmful_protocols=False, exclude_anchor_links=True)

    def block_math(self, body: str) -> str:
        return f'<div class="formula" tabindex="0" role="group" aria-label="Formula">{formula(body, "block")}</div>'

    def inline_math(self, body: str) -> str:
        return formula(body, "inline")

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return f'<a href="{html.escape(self.safe_url(url))}">{html.escape(text or url)}</a>'

    def table(self, text: str) -> str:
        return in_scroller(f'<table class="data plain">\n{text}</table>') + "\n"


markdown = MarkdownWithMath(renderer=_Renderer()).render  # raw HTML in the text is shown, not obeyed


def keep_days(page: str) -> str:
    """`page` (HTML) in which the words hold every ISO day together on one line; tags and their texts stay as they are.

    >>> keep_days('<p title="2026-01-20">on 2026-01-20.</p>')
    '<p title="2026-01-20">on <span class="day">2026-01-20</span>.</p>'
    """
    parts = TAG.split(page)
    parts[::2] = [DAY.sub(r'<span class="day">\g<0></span>', words) for words in parts[::2]]
    return "".join(parts)


def text_of(page: str) -> str:
    """The words of a piece of HTML."""
    return html.unescape(TAG.sub("", page)).strip()


def slug(text: str) -> str:
    """An id made from a heading."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "section"


def render_notebook(path: Path) -> Page:
    """The page of an executed notebook: prose, folded code, figures and tables, in the order of its cells."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    figures = []
    for output in [output for cell in cells for output in cell.get("outputs", [])]:
        if picture := _picture(path.stem, output):
            output["picture"] = picture
            figures.append(picture)
    body, lead = fill("cells.html.j2", cells=cells), []
    for pattern in (r"<h1>(.*?)</h1>", r'<p class="finding">(.*?)</p>'):  # the template puts them first
        match = re.search(pattern, body, re.DOTALL)
        lead.append(text_of(match[1]) if match else "")
        body = body.replace(match[0], "", 1) if match else body
    body, headings = _number_headings(body, f"s{path.stem[:2]}")
    return Page(path.stem, lead[0] or path.stem, lead[1], keep_days(body), headings, figures)


def _picture(page: str, output: Mapping[str, Any]) -> dict[str, Any]:
    """A PNG with its texts; a known size keeps a loading page still. {} where there is none, or no base64."""
    try:
        png = base64.b64decode("".join("".join(output["data"]["image/png"]).split()), validate=True)
    except (KeyError, TypeError, ValueError):
        return {}
    said = output.get("metadata", {}).get("image/png", {})
    texts = {"name": "", "alt": "Chart without a description", "caption": "", "title": ""}
    texts = {name: keep_units(str(said.get(name) or default)) for name, default in texts.items()}
    known = png.startswith(b"\x89PNG\r\n\x1a\n") and len(png) >= 24
    across, down = struct.unpack(">II", png[16:24]) if known else (0, 0)
    width = int(said["width"]) if isinstance(said.get("width"), int | float) else across
    height = round(width * down / across) if across else 0
    return {"page": page, **texts, "width": width, "height": height, "data": base64.b64encode(png).decode()}


def _number_headings(body: str, prefix: str) -> tuple[str, list[dict[str, Any]]]:
    """Give each heading an id that is unique in the whole report, keep the levels in order, and list them."""
    headings: list[dict[str, Any]] = []
    seen: Counter[str] = Counter()

    def numbered(match: re.Match[str]) -> str:
        level = min(max(int(match[1]), 2), (headings[-1]["level"] if headings else 1) + 1)
        text = text_of(match[2])
        name = f"{prefix}-{slug(text)}"
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name}-{seen[name]}"
        headings.append({"level": level, "id": unique, "text": text})
        return f'<h{level} id="{unique}">{match[2]}</h{level}>'

    return re.sub(r"<h([1-6])>(.*?)</h\1>", numbered, body, flags=re.DOTALL), headings


PAGES = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
PAGES.globals |= {"rules": RULES, "anchors": ANCHOR_WORDS, "between": between, "commercial": COMMERCIAL}
for _name, _file in (("style", "style.css"), ("script", "page.js")):
    PAGES.globals[_name] = (TEMPLATES / _file).read_text(encoding="utf-8")
PAGES.filters |= {
    "cell": format_cell,
    "percent": percent,
    "exactly": exactly,
    "signed": signed,
    "units": keep_units,
    "markdown": markdown,
    "code": lambda source: highlight(source, PythonLexer(), HtmlFormatter(cssclass="source")),
    "days": lambda text: Markup(keep_days(str(escape(keep_units(text))))),  # noqa: S704  escaped first
    "displayed": displayed,
    "plain": lambda text: re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text),  # a terminal's colours
    "sha256": lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode(),
}


def fill(template: str, **values: Any) -> str:
    """A page from its template, with style, script and the policy that allows these two alone, by their hashes."""
    return PAGES.get_template(template).render(**values)


def write_pages(folder: Path, pages: Sequence[Page], record: Mapping[str, Any], params: Params) -> None:  # type: ignore[valid-type]
    """Write one page per notebook, index.html and report.html into `folder`, which holds the tables of the run."""
    about = {name: record[name] for name in ("run", "market", "changed")}
    for before, page, after in zip([None, *pages], pages, [*pages[1:], None], strict=False):
        text = fill("page.html.j2", page=page, previous=before, next=after, **about)
        (folder / f"{page.name}.html").write_text(text, encoding="utf-8")
    about |= {"story": story(folder, pages, params), "pages": pages, "tables": record["tables"], "params": params}
    (folder / "index.html").write_text(fill("index.html.j2", files=True, **about), encoding="utf-8")
    bodies = [re.sub(' <a class="csv"[^>]*>.*?</a>', "", page.body) for page in pages]  # these files stay behind
    bodies = [re.sub("(</?h)([1-6])", lambda m: f"{m[1]}{min(int(m[2]) + 1, 6)}", body) for body in bodies]
    headings = [{"level": 2, "id": page.name, "text": page.title} for page in pages]
    whole = fill("report.html.j2", files=False, bodies=bodies, headings=headings, **about)
    (folder / "report.html").write_text(whole, encoding="utf-8")


def story(folder: Path, pages: Sequence[Page], params: Params) -> dict[str, Any]:  # type: ignore[valid-type]
    """What the first page shows, from the results of the run in `folder`; parts that it did not make are empty."""
    state = read_json(folder / "state.json")
    every = [figure for page in pages for figure in page.figures]
    chosen = [figure for name in FIRST_FIGURES for figure in every if figure["name"] == name]
    shown = {figure["page"] for figure in chosen}
    chosen += [page.figures[0] for page in pages if page.figures and page.name not in shown]
    return {
        "verdict": read_json(folder / "headline.json").get("sentences", []),
        "state": state,
        "facts": card_facts(state) if state else [],
        "definitions": rules_beside(read_table(folder, "forward_returns"), params),
        "claims": Counter(read_table(folder, "claims").get("verdict", pd.Series(dtype=str)).dropna()).most_common(),
        "figures": chosen[:3],
    }


def rules_beside(table: pd.DataFrame, params: Params) -> list[dict[str, Any]]:  # type: ignore[valid-type]
    """The rows of forward_returns.csv that ask the primary question of each rule, the least likely by chance first.

    Rules that name the same days are one row, under the primary one's name or the first; `twins` has the others.
    Rules without an event are left out, unless none has any.
    """
    if table.empty:
        return []
    asked = (table["anchor"] == params.primary_anchor) & (table["horizon_days"] == params.primary_horizon_days)
    rows = table[asked & table["definition"].isin(RULES)].sort_values(["p_family_own_era", "p_rotation_own_era"])
    rows = rows.sort_values("definition", key=lambda name: name != params.primary_definition, kind="stable")
    rows = rows[rows["n_events"] > 0] if rows["n_events"].any() else rows.head(1)
    rule = rows["same_as"].fillna(rows["definition"])
    alike = rows.groupby(rule, sort=False)["definition"].agg(list)
    rows = rows[~rule.duplicated()].assign(twins=[names[1:] for names in alike])
    return rows.sort_values("p_family_own_era", kind="stable").to_dict("records")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON in `path`; {} where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """tables/`name`.csv of the report in `folder`; empty where there is none."""
    path = folder / "tables" / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()
