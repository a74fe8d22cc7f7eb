"""`make test-slow`: run the long tests and every test of a fault, and write docs/reliability.md from what they report.

Tests report through `local_server.record_outcome`. The page is written only where every test passed; it holds no time
and no measured duration, so that it changes when a test does and not when it is run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
LOG = "CAPITULATION_RELIABILITY_LOG"
FAULT_TESTS = ("test_data_*.py", "test_report_publish.py", "test_report_run.py", "test_reliability_*.py")
PAGE_TEST = "test_reliability_page.py"  # of the page as it was before this run
AREAS = {
    "service": "Services that misbehave",
    "change": "Data that change",
    "crash": "Crashes, kills and interruptions",
    "disk": "Disks that do not play along",
    "concurrency": "Several at once",
    "tampering": "Tampering, hostile text, secrets",
    "wrong input": "Wrong input",
}
WAYS = re.compile(r", (API only|snapshot stored|nothing stored)$")
DISK_STEP = re.compile(r"^disk: (.+) at \w+$")
HEAD = """# Reliability

Each fault below is produced on purpose, with the real code, over a local HTTP server, a real kill or a real disk, by
the tests that `make test-slow` runs; it writes this page when all of them pass. *Tried* counts the times the fault was
produced in that run. Services are tried with the API alone at fault, with everything at fault and a snapshot stored,
and with everything at fault and nothing stored.

**{faults:,} kinds of fault, {tries:,} tries: nothing was lost, half-made or silently wrong in any.**
"""


def merged(entries: Iterable[Mapping]) -> dict[str, dict[str, tuple[int, str]]]:
    """By area, then fault: times tried and outcomes, each said once, in order."""
    tried: dict[tuple[str, str], int] = defaultdict(int)
    outcomes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for entry in entries:
        step = DISK_STEP.match(entry["fault"])
        area = "disk" if step else entry["area"]
        fault = f"{step[1]}, at each step of storing a snapshot" if step else WAYS.sub("", entry["fault"])
        tried[area, fault] += entry["tried"]
        outcomes[area, fault].add(entry["outcome"])
    table: dict[str, dict[str, tuple[int, str]]] = defaultdict(dict)
    for area, fault in sorted(tried):
        table[area][fault] = (tried[area, fault], "; ".join(sorted(outcomes[area, fault])))
    return table


def page(entries: Iterable[Mapping]) -> str:
    """docs/reliability.md."""
    table = merged(entries)
    rows = [row for faults in table.values() for row in faults.values()]
    parts = [HEAD.format(faults=len(rows), tries=sum(tries for tries, _outcome in rows))]
    for area in [*AREAS, *sorted(set(table) - set(AREAS))]:
        if area in table:
            lines = [f"| {_cell(name)} | {tries:,} | {_cell(how)} |" for name, (tries, how) in table[area].items()]
            head = ["| Fault | Tried | Outcome |", "|---|---:|---|"]
            parts.append(f"## {AREAS.get(area, area)}\n\n" + "\n".join([*head, *lines]))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"([|*_`<>\[\]])", r"\\\1", text)


def run_tests(log: Path) -> int:
    """Both parts, the long one first; 0 where every test passed."""
    env = os.environ | {LOG: str(log)}
    found = {path for pattern in FAULT_TESTS for path in (ROOT / "tests").glob(pattern)}
    faults = sorted(str(path) for path in found if path.name != PAGE_TEST)
    parts = (["-m", "slow"], ["-m", "not slow and not browser", *faults])
    command = [sys.executable, "-m", "pytest", "-n", "auto", "--dist", "loadgroup"]
    return max(subprocess.run([*command, *part], cwd=ROOT, env=env, check=False).returncode for part in parts)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "outcomes"
        log.touch()
        code = run_tests(log)
        if code:
            print(f"a test failed: {PAGE.relative_to(ROOT)} stays as it was", file=sys.stderr)
            return code
        PAGE.write_text(page(map(json.loads, log.read_text(encoding="utf-8").splitlines())), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
