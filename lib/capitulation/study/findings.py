"""The first line of each notebook: its answer in one sentence, computed from its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from capitulation.words import ANCHOR_WORDS, DEFINITION_WORDS, count, p_text, percent, signed

if TYPE_CHECKING:
    from capitulation.study.family import SuperiorRules
    from capitulation.study.prequential import PrequentialScore
    from capitulation.study.specification import CurveTest

VERDICT_WORDS = {
    "reproduced": "could be reproduced",
    "contradicted": "disagree with the data",
    "not distinguishable from chance": "cannot be told from chance",
    "not testable with free data": "cannot be tested with free data",
}


def _day(value: Any) -> str:
    return pd.Timestamp(value).strftime("%Y-%m-%d")


def capitulations(episodes: pd.DataFrame) -> str:
    """How many inversions of the ribbons there were, how many exceed noise, and the latest one.

    `episodes`: the Hash Ribbons rows of the contract's episodes table, in order of time.
    """
    if episodes.empty:
        return "The ribbons have not inverted in this history."
    real = int((episodes["grade"] == "real").sum())
    noise = int((episodes["grade"] == "noise-like").sum())
    last = episodes.iloc[-1]
    ending = "goes on" if last["ongoing"] else f"ended on {_day(last['end'])}"
    return (
        f"The hash ribbons inverted {count(len(episodes), 'time')}: {real} of these are deeper than block luck "
        f"explains (more than 3 standard errors), {noise} are no deeper than noise; the latest began on "
        f"{_day(last['start'])}, "
        f"fell to a gap of {percent(last['depth'], 1)} ({signed(last['depth_z'], 1)} standard errors) and {ending}."
    )


def strategies(table: pd.DataFrame, primary: str) -> str:
    """What the primary strategy earned beside buy and hold, and how many random entry sets it beat.

    `table`: the contract's backtest table with `share_of_random_beaten`; `primary`: the strategy's name in it.
    """
    rows = table.set_index("strategy")
    row, hold = rows.loc[primary], rows.loc["buy_and_hold"]
    what = f"{DEFINITION_WORDS[row['definition']]} {ANCHOR_WORDS[row['anchor']]}"
    return (
        f"Buying on {what} and holding {int(row['hold_days'])} days earned {percent(row['cagr'], 0, True)} a year "
        f"at a Sharpe ratio of {row['sharpe']:.2f} while in the market {percent(row['exposure'])} of the days, "
        f"against {percent(hold['cagr'], 0, True)} and {hold['sharpe']:.2f} for holding throughout; it beat "
        f"{percent(row['share_of_random_beaten'])} of random entry sets with the same exposure, and its deflated "
        f"Sharpe probability over all variants tried is {row['deflated_sharpe']:.2f}."
    )


def claims(table: pd.DataFrame) -> str:
    """The ledger's score. `table`: the contract's claims table."""
    score = table["verdict"].value_counts()
    parts = [f"{score[name]} {words}" for name, words in VERDICT_WORDS.items() if name in score]
    return f"Of {count(len(table), 'published claim')} put to the test, {'; '.join(parts)}."


def present(state: Mapping[str, Any]) -> str:
    """The present state in one sentence. `state`: the contract's state.json."""
    if state["days_in_state"] is None:
        return f"On {state['as_of']} the state of the ribbons is not known: their windows are not full."
    inverted = state["ribbon_state"] in ("capitulation", "recovering")
    what = "capitulation" if inverted else state["ribbon_state"]
    z = "" if state["gap_z"] is None else f" ({signed(state['gap_z'], 1)} standard errors)"
    sentence = (
        f"On {state['as_of']} the ribbons say {state['ribbon_state']}, day {state['days_in_state']} of {what}: "
        f"the gap is {percent(state['gap'], 1, True)}{z}, hash rate "
        f"{percent(-state['hash_rate_drawdown'], 1)} below its peak"
    )
    if inverted and state.get("recovery_odds_30d") is not None:
        low, high = state["recovery_odds_30d_low"], state["recovery_odds_30d_high"]
        sentence += (
            f"; past episodes of this age ended within 30 days in {percent(state['recovery_odds_30d'])} of cases "
            f"(95 % interval {percent(low)} to {percent(high)})"
        )
    return sentence + "."


def robustness(specifications: pd.DataFrame, family: pd.DataFrame) -> str:
    """How the answer depends on choices, and what remains of the best rule once all were tried.

    `specifications`: as from `study.specification.specification_curve`; `family`: as from `study.family.family_table`.
    """
    from capitulation.study.specification import repeated

    known = specifications["excess_log"].dropna()
    rules = family.dropna(subset=["z"])
    if known.empty or rules.empty:
        return "No rule has an event whose outcome is known, so there is nothing to stress."
    best = rules.iloc[0]
    twice = repeated(specifications)
    same = f" ({twice:,} of them asked twice, where two rules name the same days)" if twice else ""
    name = f"{DEFINITION_WORDS.get(best['definition'], best['definition'])}, {best['anchor'].replace('_', ' ')}"
    return (
        f"{percent(float((known > 0).mean()))} of {len(known):,} ways to ask the question{same} give a mean above "
        f"the baseline, but they share the same few episodes: the best of {int(best['n_family'])} rules and anchors "
        f"({name}) has {p_text(best['p_rotation'])} alone and a family-wise {p_text(best['p_family'])} once all are "
        f"allowed for."
    )


def curve_words(test: CurveTest) -> str:
    """Whether the specification curve as a whole lies higher than when all rules are moved in time."""
    return (
        f"Moving all rules by the same number of days gives as large a share above the baseline "
        f"({percent(test.share_above)} of {test.n_specifications:,}) in {percent(test.p_share)} of rotations "
        f"({p_text(test.p_share)}), and as high a median excess in {percent(test.p_median)} ({p_text(test.p_median)})."
    )


def superior_words(superior: SuperiorRules) -> str:
    """SPA and StepM in words."""
    names = ", ".join(superior.superior) or "none"
    return (
        f"Hansen's SPA test over the timing returns of {count(len(superior.rules), 'rule')} gives "
        f"{p_text(superior.p_consistent)} (lower bound {superior.p_lower:.2f}, upper {superior.p_upper:.2f}); StepM at "
        f"{percent(superior.size)} calls better than an even exposure: {names}."
    )


def prequential_words(score: PrequentialScore) -> str:
    """Whether forecasts from earlier signals beat forecasts from every earlier day."""
    if not score.n:
        return "No signal has both an earlier signal with a known outcome and a known outcome of its own."
    better = "smaller" if score.r2 > 0 else "no smaller"
    return (
        f"Over {count(score.n, 'signal')} the forecasts from earlier signals had {better} squared errors than those "
        f"from every earlier day (out-of-sample R² {signed(score.r2, 2)}; better at "
        f"{percent(score.share_better)} of signals; rotation {p_text(score.p_rotation)}, Diebold-Mariano "
        f"{p_text(score.p_dm)})."
    )


def miners(money: pd.DataFrame, fleet: pd.DataFrame, power_price: float) -> str:
    """Hashprice now and then, and how much of the modelled fleet loses money.

    `money`: mining.economics.economics, `fleet`: mining.fleet.fleet, both daily with the same index.
    """
    hashprice = money["hashprice_usd_ph_day"].dropna()
    if hashprice.empty:
        return "This source has no revenue, so hashprice and breakeven cannot be computed."
    now, day = hashprice.iloc[-1], hashprice.index[-1]
    rank = float((hashprice > now).mean())
    earned = f"On {_day(day)} a PH/s earned {now:,.1f} USD a day, less than on {percent(rank)} of the days before"
    share = fleet["share_under_water"].loc[day]
    if pd.isna(share):
        return f"{earned}; no rig of the last five years is in the table for that day."
    return (
        f"{earned}; at {power_price:g} USD/kWh {percent(share)} of the rig models of the last five years run at a loss."
    )
