"""Which rigs the network plausibly runs, and how many of them earn their power.

No one publishes the real mix. As Cambridge's electricity index (CBECI) does, every rig of the recent past counts the
same: an assumption, good for direction and turning points, not for the last percent.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from capitulation.errors import DataError, one_line
from capitulation.mining.economics import economics, kwh_per_ph_day
from capitulation.paths import reference_folder

RIG_COLUMNS = ("model", "maker", "released", "hash_rate_ths", "power_w", "efficiency_j_th", "source")
SERVICE_YEARS = 5


def read_rigs(path: Path | None = None) -> pd.DataFrame:
    """The rig table, indexed by `model`, in order of release.

    Columns: `maker`, `released` (first day of the release month), `available` (first day after it: a release known by
    month counts from its end, so nothing is known too early), `hash_rate_ths` (TH/s), `power_w` (W),
    `efficiency_j_th` (J/TH), `source`. Default file: data/reference/asic_rigs.csv. Raises `DataError` where columns
    or values cannot be used.
    """
    path = path or reference_folder() / "asic_rigs.csv"
    rigs = pd.read_csv(path)
    missing = [column for column in RIG_COLUMNS if column not in rigs]
    if missing:
        raise DataError(f"{path.name}: lacks columns {', '.join(missing)}; needed are {', '.join(RIG_COLUMNS)}")
    _check_rigs(rigs, path.name)
    rigs["released"] = pd.to_datetime(rigs["released"], format="%Y-%m")
    rigs.insert(3, "available", rigs["released"] + pd.offsets.MonthBegin(1))
    return rigs.sort_values(["released", "model"]).set_index("model")


def _check_rigs(rigs: pd.DataFrame, name: str) -> None:
    """Refuse duplicates, figures that are not positive, and an efficiency over 2 % away from power over hash rate."""
    if rigs["model"].duplicated().any():
        raise DataError(
            f"{name}: model {one_line(rigs['model'][rigs['model'].duplicated()].iloc[0], 60)!r} appears twice"
        )
    figures = rigs[["hash_rate_ths", "power_w", "efficiency_j_th"]]
    wrong = ~(figures > 0).all(axis=1) | ~np.isclose(
        rigs["power_w"] / rigs["hash_rate_ths"], rigs["efficiency_j_th"], rtol=0.02
    )
    if wrong.any():
        raise DataError(
            f"{name}: {one_line(rigs['model'][wrong].iloc[0], 60)!r}: "
            "power_w / hash_rate_ths must be efficiency_j_th > 0"
        )


def recent_rigs(days: pd.DatetimeIndex, rigs: pd.DataFrame, years: int = SERVICE_YEARS) -> np.ndarray:
    """Days × rigs, True where the rig was on sale and released within the last `years` years."""
    retired = rigs["available"] + pd.DateOffset(years=years)
    day = days.to_numpy()[:, None]
    return (day >= rigs["available"].to_numpy()[None, :]) & (day < retired.to_numpy()[None, :])


def fleet(panel: pd.DataFrame, power_price: float = 0.07, rigs: pd.DataFrame | None = None) -> pd.DataFrame:
    """The modelled fleet at `power_price` (USD/kWh), one row per day of `panel`.

    Columns: `n_recent` and `n_earning` (rigs released within five years; those of them whose revenue covers their
    power), `share_under_water` (the others' share, equal weights, fraction), `fleet_efficiency_j_th` (mean J/TH of
    the earning ones; where none earns, the most efficient recent rig, so that cost is then a lower bound),
    `production_cost_usd` (power cost per BTC earned, coins and fees), `fleet_power_gw` and `price_to_cost` (ratio).
    Missing where hashprice is missing or no recent rig is known.
    """
    rigs = read_rigs() if rigs is None else rigs
    money = economics(panel)
    recent = recent_rigs(panel.index, rigs)
    efficiency = rigs["efficiency_j_th"].to_numpy()
    hashprice = money["hashprice_usd_ph_day"].to_numpy()
    earning = recent & (hashprice[:, None] >= kwh_per_ph_day(efficiency)[None, :] * power_price)
    n_recent, n_earning = recent.sum(axis=1), earning.sum(axis=1)
    usable = np.isfinite(hashprice) & (n_recent > 0)
    mixed = np.where(usable, _fleet_efficiency(recent, earning, efficiency), np.nan)
    cost = kwh_per_ph_day(mixed) * power_price / money["hashprice_btc_ph_day"].to_numpy()
    under_water = np.where(usable, 1 - n_earning / np.maximum(n_recent, 1), np.nan)
    return pd.DataFrame(
        {
            "n_recent": n_recent,
            "n_earning": n_earning,
            "share_under_water": under_water,
            "fleet_efficiency_j_th": mixed,
            "production_cost_usd": cost,
            "price_to_cost": panel["price_usd"].to_numpy() / cost,
            "fleet_power_gw": panel["hash_rate_ehs"].to_numpy() * mixed / 1000,
        },
        index=panel.index,
    )


def _fleet_efficiency(recent: np.ndarray, earning: np.ndarray, efficiency: np.ndarray) -> np.ndarray:
    """Mean J/TH of the earning rigs of each day; where none earns, the best recent one."""
    n_earning = earning.sum(axis=1)
    best = np.where(recent, efficiency[None, :], np.inf).min(axis=1, initial=np.inf)
    # Row by row: a matrix product rounds differently when days are added, and the past must not change by a bit.
    total = np.where(earning, efficiency[None, :], 0.0).sum(axis=1)
    return np.where(n_earning > 0, total / np.maximum(n_earning, 1), best)


def rigs_under_water(panel: pd.DataFrame, power_price: float, rigs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Recent rigs on the last day of `panel` whose hashprice is known, the least efficient first; index `model`.

    Columns: `efficiency_j_th`, `breakeven_usd_kwh`, `under_water`. Empty where hashprice is never known.
    """
    rigs = read_rigs() if rigs is None else rigs
    hashprice = economics(panel)["hashprice_usd_ph_day"].dropna()
    if hashprice.empty:
        return pd.DataFrame(columns=["efficiency_j_th", "breakeven_usd_kwh", "under_water"])
    chosen = rigs[recent_rigs(hashprice.index[-1:], rigs)[0]].sort_values("efficiency_j_th", ascending=False)
    breakeven = hashprice.iloc[-1] / kwh_per_ph_day(chosen["efficiency_j_th"])
    frame = pd.DataFrame({"efficiency_j_th": chosen["efficiency_j_th"], "breakeven_usd_kwh": breakeven})
    return frame.assign(under_water=breakeven < power_price)
