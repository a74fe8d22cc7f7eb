"""Figures of the network beside its price: difficulty adjustments, who leads whom, and price given difficulty."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.plots.axes import by_date, date_axis, day, label_ends, log_axis, mark_halvings, percent_axis
from capitulation.plots.chart import Chart
from capitulation.plots.empty import empty
from capitulation.plots.style import COLOURS, finish, new_figure, styled, tint
from capitulation.words import count, percent, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EPOCH_DAYS = 14.0
LARGEST_RISE_SHOWN = 0.4
LONG_STREAK = 3
NUMBER_DAYS = 150
Days = Iterable[object]


@styled
def retarget_bars(adjustments: pd.DataFrame, halvings: Days = ()) -> Chart:
    """A bar per difficulty adjustment, cuts in the colour of capitulation, runs of three cuts and more shaded.

    `adjustments` as from `mining.retargets.retargets` (date, change, negative_streak).
    """
    known = adjustments.dropna(subset=["change"])
    if known.empty:
        return empty("No difficulty adjustment is known: this source has no block counts")
    change = known["change"].clip(upper=LARGEST_RISE_SHOWN)
    figure, axes = new_figure(height=4.4)
    colours = np.where(change < 0, COLOURS["difficulty_down"], COLOURS["difficulty_up"])
    axes.bar(known["date"], change, width=EPOCH_DAYS, align="edge", color=colours)
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    date_axis(axes, known["date"].iloc[0], known["date"].iloc[-1] + pd.Timedelta(days=EPOCH_DAYS))
    axes.set_ylim(min(1.25 * float(change.min()), -0.05), LARGEST_RISE_SHOWN)
    percent_axis(axes, "change of difficulty")
    runs = _runs_of_cuts(known)
    _mark_runs(axes, runs)
    mark_halvings(axes, halvings)
    last = float(change.iloc[-1])
    label_ends(axes, [(last, percent(last, 1, sign=True), COLOURS["difficulty_down" if last < 0 else "difficulty_up"])])
    cut = f"; bars end at {percent(LARGEST_RISE_SHOWN, sign=True)}" if (known["change"] > change).any() else ""
    axes.set_title(f"shaded, with their number: {LONG_STREAK} and more cuts in a row{cut}")
    return finish(figure, _retarget_title(known, runs), _retarget_alt(known))


def _runs_of_cuts(known: pd.DataFrame) -> pd.DataFrame:
    """Runs of at least three cuts: first and last date, number of cuts."""
    streak = known["negative_streak"].to_numpy()
    ends = np.flatnonzero((streak >= LONG_STREAK) & (np.append(streak[1:], 0) == 0))
    dates = known["date"].to_numpy()
    return pd.DataFrame({"start": dates[ends - streak[ends] + 1], "end": dates[ends], "cuts": streak[ends]})


def _mark_runs(axes: Axes, runs: pd.DataFrame) -> None:
    """Shade each run and write its number of cuts below, higher where the one before stands close."""
    epoch = pd.Timedelta(days=EPOCH_DAYS)
    words = {"xycoords": axes.get_xaxis_transform(), "ha": "center", "va": "bottom", "fontsize": 9.5}
    middles = [run.start + (run.end + epoch - run.start) / 2 for run in runs.itertuples()]
    close = pd.Series(middles).diff() < pd.Timedelta(days=NUMBER_DAYS)
    raised = False
    for run, middle, tight in zip(runs.itertuples(), middles, close, strict=True):
        axes.axvspan(run.start, run.end + epoch, color=COLOURS["capitulation_shade"], linewidth=0, zorder=0)
        raised = tight and not raised
        axes.annotate(str(run.cuts), (middle, 0.06 if raised else 0.012), color=COLOURS["capitulation"], **words)


def _retarget_title(known: pd.DataFrame, runs: pd.DataFrame) -> str:
    text = f"{int((known['change'] < 0).sum())} of {count(len(known), 'difficulty adjustment')} were cuts"
    if runs.empty:
        return f"{text}, never {LONG_STREAK} in a row"
    longest = runs.loc[runs["cuts"].idxmax()]
    return f"{text}; the longest run of them, {longest['cuts']}, ended on {day(longest['end'])}"


def _retarget_alt(known: pd.DataFrame) -> str:
    deepest, highest = known.loc[known["change"].idxmin()], known.loc[known["change"].idxmax()]
    return (
        f"Bars from {day(known['date'].iloc[0])} to {day(known['date'].iloc[-1])}, median "
        f"{percent(known['change'].median(), 1, sign=True)}; from {percent(deepest['change'], 1, sign=True)} on "
        f"{day(deepest['date'])} to {percent(highest['change'], sign=True)} on {day(highest['date'])}."
    )


@styled
def local_projections(frame: pd.DataFrame) -> Chart:
    """Response of each series to a move of the other, by weeks ahead, with pointwise intervals; a panel per direction.

    `frame` as from `study.causality.local_projections` (direction, lag_weeks, response, low, high).
    """
    known = frame.dropna(subset=["response", "low", "high"])
    directions = list(dict.fromkeys(known["direction"]))
    if not directions:
        return empty("Who leads whom cannot be said: price or hash rate is missing")
    figure, panels = new_figure(1, len(directions), height=3.9, sharey=True, squeeze=False)
    colours = (COLOURS["price"], COLOURS["hash_rate"])
    for axes, direction, colour in zip(panels[0], directions, colours, strict=False):
        rows = known[known["direction"] == direction]
        axes.fill_between(rows["lag_weeks"], rows["low"], rows["high"], color=tint(colour, 0.2), linewidth=0)
        axes.plot(rows["lag_weeks"], rows["response"], "-o", color=colour, markersize=4)
        axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
        axes.set_xlim(rows["lag_weeks"].min() - 0.5, rows["lag_weeks"].max() + 0.5)
        axes.set_xlabel("weeks ahead")
        axes.set_title(direction, color=colour)
    panels[0][0].set_ylabel("log change per log change")
    counted = {name: _away_from_zero(known[known["direction"] == name]) for name in directions}
    return finish(figure, _projection_title(counted), _projection_alt(known, directions))


def _away_from_zero(rows: pd.DataFrame) -> tuple[int, int]:
    """At how many of how many lags the interval excludes zero."""
    return int(((rows["low"] > 0) | (rows["high"] < 0)).sum()), len(rows)


def _projection_title(counted: dict[str, tuple[int, int]]) -> str:
    parts = [f"of “{name}” {n} of {of}" for name, (n, of) in counted.items()]
    return f"Intervals clear of zero: {', '.join(parts)}"


def _projection_alt(known: pd.DataFrame, directions: list[str]) -> str:
    parts = []
    for name in directions:
        last = known[known["direction"] == name].iloc[-1]
        parts.append(
            f"{name}: {signed(last['response'], 2)} after {count(int(last['lag_weeks']), 'week')} "
            f"({signed(last['low'], 2)} to {signed(last['high'], 2)})"
        )
    return f"Lines with bands by weeks ahead; {'; '.join(parts)}."


@styled
def difficulty_regression(price: pd.Series, regression: pd.DataFrame, halvings: Days = ()) -> Chart:
    """Price beside what the regression fitted up to each day implied (USD, log scale); below, the fitted slope.

    `price`: daily USD, index `date`; `regression` as from `mining.economics.difficulty_regression`.
    """
    fit = by_date(regression)[["regression_price_usd", "slope"]]
    known = fit.assign(price=price).dropna()
    if known.empty:
        return empty("Price given difficulty is not known: this source lacks a year of prices or difficulty")
    halvings = list(halvings)
    figure, (upper, lower) = new_figure(2, 1, height=5.4, sharex=True, height_ratios=(2.3, 1))
    upper.plot(known.index, known["regression_price_usd"], color=COLOURS["cost"], linewidth=1.3)
    upper.plot(known.index, known["price"], color=COLOURS["price"], linewidth=1.1)
    lower.plot(known.index, known["slope"], color=COLOURS["cost"], linewidth=1.3)
    date_axis(lower, known.index[0], known.index[-1])
    log_axis(upper, "USD per BTC")
    lower.set_ylabel("slope")
    for axes, at in ((upper, "bottom"), (lower, "top")):
        mark_halvings(axes, halvings, at=at)
    last = known.iloc[-1]
    ends = [(last["price"], "price", COLOURS["price"]), (last["regression_price_usd"], "implied", COLOURS["cost"])]
    label_ends(upper, ends)
    label_ends(lower, [(last["slope"], f"{last['slope']:.2f}", COLOURS["cost"])])
    lower.set_title("log price per log difficulty, fitted on each day's past")
    return finish(figure, *_regression_words(known))


def _regression_words(known: pd.DataFrame) -> tuple[str, str]:
    ratio, slope = known["price"] / known["regression_price_usd"], known["slope"]
    gap = ratio.iloc[-1] - 1
    title = (
        f"Price is {percent(abs(gap))} {'above' if gap >= 0 else 'below'} what difficulty implies; the slope behind it "
        f"ranged from {slope.min():.2f} to {slope.max():.2f}"
    )
    alt = (
        f"Price and implied price on a log scale from {day(known.index[0])} to {day(known.index[-1])}, their ratio "
        f"between {ratio.min():.2f} and {ratio.max():.2f}; below, the slope, now {slope.iloc[-1]:.2f}."
    )
    return title, alt
