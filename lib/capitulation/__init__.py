"""Bitcoin miner capitulation and what BTC did afterwards: the library behind the notebooks.

`import capitulation as cap` is cheap: names resolve on first use, so a notebook loads only what it calls.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "open_run": "capitulation.session",
    "Run": "capitulation.session",
    "Params": "capitulation.params",
    "make_params": "capitulation.params",
    "load_params": "capitulation.params",
    "CapitulationError": "capitulation.errors",
}

if TYPE_CHECKING:
    from capitulation.errors import CapitulationError
    from capitulation.params import Params, load_params, make_params
    from capitulation.session import Run, open_run

__all__ = ["CapitulationError", "Params", "Run", "__version__", "load_params", "make_params", "open_run"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'capitulation' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
