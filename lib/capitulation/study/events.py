"""What followed a set of events, beside what followed any day: one row per horizon, per cluster left out, per era."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from capitulation.mining.difficulty import era_of
from capitulation.mining.episodes import clusters, n_clusters
from capitulation.study.chance import rotation_test
from capitulation.study.returns import SINCE, describe, event_marks, excursions, outcomes, own_era_excess

HORIZONS = (7, 30, 60, 90, 180, 365)
EXCURSION_COLUMNS = (
    *("anchor", "horizon_days", "n_events", "n_clusters", "median_adverse", "worst_adverse", "median_favourable"),
    *("base_median_adverse", "base_median_favourable"),
)


def beside_any_day(returns: pd.Series, events: Any, days: int) -> dict[str, float]:
    """The events of one sample beside all its days: `returns` are the known log returns over `days` days.

    Keys: n_events, n_clusters; mean, median, hit_rate of the simple returns, and the same with `base_` before over
    every day; excess_log (mean log return minus that of every day) and its one-sided p_rotation.
    """
    marks, shown = event_marks(returns.index, events), ("mean", "median", "hit_rate")
    test, own, every = rotation_test(returns, marks), describe(returns[marks]), describe(returns)
    return {
        "n_events": test.n,
        "n_clusters": n_clusters(returns.index[marks], days),
        **{name: own[name] for name in shown},
        **{f"base_{name}": every[name] for name in shown},
        "excess_log": test.excess,
        "p_rotation": test.p,
    }


def event_study(
    panel: pd.DataFrame,
    events: Any,
    horizons: Iterable[int] = HORIZONS,
    lag: int = 1,
    since: str = SINCE,
    *,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """What BTC did after the events and after any day of the same years, and whether the difference could be chance.

    `panel`: daily (`price_usd`, and `height` for the halving eras). `events`: days, or a boolean daily Series (each
    true day is one event); NaT, days before `since` and days whose outcome is not known are left out. `horizons`:
    holding periods in days, counted from the close `lag` days after the event. One row per horizon:

    - days, n (events whose outcome is known), clusters (those closer than the horizon count once);
    - mean, median, hit_rate of the simple returns after events; base_mean, base_median, base_hit_rate after any day;
    - excess (log return against the mean day of the event's own halving era, as `returns.own_era_excess` without
      run-up and outcome, minus the same of every day), ci_low, ci_high (coverage `confidence`), p and p_two_sided: one
      statistic, its exact rotation test and the interval that inverts this test (`chance.rotation_test`);
    - excess_plain, p_plain: the mean log return after the events minus that of every day, and its rotation p;
    - n_excess: events that `excess` rests on; fewer than n where an era is too young to be its own yardstick.

    >>> days = pd.date_range("2014-01-01", periods=900, name="date")
    >>> rising = pd.DataFrame({"price_usd": pd.Series(1.01, days).cumprod(), "height": 280_000.0})
    >>> event_study(rising, ["2014-06-01", None], horizons=[7])[["n", "median", "base_median"]].round(3).values.tolist()
    [[1.0, 0.072, 0.072]]
    """
    when, era, rows = panel.index[event_marks(panel.index, events)], era_of(panel.index, panel), []
    for days in horizons:
        plain = beside_any_day(outcomes(panel, days, lag, since), when, days)
        own = own_era_excess(panel["price_usd"], era, days, lag, since, leave_out_outcome=True)
        test = rotation_test(own, when, confidence=confidence)
        deciding = {"excess": test.excess, "ci_low": test.interval[0], "ci_high": test.interval[1], "p": test.p}
        rows.append({"days": days, **plain, **deciding, "p_two_sided": test.p_two_sided, "n_excess": test.n})
    names = {"n_events": "n", "n_clusters": "clusters", "excess_log": "excess_plain", "p_rotation": "p_plain"}
    table, last = pd.DataFrame(rows).rename(columns=names), ["excess_plain", "p_plain", "n_excess"]
    return table[[*table.columns.drop(last), *last]]


def leave_one_out(panel: pd.DataFrame, events: Any, days: int = 90, lag: int = 1, since: str = SINCE) -> pd.DataFrame:
    """The result without each cluster in turn: does it hang on one episode?

    Arguments as `event_study`, one horizon. The first row leaves nothing out (`left_out` missing), then one per cluster
    in order of time. Columns: left_out (first day of the cluster), then as `beside_any_day`, its every day unchanged.

    >>> leave_one_out(panel, ["2015-01-01", "2016-01-01"])["n_events"].tolist()
    [2, 1, 1]
    """
    returns = outcomes(panel, days, lag, since)
    when = returns.index[event_marks(returns.index, events)]
    cluster, rows = clusters(when, days), []
    for number in range(-1, cluster.max(initial=-1) + 1):
        out = when[cluster == number]
        kept = beside_any_day(returns, when.difference(out), days)
        rows.append({"left_out": out.min(), **kept})
    names = ["left_out", "n_events", "mean", "median", "hit_rate", "excess_log", "p_rotation"]
    return pd.DataFrame(rows)[names].astype({"left_out": panel.index.dtype})


def by_era(panel: pd.DataFrame, events: Any, days: int = 90, lag: int = 1, since: str = SINCE) -> pd.DataFrame:
    """The result within each halving era, beside every day of that era (table returns_by_era.csv).

    Arguments as `event_study`, one horizon. One row per era of the sample, ordered: era (year of the halving that
    opened it), n_days, then as `beside_any_day` against the era's own days. NaN where an era holds no event.

    >>> int(by_era(panel, ["2015-01-01", "2017-01-01"])["n_events"].sum())
    2
    """
    returns = outcomes(panel, days, lag, since)
    eras = returns.groupby(era_of(returns.index, panel).to_numpy())
    rows = [{"era": era, "n_days": len(own), **beside_any_day(own, events, days)} for era, own in eras]
    return pd.DataFrame(rows, columns=["era", "n_days", *beside_any_day(returns, [], days)])


def excursion_table(
    panel: pd.DataFrame, events: Mapping[str, Any], horizons: Iterable[int] = HORIZONS, lag: int = 1, since: str = SINCE
) -> pd.DataFrame:
    """How far the price fell and rose on the way, by anchor and horizon, beside any day of the sample.

    `events`: days of each anchor of one rule; those whose outcome is known count, anchors without any have no row.
    Columns EXCURSION_COLUMNS, simple returns from the entry as `returns.excursions`; base: every day of the sample.
    """
    samples = {days: outcomes(panel, days, lag, since).index for days in horizons}
    every = {days: excursions(panel["price_usd"], sample, days, lag) for days, sample in samples.items()}
    rows = []
    for anchor, when in events.items():
        for days, sample in samples.items():
            own = every[days][event_marks(sample, when)]
            extremes = (own["max_adverse"].median(), own["max_adverse"].min(), own["max_favourable"].median())
            if len(own):
                rows.append((anchor, days, len(own), n_clusters(own.index, days), *extremes, *every[days].median()))
    return pd.DataFrame(rows, columns=list(EXCURSION_COLUMNS))
