"""Working with published reports: what changed between two, one as a zip to send, one rebuilt from its own record."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from capitulation.data.market import Market, other_panels, read_market
from capitulation.data.snapshots import SnapshotMissing
from capitulation.errors import DataError, InputError, one_line
from capitulation.figures.compared import compared
from capitulation.figures.style import png_bytes
from capitulation.params import Params, make_params
from capitulation.paths import notebooks_folder, reports_folder, write_whole
from capitulation.report import run as driver
from capitulation.report.changes import changed_tables, changed_values, differences, in_words, side
from capitulation.report.render import fill, picture_of, rules_asked, slug
from capitulation.report.run import Options, Progress, open_report, run_lock
from capitulation.report.tables import html_table, read_table
from capitulation.words import count

CAPTIONS = {
    "Data": "Where the data came from and which days they cover.",
    "Revised days": "Days that both have, with other values; the largest relative changes first.",
    "The present state": "The state on the last day of each.",
    "Episodes": "Episodes that appeared, vanished or moved; the same episode overlaps in time.",
    "Claims": "Published claims whose verdict turned.",
}
FORMATS = {"relative_change": "+.3%", "first": ".6g", "second": ".6g"}
BUNDLED = ("*.html", "run.json", "state.json", "summary.txt", "tables/*.csv")


def compare_runs(a: str, b: str, progress: Progress = print) -> Path:
    """Write reports/compare/<a>-and-<b>.html, both reports locked; its path. `InputError` where one is missing."""
    (one, facts), (other, others) = open_report(a), open_report(b)
    sections = []
    with ExitStack() as locks:
        for run in sorted({a, b}):
            locks.enter_context(run_lock(run, progress))
        first, second = side(one, facts), side(other, others)
        found = differences(first, second)
        for title, frame in found.items():
            shown = frame.head(20) if title == "Revised days" else frame
            caption = CAPTIONS.get(title, f"{title}: what differs.")
            if len(shown) < len(frame):
                caption += f" {len(shown)} of {len(frame):,} are shown."
            table = html_table(shown, caption, headers={"first": a, "second": b}, formats=FORMATS)
            sections.append({"id": slug(title), "title": title, "table": "" if frame.empty else table})
        told = in_words(first, second, found)
        same = f"{a} and {b} hold the same figures."
        if found["Tables"].size:
            same = f"{a} and {b} say the same; {count(len(found['Tables']), 'table')} differ in some digits."
        runs = {a: (one, facts), b: (other, others)}
        picture = {} if a == b else _overlaid(runs)
        market = {"simulated": facts["market"]["simulated"] or others["market"]["simulated"]}
        page = fill("compare.html.j2", a=a, b=b, told=told or [same], picture=picture, sections=sections, market=market)
        return write_whole(reports_folder() / driver.COMPARISONS / f"{a}-and-{b}.html", page.encode())


def _overlaid(runs: Mapping[str, tuple[Path, Mapping[str, Any]]]) -> dict[str, Any]:
    """The picture of both runs' gaps and of the primary question asked of every rule, as the pages show pictures."""
    gaps, excess = {}, {}
    for run, (folder, facts) in runs.items():
        daily = read_table(folder, "daily").reindex(columns=["date", "ribbon_gap"])
        gaps[run] = daily.set_index(pd.to_datetime(daily["date"]))["ribbon_gap"].astype(float)
        rows = rules_asked(read_table(folder, "forward_returns"), make_params(facts["parameters"]))
        columns = {"excess_own_era": "excess", "ci_low_own_era": "low", "ci_high_own_era": "high"}
        excess[run] = rows.set_index("definition")[list(columns)].rename(columns=columns)
    drawn = compared(gaps, excess)
    narrow = drawn.narrow()
    caption = "Both reports: the gap of the Hash Ribbons in the last two years; what followed the signals of each rule."
    return picture_of("compared", png_bytes(drawn), png_bytes(narrow), str(drawn.get_label()), caption)


def bundle(run: str) -> Path:
    """Write reports/<run>.zip, the same bytes for the same report; its path.

    `InputError` where there is no report, `DataError` where a link stands in it for a file.
    """
    folder, _facts = open_report(run)
    packed = io.BytesIO()
    with run_lock(run):
        with zipfile.ZipFile(packed, "w") as archive:
            for path in sorted(path for pattern in BUNDLED for path in folder.glob(pattern)):
                inside = path.relative_to(folder)
                if path.resolve() != folder.resolve() / inside:
                    raise DataError(f"reports/{run}/{inside}: a link, which a bundle does not follow; remove it")
                entry = zipfile.ZipInfo(f"{run}/{inside.as_posix()}")  # dated 1980, as all others
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
        return write_whole(reports_folder() / f"{run}.zip", packed.getvalue())


def reproduce(run: str, options: Options = Options(), progress: Progress = print) -> tuple[bool, str]:  # noqa: B008
    """(every table identical, report as text) after rebuilding run `run` beside the published one, which stays.

    The market comes from the recorded snapshot, file or seed; where that is gone, from the copy in the report, and the
    text says so. `InputError` where there is no report, `DataError` where it or the snapshot is damaged.
    """
    folder, facts = open_report(run)
    params = make_params(facts["parameters"], where=f"reports/{run}/run.json")
    market, origin = _market_then(folder, facts["market"], params, progress)
    notebooks = driver.can_run(driver.find_notebooks(notebooks_folder(), params.pages), market)
    work = driver.Work(run, params, facts["own"], market, notebooks)
    record = driver.new_record(work)
    with driver.staging_folder(run, progress) as staging:
        driver.fill(staging, work, record, {}, options, progress)
    changed = changed_tables(facts["tables"], record["tables"], "not made again", "new")
    first = f"{run}: {len(facts['tables'])} tables, {'NOT all identical' if changed else 'all identical'}; {origin}"
    lines = [f"{name}: {state}" for name, state in changed.items()]
    rows = changed_values(facts["versions"], driver.versions()).itertuples()
    return not changed, "\n".join([first, *lines, *(f"{row.name} {row.first} then, {row.second} now" for row in rows)])


def _market_then(folder: Path, wanted: Mapping[str, Any], params: Params, progress: Progress) -> tuple[Market, str]:  # type: ignore[valid-type]
    """The market that a report was made from, with what was known of it then, and where it was found."""
    made = wanted["source"] == "simulated"
    stored = {} if made or wanted["source"] == "file" else {"offline": True, "snapshot": wanted["snapshot"]}
    asked = params.model_copy(update={"source": "simulated", "data": ""} if made else {})
    try:
        market, origin = driver.market_for(asked, progress, **stored), f"data from {wanted['snapshot']}"
        if market.digest != wanted["digest"]:
            raise InputError("it now gives other data")
    except (SnapshotMissing, InputError) as error:
        market = read_market(folder / "market")
        if market.digest != wanted["digest"]:
            raise DataError(f"reports/{folder.name}/market: not the data that run.json speaks of; refused") from None
        origin = f"data from the copy in the report ({wanted['snapshot']}: {one_line(error, 200)})"
    then = {name: tuple(wanted[name]) for name in ("notes", "findings", "others", "origins") if name in wanted}
    market = replace(market, age_days=wanted["age_days"], **then)
    gone = [name for name in market.others if name.partition("/")[0] not in other_panels(market)]
    missing = f"; no longer stored, so not compared with: {one_line(', '.join(gone), 200)}" if gone else ""
    return market, f"{origin}{missing}"
