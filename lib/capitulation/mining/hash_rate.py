"""The daily hash rate is an estimate from about 144 random arrivals: means, and how far chance alone moves them.

Blocks arrive as a Poisson process, so a day's hash rate h = c D B (difficulty D known, B blocks counted) has variance
(c D)^2 E[B], estimated by h^2 / B. Days are independent given the true rate. Everything below follows by the delta
method. All means are over full windows of plain daily values, computed window by window, so that no result depends on
a later day nor on where the panel starts.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from capitulation.mining.protocol import BLOCKS_PER_DAY, HASHES_PER_DIFFICULTY, HASHES_PER_EXAHASH, SECONDS_PER_DAY


def _window_sums(values: np.ndarray, days: int) -> np.ndarray:
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
    sums = _window_sums(series.to_numpy("float64"), days)
    return pd.Series(sums / days, index=series.index, name=series.name)


def block_counts(panel: pd.DataFrame) -> pd.Series:
    """Blocks per day on which the noise rests, index `date`: counted; else hash rate over difficulty; else 144.

    The last is what the protocol aims at. The fallbacks serve standard errors only; nothing takes them for data.
    """
    per_block = panel["difficulty"] * (HASHES_PER_DIFFICULTY / SECONDS_PER_DAY / HASHES_PER_EXAHASH)
    implied = panel["hash_rate_ehs"] / per_block.where(per_block > 0)
    return panel["block_count"].fillna(implied).fillna(BLOCKS_PER_DAY).rename("block_count")


def daily_variance(panel: pd.DataFrame) -> pd.Series:
    """Variance of the day's hash rate from block luck, (EH/s)^2, index `date`: h^2 / B, zero where B is."""
    blocks = block_counts(panel)
    rate = panel["hash_rate_ehs"]
    variance = rate**2 / blocks.where(blocks > 0)
    return variance.mask(rate == 0, 0.0).rename("variance")


def relative_se(panel: pd.DataFrame, days: int) -> pd.Series:
    """Standard error of the `days`-day mean hash rate over that mean (fraction): sqrt(sum h^2/B) / sum h. Index `date`.

    In equilibrium 1/sqrt(144 days): 8.3 % for one day, 1.5 % for 30. Missing where the mean is.
    """
    variance = _window_sums(daily_variance(panel).to_numpy(), days)
    total = _window_sums(panel["hash_rate_ehs"].to_numpy("float64"), days)
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.Series(np.sqrt(variance) / np.where(total > 0, total, np.nan), index=panel.index, name="relative_se")


def gap_se(panel: pd.DataFrame, fast_days: int = 30, slow_days: int = 60) -> pd.Series:
    """Standard error of fast/slow - 1 (fraction) by the delta method, the shared days counted once. Index `date`.

    With g = fast/slow, a day of the fast window moves g by g (1/sum_fast - 1/sum_slow), one of the slow window alone by
    -g / sum_slow. In equilibrium 1.08 % for 30 over 60 days. Missing where the slow window is not full.
    """
    rate, variance = panel["hash_rate_ehs"].to_numpy("float64"), daily_variance(panel).to_numpy()
    sum_fast, sum_slow = _window_sums(rate, fast_days), _window_sums(rate, slow_days)
    var_fast, var_slow = _window_sums(variance, fast_days), _window_sums(variance, slow_days)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap_ratio = (sum_fast / fast_days) / (sum_slow / slow_days)
        shared, alone = 1 / sum_fast - 1 / sum_slow, 1 / sum_slow
        squared = shared**2 * var_fast + alone**2 * np.clip(var_slow - var_fast, 0, None)
        return pd.Series(gap_ratio * np.sqrt(squared), index=panel.index, name="ribbon_gap_se")


def _gap_weights(rate: np.ndarray, at: int, fast_days: int, slow_days: int) -> np.ndarray:
    """How much one EH/s more on each day moves the gap of the day at position `at`; shape of `rate`."""
    fast, slow = slice(at - fast_days + 1, at + 1), slice(at - slow_days + 1, at + 1)
    ratio = (rate[fast].sum() / fast_days) / (rate[slow].sum() / slow_days)
    weights = np.zeros(len(rate))
    weights[slow] -= ratio / rate[slow].sum()
    weights[fast] += ratio / rate[fast].sum()
    return weights


def gap_change_se(
    panel: pd.DataFrame, then: pd.Timestamp, now: pd.Timestamp, fast_days: int = 30, slow_days: int = 60
) -> float:
    """Standard error (fraction) of the gap on day `now` minus that on day `then`, days of both windows counted once.

    A month apart the same days weigh on both gaps with opposite signs, so that the difference is noisier than that of
    two independent gaps. Missing where a slow window is not full.
    """
    rate, variance = panel["hash_rate_ehs"].to_numpy("float64"), daily_variance(panel).to_numpy()
    at = [panel.index.get_loc(day) for day in (then, now)]
    if min(at) < slow_days - 1:
        return float("nan")
    before, after = (_gap_weights(rate, position, fast_days, slow_days) for position in at)
    moved = np.flatnonzero(after - before)
    return float(np.sqrt(((after - before)[moved] ** 2 * variance[moved]).sum()))


def hash_rate_band(panel: pd.DataFrame, days: int = 30, confidence: float = 0.95) -> pd.DataFrame:
    """Mean hash rate with its band from block luck: columns hash_rate_ehs, low_ehs, high_ehs (EH/s); index `date`.

    The band is mean * exp(±z se), symmetric in logs, so that it never falls below zero.
    """
    from scipy.special import ndtri

    mean, se = rolling_mean(panel["hash_rate_ehs"], days), relative_se(panel, days)
    factor = np.exp(float(ndtri(0.5 + confidence / 2)) * se)
    return pd.DataFrame({"hash_rate_ehs": mean, "low_ehs": mean / factor, "high_ehs": mean * factor})


def drawdown(panel: pd.DataFrame, mean_days: int = 30) -> pd.Series:
    """`mean_days`-day mean hash rate over its highest value so far, minus 1 (fraction, <= 0); index `date`.

    The peak of a noisy series is too high, so a small drawdown is there even in steady growth: see `drawdown_se` and
    `noise.noise_drawdown`.
    """
    mean = rolling_mean(panel["hash_rate_ehs"], mean_days)
    peak = mean.cummax()
    return (mean / peak.where(peak > 0) - 1).rename("hash_rate_drawdown")


def _peak_positions(values: np.ndarray) -> np.ndarray:
    """Position of the running maximum's first occurrence at each position; -1 before the first known value."""
    filled = np.where(np.isnan(values), -np.inf, values)
    peak = np.maximum.accumulate(filled)
    fresh = np.concatenate([[np.isfinite(filled[0])], peak[1:] > peak[:-1]]) if len(values) else np.zeros(0, bool)
    return np.maximum.accumulate(np.where(fresh, np.arange(len(values)), -1))


def drawdown_se(panel: pd.DataFrame, mean_days: int = 30) -> pd.Series:
    """Standard error of `drawdown` (fraction) by the delta method, for the peak day as found; index `date`.

    With r = mean/peak: r^2 (se_now^2 + se_peak^2 - 2 cov), where cov is the variance of the days that both windows
    share, over the product of the two sums. Zero on the peak day itself. That the peak was chosen for being high is
    not in it.
    """
    rate, variance = panel["hash_rate_ehs"].to_numpy("float64"), daily_variance(panel).to_numpy()
    total, var = _window_sums(rate, mean_days), _window_sums(variance, mean_days)
    at = _peak_positions(total)
    known = (at >= 0) & np.isfinite(total) & (total > 0)
    se = np.full(len(rate), np.nan)
    now, peak = np.flatnonzero(known), at[known]
    shared = _shared_variance(variance, now, peak, mean_days)
    squared = var[now] / total[now] ** 2 + var[peak] / total[peak] ** 2 - 2 * shared / (total[now] * total[peak])
    se[now] = total[now] / total[peak] * np.sqrt(np.clip(squared, 0, None))
    se[now[now == peak]] = 0.0
    return pd.Series(se, index=panel.index, name="hash_rate_drawdown_se")


def _shared_variance(variance: np.ndarray, now: np.ndarray, peak: np.ndarray, days: int) -> np.ndarray:
    """Variance summed over the days common to the windows of `days` days that end at `now` and at `peak` <= `now`."""
    shared = np.zeros(len(now))
    for lag in range(days):
        here = now - peak == lag
        shared[here] = _window_sums(variance, days - lag)[peak[here]] if here.any() else 0.0
    return shared
