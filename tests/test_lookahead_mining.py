"""Cutting the future off changes nothing in the past: every state, signal, z-value and estimate, bit for bit."""

import numpy as np
import pandas as pd
import pytest

from capitulation.episodes import describe_episodes
from capitulation.mining.hash_rate import drawdown, drawdown_se, hash_rate_band
from capitulation.mining.protocol import era_of
from capitulation.mining.retargets import next_retarget_history, retargets
from capitulation.mining.ribbons import ribbons
from capitulation.mining.rules import all_rule_states
from capitulation.mining.trend import falling_probability
from capitulation.params import Params
from mining_panels import mined_panel

PARAMS = Params()
REAL_CUTS, SIMULATED_CUTS = 200, 25
EARLIEST_CUT = 120


def _daily_results(panel: pd.DataFrame) -> dict[str, pd.DataFrame | pd.Series]:
    """Everything that this package says about each day."""
    return {
        "ribbons": ribbons(panel, PARAMS.fast_days, PARAMS.slow_days),
        "band": hash_rate_band(panel),
        "drawdown": drawdown(panel),
        "drawdown_se": drawdown_se(panel),
        "next_retarget": next_retarget_history(panel),
        "falling": falling_probability(panel),
        "era": era_of(panel.index, panel),
        **all_rule_states(panel, PARAMS),
    }


def _assert_same_past(whole: dict, cut: dict) -> None:
    for name, found in cut.items():
        past = whole[name].iloc[: len(found)]
        assert found.equals(past), f"{name} changed when the future was cut off at {found.index[-1]:%F}"


def _assert_same_episodes(whole: pd.DataFrame, cut: pd.DataFrame, last: pd.Timestamp) -> None:
    """Ended episodes are the same; the ongoing one started on the same day; every buy up to the cut is there."""
    begun = whole[whole["start"] <= last].reset_index(drop=True)
    assert cut["start"].equals(begun["start"])
    ended = begun["end"] <= last
    assert (cut["ongoing"] == ~ended).all()
    same = ["end", "days", "depth", "depth_z", "grade", "price_start", "price_end", "negative_retargets", "era"]
    pd.testing.assert_frame_equal(cut.loc[ended, same], begun.loc[ended, same], check_exact=True)
    expected = begun["buy_date"].where(begun["buy_date"] <= last)
    assert cut["buy_date"].equals(expected.rename("buy_date"))


def _check(panel: pd.DataFrame, n_cuts: int, seed: int) -> None:
    whole, table = _daily_results(panel), retargets(panel)
    episodes = describe_episodes(panel, "hash_ribbons", whole["ribbons"], PARAMS)
    for size in np.random.default_rng(seed).integers(EARLIEST_CUT, len(panel), n_cuts):
        part = panel.iloc[:size]
        cut = _daily_results(part)
        _assert_same_past(whole, cut)
        found = retargets(part)
        assert found.equals(table.iloc[: len(found)])
        assert (table["date"].iloc[len(found) :] > part.index[-1]).all()
        described = describe_episodes(part, "hash_ribbons", cut["ribbons"], PARAMS)
        _assert_same_episodes(episodes, described, part.index[-1])


def test_no_look_ahead_on_a_simulated_chain():
    _check(mined_panel(1800, seed=8, growth=0.15)[0], SIMULATED_CUTS, seed=1)


def test_no_look_ahead_with_missing_days():
    panel = mined_panel(1300, seed=9, growth=0.15)[0]
    holes = np.random.default_rng(2).integers(100, 1300, 6)
    panel.iloc[holes, panel.columns.get_indexer(["hash_rate_ehs", "price_usd"])] = np.nan
    _check(panel, SIMULATED_CUTS // 2, seed=3)


def test_no_look_ahead_on_200_random_days_of_the_real_file(real_panel):
    _check(real_panel, REAL_CUTS, seed=20260120)


def test_the_check_itself_catches_a_rule_that_looks_ahead():
    panel = mined_panel(400, seed=10)[0]
    centred = panel["hash_rate_ehs"].rolling(31, center=True).mean()
    part = panel.iloc[:300]
    with pytest.raises(AssertionError, match="centred changed"):
        _assert_same_past({"centred": centred}, {"centred": part["hash_rate_ehs"].rolling(31, center=True).mean()})
