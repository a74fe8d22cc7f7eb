"""Time the suite beside its peers and write results.json and results.md: `make bench`.

RUNS=n (or REPETITIONS=n): runs of each side, 5 where not given. With fewer (then on every second notebook), or with
sections named as arguments, it is a trial, whose results go to .cache/benchmarks/. CAPITULATION_TEST_DATA: folder that
holds coinmetrics/btc.csv, else a simulated market is used. The first edition is taken from this repository's history
and set up in an environment of its own, as is what the suite is compared with and does not depend on.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from arch.bootstrap import StationaryBootstrap
from IPython.core.pylabtools import print_figure
from scipy.special import stdtrit
from scipy.stats import permutation_test
from threadpoolctl import threadpool_limits

import capitulation as cap
from capitulation.report.run import find_notebooks
from capitulation.simulate.calibrate import EFFECTS, POWER_SHARE, PUBLISHED, market_record
from capitulation.study.returns import event_marks, outcomes
from capitulation.study.robustness import recovery_days, window_grid
from capitulation.study.tables import bootstrap_intervals, study_table

HERE = Path(__file__).resolve().parent
SCRATCH = tempfile.TemporaryDirectory(prefix="bench-")
ROOT, PEER, WORK = HERE.parent, HERE / ".venv", Path(SCRATCH.name)
RUNS = int(os.environ.get("RUNS") or os.environ.get("REPETITIONS") or 5)
CACHE = ROOT / ".cache" / "benchmarks"
OUT = CACHE if RUNS < 5 or sys.argv[1:] else HERE
FIRST_EDITION, EDITIONS = "f918d46", {"ours": ROOT}
SIDES = {"peer": "the peer", "first": "the first edition", "whole": "the whole report"}
PAIRS = [(fast, slow) for slow in range(20, 180, 2) for fast in range(5, 65) if fast < slow]
DAYS, RESAMPLES, SHUFFLES = 90, 2_000, 10_000
MARKETS = 2 * PUBLISHED + len(EFFECTS) * (PUBLISHED // POWER_SHARE)  # of `make calibrate`
VIEW = {"rule": "hash_ribbons", "anchor": "recovery", "fast_days": 30, "slow_days": 60, "horizon_days": DAYS}
VIEW |= {"lag_days": 1, "min_depth_z": 0.0}
SLIDERS = {"fast_days": range(20, 45), "slow_days": range(50, 75), "horizon_days": range(80, 105), "lag_days": range(8)}
WRAPPER = """import resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)"""
NOT_INHERITED = ("RUN", "PARAMS", "SET", "AS_OF", "DATA", "SOURCE", "JOBS", "FORCE", "ENGINE", "CELL_TIMEOUT", "JSON")
NOT_INHERITED += ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
ROWS: dict[str, dict[str, Any]] = {}


def clock(function: Callable[[], Any], times: int = 1) -> float:
    """Seconds of one call, the mean of `times`; garbage of earlier calls is collected before."""
    gc.collect()
    start = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - start) / times


def in_turn(sides: Mapping[str, Callable[[], Any]]) -> dict[str, list[Any]]:
    """Figures of all sides, one after the other RUNS times, so that a busy moment of the machine hits all of them."""
    rounds = [{side: figure() for side, figure in sides.items()} for _ in range(RUNS)]
    return {side: [found[side] for found in rounds] for side in sides}


def row(
    name: str,
    what: str,
    runs: Mapping[str, list[float]],
    bound: str,
    peer: str = "",
    unit: str = "s",
    goal: Mapping[str, float] | None = None,
) -> None:
    """Note what was measured, the figures of each side (ours, peer, first), what bounds them, and who the peer is.

    `goal`: the most that ours may take, and how many times as much the other sides at least.
    """
    ROWS[name] = {"what": what, "unit": unit, "runs": runs, "bound": bound, "peer": peer, "goal": goal or {}}
    print(f"{what}: {', '.join(f'{side} {shown(of, unit)}' for side, of in runs.items())}", flush=True)


def in_own_environment(python: Path, made_of: str, *commands: list[Any], cwd: Path = HERE) -> bool:
    """Whether `python` is there, installed by `commands` unless `made_of` is what it was made of."""
    note = python.parents[1] / "made.txt"
    try:
        if not note.exists() or note.read_text() != made_of:
            for command in commands:
                subprocess.run(command, check=True, capture_output=True, cwd=cwd)
            note.write_text(made_of)
        return True
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"timed without what cannot be installed here: {error}", flush=True)
        return False


def first_edition() -> None:
    """Take the first edition from this repository's history, with an environment of its own, and time it too."""
    folder, archive = CACHE / "first", CACHE / "first.tar"
    folder.mkdir(parents=True, exist_ok=True)
    steps = ["git", "archive", "--output", archive, FIRST_EDITION], ["tar", "-xf", archive, "-C", folder]
    setup = ["env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "make", "--silent", "-C", folder, "setup"]
    if in_own_environment(folder / ".venv" / "bin" / "python", FIRST_EDITION, *steps, setup, cwd=ROOT):
        EDITIONS["first"] = folder


@cache
def data_file() -> Path:
    """The daily file that everything is timed on: the real one, else a simulated market in the same format."""
    folder = os.environ.get("CAPITULATION_TEST_DATA") or ROOT.parent / "shared" / "data"
    real, made = (Path(folder) / "coinmetrics" / "btc.csv").resolve(), WORK / "simulated.csv"
    if real.is_file():
        return real
    names = {"block_count": "BlkCnt", "price_usd": "PriceUSD", "issuance_btc": "IssTotNtv", "fees_btc": "FeeTotNtv"}
    table = cap.simulate_panel(seed=17).rename(columns=names)
    table.assign(HashRate=table["hash_rate_ehs"] * 1e6)[["HashRate", *names.values()]].to_csv(made, index_label="time")
    return made


@cache
def panel() -> pd.DataFrame:
    """The daily panel."""
    return cap.open_panel(data=data_file())


def run(command: list[Any], cwd: Path = ROOT, **environment: str) -> tuple[float, float]:
    """Seconds of a command, and the memory (MB) of the largest process in it; `RuntimeError` where it fails."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    # A process counts at least the memory of the one that starts it, so a small one does.
    small = [sys.executable, "-I", "-S", "-c", WRAPPER, *map(str, command)]
    done = subprocess.run(small, cwd=cwd, env=kept | environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(small[5:])} failed:\n{done.stderr[-2000:]}")
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def make(side: str, target: str = "report", cold: bool = False, **variables: str) -> tuple[float, float]:
    """`make target` of one edition as typed, its reports in a folder of its own; `cold`: where there is none yet."""
    checkout, home = EDITIONS[side], WORK / side
    if not home.exists():
        (home / "notebooks").mkdir(parents=True)
        for notebook in sorted((checkout / "notebooks").glob("[0-9]*.ipynb"))[:: 2 if RUNS < 5 else 1]:
            shutil.copy(notebook, home / "notebooks")
    if cold:
        shutil.rmtree(home / "reports", ignore_errors=True)
    own = checkout / ".venv" / "bin" / "python"
    python = own if side == "first" and own.exists() else sys.executable
    where = {"CAPITULATION_HOME": str(home), "PYTHONPATH": str(checkout / "lib"), "DATA": str(data_file())}
    return run(["make", "--silent", f"PYTHON={python}", "STAMP=", target], checkout, **where, **variables)


def by_hand() -> tuple[float, float]:
    """The same notebooks by papermill's and nbconvert's command lines, one after the other."""
    books, commands = WORK / "ours" / "notebooks", []
    for book in sorted(books.glob("*.ipynb")):
        commands += [["papermill", book, WORK / book.name, "--cwd", books, "-r", "data", data_file()]]
        commands += [["nbconvert", "--to", "html", WORK / book.name]]
    where = {"PYTHONPATH": str(ROOT / "lib"), "JUPYTER_PREFER_ENV_PATH": "1", "CAPITULATION_HOME": str(books.parent)}
    costs = [run([sys.executable, "-m", *command], **where) for command in commands]
    return sum(seconds for seconds, _ in costs), max(megabytes for _, megabytes in costs)


def seconds_of(sides: Mapping[str, Callable[[], tuple[float, float]]]) -> dict[str, list[float]]:
    """Seconds of the commands of all sides, in turn."""
    return {side: [seconds for seconds, _ in costs] for side, costs in in_turn(sides).items()}


def reports() -> None:
    """The whole report cold, by both engines and by hand; then unchanged; then with one parameter changed."""
    first_edition()
    for side in EDITIONS:
        make(side)  # reads every file once, and compiles the library: not counted
    sides = {side: partial(make, side, cold=True) for side in EDITIONS}
    costs = in_turn({"kernel": partial(make, "ours", cold=True, ENGINE="kernel"), "peer": by_hand, **sides})
    seconds, memory = ({side: [cost[i] for cost in costs[side]] for side in costs} for i in (0, 1))
    kernels, peer = {"ours": seconds.pop("kernel"), "peer": seconds["peer"]}, "papermill, then nbconvert, one by one"
    memory.pop("kernel")
    made = WORK / "ours" / "reports" / "latest" / "timings.json"
    timings = json.loads(made.read_text(encoding="utf-8"))
    work, books = sum(timings["notebooks"].values()), find_notebooks(WORK / "ours" / "notebooks")
    bound = f"the notebooks' own work, {work:.1f} s in all on {os.cpu_count()} cores, and the imports before it"
    goal = {"peer": 8, "first": 2.2}
    row("report", f"`make report`, cold, {len(books)} notebooks", seconds, bound, peer, goal=goal)
    bound = "the same work, and a kernel for each notebook, which starts and imports everything anew"
    row("report_kernel", "`make report ENGINE=kernel`, cold", kernels, bound, peer)
    bound = "the imports, which forked notebooks share, and the largest notebook's arrays"
    row("report_memory", "largest process of the cold report", memory, bound, peer, "MB", {"ours": 450})
    bound = "make, and the digests of data, library, notebooks and report; nothing else is loaded"
    found = seconds_of({side: partial(make, side) for side in EDITIONS})
    assert json.loads(made.read_text(encoding="utf-8")) == timings, "the library was edited meanwhile: measure again"
    row("report_unchanged", "`make report`, nothing changed", found, bound, goal={"ours": 0.5})
    names = count()
    found = seconds_of({"ours": lambda: make("ours", RUN=f"name-{next(names)}")})
    bound = "the imports, and the pages, which are written again; every result is another report's"
    row("report_renamed", "`make report RUN=…`, a new name for what another has", found, bound)
    using, ruled = (sum(name in (*book.declared, *book.shared) for book in books) for name in ("hold_days", "rules"))
    bound = f"the imports and the notebooks that use it ({using}); a threshold of the rules would run {ruled} of them"
    days = count(91)
    found = seconds_of({side: lambda side=side: make(side, SET=f"hold_days={next(days)}") for side in EDITIONS})
    row("report_changed", "`make report` after hold_days changed", found, bound, goal={"ours": 3})
    bound = "the imports, and two notebooks at once"
    quick = partial(make, "ours", cold=True, PARAMS=str(ROOT / "params" / "quick.yml"))
    found = {"ours": [quick()[0] for _ in range(RUNS)], "whole": seconds["ours"]}
    row("report_quick", "`make report PARAMS=quick`, cold", found, bound, goal={"whole": 3})


def backtests() -> None:
    """The page of the backtests beside the nearest thing that quantstats makes of them."""
    close, html, python = WORK / "close.csv", WORK / "quantstats.html", peer_python()
    panel()["price_usd"].dropna().asfreq("D").ffill().to_csv(close)
    sides = {"ours": partial(make, "ours", cold=True, SET="pages=[40]")}
    if python:
        sides["peer"] = partial(run, [python, HERE / "quantstats_peer.py", close, html], MPLBACKEND="Agg")
    what, peer = "`make report SET=pages=[40]`, cold: every strategy", "quantstats' HTML report of one strategy"
    row("page", what, seconds_of(sides), "the imports; then every backtest with its random entries", peer)


def waiting() -> None:
    """`make status` on a local file, so that no network is timed; the import in a fresh process."""
    found = seconds_of({side: partial(make, side, "status") for side in EDITIONS})
    row("status", "`make status`", found, "the imports; then the data file, read and checked", goal={"ours": 0.8})
    every = "import capitulation as cap; [getattr(cap, name) for name in cap.__all__ if name != 'figures']"
    ours, peer = ([sys.executable, "-c", code] for code in (every, "import pandas"))
    found = seconds_of({"ours": partial(run, ours, PYTHONPATH=str(ROOT / "lib")), "peer": partial(run, peer)})
    bound = "the files of pandas, scipy.special, pydantic and httpx, read and run"
    what, peer = "`import capitulation`, every public function loaded, pandas included", "`import pandas`"
    row("import", what, found, bound, peer, goal={"ours": 0.6})


def slider() -> None:
    """A step of a slider in explore.ipynb: what its `view` computes and draws, as a PNG."""
    names: dict[str, Any] = {}
    for cell in json.loads((ROOT / "notebooks" / "explore.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code" and "view" not in names:
            with contextlib.redirect_stdout(None):
                exec("".join(line for line in cell["source"] if line[0] != "%"), names)  # noqa: S102  the suite's own notebook
            names |= {"data": str(data_file())} if "parameters" in cell["metadata"].get("tags", ()) else {}

    def step(name: str, at: int) -> float:
        return clock(lambda: print_figure(names["view"](**VIEW | {name: at}), bbox_inches=None))

    def slowest() -> float:
        return max(median(step(name, at) for at in steps) for name, steps in SLIDERS.items())

    bound = "matplotlib, which draws three axes"
    found = in_turn({"ours": slowest})
    row("slider", "explore.ipynb: a step of its slowest slider", found, bound, goal={"ours": 0.15})


@cache
def peer_python() -> Path | None:
    """Python of the peers' own environment, made on first use; None where it cannot be."""
    python, wanted = PEER / "bin" / "python", HERE / "requirements.txt"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted]
    there = in_own_environment(python, wanted.read_text(), [sys.executable, "-m", "venv", "--clear", PEER], install)
    return python if there else None


def sweeps() -> None:
    """Every pair of means: crossings and what followed, equal to vectorbt's; exact rotations of all pairs."""
    close, python = panel()["price_usd"].dropna().asfreq("D").ffill(), peer_python()
    after, files = outcomes(close, DAYS, since=""), [WORK / name for name in ("close.csv", "pairs.csv", "swept.csv")]
    close.to_csv(files[0])
    pd.DataFrame(PAIRS, columns=["fast_days", "slow_days"]).to_csv(files[1], index=False)

    def all_pairs() -> dict[str, np.ndarray]:
        pair, day = recovery_days(close, PAIRS)
        known = day < len(after)
        count = np.bincount(pair[known], minlength=len(PAIRS))
        total = np.bincount(pair[known], after.to_numpy()[day[known]], len(PAIRS))
        return {"n_events": count, "excess_log": total / count - after.mean()}

    def peer() -> float:
        command = [python, HERE / "vectorbt_peer.py", *files, str(DAYS)]
        return float(subprocess.run(command, check=True, capture_output=True).stdout.split()[-1])

    mine = all_pairs()  # first touch of memory: not counted
    runs = in_turn({"ours": partial(clock, all_pairs)} | ({"peer": peer} if python else {}))
    for name in mine if python else ():
        np.testing.assert_allclose(mine[name], pd.read_csv(files[2])[name], rtol=1e-8, atol=1e-9)
    bound = "comparing two means on every day of every pair, and finding where that turns"
    peer = "vectorbt with its Rust engine, same figures" if python else ""
    row("sweep", f"sweep of {len(PAIRS):,} pairs", runs, bound, peer, goal={"peer": 100})
    found = in_turn({"ours": partial(clock, partial(window_grid, panel(), pairs=PAIRS))})
    row("rotations", f"exact rotation of {len(PAIRS):,} pairs together", found, "one Fourier transform for each pair")


def tests() -> None:
    """Rotation against shuffling, bootstrap against arch, the study of all rules; simulated markets, and all tests."""
    returns, events = outcomes(panel(), DAYS), cap.apply_rules(panel()).events
    marks = np.array([event_marks(returns.index, when) for when in events.values()])
    r, days, marks = returns.to_numpy(), events["hash_ribbons", "recovery"], marks[marks.any(axis=1)]
    one = event_marks(returns.index, days)

    def apart(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return a.mean(axis=axis) - b.mean(axis=axis)

    shuffle = partial(permutation_test, (r[one], r[~one]), apart, n_resamples=SHUFFLES, alternative="greater")
    rotate = partial(clock, partial(cap.rotation_test, returns, days), 20)
    runs, peer = in_turn({"ours": rotate, "peer": partial(clock, shuffle)}), f"scipy's, {SHUFFLES:,} shuffles"
    row(
        "rotation",
        f"exact permutation test, all {len(r):,} rotations",
        runs,
        "adding up shifted returns, a shift for each event",
        peer,
        goal={"peer": 1_000},
    )

    def arch() -> np.ndarray:
        own = StationaryBootstrap(DAYS, r, marks.T.astype(float), seed=np.random.default_rng(3))
        return own.apply(lambda x, e: x @ e / e.sum(axis=0) - x.mean(), RESAMPLES)

    intervals = partial(bootstrap_intervals, r, marks, DAYS, RESAMPLES, 0.95, 3)
    freedom = np.array([(np.diff(np.flatnonzero(rule)) >= DAYS).sum() for rule in marks])
    half = np.where(freedom > 0, stdtrit(freedom, 0.975) * np.nanstd(arch(), axis=0, ddof=1), np.nan)
    np.testing.assert_allclose(np.diff(intervals())[:, 0] / 2, half, rtol=1e-9)
    runs = in_turn({"ours": partial(clock, intervals), "peer": partial(clock, arch)})
    what, peer = f"stationary bootstrap, {RESAMPLES:,} times, {len(marks)} rules", "arch's own loop, same intervals"
    row("bootstrap", what, runs, "drawing the random numbers, the same for both", peer)
    found = in_turn({"ours": partial(clock, partial(study_table, panel(), events))})
    bound = "random entries that resemble each rule's events; then the bootstrap and the rotations"
    row("study", f"event study of all rules, {len(events)} by 6 horizons", found, bound)
    seeds = count(100)
    sides = {"market": lambda: cap.simulate_panel(next(seeds))}
    sides |= {"tested": lambda: market_record(("realistic", 0.0, next(seeds)))}
    found = in_turn({side: partial(clock, made) for side, made in sides.items()})
    row("market", "a simulated market of 17 years", {"ours": found["market"]}, "a loop over days")
    row("tested", "such a market, every test on it", {"ours": found["tested"]}, "random entries and bootstraps")


def shown(runs: list[float], unit: str) -> str:
    """Median with the fastest and the slowest run, e.g. 16 s (15.1 to 16.3)."""
    size, unit = next((s, u) for s, u in ((1, unit), (1e-3, "ms"), (1e-6, "µs")) if median(runs) >= s or u == "µs")
    middle, low, high = (f"{value / size:,.3g}" for value in (median(runs), min(runs), max(runs)))
    return f"{middle} {unit} ({low} to {high})"


def judged(found: Mapping[str, Any]) -> str:
    """The goals of a row in words, each with whether its medians reach it."""
    middle, unit, words = {side: median(runs) for side, runs in found["runs"].items()}, found["unit"], []
    for side, goal in found["goal"].items():
        if side == "ours":
            words.append(f"under {goal:g} {unit}: {'met' if middle[side] < goal else 'not met'}")
        elif side in middle:
            met = "met" if middle[side] >= goal * middle["ours"] else "not met"
            words.append(f"{goal:,g} times {SIDES[side]}: {met}")
    return "; ".join(words)


def page() -> str:
    """The text of results.md."""
    heads = ["what", "ours", "peer", "first edition", "peer / ours", "first / ours", "goal", "bounded by"]
    table = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * 5 + " --- |" * 2]
    for found in ROWS.values():
        runs, what = found["runs"], f"{found['what']}; peer: {found['peer']}" if found["peer"] else found["what"]
        cells = [shown(runs[side], found["unit"]) if side in runs else "" for side in ("ours", "peer", "first")]
        ours = median(runs["ours"])
        cells += [f"{median(runs[side]) / ours:,.3g}" if side in runs else "" for side in ("peer", "first")]
        table.append(f"| {' | '.join([what, *cells, judged(found), found['bound']])} |")
    ours = {name: median(found["runs"]["ours"]) for name, found in ROWS.items()}
    market, tested = (1e3 * ours.get(name, np.nan) for name in ("market", "tested"))
    rule, rotation = (1e6 * ours.get(name, np.nan) / len(PAIRS) for name in ("sweep", "rotations"))
    swept = "the sweep\nwas not measured in this run"
    if "rotations" in ROWS:
        swept = f"a rule of the sweep\n{rule:.1f} µs, and {rotation:.0f} µs in the exact rotation of all"
    return f"""# Benchmarks

Written by `make bench` on {time.strftime("%Y-%m-%d")}: medians of {RUNS} runs (fastest to slowest), all sides of a row
in turn. {os.cpu_count()} cores, Python {sys.version.split()[0]}; {len(panel()):,} days, from {data_file().name}.

{chr(10).join(table)}

## Past one machine

On one core a simulated market costs {market:.0f} ms, and {tested:.0f} ms with every test on it; {swept}.

`make calibrate` measures {MARKETS:,} markets: {MARKETS * tested / 6e4:.0f} minutes on one core. Each is a task of
its own, of which a seed goes out and some thirty numbers come back, so that the work divides by the number of cores.
`JOBS=n` takes processes of this machine; `DASK=tcp://host:port` the workers of a cluster, through joblib's Dask backend
(`pip install 'capitulation[dask]'` and the same code on each: a worker whose code or packages differ is refused). A
record depends on its seed alone, wherever it is computed; it is stored as it arrives, and an interrupted run goes on.
"""


SECTIONS = {section.__name__: section for section in (reports, backtests, waiting, slider, sweeps, tests)}

if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(1), np.errstate(invalid="ignore"):
        for section in sys.argv[1:] or SECTIONS:
            SECTIONS[section]()
            (OUT / "results.json").write_text(json.dumps(ROWS, indent=1) + "\n", encoding="utf-8")
            (OUT / "results.md").write_text(page(), encoding="utf-8")
    print(OUT / "results.md")
