"""Does the answer hang on a choice? Other windows, other lags, another provider's data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.episodes import anchor_days, buy_dates, find_episodes
from capitulation.mining.rules import rule_state
from capitulation.params import Params
from capitulation.study.bootstrap import count_clusters
from capitulation.study.forward_returns import forward_log_returns
from capitulation.study.rotation import rotation_test
from capitulation.study.sweep import pair_grid
from capitulation.study.sweep_rotation import sweep_rotation

if TYPE_CHECKING:
    from capitulation.study.chunks import ChunkMap

GRID_FAST_DAYS = tuple(range(10, 65, 5))
GRID_SLOW_DAYS = tuple(range(30, 185, 10))
LAGS_DAYS = (0, 1, 2, 3, 5, 7, 14)
NEAR_DAYS = 3


def window_grid(
    panel: pd.DataFrame,
    params: Params,
    fast: Iterable[int] = GRID_FAST_DAYS,
    slow: Iterable[int] = GRID_SLOW_DAYS,
    anchor: str = "recovery",
    map_chunks: ChunkMap | None = None,
) -> pd.DataFrame:
    """Hash Ribbons with every pair of windows: the primary horizon's excess and its rotation p, alone and as a family.

    `anchor`: "recovery" or "start". Returns a row per pair with fast < slow: fast_days, slow_days, n_events,
    excess_log, z, p_rotation, p_family (see `sweep_rotation.sweep_rotation`) and `chosen` (the pair of `params`,
    which is part of the grid even if it lies between its steps).
    """
    pairs = [*pair_grid(fast, slow), (params.fast_days, params.slow_days)]
    extra = {} if map_chunks is None else {"map_chunks": map_chunks}
    table = sweep_rotation(
        panel["hash_rate_ehs"],
        panel["price_usd"],
        pairs,
        params.primary_horizon_days,
        params.entry_lag_days,
        params.sample_start,
        anchor,
        **extra,
    )
    chosen = (table["fast_days"] == params.fast_days) & (table["slow_days"] == params.slow_days)
    return table.assign(chosen=chosen)


def as_heat_map(grid: pd.DataFrame, column: str = "excess_log") -> pd.DataFrame:
    """One column of `window_grid` as a matrix: index slow_days, columns fast_days, NaN where there is no pair."""
    return grid.pivot_table(index="slow_days", columns="fast_days", values=column, dropna=False)


def excess_of(panel: pd.DataFrame, days: pd.DatetimeIndex, horizon: int, lag: int, start: str) -> dict[str, float]:
    """n_events, n_clusters, mean_log, excess_log and one-sided p_rotation of event days since `start`."""
    returns = forward_log_returns(panel["price_usd"], horizon, lag).loc[pd.Timestamp(start) :].dropna()
    marks = returns.index.isin(days)
    test = rotation_test(returns.to_numpy(), marks) if len(returns) else None
    return {
        "n_events": int(marks.sum()),
        "n_clusters": int(count_clusters(marks, horizon)[0]) if len(marks) else 0,
        "mean_log": float(returns[marks].mean()) if marks.any() else np.nan,
        "excess_log": test.statistic if test else np.nan,
        "p_rotation": test.p_one_sided if test else np.nan,
    }


def lag_sensitivity(
    panel: pd.DataFrame, days: pd.DatetimeIndex, params: Params, lags: Iterable[int] = LAGS_DAYS
) -> pd.DataFrame:
    """The primary horizon's figures of one set of events for each trading lag: lag_days, then as `excess_of`."""
    every = sorted({*lags, params.entry_lag_days})
    rows = [
        {"lag_days": lag, **excess_of(panel, days, params.primary_horizon_days, lag, params.sample_start)}
        for lag in every
    ]
    return pd.DataFrame(rows)


def primary_days(panel: pd.DataFrame, params: Params) -> tuple[pd.DataFrame, pd.DatetimeIndex]:
    """State and event days of the primary rule and anchor on this panel; none where the panel lacks its inputs."""
    state = rule_state(panel, params.primary_definition, params)
    episodes = find_episodes(state["in_state"], state["known"])
    episodes["buy_date"] = buy_dates(panel, episodes, params.price_fast_days, params.price_slow_days)
    return state, anchor_days(episodes, state, params.primary_anchor)


def provider_sensitivity(panels: Mapping[str, pd.DataFrame], params: Params) -> pd.DataFrame:
    """The primary test with each provider's own data, over the days that all of them have.

    Parameters
    ----------
    panels : daily panel of each provider by name; the first is the reference. Rules see each panel's whole history;
        a provider without a price in the common span is priced by the reference (`price_source` says so).

    Returns
    -------
    DataFrame, one row per provider: provider, price_source, start, end (the common span of hash rate), days_known,
    share_equal_state (days both know on which the state is that of the reference), same_days and near_days (events of
    the reference found on the same day, within 3 days), then as `excess_of`.
    """
    names = list(panels)
    start, end = _common_span(list(panels.values()), params)
    reference = _found(panels[names[0]], params, start, end)
    rows = []
    for name in names:
        state, days = _found(panels[name], params, start, end)
        price, source = _priced(panels, name, start, end)
        rows.append(
            {
                "provider": name,
                "price_source": source,
                "start": start,
                "end": end,
                **_agreement(state, days, *reference),
                **excess_of(price, days, params.primary_horizon_days, params.entry_lag_days, str(start.date())),
            }
        )
    return pd.DataFrame(rows)


def _common_span(panels: list[pd.DataFrame], params: Params) -> tuple[pd.Timestamp, pd.Timestamp]:
    """First and last day on which every provider's hash rate is known, from sample_start on."""
    known = [panel["hash_rate_ehs"].dropna().index for panel in panels]
    start = max(pd.Timestamp(params.sample_start), *(days[0] for days in known if len(days)))
    return start, min(days[-1] for days in known if len(days))


def _found(
    panel: pd.DataFrame, params: Params, start: pd.Timestamp, end: pd.Timestamp
) -> tuple[pd.DataFrame, pd.DatetimeIndex]:
    state, days = primary_days(panel, params)
    return state.loc[start:end], days[(days >= start) & (days <= end)]


def _priced(
    panels: Mapping[str, pd.DataFrame], name: str, start: pd.Timestamp, end: pd.Timestamp
) -> tuple[pd.DataFrame, str]:
    """A panel with a price for the span, and whose it is: its own if it has one, else the first panel's."""
    own = panels[name].loc[start:end, "price_usd"].notna().any()
    source = name if own else next(iter(panels))
    return panels[source].loc[:end], source


def _agreement(
    state: pd.DataFrame, days: pd.DatetimeIndex, base_state: pd.DataFrame, base_days: pd.DatetimeIndex
) -> dict[str, float]:
    both = state["known"] & base_state["known"].reindex(state.index, fill_value=False)
    equal = (state["in_state"] == base_state["in_state"].reindex(state.index, fill_value=False))[both]
    nearest = [abs((days - day).days).min() if len(days) else np.inf for day in base_days]
    return {
        "days_known": int(state["known"].sum()),
        "share_equal_state": float(equal.mean()) if len(equal) else np.nan,
        "same_days": int(sum(gap == 0 for gap in nearest)),
        "near_days": int(sum(gap <= NEAR_DAYS for gap in nearest)),
    }
