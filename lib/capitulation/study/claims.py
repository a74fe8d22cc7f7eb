"""The claims ledger: every published claim, measured, with its verdict.

The claims stand in data/reference/claims.yml, each naming the function that measures it; functions live in the
claims_* modules.
"""

from __future__ import annotations

import datetime as dt
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from capitulation.errors import DataError, one_line
from capitulation.params import Params
from capitulation.paths import reference_folder
from capitulation.study.claims_base import NOT_TESTABLE, Finding, NotMeasurable, View, day

MEASURE_MODULES = ("claims_article", "claims_price", "claims_vaneck", "claims_edwards", "claims_winrates")
SIMULATED_NOTICE = "On a simulated market, which tells nothing about the claim: "
REQUIRED = ("id", "source", "published_on", "claim", "published", "measure", "parameters")
OPTIONAL = ("as_of", "day_known")
CLAIM_COLUMNS = ("id", "source", "published_on", "claim", "published", "measured", "verdict", "p_value", "note")
EXTRA_COLUMNS = ("as_of", "measured_since", "followed", "measure")


@dataclass(frozen=True)
class Claim:
    """One entry of claims.yml; `published_on` and `as_of` are missing where not known."""

    id: int
    source: str
    published_on: dt.date | None
    claim: str
    published: str
    measure: str
    parameters: Mapping[str, Any]
    as_of: dt.date | None = None
    day_known: bool = True


def read_claims(path: Path | None = None) -> tuple[Claim, ...]:
    """Every claim of data/reference/claims.yml, in order of id.

    Raises `DataError` for a file that is not a list of claims, an unknown or missing field, or an id that appears
    twice.
    """
    path = path or reference_folder() / "claims.yml"
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: not readable: {one_line(error, 160)}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path.name}: must be a list of claims")
    claims = tuple(sorted((_claim(entry, path.name) for entry in entries), key=lambda claim: claim.id))
    ids = [claim.id for claim in claims]
    if len(set(ids)) < len(ids):
        raise DataError(f"{path.name}: an id appears twice")
    return claims


def _claim(entry: Mapping[str, Any], name: str) -> Claim:
    missing = [field for field in REQUIRED if field not in entry]
    unknown = [str(field) for field in entry if field not in REQUIRED + OPTIONAL]
    if missing or unknown:
        found = f"lacks {', '.join(missing)}" if missing else f"unknown field {one_line(', '.join(unknown), 80)}"
        raise DataError(f"{name}: claim {one_line(entry.get('id'), 20)} {found}")
    return Claim(**entry)


def measure_function(name: str) -> Callable[..., Finding]:
    """The function that `claims_module.function` names; `DataError` unless it is one of the measure modules' own.

    >>> measure_function("claims_vaneck.rig_breakeven").__name__
    'rig_breakeven'
    """
    module, _, function = name.partition(".")
    if module in MEASURE_MODULES:
        found = getattr(importlib.import_module(f"capitulation.study.{module}"), function, None)
        if callable(found) and found.__module__.endswith(module) and not function.startswith("_"):
            return found
    raise DataError(f"claims.yml: measure {one_line(name, 60)!r} is not a function of {', '.join(MEASURE_MODULES)}")


def measure_claim(claim: Claim, panel: pd.DataFrame, params: Params) -> Finding:
    """One claim on one panel; what the panel cannot show becomes "not testable" with the reason, never an exception."""
    as_of = pd.Timestamp(claim.as_of) if claim.as_of else panel.index[-1]
    if as_of > panel.index[-1]:
        text = f"The data end on {day(panel.index[-1])}, before the claim's own data ({day(as_of)})."
        return Finding("not measured", NOT_TESTABLE, text)
    if as_of < panel.index[0]:
        return Finding("not measured", NOT_TESTABLE, f"The data begin on {day(panel.index[0])}, after the claim's own.")
    try:
        return measure_function(claim.measure)(View(panel, as_of, params), **claim.parameters)
    except NotMeasurable as reason:
        return Finding("not measured", NOT_TESTABLE, f"The data cannot show it: {reason}.")


def _note(claim: Claim, found: Finding) -> str:
    """Reason, what the precision of the date is, and what followed."""
    parts = [found.reason]
    if not claim.day_known:
        parts.append(f"The day of publication is not known; {claim.published_on} closes its year.")
    if found.followed:
        parts.append(f"What followed: {found.followed.removesuffix('.')}.")
    return " ".join(parts)


def _row(claim: Claim, found: Finding, last: pd.Timestamp) -> dict[str, Any]:
    published = {name: getattr(claim, name) for name in ("id", "source", "published_on", "claim", "published")}
    return published | {
        "measured": found.measured,
        "verdict": found.verdict,
        "p_value": float(found.p_value) if math.isfinite(found.p_value) else math.nan,
        "note": _note(claim, found),
        "as_of": claim.as_of or last.date(),
        "measured_since": found.measured_since,
        "followed": found.followed,
        "measure": claim.measure,
    }


def claims_table(
    panel: pd.DataFrame, params: Params, claims: tuple[Claim, ...] | None = None, simulated: bool = False
) -> pd.DataFrame:
    """The contract's claims.csv: one row per claim, then `EXTRA_COLUMNS`.

    `measured`, `verdict` and `p_value` use the data up to the claim's own `as_of`; `measured_since` is the same on
    all of `panel` and `followed` what came after, both empty where nothing came. `published_on` and `as_of` are days.
    Windows are the published ones (30 and 60 days), whatever `params` says; sample start, entry lag, power price and
    horizons are the run's. With `simulated` every note opens by saying so.
    """
    notice = SIMULATED_NOTICE if simulated else ""
    rows = [_row(claim, measure_claim(claim, panel, params), panel.index[-1]) for claim in claims or read_claims()]
    table = pd.DataFrame(rows, columns=[*CLAIM_COLUMNS, *EXTRA_COLUMNS])
    days = {name: pd.to_datetime(table[name]) for name in ("published_on", "as_of")}
    return table.assign(note=notice + table["note"], **days)
