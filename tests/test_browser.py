"""A whole simulated report, and explore.ipynb in the JupyterLab of `make lab`, in a real browser without a network."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

import homes
from capitulation.params import load_params
from capitulation.report.run import Options, make_report

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
ROOT = Path(__file__).resolve().parents[1]
AXE = Path(__file__).parent / "browser" / "node_modules" / "axe-core" / "axe.min.js"
PHONE, DESK = {"width": 375, "height": 800}, {"width": 1280, "height": 900}
MAX_BYTES = {"report.html": 2_500_000, "appendix.html": 7_500_000, "history.html": 1_800_000}  # else a million
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SHEET = 22 / 2.54 * 96 + 1  # CSS pixels: the most that a picture may be high on paper
SECONDS = 90


def missing(what: str) -> None:
    """Absent tools are a reason to skip at home and a failure in continuous integration."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is not installed")


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        missing("Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        yield started
        started.close()


# --- the pages ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The project's own notebooks on the simulated market with the quick profile; or a report that is named."""
    if named := os.environ.get("CAPITULATION_TEST_REPORT"):
        yield Path(named).resolve()
        return
    home = homes.make_home(tmp_path_factory.mktemp("home"))
    shutil.copytree(ROOT / "notebooks", home / "notebooks", dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPITULATION_HOME", str(home))
        few = dict.fromkeys(("n_bootstrap", "n_matched", "n_random_entries"), 100) | {"trust_repetitions": 1}
        params = load_params(ROOT / "params" / "quick.yml", {"source": "simulated", "pages": [], **few})
        yield make_report(params, "", Options(jobs=2), progress=lambda line: None)


@pytest.fixture(scope="module")
def files(report):
    return sorted(report.glob("*.html"))


@pytest.fixture
def opened(browser):
    """A function that opens a page with the network off; requests, failures and errors of all pages are kept."""
    seen, contexts = Seen([], [], []), []

    def open_page(path, **options):
        contexts.append(browser.new_context(offline=True, **({"viewport": DESK} | options)))
        return seen.watched(contexts[-1].new_page(), path)

    open_page.seen = seen
    yield open_page
    for context in contexts:
        context.close()


class Seen(NamedTuple):
    """Requests, failures and errors of the pages that are watched."""

    requests: list[str]
    failed: list[str]
    errors: list[str]

    def watched(self, page, path):
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", lambda request: self.failed.append(request.url))
        page.on("console", lambda line: self.errors.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(path.as_uri())
        return page


@pytest.fixture(scope="module")
def every(browser, files):
    """Every page opened once, by its path; each test leaves it as it was. And what was seen of them."""
    calm = {"color_scheme": "light", "reduced_motion": "reduce"}  # a page that lies behind others scrolls slowly
    context, seen = browser.new_context(offline=True, viewport=DESK, **calm), Seen([], [], [])
    yield {path: seen.watched(context.new_page(), path) for path in files}, seen
    context.close()


STRUCTURE = """() => ({
  blind: Array.from(document.images).filter(image => !image.alt.trim() || !image.naturalWidth).length,
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


def test_every_page_is_whole_small_and_in_order_from_disk(every, report):
    simulated = json.loads((report / "run.json").read_text())["market"]["simulated"]
    pages, seen = every
    assert {"index.html", *MAX_BYTES} < {path.name for path in pages}
    for path, page in pages.items():
        assert path.stat().st_size < MAX_BYTES.get(path.name, 1_000_000), path.name
        page.wait_for_function("Array.from(document.images).every(image => image.complete)")
        found = page.evaluate(STRUCTURE)
        assert found["blind"] == found["broken"] == found["tables"] == found["captions"] == 0, path.name
        levels, local = found["headings"], [x for x in found["links"] if not x.startswith(("#", "http", "mailto:"))]
        assert levels[0] == 1 and levels.count(1) == 1, path.name
        assert all(after - before <= 1 for before, after in pairwise(levels)), (path.name, levels)
        assert (found["landmarks"], found["banner"]) == ([1, 1], simulated), path.name
        assert [link for link in local if not (report / link.partition("#")[0]).exists()] == [], path.name
        assert path.name != "report.html" or not [link for link in local if link.endswith(".csv")]
    outside = [url for url in seen.requests if not url.startswith(("file:", "data:"))]
    assert (outside, seen.failed, seen.errors) == ([], [], [])


def test_contents_lead_to_their_headings_and_the_switch_opens_every_cell(every):
    shown = "name => {const box = document.getElementById(name).getBoundingClientRect();"
    shown += " return box.top >= 0 && box.top < innerHeight}"
    counts = "['', '[open]'].map(state => document.querySelectorAll('details.code' + state).length)"
    for path, page in every[0].items():
        if path.name in ("index.html", "report.html", "history.html"):
            continue
        page.bring_to_front()
        page.get_by_role("button", name="Show code").click()
        folds, unfolded = page.evaluate(counts)
        assert folds == unfolded > 0, path.name
        page.get_by_role("button", name="Hide code").click()
        assert page.evaluate(counts)[1] == 0, path.name
        if last := page.locator(".toc a").all()[-1:]:
            name = last[0].get_attribute("href")[1:]
            last[0].click()
            homes.wait_until(partial(page.evaluate, shown, name), what=f"{path.name} does not lead to {name}")


def test_a_table_sorts_by_number_both_ways_and_the_keyboard_starts_with_the_skip_link(report, opened):
    page = opened(report / "index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    values = "Array.from(document.querySelectorAll('.definitions tbody tr')).map(r => Number(r.cells[1].dataset.value))"
    button = page.locator(".definitions thead th").nth(1).get_by_role("button")
    button.click()
    up = page.evaluate(values)
    button.click()
    assert up == sorted(up) and page.evaluate(values) == sorted(up, reverse=True)


def test_three_questions_are_answered_on_the_first_screen(report, opened):
    """And the fourth; of a simulated market too, whose banner stands above."""
    in_view = "Array.from(document.querySelectorAll('.answers section')).map(section => {"
    in_view += "const box = section.getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight"
    in_view += " && section.querySelector('p').innerText.length > 40})"
    for window in ({"width": 1280, "height": 800}, {"width": 375, "height": 812}):
        for name in ("index", "report"):
            shown = opened(report / f"{name}.html", viewport=window).evaluate(in_view)
            assert len(shown) >= 3 and all(shown[:3]), (name, window, shown)


TEXT_SIZES = """() => {
  const sizes = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (walker.currentNode.data.trim() && element.checkVisibility() && !element.closest('.sr, script, style')) {
      sizes.push(parseFloat(getComputedStyle(element).fontSize));
    }
  }
  for (const image of document.querySelectorAll('picture img')) {  // drawn for 346 px, with text of 8.5 pt and more
    if (image.checkVisibility()) { sizes.push(8.5 * 96 / 72 * image.width / (image.naturalWidth / 2)); }
  }
  return Math.min(...sizes);
}"""


def test_no_table_is_wider_than_its_column_and_no_text_too_small_on_a_phone(every, browser):
    over = "() => { const folds = document.querySelectorAll('details:not([open])');"
    over += " folds.forEach(fold => { fold.open = true });"
    over += " const boxes = Array.from(document.querySelectorAll('.table-scroll'), box => ["
    over += " box.scrollWidth - box.clientWidth, box.getAttribute('aria-label')]);"
    over += " folds.forEach(fold => { fold.open = false }); return boxes.filter(([more]) => more > 0) }"
    phone = browser.new_context(offline=True, viewport=PHONE)
    for path, page in every[0].items():
        assert page.evaluate(over) == [], path.name
        small = phone.new_page()
        small.goto(path.as_uri())
        assert small.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path.name
        assert small.evaluate(TEXT_SIZES) >= 11, path.name
        small.close()
    phone.close()


def test_the_readers_report_has_fifteen_sheets_at_most_and_any_page_can_be_printed(every, report, tmp_path):
    for page in every[0].values():
        page.emulate_media(media="print")
        assert page.evaluate("Math.max(0, ...Array.from(document.images).map(image => image.height))") <= SHEET
        page.emulate_media(media="null")
    every[0][report / "report.html"].pdf(path=str(tmp_path / "report.pdf"), format="A4")
    printed = (tmp_path / "report.pdf").read_bytes()
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", printed)) <= 15 and len(printed) > 10_000


def test_without_a_script_a_page_can_be_read(files, opened):
    assert opened(files[-1], java_script_enabled=False).locator("main").count() == 1


COLOURS = "[document.documentElement, document.body].map(part => getComputedStyle(part).backgroundColor)"
FOUND = """options => axe.run(document, {resultTypes: ['violations'], ...options})
  .then(result => result.violations.map(item => [item.impact, item.id, item.nodes[0].html.slice(0, 120)]))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_accessibility_violation(every, scheme):
    """In the dark colours alone are other ones; of the appendix, what does not stand on the single pages as well."""
    if not AXE.is_file():
        missing("axe-core (npm install in tests/browser)")
    for path, page in every[0].items():
        page.bring_to_front()
        light = page.evaluate(COLOURS)
        page.emulate_media(color_scheme=scheme)
        assert (page.evaluate(COLOURS) == light) == (scheme == "light"), path.name
        page.evaluate(AXE.read_text(encoding="utf-8"))
        if path.name == "appendix.html":
            page.evaluate("document.querySelectorAll('article > :not(header)').forEach(part => part.remove())")
        found = page.evaluate(FOUND, {"runOnly": ["color-contrast"]} if scheme == "dark" else {})
        page.emulate_media(color_scheme="light")
        if path.name == "appendix.html":
            page.reload()
        assert [item for item in found if item[0] in ("serious", "critical")] == [], path.name


# --- JupyterLab -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The command of `make lab` without opening the user's browser: its process, address and token, and its folder."""
    home = homes.tiny_home(tmp_path_factory.mktemp("lab"))
    text = (ROOT / "notebooks" / "explore.ipynb").read_text()
    (home / "notebooks" / "explore.ipynb").write_text(text.replace('data = \\"\\"', 'data = \\"../btc.csv\\"', 1))
    shutil.copytree(ROOT / "params", home / "params", dirs_exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "CAPITULATION_"))}
    folders = {f"JUPYTER_{name}_DIR": str(home / ".jupyter" / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = kept | folders | {"CAPITULATION_HOME": str(home), "IPYTHONDIR": str(home / ".jupyter" / "ipython")}
    command = [sys.executable, "-m", "capitulation", "lab", "--no-browser", "--port=0"]
    with (home / "lab.log").open("wb") as log:
        started = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home)
    try:

        def record():
            assert started.poll() is None, (home / "lab.log").read_text()
            found = list(Path(folders["JUPYTER_RUNTIME_DIR"]).glob("jpserver-*.json"))
            return found and found[0].read_text().endswith("}") and found[0]

        homes.wait_until(record, SECONDS)
        facts = json.loads(record().read_text())
        homes.wait_until(lambda: ask(facts, "api")[0] == 200, SECONDS)
        yield started, facts, home
    finally:
        for process in [*psutil.Process(started.pid).children(recursive=True)] if started.poll() is None else []:
            process.kill()
        started.kill()
        started.wait()


def ask(facts: dict, path: str, token: str = "") -> tuple[int, str, str]:
    """Status, path after redirects and body of an answer of the server; 0 where it does not answer yet."""
    head = {"Authorization": f"token {token}"} if token else {}
    try:
        answer = httpx.get(facts["url"] + path, headers=head, follow_redirects=True, timeout=SECONDS, trust_env=False)
    except httpx.TransportError:
        return 0, "", ""
    return answer.status_code, answer.url.path, answer.text


def connected(facts: dict) -> bool:
    """Whether there is one kernel with a page connected, and it has nothing to do."""
    status, _path, kernels = ask(facts, "api/kernels", facts["token"])
    known = json.loads(kernels) if status == 200 else []  # while a kernel is replaced the server may answer an error
    return [(kernel["execution_state"], kernel["connections"]) for kernel in known] == [("idle", 1)]


def test_nobody_enters_without_the_token_and_nothing_outside_is_served(lab):
    _process, facts, _home = lab
    assert len(facts["token"]) >= 32
    for path in ("api/contents", "api/contents/notebooks/explore.ipynb", "api/kernels", "lab"):
        for token in ("", "0" * len(facts["token"])):
            status, place, _body = ask(facts, path, token)
            assert status == 403 or place == "/login", path
    names = [item["name"] for item in json.loads(ask(facts, "api/contents", facts["token"])[2])["content"]]
    assert {"notebooks", "params", "reports"} <= set(names)
    assert ask(facts, "api/contents/%2e%2e/lab.log", facts["token"])[0] in (403, 404)


def test_lab_asks_nobody_for_news_or_updates(lab):
    _process, facts, _home = lab
    page = ask(facts, "lab", facts["token"])[2]
    settings = json.loads(re.search(r'<script id="jupyter-config-data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    assert settings["news"] == {"disabled": True}
    plugin = "lab/api/settings/@jupyterlab/apputils-extension:notification"
    assert json.loads(ask(facts, plugin, facts["token"])[2])["schema"]["properties"]["fetchNews"]["default"] == "false"


def test_explore_runs_and_a_slider_changes_the_figure(lab, browser):
    process, facts, _home = lab
    context, requests = browser.new_context(viewport=DESK), []
    context.set_default_timeout(SECONDS * 1000)
    context.route(re.compile(r"^(?!https?://127\.0\.0\.1[:/])"), lambda route: route.abort())
    page = context.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{facts['url']}?token={facts['token']}")
    page.locator(".jp-DirListing-item[title*='explore.ipynb']").first.dblclick()  # the notebooks are at hand
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    homes.wait_until(lambda: connected(facts), SECONDS)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for()
    assert page.get_by_text("Would you like to").count() == 0, "no prompt about news"
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    picture = page.locator(".widget-interact img").first
    picture.wait_for(state="attached")
    homes.wait_until(lambda: connected(facts), SECONDS)
    first = picture.get_attribute("src")
    slider = page.locator(".widget-inline-hbox:has-text('fast_days')")
    slider.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    homes.wait_until(lambda: picture.get_attribute("src") != first, SECONDS)
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    assert {urlsplit(url).hostname for url in requests} <= {"127.0.0.1", None}
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    listening = {c.laddr.ip for one in family for c in one.net_connections() if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"}
    context.close()
    process.send_signal(signal.SIGTERM)
    assert psutil.wait_procs(family, timeout=30)[1] == []
