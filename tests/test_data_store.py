"""The raw store: whole or not at all, verified at every read, one writer at a time."""

import datetime as dt
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import local_server as ls
from capitulation import cli
from capitulation.data import atomic, store
from capitulation.data.atomic import StoreError
from capitulation.data.http import Response
from capitulation.errors import DataError
from capitulation.paths import raw_folder

FACTS = {
    "licence": "free",
    "attribution": "somebody",
    "rows": 3,
    "first_day": "2022-01-01",
    "last_day": "2022-01-03",
    "panel_digest": "0" * 64,
    "notes": [],
    "findings": [],
}
FINDING = {
    "check": "unit", "severity": "failure", "column": "x", "days": 1, "value": None, "limit": 1.0,
    "first_day": "", "last_day": "", "message": "a wrong unit",
}  # fmt: skip
NOON = dt.datetime(2026, 1, 20, 12, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path))
    return tmp_path


def response(body=b"one"):
    headers = {"content-type": "text/csv", "set-cookie": "secret", "etag": 'W/"1"'}
    return Response("https://example.org/x", {"a": "b"}, 200, body, headers)


def save(hour=0, provider="coinmetrics", body=b"one", **options):
    when = NOON + dt.timedelta(hours=hour)
    answers = {"btc.csv": response(body), "page-01.json": response(b"[]")}
    return store.save_snapshot(provider, answers, FACTS, retrieved_at=when, **options)


def test_a_snapshot_is_stored_with_all_that_is_needed_to_trust_it():
    snapshot = save()
    assert snapshot.name == "coinmetrics/20260120T120000Z"
    assert snapshot.files() == {"btc.csv": b"one", "page-01.json": b"[]"}
    facts = json.loads((snapshot.folder / "manifest.json").read_text())
    assert facts["retrieved_at"] == "2026-01-20T12:00:00+00:00"
    entry = facts["files"]["btc.csv"]
    assert entry["url"] == "https://example.org/x"
    assert entry["query"] == {"a": "b"}
    assert entry["bytes"] == 3
    assert entry["sha256"] == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    assert "set-cookie" not in entry["headers"]
    assert {key: facts[key] for key in FACTS} == FACTS
    assert not (snapshot.folder / "btc.csv").stat().st_mode & 0o222, "raw files are never edited"


def test_the_newest_good_snapshot_is_taken():
    save(0)
    newest = save(5)
    save(2)
    assert store.newest_snapshot("coinmetrics")[0].name == newest.name
    assert store.newest_snapshot("mempool_space") == (None, ())


def test_two_fetches_in_one_second_are_both_kept_in_order():
    names = [save().folder.name for _ in range(12)]
    assert names[:2] == ["20260120T120000Z", "20260120T120000Z-2"]
    assert store.newest_snapshot("coinmetrics")[0].folder.name == "20260120T120000Z-12"


TAMPERED = {
    "a byte changed": lambda folder: rewrite(folder / "btc.csv", b"two"),
    "a file emptied": lambda folder: rewrite(folder / "btc.csv", b""),
    "a file removed": lambda folder: (folder / "btc.csv").unlink(),
    "a file added": lambda folder: (folder / "extra.csv").write_bytes(b"x"),
    "a file made a folder": lambda folder: ((folder / "btc.csv").unlink(), (folder / "btc.csv").mkdir()),
    "the manifest removed": lambda folder: (folder / "manifest.json").unlink(),
    "the manifest cut off": lambda folder: rewrite(folder / "manifest.json", b'{"format": 1,'),
    "the manifest is a list": lambda folder: rewrite(folder / "manifest.json", b"[]"),
    "the manifest is binary": lambda folder: rewrite(folder / "manifest.json", bytes(range(256))),
    "the manifest nests too deeply": lambda folder: rewrite(folder / "manifest.json", b"[" * 100_000),
    "of another provider": lambda folder: edit_manifest(folder, provider="elsewhere"),
    "of another format": lambda folder: edit_manifest(folder, format=99),
    "a time without zone": lambda folder: edit_manifest(folder, retrieved_at="2026-01-20T12:00:00"),
    "a time that is none": lambda folder: edit_manifest(folder, retrieved_at="noon"),
    "no files": lambda folder: edit_manifest(folder, files={}),
    "a path as file name": lambda folder: edit_manifest(folder, files={"../../x": {"sha256": "0" * 64}}),
    "an absolute path": lambda folder: edit_manifest(folder, files={"/etc/passwd": {"sha256": "0" * 64}}),
    "notes that are no text": lambda folder: edit_manifest(folder, notes=[{"x": 1}]),
    "notes that are one text": lambda folder: edit_manifest(folder, notes="abc"),
    "findings that are a mapping": lambda folder: edit_manifest(folder, findings={}),
    "a finding whose value is no number": lambda folder: edit_manifest(
        folder, findings=[FINDING | {"value": float("nan")}]
    ),
    "a finding whose days are text": lambda folder: edit_manifest(folder, findings=[FINDING | {"days": "<b>"}]),
    "no number of rows": lambda folder: edit_manifest(folder, rows=None),
    "a day that is none": lambda folder: edit_manifest(folder, last_day="zzzz"),
    "a file without query": lambda folder: edit_file(folder, query=None),
    "a file without size": lambda folder: edit_file(folder, bytes="<script>"),
    "a file whose address is a list": lambda folder: edit_file(folder, url=["x"]),
    "quarantined, moved among the good": lambda folder: edit_manifest(folder, quarantined=True),
    "findings that are none": lambda folder: edit_manifest(folder, findings=[{"message": "<script>"}]),
}


def rewrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def edit_manifest(folder: Path, **changes) -> None:
    path = folder / "manifest.json"
    rewrite(path, json.dumps(json.loads(path.read_text()) | changes).encode())


def edit_file(folder: Path, **changes) -> None:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    edit_manifest(folder, files=files | {"btc.csv": files["btc.csv"] | changes})


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_snapshot_is_refused_named_and_the_older_one_used(name):
    older = save(0)
    newer = save(1)
    TAMPERED[name](newer.folder)
    snapshot, refused = store.newest_snapshot("coinmetrics")
    assert snapshot.name == older.name
    assert len(refused) == 1
    assert newer.name in refused[0]
    assert "refused" in refused[0]
    assert "\n" not in refused[0]
    verdicts = {verdict.name: verdict for verdict in store.check_data()}
    assert not verdicts[newer.name].good
    assert verdicts[older.name].good
    with pytest.raises(DataError, match="refused"):
        store.find_snapshot(newer.name)
    ls.record_outcome("tampering", f"stored snapshot: {name}", 1, "refused, older snapshot used")


def test_what_is_not_a_snapshot_is_not_read():
    parent = save().folder.parent
    for name in (".writing-99", "notes", "20260121T000000Z.bak", "2026-01-21"):
        shutil.copytree(parent / "20260120T120000Z", parent / name)
    (parent / "20270101T000000Z").write_text("a file, not a folder")
    assert [path.name for path in store.snapshot_folders("coinmetrics")] == ["20260120T120000Z"]


@pytest.mark.parametrize(
    "name", ["", "x", "../etc/20260120T120000Z", "coinmetrics/../../x", "coinmetrics/..", "/20260120T120000Z"]
)
def test_a_snapshot_is_found_by_its_name_only(name):
    save()
    with pytest.raises(DataError, match="not a snapshot's name"):
        store.find_snapshot(name)
    with pytest.raises(DataError, match="not in data/raw"):
        store.find_snapshot("coinmetrics/20990101T000000Z")


@pytest.mark.parametrize("name", ["../x", "/x", "x/y", "", "manifest.json", "X", ".hidden", "a\x00b"])
def test_only_plain_file_names_are_stored(name):
    with pytest.raises(ValueError, match="not a file name"):
        store.save_snapshot("coinmetrics", {name: response()}, FACTS)
    assert ls.tree(raw_folder()) == {}


def test_quarantined_answers_are_kept_and_listed_but_never_used():
    answers = {"btc.csv": response()}
    store.save_snapshot("coinmetrics", answers, FACTS | {"findings": [FINDING]}, retrieved_at=NOON, quarantine=True)
    assert store.newest_snapshot("coinmetrics") == (None, ())
    [verdict] = store.check_data()
    assert verdict.status == "quarantined"
    assert verdict.good
    assert "a wrong unit" in str(verdict)


def test_having_nothing_to_verify_is_said(capsys):
    assert cli.main(["check-data"]) == 0
    assert capsys.readouterr().err == "no snapshot in data/raw: nothing to verify; make fetch stores one\n"
    save()
    assert cli.main(["check-data"]) == 0
    out, err = capsys.readouterr()
    assert out == "good         coinmetrics/20260120T120000Z: 3 days, 2022-01-01 to 2022-01-03\n"
    assert err == ""


# --- a disk that does not play along -------------------------------------------------------------------------------

STEPS = ["mkdir", "open", "fsync", "chmod", "rename"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("step", STEPS)
def test_a_disk_error_at_any_step_is_one_line_and_changes_nothing(monkeypatch, step, number):
    save(0)
    before = ls.tree(raw_folder())

    def fail(*_arguments, **_names):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if step == "fsync":
            patch.setattr(atomic.os, "fsync", fail)
        else:
            patch.setattr(atomic.Path, step, fail)
        with pytest.raises(StoreError, match=r"data/raw: cannot be (written|locked)") as caught:
            save(1)
    assert os.strerror(number) in str(caught.value)
    assert ls.tree(raw_folder()) == before
    assert all(verdict.good for verdict in store.check_data())
    assert save(2).files()
    ls.record_outcome("crash", f"disk: {os.strerror(number)} at {step}", 1, "one clear line, store unchanged")


LIMITED = """
import resource, sys
sys.path.insert(0, {tests!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
import test_data_store as t
try:
    t.save(1, body=b"x" * 1_000_000)
except t.StoreError as error:
    print(error)
"""


def test_a_write_that_the_system_cuts_off_leaves_nothing(home):
    save(0)
    before = ls.tree(raw_folder())
    code = LIMITED.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("data/raw: cannot be written (File too large)")
    assert ls.tree(raw_folder()) == before


def test_a_file_where_the_store_should_be_is_one_line(home):
    (home / "data").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be locked"):
        save()


# --- several at once -------------------------------------------------------------------------------------------------


def test_a_second_writer_waits_and_says_so():
    lines, held, release = [], threading.Event(), threading.Event()

    def hold():
        with store.store_lock():
            held.set()
            release.wait(5)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)
    threading.Timer(0.3, release.set).start()
    began = time.monotonic()
    snapshot = save(1, progress=lines.append)
    assert time.monotonic() - began > 0.2
    assert lines == ["another process is writing to data/raw; waiting for it"]
    assert snapshot.files()
    holder.join()


def test_a_lock_that_is_never_released_is_given_up(monkeypatch):
    monkeypatch.setattr(atomic, "LOCK_SECONDS", 0.2)
    held, release = threading.Event(), threading.Event()

    def hold():
        with store.store_lock():
            held.set()
            release.wait(5)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)
    with pytest.raises(StoreError, match="locked by another process"):
        save()
    release.set()
    holder.join()


WRITER = """
import sys
sys.path.insert(0, {tests!r})
import test_data_store as t
for number in range(4):
    t.save(body=bytes([{writer}]) * 300_000)
"""


def test_writers_side_by_side_lose_and_mix_nothing(home):
    code = [WRITER.format(tests=str(Path(__file__).parent), writer=writer) for writer in range(3)]
    running = [subprocess.Popen([sys.executable, "-c", text]) for text in code]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    folders = store.snapshot_folders("coinmetrics")
    bodies = [store.verify_snapshot(folder).files()["btc.csv"] for folder in folders]
    assert len(bodies) == 12
    assert all(len(set(body)) == 1 and len(body) == 300_000 for body in bodies)
    assert sorted(body[0] for body in bodies) == sorted([0, 1, 2] * 4)
    ls.record_outcome("concurrency", "three writers of snapshots at once", 12, "all stored, none mixed")
