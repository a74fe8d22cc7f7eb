"""How often chance alone looks like a capitulation: a network that grows steadily, seen through its block counts.

The ribbons invert on block luck when growth is slow: the smaller the growth, the closer both means lie to each other.
The simulation gives the yardstick for the observed number of inversions and for a drawdown from the running peak.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from capitulation.mining.hash_rate import drawdown, drawdown_se, rolling_mean
from capitulation.mining.protocol import BLOCKS_PER_DAY
from capitulation.mining.ribbons import ribbons

DAYS_PER_YEAR = 365
NOISE_RUNS = 2000
NOISE_SEED = 20260120
RUNS_PER_CHUNK = 250
GROWTH_DIGITS = 3
DRAWDOWN_MEANS_DAYS = (1, 7, 30)


@dataclass(frozen=True)
class NoiseInversions:
    """Inversions in `days` days of steady growth: the number in each run (sorted) and the share of days inverted."""

    growth_per_year: float
    days: int
    counts: np.ndarray
    share_of_days: float

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Central interval of the number of inversions."""
        tail = 0.5 - confidence / 2
        low, high = np.quantile(self.counts, [tail, 1 - tail], method="closest_observation")
        return float(low), float(high)

    def at_least(self, observed: int) -> float:
        """Share of runs with `observed` inversions or more."""
        return float(np.mean(self.counts >= observed))


def _steady_hash_rate(growth_per_year: float, days: int, runs: int, rng: np.random.Generator) -> np.ndarray:
    """Runs × days of hash rate measured through Poisson block counts while the true one grows at a constant rate."""
    growth = np.exp(growth_per_year / DAYS_PER_YEAR * np.arange(days))
    return growth * rng.poisson(BLOCKS_PER_DAY, (runs, days)) / BLOCKS_PER_DAY


def _means(values: np.ndarray, days: int) -> np.ndarray:
    """Means over full windows of `days` along the last axis."""
    total = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    return (total[:, days:] - total[:, :-days]) / days


def _inversion_counts(rate: np.ndarray, fast_days: int, slow_days: int) -> tuple[np.ndarray, float]:
    slow = _means(rate, slow_days)
    inverted = _means(rate, fast_days)[:, slow_days - fast_days :] < slow
    return (inverted[:, 1:] & ~inverted[:, :-1]).sum(axis=1), float(inverted[:, 1:].mean())


@lru_cache(maxsize=64)
def noise_inversions(
    growth_per_year: float,
    days: int = DAYS_PER_YEAR,
    fast_days: int = 30,
    slow_days: int = 60,
    runs: int = NOISE_RUNS,
    seed: int = NOISE_SEED,
) -> NoiseInversions:
    """Ribbon inversions that start within `days` days while the true hash rate grows at `growth_per_year` (log).

    Blocks per day are Poisson with mean 144. One seed gives the same numbers; repeated calls are free.
    """
    rng = np.random.default_rng(seed)
    counts, shares = [], []
    for begin in range(0, runs, RUNS_PER_CHUNK):
        size = min(RUNS_PER_CHUNK, runs - begin)
        rate = _steady_hash_rate(growth_per_year, days + slow_days, size, rng)
        count, share = _inversion_counts(rate, fast_days, slow_days)
        counts.append(count)
        shares.append(share * size)
    ordered = np.sort(np.concatenate(counts))
    ordered.flags.writeable = False
    return NoiseInversions(growth_per_year, days, ordered, sum(shares) / runs)


def growth_per_year(panel: pd.DataFrame, days: int = DAYS_PER_YEAR, mean_days: int = 30) -> float:
    """Log growth per year of the `mean_days`-day mean hash rate over the last `days` days; NaN where an end is."""
    mean = rolling_mean(panel["hash_rate_ehs"], mean_days)
    if len(mean) <= days or not mean.iloc[-1 - days] > 0:
        return float("nan")
    return float(np.log(mean.iloc[-1] / mean.iloc[-1 - days]) * DAYS_PER_YEAR / days)


def _observed_inversions(panel: pd.DataFrame, fast_days: int, slow_days: int, days: int) -> int:
    """Inversions that start within the last `days` days of `panel`."""
    table = ribbons(panel, fast_days, slow_days)
    inverted = table["in_capitulation"][table["known"]]
    started = inverted & ~inverted.shift(1, fill_value=False)
    return int(started[started.index > panel.index[-1] - pd.Timedelta(days=days)].sum())


def expected_noise_inversions(
    panel: pd.DataFrame,
    fast_days: int = 30,
    slow_days: int = 60,
    days: int = DAYS_PER_YEAR,
    confidence: float = 0.95,
    runs: int = NOISE_RUNS,
    seed: int = NOISE_SEED,
) -> dict[str, float]:
    """Inversions of the last `days` days beside those that noise alone would give at the growth over the same days.

    Keys: days, growth_per_year (log), observed, expected (mean over runs), low, high (interval of the number),
    p_at_least_observed (share of runs with as many or more), share_of_days (expected share of days inverted). All but
    days and observed are missing where growth is not known.
    """
    growth = growth_per_year(panel, days)
    observed = _observed_inversions(panel, fast_days, slow_days, days)
    result = {"days": days, "growth_per_year": growth, "observed": observed}
    if not np.isfinite(growth):
        return {**result, **dict.fromkeys(("expected", "low", "high", "p_at_least_observed", "share_of_days"), np.nan)}
    noise = noise_inversions(round(growth, GROWTH_DIGITS), days, fast_days, slow_days, runs, seed)
    low, high = noise.interval(confidence)
    return {
        **result,
        "expected": float(noise.counts.mean()),
        "low": low,
        "high": high,
        "p_at_least_observed": noise.at_least(observed),
        "share_of_days": noise.share_of_days,
    }


@lru_cache(maxsize=64)
def noise_drawdown(
    growth_per_year: float, mean_days: int = 30, days: int = DAYS_PER_YEAR, runs: int = 500, seed: int = NOISE_SEED
) -> dict[str, float]:
    """Drawdown of the `mean_days`-day mean from its running peak that noise alone shows in steady growth (fractions).

    Keys: median (over runs, on the last of `days` days) and deepest_5 (one run in twenty is deeper).
    """
    rate = _steady_hash_rate(growth_per_year, days + mean_days, runs, np.random.default_rng(seed))
    mean = _means(rate, mean_days)
    fallen = mean[:, -1] / mean.max(axis=1) - 1
    return {"median": float(np.median(fallen)), "deepest_5": float(np.quantile(fallen, 0.05))}


def drawdown_table(panel: pd.DataFrame, means_days: Iterable[int] = DRAWDOWN_MEANS_DAYS) -> pd.DataFrame:
    """Drawdown of hash rate on the panel's last day beside what noise alone shows, one row per length of mean.

    Columns: mean_days, drawdown, se (`drawdown_se`), noise_median, noise_1_in_20 (`noise_drawdown` at the growth of the
    last year; missing where that is not known). Fractions.
    """
    growth = growth_per_year(panel)
    known = np.isfinite(growth)
    rows = []
    for days in means_days:
        luck = noise_drawdown(round(growth, GROWTH_DIGITS), days) if known else dict.fromkeys(("median", "deepest_5"))
        fallen, error = drawdown(panel, days).iloc[-1], drawdown_se(panel, days).iloc[-1]
        rows.append((days, fallen, error, luck["median"], luck["deepest_5"]))
    columns = ["mean_days", "drawdown", "se", "noise_median", "noise_1_in_20"]
    return pd.DataFrame(rows, columns=columns).astype({"noise_median": float, "noise_1_in_20": float})
