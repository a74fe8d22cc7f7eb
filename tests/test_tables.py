"""Tables: what reaches a page or a spreadsheet is exact, named and harmless."""

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capitulation import contract, tables
from capitulation.errors import ReportError


def _empty(name: str) -> pd.DataFrame:
    return pd.DataFrame(columns=[column.name for column in contract.TABLES[name].columns])


@pytest.mark.parametrize("name", list(contract.TABLES))
def test_a_contract_table_passes_and_may_carry_more_columns(name):
    frame = _empty(name)
    assert contract.check(name, frame.assign(extra=1.0)) is not None


@pytest.mark.parametrize("name", list(contract.TABLES))
def test_a_missing_or_moved_column_is_named(name):
    frame = _empty(name)
    first = frame.columns[0]
    with pytest.raises(ReportError, match=f"{name}.csv.*missing {first}"):
        contract.check(name, frame.drop(columns=first))
    with pytest.raises(ReportError, match="order"):
        contract.check(name, frame[frame.columns[::-1]])


def test_csv_is_iso_lower_case_booleans_and_empty_for_missing():
    frame = pd.DataFrame({"day": pd.to_datetime(["2026-01-20", None]), "up": [True, False], "x": [0.1, np.nan]})
    assert tables.csv_text(frame) == "day,up,x\n2026-01-20,true,0.1\n,false,\n"
    unknown = pd.DataFrame({"day": [1, 2], "better": pd.array([True, None], dtype="boolean")})
    assert tables.csv_text(unknown) == "day,better\n1,true\n2,\n"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_survive_a_round_trip(values):
    text = tables.csv_text(pd.DataFrame({"x": values}))
    back = pd.read_csv(io.StringIO(text))["x"]
    assert back.tolist() == values


@given(st.lists(st.text(alphabet="=+-@\t\r<>&\"'a1,\n"), min_size=1))
def test_no_cell_is_a_formula(values):
    text = tables.csv_text(pd.DataFrame({"x": values}))
    back = pd.read_csv(io.StringIO(text, newline=""), keep_default_na=False, skip_blank_lines=False)["x"].astype(str)
    assert not back.str.startswith(tables.FORMULA_START).any()


def test_html_escapes_every_text():
    bad = "<script>alert(1)</script>"
    page = tables.html_table(pd.DataFrame({bad: [bad]}), bad, headers={bad: bad}, units={bad: bad}, csv_name="x")
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4


def test_html_has_caption_scopes_and_sort_values():
    frame = pd.DataFrame({"rule": ["a"], "excess": [0.25]})
    page = tables.html_table(
        frame, "Excess. More.", formats={"excess": "+.0%"}, units={"excess": "log return"}, csv_name="t"
    )
    for needle in (
        "<caption>Excess. More.",
        'scope="col"',
        'scope="row"',
        'data-value="0.25"',
        "+25\u00a0%",
        "log return",
        "tables/t.csv",
    ):
        assert needle in page


def test_a_percentage_is_not_called_a_fraction():
    frame = pd.DataFrame({"strategy": ["a"], "cagr": [0.25]})
    assert "fraction" in tables.html_table(frame, "T", units={"cagr": "fraction per year"})
    shown = tables.html_table(frame, "T", units={"cagr": "fraction per year"}, formats={"cagr": ".0%"})
    assert "fraction" not in shown and "per year" in shown


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a b", "", "A", "x" * 100, "a\x00"])
def test_table_names_cannot_leave_the_folder(tmp_path, name):
    with pytest.raises(ReportError):
        tables.write_csv(pd.DataFrame({"x": [1]}), name, tmp_path)
    assert list(tmp_path.iterdir()) == []
