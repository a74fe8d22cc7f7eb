"""The tables of the event study against slow twins, the contract, and the real file."""

import time

import numpy as np
import pandas as pd
import pytest

from capitulation.contract import TABLES
from capitulation.data.panel import PANEL_COLUMNS
from capitulation.params import Params
from capitulation.study.event_study import (
    EXTRA_COLUMNS,
    by_era,
    event_return_table,
    excursion_table,
    forward_return_table,
    leave_one_out,
)
from capitulation.study.forward_returns import forward_log_returns
from capitulation.study.multiple import holm
from capitulation.study.rotation import rotation_test

CONTRACT = [column.name for column in TABLES["forward_returns"].columns]
P_VALUES = [name for name in (*CONTRACT, *EXTRA_COLUMNS) if name.startswith("p_")]


def settings(**values):
    return Params(**{"horizons_days": [7, 90], "n_bootstrap": 200, "n_matched": 200, **values})


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
    return forward_return_table(panel, events, settings())


def test_columns_and_order_of_rows_are_the_contracts(table, events):
    assert list(table.columns) == [*CONTRACT, *EXTRA_COLUMNS]
    keys = [(name, anchor, horizon) for name, anchor in events for horizon in (7, 90)]
    assert list(table[["definition", "anchor", "horizon_days"]].itertuples(index=False, name=None)) == keys
    assert table["n_events"].dtype.kind == table["n_clusters"].dtype.kind == "i"


def test_figures_of_a_row_equal_a_slow_count(panel, events, table):
    row = table[(table["anchor"] == "start") & (table["horizon_days"] == 90)].iloc[0]
    price, returns = panel["price_usd"].to_numpy(), []
    for day in events["hash_ribbons", "start"]:
        entry = panel.index.get_loc(day) + 1
        if entry + 90 < len(price):
            returns.append(price[entry + 90] / price[entry] - 1)
    every = np.array([price[i + 91] / price[i + 1] - 1 for i in range(len(price) - 91)])
    returns = np.array(returns)
    assert row["n_events"] == 5 and row["n_clusters"] == 4  # the last outcome is to come; 30 days apart is one cluster
    expected = {
        "mean": returns.mean(),
        "median": np.median(returns),
        "hit_rate": (returns > 0).mean(),
        "worst": returns.min(),
        "best": returns.max(),
        "base_mean": every.mean(),
        "base_median": np.median(every),
        "base_hit_rate": (every > 0).mean(),
        "excess_log": np.log1p(returns).mean() - np.log1p(every).mean(),
        "min_detectable_log": 2.4865 * np.log1p(every).std() / 2,
    }
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-4 if name == "min_detectable_log" else 1e-9), name


def test_p_rotation_equals_brute_force(panel, events, table):
    returns = forward_log_returns(panel["price_usd"], 7, 1).dropna()
    marks = returns.index.isin(events["hash_ribbons", "in_state"])
    null = np.array([returns.to_numpy() @ np.roll(marks, k) for k in range(len(returns))]) / marks.sum()
    row = table[(table["anchor"] == "in_state") & (table["horizon_days"] == 7)].iloc[0]
    assert row["p_rotation"] == pytest.approx((null >= null[0] - 1e-9).mean(), abs=1e-12)
    centred = null - null.mean()
    assert row["p_rotation_two_sided"] == pytest.approx((abs(centred) >= abs(centred[0]) - 1e-9).mean(), abs=1e-12)


def test_holm_runs_over_the_horizons_of_each_rule_and_anchor(table):
    for _, rows in table[table["n_events"] > 0].groupby(["definition", "anchor"]):
        assert rows["p_holm"].to_numpy() == pytest.approx(holm(rows["p_rotation"].to_numpy()))


def test_a_rule_without_events_keeps_its_row_and_its_baseline(table):
    rows = table[(table["definition"] == "puell_multiple") & (table["anchor"] == "start")]
    assert (rows[["n_events", "n_clusters"]] == 0).all(axis=None)
    assert rows[["base_mean", "base_median", "base_hit_rate"]].notna().all(axis=None)
    assert rows[["mean", "median", "excess_log", "ci_low", "min_detectable_log", *P_VALUES]].isna().all(axis=None)


def test_one_event_has_a_p_value_but_no_interval(table):
    rows = table[table["anchor"] == "recovery"]
    assert (rows["n_events"] == 1).all() and rows["p_rotation"].between(0, 1).all()
    assert rows[["ci_low", "ci_high"]].isna().all(axis=None)


def test_p_values_and_intervals_make_sense(table):
    values = table[P_VALUES].to_numpy()
    assert ((values > 0) & (values <= 1) | np.isnan(values)).all()
    known = table.dropna(subset=["ci_low"])
    assert len(known) and ((known["ci_low"] < known["excess_log"]) & (known["excess_log"] < known["ci_high"])).all()


def test_a_row_does_not_depend_on_the_rows_beside_it(panel, events, table):
    alone = forward_return_table(panel, {("hash_ribbons", "start"): events["hash_ribbons", "start"]}, settings())
    pd.testing.assert_frame_equal(alone, table.iloc[:2].reset_index(drop=True), rtol=1e-9)


def test_the_seed_moves_only_what_is_drawn(panel, events, table):
    other = forward_return_table(panel, events, settings(seed=5))
    drawn = ["ci_low", "ci_high", "p_matched", "p_rotation_era"]
    pd.testing.assert_frame_equal(other.drop(columns=drawn), table.drop(columns=drawn))
    assert not other["ci_low"].equals(table["ci_low"])


def test_events_before_the_sample_start_do_not_count(panel, events, table):
    late = forward_return_table(panel, events, settings(sample_start="2016-01-01"))
    assert late["n_events"].iloc[0] == table["n_events"].iloc[0] - 3
    assert late["base_mean"].iloc[0] != table["base_mean"].iloc[0]


def test_a_sample_without_any_outcome_yet_is_empty_and_says_so(panel, events):
    empty = forward_return_table(panel, events, settings(sample_start="2021-12-30"))
    assert (empty["n_events"] == 0).all() and empty["base_mean"].isna().all()


def test_no_rule_at_all_gives_an_empty_table(panel):
    assert list(forward_return_table(panel, {}, settings()).columns) == [*CONTRACT, *EXTRA_COLUMNS]


def test_a_planted_effect_shows_in_every_p_value(panel, events):
    days = events["hash_ribbons", "start"]
    log_price, n = np.log(panel["price_usd"].to_numpy()), len(panel)
    bump = np.zeros(n)
    for at in panel.index.get_indexer(days):
        bump[at + 2 : at + 9] += 0.12
    lifted = panel.assign(price_usd=np.exp(log_price + np.cumsum(bump - bump.mean())))
    row = forward_return_table(lifted, {("hash_ribbons", "start"): days}, settings()).iloc[0]
    assert (row[["p_rotation", "p_matched", "p_rotation_era", "p_rotation_demeaned", "p_hac", "p_holm"]] < 0.02).all()
    assert row["ci_low"] > 0 and row["hit_rate"] == 1.0


@pytest.fixture(scope="module")
def episodes(panel):
    days = panel.index
    return pd.DataFrame(
        {
            "definition": ["hash_ribbons"] * 2 + ["puell_multiple"],
            "episode": [1, 2, 1],
            "start": [days[100], days[2900], days[300]],
            "end": pd.DatetimeIndex([days[150], pd.NaT, days[320]]),
            "buy_date": pd.DatetimeIndex([days[160], pd.NaT, pd.NaT]),
        }
    )


def test_event_returns_list_each_anchor_that_happened(panel, episodes):
    table = event_return_table(panel, episodes, settings())
    assert list(table.columns) == [column.name for column in TABLES["event_returns"].columns]
    keys = table[["definition", "episode", "anchor"]].drop_duplicates().itertuples(index=False, name=None)
    assert list(keys) == [
        ("hash_ribbons", 1, "start"),
        ("hash_ribbons", 1, "recovery"),
        ("hash_ribbons", 1, "buy"),
        ("hash_ribbons", 2, "start"),
        ("puell_multiple", 1, "start"),
        ("puell_multiple", 1, "recovery"),
    ]
    assert table["horizon_days"].tolist() == [7, 90] * 6
    price = panel["price_usd"].to_numpy()
    first = table.iloc[1]
    assert first["simple_return"] == pytest.approx(price[191] / price[101] - 1)
    assert first["max_adverse"] == pytest.approx(price[101:192].min() / price[101] - 1)
    assert first["max_favourable"] == pytest.approx(price[101:192].max() / price[101] - 1)
    unknown = table[(table["episode"] == 2) & (table["horizon_days"] == 90)]
    assert unknown[["simple_return", "max_adverse", "max_favourable"]].isna().all(axis=None)


def test_leaving_out_each_cluster(panel, events):
    table = leave_one_out(panel, events["hash_ribbons", "start"], 90, settings())
    days = panel.index[[100, 700, 1500, 2200]]  # days 100 and 130 go together
    assert table["left_out"].isna().tolist() == [True, False, False, False, False]
    assert table["left_out"].iloc[1:].tolist() == list(days)
    assert table["n_events"].tolist() == [5, 3, 4, 4, 4]
    returns = forward_log_returns(panel["price_usd"], 90, 1).dropna()
    kept = returns.index.isin(panel.index[[700, 1500, 2200]])
    assert table["p_rotation"].iloc[1] == rotation_test(returns, kept).p_one_sided
    assert table["mean"].iloc[1] == pytest.approx(np.expm1(returns[kept]).mean())


def test_leaving_out_the_only_event_leaves_nothing(panel):
    table = leave_one_out(panel, panel.index[[400]], 90, settings())
    assert table["n_events"].tolist() == [1, 0] and np.isnan(table["p_rotation"].iloc[1])
    assert leave_one_out(panel, panel.index[:0], 90, settings())["n_events"].tolist() == [0]


def test_eras_split_the_events_and_the_days(panel, events):
    table = by_era(panel, events["hash_ribbons", "start"], 90, settings())
    assert table["era"].tolist() == [2012, 2016, 2020]
    assert table["n_events"].sum() == 5 and table["n_days"].sum() == len(panel) - 91
    returns = forward_log_returns(panel["price_usd"], 90, 1).dropna()
    first = returns[panel["height"].reindex(returns.index) < 420_000]
    own = first.index.isin(events["hash_ribbons", "start"])
    row = table.iloc[0]
    assert row["n_days"] == len(first) and row["n_events"] == own.sum() == 3
    assert row["base_mean"] == pytest.approx(np.expm1(first).mean())
    assert row["excess_log"] == pytest.approx(first[own].mean() - first.mean())


def test_excursions_stand_beside_those_of_any_day(panel):
    episodes = pd.DataFrame(
        {
            "definition": "hash_ribbons",
            "episode": [1, 2, 3],
            "start": panel.index[[100, 130, 2900]],
            "end": panel.index[[110, 190, 2910]],
            "buy_date": pd.NaT,
        }
    )
    rows = event_return_table(panel, episodes, settings(horizons_days=[90]))
    table = excursion_table(panel["price_usd"], rows, settings(horizons_days=[90])).set_index("anchor")
    assert table["n_events"].to_dict() == {"start": 2, "recovery": 2}  # the third is not over, and none has a buy
    assert table["n_clusters"].to_dict() == {"start": 1, "recovery": 1}
    price = panel["price_usd"].to_numpy()
    every = [price[t + 1 : t + 92] / price[t + 1] - 1 for t in range(len(price) - 91)]
    assert table.loc["start", "median_adverse"] == pytest.approx(np.mean([every[100].min(), every[130].min()]))
    assert table.loc["start", "base_median_adverse"] == pytest.approx(np.median([way.min() for way in every]))
    assert table.loc["start", "base_median_favourable"] == pytest.approx(np.median([way.max() for way in every]))


@pytest.fixture(scope="module")
def real_tables(real_panel):
    from capitulation.episodes import all_episodes
    from capitulation.mining.rules import all_rule_states
    from capitulation.study.events import event_days

    params = Params()
    states = all_rule_states(real_panel, params)
    episodes = all_episodes(real_panel, params, states)
    events = event_days(episodes, states)
    begin = time.process_time()
    table = forward_return_table(real_panel, events, params)
    return {"table": table, "episodes": episodes, "events": events, "seconds": time.process_time() - begin}


def test_all_rules_anchors_and_horizons_of_the_real_file(real_tables):
    """Ten rules, four anchors, six horizons, 2,000 resamples and matched sets each, in seconds of processor time."""
    table = real_tables["table"]
    assert len(table) == 240 and not table.duplicated(["definition", "anchor", "horizon_days"]).any()
    assert table.groupby("horizon_days")["base_mean"].nunique().eq(1).all()
    known = table[table["n_events"] > 0]
    assert known["p_rotation"].notna().all() and known["p_matched"].notna().all()
    assert (known["n_clusters"] <= known["n_events"]).all()
    assert known.loc[known["n_clusters"] >= 2, ["ci_low", "ci_high"]].notna().all(axis=None)
    assert real_tables["seconds"] < 15


def test_event_returns_agree_with_the_forward_return_table(real_panel, real_tables):
    """The mean over the listed events since 2014 is the mean in the table, rule by rule."""
    listed = event_return_table(real_panel, real_tables["episodes"], Params())
    recent = listed[(listed["anchor_date"] >= "2014-01-01") & listed["simple_return"].notna()]
    keys = ["definition", "anchor", "horizon_days"]
    found = recent.groupby(keys)["simple_return"].agg(["size", "mean", "min", "max"])
    table = real_tables["table"].set_index(keys).loc[found.index]
    assert (table["n_events"] == found["size"]).all()
    for name, column in {"mean": "mean", "worst": "min", "best": "max"}.items():
        assert table[name].to_numpy() == pytest.approx(found[column].to_numpy(), rel=1e-9)
