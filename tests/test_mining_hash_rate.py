"""Means and their noise: closed forms, an independent slow version, Monte Carlo, and the real file."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capitulation.errors import InputError
from capitulation.mining import hash_rate, noise
from capitulation.mining.ribbons import RIBBON_STATES, ribbons
from mining_panels import mined_panel, steady_panel


@pytest.fixture(scope="module")
def mined():
    return mined_panel(600, seed=5)[0]


@given(st.lists(st.one_of(st.floats(0, 1e6), st.just(float("nan"))), max_size=40), st.integers(1, 12))
def test_rolling_mean_equals_the_mean_of_each_full_window(values, days):
    found = hash_rate.rolling_mean(pd.Series(values, dtype=float), days).tolist()
    slow = [np.mean(values[i - days + 1 : i + 1]) if i >= days - 1 else np.nan for i in range(len(values))]
    np.testing.assert_allclose(found, slow, rtol=1e-12, atol=1e-9)


def test_rolling_mean_does_not_depend_on_where_the_series_starts(mined):
    rate = mined["hash_rate_ehs"]
    late = hash_rate.rolling_mean(rate.iloc[200:], 60).iloc[59:]
    pd.testing.assert_series_equal(late, hash_rate.rolling_mean(rate, 60).iloc[259:], check_exact=True)


@pytest.mark.parametrize("days", [1, 7, 30])
def test_relative_error_in_equilibrium_is_one_over_root_of_blocks(days):
    panel = steady_panel(np.full(80, 500.0))
    assert hash_rate.relative_se(panel, days).iloc[-1] == pytest.approx((144 * days) ** -0.5, rel=1e-12)


def test_gap_error_in_equilibrium_is_1_08_percent():
    panel = steady_panel(np.full(80, 500.0))
    assert hash_rate.gap_se(panel).iloc[-1] == pytest.approx(0.010758, abs=1e-6)
    # Fast is half of slow: the gap is (F - P) / (F + P), each with 1/sqrt(30*144).
    assert hash_rate.gap_se(panel).iloc[-1] == pytest.approx(np.sqrt(2) / 2 / np.sqrt(30 * 144), rel=1e-12)


def test_gap_error_equals_the_gradient_formula_term_by_term(mined):
    fast, slow, at = 30, 60, 400
    rate = mined["hash_rate_ehs"].to_numpy()[at - slow + 1 : at + 1]
    blocks = mined["block_count"].to_numpy()[at - slow + 1 : at + 1]
    step, gradient = 1e-6, np.zeros(slow)
    for i in range(slow):
        up, down = rate.copy(), rate.copy()
        up[i] += step
        down[i] -= step
        gradient[i] = ((up[-fast:].mean() / up.mean()) - (down[-fast:].mean() / down.mean())) / (2 * step)
    expected = np.sqrt(np.sum(gradient**2 * rate**2 / blocks))
    assert hash_rate.gap_se(mined, fast, slow).iloc[at] == pytest.approx(expected, rel=1e-5)


def test_gap_error_matches_the_spread_of_simulated_gaps():
    rng = np.random.default_rng(3)
    blocks = rng.poisson(144, (4000, 60))
    gaps = blocks[:, 30:].mean(axis=1) / blocks.mean(axis=1) - 1
    assert gaps.std() == pytest.approx(0.010758, rel=0.04)


def test_drawdown_error_matches_simulation_with_and_without_shared_days():
    rng = np.random.default_rng(4)
    for lag in (3, 40):
        blocks = rng.poisson(144, (6000, 80))
        now, peak = blocks[:, 50:80].mean(axis=1), blocks[:, 50 - lag : 80 - lag].mean(axis=1)
        rate = np.linspace(500.0, 500.1, 80)
        rate[80 - lag :] = 499.0
        se = hash_rate.drawdown_se(steady_panel(rate), 30).iloc[-1]
        assert se == pytest.approx((now / peak).std(), rel=0.05)


def test_drawdown_error_is_zero_at_the_peak_and_grows_with_distance():
    panel = steady_panel(np.r_[np.linspace(400, 500, 40), np.full(45, 300.0)])
    se = hash_rate.drawdown_se(panel, 30)
    assert se.iloc[39] == 0
    assert 0 < se.iloc[45] < se.iloc[60] < se.iloc[84]


def test_drawdown_is_zero_while_rising_and_measures_a_fall():
    panel = steady_panel(np.r_[np.linspace(100, 200, 50), np.full(40, 150.0)])
    fall = hash_rate.drawdown(panel, 1)
    assert (fall.iloc[:50] == 0).all()
    assert fall.iloc[-1] == pytest.approx(-0.25)


def test_block_counts_fall_back_on_difficulty_then_on_the_target():
    panel = steady_panel([500.0] * 3, blocks=130)
    assert hash_rate.block_counts(panel.assign(block_count=np.nan)).tolist() == pytest.approx([130] * 3)
    assert hash_rate.block_counts(panel.assign(block_count=np.nan, difficulty=np.nan)).tolist() == [144] * 3


def test_band_holds_the_mean_and_widens_with_confidence(mined):
    narrow, wide = (hash_rate.hash_rate_band(mined, 30, level).dropna() for level in (0.8, 0.99))
    assert ((wide["low_ehs"] < narrow["low_ehs"]) & (narrow["low_ehs"] < narrow["hash_rate_ehs"])).all()
    assert ((wide["high_ehs"] > narrow["high_ehs"]) & (narrow["high_ehs"] > narrow["hash_rate_ehs"])).all()


def test_ribbons_mark_a_fall_and_leave_short_windows_unknown():
    panel = steady_panel(np.r_[np.full(70, 500.0), np.full(20, 400.0), np.linspace(400, 600, 60)])
    table = ribbons(panel)
    assert (~table["known"]).sum() == 59
    assert not table["in_capitulation"].iloc[:70].any()
    assert table["in_capitulation"].iloc[70]
    assert table["ribbon_state"].iloc[75] == "capitulation"
    assert "recovering" in set(table["ribbon_state"].iloc[90:130])
    assert table["ribbon_state"].iloc[-1] == "expansion"
    assert set(table["ribbon_state"]) <= set(RIBBON_STATES)


def test_ribbon_columns_are_consistent_on_every_day(mined):
    table = ribbons(mined).iloc[59:]
    assert ((table["ribbon_gap"] < 0) == table["in_capitulation"]).all()
    rising = table["hash_rate_fast_ehs"].diff().rolling(3).min() > 0
    # Rising three days in a row is enough to be above each of the last three values.
    assert (table["ribbon_state"][rising & table["in_capitulation"]] == "recovering").all()
    assert (table["ribbon_gap_z"] * table["ribbon_gap_se"] - table["ribbon_gap"]).abs().max() < 1e-15


def test_a_missing_day_makes_its_windows_unknown(mined):
    holed = mined.copy()
    holed.iloc[300, holed.columns.get_loc("hash_rate_ehs")] = np.nan
    table = ribbons(holed)
    assert not table["known"].iloc[300:360].any()
    assert not table["in_capitulation"].iloc[300:360].any()
    assert table["known"].iloc[360:].all()


@pytest.mark.parametrize(("fast", "slow"), [(60, 30), (30, 30), (0, 10)])
def test_ribbons_refuse_windows_out_of_order(mined, fast, slow):
    with pytest.raises(InputError, match=f"fast_days={fast}"):
        ribbons(mined, fast, slow)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 10), st.integers(0, 50))
def test_ribbons_do_not_depend_on_the_unit_of_hash_rate(scale, seed):
    rate = np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.05, 120)))
    plain, scaled = ribbons(steady_panel(rate)), ribbons(steady_panel(rate * scale))
    np.testing.assert_allclose(plain["ribbon_gap_z"], scaled["ribbon_gap_z"], rtol=1e-6, atol=1e-9)


def test_noise_inversions_fall_with_growth_and_halve_the_days_without_it():
    still, slow, fast = (noise.noise_inversions(growth) for growth in (0.0, 0.3, 1.5))
    assert still.counts.mean() > slow.counts.mean() > fast.counts.mean()
    assert still.share_of_days == pytest.approx(0.5, abs=0.02)
    assert fast.counts.max() == 0


def test_noise_inversions_have_one_answer_per_seed_and_are_remembered():
    first = noise.noise_inversions(0.25, 200, runs=300, seed=9)
    assert noise.noise_inversions(0.25, 200, runs=300, seed=9) is first
    noise.noise_inversions.cache_clear()
    assert noise.noise_inversions(0.25, 200, runs=300, seed=9).counts.tolist() == first.counts.tolist()
    assert noise.noise_inversions(0.25, 200, runs=300, seed=10).counts.tolist() != first.counts.tolist()


def test_noise_inversions_count_what_the_ribbons_count():
    rate = noise._steady_hash_rate(0.2, 460, 1, np.random.default_rng(2))
    count, _ = noise._inversion_counts(rate, 30, 60)
    inverted = ribbons(steady_panel(rate[0]))["in_capitulation"].to_numpy()[59:]
    assert count[0] == (inverted[1:] & ~inverted[:-1]).sum()


def test_expected_noise_inversions_stands_beside_the_observed_number(mined):
    result = noise.expected_noise_inversions(mined, runs=300)
    table = ribbons(mined)["in_capitulation"].to_numpy()
    assert result["observed"] == (table[-365:] & ~table[-366:-1]).sum()
    assert result["low"] <= result["expected"] <= result["high"]
    assert 0 <= result["p_at_least_observed"] <= 1


def test_expected_noise_inversions_without_enough_history_is_missing():
    result = noise.expected_noise_inversions(steady_panel(np.full(100, 5.0)))
    assert np.isnan(result["expected"])
    assert result["observed"] == 0


def test_noise_alone_shows_a_drawdown_of_about_14_percent_in_daily_values():
    assert noise.noise_drawdown(0.5, 1)["median"] == pytest.approx(-0.14, abs=0.02)
    assert noise.noise_drawdown(0.5, 30)["median"] > -0.01


def test_real_daily_noise_is_what_poisson_says(real_panel):
    recent = real_panel.loc["2018":"2025"]
    # Day-to-day changes of log hash rate, two independent errors each; the true rate moves far less in a day.
    spread = np.log(recent["hash_rate_ehs"]).diff().std() / np.sqrt(2)
    assert spread == pytest.approx(144**-0.5, rel=0.1)


def test_real_gap_error_stays_near_its_equilibrium_value(real_panel):
    se = hash_rate.gap_se(real_panel).loc["2018":]
    assert se.between(0.0095, 0.0125).all()


def test_error_of_a_change_of_the_gap_counts_shared_days_once():
    """A month apart the shared days weigh with opposite signs, which is noisier than two independent gaps."""
    blocks = np.random.default_rng(6).poisson(144, (4000, 200))
    slow = np.apply_along_axis(lambda row: hash_rate.rolling_mean(pd.Series(row), 60), 1, blocks)
    fast = np.apply_along_axis(lambda row: hash_rate.rolling_mean(pd.Series(row), 30), 1, blocks)
    panel, gap = steady_panel(np.full(200, 500.0)), fast / slow - 1
    single = hash_rate.gap_se(panel).iloc[-1]
    for apart in (10, 35, 60):
        found = hash_rate.gap_change_se(panel, panel.index[-1 - apart], panel.index[-1])
        assert found == pytest.approx((gap[:, -1] - gap[:, -1 - apart]).std(), rel=0.05)
    assert found == pytest.approx(np.sqrt(2) * single, rel=1e-9)
    assert hash_rate.gap_change_se(panel, panel.index[-36], panel.index[-1]) > np.sqrt(2) * single
    assert hash_rate.gap_change_se(panel, panel.index[-1], panel.index[-1]) == 0
    assert np.isnan(hash_rate.gap_change_se(panel, panel.index[58], panel.index[-1]))


def test_a_drawdown_stands_beside_that_of_luck_alone():
    panel = steady_panel(500 * np.exp(0.2 / 365 * np.arange(600)))
    table = noise.drawdown_table(panel).set_index("mean_days")
    assert list(table.index) == [1, 7, 30] and (table["drawdown"] == 0).all() and (table["se"] == 0).all()
    assert table["noise_median"].is_monotonic_increasing and -0.3 < table.loc[1, "noise_median"] < -0.1
    assert (table["noise_1_in_20"] < table["noise_median"]).all() and table.loc[30, "noise_1_in_20"] > -0.1
    assert noise.drawdown_table(panel.iloc[:200])["noise_median"].isna().all()
