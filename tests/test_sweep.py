"""Sweeps: the same answers as one pair at a time, as brute force, and wherever the pieces run."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capitulation.episodes import find_episodes
from capitulation.errors import InputError
from capitulation.mining.hash_rate import rolling_mean
from capitulation.mining.ribbons import ribbons
from capitulation.study.backtest import run_strategy
from capitulation.study.chunks import dask, dask_at, map_here, threads
from capitulation.study.forward_returns import forward_log_returns
from capitulation.study.rotation import max_rotation_test, rotation_test
from capitulation.study.sweep import (
    FASTS_PER_GROUP,
    crossings,
    pair_grid,
    pair_groups,
    pieces_of,
    sweep_inputs,
    window_means,
)
from capitulation.study.sweep_figures import sweep
from capitulation.study.sweep_rotation import sweep_rotation, transform_length

PAIRS = pair_grid(range(2, 30, 3), range(10, 60, 7))


def series(n: int = 900, seed: int = 0) -> tuple[pd.Series, pd.Series]:
    rng = np.random.default_rng(seed)
    index = pd.date_range("2014-01-01", periods=n, name="date")
    signal = pd.Series(50 * np.exp(np.cumsum(rng.normal(0.001, 0.03, n))), index)
    return signal, pd.Series(100 * np.exp(np.cumsum(rng.normal(0.001, 0.04, n))), index)


def slow_episodes(signal, fast, slow):
    """Episodes of one pair through the library's one-at-a-time functions."""
    fast_mean, slow_mean = rolling_mean(signal, int(fast)), rolling_mean(signal, int(slow))
    known = fast_mean.notna() & slow_mean.notna()
    return find_episodes((fast_mean < slow_mean) & known, known)


def check_pair(row, signal, price, horizons, lag, start, fee):
    """One row of a sweep against the episode finder, the backtest engine and forward returns."""
    episodes = slow_episodes(signal, row["fast_days"], row["slow_days"])
    ends = episodes["end"].dropna()
    assert (row["n_starts"], row["n_recoveries"]) == (len(episodes), len(ends))
    sample = price.loc[start:] if start else price
    run = run_strategy(sample, ends, exit_days=episodes["start"], lag_days=lag, fee_bps=fee)
    expected = run.performance()
    for name in ("n_trades", "total_return", "sharpe"):
        assert row[name] == pytest.approx(expected[name], rel=1e-9, abs=1e-9, nan_ok=True), name
    for horizon in horizons:
        returns = forward_log_returns(price, horizon, lag).loc[sample.index[0] :].dropna()
        mine = returns[returns.index.isin(ends)]
        assert row[f"n_events_{horizon}d"] == len(mine)
        assert row[f"mean_log_{horizon}d"] == pytest.approx(mine.mean(), abs=1e-12, nan_ok=True)
        assert row[f"excess_log_{horizon}d"] == pytest.approx(mine.mean() - returns.mean(), abs=1e-12, nan_ok=True)
        assert row[f"hit_rate_{horizon}d"] == pytest.approx((mine > 0).mean(), nan_ok=True)


# --- means and crossings -------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.floats(0.1, 1e6), st.just(float("nan"))), min_size=1, max_size=60), st.integers(1, 70))
def test_means_are_those_of_full_windows(values, days):
    expected = rolling_mean(pd.Series(values), days)
    np.testing.assert_allclose(window_means(values, [days])[0], expected, rtol=1e-7)


def test_grid_and_groups():
    assert pair_grid([3, 2, 2], [3]) == [(2, 3)]
    pairs = pair_grid(range(1, 300), [299, 300])
    groups = pair_groups([*pairs, *pairs[:5]])
    assert sum(len(fasts) for _, fasts in groups) == len(pairs)
    assert max(len(fasts) for _, fasts in groups) == FASTS_PER_GROUP
    assert [group for piece in pieces_of(groups, 200) for group in piece] == groups
    with pytest.raises(ValueError, match=r"\(9, 9\)"):
        pair_groups([(9, 9)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.floats(0, 0.4))
def test_crossings_equal_the_episode_finder_with_missing_days(seed, slow, share_missing):
    rng = np.random.default_rng(seed)
    signal, price = series(120, seed)
    signal = signal.mask(rng.random(120) < share_missing * (rng.random() < 0.7))
    fasts = tuple(range(1, slow))
    found = crossings(sweep_inputs(signal, price, [*fasts, slow]), (slow, fasts))
    for k, fast in enumerate(fasts):
        episodes = slow_episodes(signal, fast, slow)
        mine = found.pair == k
        assert price.index[found.start[mine]].tolist() == episodes["start"].tolist()
        ended = found.recovery[mine] < 120
        assert price.index[found.recovery[mine][ended]].tolist() == episodes["end"].dropna().tolist()
        assert (~ended).tolist() == episodes["ongoing"].tolist()


# --- figures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lag", "start", "fee"), [(0, "", 0.0), (1, "2014-06-01", 0.0), (3, "2015-01-01", 25.0)])
def test_every_pair_equals_the_library_one_at_a_time(lag, start, fee):
    signal, price = series(seed=lag)
    table = sweep(signal, price, PAIRS, [7, 90], lag, start, fee_bps=fee)
    assert len(table) == len(PAIRS)
    for _, row in table.iterrows():
        check_pair(row.to_dict(), signal, price, [7, 90], lag, start, fee)


def test_share_inverted_counts_days_of_the_sample():
    signal, price = series(seed=8)
    table = sweep(signal, price, [(5, 20)], sample_start="2015-01-01").iloc[0]
    inverted = (rolling_mean(signal, 5) < rolling_mean(signal, 20)).loc["2015-01-01":]
    assert table["share_inverted"] == pytest.approx(inverted.mean())


def test_late_price_and_missing_days_of_signal_and_price():
    signal, price = series(seed=4)
    signal.iloc[[300, 301, 500]] = np.nan
    price.iloc[:50] = np.nan
    table = sweep(signal, price, PAIRS, [30], 1)
    for _, row in table.iloc[::5].iterrows():
        check_pair(row.to_dict(), signal, price.dropna(), [30], 1, "", 0.0)
    gappy = price.mask(np.arange(900) % 97 == 96)
    with_gaps = sweep(signal, gappy, PAIRS, [30], 1)
    for _, row in with_gaps.iterrows():
        episodes = slow_episodes(signal, row["fast_days"], row["slow_days"])
        returns = forward_log_returns(gappy, 30, 1).loc[gappy.first_valid_index() :].dropna()
        assert row["n_events_30d"] == returns.index.isin(episodes["end"]).sum()
    assert (with_gaps["total_return"] - table["total_return"]).abs().median() < 0.5


def test_start_anchor_takes_starts():
    signal, price = series(seed=5)
    row = sweep(signal, price, [(4, 24)], [30], anchor="start").iloc[0]
    returns = forward_log_returns(price, 30, 1).dropna()
    assert row["mean_log_30d"] == pytest.approx(
        returns[returns.index.isin(slow_episodes(signal, 4, 24)["start"])].mean()
    )
    with pytest.raises(ValueError, match="anchor='buy'"):
        sweep(signal, price, [(4, 24)], anchor="buy")


def test_a_window_longer_than_the_series_never_crosses():
    signal, price = series(40)
    row = sweep(signal, price, [(5, 60)], [7]).iloc[0]
    assert (row["n_starts"], row["n_trades"], row["total_return"], row["n_events_7d"]) == (0, 0, 0, 0)
    assert np.isnan(row["sharpe"])
    assert np.isnan(row["mean_log_7d"])


def test_the_future_changes_no_past_crossing():
    signal, price = series(seed=6)
    group = (40, tuple(range(2, 30)))
    whole = crossings(sweep_inputs(signal, price, [*group[1], 40]), group)
    for cut in (200, 450, 700):
        part = crossings(sweep_inputs(signal.iloc[:cut], price.iloc[:cut], [*group[1], 40]), group)
        assert part.start.tolist() == whole.start[whole.start < cut].tolist()
        past = whole.recovery[whole.start < cut]
        assert part.recovery.tolist() == np.minimum(past, cut).tolist()


# --- rotation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_days", [900, 917])  # the sample then has 780 days, which is smooth, or 797, a prime
def test_rotation_equals_the_single_test_and_the_family_test(n_days):
    signal, price = series(n_days, seed=7)
    table = sweep_rotation(signal, price, PAIRS, 60, 1, "2014-03-01")
    returns = forward_log_returns(price, 60, 1).loc["2014-03-01":].dropna()
    marks = []
    for _, row in table.iterrows():
        marks.append(returns.index.isin(slow_episodes(signal, int(row["fast_days"]), int(row["slow_days"]))["end"]))
        alone = rotation_test(returns.to_numpy(), marks[-1])
        assert row["p_rotation"] == pytest.approx(alone.p_one_sided, abs=1e-12)
        assert row["excess_log"] == pytest.approx(alone.statistic, abs=1e-12)
    family = max_rotation_test(returns.to_numpy(), np.array(marks))
    np.testing.assert_allclose(table["z"], family.z, atol=1e-9)
    np.testing.assert_allclose(table["p_family"], family.p_family, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000))
def test_transforms_are_long_enough_and_free_of_large_primes(n):
    length = transform_length(n)
    assert length == n or length >= 2 * n - 1
    for prime in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47):
        while length % prime == 0:
            length //= prime
    assert length == 1


def test_rotation_of_a_pair_without_events_is_missing_not_zero():
    signal, price = series(300)
    table = sweep_rotation(signal, price, [(2, 10), (5, 400)], 30)
    assert table["n_events"].tolist()[1] == 0
    assert table.loc[1, ["excess_log", "z", "p_rotation", "p_family"]].isna().all()
    with pytest.raises(ValueError, match="consecutive days"):
        sweep_rotation(signal, price.mask(np.arange(300) == 150), [(2, 10)], 30)
    with pytest.raises(ValueError, match="consecutive days"):
        sweep_rotation(signal, price, [(2, 10)], 400)


# --- where it runs -------------------------------------------------------------------------------------------------


def test_threads_and_a_dask_cluster_give_the_same_bits():
    distributed = pytest.importorskip("distributed", reason="needs the dask extra")
    signal, price = series()
    pairs = pair_grid(range(2, 60), range(10, 120, 3))
    here = sweep(signal, price, pairs, [30], map_chunks=map_here)
    rotated = sweep_rotation(signal, price, pairs, 30)
    pd.testing.assert_frame_equal(sweep(signal, price, pairs, [30], map_chunks=threads(2)), here, check_exact=True)
    with distributed.Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        remote = dask(client)
        pd.testing.assert_frame_equal(sweep(signal, price, pairs, [30], map_chunks=remote), here, check_exact=True)
        again = sweep_rotation(signal, price, pairs, 30, map_chunks=remote)
        pd.testing.assert_frame_equal(again, rotated, check_exact=True)


class LostFuture:
    """A cluster whose every second piece is lost with its worker."""

    calls = 0

    def __init__(self, value):
        LostFuture.calls += 1
        self.value, self.lost = value, LostFuture.calls % 2 == 0

    def result(self):
        if self.lost:
            from concurrent.futures import CancelledError

            raise CancelledError
        return self.value


class LossyClient:
    def scatter(self, shared, broadcast):
        return shared

    def submit(self, work, shared, piece, **options):
        return LostFuture(work(shared, piece))


def test_lost_pieces_are_computed_here_and_errors_of_the_work_are_raised():
    pytest.importorskip("distributed", reason="needs the dask extra")
    results = list(dask(LossyClient())(lambda shared, piece: shared + piece, 10, [1, 2, 3, 4]))
    assert results == [11, 12, 13, 14]
    assert LostFuture.calls == 4
    with pytest.raises(ZeroDivisionError):
        list(dask(LossyClient())(lambda shared, piece: shared / piece, 1, [0]))


def test_an_address_without_a_scheduler_is_one_clear_line():
    pytest.importorskip("distributed", reason="needs the dask extra")
    with pytest.raises(InputError, match=r"DASK=tcp://127.0.0.1:9: no scheduler answers there") as caught:
        dask_at("tcp://127.0.0.1:9", timeout_seconds=0.5)
    assert "\n" not in str(caught.value)


# --- cost and the real files ---------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_pairs():
    import tracemalloc

    signal, price = series(2000)
    pairs = pair_grid(range(2, 60), range(100, 200))
    tracemalloc.start()
    sweep(signal, price, pairs, [30])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 0.6 * len(pairs) * 2000  # one byte per pair and day would already be more


def test_real_pairs_equal_the_ribbons(real_panel):
    signal, price = real_panel["hash_rate_ehs"], real_panel["price_usd"]
    pairs = [(30, 60), (14, 90), (5, 178), (10, 20)]
    table = sweep(signal, price, pairs, [90], 1, "2014-01-01")
    for _, row in table.iterrows():
        state = ribbons(real_panel, int(row["fast_days"]), int(row["slow_days"]))
        episodes = find_episodes(state["in_capitulation"], state["known"])
        # In 2009 difficulty was 1 and whole blocks make exact ties, which rounding decides: see `window_means`.
        assert row["n_starts"] == pytest.approx(len(episodes), abs=2)
        returns = forward_log_returns(price, 90, 1).loc["2014-01-01":].dropna()
        mine = returns[returns.index.isin(episodes["end"])]
        assert row["excess_log_90d"] == pytest.approx(mine.mean() - returns.mean(), abs=1e-12)
