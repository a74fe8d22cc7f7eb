"""The stored calibration as tables: what notebooks show without simulating thousands of markets again."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from capitulation.errors import DataError
from capitulation.paths import reference_folder
from capitulation.simulate.calibrate import STORED, Settings, market_record
from capitulation.study.trust import CURVE_LEVELS, TESTS, rate_rows

NULL_GROUPS = {"stationary": "stationary 0.00", "realistic": "realistic 0.00"}
LIVE_SEED = 2_000_000


@cache
def stored_calibration() -> dict[str, Any]:
    """data/reference/calibration.json as it is; `DataError` where it is missing or unreadable."""
    path = reference_folder() / STORED
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"data/reference/{STORED}: missing or unreadable; restore it or run make calibrate") from None


def provenance() -> dict[str, Any]:
    """When, with what versions and on how many markets the stored figures were measured."""
    found = stored_calibration()
    return {
        "made_on": found["made_on"],
        "repetitions": found["settings"]["repetitions"],
        "first_seed": found["settings"]["first_seed"],
        **found["versions"],
    }


def measured_settings() -> dict[str, Any]:
    """What the stored tests were asked, whatever a run asks: horizon, windows, sample, `confidence` of intervals."""
    return stored_calibration()["settings"]["tests"]


def _of_null_worlds(part: str) -> pd.DataFrame:
    groups = stored_calibration()["groups"]
    frames = [pd.DataFrame(groups[group][part]).assign(world=world) for world, group in NULL_GROUPS.items()]
    return pd.concat(frames, ignore_index=True)


def trust_table() -> pd.DataFrame:
    """Rejection rates at 5 % where nothing is there: test, label, then rate, error and at_level of each null world.

    `error`: Monte-Carlo standard error; `at_level`: within 3.5 to 6.5 %. One row per test, the headline's first.
    """
    return _wide(_of_null_worlds("rejections"))


def _wide(rows: pd.DataFrame) -> pd.DataFrame:
    table = pd.DataFrame({"test": list(TESTS), "label": list(TESTS.values())})
    for world, part in rows.groupby("world", sort=False):
        columns = part.set_index("test")[["rate", "error", "at_level"]].add_prefix(f"{world}_")
        table = table.join(columns, on="test")
    return table


def coverage_table() -> pd.DataFrame:
    """How often the bootstrap intervals hold what they should: interval, of, markets, rate, error, world."""
    return _of_null_worlds("coverage")


def level_curves() -> pd.DataFrame:
    """Share of null markets with p at or below each level: test, world, level, share. A sound test: share = level."""
    groups = stored_calibration()["groups"]
    rows = [
        {"test": test, "world": world, "level": level, "share": share}
        for world, group in NULL_GROUPS.items()
        for test, shares in groups[group]["level_curve"].items()
        for level, share in zip(CURVE_LEVELS, shares, strict=True)
    ]
    return pd.DataFrame(rows)


def power_curve(tests: tuple[str, ...] = ("rotation_own_era", "rotation", "matched")) -> pd.DataFrame:
    """Rejection rate against the planted effect in the realistic world: test, effect_log, markets, rate, error."""
    frames = []
    for group, found in stored_calibration()["groups"].items():
        world, effect = group.split()
        if world == "realistic":
            rows = pd.DataFrame(found["rejections"]).assign(effect_log=float(effect))
            frames.append(rows[rows["test"].isin(tests)])
    table = pd.concat(frames, ignore_index=True).sort_values(["test", "effect_log"], ignore_index=True)
    return table[["test", "effect_log", "markets", "rate", "error"]]


def power_at(effect_log: float, test: str = "rotation_own_era") -> float:
    """Power against an effect of `effect_log`, between the measured ones by straight lines; NaN beyond them."""
    curve = power_curve((test,))
    if not curve["effect_log"].min() <= effect_log <= curve["effect_log"].max():
        return float("nan")
    return float(np.interp(effect_log, curve["effect_log"], curve["rate"]))


def live_records(markets: int, world: str = "realistic", first_seed: int = LIVE_SEED) -> pd.DataFrame:
    """The records of `markets` new null markets, made now (a quarter second each), in this process."""
    settings = Settings(repetitions=max(markets, 1), effects=())
    return pd.DataFrame([market_record(settings, world, 0.0, first_seed + i) for i in range(markets)])


def live_check(markets: int, world: str = "realistic", first_seed: int = LIVE_SEED) -> pd.DataFrame:
    """Rejection rates measured now on `markets` new null markets: test, label, markets, rate, error; empty for none."""
    records = live_records(markets, world, first_seed)
    if records.empty:
        return pd.DataFrame(columns=["test", "label", "markets", "rate", "error"])
    table = pd.DataFrame(rate_rows(records)).drop(columns="at_level")
    table.insert(1, "label", table["test"].map(TESTS))
    return table
