"""Figures of rigs: the power price that each can pay, and the share of recent models that cannot pay this run's.

Frames as from `mining.economics` and `mining.fleet`; where a source has no revenue the chart says so. `halvings`: days
as from `mining.protocol.halving_days`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import TYPE_CHECKING

import pandas as pd

from capitulation.mining.fleet import SERVICE_YEARS
from capitulation.plots.axes import date_axis, day, label_ends, log_axis, mark_halvings, mark_present, percent_axis
from capitulation.plots.chart import Chart
from capitulation.plots.empty import empty
from capitulation.plots.style import COLOURS, SERIES_COLOURS, finish, new_figure, styled, text_colour, tint
from capitulation.words import count, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST_MODELS = 4
BREAKEVEN_SPAN = (0.2, 30.0)
ROOM_FOR_NAME = 1.3
SMOOTH_DAYS = 7
MAKERS_NAMES = ("Antminer ", "Whatsminer ", "AvalonMiner ", "Avalon ")
Days = Iterable[object]


@styled
def breakeven(breakeven: pd.DataFrame, power_price: float, halvings: Days = ()) -> Chart:
    """Power price (USD/kWh) at which rigs just pay for their power, log scale, beside this run's power price.

    `breakeven` as from `mining.economics.breakeven_usd_kwh` (days × rigs). Shown is the most efficient rig of each year
    that brought progress, mean of seven days, over the five years for which the modelled fleet keeps it.
    """
    known = breakeven.dropna(how="all", axis=0).dropna(how="all", axis=1)
    if known.empty:
        return empty("Breakeven power prices are not known: no day has both revenue of miners and a rig on sale")
    figure, axes = new_figure(height=4.8)
    names = _progress(known)
    axes.axhline(power_price, color=COLOURS["capitulation"], linewidth=1.4, linestyle=(0, (4, 2)), zorder=4)
    date_axis(axes, known.index[0], known.index[-1])
    axes.set_ylim(*(times * power_price for times in BREAKEVEN_SPAN))
    log_axis(axes, "breakeven power price, USD/kWh")
    mark_halvings(axes, halvings)
    ends = _draw_rigs(axes, _in_service(known[names], SERVICE_YEARS))
    label_ends(axes, [*ends, (power_price, f"{power_price:g} assumed", COLOURS["capitulation"])])
    axes.set_title("the best rig of each year, for five years from its release")
    return finish(figure, _breakeven_title(known, power_price), _breakeven_alt(known, power_price))


def _progress(known: pd.DataFrame) -> list[str]:
    """The most efficient rig of each year of release that beat all before it, oldest first.

    On one day the breakeven of rigs differs by their efficiency alone, so the last day ranks them.
    """
    last, first = known.ffill().iloc[-1], known.apply(pd.Series.first_valid_index)
    rows = pd.DataFrame({"breakeven": last, "year": pd.DatetimeIndex(first).year, "first": first})
    best = rows.sort_values("breakeven").drop_duplicates("year", keep="last").sort_values("first")
    return list(best.index[best["breakeven"] > best["breakeven"].cummax().shift(fill_value=0.0)])


def _in_service(known: pd.DataFrame, years: int) -> pd.DataFrame:
    """Means of seven days, each rig from its first day on for `years` years."""
    smooth = known.rolling(SMOOTH_DAYS, min_periods=1).mean().where(known.notna())
    first = known.apply(pd.Series.first_valid_index)
    return smooth.apply(lambda line: line[: first[line.name] + pd.DateOffset(years=years)])


def _draw_rigs(axes: Axes, lines: pd.DataFrame) -> list[tuple[float, str, str]]:
    """Draw and name the rigs; those still in service are returned, to be named at the right end."""
    low, high = axes.get_ylim()
    ends = []
    for name, colour in zip(lines, cycle(SERIES_COLOURS), strict=False):
        line = lines[name].dropna()
        axes.plot(line.index, line, color=colour, linewidth=1.4, zorder=3)
        seen = line[(line > low) & (line < high / ROOM_FOR_NAME)]
        if line.index[-1] == lines.index[-1] and len(seen) and seen.index[-1] == line.index[-1]:
            ends.append((float(line.iloc[-1]), _short(name), colour))
        elif len(seen):
            _name_line(axes, line, seen, bool(lines.loc[seen.idxmax()].max() == seen.max()), colour)
    return ends


def _name_line(axes: Axes, line: pd.Series, seen: pd.Series, on_top: bool, colour: str) -> None:
    """Name a line above its peak where nothing is above that, else left of its start; right of where it enters."""
    from matplotlib.patheffects import withStroke

    place = {"xytext": (-3, 0), "ha": "right", "va": "center"}
    at = seen.index[0]
    if at > line.index[0]:
        place = {"xytext": (9, 0), "ha": "left", "va": "center"}
    elif on_top:
        at, place = seen.idxmax(), {"xytext": (0, 3), "ha": "center", "va": "bottom"}
    halo = {"path_effects": [withStroke(linewidth=3, foreground="white")], "zorder": 5, "fontsize": 10.5}
    words = {"textcoords": "offset points", "color": text_colour(colour), **place, **halo}
    axes.annotate(_short(str(line.name)), (at, seen[at]), **words)


def _short(model: str) -> str:
    """The name of a rig without its maker's."""
    for prefix in MAKERS_NAMES:
        model = model.removeprefix(prefix)
    return model


def _breakeven_title(known: pd.DataFrame, power_price: float) -> str:
    last = known.iloc[-1].dropna()
    return (
        f"{int((last >= power_price).sum())} of {count(len(last), 'rig model')} still earn their power at "
        f"{power_price:g}\u00a0USD/kWh; the best one does up to {last.max():.3f}"
    )


def _breakeven_alt(known: pd.DataFrame, power_price: float) -> str:
    last = known.iloc[-1].dropna().sort_values(ascending=False)
    best = "; ".join(f"{name} {value:.3f}" for name, value in last.head(4).items())
    return (
        f"One line per year's best rig on a log scale, all moving with hashprice, from {day(known.index[0])} to "
        f"{day(known.index[-1])}, with a dashed line at {power_price:g} USD/kWh. Highest on the last day: {best}."
    )


@styled
def share_under_water(modelled: pd.DataFrame, power_price: float, halvings: Days = ()) -> Chart:
    """Share of recent rig models that lose money at `power_price` (USD/kWh), pale while few models are known.

    `modelled` as from `mining.fleet.fleet` (index `date`; share_under_water, n_recent).
    """
    known = modelled.dropna(subset=["share_under_water"])
    if known.empty:
        return empty("The share under water is not known: no day has both revenue of miners and a recent rig model")
    share, few = known["share_under_water"], known["n_recent"].to_numpy() < FEWEST_MODELS
    figure, axes = new_figure(height=4.0)
    for chosen, colour in ((few, tint(COLOURS["capitulation"], 0.25)), (~few, tint(COLOURS["capitulation"], 0.7))):
        axes.fill_between(known.index, share, 0, where=chosen, color=colour, linewidth=0, step="mid")
    date_axis(axes, known.index[0], known.index[-1])
    axes.set_ylim(0, 1.0)
    percent_axis(axes, "share of recent models", sign=False)
    mark_halvings(axes, halvings)
    mark_present(axes, known.index[-1], share.iloc[-1], percent(share.iloc[-1]), COLOURS["capitulation"])
    if few.any():
        axes.set_title(f"pale: fewer than {FEWEST_MODELS} models are known, so the share says little")
    n = int(known["n_recent"].iloc[-1])
    title = (
        f"{round(share.iloc[-1] * n)} of {count(n, 'recent rig model')} lose money at {power_price:g}\u00a0USD/kWh, "
        f"a larger share than on {percent((share < share.iloc[-1]).mean())} of all days"
    )
    solid = share[~few]
    most = f"; highest {percent(solid.max())}, first on {day(solid.idxmax())}" if len(solid) else ""
    alt = f"Area from {day(known.index[0])} to {day(known.index[-1])}, median {percent(share.median())}{most}."
    return finish(figure, title, alt)
