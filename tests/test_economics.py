"""Miner economics against hand-made markets, slow independent versions and the real file."""

import itertools
import time

import numpy as np
import pandas as pd
import pytest

from capitulation.data.panel import PANEL_COLUMNS
from capitulation.errors import DataError
from capitulation.mining import economics as eco
from capitulation.mining import fleet as flt


def make_panel(days: int, start: str = "2020-01-01", seed: int = 1) -> pd.DataFrame:
    """A small random market with known relations."""
    rng = np.random.default_rng(seed)
    index = pd.date_range(start, periods=days, name="date")
    blocks = rng.poisson(144, days).astype(float)
    difficulty = 1e13 * np.exp(np.cumsum(rng.normal(0.001, 0.01, days)))
    price = 10_000 * np.exp(np.cumsum(rng.normal(0, 0.03, days)))
    issuance, fees = 6.25 * blocks, rng.uniform(10, 40, days)
    frame = pd.DataFrame(
        {
            "price_usd": price,
            "hash_rate_ehs": difficulty * 2**32 * blocks / 86400 / 1e18,
            "block_count": blocks,
            "difficulty": difficulty,
            "height": 600_000 + np.cumsum(blocks),
            "issuance_btc": issuance,
            "fees_btc": fees,
            "revenue_usd": (issuance + fees) * price,
        },
        index=index,
    )
    return frame[list(PANEL_COLUMNS)]


@pytest.fixture
def panel():
    return make_panel(900)


def one_day(hash_rate_ehs, price, issuance, fees):
    index = pd.DatetimeIndex(["2024-12-15"], name="date")
    row = {"price_usd": price, "hash_rate_ehs": hash_rate_ehs, "block_count": 144.0, "difficulty": 1e14}
    row |= {"height": 9e5, "issuance_btc": issuance, "fees_btc": fees, "revenue_usd": (issuance + fees) * price}
    return pd.DataFrame(row, index=index)


def test_hashprice_of_a_day_worked_by_hand():
    row = eco.economics(one_day(800.0, 100_000.0, 450.0, 50.0)).iloc[0]
    assert row["hashprice_usd_ph_day"] == pytest.approx(500 * 100_000 / 800_000)  # 50 million USD over 800,000 PH/s
    assert row["hashprice_btc_ph_day"] == pytest.approx(500 / 800_000)
    assert row["fee_share"] == pytest.approx(0.1)


def test_breakeven_of_a_rig_worked_by_hand():
    rigs = flt.read_rigs().loc[["Antminer S19 XP", "Antminer S21 XP"]]
    day = one_day(800.0, 100_000.0, 450.0, 50.0)
    # 62.5 USD per PH/s and day; a PH/s at 21.5 J/TH draws 21.5 kW: 516 kWh a day
    assert eco.breakeven_usd_kwh(day, rigs)["Antminer S19 XP"].iloc[0] == pytest.approx(62.5 / 516)
    early = day.set_axis(pd.DatetimeIndex(["2024-10-31"], name="date"))
    assert eco.breakeven_usd_kwh(early, rigs)["Antminer S21 XP"].isna().all()
    assert eco.breakeven_usd_kwh(early, rigs, since_release=False).notna().all().all()


def test_luck_in_blocks_cancels_in_hashprice(panel):
    lucky = panel.copy()
    scaled = ["hash_rate_ehs", "issuance_btc", "fees_btc", "revenue_usd"]
    lucky[scaled] = lucky[scaled] * 1.3
    for column in ("hashprice_usd_ph_day", "hashprice_btc_ph_day", "fee_share"):
        pd.testing.assert_series_equal(eco.economics(lucky)[column], eco.economics(panel)[column], rtol=1e-12)


def test_puell_multiple_equals_a_slow_loop_and_needs_full_windows(panel):
    puell = eco.puell_multiple(panel)
    value = (panel["issuance_btc"] * panel["price_usd"]).to_numpy()
    assert puell.iloc[:364].isna().all()
    for t in (364, 500, 899):
        assert puell.iloc[t] == pytest.approx(value[t] / value[t - 364 : t + 1].mean(), rel=1e-12)
    holed = panel.copy()
    holed.iloc[400, 0] = np.nan
    assert eco.puell_multiple(holed).iloc[400:765].isna().all() and eco.puell_multiple(holed).iloc[765:].notna().all()


def test_revenue_is_the_providers_or_else_derived_never_mixed(panel):
    holed = panel.copy()
    holed.iloc[10, holed.columns.get_loc("revenue_usd")] = np.nan
    assert np.isnan(eco.revenue_usd(holed).iloc[10])
    without = panel.assign(revenue_usd=np.nan)
    pd.testing.assert_series_equal(eco.revenue_usd(without), panel["revenue_usd"], rtol=1e-12)


def test_zero_hash_rate_gives_missing_not_infinity(panel):
    broken = panel.copy()
    broken.iloc[3, broken.columns.get_loc("hash_rate_ehs")] = 0.0
    assert np.isnan(eco.economics(broken)["hashprice_usd_ph_day"].iloc[3])
    assert np.isfinite(eco.economics(broken)["hashprice_usd_ph_day"].drop(broken.index[3])).all()


def test_difficulty_regression_recovers_a_power_law_and_matches_polyfit(panel):
    law = panel.assign(price_usd=np.exp(2.0 + 0.4 * np.log(panel["difficulty"])))
    fit = eco.difficulty_regression(law).iloc[-1]
    assert fit["slope"] == pytest.approx(0.4, abs=1e-6) and fit["price_to_regression"] == pytest.approx(1, abs=1e-6)
    result = eco.difficulty_regression(panel)
    assert result["slope"].iloc[:364].isna().all()
    for t in (364, 600, 899):
        x, y = np.log(panel["difficulty"].iloc[: t + 1]), np.log(panel["price_usd"].iloc[: t + 1])
        assert np.polyfit(x, y, 1) == pytest.approx(result[["slope", "intercept"]].iloc[t].to_numpy(), rel=1e-6)


@pytest.mark.parametrize("days", [1, 364, 365, 500, 777])
def test_cutting_the_future_changes_nothing(panel, days):
    whole = pd.concat([eco.economics(panel), eco.difficulty_regression(panel), flt.fleet(panel)], axis=1)
    cut = panel.iloc[:days]
    parts = pd.concat([eco.economics(cut), eco.difficulty_regression(cut), flt.fleet(cut)], axis=1)
    pd.testing.assert_frame_equal(parts, whole.iloc[:days], check_exact=True, check_freq=False)


def test_a_rig_counts_from_the_first_day_after_its_release_month_for_five_years():
    rigs = flt.read_rigs().loc[["Antminer S9"]]  # June 2016
    days = pd.DatetimeIndex(["2016-06-30", "2016-07-01", "2021-06-30", "2021-07-01"])
    assert flt.recent_rigs(days, rigs)[:, 0].tolist() == [False, True, True, False]


def test_fleet_against_a_slow_loop(panel):
    rigs = flt.read_rigs()
    result = flt.fleet(panel, 0.05, rigs)
    hashprice = eco.economics(panel)["hashprice_usd_ph_day"]
    for day in panel.index[::111]:
        sold = rigs[(rigs["available"] <= day) & (day < rigs["available"] + pd.DateOffset(years=5))]
        earning = sold[hashprice[day] / (sold["efficiency_j_th"] * 24) >= 0.05]
        efficiency = earning["efficiency_j_th"].mean() if len(earning) else sold["efficiency_j_th"].min()
        assert result.loc[day, "share_under_water"] == pytest.approx(1 - len(earning) / len(sold))
        assert result.loc[day, "fleet_efficiency_j_th"] == pytest.approx(efficiency)
        kwh = panel.loc[day, "hash_rate_ehs"] * 1e6 * efficiency / 1000 * 24
        coins = panel.loc[day, "issuance_btc"] + panel.loc[day, "fees_btc"]
        assert result.loc[day, "production_cost_usd"] == pytest.approx(kwh * 0.05 / coins)


def test_dearer_power_never_lowers_the_share_under_water(panel):
    shares = [flt.fleet(panel, price)["share_under_water"] for price in (0.01, 0.05, 0.1, 1.0)]
    for cheap, dear in itertools.pairwise(shares):
        assert (dear >= cheap).all()
    assert (shares[-1] == 1).all() and flt.fleet(panel, 1.0)["fleet_efficiency_j_th"].notna().all()


def test_days_before_any_rig_are_missing():
    result = flt.fleet(make_panel(20, start="2012-01-01"))
    assert result["share_under_water"].isna().all() and result["production_cost_usd"].isna().all()


def test_rigs_under_water_agrees_with_the_share(panel):
    listed = flt.rigs_under_water(panel, 0.05)
    assert listed["under_water"].mean() == pytest.approx(flt.fleet(panel, 0.05)["share_under_water"].iloc[-1])
    assert listed["efficiency_j_th"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("A,M,2020-01,100,3000,30,maker\nA,M,2020-02,100,3000,30,maker\n", "twice"),
        ("A,M,2020-01,100,3000,40,maker\n", "power_w / hash_rate_ths"),
        ("A,M,2020-01,-100,3000,-30,maker\n", "power_w / hash_rate_ths"),
    ],
)
def test_a_rig_table_that_contradicts_itself_is_refused(tmp_path, line, complaint):
    path = tmp_path / "rigs.csv"
    path.write_text("model,maker,released,hash_rate_ths,power_w,efficiency_j_th,source\n" + line)
    with pytest.raises(DataError, match=complaint):
        flt.read_rigs(path)


def test_every_rig_has_a_source():
    assert flt.read_rigs()["source"].str.len().gt(0).all()


def test_s19_xp_breakeven_meets_both_published_values(real_panel):
    breakeven = eco.breakeven_usd_kwh(real_panel, flt.read_rigs())["Antminer S19 XP"]
    assert breakeven["2024-12"].mean() == pytest.approx(0.12, abs=0.005)
    assert breakeven["2025-12-09":"2025-12-15"].mean() == pytest.approx(0.077, abs=0.005)


def test_real_history_is_fast_and_finite(real_panel):
    start = time.perf_counter()
    frames = [eco.economics(real_panel), flt.fleet(real_panel), eco.difficulty_regression(real_panel)]
    assert time.perf_counter() - start < 0.3
    for frame in frames:
        assert not np.isinf(frame.to_numpy(dtype=float)).any()
    puell = frames[0]["puell_multiple"]
    assert puell["2018-11":"2018-12"].min() < 0.45 and puell["2022-11":"2022-12"].min() < 0.5  # the known lows


def test_real_history_cut_at_random_days_is_unchanged(real_panel):
    def everything(panel):
        return pd.concat([eco.economics(panel), eco.difficulty_regression(panel), flt.fleet(panel)], axis=1)

    whole = everything(real_panel)
    for days in np.random.default_rng(7).integers(400, len(real_panel), 40):
        pd.testing.assert_frame_equal(everything(real_panel.iloc[:days]), whole.iloc[:days], check_exact=True)
