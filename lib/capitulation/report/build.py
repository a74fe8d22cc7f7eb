"""One report under construction in its staging folder: reuse what is unchanged, execute the rest, render the pages."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capitulation.errors import ReportError, one_line
from capitulation.params import Params
from capitulation.paths import project_root
from capitulation.report import fingerprint, record
from capitulation.report.names import DEFAULT_RUN, SIMULATED_RUN, failed_folder, published_folder
from capitulation.report.notebooks import Notebook, parameters_for

if TYPE_CHECKING:
    from capitulation.report.execute import KernelHost
    from capitulation.report.render import Page
    from capitulation.report.worker import Job

MARKET, NOTEBOOKS, PARTS = "market", "notebooks", ".parts"
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Build:
    """What is built, from what, and where; `key` is the digest of all it depends on ("" if not known)."""

    run: str
    params: Params
    market: Any
    notebooks: Sequence[Notebook]
    jobs: int
    force: bool
    progress: Callable[[str], None]
    key: str
    staging: Path


def build_report(build: Build, kernels: KernelHost) -> dict[str, Any]:
    """Fill the staging folder with the whole report; timings for timings.json."""
    from capitulation.data.market import save_market

    started = time.perf_counter()
    save_market(build.market, build.staging / MARKET)
    market_key = record.file_digest(build.staging / MARKET / "market.json")
    keys = {notebook.name: _key(notebook, build.params, market_key) for notebook in build.notebooks}
    records = {} if build.force else reuse(build, keys)
    pages: dict[str, Page] = {}
    seconds = execute(build, [notebook for notebook in build.notebooks if notebook.name not in records], kernels, pages)
    for name in seconds:
        item = {"name": name, "files": merge_part(build.staging / PARTS / name, build.staging, name)}
        made = record.files_digest(build.staging, record.left_by(item))
        records[name] = {"key": keys[name], "files": item["files"], "made": made}
    executed = time.perf_counter()
    render(build, [_record(notebook, build.params, records[notebook.name]) for notebook in build.notebooks], pages)
    shutil.rmtree(build.staging / PARTS, ignore_errors=True)
    rendering = time.perf_counter() - executed
    last = _timings(build.run) | seconds
    total = time.perf_counter() - started
    return {"seconds": total, "rendering": rendering, "notebooks": seconds, "last_seconds": last}


def _timings(run: str) -> dict[str, float]:
    """Seconds that each notebook took when it last ran."""
    timings = record.read_json(published_folder(run) / record.TIMINGS_FILE, {})
    last = timings.get("last_seconds") if isinstance(timings, dict) else {}
    items = last.items() if isinstance(last, dict) else ()
    return {name: seconds for name, seconds in items if isinstance(seconds, int | float)}


def _key(notebook: Notebook, params: Params, market_key: str) -> str:
    return fingerprint.notebook_key(notebook, params, market_key)


def likely_needed(run_name: str, notebooks: Sequence[Notebook], params: Params) -> bool:
    """Whether some notebook will have to run even if the market is that of the last report."""
    for run in (run_name or DEFAULT_RUN, SIMULATED_RUN):
        folder = published_folder(run)
        known = {item["name"]: item["key"] for item in record.read_record(folder).get("notebooks", [])}
        market = folder / MARKET / "market.json"
        if known and market.is_file():
            market_key = record.file_digest(market)
            return any(known.get(notebook.name) != _key(notebook, params, market_key) for notebook in notebooks)
    return True


def reuse(build: Build, keys: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Copy from the published report what unchanged notebooks left there, if it is as it was made; records by name."""
    previous = published_folder(build.run)
    reused = {}
    for item in record.read_record(previous).get("notebooks", []):
        files = record.left_by(item)
        as_made = item.get("made") == record.files_digest(previous, files) != ""
        if keys.get(item["name"]) == item["key"] and as_made:
            for name in files:
                _copy(previous / name, build.staging / name)
            reused[item["name"]] = {"key": item["key"], "files": item["files"], "made": item["made"]}
    return reused


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def execute(
    build: Build, notebooks: Sequence[Notebook], kernels: KernelHost, pages: dict[str, Page]
) -> dict[str, float]:
    """Execute `notebooks`, each into a part of its own, and render each into `pages` while others run; seconds."""
    from capitulation.report.execute import NotebookFailed, execute_all
    from capitulation.report.progress import progress_of

    if not notebooks:
        return {}
    kernels.start()
    (build.staging / NOTEBOOKS).mkdir(exist_ok=True)
    jobs = [_job(notebook, build, kernels) for notebook in longest_first(build, notebooks)]
    seconds: dict[str, float] = {}
    try:
        with progress_of(notebooks, build.progress) as (on_cell, on_done):
            execute_all(jobs, build.jobs, on_cell, _then_render(build, pages, on_done), seconds)
    except NotebookFailed as error:
        _keep_failed(build, error.notebook)
        raise ReportError(f"{error}; see reports/{build.run}.failed/, the previous report is untouched") from None
    return seconds


def longest_first(build: Build, notebooks: Sequence[Notebook]) -> list[Notebook]:
    """The first notebook, then those that took longest last time, so that no long one is left for the end.

    One at a time they keep their order. A notebook never timed comes before those that were.
    """
    known = _timings(build.run)
    if build.jobs == 1:
        return list(notebooks)
    return [notebooks[0], *sorted(notebooks[1:], key=lambda notebook: -known.get(notebook.name, math.inf))]


def _then_render(build: Build, pages: dict[str, Page], on_done: Callable[[str, float], None]) -> Callable[..., None]:
    from capitulation.report.render import render_notebook

    def done(name: str, seconds: float) -> None:
        on_done(name, seconds)
        pages[name] = render_notebook(build.staging / NOTEBOOKS / f"{name}.ipynb")

    return done


def _job(notebook: Notebook, build: Build, kernels: KernelHost) -> Job:
    from capitulation.report.worker import Job

    part = build.staging / PARTS / notebook.name
    part.mkdir(parents=True)
    (part / MARKET).symlink_to(build.staging.resolve() / MARKET, target_is_directory=True)
    return Job(
        name=notebook.name,
        source=str(notebook.path),
        output=str(build.staging / NOTEBOOKS / f"{notebook.name}.ipynb"),
        run_folder=str(part),
        private=str(kernels.folder / notebook.name[:2]),
        cwd=str(notebook.path.parent),
        parameters=parameters_for(notebook, build.params),
        zygote=kernels.zygote,
        hidden={str(part): "run", str(build.staging): "run", str(project_root()): ".", str(Path.home()): "~"},
    )


def merge_part(part: Path, staging: Path, notebook: str) -> list[str]:
    """Move what one notebook wrote to its place in the report; paths of the files. Two may not write the same file."""
    moved = []
    for path in sorted(part.rglob("*")):
        place = path.relative_to(part)
        if path.is_dir() or place.parts[0] == MARKET:
            continue
        target = staging / place
        if target.exists():
            raise ReportError(f"notebook {notebook} writes {one_line(place, 120)}, which another already wrote")
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        moved.append(place.as_posix())
    return moved


def _keep_failed(build: Build, notebook: str) -> None:
    """Keep the broken notebook, and nothing else, for the reader of the error."""
    broken = build.staging / NOTEBOOKS / f"{notebook}.ipynb"
    folder = failed_folder(build.run)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if broken.is_file():
        broken.rename(folder / broken.name)


def _record(notebook: Notebook, params: Params, made: Mapping[str, Any]) -> dict[str, Any]:
    digest = record.file_digest(notebook.path)
    return {"name": notebook.name, "sha256": digest, "parameters": parameters_for(notebook, params), **made}


def render(build: Build, notebooks: Sequence[Record], made: Mapping[str, Page]) -> None:
    """Pages and run.json from what the notebooks left in the staging folder; `made`: pages rendered before."""
    from capitulation.report.pages import write_pages
    from capitulation.report.render import render_notebook
    from capitulation.report.story import pick_figures, tell

    staging, params = build.staging, build.params
    names = [item["name"] for item in notebooks]
    pages = [made.get(name) or render_notebook(staging / NOTEBOOKS / f"{name}.ipynb") for name in names]
    facts = record.run_record(build.run, params, record.market_facts(build.market), notebooks, staging)
    write_pages(staging, pages, facts, params, tell(staging, params, pick_figures(pages)))
    record.write_json(staging / record.RUN_FILE, {"key": build.key, **facts})
