"""Times the suite against its peers and writes results.md: `make bench`, or `python benchmarks/run.py --help`.

Every section that runs replaces its own line; lines of sections that were left out stay, with the day they were made.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import market
import measure
import report_bench
import start_bench
import statistics_bench
import sweep_bench

HERE = Path(__file__).resolve().parent
STORE, RESULTS = HERE / "results.json", HERE / "results.md"
QUICK = (*sweep_bench.SECTIONS, *statistics_bench.SECTIONS, *start_bench.SECTIONS)
ALL = {section.__name__: section for section in (*report_bench.SECTIONS, *QUICK)}


def _seconds(value: float) -> str:
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (0.0, "µs")):
        if value >= size:
            return f"{value / (size or 1e-6):.3g} {unit}"
    raise ValueError(value)


def _figure(value: float | None, unit: str) -> str:
    return "" if value is None else _seconds(value) if unit == "s" else f"{value:.3g} {unit}"


def _spread(ends: list[float] | None, unit: str) -> str:
    return "" if ends is None else f"{_figure(ends[0], unit)} – {_figure(ends[1], unit)}"


def _cells(line: dict) -> list[str]:
    peer, unit = line["peer"], line.get("unit", "s")
    return [
        line["what"],
        _figure(line["ours"], unit),
        _figure(peer, unit),
        "" if peer is None else f"{peer / line['ours']:,.3g}",
        _spread(line["ours_spread"], unit),
        _spread(line["peer_spread"], unit),
        line["target"],
        "yes" if line["met"] else "no",
    ]


HEAD = ("what", "ours", "peer", "ratio", "spread, ours", "spread, peer", "target", "met")


def _markdown(lines: dict[str, dict], about: str) -> str:
    rows = [_cells(line) for line in lines.values()]
    table = ["| " + " | ".join(cells) + " |" for cells in (HEAD, ["---"] * len(HEAD), *rows)]
    notes = [f"- {line['what']}: {line['note'] or 'no further note'} ({line['day']})." for line in lines.values()]
    text = (
        "# Benchmarks\n\nWritten by `make bench`: medians of at least five runs, ours and the peer in turn in one run; "
        f"spread is the fastest and the slowest; ratio is peer over ours.\n\n{about}\n"
    )
    return "\n".join([text, *table, "", "## Notes", "", *notes, ""])


def _about() -> str:
    return f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}. Data: " + (
        f"{market.described()}."
    )


def _stored() -> dict[str, dict]:
    return json.loads(STORE.read_text(encoding="utf-8")) if STORE.exists() else {}


def _save(lines: dict[str, dict]) -> None:
    ordered = {name: lines[name] for name in ALL if name in lines}
    STORE.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    RESULTS.write_text(_markdown(ordered, _about()), encoding="utf-8")


def _measure(section: Callable[[int], measure.Row | None], runs: int) -> dict | None:
    row = section(runs)
    return None if row is None else {**row.as_dict(), "day": dt.datetime.now(dt.UTC).date().isoformat()}


def main(arguments: list[str] | None = None) -> int:
    """Run the sections asked for, print the table, write results.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(ALL), help="these sections alone")
    parser.add_argument("--quick", action="store_true", help="without the whole report, which takes minutes")
    parser.add_argument("--runs", type=int, default=measure.MIN_RUNS, help="runs of each side, at least 5")
    options = parser.parse_args(arguments)
    chosen = options.only or [name for name, section in ALL.items() if section in QUICK or not options.quick]
    lines = _stored()
    for name in chosen:
        line = _measure(ALL[name], options.runs)
        if line is None:
            print(f"{name}: left out, its library is not installed", flush=True)
            continue
        lines[name] = line
        print(" | ".join(_cells(line)[:4] + _cells(line)[6:]), flush=True)
        _save(lines)
    met = sum(lines[name]["met"] for name in chosen if name in lines)
    print(f"{met} of {len(chosen)} targets met; written to {RESULTS.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
