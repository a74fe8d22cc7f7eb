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
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from capitulation.errors import InputError, one_line
from capitulation.paths import params_folder
from capitulation.plain_yaml import read_yaml

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

Definition = Literal[DEFINITIONS]  # type: ignore[valid-type]
Anchor = Literal[ANCHORS]  # type: ignore[valid-type]
Source = Literal[SOURCES]  # type: ignore[valid-type]


def _field(default: Any, unit: str, description: str, **limits: Any) -> Any:
    """A parameter with its unit, its meaning and what is allowed."""
    return Field(default, description=description, json_schema_extra={"unit": unit}, **limits)


class Params(BaseModel):
    """Parameters of one run; immutable, unknown names refused.

    Days are calendar days (UTC), fractions are fractions (0.1 is 10 %), powers and prices carry their unit in the
    name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    source: Source = _field("auto", "name", "where the data come from")
    data: str = _field("", "path", "local CSV file in Coin Metrics' format, instead of a source", max_length=4096)
    as_of: str = _field("", "date", "last day known to the run; empty: the last complete day")
    max_age_days: float = _field(1.0, "days", "a snapshot younger than this is used without fetching", ge=0, le=36500)
    sample_start: str = _field("2014-01-01", "date", "first day of the study tables' sample")

    fast_days: int = _field(30, "days", "fast mean of hash rate", ge=2, le=400)
    slow_days: int = _field(60, "days", "slow mean of hash rate", ge=3, le=800)
    price_fast_days: int = _field(10, "days", "fast mean of price in the buy rule", ge=1, le=400)
    price_slow_days: int = _field(20, "days", "slow mean of price in the buy rule", ge=2, le=800)
    min_days: int = _field(0, "days", "shortest episode kept by the filtered list", ge=0, le=1000)
    min_depth_z: float = _field(0.0, "standard errors", "smallest |depth_z| kept by the filtered list", ge=0, le=100)

    # Thresholds of the rules that have no published one were set so that each holds on a minority of days, before
    # any return was looked at.
    drawdown_mean_days: int = _field(30, "days", "mean of hash rate for the drawdown rule", ge=1, le=400)
    drawdown_threshold: float = _field(0.05, "fraction", "drawdown of hash rate from its running peak", gt=0, lt=1)
    retargets_k: int = _field(3, "retargets", "negative retargets needed", ge=1, le=100)
    retargets_n: int = _field(5, "retargets", "retargets looked back on", ge=1, le=100)
    compression_threshold: float = _field(
        0.03, "fraction", "difficulty ribbon: coefficient of variation below this", gt=0, lt=1
    )
    puell_threshold: float = _field(0.5, "ratio", "Puell multiple below this", gt=0, lt=10)
    hashprice_stress_ratio: float = _field(
        0.5, "ratio", "hashprice below this share of its mean of the past year", gt=0, lt=2
    )
    power_price_usd_kwh: float = _field(0.07, "USD/kWh", "power price of miners", gt=0, lt=10)
    fleet_share_threshold: float = _field(0.5, "fraction", "share of the recent rig fleet under breakeven", gt=0, le=1)

    horizons_days: list[int] = _field(
        [7, 30, 60, 90, 180, 365], "days", "forward-return horizons", min_length=1, max_length=12
    )
    entry_lag_days: int = _field(1, "days", "days between a signal's day and the close it is traded at", ge=0, le=30)
    primary_definition: Definition = _field("hash_ribbons", "name", "rule of the one primary test")
    primary_anchor: Anchor = _field("recovery", "name", "anchor of the one primary test")
    primary_horizon_days: int = _field(90, "days", "horizon of the one primary test", ge=1, le=1500)
    confidence: float = _field(0.95, "fraction", "coverage of intervals", gt=0.5, lt=1)
    n_bootstrap: int = _field(2000, "resamples", "stationary-bootstrap resamples", ge=100, le=1_000_000)
    n_matched: int = _field(2000, "sets", "matched random entry sets", ge=100, le=1_000_000)
    n_random_entries: int = _field(
        10_000, "sets", "random entry sets with the strategy's exposure", ge=100, le=1_000_000
    )
    seed: int = _field(20260120, "integer", "seed of every random draw", ge=0, le=2**31 - 1)

    hold_days: int = _field(90, "days", "holding period of the backtest", ge=1, le=1500)
    fee_bps: float = _field(10.0, "basis points", "fee per trade and side", ge=0, le=1000)
    slippage_bps: float = _field(5.0, "basis points", "slippage per trade and side", ge=0, le=1000)

    simulation_seed: int = _field(17, "integer", "seed of the simulated market", ge=0, le=2**31 - 1)
    trust_repetitions: int = _field(
        8, "markets", "simulated markets recomputed live in the trust notebook", ge=0, le=1_000_000
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
        pairs[name] = read_yaml(value, f"SET ({one_line(name, 40)})")
    return pairs


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
    values = read_yaml(text, f"PARAMS={shown}")
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
