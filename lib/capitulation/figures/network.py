"""Charts of what the network did: ribbons and their noise, the rules side by side, difficulty, what miners earn.

Frames have their days as index unless a chart says otherwise; `halvings` are days, as from
`mining.difficulty.halving_days`. A chart that has nothing to draw says in its title what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation

from capitulation.figures import style
from capitulation.figures.style import COLOURS, empty, finish, new_figure, styled, tint
from capitulation.mining.difficulty import halving_days
from capitulation.mining.economics import SERVICE_YEARS
from capitulation.words import count, day, percent, signed

DOT = {"markersize": 6, "zorder": 5, "markeredgecolor": "white", "markeredgewidth": 0.6}
Days = Iterable[object]


def _latest(frame: Any, years: float) -> Any:
    """The last `years` years of a frame or series."""
    return frame[frame.index > frame.index[-1] - pd.Timedelta(days=round(years * 365.25))]


def _in_view(episodes: pd.DataFrame, first: pd.Timestamp) -> pd.DataFrame:
    """The episodes that reach into the days from `first` on, cut there."""
    reaching = episodes[episodes["end"].isna() | (episodes["end"] > first)]
    return reaching.assign(start=reaching["start"].clip(lower=first))


def _span(index: pd.Index) -> str:
    return f"from {day(index[0])} to {day(index[-1])}"


def _amount(value: float) -> str:
    """An amount with as many digits as it deserves.

    >>> [_amount(v) for v in (0.0512, 9.94, 32.086, 68018.2)]
    ['0.0512', '9.94', '32.1', '68,018']
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def _log_lines(axes: Axes, lines: Iterable[tuple[pd.Series, str]], label: str, halvings: Days, at: str = "top") -> None:
    """Daily series, each in its colour, over days with halvings and on a log scale."""
    for line, colour in lines:
        axes.plot(line, color=colour, linewidth=1.2)
    style.date_axis(axes, line.index[0], line.index[-1], halvings, at)
    style.log_axis(axes, label)


@styled
def price_with_capitulations(panel: pd.DataFrame, episodes: pd.DataFrame) -> Figure:
    """Price (USD, log scale), one rule's episodes shaded, their start, recovery and buy signal marked.

    `episodes`: start, end, ongoing, price_start, price_end, buy_date; those that reach into the panel's days count.
    """
    price = panel["price_usd"].dropna()
    if price.empty:
        return empty("This source has no price")
    found, last, now = _in_view(episodes, panel.index[0]), price.index[-1], price.iloc[-1]
    figure, axes = new_figure(height=4.6)
    _log_lines(axes, [(price, COLOURS["price"])], "BTC price, USD", halving_days(panel), at="bottom")
    style.shade_episodes(axes, found, last)
    # Starts above the line, recoveries on it, buy signals below: they often fall on neighbouring days.
    for anchor, column, points in (("start", "start", 8), ("recovery", "end", 0), ("buy", "buy_date", -8)):
        days = price.index.intersection(pd.DatetimeIndex(found[column].dropna()))
        look = {"color": COLOURS[anchor], "label": "buy signal" if anchor == "buy" else anchor, **DOT}
        moved = axes.transData + ScaledTranslation(0, points / 72, figure.dpi_scale_trans)
        axes.plot(days, price[days], style.ANCHOR_MARKERS[anchor], transform=moved, **look)
    shade = Patch(color=COLOURS["capitulation_shade"], label="capitulation")
    style.legend_above(axes, [shade, *axes.get_legend_handles_labels()[0]])
    style.mark_present(axes, last, now, f"{style.plain_number(float(f'{now:.3g}'))}\nUSD", COLOURS["price"])
    title = "The rule never said capitulation in this history"
    if len(found):
        ended = found[found["end"].notna()].dropna(subset=["price_start", "price_end"])
        title = (
            f"{count(len(found), 'capitulation')} since {found['start'].min().year}"
            f"{', one of them under way' if found['ongoing'].eq(True).any() else ''}: BTC rose during "
            f"{(ended['price_end'] > ended['price_start']).sum()} of the {len(ended)} that ended and have a price"
        )
    signals = count(found["buy_date"].notna().sum(), "buy signal")
    alt = f"Price on a log scale {_span(price.index)}, now {now:,.0f} USD; episodes are shaded, {signals} marked."
    return finish(figure, title, alt)


@styled
def hash_rate_ribbons(
    ribbon: pd.DataFrame,
    episodes: pd.DataFrame,
    band: pd.DataFrame | None = None,
    *,
    years: int = 4,
    halvings: Days = (),
) -> Figure:
    """Fast and slow mean of hash rate (EH/s, log scale), the band of luck around the fast one, capitulations shaded.

    `ribbon` as from `hash_ribbons`, `episodes` those of its `inverted`, `band` as from `hash_rate_band`.
    """
    known = ribbon.dropna(subset=["fast", "slow"])
    if known.empty:
        return empty("No day has both means of hash rate yet")
    shown = _latest(ribbon[known.index[0] : known.index[-1]], years)
    first, last, (fast, slow) = shown.index[0], known.index[-1], known[["fast", "slow"]].iloc[-1]
    figure, axes = new_figure(height=4.6)
    if band is not None:
        limits = band.reindex(shown.index)
        axes.fill_between(shown.index, limits["low_ehs"], limits["high_ehs"], color=tint(COLOURS["fast"], 0.18))
    lines = [(shown[mean], COLOURS[mean]) for mean in ("slow", "fast")]
    _log_lines(axes, lines, "hash rate, EH/s", halvings, at="bottom")
    style.shade_episodes(axes, episodes, last)
    style.label_ends(axes, [(fast, "fast mean", COLOURS["fast"]), (slow, "slow mean", COLOURS["slow"])])
    axes.set_title("shaded: fast mean below slow mean", color=COLOURS["capitulation"])
    below = known["fast"] < known["slow"]
    others = known.index[below != below.iloc[-1]]  # days on the other side than the last one
    days = (last - others[-1]).days if len(others) else (last - known.index[0]).days + 1
    title = (
        f"On {day(last)} the fast mean of hash rate is {percent(abs(fast / slow - 1), 1)} "
        f"{'below' if below.iloc[-1] else 'above'} the slow one, for {'' if len(others) else 'at least '}"
        f"{count(days, 'day')}"
    )
    alt = f"Two lines {_span(shown.index)}, log scale, the fast one below on {percent(below[first:].mean())} of days."
    return finish(figure, title, alt)


def _gap(known: pd.DataFrame, height: float, linewidth: float) -> tuple[Figure, Axes]:
    """The gap between the means with its band of two standard errors of block luck."""
    figure, axes = new_figure(height=height)
    noise = 2 * known["gap_se"]
    axes.fill_between(known.index, -noise, noise, color=COLOURS["noise"], label="±2 SE of luck")
    axes.plot(known["gap"], color=COLOURS["hash_rate"], linewidth=linewidth)
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    style.date_axis(axes, known.index[0], known.index[-1])
    style.percent_axis(axes, "fast mean over slow mean, minus 1")
    return figure, axes


@styled
def gap_with_noise(ribbon: pd.DataFrame, episodes: pd.DataFrame, *, halvings: Days = ()) -> Figure:
    """Gap between the means with its band of two standard errors, the deepest point of each episode by its grade.

    `ribbon` as from `hash_ribbons`; `episodes`: start, end, depth, depth_z, grade.
    """
    known = ribbon.dropna(subset=["gap"])
    if known.empty:
        return empty("No day has both means of hash rate yet")
    gap, found = known["gap"], _in_view(episodes, known.index[0])
    now, low, high = percent(gap.iloc[-1], 1, sign=True), gap.min(), gap.max()
    figure, axes = _gap(known, 4.6, 0.9)
    axes.set_ylim(min(low * 1.15, -0.04), max(min(high, 1.2 * abs(low)), 0.05) * 1.3)  # early booms are cut
    style.mark_halvings(axes, halvings)
    for grade, colour in style.GRADE_COLOURS.items():
        rows = found[found["grade"] == grade]
        parts = [gap[a : b if pd.notna(b) else None] for a, b in zip(rows["start"], rows["end"], strict=True)]
        days = pd.DatetimeIndex([part.idxmin() for part in parts if len(part)])
        axes.plot(days, gap[days], "o", color=colour, label=f"{grade} ({len(rows)})", **DOT)
    style.mark_present(axes, gap.index[-1], gap.iloc[-1], now, COLOURS["hash_rate"])
    style.legend_above(axes, handlelength=1.0, columnspacing=0.9, fontsize=10)
    n, title = found["grade"].value_counts(), "The ribbons have not inverted in these days"
    if len(found):
        title = (
            f"Of {count(len(found), 'inversion')}, {n.get('real', 0)} go deeper than block luck explains and "
            f"{n.get('noise-like', 0)} are no deeper than noise"
        )
    alt = f"Gap {_span(gap.index)}, lowest {percent(low, 1)} on {day(gap.idxmin())}, over a band of noise around zero."
    return finish(figure, title, alt)


@styled
def gap_now(ribbon: pd.DataFrame, years: float = 2.0) -> Figure:
    """The gap of the last years with two standard errors of block luck, days below zero filled, the present marked.

    `ribbon` as from `hash_ribbons`.
    """
    known = ribbon.dropna(subset=["gap"])
    if known.empty:
        return empty("The gap is not known: the windows of its means are not full")
    shown = _latest(known, years)
    gap, now = shown["gap"], percent(shown["gap"].iloc[-1], 1, sign=True)
    last, z = gap.index[-1], shown["gap_z"].iloc[-1]
    figure, axes = _gap(shown, 3.8, 1.4)
    axes.fill_between(gap.index, gap, 0, where=gap < 0, color=COLOURS["capitulation"], alpha=0.35)
    axes.set_title("grey: two standard errors of block luck; filled: capitulation")
    style.mark_present(axes, last, gap.iloc[-1], now, COLOURS["hash_rate"])
    title = f"The gap is {now} on {day(last)}, {'within' if abs(z) <= 2 else 'outside'} the band of block luck"
    alt = f"Gap {_span(gap.index)}, lowest {percent(gap.min(), 1)}, at last {signed(z, 1)} standard errors from zero."
    return finish(figure, title, alt)


@styled
def survival(curve: pd.DataFrame, *, age: int | None = None, confidence: float = 0.95) -> Figure:
    """Kaplan-Meier curve of episode length with its band; the `age` (days) of a present capitulation marked.

    `curve` as from `duration.survival_curve`, whose band has coverage `confidence`.
    """
    n = int(curve["n_at_risk"].iloc[0])
    if not n:
        return empty("There is no capitulation whose length could be measured")
    figure, axes = new_figure(height=3.8)
    colour = COLOURS["capitulation"]
    axes.fill_between(curve["days"], curve["low"], curve["high"], color=colour, alpha=0.18, step="post")
    axes.step(curve["days"], curve["survival"], where="post", color=colour)
    axes.set(xlim=(0, max(float(curve["days"].max()), age or 0, 1.0) * 1.02), ylim=(0, 1.02))
    axes.set_xlabel("days since the start of the episode")
    style.percent_axis(axes, "still in capitulation", sign=False)
    if age:
        axes.axvline(age, color=COLOURS["ink"], linewidth=1.2, linestyle=(0, (3, 2)))
        late = age > sum(axes.get_xlim()) / 2
        place = {"fontsize": 10.5, "ha": "right" if late else "left", "va": "top", "color": COLOURS["ink"]}
        axes.annotate(f" now: day {age} ", (age, 1.0), **place)
    over = curve.loc[curve["survival"] <= 0.5 + 1e-9, "days"]
    title = f"Fewer than half of {count(n, 'capitulation')} have ended"
    if len(over):
        title = f"Half of {count(n, 'capitulation')} were over after {over.iloc[0]:.0f} days"
    after = curve[curve["days"] <= 60].iloc[-1]
    alt = f"Falling steps with a {percent(confidence)} band; after 60 days {percent(after['survival'])} go on."
    return finish(figure, title, f"{alt} A dashed line marks the present one, day {age}." if age else alt)


@styled
def definitions_timeline(episodes: pd.DataFrame, panel: pd.DataFrame, *, since: str = "2011-01-01") -> Figure:
    """One row per rule, one bar per episode, on one time axis with halvings and the share of days in the state.

    `episodes` of all rules: definition, start, end, ongoing; `panel` gives the last day and the halvings.
    """
    n = episodes["definition"].value_counts(sort=False)
    if n.empty or panel.empty:
        return empty("No definition ever says capitulation")
    first, last = panel[since:].index[0] if len(panel[since:]) else panel.index[0], panel.index[-1]
    figure, axes = new_figure(height=1.5 + 0.42 * max(len(n), 2))
    axes.grid(visible=False)
    note = {"xycoords": axes.get_yaxis_transform(), "annotation_clip": False, "color": COLOURS["soft"], "fontsize": 10}
    axes.annotate("share\nof days", (1.015, -0.6), va="bottom", **note)
    for i, (_, rows) in enumerate(episodes.groupby("definition", sort=False)):
        start = rows["start"].clip(lower=first)
        length = (rows["end"].fillna(last + pd.Timedelta(days=1)) - start).dt.days.clip(lower=0)
        share = percent(length.sum() / ((last - first).days + 1))
        axes.axhline(i, color=COLOURS["faint"], linewidth=0.8, zorder=0)
        bars = [(first, days) for first, days in zip(date2num(start), length, strict=True) if days]
        axes.broken_barh(bars, (i - 0.31, 0.62), color=COLOURS["capitulation"], linewidth=0.4)
        axes.annotate(share, (1.015, i), va="center", **note)
    style.date_axis(axes, first, last, halving_days(panel), at="above")
    axes.set_yticks(range(len(n)), [style.rule_label(name) for name in n.index])
    axes.set_ylim(len(n) - 0.4, -0.6)
    now = episodes.loc[episodes["ongoing"].eq(True), "definition"].nunique()
    title = (
        f"{now} of {count(len(n), 'definition')} {'says' if now == 1 else 'say'} capitulation on {day(last)}; over the "
        f"years they count between {n.min()} and {n.max()} episodes"
    )
    told = ", ".join(f"{style.rule_words(name)} {k}" for name, k in n.items())
    return finish(figure, title, f"Bars of episodes since {first.year}, a row per definition: {told}.")


@styled
def hashprice(money: pd.DataFrame, *, halvings: Days = ()) -> Figure:
    """Revenue of one PH/s in a day (USD, log scale): the whole history above, the last four years below.

    `money` as from `mining.economics.economics` (hashprice_usd_ph_day).
    """
    known = money["hashprice_usd_ph_day"]
    known = known[known > 0]
    if known.empty:
        return empty("Hashprice is not known: this source has no revenue of miners")
    recent, now, lowest, halvings = _latest(known, 4), known.iloc[-1], known.min(), list(halvings)
    figure, panels = new_figure(2, 1, height=6.0)
    for axes, shown in zip(panels, (known, recent), strict=True):
        _log_lines(axes, [(shown, COLOURS["hashprice"])], "USD per PH/s and day", halvings)
        style.mark_present(axes, shown.index[-1], now, _amount(now), COLOURS["hashprice"])
        axes.set_title("since prices exist" if shown is known else "the last four years")
    standing = "the least ever"
    if now > lowest:
        standing = f"{percent(now / lowest - 1)} above the lowest ever, {_amount(lowest)} USD on {day(known.idxmin())}"
    alt = f"Lines on a log scale {_span(known.index)}; in the last four years {_amount(recent.max())} USD at most."
    return finish(figure, f"A PH/s earns {_amount(now)} USD a day, {standing}", alt)


@styled
def production_cost(price: pd.Series, modelled: pd.DataFrame, *, halvings: Days = ()) -> Figure:
    """Price of BTC and the modelled fleet's power cost of one BTC (USD, log scale); days below cost are filled.

    `modelled` as from `mining.economics.fleet` (production_cost_usd, n_recent, share_under_water); shown once four
    models are known. Rigs that lose money count as off: price is below this cost only while no model earns its power.
    """
    known = pd.DataFrame({"price": price, "cost": modelled["production_cost_usd"]}).dropna()
    known = known[(modelled["n_recent"].reindex(known.index) >= 4).cummax()]
    if known.empty:
        lacking = "no day has a price, revenue of miners and enough rig models"
        if modelled["share_under_water"].notna().any() and modelled["production_cost_usd"].isna().all():
            lacking = "this source does not tell the coins that miners are paid"
        return empty(f"The power cost of a coin is not known: {lacking}")
    price, cost, below = known["price"], known["cost"], known["price"] < known["cost"]
    figure, axes = new_figure()
    axes.fill_between(known.index, price, cost, where=below, color=COLOURS["capitulation"], linewidth=0.8)
    _log_lines(axes, [(cost, COLOURS["cost"]), (price, COLOURS["price"])], "USD per BTC", halvings, at="bottom")
    ends = [(price.iloc[-1], "price", COLOURS["price"]), (cost.iloc[-1], "power cost", COLOURS["cost"])]
    style.label_ends(axes, ends)
    axes.set_title("power of the models that earn it; those that lose money count as switched off")
    ratio, year = price / cost, known.index[0].year
    tail = f"some rig model has earned its power on every day since {year}"
    if below.any():
        share, latest = percent(below.mean(), 1), day(known.index[below][-1])
        tail = f"no model earned its power on {share} of days since {year}, the last {latest}"
    alt = f"Two lines on a log scale {_span(known.index)}; price over cost was {ratio.min():.2f} at its lowest."
    return finish(figure, f"BTC costs {ratio.iloc[-1]:.2f} times the power that makes it; {tail}", alt)


@styled
def puell(money: pd.DataFrame, *, threshold: float = 0.5, halvings: Days = ()) -> Figure:
    """Puell multiple (ratio, log scale): each day pale, its weekly mean dark, days below `threshold` filled.

    `money` as from `mining.economics.economics` (puell_multiple).
    """
    known = money["puell_multiple"].dropna()
    if known.empty:
        return empty("The Puell multiple is not known: it needs a year of prices and new coins")
    low, now, green, red = known[known < threshold], known.iloc[-1], COLOURS["hashprice"], COLOURS["capitulation"]
    figure, axes = new_figure(height=4.2)
    axes.fill_between(known.index, known, threshold, where=known < threshold, color=red, linewidth=0.6, zorder=2)
    axes.axhline(threshold, color=red, linewidth=1.1, linestyle="--")
    _log_lines(axes, [(known, tint(green, 0.35)), (known.rolling(7).mean(), green)], "Puell multiple", halvings)
    style.mark_present(axes, known.index[-1], now, colour=green)
    style.label_ends(axes, [(now, f"{now:.2f}", green), (threshold, f"{threshold:g}", red)])
    axes.set_title("pale: each day; dark: mean of seven days")
    title = (
        f"The Puell multiple is {now:.2f}; it was below {threshold:g} on {percent(len(low) / len(known))} of days"
        f"{f', the last time on {day(low.index[-1])}' if len(low) else ''}"
    )
    alt = f"Line on a log scale {_span(known.index)}, between {known.min():.2f} and {known.max():.2f}."
    return finish(figure, title, alt)


def _best_rigs(known: pd.DataFrame) -> list[str]:
    """The most efficient rig of each year of release that beat all before it, oldest first.

    On one day the breakeven of rigs differs by their efficiency alone, so the last day ranks them.
    """
    first = known.apply(pd.Series.first_valid_index)
    rows = pd.DataFrame({"level": known.ffill().iloc[-1], "year": pd.DatetimeIndex(first).year, "first": first})
    best = rows.sort_values("level").drop_duplicates("year", keep="last").sort_values("first")
    return list(best.index[best["level"] > best["level"].cummax().shift(fill_value=0.0)])


@styled
def rig_breakeven(breakeven: pd.DataFrame, power_price: float, *, halvings: Days = ()) -> Figure:
    """Power price (USD/kWh) at which rigs just pay for their power, log scale, beside this run's power price.

    `breakeven` as from `mining.economics.breakeven_usd_kwh` (days × rigs). Shown is the most efficient rig of each year
    that brought progress, mean of seven days, over the years for which the modelled fleet keeps it.
    """
    known = breakeven.dropna(how="all").dropna(how="all", axis=1)
    if known.empty:
        return empty("Breakeven power prices are not known: no day has both revenue of miners and a rig on sale")
    low, high, best = 0.2 * power_price, 30 * power_price, known[_best_rigs(known)]
    smooth = best.rolling(7, min_periods=1).mean().where(best.notna())
    ends = [(power_price, f"{power_price:g} assumed", COLOURS["capitulation"])]
    figure, axes = new_figure(height=4.8)
    axes.axhline(power_price, color=COLOURS["capitulation"], linewidth=1.4, linestyle="--", zorder=4)
    axes.set_ylim(low, high)
    style.date_axis(axes, known.index[0], known.index[-1], halvings)
    style.log_axis(axes, "breakeven power price, USD/kWh")
    halo = {"path_effects": [withStroke(linewidth=3, foreground="white")], "zorder": 5, "fontsize": 10.5}
    for model, colour in zip(smooth, cycle(style.SERIES_COLOURS), strict=False):
        line = smooth[model].dropna()
        line = line[: line.index[0] + pd.DateOffset(years=SERVICE_YEARS)]
        axes.plot(line, color=colour, linewidth=1.4, zorder=3)
        name = re.sub("^(Antminer|Whatsminer|AvalonMiner|Avalon) ", "", model)
        seen = line[(line > low) & (line < high / 1.3)]  # with room for a name above
        if len(seen) and seen.index[-1] == known.index[-1]:
            ends.append((seen.iloc[-1], name, colour))
        elif len(seen):
            # Named above its peak where nothing is above that, else left of its start; right of where it enters.
            at, place = seen.index[0], {"xytext": (-3, 0), "ha": "right", "va": "center"}
            if at > line.index[0]:
                place = {"xytext": (9, 0), "ha": "left", "va": "center"}
            elif smooth.loc[seen.idxmax()].max() == seen.max():
                at, place = seen.idxmax(), {"xytext": (0, 3), "ha": "center", "va": "bottom"}
            place |= halo | {"textcoords": "offset points", "color": style.text_colour(colour)}
            axes.annotate(name, (at, seen[at]), **place)
    style.label_ends(axes, ends)
    axes.set_title(f"the best rig of each year, for {SERVICE_YEARS} years from its release")
    last = known.iloc[-1].dropna()
    title = (
        f"{(last >= power_price).sum()} of {count(len(last), 'rig model')} still earn their power at "
        f"{power_price:g}\u00a0USD/kWh; the best one does up to {last.max():.3f}"
    )
    told = ", ".join(f"{name} {value:.3f}" for name, value in last.nlargest(4).items())
    return finish(figure, title, f"One line per year's best rig {_span(known.index)}; highest on the last day: {told}.")


@styled
def adjustment_bars(adjustments: pd.DataFrame, *, halvings: Days = ()) -> Figure:
    """A bar per difficulty adjustment, cuts in the colour of capitulation, runs of three cuts and more shaded.

    `adjustments` as from `mining.difficulty.adjustments` (columns date, change, negative_streak).
    """
    known = adjustments.dropna(subset=["change"]).set_index("date")
    if known.empty:
        return empty("No difficulty adjustment is known: this source has no block counts")
    change, days, fortnight, top = known["change"], known.index, pd.Timedelta(days=14), 0.4
    shown = change.clip(upper=top)
    figure, axes = new_figure()
    colours = [COLOURS["capitulation" if one < 0 else "difficulty_up"] for one in change]
    axes.bar(days, shown, width=fortnight, align="edge", color=colours)
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    style.date_axis(axes, days[0], days[-1] + fortnight)
    axes.set_ylim(min(1.25 * shown.min(), -0.05), top)
    style.percent_axis(axes, "change of difficulty")
    cuts = known[known["negative_streak"] > 0].assign(day=lambda frame: frame.index)
    runs = cuts.groupby(known["negative_streak"].eq(0).cumsum())["day"].agg(first="min", last="max", cuts="size")
    runs = runs[runs["cuts"] >= 3]
    words = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom", "fontsize": 9.5}
    for run, y in zip(runs.itertuples(), cycle((0.012, 0.06)), strict=False):  # numbers side by side would touch
        end = run.last + fortnight
        axes.axvspan(run.first, end, color=COLOURS["capitulation_shade"], zorder=0)
        axes.text(run.first + (end - run.first) / 2, y, run.cuts, color=COLOURS["capitulation"], **words)
    style.mark_halvings(axes, halvings)
    style.label_ends(axes, [(shown.iloc[-1], percent(change.iloc[-1], 1, sign=True), colours[-1])])
    ends = f"; bars end at {percent(top, sign=True)}" if (change > top).any() else ""
    axes.set_title(f"shaded, with their number: 3 and more cuts in a row{ends}")
    tail = ", never 3 in a row"
    if len(runs):
        longest = runs.loc[runs["cuts"].idxmax()]
        tail = f"; the longest run of them, {longest['cuts']}, ended on {day(longest['last'])}"
    title = f"{(change < 0).sum()} of {count(len(known), 'difficulty adjustment')} were cuts{tail}"
    deepest = f"{percent(change.min(), 1)} on {day(change.idxmin())}"
    return finish(figure, title, f"Bars {_span(days)}, the deepest cut {deepest}.")
