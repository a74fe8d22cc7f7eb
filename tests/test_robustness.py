"""Robustness: closed forms, slow independent versions, planted effects that must be found and noise that must not."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capitulation.episodes import anchor_days, buy_dates, find_episodes
from capitulation.errors import DataError
from capitulation.params import make_params
from capitulation.study import specification
from capitulation.study.family import family_table, superior_rules, timing_returns
from capitulation.study.prequential import (
    MIN_EARLIER,
    diebold_mariano,
    expanding_baseline,
    prequential,
    prequential_score,
    sign_test,
    skill_of_rotations,
)
from capitulation.study.robustness import (
    as_heat_map,
    excess_of,
    lag_sensitivity,
    primary_days,
    provider_sensitivity,
    window_grid,
)
from capitulation.study.rotation import rotation_test
from capitulation.study.specification import curve_summary, curve_test, specification_curve

PARAMS = make_params({"horizons_days": [30, 90]})
N = 1500


def market(seed: int = 0, effect: float = 0.0, n_events: int = 12) -> tuple[pd.DataFrame, dict]:
    """A random walk since 2014 whose drift rises by `effect` a day in the 90 days after each event (lag 1)."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0005, 0.03, N)
    at = np.sort(rng.choice(np.arange(20, N - 100), n_events, replace=False))
    for row in at:
        steps[row + 2 : row + 92] += effect
    index = pd.date_range("2014-01-01", periods=N, name="date")
    panel = pd.DataFrame({"price_usd": 100 * np.exp(np.cumsum(steps))}, index=index)
    others = {("noise", str(i)): index[np.sort(rng.choice(N, n_events, replace=False))] for i in range(6)}
    return panel, {("planted", "recovery"): index[at], **others}


# --- specification curve -------------------------------------------------------------------------------------------


def test_curve_holds_every_choice_sorted():
    panel, events = market()
    curve = specification_curve(panel, events, PARAMS, ["2015-01-01"], [0, 5])
    assert len(curve) == 7 * 2 * 2 * 3  # rules x horizons x starts (with the parameter's) x lags (with the parameter's)
    assert curve["excess_log"].is_monotonic_increasing
    assert curve["rank"].tolist() == list(range(1, len(curve) + 1))
    assert set(curve["lag_days"]) == {0, 1, 5}
    assert not curve.duplicated(["definition", "anchor", "horizon_days", "sample_start", "lag_days"]).any()


def test_each_specification_equals_the_test_made_alone():
    panel, events = market(3)
    curve = specification_curve(panel, events, PARAMS)
    for _, row in curve.iloc[::17].iterrows():
        days = events[row["definition"], row["anchor"]]
        alone = excess_of(panel, days, row["horizon_days"], row["lag_days"], row["sample_start"])
        for name in ("n_events", "n_clusters", "mean_log", "excess_log", "p_rotation"):
            assert row[name] == pytest.approx(alone[name], abs=1e-12), name


def test_specifications_without_events_are_left_out():
    panel, events = market()
    events = {**events, ("silent", "start"): panel.index[:0]}
    curve = specification_curve(panel, events, PARAMS, [], [])
    assert "silent" not in set(curve["definition"])
    assert specification_curve(panel, {("silent", "start"): panel.index[:0]}, PARAMS).empty


def test_summary_counts_shares():
    table = pd.DataFrame(
        {"excess_log": [-1.0, 1.0, 2.0, 3.0], "p_rotation": [0.9, 0.04, 0.2, 0.01], "anchor": list("aabb")}
    )
    whole, split = curve_summary(table), curve_summary(table, "anchor")
    assert whole.loc["all"].tolist() == [4, 0.75, 1.5, 0.5]
    assert split["share_above"].tolist() == [0.5, 1.0]


def test_curve_test_finds_a_planted_effect_and_equals_brute_force():
    panel, events = market(1, effect=0.01)
    planted = {key: days for key, days in events.items() if key[0] == "planted"}
    assert curve_test(panel, planted, PARAMS).p_median < 0.02
    found = curve_test(panel, events, PARAMS, [1])
    z = []
    for horizon in PARAMS.horizons_days:
        returns = np.log(panel["price_usd"]).diff(horizon).shift(-horizon - 1).to_numpy()
        centred = np.nan_to_num(returns - np.nanmean(returns))
        for days in events.values():
            marks = panel.index.isin(days)
            sums = np.array([centred[np.roll(marks, k)].sum() for k in range(N)])
            z.append(sums / sums.std())
    shares = (np.array(z) > 0).mean(axis=0)
    assert (found.n_specifications, found.share_above) == (14, shares[0])
    assert found.p_share == (shares >= shares[0]).mean()
    assert found.median_z == pytest.approx(np.median(z, axis=0)[0], abs=1e-9)


def test_curve_test_keeps_its_level_on_noise():
    p = [curve_test(*market(seed), PARAMS, [1]).p_median for seed in range(40)]
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) < 0.1) <= 0.25


# --- family --------------------------------------------------------------------------------------------------------


def test_family_ranks_the_planted_rule_first_and_charges_for_the_others():
    panel, events = market(2, effect=0.01)
    table = family_table(panel, events, PARAMS)
    best = table.iloc[0]
    assert (best["definition"], best["n_family"]) == ("planted", 7)
    assert best["p_rotation"] <= best["p_family"] < 0.05
    assert (table["p_family"] >= table["p_rotation"] - 1e-12).all()
    returns = np.log(panel["price_usd"]).diff(90).shift(-91).dropna()
    alone = rotation_test(returns.to_numpy(), returns.index.isin(events["planted", "recovery"]))
    assert best["p_rotation"] == pytest.approx(alone.p_one_sided, abs=1e-12)
    assert best["excess_log"] == pytest.approx(alone.statistic, abs=1e-12)


def test_a_family_without_any_known_outcome_is_refused_in_one_line():
    panel, events = market()
    with pytest.raises(DataError, match="sample_start=2018-01-20"):
        family_table(panel, events, make_params({"sample_start": "2018-01-20"}))


def test_timing_returns_are_free_of_drift():
    panel, events = market(4)
    timing = timing_returns(panel, events, PARAMS, hold_days=30)
    rising = panel.assign(price_usd=panel["price_usd"] * np.exp(0.01 * np.arange(N)))
    again = timing_returns(rising, events, PARAMS, hold_days=30)
    np.testing.assert_allclose(timing.sum(), again.sum(), atol=1e-9)
    assert timing.shape == (N - 1, 7)


def test_superior_rules_finds_the_planted_one_only_and_calls_arch():
    from arch.bootstrap import SPA, StepM

    panel, events = market(5, effect=0.012, n_events=14)
    timing = timing_returns(panel, events, PARAMS).assign(copy=lambda t: t.iloc[:, 0])
    result = superior_rules(timing, 90, 400, seed=3)
    assert result.superior == ("planted_recovery",)
    assert "copy" not in result.rules
    losses = -timing.drop(columns="copy").groupby(np.arange(N - 1) // 7).sum()
    zero = np.zeros(len(losses))
    spa, step = (kind(zero, losses, block_size=13, reps=400, seed=3) for kind in (SPA, StepM))
    spa.compute()
    step.compute()
    assert result.p_consistent == spa.pvalues["consistent"] < 0.05
    assert result.superior == tuple(step.superior_models)


def test_superior_rules_finds_none_in_noise_and_takes_an_empty_family():
    panel, events = market(6)
    assert superior_rules(timing_returns(panel, events, PARAMS), 90, 300).superior == ()
    nothing = superior_rules(timing_returns(panel, {("silent", "start"): panel.index[:0]}, PARAMS), 90)
    assert np.isnan(nothing.p_consistent)


# --- prequential ---------------------------------------------------------------------------------------------------


def slow_prequential(panel, days, horizon, lag):
    """The forecasts one day at a time, from the price known on that day and nothing else."""
    for day in days:
        known = panel["price_usd"].loc[:day]
        ends = known.index - pd.Timedelta(days=lag + horizon)
        past = {s: np.log(known.iloc[i] / known[s + pd.Timedelta(days=lag)]) for i, s in enumerate(ends) if s in known}
        mine = [past[s] for s in days if s in past]
        yield (
            (np.mean(mine) if len(mine) >= MIN_EARLIER else np.nan),
            (np.mean(list(past.values())) if past else np.nan),
        )


def test_prequential_equals_a_day_by_day_version():
    panel, events = market(7)
    days = events["planted", "recovery"]
    table = prequential(panel, days, PARAMS, 30)
    np.testing.assert_allclose(table[["forecast", "baseline"]], list(slow_prequential(panel, days, 30, 1)), atol=1e-9)
    outcome = np.log(panel["price_usd"]).diff(30).shift(-31).reindex(days)
    np.testing.assert_allclose(table["outcome"], outcome, atol=1e-9)


def test_signals_whose_outcome_is_still_open_have_a_forecast_but_no_score():
    panel, events = market(8)
    days = events["planted", "recovery"].append(panel.index[[-5]])
    last = prequential(panel, days, PARAMS).iloc[-1]
    assert np.isfinite(last["forecast"])
    assert np.isnan(last["outcome"])
    assert last["better"] is pd.NA


def test_score_by_hand():
    panel, events = market(9)
    days = events["planted", "recovery"]
    table = prequential(panel, days, PARAMS).dropna(subset=["forecast", "outcome"])
    score = prequential_score(panel, days, PARAMS)
    own, plain = (table["forecast"] - table["outcome"]) ** 2, (table["baseline"] - table["outcome"]) ** 2
    assert score.n == len(table) > 3
    assert score.r2 == pytest.approx(1 - own.mean() / plain.mean())
    assert score.rmse_baseline == pytest.approx(plain.mean() ** 0.5)
    assert score.share_better == (own < plain).mean()


def test_rotated_skill_equals_the_score_of_moved_signals():
    panel, events = market(10)
    returns = np.log(panel["price_usd"]).diff(30).shift(-31).to_numpy()
    rows = np.flatnonzero(panel.index.isin(events["planted", "recovery"]))
    for shift in (0, 1, 333, 1400):
        moved = panel.index[np.sort((rows + shift) % N)]
        expected = prequential_score(panel, moved, PARAMS, 30).r2
        assert skill_of_rotations(returns, rows, 31, np.array([shift]))[0] == pytest.approx(expected, abs=1e-9)


def test_a_lasting_effect_is_forecast_and_noise_is_not():
    strong = prequential_score(*_first(market(11, effect=0.01, n_events=25)), PARAMS)
    assert strong.r2 > 0
    assert strong.p_rotation < 0.05
    p = [prequential_score(*_first(market(seed)), PARAMS).p_rotation for seed in range(30)]
    assert 0.3 < np.mean(p) < 0.7


def _first(made):
    return made[0], made[1]["planted", "recovery"]


def test_no_signal_no_score():
    panel, _ = market()
    assert prequential(panel, panel.index[:0], PARAMS).empty
    assert prequential_score(panel, panel.index[:2], PARAMS).n == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(1, 12), st.integers(0, 29))
def test_baseline_knows_only_complete_outcomes(values, delay, cut):
    returns = np.array(values)
    whole = expanding_baseline(returns, delay)
    expected = [returns[: t - delay + 1].mean() if t >= delay else np.nan for t in range(len(returns))]
    np.testing.assert_allclose(whole, expected, atol=1e-12)
    part = expanding_baseline(returns[: cut + 1], delay)
    np.testing.assert_array_equal(part, whole[: len(part)])


def test_sign_test_is_binomial():
    from scipy import stats

    for successes, n in ((0, 5), (3, 5), (17, 26), (26, 26)):
        expected = stats.binomtest(successes, n, 0.5, alternative="greater").pvalue
        assert sign_test(successes, n) == pytest.approx(expected)
    assert np.isnan(sign_test(0, 0))


def test_diebold_mariano_without_overlap_is_students_t():
    from scipy import stats

    gain = np.random.default_rng(0).normal(0.2, 1, 40)
    t, p = diebold_mariano(gain, 0)
    peer = stats.ttest_1samp(gain, 0, alternative="greater")
    assert (t, p) == pytest.approx((peer.statistic, peer.pvalue))
    assert np.isnan(diebold_mariano(gain[:2], 0)[0])
    assert np.isnan(diebold_mariano(np.zeros(9), 1)[0])


def test_diebold_mariano_keeps_its_level_under_overlap():
    rng = np.random.default_rng(1)
    p = [diebold_mariano(np.convolve(rng.normal(size=63), np.ones(4), "valid"), 3)[1] for _ in range(500)]
    assert np.mean(np.array(p) < 0.05) < 0.11


# --- other data, lags and windows ----------------------------------------------------------------------------------


def test_lag_rows_equal_single_calls():
    panel, events = market(12)
    table = lag_sensitivity(panel, events["planted", "recovery"], PARAMS, [0, 4])
    assert table["lag_days"].tolist() == [0, 1, 4]
    returns = np.log(panel["price_usd"]).diff(90).shift(-94).dropna()
    own = returns[returns.index.isin(events["planted", "recovery"])].mean() - returns.mean()
    assert table["excess_log"].iloc[2] == pytest.approx(own)


def test_heat_map_is_the_grid(simulated_panel):
    grid = window_grid(simulated_panel, PARAMS, [20, 30], [40, 60])
    matrix = as_heat_map(grid)
    assert matrix.shape == (2, 2)
    assert grid["chosen"].sum() == 1
    row = grid[grid["chosen"]].iloc[0]
    assert matrix.loc[60, 30] == row["excess_log"]
    _, days = primary_days(simulated_panel, PARAMS)
    alone = excess_of(simulated_panel, days, 90, 1, PARAMS.sample_start)
    assert row["n_events"] == alone["n_events"] > 0
    assert (row["excess_log"], row["p_rotation"]) == pytest.approx((alone["excess_log"], alone["p_rotation"]))


def test_the_chosen_pair_joins_a_grid_without_it(simulated_panel):
    grid = window_grid(simulated_panel, PARAMS, [10], [50], anchor="start")
    assert list(zip(grid["fast_days"], grid["slow_days"], strict=True)) == [(10, 50), (30, 60)]


def test_providers_that_agree_and_one_without_price(simulated_panel):
    bare = simulated_panel.assign(price_usd=np.nan)
    late = simulated_panel.loc["2016-01-01":]
    table = provider_sensitivity({"a": simulated_panel, "bare": bare, "late": late}, PARAMS).set_index("provider")
    assert table["price_source"].tolist() == ["a", "a", "late"]
    assert (table["start"] == pd.Timestamp("2016-01-01")).all()
    assert table.loc["bare", "excess_log"] == table.loc["a", "excess_log"]
    assert (table["share_equal_state"] == 1).all()
    assert table.loc["a", "same_days"] == table.loc["a", "near_days"] >= table.loc["late", "same_days"] > 0


# --- on the real files ---------------------------------------------------------------------------------------------


def test_cutting_the_real_file_changes_no_past_forecast(real_panel):
    whole = prequential(real_panel, primary_days(real_panel, PARAMS)[1], PARAMS)
    assert len(whole) > 20
    cuts = np.random.default_rng(5).integers(1900, len(real_panel), 200)
    for cut in cuts:
        panel = real_panel.iloc[:cut]
        part = prequential(panel, primary_days(panel, PARAMS)[1], PARAMS)
        past = whole[whole["date"] <= panel.index[-1]].reset_index(drop=True)
        columns = ["date", "n_earlier", "forecast", "baseline"]
        pd.testing.assert_frame_equal(part[columns], past[columns], check_exact=True)


def test_real_providers_agree_on_the_state(real_panel, data_folder):
    from capitulation.data.providers import blockchain_com

    files = {path.name: path.read_bytes() for path in (data_folder / "blockchain_com").glob("*.json")}
    params = make_params({"sample_start": "2018-01-01"})
    table = provider_sensitivity({"coinmetrics": real_panel, "blockchain_com": blockchain_com.parse(files)}, params)
    other = table.set_index("provider").loc["blockchain_com"]
    assert other["share_equal_state"] > 0.999
    assert other["near_days"] >= 0.9 * table.loc[0, "same_days"]


def test_real_curve_and_family(real_panel):
    from capitulation.episodes import all_episodes
    from capitulation.mining.rules import all_rule_states
    from capitulation.study.events import event_days

    states = all_rule_states(real_panel, PARAMS)
    events = event_days(all_episodes(real_panel, PARAMS, states), states)
    curve = specification_curve(real_panel, events, PARAMS, [], [1])
    assert len(curve) == 10 * 4 * 2
    family = family_table(real_panel, events, PARAMS)
    assert family["p_family"].min() > 0.05  # no rule stands out once all are counted
    primary = family[(family["definition"] == "hash_ribbons") & (family["anchor"] == "recovery")].iloc[0]
    row = curve[
        (curve["definition"] == "hash_ribbons") & (curve["anchor"] == "recovery") & (curve["horizon_days"] == 90)
    ]
    assert primary["excess_log"] == pytest.approx(row["excess_log"].iloc[0])
    assert primary["p_rotation"] == pytest.approx(row["p_rotation"].iloc[0])


def test_primary_days_are_those_of_the_episode_table(real_panel):
    params = make_params({"primary_anchor": "buy"})
    state, days = primary_days(real_panel, params)
    episodes = find_episodes(state["in_state"], state["known"])
    episodes["buy_date"] = buy_dates(real_panel, episodes)
    pd.testing.assert_index_equal(days, anchor_days(episodes, state, "buy"))
    assert specification.SAMPLE_STARTS[1] == params.sample_start
