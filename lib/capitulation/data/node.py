"""One's own Bitcoin node as a source: every header over Bitcoin Core's REST (a node started with -rest), each one once.

A snapshot holds what was new: chaininfo.json and headers-HEIGHT.bin, HEIGHT that of its first header. What came before
lies in older snapshots, joined by height and hash (`whole_chain`). Nothing is kept that `headers.check` has not passed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress

from capitulation.data.headers import HEADER_BYTES, MAIN, Bytes, Chain, block_hash, check, work
from capitulation.data.reading import load_json
from capitulation.data.snapshots import (
    Answer,
    FetchError,
    Get,
    SnapshotMissing,
    base_url,
    find_snapshot,
    snapshot_names,
)
from capitulation.errors import DataError, one_line

NODE_URL = "NODE_URL"  # the variable that has its address
CHAININFO, PART = "chaininfo.json", re.compile(r"headers-(\d{7,})\.bin")
BATCH, DEEPEST, MOST_BLOCKS = 2000, 2016, 10_000_000  # per request; of a reorganisation; a chain has them in 2199


def fetch_node(get: Get, chain: Chain = MAIN, provider: str = "node") -> dict[str, Answer]:
    """The node's chain state and the headers that are not stored yet, by file name; all where none are.

    Asks `NODE_URL`. After a reorganisation the headers from the fork on; where nothing is new the last one again.
    `DataError`: another chain, a rule of the protocol broken, or a chain of less work than the stored one (a node that
    is still syncing) or that left it over 2,016 blocks ago. `FetchError`: no node answers.
    """
    url = base_url(NODE_URL, "http://127.0.0.1:8332")
    try:
        answers = {CHAININFO: get(f"{url}/rest/chaininfo.json")}
    except FetchError as error:
        raise FetchError(f"{error}; start the node with -rest, or set NODE_URL", None, error.status) from None
    info = load_json(answers[CHAININFO].body, "the node's chaininfo")
    name, end = info.get("chain"), info.get("blocks")
    if name != chain.name:
        there = f"the node's chain is {one_line(repr(name), 40)}, not {chain.name!r}"
        raise DataError(f"{there}; set NODE_URL to a node of that chain")
    if not isinstance(end, int) or not 0 <= end < MOST_BLOCKS:
        raise DataError(f"the node's chaininfo: blocks is {one_line(repr(end), 40)}, not a height; ask another node")

    ways = [("/rest/headers/{}.bin", {"count": str(BATCH)}), (f"/rest/headers/{BATCH}/{{}}.bin", None)]

    def ask(header: bytes) -> Answer:
        """`header` and up to 1,999 after it; an empty body where it is not in the node's active chain."""
        hashed = block_hash(header)[::-1].hex()
        try:
            answer = get(f"{url}{ways[0][0].format(hashed)}", ways[0][1])
        except FetchError as error:  # before version 24 only the second way
            if error.status not in (400, 404) or len(ways) == 1:
                raise
            del ways[0]
            return ask(header)
        if answer.body and answer.body[:HEADER_BYTES] != header:
            raise DataError(f"the node's headers do not begin with block {hashed} as asked; ask another node")
        return answer

    stored = _newest_chain(provider)
    data = stored or bytearray(chain.genesis)
    tip = len(data) // HEADER_BYTES - 1
    for back in (0, *(2**power for power in range(11)), DEEPEST):
        known = max(tip - back, 0)  # a height from which on the node's chain may differ
        answer = ask(bytes(data[known * HEADER_BYTES :][:HEADER_BYTES]))
        if answer.body or not known:
            break
    if not answer.body:
        whole = f"none of the stored blocks of height {known} to {tip} is in the node's chain, which ends at {end}"
        todo = f"let it finish syncing, ask another node, or move data/raw/{provider} away to begin anew"
        raise DataError(f"{whole}; {todo}")
    old, batch = bytes(data[known * HEADER_BYTES :]) if stored else b"", answer.body
    del data[(known + 1) * HEADER_BYTES :]
    while True:
        height = len(data) // HEADER_BYTES
        data += batch[HEADER_BYTES:]
        check(data, chain, height)
        if len(batch) < BATCH * HEADER_BYTES or len(data) // HEADER_BYTES > end:
            break
        batch = ask(bytes(data[-HEADER_BYTES:])).body
        if not batch:
            raise DataError(
                f"block {len(data) // HEADER_BYTES - 1} left the node's chain during the fetch; fetch again"
            )
    with memoryview(data)[known * HEADER_BYTES :] as new:
        pairs = range(0, len(old), HEADER_BYTES)
        fork = next((at for at in pairs if old[at : at + HEADER_BYTES] != new[at : at + HEADER_BYTES]), len(old))
        if fork < len(old) and work(new[fork:]) < work(old[fork:]):
            ends = f"the node's chain ends at height {len(data) // HEADER_BYTES - 1} with less work than the stored one"
            raise DataError(f"{ends}, which ends at {tip}; let it finish syncing, or ask another node")
        first = min(fork, len(new) - HEADER_BYTES)
        part = f"headers-{known + first // HEADER_BYTES:07d}.bin"
        answers[part] = answer._replace(body=bytes(new[first:]))
    return answers


def whole_chain(files: Mapping[str, bytes], provider: str = "node") -> Bytes:
    """The headers from the first block to the end of those in a snapshot's `files`, the earlier ones out of the store.

    `SnapshotMissing` where some are no longer there, `DataError` where `files` hold none.
    """
    first, body = _part(files)
    parts: list[Bytes] = [body]
    for name in snapshot_names(provider) if first else ():
        with suppress(DataError):  # a damaged one is not used
            start, earlier = _part(find_snapshot(name).files)
            end = (first - start) * HEADER_BYTES
            if end > 0 and block_hash(earlier[end - HEADER_BYTES : end]) == body[4:36]:
                parts.append(memoryview(earlier)[:end])
                first, body = start, earlier
        if not first:
            break
    if first:
        gone = f"the headers before height {first} are no longer in data/raw/{provider}"
        raise SnapshotMissing(f"{gone}; `make fetch SOURCE={provider}` gets the chain anew")
    return body if len(parts) == 1 else b"".join(reversed(parts))


def _part(files: Mapping[str, bytes]) -> tuple[int, bytes]:
    """Height of the first header in a snapshot's files, and the headers."""
    for name, body in files.items():
        known = PART.fullmatch(name)
        if known and body and len(body) % HEADER_BYTES == 0:
            return int(known[1]), body
    raise DataError("the snapshot holds no block headers")


def _newest_chain(provider: str) -> bytearray | None:
    """The chain of the newest snapshot that verifies; None without one, or where a part of it is gone."""
    for name in snapshot_names(provider):
        try:
            files = find_snapshot(name).files
        except DataError:
            continue
        with suppress(DataError):
            return bytearray(whole_chain(files, provider))
        break
    return None
