"""Every definition of capitulation: one decorated function each, with its name, words, source and thresholds beside it.

A rule takes a panel and gives two columns, index `date` (see `beyond`), and reads no later day. A new rule is one more
function (see `rule`): every table, page, test and the run's parameters take it up.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from capitulation.errors import InputError, nearest, one_line
from capitulation.mining.difficulty import adjustments
from capitulation.mining.economics import economics, fleet, puell_multiple
from capitulation.mining.hashrate import drawdown, growth, hash_ribbons, rolling_mean

DIFFICULTY_RIBBON_DAYS = (9, 14, 25, 40, 60, 90, 128, 200)


class Rule(NamedTuple):
    """One definition, as `rule` registers it: its name in tables, its words in sentences."""

    name: str
    words: str
    says: str
    source: str
    compute: Callable[..., pd.DataFrame]  # of a panel and the thresholds: columns measure and intensity
    thresholds: Mapping[str, tuple[Any, Any]]  # annotation (with unit, meaning and limits) and default of each


RULES: dict[str, Rule] = {}


def rule(name: str, *, words: str = "", says: str = "", source: str = "own rule") -> Any:
    """Decorator that makes a function of a panel and keyword thresholds the rule `name` (replacing one of that name).

    `says`: else the function's docstring. `InputError` where a threshold has no default, or another than elsewhere.

    >>> @rule("quiet_day", says="fewer than 100 blocks in a day")
    ... def quiet_day(panel, *, fewer_than=100):
    ...     return beyond(panel["block_count"], fewer_than - panel["block_count"])
    >>> rule_state(pd.DataFrame({"block_count": [99.0, 144.0]}), "quiet_day").tolist()
    [True, False]
    >>> del RULES["quiet_day"]
    """

    def register(compute: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
        _, *own = inspect.signature(compute, eval_str=True).parameters.values()
        others, declared = thresholds(without=name), {}
        for one in own:
            if one.default is one.empty or others.get(one.name, (None, one.default))[1] != one.default:
                raise InputError(f"rule {name}: {one.name} needs a default, the same as in other rules that have it")
            declared[one.name] = (type(one.default) if one.annotation is one.empty else one.annotation, one.default)
        plain = words or name.replace("_", " ")
        RULES[name] = Rule(name, plain, says or inspect.getdoc(compute) or plain, source, compute, declared)
        return compute

    return register


def thresholds(without: str = "") -> dict[str, tuple[Any, Any]]:
    """Annotation and default of every threshold that a rule (but `without`) declares, by name."""
    return {key: kind for one in RULES.values() if one.name != without for key, kind in one.thresholds.items()}


def beyond(measure: pd.Series, intensity: pd.Series) -> pd.DataFrame:
    """What a rule returns: its own figure, and how far beyond the threshold (above 0: in the state; missing: unknown).

    >>> beyond(pd.Series([0.3, 0.6]), 0.5 - pd.Series([0.3, 0.6]))["intensity"].gt(0).tolist()
    [True, False]
    """
    return pd.DataFrame({"measure": measure, "intensity": intensity})


def field(unit: str, description: str, default: Any = ..., **limits: Any) -> Any:
    """What a parameter is: its unit, its meaning, its default (where that stands here) and what is allowed."""
    return Field(default, description=description, json_schema_extra={"unit": unit}, **limits)


FastDays = Annotated[int, field("days", "fast mean of hash rate", ge=2, le=400)]
SlowDays = Annotated[int, field("days", "slow mean of hash rate", ge=3, le=800)]
MeanDays = Annotated[int, field("days", "mean of hash rate for the drawdown rule", ge=1, le=400)]
Drawdown = Annotated[float, field("fraction", "drawdown of hash rate from its running peak", gt=0, lt=1)]
CutsNeeded = Annotated[int, field("retargets", "negative retargets needed", ge=1, le=100)]
LookedBack = Annotated[int, field("retargets", "retargets looked back on", ge=1, le=100)]
Compression = Annotated[float, field("fraction", "difficulty ribbon: coefficient of variation below this", gt=0, lt=1)]
PuellBelow = Annotated[float, field("ratio", "Puell multiple below this", gt=0, lt=10)]
Stress = Annotated[float, field("ratio", "hashprice below this share of its mean of the past year", gt=0, lt=2)]
PowerPrice = Annotated[float, field("USD/kWh", "power price of miners", gt=0, lt=10)]
FleetShare = Annotated[float, field("fraction", "share of the recent rig fleet under breakeven", gt=0, le=1)]


# Thresholds without a published value: set so that a rule holds on a minority of days, before returns were looked at.
@rule(
    "hash_ribbons",
    words="Hash Ribbons",
    source='Charles Edwards, "Hash Ribbons & Bitcoin Bottoms", Capriole Investments, 2019',
)
def ribbon_gap(panel: pd.DataFrame, *, fast_days: FastDays = 30, slow_days: SlowDays = 60) -> pd.DataFrame:
    """fast mean of hash rate below its slow mean"""
    gap = hash_ribbons(panel, fast_days, slow_days)["gap"]
    return beyond(gap, -gap)


# The 60-day mean is the average of this 30-day mean and the one 30 days ago: fast < slow exactly where growth < 0.
@rule(
    "hash_rate_growth_30d",
    words="30-day hash-rate growth",
    source='VanEck, "Bitcoin ChainCheck" of mid-December 2025 (30-day hash-rate growth below zero)',
)
def growth_30d(panel: pd.DataFrame) -> pd.DataFrame:
    """30-day mean of hash rate below its value 30 days earlier; the same days as 30/60-day Hash Ribbons"""
    grown = growth(panel["hash_rate_ehs"], 30)
    return beyond(grown, -grown)


@rule(
    "hash_rate_growth_90d",
    words="90-day hash-rate growth",
    source='VanEck, "Bitcoin ChainCheck" of mid-December 2025 (90-day hash-rate growth below zero)',
)
def growth_90d(panel: pd.DataFrame) -> pd.DataFrame:
    """30-day mean of hash rate below its value 90 days earlier"""
    grown = growth(panel["hash_rate_ehs"], 90)
    return beyond(grown, -grown)


@rule(
    "hash_rate_drawdown",
    words="hash-rate drawdown",
    source='ZFX Shanhai Securities, 20 January 2026 ("fell a cumulative 15 % from its peak"); common in market letters',
)
def hash_rate_drawdown(
    panel: pd.DataFrame, *, drawdown_mean_days: MeanDays = 30, drawdown_threshold: Drawdown = 0.05
) -> pd.DataFrame:
    """mean hash rate below its running peak by more than drawdown_threshold"""
    fallen = drawdown(panel, drawdown_mean_days)
    return beyond(fallen, -fallen - drawdown_threshold)


@rule(
    "negative_retargets",
    source='ZFX Shanhai Securities, 20 January 2026 ("seventh negative adjustment in the past eight")',
)
def negative_retargets(
    panel: pd.DataFrame, *, retargets_k: CutsNeeded = 3, retargets_n: LookedBack = 5
) -> pd.DataFrame:
    """at least retargets_k of the last retargets_n difficulty adjustments were cuts"""
    change = adjustments(panel).set_index("date")["change"]
    cut = (change < 0).astype("float64").where(change.notna())
    cuts = cut.rolling(retargets_n).sum().fillna(-1).reindex(panel.index).ffill()  # -1: not known at an adjustment
    cuts = cuts.mask(cuts < 0).where(panel["height"].notna())
    return beyond(cuts, cuts - (retargets_k - 1))


@rule(
    "difficulty_ribbon_compression",
    words="difficulty-ribbon compression",
    source='Willy Woo, "Introducing the Difficulty Ribbon", 2019; compression as defined by Glassnode Academy',
)
def difficulty_ribbon_compression(panel: pd.DataFrame, *, compression_threshold: Compression = 0.03) -> pd.DataFrame:
    """coefficient of variation of eight means of difficulty (9 to 200 days) below compression_threshold"""
    means = np.stack([rolling_mean(panel["difficulty"], days).to_numpy() for days in DIFFICULTY_RIBBON_DAYS])
    variation = pd.Series(means.std(axis=0) / means.mean(axis=0), index=panel.index)
    return beyond(variation, compression_threshold - variation)


@rule("puell_multiple", words="Puell multiple", source='David Puell, "The Puell Multiple", 2019')
def puell(panel: pd.DataFrame, *, puell_threshold: PuellBelow = 0.5) -> pd.DataFrame:
    """value of new coins below puell_threshold times its 365-day mean"""
    multiple = puell_multiple(panel)
    return beyond(multiple, puell_threshold - multiple)


@rule(
    "puell_compression",
    words="Puell and compression",
    source="Glassnode's and Capriole's habit of asking for both: Puell (2019) and Woo (2019) together",
)
def puell_compression(
    panel: pd.DataFrame, *, puell_threshold: PuellBelow = 0.5, compression_threshold: Compression = 0.03
) -> pd.DataFrame:
    """Puell multiple low while the difficulty ribbon is compressed"""
    variation = difficulty_ribbon_compression(panel)["measure"]
    weaker = np.maximum(puell_multiple(panel) / puell_threshold, variation / compression_threshold)
    return beyond(weaker, 1 - weaker)


@rule(
    "hashprice_stress",
    source='hashprice: Luxor Technology, "Hashrate Index", 2019; the comparison with its own year is this suite\'s',
)
def hashprice_stress(panel: pd.DataFrame, *, hashprice_stress_ratio: Stress = 0.5) -> pd.DataFrame:
    """hashprice (USD) below hashprice_stress_ratio times its 365-day mean"""
    hashprice = economics(panel)["hashprice_usd_ph_day"]
    ratio = hashprice / rolling_mean(hashprice, 365)
    return beyond(ratio, hashprice_stress_ratio - ratio)


@rule(
    "fleet_under_breakeven",
    source="Cambridge Centre for Alternative Finance, CBECI methodology (rigs of five years, equal weights)",
)
def fleet_under_breakeven(
    panel: pd.DataFrame, *, power_price_usd_kwh: PowerPrice = 0.07, fleet_share_threshold: FleetShare = 0.5
) -> pd.DataFrame:
    """share of the recent rigs that do not earn their power above fleet_share_threshold"""
    share = fleet(panel, power_price_usd_kwh)["share_under_water"]
    return beyond(share, share - fleet_share_threshold)


def refuse_unknown(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `InputError` where a name in `given` is not among `known`, with the nearest one that is."""
    known = list(known)
    for name in given:
        if name not in known:
            meant = nearest(str(name), known) or f"known are: {', '.join(known)}"
            raise InputError(f"unknown name {one_line(name, 60)!r}; {meant.strip()}")


def rule_state(panel: pd.DataFrame, name: str, **settings: Any) -> pd.Series:
    """Whether each day is in the state of rule `name`: boolean, index `date`, <NA> where unknown.

    `settings`: thresholds, of which the rule takes its own; `InputError` for a name that no rule has.

    >>> state = rule_state(panel, "puell_multiple", puell_threshold=0.4)
    >>> state.dtype.name, bool(state.isna().any())  # unknown until a year is full
    ('boolean', True)
    """
    refuse_unknown([name], RULES)
    refuse_unknown(settings, thresholds())
    own = {key: value for key, value in settings.items() if key in RULES[name].thresholds}
    intensity = RULES[name].compute(panel, **own)["intensity"]
    flags = pd.arrays.BooleanArray((intensity > 0).to_numpy(bool), intensity.isna().to_numpy(bool))
    return pd.Series(flags, index=panel.index, name=name)


def rule_states(panel: pd.DataFrame, **settings: Any) -> pd.DataFrame:
    """`rule_state` of every rule, a column each in the order of `RULES`; a threshold goes to every rule that has it.

    >>> rule_states(panel).columns.tolist()[:2]
    ['hash_ribbons', 'hash_rate_growth_30d']
    """
    return pd.DataFrame({name: rule_state(panel, name, **settings) for name in RULES})
