"""What followed each capitulation, beside what followed any day: the tables of the event study.

Every figure of the events stands beside its unconditional twin, the number of events and of clusters, an interval and
p-values that respect overlap. Means, medians and extremes are simple returns; the excess, its interval and all tests
are on log returns.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from capitulation.contract import TABLES, check
from capitulation.episodes import clusters
from capitulation.params import ANCHORS, Params
from capitulation.study.bootstrap import count_clusters, mean_excess_intervals
from capitulation.study.forward_returns import excursions, forward_log_returns
from capitulation.study.matched import matched_test
from capitulation.study.multiple import holm, min_detectable_log
from capitulation.study.regression import ols_hac_hansen_hodrick
from capitulation.study.rotation import rotation_test
from capitulation.study.sample import Sample, study_sample, study_samples

EventDays = Mapping[tuple[str, str], pd.DatetimeIndex]

EXTRA_COLUMNS = (
    "p_rotation_own_era",
    "p_rotation_two_sided",
    "p_rotation_era",
    "p_rotation_demeaned",
    "p_hac",
    "p_hansen_hodrick",
    "t_ols",
    "t_hac",
    "t_hansen_hodrick",
)
EVENT_ANCHORS = {"start": "start", "recovery": "end", "buy": "buy_date"}
"""Column of the episodes table that holds the day of each anchor."""
SUMMARY = ("mean", "median", "hit_rate", "worst", "best")


def _columns(name: str) -> list[str]:
    return [column.name for column in TABLES[name].columns]


def summary(log_returns: np.ndarray) -> dict[str, float]:
    """Mean, median, hit rate (share above zero), worst and best of the simple returns; NaN without any.

    >>> summary(np.log([1.5, 0.5]))["hit_rate"]
    0.5
    """
    if not len(log_returns):
        return dict.fromkeys(SUMMARY, np.nan)
    simple = np.expm1(log_returns)
    values = (simple.mean(), np.median(simple), (simple > 0).mean(), simple.min(), simple.max())
    return dict(zip(SUMMARY, map(float, values), strict=True))


def _base(returns: np.ndarray) -> dict[str, float]:
    every = summary(returns)
    return {f"base_{name}": every[name] for name in ("mean", "median", "hit_rate")}


def _tests(sample: Sample, marks: np.ndarray, params: Params) -> dict[str, float]:
    """p- and t-values of one rule, anchor and horizon; NaN without any event."""
    r, seed = sample.returns.to_numpy(), [params.seed, sample.horizon_days]
    plain = rotation_test(r, marks)
    regression = ols_hac_hansen_hodrick(r, marks, sample.horizon_days)
    return {
        "p_rotation": plain.p_one_sided,
        "p_matched": matched_test(r, marks, sample.levels, params.n_matched, seed).p,
        "p_rotation_own_era": rotation_test(sample.own_era_excess, marks).p_one_sided,
        "p_rotation_two_sided": plain.p_two_sided,
        "p_rotation_era": rotation_test(r, marks, strata=sample.era, seed=params.seed).p_one_sided,
        "p_rotation_demeaned": rotation_test(r, marks, demean_by=sample.era).p_one_sided,
        "p_hac": regression["p_hac"],
        "p_hansen_hodrick": regression["p_hh"],
        "t_ols": regression["t_ols"],
        "t_hac": regression["t_hac"],
        "t_hansen_hodrick": regression["t_hh"],
    }


def _row(sample: Sample, marks: np.ndarray, params: Params) -> dict[str, float]:
    """Everything of one rule, anchor and horizon but the interval and Holm's adjustment."""
    r = sample.returns.to_numpy()
    n_clusters = int(count_clusters(marks, sample.horizon_days)[0])
    described = {
        "horizon_days": sample.horizon_days,
        "n_events": int(marks.sum()),
        "n_clusters": n_clusters,
        **summary(r[marks]),
        **_base(r),
        "excess_log": float(r[marks].mean() - r.mean()) if marks.any() else np.nan,
        "min_detectable_log": min_detectable_log(float(r.std()), n_clusters) if len(r) else np.nan,
    }
    if not marks.any():
        return described
    return {**described, **_tests(sample, marks, params)}


def _horizon_rows(sample: Sample, events: EventDays, params: Params) -> pd.DataFrame:
    """Rows of every rule and anchor at one horizon; all share the bootstrap's resamples."""
    marks = np.array([sample.marks(days) for days in events.values()]).reshape(len(events), len(sample.days))
    found: dict[bytes, dict[str, float]] = {}  # two rules may name the same days
    for mark in marks:
        if mark.tobytes() not in found:
            found[mark.tobytes()] = _row(sample, mark, params)
    rows = pd.DataFrame([found[mark.tobytes()] for mark in marks])
    rows.insert(0, "definition", [name for name, _ in events])
    rows.insert(1, "anchor", [anchor for _, anchor in events])
    rows[["ci_low", "ci_high"]] = np.nan
    if marks.any():
        seed = [params.seed, sample.horizon_days]
        r = sample.returns.to_numpy()
        rows[["ci_low", "ci_high"]] = mean_excess_intervals(
            r, marks, sample.horizon_days, params.n_bootstrap, params.confidence, seed
        )
    return rows


def forward_return_table(panel: pd.DataFrame, events: EventDays, params: Params) -> pd.DataFrame:
    """The contract's forward_returns.csv: one row per (definition, anchor) of `events` and horizon.

    Parameters
    ----------
    panel : daily panel (`price_usd`, and `height` for the halving eras).
    events : event days of each (definition, anchor); an event counts where its day is on or after
        `params.sample_start` and its outcome is known.
    params : horizons, entry lag, sample start, resamples, confidence and seed.

    Returns
    -------
    DataFrame, the contract's columns and then `EXTRA_COLUMNS`; order of `events`, then of horizons. Baseline: every day
    of the sample. p-values are one-sided (returns after events are higher) unless named two_sided; p_holm adjusts
    p_rotation over the horizons of each (definition, anchor). t- and p-values of the regressions teach why they
    mislead: see `regression`. A row without events has n_events 0 and NaN; an interval needs two clusters.
    """
    columns = [*_columns("forward_returns"), *EXTRA_COLUMNS]
    if not events:
        return pd.DataFrame(columns=columns)
    samples = study_samples(panel, params)
    blocks = [_horizon_rows(sample, events, params) for sample in samples.values()]
    # Rows come horizon by horizon; the reader wants them rule by rule.
    table = pd.concat(blocks).reindex(columns=columns).sort_index(kind="stable").reset_index(drop=True)
    table["p_holm"] = table.groupby(["definition", "anchor"], sort=False)["p_rotation"].transform(holm)
    return check("forward_returns", table)


def event_return_table(panel: pd.DataFrame, episodes: pd.DataFrame, params: Params) -> pd.DataFrame:
    """The contract's event_returns.csv: one row per episode, anchor (start, recovery, buy) and horizon.

    `episodes` is the contract's episodes table (columns definition, episode, start, end, buy_date), the whole history.
    `simple_return` is missing while the outcome is not known, the excursions unless the whole way is known; an anchor
    that has not happened yet has no row.
    """
    anchors = [
        episodes[["definition", "episode"]].assign(anchor=anchor, anchor_date=episodes[column])
        for anchor, column in EVENT_ANCHORS.items()
    ]
    events = pd.concat(anchors).dropna(subset=["anchor_date"])
    tables = [_one_horizon(panel["price_usd"], events, h, params.entry_lag_days) for h in params.horizons_days]
    table = pd.concat(tables).sort_index(kind="stable")
    table["rank"] = table["anchor"].map(ANCHORS.index)
    order = table["definition"].map({name: i for i, name in enumerate(episodes["definition"].unique())})
    table = table.assign(order=order).sort_values(["order", "episode", "rank", "horizon_days"], kind="stable")
    return check("event_returns", table[_columns("event_returns")].reset_index(drop=True))


def _one_horizon(price: pd.Series, events: pd.DataFrame, horizon: int, lag: int) -> pd.DataFrame:
    """Return and excursions of each event at one horizon."""
    days = pd.DatetimeIndex(events["anchor_date"])
    returns = np.expm1(forward_log_returns(price, horizon, lag).reindex(days)).to_numpy()
    way = excursions(price, days, horizon, lag)
    return events.assign(
        horizon_days=horizon,
        simple_return=returns,
        max_adverse=way["max_adverse"].to_numpy(),
        max_favourable=way["max_favourable"].to_numpy(),
    )


EXCURSION_COLUMNS = (
    *("anchor", "horizon_days", "n_events", "n_clusters", "median_adverse", "worst_adverse", "median_favourable"),
    *("base_median_adverse", "base_median_favourable"),
)


def excursion_table(price: pd.Series, event_returns: pd.DataFrame, params: Params) -> pd.DataFrame:
    """How far the price fell and rose on the way, columns `EXCURSION_COLUMNS`, one row per anchor and horizon.

    `event_returns`: rows of the contract's table for one definition; events since `params.sample_start` with a known
    outcome count. The base columns are the medians over every day of the sample whose outcome is known.
    """
    since = event_returns["anchor_date"] >= pd.Timestamp(params.sample_start)
    groups = event_returns[since & event_returns["simple_return"].notna()].groupby(
        ["anchor", "horizon_days"], sort=False
    )
    base = {horizon: _base_excursions(price, horizon, params) for horizon in params.horizons_days}
    rows = [
        (*key, len(rows), len(np.unique(clusters(rows["anchor_date"], key[1]))), *_excursions(rows), *base[key[1]])
        for key, rows in groups
    ]
    return pd.DataFrame(rows, columns=list(EXCURSION_COLUMNS))


def _excursions(rows: pd.DataFrame) -> tuple[float, float, float]:
    """Median and worst adverse, median favourable excursion."""
    return rows["max_adverse"].median(), rows["max_adverse"].min(), rows["max_favourable"].median()


def _base_excursions(price: pd.Series, horizon: int, params: Params) -> tuple[float, float]:
    """Median adverse and favourable excursion over every day of the sample."""
    every = price.loc[params.sample_start :].iloc[: -(horizon + params.entry_lag_days)].index
    return tuple(excursions(price, every, horizon, params.entry_lag_days).median())


def leave_one_out(panel: pd.DataFrame, days: pd.DatetimeIndex, horizon_days: int, params: Params) -> pd.DataFrame:
    """The result without each cluster in turn: does it hang on one episode?

    `days` are event days of one rule and anchor; events closer than the horizon are left out together. The first row
    leaves nothing out (`left_out` missing), then one per cluster in order of time. Columns: left_out (first day of the
    cluster), n_events, mean, median, hit_rate (simple returns of those that remain), excess_log, p_rotation. Every
    day's mean stays the baseline.
    """
    sample = study_sample(panel, horizon_days, params)
    marks, r = sample.marks(days), sample.returns.to_numpy()
    at = np.flatnonzero(marks)
    groups = np.split(at, np.flatnonzero(np.diff(at) >= horizon_days) + 1) if len(at) else []
    rows = [_without(r, marks, np.empty(0, dtype=int)), *(_without(r, marks, group) for group in groups)]
    table = pd.DataFrame(rows)
    left = [pd.NaT, *(sample.days[group[0]] for group in groups)]
    table.insert(0, "left_out", pd.DatetimeIndex(left))
    return table


def _without(r: np.ndarray, marks: np.ndarray, group: np.ndarray) -> dict[str, float]:
    """Summary and rotation p of the events that remain without the rows `group`."""
    kept = marks.copy()
    kept[group] = False
    facts = summary(r[kept])
    test = rotation_test(r, kept) if len(r) else None
    return {
        "n_events": int(kept.sum()),
        **{name: facts[name] for name in ("mean", "median", "hit_rate")},
        "excess_log": test.statistic if test else np.nan,
        "p_rotation": test.p_one_sided if test else np.nan,
    }


def by_era(panel: pd.DataFrame, days: pd.DatetimeIndex, horizon_days: int, params: Params) -> pd.DataFrame:
    """The result within each halving era, beside every day of that era.

    One row per era of the sample, ordered. Columns: era (year of the halving that opened it), n_days, n_events,
    n_clusters, mean, median, hit_rate, base_mean, base_median, base_hit_rate (simple returns), excess_log (against the
    era's own days) and p_rotation (rotation within the era). NaN where an era holds no event.
    """
    sample = study_sample(panel, horizon_days, params)
    marks, r = sample.marks(days), sample.returns.to_numpy()
    rows = []
    for era in np.unique(sample.era):
        own = sample.era == era
        test = rotation_test(r[own], marks[own])
        facts = summary(r[own & marks])
        rows.append(
            {
                "era": int(era),
                "n_days": int(own.sum()),
                "n_events": test.n_events,
                "n_clusters": int(count_clusters(marks[own], horizon_days)[0]),
                **{name: facts[name] for name in ("mean", "median", "hit_rate")},
                **_base(r[own]),
                "excess_log": test.statistic,
                "p_rotation": test.p_one_sided,
            }
        )
    return pd.DataFrame(rows)
