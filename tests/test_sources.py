"""Each provider's parser: the documented answer gives its panel, anything else one line."""

import json
import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import local_server as ls
from capitulation.data import sources
from capitulation.data.checks import check_panel, consistent
from capitulation.data.mempool import FEES, PRICES, fetch_mempool_space, parse_mempool_space
from capitulation.data.panel import PANEL_COLUMNS, validate_panel
from capitulation.data.reading import numbers
from capitulation.data.snapshots import FetchError, fetch_answer
from capitulation.data.sources import PROVIDERS, parse_blockchain_com, parse_coinmetrics
from capitulation.errors import DataError
from capitulation.mining.difficulty import adjustments
from capitulation.mining.episodes import episodes
from capitulation.mining.hashrate import hash_ribbons

PANEL = ls.made_panel(120)
ANSWERS = ls.mempool_answers(PANEL)
ROWS = ls.coinmetrics_rows(PANEL)
PAGES = {"page-02.json": ls.coinmetrics_page(ROWS[50:]), "page-01.json": ls.coinmetrics_page(ROWS[:50], "t")}
FILES = {
    "coinmetrics csv": ("coinmetrics", {"btc.csv": ls.coinmetrics_csv(PANEL)}),
    "coinmetrics api": ("coinmetrics", PAGES),
    "blockchain_com": ("blockchain_com", ls.blockchain_charts(PANEL)),
    "mempool_space": ("mempool_space", ANSWERS),
    "mempool_space alone": ("mempool_space", {"hashrate.json": ANSWERS["hashrate.json"]}),
}


@pytest.mark.parametrize("name", FILES)
def test_a_documented_answer_gives_the_panel_it_was_made_from(name):
    """Day stamps are brought together: Blockchain.com's price and mempool.space's hash rate come a day late."""
    source, files = FILES[name]
    parsed = PROVIDERS[source].parse(files)
    assert validate_panel(parsed) is parsed and tuple(parsed.columns) == PANEL_COLUMNS
    known = parsed.dropna(axis=1, how="all")
    made = PANEL if source != "mempool_space" else PANEL.assign(height=ls.mempool_heights(PANEL))
    pd.testing.assert_frame_equal(known, made[known.columns], check_freq=False)
    assert ("price_usd" in known) == (name != "mempool_space alone")
    assert len(known.columns) == (len(PANEL_COLUMNS) if name == "mempool_space" else len(known.columns))
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
    f"{name} {file}": (PROVIDERS[source].parse, files, file)
    for name, (source, files) in FILES.items()
    for file in files
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
    """The real year, with the adjustments of five."""
    folder = data_folder / "mempool_space"
    files = {"hashrate.json": "hashrate-1y.json", "adjustments.json": "difficulty-adjustments.json"}
    return parse_mempool_space({name: (folder / file).read_bytes() for name, file in files.items()})


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
    both = mempool.difficulty.dropna().index.intersection(days[quiet])
    assert len(both) > 180
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


def test_the_blocks_reckoned_for_the_real_year_are_those_of_coin_metrics(real_panel, mempool):
    """Its clock is median time past, some 5 blocks ahead at a day's end; but for that heights differ by a block."""
    ours = real_panel.loc[mempool.index]
    ahead, counts = ours.height - mempool.height, mempool.block_count - ours.block_count
    assert (4 < ahead.mean() < 6, ahead.std() < 1.5, ahead.min() >= 0, ahead.max() <= 8) == (True,) * 4
    assert (abs(counts.mean()) < 0.1, counts.std() < 1.5, counts.abs().max() <= 4) == (True,) * 3
    coins = mempool.issuance_btc / ours.issuance_btc
    np.testing.assert_allclose(coins, mempool.block_count / ours.block_count, rtol=1e-9)
    assert consistent(mempool)[1] == [] and check_panel(mempool) == []


def test_the_adjustments_that_the_reckoned_blocks_imply_are_the_listed_ones(data_folder, mempool):
    rows = json.loads((data_folder / "mempool_space" / "difficulty-adjustments.json").read_text())
    listed = pd.DataFrame(rows, columns=["time", "height", "difficulty", "ratio"]).set_index("height")
    found = adjustments(mempool)
    listed = listed.loc[found["height"]]
    assert len(found) == 16
    assert found["date"].tolist() == [*pd.to_datetime(listed["time"], unit="s").dt.normalize()]
    np.testing.assert_allclose(found["difficulty"], listed["difficulty"], rtol=1e-9)
    np.testing.assert_allclose(found["change"] + 1, listed["ratio"], atol=1e-5)


@pytest.fixture(scope="module", params=["exact", "with luck"])
def whole(request):
    """The whole history of Coin Metrics, or a simulated one without it, and the mempool's answers made from that."""
    try:
        panel, real = request.getfixturevalue("real_panel"), True
    except pytest.skip.Exception:
        panel, real = request.getfixturevalue("simulated_panel"), False
    lucky = request.param == "with luck"
    answers = ls.mempool_answers(panel, newest_first=lucky, digits=4, seed=3 if lucky else None)
    return panel, parse_mempool_space(answers), lucky, real


def recoveries(panel, since="2018"):
    found = episodes(hash_ribbons(panel)["inverted"], panel)["end"].dropna()
    return found[found >= since].reset_index(drop=True)


def test_the_whole_history_gives_the_same_inversions_and_recoveries(whole):
    panel, parsed, lucky, _real = whole
    ours, theirs = pairs(gap(panel), gap(parsed), "2018")
    other = (ours < 0) != (theirs < 0)
    assert ours[other].abs().max() < 0.001 or not other.any()
    if not lucky:
        assert other.mean() <= 0.001
        before, after = recoveries(panel), recoveries(parsed)
        assert len(before) == len(after) > 0 and (before - after).abs().max() <= pd.Timedelta(days=1)


def test_the_whole_history_gives_the_same_prices_and_blocks_to_their_error(whole):
    """At most a block or two a day, some 5 in heights; coins, fees and revenue are off as the count is."""
    panel, parsed, _lucky, real = whole
    assert validate_panel(parsed) is parsed and consistent(parsed)[1] == []
    assert parsed.index[-1] == panel.index[-1]
    both = panel.loc[parsed.index]
    hourly = both.index >= "2013-10-03"
    assert parsed.price_usd[hourly].equals(both.price_usd[hourly])
    early = parsed.price_usd[~hourly].dropna()
    assert early.equals(both.price_usd[early.index]) and set(early.index.day_of_week) <= {6}
    since = slice("2014", None)
    counts = (parsed.block_count - both.block_count)[since]
    assert (counts.std() < 2.5, counts.abs().max() <= 15, abs(counts.mean()) < 0.01) == (True,) * 3
    for name in ("issuance_btc", "fees_btc", "revenue_usd") if real else ("fees_btc",):
        off = (parsed[name] / both[name] - parsed.block_count / both.block_count)[since].abs()
        halving = (both.height // 210_000).diff() > 0
        assert off[~halving[since]].max() < 1e-4, name
    if real:
        heights = parsed.height - both.height
        assert (heights[since].std() < 2.5, heights[since].abs().max() <= 15, heights.abs().max() < 40) == (True,) * 3
        merged = adjustments(parsed).merge(adjustments(panel), on="height")
        assert len(merged) == len(adjustments(panel))
        np.testing.assert_allclose(merged["difficulty_x"], merged["difficulty_y"], rtol=1e-9)
        assert (merged["date_x"] - merged["date_y"]).abs().max() <= pd.Timedelta(days=1)


def answer(name="hashrate.json", **changes):
    """The answers with the fields `changes` of one replaced, each by a function of what is there."""
    body = json.loads(ANSWERS[name])
    return {**ANSWERS, name: json.dumps({**body, **{key: new(body[key]) for key, new in changes.items()}}).encode()}


def adjusted(new):
    """The answers with both lists of adjustments changed."""
    rows = new(json.loads(ANSWERS["adjustments.json"])[::-1])
    steps = [dict(zip(("time", "height", "difficulty", "adjustment"), row, strict=True)) for row in rows]
    return answer(difficulty=lambda _old: steps) | {"adjustments.json": json.dumps(rows[::-1]).encode()}


WRONG = {
    "no hash rates": (answer(hashrates=lambda old: []), "mempool hashrate: holds no values"),
    "thinned out": (answer(hashrates=lambda old: old[::7]), "one value every 7 days"),
    "renamed": (answer(hashrates=lambda old: [{"timestamp": 1}]), "column avgHashrate is missing"),
    "a page in place of prices": ({**ANSWERS, PRICES: b"<!DOCTYPE html>"}, "mempool prices: an HTML page"),
    "prices renamed": ({**ANSWERS, PRICES: b'{"price": []}'}, "'prices' is no list of records"),
    "prices in milliseconds": (
        answer(PRICES, prices=lambda old: [{"time": 1.7e12, "USD": 1}]),
        "is not a time between",
    ),
    "fees renamed": ({**ANSWERS, FEES: b'[{"timestamp": 1640995200}]'}, "column avgFees is missing"),
    "fees no list": ({**ANSWERS, FEES: b'{"fees": []}'}, "mempool fees: not a JSON"),
    "a height that is none": (adjusted(lambda rows: [[r[0], r[1] + 1, *r[2:]] for r in rows]), "contradicts"),
    "two at a height": (adjusted(lambda rows: [*rows, [rows[-1][0] + 9, *rows[-1][1:]]]), "contradicts"),
    "heights in another order": (
        adjusted(lambda rows: [[r[0], 9e5 - r[1] % 2016, *r[2:]] for r in rows]),
        "contradicts",
    ),
    "no difficulty": (adjusted(lambda rows: [[r[0], r[1], 0, 1] for r in rows]), "contradicts"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mempool_answer_that_is_none_is_one_line(name):
    files, text = WRONG[name]
    with ls.one_line_error(DataError, text):
        parse_mempool_space(files)


WHOLE, NETWORK = parse_mempool_space(ANSWERS), ["hash_rate_ehs", "block_count", "difficulty"]


def test_what_an_instance_lacks_is_missing_and_the_rest_is_as_with_it():
    bare = parse_mempool_space({name: ANSWERS[name] for name in ("hashrate.json", "adjustments.json")})
    lost = ["price_usd", "fees_btc", "revenue_usd"]
    assert bare[lost].isna().all(axis=None)
    pd.testing.assert_frame_equal(bare.drop(columns=lost), WHOLE.drop(columns=lost))
    for empty in (
        {PRICES: b'{"prices": []}'},
        {FEES: b"[]"},
        {PRICES: b'{"prices": [{"time": 1640995200, "USD": -1}]}'},
    ):
        parsed = parse_mempool_space(ANSWERS | empty)
        assert parsed["price_usd" if PRICES in empty else "fees_btc"].isna().all()
    none = parse_mempool_space(adjusted(lambda rows: []))
    assert none[["block_count", "difficulty", "height", "issuance_btc"]].isna().all(axis=None)
    assert none.hash_rate_ehs.equals(WHOLE.hash_rate_ehs) and none.price_usd.equals(WHOLE.price_usd)


def test_without_heights_counts_follow_from_hash_rate_and_difficulty():
    steps = [{"time": row[0], "difficulty": row[2]} for row in json.loads(ANSWERS["adjustments.json"])]
    for order in (1, -1):
        files = {"hashrate.json": answer(difficulty=lambda _old, order=order: steps[::order])["hashrate.json"]}
        parsed = parse_mempool_space(files)
        assert parsed.height.isna().all() and parsed.issuance_btc.isna().all()
        assert (parsed.block_count == PANEL.block_count).mean() > 0.98
        pd.testing.assert_frame_equal(parsed[NETWORK], PANEL[NETWORK], check_freq=False, rtol=1e-3)


def test_days_without_hash_rate_have_no_count_and_the_others_keep_theirs():
    dark = slice(40, 43)
    for fault in (
        lambda old: old[:40] + old[43:],
        lambda old: [*old[:40], *({**r, "avgHashrate": 0} for r in old[40:43]), *old[43:]],
    ):
        parsed = parse_mempool_space(answer(hashrates=fault))
        assert parsed.iloc[dark][["hash_rate_ehs", "block_count", "height", "issuance_btc"]].isna().all(axis=None)
        rest = parsed.index.delete(range(40, 43))
        assert (parsed.height - WHOLE.height)[rest].abs().max() <= 8
        assert (parsed.block_count - WHOLE.block_count)[rest].abs().max() <= 8
        assert parsed.difficulty.equals(WHOLE.difficulty)


def test_one_day_of_wrong_hash_rate_moves_no_height_beyond_its_epoch():
    half = answer(hashrates=lambda old: [*old[:40], {**old[40], "avgHashrate": old[40]["avgHashrate"] / 2}, *old[41:]])
    off = (parse_mempool_space(half).height - WHOLE.height).abs()
    assert off.max() < 72 and off.iloc[60:].max() <= 8 and off.iloc[:25].max() <= 8


def test_between_adjustments_that_are_no_neighbours_nothing_is_made_up():
    parsed = parse_mempool_space(adjusted(lambda rows: [*rows[:4], *rows[5:]]))
    unknown = parsed[["block_count", "difficulty", "height"]].isna()
    assert unknown["height"].equals(unknown["block_count"])
    assert ((unknown.sum() > 26) & (unknown.sum() < 31)).all()
    assert (parsed.height - WHOLE.height).abs().max() <= 3
    one = adjusted(lambda rows: [*rows[:4], *rows[5:]])["hashrate.json"]
    pd.testing.assert_frame_equal(parse_mempool_space(ANSWERS | {"hashrate.json": one}), WHOLE)


def test_after_an_adjustment_that_is_not_yet_listed_nothing_is_made_up():
    listed = len(json.loads(ANSWERS["adjustments.json"]))
    parsed = parse_mempool_space(adjusted(lambda rows: rows[:-2]))
    end = parsed.height.dropna()
    assert end.index[-1] < parsed.index[-10] and end.iloc[-1] < (end.iloc[0] // 2016 + listed) * 2016
    assert parsed.loc[end.index, "height"].equals(WHOLE.loc[end.index, "height"])
    assert parsed.difficulty.last_valid_index() == end.index[-1]


def test_prices_are_those_at_the_days_end():
    """A close of Mt. Gox is stamped by the midnight after it; an hour's price counts from 18:00 UTC on."""

    def at(text, price):
        return {"time": pd.Timestamp(text).timestamp(), "USD": price}

    points = [
        *(at("2022-01-02 23:00", 7), at("2022-01-02 18:00", 6), at("2022-01-02 23:30", -1), at("2022-01-02 23:40", 0)),
        *(
            at("2022-01-02 23:50", None),
            at("2022-01-03 00:00", 8),
            at("2022-01-03 17:59", 9),
            at("2010-07-19", 0.08584),
        ),
        *(at("2013-09-30", 143.88), at("2022-01-01 18:00", "5.5")),
    ]
    for order in (1, -1):
        price = parse_mempool_space(answer(PRICES, prices=lambda _old, order=order: points[::order])).price_usd.dropna()
        assert {f"{day:%Y-%m-%d}": value for day, value in price.items()} == {
            "2010-07-18": 0.08584,
            "2013-09-29": 143.88,
            "2022-01-01": 5.5,
            "2022-01-02": 7.0,
        }


@pytest.fixture
def get(monkeypatch):
    """What asks a server that stands for a mempool instance, and the server."""
    ls.be_quick(monkeypatch)
    with ls.LocalServer() as server:
        server.serve_all(PANEL)
        monkeypatch.setenv("MEMPOOL_URL", server.url)
        yield partial(fetch_answer, progress=lambda _line: None), server


@pytest.mark.parametrize("end", ["", "/", "/api", "/api/", "/api/v1", "/api/v1/"])
def test_the_whole_api_is_asked_at_any_address(get, end, monkeypatch):
    ask, server = get
    monkeypatch.setenv("MEMPOOL_URL", server.url + end)
    assert {name: found.body for name, found in fetch_mempool_space(ask).items()} == ANSWERS
    assert [(path, query) for path, query, _headers in server.requests] == [
        *((ls.MEMPOOL, {}), (ls.ADJUSTMENTS, {}), (ls.PRICES, {"currency": "USD"}), (ls.FEES, {}))
    ]


def test_an_instance_may_lack_paths_but_not_fail(get):
    ask, server = get
    for path in (ls.PRICES, ls.FEES, ls.ADJUSTMENTS):
        server.serve(path, ls.reply(404))
    assert set(fetch_mempool_space(ask)) == {"hashrate.json"}
    server.serve(ls.PRICES, ls.reply(500))
    with ls.one_line_error(FetchError, "answered 500"):
        fetch_mempool_space(ask)
    server.serve(ls.MEMPOOL, ls.reply(404))
    with ls.one_line_error(FetchError, "answered 404"):
        fetch_mempool_space(ask)


def test_a_brk_instance_knows_the_hash_rate_without_an_interval_alone(get):
    ask, server = get
    with pytest.raises(AssertionError, match="no service"):
        server.serve(ls.BARE, ls.reply(body=ANSWERS["hashrate.json"]))
    server.break_all()
    server.brk = True
    server.serve(ls.BARE, ls.reply(body=ANSWERS["hashrate.json"]))
    answers = fetch_mempool_space(ask)
    assert (set(answers), answers["hashrate.json"].body) == ({"hashrate.json"}, ANSWERS["hashrate.json"])
    assert answers["hashrate.json"].url.endswith(ls.BARE)
    assert parse_mempool_space({"hashrate.json": ANSWERS["hashrate.json"]}).height.notna().all()
