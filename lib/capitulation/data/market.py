"""The market of a run: which data it works on, where they came from and how old they are."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from capitulation.data import acquire, quality, store
from capitulation.data import panel as panels
from capitulation.data.http import Policy
from capitulation.data.providers import PROVIDERS
from capitulation.data.providers.base import SECONDS_PER_DAY
from capitulation.errors import DataError, InputError, SourceUnavailable, one_line

Progress = Callable[[str], None]
PANEL_FILE, MARKET_FILE = "panel.csv", "market.json"
AUTO_SOURCES = ("coinmetrics", "blockchain_com")
"""Whose stored snapshots SOURCE=auto falls back on; mempool.space has no price."""
INDENT = 1


@dataclass(frozen=True)
class Market:
    """A panel and its provenance.

    `source`: a provider's name, "file" or "simulated". `retrieved_at`: UTC time of the fetch, "" for a file or a
    simulation. `snapshot`: what identifies the raw data (provider/time, sha256:…, seed:…). `digest`: of the panel
    as used, after the cut at as_of. `age_days`: with as_of, days from the panel's last day to it; else days since
    the fetch; None for a file or a simulation without as_of. `notes`: one-line remarks for the reader. `findings`:
    the data checks' remarks (fields of `quality.Finding`). `files`: name, sha256, bytes (and url, query) of each
    raw file. `others`: names of the other providers' newest good snapshots, for comparison (see `other_panels`).
    """

    panel: pd.DataFrame
    source: str
    simulated: bool
    retrieved_at: str
    snapshot: str
    digest: str
    licence: str
    attribution: str
    age_days: float | None
    notes: tuple[str, ...] = ()
    findings: tuple[Mapping[str, Any], ...] = ()
    files: tuple[Mapping[str, Any], ...] = ()
    others: tuple[str, ...] = ()

    def findings_table(self) -> pd.DataFrame:
        """The findings as a table, failures first."""
        return quality.findings_table(self.findings)


def _finish(panel: pd.DataFrame, params: Any, **provenance: Any) -> Market:
    whole, panel = panel, panels.validate_panel(panels.cut(panel, params.as_of))
    if params.as_of:
        provenance["age_days"] = float((pd.Timestamp(params.as_of) - panel.index[-1]).days)
        provenance["notes"] = (*provenance.get("notes", ()), *_too_early(panel, params.as_of, provenance["age_days"]))
    if len(panel) < len(whole):
        provenance["findings"] = quality.known_by_the_end(provenance.get("findings", ()), panel)
    return Market(panel=panel, digest=panels.panel_digest(panel), **provenance)


def _too_early(panel: pd.DataFrame, as_of: str, days: float) -> tuple[str, ...]:
    """A remark where the data end before `as_of`; the day before it may be the last complete one."""
    text = f"the data end on {panel.index[-1]:%Y-%m-%d}, {days:.0f} days before the day asked for, {as_of}"
    return (text,) if days > 1 else ()


def _from_file(params: Any) -> Market:
    from capitulation.data.providers import local_csv

    panel, facts = local_csv.load(params.data)
    findings = quality.check_panel(panel, store.utc_now().date())
    failed = quality.failures(findings)
    if failed:
        raise InputError(f"DATA={one_line(params.data, 160)}: {failed[0].message}; correct the file or name another")
    return _finish(
        panel,
        params,
        source="file",
        simulated=False,
        retrieved_at="",
        snapshot=f"sha256:{facts['sha256']}",
        licence="as its provider's",
        attribution=f"local file {facts['name']} in Coin Metrics' format",
        age_days=None,
        findings=tuple(finding.as_dict() for finding in findings),
        files=(facts,),
    )


def _simulated(params: Any, notes: tuple[str, ...] = ()) -> Market:
    from capitulation.simulate import simulate_panel

    return _finish(
        simulate_panel(seed=params.simulation_seed),
        params,
        source="simulated",
        simulated=True,
        retrieved_at="",
        snapshot=f"seed:{params.simulation_seed}",
        licence="",
        attribution="simulated market, not real data",
        age_days=None,
        notes=notes,
    )


def age_days(snapshot: store.Snapshot, now: dt.datetime) -> float:
    """Days since the snapshot was fetched, negative where a clock was wrong."""
    return round((now - snapshot.retrieved_at).total_seconds() / SECONDS_PER_DAY, 2)


def _from_snapshot(snapshot: store.Snapshot, panel: pd.DataFrame, params: Any, notes: tuple[str, ...] = ()) -> Market:
    facts = snapshot.manifest
    kept = ("url", "query", "sha256", "bytes")
    raw = [{"name": name, **{key: item[key] for key in kept}} for name, item in facts["files"].items()]
    return _finish(
        panel,
        params,
        source=snapshot.provider,
        simulated=False,
        retrieved_at=facts["retrieved_at"],
        snapshot=snapshot.name,
        licence=facts["licence"],
        attribution=facts["attribution"],
        age_days=age_days(snapshot, store.utc_now()),
        notes=(*facts["notes"], *notes),
        findings=tuple(facts["findings"]),
        files=tuple(raw),
        others=_other_snapshots(snapshot.provider),
    )


def _other_snapshots(name: str) -> tuple[str, ...]:
    found = [store.newest_snapshot(other)[0] for other in PROVIDERS if other != name]
    return tuple(snapshot.name for snapshot in found if snapshot is not None)


def other_panels(market: Market) -> dict[str, pd.DataFrame]:
    """Panels of `market.others` by provider, cut at the market's last day; a snapshot that is gone by now is left out.

    They are for comparison alone: nothing of them ever enters the market's own panel.
    """
    found = {}
    for name in market.others:
        try:
            snapshot = store.find_snapshot(name)
            found[snapshot.provider] = panels.cut(acquire.snapshot_panel(snapshot), market.panel.index[-1].date())
        except DataError:
            continue
    return found


def is_fresh(snapshot: store.Snapshot, params: Any, now: dt.datetime) -> bool:
    """Whether no fetch is needed: fetched within max_age_days, or it already holds the day that is asked for.

    A snapshot from the future, fetched while the clock was wrong, is not fresh.
    """
    if params.as_of and snapshot.manifest["last_day"] >= params.as_of:
        return True
    return 0 <= age_days(snapshot, now) < params.max_age_days


def _from_provider(name: str, params: Any, offline: bool, policy: Policy, progress: Progress) -> Market:
    """The provider's newest good snapshot if recent enough, else a new one, else the last good one, age stated."""
    snapshot, panel, refused = acquire.newest_panel(name)
    for line in refused:
        progress(line)
    if snapshot is not None and (offline or is_fresh(snapshot, params, store.utc_now())):
        return _from_snapshot(snapshot, panel, params, refused)
    if offline:
        raise SourceUnavailable(f"{name}: no snapshot in data/raw and no fetch allowed; run `make fetch SOURCE={name}`")
    try:
        return _from_snapshot(*acquire.acquire(name, policy, progress), params, refused)
    except (SourceUnavailable, DataError) as error:
        if snapshot is None:
            raise _unusable(error, name, refused) from None
        age = age_days(snapshot, store.utc_now())
        note = f"{one_line(error, 400)}; used the last good snapshot {snapshot.name}, {age:.1f} days old"
        progress(note)
        return _from_snapshot(snapshot, panel, params, (*refused, note))


def _unusable(error: Exception, name: str, refused: tuple[str, ...]) -> Exception:
    others = f"; {len(refused)} stored snapshots were refused" if refused else ""
    text = f"{one_line(error, 400)}; no stored snapshot of {name} to use instead{others}"
    return DataError(text) if isinstance(error, DataError) else SourceUnavailable(text)


def _auto(params: Any, offline: bool, policy: Policy, progress: Progress) -> Market:
    """Coin Metrics (stored or fetched), else another provider's snapshot with a price, else a simulated market."""
    try:
        return _from_provider(AUTO_SOURCES[0], params, offline, policy, progress)
    except (SourceUnavailable, DataError) as error:
        first = str(error)
    for name in AUTO_SOURCES[1:]:
        try:
            market = _from_provider(name, params, True, policy, progress)
        except (SourceUnavailable, DataError):
            continue
        note = f"{first}; used {market.snapshot} instead, {market.age_days:.1f} days old"
        progress(note)
        return replace(market, notes=(*market.notes, note))
    note = f"SIMULATED MARKET, not real data: {first}"
    progress(note)
    return _simulated(params, (note,))


def load_market(
    params: Any, *, offline: bool = False, progress: Progress = print, policy: Policy | None = None, snapshot: str = ""
) -> Market:
    """The market that `params` asks for (`data`, `source`, `as_of`, `max_age_days`, `simulation_seed`).

    `data`: that file. `source` auto: Coin Metrics' newest snapshot if recent enough, else fetched (API, then
    public CSV), else the last good snapshot with its age in `notes`, else a simulated market. A named source
    insists on it. `offline` forbids the network. `snapshot` (provider/time) insists on that stored snapshot, as
    when a report is reproduced.

    Raises `InputError` (file), `SourceUnavailable` (insisted source), `DataError` (snapshot or answer not usable).
    """
    if snapshot:
        stored = store.find_snapshot(snapshot)
        return _from_snapshot(stored, acquire.snapshot_panel(stored), params)
    if params.data:
        return _from_file(params)
    if params.source == "simulated":
        return _simulated(params)
    policy = policy or Policy()
    if params.source == "auto":
        return _auto(params, offline, policy, progress)
    try:
        return _from_provider(params.source, params, offline, policy, progress)
    except (SourceUnavailable, DataError) as error:
        raise type(error)(f"SOURCE={params.source}: {error}") from None


def fetch(params: Any, progress: Progress = print, policy: Policy | None = None) -> str:
    """Store a new snapshot, whatever the age of the last one, and say in one line what was stored.

    SOURCE=auto fetches Coin Metrics and then, for the comparison, the other providers; only Coin Metrics' failure
    is an error (`SourceUnavailable`, `DataError`). A named source fetches that one.
    """
    if params.data or params.source == "simulated":
        raise InputError("nothing to fetch for DATA=… or SOURCE=simulated; choose SOURCE=auto or a provider")
    policy = policy or Policy()
    if params.source != "auto":
        return _stored_line(acquire.acquire(params.source, policy, progress)[0])
    for name in PROVIDERS[1:]:
        try:
            snapshot, _panel = acquire.acquire(name, policy, progress)
            for line in _warnings(snapshot):
                progress(f"{name}: {line}")
        except (SourceUnavailable, DataError) as error:
            progress(f"{one_line(error, 400)} (not needed: only compared)")
    return _stored_line(acquire.acquire(PROVIDERS[0], policy, progress)[0])


def _stored_line(snapshot: store.Snapshot) -> str:
    facts = snapshot.manifest
    text = f"data/raw/{snapshot.name}: {facts['rows']} days, {facts['first_day']} to {facts['last_day']}"
    return "\n".join([text, *_warnings(snapshot)])


def _warnings(snapshot: store.Snapshot) -> list[str]:
    found = snapshot.manifest["findings"]
    return [f"warning: {item['message']}" for item in found if item["severity"] == quality.WARNING]


def save_market(market: Market, folder: Path | str) -> None:
    """Write panel.csv and market.json into `folder` (made where absent); the same market gives the same bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    panels.write_panel(market.panel, folder / PANEL_FILE)
    fields = [name for name in Market.__dataclass_fields__ if name != "panel"]
    facts = {name: getattr(market, name) for name in fields}
    text = json.dumps(facts, indent=INDENT, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / MARKET_FILE).write_text(text, encoding="utf-8")


def read_market(folder: Path | str) -> Market:
    """The market saved in `folder`; `DataError` where a file is missing, damaged or no longer matches its digest."""
    folder = Path(folder)
    try:
        facts = json.loads((folder / MARKET_FILE).read_text(encoding="utf-8"))
        lists = {name: tuple(facts[name]) for name in ("notes", "findings", "files", "others")}
        market = Market(panel=panels.read_panel(folder / PANEL_FILE), **{**facts, **lists})
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{folder.name}/{MARKET_FILE}: cannot be read: {one_line(error, 160)}") from None
    if panels.panel_digest(market.panel) != market.digest:
        raise DataError(f"{folder.name}/{PANEL_FILE}: no longer matches the digest in {MARKET_FILE}")
    return market
