"""Pictures of a report for the README, taken by Debian's Chromium."""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capitulation.errors import InputError, ReportError, one_line
from capitulation.paths import project_root
from capitulation.report.publish import open_report

BROWSERS = ("chromium", "chromium-browser")
PREFERRED_PAGE = "30-measure-forward-returns"
PALETTE_STEPS = (256, 128, 64, 32, 16)
MAX_BYTES = 150_000
SCROLL = "element => element.scrollIntoView({block: 'center', behavior: 'instant'})"


@dataclass(frozen=True)
class Shot:
    """One picture: its file name, the page, the reader's colour scheme, the window (CSS pixels), what to scroll to."""

    name: str
    page: str
    scheme: str
    width: int
    height: int
    scale: float = 1.0
    scroll_to: str = ""


def shots(folder: Path) -> list[Shot]:
    """The index and one notebook's page: light, dark and on a phone."""
    pages = sorted(path.name for path in folder.glob("[0-9][0-9]-*.html"))
    preferred = f"{PREFERRED_PAGE}.html"
    page = preferred if preferred in pages else next(iter(pages), "index.html")
    return [
        Shot("index", "index.html", "light", 1280, 900),
        Shot("page-light", page, "light", 1280, 900, scroll_to="figure"),
        Shot("page-dark", page, "dark", 1280, 900, scroll_to="figure"),
        Shot("page-phone", page, "light", 375, 740, 2.0),
    ]


def find_browser() -> str:
    """Path of Chromium; `InputError` where it, or what drives it, is absent."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise InputError("screenshots need Chromium: apt-get install chromium")
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        raise InputError("screenshots need the package playwright: it comes with the extra `test`") from None
    return found


def small_png(picture: bytes) -> bytes:
    """A PNG with a palette, of as many colours as keep it under `MAX_BYTES`; `ReportError` where none does."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for colours in PALETTE_STEPS:
        out = io.BytesIO()
        image.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            out, format="PNG", optimize=True
        )
        if out.tell() <= MAX_BYTES:
            return out.getvalue()
    raise ReportError(f"a screenshot stays above {MAX_BYTES} bytes with {PALETTE_STEPS[-1]} colours")


def take_screenshots(run: str) -> list[Path]:
    """Write docs/screenshots/*.png from the report `run` and give the files.

    Pages are opened from disk with the network off. `InputError` without Chromium or without such a report.
    """
    folder, browser = open_report(run), find_browser()
    target = project_root() / "docs" / "screenshots"
    target.mkdir(parents=True, exist_ok=True)
    pictures = {shot.name: small_png(picture) for shot, picture in _taken(folder, browser)}
    paths = {target / f"{name}.png": picture for name, picture in pictures.items()}
    for path, picture in paths.items():
        path.write_bytes(picture)
    return list(paths)


def _taken(folder: Path, browser: str) -> list[tuple[Shot, bytes]]:
    from playwright.sync_api import Error, sync_playwright

    options = ["--disable-gpu", "--hide-scrollbars", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    try:
        with sync_playwright() as driver:
            started = driver.chromium.launch(executable_path=browser, args=options)
            try:
                return [(shot, _take(started, folder, shot)) for shot in shots(folder)]
            finally:
                started.close()
    except Error as error:
        raise ReportError(f"Chromium could not take the screenshots: {one_line(error, 200)}") from None


def _take(browser: Any, folder: Path, shot: Shot) -> bytes:
    size = {"width": shot.width, "height": shot.height}
    reader = {"color_scheme": shot.scheme, "reduced_motion": "reduce", "offline": True}
    context = browser.new_context(viewport=size, device_scale_factor=shot.scale, **reader)
    try:
        page = context.new_page()
        page.goto((folder / shot.page).resolve().as_uri())
        if shot.scroll_to and page.locator(shot.scroll_to).count():
            page.locator(shot.scroll_to).first.evaluate(SCROLL)
        return page.screenshot(animations="disabled")
    finally:
        context.close()
