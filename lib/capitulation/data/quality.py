"""Is a new answer fit to be used? Checks of one panel alone; `changes` compares it with others.

Each finding has a severity: `note` (for the record), `warning` (shown to the reader), `failure` (the answer is
quarantined). The limits come from the real history since 2009 and are stated where they are set.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

NOTE, WARNING, FAILURE = "note", "warning", "failure"
DIFFICULTY_LANDMARKS = {
    "2009-01-03": 1.0,
    "2010-01-01": 1.18,
    "2011-01-01": 1.45e4,
    "2012-01-01": 1.16e6,
    "2014-01-01": 1.18e9,
    "2016-01-01": 1.04e11,
    "2018-01-01": 1.92e12,
    "2020-01-01": 1.31e13,
    "2022-01-01": 2.43e13,
    "2024-01-01": 7.20e13,
    "2026-01-01": 1.48e14,
}
COMPARISONS = ("shrunk", "lost_column", "revised", "providers")
SCALE_FACTOR = 100.0
"""This far from the landmarks is a wrong unit: units differ by 1000, history from the curve by less than 10."""
USUAL_BLOCKS = (72.0, 288.0)
"""Half and twice 144: the median of a year outside this means hash rate and difficulty do not belong together."""
PRICE_TOLERANCE = 0.1
LAST_DAYS = 7
BASE_DAYS = 30
DAY_Z_WARNING, DAY_Z_FAILURE = 7.0, 12.0
"""One day against the 30 before it, in Poisson errors: since 2014 the most was 6.2; a scale error gives over 50."""
WEEK_Z_WARNING = 8.0
WEEK_FACTOR_FAILURE = 2.0
"""A week's mean against the 30 days before it: the deepest fall ever was to 0.63, in July 2021."""
STOPPED_DAYS = 3
STALE_DAYS_FAILURE = 60
GAP_DAYS = 365


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

    def as_dict(self) -> dict[str, object]:
        """JSON types only."""
        return asdict(self)


def make_finding(check: str, severity: str, column: str, message: str, days=(), value=None, limit=None) -> Finding:
    """A finding on `days`, of which the number and the ends are kept; a `value` that is no number is missing."""
    days = pd.DatetimeIndex(days)
    span = (f"{days.min():%Y-%m-%d}", f"{days.max():%Y-%m-%d}") if len(days) else ("", "")
    figure = None if value is None or not np.isfinite(value) else float(value)
    return Finding(check, severity, column, len(days), figure, limit, *span, message)


def findings_table(findings: Iterable[Finding | Mapping]) -> pd.DataFrame:
    """Findings as rows (columns: the fields of `Finding`), failures first; no rows where all is well."""
    rows = [item if isinstance(item, Mapping) else item.as_dict() for item in findings]
    table = pd.DataFrame(rows, columns=list(Finding.__dataclass_fields__))
    order = table["severity"].map({FAILURE: 0, WARNING: 1, NOTE: 2})
    return table.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def is_finding(item: object) -> bool:
    """Whether `item` is a stored finding: a mapping with exactly the fields of `Finding`, each of its kind."""
    fields = Finding.__dataclass_fields__
    texts = ("check", "severity", "column", "first_day", "last_day", "message")
    if not isinstance(item, dict) or set(item) != set(fields) or type(item["days"]) is not int:
        return False
    numbers = all(item[name] is None or type(item[name]) in (int, float) for name in ("value", "limit"))
    return numbers and all(isinstance(item[name], str) for name in texts)


def known_by_the_end(findings: Iterable[Mapping], panel: pd.DataFrame) -> tuple[dict[str, object], ...]:
    """What could be found on the last day of `panel`, cut at an earlier day than `findings` were made on.

    The checks of the panel alone are made again; comparisons with other panels stay where all their days are known.
    """
    last = f"{panel.index[-1]:%Y-%m-%d}"
    compared = [dict(item) for item in findings if item["check"] in COMPARISONS and item["last_day"] <= last]
    return (*(finding.as_dict() for finding in check_panel(panel)), *compared)


def failures(findings: Iterable[Finding]) -> list[Finding]:
    """Those that forbid the use of the answer."""
    return [finding for finding in findings if finding.severity == FAILURE]


def check_panel(panel: pd.DataFrame, today: dt.date | None = None, since: pd.Timestamp | None = None) -> list[Finding]:
    """Checks of one panel alone: future days, units, gaps, stopped columns, level of the days after `since`."""
    found = [
        *_future(panel, today),
        *_scale(panel),
        *_block_rate(panel),
        *_price_identity(panel),
        *_gaps(panel),
        *_stopped(panel),
    ]
    return found + _day_shifts(panel, since) + _week_shift(panel)


def _future(panel: pd.DataFrame, today: dt.date | None) -> list[Finding]:
    if today is None:
        return []
    late = panel.index[panel.index > pd.Timestamp(today)]
    text = f"days later than {today} are given, up to {panel.index[-1]:%Y-%m-%d}"
    return [make_finding("future_day", FAILURE, "date", text, late)] if len(late) else []


def expected_difficulty(days: pd.DatetimeIndex) -> pd.Series:
    """Rough size of difficulty on `days`: landmarks joined on the log scale, constant after the last one."""
    knots = pd.DatetimeIndex(list(DIFFICULTY_LANDMARKS)).as_unit("us").asi8.astype(float)
    levels = np.log(list(DIFFICULTY_LANDMARKS.values()))
    return pd.Series(np.exp(np.interp(days.as_unit("us").asi8.astype(float), knots, levels)), index=days)


def check_recent(panel: pd.DataFrame, today: dt.date) -> list[Finding]:
    """Whether a fetched series reaches the present: some days late is a warning, months late is no answer."""
    late = (pd.Timestamp(today) - panel.index[-1]).days - 1
    if late <= STOPPED_DAYS:
        return []
    text = f"the series ends on {panel.index[-1]:%Y-%m-%d}, {late} days before the last complete day"
    severity = FAILURE if late > STALE_DAYS_FAILURE else WARNING
    return [make_finding("stopped", severity, "hash_rate_ehs", text, panel.index[-1:], late, STOPPED_DAYS)]


def _scale(panel: pd.DataFrame) -> list[Finding]:
    """The median ratio to the landmarks: a wrong unit is off by 1000 throughout."""
    ratio = (panel["difficulty"] / expected_difficulty(panel.index)).dropna()
    if ratio.empty or 1 / SCALE_FACTOR < (value := float(ratio.median())) < SCALE_FACTOR:
        return []
    text = f"difficulty (and so hash rate) is {value:.3g} times what it was known to be: a wrong unit"
    return [make_finding("unit", FAILURE, "hash_rate_ehs", text, ratio.index, value, SCALE_FACTOR)]


def _block_rate(panel: pd.DataFrame) -> list[Finding]:
    blocks = panel["block_count"].dropna().iloc[-GAP_DAYS:]
    if blocks.empty or USUAL_BLOCKS[0] <= (value := float(blocks.median())) <= USUAL_BLOCKS[1]:
        return []
    text = f"{value:.4g} blocks a day in the median, about 144 are possible: hash rate or block count in a wrong unit"
    return [make_finding("unit", FAILURE, "block_count", text, blocks.index, value, USUAL_BLOCKS[1])]


def _price_identity(panel: pd.DataFrame) -> list[Finding]:
    """Revenue in USD over revenue in BTC is the price, where a provider gives all three."""
    ratio = (panel["revenue_usd"] / (panel["issuance_btc"] + panel["fees_btc"]) / panel["price_usd"]).dropna()
    if ratio.empty or abs((value := float(ratio.median())) - 1) <= PRICE_TOLERANCE:
        return []
    text = f"revenue and price disagree by a factor of {value:.3g}: one is in a wrong unit"
    return [make_finding("unit", FAILURE, "price_usd", text, ratio.index, value, PRICE_TOLERANCE)]


def _gaps(panel: pd.DataFrame) -> list[Finding]:
    """Days without hash rate inside its range: a warning in the last year, else a note."""
    values = panel["hash_rate_ehs"]
    inside = values.loc[values.first_valid_index() : values.last_valid_index()]
    missing = inside.index[inside.isna()]
    if not len(missing):
        return []
    recent = missing[missing > panel.index[-1] - pd.Timedelta(days=GAP_DAYS)]
    text = f"{len(missing)} days have no hash rate, {len(recent)} of them in the last year"
    return [make_finding("gap", WARNING if len(recent) else NOTE, "hash_rate_ehs", text, missing, len(missing))]


def _stopped(panel: pd.DataFrame) -> list[Finding]:
    """Columns whose last value lies days before the panel's end."""
    found = []
    for name in panel.columns[panel.notna().any()]:
        behind = (panel.index[-1] - panel[name].last_valid_index()).days
        if behind > STOPPED_DAYS:
            days = panel.index[-behind:]
            text = f"{name} has no value since {days[0]:%Y-%m-%d} ({behind} days)"
            found.append(make_finding("stopped", WARNING, name, text, days, behind, STOPPED_DAYS))
    return found


def day_z(panel: pd.DataFrame) -> pd.Series:
    """Each day's log hash rate against the median of the 30 days before it, in Poisson standard errors of both.

    The error is sqrt(1/n + pi/2/N), n the day's blocks (those of the base where fewer), N the base's; NaN without a
    full base.
    """
    blocks, before = panel["block_count"], panel.shift(1).rolling(BASE_DAYS)
    base_blocks = before["block_count"].sum()
    usual = np.maximum(blocks, 1.0)
    error = np.sqrt(1 / np.maximum(usual, base_blocks / BASE_DAYS / 4) + np.pi / 2 / base_blocks)
    return np.log(panel["hash_rate_ehs"] / before["hash_rate_ehs"].median()) / error


def _day_shifts(panel: pd.DataFrame, since: pd.Timestamp | None) -> list[Finding]:
    z = day_z(panel)
    new = z.loc[z.index > since] if since is not None else z.iloc[-LAST_DAYS:]
    odd = new[new.abs() > DAY_Z_WARNING]
    if odd.empty:
        return []
    worst = float(odd.loc[odd.abs().idxmax()])
    severity = FAILURE if abs(worst) > DAY_Z_FAILURE else WARNING
    text = f"hash rate of {odd.abs().idxmax():%Y-%m-%d} is {worst:+.1f} Poisson standard errors off the 30 days before"
    return [make_finding("level_shift", severity, "hash_rate_ehs", text, odd.index, worst, DAY_Z_FAILURE)]


def _week_shift(panel: pd.DataFrame) -> list[Finding]:
    recent, before = panel.iloc[-LAST_DAYS:], panel.iloc[-LAST_DAYS - BASE_DAYS : -LAST_DAYS]
    ratio = recent["hash_rate_ehs"].mean() / before["hash_rate_ehs"].median()
    blocks, base_blocks = recent["block_count"].sum(), before["block_count"].sum()
    if not (blocks and base_blocks):
        return []
    error = np.sqrt(1 / blocks + np.pi / 2 / base_blocks)
    z = float(np.log(ratio) / error)
    if not np.isfinite(z) or abs(z) <= WEEK_Z_WARNING:
        return []
    severity = FAILURE if max(ratio, 1 / ratio) > WEEK_FACTOR_FAILURE else WARNING
    text = f"the last {LAST_DAYS} days' hash rate is {ratio:.3g} times that of the {BASE_DAYS} days before it"
    text += f" ({z:+.1f} Poisson standard errors)"
    return [make_finding("level_shift", severity, "hash_rate_ehs", text, recent.index, ratio, WEEK_FACTOR_FAILURE)]
