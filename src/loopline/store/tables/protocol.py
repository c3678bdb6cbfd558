"""Rows by version: the promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class TableVersion:
    """A table as it was after one append."""

    name: str
    version: int
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file of a table; it never changes while it is there."""

    path: Path
    bytes: int
    rows: int | None = None


class Tables(Protocol):
    """Append-only tables with versions.

    An append is atomic: a reader sees all of its rows or none. An append with
    a `key` that the table has seen changes nothing (so a retry is safe). New
    columns may appear (null in older rows); a column never changes its type
    (`Conflict`). Two writers at once both succeed, in some order, unless they say `after`
    which version they come. Times are UTC.
    A damaged or half-written log is `Unavailable` and names the table.
    """

    def append(
        self, name: str, rows: pl.DataFrame | pl.LazyFrame, *, key: str | None = None, after: int | None = None
    ) -> TableVersion:
        """Add `rows`, creating the table at the first append; with `after` only where that is the newest version."""
        ...

    def scan(self, name: str, *, version: int | None = None) -> pl.LazyFrame:
        """The rows of `name`, newest version by default; `NotFound` without such a table."""
        ...

    def keys(self, name: str) -> frozenset[str]:
        """The keys of all appends to `name`; none where there is no such table."""
        ...

    def added(self, name: str, *, after: int) -> pl.DataFrame:
        """The rows that versions later than `after` brought; cheap when they are few."""
        ...

    def version(self, name: str) -> int | None:
        """Newest version number; null when there is no such table."""
        ...

    def files(self, name: str, *, version: int | None = None) -> Sequence[TableFile]:
        """The files that hold the rows of a version, newest by default."""
        ...

    def compact(self, name: str) -> TableVersion:
        """Write small files together; no row changes, `added` shows nothing, and old files stay."""
        ...

    def vacuum(self, name: str, *, older_than: timedelta, dry_run: bool = True) -> Sequence[TableFile]:
        """The files that no version needs since `older_than`; deleted unless it is a dry run."""
        ...

    def names(self) -> Sequence[str]:
        """The tables, sorted. Names may contain `/`."""
        ...
