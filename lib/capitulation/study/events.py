"""What followed a set of events, beside what followed any day: one row per horizon, per cluster left out, per era."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from capitulation.mining.difficulty import era_of
from capitulation.mining.episodes import ALL_AND_EACH, ANCHOR_COLUMNS, clusters, n_clusters, n_effective, of_grade
from capitulation.study.chance import excess_of, max_rotation_test, rotation_p, rotation_test
from capitulation.study.returns import SINCE, describe, event_marks, outcomes, own_era_excess

HORIZONS = (7, 30, 60, 90, 180, 365)
BY_GRADE_COLUMNS = ["grade", "anchor", "horizon_days", "n_events", "n_clusters", "mean", "median", "hit_rate"]
BY_GRADE_COLUMNS += ["base_median", "base_hit_rate", "excess_log", "ci_low", "ci_high", "p"]
Samples = list[tuple[int, pd.Series, pd.Series]]  # horizon, log returns and own-era excess of its days
Events = Mapping[tuple[str, str], Any]  # event days (or a boolean daily Series) of each (definition, anchor)


def distinct(marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of `marks`, and which of them each row is: two rules may name the same days."""
    which, _ = pd.factorize(np.array([rule.tobytes() for rule in marks], dtype=object))
    return marks[np.unique(which, return_index=True)[1]], which


def all_beside_any_day(returns: pd.Series, marks: np.ndarray, days: int) -> pd.DataFrame:
    """Many rules beside all days of one sample: a row per row of `marks`, boolean (rules, days of `returns`).

    Columns: n_events, n_clusters; mean_log, base_log (mean log return of the events, of every day), excess_log (their
    difference), p_rotation (higher; each rule alone), p_rotation_two_sided.
    """
    rule, row = np.nonzero(marks)
    day = returns.index.to_numpy("datetime64[D]").astype("int64")[row]
    fresh = (np.diff(day, prepend=-days) >= days) | (np.diff(rule, prepend=-1) > 0)
    excess, (p, two_sided) = excess_of(returns, marks), rotation_p(returns, marks)
    facts = {"n_events": marks.sum(axis=1), "n_clusters": np.bincount(rule[fresh], minlength=len(marks))}
    facts |= {"mean_log": excess + returns.mean(), "base_log": returns.mean(), "excess_log": excess}
    return pd.DataFrame({**facts, "p_rotation": p, "p_rotation_two_sided": two_sided})


def family_beside_any_day(returns: pd.Series, marks: np.ndarray) -> pd.DataFrame:
    """Many rules, each alone and as one of the family: a row per row of `marks`, boolean (rules, days of `returns`).

    Columns: n_events, excess_log (mean log return of the events minus that of every day), z, p_rotation, p_family
    (`chance.max_rotation_test`); NaN without events.
    """
    if returns.empty:  # nothing is known: as one day without an event
        returns, marks = pd.Series([0.0]), np.zeros((len(marks), 1), dtype=bool)
    test, facts = max_rotation_test(returns, marks), {"n_events": marks.sum(axis=1)}
    facts |= {"excess_log": excess_of(returns, marks), "z": test.z}
    return pd.DataFrame({**facts, "p_rotation": test.p_single, "p_family": test.p_family})


def beside_any_day(returns: pd.Series, events: Any, days: int) -> dict[str, float]:
    """The events of one sample beside all its days: `returns` are the known log returns over `days` days.

    Keys: n_events, n_clusters; mean, median, hit_rate of the simple returns, with `base_` those of every day;
    excess_log (mean log return minus that of every day) and its one-sided p_rotation.
    """
    marks, shown = event_marks(returns.index, events), ("mean", "median", "hit_rate")
    test, own, every = rotation_test(returns.to_numpy(), marks), describe(returns[marks]), describe(returns)
    row = {"n_events": test.n, "n_clusters": n_clusters(returns.index[marks], days)}
    row |= {name: own[name] for name in shown} | {f"base_{name}": every[name] for name in shown}
    return row | {"excess_log": test.excess, "p_rotation": test.p}


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
    true day is one event); NaT, days before `since` and days whose outcome is not known are left out. One row per
    horizon (days held from the close `lag` days after the event):

    - days, n (events whose outcome is known), clusters (those closer than the horizon count once);
    - mean, median, hit_rate of the simple returns after events; base_mean, base_median, base_hit_rate after any day;
    - excess (log return against the mean day of the event's own halving era, `returns.own_era_excess` without run-up
      and outcome), ci_low, ci_high (coverage `confidence`), p, p_two_sided: one statistic, `chance.rotation_test`;
    - excess_plain, p_plain: the mean log return after the events minus that of every day, and its rotation p;
    - n_excess: events that `excess` rests on; fewer than n where an era is too young to be its own yardstick;
    - n_effective: how many events without overlap tell as much (`episodes.n_effective`).

    >>> days = pd.date_range("2014-01-01", periods=900, name="date")
    >>> rising = pd.DataFrame({"price_usd": pd.Series(1.01, days).cumprod(), "height": 280_000.0})
    >>> event_study(rising, ["2014-06-01", None], horizons=[7])[["n", "median", "base_median"]].round(3).values.tolist()
    [[1.0, 0.072, 0.072]]
    """
    return _study(_samples(panel, horizons, lag, since), panel.index[event_marks(panel.index, events)], confidence)


def _samples(panel: pd.DataFrame, horizons: Iterable[int], lag: int, since: str) -> Samples:
    """What events are held against: the days of known outcome, made once for any number of sets of events."""
    price, era = panel["price_usd"], era_of(panel.index, panel)
    return [
        (days, outcomes(price, days, lag, since), own_era_excess(price, era, days, lag, since)) for days in horizons
    ]


def _study(samples: Samples, when: pd.DatetimeIndex, confidence: float) -> pd.DataFrame:
    """`event_study` of some days."""
    rows = []
    for days, returns, own in samples:
        plain, test = beside_any_day(returns, when, days), rotation_test(own, when, confidence=confidence)
        deciding = {"excess": test.excess, "ci_low": test.interval[0], "ci_high": test.interval[1], "p": test.p}
        deciding |= {"p_two_sided": test.p_two_sided, "n_excess": test.n}
        overlap = n_effective(returns.index[event_marks(returns.index, when)], days)
        rows.append({"days": days, **plain, **deciding, "n_effective": overlap})
    names = {"n_events": "n", "n_clusters": "clusters", "excess_log": "excess_plain", "p_rotation": "p_plain"}
    table, last = pd.DataFrame(rows).rename(columns=names), ["excess_plain", "p_plain", "n_excess", "n_effective"]
    return table[[*table.columns.drop(last), *last]]


def by_grade(
    panel: pd.DataFrame,
    episodes: pd.DataFrame,
    horizons: Iterable[int] = HORIZONS,
    lag: int = 1,
    since: str = SINCE,
    *,
    confidence: float = 0.95,
    anchors: Mapping[str, str] = ANCHOR_COLUMNS,
) -> pd.DataFrame:
    """What followed the episodes of each grade: is noise averaged with the real thing? (forward_returns_by_grade.csv)

    `episodes`: one rule's, with grade and the columns of days that `anchors` names (as by `mining.episodes.episodes`).
    At a recovery or a buy the grade is known, at a start it is not. One row per anchor, grade (all of them first) and
    horizon; other arguments as `event_study`. Columns: grade, anchor, horizon_days, n_events, n_clusters; mean, median,
    hit_rate, base_median, base_hit_rate of simple returns; excess_log, ci_low, ci_high, p, p_two_sided (own era, the
    deciding statistic), with p_family and p_family_two_sided, which count all rows of the table
    (`chance.max_rotation_test` of the own-era excess); p_plain (beside any day); n_effective.

    >>> graded = [("real", "2014-02-01", "2014-03-01"), ("noise-like", "2016-02-01", "2016-02-20")]
    >>> ended = pd.DataFrame(graded, columns=["grade", "start", "end"])
    >>> by_grade(panel, ended, horizons=[90], anchors={"recovery": "end"})["n_events"].tolist()
    [2, 1, 0, 1]
    """
    split = {
        (grade, anchor): of_grade(episodes, grade)[column].dropna()
        for anchor, column in anchors.items()
        for grade in ALL_AND_EACH
    }
    samples, sample = _samples(panel, horizons, lag, since), panel.loc[since or None :].index
    study = {key: _study(samples, when, confidence) for key, when in split.items()}
    table = pd.concat(study, names=["grade", "anchor"]).reset_index(["grade", "anchor"])
    excess = [own.reindex(sample) for _, _, own in samples]
    marks = np.array([event_marks(sample, when) for when in split.values()])
    for name, two_sided in (("p_family", False), ("p_family_two_sided", True)):
        table[name] = max_rotation_test(np.column_stack(excess), marks, two_sided).p_family.ravel()
    names = {"days": "horizon_days", "n": "n_events", "clusters": "n_clusters", "excess": "excess_log"}
    last = ["p_family", "p_plain", "p_two_sided", "p_family_two_sided", "n_effective"]
    return table.rename(columns=names)[[*BY_GRADE_COLUMNS, *last]].reset_index(drop=True)


def leave_one_out(
    panel: pd.DataFrame,
    events: Any,
    days: int = 90,
    lag: int = 1,
    since: str = SINCE,
    *,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """The result without each cluster in turn: does it hang on one episode?

    Arguments as `event_study`. Columns: left_out (first day of the cluster, missing in the first row, which leaves
    nothing out), then as `event_study`, whose every day stays the same.

    >>> leave_one_out(panel, ["2015-01-01", "2016-01-01"])["n"].tolist()
    [2, 1, 1]
    """
    samples, rows = _samples(panel, [days], lag, since), []
    known = samples[0][1].index
    when = known[event_marks(known, events)]
    cluster = clusters(when, days)
    for number in range(-1, cluster.max(initial=-1) + 1):
        out = when[cluster == number]
        kept = _study(samples, when.difference(out), confidence)
        rows.append(kept.assign(left_out=out.min()))
    table = pd.concat(rows, ignore_index=True).astype({"left_out": panel.index.dtype})
    return table[["left_out", *table.columns.drop("left_out")]]


def by_era(panel: pd.DataFrame, events: Any, days: int = 90, lag: int = 1, since: str = SINCE) -> pd.DataFrame:
    """The result within each halving era, beside every day of that era (table returns_by_era.csv).

    Arguments as `event_study`. Columns: era (year of the halving that opened it), n_days, then as `beside_any_day`.

    >>> int(by_era(panel, ["2015-01-01", "2017-01-01"])["n_events"].sum())
    2
    """
    returns = outcomes(panel, days, lag, since)
    eras = returns.groupby(era_of(returns.index, panel).to_numpy())
    rows = [{"era": era, "n_days": len(own), **beside_any_day(own, events, days)} for era, own in eras]
    return pd.DataFrame(rows, columns=["era", "n_days", *beside_any_day(returns, [], days)])
