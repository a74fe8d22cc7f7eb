# ruff: noqa: F401
"""The public names and where each is: `__init__.py` loads one when it is first used, type checkers read this file."""

from . import data, figures, mining, report, simulate, study
from .errors import CapitulationError
from .mining.difficulty import adjustments, next_adjustment
from .mining.economics import economics, fleet
from .mining.episodes import apply_rules, episodes
from .mining.hashrate import hash_ribbons, ribbon_state, rolling_mean
from .mining.rules import RULES, beyond, rule, rule_state, rule_states
from .params import load_params, save_profile
from .report.page import open_page, open_panel
from .simulate.market import simulate_panel
from .study.chance import max_rotation_test, rotation_test
from .study.duration import survival_curve, turn_odds
from .study.events import by_era, event_study, leave_one_out
from .study.present import present_state
from .study.returns import event_paths, forward_returns, own_era_excess
from .study.trading import backtest

__version__: str
