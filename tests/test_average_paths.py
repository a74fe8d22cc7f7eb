"""Average paths agree with the forward-return table, and their figure says how many lie above any day's."""

import numpy as np
import pandas as pd
import pytest

from capitulation.params import Params
from capitulation.plots.paths import average_paths as figure
from capitulation.plots.png import png_bytes
from capitulation.study.average_paths import PATH_COLUMNS, average_paths
from capitulation.study.event_study import forward_return_table

PARAMS = Params(horizons_days=[30, 90], n_bootstrap=100, n_matched=100)


@pytest.fixture(scope="module")
def panel():
    days = pd.date_range("2013-10-01", periods=1500, name="date", unit="us")
    price = 100 * np.exp(np.cumsum(np.random.default_rng(3).normal(0.001, 0.03, len(days))))
    return pd.DataFrame({"price_usd": price, "height": 240_000.0 + 150 * np.arange(len(days))}, index=days)


@pytest.fixture(scope="module")
def events(panel):
    days = panel.index
    return {
        ("hash_ribbons", "recovery"): days[[20, 200, 230, 900, 1440, 1499]],
        ("hash_ribbons", "in_state"): days[150:420],
        ("puell_multiple", "start"): days[:0],
    }


def test_day_h_is_the_forward_return_over_h_days(panel, events):
    table = average_paths(panel["price_usd"], events, PARAMS)
    assert list(table.columns) == list(PATH_COLUMNS) and "puell_multiple" not in set(table["definition"])
    wanted = forward_return_table(panel, events, PARAMS).query("n_events > 0")
    found = wanted.merge(
        table, left_on=["definition", "anchor", "horizon_days"], right_on=["definition", "anchor", "day"]
    )
    assert len(found) == len(wanted) == 4
    np.testing.assert_allclose(found["mean_y"] - found["base_mean_y"], found["excess_log"], atol=1e-12)
    assert (found["n_events_x"] == found["n_events_y"]).all() and (found["n_clusters_x"] == found["n_clusters_y"]).all()
    start = table[table["day"] == 0]
    assert (start[["mean", "median", "q25", "q75", "base_mean"]] == 0).all(axis=None)


def test_no_signal_no_path(panel):
    nothing = average_paths(panel["price_usd"], {}, PARAMS)
    assert nothing.empty and "No rule has a signal" in figure(nothing).title


def test_figure_counts_paths_above_any_day(panel, events):
    table = average_paths(panel["price_usd"], events, PARAMS)
    rows = table[table["day"] == 90]
    above = int((rows["mean"] > rows["base_mean"]).sum())
    chart = figure(table)
    assert f"{above} of 2 average paths" in chart.title and "3 events" in chart.alt
    assert len(png_bytes(chart.figure)) < 90_000
