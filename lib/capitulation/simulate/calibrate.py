"""How far can each test be trusted? Every test of the suite on thousands of markets whose truth is known.

A test at 5 % should reject one market in twenty when nothing is there. `make calibrate` measures whether it does, and
how often a planted effect is found; data/reference/calibration.json holds the result with the first records of every
group, which today's code must give again. A market's record depends on its seed alone.

Two calendars of events are tested: the recoveries of each market itself, which its own falls of price bring about; and
Bitcoin's actual ones (data/reference/recoveries.csv) in its actual halving eras, laid on every market: the very spacing
on which the result of the suite rests.
"""

from __future__ import annotations

import json
import platform
import re
from collections import namedtuple
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from capitulation.errors import CapitulationError, InputError, one_line
from capitulation.mining.difficulty import era_of
from capitulation.paths import project_root, reference_folder, write_whole
from capitulation.simulate.market import EFFECT_DAYS, parameters, planted_returns, simulate_market
from capitulation.study import chance
from capitulation.study.returns import event_marks, outcomes, own_era_excess
from capitulation.study.robustness import recovery_marks
from capitulation.study.tables import bootstrap_intervals, resampled_sums

STORED, RECOVERIES, PUBLISHED, RECORDS_KEPT = "calibration.json", "recoveries.csv", 2000, 2
FIRST_SEED, LIVE_SEED = 1_000_000, 2_000_000
EFFECTS = (0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.50)
POWER_SHARE, POWER_TESTS = 5, ("rotation_own_era", "rotation", "matched")
PLANTED = {f"planted_{effect:.2f}": effect for effect in np.arange(1, 13) / 20}  # log returns, on the actual calendar
FEW = {n: {f"planted_{effect:.2f}_of_{n}": effect for effect in (0.2, 0.4, 0.8)} for n in (2, 5, 10, 15, 20, 25)}
PACKAGES = ("numpy", "pandas", "scipy", "arch", "statsmodels")
CURVE_LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
YEARS, WEEK = 17, 7

TESTS: dict[str, str] = {  # name and meaning of every test whose level is measured, the headline's first
    "rotation_own_era": "rotation, own-era excess",
    "rotation": "rotation",
    "rotation_two_sided": "rotation, two-sided",
    "rotation_era_demeaned": "rotation, returns less their era's mean",
    "rotation_era_stratified": "rotation within each era",
    "matched": "matched random entries",
    "ols": "least squares, plain t-value",
    "hac": "least squares, Newey-West t-value",
    "hansen_hodrick": "least squares, Hansen-Hodrick t-value",
    "bootstrap": "stationary bootstrap, interval without zero",
    "interval_own_era": "interval of the own-era excess, without zero",
    "max_rotation": "max-rotation over a grid of windows",
    "max_rotation_own_era": "max-rotation over a grid of windows, own-era excess",
    "spa": "superior predictive ability over a grid of windows",
    "rotation_own_era_two_sided": "rotation, own-era excess, two-sided",
}
PAIRS = ("rotation_own_era", "interval_own_era", "rotation", "bootstrap")  # what is measured on both calendars
TESTS |= {f"actual_{name}": f"actual recoveries: {TESTS[name]}" for name in PAIRS}
INTERVALS = {  # intervals that reject by leaving out zero: kind of excess, and whose recoveries
    "bootstrap": ("excess", "own"),
    "interval_own_era": ("own-era excess", "own"),
    "actual_bootstrap": ("excess", "actual"),
    "actual_interval_own_era": ("own-era excess", "actual"),
}
BOUNDS = {  # low, high, and the truth that they should hold
    (excess, calendar): [f"{of}{kind}{name}" for name in ("ci_low", "ci_high", "truth")]
    for calendar, of in (("own", ""), ("actual", "actual_"))
    for excess, kind in (("excess", ""), ("own-era excess", "own_"))
}
P_VALUES = [name for name in TESTS if name not in INTERVALS]
MEANS = ["n_events", "excess_log", "own_excess_log", "actual_excess_log", "actual_own_excess_log"]
DEFAULTS = {"horizon_days": 90, "entry_lag_days": 1, "sample_start": "2014-01-01", "fast_days": 30, "slow_days": 60}
DEFAULTS |= {"grid_fast_days": (10, 20, 30, 40), "grid_slow_days": (45, 60, 90, 120)}
DEFAULTS |= {"confidence": 0.95, "n_bootstrap": 249, "n_matched": 499, "n_draws": 499, "n_spa": 199}
Settings = namedtuple("Settings", DEFAULTS, defaults=DEFAULTS.values())
"""What is tested on each market: the primary test's settings, and sizes small enough for thousands of markets."""
Market = tuple[str, float, int]  # world, planted effect (log return over the horizon), seed
market_of = itemgetter("world", "effect", "seed")


def recoveries(panel: pd.DataFrame, fast_days: int = 30, slow_days: int = 60) -> pd.Series:
    """Marks of the days on which the fast mean of hash rate is back at or above the slow one; bool, index `date`."""
    return pd.Series(recovery_marks(panel["hash_rate_ehs"], [(fast_days, slow_days)])[0], panel.index)


def actual_recoveries() -> pd.DatetimeIndex:
    """Days of Bitcoin's actual Hash Ribbons recoveries since 2014, as data/reference/recoveries.csv has them."""
    return pd.DatetimeIndex(pd.read_csv(reference_folder() / RECOVERIES, parse_dates=["date"])["date"])


def renew_recoveries(panel: pd.DataFrame) -> Path:
    """Store the recoveries that a panel of real data holds; the calibration is to be made again after that."""
    days = recoveries(panel).loc[Settings().sample_start :].loc[lambda recovery: recovery].index
    text = days.to_frame(name="date").to_csv(index=False, date_format="%Y-%m-%d", lineterminator="\n")
    return write_whole(reference_folder() / RECOVERIES, text.encode())


def both_pairs(
    panel: pd.DataFrame, drift: pd.Series, era: pd.Series, events: Any, seed: int, s: Settings
) -> tuple[dict[str, float], pd.Series, pd.Series]:
    """The own-era excess with its rotation and the interval that inverts it; the plain one with rotation and bootstrap.

    Keys: rotation_own_era, rotation_own_era_two_sided, own_excess_log, own_ci_low, own_ci_high; rotation,
    rotation_two_sided, excess_log, ci_low, ci_high; own_truth and truth, which the intervals should hold: either excess
    of a price that rises by `drift` alone, since both are linear in the log price. NaN without events. Then the
    samples: returns, and excess over the own era.
    """
    about, price = (s.horizon_days, s.entry_lag_days, s.sample_start), panel["price_usd"]
    expected = np.exp(drift.cumsum()).where(price.notna())
    returns, own = outcomes(price, *about), own_era_excess(price, era, *about)
    e, own_e = (event_marks(sample.index, events) for sample in (returns, own))
    plain = chance.rotation_test(returns.to_numpy(), e)
    deciding = chance.rotation_test(own.to_numpy(), own_e, confidence=s.confidence)
    low, high = bootstrap_intervals(returns, e, s.horizon_days, s.n_bootstrap, s.confidence, seed)[0]
    pairs = {
        "rotation_own_era": deciding.p,
        "rotation_own_era_two_sided": deciding.p_two_sided,
        "own_excess_log": deciding.excess,
        "own_ci_low": deciding.interval[0],
        "own_ci_high": deciding.interval[1],
        "own_truth": float(chance.excess_of(own_era_excess(expected, era, *about), own_e[None])[0]),
        "rotation": plain.p,
        "rotation_two_sided": plain.p_two_sided,
        "excess_log": plain.excess,
        "ci_low": float(low),
        "ci_high": float(high),
        "truth": float(chance.excess_of(outcomes(expected, *about), e[None])[0]),
    }
    return pairs, returns, own


def superior_ability(gains: np.ndarray, block: int, n: int, seed: int) -> float:
    """Hansen's (2005) consistent p that no column of `gains`, shape (times, rules), has a mean above zero.

    The share of `n` resamples (`tables.resampled_sums`, in blocks of mean length `block`) in which the best mean, each
    less its own, is higher than the best one seen. A mean so far below zero that it cannot matter is not deducted:
    sqrt(2 log log times) errors or more, its variance being that of the resamples' mean (Politis and Romano 1994).
    """
    times, lag = len(gains), np.arange(len(gains))
    mean, share, keep = gains.mean(axis=0), lag / times, 1 - 1 / block
    spectrum = np.abs(np.fft.rfft(gains - mean, 2 * times, axis=0)) ** 2
    covariance = np.fft.irfft(spectrum, 2 * times, axis=0)[:times] / times
    weight = ((1 - share) * keep**lag + share * keep ** (times - lag)) * np.where(lag > 0, 2, 1)
    error = np.sqrt(np.clip(weight @ covariance, 0, None) / times)
    centre = np.where(mean >= -error * np.sqrt(2 * np.log(np.log(times))), mean, 0.0)
    best = (resampled_sums(gains, block, n, seed) / times - centre).max(axis=1)
    return float((best > mean.max()).mean())


def market_tests(panel: pd.DataFrame, drift: pd.Series, seed: int = 0, **settings: Any) -> dict[str, float]:
    """A calibration's record of the recoveries of one market itself: every test on them; NaN without an event.

    `drift`: true daily log drift, index as `panel`; `settings` in place of those of `Settings`. Keys: n_events, those
    of `both_pairs`, and the p-value of every other test (spa: Hansen (2005), no rule of the grid beats its own exposure
    held at random).
    """
    s = Settings(**settings)
    h, price, era = s.horizon_days, panel["price_usd"], era_of(panel.index, panel)
    events = recoveries(panel, s.fast_days, s.slow_days)
    pairs, returns, own = both_pairs(panel, drift, era, events, seed, s)
    days, r, labels = returns.index, returns.to_numpy(), era.reindex(returns.index).to_numpy()
    e = event_marks(days, events)
    if not e.any():
        return (
            pairs
            | dict.fromkeys((name for name in P_VALUES if not name.startswith("actual")), np.nan)
            | {"n_events": 0}
        )
    sample = panel.index.get_indexer(days)
    windows = [(fast, slow) for fast in s.grid_fast_days for slow in s.grid_slow_days if fast < slow]
    family = recovery_marks(panel["hash_rate_ehs"], windows)[:, sample]
    regression = chance.regression_tests(r, e, h)
    # In the market on each day that lies at most h days after the close at which a recovery was traded.
    past = np.pad(family.cumsum(axis=1), ((0, 0), (h + s.entry_lag_days + 1, 0)))
    held = past[:, h : h + len(days)] > past[:, : len(days)]
    gains = (held - held.mean(axis=1, keepdims=True)) * np.log(price).diff().reindex(days).to_numpy()
    weekly = np.add.reduceat(gains, np.arange(0, len(days), WEEK), axis=1)
    useful = weekly[weekly.std(axis=1) > 0].T
    return pairs | {
        "n_events": int(e.sum()),
        "rotation_era_demeaned": chance.rotation_test(chance.less_own_mean(r, labels), e).p,
        "rotation_era_stratified": chance.rotation_test(r, e, strata=labels, n_draws=s.n_draws, seed=seed).p,
        "max_rotation": float(np.nanmin(chance.max_rotation_test(r, family).p_family)),
        "max_rotation_own_era": float(np.nanmin(chance.max_rotation_test(own.reindex(days), family).p_family)),
        **{name: regression[f"p_{name}"] for name in ("ols", "hac", "hansen_hodrick")},
        "matched": chance.matched_test(r, e, chance.match_levels(era, price)[:, sample], s.n_matched, seed)[0],
        "spa": superior_ability(useful, max(h // WEEK, 1), s.n_spa, seed) if useful.size else np.nan,
    }


def calendar_tests(panel: pd.DataFrame, drift: pd.Series, seed: int = 0, **settings: Any) -> dict[str, float]:
    """A calibration's record of the actual recoveries, laid on one market without effect; arguments as `market_tests`.

    Keys: actual_ and those of `both_pairs`; `PLANTED`, the deciding test's p with that much log return planted after
    the actual recoveries: miners do not answer to it here, and what it adds to the excess is linear in its size; `FEW`,
    the same with so many of them alone, evenly chosen from those whose outcome the market holds.
    """
    s, price, events = Settings(**settings), panel["price_usd"], actual_recoveries()
    era = era_of(panel.index, panel.assign(height=np.nan))  # without heights: the actual halvings
    pairs, _, own = both_pairs(panel, drift, era, events, seed, s)
    known, own_centred, found = events[events.isin(own.index)], (own - own.mean()).to_numpy(), {}
    for n, effects in {len(events): PLANTED, **FEW}.items():
        few = known[np.linspace(0, len(known) - 1, n).round().astype(int)] if n in FEW else events
        planted = np.exp(planted_returns(panel.index, few, s.entry_lag_days).cumsum()).where(price.notna())
        gained = own_era_excess(planted, era, s.horizon_days, s.entry_lag_days, s.sample_start).to_numpy()
        centred, marks = np.array([own_centred, gained - gained.mean()]), own.index.isin(few)
        sums = np.array([chance.rotation_sums(sample, marks) for sample in centred])
        for name, effect in effects.items():  # what is planted adds to every rotation as much as it is large
            tie = chance.TIE_TOLERANCE * np.abs([1, effect] @ centred).max() * marks.sum()
            found[name] = float(chance.share_as_high([1, effect] @ sums, tie))
    return {f"actual_{name}": value for name, value in pairs.items()} | found


def market_record(market: Market, code: str = "", **settings: Any) -> dict[str, Any]:
    """A market and its `market_tests`, on one thread, which fixes the order of sums; `code`: `digest` to have."""
    if code and code != digest(**settings):
        raise InputError(f"DASK: worker {platform.node()} has other code or packages; install the same there")
    world, effect, seed = market
    with threadpool_limits(1):
        made, about = simulate_market(seed, YEARS, effect, world), {"world": world, "effect": effect, "seed": seed}
        record = about | market_tests(made.panel, made.truth["drift"], seed, **settings)
        return record | ({} if effect else calendar_tests(made.panel, made.truth["drift"], seed, **settings))


@cache
def digest(**settings: Any) -> str:
    """Of all that a record depends on: the tests' settings, the packages' versions, the code, its assumptions."""
    rooms = [Path(__file__).parents[1] / room for room in ("mining", "study", "simulate")]
    assumed = [reference_folder() / name for name in ("simulation_parameters.csv", RECOVERIES)]
    files = [*sorted(f for room in rooms for f in room.glob("*.py")), *assumed]
    return joblib.hash([settings, [version(n) for n in PACKAGES], [path.read_bytes() for path in files]])[:16]


def unfinished_file(**settings: Any) -> Path:
    """Where finished markets of these settings are kept, the record of each a line of JSON."""
    return project_root() / ".cache" / "calibration" / f"{digest(**settings)}.jsonl"


def _workers(jobs: int, dask: str | None) -> joblib.parallel_config:
    """`jobs` processes of this machine, which end soon after their parent is killed, or the Dask cluster at `dask`."""
    if not dask:
        return joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1, idle_worker_timeout=10)
    try:
        from distributed import Client

        if not re.fullmatch(r"(tcp|tls)://[^\s/]+:\d{1,5}", dask):
            raise ValueError("no address")
        client = Client(dask, timeout=10, set_as_default=False)
        client.run(digest)  # joblib would wait for ever for a worker that lacks the library
    except Exception as error:
        needed = "must be a scheduler's address (tcp://127.0.0.1:8786); capitulation[dask] here and on its workers"
        raise InputError(f"DASK={one_line(dask, 80)!r}: {needed} ({one_line(error, 80)})") from None
    return joblib.parallel_config("dask", client=client)


def measure(markets: list[Market], jobs: int = 1, dask: str | None = None, **settings: Any) -> pd.DataFrame:
    """Records of the markets, each stored as it comes: whatever ends the run, what is finished is read by the next."""
    path, records = unfinished_file(**settings), {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        file.seek(0)
        for line in file:
            with suppress(ValueError):  # a line that was cut short when the process was killed
                record = json.loads(line)
                records[market_of(record)] = record
        todo = [market for market in markets if market not in records]
        calls = [joblib.delayed(market_record)(market, digest(**settings), **settings) for market in todo]
        bar = tqdm(initial=len(markets) - len(todo), total=len(markets), unit=" markets", mininterval=1)
        try:
            with _workers(jobs, dask), bar:
                for record in joblib.Parallel(return_as="generator_unordered", batch_size=1)(calls):
                    file.write("\n" + json.dumps(record))  # the line feed first: it ends a line cut short
                    file.flush()
                    records[market_of(record)] = record
                    bar.update()
        except BrokenProcessPool:
            raise CapitulationError("a worker process died; the finished is stored: free memory, run again") from None
    return pd.DataFrame([records[market] for market in markets])


def calibrate(repetitions: int = PUBLISHED, jobs: int = 1, dask: str | None = None, **settings: Any) -> Path:
    """Measure every test on `repetitions` markets of each null world and a fifth as many of each planted effect.

    On `jobs` processes or the Dask cluster at `dask`. Returns the summary's path: calibration.json from 2,000 on; a
    trial must not replace what is published, and goes beside the unfinished work. `InputError` for a number below 1.
    """
    if repetitions < 1:
        raise InputError(f"REPETITIONS={repetitions}: must be at least 1")
    sizes = {("stationary", 0.0): repetitions, ("realistic", 0.0): repetitions}
    sizes |= {("realistic", effect): max(repetitions // POWER_SHARE, 1) for effect in EFFECTS}
    markets = [(*group, FIRST_SEED + i) for group, size in sizes.items() for i in range(size)]
    by_group = measure(markets, jobs, dask, **settings).groupby(["world", "effect"], sort=False)
    groups = {"{} {:.2f}".format(*group): records.dropna(axis=1, how="all") for group, records in by_group}
    asked = {"repetitions": repetitions, "effects": EFFECTS, "effect_days": EFFECT_DAYS, "years": YEARS}
    found = {
        "made_on": pd.Timestamp.now("UTC").date().isoformat(),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in ("capitulation", *PACKAGES)},
        "code_digest": digest(**settings),
        "settings": asked | {"first_seed": FIRST_SEED, "tests": Settings(**settings)._asdict()},
        "simulation": vars(parameters()),
        "groups": {name: summarise(records) for name, records in groups.items()},
        "first_records": {name: of.head(RECORDS_KEPT).to_dict("records") for name, of in groups.items()},
    }
    path = reference_folder() / STORED if repetitions >= PUBLISHED else unfinished_file(**settings).with_suffix(".json")
    return write_whole(path, (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())


def _shares(hits: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Share of ones in each column, missing ones aside: `names`, markets, rate and its error sqrt(p (1 - p) / n)."""
    table = pd.DataFrame({"markets": hits.count(), "rate": hits.mean()}).rename_axis(list(names)).reset_index()
    table = table[table["markets"] > 0]
    return table.assign(error=np.sqrt(table["rate"] * (1 - table["rate"]) / table["markets"]))


def summarise(records: pd.DataFrame) -> dict[str, Any]:
    """What the records of one group say, as lists of rows and values; a test that none of them holds is left out.

    `rejections` (p at most `chance.LEVEL`, or an interval without zero): test, markets, rate, error, at_level
    (`chance.ACCEPTED`).
    `coverage`: how often an interval holds zero and the true excess. `power`: how often the deciding test finds an
    effect planted after the actual recoveries, `power_of_few` after so many of them.
    `level_curve`: share of p at or below each level.
    """
    records = records.reindex(columns=[*P_VALUES, *PLANTED, *chain(*FEW.values()), *MEANS, *chain(*BOUNDS.values())])
    p, held = records[P_VALUES], {}
    for (interval, calendar), (low, high, truth) in BOUNDS.items():
        for of, value in (("zero", 0.0), ("true excess", records[truth])):
            inside = (records[low] <= value) & (records[high] >= value)
            held[interval, of, calendar] = inside.astype(float).where(records[low].notna())
    hits = (p <= chance.LEVEL).astype(float).where(p.notna())
    for name, (interval, calendar) in INTERVALS.items():
        hits[name] = 1 - held[interval, "zero", calendar]
    planted = records[["actual_rotation_own_era", *PLANTED]].rename(columns={"actual_rotation_own_era": 0.0} | PLANTED)
    few = {(n, effect): records[name] for n, effects in FEW.items() for name, effect in effects.items()}
    power, of_few = (
        (found <= chance.LEVEL).astype(float).where(found.notna()) for found in (planted, pd.DataFrame(few))
    )
    rejections = _shares(hits[list(TESTS)], "test")
    return {
        "rejections": rejections.assign(at_level=rejections["rate"].between(*chance.ACCEPTED)).to_dict("records"),
        "coverage": _shares(pd.DataFrame(held), "interval", "of", "calendar").to_dict("records"),
        "power": _shares(power, "effect_log").to_dict("records"),
        "power_of_few": _shares(of_few, "n_events", "effect_log").to_dict("records"),
        "level_curve": {
            name: [float((p[name].dropna() <= at).mean()) for at in CURVE_LEVELS]
            for name in p.dropna(axis=1, how="all")
        },
        **records[MEANS].mean().dropna().to_dict(),
    }


def stored_calibration() -> dict[str, Any]:
    """data/reference/calibration.json as it is."""
    return json.loads((reference_folder() / STORED).read_text(encoding="utf-8"))


def stored_rates(what: str) -> pd.DataFrame:
    """`rejections` or `coverage` of every stored group, with its world and effect_log."""
    groups = {tuple(name.split()): pd.DataFrame(group[what]) for name, group in stored_calibration()["groups"].items()}
    table = pd.concat(groups, names=["world", "effect_log"]).reset_index(["world", "effect_log"])
    return table.astype({"effect_log": float}).reset_index(drop=True)


def planted_rates() -> pd.DataFrame:
    """How often the deciding test finds an effect planted after the actual recoveries, in realistic markets.

    Columns: effect_log (0 first), markets, rate, error.
    """
    return pd.DataFrame(stored_calibration()["groups"]["realistic 0.00"]["power"])


def few_rates() -> pd.DataFrame:
    """`planted_rates` for so many of the actual recoveries alone: n_events, effect_log, markets, rate, error."""
    return pd.DataFrame(stored_calibration()["groups"]["realistic 0.00"]["power_of_few"])


def detectable(share: float = 0.8) -> float:
    """Effect that the deciding test finds in `share` of realistic markets with the actual calendar of recoveries.

    Log return planted over the 90 days from the day after each recovery could be traded, between the sizes measured on
    a straight line; NaN where not even the largest is found so often.
    """
    curve = planted_rates()
    found = np.maximum.accumulate(curve["rate"].to_numpy())
    return float(np.interp(share, found, curve["effect_log"])) if found[-1] >= share else np.nan


def applies(primary: dict[str, Any], rules: dict[str, Any], lag: int, since: str) -> bool:
    """Whether a run's primary test is the very test that was calibrated, so that `detectable` tells of it.

    `primary`: definition, anchor and days; `rules`: settings of the rules, as `report.page` hands them over.
    """
    made = stored_calibration()["settings"]["tests"]
    asked = {"horizon_days": primary["days"], "entry_lag_days": lag, "sample_start": since}
    asked |= {name: rules[name] for name in ("fast_days", "slow_days")}
    kept = not rules.get("min_days") and not rules.get("min_depth_z")  # no episode is left out
    named = (primary["definition"], primary["anchor"]) == ("hash_ribbons", "recovery")
    return kept and named and all(made[name] == value for name, value in asked.items())


def trust_table() -> pd.DataFrame:
    """Rejection rates where nothing is there: test, label, then rate, error and at_level of each null world."""
    table, stored = pd.DataFrame(TESTS.items(), columns=["test", "label"]), stored_rates("rejections").set_index("test")
    for world, rows in stored.query("effect_log == 0").groupby("world", sort=False):
        table = table.join(rows[["rate", "error", "at_level"]].add_prefix(f"{world}_"), on="test")
    return table
