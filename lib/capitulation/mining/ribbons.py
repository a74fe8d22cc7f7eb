"""Hash Ribbons: a fast and a slow mean of hash rate, and the daily state that they give.

Source: Charles Edwards, "Hash Ribbons & Bitcoin Bottoms", Capriole Investments, 2019: miners capitulate while the
30-day mean of hash rate is below the 60-day mean. The error of the gap and its z-value are this suite's own.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from capitulation.errors import InputError
from capitulation.mining.hash_rate import gap_se, rolling_mean

RIBBON_STATES = ("unknown", "expansion", "capitulation", "recovering")
RISING_DAYS = 3


def _above_last(series: pd.Series, days: int) -> pd.Series:
    """Whether each value is above each of the `days` values before it (False where any is missing)."""
    above = [series > series.shift(lag) for lag in range(1, days + 1)]
    return np.logical_and.reduce(above)


def _ribbon_state(known: pd.Series, inverted: pd.Series, rising: np.ndarray) -> np.ndarray:
    return np.select([~known, inverted & rising, inverted], ["unknown", "recovering", "capitulation"], "expansion")


def ribbons(panel: pd.DataFrame, fast_days: int = 30, slow_days: int = 60) -> pd.DataFrame:
    """Both means, their gap with its noise, and the state of each day; index `date` as in `panel`.

    Columns: hash_rate_fast_ehs, hash_rate_slow_ehs (EH/s); ribbon_gap = fast/slow - 1, ribbon_gap_se (fractions);
    ribbon_gap_z = gap / se; in_capitulation (bool: fast < slow); known (bool: both windows full); ribbon_state:
    unknown, expansion, capitulation, or recovering (fast < slow, yet above each of its own last 3 values).
    An unknown day is never in capitulation. Raises `InputError` unless fast_days < slow_days.
    """
    if not 0 < fast_days < slow_days:
        raise InputError(f"fast_days={fast_days} must be positive and smaller than slow_days={slow_days}")
    rate = panel["hash_rate_ehs"]
    fast, slow = rolling_mean(rate, fast_days), rolling_mean(rate, slow_days)
    known = fast.notna() & slow.notna()
    inverted = (fast < slow) & known
    gap, se = fast / slow.where(slow > 0) - 1, gap_se(panel, fast_days, slow_days)
    return pd.DataFrame(
        {
            "hash_rate_fast_ehs": fast,
            "hash_rate_slow_ehs": slow,
            "ribbon_gap": gap,
            "ribbon_gap_se": se,
            "ribbon_gap_z": gap / se.where(se > 0),
            "in_capitulation": inverted,
            "known": known,
            "ribbon_state": _ribbon_state(known, inverted, _above_last(fast, RISING_DAYS)),
        },
        index=panel.index,
    )
