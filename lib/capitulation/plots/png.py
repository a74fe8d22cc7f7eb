"""A figure as a small PNG whose bytes depend on nothing but the figure."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

PNG_DPI = 192
PALETTE_COLOURS = 128
HEAVY_BYTES = 85_000
COMPRESSION = 7
"""Level 9 takes seven times as long for 5 % fewer bytes."""


def _drawn(figure: Figure, dpi: float) -> Image:
    """The figure drawn by Agg at `dpi`, as an opaque RGB picture."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    from capitulation.plots.style import use_style

    before = figure.dpi
    figure.set_dpi(dpi)
    try:
        with use_style():
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            return Image.fromarray(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3]))
    finally:
        figure.set_dpi(before)


def png_bytes(figure: Figure, colours: int = PALETTE_COLOURS, dpi: float = PNG_DPI) -> bytes:
    """`figure` as a PNG of at most `colours` (2 to 256) palette colours; no time, version or software in the file.

    At 192 dpi an inch of the figure is 96 CSS pixels at twice the resolution. Raises `ValueError` for another number
    of colours.
    """
    if not 2 <= colours <= 256:
        raise ValueError(f"colours={colours}: must be 2 to 256")
    picture = _drawn(figure, dpi)
    found = _encoded(_reduced(picture, colours))
    # A crowded picture gives up colours that nobody tells apart rather than weigh down the page.
    return found if len(found) <= HEAVY_BYTES or colours <= 32 else _encoded(_reduced(picture, colours // 2))


def _encoded(picture: Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, format="PNG", compress_level=COMPRESSION)
    return out.getvalue()


def _reduced(picture: Image, colours: int) -> Image:
    """`picture` with a palette: maximum coverage keeps the colours of small marks, which median cut merges away.

    Each palette entry is then set to the mean of its pixels, so that white stays white.
    """
    import numpy as np
    from PIL.Image import Dither, Quantize

    reduced = picture.quantize(colours, method=Quantize.MAXCOVERAGE, dither=Dither.NONE)
    entry = np.asarray(reduced).ravel()
    channels = np.asarray(picture).reshape(-1, 3).T
    count = np.maximum(np.bincount(entry, minlength=colours), 1)
    means = [np.bincount(entry, weights=channel, minlength=colours) / count for channel in channels]
    reduced.putpalette(np.rint(means).T.astype("uint8").tobytes())
    return reduced
