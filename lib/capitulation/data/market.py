"""The market of a run: which data it works on, where they came from and how old they are."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from capitulation.ahead import ahead
from capitulation.data import checks, headers, mempool, snapshots
from capitulation.data.files import read_data, words
from capitulation.data.headers import BLOCK_CLOCKS
from capitulation.data.node import NODE_URL, whole_chain
from capitulation.data.panel import (
    DAY,
    FIRST_DAY,
    PANEL_COLUMNS,
    RETARGET_BLOCKS,
    cut,
    daily_panel,
    panel_digest,
    read_panel,
    validate_panel,
    write_panel,
)
from capitulation.data.snapshots import Progress, Snapshot
from capitulation.data.sources import PROVIDERS, all_terms
from capitulation.errors import DataError, InputError, SourceUnavailable, nearest, one_line
from capitulation.paths import write_json, write_whole

PANEL_FILE, MARKET_FILE, BLOCKS_FILE = "panel.csv", "market.json", "blocks.csv"
STALE_DAYS = 2  # beyond max_age_days: data that end earlier are old
LICENCES = ("any", "commercial")
NO_SOURCE = "no source may be asked: LICENCE=commercial, MEMPOOL_URL=none, and NODE_URL is not set"


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
    snapshot: str = ""  # what identifies the raw data: provider/time, sha256:…, seed:…; two joined by " + "
    digest: str = ""  # of the panel as used, cut at as_of
    origins: tuple[Mapping[str, Any], ...] = ()  # what (in words), columns, the terms of their source, last day (as_of)
    age_days: float | None = None  # from the last day to as_of, without one since the fetch (negative: a wrong clock)
    notes: tuple[str, ...] = ()  # what a reader should know: the findings that are warnings, then what happened
    findings: tuple[Mapping[str, Any], ...] = ()  # of the data checks
    files: tuple[Mapping[str, Any], ...] = ()  # name, sha256, bytes (url, query) of each raw file
    others: tuple[str, ...] = ()  # the other providers' newest good snapshots, the second source first
    blocks: pd.DataFrame | None = None  # the last 2,017 blocks as `headers.blocks`, where the source has them

    @property
    def sources(self) -> str:
        """Where the columns come from, by name: `coinmetrics`, `node + mempool_space`."""
        return " + ".join(dict.fromkeys(origin["source"] for origin in self.origins)) or self.source


class _Asked(NamedTuple):
    """How a provider's data are to be had."""

    as_of: str
    max_age_days: float
    offline: bool
    clock: str
    licence: str
    progress: Progress


def load_market(
    data: str | Path = "",
    source: str = "auto",
    as_of: str = "",
    max_age_days: float = 1.0,
    simulation_seed: int = 17,
    columns: str | Mapping[str, str] = "",
    licence: str = "any",
    block_clock: str = BLOCK_CLOCKS[0],
    *,
    offline: bool = False,
    progress: Progress = print,
    snapshot: str = "",
    simulate: Callable[[int], pd.DataFrame] | None = None,
) -> Market:
    """The market that is asked for, cut at `as_of`.

    `data`: that file or files, `columns`: what stands in which column (see `files.read_data`). A named `source` insists
    on it: its newest snapshot if younger than `max_age_days` or holding `as_of`, else a new one, else the last good one
    with its age in `notes`; a node's price comes from `data` or the mempool API, if from anywhere. `source` auto: the
    first provider, in the order of PROVIDERS, whose data are up to date, the price too (a node where NODE_URL is set,
    the mempool API unless MEMPOOL_URL is none); where none are, the one that reaches furthest; without any, the market
    that `simulate(simulation_seed)` makes. It is held against the second one, which is fetched when it is. `licence`
    commercial: only sources that allow commercial use, and nothing else is compared with.
    `block_clock`: the time that dates a node's blocks. `offline` forbids the network. `snapshot` insists on what a
    market's `snapshot` says, as when a report is reproduced.

    Raises `InputError` (file, name, day, licence), `SourceUnavailable` (insisted source), `DataError` (not usable).
    """
    known = ("auto", "simulated", *PROVIDERS)
    if source not in known:
        raise InputError(f"source={one_line(source, 40)}: {nearest(source, known)}known are: {', '.join(known)}")
    if licence not in LICENCES:
        meant = nearest(licence, LICENCES)
        raise InputError(f"licence={one_line(licence, 40)}: {meant}known are: {', '.join(LICENCES)}")
    if licence == "commercial" and source in all_terms() and all_terms()[source].commercial == "no":
        said = "{0.name} ({0.licence}) allow no commercial use".format(all_terms()[source])
        raise InputError(f"source={source} and licence=commercial exclude each other: {said}; choose SOURCE=auto")
    down: list[str] = []
    asked, began, note = _Asked(as_of, max_age_days, offline, block_clock, licence, progress), utc_now(), ""
    if snapshot:
        market = _recorded(snapshot, data, columns, asked)
    elif source in PROVIDERS:
        market = _whole(source, asked, data, columns)
    elif data:
        market = _from_file(data, columns)
    else:
        market, note, down = _best(asked) if source == "auto" else (None, "", [])
        if market is None:
            whose = {"snapshot": f"seed:{simulation_seed}", "origins": (_origin("simulated"),)}
            market = Market(simulate(simulation_seed), "simulated", True, **whose)
            note = note and f"SIMULATED MARKET, not real data: {note}"
        if note:
            progress(note)
    others, notes = [], [*market.notes, note]
    if market.source in PROVIDERS and not market.simulated:
        due = source == "auto" and market.retrieved_at >= began.isoformat()  # the second source, with the first
        others, said = _others(market, asked._replace(offline=offline or not due), down)
        notes += said
    market = replace(market, others=tuple(other.snapshot for other in others))
    return _as_known(market, others, notes, asked)


def _best(asked: _Asked) -> tuple[Market | None, str, list[str]]:
    """The first provider's market whose hash rate and price are up to date, else the one that reaches furthest.

    Beside it why it is not the first provider's, and those that have no market now.
    """
    names, down, market, furthest, today = preferred(asked.licence), [], None, [], utc_now().date()
    why = "" if names else NO_SOURCE
    for name in names:
        try:
            found = _whole(name, asked)
        except (SourceUnavailable, DataError) as error:
            why = why or str(error)
            down.append(name)
            continue
        ends = [found.panel[column].last_valid_index() or FIRST_DAY for column in ("hash_rate_ehs", "price_usd")]
        if market is None or ends > furthest:
            market, furthest = found, ends
        whole = min(ends).date()
        if (today - whole).days <= asked.max_age_days + STALE_DAYS or (asked.as_of and f"{whole}" >= asked.as_of):
            break
        what = "the data" if ends[0] <= ends[1] else "the prices"
        why = why or (f"{what} of {name} end on {whole}" if min(ends) > FIRST_DAY else f"{name} has no price")
    if market is None or market.source == names[0]:
        return market, why if market is None else "", down
    return market, f"{why}; used {market.snapshot} instead, {market.age_days:.1f} days old", down


def _as_known(market: Market, others: Iterable[Market], notes: list[str], asked: _Asked) -> Market:
    """The market as it was known on a day, checked, held against the `others`; `notes` follow what the checks say."""
    as_of, own = asked.as_of, (market.source, asked.clock)
    panel, findings = validate_panel(cut(market.panel, as_of)), market.findings
    last = f"{panel.index[-1]:%Y-%m-%d}"
    if not market.simulated:  # of real data everybody knows the level, and they may contradict themselves
        if len(panel) < len(market.panel):  # nothing that was found later is known either
            known = [item for item in findings if item["check"] in checks.COMPARISONS and item["last_day"] <= last]
            findings = (*checks.check_panel(panel), *known)
        panel, contradictions = checks.consistent(panel)
        apart = [(_apart(other, market), other.source) for other in others]
        held = [item for other, name in apart for item in checks.compare_providers(panel, other, name, own)]
        findings = (*contradictions, *(item for item in findings if item["check"] != "providers"), *held)
    facts: dict[str, Any] = {"panel": panel, "digest": panel_digest(panel), "findings": tuple(findings)}
    facts["origins"] = origins = _dated(market.origins, panel)
    notes = [item["message"] for item in findings if item["severity"] == checks.WARNING] + notes
    if asked.licence == "commercial":
        unsure = {item["name"]: item["licence"] for item in origins if item["commercial"] != "yes"}
        said = "LICENCE=commercial: whether {} may be used commercially is not known here (licence: {})"
        notes += [said.format(*pair) for pair in unsure.items()]
    if as_of:
        facts["age_days"] = float((pd.Timestamp(as_of) - panel.index[-1]).days)
        if facts["age_days"] > 1:  # the day before may be the last complete one
            notes.append(f"the data end on {last}, {facts['age_days']:.0f} days before the day asked for, {as_of}")
    if market.blocks is not None:
        when = market.blocks[headers.CLOCKS[asked.clock]]
        end = when.index[when < pd.Timestamp(as_of) + DAY].max() if as_of else None
        facts["blocks"] = market.blocks.loc[:end].tail(RETARGET_BLOCKS + 1)
    return replace(market, notes=tuple(filter(None, notes)), **facts)


def preferred(licence: str = "any") -> list[str]:
    """The providers that `auto` may take, the first choice first: a node only where NODE_URL is set."""
    left_out = {"node": not os.environ.get(NODE_URL), "mempool_space": mempool.unwanted()}
    return [name for name in PROVIDERS if _real(name) and _allowed(name, licence) and not left_out.get(name)]


def _allowed(name: str, licence: str) -> bool:
    """Whether a provider's data may be used under a `licence`."""
    return licence != "commercial" or all_terms()[name].commercial == "yes"


def _real(name: str) -> bool:
    """Whether a provider's data are of Bitcoin, not of a chain for trials."""
    chain = PROVIDERS[name].chain
    return chain is None or chain.name == headers.MAIN.name


def _origin(source: str, columns: Iterable[str] = PANEL_COLUMNS, **known: str) -> dict[str, Any]:
    """Where `columns` come from: the terms of `source`, of which `known` may say more."""
    terms = all_terms()[source]._asdict() | known
    return {"columns": [*columns], **{name: terms[name] for name in terms if name != "gives"}}


def _dated(origins: Iterable[Mapping[str, Any]], panel: pd.DataFrame) -> tuple[Mapping[str, Any], ...]:
    """The origins of what is known, the columns of one source apart where they end on different days (`as_of`)."""
    rows = []
    for origin in origins:
        ends = panel[origin["columns"]].apply(pd.Series.last_valid_index).dropna()
        for day in sorted(set(ends), reverse=True):
            columns = [*ends.index[ends == day]]
            what = ", ".join(map(words, columns))
            rows.append({"what": what, **origin, "columns": columns, "as_of": f"{day:%Y-%m-%d}"})
    return tuple(rows)


def _from_file(data: str | Path, columns: str | Mapping[str, str], price_only: bool = False) -> Market:
    """The market in local files, or as a market the price alone."""
    try:
        panel, files, notes = read_data(data, columns, utc_now().date(), price_only)
        findings = checks.check_panel(validate_panel(panel), utc_now().date())
        for failed in checks.failures(findings):
            raise DataError(f"{failed}; correct the file or name another")
    except DataError as error:
        said = str(error) if " " in str(data) else str(error).removeprefix(f"{Path(data).name}: ")
        raise InputError(f"DATA={one_line(data, 160)}: {one_line(said, 600)}") from None
    names, sums = (", ".join(file[fact] for file in files) for fact in ("name", "sha256"))
    known = sums if len(files) == 1 else sha256(sums.encode()).hexdigest()
    whose = {"snapshot": f"sha256:{known}", "origins": (_origin("file", attribution=f"local file {names}"),)}
    return Market(panel, "file", False, **whose, notes=notes, findings=tuple(findings), files=files)


def _parsed(
    name: str, files: Mapping[str, bytes], retrieved_at: dt.datetime, clock: str
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Panel and blocks without the day of the fetch, which had not ended; later days stay, for the checks to refuse."""
    provider, blocks, today = PROVIDERS[name], None, pd.Timestamp(retrieved_at.date())
    if provider.chain:
        data = whole_chain(files, name)
        panel, blocks = provider.parse(data, clock), headers.blocks(data)
    else:
        panel = provider.parse(files)
    return validate_panel(panel.loc[: today - DAY] if panel.index[-1] == today else panel), blocks


def _stored(snapshot: Snapshot, clock: str = BLOCK_CLOCKS[0], parsed: Any = None) -> Market:
    """The market in `snapshot`; `DataError` where it has none or its provider is not known."""
    facts = snapshot.manifest
    if facts.quarantined or facts.provider not in PROVIDERS:
        raise DataError(f"snapshot {snapshot.name}: quarantined, or of a provider that is not known")
    panel, blocks = parsed or _parsed(facts.provider, snapshot.files, facts.retrieved_at, clock)
    age = round((utc_now() - facts.retrieved_at) / DAY, 2)
    said = {"licence": facts.licence, "attribution": facts.attribution}  # as they were then
    whose = {"snapshot": snapshot.name, "origins": (_origin(facts.provider, **said),), "age_days": age}
    files = tuple({"name": name, **item} for name, item in facts.files.items())
    found = {"notes": tuple(facts.notes), "findings": tuple(facts.findings), "files": files, "blocks": blocks}
    simulated = not _real(facts.provider)
    return Market(panel, facts.provider, simulated, facts.retrieved_at.isoformat(), **whose, **found)


def _newest(name: str, clock: str = BLOCK_CLOCKS[0]) -> tuple[Market | None, list[str]]:
    """The provider's newest snapshot that verifies and parses, and a line per newer one that was refused."""
    refused: list[str] = []
    for stored in snapshots.snapshot_names(name):
        try:
            return _stored(snapshots.find_snapshot(stored), clock), refused
        except DataError as error:
            refused.append(one_line(error, 400))
    return None, refused


def _whole(name: str, asked: _Asked, data: str | Path = "", columns: str | Mapping[str, str] = "") -> Market:
    """The market of provider `name`; a node's with the price in `data`, else from the mempool API, else without any."""
    market = _from_provider(name, asked)
    if not PROVIDERS[name].chain:
        return market
    if data:
        return _priced(market, _from_file(data, columns, price_only=True))
    if market.simulated or mempool.unwanted():
        return market
    try:
        return _priced(market, _from_provider("mempool_space", asked))
    except (SourceUnavailable, DataError) as error:
        note = f"no price: {one_line(error, 300)}; give one with DATA=file or MEMPOOL_URL"
        asked.progress(note)
        return replace(market, notes=(*market.notes, note))


def _priced(network: Market, price: Market) -> Market:
    """The market of a node with price and fees (and what miners earned) from another one."""
    panel, given = network.panel.copy(), price.panel.reindex(network.panel.index)
    panel[["price_usd", "fees_btc"]] = given[["price_usd", "fees_btc"]]
    panel["revenue_usd"] = (panel["issuance_btc"] + panel["fees_btc"]) * panel["price_usd"]
    taken = ("price_usd", "fees_btc", "revenue_usd")
    own = network.origins[0] | {"columns": [name for name in PANEL_COLUMNS if name not in taken]}
    ages = [market.age_days for market in (network, price) if market.age_days is not None]
    panel = daily_panel(panel)
    found = [item for item in price.findings if item["check"] != "stopped"]
    found += [item for item in checks.check_panel(panel) if item["check"] == "stopped"]
    return replace(
        network,
        panel=panel,
        snapshot=f"{network.snapshot} + {price.snapshot}",
        origins=(own, price.origins[0] | {"columns": [*taken]}),
        age_days=max(ages),
        notes=(*network.notes, *price.notes),
        findings=(*network.findings, *(item for item in found if item["column"] == "price_usd")),
        files=(*network.files, *price.files),
    )


def _recorded(snapshot: str, data: str | Path, columns: str | Mapping[str, str], asked: _Asked) -> Market:
    """The market whose `snapshot` was this."""
    first, _plus, second = snapshot.partition(" + ")
    market = _stored(snapshots.find_snapshot(first), asked.clock)
    if not second:
        return market
    if second.startswith("sha256:"):
        return _priced(market, _from_file(data, columns, price_only=True))
    return _priced(market, _stored(snapshots.find_snapshot(second)))


def _others(market: Market, asked: _Asked, down: Iterable[str]) -> tuple[list[Market], list[str]]:
    """The other providers' newest markets, the second source first (new where it is due), and what is to be said.

    Those that are `down` have none, which was said.
    """
    found, notes = [], []
    for name in (name for name in preferred(asked.licence) if name not in (market.source, *down)):
        second = not found and not asked.offline
        try:
            other = _from_provider(name, asked) if second else _newest(name)[0]
        except (SourceUnavailable, DataError) as error:
            notes.append(f"second source {name}: {one_line(error, 300)}; not compared with it")
            continue
        if other:
            if second:
                notes += other.notes[len(other.notes) - 1 :] if other.age_days > asked.max_age_days else []
            found.append(other)
    return found, notes


def other_panels(market: Market, whole: bool = False) -> dict[str, pd.DataFrame]:
    """Panels of `market.others` by provider, for comparison alone, cut at the market's last day; lost ones left out.

    Without what the market itself took from that provider (as a node takes its price), unless `whole`.
    """
    found = {}
    for name in market.others:
        with suppress(DataError, InputError):
            other = _stored(snapshots.find_snapshot(name))
            panel = other.panel if whole else _apart(other, market)
            found[other.source] = cut(panel, market.panel.index[-1])
    return found


def _apart(other: Market, market: Market) -> pd.DataFrame:
    """The other market's panel without the columns that `market` took from it, which tell nothing about each other."""
    taken = [name for item in market.origins if item["source"] == other.source for name in item["columns"]]
    return other.panel.assign(**dict.fromkeys(taken, float("nan")))


def _from_provider(name: str, asked: _Asked) -> Market:
    """The provider's newest good snapshot if young enough or holding the day `as_of`, else a new one, else that one."""
    market, notes = _newest(name, asked.clock)
    for line in dict.fromkeys(notes):
        asked.progress(line)
    if market is None and asked.offline:
        raise SourceUnavailable(f"{name}: no snapshot in data/raw and no fetch allowed; run `make fetch SOURCE={name}`")
    holds = market and asked.as_of and asked.as_of <= f"{market.panel.index[-1]:%Y-%m-%d}"
    if not (asked.offline or holds or (market and 0 <= market.age_days < asked.max_age_days)):
        try:
            market = acquire(name, asked.progress, asked.clock, asked.licence)
        except (SourceUnavailable, DataError) as error:
            said = one_line(error, 400)
            if market is None:
                refused = f"; {len(notes)} stored snapshots were refused" if notes else ""
                raise type(error)(f"{said}; SOURCE={name} has no stored snapshot to use instead{refused}") from None
            notes.append(f"{said}; used the last good snapshot {market.snapshot}, {market.age_days:.1f} days old")
            asked.progress(notes[-1])
    return replace(market, notes=(*market.notes, *dict.fromkeys(notes)))


def acquire(name: str, progress: Progress = print, clock: str = BLOCK_CLOCKS[0], licence: str = "any") -> Market:
    """A new snapshot of provider `name`, checked alone and against its last one and others' that `licence` allows.

    `SourceUnavailable` where it cannot be reached; `DataError` for no data, and for a failed check: then quarantined.
    """
    provider, terms = PROVIDERS[name], all_terms()[name]
    progress(f"fetching from {terms.attribution}")
    get, refused = partial(snapshots.fetch_answer, progress=progress), []
    for fetch_from in provider.fetch:
        try:
            answers, now = fetch_from(get), utc_now()
            panel, blocks = _parsed(name, {file: answer.body for file, answer in answers.items()}, now, clock)
            break
        except (SourceUnavailable, DataError) as error:
            refused.append(error)
    else:
        raise type(refused[-1])("; ".join(map(str, refused)))
    notes, findings = [f"{one_line(error, 300)}; read the public file instead" for error in refused], []
    if _real(name):
        others = [other for other in PROVIDERS if other != name and _real(other) and _allowed(other, licence)]
        stored = {other: market.panel for other in others if (market := _newest(other)[0])}
        before = None if provider.chain else _newest(name)[0]  # a chain of headers is checked by its own rules
        findings = checks.check_panel(panel, now.date(), before and before.panel.index[-1], fetched=True)
        findings += checks.compare_panels(panel, before.panel) if before else ()
        own = name, clock
        findings += [item for other, old in stored.items() for item in checks.compare_providers(panel, old, other, own)]
    failed = checks.failures(findings)
    facts = {"licence": terms.licence, "attribution": terms.attribution, "notes": notes, "findings": findings}
    facts |= {"rows": len(panel), "first_day": panel.index[0].date(), "last_day": panel.index[-1].date()}
    snapshot = snapshots.save_snapshot(name, answers, retrieved_at=now, quarantined=bool(failed), **facts)
    if failed:
        raise DataError(f"{name}: {failed[0]}; kept as data/raw/{snapshot.name}, not used")
    size = sum(map(len, snapshot.files.values()))
    said = [f"stored {snapshot.name}: {len(panel):,} days to {panel.index[-1]:%Y-%m-%d}, {size / 1e6:.1f} MB", *notes]
    for line in [*said, *(f"warning: {item['message']}" for item in findings if item["severity"] == checks.WARNING)]:
        progress(line)
    return _stored(snapshot, parsed=(panel, blocks))


def fetch(source: str = "auto", progress: Progress = print, licence: str = "any") -> str:
    """Store a new snapshot of a provider, whatever the age of the last one, and say in one line what was stored.

    `auto` fetches every provider that it may take; an error only where none could be fetched.
    """
    if source != "auto" and source not in PROVIDERS:
        raise InputError(f"nothing to fetch for SOURCE={one_line(source, 40)}; choose auto or {', '.join(PROVIDERS)}")
    stored, refused = [], []
    for name in preferred(licence) if source == "auto" else [source]:
        try:
            stored.append(acquire(name, progress, licence=licence))
        except (SourceUnavailable, DataError) as error:
            refused.append(error)
            if source == "auto":
                progress(one_line(error, 400))
    if not stored:
        raise refused[0] if refused else SourceUnavailable(NO_SOURCE)
    days = stored[0].panel.index
    return f"data/raw/{stored[0].snapshot}: {len(days)} days, {days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}"


def save_market(market: Market, folder: Path) -> None:
    """Write panel.csv, market.json, blocks.csv if any into `folder` (made where absent): same market, same bytes."""
    write_json(folder / MARKET_FILE, about(market))
    write_panel(market.panel, folder / PANEL_FILE)
    if market.blocks is not None:
        write_whole(folder / BLOCKS_FILE, market.blocks.to_csv(lineterminator="\n").encode())


def about(market: Market) -> dict[str, Any]:
    """What is to be said of a market beside its tables."""
    return {name: value for name, value in vars(market).items() if name not in ("panel", "blocks")}


@ahead()
def read_market(folder: Path) -> Market:
    """The market saved in `folder`; `DataError` where a file is missing, damaged or no longer matches its digest."""
    place = f"{folder.parent.name}/{folder.name}"
    try:
        facts = json.loads((folder / MARKET_FILE).read_text(encoding="utf-8"))
        lists = {name: tuple(facts[name]) for name in ("notes", "findings", "files", "others", "origins")}
        blocks = folder / BLOCKS_FILE
        last = pd.read_csv(blocks, index_col="height", parse_dates=["time", "clock"]) if blocks.exists() else None
        market = Market(panel=read_panel(folder / PANEL_FILE), blocks=last, **{**facts, **lists})
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        todo = "damaged, or of an earlier version: make the report again"
        raise DataError(f"{place}/{MARKET_FILE}: cannot be read ({one_line(error, 160)}); {todo}") from None
    if panel_digest(market.panel) != market.digest:
        raise DataError(f"{place}/{PANEL_FILE}: no longer matches the digest in {MARKET_FILE}")
    return market
