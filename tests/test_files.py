"""DATA: what people have is read as the panel that it was made from, with a note, or refused with the true reason."""

import datetime as dt
import gzip
import io
import json
import os
import shlex

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import local_server as ls
from capitulation.data.files import UNITS, read_data
from capitulation.data.market import load_market
from capitulation.data.panel import validate_panel, write_panel
from capitulation.errors import DataError, InputError
from capitulation.params import make_params, parse_overrides

PANEL = ls.made_panel(400)
LAST = PANEL.index[-1]
NEXT = PANEL.set_axis(PANEL.index + pd.Timedelta(days=1))
HASH = PANEL["hash_rate_ehs"] * 1e18
PRICE, RATE, COUNT, DIFFICULTY = "price_usd", "hash_rate_ehs", "block_count", "difficulty"
BOTH, CHAIN = (PRICE, RATE), (PRICE, RATE, COUNT, DIFFICULTY)
METRICS = ls.metric_frame(PANEL)[["HashRate", "BlkCnt", "PriceUSD"]]


def text(frame: pd.DataFrame | pd.Series, time: str = "time", **more) -> bytes:
    return frame.to_csv(index_label=time, date_format="%Y-%m-%d", **more).encode()


def ohlc(sep: str, time: str, stamp: str, **other) -> bytes:
    price = PANEL[PRICE]
    frame = pd.DataFrame({"open": price * 0.99, "high": price * 1.1, "low": price * 0.9, "close": price} | other)
    return frame.set_axis(PANEL.index.strftime(stamp)).to_csv(index_label=time, sep=sep, quoting=2).encode()


def records(values: pd.Series, time: str, value: str) -> bytes:
    return json.dumps([{time: t, value: v} for t, v in zip(ls.seconds(values.index), values, strict=True)]).encode()


def parquet(frame: pd.DataFrame, tmp_path) -> bytes:
    duckdb.sql(f"COPY frame TO '{tmp_path / 'made.parquet'}' (FORMAT parquet, COMPRESSION zstd)")
    return (tmp_path / "made.parquet").read_bytes()


def per_block() -> pd.DataFrame:
    """A row a block, spread over its day, out of order as a node's tables may be."""
    counts = PANEL[COUNT].astype(int)
    within = np.concatenate([np.arange(n) / n for n in counts])
    times = PANEL.index.repeat(counts) + pd.to_timedelta((within * 86_400).astype(int), unit="s")
    table = {"height": np.arange(len(times)) + 716_000, "time": times, "difficulty": PANEL[DIFFICULTY].repeat(counts)}
    return pd.DataFrame(table).sample(frac=1, random_state=1).reset_index(drop=True)


def stamped(stamp: str) -> bytes:
    return text(METRICS.set_axis(PANEL.index.strftime(stamp)))


def chart(values: pd.Series, header: str) -> bytes:
    """Blockchain.com's CSV of a chart."""
    return header.encode() + values.set_axis(values.index.strftime("%Y-%m-%d 00:00:00")).to_csv(header=False).encode()


GERMAN = METRICS.assign(HashRate=METRICS["HashRate"] / 1e6).set_axis(["Hashrate (EH/s)", "Blöcke", "Kurs"], axis=1)
TWICE = pd.concat([METRICS.assign(asset="btc"), (METRICS / 7).assign(asset="eth")]).sort_index(kind="stable")
MAPPING = 'time: Datum\nhash_rate: "Hashrate (EH/s)"\nprice: Kurs\nblocks: Blöcke\n'
VALUE = pd.DataFrame({"Value": HASH / 1e12, "other": 1.0})
API = json.dumps({"data": ls.coinmetrics_rows(PANEL), "next_page_token": "x"}).encode()
CMC = {"name": 2781, "volume": 1e9, "timestamp": PANEL.index.strftime("%Y-%m-%dT23:59:59.999Z")}
COINGECKO = NEXT[PRICE].rename("price").set_axis(NEXT.index.strftime("%Y-%m-%d 00:00:00 UTC"))
DOWNLOAD = pd.DataFrame({"unix": 1, "symbol": "BTC/USD", "close": PANEL[PRICE]})[::-1]
GOOD, PRICES, RATES = text(METRICS), text(PANEL[[PRICE]]), text(PANEL[[RATE]])
READ = {  # files, the columns that come back, what a note says, the user's own names
    "own panel": ({"panel.csv": lambda tmp: (write_panel(PANEL, tmp / "p"), (tmp / "p").read_bytes())[1]}, CHAIN, ""),
    "names of any case": ({"a.csv": text(METRICS.rename(columns=lambda n: f" {n.upper()} "), "Date")}, CHAIN, "TH/s"),
    "unnamed index": ({"a.csv": text(METRICS, "")}, CHAIN, ""),
    "utf-8 with mark": ({"a.csv": b"\xef\xbb\xbf" + GOOD}, CHAIN, ""),
    "utf-16": ({"a.csv": GOOD.decode().encode("utf-16")}, CHAIN, ""),
    "tab": ({"a.tsv": text(METRICS, sep="\t")}, CHAIN, ""),
    "decimal comma": ({"a.csv": text(METRICS, sep=";", decimal=",")}, CHAIN, "decimal commas"),
    "thousands": ({"a.csv": text(METRICS.map("{:,.6f}".format))}, CHAIN, ""),
    "scientific": ({"a.csv": text(METRICS, float_format="%.12e")}, CHAIN, ""),
    "a line above": ({"a.csv": b"https://example.com\n" + GOOD}, CHAIN, ""),
    "no name, other columns": ({"a.csv": text(METRICS.assign(note='a, "b"', AdrActCnt="x"))}, CHAIN, ""),
    "gzip": ({"a.csv.gz": gzip.compress(GOOD)}, CHAIN, ""),
    "parquet": ({"a.parquet": lambda tmp: parquet(METRICS.reset_index(), tmp)}, CHAIN, ""),
    "parquet with zone": ({"a.pq": lambda tmp: parquet(METRICS.tz_localize("UTC").reset_index(), tmp)}, CHAIN, ""),
    "api answer": ({"a.json": API}, CHAIN, ""),
    "no blocks": ({"a.csv": text(METRICS[["HashRate", "PriceUSD"]])}, BOTH, "144 blocks a day"),
    "no hash rate": ({"a.csv": text(PANEL[[COUNT, DIFFICULTY, PRICE]])}, CHAIN, "hash rate follows"),
    "hash rate missing on days": (
        {"a.csv": text(PANEL[[COUNT, DIFFICULTY, PRICE]].join(PANEL[RATE].drop(PANEL.index[[9, 10, 20]])))},
        CHAIN, f"hash rate on {PANEL.index[9]:%F} to {PANEL.index[10]:%F}, {PANEL.index[20]:%F} follows"),
    "a file's name with more in it": ({"btc_hash-rate(1).csv": text((HASH / 1e12).rename("Value"), "Date"),
                                       "2026-market-price.csv": text(NEXT[PRICE].rename("Value"), "Date")},
                                      BOTH, "price of the day before"),
    "hash rate and difficulty": ({"a.csv": text(PANEL[[RATE, DIFFICULTY, PRICE]])}, CHAIN, "block count follows"),
    "two coins": ({"a.csv": text(TWICE)}, CHAIN, "rows of eth passed over"),
    "glassnode": ({"h.json": records(HASH, "t", "v"), "p.csv": text(PANEL[PRICE].rename("v"), "t")}, BOTH, "in H/s"),
    "pairs": ({"hash-rate.json": json.dumps([*zip(ls.seconds(HASH.index), HASH, strict=True)]).encode(),
               "p.csv": PRICES}, BOTH, "read as hash rate"),
    "blockchain.com json": (ls.blockchain_charts(PANEL), CHAIN, "price of the day before"),
    "blockchain.com csv": ({"a.csv": chart(HASH / 1e12, '"Timestamp","hash-rate"\n'),
                            "b.csv": chart(NEXT[PRICE], "Timestamp,market-price\n")}, BOTH, "price of the day before"),
    "blockchain.com bare": ({"hash-rate": chart(HASH / 1e12, ""), "market-price": chart(NEXT[PRICE], "")}, BOTH, ""),
    "quandl": ({"BCHAIN-HRATE.csv": text((HASH / 1e12).rename("Value"), "Date"),
                "BCHAIN-MKPRU.csv": text(NEXT[PRICE].rename("Value"), "Date")}, BOTH, "price of the day before"),
    "yahoo": ({"BTC-USD.csv": ohlc(",", "Date", "%Y-%m-%d", **{"Adj Close": 1.0}), "h.csv": RATES}, BOTH, ""),
    "coinmarketcap": ({"p.csv": ohlc(";", "timeOpen", "%Y-%m-%dT00:00:00.000Z", **CMC), "h.csv": RATES}, BOTH, ""),
    "coingecko": ({"p.csv": text(COINGECKO, "snapped_at"), "h.csv": RATES}, BOTH, "price of the day before"),
    "cryptodatadownload": ({"p.csv": b"https://example.com\n" + text(DOWNLOAD, "date"), "h.csv": RATES}, BOTH, ""),
    "excel's csv": ({"a.csv": b"sep=;\r\n" + text(METRICS, sep=";", lineterminator="\r\n")}, CHAIN, ""),
    "own names": ({"a.csv": text(GERMAN, "Datum", sep=";", decimal=",")}, CHAIN, "decimal",
                  {"time": "Datum", "hash_rate": "Hashrate (EH/s)", "price": "Kurs", "blocks": "Blöcke"}),
    "own names as text": ({"a.csv": text(GERMAN, "Datum")}, BOTH, "", "time=Datum,price=Kurs"),
    "own names in a file": ({"a.csv": text(GERMAN, "Datum")}, CHAIN, "", "own.yml"),
    "a column of a file": ({"h.csv:Value": text(VALUE), "p.csv": PRICES}, BOTH, "read as hash rate"),
    "price of two equal files": ({"a.csv": GOOD, "p.csv": PRICES}, CHAIN, ""),
}  # fmt: skip
READ |= {
    f"days as {stamp}": ({"a.csv": stamped(stamp)}, CHAIN, "")
    for stamp in ("%Y-%m-%d 00:00:00+00:00", "%Y-%m-%dT00:00:00.000Z", "%Y-%m-%d 00:00:00 UTC", "%Y/%m/%d", "%Y%m%d",
                  "%Y-%m-%dT23:59:59.999Z", "%s", "%s000")
}  # fmt: skip


def put(files: dict, folder) -> str:
    """DATA for `files` written to `folder`."""
    for name, body in files.items():
        (folder / name.partition(":")[0]).write_bytes(body if isinstance(body, bytes) else body(folder))
    return " ".join(str(folder / name) for name in files)


@pytest.mark.parametrize("name", READ)
def test_what_people_have_is_read_as_the_panel_it_was_made_from(name, tmp_path, monkeypatch):
    files, columns, note, *own = READ[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yml").write_text(MAPPING)
    found = read_data(put(files, tmp_path), *own)
    assert validate_panel(found.panel) is found.panel
    pd.testing.assert_frame_equal(found.panel[[*columns]], PANEL[[*columns]], check_freq=False, rtol=1e-9)
    assert [item["name"] for item in found.files] == [one.partition(":")[0] for one in files]
    assert note in "; ".join(found.notes)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_blocks_are_counted_by_day(kind, tmp_path):
    table = per_block()
    body = parquet(table, tmp_path) if kind == "parquet" else table.to_csv(index=False).encode()
    found = read_data(put({f"blocks.{kind}": body, "p.csv": PRICES}, tmp_path))
    whole = PANEL.iloc[1:-1]
    pd.testing.assert_frame_equal(found.panel.loc[whole.index, [*CHAIN]], whole[[*CHAIN]], check_freq=False)
    assert found.panel["height"].dropna().iloc[-1] == 716_000 + PANEL[COUNT].iloc[:-1].sum() - 1
    assert "not whole, are left out" in "; ".join(found.notes)
    missing = table[table["height"] != 720_000].to_csv(index=False).encode()
    with ls.one_line_error(DataError, "blocks are missing before height 720001"):
        read_data(put({"blocks.csv": missing, "p.csv": PRICES}, tmp_path))


def test_answers_of_the_mempool_api_are_read(tmp_path):
    answers = ls.mempool_answers(PANEL)
    put({name: answers[name] for name in ("hashrate.json", "prices.json")}, tmp_path)
    found = read_data(f"{tmp_path}/hashrate.json {tmp_path}/prices.json").panel
    np.testing.assert_allclose(found[[RATE, "price_usd"]], PANEL[[RATE, "price_usd"]])
    assert (found["block_count"] - PANEL["block_count"]).abs().max() <= 1 and found["height"].notna().all()


@pytest.mark.parametrize("power", UNITS)
@pytest.mark.parametrize("by", ["level", "identity"])
def test_the_unit_of_hash_rate_is_found_and_a_name_that_contradicts_it_refused(power, by, tmp_path):
    frame = pd.DataFrame({"HashRate": HASH / 10.0**power, "PriceUSD": PANEL[PRICE]})
    if by == "identity":  # of a network at any level, by the file alone
        frame = frame.assign(HashRate=frame["HashRate"] / 1e4, DiffMean=PANEL[DIFFICULTY] / 1e4, BlkCnt=PANEL[COUNT])
    found = read_data(put({"a.csv": text(frame)}, tmp_path))
    expected = PANEL[RATE] / (1e4 if by == "identity" else 1)
    np.testing.assert_allclose(found.panel[RATE], expected)
    assert any(f"read in {UNITS[power]}" in note for note in found.notes) == (power != 12)
    wrong = UNITS[3 if power != 3 else 6]
    with ls.one_line_error(DataError, f"name says {wrong}, but then it is .* times"):
        read_data(put({"a.csv": text(frame.rename(columns={"HashRate": f"hash rate [{wrong}]"}))}, tmp_path))


def cut_days(keep) -> bytes:
    return text(METRICS[keep])


HOURS = METRICS.set_axis(pd.date_range("2022-01-01", periods=len(METRICS), freq="h"))
BAD = {  # files, the needle, the user's own names
    "nothing": ({"a.csv": b""}, "holds 0 bytes"),
    "HTML": ({"a.csv": b"<!DOCTYPE html>\n<html></html>\n"}, "no column of time|no values"),
    "Latin-1": ({"a.csv": GOOD.replace(b"BlkCnt", b"Bl\xf6cke")}, "not text in UTF-8"),
    "NUL": ({"a.csv": GOOD.replace(b"1", b"\0")}, "is not a number"),
    "Excel": ({"a.xlsx": b"PK\3\4" + bytes(99)}, "save it as CSV"),
    "cut gzip": ({"a.gz": gzip.compress(GOOD)[:-100]}, "damaged gzip"),
    "gzip bomb": ({"a.gz": gzip.compress(bytes(201_000_000), 9)}, "unpacks to more than 200,000,000"),
    "cut parquet": ({"a.parquet": lambda tmp: parquet(METRICS, tmp)[:-9]}, "not a whole parquet"),
    "cut": ({"a.csv": GOOD[:-30]}, "ends in mid-line"),
    "ragged": ({"a.csv": GOOD.replace(b"2022-01-05,", b"2022-01-05,,,")}, "line 6 has 6 fields instead of 4"),
    "deep JSON": ({"a.json": b"[" * 200_000}, "not complete JSON"),
    "other JSON": ({"a.json": b'{"a": 1, "b": [1], "c": [2]}'}, "found JSON"),
    "no time": ({"a.csv": METRICS.to_csv(index=False).encode()}, "HashRate, BlkCnt, PriceUSD, 400 rows, the first "),
    "no known series": ({"a.csv": text(VALUE.rename(columns={"Value": "b"}))}, "time, b, other, .*no known series"),
    "hash rate alone": ({"h.json": records(HASH, "t", "v")}, r"no price: found h.json \(v\) as hash rate in H/s, daily "
                        'from 2022-01-01 to 2023-02-04; .*DATA="hash.csv price.csv"'),
    "price alone": ({"p.csv": PRICES}, r"no hash rate: found p.csv \(price_usd\) as price, daily"),
    "a value at no level": ({"a.csv": text((PANEL[PRICE] * 0 + 3e9).rename("v"))}, "at no level"),
    "a value at two levels": ({"a.csv": text((HASH / 1e15)[:30].rename("v") / 2)}, "could be .* or "),
    "another coin": ({"a.csv": text(METRICS.assign(Symbol="BCH"))}, "says bch"),
    "another currency": ({"a.csv": text(METRICS.assign(symbol="BTC/EUR"))}, "says btc/eur"),
    "another level": ({"a.csv": text(METRICS.assign(HashRate=METRICS["HashRate"] / 40))}, "in no unit from H/s"),
    "month first": ({"a.csv": stamped("%m/%d/%Y")}, "'01/01/2022' leaves open which is the month"),
    "time zone": ({"a.csv": stamped("%Y-%m-%dT00:00:00+02:00")}, "not a time in UTC"),
    "time of day": ({"a.csv": stamped("%Y-%m-%d 08:00:00")}, "2022-01-01 08:00:00 is a time of day"),
    "Arabic day": ({"a.csv": GOOD.replace(b"2022-01-05", "٢٠٢٢-٠١-٠٥".encode())}, "other than 0 to 9"),
    "Arabic number": ({"a.csv": GOOD.replace(b"\n2022-01-05,", "\n2022-01-05,٣".encode())}, "other than 0 to 9"),
    "word": ({"a.csv": GOOD.replace(b"\n2022-01-05,", b"\n2022-01-05,many")}, "hash_rate_ehs: 'many"),
    "weekly": ({"a.csv": cut_days(PANEL.index.day_of_week == 2)}, "one value every 7 days"),
    "weekdays": ({"a.csv": cut_days(PANEL.index.day_of_week < 5)}, "no Saturday and no Sunday"),
    "hourly": ({"a.csv": HOURS.to_csv(index_label="time").encode()}, "a row every 0 days 01:00:00: give one row a day"),
    "hourly without hours": ({"a.csv": text(HOURS)}, "several rows a day"),
    "a day twice": ({"a.csv": GOOD.replace(b"2022-01-05", b"2022-01-04")}, "2022-01-04 is given twice"),
    "a column twice": ({"a.csv": text(METRICS.assign(price=1.0))}, "columns PriceUSD and price give price"),
    "a name twice": ({"a.csv": GOOD.replace(b"BlkCnt", b"HashRate")}, "columns HashRate and HashRate give hash rate"),
    "price of two files": ({"a.csv": GOOD, "p.csv": text(PANEL[[PRICE]] * 2)}, "price is given by a.csv .* and p.csv"),
    "unknown series": ({"a.csv": GOOD}, "unknown series 'hashrat'; did you mean hashrate", {"hashrat": "HashRate"}),
    "unknown column": ({"a.csv": GOOD}, "no column 'Kurs' for price; there are time, HashRate", "price=Kurs"),
    "unknown column of a file": ({"a.csv:Kurs": GOOD}, "no column 'Kurs'"),
    "no pairs": ({"a.csv": GOOD}, "columns=price: .*name the columns", "price"),
    "no mapping file": ({"a.csv": GOOD}, "columns=lost.yml: .*No such file", "lost.yml"),
    "no finished day": ({"a.csv": b"time,HashRate,BlkCnt,PriceUSD\n2022-01-05,,0,7\n"}, "no hash rate|no day has"),
    "a file that is not there": ({"a.csv": GOOD, "../lost/p.csv": None}, "no file p.csv; quote paths"),
    "a lost quote": ({"a.csv": GOOD.replace(b"2022-01-05", b'"2022-01-05')}, "not a CSV file|is not a day"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_refusal_is_one_line_with_its_true_reason(name, tmp_path):
    files, needle, *own = BAD[name]
    data = put({one: body for one, body in files.items() if body is not None}, tmp_path)
    data = " ".join([data, *(str(tmp_path / one) for one, body in files.items() if body is None)])
    with ls.one_line_error(DataError, needle):
        read_data(data, *own)


def test_what_is_no_file_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(8_000_000_000)
    cases = {"missing.csv": "No such file", ".": "is a folder", "pipe": "not a regular", "/dev/zero": "not a regular"}
    cases |= {"huge.csv": "8,000,000,000 bytes; more than", "a" * 300: "name too long", "a\x00b": "null"}
    for name, needle in cases.items():
        with ls.one_line_error(InputError, f"^DATA=.*{needle}"):
            load_market(tmp_path / name)
    with ls.one_line_error(InputError, "quote paths"):
        load_market('a "b')


def test_an_unfinished_day_is_left_out_and_later_ones_are_kept_for_the_checks(tmp_path):
    path = put({"a.csv": GOOD}, tmp_path)
    for today, last, notes in ((LAST, LAST - pd.Timedelta(days=1), 1), (LAST - pd.Timedelta(days=3), LAST, 0)):
        found = read_data(path, today=today.date())
        assert (found.panel.index[-1], len(found.notes)) == (last, notes)


def test_missing_stays_missing_and_zero_is_no_price(tmp_path):
    marks = ["", "NA", "N/A", "#N/A", "NaN", "null", "None", "\\N", "-", "0"]
    frame = METRICS.astype(object)
    frame.iloc[20:30, 2] = marks
    frame.iloc[40:49, 0] = marks[:-1]
    found = read_data(put({"a b.csv": text(frame)}, tmp_path))
    assert [*found.panel.index[found.panel[PRICE].isna()]] == [*PANEL.index[20:30]]
    assert [*found.panel.index[found.panel[RATE].isna()]] == [*PANEL.index[40:49]]
    assert [note.rpartition(" on ")[2] for note in found.notes] == ["2022-01-30, read as missing"]


def test_a_market_of_two_files_names_both(tmp_path):
    names = ["<img src=x>\x1b[31m.csv", "p q.csv"]
    put(dict(zip(names, (text(METRICS[["HashRate"]]), PRICES), strict=True)), tmp_path)
    data = shlex.join(str(tmp_path / name) for name in names)
    profile = {"data": data} | parse_overrides("columns=price=price_usd")
    market = load_market(**make_params(profile).model_dump(include={"data", "columns"}))
    assert [file["name"] for file in market.files] == ["<img src=x>\\x1b[31m.csv", "p q.csv"]
    assert (market.source, market.simulated, market.retrieved_at, market.age_days) == ("file", False, "", None)
    assert "\x1b" not in market.origins[0]["attribution"] and market.snapshot.startswith("sha256:")
    assert any("144 blocks" in note for note in market.notes)


ROOTS = {"csv": text(METRICS.iloc[:40]), "json": ls.coinmetrics_page(ls.coinmetrics_rows(PANEL.iloc[:40]))}
ROOTS |= {"semicolon": text(METRICS.iloc[:40], sep=";", decimal=","), "gz": gzip.compress(text(METRICS.iloc[:40]))}
ODD = [b"null", b"-1", b"1e400", b"NaN", b"[1]", b"{}", b'"', b",", b"\n", b";", b"9999-12-31", b"\0", b"\xff", b"1_0"]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return ROOTS | {"parquet": parquet(METRICS.iloc[:40].reset_index(), tmp_path_factory.mktemp("parquet"))}


@pytest.mark.parametrize("kind", [*ROOTS, "parquet"])
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
@given(at=st.floats(0, 1), length=st.integers(0, 40), new=st.one_of(st.binary(max_size=6), st.sampled_from(ODD)))
def test_any_change_gives_a_valid_panel_or_one_line(tmp_path, roots, kind, at, length, new):
    body = roots[kind]
    begin = int(at * len(body))
    (tmp_path / "a").write_bytes(body[:begin] + new + body[begin + length :])
    try:
        found = read_data(tmp_path / "a", today=dt.date(2022, 2, 1)).panel
        assert validate_panel(found) is found
    except DataError as error:
        assert "\n" not in str(error) and len(str(error)) < 600


CASES = {"07": "says bch", "14": "one value every 7 days", "24": "no price: found 24_glassnode_shape.json"}
NOTED = {"03": "2023-08-24", "05": "in EH/s", "19": "144 blocks a day", "20": "hash rate follows"}


def test_the_small_files_that_went_wrong(data_folder):
    """Each is read as the first of them, but for the days and columns that it lacks, or refused with its reason."""
    folder = data_folder.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"no small files at {folder}")
    good = read_data(folder / "00_good_baseline.csv").panel
    for path in sorted(folder.glob("[0-9]*")):
        number = path.name[:2]
        if number in CASES:
            with ls.one_line_error(DataError, CASES[number]):
                read_data(path)
            continue
        found = read_data(path)
        assert [NOTED[number] in note for note in found.notes] == [True] if number in NOTED else not found.notes
        if number not in ("08", "10", "11", "26"):  # other values, for the checks to find
            same = found.panel[[*BOTH]].fillna(good[[*BOTH]])
            pd.testing.assert_frame_equal(same, good[[*BOTH]], check_freq=False)


def test_bytes_that_are_no_text_are_one_line(tmp_path):
    for body in (
        os.urandom(5000),
        io.BytesIO().getvalue() + b"PAR1" + bytes(50),
        b"\x1f\x8b",
        b"\xff\xfe\x00",
        b"[]",
        b"{}",
        b"[[]]",
    ):
        (tmp_path / "a").write_bytes(body)
        with ls.one_line_error(DataError, "^a"):
            read_data(tmp_path / "a")
