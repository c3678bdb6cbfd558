"""Rows that come late: their source says a time before the last ingestion, and the table does not hold them.

What was known at a time never changes afterwards, so such a row is known from the
ingestion that brings it. The time that its source says stays beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from loopline.base.errors import Invalid
from loopline.data.contracts.column_texts import UTC_TIME
from loopline.data.contracts.contract import BROKEN
from loopline.data.contracts.judging import quarantine_of
from loopline.data.history.digest import quick_hashes, row_hashes
from loopline.data.history.known import known_column
from loopline.data.intake.screening import Counted, as_text
from loopline.data.sources.json_types import GIVEN, apart
from loopline.data.spec import TableSpec

if TYPE_CHECKING:
    from loopline.store.tables.protocol import Tables

_NEWEST = "\0newest"


def given_column(spec: TableSpec) -> str:
    """The column of a late row's own time; null in rows that came in time."""
    return f"{spec.known_at}_given"


def own_time(spec: TableSpec, columns: Sequence[str]) -> pl.Expr:
    """When its source says that a row became known."""
    known, given = pl.col(known_column(spec)), given_column(spec)
    return pl.coalesce(given, known_column(spec)).alias(known_column(spec)) if given in columns else known


class LateRows:
    """What a table and its quarantine hold from before `since`, to tell rows that came late from those that are in.

    With a key, a row is the same when its key and its own time are; without one, when
    all its values are, counting equal rows. Of a table whose repairs or types were
    declared otherwise until `horizon`, rows without a key are told by their time up to
    there, since their values may differ.
    """

    def __init__(
        self,
        tables: Tables,
        name: str,
        spec: TableSpec,
        version: int | None,
        since: datetime | None,
        horizon: datetime | None,
        repaired: datetime | None = None,
        told: datetime | None = None,
    ) -> None:
        self.tables, self.name, self.spec, self.version = tables, name, spec, version
        self.since, self.horizon = since, horizon
        self.differing = 0
        """Rows whose key and time are there with other values; of those up to `repaired`, nothing is said."""
        self._repaired = repaired
        self._told = told
        """What was set aside later than that no ingestion told of: it ended before it was recorded."""
        self._column = known_column(spec)
        self._there: dict[tuple[str, ...], Counted] = {}
        self._whole: tuple[str, ...] | None = None
        self._wholes: pl.Series | None = None
        self._refused: pl.Series | None = None

    def old(self, rows: pl.DataFrame) -> pl.Series:
        """Which rows say a time up to `since`."""
        if self.since is None or self.spec.known_at is None:
            return pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True)
        return (rows[self._column] <= self.since).fill_null(False)

    def enter(self, rows: pl.DataFrame, given: pl.DataFrame) -> pl.Series | None:
        """Which rows are news or came late; null when all are. `given`: the same rows as their source wrote them."""
        old = self.old(rows)
        lost = rows[self._column].is_null() if self.spec.known_at is not None else old
        asked = old | lost
        if self.since is None or not asked.any():
            return None
        if given_column(self.spec) in rows.columns:
            raise Invalid(
                f"table {self.name} has a column {given_column(self.spec)!r}",
                why=f"Loopline keeps there what the source says of {self.spec.known_at} where a row came late",
                fix="rename the column in the source",
            )
        fresh = ~self._is_refused(given.filter(asked))
        place = pl.Series(range(rows.height), dtype=pl.UInt32).filter(asked)
        mine = rows.filter(asked)
        timed = mine[self._column].is_not_null()
        there = ~self._counted(mine).fresh(self._hashed(mine)) & timed
        self._compare(mine.filter(there & fresh))
        out = place.filter(there | ~fresh)
        return ~pl.Series(range(rows.height), dtype=pl.UInt32).is_in(out.implode())

    def _compared(self, columns: Sequence[str]) -> tuple[str, ...]:
        if self.spec.key:
            return (*self.spec.key, self._column)
        assert self.version is not None
        there = self.tables.scan(self.name, version=self.version).collect_schema().names()
        return tuple(sorted(set(columns) & set(there)))

    def _counted(self, rows: pl.DataFrame) -> Counted:
        if self.version is None:
            return Counted([])
        columns = self._compared(rows.columns)
        if columns not in self._there:
            scan = self.tables.scan(self.name, version=self.version)
            names = scan.collect_schema().names()
            wide = tuple(rows.columns)
            taken = [c for c in names if c in wide] if self.spec.key else columns
            held = scan.with_columns(own_time(self.spec, names)).select(taken)
            parts, wholes = held.filter(pl.col(self._column) <= self.since).collect_batches(chunk_size=500_000), []
            hashes = []
            for part in parts:
                hashes.append(self._hashed(part))
                if self.spec.key:
                    wholes.append(quick_hashes(part))
            self._there[columns] = Counted(hashes, once=bool(self.spec.key))
            if self.spec.key:
                self._whole = wide
                self._wholes = pl.concat(wholes).unique() if wholes else pl.Series("h", [], pl.UInt64)
        return self._there[columns]

    def _compare(self, rows: pl.DataFrame) -> None:
        """Count those of rows that are there by key and time whose other values are not the same.

        Nothing but an erasure changes what was known at a time, so they stay out; a
        value that only the source knows now is a difference too. The first batch says which columns are compared.
        """
        if self._repaired is not None:
            rows = rows.filter(pl.col(self._column) > self._repaired)
        if self._wholes is None or self._whole is None or not rows.height:
            return
        deleted = self.spec.deleted
        if deleted in rows.columns and rows.schema[deleted] == pl.Boolean:  # of a tombstone, no other value is kept
            kept = {*self.spec.key, self._column, deleted, self.spec.event_time}
            gone = pl.col(deleted).fill_null(False)
            rows = rows.with_columns(pl.when(~gone).then(pl.col(c)).alias(c) for c in rows.columns if c not in kept)
        found = quick_hashes(rows.select(c for c in self._whole if c in rows.columns))
        self.differing += int((~found.is_in(self._wholes.implode())).sum())

    def _hashed(self, rows: pl.DataFrame) -> pl.Series:
        columns = self._compared(rows.columns) if self.version is not None else (self._column,)
        found = pl.Series("h", row_hashes(rows.select(columns))[0])
        if self.horizon is None or self.spec.key:
            return found
        times = pl.Series("t", row_hashes(rows.select(self._column))[0])
        early = (rows[self._column] <= self.horizon).fill_null(False)
        return times.zip_with(early, found).alias("h")

    def _is_refused(self, given: pl.DataFrame) -> pl.Series:
        """Which rows were set aside before."""
        if self._refused is None:
            table = quarantine_of(self.name)
            if self.tables.version(table) is None:
                self._refused = pl.Series("h", [], pl.UInt64)
            else:
                scan = self.tables.scan(table).filter(pl.col("refused_at") <= pl.lit(self._told, UTC_TIME))
                held = scan.drop(BROKEN, GIVEN, "refused_at", strict=False).collect()
                self._refused = pl.Series("h", row_hashes(held)[0]).unique()
        if not self._refused.len():
            return pl.repeat(False, given.height, dtype=pl.Boolean, eager=True)
        return pl.Series("h", row_hashes(as_text(apart(given)[0]))[0]).is_in(self._refused.implode())

    def raised(self, rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """`rows` with late ones known from `now` on, their own time in the column beside."""
        old = self.old(rows)
        if not old.any():
            return rows
        own = pl.col(self._column)
        return rows.with_columns(
            pl.when(old).then(own).alias(given_column(self.spec)),
            pl.when(old).then(pl.lit(now).cast(UTC_TIME)).otherwise(own).alias(self._column),
        )

    def standing(self, rows: pl.LazyFrame) -> tuple[pl.LazyFrame, int, int]:
        """What enters, how many of it came late, and how many late rows a newer one of their key left no place.

        A late row whose key has a newer row could never be seen: its correction is
        known already.
        """
        given = given_column(self.spec)
        columns = rows.collect_schema().names()
        if self.spec.known_at is None or given not in columns:
            return rows, 0, 0
        late = pl.col(given).is_not_null()
        count = int(rows.select(late.sum()).collect().item())
        if not self.spec.key:
            return rows, count, 0
        key = list(self.spec.key)
        asked = rows.filter(late).select(key).unique().collect()
        own = [rows.with_columns(own_time(self.spec, columns)).select(*key, self._column)]
        if self.version is not None:
            scan = self.tables.scan(self.name, version=self.version)
            there = scan.with_columns(own_time(self.spec, scan.collect_schema().names()))
            own.append(there.select(*key, self._column))
        near = pl.concat([o.join(asked.lazy(), on=key, how="semi", nulls_equal=True) for o in own])
        newest = near.group_by(key).agg(pl.col(self._column).max().alias(_NEWEST)).collect()
        joined = rows.join(newest.lazy(), on=key, how="left", nulls_equal=True, maintain_order="left")
        kept = joined.filter(~late | (pl.col(given) >= pl.col(_NEWEST))).drop(_NEWEST)
        stays = int(kept.select(late.sum()).collect().item())
        return kept, stays, count - stays


__all__ = ["LateRows", "given_column", "own_time"]
