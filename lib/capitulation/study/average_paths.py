"""The average way of the price around the signals of every rule, beside that around any day of the same years."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from capitulation.episodes import clusters
from capitulation.params import Params
from capitulation.study.forward_returns import event_paths

EventDays = Mapping[tuple[str, str], pd.DatetimeIndex]

DAYS_AROUND = tuple(range(-60, 366, 5))
PATH_COLUMNS = (
    *("definition", "anchor", "day", "n_events", "n_clusters", "mean", "median", "q25", "q75"),
    *("base_mean", "base_median"),
)


def average_paths(
    price: pd.Series, events: EventDays, params: Params, days: Iterable[int] = DAYS_AROUND
) -> pd.DataFrame:
    """Mean, median and quartiles of the log price around the signals of each rule and anchor, `days` from the entry.

    Columns `PATH_COLUMNS`; log returns relative to the close at which a signal is traded, `entry_lag_days` later.
    Signals since `params.sample_start` count on the days on which their price is known: `n_events` of them,
    `n_clusters` where those closer than |day| count once. base_mean and base_median: the same over every day of the
    sample. On day h the excess of the mean is `excess_log` of the forward-return table.
    """
    wanted = list(days)
    sample = price.loc[params.sample_start :].iloc[: -params.entry_lag_days or None].index
    before, after = max(-min(wanted), 0), max(wanted)
    every = event_paths(price, sample, before, after, params.entry_lag_days).loc[wanted]
    base = pd.DataFrame({"base_mean": every.mean(axis=1), "base_median": every.median(axis=1)})
    own = {key: every.loc[:, sample.isin(at)] for key, at in events.items()}
    tables = [_one(*key, paths, base) for key, paths in own.items() if paths.shape[1]]
    return (
        pd.concat(tables, ignore_index=True)[list(PATH_COLUMNS)] if tables else pd.DataFrame(columns=list(PATH_COLUMNS))
    )


def _one(definition: str, anchor: str, paths: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    """Rows of one rule and anchor."""
    low, middle, high = np.nanquantile(paths.to_numpy(), (0.25, 0.5, 0.75), axis=1)
    facts = {"mean": paths.mean(axis=1), "median": middle, "q25": low, "q75": high}
    counts = {"n_events": paths.notna().sum(axis=1), "n_clusters": _clusters(paths)}
    table = pd.DataFrame({**counts, **facts}).join(base)
    return table.assign(definition=definition, anchor=anchor).reset_index(names="day")


def _clusters(paths: pd.DataFrame) -> np.ndarray:
    """Clusters of the signals known on each day from the entry."""
    known = (paths.columns[row] for row in paths.notna().to_numpy())
    spans = np.maximum(np.abs(paths.index), 1)
    return np.array([clusters(at, span).max(initial=-1) + 1 for span, at in zip(spans, known, strict=True)])
