"""Every difficulty adjustment, and an estimate of the next, from daily block counts alone.

Height is the running count of blocks, so the day of block k * 2016 is known; on that day the mean difficulty is a mix
of the old and the new one in the proportion of blocks, which gives the new one the same day. The estimate of the next
adjustment treats blocks as a Poisson process of constant unknown rate since the epoch began; a hash rate that moves
within the epoch comes on top of its interval.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from capitulation.mining.protocol import MAX_RETARGET_FACTOR, RETARGET_BLOCKS, SECONDS_PER_DAY, TARGET_BLOCK_SECONDS

RETARGET_COLUMNS = ("date", "height", "difficulty", "change", "negative_streak")
# The consensus code measures from an epoch's first block to its last: one interval fewer than blocks.
RETARGET_INTERVALS = RETARGET_BLOCKS - 1
TARGET_EPOCH_DAYS = RETARGET_BLOCKS * TARGET_BLOCK_SECONDS / SECONDS_PER_DAY
RETARGET_SE = RETARGET_INTERVALS**-0.5
ROUNDING_OF_CHANGE = 1e-9


def _streaks(negative: np.ndarray) -> np.ndarray:
    """Consecutive True up to and including each position.

    >>> _streaks(np.array([True, True, False, True])).tolist()
    [1, 2, 0, 1]
    """
    position = np.arange(1, len(negative) + 1)
    return position - np.maximum.accumulate(np.where(negative, 0, position)) if len(negative) else position


def _crossings(panel: pd.DataFrame) -> pd.DataFrame:
    """Days that reached a multiple of 2016: date, height of that block, blocks of the day, and those after (with it).

    Where the day before is unknown, or more than one multiple was passed, the day's blocks are missing.
    """
    height = panel["height"].dropna()
    values, days = height.to_numpy(), height.index.to_numpy("datetime64[D]").astype("int64")
    epoch = values // RETARGET_BLOCKS
    steps = np.diff(epoch, prepend=epoch[:1])
    at = np.flatnonzero(steps > 0)
    plain = (days[at] - days[at - 1] == 1) & (steps[at] == 1)
    first = epoch[at] * RETARGET_BLOCKS
    blocks = np.where(plain, values[at] - values[at - 1], np.nan)
    return pd.DataFrame({"date": height.index[at], "height": first, "blocks": blocks, "after": values[at] - first + 1})


def _old_difficulty(difficulty: pd.Series, days: pd.Series) -> np.ndarray:
    """Difficulty of the last whole day before each adjustment: constant since the adjustment before it."""
    whole = difficulty.mask(difficulty.index.isin(days))
    return whole.ffill().shift(1).reindex(days).to_numpy()


def retargets(panel: pd.DataFrame) -> pd.DataFrame:
    """One row per difficulty adjustment in `panel`, in order: date, height, difficulty, change, negative_streak.

    date: UTC day (by the provider's clock) of the first block at the new difficulty; height: that block, a multiple of
    2016; difficulty: the new one; change: new/old - 1 (fraction); negative_streak: cuts in a row up to this one.
    On the day itself B blocks of mean difficulty D are n_old at the old and n_new at the new one, hence
    new = (B D - n_old old) / n_new, good to about 2e-7 (the provider's rounding, times B / n_new). Missing difficulty
    and change where the day before is not known. Without any height: no rows.
    """
    found = _crossings(panel)
    old = _old_difficulty(panel["difficulty"], found["date"])
    mean = panel["difficulty"].reindex(found["date"]).to_numpy()
    new = (found["blocks"] * mean - (found["blocks"] - found["after"]) * old) / found["after"]
    change = new / old - 1
    change = change.mask(change.abs() < ROUNDING_OF_CHANGE, 0.0)
    columns = (found["date"], found["height"], new, change, _streaks((change < 0).to_numpy()))
    return pd.DataFrame(dict(zip(RETARGET_COLUMNS, columns, strict=True)))


def retarget_noise(table: pd.DataFrame) -> pd.DataFrame:
    """What block luck does to each adjustment of `retargets`: columns change_se and change_z; index as `table`.

    change_se: standard error of the change given the old difficulty, (1 + change) / sqrt(2015), about 2.2 %.
    change_z: log(1 + change) over sqrt(2 / 2015), about 3.2 %, since the old difficulty was measured on one epoch too:
    below -2, the hash rate of this epoch was lower than that of the last by more than luck explains.
    """
    ratio = 1 + table["change"]
    return pd.DataFrame({"change_se": ratio * RETARGET_SE, "change_z": np.log(ratio) / (2**0.5 * RETARGET_SE)})


def negative_in_last(table: pd.DataFrame, n: int) -> pd.Series:
    """How many of the last `n` adjustments, each included, cut difficulty; index as `table`, missing before the n-th.

    >>> negative_in_last(pd.DataFrame({"change": [-0.1, 0.2, -0.1]}), 2).tolist()
    [nan, 1.0, 1.0]
    """
    negative = (table["change"] < 0).astype("float64").where(table["change"].notna())
    return negative.rolling(n, min_periods=n).sum().rename("negative_in_last")


def _epoch_progress(panel: pd.DataFrame) -> pd.DataFrame:
    """At each day's end: blocks found in the running epoch, and days since its first block (missing before the first).

    The first day of an epoch counts as the share of its blocks that came after the adjustment.
    """
    found = _crossings(panel).set_index("date")
    share = (found["after"] / found["blocks"]).reindex(panel.index)
    opened = panel.index.isin(found.index)
    position = np.arange(len(panel))
    since = np.maximum.accumulate(np.where(opened, position, -1)) if len(panel) else position
    first_share = np.where(since >= 0, share.to_numpy()[since], np.nan)
    blocks = (panel["height"] % RETARGET_BLOCKS + 1).to_numpy()
    return pd.DataFrame({"blocks": blocks, "elapsed_days": position - since + first_share}, index=panel.index)


def _change(epoch_days: np.ndarray) -> np.ndarray:
    """Adjustment (fraction) after an epoch of `epoch_days` days, held within a factor of 4."""
    measured = epoch_days * RETARGET_INTERVALS / RETARGET_BLOCKS
    return np.clip(TARGET_EPOCH_DAYS / measured, 1 / MAX_RETARGET_FACTOR, MAX_RETARGET_FACTOR) - 1


def _days_ahead(index: pd.DatetimeIndex, ahead: np.ndarray) -> pd.DatetimeIndex:
    """The UTC day that lies `ahead` days after the end of each day."""
    return pd.DatetimeIndex(index + pd.to_timedelta(np.floor(ahead) + 1, unit="D"))


def _epoch_lengths(found: np.ndarray, elapsed: np.ndarray, confidence: float) -> dict[str, np.ndarray]:
    """Length of the whole epoch in days: estimate, and the ends of its interval."""
    from scipy.special import betaincinv

    left, tail = RETARGET_BLOCKS - found, 0.5 - confidence / 2
    shares = {"": found / RETARGET_BLOCKS}
    for name, probability in (("_short", 1 - tail), ("_long", tail)):
        shares[name] = np.where(left > 0, betaincinv(found, np.maximum(left, 1), probability), 1.0)
    return {name: elapsed / share for name, share in shares.items()}


def next_retarget_history(panel: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """The next adjustment as estimated at the end of each day, from that day and earlier ones alone; index `date`.

    Columns: height (of the first block at the new difficulty), blocks_remaining (to that block), date, date_low,
    date_high, change, change_low, change_high (fractions). With m blocks found in e days, the rate's posterior is
    Gamma(m, e) (scale-free prior), so that the whole epoch lasts e / b days, b ~ Beta(m, 2016 - m): the mean of b gives
    the usual estimate (time per block so far), its quantiles the interval. Missing before the panel's first adjustment
    and where height is.
    """
    progress = _epoch_progress(panel)
    found, elapsed = progress["blocks"].to_numpy(), progress["elapsed_days"].to_numpy()
    length = _epoch_lengths(found, elapsed, confidence)
    remaining = np.where(np.isfinite(elapsed), RETARGET_BLOCKS + 1 - found, np.nan)
    one_block = elapsed / found
    return pd.DataFrame(
        {
            "height": panel["height"] + remaining,
            "blocks_remaining": remaining,
            "date": _days_ahead(panel.index, length[""] - elapsed + one_block),
            "date_low": _days_ahead(panel.index, length["_short"] - elapsed + one_block),
            "date_high": _days_ahead(panel.index, length["_long"] - elapsed + one_block),
            "change": _change(length[""]),
            "change_low": _change(length["_long"]),
            "change_high": _change(length["_short"]),
        },
        index=panel.index,
    )


def next_retarget(panel: pd.DataFrame, confidence: float = 0.95) -> dict[str, object]:
    """The last row of `next_retarget_history` with its day as `as_of`.

    Keys: as_of, height, blocks_remaining (integers), date, date_low, date_high (days), change, change_low, change_high
    (fractions). An empty dict where no adjustment lies in `panel` or its last height is missing.
    """
    last = next_retarget_history(panel, confidence).iloc[-1]
    if pd.isna(last["blocks_remaining"]):
        return {}
    whole = {name: int(last[name]) for name in ("height", "blocks_remaining")}
    return {"as_of": panel.index[-1], **last.to_dict(), **whole}


def retarget_coverage(panel: pd.DataFrame, since: str = "2014-01-01", confidence: float = 0.95) -> pd.DataFrame:
    """How well `next_retarget_history` did: one row per quarter of the epoch, `since` a day until the last adjustment.

    Columns: n_days, covered (share of days whose interval held the true change), mean_error and mean_absolute_error
    (true minus estimated change, fractions). Coverage short of `confidence` measures how much the hash rate moves
    within an epoch, on top of block luck.
    """
    estimate = next_retarget_history(panel, confidence)
    estimate = estimate[estimate.index >= since]
    true = estimate["height"].map(retargets(panel).set_index("height")["change"])
    rows = estimate.assign(true=true, error=true - estimate["change"]).dropna(subset=["error"])
    rows["covered"] = rows["true"].between(rows["change_low"], rows["change_high"])
    quarter = np.ceil(rows["blocks_remaining"] / (RETARGET_BLOCKS / 4)).clip(1, 4).astype("int64")
    grouped = rows.groupby((5 - quarter).rename("quarter_of_epoch"))
    return pd.DataFrame(
        {
            "n_days": grouped.size(),
            "covered": grouped["covered"].mean(),
            "mean_error": grouped["error"].mean(),
            "mean_absolute_error": grouped["error"].agg(lambda error: error.abs().mean()),
        }
    )
