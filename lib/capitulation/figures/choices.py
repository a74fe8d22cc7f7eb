"""Charts of choices and of trust: other windows, every specification, strategies, the forecasts' and tests' record."""

import re
import textwrap
from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from capitulation.figures import style
from capitulation.figures.style import ANCHOR_COLOURS, COLOURS, empty, finish, new_figure, styled, tint
from capitulation.mining.rules import RULES
from capitulation.study.chance import ACCEPTED, LEVEL
from capitulation.study.trading import STAY_OUT
from capitulation.words import count, day, percent, signed

BUY_AND_HOLD = "buy_and_hold"
NOT_SIMULATED = "No market has been simulated: run make calibrate"
AT_LEVEL = {"color": COLOURS["soft"], "linewidth": 1, "linestyle": (0, (3, 2))}


@styled
def window_grid(grid: pd.DataFrame, *, fast_days: int = 30, slow_days: int = 60, days: int = 90) -> Figure:
    """Excess log return of every pair of means (`robustness.window_grid`) as a heat map; one pair is framed."""
    known = grid.dropna(subset=["excess_log"])
    if known.empty:
        return empty("No pair of means has an event whose outcome is known")
    table = grid.pivot_table("excess_log", index="slow_days", columns="fast_days", dropna=False).astype(float)
    limit = max(float(np.nanquantile(table.abs(), 0.98)), 1e-9)
    figure, (axes, beside) = new_figure(1, 2, height=4.8, width_ratios=(20 if style.is_narrow() else 47, 1))
    axes.grid(visible=False)
    edges = table.columns.to_numpy(float), table.index.to_numpy(float)
    mesh = axes.pcolormesh(*edges, table, cmap="RdBu", vmin=-limit, vmax=limit, shading="nearest")
    axes.set(xlabel="fast mean, days", ylabel="slow mean, days", title="dashes: below any day")
    below = known[known["excess_log"] < 0]
    axes.plot(below["fast_days"], below["slow_days"], "_", color=COLOURS["soft"], markersize=4, markeredgewidth=0.8)
    pair = fast_days, slow_days
    axes.plot(*pair, "s", markersize=11, markerfacecolor="none", markeredgewidth=1.8, color=COLOURS["ink"])
    axes.annotate("{}/{}".format(*pair), pair, xytext=(9, 7), textcoords="offset points", weight="bold")
    bar = figure.colorbar(mesh, cax=beside)
    bar.outline.set_visible(False)
    bar.set_label(f"excess log return, {days} days")
    excess = known["excess_log"]
    own = excess[(known["fast_days"] == fast_days) & (known["slow_days"] == slow_days)]
    title = f"Of {count(len(known), 'pair')} of means {percent((excess > 0).mean())} have an excess above zero"
    if len(own):
        title += f"; {fast_days}/{slow_days} beats {percent((excess < own.iloc[0]).mean())} of them"
    title += f"; by luck some pair does as well as the best in {percent(known['p_family'].min())} of rotations"
    return finish(figure, title, f"Heat map of excess from {signed(excess.min(), 2)} to {signed(excess.max(), 2)}.")


@styled
def specification_curve(specifications: pd.DataFrame) -> Figure:
    """Excess log return of every specification (`robustness.specification_curve`), rising, above strips of choices.

    A strip shows how often a choice is made along the curve against its overall share (dark: twice or more); a choice
    that never varies has none.
    """
    rows = specifications.dropna(subset=["excess_log"]).sort_values("excess_log", kind="stable").reset_index(drop=True)
    if rows.empty:
        return empty("No specification has an event whose outcome is known")
    words = {"anchor": "signal: {}", "horizon_days": "held {} days", "sample_start": "since {!s:.4}"}
    words["lag_days"] = "bought {} days later"
    rank = {name: i for i, name in enumerate([*RULES, *ANCHOR_COLOURS])}
    labels, strips, groups = [], [], []
    edges = np.linspace(-0.5, len(rows) - 0.5, 61)
    in_bin = np.maximum(np.histogram(rows.index, edges)[0], 1)
    for column in ("definition", *words):
        values = sorted(rows[column].unique(), key=lambda name: (rank.get(name, len(rank)), name))
        for value in values if len(values) > 1 else ():
            made = rows[column] == value
            strips.append(np.histogram(rows.index[made], edges)[0] / in_bin / made.mean())
            name = style.rule_words(value).replace("_", " ") if isinstance(value, str) else value
            labels.append(words.get(column, "{}").format(name))
            groups.append(column)
    height, small = 0.165 * max(len(strips), 2), rows["p_rotation"] < LEVEL
    figure, (top, below) = new_figure(2, 1, height=3.4 + height, sharex=True, height_ratios=[2.4, height])
    for chosen, colour, size in ((~small, "#a39e93", 2.5), (small, COLOURS["recovery"], 6)):
        top.plot(rows.loc[chosen, "excess_log"], ".", color=colour, markersize=size)
    top.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    top.set_ylabel("excess log return")
    top.tick_params(axis="x", length=0)
    top.set_title(f"green, thick: p below {LEVEL} if it were the only one asked")
    style.grid_along_x(below, labels)
    below.tick_params(axis="y", labelsize="medium")
    below.grid(visible=False)
    if strips:
        look = {"cmap": "Blues", "vmin": 0, "vmax": 2, "edgecolors": "face", "linewidth": 0.1}
        below.pcolormesh(edges, np.arange(len(strips) + 1) - 0.5, np.array(strips), **look)
    for y in range(1, len(groups)):
        below.axhline(y - 0.5, color="white", linewidth=4 if groups[y] != groups[y - 1] else 1)
    below.xaxis.set_major_formatter("{x:,.0f}")
    below.set(xlim=(-0.01 * len(rows), 1.01 * len(rows)))
    below.set_xlabel(f"{len(rows):,} specifications, sorted by excess; darker: more of them chose this")
    title = (
        f"{percent((rows['excess_log'] > 0).mean())} of {len(rows):,} ways to ask the question give a mean above that "
        f"of any day; all rest on the same few episodes"
    )
    low, middle, high = (signed(value, 2) for value in rows["excess_log"].quantile([0.05, 0.5, 0.95]))
    return finish(figure, title, f"Rising curve over strips of choices; median {middle}, nine in ten {low} to {high}.")


# Rule, anchor and way out of a strategy's name; one that is no rule's, as buy and hold, does not match.
_STRATEGY = re.compile(f"(.+)_({'|'.join(ANCHOR_COLOURS)})_(.+)")


def strategy_label(name: str) -> str:
    """A strategy as people read it, its rule left out: a figure mostly shows one.

    >>> strategy_label("hash_ribbons_recovery_hold_90d"), strategy_label("hash_ribbons_out_of_capitulation")
    ('recovery, hold 90 days', 'out of capitulation')
    """
    text = STAY_OUT if name.endswith(STAY_OUT) else _STRATEGY.sub(r"\2, \3", name).replace("buy, ", "buy signal, ")
    return re.sub(r"hold_(\d+)d$", r"hold \1 days", text).replace("_", " ")


def _colour(name: str) -> str:
    if name.endswith(STAY_OUT):
        return ANCHOR_COLOURS["in_state"]
    parts = _STRATEGY.fullmatch(name)
    return COLOURS["price"] if name == BUY_AND_HOLD else ANCHOR_COLOURS[parts[2]] if parts else COLOURS["baseline"]


def _end_labels(last: pd.Series) -> list[tuple[float, str, str]]:
    return [(value, strategy_label(name).replace(", ", ",\n"), _colour(name)) for name, value in last.items()]


@styled
def equity(curves: pd.DataFrame, primary: str) -> Figure:
    """Value of 1 invested (log scale, after costs); below, how far `primary` and buy and hold fell from their peaks.

    `curves`: index `date`, one column per strategy; four are named.
    """
    if curves.empty:
        return empty("No strategy can be traded: there is no price")
    tried = count(curves.shape[1] - (BUY_AND_HOLD in curves), "strategy", "strategies")
    trading = f"trading “{strategy_label(primary)}”, one of {tried} shown"
    last, ways = curves.iloc[-1], {primary: trading, BUY_AND_HOLD: "holding"}
    main = [name for name in ways if name in curves]
    named = [*main, *last.drop(main).nlargest(4 - len(main)).index]
    fall = curves[main[::-1]] / curves[main[::-1]].cummax() - 1
    figure, (upper, lower) = new_figure(2, 1, height=7.0, sharex=True, height_ratios=(2, 1))
    for name in [*curves.columns.drop(named), *reversed(named)]:
        colour = _colour(name) if name in named else tint(_colour(name), 0.45)
        upper.plot(curves[name], color=colour, linewidth=1.9 if name in main else 0.9, zorder=3 if name in main else 2)
    for name in fall:
        lower.fill_between(fall.index, fall[name], 0, color=tint(_colour(name), 0.22))
        lower.plot(fall[name], color=_colour(name), linewidth=1.1)
    style.date_axis(lower, curves.index[0], curves.index[-1])
    style.log_axis(upper, "value of 1 invested")
    lower.set_ylim(min(float(fall.min(axis=None)) * 1.06, -0.05), 0.02)
    style.percent_axis(lower, "below the running peak", sign=False)
    style.label_ends(upper, _end_labels(last[named]))
    style.label_ends(lower, _end_labels(fall.iloc[-1]))
    became = [
        f"{style.plain_number(last[name])} USD by {ways[name]} (at worst {percent(abs(fall[name].min()))} down)"
        for name in main
    ]
    deepest = " and ".join(f"{day(fall[name].idxmin())} ({strategy_label(name)})" for name in main)
    poorer = f"{(last < last.get(BUY_AND_HOLD, np.nan)).sum()} of them end below buy and hold"
    alt = f"{count(curves.shape[1], 'curve')}, log scale; {poorer}. Below, falls from the peak, deepest on {deepest}."
    return finish(figure, f"1 USD of {day(curves.index[0])} became {' and '.join(became)}", alt)


@styled
def rejection_rates(table: pd.DataFrame) -> Figure:
    """How often each test of `calibrate.trust_table` rejects where nothing is there; 0.8 % also stands for less."""
    names, least = ["stationary_rate", "realistic_rate"], 0.008
    rows = table.dropna(subset=names, how="all").reset_index(drop=True)
    if rows.empty:
        return empty(NOT_SIMULATED)
    figure, axes = style.new_rows([textwrap.fill(name, 36) for name in rows["label"]], each=0.46, other=1.5)
    axes.axvspan(*ACCEPTED, color=COLOURS["baseline_shade"], linewidth=0, zorder=0)
    axes.axvline(LEVEL, **AT_LEVEL)
    for world, colour, marker, shift in (("stationary", "baseline", "s", -0.17), ("realistic", "hash_rate", "o", 0.17)):
        rate, error = rows[f"{world}_rate"].clip(lower=least), 1.96 * rows[f"{world}_error"]
        axes.errorbar(rate, rows.index + shift, xerr=error, fmt=marker, color=COLOURS[colour], label=f"{world} market")
    right = min(2 * max(float(rows[names].max(axis=None)), ACCEPTED[1]), 1.1)
    axes.set(xscale="log", xlim=(least * 0.9, right))
    style.percent_axis(axes, f"share of markets rejected at {percent(LEVEL)} (log scale)", "x", sign=False)
    axes.set_xticks([tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if tick < right])
    axes.xaxis.set_minor_locator(NullLocator())
    figure.legend(ncols=2, loc="outside lower left")
    rate, (low, high) = rows["realistic_rate"].dropna(), (percent(end, 1) for end in ACCEPTED)
    outside = rows.loc[rate.index[~rate.between(*ACCEPTED)]]
    title = (
        f"The test at the top rejects {percent(rows['realistic_rate'].iloc[0], 1)} of realistic markets without any "
        f"effect, where {percent(LEVEL)} is right; {len(outside)} of {count(len(rate), 'row')} lie outside {low}–{high}"
    )
    off = "; ".join(f"{row.label} {percent(row.realistic_rate, 1)}" for row in outside.itertuples()) or "none"
    return finish(figure, title, f"Points with Monte-Carlo intervals; outside the band in realistic markets: {off}.")


@styled
def power(curve: pd.DataFrame, labels: Mapping[str, str], marks: Mapping[str, float] | None = None) -> Figure:
    """How often each test (`calibrate.stored_rates`) finds a planted effect, by its size, with Monte-Carlo bars.

    `labels`: the tests in words, the title tells of the first; `marks`: effects (log returns) to mark with a name.
    """
    rows = curve.dropna(subset=["rate"]).sort_values("effect_log", kind="stable")
    if rows.empty:
        return empty(NOT_SIMULATED)
    marks = {name: value for name, value in (marks or {}).items() if np.isfinite(value)}
    tests = sorted(rows["test"].unique(), key=list(labels).index)
    figure, axes = new_figure(height=4.8)
    for test, marker in zip(tests, cycle("osD^"), strict=False):
        own = rows[rows["test"] == test]
        null = own.loc[(own["effect_log"] == 0) & ~own["rate"].between(*ACCEPTED), "rate"]
        off = "".join(f" (off its level: {percent(rate, 1)} at no effect)" for rate in null)  # its curve flatters it
        look = {"marker": marker, "markersize": 4.5, "elinewidth": 1.2, "linewidth": 1.6}
        axes.errorbar(
            own["effect_log"], own["rate"], yerr=1.96 * own["error"], label=style.fitted(labels[test] + off), **look
        )
    axes.axhline(LEVEL, **AT_LEVEL)
    reach = [-0.02, rows["effect_log"].max(), *marks.values()]
    title = f"dashed: {percent(LEVEL)}, found by chance alone"
    axes.set(xlim=(min(reach), 1.03 * max(reach)), ylim=(0, 1.02), title=title)
    place = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points", "xytext": (4, 0)}
    for step, (name, value) in enumerate(marks.items()):
        axes.axvline(value, color=COLOURS["buy"], linewidth=1.3, linestyle=(0, (1, 2)))
        height = 0.95 - 0.08 * step if value < sum(axes.get_xlim()) / 2 else 0.12 + 0.08 * step  # off the curves
        name = textwrap.fill(name, 9) if style.is_narrow() else name
        axes.annotate(name, (value, height), va="center", color=style.text_colour(COLOURS["buy"]), **place)
    style.log_return_axis(axes, "planted effect over the horizon", "x")
    style.percent_axis(axes, "share of markets in which it is found", sign=False)
    figure.legend(loc="outside lower left")
    own = rows[rows["test"] == tests[0]]
    effect = next(iter(marks.values()), float(own["effect_log"].max()))
    found = float(np.interp(effect, own["effect_log"], own["rate"], left=np.nan, right=np.nan))
    says = "lies beyond the sizes whose power was measured"
    if np.isfinite(found):
        says = f"would be found in {percent(found)} of simulated histories"
    ends = " to ".join(percent(own["rate"].iloc[at]) for at in (0, -1))
    alt = f"Rising curves of power; {labels[tests[0]]} from {ends}."
    return finish(figure, f"An effect of {style.as_percent(effect)} {says}", alt)


@styled
def reliability(table: pd.DataFrame) -> Figure:
    """How often it happened by what had been said (`forecasts.reliability`), above how often that was said.

    `table`: of one kind and horizon or of several, each of which gets a panel of its own. A cross marks what lies off
    its interval.
    """
    kinds = list(table.groupby(["kind", "days"], sort=False))
    if not kinds:
        return empty("No odds have an outcome that is known")
    if style.is_narrow():  # one below the other
        ratios = (4, 1) * len(kinds)
        figure, stacked = new_figure(2 * len(kinds), height=1 + 3.6 * len(kinds), sharex=True, height_ratios=ratios)
        axes = np.array([stacked[::2], stacked[1::2]])
    else:
        options = {"sharex": True, "sharey": "row", "squeeze": False}
        figure, axes = new_figure(2, len(kinds), height=5.4, height_ratios=(4, 1), **options)
    look = {"color": COLOURS["hash_rate"], "edgecolors": "white", "linewidths": 0.8, "zorder": 3, "clip_on": False}
    times = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center"}
    told, alts = [], []
    for ((kind, days), rows), upper, lower in zip(kinds, *axes, strict=True):
        n, held = rows["n"].sum(), rows["said"].between(rows["ci_low"], rows["ci_high"])
        said, happened = (np.average(rows[column], weights=rows["n"]) for column in ("said", "happened"))
        upper.plot([0, 1], [0, 1], **AT_LEVEL, zorder=1)
        upper.vlines(rows["said"], rows["ci_low"], rows["ci_high"], color=COLOURS["baseline"], linewidth=1.3, zorder=2)
        for inside, marker in ((True, "o"), (False, "X")):
            own = rows[held == inside]
            upper.scatter(own["said"], own["happened"], 25 + 110 * np.sqrt(own["n"] / n), marker=marker, **look)
        name = f"{kind} within {days} days"
        upper.set_title(
            f"{name}\n{count(n, 'forecast')}: said {percent(said)}, happened {percent(happened)}", size="medium"
        )
        style.bars(lower, rows["low"] + 0.005, rows["n"] / n, 0.09, COLOURS["baseline_shade"])
        for row in rows.itertuples():
            lower.annotate(f"{row.n:,}", (row.low + 0.05, row.n / n), **times)
        style.percent_axis(lower, "said", "x", sign=False)
        halves = {"said at 50 % or more": rows[rows["low"] >= 0.5], "below": rows[rows["low"] < 0.5]}
        shares = [
            f"in {percent(np.average(own['happened'], weights=own['n']))} of {own['n'].sum():,} {words}"
            for words, own in halves.items()
            if len(own)
        ]
        told.append(f"{', '.join(shares)} ({name})")
        each = ", ".join(f"{percent(row.said)}: {percent(row.happened)} of {row.n}" for row in rows.itertuples())
        alts.append(f"{name}, said and happened, {each}; on the diagonal within {held.sum()} of {len(rows)}")
    lower.set(xlim=(-0.01, 1.01), xticks=np.linspace(0, 1, 6))
    top = 1.3 * max(axis.dataLim.y1 for axis in axes[1])
    for upper, lower in axes.T if style.is_narrow() else axes[:, :1].T:
        style.percent_axis(upper, "happened", sign=False)
        upper.set_ylim(-0.02, 1.02)
        lower.set(ylabel="times", yticks=[], ylim=(0, top))
    return finish(figure, f"It happened {'; '.join(told)}", f"{'. '.join(alts)} intervals.")
