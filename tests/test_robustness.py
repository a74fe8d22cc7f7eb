"""Robustness: slow independent versions, closed forms, planted effects that must be found and noise that must not."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from capitulation.data.sources import PROVIDERS
from capitulation.mining.difficulty import era_of
from capitulation.mining.episodes import apply_rules, runs
from capitulation.mining.hashrate import rolling_mean
from capitulation.study import robustness as rob
from capitulation.study.chance import max_rotation_test, rotation_test
from capitulation.study.events import beside_any_day
from capitulation.study.returns import event_marks, outcomes, own_era_excess
from capitulation.study.tables import family_table

N, HORIZONS = 1500, (30, 90)


def market(seed: int = 0, effect: float = 0.0, n_events: int = 12) -> tuple[pd.DataFrame, dict]:
    """A random walk since 2014 whose drift rises by `effect` a day in the 90 days after each event (lag 1)."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0005, 0.03, N)
    at = np.sort(rng.choice(np.arange(20, N - 100), n_events, replace=False))
    for row in at:
        steps[row + 2 : row + 92] += effect
    index = pd.date_range("2014-01-01", periods=N, name="date")
    panel = pd.DataFrame({"price_usd": 100 * np.exp(np.cumsum(steps)), "height": 280e3 + 144.0 * np.arange(N)}, index)
    others = {("noise", str(i)): index[np.sort(rng.choice(N, n_events, replace=False))] for i in range(6)}
    return panel, {("planted", "recovery"): index[at], **others}


def planted(seed: int = 0, **how) -> tuple[pd.DataFrame, pd.DatetimeIndex]:
    panel, events = market(seed, **how)
    return panel, events["planted", "recovery"]


def test_curve_holds_every_choice_and_each_equals_the_test_made_alone():
    panel, events = market(3)
    silent = {**events, ("silent", "start"): panel.index[:0]}
    curve = rob.specification_curve(panel, silent, HORIZONS, 5, "2015-01-01")
    choices = itertools.product(HORIZONS, {*rob.CURVE_LAGS, 5}, {*rob.SAMPLE_STARTS, "2015-01-01"})
    samples = [outcomes(panel, days, lag, start).index for days, lag, start in choices]
    assert len(curve) == sum(event_marks(index, days).any() for index in samples for days in events.values()) > 200
    assert curve["excess_log"].is_monotonic_increasing
    assert curve["rank"].tolist() == list(range(1, len(curve) + 1))
    for row in curve.iloc[::17].itertuples():
        returns = outcomes(panel, row.horizon_days, row.lag_days, row.sample_start)
        alone = beside_any_day(returns, events[row.definition, row.anchor], row.horizon_days)
        names = ("n_events", "n_clusters", "excess_log", "p_rotation")
        assert [getattr(row, name) for name in names] == pytest.approx([alone[name] for name in names], abs=1e-12)
        assert (row.base_log, row.mean_log) == pytest.approx((returns.mean(), returns.mean() + alone["excess_log"]))
    assert rob.specification_curve(panel, {("silent", "start"): panel.index[:0]}).empty


def test_curve_test_equals_brute_force_finds_a_planted_effect_and_keeps_its_level():
    panel, events = market(1, effect=0.01)
    found = rob.curve_test(panel, events, HORIZONS)
    z = []
    for horizon, lag in itertools.product(HORIZONS, rob.CURVE_LAGS):
        returns = np.log(panel["price_usd"]).diff(horizon).shift(-horizon - lag).to_numpy()
        centred = np.nan_to_num(returns - np.nanmean(returns))
        for days in events.values():
            marks = panel.index.isin(days)
            sums = np.array([centred[np.roll(marks, k)].sum() for k in range(N)])
            z.append(sums / sums.std())
    shares = (np.array(z) > 0).mean(axis=0)
    assert (found.n_specifications, found.share_above) == (7 * 2 * 4, shares[0])
    assert found.p_share == (shares >= shares[0]).mean()
    assert found.median_z == pytest.approx(np.median(z, axis=0)[0], abs=1e-9)
    assert rob.curve_test(panel, {("planted", "recovery"): events["planted", "recovery"]}).p_median < 0.02
    p = np.array([rob.curve_test(*market(seed), HORIZONS).p_median for seed in range(40)])
    assert 0.3 < p.mean() < 0.7 and (p < 0.1).mean() <= 0.25
    nothing = rob.curve_test(panel, {("silent", "start"): panel.index[:0]})
    assert nothing.n_specifications == 0 and np.isnan(nothing.p_median)


def test_the_family_ranks_the_planted_rule_first_and_charges_for_the_others():
    panel, events = market(2, effect=0.01)
    found = family_table(panel, events)
    best, alone = found.iloc[0], rotation_test(outcomes(panel, 90), events["planted", "recovery"])
    assert (best["definition"], best["n_family"]) == ("planted", 7)
    assert best[["excess_log", "p_rotation"]].tolist() == pytest.approx([alone.excess, alone.p], abs=1e-12)
    assert (found["p_family"] >= found["p_rotation"] - 1e-12).all() and best["p_family"] < 0.05
    # The deciding columns are the same test on the own-era excess.
    own = own_era_excess(panel["price_usd"], era_of(panel.index, panel), 90)
    marks = np.array([event_marks(own.index, days) for days in events.values()])
    names = list(zip(found["definition"], found["anchor"], strict=True))
    order, family = [names.index(name) for name in events], max_rotation_test(own, marks)
    np.testing.assert_allclose(found["p_family_own_era"].iloc[order], family.p_family)
    alone = rotation_test(own, events["planted", "recovery"])
    assert best[["excess_own_era", "p_own_era"]].tolist() == pytest.approx([alone.excess, alone.p], abs=1e-12)


def test_a_family_names_twins_and_without_outcomes_says_nothing():
    panel, events = market(2)
    silent = {("silent", str(i)): panel.index[:0] for i in range(2)}
    twins = {**events, ("twin", "recovery"): events["planted", "recovery"], **silent}
    found = family_table(panel, twins).set_index(["definition", "anchor"])["same_as"]
    assert found[found != ""].to_dict() == {("twin", "recovery"): "planted"}
    nothing = family_table(panel, twins, since="2018-01-20")
    assert (nothing["n_events"] == 0).all() and nothing[["p_rotation", "p_family_own_era"]].isna().all(axis=None)
    grid = rob.window_grid(panel.assign(hash_rate_ehs=1.0), 2, 3, since="2018-01-20", pairs=[(2, 9)])
    assert (grid["n_events"] == 0).all() and grid["p_family"].isna().all()


def test_providers_that_agree_and_one_without_price(simulated_panel):
    bare, late = simulated_panel.assign(price_usd=np.nan), simulated_panel.loc["2016-01-01":]
    table = rob.provider_sensitivity({"a": simulated_panel, "bare": bare, "late": late}).set_index("provider")
    assert table["price_source"].tolist() == ["a", "a", "late"]
    assert (table["start"] == pd.Timestamp("2016-01-01")).all()
    assert table.loc["bare", "excess_log"] == table.loc["a", "excess_log"]
    assert (table["share_equal_state"] == 1).all()
    assert table.loc["a", "same_days"] == table.loc["a", "near_days"] >= table.loc["late", "same_days"] > 0


def test_real_providers_agree_on_the_state(real_panel, data_folder):
    files = {path.name: path.read_bytes() for path in (data_folder / "blockchain_com").glob("*.json")}
    panels = {"coinmetrics": real_panel, "blockchain_com": PROVIDERS["blockchain_com"].parse(files)}
    table = rob.provider_sensitivity(panels, since="2018-01-01").set_index("provider")
    assert table.loc["blockchain_com", "share_equal_state"] > 0.999
    assert table.loc["blockchain_com", "near_days"] >= 0.9 * table.loc["coinmetrics", "same_days"]


def day_by_day(panel, days, horizon, lag):
    """The forecasts from the price known on each day and nothing else."""
    for day in days:
        known = panel["price_usd"].loc[:day]
        ends = known.index - pd.Timedelta(days=lag + horizon)
        past = {s: np.log(known.iloc[i] / known[s + pd.Timedelta(days=lag)]) for i, s in enumerate(ends) if s in known}
        mine = [past[s] for s in days if s in past]
        yield np.mean(mine) if len(mine) >= rob.MIN_EARLIER else np.nan, pd.Series(past, dtype=float).mean()


def test_prequential_equals_a_day_by_day_version_and_leaves_open_what_is_open():
    panel, days = planted(7)
    days = days.append(panel.index[[-5]])
    table = rob.prequential(panel, days, 30)
    np.testing.assert_allclose(table[["forecast", "baseline"]], list(day_by_day(panel, days, 30, 1)), atol=1e-9)
    np.testing.assert_allclose(table["outcome"], np.log(panel["price_usd"]).diff(30).shift(-31).reindex(days))
    last = table.iloc[-1]
    assert np.isfinite(last["forecast"]) and np.isnan(last["outcome"]) and last["better"] is pd.NA


def test_score_by_hand_and_of_moved_signals():
    panel, days = planted(9)
    panel = panel.iloc[:700]
    days = days[days <= panel.index[-1]]

    def errors(signals):
        table = rob.prequential(panel, signals, 30).dropna()
        return [(table[name] - table["outcome"]) ** 2 for name in ("forecast", "baseline")]

    (own, plain), score = errors(days), rob.prequential_score(panel, days, 30)
    assert score.n == len(own) >= 3 and score.share_better == (own < plain).mean()
    assert score.r2 == pytest.approx(1 - own.mean() / plain.mean())
    rows, moved = panel.index.get_indexer(days), []
    for shift in range(700):
        own, plain = errors(panel.index[(rows + shift) % 700])
        moved.append(1 - own.sum() / plain.sum() if len(own) else np.nan)
    moved = np.array(moved)[~np.isnan(moved)]
    assert score.p_rotation == pytest.approx((moved >= moved[0] - 1e-12).mean())


def test_a_lasting_effect_is_forecast_noise_is_not_and_no_signal_has_no_score():
    strong = rob.prequential_score(*planted(11, effect=0.01, n_events=25))
    assert strong.r2 > 0 and strong.p_rotation < 0.05
    assert 0.3 < np.mean([rob.prequential_score(*planted(seed)).p_rotation for seed in range(30)]) < 0.7
    panel, _ = market()
    assert rob.prequential(panel, panel.index[:0]).empty
    assert rob.prequential_score(panel, panel.index[:2]).n == 0


def test_diebold_mariano_is_students_t_without_overlap_and_keeps_its_level_with_it():
    rng = np.random.default_rng(1)
    gain = rng.normal(0.2, 1, 40)
    peer = stats.ttest_1samp(gain, 0, alternative="greater")
    assert rob.diebold_mariano(gain, 0) == pytest.approx(peer.pvalue)
    assert np.isnan([rob.diebold_mariano(gain[:2], 0), rob.diebold_mariano(np.zeros(9), 1)]).all()
    p = [rob.diebold_mariano(np.convolve(rng.normal(size=63), np.ones(4), "valid"), 3) for _ in range(500)]
    assert np.mean(np.array(p) < 0.05) < 0.11


def test_cutting_the_real_file_changes_no_past_forecast(real_panel):
    days = apply_rules(real_panel).events["hash_ribbons", "recovery"]
    whole = rob.prequential(real_panel, days)
    for cut in np.random.default_rng(5).integers(1900, len(real_panel), 60):
        past = real_panel.iloc[:cut]
        part = rob.prequential(past, days[days <= past.index[-1]])
        kept = whole.loc[whole["date"] <= past.index[-1], list(whole.columns[:4])]
        pd.testing.assert_frame_equal(part[kept.columns], kept, check_exact=True)


def one_pair(signal, fast, slow):
    """Episodes of one pair through the library's one-at-a-time functions."""
    quick, calm = rolling_mean(signal, int(fast)), rolling_mean(signal, int(slow))
    return runs((quick < calm).astype("boolean").mask(quick.isna() | calm.isna()))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.sampled_from([0, 0.1, 0.4]), st.integers(20, 120))
def test_recoveries_of_all_pairs_equal_the_runs_of_each_with_missing_days(seed, slow, share_missing, n):
    rng = np.random.default_rng(seed)
    signal = pd.Series(np.exp(rng.normal(0, 0.03, n).cumsum()), pd.date_range("2014-01-01", periods=n))
    signal = signal.mask(rng.random(n) < share_missing)
    # Where just the days by which two windows differ are missing, their means tie but for rounding.
    pairs = [(fast, slow) for fast in range(1, slow) if fast < 0.9 * slow or not share_missing] + [(5, 1000)]
    for pair, marks in zip(pairs, rob.recovery_marks(signal, pairs), strict=True):
        assert signal.index[marks].tolist() == one_pair(signal, *pair)["end"].dropna().tolist()
    with pytest.raises(ValueError, match=r"\(9, 9\)"):
        rob.recovery_marks(signal, [(1, 2), (9, 9)])


def test_window_grid_equals_the_single_test_and_the_family_test():
    panel, _ = market(7)
    panel["hash_rate_ehs"], returns, marks = market(8)[0]["price_usd"], outcomes(panel, 60, 1, "2014-03-01"), []
    pairs = [(20, 40), (2, 10), (2, 1000), (2, 40), (11, 40)]
    table = rob.window_grid(panel, 11, 47, 60, 1, "2014-03-01", pairs=pairs)
    assert table[["fast_days", "slow_days"]].to_numpy().tolist() == [
        *([2, 10], [2, 40], [11, 40], [20, 40], [11, 47], [2, 1000])
    ]
    assert table["chosen"].tolist() == [False] * 4 + [True, False]
    for row in table.itertuples():
        ends = one_pair(panel["hash_rate_ehs"], row.fast_days, row.slow_days)["end"]
        marks.append(event_marks(returns.index, ends))
        alone = rotation_test(returns, ends)
        assert (row.n_events, row.excess_log, row.p_rotation) == pytest.approx(
            (alone.n, alone.excess, alone.p), nan_ok=True
        )
    family = max_rotation_test(returns, np.array(marks))
    np.testing.assert_allclose(table["z"], family.z, atol=1e-9)
    np.testing.assert_allclose(table["p_family"], family.p_family, atol=1e-12)
