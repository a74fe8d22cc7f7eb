"""What is done again: nothing where nothing changed, what changed alone, and what another report has already."""

import json
import os

import pytest
from filelock import FileLock, Timeout

import homes
from capitulation import __main__ as program
from capitulation import cli
from capitulation.report import unchanged


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A tiny project whose `make report` runs in this process, by the environment alone."""
    folder = homes.tiny_home(tmp_path)
    (folder / "params" / "mine.yml").write_text("hold_days: 30\n")
    monkeypatch.chdir(folder)
    for name in (*unchanged.ASKED, "FORCE", "JOBS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CAPITULATION_HOME", str(folder))
    monkeypatch.setenv("DATA", "btc.csv")
    monkeypatch.setenv("PARAMS", "mine")
    monkeypatch.setattr("sys.argv", ["capitulation", "report"])
    return folder


def make(capsys) -> str:
    assert program.main() == 0
    out, err = capsys.readouterr()
    assert out.strip().endswith("index.html")
    return err


def edited(path, old: bytes, new: bytes) -> None:
    """Replace the last `old`, with the time and size of the file as before where they can be."""
    before, content = path.stat(), path.read_bytes()
    assert old in content
    path.write_bytes(new.join(content.rsplit(old, 1)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_unchanged_report_is_told_before_pandas_is_loaded(home, capsys):
    assert "nothing changed" not in make(capsys)
    code, out, err = homes.finish(homes.start(home, "report", DATA="btc.csv", PARAMS="mine", PYTHONVERBOSE="1"))
    assert code == 0 and "nothing changed since reports/latest was made" in err
    assert out.strip() == str(home / "reports" / "latest" / "index.html")
    assert "import 'capitulation.report.unchanged'" in err and "import 'pandas'" not in err


def test_whatever_changes_is_noticed(home, capsys, monkeypatch):
    make(capsys)
    made, book = home / "reports" / "latest", home / "notebooks" / "20-count-days.ipynb"
    changes = [
        lambda: edited(home / "btc.csv", b"\n", b" \n"),
        lambda: edited(home / "params" / "mine.yml", b"30", b"31"),
        lambda: edited(book, b"The last", b"The past"),
        lambda: book.unlink(),
        lambda: homes.write_notebook(home, "30-more", "1 + 1"),
        lambda: edited(made / "index.html", b"</html>", b"</html >"),
        lambda: (made / "tables" / "tail.csv").unlink(),
        lambda: homes.write_notebook(homes.make_home(home / "reports" / "latest.failed"), "10-sum-up", "1 + 1"),
    ]
    for change in changes:
        assert unchanged.same_report() == made
        whole = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
        change()
        assert unchanged.same_report() is None, change
        for path in [path for path in home.rglob("*") if path.is_file() and path not in whole]:
            path.unlink()
        for path, content in whole.items():
            path.write_bytes(content)
    for name, value in {"SET": "hold_days=40", "AS_OF": "2022-07-01", "FORCE": "1", "RUN": "another"}.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert unchanged.same_report() is None, name
    with monkeypatch.context() as patch:
        patch.chdir(home / "params")
        assert unchanged.same_report() is None
    edited(book, b"The last", b"The past")
    assert "20-count-days:" in make(capsys) and unchanged.same_report() == made


def test_the_next_day_and_another_version_are_noticed(home, capsys, monkeypatch):
    make(capsys)
    for name, other in (("versions", {"pandas": "0"}), ("decides", {"day": "2100-01-01"})):
        with monkeypatch.context() as patch:
            patch.setattr(unchanged, name, lambda *_, other=other: other)
            assert unchanged.same_report() is None
    assert unchanged.same_report() is not None


def test_a_report_by_flags_or_without_local_files_leaves_no_note(home, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["capitulation", "report", "--data", "btc.csv"])
    make(capsys)
    monkeypatch.setattr("sys.argv", ["capitulation", "report"])
    assert unchanged.same_report() is None
    monkeypatch.setenv("DATA", "")
    monkeypatch.setenv("SOURCE", "simulated")
    monkeypatch.setenv("RUN", "simulated")
    make(capsys)
    assert unchanged.same_report() is None


def test_one_of_two_files_a_map_of_columns_and_a_profile_elsewhere_count_too(home, capsys, monkeypatch):
    rows = [line.split(",") for line in (home / "btc.csv").read_text().splitlines()]
    price = rows[0].index("PriceUSD")
    (home / "price.csv").write_text("\n".join(f"{row[0]},{row[price]}" for row in rows))
    (home / "rest.csv").write_text("\n".join(",".join(row[:price] + row[price + 1 :]) for row in rows))
    (home / "columns.yml").write_text("price: PriceUSD\n")
    (home / "mine.yml").write_text("hold_days: 30\n")
    monkeypatch.setenv("PARAMS", "mine.yml")
    monkeypatch.setenv("DATA", "rest.csv price.csv")
    monkeypatch.setenv("SET", "columns=columns.yml")
    make(capsys)
    for name in ("price.csv", "columns.yml", "mine.yml"):
        assert unchanged.same_report() is not None
        content = (home / name).read_bytes()
        (home / name).write_bytes(content + b"\n")
        assert unchanged.same_report() is None
        (home / name).write_bytes(content)


def test_another_name_takes_what_a_report_has_if_it_is_as_it_was_made(home, capsys, monkeypatch):
    ran = make(capsys)
    assert "10-sum-up:" in ran and "20-count-days:" in ran
    monkeypatch.setenv("RUN", "second")
    assert "-" not in make(capsys).split("to read")[0]  # no notebook ran
    first, second = (homes.contents(home / "reports" / name) for name in ("latest", "second"))
    for name in ("tables/tail.csv", "notebooks/10-sum-up.ipynb", "notebooks/20-count-days.ipynb"):
        assert first[name] == second[name]
    for name in ("latest", "second"):
        edited(home / "reports" / name / "tables" / "tail.csv", b"\n", b" \n")
    monkeypatch.setenv("RUN", "third")
    ran = make(capsys)
    assert "10-sum-up:" in ran and "20-count-days:" not in ran
    assert homes.contents(home / "reports" / "third")["tables/tail.csv"] == first["tables/tail.csv"]


def test_one_parameter_runs_the_notebooks_that_use_it(home, capsys, monkeypatch):
    rest = 'data = ""  # path: file\nas_of = ""  # date: last day'
    homes.write_notebook(home, "30-no-holding", homes.OPEN + "page.finding('None.')", parameters=rest)
    make(capsys)
    monkeypatch.setenv("SET", "hold_days=44")
    ran = make(capsys)
    assert "10-sum-up:" in ran and "20-count-days:" in ran and "30-no-holding:" not in ran


def test_no_other_report_can_take_its_place_before_it_is_written_down_and_noted(home, capsys, monkeypatch):
    kept_out = []

    def held(run):
        with pytest.raises(Timeout):
            FileLock(home / "reports" / ".locks" / f"{run}.lock").acquire(timeout=0)
        kept_out.append(run)

    monkeypatch.setattr(cli, "write_down", held)
    monkeypatch.setattr(unchanged, "keep_note", lambda run, *_: held(run))
    make(capsys)
    assert kept_out == ["latest", "latest"]


def test_a_damaged_note_is_none(home, capsys):
    make(capsys)
    (note,) = (home / "reports" / ".made").iterdir()
    whole = json.loads(note.read_bytes())
    for damaged in (b"", b"{", b"[]", b"null", json.dumps(whole | {"files": 3}).encode()):
        note.write_bytes(damaged)
        assert unchanged.same_report() is None
    assert "nothing changed" in make(capsys)
