"""Figures and names as words: one way to write a percentage, a p-value and a definition everywhere."""

from __future__ import annotations

import math

ANCHOR_WORDS = {"start": "starts", "recovery": "recoveries", "buy": "buy signals", "in_state": "days in the state"}
DEFINITION_WORDS = {
    "hash_ribbons": "Hash Ribbons",
    "hash_rate_growth_30d": "30-day hash-rate growth",
    "hash_rate_growth_90d": "90-day hash-rate growth",
    "hash_rate_drawdown": "hash-rate drawdown",
    "negative_retargets": "negative retargets",
    "difficulty_ribbon_compression": "difficulty-ribbon compression",
    "puell_multiple": "Puell multiple",
    "puell_compression": "Puell and compression",
    "hashprice_stress": "hashprice stress",
    "fleet_under_breakeven": "fleet under breakeven",
}


def percent(value: float, digits: int = 0, sign: bool = False) -> str:
    """A fraction as text with a real minus sign; a dash where it is missing.

    >>> percent(-0.051), percent(0.2, sign=True), percent(float("nan"))
    ('−5 %', '+20 %', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:{'+' if sign else ''}.{digits}f} %".replace("-", "−")


def p_text(p: float) -> str:
    """A p-value as text: `p = 0.18`, `p < 0.001`, or `p not defined`."""
    if p is None or not math.isfinite(p):
        return "p not defined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign and a real minus; a dash where it is missing.

    >>> signed(-0.05, 2), signed(0.1, 1)
    ('−0.05', '+0.1')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:+.{digits}f}".replace("-", "−")


def count(n: int, one: str, many: str = "") -> str:
    """A number with its noun.

    >>> count(1, "episode"), count(3, "episode"), count(2, "day in the state", "days in the state")
    ('1 episode', '3 episodes', '2 days in the state')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"
