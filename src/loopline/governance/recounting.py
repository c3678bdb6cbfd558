"""What the records say of an ingested table, said again after rows were taken out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from loopline.base.errors import Conflict
from loopline.base.ids import content_id
from loopline.data.history.digest import rows_digest
from loopline.data.history.known import known_column
from loopline.data.history.progress import POINTER, Progress, catch_up
from loopline.data.nouns import Ingestion
from loopline.data.spec import TableSpec
from loopline.workspace import Workspace


def progress_of(ws: Workspace, name: str, spec: TableSpec) -> Progress | None:
    """How far ingestion has come, rows that were appended but not recorded among them; null before the first."""
    pointer = ws.records.pointer(POINTER, name)
    if pointer is None:
        return None
    recorded = Progress.of(pointer)
    try:
        return catch_up(ws.tables, name, spec, recorded)
    except Conflict:  # who took rows out was stopped before it wrote that down
        return recorded


def let_go_before(ws: Workspace, name: str, before: Progress, moment: datetime) -> Progress:
    """Write down that rows from before `moment` go, so that their source does not bring them again."""
    pointer = ws.records.pointer(POINTER, name)
    assert pointer is not None
    after = replace(before, expired=moment)
    with ws.records.transaction() as tx:
        moved = tx.move(POINTER, name, pointer.target, expect=pointer.generation, at=ws.clock(), doc=after.doc())
    return replace(after, generation=moved.generation)


def recounted(ws: Workspace, tables: Mapping[str, TableSpec], started: Mapping[str, Progress | None]) -> None:
    """Write down what the tables hold now, so that ingestion and snapshots go on from there."""
    at = ws.clock()
    for name, before in started.items():
        version = ws.tables.version(name)
        if before is None or version is None or version == before.version:
            continue
        rows = ws.tables.scan(name, version=version).collect()
        found = rows_digest(rows)
        if found == before.digest:
            continue
        newest = rows[known_column(tables[name])].max() if rows.height else None
        greatest = newest if isinstance(newest, datetime) else None
        after = replace(before, version=version, digest=found, greatest=greatest)
        made = Ingestion(
            id=content_id({"table": name, "version": version, "digest": str(found), "after": before.generation}),
            table=name,
            version=version,
            rows=0,
            quarantined=0,
            known_from=before.known_to,
            known_to=before.known_to or at,
            digest=str(found),
            greatest=greatest,
        )
        with ws.records.transaction() as tx:
            tx.put(made)
            tx.move(POINTER, name, made.id, expect=before.generation, at=at, doc=after.doc())
