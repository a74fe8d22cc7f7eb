"""The repository's own pages, written from a published report: docs/results, docs/codebook.md, parts of the README."""

from __future__ import annotations

import shutil
from pathlib import Path

from capitulation.errors import InputError
from capitulation.params import make_params
from capitulation.paths import project_root
from capitulation.report.codebook import codebook, parameters_table
from capitulation.report.markdown import replace_region
from capitulation.report.publish import open_report
from capitulation.report.record import RUN_FILE, read_json
from capitulation.report.results import Published, finding_region, key_pictures, results_page

PAGES = {
    "docs/methodology.md": "every definition and test with formula, paper and reason",
    "docs/codebook.md": "every variable, table, parameter and unit",
    "docs/results/README.md": "all results on real data",
    "docs/reliability.md": "faults tried, and what became of each",
    "docs/scaling.md": "what a sweep costs, and past one machine",
    "benchmarks/results.md": "speed, measured beside the suite's peers",
}


def read_published(run: str) -> Published:
    """The published report `run`; `InputError` where there is none or where its market is simulated."""
    folder = open_report(run)
    facts = read_json(folder / RUN_FILE, {})
    if not {"market", "parameters", "notebooks"} <= set(facts):
        raise InputError(f"RUN={run}: its run.json is damaged; make the report again")
    if facts["market"]["simulated"]:
        raise InputError(f"RUN={run}: its market is simulated; docs show real data, name a report made from them")
    return Published(folder, facts, make_params(facts["parameters"], f"reports/{run}/run.json"))


def write_docs(run: str) -> list[Path]:
    """Write docs/results/, docs/codebook.md and the generated parts of README.md from the report `run`.

    Gives the files written. The same report gives the same bytes; what an older report left in docs/results is
    removed. Tables and figures that the report lacks are left out. `InputError` for a simulated or missing report,
    `ReportError` where the README lacks the marks of a generated part.
    """
    published, root = read_published(run), project_root()
    readme = _readme(published, root / "README.md")
    results = root / "docs" / "results"
    results.mkdir(parents=True, exist_ok=True)
    for old in results.glob("*.png"):
        old.unlink()
    pictures = [results / picture.path.name for picture in key_pictures(published)]
    for picture in key_pictures(published):
        shutil.copyfile(picture.path, results / picture.path.name)
    pages = {
        results / "README.md": results_page(published),
        root / "docs" / "codebook.md": codebook(),
        root / "README.md": readme,
    }
    for path, page in pages.items():
        path.write_text(page.rstrip("\n") + "\n", encoding="utf-8")
    return [*pages, *pictures]


def _readme(published: Published, path: Path) -> str:
    """The README with its generated parts renewed; a run without a primary test leaves the finding as it was."""
    page = replace_region(path.read_text(encoding="utf-8"), "parameters", parameters_table())
    page = replace_region(page, "pages", pages_list(path.parent))
    finding = finding_region(published)
    return replace_region(page, "finding", finding) if finding else page


def pages_list(root: Path) -> str:
    """Links to the further pages, those that are there or that are being written."""
    written = {"docs/codebook.md", "docs/results/README.md"}
    return "\n".join(
        f"- [{name}]({name}): {what}" for name, what in PAGES.items() if name in written or (root / name).is_file()
    )
