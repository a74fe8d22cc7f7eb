"""What people have: local files of whatever provider, format and unit, as one daily panel.

The way is one: bytes (CSV, JSON or parquet, gzipped or not), a table of text, named series by day, the panel. What
could have been understood otherwise is said in `notes`; what cannot be is refused with what was found and what to do.
"""

from __future__ import annotations

import datetime as dt
import io
import os
import re
import shlex
import zlib
from collections.abc import Iterator, Mapping
from gzip import GzipFile
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from ruamel.yaml import YAML, YAMLError

from capitulation.data import mempool, reading
from capitulation.data.checks import usual
from capitulation.data.panel import BLOCKS_PER_DAY, DAY, HASHES_PER_EXAHASH, PANEL_COLUMNS, hash_rate_ehs
from capitulation.data.sources import assemble
from capitulation.errors import DataError, nearest, one_line
from capitulation.words import stretches

MAX_BYTES, MAX_CELLS = 200_000_000, 20_000_000
KNOWN = {  # names of columns by series; those of time in order of preference
    "time": "date day datetime time timeopen timestamp t x snapped_at",
    "asset": "asset symbol coin ticker name",
    "price_usd": "price close closeusd closingprice closingpriceusd usd btcusd",
    "price_at_start": "marketprice marketpriceusd mkpru",
    "hash_rate_ehs": "hash_rate meanhashrate hrate",
    "block_count": "blocks blkcnt nblocks blocksmined blocksperday",
    "difficulty": "difficulty diffmean meandifficulty diff",
    "height": "height blockheight",
    "issuance_btc": "issuance isstotntv",
    "issuance_usd": "issuanceusd isstotusd",
    "fees_btc": "fees feetotntv",
    "revenue_usd": "revenue minersrevenue minersrevenueusd mirev",
}
UNITS = {0: "H/s", 3: "kH/s", 6: "MH/s", 9: "GH/s", 12: "TH/s", 15: "PH/s", 18: "EH/s", 21: "ZH/s"}
HASH_RATE = re.compile(r"(?:mean)?hashrate(?:in)?([kmgtpez]?)h(?:ash(?:es)?)?(?:s|ps|persec(?:ond)?)?")
BITCOIN = re.compile(r"(btc|xbt|bitcoin)([-_/: ]?(usd[tc]?|busd))?")
NAME_IT = 'name the columns, e.g. SET="columns=time=Date,hash_rate=Value,price=Close"'


class FileData(NamedTuple):
    """The panel in local files, `files` (name, sha256, bytes), and in `notes` how they were understood."""

    panel: pd.DataFrame
    files: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


class _Series(NamedTuple):
    """A daily series: what it is, its values, where they are from, and a hash rate's power of ten in H/s if known."""

    what: str
    daily: pd.Series
    source: str
    power: int | None = None


def plain(name: str) -> str:
    """A name by its small letters and digits alone."""
    return re.sub(r"[\W_]", "", name.lower())


def words(series: str, power: int | None = None) -> str:
    """A series as words, a hash rate with its unit where that is known."""
    unit = f" in {UNITS[power]}" if power is not None else ""
    return re.sub("_(usd|ehs|btc)$", "", series).replace("_", " ") + unit


SERIES = {plain(name): series for series, names in KNOWN.items() for name in (series, *names.split())}


def known(name: str) -> tuple[str, int | None]:
    """The series that a column or file of this `name` holds, "" if not known, and the power of ten in H/s it names.

    >>> known("Hash Rate (TH/s)"), known("PriceUSD"), known("BCHAIN-HRATE"), known("AdrActCnt")
    (('hash_rate_ehs', 12), ('price_usd', None), ('hash_rate_ehs', None), ('', None))
    """
    key = plain(name)
    key = key if key in SERIES else re.sub("^(bchain|bitcoin|btc|network)+(?=.)", "", key)
    if unit := HASH_RATE.fullmatch(key):
        return "hash_rate_ehs", 3 * " kmgtpez".index(unit[1] or " ")
    return SERIES.get(key, ""), None


def hinted(name: str) -> tuple[str, int | None]:
    """`known` of a file's name, in which more may stand: market-price (1), btc_hash-rate_2026."""
    found, inside = known(name), [key for key in SERIES if len(key) >= 5 and key in plain(name)]
    return found if found[0] or not inside else (SERIES[max(inside, key=len)], None)


def read_data(
    data: str | Path,
    columns: str | Mapping[str, str] = "",
    today: dt.date | None = None,
    price_only: bool = False,
) -> FileData:
    """The panel in the file or files (separated by spaces, quoted where they hold some) that `data` names.

    `columns`: which column holds which series, as a mapping, as "time=Date,hash_rate=Value" or as the path of a YAML
    file; "hash.csv:Value" names the column of one file. A row of `today` (UTC) is not finished and left out, later ones
    stay. Hash rate, blocks and difficulty follow from two of them. `price_only`: what else is there is passed over and
    not asked for. Raises `DataError`, one line, for what cannot be read, is not of Bitcoin, not daily or without price
    or hash rate.
    """
    asked, notes, files, found, there, given = _asked(columns), [], [], [], [], {}
    for path, only in _paths(str(data)):
        name, content = one_line(path.name, 120), _content(path)
        files.append({"name": name, "sha256": sha256(content).hexdigest(), "bytes": len(content)})
        if answer := _of_mempool(content, name):
            found += answer
            continue
        table, hint, decimal = _table(content, name)
        there += [*table.columns]
        found += _series(*_named(table, name, asked, only), name, hint or path.name.partition(".")[0], decimal, notes)
    for series, (column, _power) in asked.items():
        if plain(column) not in map(plain, there):
            are = one_line(", ".join(there), 160)
            raise DataError(f"columns: no column {column!r} for {words(series)}; there are {are}")
    for item in _by_level(found, notes):
        if item.what == "price_at_start":
            item = item._replace(what="price_usd", daily=item.daily.shift(-1, freq="D"))
            notes.append(f"{item.source}: a day's stamp means its start, so this is the price of the day before")
        zero = item.daily.index[(item.daily == 0) & (item.daily > 0).cummax()]
        if item.what == "price_usd" and len(zero):
            notes.append(f"{item.source}: no price but 0 on {stretches(zero)}, read as missing")
        other = given.setdefault(item.what, item)
        if not other.daily.dropna().equals(item.daily.dropna()):
            both = f"{other.source} and {item.source}"
            raise DataError(f"{words(item.what)} is given by {both} with different values: give one; or {NAME_IT}")
    panel = _prices(given) if price_only else _panel(given, notes)
    if today and panel.index[-1] == pd.Timestamp(today):
        panel = panel.iloc[:-1]
        notes.append(f"the row of {today}, a day not finished, is left out")
    return FileData(panel, tuple(files), tuple(notes))


def _asked(columns: str | Mapping[str, str]) -> dict[str, tuple[str, int | None]]:
    """Column and unit by series, of the user's own names."""
    try:
        pairs: Any = columns
        if isinstance(columns, str) and columns.endswith((".yml", ".yaml")):
            pairs = YAML(typ="safe", pure=True).load(Path(columns).expanduser().read_text("utf-8"))
        elif isinstance(columns, str):
            pairs = [pair.split("=", 1) for pair in columns.split(",") if pair]
        asked = {str(series): one_line(column, 80) for series, column in dict(pairs).items()}
    except (OSError, ValueError, TypeError, RuntimeError, YAMLError) as error:
        raise DataError(f"columns={one_line(columns, 80)}: {one_line(error, 80)}; {NAME_IT}") from None
    for series in asked:
        if not known(series)[0]:
            meant = f"{nearest(series, SERIES)}known are: {', '.join(KNOWN)}"
            raise DataError(f"columns: unknown series {one_line(series, 40)!r}; {meant}")
    return {known(series)[0]: (column, known(series)[1]) for series, column in asked.items()}


def _paths(data: str) -> Iterator[tuple[Path, str]]:
    """Each file that `data` names, and the column named with it."""

    def exists(text: str) -> bool:
        return os.path.exists(os.path.expanduser(text))  # noqa: PTH110, PTH111  these raise nothing

    try:
        parts = [data] if exists(data) else shlex.split(data)
    except ValueError as error:
        raise DataError(f"{one_line(error, 80)}; quote paths that hold spaces") from None
    for part in parts:
        path, _colon, column = part.rpartition(":")
        if len(parts) > 1 and not exists(part) and not exists(path):
            raise DataError(
                f"no file {one_line(Path(part).name, 80)}; quote paths that hold spaces: DATA=\"'a b.csv' c.csv\""
            )
        yield (Path(path), column) if not exists(part) and exists(path) else (Path(part), "")


def local_files(data: str, columns: str | Mapping[str, str] = "") -> list[Path]:
    """The files that `read_data` would read; none where one of them is no regular file that it would take."""
    try:
        paths = [path.expanduser() for path, _column in _paths(data)]
        if isinstance(columns, str) and columns.endswith((".yml", ".yaml")):
            paths.append(Path(columns).expanduser())
        return paths if all(path.is_file() and path.stat().st_size <= MAX_BYTES for path in paths) else []
    except (DataError, OSError, RuntimeError):
        return []


def _content(path: Path) -> bytes:
    """The bytes of a file of reasonable size; `DataError` where they cannot be had."""
    try:
        file = path.expanduser()
        size = file.stat().st_size
        if not file.is_file():
            raise DataError(f"{path.name} is a folder" if file.is_dir() else f"{path.name} is not a regular file")
        if not 0 < size <= MAX_BYTES:
            raise DataError(f"{path.name} holds {size:,} bytes; more than none and at most {MAX_BYTES:,} are read")
        return file.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path.name}: {one_line(getattr(error, 'strerror', None) or error, 120)}") from None


def _of_mempool(content: bytes, name: str) -> list[_Series]:
    """The daily series in an answer of the mempool API (hash rates with difficulty, or prices); none of other bytes."""
    fields = re.match(rb'\s*{\s*"(hashrates|prices)"', content)
    if not fields:
        return []
    if fields[1] == b"prices":
        return [_Series("price_usd", mempool.day_end_prices(content), f"{name} (prices)")]
    panel = mempool.parse_mempool_space({mempool.HASH_RATE: content}).dropna(axis=1, how="all")
    powers = {"hash_rate_ehs": 18}
    return [_Series(what, panel[what], f"{name} ({words(what)})", powers.get(what)) for what in panel]


def _table(content: bytes, name: str) -> tuple[pd.DataFrame, str, bool]:
    """The table of text in the bytes of a file, the name that they give the series, whether commas may be decimal."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = GzipFile(fileobj=io.BytesIO(content)).read(MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{name}: a damaged gzip file: {one_line(error, 80)}") from None
        if len(content) > MAX_BYTES:
            raise DataError(f"{name}: unpacks to more than {MAX_BYTES:,} bytes")
    if content[:4] == b"PAR1":
        return _parquet(content, name), "", False
    if content[:4] == b"PK\3\4":
        raise DataError(f"{name}: a zip file or an Excel workbook; save it as CSV")
    text = reading.read_text(content, name)
    if text.lstrip()[:1] not in ("[", "{"):
        table, separator = reading.table_from_csv(text, name)
        return table, "", separator != ","
    answer = reading.load_json(text, name, dict, list)
    hint = str(answer.get("name", "")) if isinstance(answer, dict) else ""
    lists = [answer] if isinstance(answer, list) else [value for value in answer.values() if isinstance(value, list)]
    for kind in (dict, list):
        if len(lists) == 1 and all(isinstance(row, kind) for row in lists[0]):
            table = pd.DataFrame(lists[0], dtype=object)
            pairs = kind is list and table.shape[1] == 2
            return table.set_axis(["t", "v"] if pairs else [str(name).strip() for name in table], axis=1), hint, False
    what = "one list of records, or of pairs of time and value, is read"
    raise DataError(f"{name}: found JSON {one_line(text, 60)}; {what}")


def _parquet(content: bytes, name: str) -> pd.DataFrame:
    """The table in the bytes of a parquet file, as text."""
    import duckdb  # 70 MB that no other file needs

    with NamedTemporaryFile(suffix=".parquet") as file:
        file.write(content)
        file.flush()
        settings = {"threads": 1, "memory_limit": "2GB", "autoinstall_known_extensions": False}
        try:
            with duckdb.connect(config=settings) as database:
                database.execute("SET TimeZone='UTC'")
                found = database.execute("SELECT COLUMNS(*)::VARCHAR FROM read_parquet(?)", [file.name])
                names = [column[0].strip() for column in found.description]
                rows = found.fetchmany(MAX_CELLS // len(names) + 1)
        except (duckdb.Error, UnicodeDecodeError) as error:
            raise DataError(f"{name}: not a whole parquet file: {one_line(error, 120)}") from None
    if len(rows) * len(names) > MAX_CELLS:
        raise DataError(f"{name}: more than {MAX_CELLS:,} values; keep the columns that are needed")
    return pd.DataFrame(rows, columns=names, dtype=object)


def _named(
    table: pd.DataFrame, name: str, asked: Mapping[str, tuple[str, int | None]], only: str
) -> tuple[pd.DataFrame, dict[str, tuple[str, int | None]]]:
    """The columns of a table by series ("value" where no name says which), and the name and unit that each one has."""
    names, places = [*table.columns], range(table.shape[1])
    first = [str(value).strip() for value in table.iloc[0]] if len(table) else []
    found = f"{name}: found the columns {one_line(', '.join(names), 120)}, {len(table):,} rows"
    found += f", the first {one_line(', '.join(first), 80)}"

    def called(column: str) -> list[int]:
        return [p for p in places if names[p] == column] or [p for p in places if plain(names[p]) == plain(column)]

    labels = {place: label for place, label in enumerate(map(known, names)) if label[0]}
    for series, (column, power) in asked.items():
        if here := called(column):
            labels = {place: label for place, label in labels.items() if label[0] != series}
            labels |= dict.fromkeys(here, (series, power))
    order, dated = KNOWN["time"].split(), [p for p in places if first and reading.DAY_TEXT.fullmatch(first[p])]
    stamps = [p for p in labels if labels[p][0] == "time"] or dated[:1]
    if not stamps:
        raise DataError(f"{found}: no column of time; {NAME_IT}")
    best = min(stamps, key=lambda p: order.index(plain(names[p])) if plain(names[p]) in order else -1)
    labels = {p: label for p, label in labels.items() if p not in stamps}
    rest = [p for p in places if p not in (*labels, *stamps)]
    if plain(names[best]) == "snappedat":  # CoinGecko's
        labels = {p: ("price_at_start", None) if label[0] == "price_usd" else label for p, label in labels.items()}
    if only:
        if not (rest := called(only)):
            raise DataError(f"{found}: no column {one_line(only, 60)!r}")
        labels = {p: label for p, label in labels.items() if p in rest or label[0] == "asset"}
    if not {series for series, _power in labels.values()} - {"asset"}:
        if len(rest) != 1:
            raise DataError(f"{found}: no known series; {NAME_IT}")
        labels[rest[0]] = "value", None
    labels |= {p: ("time", None) for p in stamps if names[p] == names[best]}
    texts: dict[str, pd.Series] = {}
    origin: dict[str, tuple[str, int | None]] = {}
    for place, (series, power) in sorted(labels.items()):
        texts.setdefault(series, table.iloc[:, place])
        own = origin.setdefault(series, (names[place], power))[0]
        if series != "asset" and not texts[series].equals(table.iloc[:, place]):
            both = one_line(f"{own} and {names[place]}", 80)
            raise DataError(f"{name}: the columns {both} give {words(series)} with different values; {NAME_IT}")
    return pd.DataFrame(texts), origin


def _series(
    texts: pd.DataFrame, origin: Mapping[str, Any], name: str, hint: str, decimal: bool, notes: list[str]
) -> list[_Series]:
    """The daily series in the columns of a table, each by its own name or else by the `hint`, if that says more."""
    if "asset" in texts:
        coins = texts.pop("asset").map(lambda coin: str(coin).strip().lower())
        others = [coin for coin in coins.unique() if re.search("[a-z]", coin) and not BITCOIN.fullmatch(coin)]
        texts = texts[~coins.isin(others)]
        if others and texts.empty:
            raise DataError(f"{name}: the file says {one_line(', '.join(others), 80)}, not btc in USD")
        if others:
            notes.append(f"{name}: rows of {one_line(', '.join(others), 80)} passed over")
    stamps, label = texts.pop("time"), f"{name}: {one_line(origin['time'][0], 40)}"
    comma = decimal and texts.map(lambda value: bool(re.fullmatch(r"[^,]*,\d*", str(value)))).any(axis=None)
    if comma:
        notes.append(f"{name}: decimal commas read")
    values = reading.numbers(texts, [*texts], name, decimal_comma=comma)
    stamps = reading.times(stamps, label)
    if "height" in texts and stamps.sort_values().diff().median() < DAY:
        return _blocks(stamps, values, name, notes)
    found, (told, unit) = [], hinted(hint)
    for series, daily in reading.by_day(reading.midnights(stamps, label), values, name).items():
        column, power = origin[series]
        source = f"{name} ({one_line(column, 40)})"
        if series == "value" and told not in ("", "time", "asset"):
            series, power = told, unit
            notes.append(f"{source} is read as {words(series)}")
        found.append(_Series(series, daily, source, power))
    return found


def _blocks(stamps: pd.Series, values: pd.DataFrame, name: str, notes: list[str]) -> list[_Series]:
    """Blocks, mean difficulty and last height of each whole UTC day of a table with one row a block."""
    table = values.assign(day=stamps.dt.normalize()).drop_duplicates("height").sort_values("height")
    for height in table["height"][table["height"].diff() != 1].iloc[1:]:
        raise DataError(f"{name}: blocks are missing before height {height:.0f}: every block of a day is needed")
    days = table.groupby("day").agg(block_count=("height", "size"), height=("height", "max"))
    if "difficulty" in table:
        days["difficulty"] = table.groupby("day")["difficulty"].mean()
    days = days.iloc[0 if table["height"].iloc[0] == 0 else 1 : -1].reset_index()
    if days.empty:
        raise DataError(f"{name}: holds the blocks of no whole day")
    days = reading.by_day(days.pop("day"), days, name)
    said = f"{len(table):,} blocks from height {table['height'].iloc[0]:.0f} counted by UTC day of their header's time"
    notes.append(f"{name}: {said}; the first and last day, not whole, are left out")
    return [_Series(what, days[what].fillna(0) if what == "block_count" else days[what], name) for what in days]


def _by_level(found: list[_Series], notes: list[str]) -> list[_Series]:
    """The series, those of no known name as that whose level they have, the clearest first; one that is open fails."""
    named, waiting = [item for item in found if item.what != "value"], []
    levels = {("hash_rate_ehs", power): 10.0 ** (18 - power) for power in UNITS}
    levels |= {("price_usd", None): 1.0, ("difficulty", None): 1.0}
    for item in (item for item in found if item.what == "value"):
        daily = item.daily[item.daily > 0]
        logs = {series: np.log(daily / usual(series, daily.index)) for series, _power in levels}
        off = {level: (logs[level[0]] - np.log(factor)).abs().median() for level, factor in levels.items()}
        waiting.append((item, off, sorted(off, key=off.__getitem__)))
    for item, off, (first, second, *others) in sorted(waiting, key=lambda one: one[1][one[2][0]] - one[1][one[2][1]]):
        if not off[first] < np.log(10):
            raise DataError(f"{item.source}: at no level that Bitcoin's price, hash rate or difficulty had; {NAME_IT}")
        taken = [other.what for other in named]
        near = [level for level in (second, *others) if off[level] - off[first] < np.log(2) and level[0] not in taken]
        if near:
            could = " or ".join(words(*level) for level in (first, *near))
            raise DataError(f"{item.source}: could be {could} by its level; {NAME_IT}")
        named.append(item._replace(what=first[0]))
        notes.append(f"{item.source} is read as {words(first[0])}, by its level")
    return named


def _unit(rate: _Series, difficulty: pd.Series, blocks: pd.Series, notes: list[str]) -> int:
    """The hash rate's power of ten in H/s: by difficulty and blocks (144 where unknown), else by its known level."""
    expected = hash_rate_ehs(difficulty, blocks.fillna(BLOCKS_PER_DAY))
    expected = expected.where(expected > 0, usual("hash_rate_ehs", expected.index))
    ratio = (rate.daily.where(rate.daily > 0) / expected / HASHES_PER_EXAHASH).median()
    power = -3 * round(np.log10(ratio) / 3)
    if power not in UNITS or abs(np.log10(ratio) + power) > 1:
        said = f"{ratio * 1e12:.3g} times the hash rate of Bitcoin if in TH/s, and near it in no unit from H/s to ZH/s"
        raise DataError(f"{rate.source}: {said}: another coin, or no hash rate")
    if rate.power not in (None, power):
        said = f"the name says {UNITS[rate.power]}, but then it is {ratio * 10.0**rate.power:.3g} times that of Bitcoin"
        raise DataError(f"{rate.source}: {said}; correct the name or the values")
    if rate.power is None and not (power == 12 and rate.source.endswith("(HashRate)")):
        notes.append(f"{rate.source}: hash rate read in {UNITS[power]}")
    return power


def _prices(given: Mapping[str, _Series]) -> pd.DataFrame:
    """The panel that holds the price alone."""
    if "price_usd" not in given or not given["price_usd"].daily.gt(0).any():
        found = ", ".join(f"{item.source} as {words(name)}" for name, item in given.items())
        raise DataError(f"no price: found {one_line(found, 200)}; {NAME_IT}")
    daily = given["price_usd"].daily
    price = daily.where(daily > 0).loc[daily[daily > 0].index[0] :]
    return pd.DataFrame({name: price if name == "price_usd" else np.nan for name in PANEL_COLUMNS}).rename_axis("date")


def _panel(given: Mapping[str, _Series], notes: list[str]) -> pd.DataFrame:
    """The panel of the series by column; `notes` get the unit, what was derived, and what was left out."""
    have = {column: item.daily for column, item in given.items() if item.daily.gt(0).any()}
    frame, rate = pd.DataFrame({column: have.get(column) for column in PANEL_COLUMNS}, dtype=float), "hash_rate_ehs"
    power = _unit(given[rate], frame["difficulty"], frame["block_count"], notes) if rate in have else 0
    lost = "" if rate in have or {"difficulty", "block_count"} <= have.keys() else "hash rate"
    if lost := lost or ("" if "price_usd" in have else "price"):
        said = [f"{given[name].source} as {words(name, power if name == rate else None)}" for name in have]
        days = f", daily from {frame.index[0].date()} to {frame.index[-1].date()}" if have else "no value"
        both = 'give hash rate and price, e.g. in two files: DATA="hash.csv price.csv"'
        raise DataError(f"no {lost}: found {one_line(', '.join(said), 200)}{days}; {both}")
    panel = assemble(have, power)
    for column, parents in ((rate, "difficulty and blocks"), ("block_count", "hash rate and difficulty")):
        derived = panel.index[panel[column].notna() & frame[column].reindex(panel.index).isna()]
        when = f" on {stretches(derived)}" if column in have else ""
        notes += [f"{words(column)}{when} follows from {parents}"] if len(derived) else []
    if panel["block_count"].isna().all():
        notes.append("no block count: errors are those of 144 blocks a day, and what needs blocks is missing")
    if frame.index[-1] - panel.index[-1] > DAY:
        ends = {given[column].source: daily.last_valid_index() for column, daily in have.items()}
        ended = ", ".join(source for source, day in ends.items() if day - panel.index[-1] <= DAY)
        notes.append(f"days after {panel.index[-1].date()} are left out: {one_line(ended, 120)} ends there")
    return panel
