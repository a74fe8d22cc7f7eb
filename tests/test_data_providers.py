"""Each provider's parser: its documented answer gives the panel it was made from, its day stamps normalised."""

import json

import numpy as np
import pandas as pd
import pytest

import local_server as ls
from capitulation.data.panel import PANEL_COLUMNS, validate_panel
from capitulation.data.providers import PROVIDERS, blockchain_com, coinmetrics, mempool_space, provider
from capitulation.data.providers.base import implied_block_count, numbers
from capitulation.errors import DataError


@pytest.fixture(scope="module")
def panel():
    return ls.made_panel(120)


def charts(panel, **changed):
    return {f"{name}.json": body for name, body in (ls.blockchain_charts(panel) | changed).items()}


def test_the_registry_knows_each_provider_by_its_name():
    assert [provider(name).name for name in PROVIDERS] == list(PROVIDERS)
    assert all(provider(name).attribution and provider(name).licence for name in PROVIDERS)
    with pytest.raises(KeyError):
        provider("../../etc")


def test_coin_metrics_csv_and_api_give_the_same_panel(panel):
    from_csv = coinmetrics.parse({"btc.csv": ls.coinmetrics_csv(panel)})
    rows = ls.coinmetrics_rows(panel)
    pages = {"page-02.json": ls.coinmetrics_page(rows[50:]), "page-01.json": ls.coinmetrics_page(rows[:50], "t")}
    pd.testing.assert_frame_equal(coinmetrics.parse(pages), from_csv)
    pd.testing.assert_frame_equal(from_csv.drop(columns="height"), panel.drop(columns="height"), check_freq=False)
    assert from_csv.height.isna().all(), "the file begins after the chain, so heights are unknown"
    validate_panel(from_csv)


def test_heights_count_from_the_chains_first_day_and_end_at_a_gap():
    early = ls.made_panel(30, start="2009-01-09")
    body = ls.coinmetrics_csv(early)
    assert coinmetrics.parse({"btc.csv": body}).height.tolist() == early.block_count.cumsum().tolist()
    lines = body.splitlines(keepends=True)
    height = coinmetrics.parse({"btc.csv": b"".join(lines[:11] + lines[12:])}).height
    assert height.iloc[:10].notna().all()
    assert height.iloc[10:].isna().all()


def test_difficulty_follows_from_hash_rate_and_blocks_and_gives_way_to_a_given_one(panel):
    parsed = coinmetrics.parse({"btc.csv": ls.coinmetrics_csv(panel)})
    np.testing.assert_allclose(parsed.difficulty, panel.difficulty)
    frame = ls.metric_frame(panel).assign(DiffMean=7.0)
    given = coinmetrics.parse({"btc.csv": frame.to_csv(index_label="time").encode()})
    assert (given.difficulty == 7.0).all()


def test_a_day_without_blocks_has_no_hash_rate(panel):
    frame = ls.metric_frame(panel)
    frame.iloc[5, :2] = 0
    parsed = coinmetrics.parse({"btc.csv": frame.to_csv(index_label="time").encode()})
    assert parsed.block_count.iloc[5] == 0
    assert parsed[["hash_rate_ehs", "difficulty"]].iloc[5].isna().all()


def test_the_last_row_of_the_csv_with_reference_rates_only_is_dropped(panel):
    body = ls.coinmetrics_csv(panel) + b"2022-05-01,,,,,,,\n"
    assert coinmetrics.parse({"btc.csv": body}).index[-1] == panel.index[-1]


def test_a_csv_that_was_cut_in_mid_line_is_refused(panel):
    with pytest.raises(DataError, match="ends in mid-line"):
        coinmetrics.parse({"btc.csv": ls.coinmetrics_csv(panel)[:-60]})


def test_blockchain_com_gives_all_it_has_and_its_price_one_day_earlier(panel):
    parsed = blockchain_com.parse(charts(panel))
    known = ["price_usd", "hash_rate_ehs", "block_count", "difficulty", "revenue_usd"]
    pd.testing.assert_frame_equal(parsed[known], panel[known], check_freq=False)
    assert parsed.drop(columns=known).isna().all(axis=None)
    assert parsed.block_count.tolist() == panel.block_count.tolist(), "exact, not nearly"


@pytest.mark.parametrize(("unit", "factor"), [("GH/s", 1e9), ("EH/s", 1.0), ("TH/s", 1e6)])
def test_blockchain_com_hash_rate_is_read_in_the_unit_it_states(panel, unit, factor):
    body = ls.blockchain_chart(panel.hash_rate_ehs * factor, unit)
    parsed = blockchain_com.parse(charts(panel, **{"hash-rate": body}))
    np.testing.assert_allclose(parsed.hash_rate_ehs, panel.hash_rate_ehs)


BAD_CHARTS = {
    "no values": (b'{"status": "ok", "values": []}', "holds no values"),
    "unknown unit": (b'{"unit": "MW", "values": [{"x": 1640995200, "y": 1}]}', "unknown unit 'MW'"),
    "no field values": (b'{"status": "ok"}', "'values' is missing"),
    "points without y": (b'{"unit": "TH/s", "values": [{"x": 1640995200}]}', "'y' is missing"),
    "points that are lists": (b'{"unit": "TH/s", "values": [[1, 2]]}', "'x' is missing"),
    "a list": (b"[]", "'values' is missing"),
    "HTML": (b"<html></html>", "HTML page"),
    "truncated": (b'{"values": [{"x": 1640995200, "y"', "not complete JSON"),
    "a stamp beyond time": (b'{"unit": "TH/s", "values": [{"x": 1e300, "y": 1}]}', "is not a day between"),
    "NaN as stamp": (b'{"unit": "TH/s", "values": [{"x": NaN, "y": 1}]}', "is not a day between"),
    "infinite": (b'{"unit": "TH/s", "values": [{"x": 1640995200, "y": Infinity}]}', "is not a number"),
}


@pytest.mark.parametrize("name", BAD_CHARTS)
def test_a_chart_that_is_none_is_one_line(panel, name):
    body, text = BAD_CHARTS[name]
    with pytest.raises(DataError, match=text) as caught:
        blockchain_com.parse(charts(panel, **{"hash-rate": body}))
    assert "\n" not in str(caught.value)


def test_a_chart_thinned_out_to_every_third_day_is_refused(panel):
    body = ls.blockchain_chart(panel.hash_rate_ehs.iloc[::3] * 1e6, "TH/s")
    with pytest.raises(DataError, match="one value every 3 days"):
        blockchain_com.parse(charts(panel, **{"hash-rate": body}))


def test_days_that_blockchain_com_lacks_stay_missing(panel):
    body = ls.blockchain_chart(panel.hash_rate_ehs.drop(panel.index[60:63]) * 1e6, "TH/s")
    parsed = blockchain_com.parse(charts(panel, **{"hash-rate": body}))
    assert parsed.hash_rate_ehs.iloc[60:63].isna().all()
    assert parsed.block_count.iloc[60:63].isna().all()
    assert parsed.price_usd.iloc[60:63].notna().all()


def test_mempool_space_is_one_day_late_and_has_no_price(panel):
    parsed = mempool_space.parse({"hashrate.json": ls.mempool_answer(panel)})
    known = ["hash_rate_ehs", "block_count", "difficulty"]
    pd.testing.assert_frame_equal(parsed[known], panel[known], check_freq=False)
    assert parsed.drop(columns=known).isna().all(axis=None)
    validate_panel(parsed)


def test_mean_difficulty_weighs_a_retarget_day_by_time():
    days = pd.date_range("2022-01-01", periods=4, unit="us")
    noon = days[1].timestamp() + 43_200
    mean = mempool_space.mean_difficulty(days, np.array([noon]), np.array([200.0]), 100.0)
    assert mean.tolist() == [100.0, 150.0, 200.0, 200.0]
    unknown = mempool_space.mean_difficulty(days, np.array([noon]), np.array([200.0]), np.nan)
    assert unknown.isna().tolist() == [True, True, False, False]


def test_adjustments_in_percent_are_not_taken_for_ratios(panel):
    answer = json.loads(ls.mempool_answer(ls.made_panel(120)))
    first = dict(answer["difficulty"][0])
    earlier = {**first, "time": first["time"] - 86400 * 14, "difficulty": first["difficulty"] / 1.1, "adjustment": 4.0}
    answer["difficulty"] = [{**first, "adjustment": 10.0}, earlier]
    parsed = mempool_space.parse({"hashrate.json": json.dumps(answer).encode()})
    assert parsed.difficulty.isna().any(), "before the first step nothing can be known"
    assert parsed.difficulty.iloc[-1] == pytest.approx(first["difficulty"])


def test_implied_blocks_are_exact_where_they_are_integers_and_unrounded_elsewhere():
    hash_rate, difficulty = pd.Series([144.0, 144.5, np.nan]) * 2**32 * 3e13 / 86400, pd.Series(3e13, index=range(3))
    counts = implied_block_count(hash_rate, difficulty)
    assert counts.iloc[0] == 144.0
    assert counts.iloc[1] == pytest.approx(144.5)
    assert np.isnan(counts.iloc[2])


def test_numbers_reads_text_and_refuses_what_is_none():
    np.testing.assert_array_equal(
        numbers(["1.5", 2, None, "", " NaN ", "1e3"], "x"), [1.5, 2, np.nan, np.nan, np.nan, 1e3]
    )
    for wrong in ("abc", "inf", -1, "-1", True, [1], {"a": 1}, "0x10", "=1+1"):
        with pytest.raises(DataError, match="is not a number"):
            numbers([1, wrong], "x")


def test_parsers_change_nothing_they_are_given_and_repeat_exactly(panel):
    files = {"btc.csv": ls.coinmetrics_csv(panel)}
    first, second = coinmetrics.parse(files), coinmetrics.parse(files)
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert tuple(first.columns) == PANEL_COLUMNS


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_snapshot_without_the_providers_files_is_one_line(name):
    with pytest.raises(DataError):
        provider(name).parse({"other.json": b"{}"})
