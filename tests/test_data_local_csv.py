"""DATA=path: a good file is read the same way each time, a bad one is one line and exit code 2."""

import os
import time

import pandas as pd
import pytest

import local_server as ls
from capitulation.data import store
from capitulation.data.market import load_market, save_market
from capitulation.data.providers import local_csv
from capitulation.errors import InputError
from capitulation.params import make_params


@pytest.fixture(scope="module")
def panel():
    return ls.made_panel(900)


@pytest.fixture
def file(tmp_path, monkeypatch, panel):
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path / "home"))
    path = tmp_path / "btc.csv"
    path.write_bytes(ls.coinmetrics_csv(panel))
    return path


def load(path, **values):
    return load_market(make_params({"data": str(path), "as_of": "", **values}), progress=lambda line: None)


def test_a_file_is_read_with_its_name_and_digest_and_without_a_clock(file, panel, tmp_path):
    market = load(file)
    pd.testing.assert_series_equal(market.panel.price_usd, panel.price_usd, check_freq=False)
    assert (market.source, market.simulated, market.retrieved_at, market.age_days) == ("file", False, "", None)
    assert market.attribution.startswith("local file btc.csv")
    assert market.snapshot.startswith("sha256:")
    save_market(market, tmp_path / "one")
    save_market(load(file), tmp_path / "two")
    assert ls.tree(tmp_path / "one") == ls.tree(tmp_path / "two")
    assert str(tmp_path).encode() not in b"".join(ls.tree(tmp_path / "one").values())


def test_the_store_is_not_touched(file, tmp_path):
    load(file)
    assert not (tmp_path / "home").exists()


def test_nothing_later_than_as_of_is_left(file):
    market = load(file, as_of="2024-01-20")
    assert market.panel.index[-1] == pd.Timestamp("2024-01-20")
    assert market.age_days == 0.0
    late = load(file, as_of="2024-07-30")
    assert late.age_days == (pd.Timestamp("2024-07-30") - late.panel.index[-1]).days > 0


def text_lines(body):
    return body.splitlines(keepends=True)


BAD = {
    "empty": (lambda body: b"", "is empty"),
    "header only": (lambda body: text_lines(body)[0], "no rows"),
    "spaces": (lambda body: b" \n \n", "column time is missing|not a CSV"),
    "binary": (lambda body: bytes(range(256)) * 50, "not a text file"),
    "random text": (lambda body: b"hello world\nthis is prose, not data\n", "column time is missing"),
    "JSON": (lambda body: b'{"data": [1, 2, 3]}', "column time is missing"),
    "HTML": (lambda body: b"<!DOCTYPE html>\n<html></html>\n", "column time is missing"),
    "UTF-16": (lambda body: body.decode().encode("utf-16"), "not a text file"),
    "Latin-1": (lambda body: body.replace(b"AdrActCnt", b"Adr\xe9"), "not a CSV file"),
    "gzip": (lambda body: __import__("gzip").compress(body), "not a text file|not a CSV file|column time"),
    "without HashRate": (lambda body: body.replace(b"HashRate", b"Hash"), "column HashRate is missing"),
    "without BlkCnt": (lambda body: body.replace(b"BlkCnt", b"Blocks"), "column BlkCnt is missing"),
    "without PriceUSD": (lambda body: body.replace(b"PriceUSD", b"Price"), "column PriceUSD is missing"),
    "without time": (lambda body: body.replace(b"time", b"when"), "column time is missing"),
    "semicolons": (lambda body: body.replace(b",", b";"), "column time is missing"),
    "cut off": (lambda body: body[:-70], "ends in mid-line"),
    "other dates": (lambda body: body.replace(b"2022-01-05", b"05.01.2022"), "'05.01.2022' is not a day"),
    "text as number": (lambda body: body.replace(b"2022-01-05,1,", b"2022-01-05,1,many"), "HashRate: 'many"),
    "ragged": (lambda body: body.replace(b"2022-01-05,", b"2022-01-05,,,"), "line 6 has 10 fields instead of 8"),
    "columns twice": (lambda body: body.replace(b"AdrActCnt", b"HashRate"), "HashRate"),
    "wrong unit": (lambda body: ls.coinmetrics_csv(_thousandfold(ls.made_panel(900))), "a wrong unit"),
    "the far future": (lambda body: body.replace(b"2022-", b"2122-").replace(b"2023-", b"2123-"), "later than"),
    "no hash rate at all": (lambda body: b"time,HashRate,BlkCnt,PriceUSD\n2022-01-01,,144,5\n", "no day has"),
    "unbalanced quote": (lambda body: body.replace(b"2022-01-05", b'"2022-01-05'), "is not a day|not a CSV file"),
}


def _thousandfold(panel):
    return panel.assign(hash_rate_ehs=panel.hash_rate_ehs * 1000, difficulty=panel.difficulty * 1000)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_with_exit_code_2(file, name):
    change, text = BAD[name]
    file.write_bytes(change(file.read_bytes()))
    if name == "columns twice":
        assert_no_harm(file)
        return
    with pytest.raises(InputError, match=text) as caught:
        load(file)
    message = str(caught.value)
    assert message.startswith("DATA=")
    assert "\n" not in message
    assert caught.value.exit_code == 2
    ls.record_outcome("wrong input", f"DATA file: {name}", 1, "one clear line")


def assert_no_harm(file):
    """A repeated name: the first column counts, as everywhere in this format, or the file is refused."""
    try:
        assert load(file).panel.hash_rate_ehs.notna().any()
    except InputError as error:
        assert "\n" not in str(error)


def test_what_is_no_file_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    cases = {
        "missing.csv": "No such file",
        ".": "is a folder",
        "pipe": "not a regular file",
        "link": "No such file",
        "a" * 300: "File name too long",
        "btc.csv/x": "No such file|Not a directory",
    }
    for name, text in cases.items():
        with pytest.raises(InputError, match=text) as caught:
            local_csv.load(tmp_path / name)
        assert "\n" not in str(caught.value)
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(InputError, match="not a regular file"):
            local_csv.load(device)


def test_a_file_of_gigabytes_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        file.truncate(8_000_000_000)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"8,000,000,000 bytes, more than"):
        local_csv.load(path)
    assert time.monotonic() - began < 0.5


def test_names_and_cells_with_markup_or_formulas_do_no_harm(file, tmp_path):
    nasty = tmp_path / "<img src=x onerror=alert(1)>\x1b[31m.csv"
    body = file.read_bytes().replace(b"AdrActCnt", b"=cmd|' /C calc'!A0").replace(b",1,", b",=1+1,", 3)
    nasty.write_bytes(body)
    market = load(nasty)
    assert "\x1b" not in market.attribution
    assert len(market.panel) == 900
    assert b"=cmd" not in __import__("capitulation.data.panel", fromlist=["x"]).panel_bytes(market.panel)


def test_windows_line_ends_and_a_byte_order_mark_are_read(file, panel):
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    pd.testing.assert_series_equal(load(file).panel.price_usd, panel.price_usd, check_freq=False)


def test_unused_store_stays_empty_even_when_the_file_is_bad(file, tmp_path):
    file.write_bytes(b"")
    with pytest.raises(InputError):
        load(file)
    assert store.check_data() == []
