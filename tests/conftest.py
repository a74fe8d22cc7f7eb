"""Fixtures shared by all tests; those on real data skip, with the reason, where the files are absent."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

from capitulation.report.page import open_panel
from capitulation.simulate.market import simulate_panel

settings.register_profile("suite", deadline=None)  # a busy machine is no fault
settings.load_profile("suite")

gc.set_threshold(200_000)  # as the program does: to look for garbage all the time takes a tenth of it
DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    folder = Path(os.environ.get("CAPITULATION_TEST_DATA", DEFAULT_DATA))
    if not (folder / "coinmetrics" / "btc.csv").is_file():
        pytest.skip(f"no real data at {folder}: set CAPITULATION_TEST_DATA to a folder that holds coinmetrics/btc.csv")
    return folder


@pytest.fixture(scope="session")
def real_panel(data_folder):
    """The whole Coin Metrics history as a panel; tests must not change it in place."""
    return open_panel(data=str(data_folder / "coinmetrics" / "btc.csv"))


@pytest.fixture(scope="session")
def golden(data_folder) -> Path:
    """A report on the real data whose figures are known: tables/, findings/, headline.json."""
    folder = data_folder.parent / "golden"
    if not folder.is_dir():
        pytest.skip(f"no known report at {folder}")
    return folder


@pytest.fixture(scope="session")
def simulated_panel():
    """One simulated market; tests must not change it in place."""
    return simulate_panel(seed=17)
