"""The market of a run: which data it works on, where they came from and how old they are."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from capitulation.data import checks, snapshots
from capitulation.data.files import read_data
from capitulation.data.panel import DAY, cut, panel_digest, read_panel, validate_panel, write_panel
from capitulation.data.snapshots import Progress, Snapshot
from capitulation.data.sources import PROVIDERS, all_terms
from capitulation.errors import DataError, InputError, SourceUnavailable, nearest, one_line
from capitulation.paths import write_json

PANEL_FILE, MARKET_FILE = "panel.csv", "market.json"


def utc_now() -> dt.datetime:
    """The present, UTC, whole seconds."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Market:
    """A panel and its provenance."""

    panel: pd.DataFrame
    source: str  # a provider's name, "file" or "simulated"
    simulated: bool
    retrieved_at: str = ""  # UTC time of the fetch, if any
    snapshot: str = ""  # what identifies the raw data: provider/time, sha256:…, seed:…
    digest: str = ""  # of the panel as used, cut at as_of
    licence: str = ""
    attribution: str = ""
    age_days: float | None = None  # from the last day to as_of, without one since the fetch (negative: a wrong clock)
    notes: tuple[str, ...] = ()  # what a reader should know: the findings that are warnings, then what happened
    findings: tuple[Mapping[str, Any], ...] = ()  # of the data checks
    files: tuple[Mapping[str, Any], ...] = ()  # name, sha256, bytes (url, query) of each raw file
    others: tuple[str, ...] = ()  # the other providers' newest good snapshots, see `other_panels`


def load_market(
    data: str | Path = "",
    source: str = "auto",
    as_of: str = "",
    max_age_days: float = 1.0,
    simulation_seed: int = 17,
    columns: str | Mapping[str, str] = "",
    *,
    offline: bool = False,
    progress: Progress = print,
    snapshot: str = "",
    simulate: Callable[[int], pd.DataFrame] | None = None,
) -> Market:
    """The market that is asked for, cut at `as_of`.

    `data`: that file or files, `columns`: what stands in which column (see `files.read_data`). `source` auto: Coin
    Metrics' newest snapshot if younger than `max_age_days` or holding `as_of`, else fetched (API, then public CSV),
    else the last good snapshot with its age in `notes`, else Blockchain.com's, else the market that
    `simulate(simulation_seed)` makes. A named source insists on it. `offline` forbids the network. `snapshot`
    (provider/time) insists on that stored snapshot, as when a report is reproduced.

    Raises `InputError` (file, name, day), `SourceUnavailable` (insisted source), `DataError` (not usable).
    """
    known = ("auto", "simulated", *PROVIDERS)
    if source not in known:
        raise InputError(f"source={one_line(source, 40)}: {nearest(source, known)}known are: {', '.join(known)}")
    wanted, note = {"as_of": as_of, "max_age_days": max_age_days, "progress": progress}, ""
    if snapshot:
        market = _stored(snapshots.find_snapshot(snapshot))
    elif data:
        market = _from_file(data, columns)
    elif source in PROVIDERS:
        market = _from_provider(source, offline=offline, **wanted)
    else:
        why, tries = "", {"coinmetrics": offline, "blockchain_com": True}  # mempool.space has no price
        for name, no_fetch in tries.items() if source == "auto" else ():
            try:
                market = _from_provider(name, offline=no_fetch, **wanted)
                note = why and f"{why}; used {market.snapshot} instead, {market.age_days:.1f} days old"
                break
            except (SourceUnavailable, DataError) as error:
                why = why or str(error)
        else:
            whose = {"snapshot": f"seed:{simulation_seed}", "attribution": "simulated market, not real data"}
            market = Market(simulate(simulation_seed), "simulated", True, **whose)
            note = why and f"SIMULATED MARKET, not real data: {why}"
        if note:
            progress(note)
    panel, findings = validate_panel(cut(market.panel, as_of)), market.findings
    last = f"{panel.index[-1]:%Y-%m-%d}"
    if not market.simulated:  # of real data everybody knows the level, and they may contradict themselves
        if len(panel) < len(market.panel):  # nothing that was found later is known either
            known = [item for item in findings if item["check"] in checks.COMPARISONS and item["last_day"] <= last]
            findings = (*checks.check_panel(panel), *known)
        panel, contradictions = checks.consistent(panel)
        findings = (*contradictions, *findings)
    notes = [item["message"] for item in findings if item["severity"] == checks.WARNING] + [*market.notes, note]
    facts: dict[str, Any] = {"panel": panel, "digest": panel_digest(panel), "findings": tuple(findings)}
    if as_of:
        facts["age_days"] = float((pd.Timestamp(as_of) - panel.index[-1]).days)
        if facts["age_days"] > 1:  # the day before may be the last complete one
            notes.append(f"the data end on {last}, {facts['age_days']:.0f} days before the day asked for, {as_of}")
    if market.source in PROVIDERS:
        others = (_newest(name)[0] for name in PROVIDERS if name != market.source)
        facts["others"] = tuple(other.snapshot for other in others if other)
    return replace(market, notes=tuple(filter(None, notes)), **facts)


def _from_file(data: str | Path, columns: str | Mapping[str, str]) -> Market:
    try:
        panel, files, notes = read_data(data, columns, utc_now().date())
        findings = checks.check_panel(validate_panel(panel), utc_now().date())
        for failed in checks.failures(findings):
            raise DataError(f"{failed}; correct the file or name another")
    except DataError as error:
        said = str(error) if " " in str(data) else str(error).removeprefix(f"{Path(data).name}: ")
        raise InputError(f"DATA={one_line(data, 160)}: {one_line(said, 600)}") from None
    names, sums = (", ".join(file[fact] for file in files) for fact in ("name", "sha256"))
    known = sums if len(files) == 1 else sha256(sums.encode()).hexdigest()
    whose = {"licence": "as its provider's", "snapshot": f"sha256:{known}", "attribution": f"local file {names}"}
    return Market(panel, "file", False, **whose, notes=notes, findings=tuple(findings), files=files)


def _parsed(provider: str, files: Mapping[str, bytes], retrieved_at: dt.datetime) -> pd.DataFrame:
    """The panel without the day of the fetch, which had not ended; later days stay, for the checks to refuse."""
    panel, today = PROVIDERS[provider].parse(files), pd.Timestamp(retrieved_at.date())
    return validate_panel(panel.loc[: today - DAY] if panel.index[-1] == today else panel)


def _stored(snapshot: Snapshot, panel: pd.DataFrame | None = None) -> Market:
    """The market in `snapshot`; `DataError` where it has none or its provider is not known."""
    facts = snapshot.manifest
    if facts.quarantined or facts.provider not in PROVIDERS:
        raise DataError(f"snapshot {snapshot.name}: quarantined, or of a provider that is not known")
    panel = _parsed(facts.provider, snapshot.files, facts.retrieved_at) if panel is None else panel
    age = round((utc_now() - facts.retrieved_at) / DAY, 2)
    whose = {"snapshot": snapshot.name, "licence": facts.licence, "attribution": facts.attribution, "age_days": age}
    files = tuple({"name": name, **item} for name, item in facts.files.items())
    found = {"notes": tuple(facts.notes), "findings": tuple(facts.findings), "files": files}
    return Market(panel, facts.provider, False, facts.retrieved_at.isoformat(), **whose, **found)


def _newest(name: str) -> tuple[Market | None, list[str]]:
    """The provider's newest snapshot that verifies and parses, and a line per newer one that was refused."""
    refused: list[str] = []
    for stored in snapshots.snapshot_names(name):
        try:
            return _stored(snapshots.find_snapshot(stored)), refused
        except DataError as error:
            refused.append(one_line(error, 400))
    return None, refused


def other_panels(market: Market) -> dict[str, pd.DataFrame]:
    """Panels of `market.others` by provider, for comparison alone, cut at the market's last day; lost ones left out."""
    found = {}
    for name in market.others:
        with suppress(DataError, InputError):
            other = _stored(snapshots.find_snapshot(name))
            found[other.source] = cut(other.panel, market.panel.index[-1])
    return found


def _from_provider(name: str, *, as_of: str, max_age_days: float, offline: bool, progress: Progress) -> Market:
    """The provider's newest good snapshot if young enough or holding the day `as_of`, else a new one, else that one."""
    market, notes = _newest(name)
    for line in notes:
        progress(line)
    if market is None and offline:
        raise SourceUnavailable(f"{name}: no snapshot in data/raw and no fetch allowed; run `make fetch SOURCE={name}`")
    holds = market and as_of and as_of <= f"{market.panel.index[-1]:%Y-%m-%d}"
    if not (offline or holds or (market and 0 <= market.age_days < max_age_days)):
        try:
            market = acquire(name, progress)
        except (SourceUnavailable, DataError) as error:
            said = one_line(error, 400)
            if market is None:
                refused = f"; {len(notes)} stored snapshots were refused" if notes else ""
                raise type(error)(f"{said}; SOURCE={name} has no stored snapshot to use instead{refused}") from None
            notes.append(f"{said}; used the last good snapshot {market.snapshot}, {market.age_days:.1f} days old")
            progress(notes[-1])
    return replace(market, notes=(*market.notes, *notes))


def acquire(name: str, progress: Progress = print) -> Market:
    """A new snapshot of provider `name`, checked alone and against its last one and other providers'.

    `SourceUnavailable` where it cannot be reached; `DataError` for no data, and for a failed check: then quarantined.
    """
    provider = PROVIDERS[name]
    progress(f"fetching from {all_terms()[name].attribution}")
    get, refused = partial(snapshots.fetch_answer, progress=progress), []
    for fetch_from in provider.fetch:
        try:
            answers, now = fetch_from(get), utc_now()
            panel = _parsed(name, {file: answer.body for file, answer in answers.items()}, now)
            break
        except (SourceUnavailable, DataError) as error:
            refused.append(error)
    else:
        raise type(refused[-1])("; ".join(map(str, refused)))
    notes = [f"{one_line(error, 300)}; read the public file instead" for error in refused]
    stored = {other: market.panel for other in PROVIDERS if (market := _newest(other)[0])}
    since = stored[name].index[-1] if name in stored else None
    findings = checks.check_panel(panel, now.date(), since, fetched=True)
    for other, old in stored.items():
        own = other == name
        findings += checks.compare_panels(panel, old) if own else checks.compare_providers(panel, old, other)
    failed = checks.failures(findings)
    facts = {
        "licence": all_terms()[name].licence,
        "attribution": all_terms()[name].attribution,
        "notes": notes,
        "findings": findings,
    }
    facts |= {"rows": len(panel), "first_day": panel.index[0].date(), "last_day": panel.index[-1].date()}
    snapshot = snapshots.save_snapshot(name, answers, retrieved_at=now, quarantined=bool(failed), **facts)
    if failed:
        raise DataError(f"{name}: {failed[0]}; kept as data/raw/{snapshot.name}, not used")
    size = sum(map(len, snapshot.files.values()))
    said = [f"stored {snapshot.name}: {len(panel):,} days to {panel.index[-1]:%Y-%m-%d}, {size / 1e6:.1f} MB", *notes]
    for line in [*said, *(f"warning: {item['message']}" for item in findings if item["severity"] == checks.WARNING)]:
        progress(line)
    return _stored(snapshot, panel)


def fetch(source: str = "auto", progress: Progress = print) -> str:
    """Store a new snapshot of a provider, whatever the age of the last one, and say in one line what was stored.

    `auto` fetches the other providers, for the comparison, then Coin Metrics, whose failure alone is an error.
    """
    if source != "auto" and source not in PROVIDERS:
        raise InputError(f"nothing to fetch for SOURCE={one_line(source, 40)}; choose auto or {', '.join(PROVIDERS)}")
    main, *others = PROVIDERS if source == "auto" else [source]
    for name in others:
        try:
            acquire(name, progress)
        except (SourceUnavailable, DataError) as error:
            progress(f"{one_line(error, 400)} (not needed: only compared)")
    market = acquire(main, progress)
    days = market.panel.index
    return f"data/raw/{market.snapshot}: {len(days)} days, {days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}"


def save_market(market: Market, folder: Path) -> None:
    """Write panel.csv and market.json into `folder` (made where absent); the same market gives the same bytes."""
    write_json(folder / MARKET_FILE, {name: value for name, value in vars(market).items() if name != "panel"})
    write_panel(market.panel, folder / PANEL_FILE)


def read_market(folder: Path) -> Market:
    """The market saved in `folder`; `DataError` where a file is missing, damaged or no longer matches its digest."""
    try:
        facts = json.loads((folder / MARKET_FILE).read_text(encoding="utf-8"))
        lists = {name: tuple(facts[name]) for name in ("notes", "findings", "files", "others")}
        market = Market(panel=read_panel(folder / PANEL_FILE), **{**facts, **lists})
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{folder.name}/{MARKET_FILE}: cannot be read: {one_line(error, 160)}") from None
    if panel_digest(market.panel) != market.digest:
        raise DataError(f"{folder.name}/{PANEL_FILE}: no longer matches the digest in {MARKET_FILE}")
    return market
