"""The sample of one horizon: every day since the sample's start whose outcome is known, with what tests need to know.

Events outside it do not count, and its days are the baseline, so that an event's return and its twin come from the same
years.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from capitulation.mining.protocol import era_of
from capitulation.params import Params
from capitulation.study.baseline import own_era_excess
from capitulation.study.forward_returns import forward_log_returns
from capitulation.study.matched import entry_states, match_levels


@dataclass(frozen=True)
class Sample:
    """Days of one horizon, all over the same days: `returns` (log, index day), `era` (year of the halving that opened
    it), the cells of like days for matched entries (`levels`, shape (3, days)), and the returns less what the mean day
    of their own era gives (`own_era_excess`, see `study.baseline`; 0 where an era is all run-up)."""

    horizon_days: int
    returns: pd.Series
    era: np.ndarray
    levels: np.ndarray
    own_era_excess: np.ndarray

    @property
    def days(self) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(self.returns.index)

    def marks(self, events: Iterable[pd.Timestamp]) -> np.ndarray:
        """Boolean mark of the event days, shape (days,); events outside the sample are left out."""
        return np.asarray(self.days.isin(pd.DatetimeIndex(events)))


def study_sample(panel: pd.DataFrame, horizon_days: int, params: Params) -> Sample:
    """Sample of `horizon_days`: days on or after `params.sample_start` whose forward return is known.

    Empty where no outcome is known yet.
    """
    returns = forward_log_returns(panel["price_usd"], horizon_days, params.entry_lag_days)
    returns = returns.loc[pd.Timestamp(params.sample_start) :].dropna()
    eras = era_of(panel.index, panel)
    era = eras.loc[returns.index].to_numpy()
    lag, start = params.entry_lag_days, params.sample_start
    excess = own_era_excess(panel["price_usd"], eras, horizon_days, lag, start).reindex(returns.index).fillna(0.0)
    states = entry_states(panel["price_usd"]).loc[returns.index]
    return Sample(horizon_days, returns, era, match_levels(era, states), excess.to_numpy())


def study_samples(panel: pd.DataFrame, params: Params) -> dict[int, Sample]:
    """`study_sample` of each of `params.horizons_days`."""
    return {horizon: study_sample(panel, horizon, params) for horizon in params.horizons_days}
