"""The present: the gap now, how long such episodes last, and what followed comparable moments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from capitulation.plots.axes import by_date, date_axis, day, label_ends, log_return_axis, mark_present, percent_axis
from capitulation.plots.chart import Chart
from capitulation.plots.empty import empty
from capitulation.plots.style import COLOURS, finish, new_figure, styled, text_colour
from capitulation.words import count, percent, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAND_SE = 2.0
RECENT_YEARS = 2.0
SURVIVAL_DAYS = 60
ROOM = 0.05
ROUNDING = 1e-9
DAYS_PER_YEAR = 365.25


@styled
def gap_now(ribbon: pd.DataFrame, years: float = RECENT_YEARS) -> Chart:
    """The gap of the last years with ±2 standard errors of block luck, days below zero filled, the present marked.

    `ribbon` as from `mining.ribbons.ribbons` (index `date`; ribbon_gap, ribbon_gap_se).
    """
    known = by_date(ribbon).dropna(subset=["ribbon_gap"])
    if known.empty:
        return empty("The gap is not known: the windows of its means are not full")
    shown = known[known.index > known.index[-1] - pd.Timedelta(days=round(years * DAYS_PER_YEAR))]
    gap, noise = shown["ribbon_gap"], BAND_SE * shown["ribbon_gap_se"]
    figure, axes = new_figure(height=3.8)
    axes.fill_between(shown.index, -noise, noise, color=COLOURS["noise"], linewidth=0)
    axes.fill_between(shown.index, gap, 0, where=gap < 0, color=COLOURS["capitulation"], alpha=0.35, linewidth=0)
    axes.plot(shown.index, gap, color=COLOURS["hash_rate"], linewidth=1.4)
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    date_axis(axes, shown.index[0], shown.index[-1])
    percent_axis(axes, "fast mean over slow mean, minus 1")
    axes.set_title("grey: two standard errors of block luck; filled: capitulation")
    mark_present(axes, gap.index[-1], gap.iloc[-1], percent(gap.iloc[-1], 1, sign=True), COLOURS["hash_rate"])
    z = gap.iloc[-1] / shown["ribbon_gap_se"].iloc[-1]
    within = "within" if abs(z) <= BAND_SE else "outside"
    title = f"The gap is {percent(gap.iloc[-1], 1, sign=True)} on {day(gap.index[-1])}, {within} the band of block luck"
    alt = (
        f"Line of the gap from {day(gap.index[0])} to {day(gap.index[-1])}, lowest {percent(gap.min(), 1)} on "
        f"{day(gap.idxmin())}; the last value lies {signed(z, 1)} standard errors from zero."
    )
    return finish(figure, title, alt)


@styled
def survival(curve: pd.DataFrame, state: Mapping[str, Any]) -> Chart:
    """Kaplan-Meier curve of episode length with its band; the age of a present capitulation marked.

    `curve` as from `study.survival.survival_curve`; `state`: state.json (`ribbon_state`, `days_in_state`).
    """
    if not curve["n_at_risk"].iloc[0]:
        return empty("There is no capitulation whose length could be measured")
    figure, axes = new_figure(height=3.8)
    line = {"step": "post", "color": COLOURS["capitulation"], "linewidth": 0}
    axes.fill_between(curve["days"], curve["low"], curve["high"], alpha=0.18, **line)
    axes.step(curve["days"], curve["survival"], where="post", color=COLOURS["capitulation"])
    age = state["days_in_state"] if state["ribbon_state"] in ("capitulation", "recovering") else None
    axes.set_xlim(0, max(float(curve["days"].max()), age or 0, 1.0) * 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("days since the start of the episode")
    percent_axis(axes, "still in capitulation", sign=False)
    if age:
        _mark_age(axes, age)
    return finish(figure, _survival_title(curve), _survival_alt(curve, age))


def _mark_age(axes: Axes, age: int) -> None:
    """A dashed line at the age of the present episode, its label on the side that has room."""
    axes.axvline(age, color=COLOURS["present"], linewidth=1.2, linestyle=(0, (3, 2)))
    late = age > sum(axes.get_xlim()) / 2
    words = {"fontsize": 10.5, "ha": "right" if late else "left", "va": "top", "color": COLOURS["ink"]}
    axes.annotate(f"now: day {age} " if late else f" now: day {age}", (age, 1.0), **words)


def _median_length(curve: pd.DataFrame) -> float:
    """First day by which half of the episodes have ended; missing if fewer have."""
    ended = curve.loc[curve["survival"] <= 0.5 + ROUNDING, "days"]
    return float(ended.iloc[0]) if len(ended) else np.nan


def _survival_title(curve: pd.DataFrame) -> str:
    n, median = int(curve["n_at_risk"].iloc[0]), _median_length(curve)
    if not np.isfinite(median):
        return f"Fewer than half of {count(n, 'capitulation')} have ended"
    return f"Half of {count(n, 'capitulation')} were over after {median:.0f} days"


def _survival_alt(curve: pd.DataFrame, age: int | None) -> str:
    after = curve[curve["days"] <= SURVIVAL_DAYS].iloc[-1]
    present = f" A dashed line marks the present one, day {age}." if age else ""
    return (
        f"Falling step curve of the share of episodes that still go on, day 0 to day {curve['days'].max():.0f}; after "
        f"{SURVIVAL_DAYS} days {percent(after['survival'])} go on (95 % interval {percent(after['low'])} to "
        f"{percent(after['high'])}).{present}"
    )


@styled
def comparable_fan(state: Mapping[str, Any]) -> Chart:
    """Log returns after comparable moments by horizon: extremes, middle half and median beside any day's median.

    `state`: state.json with `comparable` (age_days, log_returns: horizon_days, n, worst, q25, median, q75, best,
    base_median).
    """
    rows = pd.DataFrame(state["comparable"]["log_returns"])
    if rows.empty or rows["n"].max() == 0:
        return empty("No earlier moment of known outcome is comparable to the present one")
    known = rows[rows["n"] > 0].astype(float)
    figure, axes = new_figure(height=4.0)
    place = np.arange(len(known))
    look = {"color": COLOURS["recovery"], "linewidth": 0}
    axes.bar(place, known["best"] - known["worst"], 0.5, bottom=known["worst"], alpha=0.18, **look)
    axes.bar(place, known["q75"] - known["q25"], 0.5, bottom=known["q25"], alpha=0.45, **look)
    axes.hlines(known["median"], place - 0.25, place + 0.25, color=text_colour(COLOURS["recovery"]), linewidth=2.5)
    axes.plot(place, known["base_median"], "D", color=COLOURS["baseline"], markersize=6)
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    labels = [f"{h:.0f} days\nn = {n:.0f}" for h, n in zip(known["horizon_days"], known["n"], strict=True)]
    axes.set_xticks(place, labels)
    room = ROOM * (known["best"].max() - known["worst"].min())
    axes.set_ylim(min(known["worst"].min(), 0) - room, max(known["best"].max(), 0) + room)
    log_return_axis(axes, "return of BTC")
    axes.set_title("light: all cases; dark: middle half; line: median; diamond: median of any day")
    longest = known.iloc[-1]
    label_ends(axes, [(longest["base_median"], "any day", COLOURS["baseline"])])
    return finish(figure, _fan_title(known, state), _fan_alt(known))


def _fan_title(known: pd.DataFrame, state: Mapping[str, Any]) -> str:
    above = int((known["median"] > known["base_median"]).sum())
    what = "expansion" if state["ribbon_state"] == "expansion" else "capitulation"
    return (
        f"After {count(int(known['n'].max()), 'earlier moment')} like this (day {state['comparable']['age_days']} of "
        f"{what}), the median return was above any day's at {above} of {count(len(known), 'horizon')}"
    )


def _fan_alt(known: pd.DataFrame) -> str:
    parts = [
        f"{row.horizon_days:.0f} days: median {percent(np.expm1(row.median), sign=True)}, from "
        f"{percent(np.expm1(row.worst), sign=True)} to {percent(np.expm1(row.best), sign=True)}"
        for row in known[["horizon_days", "worst", "median", "best"]].itertuples(index=False)
    ]
    return f"Bars of returns by horizon. {'; '.join(parts)}."
