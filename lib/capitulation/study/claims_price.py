"""The article of 20 January 2026: what it says of price (crosses, bottoms, support)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from capitulation.study.claims_base import (
    CONTRADICTED,
    NOT_TESTABLE,
    REPRODUCED,
    Finding,
    NotMeasurable,
    View,
    day,
    days_flag,
    judge_effect,
    outcome,
    published_episodes,
    share_test,
    twice,
)
from capitulation.words import count, p_text, percent

MAJORITY = 0.5


def _recoveries(panel: pd.DataFrame, since: str) -> pd.DatetimeIndex:
    ends = pd.DatetimeIndex(published_episodes(panel)["end"].dropna())
    return ends[ends >= pd.Timestamp(since)]


def price_after_cross(view: View, horizon_days: int) -> Finding:
    """Claim 7: price in the days up to and after each cross, beside any day."""

    def measure(panel: pd.DataFrame) -> Finding:
        days = _recoveries(panel, view.params.sample_start)
        after = outcome(
            panel, days_flag(panel, days), horizon_days, view.params.entry_lag_days, view.params.sample_start
        )
        before = np.log(panel["price_usd"]).diff(horizon_days).loc[view.params.sample_start :]
        rose, known, base, p_before = share_test((before > 0).astype(float).where(before.notna()), days)
        measured = (
            f"price had risen over the {horizon_days} days before {rose} of {known} crosses (any day "
            f"{percent(base)}, {p_text(p_before)}), and rose over the {horizon_days} days after "
            f"{percent(after.hit_rate)} of {after.n_known} (any day {percent(after.base_hit_rate)}, median "
            f"{percent(after.median, 1, True)})"
        )
        reason = (
            f"{percent(after.hit_rate)} of crosses were followed by a gain, {percent(after.base_hit_rate)} of all "
            f"days were; on log returns the difference has rotation {p_text(after.p_value)} with "
            f"{count(after.n_known, 'cross', 'crosses')}."
        )
        return Finding(measured, judge_effect(after.p_value), reason, after.p_value)

    return twice(measure, view)


def near_low(price: pd.Series, near_days: int, around_days: int) -> pd.Series:
    """1 where the lowest close within `around_days` days on either side lies within `near_days` days, else 0.

    Missing where a window is not complete. Looks ahead on purpose: it judges signals, it is none.
    """
    wide, narrow = 2 * around_days + 1, 2 * near_days + 1
    lowest = price.rolling(wide, center=True, min_periods=wide).min()
    close = price.rolling(narrow, center=True, min_periods=narrow).min()
    return (close <= lowest).astype(float).where(lowest.notna())


def bottoms(view: View, horizon_days: int, near_days: int) -> Finding:
    """Claim 8: how often a recovery lies near the low of the surrounding year, and the return that followed."""

    def measure(panel: pd.DataFrame) -> Finding:
        days = _recoveries(panel, view.params.sample_start)
        after = outcome(
            panel, days_flag(panel, days), horizon_days, view.params.entry_lag_days, view.params.sample_start
        )
        low = near_low(panel["price_usd"], near_days, horizon_days).loc[view.params.sample_start :]
        hits, known, base, p_low = share_test(low, days)
        measured = (
            f"{hits} of {known} recoveries within {near_days} days of the low of {horizon_days} days around (any day "
            f"{percent(base)}, {p_text(p_low)}); {horizon_days} days later higher {percent(after.hit_rate)} of the "
            f"time (any day {percent(after.base_hit_rate)}), median {percent(after.median, 0, True)}"
        )
        often = "often" if hits / known > MAJORITY else "in the minority of cases"
        reason = (
            f"The end of capitulation lay near a low {often} ({percent(hits / known)}); the return after it has "
            f"rotation {p_text(after.p_value)} over {count(after.n_known, 'recovery', 'recoveries')}."
        )
        return Finding(measured, judge_effect(after.p_value), reason, after.p_value)

    return twice(measure, view)


def support(view: View, level_usd: float, horizons_days: Sequence[int]) -> Finding:
    """Claim 9: whether the close held the level, that day and after."""
    price = view.past["price_usd"].dropna()
    if price.empty or price.index[-1] != view.as_of:
        raise NotMeasurable(f"no price on {day(view.as_of)}")
    now, after = price.iloc[-1], view.later["price_usd"].dropna()
    measured = f"close of {day(view.as_of)}: {now:,.0f} USD, {percent(now / level_usd - 1, 1, True)} from the level"
    if now < level_usd:
        reason = (
            f"The price had closed below {level_usd:,.0f} USD by the end of that very day, so the support did not hold."
        )
        return Finding(measured, CONTRADICTED, reason, followed=_what_followed(now, after, level_usd, horizons_days))
    if after.empty:
        return Finding(measured, NOT_TESTABLE, "Only later prices can tell, and the data end on that day.")
    held = bool((after >= level_usd).all())
    reason = f"Since then the price {'has not' if held else 'has'} closed below {level_usd:,.0f} USD."
    verdict = REPRODUCED if held else CONTRADICTED
    return Finding(measured, verdict, reason, followed=_what_followed(now, after, level_usd, horizons_days))


def _what_followed(now: float, after: pd.Series, level: float, horizons: Sequence[int]) -> str:
    """Return after each horizon, the lowest close, and the days spent above the level."""
    if after.empty:
        return ""
    known = [h for h in horizons if h <= len(after)]
    parts = [f"{percent(after.iloc[h - 1] / now - 1, 0, True)} after {h} days" for h in known]
    waiting = [str(h) for h in horizons if h > len(after)]
    parts += [f"{' and '.join(waiting)} days not yet known"] if waiting else []
    above = int((after >= level).sum())
    return (
        f"{', '.join(parts)}; lowest close {after.min():,.0f} USD on {day(after.idxmin())}, {above} of {len(after)} "
        f"closes at or above {level:,.0f}"
    )
