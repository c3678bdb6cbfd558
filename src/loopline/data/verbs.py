"""What can be done with data: take it in, freeze it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import polars as pl

from loopline.base.errors import Conflict, Invalid, NotFound
from loopline.base.ids import content_id, iso
from loopline.data.contracts.contract import contract_of
from loopline.data.contracts.verbs import new_versions, point
from loopline.data.history.digest import RowsDigest, rows_digest
from loopline.data.history.known import known_column
from loopline.data.history.manifest import declared, pinned
from loopline.data.history.profiles import PROFILED, profile
from loopline.data.history.progress import POINTER, Progress, gone, running
from loopline.data.history.upkeep import readable_from
from loopline.data.intake.columns import text_columns
from loopline.data.intake.gathering import Gathered
from loopline.data.intake.screening import beside
from loopline.data.nouns import Ingestion, Snapshot
from loopline.data.privacy.detectors import propose
from loopline.data.privacy.doorway import discreet, doorway
from loopline.data.privacy.treatments import hide
from loopline.data.privacy.unsaid import unsaid
from loopline.data.sources.frames import Frame, as_batches
from loopline.data.sources.parts import BATCH_ROWS, Part, parts_of
from loopline.data.spec import TableSpec
from loopline.store.records.protocol import Tx
from loopline.workspace import Workspace, verb

PARALLEL = 6


@verb("data.ingest")
def ingest(
    ws: Workspace,
    project: Path,
    tables: Mapping[str, TableSpec],
    *,
    names: Sequence[str] | None = None,
    frames: Mapping[str, Frame | Part] | None = None,
    progress: Callable[[str], None] | None = None,
    once: bool = False,
) -> list[Ingestion]:
    """Take in what became known since the last time, up to the workspace's now.

    A row enters when its `known_at` lies in (last time, now]; without that column,
    when the table does not hold it yet, and is known from now on. A row that says an
    earlier time and is not there came late: it is known from now on, and its own time
    stays in column `<known_at>_given`. A row whose `known_at` is later than now
    is not known yet and waits, and the ingestion says how many do. A row without a value in
    `known_at`, `event_time` or its key is set aside by the rule `<column>.required`.
    Repairs that `clean` declares are made first, and counted. Rows that break their
    contract go to table `quarantine/<name>` and the others enter, unless a broken rule
    says `stop`: then none does. One append per table, and none before the news of all
    were read; doing it again changes nothing. Files that are as they were are not read
    again.

    Parameters
    ----------
    project : Path
        Folder that sources and contracts are relative to.
    names : sequence, optional
        Only these tables.
    frames : mapping, optional
        Rows by table, instead of the source: a frame (Polars, pandas, Arrow), or an
        iterator of frames or of rows, larger than memory too, or a piece of a source. News alone or all
        there ever were. Then only tables named here are taken, unless `names` says
        otherwise.
    progress : callable, optional
        Told how far a large source has been read.
    once : bool
        The rows in `frames` are not given again: one that would have to wait is refused.

    Raises
    ------
    Invalid
        If a source cannot be read, a column is missing, a time has no zone, or a
        rule whose response is `stop` is broken.
    Conflict
        If another ingestion of the same table was faster.
    Unavailable
        If a host does not answer or the disk is full; nothing was taken in.
    """
    chosen = list(names) if names is not None else [n for n in tables if frames is None or n in frames]
    for name in chosen:
        if name not in tables:
            raise NotFound(
                f"no table {name!r}", why=f"declared: {', '.join(sorted(tables)) or 'none'}", fix="correct the name"
            )
    now = ws.clock()
    before = {name: Progress.of(ws.records.pointer(POINTER, name)) for name in chosen}
    store = ws.tables

    def gather(name: str) -> Gathered:
        spec = tables[name]
        given = frames.get(name) if frames is not None else None

        def parts(since: datetime | None) -> Iterable[Part]:
            if given is None:
                return parts_of(project, spec, since=since, texts=texts)
            if isinstance(given, Part):
                return [replace(given, name="", mark=None, whole=False)]
            return [Part("", None, lambda: as_batches(given, f"the rows of {name}", BATCH_ROWS), False)]

        contract = beside(ws, contract_of(project, name, spec), name, tables, now)
        texts = text_columns(contract) | {c for c, kind in before[name].schema.items() if kind == "String"}
        door = doorway(ws, contract)

        def let_in(since: datetime | None) -> Iterable[Part]:
            if door is None:
                return parts(since)
            return [replace(part, read=partial(_through, door, part)) for part in parts(since)]

        return Gathered(
            store,
            name,
            spec,
            contract,
            let_in,
            before[name],
            now,
            folder=ws.root / "tmp",
            progress=progress,
            once=once and given is not None,
        )

    def append(gathered: Gathered) -> tuple[Ingestion, Progress]:
        made, after = gathered.append()
        return discreet(ws, made, contract_of(project, gathered.name, tables[gathered.name])), after

    with ExitStack() as ending, ThreadPoolExecutor(max(1, min(PARALLEL, len(chosen)))) as pool:
        asked = [pool.submit(gather, name) for name in chosen]
        wait(asked)
        for one in asked:
            if one.exception() is None:
                ending.callback(one.result().close)
        results = list(pool.map(append, [one.result() for one in asked]))

    judged_by = new_versions(ws, project, {name: tables[name] for name in chosen})

    def commit(tx: Tx) -> None:
        for name, (ingestion, after) in zip(chosen, results, strict=True):
            try:
                tx.move(POINTER, name, ingestion.id, expect=before[name].generation, at=now, doc=after.doc())
            except Conflict as moved:
                raise running(name) from moved
        for made in judged_by:
            tx.put(made)
            point(tx, made)

    ws.on_commit(commit)
    return [ingestion for ingestion, _ in results]


def _through(door: Callable[[pl.DataFrame], pl.DataFrame], part: Part) -> Iterator[pl.DataFrame]:
    yield from map(door, part.read())


def due(ws: Workspace, tables: Mapping[str, TableSpec], now: datetime) -> list[str]:
    """The tables whose `every` has passed since news were last looked for."""
    found = []
    for name, spec in tables.items():
        if spec.every is not None:
            last = Progress.of(ws.records.pointer(POINTER, name)).known_to
            if last is None or now - last >= spec.every:
                found.append(name)
    return found


def next_due(ws: Workspace, tables: Mapping[str, TableSpec]) -> datetime | None:
    """When news have to be looked for next; null when no table says `every`."""
    times = []
    for name, spec in tables.items():
        if spec.every is not None:
            last = Progress.of(ws.records.pointer(POINTER, name)).known_to
            times.append(last + spec.every if last is not None else ws.clock())
    return min(times, default=None)


@verb("data.snapshot")
def snapshot(ws: Workspace, tables: Mapping[str, TableSpec], *, project: Path) -> Snapshot:
    """Freeze the rows of `tables` as they are known now.

    Its id covers, for each table, schema, contract, row count, greatest `known_at`
    and an order-free digest of the rows, and so is the same wherever the same rows
    are. The manifest adds versions, files with size and digest, and profiles.

    Raises
    ------
    NotFound
        If a table has never been ingested.
    """
    now = ws.clock()
    entries = {name: _entry(ws, name, spec, project, now) for name, spec in sorted(tables.items())}
    ids = {name: content_id({k: e[k] for k in IDENTITY}) for name, e in entries.items()}
    greatest = [e["known_to"] for e in entries.values() if e["known_to"]]
    snapshot_id = content_id({"tables": ids})
    if known := ws.records.find(Snapshot, limit=1, id=snapshot_id):
        return known[0]
    manifest = {"loopline": "snapshot/1", "tables": entries}
    return Snapshot(
        id=snapshot_id,
        tables=ids,
        rows={name: e["rows"] for name, e in entries.items()},
        known_to=datetime.fromisoformat(max(greatest)) if greatest else now,
        manifest=ws.blobs.put(json.dumps(manifest, sort_keys=True, ensure_ascii=False).encode()),
    )


_MOMENT = timedelta(seconds=1)
IDENTITY = ("schema", "contract", "rows", "known_to", "digest")


def _entry(ws: Workspace, name: str, spec: TableSpec, project: Path, now: datetime) -> dict[str, Any]:
    version = ws.tables.version(name)
    if version is None:
        if pointer := ws.records.pointer(POINTER, name):
            raise gone(name, Progress.of(pointer))
        raise NotFound(f"table {name} holds nothing yet", why="no rows were ingested", fix="ingest first")
    recorded = Progress.of(ws.records.pointer(POINTER, name))
    past = _as_ingested(ws, name, now)
    if past is not None and past.version >= readable_from(ws, name):
        version = past.version
        recorded = replace(recorded, version=version, digest=RowsDigest.parse(past.digest), greatest=past.greatest)
    contract = contract_of(project, name, spec)
    entry = dict(_frozen(_Table(ws, name, spec, version, recorded, now)))
    entry["profile"] = hide(entry["profile"], unsaid(ws, name, contract, entry.pop("proposed")))
    more = {"contract": contract.id if contract else None, "version": version}
    return entry | more | declared(spec)


def _as_ingested(ws: Workspace, name: str, now: datetime) -> Ingestion | None:
    """The ingestion that brought exactly the rows known at `now`; null when none ended there.

    Its digest needs no rows to be read again.
    """
    for found in ws.records.find(Ingestion, table=name):
        if found.known_to <= now:
            return found if now - found.known_to < _MOMENT and found.digest else None
    return None


class _Table:
    """A table at a version: what the cache of `_frozen` goes by."""

    def __init__(
        self, ws: Workspace, name: str, spec: TableSpec, version: int, recorded: Progress, now: datetime
    ) -> None:
        self.ws, self.name, self.column, self.version, self.recorded = ws, name, known_column(spec), version, recorded
        sure = recorded.version == version and recorded.greatest is not None and recorded.greatest <= now
        self.upto = None if sure else now

    def _key(self) -> tuple[str, str, str, int, datetime | None]:
        return str(self.ws.root), self.name, self.column, self.version, self.upto

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Table) and other._key() == self._key()

    def __hash__(self) -> int:
        return hash(self._key())


@lru_cache(maxsize=64)
def _frozen(table: _Table) -> dict[str, Any]:
    scan = table.ws.tables.scan(table.name, version=table.version)
    schema = scan.collect_schema()
    if table.column not in schema:
        raise Invalid(
            f"table {table.name} has no column {table.column!r}", why="it says when a row was known", fix="correct data"
        )
    if table.upto is None:
        found, greatest = table.recorded.digest, table.recorded.greatest
        sample = scan.tail(PROFILED).collect()
    else:
        rows = scan.filter(pl.col(table.column) <= table.upto).collect()
        newest = rows[table.column].max()
        found, greatest = rows_digest(rows), newest if isinstance(newest, datetime) else None
        sample = rows.tail(PROFILED)
    return {
        "schema": {column: str(dtype) for column, dtype in sorted(schema.items())},
        "rows": found.rows,
        "known_to": iso(greatest) if greatest else None,
        "digest": str(found),
        "files": _files(table),
        "profile": profile(sample),
        "proposed": propose(sample, table.name),
    }


def _files(table: _Table) -> list[dict[str, Any]]:
    store = table.ws.tables
    return pinned(table.ws.blobs, store.files(table.name, version=table.version), table.ws.root)
