"""Text to safe HTML: Markdown of the notebooks, tables of the library, formulas.

Markdown is rendered with raw HTML escaped; HTML that a cell displays passes an allow-list. So nothing that comes from
data, a provider or a parameter can add a script, a style, a form or a request.
"""

from __future__ import annotations

import html
import re
from functools import cache

import nh3

from capitulation.report.lean import without_unused_grammar

with without_unused_grammar():
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

TAGS = {
    *(
        "a",
        "abbr",
        "b",
        "br",
        "code",
        "dd",
        "div",
        "dl",
        "dt",
        "em",
        "h2",
        "h3",
        "h4",
        "hr",
        "i",
        "li",
        "ol",
        "p",
        "pre",
    ),
    *("pre", "s", "small", "span", "strong", "sub", "sup", "u", "ul"),
    *("caption", "col", "colgroup", "table", "tbody", "td", "tfoot", "th", "thead", "tr"),
}
ATTRIBUTES = {
    "*": {"class"},
    "a": {"href", "title"},
    "abbr": {"title"},
    "div": {"tabindex", "role", "aria-label"},
    "th": {"scope", "colspan", "rowspan", "data-column", "data-value"},
    "td": {"colspan", "rowspan", "data-value"},
}
FORMULA_TAGS = {
    *("math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle", "mpadded"),
    *("msub", "msup", "msubsup", "munder", "mover", "munderover", "mtable", "mtr", "mtd", "mphantom", "menclose"),
}
FORMULA_ATTRIBUTES = {
    "*": {"mathvariant", "displaystyle", "scriptlevel", "stretchy", "fence", "separator", "accent", "accentunder"}
    | {"lspace", "rspace", "minsize", "maxsize", "width", "height", "depth", "linethickness", "form", "largeop"}
    | {"movablelimits", "columnalign", "rowspacing", "columnspacing", "columnlines", "rowlines", "notation"},
    "math": {"display"},
}
SCHEMES = {"http", "https", "mailto"}
REMOVED_WITH_CONTENT = {"script", "style", "iframe", "object", "template", "svg", "noscript"}
HEADING = re.compile(r"<h([1-6])>(.*?)</h\1>", re.DOTALL)
TAG = re.compile(r"<[^>]*>")
PIECE = re.compile(r"(<[^>]*>)")
DAY = re.compile(r"(?<![\w.-])\d{4}-\d{2}-\d{2}(?![\w.-]*\w)")
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def clean(page: str) -> str:
    """`page` with nothing but plain, allowed elements.

    >>> clean('<p onclick="x()">a<script>b</script></p>')
    '<p>a</p>'
    """
    return nh3.clean(
        page,
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes=SCHEMES,
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
    from latex2mathml.converter import convert

    try:
        converted = convert(latex.strip(), display=display)
    except Exception:
        return f"<code>{html.escape(latex)}</code>"
    return nh3.clean(converted, tags=FORMULA_TAGS, attributes=FORMULA_ATTRIBUTES, link_rel=None)


class PageRenderer(IPythonRenderer):
    """Markdown without raw HTML, with MathML, and with external pictures as links."""

    def __init__(self) -> None:
        super().__init__(escape=True, allow_harmful_protocols=False, exclude_anchor_links=True)

    def block_math(self, body: str) -> str:
        return f'<div class="formula">{formula(body, "block")}</div>'

    def inline_math(self, body: str) -> str:
        return formula(body, "inline")

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return f'<a href="{html.escape(self.safe_url(url))}">{html.escape(text or url)}</a>'

    def table(self, text: str) -> str:
        return f'<div class="table-scroll" tabindex="0" role="region" aria-label="Table">{super_table(text)}</div>\n'


def super_table(text: str) -> str:
    """A Markdown table in the look of the data tables."""
    return f'<table class="data plain">\n{text}</table>'


def markdown(source: str) -> str:
    """Markdown as HTML; raw HTML in it is shown, not obeyed.

    >>> markdown("a *b* <script>")
    '<p>a <em>b</em> &lt;script&gt;</p>\\n'
    """
    return _engine().render(source)


@cache
def _engine() -> MarkdownWithMath:
    return MarkdownWithMath(renderer=PageRenderer())


def text_of(page: str) -> str:
    """The words of a piece of HTML."""
    return html.unescape(TAG.sub("", page)).strip()


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
    parts = PIECE.split(page)
    parts[::2] = [DAY.sub(r'<span class="day">\g<0></span>', words) for words in parts[::2]]
    return "".join(parts)


def slug(text: str) -> str:
    """An id made from a heading.

    >>> slug("How sure is one? (p)")
    'how-sure-is-one-p'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "section"
