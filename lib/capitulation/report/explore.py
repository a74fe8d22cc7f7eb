"""What history.html, the chart to explore, holds beside its texts: the model and the scripts that draw it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bokeh

BOKEH = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"
DRIVER = Path(__file__).parent / "template" / "history.js"


def chart_parts(chart: Mapping[str, Any]) -> dict[str, str]:
    """Values for history.html.j2: `chart` (as by Bokeh's `json_item`) as JSON that ends no element, and the scripts."""
    text = json.dumps(chart, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return {"chart": text, "bokeh": BOKEH.read_text(encoding="utf-8"), "driver": DRIVER.read_text(encoding="utf-8")}
