"""What the simulated market is made of: every number with its unit and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import pandas as pd

WORLDS = ("realistic", "stationary")
GENESIS_DAY = "2009-01-03"
FIRST_PRICE_DAY = "2010-07-18"

_MEASURED = "measured on Coin Metrics' daily file to 2026-03"
_CHOSEN = "chosen so that the table of moments agrees"
_ERA_SOURCE = (
    f"drift and volatility {_MEASURED}, rounded; drift from 2012-11, 2014 and 2024 less extreme than measured"
    f" (3.7, 0.0, 0.0); response {_CHOSEN}"
)
_VINTAGE_SOURCE = (
    "makers' figures, data/reference/asic_rigs.csv, months and figures rounded; before 2013 a processor of 10 MH/s at"
    " 95 W and a graphics card of 400 MH/s at 188 W"
)


@dataclass(frozen=True)
class Era:
    """From `start` on: log drift (per year), volatility of log returns (per square-root year), miners' response.

    `response`: growth of installed hash rate (per year) for each unit of log profitability of the newest rigs.
    """

    start: str
    drift: float
    volatility: float
    response: float


@dataclass(frozen=True)
class Vintage:
    """A generation of mining machines: on sale from `start`, `efficiency` in J/TH."""

    name: str
    start: str
    efficiency: float


ERAS = (
    Era("2009-01-03", 2.00, 1.30, 1.60),
    Era("2012-11-28", 3.00, 1.30, 1.30),
    Era("2014-01-01", 0.40, 0.75, 1.30),
    Era("2016-07-09", 0.67, 0.80, 1.10),
    Era("2020-05-11", 0.50, 0.62, 0.60),
    Era("2024-04-20", 0.25, 0.48, 0.50),
)
VINTAGES = (
    Vintage("processors", "2009-01-03", 9_500_000),
    Vintage("graphics cards", "2010-09-01", 470_000),
    Vintage("130 nm", "2013-02-01", 9_351),
    Vintage("55 nm", "2014-01-01", 2_000),
    Vintage("28 nm", "2014-08-01", 766),
    Vintage("28 nm, second", "2015-01-01", 510),
    Vintage("28 nm, third", "2015-10-01", 273),
    Vintage("16 nm", "2016-07-01", 98),
    Vintage("7 nm", "2019-05-01", 50),
    Vintage("7 nm, second", "2020-06-01", 31),
    Vintage("5 nm", "2022-08-01", 21.5),
    Vintage("5 nm, second", "2024-02-01", 17.5),
    Vintage("3 nm", "2025-01-01", 13.5),
)


def _number(value: Any, unit: str, source: str) -> Any:
    return field(default=value, metadata={"unit": unit, "source": source})


@dataclass(frozen=True)
class SimulationParams:
    """Parameters of one simulated market; `parameter_table` lists them with unit and source."""

    eras: tuple[Era, ...] = _number(ERAS, "per year", _ERA_SOURCE)
    vintages: tuple[Vintage, ...] = _number(VINTAGES, "J/TH", _VINTAGE_SOURCE)

    first_price: float = _number(0.086, "USD", _MEASURED)
    tail_degrees: float = _number(5.0, "degrees of freedom of Student's t", _CHOSEN)
    volatility_persistence_days: float = _number(15.0, "days", _CHOSEN)
    volatility_of_volatility: float = _number(0.30, "standard deviation of log volatility", _CHOSEN)
    turbulent_ratio: float = _number(1.8, "volatility of the turbulent over the calm regime", _CHOSEN)
    calm_days: float = _number(120.0, "days, mean stay", _CHOSEN)
    turbulent_days: float = _number(45.0, "days, mean stay", _CHOSEN)

    first_hash_rate: float = _number(4.5e-12, "EH/s", _MEASURED)
    hobby_growth: float = _number(7.0, "per year, from 2010 until a price exists", _MEASURED)
    power_price: float = _number(0.06, "USD/kWh, median miner", "Cambridge CBECI assumes 0.05; rigs' hosting adds")
    power_spread: float = _number(0.26, "standard deviation of log power price between miners", _CHOSEN)
    wet_season: float = _number(
        0.20, "fraction off the power price, June to October, to mid-2021", "Sichuan hydropower"
    )
    switch_off_days: float = _number(10.0, "days, mean delay", "Fantazzini and Kolodin (2020): one to six weeks")
    switch_on_days: float = _number(9.0, "days, mean delay", "Fantazzini and Kolodin (2020): one to six weeks")
    delivery_days: float = _number(75.0, "days from profit to installed rigs", _CHOSEN)
    hurdle: float = _number(0.30, "log profitability below which no rigs are bought", _CHOSEN)
    most_growth: float = _number(9.0, "per year", _MEASURED)
    wear: float = _number(0.12, "per year, share of rigs that fail", _CHOSEN)
    scrapping: float = _number(0.60, "per year, share of idle rigs given up", _CHOSEN)
    supply_noise: float = _number(0.50, "per year, standard deviation of growth", _CHOSEN)
    supply_noise_days: float = _number(60.0, "days, persistence", _CHOSEN)
    outage_noise: float = _number(0.012, "standard deviation of log hash rate", _CHOSEN)
    outage_noise_days: float = _number(12.0, "days, persistence", _CHOSEN)
    storms_per_year: float = _number(0.8, "per year", "Texas 2021-02, 2022-12, 2024-01, 2026-01; Xinjiang 2021-04")
    storm_depth: tuple[float, float] = _number((0.05, 0.30), "fraction, from and to", _MEASURED)
    storm_days: float = _number(4.0, "days, mean time of return", _MEASURED)
    bans_per_year: float = _number(0.07, "per year", "China 2021: one in fifteen years")
    ban_depth: tuple[float, float] = _number((0.35, 0.50), "fraction, from and to", _MEASURED)
    ban_days: float = _number(45.0, "days until all are off", _MEASURED)
    ban_return_days: float = _number(150.0, "days, mean time of return", _MEASURED)

    fee_per_block: float = _number(0.20, "BTC, median since 2012", f"{_MEASURED}: 0.17, and 0.19 since July 2016")
    fee_noise: float = _number(0.80, "standard deviation of log fees", f"calmer than {_MEASURED}: 1.2")
    fee_noise_days: float = _number(60.0, "days, persistence", _CHOSEN)

    flat_price: float = _number(100.0, "USD, first price of the stationary world", "arbitrary")
    flat_drift: float = _number(0.40, "per year, stationary world", "arbitrary")
    flat_volatility: float = _number(0.65, "per square-root year, stationary world", "arbitrary")
    flat_hash_rate: float = _number(0.05, "EH/s, first day of the stationary world", "arbitrary")
    flat_growth: float = _number(0.75, "per year, hash rate of the stationary world", "arbitrary")
    flat_noise: float = _number(0.90, "per year, standard deviation of growth, stationary world", _CHOSEN)
    flat_noise_days: float = _number(50.0, "days, persistence, stationary world", _CHOSEN)

    fast_days: int = _number(30, "days", "the suite's Hash Ribbons")
    slow_days: int = _number(60, "days", "the suite's Hash Ribbons")
    entry_lag_days: int = _number(1, "days between a recovery and the planted effect", "the suite's entry lag")


def _rows(name: str, value: Any, unit: str, source: str) -> list[dict[str, str]]:
    if not (isinstance(value, tuple) and value and is_dataclass(value[0])):
        return [{"parameter": name, "value": str(value), "unit": unit, "source": source}]
    shown = [", ".join(f"{f.name} {getattr(item, f.name)}" for f in fields(item)) for item in value]
    return [{"parameter": name, "value": text, "unit": unit, "source": source} for text in shown]


def parameter_table(params: SimulationParams | None = None) -> pd.DataFrame:
    """Every parameter of the simulation as text: parameter, value, unit, source; eras and vintages one row each."""
    params = params or SimulationParams()
    rows = []
    for item in fields(params):
        rows += _rows(item.name, getattr(params, item.name), item.metadata["unit"], item.metadata["source"])
    return pd.DataFrame(rows)
