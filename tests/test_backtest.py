"""Backtest: known answers, an established backtester on random signals, and random entry sets that are really fair."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capitulation import contract
from capitulation.errors import DataError
from capitulation.params import Params, make_params
from capitulation.study.backtest import (
    Costs,
    executed_rows,
    hold_position,
    log_equity,
    marks,
    run_position,
    run_strategy,
    until_position,
)
from capitulation.study.performance import daily_returns, drawdowns, performance, skew_kurtosis
from capitulation.study.random_entries import random_entry_benchmark, random_stays, random_totals
from capitulation.study.strategies import (
    BUY_AND_HOLD,
    TABLE_COLUMNS,
    Variant,
    backtest_table,
    backtests,
    equity_curves,
    strategy_name,
    trial_sharpes,
    variants,
)

DAY = pd.Timedelta(days=1)


def walk(n: int, seed: int = 0, drift: float = 0.001) -> pd.Series:
    steps = np.random.default_rng(seed).normal(drift, 0.03, n)
    return pd.Series(100 * np.exp(np.cumsum(steps)), pd.date_range("2020-01-01", periods=n, name="date"))


def flags(n: int, seed: int, share: float = 0.4) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < share).astype("int8")


def loop_equity(price, position, fee, slippage):
    """The same rules with cash and coins, one day after the other."""
    cash, coins, values = 1.0, 0.0, []
    for p, wanted in zip(price, position, strict=True):
        if wanted and not coins:
            cash, coins = 0.0, cash / (p * (1 + slippage) * (1 + fee))
        elif not wanted and coins:
            cash, coins = coins * p * (1 - slippage) * (1 - fee), 0.0
        values.append(cash + coins * p)
    return np.array(values)


def loop_hold(n, rows, hold):
    position = np.zeros(n, dtype=int)
    for row in rows:
        position[row : row + hold] = 1
    return position


def loop_until(n, entries, exits):
    inside, position = 0, []
    for row in range(n):
        inside = 0 if row in exits else 1 if row in entries else inside
        position.append(inside)
    return np.array(position)


# --- the engine ----------------------------------------------------------------------------------------------------


def test_one_trade_by_hand():
    price = pd.Series([10.0, 20.0, 40.0, 30.0, 60.0], pd.date_range("2020-01-01", periods=5))
    run = run_strategy(price, [price.index[0]], hold_days=2, lag_days=1, fee_bps=100, slippage_bps=50)
    paid, got = 1 / (1.005 * 1.01), 0.995 * 0.99
    assert run.position.tolist() == [0, 1, 1, 0, 0]
    np.testing.assert_allclose(run.equity, [1, paid, 2 * paid, 1.5 * paid * got, 1.5 * paid * got], rtol=1e-14)
    trade = run.trades.iloc[0]
    assert (trade["entry"], trade["exit"], trade["days"], trade["open"]) == (price.index[1], price.index[3], 2, False)
    assert trade["simple_return"] == pytest.approx(1.5 * paid * got - 1, abs=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_equity_equals_cash_and_coins_day_by_day(seed):
    price, position = walk(400, seed), flags(400, seed + 100)
    run = run_position(price, position, Costs(10, 5))
    np.testing.assert_allclose(run.equity, loop_equity(price, position, 0.001, 0.0005), rtol=1e-12)


@pytest.mark.parametrize(("seed", "fee", "slippage"), [(1, 0.0, 0.0), (2, 10.0, 0.0), (3, 10.0, 5.0), (4, 0.0, 50.0)])
def test_engine_equals_the_backtester_bt_on_random_signals(seed, fee, slippage):
    bt = pytest.importorskip("bt", reason="needs the test extra: bt")
    price, position = walk(500, seed), flags(500, seed, 0.1 + 0.2 * seed)
    buy, sell = (1 + fee * 1e-4) * (1 + slippage * 1e-4) - 1, 1 - (1 - fee * 1e-4) * (1 - slippage * 1e-4)
    weights = pd.DataFrame({"btc": position.astype(float)}, index=price.index)
    # bt may trade a sliver each day to keep the weight at one: only a change of signal trades here.
    changed = set(price.index[np.diff(position, prepend=0) != 0])
    strategy = bt.Strategy("peer", [bt.algos.RunOnDate(*changed), bt.algos.WeighTarget(weights), bt.algos.Rebalance()])
    peer = bt.Backtest(
        strategy,
        price.to_frame("btc"),
        initial_capital=1e6,
        integer_positions=False,
        commissions=lambda q, p: abs(q) * p * (buy if q > 0 else sell),
        progress_bar=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bt.run(peer)
    theirs = peer.strategy.prices.loc[price.index] / 100
    ours = run_position(price, position, Costs(fee, slippage)).equity
    assert theirs.std() > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 60), st.lists(st.integers(0, 59), max_size=12), st.lists(st.integers(0, 59), max_size=12), st.data()
)
def test_positions_equal_a_loop_over_days(n, entries, exits, data):
    entries, exits = np.unique([e for e in entries if e < n]), np.unique([e for e in exits if e < n])
    entries, exits = entries.astype(int), exits.astype(int)
    hold = data.draw(st.integers(1, 30))
    assert (hold_position(n, entries, hold) == loop_hold(n, entries, hold)).all()
    assert (until_position(n, entries, exits) == loop_until(n, set(entries), set(exits))).all()


def test_signals_trade_lag_days_later_and_outside_ones_fall_out():
    index = pd.date_range("2020-01-01", periods=10)
    days = [index[0] - DAY, index[0], index[7], index[8], index[9], index[9] + DAY]
    assert executed_rows(index, days, 2).tolist() == [2, 9]


def test_a_missing_price_is_neither_traded_nor_valued():
    index = pd.date_range("2020-01-01", periods=6)
    price = pd.Series([10.0, np.nan, 20.0, np.nan, 40.0, 80.0], index)
    run = run_strategy(price, [index[0]], hold_days=2, lag_days=1)  # wanted: buy on the 2nd, sell on the 4th
    assert run.position.tolist() == [0, 0, 1, 1, 0, 0]
    np.testing.assert_allclose(run.equity, [1, 1, 1, 1, 2, 2])
    assert run.trades[["price_entry", "price_exit"]].to_numpy().round(9).tolist() == [[20.0, 40.0]]


def test_the_future_changes_no_past_equity():
    price, days = walk(300, 3), [walk(300).index[i] for i in (20, 90, 200)]
    whole = run_strategy(price, days, hold_days=40, fee_bps=10).equity
    for cut in (25, 91, 150, 230):
        part = run_strategy(price.iloc[:cut], days, hold_days=40, fee_bps=10).equity
        pd.testing.assert_series_equal(part, whole.iloc[:cut], check_freq=False)


def test_a_trade_still_open_counts_at_the_last_price_without_the_sale():
    price = walk(50)
    run = run_strategy(price, [price.index[10]], exit_days=[price.index[0]], lag_days=1, fee_bps=100)
    trade = run.trades.iloc[0]
    assert trade["open"]
    assert pd.isna(trade["exit"])
    assert trade["simple_return"] == pytest.approx(price.iloc[-1] / price.iloc[11] / 1.01 - 1)


def test_wrong_calls_are_refused():
    price = walk(10)
    with pytest.raises(ValueError, match="either hold_days or exit_days"):
        run_strategy(price, [], hold_days=3, exit_days=[])
    with pytest.raises(ValueError, match="0 or 1"):
        run_position(price, np.full(10, 0.5))
    with pytest.raises(ValueError, match="positive"):
        run_position(price * -1, np.ones(10))
    with pytest.raises(ValueError, match="at least 1"):
        hold_position(10, np.array([1]), 0)
    with pytest.raises(ValueError, match="known value"):
        run_strategy(price * np.nan, [], hold_days=3)


def test_log_equity_takes_many_strategies_at_once():
    price = walk(200)
    positions = np.array([flags(200, seed) for seed in range(7)])
    together = log_equity(marks(price.to_numpy()), positions, Costs(10, 5))
    for row, position in zip(together, positions, strict=True):
        np.testing.assert_allclose(np.exp(row), run_position(price, position, Costs(10, 5)).equity, rtol=1e-12)


# --- figures of merit ----------------------------------------------------------------------------------------------


def test_performance_of_a_year_at_known_rates():
    equity = np.concatenate([[1.0], np.cumprod(np.where(np.arange(365) % 2, 1.02, 0.99))])
    result = performance(equity, np.ones(366), [0.1, -0.2, 0.3, 0.0])
    returns = np.where(np.arange(365) % 2, 0.02, -0.01)
    assert result["cagr"] == pytest.approx(equity[-1] - 1)
    assert result["volatility"] == pytest.approx(returns.std(ddof=1) * 365**0.5)
    assert result["sharpe"] == pytest.approx(returns.mean() / returns.std(ddof=1) * 365**0.5)
    downside = np.sqrt((returns[returns < 0] ** 2).sum() / 365)
    assert result["sortino"] == pytest.approx(returns.mean() / downside * 365**0.5)
    assert result["max_drawdown"] == pytest.approx(-0.01)
    assert result["calmar"] == pytest.approx(result["cagr"] / 0.01)
    assert (result["exposure"], result["n_trades"], result["hit_rate"]) == (1.0, 4, 0.5)


def test_buy_and_hold_is_the_price():
    price = walk(731, 5)
    result = run_position(price, np.ones(731)).performance()
    assert result["cagr"] == pytest.approx((price.iloc[-1] / price.iloc[0]) ** 0.5 - 1)
    assert result["max_drawdown"] == pytest.approx((price / price.cummax() - 1).min())
    assert result["volatility"] == pytest.approx(price.pct_change().std() * 365**0.5)


def test_first_day_costs_are_in_the_first_return_and_never_lost():
    run = run_position(pd.Series([5.0, 5.0, 5.0], pd.date_range("2020-01-01", periods=3)), np.ones(3), Costs(100))
    assert np.prod(1 + daily_returns(run.equity)) == pytest.approx(1 / 1.01)
    assert drawdowns(run.equity).tolist() == pytest.approx([0.0, 1 / 1.01 - 1, 1 / 1.01 - 1])


def test_a_flat_curve_has_no_ratio():
    result = performance(np.ones(100), np.zeros(100))
    assert (result["cagr"], result["volatility"], result["exposure"], result["n_trades"]) == (0, 0, 0, 0)
    assert np.isnan([result["sharpe"], result["sortino"], result["calmar"], result["hit_rate"]]).all()
    with pytest.raises(ValueError, match="positive"):
        performance([1.0, 0.0], [1, 1])


def test_moments_equal_scipy():
    from scipy import stats

    sample = np.random.default_rng(1).gamma(2.0, size=500)
    assert skew_kurtosis(sample) == pytest.approx((stats.skew(sample), stats.kurtosis(sample, fisher=False)))


# --- random entries ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(0, 60), st.integers(0, 2**31 - 1))
def test_random_stays_keep_number_lengths_and_exposure(lengths, spare, seed):
    n_days = sum(lengths) + len(lengths) - 1 + spare
    first, length = random_stays(n_days, lengths, 20, np.random.default_rng(seed))
    assert (np.sort(length, axis=1) == np.sort(lengths)).all()
    assert (first >= 0).all()
    assert (first + length <= n_days).all()
    assert (first[:, 1:] > (first + length)[:, :-1]).all()


def test_a_single_random_stay_falls_evenly_on_every_place():
    first, _ = random_stays(12, [3], 40_000, np.random.default_rng(0))
    counts = np.bincount(first[:, 0], minlength=10)
    assert len(counts) == 10
    assert ((counts - 4000) ** 2 / 4000).sum() < 27.9  # chi-square, 9 degrees of freedom: exceeded once in a thousand


def test_random_totals_equal_the_price_over_each_stay():
    log_price = np.log(walk(100).to_numpy())
    first, length = random_stays(99, [5, 9], 300, np.random.default_rng(4))
    position = np.zeros((300, 100))
    for row, (f, n) in enumerate(zip(first, length, strict=True)):
        for begin, days in zip(f, n, strict=True):
            position[row, begin : begin + days] = 1
    expected = log_equity(log_price, position, Costs())[:, -1]
    np.testing.assert_allclose(random_totals(log_price, [5, 9], 300, np.random.default_rng(4)), expected, atol=1e-12)


def test_perfect_timing_beats_every_random_set_and_the_worst_none():
    steps = np.full(300, -0.01)
    steps[100:150] = 0.02
    log_price = np.concatenate([[0.0], np.cumsum(steps)])
    best = np.zeros(301)
    best[100:150] = 1
    result = random_entry_benchmark(log_price, best, 500)
    assert result.share_beaten > 0.99
    assert result.p_rotation == pytest.approx(1 / 300)
    assert result.observed == pytest.approx(1.0)
    assert random_entry_benchmark(-log_price, best, 500).share_beaten < 0.01


def test_random_timing_is_beaten_half_the_time():
    price = np.log(walk(800, 9).to_numpy())
    shares = []
    for seed in range(60):
        position = np.zeros(800)
        first, length = random_stays(799, [40, 40, 40], 1, np.random.default_rng(seed))
        for begin, days in zip(first[0], length[0], strict=True):
            position[begin : begin + days] = 1
        shares.append(random_entry_benchmark(price, position, 400, seed=1).share_beaten)
    assert 0.35 < np.mean(shares) < 0.65
    assert np.std(shares) > 0.2


@pytest.mark.parametrize("position", [np.zeros(50), np.ones(50)])
def test_never_or_always_in_the_market_leaves_nothing_to_compare(position):
    result = random_entry_benchmark(np.log(walk(50).to_numpy()), position, 100)
    assert np.isnan(result.share_beaten)
    assert np.isnan(result.p_rotation)


# --- the table -----------------------------------------------------------------------------------------------------

ROWS = {"start": (50, 400, 700), "recovery": (90, 460, 760), "buy": (95, 470, 790)}


@pytest.fixture
def market():
    panel = walk(1200, 2).to_frame("price_usd")
    panel.index = pd.date_range("2014-01-01", periods=1200, name="date")
    events = {("rule", anchor): panel.index[list(rows)] for anchor, rows in ROWS.items()}
    inside = np.concatenate([np.arange(a, b) for a, b in zip(ROWS["start"], ROWS["recovery"], strict=True)])
    events["rule", "in_state"] = panel.index[inside]
    events |= {("twin", anchor): days for (_, anchor), days in list(events.items())}
    events |= {("silent", anchor): panel.index[:0] for anchor in ("start", "recovery", "buy", "in_state")}
    return panel, events


PARAMS = make_params({"n_random_entries": 300})


def test_table_meets_the_contract_and_the_engine(market):
    panel, events = market
    table = backtest_table(panel, events, PARAMS)
    contract.check("backtest", table)
    assert list(table.columns) == list(TABLE_COLUMNS)
    assert table["strategy"].is_unique
    assert table["strategy"].iloc[0] == BUY_AND_HOLD
    row = table.set_index("strategy").loc["rule_recovery_hold_90d"]
    run = run_strategy(panel["price_usd"], events["rule", "recovery"], 90, fee_bps=10, slippage_bps=5)
    for name, value in run.performance().items():
        assert row[name] == pytest.approx(value, rel=1e-12)
    until = run_strategy(
        panel["price_usd"], events["rule", "recovery"], exit_days=events["rule", "start"], fee_bps=10, slippage_bps=5
    )
    assert table.set_index("strategy").loc["rule_recovery_until_start", "cagr"] == until.performance()["cagr"]


def test_every_variant_is_a_trial_but_equal_ones_count_once_and_idle_ones_not(market):
    panel, events = market
    table = backtest_table(panel, events, PARAMS).set_index("strategy")
    trials = trial_sharpes(panel["price_usd"], events, PARAMS)
    assert len(trials) == len(variants(["rule", "twin", "silent"], [*PARAMS.horizons_days, 90])) == 3 * (4 * 6 + 3)
    assert trials[trials.index.str.startswith("silent")].isna().all()
    assert (table["n_trials"] == trials[trials.index.str.startswith("rule")].round(12).nunique()).all()
    assert np.isnan(
        table.loc["silent_buy_hold_90d", ["sharpe", "deflated_sharpe", "share_of_random_beaten"]].astype(float)
    ).all()


def test_deflated_sharpe_falls_with_more_trials(market):
    from capitulation.study.multiple import probabilistic_sharpe
    from capitulation.study.performance import sharpe

    panel, events = market
    run = next(run for variant, run in backtests(panel, events, PARAMS) if variant and variant.anchor == "buy")
    returns = daily_returns(run.equity)
    single = probabilistic_sharpe(sharpe(returns), 0.0, len(returns), *skew_kurtosis(returns))
    table = backtest_table(panel, events, PARAMS).set_index("strategy")
    assert 0 < table.loc["rule_buy_hold_90d", "deflated_sharpe"] < single


def test_signals_before_the_sample_do_not_count(market):
    panel, events = market
    late = make_params({"n_random_entries": 100, "sample_start": "2015-06-01"})
    table = backtest_table(panel, events, late, definitions=["rule"]).set_index("strategy")
    assert table.loc["rule_recovery_hold_90d", "n_trades"] == 1
    assert table.loc[BUY_AND_HOLD, "start"] == pd.Timestamp("2015-06-01")
    with pytest.raises(DataError, match="sample_start=2020-01-01"):
        backtest_table(panel, events, make_params({"sample_start": "2020-01-01"}))


def test_names_of_strategies():
    assert strategy_name(Params()) == "hash_ribbons_recovery_hold_90d"
    assert Variant("r", "start", None).name == "r_start_until_recovery"
    assert [v.exit for v in variants(["r"], [30]) if v.anchor == "in_state"] == ["hold_30d"]


def test_equity_curves_stand_side_by_side(market):
    panel, events = market
    curves = equity_curves(backtests(panel, events, PARAMS, ["rule"]))
    assert list(curves.columns[:2]) == [BUY_AND_HOLD, "rule_start_hold_90d"]
    assert curves.shape == (1200, 8)
    assert curves.notna().all().all()


def test_real_table_holds_every_rule_and_the_known_growth_of_holding(real_panel):
    from capitulation.episodes import all_episodes
    from capitulation.mining.rules import all_rule_states
    from capitulation.study.events import event_days

    params = make_params({"as_of": "2026-01-20", "n_random_entries": 500})
    panel = real_panel.loc[: params.as_of]
    states = all_rule_states(panel, params)
    events = event_days(all_episodes(panel, params, states), states)
    table = backtest_table(panel, events, params).set_index("strategy")
    price = panel.loc["2014-01-01":, "price_usd"]
    growth = (price.iloc[-1] / price.iloc[0] / (1.0005 * 1.001)) ** (365 / (len(price) - 1)) - 1
    assert table.loc[BUY_AND_HOLD, "cagr"] == pytest.approx(growth)
    assert len(table) == 71
    assert table.loc[strategy_name(params), "share_of_random_beaten"] < 0.95
    assert (table["deflated_sharpe"].dropna().between(0, 1)).all()
    # The growth of the 30-day mean over 30 days is below zero exactly when the ribbons are inverted.
    twins = table.loc[["hash_ribbons_buy_hold_90d", "hash_rate_growth_30d_buy_hold_90d"], "cagr"]
    assert twins.iloc[0] == twins.iloc[1]
