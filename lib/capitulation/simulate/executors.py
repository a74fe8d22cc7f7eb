"""Where chunks run: this process, the processes of this machine, or an existing Dask cluster. Results are the same."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

from capitulation.errors import CapitulationError, InputError, one_line

MOST_RESTARTS = 5
CONNECT_SECONDS = 10
ALLOWED_FAILURES = 5
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Work = Callable[[Any, Any], Any]
Done = Iterator[tuple[Any, Any]]


def run_on_processes(work: Work, settings: Any, chunks: Sequence[Any], jobs: int) -> Done:
    """Yield (chunk, work(settings, chunk)) as they finish, on `jobs` new processes.

    A worker process that dies takes nothing with it but the chunks it was at: they start again in a new pool, up to
    five times without any progress in between.
    """
    left, restarts = list(chunks), 0
    while left:
        before = len(left)
        for chunk, found in _one_pool(work, settings, tuple(left), jobs):
            left.remove(chunk)
            yield chunk, found
        restarts = restarts + 1 if len(left) == before else 0
        if restarts > MOST_RESTARTS:
            raise CapitulationError("worker processes keep dying; what is finished is stored: free memory, run again")


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started meanwhile do linear algebra on one thread: the cores are taken, and sums keep their order."""
    before = {name: os.environ.get(name) for name in THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _end_with_parent() -> None:
    """Let this worker process end when its parent does, however that was killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _one_pool(work: Work, settings: Any, chunks: Sequence[Any], jobs: int) -> Done:
    """As far as one pool gets before it breaks."""
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(chunks)), mp_context=spawn, initializer=_end_with_parent)
    try:
        with _one_thread_each():
            futures = {pool.submit(work, settings, chunk): chunk for chunk in chunks}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        return
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _client(address: str) -> Any:
    """A client of the scheduler at `address`; one clear line where there is none."""
    if not re.fullmatch(r"(tcp|tls)://[^\s/]+:\d{1,5}", address):
        raise InputError(f"DASK={one_line(address, 80)!r}: must be the scheduler's address, e.g. tcp://127.0.0.1:8786")
    try:
        import threadpoolctl  # noqa: F401  the workers need it too
        from distributed import Client
    except ImportError:
        raise InputError("DASK: needs the optional extra: pip install 'capitulation[dask]'") from None
    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise InputError(f"DASK={address}: no scheduler answers ({one_line(error, 80)}); start one there") from None


def _on_one_thread(work: Work, settings: Any, chunk: Any) -> Any:
    """`work` with linear algebra on one thread, whatever the worker was started with."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return work(settings, chunk)


def run_on_dask(work: Work, settings: Any, chunks: Sequence[Any], address: str) -> Done:
    """Yield (chunk, result) as the cluster finishes them; a worker's death only sends its chunks to another.

    The workers need this package in the same version; `settings` travel once.
    """
    with _client(address) as client:
        from distributed import as_completed as finished

        shared = client.scatter(settings, broadcast=True)
        futures = {}
        for chunk in chunks:
            future = client.submit(_on_one_thread, work, shared, chunk, pure=False, retries=ALLOWED_FAILURES)
            futures[future] = chunk
        for future in finished(futures, loop=client.loop):
            yield futures[future], future.result()
            future.release()
