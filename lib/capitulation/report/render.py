"""An executed notebook as a page: nbconvert with the project's template, figures and tables made accessible."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from capitulation.report import markup
from capitulation.report.lean import without_unused_grammar

TEMPLATES = Path(__file__).parent / "template"
FINDING = re.compile(r'<p class="finding">(.*?)</p>', re.DOTALL)
TITLE = re.compile(r"<h1>(.*?)</h1>", re.DOTALL)
FIGURE = re.compile(r'src="figure:(\d+)"')
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Heading:
    """A heading of a page: its level (2 or 3), id and words."""

    level: int
    id: str
    text: str


@dataclass(frozen=True)
class Figure:
    """A picture of a page: PNG in base64 with what the notebook said about it."""

    page: str
    name: str
    alt: str
    caption: str
    title: str
    width: int
    height: int
    data: str = field(repr=False)


@dataclass(frozen=True)
class Page:
    """A notebook rendered: `body` is an HTML fragment whose ids all start with the notebook's number."""

    name: str
    title: str
    finding: str
    body: str
    headings: list[Heading]
    figures: list[Figure] = field(default_factory=list)

    @property
    def file(self) -> str:
        return f"{self.name}.html"

    def html(self) -> str:
        """The fragment with its pictures in it."""
        return FIGURE.sub(lambda match: f'src="data:image/png;base64,{self.figures[int(match[1])].data}"', self.body)


def render_notebook(path: Path) -> Page:
    """The page of an executed notebook."""
    figures: list[Figure] = []
    body = _fragment(path.read_text(encoding="utf-8"), figures, path.stem)
    body, title = _take(TITLE, body)
    body, finding = _take(FINDING, body)
    body, headings = _number_headings(body, f"s{path.stem[:2]}")
    said = markup.keep_units(html.unescape(finding))
    return Page(path.stem, markup.text_of(title) or path.stem, said, markup.keep_days(body), headings, figures)


def _fragment(notebook: str, figures: list[Figure], page: str) -> str:
    """nbconvert's work; pictures are replaced by numbers so that no megabytes pass through the templates."""
    exporter = _exporter()
    exporter.register_filter("page_output", lambda output: _output(output, figures, page))
    with without_unused_grammar():
        from nbformat import v4

        return exporter.from_notebook_node(v4.reads(notebook))[0]


@cache
def _exporter() -> Any:
    with without_unused_grammar():
        from nbconvert.exporters.html import HTMLExporter
    exporter = HTMLExporter(template_name="notebook", extra_template_basedirs=[str(TEMPLATES)], theme="light")
    exporter.register_filter("page_markdown", markup.markdown)
    exporter.register_filter("page_code", _code)
    exporter.register_filter("page_plain", markup.plain)
    return exporter


def _code(source: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return highlight(source, PythonLexer(), HtmlFormatter(cssclass="source", nowrap=False))


def _output(output: Mapping[str, Any], figures: list[Figure], page: str) -> str:
    """One displayed result: a figure, cleaned HTML, Markdown or plain text."""
    data = {kind: "".join(text) if isinstance(text, list) else text for kind, text in output["data"].items()}
    if "image/png" in data:
        metadata = output.get("metadata", {}).get("image/png", {})
        figures.append(_described(page, metadata, "".join(data["image/png"].split())))
        return _figure(figures[-1], len(figures) - 1)
    if "text/html" in data:
        return markup.clean(data["text/html"])
    if "text/markdown" in data:
        return f'<div class="prose">{markup.markdown(data["text/markdown"])}</div>'
    if "text/latex" in data:
        return markup.markdown(data["text/latex"])
    return f'<pre class="stream" tabindex="0">{markup.plain(data.get("text/plain", ""))}</pre>'


def _described(page: str, metadata: Mapping[str, Any], data: str) -> Figure:
    texts = {name: markup.keep_units(str(metadata.get(name) or "")) for name in ("name", "alt", "caption", "title")}
    texts["alt"] = texts["alt"] or "Chart without a description"
    pixels = png_size(data)
    width = metadata.get("width")
    shown = int(width) if isinstance(width, int | float) and width > 0 else pixels[0]
    height = round(shown * pixels[1] / pixels[0]) if pixels[0] else 0
    return Figure(page, **texts, width=shown, height=height, data=data)


def png_size(data: str) -> tuple[int, int]:
    """Width and height in pixels of a PNG in base64, (0, 0) if it is none: known sizes keep a loading page still."""
    head = base64.b64decode(data[:32] + "=" * (-len(data[:32]) % 4))
    if head[:8] != PNG_SIGNATURE or len(head) < 24:
        return 0, 0
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def _figure(figure: Figure, number: int) -> str:
    """A picture with its alt text and caption."""
    size = f' width="{figure.width}" height="{figure.height}"' if figure.width else ""
    below = f"<figcaption>{html.escape(figure.caption)}</figcaption>" if figure.caption else ""
    alt = html.escape(figure.alt, quote=True)
    return f'<figure><img src="figure:{number}" alt="{alt}"{size}>{below}</figure>'


def _take(pattern: re.Pattern[str], body: str) -> tuple[str, str]:
    """`body` without the first match, and what the match held."""
    match = pattern.search(body)
    return (body[: match.start()] + body[match.end() :], match[1]) if match else (body, "")


def _number_headings(body: str, prefix: str) -> tuple[str, list[Heading]]:
    """Give each heading an id that is unique in the whole report, keep the levels in order, and list them."""
    headings: list[Heading] = []
    seen: dict[str, int] = {}

    def numbered(match: re.Match[str]) -> str:
        last = headings[-1].level if headings else 1
        level = min(max(int(match[1]), 2), last + 1)
        text = markup.text_of(match[2])
        name = f"{prefix}-{markup.slug(text)}"
        seen[name] = seen.get(name, 0) + 1
        unique = name if seen[name] == 1 else f"{name}-{seen[name]}"
        headings.append(Heading(level, unique, text))
        return f'<h{level} id="{unique}">{match[2]}</h{level}>'

    return markup.HEADING.sub(numbered, body), headings


def shift_headings(body: str, by: int) -> str:
    """`body` with every heading `by` levels deeper, as when a page becomes a part of the whole report."""
    return re.sub(r"(</?h)([1-6])", lambda match: f"{match[1]}{min(int(match[2]) + by, 6)}", body)
