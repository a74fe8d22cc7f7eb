"""From any daily state to a table of episodes, their anchors and their clusters.

Days are not events: a capitulation of seventy days is one observation. A day of unknown state neither starts nor ends
an episode, which goes on over it; `days_unknown` says how many such days its start, its end and its being one hang on.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from capitulation.ahead import ahead
from capitulation.errors import InputError
from capitulation.mining.difficulty import adjustments, era_of
from capitulation.mining.hashrate import drawdown, hash_ribbons, rolling_mean
from capitulation.mining.rules import RULES, refuse_unknown, rule_states, thresholds

ANCHOR_COLUMNS = {"start": "start", "recovery": "end", "buy": "buy_date"}
ONE_DAY = pd.Timedelta(days=1)
GRADES = ("real", "doubtful", "noise-like")
ALL_AND_EACH = ("all", *GRADES)


def runs(state: pd.Series) -> pd.DataFrame:
    """Runs of days in the state: columns episode (1, 2, …), start, end (missing while ongoing), ongoing, days.

    `state`: boolean, daily index; <NA> days are passed over. `end` is the first known day out of the state,
    days = end - start; without one last known day - start + 1. `ongoing` (boolean) is <NA> where the state of the
    last day is, as it may have ended. Raises `InputError` where `state` is not boolean.
    """
    if not isinstance(state.index, pd.DatetimeIndex):
        raise InputError("a state needs an index of days")
    try:
        known = state.astype("boolean").dropna()
    except (TypeError, ValueError):
        raise InputError(f"a state must be true, false or missing on each day, not {state.dtype}") from None
    edge = np.diff(known.to_numpy(bool).astype("int8"), prepend=0)
    table = pd.DataFrame({"start": pd.Series(known.index[edge == 1]), "end": pd.Series(known.index[edge == -1])})
    table.insert(0, "episode", np.arange(1, len(table) + 1))
    last, opened = known.index.max(), table["end"].isna()
    ongoing = pd.arrays.BooleanArray(opened.to_numpy(), opened.to_numpy() & (last != state.index.max()))
    return table.assign(ongoing=ongoing, days=(table["end"].fillna(last + ONE_DAY) - table["start"]).dt.days)


def bridged(ribbon: pd.DataFrame, max_days: int = 2, max_errors: float = 1.0) -> pd.Series:
    """The state `inverted` of `hash_ribbons` with interruptions bridged that block luck explains: for counting only.

    An interruption (days out of the inversion between two days in it) becomes true if it lasts at most `max_days` days
    and the gap of each is known and lies inside `max_errors` standard errors. Boolean, index of `ribbon`; missing where
    unknown. That an interruption was short is known once it is over: one that still runs is never bridged, so the last
    days may change when later ones come, and no signal may rest on them.

    >>> days = pd.date_range("2020-01-01", periods=4)
    >>> ribbon = pd.DataFrame({"gap": [-0.02, 0.005, -0.01, 0.001], "gap_se": 0.01}, days)
    >>> bridged(ribbon.assign(inverted=ribbon["gap"] < 0)).tolist()
    [True, True, True, False]
    """
    inverted = ribbon["inverted"].astype("boolean")
    out = ~inverted.fillna(False).astype(bool)
    stretch = (out != out.shift(fill_value=False)).cumsum()
    between = out & (stretch > stretch.min()) & (stretch < stretch.max())
    short = out.groupby(stretch).transform("size") <= max_days
    inside = (ribbon["gap"] <= max_errors * ribbon["gap_se"]).groupby(stretch).transform("all")
    return inverted.mask(between & short & inside, True)


def _spans(index: pd.DatetimeIndex, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Positions of each episode's first day and of the day after its last one."""
    return index.searchsorted(table["start"]), index.searchsorted(table["end"].fillna(index[-1] + ONE_DAY))


def buy_dates(
    panel: pd.DataFrame, episodes: pd.DataFrame, price_fast_days: int = 10, price_slow_days: int = 20
) -> pd.Series:
    """Buy day of each episode by Edwards' rule, index as `episodes`; missing where none.

    The first day from the recovery on, before the next start, on which the fast mean of price lies above the slow one;
    none where one of them is unknown on a day before, since then nobody knows which day was the first.
    """
    fast, slow = (rolling_mean(panel["price_usd"], days) for days in (price_fast_days, price_slow_days))
    above, unknown = (fast > slow).to_numpy(), (fast.isna() | slow.isna()).to_numpy()
    decided = np.append(np.flatnonzero(above | unknown), len(panel))
    start, begin = _spans(panel.index, episodes)
    stop = np.append(start[1:], len(panel))[: len(start)]
    first = decided[np.searchsorted(decided, begin)]
    bought = (first < stop) & np.append(above, False)[first]
    days = panel.index.append(pd.DatetimeIndex([pd.NaT]))[np.where(bought, first, len(panel))]
    return pd.Series(days.as_unit(panel.index.unit), index=episodes.index, name="buy_date")


def grade(depth_z: pd.Series) -> pd.Series:
    """Whether block luck alone explains a fall: noise-like (z above -2), doubtful (-2 to -3), real. Missing stays."""
    names = np.select([depth_z < -3, depth_z <= -2], GRADES[:2], GRADES[2])
    return pd.Series(names, index=depth_z.index, dtype="object", name="grade").where(depth_z.notna())


def of_grade(episodes: pd.DataFrame, name: str) -> pd.DataFrame:
    """The episodes whose grade is `name`; "all": every one, graded or not."""
    return episodes[(episodes["grade"] == name) | (name == "all")]


def lowest_at(values: np.ndarray, begin: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Position of the lowest of `values` in each span, `stop` not among them; their number where unknown."""
    known, none = np.append(np.where(np.isfinite(values), values, np.inf), np.inf), len(values)
    spans = zip(begin, stop, strict=True)
    at = np.array([a + known[a:b].argmin() if a < b else none for a, b in spans], dtype=int)
    return np.where(known[at] < np.inf, at, none)


def episodes(
    state: pd.Series | pd.DataFrame,
    panel: pd.DataFrame,
    *,
    fast_days: int = 30,
    slow_days: int = 60,
    price_fast_days: int = 10,
    price_slow_days: int = 20,
    drawdown_mean_days: int = 30,
    min_days: int = 0,
    min_depth_z: float = 0.0,
) -> pd.DataFrame:
    """The episodes of any daily `state` (boolean, <NA> where unknown) of `panel`, in order of time.

    Of a DataFrame those of each column in turn, `definition`, its name, first. Columns: those of `runs`; depth, the
    lowest gap of the Hash Ribbons in the episode, whatever the state (fraction), depth_z that gap in standard errors
    and its `grade`; hash_rate_drawdown, the deepest (fraction); price_start and price_end (USD); negative_retargets,
    difficulty cuts from the start to the day before the end; era (year of the halving); buy_date (`buy_dates`);
    days_unknown, the days of unknown state in it and right before it, by which its start and end may be off, and over
    which two may have become one. Missing where not known. Episodes shorter than `min_days`, or less than `min_depth_z`
    standard errors deep, are left out (known at the recovery, not at the start); the others keep their numbers, and one
    left out still ends the buy window of the one before.

    >>> found = episodes(panel["price_usd"] < 0.9 * panel["price_usd"].shift(30), panel)
    >>> bool((found["end"] > found["start"])[~found["ongoing"]].all())
    True
    """
    ribbon, price = hash_ribbons(panel, fast_days, slow_days), panel["price_usd"]
    gap, gap_z, fallen = (
        np.append(of, np.nan) for of in (ribbon["gap"], ribbon["gap_z"], drawdown(panel, drawdown_mean_days))
    )
    era = era_of(panel.index, panel)
    changes, position = adjustments(panel), np.arange(len(panel))
    cut, unclear = (panel.index.isin(changes["date"][of]) for of in (changes["change"] < 0, changes["change"].isna()))
    unclear |= panel["height"].isna().to_numpy()

    def within(days: np.ndarray, since: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """How many of the marked days lie between the positions `since` and `stop`."""
        running = np.append(0, days.cumsum())
        return running[stop] - running[since]

    tables = []
    for name, each in (state if isinstance(state, pd.DataFrame) else state.to_frame()).items():
        table, unknown = runs(each), each.reindex(panel.index).isna().to_numpy()
        start, stop = _spans(panel.index, table)
        cuts = pd.array(within(cut, start, stop), "Int64")
        cuts[within(unclear, start, stop) > 0] = pd.NA
        last_known = np.append(-1, np.maximum.accumulate(np.where(unknown, -1, position)))
        deepest = lowest_at(gap[:-1], start, stop)
        table = table.assign(
            depth=gap[deepest],
            depth_z=gap_z[deepest],
            grade=grade(pd.Series(gap_z[deepest], index=table.index)),
            hash_rate_drawdown=fallen[lowest_at(fallen[:-1], start, stop)],
            price_start=price.reindex(table["start"]).to_numpy(),
            price_end=price.reindex(table["end"]).to_numpy(),
            negative_retargets=cuts,
            era=era.reindex(table["start"]).to_numpy(),
            buy_date=buy_dates(panel, table, price_fast_days, price_slow_days),
            days_unknown=within(unknown, last_known[start] + 1, stop),
        )
        kept = (table["days"] >= min_days) & ((table["depth_z"] <= -min_depth_z) | (min_depth_z == 0))
        tables.append(table[kept].reset_index(drop=True))
        if isinstance(state, pd.DataFrame):
            tables[-1].insert(0, "definition", name)
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def clusters(days: Iterable[pd.Timestamp], gap: int) -> np.ndarray:
    """Cluster number of each known event in order of time: one less than `gap` (>= 1) days after another joins its."""
    known = pd.DatetimeIndex(days).dropna().sort_values().to_numpy("datetime64[D]")
    return np.cumsum(np.diff(known, prepend=known[:1]).astype("int64") >= gap)


def n_clusters(days: Iterable[pd.Timestamp], gap: int) -> int:
    """Number of `clusters`."""
    return len(np.unique(clusters(days, gap)))


def n_effective(days: Iterable[pd.Timestamp], gap: int) -> float:
    """How many events that share no day tell as much as these, each of which spans `gap` days; 0.0 without any.

    n^2 / sum over i, j of the share of days that events i and j have in common, max(0, 1 - |t_i - t_j| / gap): the
    variance of the mean of n overlapping sums of independent days is that of so many separate ones. A chain of events
    that overlap a little counts as several here and as one in `clusters`.
    """
    known = pd.DatetimeIndex(days).dropna().to_numpy("datetime64[D]").astype("int64")
    if not len(known):
        return 0.0
    # On each day count the events of the last `gap` days: their squares count every shared day of every pair.
    running = np.cumsum(np.pad(np.bincount(known - known.min()), gap))
    return float(len(known) ** 2 * gap / ((running[gap:] - running[:-gap]) ** 2).sum())


class Rules(NamedTuple):
    states: pd.DataFrame
    episodes: pd.DataFrame
    events: dict[tuple[str, str], pd.DatetimeIndex]


@ahead(RULES.copy)
def apply_rules(panel: pd.DataFrame, **settings: Any) -> Rules:
    """Every rule on one panel: daily states, the episodes of all, and the days of each (definition, anchor).

    `settings`: thresholds of the rules and keywords of `episodes`; `InputError` for an unknown name. states: boolean, a
    column per rule, in the state only inside the episodes kept; episodes: those of all rules, `definition` first;
    events: by rule at start, recovery, buy and in_state (every day in the state).

    >>> rules = apply_rules(panel, slow_days=90)
    >>> len(rules.events["puell_multiple", "start"]) == int((rules.episodes["definition"] == "puell_multiple").sum())
    True
    """
    own, keywords = thresholds(), list(inspect.signature(episodes).parameters)[2:]
    refuse_unknown(settings, [*own, *keywords])
    states = rule_states(panel, **{name: value for name, value in settings.items() if name in own})
    about = {name: value for name, value in settings.items() if name in keywords}
    found, events = episodes(states, panel, **about), {}
    for name, state in states.items():
        table, edges = found[found["definition"] == name], np.zeros(len(panel) + 1, dtype=int)
        first, stop = _spans(panel.index, table)
        edges[first] += 1
        edges[stop] -= 1
        states[name] = state.mask(state.fillna(False) & (edges.cumsum()[:-1] == 0), False)
        events |= {(name, at): pd.DatetimeIndex(table[column].dropna()) for at, column in ANCHOR_COLUMNS.items()}
        events[name, "in_state"] = panel.index[states[name].fillna(False)]
    return Rules(states, found, events)
