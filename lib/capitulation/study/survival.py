"""How long capitulations last, and the odds that one of a given age ends soon.

Episodes still running are censored, not dropped: leaving them out would make capitulations look shorter than they
are. The estimate takes episodes as exchangeable; with some twenty of them, the interval is the message.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist

import numpy as np
import pandas as pd

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]
ODDS_COLUMNS = ("within_days", "odds", "low", "high", "n_at_risk", "n_ended")


def durations(episodes: pd.DataFrame) -> pd.DataFrame:
    """Observed lengths, `time` (days) and `ended` (bool), one row per episode (columns `days`, `ongoing`).

    An episode that was in the state on its d-th and last known day lasts d days or more; estimators read "censored at
    t" as "longer than t", so its time is d - 1.

    >>> durations(pd.DataFrame({"days": [10, 4], "ongoing": [False, True]})).to_dict("list")
    {'time': [10.0, 3.0], 'ended': [True, False]}
    """
    ongoing = episodes["ongoing"].to_numpy(dtype=bool)
    days = episodes["days"].to_numpy(dtype=float)
    return pd.DataFrame({"time": np.where(ongoing, days - 1, days), "ended": ~ongoing})


def kaplan_meier(sample: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kaplan and Meier's (1958) product limit with Greenwood's error: event times, survival and error after each.

    `sample` as from `durations`. The same numbers as statsmodels' `SurvfuncRight` (tested), without the second that its
    import costs: a terminal that prints the present should not wait for it.

    >>> kaplan_meier(pd.DataFrame({"time": [1.0, 2.0, 2.0], "ended": [True, True, False]}))[1].round(3).tolist()
    [0.667, 0.333]
    """
    time, ended = sample["time"].to_numpy(dtype=float), sample["ended"].to_numpy(dtype=bool)
    events, ends = np.unique(time[ended], return_counts=True)
    at_risk = len(time) - np.searchsorted(np.sort(time), events, side="left")
    survival = np.cumprod(1 - ends / at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = survival * np.sqrt(np.cumsum(ends / (at_risk * (at_risk - ends))))
    return events, survival, error


def log_log_interval(survival: float, standard_error: float, n: int, confidence: float) -> tuple[float, float]:
    """Interval of a survival probability: S ** exp(± z * se / (S * |log S|)), which stays within 0 and 1.

    Where S is 0 or 1 Greenwood's error is 0; the exact binomial bound for 0 of `n` (or all of `n`) is used instead.
    Kalbfleisch and Prentice (1980). Missing in, missing out.

    >>> low, high = log_log_interval(0.5, 0.1, 25, 0.95)
    >>> round(low, 3), round(high, 3)
    (0.295, 0.675)
    """
    if n == 0 or math.isnan(survival):
        return math.nan, math.nan
    tail = ((1 - confidence) / 2) ** (1 / n)
    if survival >= 1:
        return tail, 1.0
    if survival <= 0:
        return 0.0, 1 - tail
    spread = NormalDist().inv_cdf((1 + confidence) / 2) * standard_error / (survival * abs(math.log(survival)))
    return survival ** math.exp(spread), survival ** math.exp(-spread)


def survival_curve(episodes: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Kaplan-Meier curve of episode length: `days`, `survival`, `low`, `high`, `n_at_risk`; starts at day 0 with 1.

    `survival` at d is the probability to last longer than d days. Empty beyond day 0 where no episode ended.
    """
    sample = durations(episodes)
    sample = sample[sample["time"] > 0]
    first = {"days": 0.0, "survival": 1.0, "low": 1.0, "high": 1.0, "n_at_risk": len(sample)}
    if not sample["ended"].any():
        return pd.DataFrame([first])
    from statsmodels.duration.survfunc import SurvfuncRight

    curve, n = SurvfuncRight(sample["time"].to_numpy(), sample["ended"].to_numpy().astype(int)), len(sample)
    bounds = [log_log_interval(s, e, n, confidence) for s, e in zip(curve.surv_prob, curve.surv_prob_se, strict=True)]
    low, high = np.array(bounds).T
    rows = pd.DataFrame({"days": curve.surv_times, "survival": curve.surv_prob, "low": low, "high": high})
    rows["n_at_risk"] = np.asarray(curve.n_risk, dtype=int)
    return pd.concat([pd.DataFrame([first]), rows], ignore_index=True)


def recovery_odds(
    episodes: pd.DataFrame, age_days: int, within: Iterable[int] = (30, 60, 90), confidence: float = 0.95
) -> pd.DataFrame:
    """Odds that an episode on its `age_days`-th day is over within so many more days, given that it has lasted so long.

    P(T <= age - 1 + h | T >= age), Kaplan-Meier among the episodes that reached that age, interval by the log-log
    rule. The episode in question, censored at its age, carries no information on this and is not counted.

    Returns columns `within_days`, `odds` (fraction), `low`, `high`, `n_at_risk` (episodes that reached the age) and
    `n_ended` (those of them that ended in time). Odds are missing where no episode reached the age, or where the last
    known one is censored earlier.
    """
    sample = durations(episodes)
    sample = sample[sample["time"] > age_days - 1].assign(time=lambda frame: frame["time"] - (age_days - 1))
    curve = kaplan_meier(sample)
    rows = [_odds_within(sample, curve, int(horizon), confidence) for horizon in within]
    return pd.DataFrame(rows, columns=list(ODDS_COLUMNS))


def _odds_within(sample: pd.DataFrame, curve: Curve, horizon: int, confidence: float) -> tuple:
    """One row of `recovery_odds`."""
    n_ended = int((sample["ended"] & (sample["time"] <= horizon)).sum())
    survival, error = _survival_at(sample, curve, horizon)
    low, high = log_log_interval(survival, error, len(sample), confidence)
    return horizon, 1 - survival, 1 - high, 1 - low, len(sample), n_ended


def _survival_at(sample: pd.DataFrame, curve: Curve, horizon: int) -> tuple[float, float]:
    """Estimate and Greenwood error of lasting longer than `horizon`; missing beyond the last censored time."""
    known_to = sample["time"].max() if len(sample) else 0
    times, survivals, errors = curve
    before = int(np.searchsorted(times, horizon, side="right"))
    survival = 1.0 if before == 0 else float(survivals[before - 1])
    if len(sample) == 0 or (horizon > known_to and survival > 0):
        return math.nan, math.nan
    return survival, 0.0 if before == 0 else float(errors[before - 1])
