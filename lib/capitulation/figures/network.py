"""Charts of what the network did: ribbons and their noise, the rules side by side, difficulty, what miners earn.

`ribbon` as from `cap.hash_ribbons`, `episodes` of one rule as from `cap.episodes`. A chart without anything to draw
says in its title what is missing.
"""

from collections.abc import Iterable
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from capitulation.figures import style
from capitulation.figures.style import COLOURS, empty, finish, new_figure, plain_number, styled, tint
from capitulation.mining.difficulty import halving_days
from capitulation.study.returns import SINCE
from capitulation.words import count, day, exactly, percent

DOT = {"zorder": 5, "markeredgecolor": "white", "markeredgewidth": 0.6}


def _in_view(episodes: pd.DataFrame, first: pd.Timestamp, last: pd.Timestamp) -> pd.DataFrame:
    """The episodes that reach into the days from `first` to `last`, cut at `first`."""
    reaching = episodes[(episodes["end"].isna() | (episodes["end"] > first)) & (episodes["start"] <= last)]
    return reaching.assign(start=reaching["start"].clip(lower=first))


def _span(index: pd.Index) -> str:
    return f"from {day(index[0])} to {day(index[-1])}"


def _log_lines(axes: Axes, lines: list[tuple[pd.Series, str, str]], label: str) -> None:
    """Daily series on a log scale, each in its colour and, where it has a name, marked and named at its last day."""
    for line, colour, name in lines:
        last = {"marker": "o", "markersize": 5.5, "markevery": [-1] if name else [], "clip_on": False}
        axes.plot(line, color=colour, linewidth=1.2, **last)
    style.log_axis(axes, label)
    style.label_ends(axes, [(line.iloc[-1], name, colour) for line, colour, name in lines if name])


def _fill_below(axes: Axes, line: pd.Series, level: pd.Series | float) -> str:
    """Fill the days on which `line` lies below `level`, and say how many and when last."""
    below = line < level
    axes.fill_between(line.index, line, level, where=below, color=COLOURS["capitulation"], linewidth=0.8, zorder=3)
    return f"{percent(below.mean(), 1)} of days{f', last {day(line.index[below][-1])}' if below.any() else ''}"


def _panels(panel: pd.DataFrame, days: pd.DatetimeIndex, **known: Any) -> tuple[Figure, dict[str, Axes]]:
    """A panel by name for each of `known` that holds something, on one time axis."""
    names = [name for name, one in known.items() if len(one)]
    figure, axes = new_figure(len(names), height=1.3 + 2.3 * len(names), sharex=True, squeeze=False)
    for axis in figure.axes:
        style.date_axis(axis, days[0], days[-1], halving_days(panel))
    return figure, dict(zip(names, axes.ravel(), strict=True))


@styled
def capitulations(panel: pd.DataFrame, ribbon: pd.DataFrame, episodes: pd.DataFrame) -> Figure:
    """Price, both means of hash rate and the gap between them on the days of `panel`, `episodes` of one rule shaded.

    Price in USD with start, recovery and buy signal marked; the means in EH/s; the gap over two standard errors of
    block luck, the deepest day of each episode marked by its grade. For a part of the history, pass that part of the
    panel.
    """
    price, means = panel["price_usd"].dropna(), ribbon.reindex(panel.index)
    means = means[means["gap"].first_valid_index() : means["gap"].last_valid_index()]
    gap = means["gap"].dropna()
    days = price.index.union(gap.index)
    if days.empty:
        return empty("No day has a price or both means of hash rate")
    found, told = _in_view(episodes, days[0], days[-1]), []
    priced = _in_view(found, price.index[0], price.index[-1]) if len(price) else found
    deep, ongoing = found["grade"].eq("real").sum(), ", one under way" if found["ongoing"].eq(True).any() else ""
    drawn = f" ({len(priced)} while a price is known)" if len(priced) < len(found) else ""
    since = f"since {found['start'].min().year}{drawn}, {deep} deeper than block luck explains{ongoing}"
    never = "No capitulation counts" if len(gap) else "Both means of hash rate are not known on any day"
    facts = [f"{count(len(found), 'capitulation')} {since}" if len(found) else never]
    figure, at = _panels(panel, days, price=price, means=gap, gap=gap)
    if len(price):
        _log_lines(at["price"], [(price, COLOURS["price"], f"{plain_number(price.iloc[-1])}\nUSD")], "BTC, USD")
        at["price"].margins(y=0.12)
        # Starts above the line, recoveries on it, buy signals below: they often fall on neighbouring days.
        for anchor, column, points in (("start", "start", 8), ("recovery", "end", 0), ("buy", "buy_date", -8)):
            when = price.index.intersection(pd.DatetimeIndex(found[column].dropna()))
            look = {"color": COLOURS[anchor], "label": "buy signal" if anchor == "buy" else anchor, **DOT}
            moved = at["price"].transData + ScaledTranslation(0, points / 72, figure.dpi_scale_trans)
            at["price"].plot(when, price[when], style.ANCHOR_MARKERS[anchor], transform=moved, **look)
        ended = found.dropna(subset=["end", "price_start", "price_end"])
        rose = (ended["price_end"] > ended["price_start"]).sum()
        told.append(f"Price, {price.iloc[-1]:,.0f} USD on {day(price.index[-1])}")
        if len(ended):
            told[-1] += f", rose during {rose} of {len(ended)} that are over and have a price at both ends"
    if len(gap):
        noise, low, now = 2 * means["gap_se"], gap.min(), percent(gap.iloc[-1], 1, sign=True)
        _log_lines(at["means"], [(means[mean], COLOURS[mean], mean) for mean in ("slow", "fast")], "means, EH/s")
        at["gap"].fill_between(means.index, -noise, noise, color=COLOURS["noise"], label="±2 SE of block luck")
        at["gap"].plot(means["gap"], color=COLOURS["hash_rate"], linewidth=1.0)
        at["gap"].axhline(0, color=COLOURS["ink"], linewidth=0.8)
        at["gap"].set_ylim(min(low * 1.15, -0.04), max(min(gap.max(), 0.3), 0.05) * 1.3)  # early booms are cut
        style.percent_axis(at["gap"], "gap: fast over slow")
        for grade in style.GRADE_MARKERS:
            rows = found[found["grade"] == grade]
            parts = [gap[a : b if pd.notna(b) else None] for a, b in zip(rows["start"], rows["end"], strict=True)]
            deepest = pd.DatetimeIndex([part.idxmin() for part in parts if len(part)])
            look = style.grade_look(grade, COLOURS["capitulation"]) | {"label": f"{grade} ({len(rows)})", "zorder": 5}
            at["gap"].plot(deepest, gap[deepest], **look)
        shown = min(gap.iloc[-1], at["gap"].get_ylim()[1])
        style.mark_present(at["gap"], gap.index[-1], shown, now, COLOURS["hash_rate"])
        z = abs(means["gap_z"].iloc[-1])  # missing where no error is known
        side = ", within block luck" if z <= 2 else ", beyond block luck" if z > 2 else ""
        facts.append(f"on {day(gap.index[-1])} the gap is {now}{side}")
        told.append(f"Gap {_span(gap.index)}, lowest {percent(low, 1)} on {day(gap.idxmin())}")
    for axes in figure.axes:
        style.shade_episodes(axes, found, days[-1], label="capitulation" if axes is figure.axes[0] else None)
        for lines in axes.collections if axes is not figure.axes[0] else ():
            if lines.get_label() == "halving":  # named once
                lines.set_label(None)
        if axes.get_legend_handles_labels()[0]:
            style.legend_above(axes)
    return finish(figure, "; ".join(facts), f"On one time axis, the days in capitulation shaded. {'. '.join(told)}.")


@styled
def survival(curve: pd.DataFrame, *, age: int | None = None, confidence: float = 0.95) -> Figure:
    """Kaplan-Meier curve of episode length (`survival_curve`) with its band; `age` (days) of a present one marked."""
    n = int(curve["n_at_risk"].iloc[0])
    if not n:
        return empty("There is no capitulation whose length could be measured")
    figure, axes = new_figure(height=3.8)
    colour, reach = COLOURS["capitulation"], max(float(curve["days"].max()), age or 0, 1.0) * 1.02
    axes.fill_between(curve["days"], curve["low"], curve["high"], color=colour, alpha=0.18, step="post")
    axes.step(curve["days"], curve["survival"], where="post", color=colour)
    axes.set(xlim=(0, reach), ylim=(0, 1.02), xlabel="days since the start of the episode")
    style.percent_axis(axes, "still in capitulation", sign=False)
    over = curve.loc[curve["survival"] <= 0.5 + 1e-9, "days"]
    title = f"Fewer than half of {count(n, 'capitulation')} ended so far"
    if len(over):
        title = f"Half of {count(n, 'capitulation')} were over after {over.iloc[0]:.0f} days"
    after = percent(curve.loc[curve["days"] <= 60, "survival"].iloc[-1])
    alt = f"Falling steps with a {exactly(confidence)} band; after 60 days {after} go on."
    if age:
        axes.axvline(age, color=COLOURS["ink"], linewidth=1.2, linestyle=(0, (3, 2)))
        axes.text(age, 1.0, f" now: day {age} ", ha="right" if age > reach / 2 else "left", va="top")
        alt += f" A dashed line marks the present one, day {age}."
    return finish(figure, title, alt)


@styled
def definitions_timeline(
    episodes: pd.DataFrame, panel: pd.DataFrame, states: pd.DataFrame, *, since: str = SINCE
) -> Figure:
    """A row per rule, a bar per episode, halvings, the share of known days in the state: all of the days from `since`.

    `episodes` and `states` as of `apply_rules`; rules that hold on the same days are one row.
    """
    first, last, states = panel[since:].index.min(), panel.index[-1], states[since:]
    if states.empty or not states.any(axis=None):
        return empty(f"No definition says capitulation on any day since {since}")
    shown = _in_view(episodes, first, last)
    bars = {name: shown[shown["definition"] == name] for name in states}
    labels = style.distinct({name: (*rows["start"], *rows["days"]) or name for name, rows in bars.items()})
    n = pd.Series({name: len(bars[name]) for name in labels if states[name].notna().any()})
    figure, axes = style.new_rows(list(labels.values()), each=0.42, other=1.9)
    axes.grid(visible=False)
    notes = [(axes.get_ylim()[1] - 0.45, "share\nof days", COLOURS["soft"])]
    for i, name in enumerate(labels):
        axes.axhline(i, color=COLOURS["faint"], linewidth=0.8, zorder=0)
        look = {"color": COLOURS["capitulation"], "linewidth": 0.4, "zorder": 1}
        style.shade_episodes(axes, bars[name], last, (i - 0.31, 0.62), **look)
        notes.append((i, percent(float(states[name].astype(float).mean())), COLOURS["soft"]))
    style.date_axis(axes, first, last, halving_days(panel))
    style.label_ends(axes, notes)
    axes.set_title("dotted: halvings of the miners' reward")
    now = states[list(labels)].iloc[-1].dropna()
    episodes_each = count(n.max(), "episode") if n.min() == n.max() else f"{n.min()} to {count(n.max(), 'episode')}"
    title = (
        f"{now.sum()} of {count(len(now), 'definition')} known on {day(last)} {'says' if now.sum() == 1 else 'say'} "
        f"capitulation; since {first.year} they count {episodes_each}"
    )
    told = ", ".join(f"{style.rule_words(name)} {n.get(name, 'not known')}" for name in labels)
    return finish(figure, title, f"Bars of episodes since {day(first)}, a row per definition: {told}.")


@styled
def mining_economics(panel: pd.DataFrame, money: pd.DataFrame, fleet: pd.DataFrame, threshold: float = 0.5) -> Figure:
    """Hashprice, price beside the modelled fleet's power cost of one BTC, Puell multiple: log scales, one time axis.

    `money` as from `cap.economics`, `fleet` as from `cap.fleet`, whose cost is shown once four models are known.
    Rigs that lose money count as off, so price is below that cost only while no model earns its power. Days below the
    cost, and below `threshold`, are filled.
    """
    earned, puell = money["hashprice_usd_ph_day"], money["puell_multiple"].dropna()
    earned = earned[earned > 0]
    both = pd.DataFrame({"price": panel["price_usd"], "cost": fleet["production_cost_usd"]}).dropna()
    both = both[(fleet["n_recent"].reindex(both.index) >= 4).cummax()]
    days = earned.index.union(both.index).union(puell.index)
    if days.empty:
        return empty("No day has the revenue of miners, the power cost of a coin or a year of new coins")
    figure, at = _panels(panel, days, earned=earned, cost=both, puell=puell)
    facts, green = [], COLOURS["hashprice"]
    if len(earned):
        now, lowest = earned.iloc[-1], earned.min()
        times = now / lowest
        above = f"{percent(times - 1)} above" if times < 10 else f"{plain_number(times)} times"
        above = f"{above} the lowest" if times > 1 else "the least"
        facts.append(f"a PH/s earns {plain_number(now)} USD a day, {above} since {earned.index[0].year}")
        at["earned"].set_title(
            f"hashprice; lowest: {plain_number(lowest)} USD on {day(earned.idxmin())}; dotted: halvings"
        )
        _log_lines(at["earned"], [(earned, green, plain_number(now))], "USD per PH/s")
    if len(both):
        facts.append(f"BTC costs {(both['price'] / both['cost']).iloc[-1]:.2f} times the power that makes it")
        below = _fill_below(at["cost"], both["price"], both["cost"])
        at["cost"].set_title(f"filled, no rig model earned its power: {below}")
        _log_lines(at["cost"], [(both[name], COLOURS[name], name) for name in ("cost", "price")], "USD per BTC")
    if len(puell):
        facts.append(f"the Puell multiple is {puell.iloc[-1]:.2f}")
        below = _fill_below(at["puell"], puell, threshold)
        at["puell"].set_title(f"pale: each day, dark: seven days; filled, below {threshold:g}: {below}")
        at["puell"].axhline(threshold, color=COLOURS["capitulation"], linewidth=1.1, linestyle="--")
        lines = [(puell, tint(green, 0.35), ""), (puell.rolling(7).mean(), green, "")]
        _log_lines(at["puell"], lines, "Puell multiple")
        style.mark_present(at["puell"], puell.index[-1], puell.iloc[-1], f"{puell.iloc[-1]:.2f}", green)
    title, alt = "; ".join(facts), f"Lines on one time axis, {_span(days)}, on log scales."
    return finish(figure, title[0].upper() + title[1:], alt)


@styled
def rig_breakeven(rigs: pd.DataFrame, power_price: float) -> Figure:
    """Power price (USD/kWh) up to which each rig earns its power (`rigs_under_water`), a row each, the best at the top.

    A dashed line stands at `power_price`; rigs that lose money there are marked by a triangle, the others by a dot.
    """
    rows = rigs.sort_values("breakeven_usd_kwh", ascending=False).reset_index(names="model")
    if rows.empty:
        return empty("Breakeven power prices are not known: no current rig on a day with revenue of miners")
    model, best = rows["model"], rows["breakeven_usd_kwh"].iloc[0]
    figure, axes = style.new_rows(list(model), each=0.27)
    axes.set(xlim=(0, 1.06 * max(best, power_price)), xlabel="breakeven power price, USD/kWh")
    axes.axvline(power_price, color=COLOURS["ink"], linewidth=1.2, linestyle="--", label=f"{power_price:g} assumed")
    notes = []
    for loses, own in rows.groupby("under_water"):
        paid, says = own["breakeven_usd_kwh"], "at a loss" if loses else "earn their power"
        colour, marker = COLOURS["capitulation" if loses else "hashprice"], "v" if loses else "o"
        axes.hlines(own.index, power_price, paid, color=tint(colour), linewidth=2.5)
        look = {"color": colour, "label": f"{says} ({len(own)})", **DOT, "markersize": 7}
        axes.plot(paid, own.index, marker, **look)
        notes += [(at, f"{value:.3f}", colour) for at, value in paid.items()]
    style.label_ends(axes, notes)
    style.legend_above(axes)
    title = (
        f"{len(rows) - rows['under_water'].sum()} of {count(len(rows), 'current rig model')} can pay {power_price:g}"
        f"\u00a0USD/kWh for power; the best one, {model[0]}, up to {best:.3f}"
    )
    told = ", ".join(f"{model[at]} {note}" for at, note, _ in notes)
    return finish(figure, title, f"Dots and triangles beside a line at {power_price:g}. USD/kWh: {told}.")


@styled
def adjustment_bars(adjustments: pd.DataFrame, *, halvings: Iterable[object] = ()) -> Figure:
    """A bar per difficulty adjustment (`cap.adjustments`), cuts coloured, runs of three shaded, `halvings` marked."""
    known = adjustments.dropna(subset=["change"]).reset_index(drop=True)
    if known.empty:
        return empty("No difficulty adjustment is known: that takes the height of the chain on two days around one")
    days, change, streak = pd.DatetimeIndex(known["date"]), known["change"], known["negative_streak"]
    fortnight, top = pd.Timedelta(days=14), 0.4
    shown = change.clip(upper=top)
    figure, axes = new_figure()
    colours = [COLOURS["capitulation" if one < 0 else "difficulty_up"] for one in change]
    style.bars(axes, date2num(days), shown, fortnight.days, colours)
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    style.date_axis(axes, days[0], days[-1] + fortnight, halvings)
    axes.set_ylim(min(1.25 * shown.min(), -0.05), top)
    style.percent_axis(axes, "change of difficulty")
    at = streak.index[(streak >= 3) & (streak.shift(-1, fill_value=0) <= streak)]  # the last cut of each run
    runs = pd.DataFrame({"start": days[at - streak[at] + 1], "end": days[at] + fortnight, "cuts": streak[at]})
    style.shade_episodes(axes, runs, days[-1])
    look = {"color": COLOURS["capitulation"], "ha": "center", "va": "bottom"}
    for run, y in zip(runs.itertuples(), cycle((0.012, 0.06)), strict=False):  # numbers side by side would touch
        middle = run.start + (run.end - run.start) / 2
        axes.text(middle, y, run.cuts, transform=axes.get_xaxis_transform(), **look)
    style.label_ends(axes, [(shown.iloc[-1], percent(change.iloc[-1], 1, sign=True), colours[-1])])
    ends = f"; bars end at {percent(top, sign=True)}" if (change > top).any() else ""
    axes.set_title(f"shaded, numbered: 3 and more cuts in a row; dotted: halvings{ends}")
    tail = ", never 3 in a row" if (change < 0).any() else ""
    if len(runs):
        tail = f"; the longest run of them, {runs['cuts'].max()}, ended on {day(days[runs['cuts'].idxmax()])}"
    title = f"{(change < 0).sum()} of {count(len(known), 'difficulty adjustment')} were cuts{tail}"
    deepest = f", the deepest cut {percent(change.min(), 1)} on {day(days[change.idxmin()])}"
    return finish(figure, title, f"Bars {_span(days)}{deepest if change.min() < 0 else ''}.")
