"""Is this data fit to be used? Checks of one panel alone, against the last good one, and against other providers'.

A check is a function that yields findings. Each has a severity: `note` (for the record), `warning` (shown to the
reader), `failure` (not used; a provider's answer is quarantined). The limits come from the real history since 2009.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from typing_extensions import TypedDict

SEVERITIES = FAILURE, WARNING, NOTE = "failure", "warning", "note"
COMPARISONS = ("shrunk", "lost_column", "revised", "providers")  # these need another panel, all others one alone

USUAL = {  # known levels on the first day of a year, or in its midst
    "difficulty": {2009: 1.0, 2010: 1.18, 2011: 1.45e4, 2011.5: 1.38e6, 2012: 1.16e6, 2013: 2.98e6, 2014: 1.18e9}
    | {2015: 4.06e10, 2016: 1.04e11, 2017: 3.18e11, 2018: 1.92e12, 2019: 5.62e12, 2020: 1.31e13, 2021: 1.86e13}
    | {2022: 2.43e13, 2023: 3.54e13, 2024: 7.20e13, 2025: 1.10e14, 2026: 1.48e14},
    "price_usd": {2010.5: 0.07, 2011: 0.3, 2011.5: 15, 2012: 5, 2013: 13, 2014: 770, 2015: 315, 2016: 430, 2017: 970}
    | {2018: 13_000, 2019: 3_800, 2020: 7_200, 2021: 29_000, 2022: 46_000, 2023: 16_600, 2024: 42_500, 2025: 94_000}
    | {2026: 88_000},
}
"""Levels that anyone can look up. History stays within a factor of 10 of the curve through them, units differ by 1000,
and no other coin comes near."""
LEVEL_Z_WARNING, LEVEL_Z_FAILURE, LEVEL_FACTOR_FAILURE = {1: 7.0, 7: 8.0}, 12.0, 2.0
"""A day and a week against the 30 days before, in Poisson errors: the worst day since 2014 had 6.2, a scale error gives
over 50. The deepest fall of a week ever was to 0.63, in July 2021."""
BASE_DAYS, NEW_DAYS, YEAR_DAYS, STOPPED_DAYS, STALE_DAYS = 30, 7, 365, 3, 60
SETTLED_DAYS = 14  # before the old panel's end; a revision of earlier days is more than settling
LARGE_REVISION = {"hash_rate_ehs": 0.02, "block_count": 0.02, "difficulty": 0.02, "height": 1e-4, "price_usd": 0.05}
REVISED_SHARE_FAILURE, LOST_SHARE_FAILURE = 0.002, 0.01
PROVIDER_WARNING, PROVIDER_FAILURE = {"hash_rate_ehs": 0.01, "price_usd": 0.03}, 0.25


class Finding(TypedDict):
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
    first, last = (f"{days.min():%Y-%m-%d}", f"{days.max():%Y-%m-%d}") if len(days) else ("", "")
    figure = None if value is None or not np.isfinite(value) else float(value)
    values = (check, severity, column, len(days), figure, limit, first, last, message)
    return Finding(zip(Finding.__annotations__, values, strict=True))


def failures(findings: Iterable[Mapping[str, Any]]) -> list[str]:
    """What those findings say that forbid the use of the data."""
    return [item["message"] for item in findings if item["severity"] == FAILURE]


def check_panel(
    panel: pd.DataFrame, today: dt.date | None = None, since: pd.Timestamp | None = None, fetched: bool = False
) -> list[Finding]:
    """Checks of one panel alone: future days, units, gaps, stopped columns, level of the days after `since`.

    `today` (UTC) bounds the days that may be given; without `since` the level of the last seven days is looked at. What
    was `fetched` must reach the present: some days late is a warning, months late is no answer.
    """
    ends = _ends(panel, pd.Timestamp(today), fetched) if today else ()
    return [*ends, *_units(panel), *_gaps(panel), *_level(panel, since)]


def _ends(panel: pd.DataFrame, today: pd.Timestamp, fetched: bool) -> Iterator[Finding]:
    last, future = panel.index[-1:], panel.index[panel.index > today]
    late = (today - last[0]).days - 1
    if len(future):
        text = f"days later than {today:%Y-%m-%d} are given, up to {last[0]:%Y-%m-%d}"
        yield finding("future_day", FAILURE, "date", text, future)
    if fetched and late > STOPPED_DAYS:
        text = f"the series ends on {last[0]:%Y-%m-%d}, {late} days before the last complete day"
        severity = FAILURE if late > STALE_DAYS else WARNING
        yield finding("stopped", severity, "hash_rate_ehs", text, last, late, STOPPED_DAYS)


def usual(column: str, days: pd.DatetimeIndex) -> pd.Series:
    """The level of price_usd, difficulty or hash_rate_ehs that is known of each of the `days`, to a factor of 10."""
    if column == "hash_rate_ehs":
        return usual("difficulty", days) * 2**32 / 600 / 1e18
    year, known = days.year + days.day_of_year / 366, USUAL[column]
    return pd.Series(np.exp(np.interp(year, [*known], np.log([*known.values()]))), index=days, name=column)


def _units(panel: pd.DataFrame) -> Iterator[Finding]:
    """Medians that a wrong unit moves: difficulty over its landmarks, blocks a day, revenue over coins times price."""
    coins = panel["issuance_btc"] + panel["fees_btc"]
    level = "difficulty (and so hash rate) is {:.3g} times what it was known to be: a wrong unit"
    rate = "{:.4g} blocks a day in the median, about 144 are possible: hash rate or block count in a wrong unit"
    worth = "revenue and price disagree by a factor of {:.3g}: one is in a wrong unit"
    for column, measure, low, high, text in (
        ("hash_rate_ehs", panel["difficulty"] / usual("difficulty", panel.index), 0.01, 100.0, level),
        ("block_count", panel["block_count"].iloc[-YEAR_DAYS:], 72.0, 288.0, rate),
        ("price_usd", panel["revenue_usd"] / coins.where(coins > 0) / panel["price_usd"], 0.9, 1.1, worth),
    ):
        value = measure.median()
        if value < low or value > high:
            yield finding("unit", FAILURE, column, text.format(value), measure.dropna().index, value, high)


def _gaps(panel: pd.DataFrame) -> Iterator[Finding]:
    """Days without hash rate inside its range (a warning in the last year, else a note); columns that stopped."""
    values = panel["hash_rate_ehs"]
    missing = panel.index[values.isna() & values.ffill().notna() & values.bfill().notna()]
    recent = missing[missing > panel.index[-1] - pd.Timedelta(days=YEAR_DAYS)]
    if len(missing):
        text = f"{len(missing)} days have no hash rate, {len(recent)} of them in the last year"
        yield finding("gap", WARNING if len(recent) else NOTE, "hash_rate_ehs", text, missing, len(missing))
    for name in panel.columns[panel.notna().any()]:
        days = panel.index[panel.index > panel[name].last_valid_index()]
        if len(days) > STOPPED_DAYS:
            text = f"{name} has no value since {days[0]:%Y-%m-%d} ({len(days)} days)"
            yield finding("stopped", WARNING, name, text, days, len(days), STOPPED_DAYS)


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


def _level(panel: pd.DataFrame, since: pd.Timestamp | None) -> Iterator[Finding]:
    """Days after `since`, and the last week, whose mean lies too far off the 30 days before."""
    for days, limit in LEVEL_Z_WARNING.items():
        table = level(panel, days)
        new = table.iloc[-1:] if days > 1 else table.iloc[-NEW_DAYS:] if since is None else table[table.index > since]
        odd = new[new["z"].abs() > limit]
        if len(odd):
            last = odd["z"].abs().idxmax()
            ratio, z = odd.loc[last]
            when = f"the {days} days to {last:%Y-%m-%d}" if days > 1 else f"{last:%Y-%m-%d}"
            text = f"hash rate of {when} is {ratio:.3g} times that of the {BASE_DAYS} days before"
            far = abs(z) > LEVEL_Z_FAILURE and max(ratio, 1 / ratio) > LEVEL_FACTOR_FAILURE
            said = f"{text} ({z:+.1f} Poisson standard errors)"
            yield finding("level_shift", FAILURE if far else WARNING, "hash_rate_ehs", said, odd.index, z, limit)


def compare_panels(new: pd.DataFrame, old: pd.DataFrame) -> Iterator[Finding]:
    """A new panel against the provider's last good one: history that shrank, columns lost, days revised.

    Revised newest days, which may still settle, are a note, older ones a warning, many large ones a failure.
    """
    had, has = (panel.index[panel["hash_rate_ehs"].notna()] for panel in (old, new))
    lost = had.difference(has)
    if len(lost):
        at_end, share = had[-1] > new.index[-1], len(lost) / len(had)
        text = f"{len(lost)} days that the last snapshot had are gone" + (", the newest among them" if at_end else "")
        severity = FAILURE if at_end or share > LOST_SHARE_FAILURE else WARNING
        yield finding("shrunk", severity, "hash_rate_ehs", text, lost, share, LOST_SHARE_FAILURE)
    before, after = old.align(new, join="inner")
    sizes = (after - before).abs() / np.maximum(after.abs(), before.abs())
    settled = sizes.index <= old.index[-1] - pd.Timedelta(days=SETTLED_DAYS)
    for name, size in sizes.items():
        if old[name].notna().any() and new[name].isna().all():
            severity = FAILURE if name in PROVIDER_WARNING else WARNING
            yield finding("lost_column", severity, name, f"{name} is gone entirely")
        changed, limit = size[size > 1e-6], LARGE_REVISION.get(name)
        if len(changed):
            past = size[settled & (size > 1e-6)]
            many = (past > (limit or np.inf)).sum() > max(REVISED_SHARE_FAILURE * size.count(), 2)
            most = f"{changed.max():.2%} of the larger value on {changed.idxmax():%Y-%m-%d}"
            text = f"{name}: {len(changed)} past days revised, the most by {most}"
            severity = FAILURE if many else WARNING if len(past) else NOTE
            yield finding("revised", severity, name, text, changed.index, changed.max(), limit)


def compare_providers(panel: pd.DataFrame, other: pd.DataFrame, name: str) -> Iterator[Finding]:
    """Last year's 30-day means of hash rate and price against another provider's: median and largest difference."""
    for column, limit in PROVIDER_WARNING.items():
        means = panel[column].rolling(BASE_DAYS).mean() / other[column].rolling(BASE_DAYS).mean()
        off = (means - 1).abs().dropna().iloc[-YEAR_DAYS:]
        if len(off):
            worst, middle = off.max(), off.median()
            severity = FAILURE if middle > PROVIDER_FAILURE else WARNING if worst > limit else NOTE
            text = f"{column}: 30-day means differ from {name}'s by {middle:.3%} in the median, {worst:.3%} at most"
            yield finding("providers", severity, column, text, off.index, worst, limit)
