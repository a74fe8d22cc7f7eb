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
from collections.abc import Iterable, Mapping, Sequence
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
from capitulation.paths import read_json, reference_folder
from capitulation.report.explore import chart_parts
from capitulation.report.tables import html_table, in_scroller, keep_units, read_table
from capitulation.study.answer import answers, summary
from capitulation.study.present import card_facts
from capitulation.words import ANCHOR_WORDS, between, exactly, percent

TEMPLATES = Path(__file__).parent / "template"
TAGS = "a abbr b br caption code col colgroup dd details div dl dt em h2 h3 h4 hr i li ol p pre s small span strong sub"
TAGS += " summary sup table tbody td tfoot th thead tr u ul"
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
    "table": {"data-filter"},
    "th": {"scope", "colspan", "rowspan", "data-column", "data-value"},
    "td": {"colspan", "rowspan", "data-value"},
}
TAG = re.compile(r"(<[^>]*>)")
TABLE = re.compile(r'<table [^>]*class="dataframe".*?</table>', re.DOTALL)
SIZE = re.compile(r"<p>\d+ rows × \d+ columns</p>")  # which pandas writes below a shortened table
DAY = re.compile(r"(?<![\w.-])\d{4}-\d{2}-\d{2}(?![\w.-]*\w)")
FIRST_FIGURES = ("ledger", "capitulations")
PARTS = {  # tags of the cells that the reader's report shows, and the sections that they make
    "what-followed": "What followed",
    "where-we-stand": "Where we stand",
    "claims-held": "What was claimed and what held",
}
CSV_LINK = re.compile(' <a class="csv"[^>]*>.*?</a>')
NO_TERM = ("a", "button", "code", "math", "summary", "caption", "th", *(f"h{level}" for level in range(1, 7)))


class Page(NamedTuple):
    """A notebook rendered: `body` is an HTML fragment whose ids all start with the notebook's number.

    headings : level (2 or 3), id, text. figures : page, name, alt, caption, title, CSS width and height, data (base64),
    narrow (data, width and height of the same for a phone). parts : by the tags of PARTS the fragment that the reader's
    report takes from it, headings one level deeper, and these headings.
    """

    name: str
    title: str
    finding: str
    body: str
    headings: list[dict[str, Any]]
    figures: list[dict[str, Any]]
    parts: dict[str, tuple[str, list[dict[str, Any]]]]


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
        cleaned = TABLE.sub(lambda match: in_scroller(match[0]), SIZE.sub("", cleaned))
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
    body, *lead = _without_lead(fill("cells.html.j2", cells=cells, code=True))
    body, headings = _number_headings(body, f"s{path.stem[:2]}")
    parts = {}
    for tag in PARTS:
        if chosen := [cell for cell in cells if tag in cell["metadata"].get("tags", [])]:
            told = CSV_LINK.sub("", _without_lead(fill("cells.html.j2", cells=chosen, code=False))[0])
            told, own = _number_headings(told, f"r{path.stem[:2]}")
            parts[tag] = keep_days(deeper(told)), own
    return Page(path.stem, lead[0] or path.stem, lead[1], keep_days(body), headings, figures, parts)


def _without_lead(body: str) -> tuple[str, str, str]:
    """A page without its title and finding, which the template puts first; these two as text."""
    lead = []
    for pattern in (r"<h1>(.*?)</h1>", r'<p class="finding">(.*?)</p>'):
        match = re.search(pattern, body, re.DOTALL)
        lead.append(text_of(match[1]) if match else "")
        body = body.replace(match[0], "", 1) if match else body
    return body, *lead


def _picture(page: str, output: Mapping[str, Any]) -> dict[str, Any]:
    """A PNG with its texts; a known size keeps a loading page still. {} where there is none, or no base64."""
    said = output.get("metadata", {}).get("image/png", {})
    wide = _sized(_decoded(output.get("data", {}).get("image/png")), said.get("width"))
    texts = {"name": "", "alt": "Chart without a description", "caption": "", "title": ""}
    texts = {name: keep_units(str(said.get(name) or default)) for name, default in texts.items()}
    return {"page": page, **texts, **wide, "narrow": _sized(_decoded(said.get("narrow")))} if wide else {}


def picture_of(name: str, wide: bytes, narrow: bytes, alt: str, caption: str) -> dict[str, Any]:
    """A picture that no notebook made, as the templates take it: a PNG, the same for a phone, its texts."""
    return {"name": name, "alt": alt, "caption": caption, **_sized(wide), "narrow": _sized(narrow)}


def _decoded(text: Any) -> bytes:
    """The bytes of `text` (str or list of str); none where it is no base64."""
    try:
        return base64.b64decode("".join("".join(text).split()), validate=True)
    except (TypeError, ValueError):
        return b""


def _sized(png: bytes, width: Any = None) -> dict[str, Any]:
    """data (base64), CSS width (default: half its pixels) and height of a picture; {} where there is none."""
    if not png:
        return {}
    known = png.startswith(b"\x89PNG\r\n\x1a\n") and len(png) >= 24
    across, down = struct.unpack(">II", png[16:24]) if known else (0, 0)
    width = int(width) if isinstance(width, int | float) else across // 2
    height = round(width * down / across) if across else 0
    return {"data": base64.b64encode(png).decode(), "width": width, "height": height}


def deeper(body: str) -> str:
    """`body` with its headings one level deeper, to stand below a heading of its own."""
    return re.sub("(</?h)([1-6])", lambda m: f"{m[1]}{min(int(m[2]) + 1, 6)}", body)


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


PYTHON, SOURCE = PythonLexer(), HtmlFormatter(cssclass="source")
PAGES = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
for _name, _files in {"style": ("style.css", "tables.css"), "script": ("page.js", "tables.js")}.items():
    PAGES.globals[_name] = "".join((TEMPLATES / _file).read_text(encoding="utf-8") for _file in _files)
PAGES.globals["commercial"] = COMMERCIAL
PAGES.filters |= {
    "units": keep_units,
    "first_sentence": lambda text: re.match(r".*?[.](?=\s[A-Z]|$)|.*", text)[0],
    "markdown": markdown,
    "code": lambda source: highlight(source, PYTHON, SOURCE),
    "days": lambda text: Markup(keep_days(str(escape(keep_units(text))))),  # noqa: S704  escaped first
    "displayed": displayed,
    "plain": lambda text: re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text),  # a terminal's colours
    "sha256": lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode(),
}


def fill(template: str, **values: Any) -> str:
    """A page from its template, with style, script and the policy that allows these two alone, by their hashes."""
    return PAGES.get_template(template).render(**values)


def write_pages(folder: Path, pages: Sequence[Page], record: Mapping[str, Any], params: Params) -> None:  # type: ignore[valid-type]
    """Write the pages of a run into `folder`, which holds its tables: one per notebook and what is made of them all.

    index.html (a dashboard), report.html (the reader's report), appendix.html (every page in one file), history.html
    (the chart to explore, where the run made one) and summary.txt (for the body of an e-mail).
    """
    about = {name: record[name] for name in ("run", "market", "changed")}
    for before, page, after in zip([None, *pages], pages, [*pages[1:], None], strict=False):
        text = fill("page.html.j2", page=page, previous=before, next=after, **about)
        (folder / f"{page.name}.html").write_text(text, encoding="utf-8")
    told, terms = story(folder, pages, record, params), glossary()
    explore = read_json(folder / "history.json")
    since = record.get("since", [])
    about |= {"story": told, "pages": pages, "params": params, "explore": bool(explore), "since": since}
    index = fill("index.html.j2", tables=listed_tables(record["tables"]), **about)
    (folder / "index.html").write_text(index, encoding="utf-8")
    sections = []
    for tag, title in PARTS.items():
        found = [page.parts[tag] for page in pages if tag in page.parts]
        if found:
            body = "".join(part for part, _headings in found)
            headings = [heading for _part, own in found for heading in own]
            sections.append({"id": tag, "title": title, "body": body, "headings": headings})
    whole = fill("report.html.j2", sections=sections, glossary=terms, **about)
    (folder / "report.html").write_text(link_terms(whole, terms), encoding="utf-8")
    bodies = [deeper(CSV_LINK.sub("", page.body)) for page in pages]  # the CSV files stay behind
    appendix = fill("appendix.html.j2", bodies=bodies, glossary=terms, **about)
    (folder / "appendix.html").write_text(appendix, encoding="utf-8")
    if explore:
        picture = next((figure for page in pages for figure in page.figures if figure["name"] == "capitulations"), {})
        page = fill("history.html.j2", figure=picture, **chart_parts(explore), **about)
        (folder / "history.html").write_text(page, encoding="utf-8")
    verdicts = ", ".join(f"{n} {verdict}" for verdict, n in told["claims"])
    more = [f"Published claims: {verdicts}."] if verdicts else []
    more += [f"Since the last report: {since[0]}"] if since else []
    beside = "the chart to explore, tables" if explore else "tables"
    more += [f"Report: report.html; {beside} and appendix beside it. Research, not investment advice."]
    (folder / "summary.txt").write_text(summary(told["title"], told["answers"], more), encoding="utf-8")


def story(folder: Path, pages: Sequence[Page], record: Mapping[str, Any], params: Params) -> dict[str, Any]:  # type: ignore[valid-type]
    """What the first page shows, from the results of the run in `folder`; parts that it did not make are empty."""
    state, market = read_json(folder / "state.json"), record["market"]
    graded = read_table(folder, "forward_returns_by_grade")
    every = [figure for page in pages for figure in page.figures]
    chosen = [figure for name in FIRST_FIGURES for figure in every if figure["name"] == name] or every[:1]
    simulated = "Simulated market: " * market["simulated"]
    return {
        "title": f"{simulated}Miner capitulation on {market['last_day']}",
        "answers": answers(
            state,
            read_json(folder / "headline.json"),
            graded,
            age_days=market["age_days"],
            **params.model_dump(include={"fast_days", "slow_days", "confidence"}),
        ),
        "state": state,
        "facts": card_facts(state) if state else [],
        "rules": rules_beside(read_table(folder, "forward_returns"), params),
        "claims": Counter(read_table(folder, "claims").get("verdict", pd.Series(dtype=str)).dropna()).most_common(),
        "figures": chosen,
    }


def rules_asked(table: pd.DataFrame, params: Params) -> pd.DataFrame:  # type: ignore[valid-type]
    """The rows of forward_returns.csv that ask the primary question of each rule of this library."""
    if table.empty:
        return pd.DataFrame(columns=["definition", "excess_own_era", "ci_low_own_era", "ci_high_own_era"])
    asked = (table["anchor"] == params.primary_anchor) & (table["horizon_days"] == params.primary_horizon_days)
    return table[asked & table["definition"].isin(RULES)]


def rules_beside(table: pd.DataFrame, params: Params) -> str:  # type: ignore[valid-type]
    """The table of the primary question asked of each rule, the least likely by chance first; "" where there is none.

    `table` as forward_returns.csv. Rules that name the same days are one row, under the primary one's name or the
    first. Rules without an event are left out, unless none has any.
    """
    rows = rules_asked(table, params)
    if rows.empty:
        return ""
    rows = rows.sort_values(["p_family_own_era", "p_rotation_own_era"])
    rows = rows.sort_values("definition", key=lambda name: name != params.primary_definition, kind="stable")
    rows = rows[rows["n_events"] > 0] if rows["n_events"].any() else rows.head(1)
    rule = rows["same_as"].fillna(rows["definition"])
    alike = rows.groupby(rule, sort=False)["definition"].agg(
        lambda names: " = ".join(RULES[name].words for name in names)
    )
    rows = rows[~rule.duplicated()].assign(words=alike.to_list())
    rows = rows.sort_values("p_family_own_era", kind="stable")
    primary = rows["definition"] == params.primary_definition
    shown = pd.DataFrame(
        {
            "rule": rows["words"].str.replace("^.", lambda m: m[0].upper(), regex=True)
            + primary.map({True: " (primary test)", False: ""}),
            "n_events": rows["n_events"],
            "excess_own_era": rows["excess_own_era"],
            "interval": [between(*ends) for ends in zip(rows["ci_low_own_era"], rows["ci_high_own_era"], strict=True)],
            "p_rotation_own_era": rows["p_rotation_own_era"],
            "p_family_own_era": rows["p_family_own_era"],
            "median": rows["median"],
        }
    )
    days, base = params.primary_horizon_days, rows["base_median"].iloc[0]
    any_day = f" {days} days after the median day BTC stood at {percent(base, 0, True)}." if pd.notna(base) else ""
    caption = (
        f"{days} days after {ANCHOR_WORDS[params.primary_anchor]}, by each rule. Excess: mean log return beyond that of"
        f" the average day of the same halving era, with its {exactly(params.confidence)} interval and the exact"
        " one-sided p; the second p counts every rule and signal that was looked at."
        f"{any_day} Only the primary test was fixed before looking."
    )
    formats = {"median": "+.0%", "excess_own_era": "+.2f", "p_rotation_own_era": "p", "p_family_own_era": "p"}
    heads = {"interval": f"{exactly(params.confidence)} interval"}
    return html_table(shown, caption, formats=formats, headers=heads, name="forward_returns")


def listed_tables(names: Iterable[str]) -> list[tuple[str, str]]:
    """The CSV files of a run, each with a line of what it holds, from data/reference/tables.csv."""
    known = pd.read_csv(reference_folder() / "tables.csv", keep_default_na=False).set_index("table")["holds"]
    return [(name, known.get(name.removesuffix(".csv"), "")) for name in names]


def glossary() -> list[dict[str, str]]:
    """The terms of data/reference/glossary.csv in alphabetical order: id, term, also (other spellings), meaning."""
    rows = pd.read_csv(reference_folder() / "glossary.csv", keep_default_na=False).sort_values(
        "term", key=lambda term: term.str.lower()
    )
    return [{"id": f"term-{slug(row['term'])}", **row} for row in rows.to_dict("records")]


def link_terms(page: str, terms: Iterable[Mapping[str, str]]) -> str:
    """`page` in whose sections the first mention of each term leads to its entry in the glossary."""
    before, mark, rest = page.partition('<section class="part"')
    inside, end, after = rest.partition('<section class="glossary"')
    spelt = {
        name.strip().lower(): term["id"]
        for term in terms
        for name in (term["term"], *term["also"].split(";"))
        if name.strip()
    }
    if not (mark and spelt):
        return page
    words = re.compile(
        rf"(?<![\w-])({'|'.join(map(re.escape, sorted(spelt, key=len, reverse=True)))})(?![\w-])", re.IGNORECASE
    )
    linked, within = set[str](), Counter[str]()

    def link(match: re.Match[str]) -> str:
        target = spelt[match[0].lower()]
        if target in linked:
            return match[0]
        linked.add(target)
        return f'<a class="term" href="#{target}">{match[0]}</a>'

    parts = TAG.split(mark + inside)
    for place, part in enumerate(parts):
        if place % 2:
            name = re.match(r"</?(\w*)", part)[1]
            within[name] += -1 if part.startswith("</") else 1
        elif not any(within[name] > 0 for name in NO_TERM):
            parts[place] = words.sub(link, part)
    return before + "".join(parts) + end + after
