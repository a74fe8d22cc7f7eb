"""Bitcoin's consensus numbers, and the few formulas that follow from them alone.

Everything else in this package is an estimate; what stands here is exact. Sources: Nakamoto (2008), "Bitcoin: A
Peer-to-Peer Electronic Cash System"; the consensus rules in Bitcoin Core (`GetBlockSubsidy`,
`CalculateNextWorkRequired`).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from capitulation.errors import DataError
from capitulation.paths import reference_folder

RETARGET_BLOCKS = 2016
TARGET_BLOCK_SECONDS = 600
SECONDS_PER_DAY = 86_400
BLOCKS_PER_DAY = SECONDS_PER_DAY / TARGET_BLOCK_SECONDS
HASHES_PER_DIFFICULTY = 2**32
HASHES_PER_EXAHASH = 1e18
HALVING_BLOCKS = 210_000
MAX_RETARGET_FACTOR = 4
FIRST_SUBSIDY_SATOSHIS = 50 * 10**8
SATOSHIS_PER_BTC = 10**8
MAX_HALVINGS = 64
GENESIS_YEAR = 2009


def subsidy_btc(height: float | np.ndarray | pd.Series) -> float | np.ndarray | pd.Series:
    """New coins of the block at `height` (BTC): 50, halved every 210,000 blocks in whole satoshis; missing as given.

    >>> float(subsidy_btc(0)), float(subsidy_btc(209_999)), float(subsidy_btc(840_000))
    (50.0, 50.0, 3.125)
    """
    heights = np.asarray(height, dtype="float64")
    halvings = np.clip(np.nan_to_num(heights // HALVING_BLOCKS), 0, MAX_HALVINGS - 1).astype("int64")
    coins = np.where(np.isnan(heights), np.nan, (FIRST_SUBSIDY_SATOSHIS >> halvings) / SATOSHIS_PER_BTC)
    if isinstance(height, pd.Series):
        return pd.Series(coins, index=height.index, name="subsidy_btc")
    return coins if coins.ndim else float(coins)


def hash_rate_ehs(difficulty: pd.Series | float, block_count: pd.Series | float) -> pd.Series | float:
    """Hash rate (EH/s) that finds `block_count` blocks of mean `difficulty` in a day: D * 2^32 * blocks / 86400 s.

    >>> round(hash_rate_ehs(148_195_306_640_204.7, 144), 1)
    1060.8
    """
    return difficulty * block_count * (HASHES_PER_DIFFICULTY / SECONDS_PER_DAY / HASHES_PER_EXAHASH)


def difficulty_from(hash_rate: pd.Series, block_count: pd.Series) -> pd.Series:
    """Mean difficulty of a day from hash rate (EH/s) and blocks, inverse of `hash_rate_ehs`; missing without blocks."""
    blocks = block_count.where(block_count > 0)
    return hash_rate * HASHES_PER_EXAHASH * SECONDS_PER_DAY / (HASHES_PER_DIFFICULTY * blocks)


@lru_cache(maxsize=1)
def _halving_table() -> pd.DataFrame:
    path = reference_folder() / "halvings.csv"
    try:
        return pd.read_csv(path, parse_dates=["date"])
    except (OSError, ValueError, KeyError):
        raise DataError("data/reference/halvings.csv: missing or unreadable; restore it from the repository") from None


def read_halvings() -> pd.DataFrame:
    """data/reference/halvings.csv: halving, date (UTC day by header time), height, subsidy_btc, source; a copy."""
    return _halving_table().copy()


def _first_day_at(height: pd.Series, blocks: int) -> pd.Timestamp | None:
    """First known day whose height reached `blocks`, if the panel saw the day before it below that height."""
    known = height.dropna()
    reached = known.index[known >= blocks]
    return reached[0] if len(reached) and known.iloc[0] < blocks else None


def halving_days(panel: pd.DataFrame) -> pd.Series:
    """Day of each halving inside `panel`: index `halving` (1, 2, …), value the first day at height k * 210,000 or more.

    Halvings before the panel's first day are not listed. Without any height, the days of data/reference/halvings.csv
    that lie inside the panel are used. Like `height` itself a day can differ by one between providers' clocks.
    """
    height = panel["height"]
    if not height.notna().any():
        table = read_halvings().set_index("halving")["date"]
        return table[table.isin(panel.index)].rename("halving_day")
    last = int(np.nanmax(height.to_numpy()) // HALVING_BLOCKS)
    days = {k: _first_day_at(height, k * HALVING_BLOCKS) for k in range(1, last + 1)}
    found = {k: day for k, day in days.items() if day is not None}
    index = pd.Index(list(found), dtype="int64", name="halving")
    return pd.Series(list(found.values()), index=index, dtype="datetime64[ns]", name="halving_day")


def era_of(days: pd.DatetimeIndex | pd.Series, panel: pd.DataFrame) -> pd.Series:
    """Halving era of each day: the year of the halving that opened it, 2009 before the first; index `days`, integer.

    The panel's own halvings (`halving_days`); those before its first day come from data/reference/halvings.csv.

    >>> frame = pd.DataFrame({"height": [209_999.0, 210_100.0]}, index=pd.DatetimeIndex(["2012-11-27", "2012-11-28"]))
    >>> era_of(frame.index, frame).tolist()
    [2009, 2012]
    """
    own = halving_days(panel)
    table = read_halvings()["date"]
    earlier = table[table < panel.index[0]]
    opened = np.sort(np.concatenate([earlier.to_numpy("datetime64[ns]"), own.to_numpy("datetime64[ns]")]))
    years = np.array([GENESIS_YEAR, *pd.DatetimeIndex(opened).year], dtype="int64")
    stamps = pd.DatetimeIndex(days)
    return pd.Series(
        years[np.searchsorted(opened, stamps.to_numpy("datetime64[ns]"), side="right")], index=stamps, name="era"
    )
