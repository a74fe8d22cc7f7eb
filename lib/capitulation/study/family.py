"""The best of many rules: what is left of it once all the others that were tried count too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from capitulation.errors import DataError
from capitulation.params import Params
from capitulation.study.backtest import executed_rows, hold_position
from capitulation.study.forward_returns import forward_log_returns
from capitulation.study.rotation import max_rotation_test

EventDays = Mapping[tuple[str, str], pd.DatetimeIndex]

SPA_RESAMPLES = 1_000
DAYS_PER_STEP = 7


@dataclass(frozen=True)
class SuperiorRules:
    """Outcome of Hansen's SPA and Romano and Wolf's StepM over the rules (through `arch`).

    p_lower, p_consistent, p_upper : SPA p-values that no rule is better than its benchmark.
    superior : names of the rules that StepM calls better, at family-wise level `size`.
    rules : names of all that took part.
    """

    p_lower: float
    p_consistent: float
    p_upper: float
    superior: tuple[str, ...]
    rules: tuple[str, ...]
    size: float


def _family_sample(
    panel: pd.DataFrame, events: EventDays, params: Params, horizon: int
) -> tuple[pd.Series, np.ndarray]:
    """Known forward log returns since sample_start, and which of these days each rule marks (rules, days)."""
    returns = forward_log_returns(panel["price_usd"], horizon, params.entry_lag_days)
    returns = returns.loc[pd.Timestamp(params.sample_start) :].dropna()
    if returns.empty:
        raise DataError(f"no {horizon}-day outcome is known since sample_start={params.sample_start}")
    return returns, np.array([returns.index.isin(days) for days in events.values()])


def family_null(panel: pd.DataFrame, events: EventDays, params: Params, horizon_days: int | None = None) -> np.ndarray:
    """Best z of all rules in each common rotation, shape (rotations,): what `family_table` holds every rule against."""
    returns, marks = _family_sample(panel, events, params, horizon_days or params.primary_horizon_days)
    return max_rotation_test(returns.to_numpy(), marks).null_max


def family_table(
    panel: pd.DataFrame, events: EventDays, params: Params, horizon_days: int | None = None
) -> pd.DataFrame:
    """Every rule and anchor at one horizon, alone and as one of the family.

    All rules are rotated together over the days since sample_start whose outcome is known; p_family is the share of
    those common rotations in which the best of all rules does at least as well as this one.

    Returns
    -------
    DataFrame, one row per (definition, anchor) of `events`, most extreme first: definition, anchor, horizon_days (the
    primary one by default), n_events, excess_log, z, p_rotation, p_family; NaN without events. `n_family`: rules with
    events.
    """
    horizon = horizon_days or params.primary_horizon_days
    returns, marks = _family_sample(panel, events, params, horizon)
    test = max_rotation_test(returns.to_numpy(), marks)
    count = marks.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = marks.astype(float) @ returns.to_numpy() / count - returns.to_numpy().mean()
    table = pd.DataFrame(
        {
            "definition": [name for name, _ in events],
            "anchor": [anchor for _, anchor in events],
            "horizon_days": horizon,
            "n_events": count,
            "excess_log": excess,
            "z": test.z,
            "p_rotation": test.p_single,
            "p_family": test.p_family,
        }
    )
    table["n_family"] = int((count > 0).sum())
    return table.sort_values("z", ascending=False, kind="stable", ignore_index=True)


def timing_returns(
    panel: pd.DataFrame, events: EventDays, params: Params, hold_days: int | None = None
) -> pd.DataFrame:
    """Daily log return that each rule's timing earned: (position - its mean) x the day's log return.

    A rule holds for `hold_days` (the primary horizon by default) after each event. Its benchmark is the same exposure
    spread evenly over the sample, so that being long in a rising market earns nothing here. Index: the days since
    sample_start; columns `definition_anchor`; rules that never trade are left out.
    """
    price = panel.loc[params.sample_start :, "price_usd"].dropna()
    index, steps = pd.DatetimeIndex(price.index), np.diff(np.log(price.to_numpy()))
    hold = hold_days or params.primary_horizon_days
    columns = {}
    for (name, anchor), days in events.items():
        rows = executed_rows(index, days, params.entry_lag_days)
        position = hold_position(len(index), rows, hold)[:-1].astype(float)
        if 0 < position.mean() < 1:
            columns[f"{name}_{anchor}"] = (position - position.mean()) * steps
    return pd.DataFrame(columns, index=index[1:])


def superior_rules(
    timing: pd.DataFrame, block_days: int, n_resamples: int = SPA_RESAMPLES, size: float = 0.05, seed: int = 0
) -> SuperiorRules:
    """SPA (Hansen 2005) and StepM (Romano and Wolf 2005) over the rules' timing returns, stationary bootstrap.

    `timing`: as from `timing_returns`; `block_days`: mean block length, at least the holding period. Both come from
    `arch`, on sums over weeks: log returns add up, blocks are many weeks long, and it takes a seventh of the time.
    Equal columns are given once. Without any rule all p-values are NaN.
    """
    from arch.bootstrap import StepM

    weeks = timing.groupby(np.arange(len(timing)) // DAYS_PER_STEP).sum()
    distinct = weeks.loc[:, ~weeks.T.duplicated().to_numpy()]
    names = tuple(map(str, distinct.columns))
    if not names:
        return SuperiorRules(np.nan, np.nan, np.nan, (), (), size)
    # It takes losses: a rule's loss is what its timing did not earn; the benchmark's is zero.
    step = StepM(
        np.zeros(len(distinct)),
        -distinct,
        size=size,
        block_size=-(-block_days // DAYS_PER_STEP),
        reps=n_resamples,
        seed=seed,
    )
    step.compute()
    # StepM's own SPA holds the resamples already: asking it again costs nothing.
    step.spa.compute()
    p = step.spa.pvalues
    superior = tuple(map(str, step.superior_models))
    return SuperiorRules(float(p["lower"]), float(p["consistent"]), float(p["upper"]), superior, names, size)
