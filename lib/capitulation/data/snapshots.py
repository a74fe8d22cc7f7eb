"""One answer over HTTP, and the raw store: what a provider answered, verbatim, with a manifest.

    data/raw/<provider>/<UTC time>/            the answers and manifest.json
    data/raw/quarantine/<provider>/<UTC time>/ answers that failed a hard check: kept and named, never used

A snapshot is written into a hidden sibling folder and renamed once, under a lock; so whatever moment a process dies at,
readers see it whole or not at all. Every read verifies every file's SHA-256. A key travels in the request alone: it is
in no message, no manifest, no stored body and no log.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import httpx
import stamina
from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints

from capitulation.data.checks import Finding, failures
from capitulation.errors import CapitulationError, DataError, SourceUnavailable, one_line
from capitulation.paths import raw_folder

Progress = Callable[[str], None]

stamina.instrumentation.set_on_retry_hooks(())  # tries are told as lines of progress
for _name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy"):
    logging.getLogger(_name).disabled = True  # they print whole addresses, and keys travel in the address

RETRIES = {"attempts": 4, "timeout": 60.0, "wait_initial": 0.5, "wait_max": 30.0, "wait_jitter": 0.5}
"""As stamina takes them, in seconds: `timeout` bounds all tries together, `wait_max` what Retry-After may ask for."""
CONNECT_SECONDS, READ_SECONDS, MAX_BYTES = 3.0, 15.0, 64_000_000


class Answer(NamedTuple):
    """A complete answer: `url` and `query` as asked, without secrets; its bytes. Headers may repeat secrets: none."""

    url: str
    query: Mapping[str, str]
    body: bytes


class FetchError(SourceUnavailable):
    """No usable answer; `retry` says whether another try may help, `wait` how long the service asks to wait [s]."""

    def __init__(self, message: str, *, retry: bool = False, wait: float = 0.0):
        super().__init__(message)
        self.retry, self.wait = retry, wait


def public_url(url: str | httpx.URL) -> str:
    """`url` without user, password, query and fragment: what may be written down."""
    return str(httpx.URL(url).copy_with(userinfo=b"", query=None, fragment=None))


def fetch_answer(
    url: str,
    query: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    progress: Progress = lambda line: None,
) -> Answer:
    """The answer to GET `url` with `query` (and `secrets`, sent in the query too, but never shown, logged or returned).

    Retried on 408, 425, 429, 5xx and broken or refused connections, waiting as long as Retry-After asks; a host that is
    not there is asked once. Redirects are not followed. `FetchError` in one line.
    """
    deadline, failed = time.monotonic() + RETRIES["timeout"], 0

    def next_wait(error: Exception) -> bool | float:
        nonlocal failed
        failed += 1
        if not isinstance(error, FetchError) or not error.retry or error.wait > RETRIES["wait_max"]:
            return False
        if failed < RETRIES["attempts"]:
            progress(f"{error}; trying again")
        return error.wait or True

    try:
        again = stamina.RetryingCaller(**RETRIES)
        return again(next_wait, _ask, url, dict(query or {}), dict(secrets or {}), deadline)
    except FetchError as error:
        raise FetchError(f"{error} ({failed} tries)" if failed > 1 else str(error)) from None


def _ask(url: str, query: dict, secrets: dict, deadline: float) -> Answer:
    """One request; `Accept-Encoding: identity`, because a body cut off is only noticed where its length is known."""

    def hide(text: str) -> str:
        for value in secrets.values():
            text = text.replace(value, "***")
        return text

    host, body, left = one_line(httpx.URL(url).netloc.decode(), 100), bytearray(), max(deadline - time.monotonic(), 0.1)
    headers = {"User-Agent": "capitulation-research/0.2", "Accept-Encoding": "identity"}
    timeout = httpx.Timeout(min(READ_SECONDS, left), connect=min(CONNECT_SECONDS, left))
    try:
        with httpx.stream("GET", url, params={**query, **secrets} or None, headers=headers, timeout=timeout) as answer:
            status, encoding = answer.status_code, answer.headers.get("content-encoding", "identity").strip().lower()
            if answer.has_redirect_location:
                target = public_url(httpx.URL(url).join(answer.headers["location"]))
                raise FetchError(f"{host}: answers {status}, a redirect to {one_line(hide(target), 120)}, not followed")
            if status != 200:
                asked = re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", answer.headers.get("retry-after", ""))
                wait = float(asked[0]) if asked else 0.0
                text = f"{host}: answered {status}" + (f"; it asks to wait {wait:.0f} s" if wait else "")
                raise FetchError(text, retry=status in (408, 425, 429, 500, 502, 503, 504), wait=wait)
            if encoding != "identity":
                raise FetchError(f"{host}: the answer's encoding {one_line(encoding, 40)!r} was not asked for")
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise FetchError(f"{host}: the answer is larger than {MAX_BYTES:,} bytes, not read further")
                if time.monotonic() > deadline:
                    raise FetchError(f"{host}: not answered in full within {RETRIES['timeout']:g} s")
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, OSError, ValueError) as error:
        reason = one_line(hide(str(error)), 160)
        absent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        broken = isinstance(error, httpx.TransportError) and (not absent or "refused" in reason or "reset" in reason)
        what = "the connection broke" if broken and not absent else "cannot be reached"
        raise FetchError(f"{host}: {what} ({reason})", retry=broken) from None
    for value in secrets.values():  # some answers repeat their question
        body = body.replace(value.encode(), b"***")
    return Answer(public_url(url), query, bytes(body))


MANIFEST, QUARANTINE, TEMPORARY = "manifest.json", "quarantine", ".writing-"
LOCK_SECONDS = 120.0
FOLDER_NAME = re.compile(r"\d{8}T\d{6}Z(-\d{1,3})?")


class StoreError(CapitulationError):
    """The store cannot be written (disk full, no permission, locked); nothing half-written stays readable."""

    exit_code = 3


class SnapshotMissing(DataError):
    """No snapshot of that name is stored: other than a stored one that is refused, it is no sign of damage."""


class FileFacts(BaseModel):
    """What the manifest says of one file."""

    model_config = ConfigDict(strict=True, frozen=True)
    url: str
    query: dict[str, str]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    bytes: int


class Manifest(BaseModel):
    """The record of one snapshot, as in its manifest.json."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)
    format: Literal[1] = 1
    provider: str
    retrieved_at: AwareDatetime
    quarantined: bool = False
    licence: str
    attribution: str
    rows: int
    first_day: dt.date
    last_day: dt.date
    panel_digest: str
    notes: list[str]
    findings: list[Finding]
    files: dict[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,60}$")], FileFacts]


class Snapshot(NamedTuple):
    """One stored set of answers: its folder, its manifest and its files, verified when they were read."""

    folder: Path
    manifest: Manifest
    files: Mapping[str, bytes]

    @property
    def name(self) -> str:
        """What run records call it: provider/time."""
        return f"{self.manifest.provider}/{self.folder.name}"


class Verdict(NamedTuple):
    """Outcome of verifying one stored folder: good, quarantined or refused."""

    name: str
    status: str
    reason: str

    @property
    def good(self) -> bool:
        """Whether nothing is wrong: a quarantined snapshot that is whole is as it should be."""
        return self.status != "refused"

    def __str__(self) -> str:
        return f"{self.status:12} {self.name}: {self.reason}"


def utc_now() -> dt.datetime:
    """The present, UTC, whole seconds."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def provider_folder(provider: str, *, quarantine: bool = False) -> Path:
    """Where a provider's snapshots are."""
    return raw_folder() / QUARANTINE / provider if quarantine else raw_folder() / provider


def save_snapshot(provider: str, answers: Mapping[str, Answer], **facts: Any) -> Snapshot:
    """Store `answers` by file name, and their manifest with `facts` (the other fields of `Manifest`).

    Quarantined where `facts` say so. What an earlier process left behind when killed is removed first.
    """
    files = {}
    for name, (url, query, body) in answers.items():
        files[name] = FileFacts(url=url, query=query, sha256=hashlib.sha256(body).hexdigest(), bytes=len(body))
    manifest = Manifest(provider=provider, files=files, **facts)
    bodies = {name: answer.body for name, answer in answers.items()}
    parent = provider_folder(provider, quarantine=manifest.quarantined)
    temporary = parent / f"{TEMPORARY}{os.getpid()}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(raw_folder() / ".lock", timeout=LOCK_SECONDS):
            for leftover in parent.glob(f"{TEMPORARY}*"):
                shutil.rmtree(leftover, ignore_errors=True)
            name = f"{manifest.retrieved_at:%Y%m%dT%H%M%SZ}"
            names = [name, *(f"{name}-{number}" for number in range(2, 1000))]
            folder = next(parent / name for name in names if not (parent / name).exists())
            try:
                temporary.mkdir()
                for file_name, body in {**bodies, MANIFEST: manifest.model_dump_json(indent=1).encode()}.items():
                    (temporary / file_name).write_bytes(body)
                    (temporary / file_name).chmod(0o444)
                temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except Timeout:
        raise StoreError(f"data/raw: locked by another process for {LOCK_SECONDS:.0f} s, given up") from None
    except OSError as error:
        reason = one_line(error.strerror or type(error).__name__, 80)
        raise StoreError(f"data/raw: cannot be written ({reason}); nothing was changed") from None
    return Snapshot(folder, manifest, bodies)


def snapshot_folders(provider: str, *, quarantine: bool = False) -> list[Path]:
    """Folders of `provider`'s snapshots, newest first; anything with another kind of name is not a snapshot."""
    found = provider_folder(provider, quarantine=quarantine).glob("*")
    folders = [path for path in found if FOLDER_NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(folders, key=lambda path: (path.name[:16], int(path.name[17:] or 1)), reverse=True)


def read_snapshot(folder: Path) -> Snapshot:
    """The snapshot in `folder`, every file checked against its manifest; `DataError` where anything is wrong."""
    provider, quarantined = folder.parent.name, folder.parent.parent.name == QUARANTINE
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        if manifest.provider != provider or manifest.quarantined != quarantined or not manifest.files:
            raise ValueError(f"{MANIFEST} is of another provider, lists no file, or contradicts its place")
        files = {name: (folder / name).read_bytes() for name in manifest.files}
        for name in sorted({path.name for path in folder.iterdir()} - {MANIFEST, *files}):
            raise ValueError(f"{one_line(name, 60)} is not in the manifest")
        for name, body in files.items():
            if hashlib.sha256(body).hexdigest() != manifest.files[name].sha256:
                raise ValueError(f"{name} no longer matches its SHA-256")
        return Snapshot(folder, manifest, files)
    except OSError as error:
        reason = f"{Path(error.filename or folder).name} cannot be read ({error.strerror})"
    except ValueError as error:  # pydantic's too
        reason = str(error)
    raise DataError(f"snapshot {provider}/{folder.name}: {one_line(reason, 200)}; refused")


def find_snapshot(name: str) -> Snapshot:
    """The verified snapshot called `name` (provider/time, as in a run's record); `SnapshotMissing` without one."""
    provider, _, when = name.partition("/")
    known = re.fullmatch(r"[a-z_]{1,40}", provider) and FOLDER_NAME.fullmatch(when)
    if not known or not (provider_folder(provider) / when).is_dir():
        raise SnapshotMissing(
            f"snapshot {one_line(name, 80)}: not in data/raw (provider/time); copy it there to use it"
        )
    return read_snapshot(provider_folder(provider) / when)


def check_data() -> list[Verdict]:
    """Every stored snapshot verified again; newest first within a provider."""
    verdicts = []
    for status, parent in (("good", raw_folder()), ("quarantined", raw_folder() / QUARANTINE)):
        for provider in sorted(path.name for path in parent.glob("*") if path.is_dir() and path.name != QUARANTINE):
            for folder in snapshot_folders(provider, quarantine=status != "good"):
                name = f"{provider}/{folder.name}"
                try:
                    facts = read_snapshot(folder).manifest
                    failed = [item.message for item in failures(facts.findings)]
                    span = f"{facts.rows} days, {facts.first_day} to {facts.last_day}"
                    verdicts.append(Verdict(name, status, one_line("; ".join([*failed[:1], span]), 300)))
                except DataError as error:
                    verdicts.append(Verdict(name, "refused", str(error)))
    return verdicts
