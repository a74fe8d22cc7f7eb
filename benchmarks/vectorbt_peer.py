"""vectorbt's side of the sweep, run by the Python of benchmarks/.venv: prints its version and the seconds of one sweep.

Arguments: a CSV of dates and closes, a CSV of pairs (fast_days, slow_days), the file for results, the fee per side.
"""

import sys
import time

import pandas as pd
import vectorbt as vbt


def run(close: pd.Series, pairs: pd.DataFrame, fee: float) -> tuple[vbt.Portfolio, dict[str, pd.Series]]:
    fast = vbt.MA.run(close, pairs["fast_days"].tolist(), short_name="fast", run_unique=True)
    slow = vbt.MA.run(close, pairs["slow_days"].tolist(), short_name="slow", run_unique=True)
    entries, exits = fast.ma_crossed_above(slow), fast.ma_crossed_below(slow)
    portfolio = vbt.Portfolio.from_signals(close, entries, exits, fees=fee, freq="1D")
    total, ratio = portfolio.total_return(), portfolio.sharpe_ratio()
    return portfolio, {"n_trades": entries.sum(), "total_return": total, "sharpe": ratio}


if __name__ == "__main__":
    source, asked, results, fee = sys.argv[1:]
    close, pairs = pd.read_csv(source, index_col=0, parse_dates=True).iloc[:, 0], pd.read_csv(asked)
    run(close, pairs, float(fee))  # compiles, and touches the memory for the first time: not counted
    start = time.perf_counter()
    portfolio, figures = run(close, pairs, float(fee))
    print(vbt.__version__, time.perf_counter() - start)
    # For the comparison: the first day, which has no return, does not count.
    figures["sharpe"] = portfolio.returns().iloc[1:].vbt.returns(freq="1D").sharpe_ratio()
    pairs.assign(**{name: values.to_numpy() for name, values in figures.items()}).to_csv(results, index=False)
