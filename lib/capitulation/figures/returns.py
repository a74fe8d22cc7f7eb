"""Charts of what BTC did after events, and how sure one can be: always beside any day, or beside every rotation.

`anchor` (start, recovery, buy, in_state) gives colour and words, `days` is the horizon; missing values are not drawn.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from capitulation.figures import style
from capitulation.figures.style import ANCHOR_COLOURS, COLOURS, as_percent, empty, finish, new_figure, styled
from capitulation.mining.difficulty import era_of
from capitulation.mining.episodes import ANCHOR_COLUMNS, GRADES
from capitulation.study import returns as study
from capitulation.study.chance import LEVEL
from capitulation.study.events import HORIZONS
from capitulation.words import ANCHOR_WORDS, OF_CAPITULATIONS, ONE_ANCHOR, count, day, p_text, percent, signed


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
    grades: pd.Series | None = None,
) -> Figure:
    """BTC around each event, relative to the close at which it is traded: the median beside any day, a few single ones.

    `events`: days or a boolean daily Series; those since `since` whose entry has a price count. `name` says in the
    title what they are, in the plural; `anchor` gives the colour, `days` is the horizon the title speaks of. Log scale.
    Single lines, named by their month, of those known to the end: those that `grades` (by day of the event) calls real,
    else the two highest and the two lowest.
    """
    price, name, after = panel["price_usd"], name.removeprefix("the "), max(after, days)
    sample = price.loc[since:].iloc[: -lag or None].index
    when = sample[study.event_marks(sample, events)]
    if price.loc[since:].notna().sum() < 2 or not len(when):
        return empty(f"No {name} since {since} can be held against a price")
    paths, base = (study.event_paths(price, at, before, after, lag) for at in (when, sample))
    index, colour = paths.index, ANCHOR_COLOURS[anchor]
    middle = paths.median(axis=1)
    base_low, base_middle, base_high = _quantiles(base, (0.25, 0.5, 0.75))
    at_end = paths.columns[paths.iloc[-1].notna()]
    by_rank = paths.iloc[-1].dropna().sort_values(kind="stable").index
    single, which = by_rank[:2].union(by_rank[-2:]), "the highest and lowest at the end"
    if grades is not None:
        real = at_end.intersection(grades.index[grades == "real"])
        if len(real):
            single, which = real, f"after real capitulations, known for {after} days"
    figure, axes = new_figure(height=4.8)
    axes.fill_between(index, base_low, base_high, color=COLOURS["baseline_shade"], linewidth=0)
    axes.plot(index, base_middle, color=COLOURS["baseline"], linewidth=2.2, linestyle=(0, (3, 1.2)))
    axes.plot(paths.loc[0:, single], color=style.tint(colour, 0.6), linewidth=0.9)
    axes.plot(middle, color=colour, linewidth=2.6)
    axes.axvline(0, color=COLOURS["ink"], linewidth=0.9)
    bottom, top = np.nanquantile(
        [*paths.loc[0:, single].to_numpy().ravel(), *middle, *base_low, *base_high], [0.001, 0.999]
    )
    axes.set(xlim=(index[0], index[-1]), ylim=(bottom - 0.08, top + 0.08), xlabel="days from the entry")
    style.log_return_axis(axes, "BTC relative to the entry (log scale)")
    step = (30 if len(index) < 200 else 60 if len(index) < 500 else 180) * (2 if style.is_narrow() else 1)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.set_title(f"thin: {which}; grey band: middle half of all days")
    ends = [(middle.iloc[-1], "median event", colour), (base_middle[-1], "median day", COLOURS["baseline"])]
    ends += [(paths[at].iloc[-1], f"{at:%b %Y}", style.tint(colour, 0.8)) for at in single]
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
    """What followed each capitulation, in order of time: a mark per `anchor` day, shape and filling by its grade.

    `episodes` of one rule as from `cap.episodes`; those count whose `anchor` day (start, recovery, buy) is since
    `since`. Marks stand side by side, as far apart as all others; behind them the middle half and the median of any day
    of the same halving era. Where the outcome is not known the mark stands at the bottom. `verdict` ends the title, as
    "a split made after looking, p = 0.16 for real ones".
    """
    one, many, of = ONE_ANCHOR[anchor], ANCHOR_WORDS[anchor], OF_CAPITULATIONS[anchor]
    every, colour = study.outcomes(panel, days, lag, since), ANCHOR_COLOURS[anchor]
    rows = pd.DataFrame({"day": episodes[ANCHOR_COLUMNS[anchor]], "grade": episodes["grade"].fillna("ungraded")})
    rows = rows[rows["day"] >= pd.Timestamp(since or panel["price_usd"].first_valid_index())]
    rows = rows.sort_values("day").reset_index(drop=True)
    rows["after"], rows["era"] = every.reindex(rows["day"]).to_numpy(), era_of(rows["day"], panel).to_numpy()
    known, open_ones = rows.dropna(subset=["after"]), rows[rows["after"].isna()]
    if known.empty:
        return empty(f"No {one} since {since or 'the first price'} has an outcome after {days} days that is known")
    figure, axes = new_figure(height=4.8)
    axes.set_xlim(-0.8, len(rows) - 0.2)
    per_mark = 72 * (figure.get_figwidth() - 0.9) / (len(rows) + 0.6)  # points
    size, wide = max(4.5, min(8.0, 0.8 * per_mark)), 0.55 * mpl.rcParams["font.size"]
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.9, zorder=1)
    axes.vlines(known.index, 0, known["after"], color=style.tint(colour), linewidth=1.2, zorder=2)
    told = []
    for grade in (*GRADES, "ungraded"):
        own = known[known["grade"] == grade]
        look = style.grade_look(grade, colour) | {"markersize": size, "clip_on": False, "zorder": 5}
        if len(own):
            axes.plot(own["after"], label=grade, **look)
            one_of = f"{(own['after'] > 0).sum()} of {len(own) if told else count(len(own), one, many)}"
            told.append(f"{one_of} {of} {grade}{'' if told else ' capitulations'}")
        for at in open_ones.index[open_ones["grade"] == grade]:
            axes.plot(at, 0.03, transform=axes.get_xaxis_transform(), **look)
    band = {"label": "era's middle half", "color": COLOURS["baseline_shade"], "linewidth": 0, "zorder": 0}
    line = {"label": "era's median", "color": COLOURS["soft"], "linewidth": 1.6, "linestyle": (0, (3, 1.5))}
    era_each_day, names = era_of(every.index, panel).to_numpy(), []
    for era, own in rows.groupby("era"):
        left, right = own.index[0] - 0.5, own.index[-1] + 0.5
        if (era_each_day == era).any():
            low, middle, high = every[era_each_day == era].quantile([0.25, 0.5, 0.75])
            axes.fill_between([left, right], low, high, **band)
            axes.hlines(middle, left, right, **line, zorder=1)
            band, line = band | {"label": None}, line | {"label": None}
        if right < len(rows) - 0.5:
            axes.axvline(right, color=COLOURS["baseline"], linewidth=1, linestyle=(0, (1, 2)), zorder=1)
        names.append(((left + right) / 2, f"{era}", per_mark * len(own)))
    if len(open_ones):
        place = {"xycoords": axes.get_xaxis_transform(), "xytext": (-size, 0), "textcoords": "offset points"}
        axes.annotate("not known yet", (open_ones.index[0], 0.03), ha="right", va="center", **place)
    low, high = axes.get_ylim()
    room = high - low  # above for the names of eras, below for what is not known
    axes.set_ylim(low - 0.12 * room, high + 0.16 * room)
    place = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "top", "color": COLOURS["soft"]}
    long = all(wide * len(f"era {era}") < room for _, era, room in names)
    for x, era, room in names:
        if wide * len(era) < room:
            axes.text(x, 0.985, f"era {era}" if long else era, **place)
    style.log_return_axis(axes, f"return over {days} days (log scale)")
    years = rows["day"].dt.year.drop_duplicates()
    ticks, last = {}, -np.inf
    for at, year in years.items():
        if (at - last) * per_mark > 6 * wide:
            ticks[at], last = year, at
    axes.set_xticks(list(ticks), list(ticks.values()))
    style.legend_above(axes, bbox_to_anchor=(-0.12, 1.0))
    real, others = known[known["grade"] == "real"], known[known["grade"] != "real"].sort_values("after")
    named = pd.concat([real, others.iloc[[0, -1]] if len(others) else others]).drop_duplicates("day")
    points = [(row.Index, row.after, f"{row.day:%b %Y}") for row in named.itertuples()]
    style.name_points(axes, points, known["after"].items())
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
    below = {horizon: notes.get(horizon, "") for horizon in samples}
    label = "holding period, days"
    if notes and style.is_narrow():  # no room for their names at every tick
        heads = [note.split(" ")[0] for note in max(below.values(), key=len).split("\n")]
        below = {horizon: re.sub(r"\w+ = ", "", note).replace("p <", "<") for horizon, note in below.items()}
        label = f"{label}; below: {', '.join(heads)}"
    axes.set_xticks(range(len(samples)), [f"{horizon}\n{note}".strip() for horizon, note in below.items()])
    axes.set(xlabel=label, xlim=(-0.6, len(samples) - 0.4))
    style.log_return_axis(axes, "return (log scale)")
    axes.set_title("dots: events, bar: their median; grey: every day, dashed: its median")
    title = (
        f"After {name} the median return beats that of any day at {above} of {count(len(told), 'horizon')}"
        f"{_after_all(verdict or 'single ones spread widely')}"
    )
    return finish(figure, title, f"Dots over the distribution of every day. Medians: {', '.join(told)}.")


def _quantiles(table: pd.DataFrame, levels: Sequence[float]) -> np.ndarray:
    """A row per level: `table.quantile(levels, axis=1)`, by sorting once."""
    ranked, last = np.sort(table.to_numpy(), axis=1), table.count(axis=1).to_numpy() - 1  # missing values come last
    at = np.outer(levels, last).clip(0)
    row, below, above = np.arange(len(ranked)), np.floor(at).astype(int), np.ceil(at).astype(int)
    return ranked[row, below] + (at - below) * (ranked[row, above] - ranked[row, below])


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
def nulls(cases: Mapping[str, tuple[np.ndarray, float, str]], *, anchor: str = "recovery", verdict: str = "") -> Figure:
    """What chance gives beside what was found: a histogram each, the share at least as high coloured and in the title.

    `cases`: by name, as "this rule", one value for each rotation of the calendar, the true one's, and what both
    measure; one without a value is left out. `verdict` ends the title, as "one of 7 looks".
    """
    kept = {name: (null[np.isfinite(null)], *rest) for name, (null, *rest) in cases.items()}
    kept = {name: case for name, case in kept.items() if len(case[0]) and np.isfinite(case[1])}
    if not kept:
        return empty("There is nothing that chance could be held against: no event has a known outcome")
    colour, told, alts = ANCHOR_COLOURS[anchor], [], []
    figure, panels = new_figure(len(kept), height=1.2 + 2.1 * len(kept), squeeze=False)
    for axes, (name, (null, observed, label)) in zip(panels[:, 0], kept.items(), strict=True):
        p = float((null >= observed - 1e-9).mean())
        heights, edges = np.histogram(null, bins=60)
        middle, top = (edges[:-1] + edges[1:]) / 2, heights.max() * 1.7
        colours = np.where(middle >= observed, colour, COLOURS["baseline_shade"])
        style.bars(axes, edges[:-1], heights, np.diff(edges), colours)
        axes.axvline(observed, color=colour, linewidth=2.2)
        left = observed > (edges[0] + edges[-1]) / 2
        place = {"xytext": (-6 if left else 6, 0), "textcoords": "offset points", "ha": "right" if left else "left"}
        look = {"color": style.text_colour(colour), "fontweight": "bold", "va": "top"}
        axes.annotate(f"the real calendar: {signed(observed, 2)}\n{p_text(p)}", (observed, top), **look, **place)
        axes.set(ylim=(0, top), yticks=[], xlabel=label, title=name)
        axes.grid(visible=False)
        times = f"{len(null):,} rotations of the calendar do at least as well as the real one" if not told else "them"
        told.append(f"{percent(p, 1)} of {times} for {name} ({p_text(p)})")
        low, high = (signed(value, 2) for value in np.quantile(null, [0.05, 0.95]))
        alts.append(f"{name}, nine in ten between {low} and {high}, observed {signed(observed, 2)}")
    title = f"{', '.join(told)}{_after_all(verdict)}"
    return finish(figure, title, f"Histograms, the tail from the real calendar on coloured: {'; '.join(alts)}.")


@styled
def forest(table: pd.DataFrame, *, days: int = 90, anchor: str = "recovery") -> Figure:
    """Own-era excess after `anchor` with its interval, a row a rule (`tables.study_table`), sorted by family-wise p.

    Beside each n, p and family p, which counts every rule and anchor of `table` at that horizon. Rules that name the
    same days are one row.
    """
    rows = table[(table["horizon_days"] == days) & (table["n_events"] > 0)].set_index("definition", drop=False)
    rows = rows.dropna(subset=["excess_own_era"])
    first = rows["same_as"].groupby(level=0, sort=False)
    twin = first.agg(lambda of: of.iloc[0] if (of == of.iloc[0]).all() else "")  # one at every anchor
    names = style.distinct({name: of or name for name, of in twin.items()})
    rows, many = rows[rows["definition"].isin(names)], ANCHOR_WORDS[anchor]
    own = rows[rows["anchor"] == anchor].sort_values(["p_family_own_era", "p_rotation_own_era"], kind="stable")
    if own.empty:
        return empty(f"No definition has {many} whose excess over {days} days against their own era is known")
    figure, axes = style.new_rows([names[name] for name in own.index], each=0.42, other=1.9)
    axes.axvline(0, color=COLOURS["ink"], linewidth=0.9, zorder=1)
    top = axes.get_ylim()[1]
    for row in range(0, len(own), 2):
        axes.axhspan(row + top, row + top + 1, color="#f7f5f1", zorder=0)
    colour, y = ANCHOR_COLOURS[anchor], np.arange(len(own))
    axes.hlines(y, own["ci_low_own_era"], own["ci_high_own_era"], color=colour, linewidth=1.6)
    axes.plot(own["excess_own_era"], y, style.ANCHOR_MARKERS[anchor], color=colour, markersize=7, zorder=5)
    axes.margins(x=0.04)
    axes.set_xlabel(f"excess log return over {days} days against its own era")
    ps = own[["p_rotation_own_era", "p_family_own_era"]].map(lambda p: p_text(p).removeprefix("p ").removeprefix("= "))
    columns = {"n": own["n_events"].map("{:.0f}".format), "p": ps.iloc[:, 0], "family\np": ps.iloc[:, 1]}
    look = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "annotation_clip": False}
    for head, cells, right in zip(columns, columns.values(), (20, 59, 96), strict=True):
        for at, text in ((top - 0.05, head), *zip(y, cells, strict=True)):
            place = {"xytext": (right, 0), "ha": "right", "va": "bottom" if text == head else "center"}
            axes.annotate(text, (1.0, at), **place, **look)
    best = own.iloc[0]
    clear = "at least one stands out" if best["p_family_own_era"] < LEVEL else "none can be told from chance"
    title = (
        f"Of {count(len(own), 'definition')} {clear} {days} days after its {many}: the best, "
        f"{style.rule_words(best.name)}, has {p_text(best['p_rotation_own_era'])} alone and "
        f"{p_text(best['p_family_own_era'])} once all {count(len(rows), 'look')} are counted"
    )
    told = ", ".join(f"{style.rule_words(row.Index)} {signed(row.excess_own_era, 2)}" for row in own.itertuples())
    return finish(figure, title, f"Points with intervals, by family-wise p: {told}.")
