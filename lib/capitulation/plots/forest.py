"""Excess returns of every definition with their intervals: a forest of one horizon, a grid of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.plots.chart import Chart
from capitulation.plots.empty import empty
from capitulation.plots.style import (
    ANCHOR_COLOURS,
    ANCHOR_MARKERS,
    COLOURS,
    DIVERGING,
    colour_map,
    drop_left_grid,
    finish,
    new_figure,
    styled,
    text_colour,
)
from capitulation.words import ANCHOR_WORDS, DEFINITION_WORDS, count, p_text, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from capitulation.params import Params

ALPHA = 0.05


def definition_label(name: str) -> str:
    """A definition as people read it, broken over two lines where long."""
    words = DEFINITION_WORDS.get(name, name)
    if len(words) <= 18:
        return words
    cut = min((i for i, char in enumerate(words) if char in " -"), key=lambda i: abs(i - len(words) / 2))
    return f"{words[: cut + 1].rstrip()}\n{words[cut + 1 :]}"


@styled
def forest(
    forward_returns: pd.DataFrame, params: Params, anchors: tuple[str, ...] = ("start", "recovery", "buy", "in_state")
) -> Chart:
    """Excess log return with its interval by definition and anchor at the primary horizon, p beside the primary anchor.

    `forward_returns`: the contract's table.
    """
    rows = forward_returns[(forward_returns["horizon_days"] == params.primary_horizon_days)]
    rows = rows[rows["anchor"].isin(anchors) & (rows["n_events"] > 0)]
    if rows.empty:
        return empty("No definition has an event whose outcome is known")
    order = _definition_order(rows, params.primary_anchor)
    figure, axes = new_figure(height=1.7 + 0.52 * max(len(order), 2))
    drop_left_grid(axes)
    axes.axvline(0, color=COLOURS["ink"], linewidth=0.9, zorder=1)
    for i in range(0, len(order), 2):
        axes.axhspan(i - 0.5, i + 0.5, color="#f7f5f1", zorder=0, linewidth=0)
    for k, anchor in enumerate(anchors):
        _forest_points(
            axes, rows[rows["anchor"] == anchor].set_index("definition"), order, anchor, _dodge(k, len(anchors))
        )
    axes.set_yticks(range(len(order)), [definition_label(name) for name in order])
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlim(*_forest_limits(rows))
    axes.set_xlabel(f"excess log return over {params.primary_horizon_days} days, against any day")
    _p_column(axes, rows[rows["anchor"] == params.primary_anchor].set_index("definition"), order, params)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=len(anchors), borderaxespad=0.1)
    return finish(figure, _forest_title(rows, params), _forest_alt(rows, params))


def _definition_order(rows: pd.DataFrame, anchor: str) -> list[str]:
    """Definitions by falling excess at `anchor`, those without it last."""
    own = rows[rows["anchor"] == anchor].set_index("definition")["excess_log"]
    names = pd.Series({name: own.get(name, -np.inf) for name in rows["definition"].unique()}, dtype=float)
    return list(names.sort_values(ascending=False, kind="stable").index)


def _dodge(k: int, n: int) -> float:
    return (k - (n - 1) / 2) * 0.2


def _forest_points(axes: Axes, rows: pd.DataFrame, order: list[str], anchor: str, shift: float) -> None:
    found = rows.reindex(order)
    y, colour = np.arange(len(order)) + shift, ANCHOR_COLOURS[anchor]
    axes.hlines(y, found["ci_low"], found["ci_high"], color=colour, linewidth=1.3, alpha=0.75)
    look = {"markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.4, "label": ANCHOR_WORDS[anchor]}
    axes.plot(found["excess_log"], y, ANCHOR_MARKERS[anchor], color=colour, **look)


def _forest_limits(rows: pd.DataFrame) -> tuple[float, float]:
    values = rows[["excess_log", "ci_low", "ci_high"]].to_numpy(float)
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (-0.1, 0.1)
    pad = 0.04 * (high - low)
    return min(low, 0) - pad, max(high, 0) + pad


def _p_column(axes: Axes, rows: pd.DataFrame, order: list[str], params: Params) -> None:
    """Number of events and p of the primary anchor in a column at the right."""
    found = rows.reindex(order)
    colour = text_colour(ANCHOR_COLOURS[params.primary_anchor])
    place = {"xycoords": axes.get_yaxis_transform(), "annotation_clip": False, "color": colour, "fontsize": 10}
    axes.annotate("n, p", (1.02, -0.62), va="bottom", **place)
    for i, row in enumerate(found.itertuples()):
        if np.isfinite(row.p_rotation):
            text = f"{row.n_events:.0f}, {'<0.001' if row.p_rotation < 0.001 else format(row.p_rotation, '.2f')}"
            axes.annotate(text, (1.02, i), va="center", **place)


def _forest_title(rows: pd.DataFrame, params: Params) -> str:
    low = int((rows["p_rotation"] < ALPHA).sum())
    return (
        f"{low} of {count(len(rows), 'pair')} of definition and signal have a rotation p below {ALPHA} at "
        f"{params.primary_horizon_days} days; chance alone would give {ALPHA * len(rows):.1f}"
    )


def _forest_alt(rows: pd.DataFrame, params: Params) -> str:
    own = rows[rows["anchor"] == params.primary_anchor].sort_values("excess_log", ascending=False)
    parts = [
        f"{DEFINITION_WORDS.get(row.definition, row.definition)} {signed(row.excess_log, 2)} "
        f"({signed(row.ci_low, 2)} to {signed(row.ci_high, 2)}, {p_text(row.p_rotation)})"
        for row in own.itertuples()
    ]
    what = ANCHOR_WORDS[params.primary_anchor]
    return f"Points with intervals by definition and signal; for {what}: {'; '.join(parts)}."


@styled
def excess_grid(forward_returns: pd.DataFrame, anchor: str = "recovery") -> Chart:
    """Excess log return of every definition (rows) at every horizon (columns) for one anchor, p below 0.05 in bold.

    `forward_returns`: the contract's table.
    """
    import seaborn as sns

    rows = forward_returns[forward_returns["anchor"] == anchor]
    excess = _by_rule_and_horizon(rows, "excess_log")
    p = _by_rule_and_horizon(rows, "p_rotation")
    figure, axes = new_figure(height=1.5 + 0.45 * len(excess))
    texts = excess.map(lambda value: signed(value, 2) if np.isfinite(value) else "")
    limit = float(np.nanmax(np.abs(excess.to_numpy()))) if excess.notna().any(axis=None) else 1.0
    look = {"cmap": colour_map(DIVERGING), "vmin": -limit, "vmax": limit, "cbar": False, "linewidths": 1.5}
    sns.heatmap(excess, ax=axes, annot=texts, fmt="", annot_kws={"fontsize": 10}, **look)
    _bold(axes, p.to_numpy())
    axes.set_yticks(np.arange(len(excess)) + 0.5, [definition_label(name) for name in excess.index], rotation=0)
    axes.tick_params(axis="x", rotation=0, length=0)
    axes.set(xlabel="holding period, days", ylabel="")
    axes.grid(visible=False)
    axes.set_title("excess log return against any day; bold: rotation p below 0.05")
    return finish(figure, *_grid_words(excess, p, anchor))


def _by_rule_and_horizon(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """Definitions × horizons of one column, definitions in the order of the table."""
    table = rows.set_index(["definition", "horizon_days"])[value].unstack()  # noqa: PD010
    return table.reindex(list(dict.fromkeys(rows["definition"])))


def _grid_words(excess: pd.DataFrame, p: pd.DataFrame, anchor: str) -> tuple[str, str]:
    low, n = int((p < ALPHA).sum(axis=None)), int(p.notna().sum(axis=None))
    title = (
        f"After {ANCHOR_WORDS[anchor]}, {low} of {count(n, 'cell')} have a rotation p below {ALPHA} "
        f"(chance: {ALPHA * n:.1f})"
    )
    if not n:
        return title, "Heat map without values."
    least, most = (signed(float(find(excess)), 2) for find in (np.nanmin, np.nanmax))
    return title, f"Heat map of the excess log return by definition and horizon, from {least} to {most}."


def _bold(axes: Axes, p: np.ndarray) -> None:
    for text in axes.texts:
        x, y = text.get_position()
        if p[int(y), int(x)] < ALPHA:
            text.set_fontweight("bold")
