"""The repository's own pages: written from a published report, the same twice, true to the code, and linked."""

from __future__ import annotations

import base64
import doctest
import io
import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from capitulation import contract
from capitulation.cli import main
from capitulation.data.panel import PANEL_COLUMNS
from capitulation.errors import InputError, ReportError
from capitulation.params import ANCHORS, DEFINITIONS, Params, changed_from_default
from capitulation.report import codebook, markdown, screenshots
from capitulation.report.docs import write_docs
from capitulation.tables import write_csv

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = "<script>alert(1)</script> | [x](javascript:y) `z`"
HEADLINE = {
    "as_of": "2026-03-22",
    "sentences": ["One.", "Two. Three."],
    "p_column": "p_rotation",
    "primary": {"n_events": 31},
}
BY_UNIT = {"ISO day": "2020-01-01", "true/false": True, "year": 2020, "text": "words", "name": "words", "number": 1}
LINK = re.compile(r"!?\[(?:[^\]\\]|\\.)*\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")


def contract_table(name: str, **columns) -> pd.DataFrame:
    """A table with the contract's columns: one row per value given, plausible values elsewhere."""
    rows = len(next(iter(columns.values())))
    data = {
        column.name: columns.get(column.name, [BY_UNIT.get(column.unit, 0.25)] * rows)
        for column in contract.TABLES[name].columns
    }
    return pd.DataFrame(data)


def all_tables(params: Params) -> dict[str, pd.DataFrame]:
    keys = [(d, a, h) for d in DEFINITIONS for a in ANCHORS for h in params.horizons_days]
    definition, anchor, horizon = map(list, zip(*keys, strict=True))
    counts = {"n_events": [31] * len(keys), "n_clusters": [14] * len(keys)}
    returns = contract_table("forward_returns", definition=definition, anchor=anchor, horizon_days=horizon, **counts)
    return {
        "episodes": contract_table("episodes", definition=["hash_ribbons"] * 12, episode=list(range(1, 13))),
        "forward_returns": returns,
        "backtest": contract_table("backtest", strategy=["buy_and_hold", "hash_ribbons_recovery_hold_90d"]),
        "claims": contract_table("claims", id=[1, 2], claim=["plain", HOSTILE]),
    }


def executed_notebook(title: str, figures: list[str]) -> dict:
    picture = {"image/png": "", "text/plain": ""}
    facts = [{"name": name, "alt": f"Alt of {name}", "caption": "Why [it] matters."} for name in figures]
    outputs = [{"output_type": "display_data", "data": picture, "metadata": {"image/png": fact}} for fact in facts]
    outputs.append({"output_type": "display_data", "data": {"text/html": ["<p>A note."], "text/plain": ["A note."]}})
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": [f"# {title}\n", "Prose."]},
        {"cell_type": "code", "metadata": {}, "source": "", "execution_count": 1, "outputs": outputs},
    ]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def publish(home: Path, run: str, tables: dict[str, pd.DataFrame], figures: list[str], headline=True, **market) -> Path:
    """A published report in `home`, as small as the docs can take it."""
    folder, name = home / "reports" / run, "30-measure-forward-returns"
    for part in ("tables", "figures", "notebooks", "findings"):
        (folder / part).mkdir(parents=True)
    for table, frame in tables.items():
        write_csv(frame, table, folder / "tables")
    for figure in figures:
        (folder / "figures" / f"{figure}.png").write_bytes(PIXEL)
    notebook = executed_notebook("What did BTC do?", [*figures, "absent"])
    (folder / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook))
    (folder / "findings" / f"{name}.json").write_text(json.dumps({"notebook": name, "finding": f"It rose. {HOSTILE}"}))
    if headline:
        (folder / "headline.json").write_text(json.dumps(HEADLINE))
    params = Params(data="somewhere/private/btc.csv", n_bootstrap=500)
    facts = {
        "run": run,
        "parameters": params.model_dump(mode="json"),
        "changed": changed_from_default(params),
        "market": {
            "source": "file", "simulated": False, "retrieved_at": "", "snapshot": "sha256:0", "digest": "0" * 64,
            "licence": "as its provider's", "attribution": "local file btc.csv", "age_days": None, "notes": [],
            "first_day": "2009-01-03", "last_day": "2026-03-22", "n_days": 6288,
        } | market,
        "notebooks": [{"name": name, "files": [f"tables/{table}.csv" for table in tables]}],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    shutil.copy(ROOT / "README.md", tmp_path / "README.md")
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path))
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    paths = [folder / "README.md", *(folder / "docs").rglob("*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


def outside_regions(page: str) -> str:
    return re.sub(r"(<!-- generated:(\w+) -->).*?(<!-- end:\2 -->)", r"\1\3", page, flags=re.DOTALL)


def test_docs_are_the_same_when_written_twice_and_keep_what_people_wrote(home):
    publish(home, "real", all_tables(Params()), ["returns_by_horizon", "event_paths"])
    before = (home / "README.md").read_text()
    written = write_docs("real")
    first = contents(home)
    (home / "docs" / "results" / "old.png").write_bytes(PIXEL)
    assert write_docs("real") == written
    assert contents(home) == first
    assert {str(path.relative_to(home)) for path in written} == set(first)
    assert outside_regions(first["README.md"].decode()) == outside_regions(before)


def test_readme_opens_with_the_dated_finding_its_figure_and_its_table(home):
    publish(home, "real", all_tables(Params()), ["event_paths", "returns_by_horizon"])
    write_docs("real")
    region = (home / "README.md").read_text().split("<!-- generated:finding -->")[1].split("<!-- end:finding -->")[0]
    assert "As of 2026-03-22" in region and "One. Two. Three." in region
    assert re.search(
        r'<img src="docs/results/returns_by_horizon.png" width="\d+" alt="Alt of returns_by_horizon">', region
    )
    rows = [line for line in region.splitlines() if line.startswith("| ") and "31 (14)" in line]
    assert [int(row.split("|")[1]) for row in rows] == Params().horizons_days
    assert "95 % interval" in region and "CC BY-NC 4.0" in region


def test_the_p_value_that_the_headline_rests_on_stands_in_every_study_table(home):
    tables = all_tables(Params())
    tables["forward_returns"]["p_rotation_own_era"] = 0.4321
    folder = publish(home, "real", tables, [])
    (folder / "headline.json").write_text(json.dumps(HEADLINE | {"p_column": "p_rotation_own_era"}))
    write_docs("real")
    assert (home / "README.md").read_text().count("| 0.432 |") == len(Params().horizons_days)
    n_rows = len(ANCHORS) * len(Params().horizons_days) + len(DEFINITIONS)
    assert (home / "docs" / "results" / "README.md").read_text().count("| 0.432 |") == n_rows


def test_results_hold_tables_verdicts_and_the_parameters_that_differ(home):
    publish(home, "real", all_tables(Params()), ["returns_by_horizon"])
    write_docs("real")
    page = (home / "docs" / "results" / "README.md").read_text()
    assert "as of 2026-03-22" in page and "| n\\_bootstrap | 2000 | 500 |" in page
    assert "btc.csv" in page and "somewhere" not in page
    assert "The last 10 of 12 inversions" in page
    assert page.count("| Hash Ribbons |") == 1 and "verdict" in page
    assert "\n- A note.\n" in page and "absent" not in page


def test_hostile_text_stays_text(home):
    publish(home, "real", all_tables(Params()), [])
    write_docs("real")
    page = (home / "docs" / "results" / "README.md").read_text()
    assert "<script" not in page.replace("\\<script", "")
    assert "](javascript" not in page.replace("\\](javascript", "")
    for table in re.findall(r"(?:^\|.*\n?)+", page, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().splitlines()}) == 1


def test_what_a_report_lacks_is_left_out_and_an_old_finding_stays(home):
    publish(home, "real", {}, [], headline=False)
    before = (home / "README.md").read_text()
    write_docs("real")
    after = (home / "README.md").read_text()
    finding = re.compile(r"<!-- generated:finding -->.*<!-- end:finding -->", re.DOTALL)
    assert finding.search(after)[0] == finding.search(before)[0]
    assert codebook.parameters_table() in after


def test_a_simulated_report_is_refused_in_one_line_and_nothing_changes(home, capsys):
    publish(home, "simulated", all_tables(Params()), [], simulated=True)
    before = contents(home)
    with pytest.raises(InputError, match="simulated"):
        write_docs("simulated")
    assert main(["docs", "--run", "simulated"]) == InputError.exit_code
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert contents(home) == before


def test_a_readme_without_its_marks_is_not_overwritten(home):
    publish(home, "real", all_tables(Params()), [])
    (home / "README.md").write_text("# Mine\n")
    with pytest.raises(ReportError, match="generated:parameters"):
        write_docs("real")
    assert contents(home) == {"README.md": b"# Mine\n"}


@pytest.mark.parametrize("page", ["<!-- end:x --><!-- generated:x -->", "<!-- generated:x -->", "<!-- end:x -->", ""])
def test_a_region_needs_both_marks_in_order(page):
    with pytest.raises(ReportError):
        markdown.replace_region(page, "x", "new")


def test_every_make_target_is_documented_and_every_documented_one_exists():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set()
    for page in PAGES:
        named |= set(re.findall(r"`make ([a-z-]+)", page.read_text()))
    assert named <= targets
    assert targets - {"help"} <= set(re.findall(r"`make ([a-z-]+)", (ROOT / "README.md").read_text()))


def test_every_option_of_a_report_is_documented():
    exported = re.search(r"^export ((?:[A-Z_]+ ?)+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[1].split()
    readme = (ROOT / "README.md").read_text()
    assert [name for name in exported if not re.search(rf"\b{name}\b", readme)] == []


def test_every_parameter_is_documented_with_default_and_unit():
    table = codebook.parameters().set_index("parameter")
    assert list(table.index) == list(Params.model_fields)
    assert (table[["unit", "allowed", "meaning"]].map(len) > 0).all(axis=None)
    for name, value in Params().model_dump().items():
        assert table.loc[name, "default"] == (str(value) if value != "" else "(empty)")
        assert f"| `{name}` |" in codebook.codebook()


def test_generated_parts_of_the_readme_and_the_codebook_are_current():
    assert codebook.parameters_table() in (ROOT / "README.md").read_text(), "run make docs"
    assert (ROOT / "docs" / "codebook.md").read_text() == codebook.codebook() + "\n", "run make docs"


def test_codebook_names_every_column_and_state_key(simulated_panel):
    from capitulation.study.present import present_state

    page = codebook.codebook()
    assert tuple(codebook.PANEL) == PANEL_COLUMNS
    for table in contract.TABLES.values():
        assert f"### {table.name}.csv" in page
        assert all(f"| `{column.name}` |" in page for column in table.columns)
    keys = present_state(simulated_panel.tail(900), Params()).keys()
    assert {key for key in keys if not key.startswith("recovery_odds")} <= set(codebook.STATE)
    assert set(codebook.STATE) <= set(keys)


def test_exit_codes_of_the_readme_are_those_of_the_code():
    from capitulation import errors
    from capitulation.study.present_text import EXIT_CODES

    readme = (ROOT / "README.md").read_text()
    for state, code in EXIT_CODES.items():
        assert re.search(rf"^\| {code} \| {state}", readme, flags=re.MULTILINE)
    names = ("CapitulationError", "InputError", "DataError", "SourceUnavailable", "ReportError")
    kinds = [getattr(errors, name) for name in names]
    line = re.search(r"Other codes are errors.*?\n\n", readme, flags=re.DOTALL)[0]
    assert [int(code) for code in re.findall(r"\b(\d) ", line)] == [kind.exit_code for kind in kinds]


def test_every_notebook_stands_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    names = [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))]
    assert [name for name in names if f"| {name} |" not in readme] == []


def slugs(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_repository_resolve(path):
    text = path.read_text()
    for match in LINK.finditer(text):
        target = match[1] or match[2]
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        assert place.exists(), f"{path.name}: {target}"
        if anchor:
            assert anchor in slugs(place.read_text()), f"{path.name}: {target}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_name_no_folder_of_a_machine(path):
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users)/", path.read_text())


def test_screenshots_without_chromium_say_what_to_install(home, monkeypatch, capsys):
    publish(home, "real", {}, [])
    monkeypatch.setattr(screenshots.shutil, "which", lambda name: None)
    assert main(["screenshots", "--run", "real"]) == InputError.exit_code
    error = capsys.readouterr().err
    assert "apt-get install chromium" in error and len(error.splitlines()) == 1
    assert not (home / "docs").exists()


def test_a_picture_gives_up_colours_rather_than_grow():
    from PIL import Image

    def noise(size):
        out = io.BytesIO()
        Image.effect_noise((size, size), 90).convert("RGB").save(out, format="PNG")
        return out.getvalue()

    small = screenshots.small_png(noise(420))
    assert len(small) <= screenshots.MAX_BYTES < len(noise(420))
    with pytest.raises(ReportError, match="stays above"):
        screenshots.small_png(noise(1200))
    assert Image.open(io.BytesIO(small)).size == (420, 420)


@pytest.mark.browser
def test_screenshots_show_light_dark_and_phone(home):
    if not any(shutil.which(name) for name in screenshots.BROWSERS):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Chromium is not installed")
    from PIL import Image

    folder = publish(home, "real", {}, [])
    style = "<style>body{background:#fff}@media(prefers-color-scheme:dark){body{background:#000}}</style>"
    for name in ("index", "30-measure-forward-returns"):
        (folder / f"{name}.html").write_text(f"<!doctype html><title>{name}</title>{style}<h1>{name}</h1>")
    pictures = {path.stem: Image.open(path).convert("L") for path in screenshots.take_screenshots("real")}
    assert set(pictures) == {"index", "page-light", "page-dark", "page-phone"}
    corner = {name: picture.getpixel((5, picture.height - 5)) for name, picture in pictures.items()}
    assert corner["page-light"] == corner["page-phone"] == 255 and corner["page-dark"] == 0
    assert pictures["page-phone"].width == 2 * 375


@pytest.mark.parametrize("module", [markdown, codebook])
def test_examples_in_docstrings_hold(module):
    result = doctest.testmod(module)
    assert result.attempted and not result.failed
