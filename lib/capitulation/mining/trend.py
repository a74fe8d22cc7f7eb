"""Is the true hash rate falling? A filtered probability, from what was known on the day alone.

Smooth-trend model (integrated random walk; Harvey 1989, "Forecasting, Structural Time Series Models and the Kalman
Filter", section 2.3.5) on the log of daily block work y = log(hash rate):

    y(t) = level(t) + e(t), Var e(t) = 1 / blocks(t);  level(t+1) = level(t) + slope(t);  slope(t+1) = slope(t) + z(t)

The noise of y is known from the block counts, so only the slope's variance is estimated: on 1 January of each year, by
maximum likelihood on the two years before, and kept for that year. Nothing on a day depends on a later one. A free
variance of the level was tried and drives the slope's to zero on recent years, after which the slope never moves again.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.mining.hash_rate import block_counts

if TYPE_CHECKING:
    from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

FIT_DAYS = 730
# A slope that moves less than this a day remembers for more than six weeks and would miss a capitulation after two calm
# years; one that moves more would be no trend.
SLOPE_SD_BOUNDS = (1e-4, 0.3)
LOG_VARIANCE_TOLERANCE = 0.01
LEVEL_VARIANCE_AT_START = 1e4
SLOPE_VARIANCE_AT_START = 1e-2
DAYS_NOT_SCORED = 5


def _work(panel: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Log of daily block work and its known variance; a day without hash rate or blocks is missing to the filter."""
    rate, blocks = panel["hash_rate_ehs"], block_counts(panel)
    usable = (rate > 0) & (blocks > 0)
    log_work = np.log(rate.where(usable)).to_numpy()
    return log_work, (1 / blocks.where(usable)).fillna(1.0).to_numpy()


def _smooth_trend(log_work: np.ndarray, variance: np.ndarray) -> KalmanFilter:
    """The model above bound to the data; its slope variance still to be set."""
    from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

    model = KalmanFilter(k_endog=1, k_states=2, k_posdef=1, loglikelihood_burn=DAYS_NOT_SCORED)
    model.bind(np.ascontiguousarray(log_work[None, :]))
    model["design"] = np.array([[1.0, 0.0]])
    model["transition"] = np.array([[1.0, 1.0], [0.0, 1.0]])
    model["selection"] = np.array([[0.0], [1.0]])
    model["obs_cov"] = np.ascontiguousarray(variance[None, None, :])
    first = log_work[np.isfinite(log_work)][0]
    start_variance = np.diag([LEVEL_VARIANCE_AT_START, SLOPE_VARIANCE_AT_START])
    model.initialize_known(np.array([first, 0.0]), start_variance)
    return model


@lru_cache(maxsize=256)
def _fitted_slope_variance(log_work: bytes, variance: bytes) -> float:
    """Slope variance that makes the data most likely; remembered by the data's bytes, so that a refit costs nothing."""
    from scipy.optimize import minimize_scalar

    model = _smooth_trend(np.frombuffer(log_work), np.frombuffer(variance))

    def cost(log_variance: float) -> float:
        model["state_cov"] = np.array([[np.exp(log_variance)]])
        return -model.loglike()

    bounds, options = 2 * np.log(SLOPE_SD_BOUNDS), {"xatol": LOG_VARIANCE_TOLERANCE}
    return float(np.exp(minimize_scalar(cost, bounds=bounds, method="bounded", options=options).x))


@lru_cache(maxsize=256)
def _falling(log_work: bytes, variance: bytes, slope_variance: float) -> np.ndarray:
    """P(slope < 0 | data up to the day) for each day of the stretch; past years are remembered like the fits."""
    from scipy.special import ndtr

    model = _smooth_trend(np.frombuffer(log_work), np.frombuffer(variance))
    model["state_cov"] = np.array([[slope_variance]])
    result = model.filter()
    slope, slope_var = result.filtered_state[1], result.filtered_state_cov[1, 1]
    return ndtr(-slope / np.sqrt(slope_var))


def _year_starts(index: pd.DatetimeIndex, first: int) -> list[int]:
    """Positions of the days on which the model is fitted anew: each 1 January with two years of data before it."""
    new_year = np.flatnonzero((index.month == 1) & (index.day == 1))
    return [int(at) for at in new_year if at - FIT_DAYS >= first]


def falling_probability(panel: pd.DataFrame) -> pd.Series:
    """Probability that the true hash rate's trend is downward, given the data up to each day; index `date`.

    Values in 0 to 1; missing before the first 1 January that has two years of hash rate before it. One-sided in time:
    a day's value never changes when later days are added.
    """
    log_work, variance = _work(panel)
    known = np.flatnonzero(np.isfinite(log_work))
    probability = np.full(len(panel), np.nan)
    starts = _year_starts(panel.index, int(known[0])) if len(known) else []
    for begin, stop in pairwise([*starts, len(panel)]):
        past, stretch = slice(begin - FIT_DAYS, begin), slice(begin - FIT_DAYS, stop)
        if not np.isfinite(log_work[past]).any():
            continue
        fitted = _fitted_slope_variance(log_work[past].tobytes(), variance[past].tobytes())
        found = _falling(log_work[stretch].tobytes(), variance[stretch].tobytes(), fitted)
        probability[begin:stop] = found[FIT_DAYS:]
    return pd.Series(probability, index=panel.index, name="falling_probability")
