"""Forward returns, event paths and excursions against known prices and slow loops."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capitulation.study.forward_returns import (
    event_paths,
    excursions,
    forward_log_return_table,
    forward_log_returns,
    to_simple,
)


def prices(values, start="2020-01-01"):
    return pd.Series(np.asarray(values, float), pd.date_range(start, periods=len(values), name="date"))


def random_walk(n=400, seed=0):
    return prices(100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.001, 0.04, n))))


def test_known_answer_by_hand():
    """Signal on day 0, traded at the close of day 1 (20), sold two days later (80): +300 %."""
    returns = to_simple(forward_log_returns(prices([10, 20, 40, 80, 160]), 2, 1))
    assert returns.iloc[:2].tolist() == pytest.approx([3.0, 3.0])
    assert returns.iloc[2:].isna().all()


def test_lag_zero_is_the_close_of_the_day_itself():
    returns = forward_log_returns(prices([10, 20, 40]), 1, 0)
    assert returns.iloc[:2].tolist() == pytest.approx([np.log(2)] * 2) and np.isnan(returns.iloc[2])


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(0, 5), st.lists(st.integers(1, 10**6), min_size=1, max_size=60))
def test_every_day_equals_a_loop(horizon, lag, values):
    price = prices(values)
    returns = forward_log_returns(price, horizon, lag)
    for i in range(len(price)):
        end = i + lag + horizon
        if end < len(price):
            assert returns.iloc[i] == pytest.approx(np.log(values[end] / values[i + lag]), abs=1e-12)
        else:
            assert np.isnan(returns.iloc[i])


def test_a_missing_price_spoils_only_what_needs_it():
    price = prices([1, 2, np.nan, 4, 5])
    assert forward_log_returns(price, 1, 0).notna().tolist() == [True, False, False, True, False]
    assert forward_log_returns(price, 2, 0).notna().tolist() == [False, True, False, False, False]


def test_horizons_add_up():
    """Log returns chain: 30 days is 10 days and then 20."""
    price = random_walk()
    table = forward_log_return_table(price, [10, 20, 30], 1)
    assert list(table.columns) == [10, 20, 30]
    chained = table[10] + table[20].shift(-10)
    pd.testing.assert_series_equal(chained.dropna(), table[30].dropna(), check_names=False, rtol=1e-9)


@pytest.mark.parametrize(("horizon", "lag"), [(0, 1), (-1, 1), (5, -1)])
def test_horizon_and_lag_must_make_sense(horizon, lag):
    with pytest.raises(ValueError, match="horizon_days"):
        forward_log_returns(random_walk(), horizon, lag)


def test_days_with_gaps_are_refused():
    price = random_walk().drop(pd.Timestamp("2020-02-01"))
    with pytest.raises(ValueError, match="gaps"):
        forward_log_returns(price, 5)


def test_paths_start_at_the_entry_and_reach_the_forward_return():
    price = random_walk()
    days = price.index[[80, 200]]
    paths = event_paths(price, days, before=60, after=90, entry_lag_days=1)
    assert paths.index[0] == -60 and paths.index[-1] == 90 and list(paths.columns) == list(days)
    assert (paths.loc[0] == 0).all()
    expected = forward_log_returns(price, 90, 1).loc[days]
    assert paths.loc[90].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-12)
    assert paths.loc[-1, days[0]] == pytest.approx(np.log(price.iloc[80] / price.iloc[81]))


def test_paths_are_missing_outside_the_series():
    price = random_walk(100)
    paths = event_paths(price, price.index[[10, 99]], before=20, after=120, entry_lag_days=1)
    early, last = paths.columns
    assert paths[early].notna().sum() == 100 and np.isnan(paths.loc[-20, early]) and np.isnan(paths.loc[120, early])
    assert paths[last].isna().all()  # its entry lies after the last day


def test_paths_of_no_event_are_an_empty_table():
    assert event_paths(random_walk(), pd.DatetimeIndex([])).shape == (426, 0)


def test_a_day_outside_the_series_is_refused():
    with pytest.raises(ValueError, match="2031-01-01"):
        event_paths(random_walk(), pd.DatetimeIndex(["2031-01-01"]))


def test_excursions_equal_a_loop():
    price = random_walk(seed=3)
    days = price.index[[5, 100, 250]]
    found = excursions(price, days, 60, 1)
    for day in days:
        at = price.index.get_loc(day) + 1
        way = price.iloc[at : at + 61] / price.iloc[at] - 1
        assert found.loc[day, "max_adverse"] == pytest.approx(way.min(), abs=1e-12)
        assert found.loc[day, "max_favourable"] == pytest.approx(way.max(), abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 120), st.integers(0, 3))
def test_excursions_bracket_zero_and_the_return(seed, horizon, lag):
    price = random_walk(150, seed)
    found = excursions(price, price.index, horizon, lag)
    simple = to_simple(forward_log_returns(price, horizon, lag))
    assert (found["max_adverse"].isna() == simple.isna()).all()
    known = simple.dropna().index
    assert (found.loc[known, "max_adverse"] <= np.minimum(simple[known], 0) + 1e-12).all()
    assert (found.loc[known, "max_favourable"] >= np.maximum(simple[known], 0) - 1e-12).all()


def test_excursions_are_unknown_while_a_price_on_the_way_is():
    price = prices([1, 2, np.nan, 4, 5, 6])
    found = excursions(price, price.index[[0, 2]], 3, 0)
    assert found.iloc[0].isna().all() and found.iloc[1].isna().all()
    assert excursions(price, price.index[[3]], 2, 0).iloc[0].tolist() == pytest.approx([0.0, 0.5])
