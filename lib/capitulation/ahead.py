"""Compute once, ahead of time, what several notebooks need, so that processes forked afterwards find it.

Only `make report` computes ahead; everywhere else a function is simply called, so that what somebody changes in it
shows at once.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

Function = TypeVar("Function", bound=Callable[..., Any])
_known: dict[tuple[str, str], tuple[Any, Any]] = {}  # by name and arguments: what else decides, and the result


def _plain(frame: Any) -> list[str] | str:
    """What a frame or series holds, without what pandas remembers of its use, or a path; else `TypeError`."""
    if isinstance(frame, Path):
        return str(frame)
    if not isinstance(frame, pd.DataFrame | pd.Series):
        raise TypeError
    heads = repr([*frame.dtypes.items()] if frame.ndim > 1 else (frame.name, frame.dtype))
    return [heads, hashlib.sha256(pd.util.hash_pandas_object(frame).to_numpy()).hexdigest()]


def ahead(decides: Callable[[], Any] = lambda: None) -> Callable[[Function], Function]:
    """Decorator of a function without side effects that can be computed ahead: `function.ahead(*args, **options)`.

    A later call with equal arguments (frames, series, paths, and what JSON can write) then gives a copy of the result,
    while what `decides` gives, which the function depends on besides, is as it was.
    """

    def decorate(function: Function) -> Function:
        def key(args: Any, options: Any) -> tuple[str, str]:
            return function.__qualname__, json.dumps([args, options], sort_keys=True, default=_plain)

        @wraps(function)
        def found(*args: Any, **options: Any) -> Any:
            try:
                before, result = _known[key(args, options)] if _known else (None, None)
            except (KeyError, TypeError):
                before = None
            if before is not None and before == (decides(),):
                return copy.deepcopy(result)
            return function(*args, **options)

        def compute_ahead(*args: Any, **options: Any) -> None:
            _known[key(args, options)] = (decides(),), function(*args, **options)

        found.ahead = compute_ahead  # type: ignore[attr-defined]
        return found  # type: ignore[return-value]

    return decorate


@contextmanager
def forgotten_at_the_end() -> Iterator[None]:
    """What is computed ahead within is forgotten with its end."""
    try:
        yield
    finally:
        _known.clear()
