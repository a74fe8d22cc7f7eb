"""Chains of block headers made by code, with work really done, and a node that serves them as Bitcoin Core's REST does.

The rules are written here once more, in whole numbers and one header at a time, so that the library is held against
something else than itself.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterable, Iterator
from hashlib import sha256
from urllib.parse import parse_qsl, urlsplit

import local_server as ls
from capitulation.data.headers import REGTEST, Chain
from capitulation.data.snapshots import Answer, FetchError

EASY_BITS, EASIEST_BITS = 0x207FFFFF, 0x2100FFFF  # every second hash is good enough; all but one in 65,536
START = 1_296_688_602
VERSION = 0x20000000


def double_hash(header: bytes) -> bytes:
    return sha256(sha256(header).digest()).digest()


def hex_name(header: bytes) -> str:
    """The hash as addresses have it."""
    return double_hash(header)[::-1].hex()


def target_of(bits: int) -> int:
    return (bits & 0xFFFFFF) * 256 ** ((bits >> 24) - 3)


def bits_of(target: int) -> int:
    """The compact form of a target of three bytes or more."""
    text = target.to_bytes(40, "big").lstrip(b"\0")
    text = b"\0" + text if text[0] > 127 else text
    return len(text) << 24 | int.from_bytes(text[:3], "big")


def split(data: bytes) -> list[bytes]:
    return [bytes(data[at : at + 80]) for at in range(0, len(data), 80)]


def stamp_of(header: bytes) -> int:
    return int.from_bytes(header[68:72], "little")


def bits_in(header: bytes) -> int:
    return int.from_bytes(header[72:76], "little")


def median_past(headers: list[bytes]) -> int:
    """The median of the times of the last 11 of `headers`."""
    last = sorted(map(stamp_of, headers[-11:]))
    return last[len(last) // 2]


def expected_bits(headers: list[bytes], chain: Chain) -> int:
    """The bits that the header after `headers` must have."""
    bits = bits_in(headers[-1])
    if not chain.retargets or len(headers) % 2016:
        return bits
    took = stamp_of(headers[-1]) - stamp_of(headers[-2016])
    took = sorted([14 * 86_400 // 4, took, 14 * 86_400 * 4])[1]
    return bits_of(min(target_of(bits) * took // (14 * 86_400), chain.limit))


def mined(before: bytes, stamp: int, bits: int, salt: int = 0, good: bool = True) -> bytes:
    """A header after the hash `before` whose own hash meets its target; misses it where it shall not be `good`."""
    start = struct.pack("<i32s32sII", VERSION, before, salt.to_bytes(32, "little"), stamp, bits)
    target, nonce = target_of(bits), 0
    while True:
        header = start + nonce.to_bytes(4, "little")
        if (int.from_bytes(double_hash(header), "little") <= target) == good:
            return header
        nonce += 1


def grown(data: bytes, stamps: Iterable[int], chain: Chain = REGTEST, salt: int = 0) -> bytes:
    """`data` and after it a mined header for each of `stamps`; another `salt` gives another branch."""
    headers = split(data)
    for stamp in stamps:
        headers.append(mined(double_hash(headers[-1]), stamp, expected_bits(headers, chain), salt))
    return b"".join(headers)


def steady(count: int, seconds: int = 600, start: int = START) -> Iterator[int]:
    """`count` times, `seconds` apart, the first that much after `start`."""
    return iter(range(start + seconds, start + seconds * (count + 1), seconds))


def uneven(count: int, mean: float, seed: int, start: int = START) -> list[int]:
    """Times as miners write them: random waits of `mean` seconds, clocks up to an hour off, each after its median."""
    dice, now, stamps = random.Random(seed), float(start), [start]
    for _ in range(count):
        now += dice.expovariate(1 / mean)
        last = sorted(stamps[-11:])
        stamps.append(max(last[len(last) // 2] + 1, int(now + dice.uniform(-3600, 3600))))
    return stamps[1:]


def unmined(stamps: Iterable[int], bits: int = 0x1D00FFFF) -> bytes:
    """Headers of these times without links or work: for what is read from headers that were checked."""
    return b"".join(struct.pack("<68xIII", stamp, bits, 0) for stamp in stamps)


def told(clock: Iterable[int], difficulty: Iterable[float]) -> bytes:
    """Linked headers, without work, whose median times past are `clock`, after a first one that counts nowhere."""
    clock = [int(stamp) for stamp in clock]
    stamps = [clock[0] - 1, *clock[5:], *range(clock[-1] + 600, clock[-1] + 3601, 600)][: len(clock) + 1]
    before, headers = bytes(32), []
    for stamp, hardness in zip(stamps, [1.0, *difficulty], strict=True):
        bits = bits_of(int(0xFFFF * 2**208 / hardness))
        headers.append(struct.pack("<i32s32sIII", VERSION, before, bytes(32), stamp, bits, 0))
        before = double_hash(headers[-1])
    return b"".join(headers)


def easy_chain(bits: int = EASY_BITS, retargets: bool = True) -> Chain:
    """A chain of its own with so large a target that mining takes a try or two."""
    return Chain("regtest", mined(bytes(32), START, bits), target_of(bits), retargets)


def slow_days(data: bytes, by_median: bool) -> dict[int, list[int]]:
    """Heights of the blocks of each day (number since 1970), the first block left out; only days that are over."""
    headers, days = split(data), {}
    for height in range(1, len(headers)):
        stamp = median_past(headers[: height + 1][-11:]) if by_median else stamp_of(headers[height])
        days.setdefault(stamp // 86_400, []).append(height)
    last = median_past(headers[-11:]) // 86_400
    return {day: days.get(day, []) for day in range(stamp_of(headers[0]) // 86_400, last)}


class MadeNode:
    """Answers as Bitcoin Core's REST: with `get` directly, or over a local server that it is made to `serve`.

    `old`: as before version 24, which knows only the count in the path. `asked` collects the paths.
    """

    def __init__(self, data: bytes, name: str = "regtest", old: bool = False, blocks: int | None = None):
        self.headers, self.name, self.old, self.asked = split(data), name, old, []
        self.blocks = len(self.headers) - 1 if blocks is None else blocks
        self.heights = {hex_name(header): height for height, header in enumerate(self.headers)}

    def answer(self, address: str) -> tuple[int, bytes]:
        """Status and body for a path with its query."""
        path, query = urlsplit(address).path, dict(parse_qsl(urlsplit(address).query))
        self.asked.append(path)
        if path == "/rest/chaininfo.json":
            facts = {"chain": self.name, "blocks": self.blocks, "headers": self.blocks}
            return 200, json.dumps({**facts, "bestblockhash": hex_name(self.headers[-1])}).encode()
        *_, first, last = path.removesuffix(".bin").split("/")
        if first == "headers" and self.old:
            return 400, b"No header count specified. Use /rest/headers/<count>/<hash>.<ext>.\r\n"
        count, height = int(query["count"] if first == "headers" else first), self.heights.get(last)
        return 200, b"" if height is None else b"".join(self.headers[height : height + count])

    def get(self, url: str, query: dict | None = None, secrets: dict | None = None) -> Answer:
        """As `snapshots.fetch_answer`, without a network."""
        address = "".join(
            [url, "?" if query else "", "&".join(f"{name}={value}" for name, value in (query or {}).items())]
        )
        status, body = self.answer(address)
        if status != 200:
            raise FetchError(f"node: answered {status}", None, status)
        return Answer(url, query or {}, body)

    def serve(self, server: ls.LocalServer) -> None:
        """Let `server` answer for this node."""

        def play(handler: ls.Handler) -> None:
            status, body = self.answer(handler.path)
            ls.reply(status, body)(handler)

        for path in ("/rest/chaininfo.json", "/rest/headers/HASH.bin", "/rest/headers/2000/HASH.bin"):
            server.serve(path, play)
