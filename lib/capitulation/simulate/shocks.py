"""What the market cannot foresee, drawn before it starts: returns, supply, outages, bans, fees.

Each kind has its own stream of random numbers, so that changing one leaves the others as they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from capitulation.simulate.parameters import FIRST_PRICE_DAY, GENESIS_DAY, SimulationParams

DAYS_PER_YEAR = 365.0
STREAMS = ("returns", "volatility", "supply", "outages", "events", "fees", "blocks")
WET_SEASON_UNTIL = "2021-07-01"
WET_SEASON_MIDDLE = 227
FEES_GROWN_BY = "2012-11-28"


@dataclass(frozen=True)
class Shocks:
    """Arrays of one value per day.

    `returns`: log return without effect, `drift`: what is expected of it (both 0 until a price exists); `response` per
    year; `supply`: noise of growth per year; `available`: share of rigs that neither ban nor outage keeps off;
    `fees`: BTC per block; `power_price`: USD/kWh of the median miner; `first_price`: index of the first priced day.
    """

    returns: np.ndarray
    drift: np.ndarray
    response: np.ndarray
    supply: np.ndarray
    available: np.ndarray
    fees: np.ndarray
    power_price: np.ndarray
    first_price: int


def day_number(day: str) -> int:
    """Days since the genesis day.

    >>> day_number("2009-01-10")
    7
    """
    return (pd.Timestamp(day) - pd.Timestamp(GENESIS_DAY)).days


def streams(seed: int) -> dict[str, np.random.Generator]:
    """One independent generator per kind of shock."""
    children = np.random.SeedSequence(seed).spawn(len(STREAMS))
    return {name: np.random.Generator(np.random.PCG64(child)) for name, child in zip(STREAMS, children, strict=True)}


def autoregression(noise: np.ndarray, persistence_days: float, deviation: float) -> np.ndarray:
    """A stationary AR(1) of standard deviation `deviation` that forgets by a factor e in `persistence_days`."""
    keep = float(np.exp(-1 / persistence_days))
    scale = deviation * float(np.sqrt(1 - keep**2))
    out, state = np.empty(len(noise)), deviation * float(noise[0]) if len(noise) else 0.0
    for i, step in enumerate(noise.tolist()):
        out[i] = state
        state = keep * state + scale * step
    return out


def by_era(params: SimulationParams, name: str, days: int) -> np.ndarray:
    """The value of `name` in the era of each day."""
    starts = [day_number(era.start) for era in params.eras]
    era = np.searchsorted(starts, np.arange(days), side="right") - 1
    return np.array([getattr(e, name) for e in params.eras])[era]


def volatility_regimes(params: SimulationParams, uniform: np.ndarray) -> np.ndarray:
    """Volatility ratio of each day in a two-state Markov chain, of mean square 1."""
    share = params.turbulent_days / (params.turbulent_days + params.calm_days)
    leave = {False: 1 / params.calm_days, True: 1 / params.turbulent_days}
    turbulent, states = bool(uniform[0] < share), []
    for draw in uniform.tolist():
        turbulent ^= draw < leave[turbulent]
        states.append(turbulent)
    calm = 1 / np.sqrt(1 - share + share * params.turbulent_ratio**2)
    return np.where(states, calm * params.turbulent_ratio, calm)


def tailed_noise(params: SimulationParams, random: np.random.Generator, days: int) -> np.ndarray:
    """Student's t scaled to variance 1."""
    df = params.tail_degrees
    return random.standard_t(df, days) * np.sqrt((df - 2) / df)


def realistic_surprises(params: SimulationParams, random: dict[str, np.random.Generator], days: int) -> np.ndarray:
    """Surprise in each day's log return: volatility by era, times regimes and persistent log volatility, fat tails.

    Given the past its mean is zero, so that the expected return is the era's drift and nothing else: what a rule
    knows of past prices or hash rate does not help it. That is what makes this world a null.
    """
    regime = volatility_regimes(params, random["volatility"].random(days))
    log_volatility = autoregression(
        random["volatility"].standard_normal(days), params.volatility_persistence_days, params.volatility_of_volatility
    )
    ratio = regime * np.exp(log_volatility - params.volatility_of_volatility**2)
    noise = tailed_noise(params, random["returns"], days)
    volatility = by_era(params, "volatility", days) / np.sqrt(DAYS_PER_YEAR)
    return volatility * ratio * noise


def stationary_surprises(params: SimulationParams, random: dict[str, np.random.Generator], days: int) -> np.ndarray:
    """Surprise in each day's log return: independent, of constant volatility, fat tails."""
    noise = tailed_noise(params, random["returns"], days)
    return params.flat_volatility / np.sqrt(DAYS_PER_YEAR) * noise


def _storms(params: SimulationParams, random: np.random.Generator, days: int) -> np.ndarray:
    """Log share of rigs left by storms: each falls at once and fades."""
    out, since = np.zeros(days), np.arange(days)
    for start in np.flatnonzero(random.random(days) < params.storms_per_year / DAYS_PER_YEAR):
        depth = random.uniform(*params.storm_depth)
        out[start:] += np.log1p(-depth * np.exp(-since[: days - start] / params.storm_days))
    return out


def _bans(params: SimulationParams, random: np.random.Generator, days: int) -> np.ndarray:
    """Log share of rigs left by bans: off over weeks, back elsewhere over months."""
    out, since = np.zeros(days), np.arange(days)
    for start in np.flatnonzero(random.random(days) < params.bans_per_year / DAYS_PER_YEAR):
        depth, age = random.uniform(*params.ban_depth), since[: days - start]
        fade = np.exp(-np.maximum(age - params.ban_days, 0) / params.ban_return_days)
        out[start:] += np.log1p(-depth * np.minimum(age / params.ban_days, 1) * fade)
    return out


def available_share(params: SimulationParams, random: dict[str, np.random.Generator], days: int) -> np.ndarray:
    """Share of the switched-on rigs that run: outages of every day, storms and bans."""
    noise = autoregression(random["outages"].standard_normal(days), params.outage_noise_days, params.outage_noise)
    return np.exp(noise + _storms(params, random["events"], days) + _bans(params, random["events"], days))


def fees(params: SimulationParams, random: np.random.Generator, days: int) -> np.ndarray:
    """Fees in BTC per block: log-normal and persistent, the level growing linearly from none in 2009 until 2012."""
    noise = autoregression(random.standard_normal(days), params.fee_noise_days, params.fee_noise)
    return params.fee_per_block * np.minimum(np.arange(days) / day_number(FEES_GROWN_BY), 1) * np.exp(noise)


def power_prices(params: SimulationParams, days: int) -> np.ndarray:
    """USD/kWh of the median miner: cheaper around mid-August while hydropower carries a large share."""
    year_day = (np.arange(days) + pd.Timestamp(GENESIS_DAY).day_of_year) % 365.25
    wet = np.clip(np.cos(2 * np.pi * (year_day - WET_SEASON_MIDDLE) / 365.25), 0, 1)
    seasonal = np.arange(days) < day_number(WET_SEASON_UNTIL)
    return params.power_price * (1 - params.wet_season * wet * seasonal)


def draw_shocks(params: SimulationParams, random: dict[str, np.random.Generator], days: int, world: str) -> Shocks:
    """All shocks of one market."""
    realistic = world == "realistic"
    first = day_number(FIRST_PRICE_DAY)
    priced = np.arange(days) > first
    surprises = (realistic_surprises if realistic else stationary_surprises)(params, random, days)
    yearly = by_era(params, "drift", days) if realistic else np.full(days, params.flat_drift)
    drift = np.where(priced, yearly / DAYS_PER_YEAR, 0.0)
    supply = autoregression(random["supply"].standard_normal(days), params.supply_noise_days, params.supply_noise)
    return Shocks(
        returns=drift + np.where(priced, surprises, 0.0),
        drift=drift,
        response=by_era(params, "response", days),
        supply=supply,
        available=available_share(params, random, days),
        fees=fees(params, random["fees"], days),
        power_price=power_prices(params, days),
        first_price=first,
    )
