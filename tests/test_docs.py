"""The repository's own pages: written from a published report, true to the code, linked, no markup from data."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import homes
from capitulation.errors import InputError, ReportError
from capitulation.params import Params
from capitulation.report.run import open_report
from homes import OPEN, small_market, write_notebook

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"!?\[(?:[^\]\\]|\\.)*\]\(([^)\s]+)\)")
HOSTILE = "<script>alert(1)</script> | [x](javascript:y) `z`"
REGIONS = ("finding", "parameters", "sources")
README = "".join(f"<!-- generated:{name} -->\nold\n<!-- end:{name} -->\n" for name in REGIONS)
SHOW = f"""{OPEN}
import pandas as pd
page.finding({HOSTILE!r})
page.note('A note of 5 %.')
page.table(pd.DataFrame({{'what': [{HOSTILE!r}] * 20, 'n': range(20)}}), 'things', {HOSTILE!r})
from matplotlib.figure import Figure
page.figure(Figure(), 'empty', 'A caption.', alt={HOSTILE!r})
"""


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(homes.make_home(tmp_path)))
    (tmp_path / "README.md").write_text(README)
    write_notebook(tmp_path, "10-show-things", "# Things", SHOW)
    return tmp_path


def test_pages_show_what_the_notebooks_showed_as_text(home, build):
    homes.report("real", market=small_market(attribution=HOSTILE))
    written = build.write_docs(*open_report("real"))
    page = (home / "docs" / "results" / "README.md").read_text()
    assert "## Things" in page and "A note of 5 %." in page and (home / "docs" / "results" / "empty.png").is_file()
    assert "The first 15 of 20 rows." in page
    assert "<script" not in page.replace("\\<script", "") and "](javascript" not in page.replace("\\](javascript", "")
    for table in re.findall(r"(?:^\|.*\n?)+", page, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().splitlines()}) == 1
    readme = (home / "README.md").read_text()
    assert build.parameters() in readme and "generated:finding -->\nold" in readme, "no primary test, no new finding"
    before = {path: path.read_bytes() for path in written}
    build.write_docs(*open_report("real"))
    assert {path: path.read_bytes() for path in written} == before


def test_a_simulated_report_and_a_readme_without_marks_change_nothing(home, build):
    homes.report(market=small_market(simulated=True))
    with pytest.raises(InputError, match="simulated"):
        build.write_docs(*open_report("simulated"))
    homes.report("real")
    (home / "README.md").write_text("# Mine\n")
    with pytest.raises(ReportError, match="generated:parameters"):
        build.write_docs(*open_report("real"))
    assert (home / "README.md").read_text() == "# Mine\n" and not (home / "docs").exists()


def test_generated_pages_are_current_and_name_everything(build):
    assert (ROOT / "docs" / "codebook.md").read_text() == build.codebook_page() + "\n", "run make docs"
    assert (ROOT / "docs" / "api.md").read_text() == build.api_page() + "\n", "run make docs"
    assert build.parameters() in (ROOT / "README.md").read_text(), "run make docs"
    assert build.sources() in (ROOT / "README.md").read_text(), "run make docs"
    assert all(f"| `{name}` |" in build.parameters() for name in Params.model_fields)


def test_commands_options_and_notebooks_stand_in_the_readme():
    makefile, readme = (ROOT / "Makefile").read_text(), (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, flags=re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert named <= targets and targets - {"help"} <= set(re.findall(r"`make ([a-z-]+)", readme))
    options = re.search(r"^export ((?:[A-Z_]+ ?)+)$", makefile, flags=re.MULTILINE)[1].split()
    assert [name for name in options if not re.search(rf"\b{name}\b", readme)] == []
    assert [path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb") if path.stem not in readme] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_repository_resolve_and_no_machine_is_named(path):
    text = path.read_text()
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users)/", text)
    for target in [found[1] for found in LINK.finditer(text) if "://" not in found[1]]:
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        assert place.exists(), target
        headings = re.findall(r"^#+ (.+)$", place.read_text(), flags=re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def test_screenshots_fit_and_without_chromium_say_what_to_install(build, tmp_path, monkeypatch):
    noise = homes.np.random.default_rng(1).integers(0, 255, (420, 420, 3), dtype="uint8")
    out = build.io.BytesIO()
    build.Image.fromarray(noise).save(out, format="PNG")
    assert len(build.small_png(out.getvalue())) <= build.MAX_BYTES < len(out.getvalue())
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="apt-get install chromium"):
        build.take_screenshots(tmp_path)
