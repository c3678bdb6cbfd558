"""Letting go of old rows that nothing brings again: answers, refused requests, rows set aside, kept features."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import cast

import polars as pl

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import uuid7
from loopline.data.contracts.judging import quarantine_of
from loopline.data.intake.admission import RAW
from loopline.governance.holding import FEATURES
from loopline.governance.nouns import Expiry
from loopline.serving import log
from loopline.store.tables.delta import DeltaTables
from loopline.store.tables.redact import Holds, redact
from loopline.workspace import Workspace, verb

AGES = {
    log.table(""): "recorded_at",
    log.refused_table(""): "recorded_at",
    quarantine_of(""): "refused_at",
    RAW: "cleaned_at",
    FEATURES: "decision_time",
}
"""How the names of tables begin that have no source of their own, and the column that says how old their rows are."""
OWNERS = ("entity", "unit")


@verb("governance.expire")
def expire(
    ws: Workspace,
    *,
    older_than: timedelta,
    names: Sequence[str] | None = None,
    unit: str | None = None,
    dry_run: bool = True,
) -> list[Expiry]:
    """Let go of rows of logs, of rows set aside and of kept features that are older than `older_than`.

    They leave every version of the table, and its files; versions stay readable.
    Tables that are ingested keep theirs: their source would bring them again, and
    snapshots pin them.

    Parameters
    ----------
    older_than : timedelta
        By when they were answered, set aside or decided; what says no time stays.
    names : sequence of str, optional
        Tables; all of these kinds by default.
    unit : str, optional
        The column that says whose a row is, where it is not `entity`.
    dry_run : bool
        Only say what would go, and whose it is.

    Raises
    ------
    NotFound
        If there is no such table.
    Invalid
        If a table is one that is ingested, or `older_than` is no time at all.
    """
    if older_than <= timedelta(0):
        raise Invalid("older_than is nothing", why="everything would go", fix="--older-than 365d")
    now = ws.clock()
    made = []
    for name in _chosen(ws, names):
        found = _expiry(ws, name, _age(name) or "", now - older_than, unit, now, done=not dry_run)
        if found is None:
            continue
        if not dry_run:
            redact(cast(DeltaTables, ws.tables), name, _older(_age(name) or "", found.before))
        made.append(found)
    return made


def _chosen(ws: Workspace, names: Sequence[str] | None) -> list[str]:
    there = [name for name in ws.tables.names() if _age(name) is not None]
    for name in names or ():
        if name not in ws.tables.names():
            raise NotFound(f"there is no table {name}", why=f"here are {', '.join(there)}", fix="name one of them")
        if name not in there:
            raise Invalid(
                f"rows of {name} do not expire",
                why="it is ingested: its source would bring them again, and snapshots pin them",
                fix=f"name one of: {', '.join(there)}" if there else "there is no log yet",
            )
    return list(names) if names else there


def _expiry(
    ws: Workspace, name: str, age: str, before: datetime, unit: str | None, now: datetime, *, done: bool
) -> Expiry | None:
    """What of a table is too old; null where nothing is."""
    rows = ws.tables.scan(name)
    columns = rows.collect_schema()
    meant = _older(age, before)(columns)
    if meant is None:
        return None
    whose = next((column for column in (unit, *OWNERS) if column in columns), None)
    asked = [pl.len().alias("rows"), pl.col(age).min().alias("oldest")]
    asked.append(
        pl.lit(None, pl.UInt32).alias("of") if whose is None else pl.col(whose).drop_nulls().n_unique().alias("of")
    )
    row = rows.filter(meant).select(asked).collect().row(0, named=True)
    if not row["rows"]:
        return None
    return Expiry(uuid7(now), name, before, int(row["rows"]), row["of"], row["oldest"], done, now)


def _age(name: str) -> str | None:
    return next((column for start, column in AGES.items() if name.startswith(start)), None)


def _older(age: str, before: datetime) -> Holds:
    """Rows that are older; of tables that say no time, none."""
    return lambda schema: pl.col(age) < before if isinstance(schema.get(age), pl.Datetime) else None
