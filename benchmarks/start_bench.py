"""What one waits for at the prompt: the import, and where we stand now."""

from __future__ import annotations

import os
import subprocess
import sys

import market
import measure

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


SECTIONS = (import_time, status)
