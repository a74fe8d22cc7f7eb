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
FIRST_DAY, LAST_POSSIBLE_DAY = pd.Timestamp("2009-01-03"), pd.Timestamp("2200-01-01")
DAY = pd.Timedelta(days=1)


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
    """`panel` up to and with the day `as_of`, all where that is empty; `InputError`: no day, `DataError`: too early."""
    if not as_of:
        return panel
    try:
        kept = panel.loc[: pd.Timestamp(as_of)]
    except (ValueError, TypeError):
        raise InputError(f"as_of={one_line(as_of, 40)}: not a day as YYYY-MM-DD") from None
    if kept.empty:
        raise DataError(f"as_of={as_of}: the data begin on {panel.index[0].date()}; choose a later day")
    return kept


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
