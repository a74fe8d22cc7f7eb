"""The daily panel: one table on which everything else works.

Index `date`: UTC calendar days, tz-naive, no gaps, sorted, unique. Columns are float64 and carry their unit in the
name; a missing value is NaN and stays NaN. The identity of the table is hash_rate_ehs * 1e18 = difficulty * 2**32 *
block_count / 86400. Columns of one's own may follow these.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from capitulation.errors import DataError, InputError, one_line

UNITS = {
    "price_usd": "USD",
    "hash_rate_ehs": "EH/s",
    "block_count": "blocks",
    "difficulty": "difficulty",
    "height": "block",
    "issuance_btc": "BTC",
    "fees_btc": "BTC",
    "revenue_usd": "USD",
}
PANEL_COLUMNS, POSITIVE = tuple(UNITS), ("price_usd", "hash_rate_ehs", "difficulty")
MAX_BLOCKS_PER_DAY = 2000.0  # the busiest day of the chain had 692
FIRST_DAY, LAST_DAY = pd.Timestamp("2009-01-03"), pd.Timestamp("2200-01-01")
DAY = pd.Timedelta(days=1)
RETARGET_BLOCKS, BLOCKS_PER_DAY = 2016, 144.0  # of the protocol: an epoch of difficulty, and the aim
TARGET_BLOCK_SECONDS, MAX_RETARGET_FACTOR = 600, 4
RETARGET_SECONDS = RETARGET_BLOCKS * TARGET_BLOCK_SECONDS
HALVING_BLOCKS, MAX_HALVINGS = 210_000, 64
SECONDS_PER_DAY, HASHES_PER_DIFFICULTY, HASHES_PER_EXAHASH = 86_400, 2**32, 1e18


def hash_rate_ehs(difficulty: pd.Series | float, block_count: pd.Series | float) -> pd.Series | float:
    """Hash rate (EH/s) that finds `block_count` blocks of mean `difficulty` in a day: D * 2^32 * blocks / 86400 s."""
    return difficulty * block_count * (HASHES_PER_DIFFICULTY / SECONDS_PER_DAY / HASHES_PER_EXAHASH)


def subsidy_btc(height: float | np.ndarray) -> Any:
    """New coins of the block at `height` (BTC): 50, halved every 210,000 blocks in whole satoshis; missing as given."""
    heights = np.asarray(height, dtype="float64")
    halved = np.clip(np.nan_to_num(heights // HALVING_BLOCKS), 0, MAX_HALVINGS - 1).astype("int64")
    return np.where(np.isnan(heights), np.nan, (50 * 10**8 >> halved) / 10**8)[()]


def supply_btc(height: np.ndarray) -> np.ndarray:
    """Coins of all blocks up to those at `height` (BTC), the first one's counted; exact, missing as given."""
    rates = subsidy_btc(HALVING_BLOCKS * np.arange(MAX_HALVINGS))
    born, era = np.append(0.0, np.cumsum(rates[:-1] * HALVING_BLOCKS)), np.nan_to_num(height // HALVING_BLOCKS)
    era = era.clip(0, MAX_HALVINGS - 1).astype("int64")
    return born[era] + rates[era] * (height - era * HALVING_BLOCKS + 1)


def validate_panel(panel: pd.DataFrame) -> pd.DataFrame:
    """`panel` itself when it keeps every rule at the top of this module; else `DataError` naming the first breach."""
    days, values, breach = panel.index, panel.iloc[:, : len(PANEL_COLUMNS)], ""
    if panel.empty:
        breach = "no day has data"
    elif tuple(values.columns) != PANEL_COLUMNS or set(map(str, values.dtypes)) != {"float64"}:
        breach = f"its columns are {one_line(panel.dtypes.to_dict(), 300)}"
    elif days.name != "date" or days.dtype != "datetime64[us]":
        breach = f"its index is {one_line(days.name, 40)!r} of {days.dtype}, not 'date' of datetime64[us]"
    elif days.hasnans or not days.equals(pd.date_range(max(days[0].normalize(), FIRST_DAY), periods=len(days))):
        breach = f"its days are not consecutive from {FIRST_DAY.date()} or later on"
    else:
        wrong = np.isinf(values) | (values < 0) | ((values == 0) & values.columns.isin(POSITIVE))
        wrong["block_count"] |= values["block_count"] > MAX_BLOCKS_PER_DAY
        for name in wrong.columns[wrong.any()][:1]:
            breach = f"{name} is {values.loc[wrong[name], name].iloc[0]} on {days[wrong[name]][0].date()}"
    if breach:
        raise DataError(f"the daily table is not valid: {breach}")
    return panel


def daily_panel(columns: Mapping[str, pd.Series]) -> pd.DataFrame:
    """A panel from series by day, from the first day with data to the last complete one; other columns are NaN.

    A last day is incomplete without hash rate, or a column that the day before has. `DataError` if no day is left.
    """
    frame = pd.DataFrame({name: columns.get(name, pd.Series(dtype=float)) for name in PANEL_COLUMNS})
    frame = frame.astype("float64").dropna(how="all").sort_index()
    if len(frame):
        frame = frame.reindex(pd.date_range(frame.index[0], frame.index[-1], freq="D", name="date", unit="us"))
    known = frame.notna()
    incomplete = ~known["hash_rate_ehs"] | (known.shift(1, fill_value=False) & ~known).any(axis=1)
    if incomplete.all():
        raise DataError("no day has a hash rate")
    return frame.loc[: incomplete[~incomplete].index[-1]]


def cut(panel: pd.DataFrame, as_of: str | dt.date = "") -> pd.DataFrame:
    """`panel` up to and with the day `as_of`, all where that is empty; `InputError`: no day, too early, or to come."""
    if not as_of:
        return panel
    first, last = panel.index[[0, -1]]
    try:
        asked = pd.Timestamp(as_of)
        wrong = "lies before the data" if asked < first else ""
        wrong = "lies in the future" if asked > max(last, pd.Timestamp.now("UTC").tz_localize(None)) else wrong
    except (ValueError, TypeError):
        raise InputError(f"as_of={one_line(as_of, 40)}: not a day as YYYY-MM-DD") from None
    if wrong:
        there = f"there are data for {first.date()} to {last.date()}"
        raise InputError(f"as_of={as_of} {wrong}: {there}; choose one of these days (AS_OF, or the profile)")
    return panel.loc[:asked]


def panel_digest(panel: pd.DataFrame) -> str:
    """SHA-256 (hex) over column names, days and values: equal when the tables are equal bit for bit (any NaN alike)."""
    values = panel.to_numpy(dtype="<f8", copy=True)
    values[np.isnan(values)] = np.nan
    values[values == 0] = 0.0  # -0.0 reads back as 0.0 from some writers
    digest = hashlib.sha256(",".join(map(str, panel.columns)).encode())
    digest.update(panel.index.to_numpy().astype("datetime64[D]").astype("<i8").tobytes())
    digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def write_panel(panel: pd.DataFrame, path: Path) -> None:
    """The panel as CSV: ISO days, shortest decimals that read back to the same floats, empty = missing."""
    path.write_bytes(panel.to_csv(date_format="%Y-%m-%d", lineterminator="\n").encode())


def read_panel(path: Path) -> pd.DataFrame:
    """The panel written by `write_panel`, equal bit for bit; `DataError` where the file is not such a one."""
    try:
        panel = pd.read_csv(path, index_col="date", dtype=str, keep_default_na=False)
        days = pd.to_datetime(panel.index, format="%Y-%m-%d").as_unit("us")
        return panel.map(lambda text: float(text or "nan")).set_axis(days)
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name}: not a stored panel: {one_line(error, 200)}") from None


def block_heights(count: pd.Series, difficulty: pd.Series) -> pd.Series:
    """Height of each day's last block: `count` summed from the chain's first day on, missing where that is unknown.

    After a hole it is found again at the next adjustment: of the B blocks of a day on which difficulty goes from a to b
    with mean D, B (D - a) / (b - a) come from block k * 2016 on, k the nearest at 144 blocks a day in the hole, which
    must not last over ten days.
    """
    height, blocks, mean = count.cumsum(skipna=False), count.to_numpy(), difficulty.to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):  # a day amid two days at the old and two at the new difficulty
        steady = np.append(abs(mean[1:] / mean[:-1] - 1) < 1e-6, False)
        old, new = (pd.Series(mean).shift(days).to_numpy() for days in (1, -1))
        at_new = blocks * (mean - old) / (new - old)
        clean = np.roll(steady, 2) & np.roll(steady, -1) & (abs(new / old - 1) > 1e-4)
        clean &= (abs(at_new - at_new.round()) < 0.02) & (at_new > 0.5) & (at_new < blocks)
    unknown = np.append(np.isnan(blocks), True)
    for last in np.flatnonzero(unknown[:-1] & ~unknown[1:]):
        stop, before = last + 1 + unknown[last + 1 :].argmax(), np.flatnonzero(height.notna())[-1:]
        for at in last + 1 + np.flatnonzero(clean[last + 1 : stop])[:1]:
            so_far, until_then = blocks[last + 1 : stop].cumsum(), blocks[last + 1 : at + 1].sum()
            guess = height.iloc[before].sum() + BLOCKS_PER_DAY * (last - before.sum()) + until_then
            epoch = (guess - at_new[at] + 1) / RETARGET_BLOCKS
            if len(before) and last - before[0] <= 10 and abs(epoch - epoch.round()) < 0.25:
                found = epoch.round() * RETARGET_BLOCKS + at_new[at].round() - 1
                height.iloc[last + 1 : stop] = found + so_far - until_then
    return height
