"""The daily panel: what is valid, where it is cut, and that it survives the disk bit for bit."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import local_server as ls
from capitulation.data import panel as panels
from capitulation.errors import DataError


@pytest.fixture
def panel():
    return ls.made_panel(80)


def test_a_good_panel_is_returned_as_it_is(panel):
    assert panels.validate_panel(panel) is panel


BREACHES = {
    "a column too few": lambda p: p.drop(columns="fees_btc"),
    "a column too many": lambda p: p.assign(note=1.0),
    "columns in another order": lambda p: p[p.columns[::-1]],
    "integers": lambda p: p.assign(block_count=p.block_count.astype(int)),
    "a negative hash rate": lambda p: p.assign(hash_rate_ehs=-p.hash_rate_ehs),
    "a price of zero": lambda p: p.assign(price_usd=0.0),
    "an infinite difficulty": lambda p: p.assign(difficulty=np.inf),
    "too many blocks": lambda p: p.assign(block_count=9999.0),
    "a missing day": lambda p: p.drop(index=p.index[10]),
    "a day twice": lambda p: pd.concat([p, p.iloc[-1:]]),
    "unsorted days": lambda p: p.iloc[::-1],
    "a time of day": lambda p: p.set_axis(p.index + pd.Timedelta(hours=1, milliseconds=1)).iloc[[0, 2]],
    "a time zone": lambda p: p.tz_localize("UTC"),
    "another index name": lambda p: p.rename_axis("time"),
    "days before the chain": lambda p: p.set_axis(p.index - pd.Timedelta(days=9000)),
    "no day": lambda p: p.iloc[:0],
}


@pytest.mark.parametrize("breach", BREACHES)
def test_each_breach_is_one_line(panel, breach):
    with pytest.raises(DataError, match="the daily table is") as caught:
        panels.validate_panel(BREACHES[breach](panel))
    assert "\n" not in str(caught.value)


def test_the_panel_obeys_its_identity(panel):
    implied = panel.difficulty * 2**32 * panel.block_count / 86400 / 1e18
    np.testing.assert_allclose(panel.hash_rate_ehs, implied)


def test_the_cut_leaves_nothing_later_and_changes_nothing_earlier(panel):
    day = panel.index[40]
    pd.testing.assert_frame_equal(panels.cut(panel, f"{day:%Y-%m-%d}"), panel.iloc[:41])
    pd.testing.assert_frame_equal(panels.cut(panel, day.date()), panel.iloc[:41])
    assert panels.cut(panel, "") is panel
    assert len(panels.cut(panel, "2150-01-01")) == len(panel)
    with pytest.raises(DataError, match=r"as_of=2010-01-01: the data begin on 2022-01-01"):
        panels.cut(panel, "2010-01-01")


def test_incomplete_last_days_are_dropped(panel):
    half = panel.copy()
    half.loc[half.index[-1], ["hash_rate_ehs", "block_count", "difficulty"]] = np.nan
    assert len(panels.drop_incomplete(half)) == 79
    half.loc[half.index[-2], "price_usd"] = np.nan
    assert len(panels.drop_incomplete(half)) == 78


def test_a_column_that_stopped_long_ago_drops_no_day(panel):
    stopped = panel.copy()
    stopped.loc[stopped.index[50] :, "price_usd"] = np.nan
    assert len(panels.drop_incomplete(stopped)) == 80


def test_nothing_but_missing_days_leaves_nothing(panel):
    assert panels.drop_incomplete(panel * np.nan).empty


def test_missing_days_are_counted_inside_each_columns_range(panel):
    holed = panel.copy()
    holed.iloc[:5, 0] = np.nan
    holed.iloc[20:23, 0] = np.nan
    table = panels.missing_days(holed).set_index("column")
    assert table.loc["price_usd", "n_missing"] == 3
    assert table.loc["price_usd", "first"] == panel.index[5]
    assert table.loc["block_count", "n_missing"] == 0
    assert table.loc["height", "n_days"] == 0
    assert pd.isna(table.loc["height", "first"])


def test_days_that_no_series_has_are_filled_with_missing():
    days = pd.DatetimeIndex(["2022-01-03", "2022-01-01"])
    panel = panels.daily_panel({"hash_rate_ehs": pd.Series([3.0, 1.0], index=days)})
    assert panel.hash_rate_ehs.tolist()[::2] == [1.0, 3.0]
    assert np.isnan(panel.hash_rate_ehs.iloc[1])
    assert tuple(panel.columns) == panels.PANEL_COLUMNS
    assert panel.index.freqstr == "D"
    with pytest.raises(DataError, match="no day has data"):
        panels.daily_panel({})


FLOATS = st.one_of(st.just(np.nan), st.floats(min_value=0, allow_infinity=False), st.just(5e-324), st.just(0.1 + 0.2))


@settings(max_examples=40, deadline=None)
@given(values=st.lists(FLOATS, min_size=8, max_size=40))
def test_the_panel_survives_the_disk_bit_for_bit(values, tmp_path_factory):
    rows = len(values) // 8
    index = pd.date_range("2022-01-01", periods=rows, name="date", unit="us")
    panel = pd.DataFrame(np.reshape(values[: rows * 8], (rows, 8)), index=index, columns=list(panels.PANEL_COLUMNS))
    path = tmp_path_factory.mktemp("panel") / "panel.csv"
    panels.write_panel(panel, path)
    back = panels.read_panel(path)
    pd.testing.assert_frame_equal(back, panel, check_exact=True, check_freq=False)
    assert panels.panel_digest(back) == panels.panel_digest(panel)
    assert panels.panel_bytes(back) == path.read_bytes()


def test_the_digest_sees_every_change(panel):
    digest = panels.panel_digest(panel)
    nudged = panel.copy()
    nudged.iloc[3, 1] = np.nextafter(nudged.iloc[3, 1], 1e9)
    others = (nudged, panel.iloc[1:], panel.shift(1, freq="D"), panel.rename(columns={"height": "x"}), panel[::-1])
    assert len({digest, *map(panels.panel_digest, others)}) == 6
    assert panels.panel_digest(panel.copy()) == digest


@pytest.mark.parametrize("text", [b"", b"\x00\xff", b"date,price_usd\n2022-01-01,1\n", b"a" * 500])
def test_a_file_that_is_no_panel_is_one_line(tmp_path, text):
    (tmp_path / "panel.csv").write_bytes(text)
    with pytest.raises(DataError, match=r"panel\.csv: ") as caught:
        panels.read_panel(tmp_path / "panel.csv")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"absent\.csv: "):
        panels.read_panel(tmp_path / "absent.csv")
