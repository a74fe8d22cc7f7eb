"""The part of the simulated network that is exact: block arrivals, the 2016-block retarget, the compact target.

Blocks arrive as a Poisson process whose rate is hash rate over difficulty, so a day is drawn in one step: given the
number of arrivals, their times are uniform, and the time of the k-th is a scaled Beta(k, n - k + 1). Only days that
hold a retarget need more than one draw, and nothing is approximated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from capitulation.mining.protocol import (
    HASHES_PER_DIFFICULTY,
    HASHES_PER_EXAHASH,
    MAX_RETARGET_FACTOR,
    RETARGET_BLOCKS,
    SECONDS_PER_DAY,
    TARGET_BLOCK_SECONDS,
)

RETARGET_SECONDS = RETARGET_BLOCKS * TARGET_BLOCK_SECONDS
EASIEST_BITS = 0x1D00FFFF
MANTISSA_BYTES = 3
SIGN_BIT = 0x800000


def target_of(bits: int) -> int:
    """The 256-bit target of a compact `nBits` number: mantissa (3 bytes) times 256 to the exponent minus 3.

    >>> hex(target_of(0x1B0404CB))
    '0x404cb000000000000000000000000000000000000000000000000'
    """
    exponent, mantissa = bits >> 24, bits & 0x7FFFFF
    shift = 8 * (exponent - MANTISSA_BYTES)
    return mantissa << shift if shift >= 0 else mantissa >> -shift


def bits_of(target: int) -> int:
    """The compact `nBits` form of `target`; digits beyond the mantissa are cut, as every node does.

    >>> hex(bits_of(target_of(0x1D00D86A)))
    '0x1d00d86a'
    """
    size = (target.bit_length() + 7) // 8
    shift = 8 * (size - MANTISSA_BYTES)
    mantissa = target >> shift if shift >= 0 else target << -shift
    if mantissa & SIGN_BIT:
        mantissa, size = mantissa >> 8, size + 1
    return size << 24 | mantissa


EASIEST_TARGET = target_of(EASIEST_BITS)


def next_bits(bits: int, timespan_seconds: int) -> int:
    """`nBits` of the next 2016 blocks: target times actual over planned time, within a factor 4, never easier than 1.

    `timespan_seconds`: from the first to the last of the 2016 blocks, so 2015 intervals, as the protocol has it. The
    example is the first retarget that ever changed difficulty (block 32,256, 30 December 2009).

    >>> hex(next_bits(0x1D00FFFF, 1262152739 - 1261130161))
    '0x1d00d86a'
    """
    least, most = RETARGET_SECONDS // MAX_RETARGET_FACTOR, RETARGET_SECONDS * MAX_RETARGET_FACTOR
    clamped = min(max(timespan_seconds, least), most)
    return bits_of(min(target_of(bits) * clamped // RETARGET_SECONDS, EASIEST_TARGET))


def difficulty_of(bits: int) -> float:
    """How much harder than the easiest allowed target.

    >>> round(difficulty_of(0x1B0404CB), 3)
    16307.421
    """
    return EASIEST_TARGET / target_of(bits)


def bits_for(difficulty: float) -> int:
    """`nBits` whose difficulty is the closest below `difficulty`; at least 1."""
    return bits_of(min(int(EASIEST_TARGET / difficulty), EASIEST_TARGET)) if difficulty > 1 else EASIEST_BITS


@dataclass
class Chain:
    """The block chain as it grows. `height`: blocks found, the genesis block not counted.

    `changes` lists every retarget: (height of its first block, seconds at which the last block before it was found,
    timespan in seconds, nBits).
    """

    bits: int = EASIEST_BITS
    height: int = 0
    period_started: int | None = 0
    changes: list[tuple[int, int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.difficulty = difficulty_of(self.bits)

    def mine(self, day: int, hash_rate_ehs: float, random: np.random.Generator) -> tuple[int, float]:
        """Blocks found on `day` at a constant hash rate, and the sum of their difficulties."""
        per_difficulty = hash_rate_ehs * HASHES_PER_EXAHASH * SECONDS_PER_DAY / HASHES_PER_DIFFICULTY
        before, work, left = self.height, 0.0, 1.0
        n = int(random.poisson(per_difficulty / self.difficulty))
        while n:
            wanted = 1 if self.period_started is None else self._blocks_to_last()
            found = min(n, wanted)
            self.height += found
            work += found * self.difficulty
            if n < wanted:
                break
            left *= 1 - random.beta(wanted, n - wanted + 1)
            n -= wanted
            if self._reach(int((day + 1 - left) * SECONDS_PER_DAY)):
                n = int(random.poisson(per_difficulty / self.difficulty * left))
        return self.height - before, work

    def _blocks_to_last(self) -> int:
        """Blocks until the last one of the running period is found."""
        return RETARGET_BLOCKS - 1 - self.height % RETARGET_BLOCKS

    def _reach(self, second: int) -> bool:
        """Note the first block of a period, or retarget after its last; whether difficulty was set anew."""
        if self.period_started is None:
            self.period_started = second
            return False
        timespan = second - self.period_started
        self.bits = next_bits(self.bits, timespan)
        self.difficulty = difficulty_of(self.bits)
        self.changes.append((self.height + 1, second, timespan, self.bits))
        self.period_started = None
        return True
