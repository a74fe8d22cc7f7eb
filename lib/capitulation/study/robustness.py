"""Does the answer hang on a choice? Other windows, rules, horizons, samples, lags and data; and forecasts of the time.

Two ideas carry this module. A curve of specifications shows how far an answer depends on choices that a reader could
have made otherwise (Simonsohn, Simmons and Nelson 2020); its points rest on the same few episodes, so whether the curve
as a whole lies high is asked by rotating all rules together. And a rule that works forecasts better than the plain
average does, judged signal by signal on what was known by then (Dawid 1984).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtr

from capitulation.mining.episodes import apply_rules
from capitulation.study.chance import TIE_TOLERANCE, excess_of, max_rotation_test, rotation_p, rotation_scores
from capitulation.study.events import HORIZONS, beside_any_day
from capitulation.study.returns import SINCE, event_marks, forward_returns, outcomes
from capitulation.study.trading import DAYS_PER_YEAR, last_known, log_costs

SAMPLE_STARTS = ("2011-01-01", "2014-01-01", "2017-01-01", "2020-01-01")
CURVE_LAGS = (0, 1, 3, 7)
LAGS = (0, 1, 2, 3, 5, 7, 14)
GRID_FAST_DAYS = tuple(range(10, 65, 5))
GRID_SLOW_DAYS = tuple(range(30, 185, 10))
NEAR_DAYS = 3
MIN_EARLIER = 3
CURVE_COLUMNS = (
    *("definition", "anchor", "horizon_days", "sample_start", "lag_days", "n_events", "n_clusters", "mean_log"),
    *("base_log", "excess_log", "p_rotation"),
)

Events = Mapping[tuple[str, str], Any]


class CurveTest(NamedTuple):
    """The curve against common rotations of all rules: how many specifications, the share of them with an excess above
    zero, the median excess in standard deviations over rotations, and the share of rotations with as high a figure."""

    n_specifications: int
    share_above: float
    median_z: float
    p_share: float
    p_median: float


class PrequentialScore(NamedTuple):
    """Whether the forecasts from earlier signals beat the unconditional ones.

    n : signals with both forecasts and a known outcome. r2 : 1 - ratio of the mean squared errors. share_better :
    signals at which the signals' error was the smaller. p_dm : Diebold and Mariano's test of equal squared errors,
    one-sided. p_rotation : share of rotations of the signals' calendar with as high an r2, which respects overlap.
    """

    n: int
    r2: float = np.nan
    share_better: float = np.nan
    p_dm: float = np.nan
    p_rotation: float = np.nan


# --- specifications ---


def specification_curve(
    panel: pd.DataFrame,
    events: Events,
    horizons: Iterable[int] = HORIZONS,
    lag: int = 1,
    since: str = SINCE,
    *,
    lags: Iterable[int] = CURVE_LAGS,
    starts: Iterable[str] = SAMPLE_STARTS,
) -> pd.DataFrame:
    """Every rule x anchor x horizon x sample start x lag, sorted by excess.

    `events`: days of each (definition, anchor). `lags`, `starts`: besides `lag` and `since`, which always take part.
    One row per specification with at least one event whose outcome is known: CURVE_COLUMNS (base_log: mean of every
    day; p_rotation: one-sided, exact, each alone) and rank (1 = lowest excess).
    """
    blocks, all_marks = [], np.array([event_marks(panel.index, days) for days in events.values()])
    for start, delay, horizon in product(sorted({*starts, since}), sorted({*lags, lag}), horizons):
        returns = outcomes(panel, horizon, delay, start)
        marks = all_marks[:, panel.index.get_indexer(returns.index)]
        rule, day = np.nonzero(marks)
        fresh = np.append(True, (np.diff(day) >= horizon) | (np.diff(rule) > 0))[: len(rule)]
        block = pd.DataFrame(list(events), columns=["definition", "anchor"]).assign(
            horizon_days=horizon,
            sample_start=start,
            lag_days=delay,
            n_events=marks.sum(axis=1),
            n_clusters=np.bincount(rule[fresh], minlength=len(marks)),
            mean_log=excess_of(returns, marks) + returns.mean(),
            base_log=returns.mean(),
            excess_log=excess_of(returns, marks),
            p_rotation=rotation_p(returns, marks)[0],
        )
        blocks.append(block[block["n_events"] > 0])
    table = pd.concat(blocks)[list(CURVE_COLUMNS)].sort_values("excess_log", kind="stable", ignore_index=True)
    return table.assign(rank=np.arange(1, len(table) + 1))


def curve_test(
    panel: pd.DataFrame,
    events: Events,
    horizons: Iterable[int] = HORIZONS,
    lag: int = 1,
    since: str = SINCE,
    *,
    lags: Iterable[int] = CURVE_LAGS,
) -> CurveTest:
    """Is the curve as a whole higher than if all rules were moved by the same number of days?

    All rules, anchors, horizons and lags at one sample start; every day since then rotates, whether its outcome is
    known or not, so that all specifications move together. NaN where no event has a known outcome.
    """
    sample = panel.loc[since:].index
    marks = np.array([event_marks(sample, days) for days in events.values()])
    asked = product(sorted({*lags, lag}), horizons)
    returns = [forward_returns(panel["price_usd"], days, delay)[sample] for delay, days in asked]
    z = np.concatenate([rotation_scores(r, marks) for r in returns])
    z = z[~np.isnan(z).any(axis=1)]
    if not len(z):
        return CurveTest(0, np.nan, np.nan, np.nan, np.nan)
    # A rule without any known outcome has an excess of exactly nothing, whose sign would be rounding: it counts half.
    share = ((z > TIE_TOLERANCE).mean(axis=0) + (z >= -TIE_TOLERANCE).mean(axis=0)) / 2
    middle = np.median(z, axis=0)
    as_high = (middle >= middle[0] - TIE_TOLERANCE).mean()
    return CurveTest(len(z), float(share[0]), float(middle[0]), float((share >= share[0]).mean()), float(as_high))


# --- other lags, other data ---


def excess_after(panel: pd.DataFrame, events: Any, days: int, lag: int = 1, since: str = SINCE) -> dict[str, float]:
    """n_events, n_clusters, mean_log, excess_log (over every day) and one-sided p_rotation of events since `since`."""
    returns = outcomes(panel, days, lag, since)
    found = beside_any_day(returns, events, days)
    found["mean_log"] = found["excess_log"] + returns.mean()
    return {name: found[name] for name in ("n_events", "n_clusters", "mean_log", "excess_log", "p_rotation")}


def lag_sensitivity(
    panel: pd.DataFrame, events: Any, days: int = 90, lag: int = 1, since: str = SINCE, *, lags: Iterable[int] = LAGS
) -> pd.DataFrame:
    """One set of events at one horizon for each trading lag, `lag` among them: lag_days, then as `excess_after`."""
    every = sorted({*lags, lag})
    return pd.DataFrame([{"lag_days": delay, **excess_after(panel, events, days, delay, since)} for delay in every])


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

    `panels`: by name, the first is the reference. Rules (settings of `episodes.apply_rules`) see each panel's whole
    history; a provider without a price in the common span is priced by the reference. One row per provider: provider,
    price_source, start, end (the common span of hash rate, from `since` on), days_known, share_equal_state (days both
    know on which the state is that of the reference), same_days and near_days (events of the reference found on the
    same day, within 3 days), then as `excess_after`.
    """
    known = [panel["hash_rate_ehs"].dropna().index for panel in panels.values()]
    start = max(pd.Timestamp(since), *(span[0] for span in known if len(span)))
    end = min(span[-1] for span in known if len(span))
    found, rows = {}, []
    for name, panel in panels.items():
        applied = apply_rules(panel, **rules)
        events = applied.events[definition, anchor]
        found[name] = applied.states[definition].loc[start:end], events[(events >= start) & (events <= end)]
    reference, (base_state, base_events) = next(iter(found.items()))
    for name, (state, events) in found.items():
        source = name if panels[name].loc[start:end, "price_usd"].notna().any() else reference
        apart = np.array([abs((events - day).days).min() if len(events) else np.inf for day in base_events])
        row = {"provider": name, "price_source": source, "start": start, "end": end, "days_known": state.count()}
        row |= {"share_equal_state": (state == base_state).mean(), "same_days": (apart == 0).sum()}
        row |= {"near_days": (apart <= NEAR_DAYS).sum()}
        rows.append(row | excess_after(panels[source].loc[:end], events, days, lag, str(start.date())))
    return pd.DataFrame(rows)


# --- forecasts of the time ---


def known_mean(returns: np.ndarray, delay: int, at_least: int = 1) -> np.ndarray:
    """Mean of the returns of days at least `delay` earlier, those known on a day; NaN below `at_least` of them."""
    known = ~np.isnan(returns)
    sums, counts = np.cumsum(np.where(known, returns, 0.0)), np.cumsum(known)
    mean = np.where(counts >= at_least, sums / np.maximum(counts, 1), np.nan)
    return np.append(np.full(delay, np.nan), mean)[: len(returns)]


def prequential(panel: pd.DataFrame, events: Any, days: int = 90, lag: int = 1, since: str = SINCE) -> pd.DataFrame:
    """Forecast and outcome at every signal since `since`, whether its outcome is known yet or not.

    In order of time: date; n_earlier signals whose outcome was known on it; forecast, their mean log return (NaN below
    3 of them); baseline, mean log return of every day of the sample known by then; outcome, the log return that
    followed, NaN while unknown; error_forecast and error_baseline (forecast - outcome), and whether the forecast's is
    the smaller (`better`). Forecast and baseline use nothing that was not known at the end of `date`.
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

    The variance sums autocovariances up to `overlap` lags with Bartlett weights, and t is corrected for small samples
    and held against Student's t with n - 1 degrees of freedom (Harvey, Leybourne and Newbold 1997).
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
) -> PrequentialScore:
    """Score of `prequential` over the signals whose outcome is known; NaN where no signal can be scored."""
    table = prequential(panel, events, days, lag, since).dropna()
    if table.empty:
        return PrequentialScore(0)
    # Errors depend on each other as far as signals lie within the time that one outcome takes.
    day = table["date"].to_numpy("datetime64[D]").astype("int64")
    overlap = int((np.searchsorted(day, day + days + lag) - np.arange(len(day))).max() - 1)
    p_dm = diebold_mariano((table["error_baseline"] ** 2 - table["error_forecast"] ** 2).to_numpy(), overlap)
    returns = forward_returns(panel["price_usd"], days, lag).loc[since:]
    marks, values = event_marks(returns.index, events), returns.to_numpy()
    plain, r2 = (known_mean(values, days + lag) - values) ** 2, np.full(len(values), np.nan)
    for by in range(len(values)):
        at = np.roll(marks, by)
        own = (known_mean(np.where(at, values, np.nan), days + lag, MIN_EARLIER) - values)[at] ** 2
        scored = ~np.isnan(own + plain[at])
        if scored.any():
            r2[by] = 1 - own[scored].sum() / plain[at][scored].sum()
    p_rotation = float((r2[~np.isnan(r2)] >= r2[0] - 1e-12).mean())
    return PrequentialScore(len(table), float(r2[0]), float(table["better"].mean()), p_dm, p_rotation)


# --- every pair of means at once ---
#
# A pair is inverted while the fast mean of a signal (hash rate, price) is below the slow one. Thousands of pairs are
# cheap, because a mean is computed once, from one cumulative sum, however many pairs use it; only the comparison that
# finds a pair's few crossings looks at every day; and what happened between two of them is a difference of cumulative
# sums. Pairs that share the slow mean are worked off together, so memory does not grow with their number.


def pair_grid(fast: Iterable[int], slow: Iterable[int]) -> list[tuple[int, int]]:
    """Every (fast, slow) with fast < slow, ordered by slow, then fast."""
    return [(f, s) for s in sorted(set(slow)) for f in sorted(set(fast)) if f < s]


def crossings(
    signal: pd.Series, pairs: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, list[int], np.ndarray, np.ndarray, np.ndarray]]:
    """Crossings of every pair of full-window means, for one slow window after the other, ascending.

    Yields (slow, fasts, pair, start, recovery): for each inversion, in order of pair, then time, the place of its pair
    among `fasts`, the row of its start, and that of its recovery (n where it has not come). A day that is not known
    neither starts nor ends an inversion. Equal to `hash_ribbons` and `runs` but for rounding where two means tie (on
    the real hash rate in 2009 alone, when difficulty was 1). `ValueError` unless fast < slow.
    """
    values = signal.to_numpy("float64")
    n, gaps = len(values), np.append(0, np.cumsum(np.isnan(values)))
    sums, means = np.append(0.0, np.cumsum(np.nan_to_num(values))), {}
    for slow, group in groupby(sorted(set(pairs), key=lambda pair: pair[::-1]), key=lambda pair: pair[1]):
        fasts = [fast for fast, _ in group]
        if not 0 < fasts[0] <= fasts[-1] < slow:
            raise ValueError(f"pair ({fasts[-1]}, {slow}): fast must be positive and smaller than slow")
        for days in {slow, *fasts} - means.keys():
            means[days] = (sums[days:] - sums[:-days]) / days  # from row days - 1 on
        known = gaps[slow:] == gaps[:-slow]
        below = np.zeros((len(fasts), known.sum() + 2), dtype=bool)  # out of the state before its days, and at the end
        for row, fast in zip(below, fasts, strict=True):
            row[1:-1] = (means[fast][slow - fast :] < means[slow])[known]
        pair, day = np.nonzero(below[:, 1:] != below[:, :-1])
        day = np.append(np.flatnonzero(known) + slow - 1, n)[day]
        yield slow, fasts, pair[0::2], day[0::2], day[1::2]


def sweep(
    signal: pd.Series,
    price: pd.Series,
    pairs: Iterable[tuple[int, int]],
    lag: int = 1,
    since: str = "",
    fee_bps: float = 0.0,
    slippage_bps: float = 0.0,
) -> pd.DataFrame:
    """Every pair of moving averages of a signal, and being long from its recoveries (fast back above slow).

    `signal`, `price`: Series on the same daily index; the signal in any unit, price in USD at the close; NaN = unknown.
    `pairs`: (fast, slow) windows in days, fast < slow. Trades are made at the close `lag` days after a crossing, from
    `since` (ISO; "": the first known price) on; `fee_bps`, `slippage_bps`: per trade and side.

    One row per pair, by slow, then fast: fast_days, slow_days; n_starts, n_recoveries over the whole series;
    share_inverted of the sample's days; n_trades, total_return, sharpe (annualised, over the sample's daily returns) of
    being long from each recovery to the next start, as `trading.backtest`. `ValueError` for what cannot be used.

    >>> days = pd.date_range("2020-01-01", periods=8)
    >>> wave = pd.Series([4.0, 3.0, 2.0, 3.0, 4.0, 5.0, 4.0, 3.0], days)
    >>> sweep(wave, wave, [(1, 2)], lag=0)[["n_starts", "n_recoveries", "total_return"]].round(3).values.tolist()
    [[2.0, 1.0, 0.333]]
    """
    values, n = price.to_numpy("float64"), len(price)
    known = ~np.isnan(values)
    if not signal.index.equals(price.index) or not known.any() or not (values[known] > 0).all():
        raise ValueError("signal and price need the same index, and price a known value and none that is not positive")
    first = max(int(price.index.searchsorted(pd.Timestamp(since))) if since else 0, int(np.argmax(known)))
    log_price = np.log(values[last_known(values)])
    steps = np.nan_to_num(np.expm1(np.diff(log_price, prepend=log_price[0])))
    sums, squares = np.cumsum(steps), np.cumsum(steps**2)
    next_priced = np.minimum.accumulate(np.append(np.where(known, np.arange(n), n), n)[::-1])[::-1]
    log_buy, log_sell = log_costs(fee_bps, slippage_bps)
    buy, days, parts = np.expm1(log_buy), n - 1 - first, []
    for slow, fasts, pair, start, recovery in crossings(signal, pairs):
        # Long from each recovery to the pair's next start, at the first price `lag` days later or thereafter; row n is
        # still open. Sums over a stay are differences of running sums; the purchase day bears its cost, the day of the
        # sale earns its return less the cost.
        next_start = np.where(np.append(pair[1:] == pair[:-1], False), np.append(start[1:], n), n)
        enter, leave = (next_priced[np.minimum(rows + lag, n)] for rows in (recovery, next_start))
        stay = (enter < leave) & (recovery >= first)
        owner, enter, leave = pair[stay], enter[stay], leave[stay]
        last, sale = np.minimum(leave, n - 1), np.where(leave < n, log_sell, 0.0)
        at_sale = np.expm1(np.log1p(steps[last]) + sale)
        of_stays = {
            "growth": log_price[last] - log_price[enter] + log_buy + sale,
            "earned": sums[last] - sums[enter] + buy + at_sale - steps[last],
            "squared": squares[last] - squares[enter] + buy**2 + at_sale**2 - steps[last] ** 2,
        }
        of_pairs = {name: np.bincount(owner, stays, len(fasts)) for name, stays in of_stays.items()}
        mean = of_pairs["earned"] / days
        inverted = np.bincount(pair, np.maximum(recovery - np.maximum(start, first), 0), len(fasts))
        with np.errstate(invalid="ignore", divide="ignore"):
            deviation = np.sqrt((of_pairs["squared"] - mean**2 * days) / (days - 1))
            ratio = np.where(of_pairs["squared"] > 0, mean / deviation * np.sqrt(DAYS_PER_YEAR), np.nan)
        columns = {"fast_days": fasts, "slow_days": slow, "n_starts": np.bincount(pair, minlength=len(fasts))}
        columns |= {"n_recoveries": np.bincount(pair[recovery < n], minlength=len(fasts))}
        columns |= {"share_inverted": inverted / (n - first), "n_trades": np.bincount(owner, minlength=len(fasts))}
        parts.append(pd.DataFrame({**columns, "total_return": np.expm1(of_pairs["growth"]), "sharpe": ratio}))
    return pd.concat(parts, ignore_index=True)


def window_grid(
    panel: pd.DataFrame,
    fast_days: int = 30,
    slow_days: int = 60,
    days: int = 90,
    lag: int = 1,
    since: str = SINCE,
    *,
    fast: Iterable[int] = GRID_FAST_DAYS,
    slow: Iterable[int] = GRID_SLOW_DAYS,
) -> pd.DataFrame:
    """Recoveries of the Hash Ribbons with every pair of windows: the exact rotation test of each, and of the family.

    Picking the best of many pairs finds something in any noise; rotating the crossings of all pairs by the same number
    of days keeps how alike they are (`chance.max_rotation_test`). `fast_days`, `slow_days`: the chosen pair, part of
    the grid even if it lies between its steps; `fast`, `slow`: windows of the grid. One row per pair, by slow, then
    fast: fast_days, slow_days, n_events, excess_log (mean log return of the events minus that of every day), z,
    p_rotation (this pair alone), p_family, chosen. NaN without events.
    """
    returns, pairs, marks = outcomes(panel, days, lag, since), [], []
    for window, fasts, pair, _, recovery in crossings(
        panel["hash_rate_ehs"], [*pair_grid(fast, slow), (fast_days, slow_days)]
    ):
        pairs += [(quick, window) for quick in fasts]
        own = np.zeros((len(fasts), len(panel) + 1), dtype=bool)
        own[pair, recovery] = True
        marks.append(own[:, panel.index.get_indexer(returns.index)])
    marks = np.vstack(marks)
    test, table = max_rotation_test(returns, marks), pd.DataFrame(pairs, columns=["fast_days", "slow_days"])
    return table.assign(
        n_events=marks.sum(axis=1),
        excess_log=excess_of(returns, marks),
        z=test.z,
        p_rotation=test.p_single,
        p_family=test.p_family,
        chosen=[pair == (fast_days, slow_days) for pair in pairs],
    )
