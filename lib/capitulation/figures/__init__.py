"""Charts: plain matplotlib figures whose `suptitle` states what was found and whose label is the alt text."""

# ruff: noqa: F401

from capitulation.figures.choices import equity, power, rejection_rates, reliability, specification_curve, window_grid
from capitulation.figures.network import (
    adjustment_bars,
    capitulations,
    definitions_timeline,
    mining_economics,
    rig_breakeven,
    survival,
)
from capitulation.figures.returns import event_paths, forest, ledger, nulls, returns_by_horizon
