"""Rules and episodes: by hand, against slow versions, one's own rule in every table, the real capitulations."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capitulation.errors import InputError
from capitulation.mining import difficulty, economics, hashrate, rules
from capitulation.mining import episodes as ep
from panels import mined_panel, steady_panel

DAYS = pd.date_range("2020-01-01", periods=400)
FLAGS = st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def mined():
    return mined_panel(1200, seed=33, growth=0.1)[0]


@pytest.fixture(scope="module")
def applied(mined):
    return ep.apply_rules(mined)


def _state(values) -> pd.Series:
    return pd.Series(pd.array(values, dtype="boolean"), index=DAYS[: len(values)])


def _slow_runs(state):
    """Day by day, as one would on paper."""
    parts = [
        (inside, [*days]) for inside, days in itertools.groupby(state.dropna().index, lambda day: bool(state[day]))
    ]
    ends = [days[0] for _, days in parts[1:]] + [None]
    known = state.dropna().index[-1:]
    spans = [(days[0], end) for (inside, days), end in zip(parts, ends, strict=True) if inside] if parts else []
    going_on = True if len(state) and not pd.isna(state.iloc[-1]) else None
    length = [((end or known[0] + pd.Timedelta(days=1)) - start).days for start, end in spans]
    return [(start, end, going_on if end is None else False, n) for (start, end), n in zip(spans, length, strict=True)]


@settings(deadline=None)
@given(FLAGS)
def test_runs_equal_the_day_by_day_count(values):
    table = ep.runs(_state(values))
    rows = table[["start", "end", "ongoing", "days"]].astype(object).replace({pd.NaT: None, pd.NA: None})
    assert [*rows.itertuples(index=False, name=None)] == _slow_runs(_state(values))
    assert table["episode"].tolist() == list(range(1, len(table) + 1))
    if None not in values:
        assert ep.runs(pd.Series(values, index=DAYS[: len(values)])).equals(table)


def test_a_state_must_be_true_false_or_missing_on_days():
    for wrong in (pd.Series(["yes"], index=DAYS[:1]), pd.Series([True])):
        with pytest.raises(InputError, match="a state"):
            ep.runs(wrong)


def _buys(price, *spans):
    panel = steady_panel(np.full(len(price), 5.0), start="2020-01-01", price=np.asarray(price, float))
    ends = [pd.NaT if b is None else DAYS[b] for _, b in spans]
    return ep.buy_dates(panel, pd.DataFrame({"start": [DAYS[a] for a, _ in spans], "end": ends})).tolist()


def test_buy_is_the_recovery_day_or_the_first_cross_before_the_next_start():
    rising, falling = np.linspace(10, 20, 100), np.linspace(20, 10, 100)
    assert _buys(rising, (40, 60)) == [DAYS[60]]
    waited, bought = _buys(np.r_[falling, rising], (40, 60), (90, 150))
    assert pd.isna(waited) and bought == DAYS[150]
    assert pd.isna(_buys(rising, (40, None))[0]) and pd.isna(_buys(np.full(100, np.nan), (40, 60))[0])


def test_no_price_at_the_recovery_means_no_buy_however_long_the_next_start_is_off():
    rising = np.linspace(10, 20, 200)
    later, hole = rising.copy(), rising.copy()
    later[:65], hole[60] = np.nan, np.nan
    assert pd.isna(_buys(later, (40, 60))[0]) and _buys(later, (80, 90)) == [DAYS[90]]
    assert pd.notna(_buys(hole, (40, 60))[0])  # one missing price does not take the signal away
    hole[61] = np.nan
    assert _buys(hole, (40, 60)) == [DAYS[60]] and pd.isna(_buys(hole, (40, 61))[0])  # which day is first is unknown


def test_each_figure_of_an_episode_is_that_of_its_days(mined):
    ribbon, cuts, fallen = hashrate.hash_ribbons(mined), difficulty.adjustments(mined), hashrate.drawdown(mined)
    table = ep.episodes(ribbon["inverted"], mined)
    assert len(table) > 3
    for row in table.itertuples():
        stop = mined.index[-1] if row.ongoing else row.end - pd.Timedelta(days=1)
        worst = ribbon.loc[row.start : stop, "gap"].idxmin()
        assert ribbon.loc[row.start : stop, "inverted"].all()
        assert (row.depth, row.depth_z) == tuple(ribbon.loc[worst, ["gap", "gap_z"]])
        assert row.hash_rate_drawdown == fallen[row.start : stop].min()
        assert row.price_start == mined.loc[row.start, "price_usd"]
        assert row.ongoing or row.price_end == mined.loc[row.end, "price_usd"]
        assert row.negative_retargets == (cuts.loc[cuts["date"].between(row.start, stop), "change"] < 0).sum()
    assert (table["days_unknown"] == 0).all()
    blind = ep.episodes(ribbon["inverted"], mined.assign(height=np.nan))
    assert blind["negative_retargets"].isna().all() and len(blind) == len(table)
    last = table["start"].iloc[-2]
    half = ep.episodes(ribbon["inverted"], mined.assign(height=mined["height"].where(mined.index < last)))
    known = half["negative_retargets"].dropna()
    assert known.equals(table["negative_retargets"].iloc[: len(table) - 2]), "what is not counted is not zero"


def test_episodes_say_how_many_unknown_days_their_ends_and_their_being_one_hang_on(mined):
    T, F, N = True, False, None
    panel, values = mined.iloc[:14], [N, T, T, F, F, N, N, T, N, T, N, F, T, N]
    found = ep.episodes(pd.Series(pd.array(values, dtype="boolean"), panel.index), panel)
    assert found["start"].tolist() == panel.index[[1, 7, 12]].tolist()
    assert found["days_unknown"].tolist() == [1, 4, 1] and found["days"].tolist() == [2, 4, 1]
    assert found["ongoing"].tolist() == [False, False, pd.NA] and found["end"].isna().tolist() == [False, False, True]


def test_what_is_left_out_keeps_numbers_and_still_ends_the_buy_window(mined):
    whole, kept = ep.apply_rules(mined), ep.apply_rules(mined, min_days=10, min_depth_z=1.0)
    for name in rules.RULES:
        table, left = (one.episodes[one.episodes["definition"] == name] for one in (whole, kept))
        expected = table[(table["days"] >= 10) & (table["depth_z"] <= -1.0)]
        pd.testing.assert_frame_equal(left.reset_index(drop=True), expected.reset_index(drop=True))
        inside, state = kept.events[name, "in_state"], whole.states[name]
        there = state.index[state.fillna(False)]
        ends = left["end"].fillna(mined.index[-1] + pd.Timedelta(days=1))
        days = [day for day in there if ((left["start"] <= day) & (day < ends)).any()]
        assert inside.tolist() == days == there[kept.states[name][there]].tolist()
        assert kept.states[name].isna().equals(state.isna())
        assert kept.events[name, "buy"].tolist() == left["buy_date"].dropna().tolist()
    assert len(kept.episodes) < len(whole.episodes)


@settings(deadline=None)
@given(st.lists(st.integers(0, 399), max_size=40, unique=True), st.integers(1, 60))
def test_clusters_split_exactly_where_the_gap_is_wide_enough(positions, gap):
    days = DAYS[sorted(positions)]
    numbers = [0, *np.cumsum([(b - a).days >= gap for a, b in itertools.pairwise(days)]).tolist()]
    assert ep.clusters([*days[::-1], pd.NaT], gap).tolist() == numbers[: len(days)]
    assert ep.n_clusters(days, gap) == len(set(numbers[: len(days)]))


def test_unknown_names_are_refused_with_the_nearest_known(mined):
    with pytest.raises(InputError, match="mean hash_ribbons"):
        rules.rule_state(mined, "hash_ribbon")
    with pytest.raises(InputError, match="mean puell_threshold"):
        ep.apply_rules(mined, puel_threshold=0.4)


def test_episodes_of_several_states_are_those_of_each(mined, applied):
    states = rules.rule_states(mined)
    each = [ep.episodes(state, mined).assign(definition=name) for name, state in states.items()]
    together = pd.concat([table for table in each if len(table)], ignore_index=True)
    pd.testing.assert_frame_equal(ep.episodes(states, mined), together[["definition", *together.columns[:-1]]])
    pd.testing.assert_frame_equal(applied.episodes, ep.episodes(states, mined))


def test_each_rule_is_its_definition_written_out(mined, applied):
    states, measure = applied.states, {name: rule.compute(mined)["measure"] for name, rule in rules.RULES.items()}
    mean, at = mined["hash_rate_ehs"].rolling(30).mean(), 800
    for days in (30, 90):
        np.testing.assert_allclose(measure[f"hash_rate_growth_{days}d"], mean / mean.shift(days) - 1, atol=1e-12)
    assert states["hash_ribbons"].equals(states["hash_rate_growth_30d"].rename("hash_ribbons"))
    means = [mined["difficulty"].iloc[at - d + 1 : at + 1].mean() for d in (9, 14, 25, 40, 60, 90, 128, 200)]
    compression = measure["difficulty_ribbon_compression"]
    assert compression.iloc[at] == pytest.approx(np.std(means) / np.mean(means), rel=1e-9)
    assert compression.first_valid_index() == mined.index[199]
    both = states["puell_multiple"] & states["difficulty_ribbon_compression"]
    assert (both == states["puell_compression"]).dropna().all()
    hashprice = economics.economics(mined)["hashprice_usd_ph_day"]
    expected = hashprice.iloc[at] / hashprice.iloc[at - 364 : at + 1].mean()
    assert measure["hashprice_stress"].iloc[at] == pytest.approx(expected, rel=1e-9)
    table = difficulty.adjustments(mined)
    for day in mined.index[::37]:
        last = table[table["date"] <= day]["change"].tail(5)
        state = states.loc[day, "negative_retargets"]
        assert pd.isna(state) if len(last) < 5 else state == ((last < 0).sum() >= 3)
    panel = steady_panel(np.r_[np.full(60, 100.0), np.linspace(100, 80, 60)])
    fallen = rules.rule_state(panel, "hash_rate_drawdown", drawdown_mean_days=1, drawdown_threshold=0.1)
    assert (fallen == (panel["hash_rate_ehs"] < 90)).all()


@pytest.fixture
def own_rule():
    before = dict(rules.RULES)

    @rules.rule("below_high", says="7-day mean of hash rate below its 90-day high", source="a test")
    def below_high(panel: pd.DataFrame, *, below: float = 0.1, fast_days: int = 30) -> pd.DataFrame:
        mean = panel["hash_rate_ehs"].rolling(7).mean()
        fallen = mean / mean.rolling(90).max() - 1
        return rules.beyond(fallen, -below - fallen)

    yield below_high
    rules.RULES.clear()
    rules.RULES.update(before)


def test_an_own_rule_is_taken_up_by_every_table(mined, own_rule):
    rule = rules.RULES["below_high"]
    assert rule.words == "below high" and "below" in rules.thresholds()
    mean = mined["hash_rate_ehs"].rolling(7).mean()
    plain = mean < 0.9 * mean.rolling(90).max()
    found = ep.apply_rules(mined)
    assert found.states["below_high"].fillna(False).equals(plain.astype("boolean").rename("below_high"))
    own = found.episodes[found.episodes["definition"] == "below_high"]
    expected = ep.episodes(plain, mined)
    assert own["start"].tolist() == expected["start"].tolist() and own["grade"].tolist() == expected["grade"].tolist()
    assert found.events["below_high", "recovery"].tolist() == expected["end"].dropna().tolist()
    assert 0 < ep.apply_rules(mined, below=0.2).states["below_high"].sum() < plain.sum()
    for wrong in (lambda panel, *, fast_days=20: panel, lambda panel, *, below: panel):
        with pytest.raises(InputError, match="needs a default"):
            rules.rule("another")(wrong)


def test_known_capitulations_have_their_known_days(real_panel):
    table = ep.episodes(hashrate.hash_ribbons(real_panel)["inverted"], real_panel)
    late = table[table["start"] >= "2025-11-01"]
    assert late["start"].dt.strftime("%F").tolist() == ["2025-11-25", "2025-11-29", "2026-01-06"]
    assert late["days"].tolist() == [3, 36, 51]
    assert table.loc[table["start"].between("2022-06-01", "2022-08-31"), "days"].tolist() == [25, 45]
