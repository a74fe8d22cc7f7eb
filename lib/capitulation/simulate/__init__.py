"""An artificial Bitcoin whose truth is known: price, miners, blocks and difficulty, one seed to one market.

It serves three ends: the market of a run where no data can be had, the tests, and the measurement of how far each
statistic of the suite can be trusted (`capitulation.simulate.calibrate`).
"""

from __future__ import annotations

from capitulation.simulate.market import Simulation, simulate, simulate_panel
from capitulation.simulate.parameters import WORLDS, SimulationParams, parameter_table

__all__ = ["WORLDS", "Simulation", "SimulationParams", "parameter_table", "simulate", "simulate_panel"]
