"""Episodes: when each definition says capitulation, how far definitions agree, and what noise alone would show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.mining.protocol import halving_days
from capitulation.plots.axes import (
    date_axis,
    day,
    mark_halvings,
    mark_present,
    of_definition,
    percent_axis,
    shade_episodes,
)
from capitulation.plots.chart import Chart
from capitulation.plots.empty import empty
from capitulation.plots.forest import definition_label
from capitulation.plots.style import (
    COLOURS,
    SEQUENTIAL,
    colour_map,
    drop_left_grid,
    finish,
    new_figure,
    styled,
    text_colour,
)
from capitulation.words import DEFINITION_WORDS, count, p_text, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR_HEIGHT = 0.62
FALLING_LIKELY = 0.95
TIMELINE_START = "2011-01-01"


@styled
def definitions_timeline(episodes: pd.DataFrame, panel: pd.DataFrame, start: str = TIMELINE_START) -> Chart:
    """One row per definition, one bar per episode, on one time axis with halvings and the present.

    `episodes`: the contract's table of all definitions; `panel`: for the last day and the halvings.
    """
    first, last = max(pd.Timestamp(start), panel.index[0]), panel.index[-1]
    names = list(dict.fromkeys(episodes["definition"]))
    if not names:
        return empty("No definition ever says capitulation")
    shares = {name: _share_of_days(of_definition(episodes, name), first, last) for name in names}
    figure, axes = new_figure(height=1.5 + 0.42 * max(len(names), 2))
    axes.grid(visible=False)
    for i, name in enumerate(names):
        rows = of_definition(episodes, name)
        axes.axhline(i, color=COLOURS["faint"], linewidth=0.8, zorder=0)
        axes.broken_barh(
            _bars(rows, first, last), (i - BAR_HEIGHT / 2, BAR_HEIGHT), color=COLOURS["capitulation"], lw=0.4
        )
    date_axis(axes, first, last)
    mark_halvings(axes, halving_days(panel), at="above")
    axes.set_yticks(range(len(names)), [definition_label(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    place = {"xycoords": axes.get_yaxis_transform(), "annotation_clip": False, "color": COLOURS["soft"], "fontsize": 10}
    for i, name in enumerate(names):
        axes.annotate(percent(shares[name]), (1.015, i), va="center", **place)
    axes.annotate("share\nof days", (1.015, -0.6), va="bottom", **place)
    return finish(figure, _timeline_title(episodes, names, last), _timeline_alt(episodes, shares, first))


def _bars(rows: pd.DataFrame, first: pd.Timestamp, last: pd.Timestamp) -> list[tuple[float, float]]:
    """Start and length of each episode in matplotlib's days, cut to the axis."""
    from matplotlib.dates import date2num

    start = rows["start"].clip(lower=first)
    end = rows["end"].fillna(last + pd.Timedelta(days=1)).clip(lower=first)
    spans = zip(date2num(start), date2num(end) - date2num(start), strict=True)
    return [(float(a), float(length)) for a, length in spans if length > 0]


def _share_of_days(rows: pd.DataFrame, first: pd.Timestamp, last: pd.Timestamp) -> float:
    return sum(length for _, length in _bars(rows, first, last)) / ((last - first).days + 1)


def _timeline_title(episodes: pd.DataFrame, names: list[str], last: pd.Timestamp) -> str:
    now = episodes.loc[episodes["ongoing"].astype(bool), "definition"].nunique()
    counts = episodes["definition"].value_counts()
    return (
        f"{now} of {count(len(names), 'definition')} {'says' if now == 1 else 'say'} capitulation on {day(last)}; over "
        f"the years they count between {counts.min()} and {counts.max()} episodes"
    )


def _timeline_alt(episodes: pd.DataFrame, shares: Mapping[str, float], first: pd.Timestamp) -> str:
    counts = episodes["definition"].value_counts()
    parts = [f"{DEFINITION_WORDS.get(n, n)} {counts[n]} ({percent(share)} of days)" for n, share in shares.items()]
    return (
        f"Bars of episodes on one time axis since {first.year}, one row per definition; episodes: {', '.join(parts)}."
    )


@styled
def agreement_heatmap(table: pd.DataFrame, measure: str = "Jaccard index") -> Chart:
    """How much each pair of definitions agrees: rules × rules, symmetric, as from `mining.rules.agreement`."""
    import seaborn as sns

    names = [definition_label(name) for name in table.index]
    values = table.to_numpy(dtype=float)
    hidden = np.triu(np.ones_like(values, dtype=bool))
    figure, axes = new_figure(height=5.6)
    texts = np.where(np.isfinite(values), np.char.mod("%.2f", np.nan_to_num(values)), "")
    look = {"cmap": colour_map(SEQUENTIAL), "vmin": 0, "vmax": 1, "cbar": False, "linewidths": 1.5}
    sns.heatmap(values, mask=hidden, ax=axes, annot=texts, fmt="", annot_kws={"fontsize": 9.5}, **look)
    axes.set_yticks(np.arange(1, len(names)) + 0.5, names[1:], rotation=0, fontsize=10)
    axes.set_xticks(
        np.arange(len(names) - 1) + 0.5, names[:-1], rotation=40, ha="right", fontsize=9.5, rotation_mode="anchor"
    )
    axes.tick_params(length=0)
    axes.set_xlim(0, len(names) - 1)
    axes.set_ylim(len(names), 1)
    axes.grid(visible=False)
    axes.set_title(f"{measure}: 1 is the same days, 0 is no common day")
    return finish(figure, *_agreement_words(table, hidden))


def _agreement_words(table: pd.DataFrame, hidden: np.ndarray) -> tuple[str, str]:
    """Title and alt text: the typical pair and the closest one."""
    pairs = table.mask(hidden).stack().dropna()  # noqa: PD013
    if pairs.empty:
        return "No two definitions can be compared", "An empty heat map."
    (a, b), best = pairs.idxmax(), pairs.max()
    names = [DEFINITION_WORDS.get(name, name) for name in (a, b)]
    title = (
        f"Definitions seldom mean the same days: the median agreement is {pairs.median():.2f}, the highest {best:.2f}"
        if pairs.median() < 0.5
        else f"Definitions mostly mean the same days: the median agreement is {pairs.median():.2f}"
    )
    alt = (
        f"Heat map of {count(len(pairs), 'pair')} of definitions; the closest are {names[0]} and {names[1]} "
        f"({best:.2f}), and {int((pairs < 0.1).sum())} pairs are below 0.1."
    )
    return title, alt


@styled
def noise_inversions(noise: Mapping[str, float] | Iterable[Mapping[str, float]]) -> Chart:
    """Inversions observed beside those that block luck alone would give at the present growth.

    `noise`: as from `mining.noise.expected_noise_inversions` (days, growth_per_year, observed, expected, low, high,
    p_at_least_observed), or several of them, one row each.
    """
    rows = [noise] if isinstance(noise, Mapping) else list(noise)
    figure, axes = new_figure(height=1.9 + 0.55 * len(rows))
    drop_left_grid(axes)
    for i, row in enumerate(rows):
        _noise_row(axes, i, row)
    axes.set_yticks(range(len(rows)), [f"last {row['days']:,.0f} days" for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.75)
    axes.set_xlim(-0.3, max(np.nanmax([[row["observed"], row["high"]] for row in rows]), 1) * 1.06)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("number of inversions")
    axes.set_title("grey: 95 % of simulated histories of steady growth; line: their mean; dot: observed")
    return finish(figure, _noise_title(rows[-1]), _noise_alt(rows))


def _noise_row(axes: Axes, at: int, row: Mapping[str, float]) -> None:
    colour = COLOURS["capitulation"]
    if np.isfinite(row["expected"]):
        axes.barh(at, max(row["high"] - row["low"], 0.06), left=row["low"], height=0.42, color=COLOURS["noise"])
        axes.plot([row["expected"]] * 2, [at - 0.21, at + 0.21], color=COLOURS["soft"], linewidth=2)
    axes.plot([row["observed"]], [at], "o", color=colour, markersize=10, zorder=4)
    words = {"ha": "center", "va": "bottom", "color": text_colour(colour), "fontweight": "bold"}
    axes.annotate(f"{row['observed']:.0f}", (row["observed"], at), xytext=(0, 11), textcoords="offset points", **words)


def _noise_title(row: Mapping[str, float]) -> str:
    if not np.isfinite(row["expected"]):
        return f"{count(int(row['observed']), 'inversion')} observed; growth is not known, so noise cannot be simulated"
    return (
        f"{count(int(row['observed']), 'inversion')} in {row['days']:,.0f} days; luck alone gives "
        f"{row['expected']:.1f} at this growth, and as many or more in {percent(row['p_at_least_observed'])} of "
        "histories"
    )


def _noise_alt(rows: Iterable[Mapping[str, float]]) -> str:
    parts = [
        f"last {row['days']:,.0f} days: {row['observed']:.0f} observed, {row['expected']:.1f} expected "
        f"({row['low']:.0f} to {row['high']:.0f}, {p_text(row['p_at_least_observed'])})"
        for row in rows
    ]
    return f"Observed number of inversions over the range that noise gives; {'; '.join(parts)}."


@styled
def falling_probability(
    probability: pd.Series, episodes: pd.DataFrame, start: str = "2014-01-01", halvings: Iterable[object] = ()
) -> Chart:
    """Filtered probability that true hash rate is falling, capitulations of the ribbons shaded.

    `probability`: index `date`, 0 to 1, as from `mining.trend.falling_probability`; shown from `start` on.
    """
    shown = probability.dropna().loc[start:]
    shown = probability.dropna() if shown.empty else shown
    if shown.empty:
        return empty("Too few days for a filtered trend of hash rate")
    rows = of_definition(episodes, "hash_ribbons")
    rows = rows[rows["end"].isna() | (rows["end"] > shown.index[0])]
    figure, axes = new_figure(height=3.9)
    axes.plot(shown.index, shown, color=COLOURS["hash_rate"], linewidth=0.8)
    date_axis(axes, shown.index[0], shown.index[-1])
    shade_episodes(axes, rows.assign(start=rows["start"].clip(lower=shown.index[0])), shown.index[-1])
    mark_halvings(axes, halvings)
    axes.axhline(FALLING_LIKELY, color=COLOURS["soft"], linewidth=1, linestyle=(0, (3, 2)))
    axes.set_ylim(-0.02, 1.04)
    percent_axis(axes, "probability of falling", sign=False)
    mark_present(axes, shown.index[-1], shown.iloc[-1], percent(shown.iloc[-1]), COLOURS["hash_rate"])
    axes.set_title("shaded: fast mean below slow mean; dashed: 95 %", color=COLOURS["soft"])
    return finish(figure, *_falling_words(shown, rows))


def _falling_words(shown: pd.Series, rows: pd.DataFrame) -> tuple[str, str]:
    """Title and alt text: how many of the shown episodes were ever surely a fall."""
    spans = zip(rows["start"], rows["end"].fillna(shown.index[-1]), strict=True)
    sure = sum(bool((shown.loc[a:b] > FALLING_LIKELY).any()) for a, b in spans)
    title = (
        f"In {sure} of {count(len(rows), 'inversion')} since {shown.index[0].year} a falling hash rate was ever more "
        f"than {percent(FALLING_LIKELY)} likely"
    )
    alt = (
        f"Line of a probability from {day(shown.index[0])} to {day(shown.index[-1])}, above "
        f"{percent(FALLING_LIKELY)} on {percent((shown > FALLING_LIKELY).mean())} of days, "
        f"{percent(shown.iloc[-1])} on the last."
    )
    return title, alt
