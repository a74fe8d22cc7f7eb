"""The specification curve: every way to ask the question, sorted by its answer (Simonsohn, Simmons and Nelson 2020).

One rule, anchor, horizon, sample start and lag make one specification. The curve shows how far the answer depends on
choices that a reader could have made otherwise. Its many points rest on the same few episodes, so their number proves
nothing: whether the whole curve lies higher than chance is asked by rotating all rules together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from capitulation.params import Params
from capitulation.study.bootstrap import count_clusters
from capitulation.study.forward_returns import forward_log_returns
from capitulation.study.rotation import TIE_TOLERANCE, rotation_sums

EventDays = Mapping[tuple[str, str], pd.DatetimeIndex]

SAMPLE_STARTS = ("2011-01-01", "2014-01-01", "2017-01-01", "2020-01-01")
LAGS_DAYS = (0, 1, 3, 7)
CURVE_COLUMNS = (
    "definition",
    "anchor",
    "horizon_days",
    "sample_start",
    "lag_days",
    "n_events",
    "n_clusters",
    "mean_log",
    "base_log",
    "excess_log",
    "p_rotation",
)


@dataclass(frozen=True)
class CurveTest:
    """The curve against common rotations of all rules, at one sample start.

    n_specifications; share_above: of specifications with an excess above zero; median_excess: their median excess, in
    standard deviations over rotations; p_share, p_median: share of rotations with as high a figure, the observed one
    included.
    """

    n_specifications: int
    share_above: float
    median_z: float
    p_share: float
    p_median: float


def _returns(panel: pd.DataFrame, horizon: int, lag: int, start: str) -> pd.Series:
    return forward_log_returns(panel["price_usd"], horizon, lag).loc[pd.Timestamp(start) :]


def _marks(index: pd.Index, events: EventDays) -> np.ndarray:
    """Event marks of every rule and anchor, shape (rules, days)."""
    return np.array([index.isin(days) for days in events.values()])


def _p_rotation(r: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """One-sided p of each rule alone, as `rotation_test`, for all rules in one pair of transforms."""
    sums = rotation_sums(r - r.mean(), marks)
    ties = TIE_TOLERANCE * np.abs(r - r.mean()).max() * marks.sum(axis=1)
    return (sums >= (sums[:, 0] - ties)[:, None]).mean(axis=1)


def _block(
    returns: pd.Series, marks: np.ndarray, events: EventDays, horizon: int, lag: int, start: str
) -> pd.DataFrame:
    """All rules and anchors at one horizon, lag and sample start; those without events are left out.

    `returns`, `marks`: of the same days, all of them known.
    """
    r = returns.to_numpy()
    count = marks.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = marks.astype(float) @ r / count
    columns = {
        "definition": [name for name, _ in events],
        "anchor": [anchor for _, anchor in events],
        "horizon_days": horizon,
        "sample_start": start,
        "lag_days": lag,
        "n_events": count,
        "n_clusters": count_clusters(marks, horizon),
        "mean_log": mean,
        "base_log": r.mean(),
        "excess_log": mean - r.mean(),
        "p_rotation": _p_rotation(r, marks),
    }
    return pd.DataFrame(columns)[count > 0]


def _choices(params: Params, starts: Iterable[str], lags: Iterable[int]) -> Iterator[tuple[int, int, str]]:
    for start in sorted({*starts, params.sample_start}):
        for lag in sorted({*lags, params.entry_lag_days}):
            for horizon in params.horizons_days:
                yield horizon, lag, start


def specification_curve(
    panel: pd.DataFrame,
    events: EventDays,
    params: Params,
    sample_starts: Iterable[str] = SAMPLE_STARTS,
    lags: Iterable[int] = LAGS_DAYS,
) -> pd.DataFrame:
    """Every rule x anchor x horizon x sample start x lag, sorted by excess.

    Parameters
    ----------
    panel : daily panel; used: price_usd.
    events : event days of each (definition, anchor).
    sample_starts, lags : besides those of `params`, which always take part.

    Returns
    -------
    DataFrame, columns CURVE_COLUMNS and `rank` (1 = lowest excess), one row per specification with at least one event
    whose outcome is known. mean_log, base_log, excess_log: log returns; p_rotation: one-sided, exact, each alone.
    """
    blocks, marks = [], _marks(panel.index, events)
    for horizon, lag, start in _choices(params, sample_starts, lags):
        returns = _returns(panel, horizon, lag, start).dropna()
        if len(returns):
            own = marks[:, panel.index.get_indexer(returns.index)]
            blocks.append(_block(returns, own, events, horizon, lag, start))
    if not blocks:
        return pd.DataFrame(columns=[*CURVE_COLUMNS, "rank"])
    table = pd.concat(blocks).sort_values("excess_log", kind="stable").reset_index(drop=True)
    return table.assign(rank=np.arange(1, len(table) + 1))


def repeated(curve: pd.DataFrame) -> int:
    """Specifications of `specification_curve` that only repeat another under a second rule's name: the same days.

    >>> rows = {"anchor": "start", "horizon_days": 30, "sample_start": "2014-01-01", "lag_days": 1, "n_events": 3}
    >>> repeated(pd.DataFrame([{**rows, "definition": name, "excess_log": 0.1} for name in ("a", "b")]))
    1
    """
    return int(curve.duplicated([*CURVE_COLUMNS[1:6], "excess_log"]).sum())


def curve_summary(curve: pd.DataFrame, by: str | None = None) -> pd.DataFrame:
    """Specifications, share above baseline, median excess and share with p_rotation below 5 %, overall or per `by`.

    Columns: n_specifications, share_above, median_excess_log, share_p_below_5; index the values of `by`, or "all".
    """
    groups = curve.groupby(curve[by] if by else pd.Series("all", index=curve.index), sort=False)
    return pd.DataFrame(
        {
            "n_specifications": groups.size(),
            "share_above": groups["excess_log"].agg(lambda x: float((x > 0).mean())),
            "median_excess_log": groups["excess_log"].median(),
            "share_p_below_5": groups["p_rotation"].agg(lambda p: float((p < 0.05).mean())),
        }
    )


def _rotated_z(returns: pd.Series, marks: np.ndarray) -> np.ndarray:
    """Standardised excess of every rule (rows) in every rotation (columns); days of unknown outcome weigh nothing."""
    r = returns.to_numpy()
    centred = np.where(np.isnan(r), 0.0, r - np.nanmean(r))
    sums = rotation_sums(centred, marks)
    spread = np.sqrt((sums**2).mean(axis=1, keepdims=True))
    live = (spread > TIE_TOLERANCE * np.abs(centred).sum()).ravel()
    return sums[live] / spread[live]


def curve_test(panel: pd.DataFrame, events: EventDays, params: Params, lags: Iterable[int] = LAGS_DAYS) -> CurveTest:
    """Is the curve as a whole higher than if all rules were moved by the same number of days?

    All rules, anchors, horizons and lags at `params.sample_start`; every day since then rotates, whether its outcome
    is known or not, so that all specifications move together. NaN where no event has a known outcome.
    """
    index = panel.loc[params.sample_start :].index
    marks = _marks(index, events).astype(float)
    blocks = []
    for horizon, lag, _ in _choices(params, [params.sample_start], lags):
        returns = _returns(panel, horizon, lag, params.sample_start)
        if returns.notna().any():
            blocks.append(_rotated_z(returns, marks))
    z = np.concatenate(blocks) if blocks else np.empty((0, 0))
    if not len(z):
        return CurveTest(0, np.nan, np.nan, np.nan, np.nan)
    share, middle = (z > 0).mean(axis=0), np.median(z, axis=0)
    ties = middle[0] - TIE_TOLERANCE
    return CurveTest(
        len(z), float(share[0]), float(middle[0]), float((share >= share[0]).mean()), float((middle >= ties).mean())
    )
