"""vectorbt's side of the sweep, run by benchmarks/.venv: one timed run for each line on standard input.

Arguments: a CSV of dates and closes, the file for results, fee per side, fast and slow windows as start:stop:step.
"""

import json
import sys
import time

import pandas as pd
import vectorbt as vbt

WARM_UP_PAIRS = 40


def windows(text: str) -> list[int]:
    return list(range(*map(int, text.split(":"))))


def run(close: pd.Series, pairs: list[tuple[int, int]], fee: float) -> pd.DataFrame:
    fast = vbt.MA.run(close, [f for f, _ in pairs], short_name="fast", run_unique=True)
    slow = vbt.MA.run(close, [s for _, s in pairs], short_name="slow", run_unique=True)
    entries, exits = fast.ma_crossed_above(slow), fast.ma_crossed_below(slow)
    portfolio = vbt.Portfolio.from_signals(close, entries, exits, fees=fee, freq="1D")
    figures = {
        "entries": entries.sum().to_numpy(),
        "exits": exits.sum().to_numpy(),
        "total_return": portfolio.total_return().to_numpy(),
        "sharpe": portfolio.sharpe_ratio().to_numpy(),
    }
    return pd.DataFrame({"fast_days": [f for f, _ in pairs], "slow_days": [s for _, s in pairs], **figures})


def main() -> None:
    source, results, fee, fast, slow = sys.argv[1:]
    close = pd.read_csv(source, index_col=0, parse_dates=True).iloc[:, 0]
    pairs = [(f, s) for s in windows(slow) for f in windows(fast) if f < s]
    run(close, pairs[:WARM_UP_PAIRS], float(fee))  # compiles, or reads compiled code: not counted
    print(json.dumps({"ready": vbt.__version__, "pairs": len(pairs)}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        table = run(close, pairs, float(fee))
        seconds = time.perf_counter() - start
        table.to_csv(results, index=False)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
