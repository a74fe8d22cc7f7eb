"""Imports of the notebook machinery without the parts that only cost time.

jsonschema checks IRIs with an optional grammar whose import takes 0.9 s in each process; notebooks never need it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED = "rfc3987_syntax"


@contextmanager
def without_unused_grammar() -> Iterator[None]:
    """While active, the optional grammar looks as if it were not installed."""
    absent = UNUSED not in sys.modules
    if absent:
        sys.modules[UNUSED] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            sys.modules.pop(UNUSED, None)


def load_machinery() -> None:
    """Import papermill and nbformat, quietly and cheaply; safe to call again."""
    with without_unused_grammar():
        import nbformat  # noqa: F401
        import papermill.execute  # noqa: F401
