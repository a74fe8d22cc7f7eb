"""docs/codebook.md: every variable, table and parameter with its unit, written from the code that makes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from capitulation.contract import TABLES, Column
from capitulation.params import ANCHORS, Params
from capitulation.report import markdown
from capitulation.words import ANCHOR_WORDS

PANEL = {
    "price_usd": ("USD", "price of one BTC at the END of the day", "PriceUSD"),
    "hash_rate_ehs": ("EH/s", "estimate of the day: difficulty × 2³² × blocks / 86,400 s", "HashRate [TH/s] / 10⁶"),
    "block_count": ("blocks", "blocks found on the day", "BlkCnt"),
    "difficulty": (
        "difficulty",
        "mean difficulty of the day's blocks",
        "derived from HashRate and BlkCnt",
    ),
    "height": ("block", "last block of the day; the genesis block is 0", "derived: running sum of BlkCnt"),
    "issuance_btc": ("BTC", "new coins of the day", "IssTotNtv"),
    "fees_btc": ("BTC", "fees of the day", "FeeTotNtv"),
    "revenue_usd": ("USD", "miners' revenue: new coins and fees in USD", "derived: IssTotUSD + FeeTotNtv × PriceUSD"),
}
STATE = {
    "as_of": ("ISO day", "last day of the data"),
    "price_usd": ("USD", "price on that day"),
    "ribbon_state": ("name", "unknown, expansion, capitulation or recovering"),
    "state_since": ("ISO day", "first day of the present run of the state"),
    "days_in_state": ("days", "length of that run; recovering counts as capitulation"),
    "gap": ("fraction", "fast mean over slow mean, minus 1"),
    "gap_se": ("fraction", "its standard error from block counts"),
    "gap_z": ("standard errors", "gap over its standard error"),
    "gap_history": ("fraction", "gap of the last 60 days"),
    "hash_rate_ehs": ("EH/s", "fast mean of hash rate"),
    "hash_rate_drawdown": ("fraction", "30-day mean below its running peak"),
    "hash_rate_drawdowns": ("object", "by length of mean: mean, peak, day of the peak, drawdown, standard error"),
    "next_retarget": ("object", "date, change, low, high of the next difficulty adjustment"),
    "hashprice": ("USD per PH/s and day", "miner revenue per unit of hash rate"),
    "hashprice_btc": ("BTC per PH/s and day", "the same in coins"),
    "puell_multiple": ("ratio", "value of the day's new coins over its 365-day mean"),
    "fleet": ("object", "power price, number of recent rig models, those at a loss, breakeven of each"),
    "recovery_odds_30d": (
        "probability",
        "that it ends within 30 days; likewise _60d, _90d; each with _low, _high",
    ),
    "recovery_odds_n_at_risk": ("episodes", "earlier ones that got this old; empty outside a capitulation"),
    "required_hash_rate_ehs": ("EH/s", "mean hash rate of the next 7, 14, 30 days at which the means meet"),
    "comparable": ("object", "earlier runs of the state at this age and the log returns that followed"),
}


def parameters() -> pd.DataFrame:
    """Every parameter: parameter, default, unit, allowed, meaning; all text, in the model's order."""
    properties = Params.model_json_schema()["properties"]
    rows = [
        (name, _value(field["default"]), field.get("unit", ""), allowed(name, field), field["description"])
        for name, field in properties.items()
    ]
    return pd.DataFrame(rows, columns=["parameter", "default", "unit", "allowed", "meaning"])


def _value(value: Any) -> str:
    if value == "":
        return "(empty)"
    return str(value)


def allowed(name: str, field: Mapping[str, Any]) -> str:
    """What a parameter may be, from its JSON schema.

    >>> allowed("x", {"type": "integer", "minimum": 2, "maximum": 400})
    '2 to 400'
    """
    if "enum" in field:
        return ", ".join(field["enum"])
    if field["type"] == "array":
        return f"{field['minItems']} to {field['maxItems']} whole numbers"
    if field["type"] == "string":
        return "YYYY-MM-DD" if field.get("unit") == "date" else "a file"
    if "minimum" in field and "maximum" in field:
        return f"{field['minimum']:,.10g} to {field['maximum']:,.10g}"
    low = f"at least {field['minimum']:g}" if "minimum" in field else f"above {field['exclusiveMinimum']:g}"
    return f"{low}, " + (
        f"at most {field['maximum']:g}" if "maximum" in field else f"below {field['exclusiveMaximum']:g}"
    )


def parameters_table() -> str:
    """The parameters as a Markdown table."""
    frame = parameters()
    names = [f"`{name}`" for name in frame["parameter"]]
    rows = [
        [name, *map(markdown.text, row[1:])] for name, row in zip(names, frame.itertuples(index=False), strict=True)
    ]
    return _raw_table(("parameter", "default", "unit", "allowed", "meaning"), rows)


def _raw_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table of cells that are Markdown already."""
    head = list(head)
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _columns(columns: Iterable[Column]) -> str:
    rows = [(f"`{item.name}`", markdown.text(item.unit), markdown.text(item.description)) for item in columns]
    return _raw_table(("column", "unit", "meaning"), rows)


def _table_section(name: str) -> str:
    table = TABLES[name]
    parts = [f"### {name}.csv", f"One row: {table.row}.", _columns(table.columns)]
    if table.more:
        parts += ["Further columns, after those of the contract:", _columns(table.more)]
    return "\n\n".join(parts)


def _definitions() -> str:
    from capitulation.mining.rules import RULES

    rows = [(f"`{rule.name}`", markdown.text(rule.description), markdown.text(rule.source)) for rule in RULES.values()]
    return _raw_table(("definition", "in the state while", "source"), rows)


def _panel() -> str:
    rows = [(f"`{name}`", unit, meaning, markdown.text(source)) for name, (unit, meaning, source) in PANEL.items()]
    return _raw_table(("column", "unit", "meaning", "Coin Metrics' metric"), rows)


def _state() -> str:
    rows = [(f"`{name}`", unit, markdown.text(meaning)) for name, (unit, meaning) in STATE.items()]
    return _raw_table(("key", "unit", "meaning"), rows)


def codebook() -> str:
    """The whole page."""
    anchors = ", ".join(f"`{name}` ({ANCHOR_WORDS[name]})" for name in ANCHORS)
    return "\n\n".join(
        [
            "# Codebook",
            "Written by `make docs` from the code; edit the code, not this page. CSV files are UTF-8 with a header"
            " line; days are ISO days (UTC); shares and returns are fractions, not percents; an empty cell is a missing"
            " value, never a zero. A cell that a spreadsheet would take for a formula starts with an apostrophe.",
            "## The daily panel",
            "What every notebook works on, saved with each report as market/panel.csv. Index `date`: UTC calendar days,"
            " no gaps, sorted, unique. Missing stays missing: nothing is filled from another day or another provider."
            " A column that a provider lacks is empty.",
            _panel(),
            "## Definitions and anchors",
            _definitions(),
            f"Anchors: {anchors}. What each means is in [methodology.md](methodology.md).",
            "## Tables of a report",
            "Every report holds these under tables/, with these columns first and in this order; a table that departs"
            " from this contract stops the run.",
            *[_table_section(name) for name in TABLES],
            "### state.json",
            "The present state; `make status JSON=1` prints the same keys, and `source` and `simulated`.",
            _state(),
            "## Parameters",
            "Set in a profile (`make report PARAMS=file.yml`), or one by one"
            ' (`make report SET="fast_days=20 slow_days=50"`). An unknown name or a value out of range stops the run.',
            parameters_table(),
        ]
    )
