"""docs/results/README.md: what a report on real data found, as a page of the repository."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from capitulation.params import Params, changed_from_default
from capitulation.report import markdown
from capitulation.report.published import Published, key_pictures, source_line
from capitulation.study.headline import definitions_sentence
from capitulation.study.market_study import FORMATS, SHOWN
from capitulation.tables import in_words
from capitulation.words import ANCHOR_WORDS, DEFINITION_WORDS, percent, signed

Section = Callable[[Published], str]
FIRST_SCREEN_WIDTH = 620
SHOWN_EPISODES = 10
STUDY_FORMATS = {**FORMATS, "p_rotation_own_era": "p"}
SHORT = ["horizon_days", "hit_rate", "base_hit_rate", "median", "base_median", "excess_log", "ci_low", "ci_high"]
SHORT += ["p_rotation", "p_holm"]
P_VALUES = ("p_rotation", "p_matched", "p_holm", "p_value", "p_single", "p_family", "p_spa", "p_stepm")
HEADERS = {
    "horizon_days": "days",
    "n_events": "events",
    "n_clusters": "clusters",
    "base_median": "median, any day",
    "hit_rate": "gains",
    "base_hit_rate": "gains, any day",
    "excess_log": "excess, log",
    "p_rotation": "p exact",
    "p_rotation_own_era": "p, own era",
    "p_holm": "p Holm",
    "p_matched": "p matched",
    "min_detectable_log": "detectable, log",
    "cagr": "growth a year",
    "share_of_random_beaten": "random sets beaten",
    "deflated_sharpe": "deflated Sharpe",
    "depth_z": "depth, z",
    "p_value": "p",
    "p_single": "p alone",
    "p_family": "p family",
    "mean_log": "mean, log",
    "median_excess_log": "median excess, log",
    "f_value": "F",
    "r2_gain": "gain in R²",
    "label": "test",
    "effect_log": "planted, log",
}


def with_interval(table: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """`table` with `ci_low` and `ci_high` as one column of text, named by its confidence."""
    if "ci_low" not in table:
        return table
    name = f"{confidence:.0%} interval".replace("%", " %")
    pairs = zip(table["ci_low"], table["ci_high"], strict=True)
    shown = [f"{signed(low)} to {signed(high)}" if math.isfinite(low) else "–" for low, high in pairs]
    out = table.drop(columns="ci_high")
    return out.assign(ci_low=shown).rename(columns={"ci_low": name})


def study_table(run: Published) -> str:
    """The primary definition at every anchor and horizon."""
    table = run.table("forward_returns")
    rows = table.loc[table["definition"] == run.params.primary_definition, _with_headline_p(run, table, SHOWN)]
    return markdown.table(with_interval(rows, run.params.confidence), HEADERS, STUDY_FORMATS)


def short_table(run: Published) -> str:
    """The primary definition and anchor at every horizon, with little beside what one needs to judge it."""
    table, params = run.table("forward_returns"), run.params
    keys = table[["definition", "anchor"]] == [params.primary_definition, params.primary_anchor]
    rows = table[keys.all(axis=1)].reset_index(drop=True)
    wide = _with_headline_p(run, rows, SHORT)
    pairs = [f"{n} ({clusters})" for n, clusters in zip(rows["n_events"], rows["n_clusters"], strict=True)]
    shown = with_interval(rows[wide], params.confidence)
    shown.insert(1, "events (clusters)", pairs)
    return markdown.table(shown, HEADERS, STUDY_FORMATS)


def _with_headline_p(run: Published, table: pd.DataFrame, columns: list[str]) -> list[str]:
    """`columns` with the p-value that the headline rests on, where it is another one."""
    name = run.headline.get("p_column", "p_rotation")
    if name in columns or name not in table:
        return list(columns)
    at = columns.index("p_rotation")
    return [*columns[:at], name, *columns[at:]]


def definitions_table(run: Published) -> str:
    """Every definition at the primary anchor and horizon."""
    table = run.table("forward_returns")
    keys = table[["anchor", "horizon_days"]] == [run.params.primary_anchor, run.params.primary_horizon_days]
    columns = [
        "definition",
        *_with_headline_p(run, table, [name for name in SHOWN if name not in ("anchor", "horizon_days")]),
    ]
    rows = with_interval(table.loc[keys.all(axis=1), columns], run.params.confidence)
    rows = rows.assign(definition=rows["definition"].map(DEFINITION_WORDS))
    return markdown.table(rows, HEADERS, STUDY_FORMATS)


def _forward_returns(run: Published) -> str:
    params, table = run.params, run.table("forward_returns")
    anchor, horizon = ANCHOR_WORDS[params.primary_anchor], params.primary_horizon_days
    name = DEFINITION_WORDS[params.primary_definition]
    how = (
        "Means and medians are simple returns; the excess is the mean log return of the events minus that of every day"
        " of the sample; clusters are events nearer than the horizon, counted once; p is one-sided and exact;"
        " detectable is the smallest excess found in four of five cases."
    )
    return "\n\n".join(
        [
            f"{name}, every anchor and horizon, since {params.sample_start}. {how}",
            study_table(run),
            f"Every definition, {horizon} days after {anchor}. {definitions_sentence(table, params)}",
            definitions_table(run),
        ]
    )


def _episodes(run: Published) -> str:
    table = run.table("episodes")
    rows = table[table["definition"] == "hash_ribbons"].drop(columns=["definition", "ongoing"])
    formats = {
        "depth": ".1%",
        "depth_z": ".1f",
        "hash_rate_drawdown": ".1%",
        "price_start": ",.0f",
        "price_end": ",.0f",
    }
    shown = rows.tail(SHOWN_EPISODES).iloc[::-1]
    intro = f"The last {len(shown)} of {len(rows)} inversions of the Hash Ribbons, newest first."
    return f"{intro}\n\n{markdown.table(shown, HEADERS, formats)}"


def _backtest(run: Published) -> str:
    table = run.table("backtest")
    if "definition" in table:
        table = table[table["definition"].isna() | (table["definition"] == run.params.primary_definition)]
    wanted = (
        "strategy", "cagr", "volatility", "sharpe", "max_drawdown", "exposure", "n_trades", "hit_rate",
        "share_of_random_beaten", "p_rotation", "deflated_sharpe", "n_trials",
    )  # fmt: skip
    shown = table[[name for name in wanted if name in table]]
    shares = dict.fromkeys(
        ("cagr", "volatility", "max_drawdown", "exposure", "hit_rate", "share_of_random_beaten"), ".0%"
    )
    formats = shares | {"cagr": "+.0%", "sharpe": ".2f", "deflated_sharpe": ".2f", "p_rotation": "p"}
    headers = {**HEADERS, "hit_rate": "trades with a gain", "n_trades": "trades", "n_trials": "variants tried"}
    span = f"{table['start'].iloc[0]} to {table['end'].iloc[0]}"
    costs = f"{run.params.fee_bps:g} and {run.params.slippage_bps:g} basis points of fee and slippage on each side"
    return f"After costs ({costs}), {span}.\n\n{markdown.table(shown, headers, formats)}"


def _claims(run: Published) -> str:
    columns = ["id", "source", "published_on", "claim", "published", "measured", "verdict", "p_value", "note"]
    intro = "Every claim measured on the data its author could have had; verdict and note are computed."
    return f"{intro}\n\n{markdown.table(run.table('claims')[columns], HEADERS, {'p_value': 'p'})}"


def _in_words(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with definitions, anchors and tests named as in sentences."""
    from capitulation.study.trust import TESTS

    named = in_words(table)
    return named.assign(test=named["test"].replace(TESTS)) if "test" in named else named


def _plain(name: str, intro: str, formats: Mapping[str, str], without: Sequence[str] = (), rows: int = 0) -> Section:
    """A section that shows a table: `rows` of it at most, `without` some columns."""
    every = _LOGS | _SHARES | dict.fromkeys(P_VALUES, "p") | dict(formats)

    def section(run: Published) -> str:
        table = _in_words(run.table(name)).drop(columns=list(without), errors="ignore")
        return f"{intro}\n\n{markdown.table(table.head(rows or len(table)), HEADERS, every)}"

    return section


SHOWN_FAMILY = 12
_LOGS = dict.fromkeys(("excess_log", "mean_log", "median_excess_log", "z"), "+.3f")
_SHARES = dict.fromkeys(("hit_rate", "base_hit_rate", "share_of_days", "share_above", "share_p_below_5"), ".0%")
_QUANTILES = dict.fromkeys(("worst", "q25", "median", "q75", "best", "base_median"), "+.2f")
_RATES = dict.fromkeys(
    (f"{world}_{what}" for world in ("stationary", "realistic") for what in ("rate", "error")), ".1%"
)
SECTIONS: Mapping[str, Section] = {
    "episodes": _episodes,
    "definitions": _plain(
        "definitions", "Ten definitions; share of days since the start of the sample.", {}, ["source"]
    ),
    "forward_returns": _forward_returns,
    "returns_by_era": _plain("returns_by_era", "The primary result within each halving era.", FORMATS),
    "backtest": _backtest,
    "specifications_by_rule": _plain("specifications_by_rule", "Every way to ask the question, by rule.", {}),
    "family": _plain(
        "family",
        "The most extreme rules and anchors, alone and within the family of all.",
        {},
        ["n_family"],
        SHOWN_FAMILY,
    ),
    "lag_sensitivity": _plain("lag_sensitivity", "The primary test traded so many days after the signal.", {}),
    "provider_sensitivity": _plain(
        "provider_sensitivity", "The primary test with each provider's own data.", {"share_equal_state": ".2%"}
    ),
    "rigs_now": _plain(
        "rigs_now", "Rig models of the last five years, least efficient first.", {"breakeven_usd_kwh": ".3f"}
    ),
    "lead_tests": _plain("lead_tests", "Do past weeks of the other series help to forecast?", {"r2_gain": ".4f"}),
    "claims": _claims,
    "present": _plain("present", "The state on the last day.", {}),
    "recovery_odds": _plain(
        "recovery_odds",
        "Odds that a capitulation of this age ends within so many days.",
        dict.fromkeys(("odds", "low", "high"), ".0%"),
    ),
    "comparable_moments": _plain(
        "comparable_moments", "Log returns after earlier episodes of this state and age.", _QUANTILES
    ),
    "trust": _plain("trust", "How often each test rejects at 5 % where nothing is there.", _RATES, ["test"]),
    "power": _plain("power", "How often a planted effect is found.", {"rate": ".0%", "error": ".1%"}),
}
"""How each table is shown; tables that are not named here stay in the report."""


def _notebook_section(run: Published, item: Mapping[str, Any]) -> str:
    told = run.notebook(item["name"])
    tables = [Path(name).stem for name in item["files"] if name.startswith("tables/")]
    parts = [f"## {markdown.text(told.title)}", markdown.text(run.finding(item["name"]))]
    parts += ["\n".join(f"- {markdown.text(note)}" for note in told.notes)]
    parts += [markdown.picture(picture.path.name, picture.alt, picture.caption) for picture in told.key_pictures]
    parts += [SECTIONS[name](run) for name in SECTIONS if name in tables and len(run.table(name))]
    return "\n\n".join(part for part in parts if part)


def _parameters(run: Published) -> str:
    changed = changed_from_default(run.params)
    if run.params.data:
        changed["data"] = Path(run.params.data).name
    if not changed:
        return "Every parameter has its default value."
    defaults = Params().model_dump()
    rows = [(name, str(defaults[name]) or "(empty)", str(value)) for name, value in changed.items()]
    table = markdown.table(pd.DataFrame(rows, columns=["parameter", "default", "here"]))
    return f"Parameters that differ from their defaults:\n\n{table}"


def results_page(run: Published) -> str:
    """The whole page."""
    market = run.market
    head = [
        f"# Results on real data, as of {market['last_day']}",
        f"Written by `make docs` from the report `{run.record['run']}`; numbers, sentences and pictures are its"
        f" own. Data: {market['n_days']:,} days, {market['first_day']} to {market['last_day']}."
        f" {source_line(market)} Digest of the panel: `{market['digest'][:16]}`.",
        "[How each figure is made](../methodology.md), [what each column means](../codebook.md).",
        *[f"Note: {markdown.text(note)}" for note in market["notes"]],
        _parameters(run),
    ]
    return "\n\n".join([*head, *[_notebook_section(run, item) for item in run.record["notebooks"]]])


def finding_region(run: Published) -> str:
    """The README's first screen: the finding, one picture, one table; empty where the run made no primary test."""
    told = run.headline
    if not told:
        return ""
    params, n = run.params, int(told["primary"]["n_events"])
    pictures = {picture.path.stem: picture for picture in key_pictures(run)}
    shown = next((pictures[name] for name in ("returns_by_horizon", "event_paths") if name in pictures), None)
    name, anchor = DEFINITION_WORDS[params.primary_definition], ANCHOR_WORDS[params.primary_anchor]
    return "\n\n".join(
        part
        for part in [
            f"**As of {told['as_of']}.** {markdown.text(' '.join(told['sentences']))}",
            markdown.picture(f"docs/results/{shown.path.name}", shown.alt, width=FIRST_SCREEN_WIDTH) if shown else "",
            short_table(run),
            f"{name} {anchor} since {params.sample_start}, bought at the close {_lag(params)}; {n} of them have a known"
            f" outcome at {params.primary_horizon_days} days. *Excess*: mean log return minus that of every day,"
            f" with its {percent(params.confidence)} stationary-bootstrap interval; *p exact*: one-sided rotation test;"
            f" *p Holm*: adjusted for {len(params.horizons_days)} looks; *clusters*: events nearer than the horizon"
            " count once."
            f" {source_line(run.market)} [All results](docs/results/README.md).",
        ]
        if part
    )


def _lag(params: Params) -> str:
    days = params.entry_lag_days
    return "of the same day" if days == 0 else f"{days} day{'s' if days > 1 else ''} later"
