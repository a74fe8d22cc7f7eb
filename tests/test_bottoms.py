"""Market bottoms, lows that held and the notebook about them: against loops over days, and known figures."""

import numpy as np
import pandas as pd
import pytest

from capitulation.mining.episodes import episodes
from capitulation.mining.hashrate import hash_ribbons
from capitulation.study.bottoms import above_low, bottoms, days_to_next, low_held, low_stood, market_bottoms
from capitulation.study.chance import rotation_test
from notebook_cells import run_cells

NOTEBOOK = "35-test-the-bottom"


@pytest.fixture(scope="module")
def price():
    """A random walk in whole dollars, so that closes are often equal."""
    days = pd.date_range("2014-01-01", periods=900, name="date")
    return pd.Series(np.random.default_rng(3).normal(0, 1, 900).cumsum().round() + 100, days)


@pytest.fixture(scope="module")
def real(real_panel):
    found = episodes(hash_ribbons(real_panel)["inverted"], real_panel)
    return real_panel["price_usd"], found


def test_a_bottom_is_the_first_of_the_lowest_closes_around_it(price):
    values, wanted = price.to_numpy(), []
    for t in range(30, len(values) - 30):
        if values[t] == values[t - 30 : t + 31].min() and values[t] < values[t - 30 : t].min():
            wanted.append(price.index[t])
    assert len(wanted) > 3 and market_bottoms(price, 30).tolist() == wanted
    assert market_bottoms(price, 30, since="2015-01-01").min() >= pd.Timestamp("2015-01-01")
    assert market_bottoms(price * 0 + 7, 30).empty  # where all closes are equal, none is lower than those before


@pytest.mark.parametrize(("window", "horizon"), [(10, 20), (40, 5)])
def test_a_low_held_is_one_that_no_later_close_undercuts(price, window, horizon):
    found, over, values = low_stood(price, window, horizon), above_low(price, window), price.to_numpy()
    for t in range(window, len(values) - max(horizon, window), 7):
        assert found.iloc[t] == (values[t + 1 : t + 1 + horizon].min() >= values[t + 1 - window : t + 1].min())
        assert over.iloc[t] == pytest.approx(values[t] / values[t - window : t + window + 1].min() - 1)
    assert found.iloc[-horizon:].isna().all() and over.iloc[-window:].isna().all()


def test_days_to_the_next_event(price):
    events = price.index[[5, 6, 200]]
    wait = days_to_next(price.index, events)
    assert wait.iloc[[0, 5, 6, 7, 200]].tolist() == [5, 0, 0, 193, 0] and wait.iloc[201:].isna().all()
    assert days_to_next(price.index, []).isna().all()


MEASURES = {
    "bottoms": lambda price: price[market_bottoms(price, 60)],
    "low_stood": lambda price: low_stood(price, 60, 90).dropna(),
    "above_low": lambda price: above_low(price, 60).dropna(),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("market", ["made", "real"])
def test_what_is_known_stays_and_the_youngest_days_are_not_known(market, measure, price, request):
    whole = price if market == "made" else request.getfixturevalue("real")[0]["2014":]
    of = MEASURES[measure]
    for last in range(300, len(whole), len(whole) // 7):
        known = of(whole.iloc[: last + 1])
        assert known.index.max() <= whole.index[last - 60]
        pd.testing.assert_series_equal(known, of(whole)[: known.index.max()], check_freq=False)
        ahead = whole.where(whole.index <= whole.index[last])  # days whose price is missing at the end are to come
        pd.testing.assert_series_equal(of(ahead.iloc[: last + 40]), known, check_freq=False)


def test_one_missing_price_moves_no_bottom(price):
    at = market_bottoms(price, 60)
    holed = price.where(price.index != at[0] + pd.Timedelta(days=20))
    assert market_bottoms(holed, 60).equals(at)
    half = price.where(np.arange(len(price)) % 2 == 0)
    assert market_bottoms(half, 60).empty and low_stood(half, 60, 60).isna().all()


def test_a_low_rests_on_no_day_before_the_first_price(price):
    late = price.where(np.arange(len(price)) >= 30)
    low = low_stood(late, 40, 5)
    assert low.first_valid_index() == price.index[30 + 39]
    pd.testing.assert_series_equal(low.dropna(), low_stood(price, 40, 5)[low.first_valid_index() :].dropna())


def test_without_episodes_or_prices_the_tables_say_nothing(price):
    none = episodes_of([], [], [])
    alone = bottoms(price, none, 30)
    assert len(alone) and alone.drop(columns=["date", "price_usd"]).isna().all(axis=None)
    held = low_held(price, none)
    assert held["n"].eq(0).all() and held[["share", "p", "p_family", "ci_low"]].isna().all(axis=None)
    some = episodes_of(price.index[[100]], price.index[[120]], ["real"])
    for empty in (price * np.nan, price[:0]):
        assert bottoms(empty, some).empty and low_held(empty, some)[["share", "base_share"]].isna().all(axis=None)


def episodes_of(start, end, grade):
    return pd.DataFrame({"start": pd.DatetimeIndex(start), "end": pd.DatetimeIndex(end), "grade": grade})


def test_a_bottom_stands_beside_the_capitulations_next_to_it(price):
    first, second = market_bottoms(price, 60)[:2]
    days = pd.to_timedelta([-20, 3, 9, 15], "D")
    found = episodes_of(
        [*(first + days[[0, 2]]), second + days[2]], [*(first + days[[1, 3]]), pd.NaT], ["real", None, "real"]
    )
    row = bottoms(price, found, 60).set_index("date")
    assert row.loc[first, ["days_to_next_recovery", "grade_of_next", "days_since_start"]].tolist() == [3, "real", 20]
    assert row.loc[second, ["days_to_next_recovery", "grade_of_next"]].isna().all()  # the last one goes on
    assert row.loc[second, "days_since_start"] == (second - first).days - 9


def test_low_held_is_one_rotation_and_counts_all_its_rows(price):
    ends, grades = price.index[[150, 155, 320, 480, 600]], ["real", "real", "noise-like", "doubtful", "noise-like"]
    table = low_held(
        price, episodes_of(ends - pd.Timedelta(days=9), ends, grades), [(30, 60), (60, 30)], confidence=0.8
    )
    assert table["grade"].tolist() == ["all", "real", "doubtful", "noise-like"] * 2
    assert table["n"].tolist() == [5, 2, 1, 2] * 2
    held = low_stood(price, 30, 60).dropna()
    test, row = rotation_test(held, ends, confidence=0.8), table.iloc[0]
    event = held.index.isin(ends)
    null = [held.to_numpy()[np.roll(event, k)].mean() for k in range(len(held))]
    assert row["p"] == pytest.approx(np.mean(np.array(null) >= null[0] - 1e-12)) == pytest.approx(test.p)
    assert row[["ci_low", "ci_high"]].tolist() == pytest.approx(test.interval)
    assert row["share"] - row["base_share"] == pytest.approx(row["excess"])
    alone = low_held(price, episodes_of(ends, ends, grades), [(30, 60)])
    assert (alone["p_family"] <= table["p_family"].iloc[:4]).all()


# --- the published figures ---


def test_bottoms_of_the_real_file(real):
    table = bottoms(*real)
    days = ["2015-01-14", "2015-08-24", "2018-12-15", "2020-03-12", "2021-07-20", "2022-11-09", "2024-09-06"]
    assert table["date"].dt.strftime("%Y-%m-%d").tolist() == days
    assert table["days_to_next_recovery"].tolist() == [107, 364, 26, 43, 18, 66, 35]
    price, found = real
    wait = days_to_next(price.index, found["end"])["2018":].dropna()
    assert (wait <= 66).mean() == pytest.approx(0.444, abs=5e-4)
    over = above_low(price)["2014":].dropna()
    at_recoveries = over[over.index.isin(found["end"])]
    assert (at_recoveries.median(), over.median()) == pytest.approx((0.463, 0.775), abs=5e-4)


def test_low_held_of_the_real_file(real):
    table = low_held(*real).set_index(["window_days", "horizon_days", "grade"])
    for window, wanted in ((90, [30, 0.5, 0.599, 0.903]), (180, [30, 0.867, 0.740, 0.127])):
        found = table.loc[(window, 180, "all"), ["n", "share", "base_share", "p"]].astype(float)
        assert found.tolist() == pytest.approx(wanted, abs=5e-4)
    assert table.loc[(90, 180, "real"), ["n", "share"]].astype(float).tolist() == pytest.approx([7, 6 / 7])


def test_the_notebook_and_its_looks_on_the_real_file(real_panel, tmp_path, monkeypatch):
    names = run_cells(NOTEBOOK, real_panel, tmp_path, monkeypatch)
    near, looks = names["near"], pd.read_csv(tmp_path / "tables" / "later_looks.csv").set_index("look")
    assert (near.n, near.p) == pytest.approx((7, 0.060), abs=5e-4)
    found = looks.loc["starts", ["n", "excess_log", "p_two_sided", "p_family"]].tolist()
    assert found == pytest.approx([33, -0.0763, 0.056, 0.371], abs=1e-3)
    assert looks.loc["recoveries, real", ["n", "median", "excess_log"]].tolist() == pytest.approx(
        [7, 0.394, 0.125], abs=1e-3
    )
    assert (looks["p_family"] >= looks["p_two_sided"]).all()
    assert {path.stem for path in (tmp_path / "tables").iterdir()} == {"bottoms", "low_held", "relapse", "later_looks"}
