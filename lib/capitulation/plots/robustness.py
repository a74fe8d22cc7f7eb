"""How much the answer depends on choices: windows, specifications, the best of many rules, forecasts of the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.plots.axes import date_axis, day, log_return_axis
from capitulation.plots.chart import Chart
from capitulation.plots.empty import empty
from capitulation.plots.style import (
    ANCHOR_COLOURS,
    COLOURS,
    DIVERGING,
    SEQUENTIAL,
    colour_map,
    finish,
    new_figure,
    styled,
    text_colour,
)
from capitulation.words import ANCHOR_WORDS, DEFINITION_WORDS, count, p_text, percent, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from capitulation.params import Params

HISTOGRAM_BINS = 60
COLOUR_QUANTILE = 0.98
ALPHA = 0.05
CHOICES = {
    "definition": "rule",
    "anchor": "signal",
    "horizon_days": "days held",
    "sample_start": "sample from",
    "lag_days": "lag, days",
}
MAX_CHOICE_ROWS = 40
CURVE_BINS = 60


@styled
def window_grid(grid: pd.DataFrame, params: Params, value: str = "") -> Chart:
    """Excess log return for every pair of a fast and a slow mean as a heat map; this run's pair is framed.

    `grid`: fast_days, slow_days and `value`; by default `excess_log` or `excess_log_<primary horizon>d`.
    """
    column = value or _value_column(grid, params)
    table = grid.set_index(["slow_days", "fast_days"])[column].unstack()  # noqa: PD010
    table = table.sort_index().sort_index(axis=1)
    figure, axes = new_figure(height=4.8)
    axes.grid(visible=False)
    values = table.to_numpy(dtype=float)
    limit = float(np.nanquantile(np.abs(values), COLOUR_QUANTILE)) if np.isfinite(values).any() else 1.0
    mesh = axes.pcolormesh(
        _edges(table.columns), _edges(table.index), values, cmap=colour_map(DIVERGING), vmin=-limit, vmax=limit
    )
    axes.set(xlabel="fast mean, days", ylabel="slow mean, days")
    _frame(axes, params)
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    bar.set_label(f"excess log return, {params.primary_horizon_days} days")
    return finish(figure, *_grid_words(grid, column, params))


def _value_column(grid: pd.DataFrame, params: Params) -> str:
    names = (f"excess_log_{params.primary_horizon_days}d", "excess_log")
    return next(name for name in names if name in grid.columns)


def _edges(values: pd.Index) -> np.ndarray:
    """Edges of cells centred on `values`."""
    at = np.asarray(values, dtype=float)
    if len(at) == 1:
        return np.array([at[0] - 0.5, at[0] + 0.5])
    middle = (at[1:] + at[:-1]) / 2
    return np.concatenate([[2 * at[0] - middle[0]], middle, [2 * at[-1] - middle[-1]]])


def _frame(axes: Axes, params: Params) -> None:
    axes.plot(params.fast_days, params.slow_days, "s", markersize=11, markerfacecolor="none", markeredgewidth=1.8,
              color=COLOURS["ink"])  # fmt: skip
    axes.annotate(f"{params.fast_days}/{params.slow_days}", (params.fast_days, params.slow_days), xytext=(9, 7),
                  textcoords="offset points", fontweight="bold", fontsize=10)  # fmt: skip


def _grid_words(grid: pd.DataFrame, column: str, params: Params) -> tuple[str, str]:
    known = grid.dropna(subset=[column])
    if known.empty:
        return "No pair of means has an event whose outcome is known", "An empty heat map."
    own = known[(known["fast_days"] == params.fast_days) & (known["slow_days"] == params.slow_days)][column]
    place = f"; {params.fast_days}/{params.slow_days} beats {percent((known[column] < own.iloc[0]).mean())} of them"
    title = (
        f"{percent((known[column] > 0).mean())} of {len(known):,} pairs of means have an excess above zero"
        f"{place if len(own) else ''}"
    )
    best, worst = known.loc[known[column].idxmax()], known.loc[known[column].idxmin()]
    alt = (
        f"Heat map over fast and slow means; excess log return from {signed(worst[column], 2)} at "
        f"{worst['fast_days']:.0f}/{worst['slow_days']:.0f} to {signed(best[column], 2)} at "
        f"{best['fast_days']:.0f}/{best['slow_days']:.0f} days"
        + (f", {signed(own.iloc[0], 2)} at {params.fast_days}/{params.slow_days}." if len(own) else ".")
    )
    return title, alt


@styled
def specification_curve(specifications: pd.DataFrame) -> Chart:
    """Excess log return of every specification in rising order, above marks of what each one chose.

    `specifications`: one row per variant with `excess_log` and any of the columns definition, anchor, horizon_days,
    sample_start, lag_days; `p_rotation`, where there, colours those below 0.05.
    """
    rows = specifications.dropna(subset=["excess_log"]).sort_values("excess_log", kind="stable").reset_index(drop=True)
    if rows.empty:
        return empty("No specification has an event whose outcome is known")
    choices = _choice_rows(rows)
    figure, (top, below) = new_figure(
        2, 1, height=3.4 + 0.165 * len(choices), sharex=True, height_ratios=[2.4, 0.165 * max(len(choices), 2)]
    )
    low = rows["p_rotation"] < ALPHA if "p_rotation" in rows else pd.Series(False, index=rows.index)
    top.plot(rows.index[~low], rows.loc[~low, "excess_log"], ".", color="#a39e93", markersize=2.5)
    top.plot(rows.index[low], rows.loc[low, "excess_log"], ".", color=COLOURS["recovery"], markersize=2.5)
    top.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    top.set_ylabel("excess log return")
    top.tick_params(axis="x", length=0)
    if "p_rotation" in rows:
        top.set_title(f"green: rotation p below {ALPHA:g}", color=text_colour(COLOURS["recovery"]))
    _choice_marks(below, rows, choices)
    return finish(figure, *_curve_words(rows, low))


def _choice_rows(rows: pd.DataFrame) -> list[tuple[str, object]]:
    """(column, value) of each row of marks, columns in the order of `CHOICES`, those that never vary left out."""
    found = []
    for column in CHOICES:
        if column in rows and len(rows[column].unique()) > 1:
            values = list(dict.fromkeys(rows[column]))
            known = [name for name in (*DEFINITION_WORDS, *ANCHOR_COLOURS) if name in values]
            found += [(column, value) for value in (known or sorted(values))]
    return found[:MAX_CHOICE_ROWS]


def _choice_label(column: str, value: object) -> str:
    if column == "definition":
        return DEFINITION_WORDS.get(str(value), str(value))
    if column == "anchor":
        return str(value).replace("_", " ")
    return f"{CHOICES[column]} {day(value)[:4] if column == 'sample_start' else value}"


def _choice_marks(axes: Axes, rows: pd.DataFrame, choices: list[tuple[str, object]]) -> None:
    """A strip per choice: how often it is made along the curve, against its overall share (dark: twice or more)."""
    axes.grid(visible=False)
    edges = np.linspace(-0.5, len(rows) - 0.5, CURVE_BINS + 1)
    in_bin = np.maximum(np.histogram(rows.index, edges)[0], 1)
    strips = []
    for column, value in choices:
        made = (rows[column] == value).to_numpy()
        strips.append(np.histogram(rows.index[made], edges)[0] / in_bin / made.mean())
    if strips:
        look = {"cmap": colour_map(SEQUENTIAL), "vmin": 0, "vmax": 2, "edgecolors": "face", "linewidth": 0.1}
        axes.pcolormesh(edges, np.arange(len(choices) + 1) - 0.5, np.array(strips), **look)
    for y in range(1, len(choices)):
        new_column = choices[y][0] != choices[y - 1][0]
        axes.axhline(y - 0.5, color=COLOURS["paper"], linewidth=4 if new_column else 1)
    axes.set_yticks(range(len(choices)), [_choice_label(*choice) for choice in choices], fontsize=8.5)
    axes.set_ylim(len(choices) - 0.5, -0.5)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(-0.01 * len(rows), 1.01 * len(rows))
    axes.set_xlabel(f"{len(rows):,} specifications, sorted by excess; darker: more of them chose this")


def _curve_words(rows: pd.DataFrame, low: pd.Series) -> tuple[str, str]:
    above = float((rows["excess_log"] > 0).mean())
    title = f"{percent(above)} of {len(rows):,} ways to ask the question give a mean above that of any day"
    beside = f", {percent(low.mean())} with a rotation p below {ALPHA:g}" if "p_rotation" in rows else ""
    title += beside
    low_end, middle, high_end = rows["excess_log"].quantile([0.05, 0.5, 0.95])
    alt = (
        f"Rising curve of excess log returns over marks of each one's choices; median {signed(middle, 2)}, "
        f"90 % between {signed(low_end, 2)} and {signed(high_end, 2)}."
    )
    return title, alt


@styled
def family_null(table: pd.DataFrame, null_max: np.ndarray) -> Chart:
    """Best standardised excess of all rules in every common rotation, the observed best marked.

    `table`: as from `study.family.family_table` (definition, anchor, z, p_family); `null_max`: the best z of all rules
    in each common rotation, as from `study.rotation.max_rotation_test`.
    """
    null = np.asarray(null_max, dtype=float)
    null = null[np.isfinite(null)]
    rules = table.dropna(subset=["z"])
    if rules.empty:
        return empty("No rule has an event whose outcome is known")
    best = rules.loc[rules["z"].idxmax()]
    observed, p_best = float(best["z"]), float(best["p_family"])
    figure, axes = new_figure(height=4.0)
    heights, edges = np.histogram(null, bins=HISTOGRAM_BINS)
    middle = (edges[1:] + edges[:-1]) / 2
    colour = COLOURS["recovery"]
    axes.bar(middle, heights, np.diff(edges), color=np.where(middle >= observed, colour, COLOURS["baseline_shade"]))
    axes.axvline(observed, color=colour, linewidth=2.2)
    top = heights.max(initial=1) * 1.5
    axes.set_ylim(0, top)
    left = len(null) > 0 and observed > np.quantile(null, 0.7)
    broken = f"{DEFINITION_WORDS.get(best['definition'], best['definition'])},\n{ANCHOR_WORDS[best['anchor']]}"
    name = broken.replace("\n", " ")
    axes.annotate(f"observed best:\n{broken}, z = {observed:.1f}", (observed, top), xytext=(-7 if left else 7, 0),
                  textcoords="offset points", ha="right" if left else "left", va="top", fontweight="bold",
                  color=text_colour(colour))  # fmt: skip
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.set_xlabel("best of all rules: standardised excess log return")
    axes.set_title(f"{len(null):,} common rotations of {count(len(rules), 'rule')}")
    title = (
        f"In {percent(p_best, 1)} of common rotations some rule does as well as the best one did "
        f"(family-wise {p_text(p_best)})"
    )
    low, high = np.quantile(null, [0.5, 0.95]) if len(null) else (np.nan, np.nan)
    alt = (
        f"Histogram of the best rule's standardised excess, median {low:.2f}, 95 % below {high:.2f}; the observed "
        f"best is {name} with {observed:.2f}."
    )
    return finish(figure, title, alt)


@styled
def prequential(forecasts: pd.DataFrame, anchor: str = "recovery") -> Chart:
    """At each signal: the forecast from earlier signals, the forecast from every earlier day, and what came.

    `forecasts`: as from `study.prequential.prequential`: date, forecast (mean of the earlier signals known by then),
    baseline (mean of every earlier day known by then), outcome; log returns, missing where not known.
    """
    rows = forecasts.dropna(subset=["outcome"]).reset_index(drop=True)
    days = pd.DatetimeIndex(rows["date"])
    figure, axes = new_figure(height=4.6)
    colour = ANCHOR_COLOURS[anchor]
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    axes.vlines(days, rows["forecast"], rows["outcome"], color=COLOURS["faint"], linewidth=2, zorder=1)
    axes.plot(days, rows["baseline"], "-", color=COLOURS["baseline"], linewidth=1.8)
    axes.plot(days, rows["forecast"], "-", color=colour, linewidth=1.8)
    axes.plot(days, rows["outcome"], "o", color=COLOURS["price"], markersize=5)
    if len(days):
        date_axis(axes, days[0] - pd.Timedelta(days=60), days[-1] + pd.Timedelta(days=60))
    log_return_axis(axes, "return (log scale)")
    _prequential_key(axes, colour)
    return finish(figure, *_prequential_words(rows))


def _prequential_key(axes: Axes, colour: str) -> None:
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], color=colour, label="mean of earlier signals"),
        Line2D([], [], color=COLOURS["baseline"], label="mean of earlier days"),
        Line2D([], [], color=COLOURS["price"], marker="o", ls="", label="what came"),
    ]
    axes.legend(handles=keys, loc="lower left", bbox_to_anchor=(-0.01, 0.99), ncols=3, borderaxespad=0.1)


def _prequential_words(rows: pd.DataFrame) -> tuple[str, str]:
    both = rows.dropna(subset=["forecast", "baseline"])
    if both.empty:
        return "No signal had earlier ones to learn from", "An empty chart."
    own, base = (float(((both[name] - both["outcome"]) ** 2).mean() ** 0.5) for name in ("forecast", "baseline"))
    better = "missed by less than" if own < base else "missed by no less than"
    title = (
        f"Over {count(len(both), 'signal')}, forecasts from earlier signals {better} those from every earlier day "
        f"({own:.3f} against {base:.3f})"
    )
    nearer = int(((both["forecast"] - both["outcome"]).abs() < (both["baseline"] - both["outcome"]).abs()).sum())
    alt = (
        f"Two lines of forecasts and dots of outcomes by signal; root mean squared errors {own:.3f} and {base:.3f} in "
        f"log return; the signals' forecast was the nearer one {nearer} of {len(both)} times."
    )
    return title, alt
