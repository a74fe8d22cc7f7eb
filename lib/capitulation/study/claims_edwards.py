"""Charles Edwards' Hash Ribbons: the dates of its signals, their gains, and the lengths of two capitulations."""

from __future__ import annotations

import numpy as np
import pandas as pd

from capitulation.paths import reference_folder
from capitulation.study.claims_base import (
    CONTRADICTED,
    REPRODUCED,
    Finding,
    NotMeasurable,
    View,
    day,
    days_flag,
    judge,
    outcome,
    published_buys,
    published_episodes,
    twice,
)
from capitulation.words import count, p_text, percent


def read_published_signals() -> pd.DataFrame:
    """data/reference/published_signals.csv: date, price_usd, source."""
    return pd.read_csv(reference_folder() / "published_signals.csv", parse_dates=["date"])


def nearest_days(published: pd.DatetimeIndex, own: pd.DatetimeIndex) -> pd.Series:
    """Signed days from each published day to the nearest own one (positive: ours is later); index the published day.

    >>> own = pd.DatetimeIndex(["2020-01-03", "2020-03-01"])
    >>> nearest_days(pd.DatetimeIndex(["2020-01-01", "2020-03-01"]), own).tolist()
    [2, 0]
    """
    gaps = own.to_numpy()[None, :] - published.to_numpy()[:, None]
    days = gaps.astype("timedelta64[D]").astype("int64")
    return pd.Series(days[np.arange(len(days)), np.abs(days).argmin(axis=1)], index=published)


def buy_signals(view: View, tolerance_days: int, **options: str) -> Finding:
    """Claim 16: how many of the published signal days the rule gives again, and which others it gives.

    `from`: signals before that day are not in the published list.
    """
    published = pd.DatetimeIndex(read_published_signals()["date"])
    own = published_buys(view.past)
    own = own[own >= pd.Timestamp(options["from"])]
    if not len(own):
        raise NotMeasurable("the panel gives no buy signal before the claim")
    gaps = nearest_days(published, own)
    within, exact = gaps.abs() <= tolerance_days, gaps == 0
    extra = nearest_days(own, published)
    extra = extra.index[extra.abs() > tolerance_days]
    measured = f"{within.sum()} of {len(gaps)} within {tolerance_days} days, {exact.sum()} on the very day"
    missing = ", ".join(day(d) for d in gaps.index[~within])
    reason = (
        f"{'All signals are found' if within.all() else f'Not found: {missing}'}, the largest difference is "
        f"{count(int(gaps[within].abs().max() if within.any() else 0), 'day')}; "
        f"{'no further one' if not len(extra) else 'also ' + ', '.join(day(d) for d in extra)}."
    )
    return Finding(measured, REPRODUCED if within.all() else CONTRADICTED, reason, followed=_later_buys(view))


def _later_buys(view: View) -> str:
    later = published_buys(view.panel)
    later = later[later > view.as_of]
    return (
        f"The rule has given {count(len(later), 'buy signal')} since: {', '.join(map(day, later))}"
        if len(later)
        else ""
    )


def _to_peak(price: pd.Series, signal: pd.Timestamp, cycle_days: int) -> tuple[float, float]:
    """Gain from a signal's close to the highest one of the next `cycle_days` days, and the deepest fall on the way."""
    path = price.loc[signal:].iloc[: cycle_days + 1]
    peak = path.idxmax()
    return path[peak] / path.iloc[0] - 1, path.loc[:peak].min() / path.iloc[0] - 1


def gain_to_peak(view: View, since: str, gain: float, drawdown: float, cycle_days: int, hold_days: int) -> Finding:
    """Claim 17: gain to the highest close of four years (hindsight), beside what a fixed holding period earned."""

    def measure(panel: pd.DataFrame) -> Finding:
        price = panel["price_usd"].dropna()
        buys = published_buys(panel)
        buys = buys[(buys >= pd.Timestamp(since)) & (buys < panel.index[-1])]
        if not len(buys):
            raise NotMeasurable("no buy signal")
        gains, falls = np.array([_to_peak(price, signal, cycle_days) for signal in buys]).T
        held = outcome(panel, days_flag(panel, buys), hold_days, view.params.entry_lag_days, since)
        measured = (
            f"mean gain to the peak {100 * gains.mean():,.0f} %, median {100 * np.median(gains):,.0f} %, deepest "
            f"fall on the way {percent(-falls.min())}, {count(len(gains), 'signal')}; held {hold_days} days: median "
            f"{percent(held.median)}"
        )
        fits = gains.mean() >= gain and falls.min() >= drawdown
        reason = (
            f"The peak is chosen afterwards, so no one could earn it: the mean is made by "
            f"{count(int((gains > gain).sum()), 'signal')} above {100 * gain:,.0f} %. Selling after {hold_days} "
            f"days, {percent(held.hit_rate)} of {held.n_known} signals gained, against {percent(held.base_hit_rate)} "
            f"of all days (rotation {p_text(held.p_value)})."
        )
        return Finding(measured, judge(fits, held.p_value), reason, held.p_value)

    return twice(measure, view)


def _ending_near(episodes: pd.DataFrame, when: str) -> pd.Series:
    """The finished episode whose end lies nearest to `when`."""
    finished = episodes[~episodes["ongoing"]]
    if finished.empty:
        raise NotMeasurable("no finished capitulation")
    return finished.loc[(finished["end"] - pd.Timestamp(when)).abs().idxmin()]


def two_capitulations(
    view: View, end: str, days: int, earlier_end: str, earlier_days: int, bridge_days: int, tolerance_days: int
) -> Finding:
    """Claim 18: length and end of two capitulations; interruptions of up to `bridge_days` days are passed over."""
    episodes = published_episodes(view.past, bridge_days)
    late, early = _ending_near(episodes, end), _ending_near(episodes, earlier_end)
    off = [abs(late["days"] - days), abs(early["days"] - earlier_days), abs((late["end"] - pd.Timestamp(end)).days)]
    shown = [f"{count(int(row['days']), 'day')} to {day(row['end'])}" for row in (late, early)]
    longer = int(early["days"] - late["days"])
    measured = f"{'; '.join(shown)}, {count(abs(longer), 'day')} {'longer' if longer >= 0 else 'shorter'}"
    raw = published_episodes(view.past)
    parts = raw[(raw["start"] >= late["start"]) & (raw["start"] < late["end"])]
    broken = (
        f"; taken strictly it is {' and '.join(str(n) for n in parts['days'])} days, broken in between"
        if len(parts) > 1
        else ""
    )
    reason = f"The largest difference from a published length or date is {count(int(max(off)), 'day')}{broken}."
    return Finding(measured, REPRODUCED if max(off) <= tolerance_days else CONTRADICTED, reason)
