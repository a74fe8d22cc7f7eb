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

import numpy as np
import pandas as pd

from capitulation.mining.difficulty import next_adjustment
from capitulation.mining.economics import economics, rigs_under_water
from capitulation.mining.episodes import ONE_DAY, episodes, grade, lowest_at, n_clusters, runs
from capitulation.mining.hashrate import (
    KNOWN_SHARE,
    drawdown,
    drawdown_se,
    hash_ribbons,
    pulse,
    ribbon_state,
    rolling_mean,
)
from capitulation.study.chance import rotation_test
from capitulation.study.duration import RELAPSE_DAYS, WITHIN, recovery_odds, relapse, turn_odds
from capitulation.study.events import HORIZONS, by_grade
from capitulation.study.returns import SINCE, event_marks, outcomes
from capitulation.words import count, exactly, odds_text, p_text, percent, signed, stretches

State = Mapping[str, Any]

ODDS = {days: [f"recovery_odds_{days}d{end}" for end in ("", "_low", "_high")] for days in WITHIN}
REQUIRED_DAYS = (7, 14, 30)
DRAWDOWN_DAYS = (30, 7)
HISTORY_DAYS = 60
WATCHED_DAYS = 90  # how long a new recovery is watched for a relapse
TURN_DAYS = 14
CLOCK = ["from_time", "to_time"]
HASH_RATES = {"EH/s": 1, "PH/s": 1e3, "TH/s": 1e6, "GH/s": 1e9}
QUANTILES = {"worst": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "best": 1.0}
GRADE_WORDS = {"real": "beyond three", "doubtful": "between two and three", "noise-like": "within two"}
GRADE_WORDS = {name: f"lowest gap {words} standard errors of block luck" for name, words in GRADE_WORDS.items()}
DASH, NOT_KNOWN = "–", "not known"
WATCH = ("to watch", "to watch also")
CARD = ("price", "gap", "30-day mean vs peak", "next adjustment", "hashprice", "rigs at a loss", "over in 30 days")
CARD += ("new capitulation in 30 days", "relapse in 30 days", *WATCH)

EXIT_CODES = {"expansion": 0, "capitulation": 10, "recovering": 11, "unknown": 12}
BARS = "▁▂▃▄▅▆▇█"
RED, GREEN, BOLD, RESET = "\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[0m"
STATE_COLOURS = {"expansion": GREEN, "capitulation": RED, "recovering": "\x1b[33m", "unknown": ""}


def required_hash_rate(panel: pd.DataFrame, fast_days: int, slow_days: int, over_days: int) -> float:
    """Mean hash rate (EH/s) over the next `over_days` days at which both means meet on the last of them.

    With F and S the sums of the last fast - k and slow - k days, k = over_days, it solves (F + min(k, fast) * H) / fast
    = (S + k * H) / slow for H; of days that are missing neither sum nor number is counted. Missing where k reaches
    slow, no positive hash rate does it, or over a tenth of a window is.
    """
    sums, shares = [], []
    for days in (fast_days, slow_days):
        rate, ahead = panel["hash_rate_ehs"].tail(max(days - over_days, 0)), min(over_days, days)
        n = rate.count() + ahead
        if over_days >= slow_days or len(panel) < slow_days or n < KNOWN_SHARE * days:
            return math.nan
        sums.append(rate.sum() / n)
        shares.append(ahead / n)
    needed = (sums[1] - sums[0]) / (shares[0] - shares[1])
    return float(needed) if needed > 0 else math.nan


def _what_followed(panel: pd.DataFrame, days: pd.DatetimeIndex, horizon: int, lag: int, since: str) -> dict[str, Any]:
    """Quantiles of the known log returns after `days`, share of gains, both of any day (`base_`), and rotation p."""
    every = outcomes(panel, horizon, lag, since)
    after = every[event_marks(every.index, days)]
    row = {"horizon_days": horizon, "n": len(after), "n_clusters": n_clusters(after.index, horizon)}
    row |= dict(zip(QUANTILES, after.quantile([*QUANTILES.values()]), strict=True))
    row |= {"hit_rate": (after > 0).mean(), "base_median": every.median(), "base_hit_rate": (every > 0).mean()}
    return row | {"p_rotation": rotation_test(every, days).p}


def _grades(ribbon: pd.DataFrame, past: pd.DataFrame, capitulating: bool) -> list[Any]:
    """Grade as known on each `day` of a run from `start`: of the capitulation so far, else of the one that it ended."""
    first, until = past["start"], past["day"]
    if not capitulating:
        began = runs(ribbon["inverted"]).dropna(subset="end").set_index("end")["start"].reindex(first)
        first, until = began.fillna(first.max()), first - ONE_DAY  # the panel's first run may have ended none
    begin, stop = ribbon.index.searchsorted(first), ribbon.index.searchsorted(until, side="right")
    at = lowest_at(ribbon["gap"].to_numpy(), begin, stop)
    return grade(pd.Series(np.append(ribbon["gap_z"], np.nan)[at])).tolist()


def _unknown_days(panel: pd.DataFrame, state: pd.Series, start: Any, slow_days: int) -> dict[str, Any]:
    """What is not known of the run since `start` (missing where the last day's state is), and which hash rates lack."""
    rate, known = panel["hash_rate_ehs"], pd.notna(start)
    given, first = rate.tail(slow_days).count(), panel.index[-min(slow_days, len(panel))]
    within, before = (state[start:].isna().sum(), state[: start - ONE_DAY]) if known else (None, state[:0])
    at_least = known and (before.empty or pd.isna(before.iloc[-1]))
    if at_least or within:
        first = (before.last_valid_index() or panel.index[0]) - slow_days * ONE_DAY
    return {
        "days_unknown": within,
        "days_in_state_at_least": bool(at_least),
        "unknown_because": None if known else f"hash rate is known on {given} of the last {slow_days} days",
        "hash_rate_days_missing": slow_days - given,
        "hash_rate_missing_on": stretches(panel.index[rate.isna() & (panel.index >= first)]),
    }


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
    primary_days: int = 90,
    blocks: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """state.json: the present in JSON types, missing values as None; fractions, not percents.

    Of the keys these do not explain themselves: `days_in_state` (recovering days belong to the capitulation),
    `days_unknown` (of these) and `days_in_state_at_least` (whether it may have begun earlier, as the state of the day
    before is unknown), `gap_history` (last 60 days), `hash_rate_ehs` (fast mean), `hash_rate_drawdowns` by
    length of mean, `hashprice` (USD per PH/s and day), `turn_odds` (that the ribbons turn within so many days, by
    `duration.turn_odds`), `recovery_odds_30d` and so on (by the age of a capitulation alone, None outside one),
    `required_hash_rate_ehs` by days ahead, `comparable` (what followed when earlier runs of the state were as old:
    `log_returns` beside any day; `by_grade` in simple returns and own-era excess, as `events.by_grade`; words speak of
    the horizon nearest to `primary_days`), `grade` (of the capitulation so far, in an expansion of the one it ended),
    `relapse` (rows of `duration.relapse`), `relapse_ahead` (in the first 90 days of an expansion: of earlier recoveries
    of its grade that held as long, how many relapsed within 90 days), `hash_rate_days_missing` (of the slow window),
    `hash_rate_missing_on` (these and those on which unknown days of the run hang, in words), `last_known` (days),
    `pulse` (rows of `hashrate.pulse`, times in ISO; None without the last `blocks`, as `data.headers.blocks`, or with
    too few).

    `min_days` and `min_depth_z` choose the past episodes from which odds, relapses and comparable moments come (an
    expansion counts where the episode before it does); they look at whole episodes, the present one is never left out.

    >>> present_state(panel)["as_of"] == str(panel.index[-1].date())
    True
    """
    ribbon, windows = hash_ribbons(panel, fast_days, slow_days), {"fast_days": fast_days, "slow_days": slow_days}
    last, name, horizons = ribbon.iloc[-1], ribbon_state(ribbon).iloc[-1], list(horizons)
    capitulating, known = name in ("capitulation", "recovering"), name != "unknown"
    in_state = ribbon["inverted"] if capitulating else ~ribbon["inverted"]
    kept = episodes(ribbon["inverted"], panel, min_days=min_days, min_depth_z=min_depth_z, **windows)
    now, ahead = {"days": None, "start": None, "grade": None}, None
    moments = pd.DataFrame({"day": pd.DatetimeIndex([]), "grade": []})
    if known:
        past = runs(in_state)
        days, sampled = past["days"].iloc[-1], past["start"] >= (since or "1900")
        past = past.assign(day=past["start"] + (days - 1) * ONE_DAY)
        past["grade"] = _grades(ribbon, past, capitulating)
        now, as_old = past.iloc[-1], ~past["ongoing"] & (past["days"] >= days)
        if min_days or min_depth_z:
            as_old &= past["start"].isin(kept["start" if capitulating else "end"])
        moments = past[as_old & (past["day"] >= (since or "1900"))]
        if not capitulating and days <= WATCHED_DAYS:
            alike = past.loc[as_old & sampled & (past["grade"] == now["grade"]), "days"]
            ahead = {"within_days": WATCHED_DAYS, "n": len(alike), "relapsed": (alike <= WATCHED_DAYS).sum()}
    graded = pd.DataFrame()
    if len(moments):
        graded = by_grade(panel, moments, horizons, lag, since, confidence=confidence, anchors={"moment": "day"})
        graded = graded.drop(columns="anchor")
    last_day, dark = ribbon["inverted"].last_valid_index() or pd.NaT, ribbon.index[ribbon["inverted"].isna()]
    again = relapse(kept, last_day, since=since, confidence=confidence, unknown=dark)
    odds = dict.fromkeys([*chain(*ODDS.values()), "recovery_odds_n_at_risk"])
    if capitulating:
        table = recovery_odds(kept, now["days"], ODDS, confidence)
        figures = [*table[["odds", "low", "high"]].to_numpy().ravel(), table["n_at_risk"].iloc[0]]
        odds = dict(zip(odds, figures, strict=True))
    turning, falls = turn_odds(panel, **windows, since=f"{panel.index[-1]:%Y-%m-%d}").iloc[-1], {}
    for days in DRAWDOWN_DAYS:
        mean, fallen = rolling_mean(panel["hash_rate_ehs"], days), drawdown(panel, days).iloc[-1]
        peak = {"peak_ehs": mean.max(), "peak_date": mean.idxmax() if mean.notna().any() else None}
        error = drawdown_se(panel, days).iloc[-1]
        falls[f"{days}d"] = {"mean_ehs": mean.iloc[-1], **peak, "drawdown": fallen, "se": error}
    coming = {key.replace("change_", ""): value for key, value in next_adjustment(panel, confidence, since).items()}
    history, rigs = economics(panel.tail(400)), rigs_under_water(panel.tail(30), power_price_usd_kwh)
    money, inputs = history.iloc[-1], panel[["price_usd", "hash_rate_ehs", "height"]]
    under = rigs["under_water"].astype(bool)
    beats = pd.DataFrame(columns=CLOCK) if blocks is None else pulse(blocks, confidence=confidence)
    state = {
        "as_of": panel.index[-1],
        "price_usd": panel["price_usd"].iloc[-1],
        "ribbon_state": name,
        "state_since": now["start"],
        "days_in_state": now["days"],
        **_unknown_days(panel, ribbon["inverted"], now["start"], slow_days),
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
        "turn_odds": turning.rename(lambda name: name.removeprefix("odds_")).to_dict(),
        **odds,
        "required_hash_rate_ehs": {
            f"{k}d": required_hash_rate(panel, **windows, over_days=k) for k in REQUIRED_DAYS if k < slow_days
        },
        "comparable": {
            "age_days": now["days"],
            "days": moments["day"].tolist(),
            "log_returns": [_what_followed(panel, moments["day"], k, lag, since) for k in horizons] if known else [],
            "grades": moments["grade"].tolist(),
            "by_grade": graded.to_dict("records"),
            "primary_horizon_days": primary_days,
        },
        "confidence": confidence,
        "grade": now["grade"],
        "relapse": again.to_dict("records"),
        "relapse_ahead": ahead,
        "last_known": {column: inputs[column].last_valid_index() for column in inputs}
        | {"hashprice": history["hashprice_usd_ph_day"].last_valid_index()},
        "pulse": beats.assign(**beats[CLOCK].map(pd.Timestamp.isoformat)).to_dict("records") or None,
    }
    text = json.dumps(state, default=lambda x: x.item() if hasattr(x, "item") else x.date().isoformat())
    return json.loads(text, parse_constant=lambda _: None)  # NaN and infinities: unknown


def _number(value: float | None, unit: str, small: str = ".3g", large: str = ",.0f") -> str:
    """Whole where it is large, significant figures in the years when network and price were small."""
    return DASH if value is None else f"{value:{large if value >= 100 else small}} {unit}".strip().replace("-", "−")


def _span(hours: float, form: str) -> str:
    """A span of time, `22.9 h`, from three days on in days."""
    return f"{hours:{form}} h" if hours < 72 else f"{hours / 24:{form}} days"


def hash_rate_text(ehs: float | None) -> str:
    """A hash rate in the unit of its time: `997 EH/s`, in 2012 `11.5 TH/s`; a dash where it is missing."""
    if ehs is None:
        return DASH
    value, unit = next(((ehs * k, name) for name, k in HASH_RATES.items() if ehs * k >= 1), (ehs * 1e9, "GH/s"))
    return _number(value, unit)


def at_least(state: State) -> str:
    """What stands before a number of days in the state that may be more."""
    return "at least " if state["days_in_state_at_least"] else ""


def shown_moments(state: State) -> pd.DataFrame:
    """What followed comparable moments, a row per grade that has one, at the shown horizon: columns of `by_grade`.

    Of the horizons with a known outcome that is the one nearest to the primary one; empty where there is none.
    """
    known = [row for row in state["comparable"]["by_grade"] if row["n_events"]]
    days = {row["horizon_days"] for row in known}
    nearest = min(days, key=lambda k: abs(k - state["comparable"]["primary_horizon_days"]), default=None)
    return pd.DataFrame([row for row in known if row["horizon_days"] == nearest])


def to_watch(state: State) -> list[str]:
    """What would change the state, in words: the relapse of a young recovery first, then the hash rate that does it."""
    ahead, week, words = state["relapse_ahead"], state["hash_rate_drawdowns"]["7d"]["mean_ehs"], []
    needed = state["required_hash_rate_ehs"].get(f"{TURN_DAYS}d")
    if ahead and ahead["n"]:
        alike = f"of {count(ahead['n'], 'recovery', 'recoveries')} from {state['grade']} capitulations that held"
        were = "was" if ahead["relapsed"] == 1 else "were"
        alike += f" {count(state['days_in_state'], 'day')}, {ahead['relapsed'] or 'none'} {were} followed"
        alike += f" by a new capitulation by day {ahead['within_days']}"
        words.append(alike)
    if needed and week and state["days_in_state"]:
        expanding = state["ribbon_state"] == "expansion"
        turn = "starts" if expanding else "ends"
        sides = ("below", "above") if expanding else ("above", "below")
        turning = (week < needed) == expanding
        pace = f"unless hash rate averages {sides[1]}" if turning else f"if hash rate averages {sides[0]}"
        change = f"{percent(needed / week - 1, 0, True)} on last week"
        words.append(f"capitulation {turn} in {TURN_DAYS} days {pace} {hash_rate_text(needed)} ({change})")
    return words


def facts(state: State) -> pd.DataFrame:
    """The present in words, a fact a row, in the order in which they are told; `state` as from `present_state`.

    Columns: label (short, for terminal and index); quantity (in full, for the page's table; empty where the table
    leaves it out); value (or `not known`); uncertainty (how sure, since when, or why it is not known); text (both).
    """
    unknown, age, rigs, coming = map(state.get, ("days_unknown", "days_in_state", "fleet", "next_retarget"))
    level, no_state = f"{exactly(state['confidence'])} interval", state["unknown_because"] or ""

    def last_known(name: str, what: str) -> str:
        day = state["last_known"][name]
        return f"last known on {day}" if day else f"the data have no {what}"

    since = f"since {state['state_since']}" + " or earlier" * state["days_in_state_at_least"] if age else ""
    since += f", {count(unknown, 'day')} of these not known" if unknown else ""
    if state["hash_rate_missing_on"]:
        holes = f"hash rate missing on {state['hash_rate_missing_on']}"
        since, no_state = f"{since}; {holes}" if since else "", f"{no_state}; {holes}" if no_state else ""
    gap_error = f"{signed(state['gap_z'], 1)} standard errors of {percent(state['gap_se'], 2)}"
    no_price = last_known("price_usd", "price")
    rows = [  # label, quantity, value, uncertainty, why a value is not known (the row is left out without a reason)
        ("state", "state of the miners", state["ribbon_state"], "", ""),
        ("age", "days in state", DASH if age is None else f"{at_least(state)}{age}", since, no_state),
        ("price", "", _number(state["price_usd"], "USD", ".4g"), "", no_price),
        ("gap", "gap between the means", percent(state["gap"], 2, True), gap_error, no_state),
    ]
    for name, fall in state["hash_rate_drawdowns"].items():
        mean = f"{name.removesuffix('d')}-day mean"
        error = f"standard error {percent(fall['se'], 1)}, peak on {fall['peak_date']}"
        full = f"fall of the {mean} hash rate from its peak"
        why = f"too few days of hash rate for a {mean}"
        rows.append((f"{mean} vs peak", full, percent(fall["drawdown"], 1), error, why))
    for beat in state["pulse"] or ():
        took, planned = _span(beat["hours"], ".1f"), _span(beat["expected_hours"], ".3g")
        pace, low, high = (percent(beat[name] - 1, 0, True) for name in ("pace", "pace_low", "pace_high"))
        sure = f"{planned} expected; pace {pace}, {level} {low} to {high}, {p_text(beat['p'])}"
        last = f"last {beat['n_blocks']:,} blocks"
        rows.append((last, f"time that the {last} took", took, sure, ""))
    change, low, high = (percent(coming.get(end), 1, True) for end in ("change", "low", "high"))
    when = f"{level} {low} to {high}, about {coming['date']}"
    if coming.get("record_n"):
        when += f"; it held {percent(coming['record'])} of {coming['record_n']} past ones"
    heights = last_known("height", "block heights")
    heights = "no adjustment in the data yet" if heights.endswith(state["as_of"]) else heights
    losing = f"{rigs['n_under_water']} of {rigs['n_rigs']}"
    hashprice = _number(state["hashprice"], "USD per PH/s and day", ",.2f", ",.2f")
    no_hashprice = last_known("hashprice", "miners' revenue of the last 400 days")
    at_price, no_rig = f"at {rigs['power_price_usd_kwh']:g} USD/kWh", "no rig model of these years is listed"
    if state["hashprice"] is None:
        no_rig = "needs a hashprice of the last 30 days"
        at_price += f" and the hashprice of {state['last_known']['hashprice']}"
    puell = _number(state["puell_multiple"], "", ".2f", ".2f")
    rows += [
        ("next adjustment", "next difficulty adjustment", change, when, heights),
        ("hashprice", "hashprice", hashprice, "", no_hashprice),
        ("rigs at a loss", "rig models under water", losing if rigs["n_rigs"] else DASH, at_price, no_rig),
        ("Puell multiple", "Puell multiple", puell, "", "needs a year of coins and prices up to that day"),
    ]
    last_week = f"last week's {hash_rate_text(state['hash_rate_drawdowns']['7d']['mean_ehs'])}"
    missing = state["hash_rate_days_missing"]
    no_rate = f"hash rate is missing on {count(missing, 'day')} that it needs" if missing else "no hash rate does it"
    for name, needed in state["required_hash_rate_ehs"].items():
        days = name.removesuffix("d")
        full = f"mean hash rate of the next {days} days at which the means meet"
        rows.append((f"means meet, {days} days", full, hash_rate_text(needed), last_week, no_state or no_rate))
    expanding, by_age = state["ribbon_state"] == "expansion", odds_table(state).set_index("within_days")
    for name, odds in list(state["turn_odds"].items())[: 1 if expanding else None] if age else ():
        days, told = int(name.removesuffix("d")), "as hash rate moved on after earlier days"
        if days in by_age.index:
            seen = by_age.loc[days]
            told = f"by age alone {percent(seen['odds'])}, {level} {percent(seen['low'])} to {percent(seen['high'])}"
            told += f", {count(int(seen['n_at_risk']), 'past episode')} of this age"
        why = "less than a year of hash rate to learn from"
        rows.append((f"{'new capitulation' if expanding else 'over'} in {days} days", "", odds_text(odds), told, why))
    whose = "the capitulation before" if expanding else "this capitulation so far"
    deep = GRADE_WORDS.get(state["grade"], "")
    rows.append((f"grade {whose.split()[-1]}", f"grade of {whose}", state["grade"] or DASH, deep, ""))
    again = {row["grade"]: row for row in state["relapse"] if row["within_days"] == RELAPSE_DAYS and row["n"]}
    relapsed = {name: f"{row['relapsed']} of {row['n']}" for name, row in again.items()}
    share, low, high = (percent(again.get("all", {}).get(name)) for name in ("share", "low", "high"))
    told, each = relapsed.pop("all", DASH), ", ".join(f"{name} {words}" for name, words in relapsed.items())
    seen = f"{share}, {level} {low} to {high}; {each}"
    none = f"none that counts lies {RELAPSE_DAYS} days back"
    full = f"recoveries after which the next capitulation began within {RELAPSE_DAYS} days"
    rows.append((f"relapse in {RELAPSE_DAYS} days", full, told, seen, none))
    chosen = shown_moments(state)
    if len(chosen):
        row = chosen.iloc[0]
        seen = f"{row['horizon_days']} days after {count(row['n_events'], 'such moment')}"
        seen += f", {p_text(row['p_family'])} for all looks" if pd.notna(row["p_family"]) else ""
        told = f"median {percent(row['median'], 0, True)}, any day {percent(row['base_median'], 0, True)}"
        rows.append(("what followed", "", told, seen, ""))
    elif age:
        none = "no earlier moment like this has a known outcome" if state["last_known"]["price_usd"] else no_price
        rows.append(("what followed", "", DASH, "", none))
    rows += [(label, "", words, "", "") for label, words in zip(WATCH, to_watch(state), strict=False)]
    told = [
        (label, full, value, sure) if value != DASH else (label, full, NOT_KNOWN, why)
        for label, full, value, sure, why in rows
        if value != DASH or why
    ]
    table = pd.DataFrame(told, columns=["label", "quantity", "value", "uncertainty"])
    return table.assign(text=[f"{row[2]} ({row[3]})" if row[3] else row[2] for row in told])


def card_facts(state: State) -> list[tuple[str, str]]:
    """Label and text of the facts that the report's first page shows."""
    return [(row.label, row.text) for row in facts(state).itertuples() if row.label in CARD]


def odds_table(state: State) -> pd.DataFrame:
    """recovery_odds.csv: within_days, odds, low, high, n_at_risk; no rows outside a capitulation or without odds."""
    rows = [(days, *map(state.get, keys)) for days, keys in ODDS.items()]
    table = pd.DataFrame(rows, columns=["within_days", "odds", "low", "high"]).dropna(subset="odds")
    return table.assign(n_at_risk=state["recovery_odds_n_at_risk"])


def status_code(state: State) -> int:
    """Exit code for scripts: 0 expansion, 10 capitulation, 11 recovering, 12 unknown, as with `stale` data."""
    return EXIT_CODES["unknown" if state.get("stale") else state["ribbon_state"]]


def status_text(state: State, colour: bool = False) -> str:
    """The present in a terminal: a headline, the gap's last 60 days as bars, a line per fact.

    `state` as from `present_state`; `source` and `simulated` (what the data are), `age_days` (how old) and `notes`
    (sentences on the data) may be added. ANSI colours where `colour`.
    """
    table, name = facts(state), state["ribbon_state"]
    age = state["days_in_state"] and f"{at_least(state)}day {state['days_in_state']}"
    age = " ".join(filter(None, (age, table["uncertainty"][1])))
    if state.get("stale"):
        age, name = f"the data are {state['age_days']:.0f} days old ({name} then, {age})", "unknown"
    shown = f"{STATE_COLOURS[name]}{BOLD}{name.upper()}{RESET}" if colour else name.upper()
    gaps = pd.Series(state["gap_history"], dtype=float)
    heights = (gaps - gaps.min()) / ((gaps.max() - gaps.min()) or 1.0) * (len(BARS) - 1)
    bars = [" " if math.isnan(height) else BARS[round(height)] for height in heights]
    if colour:
        bars = [f"{RED if gap < 0 else GREEN}{bar}{RESET}" for gap, bar in zip(gaps, bars, strict=True)]
    rows = [("last 60 days", "".join(bars) if gaps.notna().any() else "")]
    rows += zip(table["label"][2:], table["text"][2:], strict=True)
    old = f", {count(round(state['age_days']), 'day')} old" if state.get("age_days") else ""
    rows += [("data", state["source"] + old)] if state.get("source") else []
    rows += [("note", str(note)) for note in state.get("notes") or ()]
    width = max(len(label) for label, _ in rows) + 2
    head = f"{'SIMULATED DATA: ' * bool(state.get('simulated'))}Bitcoin miners on {state['as_of']}: {shown}, {age}"
    return "\n".join([head, *(f"  {label:<{width}}{text}" for label, text in rows if text)])
