"""What a run may be asked: one frozen, validated model, so that a wrong name or value stops before any work starts.

Sources of values, later ones win: the defaults below (those of a rule stand with the rule, in mining.rules), a profile
(params/*.yml), then single overrides (`make report SET="fast_days=20 slow_days=50"`).
"""

from __future__ import annotations

import datetime as dt
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML, YAMLError
from typing_extensions import TypedDict

from capitulation.data.headers import BLOCK_CLOCKS
from capitulation.data.market import LICENCES
from capitulation.data.sources import PROVIDERS
from capitulation.errors import InputError, nearest, one_line
from capitulation.mining.episodes import ALL_AND_EACH
from capitulation.mining.rules import RULES, field, thresholds
from capitulation.paths import params_folder, write_whole
from capitulation.words import ANCHOR_WORDS

GENESIS_DAY = dt.date(2009, 1, 3)
MAX_PROFILE_BYTES, MAX_HORIZONS = 100_000, 13  # a dozen and the primary one
ANY_PROFILE = "a profile in params/"
SAVED = "# Saved from a notebook: what differs from the defaults."

Definition = Literal[tuple(RULES)]  # type: ignore[valid-type]
Anchor = Literal[tuple(ANCHOR_WORDS)]  # type: ignore[valid-type]
Source = Literal["auto", *PROVIDERS, "simulated"]  # type: ignore[valid-type]
Licence = Literal[LICENCES]  # type: ignore[valid-type]
Clock = Literal[BLOCK_CLOCKS]  # type: ignore[valid-type]
Horizon = Annotated[int, Field(ge=1, le=1500)]
InOrder = AfterValidator(lambda numbers: sorted(set(numbers)))
Horizons = Annotated[list[Horizon], Field(min_length=1, max_length=MAX_HORIZONS), InOrder]
Grade = Literal[ALL_AND_EACH]  # type: ignore[valid-type]
Pages = Annotated[list[Annotated[int, Field(ge=0, le=99)]], Field(min_length=0, max_length=100), InOrder]


def _iso_day(value: Any) -> str:
    """YAML reads an unquoted day as a date: both forms become ISO text; a day before the first block is refused."""
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        value = value.isoformat()
    if not isinstance(value, str) or (value and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value)):
        raise ValueError("must be a day as YYYY-MM-DD")
    try:
        early = bool(value) and dt.date.fromisoformat(value) < GENESIS_DAY
    except ValueError:
        raise ValueError("must be a day that there is, as YYYY-MM-DD") from None
    if early:
        raise ValueError(f"must not be before the first block, {GENESIS_DAY}")
    return value


IsoDay = Annotated[str, BeforeValidator(_iso_day)]


class Hypothesis(TypedDict):
    """A question fixed before its data: does BTC do better than its own era in the days after events from then on?

    Events are those of the rule `definition` at `anchor`, of capitulations of that `grade`, from the day `written` on.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    written: Annotated[IsoDay, Field(min_length=1)]
    definition: Definition
    anchor: Anchor
    grade: Grade
    days: Horizon


HYPOTHESES = [
    Hypothesis(written="2026-11-26", definition="hash_ribbons", anchor="recovery", grade=grade, days=90)
    for grade in ("all", "real")
]


class _Run(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True):
    """Everything but the thresholds of the rules, and what must hold between the fields."""

    source: Source = field("name", "where the data come from", "auto")
    data: str = field("path", "local file, or several separated by spaces, instead of a source", "", max_length=4096)
    columns: dict[str, str] | str = field("names", "which column of the local files holds which series", "")
    licence: Licence = field("name", "commercial: only sources that allow commercial use", "any")
    block_clock: Clock = field("name", "the time of a node's block that says its day", BLOCK_CLOCKS[0])
    as_of: IsoDay = field("date", "last day known to the run; empty: the last complete day", "")
    max_age_days: float = field("days", "a snapshot younger than this is used without fetching", 1.0, ge=0, le=36500)
    pages: Pages = field("numbers", "notebooks that make up the report; empty: all", [])
    sample_start: IsoDay = field("date", "first day of the study tables' sample", "2014-01-01", min_length=1)

    price_fast_days: int = field("days", "fast mean of price in the buy rule", 10, ge=1, le=400)
    price_slow_days: int = field("days", "slow mean of price in the buy rule", 20, ge=2, le=800)
    min_days: int = field("days", "episodes shorter than this are left out everywhere", 0, ge=0, le=1000)
    min_depth_z: float = field(
        "standard errors", "episodes whose |depth_z| is smaller are left out everywhere", 0.0, ge=0, le=100
    )

    horizons_days: Horizons = field(
        "days", "forward-return horizons; the primary one is always among them", [7, 30, 60, 90, 180, 365]
    )
    entry_lag_days: int = field("days", "days between a signal's day and the close it is traded at", 1, ge=0, le=30)
    primary_definition: Definition = field("name", "rule of the one primary test", "hash_ribbons")
    primary_anchor: Anchor = field("name", "anchor of the one primary test", "recovery")
    primary_horizon_days: int = field("days", "horizon of the one primary test", 90, ge=1, le=1500)
    hypotheses: Annotated[list[Hypothesis], Field(max_length=20)] = field(
        "list", "questions written down, with their day, before the events that will decide them", HYPOTHESES
    )
    confidence: float = field("fraction", "coverage of intervals", 0.95, gt=0.5, lt=1)
    n_bootstrap: int = field("resamples", "stationary-bootstrap resamples", 2000, ge=100, le=10**6)
    n_matched: int = field("sets", "matched random entry sets", 2000, ge=100, le=10**6)
    n_random_entries: int = field("sets", "random entry sets with the strategy's exposure", 10_000, ge=100, le=10**6)
    seed: int = field("integer", "seed of every random draw", 20260120, ge=0, le=2**31 - 1)

    hold_days: int = field("days", "holding period of the backtest", 90, ge=1, le=1500)
    fee_bps: float = field("basis points", "fee per trade and side", 10.0, ge=0, le=1000)
    slippage_bps: float = field("basis points", "slippage per trade and side", 5.0, ge=0, le=1000)

    simulation_seed: int = field("integer", "seed of the simulated market", 17, ge=0, le=2**31 - 1)
    trust_repetitions: int = field(
        "markets", "simulated markets recomputed live in the trust notebook", 8, ge=0, le=10**6
    )

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        """True is no number to a reader, and no name or path holds a line break."""
        if isinstance(value, bool):
            raise ValueError("must not be true or false")
        if isinstance(value, str) and ("\x00" in value or "\n" in value):
            raise ValueError("must be text without control characters")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for small, large in (("fast_days", "slow_days"), ("price_fast_days", "price_slow_days")):
            if getattr(self, small) >= getattr(self, large):
                raise ValueError(f"{small}={getattr(self, small)} must be smaller than {large}={getattr(self, large)}")
        if self.retargets_k > self.retargets_n:
            raise ValueError(f"retargets_k={self.retargets_k} must not exceed retargets_n={self.retargets_n}")
        self.horizons_days[:] = sorted({*self.horizons_days, self.primary_horizon_days})
        if len(self.horizons_days) > MAX_HORIZONS:
            both = f"horizons_days and primary_horizon_days={self.primary_horizon_days}"
            raise ValueError(f"{both}: at most {MAX_HORIZONS}")
        if self.as_of and self.as_of <= self.sample_start:
            remedy = "choose a later as_of or an earlier sample_start, the study's first day"
            raise ValueError(f"as_of={self.as_of} must be after sample_start={self.sample_start}: {remedy}")
        for hypothesis in self.hypotheses:
            if hypothesis["anchor"] in ("start", "in_state") and hypothesis["grade"] != "all":
                words = f"grade={hypothesis['grade']}: not known before the recovery; choose all"
                raise ValueError(f"hypotheses, {words}, or the anchor recovery or buy")
        if self.data and self.source not in ("auto", "node", "node_regtest"):
            raise ValueError(f"data={one_line(self.data, 80)!r} and source={self.source} exclude each other")
        return self


SHARED: dict[str, dict[str, str]] = {
    "rules": {name: name for name in (*thresholds(), "price_fast_days", "price_slow_days", "min_days", "min_depth_z")},
    "primary": {"definition": "primary_definition", "anchor": "primary_anchor", "days": "primary_horizon_days"},
    "stated": {"hypotheses": "hypotheses"},
    "draws": {name: name for name in ("n_bootstrap", "n_matched", "n_random_entries", "seed")},
}
"""Parameters that no notebook declares, because they are one thing for the whole run: what counts as a capitulation
(keywords of `mining.episodes.apply_rules`), the one primary test, the hypotheses written down before their data, and
how many random draws from which seed."""

Params = create_model(
    "Params",
    __base__=_Run,
    __doc__="Parameters of one run; immutable, unknown names refused. Days are UTC days, fractions are fractions.",
    **thresholds(),
)


def shared_settings(params: Params) -> dict[str, dict[str, Any]]:  # type: ignore[valid-type]
    """The groups of SHARED with their values in `params`."""
    return {group: {name: getattr(params, field) for name, field in of.items()} for group, of in SHARED.items()}


def _shown(value: Any) -> str:
    """A value on one short line, whatever its size."""
    try:
        return one_line(repr(value), 80)
    except (ValueError, RecursionError):
        return f"{type(value).__name__} too long to write"


def make_params(values: Mapping[str, Any] | None = None, where: str = "the call", others: Iterable[str] = ()) -> Params:  # type: ignore[valid-type]
    """Validated parameters from `values`; `InputError` names the first wrong field, its value and what is allowed.

    `others`: names that are no parameters of a run but known to the user all the same, as those of single notebooks.
    """
    try:
        return Params(**{key if isinstance(key, str) else _shown(key): value for key, value in (values or {}).items()})
    except ValidationError as error:
        first = error.errors()[0]
    name = ".".join(one_line(part, 60) for part in first["loc"]) or "parameters"
    if first["type"] == "extra_forbidden":
        known = [*Params.model_fields, *sorted(set(others) - Params.model_fields.keys())]
        raise InputError(f"unknown parameter {name!r} in {where}; {nearest(name, known)}known are: {', '.join(known)}")
    message = one_line(first["msg"].removeprefix("Value error, "), 250)
    shown = f"={_shown(first['input'])}" if first["loc"] else ""
    meant = ""
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        meant = nearest(first["input"], re.findall("'(.*?)'", first["ctx"]["expected"]))
    raise InputError(f"{name}{shown}: {meant}{message[0].lower()}{message[1:]} (change it in {where})")


def _read_yaml(text: str, where: str) -> Any:
    """The value in `text` (YAML 1.2: 030 is thirty, yes is a word, no key twice); `InputError` if it is none."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        raise InputError(f"{where}: not readable as YAML: {one_line(error, 160)}") from None


def parse_overrides(text: str) -> dict[str, Any]:
    """`name=value` pairs, separated by spaces, values in YAML: "fast_days=20 horizons_days=[30,90]"."""
    pairs: dict[str, Any] = {}
    for part in text.split():
        name, sign, value = part.partition("=")
        if not sign or not name:
            rule = 'must be name=value pairs separated by spaces, e.g. SET="fast_days=20 slow_days=50"'
            raise InputError(f"SET={one_line(part, 80)!r}: {rule}")
        if name in pairs:
            raise InputError(f"SET: {one_line(name, 60)!r} is given twice; keep one")
        pairs[name] = _read_yaml(value, f"SET ({one_line(name, 40)})")
    return pairs


def read_profile(profile: str | Path | None) -> dict[str, Any]:
    """The mapping in a profile: a path, or the bare name of a file in params/ (`quick` is params/quick.yml)."""
    if not profile:
        return {}
    path, where = Path(profile), f"PARAMS={one_line(profile, 120)}"
    if path.suffix not in (".yml", ".yaml") and "/" not in str(profile):
        path = params_folder() / f"{profile}.yml"
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > MAX_PROFILE_BYTES):
            raise OSError(0, "not a short regular file")
        values = _read_yaml(path.read_text(encoding="utf-8"), where) or {}
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not readable as UTF-8 text"
        known = sorted(path.stem for path in params_folder().glob("*.yml"))
        meant = f"{nearest(Path(profile).stem, known)}name a YAML file or one of {one_line(', '.join(known), 300)}"
        raise InputError(f"{where}: {reason}; {meant}") from None
    if not isinstance(values, dict):
        raise InputError(f"{where}: must hold name: value lines, holds {type(values).__name__}")
    return values


def load_params(profile: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Params:  # type: ignore[valid-type]
    """Defaults, then the profile, then `overrides`; `InputError` where any of them cannot be used.

    >>> load_params(None, {"slow_days": 90}).slow_days
    90
    """
    return make_params(read_profile(profile) | dict(overrides or {}), f"SET or {one_line(profile or ANY_PROFILE, 80)}")


def save_profile(name: str, values: Mapping[str, Any]) -> str:
    """Write `values` to params/`name`.yml, once they are valid together, and say how to make a report of them.

    A profile saved so before is replaced at once; any other file of that name stays. Raises `InputError` for a name
    that is not lower-case letters, digits and hyphens, or a value that cannot be used.
    """
    params, path = make_params(values, "the setting"), params_folder() / f"{name}.yml"
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,60}", name):
        raise InputError(f"profile name {one_line(name, 60)!r}: must be lower-case letters, digits and hyphens")
    if path.exists() and not path.read_text(encoding="utf-8").startswith(SAVED):
        raise InputError(f"profile name {name!r}: params/{name}.yml was not saved from a notebook; choose another name")
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(params.model_dump(exclude_defaults=True), text)
    write_whole(path, f"{SAVED}\n{text.getvalue()}".encode())
    return f"make report PARAMS={name}"
