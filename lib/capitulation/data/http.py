"""Fetching one answer over HTTP, bounded in every direction: time, tries, size and where a redirect may lead.

The library underneath leaves name resolution unbounded, tries each address of a host for the full time-out, accepts a
gzip body that ends early and logs whole addresses with their keys. So each try runs in a thread of its own that is
given up at its limit, the body is decoded here, and addresses are only ever shown without their query's secrets.
"""

from __future__ import annotations

import functools
import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from capitulation.data.addresses import hide, hide_bytes, is_readable, public_url, retry_after_seconds, shown_host
from capitulation.data.gzip_body import BodyError, BodyTooLarge, Decoder
from capitulation.errors import SourceUnavailable, one_line

RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
REDIRECT_STATUS = frozenset({301, 302, 303, 307, 308})
USER_AGENT = "capitulation-research/0.1"


@dataclass(frozen=True)
class Policy:
    """Limits of one fetch; `connect_seconds` bounds name resolution and all addresses of a host together."""

    connect_seconds: float = 3.5
    read_seconds: float = 15.0
    total_seconds: float = 60.0
    max_bytes: int = 64_000_000
    tries: int = 4
    backoff_seconds: float = 0.5
    max_wait_seconds: float = 30.0
    max_redirects: int = 3
    redirect_hosts: frozenset[str] = frozenset()
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Response:
    """A complete answer: `url` and `query` as asked, without secrets; decoded `body`; headers by lower-case name."""

    url: str
    query: Mapping[str, str]
    status: int
    body: bytes
    headers: Mapping[str, str]
    tries: int = 1


class FetchError(SourceUnavailable):
    """No usable answer; `retry` says whether another try may help, `wait` how long the service asked to wait [s]."""

    def __init__(self, message: str, *, retry: bool = False, wait: float | None = None, status: int | None = None):
        super().__init__(message)
        self.retry, self.wait, self.status = retry, wait, status


@dataclass
class _Attempt:
    """What the thread of one try reports back."""

    connected: threading.Event = field(default_factory=threading.Event)
    given_up: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    result: Response | None = None
    error: BaseException | None = None

    def trace(self, event: str, _info: Mapping[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "send_request_headers.started")):
            self.connected.set()


def redirect_target(url: str, location: str, policy: Policy) -> str:
    """Where a redirect from `url` may be followed to: the same host or an allowed one, never from https to anything
    else.

    >>> redirect_target("https://a.example/x", "/y", Policy())
    'https://a.example/y'
    """
    if not is_readable(location):
        raise FetchError(f"{shown_host(url)}: redirects to an address that cannot be read, not followed")
    target = urljoin(url, location)
    old, new = urlsplit(url), urlsplit(target)
    if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme != "https"):
        raise FetchError(f"{shown_host(url)}: redirects to another scheme ({one_line(new.scheme, 20)}), not followed")
    if new.netloc != old.netloc and new.netloc not in policy.redirect_hosts:
        raise FetchError(f"{shown_host(url)}: redirects to another host ({shown_host(target)}), not followed")
    return target


def fetch_bytes(
    url: str,
    query: Mapping[str, str] | None = None,
    policy: Policy | None = None,
    progress: Callable[[str], None] = lambda line: None,
    secrets: Mapping[str, str] | None = None,
) -> Response:
    """The answer to GET `url` with `query` (and `secrets`, sent in the query too, but never shown, logged or returned).

    Retried with back-off and jitter on 408, 425, 429, 5xx and broken connections, waiting as long as Retry-After
    asks where that fits into `policy.total_seconds`; a host that cannot be reached at all is not tried again.
    Raises `FetchError` in one line.
    """
    policy = policy or Policy()
    if not is_readable(url) or urlsplit(url).scheme not in ("http", "https"):
        raise FetchError(f"{one_line(url, 100)}: not an http or https address")
    deadline = time.monotonic() + policy.total_seconds
    for number in range(1, policy.tries + 1):
        try:
            return _follow(url, dict(query or {}), dict(secrets or {}), policy, deadline, number)
        except FetchError as error:
            wait = _wait_seconds(error, number, policy)
            if not error.retry or number == policy.tries:
                raise FetchError(_with_tries(error, number), status=error.status) from None
            if time.monotonic() + wait > deadline:
                raise FetchError(f"{error}; next try only in {wait:.0f} s, given up", status=error.status) from None
            progress(f"{error}; try {number + 1} of {policy.tries} in {wait:.1f} s")
            policy.sleep(wait)
    raise AssertionError("unreachable")


def _with_tries(error: FetchError, number: int) -> str:
    return f"{error} ({number} tries)" if number > 1 else str(error)


def _wait_seconds(error: FetchError, number: int, policy: Policy) -> float:
    """Exponential back-off with jitter, or what the service asked for where that is longer."""
    backoff = min(policy.backoff_seconds * 2 ** (number - 1), policy.max_wait_seconds)
    return max(error.wait or 0.0, backoff * random.uniform(0.5, 1.0))  # noqa: S311  jitter is no secret


def _follow(url: str, query: dict, secrets: dict, policy: Policy, deadline: float, number: int) -> Response:
    """One try, redirects included; secrets go to the first host only."""
    target, sent = url, query | secrets
    for _ in range(policy.max_redirects + 1):
        answer = _bounded_attempt(target, sent, secrets, policy, deadline)
        if answer.status not in REDIRECT_STATUS:
            _check_status(answer, url)
            body = hide_bytes(answer.body, secrets)
            return Response(public_url(url), query, answer.status, body, answer.headers, number)
        if "location" not in answer.headers:
            raise FetchError(f"{shown_host(url)}: answered {answer.status} without saying where to go")
        new = redirect_target(target, answer.headers["location"], policy)
        same_host = urlsplit(new).netloc == urlsplit(url).netloc
        target, sent = new, secrets if same_host else {}
    raise FetchError(f"{shown_host(url)}: more than {policy.max_redirects} redirects, given up")


def _check_status(answer: Response, url: str) -> None:
    if answer.status == 200:
        return
    wait = retry_after_seconds(answer.headers.get("retry-after"))
    message = f"{shown_host(url)}: answered {answer.status}" + (" (too many requests)" if answer.status == 429 else "")
    raise FetchError(message, retry=answer.status in RETRIED_STATUS, wait=wait, status=answer.status)


def _bounded_attempt(url: str, sent: dict, secrets: dict, policy: Policy, deadline: float) -> Response:
    """One request in a daemon thread: given up when it has not connected, or not ended, in time."""
    attempt = _Attempt()
    threading.Thread(target=_request, args=(attempt, url, sent, policy), name="fetch", daemon=True).start()
    left = max(0.0, deadline - time.monotonic())
    connect_end = time.monotonic() + min(policy.connect_seconds, left)
    while not (attempt.connected.is_set() or attempt.done.is_set()):
        if time.monotonic() > connect_end:
            raise FetchError(f"{shown_host(url)}: cannot be reached (no connection in {policy.connect_seconds:g} s)")
        attempt.connected.wait(0.02)
    if not attempt.done.wait(max(0.0, deadline - time.monotonic())):
        attempt.given_up.set()
        raise FetchError(f"{shown_host(url)}: not answered in full within {policy.total_seconds:g} s, given up")
    if attempt.error is not None:
        raise _explained(attempt.error, url, policy, secrets) from None
    if attempt.result is None:
        raise AssertionError("a try ended without answer and without error")
    return attempt.result


def _request(attempt: _Attempt, url: str, sent: dict, policy: Policy) -> None:
    """Body of the thread: opens, reads with a byte cap, decodes, closes. Never raises."""

    try:
        _silence_library_logs()
        with _client(policy) as client:
            headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"}
            extensions = {"trace": attempt.trace}
            with client.stream("GET", url, params=sent or None, headers=headers, extensions=extensions) as answer:
                decoder = Decoder(answer.headers.get("content-encoding", ""), policy.max_bytes)
                chunks = itertools.takewhile(lambda _: not attempt.given_up.is_set(), answer.iter_raw())
                body = b"".join(map(decoder.feed, chunks))
                decoder.end()
                names = {name.lower(): value for name, value in answer.headers.items()}
                attempt.result = Response(url, {}, answer.status_code, body, names)
    except BaseException as error:
        attempt.error = error
    finally:
        attempt.done.set()


def _client(policy: Policy) -> Any:
    import httpx

    per_address = policy.connect_seconds / 2  # a host often has an IPv6 and an IPv4 address, tried in turn
    timeout = httpx.Timeout(policy.read_seconds, connect=per_address)
    return httpx.Client(timeout=timeout, follow_redirects=False, verify=_certificates())


@functools.cache
def _certificates() -> Any:
    """The trusted certificates, read once: that takes longer than a small request."""
    import httpx

    return httpx.create_ssl_context()


def _silence_library_logs() -> None:
    """The HTTP library's own loggers print whole addresses, and keys travel in the address: they stay silent."""
    for name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy"):
        logging.getLogger(name).disabled = True


def _explained(error: BaseException, url: str, policy: Policy, secrets: Mapping[str, str]) -> BaseException:
    """The library's error as a one-line `FetchError` without addresses and secrets; bugs stay as they are."""
    import httpx

    host = shown_host(url)
    if isinstance(error, BodyTooLarge):
        return FetchError(f"{host}: the answer is larger than {policy.max_bytes:,} bytes, not read further")
    if isinstance(error, BodyError):
        return FetchError(f"{host}: {error}", retry=True)
    if isinstance(error, httpx.ConnectTimeout):
        return FetchError(f"{host}: cannot be reached (time-out)")
    if isinstance(error, httpx.ConnectError):
        return _connect_error(error, host)
    if isinstance(error, httpx.ReadTimeout):
        return FetchError(f"{host}: no data for {policy.read_seconds:g} s", retry=True)
    if isinstance(error, httpx.TransportError | OSError):
        return FetchError(f"{host}: the connection broke ({one_line(hide(str(error), secrets), 100)})", retry=True)
    if isinstance(error, httpx.InvalidURL | httpx.HTTPError | ValueError):
        return FetchError(f"{host}: {one_line(hide(str(error), secrets), 100)}")
    return error


def _connect_error(error: BaseException, host: str) -> FetchError:
    """Refused is tried again (a service restarting), an unknown name or an unroutable address is not."""
    text = str(error).lower()
    if "refused" in text or "reset" in text:
        return FetchError(f"{host}: refused the connection", retry=True)
    if "certificate" in text or "ssl" in text:
        return FetchError(f"{host}: no secure connection ({one_line(error, 100)})")
    if "name or service" in text or "name resolution" in text or "nodename" in text or "getaddrinfo" in text:
        return FetchError(f"{host}: cannot be reached (its name is not known: no network, or no DNS)")
    return FetchError(f"{host}: cannot be reached ({one_line(error, 80)})")
