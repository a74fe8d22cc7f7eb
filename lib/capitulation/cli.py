"""The command line: thin, every command is one call into the library.

Options come as flags or, through the Makefile, as environment variables (`RUN`, `PARAMS`, `SET`, `AS_OF`, `DATA`,
`SOURCE`, `JOBS`, `FORCE`, `JSON`, `WATCH`, `A`, `B`, `DASK`, `REPETITIONS`), so that no shell ever interprets a user's
text. Whatever the user can mend ends in one line on stderr and the error's exit code, without a traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends at once, without a traceback

from capitulation.errors import CapitulationError, InputError, one_line
from capitulation.params import Params, load_params, parse_overrides

INTERRUPTED = 130


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    """What the user asked for beyond the profile."""
    values = parse_overrides(options.set)
    for name in ("as_of", "data", "source"):
        if getattr(options, name):
            values[name] = getattr(options, name)
    return values


def _params(options: argparse.Namespace) -> Params:
    return load_params(options.params or None, _overrides(options))


def _count(text: str, name: str, default: int) -> int:
    """A positive whole number in an option, or its default where the option is empty."""
    if not text:
        return default
    if len(text) > 8 or not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000_000:
        raise InputError(f"{name}={one_line(text, 40)!r}: must be a whole number from 1 to 10000000")
    return int(text)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def report(options: argparse.Namespace) -> int:
    """Run every notebook and render the report."""
    from capitulation.report.run import make_report

    params = _params(options)
    jobs = _count(options.jobs, "JOBS", _cores())
    force = options.force not in ("", "0")
    folder = make_report(
        params, options.run, jobs=jobs, force=force, declared_overrides=frozenset(_overrides(options)), progress=_say
    )
    print(folder / "index.html")
    return 0


def fetch(options: argparse.Namespace) -> int:
    """Store a new snapshot."""
    from capitulation.data.market import fetch as fetch_snapshot

    print(fetch_snapshot(_params(options), progress=_say))
    return 0


def status(options: argparse.Namespace) -> int:
    """Print the present state; with WATCH=1 the exit code says it: 0 expansion, 10 capitulation, 11 recovering."""
    from capitulation.data.market import load_market
    from capitulation.study.present import present_state, status_code, status_text

    params = _params(options)
    market = load_market(params, progress=_say)
    state = {**present_state(market.panel, params), "source": market.source, "simulated": market.simulated}
    if options.json not in ("", "0"):
        print(json.dumps(state, indent=1, allow_nan=False))
    else:
        print(status_text(state, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    return status_code(state) if options.watch not in ("", "0") else 0


def lab(options: argparse.Namespace) -> int:
    """JupyterLab on 127.0.0.1 with its token; it asks nobody for news or updates."""
    from capitulation.paths import notebooks_folder

    quiet = ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    place = ["--ip=127.0.0.1", f"--notebook-dir={notebooks_folder()}"]
    arguments = ["-m", "jupyterlab", *place, *quiet, *options.rest]
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606  no shell, own arguments


def compare(options: argparse.Namespace) -> int:
    """What changed between two reports, as a page."""
    from capitulation.report.compare import compare_runs

    if not options.a or not options.b:
        raise InputError("name both reports: make compare A=run1 B=run2")
    print(compare_runs(options.a, options.b, progress=_say))
    return 0


def bundle(options: argparse.Namespace) -> int:
    """A zip of a report with its tables."""
    from capitulation.report.bundle import bundle as make_bundle

    print(make_bundle(options.run or "latest"))
    return 0


def reproduce(options: argparse.Namespace) -> int:
    """Rebuild a report from its record and compare every table."""
    from capitulation.report.reproduce import reproduce as rebuild

    same, text = rebuild(options.run or "latest", progress=_say)
    print(text)
    return 0 if same else 1


def check_data(options: argparse.Namespace) -> int:
    """Verify every snapshot against its manifest."""
    from capitulation.data.store import check_data as verify

    rows = verify()
    for row in rows:
        print(row)
    if not rows:
        _say("no snapshot in data/raw: nothing to verify; make fetch stores one")
    return 0 if all(row.good for row in rows) else 1


def calibrate(options: argparse.Namespace) -> int:
    """Measure every test on simulated markets."""
    from capitulation.simulate.calibrate import calibrate as measure

    repetitions = _count(options.repetitions, "REPETITIONS", 2000)
    print(measure(repetitions, jobs=_count(options.jobs, "JOBS", _cores()), dask=options.dask or None, progress=_say))
    return 0


def docs(options: argparse.Namespace) -> int:
    """Rewrite docs/ and the README's generated parts from a report."""
    from capitulation.report.docs import write_docs

    for path in write_docs(options.run or "latest"):
        print(path)
    return 0


def screenshots(options: argparse.Namespace) -> int:
    """Pictures of a report in docs/screenshots/."""
    from capitulation.report.screenshots import take_screenshots

    for path in take_screenshots(options.run or "latest"):
        print(path)
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "report": report,
    "fetch": fetch,
    "status": status,
    "lab": lab,
    "compare": compare,
    "bundle": bundle,
    "reproduce": reproduce,
    "check-data": check_data,
    "calibrate": calibrate,
    "docs": docs,
    "screenshots": screenshots,
}
OPTIONS = {
    "run": "name of the report",
    "params": "profile: a YAML file, or a name in params/",
    "set": 'overrides, "name=value name=value"',
    "as_of": "last day known to the run",
    "data": "local CSV file in Coin Metrics' format",
    "source": "auto, coinmetrics, mempool_space, blockchain_com or simulated",
    "jobs": "processes",
    "force": "1: run every notebook again",
    "json": "1: print JSON",
    "watch": "1: the exit code says the state",
    "a": "first report to compare",
    "b": "second report to compare",
    "dask": "address of a Dask scheduler",
    "repetitions": "simulated markets per world",
}


def parser() -> argparse.ArgumentParser:
    """Every option of every command; defaults come from the environment."""
    root = argparse.ArgumentParser(prog="capitulation", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    commands = root.add_subparsers(dest="command", required=True, metavar="command")
    for name, function in COMMANDS.items():
        command = commands.add_parser(name, help=function.__doc__)
        for option, text in OPTIONS.items():
            command.add_argument(f"--{option.replace('_', '-')}", default=os.environ.get(option.upper(), ""), help=text)
    return root


def _command(arguments: Sequence[str] | None) -> int:
    options, rest = parser().parse_known_args(arguments)
    options.rest = rest
    if rest and options.command != "lab":
        raise InputError(
            f"unknown option {one_line(options.rest[0], 80)!r}; see: capitulation {options.command} --help"
        )
    return COMMANDS[options.command](options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or the error's own."""
    try:
        return _command(arguments)
    except CapitulationError as error:
        _say(f"error: {one_line(error, 1000)}")
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted: nothing was published")
        return INTERRUPTED
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        _say(f"error: {one_line(error.filename or 'file system', 200)}: {error.strerror}; nothing was published")
        return 1


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
