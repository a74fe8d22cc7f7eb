"""What BTC did after the signals: paths around them and returns by horizon, always beside those of any day."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.plots.axes import label_ends, log_return_axis
from capitulation.plots.chart import Chart
from capitulation.plots.forest import excess_grid, forest
from capitulation.plots.inference import leave_one_out, rotation_null, test_comparison
from capitulation.plots.style import ANCHOR_COLOURS, COLOURS, finish, new_figure, styled, tint
from capitulation.words import ANCHOR_WORDS, DEFINITION_WORDS, count, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from capitulation.params import Params

__all__ = [
    "event_paths",
    "excess_grid",
    "forest",
    "leave_one_out",
    "returns_by_horizon",
    "rotation_null",
    "test_comparison",
]

TITLE_DAY = 90
THIN_EVERY = 10
LIMIT_QUANTILE = 0.01
DOT_WIDTH = 0.3
VIOLIN_CLIP = (0.005, 0.995)


@styled
def event_paths(paths: pd.DataFrame, base_paths: pd.DataFrame, anchor: str = "recovery", day: int = TITLE_DAY) -> Chart:
    """Log price around each event: single events thin, their median thick, quartiles of events and of any day shaded.

    `paths`: index day from the entry, one column per event, log price relative to the entry (0 at day 0).
    `base_paths`: same index, columns low, median, high over every day. `anchor` gives the colour, `day` is the one the
    title speaks of.
    """
    figure, axes = new_figure(height=4.8)
    colour = ANCHOR_COLOURS[anchor]
    axes.fill_between(
        base_paths.index, base_paths["low"], base_paths["high"], color=COLOURS["baseline_shade"], linewidth=0
    )
    few = paths.iloc[::THIN_EVERY]
    axes.plot(few.index, few.to_numpy(), color=tint(colour), linewidth=0.6)
    low, middle, high = _quartiles(paths)
    axes.plot(paths.index, low, color=colour, linewidth=1.1, linestyle=(0, (3, 2)))
    axes.plot(paths.index, high, color=colour, linewidth=1.1, linestyle=(0, (3, 2)))
    axes.plot(base_paths.index, base_paths["median"], color=COLOURS["baseline"], linewidth=2.2)
    axes.plot(paths.index, middle, color=colour, linewidth=2.6)
    axes.axvline(0, color=COLOURS["ink"], linewidth=0.9)
    axes.set_xlim(paths.index[0], paths.index[-1])
    axes.set_ylim(*_path_limits(paths, base_paths))
    log_return_axis(axes, "BTC relative to the entry (log scale)")
    _month_ticks(axes, paths.index)
    axes.set_xlabel("days from the entry")
    axes.set_title("thin: single events; dashed: their quartiles; grey band: middle half of all days")
    ends = (middle[-1], "median\nevent", colour), (base_paths["median"].iloc[-1], "median\nday", COLOURS["baseline"])
    label_ends(axes, ends)
    return finish(figure, _paths_title(paths, base_paths, day), _paths_alt(paths, base_paths))


def _month_ticks(axes: Axes, index: pd.Index) -> None:
    step = 30 if len(index) < 200 else 60 if len(index) < 500 else 180
    axes.set_xticks([tick for tick in range(-step * 10, int(index[-1]) + 1, step) if tick >= index[0]])


def _quartiles(paths: pd.DataFrame) -> np.ndarray:
    """Quartiles over the events known on each day; missing where none is."""
    known = paths.notna().any(axis=1).to_numpy()
    out = np.full((3, len(paths)), np.nan)
    if known.any():
        out[:, known] = np.nanquantile(paths.to_numpy()[known], [0.25, 0.5, 0.75], axis=1)
    return out


def _path_limits(paths: pd.DataFrame, base: pd.DataFrame) -> tuple[float, float]:
    """Limits that hold all but the most extreme percent of points."""
    values = np.concatenate([paths.to_numpy().ravel(), base.to_numpy().ravel()])
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [LIMIT_QUANTILE, 1 - LIMIT_QUANTILE]) if len(values) else (-0.5, 0.5)
    return float(low) - 0.08, float(high) + 0.08


def _at(paths: pd.DataFrame, day: int) -> pd.Series:
    return paths.loc[day].dropna() if day in paths.index else paths.iloc[-1].dropna()


def _paths_title(paths: pd.DataFrame, base: pd.DataFrame, day: int) -> str:
    known = _at(paths, day)
    if known.empty:
        return f"No signal has an outcome after {day} days yet"
    any_day = float(base["median"].get(day, np.nan))
    return (
        f"{day} days after the median of {count(len(known), 'signal')} BTC stood at "
        f"{percent(np.expm1(known.median()), 0, True)}, after the median day at {percent(np.expm1(any_day), 0, True)}"
    )


def _paths_alt(paths: pd.DataFrame, base: pd.DataFrame) -> str:
    last = _at(paths, int(paths.index[-1]))
    text = (
        f"Lines of BTC relative to the entry from day {paths.index[0]} to day {paths.index[-1]} for "
        f"{count(paths.shape[1], 'event')}, with their median and quartiles over the quartiles of every day."
    ).replace("day -", "day −")
    if last.empty:
        return text
    return (
        f"{text} On day {paths.index[-1]} the {count(len(last), 'known event')} range from "
        f"{percent(np.expm1(last.min()), 0, True)} to {percent(np.expm1(last.max()), 0, True)}; the median day ends at "
        f"{percent(np.expm1(base['median'].iloc[-1]), 0, True)}."
    )


@styled
def returns_by_horizon(event_returns: pd.DataFrame, base_returns: pd.DataFrame, params: Params) -> Chart:
    """Each event's return as a dot over the distribution of every day's, by horizon.

    `event_returns`: the contract's table, of which the primary definition and anchor since sample_start are shown;
    `base_returns`: simple returns, index day, one column per horizon, missing while unknown.
    """
    horizons = [h for h in params.horizons_days if h in base_returns.columns]
    events = _primary_events(event_returns, params)
    figure, axes = new_figure(height=4.8)
    _violins(axes, base_returns[horizons])
    colour = ANCHOR_COLOURS[params.primary_anchor]
    for at, horizon in enumerate(horizons):
        own = np.log1p(np.sort(events.loc[events["horizon_days"] == horizon, "simple_return"].to_numpy()))
        axes.plot(at + _beeswarm(own), own, "o", color=colour, markersize=5, alpha=0.85, markeredgecolor="white",
                  markeredgewidth=0.4, zorder=3)  # fmt: skip
        middle = np.median(own) if len(own) else np.nan
        any_day = np.log1p(base_returns[horizon].median())
        axes.hlines(middle, at - 0.36, at + 0.36, color=colour, linewidth=2.4, zorder=4)
        axes.hlines(
            any_day, at - 0.36, at + 0.36, color=COLOURS["soft"], linewidth=2.0, linestyle=(0, (2, 1)), zorder=4
        )
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8, zorder=1)
    axes.set_xticks(range(len(horizons)), [f"{h}" for h in horizons])
    axes.set_xlabel("holding period, days")
    axes.set_xlim(-0.6, len(horizons) - 0.4)
    log_return_axis(axes, "return (log scale)")
    axes.set_title("dots: events, bar: their median; grey: every day, dashed: its median")
    table = _by_horizon(events, base_returns, horizons)
    return finish(figure, _horizon_title(table, params), _horizon_alt(table, params))


def _primary_events(event_returns: pd.DataFrame, params: Params) -> pd.DataFrame:
    keys = event_returns[["definition", "anchor"]] == [params.primary_definition, params.primary_anchor]
    rows = event_returns[keys.all(axis=1) & event_returns["simple_return"].notna()]
    return rows[pd.to_datetime(rows["anchor_date"]) >= pd.Timestamp(params.sample_start)]


def _violins(axes: Axes, base_returns: pd.DataFrame) -> None:
    """Distribution of every day's log return at each horizon, the outermost half percent on either side cut off."""
    import seaborn as sns

    logs = np.log1p(base_returns.dropna(how="all"))
    inside = (logs >= logs.quantile(VIOLIN_CLIP[0])) & (logs <= logs.quantile(VIOLIN_CLIP[1]))
    long = logs.where(inside).reset_index(drop=True).melt(var_name="horizon", value_name="log_return").dropna()
    order = list(base_returns.columns)
    look = {"color": COLOURS["baseline_shade"], "linewidth": 0, "saturation": 1, "inner": None, "width": 0.86}
    sns.violinplot(
        data=long, x="horizon", y="log_return", order=order, ax=axes, density_norm="width", cut=0, gridsize=80, **look
    )
    axes.set_ylabel("")


def _beeswarm(values: np.ndarray) -> np.ndarray:
    """Sideways shift of sorted values, so that neighbours do not hide each other: the same values, the same picture."""
    if len(values) < 2:
        return np.zeros(len(values))
    near = max(float(np.ptp(values)) / 28, 1e-9)
    rank = np.zeros(len(values))
    for i in range(1, len(values)):
        rank[i] = rank[i - 1] + 1 if values[i] - values[i - 1] < near else 0
    side = np.where(rank % 2 == 1, 1, -1) * np.ceil(rank / 2)
    return np.clip(side * 0.085, -DOT_WIDTH, DOT_WIDTH)


def _by_horizon(events: pd.DataFrame, base: pd.DataFrame, horizons: list[int]) -> pd.DataFrame:
    """Number, median and share of gains of the events and of every day; index horizon."""
    groups = events.groupby("horizon_days")["simple_return"]
    table = pd.DataFrame({"n": groups.size(), "median": groups.median(), "hit": groups.apply(lambda r: (r > 0).mean())})
    every = {h: base[h].dropna() for h in horizons}
    table = table.reindex(horizons)
    table["base_median"] = [every[h].median() for h in horizons]
    table["base_hit"] = [(every[h] > 0).mean() for h in horizons]
    return table.fillna({"n": 0}).astype({"n": int})


def _horizon_title(table: pd.DataFrame, params: Params) -> str:
    known = table[table["n"] > 0]
    if known.empty:
        return "No event of the primary test has a known outcome yet"
    above = int((known["median"] > known["base_median"]).sum())
    name = DEFINITION_WORDS.get(params.primary_definition, params.primary_definition)
    return (
        f"After {name} {ANCHOR_WORDS[params.primary_anchor]} the median return beats that of any day at {above} of "
        f"{count(len(known), 'horizon')}, within a wide spread"
    )


def _horizon_alt(table: pd.DataFrame, params: Params) -> str:
    parts = [
        f"{h} days: {percent(row['median'], 0, True)} against {percent(row['base_median'], 0, True)} "
        f"(n = {row['n']:.0f})"
        for h, row in table.iterrows()
    ]
    return "Dots of single events over the distribution of every day. Medians by horizon: " + "; ".join(parts) + "."
