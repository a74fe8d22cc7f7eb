"""Bitcoin miner capitulation and what BTC did afterwards: the library behind the notebooks.

`import capitulation as cap`, then: `panel = cap.open_panel()`, `ribbon = cap.hash_ribbons(panel)`,
`found = cap.episodes(ribbon["inverted"], panel)`, `cap.event_study(panel, found["end"])`. The rooms hold the rest:
data, mining, study, simulate, figures, report.
"""

from capitulation import data, figures, mining, report, simulate, study  # noqa: F401  the six rooms
from capitulation.errors import CapitulationError
from capitulation.mining.difficulty import adjustments, next_adjustment
from capitulation.mining.economics import economics, fleet
from capitulation.mining.episodes import apply_rules, episodes
from capitulation.mining.hashrate import hash_ribbons, ribbon_state, rolling_mean
from capitulation.mining.rules import RULES, beyond, rule, rule_state, rule_states
from capitulation.params import load_params, save_profile
from capitulation.report.page import open_page, open_panel
from capitulation.simulate.market import simulate_panel
from capitulation.study.chance import max_rotation_test, rotation_test
from capitulation.study.duration import survival_curve, turn_odds
from capitulation.study.events import by_era, event_study, leave_one_out
from capitulation.study.present import present_state
from capitulation.study.returns import event_paths, forward_returns, own_era_excess
from capitulation.study.trading import backtest

__version__ = "0.7.0"

__all__ = [
    "RULES",
    "CapitulationError",
    "adjustments",
    "apply_rules",
    "backtest",
    "beyond",
    "by_era",
    "economics",
    "episodes",
    "event_paths",
    "event_study",
    "fleet",
    "forward_returns",
    "hash_ribbons",
    "leave_one_out",
    "load_params",
    "max_rotation_test",
    "next_adjustment",
    "open_page",
    "open_panel",
    "own_era_excess",
    "present_state",
    "ribbon_state",
    "rolling_mean",
    "rotation_test",
    "rule",
    "rule_state",
    "rule_states",
    "save_profile",
    "simulate_panel",
    "survival_curve",
    "turn_odds",
]


def __dir__() -> list[str]:
    """What tab completion offers: the public names and the six rooms."""
    return [*__all__, "data", "figures", "mining", "report", "simulate", "study"]
