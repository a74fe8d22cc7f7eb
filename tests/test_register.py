"""The register of forecasts: every later change is named, nothing is lost or doubled, only what counts enters."""

from __future__ import annotations

import datetime as dt
import errno
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import homes
import local_server as ls
from capitulation import cli
from capitulation.data import register
from capitulation.errors import CapitulationError, DataError
from capitulation.paths import register_folder
from capitulation.report.tables import csv_text

NOW, END = dt.datetime(2026, 11, 26, 3, 40, tzinfo=dt.UTC), pd.Timestamp("2027-06-01")
BY = {"source": "coinmetrics", "code_version": "0.4.0+0123456789ab"}
QUIET = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
ANY = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=",\ufffd"), max_size=20)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path))
    for name in cli.OPTIONS:
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


def forecasts(number: int = 6, as_of: str = "2026-11-25", **columns) -> pd.DataFrame:
    """`number` forecasts of one day, for as many horizons."""
    frame = pd.DataFrame(dict.fromkeys(register.FORECAST, np.nan), index=range(number))
    kinds = {"kind": "capitulation ends", "data_sha256": sha256(as_of.encode()).hexdigest()}
    odds = np.linspace(0.1, 0.9, number)
    ahead = {"days": range(1, number + 1), "target_day": END, "probability": odds}
    return frame.assign(as_of=pd.Timestamp(as_of), **{**kinds, **ahead, **columns})


def add(rows: pd.DataFrame, days: int = 0, **more) -> int:
    return register.append(rows, **{"made_at": NOW + dt.timedelta(days=days), **BY, **more})


def filled() -> Path:
    """A register of ten rows, written on two days; the path of its CSV."""
    add(forecasts(6))
    add(forecasts(4, "2026-11-26"), days=1)
    return register_folder() / register.REGISTER


def numbers() -> list[int]:
    return register.read_register()["number"].tolist()


def state() -> tuple[str, str]:
    """How `make check-data` has it, and why."""
    [(found, name, why)] = register.check_register()
    assert name == "register/forecasts.csv" and "\n" not in why
    return found, why


# --- what is written --------------------------------------------------------------------------------------------------


def test_rows_come_back_with_their_types_and_in_a_chain():
    assert register.read_register().empty and register.check_register() == []
    size = forecasts(1, kind="adjustment size", days=np.nan, probability=np.nan, q500=-0.03, height=979_776)
    assert (add(forecasts(2)), add(size, days=1)) == (2, 1)
    rows = register.read_register()
    assert tuple(rows.columns) == register.COLUMNS and rows["number"].tolist() == [1, 2, 3]
    made = [pd.Timestamp("2026-11-26 03:40")] * 2 + [pd.Timestamp("2026-11-27 03:40")]
    assert rows["made_at"].tolist() == made and rows["as_of"].dtype == rows["target_day"].dtype == "datetime64[us]"
    assert rows["height"].dtype == "Int64" and rows["days"].dtype == rows["q025"].dtype == float
    assert rows["height"].isna().tolist() == [True, True, False] and rows["height"][2] == 979_776
    assert rows["days"].isna().tolist() == rows["probability"].isna().tolist() == [False, False, True]
    assert rows["previous"].tolist() == [register.START, *rows["hash"][:-1]]
    assert dict.fromkeys(BY, 1) == {name: rows[name].nunique() for name in BY}
    found, why = state()
    assert found == "good" and "3 forecasts, 2026-11-26 to 2026-11-27" in why


def test_the_hash_of_a_row_is_what_anybody_reckons_from_its_line():
    lines = filled().read_bytes().splitlines()
    for line, before in zip(lines[2:], lines[1:], strict=False):
        content, _, said = line.rpartition(b",")
        assert sha256(content).hexdigest().encode() == said and content.endswith(before.rpartition(b",")[2])
    head = json.loads((register_folder() / register.HEAD).read_bytes())
    assert head == {"number": 10, "hash": lines[-1].rpartition(b",")[2].decode()}


def test_what_stands_already_is_not_added_again_nor_what_is_decided_already():
    assert add(forecasts(3)) == 3
    before = ls.tree(register_folder())
    assert add(forecasts(3, probability=0.5), days=1) == 0 and add(pd.concat([forecasts(2)] * 2)) == 0
    assert ls.tree(register_folder()) == before
    assert add(forecasts(4), days=1) == 1, "another horizon"
    assert add(forecasts(4, data_sha256="f" * 64), days=1) == 4, "revised data"
    assert add(pd.concat([forecasts(2, "2026-11-26")] * 2), days=1) == 2, "twice in one report"
    due = [NOW.date() + dt.timedelta(days) for days in (0, 1, 2)]
    assert add(forecasts(4, "2026-11-24", target_day=[*due, None]), days=1) == 1, "only what is decided later"
    assert numbers() == [*range(1, 12)]


def test_a_clock_that_went_back_is_refused_and_a_writer_that_waited_is_not():
    filled()
    before = ls.tree(register_folder())
    with ls.one_line_error(DataError, "row 10 .*2026-11-27T03:40:00Z.*2026-11-26T03:40:00Z"):
        add(forecasts(1, "2026-11-20"))
    assert ls.tree(register_folder()) == before
    assert add(forecasts(1, "2026-11-27"), made_at=NOW + dt.timedelta(days=1, seconds=-5)) == 1
    assert register.read_register()["made_at"].is_monotonic_increasing and state()[0] == "good"
    midnight = NOW.replace(hour=0, minute=0) + dt.timedelta(days=3)
    add(forecasts(1, "2026-11-28"), made_at=midnight)
    due = forecasts(1, "2026-11-27", days=99, target_day=midnight.date())
    assert add(due, made_at=midnight - dt.timedelta(seconds=5)) == 0, "decided while it waited"


@QUIET
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=6, max_size=6))
def test_floats_come_back_bit_for_bit(values):
    """Through the table of a report as well."""
    shutil.rmtree(register_folder(), ignore_errors=True)
    frame = forecasts(1, **dict(zip(register.NUMBERS, values, strict=True)))
    table = pd.read_csv(io.StringIO(csv_text(frame)), dtype=str, keep_default_na=False)
    assert add(frame) == add(table.assign(kind="through a table")) == 1
    for row in register.read_register()[[*register.NUMBERS]].to_numpy():
        assert row.tobytes() == np.array(values).tobytes()


@pytest.mark.parametrize(
    "rows",
    [
        forecasts(1).drop(columns="height"),
        forecasts(1).assign(as_of="soon"),
        forecasts(1, q500="much"),
        forecasts(1, kind="up, or down"),
        forecasts(1, kind="up\ndown"),
        forecasts(1, kind="up \ufffd"),
    ],
    ids=["column", "day", "number", "comma", "line break", "no sign"],
)
def test_what_cannot_be_written_is_one_line_and_adds_nothing(rows):
    with ls.one_line_error(DataError):
        add(rows)
    assert not register_folder().exists()


# --- broken on purpose ------------------------------------------------------------------------------------------------


def sealed(line: bytes, **changes: bytes) -> bytes:
    """A row with `changes` and a hash that is right for them."""
    row = dict(zip(register.COLUMNS, line.split(b","), strict=True)) | changes
    content = b",".join([*row.values()][:-1])
    return content + b"," + sha256(content).hexdigest().encode()


def resealed(lines: list[bytes], at: int, **changes: bytes) -> list[bytes]:
    """Row `at` changed, and its hash and every later one made anew."""
    lines = [*lines[:at], sealed(lines[at], **changes), *lines[at + 1 :]]
    for number in range(at + 1, len(lines)):
        lines[number] = sealed(lines[number], previous=lines[number - 1].rpartition(b",")[2])
    return lines


def swapped(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], lines[5], lines[4], *lines[6:]]


CONFLICT = [b"<<<<<<< HEAD", b"=======", b">>>>>>> theirs"]
BREAKS = {  # the lines of the CSV (line 0: its header, line n: row n) -> what they become; what must be named
    "a value changed": (lambda x: [*x[:4], x[4].replace(b",0.", b",0.9"), *x[5:]], "row 4 .*changed"),
    "the source changed": (lambda x: [*x[:4], x[4].replace(b"coinmetrics", b"file"), *x[5:]], "row 4 .*changed"),
    "a hash changed": (lambda x: [*x[:4], x[4][:-1] + b"g", *x[5:]], "row 4 .*changed"),
    "a number changed": (lambda x: [*x[:4], x[4].replace(b"4,", b"44,", 1), *x[5:]], "row 4 .*changed"),
    "the last row changed": (lambda x: [*x[:-1], x[-1].replace(b"ends", b"starts")], "row 10 .*changed"),
    "a row dropped": (lambda x: x[:4] + x[5:], "row 4 .*missing"),
    "rows dropped": (lambda x: x[:4] + x[7:], "rows 4 to 6 .*missing"),
    "the first row dropped": (lambda x: x[:1] + x[2:], "row 1 .*missing"),
    "the last row dropped": (lambda x: x[:-1], "row 10 .*cut off"),
    "all rows dropped": (lambda x: x[:1], "rows 1 to 10 .*cut off"),
    "rows swapped": (swapped, "row 4 .*after row 5"),
    "a row twice": (lambda x: [*x[:5], *x[4:]], "row 4 .*twice"),
    "a row put in": (lambda x: [*x[:5], sealed(x[5], kind=b"mine"), *x[5:]], "row 5 .*twice"),
    "a row put in for another": (lambda x: [*x[:5], sealed(x[5], kind=b"mine"), *x[6:]], "row 6 .*not follow"),
    "the last row hashed anew": (lambda x: [*x[:-1], sealed(x[-1], kind=b"mine")], "row 10 .*head"),
    "the tail hashed anew": (lambda x: resealed(x, 4, kind=b"mine"), "row 10 .*head"),
    "the tail of a fork, longer": (
        lambda x: resealed([*x, sealed(x[10], number=b"11")], 4, kind=b"mine"),
        "row 10 .*head",
    ),
    "made earlier, hashed anew": (lambda x: resealed(x, 9, made_at=b"2026-11-01T00:00:00Z"), "row 9 .*before"),
    "marks of a conflict": (
        lambda x: [*x[:5], CONFLICT[0], x[5], CONFLICT[1], *x[5:], CONFLICT[2]],
        "line 6 .*conflict",
    ),
    "half a line": (lambda x: [*x[:-1], x[-1][:50]], "line 11 .*unreadable"),
    "a field too many": (lambda x: [*x[:4], x[4] + b",", *x[5:]], "line 5 .*unreadable"),
    "bytes that are no text": (lambda x: [*x[:4], x[4].replace(b"ends", b"\xff\xfe"), *x[5:]], "line 5 .*unreadable"),
    "an empty line": (lambda x: [*x[:4], b"", *x[4:]], "line 5 .*unreadable"),
    "another header": (lambda x: [x[0].replace(b"kind", b"what"), *x[1:]], "first line"),
    "an empty file": (lambda x: [], "rows 1 to 10 .*cut off"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_chain_is_named_and_nothing_is_read_or_added(name):
    path, (change, named) = filled(), BREAKS[name]
    path.write_bytes(b"".join(line + b"\n" for line in change(path.read_bytes().splitlines())))
    found, why = state()
    assert found == "refused" and re.search(named, why), why
    before = ls.tree(register_folder())
    for use in (register.read_register, lambda: add(forecasts(1, "2026-11-27"), days=2)):
        with ls.one_line_error(DataError, named):
            use()
    assert ls.tree(register_folder()) == before


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        (register.REGISTER, None, "missing.* 10 forecasts"),
        (register.HEAD, None, "head.json is missing"),
        (register.HEAD, b"", "head.json is damaged"),
        (register.HEAD, b'{"number": Infinity, "hash": ""}', "head.json is damaged"),
        (register.HEAD, b'{"number": 11, "hash": "%s"}' % (b"0" * 64), "row 11 .*cut off"),
        (register.HEAD, b'{"number": 7, "hash": "%s"}' % (b"0" * 64), "row 7 .*head"),
    ],
)
def test_a_file_that_is_gone_or_wrong_is_named(name, content, named):
    filled()
    (register_folder() / name).unlink()
    if content is not None:
        (register_folder() / name).write_bytes(content)
    assert re.search(named, state()[1]) and state()[0] == "refused"
    with ls.one_line_error(DataError, named):
        add(forecasts(1, "2026-11-27"), days=2)


def test_many_faults_make_one_short_line():
    path = filled()
    path.write_bytes(path.read_bytes().replace(b"ends", b"starts"))
    assert len(state()[1]) < 400 and re.search("row 1 .*row 5 .* 5 more", state()[1])


def test_line_ends_of_another_system_change_nothing():
    path = filled()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\n", b"\r\n"))
    assert state()[0] == "good" and add(forecasts(1, "2026-11-27"), days=2) == 1
    assert path.read_bytes().startswith(content)


@pytest.fixture
def ten():
    """The lines of a register of ten rows, and a function that puts others in their place and gives the faults."""
    path = filled()

    def put(content: bytes | list[bytes]) -> str:
        path.write_bytes(content if isinstance(content, bytes) else b"".join(line + b"\n" for line in content))
        return "; ".join(register.stored()[2])

    return path.read_bytes().splitlines(), put


@QUIET
@given(number=st.integers(1, 10), column=st.sampled_from(register.COLUMNS), new=ANY)
def test_any_field_changed_is_found_and_its_row_named(ten, number, column, new):
    lines, put = ten
    row = dict(zip(register.COLUMNS, lines[number].decode().split(","), strict=True))
    changed = ",".join((row | {column: new}).values()).encode()
    found = put([*lines[:number], changed, *lines[number + 1 :]])
    assert found == "" if row[column] == new else f"row {number} was changed" in found


@QUIET
@given(first=st.integers(1, 10), more=st.integers(0, 9))
def test_any_rows_dropped_are_found_and_named(ten, first, more):
    lines, put = ten
    last = min(first + more, 10)
    assert re.search(
        rf"rows? {first}{f' to {last}' if last > first else ''} (is|are)", put(lines[:first] + lines[last + 1 :])
    )


@QUIET
@given(order=st.permutations(range(1, 11)))
def test_any_other_order_is_found(ten, order):
    lines, put = ten
    assert (put([lines[0], *(lines[number] for number in order)]) == "") == (order == sorted(order))


@QUIET
@given(at=st.integers(0, 2000), length=st.integers(0, 40), new=st.binary(max_size=40))
def test_any_bytes_written_over_are_found_or_change_no_row(ten, at, length, new):
    lines, put = ten
    content = b"".join(line + b"\n" for line in lines)
    if put(content[:at] + new + content[at + length :]) == "":
        assert [",".join(row.values()).encode() for row in register.stored()[0]] == lines[1:]


@QUIET
@given(head=st.binary(max_size=120))
def test_any_head_is_read_or_named(ten, head):
    (register_folder() / register.HEAD).write_bytes(head)
    assert register.stored()[2]


# --- interrupted, full, at once ---------------------------------------------------------------------------------------

STEPS, EACH = ("write_bytes", "replace"), 25


def failing(monkeypatch, step: str, call: int, fail) -> None:
    """From now on the `call`-th call of that step of writing a file fails."""
    real, left = getattr(Path, step), [call]

    def stub(*arguments):
        left[0] -= 1
        return fail() if left[0] == 0 else real(*arguments)

    monkeypatch.setattr(Path, step, stub)


def full(number: int = errno.ENOSPC) -> None:
    raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_disk_error_at_any_step_is_one_line_and_the_next_report_makes_it_good(monkeypatch, step, call, number):
    for rows, calls in ((forecasts(4), 3), (forecasts(9), 2)):  # a register that is new, and one that stands
        known = register.read_register()
        with monkeypatch.context() as patch:
            failing(patch, step, call, lambda: full(number))
            if call <= calls:
                with ls.one_line_error(CapitulationError, os.strerror(number)):
                    add(rows)
            else:
                add(rows)
        now = register.read_register()
        pd.testing.assert_frame_equal(now[: len(known)], known)
        assert len(now) in (len(known), len(rows)) and not list(register_folder().glob("*.partial"))
        add(rows)
        assert numbers() == [*range(1, len(rows) + 1)] and register.stored()[1] == len(rows)


def test_a_disk_that_fills_up_leaves_what_was_there():
    filled()
    before, (soft, hard) = ls.tree(register_folder()), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
        with ls.one_line_error(CapitulationError, "forecasts.csv"):
            add(forecasts(40, "2026-11-27"), days=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ls.tree(register_folder()) == before
    assert add(forecasts(40, "2026-11-27"), days=2) == 40 and state()[0] == "good"


def test_a_second_writer_waits_and_gives_up_at_the_limit(monkeypatch):
    filled()
    lock = FileLock(register_folder() / ".lock", thread_local=False)
    lock.acquire()
    monkeypatch.setattr(register, "LOCK_SECONDS", 0.1)
    with ls.one_line_error(CapitulationError, "locked by another process"):
        add(forecasts(1, "2026-11-27"), days=2)
    monkeypatch.setattr(register, "LOCK_SECONDS", 5.0)
    threading.Timer(0.2, lock.release).start()
    assert add(forecasts(1, "2026-11-27"), days=2) == 1


def programs(*commands: str) -> None:
    """Run the commands at the end of this file, each in a process of its own, at once; all must end well."""
    started = [subprocess.Popen([sys.executable, __file__, name], stderr=subprocess.PIPE) for name in commands]
    assert [program.communicate(timeout=200)[1] for program in started] == [b""] * len(commands)


def test_writers_and_a_reader_at_once_lose_and_double_nothing():
    programs("0", "1", "read")
    rows = register.read_register()
    assert numbers() == [*range(1, len(rows) + 1)] and state()[0] == "good"
    assert rows.groupby("kind").size().to_dict() == dict.fromkeys(("0", "1", "both"), EACH)
    assert not rows.duplicated([*register.SAME]).any()


def test_a_process_that_dies_at_any_step_leaves_a_register_that_verifies():
    programs("die")


@pytest.mark.slow
def test_processes_killed_at_random_moments_leave_a_register_that_verifies():
    programs("kill", "0")
    kinds = register.read_register().groupby("kind").size()
    assert kinds["0"] == kinds["both"] == EACH and register.stored()[1] == kinds.sum()


def write(who: str) -> None:
    """Forecasts of this writer's own and as many that the other one makes too, one at a time."""
    for number in range(EACH):
        for kind in (who, "both"):
            add(forecasts(1, kind=kind, days=number + 1), made_at=dt.datetime.now(dt.UTC))


def read() -> None:
    """What a reader finds is whole at any moment, and grows."""
    seen, end = 0, time.monotonic() + 100
    while seen < 3 * EACH and time.monotonic() < end:
        found = len(numbers())
        assert found >= seen
        seen = found


def die() -> None:
    """Kill -9 oneself before each call that changes a file, at the register's making and later."""
    total = 0
    for step in STEPS:
        for call in (1, 2, 3, 1, 2):
            child = os.fork()
            if child == 0:
                failing(pytest.MonkeyPatch(), step, call, lambda: os.kill(os.getpid(), signal.SIGKILL))
                add(forecasts(total + 5))
                os._exit(0)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
            found = numbers()
            assert found in ([*range(1, total + 1)], [*range(1, total + 6)])
            if call == 3 or total:
                add(forecasts(total + 5))
                total += 5
                assert numbers() == [*range(1, total + 1)] and register.stored()[1] == total
        shutil.rmtree(register_folder())
        total = 0


def kill() -> None:
    """Kill -9 a hundred writing children at random moments, every other one while a file is being written."""
    moments, before = random.Random(17), register.read_register()
    for number in range(100):
        child = os.fork()
        while child == 0:
            rows = forecasts(3, kind="killed", days=[moments.randrange(10**9) for _ in range(3)])
            add(rows.assign(data_sha256=f"{time.monotonic_ns()}"), made_at=dt.datetime.now(dt.UTC))
        end = time.monotonic() + moments.uniform(0, 0.1)
        while time.monotonic() < end or (number % 2 and not list(register_folder().glob(".*.partial"))):
            time.sleep(0.0002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        now = register.read_register()
        pd.testing.assert_frame_equal(now[: len(before)], before)
        assert not now.duplicated([*register.SAME]).any()
        before = now
    add(forecasts(1), made_at=dt.datetime.now(dt.UTC))


# --- which reports enter ----------------------------------------------------------------------------------------------

SAY = f"""{homes.OPEN}
import pandas as pd
from capitulation.data.panel import panel_digest
last = page.panel.index[-1]
names = {[*register.FORECAST]}
row = pd.DataFrame({{name: float('nan') for name in names}}, index=[30, 60])
ahead = row.index.map(lambda days: last + pd.Timedelta(days=days))
row = row.assign(as_of=last, kind='capitulation ends', days=row.index, target_day=ahead, probability=1 / 3)
page.save_table(row.assign(data_sha256=panel_digest(page.panel)), 'forecasts')
"""


@pytest.fixture
def market(home, monkeypatch):
    """A project folder with a page of forecasts; a function that writes data which end so many days ago."""
    homes.make_home(home)
    monkeypatch.chdir(home)
    homes.write_notebook(home, "10-sum-up", homes.SUM_UP.format(table="tail"))
    own = f"{homes.PARAMETERS}\nentry_lag_days = 1  # days: to the close"
    homes.write_notebook(home, "80-say-what-comes", SAY, parameters=own)

    def until(days_ago: int) -> pd.DataFrame:
        last = dt.datetime.now(dt.UTC).date() - dt.timedelta(days_ago)
        panel = ls.made_panel(200, end=f"{last}")
        (home / "btc.csv").write_bytes(ls.coinmetrics_csv(panel))
        return panel

    return until


def make(capsys, *arguments: str, data: bool = True) -> tuple[int, str, str]:
    code = cli.main(["report", *(["--data", "btc.csv"] if data else []), "--jobs", "2", *arguments])
    said = capsys.readouterr()
    return code, said.out.strip(), said.err


def test_a_report_on_fresh_real_data_enters_once(market, home, capsys):
    last = market(2).index[-1]
    code, out, err = make(capsys)
    assert (code, Path(out).is_file()) == (0, True) and "2 forecasts" in err.splitlines()[-1]
    rows = register.read_register()
    record = json.loads((home / "reports" / "latest" / "run.json").read_text())
    assert rows["as_of"].tolist() == [last, last] and rows["probability"].tolist() == [1 / 3, 1 / 3]
    assert set(rows["data_sha256"]) == {record["market"]["digest"]} and set(rows["source"]) == {"file"}
    [version] = set(rows["code_version"])
    assert re.fullmatch(rf"{re.escape(record['versions']['capitulation'])}\+[0-9a-f]{{12}}", version)
    before = ls.tree(register_folder())
    for arguments in ([], ["--force", "1"], ["--run", "other", "--set", "max_age_days=9 pages=[80] hold_days=21"]):
        code, _out, err = make(capsys, *arguments)
        assert code == 0 and "register" not in err
    assert ls.tree(register_folder()) == before
    market(1)
    assert make(capsys)[0] == 0 and len(register.read_register()) == 4, "a new day"


@pytest.mark.parametrize(
    ("days_ago", "arguments", "named"),
    [
        (4, [], "data end on"),
        (1, ["--as-of", "LAST"], "AS_OF"),
        (1, ["--set", "entry_lag_days=0"], "entry_lag_days"),
        (1, ["--set", "pages=[10]"], "no forecasts"),
        (None, ["--source", "simulated"], "simulated"),
    ],
)
def test_other_reports_never_enter_and_one_line_says_why(market, home, capsys, days_ago, arguments, named):
    last = "" if days_ago is None else f"{market(days_ago).index[-1]:%Y-%m-%d}"
    asked = [last if text == "LAST" else text for text in arguments]
    code, out, err = make(capsys, *asked, data=days_ago is not None)
    said = [line for line in err.splitlines() if line.startswith("register: ")]
    assert code == 0 and Path(out).is_file() and len(said) == 1 and named in said[0]
    assert not register_folder().exists()


def test_an_unchanged_report_makes_good_what_was_not_written_down(market, capsys, monkeypatch):
    market(1)
    with monkeypatch.context() as patch:
        patch.setattr(cli, "write_down", lambda run: None)
        make(capsys)
    assert not register_folder().exists()
    code, _out, err = make(capsys)
    assert code == 0 and "nothing changed" in err and len(register.read_register()) == 2


def test_a_broken_register_or_a_full_disk_fails_the_command_and_the_report_stays(market, home, capsys, monkeypatch):
    market(1)
    with monkeypatch.context() as patch:
        patch.setattr(register, "write_whole", lambda *_: full())
        code, out, err = make(capsys)
    assert code == CapitulationError.exit_code and Path(out).is_file()
    assert os.strerror(errno.ENOSPC) in homes.one_error_line(err)
    shutil.rmtree(register_folder())
    path = filled()
    path.write_bytes(path.read_bytes().replace(b"ends", b"starts"))
    code, out, err = make(capsys)
    assert code == DataError.exit_code and Path(out).is_file() and "row 1" in homes.one_error_line(err)


# --- the commands -----------------------------------------------------------------------------------------------------


def test_check_data_lists_the_register_and_fails_on_a_broken_one(capsys):
    path = filled()
    assert cli.main(["check-data"]) == 0
    assert re.fullmatch(r"good +register/forecasts\.csv: 10 forecasts, .*\n", capsys.readouterr().out)
    path.unlink()
    assert cli.main(["check-data"]) == 1
    assert re.fullmatch(r"refused +register/forecasts\.csv: .*\n", capsys.readouterr().out)


def test_register_hands_the_rows_and_the_panel_to_what_scores_them(market, capsys, monkeypatch):
    monkeypatch.setattr(
        "capitulation.study.forecasts.register_text",
        lambda rows, panel: f"{len(rows)} rows, {panel.index[-1]:%Y-%m-%d}",
    )
    last = market(1).index[-1]
    assert cli.main(["register", "--data", "nowhere.csv"]) == 0, "nothing is written down yet"
    assert "make report" in capsys.readouterr().out
    filled()
    assert cli.main(["register", "--data", "btc.csv"]) == 0
    assert capsys.readouterr().out == f"10 rows, {last:%Y-%m-%d}\n"
    assert cli.main(["register", "--source", "simulated"]) == 4
    said = capsys.readouterr()
    assert not said.out and "simulated" in homes.one_error_line(said.err)


if __name__ == "__main__":
    {"die": die, "kill": kill, "read": read}.get(sys.argv[1], lambda: write(sys.argv[1]))()
