"""Whatever is typed: a valid run or one line and exit code 2, never a traceback, and the previous report stays."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import local_server as ls
from capitulation import cli
from capitulation.params import Params
from capitulation.report import fingerprint, run
from reliability import homes

QUIET = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
HUGE = "0x" + "f" * 5000


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = homes.tiny_home(tmp_path_factory.mktemp("home"))
    for name in ("index.html", "run.json", "tables/x.csv"):
        path = folder / "reports" / "t" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("previous")
    files = {
        "empty.csv": b"",
        "header.csv": b"time,HashRate,BlkCnt,PriceUSD\n",
        "other.csv": b"time,Price\n2022-01-01,3\n",
        "no-hash-rate.csv": (folder / "btc.csv").read_bytes().replace(b"HashRate", b"Hashes"),
        "page.csv": b"<!doctype html><html><body>Not found</body></html>\n",
        "picture.csv": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4,
        "numbers.json": b'{"time": [1, 2]}',
        "cut.csv": (folder / "btc.csv").read_bytes()[:-20],
        "list.yml": b"- fast_days\n",
        "tag.yml": b"fast_days: !!python/object/apply:os.mkdir ['pwned']\n",
        "bomb.yml": b"a: &a [x,x]\nb: &b [*a,*a,*a]\nseed: [*b,*b]\n",
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


WRONG = {
    "unknown parameter": (["--set", "fast_dayz=30"], ["fast_dayz", "known are", "fast_days"]),
    "fast_days above slow_days": (["--set", "fast_days=90"], ["fast_days=90", "slow_days=60", "smaller"]),
    "fast_days equal to slow_days": (["--set", "fast_days=60"], ["fast_days=60", "slow_days=60"]),
    "text for a number": (["--set", "fast_days=many"], ["fast_days='many'", "integer"]),
    "parameter given twice": (["--set", "fast_days=20 fast_days=25"], ["fast_days", "twice"]),
    "parameter that no notebook uses": (["--set", "seed=3"], ["SET seed", "no notebook uses it"]),
    "number too long to write": (["--set", f"fast_days={HUGE}"], ["fast_days", "integer"]),
    "half a pair": (["--set", "fast_days"], ["SET='fast_days'", "name=value"]),
    "profile missing": (["--params", "nowhere.yml"], ["nowhere.yml", "No such file"]),
    "profile is a list": (["--params", "list.yml"], ["list.yml", "list"]),
    "profile with a Python tag": (["--params", "tag.yml"], ["tag.yml", "YAML"]),
    "profile with aliases": (["--params", "bomb.yml"], ["bomb.yml", "aliases"]),
    "profile with a repeated name": (["--params", "twice.yml"], ["'fast_days'", "twice"]),
    "profile is a device": (["--params", "/dev/zero"], ["/dev/zero", "regular file"]),
    "DATA missing": (["--data", "nowhere.csv"], ["nowhere.csv", "No such file"]),
    "DATA with a name too long": (["--data", "a" * 300], ["DATA=aaa", "name too long"]),
    "DATA empty": (["--data", "empty.csv"], ["empty.csv", "empty"]),
    "DATA without rows": (["--data", "header.csv"], ["header.csv", "no rows"]),
    "DATA without HashRate": (["--data", "no-hash-rate.csv"], ["HashRate", "missing"]),
    "DATA with other columns": (["--data", "other.csv"], ["other.csv", "HashRate"]),
    "DATA is a web page": (["--data", "page.csv"], ["page.csv", "time"]),
    "DATA is a picture": (["--data", "picture.csv"], ["picture.csv"]),
    "DATA is JSON": (["--data", "numbers.json"], ["numbers.json", "time"]),
    "DATA cut off in mid-line": (["--data", "cut.csv"], ["cut.csv"]),
    "DATA is a folder": (["--data", "notebooks"], ["notebooks", "folder"]),
    "DATA is a device": (["--data", "/dev/zero"], ["/dev/zero", "regular file"]),
    "unknown source": (["--source", "kraken"], ["source='kraken'", "coinmetrics"]),
    "DATA and SOURCE": (["--data", "btc.csv", "--source", "coinmetrics"], ["exclude each other"]),
    "AS_OF that is no day": (["--as-of", "2026-02-30"], ["as_of='2026-02-30'"]),
    "AS_OF before the data": (["--data", "btc.csv", "--as-of", "2014-02-01"], ["2014-02-01"]),
    "RUN with a path": (["--run", "../t"], ["RUN='../t'", "letters"]),
    "RUN reserved": (["--run", "t.failed"], ["RUN='t.failed'", "reserved"]),
    "RUN kept for simulated markets": (["--run", "simulated", "--data", "btc.csv"], ["RUN=simulated", "reserved"]),
    "no JOBS": (["--jobs", "0"], ["JOBS='0'", "whole number"]),
    "JOBS too long to read": (["--jobs", "1" * 5000], ["JOBS=", "whole number"]),
}
EXIT = {"AS_OF before the data": 3}  # the parameter is sound, the data do not reach back to it


def said(*arguments: str) -> tuple[int, str]:
    """Exit code and standard error of one command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(list(arguments))
    return code, err.getvalue()


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_line_and_exit_2(inside, name, monkeypatch):
    arguments, needles = WRONG[name]
    before = homes.digests(inside)
    options = {option for option in arguments if option.startswith("--")}
    arguments = [*arguments, *([] if "--run" in options else ["--run", "t"])]
    if not options & {"--data", "--source"}:
        arguments += ["--data", "btc.csv"]
    code, err = said("report", *arguments)
    line = homes.one_error_line(err)
    assert code == EXIT.get(name, 2), line
    assert all(needle in line for needle in needles), line
    assert len(line) < 1100
    now = {path: digest for path, digest in homes.digests(inside).items() if ".locks" not in path}
    assert now == before, "the previous report and everything beside it stay as they were"
    ls.record_outcome("wrong input", name, 1, f"one line, exit {code}, previous report intact")


@pytest.mark.parametrize("name", ["unknown parameter", "DATA without HashRate"])
def test_wrong_input_through_the_environment_of_a_real_process(home, name):
    arguments, needles = WRONG[name]
    env = {arguments[0].removeprefix("--").upper(): arguments[1], "RUN": "t"}
    code, out, err = homes.finish(homes.start(home, "report", **env))
    assert (code, out) == (2, "")
    assert all(needle in homes.one_error_line(err) for needle in needles)
    assert (home / "reports" / "t" / "index.html").read_text() == "previous"


# --- any text -------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(inside, monkeypatch):
    """The command line with everything but the making of the report itself; gives the runs that would be made."""
    asked = []
    monkeypatch.setattr(fingerprint, "run_key", lambda *_: "")

    def make(params, name, *_rest):
        assert isinstance(params, Params)
        asked.append(name)
        return inside / "reports" / (name or "latest")

    monkeypatch.setattr(run, "_make", make)
    return asked


def valid_or_one_line(*arguments: str) -> int:
    code, err = said("report", "--data=btc.csv", *arguments)
    if code == 0:
        assert err == ""
    else:
        assert code == 2
        homes.one_error_line(err)
        assert len(err.splitlines()) == 1
    return code


ODD_YAML = st.sampled_from(
    ["[", "{", "&a", "*a", "!!python/name:os.system", "!!bool x", "!!int x", "!!timestamp x", "!!binary x", "!x", "~",
     "1_0", "1:30", "0o7", "0x1f", "0b1", "1e999", ".inf", ".nan", "2026-01-20", "2026-13-45", HUGE, "[1,2", "'", '"',
     "yes", "null", "--- 3", "%YAML 1.1", "\ud800", "\x00", "\x1b[2J", "<script>", "=cmd", "a: b", "? [a]", "30", "90"]
)  # fmt: skip
NAMES = st.sampled_from([*Params.model_fields, "", "<<", "__class__", "fast_days ", "FAST_DAYS"])
PAIRS = st.lists(st.tuples(NAMES, st.one_of(ODD_YAML, st.text(max_size=12))).map("=".join), max_size=4).map(" ".join)
LINES = st.lists(st.tuples(NAMES, st.one_of(ODD_YAML, st.text(max_size=12))).map(": ".join), max_size=5).map("\n".join)


@QUIET
@given(text=st.one_of(PAIRS, st.text(max_size=60)))
@example(text=f"fast_days={HUGE}")
@example(text="seed=!!bool\u00a0x")
def test_any_overrides_are_valid_or_one_line(stopped, text):
    valid_or_one_line(f"--set={text}")


@QUIET
@given(content=st.one_of(LINES.map(lambda text: text.encode("utf-8", "surrogatepass")), st.binary(max_size=80)))
@example(content=f"? {HUGE}\n: 1".encode())
@example(content=b"fast_days: !!timestamp x")
@example(content=b"a: &a {fast_days: 20}\n<<: *a")
@example(content=b"? null\n: 1\n")
def test_any_profile_is_valid_or_one_line(stopped, content):
    Path("any.yml").write_bytes(content)
    valid_or_one_line("--params=any.yml")


@QUIET
@given(
    values=st.dictionaries(NAMES, st.one_of(st.integers(), st.floats(), st.text(max_size=9), st.dates()), max_size=4)
)
def test_any_dumped_mapping_is_valid_or_one_line(stopped, values):
    Path("any.yml").write_text(yaml.dump(values))
    valid_or_one_line("--params=any.yml")


@QUIET
@given(
    name=st.one_of(st.text(max_size=70), st.sampled_from(["..", "../t", "/etc", "a/../b", "con", "t\x00", "a" * 300]))
)
def test_any_run_name_stays_in_reports_or_is_one_line(stopped, name):
    stopped.clear()
    code = valid_or_one_line(f"--run={name}")
    assert bool(stopped) == (code == 0)
    for asked in stopped:
        folder = Path("reports") / (asked or "latest")
        assert folder.resolve().parent == Path("reports").resolve()
        assert not folder.name.startswith(".")


@QUIET
@given(texts=st.fixed_dictionaries({name: st.text(max_size=12) for name in ("as-of", "source", "jobs", "force")}))
def test_any_other_option_is_valid_or_one_line(stopped, texts):
    code, err = said("report", *(f"--{name}={text}" for name, text in texts.items()))
    assert code in (0, 2)
    assert code == 0 or homes.one_error_line(err)


def test_properties_are_recorded():
    for what in ("SET", "PARAMS", "RUN", "AS_OF, SOURCE, JOBS, FORCE"):
        outcome = "a valid run, or one line and exit 2; nothing outside reports/"
        ls.record_outcome("wrong input", f"any text as {what}", QUIET.max_examples, outcome)
