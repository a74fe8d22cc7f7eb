"""What miners earn: revenue, fees, hashprice, the Puell multiple, and the power price at which a rig breaks even.

Blocks found cancel in hashprice (a lucky day brings more revenue and more apparent hash rate in the same proportion),
so it is known far more exactly than the day's hash rate. What free data cannot show: miners' own power contracts,
hosting fees, debt, and the coins they sell.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

PUELL_DAYS = 365
REGRESSION_MIN_DAYS = 365
HOURS_PER_DAY = 24
WATT_PER_KILOWATT = 1000
TH_PER_PH = 1000
PH_PER_EH = 1000


def _positive(series: pd.Series) -> pd.Series:
    """`series` with values that cannot be divided by or logged (zero, negative) made missing."""
    return series.where(series > 0)


def revenue_usd(panel: pd.DataFrame) -> pd.Series:
    """Miners' revenue of the day (USD): the provider's figure; where it has none at all, coins earned times price.

    Index `date` as in `panel`; missing where either part is missing. A provider's gaps are not filled from the other
    formula.
    """
    given = panel["revenue_usd"]
    if given.notna().any():
        return given
    return ((panel["issuance_btc"] + panel["fees_btc"]) * panel["price_usd"]).rename("revenue_usd")


def puell_multiple(panel: pd.DataFrame, days: int = PUELL_DAYS) -> pd.Series:
    """Value of the day's new coins over its mean of the last `days` days, this one included (ratio).

    Puell = I(t) / mean(I(t-days+1) .. I(t)), I = issuance_btc * price_usd (David Puell, 2019). Missing until the
    window is full and wherever it holds a missing day.
    """
    issued = panel["issuance_btc"] * panel["price_usd"]
    return (issued / _positive(issued.rolling(days, min_periods=days).mean())).rename("puell_multiple")


def economics(panel: pd.DataFrame) -> pd.DataFrame:
    """Daily economics of mining, one row per day of `panel`, missing where an input is missing.

    Columns: `revenue_usd` (USD a day), `issuance_btc`, `fees_btc` (BTC a day), `fee_share` (fees over coins earned,
    fraction), `hashprice_usd_ph_day` and `hashprice_btc_ph_day` (revenue of one PH/s in one day), `puell_multiple`
    (ratio). Each row uses that day and earlier ones alone.
    """
    revenue = revenue_usd(panel)
    earned_btc = panel["issuance_btc"] + panel["fees_btc"]
    hash_rate_ph = _positive(panel["hash_rate_ehs"]) * PH_PER_EH
    return pd.DataFrame(
        {
            "revenue_usd": revenue,
            "issuance_btc": panel["issuance_btc"],
            "fees_btc": panel["fees_btc"],
            "fee_share": panel["fees_btc"] / _positive(earned_btc),
            "hashprice_usd_ph_day": revenue / hash_rate_ph,
            "hashprice_btc_ph_day": earned_btc / hash_rate_ph,
            "puell_multiple": puell_multiple(panel),
        },
        index=panel.index,
    )


def kwh_per_ph_day(efficiency_j_th: float | np.ndarray) -> float | np.ndarray:
    """Energy (kWh) that one PH/s of a rig of `efficiency_j_th` (J/TH, or W per TH/s) uses in a day.

    >>> float(kwh_per_ph_day(20.0))
    480.0
    """
    return efficiency_j_th * TH_PER_PH * HOURS_PER_DAY / WATT_PER_KILOWATT


def breakeven_usd_kwh(panel: pd.DataFrame, rigs: pd.DataFrame, *, since_release: bool = True) -> pd.DataFrame:
    """Power price (USD/kWh) at which each rig's revenue pays exactly for its power: days × rigs.

    Breakeven = hashprice [USD/PH/day] / (efficiency [J/TH] * 24 kWh). `rigs` as from `fleet.read_rigs`. With
    `since_release`, days before a rig was surely on sale (first day after its release month) are missing. Power alone
    is counted: no hosting, staff or capital.
    """
    hashprice = economics(panel)["hashprice_usd_ph_day"].to_numpy()
    values = hashprice[:, None] / kwh_per_ph_day(rigs["efficiency_j_th"].to_numpy())[None, :]
    if since_release:
        on_sale = panel.index.to_numpy()[:, None] >= rigs["available"].to_numpy()[None, :]
        values = np.where(on_sale, values, np.nan)
    return pd.DataFrame(values, index=panel.index, columns=rigs.index)


def difficulty_regression(panel: pd.DataFrame, min_days: int = REGRESSION_MIN_DAYS) -> pd.DataFrame:
    """Price explained by difficulty, each day from that day and earlier ones alone (expanding least squares).

    log price = intercept + slope * log difficulty, refitted every day. Columns: `slope`, `intercept`,
    `regression_price_usd` (fitted price of the day, USD) and `price_to_regression` (ratio). Missing before `min_days`
    usable days and where price or difficulty is missing. The popular model fits the whole history once, so its past
    values know the future; this one does not. Both series trend, so the fit describes and proves nothing.
    """
    x = np.log(_positive(panel["difficulty"])).to_numpy()
    y = np.log(_positive(panel["price_usd"])).to_numpy()
    slope, intercept = _expanding_least_squares(x, y, min_days)
    fitted = np.exp(intercept + slope * x)
    fitted[np.isnan(y)] = np.nan
    columns = {"slope": slope, "intercept": intercept, "regression_price_usd": fitted}
    frame = pd.DataFrame(columns, index=panel.index)
    return frame.assign(price_to_regression=panel["price_usd"] / fitted)


def _expanding_least_squares(x: np.ndarray, y: np.ndarray, min_days: int) -> tuple[np.ndarray, np.ndarray]:
    """Slope and intercept of y on x over all rows up to each row; running sums, hence the same for any prefix."""
    known = np.isfinite(x) & np.isfinite(y)
    x0, y0 = np.where(known, x, 0.0), np.where(known, y, 0.0)
    count = np.cumsum(known).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_x, mean_y = np.cumsum(x0) / count, np.cumsum(y0) / count
        variance = np.cumsum(x0 * x0) / count - mean_x**2
        slope = (np.cumsum(x0 * y0) / count - mean_x * mean_y) / variance
    slope[~((count >= min_days) & (variance > 1e-12))] = np.nan
    return slope, mean_y - slope * mean_x
