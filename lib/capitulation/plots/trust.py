"""Figures of trust: how often each test rejects a true null, how well intervals cover, and what power there is.

The frames are those of `simulate.stored`: shares of simulated markets with their Monte-Carlo standard errors.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from capitulation.plots.axes import log_return_axis, percent_axis
from capitulation.plots.chart import Chart
from capitulation.plots.empty import empty
from capitulation.plots.style import COLOURS, SERIES_COLOURS, drop_left_grid, finish, new_figure, styled, text_colour
from capitulation.study.trust import ACCEPTED, LEVEL, TESTS
from capitulation.words import count, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WORLDS = ("stationary", "realistic")
WORLD_COLOURS = {"stationary": COLOURS["baseline"], "realistic": COLOURS["hash_rate"]}
WORLD_MARKERS = {"stationary": "s", "realistic": "o"}
Z_95 = 1.96
LONGEST_LABEL = 36
LOWEST_RATE = 0.008
RATE_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SHIFT = 0.17
NEVER = "No market has been simulated: run make calibrate"


@styled
def rejection_rates(table: pd.DataFrame, level: float = LEVEL) -> Chart:
    """How often each test rejects at `level` where nothing is there, in both null worlds, beside the accepted band.

    `table` as from `simulate.stored.trust_table`: label, and rate and error with the world's name before them. Bars
    are 95 % Monte-Carlo intervals; rates below 0.8 % stand at the left edge.
    """
    rows = table.dropna(subset=[f"{world}_rate" for world in WORLDS], how="all").reset_index(drop=True)
    if rows.empty:
        return empty(NEVER)
    figure, axes = new_figure(height=1.5 + 0.46 * len(rows))
    drop_left_grid(axes)
    axes.axvspan(*ACCEPTED, color=COLOURS["baseline_shade"], linewidth=0, zorder=0)
    axes.axvline(level, color=COLOURS["soft"], linewidth=1, linestyle=(0, (3, 2)))
    for world, shift in zip(WORLDS, (-SHIFT, SHIFT), strict=True):
        _points(axes, rows[f"{world}_rate"], rows[f"{world}_error"], np.arange(len(rows)) + shift, world, LOWEST_RATE)
    axes.set_xscale("log")
    largest = float(rows[[f"{world}_rate" for world in WORLDS]].max(axis=None))
    axes.set_xlim(LOWEST_RATE * 0.9, min(2 * max(largest, ACCEPTED[1]), 1.1))
    percent_axis(axes, f"share of markets rejected at {percent(level)} (log scale)", "x", sign=False)
    axes.set_xticks([tick for tick in RATE_TICKS if tick < axes.get_xlim()[1]])
    axes.xaxis.set_minor_locator(_no_ticks())
    _name_rows(axes, list(rows["label"]))
    _world_key(axes)
    return finish(figure, _rates_title(rows, level), _rates_alt(rows))


def _no_ticks() -> object:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _points(
    axes: Axes, rate: pd.Series, error: pd.Series, y: np.ndarray, world: str, lowest: float = 0.0, highest: float = 1.0
) -> None:
    """Rates of one world as points with their 95 % Monte-Carlo intervals."""
    colour = WORLD_COLOURS[world]
    middle, spread = rate.to_numpy(float), Z_95 * error.to_numpy(float)
    low, high = np.clip(middle - spread, lowest, highest), np.clip(middle + spread, lowest, highest)
    axes.hlines(y, low, high, color=colour, linewidth=1.6)
    look = {"color": colour, "markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.5}
    axes.plot(middle.clip(lowest), y, WORLD_MARKERS[world], label=f"{world} market", **look)


def _name_rows(axes: Axes, names: list[str]) -> None:
    """The first row on top, long names on two lines."""
    axes.set_yticks(range(len(names)), [textwrap.fill(name, LONGEST_LABEL) for name in names], fontsize=10)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _world_key(axes: Axes) -> None:
    axes.figure.legend(*axes.get_legend_handles_labels(), ncols=2, loc="outside lower left")


def _rates_title(rows: pd.DataFrame, level: float) -> str:
    """How many tests keep their level in the realistic world, and which one is farthest off."""
    rate = rows["realistic_rate"]
    kept = int(rate.between(*ACCEPTED).sum())
    worst = rows.loc[rate.idxmax()]
    return (
        f"{kept} of {count(int(rate.notna().sum()), 'test')} keep their {percent(level)} level in realistic markets; "
        f"“{worst['label']}” rejects {percent(worst['realistic_rate'])} of them"
    )


def _rates_alt(rows: pd.DataFrame) -> str:
    """Where the rates of both worlds lie, and which tests are outside the accepted band in the realistic one."""
    spans = [_range(rows[f"{world}_rate"].min(), rows[f"{world}_rate"].max()) for world in WORLDS]
    off = rows[~rows["realistic_rate"].between(*ACCEPTED)]
    told = "; ".join(f"{row.label} {percent(row.realistic_rate, 1)}" for row in off.itertuples()) or "none"
    return (
        f"Points with Monte-Carlo intervals by test, from {spans[0]} in stationary and from {spans[1]} in realistic "
        f"markets; outside the band of {_range(*ACCEPTED, 1)} in realistic ones: {told}."
    )


@styled
def coverage(table: pd.DataFrame, nominal: float = 0.95) -> Chart:
    """How often the bootstrap intervals hold what they should, in both null worlds, beside the `nominal` share.

    `table` as from `simulate.stored.coverage_table`: interval, of, markets, rate, error, world.
    """
    rows = table.dropna(subset=["rate"])
    if rows.empty:
        return empty(NEVER)
    names = list(dict.fromkeys(_interval_name(row) for row in rows.itertuples()))
    figure, axes = new_figure(height=1.7 + 0.5 * len(names))
    drop_left_grid(axes)
    axes.axvline(nominal, color=COLOURS["soft"], linewidth=1.2, linestyle=(0, (3, 2)))
    for world, shift in zip(WORLDS, (-SHIFT, SHIFT), strict=True):
        own = rows[rows["world"] == world]
        at = np.array([names.index(_interval_name(row)) for row in own.itertuples()], dtype=float)
        _points(axes, own["rate"], own["error"], at + shift, world)
    axes.set_xlim(min(float((rows["rate"] - Z_95 * rows["error"]).min()), nominal) - 0.02, 1.005)
    percent_axis(
        axes, f"share of markets whose interval holds it (dashed: nominal {percent(nominal)})", "x", sign=False
    )
    _name_rows(axes, names)
    _world_key(axes)
    low = rows.loc[rows["rate"].idxmin()]
    title = (
        f"Intervals meant to hold the truth in {percent(nominal)} of markets hold it in "
        f"{_range(rows['rate'].min(), rows['rate'].max())}"
    )
    alt = (
        f"Points by interval and world; lowest {percent(low['rate'], 1)} for the {low['interval']} of {low['of']} in a "
        f"{low['world']} market, on {low['markets']:,.0f} markets."
    )
    return finish(figure, title, alt)


def _interval_name(row: Any) -> str:
    return f"interval of the {row.interval}, holds {'zero' if row.of == 'zero' else 'the ' + row.of}"


def _range(low: float, high: float, digits: int = 0) -> str:
    first, last = percent(low, digits), percent(high, digits)
    return first if first == last else f"{first} to {last}"


@styled
def power(curve: pd.DataFrame, marks: Mapping[str, float] | None = None, level: float = LEVEL) -> Chart:
    """How often each test finds a planted effect, by its size, with 95 % Monte-Carlo bars.

    `curve` as from `simulate.stored.power_curve`: test, effect_log (log return over the horizon), rate, error; the
    first test of `study.trust.TESTS` in it counts in the title. `marks`: effects (log returns) to mark with a name,
    e.g. a published one.
    """
    rows = curve.dropna(subset=["rate"])
    if rows.empty:
        return empty(NEVER)
    marks = {name: value for name, value in (marks or {}).items() if np.isfinite(value)}
    tests = sorted(rows["test"].unique(), key=list(TESTS).index)
    figure, axes = new_figure(height=4.8)
    for test, colour in zip(tests, SERIES_COLOURS, strict=False):
        own = rows[rows["test"] == test].sort_values("effect_log")
        look = {"color": colour, "marker": "o", "markersize": 4.5, "elinewidth": 1.2, "linewidth": 1.6}
        axes.errorbar(own["effect_log"], own["rate"], yerr=Z_95 * own["error"], label=_power_label(test, own), **look)
    axes.axhline(level, color=COLOURS["soft"], linewidth=1, linestyle=(0, (3, 2)))
    reach = max([float(rows["effect_log"].max()), *marks.values()])
    axes.set_xlim(min([-0.02, *marks.values()]), reach * 1.03)
    axes.set_ylim(0, 1.02)
    _mark_effects(axes, marks)
    log_return_axis(axes, "planted effect over the horizon", "x")
    percent_axis(axes, "share of markets in which it is found", sign=False)
    axes.set_title(f"dashed: {percent(level)}, found by chance alone")
    figure.legend(*axes.get_legend_handles_labels(), ncols=1, loc="outside lower left")
    return finish(figure, _power_title(rows, tests[0], marks), _power_alt(rows, tests))


def _power_label(test: str, own: pd.DataFrame) -> str:
    """Name of a test, and its rate without any effect where that is off its level: then its curve flatters it."""
    null = own.loc[own["effect_log"] == 0, "rate"]
    off = null[~null.between(*ACCEPTED)]
    return TESTS[test] if off.empty else f"{TESTS[test]} (off its level: {percent(off.iloc[0], 1)} at no effect)"


def _mark_effects(axes: Axes, marks: Mapping[str, float]) -> None:
    """A dotted line at each effect with its name: high at small effects, low at large ones, off the curves."""
    words = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points", "fontsize": 10, "va": "center"}
    middle = sum(axes.get_xlim()) / 2
    for step, (name, value) in enumerate(sorted(marks.items(), key=lambda item: item[1])):
        axes.axvline(value, color=COLOURS["buy"], linewidth=1.3, linestyle=(0, (1, 2)))
        height = 0.95 - 0.08 * step if value < middle else 0.12 + 0.08 * step
        place = {"xytext": (4, 0), "ha": "left", "color": text_colour(COLOURS["buy"])}
        axes.annotate(name, (value, height), **place, **words)


def _at(rows: pd.DataFrame, effect: float) -> float:
    """Power at `effect`, by straight lines; missing beyond what was measured."""
    rows = rows.sort_values("effect_log")
    return float(np.interp(effect, rows["effect_log"], rows["rate"], left=np.nan, right=np.nan))


def _power_title(rows: pd.DataFrame, test: str, marks: Mapping[str, float]) -> str:
    own = rows[rows["test"] == test]
    effect = next(iter(marks.values()), float(own["effect_log"].max()))
    size = percent(np.expm1(effect), sign=True)
    found = _at(own, effect)
    if not np.isfinite(found):
        return f"An effect of {size} lies beyond the sizes whose power was measured"
    return f"An effect of {size} would be found in {percent(found)} of samples as short as ours"


def _power_alt(rows: pd.DataFrame, tests: list[str]) -> str:
    parts = []
    for test in tests:
        own = rows[rows["test"] == test].sort_values("effect_log")
        ends = own.iloc[[0, -1]]
        told = " and ".join(
            f"{percent(e.rate)} at {percent(np.expm1(e.effect_log), sign=True)}" for e in ends.itertuples()
        )
        parts.append(f"{TESTS[test]}: {told}")
    return f"Rising curves of power by planted effect; {'; '.join(parts)}."
