"""One answer over HTTP, and the raw store: every fault is retried or one clear line; whole or not at all, verified."""

import datetime as dt
import errno
import gzip
import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from filelock import FileLock

import local_server as ls
from capitulation.data import snapshots
from capitulation.data.checks import finding
from capitulation.data.snapshots import Answer, FetchError, fetch_answer
from capitulation.errors import CapitulationError, DataError
from capitulation.paths import raw_folder

BODY = b'{"data": [1, 2, 3]}' * 200
BOMB = gzip.compress(b"0" * 50_000_000)


@pytest.fixture
def server(monkeypatch):
    ls.be_quick(monkeypatch, timeout=3.0)
    monkeypatch.setattr(snapshots, "MAX_BYTES", 200_000)
    with ls.LocalServer() as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path))
    return tmp_path


TRANSIENT = {
    "reset in mid-body": ls.cut_short(BODY, reset=True),
    "connection closed in mid-body": ls.cut_short(BODY),
    "429 with Retry-After": ls.reply(429, Retry_After="0.05"),
    "429 with an absurd date": ls.reply(429, Retry_After="Fri, 31 Dec 2199 23:59:59 GMT"),
    "503": ls.reply(503),
    "no answer in time": lambda handler: time.sleep(0.8),
}
LASTING = {
    "404": (ls.reply(404), "answered 404"),
    "204": (ls.reply(204), "answered 204"),
    "429 for an hour": (ls.reply(429, Retry_After="3600"), "asks to wait 3600 s"),
    "500 always": (ls.reply(500), r"answered 500 \(3 tries\)"),
    "slow drip": (ls.drip, "not answered in full within 1 s"),
    "endless body": (ls.endless, "larger than 200,000 bytes"),
    "gzip bomb": (ls.reply(body=BOMB, Content_Encoding="gzip"), "encoding 'gzip' was not asked for"),
    "redirect": (ls.reply(302, Location="/y?key=1"), r"redirect to http://127.0.0.1:\d+/y, not followed"),
    "redirect elsewhere": (ls.reply(301, Location="https://a.example/z"), "redirect to https://a.example/z, not"),
    "redirect to a file": (ls.reply(302, Location="file:///etc/passwd"), "redirect to file:/.*, not"),
    "redirect to no address": (ls.reply(302, Location="http://[::1"), "Invalid URL"),
    "not HTTP": (lambda handler: handler.wfile.write(b"\x00\x01 what\r\n\r\n"), "the connection broke"),
}


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_passing_fault_is_retried_until_the_answer_is_whole(server, fault):
    server.serve("/x", TRANSIENT[fault], ls.reply(body=BODY, ETag="1", Set_Cookie="tracked"))
    lines = []
    answer = fetch_answer(f"{server.url}/x?token=1", {"a": "b"}, progress=lines.append)
    assert answer == Answer(f"{server.url}/x", {"a": "b"}, BODY)
    assert len(server.requests) == 2
    assert server.requests[0][2]["Accept-Encoding"] == "identity"
    assert len(lines) == 1 and "trying again" in lines[0]


@pytest.mark.parametrize("fault", LASTING)
def test_a_lasting_fault_ends_in_one_line_within_the_limits(server, fault, monkeypatch):
    behaviour, text = LASTING[fault]
    server.serve("/x", behaviour)
    if fault == "slow drip":
        ls.be_quick(monkeypatch, timeout=1.0)
    with ls.one_line_error(FetchError, text):
        fetch_answer(f"{server.url}/x")


def test_what_is_not_there_is_asked_once_and_a_refused_connection_again(server):
    with pytest.raises(FetchError, match=r"no-such-host\.invalid: cannot be reached \([^()]*\)$"):
        fetch_answer("http://no-such-host.invalid/x")
    with pytest.raises(FetchError, match=r"refused.*\(3 tries\)"):
        fetch_answer("http://127.0.0.1:1/x")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("ALL_PROXY", "socks5://me:pw@127.0.0.1:1", "socks5://127.0.0.1:1"),
        ("https_proxy", "me:pw@127.0.0.1:1", "127.0.0.1:1"),
        ("HTTPS_PROXY", "warp://me:pw@127.0.0.1:1", "warp://127.0.0.1:1"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("SSL_CERT_FILE", __file__, __file__),
    ],
    ids=["socks", "refused", "unknown", "absent", "no certificate"],
)
def test_an_environment_that_cannot_be_used_is_named_in_one_line(monkeypatch, name, value, shown):
    ls.be_quick(monkeypatch)
    for other in (*snapshots.PROXIES, *snapshots.CERTIFICATES):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    with ls.one_line_error(FetchError, rf"a\.example: .*{name}={re.escape(shown)}[ )]?") as caught:
        fetch_answer("https://a.example/x")
    assert "me:" not in str(caught.value) and "pw" not in str(caught.value)


def test_a_socks_proxy_is_used(monkeypatch):
    def serve():
        peer, _address = listener.accept()
        with peer:
            for said in (
                b"\x05\x00",
                b"\x05\x00\x00\x01" + bytes(6),
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            ):
                peer.recv(9999)
                peer.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{listener.getsockname()[1]}")
        threading.Thread(target=serve, daemon=True).start()
        assert fetch_answer("http://a.example/x").body == b"ok"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_no_proxy_is_asked_for_this_machine(server, monkeypatch, host):
    for name in (*snapshots.PROXIES, "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.serve(ls.API, ls.reply(body=b"ok"))
    address = f"{server.url}{ls.API}".replace("127.0.0.1", host)
    if host == "127.0.0.2":
        with ls.one_line_error(FetchError) as caught:
            fetch_answer(address.replace("http:", "https:"))
        assert "PROXY" not in str(caught.value)
    else:
        assert fetch_answer(address).body == b"ok"


ECHOES = {  # how an answer repeats the key, which {0} stands for as it is and {1} as addresses write it
    "in an address": (302, {"Location": "ftp://me:pw@elsewhere/{1}?api_key={1}"}),
    "as a host": (302, {"Location": "http://{1}.example/"}),
    "as a time to wait": (429, {"Retry_After": "{0}"}),
    "as an encoding": (200, {"Content_Encoding": "x{0}"}),
    "as no header": (200, {"{0}\x00": "x"}),
}


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("key", ["S3cret-key.value", "S3cret key/+", "8" * 8])
def test_a_header_that_repeats_the_secret_shows_it_nowhere(server, echo, key):
    status, headers = ECHOES[echo]
    forms = key, quote(key, safe="")
    server.serve("/x", ls.reply(status, **{k.format(*forms): v.format(*forms) for k, v in headers.items()}))
    lines = []
    with pytest.raises(FetchError) as caught:
        fetch_answer(f"{server.url}/x", {}, {"api_key": key}, lines.append)
    said = " ".join([*lines, str(caught.value)]).lower()
    assert not any(form.lower() in said for form in forms) and "me:pw" not in said


def test_a_secret_shows_up_nowhere(server, caplog):
    """Not in the answer, the messages or the libraries' logs, although the service repeats it."""
    key = "s3cret-key.value"
    caplog.set_level(logging.DEBUG)
    repeated = ls.reply(body=f'{{"next": "x?api_key={key}"}}'.encode(), ETag=f'"{key}"', X_Key=key)
    server.serve("/x", ls.reply(500), repeated)
    lines = []
    url = server.url.replace("http://", "http://me:pw@") + "/x"
    answer = fetch_answer(url, {"a": "b"}, {"api_key": key}, lines.append)
    assert server.requests[-1][1]["api_key"] == key, "the service itself must get it"
    server.serve("/x", ls.reply(302, Location=f"ftp://me:pw@elsewhere/{key}?api_key={key}"))
    with pytest.raises(FetchError, match="redirect to ftp://elsewhere/") as caught:
        fetch_answer(url, {"a": "b"}, {"api_key": key}, lines.append)
    said = " ".join([*lines, str(caught.value), repr(answer), caplog.text])
    assert "s3cret" not in said and "me:pw" not in said
    assert b"***" in answer.body


FACTS = {"licence": "free", "attribution": "somebody", "rows": 3, "notes": [], "findings": []}
FACTS |= {"first_day": dt.date(2022, 1, 1), "last_day": dt.date(2022, 1, 3)}
FINDING = finding("unit", "failure", "x", "a wrong unit", limit=1.0)
NOON = dt.datetime(2026, 1, 20, 12, tzinfo=dt.UTC)


def save(hour=0, body=b"one", **facts):
    bodies = {"btc.csv": body, "page-01.json": b"[]"}
    answers = {name: Answer("https://example.org/x", {"a": "b"}, data) for name, data in bodies.items()}
    facts = {**FACTS, "retrieved_at": NOON + dt.timedelta(hours=hour), **facts}
    return snapshots.save_snapshot("coinmetrics", answers, **facts)


def folder_of(snapshot):
    return raw_folder() / snapshot.name


def test_a_snapshot_is_stored_with_all_that_is_needed_to_trust_it():
    snapshot, *others = [save() for _ in range(12)]
    assert snapshots.snapshot_names("coinmetrics") == [other.name for other in (snapshot, *others)][::-1]
    assert snapshot.name == "coinmetrics/20260120T120000Z"
    assert snapshots.find_snapshot(snapshot.name) == snapshot
    assert snapshot.files == {"btc.csv": b"one", "page-01.json": b"[]"}
    facts = json.loads((folder_of(snapshot) / "manifest.json").read_text())
    assert dt.datetime.fromisoformat(facts["retrieved_at"]) == NOON
    entry = facts["files"]["btc.csv"]
    assert (entry["url"], entry["query"], entry["bytes"]) == ("https://example.org/x", {"a": "b"}, 3)
    assert entry["sha256"] == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    assert not (folder_of(snapshot) / "btc.csv").stat().st_mode & 0o222, "raw files are never edited"
    edit(folder_of(snapshot), file={"status": 200, "headers": {"etag": "x"}}, findings=[FINDING])
    older = snapshots.find_snapshot(snapshot.name)
    assert older.files == snapshot.files, "fields of earlier manifests are passed over"


def rewrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def edit(folder: Path, file: dict | None = None, **changes) -> None:
    facts = json.loads((folder / "manifest.json").read_text()) | changes
    facts["files"].get("btc.csv", {}).update(file or {})
    rewrite(folder / "manifest.json", json.dumps(facts).encode())


TAMPERED = {
    "a byte changed": lambda folder: rewrite(folder / "btc.csv", b"two"),
    "a file added": lambda folder: (folder / "extra.csv").write_bytes(b"x"),
    "a file made a folder": lambda folder: ((folder / "btc.csv").unlink(), (folder / "btc.csv").mkdir()),
    "the manifest removed": lambda folder: (folder / "manifest.json").unlink(),
    "the manifest cut off": lambda folder: rewrite(folder / "manifest.json", b'{"format": 1,'),
    "the manifest nests too deeply": lambda folder: rewrite(folder / "manifest.json", b"[" * 100_000),
    "of another provider": lambda folder: edit(folder, provider="elsewhere"),
    "a time without zone": lambda folder: edit(folder, retrieved_at="2026-01-20T12:00:00"),
    "no files": lambda folder: edit(folder, files={}),
    "a path as file name": lambda folder: edit(folder, files={"../../x": {"sha256": "0" * 64}}),
    "a finding of no size": lambda folder: edit(folder, findings=[FINDING | {"value": float("nan")}]),
    "a finding whose days are text": lambda folder: edit(folder, findings=[FINDING | {"days": "<b>"}]),
    "a file without size": lambda folder: edit(folder, file={"bytes": "<script>"}),
    "quarantined, moved among the good": lambda folder: edit(folder, quarantined=True),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_snapshot_is_refused_and_named(name):
    older, newer = save(0), save(1)
    TAMPERED[name](folder_of(newer))
    (bad, named, reason), (good, other, _span) = snapshots.check_data()
    assert (bad, named, good, other) == ("refused", newer.name, "good", older.name)
    with ls.one_line_error(DataError, rf"{newer.name}.*; refused$") as caught:
        snapshots.find_snapshot(newer.name)
    assert str(caught.value) == reason
    assert str(folder_of(newer)) not in str(caught.value)


def test_what_is_not_a_snapshot_is_not_read():
    snapshot = save()
    folder = folder_of(snapshot)
    for name in (".writing-99", "notes", "20260121T000000Z.bak", "2026-01-21"):
        (folder.parent / name).mkdir()
    (folder.parent / "20270101T000000Z").write_text("a file, not a folder")
    assert snapshots.snapshot_names("coinmetrics") == [snapshot.name]
    for name in ("", "x", "../etc/20260120T120000Z", "coinmetrics/../../x", "coinmetrics/..", "/20260120T120000Z"):
        with pytest.raises(snapshots.SnapshotMissing):
            snapshots.find_snapshot(name)
        answers = {f"{name}/": Answer("x", {}, b"")}
        with pytest.raises(ValueError, match="files"):
            snapshots.save_snapshot("coinmetrics", answers, **FACTS, retrieved_at=NOON)


def test_quarantined_answers_are_kept_and_listed_but_never_used():
    save(quarantined=True, findings=[FINDING])
    assert snapshots.snapshot_names("coinmetrics") == []
    [(status, _name, reason)] = snapshots.check_data()
    assert status == "quarantined" and "a wrong unit" in reason


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("step", ["mkdir", "write_bytes", "chmod", "rename"])
def test_a_disk_error_at_any_step_is_one_line_and_changes_nothing(monkeypatch, step, number):
    save(0)
    before = ls.tree(raw_folder())

    def fail(*_arguments, **_names):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            save(1)
    assert ls.tree(raw_folder()) == before
    assert save(2).files


def test_a_second_writer_waits_and_gives_up_at_the_limit(monkeypatch):
    lock = FileLock(folder_of(save()).parents[1] / ".lock", thread_local=False)
    lock.acquire()
    monkeypatch.setattr(snapshots, "LOCK_SECONDS", 0.1)
    with pytest.raises(CapitulationError, match="locked by another process"):
        save()
    monkeypatch.setattr(snapshots, "LOCK_SECONDS", 5.0)
    threading.Timer(0.2, lock.release).start()
    assert save().files


def test_writers_side_by_side_and_killed_ones_leave_whole_snapshots_only():
    programs = [subprocess.Popen([sys.executable, __file__, name], stderr=subprocess.PIPE) for name in ("10", "kill")]
    assert [program.communicate(timeout=100)[1] for program in programs] == [b"", b""]
    save()
    assert {status for status, *_ in snapshots.check_data()} == {"good"}, "nor does anything need cleaning"
    bodies = [snapshots.find_snapshot(name).files["btc.csv"] for name in snapshots.snapshot_names("coinmetrics")]
    assert {len(set(body)) for body in bodies[1:]} == {1}
    assert sum(body[:1] == b"w" for body in bodies) == 10


def kill() -> None:
    """Kill -9 ten writing children at random moments, every other one while a folder is being written."""
    moments = random.Random(17)
    for number in range(10):
        child = os.fork()
        while child == 0:
            save(body=b"k" * 300_000)
        end = time.monotonic() + moments.uniform(0, 0.05)
        while time.monotonic() < end or (number % 2 and not list((raw_folder() / "coinmetrics").glob(".writing-*"))):
            time.sleep(0.0002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert "refused" not in {status for status, *_ in snapshots.check_data()}


if __name__ == "__main__":
    if sys.argv[1] == "kill":
        kill()
    else:
        for _ in range(int(sys.argv[1])):
            save(body=b"w" * 300_000)
