"""The register of forecasts: what was said about the future, in a chain that shows every later change.

    data/register/forecasts.csv        one forecast per row, numbered; outcomes are never written into it
    data/register/forecasts.head.json  number and hash of its last row, which show that rows are missing at the end

`hash` is the SHA-256 of the row's line up to the comma before it, and `previous` that of the row before. New rows are
written to the CSV first and then to the head, each file whole, so that a kill between the two leaves a head that stands
behind, which the next `append` brings up to date.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from capitulation.errors import CapitulationError, DataError, one_line
from capitulation.paths import register_folder, write_json, write_whole

REGISTER, HEAD = "forecasts.csv", "forecasts.head.json"
HEAD_TEXT = re.compile(rb'\{\s*"number": (\d{1,9}),\s*"hash": "([0-9a-f]{64})"\s*\}\s*')  # as `append` writes it
DAYS, TEXTS = ("as_of", "target_day"), ("source", "code_version", "kind", "data_sha256", "previous", "hash")
NUMBERS = ("probability", "q025", "q250", "q500", "q750", "q975")
FORECAST = ("as_of", "kind", "days", "height", "target_day", *NUMBERS, "data_sha256")
COLUMNS = ("number", "made_at", "source", "code_version", *FORECAST, "previous", "hash")
SAME = ("as_of", "kind", "days", "height", "data_sha256")  # a row that agrees in these stands already
START = "0" * 64  # what the first row has as its `previous`
MADE_AT = "%Y-%m-%dT%H:%M:%SZ"
DEFINING = ("fast_days", "slow_days", "price_fast_days", "price_slow_days", "min_days", "min_depth_z")
DEFINING += ("entry_lag_days", "sample_start")  # what a forecast is about depends on these
FRESH_DAYS = 3  # a forecast is written down while the data end at most so many days before today
LOCK_SECONDS = 120.0


def stored() -> tuple[list[dict[str, str]], int, list[str]]:
    """The register as it lies on disk: rows as text, the number in its head, and every fault, named by row or line."""
    try:
        head, text = _content(HEAD), _content(REGISTER)  # in this order, as the head is written last
        if head is None:  # another process may just be making both
            head, text = _content(HEAD), _content(REGISTER)
    except OSError as error:
        return [], 0, [f"cannot be read ({error.strerror})"]
    rows, faults = _rows(text or b"")
    hashes = {int(row["number"]): row["hash"] for row in rows}
    number, last = 0, max(hashes, default=0)
    if head is None:
        faults += [f"{HEAD} is missing, which says where the register ends"] if text is not None else []
    elif not (known := HEAD_TEXT.fullmatch(head)):
        faults.append(f"{HEAD} is damaged, which says where the register ends")
    elif (number := int(known[1])) > last and text is None:
        faults.append(f"the file is missing, with {number} forecasts")
    elif number > last:
        faults.append(f"{_span(last + 1, number)} cut off at the end")
    elif number and hashes.get(number, known[2].decode()) != known[2].decode():
        faults.append(f"row {number} is not the one that {HEAD} names: put in, or its hash made anew")
    return rows, number, faults


def _content(name: str) -> bytes | None:
    path = register_folder() / name
    return path.read_bytes() if path.exists() else None


def _span(first: int, last: int) -> str:
    return f"row {first} is" if first == last else f"rows {first} to {last} are"


def _rows(text: bytes) -> tuple[list[dict[str, str]], list[str]]:
    """The rows of the CSV, each with the number that it has in the chain, and what is wrong with them."""
    lines, rows, faults = text.splitlines(), [], []
    if text and lines[0] != ",".join(COLUMNS).encode():
        faults.append("its first line does not name the register's columns")
    last, link, made_at, whole = 0, START, "", True  # of the row before
    for at, line in enumerate(lines[1:], 2):
        row = dict(zip(COLUMNS, line.decode("utf-8", "replace").split(","), strict=False))
        if len(row) < len(COLUMNS) or line.count(b",") >= len(COLUMNS) or "\ufffd" in "".join(row.values()):
            conflict = line.startswith((b"<<<<<<<", b"|||||||", b"=======", b">>>>>>>"))
            faults.append(f"line {at} is {'a mark of a conflict in git' if conflict else 'unreadable'}")
            continue
        linked = row["previous"] == link
        changed = sha256(line.rpartition(b",")[0]).hexdigest() != row["hash"]
        stated = int(row["number"]) if re.fullmatch("[1-9][0-9]{0,8}", row["number"]) else last + 1
        number = last + 1 if changed and linked else stated  # its place in the chain says its number
        if changed:
            faults.append(f"row {number} was changed")
        elif number <= last:
            faults.append(f"row {number} stands {'twice' if number == last else f'after row {last}'}")
        elif number == last + 1 and whole and not linked:
            faults.append(f"row {number} does not follow the row before: one of them was put in, or its hash made anew")
        elif whole and row["made_at"] < made_at:
            faults.append(f"row {number} was made before the row above it")
        rows.append(row | {"number": str(number)})
        last, link, made_at, whole = number, row["hash"], row["made_at"], not changed
    numbers = sorted({0, *(int(row["number"]) for row in rows)})
    faults += [f"{_span(one + 1, other - 1)} missing" for one, other in pairwise(numbers) if other > one + 1]
    return rows, faults


def _in_words(found: list[str], shown: int = 5) -> str:
    more = f"; and {len(found) - shown} more" if len(found) > shown else ""
    return one_line("; ".join(found[:shown]) + more, 400)


def check_register() -> list[tuple[str, str, str]]:
    """The register as `snapshots.check_data` gives snapshots: good or refused, its name, why; no row without one."""
    rows, _head, found = stored()
    if found:
        return [("refused", f"register/{REGISTER}", _in_words(found))]
    if not rows:
        return []
    first, last = (rows[at]["made_at"][:10] for at in (0, -1))
    return [("good", f"register/{REGISTER}", f"{len(rows)} forecasts, {first} to {last}, chain whole")]


def _verified() -> tuple[list[dict[str, str]], int]:
    rows, head, found = stored()
    if found:
        remedy = "restore both files of data/register as they were, from git or a copy"
        raise DataError(f"register/{REGISTER}: {_in_words(found)}; {remedy}")
    return rows, head


def read_register() -> pd.DataFrame:
    """Every forecast, verified: days and made_at (UTC) as datetime64, numbers float, `height` Int64, empty = missing.

    No row where there is no register. `DataError` names file and rows where the chain is not whole.
    """
    frame = pd.DataFrame(_verified()[0], columns=[*COLUMNS], dtype=object)
    frame = frame.where(frame != "")
    try:
        for name in DAYS:
            frame[name] = pd.to_datetime(frame[name], format="%Y-%m-%d").astype("datetime64[us]")
        frame["made_at"] = pd.to_datetime(frame["made_at"], format=MADE_AT).astype("datetime64[us]")
        frame["number"] = frame["number"].astype(int)
        frame[["days", "height", *NUMBERS]] = frame[["days", "height", *NUMBERS]].astype(float)
        return frame.astype({"height": "Int64", **dict.fromkeys(TEXTS, "str")})
    except (ValueError, TypeError) as error:
        raise DataError(f"register/{REGISTER}: not as it is written: {one_line(error, 160)}") from None


def _cell(name: str, value: Any) -> str:
    """A cell as it is written: numbers so that reading gives the same one back; a missing one is empty."""
    if pd.isna(value) or value == "":
        return ""
    if name in DAYS:
        return f"{pd.Timestamp(value):%Y-%m-%d}"
    if name in NUMBERS:
        return repr(float(value))
    if name in ("days", "height"):
        return str(int(float(value)))
    if not str(value).isprintable() or re.search('[,"\ufffd]', str(value)):
        raise ValueError(f"{name} {value!r} holds a comma, quotation mark or sign that cannot be printed")
    return str(value)


def append(rows: pd.DataFrame, *, made_at: dt.datetime, source: str, code_version: str) -> int:
    """Write down the forecasts in `rows` (columns FORECAST), one process at a time; gives how many were new.

    Those that stand already are left out, and those decided by the day of `made_at`. `DataError`, with nothing added:
    the chain is not whole, `rows` cannot be read, or `made_at` lies before the last row's. `CapitulationError`: the
    disk is full or not writable, or another process holds the register; what is there stays whole.
    """
    try:
        asked = [{name: _cell(name, row[name]) for name in FORECAST} for row in rows.to_dict("records")]
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"forecasts cannot be written down: {one_line(repr(error), 160)}") from None
    try:
        register_folder().mkdir(parents=True, exist_ok=True)
        with FileLock(register_folder() / ".lock", timeout=LOCK_SECONDS):
            return _append(asked, made_at.astimezone(dt.UTC), {"source": source, "code_version": code_version})
    except Timeout:
        reason = f"locked by another process for {LOCK_SECONDS:.0f} s"
    except OSError as error:
        reason = str(error.strerror)
    raise CapitulationError(f"register/{REGISTER}: {reason}; what is not in it yet enters with the next report")


def _append(asked: list[dict[str, str]], now: dt.datetime, by: Mapping[str, str]) -> int:
    rows, head = _verified()
    known, new = {tuple(row[name] for name in SAME) for row in rows}, []
    clock, last = f"{now:{MADE_AT}}", rows[-1]["made_at"] if rows else ""
    wrong = last > f"{now + dt.timedelta(seconds=LOCK_SECONDS):{MADE_AT}}"  # no wait for another process is so long
    made_at = clock if wrong else max(clock, last)
    for row in asked:
        key = tuple(row[name] for name in SAME)
        if key not in known and row["target_day"] > made_at[:10]:
            known.add(key)
            new.append(row)
    if new and wrong:
        said = f"row {len(rows)} was made at {last}, and the clock says {clock}"
        raise DataError(f"register/{REGISTER}: {said}; set the clock right")
    for row in new:
        link = rows[-1]["hash"] if rows else START
        whole = {"number": str(len(rows) + 1), "made_at": made_at, **by, **row, "previous": link}
        line = ",".join(whole[name] for name in COLUMNS[:-1])
        rows.append(whole | {"hash": sha256(line.encode()).hexdigest()})
    if new:
        if len(rows) == len(new):
            write_json(register_folder() / HEAD, {"number": 0, "hash": START})
        lines = (",".join(COLUMNS), *(",".join(row[name] for name in COLUMNS) for row in rows), "")
        write_whole(register_folder() / REGISTER, "\n".join(lines).encode())
    if head < len(rows):
        write_json(register_folder() / HEAD, {"number": len(rows), "hash": rows[-1]["hash"]})
    return len(new)


def kept_out(record: Mapping[str, Any], today: dt.date) -> str:
    """Why the forecasts of the report with this run.json are not written down; empty where they are.

    Only what is said of today, from real data, about the capitulations and the returns of the defaults, is.
    """
    market = record["market"]
    changed = sorted(name for name in record["changed"] if name in DEFINING)
    if market["simulated"]:
        return "simulated market"
    if record["parameters"]["as_of"]:
        return "AS_OF is a replay"
    if not 0 <= (today - dt.date.fromisoformat(market["last_day"])).days <= FRESH_DAYS:
        return f"the data end on {market['last_day']}"
    if changed:
        return f"this run changes {', '.join(changed)}"
    return "" if REGISTER in record["tables"] else "this report has no forecasts"
