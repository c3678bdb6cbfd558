"""Appends written by hand: Parquet files, and one commit of the Delta log that names them.

Opening, planning and writing through the library costs many times what a few
rows do, and more than twice the processor time for many. On a full disk the
library's writer breaks off with the trace of a panic on standard error, which
tells a person nothing; here it is the error of the file.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from loopline.base.clock import SystemClock
from loopline.base.errors import Conflict
from loopline.store.tables.log import LOG, commit_path
from loopline.store.tables.parts import Part, written
from loopline.store.tables.schema import delta_schema, table_schema

INTERVAL = 20
"""Versions between two checkpoints of the log."""

_WITHOUT_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_now = SystemClock()


@dataclass(frozen=True, slots=True)
class Plain:
    """A table without features that a writer must know: what the next commit goes by."""

    version: int
    """-1: there is no table yet."""
    kept: dict[str, pl.DataType]
    about: dict[str, Any]
    """The action of the log that says what the table is, without its columns."""


class Taken(Exception):
    """Another writer made the version; whoever comes second looks again."""


def plain(table: DeltaTable) -> Plain | None:
    """What appending by hand needs to know of a table; null where the library has to write."""
    protocol, metadata = table.protocol(), table.metadata()
    if protocol.min_writer_version > 2 or metadata.partition_columns:
        return None
    if any("constraints" in name or "columnMapping" in name for name in metadata.configuration):
        return None
    if any(not field.nullable or field.metadata for field in table.schema().fields):
        return None
    about = _about(metadata.configuration, str(metadata.id), metadata.created_time)
    about |= {"name": metadata.name, "description": metadata.description}
    return Plain(table.version(), table_schema(table), about)


def fresh(configuration: dict[str, str]) -> Plain:
    """What the first append to a table goes by."""
    return Plain(-1, {}, _about(configuration, str(uuid4()), _milliseconds()))


def _about(configuration: dict[str, str], name: str, made: int | None) -> dict[str, Any]:
    shape = {"format": {"provider": "parquet", "options": {}}, "partitionColumns": []}
    return {"id": name, **shape, "createdTime": made, "configuration": configuration}


def _milliseconds() -> int:
    return int(_now().timestamp() * 1000)


def caught_up(folder: Path, known: Plain) -> Plain | None:
    """With the commits that came since; null where one of them changed more than rows, or cannot be read."""
    version = known.version
    if not commit_path(folder, version).exists():
        return None
    while (path := commit_path(folder, version + 1)).exists():
        try:
            actions = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
        except ValueError:
            return None
        if not actions or not all(map(_is_of_rows, actions)):
            return None
        version += 1
    return known if version == known.version else replace(known, version=version)


def _is_of_rows(action: Any) -> bool:
    if not isinstance(action, dict) or "metaData" in action or "protocol" in action or "remove" in action:
        return False
    return "add" not in action or "path" in action["add"]


def append(
    folder: Path, known: Plain, rows: pl.DataFrame | pl.LazyFrame, key: str | None
) -> tuple[Plain, tuple[str, ...]] | None:
    """Add `rows` as the next version; null on a disk without hard links.

    Columns that the table lacks become its columns, after those it has. Rows and
    commit are on disk before the version has its name, which it takes whole or,
    where it is taken, not at all.

    Returns
    -------
    Plain, tuple of str
        The table after the append, and the files with its rows.

    Raises
    ------
    Taken
        If another writer made that version meanwhile; nothing is left of this one.
    OSError, polars.exceptions.PolarsError
        If it cannot be written, as on a full disk; nothing is left of it.
    """
    new = {name: kind for name, kind in rows.collect_schema().items() if name not in known.kept}
    made = replace(known, version=known.version + 1, kept=known.kept | new)
    parts: list[Part] = []
    try:
        if known.version < 0:
            (folder / LOG).mkdir(parents=True, exist_ok=True)
        parts.extend(written(folder, rows, made.kept))
        actions = _announced(made, columns=bool(new) or known.version < 0, first=known.version < 0)
        actions += [_added(part) for part in parts]
        if key is not None:
            actions.append({"txn": {"appId": key, "version": 1}})
        commit(folder, made.version, "WRITE", actions)
    except BaseException as error:
        undone(folder, parts)
        if known.version < 0:
            _cleared(folder)
        if isinstance(error, OSError) and error.errno in _WITHOUT_LINKS:
            return None
        if isinstance(error, FileNotFoundError) and known.version < 0:  # one who could not make it cleared the folder
            raise Taken from error
        raise
    return made, tuple(part.file for part in parts)


def _announced(made: Plain, *, columns: bool, first: bool) -> list[dict[str, Any]]:
    """What the log is told before the rows: how to read the table, and its columns where they are new."""
    told: list[dict[str, Any]] = [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}] if first else []
    if columns:
        told.append({"metaData": {**made.about, "schemaString": json.dumps(delta_schema(made.kept))}})
    return told


def _added(part: Part, *, new: bool = True) -> dict[str, Any]:
    add = {"path": part.file, "partitionValues": {}, "size": part.bytes, "modificationTime": _milliseconds()}
    return {"add": {**add, "dataChange": new, "stats": json.dumps(part.told)}}


def commit(folder: Path, version: int, operation: str, actions: list[dict[str, Any]]) -> None:
    """Give `version` its name, with all of `actions` on disk; `Taken` where it has one."""
    mode = {"mode": "Append"} if operation == "WRITE" else {}
    info = {"operation": operation, "operationParameters": mode, "engineInfo": "loopline"}
    lines = [{"commitInfo": {"timestamp": _milliseconds(), **info}}, *actions]
    draft = folder / LOG / f"_commit_{uuid4()}.json.tmp"
    try:
        with draft.open("wb") as out:
            out.write("\n".join(map(json.dumps, lines)).encode())
            out.flush()
            os.fsync(out.fileno())
        os.link(draft, commit_path(folder, version))
    except FileExistsError:
        raise Taken from None
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def undone(folder: Path, parts: Sequence[Part]) -> None:
    """Take back files that no version names."""
    for part in parts:
        with suppress(OSError):
            (folder / part.file).unlink(missing_ok=True)


def _cleared(folder: Path) -> None:
    """A table that did not come to be leaves no folder."""
    for empty in (folder / LOG, folder):
        with suppress(OSError):
            empty.rmdir()


def replaced(folder: Path, known: Plain, old: Sequence[str], parts: Sequence[Part]) -> int:
    """The version in which `parts` hold the rows of the files `old`; rows that come meanwhile stay beside them.

    Raises
    ------
    Conflict
        If someone else changed more than rows meanwhile.
    """
    gone = {"deletionTimestamp": _milliseconds(), "dataChange": False}
    actions: list[dict[str, Any]] = [{"remove": {"path": quote(path), **gone}} for path in old]
    actions += [_added(part, new=False) for part in parts]
    now: Plain | None = known
    while now is not None:
        try:
            commit(folder, now.version + 1, "OPTIMIZE", actions)
            return now.version + 1
        except Taken:
            now = caught_up(folder, now)
    raise Conflict(
        f"the files of {folder.name} were written together by someone else",
        why="its log tells of more than new rows since this began; nothing was changed here",
        fix="nothing needs to be done; or do it again",
    )


def checkpoint(folder: Path, version: int) -> None:
    """Write the log together, every `INTERVAL` versions; without it opening is slower, and no more than that."""
    if (version + 1) % INTERVAL == 0:
        with suppress(DeltaError, OSError):
            DeltaTable(folder).create_checkpoint()
