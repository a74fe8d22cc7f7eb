"""Is this data fit to be used? Checks of one panel alone, against the last good one, and against other providers'.

Each finding has a severity: `note` (for the record), `warning` (shown to the reader), `failure` (not used; a
provider's answer is quarantined). The limits come from the real history since 2009 and are stated where they are set.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

NOTE, WARNING, FAILURE = "note", "warning", "failure"
COMPARISONS = ("shrunk", "lost_column", "revised", "providers")  # these need another panel, all others one alone

YEARS = (2009, 2010, 2011, 2012, 2014, 2016, 2018, 2020, 2022, 2024, 2026)
DIFFICULTIES = (1.0, 1.18, 1.45e4, 1.16e6, 1.18e9, 1.04e11, 1.92e12, 1.31e13, 2.43e13, 7.20e13, 1.48e14)
"""Difficulty on the first day of each year. History stays within a factor of 10 of the curve, units differ by 1000."""
DAY_Z_WARNING, DAY_Z_FAILURE = 7.0, 12.0
"""One day against the 30 before it, in Poisson errors: since 2014 the most was 6.2; a scale error gives over 50."""
WEEK_Z_WARNING, WEEK_FACTOR_FAILURE = 8.0, 2.0
"""A week's mean against the 30 days before it: the deepest fall ever was to 0.63, in July 2021."""
LAST_DAYS, BASE_DAYS, YEAR_DAYS = 7, 30, 365
STOPPED_DAYS, STALE_DAYS_FAILURE = 3, 60
SETTLED_DAYS = 14
"""Days before the old panel's end from which on a revision is more than settling."""
LARGE_REVISION = {"hash_rate_ehs": 0.02, "block_count": 0.02, "difficulty": 0.02, "height": 1e-4, "price_usd": 0.05}
REVISED_SHARE_FAILURE, LOST_SHARE_FAILURE = 0.002, 0.01
PROVIDER_WARNING, PROVIDER_FAILURE = {"hash_rate_ehs": 0.01, "price_usd": 0.03}, 0.25


@dataclass(frozen=True)
class Finding:
    """One remark of a check; `days`: how many days it concerns, `value`: as measured, `limit`: as allowed."""

    check: str
    severity: str
    column: str
    days: int
    value: float | None
    limit: float | None
    first_day: str
    last_day: str
    message: str


def finding(check: str, severity: str, column: str, message: str, days=(), value=None, limit=None) -> Finding:
    """A finding on `days`, of which the number and the ends are kept; a `value` that is no number is missing."""
    days = pd.DatetimeIndex(days)
    span = (f"{days.min():%Y-%m-%d}", f"{days.max():%Y-%m-%d}") if len(days) else ("", "")
    figure = None if value is None or not np.isfinite(value) else float(value)
    return Finding(check, severity, column, len(days), figure, limit, *span, message)


def findings_table(findings: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Findings (as dictionaries) as rows, failures first; columns are the fields of `Finding`."""
    table = pd.DataFrame(list(findings), columns=list(Finding.__dataclass_fields__))
    order = table["severity"].map({FAILURE: 0, WARNING: 1, NOTE: 2})
    return table.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def failures(findings: Iterable[Finding]) -> list[Finding]:
    """Those that forbid the use of the answer."""
    return [item for item in findings if item.severity == FAILURE]


def known_by_the_end(findings: Iterable[Mapping[str, Any]], panel: pd.DataFrame) -> tuple[dict[str, Any], ...]:
    """What could be found on the last day of `panel`, cut at an earlier day than `findings` were made on.

    The checks of the panel alone are made again; comparisons with other panels stay where all their days are known.
    """
    last = f"{panel.index[-1]:%Y-%m-%d}"
    compared = [dict(item) for item in findings if item["check"] in COMPARISONS and item["last_day"] <= last]
    return (*map(asdict, check_panel(panel)), *compared)


def check_panel(panel: pd.DataFrame, today: dt.date | None = None, since: pd.Timestamp | None = None) -> list[Finding]:
    """Checks of one panel alone: future days, units, gaps, stopped columns, level of the days after `since`.

    `today` (UTC) bounds the days that may be given; without `since` the level of the last seven days is looked at.
    """
    late = panel.index[panel.index > pd.Timestamp(today)] if today else panel.index[:0]
    text = f"days later than {today} are given, up to {panel.index[-1]:%Y-%m-%d}"
    future = [finding("future_day", FAILURE, "date", text, late)] if len(late) else []
    return [*future, *_units(panel), *_gaps(panel), *_level(panel, since)]


def check_recent(panel: pd.DataFrame, today: dt.date) -> list[Finding]:
    """Whether a fetched series reaches the present: some days late is a warning, months late is no answer."""
    late = (pd.Timestamp(today) - panel.index[-1]).days - 1
    if late <= STOPPED_DAYS:
        return []
    text = f"the series ends on {panel.index[-1]:%Y-%m-%d}, {late} days before the last complete day"
    severity = FAILURE if late > STALE_DAYS_FAILURE else WARNING
    return [finding("stopped", severity, "hash_rate_ehs", text, panel.index[-1:], late, STOPPED_DAYS)]


def _units(panel: pd.DataFrame) -> list[Finding]:
    """Medians that a wrong unit moves: difficulty over its landmarks, blocks a day, revenue over coins times price."""
    knots = pd.to_datetime([f"{year}-01-01" for year in YEARS]).as_unit("us").asi8
    landmarks = np.exp(np.interp(panel.index.as_unit("us").asi8, knots, np.log(DIFFICULTIES)))
    coins = panel["issuance_btc"] + panel["fees_btc"]
    level = "difficulty (and so hash rate) is {:.3g} times what it was known to be: a wrong unit"
    rate = "{:.4g} blocks a day in the median, about 144 are possible: hash rate or block count in a wrong unit"
    worth = "revenue and price disagree by a factor of {:.3g}: one is in a wrong unit"
    measures = (
        ("hash_rate_ehs", panel["difficulty"] / landmarks, 0.01, 100.0, level),
        ("block_count", panel["block_count"].iloc[-YEAR_DAYS:], 72.0, 288.0, rate),
        ("price_usd", panel["revenue_usd"] / coins.where(coins > 0) / panel["price_usd"], 0.9, 1.1, worth),
    )
    found = []
    for column, measure, low, high, text in measures:
        known, value = measure.dropna(), measure.median()
        if len(known) and not low <= value <= high:
            found.append(finding("unit", FAILURE, column, text.format(value), known.index, value, high))
    return found


def _gaps(panel: pd.DataFrame) -> list[Finding]:
    """Days without hash rate inside its range (a warning in the last year, else a note); columns that stopped."""
    found = []
    values = panel["hash_rate_ehs"]
    inside = values.loc[values.first_valid_index() : values.last_valid_index()]
    missing = inside.index[inside.isna()]
    if len(missing):
        recent = missing[missing > panel.index[-1] - pd.Timedelta(days=YEAR_DAYS)]
        text = f"{len(missing)} days have no hash rate, {len(recent)} of them in the last year"
        severity = WARNING if len(recent) else NOTE
        found.append(finding("gap", severity, "hash_rate_ehs", text, missing, len(missing)))
    for name in panel.columns[panel.notna().any()]:
        behind = (panel.index[-1] - panel[name].last_valid_index()).days
        if behind > STOPPED_DAYS:
            days = panel.index[-behind:]
            text = f"{name} has no value since {days[0]:%Y-%m-%d} ({behind} days)"
            found.append(finding("stopped", WARNING, name, text, days, behind, STOPPED_DAYS))
    return found


def level(panel: pd.DataFrame, days: int = 1) -> pd.DataFrame:
    """`ratio` of the mean hash rate of `days` days to the median of the 30 before them, and `z`: its log in errors.

    The Poisson error is sqrt(1/n + pi/2/N): n the days' blocks (a quarter of the base's mean where fewer), N the
    base's. A tenth of either's days may be missing, else NaN.
    """
    recent = panel[["hash_rate_ehs", "block_count"]].rolling(days, min_periods=max(1, int(0.9 * days)))
    base = panel[["hash_rate_ehs", "block_count"]].shift(days).rolling(BASE_DAYS, min_periods=int(0.9 * BASE_DAYS))
    base_blocks = base["block_count"].sum()
    usual = np.maximum(np.maximum(recent["block_count"].sum(), 1.0), base_blocks * days / BASE_DAYS / 4)
    ratio = recent["hash_rate_ehs"].mean() / base["hash_rate_ehs"].median()
    return pd.DataFrame({"ratio": ratio, "z": np.log(ratio) / np.sqrt(1 / usual + np.pi / 2 / base_blocks)})


def _level(panel: pd.DataFrame, since: pd.Timestamp | None) -> list[Finding]:
    """Single days after `since`, and the last week's mean, that lie too far off the 30 days before."""
    found = []
    z = level(panel)["z"]
    new = z.loc[z.index > since] if since is not None else z.iloc[-LAST_DAYS:]
    odd = new[new.abs() > DAY_Z_WARNING]
    if len(odd):
        day = odd.abs().idxmax()
        text = f"hash rate of {day:%Y-%m-%d} is {odd[day]:+.1f} Poisson standard errors off the 30 days before"
        severity = FAILURE if abs(odd[day]) > DAY_Z_FAILURE else WARNING
        found.append(finding("level_shift", severity, "hash_rate_ehs", text, odd.index, odd[day], DAY_Z_FAILURE))
    ratio, z_week = level(panel, LAST_DAYS).iloc[-1]
    if abs(z_week) > WEEK_Z_WARNING:
        text = f"the last {LAST_DAYS} days' hash rate is {ratio:.3g} times that of the {BASE_DAYS} days before it"
        text += f" ({z_week:+.1f} Poisson standard errors)"
        severity = FAILURE if max(ratio, 1 / ratio) > WEEK_FACTOR_FAILURE else WARNING
        days = panel.index[-LAST_DAYS:]
        found.append(finding("level_shift", severity, "hash_rate_ehs", text, days, ratio, WEEK_FACTOR_FAILURE))
    return found


def compare_panels(new: pd.DataFrame, old: pd.DataFrame) -> list[Finding]:
    """A new panel against the last good one of the same provider: history that shrank, columns lost, days revised.

    The newest days of the old panel may still settle, which is a note; older revisions are warnings, many large ones
    failures.
    """
    found = []
    had = old.index[old["hash_rate_ehs"].notna()]
    lost = had.difference(new.index[new["hash_rate_ehs"].notna()])
    if len(lost):
        at_end, share = had[-1] > new.index[-1], len(lost) / len(had)
        severity = FAILURE if at_end or share > LOST_SHARE_FAILURE else WARNING
        text = f"{len(lost)} days that the last snapshot had are gone" + (", the newest among them" if at_end else "")
        found.append(finding("shrunk", severity, "hash_rate_ehs", text, lost, share, LOST_SHARE_FAILURE))
    days = new.index.intersection(old.index)
    before, after = old.loc[days], new.loc[days]
    sizes = (after - before).abs() / after.abs().clip(lower=before.abs())
    settled = days <= old.index[-1] - pd.Timedelta(days=SETTLED_DAYS)
    for name in new.columns:
        if old[name].notna().any() and new[name].isna().all():
            severity = FAILURE if name in PROVIDER_WARNING else WARNING
            found.append(finding("lost_column", severity, name, f"{name} is gone entirely"))
        size, limit = sizes[name], LARGE_REVISION.get(name)
        changed = size[size > 1e-6]
        if len(changed):
            past = size[settled & (size > 1e-6)]
            large = (past > (limit or np.inf)).sum()
            many = large > max(REVISED_SHARE_FAILURE * size.count(), 2)
            most = f"{changed.max():.2%} of the larger value on {changed.idxmax():%Y-%m-%d}"
            text = f"{name}: {len(changed)} past days revised, the most by {most}"
            severity = FAILURE if many else WARNING if len(past) else NOTE
            found.append(finding("revised", severity, name, text, changed.index, changed.max(), limit))
    return found


def compare_providers(panel: pd.DataFrame, other: pd.DataFrame, name: str) -> list[Finding]:
    """Last year's 30-day means of hash rate and price against another provider's: median and largest difference."""
    found = []
    for column, limit in PROVIDER_WARNING.items():
        means = panel[column].rolling(BASE_DAYS).mean() / other[column].rolling(BASE_DAYS).mean()
        off = (means - 1).abs().dropna().iloc[-YEAR_DAYS:]
        if len(off):
            worst, middle = float(off.max()), float(off.median())
            severity = FAILURE if middle > PROVIDER_FAILURE else WARNING if worst > limit else NOTE
            text = f"{column}: 30-day means differ from {name}'s by {middle:.3%} in the median, {worst:.3%} at most"
            found.append(finding("providers", severity, column, text, off.index, worst, limit))
    return found
