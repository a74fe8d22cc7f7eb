"""The raw store: what a provider answered, verbatim, with a manifest; written whole or not at all, never changed.

    data/raw/<provider>/<UTC time>/            the answers and manifest.json
    data/raw/quarantine/<provider>/<UTC time>/ answers that failed a hard check: kept and named, never used

A snapshot is written into a hidden sibling folder, flushed to disk and renamed, under a lock; so whatever moment a
process dies at, readers see the snapshot whole or not at all. Every read verifies every file's SHA-256.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capitulation.data.atomic import TEMPORARY, disk_errors, store_lock, write_folder
from capitulation.data.http import Response
from capitulation.data.quality import is_finding
from capitulation.errors import DataError, one_line
from capitulation.paths import raw_folder

MANIFEST = "manifest.json"
QUARANTINE = "quarantine"
TIME_FORMAT = "%Y%m%dT%H%M%SZ"
FOLDER_NAME = re.compile(r"\d{8}T\d{6}Z(-\d{1,3})?")
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}")
KEPT_HEADERS = ("content-type", "last-modified", "etag")
MAX_MANIFEST_BYTES = 5_000_000
DAY_FIELDS = ("first_day", "last_day")
TEXT_FIELDS = ("licence", "attribution", *DAY_FIELDS)
FILE_FIELDS = {"url": str, "query": dict, "bytes": int}
FORMAT = 1


class SnapshotMissing(DataError):
    """No snapshot of that name is stored: other than a stored one that is refused, it is no sign of damage."""


@dataclass(frozen=True)
class Snapshot:
    """One stored set of answers; `files` verifies their digests at every call."""

    provider: str
    folder: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What run records call it: provider/time."""
        return f"{self.provider}/{self.folder.name}"

    @property
    def retrieved_at(self) -> dt.datetime:
        """UTC time of the fetch."""
        return dt.datetime.fromisoformat(self.manifest["retrieved_at"])

    def files(self) -> dict[str, bytes]:
        """The answers by file name; `DataError` where one no longer matches the manifest."""
        return {name: self._verified(name, facts) for name, facts in self.manifest["files"].items()}

    def _verified(self, name: str, facts: Mapping[str, Any]) -> bytes:
        try:
            data = (self.folder / name).read_bytes()
        except OSError as error:
            raise DataError(f"snapshot {self.name}: {name} cannot be read ({error.strerror}); refused") from None
        if hashlib.sha256(data).hexdigest() != facts["sha256"]:
            raise DataError(f"snapshot {self.name}: {name} no longer matches its SHA-256 in the manifest; refused")
        return data


@dataclass(frozen=True)
class Verdict:
    """Outcome of verifying one stored folder."""

    name: str
    status: str
    reason: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong: a quarantined snapshot that is whole is as it should be."""
        return self.status != "refused"

    def __str__(self) -> str:
        return f"{self.status:12} {self.name}" + (f": {self.reason}" if self.reason else "")


def utc_now() -> dt.datetime:
    """The present, UTC, whole seconds."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def _file_facts(response: Response) -> dict[str, Any]:
    return {
        "url": response.url,
        "query": dict(response.query),
        "status": response.status,
        "sha256": hashlib.sha256(response.body).hexdigest(),
        "bytes": len(response.body),
        "headers": {name: one_line(response.headers[name], 200) for name in KEPT_HEADERS if name in response.headers},
    }


def save_snapshot(
    provider: str,
    responses: Mapping[str, Response],
    facts: Mapping[str, Any],
    *,
    retrieved_at: dt.datetime | None = None,
    quarantine: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Snapshot:
    """Store `responses` and their manifest (extended by `facts`: rows, first_day, last_day, licence, findings, …)."""
    retrieved_at = retrieved_at or utc_now()
    manifest = {
        "format": FORMAT,
        "provider": provider,
        "retrieved_at": retrieved_at.isoformat(),
        "quarantined": quarantine,
        **facts,
        "files": {name: _file_facts(response) for name, response in responses.items()},
    }
    for name in responses:
        if not FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise ValueError(f"not a file name of the store: {name!r}")
    parent = raw_folder() / QUARANTINE / provider if quarantine else raw_folder() / provider
    with store_lock(progress), disk_errors("cannot be written"):
        bodies = {name: response.body for name, response in responses.items()}
        bodies[MANIFEST] = (json.dumps(manifest, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()
        folder = write_folder(parent, retrieved_at.strftime(TIME_FORMAT), bodies)
    return Snapshot(provider, folder, manifest)


def _sort_key(folder: Path) -> tuple[str, int]:
    time, _, number = folder.name.partition("-")
    return time, int(number or 1)


def snapshot_folders(provider: str, *, quarantine: bool = False) -> list[Path]:
    """Folders of `provider`'s snapshots, newest first; anything with another kind of name is not a snapshot."""
    parent = raw_folder() / QUARANTINE / provider if quarantine else raw_folder() / provider
    if not parent.is_dir():
        return []
    with disk_errors("cannot be read"):
        folders = [path for path in parent.iterdir() if FOLDER_NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(folders, key=_sort_key, reverse=True)


def read_snapshot(folder: Path) -> Snapshot:
    """The snapshot in `folder`, manifest checked for form; `DataError` where it cannot be used."""
    provider = folder.parent.name
    name = f"{provider}/{folder.name}"
    try:
        if (folder / MANIFEST).stat().st_size > MAX_MANIFEST_BYTES:
            raise ValueError("too large")
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        manifest = json.loads(text, parse_constant=_no_number)
        _check_manifest(manifest, provider, quarantined=folder.parent.parent.name == QUARANTINE)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"snapshot {name}: {MANIFEST} cannot be used ({one_line(error, 100)}); refused") from None
    return Snapshot(provider, folder, manifest)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number")


def _check_manifest(manifest: Any, provider: str, *, quarantined: bool) -> None:
    if manifest["quarantined"] is not quarantined:
        raise ValueError("quarantined, but not among the quarantined" if not quarantined else "not quarantined")
    if manifest["format"] != FORMAT or manifest["provider"] != provider:
        raise ValueError("of another format or provider")
    if dt.datetime.fromisoformat(manifest["retrieved_at"]).tzinfo is None:
        raise ValueError("retrieved_at without time zone")
    notes, findings = manifest["notes"], manifest["findings"]
    texts = [manifest[name] for name in TEXT_FIELDS] + notes
    if not isinstance(findings, list) or not all(map(is_finding, findings)) or type(manifest["rows"]) is not int:
        raise ValueError("a field is not of its kind")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a field is not text")
    for name in DAY_FIELDS:
        dt.date.fromisoformat(manifest[name])
    if not manifest["files"]:
        raise ValueError("no files")
    for name, facts in manifest["files"].items():
        if not FILE_NAME.fullmatch(name) or not re.fullmatch(r"[0-9a-f]{64}", facts["sha256"]):
            raise ValueError("a file name or digest is not one of this store")
        if not all(type(facts[field]) is kind for field, kind in FILE_FIELDS.items()):
            raise ValueError("a fact of a file is not of its kind")


def verify_snapshot(folder: Path) -> Snapshot:
    """The snapshot in `folder` after checking every file against its digest and that no file was added."""
    snapshot = read_snapshot(folder)
    snapshot.files()
    with disk_errors("cannot be read"):
        extra = {path.name for path in folder.iterdir()} - set(snapshot.manifest["files"]) - {MANIFEST}
    if extra:
        raise DataError(f"snapshot {snapshot.name}: {one_line(sorted(extra)[0], 60)} is not in the manifest; refused")
    return snapshot


def newest_snapshot(provider: str) -> tuple[Snapshot | None, tuple[str, ...]]:
    """`provider`'s newest snapshot that verifies (None without one), and a line per newer one that was refused."""
    refused: list[str] = []
    for folder in snapshot_folders(provider):
        try:
            return verify_snapshot(folder), tuple(refused)
        except DataError as error:
            refused.append(str(error))
    return None, tuple(refused)


def find_snapshot(name: str) -> Snapshot:
    """The verified snapshot called `name` (provider/time, as in a run's record); `DataError` where there is none."""
    provider, _, time = name.partition("/")
    if not re.fullmatch(r"[a-z_]{1,40}", provider) or not FOLDER_NAME.fullmatch(time):
        raise SnapshotMissing(f"snapshot {one_line(name, 80)!r}: not a snapshot's name (provider/time)")
    folder = raw_folder() / provider / time
    if not folder.is_dir():
        raise SnapshotMissing(f"snapshot {name}: not in data/raw; copy it there to use it")
    return verify_snapshot(folder)


def check_data() -> list[Verdict]:
    """Every stored snapshot verified again, and what a killed process left behind; newest first within a provider."""
    verdicts = []
    for provider in _provider_folders(raw_folder()):
        verdicts += [_verdict(folder, "good") for folder in snapshot_folders(provider)]
        verdicts += [
            Verdict(f"{provider}/{path.name}", "leftover", "of a killed fetch; the next fetch removes it")
            for path in sorted((raw_folder() / provider).glob(f"{TEMPORARY}*"))
        ]
    for provider in _provider_folders(raw_folder() / QUARANTINE):
        verdicts += [_verdict(folder, "quarantined") for folder in snapshot_folders(provider, quarantine=True)]
    return verdicts


def _provider_folders(parent: Path) -> list[str]:
    if not parent.is_dir():
        return []
    return sorted(path.name for path in parent.iterdir() if path.is_dir() and path.name != QUARANTINE)


def _verdict(folder: Path, status: str) -> Verdict:
    name = f"{folder.parent.name}/{folder.name}"
    try:
        snapshot = verify_snapshot(folder)
    except DataError as error:
        return Verdict(name, "refused", str(error))
    facts = snapshot.manifest
    failed = [item["message"] for item in facts["findings"] if item["severity"] == "failure"]
    span = f"{facts['rows']} days, {facts['first_day']} to {facts['last_day']}"
    return Verdict(name, status, one_line("; ".join([*failed[:1], span]), 300))
