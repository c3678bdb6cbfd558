"""The files behind a Delta table: which there are, writing small ones together, dropping old ones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable, PostCommitHookProperties

from loopline.store.tables import commits
from loopline.store.tables.parts import written
from loopline.store.tables.protocol import TableFile

TARGET_BYTES = 128 << 20
"""Files below this size are written together."""
_ONE_FILE = 1 << 60
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


def compacted(folder: Path, target_bytes: int) -> int:
    """The version after small files were written together, in one commit without new rows; the same without such."""
    table = DeltaTable(folder)
    if (known := commits.plain(table)) is None:
        table.optimize.compact(target_size=target_bytes, post_commithook_properties=_NO_CLEANUP)
        return int(table.version())
    old, parts = [], []
    try:
        for together in _small(table, target_bytes):
            rows = pl.concat([pl.scan_parquet(file.path) for file in together], how="diagonal")
            parts += written(folder, rows, known.kept, part_bytes=_ONE_FILE)
            old += [file.path.relative_to(folder).as_posix() for file in together]
        return commits.replaced(folder, known, old, parts) if old else known.version
    except BaseException:
        commits.undone(folder, parts)
        raise


def _small(table: DeltaTable, target_bytes: int) -> Iterator[list[TableFile]]:
    """The files that are written together, oldest first: at least two each time, of `target_bytes` at most."""
    small = [file for file in files_of(table) if file.bytes < target_bytes]
    together: list[TableFile] = []
    for file in sorted(small, key=lambda file: (file.path.stat().st_mtime_ns, file.path)):
        if sum(one.bytes for one in together) + file.bytes > target_bytes:
            if len(together) > 1:
                yield together
            together = []
        together.append(file)
    if len(together) > 1:
        yield together


def vacuumed(folder: Path, older_than: timedelta, dry_run: bool) -> list[TableFile]:
    """The files that were replaced longer than `older_than` ago; deleted unless it is a dry run."""
    table = DeltaTable(folder)
    hours = max(0, int(older_than.total_seconds() // 3600))
    paths = [folder / unquote(name) for name in table.vacuum(hours, dry_run=True, enforce_retention_duration=False)]
    found = [TableFile(path, path.stat().st_size) for path in sorted(paths) if path.exists()]
    if not dry_run and found:
        table.vacuum(hours, dry_run=False, enforce_retention_duration=False, post_commithook_properties=_NO_CLEANUP)
    return found
