"""The claims ledger: its file, its verdicts on hand-made data, and what it must show on the real history."""

import re

import numpy as np
import pandas as pd
import pytest

from capitulation import contract
from capitulation.data.panel import PANEL_COLUMNS
from capitulation.errors import DataError
from capitulation.mining.protocol import subsidy_btc
from capitulation.params import make_params
from capitulation.study import claims as cl
from capitulation.study import claims_article, claims_base, claims_edwards, claims_price, claims_vaneck, claims_winrates

PARAMS = make_params()


def market(n: int = 1600, start: str = "2014-01-01", seed: int = 2) -> pd.DataFrame:
    """A random market with slow waves in hash rate."""
    rng = np.random.default_rng(seed)
    index = pd.date_range(start, periods=n, name="date")
    t = np.arange(n)
    blocks = rng.poisson(144, n).astype(float)
    true = np.exp(0.002 * t + 0.25 * np.sin(2 * np.pi * t / 230))
    height = 278_000 + np.cumsum(blocks)
    epoch = (height // 2016).astype(int)
    first = np.array([true[np.argmax(epoch == k)] for k in epoch])
    difficulty = first * 1e18 * 600 / 2**32
    rate = difficulty * 2**32 * blocks / 86400 / 1e18
    price = 500 * np.exp(np.cumsum(rng.normal(0.001, 0.03, n)))
    issuance, fees = blocks * subsidy_btc(height), rng.uniform(10, 40, n)
    columns = [price, rate, blocks, difficulty, height, issuance, fees, (issuance + fees) * price]
    return pd.DataFrame(dict(zip(PANEL_COLUMNS, columns, strict=True)), index=index)


@pytest.fixture(scope="module")
def panel():
    return market()


@pytest.fixture(scope="module")
def ledger(real_panel):
    return cl.claims_table(real_panel, PARAMS).set_index("id")


def view(panel, as_of=None):
    return claims_base.View(panel, pd.Timestamp(as_of) if as_of else panel.index[-1], PARAMS)


def test_the_ledger_holds_every_claim_with_a_source_and_a_function():
    claims = cl.read_claims()
    assert [claim.id for claim in claims] == list(range(1, 23))
    assert all(claim.source and claim.claim and claim.published for claim in claims)
    for claim in claims:
        assert callable(cl.measure_function(claim.measure))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("- id: 1\n  source: x\n", "lacks published_on"),
        (
            "- {id: 1, source: a, published_on: , claim: b, published: c, measure: d, parameters: {}, color: e}",
            "unknown",
        ),
        ("nonsense", "list of claims"),
        ("a: [", "not readable"),
    ],
)
def test_a_broken_ledger_is_refused_in_one_line(tmp_path, text, complaint):
    path = tmp_path / "claims.yml"
    path.write_text(text)
    with pytest.raises(DataError, match=complaint) as error:
        cl.read_claims(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["os.system", "claims_article._fall", "claims_vaneck.np", "claims_article.economics", ""]
)
def test_only_measure_functions_can_be_named(name):
    with pytest.raises(DataError, match="not a function"):
        cl.measure_function(name)


def test_claims_after_the_data_are_not_testable_and_nothing_crashes(panel):
    table = cl.claims_table(panel, PARAMS)
    contract.check("claims", table)
    assert set(table["verdict"]) <= set(claims_base.VERDICTS)
    late = table[table["as_of"] > panel.index[-1]]
    assert len(late) > 5 and late["verdict"].eq(claims_base.NOT_TESTABLE).all()
    assert late["note"].str.startswith("The data end on").all()


def test_on_a_simulated_market_every_note_says_so(panel):
    claims = cl.read_claims()[10:12]
    assert cl.claims_table(panel, PARAMS, claims, simulated=True)["note"].str.startswith("On a simulated market").all()
    assert not cl.claims_table(panel, PARAMS, claims)["note"].str.contains("simulated").any()


def test_a_panel_without_hash_rate_or_revenue_is_reported_not_raised(panel):
    bare = panel.copy()
    bare[[name for name in PANEL_COLUMNS if name != "price_usd"]] = np.nan
    bare.index = bare.index + pd.Timedelta(days=3000)  # to March 2026
    table = cl.claims_table(bare, PARAMS)
    assert len(table) == 22 and table["note"].str.len().gt(0).all()


def test_later_data_change_no_finding_of_the_claims_own_date(real_panel):
    columns = ["measured", "verdict", "p_value"]
    cut = cl.claims_table(real_panel.loc[:"2026-01-20"], PARAMS)
    whole = cl.claims_table(real_panel, PARAMS)
    rows = whole["published_on"].notna()  # the undated claim is measured on all data
    pd.testing.assert_frame_equal(cut.loc[rows, columns], whole.loc[rows, columns])


def test_outcome_equals_a_plain_computation(panel):
    condition = panel["price_usd"].pct_change(20) < -0.05
    found = claims_base.outcome(panel, condition, 30, 0, "2014-06-01")
    price = panel["price_usd"]
    simple = (price.shift(-30) / price - 1).loc["2014-06-01":].dropna()
    chosen = simple[condition.reindex(simple.index)]
    other = simple[~condition.reindex(simple.index)]
    assert found.n_known == len(chosen) and found.n_days == condition.loc["2014-06-01":].sum()
    assert (found.hit_rate, found.mean) == pytest.approx(((chosen > 0).mean(), chosen.mean()))
    assert (found.other_hit_rate, found.other_mean) == pytest.approx(((other > 0).mean(), other.mean()))


def test_an_outcome_without_days_is_not_measurable(panel):
    with pytest.raises(claims_base.NotMeasurable):
        claims_base.outcome(panel, pd.Series(False, index=panel.index), 30, 0, "2014-06-01")


@pytest.mark.parametrize(
    ("matches", "p", "verdict"),
    [(True, 0.01, "reproduced"), (True, 0.2, "not distinguishable from chance"), (False, 0.01, "contradicted")],
)
def test_figures_must_match_and_stand_out(matches, p, verdict):
    assert claims_base.judge(matches, p) == verdict


@pytest.mark.parametrize(
    ("size_fits", "deeper_by", "verdict"),
    [
        (True, -0.01, "reproduced"),
        (True, 0.004, "not distinguishable from chance"),
        (True, 0.05, "contradicted"),
        (False, -0.01, "contradicted"),
    ],
)
def test_a_deeper_fall_counts_only_beyond_its_error(size_fits, deeper_by, verdict):
    assert claims_vaneck._fall_verdict(size_fits, deeper_by, error=0.03) == verdict


def test_bridging_joins_only_episodes_that_lie_close(panel):
    raw, joined = claims_base.published_episodes(panel), claims_base.published_episodes(panel, 5)
    assert joined["parts"].sum() == len(raw) and len(joined) < len(raw)
    gaps = joined["start"].iloc[1:].to_numpy() - joined["end"].iloc[:-1].to_numpy()
    assert (gaps > np.timedelta64(5, "D")).all()


def test_fall_is_found_in_a_planted_series():
    rate = np.concatenate([np.full(60, 900.0), np.full(20, 1000.0), np.full(40, 850.0)])
    planted = market(len(rate), "2025-09-01").assign(hash_rate_ehs=rate)
    options = {"peak_since": "2025-10-01", "peak_ehs": 1000, "mean_days": [1, 7]}
    found = claims_article.hash_rate_fall(view(planted), fall=-0.15, low_ehs=850, **options)
    assert found.verdict == "reproduced" and "down 15.0 %" in found.measured
    wrong = claims_article.hash_rate_fall(view(planted), fall=-0.30, low_ehs=850, **options)
    assert wrong.verdict == "contradicted"


def test_low_held_and_near_low_on_a_valley():
    price = pd.Series(np.abs(np.arange(-20, 21)) + 10.0, index=pd.date_range("2020-01-01", periods=41))
    held = claims_winrates.low_held(price, 5, 5)
    assert held.iloc[10] == 0 and held.iloc[22] == 1 and np.isnan(held.iloc[3]) and np.isnan(held.iloc[38])
    near = claims_price.near_low(price, 3, 10)
    assert near.iloc[20] == near.iloc[23] == 1 and near.iloc[24] == 0 and np.isnan(near.iloc[5])


def test_support_is_judged_on_the_claims_day_and_after(panel):
    price = panel["price_usd"]
    day = panel.index[800]
    low = claims_price.support(view(panel, day), price.iloc[800:].min() * 0.99, [30])
    assert low.verdict == "reproduced"
    above = claims_price.support(view(panel, day), price.iloc[800] * 1.01, [30, 5000])
    assert above.verdict == "contradicted" and "5000 days not yet known" in above.followed
    last = claims_price.support(view(panel), 1.0, [30])
    assert last.verdict == "not testable with free data"


def test_nearest_days_is_signed():
    own = pd.DatetimeIndex(["2020-01-10", "2020-02-10"])
    gaps = claims_edwards.nearest_days(pd.DatetimeIndex(["2020-01-12", "2020-02-09"]), own)
    assert gaps.tolist() == [-2, 1]


def test_published_signals_have_a_source_each():
    table = claims_edwards.read_published_signals()
    assert len(table) == 15 and table["source"].str.len().gt(10).all() and table["date"].is_monotonic_increasing


def test_negative_growth_over_30_days_is_the_inversion_of_the_ribbons(panel):
    from capitulation.mining.ribbons import ribbons

    negative = claims_base.growth(panel, 30) < 0
    pd.testing.assert_series_equal(negative, ribbons(panel, 30, 60)["in_capitulation"], check_names=False)


def test_vanecks_ninety_day_condition_on_real_data(ledger, real_panel):
    row = ledger.loc[13]
    shares = [float(text) for text in re.findall(r"([\d.]+) %", row["measured"])]
    assert shares[0] == pytest.approx(77, abs=1.5) and shares[2] == pytest.approx(72, abs=1.5)
    past = real_panel.loc[:"2025-12-15"]
    found = claims_base.outcome(past, claims_base.growth(past, 90) < 0, 180, 0, "2014-01-01")
    assert found.n_days in (346, 347) and found.n_episodes < 15
    assert row["p_value"] == found.p_value > 0.05 and row["verdict"] == "not distinguishable from chance"
    assert "separate spells" in row["measured"] and "rotation p" in row["measured"]


def test_vanecks_printed_horizon_is_ninety_days_not_180(ledger):
    assert "over 90 days;" in ledger.loc[12, "measured"] and ledger.loc[12, "verdict"] == "contradicted"


def test_the_articles_four_counts_on_real_data(ledger):
    assert "7-day mean" in ledger.loc[1, "measured"] and "down 15.0 %" in ledger.loc[1, "measured"]
    assert "51 of 53 days" in ledger.loc[2, "measured"] and "15 days old" in ledger.loc[2, "measured"]
    assert "2026-01-04 and 2026-01-05" in ledger.loc[2, "note"] and ledger.loc[2, "verdict"] == "contradicted"
    assert "6 of 8 negative" in ledger.loc[3, "measured"] and "−3.28 % on 2026-01-22" in ledger.loc[3, "followed"]
    assert ledger.loc[4, "verdict"] == "not distinguishable from chance" and "−5." in ledger.loc[4, "followed"]
    assert ledger.loc[4, "p_value"] == pytest.approx(0.2241, abs=5e-4)


def test_edwards_dates_and_lengths_on_real_data(ledger):
    assert ledger.loc[16, "measured"].startswith("15 of 15 within 2 days")
    assert ledger.loc[18, "measured"].startswith("71 days to 2022-08-19; 72 days to 2019-01-10")


def test_rig_breakeven_and_miner_flows_on_real_data(ledger):
    assert ledger.loc[15, "verdict"] == "reproduced"
    assert ledger.loc[10, "verdict"] == "not testable with free data" and np.isnan(ledger.loc[10, "p_value"])


def test_every_real_row_reasons_and_none_says_no_effect(ledger):
    assert ledger["note"].str.len().gt(40).all() and ledger["measured"].str.len().gt(5).all()
    text = " ".join(ledger["note"]) + " ".join(ledger["measured"])
    assert "no effect" not in text and "nan" not in text.lower().split() and ".." not in text
    assert not ledger["measured"].str.match(r"^[=+\-@]").any()
    known = ledger["p_value"].dropna()
    assert known.between(0, 1).all() and len(known) >= 8
    assert (ledger.loc[ledger["verdict"] == "reproduced", "p_value"].dropna() < 0.05).all()
    assert claims_vaneck.MEAN_DAYS == 30
