"""Exploring: the sliders say what a report would, keep what they can, and their setting runs as a profile."""

from __future__ import annotations

import io
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from capitulation.episodes import all_episodes, anchor_days, keep_episodes
from capitulation.errors import InputError
from capitulation.explore import Explorer, save_profile
from capitulation.explore.controls import setting, sliders
from capitulation.explore.profile import profile_text
from capitulation.mining.rules import rule_state
from capitulation.params import ANCHORS, DEFINITIONS, Params, load_params
from capitulation.study.forward_returns import forward_log_returns
from capitulation.study.rotation import rotation_test

SAMPLE = "2014-01-01"


@pytest.fixture(scope="module")
def explorer(simulated_panel) -> Explorer:
    return Explorer(simulated_panel)


def _slow_way(panel: pd.DataFrame, params: Params) -> tuple[pd.DataFrame, pd.Series, np.ndarray]:
    """Episodes, baseline and event marks by the functions of the report alone."""
    name = params.primary_definition
    state = rule_state(panel, name, params)
    table = keep_episodes(all_episodes(panel, params, {name: state}), params.min_days, params.min_depth_z)
    every = forward_log_returns(panel["price_usd"], params.primary_horizon_days, params.entry_lag_days)
    every = every[params.sample_start :].dropna()
    return table, every, every.index.isin(anchor_days(table, state["in_state"], params.primary_anchor))


@pytest.mark.parametrize("definition", ["hash_ribbons", "puell_multiple", "negative_retargets"])
@pytest.mark.parametrize("anchor", ["start", "recovery", "buy"])
def test_sliders_say_what_the_report_says(explorer, definition, anchor):
    moved = {"primary_definition": definition, "primary_anchor": anchor, "fast_days": 25, "slow_days": 70}
    params = setting(Params(), {**moved, "min_depth_z": 1.0, "primary_horizon_days": 45, "entry_lag_days": 2})
    found = explorer.explore(params)
    table, every, marks = _slow_way(explorer.panel, params)
    for name in ("start", "end", "days", "depth", "depth_z", "buy_date"):
        pd.testing.assert_series_equal(found.episodes[name], table[name], check_dtype=False, check_index=False)
    assert list(found.events["log_return"]) == list(every[marks])
    slow = rotation_test(every.to_numpy(), marks)
    np.testing.assert_equal(found.rotation.p_one_sided, slow.p_one_sided)


def test_days_in_the_state_are_those_of_kept_episodes(explorer):
    params = setting(Params(), {"primary_anchor": "in_state", "min_depth_z": 2.0})
    found = explorer.explore(params)
    state = rule_state(explorer.panel, "hash_ribbons", params)["in_state"]
    expected = set()
    for row in found.episodes.itertuples():
        until = row.end if pd.notna(row.end) else state.index[-1] + pd.Timedelta(days=1)
        span = state[(state.index >= row.start) & (state.index < until)]
        expected |= set(span.index[span])
    assert set(found.events["date"]) == {day for day in expected if day in found.every.index}
    assert (found.episodes["depth_z"] <= -2).all()


def test_order_of_settings_does_not_matter(simulated_panel):
    settings = [setting(Params(), {"fast_days": f, "primary_definition": d}) for f in (20, 40) for d in DEFINITIONS[:4]]
    one, other = Explorer(simulated_panel), Explorer(simulated_panel)
    forwards = [one.explore(params).sentence for params in settings]
    backwards = [other.explore(params).sentence for params in reversed(settings)]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) > 4


def test_memory_of_settings_is_bounded(simulated_panel, monkeypatch):
    monkeypatch.setattr("capitulation.explore.result.CACHE_ENTRIES", 4)
    explorer = Explorer(simulated_panel)
    for fast in range(5, 12):
        explorer.explore(setting(Params(), {"fast_days": fast, "primary_horizon_days": 20 + fast}))
        assert len(explorer._kept) <= 4


def test_future_changes_no_past_episode(simulated_panel):
    whole = Explorer(simulated_panel).explore(Params())
    cut = Explorer(simulated_panel.iloc[:-200]).explore(Params())
    ended = cut.episodes[~cut.episodes["ongoing"]].drop(columns="buy_date").iloc[:-1]
    same = whole.episodes.drop(columns="buy_date").iloc[: len(ended)]
    pd.testing.assert_frame_equal(ended, same)


def test_setting_that_cannot_be_is_one_line():
    with pytest.raises(InputError, match="fast_days=90 must be smaller than slow_days=60"):
        setting(Params(), {"fast_days": 90})


def test_horizon_of_the_slider_joins_the_horizons():
    assert setting(Params(), {"primary_horizon_days": 123}).horizons_days == [7, 30, 60, 90, 123, 180, 365]
    back = setting(setting(Params(), {"primary_horizon_days": 123}), {"primary_horizon_days": 90})
    assert back == Params()


def test_profile_comes_back_as_the_setting(tmp_path):
    params = setting(Params(), {"fast_days": 21, "min_depth_z": 2.5, "sample_start": "2016-01-01",
                                "primary_anchor": "buy", "primary_horizon_days": 120})  # fmt: skip
    path = save_profile(params, "mine-2", tmp_path)
    assert load_params(path) == params
    assert set(yaml.safe_load(path.read_text())) == {
        "fast_days", "min_depth_z", "sample_start", "primary_anchor", "primary_horizon_days", "horizons_days",
    }  # fmt: skip
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine-2.yml"]


def test_profile_of_defaults_is_readable(tmp_path):
    assert load_params(save_profile(Params(), "plain", tmp_path)) == Params()
    assert profile_text(Params()).startswith("#")


@pytest.mark.parametrize("name", ["", "Mine", "../x", "a b", "a/b", "x" * 80, "default", "quick", "-a", "a.yml"])
def test_profile_name_that_cannot_be_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="profile name"):
        save_profile(Params(), name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_profile_in_a_folder_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_profile(Params(), "mine", blocked)


@pytest.fixture(scope="module")
def board(simulated_panel):
    return sliders(simulated_panel, simulated=True)


def test_moving_a_slider_changes_picture_sentence_and_setting(board):
    before = board.picture.value, board.sentence.value
    board.controls["fast_days"].value = 22
    assert board.params.fast_days == 22
    assert board.picture.value != before[0]
    assert board.sentence.value != before[1]
    assert Image.open(io.BytesIO(board.picture.value)).format == "PNG"
    board.controls["fast_days"].value = 30
    assert board.picture.value == before[0]


def test_impossible_move_says_so_and_keeps_the_picture(board):
    picture = board.picture.value
    board.controls["fast_days"].value = 80
    assert "must be smaller than" in board.sentence.value
    assert board.picture.value == picture
    board.controls["fast_days"].value = 30
    assert "must be smaller" not in board.sentence.value


@pytest.mark.parametrize(("definition", "anchor"), list(zip(DEFINITIONS, ANCHORS * 3, strict=False)))
def test_every_rule_and_signal_can_be_chosen(board, definition, anchor):
    board.controls["primary_definition"].value = definition
    board.controls["primary_anchor"].value = anchor
    assert (board.params.primary_definition, board.params.primary_anchor) == (definition, anchor)
    assert board.found.rotation.n_events == len(board.found.events)
    board.controls["primary_definition"].value = "hash_ribbons"
    board.controls["primary_anchor"].value = "recovery"


def test_no_event_is_drawn_and_said(board):
    board.controls["min_depth_z"].value = 6.0
    board.controls["sample_start"].value = "2022-01-01"
    if board.found.events.empty:
        assert "No Hash Ribbons recoveries" in board.sentence.value
    assert len(board.found.table) == len(board.found.episodes)
    board.controls["min_depth_z"].value = 0.0
    board.controls["sample_start"].value = SAMPLE


def test_redraw_is_quick_enough_to_drag(board):
    """Processor time, so that a busy machine does not decide; the best of several, as timing goes."""
    spent = []
    for fast in range(20, 26):
        begin = time.process_time()
        board.controls["fast_days"].value = fast
        spent.append(time.process_time() - begin)
    assert min(spent) < 0.2


def test_saved_setting_names_its_command(board, monkeypatch, tmp_path):
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path))
    assert board.save("mine") == "make report PARAMS=mine RUN=mine"
    assert load_params(tmp_path / "params" / "mine.yml") == board.params
