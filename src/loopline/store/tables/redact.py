"""Taking rows out of every version of a table, as the law of erasure asks.

A table is append-only and each of its versions stays readable; what is erased must be in none of them. So each file
that holds such rows is written again without them beside the old one, every commit of the log is changed to name the
new file (without least and greatest values, which may be what was to be erased), and the old file is deleted last.
Versions and the keys of appends stay what they were.

It can be stopped at any moment and done again: until its commits name the new file, the old one is there.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import polars as pl

from loopline.base.errors import Unavailable
from loopline.store.tables.delta import DeltaTables
from loopline.store.tables.log import LOG

MARK = ".r.parquet"
"""How the names of files that were written again end."""
REOPENED = 10
CHECKPOINTS = 20
"""A writer opens a table anew after 10 versions at the latest, and repeats the log in a checkpoint at each 20th."""
_PASSES = 5
Holds = Callable[[Mapping[str, pl.DataType]], "pl.Expr | None"]
"""From the columns of a file to which of its rows are meant; null: none can be."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """What was, or would be, taken out of a table."""

    rows: int
    """Over all files; a row that compaction copied counts each time."""
    files: int


def held(tables: DeltaTables, name: str, holds: Holds) -> Redacted:
    """How many rows are meant, in how many files of any version; nothing is changed."""
    counts = [count(path, holds) for path in _files(tables.root / name)]
    return Redacted(sum(counts), sum(found > 0 for found in counts))


def redact(tables: DeltaTables, name: str, holds: Holds) -> Redacted:
    """Take the rows that `holds` means out of every version of the table `name`.

    Rows that come meanwhile are looked at too. The table gets empty versions, so
    that whoever has it open reads it anew.

    Raises
    ------
    Unavailable
        If the log is not whole, or rows come faster than they are taken out.
    """
    folder, rows, files = tables.root / name, 0, 0
    for _ in range(_PASSES):
        old = [(path, found) for path in _files(folder) if (found := count(path, holds))]
        for path, found in old:
            _write(path.with_name(_renamed(path.name)), remaining(path, holds))
            rows, files = rows + found, files + 1
        if not _mend(folder, {path.name for path, _ in old}) and not old:
            return Redacted(rows, files)
        _touch(tables, name)
        for path, _ in old:
            path.unlink(missing_ok=True)
        _sync(folder)
    raise Unavailable(
        f"rows keep coming into {name} faster than they are taken out",
        why=f"after {_PASSES} passes there were still some",
        fix="stop what writes them, then do it again",
    )


def count(path: Path, holds: Holds) -> int:
    """How many rows of a Parquet file are meant; 0 when it is gone."""
    try:
        scan = pl.scan_parquet(path)
        meant = holds(scan.collect_schema())
        return 0 if meant is None else int(scan.select(meant.fill_null(False).sum()).collect().item() or 0)
    except FileNotFoundError:
        return 0


def remaining(path: Path, holds: Holds) -> pl.DataFrame:
    """The rows of a Parquet file that are not meant."""
    rows = pl.read_parquet(path, memory_map=False)
    meant = holds(rows.schema)
    return rows if meant is None else rows.filter(~meant.fill_null(False))


def _files(folder: Path) -> list[Path]:
    """Every data file there, those of older versions too."""
    return sorted(p for p in folder.rglob("*.parquet") if LOG not in p.relative_to(folder).parts)


def _renamed(name: str) -> str:
    return name.removesuffix(".parquet") + MARK


def _write(path: Path, rows: pl.DataFrame) -> None:
    """Write a file whole or not at all; one that an interrupted run left is good."""
    if path.exists():
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".redact-")
    try:
        with os.fdopen(handle, "wb") as part:
            rows.write_parquet(part, compression="snappy")
            part.flush()
            os.fsync(part.fileno())
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    _sync(path.parent)


def _mend(folder: Path, old: set[str]) -> bool:
    """Have every commit name the new files; true when something was changed.

    A commit that names a file which is gone, and whose new one is there, was
    written meanwhile by somebody who knew the old log.
    """
    log = folder / LOG
    commits = sorted(log.glob("[0-9]*.json"))
    stale = {path: text for path in commits if (text := _mended(folder, path, old)) is not None}
    checkpoints = list(log.glob("*.checkpoint*.parquet"))
    if not stale and not (old and checkpoints):
        return False
    if [int(path.stem) for path in commits] != list(range(len(commits))):
        raise Unavailable(
            f"the log of {folder.name} is not whole",
            why="its first commits are gone, and what a checkpoint says cannot be changed",
            fix=f"restore {log} from a backup, then do it again",
        )
    # Checkpoints repeat names and values; the commits tell the same, so they can go, and go first.
    (log / "_last_checkpoint").unlink(missing_ok=True)
    for path in checkpoints:
        path.unlink(missing_ok=True)
    _sync(log)
    for path, text in stale.items():
        handle, name = tempfile.mkstemp(dir=log, prefix=".redact-")
        try:
            with os.fdopen(handle, "w") as part:
                part.write(text)
                part.flush()
                os.fsync(part.fileno())
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    _sync(log)
    return True


def _mended(folder: Path, commit: Path, old: set[str]) -> str | None:
    """A commit that names the new files; null when it does."""
    lines, changed = [], False
    for line in filter(None, commit.read_text().split("\n")):
        action: dict[str, Any] = json.loads(line)
        for kind in ("add", "remove"):
            entry = action.get(kind)
            while entry:
                path = folder / unquote(entry["path"])
                new = path.with_name(_renamed(path.name))
                if path.name not in old and (path.exists() or not new.exists()):
                    break
                _point(entry, folder, new)
                changed = True
        lines.append(json.dumps(action, separators=(",", ":")))
    return "\n".join(lines) + "\n" if changed else None


def _point(entry: dict[str, Any], folder: Path, new: Path) -> None:
    """Have one entry of a commit name another file."""
    entry["path"] = quote(new.relative_to(folder).as_posix())
    if not new.exists():
        return  # it was written again once more
    if entry.get("size") is not None:
        entry["size"] = new.stat().st_size
    if entry.get("stats"):
        rows = pl.scan_parquet(new).select(pl.len()).collect().item()
        entry["stats"] = json.dumps({"numRecords": int(rows)})


def _touch(tables: DeltaTables, name: str) -> None:
    """Add empty versions until every writer, in any process, has to open the table anew.

    A writer that knows the old log would repeat it in the next checkpoint. So there
    are as many versions as it can stay open for, and the next checkpoint is far off.
    """
    tables._forget(name)
    nothing = tables.scan(name).head(0).collect()
    version = tables.version(name) or 0
    last = version + REOPENED
    last += -last % CHECKPOINTS
    while version < last:
        version = tables.append(name, nothing, key=f"redacted/{version}").version
    tables._forget(name)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
