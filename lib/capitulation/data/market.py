"""The market of a run: which data it works on, where they came from and how old they are."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from capitulation.data import checks, snapshots
from capitulation.data.panel import DAY, cut, panel_digest, read_panel, validate_panel, write_panel
from capitulation.data.snapshots import Progress, Snapshot, utc_now
from capitulation.data.sources import PROVIDERS, read_file
from capitulation.errors import DataError, InputError, SourceUnavailable, one_line

PANEL_FILE, MARKET_FILE = "panel.csv", "market.json"


@dataclass(frozen=True)
class Market:
    """A panel and its provenance.

    `source`: a provider's name, "file" or "simulated". `retrieved_at`: UTC time of the fetch, if any. `snapshot`: what
    identifies the raw data (provider/time, sha256:…, seed:…). `digest`: of the panel as used, cut at as_of. `age_days`:
    from the panel's last day to as_of, without one since the fetch. `findings`: of the data checks. `files`: name,
    sha256, bytes (url, query) of each raw file. `others`: the other providers' newest good snapshots (`other_panels`).
    """

    panel: pd.DataFrame
    source: str
    simulated: bool
    retrieved_at: str = ""
    snapshot: str = ""
    digest: str = ""
    licence: str = ""
    attribution: str = ""
    age_days: float | None = None
    notes: tuple[str, ...] = ()
    findings: tuple[Mapping[str, Any], ...] = ()
    files: tuple[Mapping[str, Any], ...] = ()
    others: tuple[str, ...] = ()


def load_market(
    data: str | Path = "",
    source: str = "auto",
    as_of: str = "",
    max_age_days: float = 1.0,
    simulation_seed: int = 17,
    *,
    offline: bool = False,
    progress: Progress = print,
    snapshot: str = "",
    simulate: Callable[[int], pd.DataFrame] | None = None,
) -> Market:
    """The market that is asked for, cut at `as_of`.

    `data`: that file. `source` auto: Coin Metrics' newest snapshot if younger than `max_age_days` or holding `as_of`,
    else fetched (API, then public CSV), else the last good snapshot with its age in `notes`, else Blockchain.com's,
    else the market that `simulate(simulation_seed)` makes. A named source insists on it. `offline` forbids the network.
    `snapshot` (provider/time) insists on that stored snapshot, as when a report is reproduced.

    Raises `InputError` (file, name, day), `SourceUnavailable` (insisted source), `DataError` (not usable).
    """
    if source not in ("auto", "simulated", *PROVIDERS):
        raise InputError(f"source={one_line(source, 40)}: not one of auto, simulated, {', '.join(PROVIDERS)}")
    stored = partial(_from_provider, as_of=as_of, max_age_days=max_age_days, progress=progress)

    def simulated(*notes: str) -> Market:
        facts = {"snapshot": f"seed:{simulation_seed}", "attribution": "simulated market, not real data"}
        return Market(simulate(simulation_seed), "simulated", True, **facts, notes=notes)

    if snapshot:
        found = snapshots.find_snapshot(snapshot)
        market = _from_snapshot(found, snapshot_panel(found))
    elif data:
        market = _from_file(data)
    elif source == "simulated":
        market = simulated()
    elif source != "auto":
        try:
            market = stored(source, offline=offline)
        except (SourceUnavailable, DataError) as error:
            raise type(error)(f"SOURCE={source}: {error}") from None
    else:
        try:
            market = stored("coinmetrics", offline=offline)
        except (SourceUnavailable, DataError) as first:
            try:  # mempool.space has no price
                market = stored("blockchain_com", offline=True)
                note = f"{first}; used {market.snapshot} instead, {market.age_days:.1f} days old"
                market = replace(market, notes=(*market.notes, note))
            except (SourceUnavailable, DataError):
                note = f"SIMULATED MARKET, not real data: {first}"
                market = simulated(note)
            progress(note)
    panel = validate_panel(cut(market.panel, as_of))
    changes: dict[str, Any] = {"panel": panel, "digest": panel_digest(panel)}
    if as_of:
        age = float((pd.Timestamp(as_of) - panel.index[-1]).days)
        late = f"the data end on {panel.index[-1]:%Y-%m-%d}, {age:.0f} days before the day asked for, {as_of}"
        # The day before may be the last complete one.
        changes |= {"age_days": age, "notes": (*market.notes, late) if age > 1 else market.notes}
    if len(panel) < len(market.panel):  # nothing that was found later is known either
        changes["findings"] = checks.known_by_the_end(market.findings, panel)
    return replace(market, **changes)


def _from_file(path: str | Path) -> Market:
    try:
        panel, data = read_file(path)
        findings = checks.check_panel(validate_panel(panel), utc_now().date())
        for failed in checks.failures(findings):
            raise DataError(failed.message)
    except DataError as error:
        wanted = "correct it or name another in Coin Metrics' format (columns time, HashRate, BlkCnt, PriceUSD, …)"
        raise InputError(f"DATA={one_line(path, 160)}: {one_line(error, 300)}; {wanted}") from None
    file = {"name": one_line(Path(path).name, 120), "sha256": sha256(data).hexdigest(), "bytes": len(data)}
    whose = {"licence": "as its provider's", "attribution": f"local file {file['name']} in Coin Metrics' format"}
    found = {"findings": tuple(map(asdict, findings)), "files": (file,)}
    return Market(panel, "file", False, snapshot=f"sha256:{file['sha256']}", **whose, **found)


def snapshot_panel(snapshot: Snapshot) -> pd.DataFrame:
    """The panel in `snapshot`; `DataError` where it has none or its provider is not known."""
    if snapshot.manifest.provider not in PROVIDERS:
        raise DataError(f"snapshot {snapshot.name}: of a provider that is not known")
    return _parsed(snapshot.manifest.provider, snapshot.files, snapshot.manifest.retrieved_at)


def _parsed(provider: str, files: Mapping[str, bytes], retrieved_at: dt.datetime) -> pd.DataFrame:
    """The panel without the day of the fetch, which had not ended; later days stay, for the checks to refuse."""
    panel, today = PROVIDERS[provider].parse(files), pd.Timestamp(retrieved_at.date())
    return validate_panel(panel.loc[: today - DAY] if panel.index[-1] == today else panel)


def newest_panel(name: str) -> tuple[Snapshot | None, pd.DataFrame | None, tuple[str, ...]]:
    """The provider's newest snapshot that verifies and parses, its panel, and a line per newer one that was refused."""
    refused: list[str] = []
    for folder in snapshots.snapshot_folders(name):
        try:
            snapshot = snapshots.read_snapshot(folder)
            return snapshot, snapshot_panel(snapshot), tuple(refused)
        except DataError as error:
            refused.append(one_line(error, 400))
    return None, None, tuple(refused)


def age_days(snapshot: Snapshot) -> float:
    """Days since the snapshot was fetched, negative where a clock was wrong."""
    return round((utc_now() - snapshot.manifest.retrieved_at) / DAY, 2)


def _from_snapshot(snapshot: Snapshot, panel: pd.DataFrame, notes: tuple[str, ...] = ()) -> Market:
    facts = snapshot.manifest
    others = [newest_panel(name)[0] for name in PROVIDERS if name != facts.provider]
    return Market(
        panel,
        facts.provider,
        False,
        facts.retrieved_at.isoformat(),
        snapshot.name,
        "",
        facts.licence,
        facts.attribution,
        age_days(snapshot),
        (*facts.notes, *notes),
        tuple(map(asdict, facts.findings)),
        tuple({"name": name, **item.model_dump()} for name, item in facts.files.items()),
        tuple(other.name for other in others if other),
    )


def other_panels(market: Market) -> dict[str, pd.DataFrame]:
    """Panels of `market.others` by provider, cut at the market's last day; a snapshot that is gone by now is left out.

    They are for comparison alone: nothing of them ever enters the market's own panel.
    """
    found = {}
    for name in market.others:
        try:
            panel = snapshot_panel(snapshots.find_snapshot(name))
            found[name.partition("/")[0]] = cut(panel, market.panel.index[-1])
        except DataError:
            continue
    return found


def _from_provider(name: str, *, as_of: str, max_age_days: float, offline: bool, progress: Progress) -> Market:
    """The provider's newest good snapshot if young enough or holding the day `as_of`, else a new one, else that one.

    A snapshot from the future, fetched while a clock was wrong, is not young.
    """
    snapshot, panel, refused = newest_panel(name)
    for line in refused:
        progress(line)
    if snapshot is not None:
        holds = bool(as_of) and snapshot.manifest.last_day.isoformat() >= as_of
        if offline or holds or 0 <= age_days(snapshot) < max_age_days:
            return _from_snapshot(snapshot, panel, refused)
    if offline:
        raise SourceUnavailable(f"{name}: no snapshot in data/raw and no fetch allowed; run `make fetch SOURCE={name}`")
    try:
        return _from_snapshot(*acquire(name, progress), refused)
    except (SourceUnavailable, DataError) as error:
        if snapshot is None:
            others = f"; {len(refused)} stored snapshots were refused" if refused else ""
            raise type(error)(f"{one_line(error, 400)}; no stored snapshot of {name} to use instead{others}") from None
        note = f"{one_line(error, 400)}; used the last good snapshot {snapshot.name}, {age_days(snapshot):.1f} days old"
        progress(note)
        return _from_snapshot(snapshot, panel, (*refused, note))


def acquire(name: str, progress: Progress = print) -> tuple[Snapshot, pd.DataFrame]:
    """A new snapshot of provider `name` and its panel, checked alone and against its last one and other providers'.

    `SourceUnavailable` where it cannot be reached; `DataError` where the answer is not data (nothing is stored) or
    fails a hard check (stored in quarantine, named in the message).
    """
    provider = PROVIDERS[name]
    progress(f"fetching from {provider.attribution}")
    answers, remarks = provider.fetch(partial(snapshots.fetch_answer, progress=progress))
    now, notes = utc_now(), [one_line(remark, 400) for remark in remarks]
    panel = _parsed(name, {file: answer.body for file, answer in answers.items()}, now)
    stored = {other: newest_panel(other)[1] for other in PROVIDERS}
    old = stored.pop(name)
    findings = checks.check_panel(panel, now.date(), None if old is None else old.index[-1])
    findings += checks.check_recent(panel, now.date())
    findings += [] if old is None else checks.compare_panels(panel, old)
    for other, compared in stored.items():
        findings += [] if compared is None else checks.compare_providers(panel, compared, other)
    failed = checks.failures(findings)
    snapshot = snapshots.save_snapshot(
        name,
        answers,
        retrieved_at=now,
        quarantined=bool(failed),
        licence=provider.licence,
        attribution=provider.attribution,
        rows=len(panel),
        first_day=panel.index[0].date(),
        last_day=panel.index[-1].date(),
        panel_digest=panel_digest(panel),
        notes=notes,
        findings=findings,
    )
    if failed:
        raise DataError(f"{name}: {failed[0].message}; kept as data/raw/quarantine/{snapshot.name}, not used")
    size = sum(map(len, snapshot.files.values()))
    said = [f"stored {snapshot.name}: {len(panel):,} days to {panel.index[-1]:%Y-%m-%d}, {size / 1e6:.1f} MB", *notes]
    for line in [*said, *(f"warning: {item.message}" for item in findings if item.severity == checks.WARNING)]:
        progress(line)
    return snapshot, panel


def fetch(source: str = "auto", progress: Progress = print) -> str:
    """Store a new snapshot, whatever the age of the last one, and say in one line what was stored.

    `auto` fetches Coin Metrics and, for the comparison, the other providers before it; only Coin Metrics' failure
    is an error (`SourceUnavailable`, `DataError`). A named source fetches that one.
    """
    if source != "auto" and source not in PROVIDERS:
        raise InputError(f"nothing to fetch for SOURCE={one_line(source, 40)}; choose auto or {', '.join(PROVIDERS)}")
    main, *others = PROVIDERS if source == "auto" else [source]
    for name in others:
        try:
            acquire(name, progress)
        except (SourceUnavailable, DataError) as error:
            progress(f"{one_line(error, 400)} (not needed: only compared)")
    snapshot, panel = acquire(main, progress)
    return f"data/raw/{snapshot.name}: {len(panel)} days, {panel.index[0]:%Y-%m-%d} to {panel.index[-1]:%Y-%m-%d}"


def save_market(market: Market, folder: Path | str) -> None:
    """Write panel.csv and market.json into `folder` (made where absent); the same market gives the same bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_panel(market.panel, folder / PANEL_FILE)
    facts = {item.name: getattr(market, item.name) for item in fields(market) if item.name != "panel"}
    text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / MARKET_FILE).write_text(text, encoding="utf-8")


def read_market(folder: Path | str) -> Market:
    """The market saved in `folder`; `DataError` where a file is missing, damaged or no longer matches its digest."""
    folder = Path(folder)
    try:
        facts = json.loads((folder / MARKET_FILE).read_text(encoding="utf-8"))
        lists = {name: tuple(facts[name]) for name in ("notes", "findings", "files", "others")}
        market = Market(panel=read_panel(folder / PANEL_FILE), **{**facts, **lists})
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{folder.name}/{MARKET_FILE}: cannot be read: {one_line(error, 160)}") from None
    if panel_digest(market.panel) != market.digest:
        raise DataError(f"{folder.name}/{PANEL_FILE}: no longer matches the digest in {MARKET_FILE}")
    return market
