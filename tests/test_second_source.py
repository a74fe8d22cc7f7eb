"""What a second source says of a run's data: slow versions, each limit on both sides, real data, and page 10."""

import re

import numpy as np
import pandas as pd
import pytest

import notebook_cells
from capitulation.data.checks import FAILURE, NOTE, WARNING, compare_providers
from capitulation.data.market import Market
from capitulation.data.sources import PROVIDERS
from panels import steady_panel, without

COLUMNS = ["hash_rate_ehs", "price_usd", "height"]
DAYS = 500


def world(days=DAYS, seed=3):
    """A panel of random hash rate and price, heights counted."""
    rng = np.random.default_rng(seed)
    rate, price = (level * np.exp(np.cumsum(rng.normal(0, 0.03, days))) for level in (100, 4e4))
    return steady_panel(rate, 144.0, "2020-01-01", price)


PANEL = world()


def found(other, name="other", own=(), panel=PANEL):
    return {item["column"]: item for item in compare_providers(panel, other, name, own)}


def off_by(column, factor, days=slice(None)):
    """The same panel with `factor` in that column on those days, heights with so many blocks more."""
    other = PANEL.copy()
    at = other.columns.get_loc(column)
    other.iloc[days, at] = other.iloc[days, at] + factor if column == "height" else other.iloc[days, at] * factor
    return other


def slow(panel, other, column):
    """Differences of the newest 365 days that both know, day by day."""
    known = [day for day in panel.index if panel[column][day] == panel[column][day] and day in other.index]
    known = {day for day in known if other[column][day] == other[column][day]}
    sizes = []
    for day in panel.index.intersection(other.index):
        span = [one for one in pd.date_range(day - pd.Timedelta(days=29), day) if one in known]
        ours, theirs = (np.mean([table[column][one] for one in span]) if span else np.nan for table in (panel, other))
        if column == "hash_rate_ehs" and len(span) >= 27:
            sizes.append(abs(ours / theirs - 1))
        elif column != "hash_rate_ehs" and day in known:
            ours, theirs = panel[column][day], other[column][day]
            sizes.append(abs(ours - theirs if column == "height" else ours / theirs - 1))
    return np.array(sizes[-365:])


def test_differences_equal_those_counted_day_by_day_with_holes_on_both_sides():
    rng = np.random.default_rng(8)
    ours, theirs = (without(PANEL, rng.integers(0, DAYS, 40), column) for column in ("price_usd", "hash_rate_ehs"))
    theirs = without(theirs * np.exp(rng.normal(0, 0.01, PANEL.shape)), range(100, 140)).iloc[20:-7]
    for column, item in found(theirs, panel=ours).items():
        sizes = np.sort(slow(ours, theirs, column))
        assert item["days"] == len(sizes) and item["check"] == "providers"
        assert item["value"] == pytest.approx(sizes[int(np.ceil(0.99 * (len(sizes) - 1)))], rel=1e-9)
        assert item["last_day"] == f"{theirs.index[-1]:%Y-%m-%d}"


@pytest.mark.parametrize(
    ("column", "factor", "severity"),
    [
        *[("hash_rate_ehs", factor, NOTE) for factor in (1.0, 1.0099, 0.991)],
        *[("hash_rate_ehs", factor, WARNING) for factor in (1.0102, 0.98, 1.3)],
        *[("price_usd", factor, NOTE) for factor in (1.0, 1.0199, 0.981)],
        *[("price_usd", factor, WARNING) for factor in (1.021, 0.97, 1.3)],
        *[(column, factor, FAILURE) for column in ("hash_rate_ehs", "price_usd") for factor in (1.4, 0.7, 1000.0)],
        *[("height", blocks, WARNING if blocks else NOTE) for blocks in (0, 1, -1, 300)],
    ],
)
def test_how_far_two_sources_may_lie_apart(column, factor, severity):
    items = found(off_by(column, factor))
    assert {name: item["severity"] for name, item in items.items()} == {
        **dict.fromkeys(COLUMNS, NOTE),
        column: severity,
    }
    for name, item in items.items():
        assert "other's" in item["message"] and "\n" not in item["message"] and len(item["message"]) < 200
        assert (item["value"] < 1e-12) == (name != column or factor == (0 if column == "height" else 1))


@pytest.mark.parametrize(
    ("name", "own", "blocks"),
    [("mempool_space", (), 20), ("a", ("mempool_space",), 20), ("a", ("b", "header_time"), 10)],
)
def test_heights_that_are_reckoned_or_dated_by_another_clock_need_not_be_equal(name, own, blocks):
    assert found(off_by("height", blocks), name, own)["height"]["severity"] == NOTE
    assert found(off_by("height", -blocks - 1), name, own)["height"]["severity"] == WARNING
    assert name not in PROVIDERS or name == "mempool_space"


def test_single_odd_days_are_named_and_do_not_decide():
    few, many = (off_by("price_usd", 1.1, list(range(-50, -50 + 10 * n, 10))) for n in (3, 5))
    assert found(few)["price_usd"]["severity"] == NOTE and "2021" in found(few)["price_usd"]["message"]
    assert found(many)["price_usd"]["severity"] == WARNING


def test_the_newest_common_year_is_judged_whatever_came_before_or_after_it():
    for column, factor in (("price_usd", 1.2), ("hash_rate_ehs", 1.2), ("height", 3)):
        early = off_by(column, factor, slice(0, 100))
        assert found(early)[column]["severity"] == NOTE
        stopped = early.iloc[:120]
        assert found(stopped)[column]["severity"] == WARNING
        assert found(stopped)[column]["last_day"] == f"{PANEL.index[119]:%Y-%m-%d}"


def test_what_nobody_knows_is_not_compared():
    assert found(PANEL * np.nan) == found(PANEL.iloc[:0]) == found(PANEL.shift(5000, freq="D")) == {}
    assert list(found(PANEL.assign(height=np.nan, price_usd=np.nan))) == ["hash_rate_ehs"]
    assert "hash_rate_ehs" not in found(PANEL.iloc[:20])  # too few days for a mean of thirty


@pytest.fixture(scope="module")
def second(data_folder):
    """Blockchain.com's panel from the recorded charts."""
    files = {path.name: path.read_bytes() for path in (data_folder / "blockchain_com").glob("*.json")}
    return PROVIDERS["blockchain_com"].parse(files)


def test_two_real_providers_agree_and_a_price_stamped_a_day_late_does_not(real_panel, second):
    panel = real_panel[:"2026-03-22"]
    items = found(second, "blockchain_com", panel=panel)
    assert list(items) == COLUMNS[:2] and {item["severity"] for item in items.values()} == {NOTE}
    assert items["hash_rate_ehs"]["value"] < 0.0005 and items["price_usd"]["value"] < 0.01
    for year in range(2015, 2026):
        late = panel.assign(price_usd=panel["price_usd"].shift(1))[: f"{year}-12-31"]
        assert found(late, panel=panel)["price_usd"]["severity"] == WARNING


@pytest.mark.parametrize(
    "told", ["a second source", "that does not agree", "that knows nothing", "that is the same", "none"]
)
def test_the_page_compares_by_hand_and_says_what_it_found(real_panel, second, tmp_path, monkeypatch, told):
    panel = real_panel[:"2026-03-22"]
    others = {
        "a second source": second,
        "that does not agree": panel.assign(hash_rate_ehs=panel["hash_rate_ehs"] * 1.02, height=panel["height"] + 2),
        "that knows nothing": second * np.nan,
        "that is the same": panel,
    }
    panels = {"blockchain_com": others[told]} if told in others else {}
    findings = tuple(item for name, other in panels.items() for item in compare_providers(panel, other, name))
    first = {"columns": ["price_usd"], "what": "price", "source": "one", "name": "One", "licence": "no limit"}
    first |= {"commercial": "yes", "attribution": "by One", "link": "https://one.example", "as_of": "2026-03-22"}
    origins = (first, first | {"what": "hash rate, block count", "name": "Two", "attribution": "by Two"})
    market = Market(panel, "test", False, origins=origins, findings=findings)
    monkeypatch.setattr(notebook_cells, "Market", lambda *_, **__: market)
    monkeypatch.setattr("capitulation.data.market.other_panels", lambda asked: panels)
    shown = notebook_cells.run_cells("10-fetch-data", panel, tmp_path, monkeypatch)["shown"]
    text = re.sub(r"<[^>]+>", " ", " ".join(shown))
    assert "by One and by Two" in text and not re.search(r"\b(nan|NaT|None)\b", text)
    provenance = pd.read_csv(tmp_path / "tables" / "provenance.csv").set_index("item")["value"]
    assert "no limit" in provenance["price"] and "Two" in provenance["hash rate, block count"]
    table = tmp_path / "tables" / "second_source.csv"
    assert (
        table.is_file() == (tmp_path / "figures" / "second_source.png").is_file() == (told in others and bool(findings))
    )
    if table.is_file():
        rows = pd.read_csv(table).set_index("column")
        values = {item["column"]: item["value"] for item in findings}
        assert rows["most"].to_dict() == pytest.approx(values, abs=1e-12)
        doubted = [item["column"] for item in findings if item["severity"] != NOTE]
        assert (rows["verdict"] != "they agree").sum() == len(doubted) == 2 * (told == "that does not agree")
    assert ("blockchain_com" in text) == (told in others)
