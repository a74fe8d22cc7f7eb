"""An artificial Bitcoin whose truth is known: price, miners, blocks and difficulty, one seed to one market.

It serves runs without data, the tests, and `simulate.calibrate`, which calibrates every statistic of the suite on it.
In order: assumptions, what cannot be foreseen, who mines, how the chain grows, and the daily loop that joins them.
"""

from __future__ import annotations

import re
from ast import literal_eval
from dataclasses import dataclass
from math import exp, log, nan
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from capitulation.data.panel import PANEL_COLUMNS, RETARGET_SECONDS, supply_btc
from capitulation.errors import InputError
from capitulation.mining import difficulty as bitcoin
from capitulation.mining.economics import KWH_PER_PH_DAY
from capitulation.paths import reference_folder

WORLDS, EFFECT_DAYS, MOST_YEARS = ("realistic", "stationary"), 90, 40
GENESIS_DAY, FIRST_PRICE_DAY = "2009-01-03", "2010-07-18"
HOBBYISTS_FROM, FEES_GROWN_BY, WET_SEASON_UNTIL = "2010-01-01", "2012-11-28", "2021-07-01"
WET_SEASON_MIDDLE, DAYS_PER_YEAR, DAYS_PER_CALENDAR_YEAR = 227, 365.0, 365.25
GIVEN_UP = 1e-4  # share switched on below which a generation of rigs is counted no more
EASIEST_TARGET = 0xFFFF << 208  # of difficulty 1; any other difficulty is this over its target
STREAMS = ("returns", "volatility", "supply", "outages", "events", "fees", "blocks")
"""Kinds of chance, each with its own stream of random numbers, so that changing one leaves the others as they were."""
Streams = dict[str, np.random.Generator]


def parameters(**other: Any) -> SimpleNamespace:
    """Every assumption of data/reference/simulation_parameters.csv by name, `other` values in place of the stored.

    `eras` and `vintages` are lists of dicts of text. An era: from `start` on, log drift (per year), volatility (per
    square-root year) and response, growth of hash rate (per year) for each unit of log profitability of the newest
    rigs. A vintage: machines on sale from `start`, efficiency in J/TH.

    >>> parameters(calm_days=90.0).calm_days, parameters().eras[0]["drift"]
    (90.0, '2.0')
    """
    table = pd.read_csv(reference_folder() / "simulation_parameters.csv", dtype=str)
    values: dict[str, Any] = {"eras": [], "vintages": []}
    for name, text in zip(table["parameter"], table["value"], strict=True):
        if name in ("eras", "vintages"):
            values[name].append(dict(part.split(" ", 1) for part in re.split(r", (?=[a-z]+ \d)", text)))
        else:
            values[name] = literal_eval(text)
    if unknown := other.keys() - values.keys():
        raise InputError(f"{min(unknown)}: no parameter of the simulation (data/reference/simulation_parameters.csv)")
    return SimpleNamespace(**values | other)


def _day_number(day: str) -> int:
    """Days since the genesis day."""
    return (pd.Timestamp(day) - pd.Timestamp(GENESIS_DAY)).days


def _by_era(p: SimpleNamespace, name: str, days: int) -> np.ndarray:
    starts = [_day_number(era["start"]) for era in p.eras]
    return np.array([float(era[name]) for era in p.eras])[np.searchsorted(starts, np.arange(days), side="right") - 1]


def _autoregression(random: np.random.Generator, days: int, persistence_days: float, deviation: float) -> np.ndarray:
    """A stationary AR(1) of standard deviation `deviation` that forgets by a factor e in `persistence_days`."""
    noise, keep = random.standard_normal(days), float(np.exp(-1 / persistence_days))
    scale, state, out = deviation * float(np.sqrt(1 - keep**2)), deviation * float(noise[0]), []
    for step in noise.tolist():
        out.append(state)
        state = keep * state + scale * step
    return np.array(out)


def _surprises(p: SimpleNamespace, random: Streams, days: int, world: str) -> np.ndarray:
    """Surprise in each day's log return, of mean zero given the past: Student's t of variance 1 times volatility.

    Volatility: constant (stationary), else by era times a two-state Markov chain and persistent log volatility.
    """
    tails = random["returns"].standard_t(p.tail_degrees, days) * np.sqrt((p.tail_degrees - 2) / p.tail_degrees)
    if world == "stationary":
        return p.flat_volatility / np.sqrt(DAYS_PER_YEAR) * tails
    uniform = random["volatility"].random(days)
    share = p.turbulent_days / (p.turbulent_days + p.calm_days)
    leave = {False: 1 / p.calm_days, True: 1 / p.turbulent_days}
    turbulent, states = bool(uniform[0] < share), []
    for draw in uniform.tolist():
        turbulent ^= draw < leave[turbulent]
        states.append(turbulent)
    calm = 1 / np.sqrt(1 - share + share * p.turbulent_ratio**2)
    regime = np.where(states, calm * p.turbulent_ratio, calm)
    spread = p.volatility_of_volatility
    persistent = _autoregression(random["volatility"], days, p.volatility_persistence_days, spread)
    return _by_era(p, "volatility", days) / np.sqrt(DAYS_PER_YEAR) * (regime * np.exp(persistent - spread**2)) * tails


def _available_share(p: SimpleNamespace, random: Streams, days: int) -> np.ndarray:
    """Share of switched-on rigs that run: daily outages; storms, sudden and short; bans, slow to bite and to fade."""
    age, log_share = np.arange(days), _autoregression(random["outages"], days, p.outage_noise_days, p.outage_noise)
    back = np.exp(-np.maximum(age - p.ban_days, 0) / p.ban_return_days)
    storm = (p.storms_per_year, p.storm_depth, np.ones(days), np.exp(-age / p.storm_days))
    ban = (p.bans_per_year, p.ban_depth, np.minimum(age / p.ban_days, 1), back)
    for per_year, depth, bite, fade in (storm, ban):
        lost = np.zeros(days)
        for start in np.flatnonzero(random["events"].random(days) < per_year / DAYS_PER_YEAR):
            lost[start:] += np.log1p(-random["events"].uniform(*depth) * bite[: days - start] * fade[: days - start])
        log_share += lost
    return np.exp(log_share)


def _draw_shocks(p: SimpleNamespace, random: Streams, days: int, world: str) -> pd.DataFrame:
    """What one market cannot foresee, a row per day, drawn before it starts.

    Columns: `returns` (log return without effect) and `drift` (what is expected of it), both 0 until a price exists;
    `response`; `supply` (noise of growth, per year); `available` (share of rigs that can run); `fees` (BTC per block,
    from none in 2009); `power_price` (USD/kWh of the median miner); in the stationary world `hash_rate` (EH/s).
    """
    day = np.arange(days)
    priced = day > _day_number(FIRST_PRICE_DAY)
    drift = _by_era(p, "drift", days) if world == "realistic" else np.full(days, p.flat_drift)
    drift = np.where(priced, drift / DAYS_PER_YEAR, 0.0)
    fee_level = p.fee_per_block * np.minimum(day / _day_number(FEES_GROWN_BY), 1)
    year_day = (day + pd.Timestamp(GENESIS_DAY).day_of_year) % DAYS_PER_CALENDAR_YEAR
    wet = np.clip(np.cos(2 * np.pi * (year_day - WET_SEASON_MIDDLE) / DAYS_PER_CALENDAR_YEAR), 0, 1)
    shocks = {
        "returns": drift + np.where(priced, _surprises(p, random, days, world), 0.0),
        "drift": drift,
        "response": _by_era(p, "response", days),
        "supply": _autoregression(random["supply"], days, p.supply_noise_days, p.supply_noise),
        "available": _available_share(p, random, days),
        "fees": fee_level * np.exp(_autoregression(random["fees"], days, p.fee_noise_days, p.fee_noise)),
        "power_price": p.power_price * (1 - p.wet_season * wet * (day < _day_number(WET_SEASON_UNTIL))),
    }
    if world == "stationary":
        noise = _autoregression(random["supply"], days, p.flat_noise_days, p.flat_noise)
        level = np.log(p.flat_hash_rate) + np.cumsum(p.flat_growth + noise) / DAYS_PER_YEAR
        shocks["hash_rate"] = np.exp(level) * shocks["available"]
    return pd.DataFrame(shocks)


@dataclass(slots=True)
class Rigs:
    """A generation of rigs: EH/s bought, share of it that runs, kWh that 1 PH/s of it takes in a day."""

    installed: float
    on: float
    cost: float


class PayingMiners:
    """Hash rate of the realistic world: generations of rigs bought when mining pays, switched off when it does not.

    So price leads hash rate: by weeks where a rig is switched, by months where it is ordered.
    """

    def __init__(self, p: SimpleNamespace) -> None:
        self.p, self.hobbyists_from = p, _day_number(HOBBYISTS_FROM)
        self.subsidies = bitcoin.subsidy_btc(bitcoin.HALVING_BLOCKS * np.arange(bitcoin.MAX_HALVINGS)).tolist()
        self.coming = [(_day_number(rig["start"]), KWH_PER_PH_DAY * float(rig["efficiency"])) for rig in p.vintages]
        self.rigs, self.running = [Rigs(p.first_hash_rate, 1.0, self.coming.pop(0)[1])], p.first_hash_rate
        self.profit: float | None = None

    def hash_rate(self, day: int, shock: Any, chain: Chain, price: float) -> float:
        """Of `day` (EH/s), decided at its start; `price` 0 while there is none, and only hobbyists mine."""
        p, rigs, power = self.p, self.rigs, shock.power_price
        spread, wear, scrapping = p.power_spread, p.wear, p.scrapping
        # Expected revenue of 1 PH/s in a day (USD): blocks it finds, times coins, times price.
        blocks = 1e15 * bitcoin.SECONDS_PER_DAY / (bitcoin.HASHES_PER_DIFFICULTY * chain.difficulty)
        pays = blocks * (self.subsidies[chain.height // bitcoin.HALVING_BLOCKS] + shock.fees) * price
        if price and self.profit is None:
            self.profit = log(pays / (rigs[-1].cost * power))
        if self.coming and day >= self.coming[0][0]:
            rigs.append(Rigs(0.0, 1.0, self.coming.pop(0)[1]))
        wanted = p.hobby_growth if day >= self.hobbyists_from else 0.0
        for rig in rigs:
            if price:
                # Power prices are log-normal: the share of owners below breakeven, the normal in its logistic form.
                profit = log(pays / (rig.cost * power))
                z = 1.702 * profit / spread
                gap = (1.0 if z > 30 else 0.0 if z < -30 else 1 / (1 + exp(-z))) - rig.on
                rig.on += gap / (p.switch_on_days if gap > 0 else p.switch_off_days)
            rig.installed *= 1 - (wear + scrapping * (1 - rig.on)) / DAYS_PER_YEAR
        if price:
            self.profit += (profit - self.profit) / p.delivery_days
            wanted = shock.response * (self.profit - p.hurdle)
        while len(rigs) > 1 and rigs[0].on < GIVEN_UP:
            del rigs[0]
        growth = min(max(wanted + shock.supply, 0.0), p.most_growth)
        rigs[-1].installed += self.running * growth / DAYS_PER_YEAR
        self.running = sum([rig.installed * rig.on for rig in rigs])
        return self.running * shock.available


def compact(target: int) -> int:
    """`target` as a block's header (`nBits`) keeps it: its three highest whole bytes, whose top bit stays free."""
    shift = max(8 * (target.bit_length() // 8 - 2), 0)
    return target >> shift << shift


def next_target(target: int, timespan_seconds: int) -> int:
    """Target of the next 2016 blocks: times actual over planned time, within a factor 4, never easier than the easiest.

    `timespan_seconds`: from the first to the last of the 2016 blocks. The first change ever, on 30 December 2009:

    >>> next_target(EASIEST_TARGET, 1262152739 - 1261130161) == 0xD86A << 208
    True
    """
    factor = bitcoin.MAX_RETARGET_FACTOR
    clamped = min(max(timespan_seconds, RETARGET_SECONDS // factor), RETARGET_SECONDS * factor)
    return compact(min(target * clamped // RETARGET_SECONDS, EASIEST_TARGET))


class Chain:
    """The block chain as it grows: `height`, blocks found after the genesis block; `changes`, rows of the adjustments.

    Blocks arrive as a Poisson process whose rate is hash rate over difficulty. A day is drawn in one step, exactly:
    given n arrivals their times are uniform, that of the k-th a scaled Beta(k, n - k + 1); an adjustment draws again.
    """

    def __init__(self, target: int = EASIEST_TARGET) -> None:
        self.target, self.difficulty, self.height = target, EASIEST_TARGET / target, 0
        self.period_started, self.changes = 0, []

    def mine(self, day: int, hash_rate_ehs: float, random: np.random.Generator) -> tuple[int, float]:
        """Blocks found on `day` at a constant hash rate, and the sum of their difficulties."""
        hashes, period = hash_rate_ehs * bitcoin.HASHES_PER_EXAHASH * bitcoin.SECONDS_PER_DAY, bitcoin.RETARGET_BLOCKS
        per_difficulty = hashes / bitcoin.HASHES_PER_DIFFICULTY
        before, work, left = self.height, 0.0, 1.0
        n = int(random.poisson(per_difficulty / self.difficulty))
        while n:
            wanted = period - 1 - self.height % period or 1  # to the last block of this period, or the next one's first
            found = min(n, wanted)
            self.height += found
            work += found * self.difficulty
            if n < wanted:
                break
            left *= 1 - random.beta(wanted, n - wanted + 1)
            n -= wanted
            second = int((day + 1 - left) * bitcoin.SECONDS_PER_DAY)
            if self.height % period == 0:
                self.period_started = second
                continue
            timespan = second - self.period_started
            self.target = next_target(self.target, timespan)
            self.difficulty = EASIEST_TARGET / self.target
            self.changes.append((self.height + 1, second, timespan, self.target, self.difficulty))
            n = int(random.poisson(per_difficulty / self.difficulty * left))
        return self.height - before, work


class Simulation(NamedTuple):
    panel: pd.DataFrame  # as data.panel has it
    truth: pd.DataFrame  # a row per day: hash_rate_ehs without the luck of blocks, planted and all expected log drift
    adjustments: pd.DataFrame  # height of the first block, second of the last before, timespan (s), target, difficulty


def planted_returns(index: pd.DatetimeIndex, recoveries: pd.DatetimeIndex, lag: int = 1) -> pd.Series:
    """Extra log return of each day of `index` (daily) when each recovery plants 1 in all, as `simulate_market` does.

    It is spread over the 90 days from the day after a recovery could be traded, `lag` days after it; days of
    overlapping windows count once. So the log price with an effect is that without plus effect times the running sum.

    >>> days = pd.date_range("2020-01-01", periods=100)
    >>> planted = planted_returns(days, days[[3]])
    >>> float(planted["2020-01-05"]), round(float(planted.sum()), 12), planted.ne(0).idxmax().date().isoformat()
    (0.0, 1.0, '2020-01-06')
    """
    planted = np.zeros(len(index))
    for begin in np.flatnonzero(index.isin(recoveries)) + lag + 1:
        planted[begin : begin + EFFECT_DAYS] = 1 / EFFECT_DAYS
    return pd.Series(planted, index)


def simulate_market(
    seed: int = 17, years: float = 17, effect: float = 0.0, world: str = "realistic", **assumptions: Any
) -> Simulation:
    """One market with its truth, from 3 January 2009 for `years` years; the same seed gives the same one, bit for bit.

    Price and revenue are missing before 18 July 2010, difficulty on a day without a block. `effect`: extra log return
    (in all) over the 90 days from the day after a recovery could be traded, days of overlapping windows counted once.
    `world`: "realistic" (drift and volatility by era, miners follow price) or "stationary" (constant, hash rate
    independent of price). `assumptions`: as in `parameters`. `InputError` for a value out of range or an unknown name.
    """
    if world not in WORLDS:
        raise InputError(f"world={world!r}: must be one of {', '.join(WORLDS)}")
    for name, value, least, most in (("years", years, 1, MOST_YEARS), ("effect", effect, -10, 10)):
        if not least <= value <= most:
            raise InputError(f"{name}={value}: must lie in {least} to {most}")
    p = parameters(**assumptions)
    random = dict(zip(STREAMS, np.random.default_rng(seed).spawn(len(STREAMS)), strict=True))
    days, first = round(years * DAYS_PER_CALENDAR_YEAR), _day_number(FIRST_PRICE_DAY)
    shocks, chain, miners, price = _draw_shocks(p, random, days, world), Chain(), PayingMiners(p), p.first_price
    if world == "stationary":
        difficulty = p.flat_hash_rate / bitcoin.hash_rate_ehs(1.0, bitcoin.BLOCKS_PER_DAY)
        chain, price = Chain(compact(min(int(EASIEST_TARGET / difficulty), EASIEST_TARGET))), p.flat_price
    log_price, below, seen, rows, planted = log(price), False, [], [], np.zeros(days)
    for day, shock in enumerate(shocks.itertuples()):
        known = exp(log_price) if day > first else 0.0
        hash_rate = miners.hash_rate(day, shock, chain, known) if world == "realistic" else shock.hash_rate
        blocks, work = chain.mine(day, hash_rate, random["blocks"])
        log_price += shock.returns + planted.item(day)
        rows.append((exp(log_price) if day >= first else nan, hash_rate, blocks, work))
        seen.append(work)
        if effect and day + 1 >= p.slow_days:
            before, below = below, sum(seen[-p.fast_days :]) / p.fast_days < sum(seen[-p.slow_days :]) / p.slow_days
            if before and not below:  # a recovery
                begin = day + 1 + p.entry_lag_days
                planted[max(begin, first + 1) : begin + EFFECT_DAYS] = effect / EFFECT_DAYS
    price, hash_rate, blocks, work = np.array(rows, dtype="float64").T.copy()
    height = np.cumsum(blocks)
    issued = np.diff(supply_btc(height), prepend=supply_btc(np.zeros(1)))  # the first block's coins are no day's
    fees = shocks["fees"].to_numpy() * blocks
    difficulty = np.divide(work, blocks, out=np.full(days, nan), where=blocks > 0)
    columns = price, bitcoin.hash_rate_ehs(work, 1.0), blocks, difficulty, height, issued, fees, (issued + fees) * price
    index = pd.date_range(GENESIS_DAY, periods=days, freq="D", name="date")
    panel = pd.DataFrame(dict(zip(PANEL_COLUMNS, columns, strict=True)), index)
    truth = {"hash_rate_ehs": hash_rate, "planted": planted, "drift": shocks["drift"].to_numpy() + planted}
    changes = pd.DataFrame(chain.changes, columns=["height", "second", "timespan", "target", "difficulty"])
    return Simulation(panel, pd.DataFrame(truth, index), changes)


def simulate_panel(seed: int = 17, **options: Any) -> pd.DataFrame:
    """A simulated daily panel (index `date`, columns as in data.panel); `options` as in `simulate_market`.

    >>> simulate_panel(seed=1, years=2).index[0].date().isoformat()
    '2009-01-03'
    """
    return simulate_market(seed, **options).panel
