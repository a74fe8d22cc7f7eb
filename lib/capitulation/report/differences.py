"""What differs between two published reports, as small frames: parameters, data, headline, episodes, tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from capitulation.data.market import read_market
from capitulation.report.record import read_json

SHOWN_REVISIONS = 20
HEADLINE = (
    "n_events",
    "n_clusters",
    "mean",
    "median",
    "hit_rate",
    "base_median",
    "excess_log",
    "ci_low",
    "ci_high",
    "p_rotation",
)
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
MARKET_FACTS = ("source", "snapshot", "retrieved_at", "first_day", "last_day", "n_days", "simulated")
KEY = ["definition", "anchor", "horizon_days"]
Facts = Mapping[str, Any]


def changed_values(a: Facts, b: Facts, names: list[str] | None = None) -> pd.DataFrame:
    """Frame[name, first, second] of the values that differ, as text; "–" where one has none."""
    keys = names or list(dict.fromkeys([*a, *b]))
    rows = [(key, _text(a.get(key)), _text(b.get(key))) for key in keys if a.get(key) != b.get(key)]
    return pd.DataFrame(rows, columns=["name", "first", "second"])


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return "–" if value is None or value == "" else str(value)


def revised_days(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Frame[date, column, first, second, relative_change]: other values on the same day, largest change first."""
    days = a.index.intersection(b.index)
    rows = [_revisions(a.loc[days, name], b.loc[days, name]) for name in a.columns.intersection(b.columns)]
    rows = [row for row in rows if not row.empty]
    columns = ["date", "column", "first", "second", "relative_change"]
    if not rows:
        return pd.DataFrame(columns=columns)
    found = pd.concat(rows, ignore_index=True)
    order = found["relative_change"].abs().sort_values(ascending=False, na_position="first").index
    return found.loc[order, columns].reset_index(drop=True)


def _revisions(a: pd.Series, b: pd.Series) -> pd.DataFrame:
    """Days on which two columns differ; missing against missing is no difference."""
    differs = (a != b) & ~(a.isna() & b.isna())
    first, second = a[differs], b[differs]
    frame = pd.DataFrame({"column": a.name, "first": first, "second": second, "relative_change": second / first - 1})
    return frame.rename_axis("date").reset_index()


def matched_episodes(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Frame[definition, change, first, second]: episodes that appeared, vanished or moved.

    An episode of one report is the same as one of the other if they overlap in time.
    """
    rows = []
    for name in dict.fromkeys([*a["definition"], *b["definition"]]):
        rows += _match(name, _spans(a, name), _spans(b, name))
    return pd.DataFrame(rows, columns=["definition", "change", "first", "second"])


def _spans(episodes: pd.DataFrame, definition: str) -> list[tuple[str, str]]:
    """(start, end) of each episode as ISO text; an ongoing one ends after all days."""
    chosen = episodes[episodes["definition"] == definition]
    return list(zip(chosen["start"], chosen["end"].fillna("9999"), strict=True))


def _match(definition: str, a: list[tuple[str, str]], b: list[tuple[str, str]]) -> list[tuple[str, str, str, str]]:
    rows, taken = [], set()
    for span in a:
        twins = [other for other in b if other[0] < span[1] and span[0] < other[1]]
        taken |= set(twins)
        if not twins:
            rows.append((definition, "vanished", _span(span), "–"))
        elif span not in twins:
            rows.append((definition, "moved", _span(span), ", ".join(map(_span, twins))))
    return rows + [(definition, "appeared", "–", _span(span)) for span in b if span not in taken]


def _span(span: tuple[str, str]) -> str:
    return f"{span[0]} to {'now' if span[1] == '9999' else span[1]}"


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """A table of a report; empty where the report has none."""
    path = folder / "tables" / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def headline(folder: Path, params: Facts) -> dict[str, Any]:
    """Figures of the primary test of a report; empty where it was not made."""
    table = read_table(folder, "forward_returns")
    if table.empty:
        return {}
    wanted = [params["primary_definition"], params["primary_anchor"], params["primary_horizon_days"]]
    rows = table[(table[KEY] == wanted).all(axis=1)]
    return {} if rows.empty else {name: _plain(rows.iloc[0][name]) for name in HEADLINE if name in rows}


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value


def differences(one: Path, other: Path) -> dict[str, pd.DataFrame]:
    """Everything that differs between the reports in two folders, by name of the part."""
    a, b = read_json(one / "run.json"), read_json(other / "run.json")
    episodes = [read_table(folder, "episodes") for folder in (one, other)]
    return {
        "parameters": changed_values(a["parameters"], b["parameters"]),
        "market": changed_values(a["market"], b["market"], list(MARKET_FACTS)),
        "revisions": revised_days(read_market(one / "market").panel, read_market(other / "market").panel),
        "headline": changed_values(headline(one, a["parameters"]), headline(other, b["parameters"])),
        "present": changed_values(*(read_json(f / "state.json", {}) for f in (one, other)), names=list(PRESENT)),
        "episodes": pd.DataFrame() if any(e.empty for e in episodes) else matched_episodes(*episodes),
        "tables": table_states(a["tables"], b["tables"]),
        "versions": changed_values(a["versions"], b["versions"]),
    }


def table_states(a: Facts, b: Facts) -> pd.DataFrame:
    """Frame[table, state] of the tables that differ or that only one report has, from their digests."""
    rows = []
    for name in dict.fromkeys([*a, *b]):
        if name not in a or name not in b:
            rows.append((name, "only in the second" if name in b else "only in the first"))
        elif a[name] != b[name]:
            rows.append((name, "differs"))
    return pd.DataFrame(rows, columns=["table", "state"])
