"""The mempool API: mempool.space, one's own mempool, or a BRK instance, which answers the same paths.

It gives the hash rate of each day, every adjustment of difficulty with height and time, prices by the hour, and mean
fees per block. Blocks, heights and issuance are reckoned from these; their error is a block or two a day.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from capitulation.data.panel import (
    BLOCKS_PER_DAY,
    FIRST_DAY,
    HASHES_PER_DIFFICULTY,
    HASHES_PER_EXAHASH,
    LAST_DAY,
    MAX_BLOCKS_PER_DAY,
    RETARGET_BLOCKS,
    SECONDS_PER_DAY,
    daily_panel,
    supply_btc,
)
from capitulation.data.reading import load_json, numbers, records, stamped
from capitulation.data.snapshots import Answer, FetchError, Get, base_url
from capitulation.errors import DataError

MEMPOOL_URL, NOBODY = "MEMPOOL_URL", "none"  # the variable that has the address, and its value for no one
HASH_RATE, ADJUSTMENTS, PRICES, FEES = "hashrate.json", "adjustments.json", "prices.json", "fees.json"
OPTIONAL: dict[str, tuple[str, dict[str, str]]] = {  # what an instance may lack, as one without a price index does
    ADJUSTMENTS: ("mining/difficulty-adjustments", {}),
    PRICES: ("historical-price", {"currency": "USD"}),
    FEES: ("mining/blocks/fees/all", {}),
}
HOURLY_SINCE = pd.Timestamp("2013-10-03")  # before: a week's close at Mt. Gox, stamped by the midnight that ends it
NONE = pd.Series(dtype="float64", index=pd.DatetimeIndex([]).as_unit("us"))
LATE = pd.Timedelta(hours=18)  # a price before that is not the day's end
SPLIT, DRIFT = 4.0, (0.05, 100.0, 1e6)  # blocks^2: of a header's time; of a day, with odd, with missing hash rate
ODD, AHEAD = 6.0, 36.0  # standard errors of an epoch's sum that are not luck; blocks after the last adjustment


def unwanted() -> bool:
    """Whether the user wants nothing of any instance: MEMPOOL_URL is none."""
    return os.environ.get(MEMPOOL_URL, "").lower() == NOBODY


def mempool_url() -> str:
    """Where the API is: MEMPOOL_URL, with or without /api or /api/v1 at its end, else mempool.space."""
    return re.sub(r"(/api(/v1)?)?$", "/api/v1", str(base_url(MEMPOOL_URL, "https://mempool.space")), count=1)


def fetch_mempool_space(get: Get) -> dict[str, Answer]:
    """The whole history: hash rate with difficulty, and of adjustments, prices and fees what the instance has.

    mempool knows the hash rate by interval alone, BRK without one alone. Only 404 says that an instance lacks a path.
    """
    url, answers = mempool_url(), {}
    try:
        answers[HASH_RATE] = get(f"{url}/mining/hashrate/all")
    except FetchError as error:
        if error.status != 404:
            raise
        answers[HASH_RATE] = get(f"{url}/mining/hashrate")
    for file, (path, query) in OPTIONAL.items():
        try:
            answers[file] = get(f"{url}/{path}", query)
        except FetchError as error:
            if error.status != 404:
                raise
    return answers


def parse_mempool_space(files: Mapping[str, bytes]) -> pd.DataFrame:
    """The panel in the answers; `hashrate.json` alone will do, then without price and fees.

    Blocks, heights and difficulty are those of `reckon_blocks`, issuance by rule, fees = blocks times their mean,
    revenue = both at the day's price; missing where one of these is.
    """
    rate = daily_hash_rate(files.get(HASH_RATE, b""))
    table = reckon_blocks(rate, read_adjustments(files))
    count, height = table["block_count"], table["height"]
    coins = supply_btc(height) - supply_btc(height - count)
    price, fees = day_end_prices(files.get(PRICES)), mean_fees(files.get(FEES)) * count
    given = {"hash_rate_ehs": rate / HASHES_PER_EXAHASH, "price_usd": price, "issuance_btc": coins, "fees_btc": fees}
    return daily_panel({**table, **given, "revenue_usd": (coins + fees) * price})


def daily_hash_rate(data: bytes) -> pd.Series:
    """Hash rate of each UTC day [H/s], of records {timestamp, avgHashrate}: the one stamped D is of day D-1; 0 is none.

    The first block has one of its own, stamped by its time, which is of no day.
    """
    stamps = stamped(data, "hashrates", ("timestamp", "avgHashrate"), "mempool hashrate")
    return stamps.shift(-1, freq="D").loc[FIRST_DAY:]


def moments(seconds: pd.Series, what: str) -> pd.Series:
    """UTC times of Unix seconds; `DataError` for one outside the chain's life."""
    found = pd.to_datetime(seconds, unit="s", errors="coerce").astype("datetime64[us]")
    for wrong in seconds[~found.between(FIRST_DAY, LAST_DAY)]:
        raise DataError(f"{what}: {wrong:.10g} is not a time between {FIRST_DAY.date()} and {LAST_DAY.date()}")
    return found


def day_end_prices(data: bytes | None) -> pd.Series:
    """Price at the end of each UTC day that has one (USD), of records {time, USD} in any order; 0 and -1 are none.

    The last of a day, if it is as late as 18:00 UTC; weekly before October 2013, so that other days have none.
    """
    rows = records(data, "prices", "mempool prices") if data else pd.DataFrame()
    if rows.empty:
        return NONE
    points = numbers(rows.mask(rows == -1), ("time", "USD"), "mempool prices")
    points = points[points["USD"] > 0].sort_values("time", kind="stable")
    times = moments(points["time"], "mempool prices: time")
    weekly = times < HOURLY_SINCE
    days = times.mask(weekly, times - pd.Timedelta(seconds=1)).dt.normalize()
    return points["USD"][weekly | (times - days >= LATE)].groupby(days).last()


def mean_fees(data: bytes | None) -> pd.Series:
    """Mean fees of the blocks of each UTC day that is listed (BTC), of records {timestamp, avgFees in satoshis}."""
    rows = pd.DataFrame(_rows(data, dict, "mempool fees"), dtype=object)
    if rows.empty:
        return NONE
    points = numbers(rows, ("timestamp", "avgFees"), "mempool fees")
    days = moments(points["timestamp"], "mempool fees: timestamp").dt.normalize()
    return points["avgFees"].groupby(days).mean() / 1e8


def _rows(data: bytes | None, kind: type, what: str) -> list[Any]:
    """The rows in a JSON list, none without data."""
    rows = load_json(data, what, list) if data else []
    if not all(isinstance(row, kind) for row in rows):
        raise DataError(f"{what}: not a list of {'records' if kind is dict else 'rows'}; the service may have changed")
    return rows


def read_adjustments(files: Mapping[str, bytes]) -> pd.DataFrame:
    """Every adjustment of difficulty in the answers, in order: time (Unix s), height (missing: unknown), difficulty.

    `DataError` where two contradict each other, or a height is no multiple of 2016.
    """
    what, fields = "mempool adjustments", ("time", "height", "difficulty")
    rows = [dict(zip(fields, row, strict=False)) for row in _rows(files.get(ADJUSTMENTS), list, what)]
    lists = [records(files[HASH_RATE], "difficulty", what), pd.DataFrame(rows, dtype=object)]
    given = [numbers(one, ("time", "difficulty"), what, fields) for one in lists if len(one)]
    found = pd.concat([pd.DataFrame(columns=[*fields], dtype="float64"), *given])
    moments(found["time"], f"{what}: time")
    if found["height"].notna().any():
        found = found.dropna()
    found = found[[*fields]].sort_values("time", ignore_index=True)
    moved = found.diff().abs()
    found = found[~((moved["time"] == 0) & ~(moved["height"] > 0) & (moved["difficulty"] < 1e-6 * found["difficulty"]))]
    wrong = (found["height"] % RETARGET_BLOCKS > 0) | (found["height"].diff() <= 0) | ~(found["difficulty"] > 0)
    for time, height, difficulty in found[wrong].itertuples(index=False):
        at = pd.Timestamp(time, unit="s")
        raise DataError(f"{what}: height {height:.10g} at {at}, difficulty {difficulty:.6g}: contradicts the others")
    return found


def reckon_blocks(rate: pd.Series, steps: pd.DataFrame) -> pd.DataFrame:
    """Blocks, height of the last one and mean difficulty of each day, from its hash rate and the adjustments.

    `rate` [H/s] by day, `steps` as `read_adjustments` gives them. Hash rate * time / difficulty sums up to blocks whose
    error does not grow: a day's hash rate divides by the time from the last block before it to its own last one, so the
    next day makes good what this one lacks. Height is that sum and an offset fitted to the listed heights: a random
    walk of 0.05 blocks^2 a day, seen at every adjustment with the luck of how that day's blocks lie around it (least
    squares; free where hash rate is missing or wrong). At adjustments heights are exact.

    Missing are counts and heights of days without hash rate; with difficulty those before the first adjustment, between
    two that are not neighbours (unless difficulty was 1, as all through 2009), and after a next one that is not yet
    listed. Where `steps` has no height in these days counts are hash rate over difficulty.
    """
    midnights = rate.index.as_unit("s").asi8
    midnights = np.append(midnights, midnights[-1] + SECONDS_PER_DAY)
    time, height, level = steps[steps["time"] < midnights[-1]].to_numpy().T
    gap = np.append(np.diff(height) > RETARGET_BLOCKS, False) & (level > 1)
    levels = np.append(np.where(gap, np.nan, level), np.nan)  # the last: before the first adjustment
    edges = np.union1d(midnights, time[time > midnights[0]])  # of parts of days, cut at adjustments
    opens, part = edges.searchsorted(midnights), np.diff(edges) / SECONDS_PER_DAY
    day, epoch = (of.searchsorted(edges[:-1], side="right") - 1 for of in (midnights, time))
    with np.errstate(over="ignore"):
        pace = rate.to_numpy()[day] / HASHES_PER_DIFFICULTY * SECONDS_PER_DAY / levels[epoch]
    known, pace = ~np.isnan(pace), np.fmin(np.nan_to_num(pace, nan=BLOCKS_PER_DAY), MAX_BLOCKS_PER_DAY)
    whole, blocks = np.logical_and.reduceat(known, opens[:-1]), pace * part
    seen = np.isin(time, edges) & ~np.isnan(height)
    if not seen.any():
        count = np.add.reduceat(blocks, opens[:-1])
        mean = np.add.reduceat(blocks * levels[epoch], opens[:-1]) / count
        count = np.where(whole, np.where(abs(count - count.round()) < 0.02, count.round(), count), np.nan)
        return pd.DataFrame({"block_count": count, "height": np.nan, "difficulty": mean}, index=rate.index)

    at, total = edges.searchsorted(time[seen]), np.append(0.0, blocks.cumsum())
    off = height[seen] - total[at]
    before = (time[seen] - midnights[day[at]]) / SECONDS_PER_DAY
    luck = SPLIT + pace[at] * before * (1 - before)
    odd = np.append(abs(np.diff(off)) > ODD * np.sqrt(luck[1:] + luck[:-1]), False)
    odd = odd[np.isin(edges[:-1], time[seen]).cumsum() - 1]
    clock = np.append(0.0, np.cumsum(part * np.select([~known, odd], DRIFT[:0:-1], DRIFT[0])))
    weight, stiff = 1 / luck, 1 / np.diff(clock[at])
    system = np.diag(weight + np.append(stiff, 0) + np.append(0, stiff)) - np.diag(stiff, 1) - np.diag(stiff, -1)
    offset = np.interp(clock[opens], clock[at], np.linalg.solve(system, weight * off))

    now = time.searchsorted(midnights) - 1  # the adjustment that holds for the last block before each midnight
    least, most = np.append(height, 0)[now], np.append(height, height[-1] + RETARGET_BLOCKS)[now + 1] - 1
    top = np.floor(total[opens] + offset)
    late = (now == len(time) - 1) & (top > most + AHEAD)
    top = np.maximum.accumulate(np.clip(top, least, np.maximum(most, 0)))
    count, now, late = np.diff(top), now[1:], late[1:]
    new = np.minimum(count, top[1:] - least[1:] + 1)
    newer = new / np.maximum(count, 1)  # share of the day's blocks
    mean = np.where(new < count, newer * levels[now] + (1 - newer) * levels[now - 1], levels[now])
    found = {"block_count": count, "height": top[1:], "difficulty": mean}
    lost = {"block_count": ~whole | late, "height": ~whole | late, "difficulty": late}
    return pd.DataFrame(found, index=rate.index).mask(pd.DataFrame(lost, index=rate.index))
