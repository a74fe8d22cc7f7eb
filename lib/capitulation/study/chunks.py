"""Where chunks of a large computation run: here, on threads, or on a Dask cluster, with the same answer everywhere.

A map is a function (work, shared, pieces) -> results in the order of the pieces, where `work(shared, piece)` is a pure
function importable by its name. Pieces never depend on the number of workers, so neither do the results.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from capitulation.errors import InputError, one_line

Work = Callable[[Any, Any], Any]
ChunkMap = Callable[[Work, Any, Sequence[Any]], Iterable[Any]]

DASK_RETRIES = 2


def map_here(work: Work, shared: Any, pieces: Sequence[Any]) -> Iterable[Any]:
    """One piece after the other in this thread; results come as they are made, so that memory stays bounded.

    >>> list(map_here(lambda shared, piece: shared * piece, 10, [1, 2]))
    [10, 20]
    """
    return (work(shared, piece) for piece in pieces)


def threads(workers: int | None = None) -> ChunkMap:
    """A map over `workers` threads of this process, all cores by default (numpy releases the lock in its loops)."""
    count = workers or os.cpu_count() or 1

    def run(work: Work, shared: Any, pieces: Sequence[Any]) -> Iterable[Any]:
        with ThreadPoolExecutor(count) as pool:
            yield from pool.map(lambda piece: work(shared, piece), pieces)

    return run


def dask(client: Any) -> ChunkMap:
    """A map over the workers of a Dask client (`distributed.Client`).

    `shared` is sent to each worker once. A piece that is lost with its worker is tried again elsewhere, and computed
    here if that fails as well, so that a run survives the loss of workers; an error of the work itself is raised.
    """

    def run(work: Work, shared: Any, pieces: Sequence[Any]) -> Iterable[Any]:
        held = client.scatter(shared, broadcast=True)
        futures = [client.submit(work, held, piece, retries=DASK_RETRIES, pure=False) for piece in pieces]
        for future, piece in zip(futures, pieces, strict=True):
            yield _result_or_here(future, work, shared, piece)

    return run


def _result_or_here(future: Any, work: Work, shared: Any, piece: Any) -> Any:
    """The remote result; where the cluster lost it, the same computed here."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    try:
        return future.result()
    except (KilledWorker, CancelledError, OSError, TimeoutError):
        return work(shared, piece)


def dask_at(address: str, timeout_seconds: float = 20.0) -> ChunkMap:
    """A map over the Dask scheduler at `address` (DASK=tcp://host:port); `InputError` where none answers there."""
    try:
        from distributed import Client
    except ImportError:
        raise InputError(f"DASK={one_line(address, 80)}: install the extra first: pip install -e '.[dask]'") from None
    try:
        return dask(Client(address, timeout=timeout_seconds))
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(f"DASK={one_line(address, 80)}: no scheduler answers there: {one_line(error, 120)}") from None
