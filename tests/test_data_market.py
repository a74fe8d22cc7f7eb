"""Where a run's data come from: fresh snapshot, fetch, fall back, or the simulated market; and what is kept of it."""

import datetime as dt
import json
import time

import pandas as pd
import pytest

import local_server as ls
from capitulation.data import market as markets
from capitulation.data import store
from capitulation.data.http import Policy
from capitulation.data.market import fetch, load_market, read_market, save_market
from capitulation.errors import DataError, InputError, SourceUnavailable
from capitulation.params import make_params
from capitulation.paths import raw_folder
from capitulation.report import fingerprint

FAST = Policy(connect_seconds=0.5, read_seconds=0.5, total_seconds=1.5, tries=2, backoff_seconds=0.01)
DAY = pd.Timedelta(days=1)


def silent(_line):
    return None


@pytest.fixture(scope="module")
def panel():
    yesterday = pd.Timestamp(store.utc_now().date()) - DAY
    return ls.made_panel(300, end=str(yesterday.date()))


@pytest.fixture
def server(panel, tmp_path, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path))
    with ls.LocalServer() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        running.serve_all(panel)
        yield running


def load(progress=silent, offline=False, snapshot="", **values):
    return load_market(make_params(values), policy=FAST, progress=progress, offline=offline, snapshot=snapshot)


def break_all(server):
    for path in list(server.scripts):
        server.serve(path, ls.status(404))


def age(name, days):
    """Pretend that the provider's only snapshot was fetched `days` ago."""
    [folder] = store.snapshot_folders(name)
    when = store.utc_now() - dt.timedelta(days=days)
    path = folder / "manifest.json"
    path.chmod(0o644)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"retrieved_at": when.isoformat()}))


@pytest.fixture
def simulated(monkeypatch):
    """A stand-in for the simulation, whose truth is tested elsewhere."""
    import capitulation.simulate

    monkeypatch.setattr(capitulation.simulate, "simulate_panel", lambda seed: ls.made_panel(100, seed=seed))


def test_the_first_run_fetches_and_the_second_does_not(server, panel):
    first = load()
    asked = len(server.requests)
    second = load()
    assert len(server.requests) == asked
    assert second.snapshot == first.snapshot == f"coinmetrics/{store.snapshot_folders('coinmetrics')[0].name}"
    assert (first.source, first.simulated, first.licence) == ("coinmetrics", False, "CC BY-NC 4.0")
    assert first.digest == second.digest
    assert first.age_days < 0.1
    pd.testing.assert_series_equal(first.panel.price_usd, panel.price_usd, check_freq=False)
    assert {item["name"] for item in first.files} == {"catalog.json", "page-01.json"}


def test_a_stale_snapshot_is_renewed_and_a_young_one_kept(server):
    load()
    age("coinmetrics", 0.9)
    asked = len(server.requests)
    load()
    assert len(server.requests) == asked
    load(max_age_days=0.5)
    assert len(server.requests) > asked
    assert len(store.snapshot_folders("coinmetrics")) == 2


def test_a_snapshot_from_the_future_is_renewed(server):
    """Fetched while the clock was wrong, it would otherwise pass for fresh for years."""
    load()
    age("coinmetrics", -400)
    asked = len(server.requests)
    market = load()
    assert len(server.requests) > asked
    assert 0 <= market.age_days < 0.1


@pytest.mark.parametrize(("max_age_days", "days"), [(0, 0), (1, 0.9), (1, 1.0), (1, 400), (1, -400)])
def test_a_report_counts_as_unchanged_only_where_no_fetch_is_due(server, max_age_days, days):
    load()
    age("coinmetrics", days)
    params = make_params({"max_age_days": max_age_days})
    asked = len(server.requests)
    known = fingerprint.data_key(params)
    load(max_age_days=max_age_days)
    assert bool(known) == (len(server.requests) == asked)


def test_a_stale_snapshot_is_used_with_its_age_when_nothing_can_be_fetched(server):
    load()
    age("coinmetrics", 4)
    break_all(server)
    lines = []
    for source in ("auto", "coinmetrics"):
        market = load(lines.append, source=source)
        assert market.age_days == pytest.approx(4, abs=0.01)
        assert "4.0 days old" in market.notes[-1]
    assert any("4.0 days old" in line for line in lines)


def test_a_snapshot_that_holds_the_day_asked_for_is_never_too_old(server, panel):
    load()
    age("coinmetrics", 40)
    asked = len(server.requests)
    as_of = f"{panel.index[250]:%Y-%m-%d}"
    market = load(as_of=as_of, sample_start="2020-01-01")
    assert len(server.requests) == asked
    assert market.panel.index[-1] == panel.index[250]
    assert market.age_days == 0.0


def test_data_that_end_before_as_of_say_so(server, panel):
    """A report as of a day that the data do not reach is a report of their last day, and says that it is."""
    days = {n: (panel.index[-1] + n * DAY).strftime("%Y-%m-%d") for n in (0, 1, 2, 300)}
    notes = {n: load(as_of=day, max_age_days=400).notes for n, day in days.items()}
    assert notes[0] == notes[1] == ()
    last = f"{panel.index[-1]:%Y-%m-%d}"
    assert notes[300] == (f"the data end on {last}, 300 days before the day asked for, {days[300]}",)
    assert len(notes[2]) == 1


def test_no_finding_speaks_of_a_day_after_as_of(server, panel):
    broken = panel.copy()
    broken.loc[broken.index[270:274], ["hash_rate_ehs", "difficulty"]] = float("nan")
    server.serve_all(broken)
    assert [item["check"] for item in load().findings] == ["gap"]
    assert load(as_of=f"{panel.index[250]:%Y-%m-%d}", sample_start="2020-01-01").findings == ()


@pytest.mark.parametrize("source", ["blockchain_com", "mempool_space"])
def test_an_insisted_source_yields_its_own_panel(server, panel, source):
    market = load(source=source)
    assert market.source == source
    pd.testing.assert_series_equal(market.panel.hash_rate_ehs, panel.hash_rate_ehs, check_freq=False)
    assert market.panel.price_usd.isna().all() == (source == "mempool_space")
    assert all(path.startswith(("/charts", "/mempool")) for path, _query in server.requests)


@pytest.mark.parametrize("source", ["coinmetrics", "blockchain_com", "mempool_space"])
def test_an_insisted_source_without_network_and_snapshot_is_one_line(server, source):
    break_all(server)
    with pytest.raises(SourceUnavailable, match=f"SOURCE={source}: .*no stored snapshot of {source}") as caught:
        load(source=source)
    assert "\n" not in str(caught.value)
    assert ls.tree(raw_folder()) == {}


@pytest.mark.parametrize("url", ["http://[::1", "http://h:99999", "ftp://h", "h.example/v4"])
def test_a_services_address_that_is_none_names_its_variable(server, monkeypatch, url):
    monkeypatch.setenv("CAPITULATION_COINMETRICS_URL", url)
    with pytest.raises(InputError, match="CAPITULATION_COINMETRICS_URL: not an http or https address"):
        load(source="coinmetrics")


def test_auto_takes_another_providers_snapshot_before_it_simulates(server):
    load(source="blockchain_com")
    age("blockchain_com", 40)
    break_all(server)
    market = load()
    assert market.source == "blockchain_com"
    assert market.notes[-1].endswith("instead, 40.0 days old")


def test_auto_without_anything_is_simulated_and_says_so(server, simulated):
    break_all(server)
    lines = []
    market = load(lines.append, simulation_seed=7)
    assert market.simulated
    assert market.snapshot == "seed:7"
    assert "not real data" in market.attribution
    assert lines[-1].startswith("SIMULATED MARKET, not real data: Coin Metrics")


def test_simulated_on_request_asks_nobody(server, simulated):
    assert load(source="simulated").simulated
    assert server.requests == []


def test_offline_asks_nobody(server, simulated):
    assert load(offline=True).simulated
    with pytest.raises(SourceUnavailable, match="run `make fetch SOURCE=coinmetrics`"):
        load(offline=True, source="coinmetrics")
    load()
    age("coinmetrics", 9)
    asked = len(server.requests)
    assert load(offline=True).source == "coinmetrics"
    assert len(server.requests) == asked


def test_an_unreachable_network_costs_seconds(server, simulated, monkeypatch):
    """Both hosts swallow every packet: the slowest way to be unreachable costs one connect limit each."""
    import socket

    monkeypatch.setattr(socket, "create_connection", lambda *_a, **_k: time.sleep(60))
    began = time.monotonic()
    market = load_market(make_params(), progress=silent, policy=Policy(connect_seconds=0.5))
    assert market.simulated
    assert time.monotonic() - began < 3
    assert 2 * Policy().connect_seconds < 8, "as shipped"


def test_a_recorded_snapshot_is_loaded_again_exactly(server):
    first = load()
    load(max_age_days=0)
    again = load(snapshot=first.snapshot)
    assert again.digest == first.digest
    assert again.snapshot == first.snapshot != load().snapshot
    with pytest.raises(DataError, match="not in data/raw"):
        load(snapshot="coinmetrics/20200101T000000Z")


def test_a_tampered_snapshot_is_refused_and_fetched_anew(server):
    first = load()
    path = store.snapshot_folders("coinmetrics")[0] / "page-01.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    lines = []
    second = load(lines.append)
    assert second.snapshot != first.snapshot
    assert any("no longer matches its SHA-256" in line for line in lines)
    assert any("no longer matches its SHA-256" in note for note in second.notes)


def test_a_failed_check_is_quarantined_named_and_not_used(server, panel):
    good = load()
    server.serve(ls.API, ls.ok(ls.coinmetrics_page(ls.coinmetrics_rows(panel.iloc[:-40]))))
    with pytest.raises(DataError, match=r"40 days .* are gone.*kept as data/raw/quarantine/coinmetrics/.*, not used"):
        fetch(make_params({"source": "coinmetrics"}), silent, FAST)
    market = load(max_age_days=0)
    assert market.digest == good.digest
    assert "quarantine" in market.notes[-1]
    assert {verdict.status for verdict in store.check_data()} == {"good", "quarantined"}


def test_fetch_stores_every_provider_and_compares_them(server):
    lines = []
    text = fetch(make_params(), lines.append, FAST)
    assert text.startswith("data/raw/coinmetrics/")
    assert {verdict.name.split("/")[0] for verdict in store.check_data()} == {
        "coinmetrics", "blockchain_com", "mempool_space",
    }  # fmt: skip
    table = load().findings_table()
    assert table.check.tolist() == ["providers"] * 3
    assert (table.value < 1e-6).all()
    assert (table.severity == "note").all()


def test_fetch_goes_on_when_a_provider_for_comparison_fails(server):
    server.serve(ls.MEMPOOL, ls.status(403))
    lines = []
    fetch(make_params(), lines.append, FAST)
    assert any("answered 403 (not needed: only compared)" in line for line in lines)


def test_fetch_tells_warnings(server, panel):
    fetch(make_params(), silent, FAST)
    revised = panel.copy()
    revised.loc[revised.index[50], "price_usd"] *= 1.1
    server.serve(ls.API, ls.ok(ls.coinmetrics_page(ls.coinmetrics_rows(revised))))
    assert "\nwarning: price_usd: 1 past days revised, the most by 9.09%" in fetch(make_params(), silent, FAST)


@pytest.mark.parametrize("values", [{"data": "x.csv"}, {"source": "simulated"}])
def test_there_is_nothing_to_fetch_for_a_file_or_a_simulation(server, values):
    with pytest.raises(InputError, match="nothing to fetch"):
        fetch(make_params(values), silent, FAST)


def test_fetch_without_network_is_an_error(server):
    break_all(server)
    with pytest.raises(SourceUnavailable, match="Coin Metrics: API"):
        fetch(make_params(), silent, FAST)


# --- the market on disk ----------------------------------------------------------------------------------------------


def test_a_saved_market_reads_back_equal_and_gives_the_same_bytes(server, tmp_path):
    market = load()
    save_market(market, tmp_path / "a")
    back = read_market(tmp_path / "a")
    pd.testing.assert_frame_equal(back.panel, market.panel, check_exact=True, check_freq=False)
    for name in market.__dataclass_fields__:
        if name != "panel":
            assert getattr(back, name) == getattr(market, name), name
    save_market(back, tmp_path / "b")
    assert ls.tree(tmp_path / "a") == ls.tree(tmp_path / "b")


DAMAGED = {
    "a price changed": lambda folder: alter(folder / "panel.csv", b"2", b"3"),
    "panel cut off": lambda folder: (folder / "panel.csv").write_bytes((folder / "panel.csv").read_bytes()[:-30]),
    "panel gone": lambda folder: (folder / "panel.csv").unlink(),
    "record gone": lambda folder: (folder / "market.json").unlink(),
    "record no JSON": lambda folder: (folder / "market.json").write_text("<html>"),
    "record a list": lambda folder: (folder / "market.json").write_text("[]"),
    "record with another field": lambda folder: alter(folder / "market.json", b'"source"', b'"sauce"'),
    "digest changed": lambda folder: alter(folder / "market.json", b'"digest": "', b'"digest": "0'),
}


def alter(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new, 1))


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_market_is_one_line(tmp_path, name):
    panel = ls.made_panel(60)
    digest = markets.panels.panel_digest(panel)
    market = markets.Market(panel, "file", False, "", "sha256:0", digest, "", "", None)
    save_market(market, tmp_path / "market")
    assert read_market(tmp_path / "market").digest == digest
    DAMAGED[name](tmp_path / "market")
    with pytest.raises(DataError, match=r"market/|panel\.csv: not a stored panel") as caught:
        read_market(tmp_path / "market")
    assert "\n" not in str(caught.value)


def test_cutting_the_future_changes_nothing_in_the_past(server, panel, tmp_path):
    whole = load()
    day = panel.index[200]
    early = load(as_of=f"{day:%Y-%m-%d}", sample_start="2020-01-01")
    pd.testing.assert_frame_equal(early.panel, whole.panel.loc[:day], check_exact=True)
    save_market(early, tmp_path / "early")
    text = (tmp_path / "early" / "panel.csv").read_text()
    assert f"{day:%Y-%m-%d}" in text
    assert f"{day + DAY:%Y-%m-%d}" not in text


def test_importing_the_market_imports_no_network_library():
    import subprocess
    import sys

    code = (
        "import sys, capitulation.data.market; print([m for m in ('httpx', 'pandera', 'filelock') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
