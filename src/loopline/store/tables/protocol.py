"""Rows by version: the promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class TableVersion:
    """A table as it was after one append."""

    name: str
    version: int
    files: tuple[str, ...] = ()


class Tables(Protocol):
    """Append-only tables with versions.

    An append is atomic: a reader sees all of its rows or none. An append with
    a `key` that the table has seen changes nothing (so a retry is safe). New
    columns may appear (null in older rows); a column never changes its type
    (`Conflict`). Two writers at once both succeed, in some order. Times are UTC.
    A damaged or half-written log is `Unavailable` and names the table.
    """

    def append(self, name: str, rows: pl.DataFrame, *, key: str | None = None) -> TableVersion:
        """Add `rows`, creating the table at the first append."""
        ...

    def scan(self, name: str, *, version: int | None = None) -> pl.LazyFrame:
        """The rows of `name`, newest version by default; `NotFound` without such a table."""
        ...

    def added(self, name: str, *, after: int) -> pl.DataFrame:
        """The rows that versions later than `after` brought; cheap when they are few."""
        ...

    def version(self, name: str) -> int | None:
        """Newest version number; null when there is no such table."""
        ...

    def names(self) -> Sequence[str]:
        """The tables, sorted. Names may contain `/`."""
        ...
