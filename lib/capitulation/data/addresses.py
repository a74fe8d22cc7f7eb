"""What an HTTP address or header may say in a message or a record: pure functions that keep secrets out."""

from __future__ import annotations

import datetime as dt
import email.utils
import re
from collections.abc import Mapping
from urllib.parse import quote, quote_plus, urlsplit, urlunsplit

from capitulation.errors import one_line

HIDDEN = "***"


def shown_host(url: str) -> str:
    """Host and port of `url`, all that messages say of it.

    >>> shown_host("https://user:secret@api.example.org:8443/v4?api_key=x")
    'api.example.org:8443'
    """
    if not is_readable(url):
        return "?"
    parts = urlsplit(url)
    return one_line(parts.hostname or "?", 100) + (f":{parts.port}" if parts.port else "")


def is_readable(url: str) -> bool:
    """Whether `url` can be taken apart: brackets closed, port a number up to 65535.

    >>> is_readable("http://[::1]:80/x"), is_readable("http://[::1/x"), is_readable("http://a.example:99999/")
    (True, False, False)
    """
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def retry_after_seconds(value: str | None, now: dt.datetime | None = None) -> float | None:
    """Seconds that a Retry-After header (a number or an HTTP date) asks for; None where it says nothing usable.

    >>> retry_after_seconds("7"), retry_after_seconds("soon")
    (7.0, None)
    """
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value.strip()):
        return float(value)
    try:
        then = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    then = then if then.tzinfo else then.replace(tzinfo=dt.UTC)
    return max(0.0, (then - (now or dt.datetime.now(dt.UTC))).total_seconds())


def hide(text: str, secrets: Mapping[str, str]) -> str:
    """`text` with every secret value, plain or percent-encoded, replaced by ***.

    >>> hide("key=abc/123, key=abc%2F123", {"api_key": "abc/123"})
    'key=***, key=***'
    """
    for form in _forms(secrets):
        text = text.replace(form, HIDDEN)
    return text


def hide_bytes(body: bytes, secrets: Mapping[str, str]) -> bytes:
    """`body` with every secret value, plain or percent-encoded, replaced by ***: some answers repeat their question."""
    for form in _forms(secrets):
        body = body.replace(form.encode(), HIDDEN.encode())
    return body


def _forms(secrets: Mapping[str, str]) -> set[str]:
    """How a secret may be written in an address."""
    return {form for value in secrets.values() for form in (value, quote(value, safe=""), quote_plus(value))} - {""}


def public_url(url: str) -> str:
    """`url` without user, password, query and fragment: what may be written down.

    >>> public_url("https://user:pw@api.example.org/v4/x?api_key=k#f")
    'https://api.example.org/v4/x'
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
