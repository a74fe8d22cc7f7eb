"""What every test says on simulated markets: exact pieces, sums over markets, resuming, other processes, Dask."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from capitulation.episodes import find_episodes
from capitulation.errors import CapitulationError, InputError
from capitulation.mining.protocol import era_of
from capitulation.mining.ribbons import ribbons
from capitulation.simulate import calibrate as cal
from capitulation.simulate import simulate, stored
from capitulation.simulate.executors import run_on_dask, run_on_processes
from capitulation.study import trust
from capitulation.study.baseline import own_era_excess
from capitulation.study.forward_returns import forward_log_returns

QUICK = trust.TrustSettings(
    n_bootstrap=20, n_matched=20, n_draws=20, n_spa=20, grid_fast_days=(20, 30), grid_slow_days=(60,)
)


@pytest.fixture(scope="module")
def market():
    return simulate(seed=11)


@pytest.fixture(scope="module")
def record(market):
    return trust.market_tests(market.panel, QUICK, seed=1)


def random_walk(days: int, seed: int = 0) -> pd.Series:
    index = pd.date_range("2014-01-01", periods=days, name="date")
    return pd.Series(np.exp(np.random.default_rng(seed).normal(0.001, 0.04, days).cumsum()), index=index)


def two_eras(price: pd.Series, first: int) -> pd.Series:
    return pd.Series(np.where(np.arange(len(price)) < first, 2012, 2016), index=price.index)


# --- the own-era baseline


def slow_own_era_excess(price, era, horizon, lag, run_up):
    """By the definition, one day and one era at a time."""
    change = np.log(price).diff().to_numpy()
    log_price = np.log(price.to_numpy())
    out = {}
    for t in range(len(price) - horizon - lag):
        kept = [
            change[d]
            for d in range(1, len(price))
            if era.iloc[d] == era.iloc[t] and not t - run_up < d <= t + lag and np.isfinite(change[d])
        ]
        if kept:
            out[price.index[t]] = log_price[t + lag + horizon] - log_price[t + lag] - horizon * np.mean(kept)
    return pd.Series(out)


def test_own_era_excess_equals_its_definition():
    price = random_walk(160)
    era = two_eras(price, 70)
    fast = own_era_excess(price, era, 10, 1, "2014-01-01", run_up_days=20)
    slow = slow_own_era_excess(price, era, 10, 1, 20)
    assert fast.index.tolist() == slow.index.tolist()
    np.testing.assert_allclose(fast.to_numpy(), slow.to_numpy(), atol=1e-12)


def test_a_drift_that_changes_with_the_era_leaves_no_excess_within_an_era():
    days = np.arange(2000)
    index = pd.date_range("2014-01-01", periods=2000, name="date")
    price = pd.Series(np.exp(np.where(days < 1000, 0.004 * days, 4 + 0.001 * (days - 1000))), index=index)
    era = pd.Series(np.where(days <= 1000, 1, 2), index=index)
    excess = own_era_excess(price, era, 90, 1)
    np.testing.assert_allclose(excess.iloc[:900], 0, atol=1e-9)
    np.testing.assert_allclose(excess.iloc[1001:], 0, atol=1e-9)


def test_prices_of_the_run_up_move_no_comparison():
    """Other returns in the year before a day leave that day's excess as it is, whatever they are."""
    price, day = random_walk(1500), 800
    change = np.log(price).diff()
    change.iloc[day - 364 : day + 2] = np.random.default_rng(5).normal(-0.01, 0.1, 366)
    other = np.exp(change.fillna(0).cumsum())
    era = two_eras(price, 0)
    first, second = (own_era_excess(p, era, 90, 1).iloc[day] for p in (price, other))
    assert first == pytest.approx(second, abs=1e-9)


def test_the_own_era_excess_covers_the_days_of_the_study_sample(market):
    panel = market.panel
    excess = own_era_excess(panel["price_usd"], era_of(panel.index, panel), 90, 1, "2014-01-01")
    sample = forward_log_returns(panel["price_usd"], 90, 1)["2014":].dropna()
    pd.testing.assert_index_equal(excess.index, sample.index)
    assert abs(excess.mean() - 0) < 0.1


# --- one market


def test_recoveries_are_those_of_the_suite(market):
    state = ribbons(market.panel)
    ends = find_episodes(state["in_capitulation"], state["known"])["end"].dropna()
    marks = trust.recoveries(market.panel, 30, 60)
    assert marks.index[marks].tolist() == ends.tolist() and len(ends) > 10


def test_a_record_has_every_test_and_repeats_bit_for_bit(market, record):
    again = trust.market_tests(market.panel, QUICK, seed=1)
    assert again == record
    p = {name: record[name] for name in trust.TESTS if not name.startswith("bootstrap")}
    assert all(0 <= value <= 1 for value in p.values())
    assert record["ci_low"] < record["excess_log"] < record["ci_high"]
    assert trust.market_tests(market.panel, QUICK, seed=2)["matched"] != record["matched"]


def test_the_future_of_a_market_is_not_needed_for_its_tests(market):
    """Cut at a day, the record is that of a market that ended there."""
    cut = market.panel[:"2022-06-30"]
    longer = market.panel.copy()
    longer.loc["2022-07-01":, "price_usd"] = np.nan
    assert trust.market_tests(cut, QUICK, 1) == trust.market_tests(longer, QUICK, 1)


def test_a_market_without_events_gives_missing_values_not_an_error():
    panel = simulate(seed=1, years=5.2).panel
    found = trust.market_tests(panel, QUICK)
    assert found["n_events"] == 0 and np.isnan(found["rotation_own_era"])
    rows = trust.rate_rows(pd.DataFrame([found]))
    assert {row["markets"] for row in rows} == {0}


def test_a_huge_planted_effect_is_found_by_every_test():
    made = simulate(seed=2, effect=2.5, world="stationary")
    found = trust.rejections(pd.DataFrame([trust.market_tests(made.panel, trust.TrustSettings(n_bootstrap=99))]))
    assert found.iloc[0].drop("max_rotation_own_era").min() == 1


def test_the_true_excess_is_the_planted_one_less_its_share_of_all_days():
    made = simulate(seed=2, effect=0.4, world="stationary")
    planted = made.truth["planted"].cumsum()
    ahead = (planted.shift(-91) - planted.shift(-1))["2014":].dropna()
    found = trust.expected_excess(made.panel, made.truth["drift"], QUICK)
    assert found == pytest.approx(0.4 - ahead.mean(), abs=0.01)


def test_held_days_follow_the_entry_lag():
    marks = np.zeros((1, 12), dtype=bool)
    marks[0, [1, 3]] = True
    assert np.flatnonzero(trust._held(marks, 3, 1)[0]).tolist() == [3, 4, 5, 6, 7]


# --- many markets


def test_rates_coverage_and_errors_are_plain_shares():
    p_values = pd.DataFrame({name: [0.01, 0.05, 0.2, np.nan] for name in trust.TESTS if "bootstrap" not in name})
    intervals = pd.DataFrame(
        {
            "ci_low": [-1, 0.1, -1, np.nan],
            "ci_high": [1, 0.2, -0.5, np.nan],
            "own_ci_low": [-1, -1, -1, np.nan],
            "own_ci_high": [1, 1, 1, np.nan],
            "truth": [0.0, 0.15, 0.0, 0.0],
        }
    )
    records = p_values.join(intervals)
    rates = {row["test"]: row for row in trust.rate_rows(records)}
    assert rates["hac"]["rate"] == pytest.approx(2 / 3) and rates["hac"]["markets"] == 3
    assert rates["hac"]["error"] == pytest.approx(np.sqrt(2 / 9 / 3)) and not rates["hac"]["at_level"]
    assert rates["bootstrap"]["rate"] == pytest.approx(2 / 3) and rates["bootstrap_own_era"]["rate"] == 0
    covered = {(row["interval"], row["of"]): row["rate"] for row in trust.coverage_rows(records)}
    assert covered[("excess", "zero")] == pytest.approx(1 / 3)
    assert covered[("excess", "true excess")] == pytest.approx(2 / 3)
    assert covered[("own-era excess", "zero")] == 1


def test_the_plan_holds_every_market_once():
    settings = cal.Settings(repetitions=50, effects=(0.1,))
    chunks = cal.plan(settings)
    seeds = {}
    for chunk in chunks:
        seeds.setdefault(chunk.group, []).extend(range(chunk.first_seed, chunk.first_seed + chunk.markets))
    first = settings.first_seed
    assert seeds["stationary 0.00"] == seeds["realistic 0.00"] == list(range(first, first + 50))
    assert seeds["realistic 0.10"] == list(range(first, first + 10))
    assert len({chunk.name for chunk in chunks}) == len(chunks)


# --- other processes, interruption, Dask

SMALL = cal.Settings(repetitions=3, effects=(0.2,), tests=QUICK)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project folder of its own, and chunks of two markets."""
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path))
    monkeypatch.setattr(cal, "MARKETS_PER_CHUNK", 2)
    return tmp_path


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    """The small calibration on two local processes: (records by group, text of every stored chunk)."""
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPITULATION_HOME", str(folder))
        patch.setattr(cal, "MARKETS_PER_CHUNK", 2)
        groups = cal.measure(SMALL, jobs=2)
    return groups, {path.name: path.read_text() for path in folder.glob(".cache/calibration/*/*.json")}


def as_text(groups: dict[str, pd.DataFrame]) -> str:
    """Every bit of the records."""
    return json.dumps({name: table.to_dict("records") for name, table in groups.items()})


def test_a_calibration_measures_every_market_once(plain_run):
    groups, files = plain_run
    seeds = {name: table["seed"].tolist() for name, table in groups.items()}
    all_seeds = list(range(SMALL.first_seed, SMALL.first_seed + 3))
    assert seeds == {"stationary 0.00": all_seeds, "realistic 0.00": all_seeds, "realistic 0.20": all_seeds[:1]}
    assert len(files) == 5


def test_a_calibration_goes_on_where_it_stopped(home, plain_run):
    """Of five chunks one is missing, one cut short, one of other markets: those three are made again."""
    whole, files = plain_run
    folder = cal.chunk_folder(SMALL)
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    missing, short, wrong, *kept = sorted(folder.iterdir())
    missing.unlink()
    short.write_text('[{"seed": 1}')
    wrong.write_text("[]\n")
    stamps = [path.stat().st_mtime_ns for path in kept]
    lines = []
    again = cal.measure(SMALL, jobs=1, progress=lines.append)
    assert as_text(again) == as_text(whole)
    assert lines == ["2 of 5 chunks are stored already"]
    assert stamps == [path.stat().st_mtime_ns for path in kept]
    assert {path.name: path.read_text() for path in folder.iterdir()} == files


def test_other_settings_or_code_never_reuse_stored_chunks(home, monkeypatch):
    first = cal.digest(SMALL)
    assert cal.digest(cal.Settings(repetitions=9, effects=(0.2,), tests=QUICK)) == first
    assert cal.digest(cal.Settings(tests=trust.TrustSettings(horizon_days=60))) != first
    monkeypatch.setattr(cal, "_code_files", lambda: iter([Path(__file__)]))
    assert cal.digest(SMALL) != first


def test_a_trial_does_not_replace_the_published_figures(home, monkeypatch):
    monkeypatch.setattr(cal, "measure", lambda *_: {"realistic 0.00": pd.DataFrame([_blank_record()])})
    before = cal.reference_folder().joinpath(cal.STORED)
    stamp = before.stat().st_mtime_ns if before.exists() else None
    path = cal.calibrate(20)
    assert home in path.parents and json.loads(path.read_text())["settings"]["repetitions"] == 20
    assert (before.stat().st_mtime_ns if before.exists() else None) == stamp


def imported_modules(path: Path) -> set[Path]:
    """Files of this package that the module at `path` imports, itself not counted."""
    root = Path(cal.capitulation.__file__).parent
    lines = re.findall(r"^from capitulation\.([\w.]+) import", path.read_text(), re.MULTILINE)
    files = (root.joinpath(*line.split(".")).with_suffix(".py") for line in lines)
    return {file for file in files if file.exists()}


def test_every_module_that_makes_a_number_names_the_folder_of_chunks():
    """Else stored chunks would be taken for those of newer code."""
    files, found = set(cal._code_files()), set()
    for path in files:
        found |= imported_modules(path)
    plain = {"errors", "paths", "panel"}
    assert {path.stem for path in found - files} <= plain


def test_versions_of_all_packages_behind_a_number_name_the_folder_of_chunks(monkeypatch):
    first = cal.digest(SMALL)
    for package in ("numpy", "pandas", "scipy", "arch", "statsmodels"):
        with monkeypatch.context() as patch:
            patch.setattr(cal, "version", lambda name, other=package: "0.0" if name == other else version(name))
            assert cal.digest(SMALL) != first


def test_effects_that_differ_never_share_a_name():
    chunks = cal.plan(cal.Settings(repetitions=5, effects=(0.12, 0.125, 0.13)))
    assert len({chunk.name for chunk in chunks}) == len(chunks) == 5
    assert [float(chunk.group.split()[1]) for chunk in chunks[2:]] == [0.12, 0.125, 0.13]


def test_a_worker_with_other_code_is_refused_in_one_line():
    chunk = cal.plan(SMALL)[0]
    with pytest.raises(InputError, match="other code or package versions") as caught:
        cal.run_chunk_of("0" * 16, SMALL, chunk)
    assert "\n" not in str(caught.value)


def _blank_record() -> dict[str, float]:
    names = [*trust.TESTS, "excess_log", "own_excess_log", "ci_low", "ci_high", "own_ci_low", "own_ci_high", "truth"]
    return {"seed": 1, "n_events": 3, **dict.fromkeys(names, 0.5)}


def test_no_repetition_is_refused():
    with pytest.raises(InputError, match="REPETITIONS=0"):
        cal.calibrate(0)


def square_unless_told_to_die(marker: str, number: int) -> int:
    """Kills its own process the first time it meets 3."""
    if number == 3 and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def always_die(_: str, number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_worker_process_costs_nothing_but_time(tmp_path):
    done = dict(run_on_processes(square_unless_told_to_die, str(tmp_path / "died"), range(8), 2))
    assert (tmp_path / "died").exists() and done == {n: n**2 for n in range(8)}


def note_own_number(folder: str, number: int) -> int:
    """Leaves its process number, then works for long."""
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)
    return number


def parent_of_workers(folder: str) -> None:
    """Waits for two workers, until it is killed."""
    list(run_on_processes(note_own_number, folder, range(2), 2))


def test_a_killed_calibration_leaves_no_worker_behind(tmp_path):
    parent = multiprocessing.get_context("spawn").Process(target=parent_of_workers, args=(str(tmp_path),))
    parent.start()
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(path.name) for path in tmp_path.iterdir()]
    parent.kill()
    parent.join()
    while any(map(runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) == 2 and not any(map(runs, workers))


def runs(process: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_that_always_die_end_in_one_line(monkeypatch):
    monkeypatch.setattr("capitulation.simulate.executors.MOST_RESTARTS", 1)
    with pytest.raises(CapitulationError, match="worker processes keep dying"):
        list(run_on_processes(always_die, "", range(2), 2))


@pytest.mark.parametrize("address", ["localhost:8786", "tcp://", "http://127.0.0.1:80", "tcp://a b:1"])
def test_an_address_that_is_none_is_refused_in_one_line(address):
    with pytest.raises(InputError, match="scheduler's address") as caught:
        list(run_on_dask(cal.run_chunk, SMALL, [], address))
    assert "\n" not in str(caught.value)


@pytest.fixture
def cluster(tmp_path):
    """A Dask scheduler and two workers, each its own process on loopback: (address, worker processes)."""
    pytest.importorskip("distributed", reason="the optional extra `dask` is not installed")
    contact = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    base = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(contact)]
    processes = [subprocess.Popen([*dask, *base], **quiet)]
    worker = [*dask, "worker", "--scheduler-file", str(contact), "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    local = ["--host", "127.0.0.1", "--local-directory", str(tmp_path)]
    try:
        deadline = time.monotonic() + 60
        while not contact.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = [subprocess.Popen([*worker, *local], **quiet) for _ in range(2)]
        processes += workers
        yield json.loads(contact.read_text())["address"], workers
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_dask_cluster_gives_the_same_bits_though_a_worker_is_killed(cluster, home, plain_run, monkeypatch):
    address, workers = cluster
    write = cal.write_text

    def kill_one_worker_at_the_first_result(path, text):
        write(path, text)
        workers[0].kill()

    monkeypatch.setattr(cal, "write_text", kill_one_worker_at_the_first_result)
    over_dask = cal.measure(SMALL, dask=address)
    assert workers[0].wait(10) != 0 and workers[1].poll() is None
    assert as_text(over_dask) == as_text(plain_run[0])


# --- the stored results


@pytest.fixture
def stored_figures():
    if not (cal.reference_folder() / cal.STORED).exists():
        pytest.skip("data/reference/calibration.json is not there yet: make calibrate")
    return stored.stored_calibration()


def test_the_stored_calibration_is_large_enough_and_says_how_it_was_made(stored_figures):
    found = stored.provenance()
    assert found["repetitions"] >= 2000 and {"made_on", "numpy", "pandas", "arch", "first_seed"} <= set(found)
    assert stored_figures["settings"]["tests"]["horizon_days"] == 90


def test_the_headline_test_keeps_its_level_in_both_null_worlds(stored_figures):
    table = stored.trust_table().set_index("test")
    headline = table.loc["rotation_own_era"]
    assert table.index[0] == "rotation_own_era"
    for world in ("stationary", "realistic"):
        assert 0.035 <= headline[f"{world}_rate"] <= 0.065 and headline[f"{world}_at_level"]
    assert 0.035 <= table.loc["rotation", "stationary_rate"] <= 0.065


def test_the_code_of_today_gives_the_stored_records(stored_figures):
    """The first markets of each null world, simulated and tested again."""
    for world, group in stored.NULL_GROUPS.items():
        for before in stored_figures["first_records"][group]:
            again = cal.market_record(cal.Settings(), world, 0.0, before["seed"])
            assert again == pytest.approx(before, rel=1e-9, abs=1e-12)


def test_power_grows_with_the_planted_effect(stored_figures):
    curve = stored.power_curve(("rotation_own_era",))
    assert curve["effect_log"].tolist() == [0.0, *cal.EFFECTS]
    assert (curve["markets"].iloc[1:] >= 300).all()
    assert (curve["rate"].diff().dropna() > -0.03).all() and curve["rate"].iloc[-1] > 0.8
    assert stored.power_at(0.15) == pytest.approx(curve.set_index("effect_log")["rate"][0.15])
    assert np.isnan(stored.power_at(9.0))


def test_stored_tables_have_a_row_for_every_test(stored_figures):
    assert stored.trust_table()["test"].tolist() == list(trust.TESTS)
    assert set(stored.coverage_table()["world"]) == {"stationary", "realistic"}
    assert stored.level_curves()["share"].between(0, 1).all()


def test_a_live_check_repeats_and_may_be_empty():
    assert stored.live_check(0).empty
    table = stored.live_check(1)
    assert table["test"].tolist() == list(trust.TESTS) and (table["markets"] == 1).all()
