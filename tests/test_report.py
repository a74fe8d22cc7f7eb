"""A report: what notebooks are passed and what arrives, both engines alike, what runs again, what failure leaves."""

from __future__ import annotations

import json
import re
import threading
import zipfile

import numpy as np
import pandas as pd
import pytest

import homes
from capitulation.errors import DataError, InputError, ReportError
from capitulation.figures.compared import compared
from capitulation.params import make_params
from capitulation.report import run
from capitulation.report.changes import changed_values, in_words, matched_episodes, revised_days, side, turned_claims
from capitulation.report.compare import bundle, compare_runs, reproduce
from homes import OPEN, contents, report, small_market, small_panel, write_notebook


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(homes.make_home(tmp_path / "a {b} ü")))
    return tmp_path / "a {b} ü"


EVERYTHING = [
    "# All that a cell can show",
    "import sys, warnings\nprint('out')\nprint('more')\nprint('err', file=sys.stderr)",
    "warnings.warn('careful')",
    "from IPython.display import HTML, Markdown, display\ndisplay(HTML('<b>shown</b>'))\nMarkdown('*last*')",
    "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nfigure, _ = plt.subplots(figsize=(2, 1))\nfigure",
    "handle = display('first', display_id=True)\nhandle.update('second')",
    "from IPython.display import clear_output\nprint('gone')\nclear_output()\nprint('kept')",
    "import asyncio\nawait asyncio.sleep(0)\n{'b': 1, 'a': [object()]}",
    "!echo from a command",
    "import numpy\nhold_days + numpy.float64(1)\n40 + 2;",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The test notebooks, and one that shows everything, as a report by each engine; a secret in the environment."""
    home, reports = homes.make_home(tmp_path_factory.mktemp("home"), test_notebooks=True), {}
    write_notebook(home, "30-show-everything", *EVERYTHING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPITULATION_HOME", str(home))
        patch.setenv("SOME_API_KEY", "sEcReT-123")
        for engine in run.ENGINES:
            reports[engine] = report(engine, engine=engine, params=make_params({"hold_days": 20}))
    return home, reports


ENGINES = pytest.mark.xdist_group("engines")  # made once


@ENGINES
def test_both_engines_give_the_same_files(made):
    one, other = (contents(folder) for folder in made[1].values())
    named = {"index.html", "report.html", "run.json"}  # they name the run
    pages = {name for name in one if name.endswith(".html")}
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name] and name not in named | pages] == []
    texts = [
        {name: (folder / name).read_text().replace(f"· {engine}<", "<") for name in pages}
        for engine, folder in made[1].items()
    ]
    assert texts[0] == texts[1]


@ENGINES
def test_all_that_a_cell_shows_arrives_in_order(made):
    cells = json.loads((made[1]["in-process"] / "notebooks" / "30-show-everything.ipynb").read_text())["cells"]
    outputs = {"".join(cell["source"]): cell.get("outputs", []) for cell in cells}
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    shown = [outputs[source] for source in EVERYTHING[1:]]
    assert [(o["name"], "".join(o["text"])) for o in shown[0]] == [
        ("stdout", "out\nmore\n"),
        ("stderr", "err\n"),
    ]
    assert "UserWarning: careful" in "".join(shown[1][0]["text"]) and shown[1][0]["name"] == "stderr"
    assert [o["output_type"] for o in shown[2]] == ["display_data", "execute_result"]
    assert "".join(shown[2][1]["data"]["text/markdown"]) == "*last*"
    assert ["image/png" in o["data"] for o in shown[3]] == [True] * 3, "shown, last expression, left open"
    assert "second" in str(shown[4]) and "first" not in str(shown[4])
    assert "kept" in str(shown[5]) and "gone" not in str(shown[5])
    assert "0x…" in str(shown[6])
    assert "from a command" in str(shown[7])
    assert shown[8] == []


@ENGINES
def test_report_holds_every_part_and_records_what_it_was_made_from(made):
    folder = made[1]["in-process"]
    files, facts = contents(folder), json.loads((folder / "run.json").read_text())
    assert {"10-look-at-market.html", "tables/summary.csv", "findings/20-draw-price.json", "market/panel.csv"} <= set(
        files
    )
    assert not [name for name in files if ".parts" in name or name.endswith("settings.json")]
    assert facts["changed"] == {"hold_days": 20} and facts["market"]["digest"] == small_market().digest
    assert [item["parameters"] for item in facts["notebooks"]] == [{"data": "", "as_of": "", "hold_days": 20}] * 3
    assert "with hold_days=20." in (folder / "10-look-at-market.html").read_text()
    assert {"pandas", "numpy", "python", "statsmodels"} <= set(facts["versions"])


@ENGINES
def test_no_path_of_this_machine_and_no_secret_is_published(made):
    home, reports = made
    for path in (path for folder in reports.values() for path in folder.rglob("*") if path.is_file()):
        assert str(home).encode() not in path.read_bytes() and b"sEcReT-123" not in path.read_bytes(), path


# --- what runs again ------------------------------------------------------------------------------------------------


def test_only_what_changed_runs_again(home):
    write_notebook(home, "10-a-b", "# A", OPEN + "page.save_table(page.panel.head(2).reset_index(), 'a')")
    fast = OPEN + "page.save_json('b', {'fast': page.rules['fast_days']})"
    write_notebook(home, "20-c-d", "# C", fast, parameters='data = ""\nas_of = ""')

    def ran(**changes) -> list[str]:
        said: list[str] = []
        report(said=said, **changes)
        return sorted(re.sub(r":.*", "", line) for line in said)

    assert ran() == ["10-a-b", "20-c-d"]
    assert ran()[0].startswith("nothing changed since reports/t was made")
    assert ran(params=make_params({"seed": 5})) == [], "an undeclared parameter concerns the pages alone"
    assert ran(params=make_params({"seed": 5, "hold_days": 30})) == ["10-a-b"]
    assert ran(params=make_params({"seed": 5, "hold_days": 30, "fast_days": 20})) == ["20-c-d"], "it uses page.rules"
    assert json.loads((home / "reports" / "t" / "b.json").read_text()) == {"fast": 20}
    again = {"params": make_params({"seed": 5, "hold_days": 30, "fast_days": 20})}
    write_notebook(home, "10-a-b", "# A", OPEN + "page.save_table(page.panel.head(3).reset_index(), 'a')")
    assert ran(**again) == ["10-a-b"]
    (home / "reports" / "t" / "tables" / "a.csv").write_text("edited")
    assert ran(**again) == ["10-a-b"], "an edited table is made again, never passed on"
    assert len(pd.read_csv(home / "reports" / "t" / "tables" / "a.csv")) == 3
    assert ran(**again, market=small_market(panel=small_panel(seed=2))) == ["10-a-b", "20-c-d"]
    assert ran(**again, force=True) == ["10-a-b", "20-c-d"]


def test_a_notebook_may_declare_parameters_of_its_own(home):
    write = "pathlib.Path(os.environ['CAPITULATION_RUN_FOLDER'], 'w.json').write_text(str(my_days))"
    write_notebook(home, "10-a-b", f"import os, pathlib\n{write}", parameters="my_days = 7  # days: mine")
    assert (report() / "w.json").read_text() == "7"
    assert (report(own={"my_days": 9}, overrides={"my_days"}) / "w.json").read_text() == "9"
    assert "<span>my_days</span> 9" in (home / "reports" / "t" / "index.html").read_text()


@pytest.mark.parametrize("source", ["a = b", "a: int", "import os", "a = b = 1", "a = 1 +", "f(1)", "a += 1"])
def test_a_parameters_cell_holds_literals_only(home, source):
    write_notebook(home, "10-a-b", "1", parameters=f"x = 1\n{source}")
    with pytest.raises(ReportError, match=r"10-a-b.ipynb, parameters cell, line 2: write one"):
        report()


@pytest.mark.parametrize("content", ["", "[]", '{"cells": 3}', "\x00", '{"cells": [{}]}'])
def test_a_damaged_notebook_is_named(home, content):
    (home / "notebooks" / "10-a-b.ipynb").write_text(content)
    with pytest.raises(ReportError, match="10-a-b.ipynb cannot be read"):
        report()


def test_nothing_runs_for_a_bad_name_or_an_override_that_changes_nothing(home):
    write_notebook(home, "10-a-b", "1/0")
    for name, options, needle in [
        ("../x", {}, "RUN="),
        ("t", {"overrides": {"seed"}}, "SET seed"),
        ("simulated", {}, "reserved"),
    ]:
        with pytest.raises(InputError, match=needle):
            report(name, **options)
    assert list((home / "reports").glob("*")) == []


def test_a_sample_without_any_price_is_one_line(home):
    write_notebook(home, "10-a-b", "1/0", parameters="horizons_days = [7]  # days: horizons")
    with pytest.raises(InputError, match="no day of the sample from sample_start=2024-01-01 .* to 2014-04-10; .*AS_OF"):
        report(params=make_params({"sample_start": "2024-01-01"}), market=small_market(panel=small_panel(100)))


def test_without_any_price_the_pages_on_the_network_are_made_and_the_others_named(home):
    unpriced = small_market(panel=small_panel().assign(price_usd=np.nan))
    write_notebook(home, "20-a-b", "1/0", tags=("price",))
    with pytest.raises(InputError, match="has no price up to 2015-05-15, which pages 20 need"):
        report(market=unpriced)
    write_notebook(home, "10-sum-up", "# Sums", OPEN)
    folder = report(market=unpriced)
    assert [path.name for path in folder.glob("[0-9]*.html")] == ["10-sum-up.html"]
    assert "without those on returns (20)" in (folder / "index.html").read_text()
    assert reproduce("t", progress=lambda line: None)[0], "the pages that were made, no other"
    with pytest.raises(InputError, match="which pages 20 need"):
        report(market=unpriced, params=make_params({"pages": [20]}))


def test_a_report_of_some_pages_names_no_other_and_can_be_made_whole_later(home):
    """The chosen pages alone are made, linked and rebuilt; the whole report of the same name then takes them over."""
    for number in (10, 20, 30):
        write_notebook(
            home, f"{number}-sum-up", f"# Page {number}", OPEN + f"page.save_table(page.panel.head(3), 't{number}')"
        )
    folder, said = report(params=make_params({"pages": [10, 30]})), []
    assert sorted(page.stem for page in folder.glob("[0-9]*.html")) == ["10-sum-up", "30-sum-up"]
    assert not [page for page in folder.glob("*.html") if "20-sum-up" in page.read_text()]
    assert reproduce("t", progress=lambda line: None)[0]
    assert bundle("t").is_file()
    report(said=said)
    assert [line.partition(":")[0] for line in said] == ["20-sum-up"]
    assert len([*folder.glob("[0-9]*.html")]) == 3


def test_a_simulated_market_goes_to_its_own_folder_with_a_banner_on_every_page(home):
    write_notebook(home, "10-a-b", "# T", "1")
    folder = report("real", market=small_market(simulated=True))
    assert folder.name == "simulated"
    assert all("Simulated market" in page.read_text() for page in folder.glob("*.html"))


def test_a_new_report_opens_with_what_changed_since_the_last_one(home):
    """State, episodes and claims as the notebooks write them, revised data; made again, the report keeps its words."""
    source = f"{OPEN}import pandas as pd\nnow = page.panel['price_usd'].iloc[10] > 700\n"
    source += "import capitulation as cap\nstate = cap.present_state(page.panel, horizons=[7])\n"
    source += "page.save_json('state', state | {'ribbon_state': 'recovering' if now else 'capitulation'})\n"
    claims = "{'id': [1], 'claim': ['It holds'], 'verdict': ['contradicted' if now else 'reproduced']}"
    source += f"pd.DataFrame({claims}).to_csv(page.folder / 'tables' / 'claims.csv', index=False)"
    source = source.replace("now =", "(page.folder / 'tables').mkdir()\nnow =", 1)
    write_notebook(home, "10-a-b", "# A", source)

    def since(**given):
        folder = report("t", **given)
        found = re.search('aria-labelledby="since">(.*?)</section>', (folder / "index.html").read_text(), re.DOTALL)
        return re.sub("<[^>]*>", " ", found[1]) if found else ""

    revised = small_panel()
    revised.iloc[10, 0] *= 2
    assert since() == ""
    told = since(market=small_market(panel=revised))
    assert all(text in told for text in ("capitulation", "recovering", "It holds", "contradicted", "2014-01-11"))
    assert since(market=small_market(panel=revised), force=True) == told
    again = since(market=small_market(panel=revised), params=make_params({"hold_days": 20}))
    assert "hold_days" in again and "It holds" not in again


EARLIER = {
    "state is a list": ("state.json", "[1]"),
    "state without a name": ("state.json", '{"as_of": "2014-01-01"}'),
    "state is cut off": ("state.json", "{"),
    "episodes of other columns": ("tables/episodes.csv", "rule,from\nx,2014-01-01\n"),
    "episodes without a start": ("tables/episodes.csv", "definition,start,end\nx,,2014-01-01\nx,2014-01-01,\n"),
    "claims of other columns": ("tables/claims.csv", "number\n1\n"),
    "an empty table": ("tables/claims.csv", ""),
    "primary is a text": ("headline.json", '{"primary": "x"}'),
}


@pytest.mark.parametrize("earlier", EARLIER)
def test_an_earlier_report_that_cannot_be_read_does_not_stop_the_next_one(home, earlier):
    source = f"{OPEN}import capitulation as cap, pandas as pd\n(page.folder / 'tables').mkdir()\n"
    source += "page.save_json('state', cap.present_state(page.panel, horizons=[7]))\n"
    source += "page.save_json('headline', {'primary': {'excess_own_era': page.panel['price_usd'].mean()}})\n"
    for name, columns in {"episodes": ("definition", "start", "end"), "claims": ("id", "claim", "verdict")}.items():
        source += f"pd.DataFrame({{name: ['2014-01-02'] for name in {columns}}})"
        source += f".to_csv(page.folder / 'tables' / '{name}.csv', index=False)\n"
    write_notebook(home, "10-a-b", "# A", source)
    name, text = EARLIER[earlier]
    (report("t") / name).write_text(text)
    revised = small_panel()
    revised.iloc[10, 0] *= 2
    assert (report("t", market=small_market(panel=revised)) / "index.html").is_file()


def test_a_report_of_another_format_is_made_again(home, monkeypatch):
    write_notebook(home, "10-a-b", "# A", "1")
    with monkeypatch.context() as patched:
        patched.setattr(run, "FORMAT", "older")
        folder = report("t")
    with pytest.raises(DataError, match="another version"):
        compare_runs("t", "t")
    report("t", params=make_params({"hold_days": 20}))
    assert run.read_record(folder)["format"] == run.FORMAT


# --- published reports ----------------------------------------------------------------------------------------------


@pytest.fixture
def two(home):
    """Two reports, b with another parameter, a revised price and a moved episode."""
    tables = (
        "pd.DataFrame({'definition': ['x'], 'episode': [1], 'start': ['2014-02-0' + ('1' if hold_days > 50 else '2')]"
    )
    source = f"{OPEN}import pandas as pd\nframe = {tables}, 'end': ['2014-03-01']}})\n"
    source += (
        "import os, pathlib\nfolder = pathlib.Path(os.environ['CAPITULATION_RUN_FOLDER'], 'tables')\nfolder.mkdir()\n"
    )
    write_notebook(home, "10-sum-up", "# Sum", source + "frame.to_csv(folder / 'episodes.csv', index=False)")
    revised = small_panel()
    revised.iloc[10, 0] *= 2
    report("a")
    report("b", params=make_params({"hold_days": 20}), market=small_market(panel=revised))
    return home


def test_a_comparison_tells_what_changed(two):
    page = compare_runs("a", "b").read_text()
    told = re.sub("<[^>]*>", "", re.search('<ul class="told">(.*?)</ul>', page, re.DOTALL)[1])
    assert "hold_days 90 became 20" in told and "1 day" in told and "+100.000\u00a0%" in told
    assert all(text in told for text in ("2014-01-11", "2014-02-01 to 2014-03-01", "2014-02-02 to 2014-03-01"))
    assert page.count("<img") == 1 and "<td" in page
    assert "a and a hold the same figures." in compare_runs("a", "a").read_text()
    for names in (("a", "missing"), ("../a", "a"), ("a", "/etc")):
        with pytest.raises(InputError, match="RUN="):
            compare_runs(*names)


def test_a_comparison_waits_for_a_report_that_is_being_made(two):
    """Else it could read one half of the old report and one half of the new."""
    lines, held, release = [], threading.Event(), threading.Event()

    def hold():
        with run.run_lock("b", lines.append):
            held.set()
            release.wait(5)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)
    compare_runs("b", "a", progress=lambda line: (lines.append(line), release.set()))
    holder.join()
    assert lines == ["report 'b' is being made by another process: waiting for it"]


def test_differences_of_frames():
    a = small_panel(50)
    b = a.copy()
    b.iloc[3, 0], b.iloc[7, 2], b.iloc[9, 0] = b.iloc[3, 0] * 1.1, b.iloc[7, 2] + 1, np.nan
    found = revised_days(a, b.iloc[:40])
    cells = sorted(zip(found["date"].dt.day, found["column"], strict=True))
    assert cells == [(4, "price_usd"), (8, "block_count"), (10, "price_usd")]
    assert found.loc[found["date"] == a.index[3], "relative_change"].item() == pytest.approx(0.1)
    assert revised_days(a, a.iloc[5:]).empty
    spans = [("2014-01-01", "2014-02-01"), ("2015-01-01", "2015-02-01"), ("2016-01-01", None)]
    old = pd.DataFrame(spans, columns=["start", "end"]).assign(definition="x")
    new = old.assign(start=["2014-01-01", "2015-01-09", "2017-01-01"], end=["2014-02-01", "2015-02-01", "2017-01-05"])
    kinds = dict(zip(matched_episodes(old, new)["first"], matched_episodes(old, new)["change"], strict=True))
    assert kinds == {"2015-01-01 to 2015-02-01": "moved", "2016-01-01 to now": "moved"}
    assert matched_episodes(old, new.iloc[:2])["change"].tolist() == ["moved", "vanished"]
    assert matched_episodes(old.iloc[:2], new)["change"].tolist() == ["moved", "appeared"]
    assert matched_episodes(old.tail(1), new.tail(1), ("2016-06-01", "2017-06-01"))["change"].tolist() == [
        "vanished",
        "appeared",
    ]
    shown = changed_values({"a": 1, "b": 2.0, "c": 3}, {"a": 1, "b": 2.5})
    assert shown.to_numpy().tolist() == [["b", "2", "2.5", "+0.5"], ["c", "3", "–", "–"]]
    digests = ({"snapshot": f"sha256:{letter * 64}"} for letter in "ab")
    assert changed_values(*digests)["first"].item() == f"sha256:{'a' * 12}…"
    claims = pd.DataFrame({"id": [1, 2], "claim": ["A", "B"], "verdict": ["reproduced", "contradicted"]})
    turned = turned_claims(claims, claims.assign(verdict="contradicted"))
    assert turned.to_numpy().tolist() == [["A", "reproduced", "contradicted"]]
    assert turned_claims(claims, claims.iloc[:0]).empty
    assert turned_claims(claims, claims.assign(verdict=np.nan)).empty


def test_words_of_a_change_hold_no_gaps(tmp_path):
    for name, primary in (
        ("a", {"n_events": 0, "excess_own_era": None}),
        ("b", {"n_events": 3, "excess_own_era": 0.1}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "headline.json").write_text(json.dumps({"primary": primary}))
    found = dict.fromkeys(("The present state", "Episodes", "Claims"), pd.DataFrame())
    found |= {name: changed_values({"a": "", "b": 1}, {"a": "x"}) for name in ("Parameters", "Software")}
    found["The primary test"] = changed_values({"n_events": 0}, {"n_events": 3})
    zero = small_panel(5).assign(price_usd=0.0)
    found["Revised days"] = revised_days(zero[["price_usd"]], zero[["price_usd"]] + 1)
    told = in_words(*(side(tmp_path / name, {}) for name in "ab"), found)
    rules = pd.DataFrame({"excess": [np.nan, 0.1], "low": [np.nan, 0.0], "high": [np.nan, 0.2]}, ["x", "y"])
    gaps = {name: pd.Series(dtype=float, index=pd.DatetimeIndex([])) for name in "ab"}
    told.append(compared(gaps, {"a": rules, "b": rules.tail(1)}).get_label())
    assert len(told) == 5 and not re.search("–|nan|None|inf", " ".join(told)), told


def test_a_bundle_is_the_same_twice_and_clears_up_after_its_own_run_only(two):
    """A run may be called a.zip-b: what it leaves begins like the leftovers of a's bundle."""
    reports = two / "reports"
    (reports / ".a.zip.partial").write_text("left behind by a killed process")
    (reports / ".a.zip-b.staging-7").mkdir()
    path = bundle("a")
    first = path.read_bytes()
    names = [f"a/{page}.html" for page in ("10-sum-up", "appendix", "index", "report")]
    names += ["a/run.json", "a/summary.txt", "a/tables/episodes.csv", "a/tables/sources.csv"]
    assert zipfile.ZipFile(path).namelist() == names
    assert bundle("a").read_bytes() == first
    assert {found.name for found in reports.glob(".a*")} == {".a.zip-b.staging-7"}


@pytest.mark.parametrize("place", ["tables/x.csv", "report.html", "tables"])
def test_a_bundle_follows_no_link(two, place):
    link = two / "reports" / "a" / place
    aside = two / "aside"
    aside.mkdir()
    (aside / "secret.csv").write_text("secret")
    if link.exists():
        link.rename(aside / "as-it-was")
    link.symlink_to(aside if place == "tables" else aside / "secret.csv")
    with pytest.raises(DataError, match=f"reports/a/{place}.*: a link"):
        bundle("a")
    assert not (two / "reports" / "a.zip").exists()


def test_rebuilding_says_whether_every_table_is_identical(two):
    before = contents(two / "reports" / "a")
    same, text = reproduce("a", progress=lambda line: None)
    assert same and "2 tables, all identical; data from the copy in the report" in text
    path = two / "notebooks" / "10-sum-up.ipynb"
    path.write_text(path.read_text().replace("2014-03-01", "2014-03-02"))
    same, text = reproduce("a", progress=lambda line: None)
    assert not same and "episodes.csv: differs" in text and "not compared with" not in text
    assert contents(two / "reports" / "a") == before and list((two / "reports").glob(".a*")) == []
    panel = two / "reports" / "a" / "market" / "panel.csv"
    panel.write_text(panel.read_text().replace("2014-01-05", "2014-01-06"))
    with pytest.raises(DataError):
        reproduce("a", progress=lambda line: None)


def test_what_an_earlier_version_or_a_lost_second_source_takes_away_is_said(home):
    write_notebook(home, "10-sum-up", "# Sums", OPEN)
    for name in ("a", "b"):
        report(name, market=small_market(others=("mempool_space/20200101T000000Z",)))
    assert "not compared with: mempool_space/20200101T000000Z" in reproduce("a", progress=lambda line: None)[1]
    facts = home / "reports" / "b" / "market" / "market.json"
    facts.write_text(facts.read_text().replace('"origins"', '"licences"'))
    for refused in (lambda: reproduce("b"), lambda: compare_runs("a", "b")):
        with pytest.raises(DataError, match="^b/market/market.json: .*make the report again"):
            refused()


DAMAGES = {"empty": b"", "list": b"[]", "object": b"{}", "bytes": b"\xff\xfe", "deep": b"[" * 50_000, "escape": b""}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_refused_and_made_again(two, damage):
    folder, change = two / "reports" / "a", DAMAGES[damage]
    good = (folder / "run.json").read_bytes()
    escaping = json.loads(good)
    escaping["notebooks"][0]["files"].append("../../btc.csv")
    (folder / "run.json").write_bytes(json.dumps(escaping).encode() if damage == "escape" else change)
    for refused in (lambda: reproduce("a"), lambda: compare_runs("a", "b"), lambda: bundle("a")):
        with pytest.raises(DataError, match="damaged"):
            refused()
    report("a")
    assert (folder / "run.json").read_bytes() == good
