"""What a run is asked to do: one frozen, validated model, so that a wrong name or value stops before any work starts.

Sources of values, later ones win: the defaults below, a profile (params/*.yml), then single overrides
(`make report SET="fast_days=20 slow_days=50"`). Every value is a JSON type once dumped, because papermill turns
anything else into text.
"""

from __future__ import annotations

import datetime as dt
import re
import reprlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from capitulation.errors import InputError, one_line
from capitulation.paths import params_folder

DEFINITIONS = (
    "hash_ribbons",
    "hash_rate_growth_30d",
    "hash_rate_growth_90d",
    "hash_rate_drawdown",
    "negative_retargets",
    "difficulty_ribbon_compression",
    "puell_multiple",
    "puell_compression",
    "hashprice_stress",
    "fleet_under_breakeven",
)
ANCHORS = ("start", "recovery", "buy", "in_state")
SOURCES = ("auto", "coinmetrics", "mempool_space", "blockchain_com", "simulated")
GENESIS_DAY = dt.date(2009, 1, 3)
MAX_PROFILE_BYTES = 100_000
NUMBERS_AND_DAYS = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp")}
DECIMAL_INTEGER = re.compile(r"[-+]?(0|[1-9]\d{0,17})\Z", re.ASCII)
DECIMAL_FRACTION = re.compile(r"[-+]?(\d{1,18}\.\d{0,18}|\.\d{1,18}|\d{1,18}(?=e))(e[-+]?\d{1,3})?\Z", re.ASCII)
WRONG_TAG = (AttributeError, LookupError, TypeError, ArithmeticError)
"""What PyYAML raises for `!!bool x` and the like."""

Definition = Literal[DEFINITIONS]  # type: ignore[valid-type]
Anchor = Literal[ANCHORS]  # type: ignore[valid-type]
Source = Literal[SOURCES]  # type: ignore[valid-type]


class Params(BaseModel):
    """Parameters of one run; immutable, unknown names refused.

    Days are calendar days (UTC), fractions are fractions (0.1 is 10 %), powers and prices carry their unit in the
    name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    source: Source = Field("auto", description="where the data come from", json_schema_extra={"unit": "name"})
    data: str = Field(
        "",
        max_length=4096,
        description="local CSV file in Coin Metrics' format, instead of a source",
        json_schema_extra={"unit": "path"},
    )
    as_of: str = Field(
        "",
        description="last day known to the run; empty: the last complete day",
        json_schema_extra={"unit": "date"},
    )
    max_age_days: float = Field(
        1.0,
        ge=0,
        le=36500,
        description="a snapshot younger than this is used without fetching",
        json_schema_extra={"unit": "days"},
    )
    sample_start: str = Field(
        "2014-01-01", description="first day of the study tables' sample", json_schema_extra={"unit": "date"}
    )

    fast_days: int = Field(30, ge=2, le=400, description="fast mean of hash rate", json_schema_extra={"unit": "days"})
    slow_days: int = Field(60, ge=3, le=800, description="slow mean of hash rate", json_schema_extra={"unit": "days"})
    price_fast_days: int = Field(
        10, ge=1, le=400, description="fast mean of price in the buy rule", json_schema_extra={"unit": "days"}
    )
    price_slow_days: int = Field(
        20, ge=2, le=800, description="slow mean of price in the buy rule", json_schema_extra={"unit": "days"}
    )
    min_days: int = Field(
        0,
        ge=0,
        le=1000,
        description="shortest episode kept by the filtered list",
        json_schema_extra={"unit": "days"},
    )
    min_depth_z: float = Field(
        0.0,
        ge=0,
        le=100,
        description="smallest |depth_z| kept by the filtered list",
        json_schema_extra={"unit": "standard errors"},
    )

    # Thresholds of the rules that have no published one were set so that each holds on a minority of days, before
    # any return was looked at.
    drawdown_mean_days: int = Field(
        30,
        ge=1,
        le=400,
        description="mean of hash rate for the drawdown rule",
        json_schema_extra={"unit": "days"},
    )
    drawdown_threshold: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="drawdown of hash rate from its running peak",
        json_schema_extra={"unit": "fraction"},
    )
    retargets_k: int = Field(
        3, ge=1, le=100, description="negative retargets needed", json_schema_extra={"unit": "retargets"}
    )
    retargets_n: int = Field(
        5, ge=1, le=100, description="retargets looked back on", json_schema_extra={"unit": "retargets"}
    )
    compression_threshold: float = Field(
        0.03,
        gt=0,
        lt=1,
        description="difficulty ribbon: coefficient of variation below this",
        json_schema_extra={"unit": "fraction"},
    )
    puell_threshold: float = Field(
        0.5, gt=0, lt=10, description="Puell multiple below this", json_schema_extra={"unit": "ratio"}
    )
    hashprice_stress_ratio: float = Field(
        0.5,
        gt=0,
        lt=2,
        description="hashprice below this share of its mean of the past year",
        json_schema_extra={"unit": "ratio"},
    )
    power_price_usd_kwh: float = Field(
        0.07, gt=0, lt=10, description="power price of miners", json_schema_extra={"unit": "USD/kWh"}
    )
    fleet_share_threshold: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of the recent rig fleet under breakeven",
        json_schema_extra={"unit": "fraction"},
    )

    horizons_days: list[int] = Field(
        [7, 30, 60, 90, 180, 365],
        min_length=1,
        max_length=12,
        description="forward-return horizons",
        json_schema_extra={"unit": "days"},
    )
    entry_lag_days: int = Field(
        1,
        ge=0,
        le=30,
        description="days between a signal's day and the close it is traded at",
        json_schema_extra={"unit": "days"},
    )
    primary_definition: Definition = Field(
        "hash_ribbons", description="rule of the one primary test", json_schema_extra={"unit": "name"}
    )
    primary_anchor: Anchor = Field(
        "recovery", description="anchor of the one primary test", json_schema_extra={"unit": "name"}
    )
    primary_horizon_days: int = Field(
        90, ge=1, le=1500, description="horizon of the one primary test", json_schema_extra={"unit": "days"}
    )
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="coverage of intervals", json_schema_extra={"unit": "fraction"}
    )
    n_bootstrap: int = Field(
        2000,
        ge=100,
        le=1_000_000,
        description="stationary-bootstrap resamples",
        json_schema_extra={"unit": "resamples"},
    )
    n_matched: int = Field(
        2000,
        ge=100,
        le=1_000_000,
        description="matched random entry sets",
        json_schema_extra={"unit": "sets"},
    )
    n_random_entries: int = Field(
        10_000,
        ge=100,
        le=1_000_000,
        description="random entry sets with the strategy's exposure",
        json_schema_extra={"unit": "sets"},
    )
    seed: int = Field(
        20260120,
        ge=0,
        le=2**31 - 1,
        description="seed of every random draw",
        json_schema_extra={"unit": "integer"},
    )

    hold_days: int = Field(
        90, ge=1, le=1500, description="holding period of the backtest", json_schema_extra={"unit": "days"}
    )
    fee_bps: float = Field(
        10.0, ge=0, le=1000, description="fee per trade and side", json_schema_extra={"unit": "basis points"}
    )
    slippage_bps: float = Field(
        5.0,
        ge=0,
        le=1000,
        description="slippage per trade and side",
        json_schema_extra={"unit": "basis points"},
    )

    simulation_seed: int = Field(
        17,
        ge=0,
        le=2**31 - 1,
        description="seed of the simulated market",
        json_schema_extra={"unit": "integer"},
    )
    trust_repetitions: int = Field(
        8,
        ge=0,
        le=1_000_000,
        description="simulated markets recomputed live in the trust notebook",
        json_schema_extra={"unit": "markets"},
    )

    @field_validator("as_of", "sample_start", mode="before")
    @classmethod
    def _iso_day(cls, value: Any) -> str:
        """YAML reads an unquoted day as a date: both forms become ISO text; a day before the first block is refused."""
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            value = value.isoformat()
        if not isinstance(value, str) or (value and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value)):
            raise ValueError("must be a day as YYYY-MM-DD")
        if value and dt.date.fromisoformat(value) < GENESIS_DAY:
            raise ValueError(f"must not be before the first block, {GENESIS_DAY}")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_number(cls, value: Any) -> Any:
        """`yes` in YAML is True, which Python would take for 1."""
        if isinstance(value, bool):
            raise ValueError("must not be true or false")
        return value

    @field_validator("data")
    @classmethod
    def _plain_path(cls, value: str) -> str:
        if "\x00" in value or "\n" in value:
            raise ValueError("must be a path without control characters")
        return value

    @field_validator("horizons_days")
    @classmethod
    def _sorted_horizons(cls, value: list[int]) -> list[int]:
        if any(not 1 <= h <= 1500 for h in value):
            raise ValueError("every horizon must lie in 1 to 1500 days")
        return sorted(set(value))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.sample_start:
            raise ValueError("sample_start must be a day as YYYY-MM-DD")
        if self.fast_days >= self.slow_days:
            raise ValueError(f"fast_days={self.fast_days} must be smaller than slow_days={self.slow_days}")
        if self.price_fast_days >= self.price_slow_days:
            raise ValueError(
                f"price_fast_days={self.price_fast_days} must be smaller than price_slow_days={self.price_slow_days}"
            )
        if self.retargets_k > self.retargets_n:
            raise ValueError(f"retargets_k={self.retargets_k} must not exceed retargets_n={self.retargets_n}")
        if self.primary_horizon_days not in self.horizons_days:
            raise ValueError(
                f"primary_horizon_days={self.primary_horizon_days} must be one of horizons_days={self.horizons_days}"
            )
        if self.as_of and self.as_of <= self.sample_start:
            raise ValueError(f"as_of={self.as_of} must be after sample_start={self.sample_start}")
        if self.data and self.source not in ("auto",):
            raise ValueError(f"data={one_line(self.data, 80)!r} and source={self.source} exclude each other")
        return self


def _shown(value: Any) -> str:
    """A value on one short line, whatever its size: nested far, or with more digits than Python writes."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    try:
        return one_line(short.repr(value), 80)
    except ValueError:
        return f"a number of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__


def _explain(error: ValidationError, where: str) -> str:
    """The first of pydantic's complaints as one line: field, value, what is allowed, where to change it."""
    first = error.errors()[0]
    name = ".".join(one_line(part, 60) for part in first["loc"]) or "parameters"
    if first["type"] == "extra_forbidden":
        known = ", ".join(Params.model_fields)
        return f"unknown parameter {name!r} in {where}; known are: {known}"
    message = one_line(first["msg"].removeprefix("Value error, "), 200)
    message = message[0].lower() + message[1:]
    shown = "" if first["loc"] == () else f"={_shown(first['input'])}"
    return f"{name}{shown}: {message} (change it in {where})"


def make_params(values: Mapping[str, Any] | None = None, where: str = "the call") -> Params:
    """Validated parameters from `values`; `InputError` with one line that names field, value and what is allowed.

    >>> make_params({"fast_days": 20}).fast_days
    20
    """
    try:
        return Params(**{_name(key): value for key, value in (values or {}).items()})
    except ValidationError as error:
        raise InputError(_explain(error, where)) from None


def _name(key: Any) -> str:
    """A key of a mapping as the parameter it may name."""
    return key if isinstance(key, str) else _shown(key)


def parse_overrides(text: str) -> dict[str, Any]:
    """`name=value` pairs, separated by spaces, values in YAML (`horizons_days=[30,90]`).

    >>> parse_overrides("fast_days=20 slow_days=50")
    {'fast_days': 20, 'slow_days': 50}
    """
    pairs: dict[str, Any] = {}
    for part in text.split():
        name, sign, value = part.partition("=")
        if not sign or not name:
            raise InputError(
                f"SET={one_line(part, 80)!r}: must be name=value pairs separated by spaces, "
                'e.g. SET="fast_days=20 slow_days=50"'
            )
        if name in pairs:
            raise InputError(f"SET: {one_line(name, 60)!r} is given twice; keep one")
        pairs[name] = _safe_yaml(value, f"SET ({one_line(name, 40)})")
    return pairs


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, by which a short text can stand for billions of values, and without repeated keys.

    Only decimal numbers are numbers: to YAML 1.1 `030` is 24 and `1:30` is 90. Whatever else looks like a number or a
    day stays text, so that the field it is given for judges it by name.
    """

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in NUMBERS_AND_DAYS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        names = [key.value for key, _value in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"{one_line(twice, 60)!r} is given twice")
        return super().construct_mapping(node, deep)


_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:int", DECIMAL_INTEGER, list("-+0123456789"))
_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:float", DECIMAL_FRACTION, list("-+.0123456789"))


def _safe_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _PlainLoader)  # noqa: S506  a safe loader, made stricter
    except (yaml.YAMLError, ValueError, RecursionError, *WRONG_TAG) as error:
        raise InputError(f"{where}: not readable as YAML: {one_line(error, 160)}") from None


def read_profile(profile: str | Path) -> dict[str, Any]:
    """The mapping in a profile: a path, or the bare name of a file in params/ (`quick` is params/quick.yml)."""
    path = Path(profile)
    if path.suffix not in (".yml", ".yaml") and "/" not in str(profile):
        path = params_folder() / f"{profile}.yml"
    shown = one_line(profile, 120)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"PARAMS={shown}: is not a regular file; name a YAML file such as params/quick.yml")
        if status.st_size > MAX_PROFILE_BYTES:
            raise InputError(
                f"PARAMS={shown}: larger than {MAX_PROFILE_BYTES} bytes; a profile is a short YAML mapping"
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not readable as UTF-8 text"
        raise InputError(f"PARAMS={shown}: {reason}; name a YAML file such as params/quick.yml") from None
    values = _safe_yaml(text, f"PARAMS={shown}")
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"PARAMS={shown}: must hold name: value lines, holds {type(values).__name__}")
    return values


def load_params(profile: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Params:
    """Defaults, then the profile, then `overrides`; `InputError` where any of them cannot be used.

    >>> load_params(None, {"slow_days": 90}).slow_days
    90
    """
    base = read_profile(profile) if profile else {}
    make_params(base, f"PARAMS={one_line(profile, 80)}" if profile else "defaults") if not overrides else None
    return make_params(
        {**base, **(overrides or {})},
        f"SET or {one_line(profile, 80)}" if profile else "SET or a profile in params/",
    )


def changed_from_default(params: Params) -> dict[str, Any]:
    """Name and value of every parameter that differs from its default, in the model's order."""
    defaults = Params().model_dump()
    return {name: value for name, value in params.model_dump().items() if value != defaults[name]}
