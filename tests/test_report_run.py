"""The runner on real kernels: what is passed, what is written, what happens when a notebook or a process fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from capitulation.errors import InputError, ReportError
from capitulation.params import make_params
from capitulation.report.run import check_sample, make_report
from report_help import cells_notebook, loader, make_home, small_market, write_notebook

PARAMS = make_params({"fast_days": 20})
DIFFERS = {"timings.json"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(make_home(tmp_path / "a {b} ü", with_notebooks=False)))
    return tmp_path / "a {b} ü"


def report(run="t", params=PARAMS, said=None, **options):
    options = {"jobs": 2, "progress": (said if said is not None else []).append, "load": loader()} | options
    return make_report(params, run, **options)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in DIFFERS]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The two test notebooks as a report, made once with forked kernels on two processes."""
    home = make_home(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPITULATION_HOME", str(home))
        patch.setenv("SOME_API_KEY", "sEcReT-123")
        yield home, report()


def test_report_holds_every_part(made):
    files = set(contents(made[1]))
    expected = {
        "index.html", "report.html", "run.json", "10-look-at-market.html", "20-draw-price.html", "tables/summary.csv",
        "notebooks/10-look-at-market.ipynb", "notebooks/20-draw-price.ipynb", "findings/10-look-at-market.json",
        "market/panel.csv", "market/market.json",
    }  # fmt: skip
    assert expected <= files
    assert not [name for name in files if ".parts" in name]


def test_run_json_records_parameters_data_versions_and_tables(made):
    facts = json.loads((made[1] / "run.json").read_text())
    assert facts["parameters"] == PARAMS.model_dump(mode="json")
    assert facts["changed"] == {"fast_days": 20}
    assert facts["market"]["digest"] == small_market().digest
    assert {"pandas", "numpy", "python", "statsmodels"} <= set(facts["versions"])
    assert list(facts["tables"]) == ["summary.csv"]
    assert [item["parameters"] for item in facts["notebooks"]] == [
        {"fast_days": 20, "slow_days": 60},
        {"fast_days": 20},
    ]


def test_notebooks_received_their_parameters(made):
    page = (made[1] / "10-look-at-market.html").read_text()
    assert "with fast_days=20." in page


def test_no_path_of_this_machine_and_no_secret_is_published(made):
    home, folder = made
    for name, content in contents(folder).items():
        assert str(home).encode() not in content, name
        assert b"sEcReT-123" not in content, name


def test_plain_kernels_one_after_the_other_give_the_same_bytes(made, monkeypatch):
    home, folder = made
    before = contents(folder)
    monkeypatch.setenv("CAPITULATION_HOME", str(home))
    monkeypatch.setenv("CAPITULATION_FORK", "0")
    said = []
    after = contents(report(jobs=1, force=True, said=said))
    assert [re.sub(r": .*", "", line) for line in said] == ["10-look-at-market", "20-draw-price"]
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []


def test_only_the_changed_notebook_runs_again(made, monkeypatch):
    home, folder = made
    monkeypatch.setenv("CAPITULATION_HOME", str(home))
    book = home / "notebooks" / "20-draw-price.ipynb"
    text, before = book.read_text(), contents(folder)
    book.write_text(text.replace("One chart", "A chart"))
    said = []
    try:
        after = contents(report(said=said))
    finally:
        book.write_text(text)
    assert [re.sub(r": .*", "", line) for line in said] == ["20-draw-price"]
    assert after["tables/summary.csv"] == before["tables/summary.csv"]
    assert b"A chart" in after["20-draw-price.html"]
    assert b"A chart" in after["report.html"]


def test_failing_cell_is_named_and_the_previous_report_stays(home):
    write_notebook(home / "notebooks", "10-fine-one", cells_notebook("# Fine", "1"))
    good = contents(report(force=True))
    write_notebook(home / "notebooks", "20-bad-one", cells_notebook("# Bad", "1", "raise KeyError('no\\nsuch')"))
    with pytest.raises(ReportError) as caught:
        report()
    assert re.fullmatch(
        r"notebook 20-bad-one, cell 4: KeyError: .*no.*such.*; see reports/t.failed/.*", str(caught.value)
    )
    assert "\n" not in str(caught.value)
    assert contents(home / "reports" / "t") == good
    broken = json.loads((home / "reports" / "t.failed" / "20-bad-one.ipynb").read_text())
    assert "KeyError" in json.dumps(broken)
    assert sorted(p.name for p in (home / "reports").iterdir()) == [".locks", "t", "t.failed"]
    (home / "notebooks" / "20-bad-one.ipynb").unlink()
    report()
    assert not (home / "reports" / "t.failed").exists()


def test_killed_kernel_is_named(home):
    source = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    write_notebook(home / "notebooks", "10-kill-self", cells_notebook("1", source))
    with pytest.raises(ReportError, match=r"notebook 10-kill-self, cell 3: the kernel died"):
        report()
    assert (home / "reports" / "t.failed" / "10-kill-self.ipynb").exists()


def test_two_notebooks_must_not_write_the_same_table(home):
    source = "import os, pathlib; pathlib.Path(os.environ['CAPITULATION_RUN_FOLDER'], 'x.json').write_text('1')"
    for name in ("10-a-b", "20-c-d"):
        write_notebook(home / "notebooks", name, cells_notebook(source))
    with pytest.raises(ReportError, match=r"notebook 20-c-d writes x\.json, which another already wrote"):
        report()
    assert not (home / "reports" / "t").exists()


def test_nothing_runs_for_a_bad_name_or_an_unused_override(home):
    write_notebook(home / "notebooks", "10-a-b", cells_notebook("1/0"))
    with pytest.raises(InputError, match="RUN="):
        report("../x")
    with pytest.raises(InputError, match="SET seed"):
        report(declared_overrides=frozenset({"seed"}))
    with pytest.raises(InputError, match="reserved for simulated"):
        report("simulated")
    assert not (home / "reports" / "t").exists()


def test_simulated_market_goes_to_its_own_folder_with_a_banner(home):
    write_notebook(home / "notebooks", "10-a-b", cells_notebook("# T", "1"))
    said = []
    folder = report("real", said=said, load=loader(simulated=True))
    assert folder.name == "simulated"
    assert any("simulated market" in line for line in said)
    for page in folder.glob("*.html"):
        assert "Simulated market" in page.read_text()


DRIVER = """
import signal, sys
sys.path.insert(0, {tests!r})
from report_help import loader
from capitulation.params import make_params
from capitulation.report.run import make_report
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
try:
    make_report(make_params(), "t", jobs=2, progress=lambda line: None, load=loader())
except KeyboardInterrupt:
    sys.exit(130)
"""


def processes_naming(text: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in words and int(path.name) != os.getpid():
            found.append(int(path.name))
    return found


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.05)


LONG = pytest.mark.slow


@pytest.mark.parametrize(
    ("number", "fork"),
    [
        (signal.SIGINT, "1"),
        (signal.SIGKILL, "1"),
        pytest.param(signal.SIGTERM, "1", marks=LONG),
        pytest.param(signal.SIGKILL, "0", marks=LONG),
        pytest.param(signal.SIGINT, "0", marks=LONG),
    ],
)
def test_stopped_run_leaves_no_process_and_no_damage(home, number, fork):
    (home / "reports" / "t").mkdir()
    (home / "reports" / "t" / "run.json").write_text("{}")
    started = home / "started"
    source = f"import pathlib, time; pathlib.Path({str(started)!r}).write_text(''); time.sleep(60)"
    write_notebook(home / "notebooks", "10-sleep-long", cells_notebook(source))
    environment = os.environ | {"CAPITULATION_FORK": fork, "MARK_OF_THIS_TEST": str(home)}
    code = DRIVER.format(tests=str(Path(__file__).parent))
    driver = subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True)
    try:
        wait_until(started.exists)
        os.kill(driver.pid, number)
        assert driver.wait(timeout=20) == (130 if number != signal.SIGKILL else -number)
        wait_until(lambda: not processes_naming(str(home)))
    finally:
        driver.kill()
        driver.wait()
    assert (home / "reports" / "t" / "run.json").read_text() == "{}"
    if number != signal.SIGKILL:
        assert not list((home / "reports").glob(".t.staging-*"))


@pytest.mark.parametrize(
    ("days", "values", "needle"),
    [(0, {}, "has no price"), (700, {}, "only 700 days"), (100, {"horizons_days": [90]}, "182 needed")],
)
def test_a_sample_too_short_for_its_horizons_is_one_line(days, values, needle):
    price = pd.Series(1.0, index=pd.date_range("2014-01-01", periods=days))
    with pytest.raises(InputError, match=needle):
        check_sample(price, "mempool_space", make_params(values))
    check_sample(pd.Series(1.0, index=pd.date_range("2014-01-01", periods=732)), "file", make_params())
