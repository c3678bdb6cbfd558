"""One page per table: what it is, who answers for it, what is in it, who may see what, and how clean it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from loopline.base.errors import NotFound
from loopline.data.contracts.contract import Contract, contract_of
from loopline.data.describing.cards import TableCard, catalogue
from loopline.data.history.profiles import PROFILED, profile
from loopline.data.history.progress import POINTER, Progress, gone
from loopline.data.nouns import Ingestion
from loopline.data.privacy.marks import PersonalColumn, personal
from loopline.data.privacy.treatments import hide, retention
from loopline.data.spec import TableSpec
from loopline.workspace import Workspace, query

HISTORY = 60
"""Ingestions that a page looks back on."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table as its page shows it."""

    card: TableCard
    description: str
    owner: str
    """By its contract (a team or a person), else empty: the project's owner answers."""
    contract: str | None
    """File of the contract."""
    contract_version: str | None
    status: str | None
    rules: int
    columns: tuple[ColumnCard, ...]
    profiled: int
    """Rows, the last ones added, that the profile is made from."""
    personal: tuple[PersonalColumn, ...]
    retention: timedelta | None
    """How long rows are kept, as the contract declares; null: for ever."""
    overdue: int
    """Rows older than that."""
    history: tuple[Ingestion, ...]
    """Newest first."""


@dataclass(frozen=True, slots=True)
class ColumnCard:
    """One column: what it means, what is in it."""

    name: str
    type: str
    description: str
    profile: dict[str, Any]
    """As `data.profile` says it; of a personal column only counts."""
    personal: PersonalColumn | None
    rules: tuple[str, ...]
    """Ids of the contract's rules about it."""


@query("data.show")
def show(ws: Workspace, tables: Mapping[str, TableSpec], project: Path, name: str) -> Dataset:
    """Everything about one table that a person who finds it wants to know.

    Raises
    ------
    NotFound
        If there is no such table.
    Invalid
        If its folder is gone.
    """
    if name not in tables:
        raise NotFound(
            f"there is no table {name!r}",
            why=f"loop.yaml declares {', '.join(sorted(tables))}",
            fix="name one of them, or loopline data list",
        )
    spec = tables[name]
    card = next(c for c in catalogue(ws, tables) if c.name == name)
    if card.gone and (pointer := ws.records.pointer(POINTER, name)):
        raise gone(name, Progress.of(pointer))
    contract = contract_of(project, name, spec)
    table = _schema(contract)
    known = {c.column: c for c in personal(ws, tables, project, table=name)}
    hidden = [c.column for c in known.values() if c.hidden]
    doc = hide(_profile(ws, name), hidden)
    said = {str(p.get("name")): p for p in table.get("properties") or ()}
    order = [*[c for c in said if c in doc["columns"]], *[c for c in doc["columns"] if c not in said]]
    columns = tuple(
        ColumnCard(
            column,
            doc["columns"][column]["type"],
            str(said.get(column, {}).get("description") or ""),
            doc["columns"][column],
            known.get(column),
            tuple(r.id for r in contract.rules if column in r.columns) if contract else (),
        )
        for column in order
    )
    kept = retention(contract)
    return Dataset(
        card,
        _text(table.get("description")) or _text((contract.doc if contract else {}).get("description")),
        _owner(contract),
        spec.contract,
        contract.version if contract else None,
        str(contract.doc.get("status")) if contract and contract.doc.get("status") else None,
        len(contract.rules) if contract else 0,
        columns,
        int(doc["rows"]),
        tuple(known.values()),
        kept,
        _overdue(ws, name, spec, kept),
        tuple(ws.records.find(Ingestion, table=name, limit=HISTORY)),
    )


def _schema(contract: Contract | None) -> Mapping[str, Any]:
    listed = (contract.doc.get("schema") or ()) if contract else ()
    return next((dict(t) for t in listed if contract and t.get("name") == contract.name), {})


def _text(node: Any) -> str:
    """A description, which the standard lets be a text or a mapping of purpose, usage and limitations."""
    if isinstance(node, Mapping):
        return " ".join(str(node[k]) for k in ("purpose", "usage", "limitations") if node.get(k))
    return str(node or "")


def _owner(contract: Contract | None) -> str:
    if contract is None:
        return ""
    team = contract.doc.get("team")
    if isinstance(team, Mapping):
        people = team.get("members") or []
        if team.get("name"):
            return str(team["name"])
    else:
        people = team or []
    owners = [p for p in people if str(p.get("role", "")).lower() in ("owner", "data owner", "steward")] or people
    return str(owners[0].get("name") or owners[0].get("username") or "") if owners else ""


def _profile(ws: Workspace, name: str) -> dict[str, Any]:
    version = ws.tables.version(name)
    return {"rows": 0, "columns": {}} if version is None else dict(_made(_Key(ws, name, version)))


class _Key:
    """A table at a version; the cache of profiles goes by it."""

    def __init__(self, ws: Workspace, name: str, version: int) -> None:
        self.ws, self.key = ws, (str(ws.root), name, version)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=32)
def _made(key: _Key) -> dict[str, Any]:
    _, name, version = key.key
    return profile(key.ws.tables.scan(name, version=version).tail(PROFILED).collect())


def _overdue(ws: Workspace, name: str, spec: TableSpec, kept: timedelta | None) -> int:
    """Rows that happened (else became known) longer ago than they are to be kept."""
    import polars as pl

    from loopline.data.history.known import known_column

    if kept is None or ws.tables.version(name) is None:
        return 0
    column = spec.event_time or known_column(spec)
    return int(ws.tables.scan(name).select((pl.col(column) < ws.clock() - kept).sum()).collect().item() or 0)
