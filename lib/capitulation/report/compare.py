"""Working with published reports: what changed between two, one as a zip to send, one rebuilt from its own record."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from capitulation.data.market import Market, other_panels, read_market
from capitulation.data.snapshots import SnapshotMissing
from capitulation.errors import DataError, InputError, one_line
from capitulation.params import Params, make_params
from capitulation.paths import notebooks_folder, reports_folder, write_whole
from capitulation.report import run as driver
from capitulation.report.render import fill, read_json, read_table, slug
from capitulation.report.run import Options, Progress, open_report, run_lock
from capitulation.report.tables import html_table
from capitulation.words import count

CAPTIONS = {
    "Data": "Where the data came from and which days they cover.",
    "Revised days": "Days that both have, with other values; the largest relative changes first.",
    "The present state": "The state on the last day of each.",
    "Episodes": "Episodes that appeared, vanished or moved; the same episode overlaps in time.",
}
FORMATS = {"relative_change": "+.3%", "first": ".6g", "second": ".6g"}
MARKET = ("source", "snapshot", "retrieved_at", "first_day", "last_day", "n_days", "simulated")
PRIMARY = ("n_events", "n_clusters", "n_effective", "mean", "median", "hit_rate", "base_median", "excess_own_era")
PRIMARY += ("ci_low_own_era", "ci_high_own_era", "p_rotation_own_era", "excess_log", "p_rotation")
STATE = ("as_of", "ribbon_state", "days_in_state", "gap", "gap_z", "hash_rate_drawdown", "hashprice", "puell_multiple")
BUNDLED = ("report.html", "run.json", "state.json", "tables/*.csv")


def changed_values(a: Mapping[str, Any], b: Mapping[str, Any], names: Sequence[str] = ()) -> pd.DataFrame:
    """Frame[name, first, second] of the values that differ (of `names`, in words), as text; "–" where one has none."""

    def text(value: Any) -> str:
        shown = f"{value:.4g}".replace("-", "−") if isinstance(value, float) else str(value)
        return "–" if value in (None, "") else shown

    rows = [(key, text(a.get(key)), text(b.get(key))) for key in names or {**a, **b} if a.get(key) != b.get(key)]
    found = pd.DataFrame(rows, columns=["name", "first", "second"])
    return found.replace({"name": {name: name.replace("_", " ") for name in names}})


def changed_tables(a: Mapping[str, str], b: Mapping[str, str], only_a: str, only_b: str) -> dict[str, str]:
    """What differs between two records of tables (digest by name): `only_a`, `only_b` or "differs" by name."""
    states = {name: "differs" if name in a and name in b else only_a if name in a else only_b for name in {**b, **a}}
    return {name: state for name, state in states.items() if a.get(name) != b.get(name)}


def revised_days(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Frame[date, column, first, second, relative_change]: values that differ or are gone, largest change first."""
    days, columns = a.index.intersection(b.index), a.columns.intersection(b.columns)
    first, second = (frame.loc[days, columns].melt(var_name="column", ignore_index=False) for frame in (a, b))
    both = first.rename(columns={"value": "first"}).assign(second=second["value"]).rename_axis("date").reset_index()
    found = both[(both["first"] != both["second"]) & both[["first", "second"]].notna().any(axis=1)]
    found = found.assign(relative_change=found["second"] / found["first"] - 1)
    order = {"ascending": False, "na_position": "first", "kind": "stable", "ignore_index": True}
    return found.sort_values("relative_change", key=abs, **order)


def matched_episodes(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Frame[definition, change, first, second]: episodes that appeared, vanished or moved (those overlap in time)."""
    rows = []
    for name in dict.fromkeys([*a["definition"], *b["definition"]]):
        chosen = [frame[frame["definition"] == name] for frame in (a, b)]
        old, new = (list(zip(frame["start"], frame["end"].fillna("now"), strict=True)) for frame in chosen)
        for span in old:
            twins = [other for other in new if other[0] < span[1] and span[0] < other[1]]  # "now" is after any ISO day
            if span not in twins:
                became = ", ".join(map(" to ".join, twins)) or "–"
                rows.append((name, "moved" if twins else "vanished", " to ".join(span), became))
        alone = [span for span in new if not any(span[0] < other[1] and other[0] < span[1] for other in old)]
        rows += [(name, "appeared", "–", " to ".join(span)) for span in alone]
    return pd.DataFrame(rows, columns=["definition", "change", "first", "second"])


def differences(one: Path, other: Path, a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Everything that differs between the reports in two folders with the records `a` and `b`, by name of the part."""
    folders = one, other
    primary = [read_json(folder / "headline.json").get("primary", {}) for folder in folders]
    episodes = [read_table(folder, "episodes") for folder in folders]
    tables = changed_tables(a["tables"], b["tables"], "only in the first", "only in the second")
    return {
        "Parameters": changed_values({**a["parameters"], **a["own"]}, {**b["parameters"], **b["own"]}),
        "Data": changed_values(a["market"], b["market"], MARKET),
        "Revised days": revised_days(*(read_market(folder / "market").panel for folder in folders)),
        "The primary test": changed_values(*primary, PRIMARY),
        "The present state": changed_values(*(read_json(folder / "state.json") for folder in folders), STATE),
        "Episodes": pd.DataFrame() if any(found.empty for found in episodes) else matched_episodes(*episodes),
        "Tables": pd.DataFrame(tables.items(), columns=["table", "state"]),
        "Software": changed_values(a["versions"], b["versions"]),
    }


def sentence(found: Mapping[str, pd.DataFrame], a: str, b: str) -> str:
    """The comparison of the runs `a` and `b` in a sentence, and what became of the primary test in a second."""
    sizes = {"parameter": len(found["Parameters"]), "revised day": found["Revised days"]["date"].nunique()}
    parts = [count(n, word) for word, n in sizes.items() if n]
    if not found["Episodes"].empty:
        parts += [f"{count(n, 'episode')} {kind}" for kind, n in found["Episodes"]["change"].value_counts().items()]
    parts += [count(len(found["Tables"]), "table")] if len(found["Tables"]) else []
    if not parts:
        return f"{a} and {b} hold the same figures."
    words = {"excess own era": "excess log return", "p rotation own era": "rotation p"}
    rows = [row for row in found["The primary test"].itertuples() if row.name in words]
    moved = ", ".join(f"{words[row.name]} {row.first} became {row.second}" for row in rows)
    return f"{a} and {b} differ: {', '.join(parts)}." + (f" Of the primary test: {moved}." if moved else "")


def compare_runs(a: str, b: str, progress: Progress = print) -> Path:
    """Write reports/compare/<a>-and-<b>.html, both reports locked; its path. `InputError` where one is missing."""
    (one, facts), (other, others) = open_report(a), open_report(b)
    sections = []
    with ExitStack() as locks:
        for run in sorted({a, b}):
            locks.enter_context(run_lock(run, progress))
        found = differences(one, other, facts, others)
        for title, frame in found.items():
            shown = frame.head(20) if title == "Revised days" else frame
            caption = CAPTIONS.get(title, f"{title}: what differs.")
            if len(shown) < len(frame):
                caption += f" {len(shown)} of {len(frame):,} are shown."
            table = html_table(shown, caption, headers={"first": a, "second": b}, formats=FORMATS)
            sections.append({"id": slug(title), "title": title, "table": "" if frame.empty else table})
        market = {"simulated": facts["market"]["simulated"] or others["market"]["simulated"]}
        page = fill("compare.html.j2", a=a, b=b, sentence=sentence(found, a, b), sections=sections, market=market)
        return write_whole(reports_folder() / driver.COMPARISONS / f"{a}-and-{b}.html", page.encode())


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
