"""The table contract: names, columns, units and meanings of every CSV that a report publishes.

Downstream users read these files by name, so a table that departs from its contract stops the run. The codebook in
docs/ is written from this module.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from capitulation.errors import ReportError


@dataclass(frozen=True)
class Column:
    """One column: its name, unit ("" for none) and what it holds."""

    name: str
    unit: str
    description: str


@dataclass(frozen=True)
class Table:
    """One published CSV: its name, what a row is, its columns in order, and `more` that the suite adds after them."""

    name: str
    row: str
    columns: tuple[Column, ...]
    more: tuple[Column, ...] = ()


def _columns(text: str) -> tuple[Column, ...]:
    """Columns from lines `column | unit | description`."""
    lines = text.strip().splitlines()
    return tuple(Column(*(part.strip() for part in line.split(" | ", 2))) for line in lines)


def _table(name: str, row: str, text: str, more: str = "") -> Table:
    return Table(name, row, _columns(text), _columns(more))


_STUDY_NOTE = "since sample_start, outcome known"

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        _table(
            "daily",
            "one UTC day",
            """
            date | ISO day | UTC calendar day
            price_usd | USD | price at the end of the day
            hash_rate_ehs | EH/s | day's estimate from blocks found and difficulty
            hash_rate_fast_ehs | EH/s | fast mean of hash rate, full windows only
            hash_rate_slow_ehs | EH/s | slow mean of hash rate, full windows only
            ribbon_gap | fraction | fast mean over slow mean, minus 1
            ribbon_gap_z | standard errors | gap over its Poisson standard error
            in_capitulation | true/false | fast mean below slow mean
            ribbon_state | name | unknown, expansion, capitulation or recovering
            difficulty | difficulty | mean difficulty of the day's blocks
            hashprice_usd_ph_day | USD per PH/s and day | miner revenue per unit of hash rate
            block_count | blocks | blocks found on the day
            height | block | last block of the day
            revenue_usd | USD | issuance and fees at the day's price
            fee_share | fraction | fees over revenue
            puell_multiple | ratio | daily issuance in USD over its 365-day mean
            ribbon_gap_se | fraction | standard error of the gap from block counts
            falling_probability | probability | filtered probability that true hash rate is falling
            hashprice_btc_ph_day | BTC per PH/s and day | coins and fees earned per unit of hash rate
            """,
        ),
        _table(
            "episodes",
            "one capitulation by one definition",
            """
            definition | name | rule of capitulation
            episode | number | counts from 1 within the definition
            start | ISO day | first day in the state
            end | ISO day | first known day out of it; empty while ongoing
            ongoing | true/false | whether the state still holds on the last day
            days | days | end minus start; to the last day, inclusive, while ongoing
            depth | fraction | lowest ribbon gap in the episode
            depth_z | standard errors | that gap over its standard error
            grade | name | noise-like (|z| below 2), doubtful (2 to 3), real (above 3)
            hash_rate_drawdown | fraction | deepest fall of the 30-day mean from its running peak
            price_start | USD | price at the end of the first day
            price_end | USD | price at the end of the end day
            negative_retargets | retargets | difficulty cuts within the episode
            era | year | year of the halving that opened the era
            buy_date | ISO day | first price cross after the end and before the next episode
            """,
        ),
        _table(
            "forward_returns",
            "one definition, anchor and horizon",
            f"""
            definition | name | rule of capitulation
            anchor | name | start, recovery, buy or in_state
            horizon_days | days | holding period
            n_events | events | anchors {_STUDY_NOTE}
            n_clusters | clusters | events closer than the horizon count once
            mean | fraction | mean simple forward return
            median | fraction | median simple forward return
            hit_rate | fraction | share of events with a gain
            worst | fraction | smallest simple forward return
            best | fraction | largest simple forward return
            base_mean | fraction | mean over every day {_STUDY_NOTE}
            base_median | fraction | median over the same days
            base_hit_rate | fraction | share of those days with a gain
            excess_log | log return | mean log return of the events minus that of every day
            ci_low | log return | lower end of the stationary-bootstrap interval of excess_log
            ci_high | log return | its upper end
            p_rotation | p-value | exact rotation test, one-sided: returns at least as high
            p_matched | p-value | against random entries of equal era, momentum, drawdown and spacing
            p_holm | p-value | p_rotation, Holm-adjusted over horizons
            min_detectable_log | log return | smallest excess found with 80 % power at 5 %, given n_clusters
            """,
            """
            p_rotation_own_era | p-value | rotation of returns against their era's mean day, the run-up left out
            p_rotation_two_sided | p-value | share of rotations at least as far from zero
            p_rotation_era | p-value | rotation within each halving era; over-sure, shown to teach why
            p_rotation_demeaned | p-value | rotation of returns less the mean of their halving era
            p_hac | p-value | Newey-West, one-sided; over-sure with few clusters
            p_hansen_hodrick | p-value | Hansen-Hodrick, one-sided; over-sure with few clusters
            t_ols | t-value | ordinary least squares; ignores overlap
            t_hac | t-value | Newey-West
            t_hansen_hodrick | t-value | Hansen-Hodrick
            """,
        ),
        _table(
            "event_returns",
            "one event and horizon",
            """
            definition | name | rule of capitulation
            episode | number | as in episodes.csv
            anchor | name | start, recovery or buy
            anchor_date | ISO day | day of the signal
            horizon_days | days | holding period
            simple_return | fraction | forward return; empty while unknown
            max_adverse | fraction | lowest simple return on the way
            max_favourable | fraction | highest simple return on the way
            """,
        ),
        _table(
            "retargets",
            "one difficulty adjustment",
            """
            date | ISO day | day of the first block at the new difficulty
            height | block | height of that block, a multiple of 2016
            difficulty | difficulty | the new difficulty
            change | fraction | new over old difficulty, minus 1
            negative_streak | retargets | consecutive cuts up to and including this one
            """,
        ),
        _table(
            "backtest",
            "one strategy",
            """
            strategy | name | entry rule and exit rule
            start | ISO day | first day of the equity curve
            end | ISO day | last day of the equity curve
            cagr | fraction per year | compound annual growth, 365 days
            volatility | fraction per year | standard deviation of daily returns times the root of 365
            sharpe | ratio | mean over standard deviation of daily returns, annualised, no risk-free rate
            sortino | ratio | mean over downside deviation, annualised
            max_drawdown | fraction | deepest fall of equity from its running peak
            exposure | fraction | share of days in the market
            n_trades | trades | round trips
            hit_rate | fraction | share of trades with a gain after costs
            deflated_sharpe | probability | that the true Sharpe ratio exceeds the best of as many lucky trials
            """,
            """
            calmar | ratio | compound annual growth over deepest drawdown
            total_return | fraction | gain over the whole sample
            share_of_random_beaten | fraction | random entry sets with the same stays that earned less
            random_median_cagr | fraction per year | growth of the median random set, after the same costs
            p_rotation | p-value | share of rotations of the stays that earned at least as much
            n_trials | variants | strategies tried, each counted once
            open_trade | true/false | whether the last trade is still open
            definition | name | rule that is traded
            anchor | name | signal that buys
            exit | name | way out
            hold_days | days | length of a fixed stay
            """,
        ),
        _table(
            "claims",
            "one published claim",
            """
            id | number | as in data/reference/claims.yml
            source | text | who published it
            published_on | ISO day | when
            claim | text | what, paraphrased
            published | text | the published figure
            measured | text | the figure measured here, as of the claim's own date
            verdict | name | reproduced, contradicted, not distinguishable from chance, not testable with free data
            p_value | p-value | chance of a finding at least as strong, where it applies
            note | text | the reason, computed from the result, and what followed
            """,
            """
            as_of | ISO day | last day of data used for measured
            measured_since | text | the same measure on all data of the run
            followed | text | what happened after the claim
            measure | name | function that measures it
            """,
        ),
    )
}


def check(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """`frame`, if it starts with the columns that the contract of table `name` lists; tables outside the contract pass.

    Further columns may follow the contract's. Raises `ReportError` naming what is missing or out of place.
    """
    table = TABLES.get(name)
    if table is None:
        return frame
    expected = [column.name for column in table.columns]
    found = list(frame.columns[: len(expected)])
    if found != expected:
        missing = [column for column in expected if column not in frame.columns]
        detail = f"missing {', '.join(missing)}" if missing else f"order {', '.join(found)}"
        raise ReportError(f"table {name}.csv departs from its contract: {detail}")
    return frame


def units(name: str) -> dict[str, str]:
    """Unit of each column of table `name`; empty for a table outside the contract."""
    table = TABLES.get(name)
    return {column.name: column.unit for column in (*table.columns, *table.more)} if table else {}
