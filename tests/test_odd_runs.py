"""Every page on data and settings that are out of the ordinary: it says what is not known, and why, in words."""

import html
import re
import warnings

import numpy as np
import pandas as pd
import pytest

from capitulation.paths import notebooks_folder
from capitulation.simulate.market import simulate_panel
from notebook_cells import run_cells

NOTEBOOKS = sorted(path.stem for path in notebooks_folder().glob("[0-9]*.ipynb"))
THINGS = (
    "events? moments? days? episodes? signals? clusters? starts? adjustments? trades? horizons? rules? definitions?"
)
THINGS += " capitulations? inversions? bottoms? pairs? recovery recoveries strategy strategies rows? markets? marks?"
PLURALS = "|".join(
    sorted({re.sub(r"y$", "ies", word.removesuffix("s?")) + "s" * word.endswith("?") for word in THINGS.split()})
)
UNSAID = re.compile(rf"(?<![\w.])(nan|NaN|None|NaT|inf|0 of 0)(?!\w)|(?<![\d.,:−+-])1 ({PLURALS})\b|Warning")


def market(years=9, **columns):
    return simulate_panel(seed=17, years=years).assign(**columns)


def without_last_prices(panel, days=30):
    return panel.assign(price_usd=panel["price_usd"].where(np.arange(len(panel)) < len(panel) - days))


def young():
    """A few months of prices, in which no rule has an event whose outcome is known."""
    return market(10).loc["2018-01-01":].iloc[:300].assign(hash_rate_ehs=1.0, block_count=144.0)


def bare():
    """Nothing but price and hash rate."""
    panel = market(8).loc["2014-01-01":]
    return panel.assign(**dict.fromkeys(panel.columns.drop(["price_usd", "hash_rate_ehs"]), np.nan))


EARLY = {"sample_start": "2010-08-01"}
ODD = {
    "other interval and horizon": (market, {"confidence": 0.8, "primary_horizon_days": 30}),
    "no episode counts": (market, {"min_depth_z": 50}),
    "a rule that never speaks": (lambda: market(7), {"primary_definition": "puell_compression"}),
    "the early years": (lambda: market().loc[:"2012-06-01"], EARLY),
    "no price for the last month": (lambda: without_last_prices(market()), {}),
    "constant hash rate": (lambda: market(hash_rate_ehs=1.0, block_count=144.0), {}),
    "a few months": (young, {}),
    "price and hash rate alone": (bare, {}),
    "no price at all": (lambda: market(7, price_usd=np.nan, revenue_usd=np.nan), {}),
}


@pytest.mark.parametrize(
    ("case", "notebook"),
    [
        (case, notebook)
        for case in ODD
        for notebook in NOTEBOOKS
        if notebook[:2] != "90" or case in ("other interval and horizon", "the early years")  # it draws its own markets
    ],
)
def test_a_page_says_what_is_not_known(case, notebook, tmp_path, monkeypatch):
    make, settings = ODD[case]
    draws = {"n_bootstrap": 100, "n_matched": 100, "n_random_entries": 100, "trust_repetitions": 1}
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # what other tests left open, found just now
        names = run_cells(notebook, make(), tmp_path, monkeypatch, **draws, **settings)
    assert not [str(warning.message) for warning in raised]
    texts = [html.unescape(re.sub(r"<[^>]*>", " ", text)).replace("\u00a0", " ") for text in names["shown"]]
    assert texts
    assert not [text for text in texts if UNSAID.search(text)]
    assert (tmp_path / "findings" / f"{notebook}.json").is_file()


def test_what_must_not_be_shown_is_found():
    bad = ["a mean of nan", "None of 0", "0 of 0 rose", "after 1 moments", "1 recoveries", "NaT", "RuntimeWarning: x"]
    assert all(UNSAID.search(text) for text in bad)
    good = ["none of them", "nanometre", "10 of 0.5", "21 moments", "1 moment", "0.1 days", "10 of 01", "+1 days"]
    assert not any(UNSAID.search(text) for text in good)
    assert pd.Timestamp("2012-06-01") in market().index
