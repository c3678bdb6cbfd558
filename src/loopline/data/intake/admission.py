"""Rows on their way from a source into a table, batch by batch, ending in one append."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from loopline.base.errors import Invalid, Unavailable
from loopline.base.ids import content_id
from loopline.data.contracts.column_texts import UTC_TIME
from loopline.data.contracts.contract import BROKEN, Contract, refusal
from loopline.data.contracts.judging import quarantine_of
from loopline.data.history.digest import RowsDigest, rows_digest
from loopline.data.history.known import KNOWN_AT, known_column, standing
from loopline.data.intake.cleaning import clean_texts, clean_values, is_textual, merged
from loopline.data.intake.columns import align, canonical, emptied, read_declared
from loopline.data.intake.late import LateRows
from loopline.data.intake.screening import Held, Seen, as_text, judge, set_rules, totals, without_totals
from loopline.data.intake.screening import merged as merged_violations
from loopline.data.nouns import Violation
from loopline.data.sources.json_types import apart
from loopline.data.sources.times import to_utc
from loopline.data.spec import TableSpec

if TYPE_CHECKING:
    from loopline.store.tables.protocol import Tables

RAW = "raw/"
"""Tables of rows as their source wrote them, where cleaning changed them."""


class Admission:
    """One ingestion of one table: takes batches, says what entered.

    With one batch nothing touches the disk before the append. With more, rows that
    enter wait in a folder, so that memory holds one batch and the append is whole.
    """

    def __init__(
        self,
        tables: Tables,
        name: str,
        spec: TableSpec,
        contract: Contract | None,
        schema: dict[str, str],
        version: int | None,
        now: datetime,
        folder: Path | None,
        late: LateRows | None = None,
    ) -> None:
        self.tables, self.name, self.spec, self.contract, self.now = tables, name, spec, contract, now
        self.schema, self.version, self.folder = schema, version, folder
        self._late = late or LateRows(tables, name, spec, version, None, None)
        self.late = 0
        """Rows that came late, known from now on."""
        self.superseded = 0
        """Rows that came late and were corrected before."""
        self.violations: list[Violation] = []
        self.cleaned: dict[str, int] = {}
        self.complete = False
        """Whether the batches list every row there is, so that a key they lack is gone."""
        self.quarantined = 0
        self.quarantine: str | None = None
        self._column = known_column(spec)
        self._held: Held | None = None
        self._listed: list[pl.DataFrame] = []
        self._first: pl.DataFrame | None = None
        self._seen: Seen | None = None
        self._kept: list[Path] = []
        self._judged: list[Path] = []
        self._tombs: list[pl.DataFrame] = []
        self._types: dict[str, pl.DataType] = {}
        self._empty: dict[str, None] = {}
        self._rows = 0
        self._stack = ExitStack()
        self._spool: Path | None = None

    @property
    def differing(self) -> int:
        """Rows that stay out because other values are known under their key and time."""
        return self._late.differing

    def close(self) -> None:
        """Drop what waited on disk."""
        self._stack.close()

    def add(self, source: pl.DataFrame, news: pl.Series | None, *, alone: bool, text: bool = False) -> None:
        """Take one batch; `news` says which of its rows are, null where the table itself tells.

        `alone`: nothing came before and nothing follows. `text`: its values are written as text, and have no types.
        """
        given = source if news is None or news.all() else source.filter(news)
        rows, unreadable, changed, given = self._prepared(given, alone=alone, text=text)
        if news is None:
            rows, unreadable, changed, given = self._unseen(rows, unreadable, changed, given)
        elif (enter := self._late.enter(rows, given)) is not None:
            rows, given = rows.filter(enter), given.filter(enter)
            unreadable = unreadable.filter(enter) if unreadable.width else unreadable
            changed = {rule: mask.filter(enter) for rule, mask in changed.items()}
        self._count(changed, given)
        rows, unreadable, given = self._buried(rows, unreadable, given)
        if not alone and self.contract is not None and without_totals(self.contract) is not self.contract:
            self._judged.append(self._spill(rows, "judged"))
        checked = judge(
            rows,
            unreadable,
            given,
            self.name,
            self.spec,
            self.contract if alone else without_totals(self.contract),
            typed=not text,
        )
        types = self.schema | {c: str(t) for c, t in self._types.items()}
        good = align(emptied(checked.good, self.contract), types)
        self.violations += checked.violations
        self._set_aside(checked.bad)
        if checked.stopped:
            raise refusal(checked.stopped, self.name, self.quarantine)
        if alone:
            self._first = self._late.raised(good, self.now)
            return
        good = self._late.raised(self._unrepeated(good), self.now)
        self._agree(good)
        self._rows += good.height
        if good.height or not self._kept:
            self._kept.append(self._spill(good, "rows"))

    def _prepared(
        self, given: pl.DataFrame, *, alone: bool, text: bool = False
    ) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, pl.Series], pl.DataFrame]:
        """Rows read, repaired and in the types of the table; the source's own rows stay beside them."""
        if not alone:
            declared = {c.name for c in self.contract.columns} if self.contract else set()
            empty = [c for c, t in given.schema.items() if t == pl.Null and c not in declared and c not in self.schema]
            keep = {self.spec.event_time, self.spec.known_at, *self.spec.key}
            empty = [c for c in empty if c not in keep]
            self._empty |= dict.fromkeys(empty)
            given = given.drop(empty)
        rules = self.spec.clean
        bare, kinds = apart(given)
        texts = clean_texts(bare, rules, self.name)
        repaired = {c for rule in rules if is_textual(rule) for c in rule.column}
        parsed = None if text else repaired
        read, unreadable = read_declared(texts.rows, self.contract, parsed=parsed, kinds=kinds, repaired=repaired)
        rows = canonical(to_utc(read, self.name, self.spec, self.contract), self.name)
        values = clean_values(rows, rules, self.name)
        changed = merged(texts.changed, values.changed)
        rows = align(values.rows, self.schema | {c: str(t) for c, t in self._types.items()})
        repeated = self._repeated(rows)
        if repeated:
            changed |= repeated
            keep_rows = ~pl.DataFrame(list(repeated.values())).max_horizontal()
            old = self._late.old(rows) if self._column in rows.columns else ~keep_rows & keep_rows
            self._count({r: m & ~keep_rows & ~old for r, m in changed.items()}, given)
            rows, given = rows.filter(keep_rows), given.filter(keep_rows)
            unreadable = unreadable.filter(keep_rows) if unreadable.width else unreadable
            changed = {rule: mask.filter(keep_rows) for rule, mask in changed.items()}
        return rows, unreadable, changed, given

    def _repeated(self, rows: pl.DataFrame) -> dict[str, pl.Series]:
        """By rule, which rows agree with an earlier one of the batch where the declaration says they must not."""
        found: dict[str, pl.Series] = {}
        for rule in self.spec.clean:
            if rule.duplicates is None:
                continue
            columns = list(rows.columns) if rule.duplicates is True else list(rule.duplicates)
            if missing := [c for c in columns if c not in rows.columns]:
                raise Invalid(
                    f"table {self.name} has no column {missing[0]!r}",
                    why="clean: {duplicates: ...} names it",
                    fix=f"name one of: {', '.join(rows.columns)}",
                )
            if self.spec.known_at is not None and self.spec.known_at not in columns:
                columns.append(self.spec.known_at)
            mask = ~rows.select(pl.struct(columns).is_first_distinct().alias("first"))["first"]
            if mask.any():
                name = "row" if rule.duplicates is True else "+".join(rule.duplicates)
                found[f"{name}.duplicates"] = mask.alias(f"{name}.duplicates")
        return found

    def _unseen(
        self, rows: pl.DataFrame, unreadable: pl.DataFrame, changed: dict[str, pl.Series], given: pl.DataFrame
    ) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, pl.Series], pl.DataFrame]:
        """The rows that the table does not hold yet, for a source that does not say when they were known."""
        if self._held is None:
            scan = None if self.version is None else self.tables.scan(self.name, version=self.version)
            self._held = Held(scan, self.spec, self.name, self.schema)
        if self.complete:
            self._listed.append(rows.select(self.spec.key))
        fresh = self._held.fresh(rows)
        rows = rows.filter(fresh).with_columns(pl.lit(self.now).cast(UTC_TIME).alias(KNOWN_AT))
        unreadable = unreadable.filter(fresh) if unreadable.width else unreadable
        return rows, unreadable, {rule: mask.filter(fresh) for rule, mask in changed.items()}, given.filter(fresh)

    def _count(self, changed: dict[str, pl.Series], given: pl.DataFrame) -> None:
        """Count repairs by rule, and keep the rows that they changed as the source wrote them."""
        hit = {rule: mask for rule, mask in changed.items() if mask.any()}
        if not hit:
            return
        for rule, mask in hit.items():
            self.cleaned[rule] = self.cleaned.get(rule, 0) + int(mask.sum())
        masks = pl.DataFrame([mask.alias(rule) for rule, mask in hit.items()])
        any_of = masks.max_horizontal()
        names = masks.filter(any_of).select(
            pl.concat_list([pl.when(pl.col(c)).then(pl.lit(c)) for c in masks.columns])
            .list.drop_nulls()
            .list.join(", ")
            .alias("cleaned_by")
        )
        raw = pl.concat([as_text(apart(given.filter(any_of))[0]), names], how="horizontal")
        self._keep(RAW + self.name, raw, "cleaned_at")

    def _buried(
        self, rows: pl.DataFrame, unreadable: pl.DataFrame, given: pl.DataFrame
    ) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """Without the tombstones, which say that a key is gone and owe the contract nothing else."""
        column = self.spec.deleted
        if column is None or column not in rows.columns:
            return rows, unreadable, given
        if rows.schema[column] != pl.Boolean:
            if rows[column].null_count() == rows.height:
                return rows.with_columns(pl.lit(None, pl.Boolean).alias(column)), unreadable, given
            raise Invalid(
                f"{self.name}.{column} is {rows.schema[column]}, not true or false",
                why="it says which keys are gone",
                fix=f"give true and false, or drop `deleted: {column}`",
            )
        named = [c for c in (*self.spec.key, self.spec.known_at) if c is not None]
        gone = rows.select(pl.col(column).fill_null(False) & pl.all_horizontal(pl.col(named).is_not_null())).to_series()
        if not gone.any():
            return rows, unreadable, given
        kept = [c for c in (*self.spec.key, column, self.spec.event_time, self._column) if c is not None]
        tombs = rows.filter(gone).select(list(dict.fromkeys(kept)))
        tombs = tombs.unique([*self.spec.key, self._column], keep="last", maintain_order=True)
        self._tombs.append(self._late.raised(tombs, self.now))
        unreadable = unreadable.filter(~gone) if unreadable.width else unreadable
        return rows.filter(~gone), unreadable, given.filter(~gone)

    def _set_aside(self, bad: pl.DataFrame) -> None:
        if bad.height:
            self.quarantined += bad.height
            self.quarantine = quarantine_of(self.name)
            self._keep(self.quarantine, bad, "refused_at")

    def _keep(self, table: str, rows: pl.DataFrame, stamp: str) -> None:
        key = content_id({"table": table, "digest": str(rows_digest(rows))})
        self.tables.append(table, rows.with_columns(pl.lit(self.now).cast(UTC_TIME).alias(stamp)), key=key)

    def _unrepeated(self, good: pl.DataFrame) -> pl.DataFrame:
        """Without rows whose key, or other unique value, an earlier batch brought."""
        if self._seen is None:
            self._seen = Seen(set_rules(self.spec, self.contract), (self._column,))
        surplus = self._seen.surplus(good)
        if not surplus:
            return good
        masks = pl.DataFrame([mask.alias(rule) for rule, mask in surplus.items()])
        any_of = masks.max_horizontal()
        for rule in self._seen.rules:
            if rule.id in surplus:
                mask = surplus[rule.id]
                shown = good.filter(mask).select(rule.columns).head(5).rows()
                examples = tuple(" ".join(map(str, row)) for row in shown)
                self.violations.append(Violation(rule.id, rule.column, rule.severity, int(mask.sum()), examples))
        ids = pl.concat_list([pl.when(pl.col(c)).then(pl.lit(c)) for c in masks.columns]).list.drop_nulls()
        broken = masks.filter(any_of).select(ids.list.join(", ").alias(BROKEN))
        bad = good.filter(any_of)
        self._set_aside(pl.concat([as_text(bad.drop(KNOWN_AT if self.spec.known_at is None else [])), broken],
                                  how="horizontal"))  # fmt: skip
        stopping = [r for r in self._seen.rules if r.id in surplus and r.response == "stop"]
        if stopping:
            found = [v for v in self.violations if v.rule in {r.id for r in stopping}]
            raise refusal(found, self.name, self.quarantine)
        return good.filter(~any_of)

    def _agree(self, good: pl.DataFrame) -> None:
        """Refuse a column that changes its type midway."""
        for column, dtype in good.schema.items():
            before = self._types.setdefault(column, dtype)
            if before == dtype or {before, dtype} == {pl.Int64(), pl.Float64()}:
                if before == pl.Int64() and dtype == pl.Float64():
                    self._types[column] = dtype
                continue
            raise Invalid(
                f"column {column} of {self.name} is {before} at first and {dtype} from row {self._rows + 1:,} on",
                why="a column has one type, so that old rows stay readable",
                fix=f"declare the type of {column} in a contract of {self.name}; what cannot be read is set aside then",
            )

    def _spill(self, rows: pl.DataFrame, kind: str) -> Path:
        try:
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
            if self._spool is None:
                made = tempfile.TemporaryDirectory(prefix="ingest-", dir=self.folder)
                self._spool = Path(self._stack.enter_context(made))
            path = self._spool / f"{kind}-{len(self._kept) + len(self._judged):06d}.parquet"
            rows.write_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise Unavailable(
                f"the rows of {self.name} cannot wait for their append: {str(error).splitlines()[0]}",
                why="a large source is gathered on disk first; nothing was taken in",
                fix="free some space, then ingest again",
            ) from error
        return path

    def _vanished(self) -> pl.DataFrame | None:
        """Tombstones of the keys that a complete source no longer lists."""
        if not self.complete or self.version is None:
            return None
        key, gone = list(self.spec.key), self.spec.tombstone
        assert gone is not None
        scan = self.tables.scan(self.name, version=self.version)
        held = standing(scan, key, KNOWN_AT, self.name, gone).select(key).collect()
        listed = pl.concat(self._listed, how="vertical_relaxed") if self._listed else held.clear()
        left = held.join(listed.cast(dict(held.schema)), on=key, how="anti", nulls_equal=True)  # type: ignore[arg-type]
        if not left.height:
            return None
        return left.with_columns(pl.lit(True).alias(gone), pl.lit(self.now).cast(UTC_TIME).alias(KNOWN_AT))

    def rows(self) -> tuple[pl.DataFrame | pl.LazyFrame, RowsDigest, datetime | None, dict[str, str], int]:
        """What enters: rows, their digest, greatest `known_at`, types of columns, and how many are tombstones."""
        if self._judged and self.contract is not None:
            everything = pl.concat([pl.scan_parquet(p, glob=False) for p in self._judged], how="diagonal_relaxed")
            found, stopping = totals(self.contract, everything, (self._column,))
            self.violations += found
            if stopping:
                raise refusal(stopping, self.name, self.quarantine)
        self.violations = list(merged_violations(self.violations))
        tombs = [*self._tombs, *([gone] if (gone := self._vanished()) is not None else [])]
        if self._first is not None:
            good = pl.concat([self._first, *tombs], how="diagonal_relaxed") if tombs else self._first
            kept, self.late, self.superseded = self._late.standing(good.lazy())
            good = kept.collect() if self.superseded else good
            newest = good[self._column].max()
            greatest = newest if isinstance(newest, datetime) else None
            return good, rows_digest(good), greatest, _schema(good.schema), sum(t.height for t in tombs)
        spilled = [pl.scan_parquet(path, glob=False) for path in self._kept]
        whole = pl.concat([*spilled, *(t.lazy() for t in tombs)], how="diagonal_relaxed")
        absent = [c for c in self._empty if c not in whole.collect_schema()]
        whole = whole.with_columns(pl.lit(None, pl.String).alias(c) for c in absent)
        whole, self.late, self.superseded = self._late.standing(whole)
        digest, greatest = RowsDigest(), None
        for batch in whole.collect_batches(chunk_size=500_000):
            digest += rows_digest(batch)
            newest = batch[self._column].max()
            if isinstance(newest, datetime):
                greatest = newest if greatest is None else max(greatest, newest)
        return whole, digest, greatest, _schema(whole.collect_schema()), sum(t.height for t in tombs)


class Quiet(Admission):
    """Prepares rows as an ingestion does, and keeps nothing."""

    def __init__(
        self, name: str, spec: TableSpec, contract: Contract | None, schema: dict[str, str] | None = None
    ) -> None:
        super().__init__(None, name, spec, contract, schema or {}, None, datetime.max.replace(tzinfo=UTC), None)  # type: ignore[arg-type]

    def _keep(self, table: str, rows: pl.DataFrame, stamp: str) -> None:
        return None


def _schema(found: Any) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in found.items()}
