"""What was known at a time, corrections resolved."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from loopline.base.errors import Invalid
from loopline.base.ids import iso
from loopline.data.spec import TableSpec

if TYPE_CHECKING:
    from loopline.workspace import Workspace

KNOWN_AT = "known_at"
"""Column that tables without a declared one carry: when they were ingested."""


def known_column(spec: TableSpec) -> str:
    """The column that says when a row could first be read."""
    return spec.known_at or KNOWN_AT


def known(
    ws: Workspace,
    name: str,
    spec: TableSpec,
    at: datetime,
    *,
    since: datetime | None = None,
    rows: pl.LazyFrame | None = None,
) -> pl.LazyFrame:
    """Rows of a table known at `at` (UTC), newest version of each key.

    Of rows with equal `spec.key` the one with the latest `known_at` wins, and where
    that one is a tombstone (`spec.tombstone`) the key is gone; without a key every row
    stands. With `since`, only rows that became known after it:
    the news, corrections among them. With `rows`, which must hold all rows asked for,
    the table is not read again. O(n log n) in the rows known.

    Raises
    ------
    NotFound
        If the table has no rows yet.
    Invalid
        If a time carries no zone.
    """
    iso(at)
    column = known_column(spec)
    rows = (ws.tables.scan(name) if rows is None else rows).filter(pl.col(column) <= at)
    if since is not None:
        iso(since)
        rows = rows.filter(pl.col(column) > since)
    return standing(rows, spec.key, column, name, spec.tombstone) if spec.key else rows


def standing(
    rows: pl.LazyFrame, key: Sequence[str], known_at: str, table: str, deleted: str | None = None
) -> pl.LazyFrame:
    """Of rows with equal `key`, the one known last, unless its column `deleted` says true."""
    newest = latest(rows, key, known_at, table)
    if deleted is None or deleted not in newest.collect_schema():
        return newest
    return newest.filter(~pl.col(deleted).fill_null(False))


def latest(rows: pl.LazyFrame, key: Sequence[str], known_at: str, table: str) -> pl.LazyFrame:
    """Of rows with equal `key`, the one known last."""
    missing = [k for k in key if k not in rows.collect_schema()]
    if missing:
        raise Invalid(
            f"table {table} has no column {missing[0]!r}", why="its key names it", fix=f"correct data.{table}.key"
        )
    return rows.sort(known_at, maintain_order=True).unique(list(key), keep="last", maintain_order=True)
