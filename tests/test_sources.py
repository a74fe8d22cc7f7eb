"""Each provider's parser: the documented answer gives its panel, anything else one line."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import local_server as ls
from capitulation.data import sources
from capitulation.data.panel import PANEL_COLUMNS, validate_panel
from capitulation.data.reading import numbers
from capitulation.data.sources import PROVIDERS
from capitulation.errors import DataError

PANEL = ls.made_panel(120)
parse_coinmetrics, parse_mempool, parse_blockchain_com = (provider.parse for provider in PROVIDERS.values())
ROWS = ls.coinmetrics_rows(PANEL)
PAGES = {"page-02.json": ls.coinmetrics_page(ROWS[50:]), "page-01.json": ls.coinmetrics_page(ROWS[:50], "t")}
FILES = {
    "coinmetrics csv": ("coinmetrics", {"btc.csv": ls.coinmetrics_csv(PANEL)}),
    "coinmetrics api": ("coinmetrics", PAGES),
    "blockchain_com": ("blockchain_com", ls.blockchain_charts(PANEL)),
    "mempool_space": ("mempool_space", {"hashrate.json": ls.mempool_answer(PANEL)}),
}


@pytest.mark.parametrize("name", FILES)
def test_a_documented_answer_gives_the_panel_it_was_made_from(name):
    """Day stamps are brought together: Blockchain.com's price and mempool.space's hash rate come a day late."""
    source, files = FILES[name]
    parsed = PROVIDERS[source].parse(files)
    assert validate_panel(parsed) is parsed and tuple(parsed.columns) == PANEL_COLUMNS
    known = parsed.dropna(axis=1, how="all")
    pd.testing.assert_frame_equal(known, PANEL[known.columns], check_freq=False)
    assert "price_usd" in known or source == "mempool_space"
    if source == "blockchain_com":
        assert parsed.block_count.tolist() == PANEL.block_count.tolist(), "exact, not nearly"
    with pytest.raises(DataError):
        PROVIDERS[source].parse({"other.json": b"{}"})


def test_heights_count_from_the_chains_first_day_and_end_at_a_gap():
    early = ls.made_panel(30, start="2009-01-09")
    lines = ls.coinmetrics_csv(early).splitlines(keepends=True)
    assert parse_coinmetrics({"btc.csv": b"".join(lines)}).height.tolist() == early.block_count.cumsum().tolist()
    height = parse_coinmetrics({"btc.csv": b"".join(lines[:11] + lines[12:])}).height
    assert height.notna().tolist() == [True] * 10 + [False] * 20


def test_difficulty_given_is_taken_and_a_day_without_blocks_has_none():
    frame = ls.metric_frame(PANEL).assign(DiffMean=7.0)
    assert (parse_coinmetrics({"btc.csv": frame.to_csv(index_label="time").encode()}).difficulty == 7.0).all()
    frame = ls.metric_frame(PANEL)
    frame.iloc[5, :2] = 0
    parsed = parse_coinmetrics({"btc.csv": frame.to_csv(index_label="time").encode()})
    assert parsed.block_count.iloc[5] == 0
    assert parsed[["hash_rate_ehs", "difficulty"]].iloc[5].isna().all()


BAD_CHARTS = {
    "no values": (b'{"status": "ok", "values": []}', "holds no values"),
    "no list": (b'{"status": "ok", "values": {}}', "is no list of records"),
    "points without y": (b'{"unit": "TH/s", "values": [{"x": 1640995200}]}', "column y is missing"),
    "HTML": (b"<html></html>", "HTML page"),
    "nested too deeply": (b"[" * 200_000, "not complete JSON"),
    "a stamp beyond time": (b'{"unit": "TH/s", "values": [{"x": 1e300, "y": 1}]}', "is not a day between"),
    "every third day": (ls.blockchain_chart(PANEL.hash_rate_ehs.iloc[::3] * 1e6, "TH/s"), "one value every 3 days"),
}


@pytest.mark.parametrize("name", BAD_CHARTS)
def test_a_chart_that_is_none_is_one_line(name):
    body, text = BAD_CHARTS[name]
    with ls.one_line_error(DataError, text):
        parse_blockchain_com(FILES["blockchain_com"][1] | {"hash-rate.json": body})


def test_numbers_reads_text_and_refuses_what_is_none():
    table = pd.DataFrame({"a": ["1.5", 2, None, "", " NaN ", "1e3", "1,234.5"]}, dtype=object)
    np.testing.assert_array_equal(numbers(table, ["a"], "x", ["b"])["a"], [1.5, 2, *[np.nan] * 3, 1e3, 1234.5])
    table = pd.DataFrame({"a": ["1,5", "2", "1.234,5"]}, dtype=object)
    np.testing.assert_array_equal(numbers(table, ["a"], "x", decimal_comma=True)["a"], [1.5, 2, 1234.5])
    wrong = ("abc", "inf", -1, "-1", True, [1], {"a": 1}, "0x10", "=1+1", "1_000", "٣", "1,23", "1.2,3")
    for value in wrong:
        with pytest.raises(DataError, match="is not a number"):
            numbers(pd.DataFrame({"a": [1, value]}, dtype=object), ["a"], "x")


ODD = ["null", "true", "-1", "1e400", "NaN", "7", "[1]", "{}", '"<script>"', '"1_000"', '"9999-12-31T00:00:00Z"']
TOKEN = re.compile(rb"\"[^\"]*\"|[-+.0-9e]+|\[[^\[\]]*\]|\{[^{}]*\}")
FUZZED = {
    f"{source} {file}": (PROVIDERS[source].parse, files, file) for source, files in FILES.values() for file in files
}


@pytest.mark.parametrize("name", FUZZED)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(at=st.floats(0, 1), length=st.integers(0, 40), new=st.one_of(st.binary(max_size=6), st.sampled_from(ODD)))
def test_any_change_gives_a_valid_panel_or_one_line(name, at, length, new):
    """Bytes changed, cut or inserted anywhere; or a value, a list, a record of the answer replaced by an odd one."""
    parse, files, file = FUZZED[name]
    body = files[file]
    if isinstance(new, bytes):
        begin = int(at * len(body))
        end = begin + length
    else:
        tokens = list(TOKEN.finditer(body))
        (begin, end), new = tokens[min(int(at**3 * len(tokens)), len(tokens) - 1)].span(), new.encode()
    try:
        found = parse({**files, file: body[:begin] + new + body[end:]})
        assert validate_panel(found) is found
    except DataError as error:
        assert "\n" not in str(error) and len(str(error)) < 500


@pytest.fixture(scope="module")
def blockchain(data_folder):
    folder = data_folder / "blockchain_com"
    return parse_blockchain_com({f"{name}.json": (folder / f"{name}.json").read_bytes() for name in sources.CHARTS})


@pytest.fixture(scope="module")
def mempool(data_folder):
    return parse_mempool({"hashrate.json": (data_folder / "mempool_space" / "hashrate-1y.json").read_bytes()})


def gap(panel):
    return panel.hash_rate_ehs.rolling(30).mean() / panel.hash_rate_ehs.rolling(60).mean() - 1


def pairs(left, right, since):
    frame = pd.DataFrame({"left": left, "right": right}).dropna()
    return frame.loc[since:, "left"], frame.loc[since:, "right"]


def test_the_coin_metrics_panel_is_whole_and_obeys_the_identity(real_panel):
    validate_panel(real_panel)
    assert [f"{day:%Y-%m-%d}" for day in real_panel.index[[0, -1]]] == ["2009-01-03", "2026-03-22"]
    assert real_panel.loc["2009-01-09":, ["hash_rate_ehs", "difficulty", "height"]].notna().all(axis=None)
    assert real_panel.loc["2010-07-18":].notna().all(axis=None)
    identity = real_panel.difficulty * 2**32 * real_panel.block_count / 86400 / 1e18
    np.testing.assert_allclose(real_panel.hash_rate_ehs.dropna(), identity.dropna(), rtol=1e-12)
    np.testing.assert_allclose(real_panel.difficulty["2009-01-09":"2009-12-29"], 1.0, rtol=1e-6)


def test_difficulty_is_what_the_protocol_set(real_panel, data_folder, mempool):
    """Without an adjustment near, the derived difficulty is that of mempool.space's list, to its rounding."""
    rows = json.loads((data_folder / "mempool_space" / "difficulty-adjustments.json").read_text())
    times, _heights, levels, _ratios = np.array(rows)[::-1].T
    changed = pd.to_datetime(times, unit="s")
    days = real_panel.loc["2021-02":].index
    listed = pd.Series(levels, changed).reindex(days + pd.Timedelta(hours=12), method="ffill").set_axis(days)
    quiet = ~days.isin(changed.normalize().union(changed.normalize() - pd.Timedelta(days=1)))
    assert quiet.mean() > 0.8
    assert (real_panel.difficulty[days] / listed - 1).abs()[quiet].max() < 1e-6
    both = mempool.difficulty.dropna().index.intersection(days)
    assert len(both) > 200
    np.testing.assert_allclose(mempool.difficulty[both], listed[both], rtol=1e-9)


def test_blockchain_com_agrees_with_coin_metrics(real_panel, blockchain):
    """Within 1 % since 2017 but for 16 days; same inversions since 2018; exact block counts since 2019; its holes."""
    means = [panel.hash_rate_ehs.rolling(30).mean()["2017":] for panel in (real_panel, blockchain)]
    off = (means[1] / means[0] - 1).abs().dropna()
    assert ((off > 0.01).sum() <= 16, off.median() < 1e-4, len(off) > 3300) == (True, True, True)
    ours, theirs = pairs(gap(real_panel), gap(blockchain), "2018")
    assert ((ours < 0) == (theirs < 0)).mean() >= 0.999
    assert (real_panel.block_count == blockchain.block_count)["2019":].mean() > 0.99
    assert (blockchain.price_usd / real_panel.price_usd - 1).abs()["2017":].median() < 0.002
    missing = blockchain.index[blockchain.hash_rate_ehs.isna() & (blockchain.index > "2010")]
    assert missing.strftime("%Y-%m-%d").tolist() == ["2025-11-13", "2025-11-14", "2025-11-15"]


def test_mempool_space_agrees_and_stamps_a_day_late(real_panel, mempool):
    ours, theirs = pairs(gap(real_panel), gap(mempool), "2018")
    other = (ours < 0) != (theirs < 0)
    assert other.sum() <= 2
    assert ours[other].abs().max() < 0.0005, "a twentieth of the gap's own noise"
    change, shifted = np.log(real_panel.hash_rate_ehs).diff(), np.log(mempool.hash_rate_ehs).diff()
    assert change.corr(shifted) > 0.99
    assert change.corr(shifted.shift(1, freq="D")) < 0
