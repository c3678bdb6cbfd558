"""Personal columns of a workspace: proposed by detectors, settled by a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import polars as pl

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import content_id, iso
from loopline.data.contracts.contract import BROKEN, contract_of
from loopline.data.contracts.judging import quarantine_of
from loopline.data.nouns import PiiMark
from loopline.data.privacy.detectors import CLASSES, NOT_HIDDEN, Proposal, propose
from loopline.data.privacy.pseudonyms import secret
from loopline.data.privacy.treatments import POINTER, Treatment, declared, shown
from loopline.data.sources.json_types import GIVEN
from loopline.data.spec import TableSpec
from loopline.workspace import Workspace, query, verb

READ = 100_000
"""Rows of a table, the last ones added, that detectors read."""


@dataclass(frozen=True, slots=True)
class PersonalColumn:
    """One column that is personal, may be, or is known not to be."""

    table: str
    column: str
    pii: str | None
    """Its class; null when a person said that it is not personal."""
    state: Literal["declared", "confirmed", "rejected", "proposed"]
    why: str
    how: str = "keep"
    at: str = "export"
    by: str | None = None
    when: datetime | None = None

    @property
    def now(self) -> str:
        """What happens to its values as things stand."""
        if self.pii is None or (self.pii in NOT_HIDDEN and self.how == "keep"):
            return "shown" if self.pii is None else "shown; runs tell which features read it"
        done = {"pseudonym": "pseudonyms", "partial": "shown in part", "drop": "left out"}.get(self.how, "masked")
        return f"{done}, from ingestion on" if self.at == "ingest" and self.how != "keep" else done

    @property
    def after(self) -> str:
        """What a person's word would change; empty where one was given."""
        if self.state != "proposed":
            return ""
        if self.pii in NOT_HIDDEN:
            return "confirmed: the same; rejected: runs say nothing of it"
        return "confirmed: stays masked; rejected: shown"

    @property
    def hidden(self) -> bool:
        """Whether values of it are kept from whoever looks."""
        return self.pii is not None and (self.pii not in NOT_HIDDEN or self.how != "keep")


@query("data.personal")
def personal(
    ws: Workspace, tables: Mapping[str, TableSpec], project: Path, *, table: str | None = None
) -> list[PersonalColumn]:
    """Personal columns of the tables: declared in a contract, settled by a person, or proposed by detectors.

    A person's word stands above a proposal, and a contract above both.
    """
    if table is not None and table not in tables:
        raise _no_table(table, tables)
    found: list[PersonalColumn] = []
    for name in [table] if table else sorted(tables):
        columns = settled(ws, name, tables[name], project)
        for p in proposed(ws, name):
            columns.setdefault(p.column, PersonalColumn(name, p.column, p.pii, "proposed", p.why))
        found += sorted(columns.values(), key=lambda c: c.column)
    return found


def proposed(ws: Workspace, name: str) -> list[Proposal]:
    """What detectors propose for a table: by its rows, and of columns that only refused rows have by those."""
    found: list[Proposal] = []
    seen: set[str] = {BROKEN, GIVEN, "refused_at"}
    for part in (name, quarantine_of(name)):
        version = ws.tables.version(part)
        if version is not None:
            found += [p for p in _proposed(_Part(ws, part, version), name) if p.column not in seen]
            seen |= set(ws.tables.scan(part).collect_schema())
    return found


class _Part:
    """A table at a version; what is proposed for it is kept by that."""

    def __init__(self, ws: Workspace, name: str, version: int) -> None:
        self.ws, self.name, self.key = ws, name, (str(ws.root), name, version)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Part) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=64)
def _proposed(part: _Part, name: str) -> list[Proposal]:
    return propose(part.ws.tables.scan(part.name, version=part.key[2]).tail(READ).collect(), name)


def settled(ws: Workspace, name: str, spec: TableSpec, project: Path) -> dict[str, PersonalColumn]:
    """What a contract or a person says of a table's columns, by column; nothing that is only proposed."""
    columns: dict[str, PersonalColumn] = {}
    for pointer in ws.records.pointers(POINTER):
        owner, _, column = pointer.name.partition("/")
        if owner == name:
            pii = pointer.doc["pii"]
            columns[column] = PersonalColumn(
                name,
                column,
                pii,
                "confirmed" if pii else "rejected",
                pointer.doc["reason"],
                by=pointer.doc["by"],
                when=pointer.at,
            )
    for treatment in declared(contract_of(project, name, spec)).values():
        why = f"its contract {spec.contract} says so"
        columns[treatment.column] = PersonalColumn(
            name, treatment.column, treatment.pii, "declared", why, treatment.how, treatment.at
        )
    return columns


def treatments(ws: Workspace, name: str, spec: TableSpec, project: Path) -> dict[str, Treatment]:
    """The personal columns of a table with what is done to them, those that a person confirmed among them."""
    found = {
        c.column: Treatment(c.column, c.pii, c.how, c.at)  # type: ignore[arg-type]
        for c in settled(ws, name, spec, project).values()
        if c.hidden
    }
    return found


def visible(ws: Workspace, name: str, spec: TableSpec, project: Path) -> dict[str, Treatment]:
    """What is done to the columns of a table before they are shown or leave: of those proposed too.

    A column that only may be personal is masked until a person says that it is not.
    """
    done = set(settled(ws, name, spec, project))
    found = {p.column: Treatment(p.column, p.pii) for p in proposed(ws, name)}
    found = {column: t for column, t in found.items() if column not in done and t.pii not in NOT_HIDDEN}
    return found | treatments(ws, name, spec, project)


@verb("data.mark")
def mark(
    ws: Workspace,
    tables: Mapping[str, TableSpec],
    table: str,
    column: str,
    *,
    pii: str | None,
    reason: str = "",
) -> PiiMark:
    """Settle what a column holds: a class of personal data, or null for none.

    Raises
    ------
    NotFound
        If there is no such table or column.
    Invalid
        If the class is none that is known.
    """
    if table not in tables:
        raise _no_table(table, tables)
    if pii is not None and pii not in CLASSES:
        raise Invalid(f"{pii!r} is no class of personal data", why=f"known: {', '.join(CLASSES)}", fix="use one")
    if ws.tables.version(table) is not None:
        schema = ws.tables.scan(table).collect_schema()
        if column not in schema:
            raise NotFound(
                f"table {table} has no column {column!r}", why=f"it has {', '.join(schema)}", fix="name one of them"
            )
    at = ws.clock()
    doc = {"table": table, "column": column, "pii": pii, "by": ws.actor, "at": iso(at), "reason": reason}
    made = PiiMark(content_id(doc), table, column, pii, ws.actor, at, reason)
    ws.on_commit(
        lambda tx: tx.move(
            POINTER,
            f"{table}/{column}",
            made.id,
            expect=None,
            at=at,
            doc={"pii": pii, "by": ws.actor, "reason": reason},
        )
    )
    return made


def sample(ws: Workspace, name: str, spec: TableSpec, project: Path, rows: int) -> pl.DataFrame:
    """The last rows of a table as they may be shown."""
    known = visible(ws, name, spec, project)
    key = secret(ws) if any(t.how == "pseudonym" for t in known.values()) else None
    return shown(ws.tables.scan(name).tail(rows).collect(), known, key)


def _no_table(name: str, tables: Mapping[str, Any]) -> NotFound:
    return NotFound(f"no table {name!r}", why=f"declared: {', '.join(sorted(tables)) or 'none'}", fix="correct it")
