"""Long or flat on signals: when one is in the market, what it earned after costs, and each trade.

A signal of day t is traded at the close of t + lag. A position of day t is what is held from that close to the next, so
that a return is never earned by a signal that its own day had to give first. Trades take the whole equity; a purchase
is paid at price * (1 + slippage) * (1 + fee), a sale brings price * (1 - slippage) * (1 - fee).

A missing price can neither be traded nor valued: on such a day the position stays as it was, the value stands at the
last known price, and a trade that falls due is done at the next known close.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from capitulation.study.performance import performance

BASIS_POINT = 1e-4
TRADE_COLUMNS = ("entry", "exit", "open", "days", "price_entry", "price_exit", "simple_return")

Days = pd.DatetimeIndex | Iterable[pd.Timestamp]


@dataclass(frozen=True)
class Costs:
    """Fee and slippage per trade and side, in basis points of the amount traded."""

    fee_bps: float = 0.0
    slippage_bps: float = 0.0

    @property
    def log_buy(self) -> float:
        """Log of the share of equity left after buying: -log((1 + slippage)(1 + fee))."""
        return float(-np.log1p(self.slippage_bps * BASIS_POINT) - np.log1p(self.fee_bps * BASIS_POINT))

    @property
    def log_sell(self) -> float:
        """Log of the share of equity left after selling: log((1 - slippage)(1 - fee))."""
        return float(np.log1p(-self.slippage_bps * BASIS_POINT) + np.log1p(-self.fee_bps * BASIS_POINT))


@dataclass(frozen=True)
class Backtest:
    """A strategy run over a price series.

    equity : Series, value at each close after its trades, per 1 invested before the first.
    position : Series of 0 and 1, what is held from each close to the next.
    trades : one row per trade, columns TRADE_COLUMNS; `exit` is missing while `open`, whose price_exit and return are
        those of the last price, the sale not paid.
    """

    equity: pd.Series
    position: pd.Series
    trades: pd.DataFrame

    def performance(self) -> dict[str, float]:
        """`study.performance.performance` of this run."""
        return performance(self.equity, self.position, self.trades["simple_return"])


def executed_rows(index: pd.DatetimeIndex, days: Days, lag_days: int) -> np.ndarray:
    """Rows at whose close the signals of `days` are traded; signals outside the series, or due after it, fall out."""
    rows = index.get_indexer(pd.DatetimeIndex(days))
    rows = rows[rows >= 0] + lag_days
    return np.sort(rows[rows < len(index)])


def hold_position(n: int, rows: np.ndarray, hold_days: int) -> np.ndarray:
    """0/1 of shape (n,): in the market from each entry row for `hold_days`; an entry while in it prolongs the stay.

    >>> hold_position(7, np.array([1, 2]), 2).tolist()
    [0, 1, 1, 1, 0, 0, 0]
    """
    if hold_days < 1:
        raise ValueError(f"hold_days={hold_days}: must be at least 1")
    edges = np.bincount(rows, minlength=n + 1).astype("int64")
    edges -= np.bincount(np.minimum(rows + hold_days, n), minlength=n + 1)
    return (np.cumsum(edges[:n]) > 0).astype("int8")


def until_position(n: int, entry_rows: np.ndarray, exit_rows: np.ndarray) -> np.ndarray:
    """0/1 of shape (n,): in the market from each entry row to the next exit row; an exit on the same row wins.

    >>> until_position(6, np.array([1, 4]), np.array([3])).tolist()
    [0, 1, 1, 0, 1, 1]
    """
    marks = np.zeros(n, dtype="int8")
    marks[entry_rows] = 1
    marks[exit_rows] = -1
    last = np.maximum.accumulate(np.where(marks != 0, np.arange(n), -1))
    return ((last >= 0) & (marks[last] == 1)).astype("int8")


def tradable(price: pd.Series) -> pd.Series:
    """`price` as float from its first to its last known value; `ValueError` where none is known or one is not > 0."""
    values = price.astype("float64")
    first, last = values.first_valid_index(), values.last_valid_index()
    if first is None or (values <= 0).any():
        raise ValueError("price must hold a known value, and every known one must be positive")
    return values.loc[first:last]


def executable(position: np.ndarray, price: np.ndarray) -> np.ndarray:
    """The wanted position as it can be had: on a day without a price it stays what it was."""
    last_known = np.maximum.accumulate(np.where(np.isnan(price), 0, np.arange(len(price))))
    return np.asarray(position)[..., last_known]


def marks(price: np.ndarray) -> np.ndarray:
    """Log of the last known price of each day, for valuation alone; the first price must be known."""
    last_known = np.maximum.accumulate(np.where(np.isnan(price), 0, np.arange(len(price))))
    return np.log(price[last_known])


def log_equity(log_price: np.ndarray, position: np.ndarray, costs: Costs) -> np.ndarray:
    """Log value at each close after its trades, shape of `position` (..., n); `log_price` of shape (n,), no NaN.

    Sum over earlier days of position times log return, plus the log cost of every trade so far.
    """
    held = np.asarray(position, dtype=float)
    change = np.diff(held, axis=-1, prepend=0.0)
    steps = np.where(change > 0, costs.log_buy, 0.0) + np.where(change < 0, costs.log_sell, 0.0)
    steps[..., 1:] += held[..., :-1] * np.diff(log_price)
    return np.cumsum(steps, axis=-1)


def _trades(index: pd.DatetimeIndex, log_price: np.ndarray, position: np.ndarray, costs: Costs) -> pd.DataFrame:
    change = np.diff(position.astype("int8"), prepend=np.int8(0))
    entry, closed = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    is_open = np.arange(len(entry)) >= len(closed)
    leave = np.concatenate([closed, np.full(int(is_open.sum()), len(index) - 1, dtype=closed.dtype)])
    growth = log_price[leave] - log_price[entry] + costs.log_buy + np.where(is_open, 0.0, costs.log_sell)
    exit_day = pd.Series(index[leave]).mask(is_open)
    values = (index[entry], exit_day, is_open, leave - entry, np.exp(log_price[entry]), np.exp(log_price[leave]))
    return pd.DataFrame(dict(zip(TRADE_COLUMNS, (*values, np.expm1(growth)), strict=True)))


def run_position(price: pd.Series, position: np.ndarray, costs: Costs | None = None) -> Backtest:
    """Backtest of a wanted daily position.

    Parameters
    ----------
    price : Series, shape (n,), daily index, USD at the close, first and last known; NaN in between = no trade.
    position : shape (n,), 0 or 1: what to hold from each close to the next.
    costs : fee and slippage; none by default.

    Raises
    ------
    ValueError for unequal lengths, a position other than 0 or 1, a first price that is missing, or a price <= 0.
    """
    wanted, values, costs = np.asarray(position), price.to_numpy("float64"), costs or Costs()
    if wanted.shape != values.shape or not np.isin(wanted, (0, 1)).all():
        raise ValueError("position must hold 0 or 1 for each day of price")
    if not len(values) or np.isnan(values[0]) or (values <= 0).any():
        raise ValueError("the first price must be known and every known price positive")
    log_price, held = marks(values), executable(wanted, values)
    equity = np.exp(log_equity(log_price, held, costs))
    return Backtest(
        pd.Series(equity, index=price.index, name="equity"),
        pd.Series(held.astype("int8"), index=price.index, name="position"),
        _trades(pd.DatetimeIndex(price.index), log_price, held, costs),
    )


def run_strategy(
    price: pd.Series,
    entry_days: Days,
    hold_days: int | None = None,
    exit_days: Days | None = None,
    lag_days: int = 1,
    fee_bps: float = 0.0,
    slippage_bps: float = 0.0,
) -> Backtest:
    """Backtest of buying on each entry signal and selling after `hold_days` or on the next of `exit_days`.

    Parameters
    ----------
    price : Series, daily index without gaps, USD at the close; cut to its known span.
    entry_days, exit_days : days of the signals; both are traded at the close `lag_days` later. A signal outside the
        series is left out. A new entry signal while in the market prolongs a fixed stay, and changes nothing else.
    hold_days : length of the stay, in days; exactly one of it and `exit_days` is to be given.

    Raises
    ------
    ValueError unless exactly one way out is given.

    >>> days = pd.date_range("2020-01-01", periods=5)
    >>> run = run_strategy(pd.Series([1.0, 1.0, 2.0, 3.0, 9.0], days), [days[0]], hold_days=2)
    >>> run.equity.round(9).tolist()
    [1.0, 1.0, 2.0, 3.0, 3.0]
    """
    if (hold_days is None) == (exit_days is None) or lag_days < 0:
        raise ValueError("give either hold_days or exit_days, and lag_days >= 0")
    known = tradable(price)
    index = pd.DatetimeIndex(known.index)
    entries = executed_rows(index, entry_days, lag_days)
    if exit_days is None:
        position = hold_position(len(index), entries, int(hold_days or 0))
    else:
        position = until_position(len(index), entries, executed_rows(index, exit_days, lag_days))
    return run_position(known, position, Costs(fee_bps, slippage_bps))
