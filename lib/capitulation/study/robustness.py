"""Does the answer hang on a choice? Other windows, rules, horizons, samples, lags and data; and forecasts of the time.

A curve of specifications shows how far an answer depends on choices that could have been made otherwise (Simonsohn,
Simmons and Nelson 2020); its points rest on the same few episodes, so the whole is judged by rotating all rules
together. And a rule that works forecasts better than the plain average, on what was known at each signal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr

from capitulation.mining.episodes import apply_rules
from capitulation.mining.hashrate import KNOWN_SHARE
from capitulation.study.chance import TIE_TOLERANCE, rotation_scores, share_as_high
from capitulation.study.events import HORIZONS, Events, all_beside_any_day, distinct, family_beside_any_day
from capitulation.study.returns import SINCE, event_marks, forward_returns, outcomes

SAMPLE_STARTS = ("2011-01-01", "2014-01-01", "2017-01-01", "2020-01-01")
CURVE_LAGS = (0, 1, 3, 7)
GRID = [(fast, slow) for slow in range(30, 185, 10) for fast in range(10, 65, 5) if fast < slow]
NEAR_DAYS = 3
MIN_EARLIER = 3
CELLS_AT_ONCE = 200_000
PAIRS_AT_ONCE = 32
EXCESS_COLUMNS = ["n_events", "n_clusters", "mean_log", "excess_log", "p_rotation"]


def specification_curve(
    panel: pd.DataFrame, events: Events, horizons: Iterable[int] = HORIZONS, lag: int = 1, since: str = SINCE
) -> pd.DataFrame:
    """Every rule x anchor x horizon x sample start x lag, sorted by excess.

    `lag`, `since`: take part beside CURVE_LAGS and SAMPLE_STARTS. One row per specification with an event whose outcome
    is known: definition, anchor, horizon_days, sample_start, lag_days, as `events.all_beside_any_day`, rank (1 lowest).
    """
    rules, which = distinct(np.array([event_marks(panel.index, when) for when in events.values()]))
    asked = list(product(sorted({*SAMPLE_STARTS, since}), sorted({*CURVE_LAGS, lag}), horizons))
    found = []
    for start, delay, days in asked:
        returns = outcomes(panel, days, delay, start)
        found.append(all_beside_any_day(returns, rules[:, panel.index.get_indexer(returns.index)], days))
    names = [(*name, days, start, delay) for start, delay, days in asked for name in events]
    names = pd.DataFrame(names, columns=["definition", "anchor", "horizon_days", "sample_start", "lag_days"])
    rows = (np.arange(len(asked))[:, None] * len(rules) + which).ravel()
    table = names.join(pd.concat(found).iloc[rows].reset_index(drop=True)).drop(columns="p_rotation_two_sided")
    table = table[table["n_events"] > 0].sort_values("excess_log", kind="stable", ignore_index=True)
    return table.assign(rank=np.arange(1, len(table) + 1))


def curve_test(
    panel: pd.DataFrame, events: Events, horizons: Iterable[int] = HORIZONS, lag: int = 1, since: str = SINCE
) -> SimpleNamespace:
    """Is the curve as a whole higher than if all rules were moved by the same number of days?

    All rules, anchors, horizons and CURVE_LAGS at one sample start; every day rotates, its outcome known or not. Gives
    n_specifications, the share_above zero and the median_z (in standard deviations over rotations) of their excess, and
    the shares p_share and p_median of rotations with as high a figure; NaN without known outcomes.
    """
    sample = panel.loc[since:].index
    marks = np.array([event_marks(sample, days) for days in events.values()])
    asked = product({*CURVE_LAGS, lag}, horizons)
    after = [forward_returns(panel["price_usd"], days, delay).loc[since:] for delay, days in asked]
    z = np.concatenate([rotation_scores(returns, marks) for returns in after])
    z = z[~np.isnan(z[:, 0])]
    if not len(z):
        return SimpleNamespace(n_specifications=0, share_above=np.nan, median_z=np.nan, p_share=np.nan, p_median=np.nan)
    # A rule without any known outcome has an excess of exactly nothing, whose sign would be rounding: it counts half.
    share = ((z > TIE_TOLERANCE).mean(axis=0) + (z >= -TIE_TOLERANCE).mean(axis=0)) / 2
    middle = np.median(z, axis=0, overwrite_input=True)
    shares = {"p_share": share_as_high(share, 0), "p_median": share_as_high(middle)}
    return SimpleNamespace(n_specifications=len(z), share_above=share[0], median_z=middle[0], **shares)


def provider_sensitivity(
    panels: Mapping[str, pd.DataFrame],
    definition: str = "hash_ribbons",
    anchor: str = "recovery",
    days: int = 90,
    lag: int = 1,
    since: str = SINCE,
    **rules: Any,
) -> pd.DataFrame:
    """One rule and anchor with each provider's own data, over the days that all of them have.

    `panels`: by name, the first is the reference, which prices those without a price. `rules`: settings of
    `apply_rules`. Columns: provider, price_source, start, end (the common span of hash rate, from `since` on),
    days_known, share_equal_state (days both know on which the state is that of the reference), same_days and near_days
    (events of the reference found on the same day, within 3 days), then EXCESS_COLUMNS.
    """
    known = [panel["hash_rate_ehs"].dropna().index for panel in panels.values()]
    start = max(pd.Timestamp(since), *(span[0] for span in known if len(span)))
    end, base, rows, after = min(span[-1] for span in known if len(span)), None, [], []
    for name, panel in panels.items():
        applied = apply_rules(panel, **rules)
        state, events = applied.states[definition].loc[start:end], applied.events[definition, anchor]
        events = events[(events >= start) & (events <= end)]
        reference, base_state, base_events = base = base or (name, state, events)
        source = name if panel.loc[start:end, "price_usd"].notna().any() else reference
        apart = np.array([abs((events - day).days).min() if len(events) else np.inf for day in base_events])
        row = {"provider": name, "price_source": source, "start": start, "end": end, "days_known": state.count()}
        row |= {"share_equal_state": (state == base_state).mean(), "same_days": (apart == 0).sum()}
        rows.append(row | {"near_days": (apart <= NEAR_DAYS).sum()})
        returns = outcomes(panels[source].loc[:end], days, lag, str(start.date()))
        after.append(all_beside_any_day(returns, event_marks(returns.index, events)[None], days))
    return pd.DataFrame(rows).join(pd.concat(after, ignore_index=True)[EXCESS_COLUMNS])


def known_mean(returns: np.ndarray, delay: int, at_least: int = 1) -> np.ndarray:
    """Mean of the returns of days at least `delay` earlier, those known on a day; NaN below `at_least` of them."""
    known = ~np.isnan(returns)
    sums, counts = np.cumsum(np.where(known, returns, 0.0)), np.cumsum(known)
    mean = np.where(counts >= at_least, sums / np.maximum(counts, 1), np.nan)
    return np.append(np.full(delay, np.nan), mean)[: len(returns)]


def prequential(panel: pd.DataFrame, events: Any, days: int = 90, lag: int = 1, since: str = SINCE) -> pd.DataFrame:
    """Forecast and outcome at every signal since `since`, whether its outcome is known yet or not.

    In order of time: date; n_earlier, signals whose outcome was known by then; forecast, their mean log return (NaN
    below 3); baseline, that of every day known by then; outcome (NaN while unknown); error_forecast, error_baseline
    (less the outcome); better, whether the forecast's is the smaller.
    """
    returns, delay = forward_returns(panel["price_usd"], days, lag).loc[since:], days + lag
    marks, values = event_marks(returns.index, events), returns.to_numpy()
    own = np.where(marks, values, np.nan)
    earlier = np.append(np.zeros(delay, dtype=int), np.cumsum(~np.isnan(own)))[: len(own)]
    columns = {"date": returns.index, "n_earlier": earlier, "forecast": known_mean(own, delay, MIN_EARLIER)}
    table = pd.DataFrame({**columns, "baseline": known_mean(values, delay), "outcome": values})[marks]
    errors = table[["forecast", "baseline"]].sub(table["outcome"], axis=0).add_prefix("error_")
    better = (errors["error_forecast"].abs() < errors["error_baseline"].abs()).astype("boolean")
    return table.join(errors).assign(better=better.where(errors.notna().all(axis=1))).reset_index(drop=True)


def diebold_mariano(gain: np.ndarray, overlap: int) -> float:
    """One-sided p that the mean loss differential `gain` is above zero, NaN below 3.

    Autocovariances up to `overlap` lags with Bartlett weights; small-sample correction and Student's t with n - 1
    degrees of freedom (Harvey, Leybourne and Newbold 1997).
    """
    n = len(gain)
    if n < 3:
        return np.nan
    centred, h = gain - gain.mean(), min(overlap, n - 1) + 1
    covariance = np.correlate(centred, centred, "full")[n - 1 : n - 1 + h] / n
    variance = 2 * (1 - np.arange(h) / h) @ covariance - covariance[0]
    correction = max((n + 1 - 2 * h + h * (h - 1) / n) / n, 0.0)
    return float(stdtr(n - 1, -gain.mean() * np.sqrt(correction * n / variance))) if variance > 0 else np.nan


def prequential_score(
    panel: pd.DataFrame, events: Any, days: int = 90, lag: int = 1, since: str = SINCE
) -> SimpleNamespace:
    """Do the forecasts of `prequential` from earlier signals beat the unconditional ones? NaN where none can be scored.

    n : signals with both forecasts and a known outcome. r2 : 1 - ratio of the mean squared errors. share_better :
    signals at which the signals' error was the smaller. p_dm : one-sided `diebold_mariano` of the squared errors.
    p_rotation : share of rotations of the signals' calendar with as high an r2, which respects overlap.
    """
    returns, delay = forward_returns(panel["price_usd"], days, lag).loc[since:], days + lag
    values, at = returns.to_numpy(), np.flatnonzero(event_marks(returns.index, events))
    baseline = (known_mean(values, delay) - values) ** 2

    def scored(signals: np.ndarray) -> np.ndarray:
        """Squared errors of the signals' forecasts and of the baseline, NaN where one is not known.

        `signals`: rows of `values`, a set of them per line, in order of time.
        """
        own, (sets, each) = values[signals], signals.shape
        known = ~np.isnan(own)
        sums, counts = (np.cumsum(np.pad(x, ((0, 0), (1, 0))), axis=1) for x in (np.where(known, own, 0.0), known))
        line = signals + (len(values) + delay) * np.arange(sets)[:, None]  # the sets one after the other, far apart
        earlier = np.searchsorted(line.ravel(), line - delay, side="right") - each * np.arange(sets)[:, None]
        total, n = (np.take_along_axis(x, earlier, axis=1) for x in (sums, counts))
        errors = np.stack([(total / np.where(n >= MIN_EARLIER, n, np.nan) - own) ** 2, baseline[signals]])
        return np.where(np.isnan(errors).any(axis=0), np.nan, errors)

    own, plain = scored(at[None])[:, 0]
    if not (live := ~np.isnan(own)).any():
        return SimpleNamespace(n=0, **dict.fromkeys(("r2", "share_better", "p_dm", "p_rotation"), np.nan))
    rows, own, plain = at[live], own[live], plain[live]
    # Errors depend on each other as far as signals lie within the time that one outcome takes.
    overlap = int((np.searchsorted(rows, rows + delay) - np.arange(len(rows))).max() - 1)
    r2 = []
    for by in np.array_split(np.arange(len(values)), -(-len(values) * len(at) // CELLS_AT_ONCE)):
        errors = scored(np.sort((at + by[:, None]) % len(values), axis=1))
        ours, theirs = np.nansum(errors[:, ~np.isnan(errors[0]).all(axis=1)], axis=2)
        r2.append(1 - ours / theirs)
    r2 = np.concatenate(r2)
    figures = {"r2": r2[0], "share_better": (own < plain).mean(), "p_rotation": share_as_high(r2, 1e-12)}
    return SimpleNamespace(n=len(rows), p_dm=diebold_mariano(plain - own, overlap), **figures)


def recovery_days(signal: pd.Series, pairs: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Days on which the fast mean of `signal` is back at or above the slow one: rows of `pairs` and of `signal`.

    Both in order of pairs, then days, as `np.nonzero` gives them. `pairs`: (fast, slow) windows in days, thousands are
    cheap. Equal to the `end` of `runs` of the inversions but for rounding where two means tie; a day on which one of
    them is unknown is passed over. `ValueError` unless fast < slow.

    >>> pair, day = recovery_days(pd.Series([2.0, 2, 1, 1, 3]), [(1, 2), (2, 3)])
    >>> pair.tolist(), day.tolist()
    ([0, 1], [3, 4])
    """
    if wrong := [pair for pair in pairs if not 0 < pair[0] < pair[1]]:
        raise ValueError(f"pair {wrong[0]}: fast must be positive and smaller than slow")
    values, n_days = signal.to_numpy("float64"), len(signal)
    known = np.isfinite(values)
    first = known.argmax() if known.any() else n_days
    sums, counts = (np.append(0, np.cumsum(some)) for some in (np.where(known, values, 0.0), known))
    means = {}  # NaN, which is below nothing, until the first window is full
    for days in set(chain(*pairs)):
        n = counts[days:] - counts[:-days]
        mean = (sums[days:] - sums[:-days]) / np.where(n >= KNOWN_SHARE * days, n, np.nan)
        means[days] = np.append(np.full(min(days - 1, n_days), np.nan), mean)
        means[days][: first + days - 1] = np.nan
    found, whole = [], known[first:].all()
    for start in range(0, len(pairs), PAIRS_AT_ONCE):  # of which the states stay in the processor's cache
        some = pairs[start : start + PAIRS_AT_ONCE]
        below = np.empty((len(some), n_days), dtype=bool)
        for row, (fast, slow) in zip(below, some, strict=True):
            np.less(means[fast], means[slow], out=row)
            if not whole:  # an unknown day is as the last known one
                at = np.where(np.isfinite(means[fast] + means[slow]), np.arange(n_days), 0)
                row[:] = row[np.maximum.accumulate(at)]
        line = below.ravel()
        found.append(np.flatnonzero(line[:-1] > line[1:]) + (1 + start * n_days))
    at = np.concatenate(found or [np.empty(0, dtype=int)])
    pair = at // max(n_days, 1)
    day = at - pair * n_days
    return pair[day > 0], day[day > 0]  # on the first day nothing is back: there the line goes on to the next pair


def recovery_marks(signal: pd.Series, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """`recovery_days` as marks, boolean, shape (pairs, days)."""
    marks = np.zeros((len(pairs), len(signal)), dtype=bool)
    marks[recovery_days(signal, pairs)] = True
    return marks


def window_grid(
    panel: pd.DataFrame,
    fast_days: int = 30,
    slow_days: int = 60,
    days: int = 90,
    lag: int = 1,
    since: str = SINCE,
    *,
    pairs: Iterable[tuple[int, int]] = GRID,
) -> pd.DataFrame:
    """Recoveries of the Hash Ribbons with every pair of windows: the exact rotation test of each, and of the family.

    `fast_days`, `slow_days`: the chosen pair, part of the grid even if it is none of `pairs`. One row per pair, by
    slow, then fast: fast_days, slow_days, then as `events.family_beside_any_day`, and chosen.
    """
    asked = sorted({*pairs, (fast_days, slow_days)}, key=lambda pair: pair[::-1])
    returns = outcomes(panel, days, lag, since)
    marks = recovery_marks(panel["hash_rate_ehs"], asked)[:, panel.index.get_indexer(returns.index)]
    table = pd.DataFrame(asked, columns=["fast_days", "slow_days"]).join(family_beside_any_day(returns, marks))
    return table.assign(chosen=[pair == (fast_days, slow_days) for pair in asked])
