"""Every way to trade the rules, run side by side: the contract's backtest table.

A variant is a rule, a signal that buys and a way out: a fixed stay or the rule's own opposite signal. All variants
that one could have picked count as trials of the deflated Sharpe ratio, whether the table shows them or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from capitulation.contract import TABLES
from capitulation.errors import DataError
from capitulation.params import ANCHORS, Params
from capitulation.study.backtest import (
    Backtest,
    Costs,
    executed_rows,
    hold_position,
    log_equity,
    marks,
    run_position,
    tradable,
    until_position,
)
from capitulation.study.multiple import deflated_sharpe
from capitulation.study.performance import daily_returns, sharpe, skew_kurtosis
from capitulation.study.random_entries import random_entry_benchmark

EventDays = Mapping[tuple[str, str], pd.DatetimeIndex]

BUY_AND_HOLD = "buy_and_hold"
SAME_DIGITS = 12
OPPOSITE = {"recovery": "start", "buy": "start", "start": "recovery"}
"""The signal that ends a stay without a fixed length: what began with a recovery lasts until the next capitulation."""
TABLE_COLUMNS = (
    *(column.name for column in TABLES["backtest"].columns),
    "calmar",
    "total_return",
    "share_of_random_beaten",
    "random_median_cagr",
    "p_rotation",
    "n_trials",
    "open_trade",
    "definition",
    "anchor",
    "exit",
    "hold_days",
)


@dataclass(frozen=True)
class Variant:
    """One strategy: buy on `anchor` of `definition`, stay `hold_days`, or until `exit_anchor` where that is None."""

    definition: str
    anchor: str
    hold_days: int | None

    @property
    def exit_anchor(self) -> str | None:
        return OPPOSITE[self.anchor] if self.hold_days is None else None

    @property
    def exit(self) -> str:
        """The way out in words of a name: hold_90d, until_start."""
        return f"until_{self.exit_anchor}" if self.hold_days is None else f"hold_{self.hold_days}d"

    @property
    def name(self) -> str:
        return f"{self.definition}_{self.anchor}_{self.exit}"


def strategy_name(params: Params) -> str:
    """Name of the strategy that belongs to the primary test: its rule and anchor, held for `hold_days`.

    >>> strategy_name(Params())
    'hash_ribbons_recovery_hold_90d'
    """
    return Variant(params.primary_definition, params.primary_anchor, params.hold_days).name


def variants(definitions: Iterable[str], stays: Iterable[int]) -> list[Variant]:
    """Every rule x anchor x (each stay, and the opposite signal where there is one), in that order."""
    lengths = list(dict.fromkeys(stays))
    return [
        Variant(definition, anchor, stay)
        for definition in definitions
        for anchor in ANCHORS
        for stay in [*lengths, *([None] if anchor in OPPOSITE else [])]
    ]


def sample_price(panel: pd.DataFrame, params: Params) -> pd.Series:
    """Price from sample_start to the last known one; `DataError` where that leaves less than two days."""
    price = panel.loc[params.sample_start :, "price_usd"]
    if price.notna().sum() < 2:
        raise DataError(f"no two prices since sample_start={params.sample_start}: a backtest needs them")
    return tradable(price)


def variant_position(index: pd.DatetimeIndex, events: EventDays, variant: Variant, lag_days: int) -> np.ndarray:
    """Wanted daily position of a variant, 0/1 of shape (n,); signals before the first day of `index` do not count."""
    entries = executed_rows(index, events[variant.definition, variant.anchor], lag_days)
    if variant.hold_days is not None:
        return hold_position(len(index), entries, variant.hold_days)
    exits = executed_rows(index, events[variant.definition, str(variant.exit_anchor)], lag_days)
    return until_position(len(index), entries, exits)


def _definitions(events: EventDays) -> list[str]:
    return list(dict.fromkeys(definition for definition, _ in events))


def trial_sharpes(price: pd.Series, events: EventDays, params: Params) -> pd.Series:
    """Daily Sharpe ratio of every variant that could have been picked: all rules, anchors, horizons and ways out.

    Index the variant's name; NaN for one that never trades.
    """
    trials = variants(_definitions(events), [*params.horizons_days, params.hold_days])
    index = pd.DatetimeIndex(price.index)
    log_price, costs = marks(price.to_numpy()), Costs(params.fee_bps, params.slippage_bps)
    found = {}
    for trial in trials:
        position = variant_position(index, events, trial, params.entry_lag_days)
        found[trial.name] = sharpe(daily_returns(np.exp(log_equity(log_price, position, costs))))
    return pd.Series(found, name="sharpe_daily", dtype=float)


def _tried(trials: pd.Series) -> pd.Series:
    """The trials that count: those that traded, and each strategy once, though two rules may name the same days."""
    return trials.dropna().round(SAME_DIGITS).drop_duplicates()


def _deflated(equity: pd.Series, tried: pd.Series) -> float:
    """Deflated Sharpe ratio of one curve, given the daily ratios of all trials that count."""
    returns = daily_returns(equity)
    if not len(tried):
        return float("nan")
    variance = float(tried.var(ddof=1)) if len(tried) > 1 else 0.0
    skew, kurtosis = skew_kurtosis(returns)
    return deflated_sharpe(sharpe(returns), len(returns), len(tried), variance, skew, kurtosis)


def _random_columns(run: Backtest, price: pd.Series, params: Params) -> dict[str, float]:
    """The strategy beside random entry sets; the median set's growth is after the strategy's own costs."""
    log_price, costs = marks(price.to_numpy()), float(np.log(run.equity.iloc[-1]))
    result = random_entry_benchmark(log_price, run.position.to_numpy(), params.n_random_entries, params.seed)
    years = (len(price) - 1) / 365
    middle = np.median(result.random) + costs - result.observed if len(result.random) else np.nan
    return {
        "share_of_random_beaten": result.share_beaten,
        "random_median_cagr": float(np.expm1(middle / years)),
        "p_rotation": result.p_rotation,
    }


def _row(name: str, run: Backtest, price: pd.Series, tried: pd.Series, params: Params) -> dict[str, object]:
    return {
        "strategy": name,
        "start": price.index[0],
        "end": price.index[-1],
        **run.performance(),
        "deflated_sharpe": _deflated(run.equity, tried),
        **_random_columns(run, price, params),
        "n_trials": len(tried),
        "open_trade": bool(run.trades["open"].any()),
    }


def backtests(
    panel: pd.DataFrame, events: EventDays, params: Params, definitions: Iterable[str] | None = None
) -> Iterator[tuple[Variant | None, Backtest]]:
    """Buy and hold (variant None), then each variant at `hold_days` and until the opposite signal, run over the sample.

    `definitions`: the rules to run, all by default. Fees, slippage and lag are those of `params`.
    """
    price = sample_price(panel, params)
    index, costs = pd.DatetimeIndex(price.index), Costs(params.fee_bps, params.slippage_bps)
    yield None, run_position(price, np.ones(len(price), dtype="int8"), costs)
    for variant in variants(_definitions(events) if definitions is None else definitions, [params.hold_days]):
        yield variant, run_position(price, variant_position(index, events, variant, params.entry_lag_days), costs)


def backtest_table(
    panel: pd.DataFrame, events: EventDays, params: Params, definitions: Iterable[str] | None = None
) -> pd.DataFrame:
    """The contract's backtest.csv: buy and hold first, then every strategy of every rule.

    Parameters
    ----------
    panel : daily panel; used: price_usd since sample_start.
    events : signal days of each (definition, anchor), from `study.events.event_days`; all four anchors of a rule.
    params : hold_days, entry_lag_days, fee_bps, slippage_bps, n_random_entries, seed, horizons_days, sample_start.
    definitions : rules shown; the trials of the deflated Sharpe ratio are always those of all rules in `events`.

    Returns
    -------
    DataFrame, columns TABLE_COLUMNS, one row per strategy; fractions per year. A strategy that never trades has NaN
    ratios. `deflated_sharpe` counts every trial as independent, which understates it; `n_trials`: variants that
    traded and differ. `share_of_random_beaten`: of n_random_entries random entry sets with as many stays of the same
    lengths; `p_rotation`: one-sided, exact. A trade still open counts, at the last price (`open_trade`).

    Raises
    ------
    DataError where no price is known since sample_start.
    """
    price = sample_price(panel, params)
    tried = _tried(trial_sharpes(price, events, params))
    rows = []
    for variant, run in backtests(panel, events, params, definitions):
        row = _row(variant.name if variant else BUY_AND_HOLD, run, price, tried, params)
        rows.append(row | _labels(variant))
    return pd.DataFrame(rows)[list(TABLE_COLUMNS)].astype({"hold_days": "Int64"})


def _labels(variant: Variant | None) -> dict[str, object]:
    if variant is None:
        return {"definition": "", "anchor": "", "exit": "", "hold_days": None}
    return {
        "definition": variant.definition,
        "anchor": variant.anchor,
        "exit": variant.exit,
        "hold_days": variant.hold_days,
    }


def equity_curves(runs: Iterable[tuple[Variant | None, Backtest]]) -> pd.DataFrame:
    """Daily equity of `backtests`, index `date`, one column per strategy, 1 invested before the first day."""
    return pd.DataFrame({variant.name if variant else BUY_AND_HOLD: run.equity for variant, run in runs})
