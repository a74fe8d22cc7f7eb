"""A whole simulated report in a real browser, opened from disk with the network off."""

from __future__ import annotations

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from report_help import make_home

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
REPOSITORY = Path(__file__).resolve().parents[1]
AXE = Path(__file__).parent / "browser" / "node_modules" / "axe-core" / "axe.min.js"
PHONE, DESK = {"width": 375, "height": 800}, {"width": 1280, "height": 900}
MAX_PAGE_BYTES, MAX_REPORT_BYTES = 1_000_000, 6_000_000
SERIOUS = {"serious", "critical"}
IN_CI = bool(os.environ.get("CI"))


def missing(what: str) -> None:
    """Absent tools are a reason to skip at home and a failure in continuous integration."""
    (pytest.fail if IN_CI else pytest.skip)(f"{what} is not installed")


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        missing("Chromium")
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=options)
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The project's own notebooks on the simulated market with the quick profile; or a report that is named."""
    if named := os.environ.get("CAPITULATION_TEST_REPORT"):
        yield Path(named).resolve()
        return
    from capitulation.params import load_params
    from capitulation.report.run import make_report

    home = make_home(tmp_path_factory.mktemp("home"), with_notebooks=False)
    (home / "notebooks").rmdir()
    (home / "notebooks").symlink_to(REPOSITORY / "notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPITULATION_HOME", str(home))
        params = load_params(REPOSITORY / "params" / "quick.yml", {"source": "simulated"})
        yield make_report(params, "", jobs=2, progress=lambda line: None)


@pytest.fixture(scope="module")
def files(report):
    return sorted(report.glob("*.html"))


@pytest.fixture
def opened(browser):
    """A function that opens a page with the network off; requests, failures and errors of all pages are kept."""
    seen = {"requests": [], "failed": [], "errors": []}
    contexts = []

    def open_page(path, **options):
        context = browser.new_context(offline=True, **({"viewport": DESK} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: seen["requests"].append(request.url))
        page.on("requestfailed", lambda request: seen["failed"].append(request.url))
        page.on("console", lambda line: seen["errors"].append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: seen["errors"].append(str(error)))
        page.goto(path.as_uri())
        return page

    open_page.seen = seen
    yield open_page
    for context in contexts:
        context.close()


def test_every_page_loads_whole_from_disk(files, opened):
    assert {"index.html", "report.html"} < {path.name for path in files}
    for path in files:
        page = opened(path)
        page.wait_for_function("Array.from(document.images).every(image => image.complete)")
        assert page.evaluate("Array.from(document.images).filter(image => !image.naturalWidth).length") == 0, path.name
    outside = [url for url in opened.seen["requests"] if not url.startswith(("file:", "data:"))]
    assert (outside, opened.seen["failed"], opened.seen["errors"]) == ([], [], [])


def test_pages_are_small(files):
    for path in files:
        assert path.stat().st_size < (MAX_REPORT_BYTES if path.name == "report.html" else MAX_PAGE_BYTES), path.name


STRUCTURE = """() => ({
  images: document.images.length,
  withoutAlt: Array.from(document.images).filter(image => !image.alt.trim()).length,
  headings: Array.from(document.querySelectorAll('h1,h2,h3,h4,h5,h6')).map(heading => Number(heading.tagName[1])),
  landmarks: ['main', 'footer'].map(name => document.querySelectorAll(name).length),
  broken: Array.from(document.querySelectorAll('a[href^="#"]'))
    .filter(link => !document.getElementById(link.hash.slice(1))).length,
  tables: Array.from(document.querySelectorAll('table.data:not(.plain)'))
    .filter(table => !table.caption || !table.querySelector('th[scope=col]')).length,
  captions: Array.from(document.querySelectorAll('figure'))
    .filter(figure => !figure.querySelector('figcaption')).length,
  banner: document.body.innerText.includes('Simulated market'),
  links: Array.from(document.querySelectorAll('a[href]')).map(a => a.getAttribute('href')),
})"""


def test_structure_of_every_page(files, report, opened):
    simulated = json.loads((report / "run.json").read_text())["market"]["simulated"]
    for path in files:
        found = opened(path).evaluate(STRUCTURE)
        assert found["withoutAlt"] == found["broken"] == found["tables"] == found["captions"] == 0, path.name
        levels = found["headings"]
        assert levels[0] == 1, path.name
        assert levels.count(1) == 1, path.name
        assert all(after - before <= 1 for before, after in pairwise(levels)), (path.name, levels)
        assert found["landmarks"] == [1, 1], path.name
        assert found["banner"] == simulated, path.name
        local = [link for link in found["links"] if not link.startswith(("#", "http", "mailto:"))]
        assert [link for link in local if not (report / link.partition("#")[0]).exists()] == [], path.name
    assert not [link for link in opened(report / "report.html").evaluate(STRUCTURE)["links"] if link.endswith(".csv")]


def test_contents_lead_to_their_headings(files, opened):
    for path in files:
        page = opened(path)
        links = page.locator(".toc a")
        if links.count() == 0:
            continue
        last = links.nth(links.count() - 1)
        name = last.get_attribute("href")[1:]
        last.click()
        page.wait_for_function(
            "name => { const box = document.getElementById(name).getBoundingClientRect();"
            " return box.top >= 0 && box.top < innerHeight }",
            arg=name,
        )


def test_code_switch_opens_and_closes_every_cell(files, opened):
    folds = "document.querySelectorAll('details.code').length"
    unfolded = "document.querySelectorAll('details.code[open]').length"
    for path in files:
        if path.name == "index.html":
            continue
        page = opened(path)
        switch = page.get_by_role("button", name="Show code")
        assert page.evaluate(unfolded) == 0
        switch.click()
        assert page.evaluate(unfolded) == page.evaluate(folds) > 0, path.name
        page.get_by_role("button", name="Hide code").click()
        assert page.evaluate(unfolded) == 0, path.name


def test_table_sorts_by_number_both_ways(report, opened):
    page = opened(report / "index.html")
    values = "Array.from(document.querySelectorAll('.definitions tbody tr')).map(r => Number(r.cells[1].dataset.value))"
    button = page.locator(".definitions thead th").nth(1).get_by_role("button")
    button.click()
    up = page.evaluate(values)
    button.click()
    assert up == sorted(up)
    assert page.evaluate(values) == sorted(up, reverse=True)


def test_light_and_dark_differ_and_code_reads_without_script(report, files, browser, opened):
    for path in files:
        shots = [opened(path, color_scheme=scheme).screenshot() for scheme in ("light", "dark")]
        assert shots[0] != shots[1], path.name
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((report / "index.html").as_uri())
    assert page.locator("table.data").count() > 0
    context.close()


def test_no_sideways_scrolling_on_a_phone(files, opened):
    for path in files:
        page = opened(path, viewport=PHONE)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path.name


def test_reading_by_keyboard_starts_with_the_skip_link(report, opened):
    page = opened(report / "index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_accessibility_violation(files, browser, scheme):
    if not AXE.is_file():
        missing("axe-core (npm install in tests/browser)")
    context = browser.new_context(color_scheme=scheme, offline=True, viewport=DESK, bypass_csp=True)
    page = context.new_page()
    for path in files:
        page.goto(path.as_uri())
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(result => result.violations)")
        bad = [(item["id"], item["nodes"][0]["html"][:120]) for item in found if item["impact"] in SERIOUS]
        assert bad == [], path.name
    context.close()


def test_every_page_prints_without_cutting_a_figure(files, opened, tmp_path):
    for path in files:
        page = opened(path)
        page.emulate_media(media="print")
        tallest = page.evaluate("Math.max(0, ...Array.from(document.images).map(image => image.height))")
        assert tallest <= 22 / 2.54 * 96 + 1, path.name
        rules = page.evaluate(
            "Array.from(document.querySelectorAll('figure')).every(f => getComputedStyle(f).breakInside === 'avoid')"
        )
        assert rules, path.name
    opened(files[0]).pdf(path=str(tmp_path / "page.pdf"))
    assert (tmp_path / "page.pdf").stat().st_size > 10_000
