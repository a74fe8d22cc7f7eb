"""Exploring with sliders: one setting in, ribbons, episodes, forward returns and rotation p out, fast enough to drag.

A setting is a `Params` like any other, so that what was found with the sliders can be saved as a profile and run as a
report.
"""

from capitulation.explore.profile import save_profile
from capitulation.explore.result import Exploration, Explorer

__all__ = ["Exploration", "Explorer", "save_profile", "sliders"]


def __getattr__(name: str) -> object:
    """`sliders` needs ipywidgets and matplotlib, which the rest does not."""
    if name == "sliders":
        from capitulation.explore.controls import sliders

        return sliders
    raise AttributeError(f"module 'capitulation.explore' has no attribute {name!r}")
