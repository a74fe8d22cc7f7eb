"""Where things stand on the panel's last day: state, noise, economics, odds, and what followed comparable moments.

Everything comes from the panel as given, so a panel that is cut at a past day gives what could have been said then.
`present_state` measures; `facts` puts it into words once, for the page's table, the terminal and the index alike.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import pandas as pd

from capitulation.mining.difficulty import next_adjustment
from capitulation.mining.economics import economics, rigs_under_water
from capitulation.mining.episodes import episodes, n_clusters, runs
from capitulation.mining.hashrate import drawdown, drawdown_se, hash_ribbons, ribbon_state, rolling_mean
from capitulation.study.chance import rotation_test
from capitulation.study.duration import recovery_odds
from capitulation.study.events import HORIZONS
from capitulation.study.returns import SINCE, event_marks, outcomes
from capitulation.words import count, p_text, percent, signed

State = Mapping[str, Any]

ODDS = {days: [f"recovery_odds_{days}d{end}" for end in ("", "_low", "_high")] for days in (30, 60, 90)}
REQUIRED_DAYS = (7, 14, 30)
DRAWDOWN_DAYS = (30, 7)
HISTORY_DAYS = 60
SHOWN_HORIZON = 90
QUANTILES = {"worst": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "best": 1.0}
DASH = "–"
CARD = ("price", "gap", "30-day mean vs peak", "next adjustment", "hashprice", "rigs at a loss", "over in 30 d")

EXIT_CODES = {"expansion": 0, "capitulation": 10, "recovering": 11, "unknown": 12}
BARS = "▁▂▃▄▅▆▇█"
RED, GREEN, BOLD, RESET = "\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[0m"
STATE_COLOURS = {"expansion": GREEN, "capitulation": RED, "recovering": "\x1b[33m", "unknown": ""}


def required_hash_rate(panel: pd.DataFrame, fast_days: int, slow_days: int, over_days: int) -> float:
    """Mean hash rate (EH/s) over the next `over_days` days at which both means meet on the last of them.

    With F and S the sums of the last fast - k and slow - k known days, k = over_days, it solves (F + min(k, fast) * H)
    / fast = (S + k * H) / slow for H. Missing where a needed day is, k reaches slow, or no positive hash rate does it.
    """
    rate = panel["hash_rate_ehs"].to_numpy(dtype=float)
    if over_days >= slow_days or len(rate) < slow_days:
        return math.nan
    fast_sum = rate[len(rate) - max(fast_days - over_days, 0) :].sum()
    slow_sum = rate[len(rate) - (slow_days - over_days) :].sum()
    weight = min(over_days, fast_days) / fast_days - over_days / slow_days
    needed = (slow_sum / slow_days - fast_sum / fast_days) / weight
    return float(needed) if needed > 0 else math.nan


def _what_followed(panel: pd.DataFrame, days: pd.DatetimeIndex, horizon: int, lag: int, since: str) -> dict[str, Any]:
    """Quantiles of the known log returns after `days`, share of gains, both of any day (`base_`), and rotation p."""
    every = outcomes(panel, horizon, lag, since)
    after = every[event_marks(every.index, days)]
    row = {"horizon_days": horizon, "n": len(after), "n_clusters": n_clusters(after.index, horizon)}
    row |= {name: after.quantile(q) for name, q in QUANTILES.items()}
    row |= {"hit_rate": (after > 0).mean(), "base_median": every.median(), "base_hit_rate": (every > 0).mean()}
    return row | {"p_rotation": rotation_test(every, days).p}


def present_state(
    panel: pd.DataFrame,
    *,
    fast_days: int = 30,
    slow_days: int = 60,
    horizons: Iterable[int] = HORIZONS,
    lag: int = 1,
    since: str = SINCE,
    power_price_usd_kwh: float = 0.07,
    confidence: float = 0.95,
    min_days: int = 0,
    min_depth_z: float = 0.0,
) -> dict[str, Any]:
    """state.json: the present in JSON types, missing values as None; fractions, not percents, and log returns.

    Of the keys these do not explain themselves: `days_in_state` (recovering days belong to the capitulation) and
    `days_unknown` (of these), `gap_history` (last 60 days), `hash_rate_ehs` (fast mean), `hash_rate_drawdowns` by
    length of mean, `hashprice` (USD per PH/s and day), `recovery_odds_30d` and so on (None outside a capitulation),
    `required_hash_rate_ehs` by days ahead, `comparable` (what followed when earlier runs of the state were as old).

    `min_days` and `min_depth_z` choose the past episodes from which odds and comparable moments come (an expansion
    counts where the episode before it does); they look at whole episodes, the present one is never left out.

    >>> present_state(panel)["as_of"] == str(panel.index[-1].date())
    True
    """
    ribbon, windows = hash_ribbons(panel, fast_days, slow_days), {"fast_days": fast_days, "slow_days": slow_days}
    last, name = ribbon.iloc[-1], ribbon_state(ribbon).iloc[-1]
    capitulating, known = name in ("capitulation", "recovering"), name != "unknown"
    in_state = ribbon["inverted"] if capitulating else ~ribbon["inverted"]
    now = runs(in_state).iloc[-1] if known else {"days": None, "start": None}
    kept = episodes(ribbon["inverted"], panel, min_days=min_days, min_depth_z=min_depth_z, **windows)
    past, moments = kept if capitulating else runs(in_state), pd.DatetimeIndex([])
    if not capitulating and (min_days or min_depth_z):
        past = past[past["start"].isin(kept["end"])]
    if known:
        as_old = past.loc[~past["ongoing"] & (past["days"] >= now["days"]), "start"]
        moments = pd.DatetimeIndex(as_old + pd.Timedelta(days=now["days"] - 1))
        moments = moments[moments >= since]
    odds = dict.fromkeys([*chain(*ODDS.values()), "recovery_odds_n_at_risk"])
    if capitulating:
        table = recovery_odds(kept, now["days"], ODDS, confidence)
        figures = [*table[["odds", "low", "high"]].to_numpy().ravel(), table["n_at_risk"].iloc[0]]
        odds = dict(zip(odds, figures, strict=True))
    falls = {}
    for days in DRAWDOWN_DAYS:
        mean, se = rolling_mean(panel["hash_rate_ehs"], days), drawdown_se(panel, days).iloc[-1]
        peak = {"peak_ehs": mean.max(), "peak_date": mean.idxmax() if mean.notna().any() else None}
        fall = {"drawdown": drawdown(panel, days).iloc[-1], "se": se}
        falls[f"{days}d"] = {"mean_ehs": mean.iloc[-1], **peak, **fall}
    coming = {key.replace("change_", ""): value for key, value in next_adjustment(panel, confidence).items()}
    money, rigs = economics(panel.tail(400)).iloc[-1], rigs_under_water(panel.tail(30), power_price_usd_kwh)
    under, filled = rigs["under_water"].astype(bool), panel["hash_rate_ehs"].tail(slow_days).notna().sum()
    state = {
        "as_of": panel.index[-1],
        "price_usd": panel["price_usd"].iloc[-1],
        "ribbon_state": name,
        "state_since": now["start"],
        "days_in_state": now["days"],
        "days_unknown": in_state.loc[now["start"] :].isna().sum() if known else None,
        "unknown_because": None if known else f"hash rate is known on {filled} of the last {slow_days} days",
        **last[["gap", "gap_se", "gap_z"]],
        "gap_history": ribbon["gap"].tail(HISTORY_DAYS).tolist(),
        "hash_rate_ehs": last["fast"],
        "hash_rate_drawdown": falls["30d"]["drawdown"],
        "hash_rate_drawdowns": falls,
        "next_retarget": dict.fromkeys(("date", "change", "low", "high")) | coming,
        "hashprice": money["hashprice_usd_ph_day"],
        "hashprice_btc": money["hashprice_btc_ph_day"],
        "puell_multiple": money["puell_multiple"],
        "fleet": {
            "power_price_usd_kwh": power_price_usd_kwh,
            "n_rigs": len(rigs),
            "n_under_water": under.sum(),
            "share_under_water": under.mean(),
            "under_water": rigs.index[under].tolist(),
            "breakeven_usd_kwh": rigs["breakeven_usd_kwh"].to_dict(),
        },
        **odds,
        "required_hash_rate_ehs": {f"{k}d": required_hash_rate(panel, **windows, over_days=k) for k in REQUIRED_DAYS},
        "comparable": {
            "age_days": now["days"],
            "days": list(moments),
            "log_returns": [_what_followed(panel, moments, days, lag, since) for days in horizons] if known else [],
        },
        "confidence": confidence,
    }
    text = json.dumps(state, default=lambda x: x.item() if hasattr(x, "item") else x.date().isoformat())
    return json.loads(text, parse_constant=lambda _: None)  # NaN and infinities: unknown


def facts(state: State) -> pd.DataFrame:
    """The present in words, a fact a row, in the order in which they are told; `state` as from `present_state`.

    Columns: label (short, for terminal and index); quantity (in full, for the page's table; empty where the table
    leaves it out); value (a dash where not known); uncertainty (how sure, or since when); text (both).
    """

    def number(value: float | None, unit: str, small: str = ".3g", large: str = ",.0f") -> str:
        """Whole where it is large, significant figures in the years when network and price were small."""
        return DASH if value is None else f"{value:{large if value >= 100 else small}} {unit}".replace("-", "−")

    unknown, age, rigs, coming = map(state.get, ("days_unknown", "days_in_state", "fleet", "next_retarget"))
    since = f"since {state['state_since']}" if state["state_since"] else ""
    since += f", {count(unknown, 'day')} of these not known" if unknown else ""
    gap_error = f"standard error {percent(state['gap_se'], 2)}, z {signed(state['gap_z'], 1)}"
    rows = [
        ("state", "ribbon state", state["ribbon_state"], ""),
        ("age", "days in state", DASH if age is None else str(age), since),
        ("price", "", number(state["price_usd"], "USD", ".4g"), ""),
        ("gap", "gap between the means", percent(state["gap"], 2, True), "" if state["gap"] is None else gap_error),
    ]
    for name, fall in state["hash_rate_drawdowns"].items():
        mean = f"{name.removesuffix('d')}-day mean"
        error = f"standard error {percent(fall['se'], 1)}, peak on {fall['peak_date']}" if fall["peak_date"] else ""
        full = f"fall of the {mean} hash rate from its peak"
        rows.append((f"{mean} vs peak", full, percent(fall["drawdown"], 1), error))
    change, low, high = (percent(coming.get(end), 1, True) for end in ("change", "low", "high"))
    when = f"{low} to {high}, about {coming.get('date')}" if DASH not in (low, high) else ""
    losing = f"{rigs['n_under_water']} of {rigs['n_rigs']}" if rigs["n_rigs"] else DASH
    rows += [
        ("next adjustment", "next difficulty adjustment", change, when),
        ("hashprice", "hashprice", number(state["hashprice"], "USD per PH/s and day", ",.2f", ",.2f"), ""),
        ("rigs at a loss", "rig models under water", losing, f"at {rigs['power_price_usd_kwh']:g} USD/kWh"),
        ("Puell multiple", "Puell multiple", number(state["puell_multiple"], "", ".2f", ".2f"), ""),
    ]
    mean_now = f"fast mean now {number(state['hash_rate_ehs'], 'EH/s')}"
    for name, needed in state["required_hash_rate_ehs"].items():
        days = name.removesuffix("d")
        full = f"mean hash rate of the next {days} days at which the means meet"
        rows.append((f"means meet, {days} d", full, number(needed, "EH/s"), "" if needed is None else mean_now))
    for row in odds_table(state).itertuples():
        seen = f"{percent(row.low)} to {percent(row.high)}, {count(row.n_at_risk, 'past episode')} of this age"
        rows.append((f"over in {row.within_days} d", "", percent(row.odds), seen))
    if known := [row for row in state["comparable"]["log_returns"] if row["n"]]:
        row = min(known, key=lambda item: abs(item["horizon_days"] - SHOWN_HORIZON))
        median, base = (percent(math.expm1(row[key]), 0, True) for key in ("median", "base_median"))
        after = f"{row['horizon_days']} days after {count(row['n'], 'such moment')}, {p_text(row['p_rotation'])}"
        rows.append(("what followed", "", f"median {median}, any day {base}", after))
    table = pd.DataFrame(rows, columns=["label", "quantity", "value", "uncertainty"])
    return table.assign(text=[f"{row[2]} ({row[3]})" if row[3] else row[2] for row in rows])


def card_facts(state: State) -> list[tuple[str, str]]:
    """Label and text of the known facts that the report's first page shows."""
    return [(row.label, row.text) for row in facts(state).itertuples() if row.label in CARD and row.value != DASH]


def odds_table(state: State) -> pd.DataFrame:
    """recovery_odds.csv: within_days, odds, low, high, n_at_risk; no rows outside a capitulation or without odds."""
    rows = [(days, *map(state.get, keys)) for days, keys in ODDS.items()]
    table = pd.DataFrame(rows, columns=["within_days", "odds", "low", "high"]).dropna(subset="odds")
    return table.assign(n_at_risk=state["recovery_odds_n_at_risk"])


def status_code(state: State) -> int:
    """Exit code for scripts: 0 expansion, 10 capitulation, 11 recovering, 12 unknown, `simulated` or `stale` data."""
    return EXIT_CODES["unknown" if state.get("simulated") or state.get("stale") else state["ribbon_state"]]


def status_text(state: State, colour: bool = False) -> str:
    """The present in a terminal: a headline, the gap's last 60 days as bars, a line per known fact.

    `state` as from `present_state`; `source` and `simulated` (what the data are), `age_days` (how old) and `notes`
    (sentences on the data) may be added. ANSI colours where `colour`.
    """
    table, name = facts(state), state["ribbon_state"]
    shown = f"{STATE_COLOURS[name]}{BOLD}{name.upper()}{RESET}" if colour else name.upper()
    age = f"day {table['value'][1]} {table['uncertainty'][1]}" if state["days_in_state"] else state["unknown_because"]
    known = table[2:][~table["value"][2:].str.startswith(DASH)]
    gaps = pd.Series(state["gap_history"], dtype=float)
    heights = (gaps - gaps.min()) / ((gaps.max() - gaps.min()) or 1.0) * (len(BARS) - 1)
    bars = [" " if math.isnan(height) else BARS[round(height)] for height in heights]
    if colour:
        bars = [f"{RED if gap < 0 else GREEN}{bar}{RESET}" for gap, bar in zip(gaps, bars, strict=True)]
    rows = [("last 60 days", "".join(bars) if gaps.notna().any() else "")]
    rows += zip(known["label"], known["text"].str.strip(), strict=True)
    old = f", {state['age_days']:.0f} days old" if state.get("age_days") else ""
    rows += [("data", state["source"] + old)] if state.get("source") else []
    rows += [("note", str(note)) for note in state.get("notes") or ()]
    width = max(len(label) for label, _ in rows) + 2
    head = f"{'SIMULATED DATA: ' * bool(state.get('simulated'))}Bitcoin miners on {state['as_of']}: {shown}, {age}"
    return "\n".join([head, *(f"  {label:<{width}}{text}" for label, text in rows if text)])
