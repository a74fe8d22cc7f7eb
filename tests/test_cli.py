"""The command line: what it says, its exit codes, and that whatever is typed is a valid run or one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import homes
import local_server as ls
from capitulation import cli
from capitulation.params import Params
from capitulation.report.run import check_run_name

ROOT = Path(__file__).resolve().parents[1]
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
HUGE = "0x" + "f" * 5000
ENDS = " to ".join(f"{day:%Y-%m-%d}" for day in ls.made_panel(200).index[[0, -1]])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A project folder with a previous report and files that cannot be used."""
    folder = homes.tiny_home(tmp_path_factory.mktemp("home"))
    (folder / "reports" / "t").mkdir()
    (folder / "reports" / "t" / "run.json").write_text("previous")
    good = (folder / "btc.csv").read_bytes()
    files = {
        "empty.csv": b"",
        "header.csv": b"time,HashRate,BlkCnt,PriceUSD\n",
        "no-hash-rate.csv": good.replace(b"HashRate", b"Hashes"),
        "page.csv": b"<!doctype html><html><body>Not found</body></html>\n",
        "picture.csv": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4,
        "cut.csv": good[:-20],
        "list.yml": b"- fast_days\n",
        "tag.yml": b"fast_days: !!python/object/apply:os.mkdir ['pwned']\n",
        "twice.yml": b"fast_days: 20\nfast_days: 25\n",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def inside(home, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(home))
    monkeypatch.chdir(home)
    for name in cli.OPTIONS:
        monkeypatch.delenv(name.upper(), raising=False)
    return home


WRONG = {  # arguments, what the line must name
    "unknown parameter": (["--set", "fast_dayz=30"], ["fast_dayz", "fast_days"]),
    "fast_days above slow_days": (["--set", "fast_days=90"], ["fast_days=90", "slow_days=60", "smaller"]),
    "text for a number": (["--set", "fast_days=many"], ["fast_days='many'", "integer"]),
    "a name like the notebook's": (["--set", "my_dayz=7"], ["my_dayz", "did you mean my_days?"]),
    "a page that is not there": (["--set", "pages=[10,11]"], ["pages=[11]", "10, 20, 30"]),
    "a parameter of a page that is left out": (["--set", "my_days=9 pages=[10]"], ["my_days", "of 10"]),
    "another kind than the notebook's": (["--set", "my_days=many"], ["my_days", "int"]),
    "parameter given twice": (["--set", "hold_days=20 hold_days=25"], ["hold_days", "twice"]),
    "parameter that nothing uses": (["--set", "seed=3"], ["SET seed", "no notebook uses it"]),
    "number too long to write": (["--set", f"fast_days={HUGE}"], ["fast_days"]),
    "half a pair": (["--set", "fast_days"], ["SET='fast_days'", "name=value"]),
    "profile missing": (["--params", "nowhere.yml"], ["nowhere.yml", "No such file"]),
    "profile is a list": (["--params", "list.yml"], ["list.yml"]),
    "profile with a Python tag": (["--params", "tag.yml"], ["tag.yml", "YAML"]),
    "profile with a repeated name": (["--params", "twice.yml"], ["fast_days"]),
    "profile is a device": (["--params", "/dev/zero"], ["/dev/zero", "regular file"]),
    "DATA missing": (["--data", "nowhere.csv"], ["nowhere.csv", "No such file"]),
    "DATA with a name too long": (["--data", "a" * 300], ["DATA=aaa", "name too long"]),
    "DATA empty": (["--data", "empty.csv"], ["empty.csv", "empty"]),
    "DATA without rows": (["--data", "header.csv"], ["header.csv"]),
    "DATA without HashRate": (["--data", "no-hash-rate.csv"], ["no-hash-rate.csv", "no hash rate"]),
    "DATA is a web page": (["--data", "page.csv"], ["page.csv"]),
    "DATA is a picture": (["--data", "picture.csv"], ["picture.csv"]),
    "DATA cut off in mid-line": (["--data", "cut.csv"], ["cut.csv"]),
    "DATA is a folder": (["--data", "notebooks"], ["notebooks", "folder"]),
    "DATA is a device": (["--data", "/dev/zero"], ["/dev/zero", "regular file"]),
    "unknown source": (["--source", "kraken"], ["source='kraken'", "coinmetrics"]),
    "DATA and SOURCE": (["--data", "btc.csv", "--source", "coinmetrics"], ["exclude each other"]),
    "AS_OF that is no day": (["--as-of", "2026-02-30"], ["as_of='2026-02-30'"]),
    "AS_OF in the future": (["--as-of", "2199-01-01"], ["as_of=2199-01-01", "future", ENDS, "AS_OF"]),
    "AS_OF before the data": (["--as-of", "2015-01-01"], ["as_of=2015-01-01", "before", ENDS, "AS_OF"]),
    "AS_OF before the sample": (["--as-of", "2012-01-01"], ["as_of=2012-01-01", "sample_start=2014-01-01", "earlier"]),
    "RUN with a path": (["--run", "../t"], ["RUN='../t'", "letters"]),
    "RUN reserved": (["--run", "t.failed"], ["RUN='t.failed'", "reserved"]),
    "RUN kept for simulated markets": (["--run", "simulated", "--data", "btc.csv"], ["RUN=simulated", "reserved"]),
    "no JOBS": (["--jobs", "0"], ["JOBS='0'", "whole number"]),
    "unknown ENGINE": (["--engine", "warp"], ["ENGINE='warp'", "in-process, kernel"]),
    "ENGINE that is nearly one": (["--engine", "kernal"], ["did you mean kernel?"]),
    "CELL_TIMEOUT too long to read": (["--cell-timeout", "1" * 5000], ["CELL_TIMEOUT=", "whole number"]),
    "unknown option": (["--frobnicate"], ["--frobnicate"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_line_and_exit_2_and_changes_nothing(inside, name, capsys):
    arguments, needles = WRONG[name]
    homes.write_notebook(inside, "30-own-days", "1", parameters="my_days = 7  # days: mine")
    before = ls.tree(inside)
    arguments = arguments if "--run" in arguments else [*arguments, "--run", "t"]
    arguments = arguments if {"--data", "--source"} & set(arguments) else [*arguments, "--data", "btc.csv"]
    assert cli.main(["report", *arguments]) == 2
    line = homes.one_error_line(capsys.readouterr().err)
    assert all(needle in line for needle in needles) and len(line) < 1100, line
    assert {path: text for path, text in ls.tree(inside).items() if ".locks" not in path} == before


def test_options_come_through_the_environment_of_a_real_process(home):
    code, out, err = homes.finish(homes.start(home, "report", SET="fast_dayz=30", RUN="t", DATA="btc.csv"))
    assert (code, out) == (2, "") and "fast_dayz" in homes.one_error_line(err)


ODD = st.sampled_from(
    ["[", "{", "&a", "*a", "!!python/name:os.system", "!!bool x", "!!timestamp x", "!!binary x", "!x", "~", "1_0",
     "1:30", "0o7", "0x1f", "1e999", ".inf", ".nan", "2026-01-20", "2026-13-45", HUGE, "[1,2", "'", '"', "yes", "null",
     "--- 3", "%YAML 1.1", "\ud800", "\x00", "\x1b[2J", "<script>", "=cmd", "a: b", "? [a]", "30", "90"]
)  # fmt: skip
NAMES = st.sampled_from([*Params.model_fields, "", "<<", "__class__", "fast_days ", "FAST_DAYS"])
PAIRS = st.lists(st.tuples(NAMES, ODD | st.text(max_size=12)), max_size=5)


@pytest.fixture
def stopped(inside, monkeypatch):
    """The command line without the making of reports; gives the names of the runs that would be made."""
    asked = []

    def make(params, name, *_rest, **_more):
        assert isinstance(params, Params)
        cli.make_params(params.model_dump())
        asked.append(check_run_name(name or "latest"))
        return Path(name)

    monkeypatch.setattr(cli, "make_report", make)
    monkeypatch.setattr(cli, "write_down", lambda run: None)
    return asked


def valid_or_one_line(capsys, *arguments: str) -> int:
    code, err = cli.main(["report", *arguments]), capsys.readouterr().err
    assert (code == 0 and "error" not in err) or (
        code == 2 and len(err.splitlines()) == 1 and homes.one_error_line(err)
    )
    return code


@QUIET
@given(text=PAIRS.map(lambda pairs: " ".join(map("=".join, pairs))) | st.text(max_size=60))
@example(text=f"fast_days={HUGE}")
@example(text="seed=!!bool\u00a0x")
def test_any_overrides_are_valid_or_one_line(stopped, capsys, text):
    valid_or_one_line(capsys, "--data=btc.csv", f"--set={text}")


@QUIET
@given(
    content=PAIRS.map(lambda pairs: "\n".join(map(": ".join, pairs)).encode("utf-8", "surrogatepass"))
    | st.binary(max_size=80)
)
@example(content=f"? {HUGE}\n: 1".encode())
@example(content=b"a: &a {fast_days: 20}\n<<: *a")
@example(content=b"? null\n: 1\n")
def test_any_profile_is_valid_or_one_line(stopped, capsys, content):
    Path("any.yml").write_bytes(content)
    valid_or_one_line(capsys, "--data=btc.csv", "--params=any.yml")


@QUIET
@given(
    name=st.text(max_size=70) | st.sampled_from(["..", "../t", "/etc", "a/../b", "con", "t\x00", "a" * 300, "compare"])
)
def test_any_run_name_stays_in_reports_or_is_one_line(stopped, capsys, name):
    stopped.clear()
    if valid_or_one_line(capsys, f"--run={name}") == 0:
        folder = Path("reports") / stopped[0]
        assert folder.resolve().parent == Path("reports").resolve() and not folder.name.startswith(".")


@QUIET
@given(
    texts=st.fixed_dictionaries({name: st.text(max_size=12) for name in ("as-of", "source", "jobs", "force", "engine")})
)
@example(texts={"as-of": "", "source": "", "jobs": "", "force": "", "engine": "--"})
def test_any_other_option_is_valid_or_one_line(stopped, capsys, texts):
    valid_or_one_line(capsys, *(f"--{name}={text}" for name, text in texts.items()))


# --- the other commands ---------------------------------------------------------------------------------------------


def test_status_says_the_state_in_text_json_and_exit_code(inside, capsys):
    last = ls.made_panel(200).index[-1].strftime("%Y-%m-%d")
    data = ["status", "--data", "btc.csv"]
    assert cli.main([*data, "--as-of", last]) == 0
    assert last in capsys.readouterr().out.splitlines()[0]
    assert cli.main([*data, "--as-of", last, "--json", "1"]) == 0
    state = json.loads(capsys.readouterr().out)
    codes = {"expansion": 0, "capitulation": 10, "recovering": 11, "unknown": 12}
    assert state["source"] == "file" and not state["stale"]
    homes.write_notebook(inside, "30-own-days", "1", parameters="my_days = 7  # days: mine")
    assert cli.main([*data, "--as-of", last, "--set", "my_days=9"]) == 0, "a profile may hold what notebooks declare"
    assert cli.main([*data, "--set", "my_dayz=9"]) == 2
    assert "did you mean my_days?" in capsys.readouterr().err
    assert cli.main([*data, "--as-of", last, "--watch", "1"]) == codes[state["ribbon_state"]]
    assert cli.main([*data, "--watch", "1"]) == 12, "data that ended years ago say nothing of the present"
    assert re.search(r"UNKNOWN, .*\d+ days old", capsys.readouterr().out)
    assert cli.main([*data, "--json", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["ribbon_state"] == "unknown"
    assert cli.main(["status", "--source", "simulated", "--watch", "1"]) == 4, "nor do simulated ones"
    said = capsys.readouterr()
    assert not said.out and "simulated" in said.err


def test_fetch_and_check_data(inside, capsys, monkeypatch):
    assert cli.main(["fetch", "--source", "simulated"]) == 2
    assert cli.main(["compare", "--a", "t"]) == 2
    assert cli.main(["check-data"]) == 0
    assert "nothing to verify" in capsys.readouterr().err


@pytest.mark.parametrize("user", [0, 1000])
def test_lab_opens_at_the_root_with_the_notebooks_at_hand_and_asks_nobody(inside, monkeypatch, user):
    called = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: called.extend(arguments))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    cli.main(["lab", "--no-browser"])
    assert f"--notebook-dir={inside}" in called and "--LabApp.default_url=/lab/tree/notebooks" in called
    assert "--ip=127.0.0.1" in called and "--no-browser" in called and ("--allow-root" in called) == (user == 0)


# --- make -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["$(shell touch {0})", "`touch {0}`", "a$b#c $(error x).csv", 'it\'s \\ "x"', "$(RUN)"]
)
def test_make_passes_on_text_letter_by_letter(tmp_path, text):
    """Neither make nor a shell interprets what a user types."""
    text, program = text.format(tmp_path / "touched"), tmp_path / "python"
    program.write_text('#!/bin/sh\nprintf %s "$DATA"\n')
    program.chmod(0o755)
    command = ["make", "--silent", "report", f"PYTHON={program}", "STAMP=", f"DATA={text}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, text), done.stderr
    assert not (tmp_path / "touched").exists()
