"""One answer over HTTP, and the raw store: what a provider answered, verbatim, with a manifest.

    data/raw/<provider>/<UTC time>/            the answers and manifest.json
    data/raw/quarantine/<provider>/<UTC time>/ answers that failed a hard check: kept and named, never used

A snapshot is written into a hidden sibling folder and renamed once, under a lock: readers see it whole or not at all.
Every read verifies every file's SHA-256. A key is in the request alone: in no message, manifest, stored body or log.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote, quote_plus
from urllib.request import proxy_bypass

import httpx
from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints
from typing_extensions import TypedDict

from capitulation.data.checks import Finding, failures
from capitulation.errors import CapitulationError, DataError, InputError, SourceUnavailable, one_line
from capitulation.paths import raw_folder

Progress = Callable[[str], None]

for _name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy"):
    logging.getLogger(_name).disabled = True  # they print whole addresses, and keys travel in the address

# The total bounds all tries together; waits double from the first on; the longest is what Retry-After may ask for.
TRIES, TOTAL_SECONDS, FIRST_WAIT, LONGEST_WAIT = 4, 60.0, 0.5, 30.0
CONNECT_SECONDS, READ_SECONDS, MAX_BYTES, LOCK_SECONDS = 3.0, 15.0, 64_000_000, 120.0
MANIFEST, QUARANTINE, TEMPORARY = "manifest.json", "quarantine", ".writing-"
NAME = re.compile(r"(quarantine/)?([a-z_]{1,40})/(\d{8}T\d{6}Z)(?:-(\d{1,3}))?")
PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")  # as httpx reads them
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
Query = Mapping[str, str] | None


def base_url(variable: str, default: str) -> httpx.URL:
    """The service's address: the environment variable's (a mirror, a test server) where set, else the public one."""
    try:
        url = httpx.URL((os.environ.get(variable) or default).rstrip("/"))
    except httpx.InvalidURL:
        url = httpx.URL("")
    near = url.scheme == "http" and _in_own_network(url.host)
    if not url.host or not (url.scheme == "https" or near) or not 0 < (url.port or 443) < 65_536:
        own = "(http is for addresses in one's own network)"
        raise InputError(f"{variable}: not an https address {own}; unset or correct it")
    return url


def _in_own_network(host: str) -> bool:
    """Whether a host is this machine, of a private network, or has a name that only such a network knows."""
    try:
        return ip_address(host).is_private
    except ValueError:
        short = "." not in host and not host[:1].isdigit()  # 134744072 is another way to write 8.8.8.8
        return short or host.endswith((".local", ".lan", ".internal", ".home.arpa", ".onion"))


def _on_this_machine(host: str) -> bool:
    """Whether a host is this machine, which no proxy is asked for."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Answer(NamedTuple):
    """A complete answer: `url` and `query` as asked, without secrets; its bytes. Headers may repeat secrets: none."""

    url: str
    query: Mapping[str, str]
    body: bytes


Get = Callable[..., Answer]  # get(address, query, secrets), with the query's secret part apart


class FetchError(SourceUnavailable):
    """No usable answer; `wait`: seconds after which another try may help (0: as one likes), None where none does.

    `status`: that of the answer, 0 without one.
    """

    def __init__(self, message: str, wait: float | None = None, status: int = 0):
        super().__init__(message)
        self.wait, self.status = wait, status


def fetch_answer(url: str, query: Query = None, secrets: Query = None, progress: Progress = print) -> Answer:
    """The answer to GET `url` with `query` (and `secrets`, sent in the query too, but never shown, logged or returned).

    Retried on 408, 425, 429, 5xx and broken or refused connections, waiting as long as Retry-After asks; a host that is
    not there is asked once. Redirects are not followed. `FetchError` in one line.
    """
    deadline, tries = time.monotonic() + TOTAL_SECONDS, 0
    while True:
        try:
            return _ask(url, dict(query or {}), dict(secrets or {}), deadline)
        except FetchError as error:
            wait, tries = error.wait or FIRST_WAIT * 2**tries, tries + 1
            left = min(deadline - time.monotonic(), LONGEST_WAIT)
            if error.wait is None or wait > left or tries == TRIES:
                raise FetchError(f"{error} ({tries} tries)" if tries > 1 else str(error), None, error.status) from None
            progress(f"{error}; trying again")
        time.sleep(wait)


def _ask(url: str, query: dict, secrets: dict, deadline: float) -> Answer:
    """One request; `Accept-Encoding: identity`, because a body cut off is only noticed where its length is known."""
    forms = {form for value in secrets.values() for form in (value, quote(value, safe=""), quote_plus(value))}
    secret = "|".join(map(re.escape, forms)) or "(?!)"  # any case, as a host's name comes in small letters

    def public(address: httpx.URL) -> str:  # what may be written down
        return re.sub(f"(?i){secret}", "***", str(address.copy_with(userinfo=b"", query=None, fragment=None)))

    def failed(text: str, wait: float | None = None, status: int = 0) -> FetchError:  # its headers may repeat secrets
        return FetchError(f"{host}: {one_line(re.sub(f'(?i){secret}', '***', text), 300)}", wait, status)

    address, body = httpx.URL(url), bytearray()
    host = one_line(address.netloc.decode(), 100)
    headers = {"User-Agent": "capitulation-research/0.2", "Accept-Encoding": "identity"}
    try:
        trusted = trust(*(os.environ.get(name, "") for name in CERTIFICATES))
        limits = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        here = _on_this_machine(address.host)
        client = httpx.Client(headers=headers, timeout=limits, verify=trusted, trust_env=not here)
    except OSError as error:
        raise failed(f"the certificates of {named(CERTIFICATES)} cannot be read ({error.strerror or error})") from None
    except (httpx.InvalidURL, ImportError, ValueError):
        raise failed(f"no proxy can be used as in {named(PROXIES)}") from None
    try:
        with client, client.stream("GET", url, params={**query, **secrets} or None) as answer:
            status, encoding = answer.status_code, answer.headers.get("content-encoding", "identity").strip().lower()
            if answer.has_redirect_location:
                target = public(address.join(answer.headers["location"]))
                raise failed(f"answers {status}, a redirect to {one_line(target, 120)}, not followed")
            if status != 200:
                asked = re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", answer.headers.get("retry-after", ""))
                wait, text = (float(asked[0]), f"; it asks to wait {asked[0]} s") if asked else (0.0, "")
                passing = status in (408, 425, 429, 500, 502, 503, 504)
                raise failed(f"answered {status}{text}", wait if passing else None, status)
            if encoding != "identity":
                raise failed(f"the answer's encoding {encoding!r} was not asked for")
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise failed(f"the answer is larger than {MAX_BYTES:,} bytes, not read further")
                if time.monotonic() > deadline:
                    raise failed(f"not answered in full within {TOTAL_SECONDS:g} s")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        reason = str(error)
        absent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        broken = isinstance(error, httpx.TransportError) and (not absent or "refused" in reason or "reset" in reason)
        proxies = [name for name in PROXIES if name.lower() in (f"{address.scheme}_proxy", "all_proxy")]
        proxied = (absent or isinstance(error, httpx.ProxyError)) and not here and not proxy_bypass(address.host)
        by = named(CERTIFICATES if "CERTIFICATE" in reason else proxies if proxied else ())
        what = "the connection broke" if broken and not absent else "cannot be reached"
        raise failed(f"{what} ({reason}{by and f', with {by}'})", 0.0 if broken else None) from None
    body = re.sub(f"(?i){secret}".encode(), b"***", body)  # some answers repeat their question
    return Answer(public(address), query, bytes(body))


@cache
def trust(*_certificates: str) -> ssl.SSLContext:
    """Which certificates are trusted, with the environment's `CERTIFICATES` as given; read once."""
    return httpx.create_ssl_context()


def named(variables: Iterable[str]) -> str:
    """Those of the environment's `variables` that are set, with their values, users and passwords left out."""
    known = {name: re.sub("(?<=//).*@|^[^/]*@", "", os.environ.get(name, "")) for name in variables}
    return ", ".join(f"{name}={value}" for name, value in known.items() if value)


class SnapshotMissing(DataError):
    """No snapshot of that name is stored: other than a stored one that is refused, it is no sign of damage."""


class FileFacts(TypedDict):
    """What the manifest says of one file."""

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
    notes: list[str]
    findings: list[Finding]
    files: dict[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,60}$")], FileFacts]


class Snapshot(NamedTuple):
    """One stored set of answers: its name (provider/time, quarantine/ before it), manifest and files, all verified."""

    name: str
    manifest: Manifest
    files: Mapping[str, bytes]


def save_snapshot(provider: str, answers: Mapping[str, Answer], **facts: Any) -> Snapshot:
    """Store `answers` by file name, and their manifest with `facts` (the other fields of `Manifest`).

    Quarantined where `facts` say so. `OSError` where the disk is full or not writable: nothing was changed.
    """
    bodies, files = {name: answer.body for name, answer in answers.items()}, {}
    for name, (url, query, body) in answers.items():
        files[name] = FileFacts(url=url, query=query, sha256=sha256(body).hexdigest(), bytes=len(body))
    manifest = Manifest(provider=provider, files=files, **facts)
    place = f"{QUARANTINE}/{provider}" if manifest.quarantined else provider
    parent, when = raw_folder() / place, f"{manifest.retrieved_at:%Y%m%dT%H%M%SZ}"
    parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(raw_folder() / ".lock", timeout=LOCK_SECONDS):
            for leftover in parent.glob(f"{TEMPORARY}*"):  # of a process that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            names = (when, *(f"{when}-{number}" for number in range(2, 1000)))
            folder = next(parent / name for name in names if not (parent / name).exists())
            with TemporaryDirectory(prefix=TEMPORARY, dir=parent) as temporary:
                new = Path(temporary) / folder.name
                new.mkdir()
                for name, body in {**bodies, MANIFEST: manifest.model_dump_json(indent=1).encode()}.items():
                    (new / name).write_bytes(body)
                    (new / name).chmod(0o444)
                new.rename(folder)
    except Timeout:
        raise CapitulationError(f"data/raw: locked by another process for {LOCK_SECONDS:.0f} s, given up") from None
    return Snapshot(f"{place}/{folder.name}", manifest, bodies)


def snapshot_names(provider: str) -> list[str]:
    """Names of the snapshots of `provider` (a pattern, with quarantine/ before it for those), newest first."""
    paths = {path.relative_to(raw_folder()).as_posix(): path for path in raw_folder().glob(f"{provider}/*")}
    known = [NAME.fullmatch(name) for name, path in paths.items() if path.is_dir()]
    ordered = sorted(filter(None, known), key=lambda name: (name[2], name[3], int(name[4] or 1)), reverse=True)
    return [name[0] for name in ordered]


def find_snapshot(name: str) -> Snapshot:
    """The snapshot called `name`, every file checked; `SnapshotMissing` without one, `DataError` for anything wrong."""
    folder, known = raw_folder() / name, NAME.fullmatch(name)
    if not known or not folder.is_dir():
        shown = one_line(name, 80)
        raise SnapshotMissing(f"snapshot {shown}: not in data/raw (provider/time); copy it there to use it")
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        if (manifest.quarantined, manifest.provider) != (bool(known[1]), known[2]) or not manifest.files:
            raise ValueError(f"{MANIFEST} is of another provider, lists no file, or contradicts its place")
        files = {file: (folder / file).read_bytes() for file in manifest.files}
        for file in sorted({path.name for path in folder.iterdir()} - {MANIFEST, *files}):
            raise ValueError(f"{one_line(file, 60)} is not in the manifest")
        for file, body in files.items():
            if sha256(body).hexdigest() != manifest.files[file]["sha256"]:
                raise ValueError(f"{file} no longer matches its SHA-256")
        return Snapshot(name, manifest, files)
    except OSError as error:
        reason = f"{Path(error.filename or folder).name} cannot be read ({error.strerror})"
    except ValueError as error:  # pydantic's too
        reason = str(error)
    raise DataError(f"snapshot {name}: {one_line(reason, 200)}; refused")


def check_data() -> list[tuple[str, str, str]]:
    """Every stored snapshot verified again: good, quarantined or refused; its name; why. Newest first in a provider."""
    rows = []
    for name in (*snapshot_names("*"), *snapshot_names(f"{QUARANTINE}/*")):
        try:
            facts = find_snapshot(name).manifest
            said = [*failures(facts.findings)[:1], f"{facts.rows} days, {facts.first_day} to {facts.last_day}"]
            rows.append(("quarantined" if facts.quarantined else "good", name, one_line("; ".join(said), 300)))
        except DataError as error:
            rows.append(("refused", name, str(error)))
    return rows
