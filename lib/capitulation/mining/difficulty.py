"""Difficulty: Bitcoin's consensus numbers, every adjustment so far, and an estimate of the next.

The past is exact (Nakamoto 2008; Bitcoin Core's `GetBlockSubsidy` and `CalculateNextWorkRequired`): height counts
blocks, so that daily data tell the day of block k * 2016, by the provider's clock. The next one is estimated from
the pace of its epoch so far; its interval holds block luck and the drift of hash rate, and carries its record.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import betaincinv, stdtrit

from capitulation.data.panel import (  # noqa: F401  the protocol's numbers, all of which are at hand here
    BLOCKS_PER_DAY,
    HALVING_BLOCKS,
    HASHES_PER_DIFFICULTY,
    HASHES_PER_EXAHASH,
    MAX_HALVINGS,
    MAX_RETARGET_FACTOR,
    RETARGET_BLOCKS,
    SECONDS_PER_DAY,
    TARGET_BLOCK_SECONDS,
    hash_rate_ehs,
    subsidy_btc,
)
from capitulation.paths import reference_folder

DRIFT_ADJUSTMENTS = 26  # about a year


@cache
def halvings() -> pd.DataFrame:
    """data/reference/halvings.csv: halving, date (UTC day by header time), height, subsidy_btc, source; read once."""
    return pd.read_csv(reference_folder() / "halvings.csv", parse_dates=["date"])


def halving_days(panel: pd.DataFrame) -> pd.Series:
    """Day of each halving inside `panel`: index `halving` (1, 2, …), value the first day at height k * 210,000 or more.

    Only halvings whose day before is in the panel too; on days of unknown height those of `halvings`.
    """
    table, known = halvings().set_index("halving")["date"], panel["height"].notna().to_numpy()
    dark = table[table.isin(panel.index[~known])]
    halved = np.maximum.accumulate(panel["height"].to_numpy()[known] // HALVING_BLOCKS)
    numbers = range(int(halved[0]) + 1, int(halved[-1]) + 1) if len(halved) else range(0)
    days = pd.Series(panel.index[known][halved.searchsorted(numbers)], numbers, dtype="datetime64[ns]")
    days = dark.combine_first(days) if len(dark) else days
    return days.rename("halving_day").rename_axis("halving")


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


def _drift(panel: pd.DataFrame) -> pd.DataFrame:
    """Variance by which hash rate drifts within an epoch (log), as known on each day, and its degrees of freedom."""
    change = adjustments(panel).set_index("date")["change"]
    change = change.where(change.between(-0.9, 9))  # far beyond a factor of four the data are wrong
    moves = np.log1p(change).rolling(DRIFT_ADJUSTMENTS, min_periods=2)
    variance = (moves.var() / 2 - 1 / RETARGET_BLOCKS).clip(lower=0)
    known = pd.DataFrame({"variance": variance, "freedom": moves.count() - 1})
    return known.where(variance.notna()).reindex(panel.index, method="ffill")


def next_adjustment_history(panel: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """The next adjustment as estimated at the end of each day, from that day and earlier ones alone; index `date`.

    Columns: height (first block at the new difficulty), blocks_remaining (to it), date, date_low, date_high, change,
    change_low, change_high (fractions); missing before the panel's first adjustment and where height is.

    With m of 2016 blocks in e days the estimate is that the epoch lasts e / f days, f = m / 2016. Three errors add up
    in its logarithm. Luck: at a constant rate the epoch lasts e / b, b ~ Beta(m, 2016 - m) (Gamma posterior of the
    rate, scale-free prior). Drift: where log hash rate is a random walk, the mean rates of two adjoining spans differ
    by a variance that grows with the time both last (Working 1960). Two epochs, a log change of difficulty of variance
    V, last twice as long as one, so the rest of an epoch differs from its first m blocks by half of it less luck,
    V / 2 - 1 / 2016, which counts by (1 - f)^2; V comes from the last 26 adjustments known, hence Student's t. Clock:
    of an epoch's first block only the day is known; with a share u of its B blocks after it, the time has a variance
    of u (1 - u) / B days^2. Until two changes are known, drift counts as none.
    """
    # An epoch's first day counts as the share of its blocks that came after the adjustment.
    opening, position = _crossings(panel).set_index("date"), np.arange(len(panel))
    opened = np.maximum.accumulate(np.where(panel.index.isin(opening.index), position, -1))
    after, blocks = opening[["after", "blocks"]].reindex(panel.index).to_numpy()[opened].T
    share = np.where(opened >= 0, after / blocks, np.nan)
    elapsed, clock = position - opened + share, share * (1 - share) / blocks
    found = (panel["height"] % RETARGET_BLOCKS + 1).to_numpy()
    part, left, tail = found / RETARGET_BLOCKS, RETARGET_BLOCKS - found, 0.5 - confidence / 2
    remaining = np.where(np.isfinite(elapsed), left + 1, np.nan)
    drift = _drift(panel)
    variance = drift["variance"].fillna(0).to_numpy() * (1 - part) ** 2 + clock / elapsed**2
    spread = stdtrit(drift["freedom"].fillna(np.inf).to_numpy(), 1 - tail) * np.sqrt(variance)
    luck = [np.log(np.where(left > 0, betaincinv(found, np.maximum(left, 1), p), 1.0) / part) for p in (1 - tail, tail)]
    short, long = np.hypot(luck, spread)
    epoch = elapsed / part * np.exp([np.zeros(len(panel)), -short, long])  # days: likely, short, long
    wait = np.clip(epoch - elapsed, 0, 36_525)  # a century stands for any longer one, which no date can hold
    ahead = pd.to_timedelta(np.ravel(np.floor(wait + elapsed / found) + 1), unit="D")
    dates = np.reshape(np.tile(panel.index, 3) + ahead, epoch.shape)
    # The consensus code measures from an epoch's first block to its last: one interval fewer than blocks.
    measured = epoch * (RETARGET_BLOCKS - 1) / RETARGET_BLOCKS
    ratio = np.clip(RETARGET_BLOCKS / BLOCKS_PER_DAY / measured, 1 / MAX_RETARGET_FACTOR, MAX_RETARGET_FACTOR)
    columns = {"height": panel["height"] + remaining, "blocks_remaining": remaining}
    columns |= dict(zip(("date", "date_low", "date_high"), dates, strict=True))
    columns |= dict(zip(("change", "change_low", "change_high"), ratio[[0, 2, 1]] - 1, strict=True))
    return pd.DataFrame(columns, index=panel.index)


def _quarter(remaining: Any) -> Any:
    """Quarter of the epoch, 1 to 4, from the blocks that remain to its adjustment (a number or a Series)."""
    return 5 - np.ceil(4 * remaining / RETARGET_BLOCKS)


def adjustment_record(panel: pd.DataFrame, confidence: float = 0.95, since: str | None = None) -> pd.DataFrame:
    """How good the estimates of the next adjustment were: a row per quarter of the epoch, over the days from `since`.

    Every estimate is that of `next_adjustment_history`, made from what was known on its day; days count whose
    adjustment is known by now. Columns: quarter_of_epoch (1 to 4), n_days, covered (share of days whose interval held
    the change that came), mean_error, mean_absolute_error (of the change, fractions), n_adjustments (that they are
    about; the days before one of them share its luck). No rows without any.
    """
    return _record(panel, next_adjustment_history(panel, confidence)[since:])


def _record(panel: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """`adjustment_record` of the estimates in `history`."""
    came = history["height"].map(adjustments(panel).set_index("height")["change"])
    held = came.between(history["change_low"], history["change_high"])
    rows = history.assign(error=came - history["change"], held=held).dropna(subset="error")
    rows["quarter_of_epoch"] = _quarter(rows["blocks_remaining"]).astype("int64")
    return (
        rows.groupby("quarter_of_epoch")
        .agg(
            n_days=("held", "size"),
            covered=("held", "mean"),
            mean_error=("error", "mean"),
            mean_absolute_error=("error", lambda error: error.abs().mean()),
            n_adjustments=("height", "nunique"),
        )
        .reset_index()
    )


def next_adjustment(panel: pd.DataFrame, confidence: float = 0.95, since: str | None = None) -> dict[str, Any]:
    """The last row of `next_adjustment_history` with its day as `as_of`; empty where nothing is known.

    `record` is the share of earlier estimates in this quarter of their epoch, since `since`, whose interval held
    (missing without any), `record_n` the number of adjustments that they were about.

    >>> next_adjustment(panel[:"2014-01-01"])["blocks_remaining"] <= 2016
    True
    """
    history = next_adjustment_history(panel, confidence)
    last, quarter = history.iloc[-1], _quarter(history["blocks_remaining"])
    if pd.isna(last["blocks_remaining"]):
        return {}
    whole = {name: int(last[name]) for name in ("height", "blocks_remaining")}
    record = _record(panel, history[quarter == quarter.iloc[-1]][since:])
    covered, n = record[["covered", "n_adjustments"]].to_numpy()[0] if len(record) else (np.nan, 0)
    return {"as_of": panel.index[-1], **last.to_dict(), **whole, "record": float(covered), "record_n": int(n)}
