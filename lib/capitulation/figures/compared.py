"""The same figures of two reports in one picture."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from capitulation.figures import style
from capitulation.figures.style import COLOURS, finish, new_figure, styled
from capitulation.words import between, count, day, percent, signed

LOOKS = ({"color": COLOURS["hash_rate"], "marker": "o"}, {"color": COLOURS["capitulation"], "marker": "D"})
LAST_DAYS = 730


@styled
def compared(gaps: Mapping[str, pd.Series], excess: Mapping[str, pd.DataFrame]) -> Figure:
    """The gap of the ribbons over the last two years that either of two runs knows, and the excess of each rule.

    `gaps`: by run, index date, fractions; the second run's line is drawn over the first's. `excess`: by run, index the
    rule, columns excess, low, high (log returns). Rules or days that one lacks are drawn for the other alone.
    """
    lines = {name: gap.dropna() for name, gap in gaps.items()}
    last = max((gap.index[-1] for gap in lines.values() if len(gap)), default=None)
    rules = list(dict.fromkeys(name for rows in excess.values() for name in rows.index))
    if last is None and not rules:
        return style.empty("Neither report has a gap of the ribbons or an excess")
    heights = (2.6, 0.6 + 0.42 * max(len(rules), 1))
    figure, (upper, lower) = new_figure(2, 1, height=1.6 + sum(heights), height_ratios=heights)
    upper.axhline(0, color=COLOURS["ink"], linewidth=0.8)
    lower.axvline(0, color=COLOURS["ink"], linewidth=0.8)
    style.grid_along_x(lower, [style.rule_label(name) for name in rules])
    for place, (name, gap) in enumerate(lines.items()):
        look, rows = LOOKS[place % 2], excess[name].reindex(rules)
        known = gap[gap.index > last - pd.Timedelta(days=LAST_DAYS)] if last is not None else gap
        upper.plot(known, color=look["color"], linewidth=2.6 - 1.4 * place, label=name)
        y = np.arange(len(rules)) + (0.32 * place - 0.16)
        lower.hlines(y, rows["low"], rows["high"], color=look["color"], linewidth=1.4)
        lower.plot(rows["excess"], y, linestyle="none", label=name, markersize=5, **look)
    style.percent_axis(upper, "gap: fast over slow")
    style.legend_above(upper)
    style.legend_above(lower)
    lower.set_xlabel("excess log return against its own era, with its interval")
    (first, one), (second, other) = lines.items()
    both = pd.concat([one, other], axis=1, join="inner").diff(axis=1).iloc[:, 1].abs()
    apart = "share no day on which the gap is known"
    if len(both):
        apart = (
            f"their gaps differ by up to {100 * both.max():.1f} percentage points on {count(len(both), 'day')} of both"
        )
    ends = [
        f"{name} {percent(gap.iloc[-1], 1, True)} on {day(gap.index[-1])}" for name, gap in lines.items() if len(gap)
    ]
    told = []
    for rule in rules:
        each = [rows.loc[rule] for rows in excess.values() if rule in rows.index]
        words = [
            f"{signed(row['excess'], 2)} ({between(row['low'], row['high'], 2)})" if row.notna().all() else "not known"
            for row in each
        ]
        told.append(f"{style.rule_words(rule)} {' and '.join(words)}")
    alt = f"Gap: {', '.join(ends) or 'not known'}. Excess: {'; '.join(told) or 'not known'}."
    return finish(figure, f"{first} and {second}: {apart}", alt)
