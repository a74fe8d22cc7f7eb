"""The chart of what cannot be drawn: a source without the needed column, a window that is not full, a state that has
no forerunner. It says so in words, so that a page on thin data is whole."""

from __future__ import annotations

from capitulation.plots.chart import Chart
from capitulation.plots.style import COLOURS, finish, new_figure

EMPTY_HEIGHT = 1.7


def empty(title: str, why: str = "Nothing to draw: no day has the data that this figure needs.") -> Chart:
    """A flat figure that states `title` (what is missing) and `why`; drawn inside the caller's style."""
    figure, axes = new_figure(height=EMPTY_HEIGHT)
    axes.set_axis_off()
    axes.text(0.0, 0.5, why, transform=axes.transAxes, color=COLOURS["soft"], va="center")
    return finish(figure, title, why)
