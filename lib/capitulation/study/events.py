"""Which days the study looks at: one set of anchors for every definition, and the daily table beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from capitulation.episodes import anchor_days
from capitulation.params import ANCHORS, Params

EventDays = dict[tuple[str, str], pd.DatetimeIndex]


def event_days(
    episodes: pd.DataFrame,
    states: Mapping[str, pd.DataFrame],
    definitions: Iterable[str] | None = None,
    anchors: Iterable[str] = ANCHORS,
) -> EventDays:
    """Anchor days of each (definition, anchor).

    `episodes` is the contract's episodes table over all definitions, `states` the state of each (columns in_state,
    known, intensity). Keys follow the order of `states`, then of `anchors`; no events: an empty index.
    """
    names = list(states) if definitions is None else list(definitions)
    return {
        (name, anchor): anchor_days(episodes[episodes["definition"] == name], states[name]["in_state"], anchor)
        for name in names
        for anchor in anchors
    }


def daily_table(panel: pd.DataFrame, params: Params) -> pd.DataFrame:
    """The contract's daily.csv: one row a day, what the notebooks' figures are drawn from."""
    from capitulation.mining.economics import economics
    from capitulation.mining.ribbons import ribbons
    from capitulation.mining.trend import falling_probability

    state = ribbons(panel, params.fast_days, params.slow_days)
    money = economics(panel)
    frame = panel[["price_usd", "hash_rate_ehs"]].join(
        state[
            [
                "hash_rate_fast_ehs",
                "hash_rate_slow_ehs",
                "ribbon_gap",
                "ribbon_gap_z",
                "in_capitulation",
                "ribbon_state",
            ]
        ]
    )
    frame["difficulty"] = panel["difficulty"]
    frame["hashprice_usd_ph_day"] = money["hashprice_usd_ph_day"]
    frame[["block_count", "height", "revenue_usd"]] = panel[["block_count", "height", "revenue_usd"]]
    frame[["fee_share", "puell_multiple"]] = money[["fee_share", "puell_multiple"]]
    frame["ribbon_gap_se"] = state["ribbon_gap_se"]
    frame["falling_probability"] = falling_probability(panel)
    frame["hashprice_btc_ph_day"] = money["hashprice_btc_ph_day"]
    return frame.reset_index(names="date")
