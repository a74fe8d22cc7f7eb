"""Which moves first: hash rate or price?

Two views of weekly data: local projections (Jordà 2005) draw the shape; one joint test per direction, Granger's as Toda
and Yamamoto (1995) run it on levels that may share a trend, gives the verdict. "Leads" means "helps to forecast".
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from statsmodels.regression.linear_model import OLS, RegressionResultsWrapper

from capitulation.study.chance import LEVEL
from capitulation.words import p_text

PRICE_LEADS = "price leads hash rate"
HASH_RATE_LEADS = "hash rate leads price"
DIRECTIONS = {PRICE_LEADS: ("price", "hash_rate"), HASH_RATE_LEADS: ("hash_rate", "price")}


def weekly_logs(panel: pd.DataFrame, start: str = "2014-01-01") -> pd.DataFrame:
    """Logs of the weekly means `price` and `hash_rate`, index the week's last day.

    Weeks count back from the panel's last day to `start`; one with a missing day is missing. Both are means of the same
    seven days: a closing price would be half a week ahead of a week's mean hash rate.
    """
    known = panel.loc[start:, ["price_usd", "hash_rate_ehs"]]
    weeks = len(known) // 7
    means = known.iloc[len(known) - 7 * weeks :].to_numpy(dtype=float).reshape(weeks, 7, 2).mean(axis=1)
    logs = np.log(np.where(means > 0, means, np.nan))
    return pd.DataFrame(logs, index=known.index[::-7][:weeks][::-1], columns=["price", "hash_rate"])


def _lagged(frame: pd.DataFrame, first: int, last: int) -> pd.DataFrame:
    """Columns `<series>_<lag>` for both series at lags `first` to `last` weeks before each row."""
    return pd.concat([frame.shift(lag).add_suffix(f"_{lag}") for lag in range(first, last + 1)], axis=1)


def _regress(response: pd.Series, regressors: pd.DataFrame, **fit_options) -> RegressionResultsWrapper:
    """Least squares with a constant, the first coefficient, on the rows where everything is known."""
    y, x = response.to_numpy(), np.column_stack([np.ones(len(regressors)), regressors])
    known = np.isfinite(y) & np.isfinite(x).all(axis=1)
    return OLS(y[known], x[known]).fit(use_t=True, **fit_options)


def local_projections(
    logs: pd.DataFrame, lags: Iterable[int] = range(1, 13), controls: int = 4, confidence: float = 0.95
) -> pd.DataFrame:
    """Response of each series, h weeks on, to a move of the other this week; one row per direction and lag.

    Regression: y(t+h) - y(t) = a + b * dx(t) + dy(t) and `controls` - 1 earlier weeks of both + e, Newey-West with h
    lags. Columns direction, lag_weeks, response (b, an elasticity), low, high (pointwise), t_value, p_value, n_weeks.
    `logs` as from `weekly_logs`; weeks that touch a missing one are left out.
    """
    past, rows = _lagged(logs.diff(), 0, controls - 1), []
    for direction, (driver, response) in DIRECTIONS.items():
        for lag in lags:
            ahead, at = logs[response].shift(-lag) - logs[response], 1 + past.columns.get_loc(f"{driver}_0")
            fit = _regress(ahead, past, cov_type="HAC", cov_kwds={"maxlags": lag, "use_correction": True})
            interval = fit.conf_int(alpha=1 - confidence)[at]
            found = (fit.params[at], *interval, fit.tvalues[at], fit.pvalues[at], int(fit.nobs))
            rows.append((direction, lag, *found))
    names = ["direction", "lag_weeks", "response", "low", "high", "t_value", "p_value", "n_weeks"]
    return pd.DataFrame(rows, columns=names)


def lead_tests(logs: pd.DataFrame, lags: int = 6) -> pd.DataFrame:
    """Does the other series' past help to forecast? One row per direction.

    Columns direction, form, lags, f_value, p_value, r2_gain (what the driver adds to R-squared, in sample), n_weeks.
    Regression of this week's level on `lags` weeks of both series, and on one further, untested lag of both, which
    keeps the test valid whether or not the levels share a trend; F test that all coefficients of the driver are zero.
    Errors HC3: without any lead Newey-West's rejected at 5 % in 30 % of 114 simulated weeks, HC3 in 3 to 8 %.
    """
    past, rows = _lagged(logs, 1, lags + 1), []
    for direction, (driver, response) in DIRECTIONS.items():
        names = [f"{driver}_{lag}" for lag in range(1, lags + 1)]
        known = logs[response].where(past.notna().all(axis=1))
        fit, without = _regress(known, past, cov_type="HC3"), _regress(known, past.drop(columns=names))
        test = fit.f_test(np.eye(len(fit.params))[1 + past.columns.get_indexer(names)])
        gain = fit.rsquared - without.rsquared
        rows.append((direction, "levels", lags, float(test.fvalue), float(test.pvalue), gain, int(fit.nobs)))
    return pd.DataFrame(rows, columns=["direction", "form", "lags", "f_value", "p_value", "r2_gain", "n_weeks"])


def direction_sentence(tests: pd.DataFrame, level: float = LEVEL) -> str:
    """What two lead tests say, in one sentence that keeps "not shown" apart from "absent".

    >>> tests = pd.DataFrame({"direction": list(DIRECTIONS), "p_value": [0.001, 0.4], "lags": 6, "n_weeks": 500})
    >>> direction_sentence(tests)
    'Over 500 weeks and 6 lags, price leads hash rate (p = 0.001); that hash rate leads price is not shown (p = 0.40).'
    """
    p = tests.set_index("direction")["p_value"]
    parts = [f"{name} ({p_text(p[name])})" for name in p.index if p[name] < level]
    parts += [f"that {name} is not shown ({p_text(p[name])})" for name in p.index if not p[name] < level]
    return f"Over {tests['n_weeks'].iloc[0]} weeks and {tests['lags'].iloc[0]} lags, {'; '.join(parts)}."
