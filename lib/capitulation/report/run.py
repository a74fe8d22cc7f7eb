"""Make a report: load the market, run the notebooks that changed, render the pages, publish them by one rename."""

from __future__ import annotations

import dataclasses
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capitulation.errors import InputError
from capitulation.params import Params
from capitulation.paths import notebooks_folder
from capitulation.report import fingerprint, publish, record
from capitulation.report.names import DEFAULT_RUN, check_run_name, failed_folder, published_folder, run_for_market
from capitulation.report.notebooks import Notebook, check_overrides, find_notebooks

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[str], None]
Load = Callable[[Params, Progress], Any]


def make_report(
    params: Params,
    run_name: str,
    *,
    jobs: int,
    force: bool = False,
    declared_overrides: frozenset[str] = frozenset(),
    progress: Progress = print,
    load: Load | None = None,
) -> Path:
    """Bring reports/<run>/ up to date and give its folder; `force` runs every notebook again.

    `jobs`: notebooks run at once (1: strictly one after the other). `declared_overrides`: names that the user set, each
    of which some notebook must declare. `load`: gives the market instead of `load_market`. Raises `InputError` for a
    run name or an override that cannot be used, `ReportError` naming notebook, cell and error when one fails; the
    previous report then stays as it was and the broken notebook is kept in reports/<run>.failed/.
    """
    check_run_name(run_name or DEFAULT_RUN)
    notebooks = find_notebooks(notebooks_folder())
    check_overrides(declared_overrides, notebooks)
    key = "" if load else fingerprint.run_key(notebooks, params)
    if key and not force and (folder := unchanged(run_name, params, key)):
        progress(f"nothing changed since reports/{folder.name} was made; FORCE=1 runs it again")
        return folder
    return _make(params, run_name, notebooks, jobs, force, progress, load or _load_market, key)


def unchanged(run_name: str, params: Params, key: str) -> Path | None:
    """The published report if it was made from exactly what a new one would be made from, and is whole."""
    run = run_for_market(run_name, fingerprint.data_key(params) == "simulated")
    folder = published_folder(run)
    facts = record.read_record(folder)
    return folder if facts.get("key") == key and record.is_whole(folder, facts) else None


def _make(
    params: Params,
    run_name: str,
    notebooks: Sequence[Notebook],
    jobs: int,
    force: bool,
    progress: Progress,
    load: Load,
    key: str,
) -> Path:
    """The whole way, with kernels warming up while the market is loaded."""
    from capitulation.report.build import Build, build_report, likely_needed
    from capitulation.report.execute import KernelHost

    with stop_on_termination(), KernelHost() as kernels:
        if force or likely_needed(run_name, notebooks, params):
            kernels.start()
        market = load(params, progress)
        run = run_for_market(run_name, market.simulated)
        if any("primary_horizon_days" in notebook.declared for notebook in notebooks):
            check_sample(market.panel["price_usd"].dropna(), market.source, params)
        if market.simulated:
            progress(f"simulated market, not real data: the report goes to reports/{run}/")
        key = key or fingerprint.run_key(notebooks, params)
        with publish.run_lock(run, progress):
            publish.check_place(run)
            staging = publish.new_staging(run)
            try:
                build = Build(run, params, market, notebooks, jobs, force, progress, key, staging)
                return _publish(build, build_report(build, kernels))
            finally:
                shutil.rmtree(staging, ignore_errors=True)


def check_sample(price: pd.Series, source: str, params: Params) -> None:
    """Refuse a run that has no price, or too few days since sample_start for its longest horizon.

    `price`: the known prices. Twice the longest horizon is the least: one for an event's outcome, one for others.
    """
    if price.empty:
        raise InputError(f"source {source} has no price, and a report is about returns: choose SOURCE=auto")
    days, needed = len(price[params.sample_start :]), 2 * (max(params.horizons_days) + params.entry_lag_days)
    if days < needed:
        raise InputError(
            f"only {days} days with a price from sample_start={params.sample_start} to {price.index[-1]:%Y-%m-%d}, "
            f"{needed} needed: choose a later AS_OF, an earlier sample_start or shorter horizons_days (SET)"
        )


def _publish(build: Any, timings: dict[str, Any]) -> Path:
    made_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    record.write_json(build.staging / record.TIMINGS_FILE, {"made_at": made_at, **timings})
    folder = publish.publish(build.staging, build.run)
    shutil.rmtree(failed_folder(build.run), ignore_errors=True)
    return folder


def _load_market(params: Params, progress: Progress) -> Any:
    """The market with its age in whole days, so that two reports of one day are the same."""
    from capitulation.data.market import load_market

    market = load_market(params, progress=progress)
    age = market.age_days
    return dataclasses.replace(market, age_days=None if age is None else float(math.floor(age)))


@contextmanager
def stop_on_termination() -> Iterator[None]:
    """Treat a polite request to end (SIGTERM) like Ctrl-C, so that everything is put away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous if previous is not None else signal.SIG_DFL)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
