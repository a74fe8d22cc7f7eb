"""What trading the signals would have earned: equity, drawdown, and the strategies beside random entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from capitulation.plots.axes import by_date, date_axis, day, label_ends, log_axis, log_return_axis, percent_axis
from capitulation.plots.chart import Chart
from capitulation.plots.style import (
    ANCHOR_COLOURS,
    COLOURS,
    drop_left_grid,
    finish,
    new_figure,
    styled,
    text_colour,
    tint,
)
from capitulation.words import DEFINITION_WORDS, count, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BUY_AND_HOLD = "buy_and_hold"
LABELLED_CURVES = 4
HISTOGRAM_BINS = 50
RIDGE_HEIGHT = 0.82
GOOD_DEFLATED = 0.95


class Benchmark(Protocol):
    """What `random_entries` reads of a strategy and its random twins: total log returns before costs."""

    observed: float
    random: np.ndarray
    share_beaten: float


def strategy_label(name: str) -> str:
    """A strategy as people read it: definition left out, since one figure shows one definition.

    >>> strategy_label("hash_ribbons_recovery_hold_90d"), strategy_label("buy_and_hold")
    ('recovery, hold 90 days', 'buy and hold')
    """
    anchor, way_out = _parts(name)
    return f"{anchor.replace('_', ' ')}, {way_out}" if anchor else name.replace("_", " ")


def _full_label(name: str) -> str:
    """The same with its definition in front, for figures that show several."""
    definition = next((words for key, words in DEFINITION_WORDS.items() if name.startswith(f"{key}_")), "")
    return f"{definition}:\n{strategy_label(name)}" if definition else strategy_label(name)


def _parts(name: str) -> tuple[str, str]:
    """Anchor and way out of a strategy's name; empty for buy and hold."""
    for definition in sorted(DEFINITION_WORDS, key=len, reverse=True):
        for anchor in ANCHOR_COLOURS:
            if name.startswith(f"{definition}_{anchor}_"):
                way_out = name.removeprefix(f"{definition}_{anchor}_").replace("_", " ")
                return anchor, f"{way_out[:-1]} days" if way_out.startswith("hold ") else way_out
    return "", ""


def _colour(name: str) -> str:
    """Buy and hold in the colour of the price, a strategy in that of its anchor."""
    if name == BUY_AND_HOLD:
        return COLOURS["price"]
    return ANCHOR_COLOURS.get(_parts(name)[0], COLOURS["baseline"])


def _named(curves: pd.DataFrame, primary: str) -> list[str]:
    """Curves with a label: buy and hold, the primary one, and the best of the others."""
    rest = curves.iloc[-1].drop([BUY_AND_HOLD, primary], errors="ignore").sort_values(ascending=False)
    first = [name for name in (primary, BUY_AND_HOLD) if name in curves.columns]
    return [*first, *rest.index[: max(LABELLED_CURVES - len(first), 0)]]


def _draw_curves(axes: Axes, curves: pd.DataFrame, primary: str, named: list[str]) -> None:
    for name in [*[c for c in curves if c not in named], *reversed(named)]:
        strong = name in (primary, BUY_AND_HOLD)
        colour = _colour(name) if name in named else tint(_colour(name), 0.45)
        axes.plot(curves.index, curves[name], color=colour, linewidth=1.9 if strong else 0.9, zorder=3 if strong else 2)
    date_axis(axes, curves.index[0], curves.index[-1])


@styled
def equity(curves: pd.DataFrame, primary: str) -> Chart:
    """Value of 1 invested, log scale, after costs. `curves`: index `date`, one column per strategy."""
    shown = by_date(curves)
    figure, axes = new_figure(height=4.8)
    named = _named(shown, primary)
    _draw_curves(axes, shown, primary, named)
    log_axis(axes, "value of 1 invested")
    label_ends(axes, [(shown[name].iloc[-1], _broken(strategy_label(name)), _colour(name)) for name in named])
    last = shown.iloc[-1]
    below = int((last.drop(BUY_AND_HOLD, errors="ignore") < last.get(BUY_AND_HOLD, np.nan)).sum())
    title = (
        f"1 USD of {day(shown.index[0])} became {_money(last[primary])} by trading “{strategy_label(primary)}”, "
        f"{_money(last.get(BUY_AND_HOLD, np.nan))} by holding"
    )
    alt = (
        f"Equity on a log scale to {day(shown.index[-1])} for {count(shown.shape[1], 'strategy', 'strategies')}; "
        f"{below} of them end below buy and hold. Ends: "
        + "; ".join(f"{strategy_label(name)} {_money(last[name])}" for name in named)
        + "."
    )
    return finish(figure, title, alt)


def _broken(label: str) -> str:
    return label.replace(", ", ",\n")


def _money(value: float) -> str:
    return f"{value:,.2f} USD" if value < 10 else f"{value:,.0f} USD"


@styled
def drawdown(curves: pd.DataFrame, primary: str) -> Chart:
    """Fall of the primary strategy and of buy and hold from their running peaks. `curves` as for `equity`."""
    shown = by_date(curves)
    fall = shown / shown.cummax() - 1
    names = [name for name in (BUY_AND_HOLD, primary) if name in fall]
    figure, axes = new_figure(height=3.9)
    for name in names:
        axes.fill_between(fall.index, fall[name], 0, color=tint(_colour(name), 0.22), linewidth=0)
        axes.plot(fall.index, fall[name], color=_colour(name), linewidth=1.1)
    date_axis(axes, fall.index[0], fall.index[-1])
    axes.set_ylim(min(float(fall[names].min().min()) * 1.06, -0.05), 0.02)
    percent_axis(axes, "below the running peak", sign=False)
    label_ends(axes, [(fall[name].iloc[-1], _broken(strategy_label(name)), _colour(name)) for name in names])
    deepest = fall.min()
    title = (
        f"Trading “{strategy_label(primary)}” fell {percent(-deepest[primary])} from its peak at worst, holding "
        f"{percent(-deepest.get(BUY_AND_HOLD, np.nan))}"
    )
    alt = (
        f"Two areas below zero from {day(fall.index[0])} to {day(fall.index[-1])}; deepest points on "
        + " and ".join(f"{day(fall[name].idxmin())} ({strategy_label(name)})" for name in names)
        + "."
    )
    return finish(figure, title, alt)


@styled
def random_entries(benchmarks: Mapping[str, Benchmark]) -> Chart:
    """Total log return of random entry sets, one ridge per strategy, the strategy itself marked.

    `benchmarks`: strategy name to what `study.random_entries.random_entry_benchmark` returns; strategies without
    random sets (never or always in the market) are left out.
    """
    kept = {name: found for name, found in benchmarks.items() if len(found.random)}
    order = sorted(kept, key=lambda name: kept[name].share_beaten, reverse=True)
    figure, axes = new_figure(height=1.5 + 0.62 * max(len(order), 2))
    drop_left_grid(axes)
    axes.axvline(0, color=COLOURS["ink"], linewidth=0.8)
    for at, name in enumerate(order):
        _ridge(axes, at, kept[name], _colour(name))
    axes.set_yticks(range(len(order)), [strategy_label(name) for name in order])
    axes.set_ylim(len(order) - 0.75, -1.0)
    log_return_axis(axes, "total return over the sample, before costs (log scale)", "x")
    axes.set_title("grey: random entries with the same stays; mark: the strategy")
    beaten = {name: kept[name].share_beaten for name in order}
    best = order[0] if order else ""
    title = (
        f"The best of {count(len(order), 'strategy', 'strategies')}, “{strategy_label(best)}”, beats "
        f"{percent(beaten[best])} of random entries with the same exposure"
        if order
        else "No strategy leaves room for random entries"
    )
    alt = "Ridges of random total returns with a mark for each strategy; share of random sets beaten: " + (
        "; ".join(f"{strategy_label(name)} {percent(share)}" for name, share in beaten.items()) + "."
    )
    return finish(figure, title, alt)


def _ridge(axes: Axes, at: int, found: Benchmark, colour: str) -> None:
    heights, edges = np.histogram(found.random, bins=HISTOGRAM_BINS)
    top = at - RIDGE_HEIGHT * heights / max(heights.max(), 1)
    axes.fill_between(edges, at, np.append(top, at), step="post", color=COLOURS["baseline_shade"], linewidth=0)
    axes.axhline(at, color=COLOURS["faint"], linewidth=0.8, zorder=0)
    axes.plot([found.observed] * 2, [at, at - RIDGE_HEIGHT], color=colour, linewidth=2.4)
    words = {"color": text_colour(colour), "fontsize": 10, "fontweight": "bold", "va": "center"}
    axes.annotate(
        percent(found.share_beaten), (found.observed, at - 0.55), xytext=(5, 0), textcoords="offset points", **words
    )


@styled
def deflated_sharpe(table: pd.DataFrame) -> Chart:
    """Sharpe ratio of every strategy against the probability that it is more than the best of many lucky trials.

    `table`: the contract's backtest table (strategy, sharpe, deflated_sharpe; `anchor` for the colour).
    """
    rows = table.dropna(subset=["sharpe", "deflated_sharpe"])
    figure, axes = new_figure(height=4.4)
    for row in rows.itertuples():
        hold = row.strategy == BUY_AND_HOLD
        colour = COLOURS["price"] if hold else ANCHOR_COLOURS.get(getattr(row, "anchor", ""), COLOURS["baseline"])
        axes.plot(row.sharpe, row.deflated_sharpe, "D" if hold else "o", color=colour, markersize=8 if hold else 5.5,
                  alpha=1 if hold else 0.75, markeredgecolor="white", markeredgewidth=0.5)  # fmt: skip
    axes.axhline(GOOD_DEFLATED, color=COLOURS["soft"], linewidth=1, linestyle=(0, (3, 2)))
    axes.set_ylim(-0.03, 1.05)
    axes.set(xlabel="Sharpe ratio, annualised, no risk-free rate", ylabel="deflated Sharpe probability")
    _name_points(axes, rows)
    above = int((rows["deflated_sharpe"] > GOOD_DEFLATED).sum())
    title = (
        f"{above} of {count(len(rows), 'strategy', 'strategies')} {'has' if above == 1 else 'have'} a deflated Sharpe "
        f"probability above {GOOD_DEFLATED:g}, once all trials are counted"
    )
    return finish(figure, title, _deflated_alt(rows))


def _name_points(axes: Axes, rows: pd.DataFrame) -> None:
    """Names of buy and hold and of the best strategy, and a key to the colours."""
    from matplotlib.lines import Line2D

    named = [*rows.index[rows["strategy"] == BUY_AND_HOLD], *rows.index[rows["deflated_sharpe"].argsort()][-1:]]
    for row in rows.loc[list(dict.fromkeys(named))].itertuples():
        right = row.sharpe > rows["sharpe"].median()
        place = {"xytext": (-8 if right else 8, 3), "textcoords": "offset points", "ha": "right" if right else "left"}
        axes.annotate(_full_label(row.strategy), (row.sharpe, row.deflated_sharpe), va="bottom", fontsize=10, **place)
    if "anchor" in rows:
        used = [anchor for anchor in ANCHOR_COLOURS if (rows["anchor"] == anchor).any()]
        keys = [Line2D([], [], marker="o", ls="", color=ANCHOR_COLOURS[a], label=a.replace("_", " ")) for a in used]
        axes.legend(handles=keys, loc="lower left", bbox_to_anchor=(-0.01, 0.99), ncols=4, borderaxespad=0.1)


def _deflated_alt(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "No points."
    best = rows.loc[rows["deflated_sharpe"].idxmax()]
    hold = rows[rows["strategy"] == BUY_AND_HOLD]
    beside = (
        f"; buy and hold has {hold['sharpe'].iloc[0]:.2f} and {hold['deflated_sharpe'].iloc[0]:.2f}"
        if len(hold)
        else ""
    )
    return (
        "Points of Sharpe ratio against deflated Sharpe probability; the highest is "
        f"{best['strategy'].replace('_', ' ')} with a Sharpe ratio of {best['sharpe']:.2f} and a probability of "
        f"{best['deflated_sharpe']:.2f}{beside}."
    )
