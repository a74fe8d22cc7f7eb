"""Regression t-values as the literature prints them, shown beside the rotation test to teach why they mislead here.

The return after day t is regressed on a constant and a mark of event days. Overlap makes neighbouring errors alike for
as long as the horizon; Newey-West and Hansen-Hodrick allow for that, but they count days, while a state that holds for
hundreds of days in a row may be a single observation.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

ESTIMATES = ("coef", "t_ols", "t_hac", "t_hh", "p_ols", "p_hac", "p_hh")
ALTERNATIVES = ("greater", "two-sided")
ROUNDING = 1e-9

_NORMAL = NormalDist()


def _p_value(t: float, alternative: str) -> float:
    """Normal tail probability of a t-value; NaN stays NaN."""
    if not np.isfinite(t):
        return float("nan")
    return 1 - _NORMAL.cdf(t) if alternative == "greater" else 2 * (1 - _NORMAL.cdf(abs(t)))


def _t_value(coefficient: float, variance: float, plain: float) -> float:
    """Coefficient over its standard error; NaN where the variance is not positive, rounding beside `plain` aside.

    The uniform kernel does not promise a positive variance: on short samples Hansen-Hodrick can be below zero, and
    where the lags reach over the whole sample it is zero.
    """
    return float(coefficient / np.sqrt(variance)) if variance > ROUNDING * plain else float("nan")


def ols_hac_hansen_hodrick(
    returns: ArrayLike, events: ArrayLike, horizon: int, alternative: str = "greater"
) -> dict[str, float]:
    """t- and p-values of the event mark: plain least squares, Newey-West and Hansen-Hodrick, through `statsmodels`.

    Parameters
    ----------
    returns : shape (days,), log returns over `horizon` days, consecutive days, no NaN.
    events : shape (days,), boolean or counts.
    horizon : days; both robust estimates use horizon - 1 lags, the overlap: Newey-West (1987) with Bartlett's weights,
        Hansen and Hodrick (1980) with equal ones.
    alternative : "greater" (the claim is one-sided, as p_rotation) or "two-sided".

    Returns
    -------
    dict with keys `coef` (log return: mean on event days minus mean on all others), t_ols, t_hac, t_hh, p_ols, p_hac,
    p_hh (normal quantiles). NaN where nothing can be estimated: no event, every day an event, a variance that is not
    positive.

    Raises
    ------
    ValueError for NaN, lengths that differ, horizon < 1 or an unknown alternative.
    """
    r, e = np.asarray(returns, dtype=float), np.asarray(events).astype(float)
    if r.shape != e.shape or r.ndim != 1 or np.isnan(r).any() or horizon < 1 or alternative not in ALTERNATIVES:
        raise ValueError(f"need returns without NaN, as many events, horizon >= 1, alternative in {ALTERNATIVES}")
    if len(r) < 3 or np.ptp(e) == 0:
        return dict.fromkeys(ESTIMATES, float("nan"))
    coefficient, variances = _fit(r, e, min(horizon, len(r)) - 1)
    t = {f"t_{name}": _t_value(coefficient, variance, variances["ols"]) for name, variance in variances.items()}
    p = {f"p_{name}": _p_value(t[f"t_{name}"], alternative) for name in variances}
    return {"coef": coefficient, **t, **p}


def _fit(r: np.ndarray, e: np.ndarray, lags: int) -> tuple[float, dict[str, float]]:
    """Coefficient of the event mark and its variance by each estimator."""
    from statsmodels.regression.linear_model import OLS
    from statsmodels.stats.sandwich_covariance import cov_hac, weights_bartlett, weights_uniform

    fit = OLS(r, np.column_stack([np.ones_like(e), e])).fit()
    robust = {
        "hac": cov_hac(fit, nlags=lags, weights_func=weights_bartlett, use_correction=False),
        "hh": cov_hac(fit, nlags=lags, weights_func=weights_uniform, use_correction=False),
    }
    variances = {"ols": fit.cov_params()[1, 1], **{name: matrix[1, 1] for name, matrix in robust.items()}}
    return float(fit.params[1]), {name: float(value) for name, value in variances.items()}
