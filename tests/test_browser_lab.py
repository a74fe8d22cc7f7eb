"""explore.ipynb in the JupyterLab of `make lab`, in a real browser: it runs, a slider moves, the figure changes.

The project folder is a copy that holds a stored snapshot made by code, so the checkout stays as it is and nothing asks
the network for data.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from PIL import Image

import local_server as ls
from capitulation.data import store
from capitulation.data.http import Response
from report_help import make_home

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
REPOSITORY = Path(__file__).resolve().parents[1]
IN_CI = bool(os.environ.get("CI"))
LOOPBACK = "127.0.0.1"
START_SECONDS, PAGE_SECONDS, RUN_SECONDS, STOP_SECONDS = 90, 60, 60, 30
"""Limits for a busy machine; an idle one needs a tenth."""
DESK = {"width": 1280, "height": 1000}
NOTEBOOK = "explore.ipynb"
SLIDER = ".widget-inline-hbox:has-text('fast days')"
PICTURE = ".widget-image"
PICTURE_BYTES = """async picture => {
  const bytes = new Uint8Array(await (await fetch(picture.src)).arrayBuffer());
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}"""


def missing(what: str) -> None:
    """Absent tools are a reason to skip at home and a failure in continuous integration."""
    (pytest.fail if IN_CI else pytest.skip)(f"{what} is not installed")


def until(seconds: float, what: str, found: Callable[[], Any]) -> Any:
    """The first true answer of `found`, asked again and again."""
    end = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return answer


def store_snapshot(panel) -> None:
    """A snapshot of Coin Metrics' file, fetched just now as far as the suite can tell."""
    body = ls.coinmetrics_csv(panel)
    facts = {
        "licence": "none",
        "attribution": "made by code",
        "rows": len(panel),
        "first_day": f"{panel.index[0]:%Y-%m-%d}",
        "last_day": f"{panel.index[-1]:%Y-%m-%d}",
        "panel_digest": "0" * 64,
        "notes": [],
        "findings": [],
    }
    store.save_snapshot("coinmetrics", {"btc.csv": Response("https://example.org/btc.csv", {}, 200, body, {})}, facts)


@pytest.fixture(scope="module")
def home(tmp_path_factory, simulated_panel) -> Path:
    """A project folder with the notebook, the profiles and a fresh snapshot."""
    folder = make_home(tmp_path_factory.mktemp("lab"), with_notebooks=False)
    shutil.copy(REPOSITORY / "notebooks" / NOTEBOOK, folder / "notebooks")
    for profile in (REPOSITORY / "params").glob("*.yml"):
        shutil.copy(profile, folder / "params")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPITULATION_HOME", str(folder))
        store_snapshot(simulated_panel)
    return folder


@pytest.fixture(scope="module")
def providers() -> Iterator[ls.LocalServer]:
    """Stands for every provider, and knows who asked."""
    with ls.LocalServer() as running:
        yield running


def environment(home: Path, providers: ls.LocalServer) -> dict[str, str]:
    """Everything that Jupyter writes goes under `home`."""
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    folders = {name: str(home / ".jupyter" / name.lower()) for name in names}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "CAPITULATION_"))}
    return kept | folders | providers.environment() | {"CAPITULATION_HOME": str(home)}


def command_line(process: psutil.Process) -> list[str]:
    """The words a process was started with; none for one that has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@dataclass(frozen=True)
class Lab:
    """A running server: its process, and its address and token as it wrote them for its owner."""

    process: psutil.Process
    url: str
    token: str
    record: Path
    home: Path

    def ask(self, path: str, token: str = "") -> tuple[int, str, bytes]:
        """Status, address after redirects and body of an answer."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"token {token}"} if token else {})
        try:
            with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
                return answer.status, answer.url, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.url, error.read()

    def is_up(self) -> bool:
        """Whether it answers; its record is written a moment before."""
        try:
            return self.ask("api")[0] == 200
        except urllib.error.URLError:
            return False

    def api(self, path: str) -> Any:
        """The server's own word, with the token."""
        return json.loads(self.ask(f"api/{path}", self.token)[2])

    def kernels(self) -> list[psutil.Process]:
        """Processes that read a connection file of this lab: known by what they were told, not by their parents."""
        mine = str(self.home / ".jupyter")
        return [one for one in psutil.process_iter() if any(word.startswith(mine) for word in command_line(one))]

    def family(self) -> list[psutil.Process]:
        """The server and its kernels."""
        return [self.process, *self.kernels()]


def read_record(folder: Path, started: subprocess.Popen, log: Path) -> Path | None:
    """The file in which the server tells its owner where it is; None while it is not up."""
    assert started.poll() is None, log.read_text()
    records = [path for path in folder.glob("jpserver-*.json") if path.read_text().endswith("}")]
    return records[0] if records else None


@pytest.fixture(scope="module")
def lab(home, providers) -> Iterator[Lab]:
    """The command of `make lab`, without opening the user's browser; whatever it leaves is ended."""
    settings, log = environment(home, providers), home / "lab.log"
    command = [sys.executable, "-m", "capitulation.cli", "lab", "--no-browser", "--port=0", "--allow-root"]
    with log.open("wb") as out:
        started = subprocess.Popen(command, env=settings, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=home)
    process = psutil.Process(started.pid)
    try:
        runtime = Path(settings["JUPYTER_RUNTIME_DIR"])
        record = until(START_SECONDS, "the server's record", lambda: read_record(runtime, started, log))
        facts = json.loads(record.read_text())
        running = Lab(process, facts["url"], facts["token"], record, home)
        until(START_SECONDS, "an answer", running.is_up)
        yield running
    finally:
        left = [process, *process.children(recursive=True)] if process.is_running() else []
        for one in left:
            one.kill()
        started.wait()


@pytest.fixture(scope="module")
def requests() -> list[str]:
    """Addresses that the browser was asked for."""
    return []


@pytest.fixture(scope="module")
def page(lab, requests):
    """The notebook in Chromium; whatever is not on the loopback is recorded and blocked."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        missing("Chromium")
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        context = browser.new_context(viewport=DESK)
        context.set_default_timeout(PAGE_SECONDS * 1000)
        context.route(re.compile(r"^(?!https?://127\.0\.0\.1[:/])"), lambda route: route.abort())
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("websocket", lambda socket: requests.append(socket.url))
        page.goto(f"{lab.url}lab/tree/{NOTEBOOK}?token={lab.token}")
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        yield page
        browser.close()


def picture(page) -> bytes:
    """The figure under the sliders, as the browser holds it."""
    return base64.b64decode(page.locator(PICTURE).evaluate(PICTURE_BYTES))


def another_picture(page, before: bytes) -> bytes:
    """The figure, once it is no longer `before`."""
    return until(RUN_SECONDS, "another figure", lambda: (now := picture(page)) != before and now)


def kernel_is_idle(lab: Lab) -> bool:
    """Whether there is one kernel with a page connected, and it has nothing to do."""
    return [(kernel["execution_state"], kernel["connections"]) for kernel in lab.api("kernels")] == [("idle", 1)]


def wait_for_kernel(lab: Lab, page) -> None:
    """Until page and kernel are connected: the page says idle already before it has asked for a kernel."""
    until(RUN_SECONDS, "a kernel", lambda: kernel_is_idle(lab))
    page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for()


def saved_cells(lab: Lab) -> list[dict]:
    """The code cells as last saved."""
    cells = lab.api(f"contents/{NOTEBOOK}")["content"]["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_nobody_enters_without_the_token(lab):
    assert len(lab.token) >= 32
    assert lab.record.stat().st_mode & 0o077 == 0
    for path in ("api/contents", f"api/contents/{NOTEBOOK}", "api/kernels", f"files/{NOTEBOOK}"):
        for token in ("", "0" * len(lab.token)):
            status, url, body = lab.ask(path, token)
            assert status == 403 or urlsplit(url).path == "/login", path
            assert b"open_run" not in body, path
    for path in ("lab", f"lab/tree/{NOTEBOOK}"):
        assert urlsplit(lab.ask(path)[1]).path == "/login", path
    assert lab.ask("api/contents", lab.token)[0] == 200


def test_the_notebooks_and_nothing_above_them_are_served(lab, home):
    assert [entry["name"] for entry in lab.api("contents")["content"]] == [NOTEBOOK]
    assert lab.ask("api/contents/%2e%2e/params/default.yml", lab.token)[0] in (403, 404)


def test_lab_asks_nobody_for_news_or_updates(lab):
    page = lab.ask("lab", lab.token)[2].decode()
    settings = json.loads(re.search(r'<script id="jupyter-config-data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    assert settings["news"] == {"disabled": True}
    assert "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate" in lab.process.cmdline()


def test_explore_runs_and_a_slider_changes_the_figure(lab, page, requests, providers):
    wait_for_kernel(lab, page)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator(PICTURE).wait_for(timeout=RUN_SECONDS * 1000, state="attached")
    until(RUN_SECONDS, "an idle kernel", lambda: kernel_is_idle(lab))

    first, words = picture(page), page.locator(PICTURE).evaluate("picture => picture.parentElement.innerText")
    shown = page.locator(PICTURE).evaluate("picture => [picture.naturalWidth, picture.naturalHeight]")
    assert list(Image.open(io.BytesIO(first)).size) == shown
    handle = page.locator(SLIDER).get_by_role("slider")
    assert handle.get_attribute("aria-valuenow") == "30.0"
    handle.focus()
    page.keyboard.press("ArrowRight")
    moved = another_picture(page, first)
    assert page.locator(SLIDER).locator(".widget-readout").inner_text() == "31"
    assert page.locator(PICTURE).evaluate("picture => picture.parentElement.innerText") != words
    page.keyboard.press("ArrowLeft")
    assert another_picture(page, moved) == first

    page.keyboard.press("Control+s")
    until(PAGE_SECONDS, "the saved notebook", lambda: all(cell["execution_count"] for cell in saved_cells(lab)))
    outputs = [output for cell in saved_cells(lab) for output in cell["outputs"]]
    assert [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"] == []
    assert providers.requests == []
    assert [url for url in requests if urlsplit(url).hostname not in (LOOPBACK, None)] == []
    assert any(url.startswith("ws:") for url in requests)


def test_server_and_kernel_listen_on_the_loopback_only(lab, page):
    until(RUN_SECONDS, "a kernel", lab.kernels)
    listening = [c.laddr for process in lab.family() for c in process.net_connections() if c.status == "LISTEN"]
    assert urlsplit(lab.url).port in {address.port for address in listening}
    assert {address.ip for address in listening} == {LOOPBACK}
    assert lab.url.startswith(f"http://{LOOPBACK}:")


def test_stopping_leaves_no_process_and_no_record(lab, page):
    until(RUN_SECONDS, "a kernel", lab.kernels)
    family = lab.family()
    page.close()
    lab.process.terminate()
    _gone, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
    assert alive == []
    assert not lab.record.exists()
