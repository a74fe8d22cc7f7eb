"""The present in a terminal: a few lines, a spark line, an exit code that scripts can use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from capitulation.words import percent

BARS = "▁▂▃▄▅▆▇█"
EXIT_CODES = {"expansion": 0, "capitulation": 10, "recovering": 11, "unknown": 12}
EXIT_MEANINGS = {
    0: "no capitulation",
    10: "capitulation",
    11: "capitulation, fast mean rising",
    12: "unknown: too few days",
}
RED, GREEN, YELLOW, BOLD, RESET = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[0m"
STATE_COLOURS = {"expansion": GREEN, "capitulation": RED, "recovering": YELLOW, "unknown": ""}
LABEL_WIDTH = 15
SHOWN_HORIZON = 90


def status_code(state: dict[str, Any]) -> int:
    """Exit code of a state: see `EXIT_MEANINGS`.

    >>> status_code({"ribbon_state": "capitulation"})
    10
    """
    return EXIT_CODES[state["ribbon_state"]]


def spark(values: Sequence[float | None]) -> str:
    """One bar per value between the smallest and the largest; a blank where the value is missing.

    >>> spark([0, 1, None, 7])
    '▁▂ █'
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return ""
    low, span = min(known), (max(known) - min(known)) or 1.0
    scaled = [None if v is None else round((v - low) / span * (len(BARS) - 1)) for v in values]
    return "".join(" " if level is None else BARS[level] for level in scaled)


def _coloured_spark(values: Sequence[float | None]) -> str:
    """The spark line with each run below zero in red and above in green."""
    bars = spark(values)
    parts, before = [], None
    for bar, value in zip(bars, values, strict=False):
        colour = "" if value is None else RED if value < 0 else GREEN
        parts.append(bar if colour == before else (colour or RESET) + bar)
        before = colour
    return "".join(parts) + RESET


def _number(value: float | None, spec: str) -> str:
    return "–" if value is None else format(value, spec).replace("-", "−")


def status_text(state: dict[str, Any], colour: bool = False) -> str:
    """The present state as a short text, at most 100 columns; ANSI colours where `colour`."""
    rows = [
        ("gap, 60 days", _gap_line(state, colour)),
        ("hash rate", _hash_rate_line(state)),
        ("next retarget", _retarget_line(state)),
        ("hashprice", _hashprice_line(state)),
        ("recovery odds", _odds_line(state)),
        ("means meet at", _required_line(state)),
        ("what followed", _comparable_line(state)),
        ("data", state.get("source", "")),
    ]
    lines = [f"  {label:<{LABEL_WIDTH}}{text}" for label, text in rows if text]
    return "\n".join([_headline(state, colour), *lines])


def _headline(state: dict[str, Any], colour: bool) -> str:
    name = state["ribbon_state"]
    shown = f"{STATE_COLOURS[name]}{BOLD}{name.upper()}{RESET}" if colour else name.upper()
    simulated = "SIMULATED DATA: " if state.get("simulated") else ""
    if state["days_in_state"] is None:
        return f"{simulated}Bitcoin miners on {state['as_of']}: {shown} (the means need more days)"
    word = "capitulation" if name in ("capitulation", "recovering") else name
    return f"{simulated}Bitcoin miners on {state['as_of']}: {shown}, day {state['days_in_state']} of {word}"


def _gap_line(state: dict[str, Any], colour: bool) -> str:
    history = state["gap_history"]
    bars = _coloured_spark(history) if colour else spark(history)
    return f"{bars} {percent(state['gap'], 1, True)} (z {_number(state['gap_z'], '.1f')})" if bars else ""


def _hash_rate_line(state: dict[str, Any]) -> str:
    """Both drawdowns, each named by its mean."""
    by_mean = state["hash_rate_drawdowns"].items()
    falls = [f"{name.removesuffix('d')}-day mean {percent(row['drawdown'], 1, True)}" for name, row in by_mean]
    return f"{_number(state['hash_rate_ehs'], ',.0f')} EH/s; from peak: {', '.join(falls)}"


def _retarget_line(state: dict[str, Any]) -> str:
    found = state["next_retarget"]
    if found.get("change") is None:
        return ""
    change, low, high = (percent(found[name], 1, True) for name in ("change", "low", "high"))
    return f"{change} ({low} to {high}) about {found['date']}"


def _hashprice_line(state: dict[str, Any]) -> str:
    if state["hashprice"] is None:
        return ""
    fleet = state["fleet"]
    rigs = f"{fleet['n_under_water']} of {fleet['n_rigs']} recent rigs under water"
    power = f"at {fleet['power_price_usd_kwh']:g} USD/kWh"
    return f"{_number(state['hashprice'], '.1f')} USD per PH/s and day; {rigs} {power}"


def _odds_line(state: dict[str, Any]) -> str:
    if state["recovery_odds_n_at_risk"] is None:
        return ""
    parts = []
    for days in (30, 60, 90):
        name = f"recovery_odds_{days}d"
        ends = (percent(state[name + end]).removesuffix(" %") for end in ("_low", "_high"))
        parts.append(f"{days} d {percent(state[name])} ({'–'.join(ends)})")
    return f"{', '.join(parts)}; {state['recovery_odds_n_at_risk']} earlier episodes got this old"


def _required_line(state: dict[str, Any]) -> str:
    present = state["hash_rate_ehs"]
    parts = [
        f"{name.removesuffix('d')} d {value:,.0f} ({percent(value / present - 1, 1, True)})"
        for name, value in state["required_hash_rate_ehs"].items()
        if value is not None
    ]
    return f"{', '.join(parts)} EH/s on average" if parts and present else ""


def _comparable_line(state: dict[str, Any]) -> str:
    """The horizon closest to 90 days that the parameters hold."""
    rows = [row for row in state["comparable"]["log_returns"] if row["n"]]
    if not rows:
        return ""
    row = min(rows, key=lambda item: abs(item["horizon_days"] - SHOWN_HORIZON))
    median, base = (percent(math.expm1(row[name]), 0, True) for name in ("median", "base_median"))
    moments = f"{row['horizon_days']} d after {row['n']} such moments"
    return f"{moments}: median {median}, any day {base} (p {_number(row['p_rotation'], '.2f')})"
