"""The daily panel, the checks on it, and which data a run works on."""

import datetime as dt
import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import local_server as ls
from capitulation.data import checks, snapshots, sources
from capitulation.data import market as markets
from capitulation.data import panel as panels
from capitulation.data.checks import (
    FAILURE,
    NOTE,
    WARNING,
    check_panel,
    compare_panels,
    compare_providers,
    consistent,
    failures,
)
from capitulation.data.market import Market, fetch, load_market, read_market, save_market
from capitulation.errors import DataError, InputError, SourceUnavailable
from capitulation.paths import raw_folder
from capitulation.simulate.market import simulate_panel
from panels import steady_panel

PANEL = ls.made_panel(400)


BREACHES = {
    "a column too few": lambda p: p.drop(columns="fees_btc"),
    "integers": lambda p: p.assign(block_count=p.block_count.astype(int)),
    "a negative hash rate": lambda p: p.assign(hash_rate_ehs=-p.hash_rate_ehs),
    "a price of zero": lambda p: p.assign(price_usd=0.0),
    "an infinite difficulty": lambda p: p.assign(difficulty=np.inf),
    "too many blocks": lambda p: p.assign(block_count=9999.0),
    "a missing day": lambda p: p.drop(index=p.index[10]),
    "a day twice": lambda p: pd.concat([p, p.iloc[-1:]]),
    "a day before the chain's first": lambda p: p.shift(-5000, freq="D"),
    "a time of day": lambda p: p.set_axis(p.index + pd.Timedelta(hours=1)),
    "a time zone": lambda p: p.tz_localize("UTC"),
    "no day": lambda p: p.iloc[:0],
}


@pytest.mark.parametrize("breach", BREACHES)
def test_each_breach_of_the_panels_rules_is_one_line(breach):
    assert panels.validate_panel(PANEL) is PANEL
    with ls.one_line_error(DataError, "the daily table is"):
        panels.validate_panel(BREACHES[breach](PANEL))


def test_the_cut_leaves_nothing_later_and_changes_nothing_earlier():
    pd.testing.assert_frame_equal(panels.cut(PANEL, f"{PANEL.index[40]:%Y-%m-%d}"), PANEL.iloc[:41])
    assert panels.cut(PANEL, "") is PANEL
    assert len(panels.cut(PANEL, "2025-01-01")) == len(PANEL), "later than the data, and past"
    for day, why in (("2010-01-01", "before the data"), ("2150-01-01", "in the future")):
        with pytest.raises(InputError, match=rf"as_of={day} lies {why}: .* 2022-01-01 to {PANEL.index[-1].date()}"):
            panels.cut(PANEL, day)
    with pytest.raises(InputError, match=r"as_of=yesterday-ish"):
        panels.cut(PANEL, "yesterday-ish")


def test_incomplete_last_days_are_dropped_and_missing_ones_stay():
    half = PANEL.copy()
    half.loc[half.index[-1], ["hash_rate_ehs", "block_count", "difficulty"]] = np.nan
    half.loc[half.index[-2], "price_usd"] = np.nan
    half.loc[half.index[50] :, "fees_btc"] = np.nan  # one that stopped drops no day
    half.iloc[[*range(5), 20, 21, 22], 0] = np.nan
    whole = panels.daily_panel(half)
    pd.testing.assert_frame_equal(whole, half.iloc[:398], check_freq=False)


FLOATS = st.one_of(st.just(np.nan), st.floats(min_value=0, allow_infinity=False), st.just(5e-324), st.just(0.1 + 0.2))


@settings(max_examples=40, deadline=None)
@given(values=st.lists(FLOATS, min_size=8, max_size=40))
def test_the_panel_survives_the_disk_bit_for_bit(values, tmp_path_factory):
    rows = len(values) // 8
    index = pd.date_range("2022-01-01", periods=rows, name="date", unit="us")
    panel = pd.DataFrame(np.reshape(values[: rows * 8], (rows, 8)), index=index, columns=list(panels.PANEL_COLUMNS))
    path = tmp_path_factory.mktemp("panel") / "panel.csv"
    panels.write_panel(panel, path)
    back = panels.read_panel(path)
    pd.testing.assert_frame_equal(back, panel, check_exact=True, check_freq=False)
    digest = panels.panel_digest(panel)
    assert panels.panel_digest(back) == digest
    others = (panel.shift(1, freq="D"), panel.rename(columns={"height": "x"}), np.nextafter(panel.fillna(0.5), 1e9))
    assert digest not in {panels.panel_digest(other) for other in others}


RATE, ALL = "hash_rate_ehs", slice(None)


def times(panel, column, factor, days=ALL):
    panel = panel.copy()
    panel.loc[days, column] *= factor
    return panel


def changed(column, days, factor, panel=PANEL):
    return times(panel, column, factor, panel.index[days])


ALONE = {  # what is wrong -> the panel, and a finding: check, severity, column, days
    "nothing": (PANEL, None),
    "future days": (PANEL.shift(3, freq="D"), ("future_day", FAILURE, "date", 3)),
    "hash rate in another unit": (changed([RATE, "difficulty"], ALL, 1000), ("unit", FAILURE, RATE, 400)),
    "block count of another period": (changed("block_count", ALL, 3), ("unit", FAILURE, "block_count", 400)),
    "price in another unit": (changed("price_usd", ALL, 0.001), ("unit", FAILURE, "price_usd", 400)),
    "a gap": (changed(RATE, slice(300, 303), np.nan), ("gap", WARNING, RATE, 3)),
    "a gap in the first year": (
        changed(RATE, slice(10, 13), np.nan).set_axis(pd.date_range("2009-01-09", periods=len(PANEL), name="date")),
        ("gap", NOTE, RATE, 3),
    ),
    "a price gap": (changed("price_usd", slice(300, 303), np.nan), ("gap", WARNING, "price_usd", 3)),
    "a column that stopped": (changed("fees_btc", slice(-10, None), np.nan), ("stopped", WARNING, "fees_btc", 10)),
    "a week at twice the level": (changed(RATE, slice(-7, None), 2.3), ("level_shift", FAILURE, RATE, 1)),
    "an odd day": (changed(RATE, slice(-3, -2), 2.3), ("level_shift", WARNING, RATE, 1)),
}
AGAINST_THE_LAST = {  # the same, and the only finding
    "nothing new": (PANEL, None),
    "rounding": (PANEL * (1 + 1e-9), None),
    "a day gone": (PANEL.drop(PANEL.index[50]), ("shrunk", WARNING, RATE, 1)),
    "many days gone": (PANEL.iloc[20:], ("shrunk", FAILURE, RATE, 20)),
    "the price gone": (PANEL.assign(price_usd=np.nan), ("lost_column", FAILURE, "price_usd", 0)),
    "the fees gone": (PANEL.assign(fees_btc=np.nan), ("lost_column", WARNING, "fees_btc", 0)),
    "a past day revised": (changed("price_usd", slice(100, 101), 1.02), ("revised", WARNING, "price_usd", 1)),
    "the newest days revised": (changed("price_usd", slice(-3, None), 1.02), ("revised", NOTE, "price_usd", 3)),
    "many days revised": (changed(RATE, slice(100, 200), 1.1), ("revised", FAILURE, RATE, 100)),
}


@pytest.mark.parametrize("name", [*ALONE, *AGAINST_THE_LAST])
def test_what_each_check_finds(name):
    panel, expected = (ALONE | AGAINST_THE_LAST)[name]
    found = check_panel(panel, PANEL.index[-1].date()) if name in ALONE else compare_panels(panel, PANEL)
    said = [(item["check"], item["severity"], item["column"], item["days"]) for item in found]
    assert expected in said if expected else not said
    assert name in ALONE or len(said) <= 1


def test_the_checks_against_another_provider():
    for factor, severity in ((1.0, NOTE), (1.03, WARNING), (2.0, FAILURE)):
        hash_rate, price = compare_providers(changed("hash_rate_ehs", slice(None), factor), PANEL, "other")
        assert (hash_rate["severity"], price["severity"]) == (severity, NOTE)
        assert hash_rate["value"] == pytest.approx(factor - 1)
    assert list(compare_providers(PANEL, PANEL * np.nan, "other")) == []


def test_the_z_of_a_day_and_of_a_week_is_standard_normal_when_nothing_happens():
    calm = ls.made_panel(4000, seed=3)
    calm = calm.assign(hash_rate_ehs=calm.block_count, difficulty=1.0)
    for days in (1, 7):
        z = checks.level(calm, days)["z"].dropna()
        assert len(z) > 3960
        assert abs(z.mean()) < 0.1 and 0.9 < z.std() < 1.1


@cache
def history(seed=1, start="2012-01-01", days=5200):
    """Fourteen years at the levels that are known: Poisson blocks, a difficulty that stands still for 14 days.

    Tests must not change it in place.
    """
    random, index = np.random.default_rng(seed), pd.date_range(start, periods=days, name="date", unit="us")
    epoch = np.arange(days) // 14
    known = checks.usual("difficulty", index).to_numpy()[14 * epoch]
    difficulty, blocks = known * np.exp(random.normal(0, 0.03, days))[epoch], random.poisson(148, days).astype(float)
    wander = pd.Series(random.normal(0, 0.04, days), index).rolling(60, min_periods=1).sum()
    price = checks.usual("price_usd", index) * np.exp(wander)
    return steady_panel(difficulty * 2**32 * blocks / 86_400 / 1e18, blocks, start, price).set_axis(index)


def derived(panel, hash_rate=None, blocks=None):
    """What a file with these columns gives where it has no difficulty: that of hash rate over blocks."""
    rate = panel[RATE] if hash_rate is None else hash_rate
    blocks = panel["block_count"] if blocks is None else blocks
    panel = panel.assign(**{RATE: rate}, block_count=blocks)
    return panel.assign(difficulty=panel[RATE] * 1e18 * 86_400 / 2**32 / panel["block_count"].replace(0, np.nan))


def mean(panel, days=7):
    return panel[RATE].rolling(days, min_periods=1).mean()


def rounded(panel, digits=3):
    return derived(panel, panel[RATE].map(lambda value: float(f"{value:.{digits}g}")))


def invented(panel):
    return np.random.default_rng(9).poisson(144, len(panel)).astype(float)


def without_blocks(panel):
    return panel.assign(block_count=np.nan, difficulty=np.nan, height=np.nan)


BLOCKS, PRICE = "block_count", "price_usd"
FAULTS = {  # what is done to a panel -> the finding's check, severity, column, and words in it
    "a unit that contradicts difficulty": (lambda p: times(p, RATE, 1e-6), "unit", RATE, "1e-06 times what difficulty"),
    "a mean over 7 days": (lambda p: derived(p, mean(p)), "contradiction", RATE, "a mean over 7 days"),
    "a mean beside difficulty": (lambda p: p.assign(hash_rate_ehs=mean(p)), "contradiction", RATE, "over 7 days"),
    "a mean over 30 days alone": (
        lambda p: without_blocks(p).assign(hash_rate_ehs=mean(p, 30)),
        *("contradiction", RATE, "a mean over 30 days"),
    ),
    "a year of means": (
        lambda p: derived(p, p[RATE].where(p.index.year != 2018, mean(p))),
        *("contradiction", RATE, "a mean over 7 days"),
    ),
    "a late stamp": (lambda p: derived(p, p[RATE].shift(1)), "contradiction", BLOCKS, "contradict each other on"),
    "a late stamp beside difficulty": (
        lambda p: p.assign(hash_rate_ehs=p[RATE].shift(1)),
        "contradiction",
        BLOCKS,
        "on",
    ),
    "a constant block count": (lambda p: derived(p, blocks=144.0), "contradiction", BLOCKS, "contradict each other on"),
    "invented blocks": (lambda p: derived(p, blocks=invented(p)), "contradiction", BLOCKS, "contradict each other on"),
    "halved blocks": (
        lambda p: derived(p, blocks=p[BLOCKS] / 2),
        "unit",
        BLOCKS,
        "blocks a day in the median, about 144",
    ),
    "halved blocks beside difficulty": (lambda p: times(p, BLOCKS, 0.5), "unit", RATE, "2 times what difficulty and"),
    "a year of doubled blocks": (
        lambda p: derived(times(p, BLOCKS, 2, "2020")),
        "unit",
        BLOCKS,
        "from 2020-01-01 to 2020",
    ),
    "one day x 10": (lambda p: derived(times(p, RATE, 10, "2023-05-04")), "odd_day", RATE, "rate of 2023-05-04 is"),
    "five days x 10": (lambda p: times(p, RATE, 10, p.index[4000:4500:100]), "odd_day", RATE, "and 2 earlier days"),
    "a year / 1000": (
        lambda p: derived(times(p, RATE, 1e-3, "2019")),
        "unit",
        RATE,
        "365 days from 2019-01-01 to 2019-12-31",
    ),
    "two units in turn": (lambda p: derived(times(p, RATE, 1e-3, p.index[::2])), "unit", RATE, "0.001"),
    "BCH": (lambda p: derived(times(p, RATE, 0.05)), "unit", RATE, "another coin"),
    "BSV": (lambda p: derived(times(p, RATE, 0.02)), "unit", RATE, "another coin"),
    "prices / 1000 at first": (lambda p: times(p, PRICE, 1e-3, slice("2018")), "unit", PRICE, "to 2018-12-31"),
    "one price x 100": (lambda p: times(p, PRICE, 100, "2022-03-03"), "odd_day", PRICE, "price of 2022-03-03 is"),
    "a week of prices / 1000": (
        lambda p: times(p, PRICE, 1e-3, p.index[4000:4007]),
        "odd_day",
        PRICE,
        "4 earlier days",
    ),
    "the last price x 10": (lambda p: times(p, PRICE, 10, p.index[-1]), "odd_day", PRICE, "that of the days before it"),
    "every other price x 1e6": (lambda p: times(p, PRICE, 1e6, p.index[::2]), "unit", PRICE, "e+05 times"),
}
PARTIAL = {"a year of means": "2018-07-01"}


@pytest.mark.parametrize("whose", ["made", "real"])
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_anywhere_in_the_history_is_found_and_named(name, whose, request):
    """A wrong unit or coin is refused; odd days are named; what contradicts itself is not used, the hash rate stays."""
    change, check, column, words = FAULTS[name]
    panel = change(history() if whose == "made" else request.getfixturevalue("real_panel"))
    kept, contradictions = consistent(panel)
    found = [*contradictions, *check_panel(panel)]
    assert any((item["check"], item["column"]) == (check, column) and words in item["message"] for item in found)
    assert bool(failures(found)) == (check == "unit")
    if check != "unit":
        assert len(found) == 1
    derivatives = ["block_count", "difficulty", "height"]
    days = PARTIAL.get(name, slice("2013", None))
    if check == "contradiction":
        assert kept.loc[days, derivatives].isna().mean(axis=None) > 0.99
    elif name != "two units in turn":
        assert kept is panel
    pd.testing.assert_frame_equal(kept.drop(columns=derivatives), panel.drop(columns=derivatives))
    if name in PARTIAL:
        assert kept.loc["2014":"2016", derivatives].equals(panel.loc["2014":"2016", derivatives])
        assert kept.loc["2020":, "difficulty"].equals(panel.loc["2020":, "difficulty"])
        assert kept.loc["2020":, "height"].isna().all()


def blocks_unknown_now_and_then(panel):
    return derived(panel, blocks=panel[BLOCKS].where(np.arange(len(panel)) % 5 > 0))


CLEAN = {
    **{f"made {seed}": lambda seed=seed: history(seed) for seed in (2, 3)},
    "rounded to three digits": lambda: rounded(history()),
    "rounded to two digits": lambda: rounded(history(2, "2016-01-01", 1500), 2),
    "blocks unknown now and then": lambda: blocks_unknown_now_and_then(history()),
    "price and hash rate alone": lambda: without_blocks(history()),
    "a few weeks": lambda: history().iloc[-50:],
}


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_said_of_sound_data(name):
    panel = CLEAN[name]()
    kept, found = consistent(panel)
    assert kept is panel and [*found, *check_panel(panel)] == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_simulated_market_agrees_with_itself_though_not_with_known_levels(seed):
    panel = simulate_panel(seed=seed)
    assert consistent(panel)[0] is panel
    assert {item["check"] for item in check_panel(panel)} <= {"unit"}


@pytest.mark.parametrize(
    ("column", "first", "severity"),
    [
        ("price_usd", "2013-12-01", NOTE),
        ("price_usd", "2013-12-29", WARNING),
        ("hash_rate_ehs", "2013-06-01", WARNING),
    ],
)
def test_gaps_in_the_years_of_one_exchange_are_a_note(column, first, severity):
    """Some providers have weekly prices until then, which no reader of a page on 2026 need be told."""
    panel = history().copy()
    panel.loc[pd.date_range("2012-03-01", periods=40, freq="7D"), column] = np.nan
    panel.loc[pd.date_range(first, periods=5), column] = np.nan
    [gap] = [item for item in check_panel(panel) if item["check"] == "gap"]
    assert (gap["column"], gap["severity"], gap["days"]) == (column, severity, 45)
    assert f"{first} to" in gap["message"] and "38 stretches before" in gap["message"] and len(gap["message"]) < 130


def test_the_checks_are_silent_on_real_history(real_panel):
    """Every day's answer judged on that day: nothing real was ever a failure, not even the ban of 2021."""
    assert check_panel(real_panel, dt.date(2026, 3, 23), fetched=True) == []
    assert checks.level(real_panel)["z"]["2014":].abs().max() < checks.LEVEL_Z_WARNING[1]
    for day in pd.date_range("2021-05-15", "2021-08-15", freq="6D"):
        assert failures(check_panel(real_panel.loc[:day])) == []
    for day in ("2011-06-08", "2013-04-10", "2013-12-04", "2020-03-12", "2021-07-03"):
        assert {item["check"] for item in check_panel(real_panel.loc[:day])} <= {"level_shift"}
    for digits in (2, 3):
        short = rounded(real_panel, digits)
        assert consistent(short)[0] is short and check_panel(short) == []


def test_other_providers_real_data_stay_as_they_are(data_folder):
    """Blockchain.com lacks three days and a price at its end; mempool.space's blocks are off by about one."""
    charts = {path.name: path.read_bytes() for path in (data_folder / "blockchain_com").glob("*.json")}
    answer = {"hashrate.json": (data_folder / "mempool_space" / "hashrate-1y.json").read_bytes()}
    for panel, expected in (
        (sources.parse_blockchain_com(charts), ["gap", "stopped"]),
        (sources.parse_mempool_space(answer), []),
    ):
        kept, found = consistent(panel)
        assert kept is panel and not found
        assert [item["check"] for item in check_panel(panel)] == expected
    [gap, _stopped] = check_panel(sources.parse_blockchain_com(charts))
    assert "hash rate is missing on" in gap["message"] and "2025-11-13 to 2025-11-15" in gap["message"]


DAY = pd.Timedelta(days=1)
NOW = ls.made_panel(400, end=str(markets.utc_now().date() - dt.timedelta(days=1)))
ROWS = ls.coinmetrics_rows(NOW)


@pytest.fixture
def server(tmp_path, monkeypatch):
    with ls.services(monkeypatch, tmp_path) as running:
        running.serve_all(NOW)
        yield running


def load(progress=[].append, **values):
    return load_market(progress=progress, simulate=lambda seed: ls.made_panel(100, seed=seed), **values)


def age(name, days):
    """Pretend that the provider's only snapshot was fetched `days` ago."""
    [snapshot] = snapshots.snapshot_names(name)
    when = (markets.utc_now() - dt.timedelta(days=days)).isoformat()
    path = raw_folder() / snapshot / "manifest.json"
    path.chmod(0o644)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"retrieved_at": when}))


def test_the_first_run_fetches_the_second_does_not_and_a_tampered_snapshot_is_replaced(server):
    first = load()
    asked = len(server.requests)
    second = load()
    assert (len(server.requests), second.snapshot) == (asked, first.snapshot)
    assert (first.source, first.simulated, first.origins[0]["licence"]) == ("coinmetrics", False, "CC BY-NC 4.0")
    assert [item["name"] for item in first.files] == ["page-01.json"]
    pd.testing.assert_series_equal(first.panel.price_usd, NOW.price_usd, check_freq=False)
    again = load(snapshot=first.snapshot, offline=True)
    assert (again.digest, again.snapshot) == (first.digest, first.snapshot)
    path = raw_folder() / snapshots.snapshot_names("coinmetrics")[0] / "page-01.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    third = load()
    assert third.snapshot != first.snapshot
    assert any("no longer matches its SHA-256" in note for note in third.notes)


@pytest.mark.parametrize(("max_age_days", "days"), [(0, 0), (1, 0.9), (1, 1.0), (1, 400), (1, -400)])
def test_a_stale_snapshot_or_one_from_the_future_is_renewed_and_a_young_one_kept(server, max_age_days, days):
    load()
    age("coinmetrics", days)
    asked = len(server.requests)
    load(max_age_days=max_age_days)
    assert (len(server.requests) == asked) == (days == 0.9)


def test_a_snapshot_that_holds_the_day_asked_for_is_never_too_old(server):
    server.serve_all(changed(["hash_rate_ehs", "difficulty"], slice(370, 374), np.nan, NOW))
    whole = load()
    age("coinmetrics", 40)
    asked = len(server.requests)
    early = load(as_of=f"{NOW.index[350]:%Y-%m-%d}")
    assert len(server.requests) == asked
    pd.testing.assert_frame_equal(early.panel, whole.panel.iloc[:351], check_exact=True)
    assert [item["check"] for item in whole.findings if item["check"] != "providers"] == ["gap"]
    assert any("hash rate is missing on" in note and "(4 days)" in note for note in whole.notes)
    assert (early.age_days, {item["check"] for item in early.findings}) == (0.0, {"providers"})


@pytest.mark.parametrize("source", ["coinmetrics", "blockchain_com", "mempool_space"])
def test_an_insisted_source_is_never_replaced(server, source):
    market = load(source=source)
    pd.testing.assert_series_equal(market.panel.hash_rate_ehs, NOW.hash_rate_ehs, check_freq=False)
    (raw_folder() / market.snapshot).rename(raw_folder() / source / "set-aside")
    before = ls.tree(raw_folder())
    server.break_all()
    with ls.one_line_error(SourceUnavailable, f"SOURCE={source} has no stored snapshot"):
        load(source=source)
    assert ls.tree(raw_folder()) == before
    with pytest.raises(SourceUnavailable, match=f"run `make fetch SOURCE={source}`"):
        load(source=source, offline=True)


def test_auto_takes_another_providers_snapshot_and_then_simulates_and_says_so(server):
    lines = []
    server.break_all()
    market = load(lines.append, simulation_seed=7)
    assert (market.simulated, market.snapshot) == (True, "seed:7")
    assert lines[-1].startswith("SIMULATED MARKET, not real data: 127.0.0.1")
    server.serve_all(NOW)
    load(source="blockchain_com")
    age("blockchain_com", 40)
    server.break_all()
    market = load()
    assert market.source == "blockchain_com"
    assert market.notes[-1].endswith("instead, 40.0 days old")
    asked = len(server.requests)
    assert load(source="simulated").simulated
    assert load(offline=True).source == "blockchain_com"
    assert len(server.requests) == asked
    with pytest.raises(InputError, match="source=bitstamp"):
        load(source="bitstamp")


def test_fetch_stores_every_provider_compares_them_and_tells_warnings(server):
    server.serve(f"{ls.CHARTS}/hash-rate", ls.reply(403))
    lines = []
    assert fetch(progress=lines.append).startswith("data/raw/coinmetrics/")
    assert any("answered 403" in line for line in lines)
    server.serve_all(changed("price_usd", slice(50, 51), 1.1, NOW))
    fetch(progress=lines.append)
    assert "warning: price_usd: 1 past days revised, the most by 9.09%" in " ".join(lines)
    market = load()
    assert sorted(item["check"] for item in market.findings) == ["providers"] * 4 + ["revised"] * 2
    assert set(markets.other_panels(market)) == {"blockchain_com", "mempool_space"}
    assert {status for status, *_ in snapshots.check_data()} == {"good"}
    with pytest.raises(InputError, match="nothing to fetch"):
        fetch("simulated")
    server.break_all()
    with pytest.raises(SourceUnavailable, match="answered 404; .*answered 404"):
        fetch(progress=lines.append)


def test_what_is_odd_in_a_file_stands_in_the_notes_and_a_cut_before_it_knows_nothing_of_it(tmp_path):
    odd = times(
        PANEL.assign(hash_rate_ehs=PANEL[RATE].where(np.arange(400) < 200, mean(PANEL))), PRICE, 20, PANEL.index[300]
    )
    path = tmp_path / "odd.csv"
    path.write_bytes(ls.coinmetrics_csv(odd))
    whole, early = load(data=path), load(data=path, as_of=f"{PANEL.index[140]:%Y-%m-%d}")
    assert [item["check"] for item in whole.findings] == ["contradiction", "odd_day"]
    assert list(whole.notes[:2]) == [item["message"] for item in whole.findings]
    assert whole.panel.loc[PANEL.index[260] :, ["block_count", "difficulty"]].isna().all(axis=None)
    assert (early.findings, early.panel["block_count"].isna().any()) == ((), False)
    assert not set(whole.notes[:2]) & set(early.notes)
    late = load(data=path, as_of=f"{PANEL.index[-1] + 300 * DAY:%Y-%m-%d}")
    assert (late.digest, late.findings) == (whole.digest, whole.findings)
    assert "300 days before the day asked for" in late.notes[-1]


def test_a_simulated_market_is_not_held_against_what_is_known_of_bitcoin():
    far = times(ls.made_panel(300), PRICE, 1e4)
    for as_of in ("", f"{far.index[200]:%Y-%m-%d}"):
        market = load_market(source="simulated", as_of=as_of, simulate=lambda seed: far)
        assert (market.findings, market.notes) == ((), ())


def row(at=-5, **values):
    return [{**item, **values} if number == len(ROWS) + at else item for number, item in enumerate(ROWS)]


def scaled(name, factor):
    return [{**item, name: repr(float(item[name]) * factor)} for item in ROWS]


def later(*days):
    return ROWS + [{**ROWS[-1], "time": f"{NOW.index[-1] + n * DAY:%Y-%m-%d}T00:00:00Z"} for n in days]


ANSWERS = {  # what is odd: the rows of API and CSV, and what becomes of them
    "days twice, equal": ([*ROWS, ROWS[100]], "used"),
    "unsorted": (ROWS[::-1], "used"),
    "values missing": (row(HashRate="NaN", FeeTotNtv=""), "used"),
    "days missing": (ROWS[:200] + ROWS[203:], "used"),
    "a new column": (row(NewMetric="<b>1</b>"), "used"),
    "metrics no longer free": (
        [{k: v for k, v in item.items() if k[:3] not in ("Iss", "Fee")} for item in ROWS],
        "used",
    ),
    "the day of the fetch": (later(1), "used"),
    "no rows": ([], "refused"),
    "time renamed": ([{**item, "time": None, "date": item["time"]} for item in ROWS], "refused"),
    "infinite": (row(HashRate="inf"), "refused"),
    "HTML": (row(PriceUSD="<script>alert(1)</script>"), "refused"),
    "twice with different values": ([*ROWS, {**ROWS[100], "HashRate": "1"}], "refused"),
    "not a day": (row(time="2022-13-45"), "refused"),
    "hash rate 1000 times": (scaled("HashRate", 1000), "quarantined"),
    "price 1000 times": (scaled("PriceUSD", 1000), "quarantined"),
    "blocks of another period": (scaled("BlkCnt", 3), "quarantined"),
    "future days": (later(1, 2, 3), "quarantined"),
    "ended a year ago": (ROWS[:-365], "quarantined"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_odd_answer_is_used_or_refused_in_one_line_or_quarantined(server, name):
    """Used: the same from API and CSV. Else one line, or the last good snapshot with its age; the store stays whole."""
    rows, outcome = ANSWERS[name]
    frame = pd.DataFrame(rows, columns=None if rows else ["time"]).drop(columns="asset", errors="ignore")
    frame["time"] = frame["time"].str.slice(0, 10)
    if outcome != "used":
        load(source="coinmetrics")
    before = ls.tree(raw_folder() / "coinmetrics")
    server.serve(ls.API, ls.reply(body=ls.coinmetrics_page(rows)))
    server.serve(ls.CSV, ls.reply(body=frame.to_csv(index=False).encode()))
    market = load(max_age_days=0)
    if outcome == "used":
        known = market.panel.hash_rate_ehs.dropna()
        pd.testing.assert_series_equal(known, NOW.hash_rate_ehs.loc[known.index], check_freq=False)
        assert (len(known) >= 397, market.panel.index[-1]) == (True, NOW.index[-1])
        assert any(item["check"] == "gap" for item in market.findings) == ("missing" in name)
        server.serve(ls.API, ls.reply(404))
        from_csv = load(max_age_days=0)
        assert [item["name"] for item in from_csv.files] == ["btc.csv"]
        assert from_csv.digest == market.digest
    else:
        assert "used the last good snapshot" in market.notes[-1] and "\n" not in market.notes[-1]
        assert ls.tree(raw_folder() / "coinmetrics") == before
    kept = snapshots.snapshot_names("quarantine/coinmetrics")
    assert len(kept) == (outcome == "quarantined")


def test_pages_are_followed_but_not_without_end(server):
    market = load(source="coinmetrics")
    pages = [ls.reply(body=ls.coinmetrics_page(ROWS[:150], "more")), ls.reply(body=ls.coinmetrics_page(ROWS[150:]))]
    server.serve(ls.API, *pages)
    assert load(source="coinmetrics", max_age_days=0).digest == market.digest
    assert server.requests[-1][1]["next_page_token"] == "more"  # noqa: S105
    asked = len(server.requests)
    server.serve(ls.API, ls.reply(body=ls.coinmetrics_page(ROWS[:1], "again")))
    assert [item["name"] for item in load(source="coinmetrics", max_age_days=0).files] == ["btc.csv"]
    assert len(server.requests) < asked + 30


def test_a_key_reaches_the_service_over_https_and_nothing_else(server, tmp_path, monkeypatch, capfd):
    key = "k3y-0123456789abcdef"
    monkeypatch.setenv("COINMETRICS_API_KEY", key)
    page = json.dumps({"data": ROWS, "next_page_url": f"https://api.example/v4?api_key={key}"}).encode()
    server.serve(ls.API, ls.reply(500), ls.reply(body=page, ETag=key))
    lines = []
    save_market(load(lines.append, source="coinmetrics"), tmp_path / "out")
    asked = [query for path, query, _headers in server.requests if path == ls.API]
    assert all(query["api_key"] == key for query in asked)
    server.break_all(403)
    lines += load(source="coinmetrics", max_age_days=0).notes
    assert not any("api_key" in query for path, query, _headers in server.requests if path == ls.CSV)
    everything = b"".join(ls.tree(tmp_path).values()) + "".join([*lines, *capfd.readouterr()]).encode()
    assert key.encode() not in everything
    monkeypatch.setenv("COINMETRICS_API_KEY", "a&b")
    with pytest.raises(InputError, match="COINMETRICS_API_KEY: not a") as caught:
        load(source="coinmetrics", max_age_days=0)
    assert "a&b" not in str(caught.value)


ADDRESSES = [
    "http://h.example/v4",
    "http://8.8.8.8/v4",
    "http://134744072/v4",
    "http://0x08080808/v4",
    "ftp://h",
    "file:///etc/passwd",
    "http://[::1/x",
    "https://h:99999/x",
    "https://h:p/x",
    "h",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_what_is_no_https_address_is_one_line_that_names_the_variable(server, monkeypatch, url):
    monkeypatch.setenv("CAPITULATION_COINMETRICS_URL", url)
    with ls.one_line_error(InputError, "^CAPITULATION_COINMETRICS_URL: not an https address[^:]*$"):
        load(source="coinmetrics")


def alter(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new, 1))


DAMAGED = {
    "a price changed": lambda folder: alter(folder / "panel.csv", b"2", b"3"),
    "panel cut off": lambda folder: (folder / "panel.csv").write_bytes((folder / "panel.csv").read_bytes()[:-30]),
    "panel gone": lambda folder: (folder / "panel.csv").unlink(),
    "record no JSON": lambda folder: (folder / "market.json").write_text("<html>"),
    "record with another field": lambda folder: alter(folder / "market.json", b'"source"', b'"sauce"'),
    "digest changed": lambda folder: alter(folder / "market.json", b'"digest": "', b'"digest": "0'),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_saved_market_reads_back_equal_and_a_damaged_one_is_one_line(tmp_path, name):
    market = Market(PANEL, "file", False, snapshot="sha256:0", digest=panels.panel_digest(PANEL), notes=("a note",))
    save_market(market, tmp_path / "a")
    save_market(read_market(tmp_path / "a"), tmp_path / "b")
    assert ls.tree(tmp_path / "a") == ls.tree(tmp_path / "b")
    DAMAGED[name](tmp_path / "a")
    with ls.one_line_error(DataError):
        read_market(tmp_path / "a")
