"""How far a run is: a bar over all cells on a terminal, one line per notebook elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from capitulation.report.notebooks import Notebook

OnCell = Callable[[str, int], None]
OnDone = Callable[[str, float], None]


@contextmanager
def progress_of(notebooks: Sequence[Notebook], say: Callable[[str], None]) -> Iterator[tuple[OnCell, OnDone]]:
    """Two functions to call: when a cell of a notebook has ended, and when a notebook has, with its seconds."""
    if not sys.stderr.isatty():
        yield lambda name, number: None, lambda name, seconds: say(f"{name}: {seconds:.1f} s")
        return
    from tqdm import tqdm

    tqdm.monitor_interval = 0
    with tqdm(total=sum(notebook.n_cells for notebook in notebooks), unit="cell", leave=False) as bar:
        yield from _on_bar(bar, {notebook.name: notebook.n_cells for notebook in notebooks})


def _on_bar(bar: object, n_cells: dict[str, int]) -> Iterator[tuple[OnCell, OnDone]]:
    """Count code cells as they end and the rest of a notebook when it is done, in any order of notebooks."""
    counted = dict.fromkeys(n_cells, 0)

    def advance(name: str, upto: int) -> None:
        upto = min(upto, n_cells[name])
        bar.update(max(0, upto - counted[name]))  # type: ignore[attr-defined]
        counted[name] = max(upto, counted[name])

    def on_cell(name: str, number: int) -> None:
        bar.set_description(name, refresh=False)  # type: ignore[attr-defined]
        advance(name, number)

    yield on_cell, lambda name, seconds: advance(name, n_cells[name])
