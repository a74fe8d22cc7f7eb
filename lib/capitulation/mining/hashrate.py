"""The daily hash rate is an estimate from about 144 random arrivals: means, ribbons, and how far chance moves them.

Blocks arrive as a Poisson process, so a day's hash rate h = c D B (difficulty D known, B blocks counted) has variance
(c D)^2 E[B], estimated by h^2 / B; days are independent given the true rate, and the rest is the delta method. Results
have the panel's index `date` and rates in EH/s. Every mean is summed afresh, so that none depends on a later day nor on
where the panel starts; it stands for its window with up to a tenth of the days missing, and its error, which comes from
the blocks of the known days, grows accordingly. Hash Ribbons: Charles Edwards, "Hash Ribbons & Bitcoin Bottoms",
Capriole Investments, 2019; the gap's error is our own.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.special import gammainc, gammaincc, gammaincinv

from capitulation.data.panel import HASHES_PER_DIFFICULTY, HASHES_PER_EXAHASH, TARGET_BLOCK_SECONDS
from capitulation.errors import InputError
from capitulation.mining.difficulty import BLOCKS_PER_DAY, hash_rate_ehs

PULSE_COLUMNS = ["n_blocks", "from_time", "to_time", "hours", "expected_hours", "pace", "pace_low", "pace_high", "p"]
PULSE_COLUMNS += ["hash_rate_ehs", "hash_rate_low_ehs", "hash_rate_high_ehs", "difficulty_expects_ehs"]
KNOWN_SHARE = 0.9  # of a window: with fewer days its mean is not known


def _windows(series: pd.Series, days: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the known ones of the last `days` values on each day; a missing sum where too few are known.

    A window is known with nine tenths of its values, the first of the series not before it.
    """
    values = series.to_numpy("float64")
    known = np.isfinite(values)
    padded = np.append(np.zeros(days), np.where(known, values, 0.0))
    sums = np.lib.stride_tricks.sliding_window_view(padded, days)[1:].sum(axis=1)
    running = np.append(np.zeros(days), known.cumsum())
    n = running[days:] - running[:-days]
    full = np.arange(len(values)) >= (known.argmax() + days - 1 if known.any() else np.inf)
    return np.where(full & (n >= KNOWN_SHARE * days), sums, np.nan), n


def rolling_mean(series: pd.Series, days: int) -> pd.Series:
    """Mean of the last `days` values, this day included; unit and index of `series`.

    Up to a tenth of them may be missing, then it is the mean of the others; with more, and before the first full
    window of the series, it is missing.

    >>> rolling_mean(pd.Series([1.0, 2.0, 6.0]), 2).tolist()
    [nan, 1.5, 4.0]
    >>> rolling_mean(pd.Series([1.0] * 9 + [None, 2.0]), 10).tolist()[-2:]
    [1.0, 1.1111111111111112]
    """
    total, n = _windows(series, days)
    return pd.Series(total / n, index=series.index, name=series.name)


def growth(series: pd.Series, days: int, mean_days: int = 30) -> pd.Series:
    """Growth (fraction) of the `mean_days`-day mean over `days` days; missing unless both means are known."""
    mean = rolling_mean(series, mean_days)
    return (mean / mean.where(mean > 0).shift(days) - 1).rename("growth")


def block_counts(panel: pd.DataFrame) -> pd.Series:
    """Blocks per day on which errors (and nothing else) rest: counted; else hash rate over difficulty; else 144."""
    per_block = hash_rate_ehs(panel["difficulty"], 1)
    implied = panel["hash_rate_ehs"] / per_block.where(per_block > 0)
    return panel["block_count"].fillna(implied).fillna(BLOCKS_PER_DAY).rename("block_count")


def daily_variance(panel: pd.DataFrame) -> pd.Series:
    """Variance of the day's hash rate from block luck, (EH/s)^2: h^2 / B, zero where h is."""
    blocks, rate = block_counts(panel), panel["hash_rate_ehs"]
    return (rate**2 / blocks.where(blocks > 0)).mask(rate == 0, 0.0).rename("variance")


def _sums(panel: pd.DataFrame, *windows: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Hash rate and its variance, summed over the known ones of the last so many days, and their number."""
    rate, variance = panel["hash_rate_ehs"], daily_variance(panel)
    return [(*_windows(rate, days), _windows(variance, days)[0]) for days in windows]


def relative_se(panel: pd.DataFrame, days: int) -> pd.Series:
    """Error of the `days`-day mean hash rate (fraction): sqrt(sum h^2/B) / sum h, at 144 blocks 1/sqrt(144 days)."""
    [(total, _, variance)] = _sums(panel, days)
    return pd.Series(np.sqrt(variance) / np.where(total > 0, total, np.nan), index=panel.index, name="relative_se")


def drawdown(panel: pd.DataFrame, mean_days: int = 30) -> pd.Series:
    """`mean_days`-day mean hash rate over its highest value so far, minus 1 (fraction)."""
    mean = rolling_mean(panel["hash_rate_ehs"], mean_days)
    peak = mean.cummax()
    return (mean / peak.where(peak > 0) - 1).rename("hash_rate_drawdown")


def drawdown_se(panel: pd.DataFrame, mean_days: int = 30) -> pd.Series:
    """Standard error of `drawdown` (fraction) by the delta method, for the peak day as found; zero on that day itself.

    Squared: r^2 (se_now^2 + se_peak^2 - 2 cov), r = mean/peak, cov the variance of the days in both windows over the
    product of both sums. That the peak was chosen for being high is not in it.
    """
    [(total, n, var)] = _sums(panel, mean_days)
    at, mean = np.arange(len(total)), total / np.maximum(n, 1)
    fresh = mean > np.fmax.accumulate(np.append(-np.inf, mean))[:-1]  # a new peak, its first occurrence
    peak = np.maximum.accumulate(np.where(fresh, at, 0))
    sums = np.append(0.0, daily_variance(panel).fillna(0.0).cumsum())
    shared = np.clip(sums[peak + 1] - sums[np.maximum(at + 1 - mean_days, 0)], 0, None)
    with np.errstate(invalid="ignore", divide="ignore"):
        squared = var / total**2 + var[peak] / total[peak] ** 2 - 2 * shared / (total * total[peak])
        se = np.where(fresh, 0.0, mean / mean[peak] * np.sqrt(np.clip(squared, 0, None)))
    return pd.Series(np.where(total > 0, se, np.nan), index=panel.index, name="hash_rate_drawdown_se")


def hash_ribbons(panel: pd.DataFrame, fast_days: int = 30, slow_days: int = 60) -> pd.DataFrame:
    """Columns fast, slow (EH/s); gap = fast/slow - 1, its error gap_se (fractions), gap_z = gap / gap_se; inverted.

    inverted: fast < slow, boolean, <NA> unless both means are known. gap_se counts days of both windows once: one EH/s
    more in the fast window moves g = fast/slow by g (1/sum_fast - 1/sum_slow), in the slow one alone by -g / sum_slow;
    1.08 % at a steady rate, 30 over 60 days. Raises `InputError` unless 0 < fast_days < slow_days.

    >>> hash_ribbons(panel).columns.tolist()
    ['fast', 'slow', 'gap', 'gap_se', 'gap_z', 'inverted']
    """
    if not 0 < fast_days < slow_days:
        raise InputError(f"fast_days={fast_days} must be positive and smaller than slow_days={slow_days}")
    (sum_fast, n_fast, var_fast), (sum_slow, n_slow, var_slow) = _sums(panel, fast_days, slow_days)
    with np.errstate(invalid="ignore", divide="ignore"):
        fast, slow = sum_fast / n_fast, sum_slow / n_slow
        gap = np.where(slow > 0, fast / slow - 1, np.nan)
        slow_alone = (1 / sum_slow) ** 2 * np.clip(var_slow - var_fast, 0, None)
        se = fast / slow * np.sqrt((1 / sum_fast - 1 / sum_slow) ** 2 * var_fast + slow_alone)
        z = gap / np.where(se > 0, se, np.nan)
    inverted = pd.arrays.BooleanArray(fast < slow, np.isnan(fast) | np.isnan(slow))
    columns = {"fast": fast, "slow": slow, "gap": gap, "gap_se": se, "gap_z": z, "inverted": inverted}
    return pd.DataFrame(columns, index=panel.index)


def ribbon_state(ribbon: pd.DataFrame) -> pd.Series:
    """State of each day of `hash_ribbons`: unknown, expansion, capitulation, recovering (fast above its last 3 values).

    >>> ribbon_state(hash_ribbons(panel[:"2009-02-15"])).unique().tolist()
    ['unknown']
    """
    fast, inverted = ribbon["fast"], ribbon["inverted"]
    rising = np.logical_and.reduce([fast > fast.shift(lag) for lag in (1, 2, 3)])
    down = inverted.fillna(False).to_numpy(bool)
    names = np.select([inverted.isna(), down & rising, down], ["unknown", "recovering", "capitulation"], "expansion")
    return pd.Series(names, index=ribbon.index, name="ribbon_state")


def pulse(blocks: pd.DataFrame, counts: Iterable[int] = (144, 2016), confidence: float = 0.95) -> pd.DataFrame:
    """How long the last n blocks took against what their difficulty expects, a row per n of `counts`.

    `blocks` as `data.headers.blocks`, one row a block: `clock` (median time past, UTC) and `difficulty`. Columns:
    n_blocks; from_time and to_time (clock of the block before these n, and of the last); hours between them;
    expected_hours (n * 10 minutes); pace = expected/hours with pace_low and pace_high; p; hash_rate_ehs = sum of
    difficulty * 2^32 / seconds with hash_rate_low_ehs and hash_rate_high_ehs; difficulty_expects_ehs (at pace 1).

    Blocks that arrive at random at r times the pace their difficulty expects take T with 2 r T / 600 s ~ chi-square
    of 2n degrees: pace times its quantiles / 2n is an exact interval of r, and p the exact two-sided one of r = 1, also
    where difficulty changes among the n (Epstein and Sobel, "Life Testing", JASA 48, 1953). The hash rate's interval
    is the pace's, exact where difficulty stays. A row is left out where a height, a difficulty or one of both times is
    missing, or the clock stands still. Raises `InputError` unless every n is at least 1 and confidence in (0, 1).

    >>> found = pd.DataFrame({"clock": pd.date_range("2026-03-01", periods=145, freq="9min"), "difficulty": 1e14})
    >>> pulse(found)[["n_blocks", "hours", "pace", "pace_low", "pace_high", "p"]].round(2).to_dict("records")
    [{'n_blocks': 144, 'hours': 21.6, 'pace': 1.11, 'pace_low': 0.94, 'pace_high': 1.3, 'p': 0.22}]
    """
    counts = list(counts)
    if min(counts, default=1) < 1 or not 0 < confidence < 1:
        raise InputError(f"counts={counts} must be 1 or more, confidence={confidence} between 0 and 1")
    rows, tails = [], np.array([1 - confidence, 1 + confidence]) / 2
    for n in counts:
        window = blocks.tail(n + 1)
        difficulty, span = window["difficulty"].iloc[1:], window.index[-1] - window.index[0] if len(window) else 0
        whole = span == n == len(difficulty) and difficulty.notna().all()
        start, end = window["clock"].iloc[[0, -1]] if whole else (pd.NaT, pd.NaT)
        if not end > start:
            continue
        seconds, planned = (end - start).total_seconds(), n * TARGET_BLOCK_SECONDS
        ends = gammaincinv(n, tails) / n
        p = 2 * min(tail(n, seconds / TARGET_BLOCK_SECONDS) for tail in (gammainc, gammaincc))
        hashes = difficulty.sum() * HASHES_PER_DIFFICULTY / HASHES_PER_EXAHASH
        times = (n, start, end, seconds / 3600, planned / 3600)
        pace, rate = planned / seconds, hashes / seconds
        rows.append((*times, pace, *pace * ends, min(p, 1.0), rate, *rate * ends, hashes / planned))
    return pd.DataFrame(rows, columns=PULSE_COLUMNS)
