"""What miners earn: revenue, hashprice, the Puell multiple, and the power price at which a rig breaks even.

Blocks found cancel in hashprice (revenue over apparent hash rate), so it is known far more exactly than hash rate.
Which rigs run, and at what cost beside power, no one publishes: as in Cambridge's electricity index (CBECI), every rig
of the recent past counts the same, good for direction and turning points, not for the last percent. Daily results have
the panel's index `date`, use no later day, and are missing where an input is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from capitulation.errors import DataError, one_line
from capitulation.mining.hashrate import rolling_mean
from capitulation.paths import reference_folder

RIG_COLUMNS = ["model", "maker", "released", "hash_rate_ths", "power_w", "efficiency_j_th", "source"]
SERVICE_YEARS = 5
KWH_PER_PH_DAY = 24.0  # what one PH/s uses in a day per J/TH of efficiency: 1000 TH/s * J/TH = kW, 24 hours


def _positive(series: pd.Series) -> pd.Series:
    """`series` with what cannot be divided by made missing."""
    return series.where(series > 0)


def revenue_usd(panel: pd.DataFrame) -> pd.Series:
    """Miners' revenue of the day (USD): the provider's figure, with its gaps; without any, coins earned times price."""
    if panel["revenue_usd"].notna().any():
        return panel["revenue_usd"]
    return ((panel["issuance_btc"] + panel["fees_btc"]) * panel["price_usd"]).rename("revenue_usd")


def puell_multiple(panel: pd.DataFrame) -> pd.Series:
    """Value of the day's new coins over its mean of the last 365 days (ratio; David Puell, 2019); full windows only."""
    issued = panel["issuance_btc"] * panel["price_usd"]
    return (issued / _positive(rolling_mean(issued, 365))).rename("puell_multiple")


def economics(panel: pd.DataFrame) -> pd.DataFrame:
    """Daily economics of mining, one row per day of `panel`.

    Columns: `issuance_btc`, `fees_btc` (BTC), `revenue_usd` (USD), `fee_share` (fees over coins earned, fraction),
    `hashprice_usd_ph_day` and `hashprice_btc_ph_day` (revenue of one PH/s in one day), `puell_multiple` (ratio).

    >>> bool(economics(panel)["hashprice_usd_ph_day"].dropna().min() > 0)
    True
    """
    revenue, earned_btc = revenue_usd(panel), panel["issuance_btc"] + panel["fees_btc"]
    hash_rate_ph = _positive(panel["hash_rate_ehs"]) * 1000
    money = panel[["issuance_btc", "fees_btc"]].assign(revenue_usd=revenue)
    money["fee_share"] = panel["fees_btc"] / _positive(earned_btc)
    money["hashprice_usd_ph_day"], money["hashprice_btc_ph_day"] = revenue / hash_rate_ph, earned_btc / hash_rate_ph
    return money.assign(puell_multiple=puell_multiple(panel))


def read_rigs(path: Path | None = None) -> pd.DataFrame:
    """The rig table, indexed by `model`, in order of release.

    Columns: `maker`, `released` (first day of the month), `available` (first day after it: nothing is known too early),
    `hash_rate_ths` (TH/s), `power_w` (W), `efficiency_j_th` (J/TH), `source`. Default: data/reference/asic_rigs.csv.
    Raises `DataError` where a model appears twice, a figure is not positive or J/TH is over 2 % off W by TH/s.
    """
    path = path or reference_folder() / "asic_rigs.csv"
    rigs = pd.read_csv(path, usecols=RIG_COLUMNS)
    fits = np.isclose(rigs["power_w"] / rigs["hash_rate_ths"], rigs["efficiency_j_th"], rtol=0.02)
    fits &= (rigs[["hash_rate_ths", "power_w", "efficiency_j_th"]] > 0).all(axis=1) & ~rigs["model"].duplicated()
    if not fits.all():
        model = one_line(rigs.loc[~fits, "model"].iloc[0], 60)
        raise DataError(f"{path.name}: {model!r} must stand once, with power_w / hash_rate_ths = efficiency_j_th > 0")
    rigs["released"] = pd.to_datetime(rigs["released"], format="%Y-%m")
    rigs.insert(3, "available", rigs["released"] + pd.offsets.MonthBegin(1))
    return rigs.sort_values(["released", "model"]).set_index("model")


def recent_rigs(days: pd.DatetimeIndex, rigs: pd.DataFrame) -> np.ndarray:
    """Days × rigs, True where the rig was on sale and released within the last five years."""
    day, retired = days.to_numpy()[:, None], rigs["available"] + pd.DateOffset(years=SERVICE_YEARS)
    return (day >= rigs["available"].to_numpy()) & (day < retired.to_numpy())


def breakeven_usd_kwh(panel: pd.DataFrame, rigs: pd.DataFrame) -> pd.DataFrame:
    """Power price (USD/kWh) at which each rig's revenue pays for its power alone: days × rigs (as from `read_rigs`).

    hashprice [USD/PH/day] / (efficiency [J/TH] * 24 kWh), missing before the rig is `available`.
    """
    hashprice = economics(panel)[["hashprice_usd_ph_day"]].to_numpy()
    values = pd.DataFrame(hashprice / (KWH_PER_PH_DAY * rigs["efficiency_j_th"].to_numpy()), panel.index, rigs.index)
    return values.where(panel.index.to_numpy()[:, None] >= rigs["available"].to_numpy())


def fleet(panel: pd.DataFrame, power_price: float = 0.07, rigs: pd.DataFrame | None = None) -> pd.DataFrame:
    """The modelled fleet at `power_price` (USD/kWh), one row per day of `panel`.

    Columns: `n_recent` (rigs released within five years), `n_earning` (those whose revenue covers their power),
    `share_under_water` (of the others, fraction), `fleet_efficiency_j_th` (mean J/TH of the earning ones; where none
    earns, the best recent rig: cost is then a lower bound), `production_cost_usd` (power cost per BTC earned),
    `price_to_cost` (ratio), `fleet_power_gw`. Missing where hashprice is or no recent rig is known.

    >>> bool(fleet(panel)["share_under_water"].dropna().between(0, 1).all())
    True
    """
    rigs, money = read_rigs() if rigs is None else rigs, economics(panel)
    recent, efficiency = recent_rigs(panel.index, rigs), rigs["efficiency_j_th"].to_numpy()
    hashprice = money["hashprice_usd_ph_day"].to_numpy()
    earning = recent & (hashprice[:, None] >= KWH_PER_PH_DAY * efficiency * power_price)
    n_recent, n_earning = recent.sum(axis=1), earning.sum(axis=1)
    usable = np.isfinite(hashprice) & (n_recent > 0)
    best = np.where(recent, efficiency, np.inf).min(axis=1, initial=np.inf)
    # Row by row: a matrix product rounds differently when days are added, and the past must not change by a bit.
    total = np.where(earning, efficiency, 0.0).sum(axis=1)
    mixed = np.where(usable, np.where(n_earning > 0, total / np.maximum(n_earning, 1), best), np.nan)
    cost = KWH_PER_PH_DAY * mixed * power_price / money["hashprice_btc_ph_day"].to_numpy()
    share = np.where(usable, 1 - n_earning / np.maximum(n_recent, 1), np.nan)
    columns = {"n_recent": n_recent, "n_earning": n_earning, "share_under_water": share, "fleet_efficiency_j_th": mixed}
    columns |= {"production_cost_usd": cost, "price_to_cost": panel["price_usd"] / cost}
    return pd.DataFrame(columns, index=panel.index).assign(fleet_power_gw=panel["hash_rate_ehs"] * mixed / 1000)


def rigs_under_water(panel: pd.DataFrame, power_price: float, rigs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Rigs recent on the last day of known hashprice, by model, the least efficient first; empty where none is known.

    Columns: `efficiency_j_th`, `breakeven_usd_kwh`, `under_water`.
    """
    rigs = read_rigs() if rigs is None else rigs
    last = economics(panel)["hashprice_usd_ph_day"].dropna().tail(1)
    chosen = rigs[recent_rigs(last.index, rigs).any(axis=0)].sort_values("efficiency_j_th", ascending=False)
    breakeven = last.sum() / (KWH_PER_PH_DAY * chosen["efficiency_j_th"])
    return chosen[["efficiency_j_th"]].assign(breakeven_usd_kwh=breakeven, under_water=breakeven < power_price)
