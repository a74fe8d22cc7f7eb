"""Cutting the future off changes nothing that was known: outcomes, paths, matched states, rows of past events."""

import numpy as np
import pandas as pd
import pytest

from capitulation.data.panel import PANEL_COLUMNS, cut
from capitulation.params import Params
from capitulation.study.event_study import event_return_table, forward_return_table
from capitulation.study.forward_returns import event_paths, excursions, forward_log_returns
from capitulation.study.matched import entry_states
from capitulation.study.sample import study_sample

HORIZON, LAG = 90, 1
PARAMS = Params(horizons_days=[30, 90], n_bootstrap=100, n_matched=100)


def market(n=2200, seed=4):
    days = pd.date_range("2013-06-01", periods=n, name="date", unit="us")
    frame = pd.DataFrame(np.nan, days, list(PANEL_COLUMNS))
    frame["price_usd"] = 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.001, 0.04, n)))
    frame["height"] = 240_000.0 + 150 * np.arange(n)
    return frame


def cuts(panel, count=15, seed=1):
    at = np.random.default_rng(seed).integers(900, len(panel) - 1, count)
    return [panel.index[i].date().isoformat() for i in at]


@pytest.fixture(scope="module", params=["made", "real"])
def panel(request):
    return market() if request.param == "made" else request.getfixturevalue("real_panel")


@pytest.mark.parametrize("measure", ["returns", "momentum", "drawdown", "sample", "era"])
def test_the_past_stays_as_it_was(panel, measure):
    def measured(frame):
        if measure == "returns":
            return forward_log_returns(frame["price_usd"], HORIZON, LAG)
        if measure in ("momentum", "drawdown"):
            return entry_states(frame["price_usd"])[measure]
        sample = study_sample(frame, HORIZON, PARAMS)
        return sample.returns if measure == "sample" else pd.Series(sample.era, sample.days)

    whole = measured(panel)
    for day in cuts(panel):
        known = measured(cut(panel, day)).dropna()
        pd.testing.assert_series_equal(known, whole.reindex(known.index), check_freq=False, check_names=False)


def test_an_outcome_that_lies_in_the_future_is_missing_not_guessed(panel):
    for day in cuts(panel, 5):
        returns = forward_log_returns(cut(panel, day)["price_usd"], HORIZON, LAG)
        assert returns.iloc[-(HORIZON + LAG) :].isna().all()


def test_paths_and_excursions_of_past_events_stay(panel):
    days = panel.index[[1000, 1100, 1300]]
    whole_paths = event_paths(panel["price_usd"], days, entry_lag_days=LAG)
    whole_way = excursions(panel["price_usd"], days, HORIZON, LAG)
    for cut_at in (1310, 1392, 1500, 1700):
        past = cut(panel, panel.index[cut_at].date())
        paths = event_paths(past["price_usd"], days, entry_lag_days=LAG)
        assert (paths.isna() | (paths == whole_paths)).all(axis=None)
        way = excursions(past["price_usd"], days, HORIZON, LAG).dropna()
        assert len(way) == (3 if cut_at >= 1391 else 2)
        pd.testing.assert_frame_equal(way, whole_way.loc[way.index])


def test_rows_of_past_events_stay(panel):
    days = panel.index
    episodes = pd.DataFrame(
        {
            "definition": "hash_ribbons",
            "episode": [1, 2],
            "start": days[[1000, 1200]],
            "end": days[[1040, 1260]],
            "buy_date": days[[1050, 1270]],
        }
    )
    whole = event_return_table(panel, episodes, PARAMS)
    past = event_return_table(cut(panel, days[1300].date()), episodes, PARAMS)
    known = past.dropna()
    assert 0 < len(known) < len(past)
    pd.testing.assert_frame_equal(known, whole.loc[known.index])


def test_signals_without_a_known_outcome_do_not_enter_the_table(panel):
    """As of a day, later signals, and earlier ones whose horizon is not over, leave every figure as it is."""
    first = panel.index.searchsorted(pd.Timestamp("2014-01-01"))
    past = cut(panel, panel.index[first + 800].date())
    known, later = panel.index[first + np.array([50, 300, 500])], panel.index[first + np.array([790, 850, 1000])]
    key = ("hash_ribbons", "recovery")
    table = forward_return_table(past, {key: known}, PARAMS)
    assert table["n_events"].tolist() == [3, 3]
    pd.testing.assert_frame_equal(forward_return_table(past, {key: known.append(later)}, PARAMS), table)
    grown = forward_return_table(panel, {key: known.append(later)}, PARAMS)
    assert grown["n_events"].tolist() == [6, 6]
