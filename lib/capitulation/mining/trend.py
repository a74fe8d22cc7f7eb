"""Is the true hash rate falling? A filtered probability, from what was known on the day alone.

Smooth-trend model (integrated random walk; Harvey 1989, "Forecasting, Structural Time Series Models and the Kalman
Filter", section 2.3.5) on the log of daily block work y = log(hash rate):

    y(t) = level(t) + e(t), Var e(t) = 1 / blocks(t);  level(t+1) = level(t) + slope(t);  slope(t+1) = slope(t) + z(t)

The noise of y is known from the block counts, so only the slope's variance is estimated: on 1 January of each year, by
maximum likelihood on the two years before, and kept for that year. With a free variance of the level the slope's goes
to zero on recent years, after which the slope never moves again.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import ndtr
from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

from capitulation.mining.hashrate import block_counts

FIT_DAYS = 730
SLOPE_SD_BOUNDS = (1e-4, 0.3)  # a day: a slower slope remembers over six weeks, a faster one would be no trend
VARIANCE_AT_START = (1e4, 1e-2)  # of level and slope: nearly nothing is known, so the first days are not scored


def _smooth_trend(log_work: np.ndarray, variance: np.ndarray) -> KalmanFilter:
    """The model above bound to the data; its slope variance still to be set."""
    model = KalmanFilter(k_endog=1, k_states=2, k_posdef=1, loglikelihood_burn=5)
    model.bind(np.ascontiguousarray(log_work[None, :]))
    model["design"] = np.array([[1.0, 0.0]])
    model["transition"] = np.array([[1.0, 1.0], [0.0, 1.0]])
    model["selection"] = np.array([[0.0], [1.0]])
    model["obs_cov"] = np.ascontiguousarray(variance[None, None, :])
    model.initialize_known(np.array([log_work[np.isfinite(log_work)][0], 0.0]), np.diag(VARIANCE_AT_START))
    return model


def slope_variance(log_work: np.ndarray, variance: np.ndarray) -> float:
    """Variance of the slope's daily step that makes `log_work` (NaN where missing) most likely, its noise known."""
    model = _smooth_trend(log_work, variance)

    def cost(log_variance: float) -> float:
        model["state_cov"] = np.array([[np.exp(log_variance)]])
        return -model.loglike()

    bounds = 2 * np.log(SLOPE_SD_BOUNDS)
    return float(np.exp(minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 0.01}).x))


def falling_probability(panel: pd.DataFrame) -> pd.Series:
    """Probability (0 to 1) that the true hash rate's trend is downward, given the data up to each day; index `date`.

    Missing before the first 1 January that has two years of hash rate before it.
    """
    rate, blocks = panel["hash_rate_ehs"], block_counts(panel)
    usable = (rate > 0) & (blocks > 0)  # any other day is missing to the filter
    log_work = np.log(rate.where(usable)).to_numpy()
    variance = (1 / blocks.where(usable)).fillna(1.0).to_numpy()
    known = np.flatnonzero(np.isfinite(log_work))
    new_year = np.flatnonzero(panel.index.day_of_year == 1)
    starts = [at for at in new_year if len(known) and at - FIT_DAYS >= known[0]]
    probability = np.full(len(panel), np.nan)
    for begin, stop in pairwise([*starts, len(panel)]):
        work, noise = (values[begin - FIT_DAYS : stop] for values in (log_work, variance))
        if np.isfinite(work[:FIT_DAYS]).any():
            model = _smooth_trend(work, noise)
            model["state_cov"] = np.array([[slope_variance(work[:FIT_DAYS], noise[:FIT_DAYS])]])
            result = model.filter()
            falling = ndtr(-result.filtered_state[1] / np.sqrt(result.filtered_state_cov[1, 1]))
            probability[begin:stop] = falling[FIT_DAYS:]
    return pd.Series(probability, index=panel.index, name="falling_probability")
