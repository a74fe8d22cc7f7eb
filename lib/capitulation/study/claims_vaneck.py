"""VanEck's ChainCheck of mid-December 2025: what followed negative hash-rate growth, and the rig that breaks even."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from capitulation.mining.economics import breakeven_usd_kwh
from capitulation.mining.fleet import read_rigs
from capitulation.mining.hash_rate import relative_se
from capitulation.study.claims_base import (
    ALPHA,
    CHANCE,
    CONTRADICTED,
    REPRODUCED,
    Finding,
    NotMeasurable,
    Outcome,
    View,
    day,
    growth,
    judge,
    outcome,
    twice,
)
from capitulation.words import count, p_text, percent, signed

TOLERANCE = 0.015
LAG_AS_PUBLISHED = 0
MEAN_DAYS = 30
SAME_AS_RIBBONS = (
    " A 30-day mean below its value of 30 days ago is a 30-day mean below the 60-day mean: these are the days of "
    "inverted Hash Ribbons, not a second witness."
)


def _after_negative(panel: pd.DataFrame, view: View, growth_days: int, horizon: int) -> Outcome:
    negative = growth(panel, growth_days) < 0
    return outcome(panel, negative, horizon, LAG_AS_PUBLISHED, view.params.sample_start)


def _beside(found: Outcome) -> str:
    """The counts without which the share says nothing."""
    spells = f"{count(found.n_episodes, 'separate spell')} ({count(found.n_clusters, 'cluster')})"
    return f"{count(found.n_days, 'day')} in {spells}, rotation {p_text(found.p_value)}"


def growth_condition(view: View, growth_days: int, horizon_days: int, **published: float) -> Finding:
    """Claims 11 and 13: share of gains and mean return after negative growth of the 30-day mean, against other days.

    Published figures by name: hit_rate, mean (the condition's), other_hit_rate, other_mean, n_days. Entry on the day
    itself, as published.
    """

    def measure(panel: pd.DataFrame) -> Finding:
        found = _after_negative(panel, view, growth_days, horizon_days)
        own = {name: value for name, value in published.items() if name in ("hit_rate", "mean")}
        close = {name: abs(getattr(found, name) - value) <= TOLERANCE for name, value in own.items()}
        means = f", mean {percent(found.mean, 1)} against {percent(found.other_mean, 1)}" if "mean" in published else ""
        measured = (
            f"higher {percent(found.hit_rate, 1)} of the time against {percent(found.other_hit_rate, 1)} on other "
            f"days{means}; {_beside(found)}"
        )
        verdict = judge(all(close.values()), found.p_value)
        reason = _growth_reason(found, close, published) + (SAME_AS_RIBBONS if growth_days == MEAN_DAYS else "")
        return Finding(measured, verdict, reason, found.p_value)

    return twice(measure, view)


def _growth_reason(found: Outcome, close: Mapping[str, bool], published: Mapping[str, float]) -> str:
    """Whether the figures come out, and what they are worth."""
    off = [
        f"{name.replace('_', ' ')} is {percent(getattr(found, name), 1)}, not {percent(value)}"
        for name, value in published.items()
        if name != "n_days" and abs(getattr(found, name) - value) > TOLERANCE
    ]
    comes = "come out" if all(close.values()) else "do not come out"
    extra = f" ({'; '.join(off)})" if off else ""
    stands = "stands out from" if found.p_value < ALPHA else "cannot be told from"
    return (
        f"The condition's figures {comes} as published within {100 * TOLERANCE:g} points{extra}; they rest on "
        f"{count(found.n_episodes, 'spell')}, and the excess {stands} chance ({p_text(found.p_value)})."
    )


def growth_horizon(
    view: View, growth_days: int, horizon_days: int, mean: float, other_mean: float, tried_days: Sequence[int]
) -> Finding:
    """Claim 12: over which horizon the published mean returns come out."""

    def measure(panel: pd.DataFrame) -> Finding:
        tried = {h: _after_negative(panel, view, growth_days, h) for h in tried_days}
        misses = {h: abs(f.mean - mean) + abs(f.other_mean - other_mean) for h, f in tried.items()}
        best = min(misses, key=misses.get)
        found, printed = tried[best], tried[horizon_days]
        measured = (
            f"{percent(found.mean, 1)} against {percent(found.other_mean, 1)} over {best} days; over {horizon_days} "
            f"days {percent(printed.mean, 1)} against {percent(printed.other_mean, 1)}; {_beside(found)}"
        )
        verdict = judge(best == horizon_days, found.p_value)
        reason = (
            f"Of {count(len(tried), 'horizon')} tried, {best} days fit the printed means best (off by "
            f"{50 * misses[best]:.1f} points on average, the printed {horizon_days} days by "
            f"{50 * misses[horizon_days]:.1f}); at {best} days the two means differ by "
            f"{signed(100 * (found.mean - found.other_mean), 1)} points."
        )
        return Finding(measured, verdict, reason, found.p_value)

    return twice(measure, view)


def largest_fall(view: View, change: float, change_days: int, since: str, tolerance: float) -> Finding:
    """Claim 14: the fall of the 30-day mean, and whether a larger one lies between `since` and the claim's day.

    The standard error is of the difference of two such falls from block luck alone, windows taken as separate.
    """
    series = growth(view.past, change_days).dropna()
    if series.empty or series.index[-1] != view.as_of or series.index[0] > pd.Timestamp(since):
        raise NotMeasurable(f"the change of the 30-day mean is not known from {since} to {day(view.as_of)}")
    now, before = series.iloc[-1], series.loc[since:].iloc[:-change_days]
    error = 2 * float(relative_se(view.past, MEAN_DAYS).iloc[-1])
    verdict = _fall_verdict(abs(now - change) <= tolerance, now - before.min(), error)
    measured = (
        f"{percent(now, 1)} on {day(view.as_of)}; lowest since {since}: {percent(before.min(), 1)} on "
        f"{day(before.idxmin())}"
    )
    reason = (
        f"{count(int((before < now).sum()), 'earlier day')} since {since} had a lower change, by up to "
        f"{percent(max(now - before.min(), 0), 1)}, where block luck alone gives such differences an error of "
        f"{percent(error, 1)}."
    )
    return Finding(measured, verdict, reason, followed=_deeper_later(view, now, change_days))


def _fall_verdict(size_fits: bool, deeper_by: float, error: float) -> str:
    """The size must fit and no earlier fall be deeper; one that is deeper by less than its error decides nothing."""
    if not size_fits or deeper_by >= error:
        return CONTRADICTED
    return CHANCE if deeper_by > 0 else REPRODUCED


def _deeper_later(view: View, now: float, change_days: int) -> str:
    """The deepest fall of the 30-day mean after the claim."""
    later = (
        growth(view.panel, change_days).loc[view.later.index].dropna() if len(view.later) else pd.Series(dtype=float)
    )
    if later.empty:
        return ""
    word = "deepened to" if later.min() < now else "was never lower than"
    return f"The 30-day change {word} {percent(later.min(), 1)} on {day(later.idxmin())}"


def rig_breakeven(view: View, model: str, values: Sequence[Mapping[str, Any]], tolerance: float) -> Finding:
    """Claim 15: mean breakeven power price of a rig over each published period."""
    rigs = read_rigs()
    series = breakeven_usd_kwh(view.panel, rigs.loc[[model]])[model]
    means = [series.loc[: view.as_of].loc[v["start"] : v["end"]].mean() for v in values]
    if any(np.isnan(mean) for mean in means):
        raise NotMeasurable("hashprice is not known for the published months")
    gaps = [abs(mean - v["usd_kwh"]) for mean, v in zip(means, values, strict=True)]
    shown = [f"{m:.3f} ({v['start']} to {v['end']})" for m, v in zip(means, values, strict=True)]
    efficiency = rigs.loc[model, "efficiency_j_th"]
    reason = (
        f"At {efficiency:g} J/TH the largest difference from a published value is {max(gaps):.3f} USD/kWh; block "
        f"luck cancels in hashprice, so no test is needed."
    )
    verdict = REPRODUCED if max(gaps) <= tolerance else CONTRADICTED
    followed = f"On {day(series.index[-1])} it was {series.iloc[-1]:.3f} USD/kWh" if len(view.later) else ""
    return Finding(f"{' and '.join(shown)} USD/kWh", verdict, reason, followed=followed)
