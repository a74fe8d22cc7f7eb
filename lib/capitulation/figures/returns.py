"""Charts of what BTC did after events, and how sure one can be: always beside any day, or beside every rotation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.special import ndtr

from capitulation.figures import style
from capitulation.figures.style import ANCHOR_COLOURS, COLOURS, as_percent, empty, finish, new_figure, styled
from capitulation.study import returns as study
from capitulation.study.chance import Rotation
from capitulation.study.events import HORIZONS
from capitulation.words import ANCHOR_WORDS, count, p_text, percent, signed

ALPHA = 0.05
METHODS = {
    "p_ols": "least squares",
    "p_hac": "Newey-West",
    "p_hansen_hodrick": "Hansen-Hodrick",
    "p_matched": "matched entries",
    "p_rotation": "exact rotation",
}


@styled
def event_paths(
    panel: pd.DataFrame,
    events: Any,
    *,
    name: str = "the events",
    anchor: str = "recovery",
    lag: int = 1,
    since: str = study.SINCE,
    before: int = 60,
    after: int = 365,
    days: int = 90,
) -> Figure:
    """BTC around each event, relative to the close at which it is traded: medians and middle halves, beside any day.

    `events`: days or a boolean daily Series; those since `since` whose entry has a price are drawn. `name` says in the
    title what they are, in the plural; `anchor` gives the colour, `days` is the horizon the title speaks of. Log scale.
    """
    price, name = panel["price_usd"], name.removeprefix("the ")
    sample = price.loc[since:].iloc[: -lag or None].index
    when = sample[study.event_marks(sample, events)]
    if price.loc[since:].notna().sum() < 2 or not len(when):
        return empty(f"No {name} since {since} can be held against a price")
    paths, base = (study.event_paths(price, at, before, after, lag) for at in (when, sample))
    index, colour, quartiles = paths.index, ANCHOR_COLOURS[anchor], [0.25, 0.5, 0.75]
    low, middle, high = paths.quantile(quartiles, axis=1).to_numpy()
    base_low, base_middle, base_high = base.quantile(quartiles, axis=1).to_numpy()
    figure, axes = new_figure(height=4.8)
    axes.fill_between(index, base_low, base_high, color=COLOURS["baseline_shade"])
    axes.plot(index[::10], paths.iloc[::10].to_numpy(), color=style.tint(colour), linewidth=0.6)
    for edge in (low, high):
        axes.plot(index, edge, color=colour, linewidth=1.1, linestyle=(0, (3, 2)))
    axes.plot(index, base_middle, color=COLOURS["baseline"], linewidth=2.2)
    axes.plot(index, middle, color=colour, linewidth=2.6)
    axes.axvline(0, color=COLOURS["ink"], linewidth=0.9)
    bottom, top = np.nanquantile([*paths.to_numpy().ravel(), *base_low, *base_high], [0.01, 0.99])
    axes.set(xlim=(index[0], index[-1]), ylim=(bottom - 0.08, top + 0.08), xlabel="days from the entry")
    style.log_return_axis(axes, "BTC relative to the entry (log scale)")
    step = 30 if len(index) < 200 else 60 if len(index) < 500 else 180
    axes.set_xticks([tick for tick in range(-step * 10, after + 1, step) if tick >= -before])
    axes.set_title("thin: single events; dashed: their quartiles; grey band: middle half of all days")
    ends = [(middle[-1], "median\nevent", colour), (base_middle[-1], "median\nday", COLOURS["baseline"])]
    style.label_ends(axes, ends)
    at = min(days, after)
    known, last = paths.loc[at].dropna(), paths.iloc[-1].dropna()
    title = f"No {name} since {since} have an outcome after {days} days yet"
    if len(known):
        title = (
            f"{days} days after the median of {len(known)} {name} BTC stood at {as_percent(known.median())}, after the "
            f"median day at {as_percent(base_middle[before + at])}"
        )
    told = f", {len(last)} to the end: {as_percent(last.min())} to {as_percent(last.max())}" if len(last) else ""
    return finish(figure, title, f"Lines from {before} days before {count(len(when), 'event')} to {after} after{told}.")


@styled
def returns_by_horizon(
    panel: pd.DataFrame,
    events: Any,
    *,
    horizons: Iterable[int] = HORIZONS,
    lag: int = 1,
    since: str = study.SINCE,
    name: str = "the events",
    anchor: str = "recovery",
) -> Figure:
    """Each event's return as a dot over the distribution of every day's since `since`, by holding period in days.

    The outermost half percent of the distribution on either side is cut off. Arguments as `event_paths`.
    """
    samples = {horizon: study.outcomes(panel, horizon, lag, since) for horizon in horizons}
    samples = {horizon: every for horizon, every in samples.items() if len(every)}
    own = {h: every[study.event_marks(every.index, events)].sort_values() for h, every in samples.items()}
    if not any(map(len, own.values())):
        return empty(f"No {name.removeprefix('the ')} since {since} have a known outcome yet")
    figure, axes = new_figure(height=4.8)
    inside = [every[every.between(*every.quantile([0.005, 0.995]))].to_numpy() for every in samples.values()]
    for body in axes.violinplot(inside, range(len(inside)), widths=0.86, points=80, showextrema=False)["bodies"]:
        body.set(facecolor=COLOURS["baseline_shade"], alpha=1)
    colour, told, above = ANCHOR_COLOURS[anchor], [], 0
    dots = {"color": colour, "markersize": 5, "alpha": 0.85, "markeredgecolor": "white", "markeredgewidth": 0.4}
    for at, (horizon, every) in enumerate(samples.items()):
        values, any_day = own[horizon].to_numpy(), every.median()
        axes.plot(at + _sideways(values), values, "o", zorder=3, **dots)
        axes.hlines(any_day, at - 0.36, at + 0.36, color=COLOURS["soft"], lw=2.0, linestyle=(0, (2, 1)), zorder=4)
        if len(values):
            middle = float(np.median(values))
            axes.hlines(middle, at - 0.36, at + 0.36, color=colour, linewidth=2.4, zorder=4)
            above += middle > any_day
            told.append(f"{horizon} days {as_percent(middle)} against {as_percent(any_day)}")
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8, zorder=1)
    axes.set_xticks(range(len(samples)), [f"{horizon}" for horizon in samples])
    axes.set(xlabel="holding period, days", xlim=(-0.6, len(samples) - 0.4))
    style.log_return_axis(axes, "return (log scale)")
    axes.set_title("dots: events, bar: their median; grey: every day, dashed: its median")
    title = (
        f"After {name} the median return beats that of any day at {above} of {count(len(told), 'horizon')}, within a "
        "wide spread"
    )
    return finish(figure, title, f"Dots over the distribution of every day. Medians: {', '.join(told)}.")


def _sideways(values: np.ndarray) -> np.ndarray:
    """Shift of sorted values, so that neighbours do not hide each other: the same values, the same picture."""
    near, rank = max(float(np.ptp(values)) / 28, 1e-9) if len(values) else 0, np.zeros(len(values))
    for i in range(1, len(values)):
        rank[i] = rank[i - 1] + 1 if values[i] - values[i - 1] < near else 0
    return np.clip(np.where(rank % 2 == 1, 1, -1) * np.ceil(rank / 2) * 0.085, -0.3, 0.3)


def _null_bars(null: np.ndarray, observed: float, colour: str, label: str, left_of: float) -> tuple[Figure, Axes]:
    """Histogram of `null`, its tail from `observed` on coloured, the observed value marked and named above the bars."""
    figure, axes = new_figure(height=4.0)
    heights, edges = np.histogram(null, bins=60)
    middle, top = (edges[:-1] + edges[1:]) / 2, max(heights.max(), 1) * 1.5
    axes.bar(middle, heights, np.diff(edges), color=np.where(middle >= observed, colour, COLOURS["baseline_shade"]))
    axes.axvline(observed, color=colour, linewidth=2.2)
    left = observed > np.quantile(null, left_of)
    place = {"xytext": (-6 if left else 6, 0), "textcoords": "offset points", "ha": "right" if left else "left"}
    axes.annotate(label, (observed, top), va="top", color=style.text_colour(colour), fontweight="bold", **place)
    axes.set(ylim=(0, top), yticks=[])
    axes.grid(visible=False)
    return figure, axes


@styled
def rotation_null(test: Rotation, *, days: int | None = None, anchor: str = "recovery") -> Figure:
    """Excess of the same pattern of events in every rotation of the calendar, the real one marked, its tail coloured.

    `test`: as from `rotation_test`; `days`: the horizon, for the words alone.
    """
    if not test.n:
        return empty("Without an event there is nothing to rotate")
    label = f"the real calendar\n{signed(test.excess, 3)}"
    figure, axes = _null_bars(test.null, test.excess, ANCHOR_COLOURS[anchor], label, 0.8)
    axes.axvline(0, ymax=0.72, color=COLOURS["ink"], linewidth=0.8)  # below the label
    axes.set_xlabel("mean log return of the signals minus that of all rotations")
    over = f" over {days} days" if days else ""
    axes.set_title(f"{len(test.null):,} rotations of the same pattern of {count(test.n, 'event')}{over}")
    title = (
        f"{percent(test.p, 1)} of all rotations of the calendar do at least as well as the real one ({p_text(test.p)})"
    )
    low, high = (signed(value, 3) for value in np.quantile(test.null, [0.05, 0.95]))
    return finish(figure, title, f"Histogram, nine in ten between {low} and {high}; observed {signed(test.excess, 3)}.")


@styled
def family_null(table: pd.DataFrame, null_max: np.ndarray) -> Figure:
    """Best standardised excess of all rules in every common rotation, the observed best marked.

    `table`: definition, anchor, z, p_family (`tables.family_table`); `null_max`: shape (rotations,).
    """
    rules = table.dropna(subset=["z"])
    if rules.empty:
        return empty("No rule has an event whose outcome is known")
    best = rules.loc[rules["z"].idxmax()]
    rule, signal = style.rule_words(best["definition"]), ANCHOR_WORDS.get(best["anchor"], best["anchor"])
    label = f"observed best:\n{rule},\n{signal}, z = {best['z']:.1f}"
    figure, axes = _null_bars(null_max, best["z"], COLOURS["recovery"], label, 0.7)
    axes.set_xlabel("best of all rules: standardised excess log return")
    axes.set_title(f"{len(null_max):,} common rotations of {count(len(rules), 'rule')}")
    title = (
        f"In {percent(best['p_family'], 1)} of common rotations some rule does as well as the best one did "
        f"(family-wise {p_text(best['p_family'])})"
    )
    alt = (
        f"Histogram, one in twenty above {np.quantile(null_max, 0.95):.2f}; observed {best['z']:.2f}: {rule}, {signal}."
    )
    return finish(figure, title, alt)


@styled
def test_comparison(table: pd.DataFrame, *, days: int = 90, anchor: str = "recovery") -> Figure:
    """One-sided p-values of the same effects by five methods, one row each; one effect joined by a line.

    `table`: rows of `tables.study_table` of one rule, a dot per anchor and horizon; the line is `anchor` and `days`.
    """
    rows = table[table["n_events"] > 0]
    if rows.empty:
        return empty("No event of this rule has a known outcome")
    rows, smallest = rows.assign(p_ols=ndtr(-rows["t_ols"].to_numpy(float))), 1e-4
    figure, axes = new_figure(height=4.4)
    style.grid_along_x(axes)
    shift = np.linspace(-0.22, 0.22, max(len(rows), 2))[: len(rows)]
    colours = [ANCHOR_COLOURS.get(name, COLOURS["baseline"]) for name in rows["anchor"]]
    for i, method in enumerate(METHODS):
        axes.scatter(rows[method].clip(lower=smallest), i + shift, s=26, c=colours, alpha=0.55, linewidths=0)
    chosen = rows[(rows["anchor"] == anchor) & (rows["horizon_days"] == days)]
    title = f"No {ANCHOR_WORDS.get(anchor, anchor)} have a known outcome at {days} days"
    if len(chosen):
        row = chosen.iloc[0]
        line = row[list(METHODS)].astype(float).clip(lower=smallest)
        axes.plot(line, range(len(METHODS)), "-D", color=COLOURS["ink"], markersize=7, linewidth=1.4, zorder=4)
        title = (
            f"The same {days}-day effect: least squares says {p_text(row['p_ols'])}, Newey-West "
            f"{p_text(row['p_hac'])}, exact rotation {p_text(row['p_rotation'])}"
        )
    axes.axvline(ALPHA, color=COLOURS["soft"], linewidth=1, linestyle=(0, (3, 2)))
    axes.set_yticks(range(len(METHODS)), list(METHODS.values()))
    axes.set(ylim=(len(METHODS) - 0.5, -0.5), xlim=(smallest * 0.8, 1.15))
    style.log_axis(axes, f"one-sided p, {smallest:g} also stands for less", "x")
    used = [name for name in ANCHOR_COLOURS if name in set(rows["anchor"])]
    keys = [Line2D([], [], marker="o", ls="", color=ANCHOR_COLOURS[name], label=ANCHOR_WORDS[name]) for name in used]
    keys = [Line2D([], [], marker="D", color=COLOURS["ink"], label="primary test"), *keys]
    style.legend_above(axes, keys, bbox_to_anchor=(-0.22, 0.99), fontsize=10)
    below = ", ".join(f"{label} {int((rows[name] < ALPHA).sum())}" for name, label in METHODS.items())
    return finish(figure, title, f"Dots in five rows; of {count(len(rows), 'effect')} below {ALPHA}: {below}.")


@styled
def forest(table: pd.DataFrame, *, days: int = 90, anchor: str = "recovery") -> Figure:
    """Excess log return with its interval by rule and anchor at one horizon; n and p of `anchor` in a column.

    `table`: as from `tables.study_table`.
    """
    rows = table[(table["horizon_days"] == days) & (table["n_events"] > 0)]
    if rows.empty:
        return empty("No definition has an event whose outcome is known")
    own = rows[rows["anchor"] == anchor].set_index("definition").sort_values("excess_log", ascending=False)
    order = list(dict.fromkeys([*own.index, *rows["definition"]]))
    anchors = [name for name in ANCHOR_COLOURS if name in set(rows["anchor"])]
    figure, axes = new_figure(height=1.7 + 0.52 * max(len(order), 2))
    style.grid_along_x(axes)
    axes.axvline(0, color=COLOURS["ink"], linewidth=0.9, zorder=1)
    for i in range(0, len(order), 2):
        axes.axhspan(i - 0.5, i + 0.5, color="#f7f5f1", zorder=0)
    for k, name in enumerate(anchors):
        found, colour = rows[rows["anchor"] == name].set_index("definition").reindex(order), ANCHOR_COLOURS[name]
        y = np.arange(len(order)) + (k - (len(anchors) - 1) / 2) * 0.2
        axes.hlines(y, found["ci_low"], found["ci_high"], color=colour, linewidth=1.3, alpha=0.75)
        look = {"markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.4, "label": ANCHOR_WORDS[name]}
        axes.plot(found["excess_log"], y, style.ANCHOR_MARKERS[name], color=colour, **look)
    axes.margins(x=0.04)
    axes.set_yticks(range(len(order)), [style.rule_label(name) for name in order])
    axes.set(ylim=(len(order) - 0.5, -0.5), xlabel=f"excess log return over {days} days, against any day")
    place = {"xycoords": axes.get_yaxis_transform(), "annotation_clip": False, "fontsize": 10}
    place["color"] = style.text_colour(ANCHOR_COLOURS[anchor])
    axes.annotate("n, p", (1.02, -0.62), va="bottom", **place)
    for i, row in enumerate(own.itertuples()):
        p = "<0.001" if row.p_rotation < 0.001 else f"{row.p_rotation:.2f}"
        axes.annotate(f"{row.n_events:.0f}, {p}", (1.02, i), va="center", **place)
    style.legend_above(axes, bbox_to_anchor=(-0.01, 1.0), borderaxespad=0.1, columnspacing=1.2)
    title = (
        f"{int((rows['p_rotation'] < ALPHA).sum())} of {count(len(rows), 'pair')} of definition and signal have a "
        f"rotation p below {ALPHA} at {days} days; chance alone would give {ALPHA * len(rows):.1f}"
    )
    told = [f"{style.rule_words(row.Index)} {signed(row.excess_log, 2)}" for row in own.itertuples()]
    return finish(figure, title, f"Points with intervals; for {ANCHOR_WORDS[anchor]}: {', '.join(told)}.")


@styled
def prequential(forecasts: pd.DataFrame, *, anchor: str = "recovery") -> Figure:
    """At each signal: the forecast from earlier signals, the forecast from every earlier day, and what came.

    `forecasts`: as from `robustness.prequential`: date, forecast, baseline, outcome; log returns, missing where not
    known.
    """
    rows = forecasts.dropna(subset=["outcome"]).reset_index(drop=True)
    both = rows.dropna(subset=["forecast", "baseline"])
    if both.empty:
        return empty("No signal had earlier ones to learn from")
    days, colour = pd.DatetimeIndex(rows["date"]), ANCHOR_COLOURS[anchor]
    figure, axes = new_figure(height=4.6)
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    axes.vlines(days, rows["forecast"], rows["outcome"], color=COLOURS["faint"], linewidth=2, zorder=1)
    axes.plot(days, rows["baseline"], "-", color=COLOURS["baseline"], linewidth=1.8, label="mean of earlier days")
    axes.plot(days, rows["forecast"], "-", color=colour, linewidth=1.8, label="mean of earlier signals")
    axes.plot(days, rows["outcome"], "o", color=COLOURS["price"], markersize=5, label="what came")
    style.date_axis(axes, days[0] - pd.Timedelta(days=60), days[-1] + pd.Timedelta(days=60))
    style.log_return_axis(axes, "return (log scale)")
    style.legend_above(axes)
    missed = both[["forecast", "baseline"]].sub(both["outcome"], axis=0)
    own, base = (missed**2).mean() ** 0.5
    title = (
        f"Over {count(len(both), 'signal')}, forecasts from earlier signals missed by "
        f"{'less' if own < base else 'no less'} than those from every earlier day ({own:.3f} against {base:.3f})"
    )
    nearer = int((missed["forecast"].abs() < missed["baseline"].abs()).sum())
    alt = f"Two lines of forecasts and dots of outcomes; the signals' forecast was the nearer one {nearer} times."
    return finish(figure, title, alt)


@styled
def comparable_fan(state: Mapping[str, Any]) -> Figure:
    """Returns after comparable moments by horizon: extremes, middle half and median beside any day's median.

    `state`: as from `present.present_state`.
    """
    rows = pd.DataFrame(state["comparable"]["log_returns"])
    if rows.empty or rows["n"].max() == 0:
        return empty("No earlier moment of known outcome is comparable to the present one")
    known = rows[rows["n"] > 0].astype(float)
    at, low, high = np.arange(len(known)), known["worst"].min(), known["best"].max()
    figure, axes = new_figure(height=4.0)
    look = {"color": COLOURS["recovery"]}
    axes.bar(at, known["best"] - known["worst"], 0.5, bottom=known["worst"], alpha=0.18, **look)
    axes.bar(at, known["q75"] - known["q25"], 0.5, bottom=known["q25"], alpha=0.45, **look)
    axes.hlines(known["median"], at - 0.25, at + 0.25, color=style.text_colour(COLOURS["recovery"]), linewidth=2.5)
    axes.plot(at, known["base_median"], "D", color=COLOURS["baseline"], markersize=6)
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    axes.set_xticks(at, [f"{row.horizon_days:.0f} days\nn = {row.n:.0f}" for row in known.itertuples()])
    room = 0.05 * (high - low)
    axes.set_ylim(min(low, 0) - room, max(high, 0) + room)
    style.log_return_axis(axes, "return of BTC")
    axes.set_title("light: all cases; dark: middle half; line: median; diamond: median of any day")
    style.label_ends(axes, [(known["base_median"].iloc[-1], "any day", COLOURS["baseline"])])
    what = "expansion" if state["ribbon_state"] == "expansion" else "capitulation"
    title = (
        f"After {count(int(known['n'].max()), 'earlier moment')} like this (day {state['comparable']['age_days']} of "
        f"{what}), the median return was above any day's at {int((known['median'] > known['base_median']).sum())} of "
        f"{count(len(known), 'horizon')}"
    )
    told = [f"{row.horizon_days:.0f} days {as_percent(row.median)}" for row in known.itertuples()]
    return finish(figure, title, f"Bars from {as_percent(low)} to {as_percent(high)}; medians: {', '.join(told)}.")
