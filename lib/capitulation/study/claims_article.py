"""The article of 20 January 2026: what it says of hash rate, difficulty and cost (of price: claims_price)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd

from capitulation.mining.economics import economics
from capitulation.mining.fleet import rigs_under_water
from capitulation.mining.hash_rate import drawdown_se, gap_change_se, rolling_mean
from capitulation.mining.retargets import next_retarget, retargets
from capitulation.mining.ribbons import ribbons
from capitulation.study.claims_base import (
    ALPHA,
    CHANCE,
    CONTRADICTED,
    NOT_TESTABLE,
    REPRODUCED,
    Finding,
    NotMeasurable,
    View,
    day,
    judge_effect,
    published_episodes,
    twice,
)
from capitulation.words import count, p_text, percent, signed

FALL_TOLERANCE = 0.005
LEVEL_TOLERANCE = 0.01
START_TOLERANCE_DAYS = 1
LENGTH_TOLERANCE_DAYS = 7
CHANGE_TOLERANCE = 0.01


def _fall(mean: pd.Series, since: str) -> tuple[pd.Timestamp, float, pd.Timestamp, float]:
    """Peak since a day, and the lowest value after it: day, value, day, value."""
    part = mean.loc[since:].dropna()
    if part.empty:
        raise NotMeasurable(f"no mean hash rate since {since}")
    peak = part.idxmax()
    after = part.loc[peak:]
    return peak, part[peak], after.idxmin(), after.min()


def hash_rate_fall(
    view: View, peak_since: str, fall: float, peak_ehs: float, low_ehs: float, mean_days: Sequence[int]
) -> Finding:
    """Claim 1: which mean of hash rate fell by the published share."""
    means = {k: rolling_mean(view.past["hash_rate_ehs"], k) for k in mean_days}
    falls = {k: _fall(mean, peak_since) for k, mean in means.items()}
    sizes = {k: low / top - 1 for k, (_, top, _, low) in falls.items()}
    best = min(sizes, key=lambda k: abs(sizes[k] - fall))
    peak_day, top, low_day, low = falls[best]
    others = ", ".join(f"{k} d {percent(-size, 1)}" for k, size in sizes.items() if k != best)
    error = drawdown_se(view.past, best).get(low_day, np.nan)
    measured = (
        f"{best}-day mean from {top:,.0f} EH/s ({day(peak_day)}) to {low:,.0f} EH/s ({day(low_day)}), down "
        f"{percent(-sizes[best], 1)} ± {percent(error, 1)}"
    )
    fits = abs(sizes[best] - fall) <= FALL_TOLERANCE and abs(low / low_ehs - 1) <= LEVEL_TOLERANCE
    reason = (
        f"The {best}-day mean {'gives' if fits else 'comes closest to'} the published fall and low (other means: "
        f"{others}); the printed {peak_ehs:,.0f} to {low_ehs:,.0f} EH/s would be "
        f"{percent(1 - low_ehs / peak_ehs, 1)}. The peak of a noisy series is too high, so the true fall is smaller."
    )
    return Finding(measured, REPRODUCED if fits else CONTRADICTED, reason, followed=_later_low(view, best, top))


def _later_low(view: View, days: int, top: float) -> str:
    """How deep the same mean fell after the claim."""
    later = rolling_mean(view.panel["hash_rate_ehs"], days).loc[view.later.index].dropna() if len(view.later) else []
    if not len(later):
        return ""
    fall = percent(later.min() / top - 1, 1, True)
    return f"The lowest {days}-day mean was {later.min():,.0f} EH/s on {day(later.idxmin())}, {fall} from that peak"


def inversion_length(view: View, since: str, days: int) -> Finding:
    """Claim 2: whether the ribbons were inverted without a break since the published day."""
    table = ribbons(view.past, 30, 60)
    span = table.loc[since:]
    if span.empty or not span["known"].all():
        raise NotMeasurable(f"the ribbons are not known on every day since {since}")
    inverted, out = int(span["in_capitulation"].sum()), span.index[~span["in_capitulation"]]
    episodes = published_episodes(view.past)
    if episodes.empty:
        raise NotMeasurable("the ribbons have never inverted")
    first = episodes.loc[(episodes["start"] - pd.Timestamp(since)).abs().idxmin(), "start"]
    starts = abs((first - pd.Timestamp(since)).days) <= START_TOLERANCE_DAYS
    run = int(episodes["days"].iloc[-1]) if episodes["ongoing"].iloc[-1] else 0
    measured = (
        f"inverted on {inverted} of {len(span)} days since {since}; {count(len(out), 'day')} out of it; present "
        f"inversion {count(run, 'day')} old"
    )
    broken = f"broken on {' and '.join(map(day, out[:4]))}" if len(out) else "unbroken"
    reason = (
        f"The nearest inversion starts on {day(first)}, but it was {broken}: the last one has run for "
        f"{count(run, 'day')} since {day(episodes['start'].iloc[-1])}."
        if len(out)
        else f"The inversion that began on {day(first)} is unbroken."
    )
    fits = starts and not len(out) and abs(run - days) <= LENGTH_TOLERANCE_DAYS
    return Finding(measured, REPRODUCED if fits else CONTRADICTED, reason, followed=_inversion_end(view))


def _inversion_end(view: View) -> str:
    """When the inversion of the claim's day ended."""
    episodes = published_episodes(view.panel)
    holding = episodes[(episodes["start"] <= view.as_of) & ~(episodes["end"] <= view.as_of)]
    if not len(view.later) or holding.empty:
        return ""
    row = holding.iloc[-1]
    if row["ongoing"]:
        return f"It was still inverted on {day(view.panel.index[-1])}, after {count(int(row['days']), 'day')}"
    return f"That inversion ended on {day(row['end'])}, after {count(int(row['days']), 'day')}"


def retarget_count(view: View, change: float, negative: int, of_last: int) -> Finding:
    """Claim 3: the estimate of the next adjustment and how many of the last ones cut difficulty, that one included."""
    table, coming = retargets(view.past), next_retarget(view.past)
    if len(table) < of_last or not coming:
        raise NotMeasurable("too few difficulty adjustments")
    done = table["change"].tail(of_last - 1)
    cuts = int((done < 0).sum()) + int(coming["change"] < 0)
    measured = (
        f"next {percent(coming['change'], 1, True)} ({percent(coming['change_low'], 1, True)} to "
        f"{percent(coming['change_high'], 1, True)}) about {day(coming['date'])}; {cuts} of {of_last} negative with it"
    )
    rises = table.tail(of_last - 1)
    rises = rises[rises["change"] > 0]
    shown = ", ".join(f"{day(row.date)} {percent(row.change, 2, True)}" for row in rises.itertuples())
    reason = (
        f"Of the {of_last} up to it, the rises are {shown or 'none'}: {cuts} cuts, where {negative} were published."
    )
    fits = cuts == negative and abs(coming["change"] - change) <= CHANGE_TOLERANCE
    return Finding(measured, REPRODUCED if fits else CONTRADICTED, reason, followed=_what_it_became(view, of_last))


def _what_it_became(view: View, of_last: int) -> str:
    """The adjustment that came next, and the count with it."""
    table = retargets(view.panel)
    later = table[table["date"] > view.as_of]
    if later.empty:
        return ""
    row = later.iloc[0]
    cuts = int((table.loc[: later.index[0], "change"].tail(of_last) < 0).sum())
    return f"It became {percent(row['change'], 2, True)} on {day(row['date'])}: {cuts} of those {of_last} were cuts"


def narrowing(view: View, look_back_days: int) -> Finding:
    """Claim 4: whether the ribbon gap is closer to zero than at its lowest, by more than block luck."""
    recent = ribbons(view.past, 30, 60)["ribbon_gap"].tail(look_back_days)
    if recent.isna().any():
        raise NotMeasurable(f"the ribbon gap is not known on every one of the last {look_back_days} days")
    low_day, low, now = recent.idxmin(), recent.min(), recent.iloc[-1]
    error = gap_change_se(view.past, low_day, recent.index[-1])
    z = (now - low) / error if low < now else 0.0
    p = 1 - NormalDist().cdf(z)
    measured = (
        f"gap {percent(now, 1, True)}, after {percent(low, 1, True)} on {day(low_day)} "
        f"(difference {signed(z, 1)} standard errors)"
    )
    reason = (
        f"The gap has {'narrowed' if z > 0 else 'not narrowed'} by "
        f"{100 * (now - low):.1f} points, with an error of {100 * error:.1f} from block luck ({p_text(p)}, days that "
        f"weigh on both counted once; that the lowest day was picked makes it look surer than it is)."
    )
    verdict = CONTRADICTED if z <= 0 else REPRODUCED if p < ALPHA else CHANCE
    return Finding(measured, verdict, reason, p, followed=_widest_later(view))


def _widest_later(view: View) -> str:
    gap = ribbons(view.panel, 30, 60)["ribbon_gap"].loc[view.later.index].dropna() if len(view.later) else []
    return f"The lowest gap since was {percent(gap.min(), 1, True)} on {day(gap.idxmin())}" if len(gap) else ""


def cost_threshold(view: View, efficient_j_th: float, near: float, mean_days: int) -> Finding:
    """Claim 5: how far hashprice is above the power cost of efficient rigs, and whether hash rate fell further."""
    price = view.params.power_price_usd_kwh
    rigs = rigs_under_water(view.past, price)
    efficient = rigs[rigs["efficiency_j_th"] <= efficient_j_th]
    if efficient.empty:
        raise NotMeasurable(f"no recent rig of {efficient_j_th:g} J/TH or better")
    margin = efficient["breakeven_usd_kwh"] / price - 1
    hashprice = economics(view.past)["hashprice_usd_ph_day"].dropna().iloc[-1]
    under = rigs.index[rigs["under_water"].astype(bool)]
    measured = (
        f"at hashprice {hashprice:.1f} USD per PH/s and day rigs of up to {efficient_j_th:g} J/TH break even at "
        f"{efficient['breakeven_usd_kwh'].min():.3f} to {efficient['breakeven_usd_kwh'].max():.3f} USD/kWh"
    )
    fits = bool((margin.abs() <= near).any())
    reason = (
        f"At {price:g} USD/kWh {'some' if fits else 'none'} of them {'are' if fits else 'is'} within {percent(near)} "
        f"of its threshold (margins {percent(margin.min())} to {percent(margin.max())}); under water are "
        f"{', '.join(under) or 'no recent rigs'}. It would be true at {efficient['breakeven_usd_kwh'].min():.3f} "
        f"USD/kWh; no one publishes what miners pay."
    )
    followed = _further_shutdowns(view, mean_days)
    return Finding(measured, REPRODUCED if fits else CONTRADICTED, reason, followed=followed)


def _further_shutdowns(view: View, mean_days: int) -> str:
    """How far hash rate fell after the claim, from its level then."""
    mean = rolling_mean(view.panel["hash_rate_ehs"], mean_days)
    later = mean.loc[view.later.index].dropna() if len(view.later) else []
    if not len(later):
        return ""
    before = mean[view.as_of]
    return (
        f"The {mean_days}-day mean went from {before:,.0f} to a low of {later.min():,.0f} EH/s on "
        f"{day(later.idxmin())}, {percent(later.min() / before - 1, 1, True)}"
    )


def hashprice_around_cuts(view: View, days: int) -> Finding:
    """Claim 6: change of mean hashprice from the `days` days before a cut to those after it, in BTC and USD."""
    from capitulation.study.rotation import rotation_test

    def measure(panel: pd.DataFrame) -> Finding:
        table = retargets(panel)
        table = table[(table["date"] >= view.params.sample_start) & table["change"].notna()]
        shift = {unit: _around(panel, table["date"], f"hashprice_{unit}_ph_day", days) for unit in ("btc", "usd")}
        known = np.isfinite(shift["btc"]) & np.isfinite(shift["usd"])
        cut = (table["change"] < 0).to_numpy()[known]
        btc, usd = shift["btc"][known], shift["usd"][known]
        if not cut.any():
            raise NotMeasurable("no cut with hashprice on both sides")
        p = rotation_test(usd, cut).p_one_sided
        rises = (usd[cut] > 0).mean()
        measured = (
            f"after {cut.sum()} cuts: BTC per PH/s up in {percent((btc[cut] > 0).mean())}, median "
            f"{percent(np.expm1(np.median(btc[cut])), 1, True)}; USD up in {percent(rises)}, median "
            f"{percent(np.expm1(np.median(usd[cut])), 1, True)}, {percent(np.expm1(np.median(usd[~cut])), 1, True)} "
            f"after rises"
        )
        reason = (
            f"In BTC it follows from the rule, only fees or a halving can offset it; in USD the price decides as "
            f"well: hashprice rose after {percent(rises)} of cuts ({p_text(p)} against the same cuts at other "
            f"adjustments)."
        )
        return Finding(measured, judge_effect(p), reason, p)

    return twice(measure, view)


def _around(panel: pd.DataFrame, dates: pd.Series, column: str, days: int) -> np.ndarray:
    """Log change of the mean from the `days` days before each date to those after it (the day itself is mixed)."""
    mean = rolling_mean(economics(panel)[column], days)
    after = mean.reindex(dates + pd.Timedelta(days=days)).to_numpy()
    before = mean.reindex(dates - pd.Timedelta(days=1)).to_numpy()
    return np.log(after / before)


def miner_selling(view: View) -> Finding:
    """Claim 10: not measurable, and why."""
    reason = (
        "Free data carry no coins sent by miners. It would take wallets labelled as miners' (paid services) or the "
        "firms' monthly production reports, and prices net of other news. Exchange inflows, the usual proxy, mix "
        "every holder's coins and were restated by their provider up to 24-fold between two downloads three months "
        "apart."
    )
    return Finding("no free series of miners' sales", NOT_TESTABLE, reason)
