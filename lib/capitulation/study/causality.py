"""Which moves first: hash rate or price?

Two views of weekly data. Local projections (Jordà 2005, American Economic Review 95): for each lag h one regression
of the response's change over the next h weeks on this week's change of the driver, both series' recent changes held
fixed, Newey-West errors for the overlap; they draw the shape. One joint test per direction, Granger's as Toda and
Yamamoto (1995, Journal of Econometrics 66) run it on levels that may share a trend; it gives the verdict. "Leads"
means "helps to forecast", no more.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from capitulation.words import p_text

PRICE_LEADS = "price leads hash rate"
HASH_RATE_LEADS = "hash rate leads price"
DIRECTIONS = {PRICE_LEADS: ("price", "hash_rate"), HASH_RATE_LEADS: ("hash_rate", "price")}
MAX_LAG_WEEKS = 12
TEST_LAGS = 6
CONTROL_WEEKS = 4
DAYS_PER_WEEK = 7
PROJECTION_COLUMNS = ("direction", "lag_weeks", "response", "low", "high", "t_value", "p_value", "n_weeks")
TEST_COLUMNS = ("direction", "form", "lags", "f_value", "p_value", "r2_gain", "n_weeks")


def weekly_logs(panel: pd.DataFrame, start: str = "2014-01-01") -> pd.DataFrame:
    """Logs of the weekly means `price` and `hash_rate`, index the week's last day.

    Weeks count back from the panel's last day. Both are means of the same seven days: a closing price beside a week's
    mean hash rate would be half a week ahead of it. A week with a missing day is missing. Only weeks that lie wholly
    on or after `start` count.
    """
    columns = {"price_usd": "price", "hash_rate_ehs": "hash_rate"}
    known = panel.loc[start:, list(columns)]
    n_weeks = len(known) // DAYS_PER_WEEK
    known = known.iloc[len(known) - n_weeks * DAYS_PER_WEEK :]
    means = known.to_numpy(dtype=float).reshape(n_weeks, DAYS_PER_WEEK, len(columns)).mean(axis=1)
    logs = np.log(np.where(means > 0, means, np.nan))
    return pd.DataFrame(logs, index=known.index[DAYS_PER_WEEK - 1 :: DAYS_PER_WEEK], columns=list(columns.values()))


def _lagged(frame: pd.DataFrame, first: int, last: int) -> pd.DataFrame:
    """Columns `<series>_<lag>` for both series at lags `first` to `last` weeks before each row."""
    return pd.concat([frame.shift(lag).add_suffix(f"_{lag}") for lag in range(first, last + 1)], axis=1)


def _regress(response: pd.Series, regressors: pd.DataFrame, **fit_options):
    """statsmodels' least squares with a constant, on the rows where everything is known."""
    import statsmodels.api as sm

    rows = pd.concat([response.rename("_response"), regressors], axis=1).dropna()
    return sm.OLS(rows["_response"], sm.add_constant(rows[regressors.columns])).fit(use_t=True, **fit_options)


def local_projections(
    logs: pd.DataFrame,
    lags: Iterable[int] = range(1, MAX_LAG_WEEKS + 1),
    controls: int = CONTROL_WEEKS,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Response of each series, h weeks on, to a move of the other this week; one row per direction and lag.

    Regression: y(t+h) - y(t) = a + b * dx(t) + dy(t) and `controls` - 1 earlier weeks of both + e, Newey-West with h
    lags. `response` is b, the log change of the response per log change of the driver (an elasticity); `low` and
    `high` are pointwise. `logs` as from `weekly_logs`.
    """
    changes = logs.diff()
    past = _lagged(changes, 0, controls - 1)
    rows = []
    for direction, (driver, response) in DIRECTIONS.items():
        for lag in lags:
            ahead = logs[response].shift(-lag) - logs[response]
            options = {"maxlags": lag, "use_correction": True}
            fit = _regress(ahead, past, cov_type="HAC", cov_kwds=options)
            rows.append((direction, lag, *_coefficient(fit, f"{driver}_0", confidence), int(fit.nobs)))
    return pd.DataFrame(rows, columns=list(PROJECTION_COLUMNS))


def _coefficient(fit, name: str, confidence: float) -> tuple[float, float, float, float, float]:
    low, high = fit.conf_int(alpha=1 - confidence).loc[name]
    return fit.params[name], low, high, fit.tvalues[name], fit.pvalues[name]


def lead_tests(logs: pd.DataFrame, lags: int = TEST_LAGS, form: str = "levels") -> pd.DataFrame:
    """Does the other series' past help to forecast? One row per direction, columns `TEST_COLUMNS`.

    Regression of this week's value on `lags` weeks of both series; F test that all coefficients of the driver are
    zero. `form` "levels" adds one further, untested lag of both, which keeps the test valid whether or not the levels
    share a trend; "changes" is Granger's test on weekly changes, blind to a shared trend. Errors HC3: in markets
    simulated without any lead, Newey-West errors rejected at 5 % in 30 % of 114-week samples, HC3 in 3 to 8 % at any
    length tried. `r2_gain`: what the driver adds to R-squared, in sample.
    """
    extra = {"levels": 1, "changes": 0}[form]
    series = logs if extra else logs.diff()
    past = _lagged(series, 1, lags + extra)
    rows = [(name, form, lags, *_lead_test(series, past, *pair, lags)) for name, pair in DIRECTIONS.items()]
    return pd.DataFrame(rows, columns=list(TEST_COLUMNS))


def _lead_test(series: pd.DataFrame, past: pd.DataFrame, driver: str, response: str, lags: int) -> tuple:
    """F, p, gain in R-squared and weeks for one direction."""
    names = [f"{driver}_{lag}" for lag in range(1, lags + 1)]
    everything_known = series[response].where(past.notna().all(axis=1))
    fit = _regress(everything_known, past, cov_type="HC3")
    without = _regress(everything_known, past.drop(columns=names))
    zero = np.eye(len(fit.params))[[fit.params.index.get_loc(name) for name in names]]
    test = fit.f_test(zero)
    return float(test.fvalue), float(test.pvalue), fit.rsquared - without.rsquared, int(fit.nobs)


def direction_sentence(tests: pd.DataFrame, level: float = 0.05) -> str:
    """What two lead tests say, in one sentence that keeps "not shown" apart from "absent".

    >>> tests = pd.DataFrame({"direction": [PRICE_LEADS, HASH_RATE_LEADS], "p_value": [0.001, 0.4],
    ...                       "lags": 6, "n_weeks": 500})
    >>> direction_sentence(tests)
    'Over 500 weeks and 6 lags, price leads hash rate (p = 0.001); that hash rate leads price is not shown (p = 0.40).'
    """
    p = tests.set_index("direction")["p_value"]
    shown, not_shown = [name for name in p.index if p[name] < level], [name for name in p.index if not p[name] < level]
    parts = [f"{name} ({p_text(p[name])})" for name in shown]
    parts += [f"that {name} is not shown ({p_text(p[name])})" for name in not_shown]
    return f"Over {tests['n_weeks'].iloc[0]} weeks and {tests['lags'].iloc[0]} lags, {'; '.join(parts)}."
