"""The story of a run for its first page: verdict, present, definitions, claims, from its tables and its state."""

from __future__ import annotations

import csv
import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capitulation.report.markup import keep_units
from capitulation.report.record import read_json
from capitulation.words import ANCHOR_WORDS, DEFINITION_WORDS, percent, signed

NONE = "–"
PREFERRED_FIGURES = ("price_capitulations", "event_paths", "ribbon_gap")
N_FIGURES = 3
SPARK_WIDTH, SPARK_HEIGHT = 240.0, 36.0
DEFINITION_HEADS = (
    ("definition", ""),
    ("events", ""),
    ("clusters", ""),
    ("median", "change"),
    ("any day", "median change"),
    ("excess", "log return"),
    ("interval", "log return"),
    ("p", "one-sided, exact"),
)
Row = Mapping[str, str]


@dataclass(frozen=True)
class Present:
    """The present state: a word for it, since when, labelled facts, and the gap's last days as points of a line."""

    kind: str
    state: str
    since: str
    facts: list[tuple[str, str]]
    spark: str
    zero: float


@dataclass(frozen=True)
class Definitions:
    """The table of definitions with the heading above it."""

    title: str
    table: str


@dataclass(frozen=True)
class Story:
    """What the first page shows; parts that a run did not produce are empty."""

    verdict: list[str] = field(default_factory=list)
    present: Present | None = None
    definitions: Definitions | None = None
    claims: list[tuple[str, int]] = field(default_factory=list)
    figures: list[Any] = field(default_factory=list)


def tell(folder: Path, params: Any, figures: Sequence[Any] = ()) -> Story:
    """The story of the run in `folder`, from tables/forward_returns.csv, tables/claims.csv and state.json."""
    rows = read_rows(folder / "tables" / "forward_returns.csv")
    return Story(
        verdict(folder / "tables" / "forward_returns.csv", params),
        present(read_json(folder / "state.json", {})),
        definitions(rows, params),
        claims(read_rows(folder / "tables" / "claims.csv")),
        list(figures),
    )


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV as text; none where the file is absent."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def number(row: Mapping[str, Any], name: str) -> float:
    """A cell as a number; NaN where it is empty or not one."""
    try:
        return float(row.get(name, ""))
    except (ValueError, TypeError):
        return math.nan


def verdict(path: Path, params: Any) -> list[str]:
    """Sentences on the primary test, worded by its own figures; none where it was not made."""
    if not path.is_file():
        return []
    import pandas as pd

    from capitulation.study.headline import primary_row, primary_sentences

    table = pd.read_csv(path)
    chosen = table["definition"] == params.primary_definition
    return [keep_units(text) for text in primary_sentences(primary_row(table, params))] if chosen.any() else []


def present(state: Mapping[str, Any]) -> Present | None:
    """The present state in words; None where the run has none."""
    name = str(state.get("ribbon_state") or "")
    if not name.isalpha():
        return None
    days = state.get("days_in_state")
    since = f"day {days}" if isinstance(days, int) else ""
    facts = [(label, text) for label, text in _facts(state) if text and not text.startswith(NONE)]
    history = [value for value in state.get("gap_history") or [] if isinstance(value, int | float)]
    return Present(name, name.capitalize(), since, facts, *spark(history))


def _facts(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    z = number(state, "gap_z")
    errors = f" ({signed(z, 1)} standard errors)" if math.isfinite(z) else ""
    return [
        ("Gap of the ribbons", percent(number(state, "gap"), 1, sign=True) + errors),
        ("Hash rate below its peak", percent(abs(number(state, "hash_rate_drawdown")), 1)),
        ("Next retarget", _retarget(state.get("next_retarget") or {})),
        ("Hashprice", _unit(number(state, "hashprice"), ",.1f", "USD per PH/s and day")),
        ("Rig models at a loss", _fleet(state.get("fleet") or {})),
        ("Odds of recovery in 30 days", _odds(state)),
    ]


def _unit(value: float, spec: str, unit: str) -> str:
    return f"{value:{spec}} {unit}" if math.isfinite(value) else NONE


def _retarget(retarget: Mapping[str, Any]) -> str:
    change, day = number(retarget, "change"), str(retarget.get("date") or "")[:10]
    return f"{percent(change, 1, sign=True)} about {day}" if math.isfinite(change) and day else NONE


def _fleet(fleet: Mapping[str, Any]) -> str:
    under, rigs = number(fleet, "n_under_water"), number(fleet, "n_rigs")
    if not (math.isfinite(under) and rigs > 0):
        return NONE
    return f"{under:.0f} of {rigs:.0f} at {number(fleet, 'power_price_usd_kwh'):g} USD/kWh"


def _odds(state: Mapping[str, Any]) -> str:
    odds, low, high = (number(state, f"recovery_odds_30d{end}") for end in ("", "_low", "_high"))
    span = f" ({percent(low)} to {percent(high)})" if math.isfinite(low) and math.isfinite(high) else ""
    return percent(odds) + span


def spark(values: Sequence[float]) -> tuple[str, float]:
    """Points of a line through `values` in a box of `SPARK_WIDTH` by `SPARK_HEIGHT`, and the height of zero in it.

    >>> spark([0.0, 1.0])
    ('0.0,36.0 240.0,0.0', 36.0)
    """
    if len(values) < 2:
        return "", 0.0
    low, high = min(*values, 0.0), max(*values, 0.0)
    scale = SPARK_HEIGHT / ((high - low) or 1.0)
    step = SPARK_WIDTH / (len(values) - 1)
    points = " ".join(f"{i * step:.1f},{(high - value) * scale:.1f}" for i, value in enumerate(values))
    return points, round(high * scale, 1)


def definitions(rows: Sequence[Row], params: Any) -> Definitions | None:
    """Every definition at the primary anchor and horizon: sample, excess return, interval, p."""
    anchor, horizon = params.primary_anchor, params.primary_horizon_days
    keyed = {(row["definition"], row["anchor"], row["horizon_days"]): row for row in rows}
    chosen = [row for name in DEFINITION_WORDS if (row := keyed.get((name, anchor, str(horizon))))]
    if not chosen:
        return None
    title = f"{horizon} days after {ANCHOR_WORDS[anchor]}, by each definition"
    return Definitions(title, _definitions_table(chosen, params))


def _definitions_table(rows: Sequence[Row], params: Any) -> str:
    """The table of definitions as HTML; every text is escaped."""
    head = "".join(_head(name, unit, i > 0, params) for i, (name, unit) in enumerate(DEFINITION_HEADS))
    body = "".join(_definition_row(row, row["definition"] == params.primary_definition) for row in rows)
    caption = (
        "Excess: mean log return of the events minus that of every day; p by the exact rotation test."
        " Only the marked row was fixed as the primary test before looking."
    )
    return (
        '<div class="table-scroll" tabindex="0" role="region" aria-label="Definitions"><table class="data">'
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _head(name: str, unit: str, numeric: bool, params: Any) -> str:
    label = f"{params.confidence:.0%} interval".replace("%", " %") if name == "interval" else name
    small = f'<span class="unit">{unit}</span>' if unit else ""
    return f'<th scope="col"{" class=num" if numeric else ""}>{html.escape(label)}{small}</th>'


def _definition_row(row: Row, primary: bool) -> str:
    low, high, p = number(row, "ci_low"), number(row, "ci_high"), number(row, "p_rotation")
    cells = [
        (number(row, "n_events"), f"{number(row, 'n_events'):.0f}"),
        (number(row, "n_clusters"), f"{number(row, 'n_clusters'):.0f}"),
        (number(row, "median"), percent(number(row, "median"), sign=True)),
        (number(row, "base_median"), percent(number(row, "base_median"), sign=True)),
        (number(row, "excess_log"), signed(number(row, "excess_log"), 2)),
        (low, f"{signed(low, 2)} to {signed(high, 2)}"),
        (p, "<0.001" if p < 0.001 else f"{p:.3f}"),
    ]
    shown = "".join(_cell(value, text) for value, text in cells)
    name = html.escape(DEFINITION_WORDS.get(row["definition"], row["definition"]))
    name = name[0].upper() + name[1:]
    return f'<tr{" class=primary" if primary else ""}><th scope="row">{name}</th>{shown}</tr>'


def _cell(value: float, text: str) -> str:
    raw = f' data-value="{value:.10g}"' if math.isfinite(value) else ""
    return f'<td class="num"{raw}>{html.escape(text if math.isfinite(value) else NONE)}</td>'


def claims(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """How many published claims ended in which verdict, most frequent first."""
    return Counter(row["verdict"] for row in rows if row.get("verdict")).most_common()


def pick_figures(pages: Sequence[Any]) -> list[Any]:
    """Three figures for the first page: those in `PREFERRED_FIGURES`, filled up with the first of other pages."""
    everything = [figure for page in pages for figure in page.figures]
    chosen = [figure for name in PREFERRED_FIGURES for figure in everything if figure.name == name]
    seen = {figure.page for figure in chosen}
    firsts = [page.figures[0] for page in pages if page.figures and page.name not in seen]
    return (chosen + firsts)[:N_FIGURES]
