"""Returns, event studies and their tables: loops by hand, no look-ahead, and the published figures on real data."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capitulation.data.panel import PANEL_COLUMNS
from capitulation.mining.difficulty import era_of
from capitulation.mining.episodes import episodes
from capitulation.mining.hashrate import hash_ribbons
from capitulation.study.chance import less_own_mean, match_levels, rotation_test
from capitulation.study.events import by_grade, event_study, leave_one_out
from capitulation.study.returns import (
    describe,
    event_marks,
    event_paths,
    excursions,
    forward_returns,
    outcomes,
    own_era_excess,
    unknown_outcomes,
)
from capitulation.study.tables import STUDY_COLUMNS, study_table
from notebook_cells import run_cells

FEW = {"horizons": (7, 90), "n_bootstrap": 200, "n_matched": 200}


def prices(values, start="2020-01-01"):
    return pd.Series(np.asarray(values, float), pd.date_range(start, periods=len(values), name="date"))


def random_walk(n=400, seed=0):
    return prices(100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.001, 0.04, n))))


@pytest.fixture(scope="module")
def panel():
    """Eight years of a random walk, the halvings of 2016 and 2020 inside."""
    days = pd.date_range("2014-01-01", "2021-12-31", name="date", unit="us")
    frame = pd.DataFrame(np.nan, days, list(PANEL_COLUMNS))
    frame["price_usd"] = 500 * np.exp(np.cumsum(np.random.default_rng(8).normal(0.001, 0.035, len(days))))
    frame["height"] = 280_000.0 + 152 * np.arange(len(days))
    return frame


@pytest.fixture(scope="module")
def events(panel):
    days = panel.index
    return {
        ("hash_ribbons", "start"): days[[100, 130, 700, 1500, 2200, 2900]],
        ("hash_ribbons", "in_state"): days[np.r_[100:130, 700:800, 1500:1540]],
        ("puell_multiple", "start"): days[:0],
        ("puell_multiple", "recovery"): days[[500]],
    }


@pytest.fixture(scope="module")
def table(panel, events):
    return study_table(panel, events, **FEW)


# --- forward returns ---


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(0, 5), st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_every_day_equals_a_loop_and_zero_is_no_price(horizon, lag, values):
    returns = forward_returns(prices(values), horizon, lag)
    for i in range(len(values)):
        end = i + lag + horizon
        if end < len(values) and values[end] and values[i + lag]:
            assert returns.iloc[i] == pytest.approx(np.log(values[end] / values[i + lag]), abs=1e-12)
        else:
            assert np.isnan(returns.iloc[i])


def test_a_missing_price_spoils_only_what_needs_it_and_horizons_add_up():
    price = prices([1, 2, np.nan, 4, 5])
    assert forward_returns(price, 1, 0).notna().tolist() == [True, False, False, True, False]
    assert forward_returns(price.astype("Float64"), 2, 0).notna().tolist() == [False, True, False, False, False]
    ten, twenty, thirty = (forward_returns(random_walk(), days) for days in (10, 20, 30))
    np.testing.assert_allclose((ten + twenty.shift(-10)).dropna(), thirty.dropna(), atol=1e-12)


@pytest.mark.parametrize(("days", "lag"), [(0, 1), (-1, 1), (5, -1)])
def test_impossible_days_and_gaps_are_refused(days, lag):
    with pytest.raises(ValueError, match="days >= 1"):
        forward_returns(random_walk(), days, lag)
    with pytest.raises(ValueError, match="gaps"):
        forward_returns(random_walk().drop(pd.Timestamp("2020-02-01")), 5)


def test_the_sample_is_every_day_since_whose_outcome_is_known():
    price = random_walk()
    sample = outcomes(price.to_frame("price_usd"), 30, 2, "2020-03-01")
    assert sample.index[0] == pd.Timestamp("2020-03-01") and sample.index[-1] == price.index[-33]
    pd.testing.assert_series_equal(sample, forward_returns(price, 30, 2)[sample.index])
    assert len(outcomes(price, 30, 2, "")) == len(price) - 32 and outcomes(price, 30, 2, "2031-01-01").empty


# --- where events meet a sample ---


@pytest.mark.parametrize(
    "kind", ["us", "ns", "list", "text", "series", "utc", "time of day", "boolean", "<NA>", "array"]
)
def test_one_set_of_days_in_every_form_is_the_same_marks(kind):
    index = pd.date_range("2020-01-01", periods=30, unit="us")
    wanted = np.isin(np.arange(30), [3, 17])
    days, state = index[wanted], pd.Series(wanted, index)
    form = {
        "us": days,
        "ns": days.as_unit("ns"),
        "list": [days[1], pd.NaT, days[0], None, days[0], pd.Timestamp("2019-01-01")],
        "text": ["2020-01-04", "2020-01-18"],
        "series": pd.Series([days[0], pd.NaT, days[1]]),
        "utc": days.tz_localize("UTC"),
        "time of day": days + pd.Timedelta(hours=9),
        "boolean": state[2:],
        "<NA>": state.astype("boolean").mask(np.arange(30) == 5).astype("boolean" if kind == "<NA>" else "object"),
        "array": wanted,
    }
    np.testing.assert_array_equal(event_marks(index, form[kind]), wanted)


@pytest.mark.parametrize("lag", [0, 1, 5])
def test_an_outcome_that_hangs_on_a_missing_price_is_counted_and_its_day_named(lag):
    price, days = random_walk(200), 20
    holed = price.where(~price.index.isin(price.index[[60, 61, 100, 190]]))
    events = price.index[[10, 40, 60 - lag, 90, 100 - lag - days, 185]]  # the last one's outcome is still to come
    known = outcomes(holed, days, lag, "").index
    said = unknown_outcomes(holed, events, days, lag, "")
    assert list(map(int, re.findall(r"\d+", said)[:2])) == [5 - events.isin(known).sum(), 5]
    needed = events[:5] + pd.Timedelta(days=lag), events[:5] + pd.Timedelta(days=lag + days)
    missing = {f"{day:%Y-%m-%d}" for side in needed for day in side if np.isnan(holed[day])}
    assert missing == set(re.findall(r"\d{4}-\d\d-\d\d", said)) and missing
    assert unknown_outcomes(price, events, days, lag, "") == ""
    assert unknown_outcomes(holed, events, days, lag, "2021-01-01") == unknown_outcomes(holed, [], days) == ""


@pytest.mark.parametrize("events", [[], pd.DatetimeIndex([]), pd.Series([pd.NaT]), pd.Series([np.nan]), [None]])
def test_no_day_is_no_event(events):
    assert not event_marks(random_walk().index, events).any()


@pytest.mark.parametrize("events", [[3, 17], pd.Series([0.0, 1.0]), np.ones(5), [True, False]])
def test_numbers_and_booleans_of_another_length_are_no_events(events):
    with pytest.raises(ValueError, match="numbers|booleans"):
        event_marks(random_walk().index, events)


# --- own-era excess ---


def test_the_yardstick_leaves_out_what_it_says(panel):
    """x_t = r_t(h) - h m_t, m_t over the era's days since the start without t-364 ... t+lag+h."""
    price, era, h, lag = panel["price_usd"], era_of(panel.index, panel), 60, 2
    found = own_era_excess(price, era, h, lag, "2015-01-01")
    steps = np.log(price).diff()["2015":]
    returns = outcomes(panel, h, lag, "2015-01-01")
    for day in found.index[[0, 300, 500, 900, 1500, 2200, -1]]:
        own = steps[(era[steps.index] == era[day]).to_numpy()]
        gone = (own.index > day - pd.Timedelta(days=365)) & (own.index <= day + pd.Timedelta(days=lag + h))
        assert found[day] == pytest.approx(returns[day] - h * own[~gone].mean(), abs=1e-12)
    assert found.index.isin(returns.index).all()


def test_an_era_too_young_to_be_its_own_yardstick_leaves_its_days_out():
    """An era of 100 days: without a signal's 30 days and the entry, fewer than 90 are left to compare with."""
    price = random_walk(700)
    era = pd.Series(np.where(np.arange(700) < 600, 2016, 2020), price.index)
    assert len(outcomes(price, 30, since="2020-01-01")) == 669
    assert own_era_excess(price, era, 30, 1, "2020-01-01").index[-1] == price.index[599]


# --- paths and excursions ---


def test_paths_start_at_the_entry_and_reach_the_forward_return():
    price = random_walk()
    days = price.index[[80, 200]]
    paths = event_paths(price, [days[1], days[0], pd.NaT, pd.Timestamp("2031-01-01")], before=60, after=90)
    assert paths.index[0] == -60 and paths.index[-1] == 90 and list(paths.columns) == list(days)
    assert (paths.loc[0] == 0).all()
    np.testing.assert_allclose(paths.loc[90], forward_returns(price, 90)[days], atol=1e-12)
    assert paths.loc[-1, days[0]] == pytest.approx(np.log(price.iloc[80] / price.iloc[81]))
    assert event_paths(price, []).shape == (426, 0)
    paths = event_paths(price[:100], price.index[[10, 99]], before=20, after=120)  # reaches out of the series
    assert paths.iloc[:, 0].notna().sum() == 100 and np.isnan(paths.iloc[[0, -1], 0]).all()
    assert paths.iloc[:, 1].isna().all()  # its entry lies after the last day


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 120), st.integers(0, 3))
def test_excursions_equal_a_loop_and_bracket_the_return(seed, horizon, lag):
    price = random_walk(150, seed)
    found, simple = excursions(price, price.index, horizon, lag), np.expm1(forward_returns(price, horizon, lag))
    known = simple.notna()
    assert (found["max_adverse"].notna() == known).all()
    for at in np.flatnonzero(known)[::40]:
        way = price.iloc[at + lag : at + lag + horizon + 1] / price.iloc[at + lag] - 1
        assert found.iloc[at].tolist() == pytest.approx([way.min(), way.max()], abs=1e-12)
    assert (found["max_adverse"][known] <= np.minimum(simple[known], 0) + 1e-12).all()
    assert (found["max_favourable"][known] >= np.maximum(simple[known], 0) - 1e-12).all()
    price = prices([1, 2, np.nan, 4, 5, 6])
    assert excursions(price, price.index[[0, 2]], 3, 0).isna().all(axis=None)
    assert excursions(price, price.index[[3]], 2, 0).iloc[0].tolist() == pytest.approx([0.0, 0.5])


# --- event study ---


def test_a_row_of_the_event_study_equals_a_slow_count(panel, events):
    days = events["hash_ribbons", "start"]
    row = event_study(panel, [*days, pd.NaT], horizons=[90], confidence=0.9).iloc[0]
    price = panel["price_usd"].to_numpy()
    returns = np.array([price[i + 91] / price[i + 1] - 1 for i in (100, 130, 700, 1500, 2200)])
    every = np.array([price[i + 91] / price[i + 1] - 1 for i in range(len(price) - 91)])
    assert (row["days"], row["n"], row["clusters"]) == (90, 5, 4)  # the last outcome is to come
    for prefix, values in {"": returns, "base_": every}.items():
        wanted = (values.mean(), np.median(values), (values > 0).mean())
        assert [row[prefix + name] for name in ("mean", "median", "hit_rate")] == pytest.approx(wanted)
    assert row["excess_plain"] == pytest.approx(np.log1p(returns).mean() - np.log1p(every).mean())
    own = own_era_excess(panel["price_usd"], era_of(panel.index, panel), 90, 1)
    test = rotation_test(own, days, confidence=0.9)
    assert row[["excess", "ci_low", "ci_high", "p", "p_two_sided", "n_excess"]].tolist() == pytest.approx(
        [test.excess, *test.interval, test.p, test.p_two_sided, test.n]
    )


def test_an_own_rule_is_days_or_a_boolean_series(panel):
    state = panel["price_usd"] > 1.5 * panel["price_usd"].rolling(200).mean()
    days = panel.index[state]
    pd.testing.assert_frame_equal(event_study(panel, state.astype("boolean")), event_study(panel, list(days)))
    assert event_study(panel, days, since="").equals(event_study(panel, days, since=f"{panel.index[0]:%F}"))
    late = event_study(panel, days, since="2019-01-01")
    assert (late["n"] == [(days[days >= "2019"] <= panel.index[-h - 2]).sum() for h in late["days"]]).all()


def test_no_events_give_a_baseline_and_nothing_else(panel):
    found = event_study(panel, [])
    assert (found[["n", "clusters"]] == 0).all(axis=None) and found["base_mean"].notna().all()
    assert found[["mean", "excess", "ci_low", "ci_high", "p", "excess_plain", "p_plain"]].isna().all(axis=None)
    empty = event_study(panel, panel.index[[5]], since="2021-12-30")
    assert (empty["n"] == 0).all() and empty["base_mean"].isna().all()
    assert np.isnan(list(describe([]).values())).all()
    assert leave_one_out(panel, [])["n"].tolist() == [0]


def test_leaving_out_each_cluster(panel, events):
    found = leave_one_out(panel, events["hash_ribbons", "start"])
    assert found["left_out"].isna().tolist() == [True, False, False, False, False]
    assert found["left_out"].iloc[1:].tolist() == list(panel.index[[100, 700, 1500, 2200]])  # 100 and 130 go together
    assert found["n"].tolist() == [5, 3, 4, 4, 4]
    without = event_study(panel, panel.index[[700, 1500, 2200]], [90])
    pd.testing.assert_frame_equal(found.iloc[[1], 1:].reset_index(drop=True), without)


# --- the table of all rules ---


def test_rows_equal_the_event_study_and_their_own_tests(panel, events, table):
    assert list(table.columns) == list(STUDY_COLUMNS)
    keys = [(name, anchor, horizon) for name, anchor in events for horizon in (7, 90)]
    assert list(table[["definition", "anchor", "horizon_days"]].itertuples(index=False, name=None)) == keys
    for (definition, anchor), rows in table.groupby(["definition", "anchor"], sort=False):
        study = event_study(panel, events[definition, anchor], [7, 90])
        names = {"n": "n_events", "clusters": "n_clusters", "excess_plain": "excess_log", "p_plain": "p_rotation"}
        own = {name: name for name in ("mean", "median", "hit_rate", "base_mean", "base_median", "base_hit_rate")}
        for here, there in {**names, **own}.items():
            np.testing.assert_allclose(rows[there], study[here], atol=1e-12, err_msg=there)
        known = rows["p_rotation"].dropna().sort_values()  # Holm: the lowest of m counts m times, the next m - 1
        stepped = (known * np.arange(len(known), 0, -1)).cummax().clip(upper=1)
        np.testing.assert_allclose(rows["p_holm"], stepped.reindex(rows.index))
    era = era_of(panel.index, panel)
    row = table.iloc[1]
    returns, days = outcomes(panel, 90), events["hash_ribbons", "start"]
    wanted = {
        "p_rotation_two_sided": rotation_test(returns, days).p_two_sided,
        "p_rotation_own_era": rotation_test(own_era_excess(panel["price_usd"], era, 90), days).p,
        "p_rotation_demeaned": rotation_test(
            less_own_mean(returns.to_numpy(), era[returns.index]), returns.index.isin(days)
        ).p,
        "p_rotation_era": rotation_test(returns, days, strata=era[returns.index], seed=20260120).p,
        "n_effective": event_study(panel, days, [90])["n_effective"].item(),
    }
    names = {"excess_own_era": "excess", "ci_low_own_era": "ci_low", "ci_high_own_era": "ci_high"}
    names |= {"p_rotation_own_era": "p", "p_two_sided_own_era": "p_two_sided"}
    for (definition, anchor), rows in table.groupby(["definition", "anchor"], sort=False):
        study = event_study(panel, events[definition, anchor], [7, 90])
        np.testing.assert_allclose(rows[list(names)], study[list(names.values())], atol=1e-12)
        assert (rows["p_family_own_era"] >= rows["p_rotation_own_era"] - 1e-12)[rows["n_events"] > 0].all()
    assert row[list(wanted)].tolist() == pytest.approx(list(wanted.values()), rel=1e-3)


def test_few_or_no_events_say_so(panel, events, table):
    empty = study_table(panel, events, **FEW, since="2021-12-30")
    assert (empty["n_events"] == 0).all() and empty["base_mean"].isna().all()
    nothing, one = table.iloc[4:6], table.iloc[6:8]
    assert (nothing[["n_events", "n_clusters"]] == 0).all(axis=None) and nothing["base_median"].notna().all()
    tests = [name for name in STUDY_COLUMNS if name.startswith(("p_", "t_", "ci_"))]
    assert nothing[["mean", "excess_log", "excess_own_era", *tests]].isna().all(axis=None)
    assert (one["n_events"] == 1).all() and one["p_rotation"].between(0, 1).all()
    assert one[["ci_low", "ci_high"]].isna().all(axis=None)
    known = table.dropna(subset=["ci_low"])
    assert len(known) and ((known["ci_low"] < known["excess_log"]) & (known["excess_log"] < known["ci_high"])).all()


def test_a_row_does_not_depend_on_the_rows_beside_it_and_the_seed_moves_only_what_is_drawn(panel, events, table):
    key = ("hash_ribbons", "start")
    alone = study_table(panel, {key: events[key], ("copy", "start"): events[key]}, **FEW)
    family = table.columns.get_loc("p_family_own_era")  # which counts the rows beside it
    assert (alone.iloc[:2, family] < table.iloc[:2, family]).all()
    pd.testing.assert_frame_equal(
        alone.drop(columns="p_family_own_era").iloc[:2], table.drop(columns="p_family_own_era").iloc[:2], rtol=1e-9
    )
    assert alone["same_as"].tolist() == ["", "", "hash_ribbons", "hash_ribbons"]
    figures = alone.columns[3:].drop("same_as")
    assert alone.loc[2:, figures].reset_index(drop=True).equals(alone.loc[:1, figures])
    other, drawn = study_table(panel, events, **FEW, seed=5), ["ci_low", "ci_high", "p_matched", "p_rotation_era"]
    pd.testing.assert_frame_equal(other.drop(columns=drawn), table.drop(columns=drawn))
    assert not other["ci_low"].equals(table["ci_low"])


def test_a_planted_effect_shows_in_every_test(panel, events):
    days, bump = events["hash_ribbons", "start"], np.zeros(len(panel))
    for at in panel.index.get_indexer(days):
        bump[at + 2 : at + 9] += 0.12
    lifted = panel.assign(price_usd=panel["price_usd"] * np.exp(np.cumsum(bump - bump.mean())))
    row = study_table(lifted, {("hash_ribbons", "start"): days}, **FEW).iloc[0]
    assert (row[["p_rotation", "p_rotation_own_era", "p_matched", "p_rotation_era", "p_hac", "p_holm"]] < 0.02).all()
    assert row["ci_low"] > 0 and row["hit_rate"] == 1.0
    assert event_study(lifted, days, [7])["ci_low"].item() > 0


# --- no look-ahead ---

MEASURES = {
    "forward_returns": lambda frame: forward_returns(frame["price_usd"], 90),
    "outcomes": lambda frame: outcomes(frame, 90),
    "match_levels": lambda frame: pd.Series(match_levels(np.zeros(len(frame)), frame["price_usd"])[0], frame.index),
    "event_paths": lambda frame: (
        event_paths(frame["price_usd"], frame.index[700:1400:50])
        .melt(ignore_index=False)
        .set_index("date", append=True)["value"]
    ),
    "excursions": lambda frame: excursions(frame["price_usd"], frame.index[700:1400:50], 90)["max_adverse"],
    "era": lambda frame: era_of(frame.index, frame),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("market", ["made", "real"])
def test_cutting_the_future_off_changes_nothing_that_was_known(market, measure, panel, request):
    frame = panel if market == "made" else request.getfixturevalue("real_panel")
    whole = MEASURES[measure](frame)
    for rows in (900, 1310, 1401, 1999):
        known = MEASURES[measure](frame.iloc[:rows]).dropna()
        pd.testing.assert_series_equal(known, whole.reindex(known.index), check_freq=False)


@pytest.mark.parametrize("days", [7, 90, 365])
def test_an_outcome_that_lies_in_the_future_is_missing_not_guessed(panel, days):
    past = panel.iloc[:1500]
    assert forward_returns(past["price_usd"], days).iloc[-days - 1 :].isna().all()
    last = past.index[1500 - days - 2]
    era = era_of(past.index, past)
    comparable = past.index[past.index < "2016-11-10"][-1] if days == 365 else last  # then the era is too young
    assert outcomes(past, days).index[-1] == last
    assert own_era_excess(past["price_usd"], era, days).index[-1] == comparable
    known, later = past.index[[50, 300, 500]], panel.index[[1499, 1500 - days, 1500, 2000]]
    for study in (event_study, lambda p, e, h: study_table(p, {("own", "start"): e}, h, n_bootstrap=50, n_matched=50)):
        pd.testing.assert_frame_equal(study(past, known.append(later), [days]), study(past, known, [days]))


def test_the_grade_of_a_past_capitulation_is_known_at_its_recovery(real_panel):
    """So the split by grade holds the events of each day with what was known on that day, and none that came later."""
    whole = episodes(hash_ribbons(real_panel)["inverted"], real_panel)
    for at in whole["end"].dropna().iloc[[5, 20, 33]]:
        past = real_panel[:at]
        known = episodes(hash_ribbons(past)["inverted"], past).dropna(subset="end")
        pd.testing.assert_frame_equal(known[["end", "grade"]], whole[whole["end"] <= at][["end", "grade"]])
        known, asked = known.assign(buy_date=whole["buy_date"]), {"horizons": (7, 90), "since": "2011-01-01"}
        pd.testing.assert_frame_equal(by_grade(past, whole, **asked), by_grade(past, known, **asked))


# --- the published figures ---

TABLES = {
    "20-find-capitulations": "episodes definitions daily drawdown_noise",
    "30-measure-forward-returns": "forward_returns event_returns average_paths excursions returns_by_era",
    "40-backtest-signals": "backtest equity",
    "50-stress-the-result": "family window_grid specifications specifications_by_rule prequential lag_sensitivity",
    "60-price-the-miners": "retargets lead_tests",
}
OTHER_METHOD = {  # columns that another method fills now (CHANGELOG)
    "forward_returns": ["min_detectable_log", "p_rotation_own_era"],
    "backtest": ["deflated_sharpe", "n_trials"],
    "family": ["p_family"],
    "specifications": ["rank"],
    "definitions": ["episodes"],
}
OTHER_DATA = "fleet_under_breakeven"  # the list of rigs has grown


def kept(table, like):
    """The rows of `table` whose method and data are as they were, in the order of `like`: names, then figures."""
    rows = table[~table.get("definition", pd.Series("", table.index)).eq(OTHER_DATA)]
    if {"anchor", "anchor_date"} <= set(rows):  # no buy where no price is known around the recovery
        rows = rows[~((rows["anchor"] == "buy") & (rows["anchor_date"] < "2010-08-10"))]
    if "buy_date" in rows:
        rows = rows.assign(buy_date=rows["buy_date"].mask(rows["buy_date"] < "2010-08-10"))
    if "in_capitulation" in rows:  # not false where it is not known
        rows = rows.assign(in_capitulation=rows["in_capitulation"].mask(rows["ribbon_state"] == "unknown"))
    if "strategy" in rows:
        rows = rows[~rows["strategy"].str.endswith("out_of_capitulation")]
    return rows[like].reset_index(drop=True)


@pytest.mark.parametrize("notebook", TABLES)
def test_the_notebooks_tables_of_the_real_file_are_the_known_ones(notebook, golden, real_panel, tmp_path, monkeypatch):
    """Every column that was published once is still there and holds the same, but for those of another method."""
    run_cells(notebook, real_panel, tmp_path, monkeypatch)
    for name in TABLES[notebook].split():
        found, wanted = (pd.read_csv(folder / "tables" / f"{name}.csv") for folder in (tmp_path, golden))
        assert set(wanted.columns) <= set(found.columns), name
        if name == "daily":
            assert found["in_capitulation"].isna().equals(found["ribbon_state"] == "unknown")
        same = list(wanted.columns.difference(OTHER_METHOD.get(name, []), sort=False))
        pd.testing.assert_frame_equal(
            kept(found, same), kept(wanted, same), check_dtype=False, rtol=1e-9, atol=1e-12, obj=name
        )
    assert json.loads((tmp_path / "findings" / f"{notebook}.json").read_text("utf-8"))["finding"]


GRADED = {  # grade and horizon of recoveries since 2014: events, of which rose, excess, interval, p, p against any day
    ("all", 90): (31, 17, -0.0171, -0.1956, 0.1432, 0.5589, 0.6686),
    ("real", 90): (7, 6, 0.1253, -0.1335, 0.3847, 0.1605, 0.0640),
    ("doubtful", 90): (3, 1, -0.0240, -0.5614, 0.5803, 0.5362, 0.7263),
    ("noise-like", 90): (21, 10, -0.0636, -0.3338, 0.1420, 0.7016, 0.8043),
    ("all", 180): (30, 23, 0.1415, -0.2314, 0.3622, 0.1950, 0.2757),
    ("real", 180): (7, 6, 0.1613, -0.2168, 0.6176, 0.2449, 0.0399),
}


def test_the_deciding_statistic_of_all_recoveries_and_of_each_grade(real_panel):
    found = by_grade(real_panel, episodes(hash_ribbons(real_panel)["inverted"], real_panel), (90, 180))
    table = found[found["anchor"] == "recovery"].set_index(["grade", "horizon_days"])
    for key, (n, rose, *wanted) in GRADED.items():
        row = table.loc[key]
        assert (row["n_events"], round(row["hit_rate"] * row["n_events"])) == (n, rose)
        assert row[["excess_log", "ci_low", "ci_high", "p", "p_plain"]].tolist() == pytest.approx(wanted, abs=6e-5)
    assert table.loc["all", "n_effective"].loc[180] == pytest.approx(10.648, abs=1e-3)
    assert (found["p_family"] >= found["p"] - 1e-12).all()
