"""Was it the timing? A strategy beside thousands of others that are as long in the market, as often, at random times.

A long-only rule in an asset that rose a thousandfold looks good whatever it does. The fair competitor keeps the number
of stays, the length of each, and so exposure and costs, and draws only their places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from capitulation.study.rotation import rotation_test

SETS_PER_CHUNK = 2_000


@dataclass(frozen=True)
class RandomEntries:
    """A strategy against random entry sets.

    observed : its total log return before costs (equal costs cancel: every set trades as often).
    random : shape (n_sets,), the same of each random set; empty where the stays leave no room to move.
    share_beaten : share of random sets strictly below the observed one (ties half), NaN without sets.
    p_rotation : exact rotation test of the daily position, one-sided: its whole calendar, moved.
    """

    observed: float
    random: np.ndarray
    share_beaten: float
    p_rotation: float


def _stays(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First day and length of each run of ones."""
    edges = np.diff(position.astype("int8"), prepend=0, append=0)
    first = np.flatnonzero(edges == 1)
    return first, np.flatnonzero(edges == -1) - first


def random_stays(
    n_days: int, lengths: ArrayLike, n_sets: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(first days, lengths), both (n_sets, stays): the stays in random order at random places, never touching.

    Each stay's place is drawn independently among the days left free, so that stays may come close but not merge:
    number of trades and exposure are those of `lengths`. Raises ValueError where they do not fit into `n_days`.
    """
    given = np.asarray(lengths, dtype="int64")
    room = n_days - given.sum() - (len(given) - 1)
    if room < 0 or not len(given):
        raise ValueError(f"stays of {given.sum()} days in {len(given)} pieces do not fit into {n_days} days")
    order = rng.permuted(np.broadcast_to(given, (n_sets, len(given))), axis=1)
    before = np.cumsum(order, axis=1) - order + np.arange(len(given))
    return np.sort(rng.integers(0, room + 1, order.shape), axis=1) + before, order


def random_totals(log_price: np.ndarray, lengths: ArrayLike, n_sets: int, rng: np.random.Generator) -> np.ndarray:
    """Total log return of each of `n_sets` random sets of stays, shape (n_sets,), before costs; bounded memory."""
    parts = []
    for done in range(0, n_sets, SETS_PER_CHUNK):
        size = min(SETS_PER_CHUNK, n_sets - done)
        first, length = random_stays(len(log_price) - 1, lengths, size, rng)
        parts.append((log_price[first + length] - log_price[first]).sum(axis=1))
    return np.concatenate(parts)


def random_entry_benchmark(
    log_price: ArrayLike, position: ArrayLike, n_sets: int = 10_000, seed: int = 0
) -> RandomEntries:
    """A daily 0/1 position against `n_sets` random ones with the same stays.

    Parameters
    ----------
    log_price : shape (n,), no NaN.
    position : shape (n,), 0 or 1, held from each close to the next; the last day's earns nothing.
    n_sets, seed : random sets and their seed.

    Returns
    -------
    RandomEntries; NaN shares for a position that is never, or (almost) always, in the market.
    """
    prices, held = np.asarray(log_price, dtype=float), np.asarray(position)[:-1] > 0
    steps = np.diff(prices)
    observed = float(steps[held].sum())
    first, lengths = _stays(held)
    if not len(first) or held.sum() + len(first) - 1 >= len(held):
        return RandomEntries(observed, np.empty(0), float("nan"), float("nan"))
    random = random_totals(prices, lengths, n_sets, np.random.default_rng(seed))
    beaten = float((random < observed).mean() + (random == observed).mean() / 2)
    return RandomEntries(observed, random, beaten, rotation_test(steps, held).p_one_sided)
