"""What a snapshot holds: its manifest, and the rows behind it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from loopline.base.errors import Conflict, Invalid, NotFound
from loopline.base.ids import moment
from loopline.data.history.known import known_column, standing
from loopline.data.nouns import Snapshot
from loopline.data.privacy.tombstones import current
from loopline.data.spec import TableSpec

if TYPE_CHECKING:
    from loopline.store.blobs.protocol import Blobs
    from loopline.store.tables.protocol import TableFile
    from loopline.workspace import Workspace

TAG = "snapshot-tag"
_pinned: dict[tuple[int, int, int], str] = {}


def pinned(blobs: Blobs, files: Sequence[TableFile], folder: Path) -> list[dict[str, Any]]:
    """The files of a table, kept among the blobs, where neither vacuum nor a lost folder reaches them.

    A file that is kept already costs nothing; a new one is one more name of the same bytes.
    """
    found, root = [], folder.resolve()
    for file in files:
        stat = file.path.stat()
        mark = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        digest = _pinned.get(mark)
        if digest is None or digest not in blobs:
            digest = _pinned[mark] = blobs.adopt(file.path)
        found.append({"path": file.path.relative_to(root).as_posix(), "size": file.bytes, "digest": digest})
    return found


def manifest(ws: Workspace, snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """What a snapshot says of each table: `schema`, `rows`, `known_to`, `digest`, `version`, `files`, `profile`."""
    tables: dict[str, dict[str, Any]] = json.loads(ws.blobs.get(current(ws, snapshot.manifest)))["tables"]
    return tables


def find_snapshot(ws: Workspace, ref: str) -> Snapshot:
    """The snapshot that a tag, an id or the beginning of one (8 characters or more) names.

    Raises
    ------
    NotFound
        If nothing is called so.
    """
    pointer = ws.records.pointer(TAG, ref)
    if pointer is not None:
        return ws.records.get(Snapshot, pointer.target)
    try:
        return ws.records.get(Snapshot, ref)
    except (NotFound, Conflict, Invalid) as error:
        tags = ", ".join(p.name for p in ws.records.pointers(TAG))
        raise NotFound(
            f"there is no snapshot {ref!r}",
            why=f"tags here: {tags or 'none'}; an id needs its first 8 characters, and only one that begins so",
            fix="loopline data snapshots",
        ) from error


def entry_of(ws: Workspace, snapshot: Snapshot, table: str) -> dict[str, Any]:
    """What a snapshot says of one table."""
    tables = manifest(ws, snapshot)
    if table not in tables:
        raise NotFound(
            f"the snapshot {snapshot.id[:12]} holds no table {table!r}",
            why=f"it holds {', '.join(sorted(tables))}",
            fix="name one of those",
        )
    return tables[table]


def rows_of(ws: Workspace, snapshot: Snapshot, table: str) -> pl.LazyFrame:
    """Every row of a table in a snapshot, superseded ones among them, read from the pinned files.

    Nothing that happened to the table since matters: rows that came later, compaction, vacuum, a lost folder.

    Raises
    ------
    NotFound
        If a pinned file is gone.
    Invalid
        If one was changed, or the snapshot was taken before files were pinned and its rows are no longer there.
    """
    entry = entry_of(ws, snapshot, table)
    if not entry["files"]:
        return _from_table(ws, snapshot, table, entry)
    groups: dict[tuple[tuple[str, Any], ...], list[Path]] = {}
    for file in entry["files"]:
        path = ws.blobs.path(current(ws, file["digest"]))
        groups.setdefault(tuple(pl.read_parquet_schema(path).items()), []).append(path)
    parts = [pl.scan_parquet(paths, glob=False) for paths in groups.values()]
    rows = parts[0] if len(parts) == 1 else pl.concat(parts, how="diagonal_relaxed")
    return _known(rows, entry)


def _known(rows: pl.LazyFrame, entry: dict[str, Any]) -> pl.LazyFrame:
    if entry["known_to"] is None:
        return rows.filter(False)
    return rows.filter(pl.col(entry["known_at"]) <= moment(entry["known_to"]))


def _from_table(ws: Workspace, snapshot: Snapshot, table: str, entry: dict[str, Any]) -> pl.LazyFrame:
    from loopline.data.history.digest import rows_digest

    rows = ws.tables.scan(table)
    if entry["rows"] == 0:
        return rows.filter(False)
    if "known_at" not in entry or str(rows_digest(_known(rows, entry).collect())) != entry["digest"]:
        raise Invalid(
            f"the rows of {table} in the snapshot {snapshot.id[:12]} cannot be read again",
            why="its manifest pins no files, and the table no longer holds exactly these rows",
            fix="take a new one: loopline data snapshot",
        )
    return _known(rows, entry)


def state_of(ws: Workspace, snapshot: Snapshot, table: str) -> pl.LazyFrame:
    """The rows of a table in a snapshot, the newest version of each key, without what was deleted."""
    entry = entry_of(ws, snapshot, table)
    rows = rows_of(ws, snapshot, table)
    key, deleted = tuple(entry.get("key", ())), entry.get("deleted")
    return standing(rows, key, entry["known_at"], table, deleted) if key else rows


def declared(spec: TableSpec) -> dict[str, Any]:
    """What a manifest keeps of a declaration, so that its rows can be read without it."""
    return {"known_at": known_column(spec), "key": list(spec.key), "deleted": spec.tombstone}
