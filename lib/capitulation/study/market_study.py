"""The event study of one market in one object: what the notebooks show, computed on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from capitulation.episodes import all_episodes
from capitulation.mining.rules import RULES, all_rule_states
from capitulation.params import Params
from capitulation.study.events import EventDays, event_days
from capitulation.study.forward_returns import event_paths, forward_log_return_table, to_simple
from capitulation.study.headline import definitions_sentence, primary_row

if TYPE_CHECKING:
    from capitulation.study.rotation import RotationResult

FORMATS: Mapping[str, str] = {
    "mean": "+.1%",
    "median": "+.1%",
    "hit_rate": ".0%",
    "worst": "+.1%",
    "best": "+.1%",
    "base_mean": "+.1%",
    "base_median": "+.1%",
    "base_hit_rate": ".0%",
    "excess_log": "+.3f",
    "ci_low": "+.3f",
    "ci_high": "+.3f",
    "p_rotation": "p",
    "p_matched": "p",
    "p_holm": "p",
    "min_detectable_log": ".3f",
    "median_adverse": "+.1%",
    "worst_adverse": "+.1%",
    "median_favourable": "+.1%",
    "base_median_adverse": "+.1%",
    "base_median_favourable": "+.1%",
}

SHOWN = [
    *("anchor", "horizon_days", "n_events", "n_clusters", "median", "hit_rate", "base_median", "base_hit_rate"),
    *("excess_log", "ci_low", "ci_high", "p_rotation", "p_holm", "min_detectable_log"),
]
"""Columns of the forward-return table that a page shows; the CSV has them all."""


@dataclass(frozen=True)
class MarketStudy:
    """A market, the states that every rule gives it, and what followed; every table is computed on first use."""

    panel: pd.DataFrame
    params: Params

    @cached_property
    def states(self) -> dict[str, pd.DataFrame]:
        """Daily state of every definition."""
        return all_rule_states(self.panel, self.params)

    @cached_property
    def definitions(self) -> pd.DataFrame:
        """Each definition in words with its source, the share of the sample's days it holds on, and its episodes."""
        rows = []
        for name, state in self.states.items():
            rule, known = RULES[name], state.loc[self.params.sample_start :]
            count = int((self.episodes["definition"] == name).sum())
            share = float(known.loc[known["known"], "in_state"].mean())
            rows.append((name, rule.description, share, count, rule.source))
        return pd.DataFrame(rows, columns=["definition", "rule", "share_of_days", "episodes", "source"])

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """The contract's episodes table, all definitions."""
        return all_episodes(self.panel, self.params, self.states)

    @cached_property
    def events(self) -> EventDays:
        """Anchor days of every definition and anchor."""
        return event_days(self.episodes, self.states)

    @cached_property
    def forward_returns(self) -> pd.DataFrame:
        """The contract's forward-return table."""
        from capitulation.study.event_study import forward_return_table

        return forward_return_table(self.panel, self.events, self.params)

    @cached_property
    def event_returns(self) -> pd.DataFrame:
        """The contract's event-return table."""
        from capitulation.study.event_study import event_return_table

        return event_return_table(self.panel, self.episodes, self.params)

    @cached_property
    def base_returns(self) -> pd.DataFrame:
        """Simple forward returns of every day of the sample: index day, one column per horizon."""
        price = self.panel["price_usd"]
        logs = forward_log_return_table(price, self.params.horizons_days, self.params.entry_lag_days)
        return logs.loc[self.params.sample_start :].apply(to_simple)

    @cached_property
    def primary(self) -> pd.Series:
        """The row of the one primary test."""
        return primary_row(self.forward_returns, self.params)

    @cached_property
    def primary_days(self) -> pd.DatetimeIndex:
        """Signal days of the primary test, since the start of the sample and early enough to be traded."""
        days = self.events[self.params.primary_definition, self.params.primary_anchor]
        last = self.panel.index[-1] - pd.Timedelta(days=self.params.entry_lag_days)
        return days[(days >= pd.Timestamp(self.params.sample_start)) & (days <= last)]

    def _paths(self, days: pd.DatetimeIndex) -> pd.DataFrame:
        return event_paths(self.panel["price_usd"], days, entry_lag_days=self.params.entry_lag_days)

    @cached_property
    def paths(self) -> pd.DataFrame:
        """Log price around each primary signal, index -60..365 days from the entry."""
        return self._paths(self.primary_days)

    @cached_property
    def base_paths(self) -> pd.DataFrame:
        """Quartiles (columns low, median, high) of the same over every day of the sample."""
        sample = self.panel.loc[self.params.sample_start :].index
        last = self.panel.index[-1] - pd.Timedelta(days=self.params.entry_lag_days)
        every = self._paths(sample[sample <= last]).to_numpy()
        low, middle, high = np.nanquantile(every, [0.25, 0.5, 0.75], axis=1)
        return pd.DataFrame({"low": low, "median": middle, "high": high}, index=self.paths.index)

    @cached_property
    def average_paths(self) -> pd.DataFrame:
        """Average path of the price around the signals of every definition and anchor."""
        from capitulation.study.average_paths import average_paths

        return average_paths(self.panel["price_usd"], self.events, self.params)

    @cached_property
    def rotation(self) -> RotationResult:
        """The exact rotation test of the primary result."""
        from capitulation.study.rotation import rotation_test
        from capitulation.study.sample import study_sample

        sample = study_sample(self.panel, self.params.primary_horizon_days, self.params)
        return rotation_test(sample.returns.to_numpy(), sample.marks(self.primary_days))

    @cached_property
    def leave_one_out(self) -> pd.DataFrame:
        """The primary result without each cluster in turn."""
        from capitulation.study.event_study import leave_one_out

        return leave_one_out(self.panel, self.primary_days, self.params.primary_horizon_days, self.params)

    @cached_property
    def by_era(self) -> pd.DataFrame:
        """The primary result within each halving era."""
        from capitulation.study.event_study import by_era

        return by_era(self.panel, self.primary_days, self.params.primary_horizon_days, self.params)

    @cached_property
    def definitions_sentence(self) -> str:
        """How many definitions stand out, beside how many would by chance."""
        return definitions_sentence(self.forward_returns, self.params)

    @cached_property
    def excursions(self) -> pd.DataFrame:
        """How far the price fell and rose on the way, by anchor and horizon, beside any day; the primary definition."""
        from capitulation.study.event_study import excursion_table

        rows = self.event_returns[self.event_returns["definition"] == self.params.primary_definition]
        return excursion_table(self.panel["price_usd"], rows, self.params)
