"""The present state as tables for a page; the figures are those of state.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from capitulation.words import percent, signed

State = Mapping[str, Any]

COMPARABLE_FORMATS = {
    **dict.fromkeys(("worst", "q25", "median", "q75", "best", "base_median"), "+.2f"),
    **dict.fromkeys(("hit_rate", "base_hit_rate"), ".0%"),
    "p_rotation": "p",
}


def _days(state: State) -> str:
    return "–" if state["days_in_state"] is None else str(state["days_in_state"])


def _number(value: float | None, spec: str, unit: str) -> str:
    return "–" if value is None else f"{value:{spec}} {unit}".replace("-", "−")


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{percent(low, 1, True)} to {percent(high, 1, True)}"


def state_table(state: State) -> pd.DataFrame:
    """The state in rows of `quantity`, `value` and `uncertainty`; a dash where a value is missing."""
    se, z = state["gap_se"], signed(state["gap_z"], 1)
    power = f"at {state['fleet']['power_price_usd_kwh']:g} USD/kWh"
    mean_now = f"fast mean now {_number(state['hash_rate_ehs'], ',.0f', 'EH/s')}"
    drawdowns, retarget, rigs = state["hash_rate_drawdowns"], state["next_retarget"], state["fleet"]
    rows = [
        ("ribbon state", state["ribbon_state"], ""),
        ("days in state", _days(state), f"since {state['state_since']}"),
        ("gap between the means", percent(state["gap"], 2, True), f"standard error {percent(se, 2)}, z {z}"),
    ]
    for name, fall in drawdowns.items():
        label = f"fall of the {name.removesuffix('d')}-day mean hash rate from its peak"
        error = f"standard error {percent(fall['se'], 1)}, peak on {fall['peak_date']}"
        rows.append((label, percent(fall["drawdown"], 1), error))
    rows += [
        ("next difficulty adjustment", percent(retarget.get("change"), 1, True), _retarget_words(retarget)),
        ("hashprice", _number(state["hashprice"], ",.2f", "USD per PH/s and day"), ""),
        ("rig models under water", f"{rigs['n_under_water']} of {rigs['n_rigs']}", power),
        ("Puell multiple", _number(state["puell_multiple"], ".2f", ""), ""),
    ]
    for days, needed in state["required_hash_rate_ehs"].items():
        label = f"mean hash rate of the next {days.removesuffix('d')} days at which the means meet"
        rows.append((label, _number(needed, ",.0f", "EH/s"), mean_now))
    return pd.DataFrame(rows, columns=["quantity", "value", "uncertainty"])


def _retarget_words(retarget: State) -> str:
    interval = _between(retarget.get("low"), retarget.get("high"))
    return f"{interval}, about {retarget.get('date')}" if interval else ""


def odds_table(state: State) -> pd.DataFrame:
    """Odds that the present capitulation ends soon: within_days, odds, low, high, n_at_risk; no rows outside one."""
    names = {days: f"recovery_odds_{days}d" for days in (30, 60, 90)}
    rows = [
        (days, state[name], state[f"{name}_low"], state[f"{name}_high"])
        for days, name in names.items()
        if state[name] is not None
    ]
    table = pd.DataFrame(rows, columns=["within_days", "odds", "low", "high"])
    return table.assign(n_at_risk=state["recovery_odds_n_at_risk"])


def comparable_table(state: State) -> pd.DataFrame:
    """What followed earlier episodes of this state at this age: one row a horizon, log returns; no rows where none."""
    return pd.DataFrame(state["comparable"]["log_returns"])
