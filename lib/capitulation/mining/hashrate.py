"""The daily hash rate is an estimate from about 144 random arrivals: means, ribbons, and how far chance moves them.

Blocks arrive as a Poisson process, so a day's hash rate h = c D B (difficulty D known, B blocks counted) has variance
(c D)^2 E[B], estimated by h^2 / B. Days are independent given the true rate; everything else follows by the delta
method. Means are taken over full windows of plain daily values, window by window, so that no result depends on a later
day nor on where the panel starts. Rates are in EH/s, and every daily result has the panel's index `date`.

Hash Ribbons: Charles Edwards, "Hash Ribbons & Bitcoin Bottoms", Capriole Investments, 2019. Miners capitulate while the
30-day mean of hash rate is below the 60-day mean. The error of the gap and its z-value are this suite's own.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import ndtri

from capitulation.errors import InputError
from capitulation.mining.difficulty import BLOCKS_PER_DAY, hash_rate_ehs

DAYS_PER_YEAR = 365
NOISE_SEED = 20260120


def window_sums(values: np.ndarray, days: int) -> np.ndarray:
    """Sum of the last `days` values at each position; NaN where the window is not full or holds a NaN."""
    sums = np.full(len(values), np.nan)
    if len(values) >= days:
        sums[days - 1 :] = np.lib.stride_tricks.sliding_window_view(values, days).sum(axis=1)
    return sums


def rolling_mean(series: pd.Series, days: int) -> pd.Series:
    """Mean of the last `days` values, this day included; missing unless all are known. Unit and index of `series`.

    >>> rolling_mean(pd.Series([1.0, 2.0, 6.0]), 2).tolist()
    [nan, 1.5, 4.0]
    """
    sums = window_sums(series.to_numpy("float64"), days)
    return pd.Series(sums / days, index=series.index, name=series.name)


def growth(series: pd.Series, days: int, mean_days: int = 30) -> pd.Series:
    """Growth (fraction) of the `mean_days`-day mean over `days` days; missing unless both means are known."""
    mean = rolling_mean(series, mean_days)
    past = mean.shift(days)
    return (mean / past.where(past > 0) - 1).rename("growth")


def block_counts(panel: pd.DataFrame) -> pd.Series:
    """Blocks per day on which the noise rests: counted; else hash rate over difficulty; else 144, the protocol's aim.

    The fallbacks serve standard errors only; nothing takes them for data.
    """
    per_block = hash_rate_ehs(panel["difficulty"], 1)
    implied = panel["hash_rate_ehs"] / per_block.where(per_block > 0)
    return panel["block_count"].fillna(implied).fillna(BLOCKS_PER_DAY).rename("block_count")


def daily_variance(panel: pd.DataFrame) -> pd.Series:
    """Variance of the day's hash rate from block luck, (EH/s)^2: h^2 / B, zero where h is."""
    blocks, rate = block_counts(panel), panel["hash_rate_ehs"]
    return (rate**2 / blocks.where(blocks > 0)).mask(rate == 0, 0.0).rename("variance")


def relative_se(panel: pd.DataFrame, days: int) -> pd.Series:
    """Standard error of the `days`-day mean hash rate over that mean (fraction): sqrt(sum h^2/B) / sum h.

    In equilibrium 1/sqrt(144 days): 8.3 % for one day, 1.5 % for 30. Missing where the mean is.
    """
    variance = window_sums(daily_variance(panel).to_numpy(), days)
    total = window_sums(panel["hash_rate_ehs"].to_numpy("float64"), days)
    return pd.Series(np.sqrt(variance) / np.where(total > 0, total, np.nan), index=panel.index, name="relative_se")


def gap_change_se(
    panel: pd.DataFrame, then: pd.Timestamp, now: pd.Timestamp, fast_days: int = 30, slow_days: int = 60
) -> float:
    """Standard error (fraction) of the gap on day `now` minus that on day `then`, days of both windows counted once.

    A month apart the same days weigh on both gaps with opposite signs, so that the difference is noisier than that of
    two independent gaps. Missing where a slow window is not full.
    """
    rate, variance = panel["hash_rate_ehs"].to_numpy("float64"), daily_variance(panel).to_numpy()
    weight = np.zeros(len(rate))  # how much one EH/s more on each day moves the difference
    for sign, day in ((-1, then), (1, now)):
        stop = panel.index.get_loc(day) + 1
        if stop < slow_days:
            return float("nan")
        fast, slow = slice(stop - fast_days, stop), slice(stop - slow_days, stop)
        ratio = sign * rate[fast].mean() / rate[slow].mean()
        weight[fast] += ratio / rate[fast].sum()
        weight[slow] -= ratio / rate[slow].sum()
    return float(np.sqrt((weight[weight != 0] ** 2 * variance[weight != 0]).sum()))


def hash_rate_band(panel: pd.DataFrame, days: int = 30, confidence: float = 0.95) -> pd.DataFrame:
    """Mean hash rate with its band from block luck: columns hash_rate_ehs, low_ehs, high_ehs (EH/s).

    The band is mean * exp(±z se), symmetric in logs, so that it never falls below zero.
    """
    mean = rolling_mean(panel["hash_rate_ehs"], days)
    factor = np.exp(float(ndtri(0.5 + confidence / 2)) * relative_se(panel, days))
    return pd.DataFrame({"hash_rate_ehs": mean, "low_ehs": mean / factor, "high_ehs": mean * factor})


def drawdown(panel: pd.DataFrame, mean_days: int = 30) -> pd.Series:
    """`mean_days`-day mean hash rate over its highest value so far, minus 1 (fraction, <= 0).

    The peak of a noisy series is too high, so a small drawdown is there even in steady growth (`drawdown_noise`).
    """
    mean = rolling_mean(panel["hash_rate_ehs"], mean_days)
    peak = mean.cummax()
    return (mean / peak.where(peak > 0) - 1).rename("hash_rate_drawdown")


def drawdown_se(panel: pd.DataFrame, mean_days: int = 30) -> pd.Series:
    """Standard error of `drawdown` (fraction) by the delta method, for the peak day as found; zero on that day itself.

    With r = mean/peak: r^2 (se_now^2 + se_peak^2 - 2 cov), where cov is the variance of the days that both windows
    share, over the product of the two sums. That the peak was chosen for being high is not in it.
    """
    variance = daily_variance(panel).to_numpy()
    total, var = (window_sums(x, mean_days) for x in (panel["hash_rate_ehs"].to_numpy("float64"), variance))
    at = np.arange(len(total))
    fresh = total > np.fmax.accumulate(np.append(-np.inf, total))[:-1]  # a new peak, its first occurrence
    peak = np.maximum.accumulate(np.where(fresh, at, 0))
    sums = np.cumsum(np.append(0.0, np.nan_to_num(variance)))
    shared = np.clip(sums[peak + 1] - sums[np.maximum(at + 1 - mean_days, 0)], 0, None)
    with np.errstate(invalid="ignore", divide="ignore"):
        squared = var / total**2 + var[peak] / total[peak] ** 2 - 2 * shared / (total * total[peak])
        se = np.where(fresh, 0.0, total / total[peak] * np.sqrt(np.clip(squared, 0, None)))
    return pd.Series(np.where(total > 0, se, np.nan), index=panel.index, name="hash_rate_drawdown_se")


def hash_ribbons(panel: pd.DataFrame, fast_days: int = 30, slow_days: int = 60) -> pd.DataFrame:
    """Both means of hash rate, their gap with its noise, and whether they are inverted.

    Columns: fast, slow (EH/s); gap = fast/slow - 1 and gap_se (fractions); gap_z = gap / se; inverted (boolean:
    fast < slow, <NA> unless both windows are full). gap_se is the delta method's with the days in both windows counted
    once: a day of the fast window moves g = fast/slow by g (1/sum_fast - 1/sum_slow), one of the slow window alone by
    -g / sum_slow. In equilibrium 1.08 % for 30 over 60 days. Raises `InputError` unless fast_days < slow_days.

    >>> hash_ribbons(panel).columns.tolist()
    ['fast', 'slow', 'gap', 'gap_se', 'gap_z', 'inverted']
    """
    if not 0 < fast_days < slow_days:
        raise InputError(f"fast_days={fast_days} must be positive and smaller than slow_days={slow_days}")
    rate, variance = panel["hash_rate_ehs"].to_numpy("float64"), daily_variance(panel).to_numpy()
    sum_fast, sum_slow = window_sums(rate, fast_days), window_sums(rate, slow_days)
    var_fast, var_slow = window_sums(variance, fast_days), window_sums(variance, slow_days)
    fast, slow = sum_fast / fast_days, sum_slow / slow_days
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.where(slow > 0, fast / slow - 1, np.nan)
        old_days = np.clip(var_slow - var_fast, 0, None)
        squared = (1 / sum_fast - 1 / sum_slow) ** 2 * var_fast + (1 / sum_slow) ** 2 * old_days
        se = fast / slow * np.sqrt(squared)
        z = gap / np.where(se > 0, se, np.nan)
    inverted = pd.arrays.BooleanArray(fast < slow, np.isnan(fast) | np.isnan(slow))
    columns = {"fast": fast, "slow": slow, "gap": gap, "gap_se": se, "gap_z": z, "inverted": inverted}
    return pd.DataFrame(columns, index=panel.index)


def ribbon_state(ribbon: pd.DataFrame) -> pd.Series:
    """The day's state from `hash_ribbons`: unknown, expansion, capitulation or recovering.

    Recovering: fast below slow, yet above each of its own last 3 values.

    >>> ribbon_state(hash_ribbons(panel[:"2009-02-15"])).unique().tolist()
    ['unknown']
    """
    fast, inverted = ribbon["fast"], ribbon["inverted"]
    rising = np.logical_and.reduce([fast > fast.shift(lag) for lag in (1, 2, 3)])
    down = inverted.fillna(False).to_numpy(bool)
    names = np.select([inverted.isna(), down & rising, down], ["unknown", "recovering", "capitulation"], "expansion")
    return pd.Series(names, index=ribbon.index, name="ribbon_state")


def _pace(panel: pd.DataFrame) -> float:
    """Log growth of the 30-day mean hash rate over the last year; NaN where it is not known."""
    year = growth(panel["hash_rate_ehs"], DAYS_PER_YEAR)
    return float(np.log1p(year.where(year > -1).iloc[-1]))


def _lucky(pace: float, days: int, runs: int, seed: int) -> pd.DataFrame:
    """Days × runs of hash rate seen through Poisson block counts; the true one grows by `pace` (log, 3 digits)."""
    true = np.exp(round(pace, 3) / DAYS_PER_YEAR * np.arange(days))
    blocks = np.random.default_rng(seed).poisson(BLOCKS_PER_DAY, (runs, days))
    return pd.DataFrame((true * blocks / BLOCKS_PER_DAY).T)


def expected_noise_inversions(
    panel: pd.DataFrame,
    fast_days: int = 30,
    slow_days: int = 60,
    confidence: float = 0.95,
    runs: int = 2000,
    seed: int = NOISE_SEED,
) -> dict[str, float]:
    """Inversions that began in the last year beside those that luck alone gives at the year's own steady growth.

    Keys: days, growth_per_year (log), observed, expected (mean over runs), low, high (interval of the number),
    p_at_least_observed (share of runs with as many or more), share_of_days (expected share of days inverted). All but
    days and observed are missing where growth is not known. Blocks per day are Poisson with mean 144.
    """
    inverted = hash_ribbons(panel, fast_days, slow_days)["inverted"].dropna().astype(bool)
    started = inverted & ~inverted.shift(1, fill_value=False)
    observed = int(started[started.index > panel.index[-1] - pd.Timedelta(days=DAYS_PER_YEAR)].sum())
    pace = _pace(panel)
    result = {"days": DAYS_PER_YEAR, "growth_per_year": pace, "observed": observed}
    if np.isnan(pace):
        return {**result, **dict.fromkeys(("expected", "low", "high", "p_at_least_observed", "share_of_days"), np.nan)}
    seen = _lucky(pace, DAYS_PER_YEAR + slow_days, runs, seed)
    below = (seen.rolling(fast_days).mean() < seen.rolling(slow_days).mean()).to_numpy()[slow_days - 1 :]
    counts = (below[1:] & ~below[:-1]).sum(axis=0)
    tails = [0.5 - confidence / 2, 0.5 + confidence / 2]
    low, high = (float(x) for x in np.quantile(counts, tails, method="closest_observation"))
    expected, p, share = (float(x.mean()) for x in (counts, counts >= observed, below[1:]))
    result |= {"expected": expected, "low": low, "high": high}
    return {**result, "p_at_least_observed": p, "share_of_days": share}


def drawdown_noise(panel: pd.DataFrame) -> pd.DataFrame:
    """Drawdown of hash rate on the panel's last day beside what noise alone shows, for means of 1, 7 and 30 days.

    Columns: mean_days, drawdown, se (`drawdown_se`), noise_median and noise_1_in_20 (of 500 simulated years of steady
    growth at the last year's pace; missing where that is not known). Fractions.
    """
    pace, rows = _pace(panel), []
    for days in (1, 7, 30):
        mean = _lucky(pace, DAYS_PER_YEAR + days, 500, NOISE_SEED).rolling(days).mean()
        luck = (mean.iloc[-1] / mean.max() - 1).quantile([0.5, 0.05])
        rows.append((days, drawdown(panel, days).iloc[-1], drawdown_se(panel, days).iloc[-1], *luck))
    return pd.DataFrame(rows, columns=["mean_days", "drawdown", "se", "noise_median", "noise_1_in_20"])
