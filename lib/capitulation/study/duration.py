"""How long capitulations last, the odds that the ribbons turn soon, and how often the next one follows soon.

Odds come in two kinds. By the age of a capitulation alone: Kaplan-Meier, in which episodes still running are censored,
not dropped, which would make capitulations look shorter than they are; it takes episodes as exchangeable, and noise
inversions and the falls of 2009 are not. From where hash rate stands now: `turn_odds`. `forecasts` scores both.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from capitulation.mining.episodes import ALL_AND_EACH
from capitulation.mining.hashrate import hash_ribbons, rolling_mean
from capitulation.study.returns import SINCE

WITHIN, RELAPSE_DAYS = (30, 60, 90), 30
LEVEL_DAYS = 7  # the mean from which hash rate moves on: a whole week, in which no weekday counts twice
TIE = 1e-9  # of that mean: the ribbons' means that differ by less are equal, and equal ones are not inverted
MIN_PATHS = 365  # fewer earlier days give no odds
DAYS_AT_ONCE = 64  # whose paths stay in the processor's cache


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


def binomial_interval(k: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> np.ndarray:
    """The exact interval of a share k / n (Clopper and Pearson 1934), shape (2, ...); NaN where n is 0.

    >>> binomial_interval(0, 10).round(3).tolist()
    [0.0, 0.308]
    """
    k, n, tail = np.asarray(k, dtype=float), np.asarray(n, dtype=float), (1 - confidence) / 2
    low = np.where(k > 0, betaincinv(k, n - k + 1, tail), 0.0)
    return np.where(n > 0, [low, np.where(k < n, betaincinv(k + 1, n - k, 1 - tail), 1.0)], np.nan)


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
    episodes: pd.DataFrame, age_days: int, within: Iterable[int] = WITHIN, confidence: float = 0.95
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


def turn_odds(
    panel: pd.DataFrame, fast_days: int = 30, slow_days: int = 60, within: Iterable[int] = WITHIN, since: str = ""
) -> pd.DataFrame:
    """Odds that the ribbons turn within so many days: the share of earlier days after which they would have.

    On day t the last slow_days of hash rate are known. Let it move on from its last weekly mean as it did after each
    earlier day whose next max(`within`) days are past by t, and see whether the means cross: fast at or above slow in a
    capitulation, below it in an expansion. So the gap, its age and the hash rate that is needed all count, and so does
    block luck, which the earlier days had too. Index: days from `since` on; columns odds_30d and so on (fractions);
    missing where a mean is, or with fewer than 365 such days. A missing day counts as the weekly mean before it.

    >>> turn_odds(panel.iloc[:800]).dropna().iloc[-1].is_monotonic_increasing
    True
    """
    within, ahead = [*within], max(within)
    level = rolling_mean(panel["hash_rate_ehs"], LEVEL_DAYS)
    rate = panel["hash_rate_ehs"].fillna(level.ffill()).fillna(0.0)
    inverted = hash_ribbons(panel, fast_days, slow_days)["inverted"]
    level, sums, n = level.where(level > 0).to_numpy(), np.append(0.0, rate.cumsum()), len(panel)
    steps, earlier = np.arange(1, ahead + 1)[:, None], np.flatnonzero(np.isfinite(level))
    asked = np.flatnonzero(inverted.notna() & np.isfinite(level) & (panel.index >= (since or "1900")))
    usable = earlier.searchsorted(asked - ahead, side="right")  # so many of `earlier` have their next days in the past
    asked, usable = asked[usable >= MIN_PATHS], usable[usable >= MIN_PATHS]

    def mean_to_come(days: int) -> np.ndarray:
        """What the next 1 … ahead days add to the mean over `days`, shape (ahead, earlier); past the end the last's."""
        stop, start = earlier + 1 + steps, earlier + 1 + np.maximum(steps - days, 0)
        return (sums[np.minimum(stop, n)] - sums[np.minimum(start, n)]) / days

    def mean_so_far(days: int) -> np.ndarray:
        """What of the days up to each of `asked` is left in that mean after 1 … ahead days, shape (ahead, asked)."""
        return (sums[asked + 1] - sums[np.clip(asked + 1 - days + steps, 0, asked + 1)]) / days

    moved = (mean_to_come(fast_days) - mean_to_come(slow_days)) / level[earlier]
    needed = (mean_so_far(slow_days) - mean_so_far(fast_days)) / level[asked] - TIE
    # From slow_days on nothing of the days up to t is left, so all ask the same. Before, millions of figures are
    # compared, and their ranks, in two bytes, say which is higher as well.
    rank = np.empty((min(ahead, slow_days - 1), len(earlier)), "int16")
    enough = np.empty((len(rank), len(asked)), "int16")  # the lowest rank that is not below what is needed
    for step, figures in enumerate(moved[: len(rank)]):
        order = figures.argsort()
        rank[step, order], enough[step] = np.arange(len(order)), figures[order].searchsorted(needed[step])
    odds, ends = {days: np.full(n, np.nan) for days in within}, inverted.iloc[asked].to_numpy(bool)
    for turns, at in ((np.greater_equal, np.flatnonzero(ends)), (np.less, np.flatnonzero(~ends))):
        for first in range(0, len(at), DAYS_AT_ONCE):
            some, done = at[first : first + DAYS_AT_ONCE], 0
            paths = usable[some[-1]]
            crossed = np.zeros((len(some), paths), dtype=bool)
            for days in sorted(odds):
                for step in range(done, min(days, len(rank))):
                    crossed |= turns(rank[step, :paths], enough[step, some, None])
                done = days
                found = crossed | turns(moved[slow_days - 1 : days, :paths], -TIE).any(axis=0)
                counts = [np.count_nonzero(row[:own]) for row, own in zip(found, usable[some], strict=True)]
                odds[days][asked[some]] = counts / usable[some]
    return pd.DataFrame({f"odds_{days}d": odds[days] for days in within}, panel.index).loc[since or None :]


def turned(inverted: pd.Series, days: int) -> pd.Series:
    """Whether the state of each day is another within `days` days: 1.0 or 0.0, missing while nobody can know.

    `inverted`: boolean, <NA> where unknown. Unknown days are passed over; that a state has not turned is known only
    where it is known on the last of the `days`.

    >>> turned(pd.Series([True, True, False, False], pd.date_range("2020-01-01", periods=4)), 1).tolist()
    [0.0, 1.0, 0.0, nan]
    """
    known = inverted.dropna().astype(bool)
    edges = known.index[known.ne(known.shift()) & known.shift().notna()]
    following = edges.append(pd.DatetimeIndex([pd.NaT]))[edges.searchsorted(known.index, side="right")]
    wait = pd.Series((following - known.index).days, known.index).reindex(inverted.index)
    decided = (wait <= days) | (inverted.notna() & inverted.shift(-days).notna())
    return (wait <= days).astype(float).where(decided).rename(f"turned_{days}d")


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
    ended, rows = (episodes["end"] >= (since or "1900")).to_numpy(), []
    gap, grades = (episodes["start"].shift(-1) - episodes["end"]).dt.days.to_numpy(), episodes["grade"].to_numpy()
    left = (last_day - episodes["end"]).dt.days.to_numpy()
    holes = np.append(pd.DatetimeIndex(unknown).to_numpy("datetime64[ns]"), np.datetime64("NaT"))
    until_hole = (holes[holes[:-1].searchsorted(episodes["end"], side="right")] - episodes["end"]).dt.days.to_numpy()
    for days in map(int, within):
        known = ended & (left >= days) & ~(until_hole <= days)
        for grade in ALL_AND_EACH:
            own = gap[known & ((grades == grade) | (grade == "all"))]
            rows.append((days, grade, len(own), int((own <= days).sum())))
    table = pd.DataFrame(rows, columns=["within_days", "grade", "n", "relapsed"])
    table["share"] = table["relapsed"] / table["n"]
    table["low"], table["high"] = binomial_interval(table["relapsed"], table["n"], confidence)
    return table
