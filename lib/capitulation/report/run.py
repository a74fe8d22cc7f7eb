"""Make a report: load the market, run the notebooks that changed, render the pages, publish them by one rename.

A notebook declares the parameters that it uses in the cell tagged `parameters`: one `name = literal  # unit: meaning`
per line. It runs again when its source, what it declares, the run's settings that it uses (`page.rules` and the like),
the data, the versions or any file of the library changed; otherwise its results are taken from the last report.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import dataclasses
import errno
import hashlib
import json
import math
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module, metadata
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

import capitulation
from capitulation.data.market import Market, load_market, save_market
from capitulation.errors import DataError, InputError, ReportError, one_line
from capitulation.params import SHARED, Params, changed_from_default, shared_settings
from capitulation.paths import notebooks_folder, project_root, reference_folder, reports_folder
from capitulation.simulate.market import simulate_panel

DEFAULT_RUN, SIMULATED_RUN, COMPARISONS = "latest", "simulated", "compare"
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NUMBERED = re.compile(r"\d\d-[a-z0-9]+(-[a-z0-9]+)*")
MARKET_PARAMETERS = {"source", "data", "as_of", "max_age_days", "simulation_seed"}
ENGINES = ("in-process", "kernel")
PACKAGES = ("arch", "ipython", "matplotlib", "numpy", "pandas", "papermill", "scipy", "seaborn", "statsmodels")
Progress = Callable[[str], None]


# --- notebooks and names --------------------------------------------------------------------------------------------


class Notebook(NamedTuple):
    """A numbered notebook: its file and digest, what it declares, which of the run's SHARED settings it uses."""

    name: str
    path: Path
    digest: str
    declared: dict[str, Any]
    shared: tuple[str, ...]


def find_notebooks(folder: Path) -> list[Notebook]:
    """Every `NN-verb-object.ipynb` in `folder`, in the order of the numbers.

    `ReportError` if there is none, if one is no notebook or if its parameters cell cannot be read.
    """
    found = []
    for path in sorted(path for path in folder.glob("[0-9][0-9]-*.ipynb") if NUMBERED.fullmatch(path.stem)):
        try:
            content = path.read_bytes()
            cells = [("".join(c["source"]), c["metadata"].get("tags", [])) for c in json.loads(content)["cells"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReportError(f"notebook {path.name} cannot be read: {one_line(repr(error), 160)}") from None
        declared = declared_parameters("\n".join(text for text, tags in cells if "parameters" in tags), path.name)
        shared = tuple(group for group in SHARED if any(f"page.{group}" in text for text, _tags in cells))
        found.append(Notebook(path.stem, path, hashlib.sha256(content).hexdigest(), declared, shared))
    if not found:
        raise ReportError(f"no numbered notebook (NN-verb-object.ipynb) in {one_line(folder, 200)}")
    return found


def declared_parameters(source: str, where: str) -> dict[str, Any]:
    """Names and values that a parameters cell declares; it is parsed, never run.

    >>> declared_parameters("fast_days = 30  # days: fast mean", "20-find-capitulations.ipynb")
    {'fast_days': 30}
    """
    found, at = {}, 1
    try:
        for statement in ast.parse(source).body:
            at = statement.lineno
            match statement:
                case ast.Assign([ast.Name(id=name)], value) | ast.AnnAssign(ast.Name(id=name), _, ast.expr() as value):
                    found[name] = ast.literal_eval(value)
                case ast.Expr(ast.Constant()):
                    pass
                case _:
                    raise ValueError("no assignment of a literal")
    except (SyntaxError, ValueError) as error:
        at = error.lineno if isinstance(error, SyntaxError) else at
        rule = "write one `name = literal  # unit: meaning` per line"
        raise ReportError(f"{where}, parameters cell, line {at}: {rule}") from None
    return found


def check_overrides(names: Iterable[str], notebooks: Sequence[Notebook]) -> None:
    """`InputError` for an override that would change nothing, because no notebook uses it."""
    used = {name for notebook in notebooks for name in notebook.declared}
    used |= {field for notebook in notebooks for group in notebook.shared for field in SHARED[group].values()}
    for name in sorted(set(names) - used - MARKET_PARAMETERS):
        raise InputError(f"SET {one_line(name, 60)}: no notebook uses it; those in use are: {', '.join(sorted(used))}")


def check_run_name(name: str) -> str:
    """`name` if it can name a run; `InputError` with what is allowed otherwise.

    >>> check_run_name("2026-01-20")
    '2026-01-20'
    """
    shown = one_line(repr(name), 80)
    if not RUN_NAME.fullmatch(name) or ".." in name:
        rule = (
            "must be 1 to 64 letters, digits, dots, dashes and underscores, start with a letter or digit, hold no '..'"
        )
        raise InputError(f"RUN={shown}: {rule}")
    if name.lower().endswith((".failed", ".zip", ".lock")) or name.lower() == COMPARISONS:
        raise InputError(f"RUN={shown}: reserved; names must not be {COMPARISONS!r} nor end in .failed, .zip or .lock")
    return name


def run_for_market(name: str, simulated: bool) -> str:
    """The run that a market is published as: a simulated market always as `simulated`, a real one never."""
    asked = check_run_name(name or DEFAULT_RUN)
    if not simulated and asked.lower() == SIMULATED_RUN:
        raise InputError(f"RUN={asked}: reserved for simulated markets, this run has real data; choose another RUN")
    return SIMULATED_RUN if simulated else asked


# --- the record of a report -----------------------------------------------------------------------------------------


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_below(folder: Path) -> dict[str, str]:
    """Digest of every file below `folder`, by its path there."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of this library, of Python and of every package that can change a figure."""
    known = {"capitulation": capitulation.__version__, "python": platform.python_version()}
    return known | {name: metadata.version(name) for name in PACKAGES}


def new_record(work: Work) -> dict[str, Any]:
    """What is known of a report before it is made; `key` is the digest of all it depends on.

    A notebook is passed what it declares and the run knows, a local file by its name alone. Content counts, never the
    time stamp of a file: a fresh clone or a changed clock neither hides nor fakes a change.
    """
    params, days, now = work.params, work.market.panel.index, versions()
    facts = {item.name: getattr(work.market, item.name) for item in dataclasses.fields(Market) if item.name != "panel"}
    facts |= {"first_day": f"{days[0]:%Y-%m-%d}", "last_day": f"{days[-1]:%Y-%m-%d}", "n_days": len(days)}
    common = _digest(facts, now, files_below(Path(__file__).parents[1]), files_below(reference_folder()))
    asked, shared, made = params.model_dump(mode="json"), shared_settings(params), []
    known = {**asked, **work.own, "data": Path(params.data).name}
    for item in work.notebooks:
        values = {name: known[name] for name in item.declared if name in known}
        key = _digest(item.digest, values, {group: shared[group] for group in item.shared}, common)
        made.append({"name": item.name, "key": key, "sha256": item.digest, "parameters": values})
    changed = {**changed_from_default(params), **work.own}
    key = _digest(work.run, asked, work.own, [(item["name"], item["key"]) for item in made])
    start = {"format": 2, "key": key, "run": work.run, "parameters": asked, "own": work.own, "changed": changed}
    return start | {"market": json.loads(json.dumps(facts)), "versions": now, "notebooks": made}


def write_json(path: Path, values: Any) -> None:
    """`values` as JSON that is the same for the same values."""
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _seal(record: Mapping[str, Any]) -> str:
    return _digest({name: value for name, value in record.items() if name != "seal"})


def read_record(folder: Path) -> dict[str, Any]:
    """The run.json in `folder`; {} where there is none, or where it is not as it was written."""
    try:
        facts = json.loads((folder / "run.json").read_bytes())
        return facts if facts["seal"] == _seal(facts) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def as_made(folder: Path, facts: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether the named files of a report are as its record says."""
    with contextlib.suppress(OSError):
        return all(file_digest(folder / name) == facts["files"].get(name) for name in names)
    return False


def open_report(run: str) -> tuple[Path, dict[str, Any]]:
    """Folder and record of a published report; `InputError` where there is none, `DataError` where it is damaged."""
    folder = reports_folder() / check_run_name(run)
    if not folder.exists() and hidden(run, "old"):
        with run_lock(run):
            _recover(run)
    if not (folder / "run.json").is_file():
        published = sorted(path.parent.name for path in reports_folder().glob("[A-Za-z0-9]*/run.json"))
        raise InputError(f"RUN={run}: no such report; there are: {', '.join(published) or 'none, run make report'}")
    if not (facts := read_record(folder)):
        raise DataError(f"reports/{run}/run.json: damaged; make the report again")
    return folder, facts


# --- publishing -----------------------------------------------------------------------------------------------------


@contextmanager
def run_lock(run: str, progress: Progress = print) -> Iterator[None]:
    """Hold the lock of run `run`; says so when it must wait for another process."""
    folder = reports_folder() / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{check_run_name(run)}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"report {run!r} is being made by another process: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def hidden(run: str, kind: str) -> list[Path]:
    """Hidden folders of `run`, `.run.kind-<process>`, never those of a run whose name only begins alike."""
    start = f".{check_run_name(run)}.{kind}-"
    return [path for path in reports_folder().glob(f"{start}*") if path.name.removeprefix(start).isdigit()]


def _recover(run: str) -> None:
    """Put the previous report back if a process died between moving it aside and moving the new one in."""
    for aside in hidden(run, "old"):
        if not (reports_folder() / run).exists():
            aside.rename(reports_folder() / run)
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def staging_folder(run: str, progress: Progress) -> Iterator[Path]:
    """A hidden folder beside the report's place to build it in, with the run's lock held; removed at the end.

    What a killed run left is removed first. `InputError` where something else than a report lies at the place.
    """
    target = reports_folder() / check_run_name(run)
    with run_lock(run, progress):
        _recover(run)
        if os.path.lexists(target):
            folder = target.is_dir() and not target.is_symlink()
            if not folder or (any(target.iterdir()) and not (target / "run.json").is_file()):
                raise InputError(f"RUN={run}: reports/{run} is there and no report; move it away or choose another RUN")
        for stale in hidden(run, "staging"):
            shutil.rmtree(stale, ignore_errors=True)
        staging = reports_folder().resolve() / f".{run}.staging-{os.getpid()}"
        try:
            staging.mkdir(parents=True)
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def publish(staging: Path, run: str) -> None:
    """Make `staging` the published report of `run` in one step.

    Where the system can exchange two folders (Linux) there is no moment without a report; elsewhere the old one is
    moved aside first, and a process that dies in between is made good by the next reader or run.
    """
    target = reports_folder() / check_run_name(run)
    try:
        if not target.exists():
            staging.rename(target)
        elif not exchange(staging, target):
            old = target.with_name(f".{run}.old-{os.getpid()}")
            target.rename(old)
            staging.rename(target)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        _recover(run)
        reason = f"{error.strerror}; the previous one is intact"
        raise ReportError(f"report {run!r} could not be published: {reason}") from None


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders atomically; False where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if not renameat2(here, os.fsencode(one), here, os.fsencode(other), swap):
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code), str(other))


# --- a report -------------------------------------------------------------------------------------------------------


class Work(NamedTuple):
    """What a report is made from: parameters, `own` values for names that only notebooks declare, data, notebooks."""

    run: str
    params: Params  # type: ignore[valid-type]
    own: dict[str, Any]
    market: Market
    notebooks: list[Notebook]


class Options(NamedTuple):
    """How a report is made: notebooks at once, every notebook anew, the engine, seconds after which a cell is ended."""

    jobs: int = 1
    force: bool = False
    engine: str = ""
    cell_timeout: float = 900.0


def make_report(
    params: Params,  # type: ignore[valid-type]
    run_name: str = "",
    options: Options = Options(),  # noqa: B008  a tuple, so it cannot change
    *,
    own: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
    progress: Progress = print,
    load: Callable[..., Market] | None = None,
) -> Path:
    """Bring reports/<run>/ up to date and give its folder.

    `own`: values for names that only notebooks declare. `overrides`: names that the user set, each of which something
    must use. `load(params, progress)`: gives the market instead of `market_for`.

    Raises `InputError` for a run name or an override that cannot be used, `ReportError` naming notebook, cell and error
    when one fails; the previous report then stays as it was and the broken notebook is kept in reports/<run>.failed/.
    """
    check_run_name(run_name or DEFAULT_RUN)
    notebooks = find_notebooks(notebooks_folder())
    check_overrides(overrides, notebooks)
    market = (load or market_for)(params, progress)
    run = run_for_market(run_name, market.simulated)
    if any("horizons_days" in notebook.declared for notebook in notebooks):
        check_sample(market, params)
    work, folder = Work(run, params, dict(own or {}), market, notebooks), reports_folder() / run
    record = new_record(work)
    before = read_record(folder)
    if not options.force and before.get("key") == record["key"] and as_made(folder, before, before["files"]):
        progress(f"nothing changed since reports/{run} was made; FORCE=1 runs it again")
    else:
        if market.simulated:
            progress(f"simulated market, not real data: the report goes to reports/{run}/")
        with staging_folder(run, progress) as staging:
            fill(staging, work, record, options, progress)
            publish(staging, run)
    shutil.rmtree(reports_folder() / f"{run}.failed", ignore_errors=True)
    return folder


def market_for(params: Params, progress: Progress = print, **more: Any) -> Market:  # type: ignore[valid-type]
    """The market that `params` ask for, with its age in whole days, so that two reports of one day are the same."""
    asked = params.model_dump(include=MARKET_PARAMETERS)
    market = load_market(**asked, progress=progress, simulate=simulate_panel, **more)
    return dataclasses.replace(market, age_days=None if market.age_days is None else float(math.floor(market.age_days)))


def check_sample(market: Market, params: Params) -> None:  # type: ignore[valid-type]
    """Refuse a run that has no price, or too few days since sample_start for its longest horizon.

    Twice the longest horizon is the least: one for an event's outcome, one for others.
    """
    price = market.panel["price_usd"].dropna()
    if price.empty:
        raise InputError(f"source {market.source} has no price, and a report is about returns: choose SOURCE=auto")
    days, needed = len(price[params.sample_start :]), 2 * (max(params.horizons_days) + params.entry_lag_days)
    if days < needed:
        raise InputError(
            f"only {days} days with a price from sample_start={params.sample_start} to {price.index[-1]:%Y-%m-%d}, "
            f"{needed} needed: choose a later AS_OF, an earlier sample_start or shorter horizons_days (SET)"
        )


def fill(staging: Path, work: Work, record: dict[str, Any], options: Options, progress: Progress) -> None:
    """Fill the staging folder with the whole report: take over what is unchanged, run the rest, render the pages."""
    # Imported here because an unchanged report needs none of it; and all rooms of the library, so that the forked
    # notebooks find them loaded.
    engine, render = (import_module(f"capitulation.report.{name}") for name in ("engine", "render"))
    name = options.engine or ("in-process" if sys.platform == "linux" else "kernel")
    began, run, books = time.perf_counter(), work.run, staging / "notebooks"
    books.mkdir()
    save_market(work.market, staging / "market")
    last = take_over(reports_folder() / run, staging, record, options.force)
    todo = [(item, made) for item, made in zip(work.notebooks, record["notebooks"], strict=True) if "files" not in made]
    if options.jobs > 1:  # the longest first, so that none is left for the end
        todo.sort(key=lambda pair: -last.get(pair[0].name, math.inf))
    if name == "in-process" and todo:
        for module in walk_packages(capitulation.__path__, "capitulation."):
            import_module(module.name)
    parts, jobs = staging / ".parts", []
    shown = {str(parts): "run", str(staging): "run", str(project_root()): ".", str(Path.home()): "~"}
    for item, made in todo:  # each writes into a part of its own, where it finds the market and the run's settings
        (parts / item.name).mkdir(parents=True)
        (parts / item.name / "market").symlink_to(staging / "market", target_is_directory=True)
        write_json(parts / item.name / "settings.json", shared_settings(work.params))
        places = item.path.resolve(), books / f"{item.name}.ipynb", parts / item.name
        jobs.append(engine.Job(item.name, *places, made["parameters"], shown, name, options.cell_timeout))
    try:
        done = engine.run_all(jobs, options.jobs, lambda name, seconds: progress(f"{name}: {seconds:.1f} s"))
    except engine.NotebookFailed as error:
        kept = reports_folder() / f"{run}.failed"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        (books / f"{error.notebook}.ipynb").rename(kept / f"{error.notebook}.ipynb")
        raise ReportError(f"{error}; see reports/{run}.failed/, the previous report is untouched") from None
    executed = time.perf_counter()
    for item, made in todo:
        made["files"] = _merge(parts / item.name, staging)
    shutil.rmtree(parts, ignore_errors=True)
    pages = {item: page for item, (page, _seconds) in done.items()}
    whole = [pages.get(item.name) or render.render_notebook(books / f"{item.name}.ipynb") for item in work.notebooks]
    record["tables"] = files_below(staging / "tables")
    render.write_pages(staging, whole, record, work.params)
    record["files"] = files_below(staging)
    write_json(staging / "run.json", record | {"seal": _seal(record)})
    seconds, ended = {item: took for item, (_page, took) in done.items()}, time.perf_counter()
    timings = {"made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seconds": ended - began}
    timings |= {"rendering": ended - executed, "notebooks": seconds, "last_seconds": last | seconds}
    write_json(staging / "timings.json", timings)


def take_over(previous: Path, staging: Path, record: dict[str, Any], force: bool) -> dict[str, float]:
    """Copy from the last report what unchanged notebooks left there, if it is as it was made, and note their files.

    Nothing is copied where `force`. Gives the seconds that each notebook took when it last ran.
    """
    facts = {} if force else read_record(previous)
    known = {item["name"]: item for item in facts.get("notebooks", [])}
    for made in record["notebooks"]:
        item = known.get(made["name"], {})
        names = [f"notebooks/{made['name']}.ipynb", *item.get("files", [])]
        if item.get("key") == made["key"] and as_made(previous, facts, names):
            for name in names:
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(previous / name, staging / name)
            made["files"] = item["files"]
    with contextlib.suppress(OSError, ValueError, KeyError):
        return json.loads((previous / "timings.json").read_bytes())["last_seconds"]
    return {}


def _merge(part: Path, staging: Path) -> list[str]:
    """Move what one notebook wrote to its place in the report; paths of the files. Two may not write the same file."""
    moved = []
    for path in sorted(part.rglob("*")):
        place = path.relative_to(part)
        if path.is_dir() or place.parts[0] in ("market", "settings.json"):
            continue
        if (staging / place).exists():
            raise ReportError(f"notebook {part.name} writes {one_line(place, 120)}, which another already wrote")
        (staging / place).parent.mkdir(parents=True, exist_ok=True)
        path.rename(staging / place)
        moved.append(place.as_posix())
    return moved
