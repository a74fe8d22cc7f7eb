"""vectorbt's side of the sweep, run by the Python of benchmarks/.venv: prints its version and the seconds of one sweep.

Arguments: a CSV of dates and closes, a CSV of pairs (fast_days, slow_days), the file for results, the days of a return.
"""

import sys
import time

import numpy as np
import pandas as pd
import vectorbt as vbt


def run(close: pd.Series, pairs: pd.DataFrame, days: int) -> dict[str, np.ndarray]:
    fast = vbt.MA.run(close, pairs["fast_days"].tolist(), short_name="fast", run_unique=True)
    slow = vbt.MA.run(close, pairs["slow_days"].tolist(), short_name="slow", run_unique=True)
    after = np.log(close.shift(-days - 1) / close.shift(-1)).dropna()
    entries = fast.ma_crossed_above(slow).to_numpy()[: len(after)]
    count = entries.sum(axis=0)
    return {"n_events": count, "excess_log": after.to_numpy() @ entries / count - after.mean()}


if __name__ == "__main__":
    source, asked, results, days = sys.argv[1:]
    close, pairs = pd.read_csv(source, index_col=0, parse_dates=True).iloc[:, 0], pd.read_csv(asked)
    run(close, pairs, int(days))  # compiles, and touches the memory for the first time: not counted
    start = time.perf_counter()
    figures = run(close, pairs, int(days))
    print(vbt.__version__, time.perf_counter() - start)
    pairs.assign(**figures).to_csv(results, index=False)
