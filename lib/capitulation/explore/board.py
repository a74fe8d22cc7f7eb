"""The picture behind the sliders: its artists are made once and then only moved, so that a redraw stays quick."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.explore.result import Exploration
from capitulation.plots.axes import date_axis, log_return_axis, percent_axis
from capitulation.plots.style import ANCHOR_COLOURS, ANCHOR_MARKERS, COLOURS, use_style, watermark
from capitulation.words import p_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BOARD_INCHES = (10.0, 6.2)
BOARD_DPI = 96
SHOWN_STEP_DAYS = 3
BINS = 44
BAND_SE = 2.0
CLIPPED = (0.002, 0.998)
FOOT = 0.04


class Board:
    """Three panels: the gap with its episodes, the returns of events over those of any day, the rotations."""

    def __init__(self, simulated: bool = False) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        with use_style():
            self.figure = Figure(figsize=BOARD_INCHES, dpi=BOARD_DPI, layout="none")
            self.canvas = FigureCanvasAgg(self.figure)
            self.gap = _GapPanel(self.figure.add_axes((0.08, 0.56, 0.9, 0.37)))
            self.returns = _ReturnsPanel(self.figure.add_axes((0.03, 0.09, 0.45, 0.34)))
            self.null = _NullPanel(self.figure.add_axes((0.53, 0.09, 0.45, 0.34)))
            if simulated:
                watermark(self.figure)

    def draw(self, found: Exploration) -> bytes:
        """The exploration as a PNG."""
        from PIL import Image

        with use_style():
            for panel in (self.gap, self.returns, self.null):
                panel.show(found)
            self.canvas.draw()
        pixels = np.ascontiguousarray(np.asarray(self.canvas.buffer_rgba())[:, :, :3])
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, format="PNG", compress_level=1)
        return out.getvalue()


class _GapPanel:
    """The gap with two standard errors of block luck; every third day suffices for a line as wide as a screen."""

    def __init__(self, axes: Axes) -> None:
        self.axes, self.sample = axes, None
        (self.line,) = axes.plot([], [], color=COLOURS["hash_rate"], linewidth=1.1, zorder=3)
        self.limits = [axes.plot([], [], color=COLOURS["baseline"], linewidth=0.8, linestyle=":")[0] for _ in range(2)]
        (self.events,) = axes.plot([], [], "^", markersize=5, transform=axes.get_xaxis_transform(), zorder=4)
        axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
        percent_axis(axes, "")
        self.title = axes.set_title("")
        self.shades = None

    def show(self, found: Exploration) -> None:
        ribbon = found.ribbon.loc[found.params.sample_start :]
        self._move(ribbon.iloc[::SHOWN_STEP_DAYS], found.params.sample_start)
        self._shade(found.episodes, ribbon.index)
        self.events.set_data(found.events["date"].to_numpy(), np.full(len(found.events), FOOT))
        self.events.set_color(ANCHOR_COLOURS[found.params.primary_anchor])
        self.events.set_marker(ANCHOR_MARKERS[found.params.primary_anchor])
        p = found.params
        self.title.set_text(
            f"gap of the {p.fast_days}- to the {p.slow_days}-day mean of hash rate; dotted: ±2 standard errors of "
            "luck; shaded: kept episodes"
        )

    def _move(self, thin: pd.DataFrame, start: str) -> None:
        days, gap = thin.index.to_numpy(), thin["ribbon_gap"].to_numpy()
        noise = BAND_SE * thin["ribbon_gap_se"].to_numpy()
        self.line.set_data(days, gap)
        for line, side in zip(self.limits, (-1, 1), strict=True):
            line.set_data(days, side * noise)
        known = gap[np.isfinite(gap)]
        low, high = (known.min(), known.max()) if len(known) else (-0.05, 0.05)
        self.axes.set_ylim(min(low, -0.03) * 1.15, max(high, 0.03) * 1.1)
        if self.sample != (start, thin.index[-1]):
            date_axis(self.axes, thin.index[0], thin.index[-1])
            self.sample = (start, thin.index[-1])

    def _shade(self, episodes: pd.DataFrame, days: pd.DatetimeIndex) -> None:
        """One collection of all episodes, from foot to top whatever the limits are."""
        from matplotlib.collections import PolyCollection
        from matplotlib.dates import date2num

        left = date2num(episodes["start"].clip(lower=days[0]))
        right = date2num(episodes["end"].fillna(days[-1]).clip(lower=days[0]))
        boxes = [[(a, 0), (b, 0), (b, 1), (a, 1)] for a, b in zip(left, right, strict=True) if b > a]
        if self.shades is None:
            look = {"facecolor": COLOURS["capitulation_shade"], "linewidth": 0, "zorder": 0}
            self.shades = PolyCollection(boxes, transform=self.axes.get_xaxis_transform(), **look)
            self.axes.add_collection(self.shades, autolim=False)
        self.shades.set_verts(boxes)


class _ReturnsPanel:
    """Each event's return over the distribution of every day's, medians marked."""

    def __init__(self, axes: Axes) -> None:
        self.axes, self.limits = axes, None
        self.every = axes.stairs(np.zeros(BINS), fill=True, color=COLOURS["baseline_shade"])
        (self.events,) = axes.plot([], [], "o", markersize=6, alpha=0.6, zorder=4)
        axes.axvline(0, color=COLOURS["ink"], linewidth=0.6)
        self.any_median = axes.axvline(0, color=COLOURS["soft"], linewidth=2, linestyle=(0, (2, 1)))
        self.own_median = axes.axvline(0, linewidth=2.4)
        axes.set_yticks([])
        axes.set_ylim(0, 1.15)
        self.title = axes.set_title("")

    def show(self, found: Exploration) -> None:
        own, every = found.events["log_return"].to_numpy(), found.every.to_numpy()
        colour = ANCHOR_COLOURS[found.params.primary_anchor]
        self.title.set_text(f"{found.params.primary_horizon_days}-day return: {len(own)} events, grey: any day")
        self.own_median.set_visible(len(own) > 0)
        self.events.set_data([], [])
        if not len(every):
            return
        low, high = np.quantile(every, CLIPPED)
        heights, edges = np.histogram(np.clip(every, low, high), BINS)
        self.every.set_data(heights / heights.max(), edges)
        self.any_median.set_xdata([np.median(every)] * 2)
        self.events.set_data(np.clip(own, low, high), np.full(len(own), FOOT * 2))
        for artist in (self.events, self.own_median):
            artist.set_color(colour)
        if len(own):
            self.own_median.set_xdata([np.median(own)] * 2)
        if self.limits != (low, high):
            self.limits = (low, high)
            self.axes.set_xlim(low, high)
            log_return_axis(self.axes, "return (log scale)", "x")


class _NullPanel:
    """The statistic over all rotations of the calendar, the tail beyond the observed one coloured."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.all = axes.stairs(np.zeros(BINS), fill=True, color=COLOURS["baseline_shade"])
        self.tail = axes.stairs(np.zeros(BINS), fill=True)
        self.observed = axes.axvline(0, linewidth=2.4)
        axes.set_yticks([])
        axes.set_ylim(0, 1.15)
        axes.set_xlabel("excess log return of each rotation")
        self.title = axes.set_title("")

    def show(self, found: Exploration) -> None:
        result, colour = found.rotation, ANCHOR_COLOURS[found.params.primary_anchor]
        self.title.set_text(f"exact rotation: {p_text(result.p_one_sided)} (one-sided)")
        for artist in (self.all, self.tail, self.observed):
            artist.set_visible(result.n_events > 0)
        if not result.n_events:
            return
        heights, edges = np.histogram(result.null, BINS)
        share = heights / heights.max()
        beyond = (edges[:-1] + edges[1:]) / 2 >= result.statistic
        self.all.set_data(share, edges)
        self.tail.set_data(np.where(beyond, share, 0), edges)
        self.tail.set_color(colour)
        self.observed.set_color(colour)
        self.observed.set_xdata([result.statistic] * 2)
        self.axes.set_xlim(edges[0], edges[-1])
