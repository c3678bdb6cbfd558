"""Appends written by hand: one Parquet file, and one commit of the Delta log that names it.

Most appends bring a few rows that fit the table as it is. For them opening,
planning and writing through the library costs many times what the rows do.
"""

from __future__ import annotations

import errno
import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from loopline.base.clock import SystemClock
from loopline.store.tables.schema import table_schema

LOG = "_delta_log"
INTERVAL = 20
"""Versions between two checkpoints of the log."""

INDEXED = 32
"""Columns, the first ones, whose statistics a commit carries: Delta's own default."""

_LONGEST = 64
"""Characters of a text that may stand as a bound."""

_NOT_TAKEN = frozenset({errno.EEXIST, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_now = SystemClock()


@dataclass(frozen=True, slots=True)
class Plain:
    """A table without features that a writer must know: what the next commit goes by."""

    version: int
    kept: dict[str, pl.DataType]


def plain(table: DeltaTable) -> Plain | None:
    """What appending by hand needs to know of a table; null where the library has to write."""
    protocol, metadata = table.protocol(), table.metadata()
    if protocol.min_writer_version > 2 or metadata.partition_columns:
        return None
    if any("constraints" in name or "columnMapping" in name for name in metadata.configuration):
        return None
    if any(not field.nullable or field.metadata for field in table.schema().fields):
        return None
    return Plain(table.version(), table_schema(table))


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
    return known if version == known.version else Plain(version, known.kept)


def _is_of_rows(action: Any) -> bool:
    if not isinstance(action, dict) or "metaData" in action or "protocol" in action:
        return False
    return "add" not in action or "path" in action["add"]


def commit_path(folder: Path, version: int) -> Path:
    """The commit that made a version."""
    return folder / LOG / f"{version:020d}.json"


def append(folder: Path, known: Plain, rows: pl.DataFrame, key: str | None) -> tuple[Plain, str] | None:
    """Add `rows`, whose columns the table has, as the next version; null when another writer was faster.

    Rows and commit are on disk before the version has its name, which it takes
    whole or, where it is taken, not at all. Null also on a disk without hard links.

    Returns
    -------
    Plain, str
        The table after the append, and the file with its rows.
    """
    whole = rows.select(
        pl.col(name) if name in rows.columns else pl.lit(None, kind).alias(name) for name, kind in known.kept.items()
    )
    version, at = known.version + 1, int(_now().timestamp() * 1000)
    file = folder / f"part-00000-{uuid4()}-c000.snappy.parquet"
    draft = folder / LOG / f"_commit_{uuid4()}.json.tmp"
    try:
        with file.open("wb") as out:
            whole.write_parquet(out, compression="snappy")
            out.flush()
            os.fsync(out.fileno())
            size = out.tell()
        info = {"operation": "WRITE", "operationParameters": {"mode": "Append"}, "engineInfo": "loopline"}
        add = {"path": file.name, "partitionValues": {}, "size": size, "modificationTime": at, "dataChange": True}
        actions: list[dict[str, Any]] = [
            {"commitInfo": {"timestamp": at, **info}},
            {"add": {**add, "stats": json.dumps(statistics(whole))}},
        ]
        if key is not None:
            actions.append({"txn": {"appId": key, "version": 1}})
        with draft.open("wb") as out:
            out.write("\n".join(json.dumps(action) for action in actions).encode())
            out.flush()
            os.fsync(out.fileno())
        os.link(draft, commit_path(folder, version))
    except BaseException as error:
        file.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _NOT_TAKEN:
            return None
        raise
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    return Plain(version, known.kept), file.name


def checkpoint(folder: Path, version: int) -> None:
    """Write the log together, every `INTERVAL` versions; without it opening is slower, and no more than that."""
    if (version + 1) % INTERVAL == 0:
        with suppress(DeltaError, OSError):
            DeltaTable(folder).create_checkpoint()


def statistics(rows: pl.DataFrame) -> dict[str, Any]:
    """Row count, nulls and bounds by column, as Delta writes them: readers skip files by them.

    A column without a bound that is sure (text that is long, numbers that are not
    finite) has none. Times are cut to milliseconds, as the protocol says.
    """
    some = [name for name, kind in list(rows.schema.items())[:INDEXED] if not kind.is_nested()]
    if not rows.height or not some:
        return {"numRecords": rows.height}
    kinds = rows.schema
    bounded = [n for n in some if kinds[n].is_numeric() or kinds[n].is_temporal() or kinds[n] == pl.String]
    row = rows.select(
        *(pl.col(n).null_count().alias(f"n{n}") for n in some),
        *(pl.col(n).min().alias(f"a{n}") for n in bounded),
        *(pl.col(n).max().alias(f"z{n}") for n in bounded),
        *(pl.col(n).is_nan().any().alias(f"f{n}") for n in bounded if kinds[n].is_float()),
    ).row(0, named=True)
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    for name in bounded:
        low, high = _bound(row[f"a{name}"]), _bound(row[f"z{name}"])
        if low is not None and high is not None and not row.get(f"f{name}"):
            least[name], greatest[name] = low, high
    nulls = {name: row[f"n{name}"] for name in some}
    return {"numRecords": rows.height, "minValues": least, "maxValues": greatest, "nullCount": nulls}


def _bound(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int) else None
