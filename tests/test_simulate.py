"""The simulated market: one seed one market, exact consensus rules, known truth, figures like the real one's."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import capitulation as cap
from capitulation.data.panel import PANEL_COLUMNS, validate_panel
from capitulation.errors import InputError
from capitulation.mining import difficulty
from capitulation.mining.episodes import runs
from capitulation.mining.hashrate import hash_ribbons
from capitulation.paths import notebooks_folder, reference_folder
from capitulation.simulate import market as sim
from capitulation.simulate.market import WORLDS, simulate_market, simulate_panel
from capitulation.study.returns import forward_returns


@pytest.fixture(scope="module")
def market():
    return simulate_market(seed=5)


@pytest.fixture(scope="module")
def moments():
    """The figures of a market, as notebook 90 writes them out."""
    names = {"cap": cap, "era_of": difficulty.era_of, "np": np, "pd": pd, "runs": runs}
    for cell in json.loads((notebooks_folder() / "90-trust-the-tests.ipynb").read_text(encoding="utf-8"))["cells"]:
        if "def " in (source := "".join(cell["source"])) and "figures(panel)" in source:
            exec(source, names)  # noqa: S102
    return names["moments"]


def test_the_market_of_seed_17_never_changes(simulated_panel):
    """Reports on simulated data rest on it, and the stored calibration on its like."""
    pd.testing.assert_frame_equal(simulated_panel, simulate_panel(seed=17), check_exact=True)
    last, total = simulated_panel.iloc[-1], simulated_panel.sum()
    assert last[["height", "block_count"]].tolist() == [936109, 156]
    assert last["price_usd"] == pytest.approx(60711.70688459229, rel=1e-9)
    assert total["price_usd"] == pytest.approx(56323423.14516044, rel=1e-9)
    assert total["hash_rate_ehs"] == pytest.approx(279455.2649609283, rel=1e-9)
    assert total["fees_btc"] == pytest.approx(299295.6966149579, rel=1e-9)


@pytest.mark.parametrize("world", WORLDS)
def test_a_panel_has_every_day_and_column_and_a_price_since_the_first_real_one(world):
    panel = simulate_panel(seed=3, years=4, world=world)
    assert len(panel) == 1461 and panel.index[0] == pd.Timestamp("2009-01-03") and panel.index.freq == "D"
    assert list(panel.columns) == list(PANEL_COLUMNS) and panel["hash_rate_ehs"]["2011":].gt(0).all()
    assert panel["price_usd"].first_valid_index() == pd.Timestamp("2010-07-18")
    assert validate_panel(panel["2011":]).equals(panel["2011":])
    assert not panel["hash_rate_ehs"].equals(simulate_panel(seed=4, years=4, world=world)["hash_rate_ehs"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("world", "flat"), ("years", 0), ("years", 100), ("effect", 50.0), ("effect", float("nan")), ("storms", 1)],
)
def test_a_value_out_of_range_or_an_unknown_name_is_refused_in_one_line(name, value):
    with pytest.raises(InputError, match=name) as caught:
        simulate_panel(**{name: value})
    assert "\n" not in str(caught.value)


@given(st.integers(1, sim.EASIEST_TARGET))
@settings(max_examples=200, deadline=None)
def test_compact_targets_keep_three_bytes_and_never_grow(target):
    kept = sim.compact(target)
    assert 0 <= target - kept <= target >> 15 and sim.compact(kept) == kept


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
def test_adjustments_agree_with_the_reference_implementation(bits, first, last, expected):
    """The cases of Bitcoin Core's own tests of the rule, as headers have it: three bytes times a power of 256."""
    before, after = ((number & 0x7FFFFF) << 8 * ((number >> 24) - 3) for number in (bits, expected))
    assert sim.next_target(before, last - first) == after


def test_every_simulated_adjustment_follows_the_rule_and_is_read_back_from_the_daily_panel(market):
    """Difficulty, height and day as `adjustments` finds them equal what the simulation did."""
    table = market.adjustments
    assert (table["height"] == difficulty.RETARGET_BLOCKS * np.arange(1, len(table) + 1)).all()
    targets = [sim.EASIEST_TARGET, *table["target"]]
    assert targets[1:] == [sim.next_target(old, span) for old, span in zip(targets, table["timespan"], strict=False)]
    gaps = np.diff(table["second"]) - table["timespan"].to_numpy()[1:]
    assert (gaps >= 0).all() and np.median(gaps) < 3600  # from the last block of a period to the first of the next
    both = difficulty.adjustments(market.panel).set_index("height").join(table.set_index("height").add_suffix("_true"))
    later = both[both["date"] >= "2011-01-01"]
    assert len(later) > 300
    np.testing.assert_allclose(later["difficulty"], later["difficulty_true"], rtol=1e-6)
    day = (both["date"] - market.panel.index[0]).dt.days
    assert (day - both["second_true"] // difficulty.SECONDS_PER_DAY).isin([0, 1, 2]).all()


def test_a_day_that_passes_several_adjustments_counts_every_block():
    chain = sim.Chain()
    blocks, work = chain.mine(0, 1e-8, np.random.default_rng(2))  # 1,400 times what difficulty 1 needs
    assert chain.height == blocks and len(chain.changes) >= 3
    heights = [1, *[change[0] for change in chain.changes], chain.height + 1]  # the genesis block is not found
    weights = [1.0, *[change[-1] for change in chain.changes]]
    assert work == pytest.approx(float(np.diff(heights) @ weights))


def test_coins_go_by_height_revenue_by_coins_and_hash_rate_is_the_true_one_but_for_luck(market):
    """The relative error of a day's hash rate is that of a Poisson count."""
    panel = market.panel
    assert (panel["height"] == panel["block_count"].cumsum()).all()
    coins = difficulty.subsidy_btc(np.arange(int(panel["height"].iloc[-1]) + 1))
    days = difficulty.halving_days(panel)
    before, after = (int(height[days.iloc[1]]) for height in (panel["height"].shift(1), panel["height"]))
    assert len(days) == 4 and before < 2 * difficulty.HALVING_BLOCKS <= after
    assert panel["issuance_btc"][days.iloc[1]] == pytest.approx(coins[before + 1 : after + 1].sum())
    assert panel["issuance_btc"].sum() == pytest.approx(coins[1:].sum(), abs=1e-3)
    revenue = (panel["issuance_btc"] + panel["fees_btc"]) * panel["price_usd"]
    pd.testing.assert_series_equal(panel["revenue_usd"], revenue, check_names=False)
    late = panel["2015":]
    error = np.log(late["hash_rate_ehs"] / market.truth["hash_rate_ehs"]["2015":]) * np.sqrt(late["block_count"])
    assert abs(error.mean()) < 0.1 and error.std() == pytest.approx(1, abs=0.05)


def test_price_leads_hash_rate_in_the_realistic_world_and_not_in_the_stationary_one(moments):
    """Fantazzini and Kolodin (2020): price leads by weeks, hash rate does not lead."""
    lead = "price change and hash-rate change 30 days later"
    found = {w: np.mean([moments(simulate_panel(seed, world=w))[lead] for seed in range(8)]) for w in WORLDS}
    assert found["realistic"] > 0.1 and abs(found["stationary"]) < 0.08


def test_the_price_knows_nothing_of_the_miners_without_an_effect():
    base, other = simulate_panel(seed=9), simulate_panel(seed=9, storms_per_year=3.0, switch_off_days=30.0)
    assert not base["hash_rate_ehs"].equals(other["hash_rate_ehs"])
    pd.testing.assert_series_equal(base["price_usd"], other["price_usd"], check_exact=True)


def test_a_planted_effect_raises_the_return_after_a_recovery_by_exactly_that_much_and_nothing_before():
    """In the stationary world hash rate does not answer, so the same recoveries are there with and without."""
    null, planted = simulate_panel(seed=5, world="stationary"), simulate_market(seed=5, effect=0.3, world="stationary")
    pd.testing.assert_series_equal(null["hash_rate_ehs"], planted.panel["hash_rate_ehs"], check_exact=True)
    days = runs(hash_ribbons(null)["inverted"])["end"].dropna()
    days = days[(days >= "2010-07-18") & (days < "2025-06-01")]
    gained = forward_returns(planted.panel["price_usd"], 90) - forward_returns(null["price_usd"], 90)
    assert len(days) > 15 and gained.max() <= 0.3 + 1e-9
    np.testing.assert_allclose(gained[days], 0.3, atol=1e-9)
    every = runs(hash_ribbons(null)["inverted"])["end"].dropna()
    plan = sim.planted_returns(null.index, every).where(null.index > "2010-07-18", 0.0)
    np.testing.assert_allclose(planted.truth["planted"], 0.3 * plan, rtol=0, atol=1e-12)
    first = planted.truth["planted"].gt(0).idxmax()
    assert first == days.iloc[0] + pd.Timedelta(days=2)  # bought at the close of the day after the recovery
    unknowing = slice(None, first - pd.Timedelta(days=1))
    assert planted.panel["price_usd"][unknowing].equals(null["price_usd"][unknowing])


def test_true_drift_is_what_returns_average_to():
    worlds = [simulate_market(seed, years=12, world="stationary") for seed in range(20)]
    surprises = np.concatenate([(np.log(m.panel["price_usd"]).diff() - m.truth["drift"]).dropna() for m in worlds])
    assert abs(surprises.mean()) < 3 * surprises.std() / np.sqrt(len(surprises))


def test_moments_of_a_steady_market_are_known_and_those_by_era_hold_though_a_halving_comes_early(moments):
    """A price that doubles every year and a hash rate that grows steadily have moments one can write down."""
    n = np.arange(6209)
    found = moments(simulate_panel(seed=1).assign(price_usd=2.0 ** (n / 365), hash_rate_ehs=np.exp(n / 365)))
    assert found["price, log drift, era 2016"] == pytest.approx(np.log(2))
    assert found["price, volatility, era 2016"] == pytest.approx(0, abs=1e-9)
    assert found["hash rate, log growth, era 2020"] == pytest.approx(1)
    assert found["inversions"] == 0 and found["price, deepest drawdown"] == 0
    halved_in_2019 = simulate_panel(seed=9)
    assert difficulty.halving_days(halved_in_2019).dt.year[3] == 2019 and moments(halved_in_2019).notna().all()


def test_stored_moments_are_what_the_suite_measures_and_put_the_real_market_among_the_simulated(real_panel, moments):
    table = pd.read_csv(reference_folder() / "simulation_moments.csv", index_col="moment")
    found = moments(real_panel)
    assert table.index.tolist() == found.index.tolist()
    np.testing.assert_allclose(found, table["real"], rtol=1e-4, atol=1e-6)
    assert table["real"].between(table["simulated_low"], table["simulated_high"]).mean() >= 0.85


def test_what_is_said_to_be_measured_is_near_the_real_figure(real_panel):
    """Drift and volatility of the eras that claim it, fees, the first price."""
    change, assumed = np.log(real_panel["price_usd"]).diff() * 365, sim.parameters()
    ends = [pd.Timestamp(era["start"]) - pd.Timedelta(days=1) for era in assumed.eras[1:]] + [real_panel.index[-1]]
    for era, end in zip(assumed.eras, ends, strict=True):
        real = change[era["start"] : end]
        assert float(era["volatility"]) == pytest.approx(real.std() / np.sqrt(365), rel=0.1)
        if era["start"] not in ("2012-11-28", "2014-01-01", "2024-04-20"):
            assert float(era["drift"]) == pytest.approx(real.mean(), rel=0.05)
    fees = real_panel["fees_btc"] / real_panel["block_count"]
    assert fees["2012":].median() == pytest.approx(0.17, abs=0.005)
    assert assumed.first_price == pytest.approx(real_panel["price_usd"].dropna().iloc[0], rel=0.01)
