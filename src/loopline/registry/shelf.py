"""Registered models as one list: what loops trained and judged, and what tracking clients brought."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from loopline.base.errors import NotFound
from loopline.base.ids import content_id, moment
from loopline.registry.names import PROTECTED
from loopline.registry.nouns import Deposit, Version
from loopline.registry.queries import ALIAS, HERE, LABEL
from loopline.store.records.protocol import Row
from loopline.workspace import Workspace, query

MODEL = "registered model"
"""Rows of what may change of a name."""
GONE = "gone"
DECLARED = "registry.protected"


@dataclass(frozen=True, slots=True)
class Shelf:
    """A name that versions are registered under."""

    name: str
    family: str
    description: str
    tags: dict[str, str]
    created_at: datetime
    updated_at: datetime
    prompt: bool = False
    aliases: dict[str, str] = field(default_factory=dict)
    """Alias to the id of what it points at."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One number under a name: judged, brought by a client, or both."""

    name: str
    number: int
    created_at: datetime
    updated_at: datetime
    author: str
    version: Version | None
    deposit: Deposit | None
    description: str
    tags: dict[str, str]
    stage: str | None

    @property
    def id(self) -> str:
        """The id that aliases point at: the version's once it is judged."""
        return self.version.id if self.version is not None else self.deposit.id  # type: ignore[union-attr]

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id that an alias may hold for it."""
        return tuple(one.id for one in (self.version, self.deposit) if one is not None)

    @property
    def run(self) -> str | None:
        """The run of the tracking log that it came from."""
        return self.deposit.run if self.deposit is not None else None

    @property
    def prompt(self) -> bool:
        """Whether it is a prompt."""
        return self.deposit is not None and self.deposit.prompt


@query("registry.protected")
def protected(ws: Workspace) -> tuple[str, ...]:
    """The aliases that only a promotion moves."""
    more = json.loads(ws.records.meta(DECLARED) or "[]")
    return tuple(dict.fromkeys((*PROTECTED, *more)))


@query("registry.models")
def models(ws: Workspace) -> list[Shelf]:
    """Every name there are versions under, or that was made for some, by name."""
    rows = {row.id: row for row in ws.records.rows(MODEL)}
    pointing = _pointing(ws)
    judged: dict[str, list[Version]] = defaultdict(list)
    for version in ws.records.find(Version, newest_first=False):
        judged[version.name].append(version)
    names = {name for name, row in rows.items() if row.state == HERE} | judged.keys()
    return [_shelf(name, rows.get(name), judged.get(name, []), pointing.get(name, {})) for name in sorted(names)]


def shelf(ws: Workspace, name: str) -> Shelf:
    """One name.

    Raises
    ------
    NotFound
        If nothing is registered under it.
    """
    row = ws.records.row(MODEL, name)
    judged = ws.records.find(Version, newest_first=False, name=name)
    if not judged and (row is None or row.state != HERE):
        raise NotFound(
            f"Registered Model with name={name[:256]!r} not found",
            why="nothing is registered under it",
            fix="see `loopline registry list`",
        )
    return _shelf(name, row, judged, aliases(ws, name))


def aliases(ws: Workspace, name: str) -> dict[str, str]:
    """Alias to the id that it points at."""
    return _pointing(ws).get(name, {})


def _pointing(ws: Workspace) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for pointer in ws.records.pointers(ALIAS):
        name, _, alias = pointer.name.partition("/")
        if pointer.target:
            found[name][alias] = pointer.target
    return found


def _shelf(name: str, row: Row | None, judged: list[Version], pointing: dict[str, str]) -> Shelf:
    doc: dict[str, Any] = row.doc if row is not None and row.state == HERE else {}
    first = min((one.created_at for one in judged), default=None)
    last = max((one.created_at for one in judged), default=None)
    created = moment(doc["created"]) if doc else first
    updated = max(at for at in (moment(doc["updated"]) if doc else None, last) if at is not None)
    assert created is not None
    return Shelf(
        name=name,
        family=doc.get("family") or family_of(name),
        description=doc.get("description", ""),
        tags=doc.get("tags", {}),
        created_at=created,
        updated_at=updated,
        prompt=doc.get("prompt", False),
        aliases=pointing,
    )


def family_of(name: str) -> str:
    """The family of a name that a loop registered first."""
    return content_id({"registered model": name})


@query("registry.entries")
def entries(ws: Workspace, name: str | None = None) -> list[Entry]:
    """The versions under a name (under all), by number; not those that were withdrawn."""
    if name is not None:
        found = shelf(ws, name)
        names = {found.family: name}
        judged = ws.records.find(Version, newest_first=False, name=name)
        brought = ws.records.find(Deposit, newest_first=False, family=found.family)
    else:
        names = {found.family: found.name for found in models(ws)}
        judged = ws.records.find(Version, newest_first=False)
        brought = ws.records.find(Deposit, newest_first=False)
    labels = {row.id: row for row in ws.records.rows(LABEL)}
    both: dict[tuple[str, int], list[Any]] = {}
    for version in judged:
        both.setdefault((version.name, version.number), [None, None])[0] = version
    for deposit in brought:
        label = labels.get(deposit.id)
        if deposit.family in names and (label is None or label.state == HERE):
            both.setdefault((names[deposit.family], deposit.number), [None, None])[1] = deposit
    return [_entry(*place, pair[0], pair[1], labels) for place, pair in sorted(both.items(), key=lambda item: item[0])]


def entry(ws: Workspace, name: str, number: int) -> Entry:
    """One version.

    Raises
    ------
    NotFound
        If the number was never given, or was withdrawn.
    """
    found = shelf(ws, name)
    judged = ws.records.find(Version, limit=1, name=name, number=number)
    brought = ws.records.find(Deposit, limit=1, family=found.family, number=number)
    ids = [*(one.id for one in judged), *(one.id for one in brought)]
    labels = {id: row for id in ids if (row := ws.records.row(LABEL, id)) is not None}
    version = judged[0] if judged else None
    deposit = next((one for one in brought if one.id not in labels or labels[one.id].state == HERE), None)
    if version is None and deposit is None:
        raise NotFound(
            f"Model Version (name={name!r}, version={number}) not found",
            why="the number was never given, or its version was deleted",
            fix=f"see `loopline registry list {name}`",
        )
    return _entry(name, number, version, deposit, labels)


def _entry(name: str, number: int, version: Version | None, deposit: Deposit | None, labels: dict[str, Row]) -> Entry:
    first = deposit or version
    assert first is not None
    label = labels.get(version.id) if version is not None else None
    label = label or (labels.get(deposit.id) if deposit is not None else None)
    doc = label.doc if label is not None else {}
    return Entry(
        name=name,
        number=number,
        created_at=first.created_at,
        updated_at=moment(doc["updated"]) if "updated" in doc else first.created_at,
        author=first.author,
        version=version,
        deposit=deposit,
        description=doc.get("description", ""),
        tags=doc.get("tags", {}),
        stage=doc.get("stage"),
    )


def pointed_at(found: Iterable[Entry], target: str) -> Entry | None:
    """The entry that an alias with this target points at."""
    return next((one for one in found if target in one.ids), None)
