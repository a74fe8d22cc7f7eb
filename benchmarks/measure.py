"""How every figure in results.md is made: ours and the peer in turn, in one run, medians of at least five."""

from __future__ import annotations

import contextlib
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

MIN_RUNS = 5


@dataclass(frozen=True)
class Row:
    """One line of the table: figures of both sides in `unit` (a peer of None: ours against a limit), what was asked."""

    what: str
    ours: float
    peer: float | None
    ours_spread: tuple[float, float]
    peer_spread: tuple[float, float] | None
    target: str
    met: bool
    note: str = ""
    unit: str = "s"

    def as_dict(self) -> dict:
        return asdict(self)


def clock(function: Callable[[], object]) -> float:
    """Seconds of one call; garbage of earlier calls is collected before."""
    gc.collect()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def in_turn(ours: Callable[[], float], peer: Callable[[], float], runs: int) -> tuple[list[float], list[float]]:
    """Seconds of both sides, one after the other `runs` times, so that a busy moment of the machine hits both."""
    pairs = [(ours(), peer()) for _ in range(max(runs, MIN_RUNS))]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def compared(what: str, ours: list[float], peer: list[float], at_least: float, note: str = "") -> Row:
    """A row with the wanted ratio peer / ours of the medians; a target of 0 asks for nothing."""
    own, other = statistics.median(ours), statistics.median(peer)
    target = f"at least {at_least:,g} times faster" if at_least else "none"
    return Row(what, own, other, (min(ours), max(ours)), (min(peer), max(peer)), target, other / own >= at_least, note)


def limited(what: str, ours: list[float], at_most: float, note: str = "", unit: str = "s") -> Row:
    """A row with a limit in `unit`."""
    own, spread = statistics.median(ours), (min(ours), max(ours))
    return Row(what, own, None, spread, None, f"at most {at_most:g} {unit}", own <= at_most, note, unit)


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """This process, and those it starts, on one core; a no-op where the system cannot say."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
