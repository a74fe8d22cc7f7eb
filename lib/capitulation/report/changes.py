"""What differs between two reports, as tables and in words: since the last report, or between two that are named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from capitulation.data.market import read_market
from capitulation.errors import CapitulationError
from capitulation.figures.style import rule_words
from capitulation.paths import read_json
from capitulation.report.tables import codebook, read_table
from capitulation.words import count, p_text, percent, signed

MARKET = ("source", "snapshot", "retrieved_at", "first_day", "last_day", "n_days", "simulated")
PRIMARY = ("n_events", "n_clusters", "n_effective", "mean", "median", "hit_rate", "base_median", "excess_own_era")
PRIMARY += ("ci_low_own_era", "ci_high_own_era", "p_rotation_own_era", "excess_log", "p_rotation")
STATE = ("as_of", "ribbon_state", "days_in_state", "gap", "gap_z", "hash_rate_drawdown", "hashprice", "puell_multiple")
DIGEST = re.compile(r"(sha256:\w{12})\w+")
NOW = "now"  # the end of an episode that goes on; after any ISO day
NAMED = 3  # revised days, events and claims that a sentence names; the others are counted


class Side(NamedTuple):
    """One of two reports: where it lies, its record, and of its results the state and the row of the primary test."""

    folder: Path
    record: Mapping[str, Any]
    state: Mapping[str, Any]
    primary: Mapping[str, Any]


def side(folder: Path, record: Mapping[str, Any]) -> Side:
    """The report in `folder`, of the record `record`; what it did not make is empty."""
    primary = read_json(folder / "headline.json").get("primary", {})
    return Side(folder, record, read_json(folder / "state.json"), primary)


def changed_values(
    a: Mapping[str, Any], b: Mapping[str, Any], names: Sequence[str] = (), table: str = ""
) -> pd.DataFrame:
    """Frame[name, first, second, difference] of the values that differ (of `names`, as the codebook heads `table`).

    Values as text, "–" where one has none; the difference only of numbers; of a digest its beginning.
    """

    def text(value: Any) -> str:
        shown = f"{value:.4g}".replace("-", "−") if isinstance(value, float) else str(value)
        return "–" if value in (None, "") else DIGEST.sub(r"\1…", shown)

    def difference(one: Any, other: Any) -> str:
        numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other)]
        return f"{other - one:+.4g}".replace("-", "−") if all(numbers) else "–"

    pairs = [(key, a.get(key), b.get(key)) for key in names or {**a, **b}]
    rows = [(key, text(one), text(other), difference(one, other)) for key, one, other in pairs if one != other]
    found = pd.DataFrame(rows, columns=["name", "first", "second", "difference"])
    known = codebook().query("table == @table").set_index("column")["heading"]
    return found.replace({"name": {name: known.get(name, name.replace("_", " ")) for name in names}})


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


def matched_episodes(a: pd.DataFrame, b: pd.DataFrame, until: tuple[str, str] = (NOW, NOW)) -> pd.DataFrame:
    """Frame[definition, change, first, second]: episodes that appeared, vanished or moved (those overlap in time).

    `until`: the last day of each, to which an episode that goes on is known; by default it meets all that begin later.
    """
    rows = []

    def meet(old: tuple[str, str], new: tuple[str, str]) -> bool:
        known = [last if end == NOW else end for (_start, end), last in zip((old, new), until, strict=True)]
        return new[0] <= known[0] and old[0] <= known[1]

    for name in dict.fromkeys([*a["definition"], *b["definition"]]):
        chosen = [frame[frame["definition"] == name] for frame in (a, b)]
        old, new = (list(zip(frame["start"], frame["end"].astype(object).fillna(NOW), strict=True)) for frame in chosen)
        for span in old:
            twins = [other for other in new if meet(span, other)]
            if span not in twins:
                became = ", ".join(map(" to ".join, twins)) or "–"
                rows.append((name, "moved" if twins else "vanished", " to ".join(span), became))
        alone = [span for span in new if not any(meet(other, span) for other in old)]
        rows += [(name, "appeared", "–", " to ".join(span)) for span in alone]
    return pd.DataFrame(rows, columns=["definition", "change", "first", "second"])


def turned_claims(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Frame[claim, first, second]: the claims that have another verdict."""
    if a.empty or b.empty:
        return pd.DataFrame()
    both = a[["id", "claim", "verdict"]].merge(b[["id", "verdict"]], on="id", suffixes=("_first", "_second"))
    both = both[both["verdict_first"] != both["verdict_second"]].dropna().drop(columns="id")
    return both.set_axis(["claim", "first", "second"], axis=1).reset_index(drop=True)


def differences(one: Side, other: Side) -> dict[str, pd.DataFrame]:
    """Everything that differs between two reports, by name of the part."""
    folders, a, b = (one.folder, other.folder), one.record, other.record
    episodes = [read_table(folder, "episodes") for folder in folders]
    until = a["market"]["last_day"], b["market"]["last_day"]
    tables = changed_tables(a["tables"], b["tables"], "only in the first", "only in the second")
    return {
        "The present state": changed_values(one.state, other.state, STATE, "state.json"),
        "The primary test": changed_values(one.primary, other.primary, PRIMARY, "forward_returns"),
        "Episodes": pd.DataFrame() if any(found.empty for found in episodes) else matched_episodes(*episodes, until),
        "Claims": turned_claims(*(read_table(folder, "claims") for folder in folders)),
        "Revised days": revised_days(*(read_market(folder / "market").panel for folder in folders)),
        "Data": changed_values(a["market"], b["market"], MARKET),
        "Parameters": changed_values({**a["parameters"], **a["own"]}, {**b["parameters"], **b["own"]}),
        "Software": changed_values(a["versions"], b["versions"]),
        "Tables": pd.DataFrame(tables.items(), columns=["table", "state"]),
    }


def _listed(texts: Sequence[str]) -> str:
    """The first texts, and how many more there are."""
    more = f" and {count(len(texts) - NAMED, 'other')}" if len(texts) > NAMED else ""
    return "; ".join(texts[:NAMED]) + more


def in_words(one: Side, other: Side, found: Mapping[str, pd.DataFrame]) -> list[str]:
    """What changed from the report `one` to `other`, a sentence each, what matters most first.

    `found` as from `differences`. No sentence where nothing that is told here differs.
    """
    told, states, primary = [], (one.state, other.state), (one.primary, other.primary)
    if all(states) and len(found["The present state"]):
        ages = ["" if state["days_in_state"] is None else f"day {state['days_in_state']} " for state in states]
        before, now = (f"{age}on {state['as_of']}" for age, state in zip(ages, states, strict=True))
        names = [state["ribbon_state"] for state in states]
        turned = f"The state was {names[0]} ({before}) and is {names[1]} ({now})."
        told.append(turned if names[0] != names[1] else f"The state is {names[1]}, as before: {before}, {now}.")
    for name, rows in found["Episodes"].groupby("definition", sort=False) if len(found["Episodes"]) else ():
        each = [
            f"{row.change} {row.second if row.change == 'appeared' else row.first}"
            + (f" (now {row.second})" if row.change == "moved" else "")
            for row in rows.iloc[::-1].itertuples()  # the latest first
        ]
        told.append(f"Capitulations by {rule_words(name)}: {_listed(each)}.")
    if len(found["Claims"]):
        each = [f"“{row.claim}” was {row.first} and is {row.second}" for row in found["Claims"].itertuples()]
        told.append(f"Claims that turned: {_listed(each)}.")
    if all(primary) and len(found["The primary test"]):
        excess, p = ([row.get(name) for row in primary] for name in ("excess_own_era", "p_rotation_own_era"))
        n = [count(row["n_events"], "event") for row in primary]
        sizes = n[1] if n[0] == n[1] else f"{n[1]} instead of {n[0]}"
        if None in (*excess, *p):
            told.append(f"The primary test, {sizes}: not both have an excess and a p.")
        else:
            told.append(
                f"The primary test, {sizes}: excess {signed(excess[0])} became {signed(excess[1])}, {p_text(p[0])} "
                f"became {p_text(p[1])}."
            )
    if len(rows := found["Revised days"]):
        top = rows.iloc[0]
        if pd.isna(top["first"]) or pd.isna(top["second"]):
            change = "is new" if pd.isna(top["first"]) else "is gone"
        else:
            change = f"by {percent(top['relative_change'], 3, True)}" if top["first"] else "from 0"
        told.append(
            f"Data of {count(rows['date'].nunique(), 'day')} were revised; the furthest, {top['column']} of "
            f"{top['date']:%Y-%m-%d}, {change}."
        )
    for part, none in {"Parameters": "unset", "Software": "not there"}.items():
        rows = found[part].replace({"first": {"–": none}, "second": {"–": none}})
        each = [f"{row.name} {row.first} became {row.second}" for row in rows.itertuples(index=False)]
        told += [f"{part}: {_listed(each)}."] if each else []
    return told


def since_last(published: Path, staging: Path, before: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """What changed since the report `published`, of the record `before`, to that in `staging`, in words.

    Made again from the same data and parameters, a report keeps what the one before it told. Nothing is told of a
    market that this version cannot read.
    """
    alike = all(before[name] == record[name] for name in ("parameters", "own"))
    if alike and before["market"]["digest"] == record["market"]["digest"]:
        return before.get("since", [])
    one, other = side(published, before), side(staging, record)
    try:
        return in_words(one, other, differences(one, other))
    except CapitulationError:
        return []
