"""Lead and lag between hash rate and price: simulated truth in both directions, and plain numpy beside statsmodels."""

import numpy as np
import pandas as pd
import pytest

from capitulation.study import causality as ca


def weekly(n=400, seed=0, price_to_hash=0.0, hash_to_price=0.0, lag=3):
    """Weekly logs of two random walks, each answering the other's change `lag` weeks later with the given strength."""
    rng = np.random.default_rng(seed)
    price, hash_rate = rng.normal(0, 0.08, n), rng.normal(0.01, 0.04, n)
    for t in range(lag, n):
        hash_rate[t] += price_to_hash * price[t - lag]
        price[t] += hash_to_price * hash_rate[t - lag]
    index = pd.date_range("2014-01-05", periods=n, freq="7D", name="date")
    return pd.DataFrame({"price": price.cumsum(), "hash_rate": hash_rate.cumsum()}, index=index)


def p_values(logs, **options):
    return ca.lead_tests(logs, **options).set_index("direction")["p_value"]


@pytest.mark.parametrize("form", ["levels", "changes"])
def test_a_planted_lead_is_found_in_its_own_direction_only(form):
    forward = p_values(weekly(price_to_hash=0.3), form=form)
    assert forward[ca.PRICE_LEADS] < 0.001 and forward[ca.HASH_RATE_LEADS] > 0.01
    backward = p_values(weekly(hash_to_price=0.6), form=form)
    assert backward[ca.HASH_RATE_LEADS] < 0.001 and backward[ca.PRICE_LEADS] > 0.01


def test_without_a_lead_five_percent_tests_reject_about_five_percent():
    p = np.array([p_values(weekly(n=150, seed=seed)).to_numpy() for seed in range(120)])
    assert 0.01 <= (p < 0.05).mean() <= 0.10


def test_projections_show_the_planted_lag_and_strength():
    result = ca.local_projections(weekly(n=1500, price_to_hash=0.3, lag=3))
    responses = result[result["direction"] == ca.PRICE_LEADS].set_index("lag_weeks")
    assert (responses.loc[3:, "low"] > 0).all()
    assert responses.loc[3:, "response"].to_numpy() == pytest.approx(0.3, abs=0.1)
    assert responses.loc[[1, 2], "response"].abs().max() < 0.05


def test_projection_coefficient_equals_plain_least_squares():
    logs, lag, controls = weekly(n=120, seed=5, price_to_hash=0.2), 4, 2
    change = logs.diff().to_numpy()
    rows, target = [], []
    for t in range(controls, len(logs) - lag):
        rows.append([1.0, *change[t], *change[t - 1]])
        target.append(logs["hash_rate"].iloc[t + lag] - logs["hash_rate"].iloc[t])
    beta = np.linalg.lstsq(np.array(rows), np.array(target), rcond=None)[0]
    result = ca.local_projections(logs, lags=[lag], controls=controls)
    row = result[result["direction"] == ca.PRICE_LEADS].iloc[0]
    assert row["response"] == pytest.approx(beta[1], rel=1e-9) and row["n_weeks"] == len(rows)


def test_weeks_are_whole_means_and_end_on_the_last_day():
    days = pd.date_range("2020-01-01", periods=24, name="date")
    values = np.arange(1.0, 25.0)
    panel = pd.DataFrame({"price_usd": values, "hash_rate_ehs": values * 2}, index=days)
    logs = ca.weekly_logs(panel)
    assert logs.index[-1] == days[-1] and len(logs) == 3
    assert np.exp(logs["price"]).tolist() == pytest.approx([7.0, 14.0, 21.0])
    holed = panel.assign(hash_rate_ehs=panel["hash_rate_ehs"].where(panel.index != days[12]))
    assert ca.weekly_logs(holed)["hash_rate"].isna().tolist() == [False, True, False]
    assert len(ca.weekly_logs(panel, start="2020-01-12")) == 1


def test_a_missing_week_is_left_out_not_bridged():
    logs = weekly(n=200)
    logs.iloc[100, 1] = np.nan
    assert ca.lead_tests(logs, lags=2)["n_weeks"].iloc[0] == 200 - 3 - 4  # 3 start-up weeks, 4 that touch the gap


def test_sentence_never_says_that_there_is_no_effect():
    tests = pd.DataFrame({"direction": list(ca.DIRECTIONS), "p_value": [0.6, 0.7], "lags": 6, "n_weeks": 90})
    text = ca.direction_sentence(tests)
    assert text.count("is not shown") == 2 and "no effect" not in text


def test_real_data_price_leads_hash_rate(real_panel):
    p = p_values(ca.weekly_logs(real_panel))
    assert p[ca.PRICE_LEADS] < 0.05 < p[ca.HASH_RATE_LEADS]
