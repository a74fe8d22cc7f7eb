"""Which sources a market may be made of, which of them is taken, and what is said of each column's origin."""

import datetime as dt
import json
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest

import local_server as ls
import made_chain as mc
from capitulation import cli
from capitulation.data import market as markets
from capitulation.data import node, snapshots
from capitulation.data.headers import BLOCK_CLOCKS, REGTEST, Chain, daily
from capitulation.data.market import fetch, load_market, other_panels
from capitulation.data.sources import PROVIDERS, Provider, all_terms
from capitulation.errors import DataError, InputError, SourceUnavailable
from capitulation.mining.difficulty import adjustments
from capitulation.mining.episodes import episodes
from capitulation.mining.hashrate import hash_ribbons
from capitulation.paths import raw_folder
from capitulation.study.events import event_study

TODAY = markets.utc_now().date()
NOW = ls.made_panel(400, end=str(TODAY - dt.timedelta(days=1)))
FORBIDDEN = (ls.API, ls.CSV)


@pytest.fixture
def server(tmp_path, monkeypatch):
    with ls.services(monkeypatch, tmp_path) as running:
        running.serve_all(NOW)
        yield running


def load(said=None, **values):
    said = [] if said is None else said
    return load_market(progress=said.append, simulate=lambda seed: ls.made_panel(100, seed=seed), **values)


def asked(server):
    return {path for path, _query, _headers in server.requests}


def test_every_source_has_terms_and_the_answer_to_commercial_use_is_one_of_three():
    terms = all_terms()
    assert {"file", "simulated", *PROVIDERS} == set(terms)
    for item in terms.values():
        assert item.commercial in ("yes", "no", "ask") and item.licence and item.attribution and item.gives
    assert (terms["coinmetrics"].commercial, terms["mempool_space"].commercial) == ("no", "yes")


def test_for_commercial_use_nothing_else_is_asked_used_or_compared_with(server):
    load()
    assert len(asked(server) & {*FORBIDDEN}) == 1, "without the licence the first choice is Coin Metrics"
    server.requests.clear()
    market = load(licence="commercial")
    assert market.source == "mempool_space"
    assert {origin["commercial"] for origin in market.origins} == {"yes"} and market.others == ()
    assert not any(path.startswith((*FORBIDDEN, ls.CHARTS)) for path in asked(server))
    assert not any(item["check"] == "providers" for item in market.findings)
    server.break_all()
    for path in raw_folder().glob("mempool_*"):
        path.rename(path.with_name("aside"))
    simulated = load(licence="commercial")
    assert simulated.simulated and "answered 404" in simulated.notes[-1]
    assert load().source == "coinmetrics"


def test_for_commercial_use_new_data_are_not_held_against_what_is_forbidden(server):
    server.serve(
        ls.API, ls.reply(body=ls.coinmetrics_page(ls.coinmetrics_rows(NOW.assign(price_usd=NOW["price_usd"] * 2))))
    )
    load(source="coinmetrics")
    with pytest.raises(DataError, match="coinmetrics"):
        load(source="mempool_space")
    load(source="mempool_space", licence="commercial")
    [name] = snapshots.snapshot_names("mempool_space")
    assert not [item for item in snapshots.find_snapshot(name).manifest.findings if item["check"] == "providers"]


def test_where_nobody_may_be_asked_for_the_mempool_api_nobody_is(server, monkeypatch):
    monkeypatch.setenv("MEMPOOL_URL", "None")
    assert load().others[0].startswith("blockchain_com/")
    assert fetch(progress=lambda line: None).startswith("data/raw/coinmetrics/")
    server.requests.clear()
    market = load(licence="commercial")
    assert market.simulated and "MEMPOOL_URL=none" in market.notes[0]
    with ls.one_line_error(SourceUnavailable, "LICENCE=commercial, MEMPOOL_URL=none"):
        fetch(licence="commercial")
    assert server.requests == []


def test_an_insisted_source_that_allows_none_is_refused_and_an_open_question_is_said(server, tmp_path):
    with ls.one_line_error(InputError, "source=coinmetrics and licence=commercial exclude .*CC BY-NC 4.0"):
        load(source="coinmetrics", licence="commercial")
    with ls.one_line_error(InputError, "licence=comercial: did you mean commercial"):
        load(licence="comercial")
    assert asked(server) == set()
    path = tmp_path / "own.csv"
    path.write_bytes(ls.coinmetrics_csv(NOW))
    for market in (load(source="blockchain_com", licence="commercial"), load(data=path, licence="commercial")):
        [said] = [note for note in market.notes if note.startswith("LICENCE=commercial: whether")]
        assert market.origins[0]["name"] in said
    assert not any("LICENCE" in note for note in load(data=path).notes)


def test_the_switch_reaches_the_command_line_and_the_notebook(server, monkeypatch, capsys):
    assert cli.main(["fetch", "--licence", "commercial"]) == 0
    assert "data/raw/mempool_space/" in capsys.readouterr().out
    assert cli.main(["status", "--json", "1", "--licence", "commercial"]) == 0
    assert json.loads(capsys.readouterr().out)["source"] == "mempool_space"
    assert cli.main(["status", "--source", "coinmetrics", "--licence", "commercial"]) == 2
    assert "licence=commercial" in capsys.readouterr().err
    assert not asked(server) & {*FORBIDDEN}


def test_the_second_source_is_fetched_with_the_first_and_held_against_it(server):
    market = load()
    assert market.others[0].startswith("mempool_space/")
    columns = [item["column"] for item in market.findings if item["check"] == "providers"]
    assert {"hash_rate_ehs", "price_usd"} <= set(columns)
    assert list(other_panels(market)) == ["mempool_space"]
    seen = len(server.requests)
    assert load().findings == market.findings and len(server.requests) == seen


def test_a_second_source_that_is_down_or_differs_is_named_and_the_run_goes_on(server):
    server.serve(ls.MEMPOOL, ls.reply(500))
    market = load()
    assert (market.source, list(other_panels(market))) == ("coinmetrics", ["blockchain_com"])
    assert any(note.startswith("second source mempool_space: ") and "not compared" in note for note in market.notes)
    server.serve_all(NOW.assign(price_usd=NOW["price_usd"] * 1.05))
    server.serve(ls.API, ls.reply(body=ls.coinmetrics_page(ls.coinmetrics_rows(NOW))))
    market = load(max_age_days=0)
    [warning] = [item for item in market.findings if item["severity"] == "warning"]
    assert (warning["check"], warning["column"]) == ("providers", "price_usd") and warning["message"] in market.notes


def old(days):
    return NOW.iloc[:-days]


@pytest.mark.parametrize(
    ("coinmetrics", "mempool", "taken"),
    [(0, 30, "coinmetrics"), (9, 0, "mempool_space"), (9, 40, "coinmetrics"), (40, 9, "mempool_space")],
)
def test_auto_takes_the_first_that_is_up_to_date_else_what_reaches_furthest(server, coinmetrics, mempool, taken):
    panels = {
        "coinmetrics": old(coinmetrics) if coinmetrics else NOW,
        "mempool_space": old(mempool) if mempool else NOW,
    }
    server.serve_all(panels["mempool_space"])
    for name in ls.blockchain_charts(NOW):
        server.serve(f"{ls.CHARTS}/{name.removesuffix('.json')}", ls.reply(404))
    server.serve(ls.API, ls.reply(body=ls.coinmetrics_page(ls.coinmetrics_rows(panels["coinmetrics"]))))
    market = load()
    assert (market.source, market.panel.index[-1]) == (taken, panels[taken].index[-1])
    replaced = [note for note in market.notes if f"used {market.snapshot} instead" in note]
    assert len(replaced) == (taken != "coinmetrics")
    assert all(note.startswith("the data of coinmetrics end on") for note in replaced)
    early = load(as_of=f"{NOW.index[200]:%Y-%m-%d}")
    assert early.source == "coinmetrics", "what it has is enough for that day"


def test_auto_prefers_a_source_that_has_a_price(server):
    for path in (ls.API, ls.CSV, ls.PRICES):
        server.serve(path, ls.reply(404))
    market = load()
    assert market.source == "blockchain_com" and market.panel["price_usd"].notna().any()
    assert market.others[0].startswith("mempool_space/")
    for name in ls.blockchain_charts(NOW):
        server.serve(f"{ls.CHARTS}/{name.removesuffix('.json')}", ls.reply(404))
    for path in raw_folder().glob("blockchain_*"):
        path.rename(path.with_name("aside"))
    assert load().source == "mempool_space", "the network alone is better than nothing"


def test_fetch_goes_on_where_one_source_is_down_and_fails_where_all_are(server):
    server.serve(ls.API, ls.reply(404))
    server.serve(ls.CSV, ls.reply(404))
    said = []
    assert fetch(progress=said.append).startswith("data/raw/mempool_space/")
    assert any("answered 404" in line for line in said)
    server.break_all()
    with pytest.raises(SourceUnavailable):
        fetch(progress=said.append)


def test_a_source_that_is_down_is_asked_once_a_run(server):
    server.serve(ls.API, ls.reply(404))
    server.serve(ls.CSV, ls.reply(404))
    market = load()
    assert (market.source, len(market.notes)) == ("mempool_space", 1)
    assert [path for path, *_ in server.requests].count(ls.API) == 1
    assert market.others[0].startswith("blockchain_com/"), "the next one is the second source"


def test_each_columns_origin_has_its_own_last_day(server, tmp_path):
    stopped = NOW.copy()
    stopped.loc[stopped.index[-6:], ["fees_btc", "revenue_usd"]] = np.nan
    path = tmp_path / "own.csv"
    path.write_bytes(ls.coinmetrics_csv(stopped))
    market = load(data=path)
    ends = {column: origin["as_of"] for origin in market.origins for column in origin["columns"]}
    assert ends["fees_btc"] == f"{NOW.index[-7]:%Y-%m-%d}" and ends["price_usd"] == f"{NOW.index[-1]:%Y-%m-%d}"
    assert "height" not in ends, "of what is not known nothing is said"
    assert {origin["attribution"] for origin in market.origins} == {"local file own.csv"}
    assert set(ends) == set(market.panel.columns[market.panel.notna().any()])


def blocks_of(panel):
    """A chain of as many blocks of that difficulty a day, by median time past."""
    return mc.told(clock_of(panel), np.repeat(panel["difficulty"].to_numpy(), panel["block_count"].astype(int)))


def clock_of(panel):
    """Times of as many blocks a day as the panel counts, evenly through each day."""
    counts, starts = panel["block_count"].astype(int).to_numpy(), panel.index.as_unit("s").asi8
    days = zip(starts, counts, strict=True)
    return np.concatenate([start + (np.arange(n) + 0.5) * 86_400 / n for start, n in days if n])


@pytest.fixture(scope="module")
def chain():
    return blocks_of(ls.made_panel(401, end=str(TODAY)))


@pytest.fixture
def own_node(server, chain, monkeypatch):
    """A node at NODE_URL whose headers, made without work, are taken as checked."""
    serve_node(server, chain, monkeypatch)
    return server


def serve_node(server, data, monkeypatch):
    rules = Chain("main", data[:80], 2**256, False)
    monkeypatch.setitem(PROVIDERS, "node", Provider(daily, (partial(node.fetch_node, chain=rules),), rules))
    monkeypatch.setattr(node, "check", lambda data, chain, start: b"")
    monkeypatch.setenv("NODE_URL", server.url)
    mc.MadeNode(data, "main").serve(server)


NETWORK = ["hash_rate_ehs", "block_count", "difficulty", "height", "issuance_btc"]


def test_a_node_gives_the_network_and_the_mempool_api_the_price(own_node):
    market = load(source="node")
    truth = ls.made_panel(401, end=str(TODAY)).iloc[:-1]
    assert market.panel.index[-1] == truth.index[-1], "today is not over"
    known = ["block_count", "difficulty", "hash_rate_ehs"]
    np.testing.assert_allclose(market.panel[known], truth[known], rtol=1e-6)
    assert market.panel["height"].tolist() == truth["block_count"].cumsum().tolist()
    network, price = market.origins
    assert (network["source"], network["columns"]) == ("node", NETWORK)
    assert (price["source"], price["columns"][0], price["as_of"]) == (
        "mempool_space",
        "price_usd",
        str(NOW.index[-1].date()),
    )
    np.testing.assert_allclose(market.panel["price_usd"][NOW.index], NOW["price_usd"], rtol=1e-9)
    revenue = (market.panel["issuance_btc"] + market.panel["fees_btc"]) * market.panel["price_usd"]
    assert market.panel["revenue_usd"].equals(revenue.rename("revenue_usd"))
    again = load(snapshot=market.snapshot, offline=True)
    assert (again.digest, again.snapshot, again.source) == (market.digest, market.snapshot, "node")
    early = load(source="node", as_of=f"{NOW.index[100]:%Y-%m-%d}")
    for of, day in ((market, TODAY), (early, NOW.index[100].date())):
        assert len(of.blocks) == 2017 and of.blocks["clock"].iloc[-1].date() == day
    assert early.digest == load(snapshot=market.snapshot, as_of=f"{NOW.index[100]:%Y-%m-%d}").digest


def test_what_the_market_took_from_a_source_is_not_held_against_it(own_node):
    own_node.serve(ls.API, ls.reply(404))
    own_node.serve(ls.CSV, ls.reply(404))
    market = load()
    assert market.source == "node" and market.others[0].startswith("mempool_space/")
    compared = {item["column"] for item in market.findings if item["check"] == "providers"}
    assert "hash_rate_ehs" in compared and "price_usd" not in compared
    assert other_panels(market)["mempool_space"]["price_usd"].isna().all()
    assert other_panels(market, whole=True)["mempool_space"]["price_usd"].notna().any()
    assert load(licence="commercial").source == "node"


def test_a_nodes_price_may_come_from_a_file_or_from_nowhere(own_node, tmp_path, monkeypatch):
    path = tmp_path / "price.csv"
    NOW["price_usd"].rename("close").to_csv(path, index_label="date")
    market = load(source="node", data=path)
    assert [origin["attribution"] for origin in market.origins][1:] == ["local file price.csv"]
    np.testing.assert_allclose(market.panel["price_usd"][NOW.index], NOW["price_usd"])
    assert market.panel[["fees_btc", "revenue_usd"]].isna().all(axis=None), "unknown, not nothing"
    assert load(source="node", data=path, snapshot=market.snapshot).digest == market.digest
    NOW["price_usd"][:-30].rename("close").to_csv(path, index_label="date")
    assert sum("no value since" in note for note in load(source="node", data=path).notes) == 1
    NOW["hash_rate_ehs"].to_csv(path, index_label="date")
    with ls.one_line_error(InputError, "no price: found price.csv"):
        load(source="node", data=path)
    (NOW["price_usd"] * 0).rename("close").to_csv(path, index_label="date")
    with ls.one_line_error(InputError, "no price: found price.csv"):
        load(source="node", data=path)
    own_node.break_all(503)
    unpriced = load(source="node")
    assert unpriced.panel["price_usd"].isna().all() and unpriced.origins[0]["columns"] == NETWORK
    assert any(note.startswith("no price: ") and "DATA=file" in note for note in unpriced.notes)
    own_node.requests.clear()
    monkeypatch.setenv("MEMPOOL_URL", "none")
    assert load(source="node").origins == unpriced.origins
    assert own_node.requests == []


def test_a_chain_whose_first_part_is_gone_is_fetched_anew_and_that_is_said_once(own_node, monkeypatch):
    monkeypatch.setenv("MEMPOOL_URL", "none")
    digests = {load(source="node", max_age_days=0).digest for _ in range(3)}
    shutil.rmtree(raw_folder() / snapshots.snapshot_names("node")[-1])
    said = []
    anew = load(said, source="node")
    assert {anew.digest} == digests and len(anew.notes) == 1 and "headers before height" in anew.notes[0]
    assert said.count(anew.notes[0]) == 1
    assert load(source="node").notes == ()


def test_the_other_clock_moves_blocks_from_day_to_day(own_node):
    by_median, by_header = (load(source="node", block_clock=clock).panel for clock in BLOCK_CLOCKS)
    moved = by_header["height"] - by_median["height"]
    assert moved.iloc[5:-1].between(-7, -3).all(), "the median of eleven times is five blocks behind"
    day = f"{NOW.index[100]:%Y-%m-%d}"
    for clock in BLOCK_CLOCKS:
        early = load(source="node", block_clock=clock, as_of=day)
        assert early.blocks.index[-1] == early.panel["height"].iloc[-1], "blocks and days end together"
    np.testing.assert_allclose(by_header["block_count"].sum(), by_median["block_count"].sum(), atol=10)


def test_a_regtest_chain_is_a_simulated_market(server, monkeypatch):
    monkeypatch.setenv("NODE_URL", server.url)
    stamps = mc.uneven(1500, 600, 3)
    mc.MadeNode(mc.grown(REGTEST.genesis, stamps)).serve(server)
    market = load(source="node_regtest")
    assert market.simulated and market.snapshot.startswith("node_regtest/")
    assert market.panel["block_count"].sum() > 1000 and market.panel["price_usd"].isna().all()
    assert (market.findings, market.others) == ((), ())
    with pytest.raises(DataError, match="the node's chain is 'regtest', not 'main'"):
        load(source="node")
    assert load().source == "coinmetrics"


@pytest.fixture(scope="module")
def real_chain(real_panel):
    """Headers with the blocks and the difficulty of the real history."""
    midnight = real_panel.index.as_unit("s").asi8[-1] + 86_400
    clock = np.append(clock_of(real_panel), midnight + 600 * np.arange(1, 7))
    epochs = adjustments(real_panel).set_index("height")["difficulty"].reindex(np.arange(0, len(clock) + 2016, 2016))
    return mc.told(clock, epochs.ffill().fillna(1.0).to_numpy()[np.arange(1, len(clock) + 1) // 2016])


@pytest.mark.slow
@pytest.mark.parametrize("source", ["node", "mempool_space"])
def test_real_history_from_another_source_gives_the_same_study(server, real_panel, real_chain, monkeypatch, source):
    """Over the services' own forms: the same flag, recoveries, primary result; exact from a node."""
    monkeypatch.setattr(markets, "utc_now", lambda: dt.datetime(2026, 3, 23, 6, tzinfo=dt.UTC))
    monkeypatch.setattr(snapshots, "TOTAL_SECONDS", 60.0)
    monkeypatch.setattr(snapshots, "READ_SECONDS", 15.0)
    for name, body in ls.mempool_answers(real_panel, digits=4).items():
        server.serve(ls.MEMPOOL_FILES[name], ls.reply(body=body))
    serve_node(server, real_chain, monkeypatch)
    panel = load(source=source).panel
    if source == "node":
        exact = ["block_count", "height", "issuance_btc"]
        pd.testing.assert_frame_equal(panel.loc["2009-01-09":, exact], real_panel.loc["2009-01-09":, exact])
        np.testing.assert_allclose(
            panel["hash_rate_ehs"]["2009-01-09":], real_panel["hash_rate_ehs"]["2009-01-09":], rtol=4e-5
        )
    flags = pd.DataFrame({at: hash_ribbons(of)["inverted"] for at, of in (("ours", panel), ("real", real_panel))})[
        "2018":
    ]
    assert (flags["ours"] == flags["real"]).mean() > 0.999
    ends = [episodes(hash_ribbons(of)["inverted"], of)["end"].dropna() for of in (panel, real_panel)]
    ours, real = (end[end >= "2018"].reset_index(drop=True) for end in ends)
    assert len(ours) == len(real) and (ours - real).abs().max() <= pd.Timedelta(days=1)
    results = [event_study(of, end, [90]).iloc[0] for of, end in zip((panel, real_panel), ends, strict=True)]
    np.testing.assert_allclose(*[result[["n", "excess", "p"]].astype(float) for result in results], atol=0.002)
