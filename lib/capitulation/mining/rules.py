"""Every definition of capitulation behind one interface: a panel in, a daily state with its intensity out.

A rule reads that day and earlier ones alone. Where its inputs are not all there the day is unknown, which is neither in
the state nor out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.errors import InputError, one_line
from capitulation.mining import rules_measures as measures
from capitulation.params import DEFINITIONS

if TYPE_CHECKING:
    from capitulation.params import Params

Excess = Callable[[pd.DataFrame, "Params"], pd.DataFrame]


@dataclass(frozen=True)
class Rule:
    """One definition: name (as in the tables), label for figures, what it says, who says so, and how it is computed.

    `compute(panel, params)` gives the day's `measure` (in `unit`) and `intensity`: how far the measure lies on the
    stressed side of the rule's threshold, so that the day is in the state where intensity > 0.
    """

    name: str
    label: str
    description: str
    source: str
    unit: str
    compute: Excess


_TABLE = (
    (
        "hash_ribbons",
        "Hash Ribbons inverted",
        "fast mean of hash rate below its slow mean",
        'Charles Edwards, "Hash Ribbons & Bitcoin Bottoms", Capriole Investments, 2019',
        "gap, fraction",
        measures.ribbon_gap,
    ),
    (
        "hash_rate_growth_30d",
        "Hash rate down on 30 days",
        "30-day mean of hash rate below its value 30 days earlier; the same days as 30/60-day Hash Ribbons",
        'VanEck, "Bitcoin ChainCheck" of mid-December 2025 (30-day hash-rate growth below zero)',
        "growth, fraction",
        measures.growth_30d,
    ),
    (
        "hash_rate_growth_90d",
        "Hash rate down on 90 days",
        "30-day mean of hash rate below its value 90 days earlier",
        'VanEck, "Bitcoin ChainCheck" of mid-December 2025 (90-day hash-rate growth below zero)',
        "growth, fraction",
        measures.growth_90d,
    ),
    (
        "hash_rate_drawdown",
        "Hash rate off its peak",
        "mean hash rate below its running peak by more than drawdown_threshold",
        'ZFX Shanhai Securities, 20 January 2026 ("fell a cumulative 15 % from its peak"); common in market letters',
        "drawdown, fraction",
        measures.hash_rate_drawdown,
    ),
    (
        "negative_retargets",
        "Difficulty cuts in a row",
        "at least retargets_k of the last retargets_n difficulty adjustments were cuts",
        'ZFX Shanhai Securities, 20 January 2026 ("seventh negative adjustment in the past eight")',
        "cuts",
        measures.negative_retargets,
    ),
    (
        "difficulty_ribbon_compression",
        "Difficulty ribbon compressed",
        "coefficient of variation of eight means of difficulty (9 to 200 days) below compression_threshold",
        'Willy Woo, "Introducing the Difficulty Ribbon", 2019; compression as defined by Glassnode Academy',
        "coefficient of variation",
        measures.ribbon_compression,
    ),
    (
        "puell_multiple",
        "Puell multiple low",
        "value of new coins below puell_threshold times its 365-day mean",
        'David Puell, "The Puell Multiple", 2019',
        "ratio",
        measures.puell,
    ),
    (
        "puell_compression",
        "Puell low and ribbon compressed",
        "Puell multiple low while the difficulty ribbon is compressed",
        "Glassnode's and Capriole's habit of asking for both: Puell (2019) and Woo (2019) together",
        "ratio to its threshold, the weaker of both",
        measures.puell_compression,
    ),
    (
        "hashprice_stress",
        "Hashprice below its past",
        "hashprice (USD) below hashprice_stress_ratio times its 365-day mean",
        'hashprice: Luxor Technology, "Hashrate Index", 2019; the comparison with its own year is this suite\'s',
        "ratio",
        measures.hashprice_ratio,
    ),
    (
        "fleet_under_breakeven",
        "Rigs under water",
        "share of the recent rigs that do not earn their power above fleet_share_threshold",
        "Cambridge Centre for Alternative Finance, CBECI methodology (rigs of five years, equal weights)",
        "share of models, fraction",
        measures.fleet_under_water,
    ),
)
RULES: dict[str, Rule] = {row[0]: Rule(*row) for row in _TABLE}
if tuple(RULES) != DEFINITIONS:
    raise AssertionError("mining.rules and params.DEFINITIONS name different rules")


def rule_state(panel: pd.DataFrame, name: str, params: Params) -> pd.DataFrame:
    """The daily state of rule `name`; index `date` as in `panel`.

    Columns: in_state (bool), known (bool: all inputs there), intensity (distance of the measure beyond the threshold,
    in the rule's unit, larger is deeper stress, above 0 in the state) and measure (the rule's own figure). A day that
    is not known is False in in_state and missing in intensity. Raises `InputError` for another name.
    """
    if name not in RULES:
        raise InputError(f"definition={one_line(name, 60)!r}: must be one of {', '.join(RULES)}")
    found = RULES[name].compute(panel, params)
    known = found["intensity"].notna()
    in_state = (found["intensity"] > 0) & known
    return pd.DataFrame(
        {"in_state": in_state, "known": known, "intensity": found["intensity"], "measure": found["measure"]},
        index=panel.index,
    )


def all_rule_states(panel: pd.DataFrame, params: Params) -> dict[str, pd.DataFrame]:
    """`rule_state` of every rule, in the order of `params.DEFINITIONS`."""
    return {name: rule_state(panel, name, params) for name in RULES}


def _jaccard(a: np.ndarray, b: np.ndarray) -> float:
    either = (a | b).sum()
    return float((a & b).sum() / either) if either else float("nan")


def _phi(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two flags, from the four counts; NaN where either never changes."""
    both, neither = int((a & b).sum()), int((~a & ~b).sum())
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    spread = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    return (both * neither - only_a * only_b) / spread**0.5 if spread else float("nan")


AGREEMENTS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"jaccard": _jaccard, "phi": _phi}


def agreement(states: Mapping[str, pd.DataFrame], measure: str = "jaccard", since: str = "") -> pd.DataFrame:
    """How much the rules agree, rules × rules, on the days from `since` on that both know.

    jaccard: days in both states over days in either (0 to 1). phi: correlation of the two flags (-1 to 1). Missing
    where it is not defined (neither ever in the state; for phi, a flag that never changes).
    """
    if measure not in AGREEMENTS:
        raise InputError(f"measure={one_line(measure, 40)!r}: must be one of {', '.join(AGREEMENTS)}")
    parts = {name: state[state.index >= since] if since else state for name, state in states.items()}
    flags = {name: part["in_state"].to_numpy(bool) for name, part in parts.items()}
    known = {name: part["known"].to_numpy(bool) for name, part in parts.items()}

    def one(a: str, b: str) -> float:
        both = known[a] & known[b]
        return AGREEMENTS[measure](flags[a][both], flags[b][both])

    names = list(states)
    return pd.DataFrame([[one(a, b) for b in names] for a in names], index=names, columns=names)
