"""The answer on one screen, in plain words: where we stand, what followed, how sure that is, what to watch.

Everything is computed from the results of a run, so index, report and the text for an e-mail say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from capitulation.mining.rules import RULES
from capitulation.study.chance import LEVEL
from capitulation.study.present import GRADE_WORDS, State, at_least, facts, hash_rate_text, to_watch
from capitulation.words import (
    ANCHOR_WORDS,
    OF_CAPITULATIONS,
    ONE_ANCHOR,
    between,
    count,
    exactly,
    odds_text,
    p_text,
    percent,
    signed,
)

PRESENT_RULE = "hash_ribbons"  # which the state goes by
STANDS = {"expansion": "above", "capitulation": "below", "recovering": "below"}
LEARNT = {"next adjustment": "The next adjustment of difficulty", "over in 30 days": "Odds that it ends within 30 days"}
LEARNT |= {"new capitulation in 30 days": "Odds of a new capitulation within 30 days"}


class Answer(NamedTuple):
    """A reader's question, the answer in a sentence, and the sentences that stand behind it."""

    question: str
    answer: str
    behind: list[str]


def answers(
    state: State,
    headline: Mapping[str, Any],
    graded: pd.DataFrame,
    *,
    fast_days: int,
    slow_days: int,
    confidence: float,
    age_days: float | None = None,
) -> list[Answer]:
    """The answers that the results of a run can give, in the order in which they are read.

    `state` as from `present_state`, `headline` as in headline.json, `graded` as forward_returns_by_grade.csv; each may
    be empty. `fast_days`, `slow_days`: the means of the state. `confidence`: of the intervals in `headline`.
    `age_days`: how old the data are.
    """
    primary = headline.get("primary", {})
    rows = facts(state).set_index("label") if state else pd.DataFrame()
    told = [where_we_stand(state, rows, fast_days, slow_days, age_days)] if state else []
    if primary.get("n_events"):
        if len(graded):
            asked = (graded["anchor"] == primary["anchor"]) & (graded["horizon_days"] == primary["horizon_days"])
            graded = graded[asked].set_index("grade")
        told += [
            what_followed(primary, graded, headline.get("sample_start", "")),
            how_sure(primary, graded, headline["p_column"], confidence),
        ]
    return [*told, what_to_watch(state, rows)] if state else told


def where_we_stand(state: State, rows: pd.DataFrame, fast_days: int, slow_days: int, age_days: float | None) -> Answer:
    """The state of the ribbons since when, with price and hash rate, their day, and how old it is.

    `rows`: the facts of `state` by their labels.
    """
    name, question = state["ribbon_state"], "Where do we stand?"
    known = state["days_in_state"] is not None
    answer = f"Not known: {state['unknown_because']}."
    if known:
        since = f"since {state['state_since']}" + " or earlier" * state["days_in_state_at_least"]
        means = f"the {fast_days}-day mean of hash rate has been {STANDS[name]} its {slow_days}-day mean"
        rising = ", and now rises" if name == "recovering" else ""
        answer = f"{name.capitalize()}, {at_least(state)}day {state['days_in_state']}: {since} {means}{rising}."
    old = f", {count(round(age_days), 'day')} ago" if age_days else ""
    fall = state["hash_rate_drawdowns"]["30d"]
    parts = [f"BTC closed at {rows['value']['price']}"] if state["price_usd"] else []
    if fall["mean_ehs"]:
        peak = "its highest so far"
        if fall["drawdown"]:
            peak = f"{percent(-fall['drawdown'])} below its peak of {fall['peak_date']}"
        parts.append(f"hash rate (30-day mean) was {hash_rate_text(fall['mean_ehs'])}, {peak}")
    answer += f" On {state['as_of']}{old}, {' and '.join(parts)}." if parts else ""
    behind = []
    if known and state["gap_z"] is not None:
        side = "within" if abs(state["gap_z"]) <= 2 else "beyond"
        behind.append(
            f"The gap between the two means is {percent(state['gap'], 1, True)}, {side} what luck in finding blocks "
            f"explains (its standard error is {percent(state['gap_se'], 1)})."
        )
    if state["grade"]:
        whose = "The capitulation before" if name == "expansion" else "This capitulation so far"
        behind.append(f"{whose} was {state['grade']}: {GRADE_WORDS[state['grade']]}.")
    return Answer(question, answer, behind)


def _rose(row: Mapping[str, Any], anchor: str) -> str:
    """`6 of 7 recoveries`: how many events at `anchor` were followed by a gain."""
    n = round(row["n_events"])
    return f"{round(row['hit_rate'] * n)} of {count(n, ONE_ANCHOR[anchor], ANCHOR_WORDS[anchor])}"


def what_followed(primary: Mapping[str, Any], graded: pd.DataFrame, since: str) -> Answer:
    """How often BTC was higher after the signals, those of real and of noise-like capitulations apart, and any day."""
    anchor, days = primary["anchor"], primary["horizon_days"]
    rule = primary["definition"]
    higher = f"{f'Since {since[:4]} ' if since else ''}BTC was higher {days} days after"
    if rule != PRESENT_RULE:
        higher = f"Capitulations by the rule {RULES[rule].words}: {higher}"
    own = f"{_rose(primary, anchor)} (median {percent(primary['median'], 0, True)})"
    any_day = f"{percent(primary['base_hit_rate'])} of all days (median {percent(primary['base_median'], 0, True)})"
    known = {name: row for name, row in graded.iterrows() if row["n_events"] and name in GRADE_WORDS}
    of = OF_CAPITULATIONS[anchor]
    split = [
        f"{_rose(known[name], anchor)} {of} {name} capitulations (median {percent(known[name]['median'], 0, True)})"
        for name in ("real", "noise-like")
        if name in known
    ]
    if not split:
        return Answer("What followed?", f"{higher} {own}, and after {any_day}.", [])
    behind = [f"All together: higher after {own}."]
    if "doubtful" in known:
        behind[0] = (
            f"{behind[0][:-1]}; {_rose(known['doubtful'], anchor)} {of} doubtful ones, which lie between the two."
        )
    behind.append(
        "Noise-like: hash rate seemed to fall no further than luck in finding blocks explains; real: far beyond it. "
        "The grade of a capitulation is known on the day that it ends."
    )
    return Answer("What followed?", f"{higher} {', after '.join(split)}, and after {any_day}.", behind)


def how_sure(primary: Mapping[str, Any], graded: pd.DataFrame, p_column: str, confidence: float) -> Answer:
    """What chance gives: the exact rotation test of the excess over the own era, its interval, what could be seen."""
    p, what, days = primary[p_column], ANCHOR_WORDS[primary["anchor"]], primary["horizon_days"]
    if p is None:
        return Answer("How sure is that?", f"Not known: the {what} are too few, or the days too alike, to test.", [])
    as_well = f"the same pattern moved to other dates does as well in {odds_text(p)} of cases"
    answer = f"Surer than chance: {as_well}" if p <= LEVEL else f"It cannot be told from chance: {as_well}"
    two = "_two_sided" if "two_sided" in p_column else ""
    of_real = graded.loc["real"] if "real" in graded.index and pd.notna(graded.loc["real", f"p{two}"]) else {}
    if len(of_real):
        again = "do not stand out" + " either" * (p > LEVEL)
        if of_real[f"p_family{two}"] <= LEVEL:
            again = "stand out by themselves"
        answer += f"; the real ones {again} (once every look is counted, {p_text(of_real[f'p_family{two}'])})"
    low, high = primary["ci_low_own_era"], primary["ci_high_own_era"]
    sure = [f"{exactly(confidence)} interval {between(low, high)}"] if None not in (low, high) else []
    excess, sure = primary["excess_own_era"], "; ".join([*sure, p_text(p)])
    behind = [
        f"Excess over the average day of the same halving era: {signed(excess)} in log return over {days} days, about "
        f"{percent(np.expm1(excess), 0, True)} ({sure}). "
        f"Outcomes overlap: the {what} tell as much as "
        f"{count(round(primary['n_effective']), 'separate event')}."
    ]
    if primary.get("min_detectable_log") is not None:
        effect = percent(np.expm1(primary["min_detectable_log"]), 0, True)
        behind.append(f"Only an effect of about {effect} or more would be found in four of five such histories.")
    if len(of_real):
        behind.append(
            f"The split by grade was made after looking; alone the real ones have {p_text(of_real[f'p{two}'])}."
        )
    return Answer("How sure is that?", f"{answer}.", behind)


def what_to_watch(state: State, rows: pd.DataFrame) -> Answer:
    """What would change the state, and what is said of the next weeks; `rows`: the facts of `state` by their labels."""
    watch = [f"{sentence[0].upper()}{sentence[1:]}." for sentence in reversed(to_watch(state))]
    later = [f"{what}: {rows['text'][label]}." for label, what in LEARNT.items() if label in rows.index]
    told = [*watch, *later] or ["Nothing can be said of the next weeks."]
    return Answer("What to watch?", told[0], told[1:])


def summary(title: str, told: list[Answer], more: list[str]) -> str:
    """The answers as a text of at most ten lines for the body of an e-mail: `title`, a line each, then `more`."""
    lines = [title, "", *(f"{one.question} {one.answer}" for one in told), *more]
    return "\n".join(lines[:10]) + "\n"
