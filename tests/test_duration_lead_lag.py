"""Lengths of episodes against textbook and scipy; lead and lag against planted truth and plain numpy."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import CensoredData, binomtest, ecdf
from scipy.stats import f as f_distribution

from capitulation.mining import episodes as mining
from capitulation.mining.episodes import GRADES
from capitulation.mining.hashrate import hash_ribbons
from capitulation.study import lead_lag as ll
from capitulation.study.duration import kaplan_meier, lifetimes, recovery_odds, relapse, survival_curve

LIVES = st.lists(st.tuples(st.integers(2, 120), st.booleans()), min_size=1, max_size=30)


def episodes(days, ongoing=None):
    return pd.DataFrame({"days": days, "ongoing": [False] * len(days) if ongoing is None else ongoing})


def test_freireich_remission_data_give_the_textbook_curve():
    """6-MP arm of Freireich et al. (1963), in Kalbfleisch and Prentice: S(10) = 0.753, S(23) = 0.448."""
    times = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    ended = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    table = episodes([t if e else t + 1 for t, e in zip(times, ended, strict=True)], [not e for e in ended])
    curve = survival_curve(table).set_index("days")
    assert curve["survival"][[0, 6, 10, 23]].tolist() == pytest.approx([1, 0.857, 0.753, 0.448], abs=5e-4)
    assert curve["n_at_risk"][[0, 6, 10, 23]].tolist() == [21, 21, 15, 6]


@settings(max_examples=60, deadline=None)
@given(LIVES, st.sampled_from([0.8, 0.95]))
@pytest.mark.filterwarnings("ignore:The confidence interval is undefined:RuntimeWarning")
def test_curve_and_interval_equal_scipys(rows, confidence):
    sample = lifetimes(episodes(*zip(*rows, strict=True)))
    time, ended = sample["time"].to_numpy(), sample["ended"].to_numpy()
    curve = kaplan_meier(sample, confidence)
    assert curve.iloc[0].tolist() == [0, 1, 1, 1, len(sample)]
    if not ended.any():
        assert len(curve) == 1
        return
    theirs = ecdf(CensoredData(uncensored=time[ended], right=time[~ended])).sf
    band = theirs.confidence_interval(confidence, method="log-log")
    np.testing.assert_allclose(curve["survival"], theirs.evaluate(curve["days"]), atol=1e-12)
    inner = curve[(curve["survival"] > 0) & (curve["survival"] < 1) & (curve["n_at_risk"] > 1)]
    np.testing.assert_allclose(inner["low"], band.low.evaluate(inner["days"]), atol=1e-12)
    np.testing.assert_allclose(inner["high"], band.high.evaluate(inner["days"]), atol=1e-12)


def test_odds_without_censoring_are_plain_shares():
    odds = recovery_odds(episodes([5, 10, 20, 40, 80]), 11, within=(9, 10, 30, 69, 70)).set_index("within_days")
    # reached the 11th day: 20, 40 and 80; the 20-day one is out on day 21, ten days after day 11
    assert odds["n_at_risk"].eq(3).all() and odds["n_ended"].tolist() == [0, 1, 2, 2, 3]
    assert odds["odds"].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3, 1])


def test_the_present_episode_is_not_counted_at_its_own_age_nor_dropped_before():
    past, present = episodes([5, 10, 20, 40, 80]), episodes([5, 10, 20, 40, 80, 11], [False] * 5 + [True])
    pd.testing.assert_frame_equal(recovery_odds(past, 11), recovery_odds(present, 11))
    assert recovery_odds(episodes([10, 20, 30]), 1, within=(30,))["odds"].item() == 1
    longer = recovery_odds(episodes([10, 20, 30, 100], [False] * 3 + [True]), 1, within=(30,))
    assert longer["odds"].item() == pytest.approx(3 / 4)


def test_what_no_episode_can_tell_is_missing():
    odds = recovery_odds(episodes([5, 10]), 60)
    assert odds[["odds", "low", "high"]].isna().all(axis=None) and odds["n_at_risk"].eq(0).all()
    assert recovery_odds(episodes([]), 3)["odds"].isna().all() and survival_curve(episodes([]))["days"].tolist() == [0]
    censored = recovery_odds(episodes([10, 41], [False, True]), 1, within=(40, 41)).set_index("within_days")["odds"]
    assert censored[40] == pytest.approx(0.5) and math.isnan(censored[41])


def test_none_and_all_ended_have_exact_binomial_bounds():
    none = recovery_odds(episodes([100] * 8), 1, within=(30,)).iloc[0]
    assert (none["odds"], none["low"]) == (0, 0) and none["high"] == pytest.approx(1 - 0.025 ** (1 / 8))
    every = recovery_odds(episodes([10] * 8), 1, within=(30,)).iloc[0]
    assert (every["odds"], every["high"]) == (1, 1) and every["low"] == pytest.approx(0.025 ** (1 / 8))


@settings(max_examples=40, deadline=None)
@given(LIVES, st.integers(1, 60), st.integers(1, 90))
def test_odds_are_the_ratio_of_two_survivals_and_lie_in_their_interval(rows, age, horizon):
    table = episodes(*zip(*rows, strict=True))
    found, whole = recovery_odds(table, age, within=(horizon,)).iloc[0], kaplan_meier(lifetimes(table))
    lasting = [whole.loc[whole["days"] <= d, "survival"].min() for d in (age - 1, age - 1 + horizon)]
    before, after = (1.0 if math.isnan(share) else share for share in lasting)
    if not math.isnan(found["odds"]):
        assert found["odds"] == pytest.approx(1 - after / before, abs=1e-12)
        assert -1e-12 <= found["low"] <= found["odds"] + 1e-12 and found["odds"] <= found["high"] + 1e-12 <= 1 + 2e-12


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(11)
    truth, hits, runs = 1 - 0.98**30, 0, 150
    for _ in range(runs):
        length, limit = rng.geometric(0.02, 30), rng.integers(40, 200, 30)
        table = episodes(np.minimum(length, limit), length > limit)
        row = recovery_odds(table, 1, within=(30,)).iloc[0]
        hits += row["low"] <= truth <= row["high"]
    assert 0.90 <= hits / runs <= 0.99


def alternating(lengths, grades):
    """Episodes and the calm after each, in turn, of the given lengths; the last episode goes on if they are odd."""
    day = pd.Timestamp("2014-01-01") + pd.to_timedelta(np.append(0, np.cumsum(lengths)), "D")
    end = pd.Series(day[1::2]).reindex(range(len(day[::2][: -(-len(lengths) // 2)])))
    table = pd.DataFrame({"start": day[::2][: len(end)], "end": end})
    return table.assign(grade=np.resize(grades, len(table))), day[-1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 120), min_size=1, max_size=30), st.sampled_from([0.8, 0.95]))
def test_relapses_equal_a_loop_and_their_interval_scipys(lengths, confidence):
    table, last = alternating(lengths, GRADES)
    found = relapse(table, last, within=(7, 30), confidence=confidence)
    assert found["grade"].tolist() == ["all", *GRADES] * 2
    for row in found.itertuples():
        own = [e for e, grade in zip(table["end"], table["grade"], strict=True) if row.grade in ("all", grade)]
        known = [end for end in own if (last - end).days >= row.within_days]
        again = [any(0 < (start - end).days <= row.within_days for start in table["start"]) for end in known]
        assert (row.n, row.relapsed) == (len(known), sum(again))
        if known:
            theirs = binomtest(sum(again), len(known)).proportion_ci(confidence)
            assert (row.share, row.low, row.high) == pytest.approx((np.mean(again), *theirs), abs=1e-9)
        else:
            assert math.isnan(row.share) and math.isnan(row.low) and math.isnan(row.high)


@pytest.mark.parametrize("hole", range(0, 60, 7))
def test_a_recovery_counts_only_if_all_its_days_are_known(hole):
    table, last = alternating([10, 5, 10, 40, 10, 25], ["real", "real", "doubtful"])
    unknown = table["start"].iloc[0] + pd.to_timedelta([hole, hole + 1], "D")
    found = relapse(table, last, within=(7, 30), unknown=unknown).set_index(["within_days", "grade"])
    for days in (7, 30):
        after = [(end, end + pd.Timedelta(days=days)) for end in table["end"]]
        known = [a for a, b in after if b <= last and not ((unknown > a) & (unknown <= b)).any()]
        again = [any(0 < (start - a).days <= days for start in table["start"]) for a in known]
        assert found.loc[(days, "all"), ["n", "relapsed"]].tolist() == [len(known), sum(again)]


def test_an_early_relapse_does_not_enter_before_its_quiet_neighbours():
    """Of two recoveries of nearly the same age one relapsed after five days: both count from day 30 on, not before."""
    table, last = alternating([10, 40, 10, 5, 10, 10], ["real"])
    assert relapse(table, last, within=(30,)).iloc[0][["n", "relapsed"]].tolist() == [1, 0]
    assert relapse(table, last + pd.Timedelta(days=6), within=(30,)).iloc[0][["n", "relapsed"]].tolist() == [2, 1]
    assert relapse(table, last, within=(30,), since="2015-01-01")["n"].eq(0).all()


def test_relapses_of_the_real_file_and_without_its_future(real_panel):
    whole = mining.episodes(hash_ribbons(real_panel)["inverted"], real_panel)
    table = relapse(whole, real_panel.index[-1]).set_index(["within_days", "grade"])[["n", "relapsed"]]
    assert table.xs("all", level="grade").to_numpy().tolist() == [[33, 12], [32, 15], [31, 19]]
    assert table.loc[30].to_numpy().tolist() == [[32, 15], [7, 1], [4, 2], [21, 12]]
    assert table.loc[(90, "noise-like")].tolist() == [21, 16] and table.loc[(90, "real")].tolist() == [7, 1]
    for last in pd.to_datetime(["2016-09-01", "2021-05-20", "2024-07-30", "2025-06-01"]):
        past = real_panel[:last]
        known = mining.episodes(hash_ribbons(past)["inverted"], past)
        pd.testing.assert_frame_equal(relapse(known, last), relapse(whole, last))


def weekly(n=400, seed=0, price_to_hash=0.0, hash_to_price=0.0, lag=3):
    """Weekly logs of two random walks, each answering the other's change `lag` weeks later with the given strength."""
    rng = np.random.default_rng(seed)
    price, hash_rate = rng.normal(0, 0.08, n), rng.normal(0.01, 0.04, n)
    for t in range(lag, n):
        hash_rate[t] += price_to_hash * price[t - lag]
        price[t] += hash_to_price * hash_rate[t - lag]
    index = pd.date_range("2014-01-05", periods=n, freq="7D", name="date")
    return pd.DataFrame({"price": price.cumsum(), "hash_rate": hash_rate.cumsum()}, index=index)


def p_values(logs):
    return ll.lead_tests(logs).set_index("direction")["p_value"]


def test_a_planted_lead_is_found_in_its_own_direction_only():
    forward, backward = p_values(weekly(price_to_hash=0.3)), p_values(weekly(hash_to_price=0.6))
    assert forward[ll.PRICE_LEADS] < 0.001 and forward[ll.HASH_RATE_LEADS] > 0.01
    assert backward[ll.HASH_RATE_LEADS] < 0.001 and backward[ll.PRICE_LEADS] > 0.01


def test_without_a_lead_five_percent_tests_reject_about_five_percent():
    p = np.array([p_values(weekly(n=150, seed=seed)).to_numpy() for seed in range(100)])
    assert 0.01 <= (p < 0.05).mean() <= 0.10


def test_lead_test_equals_a_wald_test_in_plain_numpy():
    logs, lags = weekly(n=130, seed=5, price_to_hash=0.2), 2
    price, rate = logs.to_numpy().T
    at = np.arange(lags + 1, len(logs))
    x = np.column_stack([np.ones(len(at)), *(series[at - k] for k in range(1, lags + 2) for series in (price, rate))])
    y, inverse = rate[at], np.linalg.inv(x.T @ x)
    beta = inverse @ x.T @ y
    leverage = np.einsum("ij,jk,ik->i", x, inverse, x)
    scores = x * ((y - x @ beta) / (1 - leverage))[:, None]  # HC3
    covariance, tested = inverse @ scores.T @ scores @ inverse, [1, 3]  # price one and two weeks before
    f = beta[tested] @ np.linalg.inv(covariance[np.ix_(tested, tested)]) @ beta[tested] / len(tested)
    row = ll.lead_tests(logs, lags).set_index("direction").loc[ll.PRICE_LEADS]
    assert row["f_value"] == pytest.approx(f, rel=1e-8) and row["n_weeks"] == len(y)
    assert row["p_value"] == pytest.approx(f_distribution.sf(f, len(tested), len(y) - x.shape[1]), rel=1e-8)


def test_projection_coefficient_equals_plain_least_squares():
    logs, lag = weekly(n=120, seed=5, price_to_hash=0.2), 4
    change, rate = logs.diff().to_numpy(), logs["hash_rate"].to_numpy()
    at = np.arange(2, len(logs) - lag)
    x = np.column_stack([np.ones(len(at)), change[at], change[at - 1]])
    beta = np.linalg.lstsq(x, rate[at + lag] - rate[at], rcond=None)[0]
    row = ll.local_projections(logs, lags=[lag], controls=2).iloc[0]
    assert row["response"] == pytest.approx(beta[1], rel=1e-9) and row["n_weeks"] == len(at)


def test_weeks_are_whole_means_and_end_on_the_last_day():
    days, values = pd.date_range("2020-01-01", periods=24, name="date"), np.arange(1.0, 25.0)
    panel = pd.DataFrame({"price_usd": values, "hash_rate_ehs": values * 2}, index=days)
    logs = ll.weekly_logs(panel)
    assert logs.index.equals(days[[9, 16, 23]])
    assert np.exp(logs["price"]).tolist() == pytest.approx([7.0, 14.0, 21.0])
    holed = panel.assign(hash_rate_ehs=panel["hash_rate_ehs"].where(panel.index != days[12]))
    assert ll.weekly_logs(holed)["hash_rate"].isna().tolist() == [False, True, False]
    assert len(ll.weekly_logs(panel, start="2020-01-12")) == 1 and ll.weekly_logs(panel, start="2021-01-01").empty


def test_real_data_price_leads_hash_rate(real_panel):
    p = p_values(ll.weekly_logs(real_panel))
    assert p[ll.PRICE_LEADS] < 0.05 < p[ll.HASH_RATE_LEADS]
