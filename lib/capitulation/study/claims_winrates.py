"""Figures in circulation about Hash Ribbons signals, and the academic question of which series leads."""

from __future__ import annotations

import numpy as np
import pandas as pd

from capitulation.study.causality import HASH_RATE_LEADS, PRICE_LEADS, direction_sentence, lead_tests, weekly_logs
from capitulation.study.claims_base import (
    ALPHA,
    CHANCE,
    CONTRADICTED,
    REPRODUCED,
    Finding,
    NotMeasurable,
    View,
    day,
    days_flag,
    judge,
    outcome,
    published_buys,
    published_episodes,
    share_test,
    twice,
)
from capitulation.words import count, p_text, percent

MAX_BINARY_SD = 0.5


def low_held(price: pd.Series, before_days: int, after_days: int) -> pd.Series:
    """1 where the low of the last `before_days` closes was not undercut in the next `after_days`, 0 where it was.

    Missing where either window is not complete. Looks ahead on purpose: it judges signals, it is none.
    """
    low = price.rolling(before_days, min_periods=before_days).min()
    later = price[::-1].rolling(after_days, min_periods=after_days).min()[::-1].shift(-1)
    return (later >= low).astype(float).where(low.notna() & later.notna())


def macro_lows(view: View, signals: int, lows: int, before_days: int, after_days: int) -> Finding:
    """Claim 19: share of buy signals after which the low of the months before was not undercut for half a year.

    The published share has no definition; ours counts as matching within one standard error of a share.
    """

    def measure(panel: pd.DataFrame) -> Finding:
        holds = low_held(panel["price_usd"], before_days, after_days)
        hits, known, base, p = share_test(holds, published_buys(panel))
        total = len(published_buys(panel))
        measured = (
            f"{hits} of {known} ({percent(hits / known)}) of {count(total, 'signal')}, whose low of the last "
            f"{before_days} days held for {after_days} days; any day {percent(base)}, rotation {p_text(p)}"
        )
        largest_error = MAX_BINARY_SD / np.sqrt(known)
        fits = abs(hits / known - lows / signals) <= largest_error
        stands = "more than chance gives" if p < ALPHA else "no more than chance may give"
        reason = (
            f"The count of signals is {total} where {signals} were published; a low that holds is common on any day "
            f"({percent(base)}), so {percent(hits / known)} is {stands}."
        )
        return Finding(measured, judge(fits, p), reason, p)

    return twice(measure, view)


def profitable_buys(view: View, since: str, share: float, tolerance: float) -> Finding:
    """Claim 20: share of buy signals with a gain, at each of the run's horizons; the published share names none."""

    def measure(panel: pd.DataFrame) -> Finding:
        flag = days_flag(panel, published_buys(panel))
        lag = view.params.entry_lag_days
        found = {h: outcome(panel, flag, h, lag, since) for h in view.params.horizons_days}
        best = min(found, key=lambda h: abs(found[h].hit_rate - share))
        row = found[best]
        shares = ", ".join(f"{h} d {percent(f.hit_rate)}" for h, f in found.items())
        measured = f"{shares} of {row.n_days} signals; {percent(row.base_hit_rate)} of all days at {best} d"
        reason = (
            f"No horizon is given; {best} days come closest ({percent(row.hit_rate)} of {row.n_known}). There the "
            f"excess over any day has rotation {p_text(row.p_value)}: most days since {since[:4]} were followed by a "
            f"gain."
        )
        return Finding(measured, judge(abs(row.hit_rate - share) <= tolerance, row.p_value), reason, row.p_value)

    return twice(measure, view)


def mean_length(
    view: View, since: str, days: float, episodes: int, tolerance_days: float, bridge_days: int, min_days: int
) -> Finding:
    """Claim 21: number and mean length of capitulations, every one listed and with the published table's omissions."""

    def measure(panel: pd.DataFrame) -> Finding:
        raw = published_episodes(panel)
        raw = raw[raw["start"] >= since]
        merged = published_episodes(panel, bridge_days)
        merged = merged[(merged["start"] >= since) & (merged["days"] >= min_days)]
        if raw.empty or merged.empty:
            raise NotMeasurable(f"no capitulation since {since}")
        measured = (
            f"{raw['days'].mean():.0f} days over {count(len(raw), 'episode')}, every one counted; "
            f"{merged['days'].mean():.0f} days over {len(merged)} when breaks of up to {bridge_days} days are "
            f"bridged and those under {min_days} days dropped"
        )
        strict = abs(raw["days"].mean() - days) <= tolerance_days and len(raw) == episodes
        ongoing = " The last one was still running, so its length is a lower bound." if raw["ongoing"].iloc[-1] else ""
        reason = (
            f"The rule as defined gives {count(len(raw), 'episode')} with a mean of {raw['days'].mean():.0f} and a "
            f"median of {raw['days'].median():.0f} days; longer means need interruptions bridged and short episodes "
            f"left out.{ongoing}"
        )
        return Finding(measured, REPRODUCED if strict else CONTRADICTED, reason)

    return twice(measure, view)


def lead_and_lag(view: View, start: str, lags: int) -> Finding:
    """Claim 22: lead tests in both directions, on the paper's sample and since."""

    def measure(panel: pd.DataFrame, first: str = start) -> Finding:
        logs = weekly_logs(panel, first)
        if len(logs.dropna()) < 10 * lags:
            raise NotMeasurable(f"fewer than {10 * lags} weeks since {first}")
        tests = lead_tests(logs, lags)
        p = tests.set_index("direction")["p_value"]
        price, hash_rate = p[PRICE_LEADS] < ALPHA, p[HASH_RATE_LEADS] < ALPHA
        verdict = CONTRADICTED if hash_rate else REPRODUCED if price else CHANCE
        measured = (
            f"price leads: {p_text(p[PRICE_LEADS])}; hash rate leads: {p_text(p[HASH_RATE_LEADS])}; {len(logs)} weeks"
        )
        return Finding(measured, verdict, direction_sentence(tests), p[PRICE_LEADS])

    found = measure(view.past)
    whole = measure(view.panel, view.params.sample_start)
    since = f"{whole.measured} since {view.params.sample_start} (to {day(view.panel.index[-1])})"
    return Finding(found.measured, found.verdict, found.reason, found.p_value, since, _after_publication(view, lags))


def _after_publication(view: View, lags: int) -> str:
    """The same tests on the weeks after the paper's data alone."""
    if not len(view.later):
        return ""
    logs = weekly_logs(view.later, day(view.later.index[0]))
    return f"On later data alone: {direction_sentence(lead_tests(logs, lags))}" if len(logs) >= 10 * lags else ""
