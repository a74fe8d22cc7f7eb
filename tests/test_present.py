"""The present state against markets built by hand, brute force and its own promise to be JSON."""

import json
import math
import re
import time

import numpy as np
import pandas as pd
import pytest

from capitulation.data.panel import PANEL_COLUMNS
from capitulation.episodes import find_episodes
from capitulation.mining.ribbons import ribbons
from capitulation.params import make_params
from capitulation.study import present as pr
from capitulation.study.survival import recovery_odds

PARAMS = make_params({"horizons_days": [7, 90]})


def market(hash_rate: np.ndarray, start: str = "2016-01-01", seed: int = 4) -> pd.DataFrame:
    """A panel whose daily hash rate is exactly `hash_rate` (144 blocks a day), with a random price."""
    n = len(hash_rate)
    index = pd.date_range(start, periods=n, name="date")
    price = 500 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.001, 0.03, n)))
    blocks = np.full(n, 144.0)
    columns = {
        "price_usd": price,
        "hash_rate_ehs": hash_rate,
        "block_count": blocks,
        "difficulty": hash_rate * 1e18 * 86400 / (2**32 * 144),
        "height": 400_000 + np.cumsum(blocks),
        "issuance_btc": 12.5 * blocks,
        "fees_btc": np.full(n, 50.0),
        "revenue_usd": (12.5 * blocks + 50) * price,
    }
    return pd.DataFrame(columns, index=index)[list(PANEL_COLUMNS)]


def waves(n: int = 1500, days: int = 250) -> np.ndarray:
    """Growing hash rate with a regular fall."""
    t = np.arange(n)
    return np.exp(0.0015 * t + 0.25 * np.sin(2 * np.pi * t / days))


@pytest.fixture(scope="module")
def capitulating():
    rate = waves()
    table = ribbons(market(rate))
    runs = find_episodes(table["in_capitulation"], table["known"])
    third = runs.iloc[2]
    return market(rate).loc[: third["start"] + pd.Timedelta(days=9)]


@pytest.mark.parametrize("over_days", [1, 7, 14, 30, 45])
def test_required_hash_rate_makes_the_means_meet(capitulating, over_days):
    needed = pr.required_hash_rate(capitulating, 30, 60, over_days)
    for factor, sign in ((1.001, 1), (0.999, -1)):
        rate = np.concatenate([capitulating["hash_rate_ehs"], np.full(over_days, needed * factor)])
        gap = rate[-30:].mean() / rate[-60:].mean() - 1
        assert np.sign(gap) == sign and abs(gap) < 0.001


def test_required_hash_rate_is_missing_where_it_makes_no_sense(capitulating):
    assert math.isnan(pr.required_hash_rate(capitulating, 30, 60, 60))
    assert math.isnan(pr.required_hash_rate(capitulating.tail(59), 30, 60, 7))
    holed = capitulating.copy()
    holed.iloc[-20, holed.columns.get_loc("hash_rate_ehs")] = np.nan
    assert math.isnan(pr.required_hash_rate(holed, 30, 60, 7))
    soaring = market(np.concatenate([np.full(59, 1.0), [1e6]]))
    assert math.isnan(pr.required_hash_rate(soaring, 30, 60, 1))  # even with no hash rate the fast mean stays on top


def test_state_of_a_known_capitulation(capitulating):
    state = pr.present_state(capitulating, PARAMS)
    assert state["ribbon_state"] == "capitulation" and state["days_in_state"] == 10
    assert pd.Timestamp(state["state_since"]) == capitulating.index[-10]
    assert state["gap"] < 0 and state["gap_z"] == pytest.approx(state["gap"] / state["gap_se"])
    assert state["gap_history"][-1] == state["gap"] and len(state["gap_history"]) == 60
    fast = capitulating["hash_rate_ehs"].rolling(30).mean()
    assert state["hash_rate_drawdown"] == pytest.approx(fast.iloc[-1] / fast.max() - 1)
    week = capitulating["hash_rate_ehs"].rolling(7).mean()
    assert state["hash_rate_drawdowns"]["7d"]["drawdown"] == pytest.approx(week.iloc[-1] / week.max() - 1)
    assert state["hash_rate_drawdowns"]["7d"]["peak_date"] == week.idxmax().date().isoformat()
    assert pr.status_code(state) == 10


def test_odds_are_those_of_the_episodes_at_the_present_age(capitulating):
    state = pr.present_state(capitulating, PARAMS)
    table = ribbons(capitulating)
    odds = recovery_odds(find_episodes(table["in_capitulation"], table["known"]), 10)
    assert state["recovery_odds_n_at_risk"] == odds["n_at_risk"].iloc[0] == 2
    for row in odds.itertuples():
        expected = None if math.isnan(row.odds) else row.odds
        assert state[f"recovery_odds_{row.within_days}d"] == expected


def test_comparable_moments_are_the_same_age_of_earlier_runs(capitulating):
    comparable = pr.present_state(capitulating, PARAMS)["comparable"]
    table = ribbons(capitulating)
    runs = find_episodes(table["in_capitulation"], table["known"])
    expected = [(start + pd.Timedelta(days=9)).date().isoformat() for start in runs["start"].iloc[:-1]]
    assert comparable["age_days"] == 10 and comparable["days"] == expected
    row = comparable["log_returns"][1]
    log_price = np.log(capitulating["price_usd"])
    outcomes = [log_price.shift(-91).loc[day] - log_price.shift(-1).loc[day] for day in expected]
    gap = np.diff(pd.DatetimeIndex(expected))[0] / pd.Timedelta(days=1)
    assert row["n_clusters"] == (2 if gap >= row["horizon_days"] else 1)
    assert row["n"] == 2 and row["median"] == pytest.approx(np.median(outcomes))
    assert row["base_hit_rate"] == pytest.approx(((log_price.shift(-91) - log_price.shift(-1)).dropna() > 0).mean())


def test_a_short_run_is_no_comparable_moment():
    days = pd.date_range("2020-01-01", periods=12)
    flags = pd.Series([0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1], index=days).astype(bool)
    known = pd.Series(True, index=days)
    assert list(pr.comparable_days(flags, known, 3)) == [days[6]]  # the first run is too short, the last still holds


def test_expansion_has_no_recovery_odds():
    state = pr.present_state(market(np.exp(0.002 * np.arange(500))), PARAMS)
    assert state["ribbon_state"] == "expansion" and pr.status_code(state) == 0
    assert state["days_in_state"] == 441 and state["recovery_odds_30d"] is None
    assert "recovery odds" not in pr.status_text(state)


def test_too_few_days_are_unknown_not_wrong():
    state = pr.present_state(market(np.linspace(1, 2, 59)), PARAMS)
    assert state["ribbon_state"] == "unknown" and state["days_in_state"] is None and state["gap"] is None
    assert pr.status_code(state) == 12 and "UNKNOWN" in pr.status_text(state)
    json.dumps(state, allow_nan=False)


def test_state_is_strict_json_and_text_is_short(capitulating):
    state = pr.present_state(capitulating, PARAMS)
    assert json.loads(json.dumps(state, allow_nan=False)) == state
    text = pr.status_text(state)
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= 110 and len(text.splitlines()) <= 10
    assert re.sub(r"\x1b\[\d+m", "", pr.status_text(state, colour=True)) == text
    assert "SIMULATED" not in text and "SIMULATED" in pr.status_text({**state, "simulated": True})


def test_the_state_of_a_past_day_is_what_the_whole_history_says_of_it(capitulating):
    whole = ribbons(market(waves()))
    for day in capitulating.index[[200, 420, 555, -1]]:
        state = pr.present_state(market(waves()).loc[:day], PARAMS)
        assert (state["ribbon_state"], state["gap"]) == tuple(whole.loc[day, ["ribbon_state", "ribbon_gap"]])


def test_real_present_is_quick(real_panel):
    pr.present_state(real_panel.loc[:"2026-01-20"], make_params())  # imports
    start = time.perf_counter()
    state = pr.present_state(real_panel, make_params())
    assert time.perf_counter() - start < 0.8
    assert state["ribbon_state"] == "expansion" and state["as_of"] == "2026-03-22"


def test_real_state_on_the_day_of_the_article(real_panel):
    state = pr.present_state(real_panel.loc[:"2026-01-20"], make_params())
    assert state["ribbon_state"] in ("capitulation", "recovering")
    assert state["days_in_state"] < 50  # not inverted without a break since 29 November
    assert 0 <= state["recovery_odds_30d_low"] <= state["recovery_odds_30d"] <= state["recovery_odds_30d_high"] <= 1
