"""Working with published reports: compare two, bundle one, rebuild one from its record."""

from __future__ import annotations

import json
import shutil
import threading
import zipfile

import numpy as np
import pandas as pd
import pytest

from capitulation.data.market import save_market
from capitulation.errors import InputError
from capitulation.params import make_params
from capitulation.report import record
from capitulation.report.bundle import bundle
from capitulation.report.compare import compare_runs, sentence
from capitulation.report.differences import changed_values, differences, matched_episodes, revised_days
from capitulation.report.publish import run_lock
from capitulation.report.reproduce import reproduce, verdict
from capitulation.report.run import make_report
from report_help import cells_notebook, loader, make_home, small_market, small_panel, write_notebook


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(make_home(tmp_path, with_notebooks=False)))
    return tmp_path


def episodes(*spans, definition="hash_ribbons"):
    rows = [(definition, i + 1, start, end) for i, (start, end) in enumerate(spans)]
    return pd.DataFrame(rows, columns=["definition", "episode", "start", "end"])


def fake_report(home, run, market, spans, **params):
    folder = home / "reports" / run
    save_market(market, folder / "market")
    (folder / "tables").mkdir()
    episodes(*spans).to_csv(folder / "tables" / "episodes.csv", index=False)
    (folder / "report.html").write_text("whole")
    facts = record.run_record(run, make_params(params), record.market_facts(market), [], folder)
    record.write_json(folder / "run.json", facts)
    return folder


def test_revised_days_are_those_with_other_values():
    a = small_panel(50)
    b = a.copy()
    b.iloc[3, 0] *= 1.1
    b.iloc[7, 2] += 1
    b.iloc[9, 0] = np.nan
    found = revised_days(a, b.iloc[:40])
    assert sorted(zip(found["date"].dt.day, found["column"], strict=True)) == [
        (4, "price_usd"), (8, "block_count"), (10, "price_usd"),
    ]  # fmt: skip
    assert found.loc[found["date"] == a.index[3], "relative_change"].item() == pytest.approx(0.1)
    assert revised_days(a, a.iloc[5:]).empty


def test_episodes_are_matched_by_overlap():
    a = episodes(("2014-01-01", "2014-02-01"), ("2015-01-01", "2015-02-01"), ("2016-01-01", np.nan))
    b = episodes(("2014-01-01", "2014-02-01"), ("2015-01-09", "2015-02-01"), ("2017-01-01", "2017-01-05"))
    found = matched_episodes(a, b).to_dict("records")
    assert {(row["change"], row["first"], row["second"]) for row in found} == {
        ("moved", "2015-01-01 to 2015-02-01", "2015-01-09 to 2015-02-01"),
        ("moved", "2016-01-01 to now", "2017-01-01 to 2017-01-05"),
    }
    gone = matched_episodes(a, b.iloc[:2]).to_dict("records")
    assert ("vanished", "2016-01-01 to now") in {(row["change"], row["first"]) for row in gone}
    new = matched_episodes(a.iloc[:2], b).to_dict("records")
    assert ("appeared", "2017-01-01 to 2017-01-05") in {(row["change"], row["second"]) for row in new}


def test_changed_values_show_missing_ones():
    frame = changed_values({"a": 1, "b": 2.0, "c": 3}, {"a": 1, "b": 2.5})
    assert frame.to_dict("records") == [
        {"name": "b", "first": "2", "second": "2.5"},
        {"name": "c", "first": "3", "second": "–"},
    ]


def test_comparison_page_tells_what_changed(home):
    panel = small_panel()
    revised = panel.copy()
    revised.iloc[10, 0] *= 2
    fake_report(home, "a", small_market(panel=panel), [("2014-02-01", "2014-03-01")])
    fake_report(home, "b", small_market(panel=revised), [("2014-02-02", "2014-03-01")], fast_days=20)
    path = compare_runs("a", "b")
    assert path == home / "reports" / "compare" / "a-and-b.html"
    page = path.read_text()
    assert "a and b differ: 1 parameter, 1 revised day, 1 episode moved, 1 table." in page
    assert "fast_days" in page
    assert "2014-01-11" in page
    assert "default-src &#39;none&#39;" in page
    assert "present" not in {name for name, frame in differences(home / "reports" / "a", home / "reports" / "b").items()
                             if not frame.empty}  # fmt: skip


def test_a_comparison_says_what_became_of_the_primary_test(home):
    for run in ("a", "b"):
        fake_report(home, run, small_market(), [("2014-02-01", "2014-03-01")])
    found = differences(home / "reports" / "a", home / "reports" / "b")
    moved = changed_values(
        {"n_events": 30, "excess_log": -0.03, "p_rotation": 0.6}, {"n_events": 31, "excess_log": 0.01}
    )
    told = sentence(
        {**found, "headline": moved, "tables": pd.DataFrame({"table": ["x"], "state": ["differs"]})}, "a", "b"
    )
    assert told == (
        "a and b differ: 1 table. Of the primary test: excess log return −0.03 became 0.01, rotation p 0.6 became –."
    )


def test_report_does_not_differ_from_itself(home):
    fake_report(home, "a", small_market(), [("2014-02-01", "2014-03-01")])
    assert "a and a hold the same figures." in compare_runs("a", "a").read_text()


def test_a_comparison_waits_for_a_report_that_is_being_made(home):
    """Else it could read one half of the old report and one half of the new."""
    for run in ("a", "b"):
        fake_report(home, run, small_market(), [("2014-02-01", "2014-03-01")])
    lines, held, release = [], threading.Event(), threading.Event()

    def hold():
        with run_lock("b", lines.append):
            held.set()
            release.wait(5)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)

    def say(line):
        lines.append(line)
        release.set()

    path = compare_runs("b", "a", progress=say)
    holder.join()
    assert lines == ["report 'b' is being made by another process: waiting for it"]
    assert [found.name for found in path.parent.iterdir()] == ["b-and-a.html"]


@pytest.mark.parametrize("names", [("a", "missing"), ("../a", "a"), ("a", "/etc")])
def test_comparing_what_is_not_there(home, names):
    fake_report(home, "a", small_market(), [])
    with pytest.raises(InputError, match="RUN="):
        compare_runs(*names)


def test_bundle_holds_report_and_tables_and_is_the_same_twice(home):
    fake_report(home, "a", small_market(), [])
    path = bundle("a")
    first = path.read_bytes()
    assert zipfile.ZipFile(path).namelist() == ["a/report.html", "a/run.json", "a/tables/episodes.csv"]
    assert bundle("a").read_bytes() == first
    assert sorted(p.name for p in (home / "reports").iterdir()) == [".locks", "a", "a.zip"]


def test_a_bundle_clears_up_after_its_own_run_only(home):
    """A run may be called a.zip-b: its staging folder begins like the leftovers of a's bundle."""
    fake_report(home, "a", small_market(), [])
    (home / "reports" / ".a.zip-99").write_text("left behind by a killed process")
    (home / "reports" / ".a.zip-b.staging-7").mkdir()
    bundle("a")
    assert {p.name for p in (home / "reports").glob(".a*")} == {".a.zip-b.staging-7"}


SOURCE = (
    "import capitulation as cap\n"
    "run = cap.open_run('10-sum-up', globals())\n"
    "run.save_table(run.panel.tail(3).round(1).reset_index(), 'tail')"
)


def test_rebuilding_says_whether_every_table_is_identical(home):
    write_notebook(home / "notebooks", "10-sum-up", cells_notebook("# Sum", SOURCE))
    folder = make_report(make_params(), "a", jobs=1, progress=lambda line: None, load=loader())
    before = (folder / "run.json").read_bytes()
    same, text = reproduce("a", progress=lambda line: None, jobs=1)
    assert same, text
    assert "1 tables, all identical; data from the copy in the report" in text
    assert (folder / "run.json").read_bytes() == before
    assert [p.name for p in (home / "reports").glob(".a*")] == []
    write_notebook(home / "notebooks", "10-sum-up", cells_notebook("# Sum", SOURCE.replace("tail(3)", "tail(4)")))
    same, text = reproduce("a", progress=lambda line: None, jobs=1)
    assert not same
    assert "tail.csv: differs" in text


def test_verdict_names_versions_that_changed():
    facts = {"run": "a", "tables": {"x.csv": "1", "y.csv": "2"}, "versions": record.versions() | {"numpy": "1.0"}}
    same, text = verdict(facts, {"x.csv": "1", "z.csv": "3"}, "data from seed:17")
    assert not same
    assert text.splitlines()[:3] == [
        "a: 2 tables, NOT all identical; data from seed:17", "y.csv: not made again", "z.csv: new",
    ]  # fmt: skip
    assert "numpy 1.0 then" in text


def test_damaged_copy_of_the_data_is_refused(home):
    from capitulation.errors import DataError

    folder = fake_report(home, "a", small_market(), [])
    write_notebook(home / "notebooks", "10-sum-up", cells_notebook("# Sum", SOURCE))
    path = folder / "market" / "panel.csv"
    path.write_text(path.read_text().replace("2014-01-05", "2014-01-06"))
    with pytest.raises(DataError):
        reproduce("a", progress=lambda line: None, jobs=1)


def test_record_is_plain_json(home):
    folder = fake_report(home, "a", small_market(age_days=2.0, notes=("n",)), [])
    facts = json.loads((folder / "run.json").read_text())
    assert facts["market"]["notes"] == ["n"]
    assert facts["market"]["last_day"] == "2015-05-15"
    assert not record.is_whole(folder, facts)
    shutil.copy(folder / "report.html", folder / "index.html")
    assert record.is_whole(folder, facts)
