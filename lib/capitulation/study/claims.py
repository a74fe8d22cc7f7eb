"""The ledger of published claims: what each says, the data its author could have had, and the verdict.

A claim is judged on the data up to its own `as_of`; what came later is told beside it, never mixed in.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, TypeAdapter
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from capitulation.errors import DataError, one_line
from capitulation.paths import reference_folder
from capitulation.study.chance import LEVEL
from capitulation.study.returns import SINCE
from capitulation.words import day, stretches

REPRODUCED, CONTRADICTED = "reproduced", "contradicted"
CHANCE, NOT_TESTABLE = "not distinguishable from chance", "not testable with free data"
VERDICTS = (REPRODUCED, CONTRADICTED, CHANCE, NOT_TESTABLE)


class Claim(BaseModel, extra="forbid", frozen=True):
    """One entry of claims.yml; `as_of`: last day its author could know; `measure`: a function of notebook 70."""

    id: int
    source: str
    published_on: dt.date | None
    claim: str
    published: str
    measure: str
    parameters: dict[str, Any]
    as_of: dt.date | None = None
    day_known: bool = True


class Measured(NamedTuple):
    """A claim's figures in words, verdict, reason, p; `since`: the figures on all data; `followed`: what came after."""

    measured: str
    verdict: str
    reason: str
    p: float = math.nan
    since: str = ""
    followed: str = ""


class NotMeasurable(Exception):
    """The panel lacks what a claim needs; the message says what."""


def need(condition: object, reason: str) -> None:
    """Raise `NotMeasurable` with `reason` unless `condition` holds."""
    if not condition:
        raise NotMeasurable(reason)


def judge(matches: bool, p: float = 0.0) -> str:
    """Verdict on figures claimed as evidence: they must come out as published, and stand out from chance.

    >>> judge(True), judge(False, 0.01), judge(True, 0.3)
    ('reproduced', 'contradicted', 'not distinguishable from chance')
    """
    return (REPRODUCED if p < LEVEL else CHANCE) if matches else CONTRADICTED


def judge_effect(p: float) -> str:
    """Verdict on a claimed direction, from the one-sided p-value: the other direction must stand out to contradict it.

    >>> judge_effect(0.01), judge_effect(0.6), judge_effect(0.99)
    ('reproduced', 'not distinguishable from chance', 'contradicted')
    """
    return REPRODUCED if p < LEVEL else CONTRADICTED if p > 1 - LEVEL else CHANCE


def read_claims(path: Path | None = None) -> tuple[Claim, ...]:
    """Every claim of data/reference/claims.yml (or of `path`), in order of id; `DataError` for a file that is wrong."""
    path = path or reference_folder() / "claims.yml"
    try:
        entries = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        claims = {claim.id: claim for claim in TypeAdapter(list[Claim]).validate_python(entries)}
    except (OSError, YAMLError, ValueError) as error:
        raise DataError(f"{path.name}: not a list of claims: {one_line(error, 200)}") from None
    if len(claims) < len(entries):
        raise DataError(f"{path.name}: an id appears twice")
    return tuple(claims[number] for number in sorted(claims))


def _not_known(claim: Claim, past: pd.DataFrame, since: str) -> str:
    """Days without price or hash rate from 60 before the first day that the claim names (else `since`) on, in words."""
    first = pd.Timestamp(min(re.findall(r"\d{4}-\d\d-\d\d", str(claim.parameters)), default=since or past.index[0]))
    parts = []
    for column, name in (("price_usd", "price"), ("hash_rate_ehs", "hash rate")):
        known = past.get(column, pd.Series(np.nan, past.index)).notna()
        missing = past.index[~known & known.cummax() & (past.index >= first - pd.Timedelta(days=60))]
        parts += [f"{name} on {stretches(missing)}"] if len(missing) else []
    return f" Missing in these data: {'; '.join(parts)}." if parts else ""


def measure_claim(
    claim: Claim, panel: pd.DataFrame, function: Callable[..., Measured], again: bool, since: str = SINCE
) -> Measured:
    """`function(past, panel, **claim.parameters)`, where `past` ends on the last day that the claim could know.

    With `again` the same is measured on all of `panel`, for `since` of the result. What cannot be shown becomes "not
    testable". The reason names the days without price or hash rate, since the argument `since` where the claim names no
    day of its own.
    """
    first, last = panel.index[0], panel.index[-1]
    as_of = pd.Timestamp(claim.as_of or last)
    if not first <= as_of <= last:
        end = f"end on {day(last)}, before the claim's own data ({day(as_of)})"
        begin = f"begin on {day(first)}, after the claim's own"
        return Measured("not measured", NOT_TESTABLE, f"The data {end if as_of > last else begin}.")
    past = panel.loc[:as_of]
    missing = _not_known(claim, past, since)
    try:
        found = function(past, panel, **claim.parameters)
    except NotMeasurable as reason:
        return Measured("not measured", NOT_TESTABLE, f"The data cannot show it: {reason}.{missing}")
    found = found._replace(reason=found.reason + missing)
    if not again or as_of == last:
        return found
    try:
        return found._replace(since=f"{function(panel, panel, **claim.parameters).measured} (to {day(last)})")
    except NotMeasurable as reason:
        return found._replace(since=f"cannot be measured on all data: {reason}")


def claims_table(
    claims: Iterable[Claim], results: Mapping[int, Measured], panel: pd.DataFrame, simulated: bool = False
) -> pd.DataFrame:
    """claims.csv: one row per claim that has a result (by id).

    `measured`, `verdict` and `p_value` use the data up to `as_of`, `measured_since` all of `panel`; `note` joins the
    reason, the precision of the date and what followed, and opens with a warning where `simulated`.
    """
    rows = []
    for claim, found in ((claim, results[claim.id]) for claim in claims if claim.id in results):
        note = [
            "On a simulated market, which tells nothing about the claim:" * simulated,
            found.reason,
            f"The day of publication is not known; {claim.published_on} closes its year." * (not claim.day_known),
            f"What followed: {found.followed.removesuffix('.')}." * bool(found.followed),
        ]
        row = claim.model_dump(include={"id", "source", "published_on", "claim", "published"})
        row |= {"measured": found.measured, "verdict": found.verdict, "p_value": found.p}
        row |= {"note": " ".join(filter(None, note)), "as_of": claim.as_of or panel.index[-1]}
        rows.append(row | {"measured_since": found.since, "followed": found.followed, "measure": claim.measure})
    return pd.DataFrame(rows).astype(dict.fromkeys(("published_on", "as_of"), panel.index.dtype))
