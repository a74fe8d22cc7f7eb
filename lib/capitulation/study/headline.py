"""The one primary result in words: sentences computed from the result, so that they stay true when data change."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from capitulation.errors import InputError
from capitulation.params import Params
from capitulation.words import ANCHOR_WORDS, DEFINITION_WORDS, p_text, percent, signed

ALPHA = 0.05
HEADLINE_P = "p_rotation_own_era"
"""The p-value that decides the verdict: the one that keeps its level on simulated markets (notebook 90)."""


def primary_row(forward_returns: pd.DataFrame, params: Params) -> pd.Series:
    """The row of the one primary test, fixed in the parameters; `InputError` where the table lacks it."""
    wanted = (params.primary_definition, params.primary_anchor, params.primary_horizon_days)
    mask = (forward_returns[["definition", "anchor", "horizon_days"]] == list(wanted)).all(axis=1)
    if not mask.any():
        raise InputError(f"primary test {wanted}: not in the forward-return table; check horizons_days and primary_*")
    return forward_returns.loc[mask].iloc[0]


def primary_sentences(row: pd.Series, p_column: str = HEADLINE_P) -> list[str]:
    """Two sentences: what followed the primary signal and any day, and how sure one can be of the difference."""
    what = f"{DEFINITION_WORDS.get(row['definition'], row['definition'])} {ANCHOR_WORDS[row['anchor']]}"
    n, horizon = int(row["n_events"]), int(row["horizon_days"])
    if n == 0:
        return [f"The sample holds no {what} whose {horizon}-day outcome is known, so nothing can be said."]
    gains = round(row["hit_rate"] * n)
    first = (
        f"BTC was higher {horizon} days after {gains} of {n} {what} ({percent(row['hit_rate'])}, median "
        f"{percent(row['median'], sign=True)}), against {percent(row['base_hit_rate'])} and a median of "
        f"{percent(row['base_median'], sign=True)} after any day."
    )
    return [first, f"{_certainty(row, p_column)} {_power(row)}"]


def _certainty(row: pd.Series, p_column: str) -> str:
    p_column = p_column if p_column in row else "p_rotation"  # a table of the contract's columns alone
    p = row[p_column]
    excess, low, high = signed(row["excess_log"]), signed(row["ci_low"], 2), signed(row["ci_high"], 2)
    verdict = "stands out from chance" if p < ALPHA else "cannot be told from chance"
    plain = "" if p_column == "p_rotation" else f", {p_text(p)} against the mean day of its own era"
    return (
        f"The excess log return of {excess} (95 % interval {low} to {high}; exact rotation {p_text(row['p_rotation'])}"
        f"{plain}) {verdict}."
    )


def _power(row: pd.Series) -> str:
    clusters = int(row["n_clusters"])
    return (
        f"With {clusters} separate clusters of episodes only an excess above "
        f"{percent(math.expm1(row['min_detectable_log']))} would have been found in four of five cases."
    )


def definitions_sentence(forward_returns: pd.DataFrame, params: Params) -> str:
    """How many rules stand out at the primary anchor and horizon, before and after allowing for several looks."""
    keys = forward_returns[["anchor", "horizon_days"]] == [params.primary_anchor, params.primary_horizon_days]
    rows = forward_returns[keys.all(axis=1) & (forward_returns["n_events"] > 0)]
    if rows.empty:
        return "No definition has an event whose outcome is known."
    low = int((rows["p_rotation"] < ALPHA).sum())
    best = rows.loc[rows["p_rotation"].idxmin()]
    return (
        f"Of {len(rows)} definitions, {low} {'has' if low == 1 else 'have'} a rotation p below {ALPHA} at "
        f"{params.primary_horizon_days} days (lowest: {DEFINITION_WORDS[best['definition']]}, "
        f"{p_text(best['p_rotation'])}, "
        f"{int(best['n_events'])} events); chance alone gives {ALPHA * len(rows):.1f}."
    )


def headline(row: pd.Series, params: Params, as_of: str, p_column: str = HEADLINE_P) -> dict[str, Any]:
    """What the index and the README open with: the sentences, the test they rest on and its figures."""
    values = {name: (None if pd.isna(value) else value) for name, value in row.items()}
    clean = {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}
    return {
        "as_of": as_of,
        "sample_start": params.sample_start,
        "sentences": primary_sentences(row, p_column),
        "p_column": p_column,
        "primary": clean,
    }
