"""Blockchain.com's charts: hash rate, difficulty, price and miners' revenue; block counts follow from the first two.

A point of the price chart stamped day D is the price at the START of D, so it is the panel's price of D-1. Heights stay
unknown: the derived block counts of 2016 to 2018 are not exact. The service thins a chart out unless asked with
`sampled=false`, and has answered 200 with an empty list for hours; both are refused here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from capitulation.data.panel import daily_panel, drop_incomplete
from capitulation.data.providers import base
from capitulation.errors import DataError, one_line

CHARTS_URL = "https://api.blockchain.info/charts"
CHARTS = ("hash-rate", "difficulty", "market-price", "miners-revenue")
HASHES_PER_SECOND = {"H/s": 1.0, "GH/s": 1e9, "TH/s": 1e12, "PH/s": 1e15, "EH/s": 1e18}
QUERY = {"timespan": "all", "format": "json", "sampled": "false"}


def fetch(get: base.Get) -> base.Fetched:
    """The four charts, whole history."""
    url = base.base_url("CAPITULATION_BLOCKCHAIN_COM_URL", CHARTS_URL)
    return base.fetched({f"{chart}.json": get(f"{url}/{chart}", QUERY) for chart in CHARTS}, parse)


def chart_series(data: bytes, chart: str) -> tuple[pd.Series, str]:
    """Values by day of one chart's JSON (zeros are missing values), and the unit it states ("" without one)."""
    what = f"Blockchain.com {chart}"
    answer = base.load_json(data, what)
    points = base.field(answer, "values", what)
    if not isinstance(points, list) or not points:
        raise DataError(f"{what}: the answer holds no values")
    seconds = base.numbers([base.field(point, "x", what) for point in points], f"{what}, x")
    values = base.numbers([base.field(point, "y", what) for point in points], f"{what}, y")
    days = base.daily_index(pd.to_datetime(seconds, unit="s", errors="coerce"), what)
    frame = base.unique_days(pd.DataFrame({"y": values}, index=days), what)
    base.check_daily_steps(frame.index, what)
    return frame["y"].where(frame["y"] > 0), one_line(answer.get("unit", ""), 20)


def _hash_rate_hs(data: bytes) -> pd.Series:
    series, unit = chart_series(data, "hash-rate")
    if unit and unit not in HASHES_PER_SECOND:
        raise DataError(f"Blockchain.com hash-rate: unknown unit {unit!r}; known are {', '.join(HASHES_PER_SECOND)}")
    return series * HASHES_PER_SECOND[unit or "TH/s"]


def parse(files: Mapping[str, bytes]) -> pd.DataFrame:
    """The panel in the charts' bytes: price, hash rate, difficulty, revenue and the implied block count."""
    for chart in CHARTS:
        if f"{chart}.json" not in files:
            raise DataError(f"Blockchain.com: {chart}.json is missing")
    hash_rate = _hash_rate_hs(files["hash-rate.json"])
    difficulty = chart_series(files["difficulty.json"], "difficulty")[0]
    price = chart_series(files["market-price.json"], "market-price")[0]
    columns = {
        "price_usd": price.set_axis(price.index - np.timedelta64(1, "D")),
        "hash_rate_ehs": hash_rate / 1e18,
        "block_count": base.implied_block_count(hash_rate, difficulty),
        "difficulty": difficulty,
        "revenue_usd": chart_series(files["miners-revenue.json"], "miners-revenue")[0],
    }
    return drop_incomplete(daily_panel(columns))


PROVIDER = base.Provider(
    name="blockchain_com",
    title="Blockchain.com charts",
    licence="Blockchain.com terms of service",
    attribution="Blockchain.com charts, blockchain.com/explorer/charts",
    fetch=fetch,
    parse=parse,
)
