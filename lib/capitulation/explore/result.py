"""What one setting gives: the state of each day, its episodes, what followed them, and how likely that is by chance.

The same functions as in a report, arranged so that moving one slider recomputes only what depends on it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from capitulation.episodes import anchor_days, buy_dates, find_episodes, grade
from capitulation.mining.ribbons import ribbons
from capitulation.mining.rules import rule_state
from capitulation.params import DEFINITIONS, Params
from capitulation.study.forward_returns import forward_log_returns
from capitulation.study.rotation import RotationResult, rotation_test
from capitulation.words import ANCHOR_WORDS, DEFINITION_WORDS, count, p_text, percent

CACHE_ENTRIES = 64
ANCHOR_COLUMNS = {"start": "start", "recovery": "end", "buy": "buy_date"}
# Fields on which the daily state of no rule but the ribbons depends: moving their sliders keeps it.
NOT_OF_THE_RULE = (
    {"source", "data", "as_of", "max_age_days", "sample_start", "min_days", "min_depth_z", "horizons_days"}
    | {"entry_lag_days", "primary_definition", "primary_anchor", "primary_horizon_days", "confidence", "seed"}
    | {"n_bootstrap", "n_matched", "n_random_entries", "hold_days", "fee_bps", "slippage_bps", "simulation_seed"}
    | {"trust_repetitions", "price_fast_days", "price_slow_days", "fast_days", "slow_days"}
)


@dataclass(frozen=True)
class Exploration:
    """What a setting gives.

    ribbon : daily ribbons, index `date`. episodes : kept episodes (start, end, ongoing, days, buy_date, depth, depth_z,
    grade). events : one row per event with a known outcome, columns `date` and `log_return`. every : log return of
    every day of the sample whose outcome is known. rotation : exact rotation test of the events in `every`.
    """

    params: Params
    ribbon: pd.DataFrame
    episodes: pd.DataFrame
    events: pd.DataFrame
    every: pd.Series
    rotation: RotationResult

    @property
    def sentence(self) -> str:
        """What the setting gives, in one sentence."""
        p = self.params
        what = f"{DEFINITION_WORDS[p.primary_definition]} {ANCHOR_WORDS[p.primary_anchor]}"
        if self.events.empty:
            return f"No {what} since {p.sample_start} has a known {p.primary_horizon_days}-day outcome."
        own, every = (np.expm1(series) for series in (self.events["log_return"], self.every))
        n = count(len(own), "event")
        return (
            f"{p.primary_horizon_days} days after {what} ({n} since {p.sample_start}): median "
            f"{percent(own.median(), 0, True)}, higher in {percent((own > 0).mean())}; after any day "
            f"{percent(every.median(), 0, True)} and {percent((every > 0).mean())}; exact rotation "
            f"{p_text(self.rotation.p_one_sided)}."
        )

    @property
    def table(self) -> pd.DataFrame:
        """The kept episodes with the day of the anchor and the simple return that followed, newest first."""
        column = ANCHOR_COLUMNS.get(self.params.primary_anchor, "start")
        returns = self.every.reindex(pd.DatetimeIndex(self.episodes[column]))
        shown = self.episodes[["start", "end", "days", "depth", "depth_z", "grade"]].assign(
            signal=self.episodes[column], simple_return=np.expm1(returns.to_numpy())
        )
        return shown.iloc[::-1].reset_index(drop=True)


class Explorer:
    """Explorations of one market; keeps what the next setting can use again.

    `panel`: the daily panel, not to be changed afterwards.
    """

    def __init__(self, panel: pd.DataFrame) -> None:
        self.panel = panel
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def warm_up(self, params: Params) -> None:
        """Compute every rule once, so that the first choice of each is as quick as the next."""
        for name in DEFINITIONS:
            self._state(params.model_copy(update={"primary_definition": name}))

    def explore(self, params: Params) -> Exploration:
        """The exploration of `params`: its windows, primary rule, anchor and horizon, lag, depth and sample start.

        `params.min_depth_z` and `min_days` drop shallow and short episodes, and with them their events; that looks at
        the whole episode, so it describes the past and cannot be traded.
        """
        ribbon = self._ribbon(params)
        state = self._state(params)
        episodes = self._episodes(params, state, ribbon)
        days = _event_days(episodes, state, params.primary_anchor)
        every = self._returns(params).loc[params.sample_start :].dropna()
        marks = every.index.isin(days)
        events = pd.DataFrame({"date": every.index[marks], "log_return": every.to_numpy()[marks]})
        return Exploration(params, ribbon, episodes, events, every, rotation_test(every.to_numpy(), marks))

    def _keep(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """`compute()`, once per key; the least recently used entry gives way."""
        if key not in self._kept:
            self._kept[key] = compute()
            if len(self._kept) > CACHE_ENTRIES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _ribbon(self, params: Params) -> pd.DataFrame:
        pair = (params.fast_days, params.slow_days)
        return self._keep(("ribbons", *pair), lambda: ribbons(self.panel, *pair))

    def _state(self, params: Params) -> pd.DataFrame:
        """in_state and known per day of the primary rule."""
        name = params.primary_definition
        if name == "hash_ribbons":
            return self._ribbon(params)[["in_capitulation", "known"]].rename(columns={"in_capitulation": "in_state"})
        key = (name, *(value for field, value in params.model_dump().items() if field not in NOT_OF_THE_RULE))
        return self._keep(key, lambda: rule_state(self.panel, name, params))

    def _returns(self, params: Params) -> pd.Series:
        key = (params.primary_horizon_days, params.entry_lag_days)
        return self._keep(("returns", *key), lambda: forward_log_returns(self.panel["price_usd"], *key))

    def _episodes(self, params: Params, state: pd.DataFrame, ribbon: pd.DataFrame) -> pd.DataFrame:
        """Every episode of the rule with its depth, and of these the ones deep and long enough."""
        found = find_episodes(state["in_state"], state["known"])
        found["buy_date"] = buy_dates(self.panel, found, params.price_fast_days, params.price_slow_days)
        found["depth"], found["depth_z"] = _depths(found, ribbon)
        found["grade"] = grade(found["depth_z"])
        deep = (found["depth_z"] <= -params.min_depth_z) | (params.min_depth_z == 0)
        return found[deep & (found["days"] >= params.min_days)].reset_index(drop=True)


def _depths(episodes: pd.DataFrame, ribbon: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Lowest gap of each episode and its z-value on that day; missing where the gap is never known."""
    gap, z = ribbon["ribbon_gap"].to_numpy(), ribbon["ribbon_gap_z"].to_numpy()
    after_last = ribbon.index[-1] + pd.Timedelta(days=1)
    spans = zip(
        ribbon.index.searchsorted(episodes["start"]),
        ribbon.index.searchsorted(episodes["end"].fillna(after_last)),
        strict=True,
    )
    at = [a + int(np.nanargmin(gap[a:b])) if np.isfinite(gap[a:b]).any() else None for a, b in spans]
    pick = [(np.nan, np.nan) if i is None else (gap[i], z[i]) for i in at]
    depth, depth_z = np.array(pick, dtype=float).reshape(-1, 2).T
    return depth, depth_z


def _event_days(episodes: pd.DataFrame, state: pd.DataFrame, anchor: str) -> pd.DatetimeIndex:
    """Days of the anchor; for `in_state` the days in the state within the kept episodes."""
    days = anchor_days(episodes, state, anchor)
    if anchor != "in_state" or days.empty:
        return days
    inside = np.zeros(len(days), dtype=bool)
    for start, end in zip(episodes["start"], episodes["end"], strict=True):
        inside |= (days >= start) & ((days < end) if pd.notna(end) else True)
    return days[inside]
