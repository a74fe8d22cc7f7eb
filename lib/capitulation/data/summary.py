"""What a reader should know of a run's data: where they came from, what they cover, whether a check objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.data.panel import missing_days
from capitulation.data.quality import FAILURE
from capitulation.words import count

if TYPE_CHECKING:
    from capitulation.data.market import Market

UNITS = {
    "price_usd": "USD",
    "hash_rate_ehs": "EH/s",
    "block_count": "blocks",
    "difficulty": "difficulty",
    "height": "block",
    "issuance_btc": "BTC",
    "fees_btc": "BTC",
    "revenue_usd": "USD",
}


def provenance_table(market: Market) -> pd.DataFrame:
    """Source, snapshot, digest, age and licence as rows of `item` and `value`."""
    age = "" if market.age_days is None else f"{market.age_days:.1f} days"
    rows = {
        "source": market.source,
        "described as": market.attribution,
        "first and last day": f"{market.panel.index[0]:%Y-%m-%d} to {market.panel.index[-1]:%Y-%m-%d}",
        "fetched at (UTC)": market.retrieved_at,
        "age of the data": age,
        "raw data": market.snapshot,
        "SHA-256 of the panel": market.digest,
        "licence of the data": market.licence,
        **{f"remark {i}": note for i, note in enumerate(market.notes, 1)},
    }
    return pd.DataFrame([row for row in rows.items() if row[1]], columns=["item", "value"])


def coverage_table(panel: pd.DataFrame) -> pd.DataFrame:
    """Per column of the panel: unit, first and last day with a value, days missing in between, last value."""
    gaps = missing_days(panel)
    columns = ["column", "unit", "first_day", "last_day", "days", "missing_inside", "last_value"]
    return gaps.assign(
        unit=gaps["column"].map(UNITS),
        days=gaps["n_days"] - gaps["n_missing"],
        last_value=[panel[name].get(last, np.nan) for name, last in zip(gaps["column"], gaps["last"], strict=True)],
    ).rename(columns={"first": "first_day", "last": "last_day", "n_missing": "missing_inside"})[columns]


def data_sentence(market: Market) -> str:
    """The data in one sentence: range, source, gaps, objections."""
    panel = market.panel
    missing = int(missing_days(panel[["hash_rate_ehs"]])["n_missing"].iloc[0])
    failed = int((market.findings_table()["severity"] == FAILURE).sum())
    objections = "no check fails" if not failed else f"{count(failed, 'check fails', 'checks fail')}"
    whose = "a simulated market" if market.simulated else f"real data ({market.attribution or market.source})"
    return (
        f"The panel holds {len(panel):,} days of {whose}, {panel.index[0]:%Y-%m-%d} to {panel.index[-1]:%Y-%m-%d}; "
        f"hash rate is missing on {count(missing, 'day') if missing else 'no day'} inside its range, and {objections}."
    )
