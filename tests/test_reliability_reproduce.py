"""A report is rebuilt identically on a later day, when its data have aged and other snapshots have come and gone."""

from __future__ import annotations

import datetime as dt
import json
import shutil

import pandas as pd
import pytest

import local_server as ls
from capitulation import cli
from capitulation.data import store
from reliability import homes

SHOW = """
import pandas as pd
import capitulation as cap
from capitulation.data.summary import provenance_table
run = cap.open_run("30-show-data", globals())
run.table(provenance_table(run.market), "provenance", "Where from.")
run.table(run.market.findings_table(), "data_checks", "What was found.")
run.table(pd.DataFrame({"provider": list(run.other_panels())}), "compared", "With whom.")
"""
NOW = store.utc_now()
pytestmark = pytest.mark.xdist_group("reproduce")


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = homes.tiny_home(tmp_path)
    homes.add_cell_notebook(folder, "30-show-data", SHOW)
    monkeypatch.setenv("CAPITULATION_HOME", str(folder))
    for name in cli.OPTIONS:
        monkeypatch.delenv(name.upper(), raising=False)
    return folder


@pytest.fixture
def server(home, monkeypatch):
    with ls.LocalServer() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        running.serve_all(ls.made_panel(200, end=str(NOW.date() - dt.timedelta(days=1))))
        yield running


@pytest.fixture
def later(monkeypatch):
    """Let so many days pass."""
    return lambda days: monkeypatch.setattr(store, "utc_now", lambda: NOW + dt.timedelta(days=days))


def said(capsys, *arguments):
    """Exit code and standard output of one command in this process."""
    code = cli.main([*arguments, "--run", "t", "--jobs", "2"])
    return code, capsys.readouterr().out


def recorded(home, run="t"):
    return json.loads((home / "reports" / run / "run.json").read_text())["market"]


def test_a_report_is_rebuilt_identically_however_old_it_is(home, server, later, capsys):
    assert said(capsys, "fetch")[0] == 0
    later(0.6)
    assert said(capsys, "report")[0] == 0
    for days in (0.7, 3, 4000):
        later(days)
        code, out = said(capsys, "reproduce")
        assert (code, "all identical" in out) == (0, True), out
    ls.record_outcome("tampering", "reproduce: days and years later", 3, "every table identical")


def test_what_was_said_of_the_data_then_is_said_again(home, server, later, capsys):
    """The service answers no more, so the report rests on an old snapshot and says so: as its rebuilt twin must."""
    assert said(capsys, "fetch")[0] == 0
    later(3.3)
    for path in list(server.scripts):
        server.serve(path, ls.status(404))
    assert said(capsys, "report")[0] == 0
    facts = recorded(home)
    assert facts["age_days"] == 3.0
    assert "3.3 days old" in facts["notes"][-1]
    assert {name.split("/")[0] for name in facts["others"]} == {"blockchain_com", "mempool_space"}
    assert "providers" in {finding["check"] for finding in facts["findings"]}
    assert {item["name"] for item in facts["files"]} == {"catalog.json", "page-01.json"}
    later(9)
    code, out = said(capsys, "reproduce")
    assert (code, "all identical" in out) == (0, True), out


def test_a_snapshot_that_the_data_were_compared_with_is_named_when_it_is_gone(home, server, capsys):
    assert said(capsys, "fetch")[0] == 0
    assert said(capsys, "report")[0] == 0
    [name] = [name for name in recorded(home)["others"] if name.startswith("mempool")]
    shutil.rmtree(home / "data" / "raw" / name)
    code, out = said(capsys, "reproduce")
    assert code == 1
    assert f"no longer stored, so not compared with: {name}" in out
    assert "compared.csv: differs" in out
    outcome = "named, with the table that differs"
    ls.record_outcome("tampering", "reproduce: a snapshot of comparison gone", 1, outcome)


def test_a_simulated_report_is_rebuilt_with_the_reason_why_it_is_one(home, server, capsys, monkeypatch):
    import capitulation.simulate

    panel = ls.made_panel(200)
    monkeypatch.setattr(capitulation.simulate, "simulate_panel", lambda seed: panel)
    for path in list(server.scripts):
        server.serve(path, ls.status(404))
    assert said(capsys, "report")[0] == 0
    assert "SIMULATED MARKET" in recorded(home, "simulated")["notes"][0]
    provenance = pd.read_csv(home / "reports" / "simulated" / "tables" / "provenance.csv")
    assert "SIMULATED MARKET" in provenance["value"].iloc[-1]
    assert cli.main(["reproduce", "--run", "simulated", "--jobs", "2"]) == 0
    assert "all identical" in capsys.readouterr().out
