"""Average paths of the price around the signals of every rule: one small panel per definition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.plots.axes import log_return_axis
from capitulation.plots.chart import Chart
from capitulation.plots.empty import empty
from capitulation.plots.style import ANCHOR_COLOURS, COLOURS, finish, new_figure, styled
from capitulation.words import ANCHOR_WORDS, DEFINITION_WORDS, count, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 2
TITLE_DAY = 90


@styled
def average_paths(table: pd.DataFrame, day: int = TITLE_DAY) -> Chart:
    """Mean log price from 60 days before to a year after the entry, a line per anchor, any day's mean in grey.

    `table`: as from `study.average_paths.average_paths`; `day` is the one the title speaks of.
    """
    if table.empty:
        return empty("No rule has a signal since the start of the sample")
    names = list(dict.fromkeys(table["definition"]))
    n_rows = -(-len(names) // COLUMNS)
    figure, panels = new_figure(n_rows, COLUMNS, height=0.9 + 1.6 * n_rows, squeeze=False, sharex=True, sharey=True)
    for axes, name in zip(panels.ravel(), names, strict=False):
        _draw(axes, table[table["definition"] == name])
        axes.set_title(DEFINITION_WORDS.get(name, name))
    for axes in panels.ravel()[len(names) :]:
        axes.set_axis_off()
    for axes in panels[:, 0]:
        log_return_axis(axes, "")
    for axes in panels[-1]:
        axes.set_xlabel("days from the entry")
    shown = [anchor for anchor in ANCHOR_COLOURS if anchor in set(table["anchor"])]
    lines = [panels[0, 0].plot([], [], color=ANCHOR_COLOURS[anchor])[0] for anchor in shown]
    lines.append(panels[0, 0].plot([], [], color=COLOURS["baseline"])[0])
    labels = [*(ANCHOR_WORDS[anchor] for anchor in shown), "any day"]
    figure.legend(lines, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return finish(figure, *_words(table, day))


def _draw(axes: Axes, rows: pd.DataFrame) -> None:
    base = rows.drop_duplicates("day")
    axes.plot(base["day"], base["base_mean"], color=COLOURS["baseline"], linewidth=2.0)
    for anchor, line in rows.groupby("anchor", sort=False):
        axes.plot(line["day"], line["mean"], color=ANCHOR_COLOURS[str(anchor)], linewidth=1.3)
    axes.axvline(0, color=COLOURS["ink"], linewidth=0.8)
    axes.set_xlim(rows["day"].min(), rows["day"].max())


def _words(table: pd.DataFrame, day: int) -> tuple[str, str]:
    """Title and alt text: how many means lie above any day's, and the extremes."""
    rows = table[(table["day"] == day) & (table["n_events"] > 0)]
    excess = (rows["mean"] - rows["base_mean"]).to_numpy()
    title = f"{day} days on, {int((excess > 0).sum())} of {count(len(rows), 'average path')} lie above any day's"
    if not len(rows):
        return title, "No path is known that far."
    worst, best = (rows.iloc[at(excess)] for at in (np.argmin, np.argmax))
    named = [
        f"{DEFINITION_WORDS.get(row['definition'], row['definition'])} {ANCHOR_WORDS[row['anchor']]} "
        f"{signed(row['mean'] - row['base_mean'], 2)} ({count(int(row['n_events']), 'event')})"
        for row in (worst, best)
    ]
    return (
        f"{title}; the paths share the same few episodes",
        f"Lines of the mean log price around the signals of {count(table['definition'].nunique(), 'definition')}; "
        f"excess on day {day} from {named[0]} to {named[1]}.",
    )
