"""The command line: thin, every command is one call into the library.

Options come as flags or, through the Makefile, as environment variables (`RUN`, `PARAMS`, `SET`, ...), so that no shell
ever interprets a user's text. What the user can mend ends in one line on stderr and the error's exit code.
What takes a quarter of a second and more to import (pages, the calibration) is imported by the command that needs it.
"""

from __future__ import annotations

import argparse
import codecs
import datetime as dt
import io
import json
import os
import re
import signal
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from capitulation.data import live
from capitulation.data import register as forecast_register
from capitulation.data.files import local_files
from capitulation.data.market import STALE_DAYS, Market, utc_now
from capitulation.data.market import fetch as fetch_snapshot
from capitulation.data.snapshots import check_data as verify_snapshots
from capitulation.errors import CapitulationError, InputError, SourceUnavailable, nearest, one_line
from capitulation.params import ANY_PROFILE, Params, make_params, parse_overrides, read_profile
from capitulation.paths import notebooks_folder, project_root
from capitulation.report import unchanged
from capitulation.report.run import (
    ENGINES,
    Options,
    find_notebooks,
    make_report,
    market_for,
    open_report,
)
from capitulation.study.present import present_state, status_code, status_text

INTERRUPTED, PIPE_CLOSED = 130, 141  # as a shell says it
LAB_SETTINGS = Path(__file__).parents[1] / "lab-settings"
PLAIN = dict(zip("▁▂▃▄▅▆▇█−–“”\u00a0×±≤≥≈…", [*'_.,-=+*#--"" x', "+/-", "<=", ">=", "~", "..."], strict=True))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _plainly(error: UnicodeEncodeError) -> tuple[str, int]:
    """Handles what a terminal's encoding lacks: in plain signs or as an escape, so that nothing is lost."""
    text = error.object[error.start : error.end].translate(str.maketrans(PLAIN))
    return text.encode("ascii", "backslashreplace").decode(), error.end


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """What the user asks for beyond a profile: SET, then the single options."""
    single = {name: getattr(options, name) for name in ("as_of", "data", "source", "licence") if getattr(options, name)}
    return parse_overrides(options.set) | single


def _chosen(options: argparse.Namespace) -> tuple[Params, dict[str, Any]]:  # type: ignore[valid-type]
    """Parameters of the run, and values for names that only notebooks declare."""
    values, declared = read_profile(options.params) | _asked(options), set[str]()
    if values.keys() - Params.model_fields.keys():
        declared = {name for item in find_notebooks(notebooks_folder()) for name in item.declared}
    own = {name: values.pop(name) for name in [*values] if name in declared - Params.model_fields.keys()}
    return make_params(values, f"SET or {options.params or ANY_PROFILE}", declared), own


def _count(options: argparse.Namespace, name: str, default: int) -> int:
    """A positive whole number in an option, or its default where the option is empty."""
    text = getattr(options, name)
    if not re.fullmatch(r"0*[1-9][0-9]{0,6}|", text):
        raise InputError(f"{name.upper()}={one_line(text, 40)!r}: must be a whole number from 1 to 9999999")
    return int(text or default)


def _refuse_simulated(market: Market, why: str) -> None:
    """`SourceUnavailable` where the data are not real, with the reason for that if one is known."""
    if market.simulated:
        raise SourceUnavailable(f"{market.notes[0] if market.notes else 'simulated market'}; {why}")


def _making(options: argparse.Namespace) -> Options:
    """How a report is to be made."""
    if options.engine not in ("", *ENGINES):
        meant = nearest(options.engine, ENGINES)
        raise InputError(f"ENGINE={one_line(options.engine, 40)!r}: {meant}must be one of {', '.join(ENGINES)}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Options(_count(options, "jobs", cores), options.force, options.engine, _count(options, "cell_timeout", 900))


def report(options: argparse.Namespace) -> int:
    """Run every notebook that changed and render the report."""
    making, (params, own) = _making(options), _chosen(options)
    settled = unchanged.asked_plainly() and params.data and params.source == "auto"  # by files, which stay as they are
    files = local_files(params.data, params.columns) if settled else []
    files += [path for path in (Path(options.params),) if files and path.is_file()]
    decided = unchanged.decides(files) if files else {}
    published = []

    def then(folder: Path) -> None:
        published.append(folder)
        unchanged.tell(folder)
        write_down(folder.name)
        if decided:
            unchanged.keep_note(folder.name, files, decided)

    try:
        make_report(params, options.run, making, own=own, overrides=_asked(options), progress=_say, then=then)
    except KeyboardInterrupt:
        if not published:
            raise
        _say("interrupted: the report is published; its forecasts enter the register with the next one")
        return INTERRUPTED
    return 0


def write_down(run: str) -> None:
    """The forecasts of the report `run`, whose lock is held, go into the register, or one line says why they do not."""
    folder, record = open_report(run)
    if why := forecast_register.kept_out(record, utc_now().date()):
        _say(f"register: nothing added, {why}")
        return
    rows = pd.read_csv(folder / "tables" / forecast_register.REGISTER, dtype=str, keep_default_na=False)
    code = f"{record['versions']['capitulation']}+{record['library'][:12]}"
    source = record["market"]["source"]
    if added := forecast_register.append(rows, made_at=utc_now(), source=source, code_version=code):
        _say(f"register: {added} forecasts added (data/register/{forecast_register.REGISTER})")


def fetch(options: argparse.Namespace) -> int:
    """Store a new snapshot of the data."""
    params, _own = _chosen(options)
    if params.source == "simulated" or (params.data and params.source == "auto"):
        raise InputError("nothing to fetch for DATA=… or SOURCE=simulated; choose SOURCE=auto or a provider")
    print(fetch_snapshot(params.source, progress=_say, licence=params.licence))
    return 0


def status(options: argparse.Namespace) -> int:
    """Print the present state; with WATCH=1 the exit code says it: 0 expansion, 10 capitulation, 11 recovering.

    12 where it is unknown, as from data older than `max_age_days`; a simulated market is nothing to watch.
    """
    params, _own = _chosen(options)
    market = market_for(params, _say)
    if options.watch:
        _refuse_simulated(market, "nothing to watch")
    shown = {"fast_days", "slow_days", "power_price_usd_kwh", "confidence", "min_days", "min_depth_z"}
    study = {"horizons": params.horizons_days, "lag": params.entry_lag_days, "since": params.sample_start}
    study["primary_days"] = params.primary_horizon_days
    state = present_state(market.panel, blocks=market.blocks, **study, **params.model_dump(include=shown))
    today = dt.date.fromisoformat(params.as_of) if params.as_of else dt.datetime.now(dt.UTC).date()
    old = (today - market.panel.index[-1].date()).days
    state |= {"source": market.sources, "simulated": market.simulated, "age_days": old, "notes": list(market.notes)}
    state["stale"] = not market.simulated and old > params.max_age_days + STALE_DAYS
    if options.json:
        then = {"ribbon_state": "unknown", "ribbon_state_then": state["ribbon_state"]} if state["stale"] else {}
        print(json.dumps(state | then, indent=1, allow_nan=False))
    else:
        print(status_text(state, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    return status_code(state) if options.watch else 0


def register(options: argparse.Namespace) -> int:
    """Print the open forecasts and how those that are decided came out."""
    rows = forecast_register.read_register()
    if rows.empty:
        print("no forecast is written down yet: make report does it, on real data that are up to date")
        return 0
    from capitulation.study.forecasts import register_text

    params, _own = _chosen(options)
    market = market_for(params, _say)
    _refuse_simulated(market, "nothing decides a forecast")
    print(register_text(rows, market.panel))
    return 0


def lab(options: argparse.Namespace) -> int:
    """JupyterLab on 127.0.0.1 with its token, at the project's root; it asks nobody for news or updates."""
    arguments = [
        *("-m", "jupyterlab", "--ip=127.0.0.1", f"--notebook-dir={project_root()}"),
        *("--LabApp.default_url=/lab/tree/notebooks", f"--LabApp.app_settings_dir={LAB_SETTINGS}"),
        *("--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
        *(["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    ]
    os.execv(sys.executable, [sys.executable, *arguments, *options.rest])  # noqa: S606  no shell, own arguments


def compare(options: argparse.Namespace) -> int:
    """What changed between two reports, as a page."""
    if not options.a or not options.b:
        raise InputError("name both reports: make compare A=run1 B=run2")
    from capitulation.report import compare as published

    print(published.compare_runs(options.a, options.b, progress=_say))
    return 0


def show(options: argparse.Namespace) -> int:
    """Open a report in the browser."""
    folder, _record = open_report(options.run or unchanged.DEFAULT_RUN)
    page = (folder / "index.html").resolve()
    print(page)
    if not webbrowser.open(page.as_uri()):
        _say("no browser was found that could open it")
        return 1
    return 0


def bundle(options: argparse.Namespace) -> int:
    """A zip of a report with its tables."""
    from capitulation.report import compare as published

    print(published.bundle(options.run or unchanged.DEFAULT_RUN))
    return 0


def reproduce(options: argparse.Namespace) -> int:
    """Rebuild a report from its record and compare every table."""
    from capitulation.report import compare as published

    same, text = published.reproduce(options.run or unchanged.DEFAULT_RUN, _making(options), progress=_say)
    print(text)
    return 0 if same else 1


def check_data(options: argparse.Namespace) -> int:
    """Verify every snapshot against its manifest, and the chain of the register of forecasts."""
    rows = [*verify_snapshots(), *forecast_register.check_register()]
    for status, name, reason in rows:
        print(f"{status:12} {name}: {reason}")
    if not rows:
        _say("no snapshot in data/raw: nothing to verify; make fetch stores one")
    return int(any(status == "refused" for status, _name, _reason in rows))


def check_live(options: argparse.Namespace) -> int:
    """Ask every service for a little and compare its answer with what is documented; nothing is stored."""
    lines = live.check_live(progress=lambda line: print(line, flush=True))
    return int(any(line.status in (live.DIFFERS, live.NO_ANSWER) for line in lines))


def calibrate(options: argparse.Namespace) -> int:
    """Measure every test on simulated markets."""
    repetitions, jobs = _count(options, "repetitions", 2000), _making(options).jobs
    from capitulation.simulate.calibrate import calibrate as measure

    print(measure(repetitions, jobs=jobs, dask=options.dask or None))
    return 0


COMMANDS = (report, show, fetch, status, register, lab, compare, bundle, reproduce, check_data, check_live, calibrate)
OPTIONS = {
    "run": "name of the report",
    "params": "profile: a YAML file, or a name in params/",
    "set": 'overrides, "name=value name=value"',
    "as_of": "last day known to the run",
    "data": "local file, or several separated by spaces",
    "source": "auto, coinmetrics, node, mempool_space, blockchain_com or simulated",
    "licence": "commercial: only sources that allow commercial use",
    "jobs": "processes",
    "force": "1: run every notebook again",
    "engine": "in-process or kernel: what runs the notebooks",
    "cell_timeout": "seconds after which a cell is ended",
    "json": "1: print JSON",
    "watch": "1: the exit code says the state",
    "a": "first report to compare",
    "b": "second report to compare",
    "dask": "address of a Dask scheduler",
    "repetitions": "simulated markets per world",
}
SWITCHES = ("force", "json", "watch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or the error's own."""
    if os.path.expanduser("~") == "~":  # noqa: PTH111  neither HOME nor an entry of this user, which Jupyter asks for
        os.environ["HOME"] = "/"
    codecs.register_error("plainly", _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plainly")
    root = argparse.ArgumentParser(prog="capitulation", description=str(__doc__).splitlines()[0])
    commands = root.add_subparsers(required=True, metavar="command")
    for function in COMMANDS:
        command = commands.add_parser(function.__name__.replace("_", "-"), help=function.__doc__)
        command.set_defaults(function=function)
        for option, text in OPTIONS.items():
            command.add_argument(f"--{option.replace('_', '-')}", default=os.environ.get(option.upper(), ""), help=text)
    options, options.rest = root.parse_known_args(arguments)
    vars(options).update({name: "--" for name in OPTIONS if getattr(options, name) == []})  # argparse drops this text
    vars(options).update({name: getattr(options, name) not in ("", "0") for name in SWITCHES})
    for number in (signal.SIGINT, signal.SIGTERM):  # ended politely either way: everything is put away
        signal.signal(number, signal.default_int_handler)
    try:
        if options.rest and options.function is not lab:
            raise InputError(f"unknown option {one_line(options.rest[0], 80)!r}; --help lists those that are known")
        return options.function(options)
    except CapitulationError as error:
        _say(f"error: {one_line(error, 1000)}")
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted: nothing was published")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        _say(f"error: {one_line(error.filename or 'file system', 200)}: {error.strerror}; nothing was published")
        return 1
