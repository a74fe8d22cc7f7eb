"""The simulated market: one seed one market, exact consensus rules, moments in range, known truth."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capitulation.data.panel import PANEL_COLUMNS
from capitulation.episodes import find_episodes
from capitulation.errors import InputError
from capitulation.mining.protocol import HALVING_BLOCKS, RETARGET_BLOCKS, SECONDS_PER_DAY, halving_days, subsidy_btc
from capitulation.mining.retargets import retargets
from capitulation.mining.ribbons import ribbons
from capitulation.simulate import SimulationParams, parameter_table, simulate, simulate_panel
from capitulation.simulate.consensus import (
    EASIEST_BITS,
    EASIEST_TARGET,
    RETARGET_SECONDS,
    Chain,
    bits_for,
    bits_of,
    difficulty_of,
    next_bits,
    target_of,
)
from capitulation.simulate.market import issuance_btc
from capitulation.simulate.moments import MOMENTS, moments, moments_table
from capitulation.study.forward_returns import forward_log_returns


@pytest.fixture(scope="module")
def market():
    return simulate(seed=5)


@pytest.fixture(scope="module")
def planted():
    return simulate(seed=5, effect=0.3, world="stationary")


def test_one_seed_gives_one_market_bit_for_bit():
    first, second = simulate_panel(seed=3, years=8), simulate_panel(seed=3, years=8)
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert not first["hash_rate_ehs"].equals(simulate_panel(seed=4, years=8)["hash_rate_ehs"])


def test_a_panel_has_every_day_and_column_and_a_price_since_the_first_real_one():
    panel = simulate_panel(seed=3, years=2)
    assert len(panel) == 730 and panel.index[0] == pd.Timestamp("2009-01-03")
    assert list(panel.columns) == list(PANEL_COLUMNS) and panel.index.freq == "D"
    assert panel["price_usd"].first_valid_index() == pd.Timestamp("2010-07-18")


def test_seventeen_years_take_less_than_a_second():
    began = time.process_time()
    simulate_panel(seed=8)
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    "wrong",
    [{"world": "flat"}, {"years": 0}, {"years": 100}, {"effect": 50.0}, {"effect_days": 0}, {"effect": float("nan")}],
)
def test_a_value_out_of_range_is_refused_in_one_line(wrong):
    with pytest.raises(InputError) as caught:
        simulate_panel(**wrong)
    assert str(next(iter(wrong.values()))) in str(caught.value) and "\n" not in str(caught.value)


@given(st.integers(1, EASIEST_TARGET))
@settings(max_examples=200, deadline=None)
def test_compact_targets_keep_three_bytes_and_never_grow(target):
    compact = bits_of(target)
    assert target_of(compact) <= target
    assert target - target_of(compact) <= target >> 15
    assert bits_of(target_of(compact)) == compact


@pytest.mark.parametrize(
    ("bits", "first", "last", "expected"),
    [
        (0x1D00FFFF, 1261130161, 1262152739, 0x1D00D86A),
        (0x1D00FFFF, 1231006505, 1233061996, 0x1D00FFFF),
        (0x1C05A3F4, 1279008237, 1279297671, 0x1C0168FD),
        (0x1C387F6F, 1263163443, 1269211443, 0x1D00E1FD),
    ],
    ids=["first change", "never easier than 1", "at most four times harder", "at most four times easier"],
)
def test_retargets_agree_with_the_reference_implementation(bits, first, last, expected):
    """The cases of Bitcoin Core's own tests of the retarget rule."""
    assert next_bits(bits, last - first) == expected


@given(st.integers(10**9, 10**13), st.integers(0, 10 * RETARGET_SECONDS))
@settings(max_examples=200, deadline=None)
def test_a_retarget_never_leaves_a_factor_of_four(difficulty, timespan):
    bits = bits_for(difficulty)
    ratio = difficulty_of(next_bits(bits, timespan)) / difficulty_of(bits)
    clamped = RETARGET_SECONDS / min(max(timespan, RETARGET_SECONDS / 4), RETARGET_SECONDS * 4)
    assert ratio == pytest.approx(clamped, rel=1e-4)


def test_every_simulated_retarget_follows_the_rule_from_its_own_timespan(market):
    table = market.retargets
    assert (table["height"] == RETARGET_BLOCKS * np.arange(1, len(table) + 1)).all()
    before = [EASIEST_BITS, *table["bits"].tolist()[:-1]]
    expected = [next_bits(old, span) for old, span in zip(before, table["timespan"], strict=True)]
    assert table["bits"].tolist() == expected
    gaps = np.diff(table["second"]) - table["timespan"].to_numpy()[1:]
    assert (gaps >= 0).all() and np.median(gaps) < 3600  # from the last block of a period to the first of the next


def test_the_suite_reads_the_simulated_retargets_back_from_the_daily_panel(market):
    """Difficulty, height and day as `mining.retargets` finds them equal what the simulation did."""
    found = retargets(market.panel).set_index("height")
    truth = market.retargets.set_index("height")
    both = found.join(truth.add_suffix("_true")).dropna(subset=["difficulty"])
    later = both[both["date"] >= "2011-01-01"]
    assert len(later) > 300
    np.testing.assert_allclose(later["difficulty"], later["difficulty_true"], rtol=1e-6)
    day = (both["date"] - market.panel.index[0]).dt.days
    assert (day - both["second_true"] // SECONDS_PER_DAY).isin([0, 1, 2]).all()


def test_blocks_are_poisson_given_hash_rate_and_difficulty():
    chain, random = Chain(bits_for(1e9)), np.random.default_rng(1)
    rate = difficulty_of(chain.bits) * 144 * 2**32 / SECONDS_PER_DAY / 1e18
    counts = np.array([chain.mine(day, rate, random)[0] for day in range(20_000)])
    assert counts.mean() == pytest.approx(144, abs=0.3)
    within = counts[:200]
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.15) and within.min() > 80


def test_a_day_that_passes_several_retargets_counts_every_block():
    chain, random = Chain(), np.random.default_rng(2)
    blocks, work = chain.mine(0, 1e-8, random)  # 1,400 times what difficulty 1 needs
    assert chain.height == blocks and len(chain.changes) >= 3
    ratios = np.diff([1.0, *[difficulty_of(change[3]) for change in chain.changes]])
    assert (ratios > 0).all()
    heights = [0, *[change[0] for change in chain.changes], chain.height + 1]
    difficulty = [1.0, *[difficulty_of(change[3]) for change in chain.changes]]
    found = np.diff(heights).astype(float)
    found[0] -= 1  # the genesis block is not found
    assert work == pytest.approx(float(found @ difficulty))


def test_subsidy_and_halvings_go_by_height(market):
    panel = market.panel
    heights = np.arange(int(panel["height"].iloc[-1]) + 1)
    coins = subsidy_btc(heights)
    assert panel["issuance_btc"].sum() == pytest.approx(coins[1:].sum(), abs=1e-3)
    days = halving_days(panel)
    assert len(days) == 4
    day = days.iloc[1]
    before, after = int(panel["height"].shift(1)[day]), int(panel["height"][day])
    assert before < 2 * HALVING_BLOCKS <= after
    assert panel["issuance_btc"][day] == pytest.approx(coins[before + 1 : after + 1].sum())


def test_issuance_adds_up_to_the_coins_of_every_block():
    heights = np.array([10, 209_999, 210_000, 419_999, 420_500])
    blocks = subsidy_btc(np.arange(420_501))
    expected = np.diff([blocks[1 : h + 1].sum() for h in heights], prepend=0.0)
    np.testing.assert_allclose(issuance_btc(heights), expected)


def test_columns_agree_with_each_other(market):
    panel = market.panel
    implied = panel["difficulty"] * panel["block_count"] * 2**32 / SECONDS_PER_DAY / 1e18
    np.testing.assert_allclose(implied.dropna(), panel["hash_rate_ehs"][implied.notna()], rtol=1e-12)
    assert (panel["height"] == panel["block_count"].cumsum()).all()
    revenue = (panel["issuance_btc"] + panel["fees_btc"]) * panel["price_usd"]
    pd.testing.assert_series_equal(panel["revenue_usd"], revenue, check_names=False)


def test_the_measured_hash_rate_is_the_true_one_but_for_luck(market):
    """The relative error of a day is that of a Poisson count."""
    late = market.panel["2015":]
    error = np.log(late["hash_rate_ehs"] / market.truth["hash_rate_ehs"]["2015":]) * np.sqrt(late["block_count"])
    assert abs(error.mean()) < 0.1 and error.std() == pytest.approx(1, abs=0.05)


def test_price_leads_hash_rate_in_the_realistic_world_and_not_in_the_stationary_one():
    """Fantazzini and Kolodin (2020): price leads by weeks, hash rate does not lead."""
    lead = {world: [] for world in ("realistic", "stationary")}
    for world, values in lead.items():
        for seed in range(8):
            found = moments(simulate_panel(seed, world=world))
            values.append(found[["price change and hash-rate change 30 days later"]].iloc[0])
    follow = np.mean(lead["realistic"])
    assert follow > 0.1 and abs(np.mean(lead["stationary"])) < 0.08


def test_the_price_knows_nothing_of_the_miners_without_an_effect():
    """Other blocks' luck, other hash rate, same price: in the null the price is drawn first."""
    base = simulate(seed=9)
    other = simulate(seed=9, params=SimulationParams(storms_per_year=3.0, switch_off_days=30.0))
    assert not base.panel["hash_rate_ehs"].equals(other.panel["hash_rate_ehs"])
    pd.testing.assert_series_equal(base.panel["price_usd"], other.panel["price_usd"], check_exact=True)


def test_a_planted_effect_raises_the_return_after_a_recovery_by_exactly_that_much(planted):
    """In the stationary world hash rate does not answer, so the same recoveries are there with and without."""
    null = simulate(seed=5, world="stationary")
    pd.testing.assert_series_equal(null.panel["hash_rate_ehs"], planted.panel["hash_rate_ehs"], check_exact=True)
    state = ribbons(null.panel)
    days = find_episodes(state["in_capitulation"], state["known"])["end"].dropna()
    days = days[(days >= "2011-01-01") & (days < "2025-06-01")]
    gained = forward_log_returns(planted.panel["price_usd"], 90, 1) - forward_log_returns(
        null.panel["price_usd"], 90, 1
    )
    assert len(days) > 15
    np.testing.assert_allclose(gained[days], 0.3, atol=1e-9)
    assert gained.dropna().max() <= 0.3 + 1e-9


def test_the_effect_stops_after_its_days(planted):
    daily = planted.truth["planted"]
    assert set(np.round(daily.unique(), 12)) == {0.0, round(0.3 / 90, 12)}
    runs = (daily > 0).astype(int).diff().eq(1).sum()
    assert (daily > 0).sum() >= 90 * (runs - 1)


def test_the_planted_drift_begins_after_the_entry_never_before(market):
    made = simulate(seed=5, effect=0.3)
    state = ribbons(made.panel)
    ends = find_episodes(state["in_capitulation"], state["known"])["end"].dropna()
    ends = ends[ends > "2010-09-01"]
    first = made.truth["planted"].gt(0).idxmax()
    assert first == ends.iloc[0] + pd.Timedelta(days=2)
    day = first - pd.Timedelta(days=1)
    pd.testing.assert_series_equal(made.panel["price_usd"][:day], market.panel["price_usd"][:day], check_exact=True)


def test_true_drift_is_what_returns_average_to():
    worlds = [simulate(seed, years=12, world="stationary") for seed in range(20)]
    surprises = np.concatenate([(np.log(m.panel["price_usd"]).diff() - m.truth["drift"]).dropna() for m in worlds])
    assert abs(surprises.mean()) < 3 * surprises.std() / np.sqrt(len(surprises))


def test_moments_of_a_steady_market_are_known():
    """A price that doubles every year and a hash rate that grows steadily have moments one can write down."""
    days = pd.date_range("2009-01-03", "2026-01-01", name="date")
    n = np.arange(len(days))
    panel = simulate_panel(seed=1, years=17).reindex(days)
    panel["price_usd"] = 2.0 ** (n / 365)
    panel["hash_rate_ehs"] = np.exp(n / 365)
    found = moments(panel)
    assert found["price, log drift, era 2016"] == pytest.approx(np.log(2))
    assert found["price, volatility, era 2016"] == pytest.approx(0, abs=1e-9)
    assert found["hash rate, log growth, era 2020"] == pytest.approx(1)
    assert found["inversions"] == 0 and found["price, deepest drawdown"] == 0


def test_moments_by_era_hold_though_a_simulated_halving_falls_into_another_year():
    early = next(m for m in map(simulate_panel, range(500_000, 500_060)) if halving_days(m).dt.year[3] == 2019)
    assert moments(early).notna().all()


def test_stored_moments_put_the_real_market_among_the_simulated_ones():
    table = moments_table()
    assert table["moment"].tolist() == [name for name, _, _ in MOMENTS]
    assert table["within"].mean() >= 0.85, table.loc[~table["within"], "moment"].tolist()
    assert (table["simulated_low"] <= table["simulated_high"]).all()


def test_stored_moments_of_the_real_market_are_what_the_suite_measures(real_panel):
    table = moments_table(real_panel)
    np.testing.assert_allclose(table["this_market"], table["real"], rtol=1e-4, atol=1e-6)


def test_every_parameter_has_a_unit_and_a_source():
    table = parameter_table()
    assert (table[["unit", "source"]].map(len) > 0).all(axis=None)
    assert {"eras", "vintages", "wear"} <= set(table["parameter"])


def test_what_is_said_to_be_measured_is_near_the_real_figure(real_panel):
    """Drift and volatility of the eras that claim it, fees, the first price."""
    change, params = np.log(real_panel["price_usd"]).diff() * 365, SimulationParams()
    ends = [pd.Timestamp(era.start) - pd.Timedelta(days=1) for era in params.eras[1:]] + [real_panel.index[-1]]
    for era, end in zip(params.eras, ends, strict=True):
        real = change[era.start : end]
        assert era.volatility == pytest.approx(real.std() / np.sqrt(365), rel=0.1)
        if era.start not in ("2012-11-28", "2014-01-01", "2024-04-20"):
            assert era.drift == pytest.approx(real.mean(), rel=0.05)
    fees = real_panel["fees_btc"] / real_panel["block_count"]
    assert fees["2012":].median() == pytest.approx(0.17, abs=0.005)
    assert fees["2016-07-09":].median() == pytest.approx(0.19, abs=0.005)
    assert params.first_price == pytest.approx(real_panel["price_usd"].dropna().iloc[0], rel=0.01)
