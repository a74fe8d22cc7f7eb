"""Publishing by one rename: nobody ever sees half a report, whatever dies when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from capitulation.errors import InputError, ReportError
from capitulation.params import make_params
from capitulation.report import publish
from capitulation.report.run import make_report
from local_server import record_outcome
from report_help import cells_notebook, loader, make_home, write_notebook


@pytest.fixture
def reports(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(make_home(tmp_path, with_notebooks=False)))
    write_notebook(tmp_path / "notebooks", "10-sum-up", cells_notebook("x = fast_days"))
    return tmp_path / "reports"


def fill(folder, text, n=20):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        (folder / f"{i}.txt").write_text(text)
    (folder / "run.json").write_text(f'{{"run": "{text}"}}')


def texts(folder):
    return {path.read_text() for path in folder.glob("*.txt")}


@pytest.mark.parametrize("can_exchange", [True, False])
def test_new_report_replaces_the_old_whole(reports, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(publish, "exchange", lambda one, other: False)
    for text in ("first", "second"):
        staging = publish.new_staging("a")
        fill(staging, text)
        assert texts(publish.publish(staging, "a")) == {text}
    assert [path.name for path in reports.iterdir()] == ["a"]


IN_THE_WAY = {
    "a file": lambda place: place.write_text("mine"),
    "a folder of the user's": lambda place: (place.mkdir(), (place / "mine.txt").write_text("mine")),
    "a link to a folder": lambda place: place.symlink_to(place.parent, target_is_directory=True),
    "a link to nowhere": lambda place: place.symlink_to("nowhere"),
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_what_is_no_report_is_never_replaced(reports, what):
    IN_THE_WAY[what](reports / "a")
    before = {path.name for path in [*reports.iterdir(), *(reports / "a").glob("*.txt")]}
    with pytest.raises(InputError, match="RUN=a: reports/a is there and no report"):
        make_report(make_params(), "a", jobs=1, progress=lambda line: None, load=loader())
    after = {path.name for path in [*reports.iterdir(), *(reports / "a").glob("*.txt")]}
    assert after - {".locks"} == before
    record_outcome("tampering", f"{what} where the report belongs", 1, "one line, exit 2, left as it is")


def test_a_report_and_an_empty_folder_are_replaced(reports):
    publish.check_place("a")
    (reports / "a").mkdir()
    publish.check_place("a")
    fill(reports / "a", "a report")
    publish.check_place("a")


def test_leftovers_of_a_killed_run_are_removed_and_others_kept(reports):
    fill(reports / ".a.staging-1", "old")
    fill(reports / ".b.staging-1", "other run")
    publish.new_staging("a")
    names = {path.name for path in reports.iterdir()}
    assert names == {f".a.staging-{os.getpid()}", ".b.staging-1"}


def test_report_moved_aside_by_a_killed_process_comes_back(reports):
    fill(reports / ".a.old-1", "previous")
    assert texts(publish.open_report("a")) == {"previous"}
    assert sorted(path.name for path in reports.iterdir()) == [".locks", "a"]


def test_failure_to_move_keeps_the_previous_report(reports, monkeypatch):
    fill(reports / "a", "previous")
    monkeypatch.setattr(publish, "exchange", lambda one, other: False)
    with pytest.raises(ReportError, match="could not be published.*intact"):
        publish.publish(reports / ".a.staging-missing", "a")
    assert texts(reports / "a") == {"previous"}


def test_unknown_report_names_those_there_are(reports):
    fill(reports / "real", "x")
    with pytest.raises(InputError, match="RUN=other: no such report; there are: real"):
        publish.open_report("other")


PUBLISHER = """
import sys
from capitulation.report import publish
if sys.argv[1] == "aside":
    publish.exchange = lambda one, other: False
print("ready", flush=True)
n = 0
while True:
    n += 1
    with publish.run_lock("a", lambda line: None):
        staging = publish.new_staging("a")
        for i in range(20):
            (staging / f"{i}.txt").write_text(str(n))
        (staging / "run.json").write_text("{}")
        publish.publish(staging, "a")
"""


def kill_while_publishing(how, delay):
    process = subprocess.Popen([sys.executable, "-c", PUBLISHER, how], stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("how", ["exchange", "aside"])
@pytest.mark.parametrize("kill", range(4))
def test_killed_publisher_leaves_a_whole_report(reports, how, kill):
    fill(reports / "a", "before")
    kill_while_publishing(how, 0.003 + 0.011 * kill)
    folder = publish.open_report("a")
    assert len(texts(folder)) == 1
    assert len(list(folder.glob("*.txt"))) == 20
    fill(publish.new_staging("a"), "after")
    publish.publish(reports / f".a.staging-{os.getpid()}", "a")
    assert texts(reports / "a") == {"after"}


@pytest.mark.slow
def test_two_hundred_killed_publishers_leave_a_whole_report(reports):
    fill(reports / "a", "before")
    for kill in range(200):
        kill_while_publishing(("exchange", "aside")[kill % 2], 0.001 + 0.0004 * kill)
        folder = publish.open_report("a")
        assert len(texts(folder)) == 1
        assert len(list(folder.glob("*.txt"))) == 20
    record_outcome("crash", "kill -9 at random moments of publishing", 200, "the old or the new report, whole")


def test_second_process_waits_with_a_message(reports):
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys,time\nfrom capitulation.report.publish import run_lock\n"
         "with run_lock('a', print):\n print('held', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    said = []

    def say(line):
        said.append(line)
        holder.stdin.close()

    with publish.run_lock("a", say):
        holder.wait(timeout=10)
    holder.stdout.close()
    assert said == ["report 'a' is being made by another process: waiting for it"]
