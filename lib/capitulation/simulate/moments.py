"""Does the artificial market look like the real one? The same figures of both, side by side.

The figures of the real market and of many simulated ones are stored in data/reference/simulation_moments.csv (results
computed from Coin Metrics' community data, not the data themselves), so that the comparison needs no network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from capitulation.episodes import find_episodes
from capitulation.errors import DataError
from capitulation.mining.hash_rate import rolling_mean
from capitulation.mining.protocol import era_of
from capitulation.mining.retargets import retargets
from capitulation.mining.ribbons import ribbons
from capitulation.paths import reference_folder
from capitulation.simulate.market import simulate_panel

DAYS_PER_YEAR = 365
SINCE = "2014-01-01"
ERAS = (2012, 2016, 2020, 2024)
YEARS_PER_ERA = 4
HASH_RATE_MEAN_DAYS = 30
LEAD_DAYS = 30
SHORTEST_OF_A_WEEK = 7
CLUSTERING_LAG_DAYS = 20
FIRST_SEED = 500_000
STORED = "simulation_moments.csv"
QUANTILES = {"simulated_low": 0.05, "simulated_median": 0.5, "simulated_high": 0.95}


@dataclass(frozen=True)
class _View:
    """What the moments are taken from, since `SINCE` (`era`: by its nominal year, one of `ERAS`)."""

    log_price: pd.Series
    log_hash_rate: pd.Series
    era: pd.Series
    ribbons: pd.DataFrame
    changes: pd.Series


def nominal_era(era: pd.Series) -> pd.Series:
    """Years of eras as `ERAS` has them: a simulated halving can fall into the year before or after the real one.

    >>> nominal_era(pd.Series([2009, 2013, 2016, 2019, 2023])).tolist()
    [2008, 2012, 2016, 2020, 2024]
    """
    return ERAS[0] + YEARS_PER_ERA * ((era - ERAS[0]) / YEARS_PER_ERA).round().astype("int64")


def _view(panel: pd.DataFrame) -> _View:
    table = retargets(panel)
    positive = panel["hash_rate_ehs"].where(panel["hash_rate_ehs"] > 0)
    return _View(
        log_price=np.log(panel["price_usd"])[SINCE:],
        log_hash_rate=np.log(rolling_mean(positive, HASH_RATE_MEAN_DAYS))[SINCE:],
        era=nominal_era(era_of(panel.index, panel))[SINCE:],
        ribbons=ribbons(panel)[SINCE:],
        changes=table.loc[table["date"] >= SINCE, "change"],
    )


def _growth(series: pd.Series) -> float:
    """Log growth per year from the first to the last known value."""
    known = series.dropna()
    days = (known.index[-1] - known.index[0]).days if len(known) > 1 else 0
    return (known.iloc[-1] - known.iloc[0]) * DAYS_PER_YEAR / days if days else float("nan")


def _volatility(log_price: pd.Series) -> float:
    return float(log_price.diff().std() * np.sqrt(DAYS_PER_YEAR))


def _autocorrelation_of_size(log_price: pd.Series, lag: int) -> float:
    size = log_price.diff().abs()
    return float(size.corr(size.shift(lag)))


def _deepest(log_price: pd.Series) -> float:
    return float(np.expm1(log_price - log_price.cummax()).min())


def _lead(view: _View, price_first: bool) -> float:
    """Correlation of one's 30-day change with the other's over the 30 days after it."""
    price, hash_rate = view.log_price.diff(LEAD_DAYS), view.log_hash_rate.diff(LEAD_DAYS)
    earlier, later = (price, hash_rate) if price_first else (hash_rate, price)
    return float(earlier.corr(later.shift(-LEAD_DAYS)))


def _inversions(view: _View) -> pd.DataFrame:
    """Episodes since `SINCE`: days, and depth (lowest gap)."""
    state = view.ribbons
    found = find_episodes(state["in_capitulation"], state["known"])
    gap = state["ribbon_gap"]
    ends = found["end"].fillna(state.index[-1])
    return found.assign(depth=[gap[a:b].min() for a, b in zip(found["start"], ends, strict=True)])


def _by_era(name: str, unit: str, of: Callable[[pd.Series], float], series: str) -> list[tuple]:
    def one(view: _View, era: int) -> float:
        return of(getattr(view, series)[view.era == era])

    return [(f"{name}, era {era}", unit, lambda view, era=era: one(view, era)) for era in ERAS]


def _episode_rows() -> list[tuple]:
    def row(name: str, unit: str, of: Callable[[pd.DataFrame], float]) -> tuple:
        return (name, unit, lambda view: of(_inversions(view)))

    return [
        row("inversions", "number", len),
        row("inversions of a week or more", "number", lambda e: (e["days"] >= SHORTEST_OF_A_WEEK).sum()),
        row("length of an inversion, mean", "days", lambda e: e["days"].mean()),
        row("length of an inversion, longest", "days", lambda e: e["days"].max()),
        row("depth of an inversion, mean", "fraction", lambda e: e["depth"].mean()),
        row("depth of an inversion, deepest", "fraction", lambda e: e["depth"].min()),
        ("share of days inverted", "fraction", lambda view: view.ribbons["in_capitulation"].mean()),
    ]


def _retarget_rows() -> list[tuple]:
    return [
        ("retargets, mean", "fraction", lambda view: view.changes.mean()),
        ("retargets, standard deviation", "fraction", lambda view: view.changes.std()),
        ("retargets, lowest", "fraction", lambda view: view.changes.min()),
        ("retargets, highest", "fraction", lambda view: view.changes.max()),
        ("retargets, share negative", "fraction", lambda view: (view.changes < 0).mean()),
    ]


MOMENTS: list[tuple[str, str, Callable[[_View], float]]] = [
    *_by_era("price, log drift", "per year", _growth, "log_price"),
    *_by_era("price, volatility", "per square-root year", _volatility, "log_price"),
    ("price, excess kurtosis of daily returns", "number", lambda view: view.log_price.diff().kurt()),
    (
        "price, autocorrelation of absolute returns at 1 day",
        "correlation",
        lambda view: _autocorrelation_of_size(view.log_price, 1),
    ),
    (
        f"price, autocorrelation of absolute returns at {CLUSTERING_LAG_DAYS} days",
        "correlation",
        lambda view: _autocorrelation_of_size(view.log_price, CLUSTERING_LAG_DAYS),
    ),
    ("price, deepest drawdown", "fraction", lambda view: _deepest(view.log_price)),
    *_by_era("hash rate, log growth", "per year", _growth, "log_hash_rate"),
    ("hash rate, deepest drawdown of its 30-day mean", "fraction", lambda view: _deepest(view.log_hash_rate)),
    *_episode_rows(),
    *_retarget_rows(),
    ("price change and hash-rate change 30 days later", "correlation", lambda view: _lead(view, True)),
    ("hash-rate change and price change 30 days later", "correlation", lambda view: _lead(view, False)),
]


def moments(panel: pd.DataFrame) -> pd.Series:
    """The figures of one market since 2014: index `moment` (its name), float; NaN where the panel does not reach.

    Units are in `moments_table`. Drift, volatility and growth are of logs, by halving era; inversions are those of the
    30- and 60-day means.
    """
    view = _view(panel)
    values = {name: float(of(view)) for name, _, of in MOMENTS}
    return pd.Series(values, name="value").rename_axis("moment")


def simulated_moments(markets: int, first_seed: int = FIRST_SEED) -> pd.DataFrame:
    """Moments of `markets` simulated realistic markets: 5 %, 50 % and 95 % quantiles, index `moment`."""
    found = pd.DataFrame([moments(simulate_panel(first_seed + i)) for i in range(markets)])
    return pd.DataFrame({name: found.quantile(q) for name, q in QUANTILES.items()}).rename_axis("moment")


def store_moments(panel: pd.DataFrame, markets: int) -> pd.DataFrame:
    """Write the comparison of `panel` (the real market) with `markets` simulated ones to data/reference/."""
    units = pd.Series({name: unit for name, unit, _ in MOMENTS})
    table = simulated_moments(markets)
    table.insert(0, "real", moments(panel))
    table.insert(0, "unit", units)
    table.assign(markets=markets).to_csv(reference_folder() / STORED, float_format="%.6g", lineterminator="\n")
    return table


def moments_table(panel: pd.DataFrame | None = None) -> pd.DataFrame:
    """Real and simulated figures side by side: moment, unit, real, simulated_low (5 %), _median, _high (95 %), within.

    `within`: whether the real figure lies between both quantiles. With `panel`: a column `this_market` besides.
    Raises `DataError` where the stored table is missing.
    """
    path = reference_folder() / STORED
    try:
        table = pd.read_csv(path)
    except OSError:
        raise DataError(f"data/reference/{STORED}: missing; restore it from the repository") from None
    table["within"] = table["real"].between(table["simulated_low"], table["simulated_high"])
    if panel is not None:
        table.insert(3, "this_market", table["moment"].map(moments(panel)))
    return table
