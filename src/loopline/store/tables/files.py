"""The files behind a Delta table: which there are, writing small ones together, dropping old ones."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable, PostCommitHookProperties

from loopline.store.tables.protocol import TableFile

TARGET_BYTES = 128 << 20
"""Files below this size are written together."""
_NO_CLEANUP = PostCommitHookProperties(cleanup_expired_logs=False)


def files_of(table: DeltaTable) -> list[TableFile]:
    """The files that hold the rows of `table` at its version, by path."""
    added = pl.DataFrame(table.get_add_actions(flatten=True))
    folder = Path(unquote(table.table_uri).removeprefix("file://"))
    rows = added["num_records"] if "num_records" in added.columns else pl.Series([None] * added.height)
    found = zip(added["path"], added["size_bytes"], rows, strict=True)
    return sorted(
        (TableFile(folder / unquote(path), int(size), None if n is None else int(n)) for path, size, n in found),
        key=lambda file: file.path,
    )


def compacted(folder: Path, target_bytes: int) -> DeltaTable:
    """The table after its small files were written together, in one commit without new rows."""
    table = DeltaTable(folder)
    table.optimize.compact(target_size=target_bytes, post_commithook_properties=_NO_CLEANUP)
    return table


def vacuumed(folder: Path, older_than: timedelta, dry_run: bool) -> list[TableFile]:
    """The files that were replaced longer than `older_than` ago; deleted unless it is a dry run."""
    table = DeltaTable(folder)
    hours = max(0, int(older_than.total_seconds() // 3600))
    paths = [folder / unquote(name) for name in table.vacuum(hours, dry_run=True, enforce_retention_duration=False)]
    found = [TableFile(path, path.stat().st_size) for path in sorted(paths) if path.exists()]
    if not dry_run and found:
        table.vacuum(hours, dry_run=False, enforce_retention_duration=False, post_commithook_properties=_NO_CLEANUP)
    return found
