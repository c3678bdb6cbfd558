"""Letting go of old rows: answers, refused requests, rows set aside, kept features; of tables where they are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

import polars as pl

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import uuid7
from loopline.data.contracts.judging import quarantine_of
from loopline.data.history.manifest import manifest
from loopline.data.intake.admission import RAW
from loopline.data.nouns import Snapshot
from loopline.data.privacy.tombstones import current
from loopline.data.spec import TableSpec
from loopline.governance.holding import FEATURES
from loopline.governance.nouns import Expiry
from loopline.governance.recounting import let_go_before, progress_of, recounted
from loopline.serving import log
from loopline.store.tables.delta import DeltaTables
from loopline.store.tables.redact import Holds, count, redact
from loopline.workspace import Workspace, verb

AGES = {
    log.table(""): "recorded_at",
    log.refused_table(""): "recorded_at",
    quarantine_of(""): "refused_at",
    RAW: "cleaned_at",
    FEATURES: "decision_time",
}
"""How the names of tables begin that have no source of their own, and the column that says how old their rows are."""
OWNERS = ("entity", "unit")


@verb("governance.expire")
def expire(
    ws: Workspace,
    *,
    older_than: timedelta,
    names: Sequence[str] | None = None,
    unit: str | None = None,
    tables: Mapping[str, TableSpec] | None = None,
    dry_run: bool = True,
) -> list[Expiry]:
    """Let go of rows of logs, of rows set aside and of kept features that are older than `older_than`.

    They leave every version of the table, and its files; versions stay readable.
    A table that is ingested loses rows only where it is named: those that became known
    so long ago, also where no newer row of their key came. From then on its source
    brings none from before that moment. Snapshots keep what they pinned, and are told.
    Stopped half-way, the same call ends it.

    Parameters
    ----------
    older_than : timedelta
        By when they were answered, set aside or decided; what says no time stays.
    names : sequence of str, optional
        Tables; all logs, rows set aside and kept features by default.
    unit : str, optional
        The column that says whose a row is, where it is not `entity`.
    tables : mapping of str to TableSpec, optional
        How tables are ingested; needed where one of them is named.
    dry_run : bool
        Only say what would go, and whose it is.

    Raises
    ------
    NotFound
        If there is no such table.
    Invalid
        If a named table is ingested and its source does not say when rows became
        known (it would bring them again), or `older_than` is no time at all.
    """
    if older_than <= timedelta(0):
        raise Invalid("older_than is nothing", why="everything would go", fix="--older-than 365d")
    now = ws.clock()
    made = []
    for name in _chosen(ws, names, tables or {}):
        spec, before = (tables or {}).get(name), now - older_than
        age = _age(name) or (spec.known_at if spec is not None else None) or ""
        found = _expiry(ws, name, age, before, unit, now, done=not dry_run)
        if not dry_run and spec is not None:
            _from_table(ws, name, spec, age, before)
        elif not dry_run and found is not None:
            redact(cast(DeltaTables, ws.tables), name, _older(age, before))
        if found is not None:
            made.append(found if spec is None else replace(found, pinned=_pinned(ws, name, _older(age, before))))
    return made


def _from_table(ws: Workspace, name: str, spec: TableSpec, age: str, before: datetime) -> None:
    """Take old rows out of an ingested table: first it is known that they go, last what is left."""
    started = progress_of(ws, name, spec)
    if started is None:
        return
    floor = max(before, started.expired) if started.expired is not None else before
    started = let_go_before(ws, name, started, floor)
    redact(cast(DeltaTables, ws.tables), name, _older(age, before))
    recounted(ws, {name: spec}, {name: started})


def _pinned(ws: Workspace, name: str, holds: Holds) -> tuple[str, ...]:
    """Ids of the snapshots whose pinned files have such rows."""
    held: dict[str, bool] = {}
    found = []
    for snapshot in ws.records.find(Snapshot):
        try:
            files = manifest(ws, snapshot).get(name, {}).get("files", [])
        except NotFound:  # all of it was erased
            continue
        for digest in (current(ws, file["digest"]) for file in files):
            if digest not in held:
                held[digest] = digest in ws.blobs and count(ws.blobs.path(digest), holds) > 0
            if held[digest]:
                found.append(snapshot.id)
                break
    return tuple(found)


def _chosen(ws: Workspace, names: Sequence[str] | None, tables: Mapping[str, TableSpec]) -> list[str]:
    there = [name for name in ws.tables.names() if _age(name) is not None]
    for name in names or ():
        if name not in ws.tables.names():
            raise NotFound(
                f"there is no table {name}",
                why=f"here are {', '.join(ws.tables.names()) or 'none'}",
                fix="name one of them",
            )
        if name not in there and (name not in tables or tables[name].known_at is None):
            raise Invalid(
                f"rows of {name} do not expire",
                why="its source does not say when they became known, so it would bring them again",
                fix=f"known_at: <column> in data.{name} of loop.yaml, and an ingestion",
            )
    return list(dict.fromkeys(names)) if names else there


def _expiry(
    ws: Workspace, name: str, age: str, before: datetime, unit: str | None, now: datetime, *, done: bool
) -> Expiry | None:
    """What of a table is too old; null where nothing is."""
    rows = ws.tables.scan(name)
    columns = rows.collect_schema()
    meant = _older(age, before)(columns)
    if meant is None:
        return None
    whose = next((column for column in (unit, *OWNERS) if column in columns), None)
    asked = [pl.len().alias("rows"), pl.col(age).min().alias("oldest")]
    asked.append(
        pl.lit(None, pl.UInt32).alias("of") if whose is None else pl.col(whose).drop_nulls().n_unique().alias("of")
    )
    row = rows.filter(meant).select(asked).collect().row(0, named=True)
    if not row["rows"]:
        return None
    return Expiry(uuid7(now), name, before, int(row["rows"]), row["of"], row["oldest"], done, now)


def _age(name: str) -> str | None:
    return next((column for start, column in AGES.items() if name.startswith(start)), None)


def _older(age: str, before: datetime) -> Holds:
    """Rows that are older; of tables that say no time, none."""
    return lambda schema: pl.col(age) < before if isinstance(schema.get(age), pl.Datetime) else None
