"""Thousands of markets with known truth, and what every test said on them: `make calibrate`.

The work is cut into chunks of markets. A chunk depends on nothing but its seeds, so it gives the same bits on any
process or machine; each finished one is kept as a file under .cache/calibration/, and an interrupted run goes on where
it stopped. The name of the folder is a digest of the settings and of the code that makes the numbers.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd

import capitulation
from capitulation.errors import InputError
from capitulation.paths import project_root, reference_folder
from capitulation.simulate.executors import run_on_dask, run_on_processes
from capitulation.simulate.market import simulate
from capitulation.simulate.parameters import SimulationParams
from capitulation.study.trust import TrustSettings, expected_excess, market_tests, summarise

STORED = "calibration.json"
PUBLISHED_REPETITIONS = 2000
FIRST_SEED = 1_000_000
MARKETS_PER_CHUNK = 20
EFFECTS = (0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.50)
POWER_SHARE = 5
STUDY_MODULES = ("baseline", "bootstrap", "forward_returns", "matched", "regression", "rotation", "transforms", "trust")
PACKAGES = ("numpy", "pandas", "scipy", "arch", "statsmodels")
RECORDS_KEPT = 2
NOT_NUMBERS = ("calibrate", "executors", "stored", "moments")


@dataclass(frozen=True)
class Settings:
    """What is measured: markets per null world, planted effects (log return over the horizon), tests and world."""

    repetitions: int = PUBLISHED_REPETITIONS
    effects: tuple[float, ...] = EFFECTS
    effect_days: int = 90
    years: float = 17.0
    first_seed: int = FIRST_SEED
    tests: TrustSettings = field(default_factory=TrustSettings)
    world: SimulationParams = field(default_factory=SimulationParams)


def effect_name(effect: float) -> str:
    """An effect in names of groups and files: two decimals, more where two would be another effect.

    >>> effect_name(0.1), effect_name(0.125)
    ('0.10', '0.125')
    """
    short = f"{effect:.2f}"
    return short if float(short) == effect else repr(effect)


@dataclass(frozen=True)
class Chunk:
    """A run of consecutive seeds in one world with one planted effect."""

    world: str
    effect: float
    first_seed: int
    markets: int

    @property
    def group(self) -> str:
        """Name of the group of records it belongs to."""
        return f"{self.world} {effect_name(self.effect)}"

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.world}-{effect_name(self.effect)}-{self.first_seed}-{self.markets}.json"


def plan(settings: Settings) -> list[Chunk]:
    """All chunks: both null worlds in full, then each planted effect on a fifth as many realistic markets."""
    few = max(settings.repetitions // POWER_SHARE, 1)
    groups = [("stationary", 0.0, settings.repetitions), ("realistic", 0.0, settings.repetitions)]
    groups += [("realistic", effect, few) for effect in settings.effects]
    chunks = []
    for world, effect, markets in groups:
        for begin in range(0, markets, MARKETS_PER_CHUNK):
            size = min(MARKETS_PER_CHUNK, markets - begin)
            chunks.append(Chunk(world, effect, settings.first_seed + begin, size))
    return chunks


def market_record(settings: Settings, world: str, effect: float, seed: int) -> dict[str, float]:
    """One market's record: its seed, every test (`study.trust.market_tests`) and the true excess."""
    made = simulate(seed, settings.years, effect, settings.effect_days, world, settings.world)
    truth = expected_excess(made.panel, made.truth["drift"], settings.tests)
    return {"seed": seed, "truth": truth, **market_tests(made.panel, settings.tests, seed)}


def run_chunk_of(code: str, settings: Settings, chunk: Chunk) -> list[dict[str, float]]:
    """`run_chunk` where code and packages are those of digest `code`; `InputError` on a machine that has others."""
    if digest(settings) != code:
        raise InputError(
            f"DASK: worker {platform.node()} has other code or package versions, so that its figures could differ;"
            " install the same on it and restart it"
        )
    return run_chunk(settings, chunk)


def run_chunk(settings: Settings, chunk: Chunk) -> list[dict[str, float]]:
    """The records of one chunk; a pure function, run wherever there is room."""
    seeds = range(chunk.first_seed, chunk.first_seed + chunk.markets)
    return [market_record(settings, chunk.world, chunk.effect, seed) for seed in seeds]


def _code_files() -> Iterator[Path]:
    """The files that make the numbers."""
    root = Path(capitulation.__file__).parent
    yield from (path for path in sorted((root / "simulate").glob("*.py")) if path.stem not in NOT_NUMBERS)
    yield from (root / "study" / f"{name}.py" for name in STUDY_MODULES)
    yield from (root / "mining" / f"{name}.py" for name in ("hash_rate", "protocol"))


def digest(settings: Settings) -> str:
    """Names the folder of chunks: settings but for the number of repetitions, code, and versions of the packages."""
    values = {name: value for name, value in asdict(settings).items() if name not in ("repetitions", "effects")}
    seen = hashlib.sha256(json.dumps([values, [version(name) for name in PACKAGES]], sort_keys=True).encode())
    for path in _code_files():
        seen.update(path.name.encode() + path.read_bytes())
    return seen.hexdigest()[:16]


def chunk_folder(settings: Settings) -> Path:
    """Where the finished chunks of these settings are kept."""
    return project_root() / ".cache" / "calibration" / digest(settings)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_chunk(folder: Path, chunk: Chunk) -> list[dict[str, float]] | None:
    """The stored records of `chunk`; None where there are none, or not the right ones."""
    try:
        records = json.loads((folder / chunk.name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    wanted = list(range(chunk.first_seed, chunk.first_seed + chunk.markets))
    good = isinstance(records, list) and all(isinstance(record, dict) for record in records)
    return records if good and [record.get("seed") for record in records] == wanted else None


def measure(
    settings: Settings, jobs: int = 1, dask: str | None = None, progress: Callable[[str], None] | None = None
) -> dict[str, pd.DataFrame]:
    """Run what is not stored yet, on `jobs` processes or on the Dask cluster at `dask`; records by group.

    Every finished chunk is stored at once, so that whatever ends the run, nothing finished is lost. `progress`: None
    shows nothing, else a bar on stderr and a line for what was found.
    """
    folder, chunks = chunk_folder(settings), plan(settings)
    records = {chunk: read_chunk(folder, chunk) for chunk in chunks}
    todo = [chunk for chunk in chunks if records[chunk] is None]
    if progress and len(todo) < len(chunks):
        progress(f"{len(chunks) - len(todo)} of {len(chunks)} chunks are stored already")
    done = (
        run_on_dask(partial(run_chunk_of, folder.name), settings, todo, dask)
        if dask
        else run_on_processes(run_chunk, settings, todo, jobs)
    )
    with _bar(sum(chunk.markets for chunk in chunks), progress) as bar:
        bar.update(sum(chunk.markets for chunk in chunks if records[chunk] is not None))
        for chunk, found in done:
            write_text(folder / chunk.name, json.dumps(found) + "\n")
            records[chunk] = found
            bar.update(chunk.markets)
    return _by_group(chunks, records)


def _bar(total: int, progress: Callable[[str], None] | None):
    from tqdm import tqdm

    return tqdm(total=total, unit=" markets", file=sys.stderr, disable=progress is None, mininterval=1.0)


def _by_group(chunks: list[Chunk], records: dict[Chunk, list[dict[str, float]]]) -> dict[str, pd.DataFrame]:
    """Records in order of seed, whatever order they were finished in."""
    groups: dict[str, list[dict[str, float]]] = {}
    for chunk in chunks:
        groups.setdefault(chunk.group, []).extend(records[chunk])
    return {name: pd.DataFrame(rows).sort_values("seed", ignore_index=True) for name, rows in groups.items()}


def summary(settings: Settings, groups: dict[str, pd.DataFrame], code: str) -> dict:
    """What data/reference/calibration.json holds: provenance, settings, figures and the first records of every group.

    The records let anyone see whether today's code still gives the stored figures.
    """
    versions = {"python": platform.python_version(), "capitulation": capitulation.__version__}
    versions |= {name: version(name) for name in PACKAGES}
    values = asdict(settings)
    world = values.pop("world")
    return {
        "made_on": dt.datetime.now(dt.UTC).date().isoformat(),
        "versions": versions,
        "code_digest": code,
        "settings": values,
        "simulation": world,
        "groups": summarise(groups),
        "first_records": {name: records.head(RECORDS_KEPT).to_dict("records") for name, records in groups.items()},
    }


def calibrate(
    repetitions: int = PUBLISHED_REPETITIONS,
    jobs: int = 1,
    dask: str | None = None,
    progress: Callable[[str], None] | None = None,
    settings: Settings | None = None,
) -> Path:
    """Measure every test on `repetitions` markets of each null world and a fifth as many of each planted effect.

    Returns the path of the summary: data/reference/calibration.json from 2,000 repetitions on, else a file beside the
    chunks, so that a quick trial does not replace the published figures. Raises `InputError` for a number below 1 or
    a cluster that cannot be reached.
    """
    if repetitions < 1:
        raise InputError(f"REPETITIONS={repetitions}: must be at least 1")
    settings = settings or Settings(repetitions=repetitions)
    folder = chunk_folder(settings)
    found = summary(settings, measure(settings, jobs, dask, progress), folder.name)
    published = settings.repetitions >= PUBLISHED_REPETITIONS
    path = (reference_folder() if published else folder) / STORED
    write_text(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return path
