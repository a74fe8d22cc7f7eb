"""Kill -9 at random moments of a whole `report`, publishing included.

Run as a program (`python -m reliability.kill_reports HOME KILLS SEED`, from the folder of the tests): it imports
everything once, makes two complete versions of one report, then forks a child per kill that makes one of the two
again. After each kill the published report must be one of the two versions, whole, and no process may live on; every
so often an undisturbed run must end well without any cleaning and leave nothing behind.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from capitulation import cli
from reliability import homes

RUN = "t"
UNDISTURBED_EVERY = 10
PUBLISHING_SECONDS = 0.006
ENDED = 0


def make(home: Path, variant: str) -> int:
    """Fork a child, leader of its own group, that makes the report; its process id."""
    child = os.fork()
    if child == 0:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os._exit(cli.main(homes.report_arguments(home, RUN, variant)))
    return child


def version(home: Path, variant: str) -> dict[str, str]:
    """Make the report to its end, without any cleaning before; what it holds."""
    _pid, status = os.waitpid(make(home, variant), 0)
    assert status == ENDED, f"an undisturbed run ended with status {status}"
    homes.no_process_left(home)
    assert not homes.rubbish(home), homes.rubbish(home)
    return homes.digests(home / "reports" / RUN)


def wait_for_publishing(home: Path, child: int) -> None:
    """Return when the new report is complete in its staging folder, so about to be published, or the child ended."""
    while not any((home / "reports").glob(f".{RUN}.staging-*/timings.json")):
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.0003)


def kill_one(home: Path, number: int, variant: str, length: float, moments: random.Random) -> tuple[bool, bool]:
    """Start, wait for a random moment, kill; (whether it was alive, whether it was publishing)."""
    child = make(home, variant)
    publishing = number % 3 == 2
    if publishing:
        wait_for_publishing(home, child)
        time.sleep(moments.uniform(0, PUBLISHING_SECONDS))
    else:
        time.sleep(moments.uniform(0, length))
    kill = os.killpg if number % 2 else os.kill
    try:
        kill(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)  # so young that it is not yet the leader of its group
    _pid, status = os.waitpid(child, 0)
    homes.no_process_left(home)
    return os.WIFSIGNALED(status), publishing


def mixed(found: dict[str, str], complete: list[dict[str, str]]) -> list[str]:
    """Files by which a report differs from the complete version that it is nearest to."""
    differing = [[name for name in {**found, **one} if found.get(name) != one.get(name)] for one in complete]
    return sorted(min(differing, key=len))


def main(home: Path, kills: int, seed: int) -> None:
    from capitulation.report.lean import load_machinery

    load_machinery()
    complete = [version(home, homes.VARIANTS[0])]
    began = time.monotonic()
    complete.append(version(home, homes.VARIANTS[1]))
    length = time.monotonic() - began
    assert complete[0] != complete[1]
    moments = random.Random(seed)
    alive = published = new = 0
    for number in range(kills):
        before = homes.digests(home / "reports" / RUN)
        was_alive, publishing = kill_one(home, number, homes.VARIANTS[number % 2], length, moments)
        after = homes.digests(home / "reports" / RUN)
        assert after in complete, f"kill {number} left neither version: {mixed(after, complete)}"
        alive += was_alive
        published += was_alive and publishing
        new += after != before
        if number % UNDISTURBED_EVERY == UNDISTURBED_EVERY - 1 and number < kills - 1:
            which = number // UNDISTURBED_EVERY % 2
            assert version(home, homes.VARIANTS[which]) == complete[which]
    assert version(home, homes.VARIANTS[0]) == complete[0]
    print(f"{kills} kills: {alive} while it ran, of these {published} around publishing; {new} times the new report"
          " was already whole in place")  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
