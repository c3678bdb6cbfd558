"""Names for snapshots, and the way back to their rows."""

from __future__ import annotations

import re

import polars as pl

from loopline.base.errors import Conflict, Invalid
from loopline.data.history.manifest import TAG, find_snapshot, state_of
from loopline.data.nouns import Snapshot, SnapshotCard
from loopline.workspace import Workspace, query, verb

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")


@verb("data.tag")
def tag(ws: Workspace, snapshot: str, name: str, *, move: bool = False) -> Snapshot:
    """Give a snapshot a name that people remember.

    Parameters
    ----------
    snapshot : str
        Its id, the beginning of it, or another tag.
    name : str
        Letters, digits, `.`, `_` and `-`, a letter first; not the beginning of an id.
    move : bool
        Take the name away from the snapshot that has it.

    Raises
    ------
    Conflict
        If the name stands for another snapshot.
    """
    if not _NAME.fullmatch(name) or re.fullmatch(r"[0-9a-f]{8,64}", name):
        raise Invalid(
            f"{name!r} cannot be a tag",
            why="a tag begins with a letter and has letters, digits, `.`, `_` and `-`; it does not look like an id",
            fix="write for example before-migration",
        )
    found = find_snapshot(ws, snapshot)
    held = ws.records.pointer(TAG, name)
    if held is not None and held.target != found.id and not move:
        raise Conflict(
            f"the tag {name} stands for the snapshot {held.target[:12]}",
            why="a name that moves by itself is not worth remembering",
            fix=f"loopline data tag {snapshot} {name} --move, or choose another name",
        )
    if held is None or held.target != found.id:
        expect, now = held.generation if held is not None else 0, ws.clock()
        ws.on_commit(lambda tx: tx.move(TAG, name, found.id, expect=expect, at=now))
    return found


@query("data.snapshots")
def snapshots(ws: Workspace, *, limit: int = 100) -> list[SnapshotCard]:
    """Snapshots with their tags, newest first."""
    tags: dict[str, list[str]] = {}
    for pointer in ws.records.pointers(TAG):
        tags.setdefault(pointer.target, []).append(pointer.name)
    found = ws.records.find(Snapshot, limit=limit)
    return [SnapshotCard(s.id, tuple(sorted(tags.get(s.id, ()))), s.rows, s.known_to) for s in found]


@query("data.read")
def read(ws: Workspace, snapshot: str | Snapshot, table: str) -> pl.LazyFrame:
    """The rows of a table in a snapshot: the newest version of each key, without what was deleted.

    They come from the files that the snapshot pinned, so nothing that happened to
    the table since matters.

    Raises
    ------
    NotFound
        If there is no such snapshot, or it does not hold the table.
    """
    return state_of(ws, find_snapshot(ws, snapshot) if isinstance(snapshot, str) else snapshot, table)


__all__ = ["read", "snapshots", "tag"]
