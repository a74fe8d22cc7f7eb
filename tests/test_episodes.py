"""Episodes, buy days, grades, anchors and clusters: by hand, against slow versions, and on the real file."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capitulation import contract
from capitulation import episodes as ep
from capitulation.errors import InputError
from capitulation.mining.retargets import retargets
from capitulation.mining.ribbons import ribbons
from capitulation.mining.rules import all_rule_states
from capitulation.params import DEFINITIONS, Params
from mining_panels import mined_panel, steady_panel

PARAMS = Params()
DAYS = pd.date_range("2020-01-01", periods=400)


def _flags(values):
    return pd.Series(np.asarray(values, bool), index=DAYS[: len(values)])


def _slow_episodes(flags, known):
    """Day by day, as one would on paper."""
    found, start = [], None
    for day, inside, sure in zip(flags.index, flags, known, strict=True):
        if not sure:
            continue
        if inside and start is None:
            start = day
        if not inside and start is not None:
            found.append((start, day, False, (day - start).days))
            start = None
    if start is not None:
        found.append((start, pd.NaT, True, (flags.index[-1] - start).days + 1))
    return found


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_episodes_equal_the_day_by_day_count(pairs):
    flags, known = (_flags(part) for part in zip(*pairs, strict=True))
    table = ep.find_episodes(flags & known, known)
    rows = list(table[["start", "end", "ongoing", "days"]].itertuples(index=False, name=None))
    for row, expected in itertools.zip_longest(rows, _slow_episodes(flags & known, known)):
        assert (row[0], row[2], row[3]) == (expected[0], expected[2], expected[3])
        assert row[1] == expected[1] or (pd.isna(row[1]) and pd.isna(expected[1]))
    assert table["episode"].tolist() == list(range(1, len(table) + 1))


@given(st.lists(st.booleans(), min_size=1, max_size=80))
def test_days_of_all_episodes_are_the_days_in_the_state(values):
    assert ep.find_episodes(_flags(values))["days"].sum() == sum(values)


def test_no_episode_gives_an_empty_table_with_all_columns():
    table = ep.find_episodes(_flags([False] * 5))
    assert table.empty
    assert list(table.columns) == ["episode", "start", "end", "ongoing", "days"]


def _priced(price):
    return steady_panel(np.full(len(price), 5.0), start="2020-01-01", price=np.asarray(price, float))


def _episodes(*spans):
    return pd.DataFrame(
        {"start": [DAYS[a] for a, _ in spans], "end": [pd.NaT if b is None else DAYS[b] for _, b in spans]}
    )


def test_buy_is_the_recovery_day_where_price_is_already_rising():
    panel = _priced(np.linspace(10, 20, 100))
    assert ep.buy_dates(panel, _episodes((40, 60))).tolist() == [DAYS[60]]


def test_buy_waits_for_the_cross_and_takes_the_first():
    price = np.r_[np.linspace(20, 10, 70), np.linspace(10, 20, 60), np.linspace(20, 10, 60), np.linspace(10, 20, 60)]
    panel = _priced(price)
    fast, slow = (panel["price_usd"].rolling(days).mean() for days in (10, 20))
    first = next(day for day in DAYS[60:] if fast[day] > slow[day])
    assert ep.buy_dates(panel, _episodes((40, 60))).tolist() == [first]
    assert first > DAYS[60]


def test_no_buy_once_the_next_capitulation_has_begun():
    price = np.r_[np.linspace(20, 10, 100), np.linspace(10, 20, 100)]
    bought = ep.buy_dates(_priced(price), _episodes((40, 60), (90, 150)))
    assert pd.isna(bought.iloc[0])
    assert bought.iloc[1] == DAYS[150]


def test_no_buy_while_the_episode_goes_on_or_prices_are_missing():
    assert ep.buy_dates(_priced(np.linspace(10, 20, 100)), _episodes((40, None))).isna().all()
    assert ep.buy_dates(_priced(np.full(100, np.nan)), _episodes((40, 60))).isna().all()


@pytest.mark.parametrize(
    ("z", "name"),
    [
        (-1.99, "noise-like"),
        (-2.0, "doubtful"),
        (-3.0, "doubtful"),
        (-3.01, "real"),
        (5.0, "noise-like"),
        (np.nan, None),
    ],
)
def test_grades_have_the_stated_borders(z, name):
    found = ep.grade(pd.Series([z])).iloc[0]
    assert pd.isna(found) if name is None else found == name


@pytest.fixture(scope="module")
def mined():
    return mined_panel(1200, seed=33, growth=0.1)[0]


@pytest.fixture(scope="module")
def described(mined):
    state = ribbons(mined).rename(columns={"in_capitulation": "in_state"})
    return ep.describe_episodes(mined, "hash_ribbons", state, PARAMS)


def test_described_episodes_keep_the_contract(described):
    assert len(described) > 3
    assert list(contract.check("episodes", described).columns[:2]) == ["definition", "episode"]
    assert (described["depth"] < 0).all()
    assert (described["hash_rate_drawdown"] <= 0).all()


def test_each_described_figure_is_that_of_its_days(mined, described):
    table, cuts = ribbons(mined), retargets(mined)
    for row in described.itertuples():
        stop = mined.index[-1] if row.ongoing else row.end - pd.Timedelta(days=1)
        days = table.loc[row.start : stop]
        worst = days["ribbon_gap"].idxmin()
        assert days["in_capitulation"].all()
        assert row.depth == days.loc[worst, "ribbon_gap"]
        assert row.depth_z == days.loc[worst, "ribbon_gap_z"]
        assert row.price_start == mined.loc[row.start, "price_usd"]
        assert row.ongoing or row.price_end == mined.loc[row.end, "price_usd"]
        inside = cuts[(cuts["date"] >= row.start) & (cuts["date"] <= stop)]
        assert row.negative_retargets == (inside["change"] < 0).sum()


def test_cuts_are_missing_not_zero_where_heights_are_unknown(mined):
    blind = mined.assign(height=np.nan)
    table = ep.describe_episodes(blind, "hash_ribbons", ribbons(blind), PARAMS)
    assert len(table) > 3
    assert table["negative_retargets"].isna().all()


def test_all_rules_are_described_in_one_table(mined):
    states = all_rule_states(mined, PARAMS)
    table = ep.all_episodes(mined, PARAMS, states)
    contract.check("episodes", table)
    assert set(table["definition"]) <= set(DEFINITIONS)
    for name, state in states.items():
        own = table[table["definition"] == name]
        assert own["days"].sum() >= state["in_state"].sum()
    pd.testing.assert_frame_equal(table, ep.all_episodes(mined, PARAMS))


def test_a_panel_too_short_for_any_rule_gives_an_empty_table():
    table = ep.all_episodes(steady_panel(np.full(30, np.nan)), PARAMS)
    assert table.empty
    contract.check("episodes", table)


def test_filter_keeps_what_is_long_and_deep_enough(described):
    kept = ep.keep_episodes(described, min_days=10, min_depth_z=1.0)
    expected = described[(described["days"] >= 10) & (described["depth_z"] <= -1.0)]
    assert kept["episode"].tolist() == expected["episode"].tolist()
    assert len(ep.keep_episodes(described)) == len(described)


def test_anchors_name_their_days(mined, described):
    state = ribbons(mined)
    assert ep.anchor_days(described, state, "start").tolist() == described["start"].tolist()
    assert ep.anchor_days(described, state, "recovery").tolist() == described["end"].dropna().tolist()
    assert ep.anchor_days(described, state, "buy").tolist() == described["buy_date"].dropna().tolist()
    inside = ep.anchor_days(described, state, "in_state")
    assert len(inside) == state["in_capitulation"].sum() == described["days"].sum()
    assert ep.anchor_days(described, state["in_capitulation"], "in_state").equals(inside)
    with pytest.raises(InputError, match="anchor='noon'"):
        ep.anchor_days(described, state, "noon")


@given(st.lists(st.integers(0, 399), min_size=0, max_size=40, unique=True), st.integers(1, 60))
def test_clusters_split_exactly_where_the_gap_is_wide_enough(positions, gap):
    days = DAYS[sorted(positions)]
    found = ep.clusters(days, gap)
    assert len(found) == len(days)
    for i in range(1, len(days)):
        assert found[i] - found[i - 1] == ((days[i] - days[i - 1]).days >= gap)
    assert not len(days) or found[0] == 0


@pytest.fixture(scope="module")
def real_ribbon_episodes(real_panel):
    return ep.describe_episodes(real_panel, "hash_ribbons", ribbons(real_panel), PARAMS)


def test_published_buy_signals_are_met_within_two_days(real_ribbon_episodes, data_folder):
    published = pd.read_csv(data_folder / "reference" / "published_buy_signals.csv", parse_dates=["date"])["date"]
    bought = real_ribbon_episodes["buy_date"].dropna()
    away = [(bought - day).abs().min().days for day in published]
    assert len(away) == 15
    assert max(away) <= 2


def test_the_inversion_of_2025_began_on_29_november_but_not_without_a_break(real_ribbon_episodes):
    late = real_ribbon_episodes[real_ribbon_episodes["start"] >= "2025-11-01"]
    assert late["start"].dt.strftime("%F").tolist() == ["2025-11-25", "2025-11-29", "2026-01-06"]
    assert late["days"].tolist() == [3, 36, 51]


def test_the_capitulation_of_2022_spans_71_days_with_one_day_out(real_ribbon_episodes):
    of_2022 = real_ribbon_episodes[real_ribbon_episodes["start"].between("2022-06-01", "2022-08-31")]
    assert (of_2022["end"].iloc[-1] - of_2022["start"].iloc[0]).days == 71
    assert of_2022["days"].tolist() == [25, 45]


def test_more_than_half_of_the_real_inversions_are_noise_like(real_ribbon_episodes):
    since = real_ribbon_episodes[real_ribbon_episodes["start"] >= "2011-01-01"]
    assert len(since) == 37
    counts = since["grade"].value_counts()
    assert counts["noise-like"] > len(since) / 2
    assert counts["real"] >= 8
