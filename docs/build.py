"""Write the repository's own pages from a published report: `make docs RUN=name`, `make screenshots RUN=name`.

docs/results (what the report's notebooks show, without their code), docs/codebook.md, docs/api.md and the generated
parts of README.md. The same report gives the same bytes.
"""

from __future__ import annotations

import html
import inspect
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

import capitulation as cap
from capitulation.data.sources import COMMERCIAL, all_terms
from capitulation.errors import CapitulationError, InputError, ReportError, one_line
from capitulation.params import Params, make_params
from capitulation.paths import project_root, read_json
from capitulation.report.run import open_report
from capitulation.report.tables import codebook, html_table, read_table
from capitulation.words import ANCHOR_WORDS, count, exactly

ROWS_SHOWN, FIGURES_SHOWN = 15, 2
FIRST_FIGURE = "ledger"
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 740}
SHOTS = {  # name: page, what to scroll to, the window
    "index": ("index", "", {"viewport": DESK}),
    "report": ("report", "", {"viewport": DESK}),
    "report-dark": ("report", "figure", {"viewport": DESK, "color_scheme": "dark"}),
    "report-phone": ("report", "", {"viewport": PHONE, "device_scale_factor": 2}),
    "history": ("history", "", {"viewport": DESK}),
}
MAX_BYTES = 150_000
COLUMNS = (
    "horizon_days",
    "n_events",
    "n_clusters",
    "n_effective",
    "excess_own_era",
    "ci_low_own_era",
    "ci_high_own_era",
)
COLUMNS += ("p_rotation_own_era", "p_family_own_era", "median", "base_median", "hit_rate", "base_hit_rate")
FORMATS = dict.fromkeys(("hit_rate", "base_hit_rate"), ".0%") | dict.fromkeys(("median", "base_median"), "+.1%")
FORMATS |= dict.fromkeys(("excess_own_era", "ci_low_own_era", "ci_high_own_era"), "+.3f")
FORMATS |= dict.fromkeys(("p_rotation_own_era", "p_family_own_era"), "p") | {"n_effective": ".1f"}


def text(value: object) -> str:
    """`value` on one line, with nothing in it that Markdown or HTML would take for markup."""
    return re.sub(r"([\\`*_\[\]<>|$~#])", r"\\\1", one_line(value, 4000).replace("&", "&amp;"))


def words(page: str) -> str:
    """The words of a piece of HTML, a unit in brackets, as Markdown."""
    page = re.sub(r'<span class="unit">(.*?)</span>', r" (\1)", page)
    return text(html.unescape(re.sub(r"<[^>]*>", "", page)).replace("\u00a0", " ").strip().removeprefix("'"))


def table(head: Sequence[str], rows: Iterable[Iterable[str]], right: Collection[int] = ()) -> str:
    """A Markdown table of cells that are Markdown already; `right`: places of the columns that hold numbers."""
    marks = ["---:" if place in right else "---" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *rows))


def table_of(page: str) -> str:
    """A table of a page (HTML of `html_table`) as Markdown: its first rows, its caption below."""
    cell = re.compile(r"<t([hd])([^>]*)>(.*?)</t\1>", re.DOTALL)
    head, *body = [cell.findall(row) for row in re.findall("<tr>(.*?)</tr>", page)]
    shown = [[words(inside) for _tag, _kind, inside in row] for row in (head, *body[:ROWS_SHOWN])]
    shown = table(shown[0], shown[1:], [place for place, found in enumerate(head) if 'class="num"' in found[1]])
    parts = re.findall(
        r"<(?:caption|summary)>(.*?)(?: <a .*?</a>| \([\d,]+ rows\))?</(?:caption|summary)>", page, re.DOTALL
    )
    caption = ". ".join(filter(None, map(words, parts)))
    left_out = f" The first {ROWS_SHOWN} of {len(body):,} rows." if len(body) > ROWS_SHOWN else ""
    return f"{shown}\n\n*{caption}{left_out}*" if caption or left_out else shown


def cards_of(page: str) -> str:
    """The cards of a page (HTML of `html_cards`) as a Markdown list: verdict, source, statement, what stands below."""
    cards = []
    for card in re.findall('<li class="card.*?</li>', page, re.DOTALL):
        verdict, source = re.search(
            '<span class="pill[^>]*>(.*?)</span> <span class="source">(.*?)</span>', card
        ).groups()
        said = re.search('<p class="said">(.*?)</p>', card)[1]
        told = [f"{words(name)}: {words(value)}" for name, value in re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", card)]
        cards.append(f"- **{words(verdict)}** {words(source)}: *{words(said)}* {'; '.join(told)}")
    return "\n".join(cards)


def replace_region(page: str, name: str, content: str) -> str:
    """`page` with `content` between the marks of region `name`; `ReportError` unless both stand there once."""
    begin, end = f"<!-- generated:{name} -->", f"<!-- end:{name} -->"
    parts = re.split(f"({begin}|{end})", page)
    if parts[1::2] != [begin, end]:
        raise ReportError(f"README.md: the comments {begin} and {end} must each stand there once, in this order")
    parts[2] = f"\n{content.strip()}\n"
    return "".join(parts)


def source_line(market: Mapping[str, Any]) -> str:
    """Where the data come from and under which licence they stand."""
    fetched = f", fetched {market['retrieved_at'][:10]}" if market["retrieved_at"] else ""
    parts = [f"{origin['what']}: {origin['attribution']}; licence: {origin['licence']}" for origin in market["origins"]]
    line = f"Source of {text('. '.join(parts))}{fetched}."
    if market["source"] == "file":
        line += " Coin Metrics publishes its community data under CC BY-NC 4.0; what is computed from them is"
        line += " shown here with this attribution and for non-commercial use."
    return line


def notebook_section(folder: Path, name: str, pictures: dict[Path, str]) -> str:
    """What an executed notebook shows, in its order: its title, finding, sentences, first pictures and tables."""
    cells = json.loads((folder / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    title = re.search("^# (.+)$", prose, re.MULTILINE)
    parts, drawn = [f"## {text(title[1] if title else name)}"], 0
    for output in [output for cell in cells for output in cell.get("outputs", []) if "data" in output]:
        page, facts = "".join(output["data"].get("text/html", "")), output["metadata"].get("image/png", {})
        if page.startswith(('<div class="table-scroll"', '<details class="long"')):
            parts.append(table_of(page))
        elif page.startswith('<p class="cards-caption"'):
            parts.append(cards_of(page))
        elif page.startswith("<p"):
            parts.append(words(page))
        elif "name" in facts and (drawn < FIGURES_SHOWN or facts["name"] == FIRST_FIGURE):
            pictures[folder / "figures" / f"{facts['name']}.png"] = text(facts["alt"])
            parts.append(f"![{text(facts['alt'])}]({facts['name']}.png)\n\n*{text(facts['caption'])}*")
            drawn += 1
    return "\n\n".join(parts)


def results(folder: Path, record: Mapping[str, Any]) -> tuple[str, dict[Path, str]]:
    """docs/results/README.md, and the pictures it shows with what they say to those who do not see them."""
    market, pictures = record["market"], dict[Path, str]()
    changed = {name: Path(value).name if name == "data" else value for name, value in record["changed"].items()}
    defaults = Params().model_dump()
    rows = [(text(name), text(defaults.get(name, "") or "(empty)"), text(value)) for name, value in changed.items()]
    parts = [
        f"# Results on real data, as of {market['last_day']}",
        f"Written by `make docs` from the report `{record['run']}`; numbers, sentences and pictures are its own."
        f" Data: {market['n_days']:,} days, {market['first_day']} to {market['last_day']}. {source_line(market)}"
        f" Digest of the panel: `{market['digest'][:16]}`.",
        "[How each figure is made](../methodology.md), [what each column means](../codebook.md).",
        *[f"Note: {text(note)}" for note in market["notes"]],
        "Parameters that differ from their defaults:" if rows else "Every parameter has its default value.",
        table(("parameter", "default", "here"), rows) if rows else "",
        *[notebook_section(folder, item["name"], pictures) for item in record["notebooks"]],
    ]
    return "\n\n".join(part for part in parts if part), pictures


def finding(folder: Path, record: Mapping[str, Any], pictures: Mapping[Path, str]) -> str:
    """The README's first screen: the finding, one picture, one table; empty where the run made no primary test."""
    if not (told := read_json(folder / "headline.json")):
        return ""
    params, frame = make_params(record["parameters"]), read_table(folder, "forward_returns")
    keys = (frame["definition"] == params.primary_definition) & (frame["anchor"] == params.primary_anchor)
    shown = frame.loc[keys, [name for name in COLUMNS if name in frame]]
    what = f"{cap.RULES[params.primary_definition].words} {ANCHOR_WORDS[params.primary_anchor]}"
    about = (
        f"{what} since {params.sample_start}, bought at the close {count(params.entry_lag_days, 'day')} later;"
        f" {told['primary']['n_events']} of them have a known outcome at {params.primary_horizon_days} days."
        " *Excess*: mean log return against the mean day of the same halving era, with the ends of its"
        f" {exactly(params.confidence)} interval; *p*: the one-sided rotation test of that excess, alone and with all"
        " rules and signals allowed for; *clusters*: events nearer than the horizon count once; *effective*: as many"
        " separate events tell as much."
        f" {source_line(record['market'])} [All results](docs/results/README.md)."
    )
    picture = [f"![{alt}](docs/results/{path.name})" for path, alt in pictures.items() if path.stem == FIRST_FIGURE]
    parts = [f"**As of {told['as_of']}.** {text(' '.join(told['sentences']))}", *picture]
    return "\n\n".join([*parts, table_of(html_table(shown, "", formats=FORMATS, name="forward_returns")), about])


def parameters() -> str:
    """Every parameter as a Markdown table: default, unit, what is allowed, meaning."""

    def allowed(field: Mapping[str, Any]) -> str:
        if "enum" in field:
            return ", ".join(field["enum"])
        if "type" not in field:
            return "pairs of names"
        if field["type"] == "array" and "$ref" in field["items"]:
            return f"up to {field['maxItems']}, each with written, definition, anchor, grade and days"
        if field["type"] == "array":
            return f"{field['minItems']} to {field['maxItems']} whole numbers"
        if field["type"] == "string":
            return "YYYY-MM-DD" if field.get("unit") == "date" else "a file"
        low = f"{field['minimum']:,.10g}" if "minimum" in field else f"above {field['exclusiveMinimum']:g}"
        high = f"{field['maximum']:,.10g}" if "maximum" in field else f"below {field['exclusiveMaximum']:g}"
        return f"{low} to {high}"

    def default(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            return f"{len(value)}, in lib/capitulation/params.py"
        return text(value if value != "" else "(empty)")

    rows = [
        (f"`{name}`", default(field["default"]), *map(text, rest))
        for name, field in Params.model_json_schema()["properties"].items()
        for rest in [(field.get("unit", ""), allowed(field), field.get("description", ""))]
    ]
    return table(("parameter", "default", "unit", "allowed", "meaning"), rows)


def sources() -> str:
    """Every source as a Markdown table: what it gives, its licence, whether it may be used commercially."""
    head = ("source", "what it gives", "licence of the data", "commercial use")
    rows = [
        (f"`{item.source}`: {text(item.name)}", text(item.gives), text(item.licence), COMMERCIAL[item.commercial])
        for item in all_terms().values()
    ]
    return table(head, rows)


def codebook_page() -> str:
    """docs/codebook.md, from data/reference/codebook.csv, the rules and the parameters."""
    rules = [(f"`{rule.name}`", text(rule.says), text(rule.source)) for rule in cap.RULES.values()]
    anchors = ", ".join(f"`{name}` ({what})" for name, what in ANCHOR_WORDS.items())
    parts = [
        "# Codebook",
        "Written by `make docs` from data/reference/codebook.csv and the code; edit those, not this page. CSV files are"
        " UTF-8 with a header line; days are ISO days (UTC); shares and returns are fractions, not percents; an empty"
        " cell is a missing value, never a zero. A cell that a spreadsheet would take for a formula starts with an"
        " apostrophe. Columns marked *fixed* stand in every report under this name and in this place; a table that"
        " departs from that stops the run.",
        "## Definitions and anchors",
        table(("definition", "in the state while", "source"), rules),
        f"Anchors: {anchors}. What each means is in [methodology.md](methodology.md).",
        "## Tables",
    ]
    for name, rows in codebook().groupby("table", sort=False):
        cells = [
            (
                f"`{row.column}`",
                text(row.heading),
                text(row.unit),
                text(row.description),
                "fixed" * (row.contract == "yes"),
            )
            for row in rows.itertuples()
        ]
        head = ("column", "on pages", "unit", "meaning", "")
        parts += [f"### {name}" if "." in name else f"### {name}.csv", table(head, cells)]
    profile = 'Set in a profile (`make report PARAMS=file.yml`), or one by one (`make report SET="fast_days=20"`).'
    return "\n\n".join([*parts, "## Parameters", profile, parameters()])


def api_page() -> str:
    """docs/api.md: every public name with its signature and docstring."""
    parts = ["# Public names", "`import capitulation as cap`; written by `make docs` from the docstrings."]
    for name, thing in ((name, getattr(cap, name)) for name in cap.__all__):
        if inspect.ismodule(thing):
            continue
        about = (inspect.getdoc(thing) or "") if callable(thing) else f"A {type(thing).__name__}: {', '.join(thing)}."
        signature = str(inspect.signature(thing)) if inspect.isfunction(thing) else ""
        call = f"cap.{name}" + re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature)
        parts += [f"## {name}", f"```python\n{call}\n```", f"```text\n{about}\n```"]
    return "\n\n".join(parts)


def write_docs(folder: Path, record: Mapping[str, Any]) -> list[Path]:
    """Write every page; a simulated report is refused, and a README without its marks stays as it is."""
    if record["market"]["simulated"]:
        raise InputError(f"RUN={record['run']}: its market is simulated; docs show real data, name a report of them")
    root, (page, pictures) = project_root(), results(folder, record)
    readme = (root / "README.md").read_text(encoding="utf-8")
    for name, content in (("parameters", parameters()), ("sources", sources())):
        readme = replace_region(readme, name, content)
    if told := finding(folder, record, pictures):
        readme = replace_region(readme, "finding", told)
    target = root / "docs" / "results"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for picture in pictures:
        shutil.copyfile(picture, target / picture.name)
    pages = {target / "README.md": page, root / "README.md": readme}
    pages |= {root / "docs" / "codebook.md": codebook_page(), root / "docs" / "api.md": api_page()}
    for path, content in pages.items():
        path.write_text(content.rstrip("\n") + "\n", encoding="utf-8")
    return list(pages)


def small_png(picture: bytes) -> bytes:
    """A PNG with a palette, of as many colours as keep it under `MAX_BYTES`."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for colours in (256, 128, 64, 32, 16):
        out = io.BytesIO()
        method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
        image.quantize(colours, method=method, dither=dither).save(out, format="PNG", optimize=True)
        if out.tell() <= MAX_BYTES:
            break
    return out.getvalue()


def take_screenshots(folder: Path) -> list[Path]:
    """Write docs/screenshots/*.png with Debian's Chromium, from disk with the network off."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise InputError("screenshots need Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright  # an optional tool, of the extra `test`

    target, taken = project_root() / "docs" / "screenshots", []
    target.mkdir(parents=True, exist_ok=True)
    options = ["--disable-gpu", "--hide-scrollbars", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=options)
        for name, (page, scroll_to, look) in SHOTS.items():
            window = chromium.new_context(offline=True, reduced_motion="reduce", **look).new_page()
            window.goto((folder / f"{page}.html").resolve().as_uri())
            if page == "history":  # drawn by its script
                window.locator(".spans button[aria-pressed=true]").wait_for()
            if scroll_to and window.locator(scroll_to).count():
                centre = "element => element.scrollIntoView({block: 'center', behavior: 'instant'})"
                window.locator(scroll_to).first.evaluate(centre)
            taken.append(target / f"{name}.png")
            taken[-1].write_bytes(small_png(window.screenshot(animations="disabled")))
        chromium.close()
    return taken


def main(command: str) -> int:
    """Run one command on the report that the environment variable RUN names; 0, or the error's own exit code."""
    try:
        folder, record = open_report(os.environ.get("RUN") or "latest")
        for path in write_docs(folder, record) if command == "docs" else take_screenshots(folder):
            print(path)
    except CapitulationError as error:
        print(f"error: {one_line(error, 1000)}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
