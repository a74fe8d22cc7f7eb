"""The parsers and checks on real files of three providers, which must tell one story."""

import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest

from capitulation.data import changes, quality
from capitulation.data.panel import validate_panel
from capitulation.data.providers import blockchain_com, mempool_space

CHARTS = ("hash-rate", "difficulty", "market-price", "miners-revenue")
DAY_AFTER = dt.date(2026, 3, 23)


@pytest.fixture(scope="module")
def blockchain(data_folder):
    files = {f"{name}.json": (data_folder / "blockchain_com" / f"{name}.json").read_bytes() for name in CHARTS}
    return blockchain_com.parse(files)


@pytest.fixture(scope="module")
def mempool(data_folder):
    return mempool_space.parse({"hashrate.json": (data_folder / "mempool_space" / "hashrate-1y.json").read_bytes()})


def mean(panel, days=30):
    return panel.hash_rate_ehs.rolling(days).mean()


def gap(panel):
    return (mean(panel, 30) / mean(panel, 60) - 1).dropna()


def both(left, right, since):
    frame = pd.DataFrame({"left": left, "right": right}).dropna()
    return frame.loc[since:, "left"], frame.loc[since:, "right"]


def test_the_coin_metrics_panel_is_whole_from_the_first_block_on(real_panel):
    validate_panel(real_panel)
    assert (f"{real_panel.index[0]:%Y-%m-%d}", f"{real_panel.index[-1]:%Y-%m-%d}") == ("2009-01-03", "2026-03-22")
    assert real_panel.loc["2009-01-09":, ["hash_rate_ehs", "difficulty", "height"]].notna().all(axis=None)
    assert real_panel.loc["2010-07-18":].notna().all(axis=None)
    identity = real_panel.difficulty * 2**32 * real_panel.block_count / 86400 / 1e18
    np.testing.assert_allclose(real_panel.hash_rate_ehs.dropna(), identity.dropna(), rtol=1e-12)


def test_difficulty_is_what_the_protocol_set(real_panel, data_folder):
    """Without a retarget near, the derived difficulty is that of mempool.space's list, to its rounding.

    On days with one the mean over blocks (here) and over time (there) differ, most in July 2021, when it fell by 28 %.
    """
    rows = json.loads((data_folder / "mempool_space" / "difficulty-adjustments.json").read_text())
    times, _heights, levels, _ratios = np.array(sorted(rows)).T
    days = real_panel.loc["2021-02":].index
    expected = mempool_space.mean_difficulty(days, times, levels, np.nan)
    ratio = real_panel.difficulty[days] / expected
    quiet = ~days.isin(pd.to_datetime(times, unit="s").normalize().union(
        pd.to_datetime(times, unit="s").normalize() - pd.Timedelta(days=1)
    ))  # fmt: skip
    assert quiet.mean() > 0.8
    assert (ratio[quiet] - 1).abs().max() < 1e-6
    assert (ratio - 1).abs().max() < 0.03


def test_the_first_days_have_difficulty_one(real_panel):
    np.testing.assert_allclose(real_panel.difficulty["2009-01-09":"2009-12-29"], 1.0, rtol=1e-6)


def test_blockchain_com_agrees_within_one_percent_since_2017(real_panel, blockchain):
    """All but 16 days of 2017, at most 1.9 %: Blockchain.com's hash rate differs on retarget days of that time."""
    ours, theirs = both(mean(real_panel), mean(blockchain), "2017")
    off = (theirs / ours - 1).abs()
    assert len(off) > 3300
    assert (off > 0.01).sum() <= 16
    assert off.max() < 0.02
    assert off["2018":].max() < 0.01
    assert off.median() < 1e-4


def test_the_same_days_are_inverted_in_both_since_2018(real_panel, blockchain):
    ours, theirs = both(gap(real_panel), gap(blockchain), "2018")
    assert len(ours) > 2900
    assert ((ours < 0) == (theirs < 0)).mean() >= 0.999


def test_mempool_space_agrees_and_differs_only_where_the_gap_is_nothing(real_panel, mempool):
    ours, theirs = both(mean(real_panel), mean(mempool), "2017")
    assert len(ours) > 180
    assert (theirs / ours - 1).abs().max() < 0.001
    ours, theirs = both(gap(real_panel), gap(mempool), "2018")
    other = (ours < 0) != (theirs < 0)
    assert other.sum() <= 2
    assert ours[other].abs().max() < 0.0005, "a twentieth of the gap's own noise"


def test_mempool_space_stamps_a_day_late(real_panel, mempool):
    change = np.log(real_panel.hash_rate_ehs).diff()
    shifted = np.log(mempool.hash_rate_ehs).diff()
    as_stamped = shifted.shift(1, freq="D")
    assert change.corr(shifted) > 0.99
    assert change.corr(as_stamped) < 0


def test_blockchain_com_stamps_its_price_a_day_late(real_panel, blockchain):
    off = (blockchain.price_usd / real_panel.price_usd - 1).abs()["2017":].dropna()
    as_stamped = (blockchain.price_usd.shift(1, freq="D") / real_panel.price_usd - 1).abs()["2017":].dropna()
    assert off.median() < 0.002
    assert as_stamped.median() > 0.01


def test_implied_block_counts_are_exact_since_2019(real_panel, blockchain):
    ours, theirs = both(real_panel.block_count, blockchain.block_count, "2019")
    assert (ours == theirs).mean() > 0.99
    assert (ours - theirs).abs().max() <= 1
    assert abs((ours - theirs).sum()) < 1


def test_mempool_spaces_implied_block_counts_are_off_by_about_one(real_panel, mempool):
    ours, theirs = both(real_panel.block_count, mempool.block_count, "2017")
    assert 0.5 < (theirs - ours).std() < 2
    assert abs((theirs - ours).mean()) < 0.2


def test_the_days_that_blockchain_com_lacks_stay_missing(blockchain):
    missing = blockchain.index[blockchain.hash_rate_ehs.isna() & (blockchain.index > "2010")]
    assert missing.strftime("%Y-%m-%d").tolist() == ["2025-11-13", "2025-11-14", "2025-11-15"]


def test_the_checks_are_silent_on_real_history(real_panel, mempool):
    assert quality.check_panel(real_panel, DAY_AFTER) == []
    assert quality.check_panel(mempool, DAY_AFTER) == []
    assert quality.check_recent(real_panel, DAY_AFTER) == []
    assert changes.compare_panels(real_panel, real_panel.iloc[:-30]) == []


def test_the_checks_name_what_blockchain_com_lacks(blockchain):
    findings = quality.check_panel(blockchain, DAY_AFTER)
    assert [(f.check, f.severity, f.column) for f in findings] == [
        ("gap", "warning", "hash_rate_ehs"),
        ("stopped", "warning", "price_usd"),
    ]


def test_the_checks_fail_on_no_day_since_2014_had_they_run_then(real_panel):
    """Every day's answer, judged on that day: nothing real was ever a failure, not even the ban of 2021."""
    z = quality.day_z(real_panel)["2014":]
    assert z.abs().max() < quality.DAY_Z_FAILURE
    assert (z.abs() > quality.DAY_Z_WARNING).sum() == 0
    for day in pd.date_range("2021-05-15", "2021-08-15", freq="3D"):
        assert quality.failures(quality.check_panel(real_panel.loc[:day])) == []


def test_all_providers_agree_within_the_limits(real_panel, blockchain, mempool):
    pairs = [(real_panel, blockchain), (real_panel, mempool), (blockchain, mempool)]
    findings = [f for left, right in pairs for f in changes.compare_providers(left, right, "other")]
    assert {f.severity for f in findings} == {"note"}
    assert [f.value < 0.001 for f in findings] == [True] * 4


@pytest.mark.parametrize("factor", [1000, 0.001])
def test_a_wrong_unit_is_found_on_real_history(real_panel, factor):
    wrong = real_panel.assign(
        hash_rate_ehs=real_panel.hash_rate_ehs * factor, difficulty=real_panel.difficulty * factor
    )
    assert [f.check for f in quality.failures(quality.check_panel(wrong))] == ["unit"]
