"""Who mines: generations of rigs that are bought when mining pays and switched off when it does not.

Price leads hash rate by construction: an owner switches a rig within weeks of its margin turning, and a rig ordered
today is installed months later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, log

import numpy as np

from capitulation.mining.protocol import (
    HALVING_BLOCKS,
    HASHES_PER_DIFFICULTY,
    MAX_HALVINGS,
    SECONDS_PER_DAY,
    subsidy_btc,
)
from capitulation.simulate.parameters import SimulationParams
from capitulation.simulate.shocks import DAYS_PER_YEAR, Shocks, autoregression, day_number

HASHES_PER_PETAHASH = 1e15
KWH_PER_PH_DAY_PER_J_TH = 24.0
LOGISTIC_SCALE = 1.702
GIVEN_UP = 1e-4
STEEPEST = 30.0
HOBBY_DAY = day_number("2010-01-01")


def hashprice_usd(difficulty: float, btc_per_block: float, price: float) -> float:
    """Expected revenue of 1 PH/s in a day (USD): blocks it finds at `difficulty`, times coins, times price."""
    blocks = HASHES_PER_PETAHASH * SECONDS_PER_DAY / (HASHES_PER_DIFFICULTY * difficulty)
    return blocks * btc_per_block * price


def switched_on(log_margin: float, spread: float) -> float:
    """Share of owners whose power is cheaper than breakeven: power prices log-normal around the median.

    The normal distribution function in its logistic form (within 0.01).

    >>> switched_on(0.0, 0.3)
    0.5
    """
    z = LOGISTIC_SCALE * log_margin / spread
    return 1.0 if z > STEEPEST else 0.0 if z < -STEEPEST else 1 / (1 + exp(-z))


@dataclass
class Fleet:
    """Installed rigs by vintage (EH/s), and the share of each that is switched on."""

    params: SimulationParams
    installed: list[float] = field(default_factory=list)
    on: list[float] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    first: int = 0
    profit: float = 0.0

    def __post_init__(self) -> None:
        self.arrivals = [day_number(v.start) for v in self.params.vintages]
        self._add()
        self.installed[0] = self.params.first_hash_rate

    def _add(self) -> None:
        vintage = self.params.vintages[len(self.cost)]
        self.installed.append(0.0)
        self.on.append(1.0)
        self.cost.append(KWH_PER_PH_DAY_PER_J_TH * vintage.efficiency)

    def running(self) -> float:
        """Hash rate of the rigs that are switched on (EH/s)."""
        live = range(self.first, len(self.installed))
        return sum([self.installed[v] * self.on[v] for v in live])

    def step(self, day: int, hashprice: float, power: float, response: float, noise: float) -> None:
        """One day: owners switch rigs, dealers deliver, rigs fail. `hashprice` 0: no price yet, hobbyists only."""
        if len(self.cost) < len(self.arrivals) and day >= self.arrivals[len(self.cost)]:
            self._add()
        before = self.running()
        if hashprice > 0:
            self._switch(hashprice, power)
        wanted = self._growth(day, hashprice, power, response) + noise
        self._wear_out()
        self.installed[-1] += before * min(max(wanted, 0.0), self.params.most_growth) / DAYS_PER_YEAR

    def _switch(self, hashprice: float, power: float) -> None:
        p, on = self.params, self.on
        for v in range(self.first, len(on)):
            gap = switched_on(log(hashprice / (self.cost[v] * power)), p.power_spread) - on[v]
            on[v] += gap / (p.switch_on_days if gap > 0 else p.switch_off_days)

    def _growth(self, day: int, hashprice: float, power: float, response: float) -> float:
        """Rigs delivered, per year and as a share of the running ones."""
        p = self.params
        if hashprice <= 0:
            return p.hobby_growth if day >= HOBBY_DAY else 0.0
        self.profit += (log(hashprice / (self.cost[-1] * power)) - self.profit) / p.delivery_days
        return response * (self.profit - p.hurdle)

    def _wear_out(self) -> None:
        p, top = self.params, len(self.installed)
        for v in range(self.first, top):
            self.installed[v] *= 1 - (p.wear + p.scrapping * (1 - self.on[v])) / DAYS_PER_YEAR
        while self.first < top - 1 and self.on[self.first] < GIVEN_UP:
            self.first += 1


class PayingMiners:
    """Hash rate of the realistic world: a fleet that looks at price, difficulty and fees."""

    def __init__(self, params: SimulationParams, shocks: Shocks) -> None:
        self.fleet, self.first_price = Fleet(params), shocks.first_price
        self.fees, self.power = shocks.fees.tolist(), shocks.power_price.tolist()
        self.response, self.supply = shocks.response.tolist(), shocks.supply.tolist()
        self.available = shocks.available.tolist()
        self.subsidies = subsidy_btc(HALVING_BLOCKS * np.arange(MAX_HALVINGS)).tolist()

    def hash_rate(self, day: int, difficulty: float, height: int, price: float) -> float:
        """Of `day` (EH/s), decided at its start; `price` 0 while there is none."""
        coins, fleet, power = self.subsidies[height // HALVING_BLOCKS] + self.fees[day], self.fleet, self.power[day]
        pays = hashprice_usd(difficulty, coins, price) if price else 0.0
        if day == self.first_price + 1:
            fleet.profit = log(pays / (fleet.cost[-1] * power))
        fleet.step(day, pays, power, self.response[day], self.supply[day])
        return fleet.running() * self.available[day]


class DeafMiners:
    """Hash rate of the stationary world: stationary growth and shocks, no look at price."""

    def __init__(self, params: SimulationParams, random: dict[str, np.random.Generator], shocks: Shocks) -> None:
        days = len(shocks.returns)
        noise = autoregression(random["supply"].standard_normal(days), params.flat_noise_days, params.flat_noise)
        level = np.log(params.flat_hash_rate) + np.cumsum(params.flat_growth + noise) / DAYS_PER_YEAR
        self.path = (np.exp(level) * shocks.available).tolist()

    def hash_rate(self, day: int, difficulty: float, height: int, price: float) -> float:
        """Of `day` (EH/s), whatever difficulty, height and price are."""
        return self.path[day]
