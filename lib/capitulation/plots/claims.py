"""The ledger of published claims: which ones hold."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pandas as pd

from capitulation.plots.chart import Chart
from capitulation.plots.empty import empty
from capitulation.plots.style import COLOURS, VERDICT_COLOURS, finish, new_figure, styled
from capitulation.words import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST_NAME = 30
STRONG = ("reproduced", "contradicted")


@styled
def verdicts(ledger: pd.DataFrame) -> Chart:
    """Every claim a cell with its number, a row per publisher, coloured and sorted by verdict.

    `ledger`: the contract's claims table (id, source, verdict); the publisher is what `source` says before its first
    comma.
    """
    if ledger.empty:
        return empty("The ledger holds no published claim")
    order = list(VERDICT_COLOURS)
    rows = ledger.assign(publisher=ledger["source"].map(_publisher), rank=ledger["verdict"].map(order.index))
    groups = list(rows.sort_values("rank", kind="stable").groupby("publisher", sort=False))
    groups.sort(key=lambda group: -len(group[1]))
    figure, axes = new_figure(height=1.6 + 0.42 * len(groups))
    for row, (_, claims) in enumerate(groups):
        _cells(axes, row, claims)
    axes.set_yticks(range(len(groups)), [textwrap.fill(name, LONGEST_NAME) for name, _ in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    score = ledger["verdict"].value_counts()
    _legend(figure, score, order)
    title = (
        f"{score.get('reproduced', 0)} of {count(len(ledger), 'published claim')} are reproduced, "
        f"{score.get('contradicted', 0)} contradicted"
    )
    told = "; ".join(f"{name}: {_score(claims)}" for name, claims in groups)
    return finish(figure, title, f"Rows of numbered claims by publisher, coloured by verdict. {told}.")


def _publisher(source: str) -> str:
    """What a source says before its first comma.

    >>> _publisher("VanEck, mid-December 2025 ChainCheck")
    'VanEck'
    """
    return str(source).split(",")[0].strip()


def _cells(axes: Axes, row: int, claims: pd.DataFrame) -> None:
    """One cell for each claim, its number inside."""
    for column, (number, verdict) in enumerate(zip(claims["id"], claims["verdict"], strict=True)):
        axes.barh(row, 0.94, 0.8, left=column, color=VERDICT_COLOURS[verdict], linewidth=0)
        words = {
            "ha": "center",
            "va": "center",
            "fontsize": 10,
            "color": "white" if verdict in STRONG else COLOURS["ink"],
        }
        axes.text(column + 0.47, row, str(number), **words)


def _score(claims: pd.DataFrame) -> str:
    return ", ".join(f"{n} {verdict}" for verdict, n in claims["verdict"].value_counts(sort=False).items())


def _legend(figure: Figure, score: pd.Series, order: list[str]) -> None:
    """Keys with their counts below the axes: above them the longest would not fit beside the names."""
    from matplotlib.patches import Patch

    keys = [Patch(color=VERDICT_COLOURS[name], label=f"{name} ({score[name]})") for name in order if name in score]
    figure.legend(handles=keys, ncols=2, loc="outside lower left")
