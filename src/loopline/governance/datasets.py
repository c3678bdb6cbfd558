"""Who a table feeds: the snapshots, training sets, models and versions that came from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from loopline.data.nouns import Snapshot
from loopline.features.nouns import TrainingSet
from loopline.registry.nouns import Version
from loopline.training.nouns import Model
from loopline.workspace import Workspace, query


@dataclass(frozen=True, slots=True)
class Consumers:
    """What came from a table, newest first."""

    table: str
    snapshots: tuple[str, ...]
    training_sets: tuple[str, ...]
    models: tuple[str, ...]
    versions: tuple[tuple[str, int], ...]
    """(name, number)."""
    newest: datetime | None
    """Of the newest snapshot, up to when rows were known."""


@query("governance.consumers")
def consumers(ws: Workspace, *, table: str) -> Consumers:
    """The snapshots with rows of `table`, and what was made from them; a name that no snapshot has gives none."""
    snapshots = [s for s in ws.records.find(Snapshot) if table in s.tables]
    ids = {s.id for s in snapshots}
    sets = [s.id for s in ws.records.find(TrainingSet) if s.snapshot in ids]
    models = [m.id for m in ws.records.find(Model) if m.training_set in set(sets)]
    versions = [(v.name, v.number) for v in ws.records.find(Version) if v.model in set(models)]
    newest = max((s.known_to for s in snapshots), default=None)
    return Consumers(table, tuple(s.id for s in snapshots), tuple(sets), tuple(models), tuple(versions), newest)
