"""The record of the tests in words: sentences computed from the tables of `capitulation.simulate.stored`."""

from __future__ import annotations

from collections.abc import Mapping
from math import expm1, log
from typing import Any

import numpy as np
import pandas as pd

from capitulation.study.trust import ACCEPTED, LEVEL
from capitulation.words import count, percent

HEADLINE = "rotation_own_era"
WANTED_POWER = 0.8
CLAIMED_EFFECTS = {"as VanEck claims": log(1.72 / 1.48)}
"""Log excess that a publication implies: +72 % after negative 90-day hash-rate growth, against +48 % (VanEck,
December 2025, 180 days ahead)."""


def trust_finding(table: pd.DataFrame, repetitions: int) -> str:
    """The page's finding: how often the headline's test errs in both null worlds, and who errs most."""
    rows = table.set_index("test")
    own = rows.loc[HEADLINE]
    flat, real = percent(own["stationary_rate"], 1), percent(own["realistic_rate"], 1)
    kept = "keeps" if own["stationary_at_level"] and own["realistic_at_level"] else "does not keep"
    worst = rows.loc[rows["realistic_rate"].idxmax()]
    return (
        f"On {repetitions:,} artificial markets of each kind without any effect, the headline's test rejects "
        f"{flat} of stationary and {real} of realistic ones at the {percent(LEVEL)} level: it {kept} its level. "
        f"The farthest off rejects {percent(worst['realistic_rate'], 1)} of realistic ones ({worst['label']})."
    )


def off_level_sentence(table: pd.DataFrame) -> str:
    """Which tests are outside the accepted band in either null world, with their rates."""
    off = table[~(table["stationary_at_level"].astype(bool) & table["realistic_at_level"].astype(bool))]
    band = f"{percent(ACCEPTED[0], 1)} to {percent(ACCEPTED[1], 1)}"
    if off.empty:
        return f"All {len(table)} tests lie within {band} in both worlds."
    told = "; ".join(
        f"{row.label} ({percent(row.stationary_rate, 1)} stationary, {percent(row.realistic_rate, 1)} realistic)"
        for row in off.itertuples()
    )
    return (
        f"{count(len(off), 'test')} of {len(table)} outside {band} in at least one world, "
        f"not used for a headline: {told}."
    )


def settings_sentence(tests: Mapping[str, Any]) -> str:
    """What the stored tests were asked (`simulate.stored.measured_settings`), since a run may ask something else."""
    return (
        f"Measured for {tests['horizon_days']}-day returns after recoveries of the {tests['fast_days']}- and "
        f"{tests['slow_days']}-day means since {tests['sample_start']}; a run with other parameters has other rates."
    )


def coverage_sentence(table: pd.DataFrame, nominal: float) -> str:
    """By how much the intervals miss the share of markets that they should cover."""
    low, high = table.loc[table["rate"].idxmin()], table.loc[table["rate"].idxmax()]

    def told(row: pd.Series) -> str:
        return f"{percent(row['rate'], 1)} ({row['interval']}, {row['of']}, {row['world']} world)"

    return (
        f"Intervals that should cover {percent(nominal)} cover between {told(low)} and {told(high)}: "
        f"{_points(low['rate'] - nominal)} to {_points(high['rate'] - nominal)} percentage points off."
    )


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def needed_effect(curve: pd.DataFrame, power: float = WANTED_POWER) -> float:
    """Smallest planted effect (log return) found with probability `power`, by straight lines; NaN beyond the curve."""
    rates = np.maximum.accumulate(curve["rate"].to_numpy(float))
    if not len(rates) or rates[-1] < power:
        return float("nan")
    return float(np.interp(power, rates, curve["effect_log"].to_numpy(float)))


def power_sentence(curve: pd.DataFrame) -> str:
    """Power of the headline's test at the claimed effects, and the effect that it finds in four of five markets."""
    own = curve[curve["test"] == HEADLINE].sort_values("effect_log")
    told = [
        f"an effect as large {name} ({percent(expm1(size), sign=True)}) is found in "
        f"{percent(float(np.interp(size, own['effect_log'], own['rate'])))} of realistic markets"
        for name, size in CLAIMED_EFFECTS.items()
    ]
    needed = needed_effect(own)
    enough = (
        f"only from about {percent(expm1(needed), sign=True)} on is it found in four of five"
        if np.isfinite(needed)
        else "no measured effect is found in four of five"
    )
    sentence = f"{'; '.join(told)}; {enough}."
    return sentence[0].upper() + sentence[1:]


def moments_sentence(table: pd.DataFrame) -> str:
    """How many of the real market's figures lie among those of the simulated ones, and which do not."""
    inside = int(table["within"].sum())
    off = table.loc[~table["within"], "moment"].tolist()
    end = f"; outside: {'; '.join(off)}" if off else ""
    return f"{inside} of {len(table)} figures of the real market lie among the middle 90 % of simulated ones{end}."
