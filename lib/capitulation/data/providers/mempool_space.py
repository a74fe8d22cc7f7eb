"""mempool.space: hash rate and difficulty only, an independent check and a panel without price.

Its value stamped 00:00 of day D describes day D-1. It divides by the time between a day's first and last block, so the
implied block count is not an integer (off by about one block): the column holds it unrounded, for the noise estimates.
Heights stay unknown. Difficulty of a day is the mean over time of the steps that the answer lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from capitulation.data.panel import daily_panel, drop_incomplete
from capitulation.data.providers import base
from capitulation.errors import DataError

API_URL = "https://mempool.space/api"
HASH_RATE_FILE = "hashrate.json"
WHAT = "mempool.space hashrate"
RATIO_TOLERANCE = 1e-3


def fetch(get: base.Get) -> base.Fetched:
    """The whole daily history in one answer."""
    url = base.base_url("CAPITULATION_MEMPOOL_SPACE_URL", API_URL)
    return base.fetched({HASH_RATE_FILE: get(f"{url}/v1/mining/hashrate", {})}, parse)


def _records(answer: Any, name: str, *fields: str) -> list[np.ndarray]:
    rows = base.field(answer, name, WHAT)
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{WHAT}: {name!r} holds no values")
    return [base.numbers([base.field(row, key, WHAT) for row in rows], f"{WHAT}, {key}") for key in fields]


def _hash_rate_hs(answer: Any) -> pd.Series:
    stamps, values = _records(answer, "hashrates", "timestamp", "avgHashrate")
    days = base.daily_index(pd.to_datetime(stamps, unit="s", errors="coerce"), WHAT) - np.timedelta64(1, "D")
    frame = base.unique_days(pd.DataFrame({"hash_rate": values}, index=days), WHAT)
    base.check_daily_steps(frame.index, WHAT)
    return frame["hash_rate"].where(frame["hash_rate"] > 0)


def mean_difficulty(days: pd.DatetimeIndex, times: np.ndarray, levels: np.ndarray, before: float) -> pd.Series:
    """Mean over each UTC day of a step function: `before` until `times[0]` [unix s], then `levels[i]` from
    `times[i]` on.

    NaN on days that begin before `times[0]` where `before` is NaN.
    """
    order = np.argsort(times)
    times, levels = times[order], levels[order]
    start = days.as_unit("s").asi8.astype(float)
    end = start + base.SECONDS_PER_DAY
    knots = np.concatenate([[min(start[0], times[0])], times, [max(end[-1], times[-1])]])
    area = np.concatenate([[0.0], np.cumsum(np.diff(knots) * np.concatenate([[np.nan_to_num(before)], levels]))])
    mean = (np.interp(end, knots, area) - np.interp(start, knots, area)) / base.SECONDS_PER_DAY
    return pd.Series(np.where(np.isnan(before) & (start < times[0]), np.nan, mean), index=days)


def _difficulty(answer: Any, days: pd.DatetimeIndex) -> pd.Series:
    times, levels, ratios = _records(answer, "difficulty", "time", "difficulty", "adjustment")
    order = np.argsort(times)
    ratios, steps = ratios[order], levels[order]
    as_ratio = np.allclose(steps[1:] / steps[:-1], ratios[1:], rtol=RATIO_TOLERANCE)
    before = steps[0] / ratios[0] if as_ratio and ratios[0] > 0 else np.nan
    return mean_difficulty(days, times, levels, before)


def parse(files: Mapping[str, bytes]) -> pd.DataFrame:
    """The panel in the answer: hash rate, difficulty and the implied block count; all other columns are missing."""
    if HASH_RATE_FILE not in files:
        raise DataError(f"mempool.space: {HASH_RATE_FILE} is missing")
    answer = base.load_json(files[HASH_RATE_FILE], WHAT)
    hash_rate = _hash_rate_hs(answer)
    difficulty = _difficulty(answer, pd.date_range(hash_rate.index[0], hash_rate.index[-1], freq="D", unit="us"))
    columns = {
        "hash_rate_ehs": hash_rate / 1e18,
        "block_count": base.implied_block_count(hash_rate, difficulty),
        "difficulty": difficulty.reindex(hash_rate.index),
    }
    return drop_incomplete(daily_panel(columns))


PROVIDER = base.Provider(
    name="mempool_space",
    title="mempool.space mining API",
    licence="mempool.space terms of service",
    attribution="mempool.space, mempool.space/graphs/mining",
    fetch=fetch,
    parse=parse,
)
