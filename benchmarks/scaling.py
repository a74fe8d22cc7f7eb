"""Writes docs/scaling.md from results.json: what a rule and a market cost, and what many of both cost on n workers.

Run by `python benchmarks/scaling.py` after `make bench`. The simulated market and its tests are timed here, on one core.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "scaling.md"
PAIRS = 4271
RULES, MARKETS = 10**6, 10**4
WORKERS = (1, 2, 8, 32, 128)
RUNS = 5


def _median_seconds(action) -> float:
    seconds = []
    for run in range(RUNS):
        started = time.perf_counter()
        action(run)
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def _market_costs() -> tuple[float, float]:
    """Seconds of one simulated market of 17 years, and of one market with every test on it, on one core."""
    from capitulation.simulate import simulate_panel
    from capitulation.simulate.stored import live_records

    simulate_panel(seed=1)
    live_records(1)
    alone = _median_seconds(lambda run: simulate_panel(seed=100 + run))
    tested = _median_seconds(lambda run: live_records(2)) / 2
    return alone, tested


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f} h" if hours >= 10 else f"{hours:.1f} h" if hours >= 1 else f"{seconds / 60:.1f} min"


def page() -> str:
    """The text of docs/scaling.md."""
    lines = json.loads((HERE / "results.json").read_text(encoding="utf-8"))
    sweep, rotation = (lines[name]["ours"] / PAIRS for name in ("against_vectorbt", "all_rotations"))
    two = lines["two_workers"]
    efficiency = two["peer"] / two["ours"] / 2
    alone, tested = _market_costs()
    totals = {
        "states, crossings, return and Sharpe": RULES * MARKETS * sweep + MARKETS * alone,
        "the same with the exact rotation of all rules together": RULES * MARKETS * rotation + MARKETS * alone,
    }
    head = "| work | " + " | ".join(f"{n} worker{'s' if n > 1 else ''}" for n in WORKERS) + " |"
    rule = "| --- |" + " ---: |" * len(WORKERS)
    rows = [
        f"| {name} | " + " | ".join(_hours(seconds / (n * (efficiency if n > 1 else 1))) for n in WORKERS) + " |"
        for name, seconds in totals.items()
    ]
    return "\n".join(
        [
            "# Past one machine",
            "",
            "Written by `python benchmarks/scaling.py` from the figures of `make bench` "
            f"([results](../benchmarks/results.md)) on {os.cpu_count()} cores.",
            "",
            "## What one costs, on one core",
            "",
            "| unit | time |",
            "| --- | ---: |",
            f"| a rule (pair of means) over the whole history: states, crossings, return, Sharpe | {1e6 * sweep:.1f} µs |",
            f"| a rule in the exact rotation of all rules together | {1e6 * rotation:.0f} µs |",
            f"| a simulated market of 17 years | {1e3 * alone:.0f} ms |",
            f"| a simulated market and every test of `make calibrate` on it | {1e3 * tested:.0f} ms |",
            f"| two Dask workers against one, rotations of {two['note'].split(';')[0]} | {100 * efficiency:.0f} % efficiency |",
            "",
            f"## {RULES:,} rules on {MARKETS:,} markets",
            "",
            f"The product of the figures above, at the efficiency measured with two workers ({100 * efficiency:.0f} %) for any "
            "number of them. That is an extrapolation, not a measurement: more workers share a scheduler and a network that "
            "two on one machine do not.",
            "",
            head,
            rule,
            *rows,
            "",
            "## How",
            "",
            "`study.sweep.sweep`, `study.sweep_rotation.sweep_rotation` and `study.robustness.window_grid` take `map_chunks`: "
            "`study.chunks.threads(n)` on this machine, `study.chunks.dask(client)` on a cluster. The series are sent to each "
            "worker once, a chunk is a few dozen fast windows, and results are the same to the last bit wherever they were "
            "computed; a chunk whose worker dies is computed again. `make calibrate DASK=tcp://host:port` does the same for "
            "simulated markets, keeps every finished chunk on disk and goes on from there after an interruption.",
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
