"""The market itself: which days are known, the price, hash rate and its ribbons, and the gap with its noise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.mining.protocol import halving_days
from capitulation.plots.axes import (
    by_date,
    date_axis,
    day,
    label_ends,
    log_axis,
    mark_halvings,
    mark_present,
    of_definition,
    percent_axis,
    plain_number,
    shade_episodes,
)
from capitulation.plots.chart import Chart
from capitulation.plots.empty import empty
from capitulation.plots.style import (
    ANCHOR_COLOURS,
    ANCHOR_MARKERS,
    COLOURS,
    GRADE_COLOURS,
    SEQUENTIAL,
    colour_map,
    finish,
    new_figure,
    styled,
)
from capitulation.words import count, percent, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAND_SE = 2.0
RECENT_YEARS = 4.0
ANCHOR_COLUMNS = {"start": "start", "recovery": "end", "buy": "buy_date"}
ANCHOR_OFFSETS = {"start": 8.0, "recovery": 0.0, "buy": -8.0}
ANCHOR_NAMES = {"start": "start", "recovery": "recovery", "buy": "buy signal"}
DAYS_PER_YEAR = 365.25


def _since(frame: pd.DataFrame, years: float | None) -> pd.DataFrame:
    """The last `years` years of `frame`; all of it for None."""
    if years is None or frame.empty:
        return frame
    return frame[frame.index > frame.index[-1] - pd.Timedelta(days=round(years * DAYS_PER_YEAR))]


def _reaching(episodes: pd.DataFrame, first: pd.Timestamp | None) -> pd.DataFrame:
    """Episodes that reach into the days from `first` on; all of them for None."""
    return episodes if first is None else episodes[episodes["end"].isna() | (episodes["end"] > first)]


def _within(episodes: pd.DataFrame, first: pd.Timestamp) -> pd.DataFrame:
    """The same, cut at `first`."""
    found = _reaching(episodes, first)
    return found.assign(start=found["start"].clip(lower=first))


@styled
def coverage(panel: pd.DataFrame) -> Chart:
    """Share of days present in each month, one row per column of the panel (index `date`)."""
    known = panel.notna()
    monthly = known.groupby(known.index.to_period("M")).mean()
    missing = (~known).sum()
    figure, axes = new_figure(height=3.6)
    axes.grid(visible=False)
    edges = [monthly.index[0].start_time, *(period.end_time for period in monthly.index)]
    look = {"cmap": colour_map(SEQUENTIAL), "vmin": 0, "vmax": 1.25}
    axes.pcolormesh(edges, np.arange(len(monthly.columns) + 1), monthly.T.to_numpy(float), **look)
    date_axis(axes, edges[0], edges[-1])
    axes.set_yticks(np.arange(len(monthly.columns)) + 0.5, monthly.columns)
    axes.invert_yaxis()
    labels = [
        (i + 0.5, _missing_words(missing[name], len(panel)), COLOURS["ink"]) for i, name in enumerate(missing.index)
    ]
    label_ends(axes, labels)
    axes.set_title("share of days known in each month: dark is all, light is none")
    title = _coverage_title(known)
    alt = f"Heat map of {count(len(known.columns), 'column')} over {count(len(monthly), 'month')}; missing days: " + (
        "; ".join(f"{name} {missing[name]:,}" for name in missing.index) + "."
    )
    return finish(figure, title, alt)


def _missing_words(missing: int, total: int) -> str:
    if missing == 0:
        return "complete"
    return "absent" if missing == total else f"{missing:,} missing"


def _coverage_title(known: pd.DataFrame) -> str:
    """How much of the panel there is since its price begins."""
    span = f"{day(known.index[0])} to {day(known.index[-1])}"
    complete = [name for name in known if known[name].all()]
    priced = known.index[known["price_usd"].to_numpy()] if "price_usd" in known else known.index[:0]
    tail = f"; the price begins on {day(priced[0])}" if len(priced) and priced[0] > known.index[0] else ""
    return f"{len(complete)} of {count(len(known.columns), 'column')} have every day from {span}{tail}"


@styled
def price_with_capitulations(
    panel: pd.DataFrame, episodes: pd.DataFrame, definition: str = "hash_ribbons", years: float | None = None
) -> Chart:
    """Price on a log scale, capitulations shaded, their start, recovery and buy signal marked.

    `panel` (index `date`, `price_usd`, `height`); `episodes`: the contract's table, of which `definition` is shown;
    `years`: only the last so many.
    """
    price = _since(by_date(panel)[["price_usd"]].dropna(), years)["price_usd"]
    if price.empty:
        return empty("This source has no price")
    known = _reaching(of_definition(episodes, definition), price.index[0] if years else None)
    figure, axes = new_figure(height=4.6)
    axes.plot(price.index, price, color=COLOURS["price"], linewidth=1.1)
    date_axis(axes, price.index[0], price.index[-1])
    log_axis(axes, "BTC price, USD")
    shade_episodes(axes, _within(known, price.index[0]), price.index[-1])
    mark_halvings(axes, halving_days(panel), at="bottom")
    _mark_anchors(axes, known, price)
    mark_present(
        axes, price.index[-1], price.iloc[-1], f"{plain_number(round(price.iloc[-1], -2))}\nUSD", COLOURS["price"]
    )
    _legend_above(axes)
    return finish(figure, _price_title(known), _price_alt(known, price))


def _legend_above(axes: Axes) -> None:
    """One line of keys above the axes: markers, and the shade of a capitulation."""
    from matplotlib.patches import Patch

    handles, _ = axes.get_legend_handles_labels()
    shade = Patch(color=COLOURS["capitulation_shade"], label="capitulation")
    place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.985), "borderaxespad": 0.2}
    axes.legend(handles=[shade, *handles], ncols=len(handles) + 1, **place)


def _mark_anchors(axes: Axes, episodes: pd.DataFrame, price: pd.Series) -> None:
    """Starts above the line, recoveries on it, buy signals below: they often fall on neighbouring days."""
    from matplotlib.transforms import ScaledTranslation

    for anchor, column in ANCHOR_COLUMNS.items():
        days = pd.DatetimeIndex(episodes[column].dropna())
        days = days[days.isin(price.index)]
        shift = ScaledTranslation(0, ANCHOR_OFFSETS[anchor] / 72, axes.figure.dpi_scale_trans)
        look = {"color": ANCHOR_COLOURS[anchor], "markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.6}
        options = {"label": ANCHOR_NAMES[anchor], "zorder": 4, "transform": axes.transData + shift}
        axes.plot(days, price.reindex(days), ANCHOR_MARKERS[anchor], **look, **options)


def _price_title(episodes: pd.DataFrame) -> str:
    if episodes.empty:
        return "The rule never said capitulation in this history"
    ended = episodes[~episodes["ongoing"].astype(bool)].dropna(subset=["price_start", "price_end"])
    rose = int((ended["price_end"] > ended["price_start"]).sum())
    now = ", one of them under way" if episodes["ongoing"].astype(bool).any() else ""
    return (
        f"{count(len(episodes), 'capitulation')} since {episodes['start'].iloc[0].year}{now}: "
        f"BTC rose during {rose} of the {len(ended)} that ended and have a price"
    )


def _price_alt(episodes: pd.DataFrame, price: pd.Series) -> str:
    return (
        f"BTC price from {day(price.index[0])} ({price.iloc[0]:,.2f} USD) to {day(price.index[-1])} "
        f"({price.iloc[-1]:,.0f} USD) on a log scale, with {count(len(episodes), 'shaded capitulation')}, "
        f"{int(episodes['end'].notna().sum())} recoveries and {int(episodes['buy_date'].notna().sum())} buy signals."
    )


@styled
def hash_rate_ribbons(
    panel: pd.DataFrame,
    ribbon: pd.DataFrame,
    episodes: pd.DataFrame,
    years: float | None = RECENT_YEARS,
    band: pd.DataFrame | None = None,
) -> Chart:
    """Fast and slow mean of hash rate, log scale, the noise band around the fast one, capitulations shaded.

    `ribbon` as from `mining.ribbons.ribbons` (index `date`, EH/s); `band`: columns low_ehs and high_ehs as from
    `mining.hash_rate.hash_rate_band`; without it two standard errors follow from the fast mean's block luck.
    """
    shown = _since(by_date(ribbon).dropna(subset=["hash_rate_slow_ehs"]), years)
    if shown.empty:
        return empty("No day has both means of hash rate yet")
    fast, slow = shown["hash_rate_fast_ehs"], shown["hash_rate_slow_ehs"]
    figure, axes = new_figure(height=4.6)
    if band is not None:
        limits = by_date(band).reindex(shown.index)
        look = {"color": COLOURS["fast"], "alpha": 0.18, "linewidth": 0}
        axes.fill_between(shown.index, limits["low_ehs"], limits["high_ehs"], **look)
    axes.plot(shown.index, slow, color=COLOURS["slow"], linewidth=1.6)
    axes.plot(shown.index, fast, color=COLOURS["fast"], linewidth=1.6)
    date_axis(axes, shown.index[0], shown.index[-1])
    log_axis(axes, "hash rate, EH/s")
    shade_episodes(axes, _within(of_definition(episodes, "hash_ribbons"), shown.index[0]), shown.index[-1])
    mark_halvings(axes, halving_days(panel), at="bottom")
    ends = [(fast.iloc[-1], "fast mean", COLOURS["fast"]), (slow.iloc[-1], "slow mean", COLOURS["slow"])]
    label_ends(axes, ends)
    axes.set_title("shaded: fast mean below slow mean", color=COLOURS["capitulation"])
    alt = (
        f"Two lines of mean hash rate from {day(shown.index[0])} to {day(shown.index[-1])}, log scale: the fast one "
        f"ends at {fast.iloc[-1]:,.0f} EH/s, the slow one at {slow.iloc[-1]:,.0f} EH/s; inverted on "
        f"{percent(shown['in_capitulation'].mean())} of these days."
    )
    return finish(figure, _ribbon_title(shown), alt)


def _ribbon_title(shown: pd.DataFrame) -> str:
    """Where the ribbons stand on the last day, and for how long."""
    flag = shown["in_capitulation"].to_numpy(bool)
    run = len(flag) if (flag == flag[-1]).all() else int(np.argmax(flag[::-1] != flag[-1]))
    gap = shown["ribbon_gap"].iloc[-1]
    side = "below" if flag[-1] else "above"
    more = "at least " if run == len(flag) else ""
    return (
        f"On {day(shown.index[-1])} the fast mean of hash rate is {percent(abs(gap), 1)} {side} the slow one, "
        f"for {more}{count(run, 'day')}"
    )


@styled
def gap_with_noise(
    ribbon: pd.DataFrame, episodes: pd.DataFrame, years: float | None = None, halvings: Iterable[object] = ()
) -> Chart:
    """Gap between the means with its band of two standard errors, the deepest point of each episode by its grade.

    `ribbon` as from `mining.ribbons.ribbons`; `episodes`: the contract's table (start, end, depth, depth_z, grade).
    """
    shown = _since(by_date(ribbon).dropna(subset=["ribbon_gap"]), years)
    if shown.empty:
        return empty("No day has both means of hash rate yet")
    found = _within(of_definition(episodes, "hash_ribbons"), shown.index[0])
    gap, noise = shown["ribbon_gap"], BAND_SE * shown["ribbon_gap_se"]
    figure, axes = new_figure(height=4.6)
    axes.fill_between(shown.index, -noise, noise, color=COLOURS["noise"], linewidth=0, label="±2 SE of luck")
    axes.plot(shown.index, gap, color=COLOURS["hash_rate"], linewidth=0.9)
    axes.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    date_axis(axes, shown.index[0], shown.index[-1])
    axes.set_ylim(*_gap_limits(gap))
    mark_halvings(axes, halvings)
    _mark_depths(axes, found, gap)
    percent_axis(axes, "fast mean over slow mean, minus 1")
    mark_present(axes, gap.index[-1], gap.iloc[-1], percent(gap.iloc[-1], 1, sign=True), COLOURS["hash_rate"])
    place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.985), "borderaxespad": 0.2, "fontsize": 10}
    axes.legend(ncols=4, handlelength=1.0, columnspacing=0.9, **place)
    return finish(figure, _gap_title(found), _gap_alt(found, gap, noise))


def _gap_limits(gap: pd.Series) -> tuple[float, float]:
    """Limits that show every dip; early booms are cut, because they would flatten what matters."""
    low, high = float(gap.min()), float(gap.max())
    return min(low * 1.15, -0.04), max(min(high, 1.2 * abs(low)), 0.05) * 1.3


def _mark_depths(axes: Axes, episodes: pd.DataFrame, gap: pd.Series) -> None:
    for grade, colour in GRADE_COLOURS.items():
        rows = episodes[episodes["grade"] == grade]
        days = [
            gap.loc[a : b if pd.notna(b) else None].idxmin() for a, b in zip(rows["start"], rows["end"], strict=True)
        ]
        options = {"color": colour, "markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.6, "zorder": 5}
        axes.plot(days, gap.reindex(pd.DatetimeIndex(days)), "o", label=f"{grade} ({len(rows)})", **options)


def _gap_title(episodes: pd.DataFrame) -> str:
    if episodes.empty:
        return "The ribbons have not inverted in these days"
    grades = episodes["grade"].value_counts()
    return (
        f"Of {count(len(episodes), 'inversion')}, {grades.get('real', 0)} go deeper than block luck explains and "
        f"{grades.get('noise-like', 0)} are no deeper than noise"
    )


def _gap_alt(episodes: pd.DataFrame, gap: pd.Series, noise: pd.Series) -> str:
    text = (
        f"Gap between the means from {day(gap.index[0])} to {day(gap.index[-1])}, now "
        f"{percent(gap.iloc[-1], 1, sign=True)}, inside a noise band of about ±{percent(noise.median(), 1)}."
    )
    if episodes["depth"].notna().any():
        deepest = episodes.loc[episodes["depth"].idxmin()]
        text += (
            f" The deepest dip, {percent(deepest['depth'], 1)} ({signed(deepest['depth_z'], 1)} standard errors), "
            f"belongs to the episode of {day(deepest['start'])}."
        )
    return text
