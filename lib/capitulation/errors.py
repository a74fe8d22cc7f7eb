"""Errors that a user can mend, each said in one line.

What is the user's, the network's or the data's fault is a `CapitulationError`, which the command line prints, leaving
with its `exit_code`. Anything else is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class CapitulationError(Exception):
    """Base class: one clear line that names the value, what is allowed and where to change it."""

    exit_code = 1


class InputError(CapitulationError):
    """A parameter, profile, run name or local file that cannot be used."""

    exit_code = 2


class DataError(CapitulationError):
    """A provider's answer or a stored snapshot that fails a check."""

    exit_code = 3


class SourceUnavailable(CapitulationError):
    """The source that was insisted on could not be reached and has no usable snapshot."""

    exit_code = 4


class ReportError(CapitulationError):
    """A notebook failed, or a report could not be rendered or published."""

    exit_code = 5


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean fast_days? ` where one of `known` is like `name` in any case of letters, else an empty text."""
    by_lower = {one.lower(): one for one in known}
    like = difflib.get_close_matches(name.lower(), by_lower, 1)
    return f"did you mean {by_lower[like[0]]}? " if like else ""


def one_line(text: object, limit: int = 300) -> str:
    """`text` on one line, control characters shown as escapes and cut at `limit` characters, safe to print."""
    folded = " ".join(str(text).split())
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in folded)
    return printable if len(printable) <= limit else printable[: limit - 1] + "…"
