"""A local CSV file in Coin Metrics' format (`DATA=path`): every way it can be wrong is one line, exit code 2."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Any

import pandas as pd

from capitulation.data.providers import coinmetrics
from capitulation.errors import DataError, InputError, one_line

MAX_FILE_BYTES = 200_000_000
NEEDED = "name a CSV file in Coin Metrics' format (columns time, HashRate, BlkCnt, PriceUSD, …)"


def read_bytes(path: str | Path) -> bytes:
    """The file's bytes; `InputError` where it is missing, no regular file, empty, too large or unreadable."""
    shown = one_line(path, 160)
    try:
        status = Path(path).expanduser().stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"DATA={shown}: is a folder; {NEEDED}")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"DATA={shown}: is not a regular file; {NEEDED}")
        if status.st_size == 0:
            raise InputError(f"DATA={shown}: is empty; {NEEDED}")
        if status.st_size > MAX_FILE_BYTES:
            raise InputError(f"DATA={shown}: {status.st_size:,} bytes, more than {MAX_FILE_BYTES:,}; {NEEDED}")
        return Path(path).expanduser().read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"DATA={shown}: {one_line(reason, 120)}; {NEEDED}") from None


def load(path: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The panel in the file, and its name (without folder), SHA-256 and size; `InputError` where it cannot be used."""
    data = read_bytes(path)
    shown = one_line(path, 160)
    try:
        table = coinmetrics.table_from_csv(data, f"DATA={shown}")
        if "PriceUSD" not in table:
            raise DataError(f"DATA={shown}: the column PriceUSD is missing; {NEEDED}")
        panel = coinmetrics.panel_from_table(table)
    except DataError as error:
        raise InputError(one_line(error, 400)) from None
    if panel.empty:
        raise InputError(f"DATA={shown}: no day has a hash rate; {NEEDED}")
    facts = {"name": one_line(Path(path).name, 120), "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return panel, facts
