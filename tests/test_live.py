"""`make check-live`: documented answers pass, whatever differs is named, and nothing is ever stored."""

import datetime as dt
import json
from urllib.parse import urlsplit

import pandas as pd
import pytest

import local_server as ls
from capitulation import cli
from capitulation.data import live, sources
from capitulation.data.headers import MAIN, block_hash
from capitulation.data.live import DIFFERS, NO_ANSWER, NOT_ASKED, OK, check_live
from capitulation.data.market import utc_now
from capitulation.data.snapshots import Answer, FetchError
from capitulation.paths import raw_folder

GENESIS = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
BLOCK_HASH, HEADER = "/rest/blockhashbyheight/0.json", f"/rest/headers/{GENESIS}.bin"


def market(end: dt.date) -> pd.DataFrame:
    """A small market at the present level."""
    panel = ls.made_panel(70, end=str(end))
    coins, fees = panel["block_count"] * 3.125, panel["block_count"] * 0.03
    panel = panel.assign(issuance_btc=coins, fees_btc=fees, revenue_usd=(coins + fees) * panel["price_usd"])
    return panel.assign(hash_rate_ehs=panel["hash_rate_ehs"] * 5, difficulty=panel["difficulty"] * 5)


NOW = market(utc_now().date() - dt.timedelta(days=1))


def documents(panel: pd.DataFrame) -> dict[str, bytes]:
    """What each path answers on the day after the panel's last one, by path."""
    names = ["HashRate", "BlkCnt", "IssTotNtv", "IssTotUSD", "FeeTotNtv", "PriceUSD"]
    metrics = [{"metric": name, "frequencies": [{"frequency": "1d", "community": True}]} for name in names]
    state = {"chain": "main", "blocks": 950_000, "headers": 950_000, "bestblockhash": "00" * 32}
    state |= {"difficulty": panel["difficulty"].iloc[-1], "mediantime": ls.seconds(panel.index[-1:])[0] + 90_000}
    found = {
        ls.API: ls.coinmetrics_page(ls.coinmetrics_rows(panel.iloc[-7:]), "more"),
        ls.CATALOG: json.dumps({"data": [{"asset": "btc", "metrics": metrics}]}).encode(),
        ls.CSV: ls.coinmetrics_csv(panel),
        **{f"{ls.CHARTS}/{name[:-5]}": body for name, body in ls.blockchain_charts(panel.iloc[-7:]).items()},
        **{ls.MEMPOOL_FILES[name]: body for name, body in ls.mempool_answers(panel).items()},
        ls.CHAININFO: json.dumps(state).encode(),
        BLOCK_HASH: json.dumps({"blockhash": GENESIS}).encode(),
        HEADER: MAIN.genesis,
    }
    day = {"time": ls.seconds(panel.index[-1:])[0] + 82_800, "USD": panel["price_usd"].iloc[-1]}
    return found | {ls.PRICES: json.dumps({"prices": [day], "exchangeRates": {"USDEUR": 0.9}}).encode()}


GOOD = documents(NOW)
SCALED = ["price_usd", "hash_rate_ehs", "difficulty", "fees_btc", "revenue_usd", "issuance_btc"]
FIELDS = dict.fromkeys(GOOD, "y") | {ls.API: "FeeTotNtv", ls.CSV: "FeeTotNtv", ls.CATALOG: "FeeTotNtv"}
FIELDS |= {ls.MEMPOOL: "avgHashrate", ls.PRICES: "USD", ls.FEES: "avgFees"}
FIELDS |= {ls.CHAININFO: "blocks", BLOCK_HASH: "blockhash"}
FIXED = {ls.CATALOG, BLOCK_HASH, HEADER}
FAULTS = {
    "renamed": {path: body.replace(FIELDS[path].encode(), b"other") for path, body in GOOD.items()},
    "another unit": documents(NOW.assign(**NOW[SCALED] * 1000)),
    "a smaller unit": documents(NOW.assign(**NOW[SCALED] / 1000)),
    "stale": documents(NOW.set_axis(NOW.index - pd.Timedelta(days=10))),
    "an HTML page": dict.fromkeys(GOOD, b"<!DOCTYPE html><html></html>"),
    "empty": dict.fromkeys(GOOD, b'{"data": [], "values": [], "hashrates": [], "difficulty": [], "prices": []}'),
    "404": dict.fromkeys(GOOD, 404),
    "500": dict.fromkeys(GOOD, 500),
}
FAULTS["stale"][ls.ADJUSTMENTS] = documents(NOW.set_axis(NOW.index - pd.Timedelta(days=30)))[ls.ADJUSTMENTS]


@pytest.fixture
def server(tmp_path, monkeypatch):
    with ls.services(monkeypatch, tmp_path) as running:
        monkeypatch.setenv("NODE_URL", running.url)
        serve(running, GOOD)
        yield running


def serve(server: ls.LocalServer, bodies: dict[str, bytes]) -> None:
    for path, body in bodies.items():
        server.serve(path, ls.reply(body) if isinstance(body, int) else ls.reply(body=body))


def test_documented_answers_pass_and_nothing_is_stored(server, capsys):
    said = []
    lines = check_live(said.append)
    assert {line.status for line in lines} == {OK} and [line.path for line in lines] == [*GOOD]
    assert len(said) == len(server.requests) == len(GOOD), "one request each"
    rate = f"{NOW['hash_rate_ehs'].iloc[-7:].median():.3g} EH/s"
    [shown] = [line for line in said if ls.MEMPOOL in line]
    assert shown == f"ok        mempool_space {ls.MEMPOOL}: 70 days to {NOW.index[-1]:%Y-%m-%d}, {rate}"
    asked = {path: query for path, query, _headers in server.requests}
    assert (asked[ls.API]["page_size"], asked[ls.API]["paging_from"]) == ("7", "end")
    assert {asked[f"{ls.CHARTS}/{name}"]["timespan"] for name in sources.CHARTS} == {"7days"}
    assert abs(int(asked[ls.PRICES]["timestamp"]) - ls.seconds(NOW.index[-1:])[0] - 82_800) <= 86_400
    assert (asked[ls.PRICES]["currency"], asked[HEADER]) == ("USD", {"count": "1"})
    assert cli.main(["check-live"]) == 0
    assert capsys.readouterr().out.splitlines() == said
    assert not raw_folder().exists()


@pytest.mark.parametrize("turn", [0, 1], ids=["every other path", "the others"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_path_that_differs_or_is_silent_is_named_and_no_other(server, monkeypatch, fault, turn):
    """Not every fault can befall every path: what never changes has neither day nor unit."""
    broken = {path: body for path, body in [*FAULTS[fault].items()][turn::2] if body != GOOD[path]}
    assert [path for path in [*FAULTS[fault]][turn::2] if path not in {*broken, *FIXED, ls.ADJUSTMENTS}] == []

    def at_hand(url, query, secrets, progress):
        body = broken.get(urlsplit(url).path, GOOD.get(urlsplit(url).path, 404))
        if isinstance(body, int):
            raise FetchError(f"answered {body}", None, body)
        return Answer(url, query, body)

    monkeypatch.setattr(live, "fetch_answer", at_hand)
    others = [line for line in check_live(lambda _line: None) if line.status != OK]
    assert {line.path: line.status for line in others} == dict.fromkeys(
        broken, NO_ANSWER if fault.isdigit() else DIFFERS
    )
    assert all(line.words and "\n" not in line.words for line in others)


def test_a_host_that_keeps_waiting_is_asked_once(server, monkeypatch):
    def in_vain(url, *_):
        asked.append(url)
        raise FetchError("not answered in full")

    asked = []
    monkeypatch.setattr(live, "fetch_answer", in_vain)
    monkeypatch.setattr(live, "PATIENCE", -1.0)
    lines = check_live(lambda _line: None)
    assert len(asked) == 1 and [(line.path, line.status) for line in lines] == [(path, NO_ANSWER) for path in GOOD]
    assert all(line.words and "\n" not in line.words for line in lines)


def test_the_exit_code_says_whether_anything_differs_and_the_store_is_left_alone(server, capsys):
    raw_folder().mkdir(parents=True)
    (raw_folder() / "kept").write_bytes(b"1")
    for body in (404, b"{}"):
        serve(server, {ls.FEES: body})
        assert cli.main(["check-live"]) == 1
        assert len([line for line in capsys.readouterr().out.splitlines() if not line.startswith("ok ")]) == 1
    assert ls.tree(raw_folder()) == {"kept": b"1"}


def test_a_brk_instance_and_an_old_node_are_asked_in_their_own_way(server):
    server.serve(ls.MEMPOOL, ls.reply(404))
    server.serve(HEADER, ls.reply(400))
    server.brk = True
    old = f"/rest/headers/1/{GENESIS}.bin"
    serve(server, {ls.BARE: GOOD[ls.MEMPOOL], old: MAIN.genesis})
    lines = check_live(lambda _line: None)
    assert {line.status for line in lines} == {OK} and {ls.BARE, old} < {line.path for line in lines}


def test_what_is_not_wanted_is_not_asked(server, monkeypatch):
    monkeypatch.delenv("NODE_URL")
    monkeypatch.setenv("MEMPOOL_URL", "none")
    said = []
    lines = [line for line in check_live(said.append) if line.status != OK]
    assert [(line.source, line.status) for line in lines] == [("mempool_space", NOT_ASKED), ("node", NOT_ASKED)]
    assert "not asked node: NODE_URL is not set" in said
    assert not any(path.startswith(("/rest", "/api")) for path, _query, _headers in server.requests)
    assert cli.main(["check-live"]) == 0


def test_another_chain_and_a_wrong_first_block_are_named(server):
    state = json.loads(GOOD[ls.CHAININFO])
    for path, body in (
        (ls.CHAININFO, json.dumps(state | {"chain": "test"}).encode()),
        (ls.CHAININFO, json.dumps(state | {"blocks": "many"}).encode()),
        (ls.CHAININFO, json.dumps(state | {"mediantime": 1e30}).encode()),
        (ls.CHAININFO, json.dumps(state | {"mediantime": None}).encode()),
        (BLOCK_HASH, json.dumps({"blockhash": GENESIS[::-1]}).encode()),
        (HEADER, MAIN.genesis[:79]),
        (HEADER, MAIN.genesis * 2),
    ):
        serve(server, GOOD | {path: body})
        assert [line.path for line in check_live(lambda _line: None) if line.status == DIFFERS] == [path]
    assert block_hash(MAIN.genesis)[::-1].hex() == GENESIS and len(MAIN.genesis) == 80


def test_answers_as_recorded_pass_on_the_day_they_end(server, data_folder, monkeypatch):
    """Blockchain.com's prices had ended months before."""
    monkeypatch.setattr(live, "utc_now", lambda: dt.datetime(2026, 3, 23, 12, tzinfo=dt.UTC))
    serve(server, documents(market(dt.date(2026, 3, 22))))
    real = {f"{ls.CHARTS}/{name}": f"blockchain_com/{name}.json" for name in sources.CHARTS}
    real |= {ls.CSV: "coinmetrics/btc.csv", ls.MEMPOOL: "mempool_space/hashrate-1y.json"}
    real |= {ls.ADJUSTMENTS: "mempool_space/difficulty-adjustments.json"}
    serve(server, {path: (data_folder / file).read_bytes() for path, file in real.items()})
    lines = {line.path: line for line in check_live(lambda _line: None)}
    assert [path for path in lines if lines[path].status != OK] == [f"{ls.CHARTS}/market-price"]
    assert "2025-07-17" in lines[f"{ls.CHARTS}/market-price"].words
    assert lines[ls.MEMPOOL].words == "217 days to 2026-03-21, 922 EH/s"
