"""Rows that were refused, judged again by the contract as it is now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl

from loopline.base.errors import NotFound
from loopline.base.ids import content_id, iso
from loopline.data.contracts.column_texts import UTC_TIME, read_times
from loopline.data.contracts.contract import BROKEN, Contract, contract_of
from loopline.data.contracts.judging import quarantine_of
from loopline.data.history.digest import rows_digest
from loopline.data.history.known import known_column
from loopline.data.history.progress import POINTER, Progress, catch_up
from loopline.data.intake.admission import Quiet
from loopline.data.intake.screening import beside, judge, without_totals
from loopline.data.nouns import Ingestion, Readmission
from loopline.data.sources.json_types import GIVEN, kinds_of
from loopline.data.spec import TableSpec
from loopline.workspace import Workspace, verb

_REFUSED = "refused_at"
_ROW = "\0place"
_SINCE = "\0since"


@verb("data.readmit")
def readmit(
    ws: Workspace, project: Path, tables: Mapping[str, TableSpec], *, table: str
) -> list[Readmission | Ingestion]:
    """Take in rows of `quarantine/<table>` that the contract lets through now, after it was changed.

    They become known now: what was known at a time before stays as it was. A row that
    was corrected meanwhile, under its key, stays out, and so does one that is in
    already; doing it again changes nothing. Rows without a key count as the same when
    all their values are. No row leaves the quarantine, which tells what was refused.

    Returns
    -------
    list
        What came of the rows first; then the ingestion, where any entered.

    Raises
    ------
    NotFound
        If no row of the table was ever refused.
    Conflict
        If rows came into the table meanwhile.
    """
    if table not in tables:
        raise NotFound(
            f"no table {table!r}", why=f"declared: {', '.join(sorted(tables)) or 'none'}", fix="correct the name"
        )
    spec, name, now = tables[table], quarantine_of(table), ws.clock()
    pointer = ws.records.pointer(POINTER, table)
    if ws.tables.version(name) is None or pointer is None:
        raise NotFound(
            f"no row of {table} was refused", why=f"there is no table {name}", fix="`loopline data list` shows which"
        )
    recorded = Progress.of(pointer)
    before = catch_up(ws.tables, table, spec, recorded)
    contract = beside(ws, contract_of(project, table, spec), table, tables, now)
    held = ws.tables.scan(name).collect()
    rows, kept = _again(held, before, spec, contract, table, now)
    rows = _newest_of_each(rows, spec)
    fresh = _not_there_yet(ws, table, spec, rows).drop(_ROW, _SINCE)
    made = Readmission(
        id=content_id({"table": table, "rows": str(rows_digest(fresh)), "at": iso(now), "of": held.height}),
        table=table,
        contract=contract.id if contract is not None else None,
        rows=fresh.height,
        superseded=held.height - kept - fresh.height,
        kept=kept,
        by=ws.actor,
        at=now,
    )
    if not fresh.height:
        return [made]
    added = rows_digest(fresh)
    key = content_id({"readmitted": table, "digest": str(added), "at": iso(now)})
    version = ws.tables.append(table, fresh, key=key, after=before.version).version
    unrecorded = before.digest.rows - recorded.digest.rows
    after = replace(before, version=version, digest=before.digest + added, greatest=max(before.greatest or now, now))
    taken = Ingestion(
        id=content_id({"readmission": made.id, "version": version}),
        table=table,
        version=version,
        rows=fresh.height + unrecorded,
        quarantined=0,
        known_from=recorded.known_to,
        known_to=now,
        digest=str(after.digest),
        greatest=after.greatest,
    )
    ws.on_commit(lambda tx: tx.move(POINTER, table, taken.id, expect=recorded.generation, at=now, doc=after.doc()))
    return [made, taken]


def still_refused(
    ws: Workspace, table: str, spec: TableSpec, contract: Contract | None, held: pl.DataFrame
) -> pl.DataFrame:
    """Of rows of the quarantine, those that have not come into the table since, nor were corrected."""
    pointer = ws.records.pointer(POINTER, table)
    if not held.height or pointer is None or ws.tables.version(table) is None:
        return held
    typed, _ = _typed(held.drop(BROKEN, _REFUSED, GIVEN, strict=False), Progress.of(pointer).schema, contract)
    since = held[_REFUSED].alias(_SINCE)
    numbered = typed.with_columns(pl.Series(_ROW, range(held.height), dtype=pl.Int64), since)
    return held[_not_there_yet(ws, table, spec, numbered)[_ROW].sort()]


def _again(
    held: pl.DataFrame, before: Progress, spec: TableSpec, contract: Contract | None, table: str, now: datetime
) -> tuple[pl.DataFrame, int]:
    """The rows that are good now, as the table keeps them, and how many are still refused."""
    text = held.drop(BROKEN, _REFUSED, GIVEN, strict=False)
    typed, lost = _typed(text, before.schema, contract)
    column = known_column(spec)
    named = [c for c in (*spec.key, spec.known_at) if c is not None and c in typed.columns]
    lost = lost | typed.select(pl.any_horizontal(pl.lit(False), pl.col(named).is_null()).alias("lost"))["lost"]
    since = typed[column] if spec.known_at is not None and typed.schema[column] == UTC_TIME else held[_REFUSED]
    admission = Quiet(table, spec, contract, before.schema)
    numbered = typed.with_columns(
        pl.Series(_ROW, range(typed.height), dtype=pl.Int64),
        since.fill_null(held[_REFUSED]).cast(UTC_TIME).alias(_SINCE),
        pl.lit(now).cast(UTC_TIME).alias(column),
        *(kinds_of(held[GIVEN]).values() if GIVEN in held.columns else ()),
    ).filter(~lost)
    rows, unreadable, _, given = admission._prepared(numbered, alone=True, text=True)
    each_time = spec.model_copy(update={"key": (), "known_at": _SINCE})
    checked = judge(rows, unreadable, given, table, each_time, without_totals(contract))
    return checked.good, held.height - checked.good.height


def _typed(text: pl.DataFrame, schema: Mapping[str, str], contract: Contract | None) -> tuple[pl.DataFrame, pl.Series]:
    """Quarantined texts in the types of the table, and which rows hold one that cannot be read.

    Columns that a contract declares are left to it.
    """
    kinds = {str(kind): kind for kind in (pl.Int64(), pl.Float64(), pl.Boolean(), pl.Date(), pl.String(), UTC_TIME)}
    declared = {c.name for c in contract.columns if c.type is not None} if contract is not None else set()
    lost = pl.repeat(False, text.height, dtype=pl.Boolean, eager=True)
    made = []
    for name in text.columns:
        values, kind = text[name], kinds.get(schema.get(name, "String"))
        if kind is None:
            lost = lost | values.is_not_null()
            continue
        if kind == UTC_TIME:
            read = read_times(values, None).alias(name)
        elif kind == pl.Boolean:
            read = values.replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
        else:
            read = values.cast(kind, strict=False)
        wrong = read.is_null() & values.is_not_null()
        if name in declared and wrong.any():
            read = values  # as the source wrote it: its contract says how it is read
        else:
            lost = lost | wrong
        made.append(read.alias(name))
    return pl.DataFrame(made), lost


def _newest_of_each(rows: pl.DataFrame, spec: TableSpec) -> pl.DataFrame:
    if not spec.key:
        return rows
    return rows.sort(_SINCE, _ROW).unique(list(spec.key), keep="last", maintain_order=True)


def _not_there_yet(ws: Workspace, table: str, spec: TableSpec, rows: pl.DataFrame) -> pl.DataFrame:
    """Without those whose key, or all of whose values, the table holds from later than they were refused or known."""
    column = known_column(spec)
    same = list(spec.key) or [c for c in rows.columns if c not in (column, _ROW, _SINCE)]
    there = ws.tables.scan(table)
    if any(c not in there.collect_schema() for c in same):
        return rows
    if any(rows.schema[c] != there.collect_schema()[c] for c in same):
        return rows
    newest = there.group_by(same).agg(pl.col(column).max().alias("\0there")).collect()
    joined = rows.join(newest, on=same, how="left", nulls_equal=True, maintain_order="left")
    later = (pl.col("\0there") >= pl.col(_SINCE)).fill_null(False)
    return joined.filter(~later).drop("\0there").select(rows.columns)


__all__ = ["readmit"]
