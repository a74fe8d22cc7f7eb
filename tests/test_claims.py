"""The claims ledger: its file, its harness on made-up panels, and notebook 70's measures by hand and on real data."""

import csv
import datetime as dt
import math
import re

import numpy as np
import pandas as pd
import pytest

from capitulation.data.panel import PANEL_COLUMNS
from capitulation.errors import DataError
from capitulation.study import claims as cl
from notebook_cells import run_cells
from panels import mined_panel, steady_panel

NOTEBOOK = "70-check-published-claims"
CLAIM = cl.Claim(
    **{"id": 1, "source": "A house", "published_on": "2020-01-05", "claim": "It rises.", "published": "rises"},
    **{"measure": "rises", "parameters": {"by": 2}, "as_of": "2020-01-04"},
)


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as context:
        yield context


@pytest.fixture(scope="module")
def made(tmp_path_factory, patch):
    """The notebook's names after a run on a made-up market of 2015 to 2019."""
    return run_cells(NOTEBOOK, mined_panel()[0], tmp_path_factory.mktemp("made"), patch)


@pytest.fixture(scope="module")
def real(real_panel, tmp_path_factory, patch):
    """Folder and names of a run on the real history."""
    folder = tmp_path_factory.mktemp("real")
    return folder, run_cells(NOTEBOOK, real_panel, folder, patch)


def days(n, start="2020-01-01"):
    return pd.DataFrame({"price_usd": np.arange(1.0, n + 1)}, index=pd.date_range(start, periods=n))


def rises(past, whole, by):
    cl.need(len(past) != 8, "eight days are too many")
    return cl.Measured(f"{len(past)} days", cl.judge(len(past) > by), "Counted.", 0.01)


def test_the_ledger_holds_every_claim_with_a_source_and_a_measure():
    claims = cl.read_claims()
    assert [claim.id for claim in claims] == list(range(1, 23))
    assert all(claim.source and claim.claim and claim.published for claim in claims)
    assert all(claim.measure.isidentifier() for claim in claims)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("- id: 1\n  source: x\n", "published_on"),
        ("- {id: 1, source: a, published_on: , claim: b, published: c, measure: d, parameters: {}, hue: e}", "hue"),
        ("nonsense", "list of claims"),
        ("- {id: 1, source: a, published_on: , claim: b, published: c, measure: d, parameters: {}}\n" * 2, "twice"),
        ("a: [", "list of claims"),
        ("- {id: 1, id: 2}", "duplicate"),
    ],
)
def test_a_broken_ledger_is_refused_in_one_line(tmp_path, text, complaint):
    path = tmp_path / "claims.yml"
    path.write_text(text)
    with pytest.raises(DataError, match=complaint) as error:
        cl.read_claims(path)
    assert "\n" not in str(error.value)


def test_a_claim_is_judged_on_what_its_author_could_know_and_measured_again_since():
    found = cl.measure_claim(CLAIM, days(10), rises, again=True)
    assert (found.measured, found.since) == ("4 days", "10 days (to 2020-01-10)") and found.verdict == cl.REPRODUCED
    assert cl.measure_claim(CLAIM, days(10), rises, again=False).since == ""
    assert cl.measure_claim(CLAIM, days(4), rises, again=True).since == ""
    undated = CLAIM.model_copy(update={"as_of": None})
    assert cl.measure_claim(undated, days(10), rises, again=True) == rises(days(10), days(10), 2)


def test_what_the_data_cannot_show_is_not_testable_with_the_reason():
    for panel, words in ((days(3), "data end on 2020-01-03"), (days(3, "2021-01-01"), "begin on 2021-01-01")):
        found = cl.measure_claim(CLAIM, panel, rises, again=True)
        assert found.verdict == cl.NOT_TESTABLE and words in found.reason and math.isnan(found.p)
    late = CLAIM.model_copy(update={"as_of": dt.date(2020, 1, 8)})
    assert "eight days are too many" in cl.measure_claim(late, days(9), rises, again=True).reason
    assert "eight days are too many" in cl.measure_claim(CLAIM, days(8), rises, again=True).since


def test_the_table_joins_claim_and_result():
    found = cl.Measured("4 days", cl.REPRODUCED, "Counted.", 0.01, "10 days", "It fell.")
    claims = [CLAIM.model_copy(update={"day_known": False}), CLAIM.model_copy(update={"id": 2})]
    plain, simulated = (cl.claims_table(claims, {1: found}, days(10), flag) for flag in (False, True))
    row = plain.iloc[0]
    assert len(plain) == 1 and (row["measured_since"], row["followed"], row["measure"]) == (*found[4:6], "rises")
    assert all(part in row["note"] for part in ("Counted.", "2020-01-05", "It fell.")) and row["p_value"] == 0.01
    assert simulated.iloc[0]["note"].endswith(row["note"]) and "imulated" in simulated.iloc[0]["note"]


def test_every_claim_is_measured_and_those_after_the_data_are_not_testable(made):
    table = made["ledger"]
    assert table["id"].tolist() == list(range(1, 23)) and set(table["verdict"]) <= set(cl.VERDICTS)
    late = table[table["as_of"] > made["panel"].index[-1]]
    assert len(late) > 5 and late["verdict"].eq(cl.NOT_TESTABLE).all()


def test_bridging_joins_only_inversions_that_lie_close(made):
    raw, joined = made["inversions"](made["panel"]), made["inversions"](made["panel"], 5)
    assert 0 < len(joined) < len(raw)
    gaps = joined["start"].iloc[1:].to_numpy() - joined["end"].iloc[:-1].to_numpy()
    assert (gaps > np.timedelta64(5, "D")).all() and set(joined["start"]) <= set(raw["start"])
    assert set(joined["end"].dropna()) <= set(raw["end"].dropna()) and (joined["days"] > 0).all()


def test_a_planted_fall_is_found(made):
    rate = np.concatenate([np.full(60, 900.0), np.full(20, 1000.0), np.full(40, 850.0)])
    planted = steady_panel(rate, start="2025-09-01")
    options = {"peak_since": "2025-10-01", "peak_ehs": 1000, "low_ehs": 850, "mean_days": [1, 7]}
    verdicts = [made["hash_rate_fall"](planted, planted, fall=fall, **options).verdict for fall in (-0.15, -0.3)]
    assert verdicts == [cl.REPRODUCED, cl.CONTRADICTED]


def test_low_held_and_near_low_on_a_valley(made):
    price = pd.Series(np.abs(np.arange(-20, 21)) + 10.0, index=pd.date_range("2020-01-01", periods=41))
    held, near = made["low_held"](price, 5, 5), made["near_low"](price, 3, 10)
    assert held.iloc[10] == 0 and held.iloc[22] == 1 and np.isnan(held.iloc[[3, 38]]).all()
    assert near.iloc[20] == near.iloc[23] == 1 and near.iloc[24] == 0 and np.isnan(near.iloc[5])


def test_support_is_judged_on_the_claims_day_and_after(made):
    panel, support = made["panel"], made["support"]
    past, price = panel.iloc[:801], panel["price_usd"]
    assert support(past, panel, price.iloc[800:].min() * 0.99, [30]).verdict == cl.REPRODUCED
    above = support(past, panel, price.iloc[800] * 1.01, [30, 5000])
    assert above.verdict == cl.CONTRADICTED and "5000 days not yet known" in above.followed
    assert support(panel, panel, 1.0, [30]).verdict == cl.NOT_TESTABLE


@pytest.mark.parametrize("missing", [["price_usd", "revenue_usd"], ["hash_rate_ehs"], list(PANEL_COLUMNS)])
def test_a_panel_without_price_or_hash_rate_is_told_not_raised(missing, tmp_path, monkeypatch, capsys):
    panel = mined_panel()[0].assign(**dict.fromkeys(missing, np.nan))
    panel.index = panel.index + pd.Timedelta(days=2580)  # to March 2026
    table = run_cells(NOTEBOOK, panel, tmp_path, monkeypatch, simulated=True)["ledger"]
    assert len(table) == 22 and table["note"].str.len().gt(20).all()
    assert not re.search(r"\b(nan|None|NaT)\b", capsys.readouterr().out)


def test_later_data_change_no_finding_of_the_claims_own_date(real, real_panel, tmp_path, monkeypatch):
    cut = run_cells(NOTEBOOK, real_panel.loc[:"2026-01-20"], tmp_path, monkeypatch)["ledger"]
    dated = cut["published_on"].notna()  # the undated claim is measured on all data
    columns = ["measured", "verdict", "p_value"]
    pd.testing.assert_frame_equal(cut.loc[dated, columns], real[1]["ledger"].loc[dated, columns])


def test_real_figures_against_independent_ones(real, real_panel):
    ledger, names = real[1]["ledger"].set_index("id"), real[1]
    verdict = ledger["verdict"]
    assert verdict[[1, 6, 15, 16, 18]].eq(cl.REPRODUCED).all() and verdict[10] == cl.NOT_TESTABLE
    assert verdict[[2, 3, 5, 9, 12, 21]].eq(cl.CONTRADICTED).all() and verdict.eq(cl.CHANCE).sum() == 10
    past = real_panel.loc[:"2025-12-15"]
    mean = past["hash_rate_ehs"].rolling(30).mean()
    negative = mean / mean.shift(90) < 1
    price, since = past["price_usd"], "2014-01-01"
    known = (price.shift(-180) / price - 1)[since:].dropna()
    chosen = known[negative[known.index]]
    found, _ = names["after_negative_growth"](past, 90, 180)
    assert negative[since:].sum() == 347 and found.n == len(chosen)
    assert (found.hit_rate, found.mean) == pytest.approx(((chosen > 0).mean(), chosen.mean()))
    marks, logs = negative[known.index].to_numpy(), np.log1p(known.to_numpy())
    moved = np.array([logs[np.roll(marks, k)].mean() for k in range(len(logs))])
    assert ledger.loc[13, "p_value"] == pytest.approx((moved >= moved[0] - 1e-12).mean())


@pytest.mark.parametrize("name", ["claims", "claims_reasons", "claims_since"])
def test_real_tables_are_the_known_ones_word_for_word(real, golden, name):
    paths = [folder / "tables" / f"{name}.csv" for folder in (golden, real[0])]
    rows = [list(csv.DictReader(path.open(encoding="utf-8"))) for path in paths]
    for known, found in zip(*rows, strict=True):
        own = {key: value for key, value in known.items() if key not in ("measure", "p_value")}
        assert own == {key: found[key] for key in own}
        assert float(known.get("p_value") or 0) == pytest.approx(float(found.get("p_value") or 0), rel=1e-9)
