"""What one waits for: the import, where we stand now, and a slider of explore.ipynb."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

import market
import measure

from capitulation.params import DEFINITIONS, Params

IMPORT = "import pandas, time; start = time.perf_counter(); import capitulation; print(time.perf_counter() - start)"


def import_time(runs: int) -> measure.Row:
    """Seconds that the import takes beyond pandas', in a fresh process."""

    def once() -> float:
        return float(subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True).stdout)

    once()
    return measure.limited("import capitulation, beyond pandas", [once() for _ in range(max(runs, 5))], 0.15)


def status(runs: int) -> measure.Row:
    """`make status` as typed, on a local file, so that no network is timed."""
    environment = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}  # noqa: PTH120
    environment |= {"DATA": str(market.data_file())} if market.data_file() else {"SOURCE": "simulated"}
    command = ["make", "--silent", "status"]

    def once() -> None:
        subprocess.run(command, cwd=market.ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)

    once()
    return measure.limited("make status", [measure.clock(once) for _ in range(max(runs, 5))], 2.0)


STEPS = {
    "fast days": [{"fast_days": days} for days in range(20, 45)],
    "slow days": [{"slow_days": days} for days in range(50, 75)],
    "entry lag": [{"entry_lag_days": days} for days in range(8)],
    "rule": [{"primary_definition": name} for name in DEFINITIONS],
}


def slider(runs: int) -> measure.Row:
    """One step of a slider: new ribbons, episodes, returns and rotation test, and the figure drawn again as a PNG.

    The slowest of the sliders' median steps, each position seen for the first time in its round.
    """
    from capitulation.explore.board import Board
    from capitulation.explore.controls import setting
    from capitulation.explore.result import Explorer

    board, seconds = Board(), dict.fromkeys(STEPS, ())
    board.draw(Explorer(market.panel()).explore(Params()))
    for _ in range(max(runs, 5)):
        explorer = Explorer(market.panel())
        explorer.warm_up(Params())
        for name, steps in STEPS.items():
            moved = [setting(Params(), step) for step in steps]
            took = [measure.clock(lambda at=at, by=explorer: board.draw(by.explore(at))) for at in moved]
            seconds[name] = (*seconds[name], statistics.median(took))
    slowest = max(STEPS, key=lambda name: statistics.median(seconds[name]))
    note = f"the slowest of {len(STEPS)} sliders, {slowest}; without the way to the browser"
    return measure.limited("explore.ipynb: one step of a slider", list(seconds[slowest]), 0.2, note)


SECTIONS = (import_time, status, slider)
