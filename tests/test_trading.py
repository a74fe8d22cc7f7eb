"""Trading: known answers, cash and coins day by day, the backtester bt as judge, and random entries that are fair."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from capitulation.study import trading
from capitulation.study.chance import max_rotation_test, rotation_test


def walk(n: int, seed: int = 0, drift: float = 0.001, start: str = "2020-01-01") -> pd.Series:
    steps = np.random.default_rng(seed).normal(drift, 0.03, n)
    return pd.Series(100 * np.exp(np.cumsum(steps)), pd.date_range(start, periods=n, name="date"))


def flags(n: int, seed: int, share: float = 0.4) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < share).astype("int8")


def hold(price: pd.Series, position: np.ndarray, fee: float = 0.0, slippage: float = 0.0) -> trading.Backtest:
    """Backtest of a daily position of 0 and 1: bought where it rises, sold where it falls."""
    change = np.diff(position, prepend=0)
    bought, sold = price.index[change > 0], price.index[change < 0]
    return trading.backtest(price, bought, exits=sold, lag=0, fee_bps=fee, slippage_bps=slippage)


def cash_and_coins(price, position, fee, slippage):
    """The same rules with cash and coins, one day after the other."""
    cash, coins, values = 1.0, 0.0, []
    for p, wanted in zip(price, position, strict=True):
        if wanted and not coins:
            cash, coins = 0.0, cash / (p * (1 + slippage) * (1 + fee))
        elif not wanted and coins:
            cash, coins = coins * p * (1 - slippage) * (1 - fee), 0.0
        values.append(cash + coins * p)
    return np.array(values)


def test_one_trade_by_hand():
    price = pd.Series([10.0, 20.0, 40.0, 30.0, 60.0], pd.date_range("2020-01-01", periods=5))
    run = trading.backtest(price, [price.index[0], pd.NaT], hold_days=2, fee_bps=100, slippage_bps=50)
    paid, got = 1 / (1.005 * 1.01), 0.995 * 0.99
    assert run.position.tolist() == [0, 1, 1, 0, 0]
    np.testing.assert_allclose(run.equity, [1, paid, 2 * paid, 1.5 * paid * got, 1.5 * paid * got], rtol=1e-14)
    trade = run.trades.iloc[0]
    assert (trade["entry"], trade["exit"], trade["days"], trade["open"]) == (price.index[1], price.index[3], 2, False)
    assert trade["simple_return"] == pytest.approx(1.5 * paid * got - 1, abs=1e-14)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 80), st.integers(0, 10**6), st.floats(0, 0.02), st.floats(0, 0.02))
def test_equity_equals_cash_and_coins_and_trades_multiply_to_it(n, seed, fee, slippage):
    price, position = walk(n, seed), flags(n, seed + 1)
    run = hold(price, position, fee * 1e4, slippage * 1e4)
    np.testing.assert_allclose(run.equity, cash_and_coins(price, position, fee, slippage), rtol=1e-11)
    assert np.prod(1 + run.trades["simple_return"]) == pytest.approx(run.equity.iloc[-1])
    assert run.trades["days"].sum() == run.position.iloc[:-1].sum()


@pytest.mark.parametrize(("seed", "fee", "slippage"), [(1, 0.0, 0.0), (2, 10.0, 0.0), (3, 10.0, 5.0), (4, 0.0, 50.0)])
@pytest.mark.filterwarnings("ignore")
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
    bt.run(peer)
    theirs = peer.strategy.prices.loc[price.index] / 100
    assert theirs.std() > 0
    np.testing.assert_allclose(hold(price, position, fee, slippage).equity, theirs, rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 60), st.sets(st.integers(0, 59), max_size=12), st.sets(st.integers(0, 59), max_size=12),
    st.integers(1, 30), st.integers(0, 3),
)  # fmt: skip
def test_positions_equal_a_loop_over_days(n, entries, exits, hold, lag):
    index = pd.date_range("2020-01-01", periods=n)
    in_sample = [sorted(day for day in days if day < n) for days in (entries, exits)]
    held, inside, until = np.zeros(n, dtype=int), 0, []
    for day in in_sample[0]:
        held[day + lag : day + lag + hold] = 1
    for day in range(n):
        inside = 0 if day - lag in in_sample[1] else 1 if day - lag in in_sample[0] else inside
        until.append(inside)
    bought, sold = index[in_sample[0]], index[in_sample[1]]
    assert trading.signal_position(index, bought, hold, lag=lag).tolist() == held.tolist()
    assert trading.signal_position(index, bought, exits=sold, lag=lag).tolist() == until


def test_a_missing_price_is_neither_traded_nor_valued():
    index = pd.date_range("2020-01-01", periods=6)
    price = pd.Series([10.0, np.nan, 20.0, np.nan, 40.0, 80.0], index)
    run = trading.backtest(price, [index[0]], hold_days=2)  # wanted: buy on the 2nd, sell on the 4th
    assert run.position.tolist() == [0, 0, 1, 1, 0, 0]
    np.testing.assert_allclose(run.equity, [1, 1, 1, 1, 2, 2])
    assert run.trades[["price_entry", "price_exit"]].to_numpy().round(9).tolist() == [[20.0, 40.0]]


@pytest.mark.parametrize("cut", [25, 91, 150, 230])
def test_the_future_changes_no_past_equity(cut):
    price, days = walk(300, 3), walk(300).index[[20, 90, 200]]
    whole, part = (trading.backtest(p, days, hold_days=40, fee_bps=10).equity for p in (price, price.iloc[:cut]))
    pd.testing.assert_series_equal(part, whole.iloc[:cut], check_freq=False)


def test_a_trade_still_open_counts_at_the_last_price_without_the_sale():
    price = walk(50)
    trade = trading.backtest(price, [price.index[10]], exits=[price.index[0]], fee_bps=100).trades.iloc[0]
    assert trade["open"] and pd.isna(trade["exit"])
    assert trade["simple_return"] == pytest.approx(price.iloc[-1] / price.iloc[11] / 1.01 - 1)


def test_wrong_calls_are_refused():
    price = walk(10)
    for wrong, how in (("either hold_days or exits", {"hold_days": 3, "exits": []}), ("at least 1", {"hold_days": 0})):
        with pytest.raises(ValueError, match=wrong):
            trading.backtest(price, [], **how)
    for wrong, prices in (("known value", price * np.nan), ("positive", -price)):
        with pytest.raises(ValueError, match=wrong):
            trading.backtest(prices, [], hold_days=3)


def test_performance_of_a_year_at_known_rates():
    returns = np.where(np.arange(365) % 2, 0.02, -0.01)
    equity = np.concatenate([[1.0], np.cumprod(1 + returns)])
    result = trading.performance(equity, np.ones(366), pd.DataFrame({"simple_return": [0.1, -0.2, 0.3, 0.0]}))
    assert result["cagr"] == pytest.approx(equity[-1] - 1)
    assert result["volatility"] == pytest.approx(returns.std(ddof=1) * 365**0.5)
    assert result["sharpe"] == pytest.approx(returns.mean() / returns.std(ddof=1) * 365**0.5)
    downside = np.sqrt((returns[returns < 0] ** 2).sum() / 365)
    assert result["sortino"] == pytest.approx(returns.mean() / downside * 365**0.5)
    assert result["max_drawdown"] == pytest.approx(-0.01)
    assert result["calmar"] == pytest.approx(result["cagr"] / 0.01)
    assert (result["exposure"], result["n_trades"], result["hit_rate"]) == (1.0, 4, 0.5)


def test_buy_and_hold_is_the_price_and_the_first_day_costs_are_never_lost():
    price = walk(731, 5)
    result = trading.performance(*hold(price, np.ones(731)))
    assert result["cagr"] == pytest.approx((price.iloc[-1] / price.iloc[0]) ** 0.5 - 1)
    assert result["max_drawdown"] == pytest.approx((price / price.cummax() - 1).min())
    assert result["volatility"] == pytest.approx(price.pct_change().std() * 365**0.5)
    still = hold(pd.Series(5.0, price.index[:3]), np.ones(3), 100)
    assert np.prod(1 + trading.daily_returns(still.equity)) == pytest.approx(1 / 1.01)
    assert trading.performance(*still)["max_drawdown"] == pytest.approx(1 / 1.01 - 1)


def test_a_flat_curve_has_no_ratio():
    result = trading.performance(*hold(walk(100), np.zeros(100)))
    assert (result["cagr"], result["volatility"], result["exposure"], result["n_trades"]) == (0, 0, 0, 0)
    assert np.isnan([result["sharpe"], result["sortino"], result["calmar"], result["hit_rate"]]).all()
    assert np.isnan(trading.deflated_sharpe(np.zeros(100), [0.1, 0.2]))


def test_deflated_sharpe_of_the_papers_example():
    """Annual ratio 2.5, five years of 250 days, 100 trials of variance 1/2, skewness -3, kurtosis 10: two values do."""
    days, low = 1250, 105  # the share of low days that gives this skewness, and with it this kurtosis
    z = np.where(np.arange(days) < low, -np.sqrt((days - low) / low), np.sqrt(low / (days - low)))
    r = 2.5 / np.sqrt(250) * np.sqrt(days / (days - 1)) + z
    trials = np.sqrt(0.5 / 250 * 99 / 100) * np.where(np.arange(100) % 2, 1, -1)
    assert (stats.skew(r), stats.kurtosis(r, fisher=False)) == pytest.approx((-3, 10), abs=0.01)
    assert trading.deflated_sharpe(r, trials) == pytest.approx(0.9004, abs=0.001)


def test_deflated_sharpe_is_right_as_often_as_it_says_and_falls_with_more_trials():
    """One trial is none to be lucky with: among normal returns without skill its probability is uniform."""
    r = np.random.default_rng(1).normal(0, 1, (2000, 400))
    assert stats.kstest([trading.deflated_sharpe(row, [0.1]) for row in r], "uniform").pvalue > 0.01
    r, trials = np.random.default_rng(2).gamma(2.0, size=500) - 1.9, np.array([0.02, 0.05, -0.01, 0.08])
    many, few, one = (trading.deflated_sharpe(r, tried) for tried in (np.tile(trials, 20), trials, trials[:1]))
    assert many < few < one
    assert np.isnan(trading.deflated_sharpe(r, []))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(1, 8), st.integers(0, 2**31 - 1))
def test_random_stays_keep_number_lengths_and_exposure(lengths, spare, seed):
    """Each day's return is a power of two, so that a set's total names the days that it held."""
    n = sum(lengths) + len(lengths) - 1 + spare
    price = pd.Series(np.exp(np.append(0.0, np.cumsum(2.0 ** np.arange(n))) / 2**n * 100))
    held = np.concatenate([[*[1] * days, 0] for days in lengths] + [np.zeros(spare + 1)])[: n + 1]
    found = trading.random_entries(price, held, 20, seed)
    for total in np.round(found.random / 100 * 2**n).astype("int64"):
        days = np.array([total >> k & 1 for k in range(n)])
        edges = np.flatnonzero(np.diff(days, prepend=0, append=0))
        assert sorted(edges[1::2] - edges[::2]) == sorted(lengths)
    assert found.observed == pytest.approx(np.log(hold(price.set_axis(walk(n + 1).index), held).equity.iloc[-1]))
    assert found.share_beaten == (found.random < found.observed).mean() + (found.random == found.observed).mean() / 2


def test_perfect_timing_beats_every_random_set_the_worst_none_and_no_timing_is_not_compared():
    steps = np.full(300, -0.01)
    steps[100:150] = 0.02
    price = pd.Series(np.exp(np.concatenate([[0.0], np.cumsum(steps)])))
    best = np.zeros(301)
    best[100:150] = 1
    found = trading.random_entries(price, best, 500)
    assert found.share_beaten > 0.99 and found.observed == pytest.approx(1.0)
    assert trading.random_entries(1 / price, best, 500).share_beaten < 0.01
    for never_or_always in (0 * best, 0 * best + 1):
        nothing = trading.random_entries(price, never_or_always, 100)
        assert np.isnan(nothing.share_beaten) and not len(nothing.random)


ROWS = {"start": (50, 400, 700), "recovery": (90, 460, 760), "buy": (95, 470, 790)}
FEES = {"fee_bps": 10.0, "slippage_bps": 5.0}


@pytest.fixture
def market():
    panel = walk(1200, 2, start="2014-01-01").to_frame("price_usd")
    events = {("rule", anchor): panel.index[list(rows)] for anchor, rows in ROWS.items()}
    inside = np.concatenate([np.arange(a, b) for a, b in zip(ROWS["start"], ROWS["recovery"], strict=True)])
    events["rule", "in_state"] = panel.index[inside]
    events |= {("twin", anchor): days for (_, anchor), days in list(events.items())}
    events |= {("silent", anchor): panel.index[:0] for anchor in ("start", "recovery", "buy", "in_state")}
    return panel, events


def test_every_row_of_the_table_is_its_own_backtest(market):
    panel, events = market
    found = trading.strategies(panel, events, n_random=300)
    assert list(found.table.columns) == trading.TABLE_COLUMNS
    assert found.table["strategy"].tolist() == list(found.runs) == list(found.random)
    table = found.table.set_index("strategy")
    ways = {"hold_90d": {"hold_days": 90}, "until_start": {"exits": events["rule", "start"]}}
    for name, way in ways.items():
        run = trading.backtest(panel["price_usd"], events["rule", "recovery"], **way, **FEES)
        row = table.loc[f"rule_recovery_{name}"]
        assert row[list(trading.performance(*run))].tolist() == pytest.approx(list(trading.performance(*run).values()))
        pd.testing.assert_series_equal(found.runs[row.name].equity, run.equity)
    held = panel["price_usd"].iloc[-1] / panel["price_usd"].iloc[0] / 1.001 / 1.0005 - 1
    assert table.loc["buy_and_hold", "total_return"] == pytest.approx(held)
    own = trading.random_entries(panel["price_usd"], found.runs["rule_buy_hold_90d"].position, 300, 20260120)
    assert table.loc["rule_buy_hold_90d", "share_of_random_beaten"] == own.share_beaten


def test_timing_is_what_the_position_earned_over_the_same_exposure_with_its_own_rotation(market):
    panel, events = market
    found = trading.strategies(panel, events, n_random=100, confidence=0.8)
    table, steps = found.table.set_index("strategy"), np.log(panel["price_usd"]).diff().iloc[1:].to_numpy()
    positions = {name: run.position.to_numpy()[:-1] for name, run in found.runs.items()}
    for name in ("rule_recovery_until_start", "rule_out_of_capitulation"):
        row, held = table.loc[name], positions[name]
        test = rotation_test(steps, held, confidence=0.8)
        worth = 365 * ((held - held.mean()) * steps).mean()
        low, high = (worth + 365 * held.mean() * (end - test.excess) for end in test.interval)
        assert row[["timing_log", "ci_low", "ci_high", "p_rotation"]].tolist() == pytest.approx(
            [worth, low, high, test.p]
        )
    own = [name for name in table.index if name.startswith("rule_")]
    family = max_rotation_test(steps, np.array([positions[name] for name in own])).p_family
    assert table.loc[own, "p_rule"].tolist() == pytest.approx(family.tolist())
    assert (table["p_family"] >= table["p_rule"]).sum() == table["p_rule"].notna().sum() > len(own)
    assert table.loc["buy_and_hold", ["timing_log", "ci_low", "p_rotation", "p_family"]].isna().all()


def test_out_of_capitulation_holds_from_the_first_day_but_for_the_days_in_the_state(market):
    panel, events = market
    runs = trading.strategies(panel, events, n_random=100).runs
    outside = pd.Series(~panel.index.isin(events["rule", "in_state"]), panel.index)
    expected = outside.shift(1, fill_value=False).astype("int8")
    pd.testing.assert_series_equal(runs["rule_out_of_capitulation"].position, expected, check_names=False)
    assert "silent_out_of_capitulation" not in runs  # nothing to stay out of: that would be buy and hold


def test_every_variant_is_a_trial_but_equal_ones_count_once_and_idle_ones_not(market):
    """Trials are judged by their return over the same exposure: that of holding has no timing and is none."""
    panel, events = market
    price, first = panel["price_usd"], panel.index[:1]
    found = trading.strategies(panel, events, horizons=(7, 30, 60, 90), n_random=100)
    table, tried = found.table.set_index("strategy"), {}
    hold = trading.backtest(price, first, exits=[], lag=0, **FEES).equity

    def over_exposure(run):
        gained = trading.daily_returns(run.equity) - run.position.iloc[:-1].mean() * trading.daily_returns(hold)
        return gained, gained.mean() / gained.std()

    for (rule, anchor), days in events.items():
        ways = [(days, {"hold_days": h}) for h in (7, 30, 60, 90)]
        if anchor == "in_state":
            ways.append((events[rule, "recovery"].union(first), {"exits": days}))
        else:
            ways.append((days, {"exits": events[rule, "recovery" if anchor == "start" else "start"]}))
        for entries, how in ways if len(days) else []:
            tried[round(over_exposure(trading.backtest(price, entries, **how, **FEES))[1], 12)] = rule
    assert (table["n_trials"] == len(tried)).all() and len(found.trials) == len(tried) == 4 * 4 + 3 + 1
    gained, sharpe = over_exposure(found.runs["rule_buy_hold_90d"])
    row = table.loc["rule_buy_hold_90d"]
    assert row["deflated_sharpe"] == pytest.approx(trading.deflated_sharpe(gained, list(tried)))
    assert row["excess_sharpe"] == pytest.approx(sharpe * 365**0.5)
    missing = ["excess_sharpe", "deflated_sharpe", "share_of_random_beaten"]
    assert table.loc[["buy_and_hold", "silent_buy_hold_90d"], missing].isna().all(axis=None)


def test_deflating_what_is_earned_over_the_same_exposure_takes_the_rise_of_the_asset_for_no_skill():
    """In an asset that rises, positions without skill have high Sharpe ratios; over their exposure they have none."""
    panel = walk(3000, 7, drift=0.002, start="2014-01-01").to_frame("price_usd")
    rng, anchors = np.random.default_rng(0), ("start", "recovery", "buy", "in_state")
    draw = {
        (str(n), at): panel.index[np.sort(rng.choice(3000, 12, replace=False))] for n in range(12) for at in anchors
    }
    found = trading.strategies(panel, draw, n_random=100)
    sharpe, excess = (found.trials[name].mean() * 365**0.5 for name in ("sharpe", "excess_sharpe"))
    assert sharpe > 0.5 and abs(excess) < 0.2
    assert (found.table["deflated_sharpe"] > 0.95).mean() < 0.05


def test_signals_before_the_sample_do_not_count_and_a_sample_without_prices_has_no_strategy(market):
    panel, events = market
    table = trading.strategies(panel, events, since="2015-06-01", n_random=100).table.set_index("strategy")
    assert table.loc["rule_recovery_hold_90d", "n_trades"] == 1
    assert table.loc["buy_and_hold", "start"] == pd.Timestamp("2015-06-01")
    for late in ("2020-01-01", str(panel.index[-1].date())):
        empty = trading.strategies(panel, events, since=late)
        assert list(empty.table.columns) == trading.TABLE_COLUMNS
        assert not len(empty.table) and not len(empty.trials) and not empty.runs and not empty.random
