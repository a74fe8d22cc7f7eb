"""Every test of the suite on simulated markets: exact pieces, sums over markets, resuming, other processes, Dask."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import SPA

import capitulation as cap
from capitulation.errors import InputError
from capitulation.mining.difficulty import halvings
from capitulation.paths import reference_folder
from capitulation.simulate import calibrate as cal
from capitulation.simulate.market import planted_returns, simulate_market

pytestmark = pytest.mark.xdist_group("calibration")  # of which one is made for all
QUICK = {"n_bootstrap": 20, "n_matched": 20, "n_draws": 20, "n_spa": 20}
QUICK |= {"grid_fast_days": (20, 30), "grid_slow_days": (60,)}
SEEDS = range(cal.FIRST_SEED, cal.FIRST_SEED + 3)
OWN = [name for name in cal.TESTS if not name.startswith("actual_")]
MARKETS = [(*group, seed) for group in (("stationary", 0.0), ("realistic", 0.0), ("realistic", 0.2)) for seed in SEEDS]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project folder of its own for unfinished work."""
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def plain_run():
    """The records of the small calibration, every bit as text."""
    return json.dumps(pd.DataFrame([cal.market_record(market, **QUICK) for market in MARKETS]).to_dict("records"))


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
    assert all(0 <= record[name] <= 1 for name in OWN if name in cal.P_VALUES)
    assert record["ci_low"] < record["excess_log"] < record["ci_high"]
    assert record_of(made, seed=2, **QUICK)["ci_low"] != record["ci_low"]
    panel, drift = made.panel[:"2022-06-30"], made.truth["drift"]
    made.panel.loc["2022-07-01":, "price_usd"] = np.nan
    assert cal.market_tests(panel, drift[panel.index], 1, **QUICK) == record_of(made, seed=1, **QUICK)


@pytest.mark.parametrize(("times", "rules", "block", "worse"), [(640, 13, 12, 0.0), (200, 4, 3, 1.0), (90, 1, 1, 0.2)])
def test_superior_ability_is_that_of_arch(times, rules, block, worse):
    random = np.random.default_rng(times)
    gains = random.standard_normal((times, rules)) * random.uniform(0.1, 3, rules) - worse * np.arange(rules)
    peer = SPA(np.zeros(times), -gains, block_size=block, reps=199, seed=7)
    peer.compute()
    assert cal.superior_ability(gains, block, 199, 7) == peer.pvalues["consistent"]


def test_a_market_without_events_gives_missing_values_not_an_error():
    found = record_of(simulate_market(seed=1, years=5.2), **QUICK)
    assert found["n_events"] == 0 and np.isnan(found["rotation_own_era"])
    assert cal.summarise(pd.DataFrame([found]))["rejections"] == []


def test_a_huge_planted_effect_is_found_by_every_test_and_its_truth_is_known():
    """The true excess is the planted one less its share of all days; the own-era one holds less, it has fewer days."""
    made = simulate_market(seed=2, effect=2.5, world="stationary")
    record, planted = record_of(made, n_bootstrap=99), made.truth["planted"].cumsum()
    assert rates([record])["rate"].drop("max_rotation_own_era").min() == 1 and rates([record]).index.tolist() == OWN
    assert record["own_ci_low"] < record["own_truth"] < record["own_ci_high"] and record["own_truth"] > 1
    ahead = (planted.shift(-91) - planted.shift(-1))["2014":].dropna()
    assert record["truth"] == pytest.approx(2.5 - ahead.mean(), abs=0.05)


def test_the_stored_calendar_is_that_of_the_real_recoveries(real_panel, tmp_path, monkeypatch):
    """As the episodes of the primary rule have them; and a record tests these days in the actual eras."""
    ends = cap.episodes(cap.hash_ribbons(real_panel)["inverted"], real_panel)["end"].dropna()
    assert cal.actual_recoveries().tolist() == ends[ends >= "2014-01-01"].tolist()
    stored = (cal.reference_folder() / cal.RECOVERIES).read_bytes()
    monkeypatch.setattr(cal, "reference_folder", lambda: tmp_path)
    assert cal.renew_recoveries(real_panel).read_bytes() == stored


def test_the_actual_recoveries_are_tested_in_the_actual_eras():
    made, days = simulate_market(seed=4), cal.actual_recoveries()
    price, opened = made.panel["price_usd"], halvings()["date"]
    era = pd.Series(opened.searchsorted(made.panel.index, side="right"), made.panel.index)
    test = cap.rotation_test(cap.own_era_excess(price, era, 90), days, confidence=0.8)
    found = cal.calendar_tests(made.panel, made.truth["drift"], **QUICK, confidence=0.8)
    names = ("own_excess_log", "rotation_own_era", "rotation_own_era_two_sided", "own_ci_low", "own_ci_high")
    expected = [test.excess, test.p, test.p_two_sided, *test.interval]
    np.testing.assert_allclose([found[f"actual_{name}"] for name in names], expected, rtol=0, atol=1e-12)
    for effect in (0.2, 0.6):  # the price itself is changed
        richer = price * np.exp(effect * planted_returns(price.index, days).cumsum())
        test = cap.rotation_test(cap.own_era_excess(richer, era, 90), days)
        assert found[f"planted_{effect:.2f}"] == pytest.approx(test.p, abs=1e-12)
    known = days[days <= price.index[-92]]  # of each market's recoveries with a known outcome every fourth of five
    few = known[[round(k * (len(known) - 1) / 4) for k in range(5)]]
    richer = price * np.exp(0.4 * planted_returns(price.index, few).cumsum())
    test = cap.rotation_test(cap.own_era_excess(richer, era, 90), few)
    assert test.n == 5 and found["planted_0.40_of_5"] == pytest.approx(test.p, abs=1e-12)
    drifting = made.panel.assign(price_usd=np.exp(made.truth["drift"].cumsum()).where(price.notna()))
    certain = cal.calendar_tests(drifting, made.truth["drift"], **QUICK)
    for kind in ("", "own_"):  # without surprises the excess is the true one
        assert certain[f"actual_{kind}excess_log"] == pytest.approx(certain[f"actual_{kind}truth"], abs=1e-12)


@pytest.mark.parametrize("group", ["stationary 0.00", "realistic 0.00", "realistic 0.30"])
def test_the_code_of_today_gives_the_stored_records(group):
    """The first markets of a group of data/reference/calibration.json, simulated and tested again."""
    world, effect = group.split()
    for before in cal.stored_calibration()["first_records"][group]:
        again = cal.market_record((world, float(effect), before["seed"]))
        assert {name: again[name] for name in before} == pytest.approx(before, rel=1e-9, abs=1e-12)


def test_rates_coverage_power_and_errors_are_plain_shares():
    values = {name: [0.01, 0.05, 0.2, np.nan] for name in (*cal.P_VALUES, *cal.PLANTED)}
    values |= {"actual_rotation_own_era": [0.01, 0.2, 0.2, np.nan]}
    for calendar in ("", "actual_"):
        values |= {f"{calendar}ci_low": [-1, 0.1, -1, np.nan], f"{calendar}ci_high": [1, 0.2, -0.5, np.nan]}
        values |= {f"{calendar}own_ci_low": [-1, -1, -1, np.nan], f"{calendar}own_ci_high": [1, 1, 1, np.nan]}
        values |= {f"{calendar}truth": [0.0, 0.15, 0.0, 0.0], f"{calendar}own_truth": [0.0, 2.0, 0.0, 0.0]}
    values |= {key: [1, 2, 3, 4] for key in cal.MEANS}
    found = rates(values)
    assert found.index.tolist() == list(cal.TESTS)
    assert found.loc["hac", ["markets", "rate"]].tolist() == pytest.approx([3, 2 / 3])
    assert found.loc["hac", "error"] == pytest.approx(np.sqrt(2 / 9 / 3)) and not found.loc["hac", "at_level"]
    for name, rate in (("bootstrap", 2 / 3), ("interval_own_era", 0)):
        assert found["rate"][[name, f"actual_{name}"]].tolist() == pytest.approx([rate] * 2)
    summary = cal.summarise(pd.DataFrame(values))
    covered = {(row["interval"], row["of"], row["calendar"]): row["rate"] for row in summary["coverage"]}
    shares = {("excess", "zero"): 1 / 3, ("excess", "true excess"): 2 / 3}
    shares |= {("own-era excess", "zero"): 1, ("own-era excess", "true excess"): 2 / 3}
    assert covered == pytest.approx({(*key, of): rate for key, rate in shares.items() for of in ("own", "actual")})
    assert [row["rate"] for row in summary["power"]] == pytest.approx([1 / 3] + [2 / 3] * len(cal.PLANTED))
    assert [row["effect_log"] for row in summary["power"]] == [0.0, *cal.PLANTED.values()]
    assert summary["level_curve"]["hac"] == pytest.approx([1 / 3] * 2 + [2 / 3] * 2 + [1] * 5)
    assert summary["n_events"] == 2.5


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
    assert [row["markets"] for row in found["groups"]["realistic 0.20"]["rejections"]] == [1] * len(OWN)
    assert (reference_folder() / cal.STORED).read_bytes() == published
    assert cal.unfinished_file(**QUICK) != cal.unfinished_file(**QUICK | {"horizon_days": 60})
    with pytest.raises(InputError, match="REPETITIONS=0"):
        cal.calibrate(0)


def test_the_deciding_pair_keeps_level_and_coverage_on_both_calendars():
    table, stored = cal.trust_table().set_index("test"), cal.stored_calibration()
    assert table.index.tolist() == list(cal.TESTS) and stored["settings"]["repetitions"] >= 2000
    covered = cal.stored_rates("coverage").query("effect_log == 0 and interval == 'own-era excess'")
    assert len(covered) == 8 and (covered["markets"] >= 1900).all()
    for world in ("stationary", "realistic"):
        for name in ("rotation_own_era", "actual_rotation_own_era"):
            assert 0.035 <= table.loc[name, f"{world}_rate"] <= 0.065 and table.loc[name, f"{world}_at_level"]
    assert covered.query("calendar == 'actual' or world == 'stationary'")["rate"].between(0.93, 0.97).all()
    assert covered["rate"].between(0.93, 0.98).all()
    assert table.loc["actual_rotation", "realistic_rate"] < 0.035  # the plain test is timid there


def test_power_grows_with_the_effect_and_says_what_could_be_found(monkeypatch):
    curve = cal.stored_rates("rejections").query("test == 'rotation_own_era' and world == 'realistic'")
    assert curve["effect_log"].tolist() == [0.0, *cal.EFFECTS] and (curve["markets"].iloc[1:] >= 300).all()
    assert (curve["rate"].diff().dropna() > -0.03).all() and curve["rate"].iloc[-1] > 0.8
    planted = cal.planted_rates()
    assert planted["effect_log"].tolist() == [0.0, *cal.PLANTED.values()] and planted["rate"].is_monotonic_increasing
    found = [cal.detectable(share) for share in (0.2, 0.5, 0.8, 0.9)]
    assert found == sorted(found) and found[0] > 0 and 0.3 < found[2] < 0.45
    few = cal.few_rates().pivot_table(index="n_events", columns="effect_log", values="rate")
    assert few.index.tolist() == [*cal.FEW] and (few.diff(axis=1).iloc[:, 1:] > 0.05).all(axis=None)
    assert (few.diff().iloc[1:] > -0.03).all(axis=None) and few.loc[2, 0.4] < 0.6 < 0.8 < few.loc[10, 0.4]
    weak = planted.assign(rate=planted["effect_log"] / 2)  # known: found in a share of half the effect
    monkeypatch.setattr(cal, "planted_rates", lambda: weak)
    assert cal.detectable(0.25) == pytest.approx(0.5) and np.isnan(cal.detectable(0.8))


def test_what_was_calibrated_is_the_primary_test_of_the_defaults_and_no_other():
    primary, rules = (
        {"definition": "hash_ribbons", "anchor": "recovery", "days": 90},
        {"fast_days": 30, "slow_days": 60},
    )
    assert cal.applies(primary, rules, 1, "2014-01-01")
    assert cal.applies(primary, rules | {"min_days": 0, "min_depth_z": 0.0, "puell_below": 0.5}, 1, "2014-01-01")
    for other in ({"anchor": "start"}, {"days": 180}, {"definition": "miner_margin"}):
        assert not cal.applies(primary | other, rules, 1, "2014-01-01")
    for other in ({"fast_days": 20}, {"min_days": 5}, {"min_depth_z": 2.0}):
        assert not cal.applies(primary, rules | other, 1, "2014-01-01")
    assert not cal.applies(primary, rules, 0, "2014-01-01") and not cal.applies(primary, rules, 1, "2015-01-01")


def test_the_methodology_prints_the_stored_rates():
    """Its table: the deciding pair and the plain one, own and actual recoveries, stationary and realistic markets."""
    text = (Path(__file__).parents[1] / "docs" / "methodology.md").read_text(encoding="utf-8")
    printed = [line.split("|")[2:-1] for line in text.split("| --- | --- | --- | --- | --- |\n")[1].splitlines()[:4]]
    rejected = cal.trust_table().set_index("test")[["stationary_rate", "realistic_rate"]]
    keys = ["interval", "of", "calendar", "world"]
    held = cal.stored_rates("coverage").query("effect_log == 0").set_index(keys)["rate"]
    calendars, worlds = {"own": "", "actual": "actual_"}, ("stationary", "realistic")
    for test, interval, rows in (
        ("rotation_own_era", "own-era excess", printed[:2]),
        ("rotation", "excess", printed[2:]),
    ):
        rates = rejected.loc[[f"{prefix}{test}" for prefix in calendars.values()]].to_numpy().ravel()
        covers = [held[interval, "true excess", calendar, world] for calendar in calendars for world in worlds]
        assert [[cell.strip() for cell in row] for row in rows] == [
            [f"{100 * rate:.1f} %" for rate in values] for values in (rates, covers)
        ]
