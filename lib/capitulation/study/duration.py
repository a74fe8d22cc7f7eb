"""How long capitulations last, the odds that one of a given age ends soon, and how often the next one follows soon.

Episodes still running are censored, not dropped: leaving them out would make capitulations look shorter than they
are. The estimate takes episodes as exchangeable; with some twenty of them, the interval is the message.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import NormalDist

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from capitulation.mining.episodes import ALL_AND_EACH, of_grade
from capitulation.study.returns import SINCE


def lifetimes(episodes: pd.DataFrame, after: int = 0) -> pd.DataFrame:
    """Observed lengths beyond `after` days, `time` and `ended`, of the episodes (`days`, `ongoing`) that lasted longer.

    One still running on its d-th day lasts d days or more; "censored at t" means "longer than t", so its time is d - 1;
    one of which nobody knows whether it is still running counts the same.
    """
    ongoing = episodes["ongoing"].astype("boolean").fillna(True).to_numpy(bool)
    sample = pd.DataFrame({"time": episodes["days"].astype(float) - ongoing - after, "ended": ~ongoing})
    return sample[sample["time"] > 0]


def _tail(n: int, confidence: float) -> float:
    """The share q with q ** n = (1 - confidence) / 2: what n cases of n (or none of n) cannot exclude."""
    return ((1 - confidence) / 2) ** (1 / max(n, 1))


def kaplan_meier(sample: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Kaplan and Meier's (1958) product limit: a row for day 0, and one per day on which an episode ended.

    `sample` as from `lifetimes`. Columns: `days`; `survival`, the probability to last longer, S(d) = product over
    t <= d of (1 - ended(t) / at risk(t)); its log-log interval `low`, `high` = S ** exp(±z * se / (S |log S|)), se
    Greenwood's (Kalbfleisch and Prentice 1980), where S is 0 the exact binomial bound; `n_at_risk`.
    """
    time, ended = sample["time"].to_numpy(), sample["ended"].to_numpy(dtype=bool)
    days, ends = np.unique(np.append(time[ended], 0.0), return_counts=True)
    ends[0] = 0  # nobody ends on day 0
    at_risk = len(time) - np.searchsorted(np.sort(time), days, side="left")
    with np.errstate(divide="ignore", invalid="ignore"):
        survival = np.append(1.0, np.cumprod(1 - ends[1:] / at_risk[1:]))
        error = np.sqrt(np.cumsum(ends / (at_risk * (at_risk - ends)))) / np.abs(np.log(survival))
        spread = np.exp(NormalDist().inv_cdf((1 + confidence) / 2) * error)
        low, high = survival**spread, survival ** (1 / spread)
    low[0] = high[0] = 1.0
    low[survival <= 0], high[survival <= 0] = 0.0, 1 - _tail(len(time), confidence)
    return pd.DataFrame({"days": days, "survival": survival, "low": low, "high": high, "n_at_risk": at_risk})


def survival_curve(episodes: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """`kaplan_meier` of the episodes' length: the share `survival` of them lasts longer than so many days.

    >>> survival_curve(pd.DataFrame({"days": [1, 3], "ongoing": [False, False]}))["survival"].tolist()
    [1.0, 0.5, 0.0]
    """
    return kaplan_meier(lifetimes(episodes), confidence)


def recovery_odds(
    episodes: pd.DataFrame, age_days: int, within: Iterable[int] = (30, 60, 90), confidence: float = 0.95
) -> pd.DataFrame:
    """Odds that an episode on its `age_days`-th day is over within so many more days, given that it has lasted so long.

    P(T <= age - 1 + h | T >= age), Kaplan-Meier among the other episodes that reached that age; where none of them has
    ended by then, the exact binomial bound. Columns `within_days`, `odds` (fraction), `low`, `high`, `n_at_risk`
    (episodes that reached the age), `n_ended` (in time). Missing where no episode reached the age, or where the last
    known one is censored earlier.

    >>> recovery_odds(pd.DataFrame({"days": [5, 20, 40], "ongoing": False}), 11, within=[30])["odds"].tolist()
    [1.0]
    """
    sample, rows = lifetimes(episodes, age_days - 1), []
    curve, n = kaplan_meier(sample, confidence), len(sample)
    for horizon in map(int, within):
        survival, low, high = curve.loc[curve["days"] <= horizon, ["survival", "low", "high"]].iloc[-1]
        low = _tail(n, confidence) if survival == 1 else low
        if not n or (horizon > sample["time"].max() and survival > 0):
            survival = low = high = np.nan
        n_ended = int((sample["ended"] & (sample["time"] <= horizon)).sum())
        rows.append((horizon, 1 - survival, 1 - high, 1 - low, n, n_ended))
    return pd.DataFrame(rows, columns=["within_days", "odds", "low", "high", "n_at_risk", "n_ended"])


def relapse(
    episodes: pd.DataFrame,
    last_day: pd.Timestamp,
    within: Iterable[int] = (14, 30, 90),
    since: str = SINCE,
    confidence: float = 0.95,
    unknown: Iterable[pd.Timestamp] = (),
) -> pd.DataFrame:
    """How often a recovery was not the end: the next capitulation started at most k days after it (relapse.csv).

    `episodes`: one rule's (`start`, `end`, `grade`). Counted are recoveries since `since` whose k days are all known,
    `last_day` being the last day of known state and `unknown` days before it whose state is not known: an early relapse
    alone would enter the shares of recoveries whose k days are not known, and no others. Columns: within_days k; grade
    (all, then each of `GRADES`) of the episode that ended; n; relapsed; share, with the exact binomial interval low,
    high (Clopper and Pearson 1934), which takes recoveries as independent; missing without any.

    >>> days = pd.to_datetime(["2020-01-01", "2020-02-01", "2020-02-20", "2020-06-01"])
    >>> found = pd.DataFrame({"start": days[::2], "end": days[1::2], "grade": "real"})
    >>> relapse(found, pd.Timestamp("2020-06-05"), within=[30]).iloc[0].astype(str).tolist()[:5]
    ['30', 'all', '1', '1', '1.0']
    """
    ended, rows = episodes["end"] >= (since or "1900"), []
    gap = (episodes["start"].shift(-1) - episodes["end"]).dt.days
    holes = np.append(pd.DatetimeIndex(unknown).to_numpy("datetime64[ns]"), np.datetime64("NaT"))
    until_hole = (holes[holes[:-1].searchsorted(episodes["end"], side="right")] - episodes["end"]).dt.days
    for days in map(int, within):
        known = ended & ((last_day - episodes["end"]).dt.days >= days) & ~(until_hole <= days)
        for grade in ALL_AND_EACH:
            own = gap[of_grade(episodes[known], grade).index]
            rows.append((days, grade, len(own), int((own <= days).sum())))
    table = pd.DataFrame(rows, columns=["within_days", "grade", "n", "relapsed"])
    n, k, tail = table["n"], table["relapsed"], (1 - confidence) / 2
    table["share"] = k / n
    table["low"] = np.where(k > 0, betaincinv(k, n - k + 1, tail), 0.0)
    table["high"] = np.where(k < n, betaincinv(k + 1, n - k, 1 - tail), 1.0)
    table.loc[n == 0, ["low", "high"]] = np.nan
    return table
