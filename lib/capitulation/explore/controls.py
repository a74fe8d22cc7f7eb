"""The sliders of explore.ipynb: each move makes a `Params`, explores it and redraws."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from capitulation.errors import InputError
from capitulation.explore.board import Board
from capitulation.explore.profile import save_profile
from capitulation.explore.result import Exploration, Explorer
from capitulation.params import ANCHORS, DEFINITIONS, Params, make_params
from capitulation.tables import html_table
from capitulation.words import ANCHOR_WORDS, DEFINITION_WORDS

if TYPE_CHECKING:
    import pandas as pd
    from ipywidgets import Widget

SAMPLE_STARTS = ("2011-01-01", "2012-01-01", "2014-01-01", "2016-01-01", "2018-01-01", "2020-01-01", "2022-01-01")
FORMATS = {"depth": "+.1%", "depth_z": "+.1f", "simple_return": "+.1%"}
HEADERS = {"depth_z": "depth, standard errors", "simple_return": "return", "signal": "signal day"}


def _slider(name: str, value: float, low: float, high: float, step: float) -> Widget:
    """A slider of a parameter; integer where its values are."""
    import ipywidgets as widgets

    kind = widgets.IntSlider if isinstance(step, int) else widgets.FloatSlider
    label = name.replace("primary_", "").replace("_", " ")
    style, layout = {"description_width": "9.5em"}, {"width": "26em"}
    limits = {"min": min(low, value), "max": max(high, value), "step": step}
    return kind(value=value, description=label, style=style, layout=layout, continuous_update=True, **limits)


def _choice(name: str, value: str, options: list[tuple[str, str]]) -> Widget:
    import ipywidgets as widgets

    label = name.replace("primary_", "").replace("_", " ")
    style, layout = {"description_width": "9.5em"}, {"width": "26em"}
    return widgets.Dropdown(options=options, value=value, description=label, style=style, layout=layout)


def _controls(params: Params) -> dict[str, Widget]:
    """One control per parameter that can be moved, at the values of `params`."""
    starts = sorted({*SAMPLE_STARTS, params.sample_start})
    rules = [(DEFINITION_WORDS[name], name) for name in DEFINITIONS]
    return {
        "fast_days": _slider("fast_days", params.fast_days, 5, 120, 1),
        "slow_days": _slider("slow_days", params.slow_days, 10, 250, 1),
        "primary_horizon_days": _slider("primary_horizon_days", params.primary_horizon_days, 7, 365, 1),
        "entry_lag_days": _slider("entry_lag_days", params.entry_lag_days, 0, 14, 1),
        "min_depth_z": _slider("min_depth_z", params.min_depth_z, 0.0, 6.0, 0.25),
        "sample_start": _choice("sample_start", params.sample_start, [(day, day) for day in starts]),
        "primary_definition": _choice("rule", params.primary_definition, rules),
        "primary_anchor": _choice("signal", params.primary_anchor, [(ANCHOR_WORDS[a], a) for a in ANCHORS]),
    }


class Sliders:
    """The sliders with their picture, sentence and table; `params` is the setting shown, `widget` what to display."""

    def __init__(self, panel: pd.DataFrame, params: Params, simulated: bool = False) -> None:
        import ipywidgets as widgets

        self.params, self.explorer, self.board = params, Explorer(panel), Board(simulated)
        self.explorer.warm_up(params)
        self.controls = _controls(params)
        self.picture = widgets.Image(format="png", layout={"max_width": "100%"})
        self.sentence, self.table = widgets.HTML(), widgets.HTML()
        for control in self.controls.values():
            control.observe(self._moved, names="value")
        self.found = self._show(params)
        panes = widgets.GridBox(list(self.controls.values()), layout={"grid_template_columns": "repeat(2, 28em)"})
        self.widget = widgets.VBox([panes, self.sentence, self.picture, self.table])

    def _moved(self, _change: dict[str, Any]) -> None:
        """Explore the new setting; one that cannot be (fast not below slow) says so and changes nothing else."""
        try:
            params = setting(self.params, {name: control.value for name, control in self.controls.items()})
        except InputError as error:
            self.sentence.value = f"<p><strong>{html.escape(str(error))}</strong></p>"
            return
        self.found = self._show(params)

    def _show(self, params: Params) -> Exploration:
        found = self.explorer.explore(params)
        self.params = params
        self.sentence.value = f"<p>{html.escape(found.sentence)}</p>"
        self.picture.value = self.board.draw(found)
        caption = "Kept episodes, newest first, with the return after the signal (blank while not known)."
        self.table.value = html_table(found.table, caption, formats=FORMATS, headers=HEADERS, row_header=False)
        return found

    def save(self, name: str) -> str:
        """Save the setting shown as params/`name`.yml; returns the command that runs it as a report."""
        save_profile(self.params, name)
        return f"make report PARAMS={name} RUN={name}"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget._repr_mimebundle_(**options)


def setting(params: Params, moved: dict[str, Any]) -> Params:
    """`params` with the moved values; the horizon joins the list of horizons, as a run demands.

    Raises `InputError` for values that exclude each other.
    """
    values = {**params.model_dump(), **moved}
    values["horizons_days"] = sorted({*Params().horizons_days, int(values["primary_horizon_days"])})
    return make_params(values, where="the sliders")


def sliders(panel: pd.DataFrame, params: Params | None = None, simulated: bool = False) -> Sliders:
    """The sliders over `panel`, starting at `params`; display the result, and read its `params` and `found`."""
    return Sliders(panel, params or Params(), simulated)
