"""The backtest as a page shows it: which columns, how they are written, and the random entries beside each strategy."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from capitulation.params import Params
from capitulation.study.backtest import Backtest, marks
from capitulation.study.random_entries import RandomEntries, random_entry_benchmark
from capitulation.study.strategies import Variant, sample_price

SHOWN = [
    *("strategy", "cagr", "volatility", "sharpe", "sortino", "calmar", "max_drawdown", "exposure", "n_trades"),
    *("hit_rate", "share_of_random_beaten", "p_rotation", "deflated_sharpe"),
]
"""Columns of the backtest table that a page shows; the CSV has them all."""

FORMATS: Mapping[str, str] = {
    **dict.fromkeys(("cagr", "volatility", "max_drawdown", "exposure", "hit_rate", "share_of_random_beaten"), ".0%"),
    **dict.fromkeys(("sharpe", "sortino", "calmar", "deflated_sharpe"), ".2f"),
    "p_rotation": "p",
}


def random_benchmarks(
    runs: Mapping[Variant | None, Backtest], panel: pd.DataFrame, params: Params
) -> dict[str, RandomEntries]:
    """Each strategy of `runs` (as from `strategies.backtests`) beside random entry sets with its stays, by name."""
    log_price = marks(sample_price(panel, params).to_numpy())
    return {
        variant.name: random_entry_benchmark(
            log_price, backtest.position.to_numpy(), params.n_random_entries, params.seed
        )
        for variant, backtest in runs.items()
        if variant is not None
    }
