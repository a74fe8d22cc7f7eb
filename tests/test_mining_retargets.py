"""Adjustments from block counts: against a block-by-block simulation, hand-made epochs, and mempool.space's list."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capitulation.mining import retargets as rt
from mining_panels import mined_panel, steady_panel


@pytest.fixture(scope="module")
def mined():
    return mined_panel(1500, seed=11)


def test_every_adjustment_of_a_simulated_chain_is_found_exactly(mined):
    panel, truth = mined
    found = rt.retargets(panel)
    truth = truth[truth["height"] <= panel["height"].iloc[-1]]
    assert found["height"].tolist() == truth["height"].tolist()
    assert (found["date"].to_numpy() == truth["date"].to_numpy()).all()
    np.testing.assert_allclose(found["difficulty"], truth["difficulty"], rtol=1e-9)
    np.testing.assert_allclose(found["change"], truth["change"], atol=1e-9)


def test_streaks_count_cuts_in_a_row(mined):
    table = rt.retargets(mined[0])
    streak = 0
    for change, counted in zip(table["change"], table["negative_streak"], strict=True):
        streak = streak + 1 if change < 0 else 0
        assert counted == streak


@given(st.lists(st.sampled_from([-0.1, 0.0, 0.2]), max_size=20), st.integers(1, 6))
def test_negative_in_last_counts_by_hand(changes, n):
    found = rt.negative_in_last(pd.DataFrame({"change": np.array(changes, dtype=float)}), n).tolist()
    for i, count in enumerate(found):
        if i < n - 1:
            assert np.isnan(count)
        else:
            assert count == sum(change < 0 for change in changes[i - n + 1 : i + 1])


def test_unchanged_difficulty_is_neither_a_cut_nor_a_rise():
    table = rt.retargets(steady_panel(np.full(60, 7.0)))
    assert len(table) == 4
    assert (table["change"] == 0).all()
    assert (table["negative_streak"] == 0).all()


def test_without_heights_nothing_is_claimed():
    panel = steady_panel(np.full(60, 7.0)).assign(height=np.nan)
    assert rt.retargets(panel).empty
    assert list(rt.retargets(panel).columns) == list(rt.RETARGET_COLUMNS)
    assert rt.next_retarget(panel) == {}


def test_a_missing_day_before_the_adjustment_leaves_its_size_missing():
    panel = steady_panel(np.full(60, 7.0))
    day = rt.retargets(panel)["date"].iloc[1]
    panel.loc[day - pd.Timedelta(days=1), ["height", "block_count", "difficulty"]] = np.nan
    table = rt.retargets(panel)
    assert table["change"].isna().tolist() == [False, True, False, False]


def test_next_adjustment_of_a_faster_chain_is_up_by_its_speed():
    # 10 % more blocks than the target, evenly: (2016 / 2015) * 1.1.
    panel = steady_panel(np.full(40, 7.0), blocks=158.4)
    last = rt.next_retarget(panel)
    assert last["change"] == pytest.approx(1.1 * 2016 / 2015 - 1, rel=1e-3)
    assert last["change_low"] < last["change"] < last["change_high"]
    assert last["date_low"] <= last["date"] <= last["date_high"]
    assert last["height"] % 2016 == 0
    assert last["height"] - last["blocks_remaining"] == pytest.approx(panel["height"].iloc[-1], abs=1)


@pytest.mark.parametrize(("blocks", "change"), [(1440.0, 3.0), (20.0, -0.75)])
def test_next_adjustment_is_held_within_a_factor_of_four(blocks, change):
    panel = steady_panel(np.full(400, 7.0), blocks=blocks)
    assert rt.next_retarget(panel)["change"] == pytest.approx(change)


def test_interval_narrows_as_the_epoch_fills_up(mined):
    history = rt.next_retarget_history(mined[0]).dropna()
    width = history["change_high"] - history["change_low"]
    early, late = width[history["blocks_remaining"] > 1700], width[history["blocks_remaining"] < 200]
    assert late.max() < early.min()


def test_interval_covers_as_often_as_it_says_when_only_luck_moves_blocks():
    covered, days = 0, 0
    for seed in range(6):
        blocks = np.random.default_rng(seed).poisson(144, 900).astype(float)
        table = steady_panel(np.full(900, 7.0), blocks)
        history = rt.next_retarget_history(table, confidence=0.9)
        true = history["height"].map(_measured_change(table))
        known = true.notna() & history["change"].notna()
        covered += true.between(history["change_low"], history["change_high"])[known].sum()
        days += known.sum()
    assert covered / days == pytest.approx(0.9, abs=0.04)


def _measured_change(panel):
    """Change by the time each epoch took, days read off the running count of blocks."""
    height = panel["height"].to_numpy()
    marks = np.arange(2016, height[-1], 2016)
    days = np.interp(marks, np.r_[0, height], np.arange(len(height) + 1))
    return pd.Series(14 / np.diff(days) - 1, index=marks[1:])


def test_estimate_on_the_day_of_the_last_block_is_certain():
    panel = steady_panel(np.full(29, 7.0), blocks=np.r_[np.full(27, 144.0), 143.0, 1.0])
    history = rt.next_retarget_history(panel)
    at = history["blocks_remaining"] == 1
    assert at.any()
    assert (history["change_low"][at] == history["change_high"][at]).all()


def test_noise_of_an_adjustment_is_2_2_percent(mined):
    table = rt.retargets(mined[0])
    noise = rt.retarget_noise(table)
    np.testing.assert_allclose(noise["change_se"] / (1 + table["change"]), 2015**-0.5)
    still = np.random.default_rng(0).gamma(2015, 1 / 2015, (20_000, 2))
    assert np.log(still[:, 0] / still[:, 1]).std() == pytest.approx((2 / 2015) ** 0.5, rel=0.03)


def test_real_adjustments_match_the_list_of_mempool_space(real_panel, data_folder):
    rows = json.loads((data_folder / "mempool_space" / "difficulty-adjustments.json").read_text())
    listed = pd.DataFrame(rows, columns=["time", "height", "listed_difficulty", "ratio"]).sort_values("height")
    listed["day"] = pd.to_datetime(listed["time"], unit="s").dt.normalize()
    both = rt.retargets(real_panel).merge(listed, on="height", how="right")
    assert both["change"].notna().all()
    assert (both["difficulty"] / both["listed_difficulty"] - 1).abs().max() < 1e-6
    # The list's first ratio is a placeholder of 1; the others are rounded to five decimals.
    assert (1 + both["change"] - both["ratio"]).iloc[1:].abs().max() < 6e-6
    assert (both["date"] - both["day"]).abs().max() <= pd.Timedelta(days=1)


def test_real_history_has_every_multiple_of_2016(real_panel):
    table = rt.retargets(real_panel)
    assert table["height"].tolist() == [2016.0 * k for k in range(1, len(table) + 1)]
    assert table["change"].notna().all()
    # July 2010 is the one adjustment that the factor of 4 held back.
    assert table["change"].max() == pytest.approx(3, abs=1e-4)


def test_real_estimates_cover_less_than_luck_alone_would_and_sharpen(real_panel):
    began = time.perf_counter()
    coverage = rt.retarget_coverage(real_panel)
    assert time.perf_counter() - began < 2
    assert coverage["mean_absolute_error"].is_monotonic_decreasing
    assert coverage["covered"].between(0.8, 0.95).all()
    assert coverage["n_days"].sum() > 4000


def test_real_estimate_of_20_january_2026_is_a_fall_of_about_4_percent(real_panel):
    last = rt.next_retarget(real_panel.loc[:"2026-01-20"])
    assert last["height"] == 933_408
    assert last["date"] in pd.date_range("2026-01-21", "2026-01-23")
    # mempool.space and the press gave -4 % then; it became -3.28 %.
    assert last["change_low"] < -0.0328 < last["change_high"]
    assert last["change"] == pytest.approx(-0.035, abs=0.015)
