"""Every test of the suite on simulated markets: exact pieces, sums over markets, resuming, other processes, Dask."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from capitulation.errors import InputError
from capitulation.paths import reference_folder
from capitulation.simulate import calibrate as cal
from capitulation.simulate.market import simulate_market

QUICK = {"n_bootstrap": 20, "n_matched": 20, "n_draws": 20, "n_spa": 20}
QUICK |= {"grid_fast_days": (20, 30), "grid_slow_days": (60,)}
SEEDS = range(cal.FIRST_SEED, cal.FIRST_SEED + 3)
MARKETS = [(*group, seed) for group in (("stationary", 0.0), ("realistic", 0.0), ("realistic", 0.2)) for seed in SEEDS]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project folder of its own for unfinished work."""
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def plain_run():
    """The records of the small calibration, every bit as text."""
    return json.dumps([cal.market_record(market, **QUICK) for market in MARKETS])


def measured(**how) -> str:
    return json.dumps(cal.measure(MARKETS, **how, **QUICK).to_dict("records"))


def record_of(made, **settings) -> dict[str, float]:
    return cal.market_tests(made.panel, made.truth["drift"], **settings)


def rates(record: dict) -> pd.DataFrame:
    return pd.DataFrame(cal.summarise(pd.DataFrame(record))["rejections"]).set_index("test")


def test_a_record_has_every_test_repeats_bit_for_bit_and_needs_no_future():
    """Cut at a day, the record is that of a market whose later prices are unknown."""
    made = simulate_market(seed=17)
    record = record_of(made, seed=1, **QUICK)
    assert record == record_of(made, seed=1, **QUICK)
    assert all(0 <= record[name] <= 1 for name in cal.TESTS if "bootstrap" not in name)
    assert record["ci_low"] < record["excess_log"] < record["ci_high"]
    assert record_of(made, seed=2, **QUICK)["ci_low"] != record["ci_low"]
    panel, drift = made.panel[:"2022-06-30"], made.truth["drift"]
    made.panel.loc["2022-07-01":, "price_usd"] = np.nan
    assert cal.market_tests(panel, drift[panel.index], 1, **QUICK) == record_of(made, seed=1, **QUICK)


def test_a_market_without_events_gives_missing_values_not_an_error():
    found = record_of(simulate_market(seed=1, years=5.2), **QUICK)
    assert found["n_events"] == 0 and np.isnan(found["rotation_own_era"])
    assert (rates([found])["markets"] == 0).all()


def test_a_huge_planted_effect_is_found_by_every_test_and_its_truth_is_known():
    """The true excess is the planted one less its share of all days."""
    made = simulate_market(seed=2, effect=2.5, world="stationary")
    record, planted = record_of(made, n_bootstrap=99), made.truth["planted"].cumsum()
    assert rates([record])["rate"].drop("max_rotation_own_era").min() == 1
    ahead = (planted.shift(-91) - planted.shift(-1))["2014":].dropna()
    assert record["truth"] == pytest.approx(2.5 - ahead.mean(), abs=0.05)


@pytest.mark.parametrize("group", ["stationary 0.00", "realistic 0.00", "realistic 0.30"])
def test_the_code_of_today_gives_the_stored_records(group):
    """The first markets of a group of data/reference/calibration.json, simulated and tested again."""
    world, effect = group.split()
    for before in cal.stored_calibration()["first_records"][group]:
        again = cal.market_record((world, float(effect), before["seed"]))
        assert {name: again[name] for name in before} == pytest.approx(before, rel=1e-9, abs=1e-12)


def test_rates_coverage_and_errors_are_plain_shares():
    values = {name: [0.01, 0.05, 0.2, np.nan] for name in cal.TESTS if "bootstrap" not in name}
    values |= {"ci_low": [-1, 0.1, -1, np.nan], "ci_high": [1, 0.2, -0.5, np.nan], "truth": [0.0, 0.15, 0.0, 0.0]}
    values |= {"own_ci_low": [-1, -1, -1, np.nan], "own_ci_high": [1, 1, 1, np.nan]}
    values |= {key: [1, 2, 3, 4] for key in ("n_events", "excess_log", "own_excess_log")}
    found = rates(values)
    assert found.index.tolist() == list(cal.TESTS)
    assert found.loc["hac", ["markets", "rate"]].tolist() == pytest.approx([3, 2 / 3])
    assert found.loc["hac", "error"] == pytest.approx(np.sqrt(2 / 9 / 3)) and not found.loc["hac", "at_level"]
    assert found["rate"][["bootstrap", "bootstrap_own_era"]].tolist() == pytest.approx([2 / 3, 0])
    summary = cal.summarise(pd.DataFrame(values))
    covered = {(row["interval"], row["of"]): row["rate"] for row in summary["coverage"]}
    of_both = {("excess", "zero"): 1 / 3, ("excess", "true excess"): 2 / 3, ("own-era excess", "zero"): 1}
    assert covered == pytest.approx(of_both) and summary["n_events"] == 2.5
    assert summary["level_curve"]["hac"] == pytest.approx([1 / 3] * 2 + [2 / 3] * 2 + [1] * 5)


def test_a_calibration_goes_on_where_it_stopped_in_any_order(home, plain_run):
    """Lines in reverse order, one cut short, one lost: those two markets are made again, and only those."""
    assert measured() == plain_run
    path = cal.unfinished_file(**QUICK)
    lines = path.read_text().splitlines()[:0:-1]
    path.write_text("\n".join([*lines[1:-1], lines[-1][:40]]))
    assert measured() == plain_run
    assert len(path.read_text().splitlines()) == 7 + 1 + 2


def test_a_killed_calibration_loses_nothing_that_was_finished(home, plain_run):
    """Two workers made what is finished, one makes the rest: the same bits."""
    path = cal.unfinished_file(**QUICK)
    process = subprocess.Popen(
        [sys.executable, "-c", "import test_calibrate as t; t.measured(jobs=2)"], cwd=Path(__file__).parent
    )
    deadline = time.monotonic() + 120
    while (not path.exists() or path.read_text().count("\n") < 3) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    finished = path.read_text()
    assert measured() == plain_run
    assert path.read_text().startswith(finished) and path.read_text().count('"seed"') <= len(MARKETS) + 1


def test_a_dask_cluster_gives_the_same_bits_and_other_code_is_refused(home, plain_run):
    distributed = pytest.importorskip("distributed", reason="the optional extra `dask` is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, local_directory=str(home)
    ) as cluster:
        assert measured(dask=cluster.scheduler_address) == plain_run
    with pytest.raises(InputError, match="other code"):
        cal.market_record(MARKETS[0], "the digest of other code")


@pytest.mark.parametrize("address", ["localhost:8786", "tcp://", "http://127.0.0.1:80", "tcp://a b:1"])
def test_an_address_that_is_none_is_refused_in_one_line(home, address):
    with pytest.raises(InputError, match="DASK=") as caught:
        measured(dask=address)
    assert "\n" not in str(caught.value)


def test_a_trial_does_not_replace_the_published_figures(home):
    published, stored = (reference_folder() / cal.STORED).read_bytes(), cal.stored_calibration()
    path = cal.calibrate(2, **QUICK)
    found = json.loads(path.read_text())
    assert home in path.parents and found["settings"]["repetitions"] == 2 and found["settings"]["tests"]["n_spa"] == 20
    assert found.keys() == stored.keys() and found["groups"].keys() == stored["groups"].keys()
    assert found["groups"]["realistic 0.00"].keys() == stored["groups"]["realistic 0.00"].keys()
    assert [row["markets"] for row in found["groups"]["realistic 0.20"]["rejections"]] == [1] * len(cal.TESTS)
    assert (reference_folder() / cal.STORED).read_bytes() == published
    assert cal.unfinished_file(**QUICK) != cal.unfinished_file(**QUICK | {"horizon_days": 60})
    with pytest.raises(InputError, match="REPETITIONS=0"):
        cal.calibrate(0)


def test_the_headline_test_keeps_its_level_in_both_null_worlds_and_its_power_grows_with_the_effect():
    table = cal.trust_table().set_index("test")
    assert table.index.tolist() == list(cal.TESTS) and cal.stored_calibration()["settings"]["repetitions"] >= 2000
    for world in ("stationary", "realistic"):
        assert 0.035 <= table.loc["rotation_own_era", f"{world}_rate"] <= 0.065
        assert table.loc["rotation_own_era", f"{world}_at_level"] and world in set(
            cal.stored_rates("coverage")["world"]
        )
    curve = cal.stored_rates("rejections").query("test == 'rotation_own_era' and world == 'realistic'")
    assert curve["effect_log"].tolist() == [0.0, *cal.EFFECTS] and (curve["markets"].iloc[1:] >= 300).all()
    assert (curve["rate"].diff().dropna() > -0.03).all() and curve["rate"].iloc[-1] > 0.8
