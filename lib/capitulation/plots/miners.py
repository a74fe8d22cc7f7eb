"""Figures of miner economics: hashprice, the power cost of a coin, the value of new coins.

Every function takes daily frames as from `mining.economics` and `mining.fleet`; where a source has no price or revenue
the chart says so. `halvings`: days as from `mining.protocol.halving_days`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from capitulation.plots.axes import (
    date_axis,
    day,
    label_ends,
    log_axis,
    mark_halvings,
    mark_present,
    percent_axis,
)
from capitulation.plots.chart import Chart
from capitulation.plots.empty import empty
from capitulation.plots.rigs import FEWEST_MODELS
from capitulation.plots.style import COLOURS, finish, new_figure, styled, tint
from capitulation.words import percent

RECENT_DAYS = 4 * 365
MONEY_DIGITS = 3
SMOOTH_DAYS = 7
MILLION = 1e6
REVENUE_PARTS = (
    ("revenue_usd", "USD a day"),
    ("fee_share", "share of fees"),
    ("hashprice_btc_ph_day", "BTC per PH/s-day"),
)
Days = Iterable[object]


def _money(value: float) -> str:
    """An amount in USD with as many digits as it deserves.

    >>> [_money(v) for v in (0.0512, 9.94, 32.086, 68018.2)]
    ['0.0512', '9.94', '32.1', '68,018']
    """
    if abs(value) >= 10 ** (MONEY_DIGITS - 1):
        return f"{value:,.0f}"
    return f"{value:#.{MONEY_DIGITS}g}".rstrip(".")


@styled
def hashprice(money: pd.DataFrame, halvings: Days = ()) -> Chart:
    """Revenue of one PH/s in a day (USD), log scale: the whole history above, the last four years below.

    `money` as from `mining.economics.economics` (index `date`, `hashprice_usd_ph_day`).
    """
    known = money["hashprice_usd_ph_day"].dropna()
    known = known[known > 0]
    if known.empty:
        return empty("Hashprice is not known: this source has no revenue of miners")
    halvings = list(halvings)
    recent = known[known.index > known.index[-1] - pd.Timedelta(days=RECENT_DAYS)]
    parts = [(known, "since prices exist"), (recent, "the last four years")]
    parts = parts if len(recent) < len(known) else parts[:1]
    figure, panels = new_figure(len(parts), 1, height=3.0 * len(parts), squeeze=False)
    for axes, (shown, name) in zip(panels[:, 0], parts, strict=True):
        axes.plot(shown.index, shown, color=COLOURS["hashprice"], linewidth=1.0)
        date_axis(axes, shown.index[0], shown.index[-1])
        log_axis(axes, "USD per PH/s and day")
        mark_halvings(axes, halvings)
        mark_present(axes, shown.index[-1], shown.iloc[-1], _money(shown.iloc[-1]), COLOURS["hashprice"])
        axes.set_title(name)
    return finish(figure, _hashprice_title(known), _hashprice_alt(known, recent))


def _hashprice_title(known: pd.Series) -> str:
    now, lowest = known.iloc[-1], known.min()
    if now == lowest:
        return f"A PH/s earns {_money(now)} USD a day, the least ever"
    return (
        f"A PH/s earns {_money(now)} USD a day, {percent(now / lowest - 1)} above the lowest ever, "
        f"{_money(lowest)} USD on {day(known.idxmin())}"
    )


def _hashprice_alt(known: pd.Series, recent: pd.Series) -> str:
    both = f" and from {day(recent.index[0])}" if len(recent) < len(known) else ""
    return (
        f"Hashprice on a log scale from {day(known.index[0])}{both} to {day(known.index[-1])}; within the last four "
        f"years it lay between {_money(recent.min())} and {_money(recent.max())} USD per PH/s and day."
    )


@styled
def revenue(money: pd.DataFrame, halvings: Days = ()) -> Chart:
    """Weekly means of what all miners earn (USD a day), the share of it that is fees, and hashprice in coins.

    `money` as from `mining.economics.economics` (revenue_usd, fee_share, hashprice_btc_ph_day). A part that the source
    does not know is left out.
    """
    smooth = money[[name for name, _ in REVENUE_PARTS]].rolling(SMOOTH_DAYS, min_periods=SMOOTH_DAYS).mean()
    smooth = smooth.dropna(axis=1, how="all")
    if "revenue_usd" not in smooth:
        return empty("Revenue of miners is not known: this source has none")
    parts = [(name, label) for name, label in REVENUE_PARTS if name in smooth]
    first = smooth["revenue_usd"].first_valid_index()
    figure, panels = new_figure(len(parts), 1, height=2.6 * len(parts), squeeze=False, sharex=True)
    for axes, (name, label) in zip(panels[:, 0], parts, strict=True):
        values = smooth.loc[first:, name]
        axes.plot(values.index, values, color=COLOURS["hashprice"], linewidth=1.0)
        date_axis(axes, first, smooth.index[-1])
        percent_axis(axes, label, sign=False) if name == "fee_share" else log_axis(axes, label)
        mark_halvings(axes, halvings)
    panels[0, 0].set_title("mean of seven days")
    return finish(figure, _revenue_title(smooth), _revenue_alt(smooth.loc[first:]))


def _revenue_title(smooth: pd.DataFrame) -> str:
    title = f"Miners earn {_money(smooth['revenue_usd'].dropna().iloc[-1] / MILLION)} million USD a day"
    if "fee_share" not in smooth:
        return title
    return f"{title}, {percent(smooth['fee_share'].dropna().iloc[-1], 1)} of it in fees"


def _revenue_alt(smooth: pd.DataFrame) -> str:
    text = f"Lines from {day(smooth.index[0])} to {day(smooth.index[-1])}; revenue was highest on "
    text += f"{day(smooth['revenue_usd'].idxmax())} with {_money(smooth['revenue_usd'].max() / MILLION)} million USD"
    if "fee_share" in smooth:
        text += f", fees on {day(smooth['fee_share'].idxmax())} with {percent(smooth['fee_share'].max())} of it"
    if "hashprice_btc_ph_day" in smooth:
        text += f"; a PH/s now earns {smooth['hashprice_btc_ph_day'].dropna().iloc[-1]:.2g} BTC a day"
    return f"{text}."


@styled
def production_cost(price: pd.Series, modelled: pd.DataFrame, halvings: Days = ()) -> Chart:
    """Price of BTC and the modelled fleet's power cost of one BTC (USD), log scale; days below cost are filled.

    `price`: daily USD, index `date`; `modelled` as from `mining.fleet.fleet` (production_cost_usd, n_recent), the same
    index. Shown from the first day with four known models. Rigs that lose money count as switched off, so price can
    be below this cost only while no model earns its power.
    """
    known = pd.DataFrame({"price": price, "cost": modelled["production_cost_usd"]}).dropna()
    many = modelled["n_recent"].reindex(known.index) >= FEWEST_MODELS
    known = known[many.cummax()]
    if known.empty:
        return empty(
            "The power cost of a coin is not known: no day has a price, revenue of miners and enough rig models"
        )
    below = (known["price"] < known["cost"]).to_numpy()
    figure, axes = new_figure(height=4.4)
    fill = {"where": below, "color": COLOURS["capitulation"], "linewidth": 0.8}
    axes.fill_between(known.index, known["price"], known["cost"], **fill)
    axes.plot(known.index, known["cost"], color=COLOURS["cost"], linewidth=1.1)
    axes.plot(known.index, known["price"], color=COLOURS["price"], linewidth=1.1)
    date_axis(axes, known.index[0], known.index[-1])
    log_axis(axes, "USD per BTC")
    mark_halvings(axes, halvings, at="bottom")
    last = known.iloc[-1]
    label_ends(axes, [(last["price"], "price", COLOURS["price"]), (last["cost"], "power cost", COLOURS["cost"])])
    axes.set_title("power of the models that earn it; those that lose money count as switched off")
    return finish(figure, _cost_title(known, below), _cost_alt(known))


def _cost_title(known: pd.DataFrame, below: np.ndarray) -> str:
    ratio = known["price"].iloc[-1] / known["cost"].iloc[-1]
    since = f"since {known.index[0].year}"
    title = f"BTC costs {ratio:.2f} times the power that makes it; "
    if not below.any():
        return f"{title}some rig model has earned its power on every day {since}"
    latest = day(known.index[below][-1])
    return f"{title}no model earned its power on {percent(below.mean(), 1)} of days {since}, the last {latest}"


def _cost_alt(known: pd.DataFrame) -> str:
    ratio = known["price"] / known["cost"]
    return (
        f"Two lines on a log scale from {day(known.index[0])} to {day(known.index[-1])}: price ends at "
        f"{_money(known['price'].iloc[-1])} USD, power cost at {_money(known['cost'].iloc[-1])} USD; the ratio was "
        f"lowest, {ratio.min():.2f}, on {day(ratio.idxmin())}."
    )


@styled
def puell(money: pd.DataFrame, threshold: float = 0.5, halvings: Days = ()) -> Chart:
    """Puell multiple (ratio), log scale: each day pale, its weekly mean dark, days below `threshold` filled.

    `money` as from `mining.economics.economics` (index `date`, `puell_multiple`).
    """
    known = money["puell_multiple"].dropna()
    if known.empty:
        return empty("The Puell multiple is not known: it needs a year of prices and new coins")
    smooth = known.rolling(SMOOTH_DAYS, min_periods=SMOOTH_DAYS).mean()
    figure, axes = new_figure(height=4.2)
    axes.plot(known.index, known, color=tint(COLOURS["hashprice"], 0.35), linewidth=0.7)
    axes.plot(smooth.index, smooth, color=COLOURS["hashprice"], linewidth=1.3)
    low = {"where": known < threshold, "color": COLOURS["capitulation"], "linewidth": 0.6}
    axes.fill_between(known.index, known, threshold, **low)
    axes.axhline(threshold, color=COLOURS["capitulation"], linewidth=1.1, linestyle=(0, (4, 2)))
    date_axis(axes, known.index[0], known.index[-1])
    log_axis(axes, "Puell multiple")
    mark_halvings(axes, halvings)
    now = (float(known.iloc[-1]), f"{known.iloc[-1]:.2f}", COLOURS["hashprice"])
    mark_present(axes, known.index[-1], now[0], colour=COLOURS["hashprice"])
    label_ends(axes, [now, (threshold, f"{threshold:g}", COLOURS["capitulation"])])
    axes.set_title("pale: each day; dark: mean of seven days")
    return finish(figure, _puell_title(known, threshold), _puell_alt(known, threshold))


def _puell_title(known: pd.Series, threshold: float) -> str:
    low = known[known < threshold]
    latest = f", the last time on {day(low.index[-1])}" if len(low) else ""
    return (
        f"The Puell multiple is {known.iloc[-1]:.2f}; it was below {threshold:g} on "
        f"{percent(len(low) / len(known))} of days{latest}"
    )


def _puell_alt(known: pd.Series, threshold: float) -> str:
    return (
        f"Line on a log scale from {day(known.index[0])} to {day(known.index[-1])}, dashed line at {threshold:g}; "
        f"between {known.min():.2f} on {day(known.idxmin())} and {known.max():.2f} on {day(known.idxmax())}, "
        f"median {known.median():.2f}."
    )
