"""From a daily state to a table of episodes, their anchors and their clusters.

Days are not events: a capitulation of seventy days is one observation. A day whose state is not known neither starts
nor ends an episode; the episode goes on over it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.errors import InputError, one_line
from capitulation.mining.hash_rate import drawdown, rolling_mean
from capitulation.mining.protocol import era_of
from capitulation.mining.retargets import retargets
from capitulation.mining.ribbons import ribbons
from capitulation.params import ANCHORS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from capitulation.params import Params

NOISE_LIKE_BELOW_Z = 2.0
REAL_ABOVE_Z = 3.0
GRADES = ("noise-like", "doubtful", "real")
NO_DAY = pd.Timestamp("NaT")


def find_episodes(in_state: pd.Series, known: pd.Series | None = None) -> pd.DataFrame:
    """Runs of days in the state: columns episode (1, 2, …), start, end (missing while ongoing), ongoing, days.

    `in_state`: boolean, daily index. `known`: boolean, same index; days that are not known are passed over. `end` is
    the first known day out of the state, days = end - start; for an ongoing one last day - start + 1.

    >>> days = pd.date_range("2020-01-01", periods=5)
    >>> find_episodes(pd.Series([False, True, True, False, True], index=days))[["ongoing", "days"]].values.tolist()
    [[False, 2], [True, 1]]
    """
    keep = slice(None) if known is None else known.to_numpy(bool)
    days = in_state.index[keep]
    edge = np.diff(in_state.to_numpy(bool)[keep].astype("int8"), prepend=0)
    start, end = days[edge == 1], days[edge == -1]
    ongoing = np.arange(len(start)) >= len(end)
    last = [in_state.index[-1] + pd.Timedelta(days=1)] if ongoing.any() else []
    until = end.append(pd.DatetimeIndex(last))
    return pd.DataFrame(
        {
            "episode": np.arange(1, len(start) + 1),
            "start": start,
            "end": end.append(pd.DatetimeIndex([NO_DAY] * int(ongoing.sum()))),
            "ongoing": ongoing,
            "days": (until - start).days.astype("int64"),
        }
    )


def _first_true(flags: np.ndarray, begin: int, stop: int) -> int | None:
    found = np.flatnonzero(flags[begin:stop])
    return begin + int(found[0]) if len(found) else None


def buy_dates(
    panel: pd.DataFrame, episodes: pd.DataFrame, price_fast_days: int = 10, price_slow_days: int = 20
) -> pd.Series:
    """Buy day of each episode by Edwards' rule (missing where none): index as `episodes`.

    The first day from the recovery on, and before the next episode starts, on which the fast mean of price lies above
    the slow one: the recovery day itself if it does so already, else the day it crosses. Full windows only.
    """
    price = panel["price_usd"]
    above = (rolling_mean(price, price_fast_days) > rolling_mean(price, price_slow_days)).to_numpy()
    begin = panel.index.searchsorted(episodes["end"].fillna(panel.index[-1] + pd.Timedelta(days=1)))
    stop = [*panel.index.searchsorted(episodes["start"])[1:], len(panel)]
    found = [_first_true(above, b, s) for b, s in zip(begin, stop, strict=False)]
    days = [NO_DAY if at is None else panel.index[at] for at in found]
    return pd.Series(pd.DatetimeIndex(days).as_unit(panel.index.unit), index=episodes.index, name="buy_date")


def grade(depth_z: pd.Series) -> pd.Series:
    """In words whether block luck alone explains a fall: noise-like (z above -2), doubtful (-2 to -3), real (below -3).

    A gap that never fell below zero is noise-like too. Missing z gives a missing grade.

    >>> grade(pd.Series([-0.7, -2.5, -8.0, 4.0])).tolist()
    ['noise-like', 'doubtful', 'real', 'noise-like']
    """
    names = np.select([depth_z > -NOISE_LIKE_BELOW_Z, depth_z >= -REAL_ABOVE_Z], GRADES[:2], GRADES[2])
    return pd.Series(names, index=depth_z.index, dtype="object", name="grade").where(depth_z.notna())


def _spans(index: pd.DatetimeIndex, episodes: pd.DataFrame) -> list[slice]:
    """Positions of each episode's days, its end day not included."""
    start = index.searchsorted(episodes["start"])
    stop = index.searchsorted(episodes["end"].fillna(index[-1] + pd.Timedelta(days=1)))
    return [slice(int(a), int(b)) for a, b in zip(start, stop, strict=True)]


def _lowest(values: np.ndarray, span: slice) -> int | None:
    """Position of the lowest known value within `span`; None where none is known."""
    part = values[span]
    return None if not np.isfinite(part).any() else span.start + int(np.nanargmin(part))


def _at(values: np.ndarray, positions: list[int | None]) -> np.ndarray:
    return np.array([np.nan if at is None else values[at] for at in positions], dtype="float64")


def _depths(panel: pd.DataFrame, spans: list[slice], params: Params) -> dict[str, np.ndarray]:
    """Lowest ribbon gap of each span with its z-value that day, and the deepest drawdown."""
    table = ribbons(panel, params.fast_days, params.slow_days)
    fallen = drawdown(panel, params.drawdown_mean_days).to_numpy()
    gap, z = table["ribbon_gap"].to_numpy(), table["ribbon_gap_z"].to_numpy()
    deepest = [_lowest(gap, span) for span in spans]
    return {
        "depth": _at(gap, deepest),
        "depth_z": _at(z, deepest),
        "hash_rate_drawdown": _at(fallen, [_lowest(fallen, span) for span in spans]),
    }


def _negative_retargets(panel: pd.DataFrame, episodes: pd.DataFrame) -> np.ndarray:
    """Difficulty cuts from each episode's start to the day before its end; missing where no height is known."""
    if not panel["height"].notna().any():
        return np.full(len(episodes), np.nan)
    table = retargets(panel)
    cuts = table.loc[table["change"] < 0, "date"].sort_values()
    until = episodes["end"].fillna(panel.index[-1] + pd.Timedelta(days=1))
    return cuts.searchsorted(until) - cuts.searchsorted(episodes["start"])


def describe_episodes(panel: pd.DataFrame, definition: str, state: pd.DataFrame, params: Params) -> pd.DataFrame:
    """The episodes of one definition with the columns of episodes.csv, in the contract's order.

    `state`: in_state and known per day (a rule's or the ribbons'). Depth is the lowest ribbon gap (fast_days over
    slow_days) in the episode, whatever the definition, so that definitions compare; depth_z that gap over its standard
    error from block counts. Prices in USD at the end of the start and end day. Every episode is listed: see
    `keep_episodes`.
    """
    flag = state["in_state"] if "in_state" in state else state["in_capitulation"]
    table = find_episodes(flag, state["known"])
    spans = _spans(panel.index, table)
    facts = _depths(panel, spans, params)
    price = panel["price_usd"]
    table.insert(0, "definition", definition)
    return table.assign(
        depth=facts["depth"],
        depth_z=facts["depth_z"],
        grade=grade(pd.Series(facts["depth_z"], index=table.index)),
        hash_rate_drawdown=facts["hash_rate_drawdown"],
        price_start=price.reindex(table["start"]).to_numpy(),
        price_end=price.reindex(table["end"]).to_numpy(),
        negative_retargets=_negative_retargets(panel, table),
        era=era_of(table["start"], panel).to_numpy(),
        buy_date=buy_dates(panel, table, params.price_fast_days, params.price_slow_days),
    )


def all_episodes(panel: pd.DataFrame, params: Params, states: Mapping[str, pd.DataFrame] | None = None) -> pd.DataFrame:
    """Episodes of every rule, one under the other: the whole of episodes.csv.

    `states`: as from `rules.all_rule_states`, computed where not given.
    """
    if states is None:
        from capitulation.mining.rules import all_rule_states

        states = all_rule_states(panel, params)
    tables = [describe_episodes(panel, name, state, params) for name, state in states.items()]
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def keep_episodes(episodes: pd.DataFrame, min_days: int = 0, min_depth_z: float = 0.0) -> pd.DataFrame:
    """The episodes of at least `min_days` days whose gap fell at least `min_depth_z` standard errors below zero.

    Filters an already described table, so that a dropped episode still ends the buy window of the one before it. The
    filter uses the whole episode: right for describing the past, not for trading it.
    """
    deep = (episodes["depth_z"] <= -min_depth_z) | (min_depth_z == 0)
    return episodes[(episodes["days"] >= min_days) & deep].reset_index(drop=True)


def anchor_days(episodes: pd.DataFrame, state: pd.DataFrame | pd.Series, anchor: str) -> pd.DatetimeIndex:
    """Days of one anchor: start, recovery or buy of each episode, or every day in the state (in_state).

    `state`: in_state per day (a rule's table, or a boolean series). Raises `InputError` for another anchor.
    """
    if anchor == "in_state":
        flag = state if isinstance(state, pd.Series) else state.get("in_state", state.get("in_capitulation"))
        return flag.index[flag.to_numpy(bool)]
    columns = {"start": "start", "recovery": "end", "buy": "buy_date"}
    if anchor not in columns:
        raise InputError(f"anchor={one_line(anchor, 40)!r}: must be one of {', '.join(ANCHORS)}")
    return pd.DatetimeIndex(episodes[columns[anchor]].dropna())


def clusters(days: pd.DatetimeIndex, min_gap_days: int) -> np.ndarray:
    """Cluster number (0, 1, …) of each event: one closer than `min_gap_days` to the event before it joins that one's.

    `days` in order of time. Length and order as `days`.

    >>> clusters(pd.DatetimeIndex(["2020-01-01", "2020-01-20", "2020-03-01"]), 30).tolist()
    [0, 0, 1]
    """
    gaps = np.diff(pd.DatetimeIndex(days).to_numpy("datetime64[D]")).astype("int64")
    return np.concatenate([[0], np.cumsum(gaps >= min_gap_days)])[: len(days)].astype("int64")
