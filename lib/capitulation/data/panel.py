"""The daily panel: one validated table on which everything else works.

Index `date`: UTC calendar days, tz-naive, no gaps, sorted, unique. Columns are float64 and carry their unit in the
name; a missing value is NaN and stays NaN. The identity of the table is hash_rate_ehs * 1e18 = difficulty * 2**32 *
block_count / 86400.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from capitulation.errors import DataError, one_line

PANEL_COLUMNS = (
    "price_usd",
    "hash_rate_ehs",
    "block_count",
    "difficulty",
    "height",
    "issuance_btc",
    "fees_btc",
    "revenue_usd",
)
STRICTLY_POSITIVE = ("price_usd", "hash_rate_ehs", "difficulty")
MAX_BLOCKS_PER_DAY = 2000.0
"""The busiest day of the chain had 692; more than this is a damaged or wrongly scaled figure."""
FIRST_DAY = pd.Timestamp("2009-01-03")
LAST_POSSIBLE_DAY = pd.Timestamp("2200-01-01")


def _schema():
    import pandera.pandas as pa

    def column(name: str) -> pa.Column:
        sign = pa.Check.gt(0) if name in STRICTLY_POSITIVE else pa.Check.ge(0)
        top = [pa.Check.le(MAX_BLOCKS_PER_DAY)] if name == "block_count" else []
        return pa.Column(float, [sign, pa.Check(np.isfinite, name="finite"), *top], nullable=True)

    days = [pa.Check.ge(FIRST_DAY), pa.Check.le(LAST_POSSIBLE_DAY)]
    index = pa.Index("datetime64[us]", days, name="date", unique=True)
    return pa.DataFrameSchema({name: column(name) for name in PANEL_COLUMNS}, index=index)


def validate_panel(panel: pd.DataFrame) -> pd.DataFrame:
    """`panel` itself when it keeps every rule at the top of this module; else `DataError` naming the first breach."""
    import pandera.errors

    if panel.empty:
        raise DataError("the daily table is empty: no day has data")
    if tuple(panel.columns) != PANEL_COLUMNS:
        raise DataError(f"the daily table is not valid: its columns are {one_line(list(panel.columns), 200)}")
    try:
        _schema().validate(panel)
    except pandera.errors.SchemaError as error:
        raise DataError(f"the daily table is not valid: {one_line(error, 220)}") from None
    steps = np.diff(panel.index.to_numpy())
    if not (steps == np.timedelta64(1, "D")).all():
        raise DataError("the daily table is not valid: its days are not consecutive")
    return panel


def daily_panel(columns: dict[str, pd.Series]) -> pd.DataFrame:
    """A panel from series indexed by day: gap-free index from the first to the last day with data, all columns present.

    Columns that are not given are all NaN, so are days that no series has. `DataError` where nothing has a value.
    """
    frame = pd.DataFrame({name: columns.get(name, pd.Series(dtype=float)) for name in PANEL_COLUMNS})
    frame = frame.astype("float64").dropna(how="all").sort_index()
    if frame.empty:
        raise DataError("no day has data")
    days = pd.date_range(frame.index[0], frame.index[-1], freq="D", name="date", unit="us")
    return frame.reindex(days)


def drop_incomplete(panel: pd.DataFrame) -> pd.DataFrame:
    """`panel` without last days that are not complete yet.

    A last day is incomplete when it has no hash rate, or lacks a column that the day before it has. A column that
    stopped long ago does not count, as it is missing on both days.
    """
    known = panel.notna().to_numpy()
    hash_rate = list(panel.columns).index("hash_rate_ehs")
    last = len(panel)
    while last and (not known[last - 1, hash_rate] or (last > 1 and (known[last - 2] & ~known[last - 1]).any())):
        last -= 1
    return panel.iloc[:last]


def cut(panel: pd.DataFrame, as_of: str | dt.date = "") -> pd.DataFrame:
    """`panel` up to and including the day `as_of`; the whole panel where `as_of` is empty.

    `DataError` where the panel has no day up to then.
    """
    if not as_of:
        return panel
    kept = panel.loc[: pd.Timestamp(as_of)]
    if kept.empty:
        raise DataError(f"as_of={as_of}: the data begin on {panel.index[0].date()}; choose a later day")
    return kept


def missing_days(panel: pd.DataFrame) -> pd.DataFrame:
    """Days without a value inside each column's own range, and the range: `column, n_days, n_missing, first, last`.

    `first` and `last` bound the column's values (NaT where it has none); `n_missing` counts NaN between them.
    """
    rows = []
    for name in panel.columns:
        values = panel[name]
        first, last = values.first_valid_index(), values.last_valid_index()
        inside = values.loc[first:last] if first is not None else values.iloc[:0]
        rows.append((name, len(inside), int(inside.isna().sum()), first, last))
    table = pd.DataFrame(rows, columns=["column", "n_days", "n_missing", "first", "last"])
    return table.astype({"first": "datetime64[us]", "last": "datetime64[us]"})


def panel_digest(panel: pd.DataFrame) -> str:
    """SHA-256 (hex) over column names, days and values: equal when the tables are equal bit for bit (any NaN alike)."""
    values = panel.to_numpy(dtype="<f8", copy=True)
    values[np.isnan(values)] = np.nan
    values[values == 0] = 0.0  # -0.0 reads back as 0.0 from some writers
    digest = hashlib.sha256(",".join(map(str, panel.columns)).encode())
    digest.update(panel.index.to_numpy().astype("datetime64[D]").astype("<i8").tobytes())
    digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def panel_bytes(panel: pd.DataFrame) -> bytes:
    """The panel as CSV (ISO days, shortest decimals that read back to the same floats, empty = missing)."""
    return panel.to_csv(date_format="%Y-%m-%d", lineterminator="\n").encode()


def write_panel(panel: pd.DataFrame, path: Path | str) -> None:
    """Write `panel_bytes` to `path`."""
    Path(path).write_bytes(panel_bytes(panel))


def read_panel(source: Path | str | bytes) -> pd.DataFrame:
    """The panel written by `write_panel`, equal bit for bit; `DataError` where the text is not such a file."""
    name = "panel.csv" if isinstance(source, bytes) else Path(source).name
    try:
        text = (source if isinstance(source, bytes) else Path(source).read_bytes()).decode("ascii")
        header, *lines = text.splitlines()
        if header != ",".join(("date", *PANEL_COLUMNS)):
            raise ValueError(f"its first line is {header[:80]!r}")
        rows = [line.split(",") for line in lines]
        if any(len(row) != 1 + len(PANEL_COLUMNS) for row in rows):
            raise ValueError("a line is cut off or has too many fields")
        values = np.array([[float(cell or "nan") for cell in row[1:]] for row in rows], dtype=float)
        days = pd.DatetimeIndex(np.array([row[0] for row in rows], dtype="datetime64[D]"), name="date")
        return pd.DataFrame(values, index=days.as_unit("us"), columns=list(PANEL_COLUMNS))
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: not a stored panel: {one_line(error, 200)}") from None
