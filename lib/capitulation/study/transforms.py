"""Sums under rotated events by Fourier transforms of a length that is quick to transform."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import count

import numpy as np

LARGEST_PRIME = 50


@lru_cache(maxsize=256)
def transform_length(n: int) -> int:
    """Length of the transforms for n days: n itself, or, where n has a large prime factor, a smooth one past 2n - 1.

    Transforms of a length with a large prime factor take several times as long; over the returns written twice, a
    longer one gives the same sums.

    >>> transform_length(4374), transform_length(4373)
    (4374, 8748)
    """
    return n if _largest_prime(n) <= LARGEST_PRIME else next(m for m in count(2 * n - 1) if _largest_prime(m) <= 5)


def _largest_prime(n: int) -> int:
    found, left = 1, n
    for prime in range(2, math.isqrt(n) + 1):
        while left % prime == 0:
            found, left = prime, left // prime
    return max(found, left)


def circular_sums(r: np.ndarray, e: np.ndarray) -> np.ndarray:
    """S[k] = sum over t of r[t] e[t - k mod n], k along the last axis; `r` of shape (n,), `e` of shape (..., n).

    Where n is slow to transform the returns are written twice and the events padded with zeros: the first n sums of the
    longer transform are the same, because no event then reaches past the second copy.
    """
    n = r.shape[-1]
    length = transform_length(n)
    twice = r if length == n else np.concatenate([r, r])
    sums = np.fft.irfft(np.fft.rfft(twice, length) * np.fft.rfft(e, length).conj(), n=length)
    return sums[..., :n]
