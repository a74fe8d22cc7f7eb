"""The ten rules: one interface, each against its definition written out, and their agreement."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capitulation.errors import InputError
from capitulation.mining import rules, rules_measures
from capitulation.mining.economics import economics
from capitulation.mining.fleet import fleet
from capitulation.mining.retargets import retargets
from capitulation.params import DEFINITIONS, Params
from mining_panels import mined_panel, steady_panel

PARAMS = Params()


@pytest.fixture(scope="module")
def mined():
    return mined_panel(1100, seed=21, growth=0.2)[0]


@pytest.fixture(scope="module")
def states(mined):
    return rules.all_rule_states(mined, PARAMS)


def test_every_definition_has_a_rule_with_words_and_a_source():
    assert tuple(rules.RULES) == DEFINITIONS
    for name, rule in rules.RULES.items():
        assert rule.name == name
        assert all(len(text) > 5 for text in (rule.label, rule.description, rule.source))
    assert len({rule.label for rule in rules.RULES.values()}) == len(DEFINITIONS)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_states_follow_one_contract(states, mined, name):
    state = states[name]
    assert state.index.equals(mined.index)
    assert state["in_state"].dtype == bool
    assert state["known"].dtype == bool
    assert not (state["in_state"] & ~state["known"]).any()
    assert (state["known"] == state["intensity"].notna()).all()
    assert ((state["intensity"] > 0) == state["in_state"]).all()


def test_an_unknown_rule_is_refused_in_one_line(mined):
    with pytest.raises(InputError, match="definition='nonsense': must be one of hash_ribbons"):
        rules.rule_state(mined, "nonsense", PARAMS)


@pytest.mark.parametrize("days", [30, 90])
def test_growth_rule_is_the_growth_of_the_30_day_mean(states, mined, days):
    mean = mined["hash_rate_ehs"].rolling(30).mean()
    expected = mean / mean.shift(days) - 1
    state = states[f"hash_rate_growth_{days}d"]
    np.testing.assert_allclose(state["measure"], expected, rtol=1e-9, atol=1e-12)
    assert (state["in_state"] == (expected < 0)).all()


def test_ribbons_of_30_and_60_days_are_the_30_day_growth_rule(states):
    ribbon, growth = states["hash_ribbons"], states["hash_rate_growth_30d"]
    assert (ribbon["in_state"] == growth["in_state"]).all()
    # gap = (F - P) / (F + P) = g / (2 + g) with g = F / P - 1.
    expected = growth["measure"] / (2 + growth["measure"])
    np.testing.assert_allclose(ribbon["measure"], expected, atol=1e-12)


def test_growth_error_in_equilibrium_is_that_of_two_separate_means():
    panel = steady_panel(np.full(200, 5.0))
    se = rules_measures.hash_rate_growth_se(panel, 90).iloc[-1]
    assert se == pytest.approx(np.sqrt(2 / (30 * 144)), rel=1e-12)


def test_drawdown_rule_is_beyond_its_threshold():
    panel = steady_panel(np.r_[np.full(60, 100.0), np.linspace(100, 80, 60)])
    state = rules.rule_state(panel, "hash_rate_drawdown", Params(drawdown_mean_days=1, drawdown_threshold=0.1))
    assert (state["in_state"] == (panel["hash_rate_ehs"] < 90)).all()


def test_negative_retargets_rule_counts_day_by_day(states, mined):
    table = retargets(mined)
    state = states["negative_retargets"]
    for day in mined.index[::37]:
        last = table[table["date"] <= day]["change"].tail(PARAMS.retargets_n)
        if len(last) < PARAMS.retargets_n:
            assert not state.loc[day, "known"]
        else:
            assert state.loc[day, "measure"] == (last < 0).sum()
            assert state.loc[day, "in_state"] == ((last < 0).sum() >= PARAMS.retargets_k)


def test_compression_is_the_variation_of_eight_means(states, mined):
    windows = (9, 14, 25, 40, 60, 90, 128, 200)
    at = 700
    means = [mined["difficulty"].iloc[at - days + 1 : at + 1].mean() for days in windows]
    measure = states["difficulty_ribbon_compression"]["measure"]
    assert measure.iloc[at] == pytest.approx(np.std(means) / np.mean(means), rel=1e-9)
    assert measure.first_valid_index() == mined.index[199]


def test_both_is_where_puell_and_compression_meet(states):
    both, puell, ribbon = (
        states[name] for name in ("puell_compression", "puell_multiple", "difficulty_ribbon_compression")
    )
    assert (
        (both["in_state"] == (puell["in_state"] & ribbon["in_state"])[both["known"]].reindex(both.index))
        .loc[both["known"]]
        .all()
    )
    assert (both["known"] == (puell["known"] & ribbon["known"])).all()


def test_hashprice_stress_compares_with_its_own_year(states, mined):
    hashprice = economics(mined)["hashprice_usd_ph_day"]
    at = 800
    expected = hashprice.iloc[at] / hashprice.iloc[at - 364 : at + 1].mean()
    assert states["hashprice_stress"]["measure"].iloc[at] == pytest.approx(expected, rel=1e-9)


def test_fleet_rule_uses_the_share_under_water(states, mined):
    share = fleet(mined, PARAMS.power_price_usd_kwh)["share_under_water"]
    state = states["fleet_under_breakeven"]
    assert (state["in_state"] == (share > PARAMS.fleet_share_threshold)).all()
    pd.testing.assert_series_equal(state["measure"], share, check_names=False)


def _state(flags, known=None):
    index = pd.date_range("2020-01-01", periods=len(flags))
    known = np.ones(len(flags), bool) if known is None else np.asarray(known, bool)
    return pd.DataFrame({"in_state": np.asarray(flags, bool) & known, "known": known}, index=index)


def test_agreement_by_hand():
    a, b = _state([1, 1, 0, 0]), _state([1, 0, 1, 0])
    assert rules.agreement({"a": a, "b": b}).loc["a", "b"] == pytest.approx(1 / 3)
    assert rules.agreement({"a": a, "b": b}, "phi").loc["a", "b"] == pytest.approx(0)
    assert rules.agreement({"a": a, "b": a}, "phi").loc["a", "b"] == pytest.approx(1)


def test_agreement_looks_only_at_days_both_know_and_since_the_given_one():
    a, b = _state([1, 1, 0, 1]), _state([1, 0, 0, 1], known=[1, 0, 1, 1])
    assert rules.agreement({"a": a, "b": b}).loc["a", "b"] == 1
    assert rules.agreement({"a": a, "b": b}, since="2020-01-03").loc["a", "b"] == 1
    assert np.isnan(rules.agreement({"a": _state([0, 0]), "b": _state([0, 0])}).loc["a", "b"])
    with pytest.raises(InputError, match="measure='other'"):
        rules.agreement({"a": a}, "other")


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=4, max_size=60))
def test_agreement_is_symmetric_and_bounded(pairs):
    first, second = zip(*pairs, strict=True)
    states = {"a": _state(first), "b": _state(second)}
    for measure, low in (("jaccard", 0), ("phi", -1)):
        table = rules.agreement(states, measure)
        value = table.loc["a", "b"]
        assert np.isnan(value) or low - 1e-12 <= value <= 1 + 1e-12
        np.testing.assert_equal(table.to_numpy(), table.to_numpy().T)


def test_real_90_day_condition_gives_the_published_number_of_days(real_panel):
    state = rules.rule_state(real_panel, "hash_rate_growth_90d", PARAMS)
    assert state["in_state"].loc["2014-01-01":"2025-12-15"].sum() in (346, 347)


def test_real_rules_are_all_known_and_all_fire(real_panel):
    for name, state in rules.all_rule_states(real_panel, PARAMS).items():
        recent = state.loc["2015":]
        assert recent["known"].all(), name
        assert 0 < recent["in_state"].mean() < 0.9, name
