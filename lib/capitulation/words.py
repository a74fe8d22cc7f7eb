"""Figures as words: one way to write a percentage, a p-value, a day and a count everywhere."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

ONE_ANCHOR = {"start": "start", "recovery": "recovery", "buy": "buy signal", "in_state": "day in the state"}
ANCHOR_WORDS = {"start": "starts", "recovery": "recoveries", "buy": "buy signals", "in_state": "days in the state"}
OF_CAPITULATIONS = {"start": "of", "recovery": "from", "buy": "after", "in_state": "of"}


def _plain(value: float, digits: int, sign: bool) -> str:
    """A number rounded, with a real minus; what rounds to nothing has no sign."""
    rounded = round(value, digits) or 0.0
    return f"{rounded:{'+' if sign and rounded else ''}.{digits}f}".replace("-", "−")


def percent(value: float, digits: int = 0, sign: bool = False) -> str:
    """A fraction as text, `−5 %` or with its sign `+20 %`: a real minus; a dash where it is missing."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{_plain(100 * value, digits, sign)} %"


def odds_text(value: float) -> str:
    """A probability as text, `64 %`; what is nearly sure is not called certain: `above 99 %`, `below 1 %`."""
    if value is not None and (value < 0.01 or value > 0.99):
        return "below 1 %" if value < 0.01 else "above 99 %"
    return percent(value)


def exactly(chosen: float) -> str:
    """A fraction that somebody chose, with the digits it was chosen with: `95 %`, `99.9 %`."""
    return f"{100 * chosen:.10g} %"


def p_text(p: float) -> str:
    """A p-value as text: `p = 0.18`, `p < 0.001`, or `p not defined`."""
    if p is None or not math.isfinite(p):
        return "p not defined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign, `+0.100` or `−0.050`: a real minus; a dash where it is missing."""
    return "–" if value is None or not math.isfinite(value) else _plain(value, digits, sign=True)


def between(low: float, high: float, digits: int = 3) -> str:
    """An interval as text, `−0.196 to +0.143`; a dash where it is missing."""
    return "–" if "–" in (ends := [signed(end, digits) for end in (low, high)]) else " to ".join(ends)


def count(n: int, one: str, many: str = "") -> str:
    """A number with its noun: `1 episode`, `3 episodes`; `many` where an s does not make the plural."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def day(value: Any) -> str:
    """A day as ISO text, `2026-01-20`."""
    return pd.Timestamp(value).strftime("%Y-%m-%d")


def stretches(days: Any, most: int = 3) -> str:
    """Days as text, those that follow each other as one stretch: `2019-04-05, 2025-11-13 to 2025-11-15`.

    `days`: in order of time; the newest `most` stretches are named, those before them counted; empty without any.
    """
    known = pd.DatetimeIndex(days)
    fresh = known.to_series().diff() != pd.Timedelta(days=1)
    spans = [(day(span.min()), day(span.max())) for _, span in known.to_series().groupby(fresh.cumsum())]
    named = [first if first == last else f"{first} to {last}" for first, last in spans[-most:]]
    more = f" and {count(len(spans) - most, 'stretch', 'stretches')} before" if len(spans) > most else ""
    return ", ".join(named) + more
