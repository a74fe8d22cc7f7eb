"""Consensus numbers: subsidy, halvings and eras against the protocol and the real file."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capitulation.mining import protocol
from mining_panels import steady_panel


@pytest.mark.parametrize(
    ("height", "coins"),
    [(0, 50), (209_999, 50), (210_000, 25), (630_000, 6.25), (6_929_999, 1e-8), (6_930_000, 0), (14_000_000, 0)],
)
def test_subsidy_follows_the_schedule_to_its_last_satoshi(height, coins):
    assert protocol.subsidy_btc(height) == coins


def test_all_subsidies_add_up_to_the_known_supply():
    eras = np.arange(64) * protocol.HALVING_BLOCKS
    assert np.sum(protocol.subsidy_btc(eras)) * protocol.HALVING_BLOCKS == pytest.approx(20_999_999.9769, abs=1e-6)


def test_subsidy_keeps_missing_heights_missing_and_the_index():
    heights = pd.Series([1.0, np.nan], index=pd.date_range("2020-01-01", periods=2))
    coins = protocol.subsidy_btc(heights)
    assert coins.index.equals(heights.index)
    assert coins.iloc[0] == 50
    assert np.isnan(coins.iloc[1])


@given(st.floats(1, 1e16), st.integers(1, 1000))
def test_hash_rate_and_difficulty_are_inverse(difficulty, blocks):
    rate = protocol.hash_rate_ehs(pd.Series([difficulty]), pd.Series([float(blocks)]))
    assert protocol.difficulty_from(rate, pd.Series([float(blocks)])).iloc[0] == pytest.approx(difficulty, rel=1e-12)


def test_difficulty_is_missing_on_a_day_without_blocks():
    assert protocol.difficulty_from(pd.Series([0.0]), pd.Series([0.0])).isna().all()


def test_halving_days_are_the_first_days_at_their_height():
    panel = steady_panel(np.ones(3000), blocks=144)
    days = protocol.halving_days(panel)
    assert days.index.tolist() == [1, 2]
    for number, day in days.items():
        assert panel.loc[day, "height"] >= number * 210_000 > panel.loc[day - pd.Timedelta(days=1), "height"]


def test_eras_before_the_panel_come_from_the_reference_table():
    panel = steady_panel(np.ones(400), start="2017-01-01")
    panel["height"] += 446_000
    assert protocol.halving_days(panel).empty
    assert protocol.era_of(panel.index, panel).unique().tolist() == [2016]


def test_eras_without_heights_use_the_reference_days():
    panel = steady_panel(np.ones(300), start="2020-01-01").assign(height=np.nan)
    era = protocol.era_of(panel.index, panel)
    assert era["2020-05-10"] == 2016
    assert era["2020-05-11"] == 2020


def test_reference_halvings_agree_with_the_schedule():
    table = protocol.read_halvings()
    assert (table["height"] == table["halving"] * protocol.HALVING_BLOCKS).all()
    assert (table["subsidy_btc"] == protocol.subsidy_btc(table["height"].to_numpy())).all()
    assert table["source"].str.len().gt(10).all()


def test_real_halvings_are_within_a_day_of_the_reference(real_panel):
    gap = protocol.halving_days(real_panel) - protocol.read_halvings().set_index("halving")["date"]
    assert gap.abs().max() <= pd.Timedelta(days=1)
    assert len(gap) == 4


def test_real_issuance_follows_from_the_heights(real_panel):
    one_day = real_panel.loc["2017-01-01":"2019-12-31"]
    expected = one_day["block_count"] * protocol.subsidy_btc(one_day["height"])
    # A few blocks paid themselves less than they were allowed.
    assert (one_day["issuance_btc"] / expected - 1).abs().max() < 0.01
