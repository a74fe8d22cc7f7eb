"""Charts of choices and of trust: other windows, every specification, strategies; claims and the tests' own record."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from capitulation.figures import style
from capitulation.figures.style import ANCHOR_COLOURS, COLOURS, as_percent, empty, finish, new_figure, styled, tint
from capitulation.mining.rules import RULES
from capitulation.study.trading import RandomEntries
from capitulation.words import count, day, percent, signed

BUY_AND_HOLD = "buy_and_hold"


@styled
def window_grid(grid: pd.DataFrame, *, fast_days: int = 30, slow_days: int = 60, days: int = 90) -> Figure:
    """Excess log return for every pair of a fast and a slow mean as a heat map; one pair is framed.

    `grid`: as from `robustness.window_grid`: fast_days, slow_days, excess_log.
    """
    known = grid.dropna(subset=["excess_log"])
    if known.empty:
        return empty("No pair of means has an event whose outcome is known")
    table = grid.pivot_table("excess_log", index="slow_days", columns="fast_days", dropna=False).astype(float)
    limit = max(float(np.nanquantile(table.abs(), 0.98)), 1e-9)
    figure, axes = new_figure(height=4.8)
    axes.grid(visible=False)
    look = {"cmap": style.colour_map(style.DIVERGING), "vmin": -limit, "vmax": limit, "shading": "nearest"}
    mesh = axes.pcolormesh(table.columns.to_numpy(float), table.index.to_numpy(float), table, **look)
    axes.set(xlabel="fast mean, days", ylabel="slow mean, days")
    pair = fast_days, slow_days
    axes.plot(*pair, "s", markersize=11, markerfacecolor="none", markeredgewidth=1.8, color=COLOURS["ink"])
    axes.annotate("{}/{}".format(*pair), pair, xytext=(9, 7), textcoords="offset points", weight="bold", fontsize=10)
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    bar.set_label(f"excess log return, {days} days")
    excess = known["excess_log"]
    own = excess[(known["fast_days"] == fast_days) & (known["slow_days"] == slow_days)]
    title = f"{percent((excess > 0).mean())} of {len(known):,} pairs of means have an excess above zero"
    if len(own):
        title += f"; {fast_days}/{slow_days} beats {percent((excess < own.iloc[0]).mean())} of them"
    return finish(figure, title, f"Heat map of excess from {signed(excess.min(), 2)} to {signed(excess.max(), 2)}.")


@styled
def specification_curve(specifications: pd.DataFrame) -> Figure:
    """Excess log return of every specification in rising order, above strips of what each one chose.

    `specifications`: as from `robustness.specification_curve`; a choice that never varies is left out. A strip shows
    how often a choice is made along the curve against its overall share (dark: twice or more).
    """
    rows = specifications.dropna(subset=["excess_log"]).sort_values("excess_log", kind="stable").reset_index(drop=True)
    if rows.empty:
        return empty("No specification has an event whose outcome is known")
    choices = []
    for column in ("definition", "anchor", "horizon_days", "sample_start", "lag_days"):
        values = list(dict.fromkeys(rows[column])) if column in rows else []
        ordered = [name for name in (*RULES, *ANCHOR_COLOURS) if name in values] or sorted(values)
        choices += [(column, value) for value in ordered if len(ordered) > 1]
    height = 0.165 * max(len(choices), 2)
    figure, (top, below) = new_figure(2, 1, height=3.4 + height, sharex=True, height_ratios=[2.4, height])
    level = 0.05
    small = rows["p_rotation"] < level
    for chosen, colour in ((~small, "#a39e93"), (small, COLOURS["recovery"])):
        top.plot(rows.loc[chosen, "excess_log"], ".", color=colour, markersize=2.5)
    top.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    top.set_ylabel("excess log return")
    top.tick_params(axis="x", length=0)
    top.set_title(f"green: rotation p below {level:g}", color=style.text_colour(COLOURS["recovery"]))
    below.grid(visible=False)
    edges = np.linspace(-0.5, len(rows) - 0.5, 61)
    in_bin = np.maximum(np.histogram(rows.index, edges)[0], 1)
    strips, labels = [], []
    for column, value in choices:
        made = (rows[column] == value).to_numpy()
        strips.append(np.histogram(rows.index[made], edges)[0] / in_bin / made.mean())
        said = {"horizon_days": f"days held {value}", "lag_days": f"lag, days {value}"}
        said |= {"sample_start": f"sample from {str(value)[:4]}"}
        labels.append(said.get(column, style.rule_words(str(value)).replace("_", " ")))
    if strips:
        look = {
            "cmap": style.colour_map(style.SEQUENTIAL),
            "vmin": 0,
            "vmax": 2,
            "edgecolors": "face",
            "linewidth": 0.1,
        }
        below.pcolormesh(edges, np.arange(len(choices) + 1) - 0.5, np.array(strips), **look)
    for y in range(1, len(choices)):
        below.axhline(y - 0.5, color="white", linewidth=4 if choices[y][0] != choices[y - 1][0] else 1)
    below.set_yticks(range(len(choices)), labels, fontsize=8.5)
    below.xaxis.set_major_formatter("{x:,.0f}")
    below.set(ylim=(len(choices) - 0.5, -0.5), xlim=(-0.01 * len(rows), 1.01 * len(rows)))
    below.set_xlabel(f"{len(rows):,} specifications, sorted by excess; darker: more of them chose this")
    title = (
        f"{percent((rows['excess_log'] > 0).mean())} of {len(rows):,} ways to ask the question give a mean above that "
        f"of any day, {percent(small.mean())} with a rotation p below {level:g}"
    )
    low, middle, high = (signed(value, 2) for value in rows["excess_log"].quantile([0.05, 0.5, 0.95]))
    return finish(figure, title, f"Rising curve over strips of choices; median {middle}, nine in ten {low} to {high}.")


def _parts(name: str) -> re.Match[str] | None:
    """Rule, anchor and way out of a strategy's name; None for one that is no rule's, as buy and hold."""
    return re.fullmatch(f"({'|'.join(RULES)})_({'|'.join(ANCHOR_COLOURS)})_(.+)", name)


def strategy_label(name: str) -> str:
    """A strategy as people read it, its rule left out: a figure mostly shows one.

    >>> strategy_label("hash_ribbons_recovery_hold_90d"), strategy_label("buy_and_hold")
    ('recovery, hold 90 days', 'buy and hold')
    """
    parts = _parts(name)
    text = f"{parts[2]}, {parts[3]}" if parts else name
    return re.sub(r"hold_(\d+)d$", r"hold \1 days", text).replace("_", " ")


def _colour(name: str) -> str:
    parts = _parts(name)
    return COLOURS["price"] if name == BUY_AND_HOLD else ANCHOR_COLOURS[parts[2]] if parts else COLOURS["baseline"]


def _money(value: float) -> str:
    return f"{value:,.{2 if value < 10 else 0}f} USD"


def _end_labels(last: pd.Series) -> list[tuple[float, str, str]]:
    return [(value, strategy_label(name).replace(", ", ",\n"), _colour(name)) for name, value in last.items()]


@styled
def equity(curves: pd.DataFrame, primary: str) -> Figure:
    """Value of 1 invested, log scale, after costs. `curves`: index `date`, one column per strategy; four are named."""
    if curves.empty:
        return empty("No strategy can be traded: there is no price")
    last = curves.iloc[-1]
    first = [name for name in (primary, BUY_AND_HOLD) if name in curves]
    named = [*first, *last.drop(first).sort_values(ascending=False).index[: 4 - len(first)]]
    figure, axes = new_figure(height=4.8)
    for name in [*(name for name in curves if name not in named), *reversed(named)]:
        strong = name in (primary, BUY_AND_HOLD)
        colour = _colour(name) if name in named else tint(_colour(name), 0.45)
        axes.plot(curves[name], color=colour, linewidth=1.9 if strong else 0.9, zorder=3 if strong else 2)
    style.date_axis(axes, curves.index[0], curves.index[-1])
    style.log_axis(axes, "value of 1 invested")
    style.label_ends(axes, _end_labels(last[named]))
    hold = last.get(BUY_AND_HOLD, np.nan)
    title = f"1 USD of {day(curves.index[0])} became {_money(last[primary])} by trading “{strategy_label(primary)}”"
    title += f", {_money(hold)} by holding" if np.isfinite(hold) else ""
    poorer = (last < hold).sum()
    alt = f"{count(curves.shape[1], 'curve')} on a log scale; {poorer} of them end below buy and hold."
    return finish(figure, title, alt)


@styled
def drawdown(curves: pd.DataFrame, primary: str) -> Figure:
    """Fall of the primary strategy and of buy and hold from their running peaks. `curves` as for `equity`."""
    if curves.empty:
        return empty("No strategy can be traded: there is no price")
    fall = (curves / curves.cummax() - 1)[[name for name in (BUY_AND_HOLD, primary) if name in curves]]
    figure, axes = new_figure(height=3.9)
    for name in fall:
        axes.fill_between(fall.index, fall[name], 0, color=tint(_colour(name), 0.22))
        axes.plot(fall[name], color=_colour(name), linewidth=1.1)
    style.date_axis(axes, fall.index[0], fall.index[-1])
    axes.set_ylim(min(float(fall.min(axis=None)) * 1.06, -0.05), 0.02)
    style.percent_axis(axes, "below the running peak", sign=False)
    style.label_ends(axes, _end_labels(fall.iloc[-1]))
    deepest = fall.min()
    title = (
        f"Trading “{strategy_label(primary)}” fell {percent(-deepest[primary])} from its peak at worst, holding "
        f"{percent(-deepest.get(BUY_AND_HOLD, np.nan))}"
    )
    told = " and ".join(f"{day(fall[name].idxmin())} ({strategy_label(name)})" for name in fall)
    return finish(figure, title, f"Areas below zero since {fall.index[0].year}, deepest on {told}.")


@styled
def random_entries(benchmarks: Mapping[str, RandomEntries]) -> Figure:
    """Total log return of random entry sets, one ridge per strategy, the strategy itself marked.

    `benchmarks`: strategy name to `trading.random_entries`; those never or always in the market are left out.
    """
    kept = {name: found for name, found in benchmarks.items() if len(found.random)}
    order = sorted(kept, key=lambda name: kept[name].share_beaten, reverse=True)
    if not order:
        return empty("No strategy leaves room for random entries")
    figure, axes = new_figure(height=1.5 + 0.62 * max(len(order), 2))
    style.grid_along_x(axes)
    axes.axvline(0, color=COLOURS["ink"], linewidth=0.8)
    for at, name in enumerate(order):
        found, colour = kept[name], _colour(name)
        heights, edges = np.histogram(found.random, bins=50)
        ridge = np.append(at - 0.82 * heights / max(heights.max(), 1), at)
        axes.fill_between(edges, at, ridge, step="post", color=COLOURS["baseline_shade"])
        axes.axhline(at, color=COLOURS["faint"], linewidth=0.8, zorder=0)
        axes.plot([found.observed] * 2, [at, at - 0.82], color=colour, linewidth=2.4)
        words = {"color": style.text_colour(colour), "fontsize": 10, "fontweight": "bold", "va": "center"}
        axes.annotate(f"  {percent(found.share_beaten)}", (found.observed, at - 0.55), **words)
    axes.set_yticks(range(len(order)), [strategy_label(name) for name in order])
    axes.set_ylim(len(order) - 0.75, -1.0)
    style.log_return_axis(axes, "total return over the sample, before costs (log scale)", "x")
    axes.set_title("grey: random entries with the same stays; mark: the strategy")
    told = [f"{strategy_label(name)} {percent(kept[name].share_beaten)}" for name in order]
    title = (
        f"The best of {count(len(order), 'strategy', 'strategies')}, “{strategy_label(order[0])}”, beats "
        f"{percent(kept[order[0]].share_beaten)} of random entries with the same exposure"
    )
    return finish(figure, title, f"Ridges of random returns; share beaten by each strategy: {'; '.join(told)}.")


@styled
def claims_verdicts(ledger: pd.DataFrame) -> Figure:
    """Every claim a cell with its number, a row per publisher, coloured and sorted by verdict.

    `ledger`: id, source, verdict; the publisher is what `source` says before its first comma.
    """
    if ledger.empty:
        return empty("The ledger holds no published claim")
    publisher = ledger["source"].astype(str).str.split(",").str[0].str.strip()
    rank = ledger["verdict"].map(list(style.VERDICT_COLOURS).index)
    rows = ledger.assign(publisher=publisher, rank=rank).sort_values("rank", kind="stable")
    groups = sorted(rows.groupby("publisher", sort=False), key=lambda group: -len(group[1]))
    figure, axes = new_figure(height=1.6 + 0.42 * len(groups))
    for y, (_, claims) in enumerate(groups):
        for x, (number, verdict) in enumerate(zip(claims["id"], claims["verdict"], strict=True)):
            axes.barh(y, 0.94, 0.8, left=x, color=style.VERDICT_COLOURS[verdict])
            colour = "white" if verdict in ("reproduced", "contradicted") else COLOURS["ink"]
            axes.text(x + 0.47, y, str(number), ha="center", va="center", fontsize=10, color=colour)
    axes.set_yticks(range(len(groups)), [textwrap.fill(name, 30) for name, _ in groups])
    axes.set(ylim=(len(groups) - 0.5, -0.5), xticks=[])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    score = ledger["verdict"].value_counts()
    keys = [Patch(color=colour, label=f"{v} ({score[v]})") for v, colour in style.VERDICT_COLOURS.items() if v in score]
    figure.legend(handles=keys, ncols=2, loc="outside lower left")  # above the axes the longest would not fit
    title = (
        f"{score.get('reproduced', 0)} of {count(len(ledger), 'published claim')} are reproduced, "
        f"{score.get('contradicted', 0)} contradicted"
    )
    told = ", ".join(f"{name} {len(claims)}" for name, claims in groups)
    return finish(figure, title, f"Rows of numbered claims, coloured by verdict: {told}.")


@styled
def rejection_rates(table: pd.DataFrame, level: float = 0.05, accepted: tuple[float, float] = (0.035, 0.065)) -> Figure:
    """How often each test rejects at `level` where nothing is there, in both null worlds, beside the accepted band.

    `table` as from `calibrate.trust_table`: label, and rate and error with the world's name before them. Rates below
    0.8 % stand at the left edge.
    """
    names, least = ["stationary_rate", "realistic_rate"], 0.008
    rows = table.dropna(subset=names, how="all").reset_index(drop=True)
    if rows.empty:
        return empty("No market has been simulated: run make calibrate")
    figure, axes = new_figure(height=1.5 + 0.46 * len(rows))
    style.grid_along_x(axes)
    axes.axvspan(*accepted, color=COLOURS["baseline_shade"], linewidth=0, zorder=0)
    axes.axvline(level, color=COLOURS["soft"], linewidth=1, linestyle=(0, (3, 2)))
    for world, colour, marker, shift in (("stationary", "baseline", "s", -0.17), ("realistic", "hash_rate", "o", 0.17)):
        rate, error = rows[f"{world}_rate"].clip(lower=least), 1.96 * rows[f"{world}_error"]
        axes.errorbar(rate, rows.index + shift, xerr=error, fmt=marker, color=COLOURS[colour], label=f"{world} market")
    right = min(2 * max(float(rows[names].max(axis=None)), accepted[1]), 1.1)
    axes.set(xscale="log", xlim=(least * 0.9, right))
    style.percent_axis(axes, f"share of markets rejected at {percent(level)} (log scale)", "x", sign=False)
    axes.set_xticks([tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if tick < right])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(rows.index, [textwrap.fill(name, 36) for name in rows["label"]], fontsize=10)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    figure.legend(*axes.get_legend_handles_labels(), ncols=2, loc="outside lower left")
    rate = rows["realistic_rate"]
    kept, worst = rate.between(*accepted), rows.loc[rate.idxmax()]
    title = (
        f"{int(kept.sum())} of {count(int(rate.notna().sum()), 'test')} keep their {percent(level)} level in realistic "
        f"markets; “{worst['label']}” rejects {percent(worst['realistic_rate'])} of them"
    )
    off = "; ".join(f"{row.label} {percent(row.realistic_rate, 1)}" for row in rows[~kept].itertuples()) or "none"
    return finish(figure, title, f"Points with Monte-Carlo intervals; outside the band in realistic markets: {off}.")


@styled
def power(
    curve: pd.DataFrame,
    labels: Mapping[str, str],
    marks: Mapping[str, float] | None = None,
    level: float = 0.05,
    accepted: tuple[float, float] = (0.035, 0.065),
) -> Figure:
    """How often each test finds a planted effect, by its size, with Monte-Carlo bars.

    `curve` as from `calibrate.power_curve`: test, effect_log (log return over the horizon), rate, error; `labels`: the
    tests in words, the first one in it counts in the title. `marks`: effects (log returns) to mark with a name.
    """
    rows = curve.dropna(subset=["rate"]).sort_values("effect_log", kind="stable")
    if rows.empty:
        return empty("No market has been simulated: run make calibrate")
    marks = {name: value for name, value in (marks or {}).items() if np.isfinite(value)}
    tests = sorted(rows["test"].unique(), key=list(labels).index)
    figure, axes = new_figure(height=4.8)
    for test, colour in zip(tests, style.SERIES_COLOURS, strict=False):
        own = rows[rows["test"] == test]
        null = own.loc[(own["effect_log"] == 0) & ~own["rate"].between(*accepted), "rate"]
        off = "".join(f" (off its level: {percent(rate, 1)} at no effect)" for rate in null)  # its curve flatters it
        look = {"color": colour, "marker": "o", "markersize": 4.5, "elinewidth": 1.2, "linewidth": 1.6}
        axes.errorbar(own["effect_log"], own["rate"], yerr=1.96 * own["error"], label=labels[test] + off, **look)
    axes.axhline(level, color=COLOURS["soft"], linewidth=1, linestyle=(0, (3, 2)))
    reach = [-0.02, rows["effect_log"].max(), *marks.values()]
    axes.set(xlim=(min(reach), 1.03 * max(reach)), ylim=(0, 1.02))
    place = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points", "xytext": (4, 0), "fontsize": 10}
    for step, (name, value) in enumerate(sorted(marks.items(), key=lambda item: item[1])):
        axes.axvline(value, color=COLOURS["buy"], linewidth=1.3, linestyle=(0, (1, 2)))
        height = 0.95 - 0.08 * step if value < sum(axes.get_xlim()) / 2 else 0.12 + 0.08 * step  # off the curves
        axes.annotate(name, (value, height), va="center", color=style.text_colour(COLOURS["buy"]), **place)
    style.log_return_axis(axes, "planted effect over the horizon", "x")
    style.percent_axis(axes, "share of markets in which it is found", sign=False)
    axes.set_title(f"dashed: {percent(level)}, found by chance alone")
    figure.legend(*axes.get_legend_handles_labels(), ncols=1, loc="outside lower left")
    own = rows[rows["test"] == tests[0]]
    effect = next(iter(marks.values()), float(own["effect_log"].max()))
    found = float(np.interp(effect, own["effect_log"], own["rate"], left=np.nan, right=np.nan))
    title = f"An effect of {as_percent(effect)} lies beyond the sizes whose power was measured"
    if np.isfinite(found):
        title = f"An effect of {as_percent(effect)} would be found in {percent(found)} of samples as short as ours"
    first, last = percent(own["rate"].iloc[0]), percent(own["rate"].iloc[-1])
    return finish(figure, title, f"Rising curves of power; {labels[tests[0]]} from {first} to {last}.")
