"""How far can each test be trusted: its verdict on one market, and its record over many.

A test that rejects at 5 % should reject one market in twenty when nothing is there. Whether it does is measured on
simulated markets whose truth is known; this module holds what is computed on each market and how the results are
summed up. Which markets, and how many, is the business of `capitulation.simulate.calibrate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import sqrt

import numpy as np
import pandas as pd

from capitulation.mining.hash_rate import rolling_mean
from capitulation.mining.protocol import era_of
from capitulation.study.baseline import own_era_excess
from capitulation.study.bootstrap import mean_excess_interval
from capitulation.study.forward_returns import forward_log_returns
from capitulation.study.matched import entry_states, match_levels, matched_test
from capitulation.study.regression import ols_hac_hansen_hodrick
from capitulation.study.rotation import max_rotation_test, rotation_test

LEVEL = 0.05
ACCEPTED = (0.035, 0.065)
WEEK = 7
CURVE_LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)

TESTS: dict[str, str] = {
    "rotation_own_era": "rotation, returns against their own era without the run-up",
    "rotation": "rotation",
    "rotation_two_sided": "rotation, two-sided",
    "rotation_era_demeaned": "rotation, returns less their era's mean",
    "rotation_era_stratified": "rotation within each era",
    "matched": "matched random entries",
    "ols": "least squares, plain t-value",
    "hac": "least squares, Newey-West t-value",
    "hansen_hodrick": "least squares, Hansen-Hodrick t-value",
    "bootstrap": "stationary bootstrap, interval without zero",
    "bootstrap_own_era": "stationary bootstrap of the own-era excess, interval without zero",
    "max_rotation": "max-rotation over a grid of windows",
    "max_rotation_own_era": "max-rotation over a grid of windows, own-era excess",
    "spa": "superior predictive ability over a grid of windows",
}
"""Name and meaning of every test whose level is measured, the headline's first."""


@dataclass(frozen=True)
class TrustSettings:
    """What is tested on each market: the primary test's settings, and sizes small enough for thousands of markets."""

    horizon_days: int = 90
    entry_lag_days: int = 1
    sample_start: str = "2014-01-01"
    fast_days: int = 30
    slow_days: int = 60
    grid_fast_days: tuple[int, ...] = (10, 20, 30, 40)
    grid_slow_days: tuple[int, ...] = (45, 60, 90, 120)
    confidence: float = 0.95
    n_bootstrap: int = 249
    n_matched: int = 499
    n_draws: int = 499
    n_spa: int = 199


def recoveries(panel: pd.DataFrame, fast_days: int, slow_days: int) -> pd.Series:
    """Marks of the days on which the fast mean of hash rate is back at or above the slow one; index `date`."""
    fast, slow = (rolling_mean(panel["hash_rate_ehs"], days).to_numpy() for days in (fast_days, slow_days))
    below = fast < slow
    return pd.Series(np.concatenate([[False], below[:-1]]) & (fast >= slow), index=panel.index)


@dataclass(frozen=True)
class _Sample:
    """One market's returns and events on the days of the sample whose outcome is known."""

    panel: pd.DataFrame
    settings: TrustSettings

    @cached_property
    def returns(self) -> pd.Series:
        s = self.settings
        found = forward_log_returns(self.panel["price_usd"], s.horizon_days, s.entry_lag_days)
        return found[s.sample_start :].dropna()

    @cached_property
    def era(self) -> pd.Series:
        return era_of(self.panel.index, self.panel)

    @cached_property
    def own_era(self) -> pd.Series:
        s = self.settings
        excess = own_era_excess(self.panel["price_usd"], self.era, s.horizon_days, s.entry_lag_days, s.sample_start)
        return excess.reindex(self.returns.index).fillna(0.0)

    @cached_property
    def family(self) -> np.ndarray:
        """Marks of the recoveries of every pair of windows in the grid, shape (pairs, days)."""
        s = self.settings
        pairs = [(f, w) for f, w in product(s.grid_fast_days, s.grid_slow_days) if f < w]
        return np.array([self.marks(f, w) for f, w in pairs])

    @cached_property
    def events(self) -> np.ndarray:
        return self.marks(self.settings.fast_days, self.settings.slow_days)

    def marks(self, fast_days: int, slow_days: int) -> np.ndarray:
        """Marks of one rule's recoveries on the days of the sample."""
        return recoveries(self.panel, fast_days, slow_days).reindex(self.returns.index).to_numpy()

    @cached_property
    def labels(self) -> np.ndarray:
        return self.era.reindex(self.returns.index).to_numpy()


def _best(returns: np.ndarray, family: np.ndarray) -> float:
    """Family-wise p-value of the best rule: the grid as a whole is rejected where it is small."""
    return float(np.nanmin(max_rotation_test(returns, family).p_family))


def _rotations(sample: _Sample, seed: int) -> dict[str, float]:
    r, e, draws = sample.returns.to_numpy(), sample.events, sample.settings.n_draws
    plain = rotation_test(r, e)
    return {
        "rotation_own_era": rotation_test(sample.own_era.to_numpy(), e).p_one_sided,
        "rotation": plain.p_one_sided,
        "rotation_two_sided": plain.p_two_sided,
        "rotation_era_demeaned": rotation_test(r, e, demean_by=sample.labels).p_one_sided,
        "rotation_era_stratified": rotation_test(r, e, strata=sample.labels, n_draws=draws, seed=seed).p_one_sided,
        "max_rotation": _best(r, sample.family),
        "max_rotation_own_era": _best(sample.own_era.to_numpy(), sample.family),
    }


def _regressions(sample: _Sample) -> dict[str, float]:
    found = ols_hac_hansen_hodrick(sample.returns.to_numpy(), sample.events, sample.settings.horizon_days)
    return {"ols": found["p_ols"], "hac": found["p_hac"], "hansen_hodrick": found["p_hh"]}


def _matched(sample: _Sample, seed: int) -> dict[str, float]:
    states = entry_states(sample.panel["price_usd"]).reindex(sample.returns.index)
    levels = match_levels(sample.labels, states)
    return {
        "matched": matched_test(sample.returns.to_numpy(), sample.events, levels, sample.settings.n_matched, seed).p
    }


def _intervals(sample: _Sample, seed: int) -> dict[str, float]:
    s = sample.settings
    sizes = (s.horizon_days, s.n_bootstrap, s.confidence, seed)
    low, high = mean_excess_interval(sample.returns.to_numpy(), sample.events, *sizes)
    own_low, own_high = mean_excess_interval(sample.own_era.to_numpy(), sample.events, *sizes)
    return {"ci_low": low, "ci_high": high, "own_ci_low": own_low, "own_ci_high": own_high}


def _held(marks: np.ndarray, days: int, lag: int) -> np.ndarray:
    """Days (…, n) on which a position bought `lag` days after a mark, at the close, and held for `days` earns."""
    edge = np.zeros((*marks.shape[:-1], marks.shape[-1] + lag + days + 2))
    n = marks.shape[-1]
    edge[..., lag + 1 : lag + 1 + n] += marks
    edge[..., lag + 1 + days : lag + 1 + days + n] -= marks
    return (np.cumsum(edge, axis=-1) > 0.5)[..., :n]


def _spa(sample: _Sample, seed: int) -> dict[str, float]:
    """Hansen's (2005) test that no rule of the grid beats its own exposure held at random: consistent p-value.

    Weekly gains: the test's variance estimate costs the square of the sample's length.
    """
    from arch.bootstrap import SPA

    s = sample.settings
    changes = np.log(sample.panel["price_usd"]).diff().reindex(sample.returns.index).to_numpy()
    held = _held(sample.family, s.horizon_days, s.entry_lag_days)
    gains = (held - held.mean(axis=1, keepdims=True)) * changes
    weekly = np.add.reduceat(gains, np.arange(0, gains.shape[1], WEEK), axis=1)
    useful = weekly[weekly.std(axis=1) > 0]
    if not len(useful):
        return {"spa": float("nan")}
    block = max(s.horizon_days // WEEK, 1)
    test = SPA(np.zeros(useful.shape[1]), -useful.T, block_size=block, reps=s.n_spa, seed=seed)
    test.compute()
    return {"spa": float(test.pvalues["consistent"])}


def market_tests(panel: pd.DataFrame, settings: TrustSettings | None = None, seed: int = 0) -> dict[str, float]:
    """Every test's p-value on one market, and the bootstrap intervals: one record of a calibration.

    Keys: the names in `TESTS` but for the bootstraps; n_events; excess_log and own_excess_log (mean log return after
    the events less that of all days, and of the own-era excess); ci_low, ci_high, own_ci_low, own_ci_high. NaN where
    a market has no event. The same panel, settings and seed give the same record, bit for bit.
    """
    sample = _Sample(panel, settings or TrustSettings())
    events = int(sample.events.sum())
    if not events:
        names = [name for name in TESTS if not name.startswith("bootstrap")]
        extra = ["excess_log", "own_excess_log", "ci_low", "ci_high", "own_ci_low", "own_ci_high"]
        return {"n_events": 0, **dict.fromkeys([*names, *extra], float("nan"))}
    returns, own = sample.returns.to_numpy(), sample.own_era.to_numpy()
    return {
        "n_events": events,
        "excess_log": float(returns[sample.events].mean() - returns.mean()),
        "own_excess_log": float(own[sample.events].mean() - own.mean()),
        **_rotations(sample, seed),
        **_regressions(sample),
        **_matched(sample, seed),
        **_intervals(sample, seed),
        **_spa(sample, seed),
    }


def expected_excess(panel: pd.DataFrame, drift: pd.Series, settings: TrustSettings | None = None) -> float:
    """The true excess of the events of one market: mean true drift over their horizons less that of all days.

    `drift`: true daily log drift, index as `panel`. What a bootstrap interval of the excess should cover.
    """
    sample = _Sample(panel, settings or TrustSettings())
    s = sample.settings
    total = drift.cumsum()
    ahead = total.shift(-s.entry_lag_days - s.horizon_days) - total.shift(-s.entry_lag_days)
    truth = ahead.reindex(sample.returns.index).to_numpy()
    return float(truth[sample.events].mean() - truth.mean()) if sample.events.any() else float("nan")


def rejections(records: pd.DataFrame, level: float = LEVEL) -> pd.DataFrame:
    """Whether each test rejects on each market: one column per test of `TESTS`, 1 or 0, NaN where it was not made."""
    found = {}
    for name in TESTS:
        if name.startswith("bootstrap"):
            low, high = (records[f"{'own_' if 'own' in name else ''}ci_{side}"] for side in ("low", "high"))
            found[name] = ((low > 0) | (high < 0)).astype(float).where(low.notna())
        else:
            found[name] = (records[name] <= level).astype(float).where(records[name].notna())
    return pd.DataFrame(found, index=records.index)


def monte_carlo_error(rate: float, markets: int) -> float:
    """Standard error of a rate measured on `markets` independent markets.

    >>> round(monte_carlo_error(0.05, 2000), 4)
    0.0049
    """
    return sqrt(rate * (1 - rate) / markets) if markets else float("nan")


def rate_rows(records: pd.DataFrame, level: float = LEVEL) -> list[dict[str, float | str | bool]]:
    """Rejection rate of every test over the markets of `records`: test, markets, rate, error, at_level."""
    rows = []
    for name, column in rejections(records, level).items():
        known = column.dropna()
        rate = float(known.mean()) if len(known) else float("nan")
        error = monte_carlo_error(rate, len(known))
        rows.append({"test": name, "markets": len(known), "rate": rate, "error": error, "at_level": _at_level(rate)})
    return rows


def level_curve(records: pd.DataFrame) -> dict[str, list[float]]:
    """Share of markets with p at or below each of `CURVE_LEVELS`, for every test that has a p-value."""
    names = [name for name in TESTS if name in records]
    return {name: [float((records[name].dropna() <= level).mean()) for level in CURVE_LEVELS] for name in names}


def _at_level(rate: float) -> bool:
    return ACCEPTED[0] <= rate <= ACCEPTED[1]


def coverage_rows(records: pd.DataFrame) -> list[dict[str, float | str]]:
    """How often the bootstrap interval holds zero and the true excess (`truth`): interval, of, markets, rate, error."""
    rows = []
    for interval, prefix, target in (
        ("excess", "", "zero"),
        ("excess", "", "true excess"),
        ("own-era excess", "own_", "zero"),
    ):
        low, high = records[f"{prefix}ci_low"], records[f"{prefix}ci_high"]
        aim = records["truth"] if target == "true excess" else 0.0
        known = ((low <= aim) & (aim <= high))[low.notna()]
        rate = float(known.mean()) if len(known) else float("nan")
        error = monte_carlo_error(rate, len(known))
        rows.append({"interval": interval, "of": target, "markets": len(known), "rate": rate, "error": error})
    return rows


def summarise(groups: Mapping[str, pd.DataFrame]) -> dict[str, dict]:
    """Rejection rates, coverage and typical size of each group of records (a world, or a planted effect)."""
    return {
        name: {
            "rejections": rate_rows(records),
            "coverage": coverage_rows(records),
            "level_curve": level_curve(records),
            "n_events": float(records["n_events"].mean()),
            "excess_log": float(records["excess_log"].mean()),
            "own_excess_log": float(records["own_excess_log"].mean()),
        }
        for name, records in groups.items()
    }
