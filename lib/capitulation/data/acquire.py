"""From a provider's answer to a stored, checked snapshot, and from a snapshot back to its panel."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd

from capitulation.data import changes, quality, store
from capitulation.data.http import Policy, Response, fetch_bytes
from capitulation.data.panel import panel_digest, validate_panel
from capitulation.data.providers import PROVIDERS, provider
from capitulation.data.providers.base import Fetched
from capitulation.errors import DataError, one_line

Progress = Callable[[str], None]


def snapshot_panel(snapshot: store.Snapshot) -> pd.DataFrame:
    """The panel in `snapshot`: complete days only. `DataError` where a file was changed or cannot be parsed."""
    return complete_days(provider(snapshot.provider).parse(snapshot.files()), snapshot.retrieved_at)


def complete_days(panel: pd.DataFrame, retrieved_at: dt.datetime) -> pd.DataFrame:
    """`panel` without the day of the fetch, which had not ended; later days stay, for the checks to refuse."""
    today = pd.Timestamp(retrieved_at.date())
    return panel.loc[: today - pd.Timedelta(days=1)] if panel.index[-1] == today else panel


def acquire(
    name: str, policy: Policy | None = None, progress: Progress = print, now: dt.datetime | None = None
) -> tuple[store.Snapshot, pd.DataFrame]:
    """Fetch from provider `name`, check, store; the new snapshot and its panel.

    Raises `SourceUnavailable` where it cannot be reached, `DataError` where the answer is not data (nothing is
    stored) or fails a hard check (stored in quarantine, named in the message).
    """
    source = provider(name)
    progress(f"fetching from {source.title}")
    fetched = source.fetch(partial(_get, policy or Policy(), progress))
    now = now or store.utc_now()
    for note in fetched.notes:
        progress(one_line(note, 400))
    panel = validate_panel(complete_days(fetched.panel, now))
    findings = check(name, panel, now)
    failed = quality.failures(findings)
    facts = _facts(name, fetched, panel, findings)
    snapshot = store.save_snapshot(
        name, fetched.responses, facts, retrieved_at=now, quarantine=bool(failed), progress=progress
    )
    if failed:
        raise DataError(f"{source.title}: {failed[0].message}; kept as data/raw/quarantine/{snapshot.name}, not used")
    size = sum(len(response.body) for response in fetched.responses.values())
    progress(f"stored {snapshot.name}: {len(panel):,} days to {panel.index[-1]:%Y-%m-%d}, {size / 1e6:.1f} MB")
    return snapshot, panel


def _get(
    policy: Policy,
    progress: Progress,
    url: str,
    query: Mapping[str, str],
    secrets: Mapping[str, str] | None = None,
) -> Response:
    return fetch_bytes(url, query, policy, progress, secrets)


def _facts(name: str, fetched: Fetched, panel: pd.DataFrame, findings: list[quality.Finding]) -> dict[str, Any]:
    source = provider(name)
    return {
        "licence": source.licence,
        "attribution": source.attribution,
        "rows": len(panel),
        "first_day": f"{panel.index[0]:%Y-%m-%d}",
        "last_day": f"{panel.index[-1]:%Y-%m-%d}",
        "panel_digest": panel_digest(panel),
        "notes": [one_line(note, 400) for note in fetched.notes],
        "findings": [finding.as_dict() for finding in findings],
    }


def check(name: str, panel: pd.DataFrame, now: dt.datetime) -> list[quality.Finding]:
    """All checks of a new panel of `name`: alone, against its last good snapshot, against other providers'."""
    old = newest_panel(name)[1]
    since = None if old is None else old.index[-1]
    found = quality.check_panel(panel, now.date(), since) + quality.check_recent(panel, now.date())
    if old is not None:
        found += changes.compare_panels(panel, old)
    for other in PROVIDERS:
        other_panel = newest_panel(other)[1] if other != name else None
        if other_panel is not None:
            found += changes.compare_providers(panel, other_panel, other)
    return found


def newest_panel(name: str) -> tuple[store.Snapshot | None, pd.DataFrame | None, tuple[str, ...]]:
    """The provider's newest snapshot that verifies and parses, its panel, and a line per newer one that was refused."""
    refused: list[str] = []
    for folder in store.snapshot_folders(name):
        try:
            snapshot = store.verify_snapshot(folder)
            return snapshot, snapshot_panel(snapshot), tuple(refused)
        except DataError as error:
            refused.append(one_line(error, 400))
    return None, None, tuple(refused)
