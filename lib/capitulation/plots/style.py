"""The look of all figures: one style file, colours by meaning, and the frame (title, alt text) of every chart.

Colours follow Okabe and Ito (2008), told apart by colour-blind readers; the same colour means the same thing in every
figure, and where two things meet, shape or a direct label tells them apart as well.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from capitulation.plots.chart import Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE_FILE = Path(__file__).with_name("capitulation.mplstyle")

COLOURS = {
    "ink": "#1c1b19",
    "soft": "#5d5a54",
    "faint": "#e6e2da",
    "paper": "#ffffff",
    "price": "#1c1b19",
    "hash_rate": "#0072b2",
    "fast": "#0072b2",
    "slow": "#e69f00",
    "capitulation": "#d55e00",
    "capitulation_shade": "#f8dccb",
    "start": "#d55e00",
    "recovery": "#009e73",
    "buy": "#7d3c98",
    "in_state": "#7a5c3e",
    "baseline": "#8a8780",
    "baseline_shade": "#e3e0da",
    "noise": "#cfd6dc",
    "halving": "#8a8780",
    "present": "#1c1b19",
    "difficulty_up": "#a9bccb",
    "difficulty_down": "#d55e00",
    "cost": "#b0417f",
    "hashprice": "#009e73",
    "simulated": "#7a1f4f",
}
ANCHOR_COLOURS = {name: COLOURS[name] for name in ("start", "recovery", "buy", "in_state")}
ANCHOR_MARKERS = {"start": "v", "recovery": "o", "buy": "^", "in_state": "s"}
GRADE_COLOURS = {"noise-like": "#b5b0a6", "doubtful": "#e69f00", "real": "#d55e00"}
VERDICT_COLOURS = {
    "reproduced": "#009e73",
    "contradicted": "#d55e00",
    "not distinguishable from chance": "#b5b0a6",
    "not testable with free data": "#e6e2da",
}
SERIES_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#b0417f", "#56b4e9", "#7a5c3e", "#8a8780")
DIVERGING = ("#9c4200", "#d55e00", "#f3b48e", "#f7f5f1", "#9fc6de", "#0072b2", "#004a75")
SEQUENTIAL = ("#f7f5f1", "#c7dfec", "#7fb6d6", "#0072b2", "#00416b")
WATERMARK = "SIMULATED"
TITLE_CHARACTERS_PER_INCH = 8.2
DARKEN_FOR_TEXT = 0.72


@lru_cache(maxsize=1)
def _style() -> dict[str, Any]:
    return dict(mpl.rc_params_from_file(STYLE_FILE, use_default_template=False))


@contextmanager
def use_style() -> Iterator[None]:
    """The project's style inside the block, the caller's settings after it; anything unset is matplotlib's default."""
    with mpl.rc_context():
        mpl.rcParams.update(_defaults())
        mpl.rcParams.update(_style())
        yield


@lru_cache(maxsize=1)
def _defaults() -> dict[str, Any]:
    """matplotlib's defaults, so that a reader's matplotlibrc cannot change a report; never touches the backend."""
    kept = {name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith(("backend", "webagg"))}
    return {name: value for name, value in kept.items() if name not in ("interactive", "toolbar", "timezone")}


def styled(draw: Callable[..., Chart]) -> Callable[..., Chart]:
    """Decorator: draw inside the project's style, whatever the caller's settings are."""

    @wraps(draw)
    def inside(*args: Any, **kwargs: Any) -> Chart:
        with use_style():
            return draw(*args, **kwargs)

    return inside


def new_figure(
    rows: int = 1, columns: int = 1, height: float = 4.4, width: float = 7.6, **options: Any
) -> tuple[Figure, Any]:
    """An untracked figure (inches) with its axes, as `subplots` gives them."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, **options)


def finish(figure: Figure, title: str, alt: str) -> Chart:
    """Set the title, wrapped to the width of the figure, and return the chart; the alt text opens with the title."""
    wide = int(figure.get_size_inches()[0] * TITLE_CHARACTERS_PER_INCH)
    unbroken = title.replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0").replace(" < ", "\u00a0<\u00a0")
    figure.suptitle("\n".join(_balanced(unbroken, wide)), x=0.012, ha="left", linespacing=1.25)
    return Chart(figure, f"{title.rstrip('.')}. {alt}", title)


def _balanced(text: str, wide: int) -> list[str]:
    """`text` in as few lines of at most `wide` characters as it needs, the lines about equally long."""
    lines = textwrap.wrap(text, wide, break_on_hyphens=False)
    for narrower in range(wide - 1, wide // 2, -1):
        tighter = textwrap.wrap(text, narrower, break_on_hyphens=False)
        if len(tighter) > len(lines) or len(lines) == 1:
            break
        lines = tighter
    return lines


def text_colour(colour: str) -> str:
    """A darker shade of `colour`, legible as small text on white."""
    from matplotlib.colors import to_hex, to_rgb

    return to_hex([part * DARKEN_FOR_TEXT for part in to_rgb(colour)])


def tint(colour: str, share: float = 0.4) -> str:
    """`colour` mixed with white: `share` of it remains. Solid, since transparency costs palette colours."""
    from matplotlib.colors import to_hex, to_rgb

    return to_hex([1 - share * (1 - part) for part in to_rgb(colour)])


def colour_map(colours: tuple[str, ...], bad: str = "#ffffff") -> Any:
    """A continuous colour map through `colours`; missing values get `bad`."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("capitulation", colours, N=64).with_extremes(bad=bad)


def watermark(figure: Figure) -> None:
    """Write SIMULATED across the figure, once however often it is called."""
    if any(text.get_gid() == WATERMARK for text in figure.texts):
        return
    wide, high = figure.get_size_inches()
    look = {"color": COLOURS["simulated"], "alpha": 0.16, "weight": "bold", "family": "DejaVu Sans", "zorder": 1000}
    size = min(9.5 * wide, 16 * high)
    place = {"ha": "center", "va": "center", "rotation": 24, "rotation_mode": "anchor", "fontsize": size}
    figure.text(0.5, 0.46, WATERMARK, gid=WATERMARK, **look, **place)


def drop_left_grid(axes: Axes) -> None:
    """A horizontal chart: grid across values, which lie along x, none across names."""
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
