"""Where things stand on the panel's last day: state, noise, economics, odds, and what followed comparable moments.

Everything comes from the panel as given, so a panel that is cut at a past day gives what could have been said then.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from capitulation.episodes import clusters, find_episodes
from capitulation.mining.economics import economics
from capitulation.mining.fleet import rigs_under_water
from capitulation.mining.hash_rate import drawdown, drawdown_se, rolling_mean
from capitulation.mining.retargets import next_retarget
from capitulation.mining.ribbons import ribbons
from capitulation.params import Params
from capitulation.study.forward_returns import forward_log_returns
from capitulation.study.present_text import status_code, status_text
from capitulation.study.survival import recovery_odds

__all__ = ["comparable_days", "comparable_moments", "present_state", "required_hash_rate", "status_code", "status_text"]

ODDS_WITHIN_DAYS = (30, 60, 90)
REQUIRED_OVER_DAYS = (7, 14, 30)
DRAWDOWN_DAYS = (30, 7)
SPARK_DAYS = 60
QUANTILES = {"worst": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "best": 1.0}


def required_hash_rate(panel: pd.DataFrame, fast_days: int, slow_days: int, over_days: int) -> float:
    """Mean hash rate (EH/s) over the next `over_days` days at which both means meet on the last of them.

    Above it the fast mean ends on top, below it under the slow one. With F the sum of the last fast - k known days
    and S that of the last slow - k, k = over_days: (F + min(k, fast) * H) / fast = (S + k * H) / slow, solved for H.
    Missing where a needed day is missing, `over_days` reaches `slow_days`, or no positive hash rate does it.
    """
    rate = panel["hash_rate_ehs"].to_numpy(dtype=float)
    if over_days >= slow_days or len(rate) < slow_days:
        return math.nan
    keep_fast = max(fast_days - over_days, 0)
    fast_sum = rate[len(rate) - keep_fast :].sum()
    slow_sum = rate[len(rate) - (slow_days - over_days) :].sum()
    weight = min(over_days, fast_days) / fast_days - over_days / slow_days
    needed = (slow_sum / slow_days - fast_sum / fast_days) / weight
    return float(needed) if needed > 0 else math.nan


def comparable_days(in_state: pd.Series, known: pd.Series, age_days: int) -> pd.DatetimeIndex:
    """The day on which each earlier, finished run of the state reached `age_days` days."""
    runs = find_episodes(in_state, known)
    runs = runs[~runs["ongoing"] & (runs["days"] >= age_days)]
    return pd.DatetimeIndex(runs["start"] + pd.Timedelta(days=age_days - 1))


def comparable_moments(panel: pd.DataFrame, days: pd.DatetimeIndex, params: Params) -> list[dict[str, Any]]:
    """What BTC did after `days`: per horizon the known outcomes, quantiles of the log return, share of gains.

    `n` counts outcomes, `n_clusters` those closer than the horizon once. Beside each the same over every day of the
    sample (`base_*`) and the one-sided rotation p. Events and baseline start at `sample_start`; anchors as everywhere
    at the close `entry_lag_days` later.
    """
    from capitulation.study.rotation import rotation_test

    rows = []
    for horizon in params.horizons_days:
        every = forward_log_returns(panel["price_usd"], horizon, params.entry_lag_days)[params.sample_start :].dropna()
        is_event = every.index.isin(days)
        after = every[is_event]
        n_clusters = len(np.unique(clusters(after.index, horizon)))
        row = {"horizon_days": horizon, "n": len(after), "n_clusters": n_clusters}
        row |= {name: after.quantile(q) for name, q in QUANTILES.items()}
        row |= {"hit_rate": (after > 0).mean(), "base_median": every.median(), "base_hit_rate": (every > 0).mean()}
        p = rotation_test(every.to_numpy(), is_event).p_one_sided if len(after) else math.nan
        rows.append({**row, "p_rotation": p})
    return rows


def present_state(panel: pd.DataFrame, params: Params) -> dict[str, Any]:
    """state.json: the present in JSON types, missing values as None.

    Keys: `as_of`, `price_usd`, `ribbon_state`, `state_since`, `days_in_state` (recovering days belong to the
    capitulation), `gap`, `gap_se`, `gap_z`, `gap_history` (last 60 days), `hash_rate_ehs` (fast mean),
    `hash_rate_drawdown` (30-day mean from its peak) and `hash_rate_drawdowns` by length of mean, `next_retarget`,
    `hashprice` (USD per PH/s and day), `hashprice_btc`, `puell_multiple`, `fleet`, `recovery_odds_30d`, `_60d`,
    `_90d` with `_low`, `_high`, `recovery_odds_n_at_risk` (None outside a capitulation), `required_hash_rate_ehs` by
    days ahead, `comparable` (age, days, returns by horizon). Fractions, not percents; log returns.
    """
    table = ribbons(panel, params.fast_days, params.slow_days)
    last = table.iloc[-1]
    capitulating = bool(last["in_capitulation"])
    in_state = table["in_capitulation"] if capitulating else ~table["in_capitulation"] & table["known"]
    age, since = _age(in_state, table["known"])
    state = {
        "as_of": panel.index[-1].date().isoformat(),
        "price_usd": panel["price_usd"].iloc[-1],
        "ribbon_state": last["ribbon_state"],
        "state_since": since,
        "days_in_state": age,
        "gap": last["ribbon_gap"],
        "gap_se": last["ribbon_gap_se"],
        "gap_z": last["ribbon_gap_z"],
        "gap_history": table["ribbon_gap"].tail(SPARK_DAYS).tolist(),
        "hash_rate_ehs": last["hash_rate_fast_ehs"],
        **_drawdowns(panel),
        "next_retarget": _next_retarget(panel),
        **_economics_now(panel, params),
        **(_odds(table, age, params) if capitulating else _no_odds()),
        "required_hash_rate_ehs": _required(panel, params),
        "comparable": _comparable(panel, in_state, table["known"], age, params),
    }
    return _json_ready(state)


def _age(in_state: pd.Series, known: pd.Series) -> tuple[int | None, str | None]:
    """Days in the present run of the state and its first day; None where the last day's state is unknown."""
    if not known.iloc[-1]:
        return None, None
    run = find_episodes(in_state, known).iloc[-1]
    return int(run["days"]), run["start"].date().isoformat()


def _drawdowns(panel: pd.DataFrame) -> dict[str, Any]:
    """Fall of the 30-day and the 7-day mean from its own running peak, with its error from block luck."""
    by_mean = {}
    for days in DRAWDOWN_DAYS:
        mean = rolling_mean(panel["hash_rate_ehs"], days)
        peak = mean.idxmax() if mean.notna().any() else None
        by_mean[f"{days}d"] = {
            "mean_ehs": mean.iloc[-1],
            "peak_ehs": mean.max(),
            "peak_date": peak.date().isoformat() if peak is not None else None,
            "drawdown": drawdown(panel, days).iloc[-1],
            "se": drawdown_se(panel, days).iloc[-1],
        }
    return {"hash_rate_drawdown": by_mean["30d"]["drawdown"], "hash_rate_drawdowns": by_mean}


def _next_retarget(panel: pd.DataFrame) -> dict[str, Any]:
    """The estimate of the next difficulty adjustment, `low` and `high` its interval; all missing where heights are."""
    found = {**dict.fromkeys(("date", "change", "change_low", "change_high")), **next_retarget(panel)}
    names = {"change_low": "low", "change_high": "high"}
    return {names.get(name, name): value for name, value in found.items()}


def _economics_now(panel: pd.DataFrame, params: Params) -> dict[str, Any]:
    money = economics(panel.tail(400)).iloc[-1]
    rigs = rigs_under_water(panel.tail(30), params.power_price_usd_kwh)
    under = rigs["under_water"].astype(bool)
    fleet = {
        "power_price_usd_kwh": params.power_price_usd_kwh,
        "n_rigs": len(rigs),
        "n_under_water": int(under.sum()),
        "share_under_water": float(under.mean()) if len(rigs) else None,
        "under_water": rigs.index[under].tolist(),
        "breakeven_usd_kwh": rigs["breakeven_usd_kwh"].to_dict(),
    }
    return {
        "hashprice": money["hashprice_usd_ph_day"],
        "hashprice_btc": money["hashprice_btc_ph_day"],
        "puell_multiple": money["puell_multiple"],
        "fleet": fleet,
    }


def _odds(table: pd.DataFrame, age: int | None, params: Params) -> dict[str, Any]:
    """Kaplan-Meier odds that the present capitulation ends within 30, 60 and 90 days."""
    episodes = find_episodes(table["in_capitulation"], table["known"])
    odds = recovery_odds(episodes, age or 1, ODDS_WITHIN_DAYS, params.confidence)
    found = {}
    for row in odds.itertuples():
        name = f"recovery_odds_{row.within_days}d"
        found |= {name: row.odds, f"{name}_low": row.low, f"{name}_high": row.high}
    return {**found, "recovery_odds_n_at_risk": int(odds["n_at_risk"].iloc[0])}


def _no_odds() -> dict[str, None]:
    names = [f"recovery_odds_{days}d{end}" for days in ODDS_WITHIN_DAYS for end in ("", "_low", "_high")]
    return dict.fromkeys([*names, "recovery_odds_n_at_risk"])


def _required(panel: pd.DataFrame, params: Params) -> dict[str, float]:
    pairs = (params.fast_days, params.slow_days)
    return {f"{days}d": required_hash_rate(panel, *pairs, days) for days in REQUIRED_OVER_DAYS}


def _comparable(
    panel: pd.DataFrame, in_state: pd.Series, known: pd.Series, age: int | None, params: Params
) -> dict[str, Any]:
    """Earlier runs of the same state at the same age, and what followed them."""
    days = comparable_days(in_state, known, age) if age else pd.DatetimeIndex([])
    days = days[days >= pd.Timestamp(params.sample_start)]
    returns = comparable_moments(panel, days, params) if age else []
    return {"age_days": age, "days": [day.date().isoformat() for day in days], "log_returns": returns}


def _json_ready(value: Any) -> Any:
    """Plain JSON types: numbers of numpy unwrapped, days as ISO text, whatever is not finite as None."""
    if isinstance(value, dict):
        return {str(key): _json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, pd.Timestamp):
        return None if value is pd.NaT else value.date().isoformat()
    if value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
