"""What could have been said on each day of the next weeks, from that day's data alone, and how it came out.

Four questions: will the ribbons turn within 30, 60, 90 days; how large will the next difficulty adjustment be, and on
which day; what will BTC return after a start, a recovery or a buy. Each forecast stands beside a *constant*: what all
earlier cases say when nothing is known of the present one. Scores are proper, so that honest numbers do best, and lower
is better: Brier's (1950) for probabilities, the interval score and the CRPS (Gneiting and Raftery 2007) otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtr

from capitulation.ahead import ahead
from capitulation.data import register
from capitulation.data.panel import panel_digest
from capitulation.mining.difficulty import adjustments, next_adjustment_history
from capitulation.mining.episodes import ANCHOR_COLUMNS, ONE_DAY, episodes, n_clusters, of_grade, runs
from capitulation.mining.hashrate import hash_ribbons
from capitulation.study.chance import holm
from capitulation.study.duration import RELAPSE_DAYS, WITHIN, binomial_interval, turn_odds, turned
from capitulation.study.returns import SINCE, event_marks, forward_returns
from capitulation.study.robustness import MIN_EARLIER, known_mean
from capitulation.study.tables import resampled_sums
from capitulation.words import count, odds_text, percent

RETURN_DAYS = (30, 90, 180)
MIN_DAYS = 30  # fewer earlier like days give no share
ADJUSTMENTS = 52  # two years of them make the constant: the hardest to beat of one, two, four years and all
LEVELS = (0.025, 0.25, 0.5, 0.75, 0.975)
*FORECAST, DIGEST = register.FORECAST
KEYS, QUANTILES = FORECAST[:5], FORECAST[6:]  # of LEVELS; probability stands between
CONSTANT = [f"constant_{name}" for name in QUANTILES]
BLOCK_DAYS, MIN_BLOCKS = 180, 5  # of the bootstrap: the longest horizon; from fewer half-years no p is taken
TURNS = {True: "capitulation ends", False: "capitulation starts"}
EVENT_DAYS = 7  # an event of the last week is still told of
REPLAY = [*FORECAST, "constant", *CONSTANT, "by_age", "outcome", "score", "constant_score"]
SCORES = ["kind", "days", "score", "n", "n_blocks", "ours", "constant", "skill", "p", "p_holm"]
SCORES += ["covered", "constant_covered", "by_age", "hindsight"]
SCORE_OF = {"adjustment": "interval", "return": "CRPS"}
RELIABILITY = ["kind", "days", "low", "high", "n", "n_separate", "said", "happened", "ci_low", "ci_high"]


def odds_by_age(found: pd.DataFrame, day: Any, age_days: ArrayLike, within: int) -> np.ndarray:
    """`duration.recovery_odds` of a capitulation `age_days` old on `day`, from the episodes that had ended by then.

    `day`: a Timestamp or a DatetimeIndex with as many ages; so is the shape.
    """
    ended, lengths = found["end"].to_numpy(), found["days"].to_numpy()
    day, age = np.expand_dims(day.to_numpy(), -1), np.expand_dims(age_days, -1)
    grown = (ended <= day) & (lengths >= age)
    n = grown.sum(axis=-1)
    return (grown & (lengths < age + within)).sum(axis=-1) / np.where(n > 0, n, np.nan)


def interval_score(low: Any, high: Any, outcome: Any, confidence: float = 0.95) -> Any:
    """Width of an interval, and what it misses by times 2 / (1 - confidence) (Gneiting and Raftery 2007, eq. 43).

    >>> interval_score(0.0, 1.0, [0.5, 2.0], confidence=0.5).tolist()
    [1.0, 5.0]
    """
    low, high, outcome = (np.asarray(values, dtype=float) for values in (low, high, outcome))
    missed = np.maximum(low - outcome, 0) + np.maximum(outcome - high, 0)
    return high - low + 2 / (1 - confidence) * missed


def crps(sample: Any, outcome: float) -> float:
    """Continuous ranked probability score of the distribution that a sample makes: E|X - y| - E|X - X'| / 2.

    X and X' are drawn from the `sample`, shape (n,), without NaN; n = 1 gives the absolute error.

    >>> crps([0.0, 2.0], 1.0)
    0.5
    """
    x = np.sort(np.asarray(sample, dtype=float))
    n = len(x)
    return float(np.abs(x - outcome).mean() - ((2 * np.arange(n) - n + 1) @ x) / n**2)


def return_forecasts(panel: pd.DataFrame, events: Any, days: int, lag: int = 1, since: str = SINCE) -> pd.DataFrame:
    """The return after each event as earlier ones saw it, beside any earlier day of the sample, and what came.

    Index: the events since `since` (as `returns.event_marks`). Columns: q025 … q975, quantiles of the log returns of
    the earlier events whose outcome was known on the day of this one (missing below three); constant_q025 …, of all
    days since `since` likewise; outcome (NaN while unknown); score and constant_score, the CRPS of both.
    """
    returns, delay = forward_returns(panel["price_usd"], days, lag).loc[since or None :], days + lag
    values, marks = returns.to_numpy(), event_marks(returns.index, events)
    rows = []
    for t in np.flatnonzero(marks):
        past = slice(0, max(t - delay + 1, 0))
        known = values[past][~np.isnan(values[past])], values[past][marks[past] & ~np.isnan(values[past])]
        quantiles, scores = [], []
        for sample in known:
            enough = len(sample) >= MIN_EARLIER
            quantiles.append(np.quantile(sample, LEVELS) if enough else np.full(len(LEVELS), np.nan))
            scores.append(crps(sample, values[t]) if enough else np.nan)
        rows.append((*quantiles[1], *quantiles[0], values[t], scores[1], scores[0]))
    columns = [*QUANTILES, *CONSTANT, "outcome", "score", "constant_score"]
    return pd.DataFrame(rows, returns.index[marks], columns, dtype=float)


def _of_turns(panel: pd.DataFrame, found: pd.DataFrame, windows: Mapping[str, int], since: str) -> pd.DataFrame:
    """Rows of `replay` for the odds that the ribbons turn, and that a recovery relapses."""
    inverted, odds = hash_ribbons(panel, **windows)["inverted"], turn_odds(panel, **windows, since=since)
    first_days = pd.DatetimeIndex(runs(inverted)["start"])
    recovered = pd.Series(event_marks(panel.index, found["end"]), panel.index)
    ends, starts = (
        [(TURNS[state], (inverted == state).fillna(False), days, MIN_DAYS) for days in WITHIN] for state in TURNS
    )
    asked = [*ends, ("relapse", recovered, RELAPSE_DAYS, MIN_EARLIER), *starts]
    tables = []
    for kind, cases, days, enough in asked:
        outcome = turned(inverted, days)
        share = known_mean(outcome.where(cases).to_numpy(), days, enough)
        own = {"kind": kind, "days": days, "probability": odds[f"odds_{days}d"], "outcome": outcome, "constant": share}
        table = pd.DataFrame(own, panel.index)[cases.to_numpy(bool)].loc[since or None :]
        if kind == TURNS[True]:
            began = first_days[np.searchsorted(first_days, table.index, side="right") - 1]
            ages = (table.index - began).days + 1
            table["by_age"] = odds_by_age(found, table.index, ages, days)
        tables.append(table.assign(target_day=table.index + days * ONE_DAY))
    return pd.concat(tables)


def _of_adjustments(panel: pd.DataFrame, since: str) -> pd.DataFrame:
    """Rows of `replay` for the size and the day of the next adjustment; their quantiles are the ends of intervals."""
    past, days = adjustments(panel).dropna(subset="change"), panel.index.to_series()
    wide, narrow = (next_adjustment_history(panel, 1 - 2 * level) for level in LEVELS[:2])
    opened = pd.Series(past["date"].array, past["date"]).reindex(panel.index, method="ffill")
    tables = []
    for kind, name in (("adjustment size", "change"), ("adjustment day", "date")):
        earlier = past.set_index("date")["change"] if name == "change" else opened.drop_duplicates().diff().dt.days
        known = [earlier.rolling(ADJUSTMENTS).quantile(level).reindex(panel.index, method="ffill") for level in LEVELS]
        said = [wide[f"{name}_low"], narrow[f"{name}_low"], wide[name], narrow[f"{name}_high"], wide[f"{name}_high"]]
        outcome = past.set_index("height")[name].reindex(wide["height"]).set_axis(panel.index)
        if name == "date":  # in days from the day of the forecast on
            known = [np.maximum(lasted - (days - opened).dt.days, 1) for lasted in known]
            *said, outcome = ((dates - days).dt.days for dates in (*said, outcome))
        table = pd.DataFrame({"kind": kind, "height": wide["height"], "target_day": wide["date"], "outcome": outcome})
        table[QUANTILES], table[CONSTANT] = np.column_stack(said), np.column_stack(known)
        tables.append(table.loc[since or None :].dropna(subset="height"))
    return pd.concat(tables)


def _of_returns(panel: pd.DataFrame, found: pd.DataFrame, lag: int, since: str) -> pd.DataFrame:
    """Rows of `replay` for the return after starts, recoveries and buys, all and those of real capitulations.

    How deep a capitulation will be is not known at its start.
    """
    tables = []
    for name in ("all", "real"):
        for anchor in ANCHOR_COLUMNS if name == "all" else ("recovery", "buy"):
            events = of_grade(found, name)[ANCHOR_COLUMNS[anchor]]
            kind = f"return after {'' if name == 'all' else 'real '}{anchor}"
            for days in RETURN_DAYS:
                table = return_forecasts(panel, events, days, lag, since).assign(kind=kind, days=days)
                tables.append(table.assign(target_day=table.index + (lag + days) * ONE_DAY))
    return pd.concat(tables)


@ahead()
def replay(
    panel: pd.DataFrame,
    found: pd.DataFrame,
    *,
    fast_days: int = 30,
    slow_days: int = 60,
    lag: int = 1,
    since: str = SINCE,
) -> pd.DataFrame:
    """Every forecast of every day from `since` on, from that day's data alone, with what came: a row per forecast.

    `found`: the episodes of the Hash Ribbons (`mining.episodes.episodes`). Columns: as_of; kind (capitulation ends,
    capitulation starts, relapse, adjustment size, adjustment day, return after start and so on); days, the horizon;
    height, the adjustment's block; target_day, on which it is decided (for adjustments as expected); probability, or
    q025 … q975 (fraction; days from as_of; log return); constant or constant_q025 …, the same as earlier cases alone
    say it: the share of like days (of recoveries, for a relapse), the last 52 adjustments, any earlier day of the
    sample; by_age, Kaplan-Meier's odds by the age of the capitulation; outcome (missing while unknown); score and
    constant_score (lower is better: Brier's, interval score at 95 %, CRPS), from the target_day on: odds that came true
    early would else be scored before the others.
    """
    turns = _of_turns(panel, found, {"fast_days": fast_days, "slow_days": slow_days}, since)
    parts = [turns, _of_adjustments(panel, since), _of_returns(panel, found, lag, since)]
    table = pd.concat(parts).rename_axis("as_of").reset_index().reindex(columns=REPLAY)
    figures = [name for name in REPLAY if name not in KEYS]
    table = table.astype({"days": "Int64", "height": "Int64", **dict.fromkeys(figures, float)})
    due = (table["target_day"] <= panel.index[-1]) | table["height"].notna()
    for prefix in ("", "constant_"):
        table[f"{prefix}score"] = table[f"{prefix}score"].fillna(score(table, prefix)).where(due)
    return table


def score(rows: pd.DataFrame, prefix: str = "") -> pd.Series:
    """Brier's score where `rows` hold a probability, else the interval score of the outermost quantiles, at 95 %."""
    said, outcome = rows["constant" if prefix else "probability"], rows["outcome"]
    ends = rows[f"{prefix}{QUANTILES[0]}"], rows[f"{prefix}{QUANTILES[-1]}"]
    return ((said - outcome) ** 2).fillna(pd.Series(interval_score(*ends, outcome), rows.index))


def held(rows: pd.DataFrame, prefix: str = "") -> pd.Series:
    """Whether the outcome lies within the outermost quantiles, at 95 %; false where one of them is missing."""
    return rows["outcome"].between(rows[f"{prefix}{QUANTILES[0]}"], rows[f"{prefix}{QUANTILES[-1]}"])


def score_table(replayed: pd.DataFrame, n: int = 2000, seed: int = 0) -> pd.DataFrame:
    """How the forecasts of `replay` did beside the constant: forecast_scores.csv, a row per kind and horizon.

    Columns: kind, days; score, its name; n, forecasts that can be scored, with n_blocks, the half-years that hold them;
    ours and constant, the mean scores; skill = 1 - ours / constant; p, one-sided, that the constant is no worse;
    p_holm, that of all rows (Holm 1979); covered, constant_covered, the share of outcomes within the 95 % interval;
    by_age, the score of odds by age alone; hindsight, that of the share which was known only afterwards. p comes from
    the mean difference over its standard deviation in `n` resamples of the calendar in blocks of half a year
    (`tables.resampled_sums`), Student's t with n_blocks - 1 degrees of freedom; none from fewer than five half-years.
    """
    scored = replayed.dropna(subset=["score", "constant_score"]).reset_index(drop=True)
    if scored.empty:
        return pd.DataFrame(columns=SCORES)
    calendar = pd.date_range(scored["as_of"].min(), scored["as_of"].max())
    day, gain = calendar.get_indexer(scored["as_of"]), (scored["constant_score"] - scored["score"]).to_numpy()
    groups = list(scored.groupby(["kind", "days"], sort=False, dropna=False))
    weights = np.zeros((len(calendar), 2 * len(groups)))  # of each group its gain and whether it spoke, by day
    for column, (_, own) in enumerate(groups):
        weights[day[own.index], 2 * column : 2 * column + 2] = np.column_stack([gain[own.index], np.ones(len(own))])
    sums = resampled_sums(weights, BLOCK_DAYS, n, seed)
    means = sums[:, ::2] / np.where(sums[:, 1::2] > 0, sums[:, 1::2], np.nan)
    rows = []
    for ((kind, days), own), errors in zip(groups, np.nanstd(means, axis=0, ddof=1), strict=True):
        ours, constant, outcome = own[["score", "constant_score", "outcome"]].astype(float).mean()
        blocks = np.unique(day[own.index] // BLOCK_DAYS)
        row = {"kind": kind, "days": days, "score": SCORE_OF.get(kind.split()[0], "Brier"), "n": len(own)}
        row |= {"n_blocks": len(blocks), "ours": ours, "constant": constant}
        row["skill"] = 1 - ours / constant if constant else np.nan
        enough = len(blocks) >= MIN_BLOCKS and errors > 0
        row["p"] = stdtr(len(blocks) - 1, (ours - constant) / errors) if enough else np.nan
        if own["probability"].notna().any():
            row |= {"by_age": ((own["by_age"] - own["outcome"]) ** 2).mean(), "hindsight": outcome * (1 - outcome)}
        else:
            row |= {f"{prefix}covered": held(own, prefix).mean() for prefix in ("", "constant_")}
        rows.append(row)
    table = pd.DataFrame(rows).reindex(columns=SCORES)
    return table.assign(p_holm=holm(table["p"]))


def reliability(replayed: pd.DataFrame, kind: str, days: int, confidence: float = 0.95) -> pd.DataFrame:
    """How often it happened by what had been said: reliability.csv, a row per tenth of probability that was said.

    Columns: kind, days, low, high (the tenth), n (forecasts in it that have a score), n_separate (those at least
    `days` apart), said (their mean probability), happened (share), its exact binomial interval ci_low, ci_high as if
    only the separate ones counted (Clopper and Pearson 1934, at fractional counts).
    """
    own = replayed[(replayed["kind"] == kind) & (replayed["days"] == days)].dropna(subset=["probability", "score"])
    rows = []
    for tenth, of_tenth in own.groupby(np.minimum(own["probability"] * 10, 9).astype(int)):
        n, happened = n_clusters(of_tenth["as_of"], days), of_tenth["outcome"].mean()
        row = {"kind": kind, "days": days, "low": tenth / 10, "high": (tenth + 1) / 10, "n": len(of_tenth)}
        row |= {"n_separate": n, "said": of_tenth["probability"].mean(), "happened": happened}
        row["ci_low"], row["ci_high"] = binomial_interval(happened * n, n, confidence)
        rows.append(row)
    return pd.DataFrame(rows, columns=RELIABILITY)


def latest(replayed: pd.DataFrame, panel: pd.DataFrame) -> pd.DataFrame:
    """What is to be written down before the outcome: forecasts.csv, rows of `replay` still open on its last day.

    Of the last day, and of events in its last week as they looked on their own day. Columns: as_of, kind, days, height,
    target_day, probability, q025 … q975, data_sha256, the digest of `panel` up to as_of.
    """
    last = panel.index[-1]
    events = replayed["kind"].str.startswith(("relapse", "return"))
    since = np.where(events, last - (EVENT_DAYS - 1) * ONE_DAY, last)
    said = replayed[["probability", QUANTILES[0]]].notna().any(axis=1)
    rows = replayed.loc[(replayed["as_of"] >= since) & said & replayed["outcome"].isna(), FORECAST]
    digests = {day: panel_digest(panel.loc[:day]) for day in rows["as_of"].unique()}
    return rows.assign(**{DIGEST: rows["as_of"].map(digests)}).reset_index(drop=True)


def question(row: Any) -> str:
    """What a row of forecasts is about: `capitulation ends within 30 days`, `next adjustment, block 943,488: day`."""
    if pd.notna(row.height):
        return f"next adjustment, block {row.height:,}: {row.kind.removeprefix('adjustment ')}"
    if row.kind.startswith("return"):
        return f"{row.days}-day {row.kind} on {row.as_of:%Y-%m-%d}"
    return f"{row.kind} within {row.days} days" + f" of {row.as_of:%Y-%m-%d}" * (row.kind == "relapse")


def answer(row: Any) -> str:
    """What the row says, in words: the odds, or the median and what should hold 19 of 20; returns are simple."""
    if pd.notna(row.probability):
        return odds_text(row.probability)
    told = [row.q500, row.q025, row.q975]
    if row.kind == "adjustment day":
        middle, low, high = (f"{row.as_of + days * ONE_DAY:%Y-%m-%d}" for days in told)
    else:
        digits = 1 if row.kind == "adjustment size" else 0
        middle, low, high = (percent(x if digits else np.expm1(x), digits, True) for x in told)
    return f"{middle} ({low} to {high})"


def record_of(row: Any, replayed: pd.DataFrame) -> str:
    """How such forecasts fared in the replay, in words: what happened when odds were about as high, or coverage."""
    if pd.notna(row.probability):
        table = reliability(replayed, row.kind, row.days)
        alike = table[(table["low"] <= row.probability) & (row.probability <= table["high"])]
        if alike.empty:
            return "never said before"
        found = alike.iloc[-1]
        said = f"said {100 * found['low']:.0f} to {percent(found['high'])} on {count(int(found['n']), 'day')}"
        return f"{said} ({found['n_separate']:.0f} of them separate); it happened on {percent(found['happened'])}"
    own = replayed[(replayed["kind"] == row.kind) & replayed["days"].eq(row.days).fillna(pd.isna(row.days))]
    known = own.dropna(subset=["outcome", QUANTILES[0]])
    separate = known["height"].nunique() or n_clusters(known["as_of"], int(row.days) if len(known) else 1)
    what = "adjustment" if pd.notna(row.height) else "separate case"
    if known.empty:
        return "never said before"
    ours, constant = known.dropna(subset="constant_score")[["score", "constant_score"]].astype(float).mean()
    rival = "the last two years' adjustments" if pd.notna(row.height) else "any earlier day"
    told = f"such ranges were right in {percent(held(known).mean())} of {len(known):,} cases ({count(separate, what)})"
    return told + (f"; score {ours:.3g}, that of {rival} {constant:.3g}" if pd.notna(constant) else "")


def settled(written: pd.DataFrame, panel: pd.DataFrame) -> pd.DataFrame:
    """The register's rows, `written`, with what `panel` knows by now: outcome, score, constant_score, as in `replay`.

    Of rows about the same (as_of, kind, days) the first counts, the others stand without an outcome; so do those that
    were written down when their outcome was there, and odds before their target_day, lest those that come true early
    be counted before the others. Scores are Brier's or the interval score, also of returns.
    """
    replayed = replay(panel, episodes(hash_ribbons(panel)["inverted"], panel))
    truth = replayed[["as_of", "kind", "days", "constant", *CONSTANT, "outcome"]]
    rows = written.astype({"days": "Int64"}).merge(truth, "left", ["as_of", "kind", "days"], validate="many_to_one")
    came = adjustments(panel).set_index("height")["date"].reindex(rows["height"].astype(float))
    decided = came.set_axis(rows.index).where(rows["height"].notna(), rows["target_day"])
    counts = (decided > rows["made_at"].dt.tz_localize(None)) & (decided <= panel.index[-1])
    rows.loc[rows.duplicated(["as_of", "kind", "days"]) | ~counts, "outcome"] = np.nan
    return rows.assign(score=score(rows), constant_score=score(rows, "constant_"))


def register_text(written: pd.DataFrame, panel: pd.DataFrame) -> str:
    """The register's rows, `written`, in a terminal: how those decided by `panel` came out, and those still open."""
    rows = settled(written, panel)
    first, last = rows["made_at"].min(), rows["made_at"].max()
    known, ahead = rows.dropna(subset=["score", "constant_score"]), rows["target_day"] > panel.index[-1]
    still = rows[ahead & rows["outcome"].isna()]  # an adjustment may come before the day on which it was expected
    lines = [f"{count(len(rows), 'forecast')} written down from {first:%Y-%m-%d} to {last:%Y-%m-%d}"]
    lines[0] += f"; {len(known)} scored by {panel.index[-1]:%Y-%m-%d}, {len(still)} open"
    for (kind, days), own in known.groupby(["kind", "days"], sort=False, dropna=False):
        name = f"{kind}, {days} days" if pd.notna(days) else kind
        if own["probability"].notna().all():
            said, happened = own[["probability", "outcome"]].mean()
            told = f"said {percent(said)} in the mean, happened in {percent(happened)}"
        else:
            told = f"range held {held(own).sum()} of {len(own)}"
        scores = f"score {own['score'].mean():.3g}, constant {own['constant_score'].mean():.3g}"
        lines.append(f"  {name:<34}{count(len(own), 'forecast')}: {told}; {scores}")
    newest = still[still["as_of"] == still["as_of"].max()].drop_duplicates(["kind", "days"])
    for row in newest.itertuples():
        lines.append(f"  open: {question(row)}: {answer(row)}, decided {row.target_day:%Y-%m-%d}")
    if len(still) > len(newest):
        lines.append(f"  and {len(still) - len(newest)} said before that are open")
    return "\n".join(lines)
