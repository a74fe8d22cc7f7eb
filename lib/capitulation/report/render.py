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
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import nh3
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from latex2mathml.converter import convert as convert_latex
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

if "rfc3987_syntax" not in sys.modules:  # an optional grammar of jsonschema, never needed: 0.9 s to import
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from capitulation.mining.rules import RULES
from capitulation.params import Params
from capitulation.study.present import card_facts
from capitulation.words import ANCHOR_WORDS, percent, signed

TEMPLATES = Path(__file__).parent / "template"
TAGS = (
    "a abbr b br caption code col colgroup dd div dl dt em h2 h3 h4 hr i li ol p pre s small span strong sub sup table"
    " tbody td tfoot th thead tr u ul"
)
ATTRIBUTES = {
    "*": {"class"},
    "a": {"href", "title"},
    "abbr": {"title"},
    "div": {"tabindex", "role", "aria-label"},
    "th": {"scope", "colspan", "rowspan", "data-column", "data-value"},
    "td": {"colspan", "rowspan", "data-value"},
}
FORMULA_TAGS = (
    "math mrow mi mn mo ms mtext mspace mfrac msqrt mroot mstyle mpadded msub msup msubsup munder mover munderover"
    " mtable mtr mtd mphantom menclose"
)
FORMULA_ATTRIBUTES = (
    "mathvariant displaystyle scriptlevel stretchy fence separator accent accentunder lspace rspace minsize maxsize"
    " width height depth linethickness form largeop movablelimits columnalign rowspacing columnspacing columnlines"
    " rowlines notation"
)
REMOVED_WITH_CONTENT = {"script", "style", "iframe", "object", "template", "svg", "noscript"}
HEADING = re.compile(r"<h([1-6])>(.*?)</h\1>", re.DOTALL)
TITLE = re.compile(r"<h1>(.*?)</h1>", re.DOTALL)
FINDING = re.compile(r'<p class="finding">(.*?)</p>', re.DOTALL)
FIGURE = re.compile(r'src="figure:(\d+)"')
CSV_LINK = re.compile(r' <a class="csv"[^>]*>.*?</a>', re.DOTALL)
TAG = re.compile(r"(<[^>]*>)")
DAY = re.compile(r"(?<![\w.-])\d{4}-\d{2}-\d{2}(?![\w.-]*\w)")
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
FIRST_FIGURES = ("price_capitulations", "event_paths", "ribbon_gap")
SPARK_WIDTH, SPARK_HEIGHT = 240.0, 36.0


class Heading(NamedTuple):
    """A heading of a page: its level (2 or 3), id and words."""

    level: int
    id: str
    text: str


class Picture(NamedTuple):
    """A picture of a page: PNG in base64 with what the notebook said about it; its size in CSS pixels."""

    page: str
    name: str
    alt: str
    caption: str
    title: str
    width: int
    height: int
    data: str


class Page(NamedTuple):
    """A notebook rendered: `body` is an HTML fragment whose ids all start with the notebook's number."""

    name: str
    title: str
    finding: str
    body: str
    headings: list[Heading]
    figures: list[Picture]

    @property
    def file(self) -> str:
        return f"{self.name}.html"

    def html(self) -> str:
        """The fragment with its pictures in it."""
        return FIGURE.sub(lambda match: f'src="data:image/png;base64,{self.figures[int(match[1])].data}"', self.body)


# --- text to safe HTML ----------------------------------------------------------------------------------------------


def clean(page: str) -> str:
    """`page` with nothing but plain, allowed elements.

    >>> clean('<p onclick="x()">a<script>b</script></p>')
    '<p>a</p>'
    """
    return nh3.clean(
        page,
        tags=set(TAGS.split()),
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        clean_content_tags=REMOVED_WITH_CONTENT,
        link_rel="noopener noreferrer",
    )


def plain(text: str) -> str:
    """Terminal text as escaped text, colours removed."""
    return html.escape(ANSI.sub("", text))


def formula(latex: str, display: str) -> str:
    """A LaTeX formula as MathML, without links or styles; as code where it cannot be converted.

    >>> formula("x", "inline")
    '<math display="inline"><mrow><mi>x</mi></mrow></math>'
    """
    try:
        converted = convert_latex(latex.strip(), display=display)
    except Exception:
        return f"<code>{html.escape(latex)}</code>"
    allowed = {"*": set(FORMULA_ATTRIBUTES.split()), "math": {"display"}}
    return nh3.clean(converted, tags=set(FORMULA_TAGS.split()), attributes=allowed, link_rel=None)


def in_scroller(table: str) -> str:
    """A table that scrolls sideways on its own where the window is narrow."""
    return f'<div class="table-scroll" tabindex="0" role="region" aria-label="Table">{table}</div>\n'


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
        return in_scroller(f'<table class="data plain">\n{text}</table>')


MARKDOWN = MarkdownWithMath(renderer=_Renderer())


def markdown(source: str) -> str:
    """Markdown as HTML; raw HTML in it is shown, not obeyed.

    >>> markdown("a *b* <script>")
    '<p>a <em>b</em> &lt;script&gt;</p>\\n'
    """
    return MARKDOWN.render(source)


def keep_units(text: str) -> str:
    """`text` in which a number and its per-cent sign stay on one line.

    >>> keep_units("+14 % of 3")
    '+14\\xa0% of 3'
    """
    return re.sub(r"(?<=\d) %", "\u00a0%", text)


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
    """An id made from a heading.

    >>> slug("How sure is one? (p)")
    'how-sure-is-one-p'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "section"


# --- one notebook ---------------------------------------------------------------------------------------------------


def render_notebook(path: Path) -> Page:
    """The page of an executed notebook: prose, folded code, figures and tables, in the order of its cells."""
    figures: list[Picture] = []
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    body = "".join(_cell(cell, number, figures, path.stem) for number, cell in enumerate(cells, 1))
    found = {}
    for name, pattern in (("title", TITLE), ("finding", FINDING)):
        match = pattern.search(body)
        found[name] = text_of(match[1]) if match else ""
        body = pattern.sub("", body, count=1)
    body, headings = _number_headings(body, f"s{path.stem[:2]}")
    return Page(
        path.stem, found["title"] or path.stem, keep_units(found["finding"]), keep_days(body), headings, figures
    )


def _cell(cell: Mapping[str, Any], number: int, figures: list[Picture], page: str) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return f'<div class="prose">{markdown(source)}</div>\n'
    if cell["cell_type"] != "code":
        return ""
    code = highlight(source, PythonLexer(), HtmlFormatter(cssclass="source", nowrap=False))
    head = f'<summary>Code<span class="sr"> of cell {number}</span></summary>'
    parts = [f'<details class="code">{head}{code}</details>\n'] if source.strip() else []
    for output in cell["outputs"]:
        if "data" in output:
            parts.append(_output(output, figures, page))
        else:
            lines = output["traceback"] if output["output_type"] == "error" else output["text"]
            text = "\n".join(lines) if output["output_type"] == "error" else "".join(lines)
            warned = "" if output.get("name") == "stdout" else " warned"
            parts.append(f'<pre class="stream{warned}" tabindex="0">{plain(text)}</pre>\n')
    return "".join(parts)


def _output(output: Mapping[str, Any], figures: list[Picture], page: str) -> str:
    """One displayed result: a figure, cleaned HTML, Markdown or plain text.

    Pictures are replaced by their number, so that no megabytes pass through the templates.
    """
    data = {kind: "".join(text) if isinstance(text, list) else text for kind, text in output["data"].items()}
    if "image/png" in data:
        figures.append(
            _picture(page, output.get("metadata", {}).get("image/png", {}), "".join(data["image/png"].split()))
        )
        size = f' width="{figures[-1].width}" height="{figures[-1].height}"' if figures[-1].width else ""
        caption = html.escape(figures[-1].caption)
        below = f"<figcaption>{caption}</figcaption>" if caption else ""
        alt = html.escape(figures[-1].alt, quote=True)
        return f'<figure><img src="figure:{len(figures) - 1}" alt="{alt}"{size}>{below}</figure>'
    if "text/html" in data:
        cleaned = clean(data["text/html"])
        if 'class="dataframe"' in cleaned:  # a bare DataFrame, in the look of the data tables
            cleaned = in_scroller(re.search(r"<table.*</table>", cleaned, re.DOTALL)[0])
        return cleaned.replace('class="dataframe"', 'class="data plain dataframe"')
    if "text/markdown" in data:
        return f'<div class="prose">{markdown(data["text/markdown"])}</div>'
    if "text/latex" in data:
        return markdown(data["text/latex"])
    return f'<pre class="stream" tabindex="0">{plain(data.get("text/plain", ""))}</pre>'


def _picture(page: str, said: Mapping[str, Any], data: str) -> Picture:
    """A PNG in base64 with its texts; a known size keeps a loading page still."""
    texts = {name: keep_units(str(said.get(name) or "")) for name in ("name", "alt", "caption", "title")}
    texts["alt"] = texts["alt"] or "Chart without a description"
    head = base64.b64decode(data[:32] + "=" * (-len(data[:32]) % 4))
    whole = head[:8] == PNG_SIGNATURE and len(head) >= 24
    across, down = (int.from_bytes(head[16:20]), int.from_bytes(head[20:24])) if whole else (0, 0)
    width = said.get("width")
    shown = int(width) if isinstance(width, int | float) and width > 0 else across
    return Picture(page, **texts, width=shown, height=round(shown * down / across) if across else 0, data=data)


def _number_headings(body: str, prefix: str) -> tuple[str, list[Heading]]:
    """Give each heading an id that is unique in the whole report, keep the levels in order, and list them."""
    headings: list[Heading] = []
    seen: Counter[str] = Counter()

    def numbered(match: re.Match[str]) -> str:
        level = min(max(int(match[1]), 2), (headings[-1].level if headings else 1) + 1)
        text = text_of(match[2])
        name = f"{prefix}-{slug(text)}"
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name}-{seen[name]}"
        headings.append(Heading(level, unique, text))
        return f'<h{level} id="{unique}">{match[2]}</h{level}>'

    return HEADING.sub(numbered, body), headings


# --- the pages ------------------------------------------------------------------------------------------------------


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(TEMPLATES)
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"percent": percent, "signed": signed}
    made.filters["days"] = lambda text: Markup(keep_days(str(escape(text))))  # noqa: S704  escaped first
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "page.js"))
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}';"
        " base-uri 'none'; form-action 'none'"
    )
    made.globals.update(style=style, script=script, policy=policy)
    return made


def fill(template: str, **values: Any) -> str:
    """A page from its template, with style, script and the policy that allows these two alone, by their hashes."""
    return _environment().get_template(template).render(**values)


def write_pages(folder: Path, pages: Sequence[Page], record: Mapping[str, Any], params: Params) -> None:  # type: ignore[valid-type]
    """Write one page per notebook, index.html and report.html into `folder`, which holds the tables of the run."""
    market = record["market"]
    about = {"run": record["run"], "market": market, "changed": record["changed"], "simulated": market["simulated"]}
    for before, page, after in zip([None, *pages], pages, [*pages[1:], None], strict=False):
        text = fill("page.html.j2", page=page, body=page.html(), previous=before, next=after, **about)
        (folder / page.file).write_text(text, encoding="utf-8")
    summary = {"story": story(folder, pages, params), "pages": pages, "tables": sorted(record["tables"]), **about}
    index = fill("index.html.j2", link=lambda name: f"{name}.html", files=True, **summary)
    (folder / "index.html").write_text(index, encoding="utf-8")
    # In the one file, links to other files of the report are left out, as they do not travel with it.
    deeper = re.compile(r"(</?h)([1-6])")
    bodies = [deeper.sub(lambda m: f"{m[1]}{min(int(m[2]) + 1, 6)}", CSV_LINK.sub("", page.html())) for page in pages]
    headings = [Heading(2, page.name, page.title) for page in pages]
    parts = {"bodies": list(zip(pages, bodies, strict=True)), "headings": headings}
    whole = fill("report.html.j2", link="#{}".format, files=False, **parts, **summary)
    (folder / "report.html").write_text(whole, encoding="utf-8")


def story(folder: Path, pages: Sequence[Page], params: Params) -> dict[str, Any]:  # type: ignore[valid-type]
    """What the first page shows, from the tables of the run in `folder`; parts that it did not make are empty."""
    headline = read_json(folder / "headline.json")
    claims = Counter(read_table(folder, "claims").get("verdict", pd.Series(dtype=str)).dropna())
    every = [figure for page in pages for figure in page.figures]
    chosen = [figure for name in FIRST_FIGURES for figure in every if figure.name == name]
    shown = {figure.page for figure in chosen}
    chosen += [page.figures[0] for page in pages if page.figures and page.name not in shown]
    return {
        "verdict": [keep_units(text) for text in headline.get("sentences", [])],
        "present": _present(read_json(folder / "state.json")),
        "definitions": _definitions(read_table(folder, "forward_returns"), params),
        "claims": claims.most_common(),
        "figures": chosen[:3],
    }


def read_json(path: Path) -> dict[str, Any]:
    """The JSON in `path`; {} where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """tables/`name`.csv of the report in `folder`; empty where there is none."""
    path = folder / "tables" / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def _present(state: Mapping[str, Any]) -> dict[str, Any]:
    """The present state: a word for it, since when, labelled facts, the gap's last days as points of a line."""
    if not state:
        return {}
    name, days = str(state["ribbon_state"]), state["days_in_state"]
    points, zero = spark([value for value in state["gap_history"] if value is not None])
    return {
        "kind": name,
        "state": name.capitalize(),
        "since": f"day {days}" if days is not None else "",
        "facts": [(label[0].upper() + label[1:], keep_units(text)) for label, text in card_facts(state)],
        "spark": points,
        "zero": zero,
    }


def spark(values: Sequence[float]) -> tuple[str, float]:
    """Points of a line through `values` in a box of `SPARK_WIDTH` by `SPARK_HEIGHT`, and the height of zero in it.

    >>> spark([0.0, 1.0])
    ('0.0,36.0 240.0,0.0', 36.0)
    """
    if len(values) < 2:
        return "", 0.0
    low, high = min(*values, 0.0), max(*values, 0.0)
    scale, step = SPARK_HEIGHT / ((high - low) or 1.0), SPARK_WIDTH / (len(values) - 1)
    points = " ".join(f"{i * step:.1f},{(high - value) * scale:.1f}" for i, value in enumerate(values))
    return points, round(high * scale, 1)


def _definitions(table: pd.DataFrame, params: Params) -> dict[str, Any]:  # type: ignore[valid-type]
    """Every definition at the primary anchor and horizon, each a row of forward_returns.csv with its words."""
    if table.empty:
        return {}
    at = (table["anchor"] == params.primary_anchor) & (table["horizon_days"] == params.primary_horizon_days)
    keyed = table[at].set_index("definition").to_dict("index")
    rows = [
        {"words": rule.words, "primary": name == params.primary_definition, **keyed[name]}
        for name, rule in RULES.items()
        if name in keyed
    ]
    title = f"{params.primary_horizon_days} days after {ANCHOR_WORDS[params.primary_anchor]}, by each definition"
    return {"title": title, "confidence": params.confidence, "rows": rows} if rows else {}
