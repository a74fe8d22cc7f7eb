"""One's own node as a source: whole fetches, extensions, reorganisations, every fault, and another program's node."""

import datetime as dt
import random
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pandas as pd
import pytest

import local_server as ls
import made_chain as mc
from capitulation.data import snapshots
from capitulation.data.headers import MAIN, REGTEST, blocks, check, daily, work
from capitulation.data.node import fetch_node, whole_chain
from capitulation.data.snapshots import FetchError, find_snapshot, snapshot_names
from capitulation.errors import DataError, InputError, SourceUnavailable
from capitulation.paths import raw_folder

NODE_FOLDER = Path(__file__).parent / "node"
FACTS = {"licence": "-", "attribution": "-", "rows": 1, "notes": [], "findings": []}
FACTS |= {"first_day": dt.date(2011, 2, 2), "last_day": dt.date(2011, 3, 2)}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path))
    monkeypatch.setenv("NODE_URL", "http://127.0.0.1:8332")
    return tmp_path


@pytest.fixture
def server(monkeypatch):
    ls.be_quick(monkeypatch, timeout=3.0)
    with ls.LocalServer() as running:
        monkeypatch.setenv("NODE_URL", running.url)
        yield running


@pytest.fixture(scope="module")
def chain_data():
    """A regtest chain of 4,500 headers, over some 30 days."""
    return mc.grown(REGTEST.genesis, mc.uneven(4499, 600, 1))


def fetched(get, second: int = 0, **facts) -> dict[str, bytes]:
    """The files of a new snapshot that is stored as of a second of 2026."""
    answers = fetch_node(get, REGTEST)
    when = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=second)
    return snapshots.save_snapshot("node", answers, retrieved_at=when, **{**FACTS, **facts}).files


def parts(files) -> dict[str, int]:
    return {name: len(body) // 80 for name, body in files.items() if name.startswith("headers")}


@pytest.mark.parametrize("old", [False, True], ids=["today's path", "path before version 24"])
def test_the_whole_chain_is_fetched_then_what_is_new_then_nothing(server, chain_data, old):
    def get(*asked):
        return snapshots.fetch_answer(*asked, progress=pytest.fail)

    mc.MadeNode(chain_data[: 80 * 4200], old=old).serve(server)
    first = fetched(get)
    assert parts(first) == {"headers-0000000.bin": 4200} and whole_chain(first) == chain_data[: 80 * 4200]
    asked = [path for path, *_ in server.requests]
    assert len(asked) == 1 + 3 + old and asked[0] == "/rest/chaininfo.json"
    assert {query.get("count") for _, query, _ in server.requests[1 + old :]} == {None if old else "2000"}

    mc.MadeNode(chain_data, old=old).serve(server)
    second = fetched(get, 1)
    assert parts(second) == {"headers-0004200.bin": 300} and whole_chain(second) == chain_data
    third = fetched(get, 2)
    assert parts(third) == {"headers-0004499.bin": 1} and whole_chain(third) == chain_data
    facts = find_snapshot(snapshot_names("node")[1]).manifest.files["headers-0004200.bin"]
    tip = mc.hex_name(chain_data[80 * 4199 : 80 * 4200])
    assert facts["url"].endswith(f"/rest/headers/{f'2000/{tip}' if old else tip}.bin")
    for number, name in enumerate(snapshot_names("node")):  # older ones are read as they were
        assert whole_chain(find_snapshot(name).files) == chain_data[: 80 * (4200 if number == 2 else 4500)]
    assert "NODE_URL" not in str(fetch_node(get, REGTEST)) and snapshots.check_data()[0][0] == "good"


@pytest.mark.parametrize("length", [1, 2, 12, 1999, 2000, 2001, 3999, 4000])
def test_a_chain_of_any_length_ends_where_it_ends(chain_data, length):
    data = chain_data[: 80 * length]
    files = fetched(mc.MadeNode(data).get)
    assert parts(files) == {"headers-0000000.bin": length} and whole_chain(files) == data
    more = fetched(mc.MadeNode(chain_data[: 80 * (length + 1)]).get, 1)
    assert parts(more) == {f"headers-{length:07d}.bin": 1}


def test_a_part_that_is_gone_is_missing_not_damaged(chain_data):
    for length in (1000, 1010, 1020):
        files = fetched(mc.MadeNode(chain_data[: 80 * length]).get, length)
    shutil.rmtree(raw_folder() / snapshots.snapshot_names("node")[1])
    with pytest.raises(snapshots.SnapshotMissing, match="height 1010 are no longer"):
        whole_chain(files)


def test_reorganisations_of_one_to_a_hundred_blocks_are_followed(chain_data):
    dice, data, known = random.Random(2), chain_data[: 80 * 1500], []
    known.append(fetched(mc.MadeNode(data).get))
    chains = [data]
    for depth in range(1, 101):
        kept, more = data[: -80 * depth], depth + dice.randrange(1, 4)
        last = mc.stamp_of(kept[-80:])
        data = mc.grown(kept, mc.steady(more, 500, max(last, mc.median_past(mc.split(kept[-880:])))), salt=depth)
        node = mc.MadeNode(data)
        known.append(fetched(node.get, depth))
        chains.append(data)
        fork = len(kept) // 80
        assert parts(known[-1]) == {f"headers-{fork:07d}.bin": more}
        assert whole_chain(known[-1]) == data
        assert len(node.asked) <= 2 + 8
    anew = fetch_node(mc.MadeNode(data).get, REGTEST, provider="other")  # of which nothing is stored
    assert whole_chain({name: answer.body for name, answer in anew.items()}, "other") == data
    pd.testing.assert_frame_equal(daily(whole_chain(known[-1])), daily(data))
    for files, told in list(zip(known, chains, strict=True))[::9]:
        assert whole_chain(files) == told  # what was stored is read as it was told, also of a branch that was left
    check(data, REGTEST)


def test_a_reorganisation_over_http_asks_ever_further_back(server, chain_data):
    data = chain_data[: 80 * 3000]
    mc.MadeNode(data).serve(server)
    fetched(snapshots.fetch_answer)
    other = mc.grown(data[: 80 * 2990], mc.steady(2100, 600, mc.stamp_of(data[80 * 2989 : 80 * 2990]) + 3600), salt=1)
    mc.MadeNode(other).serve(server)
    server.requests.clear()
    files = fetched(snapshots.fetch_answer, 1)
    assert parts(files) == {"headers-0002990.bin": 2100} and whole_chain(files) == other
    heights = [len(data) // 80 - 1 - back for back in (0, 1, 2, 4, 8, 16)]
    wanted = [f"/rest/headers/{mc.hex_name(data[80 * height : 80 * height + 80])}.bin" for height in heights]
    assert [path for path, *_ in server.requests][1:7] == wanted


@pytest.mark.parametrize("back", [1, 2, 3, 60, 2000])
def test_less_work_than_stored_is_not_followed_and_as_much_is(chain_data, back):
    data = chain_data[: 80 * 3000]
    before = fetched(mc.MadeNode(data).get)
    stored = ls.tree(raw_folder())
    kept = data[: -80 * back]
    stamps = mc.steady(back, 600, mc.stamp_of(kept[-80:]) + 3600)
    branch = mc.grown(kept, stamps, salt=1)
    for less in (kept, branch[:-80]):  # still syncing; on a losing branch
        with ls.one_line_error(DataError, f"ends at height {len(less) // 80 - 1} with less work.*ends at 2999"):
            fetch_node(mc.MadeNode(less).get, REGTEST)
    assert ls.tree(raw_folder()) == stored and whole_chain(before) == data
    assert whole_chain(fetched(mc.MadeNode(branch).get, 1)) == branch  # the node's choice among equals


def test_work_decides_and_not_length(home):
    """Of two branches after a retarget the shorter one, of harder blocks, has more work."""
    chain = mc.easy_chain()
    trunk = mc.grown(chain.genesis, mc.steady(2000, 300), chain)
    at = mc.stamp_of(trunk[-80:])
    hard = mc.grown(trunk, mc.steady(115, 1, at), chain)  # a quicker end of the epoch: harder blocks
    easy = mc.grown(trunk, [*mc.steady(14, 1, at), *mc.steady(106, 600, at + 3_000_000)], chain, salt=1)
    assert len(easy) > len(hard) and work(easy) < work(hard)
    answers = fetch_node(mc.MadeNode(easy).get, chain)
    when = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    snapshots.save_snapshot("node", answers, retrieved_at=when, **FACTS)
    answers = fetch_node(mc.MadeNode(hard).get, chain)
    snapshots.save_snapshot("node", answers, retrieved_at=when, **FACTS)
    assert whole_chain({name: answer.body for name, answer in answers.items()}) == hard
    with ls.one_line_error(DataError, "less work"):
        fetch_node(mc.MadeNode(easy).get, chain)


def test_what_left_the_chain_too_long_ago_is_refused(chain_data):
    fetched(mc.MadeNode(chain_data[: 80 * 4000]).get)
    for depth, good in ((2016, True), (2017, False)):
        kept = chain_data[: 80 * (4000 - depth)]
        other = mc.grown(kept, mc.steady(2100, 600, mc.stamp_of(kept[-80:]) + 3600), salt=1)
        if good:
            assert parts({n: a.body for n, a in fetch_node(mc.MadeNode(other).get, REGTEST).items()})
            continue
        with ls.one_line_error(
            DataError, r"none of the stored blocks of height 1983 to 3999 .* move data/raw/node away"
        ):
            fetch_node(mc.MadeNode(other).get, REGTEST)
    with ls.one_line_error(DataError, "ends at 99; let it finish syncing"):
        fetch_node(mc.MadeNode(chain_data[: 80 * 100]).get, REGTEST)


# --- what is stored ---------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(chain_data):
    """Four snapshots: a whole chain, an extension, a reorganisation, an extension; their files."""
    branch = mc.grown(
        chain_data[: 80 * 950], mc.steady(100, 600, mc.stamp_of(chain_data[80 * 949 :][:80]) + 3600), salt=1
    )
    chains = [
        chain_data[: 80 * 900],
        chain_data[: 80 * 1000],
        branch,
        mc.grown(branch, [mc.stamp_of(branch[-80:]) + 600]),
    ]
    return chains, [fetched(mc.MadeNode(data).get, second) for second, data in enumerate(chains)]


@pytest.mark.parametrize("gone", [0, 1, 2, 3])
def test_a_lost_part_is_said_and_the_next_fetch_mends_it(stored, gone):
    chains, files = stored
    name = snapshot_names("node")[3 - gone]
    path = raw_folder() / name / next(iter(parts(files[gone])))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")  # damaged: as good as gone
    needed = {0: (1, 2, 3), 1: (2, 3), 2: (3,), 3: ()}[gone]
    for number, body in enumerate(files):
        if number in needed:
            with ls.one_line_error(DataError, "`make fetch SOURCE=node` gets the chain anew"):
                whole_chain(body)
        else:
            assert whole_chain(body) == chains[number]
    again = fetched(mc.MadeNode(chains[3]).get, 60)
    assert whole_chain(again) == chains[3]
    anew, last = {"headers-0000000.bin": 1051}, {"headers-0001050.bin": 1}
    assert parts(again) == (last if gone == 3 else anew)


def test_an_extension_of_a_branch_that_was_left_is_joined_to_that_branch(chain_data):
    """By hash: the newer snapshot has blocks of these heights too."""
    kept = chain_data[: 80 * 900]
    other = mc.grown(kept, mc.steady(300, 600, mc.stamp_of(kept[-80:]) + 3600), salt=1)
    chains = [chain_data[: 80 * 950], chain_data[: 80 * 1000], chain_data[: 80 * 1100], other]
    files = [fetched(mc.MadeNode(data).get, second) for second, data in enumerate(chains)]
    assert [*parts(files[-1])] == ["headers-0000900.bin"]
    assert [whole_chain(one) for one in files] == chains


def test_quarantined_and_foreign_files_are_no_part_of_a_chain(chain_data):
    files = fetched(mc.MadeNode(chain_data).get, quarantined=True)
    assert not snapshot_names("node")
    assert parts(fetch_as_files(mc.MadeNode(chain_data))) == parts(files)
    for wrong in (
        {},
        {"headers.bin": chain_data},
        {"headers-0000000.bin": chain_data[:-1]},
        {"headers-0000000.bin": b""},
    ):
        with ls.one_line_error(DataError, "holds no block headers"):
            whole_chain(wrong)


def fetch_as_files(node: mc.MadeNode) -> dict[str, bytes]:
    return {name: answer.body for name, answer in fetch_node(node.get, REGTEST).items()}


# --- a node's faults --------------------------------------------------------------------------------------------------


def test_a_node_that_cannot_be_reached_is_one_line_with_the_remedy(server, monkeypatch):
    with ls.one_line_error(SourceUnavailable, "answered 404; start the node with -rest, or set NODE_URL"):
        server.serve("/rest/chaininfo.json", ls.reply(404))
        fetch_node(snapshots.fetch_answer, REGTEST)
    monkeypatch.setenv("NODE_URL", "http://127.0.0.1:1")
    with ls.one_line_error(SourceUnavailable, "refused.*start the node with -rest, or set NODE_URL"):
        fetch_node(snapshots.fetch_answer, REGTEST)
    monkeypatch.setenv("NODE_URL", "http://node.example")
    with ls.one_line_error(InputError, "NODE_URL: not an https address"):
        fetch_node(snapshots.fetch_answer, REGTEST)


INFOS = {
    "another chain": (b'{"chain": "test", "blocks": 5}', "chain is 'test', not 'regtest'; set NODE_URL"),
    "no chain": (b'{"blocks": 5}', "chain is None, not 'regtest'"),
    "no JSON": (b"Work queue depth exceeded", "chaininfo: not complete JSON"),
    "a page": (b"<html>", "an HTML page"),
    "a list": (b"[]", "not a JSON object"),
    "no height": (b'{"chain": "regtest"}', "blocks is None, not a height"),
    "height as text": (b'{"chain": "regtest", "blocks": "5"}', "blocks is '5', not a height"),
    "height below zero": (b'{"chain": "regtest", "blocks": -1}', "blocks is -1"),
    "height without end": (b'{"chain": "regtest", "blocks": 99999999999}', "blocks is 99999999999"),
    "long": (b'{"chain": "' + b"x\\n" * 9999 + b'"}', "not 'regtest'"),
}


@pytest.mark.parametrize("fault", INFOS)
def test_a_chain_state_that_cannot_be_meant_is_refused(server, fault):
    body, text = INFOS[fault]
    server.serve("/rest/chaininfo.json", ls.reply(body=body))
    with ls.one_line_error(DataError, text):
        fetch_node(snapshots.fetch_answer, REGTEST)
    assert len(server.requests) == 1


def spoilt(chain_data, change):
    """A node whose third batch of headers is changed."""
    node, asked = mc.MadeNode(chain_data), []

    def get(url, query=None, secrets=None):
        answer = node.get(url, query)
        asked.append(url)
        return answer._replace(body=change(answer.body)) if len(asked) == 4 else answer

    return get


BATCHES = {
    "cut in mid-header": (lambda body: body[:-33], "^height 4499: the headers end after 47 of its 80 bytes"),
    "does not link": (lambda body: body[:80] + body[160:], "^height 3999: .*link"),
    "of another place": (lambda body: body[80:], "do not begin with block [0-9a-f]{64}"),
    "no work": (lambda body: body[:-8] + bytes(8), "^height 4499: its bits are"),
    "empty": (lambda body: b"", "block 3998 left the node's chain during the fetch; fetch again"),
    "a page": (lambda body: b"<html>" * 100, "do not begin with block"),
}


@pytest.mark.parametrize("fault", BATCHES)
def test_a_wrong_batch_is_refused_and_nothing_of_it_is_stored(home, chain_data, fault):
    change, text = BATCHES[fault]
    with ls.one_line_error(DataError, text):
        fetched(spoilt(chain_data, change))
    assert not ls.tree(home)
    assert whole_chain(fetched(mc.MadeNode(chain_data).get, 1)) == chain_data


def test_a_connection_that_breaks_in_the_last_batch_stores_nothing(server, home, chain_data):
    node = mc.MadeNode(chain_data)
    node.serve(server)
    server.serve(f"/rest/headers/{mc.hex_name(node.headers[3998])}.bin", ls.cut_short(b"x" * 1000, reset=True))
    with ls.one_line_error(FetchError, "the connection broke"):
        fetched(snapshots.fetch_answer)
    server.serve(f"/rest/headers/{mc.hex_name(node.headers[3998])}.bin", ls.reply(404))
    server.serve(f"/rest/headers/2000/{mc.hex_name(node.headers[3998])}.bin", ls.reply(404))
    with ls.one_line_error(FetchError, "answered 404"):
        fetched(snapshots.fetch_answer)
    assert not ls.tree(home)


def test_a_node_without_end_is_left_at_the_height_that_it_told():
    """Always 1,999 new headers, though it has said that it ends at 5,000."""
    headers, heights, asked = [REGTEST.genesis], {mc.hex_name(REGTEST.genesis): 0}, []
    told = mc.MadeNode(REGTEST.genesis, blocks=5000)

    def get(url, query=None, secrets=None):
        if url.endswith(".json"):
            return told.get(url)
        asked.append(url)
        at = heights[url.rsplit("/", 1)[1].removesuffix(".bin")]
        while len(headers) < at + 2000:
            headers.append(mc.mined(mc.double_hash(headers[-1]), mc.START + 600 * len(headers), mc.EASY_BITS))
            heights[mc.hex_name(headers[-1])] = len(headers) - 1
        return snapshots.Answer(url, query, b"".join(headers[at : at + 2000]))

    assert parts(fetched(get)) == {"headers-0000000.bin": 1 + 3 * 1999}
    assert len(asked) == 3


def test_a_node_of_another_chain_that_says_it_is_this_one_is_refused(chain_data):
    chain = mc.easy_chain(mc.EASIEST_BITS)
    other = mc.grown(chain.genesis, mc.steady(50), chain)
    with ls.one_line_error(DataError, "none of the stored blocks of height 0 to 0|do not begin with block"):
        fetch_node(mc.MadeNode(other).get, REGTEST)
    with ls.one_line_error(DataError, "height 0 to 0"):
        fetch_node(mc.MadeNode(chain_data, name="main").get, MAIN)
    fetched(mc.MadeNode(chain_data).get)
    with ls.one_line_error(DataError, "none of the stored blocks of height 2483 to 4499"):
        fetch_node(mc.MadeNode(other).get, REGTEST)


# --- another program's node -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rpc():
    """Bitcoin Core's JSON-RPC of a bcoin node on regtest, in memory: `rpc(method, *parameters)`."""
    program = shutil.which("node")
    if not program or not (NODE_FOLDER / "node_modules" / "bcoin").is_dir():
        pytest.skip("no bcoin node: needs Node.js and, in tests/node, `npm install --ignore-scripts --omit=optional`")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([program, str(NODE_FOLDER / "regtest.js"), str(port)], **pipes)
    try:
        assert process.stdout.readline() == b"open\n", process.stderr.read().decode()

        def ask(*calls):
            asked = [{"method": method, "params": parameters} for method, *parameters in calls]
            answers = httpx.post(f"http://127.0.0.1:{port}/", json=asked, timeout=30, trust_env=False).json()
            assert not [answer for answer in answers if answer["error"]]
            return [answer["result"] for answer in answers]

        yield ask
    finally:
        process.kill()
        process.communicate()


def test_the_headers_of_another_program_s_node_go_through_end_to_end(server, rpc):
    dice, now = random.Random(4), int(time.time()) - 40 * 86_400
    for _ in range(15):  # ten blocks at a time, some 2 days apart, with clocks that go back
        now += dice.randrange(86_400, 3 * 86_400)
        rpc(("setmocktime", now + dice.randrange(-1800, 1800)), ("generate", 10))
    names = rpc(*(("getblockhash", height) for height in range(151)))
    raw = rpc(*(("getblockheader", name, False) for name in names))
    told = pd.DataFrame(rpc(*(("getblockheader", name) for name in names))).set_index("height")
    data = bytes.fromhex("".join(raw))
    mc.MadeNode(data).serve(server)
    files = fetched(snapshots.fetch_answer)
    chain = whole_chain(files)
    assert chain == data and check(chain, REGTEST)[::-1].hex() == rpc(("getbestblockhash",))[0]
    found = blocks(chain)
    assert found.index.tolist() == told.index.tolist()
    assert found["time"].astype("datetime64[s]").astype("int64").tolist() == told["time"].tolist()
    assert found["clock"].astype("datetime64[s]").astype("int64").tolist() == told["mediantime"].tolist()
    assert found["difficulty"].tolist() == pytest.approx(told["difficulty"].tolist(), rel=1e-12)
    assert [work(chain[: 80 * height + 80]) for height in range(151)] == [int(one, 16) for one in told["chainwork"]]
    days = pd.to_datetime(told["mediantime"], unit="s").dt.floor("D")
    counts = days[1:][days < days.iloc[-1]].value_counts().sort_index()
    panel = daily(chain)
    assert panel["block_count"][counts.index].tolist() == counts.tolist()
    assert panel["block_count"].sum() == counts.sum() and panel["height"].iloc[-1] == counts.sum()
