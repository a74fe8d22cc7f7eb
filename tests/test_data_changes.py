"""Data that change between two fetches: each change is found, sized, and told wherever a reader may look.

A warning is printed by `make fetch`, kept in the manifest and passed on to the report (10-fetch-data and run.json); a
change that forbids the use ends the fetch with an error, is kept in quarantine, and the last good snapshot is used.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

import local_server as ls
from capitulation import cli
from capitulation.data import store
from capitulation.data.market import load_market
from capitulation.params import make_params
from capitulation.report.record import market_facts

DAYS = 400
OFFLINE = make_params({"source": "coinmetrics"})


def scaled(column, days, factor):
    def change(panel):
        panel = panel.copy()
        panel.loc[panel.index[days], column] *= factor
        return panel

    return change


def without(days):
    return lambda panel: panel.drop(panel.index[days])


HASH_RATE = ["hash_rate_ehs"]
# What changes -> how the new answer differs, (for a warning) the check that finds it, words of the line that tells it.
WARNED = {
    "a past day revised": (scaled("price_usd", slice(100, 101), 1.02), "revised", "price_usd: 1 past days revised"),
    "a past day gone": (without(slice(50, 51)), "shrunk", "1 days that the last snapshot had are gone"),
    "a column that stopped": (scaled("fees_btc", slice(-10, None), np.nan), "stopped", "fees_btc has no value since"),
    "a column gone": (lambda panel: panel.assign(fees_btc=np.nan), "lost_column", "fees_btc is gone entirely"),
    "2 % away from another provider": (
        scaled(HASH_RATE, slice(-20, None), 1.03),
        "providers",
        "differ from blockchain_com's",
    ),
}
REFUSED = {
    "many past days revised": (scaled(HASH_RATE, slice(100, 200), 1.1), "100 past days revised"),
    "history that begins later": (without(slice(0, 20)), "20 days that the last snapshot had are gone"),
    "history that ends earlier": (without(slice(-12, None)), "the newest among them"),
    "price gone": (lambda panel: panel.assign(price_usd=np.nan, revenue_usd=np.nan), "price_usd is gone entirely"),
    "newest days at twice the level": (scaled(HASH_RATE, slice(-7, None), 2.3), "Poisson standard errors"),
    "newest day at a third": (scaled(HASH_RATE, slice(-1, None), 0.3), "Poisson standard errors off the 30 days"),
}


@pytest.fixture(scope="module")
def panel():
    return ls.made_panel(DAYS, end=str(store.utc_now().date() - dt.timedelta(days=1)))


@pytest.fixture
def server(panel, tmp_path, monkeypatch):
    """A service, and a store that holds its answer of a week ago and another provider's."""
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path))
    for name in (*cli.OPTIONS, "coinmetrics_api_key"):
        monkeypatch.delenv(name.upper(), raising=False)
    with ls.LocalServer() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        running.serve_all(panel.iloc[:-7])
        assert cli.main(["fetch", "--source", "coinmetrics"]) == 0
        running.serve_all(panel)
        assert cli.main(["fetch", "--source", "blockchain_com"]) == 0
        yield running


def fetch(server, panel, capsys):
    """Exit code, standard output and standard error of a fetch of `panel`."""
    server.serve(ls.API, ls.ok(ls.coinmetrics_page(ls.coinmetrics_rows(panel))))
    capsys.readouterr()
    code = cli.main(["fetch", "--source", "coinmetrics"])
    return code, *capsys.readouterr()


def test_seven_new_days_are_no_change(server, panel, capsys):
    code, out, _err = fetch(server, panel, capsys)
    assert code == 0
    assert "warning" not in out


@pytest.mark.parametrize("name", WARNED)
def test_a_change_that_can_be_lived_with_is_told(server, panel, capsys, name):
    change, check, text = WARNED[name]
    code, out, _err = fetch(server, change(panel), capsys)
    assert code == 0
    [line] = [line for line in out.splitlines() if text in line]
    assert line.startswith("warning: ")
    market = load_market(OFFLINE, offline=True)
    [finding] = [item for item in market_facts(market)["findings"] if f"warning: {item['message']}" == line]
    assert (finding["check"], finding["severity"]) == (check, "warning")
    assert line.removeprefix("warning: ") in set(market.findings_table()["message"])
    ls.record_outcome("change", name, 1, "warned: printed, in the manifest, passed on to the report and run.json")


@pytest.mark.parametrize("name", REFUSED)
def test_a_change_that_forbids_the_use_is_quarantined_and_named(server, panel, capsys, name):
    change, text = REFUSED[name]
    good = store.snapshot_folders("coinmetrics")
    code, out, err = fetch(server, change(panel), capsys)
    assert (code, out) == (3, "")
    [line] = [line for line in err.splitlines() if line.startswith("error: ")]
    [kept] = store.snapshot_folders("coinmetrics", quarantine=True)
    assert text in line
    assert f"kept as data/raw/quarantine/coinmetrics/{kept.name}, not used" in line
    assert store.snapshot_folders("coinmetrics") == good
    assert load_market(OFFLINE, offline=True).snapshot == f"coinmetrics/{good[0].name}"
    outcome = "quarantined and named, exit 3; the last good snapshot used"
    ls.record_outcome("change", name, 1, outcome)


def test_a_provider_at_twice_anothers_level_is_quarantined(panel, server, capsys):
    """Nothing of its own is stored to compare with: only the other provider tells."""
    for folder in store.snapshot_folders("coinmetrics"):
        folder.rename(folder.with_name("set-aside"))
    twice = panel.assign(hash_rate_ehs=panel.hash_rate_ehs * 2, difficulty=panel.difficulty * 2)
    code, _out, err = fetch(server, twice, capsys)
    assert code == 3
    assert "differ from blockchain_com's by" in err
    ls.record_outcome("change", "twice another provider's level", 1, "quarantined and named, exit 3")
