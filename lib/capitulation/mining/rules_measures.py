"""What each rule of `rules` measures, and how far that lies beyond its threshold.

Each function takes a panel and parameters and gives two columns, index `date`: `measure`, the rule's own figure, and
`intensity`, its distance on the stressed side of the threshold (above 0: in the state; missing: unknown).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.mining.hash_rate import drawdown, relative_se, rolling_mean
from capitulation.mining.retargets import negative_in_last, retargets
from capitulation.mining.ribbons import ribbons

if TYPE_CHECKING:
    from capitulation.params import Params

GROWTH_MEAN_DAYS = 30
DIFFICULTY_RIBBON_DAYS = (9, 14, 25, 40, 60, 90, 128, 200)
HASHPRICE_PAST_DAYS = 365
ONE_CUT_SHORT = 1


def _beyond(measure: pd.Series, intensity: pd.Series) -> pd.DataFrame:
    return pd.DataFrame({"measure": measure, "intensity": intensity})


def ribbon_gap(panel: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Gap of the ribbons, below zero."""
    gap = ribbons(panel, params.fast_days, params.slow_days)["ribbon_gap"]
    return _beyond(gap, -gap)


def hash_rate_growth(panel: pd.DataFrame, days: int) -> pd.Series:
    """Growth (fraction) of the 30-day mean hash rate over `days` days; missing unless both means are known."""
    mean = rolling_mean(panel["hash_rate_ehs"], GROWTH_MEAN_DAYS)
    past = mean.shift(days)
    return (mean / past.where(past > 0) - 1).rename(f"hash_rate_growth_{days}d")


def hash_rate_growth_se(panel: pd.DataFrame, days: int) -> pd.Series:
    """Standard error (fraction) of `hash_rate_growth` from block luck; for `days` of at least 30 no day is shared."""
    se = relative_se(panel, GROWTH_MEAN_DAYS)
    return (1 + hash_rate_growth(panel, days)) * np.sqrt(se**2 + se.shift(days) ** 2)


def growth_30d(panel: pd.DataFrame, params: Params) -> pd.DataFrame:
    """30-day growth of the 30-day mean, below zero.

    With 30 and 60 days the ribbons say the same: the 60-day mean is the average of this 30-day mean and the one 30 days
    ago, so that fast < slow exactly where growth < 0.
    """
    growth = hash_rate_growth(panel, 30)
    return _beyond(growth, -growth)


def growth_90d(panel: pd.DataFrame, params: Params) -> pd.DataFrame:
    """90-day growth of the 30-day mean, below zero."""
    growth = hash_rate_growth(panel, 90)
    return _beyond(growth, -growth)


def hash_rate_drawdown(panel: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Drawdown of the mean hash rate, beyond the threshold."""
    fallen = drawdown(panel, params.drawdown_mean_days)
    return _beyond(fallen, -fallen - params.drawdown_threshold)


def negative_retargets(panel: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Cuts among the last n adjustments, at least k; a day knows the adjustments up to and including its own.

    Known from the n-th adjustment on; missing on days whose height is missing.
    """
    table = retargets(panel)
    count = negative_in_last(table, params.retargets_n)
    on_day = pd.Series(count.fillna(-1).to_numpy(), index=pd.DatetimeIndex(table["date"]))
    cuts = on_day.reindex(panel.index).ffill()
    cuts = cuts.mask(cuts < 0).where(panel["height"].notna())
    return _beyond(cuts, cuts - (params.retargets_k - ONE_CUT_SHORT))


def ribbon_variation(panel: pd.DataFrame) -> pd.Series:
    """Standard deviation over mean of eight means of daily difficulty (9 to 200 days); missing unless all are known."""
    means = np.stack([rolling_mean(panel["difficulty"], days).to_numpy() for days in DIFFICULTY_RIBBON_DAYS])
    return pd.Series(means.std(axis=0) / means.mean(axis=0), index=panel.index, name="difficulty_ribbon_variation")


def ribbon_compression(panel: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Coefficient of variation of the difficulty ribbon, below the threshold."""
    variation = ribbon_variation(panel)
    return _beyond(variation, params.compression_threshold - variation)


def puell(panel: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Puell multiple, below the threshold."""
    from capitulation.mining.economics import puell_multiple

    multiple = puell_multiple(panel)
    return _beyond(multiple, params.puell_threshold - multiple)


def puell_compression(panel: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Both at once: the larger of the two figures, each over its threshold, below 1."""
    multiple = puell(panel, params)["measure"] / params.puell_threshold
    variation = ribbon_variation(panel) / params.compression_threshold
    weaker = np.maximum(multiple, variation).rename("puell_compression")
    return _beyond(weaker, 1 - weaker)


def hashprice_ratio(panel: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Hashprice over its 365-day mean (this day included), below the threshold."""
    from capitulation.mining.economics import economics

    hashprice = economics(panel)["hashprice_usd_ph_day"]
    ratio = hashprice / rolling_mean(hashprice, HASHPRICE_PAST_DAYS)
    return _beyond(ratio, params.hashprice_stress_ratio - ratio)


def fleet_under_water(panel: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Share of the recent rigs under water, above the threshold."""
    from capitulation.mining.fleet import fleet

    share = fleet(panel, params.power_price_usd_kwh)["share_under_water"]
    return _beyond(share, share - params.fleet_share_threshold)
