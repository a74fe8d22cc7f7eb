"""Hash rate, difficulty, economics and trend: closed forms, slow versions, simulation, and no look-ahead."""

import inspect
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, norm, poisson
from scipy.stats import t as student

import made_chain
from capitulation.data import headers
from capitulation.data.panel import block_heights
from capitulation.errors import DataError, InputError
from capitulation.mining import difficulty, economics, episodes, hashrate, rules, trend
from panels import mined_panel, steady_panel, without


@pytest.fixture(scope="module")
def mined():
    return mined_panel(1500, seed=11, growth=0.2)


@pytest.fixture(scope="module")
def market(mined):
    """The mined panel as of 2018 with fees that vary, so that rigs are on sale and earn."""
    panel = mined[0].set_axis(pd.date_range("2018-01-01", periods=len(mined[0]), name="date"))
    fees = np.random.default_rng(1).uniform(10, 40, len(panel))
    price = 0.2 * panel["price_usd"] * panel["hash_rate_ehs"]
    return panel.assign(fees_btc=fees, price_usd=price, revenue_usd=(panel["issuance_btc"] + fees) * price)


RIGS = economics.read_rigs()
DAILY = {
    "ribbon_state": lambda p: hashrate.ribbon_state(hashrate.hash_ribbons(p)),
    "era_of": lambda p: difficulty.era_of(p.index, p),
    "rule_states": rules.rule_states,
    "breakeven_usd_kwh": lambda p: economics.breakeven_usd_kwh(p, RIGS),
}
# One row per event, see the test of tables; or about the last day, or the whole history, that they are given.
NOT_DAILY = ("adjustments", "adjustment_record", "halving_days", "next_adjustment")
for module in (hashrate, difficulty, economics, rules, episodes, trend):
    for name, function in inspect.getmembers(module, inspect.isfunction):
        first, *others = [*inspect.signature(function).parameters.values()] or [None]
        daily = first and first.name == "panel" and all(one.default is not one.empty for one in others)
        if daily and name[0] != "_" and name not in NOT_DAILY:
            DAILY[name] = function


@pytest.fixture(scope="module", params=["mined", "holed", "real"])
def world(request, mined):
    if request.param == "real":
        return request.getfixturevalue("real_panel")
    panel = mined[0].copy()
    if request.param == "holed":
        holes = np.random.default_rng(2).integers(100, 1300, 6)
        panel.iloc[holes, panel.columns.get_indexer(["hash_rate_ehs", "price_usd"])] = np.nan
    return panel


def _cuts(panel: pd.DataFrame, n: int = 6) -> list[int]:
    return [121, 365, *np.random.default_rng(len(panel)).integers(200, len(panel), n).tolist()]


@pytest.mark.parametrize("name", DAILY)
def test_no_look_ahead(name, world):
    whole = DAILY[name](world)
    for size in _cuts(world):
        cut = DAILY[name](world.iloc[:size])
        assert cut.equals(whole.iloc[:size]), f"{name} changed when the future was cut off at {cut.index[-1]:%F}"


def test_no_look_ahead_in_tables(world):
    """Rows up to the cut are the same; what was going on then is going on there, and buys up to the cut are known."""
    adjusted, halved = difficulty.adjustments(world), difficulty.halving_days(world)
    applied = episodes.apply_rules(world)
    for size in _cuts(world, 4):
        part = world.iloc[:size]
        last, found = part.index[-1], difficulty.adjustments(part)
        pd.testing.assert_frame_equal(found, adjusted[adjusted["date"] <= last], check_exact=True)
        assert difficulty.halving_days(part).equals(halved[halved <= last])
        then, whole = episodes.apply_rules(part), applied.episodes
        begun = whole[whole["start"] <= last].reset_index(drop=True)
        ended = (begun["end"] <= last).to_numpy()
        assert then.episodes["start"].equals(begun["start"]) and (then.episodes["ongoing"] == ~ended).all()
        same = ["definition", "episode", "end", "days", "depth", "depth_z", "grade", "price_end", "era"]
        pd.testing.assert_frame_equal(then.episodes.loc[ended, same], begun.loc[ended, same], check_exact=True)
        bought = begun["buy_date"].where(begun["buy_date"] <= last)
        assert then.episodes["buy_date"].equals(bought.rename("buy_date"))
        for key, days in then.events.items():
            assert days.equals(applied.events[key][applied.events[key] <= last])


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1e6), st.just(float("nan"))), max_size=40), st.integers(1, 12))
def test_rolling_mean_equals_the_mean_of_each_window_of_which_nine_tenths_are_known(values, days):
    found = hashrate.rolling_mean(pd.Series(values, dtype=float), days).tolist()
    first = next((i for i, value in enumerate(values) if value == value), len(values))
    slow = []
    for i in range(len(values)):
        window = [value for value in values[max(i - days + 1, 0) : i + 1] if value == value]
        enough = i >= first + days - 1 and 10 * len(window) >= 9 * days
        slow.append(np.mean(window) if enough else np.nan)
    np.testing.assert_allclose(found, slow, rtol=1e-12, atol=1e-9)


def test_errors_of_a_steady_rate_have_their_closed_forms():
    panel = steady_panel(np.full(80, 500.0), blocks=130)
    unknown = panel.assign(block_count=np.nan)  # hash rate over difficulty tells them, else the protocol's aim
    for one, blocks in ((panel, 130), (unknown, 130), (unknown.assign(difficulty=np.nan), 144)):
        assert hashrate.relative_se(one, 30).iloc[-1] == pytest.approx((blocks * 30) ** -0.5, rel=1e-12)
        # Fast is half of slow: the gap is (F - P) / (F + P), each with 1/sqrt(30 blocks).
        gap_se = hashrate.hash_ribbons(one)["gap_se"].iloc[-1]
        assert gap_se == pytest.approx((2 * 30 * blocks) ** -0.5, rel=1e-12)
    holed = without(panel, [-5, -4, -3])  # the mean of 27 days over that of 57
    assert hashrate.relative_se(holed, 30).iloc[-1] == pytest.approx((130 * 27) ** -0.5, rel=1e-12)
    ribbon = hashrate.hash_ribbons(holed).iloc[-1]
    assert ribbon["gap"] == 0 and ribbon["gap_se"] == pytest.approx((1 / 27 - 1 / 57) ** 0.5 * 130**-0.5, rel=1e-12)


def test_drawdown_and_its_error_by_hand_and_by_simulation():
    panel = steady_panel(np.r_[np.linspace(100, 200, 50), np.full(40, 150.0)])
    assert (hashrate.drawdown(panel, 1).iloc[:50] == 0).all()
    assert hashrate.drawdown(panel, 1).iloc[-1] == pytest.approx(-0.25)
    se = hashrate.drawdown_se(panel, 30)
    assert se.iloc[49] == 0 and 0 < se.iloc[60] < se.iloc[89]
    for lag in (3, 40):
        blocks = np.random.default_rng(4).poisson(144, (6000, 80))
        now, peak = blocks[:, 50:80].mean(axis=1), blocks[:, 50 - lag : 80 - lag].mean(axis=1)
        rate = np.linspace(500.0, 500.1, 80)
        rate[80 - lag :] = 499.0
        found = hashrate.drawdown_se(steady_panel(rate), 30).iloc[-1]
        assert found == pytest.approx((now / peak).std(), rel=0.05)


@pytest.mark.parametrize(
    ("missing", "unknown"),
    [
        ([300], []),
        ([300, 301, 310], []),
        ([300, 301, 302, 310], [*range(310, 330)]),  # of 30 days four are too many, of 60 they are not
        ([*range(300, 310)], [*range(303, 363)]),
    ],
)
def test_ribbons_are_those_of_pandas_and_unknown_where_over_a_tenth_is_missing(mined, missing, unknown):
    panel = without(mined[0], missing, "hash_rate_ehs")
    ribbon, rate = hashrate.hash_ribbons(panel), panel["hash_rate_ehs"]
    fast, slow = (
        rate.rolling(days, min_periods=int(0.9 * days)).mean().mask(rate.index < rate.index[days - 1])
        for days in (30, 60)
    )
    np.testing.assert_allclose(ribbon[["fast", "slow"]], np.column_stack([fast, slow]), rtol=1e-9)
    np.testing.assert_allclose(ribbon["gap"], fast / slow - 1, atol=1e-12)
    assert ribbon["inverted"].isna().to_numpy().nonzero()[0].tolist() == [*range(59), *unknown]
    state = hashrate.ribbon_state(ribbon)
    assert (ribbon["inverted"].isna() == (state == "unknown")).all()
    rising, below = (fast > fast.shift(1)) & (fast > fast.shift(2)) & (fast > fast.shift(3)), fast < slow
    assert (ribbon["inverted"].dropna() == below[ribbon["inverted"].notna()]).all()
    assert (state[below] == np.where(rising[below], "recovering", "capitulation")).all()
    with pytest.raises(InputError, match="fast_days=60"):
        hashrate.hash_ribbons(panel, 60, 30)


def test_subsidy_follows_the_schedule_to_its_last_satoshi():
    heights = np.array([0, 209_999, 210_000, 6_929_999, 14_000_000, np.nan])
    np.testing.assert_array_equal(difficulty.subsidy_btc(heights), [50, 50, 25, 1e-8, 0, np.nan])
    supply = difficulty.subsidy_btc(np.arange(64) * 210_000).sum() * 210_000
    assert supply == pytest.approx(20_999_999.9769, abs=1e-6) and difficulty.subsidy_btc(840_000) == 3.125


def test_halvings_and_eras_from_heights_or_else_from_the_reference():
    panel = steady_panel(np.ones(3000))
    for number, day in difficulty.halving_days(panel).items():
        assert panel.loc[day, "height"] >= number * 210_000 > panel.loc[day - pd.Timedelta(days=1), "height"]
    late = steady_panel(np.ones(400), start="2017-01-01")
    late["height"] += 446_000
    assert difficulty.halving_days(late).empty and difficulty.era_of(late.index, late).unique().tolist() == [2016]
    blind = steady_panel(np.ones(300), start="2020-01-01").assign(height=np.nan)
    counted_for_days = blind.assign(
        height=(630_000 - 300 + blind["block_count"].cumsum()).where(blind.index < "2020-01-03")
    )
    for dark in (blind, counted_for_days):
        assert difficulty.era_of(dark.index, dark)[["2020-05-10", "2020-05-11"]].tolist() == [2016, 2020]
    table = difficulty.halvings()
    assert (table["subsidy_btc"] == difficulty.subsidy_btc(table["height"].to_numpy())).all()


def test_every_adjustment_of_a_simulated_chain_is_found_exactly(mined):
    panel, truth = mined
    found, truth = difficulty.adjustments(panel), truth[truth["height"] <= panel["height"].iloc[-1]]
    assert found["height"].tolist() == truth["height"].tolist()
    assert (found["date"].to_numpy() == truth["date"].to_numpy()).all()
    np.testing.assert_allclose(found["difficulty"], truth["difficulty"], rtol=1e-9)
    np.testing.assert_allclose(found["change"], truth["change"], atol=1e-9)
    runs_of_cuts = itertools.accumulate(found["change"] < 0, lambda streak, cut: streak + 1 if cut else 0, initial=0)
    assert found["negative_streak"].tolist() == list(runs_of_cuts)[1:]


def test_adjustments_that_change_nothing_or_are_not_known():
    panel = steady_panel(np.full(60, 7.0))
    table = difficulty.adjustments(panel)
    assert len(table) == 4 and (table[["change", "negative_streak"]] == 0).all(axis=None)
    panel.loc[table["date"].iloc[1] - pd.Timedelta(days=1), ["height", "block_count", "difficulty"]] = np.nan
    assert difficulty.adjustments(panel)["change"].isna().tolist() == [False, True, False, False]
    blind = panel.assign(height=np.nan)
    assert difficulty.adjustments(blind).empty and difficulty.next_adjustment(blind) == {}
    assert difficulty.adjustment_record(blind).empty


def test_next_adjustment_of_a_faster_chain_is_up_by_its_speed():
    panel = steady_panel(np.full(40, 7.0), blocks=158.4)  # 10 % more blocks than the target, evenly
    last = difficulty.next_adjustment(panel)
    assert last["change"] == pytest.approx(1.1 * 2016 / 2015 - 1, rel=1e-3)
    assert last["change_low"] < last["change"] < last["change_high"] and last["height"] % 2016 == 0
    assert last["date_low"] <= last["date"] <= last["date_high"]
    assert last["height"] - last["blocks_remaining"] == pytest.approx(panel["height"].iloc[-1], abs=1)
    for blocks, change in ((1440.0, 3.0), (20.0, -0.75)):  # held within a factor of four
        assert difficulty.next_adjustment(steady_panel(np.full(400, 7.0), blocks))["change"] == pytest.approx(change)


def test_interval_covers_as_often_as_it_says_when_only_luck_moves_blocks():
    covered, days = 0, 0
    for seed in range(6):
        blocks = np.random.default_rng(seed).poisson(144, 900).astype(float)
        panel = steady_panel(np.full(900, 7.0), blocks).assign(difficulty=7.0)  # never moved: no drift to be seen
        history = difficulty.next_adjustment_history(panel, confidence=0.9)
        marks = np.arange(2016, panel["height"].iloc[-1], 2016)
        found_on = np.interp(marks, np.r_[0, panel["height"]], np.arange(len(panel) + 1))
        true = history["height"].map(pd.Series(14 / np.diff(found_on) - 1, index=marks[1:]))
        known = true.notna() & history["change"].notna()
        covered += true.between(history["change_low"], history["change_high"])[known].sum()
        days += known.sum()
    assert covered / days == pytest.approx(0.9, abs=0.04)


def _by_hand(panel: pd.DataFrame, day: pd.Timestamp, confidence: float) -> np.ndarray:
    """Lowest, likely and highest change as estimated on `day`: formula and source in the methodology, a step a line."""
    known = difficulty.adjustments(panel[:day])
    begun = known.iloc[-1]
    of_day = panel["height"].diff()[begun["date"]]
    part_of_day = (panel["height"][begun["date"]] - begun["height"] + 1) / of_day
    days = (day - begun["date"]).days + part_of_day
    found = int(panel["height"][day]) % 2016 + 1
    recent = np.log1p(known["change"].dropna()).iloc[-26:]
    drift = max(np.var(recent, ddof=1) / 2 - 1 / 2016, 0) * (1 - found / 2016) ** 2
    spread = student.ppf(0.5 + confidence / 2, len(recent) - 1)
    spread *= np.sqrt(drift + part_of_day * (1 - part_of_day) / of_day / days**2)
    luck = np.zeros(2)
    if found < 2016:
        luck = np.log(beta.ppf([0.5 - confidence / 2, 0.5 + confidence / 2], found, 2016 - found) * 2016 / found)
    moved = np.array([-np.hypot(luck[0], spread), 0, np.hypot(luck[1], spread)])
    return np.clip(14 / (days * 2015 / found) * np.exp(moved), 0.25, 4) - 1


CHANGES = ["change_low", "change", "change_high"]


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_an_interval_adds_up_luck_drift_and_clock(mined, confidence):
    panel = mined[0]
    history = difficulty.next_adjustment_history(panel, confidence)
    last_block = history.index[history["blocks_remaining"] == 1][:1]
    for day in [*panel.index[60::97], *last_block]:
        np.testing.assert_allclose(history.loc[day, CHANGES].astype(float), _by_hand(panel, day, confidence), atol=1e-9)
    assert (history["date_low"] > panel.index)[history["date_low"].notna()].all()  # blocks to come come later


def test_without_drift_luck_remains_and_drift_only_widens():
    """A rate that never moves against one whose difficulty goes up and down by a tenth, at the same pace of blocks."""
    calm = steady_panel(np.full(400, 7.0), blocks=150.0)
    of_block = 1.1 ** (np.arange(1, 400 * 150 + 1) // 2016 % 2)
    moved = calm.assign(difficulty=calm["difficulty"] * of_block.reshape(400, 150).mean(axis=1))
    luck, wide = (difficulty.next_adjustment_history(panel).iloc[300:] for panel in (calm, moved))
    inside = luck["blocks_remaining"].between(100, 1900)  # at an epoch's first blocks a factor of four ends them all
    luck, wide, found = luck[inside], wide[inside], 2017 - luck["blocks_remaining"][inside]
    ratio = [beta.ppf(end, found, 2016 - found) / found * 2016 for end in (0.025, 0.975)]
    for side, end, outer in (("change_low", ratio[0], -1), ("change_high", ratio[1], 1)):
        alone = (1 + luck["change"]) * end - 1
        assert ((luck[side] - alone) * outer).between(0, 0.02).all()  # the clock is all that widens it
        assert ((wide[side] - luck[side]) * outer > 0).all()
    assert luck["change"].equals(wide["change"])


def _coverage(panels, confidence: float, since: str | None = None) -> pd.Series:
    """Share of the intervals that held, by quarter of the epoch, over all days of all `panels`."""
    records = pd.concat([difficulty.adjustment_record(panel, confidence, since) for panel in panels])
    held = (records["covered"] * records["n_days"]).groupby(records["quarter_of_epoch"]).sum()
    return held / records.groupby("quarter_of_epoch")["n_days"].sum()


@pytest.mark.parametrize(("confidence", "off"), [(0.8, 0.08), (0.95, 0.04)])
@pytest.mark.parametrize("growth", [-0.5, 0.2, 1.0])
def test_interval_holds_as_often_as_it_says_where_hash_rate_wanders(growth, confidence, off):
    covered = _coverage([mined_panel(1500, seed, growth)[0] for seed in range(4)], confidence)
    assert covered.index.tolist() == [1, 2, 3, 4]
    assert covered.between(confidence - off, confidence + off).all(), covered.to_dict()


@pytest.mark.parametrize(("confidence", "low", "high"), [(0.95, 0.93, 0.97), (0.8, 0.76, 0.84)])
def test_interval_held_as_often_as_it_says_since_2014(real_panel, confidence, low, high):
    covered = _coverage([real_panel], confidence, "2014-01-01")
    assert covered.between(low, high).all(), covered.to_dict()


def test_the_record_holds_what_was_known_and_stands_beside_the_estimate(world):
    history = difficulty.next_adjustment_history(world, 0.9)
    came = history["height"].map(difficulty.adjustments(world).set_index("height")["change"])
    for size in (400, 1100):
        past = world.iloc[:size]
        dates = difficulty.adjustments(past).dropna(subset=["change"])
        rows = history.iloc[30:size].assign(came=came)
        rows = rows[rows["height"].isin(dates["height"]) & rows["change"].notna()]
        held = rows["came"].between(rows["change_low"], rows["change_high"])
        record = difficulty.adjustment_record(past, 0.9, str(world.index[30].date()))
        assert record["n_days"].sum() == len(rows)
        assert (record["covered"] * record["n_days"]).sum() == pytest.approx(held.sum())
        now = difficulty.next_adjustment(past, 0.9)
        if now:
            row = difficulty.adjustment_record(past, 0.9).iloc[int(4 - np.ceil(now["blocks_remaining"] / 504))]
            assert (now["record"], now["record_n"]) == (row["covered"], row["n_adjustments"])
    first = difficulty.next_adjustment(steady_panel(np.full(20, 7.0)))
    assert np.isnan(first["record"]) and first["record_n"] == 0


@pytest.mark.parametrize("days", [1, 3, 10, 11])
def test_heights_after_a_hole_are_found_again_at_the_next_adjustment_or_stay_unknown(world, days):
    whole = world.assign(height=world["block_count"].cumsum()).dropna(subset="difficulty")
    begin = max(20, whole.index.searchsorted(pd.Timestamp("2010-08-01")))  # in July 2010 a day had up to 600 blocks
    for first in np.random.default_rng(days).integers(begin, len(whole) - 100, 30):
        hole = np.isin(np.arange(len(whole)), np.arange(first, first + days))
        found = block_heights(whole["block_count"].mask(hole), whole["difficulty"].mask(hole))
        known = found.notna()
        assert (found[known] == whole["height"][known]).all() and not known[hole].any()
        assert known[~hole].mean() == 1 if days <= 3 else known[:first].all() and (days < 11 or not known[first:].any())


def test_real_adjustments_match_the_list_of_mempool_space(real_panel, data_folder):
    rows = json.loads((data_folder / "mempool_space" / "difficulty-adjustments.json").read_text())
    listed = pd.DataFrame(rows, columns=["time", "height", "listed_difficulty", "ratio"]).sort_values("height")
    both = difficulty.adjustments(real_panel).merge(listed, on="height", how="right")
    assert (both["difficulty"] / both["listed_difficulty"] - 1).abs().max() < 1e-6
    # The list's first ratio is a placeholder of 1; the others are rounded to five decimals.
    assert (1 + both["change"] - both["ratio"]).iloc[1:].abs().max() < 6e-6
    day = pd.to_datetime(both["time"], unit="s").dt.normalize()
    assert (both["date"] - day).abs().max() <= pd.Timedelta(days=1)


def test_a_day_and_a_rig_worked_by_hand():
    row = {"price_usd": 1e5, "hash_rate_ehs": 800.0, "block_count": 144.0, "difficulty": 1e14, "height": 9e5}
    row |= {"issuance_btc": 450.0, "fees_btc": 50.0, "revenue_usd": 5e7}
    day = pd.DataFrame(row, index=pd.DatetimeIndex(["2024-12-15"], name="date"))
    money = economics.economics(day).iloc[0]
    assert money["hashprice_usd_ph_day"] == pytest.approx(62.5)  # 50 million USD over 800,000 PH/s
    assert money["hashprice_btc_ph_day"] == pytest.approx(500 / 800_000) and money["fee_share"] == pytest.approx(0.1)
    # A PH/s at 21.5 J/TH draws 21.5 kW: 516 kWh a day.
    assert economics.breakeven_usd_kwh(day, RIGS)["Antminer S19 XP"].iloc[0] == pytest.approx(62.5 / 516)
    early = day.set_axis(pd.DatetimeIndex(["2024-10-31"], name="date"))
    assert economics.breakeven_usd_kwh(early, RIGS)["Antminer S21 XP"].isna().all()
    still = day.assign(hash_rate_ehs=0.0, issuance_btc=0.0, fees_btc=0.0)
    assert economics.economics(still).filter(regex="hashprice|share").isna().all(axis=None)
    assert economics.rigs_under_water(still, 0.05).empty


def test_money_is_unknown_on_days_without_a_price_and_where_a_tenth_of_the_year_has_none(market):
    holed = without(market, range(900, 937), "price_usd", "revenue_usd")
    unknown = economics.puell_multiple(holed).isna().to_numpy().nonzero()[0]
    assert unknown.tolist() == [*range(364), *range(900, 1265)]
    holed.loc[holed.index[936], "price_usd"] = 1.0
    assert economics.puell_multiple(holed).isna().to_numpy().nonzero()[0].tolist() == [*range(364), *range(900, 936)]
    assert np.isnan(economics.revenue_usd(holed).iloc[900])  # never filled from coins and price
    derived = economics.revenue_usd(market.assign(revenue_usd=np.nan))
    pd.testing.assert_series_equal(derived, market["revenue_usd"], rtol=1e-12)


def test_fleet_against_a_slow_loop(market):
    result, hashprice = economics.fleet(market, 0.05), economics.economics(market)["hashprice_usd_ph_day"]
    for day in market.index[::211]:
        sold = RIGS[(RIGS["available"] <= day) & (day < RIGS["available"] + pd.DateOffset(years=5))]
        earning = sold[hashprice[day] / (sold["efficiency_j_th"] * 24) >= 0.05]
        efficiency = earning["efficiency_j_th"].mean() if len(earning) else sold["efficiency_j_th"].min()
        assert result.loc[day, "share_under_water"] == pytest.approx(1 - len(earning) / len(sold))
        assert result.loc[day, "fleet_efficiency_j_th"] == pytest.approx(efficiency)
        kwh = market.loc[day, "hash_rate_ehs"] * 1e6 * efficiency / 1000 * 24
        coins = market.loc[day, "issuance_btc"] + market.loc[day, "fees_btc"]
        assert result.loc[day, "production_cost_usd"] == pytest.approx(kwh * 0.05 / coins)
    listed = economics.rigs_under_water(market, 0.05)
    assert listed["under_water"].mean() == pytest.approx(result["share_under_water"].iloc[-1])
    assert listed["efficiency_j_th"].is_monotonic_decreasing


def test_a_rig_table_that_contradicts_itself_is_refused(tmp_path):
    path, good = tmp_path / "rigs.csv", "A,M,2020-01,100,3000,30,maker\n"
    for rows in (good * 2, good.replace("30,m", "40,m"), good.replace("3000,30", "0,0"), "A" * 9):
        path.write_text(",".join(economics.RIG_COLUMNS) + "\n" + rows)
        with pytest.raises(DataError, match="rigs.csv: 'A"):
            economics.read_rigs(path)


def test_filter_equals_the_recursions_written_out():
    rng = np.random.default_rng(1)
    rate, blocks = np.exp(np.cumsum(rng.normal(0, 0.01, 900))), rng.poisson(144, 900)
    panel = steady_panel(rate * blocks / 144, blocks, start="2014-01-01")
    panel.iloc[800:803, panel.columns.get_loc("hash_rate_ehs")] = np.nan
    work, noise = np.log(panel["hash_rate_ehs"]).to_numpy(), (1 / panel["block_count"]).to_numpy()
    step, random = np.array([[1.0, 1.0], [0.0, 1.0]]), np.diag([0.0, trend.slope_variance(work[:730], noise[:730])])
    mean, cov, falling = np.array([work[0], 0.0]), np.diag([1e4, 1e-2]), []
    for value, variance in zip(work, noise, strict=True):
        if np.isfinite(value):
            gain = cov[:, 0] / (cov[0, 0] + variance)
            mean, cov = mean + gain * (value - mean[0]), cov - np.outer(gain, cov[0])
        falling.append(norm.cdf(-mean[1] / np.sqrt(cov[1, 1])))
        mean, cov = step @ mean, step @ cov @ step.T + random
    found = trend.falling_probability(panel)
    assert found.first_valid_index() == pd.Timestamp("2016-01-01") == panel.index[730]
    np.testing.assert_allclose(found.iloc[730:], falling[730:], rtol=1e-6, atol=1e-9)
    assert trend.falling_probability(panel.assign(hash_rate_ehs=np.nan)).isna().all()


def chain(minutes, difficulty=1e14, first=0):
    """Blocks that lie so many minutes apart, after one block."""
    times = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.append(0, np.cumsum(minutes)), unit="min")
    heights = pd.RangeIndex(first, first + len(times), name="height")
    return pd.DataFrame({"clock": times, "difficulty": difficulty}, index=heights)


def test_the_pulse_of_one_block_has_the_closed_form_of_an_exponential_wait():
    for minutes in (1.0, 10.0, 45.0):
        row = hashrate.pulse(chain([minutes]), [1], 0.9).iloc[0]
        assert (row["hours"], row["expected_hours"], row["pace"]) == pytest.approx((minutes / 60, 1 / 6, 10 / minutes))
        ends = -np.log([0.95, 0.05]) * 10 / minutes
        assert (row["pace_low"], row["pace_high"]) == pytest.approx(tuple(ends), rel=1e-12)
        assert row["p"] == pytest.approx(2 * min(np.exp(-minutes / 10), -np.expm1(-minutes / 10)), rel=1e-12)


def test_the_pulse_agrees_with_poissons_counts_and_takes_difficulty_as_it_changes():
    difficulty = np.repeat([1e14, 1.1e14], [2016 - 100, 101])
    blocks = chain(np.full(2016, 9.5), difficulty, 900_000)
    table = hashrate.pulse(blocks)
    assert table["n_blocks"].tolist() == [144, 2016] and (table["to_time"] == blocks["clock"].iloc[-1]).all()
    for row in table.itertuples():
        n, used = row.n_blocks, difficulty[-row.n_blocks :]
        assert row.from_time == blocks["clock"].iloc[-1 - n] and row.pace == pytest.approx(10 / 9.5)
        expected = n * 9.5 / 10  # blocks at pace 1 in that time: n or more, n - 1 or fewer
        assert row.p == pytest.approx(2 * min(poisson.sf(n - 1, expected), poisson.cdf(n - 1, expected)), rel=1e-9)
        for pace, tail in ((row.pace_low, poisson.sf), (row.pace_high, poisson.cdf)):
            assert tail(n - 1, expected * pace) == pytest.approx(0.025, rel=1e-6)
        assert row.difficulty_expects_ehs == pytest.approx(used.mean() * 2**32 / 600 / 1e18, rel=1e-12)
        rates = np.array([row.hash_rate_ehs, row.hash_rate_low_ehs, row.hash_rate_high_ehs])
        assert rates / row.difficulty_expects_ehs == pytest.approx([row.pace, row.pace_low, row.pace_high], rel=1e-12)


@pytest.mark.parametrize(("n", "pace"), [(6, 0.7), (144, 1.0), (144, 1.2)])
def test_intervals_and_p_of_the_pulse_hold_what_they_promise(n, pace):
    """Arrivals at random at a steady hash rate; difficulty rises by a tenth midway, and waits grow with it."""
    rng, runs = np.random.default_rng(n), 400
    difficulty = np.append(1e14, np.repeat([1e14, 1.1e14], n // 2))
    of_pace, of_rate, rejected, true_rate = 0, 0, 0, pace * 1e14 * 2**32 / 600 / 1e18
    for _ in range(runs):
        waits = rng.exponential(10 / pace, n)
        row = hashrate.pulse(chain(waits, difficulty), [n], 0.9).iloc[0]
        of_pace += row["pace_low"] <= pace <= row["pace_high"]
        rejected += row["p"] < 0.1
        row = hashrate.pulse(chain(waits * difficulty[1:] / 1e14, difficulty), [n], 0.9).iloc[0]
        of_rate += row["hash_rate_low_ehs"] <= true_rate <= row["hash_rate_high_ehs"]
    low, high = binom.interval(0.9999, runs, 0.9)
    assert low <= of_pace <= high and low <= of_rate <= high
    assert (low <= runs - rejected <= high) == (pace == 1)


def test_the_pulse_holds_its_promise_where_miners_clocks_are_up_to_an_hour_off():
    runs, pace = 400, 1.1
    chains = (made_chain.unmined(made_chain.uneven(160, 600 / pace, seed)) for seed in range(runs))
    rows = pd.concat([hashrate.pulse(headers.blocks(data), [144], 0.9) for data in chains])
    low, high = binom.interval(0.9999, runs, 0.9)
    assert low <= ((rows["pace_low"] <= pace) & (pace <= rows["pace_high"])).sum() <= high


def test_the_pulse_says_nothing_where_blocks_or_their_times_are_not_known():
    blocks = chain(np.full(200, 10.0))
    assert hashrate.pulse(blocks)["n_blocks"].tolist() == [144]
    assert hashrate.pulse(blocks, [200, 201])["n_blocks"].tolist() == [200]
    standing = blocks.assign(clock=blocks["clock"].iloc[0])
    hole = blocks.index[-50]
    unknown = blocks.assign(difficulty=blocks["difficulty"].drop(hole))
    no_time = blocks.assign(clock=blocks["clock"].drop(blocks.index[-1]))
    for odd in (blocks.iloc[:144], blocks.iloc[:0], standing, unknown, no_time, blocks.drop(hole)):
        table = hashrate.pulse(odd)
        assert table.empty and list(table) == list(hashrate.pulse(blocks))
    for wrong in ({"counts": [0]}, {"counts": [144, -1]}, {"confidence": 1.0}, {"confidence": 0.0}):
        with pytest.raises(InputError, match="counts=.*confidence="):
            hashrate.pulse(blocks, **wrong)
