"""Every fault of a service, played against the whole way from SOURCE to the store.

Each fault is tried three ways: the API alone is at fault (then the public CSV is used), everything is at fault but a
snapshot is stored (then that is used, its age stated), and everything is at fault with nothing stored (one clear line,
or the simulated market for SOURCE=auto). The store must stay as it was unless the answer was good.
"""

import itertools
import json
from dataclasses import dataclass

import pandas as pd
import pytest

import local_server as ls
from capitulation.data import store
from capitulation.data.http import Policy
from capitulation.data.market import load_market
from capitulation.errors import CapitulationError, DataError, SourceUnavailable
from capitulation.params import make_params
from capitulation.paths import raw_folder

FAST = Policy(
    connect_seconds=1.0, read_seconds=0.2, total_seconds=0.6, max_bytes=3_000_000, tries=2, backoff_seconds=0.01
)
INSIST = make_params({"source": "coinmetrics", "max_age_days": 0})
AUTO = make_params({"max_age_days": 0})


def yesterday() -> pd.Timestamp:
    return pd.Timestamp(store.utc_now().date()) - pd.Timedelta(days=1)


@pytest.fixture(scope="module")
def panel():
    return ls.made_panel(end=str(yesterday().date()))


@pytest.fixture(scope="module")
def rows(panel):
    return ls.coinmetrics_rows(panel)


@pytest.fixture
def server(panel, tmp_path, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path))
    monkeypatch.delenv("COINMETRICS_API_KEY", raising=False)
    with ls.LocalServer() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        running.serve_all(panel)
        yield running


# --- faults of transport: the same wrong answer whatever is asked ----------------------------------------------------

TRANSPORT = {
    "time-out": ls.silent(0.4),
    "slow drip": ls.drip(b"x" * 500, 0.1),
    "reset in mid-body": ls.reset_after(b"x" * 5000),
    "body cut short": ls.cut_short(b"x" * 5000),
    "429 without Retry-After": ls.status(429),
    "429 with a long Retry-After": ls.status(429, Retry_After="900"),
    "500": ls.status(500),
    "502": ls.status(502),
    "503": ls.status(503),
    "403": ls.status(403),
    "HTML instead of data": ls.ok(b"<!DOCTYPE html><html><body>Just a moment...</body></html>"),
    "empty body": ls.ok(b""),
    "binary": ls.ok(bytes(range(256)) * 20),
    "gzip damaged": ls.zipped(b"x" * 5000, lambda data: data[:15] + b"\x00" * 8 + data[23:]),
    "gzip bomb": ls.zipped(b"0" * 20_000_000),
    "body of gigabytes": ls.endless(),
    "endless redirect": ls.redirect("/loop"),
    "redirect to another scheme": ls.redirect("file:///etc/passwd"),
    "redirect to another host": ls.redirect("http://127.0.0.2:9/x"),
    "JSON cut off": ls.ok(b'{"data": [{"asset": "btc", "time": "2022-01-01T00:00:00Z", "HashRa'),
    "JSON nested too deeply": ls.ok(b"[" * 200_000),
}


# --- faults of content: the rows are changed, then given as JSON or as CSV --------------------------------------------


def _set(name, value, at=-5):
    def change(rows):
        return [{**row, name: value} if index == len(rows) + at else row for index, row in enumerate(rows)]

    return change


def _scaled(name, factor, first=0):
    def change(rows):
        return [
            {**row, name: repr(float(row[name]) * factor)} if i >= first % len(rows) else row
            for i, row in enumerate(rows)
        ]

    return change


def _without(name):
    return lambda rows: [{key: value for key, value in row.items() if key != name} for row in rows]


def _renamed(old, new):
    return lambda rows: [{(new if key == old else key): value for key, value in row.items()} for row in rows]


def _future(rows):
    late = [{**rows[-1], "time": f"{yesterday() + pd.Timedelta(days=n):%Y-%m-%d}T00:00:00Z"} for n in (1, 2, 3)]
    return rows + late


def _twice_different(rows):
    return [*rows, {**rows[100], "HashRate": "1"}]


CONTENT = {
    "no rows": lambda rows: [],
    "missing metric": _without("HashRate"),
    "renamed metric": _renamed("HashRate", "MeanHashRate"),
    "renamed time": _renamed("time", "date"),
    "text for a number": _set("HashRate", "n/a?"),
    "infinite": _set("HashRate", "inf"),
    "negative": _set("BlkCnt", "-3"),
    "negative price": _set("PriceUSD", "-1.5"),
    "HTML in a number": _set("PriceUSD", "<script>alert(1)</script>"),
    "formula in a number": _set("PriceUSD", "=cmd|' /C calc'!A0"),
    "hash rate in another unit (1000 times)": _scaled("HashRate", 1000),
    "hash rate in another unit (a thousandth)": _scaled("HashRate", 0.001),
    "price in another unit (1000 times)": _scaled("PriceUSD", 1000),
    "newest days in another unit": _scaled("HashRate", 1000, first=-3),
    "block count of another period": _scaled("BlkCnt", 3),
    "days given twice with different values": _twice_different,
    "future days": _future,
    "not a day": _set("time", "2022-13-45"),
    "day of another century": _set("time", "1022-01-01T00:00:00Z"),
    "year 9999": _set("time", "9999-12-31T00:00:00Z"),
    "history that ended a year ago": lambda rows: rows[:-365],
}

TOLERATED = {
    "days given twice, equal": lambda rows: [*rows, rows[100]],
    "unsorted days": lambda rows: rows[::-1],
    "a missing value": _set("HashRate", "NaN"),
    "an empty value": _set("FeeTotNtv", ""),
    "a gap of three days": lambda rows: rows[:200] + rows[203:],
    "a column that is not known": _set("NewMetric", "<b>1</b>"),
    "the present day, not ended": lambda rows: [
        *rows, {**rows[-1], "time": f"{yesterday() + pd.Timedelta(days=1):%Y-%m-%d}T00:00:00Z"}
    ],
}  # fmt: skip


def as_page(rows) -> bytes:
    return ls.coinmetrics_page(rows)


def as_csv(rows) -> bytes:
    frame = pd.DataFrame(rows, columns=["time", "HashRate"] if not rows else None).drop(
        columns="asset", errors="ignore"
    )
    if "time" in frame:
        frame["time"] = frame["time"].str.slice(0, 10)
    return frame.to_csv(index=False).encode()


@dataclass(frozen=True)
class Fault:
    name: str
    api: ls.Behaviour
    csv: ls.Behaviour


def fault(name, rows) -> Fault:
    if name in TRANSPORT:
        return Fault(name, TRANSPORT[name], TRANSPORT[name])
    changed = (CONTENT | TOLERATED)[name](rows)
    return Fault(name, ls.ok(as_page(changed)), ls.ok(as_csv(changed)))


ALL_FAULTS = [*TRANSPORT, *CONTENT]
IN_THE_CHECKS = {
    "hash rate in another unit (1000 times)",
    "hash rate in another unit (a thousandth)",
    "price in another unit (1000 times)",
    "newest days in another unit",
    "block count of another period",
    "future days",
    "history that ended a year ago",
}
"""Readable answers that only the checks can tell: they are kept in quarantine."""


def load(params, lines=None):
    return load_market(params, policy=FAST, progress=(lines if lines is not None else []).append)


def good_snapshot_files():
    return {name: data for name, data in ls.tree(raw_folder()).items() if not name.startswith("quarantine")}


@pytest.mark.parametrize("name", [name for name in ALL_FAULTS if name not in IN_THE_CHECKS])
def test_when_the_api_is_at_fault_the_public_csv_is_used(server, rows, panel, name):
    server.serve(ls.API, fault(name, rows).api)
    market = load(INSIST)
    assert [item["name"] for item in market.files] == ["btc.csv"]
    assert any("read the public CSV instead" in note for note in market.notes)
    pd.testing.assert_series_equal(market.panel.hash_rate_ehs, panel.hash_rate_ehs, check_freq=False)
    assert len(store.snapshot_folders("coinmetrics")) == 1
    ls.record_outcome("service", f"{name}, API only", 1, "public CSV used")


@pytest.mark.parametrize(("name", "params"), [*zip(ALL_FAULTS, itertools.cycle((INSIST, AUTO)), strict=False)])
def test_when_all_is_at_fault_the_last_good_snapshot_is_used_and_kept(server, rows, panel, name, params):
    load(INSIST)
    before = good_snapshot_files()
    wrong = fault(name, rows)
    server.serve(ls.API, wrong.api)
    server.serve(ls.CSV, wrong.csv)
    market = load(params)
    assert market.source == "coinmetrics"
    assert not market.simulated
    assert "used the last good snapshot" in market.notes[-1]
    assert "days old" in market.notes[-1]
    assert "\n" not in market.notes[-1]
    pd.testing.assert_series_equal(market.panel.hash_rate_ehs, panel.hash_rate_ehs, check_freq=False)
    assert good_snapshot_files() == before, "a fault must not change the store"
    quarantined = store.snapshot_folders("coinmetrics", quarantine=True)
    assert bool(quarantined) == (name in IN_THE_CHECKS)
    ls.record_outcome("service", f"{name}, snapshot stored", 1, "last good snapshot used, age stated")


@pytest.mark.parametrize("name", ALL_FAULTS)
def test_when_all_is_at_fault_and_nothing_is_stored_an_insisted_source_ends_in_one_line(server, rows, name):
    wrong = fault(name, rows)
    server.serve(ls.API, wrong.api)
    server.serve(ls.CSV, wrong.csv)
    with pytest.raises(CapitulationError) as caught:
        load(INSIST)
    message = str(caught.value)
    assert message.startswith("SOURCE=coinmetrics: ")
    assert "\n" not in message
    assert "<script>" not in message.replace(repr("<script>alert(1)</script>"), "")
    assert caught.value.exit_code == (SourceUnavailable.exit_code if type(caught.value) is not DataError else 3)
    assert good_snapshot_files() == {}
    ls.record_outcome("service", f"{name}, nothing stored", 1, "one clear line, store untouched")


@pytest.mark.parametrize("name", TOLERATED)
def test_what_does_no_harm_is_accepted(server, rows, panel, name):
    server.serve(ls.API, fault(name, rows).api)
    market = load(INSIST)
    assert [item["name"] for item in market.files] == ["catalog.json", "page-01.json"]
    known = market.panel.hash_rate_ehs.dropna()
    pd.testing.assert_series_equal(known, panel.hash_rate_ehs.loc[known.index], check_freq=False)
    assert len(known) >= len(panel) - 3
    assert market.panel.index[-1] == panel.index[-1]
    gap = "a gap of three days"
    assert (any(item["check"] == "gap" for item in market.findings)) == (name in (gap, "a missing value"))
    ls.record_outcome("service", f"{name}", 1, "accepted")


def test_auto_with_nothing_stored_and_no_network_takes_the_simulated_market(server, monkeypatch):
    monkeypatch.setenv("CAPITULATION_COINMETRICS_URL", ls.refused_url())
    monkeypatch.setenv("CAPITULATION_COINMETRICS_CSV_URL", "http://no-such-host.invalid/csv")
    lines = []
    market = load(AUTO, lines)
    assert market.simulated
    assert market.source == "simulated"
    assert any(line.startswith("SIMULATED MARKET") for line in lines)
    assert ls.tree(raw_folder()) == {}
    ls.record_outcome("service", "no network and nothing stored", 1, "the simulated market, which is said")


def test_a_catalog_without_a_metric_is_said_and_the_rest_is_fetched(server, rows):
    server.serve(ls.CATALOG, ls.ok(ls.coinmetrics_catalog(("HashRate", "BlkCnt", "PriceUSD"))))
    server.serve(ls.API, ls.ok(as_page([{k: r[k] for k in ("time", "HashRate", "BlkCnt", "PriceUSD")} for r in rows])))
    market = load(INSIST)
    assert dict(server.requests[-1][1])["metrics"] == "HashRate,BlkCnt,PriceUSD"
    assert any("no longer offers IssTotNtv, IssTotUSD, FeeTotNtv" in note for note in market.notes)
    assert market.panel.fees_btc.isna().all()


@pytest.mark.parametrize("catalog", [b"{}", b"<html>", b'{"data": []}', ls.coinmetrics_catalog(("PriceUSD",))])
def test_a_catalog_that_is_none_or_lacks_hash_rate_leads_to_the_csv(server, catalog):
    server.serve(ls.CATALOG, ls.ok(catalog))
    assert [item["name"] for item in load(INSIST).files] == ["btc.csv"]


def test_pages_are_followed_to_the_last(server, rows, panel):
    pages = [ls.coinmetrics_page(rows[:150], "second"), ls.coinmetrics_page(rows[150:300], "third")]
    server.serve(ls.API, *map(ls.ok, pages), ls.ok(ls.coinmetrics_page(rows[300:])))
    market = load(INSIST)
    assert [dict(query).get("next_page_token") for path, query in server.requests if path == ls.API] == [
        None, "second", "third",
    ]  # fmt: skip
    pd.testing.assert_series_equal(market.panel.price_usd, panel.price_usd, check_freq=False)


def test_pages_without_end_are_given_up(server, rows):
    server.serve(ls.API, ls.ok(ls.coinmetrics_page(rows[:1], "again")))
    assert [item["name"] for item in load(INSIST).files] == ["btc.csv"]
    assert len(server.requests) < 30


def test_a_key_reaches_the_service_and_nothing_else(server, rows, tmp_path, monkeypatch, capfd):
    key = "k3y-0123456789abcdef"
    monkeypatch.setenv("COINMETRICS_API_KEY", key)
    page = json.loads(ls.coinmetrics_page(rows, ""))
    page["next_page_url"] = f"https://api.example/v4?api_key={key}"
    server.serve(ls.API, ls.status(500), ls.ok(json.dumps(page).encode()))
    lines = []
    market = load(INSIST, lines)
    asked = [query for path, query in server.requests if path in (ls.API, ls.CATALOG)]
    assert all(query["api_key"] == key for query in asked)
    assert not any("api_key" in query for path, query in server.requests if path == ls.CSV)
    from capitulation.data.market import save_market

    save_market(market, tmp_path / "out")
    everything = b"".join(ls.tree(tmp_path).values()) + "".join(lines).encode() + "".join(capfd.readouterr()).encode()
    assert key.encode() not in everything
    server.serve(ls.API, ls.status(403))
    server.serve(ls.CSV, ls.status(403))
    assert key not in " ".join(load(INSIST).notes)
    ls.record_outcome("tampering", "API key in the environment", 1, "reached the service only")


def test_a_key_is_not_sent_in_the_clear(server, monkeypatch):
    monkeypatch.setenv("COINMETRICS_API_KEY", "k3y-0123456789abcdef")
    monkeypatch.setenv("CAPITULATION_COINMETRICS_URL", "http://somewhere.example/v4")
    assert "only sent over https" in " ".join(load(INSIST).notes)


def test_a_key_that_is_none_is_named_without_being_shown(server, monkeypatch):
    monkeypatch.setenv("COINMETRICS_API_KEY", "abc")
    with pytest.raises(CapitulationError, match="COINMETRICS_API_KEY: not a key") as caught:
        load(INSIST)
    assert "abc" not in str(caught.value)
    assert caught.value.exit_code == 2
