"""What every figure function returns: the picture, and in words what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Chart:
    """A figure with `alt` (what the picture shows, for those who do not see it) and `title` (what was found)."""

    figure: Figure
    alt: str
    title: str
