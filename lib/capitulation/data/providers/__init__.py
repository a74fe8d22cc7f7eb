"""Sources of daily data, one module each; `provider(name)` imports only the one that is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capitulation.data.providers.base import Provider

PROVIDERS = ("coinmetrics", "blockchain_com", "mempool_space")
"""In order of preference: the first has every column, the second lacks issuance and fees, the third has no price."""


def provider(name: str) -> Provider:
    """The provider called `name`, one of `PROVIDERS`."""
    if name not in PROVIDERS:
        raise KeyError(name)
    return import_module(f"capitulation.data.providers.{name}").PROVIDER
