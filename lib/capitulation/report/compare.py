"""Working with published reports: what changed between two, one as a zip to send, one rebuilt from its own record."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from capitulation.data.market import Market, read_market
from capitulation.data.snapshots import SnapshotMissing, find_snapshot
from capitulation.errors import DataError, InputError, one_line
from capitulation.params import Params, make_params
from capitulation.paths import notebooks_folder, reports_folder
from capitulation.report.render import clean, read_json, read_table, slug
from capitulation.report.render import fill as fill_page
from capitulation.report.run import (
    COMPARISONS,
    Options,
    Progress,
    Work,
    fill,
    find_notebooks,
    market_for,
    new_record,
    open_report,
    run_lock,
    staging_folder,
    versions,
)
from capitulation.report.tables import html_table
from capitulation.words import count

SHOWN_REVISIONS = 20
PARTS = {
    "parameters": ("Parameters", "Parameters that differ."),
    "market": ("Data", "Where the data came from and which days they cover."),
    "revisions": ("Revised days", "Days that both have, with other values; the largest relative changes first."),
    "headline": ("The primary test", "Figures of the primary test."),
    "present": ("The present state", "The state on the last day of each."),
    "episodes": ("Episodes", "Episodes that appeared, vanished or moved; the same episode overlaps in time."),
    "tables": ("Tables", "Tables whose content differs."),
    "versions": ("Software", "Versions that differ."),
}
FORMATS = {"relative_change": "+.3%", "first": ".6g", "second": ".6g"}
MARKET = ("source", "snapshot", "retrieved_at", "first_day", "last_day", "n_days", "simulated")
PRIMARY = ("n_events", "n_clusters", "mean", "median", "hit_rate", "base_median", "excess_log", "ci_low", "ci_high")
PRESENT = (
    "as_of",
    "ribbon_state",
    "days_in_state",
    "gap",
    "gap_z",
    "hash_rate_drawdown",
    "hashprice",
    "puell_multiple",
)
BUNDLED = ("report.html", "run.json", "state.json", "tables/*.csv")


# --- two reports ----------------------------------------------------------------------------------------------------


def changed_values(a: Mapping[str, Any], b: Mapping[str, Any], names: tuple[str, ...] = ()) -> pd.DataFrame:
    """Frame[name, first, second] of the values that differ, as text; "–" where one has none."""

    def text(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.4g}".replace("-", "−")
        return "–" if value is None or value == "" else str(value)

    keys = names or dict.fromkeys([*a, *b])
    rows = [(key, text(a.get(key)), text(b.get(key))) for key in keys if a.get(key) != b.get(key)]
    return pd.DataFrame(rows, columns=["name", "first", "second"])


def revised_days(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Frame[date, column, first, second, relative_change]: other values on the same day, largest change first.

    Missing against missing is no difference.
    """
    days, columns = a.index.intersection(b.index), a.columns.intersection(b.columns)
    long = [
        frame.loc[days, columns]
        .melt(var_name="column", value_name=name, ignore_index=False)
        .set_index("column", append=True)
        for frame, name in ((a, "first"), (b, "second"))
    ]
    both = pd.concat(long, axis=1)
    both = both[(both["first"] != both["second"]) & ~both.isna().all(axis=1)]
    found = (
        both.assign(relative_change=both["second"] / both["first"] - 1).rename_axis(["date", "column"]).reset_index()
    )
    order = found["relative_change"].abs().sort_values(ascending=False, na_position="first", kind="stable").index
    return found.loc[order].reset_index(drop=True)


def matched_episodes(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Frame[definition, change, first, second]: episodes that appeared, vanished or moved.

    An episode of one report is the same as one of the other if they overlap in time.
    """

    def spans(episodes: pd.DataFrame, definition: str) -> list[tuple[str, str]]:
        chosen = episodes[episodes["definition"] == definition]
        return list(zip(chosen["start"], chosen["end"].fillna("9999"), strict=True))

    def shown(span: tuple[str, str]) -> str:
        return f"{span[0]} to {'now' if span[1] == '9999' else span[1]}"

    rows = []
    for name in dict.fromkeys([*a["definition"], *b["definition"]]):
        old, new = spans(a, name), spans(b, name)
        for span in old:
            twins = [other for other in new if other[0] < span[1] and span[0] < other[1]]
            if not twins:
                rows.append((name, "vanished", shown(span), "–"))
            elif span not in twins:
                rows.append((name, "moved", shown(span), ", ".join(map(shown, twins))))
        alone = [span for span in new if not any(span[0] < other[1] and other[0] < span[1] for other in old)]
        rows += [(name, "appeared", "–", shown(span)) for span in alone]
    return pd.DataFrame(rows, columns=["definition", "change", "first", "second"])


def differences(one: Path, other: Path, a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Everything that differs between the reports in two folders with the records `a` and `b`, by name of the part."""
    tables = [
        (name, "differs" if name in a["tables"] and name in b["tables"] else f"only in the {place}")
        for name, place in {**dict.fromkeys(b["tables"], "second"), **dict.fromkeys(a["tables"], "first")}.items()
        if a["tables"].get(name) != b["tables"].get(name)
    ]
    episodes = [read_table(folder, "episodes") for folder in (one, other)]
    primary = [read_json(folder / "headline.json").get("primary", {}) for folder in (one, other)]
    p_column = read_json(one / "headline.json").get("p_column", "p_rotation")
    return {
        "parameters": changed_values({**a["parameters"], **a["own"]}, {**b["parameters"], **b["own"]}),
        "market": changed_values(a["market"], b["market"], MARKET),
        "revisions": revised_days(read_market(one / "market").panel, read_market(other / "market").panel),
        "headline": changed_values(*primary, tuple(dict.fromkeys((*PRIMARY, "p_rotation", p_column)))),
        "present": changed_values(*(read_json(folder / "state.json") for folder in (one, other)), PRESENT),
        "episodes": pd.DataFrame() if any(found.empty for found in episodes) else matched_episodes(*episodes),
        "tables": pd.DataFrame(tables, columns=["table", "state"]),
        "versions": changed_values(a["versions"], b["versions"]),
    }


def sentence(found: Mapping[str, pd.DataFrame], a: str, b: str) -> str:
    """The comparison of the runs `a` and `b` in a sentence, and what became of the primary test in a second."""
    sizes = {"parameter": len(found["parameters"]), "revised day": found["revisions"]["date"].nunique()}
    kinds = found["episodes"]["change"].value_counts() if not found["episodes"].empty else {}
    parts = [count(n, word) for word, n in sizes.items() if n]
    parts += [f"{count(n, 'episode')} {kind}" for kind, n in kinds.items()]
    parts += [count(len(found["tables"]), "table")] if len(found["tables"]) else []
    if not parts:
        return f"{a} and {b} hold the same figures."
    words = {"excess_log": "excess log return", "p_rotation": "rotation p"}
    rows = found["headline"][found["headline"]["name"].isin(words)].itertuples()
    moved = [f"{words[row.name]} {row.first} became {row.second}" for row in rows]
    primary = f" Of the primary test: {', '.join(moved)}." if moved else ""
    return f"{a} and {b} differ: {', '.join(parts)}.{primary}"


def compare_runs(a: str, b: str, progress: Progress = print) -> Path:
    """Write reports/compare/<a>-and-<b>.html and give its path; `InputError` where a report is missing.

    The locks of both runs keep the reports as they are meanwhile.
    """
    (one, facts), (other, others) = open_report(a), open_report(b)
    with ExitStack() as locks:
        for run in sorted({a, b}):
            locks.enter_context(run_lock(run, progress))
        found = differences(one, other, facts, others)
    sections = []
    for name, frame in found.items():
        title, caption = PARTS[name]
        shown = frame.head(SHOWN_REVISIONS) if name == "revisions" else frame
        if len(shown) < len(frame):
            caption += f" {len(shown)} of {len(frame):,} are shown."
        if name in ("market", "headline", "present"):
            shown = shown.assign(name=shown["name"].str.replace("_", " "))
        if not frame.empty:
            table = clean(html_table(shown, caption, headers={"first": a, "second": b}, formats=FORMATS))
            sections.append({"id": slug(title), "title": title, "table": table})
    same = [PARTS[name][0].lower() for name, frame in found.items() if frame.empty]
    simulated = facts["market"]["simulated"] or others["market"]["simulated"]
    told = {"sentence": sentence(found, a, b), "sections": sections, "same": same, "simulated": simulated}
    target = reports_folder() / COMPARISONS / f"{a}-and-{b}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    with _beside(target) as partial:
        partial.write_text(fill_page("compare.html.j2", a=a, b=b, **told), encoding="utf-8")
    return target


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A hidden file to write, which then takes the place of `target`; what a killed process left is removed."""
    for stale in target.parent.glob(f".{target.name}-*"):
        if stale.name.removeprefix(f".{target.name}-").isdigit():
            stale.unlink(missing_ok=True)
    partial = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


# --- one report -----------------------------------------------------------------------------------------------------


def bundle(run: str) -> Path:
    """Write reports/<run>.zip with the whole report in one file, its tables and its record, and give its path.

    The same report gives the same bytes. `InputError` where there is no report.
    """
    folder, _facts = open_report(run)
    target = reports_folder() / f"{run}.zip"
    with run_lock(run), _beside(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for pattern in BUNDLED for path in folder.glob(pattern)):
            entry = zipfile.ZipInfo(f"{run}/{path.relative_to(folder).as_posix()}", (1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, path.read_bytes())
    return target


def reproduce(run: str, options: Options = Options(), progress: Progress = print) -> tuple[bool, str]:  # noqa: B008
    """(every table identical, report as text) after rebuilding run `run` beside the published one, which stays.

    The market is read from the recorded snapshot, file or seed; where that is gone, from the copy in the report, and
    the text says so. Raises `InputError` where there is no report, `DataError` where the snapshot no longer is what
    was fetched or the report's own record or data are damaged.
    """
    folder, facts = open_report(run)
    params = make_params(facts["parameters"], where=f"reports/{run}/run.json")
    market, origin = _recorded_market(folder, facts, params, progress)
    work = Work(run, params, facts["own"], market, find_notebooks(notebooks_folder()))
    record = new_record(work)
    with staging_folder(run, progress) as staging:
        fill(staging, work, record, options._replace(force=True), progress)
    before, after = facts["tables"], record["tables"]
    lines = [f"{name}: not made again" for name in before if name not in after]
    lines += [f"{name}: new" for name in after if name not in before]
    lines += [f"{name}: differs" for name in before if name in after and before[name] != after[name]]
    now = versions()
    changed = [
        f"{name} {old} then, {now.get(name)} now" for name, old in facts["versions"].items() if now.get(name) != old
    ]
    first = f"{run}: {len(before)} tables, {'NOT all identical' if lines else 'all identical'}; {origin}"
    return not lines, "\n".join([first, *lines, *changed])


def _recorded_market(folder: Path, facts: Mapping[str, Any], params: Params, progress: Progress) -> tuple[Market, str]:  # type: ignore[valid-type]
    """The market that a report was made from, with what was known of it then, and where it was found."""
    wanted = facts["market"]
    try:
        if wanted["simulated"]:
            market = market_for(params.model_copy(update={"source": "simulated", "data": ""}), progress)
        elif params.data:
            market = market_for(params, progress)
        else:
            market = market_for(params, progress, offline=True, snapshot=wanted["snapshot"])
        reason = "" if market.digest == wanted["digest"] else "it now gives other data"
    except (SnapshotMissing, InputError) as error:
        reason = one_line(error, 200)
    if reason:
        copy = read_market(folder / "market")
        if copy.digest != wanted["digest"]:
            raise DataError(f"reports/{folder.name}/market: not the data that run.json speaks of; refused")
        return copy, f"data from the copy in the report ({wanted['snapshot']}: {reason})"
    gone = []
    for name in wanted["others"]:
        try:
            find_snapshot(name)
        except DataError:
            gone.append(name)
    missing = f"; no longer stored, so not compared with: {one_line(', '.join(gone), 200)}" if gone else ""
    known = {"age_days": wanted["age_days"], "notes": tuple(wanted["notes"]), "others": tuple(wanted["others"])}
    return dataclasses.replace(market, **known), f"data from {wanted['snapshot']}{missing}"
