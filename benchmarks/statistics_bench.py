"""Rotation against shuffling, bootstrap against the library it draws from, and the two state models in milliseconds."""

from __future__ import annotations

import market
import measure
import numpy as np

from capitulation.episodes import all_episodes, find_episodes
from capitulation.mining.ribbons import ribbons
from capitulation.mining.rules import all_rule_states
from capitulation.params import Params
from capitulation.study.bootstrap import bootstrap_excess
from capitulation.study.events import event_days
from capitulation.study.forward_returns import forward_log_returns
from capitulation.study.rotation import rotation_test

RESAMPLES = 10_000
BOOTSTRAP_RESAMPLES = 2_000
BLOCK_DAYS = 90
BATCH = 500
FAST_RUNS = 50
REPEATS = 20


def sample() -> tuple[np.ndarray, np.ndarray]:
    """90-day log returns since 2014 and the marks of the Hash Ribbons recoveries."""
    data = market.panel()
    returns = forward_log_returns(data["price_usd"], 90, 1).loc["2014-01-01":].dropna()
    state = ribbons(data)
    episodes = find_episodes(state["in_capitulation"], state["known"])
    return returns.to_numpy(), returns.index.isin(episodes["end"])


def every_rule() -> tuple[np.ndarray, np.ndarray]:
    """The same returns and the marks of every rule and anchor that has events, shape (rules, days)."""
    data, params = market.panel(), Params()
    states = all_rule_states(data, params)
    events = event_days(all_episodes(data, params, states), states)
    returns = forward_log_returns(data["price_usd"], 90, 1).loc[params.sample_start :].dropna()
    marks = np.array([returns.index.isin(days) for days in events.values()], dtype=float)
    return returns.to_numpy(), marks[marks.any(axis=1)]


def rotation(runs: int) -> measure.Row:
    """Every rotation by one pair of transforms against 10,000 random relabellings, called as scipy's manual shows."""
    from scipy.stats import permutation_test

    r, marks = sample()
    events, others = r[marks], r[~marks]

    def difference(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return a.mean(axis=axis) - b.mean(axis=axis)

    def shuffle(batch: int | None = None) -> object:
        return permutation_test((events, others), difference, n_resamples=RESAMPLES, alternative="greater", batch=batch)

    def ours() -> float:
        return measure.clock(lambda: [rotation_test(r, marks) for _ in range(REPEATS)]) / REPEATS

    with measure.one_core():
        mine, theirs = measure.in_turn(ours, lambda: measure.clock(shuffle), runs)
        batched = measure.clock(lambda: shuffle(BATCH))
    note = (
        f"{len(r):,} rotations, exact, against {RESAMPLES:,} shuffles, which ignore overlap; told to work in batches "
        f"of {BATCH}, scipy took {batched:.2f} s"
    )
    return measure.compared("rotation test against scipy.stats.permutation_test", mine, theirs, 1000, note)


def bootstrap(runs: int) -> measure.Row:
    """Mean excess of every rule in each stationary-bootstrap resample, same draws, against arch's own loop."""
    from arch.bootstrap import StationaryBootstrap

    r, marks = every_rule()

    def excess(returns: np.ndarray, events: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return returns @ events / events.sum(axis=0) - returns.mean()

    def arch() -> np.ndarray:
        resampler = StationaryBootstrap(BLOCK_DAYS, r, marks.T, seed=np.random.default_rng(3))
        return resampler.apply(excess, BOOTSTRAP_RESAMPLES)

    def own() -> np.ndarray:
        return bootstrap_excess(r, marks, BLOCK_DAYS, BOOTSTRAP_RESAMPLES, 3)

    np.testing.assert_allclose(own(), arch(), rtol=1e-9, atol=1e-12)
    with measure.one_core():
        mine, theirs = measure.in_turn(lambda: measure.clock(own), lambda: measure.clock(arch), runs)
    note = f"{BOOTSTRAP_RESAMPLES:,} resamples of {len(r):,} days, {len(marks)} rules at once; equal results"
    return measure.compared("stationary bootstrap against arch", mine, theirs, 1, note)


def filtered(runs: int) -> measure.Row:
    """The filtered probability that hash rate is falling, whole history."""
    from capitulation.mining.trend import falling_probability

    data = market.panel()
    falling_probability(data)
    seconds = [measure.clock(lambda: falling_probability(data)) for _ in range(max(runs, 5))]
    return measure.limited("filtered probability of falling hash rate", seconds, 0.1, f"{len(data):,} days")


def survival(runs: int) -> measure.Row:
    """Kaplan-Meier odds of recovery from all episodes."""
    from capitulation.study.survival import recovery_odds

    state = ribbons(market.panel())
    episodes = find_episodes(state["in_capitulation"], state["known"])
    recovery_odds(episodes, 20)
    seconds = [measure.clock(lambda: recovery_odds(episodes, 20)) for _ in range(max(runs, FAST_RUNS))]
    return measure.limited("Kaplan-Meier odds of recovery", seconds, 0.05, f"{len(episodes)} episodes")


SECTIONS = (rotation, bootstrap, filtered, survival)
