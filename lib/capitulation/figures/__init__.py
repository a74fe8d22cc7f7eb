"""Charts: plain matplotlib figures whose `suptitle` states what was found and whose label is the alt text."""

# ruff: noqa: F401

from capitulation.figures.choices import (
    claims_verdicts,
    drawdown,
    equity,
    power,
    random_entries,
    rejection_rates,
    specification_curve,
    window_grid,
)
from capitulation.figures.network import (
    adjustment_bars,
    definitions_timeline,
    gap_now,
    gap_with_noise,
    hash_rate_ribbons,
    hashprice,
    price_with_capitulations,
    production_cost,
    puell,
    rig_breakeven,
    survival,
)
from capitulation.figures.returns import (
    comparable_fan,
    event_paths,
    family_null,
    forest,
    prequential,
    returns_by_horizon,
    rotation_null,
    test_comparison,
)
