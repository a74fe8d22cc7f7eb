"""Charts of what BTC did after events, and how sure one can be: always beside any day, or beside every rotation.

`anchor` (start, recovery, buy, in_state) gives colour and words, `days` is the horizon; missing values are not drawn.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from capitulation.figures import style
from capitulation.figures.style import ANCHOR_COLOURS, COLOURS, as_percent, empty, finish, new_figure, styled
from capitulation.mining.difficulty import era_of, halving_days
from capitulation.mining.episodes import ANCHOR_COLUMNS, GRADES
from capitulation.study import returns as study
from capitulation.study.chance import LEVEL
from capitulation.study.events import HORIZONS
from capitulation.words import ANCHOR_WORDS, ONE_ANCHOR, count, day, p_text, percent, signed

OF_CAPITULATIONS = {"start": "of", "recovery": "from", "buy": "after"}


@styled
def event_paths(
    panel: pd.DataFrame,
    events: Any,
    *,
    name: str = "the events",
    anchor: str = "recovery",
    lag: int = 1,
    since: str = study.SINCE,
    before: int = 60,
    after: int = 365,
    days: int = 90,
) -> Figure:
    """BTC around each event, relative to the close at which it is traded: medians and middle halves, beside any day.

    `events`: days or a boolean daily Series; those since `since` whose entry has a price are drawn. `name` says in the
    title what they are, in the plural; `anchor` gives the colour, `days` is the horizon the title speaks of. Log scale.
    """
    price, name, after = panel["price_usd"], name.removeprefix("the "), max(after, days)
    sample = price.loc[since:].iloc[: -lag or None].index
    when = sample[study.event_marks(sample, events)]
    if price.loc[since:].notna().sum() < 2 or not len(when):
        return empty(f"No {name} since {since} can be held against a price")
    paths, base = (study.event_paths(price, at, before, after, lag) for at in (when, sample))
    index, colour, quartiles = paths.index, ANCHOR_COLOURS[anchor], [0.25, 0.5, 0.75]
    low, middle, high = paths.quantile(quartiles, axis=1).to_numpy()
    base_low, base_middle, base_high = base.quantile(quartiles, axis=1).to_numpy()
    figure, axes = new_figure(height=4.8)
    axes.fill_between(index, base_low, base_high, color=COLOURS["baseline_shade"])
    axes.plot(index[::10], paths.iloc[::10].to_numpy(), color=style.tint(colour), linewidth=0.6)
    axes.plot(index, np.column_stack([low, high]), color=colour, linewidth=1.1, linestyle=(0, (3, 2)))
    axes.plot(index, base_middle, color=COLOURS["baseline"], linewidth=2.2)
    axes.plot(index, middle, color=colour, linewidth=2.6)
    axes.axvline(0, color=COLOURS["ink"], linewidth=0.9)
    bottom, top = np.nanquantile([*paths.to_numpy().ravel(), *base_low, *base_high], [0.01, 0.99])
    axes.set(xlim=(index[0], index[-1]), ylim=(bottom - 0.08, top + 0.08), xlabel="days from the entry")
    style.log_return_axis(axes, "BTC relative to the entry (log scale)")
    axes.xaxis.set_major_locator(MultipleLocator(30 if len(index) < 200 else 60 if len(index) < 500 else 180))
    axes.set_title("thin: single events; dashed: their quartiles; grey band: middle half of all days")
    ends = [(middle[-1], "median\nevent", colour), (base_middle[-1], "median\nday", COLOURS["baseline"])]
    style.label_ends(axes, ends)
    known, last = paths.loc[days].dropna(), paths.iloc[-1].dropna()
    title = f"No {name} since {since} have an outcome after {days} days yet"
    if len(known):
        whose = f"the median of {len(known)}" if len(known) > 1 else "the only one of the"
        title = (
            f"{days} days after {whose} {name} BTC stood at {as_percent(known.median())}, after the median day at "
            f"{as_percent(base_middle[before + days])}"
        )
    told = f", {len(last)} to the end: {as_percent(last.min())} to {as_percent(last.max())}" if len(last) else ""
    return finish(figure, title, f"Lines from {before} days before {count(len(when), 'event')} to {after} after{told}.")


@styled
def ledger(
    panel: pd.DataFrame,
    episodes: pd.DataFrame,
    *,
    days: int = 90,
    lag: int = 1,
    since: str = study.SINCE,
    anchor: str = "recovery",
    verdict: str = "",
) -> Figure:
    """What followed each capitulation: a mark per `anchor` day (start, recovery, buy), shape and filling by its grade.

    `episodes` of one rule as from `cap.episodes`, those whose day is since `since`. Behind the marks the middle half
    and the median of any day of the same halving era. Where the outcome is not known the mark stands at the bottom.
    `verdict` ends the title, as "a split made after looking, p = 0.16 for real ones".
    """
    one, many, of = ONE_ANCHOR[anchor], ANCHOR_WORDS[anchor], OF_CAPITULATIONS[anchor]
    every, colour = study.outcomes(panel, days, lag, since), ANCHOR_COLOURS[anchor]
    rows = pd.DataFrame({"day": episodes[ANCHOR_COLUMNS[anchor]], "grade": episodes["grade"].fillna("ungraded")})
    rows = rows[rows["day"] >= pd.Timestamp(since or panel["price_usd"].first_valid_index())].sort_values("day")
    rows["after"] = every.reindex(rows["day"]).to_numpy()
    known, open_ones = rows.dropna(subset=["after"]), rows[rows["after"].isna()]
    if known.empty:
        return empty(f"No {one} since {since or 'the first price'} has an outcome after {days} days that is known")
    figure, axes = new_figure(height=4.6)
    band = {"label": "any day: middle half", "color": COLOURS["baseline_shade"], "linewidth": 0}
    line = {"label": "median", "color": COLOURS["soft"], "linewidth": 1.6, "linestyle": (0, (3, 1.5))}
    for _, own in every.groupby(era_of(every.index, panel).to_numpy()):
        low, middle, high = own.quantile([0.25, 0.5, 0.75])
        axes.fill_between(own.index[[0, -1]], low, high, **band)
        axes.hlines(middle, *own.index[[0, -1]], **line)
        band, line = band | {"label": None}, line | {"label": None}
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.9, zorder=1)
    axes.vlines(known["day"], 0, known["after"], color=style.tint(colour), linewidth=1.2, zorder=2)
    told, filling = [], {"real": colour, "doubtful": style.tint(colour), "noise-like": "white"}
    for grade in (*GRADES, "ungraded"):
        own, shape = known[known["grade"] == grade], style.GRADE_MARKERS.get(grade, "X")
        look = {"color": colour, "markerfacecolor": filling.get(grade, "white"), "markersize": 7.5, "clip_on": False}
        if len(own):
            axes.plot(own["day"], own["after"], shape, label=grade, zorder=5, **look)
            one_of = f"{(own['after'] > 0).sum()} of {len(own) if told else count(len(own), one, many)}"
            told.append(f"{one_of} {of} {grade}{'' if told else ' capitulations'}")
        for when in open_ones.loc[open_ones["grade"] == grade, "day"]:
            axes.plot(when, 0.03, shape, transform=axes.get_xaxis_transform(), zorder=5, **look)
    if len(open_ones):
        place = {"xycoords": axes.get_xaxis_transform(), "xytext": (-8, 0), "textcoords": "offset points"}
        place |= {"ha": "right", "va": "center", "fontsize": 9.5}
        axes.annotate("not known", (date2num(open_ones["day"].iloc[0]), 0.03), **place)
    low, high = axes.get_ylim()
    room = high - low  # above for the names of halvings, below for what is not known
    axes.set_ylim(low - 0.12 * room, high + 0.22 * room)
    style.date_axis(axes, min(every.index[0], rows["day"].iloc[0]), panel.index[-1], halving_days(panel))
    style.log_return_axis(axes, f"return over {days} days (log scale)")
    style.legend_above(axes, columnspacing=1.2, bbox_to_anchor=(-0.12, 0.985))
    real, others = known[known["grade"] == "real"], known[known["grade"] != "real"].sort_values("after")
    named = pd.concat([real, others.iloc[[0, -1]] if len(others) else others]).drop_duplicates("day")
    points = [(row.day, row.after, f"{row.day:%b %Y}") for row in named.itertuples()]
    style.name_points(axes, points, zip(known["day"], known["after"], strict=True))
    title = (
        f"BTC was higher {days} days after {' and '.join(filter(None, [', '.join(told[:-1]), told[-1]]))}"
        f"{' ones' if told[1:] else ''}; after {percent((every > 0).mean())} of all days{_after_all(verdict)}"
    )
    each = ", ".join(f"{row.day:%Y-%m-%d} {row.grade} {as_percent(row.after)}" for row in known.itertuples())
    alt = f"A mark for each {one} since {day(rows['day'].iloc[0])}: {each}."
    if len(open_ones):
        alt += f" Not known: what followed on {', '.join(map(day, open_ones['day']))}."
    if episodes["ongoing"].eq(True).any():
        alt += " One capitulation is under way."
    return finish(figure, title, alt)


@styled
def returns_by_horizon(
    panel: pd.DataFrame,
    events: Any,
    *,
    horizons: Iterable[int] = HORIZONS,
    lag: int = 1,
    since: str = study.SINCE,
    name: str = "the events",
    anchor: str = "recovery",
    notes: Mapping[int, str] | None = None,
    verdict: str = "",
) -> Figure:
    """Each event's return as a dot over the distribution of every day's since `since`, by holding period in days.

    The distribution is cut off half a percent from either end. `notes`: what to write under a horizon, as its p;
    `verdict` ends the title, as "lowest p = 0.03, for six looks p = 0.12". Other arguments as `event_paths`.
    """
    notes = notes or {}
    samples = {horizon: study.outcomes(panel, horizon, lag, since) for horizon in horizons}
    samples = {horizon: every for horizon, every in samples.items() if len(every)}
    own = {h: every[study.event_marks(every.index, events)].sort_values() for h, every in samples.items()}
    if not any(map(len, own.values())):
        return empty(f"No {name.removeprefix('the ')} since {since} have a known outcome yet")
    figure, axes = new_figure(height=4.8)
    inside = [every[every.between(*every.quantile([0.005, 0.995]))].to_numpy() for every in samples.values()]
    for body in axes.violinplot(inside, range(len(inside)), widths=0.86, points=80, showextrema=False)["bodies"]:
        body.set(facecolor=COLOURS["baseline_shade"], alpha=1)
    colour, told, above = ANCHOR_COLOURS[anchor], [], 0
    dots = {"color": colour, "markersize": 5, "alpha": 0.85, "markeredgecolor": "white", "markeredgewidth": 0.4}
    for at, (horizon, every) in enumerate(samples.items()):
        values, any_day = own[horizon].to_numpy(), every.median()
        axes.plot(at + _sideways(values), values, "o", zorder=3, **dots)
        axes.hlines(any_day, at - 0.36, at + 0.36, color=COLOURS["soft"], lw=2.0, linestyle=(0, (2, 1)), zorder=4)
        if len(values):
            middle = float(np.median(values))
            axes.hlines(middle, at - 0.36, at + 0.36, color=colour, linewidth=2.4, zorder=4)
            above += middle > any_day
            note = f" ({notes[horizon]})".replace("\n", ", ") if horizon in notes else ""
            told.append(f"{horizon} days {as_percent(middle)} against {as_percent(any_day)}{note}")
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8, zorder=1)
    axes.set_xticks(range(len(samples)), [f"{horizon}\n{notes.get(horizon, '')}".strip() for horizon in samples])
    axes.set(xlabel="holding period, days", xlim=(-0.6, len(samples) - 0.4))
    style.log_return_axis(axes, "return (log scale)")
    axes.set_title("dots: events, bar: their median; grey: every day, dashed: its median")
    title = (
        f"After {name} the median return beats that of any day at {above} of {count(len(told), 'horizon')}, within a "
        f"wide spread{_after_all(verdict)}"
    )
    return finish(figure, title, f"Dots over the distribution of every day. Medians: {', '.join(told)}.")


def _after_all(verdict: str) -> str:
    """How a title ends that was given a `verdict`."""
    return f"; {verdict}" if verdict else ""


def _sideways(values: np.ndarray) -> np.ndarray:
    """Shift of sorted values, so that neighbours do not hide each other: the same values, the same picture."""
    near, rank = max(float(np.ptp(values)) / 28, 1e-9) if len(values) else 0, np.zeros(len(values))
    for i in range(1, len(values)):
        rank[i] = rank[i - 1] + 1 if values[i] - values[i - 1] < near else 0
    return np.clip(np.where(rank % 2 == 1, 1, -1) * np.ceil(rank / 2) * 0.085, -0.3, 0.3)


@styled
def null_distribution(
    null: np.ndarray,
    observed: float,
    *,
    chance: str = "rotations of the calendar",
    name: str = "the real calendar",
    label: str = "excess log return over the own era: the events minus all rotations",
    anchor: str = "recovery",
    verdict: str = "",
) -> Figure:
    """Histogram of what chance gives, a line for what was found, the share at least as high shaded and in the title.

    `null`: one value for each of the cases of `chance` (their name, in the plural); `observed`: the one of `name`;
    `label`: what both measure; `verdict` ends the title, as "one of 7 looks, p = 0.03 once all are counted".
    """
    null = null[np.isfinite(null)]
    if not len(null) or not np.isfinite(observed):
        return empty("There is nothing that chance could be held against: no event has a known outcome")
    colour, p = ANCHOR_COLOURS[anchor], float((null >= observed - 1e-9).mean())
    figure, axes = new_figure(height=4.0)
    heights, edges = np.histogram(null, bins=60)
    middle, top = (edges[:-1] + edges[1:]) / 2, heights.max() * 1.5
    axes.bar(middle, heights, np.diff(edges), color=np.where(middle >= observed, colour, COLOURS["baseline_shade"]))
    axes.axvline(observed, color=colour, linewidth=2.2)
    left = observed > np.quantile(null, 0.75)
    place = {"xytext": (-6 if left else 6, 0), "textcoords": "offset points", "ha": "right" if left else "left"}
    look = {"color": style.text_colour(colour), "fontweight": "bold", "va": "top"}
    axes.annotate(f"{name}\n{signed(observed, 3)}", (observed, top), **look, **place)
    axes.set(ylim=(0, top), yticks=[], xlabel=label, title="coloured: those that do at least as well")
    axes.grid(visible=False)
    low, high = (signed(value, 3) for value in np.quantile(null, [0.05, 0.95]))
    title = (
        f"{percent(p, 1)} of {len(null):,} {chance} do at least as well as {name} ({p_text(p)}){_after_all(verdict)}"
    )
    return finish(figure, title, f"Histogram, nine in ten between {low} and {high}; observed {signed(observed, 3)}.")


@styled
def forest(table: pd.DataFrame, *, days: int = 90, anchor: str = "recovery") -> Figure:
    """Own-era excess with its interval by rule and anchor (`tables.study_table`); n, p and family p of `anchor`.

    Rules that name the same days are one row. The title names the pair of lowest family-wise p.
    """
    rows = table[(table["horizon_days"] == days) & (table["n_events"] > 0)].set_index("definition", drop=False)
    rows = rows.dropna(subset=["excess_own_era"])
    if rows.empty:
        return empty(f"No definition has an event whose excess over {days} days against its own era is known")
    first = rows["same_as"].groupby(level=0, sort=False)
    twin = first.agg(lambda of: of.iloc[0] if (of == of.iloc[0]).all() else "")  # one at every anchor
    names = style.distinct({name: of or name for name, of in twin.items()})
    rows = rows[rows["definition"].isin(names)]
    own = rows[rows["anchor"] == anchor].sort_values("excess_own_era", ascending=False)
    order = list(dict.fromkeys([*own.index, *rows.index]))
    anchors = [name for name in ANCHOR_COLOURS if name in set(rows["anchor"])]
    labels = [names[name] for name in order]
    figure, axes = new_figure(height=1.9 + 0.52 * max(len(order), 2))
    style.grid_along_x(axes, labels)
    axes.axvline(0, color=COLOURS["ink"], linewidth=0.9, zorder=1)
    for i in range(0, len(order), 2):
        axes.axhspan(i - 0.5, i + 0.5, color="#f7f5f1", zorder=0)
    for k, name in enumerate(anchors):
        found, colour = rows[rows["anchor"] == name].reindex(order), ANCHOR_COLOURS[name]
        y = np.arange(len(order)) + (k - (len(anchors) - 1) / 2) * 0.2
        axes.hlines(y, found["ci_low_own_era"], found["ci_high_own_era"], color=colour, linewidth=1.3, alpha=0.75)
        look = {"markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.4, "label": ANCHOR_WORDS[name]}
        axes.plot(found["excess_own_era"], y, style.ANCHOR_MARKERS[name], color=colour, **look)
    axes.margins(x=0.04)
    axes.set_xlabel(f"excess log return over {days} days against its own era; intervals of each look alone")
    ps = [
        p_text(p).removeprefix("p ").removeprefix("= ")
        for p in own[["p_rotation_own_era", "p_family_own_era"]].to_numpy().ravel()
    ]
    notes = [(i, f"{n:.0f}, {ps[2 * i]}, {ps[2 * i + 1]}") for i, n in enumerate(own["n_events"])]
    style.label_ends(axes, [(y, note, ANCHOR_COLOURS[anchor]) for y, note in [(-0.85, "n, p, family p"), *notes]])
    style.legend_above(axes, bbox_to_anchor=(-0.2, 1.0), borderaxespad=0.1, columnspacing=1.2)
    best = rows.sort_values(["p_family_own_era", "p_rotation_own_era"]).iloc[0]
    clear = best["p_family_own_era"] < LEVEL
    pairs = count(len(rows), "pair", "pairs")
    title = (
        f"At {days} days {'at least one' if clear else 'none'} of {pairs} of definition and signal can be told from "
        f"chance: the best, {style.rule_words(best.name)} ({ANCHOR_WORDS[best['anchor']]}), has "
        f"{p_text(best['p_rotation_own_era'])} alone and {p_text(best['p_family_own_era'])} among all"
    )
    told = [f"{style.rule_words(row.Index)} {signed(row.excess_own_era, 2)}" for row in own.itertuples()]
    return finish(figure, title, f"Points with intervals; for {ANCHOR_WORDS[anchor]}: {', '.join(told)}.")


@styled
def prequential(forecasts: pd.DataFrame, *, anchor: str = "recovery") -> Figure:
    """At each signal the forecast from earlier ones, that from earlier days, what came (`robustness.prequential`)."""
    rows = forecasts.dropna(subset=["outcome"]).reset_index(drop=True)
    both = rows.dropna(subset=["forecast", "baseline"])
    if both.empty:
        return empty("No signal had earlier ones to learn from")
    days, colour = pd.DatetimeIndex(rows["date"]), ANCHOR_COLOURS[anchor]
    figure, axes = new_figure(height=4.6)
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    axes.vlines(days, rows["forecast"], rows["outcome"], color=COLOURS["faint"], linewidth=2, zorder=1)
    axes.plot(days, rows["baseline"], "-", color=COLOURS["baseline"], linewidth=1.8, label="mean of earlier days")
    axes.plot(days, rows["forecast"], "-", color=colour, linewidth=1.8, label="mean of earlier signals")
    axes.plot(days, rows["outcome"], "o", color=COLOURS["price"], markersize=5, label="what came")
    style.date_axis(axes, days[0] - pd.Timedelta(days=60), days[-1] + pd.Timedelta(days=60))
    style.log_return_axis(axes, "return (log scale)")
    style.legend_above(axes)
    missed = both[["forecast", "baseline"]].sub(both["outcome"], axis=0)
    own, base = (missed**2).mean() ** 0.5
    title = (
        f"Over {count(len(both), 'signal')}, forecasts from earlier signals missed by "
        f"{'less' if own < base else 'no less'} than those from every earlier day ({own:.3f} against {base:.3f})"
    )
    nearer = int((missed["forecast"].abs() < missed["baseline"].abs()).sum())
    alt = f"Two lines of forecasts and dots of outcomes; the signals' forecast was the nearer one {nearer} times."
    return finish(figure, title, alt)
