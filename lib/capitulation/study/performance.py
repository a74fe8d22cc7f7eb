"""Figures of merit of a daily equity curve: growth, risk, and risk-adjusted return, 365 days a year, no risk-free rate.

Bitcoin trades every calendar day, so annualisation is by 365. A day out of the market counts as a day with return 0.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

DAYS_PER_YEAR = 365
FLAT = 1e-14
"""Standard deviations below this are rounding of a curve that never moves: ratios over it are undefined."""


def daily_returns(equity: ArrayLike) -> np.ndarray:
    """Simple daily returns, shape (n - 1,), of an equity curve of shape (n,) that started from 1 before its first day.

    What the first day cost (an entry at its close) is part of the first return.

    >>> daily_returns([1.0, 1.1, 1.1]).round(9).tolist()
    [0.1, 0.0]
    """
    values = _from_one(equity)
    return values[1:] / values[:-1] - 1


def _from_one(equity: ArrayLike) -> np.ndarray:
    values = np.array(equity, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not (values > 0).all():
        raise ValueError("equity must be one-dimensional, at least two days long and positive throughout")
    values[0] = 1.0
    return values


def drawdowns(equity: ArrayLike) -> np.ndarray:
    """Equity over its running peak, minus 1: shape (n,), 0 at a peak, negative below; the peak starts at 1.

    >>> drawdowns([1.0, 2.0, 1.0]).tolist()
    [0.0, 0.0, -0.5]
    """
    values = _from_one(equity)
    return values / np.maximum.accumulate(values) - 1


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator > FLAT else float("nan")


def sharpe(returns: np.ndarray) -> float:
    """Mean over standard deviation (ddof 1) of daily returns, per day; NaN for a curve that never moves."""
    return _ratio(returns.mean(), returns.std(ddof=1)) if len(returns) > 1 else float("nan")


def sortino(returns: np.ndarray) -> float:
    """Mean over downside deviation sqrt(mean(min(r, 0)^2)) of daily returns, per day (Sortino and Price 1994)."""
    return _ratio(returns.mean(), np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2)))


def skew_kurtosis(returns: np.ndarray) -> tuple[float, float]:
    """Skewness and (not excess) kurtosis from central moments, 3 for the normal; NaN for a curve that never moves."""
    centred = returns - returns.mean()
    variance = np.mean(centred**2)
    if not variance > FLAT**2:
        return float("nan"), float("nan")
    return float(np.mean(centred**3) / variance**1.5), float(np.mean(centred**4) / variance**2)


def performance(equity: ArrayLike, position: ArrayLike, trade_returns: Iterable[float] = ()) -> dict[str, float]:
    """Figures of one strategy.

    Parameters
    ----------
    equity : shape (n,), value at each close per 1 invested before the first, positive, no NaN.
    position : shape (n,), share of equity in the market after each close (0 or 1).
    trade_returns : simple return of each trade after costs.

    Returns
    -------
    dict: total_return, cagr, volatility, sharpe, sortino, max_drawdown (negative), calmar (cagr over the drawdown's
    size), exposure (share of the n - 1 daily returns earned in the market), n_trades, hit_rate. A ratio whose
    denominator is zero, and the hit rate of no trade, are NaN.

    Raises
    ------
    ValueError for an equity curve shorter than two days or not positive.

    >>> round(performance([1.0, 1.1, 1.21], [1, 1, 0])["total_return"], 9)
    0.21
    """
    returns, fall = daily_returns(equity), float(drawdowns(equity).min())
    years = len(returns) / DAYS_PER_YEAR
    growth = float(np.asarray(equity, dtype=float)[-1])
    cagr = growth ** (1 / years) - 1
    trades = np.asarray(list(trade_returns), dtype=float)
    return {
        "total_return": growth - 1,
        "cagr": cagr,
        "volatility": float(returns.std(ddof=1) * np.sqrt(DAYS_PER_YEAR)) if len(returns) > 1 else float("nan"),
        "sharpe": sharpe(returns) * np.sqrt(DAYS_PER_YEAR),
        "sortino": sortino(returns) * np.sqrt(DAYS_PER_YEAR),
        "max_drawdown": fall,
        "calmar": _ratio(cagr, -fall),
        "exposure": float(np.asarray(position, dtype=float)[:-1].mean()),
        "n_trades": len(trades),
        "hit_rate": float((trades > 0).mean()) if len(trades) else float("nan"),
    }
