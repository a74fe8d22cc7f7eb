"""What every measured claim shares: the data it may see, its finding, and the test that stands beside its figures.

A claim is judged on the data that its author could have had; what came later is told beside it, never mixed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from capitulation.episodes import buy_dates, clusters, find_episodes
from capitulation.mining.hash_rate import rolling_mean
from capitulation.mining.ribbons import ribbons
from capitulation.params import Params
from capitulation.study.forward_returns import forward_log_returns

REPRODUCED = "reproduced"
CONTRADICTED = "contradicted"
CHANCE = "not distinguishable from chance"
NOT_TESTABLE = "not testable with free data"
VERDICTS = (REPRODUCED, CONTRADICTED, CHANCE, NOT_TESTABLE)
ALPHA = 0.05


class NotMeasurable(Exception):
    """The panel lacks what a claim needs; the message says what."""


@dataclass(frozen=True)
class View:
    """The data of one claim: the whole `panel`, the last day `as_of` that it could know, and the run's `params`."""

    panel: pd.DataFrame
    as_of: pd.Timestamp
    params: Params

    @property
    def past(self) -> pd.DataFrame:
        """The panel up to and with `as_of`."""
        return self.panel.loc[: self.as_of]

    @property
    def later(self) -> pd.DataFrame:
        """The days after `as_of`; empty where there are none."""
        return self.panel.loc[self.as_of + pd.Timedelta(days=1) :]


@dataclass(frozen=True)
class Finding:
    """What measuring a claim gave: figures, verdict, the reason in words, and what later data say."""

    measured: str
    verdict: str
    reason: str
    p_value: float = math.nan
    measured_since: str = ""
    followed: str = ""


@dataclass(frozen=True)
class Outcome:
    """Forward returns after the days of a condition beside all other days, with their rotation test."""

    n_days: int
    n_known: int
    n_episodes: int
    n_clusters: int
    hit_rate: float
    mean: float
    median: float
    other_hit_rate: float
    other_mean: float
    base_hit_rate: float
    p_value: float


def outcome(panel: pd.DataFrame, condition: pd.Series, horizon: int, lag: int, start: str) -> Outcome:
    """Forward returns after the days on which `condition` (boolean, daily) holds, since `start`.

    Shares and means are of simple returns; the one-sided rotation p is of log returns. `n_days`: days in the
    condition; `n_known`: those whose outcome is known; `n_episodes`: runs of consecutive days, a run of one day
    counting too; `n_clusters`: known days merged where they lie closer than `horizon`.
    """
    from capitulation.study.rotation import rotation_test

    flag = condition.loc[start:].astype(bool)
    logs = forward_log_returns(panel["price_usd"], horizon, lag).loc[start:].dropna()
    event = flag.reindex(logs.index, fill_value=False).to_numpy()
    after, other, base = np.expm1(logs[event]), np.expm1(logs[~event]), np.expm1(logs)
    if not len(after):
        raise NotMeasurable(f"no such day since {start} whose outcome over {horizon} days is known")
    return Outcome(
        n_days=int(flag.sum()),
        n_known=len(after),
        n_episodes=len(find_episodes(flag)),
        n_clusters=int(clusters(after.index, horizon).max()) + 1,
        hit_rate=float((after > 0).mean()),
        mean=float(after.mean()),
        median=float(after.median()),
        other_hit_rate=float((other > 0).mean()),
        other_mean=float(other.mean()),
        base_hit_rate=float((base > 0).mean()),
        p_value=rotation_test(logs.to_numpy(), event).p_one_sided,
    )


def share_test(holds: pd.Series, days: pd.DatetimeIndex) -> tuple[int, int, float, float]:
    """On how many of `days` a property holds: hits, known days, the share over every day, one-sided rotation p.

    `holds`: 1, 0 or missing per day.
    """
    from capitulation.study.rotation import rotation_test

    known = holds.dropna().astype(float)
    event = known.index.isin(days)
    if not event.any():
        raise NotMeasurable("no signal whose outcome is known")
    hits = int(known[event].sum())
    return hits, int(event.sum()), float(known.mean()), rotation_test(known.to_numpy(), event).p_one_sided


def days_flag(panel: pd.DataFrame, days: pd.DatetimeIndex) -> pd.Series:
    """A boolean series over the panel, True on `days`."""
    return pd.Series(panel.index.isin(days), index=panel.index)


def published_episodes(panel: pd.DataFrame, bridge_days: int = 0) -> pd.DataFrame:
    """Hash Ribbons episodes with the published windows (30 and 60 days), whatever the run's own parameters are.

    Two episodes no more than `bridge_days` days apart count as one; its length is counted from the first start to the
    last end.
    """
    table = ribbons(panel, 30, 60)
    episodes = find_episodes(table["in_capitulation"], table["known"])
    apart = episodes["start"] - episodes["end"].shift(1)
    group = (~(apart <= pd.Timedelta(days=bridge_days))).cumsum() if bridge_days else episodes["episode"]
    merged = episodes.groupby(group.to_numpy()).agg(
        start=("start", "first"), end=("end", "last"), ongoing=("ongoing", "last"), parts=("start", "size")
    )
    merged["end"] = merged["end"].where(~merged["ongoing"])
    until = merged["end"].fillna(panel.index[-1] + pd.Timedelta(days=1))
    return merged.assign(days=(until - merged["start"]).dt.days).reset_index(drop=True)


def published_buys(panel: pd.DataFrame) -> pd.DatetimeIndex:
    """Hash Ribbons buy days with the published windows (30 and 60 days, price 10 and 20)."""
    table = ribbons(panel, 30, 60)
    episodes = find_episodes(table["in_capitulation"], table["known"])
    return pd.DatetimeIndex(buy_dates(panel, episodes, 10, 20).dropna())


def growth(panel: pd.DataFrame, days: int, mean_days: int = 30) -> pd.Series:
    """Change of the `mean_days`-day mean hash rate over `days` days (fraction), full windows only."""
    mean = rolling_mean(panel["hash_rate_ehs"], mean_days)
    return mean / mean.shift(days) - 1


def judge(matches: bool, p_value: float) -> str:
    """Verdict on figures that were claimed as evidence: they must come out as published, and stand out from chance."""
    if not matches:
        return CONTRADICTED
    return REPRODUCED if p_value < ALPHA else CHANCE


def judge_effect(p_value: float) -> str:
    """Verdict on a claimed direction, from the one-sided p-value: the other direction must stand out to contradict it.

    >>> judge_effect(0.01), judge_effect(0.6), judge_effect(0.99)
    ('reproduced', 'not distinguishable from chance', 'contradicted')
    """
    return REPRODUCED if p_value < ALPHA else CONTRADICTED if p_value > 1 - ALPHA else CHANCE


def day(stamp: pd.Timestamp) -> str:
    """ISO day."""
    return pd.Timestamp(stamp).strftime("%Y-%m-%d")


def twice(measure: Callable[[pd.DataFrame], Finding], view: View) -> Finding:
    """`measure` on the data up to `as_of`, with its measured figure on all data as `measured_since`."""
    found = measure(view.past)
    if not len(view.later):
        return found
    try:
        now = measure(view.panel)
    except NotMeasurable as reason:
        since = f"cannot be measured on all data: {reason}"
    else:
        since = f"{now.measured} (to {day(view.panel.index[-1])})"
    return Finding(found.measured, found.verdict, found.reason, found.p_value, since, found.followed)
