"""Block headers: checked by the protocol's rules, and the daily panel in them. No network.

A chain is its headers one after the other, 80 bytes each: version, hash of the one before, Merkle root, time, bits,
nonce, little-endian. The rules are those of Bitcoin Core (pow.cpp, arith_uint256.cpp and ContextualCheckBlockHeader in
validation.cpp) for link, bits, proof of work and time, which need nothing but the headers themselves.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from capitulation.data.panel import (
    DAY,
    HALVING_BLOCKS,
    MAX_RETARGET_FACTOR,
    RETARGET_BLOCKS,
    RETARGET_SECONDS,
    daily_panel,
    hash_rate_ehs,
    subsidy_btc,
    validate_panel,
)
from capitulation.errors import DataError

HEADER_BYTES, MEDIAN_BLOCKS, MOST_AHEAD_SECONDS = 80, 11, 7200
FIELDS = struct.Struct("<4x32s32xII4x")  # hash of the one before, time, bits
RECORD = np.dtype([("before", "V68"), ("time", "<u4"), ("bits", "<u4"), ("nonce", "<u4")])
CLOCKS = {"median_time_past": "clock", "header_time": "time"}  # what may say of which day a block is, and its column
BLOCK_CLOCKS = tuple(CLOCKS)
Bytes = bytes | bytearray | memoryview


class Chain(NamedTuple):
    """One chain's own rules: `name` as a node calls it, first header, largest target, whether difficulty changes."""

    name: str
    genesis: bytes
    limit: int
    retargets: bool


def _genesis(seconds: int, bits: int, nonce: int) -> bytes:
    """The first header, whose one transaction all chains of Bitcoin Core share."""
    root = bytes.fromhex("4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b")[::-1]
    return struct.pack("<i32s32sIII", 1, bytes(32), root, seconds, bits, nonce)


MAIN = Chain("main", _genesis(1_231_006_505, 0x1D00FFFF, 2_083_236_893), 2**224 - 1, True)
REGTEST = Chain("regtest", _genesis(1_296_688_602, 0x207FFFFF, 2), 2**255 - 1, False)


def block_hash(header: Bytes) -> bytes:
    """SHA-256 twice, in the protocol's byte order (32 bytes); people and addresses write it reversed, in hex.

    >>> block_hash(MAIN.genesis)[::-1].hex()
    '000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f'
    """
    return sha256(sha256(header).digest()).digest()


def expand(bits: int) -> int:
    """The target that the compact form `bits` stands for; 0, which no hash meets, for a negative or too large one.

    >>> round(0xFFFF * 2**208 / expand(0x1B0404CB), 3)
    16307.421
    """
    size, word = bits >> 24, bits & 0x7FFFFF
    target = word << 8 * (size - 3) if size > 3 else word >> 8 * (3 - size)
    return 0 if bits & 0x800000 or target >= 2**256 else target


def compact(target: int) -> int:
    """The compact form of `target`: one byte of size, then the three leading bytes, of which the top bit is a sign."""
    size = (target.bit_length() + 7) // 8
    word = target >> 8 * (size - 3) if size > 3 else target << 8 * (3 - size)
    return word >> 8 | size + 1 << 24 if word & 0x800000 else word | size << 24


def next_bits(bits: int, seconds: int, chain: Chain) -> int:
    """The bits after 2,016 blocks of `bits`, of which the last was made `seconds` after the first: a factor 4 at most.

    >>> hex(next_bits(0x1D00FFFF, 1_262_152_739 - 1_261_130_161, MAIN))  # block 32,256, the first change
    '0x1d00d86a'
    """
    lasted = min(max(seconds, RETARGET_SECONDS // MAX_RETARGET_FACTOR), RETARGET_SECONDS * MAX_RETARGET_FACTOR)
    return compact(min(expand(bits) * lasted // RETARGET_SECONDS, chain.limit))


def work(data: Bytes) -> int:
    """Hashes that these headers are expected to have taken: the sum of 2^256 / (target + 1)."""
    bits = np.frombuffer(data, RECORD)["bits"].tolist()
    return sum(2**256 // (expand(one) + 1) for one in bits)


def check(data: Bytes, chain: Chain, start: int = 0, now: int | None = None) -> bytes:
    """The hash (internal order) of the last of the headers `data`, which keep every rule of `chain` from its first on.

    Those before height `start` were checked before: they are read, not hashed. `now`: Unix time, the present without
    it. `DataError` names the height and the fault: cut short, not this chain's first header, link, bits (a wrong
    retarget, or none where one is due), proof of work, time not after the median of the last 11 or over 2 h ahead.
    """
    count, rest = divmod(len(data), HEADER_BYTES)
    if rest or not count:
        raise DataError(f"height {count}: the headers end after {rest} of its {HEADER_BYTES} bytes; fetch them again")
    if data[:HEADER_BYTES] != chain.genesis:
        raise DataError(f"height 0: not the first header of the chain {chain.name}; ask a node of that chain")
    start, latest = min(max(start, 1), count), (time.time() if now is None else now) + MOST_AHEAD_SECONDS
    stamps = [
        FIELDS.unpack_from(data, height * HEADER_BYTES)[1] for height in range(max(start - MEDIAN_BLOCKS, 0), start)
    ]
    times, bits = deque(stamps, MEDIAN_BLOCKS), FIELDS.unpack_from(data, (start - 1) * HEADER_BYTES)[2]
    with memoryview(data) as view:
        before, target = block_hash(view[(start - 1) * HEADER_BYTES : start * HEADER_BYTES]), expand(bits)
        for height in range(start, count):
            at, fault = height * HEADER_BYTES, ""
            hashed = block_hash(view[at : at + HEADER_BYTES])
            link, stamp, found = FIELDS.unpack_from(data, at)
            if height % RETARGET_BLOCKS == 0 and chain.retargets:
                first = FIELDS.unpack_from(data, at - RETARGET_BLOCKS * HEADER_BYTES)[1]
                bits = next_bits(bits, times[-1] - first, chain)
                target = expand(bits)
            if link != before:
                fault = "it does not follow the header before it (link)"
            elif found != bits:
                fault = f"its bits are {found:#010x}, the protocol asks for {bits:#010x} (or a node of another coin)"
            elif int.from_bytes(hashed, "little") > target:
                fault = "its hash does not meet its target (proof of work)"
            elif stamp <= sorted(times)[len(times) // 2]:
                fault = f"its time {stamp} is not after the median of the {len(times)} before it"
            elif stamp > latest:
                fault = f"its time {stamp} is over 2 h in the future (or this machine's clock is slow)"
            if fault:
                raise DataError(f"height {height}: {fault}; nothing of it is used, ask another node")
            before = hashed
            times.append(stamp)
    return before


def blocks(data: Bytes) -> pd.DataFrame:
    """The blocks in checked headers, by `height`: `time` (UTC, the header's), `clock` (UTC) and `difficulty`.

    `clock` is the median time past (median of the times of a block and the 10 before it, which never goes back; Core's
    `mediantime`). Difficulty is 0xffff * 2^208 / target.
    """
    fields = np.frombuffer(data, RECORD)
    stamps, clock = fields["time"], np.empty(len(fields), "<u4")
    # Of n < 11 times the one at n // 2 is wanted: with low and high stamps in turn before them, the middle one of 11.
    padded = np.concatenate([np.tile(np.array([0, 2**32 - 1], "<u4"), MEDIAN_BLOCKS // 2), stamps])
    for at in range(0, len(stamps), 2**16):
        windows = sliding_window_view(padded[at : at + 2**16 + MEDIAN_BLOCKS - 1], MEDIAN_BLOCKS)
        clock[at : at + 2**16] = np.partition(windows, MEDIAN_BLOCKS // 2)[:, MEDIAN_BLOCKS // 2]
    bits = fields["bits"]  # in a few hundred runs
    runs = np.flatnonzero(np.append(True, bits[1:] != bits[:-1]))
    difficulty = [0xFFFF * 2**208 / expand(one) for one in bits[runs].tolist()]
    difficulty = np.repeat(difficulty, np.diff(runs, append=len(bits)))
    seconds = {"time": stamps, "clock": clock}
    columns = {name: when.astype("datetime64[s]").astype("datetime64[us]") for name, when in seconds.items()}
    heights = pd.RangeIndex(len(fields), name="height")
    return pd.DataFrame({**columns, "difficulty": difficulty}, heights, copy=False)


def daily(data: Bytes, clock: str = "median_time_past") -> pd.DataFrame:
    """The panel in checked headers, exact, from the day of the first block to the last day that no new block can join.

    A block belongs to the day of its median time past, as at Coin Metrics, or of its `header_time`. Like there, the
    first block of all counts nowhere. `height` is the highest so far, `difficulty` the mean over the day's blocks,
    `issuance_btc` the main chain's subsidy; headers have no price, fees or revenue. `DataError` without a whole day.
    """
    found = blocks(data)
    first, last = found["clock"].iloc[[0, -1]].to_numpy().astype("datetime64[D]")
    day = (found[CLOCKS[clock]].to_numpy()[1:].astype("datetime64[D]") - first).astype("int64")
    days = pd.date_range(first, last - DAY, name="date", unit="us")
    subsidy = np.repeat(subsidy_btc(np.arange(0, len(found), HALVING_BLOCKS)), HALVING_BLOCKS)[1 : len(found)]
    height = np.zeros(day.max(initial=0) + 1)
    height[day] = found.index[1:]  # of several blocks of a day the last one stays
    sums = {"block_count": None, "issuance_btc": subsidy, "difficulty": found["difficulty"].to_numpy()[1:]}
    columns = {name: np.bincount(day, weights).astype("float64") for name, weights in sums.items()}
    panel = pd.DataFrame(columns | {"height": np.maximum.accumulate(height)})[: len(days)].set_axis(days)
    panel["difficulty"] /= panel["block_count"].where(panel["block_count"] > 0)
    return validate_panel(
        daily_panel({**panel, "hash_rate_ehs": hash_rate_ehs(panel["difficulty"], panel["block_count"])})
    )
