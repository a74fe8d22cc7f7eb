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
from capitulation.study.events import HORIZONS, Events, all_beside_any_day, family_beside_any_day
from capitulation.study.returns import SINCE, event_marks, forward_returns, outcomes

SAMPLE_STARTS = ("2011-01-01", "2014-01-01", "2017-01-01", "2020-01-01")
CURVE_LAGS = (0, 1, 3, 7)
GRID = [(fast, slow) for slow in range(30, 185, 10) for fast in range(10, 65, 5) if fast < slow]
NEAR_DAYS = 3
MIN_EARLIER = 3
EXCESS_COLUMNS = ["n_events", "n_clusters", "mean_log", "excess_log", "p_rotation"]


def specification_curve(
    panel: pd.DataFrame, events: Events, horizons: Iterable[int] = HORIZONS, lag: int = 1, since: str = SINCE
) -> pd.DataFrame:
    """Every rule x anchor x horizon x sample start x lag, sorted by excess.

    `lag`, `since`: take part beside CURVE_LAGS and SAMPLE_STARTS. One row per specification with an event whose outcome
    is known: definition, anchor, horizon_days, sample_start, lag_days, as `events.all_beside_any_day`, rank (1 lowest).
    """
    names, blocks = pd.DataFrame(list(events), columns=["definition", "anchor"]), []
    marks = np.array([event_marks(panel.index, when) for when in events.values()])
    for start, delay, days in product(sorted({*SAMPLE_STARTS, since}), sorted({*CURVE_LAGS, lag}), horizons):
        returns = outcomes(panel, days, delay, start)
        found = all_beside_any_day(returns, marks[:, panel.index.get_indexer(returns.index)], days)
        blocks.append(names.assign(horizon_days=days, sample_start=start, lag_days=delay).join(found))
    table = pd.concat(blocks).drop(columns="p_rotation_two_sided")
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
    z = [rotation_scores(forward_returns(panel["price_usd"], days, delay)[sample], marks) for delay, days in asked]
    z = pd.DataFrame(np.concatenate(z)).dropna().to_numpy()
    if not len(z):
        return SimpleNamespace(n_specifications=0, share_above=np.nan, median_z=np.nan, p_share=np.nan, p_median=np.nan)
    # A rule without any known outcome has an excess of exactly nothing, whose sign would be rounding: it counts half.
    share = ((z > TIE_TOLERANCE).mean(axis=0) + (z >= -TIE_TOLERANCE).mean(axis=0)) / 2
    middle = np.median(z, axis=0)
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
    marks, values = event_marks(returns.index, events), returns.to_numpy()
    baseline = (known_mean(values, delay) - values) ** 2

    def scored(at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of the signals `at` that can be scored, squared errors of their forecasts and of the baseline."""
        own = (known_mean(np.where(at, values, np.nan), delay, MIN_EARLIER) - values) ** 2
        rows = np.flatnonzero(at & ~np.isnan(own + baseline))
        return rows, own[rows], baseline[rows]

    rows, own, plain = scored(marks)
    if not len(rows):
        return SimpleNamespace(n=0, **dict.fromkeys(("r2", "share_better", "p_dm", "p_rotation"), np.nan))
    # Errors depend on each other as far as signals lie within the time that one outcome takes.
    overlap = int((np.searchsorted(rows, rows + delay) - np.arange(len(rows))).max() - 1)
    moved = (scored(np.roll(marks, by)) for by in range(len(values)))
    r2 = np.array([1 - ours.sum() / theirs.sum() for at, ours, theirs in moved if len(at)])
    figures = {"r2": r2[0], "share_better": (own < plain).mean(), "p_rotation": share_as_high(r2, 1e-12)}
    return SimpleNamespace(n=len(rows), p_dm=diebold_mariano(plain - own, overlap), **figures)


def recovery_marks(signal: pd.Series, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Days on which the fast mean of `signal` is back at or above the slow one, boolean, shape (pairs, days).

    `pairs`: (fast, slow) windows in days, thousands are cheap. Equal to the `end` of `runs` of the inversions but for
    rounding where two means tie; a day on which one of them is unknown is passed over. `ValueError` unless fast < slow.
    """
    if wrong := [pair for pair in pairs if not 0 < pair[0] < pair[1]]:
        raise ValueError(f"pair {wrong[0]}: fast must be positive and smaller than slow")
    values = signal.to_numpy("float64")
    known = np.isfinite(values)
    first = known.argmax() if known.any() else len(values)
    sums, counts = (np.append(0, np.cumsum(some)) for some in (np.where(known, values, 0.0), known))
    means = {}  # from row days - 1 on
    for days in set(chain(*pairs)):
        n = counts[days:] - counts[:-days]
        means[days] = (sums[days:] - sums[:-days]) / np.where(n >= KNOWN_SHARE * days, n, np.nan)
        means[days][:first] = np.nan
    marks, whole = np.zeros((len(pairs), len(values)), dtype=bool), known[first:].all()
    for row, (fast, slow) in zip(marks, pairs, strict=True):
        quick, calm = means[fast][slow - fast :], means[slow]
        at, later = slice(first, None), slice(first + 1, None)  # without gaps: a slice copies nothing
        if not whole:
            at = np.flatnonzero(np.isfinite(quick) & np.isfinite(calm))
            later = at[1:]
        below = (quick < calm)[at]
        row[slow - 1 :][later] = below[:-1] > below[1:]
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
