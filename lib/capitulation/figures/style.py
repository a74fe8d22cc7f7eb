"""The look of all figures: colours by meaning, title and alt text of every chart, axes that name their unit.

Colours follow Okabe and Ito (2008), told apart by colour-blind readers; where two meet, shape or a direct label tells
them apart as well.
"""

import io
import textwrap
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg, get_hinting_flag
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.dates import DAILY, MONTHLY, YEARLY, AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullLocator
from PIL import Image

from capitulation.mining.rules import RULES
from capitulation.words import percent

ANCHOR_COLOURS = {"start": "#d55e00", "recovery": "#009e73", "buy": "#7d3c98", "in_state": "#7a5c3e"}
ANCHOR_MARKERS = {"start": "v", "recovery": "o", "buy": "^", "in_state": "s"}
GRADE_MARKERS = {"noise-like": "o", "doubtful": "d", "real": "D"}
COLOURS = ANCHOR_COLOURS | {
    "ink": "#1c1b19",
    "soft": "#5d5a54",
    "faint": "#e6e2da",
    "price": "#1c1b19",
    "hash_rate": "#0072b2",
    "fast": "#0072b2",
    "slow": "#e69f00",
    "capitulation": "#d55e00",
    "capitulation_shade": "#f8dccb",
    "baseline": "#8a8780",
    "baseline_shade": "#e3e0da",
    "noise": "#cfd6dc",
    "difficulty_up": "#a9bccb",
    "cost": "#b0417f",
    "hashprice": "#009e73",
}

# matplotlib's own defaults come first, so that a reader's matplotlibrc cannot change a report; the backend stays.
LEFT_ALONE = ("backend", "webagg", "interactive", "toolbar", "timezone")
RC = {
    **{key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith(LEFT_ALONE)},
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "axes.spines.left", "legend.frameon"), False),
    **dict.fromkeys(("axes.labelcolor", "xtick.color", "ytick.color"), "#3c3a36"),
    **dict.fromkeys(("ytick.major.size", "ytick.minor.size", "patch.linewidth"), 0),
    **dict.fromkeys(("ytick.left", "xtick.minor.visible", "ytick.minor.visible"), False),
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.subplot.left": 0.1,  # where a layout starts from: near where it ends
    "figure.subplot.right": 0.96,
    "figure.titleweight": "bold",
    "font.family": "DejaVu Sans",  # which matplotlib brings along
    "text.color": COLOURS["ink"],
    "axes.edgecolor": "#a8a39a",
    "axes.titlecolor": COLOURS["soft"],
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.titley": 1.0,  # right above the axes: nothing of ours stands there
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.xmargin": 0.01,
    "axes.prop_cycle": mpl.cycler(color=["#0072b2", "#e69f00", "#009e73", "#d55e00", "#b0417f", "#56b4e9", "#7a5c3e"]),
    "grid.color": COLOURS["faint"],
    "legend.handlelength": 1.2,
}


def _sizes(title: float, text: float, small: float) -> dict[str, float]:
    """Points of a figure's title, of its axes, and of the words within it."""
    axes = dict.fromkeys(("axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize"), text)
    return {"figure.titlesize": title, **axes, "legend.fontsize": small, "font.size": small}


WIDE, NARROW = 7.6, 3.6  # inches
WHITE = np.uint32(0xFFFFFFFF)
LOOKS = {
    WIDE: RC | _sizes(14, 11, 10),
    NARROW: RC
    | _sizes(11, 8.8, 8.6)
    | {"figure.constrained_layout.w_pad": 0.05, "lines.markersize": 4.5}
    | {"legend.handlelength": 0.9, "legend.handletextpad": 0.5, "legend.columnspacing": 1.0},
}
_width = ContextVar("width", default=WIDE)


def is_narrow() -> bool:
    """Whether what is drawn now is for the width of a telephone."""
    return _width.get() == NARROW


def _look(figure: Figure) -> dict[str, Any]:
    return LOOKS.get(figure.get_figwidth(), LOOKS[WIDE])


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator of a function that draws: in this style, and the caller's settings stay as they were.

    The figure's `narrow()` draws the same again, 3.6 inches wide.
    """

    @wraps(draw)
    def drawn(*given: Any, **options: Any) -> Figure:
        with mpl.rc_context(LOOKS[_width.get()]):
            figure = draw(*given, **options)
        figure.narrow = lambda: narrowly(*given, **options)
        return figure

    def narrowly(*given: Any, **options: Any) -> Figure:
        before = _width.set(NARROW)
        try:
            return drawn(*given, **options)
        finally:
            _width.reset(before)

    return drawn


class OnePass(ConstrainedLayoutEngine):
    """Constrained layout that measures what stands around axes once, not twice: it hardly depends on their size.

    For a plain grid of axes, with legends of the figure below it; any other is left to matplotlib.
    """

    def execute(self, fig: Figure) -> None:
        """Place the axes of `fig`, as large as what stands around them allows."""
        specs = {axes: axes.get_subplotspec() for axes in fig.axes if axes.get_in_layout()}
        plain = len(specs) == len(fig.axes) > 0 and all(specs.values()) and not fig.subfigs
        plain = plain and all(spec.num1 == spec.num2 and axes.get_aspect() == "auto" for axes, spec in specs.items())
        plain = plain and len({spec.get_gridspec() for spec in specs.values()}) == 1
        if plain and all(legend._outside_loc == "lower" for legend in fig.legends):
            self._place(fig, {axes: (spec.rowspan.start, spec.colspan.start) for axes, spec in specs.items()})
        else:
            super().execute(fig)

    def _place(self, fig: Figure, cells: Mapping[Axes, tuple[int, int]]) -> None:
        grid, (wide, high) = next(iter(cells)).get_gridspec(), fig.bbox.size
        pad_x, pad_y = (self.get()[name] * fig.dpi for name in ("w_pad", "h_pad"))
        left, right, above, below = np.zeros((4, max(grid.get_geometry())))  # pixels beside each column and row
        corner = {}
        for axes, (row, column) in cells.items():
            axes._set_position(axes.get_subplotspec().get_position(fig))  # every time from the same place
            for axis in (axes.xaxis, axes.yaxis):
                axis._autolabelpos = bool(axis.get_label_text())  # an empty label needs no place
            inner, outer = axes.bbox.frozen(), axes.get_tightbbox(for_layout_only=True)
            corner[axes] = inner
            left[column] = max(left[column], inner.x0 - outer.x0 + pad_x)
            right[column] = max(right[column], outer.x1 - inner.x1 + pad_x)
            above[row] = max(above[row], outer.y1 - inner.y1 + pad_y)
            below[row] = max(below[row], inner.y0 - outer.y0 + pad_y)
        top, bottom = high, 0.0
        if fig._suptitle:
            fig._suptitle.set_y(1 - pad_y / high)
            top -= fig._suptitle.get_window_extent().height + 2 * pad_y
        if fig._supxlabel:
            fig._supxlabel.set_y(pad_y / high)
        for words in filter(None, [fig._supxlabel, *fig.legends]):
            bottom = max(bottom, words.get_window_extent().height + 2 * pad_y)
        widths, heights = (np.array(ratios, float) for ratios in (grid.get_width_ratios(), grid.get_height_ratios()))
        widths *= (wide - (left + right).sum()) / widths.sum()
        heights *= (top - bottom - (above + below).sum()) / heights.sum()
        for axes, (row, column) in cells.items():
            x = left[: column + 1].sum() + right[:column].sum() + widths[:column].sum()
            y = top - above[: row + 1].sum() - below[:row].sum() - heights[: row + 1].sum()
            axes._set_position([x / wide, y / high, widths[column] / wide, heights[row] / high])
            for axis in (axes.xaxis, axes.yaxis):  # its label keeps its distance, and need not be measured again
                axis._autolabelpos, at = False, axis.label.get_position()
                side = {"left": "x0", "right": "x1", "bottom": "y0", "top": "y1"}[axis.get_label_position()]
                moved = getattr(axes.bbox, side) - getattr(corner[axes], side)
                axis.label.set_position((at[0] + moved, at[1]) if side[0] == "x" else (at[0], at[1] + moved))

    def release(self, fig: Figure) -> None:
        """Let labels find their place again, as those of a drawn figure whose resolution changes must."""
        for axes in fig.axes:
            axes.xaxis._autolabelpos = axes.yaxis._autolabelpos = True


def new_figure(rows: int = 1, columns: int = 1, height: float = 4.4, **options: Any) -> tuple[Figure, Any]:
    """An untracked figure, 7.6 inches wide (narrow: 3.6), with its axes, as `Figure.subplots` gives them."""
    figure = Figure(figsize=(_width.get(), height), layout=OnePass())
    return figure, figure.subplots(rows, columns, **options)


def _lines(text: str, most: float) -> str:
    """`text` in as few lines of at most `most` characters as it needs, about equally long, figures kept together."""
    unbroken = text.replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0").replace(" < ", "\u00a0<\u00a0")
    return "\n".join(_wrapped(line, range(int(most / 2), int(most) + 1)) for line in unbroken.split("\n"))


def _wrapped(text: str, widths: range) -> str:
    """`text` in as few lines as the widest of `widths` gives, at the narrowest that needs no more."""

    def lines(width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)

    fewest = len(lines(widths[-1]))
    return "\n".join(lines(widths[bisect_left(widths, True, key=lambda width: len(lines(width)) <= fewest)]))


def fitted(text: str) -> str:
    """`text` in lines that a narrow figure has room for."""
    return _lines(text, 44) if is_narrow() else text


def finish(figure: Figure, title: str, alt: str) -> Figure:
    """Set the title, wrapped to the figure's width, and the alt text, which opens with the title; return the figure."""
    look, inches = _look(figure), figure.get_figwidth()
    with mpl.rc_context(look):
        wrapped = _lines(title, 120 * inches / look["figure.titlesize"])
        figure.suptitle(wrapped, x=0.012, ha="left", linespacing=1.25)
    for axes in figure.axes if inches == NARROW else ():
        axes.set_title(_lines(axes.get_title("left"), 44), linespacing=1.3, color=axes._left_title.get_color())
        axes.set_xlabel(_lines(axes.get_xlabel(), 36), loc="right")
    figure.set_label(f"{title.rstrip('.')}. {alt}")
    about = {"width": round(96 * inches), "alt": figure.get_label()}
    figure._repr_png_ = lambda: (png_bytes(figure), about)  # shown as the last line of a cell, pyplot or not
    return figure


@styled
def empty(title: str) -> Figure:
    """A flat figure for what cannot be drawn, so that the page stays whole: `title` states what is missing."""
    figure, axes = new_figure(height=1.7)
    axes.set_axis_off()
    why = "Nothing to draw: no day has the data that this figure needs."
    axes.text(0.0, 0.5, fitted(why), transform=axes.transAxes, color=COLOURS["soft"], va="center")
    return finish(figure, title, why)


def text_colour(colour: str) -> str:
    """A darker shade of `colour`, legible as small text on white."""
    return to_hex([part * 0.72 for part in to_rgb(colour)])


def grade_look(grade: str, colour: str) -> dict[str, Any]:
    """A mark in `colour` whose shape and filling tell the grade: real full, doubtful pale, any other open."""
    filling = {"real": colour, "doubtful": tint(colour)}.get(grade, "white")
    return {"marker": GRADE_MARKERS.get(grade, "X"), "linestyle": "", "color": colour, "markerfacecolor": filling}


def tint(colour: str, share: float = 0.4) -> str:
    """`colour` mixed with white: `share` of it remains. Solid, since transparency costs palette colours."""
    return to_hex([1 - share * (1 - part) for part in to_rgb(colour)])


def plain_number(value: float) -> str:
    """A positive number in three digits.

    >>> [plain_number(v) for v in (1e-6, 0.05123, 5, 1499.6, 20_000, 151_234, 2e6)]
    ['1e-6', '0.0512', '5', '1,500', '20k', '151k', '2M']
    """
    value = float(f"{value:.3g}")
    if value < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    for least, size, letter in ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= least:
            return f"{value / size:g}{letter}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def as_percent(log_return: float) -> str:
    """A log return as people quote it: `+7 %`."""
    return percent(float(np.expm1(log_return)), 0, True)


def log_axis(axes: Axes, label: str, which: str = "y") -> None:
    """A logarithmic axis that says so, ticks as plain numbers, more of them on a short span; call after drawing."""
    axes.set(**{f"{which}scale": "log", f"{which}label": f"{label} (log scale)"})
    axis = getattr(axes, f"{which}axis")
    low, high = axis.get_view_interval()
    decades = np.log10(high / low) if low > 0 else 9
    steps = ((0.7, (1, 1.5, 2, 3, 5, 7)), (1.8, (1, 2, 5)), (3, (1, 3)))
    subs = next((subs for most, subs in steps if decades < most), (1,))
    axis.set_major_locator(LogLocator(base=10, subs=[float(sub) for sub in subs], numticks=12))
    axis.set_major_formatter(lambda value, _: plain_number(value))
    axis.set_minor_locator(NullLocator())


def percent_axis(axes: Axes, label: str, which: str = "y", sign: bool = True) -> None:
    """Fractions shown as percent, with a plus where `sign`."""

    def shown(value: float, _: object) -> str:
        return f"{'+' if sign and value > 1e-12 else ''}{round(100 * value, 6) + 0.0:g} %".replace("-", "−")

    axes.set(**{f"{which}label": label})
    getattr(axes, f"{which}axis").set_major_formatter(shown)


def log_return_axis(axes: Axes, label: str, which: str = "y") -> None:
    """Log returns on a linear axis, ticks at round simple returns: doubling and halving are equally far from zero."""
    axes.set(**{f"{which}label": label})
    axis = getattr(axes, f"{which}axis")
    low, high = sorted(axis.get_view_interval())
    apart = (high - low) * (0.07 if which == "y" else 0.26 if is_narrow() else 0.147)
    kept = [0.0]
    for tick in (-0.15, 0.2, -0.3, -0.5, 0.5, -0.65, -0.8, -0.9, -0.95, 1, 2, 4, 9, 19, 49, 99, 999):
        at = np.log1p(tick)
        if low <= at <= high and all(abs(at - np.log1p(other)) >= apart for other in kept):
            kept.append(tick)
    texts = [f"{tick:+,.0%}".replace("%", " %").replace("-", "−") if tick else "0 %" for tick in sorted(kept)]
    axis.set_ticks([float(np.log1p(tick)) for tick in sorted(kept)], texts)


def date_axis(axes: Axes, first: object, last: object, halvings: Iterable[object] = ()) -> None:
    """Days along x from `first` to `last`; a dotted line at each halving, which a legend would call so."""
    axes.set_xlim(pd.Timestamp(first), pd.Timestamp(last))
    ticks = (
        {"minticks": 3, "maxticks": {YEARLY: 6, MONTHLY: 7, DAILY: 7}}
        if is_narrow()
        else {"minticks": 4, "maxticks": 9}
    )
    locator = AutoDateLocator(**ticks)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    low, high = axes.get_xlim()
    within = [number for number in date2num(pd.DatetimeIndex(halvings)) if low < number < high]
    if within:
        look = {"color": COLOURS["baseline"], "linewidth": 1, "linestyle": (0, (1, 2)), "zorder": 1, "label": "halving"}
        axes.vlines(within, 0, 1, transform=axes.get_xaxis_transform(), **look)


def grid_along_x(axes: Axes, names: Sequence[str] = ()) -> None:
    """A horizontal chart: grid across values, which lie along x, none across `names`, a row each from the top."""
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    if names:
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)


def new_rows(names: Sequence[str], each: float, other: float = 1.7) -> tuple[Figure, Axes]:
    """A horizontal chart with a row `each` inches high per name, from the top, and `other` inches for the rest.

    The names stand to the left; in a narrow figure above what their row shows, which lies around the row's number.
    """
    if not is_narrow():
        figure, axes = new_figure(height=other + each * max(len(names), 2))
        grid_along_x(axes, names)
        return figure, axes
    wrapped = [textwrap.fill(name.replace("\n", " "), 50, break_on_hyphens=False) for name in names]
    lines = 1 + max(name.count("\n") for name in wrapped)
    each = 0.28 + 0.15 * lines
    figure, axes = new_figure(height=other + each * max(len(names), 2))
    grid_along_x(axes, [""] * len(names))
    above = 1 - 0.15 / each  # share of a row that lies above its number, mostly for the name
    axes.set_ylim(len(names) - above, -above)
    place = {"xycoords": axes.get_yaxis_transform(), "xytext": (2, -1), "textcoords": "offset points", "va": "top"}
    halo = [withStroke(linewidth=2.5, foreground="white")]  # legible across the grid
    for row, name in enumerate(wrapped):
        axes.annotate(name, (0, row - above), path_effects=halo, zorder=4, linespacing=1.1, **place)
    return figure, axes


def legend_above(axes: Axes, **options: Any) -> None:
    """Keys above the axes, in one line, or in as many columns as fit a narrow figure."""
    handles, names = axes.get_legend_handles_labels()
    columns = len(names)
    if is_narrow():
        room, per_key, per_letter = 72 * NARROW - 48, 24, 0.55 * mpl.rcParams["legend.fontsize"]  # points

        def width(columns: int) -> float:
            return sum(per_key + per_letter * max(map(len, some)) for some in np.array_split(names, columns))

        columns = max(1, *(n for n in range(1, len(names) + 1) if width(n) <= room))
    place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 1.0), "borderaxespad": 0.1, "columnspacing": 1.2}
    axes.legend(handles, names, ncols=columns, **place | options)


def rule_words(name: str) -> str:
    """A rule as people call it; a name that is not in the table of rules stays as it is."""
    return RULES[name].words if name in RULES else name


def rule_label(name: str) -> str:
    """The same for an axis, broken over two lines where it is long."""
    words = rule_words(name).replace("_", " ")
    half = -(-len(words) // 2)
    return _wrapped(words, range(half, max(half + 4, 19)))


def distinct(keys: Mapping[str, Hashable]) -> dict[str, str]:
    """Rules of equal key are one row, under the name of the first: that name, and the row's label on an axis.

    >>> distinct({"hash_ribbons": 1, "puell_multiple": 2, "my_twin": 1})
    {'hash_ribbons': 'Hash Ribbons =\\nmy twin', 'puell_multiple': 'Puell multiple'}
    """
    rows: dict[Hashable, list[str]] = {}
    for name, key in keys.items():
        rows.setdefault(key, []).append(name)
    return {
        row[0]: " =\n".join(rule_words(name).replace("_", " ") for name in row) if row[1:] else rule_label(row[0])
        for row in rows.values()
    }


def bars(axes: Axes, left: Any, height: Any, width: Any, colours: Any) -> None:
    """Bars from zero as one artist, where `Axes.bar` makes one of each bar; `left` and `width` in the axes' units."""
    left, height = np.asarray(left, float), np.asarray(height, float)
    x = np.stack([left, left, left + width, left + width], axis=1)
    y = np.stack([0 * height, height, height, 0 * height], axis=1)
    axes.add_collection(PolyCollection(np.stack([x, y], axis=2), facecolors=colours))


def shade_episodes(axes: Axes, episodes: pd.DataFrame, last: object, y: Any = None, **look: Any) -> None:
    """Shade episodes (columns `start`, `end`), ongoing ones to `last`, at full height or at `y`: lower edge, height.

    Those of which it is not known whether they go on (columns `ongoing`, `days`) end with their last known day.
    """
    ends = episodes["end"]
    if "ongoing" in episodes:
        lasted = episodes["start"] + pd.to_timedelta(episodes["days"], unit="D")
        ends = ends.fillna(lasted.where(episodes["ongoing"].isna()))
    start, end = date2num(episodes["start"]), date2num(ends.fillna(pd.Timestamp(last)))
    options = {"color": COLOURS["capitulation_shade"], "linewidth": 0.6, "zorder": 0, **look}
    if y is None:
        options["transform"] = axes.get_xaxis_transform()
    axes.broken_barh(np.column_stack([start, end - start]), y or (0, 1), **options)


def mark_present(axes: Axes, when: object, value: float, text: str, colour: str) -> None:
    """A dot at the last known value, with its text beside it; nothing where the value is missing."""
    axes.plot([pd.Timestamp(when)], [value], "o", color=colour, markersize=5.5, zorder=6, clip_on=False)
    label_ends(axes, [(value, text, colour)])


def label_ends(axes: Axes, labels: Iterable[tuple[float, str, str]], gap: float = 12.0) -> None:
    """Once the limits are set, names at the right end of lines: (value, text, colour), `gap` points apart at least."""
    known = sorted((label for label in labels if np.isfinite(label[0])), reverse=bool(axes.yaxis_inverted()))
    wanted = axes.transData.transform([(0, value) for value, _, _ in known] or np.empty((0, 2)))[:, 1]
    wanted *= 72 / axes.figure.dpi
    apart = gap * (1 + 0.9 * max((text.count("\n") for _, text, _ in known), default=0)) * np.arange(len(known))
    pushed_up = np.maximum.accumulate(wanted - apart)
    pushed_down = np.minimum.accumulate((wanted - apart)[::-1])[::-1]
    placed = (pushed_up + pushed_down) / 2 + apart
    look = {"xycoords": axes.get_yaxis_transform(), "annotation_clip": False, "va": "center"}
    for (value, text, colour), moved in zip(known, placed - wanted, strict=True):
        place = {"xytext": (7, moved), "textcoords": "offset points"}
        axes.annotate(text, (1.0, value), color=text_colour(colour), **place, **look)


def name_points(axes: Axes, names: Iterable[tuple[float, float, str]], marks: Iterable[tuple[float, float]]) -> None:
    """Once the limits are set, names (x, y, text) beside their points, the first ones first.

    Each stands right, left, above or below, where it covers no other name and none of `marks` nor the stems on which
    they stand; else it is left out.
    """

    def in_points(x: float, y: float) -> np.ndarray:
        return axes.transData.transform((x, y)) * 72 / axes.figure.dpi

    size = mpl.rcParams["font.size"]
    inside, taken = axes.bbox.extents * 72 / axes.figure.dpi, []
    for x, y in marks:
        at, foot = in_points(x, y), in_points(x, 0)
        taken.append((at[0] - 5, at[1] - 5, at[0] + 5, at[1] + 5))
        taken.append((at[0] - 1, min(at[1], foot[1]), at[0] + 1, max(at[1], foot[1])))
    for at, value, text in names:
        (x, y), wide = in_points(at, value), 0.6 * size * len(text)
        for left, low in ((x + 8, y - 5), (x - 8 - wide, y - 5), (x - wide / 2, y + 7), (x - wide / 2, y - 7 - size)):
            box = (left, low, left + wide, low + size)
            free = (box[2] < other[0] or other[2] < box[0] or box[3] < other[1] or other[3] < box[1] for other in taken)
            if box[0] > inside[0] and box[2] < inside[2] and all(free):
                taken.append(box)
                place = {"xytext": (left - x, low - y), "textcoords": "offset points", "va": "bottom"}
                halo = [withStroke(linewidth=2, foreground="white")]  # legible across lines
                axes.annotate(text, (at, value), zorder=4, path_effects=halo, **place)
                break


def watermark(figure: Figure) -> Figure:
    """Write SIMULATED across the figure, once however often it is called; returns the figure."""
    if all(text.get_gid() != "watermark" for text in figure.texts):
        wide, high = figure.get_size_inches()
        place = {"ha": "center", "va": "center", "rotation": 24, "rotation_mode": "anchor", "zorder": 1000}
        look = {"fontsize": min(9.5 * wide, 16 * high), "color": "#7a1f4f", "alpha": 0.16, "weight": "bold"}
        figure.text(0.5, 0.46, "SIMULATED", gid="watermark", family="DejaVu Sans", **place, **look)
    return figure


class _Renderer(RendererAgg):
    """Sets a level line of words once, to measure and to draw it, where matplotlib draws letter by letter."""

    def __init__(self, *size: float) -> None:
        super().__init__(*size)
        self.lines: dict[Any, tuple[Any, ...]] = {}  # by words and font: size, picture, left, low

    def _line(self, words: str, prop: Any) -> tuple[Any, ...]:
        if (words, prop) not in self.lines:
            font = self._prepare_font(prop)
            font.set_text(words, 0, flags=get_hinting_flag())
            size, below = [part / 64 for part in font.get_width_height()], font.get_descent() / 64
            font.draw_glyphs_to_bitmap()
            left, low = (part / 64 for part in font.get_bitmap_offset())
            self.lines[words, prop] = (*size, below), font.get_image(), left, low + below + 1
        return self.lines[words, prop]

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> tuple[float, float, float]:
        return super().get_text_width_height_descent(s, prop, ismath) if ismath else self._line(s, prop)[0]

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float, *more: Any, **options: Any
    ) -> Any:
        if angle or any(more) or options.get("ismath"):
            return super().draw_text(gc, x, y, s, prop, angle, *more, **options)
        _, picture, left, low = self._line(s, prop)
        return self._renderer.draw_text_image(picture, round(x + left), round(y + low), 0, gc)


class _Canvas(FigureCanvasAgg):
    """A canvas of one size, with one renderer."""

    def __init__(self, figure: Figure) -> None:
        super().__init__(figure)
        self.renderer = _Renderer(*figure.bbox.size, figure.dpi)

    def get_renderer(self) -> RendererAgg:
        return self.renderer


def png_bytes(figure: Figure) -> bytes:
    """`figure` as a PNG at 192 dpi, twice the CSS resolution, whose bytes depend on nothing but the figure.

    It has 80 palette colours at most, so as not to weigh down the page.
    """
    canvas, dpi = figure.canvas, figure.dpi
    with mpl.rc_context(_look(figure)):
        figure.set_dpi(192)
        drawn = _Canvas(figure)
        drawn.draw()  # `savefig` would draw twice, once for the layout alone
        drawing = np.asarray(drawn.buffer_rgba())
    if isinstance(layout := figure.get_layout_engine(), OnePass):
        layout.release(figure)
    figure.set_dpi(dpi)
    figure.set_canvas(canvas)
    # Most pixels are white, the others of a few thousand colours: the palette is chosen from these alone. Maximum
    # coverage keeps the colours of small marks, which median cut merges away; each entry of the palette is then set to
    # the mean of its pixels, so that white stays white.
    pixels = drawing.view("u4").ravel()
    most, ink = 80, np.flatnonzero(pixels != WHITE)
    colour, every = pd.factorize(np.append(pixels[ink], WHITE))
    count, known = np.bincount(colour), every.view("u1").reshape(-1, 4)[:, :3]
    count[colour[-1]] = len(pixels) - len(ink)
    nearest = Image.fromarray(known[None]).quantize(most, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    entry = np.asarray(nearest)[0]
    weight = np.maximum(np.bincount(entry, count, most), 1)
    means = [np.bincount(entry, count * channel, most) / weight for channel in known.T]
    indices = np.full(len(pixels), entry[colour[-1]])
    indices[ink] = entry[colour[:-1]]
    picture, out = Image.fromarray(indices.reshape(drawing.shape[:2]), "P"), io.BytesIO()
    picture.putpalette(np.rint(means).T.astype("u1").tobytes())
    picture.save(out, format="PNG", compress_level=5)  # level 9 takes ten times as long for 15 % fewer bytes
    return out.getvalue()


def warm_up() -> None:
    """Draw once what the first figure of a process pays for, so that processes forked from this one need not."""
    figure, axes = new_figure(height=1)
    days = pd.date_range("2020", periods=3)
    axes.plot(days, [1, 10, 100], label="line")
    date_axis(axes, days[0], days[-1])
    log_axis(axes, "log")
    legend_above(axes)
    png_bytes(finish(figure, "Title", "Words."))
