"""Jobs that keep tables small: writing small files together, and letting go of replaced ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from loopline.base.errors import NotFound
from loopline.base.ids import uuid7
from loopline.data.history.progress import POINTER, Progress
from loopline.data.nouns import Upkeep
from loopline.store.tables.protocol import TableFile
from loopline.workspace import Workspace, verb

READABLE = "readable-from"
"""Pointer to the oldest version of a table whose files are all there."""
VACUUM_COMMITS = 2
"""Commits that Delta writes about a vacuum: its begin and its end."""
SMALL_BYTES = 32 << 20
"""Files below this size are worth writing together."""


@verb("data.compact")
def compact(ws: Workspace, *, names: Sequence[str] | None = None, dry_run: bool = True) -> list[Upkeep]:
    """Write the small files of tables together, so that reading them takes less.

    No row changes, comes or goes; the table gets one more version with the same
    digest. Replaced files stay until `data.retain`.

    Parameters
    ----------
    names : sequence, optional
        Tables; all by default.
    dry_run : bool
        Only say what would be done.
    """
    now, made = ws.clock(), []
    for name in _chosen(ws, names):
        files = ws.tables.files(name)
        small = [file for file in files if file.bytes < SMALL_BYTES]
        if len(small) < 2:
            continue
        if dry_run:
            after = len(files) - len(small) + max(1, sum(f.bytes for f in small) // (128 << 20))
        else:
            _compact(ws, name, now)
            after = len(ws.tables.files(name))
        made.append(_upkeep(name, "compact", len(files), after, [], now, done=not dry_run))
    return made


def _compact(ws: Workspace, name: str, now: datetime) -> None:
    before = ws.tables.version(name)
    ws.tables.compact(name)
    _same_rows(ws, name, before, 1, now)


def _same_rows(ws: Workspace, name: str, before: int | None, commits: int, now: datetime) -> None:
    """Note that the newest version holds the rows of `before`, unless rows came in meanwhile.

    Without the note the next ingestion reads the table to find out.
    """
    pointer = ws.records.pointer(POINTER, name)
    recorded, version = Progress.of(pointer), ws.tables.version(name)
    if pointer is None or before is None or recorded.version != before or version != before + commits:
        return
    doc, generation = replace(recorded, version=version).doc(), pointer.generation
    ws.on_commit(lambda tx: tx.move(POINTER, name, pointer.target, expect=generation, at=now, doc=doc))


@verb("data.retain")
def retain(
    ws: Workspace,
    *,
    names: Sequence[str] | None = None,
    older_than: timedelta = timedelta(days=7),
    dry_run: bool = True,
) -> list[Upkeep]:
    """Let go of files that compaction replaced longer ago than `older_than`.

    Rows, and what was known at any time, stay. Snapshots stay too: their files are
    pinned among the blobs, and only bytes that no snapshot pins come free. Versions
    of the table before the compaction can no longer be opened by number.

    Parameters
    ----------
    older_than : timedelta
        By the machine's time, since it is files that age; readers and writers that
        began before must have ended.
    dry_run : bool
        Only say what would be done.
    """
    now, made = ws.clock(), []
    for name in _chosen(ws, names):
        old = ws.tables.vacuum(name, older_than=older_than, dry_run=True)
        if not old:
            continue
        there = len(ws.tables.files(name))
        upkeep = _upkeep(name, "retain", there + len(old), there, old, now, done=not dry_run)
        if not dry_run:
            before = ws.tables.version(name)
            _forget(ws, name, now)
            ws.tables.vacuum(name, older_than=older_than, dry_run=False)
            _same_rows(ws, name, before, VACUUM_COMMITS, now)
        made.append(upkeep)
    return made


def _forget(ws: Workspace, name: str, now: datetime) -> None:
    """Note, before files go, from which version on the table can be opened."""
    version = ws.tables.version(name)
    held = ws.records.pointer(READABLE, name)
    with ws.records.transaction() as tx:
        tx.move(READABLE, name, str(version), expect=held.generation if held else 0, at=now)


def readable_from(ws: Workspace, name: str) -> int:
    """The oldest version of a table whose files are all there."""
    held = ws.records.pointer(READABLE, name)
    return int(held.target) if held is not None else 0


def _chosen(ws: Workspace, names: Sequence[str] | None) -> list[str]:
    there = list(ws.tables.names())
    for name in names or ():
        if name not in there:
            raise NotFound(f"there is no table {name}", why=f"tables here: {', '.join(there)}", fix="correct the name")
    return list(names) if names else there


def _upkeep(
    name: str, what: str, before: int, after: int, gone: Sequence[TableFile], now: datetime, *, done: bool
) -> Upkeep:
    pinned = sum(file.bytes for file in gone if _links(file.path) > 1)
    return Upkeep(
        id=uuid7(now),
        table=name,
        what=what,
        files_before=before,
        files_after=after,
        bytes_freed=sum(file.bytes for file in gone) - pinned,
        bytes_pinned=pinned,
        done=done,
        at=now,
    )


def _links(path: Path) -> int:
    return path.stat().st_nlink


__all__ = ["READABLE", "compact", "readable_from", "retain"]
