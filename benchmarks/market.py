"""The series that everything is timed on: the real daily file if there is one, else a simulated market."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_DATA = ROOT.parent / "shared" / "data"


def data_file() -> Path | None:
    """Coin Metrics' daily file in the folder CAPITULATION_TEST_DATA, or None."""
    path = Path(os.environ.get("CAPITULATION_TEST_DATA", DEFAULT_DATA)) / "coinmetrics" / "btc.csv"
    return path if path.is_file() else None


@cache
def panel() -> pd.DataFrame:
    """The daily panel."""
    if data_file() is None:
        from capitulation.simulate import simulate_panel

        return simulate_panel(seed=17)
    from capitulation.data.providers import coinmetrics

    return coinmetrics.parse({"btc.csv": data_file().read_bytes()})


def close() -> pd.Series:
    """Daily price from its first known day, without a gap."""
    price = panel()["price_usd"]
    return price.loc[price.first_valid_index() : price.last_valid_index()].ffill()


def described() -> str:
    """Which data these are, for the head of the results."""
    source = "Coin Metrics community data (CC BY-NC 4.0)" if data_file() else "a simulated market"
    days = panel().index
    return f"{source}, {days[0].date()} to {days[-1].date()}, {len(close()):,} daily prices"
