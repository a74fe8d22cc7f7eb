"""Difficulty: Bitcoin's consensus numbers, every adjustment so far, and an estimate of the next.

The past is exact (Nakamoto 2008; Bitcoin Core's `GetBlockSubsidy` and `CalculateNextWorkRequired`): height counts
blocks, so that daily data tell the day of block k * 2016, by the provider's clock. The next one is estimated as if
blocks were a Poisson process of constant rate; a hash rate that moves comes on top of the interval.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from capitulation.paths import reference_folder

RETARGET_BLOCKS = 2016
TARGET_BLOCK_SECONDS = 600
SECONDS_PER_DAY = 86_400
BLOCKS_PER_DAY = SECONDS_PER_DAY / TARGET_BLOCK_SECONDS
HASHES_PER_DIFFICULTY = 2**32
HASHES_PER_EXAHASH = 1e18
HALVING_BLOCKS = 210_000
MAX_HALVINGS = 64
MAX_RETARGET_FACTOR = 4


def subsidy_btc(height: float | np.ndarray) -> Any:
    """New coins of the block at `height` (BTC): 50, halved every 210,000 blocks in whole satoshis; missing as given."""
    heights = np.asarray(height, dtype="float64")
    halved = np.clip(np.nan_to_num(heights // HALVING_BLOCKS), 0, MAX_HALVINGS - 1).astype("int64")
    return np.where(np.isnan(heights), np.nan, (50 * 10**8 >> halved) / 10**8)[()]


def hash_rate_ehs(difficulty: pd.Series | float, block_count: pd.Series | float) -> pd.Series | float:
    """Hash rate (EH/s) that finds `block_count` blocks of mean `difficulty` in a day: D * 2^32 * blocks / 86400 s."""
    return difficulty * block_count * (HASHES_PER_DIFFICULTY / SECONDS_PER_DAY / HASHES_PER_EXAHASH)


@cache
def halvings() -> pd.DataFrame:
    """data/reference/halvings.csv: halving, date (UTC day by header time), height, subsidy_btc, source; read once."""
    return pd.read_csv(reference_folder() / "halvings.csv", parse_dates=["date"])


def halving_days(panel: pd.DataFrame) -> pd.Series:
    """Day of each halving inside `panel`: index `halving` (1, 2, …), value the first day at height k * 210,000 or more.

    Only halvings whose day before is in the panel too; without any height, those of `halvings` that are.
    """
    height = panel["height"].dropna()
    if height.empty:
        table = halvings().set_index("halving")["date"]
        return table[table.isin(panel.index)].rename("halving_day")
    halved = (height // HALVING_BLOCKS).astype("int64")
    numbers = pd.RangeIndex(halved.iloc[0] + 1, halved.max() + 1, name="halving")
    days = height.index[halved.cummax().searchsorted(numbers)]
    return pd.Series(days, index=numbers, dtype="datetime64[ns]", name="halving_day")


def era_of(days: pd.DatetimeIndex | pd.Series, panel: pd.DataFrame) -> pd.Series:
    """Halving era of each day: the year of the halving that opened it, 2009 before the first; index `days`, integer.

    The panel's own halvings (`halving_days`), before its first day those of `halvings`.
    """
    earlier, stamps = halvings()["date"], pd.DatetimeIndex(days)
    opened = pd.DatetimeIndex([*earlier[earlier < panel.index[0]], *halving_days(panel)], dtype="datetime64[ns]")
    years = np.array([2009, *opened.year], dtype="int64")
    return pd.Series(years[opened.searchsorted(stamps, side="right")], index=stamps, name="era")


def _crossings(panel: pd.DataFrame) -> pd.DataFrame:
    """Days that reached a multiple of 2016: date, height of that block, blocks of the day, those from that block on.

    Blocks are missing where the day before is unknown or more than one multiple was passed.
    """
    height = panel["height"].dropna()
    epoch, past = height // RETARGET_BLOCKS, panel["height"].shift(1).reindex(height.index)
    steps, first = epoch.diff(), epoch * RETARGET_BLOCKS
    blocks = (height - past).where(steps == 1)
    table = pd.DataFrame({"height": first, "blocks": blocks, "after": height - first + 1})
    return table[steps > 0].rename_axis("date").reset_index()


def adjustments(panel: pd.DataFrame) -> pd.DataFrame:
    """One row per difficulty adjustment in `panel`, in order; none without any height.

    date: UTC day of the first block at the new difficulty; height: that block, a multiple of 2016; difficulty: the new
    one; change: new/old - 1 (fraction); negative_streak: cuts in a row up to this one. Of the day's B blocks of mean
    difficulty D n_old are at the old and n_new at the new one, hence new = (B D - n_old old) / n_new, good to about
    2e-7 (the provider's rounding, times B / n_new). Difficulty and change are missing where the day before is.

    >>> (adjustments(panel)["height"] % 2016).unique().tolist()
    [0.0]
    """
    found = _crossings(panel)
    whole_days = panel["difficulty"].mask(panel.index.isin(found["date"]))
    old = whole_days.ffill().shift(1).reindex(found["date"]).to_numpy()
    mean = panel["difficulty"].reindex(found["date"]).to_numpy()
    new = (found["blocks"] * mean - (found["blocks"] - found["after"]) * old) / found["after"]
    change = (new / old - 1).mask(lambda x: x.abs() < 1e-9, 0.0)  # rounding
    cut = change < 0
    streak = cut.groupby((~cut).cumsum()).cumsum().astype("int64")
    return found[["date", "height"]].assign(difficulty=new, change=change, negative_streak=streak)


def next_adjustment_history(panel: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """The next adjustment as estimated at the end of each day, from that day and earlier ones alone; index `date`.

    Columns: height (first block at the new difficulty), blocks_remaining (to it), date, date_low, date_high, change,
    change_low, change_high (fractions); missing before the panel's first adjustment and where height is. With m blocks
    in e days the rate's posterior is Gamma(m, e) (scale-free prior), so that the epoch lasts e / b days,
    b ~ Beta(m, 2016 - m): the mean of b gives the usual estimate, its quantiles the interval.
    """
    # An epoch's first day counts as the share of its blocks that came after the adjustment.
    opening, position = _crossings(panel).set_index("date"), np.arange(len(panel))
    share = (opening["after"] / opening["blocks"]).reindex(panel.index).to_numpy()
    opened = np.maximum.accumulate(np.where(panel.index.isin(opening.index), position, -1))
    elapsed = position - opened + np.where(opened >= 0, share[opened], np.nan)
    found = (panel["height"] % RETARGET_BLOCKS + 1).to_numpy()
    left, tail = RETARGET_BLOCKS - found, 0.5 - confidence / 2
    remaining = np.where(np.isfinite(elapsed), left + 1, np.nan)
    quantiles = [np.where(left > 0, betaincinv(found, np.maximum(left, 1), p), 1.0) for p in (1 - tail, tail)]
    epoch = elapsed / np.stack([found / RETARGET_BLOCKS, *quantiles])  # days: likely, short, long
    ahead = pd.to_timedelta(np.ravel(np.floor(epoch - elapsed + elapsed / found) + 1), unit="D")
    dates = np.reshape(np.tile(panel.index, 3) + ahead, epoch.shape)
    # The consensus code measures from an epoch's first block to its last: one interval fewer than blocks.
    measured = epoch * (RETARGET_BLOCKS - 1) / RETARGET_BLOCKS
    ratio = np.clip(RETARGET_BLOCKS / BLOCKS_PER_DAY / measured, 1 / MAX_RETARGET_FACTOR, MAX_RETARGET_FACTOR)
    columns = {"height": panel["height"] + remaining, "blocks_remaining": remaining}
    columns |= dict(zip(("date", "date_low", "date_high"), dates, strict=True))
    columns |= dict(zip(("change", "change_low", "change_high"), ratio[[0, 2, 1]] - 1, strict=True))
    return pd.DataFrame(columns, index=panel.index)


def next_adjustment(panel: pd.DataFrame, confidence: float = 0.95) -> dict[str, Any]:
    """The last row of `next_adjustment_history` with its day as `as_of`; empty where nothing is known.

    >>> next_adjustment(panel[:"2014-01-01"])["blocks_remaining"] <= 2016
    True
    """
    last = next_adjustment_history(panel, confidence).iloc[-1]
    if pd.isna(last["blocks_remaining"]):
        return {}
    whole = {name: int(last[name]) for name in ("height", "blocks_remaining")}
    return {"as_of": panel.index[-1], **last.to_dict(), **whole}
