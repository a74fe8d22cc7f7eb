"""Would one have known? At each past signal: what the earlier signals alone predicted, and what then came.

A rule that works forecasts better than the plain average does. So at every signal two forecasts are made from what was
known on that day, i.e. from outcomes that were complete by then: the mean return after the earlier signals, and the
mean return after every earlier day. Both are compared with what followed (Dawid 1984: forecasts judged one by one).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from capitulation.params import Params
from capitulation.study.forward_returns import forward_log_returns

MIN_EARLIER = 3
CELLS_PER_CHUNK = 2_000_000
COLUMNS = ("date", "n_earlier", "forecast", "baseline", "outcome", "error_forecast", "error_baseline", "better")


@dataclass(frozen=True)
class PrequentialScore:
    """Whether the forecasts from earlier signals beat the unconditional ones.

    n : signals with both forecasts and a known outcome; rmse_forecast, rmse_baseline : log return; r2 : 1 - ratio of
    the mean squared errors, above zero where the signals' mean is the better forecast; share_better : signals at which
    its error was the smaller; p_sign : one-sided sign test of that (signals taken as independent); t_dm, p_dm : Diebold
    and Mariano's test of equal squared errors in the form of Harvey, Leybourne and Newbold (1997), one-sided;
    p_rotation : share of rotations of the signals' calendar with as high an r2, which respects overlap.
    """

    n: int
    rmse_forecast: float
    rmse_baseline: float
    r2: float
    share_better: float
    p_sign: float
    t_dm: float
    p_dm: float
    p_rotation: float


def _sample(panel: pd.DataFrame, horizon: int, params: Params) -> pd.Series:
    """Forward log return of every day since sample_start, NaN while unknown."""
    returns = forward_log_returns(panel["price_usd"], horizon, params.entry_lag_days)
    return returns.loc[pd.Timestamp(params.sample_start) :]


def expanding_baseline(returns: np.ndarray, delay: int) -> np.ndarray:
    """Mean of the returns of days at least `delay` earlier, shape (n,): what was known on each day; NaN before any.

    >>> expanding_baseline(np.array([1.0, 3.0, 9.0, 9.0]), 2).tolist()
    [nan, nan, 1.0, 2.0]
    """
    known = ~np.isnan(returns)
    sums, counts = np.cumsum(np.where(known, returns, 0.0)), np.cumsum(known)
    out = np.full(len(returns), np.nan)
    if delay < len(returns):
        earlier = counts[: len(returns) - delay]
        out[delay:] = np.where(earlier > 0, sums[: len(returns) - delay] / np.maximum(earlier, 1), np.nan)
    return out


def prequential(
    panel: pd.DataFrame, days: pd.DatetimeIndex, params: Params, horizon_days: int | None = None
) -> pd.DataFrame:
    """Forecast and outcome at every signal since sample_start, whether its outcome is known yet or not.

    Parameters
    ----------
    panel : daily panel; used: price_usd.
    days : days of the signals of one rule and anchor.
    horizon_days : primary horizon by default.

    Returns
    -------
    DataFrame, columns COLUMNS, in order of time: n_earlier signals whose outcome was known on `date`; forecast: their
    mean log return (NaN below MIN_EARLIER); baseline: mean log return of every day of the sample known by then;
    outcome: log return that followed, NaN while unknown; the errors (forecast - outcome) and whether the forecast's is
    the smaller. Forecast and baseline use nothing that was not known at the end of `date`.
    """
    horizon = horizon_days or params.primary_horizon_days
    returns, delay = _sample(panel, horizon, params), horizon + params.entry_lag_days
    values = returns.to_numpy()
    rows = np.flatnonzero(returns.index.isin(days))
    earlier = [values[rows[rows + delay <= row]] for row in rows]
    earlier = [past[~np.isnan(past)] for past in earlier]
    table = pd.DataFrame({"date": returns.index[rows], "n_earlier": [len(past) for past in earlier]})
    table["forecast"] = [past.mean() if len(past) >= MIN_EARLIER else np.nan for past in earlier]
    table["baseline"] = expanding_baseline(values, delay)[rows]
    table["outcome"] = values[rows]
    table["error_forecast"] = table["forecast"] - table["outcome"]
    table["error_baseline"] = table["baseline"] - table["outcome"]
    scored = table["error_forecast"].notna() & table["error_baseline"].notna()
    better = table["error_forecast"].abs() < table["error_baseline"].abs()
    table["better"] = better.astype("boolean").where(scored)
    return table.astype({"n_earlier": "int64", "forecast": "float64"})[list(COLUMNS)]


def sign_test(successes: int, n: int) -> float:
    """One-sided p of at least `successes` of `n` at even odds.

    >>> sign_test(2, 2)
    0.25
    """
    return sum(math.comb(n, k) for k in range(successes, n + 1)) / 2**n if n else float("nan")


def diebold_mariano(gain: np.ndarray, overlap: int) -> tuple[float, float]:
    """(t, one-sided p) that the mean loss differential `gain` is above zero.

    The variance sums autocovariances up to `overlap` lags with Bartlett weights, and t is corrected for small samples
    and held against Student's t with n - 1 degrees of freedom (Harvey, Leybourne and Newbold 1997). NaN below 3.
    """
    from scipy.special import stdtr

    n = len(gain)
    if n < 3:
        return float("nan"), float("nan")
    centred, lags = gain - gain.mean(), min(overlap, n - 1)
    variance = float(centred @ centred) / n
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag]) / n
    if not variance > 0:
        return float("nan"), float("nan")
    h = lags + 1
    correction = math.sqrt(max((n + 1 - 2 * h + h * (h - 1) / n) / n, 0.0))
    t = gain.mean() / math.sqrt(variance / n) * correction
    return float(t), float(stdtr(n - 1, -t))


def _overlap(dates: pd.Series, delay: int) -> int:
    """Largest number of scored signals within the time that one outcome takes, less one: how far errors can depend."""
    days = dates.to_numpy("datetime64[D]").astype("int64")
    within = np.searchsorted(days, days + delay, side="left") - np.arange(len(days))
    return int(within.max() - 1) if len(days) else 0


def skill_of_rotations(returns: np.ndarray, rows: np.ndarray, delay: int, shifts: np.ndarray) -> np.ndarray:
    """Out-of-sample r2 of the prequential forecasts with the signals moved by each of `shifts` days, NaN unscored.

    The days are the sample's, their end joined to their start; each rotation sees only its own past.
    """
    baseline = expanding_baseline(returns, delay)
    out = np.empty(len(shifts))
    size = max(CELLS_PER_CHUNK // max(len(rows), 1) ** 2, 1)
    for begin in range(0, len(shifts), size):
        part = slice(begin, begin + size)
        at = np.sort((rows + shifts[part, None]) % len(returns), axis=1)
        out[part] = _skill(returns[at], baseline[at], at, delay)
    return out


def _skill(outcome: np.ndarray, baseline: np.ndarray, at: np.ndarray, delay: int) -> np.ndarray:
    """r2 of each row of signals (rotations, signals), given their outcomes, baselines and days."""
    complete = ~np.isnan(outcome)
    past = (at[:, None, :] + delay <= at[:, :, None]) & complete[:, None, :]
    count = past.sum(axis=2)
    total = np.einsum("rij,rj->ri", past, np.where(complete, outcome, 0.0))
    scored = (count >= MIN_EARLIER) & complete & ~np.isnan(baseline)
    forecast = total / np.maximum(count, 1)
    own = np.where(scored, forecast - outcome, 0.0)
    plain = np.where(scored, baseline - outcome, 0.0)
    loss = (plain**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(loss > 0, 1 - (own**2).sum(axis=1) / loss, np.nan)


def prequential_score(
    panel: pd.DataFrame, days: pd.DatetimeIndex, params: Params, horizon_days: int | None = None
) -> PrequentialScore:
    """Score of `prequential` over the signals whose outcome is known; NaN where no signal can be scored."""
    horizon = horizon_days or params.primary_horizon_days
    table = prequential(panel, days, params, horizon).dropna(subset=["error_forecast", "error_baseline"])
    n, delay = len(table), horizon + params.entry_lag_days
    if not n:
        return PrequentialScore(0, *[float("nan")] * 8)
    own, plain = table["error_forecast"].to_numpy() ** 2, table["error_baseline"].to_numpy() ** 2
    wins = int(table["better"].sum())
    t, p = diebold_mariano(plain - own, _overlap(table["date"], delay))
    returns = _sample(panel, horizon, params)
    rows, values = np.flatnonzero(returns.index.isin(days)), returns.to_numpy()
    null = skill_of_rotations(values, rows, delay, np.arange(len(values)))
    return PrequentialScore(
        n=n,
        rmse_forecast=float(np.sqrt(own.mean())),
        rmse_baseline=float(np.sqrt(plain.mean())),
        r2=float(1 - own.sum() / plain.sum()),
        share_better=wins / n,
        p_sign=sign_test(wins, n),
        t_dm=t,
        p_dm=p,
        p_rotation=float((null[~np.isnan(null)] >= null[0] - 1e-12).mean()),
    )
