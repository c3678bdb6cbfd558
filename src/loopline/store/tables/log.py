"""The log of a Delta table, read as the files that it is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from loopline.store.tables.protocol import TableVersion

LOG = "_delta_log"


def commit_path(folder: Path, version: int) -> Path:
    """The commit that made a version."""
    return folder / LOG / f"{version:020d}.json"


def sync(folder: Path, written: TableVersion) -> None:
    """See that the rows and their commit outlive a power cut."""
    for path in (*(folder / file for file in written.files), commit_path(folder, written.version)):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def tables_in(folder: Path, prefix: str) -> Iterator[str]:
    """The tables below a folder, each with `prefix` before its name."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != LOG:
            if (path / LOG).is_dir():
                if any((path / LOG / file).exists() for file in (f"{0:020d}.json", "_last_checkpoint")):
                    yield prefix + path.name  # or else its first append was killed
            else:
                yield from tables_in(path, f"{prefix}{path.name}/")


def actions(folder: Path, version: int) -> Iterator[dict[str, dict[str, Any]]]:
    """What a commit says, line by line; nothing where there is no such commit."""
    path = commit_path(folder, version)
    if path.exists():
        for line in path.read_bytes().split(b"\n"):  # text in it may hold other ends of lines
            if line:
                yield json.loads(line)


def added(folder: Path, version: int, *, kept: bool = False) -> list[str]:
    """Files that a commit added: those with new rows, or with `kept` also those that hold old rows again."""
    adds = [action["add"] for action in actions(folder, version) if "add" in action]
    return [unquote(str(add["path"])) for add in adds if kept or add.get("dataChange", True)]
