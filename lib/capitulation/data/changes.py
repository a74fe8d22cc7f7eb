"""What changed: a new answer against the last good one of its provider, and against other providers.

The limits come from the real history since 2009 and from restatements that were seen.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from capitulation.data.quality import FAILURE, NOTE, WARNING, Finding, make_finding

SETTLED_DAYS = 14
REVISED_BEYOND = 1e-6
LARGE_REVISION = {"hash_rate_ehs": 0.02, "block_count": 0.02, "difficulty": 0.02, "height": 1e-4, "price_usd": 0.05}
REVISED_SHARE_FAILURE = 0.002
LOST_SHARE_FAILURE = 0.01
PROVIDER_MEAN_DAYS = 30
PROVIDER_DAYS = 365
PROVIDER_WARNING = {"hash_rate_ehs": 0.01, "price_usd": 0.03}
PROVIDER_FAILURE = 0.25


def compare_panels(new: pd.DataFrame, old: pd.DataFrame) -> list[Finding]:
    """A new panel against the last good one of the same provider: history that shrank, columns lost, days revised."""
    return [*_shrunk(new, old), *_lost_columns(new, old), *_revisions(new, old)]


def _shrunk(new: pd.DataFrame, old: pd.DataFrame) -> list[Finding]:
    had = old.index[old["hash_rate_ehs"].notna()]
    lost = had.difference(new.index[new["hash_rate_ehs"].notna()])
    if not len(lost):
        return []
    at_end = had[-1] > new.index[-1]
    severity = FAILURE if at_end or len(lost) > LOST_SHARE_FAILURE * len(had) else WARNING
    text = f"{len(lost)} days that the last snapshot had are gone" + (", the newest among them" if at_end else "")
    return [make_finding("shrunk", severity, "hash_rate_ehs", text, lost, len(lost) / len(had), LOST_SHARE_FAILURE)]


def _lost_columns(new: pd.DataFrame, old: pd.DataFrame) -> list[Finding]:
    names = [name for name in old.columns if old[name].notna().any() and new[name].isna().all()]
    core = ("hash_rate_ehs", "price_usd")
    return [
        make_finding("lost_column", FAILURE if name in core else WARNING, name, f"{name} is gone entirely")
        for name in names
    ]


def _revisions(new: pd.DataFrame, old: pd.DataFrame) -> list[Finding]:
    """Days that both have with other values; the newest days of the old panel may still settle."""
    days = new.index.intersection(old.index)
    settled = days[days <= old.index[-1] - pd.Timedelta(days=SETTLED_DAYS)]
    found = []
    for name in new.columns:
        before, after = old.loc[days, name], new.loc[days, name]
        size = ((after - before).abs() / np.maximum(after.abs(), before.abs())).dropna()
        changed = size[size > REVISED_BEYOND]
        if len(changed):
            found.append(_revision(name, changed, settled, len(size)))
    return found


def _revision(name: str, changed: pd.Series, settled: pd.DatetimeIndex, known: int) -> Finding:
    old_days = changed[changed.index.isin(settled)]
    large = (old_days > LARGE_REVISION.get(name, np.inf)).sum()
    severity = FAILURE if large > max(REVISED_SHARE_FAILURE * known, 2) else WARNING if len(old_days) else NOTE
    when = f"{changed.idxmax():%Y-%m-%d}"
    text = f"{name}: {len(changed)} past days revised, the most by {changed.max():.2%} of the larger value on {when}"
    return make_finding("revised", severity, name, text, changed.index, changed.max(), LARGE_REVISION.get(name))


def compare_providers(panel: pd.DataFrame, other: pd.DataFrame, name: str) -> list[Finding]:
    """Last year's 30-day means of hash rate and price against another provider's: median and largest difference."""
    found = []
    for column, limit in PROVIDER_WARNING.items():
        both = pd.DataFrame({"a": panel[column], "b": other[column]}).rolling(PROVIDER_MEAN_DAYS).mean().dropna()
        off = (both["a"] / both["b"] - 1).abs().iloc[-PROVIDER_DAYS:]
        if off.empty:
            continue
        worst, middle = float(off.max()), float(off.median())
        severity = FAILURE if middle > PROVIDER_FAILURE else WARNING if worst > limit else NOTE
        text = f"{column}: 30-day means differ from {name}'s by {middle:.3%} in the median, {worst:.3%} at most"
        found.append(make_finding("providers", severity, column, text, off.index, worst, limit))
    return found
