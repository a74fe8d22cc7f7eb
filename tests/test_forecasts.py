"""Forecasts against slow versions by hand: odds, constants, scores; no look-ahead; what is written down and settled."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import StationaryBootstrap
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from capitulation.data.panel import panel_digest
from capitulation.mining.difficulty import adjustments, next_adjustment
from capitulation.mining.episodes import ANCHOR_COLUMNS, episodes, runs
from capitulation.mining.hashrate import hash_ribbons
from capitulation.study import forecasts as fc
from capitulation.study.duration import recovery_odds, turn_odds, turned
from capitulation.study.returns import SINCE, forward_returns
from panels import steady_panel, without

DAY = pd.Timedelta(days=1)
ANY_INDEX = {"check_freq": False, "check_names": False}
CAME = ["outcome", "score", "constant_score"]
ALL = {"capitulation", "relapse", "adjustment", "return"}
NUMBERS = st.floats(-100, 100).map(lambda x: round(x, 3))


def found_in(panel):
    return episodes(hash_ribbons(panel)["inverted"], panel)


def replay(panel):
    return fc.replay(panel, found_in(panel))


def wandering(days=480, seed=3):
    rng = np.random.default_rng(seed)
    price = 100 * np.exp(rng.normal(0, 0.03, days).cumsum())
    return steady_panel(np.exp(rng.normal(0.001, 0.05, days).cumsum()), price=price)


@pytest.fixture(scope="module")
def replayed(simulated_panel):
    """Every forecast on the simulated market; tests must not change it in place."""
    return replay(simulated_panel)


@pytest.fixture(scope="module")
def market(simulated_panel):
    """Four years of it, and the day on which the last of its recoveries in 2017 was three days old."""
    panel = simulated_panel["2014":"2018-04"]
    recovered = found_in(panel)["end"]
    return panel, recovered[recovered < "2018"].iloc[-1] + 3 * DAY


# --- odds that the ribbons turn ---


def slow_odds(panel, t, fast, slow, within):
    """`turn_odds` of day t, path by path; a missing day counts as the weekly mean before it, which is then unknown."""
    level = panel["hash_rate_ehs"].rolling(7).mean().to_numpy()
    rate = panel["hash_rate_ehs"].fillna(pd.Series(level, panel.index).ffill()).to_numpy()
    crossed, state = [], hash_ribbons(panel, fast, slow)["inverted"].iloc[t]
    for s in range(t - max(within) + 1):
        if np.isfinite(level[s]):
            path = pd.Series([*rate[t + 1 - slow : t + 1], *rate[s + 1 : s + 1 + max(within)] * level[t] / level[s]])
            inverted = path.rolling(fast).mean() < path.rolling(slow).mean()
            crossed.append(inverted[slow:].to_numpy() != state)
    return [np.mean([path[:days].any() for path in crossed]) for days in within] if len(crossed) >= 365 else None


@pytest.mark.parametrize("missing", [[], [40, 41, 200, 430]])
def test_odds_equal_the_share_of_paths_rolled_one_by_one(missing):
    panel, within = without(wandering(), missing), (4, 9)
    odds, inverted = turn_odds(panel, 5, 12, within), hash_ribbons(panel, 5, 12)["inverted"]
    assert [*odds] == ["odds_4d", "odds_9d"] and odds.index.equals(panel.index)
    known = np.flatnonzero(odds["odds_4d"].notna())
    first = 394 if missing else 379  # 365 earlier days whose weekly mean is known; 15 are not
    assert known[0] == first and slow_odds(panel, first - 1, 5, 12, within) is None
    assert np.setdiff1d(np.arange(first, len(panel)), known).tolist() == (list(range(430, 437)) if missing else [])
    states = [np.flatnonzero((inverted == state).fillna(False)) for state in (True, False)]
    checked = [first, 438, *(np.intersect1d(known, days)[-9] for days in states)]  # 438: a hole in its slow window
    for t in checked:
        assert odds.iloc[t].tolist() == pytest.approx(slow_odds(panel, t, 5, 12, within), abs=1e-12)
    assert 0 < odds.iloc[checked[2:], 0].min() < odds.iloc[checked[2:], 0].max() < 1
    pd.testing.assert_frame_equal(turn_odds(panel, 5, 12, within, since="2016-04-01"), odds["2016-04-01":])


@pytest.mark.parametrize("growth", [0.0, 0.01, -0.01])
def test_hash_rate_that_always_went_on_as_now_never_turns(growth):
    odds = turn_odds(steady_panel(2 * np.exp(growth * np.arange(600)))).to_numpy()
    assert np.isnan(odds[:460]).all() and (odds[460:] == 0).all()


def test_a_weekly_mean_of_zero_is_no_level_to_move_on_from():
    rate = wandering(700)["hash_rate_ehs"].to_numpy() * (np.abs(np.arange(700) - 500) > 7)
    odds = turn_odds(steady_panel(rate))["odds_30d"]
    assert np.flatnonzero(odds[460:].isna()).tolist() == [*range(39, 48)] and odds[460:].between(0, 1).sum() == 231


def test_after_a_fall_by_half_flat_paths_turn_when_the_fall_has_left_the_slow_mean():
    panel = steady_panel(np.r_[np.full(593, 2.0), np.full(7, 1.0)])
    now = turn_odds(panel, 7, 14, [6, 7]).iloc[-1]
    assert now.tolist() == [0.0, 580 / 587]  # 587 earlier days, seven of which saw the fall


def slow_turned(states, days):
    """1, 0 or NaN for each day: the next known other state, by looking at each later day in turn."""
    out = []
    for t, state in enumerate(states):
        other = [k for k, later in enumerate(states[t + 1 : t + 1 + days], 1) if later is not None and later != state]
        decided = t + days < len(states) and states[t + days] is not None
        out.append(np.nan if state is None else 1.0 if other else 0.0 if decided else np.nan)
    return out


@given(st.lists(st.sampled_from([True, False, None]), max_size=25), st.integers(1, 6))
def test_turned_equals_looking_at_every_later_day(states, days):
    index = pd.date_range("2020-01-01", periods=len(states))
    found = turned(pd.Series(states, index, dtype="boolean"), days)
    np.testing.assert_array_equal(found, slow_turned(states, days))


@pytest.mark.parametrize("min_days", [0, 5])
def test_odds_by_age_are_recovery_odds_of_the_episodes_known_then(market, min_days):
    """From the panel cut at that day: its last capitulation still runs, whether or not it is long enough to be kept."""
    panel, _ = market
    inverted = hash_ribbons(panel)["inverted"]
    found = episodes(inverted, panel, min_days=min_days)
    rows = fc.replay(panel, found)
    asked = rows[rows["kind"] == "capitulation ends"]
    for row in asked.sample(25, random_state=1).itertuples():
        known, age = episodes(inverted[: row.as_of], panel[: row.as_of], min_days=min_days), runs(inverted[: row.as_of])
        (odds,) = recovery_odds(known, age["days"].iloc[-1], [row.days])["odds"]
        assert row.by_age == pytest.approx(odds, nan_ok=True)
    for age, days in product(range(1, 60, 2), range(1, 9)):
        (odds,) = recovery_odds(found[~found["ongoing"]], age, [days])["odds"]
        assert fc.odds_by_age(found, panel.index[-1], age, days) == pytest.approx(odds, nan_ok=True)
    assert asked["by_age"].nunique() > 4 and rows.drop(asked.index)["by_age"].isna().all()


# --- what the constant says ---


@pytest.mark.parametrize("days", [30, 90])
@pytest.mark.parametrize("state", [True, False])
def test_the_constant_is_the_share_of_like_days_whose_outcome_was_known(market, state, days):
    panel, _ = market
    replayed = replay(panel)
    rows = replayed[(replayed["kind"] == fc.TURNS[state]) & (replayed["days"] == days)].reset_index(drop=True)
    first = rows["constant"].first_valid_index()
    for row in rows.loc[[0, first - 1, first, *range(first + 20, len(rows), 300)]].itertuples():
        inverted = hash_ribbons(panel[: row.as_of])["inverted"].astype(object).replace(pd.NA, None).tolist()
        came = zip(inverted[:-days], slow_turned(inverted, days), strict=False)
        like = [outcome for then, outcome in came if then is state]
        assert row.constant == pytest.approx(np.mean(like) if len(like) >= 30 else np.nan, nan_ok=True)


def test_events_are_those_of_the_episodes_and_a_relapse_is_held_against_earlier_recoveries(market):
    panel, _ = market
    found, replayed = found_in(panel), replay(panel)
    for kind in {kind for kind in replayed["kind"] if kind.startswith(("relapse", "return"))}:
        real, anchor = "real" in kind, kind.split()[-1].replace("relapse", "recovery")
        events = found.loc[(found["grade"] == "real") | (not real), ANCHOR_COLUMNS[anchor]].dropna()
        for _, own in replayed[replayed["kind"] == kind].groupby("days"):
            assert own["as_of"].tolist() == events.tolist() and not (real and anchor == "start")
    soon, rows = (found["start"].shift(-1) - found["end"]).dt.days <= 30, replayed[replayed["kind"] == "relapse"]
    for row in rows.itertuples():
        earlier = soon[found["end"] <= row.as_of - 30 * DAY]
        assert row.constant == pytest.approx(earlier.mean() if len(earlier) >= 3 else np.nan, nan_ok=True)
    assert rows["outcome"].dropna().tolist() == soon[found["end"].isin(rows["as_of"][rows["outcome"].notna()])].tolist()
    assert 0 < rows["outcome"].mean() < 1 and 0 < rows["constant"].isna().sum() < len(rows)


def test_the_next_adjustment_as_estimated_then_beside_the_last_52(simulated_panel, replayed):
    assert replayed["constant_q025"][replayed["kind"] == "adjustment day"].min() == 1  # in no fewer days than that
    past, ends = adjustments(simulated_panel).dropna(subset="change"), ("_low", "", "_high")
    for day in replayed["as_of"][replayed["kind"] == "adjustment size"].iloc[[0, 500, 1234, 3210, 4000]]:
        rows = replayed[replayed["as_of"] == day].set_index("kind")
        wide, narrow = (next_adjustment(simulated_panel[:day], confidence) for confidence in (0.95, 0.5))
        earlier, came = past[past["date"] <= day].tail(53), past[past["date"] > day].iloc[0]
        for kind, name in (("adjustment size", "change"), ("adjustment day", "date")):
            low, middle, high = ([narrow[f"{name}{end}"], wide[f"{name}{end}"]] for end in ends)
            said, outcome, last = pd.Series([low[1], low[0], middle[1], *high]), came[name], earlier["change"].tail(52)
            constant = np.quantile(last, fc.LEVELS)
            if name == "date":
                said, outcome, lasted = (said - day).dt.days, (outcome - day).days, earlier["date"].diff().dt.days[1:]
                constant = np.maximum(np.quantile(lasted, fc.LEVELS) - (day - earlier["date"].iloc[-1]).days, 1)
            assert rows.loc[kind, fc.QUANTILES].tolist() == pytest.approx(said.tolist())
            assert rows.loc[kind, fc.CONSTANT].tolist() == pytest.approx(constant.tolist())
            assert rows.loc[kind, "outcome"] == pytest.approx(outcome)
            assert rows.loc[kind, ["height", "target_day"]].tolist() == [came["height"], wide["date"]]


@pytest.mark.parametrize("lag", [0, 2])
def test_returns_are_those_of_earlier_events_known_by_then_beside_any_earlier_day(lag):
    panel, days, since = without(wandering(), [150, 333]), 20, "2015-02-01"
    # Before the sample; close together; twice without a price; still open.
    at = np.array([5, 40, 41, 60, 61 + lag, 83, 150 - lag, 200, 300, 333 - lag, 470])
    table = fc.return_forecasts(panel, panel.index[at], days, lag, since)
    assert table.index.tolist() == panel.index[at[1:]].tolist()
    price = np.log(panel["price_usd"].to_numpy())
    gain = {t: price[t + lag + days] - price[t + lag] for t in range(31, len(price) - lag - days)}
    for t, (_, row) in zip(at[1:], table.iterrows(), strict=True):
        every = {s: value for s, value in gain.items() if s + lag + days <= t and not np.isnan(value)}
        for prefix, sample in (("", [every[s] for s in at if s in every]), ("constant_", [*every.values()])):
            enough, outcome = len(sample) >= 3, gain.get(t, np.nan)
            said = np.quantile(sample, fc.LEVELS) if enough else [np.nan] * 5
            assert row[[prefix + name for name in fc.QUANTILES]].tolist() == pytest.approx([*said], nan_ok=True)
            assert row["outcome"] == pytest.approx(outcome, nan_ok=True)
            assert row[f"{prefix}score"] == pytest.approx(fc.crps(sample, outcome) if enough else np.nan, nan_ok=True)
    assert table["q500"].isna().any() and table["score"].count() > 1 and table["outcome"].isna().sum() >= 3


# --- scores ---


@given(st.lists(NUMBERS, min_size=1, max_size=12), NUMBERS)
def test_crps_is_the_integral_and_the_mean_over_all_pairs(sample, outcome):
    edges = np.unique([*sample, outcome])
    beyond = [np.mean(np.array(sample) <= edge) - (outcome <= edge) for edge in edges[:-1]]
    pairs = np.mean([abs(one - outcome) for one in sample]), np.mean([abs(a - b) for a in sample for b in sample])
    assert fc.crps(sample, outcome) == pytest.approx(np.diff(edges) @ np.square(beyond), abs=1e-9)
    assert fc.crps(sample, outcome) == pytest.approx(pairs[0] - pairs[1] / 2, abs=1e-9)


def test_the_interval_score_is_the_width_and_forty_times_what_it_misses_by():
    assert fc.interval_score(1, 3, [1, 2, 3, 0.5, 3.25, np.nan]).tolist()[:5] == pytest.approx([2, 2, 2, 22, 12])
    assert fc.interval_score([0, np.nan], [1, 1], 2, confidence=0.5)[0] == 5
    assert np.isnan(fc.interval_score([0, np.nan], [1, 1], [np.nan, 2])).all()


@pytest.mark.parametrize("name", ["crps", "interval", "Brier"])
def test_the_truth_scores_best(name):
    """Outcomes are standard normal; said are that, and what is shifted, too wide and too narrow."""
    outcomes, means = np.random.default_rng(0).normal(size=3000), []
    for mean, deviation in ((0, 1), (0.4, 1), (0, 1.6), (0, 0.6)):
        law = stats.norm(mean, deviation)
        if name == "crps":
            sample = law.ppf(np.arange(0.005, 1, 0.01))
            means.append(np.mean([fc.crps(sample, outcome) for outcome in outcomes]))
        else:
            rows = pd.DataFrame({"outcome": outcomes, "q025": law.ppf(0.025), "q975": law.ppf(0.975)})
            rows["probability"] = np.nan
            if name == "Brier":
                rows = rows.assign(outcome=(outcomes > 0.8).astype(float), probability=law.sf(0.8))
            means.append(fc.score(rows).mean())
    assert means[0] < 0.97 * min(means[1:])


def test_a_table_of_scores_known_by_hand():
    rng, days = np.random.default_rng(5), pd.date_range("2015-01-01", periods=1000)
    turns = pd.DataFrame({"as_of": days, "kind": "capitulation ends", "days": 30})
    turns["probability"] = rng.uniform(size=1000)
    turns = turns.assign(outcome=rng.uniform(size=1000) < turns["probability"], constant=0.5, by_age=0.4)
    sizes = pd.DataFrame({"as_of": days[:800:2], "kind": "adjustment size", "outcome": rng.normal(size=400)})
    sizes = sizes.assign(q025=-1.96, q975=1.96, constant_q025=-1.0, constant_q975=1.0)
    table = pd.concat([turns, sizes, turns.assign(kind="capitulation starts", constant=turns["probability"])])
    table = table.reindex(columns=fc.REPLAY).astype({"days": "Int64", "outcome": float})
    table = table.assign(score=fc.score(table.reset_index()).array, constant_score=fc.score(table, "constant_").array)
    table.iloc[900:1000, table.columns.get_loc("outcome")] = np.nan
    table.loc[table["outcome"].isna(), CAME] = np.nan
    found = fc.score_table(table, n=300, seed=4)
    assert [*found] == fc.SCORES and found["score"].tolist() == ["Brier", "interval", "Brier"]
    assert (found["n"].tolist(), found["n_blocks"].tolist()) == ([900, 400, 1000], [5, 5, 6])
    turns, sizes = table.iloc[:900], table.iloc[1000:1400]
    ours, by_age = (((turns[name] - turns["outcome"]) ** 2).mean() for name in ("probability", "by_age"))
    expected = [ours, 0.25, 1 - 4 * ours, by_age]
    assert found.loc[0, ["ours", "constant", "skill", "by_age"]].tolist() == pytest.approx(expected)
    assert found.loc[0, "hindsight"] == pytest.approx(((turns["outcome"].mean() - turns["outcome"]) ** 2).mean())
    outside = [np.mean(sizes["outcome"].abs() > end) for end in (1.96, 1.0)]
    assert found.loc[1, ["covered", "constant_covered"]].tolist() == pytest.approx([1 - share for share in outside])
    p = []
    for rows, blocks in ((turns, 5), (sizes, 5)):
        gain = (rows["constant_score"] - rows["score"]).groupby(rows["as_of"]).sum().reindex(days).to_numpy()
        resampled = StationaryBootstrap(180, gain, seed=np.random.default_rng(4)).bootstrap(300)
        spread = np.std([np.nanmean(drawn) for (drawn,), _ in resampled], ddof=1)
        p.append(stats.t.sf(np.nanmean(gain) / spread, blocks - 1))
    assert found["p"].tolist() == pytest.approx([*p, np.nan], nan_ok=True)  # who says the same has no p
    low, high = sorted(p)
    assert sorted(found["p_holm"][:2]) == pytest.approx([2 * low, max(2 * low, high)])


def test_p_of_forecasts_without_skill_is_small_as_often_as_it_should_be():
    """Differences of mean zero that keep for a month, 300 kinds over eight years: 5 % of p at most 0.05."""
    rng, n = np.random.default_rng(12), 300
    gain = np.zeros((2900, n))
    for t in range(1, len(gain)):
        gain[t] = 0.97 * gain[t - 1] + rng.normal(size=n)
    days, kinds = pd.date_range("2016-01-01", periods=len(gain)), [f"return {k}" for k in range(n)]
    rows = pd.DataFrame({"as_of": np.repeat(days, n), "kind": np.tile(kinds, len(gain)), "days": 30, "score": 100.0})
    rows = rows.assign(constant_score=100 + gain.ravel()).reindex(columns=fc.REPLAY)
    p = fc.score_table(rows, n=300)["p"]
    assert 0.02 <= (p <= 0.05).mean() <= 0.09 and 0.4 < p.mean() < 0.6


def test_reliability_counts_every_forecast_once_in_its_tenth():
    said = np.array([0.0, 0.05, 0.1, 0.3, 0.31, 0.35, 0.95, 1.0, 1.0, 0.5, np.nan])
    rows = pd.DataFrame({"as_of": pd.date_range("2020-01-01", periods=11, freq="30D"), "probability": said})
    rows["outcome"] = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    rows["score"] = ((rows["probability"] - rows["outcome"]) ** 2).mask(rows["probability"] == 0.5)  # not due yet
    kinds = ("relapse", 30), ("x", 30), ("relapse", 60)
    rows = pd.concat([rows.assign(kind=kind, days=days) for kind, days in kinds])
    found = fc.reliability(rows, "relapse", 30, confidence=0.9)
    assert [*found] == fc.RELIABILITY and found["n"].tolist() == found["n_separate"].tolist() == [2, 1, 3, 3]
    assert found["low"].tolist() == [0, 0.1, 0.3, 0.9]
    assert found["said"].tolist() == pytest.approx([0.025, 0.1, 0.32, 2.95 / 3])
    assert found["happened"].tolist() == pytest.approx([0, 1, 1 / 3, 1])
    for row in found.itertuples():
        exact = stats.binomtest(round(row.happened * row.n), row.n).proportion_ci(0.9, "exact")
        assert (row.ci_low, row.ci_high) == pytest.approx((exact.low, exact.high))
    assert fc.reliability(rows, "relapse", 60)["n_separate"].tolist() == [1, 1, 1, 1]
    assert fc.reliability(rows, "no such kind", 30).empty


# --- no look-ahead ---


@pytest.mark.parametrize(("name", "n"), [("real_panel", 27), ("simulated_panel", 12)])
def test_no_forecast_and_no_constant_hangs_on_a_later_day(name, n, request):
    """Cut at n days: what was said in the two weeks before stands bit for bit, and all that was said of returns."""
    panel = request.getfixturevalue(name)
    whole = request.getfixturevalue("replayed") if name == "simulated_panel" else replay(panel)
    ours = ~whole["kind"].str.startswith("return")
    for number, at in enumerate(np.linspace(panel.index.get_loc(SINCE) + 30, len(panel) - 1, n).astype(int)):
        known, cut, since = panel[: at + 1], panel.index[at], panel.index[at - 14]
        found = found_in(known)
        then = fc.replay(known, found, since=str(since.date()))
        then = then[~then["kind"].str.startswith("return")].reset_index(drop=True)
        now = whole[ours & whole["as_of"].between(since, cut)].reset_index(drop=True)
        pd.testing.assert_frame_equal(then.drop(columns=CAME), now.drop(columns=CAME), check_exact=True)
        for came in CAME:
            pd.testing.assert_series_equal(then[came].dropna(), now.loc[then[came].notna(), came], check_exact=True)
        anchor, days = [("start", 30), ("recovery", 90), ("buy", 180)][number % 3]
        then = fc.return_forecasts(known, found[ANCHOR_COLUMNS[anchor]], days)
        now = whole[(whole["kind"] == f"return after {anchor}") & (whole["days"] == days) & (whole["as_of"] <= cut)]
        said = [*fc.QUANTILES, *fc.CONSTANT]
        pd.testing.assert_frame_equal(then[said], now.set_index("as_of")[said], check_exact=True, **ANY_INDEX)


# --- what is written down, and what came of it ---


def test_what_is_written_down_is_open_and_names_the_data_of_its_day(market):
    panel, day = market
    known, of_event = panel[:day], ("relapse", "return after recovery")
    replayed = replay(known)
    rows = fc.latest(replayed, known)
    assert [*rows] == [*fc.FORECAST, "data_sha256"]
    daily, events = rows[rows["as_of"] == day], rows[rows["as_of"] == day - 3 * DAY]
    assert len(rows) == len(daily) + len(events) and rows.notna().all()[["as_of", "kind", "target_day"]].all()
    assert [*daily["kind"]] == ["capitulation starts"] * 3 + ["adjustment size", "adjustment day"]
    assert [*events["kind"].unique()][:2] == [*of_event] and (events["days"][:4] == [30, 30, 90, 180]).all()
    for at, own in rows.groupby("as_of"):
        assert own["data_sha256"].unique().tolist() == [panel_digest(panel[:at])]
    odds, returns = (rows[rows["kind"].str.contains(kinds)] for kinds in ("capitulation|relapse", "return"))
    assert ((odds["target_day"] - odds["as_of"]).dt.days == odds["days"]).all()
    assert ((returns["target_day"] - returns["as_of"]).dt.days == returns["days"] + 1).all()
    said = replayed.merge(rows[fc.KEYS], on=fc.KEYS)
    pd.testing.assert_frame_equal(said[fc.FORECAST], rows[fc.FORECAST])
    ended = replayed.assign(outcome=replayed["outcome"].mask(replayed["kind"] == "relapse", 1.0))
    assert len(fc.latest(ended, known)) == len(rows) - 1
    for later, kept in ((3, True), (4, False)):
        kinds = fc.latest(replay(panel[: day + later * DAY]), panel[: day + later * DAY])["kind"]
        assert kinds.isin(of_event).any() == kept


def registered(panel, day):
    """What was said on `day`, in the form in which the register is read."""
    rows = fc.latest(replay(panel[:day]), panel[:day]).astype({"days": float})
    made = (day + pd.Timedelta(hours=27)).tz_localize("UTC")
    return rows.assign(made_at=made, source="coinmetrics", code_version="0+0", previous="", hash="")


def test_settled_rows_have_the_outcome_that_came(market):
    panel, day = market
    register = registered(panel, day)
    rows = fc.settled(register, panel)
    pd.testing.assert_frame_equal(rows[[*register]], register.astype({"days": "Int64"}))
    inverted, price = hash_ribbons(panel)["inverted"], panel["price_usd"]
    came = adjustments(panel).set_index("height")
    for row in rows.itertuples():
        if row.kind.startswith("adjustment"):
            change, date = came.loc[row.height, ["change", "date"]]
            expected = change if row.kind == "adjustment size" else (date - day).days
        elif row.kind.startswith("return"):
            expected = forward_returns(price, row.days)[row.as_of]
        else:
            expected = float(inverted[row.as_of + DAY : row.as_of + row.days * DAY].any())
        assert row.outcome == pytest.approx(expected)
    odds, others = rows[rows["probability"].notna()], rows[rows["probability"].isna()]
    for name, said in (("score", "probability"), ("constant_score", "constant")):
        assert odds[name].tolist() == pytest.approx(((odds[said] - odds["outcome"]) ** 2).tolist())
    ends = fc.interval_score(others["q025"], others["q975"], others["outcome"])
    assert others["score"].tolist() == pytest.approx(ends.tolist()) and others["constant_score"].notna().all()


def test_the_first_row_counts_and_none_written_down_when_the_outcome_was_there(market):
    panel, day = market
    first = registered(panel, day)
    again = first.assign(made_at=first["made_at"] + DAY, data_sha256="f" * 64, probability=0.5)
    rows = fc.settled(pd.concat([first, again], ignore_index=True), panel)
    assert rows["score"][: len(first)].notna().all() and rows[CAME][len(first) :].isna().all(axis=None)
    date = adjustments(panel).set_index("height")["date"][first["height"].dropna().iloc[0]]
    decided = first["target_day"].where(first["height"].isna(), date).dt.tz_localize("UTC")
    for made_at, counts in ((decided - pd.Timedelta(seconds=1), True), (decided, False)):
        assert (fc.settled(first.assign(made_at=made_at), panel)["outcome"].notna() == counts).all()


def test_odds_that_came_true_early_count_from_their_target_day_with_the_others(market):
    panel, _ = market
    found = found_in(panel)
    day = found.loc[(found["end"] > "2017") & (found["days"] > 5), "end"].iloc[0] - 2 * DAY  # ends in two days
    register = registered(panel, day)
    odds = register[register["kind"] == "capitulation ends"]
    assert odds["days"].tolist() == [30, 60, 90]
    for later, n in ((29, 0), (30, 1), (90, 3)):
        rows = fc.settled(odds, panel[: day + later * DAY])
        assert rows["outcome"].tolist() == pytest.approx([1.0] * n + [np.nan] * (3 - n), nan_ok=True)
    told = fc.register_text(odds, panel[: day + 30 * DAY])
    assert "1 scored" in told and "2 open" in told and ".0 days" not in told
    assert fc.settled(register[:0], panel).empty
    size = register[register["kind"] == "adjustment size"]
    date = adjustments(panel).set_index("height")["date"][size["height"].iloc[0]]
    assert (
        "1 scored" in (told := fc.register_text(size.assign(target_day=date + DAY), panel[:date])) and "0 open" in told
    )


# --- odd panels ---


ODD = {"price_usd": ALL - {"return"}, "height": ALL - {"adjustment"}, "hash_rate_ehs": {"adjustment"}, "all": set()}
ODD |= {"holes": ALL, "dark": ALL, 1: set(), 2: set(), 61: set(), 500: {"capitulation"}}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("odd", "scored"), ODD.items())
def test_odd_panels_give_what_can_be_known(market, odd, scored):
    """One without a column or any, with days missing here and there or for a quarter, and with so many days."""
    panel, _ = market
    if isinstance(odd, int):
        panel = panel.tail(odd)
    elif odd in ("holes", "dark"):
        before = panel.index.get_loc(adjustments(panel)["date"].iloc[20]) - 1
        panel = without(panel, [before, *range(50, 1500, 97)] if odd == "holes" else range(1100, 1190))
        unclear = adjustments(panel).set_index("height")["change"].isna()
    else:
        panel = panel.assign(**dict.fromkeys([*panel] if odd == "all" else [odd], np.nan))
    rows = replay(panel)
    done, said = rows["score"].notna(), rows[["probability", "q025"]].notna().any(axis=1)
    assert set(rows["kind"][done & rows["constant_score"].notna()].str.split().str[0]) == scored
    due = rows["height"].notna() | (rows["target_day"] <= panel.index[-1])
    assert (said & rows["outcome"].notna() & due).equals(done)
    if odd == "holes":
        hidden = rows["outcome"][rows["height"].isin(unclear.index[unclear])]
        assert len(hidden) > 20 and hidden.isna().all()
    then = panel.loc[rows["as_of"]].reset_index(drop=True)
    assert then["height"].notna()[rows["height"].notna()].all()
    unknown = panel["hash_rate_ehs"].rolling(7).mean().isna().loc[rows["as_of"]].to_numpy()
    assert rows["probability"][unknown].isna().all()
    table = fc.score_table(rows, n=50)
    assert set(table["kind"].str.split().str[0]) == scored and [*table] == fc.SCORES
    ends = done & (rows["kind"] == "capitulation ends") & (rows["days"] == 30)
    assert fc.reliability(rows, "capitulation ends", 30)["n"].sum() == ends.sum()
    written = fc.latest(rows, panel)
    assert written[["probability", "q025"]].notna().any(axis=1).all() and written["data_sha256"].notna().all()
