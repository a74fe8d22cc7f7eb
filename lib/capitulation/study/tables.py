"""The tables of a whole study; means, medians and extremes are simple returns, the excess and all tests on logs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from scipy.special import stdtrit

from capitulation.mining.difficulty import era_of
from capitulation.mining.episodes import n_effective
from capitulation.study import chance
from capitulation.study.events import HORIZONS, Events, all_beside_any_day, distinct, family_beside_any_day
from capitulation.study.returns import SINCE, describe, event_marks, outcomes, own_era_excess

RESAMPLES_AT_ONCE = 100
OWN_ERA = {"excess": "excess_own_era", "p": "p_rotation_own_era", "p_two_sided": "p_two_sided_own_era"}
STUDY_COLUMNS = (
    *("definition", "anchor", "horizon_days", "n_events", "n_clusters", "mean", "median", "hit_rate", "worst", "best"),
    *("base_mean", "base_median", "base_hit_rate", "excess_log", "ci_low", "ci_high", "p_rotation", "p_matched"),
    *("p_holm", "p_rotation_own_era", "p_rotation_two_sided", "p_rotation_era", "p_rotation_demeaned", "p_hac"),
    *("p_hansen_hodrick", "t_ols", "t_hac", "t_hansen_hodrick", "excess_own_era", "ci_low_own_era"),
    *("ci_high_own_era", "p_two_sided_own_era", "p_family_own_era", "n_effective", "same_as"),
)


def resampled_sums(weights: np.ndarray, block_days: int, n: int = 2000, seed: int | list[int] = 0) -> np.ndarray:
    """Sums of daily `weights`, shape (days, k), over `n` resamples of the stationary bootstrap, shape (n, k).

    Days are drawn in blocks of random length, `block_days` in the mean, which go on from the last day to the first
    (Politis and Romano 1994; the very draws of arch's StationaryBootstrap); what belongs to a day stays together.
    """
    days, rng, sums = len(weights), np.random.default_rng(seed), []
    running = np.ascontiguousarray(np.cumsum(np.vstack([np.zeros_like(weights[:1]), weights, weights]), axis=0))
    luck, fresh = np.empty(days), np.ones(days + 1, dtype=bool)  # fresh: whether a block begins there, or the last ends
    for done in range(0, n, RESAMPLES_AT_ONCE):
        edges = []
        for _ in range(min(RESAMPLES_AT_ONCE, n - done)):
            day = rng.integers(days, size=days)
            np.less_equal(rng.random(out=luck)[1:], 1 / block_days, out=fresh[1:-1])
            at = fresh.nonzero()[0]
            first = day[at[:-1]]
            edges += [first, first + (at[1:] - at[:-1])]
        # The sum over a block is a difference of running sums: a row of -1 and 1 per resample adds up all its blocks.
        sizes = [len(part) for part in edges]
        signs, ends = np.where(np.arange(len(edges)) % 2, 1.0, -1.0).repeat(sizes), np.append(0, np.cumsum(sizes))[::2]
        sums.append(csr_array((signs, np.concatenate(edges), ends), shape=(len(ends) - 1, len(running))) @ running)
    return np.vstack(sums)


def bootstrap_intervals(
    returns: ArrayLike,
    marks: ArrayLike,
    block_days: int,
    n: int = 2000,
    confidence: float = 0.95,
    seed: int | list[int] = 0,
) -> np.ndarray:
    """Interval of every rule's mean excess over every day, shape (rules, 2), by `resampled_sums`.

    The return and the marks of a day are drawn together; all rules share the `n` resamples. The interval is the excess
    ± t times their standard deviation, Student's quantile with (clusters - 1) degrees of freedom, clusters being events
    at least `block_days` apart: on a random walk with 4 to 20 events it covered 95 to 98 % where 95 % was asked,
    quantiles 83 to 96 %. `returns`: shape (days,), log returns, no NaN. `marks`: shape (rules, days) or (days,),
    boolean. NaN for fewer than two clusters. `ValueError` for what cannot be used.
    """
    r, e = np.asarray(returns, dtype=float), np.atleast_2d(np.asarray(marks)).astype(float)
    if e.shape[1] != len(r) or np.isnan(r).any() or block_days < 1 or n < 1 or not 0 < confidence < 1:
        raise ValueError("need returns without NaN, marks of as many days, block_days and n >= 1, confidence in (0, 1)")
    clusters = np.array([(np.diff(np.flatnonzero(rule)) >= block_days).sum() + 1 for rule in e])
    out, live = np.full((len(e), 2), np.nan), clusters > 1
    if live.any():
        e = e[live]
        sums = resampled_sums(np.vstack([e * r, e, r]).T, block_days, n, seed)
        total, count, mean = sums[:, : len(e)], sums[:, len(e) : -1], sums[:, [-1]] / len(r)
        spread = np.nanstd(total / np.where(count > 0, count, np.nan) - mean, axis=0, ddof=1)
        half = stdtrit(clusters[live] - 1, (1 + confidence) / 2) * spread
        out[live] = chance.excess_of(r, e)[:, None] + np.outer(half, [-1, 1])
    return out


def _same_as(names: pd.DataFrame, marks: np.ndarray) -> pd.Series:
    """The first rule with the very same events at the same anchor, "" where that is the rule itself or has no event."""
    first = names.groupby([names["anchor"], distinct(marks)[1]])["definition"].transform("first")
    return first.mask((first == names["definition"]) | ~marks.any(axis=1), "")


def study_table(
    panel: pd.DataFrame,
    events: Events,
    horizons: Iterable[int] = HORIZONS,
    lag: int = 1,
    since: str = SINCE,
    confidence: float = 0.95,
    n_bootstrap: int = 2000,
    n_matched: int = 2000,
    seed: int = 20260120,
) -> pd.DataFrame:
    """The table forward_returns.csv: one row per (definition, anchor) of `events` and horizon, columns STUDY_COLUMNS.

    `panel`: `price_usd`, and `height` for the halving eras. Events and baseline are days since `since` whose outcome is
    known. `confidence`: coverage of the bootstrap interval of excess_log. `n_bootstrap`, `n_matched`: resamples, and
    sets of matched random entries, both from `seed`. p-values are one-sided (returns after events are higher) unless
    named two_sided; p_holm is p_rotation adjusted over the horizons of a rule and anchor. The statistic that decides is
    excess_own_era with ci_low_own_era, ci_high_own_era, p_rotation_own_era and p_two_sided_own_era (one rotation of
    `returns.own_era_excess`); p_family_own_era counts all rules and anchors of that horizon; same_as as in
    `family_table`. A row without events has n_events 0 and NaN.
    """
    price, era, blocks = panel["price_usd"], era_of(panel.index, panel), []
    cells = chance.match_levels(era, price)
    marks_of_all = np.array([event_marks(panel.index, when) for when in events.values()])
    for days in horizons:
        returns, own = outcomes(price, days, lag, since), own_era_excess(price, era, days, lag, since)
        r, labels, every = returns.to_numpy(), era.loc[returns.index].to_numpy(), describe(returns)
        at, known = panel.index.get_indexer(returns.index), returns.index.isin(own.index)
        marks, levels = marks_of_all[:, at], cells[:, at]
        rules, which = distinct(marks)
        block = all_beside_any_day(returns, rules, days)
        deciding = [chance.rotation_test(own.to_numpy(), rule[known], confidence=confidence) for rule in rules]
        block["ci_low"], block["ci_high"] = bootstrap_intervals(r, rules, days, n_bootstrap, confidence, [seed, days]).T
        rows = [
            {
                **describe(r[rule]),
                "p_matched": chance.matched_test(r, rule, levels, n_matched, [seed, days])[0],
                "p_rotation_era": chance.rotation_test(r, rule, strata=labels, seed=seed).p,
                **chance.regression_tests(r, rule, days),
            }
            for rule in rules
        ]
        block = block.join(pd.DataFrame(rows)).assign(
            **{f"base_{name}": every[name] for name in ("mean", "median", "hit_rate")},
            p_rotation_demeaned=chance.rotation_p(chance.less_own_mean(r, labels), rules)[0],
            **{name: [getattr(test, of) for test in deciding] for of, name in OWN_ERA.items()},
            p_family_own_era=chance.max_rotation_test(own, rules[:, known]).p_family if known.any() else np.nan,
            n_effective=[n_effective(returns.index[rule], days) for rule in rules],
        )
        block[["ci_low_own_era", "ci_high_own_era"]] = [test.interval for test in deciding]
        names = pd.DataFrame(list(events), columns=["definition", "anchor"]).assign(horizon_days=days)
        names["same_as"] = _same_as(names, marks)
        blocks.append(names.join(block.iloc[which].reset_index(drop=True)))
    # Rows come horizon by horizon; the reader wants them rule by rule.
    table = pd.concat(blocks).sort_index(kind="stable", ignore_index=True)
    table["p_holm"] = table.groupby(["definition", "anchor"])["p_rotation"].transform(chance.holm)
    return table[list(STUDY_COLUMNS)]


def family_table(panel: pd.DataFrame, events: Events, days: int = 90, lag: int = 1, since: str = SINCE) -> pd.DataFrame:
    """Every rule and anchor at one horizon as in `events.family_beside_any_day`, the most extreme first (family.csv).

    `panel`: `price_usd`, and `height` for the halving eras.
    Besides: definition, anchor, horizon_days, n_family (rules with events); excess_own_era, p_own_era, p_family_own_era
    (the deciding statistic, `returns.own_era_excess`); same_as, the first rule with the very same days at this anchor
    ("": no rule before it). Events whose outcome is not known do not count: n_events 0 and NaN without any.
    """
    returns, names = outcomes(panel, days, lag, since), pd.DataFrame(list(events), columns=["definition", "anchor"])
    own = own_era_excess(panel["price_usd"], era_of(panel.index, panel), days, lag, since)
    marks = np.array([event_marks(returns.index, when) for when in events.values()])
    beside, n_family = family_beside_any_day(returns, marks), int(marks.any(axis=1).sum())
    decides = family_beside_any_day(own, marks[:, returns.index.isin(own.index)])
    table = names.assign(horizon_days=days).join(beside).assign(n_family=n_family)
    table[["excess_own_era", "p_own_era", "p_family_own_era"]] = decides[["excess_log", "p_rotation", "p_family"]]
    table["same_as"] = _same_as(names, marks)
    return table.sort_values("z", ascending=False, kind="stable", ignore_index=True)
