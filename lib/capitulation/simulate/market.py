"""The daily loop that joins price, miners and chain, and the panel that comes out of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import exp, log, nan

import numpy as np
import pandas as pd

from capitulation.data.panel import PANEL_COLUMNS
from capitulation.errors import InputError
from capitulation.mining.protocol import BLOCKS_PER_DAY, HALVING_BLOCKS, hash_rate_ehs, subsidy_btc
from capitulation.simulate.consensus import Chain, bits_for, difficulty_of
from capitulation.simulate.miners import DeafMiners, PayingMiners
from capitulation.simulate.parameters import GENESIS_DAY, WORLDS, SimulationParams
from capitulation.simulate.shocks import Shocks, draw_shocks, streams

MOST_YEARS = 40
DAYS_PER_CALENDAR_YEAR = 365.25


@dataclass(frozen=True)
class Simulation:
    """One market and its truth.

    `panel`: as data.panel has it. `truth`: same index; `hash_rate_ehs` (the true one, without the luck of finding
    blocks), `planted` (extra log drift of the day), `drift` (all of the day's expected log return). `retargets`:
    height, second (since the genesis day), timespan (seconds), bits, difficulty.
    """

    panel: pd.DataFrame
    truth: pd.DataFrame
    retargets: pd.DataFrame
    params: SimulationParams


class RibbonWatch:
    """Tells, day by day, whether the fast mean of hash rate rose to the slow one after having been below."""

    def __init__(self, fast_days: int, slow_days: int) -> None:
        self.slow: deque[float] = deque(maxlen=slow_days)
        self.fast_days, self.slow_days = fast_days, slow_days
        self.fast_sum = self.slow_sum = 0.0
        self.below = False

    def recovered(self, hash_rate: float) -> bool:
        """Take in the day's hash rate; whether this day is a recovery."""
        if len(self.slow) == self.slow_days:
            self.slow_sum -= self.slow[0]
        if len(self.slow) >= self.fast_days:
            self.fast_sum -= self.slow[-self.fast_days]
        self.slow.append(hash_rate)
        self.fast_sum += hash_rate
        self.slow_sum += hash_rate
        if len(self.slow) < self.slow_days:
            return False
        below, before = self.fast_sum / self.fast_days < self.slow_sum / self.slow_days, self.below
        self.below = below
        return before and not below


class Planter:
    """Extra log drift after each recovery: `effect` in all, over `days` days that begin once a trade could be made."""

    def __init__(self, effect: float, days: int, params: SimulationParams) -> None:
        self.daily, self.days, self.lag = effect / days, days, params.entry_lag_days
        self.watch = RibbonWatch(params.fast_days, params.slow_days)
        self.begin, self.end = 0, -1

    def drift(self, day: int) -> float:
        """Of `day`, from recoveries before it; windows that overlap count once."""
        return self.daily if self.begin <= day <= self.end else 0.0

    def see(self, day: int, hash_rate: float) -> None:
        """Take in the hash rate of `day`, at its end."""
        if self.watch.recovered(hash_rate):
            begin = day + self.lag + 1
            self.begin = self.begin if begin <= self.end + 1 else begin
            self.end = begin + self.days - 1


def _check(years: float, effect: float, effect_days: int, world: str) -> None:
    if world not in WORLDS:
        raise InputError(f"world={world!r}: must be one of {', '.join(WORLDS)}")
    if not 1 <= years <= MOST_YEARS:
        raise InputError(f"years={years}: must lie in 1 to {MOST_YEARS}")
    if not (abs(effect) <= 10 and effect_days >= 1):
        raise InputError(f"effect={effect} over effect_days={effect_days}: |effect| <= 10 and at least one day")


@dataclass
class _Books:
    """One list per column, one entry per day."""

    price: list[float]
    hash_rate: list[float]
    blocks: list[int]
    work: list[float]
    planted: list[float]


def _live(
    miners: PayingMiners | DeafMiners, chain: Chain, planter: Planter, shocks: Shocks, price: float, random
) -> _Books:
    """The market's days, one after the other; `price`: on the first priced day (USD)."""
    books, returns, log_price = _Books([], [], [], [], []), shocks.returns.tolist(), log(price)
    for day, change in enumerate(returns):
        priced = day > shocks.first_price
        hash_rate = miners.hash_rate(day, chain.difficulty, chain.height, exp(log_price) if priced else 0.0)
        blocks, work = chain.mine(day, hash_rate, random)
        extra = planter.drift(day) if priced else 0.0
        log_price += change + extra
        books.price.append(exp(log_price) if day >= shocks.first_price else nan)
        books.hash_rate.append(hash_rate)
        books.blocks.append(blocks)
        books.work.append(work)
        books.planted.append(extra)
        planter.see(day, work)
    return books


def _panel(books: _Books, shocks: Shocks) -> pd.DataFrame:
    """Columns of the panel from the books; what a provider cannot know of a day without blocks is missing."""
    blocks, work, price = (np.array(x, dtype="float64") for x in (books.blocks, books.work, books.price))
    height = np.cumsum(blocks)
    issued = issuance_btc(height)
    fees = shocks.fees * blocks
    difficulty = np.divide(work, blocks, out=np.full(len(work), np.nan), where=blocks > 0)
    columns = {
        "price_usd": price,
        "hash_rate_ehs": hash_rate_ehs(work, 1.0),
        "block_count": blocks,
        "difficulty": difficulty,
        "height": height,
        "issuance_btc": issued,
        "fees_btc": fees,
        "revenue_usd": (issued + fees) * price,
    }
    index = pd.date_range(GENESIS_DAY, periods=len(work), freq="D", name="date")
    return pd.DataFrame(columns, index=index)[list(PANEL_COLUMNS)]


def issuance_btc(height: np.ndarray) -> np.ndarray:
    """Coins issued on each day (BTC), given the last height of each day: exact on days that hold a halving."""
    halvings = np.arange(int(height[-1]) // HALVING_BLOCKS + 1)
    rates = subsidy_btc(HALVING_BLOCKS * halvings)
    born = np.concatenate([[0.0], np.cumsum(rates[:-1] * HALVING_BLOCKS)])
    era = (height // HALVING_BLOCKS).astype("int64")
    issued_to = born[era] + rates[era] * (height - era * HALVING_BLOCKS + 1)
    return np.diff(issued_to, prepend=rates[0])


def simulate(
    seed: int = 17,
    years: float = 17,
    effect: float = 0.0,
    effect_days: int = 90,
    world: str = "realistic",
    params: SimulationParams | None = None,
) -> Simulation:
    """One market with its truth; see `simulate_panel`. `params`: another set of assumptions."""
    _check(years, effect, effect_days, world)
    params, random = params or SimulationParams(), streams(seed)
    realistic = world == "realistic"
    shocks = draw_shocks(params, random, round(years * DAYS_PER_CALENDAR_YEAR), world)
    miners = PayingMiners(params, shocks) if realistic else DeafMiners(params, random, shocks)
    chain = Chain() if realistic else Chain(bits_for(params.flat_hash_rate / hash_rate_ehs(1.0, BLOCKS_PER_DAY)))
    planter = Planter(effect, effect_days, params)
    price = params.first_price if realistic else params.flat_price
    books = _live(miners, chain, planter, shocks, price, random["blocks"])
    panel = _panel(books, shocks)
    facts = {"hash_rate_ehs": books.hash_rate, "planted": books.planted, "drift": shocks.drift + books.planted}
    truth = pd.DataFrame(facts, index=panel.index)
    changes = pd.DataFrame(chain.changes, columns=["height", "second", "timespan", "bits"])
    return Simulation(panel, truth, changes.assign(difficulty=changes["bits"].map(difficulty_of)), params)


def simulate_panel(
    seed: int = 17, years: float = 17, effect: float = 0.0, effect_days: int = 90, world: str = "realistic"
) -> pd.DataFrame:
    """A simulated daily panel from 3 January 2009 for `years` years; the same seed gives the same panel, bit for bit.

    Index `date`, columns as in data.panel; price and revenue are missing before 18 July 2010, as in reality, and
    difficulty on a day without a block. `effect`: extra log return (in all) over the `effect_days` days that begin the
    day after a recovery could be traded; 0 is the null. `world`: "realistic" (drift and volatility change by era,
    miners follow price) or "stationary" (constant drift and volatility, hash rate independent of price). Raises
    `InputError` for a value out of range.

    >>> simulate_panel(seed=1, years=2).index[0].date().isoformat()
    '2009-01-03'
    """
    return simulate(seed, years, effect, effect_days, world).panel
