"""Small panels for the tests of mining: one by block-by-block arrivals with known truth, others by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd

from capitulation.data.panel import PANEL_COLUMNS

SECONDS_PER_DAY = 86_400
HASHES = 2.0**32
COLUMNS = list(PANEL_COLUMNS)


def steady_panel(hash_rate, blocks=144.0, start="2015-01-01", price=100.0) -> pd.DataFrame:
    """A panel whose hash rate (EH/s) and blocks per day are given; difficulty follows from both."""
    rate = np.asarray(hash_rate, dtype=float)
    index = pd.date_range(start, periods=len(rate), name="date")
    count = np.broadcast_to(np.asarray(blocks, dtype=float), rate.shape).copy()
    difficulty = rate * 1e18 * SECONDS_PER_DAY / (HASHES * np.where(count > 0, count, np.nan))
    coins = count * 25.0
    values = [np.broadcast_to(price, rate.shape), rate, count, difficulty, np.cumsum(count), coins, coins * 0.01]
    panel = pd.DataFrame(dict(zip(COLUMNS, values, strict=False)), index=index)
    return panel.assign(revenue_usd=(panel["issuance_btc"] + panel["fees_btc"]) * panel["price_usd"])[COLUMNS]


def mined_panel(days: int = 1500, seed: int = 1, growth: float = 0.5) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Blocks found one by one under the consensus rule: the daily panel, and the true adjustments.

    The true hash rate (EH/s) grows by `growth` (log, per year) and wanders from day to day; difficulty is set after
    each 2016 blocks from the time between an epoch's first and last block.
    """
    rng = np.random.default_rng(seed)
    wander = np.cumsum(rng.normal(0, 0.01, days + 60))
    true_rate = np.exp(growth * np.arange(days + 60) / 365 + wander)
    difficulty = true_rate[0] * 1e18 * 600 / HASHES
    midnights = np.arange(len(true_rate) + 1) * SECONDS_PER_DAY
    work = np.r_[0, np.cumsum(true_rate * 1e18 * SECONDS_PER_DAY)]  # hashes done by each of them
    now, height, times, difficulties, truth = 0.0, 1, [], [], []
    while now < days * SECONDS_PER_DAY:
        size = 2016 if height > 1 else 2015
        needed = np.cumsum(rng.exponential(difficulty * HASHES, size))
        found = np.interp(np.interp(now, midnights, work) + needed, work, midnights)
        times.append(found)
        difficulties.append(np.full(size, difficulty))
        span = found[-1] - found[0]
        ratio = np.clip(2016 * 600 / span, 0.25, 4)
        height += size
        truth.append((height, difficulty * ratio, ratio - 1))
        now, difficulty = found[-1], difficulty * ratio
    return _daily(np.concatenate(times), np.concatenate(difficulties), days, rng), _truth(truth, np.concatenate(times))


def _daily(times: np.ndarray, difficulties: np.ndarray, days: int, rng: np.random.Generator) -> pd.DataFrame:
    day = (times // SECONDS_PER_DAY).astype(int)
    count = np.bincount(day, minlength=days)[:days].astype(float)
    mean = np.bincount(day, difficulties, minlength=days)[:days] / count
    rate = mean * HASHES * count / SECONDS_PER_DAY / 1e18
    price = 100 * np.exp(np.cumsum(rng.normal(0.001, 0.03, days)))
    return steady_panel(rate, count, price=price).assign(difficulty=mean)


def _truth(rows: list, times: np.ndarray) -> pd.DataFrame:
    """Adjustments with the day of their first block (heights count from 1 for the first block in `times`)."""
    table = pd.DataFrame(rows, columns=["height", "difficulty", "change"])
    table = table[table["height"] <= len(times)]
    first = times[table["height"].to_numpy() - 1]
    return table.assign(date=pd.Timestamp("2015-01-01") + pd.to_timedelta(first // SECONDS_PER_DAY, unit="D"))


def without(panel, days, *columns) -> pd.DataFrame:
    """`panel` with nothing known on those `days` (positions or dates), or nothing in those `columns`."""
    holed, dates = panel.copy(), days if isinstance(days, pd.DatetimeIndex) else panel.index[list(days)]
    holed.loc[dates, list(columns or panel.columns)] = np.nan
    return holed
