"""One chart to explore: price, both means of hash rate and the gap between them, the episodes of every rule.

A Bokeh model, which the reader's browser draws. `import capitulation` leaves this module alone, since Bokeh takes a
third of a second to load.
"""

from typing import Any

import numpy as np
import pandas as pd
from bokeh.layouts import column
from bokeh.models import (
    CDSView,
    Column,
    ColumnDataSource,
    IndexFilter,
    LogTickFormatter,
    NumeralTickFormatter,
    Range1d,
    Span,
)
from bokeh.plotting import figure

from capitulation.figures.style import COLOURS, rule_words
from capitulation.mining.episodes import ONE_DAY
from capitulation.study.returns import forward_returns
from capitulation.words import day, percent, signed

AROUND = pd.Timedelta(days=180)  # shown before and after a deep episode
LEAST = pd.Timedelta(days=30)  # to which one can zoom in
PANELS = (  # words, height in pixels, kind of axis, format of its ticks, lines: column, name in the key, colour
    ("BTC, USD (log scale)", 210, "log", "0,0.[00]", {"price": (None, "price")}),
    ("Hash rate, EH/s (log scale)", 170, "log", "", {"slow": ("slow mean", "slow"), "fast": ("fast mean", "fast")}),
    ("Gap: fast mean above slow mean", 210, "linear", "+0.[0] %", {"gap": (None, "hash_rate")}),
)


def history(
    panel: pd.DataFrame, ribbon: pd.DataFrame, episodes: pd.DataFrame, *, first: str = "", days: int = 90, lag: int = 1
) -> Column:
    """Three panels over one axis of days, the episodes of one rule shaded: a Bokeh layout.

    `ribbon` as from `cap.hash_ribbons`, `episodes` of all rules as from `cap.apply_rules`; those of the rule `first`
    (else of the first row) are shaded to begin with. What is said of an episode ends with what BTC did over the `days`
    from the close `lag` days after its end. A missing value is a gap in its line; without any price its panel is left
    out.

    By name the model holds the sources `days` (date, price, fast, slow, gap; low and high: two standard errors below
    and above zero, or zero where they are not known) and `episodes` (rule, start, stop, real, words), the filter
    `shaded` of the latter, the range `x`, and in each panel a `reader`, the line at the day that is read. The layout's
    tags are the spans to choose from: words, first and last moment in milliseconds. The first one is shown.
    """
    rates = ribbon[["fast", "slow"]].assign(price=panel["price_usd"])
    known = rates.where(rates > 0).assign(gap=ribbon["gap"])
    at = np.flatnonzero(known.notna().any(axis=1))
    known = known.iloc[at[0] : at[-1] + 1] if len(at) else known
    noise = (2 * ribbon["gap_se"]).reindex(known.index).fillna(0)  # an area goes on over what is missing
    by_day = {name: values.to_numpy("float32") for name, values in known.assign(low=-noise, high=noise).items()}
    source = ColumnDataSource({"date": known.index.to_numpy(), **by_day}, name="days")

    table = episodes.sort_values("definition", key=lambda name: name != first, kind="stable", ignore_index=True)
    own = table[table["definition"] == table["definition"].get(0)]
    told = ColumnDataSource(_told(table, panel["price_usd"], days, lag), name="episodes")
    view = CDSView(filter=IndexFilter(list(own.index), name="shaded"))

    spans = _spans(known.index[0], known.index[-1] + ONE_DAY, own)
    whole = next(tuple(moments) for words, *moments in spans if words == "all")
    x = Range1d(*spans[0][1:], bounds=whole, min_interval=1000 * LEAST.total_seconds(), name="x")
    look = {"x_axis_type": "datetime", "x_range": x, "sizing_mode": "stretch_width", "min_border_left": 62}
    look |= {"tools": "xpan,xwheel_zoom", "active_scroll": "xwheel_zoom", "toolbar_location": None}
    look |= {"background_fill_color": None, "border_fill_color": None, "outline_line_color": None}
    drawn, shade = [], {"color": COLOURS["capitulation_shade"], "line_width": 0.7, "name": "capitulation"}
    for words, height, kind, ticks, lines in PANELS:
        if "price" in lines and known["price"].isna().all():
            continue
        part = figure(title=words, height=height, y_axis_type=kind, y_range=Range1d(0.1, 1), **look)
        part.vstrip("start", "stop", source=told, view=view, **shade)
        if "gap" in lines:
            band = {"color": COLOURS["noise"], "alpha": 0.7, "name": "two standard errors of block luck"}
            part.varea("date", "low", "high", source=source, **band)
            part.add_layout(Span(location=0, dimension="width", line_color=COLOURS["ink"]))
        for name, (says, colour) in lines.items():
            part.line("date", name, source=source, color=COLOURS[colour], line_width=1.4, name=says)
        part.add_layout(Span(dimension="height", line_dash="dashed", line_color=COLOURS["ink"], name="reader"))
        part.axis.axis_line_color = part.axis.major_tick_line_color = part.axis.minor_tick_line_color = None
        part.yaxis.formatter = NumeralTickFormatter(format=ticks) if ticks else LogTickFormatter(min_exponent=4)
        part.xgrid.visible, part.xaxis.visible = False, "gap" in lines
        drawn.append(part)
    return column(*drawn, sizing_mode="stretch_width", tags=spans)


def _told(table: pd.DataFrame, price: pd.Series, days: int, lag: int) -> dict[str, Any]:
    """The source `episodes`; what goes on, or may have ended, stops after its last known day."""
    after = np.expm1(forward_returns(price, days, lag)).reindex(table["end"])
    words = []
    for row, result in zip(table.itertuples(), after, strict=True):
        text = f"capitulation from {day(row.start)} "
        goes_on = "on, and not known to have ended" if pd.isna(row.ongoing) else "on, still under way"
        text += f"to {day(row.end)}" if pd.notna(row.end) else goes_on
        if pd.notna(row.depth):
            text += f", lowest gap {percent(row.depth, 1)} ({signed(row.depth_z, 1)} standard errors: {row.grade})"
        known = percent(result, sign=True) if pd.notna(result) else "not known"
        words.append(text + (f"; BTC {days} days after its end {known}" if pd.notna(row.end) else ""))
    stop = table["start"] + pd.to_timedelta(table["days"], unit="D")
    days_of = {"start": table["start"].to_numpy(), "stop": stop.to_numpy()}
    return {
        "rule": [*table["definition"].map(rule_words)],
        **days_of,
        "real": [*table["grade"].eq("real")],
        "words": words,
    }


def _spans(first: pd.Timestamp, last: pd.Timestamp, own: pd.DataFrame) -> list[list[Any]]:
    """The spans to choose from: the last two years, five, all, and those around the four deepest episodes, by year."""
    spans = {f"last {n} years": (last - pd.DateOffset(years=n), last) for n in (2, 5)}
    spans = {words: span for words, span in spans.items() if span[0] > first} | {"all": (first, last)}
    deep = {}
    for row in own[own["grade"] == "real"].nsmallest(4, "depth_z").itertuples():
        end = row.start + pd.Timedelta(days=row.days)
        years = f"{row.start:%Y}" if row.start.year == end.year else f"{row.start:%Y}–{end:%y}"
        deep.setdefault(years, (max(first, row.start - AROUND), min(last, end + AROUND)))
    chosen = [*spans.items(), *sorted(deep.items(), key=lambda item: item[1])]
    return [[words, *(1000 * moment.timestamp() for moment in span)] for words, span in chosen]
