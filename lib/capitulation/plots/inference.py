"""How sure one can be: excess returns with intervals, the rotation null, tests compared, single clusters left out."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from capitulation.plots.axes import day, log_axis
from capitulation.plots.chart import Chart
from capitulation.plots.style import (
    ANCHOR_COLOURS,
    COLOURS,
    drop_left_grid,
    finish,
    new_figure,
    styled,
    text_colour,
)
from capitulation.words import ANCHOR_WORDS, count, p_text, percent, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from capitulation.params import Params

ALPHA = 0.05
SMALLEST_P = 1e-4
HISTOGRAM_BINS = 60
METHODS = {
    "p_ols": "least squares",
    "p_hac": "Newey-West",
    "p_hansen_hodrick": "Hansen-Hodrick",
    "p_matched": "matched entries",
    "p_rotation": "exact rotation",
}


class Rotation(Protocol):
    """What `rotation_null` reads of a rotation test."""

    statistic: float
    p_one_sided: float
    null: np.ndarray
    n_events: int


@styled
def rotation_null(result: Rotation, horizon_days: int | None = None, anchor: str = "recovery") -> Chart:
    """Histogram of the statistic over all rotations of the calendar, the observed one marked, its tail coloured.

    `result`: as from `study.rotation.rotation_test`; excess log returns.
    """
    null = np.asarray(result.null, dtype=float)
    null = null[np.isfinite(null)]
    figure, axes = new_figure(height=4.0)
    colour = ANCHOR_COLOURS[anchor]
    heights, edges = np.histogram(null, bins=HISTOGRAM_BINS)
    share = heights / max(len(null), 1)
    middle = (edges[:-1] + edges[1:]) / 2
    tail = middle >= result.statistic
    axes.bar(middle, share, width=np.diff(edges), color=np.where(tail, colour, COLOURS["baseline_shade"]))
    axes.axvline(result.statistic, color=colour, linewidth=2.2)
    axes.axvline(0, color=COLOURS["ink"], linewidth=0.8)
    top = share.max(initial=0.01) * 1.5
    axes.set_ylim(0, top)
    left = result.statistic > np.quantile(null, 0.8) if len(null) else False
    axes.annotate(
        f"the real calendar\n{signed(result.statistic, 3)}", (result.statistic, top),
        xytext=(-6 if left else 6, 0), textcoords="offset points", ha="right" if left else "left", va="top",
        color=text_colour(colour), fontweight="bold",
    )  # fmt: skip
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.set_xlabel("mean log return of the signals minus that of all rotations")
    over = f" over {horizon_days} days" if horizon_days else ""
    axes.set_title(f"{len(null):,} rotations of the same pattern of {count(result.n_events, 'event')}{over}")
    return finish(figure, _rotation_title(result), _rotation_alt(result, null))


def _rotation_title(result: Rotation) -> str:
    if not math.isfinite(result.p_one_sided):
        return "Without an event there is nothing to rotate"
    return (
        f"{percent(result.p_one_sided, 1)} of all rotations of the calendar do at least as well as the real one "
        f"({p_text(result.p_one_sided)})"
    )


def _rotation_alt(result: Rotation, null: np.ndarray) -> str:
    if not len(null):
        return "An empty histogram."
    low, high = np.quantile(null, [0.025, 0.975])
    return (
        f"Histogram of {len(null):,} rotated means, 95 % of them between {signed(low, 3)} and {signed(high, 3)}; the "
        f"observed excess log return is {signed(result.statistic, 3)}."
    )


@styled
def test_comparison(forward_returns: pd.DataFrame, params: Params) -> Chart:
    """One-sided p-values of the same effects by five methods, one row each; the primary effect joined by a line.

    `forward_returns`: the contract's table with the columns t_ols, p_hac, p_hansen_hodrick beside p_matched and
    p_rotation; the rows of the primary definition are shown, a dot per anchor and horizon.
    """
    rows = forward_returns[
        (forward_returns["definition"] == params.primary_definition) & (forward_returns["n_events"] > 0)
    ]
    rows = rows.assign(p_ols=1 - rows["t_ols"].map(NormalDist().cdf, na_action="ignore").astype(float))
    keys = rows[["anchor", "horizon_days"]] == [params.primary_anchor, params.primary_horizon_days]
    primary = rows[keys.all(axis=1)]
    figure, axes = new_figure(height=4.4)
    drop_left_grid(axes)
    for i, method in enumerate(METHODS):
        values = rows[method].clip(lower=SMALLEST_P)
        shift = np.linspace(-0.22, 0.22, max(len(values), 2))[: len(values)]
        colours = [ANCHOR_COLOURS[anchor] for anchor in rows["anchor"]]
        axes.scatter(values, i + shift, s=26, c=colours, alpha=0.55, linewidths=0)
    if len(primary):
        line = primary[list(METHODS)].iloc[0].clip(lower=SMALLEST_P)
        axes.plot(line, range(len(METHODS)), "-D", color=COLOURS["ink"], markersize=7, linewidth=1.4, zorder=4)
    axes.axvline(ALPHA, color=COLOURS["soft"], linewidth=1, linestyle=(0, (3, 2)))
    axes.set_yticks(range(len(METHODS)), list(METHODS.values()))
    axes.set_ylim(len(METHODS) - 0.5, -0.5)
    axes.set_xlim(SMALLEST_P * 0.8, 1.15)
    log_axis(axes, f"one-sided p, {SMALLEST_P:g} also stands for less", "x")
    _anchor_key(axes, rows)
    return finish(figure, _tests_title(primary, params), _tests_alt(rows))


def _anchor_key(axes: Axes, rows: pd.DataFrame) -> None:
    """Names of the anchors in their colours, the primary effect and the level, in one line above the axes."""
    from matplotlib.lines import Line2D

    used = list(dict.fromkeys(rows["anchor"]))
    dots = [Line2D([], [], marker="o", linestyle="", color=ANCHOR_COLOURS[a], label=ANCHOR_WORDS[a]) for a in used]
    diamond = Line2D([], [], marker="D", color=COLOURS["ink"], label="primary test")
    place = {"loc": "lower left", "bbox_to_anchor": (-0.22, 0.99), "borderaxespad": 0.1}
    axes.legend(handles=[diamond, *dots], ncols=len(used) + 1, fontsize=10, **place)


def _tests_title(primary: pd.DataFrame, params: Params) -> str:
    if primary.empty:
        return "The primary test has no event whose outcome is known"
    row = primary.iloc[0]
    return (
        f"The same {params.primary_horizon_days}-day effect: least squares says {p_text(row['p_ols'])}, Newey-West "
        f"{p_text(row['p_hac'])}, exact rotation {p_text(row['p_rotation'])}"
    )


def _tests_alt(rows: pd.DataFrame) -> str:
    below = [f"{label} {int((rows[name] < ALPHA).sum())}" for name, label in METHODS.items()]
    return f"Dots of p-values in five rows; of {count(len(rows), 'effect')} below {ALPHA}: {', '.join(below)}."


@styled
def leave_one_out(table: pd.DataFrame, anchor: str = "recovery") -> Chart:
    """Excess log return when each cluster in turn is left out, beside that of all events.

    `table`: as from `study.event_study.leave_one_out`: left_out (missing in the first row: all events), excess_log,
    p_rotation.
    """
    everything, rest = table.iloc[0], table.iloc[1:]
    rest = rest.sort_values("excess_log", kind="stable")
    figure, axes = new_figure(height=1.6 + 0.26 * max(len(rest), 4))
    drop_left_grid(axes)
    colour = ANCHOR_COLOURS[anchor]
    axes.axvline(everything["excess_log"], color=COLOURS["baseline"], linewidth=1.6)
    axes.axvline(0, color=COLOURS["ink"], linewidth=0.8)
    y = np.arange(len(rest))
    axes.hlines(y, everything["excess_log"], rest["excess_log"], color=colour, linewidth=2, alpha=0.6)
    axes.plot(rest["excess_log"], y, "o", color=colour)
    axes.set_yticks(y, [f"without {day(value)}" for value in rest["left_out"]], fontsize=10)
    axes.set_ylim(len(rest) - 0.4, -0.6)
    axes.set_xlabel("excess log return (grey line: all events)")
    place = {"xycoords": axes.get_yaxis_transform(), "annotation_clip": False, "color": COLOURS["soft"], "fontsize": 10}
    for at, value in zip(y, rest["p_rotation"], strict=True):
        axes.annotate(p_text(value), (1.02, at), va="center", **place)
    return finish(figure, _leave_title(everything, rest), _leave_alt(everything, rest))


def _leave_title(everything: pd.Series, rest: pd.DataFrame) -> str:
    if rest.empty:
        return "There is no cluster of events to leave out"
    low, high = rest["excess_log"].min(), rest["excess_log"].max()
    return (
        f"Without one cluster at a time the excess of {signed(everything['excess_log'], 2)} lies between "
        f"{signed(low, 2)} and {signed(high, 2)}"
    )


def _leave_alt(everything: pd.Series, rest: pd.DataFrame) -> str:
    if rest.empty:
        return "No points."
    most = rest.loc[(rest["excess_log"] - everything["excess_log"]).abs().idxmax()]
    return (
        f"One point per left-out cluster of {len(rest)}; {day(most['left_out'])} matters most: without it the excess "
        f"log return is {signed(most['excess_log'], 2)} ({p_text(most['p_rotation'])}), "
        f"with all {p_text(everything['p_rotation'])}."
    )
