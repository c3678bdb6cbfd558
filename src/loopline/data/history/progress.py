"""How far a table has come: what the next ingestion and a snapshot start from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from loopline.base.errors import Conflict, Invalid
from loopline.base.ids import iso, moment
from loopline.data.history.digest import RowsDigest, rows_digest
from loopline.data.history.known import known_column
from loopline.data.spec import TableSpec

if TYPE_CHECKING:
    from loopline.store.records.protocol import Pointer
    from loopline.store.tables.protocol import Tables

POINTER = "ingested"
"""Pointer to the last ingestion of a table."""


@dataclass(frozen=True, slots=True)
class Read:
    """What the last ingestion saw of one piece of a source."""

    mark: str | None = None
    """Names its content and how it was read; null where only reading tells."""
    waits: bool = False
    """Whether rows were there that were not known yet."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a table has come: what the next ingestion and a snapshot start from."""

    known_to: datetime | None = None
    version: int | None = None
    digest: RowsDigest = field(default_factory=RowsDigest)
    greatest: datetime | None = None
    parts: dict[str, Read] = field(default_factory=dict)
    """Pieces of the source, as they were then."""
    schema: dict[str, str] = field(default_factory=dict)
    shape: str | None = None
    """Names how values are read and repaired before they are kept."""
    horizon: datetime | None = None
    """Time up to which rows were read and repaired otherwise; null where none were."""
    lost: dict[str, datetime] = field(default_factory=dict)
    """Columns of the table that its source no longer has, and when it had them last."""
    expired: datetime | None = None
    """Rows known before this were let go of, and are not taken in again."""
    generation: int = 0

    @classmethod
    def of(cls, pointer: Pointer | None) -> Progress:
        """What the records say; nothing yet without a pointer."""
        if pointer is None:
            return cls()
        doc = pointer.doc
        parts = doc.get("parts", {"": [None, False]})
        horizon, expired = doc.get("horizon"), doc.get("expired")
        return cls(
            known_to=moment(doc["known_to"]),
            version=doc["version"],
            digest=RowsDigest.parse(doc["digest"]),
            greatest=moment(doc["greatest"]) if doc["greatest"] else None,
            parts={name: Read(mark, waits) for name, (mark, *_, waits) in parts.items()},
            schema=doc["schema"],
            shape=doc.get("shape"),
            horizon=moment(horizon) if horizon else None,
            lost={column: moment(at) for column, at in doc.get("lost", {}).items()},
            expired=moment(expired) if expired else None,
            generation=pointer.generation,
        )

    def doc(self) -> dict[str, Any]:
        """What the pointer keeps."""
        doc = {
            "known_to": iso(self.known_to) if self.known_to else None,
            "version": self.version,
            "digest": str(self.digest),
            "greatest": iso(self.greatest) if self.greatest else None,
            "parts": {name: [part.mark, part.waits] for name, part in self.parts.items()},
            "schema": self.schema,
            "shape": self.shape,
            "horizon": iso(self.horizon) if self.horizon else None,
            "lost": {column: iso(at) for column, at in self.lost.items()},
        }
        return doc | ({"expired": iso(self.expired)} if self.expired else {})


def gone(name: str, recorded: Progress) -> Invalid:
    """What is to be said of a table that was there and is not."""
    return Invalid(
        f"table {name} is gone",
        why=f"the records say that it reached version {recorded.version}",
        fix=f"restore the folder tables/{name} from a backup",
    )


def catch_up(tables: Tables, name: str, spec: TableSpec, recorded: Progress) -> Progress:
    """Progress after rows that were appended but not recorded (a crash in between).

    An append is whole, and held everything known by its greatest `known_at`, so
    that time is how far the table really came.

    Raises
    ------
    Invalid
        If the table is gone, or is an older one than the records know.
    """
    version = tables.version(name)
    if version == recorded.version:
        return recorded
    if version is None:
        raise gone(name, recorded)
    rows = tables.scan(name, version=version).collect()
    found = rows_digest(rows)
    fewer = found.rows < recorded.digest.rows
    if fewer and recorded.expired is not None and version > (recorded.version or 0):
        raise Conflict(
            f"old rows of table {name} were let go of, and that was stopped before its end",
            why=f"it has {found.rows:,} rows, and the records still say {recorded.digest.rows:,}",
            fix=f"loopline data expire {name} --older-than ... --yes, as before: it ends what was begun",
        )
    if (recorded.version is not None and version < recorded.version) or fewer:
        raise Conflict(
            f"table {name} has {found.rows:,} rows at version {version}",
            why=f"the records say that it had {recorded.digest.rows:,} at version {recorded.version}: "
            "the folder was replaced or set back",
            fix=f"restore the folder tables/{name} from a backup",
        )
    if found == recorded.digest:
        return replace(recorded, version=version)
    greatest = rows[known_column(spec)].max()
    assert greatest is None or isinstance(greatest, datetime)
    reached = max((t for t in (recorded.known_to, greatest) if t is not None), default=None)
    return replace(
        recorded,
        known_to=reached,
        version=version,
        digest=found,
        greatest=greatest,
        schema={k: str(v) for k, v in rows.schema.items()},
    )


def running(name: str) -> Conflict:
    """What is to be said where two ingestions of a table meet."""
    return Conflict(
        f"another ingestion of table {name} is running, or has just ended",
        why="it kept how far it read after this one began, be it without new rows; nothing of this one was taken in",
        fix="run it again",
    )
