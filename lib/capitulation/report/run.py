"""Make a report: load the market, run the notebooks that changed, render the pages, publish them by one rename.

A notebook declares the parameters that it uses in the cell tagged `parameters`: one `name = literal  # unit: meaning`
per line. It runs again when its source, what it declares, the run's settings that it uses (`page.rules` and the like),
the data, the versions or any file of the library changed; otherwise its results are taken from the last report.
"""

from __future__ import annotations

import ast
import ctypes
import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, NamedTuple

import pandas as pd
from filelock import AcquireReturnProxy, FileLock, Timeout

import capitulation
from capitulation.ahead import forgotten_at_the_end
from capitulation.data.market import Market, Progress, about, load_market, read_market, save_market
from capitulation.errors import DataError, InputError, ReportError, nearest, one_line
from capitulation.mining.episodes import apply_rules, episodes
from capitulation.mining.hashrate import hash_ribbons
from capitulation.params import SHARED, Params, shared_settings
from capitulation.paths import notebooks_folder, project_root, reference_folder, reports_folder, write_json, write_whole
from capitulation.report.tables import write_csv
from capitulation.report.unchanged import DEFAULT_RUN, LIBRARY, NOTHING_CHANGED, digest, files_below, versions
from capitulation.simulate.market import simulate_panel

SIMULATED_RUN, COMPARISONS = "simulated", "compare"
RUN_NAME = re.compile(r"(?!.*\.\.|.*\.(failed|zip|lock)$|compare$)[a-z0-9][a-z0-9._-]{0,63}", re.IGNORECASE | re.ASCII)
SOURCES_TABLE, FORMAT = "sources", 3  # of run.json
NUMBERED = re.compile(r"\d\d-[a-z0-9]+(-[a-z0-9]+)*")
MARKET_PARAMETERS = {"source", "data", "columns", "licence", "block_clock", "as_of", "max_age_days", "simulation_seed"}
PRICE_TAG = "price"  # beside `parameters` at the cell of a notebook that says nothing without a price
ENGINES = ("in-process", "kernel")


class Notebook(NamedTuple):
    """A numbered notebook: its file and digest, what it declares, the SHARED settings it uses, if it needs a price."""

    name: str
    path: Path
    digest: str
    declared: dict[str, Any]
    shared: tuple[str, ...]
    priced: bool


def find_notebooks(folder: Path, pages: Sequence[int] = ()) -> list[Notebook]:
    """Every `NN-verb-object.ipynb` in `folder`, by number, or those with the numbers `pages`.

    `ReportError` for none, or one that cannot be read; `InputError` where `pages` names one that is not there.
    """
    found = []
    for path in sorted(path for path in folder.glob("*.ipynb") if NUMBERED.fullmatch(path.stem)):
        try:
            content = path.read_bytes()
            cells = [("".join(c["source"]), c["metadata"].get("tags", [])) for c in json.loads(content)["cells"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReportError(f"notebook {path.name} cannot be read: {one_line(repr(error), 160)}") from None
        declared = declared_parameters("\n".join(text for text, tags in cells if "parameters" in tags), path.name)
        shared = tuple(group for group in SHARED if any(f"page.{group}" in text for text, _tags in cells))
        priced = any(PRICE_TAG in tags for _text, tags in cells)
        found.append(Notebook(path.stem, path, digest(content), declared, shared, priced))
    if not found:
        raise ReportError(f"no numbered notebook (NN-verb-object.ipynb) in {one_line(folder, 200)}")
    numbers = [int(notebook.name[:2]) for notebook in found]
    if unknown := sorted(set(pages) - set(numbers)):
        raise InputError(f"pages={unknown}: no such notebooks; there are: {', '.join(map(str, numbers))}")
    return [notebook for notebook, number in zip(found, numbers, strict=True) if not pages or number in pages]


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
        rule = "write one `name = literal  # unit: meaning` per line"
        raise ReportError(f"{where}, parameters cell, line {getattr(error, 'lineno', at)}: {rule}") from None
    return found


def check_overrides(names: Iterable[str], own: Mapping[str, Any], notebooks: Sequence[Notebook]) -> None:
    """`InputError` for an override that no notebook uses, or an `own` value of another type than the notebook's."""
    declared = {name: value for notebook in notebooks for name, value in notebook.declared.items()}
    used = {field for notebook in notebooks for group in notebook.shared for field in SHARED[group].values()}
    known = sorted(used | declared.keys())
    for name in sorted(set(names) - MARKET_PARAMETERS - {"pages", *known}):
        said = f"SET {one_line(name, 60)}: no notebook uses it of {', '.join(item.name[:2] for item in notebooks)}"
        raise InputError(f"{said}; {nearest(name, known)}those in use are: {', '.join(known)}")
    for name, value in own.items():
        kind = type(declared.get(name, value))
        if type(value) is not kind and (type(value), kind) != (int, float):
            shown = f"SET {one_line(name, 60)}={one_line(value, 80)}"
            raise InputError(f"{shown}: must be {kind.__name__}, as in the notebook")


def check_run_name(name: str) -> str:
    """`name` if it can name a run; `InputError` with what is allowed otherwise.

    >>> check_run_name("2026-01-20")
    '2026-01-20'
    """
    if not RUN_NAME.fullmatch(name):
        rule = "must be up to 64 letters, digits, dots, dashes and underscores, first a letter or digit, without '..'"
        rule += f"; {COMPARISONS!r} and names that end in .failed, .zip or .lock are reserved"
        raise InputError(f"RUN={one_line(repr(name), 80)}: {rule}")
    return name


def _digest(*parts: Any) -> str:
    return digest(json.dumps(parts, sort_keys=True).encode())


def new_record(work: Work) -> dict[str, Any]:
    """What is known of a report before it is made; `key` is the digest of all it depends on, by content, not time.

    A notebook is passed what it declares and the run knows, local files by their names alone.
    """
    params, facts, now, days = work.params, about(work.market), versions(), work.market.panel.index
    facts |= {"first_day": f"{days[0]:%Y-%m-%d}", "last_day": f"{days[-1]:%Y-%m-%d}", "n_days": len(days)}
    library = _digest(files_below(LIBRARY))
    common = _digest(facts, now, library, files_below(reference_folder()))
    asked, shared, made = params.model_dump(mode="json"), shared_settings(params), []
    known = {**asked, **work.own, "data": " ".join(file["name"] for file in work.market.files) if params.data else ""}
    for item in work.notebooks:
        values = {name: known[name] for name in item.declared if name in known}
        key = _digest(item.name, item.digest, values, [shared[group] for group in item.shared], common)
        made.append({"name": item.name, "key": key, "sha256": item.digest, "parameters": values})
    key = _digest(work.run, asked, work.own, [item["key"] for item in made])
    start = {"format": FORMAT, "key": key, "run": work.run, "parameters": asked, "own": work.own}
    start |= {"changed": params.model_dump(exclude_defaults=True) | work.own, "versions": now, "notebooks": made}
    return start | {"library": library, "market": facts}


def read_record(folder: Path) -> dict[str, Any]:
    """The run.json in `folder`; {} where there is none, of another format, or not as it was written by its seal."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        facts = json.loads((folder / "run.json").read_bytes())
        if facts.pop("seal") == _digest(facts) and facts["format"] == FORMAT:
            return facts
    return {}


def open_report(run: str) -> tuple[Path, dict[str, Any]]:
    """Folder and record of a published report; `InputError` where there is none, `DataError` where it is damaged."""
    folder = reports_folder() / check_run_name(run)
    if not (folder / "run.json").is_file():
        published = sorted(path.parent.name for path in reports_folder().glob("[A-Za-z0-9]*/run.json"))
        raise InputError(f"RUN={run}: no such report; there are: {', '.join(published) or 'none, run make report'}")
    if not (facts := read_record(folder)):
        raise DataError(f"reports/{run}/run.json: damaged, or of another version; make the report again")
    return folder, facts


def run_lock(run: str, progress: Progress = print) -> AcquireReturnProxy:
    """Hold the lock of run `run` until the end of a `with`; says so when it must wait for another process."""
    lock = FileLock(reports_folder() / ".locks" / f"{check_run_name(run)}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        progress(f"report {run!r} is being made by another process: waiting for it")
        return lock.acquire()


@contextmanager
def staging_folder(run: str, progress: Progress) -> Iterator[Path]:
    """A hidden folder beside the report's place to build it in, with the run's lock held; removed at the end.

    What a killed run left is put away first. `InputError` where something else than a report lies at the place.
    """
    target = reports_folder().resolve() / check_run_name(run)
    staging, aside = target.with_name(f".{run}.staging"), target.with_name(f".{run}.old")

    def put_away() -> None:
        if aside.exists() and not target.exists():  # publishing was cut off between its two renames
            aside.rename(target)
        for left in (staging, aside):
            shutil.rmtree(left, ignore_errors=True)

    with run_lock(run, progress):
        put_away()
        empty = target.is_dir() and not any(target.iterdir())
        if os.path.lexists(target) and (target.is_symlink() or not (empty or (target / "run.json").is_file())):
            raise InputError(f"RUN={run}: reports/{run} is there and no report; move it away or choose another RUN")
        try:
            staging.mkdir(parents=True)
            yield staging
        finally:
            put_away()


def publish(staging: Path, run: str) -> None:
    """Make `staging` the published report of `run`; `staging_folder` then removes what was published before.

    Where two folders cannot be exchanged in one step, `staging_folder` puts the old one back if this process dies.
    """
    target = staging.with_name(run)
    try:
        if not target.exists():
            staging.rename(target)
        elif not exchange(staging, target):
            target.rename(staging.with_suffix(".old"))
            staging.rename(target)
    except OSError as error:
        reason = f"{error.strerror}; the previous one is intact"
        raise ReportError(f"report {run!r} could not be published: {reason}") from None


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and renameat2(here, os.fsencode(one), here, os.fsencode(other), swap) == 0


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
    then: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Bring reports/<run>/ up to date and give its folder; a simulated market always goes to reports/simulated/.

    `own`: values for names that only notebooks declare. `overrides`: names that the user set, each of which something
    must use. `load(params, progress)`: gives the market instead of `market_for`. `then(folder)`: called once the report
    is published, while no other process can put another in its place.

    Raises `InputError` for a run name or an override that cannot be used, `ReportError` naming notebook, cell and error
    when one fails; the previous report then stays as it was and the broken notebook is kept in reports/<run>.failed/.
    """
    run, notebooks = check_run_name(run_name or DEFAULT_RUN), find_notebooks(notebooks_folder(), params.pages)
    check_overrides(overrides, own or {}, notebooks)
    market = (load or market_for)(params, progress)
    if not market.simulated and run.lower() == SIMULATED_RUN:
        raise InputError(f"RUN={run}: reserved for simulated markets, this run has real data; choose another RUN")
    run = SIMULATED_RUN if market.simulated else run
    if len(usable := can_run(notebooks, market)) < len(notebooks):
        market, notebooks = without_price(market, notebooks, usable, params, progress), usable
    elif any("horizons_days" in notebook.declared for notebook in notebooks):
        check_sample(market, params)
    work, folder = Work(run, params, dict(own or {}), market, notebooks), reports_folder() / run
    record = new_record(work)
    with staging_folder(run, progress) as staging:
        before = read_record(folder)
        unchanged = not options.force and before.get("key") == record["key"]
        if unchanged and before["files"].items() <= files_below(folder).items():
            progress(NOTHING_CHANGED.format(run))
        else:
            if market.simulated:
                progress(f"simulated market, not real data: the report goes to reports/{run}/")
            fill(staging, work, record, before, options, progress)
            publish(staging, run)
        shutil.rmtree(reports_folder() / f"{run}.failed", ignore_errors=True)
        then(folder)
    return folder


def market_for(params: Params, progress: Progress = print, **more: Any) -> Market:  # type: ignore[valid-type]
    """The market that `params` ask for, with its age in whole days, so that two reports of one day are the same."""
    asked = params.model_dump(include=MARKET_PARAMETERS)
    market = load_market(**asked, progress=progress, simulate=simulate_panel, **more)
    return replace(market, age_days=None if market.age_days is None else float(math.floor(market.age_days)))


def check_sample(market: Market, params: Params) -> None:  # type: ignore[valid-type]
    """Refuse a run whose prices all lie outside its sample: returns need one."""
    price, last = market.panel["price_usd"].dropna(), f"{market.panel.index[-1]:%Y-%m-%d}"
    if len(price) and price[params.sample_start :].empty:
        known = f"prices are known from {price.index[0]:%Y-%m-%d} to {price.index[-1]:%Y-%m-%d}"
        remedy = f"choose an earlier sample_start (SET) or a later AS_OF; the data end on {last}"
        raise InputError(f"no day of the sample from sample_start={params.sample_start} on: {known}; {remedy}")


def can_run(notebooks: Iterable[Notebook], market: Market) -> list[Notebook]:
    """Those of the notebooks that have something to say of `market`: without any price the ones that need none."""
    priced = market.panel["price_usd"].notna().any()
    return [notebook for notebook in notebooks if priced or not notebook.priced]


def without_price(
    market: Market,
    notebooks: Iterable[Notebook],
    usable: Sequence[Notebook],
    params: Params,  # type: ignore[valid-type]
    progress: Progress,
) -> Market:
    """The market with a note that only the `usable` pages are made; `InputError` where others were asked for."""
    others = ", ".join(notebook.name[:2] for notebook in notebooks if notebook.priced)
    if params.pages or not usable:
        last, remedy = market.panel.index[-1], "choose SOURCE=auto, another DATA, a later AS_OF or other pages"
        raise InputError(
            f"source {market.source} has no price up to {last:%Y-%m-%d}, which pages {others} need; {remedy}"
        )
    note = f"no price: the pages on the network alone, without those on returns ({others})"
    progress(note)
    return replace(market, notes=(*market.notes, note))


def fill(
    staging: Path, work: Work, record: dict[str, Any], before: Mapping[str, Any], options: Options, progress: Progress
) -> None:
    """Fill the staging folder: take over what is unchanged since `before`, run the rest, render the pages."""
    # Half a second, for which an unchanged report need not wait.
    from capitulation.report import changes, engine, render

    name = options.engine or ("in-process" if sys.platform == "linux" else "kernel")
    began, books, parts = time.perf_counter(), staging / "notebooks", staging / ".parts"
    books.mkdir()
    save_market(work.market, staging / "market")
    published = reports_folder() / work.run
    seconds = {} if options.force else take_over(published, staging, record)
    todo = [(item, made) for item, made in zip(work.notebooks, record["notebooks"], strict=True) if "files" not in made]
    if options.jobs > 1:  # the longest first, so that none is left for the end; where that is not known, by size
        todo.sort(key=lambda pair: -seconds.get(pair[0].name, pair[0].path.stat().st_size))
    shared = name == "in-process" and len(todo) > options.jobs  # else none starts late enough to find anything
    if shared:
        engine.warm_up()
    folders = {staging: "run", project_root().absolute(): ".", Path(os.path.expanduser("~")): "~"}  # noqa: PTH111
    hidden = {str(path): word for path, word in folders.items() if path.is_absolute() and path.parent != path}
    jobs = []
    for item, made in todo:  # each writes into a part of its own, where it finds the market and the run's settings
        part = parts / item.name
        part.mkdir(parents=True)
        (part / "market").symlink_to(staging / "market", target_is_directory=True)
        write_json(part / "settings.json", shared_settings(work.params))
        places = item.path.resolve(), books / f"{item.name}.ipynb", part
        jobs.append(engine.Job(*places, made["parameters"], hidden, name, options.cell_timeout))
    kept = reports_folder() / f"{work.run}.failed"
    pages = {}

    def meanwhile() -> None:
        if shared:
            get_ready(staging / "market", work.params, [item.path for item, _made in todo])
        taken = {item.name for item in work.notebooks} - {item.name for item, _made in todo}
        pages.update({name: render.render_notebook(books / f"{name}.ipynb") for name in taken})

    with forgotten_at_the_end():
        done = engine.run_all(jobs, options.jobs, kept, lambda name, took: progress(f"{name}: {took:.1f} s"), meanwhile)
    executed = time.perf_counter()
    for item, made in todo:
        made["files"] = _merge(parts / item.name, staging)
    shutil.rmtree(parts, ignore_errors=True)
    pages |= {name: page for name, (page, _took) in done.items()}
    origins = pd.DataFrame(work.market.origins)
    write_csv(origins.assign(columns=origins["columns"].map(" ".join)), SOURCES_TABLE, staging / "tables")
    record["tables"] = files_below(staging / "tables")
    # An edited report could tell anything.
    whole_before = before and before["files"].items() <= files_below(published).items()
    record["since"] = changes.since_last(published, staging, before, record) if whole_before else []
    render.write_pages(staging, [pages[item.name] for item in work.notebooks], record, work.params)
    record["files"] = files_below(staging)
    write_json(staging / "run.json", record | {"seal": _digest(record)})
    now, seconds = time.perf_counter(), seconds | {name: took for name, (_page, took) in done.items()}
    timings = {"made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seconds": now - began}
    write_json(staging / "timings.json", timings | {"rendering": now - executed, "notebooks": seconds})


def get_ready(market: Path, params: Params, notebooks: Iterable[Path]) -> None:  # type: ignore[valid-type]
    """Load and compute here what several of the `notebooks` need, so that forks of this process find it done.

    The library (but for the chart to explore, which one alone draws), the market, the rules applied to it, and the
    forecasts replayed; the last two for the arguments with which the notebooks ask for them.
    """
    for module in walk_packages(capitulation.__path__, "capitulation."):
        if not module.name.endswith("figures.history"):
            import_module(module.name)
    from capitulation.study.forecasts import replay

    texts = [path.read_text(encoding="utf-8") for path in notebooks]
    read_market.ahead(market.resolve())
    panel, rules = read_market(market.resolve()).panel, shared_settings(params)["rules"]
    with suppress(Exception):  # what fails here fails again in the notebook, which says so
        if sum("apply_rules(" in text for text in texts) > 1:
            apply_rules.ahead(panel, **rules)
        if sum("forecasts.replay(" in text for text in texts) > 1:
            windows = {name: rules[name] for name in ("fast_days", "slow_days")}
            kept = {name: rules[name] for name in ("price_fast_days", "price_slow_days", "min_days", "min_depth_z")}
            found = episodes(hash_ribbons(panel, **windows)["inverted"], panel, **windows, **kept)
            replay.ahead(panel, found, **windows, lag=params.entry_lag_days, since=params.sample_start)


def take_over(published: Path, staging: Path, record: dict[str, Any]) -> dict[str, float]:
    """Copy what the same notebooks left, with the same inputs, in the last report or in one of another name.

    Notes their files in `record`; a file that is not as it was made is not taken. Gives the seconds that each notebook
    took when it last ran.
    """
    others = (path.parent for path in reports_folder().glob("[A-Za-z0-9]*/run.json"))
    newest = sorted(others, key=lambda folder: (folder != published, -folder.stat().st_mtime))
    seconds: dict[str, float] = {}
    for folder in newest:
        if not (wanted := [made for made in record["notebooks"] if "files" not in made]):
            break
        before = read_record(folder)
        known = {item["key"]: item["files"] for item in before.get("notebooks", [])}
        with suppress(OSError, ValueError, KeyError):
            seconds = json.loads((folder / "timings.json").read_bytes())["notebooks"] | seconds
        for made in [made for made in wanted if made["key"] in known]:
            names = [f"notebooks/{made['name']}.ipynb", *known[made["key"]]]
            with suppress(OSError):
                contents = {name: (folder / name).read_bytes() for name in names}
                if {name: digest(content) for name, content in contents.items()}.items() <= before["files"].items():
                    for name, content in contents.items():
                        write_whole(staging / name, content)
                    made["files"] = names[1:]
    return seconds


def _merge(part: Path, staging: Path) -> list[str]:
    """Move what one notebook wrote to its place in the report; paths of the files. Two may not write the same file."""
    (part / "market").unlink()
    (part / "settings.json").unlink()
    moved = list(files_below(part))
    for name in moved:
        if (staging / name).exists():
            raise ReportError(f"notebook {part.name} writes {one_line(name, 120)}, which another already wrote")
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).rename(staging / name)
    return moved
