"""Would trading the signals have paid? Positions, equity after costs, figures of merit, and what luck would have given.

A signal of day t is traded at the close of t + lag; a position of day t is what is held from that close to the next.
Trades take the whole equity: a purchase costs price * (1 + slippage) * (1 + fee), a sale brings price * (1 - slippage)
* (1 - fee). Where a price is missing, the last known one values the position, and trades wait for the next known close.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from capitulation.study.chance import max_rotation_test, rotation_test
from capitulation.study.events import HORIZONS, Events
from capitulation.study.returns import SINCE, event_marks

DAYS_PER_YEAR = 365
SETS_PER_CHUNK = 2_000
FLAT = 1e-14  # a standard deviation below this is rounding of a curve that never moves: ratios over it are undefined
SAME_DIGITS = 12  # trials whose Sharpe ratios agree to so many digits are one strategy under two names
STAY_OUT = "out_of_capitulation"  # the way that holds throughout, except while the rule says capitulation
OPPOSITE = {"recovery": "start", "buy": "start", "start": "recovery"}  # what ends a stay without a fixed length
TABLE_COLUMNS = [
    *("strategy", "start", "end", "cagr", "volatility", "sharpe", "sortino", "max_drawdown", "exposure", "n_trades"),
    *("hit_rate", "deflated_sharpe", "calmar", "total_return", "share_of_random_beaten", "random_median_cagr"),
    *("p_rotation", "n_trials", "open_trade", "definition", "anchor", "exit", "hold_days", "excess_sharpe"),
    *("timing_log", "ci_low", "ci_high", "p_rule", "p_family"),
]


class Backtest(NamedTuple):
    """A strategy run over a price series: the value at each close after its trades, per 1 invested before the first;
    the position (0 or 1) held from each close to the next; a row per trade: entry, exit (missing while open), open,
    days, price_entry, price_exit, simple_return (after costs; of an open one at the last price, the sale not paid)."""

    equity: pd.Series
    position: pd.Series
    trades: pd.DataFrame


class RandomEntries(NamedTuple):
    """A strategy's total log return before costs, that of each random set, the share of these below it (ties half)."""

    observed: float = np.nan
    random: np.ndarray = np.empty(0)
    share_beaten: float = np.nan


def signal_position(
    index: pd.DatetimeIndex, entries: Any, hold_days: int | None = None, exits: Any = None, lag: int = 1
) -> np.ndarray:
    """Position that the signals want, 0/1 of shape (n,): what to hold from each close of `index` to the next.

    In the market from `lag` days after each entry signal: for `hold_days`, which a new entry prolongs, or, without
    them, to the next exit signal, which wins over an entry of the same day.
    """
    if hold_days is not None and hold_days < 1:
        raise ValueError(f"hold_days={hold_days}: must be at least 1")
    n, day = len(index), np.arange(len(index))

    def last(signals: Any, never: int) -> np.ndarray:
        """Row of the last trade day of the signals, as seen from each day."""
        marks = np.append(np.zeros(lag, dtype=bool), event_marks(index, signals))[:n]
        return np.maximum.accumulate(np.where(marks, day, never))

    if hold_days is None:
        return (last(entries, -n) > last(exits, -1)).astype("int8")
    return (day - last(entries, -n) < min(hold_days, n)).astype("int8")


def traded(
    price: pd.Series, wanted: np.ndarray, fee_bps: float = 0.0, slippage_bps: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Position (0 or 1) that strategies hold, and their equity, at each close of `price`, of which the first is known.

    `wanted`: as `signal_position`, shape (..., days), so are both; costs as `backtest`, which see.
    """
    if price.isna().all() or (price <= 0).any():
        raise ValueError("price must hold a known value, and every known one must be positive")
    costs = np.array([fee_bps, slippage_bps]) * 1e-4
    log_buy, log_sell = -np.log1p(costs).sum(), np.log1p(-costs).sum()  # of the share of equity left
    last = np.maximum.accumulate(np.where(price.notna(), np.arange(len(price)), 0))  # day of the last known price
    held, log_price = wanted[..., last], np.log(price.to_numpy("float64")[last])
    change = np.diff(held, prepend=np.int8(0))
    steps = np.where(change > 0, log_buy, np.where(change < 0, log_sell, 0.0))
    steps[..., 1:] += held[..., :-1] * np.diff(log_price)
    return held, np.exp(np.cumsum(steps, axis=-1))


def backtest(
    price: pd.Series,
    entries: Any,
    hold_days: int | None = None,
    exits: Any = None,
    lag: int = 1,
    fee_bps: float = 0.0,
    slippage_bps: float = 0.0,
) -> Backtest:
    """Backtest of buying on each entry signal and selling after `hold_days`, or on the next of `exits`.

    `price`: daily, without gaps, USD at the close, NaN = no trade; cut to its known span. `entries`, `exits`: signals
    (as `returns.event_marks`), traded as in `signal_position`. `fee_bps`, `slippage_bps`: basis points of the amount,
    per trade and side. `ValueError` unless exactly one way out is given, some price is known and all are positive.

    >>> days = pd.date_range("2020-01-01", periods=5)
    >>> run = backtest(pd.Series([1.0, 1.0, 2.0, 3.0, 9.0], days), [days[0]], hold_days=2)
    >>> run.equity.round(9).tolist()
    [1.0, 1.0, 2.0, 3.0, 3.0]
    """
    if (hold_days is None) == (exits is None) or lag < 0:
        raise ValueError("give either hold_days or exits, and lag >= 0")
    price = price.loc[price.first_valid_index() : price.last_valid_index()]
    held, equity = traded(price, signal_position(price.index, entries, hold_days, exits, lag), fee_bps, slippage_bps)
    return _with_trades(price, held, equity)


def _with_trades(price: pd.Series, held: np.ndarray, equity: np.ndarray) -> Backtest:
    """The `Backtest` of one strategy that was `traded`."""
    index, close, change = price.index, price.ffill().to_numpy("float64"), np.diff(held, prepend=np.int8(0))
    entry, sold = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    is_open = np.arange(len(entry)) >= len(sold)
    leave = np.append(sold, np.full(is_open.sum(), len(held) - 1)).astype(int)
    # What a trade pays to sell, the equity shows at its exit; what it pays to buy, at its entry.
    before = np.append(1.0, equity)[entry]
    trades = {"entry": index[entry], "exit": pd.Series(index[leave]).mask(is_open), "open": is_open}
    trades |= {"days": leave - entry, "price_entry": close[entry], "price_exit": close[leave]}
    table = pd.DataFrame({**trades, "simple_return": equity[leave] / before - 1})
    return Backtest(pd.Series(equity, index, name="equity"), pd.Series(held, index, name="position"), table)


def daily_returns(equity: ArrayLike) -> pd.Series:
    """Simple returns (n - 1,) of an equity curve (n,); what the first day cost (it began at 1) is part of the first."""
    values = np.append(1.0, np.asarray(equity, dtype=float)[1:])
    if len(values) < 2 or not (values > 0).all():
        raise ValueError("equity must be at least two days long and positive throughout")
    return pd.Series(values[1:] / values[:-1] - 1)


def ratio(numerator: Any, denominator: Any) -> Any:
    """Their quotient, NaN where the denominator is no more than the rounding of a curve that never moves."""
    return numerator / np.where(denominator > FLAT, denominator, np.nan)


def performance(equity: ArrayLike, position: ArrayLike, trades: pd.DataFrame) -> dict[str, float]:
    """Figures of merit of a `Backtest`, 365 days a year (Bitcoin trades every day), no risk-free rate.

    total_return, cagr, volatility, sharpe, sortino (over sqrt(mean(min(r, 0)^2)), Sortino and Price 1994), max_drawdown
    (negative, the peak starts at 1), calmar (cagr over its size), exposure (share of the n - 1 daily returns earned in
    the market), n_trades, hit_rate; NaN for a ratio over zero or without trades. `ValueError` as `daily_returns`.
    """
    returns, curve = daily_returns(equity).to_numpy(), np.append(1.0, np.asarray(equity, dtype=float)[1:])
    fall = float((curve / np.maximum.accumulate(curve) - 1).min())
    cagr, annual = float(curve[-1] ** (DAYS_PER_YEAR / len(returns)) - 1), np.sqrt(DAYS_PER_YEAR)
    spread, below = returns.std(ddof=1) if len(returns) > 1 else np.nan, np.minimum(returns, 0)
    return {
        "total_return": float(curve[-1] - 1),
        "cagr": cagr,
        "volatility": float(spread * annual),
        "sharpe": float(ratio(returns.mean(), spread) * annual),
        "sortino": float(ratio(returns.mean(), np.sqrt((below**2).mean())) * annual),
        "max_drawdown": fall,
        "calmar": float(ratio(cagr, -fall)),
        "exposure": float(np.asarray(position, dtype=float)[:-1].mean()),
        "n_trades": len(trades),
        "hit_rate": float((trades["simple_return"] > 0).mean()),
    }


def random_entries(price: pd.Series, position: ArrayLike, n_sets: int = 10_000, seed: int = 0) -> RandomEntries:
    """A daily 0/1 position against `n_sets` others that are as long in the market, as often, at random times.

    The fair competitor in an asset that rose a thousandfold keeps the length of each stay, and so exposure and costs;
    order and places, which never touch, are drawn. `price`: USD at the close, the first one known. `position`: shape
    (n,), from each close to the next; never, or (almost) always, in the market: no random sets and NaN.
    """
    log_price, held = np.log(price.ffill().to_numpy("float64")), np.asarray(position)[:-1] > 0
    steps, edges = np.diff(log_price), np.diff(held.astype("int8"), prepend=0, append=0)
    lengths = np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)
    observed, room = float(steps[held].sum()), len(held) - held.sum() - (len(lengths) - 1)
    if not len(lengths) or room <= 0:
        return RandomEntries(observed)
    rng, totals = np.random.default_rng(seed), []
    for done in range(0, n_sets, SETS_PER_CHUNK):
        shape = (min(SETS_PER_CHUNK, n_sets - done), len(lengths))
        order = rng.permuted(np.broadcast_to(lengths, shape), axis=1)
        # Each stay's place is drawn among the days left free; those before it and a day between push it on.
        before = np.cumsum(order, axis=1) - order + np.arange(len(lengths))
        first = np.sort(rng.integers(0, room + 1, shape), axis=1) + before
        totals.append((log_price[first + order] - log_price[first]).sum(axis=1))
    random = np.concatenate(totals)
    beaten = float((random < observed).mean() + (random == observed).mean() / 2)
    return RandomEntries(observed, random, beaten)


def deflated_sharpe(returns: ArrayLike, trials: ArrayLike) -> float:
    """Probability that the true Sharpe ratio exceeds what the best of as many skill-less strategies would show.

    Bailey and Lopez de Prado (2014), "The Deflated Sharpe Ratio", equations 1 and 2. The best of N trials whose ratios
    have variance V is expected at SR0 = sqrt(V) ((1 - g) Z(1 - 1/N) + g Z(1 - 1/(N e))), with Z the normal quantile and
    g the Euler-Mascheroni constant; the probability is Phi((SR - SR0) sqrt(T - 1) / sqrt(1 - skewness SR + (kurtosis -
    1)/4 SR^2)). Every trial counts as independent, which is the strict reading. `returns`: simple, per day, no NaN.
    `trials`: Sharpe ratio per day of every strategy that was tried, the chosen one among them. NaN without trials, for
    returns that never move, or without a positive variance.
    """
    r, tried, g = np.asarray(returns, dtype=float), np.asarray(trials, dtype=float), np.euler_gamma
    n, least = len(tried), 0.0
    if not n or len(r) < 2 or np.isnan(found := ratio(r.mean(), r.std(ddof=1))):
        return np.nan
    if n > 1:
        least = tried.std(ddof=1) * ((1 - g) * ndtri(1 - 1 / n) + g * ndtri(1 - 1 / (n * np.e)))
    z = (r - r.mean()) / r.std()
    variance = 1 - (z * z * z).mean() * found + ((z * z * z * z).mean() - 1) / 4 * found**2
    return float(ndtr((found - least) * np.sqrt((len(r) - 1) / variance))) if variance > 0 else np.nan


def strategies(
    panel: pd.DataFrame,
    events: Events,
    *,
    hold_days: int = 90,
    horizons: Iterable[int] = HORIZONS,
    lag: int = 1,
    since: str = SINCE,
    fee_bps: float = 10.0,
    slippage_bps: float = 5.0,
    n_random: int = 10_000,
    seed: int = 20260120,
    confidence: float = 0.95,
) -> SimpleNamespace:
    """Buy and hold; every rule and anchor held for `hold_days` or until the opposite signal; every rule stayed out of.

    `events`: signal days of each (definition, anchor), all anchors of a rule; those before `since` do not count. Out of
    capitulation: in the market from the first day on, except from `lag` days after a day in the state to `lag` days
    after the recovery. `horizons`: stays that count as tried besides `hold_days`. Gives the `table` (a row per
    strategy, TABLE_COLUMNS as in data/reference/codebook.csv; NaN ratios where it never trades), `runs` and `random`
    entries of each by its name, and `trials`: sharpe and excess_sharpe per day of every variant that traded, each once
    though two rules may name the same days. All empty where fewer than two prices are known since `since`.

    Skill is judged by the timing alone, since every trial is long in an asset that rose: by r_t - w b_t, r_t and b_t
    what the strategy and buy and hold earned that day, after costs, w the share of days in the market; zero for holding
    itself. The deflated Sharpe ratio and excess_sharpe are of these returns. timing_log, its interval (`confidence`)
    and p_rotation are one exact rotation of the position, before costs: log points a year over the same exposure.
    p_rule and p_family rotate all strategies shown of the rule, or every variant of every rule, together.
    """
    price = panel.loc[since:, "price_usd"]
    price = price.loc[price.first_valid_index() : price.last_valid_index()]
    if price.count() < 2:
        nothing = pd.DataFrame(columns=TABLE_COLUMNS)
        return SimpleNamespace(table=nothing, runs={}, random={}, trials=nothing[["sharpe", "excess_sharpe"]])
    first, shown = price.index[:1], {"buy_and_hold": ("", "", "", None)}
    wanted = {"buy_and_hold": signal_position(price.index, first, exits=[], lag=0)}
    for (definition, anchor), when in events.items():
        ways: dict[str, int | None] = {f"hold_{days}d": days for days in [*horizons, hold_days]}
        ways |= {f"until_{OPPOSITE[anchor]}": None} if anchor in OPPOSITE else {}
        for way, days in ways.items():
            name, exits = f"{definition}_{anchor}_{way}", events[definition, OPPOSITE[anchor]] if days is None else None
            wanted[name] = signal_position(price.index, when, days, exits, lag)
            if days in (hold_days, None):
                shown[name] = (definition, anchor, way, days)
    for (definition, anchor), when in events.items():
        if anchor == "in_state" and event_marks(price.index, when).any():
            name, back = f"{definition}_{STAY_OUT}", event_marks(price.index, events[definition, "recovery"])
            wanted[name] = signal_position(price.index, back | price.index.isin(first), exits=when, lag=lag)
            shown[name] = (definition, anchor, STAY_OUT, None)
    names = list(wanted)
    positions, equity = traded(price, np.array(list(wanted.values())), fee_bps, slippage_bps)
    curves = np.hstack([np.ones((len(names), 1)), equity[:, 1:]])  # what the first day cost is part of the first return
    gains, held = curves[:, 1:] / curves[:, :-1] - 1, positions[:, :-1]
    timing = gains - held.mean(axis=1, keepdims=True) * gains[0]
    sharpes = {"sharpe": gains, "excess_sharpe": timing}
    sharpes = {name: ratio(r.mean(axis=1), r.std(axis=1, ddof=min(1, r.shape[1] - 1))) for name, r in sharpes.items()}
    sharpes = pd.DataFrame(sharpes, index=names)
    trials = sharpes.dropna()
    trials = trials[~trials.round(SAME_DIGITS).duplicated()]
    log_steps = np.diff(np.log(price.ffill().to_numpy("float64")))
    row_of, p_family = {name: row for row, name in enumerate(names)}, max_rotation_test(log_steps, held).p_family
    p_rule = {}
    for rule in {about[0] for about in shown.values()}:
        own = [name for name, about in shown.items() if about[0] == rule]
        p_rule |= zip(own, max_rotation_test(log_steps, held[[row_of[name] for name in own]]).p_family, strict=True)
    rows, random, runs = [], {}, {}
    for name, about in shown.items():
        at = row_of[name]
        run = runs[name] = _with_trades(price, positions[at], equity[at])
        luck = random[name] = random_entries(price, run.position, n_random, seed)
        # A random set pays what the strategy paid: as many trades.
        middle = np.median(luck.random) + np.log(equity[at, -1]) - luck.observed if len(luck.random) else np.nan
        row = dict(zip(("definition", "anchor", "exit", "hold_days"), about, strict=True)) | performance(*run)
        row |= {"strategy": name, "start": price.index[0], "end": price.index[-1], "n_trials": len(trials)}
        row |= {"deflated_sharpe": deflated_sharpe(timing[at], trials["excess_sharpe"])}
        row |= {"excess_sharpe": sharpes["excess_sharpe"].iloc[at] * np.sqrt(DAYS_PER_YEAR)}
        row |= {"share_of_random_beaten": luck.share_beaten, "open_trade": bool(run.trades["open"].any())}
        row |= {"random_median_cagr": float(np.expm1(middle * DAYS_PER_YEAR / (len(price) - 1)))}
        moves = len(luck.random) > 0  # a position that never changes has no timing
        test = rotation_test(log_steps, held[at] * moves, confidence=confidence)
        a_year = DAYS_PER_YEAR * row["exposure"]
        row |= {"timing_log": a_year * test.excess, "p_rotation": test.p}
        row |= {"ci_low": a_year * test.interval[0], "ci_high": a_year * test.interval[1]}
        rows.append(row | {"p_rule": p_rule[name], "p_family": p_family[at]})
    table = pd.DataFrame(rows)[TABLE_COLUMNS].astype({"hold_days": "Int64"})
    return SimpleNamespace(table=table, runs=runs, random=random, trials=trials)
