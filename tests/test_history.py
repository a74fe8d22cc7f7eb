"""The chart to explore as a model: what it holds of a panel, and how it reaches a page."""

import json

import numpy as np
import pandas as pd
import pytest
from bokeh.embed import json_item

import capitulation as cap
from capitulation.data.market import Market
from capitulation.figures.history import history
from capitulation.params import Params, shared_settings
from capitulation.report.explore import chart_parts
from capitulation.report.page import Page
from panels import without

DAY = pd.Timedelta(days=1)


def explored(panel, **options):
    """The layout, and its sources by name, of all rules on `panel`."""
    layout = history(panel, cap.hash_ribbons(panel), cap.apply_rules(panel).episodes, **options)
    return layout, {name: layout.select_one({"name": name}).data for name in ("days", "episodes")}


@pytest.fixture(scope="module")
def panel(simulated_panel):
    """With holes in price and hash rate; the last weeks of hash rate are not known."""
    holed = without(simulated_panel, range(1000, 1100), "hash_rate_ehs", "block_count", "difficulty")
    return without(without(holed, range(1500, 1510), "price_usd"), range(-20, 0), "hash_rate_ehs", "difficulty")


def test_it_holds_the_days_of_the_panel_and_what_is_missing_stays_missing(panel):
    _, held = explored(panel)
    ribbon, days = cap.hash_ribbons(panel), pd.DataFrame(held["days"]).set_index("date")
    assert days.dtypes.eq("float32").all() and days.index[-1] == panel.index[-1]
    for name, values in (("price", panel["price_usd"]), *ribbon[["fast", "slow", "gap"]].items()):
        expected = values.reindex(days.index)
        np.testing.assert_allclose(days[name], expected, rtol=1e-6)
        assert values.notna().sum() == expected.notna().sum(), f"days of {name} are left out"
    assert days["gap"].isna().sum() > 100
    np.testing.assert_allclose(days["high"], 2 * ribbon["gap_se"].reindex(days.index).fillna(0), rtol=1e-6)
    np.testing.assert_array_equal(days["low"], -days["high"])


def test_it_tells_each_episode_with_what_followed_and_shades_those_of_the_first_rule(panel):
    layout, held = explored(panel, first="puell_multiple", days=30, lag=2)
    found, told = cap.apply_rules(panel).episodes, pd.DataFrame(held["episodes"])
    assert len(told) == len(found) and set(told["rule"]) == {cap.RULES[name].words for name in found["definition"]}
    shaded = told.loc[layout.select_one({"name": "shaded"}).indices]
    own = found[found["definition"] == "puell_multiple"].reset_index(drop=True)
    assert shaded["rule"].eq("Puell multiple").all() and shaded["start"].tolist() == own["start"].tolist()
    assert shaded["real"].tolist() == own["grade"].eq("real").tolist()
    price, seen = panel["price_usd"], 0
    for words, end in zip(shaded["words"], own["end"], strict=True):
        after = price.get(end + 32 * DAY, np.nan) / price.get(end + 2 * DAY, np.nan) - 1 if pd.notna(end) else np.nan
        seen += np.isfinite(after)
        assert np.isnan(after) or words.endswith(f"{after:+.0%}".replace("%", " %").replace("-", "−"))
        assert np.isfinite(after) or "not known" in words or pd.isna(end)
    assert seen > 3


def test_an_episode_that_may_go_on_ends_with_its_last_known_day(simulated_panel):
    start = (
        cap.apply_rules(simulated_panel).episodes.query("definition == 'hash_ribbons' and days > 20")["start"].iloc[-1]
    )
    for unknown in (0, 30):
        panel = simulated_panel[: start + 10 * DAY]
        index = pd.date_range(panel.index[0], periods=len(panel) + unknown, name="date")
        _, held = explored(panel.reindex(index), first="hash_ribbons")
        told = pd.DataFrame(held["episodes"]).query("rule == 'Hash Ribbons'").iloc[-1]
        assert told["start"] == start and panel.index[-1] < told["stop"] <= panel.index[-1] + 4 * DAY
        assert ("not known to have ended" in told["words"]) == bool(unknown)


def test_the_spans_to_choose_from_follow_the_data(real_panel):
    layout, held = explored(real_panel[:"2022-12-31"])
    spans = {words: pd.to_datetime(moments, unit="ms") for words, *moments in layout.tags}
    assert list(spans) == ["last 2 years", "last 5 years", "all", "2009", "2011", "2018–19", "2021"]
    assert list(spans["last 2 years"]) == [pd.Timestamp("2021-01-01"), pd.Timestamp("2023-01-01")]
    assert list(spans["all"]) == [held["days"]["date"][0], pd.Timestamp("2023-01-01")]
    x = layout.select_one({"name": "x"})
    assert [x.start, x.end] == layout.tags[0][1:] and list(x.bounds) == layout.tags[2][1:]
    short, _ = explored(real_panel["2019-06":"2019-12"])
    assert short.tags[0][0] == "all"


@pytest.mark.parametrize("lost", [["price_usd"], ["hash_rate_ehs"], ["price_usd", "hash_rate_ehs"]])
def test_what_is_not_known_at_all_leaves_a_chart_of_the_rest(simulated_panel, lost):
    layout, held = explored(without(simulated_panel, simulated_panel.index, *lost))
    assert len(layout.children) == (2 if "price_usd" in lost else 3)
    ended = [words for words in held["episodes"]["words"] if ";" in words]
    assert "price_usd" not in lost or all(words.endswith("not known") for words in ended)
    json.dumps(json_item(layout), allow_nan=False)


def test_its_text_cannot_end_the_element_it_stands_in(panel):
    found = cap.apply_rules(panel).episodes.assign(definition="</script><script>alert(1)</script>")
    item = json_item(history(panel, cap.hash_ribbons(panel), found))
    text = chart_parts(item)["chart"]
    assert "<" not in text and "alert(1)" in text and json.loads(text) == json.loads(json.dumps(item))


def test_a_page_keeps_it_for_the_report_and_shows_it_in_a_notebook(panel, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data["text/html"]))
    item = json_item(explored(panel)[0])
    for folder in (tmp_path, None):
        Page(Market(panel, "test", True), **shared_settings(Params()), folder=folder).history(item)
    assert json.loads((tmp_path / "history.json").read_text()) == json.loads(json.dumps(item))
    link, frame = shown
    assert 'href="history.html"' in link
    assert frame.startswith("<iframe ") and "Simulated market" in frame and frame.count("<") == 2
