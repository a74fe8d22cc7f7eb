"""Block headers: the rules held against known blocks, Bitcoin Core's own code, a slow twin and two hundred faults."""

import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import local_server as ls
import made_chain as mc
from capitulation.data.headers import MAIN, REGTEST, block_hash, blocks, check, compact, daily, expand, next_bits, work
from capitulation.data.panel import PANEL_COLUMNS, hash_rate_ehs, subsidy_btc, validate_panel
from capitulation.errors import DataError

ROOTS = {  # Merkle root, time, nonce, hash of the main chain's first blocks, as block explorers show them
    1: (
        "0e3e2357e806b6cdb1f70b54c3a3a17b6714ee1f0e68bebb44a74b1efd512098",
        1_231_469_665,
        2_573_394_689,
        "00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048",
    ),
    2: (
        "9b0fc92260312ce44e74ef369f5c66bbb85848f2eddd5a7a1cde251e54ccfdd5",
        1_231_469_744,
        1_639_830_024,
        "000000006a625f06636b8bb6ac7b960a8d03705d1ace08b1a19da3fdcc99ddbd",
    ),
}


def real_chain() -> bytes:
    """The main chain's first three headers."""
    data = MAIN.genesis
    for root, stamp, nonce, _ in ROOTS.values():
        merkle = bytes.fromhex(root)[::-1]
        data += struct.pack("<i32s32sIII", 1, block_hash(data[-80:]), merkle, stamp, 0x1D00FFFF, nonce)
    return data


def test_the_first_real_blocks_are_accepted_under_their_known_hashes():
    data = real_chain()
    for height, (*_, known) in ROOTS.items():
        assert check(data[: 80 * (height + 1)], MAIN)[::-1].hex() == known
    assert blocks(data)["difficulty"].eq(1).all()
    assert work(MAIN.genesis) == 0x100010001  # Core's chainwork of the first block
    assert work(mc.unmined([1, 2], 0x04010000)) == 2 * (2**256 // (2**24 + 1))
    assert block_hash(REGTEST.genesis)[::-1].hex() == "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"
    header = bytes.fromhex(  # block 125,552, the one of the protocol's description
        "0100000081cd02ab7e569e8bcd9317e2fe99f2de44d49ab2b8851ba4a308000000000000"
        "e320b6c2fffc8d750423db8b1eb942ae710e951ed797f7affc8892b0f1fc122bc7f5d74df2b9441a42a14695"
    )
    assert block_hash(header)[::-1].hex() == "00000000000000001e8d6829a8a21adc5d38d0a473b144b6765798e61f98bd1d"


@pytest.mark.parametrize(
    ("bits", "target", "back"),  # of Bitcoin Core's arith_uint256_tests; 0: negative, too large or nothing
    [
        (0x00000000, 0, 0),
        (0x00123456, 0, 0),
        (0x01003456, 0, 0),
        (0x02000056, 0, 0),
        (0x03000000, 0, 0),
        (0x04000000, 0, 0),
        (0x00923456, 0, 0),
        (0x01803456, 0, 0),
        (0x02800056, 0, 0),
        (0x03800000, 0, 0),
        (0x04800000, 0, 0),
        (0x01123456, 0x12, 0x01120000),
        (0x01FEDCBA, 0, 0),
        (0x02123456, 0x1234, 0x02123400),
        (0x03123456, 0x123456, 0x03123456),
        (0x04123456, 0x12345600, 0x04123456),
        (0x04923456, 0, 0),
        (0x05009234, 0x92340000, 0x05009234),
        (0x20123456, 0x123456 << 232, 0x20123456),
        (0xFF123456, 0, 0),
        (0x1D00FFFF, 0xFFFF << 208, 0x1D00FFFF),
        (0x2100FFFF, 0xFFFF << 240, 0x2100FFFF),
        (0x2101FFFF, 0, 0),
    ],
)
def test_compact_bits_are_core_s(bits, target, back):
    assert (expand(bits), compact(target)) == (target, back)


@given(st.integers(1, 2**256 - 1))
def test_compact_form_keeps_the_leading_bytes_and_survives_the_way_back(target):
    bits = compact(target)
    assert compact(expand(bits)) == bits
    assert target * (1 - 2**-15) < expand(bits) <= target
    assert bits == mc.bits_of(target) or target < 2**24


@pytest.mark.parametrize(
    ("bits", "first", "last", "then"),  # of Bitcoin Core's pow_tests, all of the main chain
    [
        (0x1D00FFFF, 1_261_130_161, 1_262_152_739, 0x1D00D86A),
        (0x1D00FFFF, 1_231_006_505, 1_233_061_996, 0x1D00FFFF),  # no easier than the easiest
        (0x1C05A3F4, 1_279_008_237, 1_279_297_671, 0x1C0168FD),  # a quarter at most
        (0x1C387F6F, 1_263_163_443, 1_269_211_443, 0x1D00E1FD),  # fourfold at most
    ],
)
def test_retargets_are_core_s(bits, first, last, then):
    assert next_bits(bits, last - first, MAIN) == then


@given(st.integers(-(10**6), 10**8), st.integers(2**30, 2**255 - 1))
def test_a_retarget_is_that_of_the_slow_twin(seconds, target):
    chain = mc.easy_chain()
    bits = compact(target)
    first = max(0, -seconds)
    headers = [mc.mined(b"", first, mc.EASIEST_BITS)] * 2015
    end = struct.pack("<68xIII", first + seconds, bits, 0)
    assert next_bits(bits, seconds, chain) == mc.expected_bits([*headers, end], chain)


def test_difficulty_is_the_documented_one():
    assert blocks(mc.unmined([1], 0x1B0404CB))["difficulty"][0] == 16307.420938523983


@pytest.fixture(scope="module")
def retargeted():
    """A chain over two retargets that change its bits, with times that go back and three days without a block."""
    chain, stamps = mc.easy_chain(), mc.uneven(2100, 500, 3)
    stamps += mc.uneven(2500, 520, 4, stamps[-1] + 4 * 86_400)
    data = mc.grown(chain.genesis, stamps, chain)
    assert len({mc.bits_in(header) for header in mc.split(data)}) == 3
    return chain, data


def test_a_whole_chain_is_accepted_and_an_extension_is_not_hashed_again(retargeted):
    chain, data = retargeted
    last = mc.double_hash(data[-80:])
    assert check(data, chain) == check(bytearray(data), chain) == check(memoryview(data), chain) == last
    spoilt = bytearray(data)
    spoilt[80 * 1000 + 40] ^= 1  # was checked before
    for start in (1002, 2015, 2016, 2017, 4032, 4599, 4600, 4601, 9999):
        assert check(spoilt, chain, start) == last
    with ls.one_line_error(DataError, "height 100[01]: "):
        check(spoilt, chain, 1000)


@pytest.mark.parametrize("clock", ["median_time_past", "header_time"])
def test_blocks_and_days_are_those_of_the_slow_twin(retargeted, clock):
    _, data = retargeted
    headers, found, panel = mc.split(data), blocks(data), daily(data, clock)
    assert found.index.name == "height" and set(map(str, found.dtypes)) == {"datetime64[us]", "float64"}
    for height, row in enumerate(found.itertuples()):
        assert row.time == pd.Timestamp(mc.stamp_of(headers[height]), unit="s")
        assert row.clock == pd.Timestamp(mc.median_past(headers[max(height - 10, 0) : height + 1]), unit="s")
        assert row.difficulty == 0xFFFF * 2**208 / mc.target_of(mc.bits_in(headers[height]))
    days = mc.slow_days(data, clock == "median_time_past")
    while not days[max(days)]:  # an empty day at the end has no hash rate: the panel's rule
        days.pop(max(days))
    assert (panel.index.as_unit("s").asi8 // 86_400).tolist() == [*days]
    highest = 0
    for (_, heights), (_, row) in zip(days.items(), panel.iterrows(), strict=True):
        highest = max([highest, *heights])
        assert (row["block_count"], row["height"], row["issuance_btc"]) == (len(heights), highest, 50 * len(heights))
        mean = np.mean([found["difficulty"][height] for height in heights]) if heights else np.nan
        assert row["difficulty"] == pytest.approx(mean, rel=1e-14, nan_ok=True)
        assert row["hash_rate_ehs"] == pytest.approx(
            mean * len(heights) * 2**32 / 86_400 / 1e18, rel=1e-14, nan_ok=True
        )
    assert panel[["price_usd", "fees_btc", "revenue_usd"]].isna().all(axis=None)
    assert validate_panel(panel) is panel
    if clock == "median_time_past":
        assert panel["block_count"].cumsum().equals(panel["height"])


@given(
    st.lists(st.integers(-4000, 40_000), min_size=50, max_size=150),
    st.sampled_from(["header_time", "median_time_past"]),
)
@settings(max_examples=30)
def test_later_blocks_change_no_day_that_was_told(waits, clock):
    stamps = [mc.START, *mc.steady(30, 7200)]
    now = stamps[-1]
    for wait in waits:
        now += wait
        stamps.append(max(sorted(stamps[-11:])[len(stamps[-11:]) // 2] + 1, now))
    whole, later = mc.unmined(stamps), daily(mc.unmined(stamps), clock)
    for known in range(30, len(stamps), 37):
        earlier = daily(whole[: 80 * known], clock)
        pd.testing.assert_frame_equal(earlier, later.loc[: earlier.index[-1]], check_freq=False)


def test_the_days_of_the_main_chain_begin_as_they_are_known_and_halve_in_time():
    count = 211_000
    stamps = [1_231_006_505, *range(1_231_469_665, 1_231_469_665 + 600 * count, 600)]
    panel = daily(mc.unmined(stamps))
    assert f"{panel.index[0]:%Y-%m-%d}" == "2009-01-03" and panel.index.name == "date"
    assert panel["block_count"].iloc[:6].eq(0).all() and panel["hash_rate_ehs"].iloc[:6].isna().all()
    assert panel["height"].iloc[:6].eq(0).all() and panel["issuance_btc"].iloc[:6].eq(0).all()
    assert panel["block_count"].iloc[8:].eq(144).all()
    last = int(panel["height"].iloc[-1])
    assert last > 210_000
    assert (
        panel["issuance_btc"].sum() == 50 * 209_999 + 25 * (last - 209_999) == subsidy_btc(np.arange(1, last + 1)).sum()
    )
    assert panel["hash_rate_ehs"].iloc[-1] == hash_rate_ehs(1.0, 144.0)
    assert tuple(panel.columns) == PANEL_COLUMNS
    with ls.one_line_error(DataError, "no day has a hash rate"):
        daily(mc.unmined(stamps[:50]))


# --- faults -----------------------------------------------------------------------------------------------------------


def with_header(data: bytes, height: int, header: bytes) -> bytes:
    """`data` with another header at `height` and the later ones mined anew on it, as an attacker would."""
    headers = [*mc.split(data)[:height], header]
    for old in mc.split(data)[height + 1 : height + 20]:
        headers.append(mc.mined(mc.double_hash(headers[-1]), mc.stamp_of(old), mc.bits_in(old)))
    return b"".join(headers)


def changed(data: bytes, height: int, good: bool = True, **new) -> bytes:
    """The header at `height` with another `stamp`, `bits` or `before`, mined with good work unless said otherwise."""
    header = mc.split(data)[height]
    facts = {"before": header[4:36], "stamp": mc.stamp_of(header), "bits": mc.bits_in(header)} | new
    return mc.mined(**facts, good=good)


def bits_fault(data, height, dice):
    bits = mc.bits_in(mc.split(data)[height])
    other = dice.choice([bits - 1, bits - 0x100, 0x2100FFFF, 0x2000FFFF])
    return with_header(data, height, changed(data, height, bits=other)), height, r"bits are 0x.*asks for 0x"


def invalid_bits_fault(data, height, dice):
    header = bytearray(mc.split(data)[height])
    header[72:76] = dice.choice([0x20800001, 0xFF123456, 0, 0x01003456]).to_bytes(4, "little")
    return with_header(data, height, bytes(header)), height, r"bits are 0x.*asks for 0x"


def work_fault(data, height, dice):
    return with_header(data, height, changed(data, height, good=False)), height, "proof of work"


def link_fault(data, height, dice):
    before = dice.randbytes(32) if dice.random() < 0.5 else mc.double_hash(mc.split(data)[height - 2])
    return with_header(data, height, changed(data, height, before=before)), height, "link"


def early_fault(data, height, dice):
    median = mc.median_past(mc.split(data)[:height])
    header = changed(data, height, stamp=median - dice.choice([0, 1, 3600, 86_400]))
    return with_header(data, height, header), height, "not after the median"


def late_fault(data, height, dice):
    header = changed(data, height, stamp=NOW + 7201 + dice.choice([0, 1, 10**6]))
    return with_header(data, height, header), height, "over 2 h in the future"


def cut_fault(data, height, dice):
    return data[: 80 * height + dice.randrange(1, 80)], height, "end after"


def start_fault(data, height, dice):
    other = dice.choice([MAIN.genesis, REGTEST.genesis, dice.randbytes(80)])
    return other + data[80 : 80 * height], 0, "not the first header of the chain"


def swapped_fault(data, height, dice):
    headers = mc.split(data)
    headers[height], headers[height + 1] = headers[height + 1], headers[height]
    return b"".join(headers), height, "link"


def doubled_fault(data, height, dice):
    return data[: 80 * height] + data[80 * (height - 1) :], height, "link"


def missing_fault(data, height, dice):
    return data[: 80 * height] + data[80 * (height + 1) :], height, "link"


def bit_fault(data, height, dice):
    spoilt = bytearray(data)
    spoilt[80 * height + dice.randrange(80)] ^= 1 << dice.randrange(8)
    return spoilt, (height, height + 1), "link|bits|proof of work|median|future"


def retarget_fault(data, height, dice):
    """At a retarget: none, a block's time too late (2,016 waits, not 2,015), too far, or one unit beside it."""
    height, headers = 2016 * dice.choice([1, 2]), mc.split(data)
    old, right = mc.bits_in(headers[height - 1]), mc.bits_in(headers[height])
    times = [mc.stamp_of(header) for header in headers]
    other_span = times[height] - times[height - 2016]
    wrong = [old, right + 1, right - 1, mc.bits_of(mc.target_of(old) * other_span // 1_209_600), mc.EASY_BITS]
    other = dice.choice([bits for bits in wrong if bits != right])
    return with_header(data, height, changed(data, height, bits=other)), height, r"bits are 0x.*asks for 0x"


def early_retarget_fault(data, height, dice):
    height = dice.choice([2015, 2017, 1008])
    return bits_fault(data, height, dice)


FAULTS = [fault for name, fault in sorted(globals().items()) if name.endswith("_fault")]
NOW = 2**31


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_fault_is_refused_in_one_line_that_names_height_and_fault(retargeted, fault):
    chain, data = retargeted
    dice = random.Random(fault.__name__)
    for _ in range(15):  # of each of the kinds: 210 in all
        spoilt, height, text = fault(data, dice.randrange(12, 4500), dice)
        heights = height if isinstance(height, tuple) else (height,)
        with ls.one_line_error(DataError, rf"^height ({'|'.join(map(str, heights))}): .*({text})"):
            check(spoilt, chain, now=NOW)
        if height:  # and so in an extension of what is stored
            with ls.one_line_error(DataError, text):
                check(spoilt, chain, heights[0] - 5, now=NOW)


def test_there_are_two_hundred_faults():
    assert len(FAULTS) * 15 >= 200


def test_the_edges_of_time_are_core_s(retargeted):
    chain, data = retargeted
    median = mc.median_past(mc.split(data)[:3000])
    for stamp in (median + 1, NOW + 7200):
        check(data[: 80 * 3000] + changed(data, 3000, stamp=stamp), chain, now=NOW)
    check(data[: 80 * 3000] + changed(data, 3000, stamp=int(time.time()) + 7100), chain)
    with ls.one_line_error(DataError, "future"):
        check(data[: 80 * 3000] + changed(data, 3000, stamp=int(time.time()) + 7300), chain)
    for length in range(80):
        with ls.one_line_error(DataError, "^height 0: .*"):
            check(data[:length], chain)


# --- judged by Bitcoin Core's own code --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """`accepts(header)` of Bitcoin Core's consensus code, on a regtest chain of its own."""
    pbk = pytest.importorskip("pbk", reason="py-bitcoinkernel (Bitcoin Core's consensus code) is not installed")
    manager = pbk.load_chainman(tmp_path_factory.mktemp("kernel"), pbk.ChainType.REGTEST)

    def accepts(header: bytes) -> bool:
        try:
            manager.process_block_header(pbk.BlockHeader(header))
        except pbk.KernelException:
            return False
        assert str(manager.block_tree_entries[pbk.BlockHeader(header).block_hash].block_hash) == mc.hex_name(header)
        return True

    return accepts


def judged(data: bytes, start: int) -> bool:
    try:
        return bool(check(data, REGTEST, start))
    except DataError:
        return False


def test_core_accepts_a_mined_chain_and_refuses_what_is_refused_here(kernel):
    data = mc.grown(REGTEST.genesis, mc.uneven(400, 600, 5))
    check(data, REGTEST)
    assert all(map(kernel, mc.split(data)))
    now, dice = int(time.time()), random.Random(1)
    for height in range(1, 400, 3):
        median = mc.median_past(mc.split(data)[:height])
        new = {
            "median": {"stamp": median},
            "median + 1": {"stamp": median + 1},
            "earlier": {"stamp": median - 5000},
            "ahead": {"stamp": now + 7000},
            "too far ahead": {"stamp": now + 7400},
            "harder bits": {"bits": 0x207FFFFE},
            "easier bits": {"bits": 0x2100FFFF},
            "no link": {"before": dice.randbytes(32)},
            "no work": {"good": False},
            "good": {"stamp": median + 2},
        }
        verdicts = {}
        for name, change in new.items():
            header = changed(data, height, **change)
            verdicts[name] = judged(data[: 80 * height] + header, height)
            assert verdicts[name] == kernel(header), (height, name)
        assert [name for name, good in verdicts.items() if good] == ["median + 1", "ahead", "good"]


@given(st.lists(st.integers(-3000, 3000), min_size=1, max_size=25), st.integers(0, 2**30))
@settings(max_examples=40)
def test_core_and_this_code_agree_on_any_times(kernel, waits, salt):
    data, stamp = REGTEST.genesis, mc.START
    for wait in waits:
        stamp += wait
        longer = data + mc.mined(mc.double_hash(data[-80:]), stamp, mc.EASY_BITS, salt)
        good = judged(longer, len(data) // 80)
        assert kernel(longer[-80:]) == good
        data = longer if good else data


# --- size -------------------------------------------------------------------------------------------------------------

WHOLE = """
from pathlib import Path
import made_chain as mc
from capitulation.data.headers import blocks, check, daily
chain, bits = mc.easy_chain(mc.EASIEST_BITS), mc.EASIEST_BITS
data, last = bytearray(chain.genesis), mc.double_hash(chain.genesis)
for height, stamp in enumerate(mc.steady(949_999), 1):
    if height % 2016 == 0:
        bits = mc.bits_of(mc.target_of(bits) * 2015 // 2016)
    header = mc.mined(last, stamp, bits)
    last = mc.double_hash(header)
    data += header
assert check(data, chain, now=2**31) == last
assert len(blocks(data)) == 950_000 and daily(data)["block_count"].iloc[5] == 144
[peak] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(int(peak.split()[1]) // 1024)  # the system's own count of resources begins with the parent's
"""


@pytest.mark.slow
def test_a_chain_as_long_as_the_real_one_is_checked_in_less_than_300_mb():
    done = subprocess.run([sys.executable, "-c", WHOLE], capture_output=True, text=True, cwd=Path(mc.__file__).parent)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300
