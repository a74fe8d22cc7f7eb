"""Rebuild a published report from its record and say whether every table came out the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from capitulation.data.store import SnapshotMissing, find_snapshot
from capitulation.errors import DataError, InputError, one_line
from capitulation.params import Params, make_params
from capitulation.paths import notebooks_folder
from capitulation.report import record
from capitulation.report.notebooks import find_notebooks
from capitulation.report.publish import new_staging, open_report, run_lock

Progress = Callable[[str], None]


def reproduce(run: str, progress: Progress = print, jobs: int = 0) -> tuple[bool, str]:
    """(every table identical, report as text) after rebuilding run `run` beside the published one, which stays.

    The market is read from the recorded snapshot, file or seed; where that is gone, from the copy in the report, and
    the text says so. Raises `InputError` where there is no report, `DataError` where the snapshot no longer is what
    was fetched or the report's own record or data are damaged.
    """
    folder = open_report(run)
    with run_lock(run, progress):
        facts = record.require_record(folder)
        params = make_params(facts["parameters"], where=f"reports/{run}/{record.RUN_FILE}")
        market, origin = recorded_market(folder, facts, params, progress)
        staging = new_staging(run)
        try:
            tables = _rebuild(run, params, market, staging, progress, jobs or os.cpu_count() or 1)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return verdict(facts, tables, origin)


def recorded_market(folder: Path, facts: Mapping[str, Any], params: Params, progress: Progress) -> tuple[Any, str]:
    """The market that a report was made from, and where it was found."""
    from capitulation.data.market import read_market

    wanted = facts["market"]
    try:
        market = _from_origin(wanted, params, progress)
        reason = "" if market.digest == wanted["digest"] else "it now gives other data"
    except (SnapshotMissing, InputError) as error:
        reason = one_line(error, 200)
    if not reason:
        return _as_recorded(market, wanted), f"data from {wanted['snapshot']}{_gone(wanted)}"
    copy = read_market(folder / "market")
    if copy.digest != wanted["digest"]:
        raise DataError(f"reports/{folder.name}/market: not the data that {record.RUN_FILE} speaks of; refused")
    return copy, f"data from the copy in the report ({wanted['snapshot']}: {reason})"


def _as_recorded(market: Any, wanted: Mapping[str, Any]) -> Any:
    """`market` with what was known of it then: its age, its remarks, the snapshots that it was compared with."""
    others = tuple(wanted.get("others", market.others))
    return replace(market, age_days=wanted["age_days"], notes=tuple(wanted["notes"]), others=others)


def _gone(wanted: Mapping[str, Any]) -> str:
    """Snapshots that the market was compared with then and cannot be now, in words."""
    names = [name for name in wanted.get("others", ()) if not _is_stored(name)]
    return f"; no longer stored, so not compared with: {one_line(', '.join(names), 200)}" if names else ""


def _is_stored(name: str) -> bool:
    try:
        return bool(find_snapshot(name))
    except DataError:
        return False


def _from_origin(wanted: Mapping[str, Any], params: Params, progress: Progress) -> Any:
    from capitulation.data.market import load_market

    if wanted["simulated"]:
        return load_market(params.model_copy(update={"source": "simulated", "data": ""}), progress=progress)
    if params.data:
        return load_market(params, progress=progress)
    return load_market(params, progress=progress, offline=True, snapshot=wanted["snapshot"])


def _rebuild(run: str, params: Params, market: Any, staging: Path, progress: Progress, jobs: int) -> dict[str, str]:
    """Digest of each table after running every notebook again."""
    from capitulation.report.build import Build, build_report
    from capitulation.report.execute import KernelHost
    from capitulation.report.run import stop_on_termination

    notebooks = find_notebooks(notebooks_folder())
    with stop_on_termination(), KernelHost() as kernels:
        kernels.start()
        build_report(Build(run, params, market, notebooks, jobs, True, progress, "", staging), kernels)
    return record.read_json(staging / record.RUN_FILE)["tables"]


def verdict(facts: Mapping[str, Any], tables: Mapping[str, str], origin: str) -> tuple[bool, str]:
    """Whether the tables of two builds agree, and a line per thing that does not."""
    before = facts["tables"]
    lines = [f"{name}: not made again" for name in before if name not in tables]
    lines += [f"{name}: new" for name in tables if name not in before]
    lines += [f"{name}: differs" for name in before if name in tables and before[name] != tables[name]]
    same = not lines
    now = record.versions()
    changed = [
        f"{name} {old} then, {now.get(name)} now" for name, old in facts["versions"].items() if now.get(name) != old
    ]
    first = f"{facts['run']}: {len(before)} tables, {'all identical' if same else 'NOT all identical'}; {origin}"
    return same, "\n".join([first, *lines, *changed])
