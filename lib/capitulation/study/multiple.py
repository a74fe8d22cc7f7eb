"""How much a finding shrinks once one counts how often one looked: Holm, deflated Sharpe, detectable effects."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

EULER_MASCHERONI = float(np.euler_gamma)
NORMAL_KURTOSIS = 3.0

_NORMAL = NormalDist()


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's (1979) step-down adjusted p-values, which control the family-wise error under any dependence.

    Parameters
    ----------
    p_values : array-like, shape (m,), in [0, 1]; NaN = test not made, left out of the family and NaN in the result.

    Returns
    -------
    ndarray, shape (m,): with p sorted ascending, max over j <= i of (m - j + 1) p_(j), capped at 1.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    if ((p < 0) | (p > 1)).any():
        raise ValueError("p-values must lie in [0, 1]")
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return adjusted


def expected_max_sharpe(n_trials: float, sharpe_variance: float) -> float:
    """Sharpe ratio that the best of `n_trials` strategies without skill is expected to show.

    Bailey and Lopez de Prado (2014), "The Deflated Sharpe Ratio", equation 1: sqrt(V) * ((1 - g) * Z(1 - 1/N)
    + g * Z(1 - 1/(N e))), with Z the normal quantile and g the Euler-Mascheroni constant.

    Parameters
    ----------
    n_trials : number N >= 1 of independent trials (for correlated ones, an effective number); 1 gives 0.
    sharpe_variance : variance V of the Sharpe ratios over the trials, per the same period as the result.

    >>> round(expected_max_sharpe(100, 0.5 / 250), 4)
    0.1132
    """
    if n_trials < 1 or not sharpe_variance >= 0:
        raise ValueError(f"need n_trials >= 1 and sharpe_variance >= 0, got {n_trials} and {sharpe_variance}")
    if n_trials == 1:
        return 0.0
    best = (1 - EULER_MASCHERONI) * _NORMAL.inv_cdf(1 - 1 / n_trials)
    best += EULER_MASCHERONI * _NORMAL.inv_cdf(1 - 1 / (n_trials * np.e))
    # Between one and about 1.6 trials the approximation turns negative, where the maximum's mean cannot be.
    return max(float(np.sqrt(sharpe_variance) * best), 0.0)


def probabilistic_sharpe(
    sharpe: float, benchmark: float, n_obs: int, skew: float = 0.0, kurtosis: float = NORMAL_KURTOSIS
) -> float:
    """Probability that the true Sharpe ratio exceeds `benchmark` (Bailey and Lopez de Prado 2012).

    Phi((SR - SR0) sqrt(T - 1) / sqrt(1 - skew SR + (kurtosis - 1)/4 SR^2)); both ratios per observation, kurtosis 3
    for the normal. NaN where SR is NaN, T < 2 or the variance under the root is not positive.

    >>> probabilistic_sharpe(0.1, 0.1, 500)
    0.5
    """
    variance = 1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if n_obs < 2 or not np.isfinite(sharpe) or not variance > 0:
        return float("nan")
    return _NORMAL.cdf((sharpe - benchmark) * np.sqrt(n_obs - 1) / np.sqrt(variance))


def deflated_sharpe(
    sharpe: float,
    n_obs: int,
    n_trials: float,
    sharpe_variance: float,
    skew: float = 0.0,
    kurtosis: float = NORMAL_KURTOSIS,
) -> float:
    """Probability that the true Sharpe ratio exceeds what the best of `n_trials` lucky strategies would show.

    `probabilistic_sharpe` against `expected_max_sharpe` (Bailey and Lopez de Prado 2014, equation 2). `sharpe` and
    `sharpe_variance` are per observation, not annualised. The paper's example (annual ratio 2.5, five years of 250
    days, 100 trials with variance 1/2, skewness -3, kurtosis 10):

    >>> round(deflated_sharpe(2.5 / 250**0.5, 1250, 100, 0.5 / 250, skew=-3, kurtosis=10), 4)
    0.9004
    """
    return probabilistic_sharpe(sharpe, expected_max_sharpe(n_trials, sharpe_variance), n_obs, skew, kurtosis)


def min_detectable_log(sd: float, n_clusters: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Smallest true excess log return that a one-sided test on `n_clusters` independent events would find.

    (z_(1-alpha) + z_power) sd / sqrt(n): normal quantiles, because `sd` comes from thousands of days, not from the few
    events. A finding that is not significant says nothing about effects smaller than this.

    Parameters
    ----------
    sd : standard deviation of the log return over the horizon, all days.
    n_clusters : events that do not overlap; below 1 gives NaN.
    alpha, power : level of the one-sided test and wanted probability of finding, both in (0, 1).

    >>> round(min_detectable_log(0.4, 16), 3)
    0.249
    """
    if n_clusters < 1:
        return float("nan")
    return float((_NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)) * sd / np.sqrt(n_clusters))
