"""Figures: each function takes result frames and returns a `Chart`; no file, no clock, no global state of pyplot.

One module per group of questions (market, episodes, returns, ...); `style` holds the look and the colours by meaning.
"""

from capitulation.plots.chart import Chart

__all__ = ["Chart"]
