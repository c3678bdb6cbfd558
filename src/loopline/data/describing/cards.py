"""The tables of a workspace at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loopline.data.history.progress import POINTER, Progress
from loopline.data.nouns import Ingestion
from loopline.data.spec import TableSpec
from loopline.workspace import Workspace, query


@dataclass(frozen=True, slots=True)
class TableCard:
    """One table: how much, how fresh, how clean."""

    name: str
    rows: int
    version: int | None
    known_to: datetime | None
    """Greatest `known_at` of its rows; null without rows."""
    ingested_at: datetime | None
    """When news were last looked for; null when never."""
    columns: dict[str, str]
    """Column name to type."""
    ingestions: int
    quarantined: int
    """Rows refused so far, each ingestion counted."""
    last: Ingestion | None
    spec: dict[str, Any] | None = None
    gone: bool = False
    """Whether the records know rows of it, and its folder is not there."""


@query("data.catalogue")
def catalogue(ws: Workspace, tables: Mapping[str, TableSpec] | None = None) -> list[TableCard]:
    """Every declared or ingested table, by name."""
    declared = dict(tables or {})
    pointers = {pointer.name: pointer for pointer in ws.records.pointers(POINTER)}
    cards = []
    for name in sorted({*declared, *pointers}):
        progress = Progress.of(pointers.get(name))
        past = ws.records.find(Ingestion, table=name) if name in pointers else []
        spec = declared.get(name)
        cards.append(
            TableCard(
                name=name,
                rows=progress.digest.rows,
                version=progress.version,
                known_to=progress.greatest,
                ingested_at=progress.known_to,
                columns=progress.schema,
                ingestions=len(past),
                quarantined=sum(one.quarantined for one in past),
                last=past[0] if past else None,
                spec=spec.model_dump(mode="json", exclude_defaults=True) if spec else None,
                gone=progress.version is not None and ws.tables.version(name) is None,
            )
        )
    return cards
