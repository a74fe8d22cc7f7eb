"""An artificial Bitcoin whose truth is known: price, miners, blocks and difficulty, one seed to one market.

It is the market of a run where no data can be had, that of the tests, and the yardstick by which every statistic of
the suite is calibrated (`capitulation.simulate.calibrate`). In order: what the market is made of, what it cannot
foresee, who mines, how the chain grows, and the daily loop that joins them.
"""

from __future__ import annotations

import csv
import re
from ast import literal_eval
from math import exp, log, nan
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from capitulation.errors import InputError
from capitulation.mining.difficulty import (
    BLOCKS_PER_DAY,
    HALVING_BLOCKS,
    HASHES_PER_DIFFICULTY,
    HASHES_PER_EXAHASH,
    MAX_HALVINGS,
    MAX_RETARGET_FACTOR,
    RETARGET_BLOCKS,
    SECONDS_PER_DAY,
    TARGET_BLOCK_SECONDS,
    hash_rate_ehs,
    subsidy_btc,
)
from capitulation.paths import reference_folder

WORLDS = ("realistic", "stationary")
GENESIS_DAY = "2009-01-03"
FIRST_PRICE_DAY = "2010-07-18"
DAYS_PER_YEAR = 365.0
DAYS_PER_CALENDAR_YEAR = 365.25
MOST_YEARS = 40
EFFECT_DAYS = 90

# --- what the market is made of ---------------------------------------------------------------------------------------


def parameters(**other: Any) -> SimpleNamespace:
    """Every assumption of data/reference/simulation_parameters.csv by name, `other` values in place of the stored.

    `eras` and `vintages` are lists of dicts of text, a row of the file each. An era: from `start` on, log drift (per
    year), volatility of log returns (per square-root year) and response: growth of installed hash rate (per year) for
    each unit of log profitability of the newest rigs. A vintage: machines on sale from `start`, efficiency in J/TH.

    >>> parameters(calm_days=90.0).calm_days, parameters().eras[0]["drift"]
    (90.0, '2.0')
    """
    rows = (reference_folder() / "simulation_parameters.csv").read_text(encoding="utf-8").splitlines()
    values: dict[str, Any] = {"eras": [], "vintages": []}
    for name, text, *_ in list(csv.reader(rows))[1:]:
        if name in ("eras", "vintages"):
            values[name].append(dict(part.split(" ", 1) for part in re.split(r", (?=[a-z]+ \d)", text)))
        else:
            values[name] = literal_eval(text)
    if unknown := other.keys() - values.keys():
        raise InputError(f"{min(unknown)}: no parameter of the simulation (data/reference/simulation_parameters.csv)")
    return SimpleNamespace(**values | other)


# --- what the market cannot foresee: drawn before it starts -----------------------------------------------------------

STREAMS = ("returns", "volatility", "supply", "outages", "events", "fees", "blocks")
"""Kinds of chance, each with its own stream of random numbers, so that changing one leaves the others as they were."""
Streams = dict[str, np.random.Generator]
WET_SEASON_UNTIL = "2021-07-01"
WET_SEASON_MIDDLE = 227
FEES_GROWN_BY = "2012-11-28"


def day_number(day: str) -> int:
    """Days since the genesis day: 7 for 2009-01-10."""
    return (pd.Timestamp(day) - pd.Timestamp(GENESIS_DAY)).days


def autoregression(random: np.random.Generator, days: int, persistence_days: float, deviation: float) -> np.ndarray:
    """A stationary AR(1) of standard deviation `deviation` that forgets by a factor e in `persistence_days`."""
    noise, keep = random.standard_normal(days), float(np.exp(-1 / persistence_days))
    scale = deviation * float(np.sqrt(1 - keep**2))
    out, state = np.empty(days), deviation * float(noise[0])
    for i, step in enumerate(noise.tolist()):
        out[i] = state
        state = keep * state + scale * step
    return out


def _by_era(p: SimpleNamespace, name: str, days: int) -> np.ndarray:
    starts = [day_number(era["start"]) for era in p.eras]
    era = np.searchsorted(starts, np.arange(days), side="right") - 1
    return np.array([float(era[name]) for era in p.eras])[era]


def _surprises(p: SimpleNamespace, random: Streams, days: int, world: str) -> np.ndarray:
    """Surprise in each day's log return: fat tails (Student's t of variance 1) times volatility.

    Volatility is constant in the stationary world; in the realistic one it goes by era, times a two-state Markov chain
    of mean square 1 and persistent log volatility. Given the past the mean is zero, so that the expected return is the
    drift and nothing else: what a rule knows of past prices or hash rate does not help it. That is what makes these
    worlds nulls.
    """
    tails = random["returns"].standard_t(p.tail_degrees, days) * np.sqrt((p.tail_degrees - 2) / p.tail_degrees)
    if world == "stationary":
        return p.flat_volatility / np.sqrt(DAYS_PER_YEAR) * tails
    chance = random["volatility"]
    uniform = chance.random(days)
    share = p.turbulent_days / (p.turbulent_days + p.calm_days)
    leave = {False: 1 / p.calm_days, True: 1 / p.turbulent_days}
    turbulent, states = bool(uniform[0] < share), []
    for draw in uniform.tolist():
        turbulent ^= draw < leave[turbulent]
        states.append(turbulent)
    calm = 1 / np.sqrt(1 - share + share * p.turbulent_ratio**2)
    regime = np.where(states, calm * p.turbulent_ratio, calm)
    persistent = autoregression(chance, days, p.volatility_persistence_days, p.volatility_of_volatility)
    ratio = regime * np.exp(persistent - p.volatility_of_volatility**2)
    return _by_era(p, "volatility", days) / np.sqrt(DAYS_PER_YEAR) * ratio * tails


def _available_share(p: SimpleNamespace, random: Streams, days: int) -> np.ndarray:
    """Share of the switched-on rigs that run.

    Outages of every day; storms, whose loss comes at once and fades; bans, which take weeks to bite and whose rigs are
    back elsewhere over months.
    """
    events, since = random["events"], np.arange(days)
    noise = autoregression(random["outages"], days, p.outage_noise_days, p.outage_noise)
    storms, bans = np.zeros(days), np.zeros(days)
    for start in np.flatnonzero(events.random(days) < p.storms_per_year / DAYS_PER_YEAR):
        depth = events.uniform(*p.storm_depth)
        storms[start:] += np.log1p(-depth * np.exp(-since[: days - start] / p.storm_days))
    for start in np.flatnonzero(events.random(days) < p.bans_per_year / DAYS_PER_YEAR):
        depth, age = events.uniform(*p.ban_depth), since[: days - start]
        fade = np.exp(-np.maximum(age - p.ban_days, 0) / p.ban_return_days)
        bans[start:] += np.log1p(-depth * np.minimum(age / p.ban_days, 1) * fade)
    return np.exp(noise + storms + bans)


def draw_shocks(p: SimpleNamespace, random: Streams, days: int, world: str) -> pd.DataFrame:
    """All shocks of one market, a row per day.

    Columns: `returns` (log return without effect) and `drift` (what is expected of it), both 0 until a price exists;
    `response` per year; `supply` (noise of growth, per year); `available` (share of rigs that neither ban nor outage
    keeps off); `fees` (BTC per block: log-normal and persistent, the level growing linearly from none in 2009 until
    2012); `power_price` (USD/kWh of the median miner: cheaper around mid-August while hydropower carries much of it);
    in the stationary world also `hash_rate` (EH/s), which grows by itself and does not look at price.
    """
    day = np.arange(days)
    priced = day > day_number(FIRST_PRICE_DAY)
    drift = _by_era(p, "drift", days) if world == "realistic" else np.full(days, p.flat_drift)
    drift = np.where(priced, drift / DAYS_PER_YEAR, 0.0)
    fee_level = p.fee_per_block * np.minimum(day / day_number(FEES_GROWN_BY), 1)
    year_day = (day + pd.Timestamp(GENESIS_DAY).day_of_year) % DAYS_PER_CALENDAR_YEAR
    wet = np.clip(np.cos(2 * np.pi * (year_day - WET_SEASON_MIDDLE) / DAYS_PER_CALENDAR_YEAR), 0, 1)
    shocks = {
        "returns": drift + np.where(priced, _surprises(p, random, days, world), 0.0),
        "drift": drift,
        "response": _by_era(p, "response", days),
        "supply": autoregression(random["supply"], days, p.supply_noise_days, p.supply_noise),
        "available": _available_share(p, random, days),
        "fees": fee_level * np.exp(autoregression(random["fees"], days, p.fee_noise_days, p.fee_noise)),
        "power_price": p.power_price * (1 - p.wet_season * wet * (day < day_number(WET_SEASON_UNTIL))),
    }
    if world == "stationary":
        noise = autoregression(random["supply"], days, p.flat_noise_days, p.flat_noise)
        level = np.log(p.flat_hash_rate) + np.cumsum(p.flat_growth + noise) / DAYS_PER_YEAR
        shocks["hash_rate"] = np.exp(level) * shocks["available"]
    return pd.DataFrame(shocks)


# --- who mines --------------------------------------------------------------------------------------------------------

HASHES_PER_PETAHASH = 1e15
KWH_PER_PH_DAY_PER_J_TH = 24.0
LOGISTIC_SCALE = 1.702
GIVEN_UP = 1e-4
STEEPEST = 30.0
HOBBY_DAY = day_number("2010-01-01")


def switched_on(log_margin: float, spread: float) -> float:
    """Share of owners whose power is cheaper than breakeven: power prices log-normal around the median.

    The normal distribution function in its logistic form (within 0.01).

    >>> switched_on(0.0, 0.3)
    0.5
    """
    z = LOGISTIC_SCALE * log_margin / spread
    return 1.0 if z > STEEPEST else 0.0 if z < -STEEPEST else 1 / (1 + exp(-z))


class PayingMiners:
    """Hash rate of the realistic world: generations of rigs bought when mining pays, switched off when it does not.

    Price leads hash rate by construction: an owner switches a rig within weeks of its margin turning, and a rig
    ordered today is installed months later. Of each vintage: `installed` (EH/s), `on` (the share of it that runs) and
    `cost` (kWh that 1 PH/s of it takes in a day).
    """

    def __init__(self, p: SimpleNamespace, shocks: pd.DataFrame) -> None:
        self.p, self.shocks = p, {name: column.tolist() for name, column in shocks.items()}
        self.subsidies = subsidy_btc(HALVING_BLOCKS * np.arange(MAX_HALVINGS)).tolist()
        self.arrivals = [day_number(vintage["start"]) for vintage in p.vintages]
        self.costs = [KWH_PER_PH_DAY_PER_J_TH * float(vintage["efficiency"]) for vintage in p.vintages]
        self.installed, self.on, self.cost = [p.first_hash_rate], [1.0], self.costs[:1]
        self.oldest, self.profit = 0, None

    def _running(self) -> float:
        """Hash rate of the rigs that are switched on (EH/s)."""
        return sum([self.installed[v] * self.on[v] for v in range(self.oldest, len(self.installed))])

    def hash_rate(self, day: int, difficulty: float, height: int, price: float) -> float:
        """Of `day` (EH/s), decided at its start; `price` 0 while there is none, and only hobbyists mine."""
        p, power, shock = self.p, self.shocks["power_price"][day], self.shocks
        # Expected revenue of 1 PH/s in a day (USD): blocks it finds, times coins, times price.
        blocks = HASHES_PER_PETAHASH * SECONDS_PER_DAY / (HASHES_PER_DIFFICULTY * difficulty)
        pays = blocks * (self.subsidies[height // HALVING_BLOCKS] + shock["fees"][day]) * price
        if price and self.profit is None:
            self.profit = log(pays / (self.cost[-1] * power))
        if len(self.cost) < len(self.arrivals) and day >= self.arrivals[len(self.cost)]:
            self.installed.append(0.0)
            self.on.append(1.0)
            self.cost.append(self.costs[len(self.cost)])
        before, wanted = self._running(), p.hobby_growth if day >= HOBBY_DAY else 0.0
        if price:
            for v in range(self.oldest, len(self.on)):
                gap = switched_on(log(pays / (self.cost[v] * power)), p.power_spread) - self.on[v]
                self.on[v] += gap / (p.switch_on_days if gap > 0 else p.switch_off_days)
            self.profit += (log(pays / (self.cost[-1] * power)) - self.profit) / p.delivery_days
            wanted = shock["response"][day] * (self.profit - p.hurdle)
        for v in range(self.oldest, len(self.installed)):
            self.installed[v] *= 1 - (p.wear + p.scrapping * (1 - self.on[v])) / DAYS_PER_YEAR
        while self.oldest < len(self.installed) - 1 and self.on[self.oldest] < GIVEN_UP:
            self.oldest += 1
        growth = min(max(wanted + shock["supply"][day], 0.0), p.most_growth)
        self.installed[-1] += before * growth / DAYS_PER_YEAR
        return self._running() * shock["available"][day]


# --- how the chain grows: exact --------------------------------------------------------------------------------------

RETARGET_SECONDS = RETARGET_BLOCKS * TARGET_BLOCK_SECONDS
EASIEST_BITS = 0x1D00FFFF
MANTISSA_BYTES = 3
SIGN_BIT = 0x800000


def target_of(bits: int) -> int:
    """The 256-bit target of a compact `nBits` number: mantissa (3 bytes) times 256 to the exponent minus 3.

    >>> hex(target_of(0x1B0404CB))
    '0x404cb000000000000000000000000000000000000000000000000'
    """
    exponent, mantissa = bits >> 24, bits & 0x7FFFFF
    shift = 8 * (exponent - MANTISSA_BYTES)
    return mantissa << shift if shift >= 0 else mantissa >> -shift


def bits_of(target: int) -> int:
    """The compact `nBits` form of `target`; digits beyond the mantissa are cut, as every node does.

    >>> hex(bits_of(target_of(0x1D00D86A)))
    '0x1d00d86a'
    """
    size = (target.bit_length() + 7) // 8
    shift = 8 * (size - MANTISSA_BYTES)
    mantissa = target >> shift if shift >= 0 else target << -shift
    if mantissa & SIGN_BIT:
        mantissa, size = mantissa >> 8, size + 1
    return size << 24 | mantissa


EASIEST_TARGET = target_of(EASIEST_BITS)


def next_bits(bits: int, timespan_seconds: int) -> int:
    """`nBits` of the next 2016 blocks: target times actual over planned time, within a factor 4, never easier than 1.

    `timespan_seconds`: from the first to the last of the 2016 blocks, so 2015 intervals, as the protocol has it. The
    example is the first adjustment that ever changed difficulty (block 32,256, 30 December 2009).

    >>> hex(next_bits(0x1D00FFFF, 1262152739 - 1261130161))
    '0x1d00d86a'
    """
    least, most = RETARGET_SECONDS // MAX_RETARGET_FACTOR, RETARGET_SECONDS * MAX_RETARGET_FACTOR
    clamped = min(max(timespan_seconds, least), most)
    return bits_of(min(target_of(bits) * clamped // RETARGET_SECONDS, EASIEST_TARGET))


def difficulty_of(bits: int) -> float:
    """How much harder than the easiest allowed target.

    >>> round(difficulty_of(0x1B0404CB), 3)
    16307.421
    """
    return EASIEST_TARGET / target_of(bits)


def bits_for(difficulty: float) -> int:
    """`nBits` whose difficulty is the closest below `difficulty`; at least 1."""
    return bits_of(min(int(EASIEST_TARGET / difficulty), EASIEST_TARGET)) if difficulty > 1 else EASIEST_BITS


class Chain:
    """The block chain as it grows. `height`: blocks found, the genesis block not counted.

    Blocks arrive as a Poisson process whose rate is hash rate over difficulty, so a day is drawn in one step: given
    the number of arrivals, their times are uniform, and the time of the k-th is a scaled Beta(k, n - k + 1). Only days
    that hold an adjustment need more than one draw, and nothing is approximated.

    `changes` lists every adjustment: (height of its first block, seconds at which the last block before it was found,
    timespan in seconds, nBits).
    """

    def __init__(self, bits: int = EASIEST_BITS) -> None:
        self.bits, self.difficulty, self.height = bits, difficulty_of(bits), 0
        self.period_started: int | None = 0
        self.changes: list[tuple[int, int, int, int]] = []

    def mine(self, day: int, hash_rate_ehs: float, random: np.random.Generator) -> tuple[int, float]:
        """Blocks found on `day` at a constant hash rate, and the sum of their difficulties."""
        per_difficulty = hash_rate_ehs * HASHES_PER_EXAHASH * SECONDS_PER_DAY / HASHES_PER_DIFFICULTY
        before, work, left = self.height, 0.0, 1.0
        n = int(random.poisson(per_difficulty / self.difficulty))
        while n:
            wanted = 1 if self.period_started is None else RETARGET_BLOCKS - 1 - self.height % RETARGET_BLOCKS
            found = min(n, wanted)
            self.height += found
            work += found * self.difficulty
            if n < wanted:
                break
            left *= 1 - random.beta(wanted, n - wanted + 1)
            n -= wanted
            second = int((day + 1 - left) * SECONDS_PER_DAY)
            if self.period_started is None:  # the first block of a period
                self.period_started = second
                continue
            timespan, self.period_started = second - self.period_started, None
            self.bits = next_bits(self.bits, timespan)
            self.difficulty = difficulty_of(self.bits)
            self.changes.append((self.height + 1, second, timespan, self.bits))
            n = int(random.poisson(per_difficulty / self.difficulty * left))
        return self.height - before, work


def issuance_btc(height: np.ndarray) -> np.ndarray:
    """Coins issued on each day (BTC), given the last height of each day: exact on days that hold a halving."""
    halvings = np.arange(int(height[-1]) // HALVING_BLOCKS + 1)
    rates = subsidy_btc(HALVING_BLOCKS * halvings)
    born = np.concatenate([[0.0], np.cumsum(rates[:-1] * HALVING_BLOCKS)])
    era = (height // HALVING_BLOCKS).astype("int64")
    issued_to = born[era] + rates[era] * (height - era * HALVING_BLOCKS + 1)
    return np.diff(issued_to, prepend=rates[0])


# --- the days, one after the other ------------------------------------------------------------------------------------


class Planter:
    """Extra log drift after a recovery: `daily` on the days from `begin`, once a trade could be made, to `end`.

    A recovery: the fast mean of hash rate is back at or above the slow one after having been below. Of windows that
    overlap, every day counts once.
    """

    def __init__(self, p: SimpleNamespace, effect: float) -> None:
        self.p, self.daily = p, effect / EFFECT_DAYS
        self.last: list[float] = []
        self.below, self.begin, self.end = False, 0, -1

    def see(self, day: int, hash_rate: float) -> None:
        """Take in the hash rate of `day`, at its end."""
        fast_days, slow_days = self.p.fast_days, self.p.slow_days
        self.last = [*self.last[1 - slow_days :], hash_rate]
        if len(self.last) < slow_days:
            return
        before, self.below = self.below, sum(self.last[-fast_days:]) / fast_days < sum(self.last) / slow_days
        if before and not self.below:
            begin = day + self.p.entry_lag_days + 1
            self.begin = self.begin if begin <= self.end + 1 else begin
            self.end = begin + EFFECT_DAYS - 1


class Simulation(NamedTuple):
    """One market and its truth.

    `panel`: as data.panel has it. `truth`: same index; `hash_rate_ehs` (the true one, without the luck of finding
    blocks), `planted` (extra log drift of the day), `drift` (all of the day's expected log return). `adjustments`:
    height, second (since the genesis day), timespan (seconds), bits, difficulty.
    """

    panel: pd.DataFrame
    truth: pd.DataFrame
    adjustments: pd.DataFrame


def simulate_market(
    seed: int = 17, years: float = 17, effect: float = 0.0, world: str = "realistic", **assumptions: Any
) -> Simulation:
    """One market with its truth, from 3 January 2009 for `years` years; the same seed gives the same one, bit for bit.

    Price and revenue are missing before 18 July 2010, as in reality, and difficulty on a day without a block.
    `effect`: extra log return (in all) over the 90 days that begin the day after a recovery could be traded; 0 is the
    null. `world`: "realistic" (drift and volatility change by era, miners follow price) or "stationary" (constant
    drift and volatility, hash rate independent of price). `assumptions`: others than those of `parameters`, by
    name. Raises `InputError` for a value out of range or a name that is none.
    """
    if world not in WORLDS:
        raise InputError(f"world={world!r}: must be one of {', '.join(WORLDS)}")
    if not 1 <= years <= MOST_YEARS:
        raise InputError(f"years={years}: must lie in 1 to {MOST_YEARS}")
    if not abs(effect) <= 10:
        raise InputError(f"effect={effect}: must lie in -10 to 10")
    p, children = parameters(**assumptions), np.random.SeedSequence(seed).spawn(len(STREAMS))
    random = {name: np.random.Generator(np.random.PCG64(child)) for name, child in zip(STREAMS, children, strict=True)}
    days = round(years * DAYS_PER_CALENDAR_YEAR)
    shocks = draw_shocks(p, random, days, world)
    if world == "realistic":
        price, chain, miners = p.first_price, Chain(), PayingMiners(p, shocks)
    else:
        price, miners, deaf = p.flat_price, None, shocks["hash_rate"].tolist()
        chain = Chain(bits_for(p.flat_hash_rate / hash_rate_ehs(1.0, BLOCKS_PER_DAY)))
    planter, first, log_price, rows = Planter(p, effect), day_number(FIRST_PRICE_DAY), log(price), []
    for day, change in enumerate(shocks["returns"].tolist()):
        known = exp(log_price) if day > first else 0.0
        hash_rate = miners.hash_rate(day, chain.difficulty, chain.height, known) if miners else deaf[day]
        blocks, work = chain.mine(day, hash_rate, random["blocks"])
        extra = planter.daily if day > first and planter.begin <= day <= planter.end else 0.0
        log_price += change + extra
        rows.append((exp(log_price) if day >= first else nan, hash_rate, blocks, work, extra))
        planter.see(day, work)
    price, hash_rate, blocks, work, planted = np.array(rows, dtype="float64").T.copy()
    height = np.cumsum(blocks)
    issued, fees = issuance_btc(height), shocks["fees"].to_numpy() * blocks
    columns = {
        "price_usd": price,
        "hash_rate_ehs": hash_rate_ehs(work, 1.0),
        "block_count": blocks,
        "difficulty": np.divide(work, blocks, out=np.full(days, nan), where=blocks > 0),
        "height": height,
        "issuance_btc": issued,
        "fees_btc": fees,
        "revenue_usd": (issued + fees) * price,
    }
    panel = pd.DataFrame(columns, index=pd.date_range(GENESIS_DAY, periods=days, freq="D", name="date"))
    drift = shocks["drift"].to_numpy() + planted
    truth = pd.DataFrame({"hash_rate_ehs": hash_rate, "planted": planted, "drift": drift}, panel.index)
    changes = pd.DataFrame(chain.changes, columns=["height", "second", "timespan", "bits"])
    changes["difficulty"] = changes["bits"].map(difficulty_of)
    return Simulation(panel, truth, changes)


def simulate_panel(seed: int = 17, **options: Any) -> pd.DataFrame:
    """A simulated daily panel (index `date`, columns as in data.panel); `options` as in `simulate_market`.

    >>> simulate_panel(seed=1, years=2).index[0].date().isoformat()
    '2009-01-03'
    """
    return simulate_market(seed, **options).panel
