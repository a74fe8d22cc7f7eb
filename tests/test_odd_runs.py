"""Every page on data and settings that are out of the ordinary: it says what is not known, and why, in words."""

import html
import re
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest

import capitulation as cap
from capitulation.paths import notebooks_folder
from capitulation.simulate.market import simulate_panel
from notebook_cells import run_cells
from panels import without

NOTEBOOKS = sorted(path.stem for path in notebooks_folder().glob("[0-9]*.ipynb"))
THINGS = (
    "events? moments? days? episodes? signals? clusters? starts? adjustments? trades? horizons? rules? definitions?"
)
THINGS += " capitulations? inversions? bottoms? pairs? recovery recoveries strategy strategies rows? markets? marks?"
PLURALS = "|".join(
    sorted({re.sub(r"y$", "ies", word.removesuffix("s?")) + "s" * word.endswith("?") for word in THINGS.split()})
)
UNSAID = re.compile(rf"(?<![\w.])(nan|NaN|None|NaT|inf|0 of 0)(?!\w)|(?<![\d.,:−+-])1 ({PLURALS})\b|Warning")


simulated = cache(simulate_panel)  # which nobody changes in place


def market(years=9, **columns):
    return simulated(seed=17, years=years).assign(**columns)


def without_last_prices(panel, days=30):
    return panel.assign(price_usd=panel["price_usd"].where(np.arange(len(panel)) < len(panel) - days))


def young():
    """A few months of prices, in which no rule has an event whose outcome is known."""
    return market(10).loc["2018-01-01":].iloc[:300].assign(hash_rate_ehs=1.0, block_count=144.0)


def bare():
    """Nothing but price and hash rate."""
    panel = market(8).loc["2014-01-01":]
    return panel.assign(**dict.fromkeys(panel.columns.drop(["price_usd", "hash_rate_ehs"]), np.nan))


NETWORK = ["hash_rate_ehs", "block_count", "difficulty", "height"]


def days_of(*holes):
    """The days of some holes: first day and number of days of each."""
    return pd.DatetimeIndex([day for first, days in holes for day in pd.date_range(first, periods=days)])


def holes_in_price():
    """Ten days here and there, one recovery, an entry and an exit after two others, and the last day."""
    panel = market()
    ends = cap.episodes(cap.hash_ribbons(panel)["inverted"], panel)["end"].dropna().loc[lambda end: end >= "2014"]
    needed = ends.iloc[0], ends.iloc[1] + pd.Timedelta(days=1), ends.iloc[2] + pd.Timedelta(days=91), panel.index[-1]
    scattered = pd.date_range("2014-03-01", periods=10, freq="37D")
    return without(panel, pd.DatetimeIndex([*scattered, *needed]), "price_usd", "revenue_usd")


def holes_in_the_network():
    """A day, three, ten, a month and a hundred days, two recoveries; difficulty or money missing alone on others."""
    panel = market()
    ends = cap.episodes(cap.hash_ribbons(panel)["inverted"], panel)["end"].dropna().loc[lambda end: end >= "2014"]
    at_ends = (ends.iloc[0] - pd.Timedelta(days=1), 3), (ends.iloc[1], 1)
    spans = ("2013-09-01", 1), ("2013-12-01", 3), ("2014-03-01", 10), ("2014-06-15", 31), ("2014-12-01", 100)
    panel = without(without(panel, days_of(*spans, *at_ends), *NETWORK), days_of(("2016-09-01", 2)), "difficulty")
    money = "issuance_btc", "fees_btc", "revenue_usd"
    return without(panel, days_of(("2017-06-01", 5), ("2018-01-01", 2)), *money)


def dark_end():
    """No hash rate in the last seventy days, no blocks in the last three years."""
    panel = without(market(), days_of(("2015-01-05", 1094)), "block_count", "height")
    return without(panel, days_of(("2017-10-25", 70)), "hash_rate_ehs")


def trials():
    """Years without a block, then ten days with some, and no price: a regtest chain."""
    panel = market(7, **dict.fromkeys(["price_usd", "fees_btc", "revenue_usd"], np.nan))
    panel.loc[panel.index[:-10], ["block_count", "height", "issuance_btc"]] = 0
    return without(panel, panel.index[:-10], "hash_rate_ehs", "difficulty")


EARLY = {"sample_start": "2010-08-01"}
SHORTEST = {"fast_days": 2, "slow_days": 3, "price_fast_days": 1, "price_slow_days": 2, "retargets_n": 1}
SHORTEST |= {"retargets_k": 1, "horizons_days": [1], "primary_horizon_days": 1, "hold_days": 1, "entry_lag_days": 0}
LONGEST = {"fast_days": 399, "slow_days": 800, "price_fast_days": 400, "price_slow_days": 800, "entry_lag_days": 30}
LONGEST |= {"horizons_days": [1500], "hold_days": 1500}
FAR = {"sample_start": "2011-01-01", "horizons_days": [1500], "primary_horizon_days": 1500}
ODD = {
    "other interval and horizon": (market, {"confidence": 0.8, "primary_horizon_days": 30}),
    "no episode counts": (market, {"min_depth_z": 50}),
    "a rule that never speaks": (lambda: market(7), {"primary_definition": "puell_compression"}),
    "the early years": (lambda: market().loc[:"2012-06-01"], EARLY),
    "no price for the last month": (lambda: without_last_prices(market()), {}),
    "constant hash rate": (lambda: market(7, hash_rate_ehs=1.0, block_count=144.0), {}),
    "a few months": (young, {}),
    "price and hash rate alone": (bare, {}),
    "shortest windows": (lambda: market(7), {**SHORTEST, "confidence": 0.51}),
    "longest windows": (lambda: market(10), {**LONGEST, "confidence": 0.999, "primary_anchor": "start"}),
    "a horizon beyond the data": (lambda: market().loc[:"2014-06-01"], FAR),
    "a sample of a few days": (lambda: market().loc[:"2014-01-20"], {"primary_anchor": "in_state"}),
    "no price at all": (lambda: market(7, price_usd=np.nan, revenue_usd=np.nan), {}),
    "holes in price": (holes_in_price, {}),
    "holes in the network": (holes_in_the_network, {}),
    "dark end": (dark_end, {}),
    "a chain for trials": (trials, {}),
}
RULES = ("20", "30", "35", "40", "50", "80", "85")  # what a rule's threshold changes
ONLY = {  # the notebooks that a case concerns, where not all
    "no episode counts": RULES,
    "a rule that never speaks": RULES[:5],
    "shortest windows": (*RULES, "60", "70"),
    "longest windows": (*RULES, "60", "70"),
    "a chain for trials": ("10", "20", "80", "85", "90"),
    "dark end": ("20", "60", "70", "80", "85"),
    "holes in price": ("20", "30", "35", "40", "50", "70", "80", "85"),
    "holes in the network": ("20", "30", "35", "40", "50", "60", "70", "80", "85"),
}


def to_name(case, number, panel):
    """Days that the notebook must name: of the newest hole those on which what it says hangs."""
    if case == "holes in price" and number in ("30", "35", "40", "50", "70"):
        return panel.index[panel["price_usd"].isna()][-2:-1]
    if case == "holes in the network" and number in ("20", "60", "70"):
        return panel.index[panel["hash_rate_ehs"].isna()][-1:]
    if case == "holes in the network" and number in ("30", "35", "40"):
        return panel.index[cap.hash_ribbons(panel)["inverted"].isna()][-1:]
    if case == "dark end" and number in ("20", "80"):  # the whole hole, or as much of it as lies in the windows
        return panel.index[panel["hash_rate_ehs"].isna()][[-60 if number == "80" else -70, -1]]
    return []


@pytest.mark.parametrize(
    ("case", "notebook"),
    [
        (case, notebook)
        for case in ODD
        for notebook in NOTEBOOKS
        if notebook[:2] in ONLY.get(case, (notebook[:2],))
        if notebook[:2] != "90" or case in ("other interval and horizon", "the early years")  # it draws its own markets
    ],
)
def test_a_page_says_what_is_not_known(case, notebook, tmp_path, monkeypatch):
    make, settings = ODD[case]
    panel = make()
    draws = {"n_bootstrap": 100, "n_matched": 100, "n_random_entries": 100, "trust_repetitions": 1}
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # what other tests left open, found just now
        names = run_cells(notebook, panel, tmp_path, monkeypatch, **draws, **settings)
    assert not [str(warning.message) for warning in raised]
    texts = [html.unescape(re.sub(r"<[^>]*>", " ", text)).replace("\u00a0", " ") for text in names["shown"]]
    assert texts
    assert not [text for text in texts if UNSAID.search(text)]
    assert (tmp_path / "findings" / f"{notebook}.json").is_file()
    for day in to_name(case, notebook[:2], panel):
        assert any(f"{day:%Y-%m-%d}" in text for text in texts)


def test_what_must_not_be_shown_is_found():
    bad = ["a mean of nan", "None of 0", "0 of 0 rose", "after 1 moments", "1 recoveries", "NaT", "RuntimeWarning: x"]
    assert all(UNSAID.search(text) for text in bad)
    good = ["none of them", "nanometre", "10 of 0.5", "21 moments", "1 moment", "0.1 days", "10 of 01", "+1 days"]
    assert not any(UNSAID.search(text) for text in good)
    assert pd.Timestamp("2012-06-01") in market().index
