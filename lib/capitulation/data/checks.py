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

from capitulation.data.panel import BLOCKS_PER_DAY, hash_rate_ehs
from capitulation.words import count, day, percent, stretches

SEVERITIES = FAILURE, WARNING, NOTE = "failure", "warning", "note"
WORDS = {"hash_rate_ehs": "hash rate", "price_usd": "price"}  # what no result can do without
GAPS_SINCE = {"hash_rate_ehs": 2010, "price_usd": 2014}  # years of luck, and of one exchange, lie before
COMPARISONS = ("shrunk", "lost_column", "revised", "providers")  # these need another panel, all others one alone

USUAL = {  # known levels on the first day of a year, or in its midst
    "difficulty": {2009: 1.0, 2010: 1.18, 2011: 1.45e4, 2011.5: 1.38e6, 2012: 1.16e6, 2013: 2.98e6, 2014: 1.18e9}
    | {2015: 4.06e10, 2016: 1.04e11, 2017: 3.18e11, 2018: 1.92e12, 2019: 5.62e12, 2020: 1.31e13, 2021: 1.86e13}
    | {2022: 2.43e13, 2023: 3.54e13, 2024: 7.20e13, 2025: 1.10e14, 2026: 1.48e14},
    "price_usd": {2010.5: 0.07, 2011: 0.3, 2011.5: 15, 2012: 5, 2013: 13, 2014: 770, 2015: 315, 2016: 430, 2017: 970}
    | {2018: 13_000, 2019: 3_800, 2020: 7_200, 2021: 29_000, 2022: 46_000, 2023: 16_600, 2024: 42_500, 2025: 94_000}
    | {2026: 88_000},
}
"""Levels that anyone can look up. Every day's price, difficulty and, since 2010, hash rate is 0.13 to 5.9 times the
curve through them; units differ by 1000, and the hash rates of BCH and BSV are 0.05 and 0.02 of Bitcoin's."""
LANDMARK_FACTOR, LANDMARK_YEARS = 10.0, (2010, 2027)  # in 2009 luck is larger; after 2027 it doubles every year
LANDMARK_DAYS = 7  # may lie beyond it by errors of single days, which are named as odd; more are refused
JUMP_DAYS, JUMP_FACTOR, NAMED_DAYS = 14, 3.5, 3
"""A value over the medians of the days before and after it: the largest ever were 1.9 (hash rate; 3.0 at Blockchain.com
in 2010) and 2.1 (price; 2.5), and 3.3 for a price over the days before it alone (June 2011)."""
BLOCKS_A_DAY = 100.0, 240.0  # a year's median was 139 to 177 since 2010; halved it is 88 at most, doubled 278 at least
FITTING, FITTING_DAYS, FITTING_SHARE = 0.05, 91, 0.5
"""Hash rate over blocks is what it was the day before, within 5 % (for rounding to two digits), on 82 % or more of any
91 days of all three providers; on 19 to 37 % of all where one of both is a mean, a day late or invented."""
LUCK, LUCK_DAYS, LUCK_LEAST, LONGEST_MEAN = 2**0.5 / 12, 181, 0.07, 90
"""Hash rate changes from day to day by sqrt(2/144) = 12 % of luck alone, by 12 % / n where it is a mean over n days.
The least in any 181 days was 8.7 %: the median change, in normal deviations, which single odd days do not move."""
LEVEL_Z_WARNING, LEVEL_Z_FAILURE, LEVEL_FACTOR_FAILURE = {1: 7.0, 7: 8.0}, 12.0, 2.0
"""A day and a week against the 30 days before, in Poisson errors: the worst day since 2014 had 6.2, a scale error gives
over 50. The deepest fall of a week ever was to 0.63, in July 2021."""
BASE_DAYS, NEW_DAYS, YEAR_DAYS, STOPPED_DAYS, STALE_DAYS = 30, 7, 365, 3, 60
SETTLED_DAYS = 14  # before the old panel's end; a revision of earlier days is more than settling
LARGE_REVISION = {"hash_rate_ehs": 0.02, "block_count": 0.02, "difficulty": 0.02, "height": 1e-4, "price_usd": 0.05}
REVISED_SHARE_FAILURE, LOST_SHARE_FAILURE = 0.002, 0.01
PROVIDER_LIMIT, PROVIDER_FAILURE, PROVIDER_SHARE = {"hash_rate_ehs": 0.01, "price_usd": 0.02, "height": 0}, 0.25, 0.99
"""What 99 % of a year's days differ by at most. Since 2019 Blockchain.com's 30-day hash rates lie within 0.06 % of Coin
Metrics' (0.7 % in 2018), its prices 0.1 % off in the median and single days up to 4 %; since 2014 more than 1 % of a
year's days were 2 % off in 2017 and 2018 alone. Prices stamped a day late were 7 % off or more in any year."""
COMPARED = {"hash_rate_ehs": "30-day means of hash rate", "price_usd": "prices of the same day", "height": "heights"}
HEIGHT_TOLERANCE = {"mempool_space": 20, "header_time": 10}
"""Blocks by which heights may differ that were reckoned, or dated by another clock than the median time past."""


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
    """Checks of one panel alone: future days, units, gaps, stopped columns, odd days, level of the days after `since`.

    `today` (UTC) bounds the days that may be given; without `since` the level of the last seven days is looked at. What
    was `fetched` must reach the present: some days late is a warning, months late is no answer.
    """
    ends = _ends(panel, pd.Timestamp(today), fetched) if today else ()
    shifts = [*_level(panel, since)]
    return [*ends, *_units(panel), *_landmarks(panel), *_gaps(panel), *_odd_days(panel, shifts), *shifts]


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
        return hash_rate_ehs(usual("difficulty", days), BLOCKS_PER_DAY)
    year, known = days.year + days.day_of_year / 366, USUAL[column]
    return pd.Series(np.exp(np.interp(year, [*known], np.log([*known.values()]))), index=days, name=column)


def usual_factor(days: pd.DatetimeIndex) -> np.ndarray:
    """How many times above or below `usual` a level may lie on each of the `days`: more where the curve has no end."""
    return LANDMARK_FACTOR * 2.0 ** np.maximum(days.year - LANDMARK_YEARS[1], 0).to_numpy()


def _units(panel: pd.DataFrame) -> Iterator[Finding]:
    """A year's medians that a wrong unit moves: the table's identity, blocks a day, revenue over coins times price."""
    coins, blocks = panel["issuance_btc"] + panel["fees_btc"], panel["block_count"]
    reckoned = hash_rate_ehs(panel["difficulty"], blocks.where(blocks > 0))
    same = "hash rate is {:.3g} times what difficulty and block count give{}: one is in a wrong unit"
    rate = "{:.4g} blocks a day in the median{}, about 144 are possible: hash rate or block count in a wrong unit"
    worth = "revenue and price disagree by a factor of {:.3g}{}: one is in a wrong unit"
    for column, measure, low, high, text in (
        ("hash_rate_ehs", panel["hash_rate_ehs"] / reckoned, 0.6, 1.6, same),
        ("block_count", blocks.loc[str(LANDMARK_YEARS[0]) :], *BLOCKS_A_DAY, rate),
        ("price_usd", panel["revenue_usd"] / coins.where(coins > 0) / panel["price_usd"], 0.9, 1.1, worth),
    ):
        known = measure.dropna()
        years = known.groupby(known.index.year)
        middle = years.transform("median")[years.transform("count") >= BASE_DAYS]
        wrong = middle[(middle < low) | (middle > high)]
        if len(wrong):
            when = f" from {day(wrong.index[0])} to {day(wrong.index[-1])}" if len(wrong) < len(middle) else ""
            value = wrong.median()
            yield finding("unit", FAILURE, column, text.format(value, when), wrong.index, value, high)


def _gaps(panel: pd.DataFrame) -> Iterator[Finding]:
    """Days without hash rate or price inside its range (a note where all lie before `GAPS_SINCE`); stopped columns."""
    for name, word in WORDS.items():
        values = panel[name]
        missing = panel.index[values.isna() & values.ffill().notna() & values.bfill().notna()]
        if len(missing):
            recent = missing[-1].year >= GAPS_SINCE[name]
            text = f"{word} is missing on {stretches(missing)} ({count(len(missing), 'day')})"
            yield finding("gap", WARNING if recent else NOTE, name, text, missing, len(missing))
    for name in panel.columns[panel.notna().any()]:
        days = panel.index[panel.index > panel[name].last_valid_index()]
        if len(days) > STOPPED_DAYS:
            text = f"{WORDS.get(name, name)} has no value since {days[0]:%Y-%m-%d} ({len(days)} days)"
            yield finding("stopped", WARNING, name, text, days, len(days), STOPPED_DAYS)


def _landmarks(panel: pd.DataFrame) -> Iterator[Finding]:
    """More than a few days so far off the level known of their time that they are not Bitcoin's, or in another unit."""
    for name in ("hash_rate_ehs", "difficulty", "price_usd"):
        values = panel[name].loc[str(LANDMARK_YEARS[0]) :].dropna()
        ratio, limit = values / usual(name, values.index), usual_factor(values.index)
        far = ratio[(ratio > limit) | (ratio < 1 / limit)]
        if len(far) > LANDMARK_DAYS:
            when = f"on {count(len(far), 'day')} from {day(far.index[0])} to {day(far.index[-1])}"
            text = f"{WORDS.get(name, name)} is {far.median():.3g} times what Bitcoin's was known to be {when}"
            text += ": another unit or another coin"
            yield finding("unit", FAILURE, name, text, far.index, far.median(), LANDMARK_FACTOR)


def _odd_days(panel: pd.DataFrame, shifts: Iterable[Finding]) -> Iterator[Finding]:
    """Single values beyond the medians of the days on both sides (or the one known), the nearer of which counts."""
    for name, word in WORDS.items():
        logs = np.log(panel[name].loc[str(LANDMARK_YEARS[0]) :].dropna())
        sides = (side.shift(1).rolling(JUMP_DAYS, min_periods=4).median() for side in (logs, logs[::-1]))
        offs = pd.DataFrame({number: logs - side for number, side in enumerate(sides)})
        low, high = offs.min(axis=1), offs.max(axis=1)  # of the only one where the other is not known
        jump = low.where(low > 0, high.where(high < 0, 0.0))
        odd = np.exp(jump[jump.abs() > np.log(JUMP_FACTOR)])
        for item in shifts if name == "hash_rate_ehs" else ():
            odd = odd.drop(odd.loc[item["first_day"] : item["last_day"]].index)
        if len(odd):
            side = "before" if odd.index[0] == logs.index[-1] else "around"
            text = f"{word} of {day(odd.index[0])} is {odd.iloc[0]:.3g} times that of the days {side} it"
            if len(odd) > 1:
                named = [f"{day(when)} ({factor:.3g} times)" for when, factor in odd.iloc[-NAMED_DAYS:].items()]
                more = f" and {count(len(odd) - NAMED_DAYS, 'earlier day')}" if len(odd) > NAMED_DAYS else ""
                text = f"{word} is far off that of the days around on {', '.join(named)}{more}"
            yield finding("odd_day", WARNING, name, text, odd.index, odd.iloc[-1], JUMP_FACTOR)


def consistent(panel: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """The panel without the block counts, difficulties and heights that contradict its hash rate, and why, in findings.

    Hash rate over blocks is difficulty, which stands still for some 14 days: where it does not, or is not the one
    given, one of both is a mean, stamped late or invented. Where hash rate varies far less than blocks do by luck, it
    is a mean over n days: most alike are then its changes and those n days before, with the opposite sign. Missing days
    are passed over. Heights count all earlier blocks: none is kept from the first such day on.
    """
    derived, rate = ["block_count", "difficulty", "height"], np.log(panel["hash_rate_ehs"])
    blocks = panel["block_count"].where(panel["block_count"] > 0)
    change, step = rate.diff(), (rate - np.log(blocks)).diff().abs()
    off = rate - np.log(panel["difficulty"] * blocks)
    fits = ((step < FITTING) & ~((off - off.median()).abs() > FITTING)).where(step.notna()).astype(float)
    share = fits.rolling(FITTING_DAYS, center=True, min_periods=FITTING_DAYS // 3).mean()
    moves = change.abs().rolling(LUCK_DAYS, center=True, min_periods=LUCK_DAYS // 3).median() / 0.6745
    smooth = moves < LUCK_LEAST
    wrong = smooth | (share < FITTING_SHARE)
    if not wrong.any():
        return panel, []
    days = panel.index[wrong]
    if smooth.sum() > len(days) / 2:
        column, value, limit = "hash_rate_ehs", moves[smooth].median(), LUCK_LEAST
        drift = change.rolling(LUCK_DAYS, center=True, min_periods=1).median()
        luck = (change - drift)[smooth].rank()
        lags = range(2, min(LONGEST_MEAN, len(luck) // 4)) if value else ()
        alike = [0.0, *(luck.corr(luck.shift(lag)) for lag in lags)]
        n = 1 + int(np.argmin(alike)) if min(alike) < -0.2 else "several"
        text = f"hash rate varies by {percent(value, 1)} from day to day on {stretches(days)}, where luck alone makes "
        text += f"{percent(LUCK)}: it is a mean over {n} days or reckoned in another way than from each day's blocks"
    else:
        column, value, limit = "block_count", fits[wrong].mean(), FITTING_SHARE
        text = f"hash rate, block count and difficulty contradict each other on {stretches(days)}: {percent(value)} of "
        text += "days fit a difficulty that stands still, of real ones some 90 %; one is a mean, a day late or invented"
    if panel.loc[wrong, derived].notna().any(axis=None):
        text += "; block count, difficulty and height are not used there"
    kept = panel.assign(**panel[derived].mask(wrong)).assign(height=panel["height"].mask(wrong.cummax()))
    return kept, [finding("contradiction", WARNING, column, text, days, value, limit)]


def level(panel: pd.DataFrame, days: int = 1) -> pd.DataFrame:
    """`ratio` of the mean hash rate of `days` days to the median of the 30 before them, and `z`: its log in errors.

    The Poisson error is sqrt(1/n + pi/2/N): n the days' blocks (144 where not known, a quarter of the base's mean where
    fewer), N the base's. A tenth of either's days may be missing, else NaN.
    """
    known = panel[["hash_rate_ehs", "block_count"]].fillna({"block_count": BLOCKS_PER_DAY})
    recent = known.rolling(days, min_periods=max(1, int(0.9 * days)))
    base = known.shift(days).rolling(BASE_DAYS, min_periods=int(0.9 * BASE_DAYS))
    base_blocks = base["block_count"].sum()
    blocks = np.maximum(np.maximum(recent["block_count"].sum(), 1.0), base_blocks * days / BASE_DAYS / 4)
    ratio = recent["hash_rate_ehs"].mean() / base["hash_rate_ehs"].median()
    return pd.DataFrame({"ratio": ratio, "z": np.log(ratio) / np.sqrt(1 / blocks + np.pi / 2 / base_blocks)})


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
            severity = FAILURE if name in WORDS else WARNING
            yield finding("lost_column", severity, name, f"{name} is gone entirely")
        changed, limit = size[size > 1e-6], LARGE_REVISION.get(name)
        if len(changed):
            past = size[settled & (size > 1e-6)]
            many = (past > (limit or np.inf)).sum() > max(REVISED_SHARE_FAILURE * size.count(), 2)
            most = f"{changed.max():.2%} of the larger value on {changed.idxmax():%Y-%m-%d}"
            text = f"{name}: {len(changed)} past days revised, the most by {most}"
            severity = FAILURE if many else WARNING if len(past) else NOTE
            yield finding("revised", severity, name, text, changed.index, changed.max(), limit)


def _size(value: float, relative: bool) -> str:
    """A difference in words, a fraction in percent or a number of blocks."""
    return percent(value, 3 if value < 0.001 else 2 if value < 0.1 else 0) if relative else count(int(value), "block")


def compare_providers(
    panel: pd.DataFrame, other: pd.DataFrame, name: str, own: Iterable[str] = ()
) -> Iterator[Finding]:
    """The newest year of days that both know against the panel of provider `name`: a finding per column.

    Of hash rate the 30-day means are compared (over common days, a tenth of which may be missing), of price the same
    day's, of heights the blocks; `value` is what 99 % of the days differ by at most, in fractions or blocks. `own`: the
    source of `panel`'s heights, and `header_time` where that dates them: such heights need not be equal.
    """
    loose = max(HEIGHT_TOLERANCE.get(one, 0) for one in (name, *own))
    for column, limit in (PROVIDER_LIMIT | {"height": loose}).items():
        both = pd.concat([panel[column], other[column]], axis=1, keys=["ours", "theirs"], join="inner")
        both = both.where(both.notna().all(axis=1))
        if column == "hash_rate_ehs":
            both = both.rolling(BASE_DAYS, min_periods=int(0.9 * BASE_DAYS)).mean()
        off = both["ours"] - both["theirs"] if column == "height" else both["ours"] / both["theirs"] - 1
        off = off.abs().dropna().iloc[-YEAR_DAYS:]
        if off.empty:
            continue
        value, middle, worst = off.quantile(PROVIDER_SHARE, interpolation="higher"), off.median(), off.idxmax()
        relative = column != "height"
        severity = FAILURE if relative and middle > PROVIDER_FAILURE else WARNING if value > limit else NOTE
        near, half, far, allowed = (_size(size, relative) for size in (value, middle, off.max(), limit))
        text = f"{COMPARED[column]} lie up to {near} off {name}'s on {percent(PROVIDER_SHARE)} of "
        text += f"{count(len(off), 'day')} (median {half}, the most {far} on {day(worst)})"
        text += f"; up to {allowed} is allowed" if severity != NOTE else ""
        if off.max() < 1e-9:
            text = f"{COMPARED[column]} equal {name}'s on each of {count(len(off), 'day')}"
        yield finding("providers", severity, column, text, off.index, value, limit)
