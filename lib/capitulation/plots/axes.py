"""Parts of figures: axes that name their unit, shaded episodes, halvings, the present, labels beside their lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.plots.style import COLOURS, text_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RETURN_TICKS = (-0.95, -0.9, -0.8, -0.65, -0.5, -0.3, -0.15, 0, 0.2, 0.5, 1, 2, 4, 9, 19, 49, 99, 999)
LABEL_GAP_POINTS = 13.0
MIN_TICK_DISTANCE = 0.07


def by_date(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with its days as index, whether they come as a column `date` or as the index."""
    return frame.set_index("date") if "date" in frame.columns else frame


def of_definition(episodes: pd.DataFrame, definition: str) -> pd.DataFrame:
    """The episodes of one definition, where the frame names definitions; else all of them."""
    return episodes[episodes["definition"] == definition] if "definition" in episodes.columns else episodes


def day(value: object) -> str:
    """A day as ISO text."""
    return pd.Timestamp(value).strftime("%Y-%m-%d")


def plain_number(value: float) -> str:
    """A number for an axis: 0.001, 5, 10,000, 100k, 2M.

    >>> [plain_number(v) for v in (0.05, 5, 20_000, 150_000, 2e6)]
    ['0.05', '5', '20k', '150k', '2M']
    """
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 1 and float(value).is_integer() else f"{value:g}"


def log_axis(axes: Axes, label: str, which: str = "y") -> None:
    """A logarithmic axis that says so; ticks as plain numbers, at 1, 2, 5 where the span is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = axes.yaxis if which == "y" else axes.xaxis
    getattr(axes, f"set_{which}scale")("log")
    low, high = axis.get_view_interval()
    decades = np.log10(high / low) if low > 0 else 9
    subs = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.8 else (1.0, 2.0, 5.0)
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if decades < 0.7 else subs
    axis.set_major_locator(LogLocator(base=10, subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(float(f"{value:.6g}")).replace("-", "−")))
    axis.set_minor_formatter(NullFormatter())
    getattr(axes, f"set_{which}label")(f"{label} (log scale)")


def percent_axis(axes: Axes, label: str, which: str = "y", sign: bool = True, digits: int = 0) -> None:
    """Fractions shown as percent."""
    from matplotlib.ticker import FuncFormatter

    axis = axes.yaxis if which == "y" else axes.xaxis

    def shown(value: float, _: object) -> str:
        plus = "+" if sign and value > 1e-12 else ""
        return f"{plus}{100 * value:.{digits}f} %".replace("-", "−")

    axis.set_major_formatter(FuncFormatter(shown))
    getattr(axes, f"set_{which}label")(label)


def log_return_axis(axes: Axes, label: str, which: str = "y") -> None:
    """Log returns on a linear axis, ticks at round simple returns: doubling and halving are equally far from zero."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    low, high = sorted(axis.get_view_interval())
    apart = MIN_TICK_DISTANCE * (high - low) * (1.0 if which == "y" else 2.1)
    kept: list[float] = [0.0]
    for tick in sorted(RETURN_TICKS, key=abs):
        at = np.log1p(tick)
        if low <= at <= high and all(abs(at - np.log1p(other)) >= apart for other in kept):
            kept.append(tick)
    axis.set_ticks([float(np.log1p(tick)) for tick in sorted(set(kept))])
    axis.set_ticklabels([_percent_tick(tick) for tick in sorted(set(kept))])
    getattr(axes, f"set_{which}label")(label)


def _percent_tick(tick: float) -> str:
    return "0 %" if tick == 0 else f"{tick:+,.0%}".replace("%", " %").replace("-", "−")


def date_axis(axes: Axes, first: object, last: object, room: float = 0.0) -> None:
    """Days along x from `first` to `last`, with a share of the width left free at the right for labels."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    start, end = pd.Timestamp(first), pd.Timestamp(last)
    axes.set_xlim(start, end + (end - start) * room)
    locator = AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))


def shade_episodes(axes: Axes, episodes: pd.DataFrame, last: object, **look: object) -> None:
    """Shade each episode from its start to its end, an ongoing one to `last`."""
    options = {"color": COLOURS["capitulation_shade"], "linewidth": 0.6, "zorder": 0, **look}
    for start, end in zip(episodes["start"], episodes["end"], strict=True):
        axes.axvspan(start, pd.Timestamp(last) if pd.isna(end) else end, **options)


HALVING_LABELS = {
    "top": (0.985, {"rotation": 90, "ha": "right", "va": "top"}),
    "bottom": (0.015, {"rotation": 90, "ha": "right", "va": "bottom"}),
    "above": (1.0, {"rotation": 0, "ha": "center", "va": "bottom"}),
}


def mark_halvings(axes: Axes, halvings: Iterable[object], at: str = "top") -> None:
    """A dotted line at each halving inside the axes, named at its `at` end: "top", "bottom" or "above" the axes."""
    from matplotlib.dates import date2num

    low, high = axes.get_xlim()
    y, align = HALVING_LABELS[at]
    words = {"color": COLOURS["soft"], "fontsize": 9, **align}
    place = {"xycoords": axes.get_xaxis_transform(), "xytext": (0, 2) if at == "above" else (-1, 0)}
    for number in (float(date2num(pd.Timestamp(value))) for value in halvings):
        if low < number < high:
            axes.axvline(number, color=COLOURS["halving"], linewidth=1, linestyle=(0, (1, 2)), zorder=1)
            axes.annotate("halving", (number, y), textcoords="offset points", **place, **words)


def mark_present(axes: Axes, when: object, value: float, text: str = "", colour: str = COLOURS["present"]) -> None:
    """A dot at the last known value, with its text beside it."""
    if not np.isfinite(value):
        return
    axes.plot([pd.Timestamp(when)], [value], "o", color=colour, markersize=5.5, zorder=6, clip_on=False)
    if text:
        label_ends(axes, [(value, text, colour)])


def _to_points(axes: Axes, values: Sequence[float]) -> np.ndarray:
    """Vertical positions in points, given the height that the axes have now (layout may still move them a little)."""
    pixels = axes.transData.transform([(0, value) for value in values])[:, 1]
    return pixels * 72 / axes.figure.dpi


def _spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Positions in ascending order at least `gap` apart, each cluster centred on what it wanted."""
    placed = wanted.astype(float).copy()
    for _ in range(60):
        short = gap - np.diff(placed)
        if (short <= 1e-6).all():
            break
        for i in np.flatnonzero(short > 1e-6):
            push = (gap - (placed[i + 1] - placed[i])) / 2
            if push > 0:
                placed[i], placed[i + 1] = placed[i] - push, placed[i + 1] + push
    return placed


def label_ends(
    axes: Axes, labels: Iterable[tuple[float, str, str]], x: float = 1.0, gap: float = LABEL_GAP_POINTS
) -> None:
    """Names at the right end of their lines, (value, text, colour) each, moved apart where they would overlap.

    `x` is a fraction of the axes' width. Call after the limits are set.
    """
    known = [item for item in labels if np.isfinite(item[0])]
    if not known:
        return
    heights = _to_points(axes, [item[0] for item in known])
    known = [known[i] for i in np.argsort(heights, kind="stable")]
    wanted = _to_points(axes, [item[0] for item in known])
    tall = gap * (1 + max(item[1].count("\n") for item in known) * 0.9)
    for (value, text, colour), at, want in zip(known, _spread(wanted, tall), wanted, strict=True):
        axes.annotate(text, (x, value), xycoords=axes.get_yaxis_transform(), xytext=(7, at - want),
                      textcoords="offset points", color=text_colour(colour), va="center", ha="left",
                      fontsize=10.5, annotation_clip=False)  # fmt: skip
