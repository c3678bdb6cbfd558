"""What happens to rows between a source and a table, and how far a table has come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from loopline.base.errors import Conflict, Invalid
from loopline.base.ids import content_id, iso, moment
from loopline.base.nouns import to_doc
from loopline.data.admission import QUARANTINE, Admission, when_known
from loopline.data.columns import require_columns
from loopline.data.contract import Contract
from loopline.data.digest import RowsDigest, rows_digest
from loopline.data.history import known_column
from loopline.data.nouns import Ingestion, Violation
from loopline.data.spec import TableSpec

if TYPE_CHECKING:
    from loopline.data.sources import Part
    from loopline.store.records.protocol import Pointer
    from loopline.store.tables.protocol import Tables

POINTER = "ingested"
Progressed = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Read:
    """What the last ingestion saw of one piece of a source."""

    mark: str | None = None
    """Names its content and how it was read; null where only reading tells."""
    seen: int = 0
    """Rows known by then."""
    first: datetime | None = None
    """Least `known_at`."""
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
    generation: int = 0

    @classmethod
    def of(cls, pointer: Pointer | None) -> Progress:
        """What the records say; nothing yet without a pointer."""
        if pointer is None:
            return cls()
        doc = pointer.doc
        parts = doc.get("parts", {"": [None, doc.get("seen", 0), doc.get("first"), False]})
        return cls(
            known_to=moment(doc["known_to"]),
            version=doc["version"],
            digest=RowsDigest.parse(doc["digest"]),
            greatest=moment(doc["greatest"]) if doc["greatest"] else None,
            parts={name: Read(m, n, moment(first) if first else None, w) for name, (m, n, first, w) in parts.items()},
            schema=doc["schema"],
            generation=pointer.generation,
        )

    def doc(self) -> dict[str, Any]:
        """What the pointer keeps."""
        return {
            "known_to": iso(self.known_to) if self.known_to else None,
            "version": self.version,
            "digest": str(self.digest),
            "greatest": iso(self.greatest) if self.greatest else None,
            "parts": {n: [p.mark, p.seen, iso(p.first) if p.first else None, p.waits] for n, p in self.parts.items()},
            "schema": self.schema,
        }


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
    if (recorded.version is not None and version < recorded.version) or found.rows < recorded.digest.rows:
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


def take(
    tables: Tables,
    name: str,
    spec: TableSpec,
    contract: Contract | None,
    parts: Callable[[datetime | None], Iterable[Part]],
    recorded: Progress,
    now: datetime,
    *,
    folder: Path | None = None,
    progress: Progressed | None = None,
) -> tuple[Ingestion, Progress]:
    """Bring the news of a source into table `name`: rows known in (last, now].

    The source may hold all rows there ever were, or news alone. A row that says it
    was known before the last ingestion, and was not there then, came late: it is
    left out, since what was known at a time never changes afterwards, and reported
    as `<known_at>.late`. A row known later than `now` waits for its time. A piece of
    the source that is as it was is not read again.

    Parameters
    ----------
    parts : callable
        The pieces of the source, given the time up to which rows were taken.
    folder : Path, optional
        Where rows of a source larger than one batch wait for their append.
    """
    before = catch_up(tables, name, spec, recorded)
    how = content_id(to_doc({"spec": spec.id, "contract": contract.id if contract else None}))
    pieces = list(parts(before.known_to))
    after: dict[str, Read] = {}
    marks = {p.name: content_id([p.mark, how]) if p.mark is not None else None for p in pieces}
    same = {p.name for p in pieces if marks[p.name] is not None and _as_it_was(before.parts.get(p.name), marks[p.name])}
    whole = all(p.whole for p in pieces)
    complete = spec.complete and whole
    if complete and len(same) < len(pieces):
        same = set()
    came: dict[str, int] = {}
    waiting = 0
    unread = [p for p in pieces if p.name not in same]
    admission = Admission(tables, name, spec, contract, before.schema, before.version, now, folder)
    admission.complete = complete and len(same) < len(pieces)
    with closing(admission):
        stream = _looking_ahead((p, b) for p in unread for b in _each(p))
        total = 0
        for part, batch, alone in stream:
            require_columns(batch, name, spec, contract)
            sofar = after.get(part.name, Read(marks[part.name]))
            if spec.known_at is None:
                admission.add(batch, None, alone=alone)
            else:
                found = when_known(batch, name, spec, contract, before.known_to, now)
                came[part.name] = came.get(part.name, 0) + found.old
                waiting += found.waiting
                first = min((t for t in (sofar.first, found.first) if t is not None), default=None)
                sofar = replace(
                    sofar, seen=sofar.seen + found.known, first=first, waits=sofar.waits or found.waiting > 0
                )
                admission.add(batch, found.news, alone=alone)
            after[part.name] = sofar
            total += batch.height
            if progress is not None and not alone:
                progress(f"{name}: {total:,} rows read")
        kept = {p.name: before.parts[p.name] for p in pieces if p.name in same}
        state = replace(before, parts=(before.parts if not pieces else {}) | kept | after)
        late = sum(
            _late(before.parts.get(part_name, Read()), after[part_name], count, whole)
            for part_name, count in came.items()
        )
        if late > 0:
            admission.violations.append(Violation(f"{spec.known_at}.late", spec.known_at, "warning", late))
        return _append(tables, name, admission, state, now, waiting, recorded, read=bool(after))


def _as_it_was(read: Read | None, mark: str | None) -> bool:
    return read is not None and read.mark == mark and not read.waits


def _late(before: Read, after: Read, old: int, whole: bool) -> int:
    """How many of `old` rows were not there before.

    A source that begins later than it did holds news alone, and so do given rows that
    are fewer than there were.
    """
    again = before.first is not None and after.first is not None and after.first <= before.first
    again = again and (whole or old >= before.seen)
    return max(0, old - (before.seen if again else 0))


def _each(part: Part) -> Iterator[pl.DataFrame]:
    yield from part.read()


def _looking_ahead(items: Iterable[tuple[Part, pl.DataFrame]]) -> Iterator[tuple[Part, pl.DataFrame, bool]]:
    """The items, each with whether it is the only one."""
    before: tuple[Part, pl.DataFrame] | None = None
    count = 0
    for item in items:
        if before is not None:
            yield *before, False
        before, count = item, count + 1
    if before is not None:
        yield *before, count == 1


def _append(
    tables: Tables,
    name: str,
    admission: Admission,
    before: Progress,
    now: datetime,
    waiting: int,
    recorded: Progress,
    *,
    read: bool,
) -> tuple[Ingestion, Progress]:
    facts: dict[str, Any] = {"table": name, "known_from": recorded.known_to, "known_to": now}
    unrecorded = before.digest.rows - recorded.digest.rows
    version, added, greatest, schema, gone = before.version, RowsDigest(), before.greatest, dict(before.schema), 0
    if read:
        good, added, newest, found, gone = admission.rows()
        if added.rows or version is None:
            key = content_id(to_doc({"table": name, "digest": str(added), "after": before.version}))
            version = tables.append(name, good, key=key, after=-1 if version is None else version).version
        times = [t for t in (before.greatest, newest) if t is not None]
        greatest = max(times, default=None)
        schema = before.schema | found if added.rows or not before.schema else before.schema
    elif version is None:
        raise Invalid(
            f"the source of table {name} gave no rows, not even column names",
            why="a table begins with its columns",
            fix="give at least one row, or an empty frame with columns",
        )
    facts |= {
        "rows": added.rows + unrecorded,
        "quarantined": admission.quarantined,
        "violations": tuple(admission.violations),
        "quarantine": admission.quarantine,
    }
    more: dict[str, Any] = {"cleaned": dict(sorted(admission.cleaned.items())), "waiting": waiting, "gone": gone}
    after = replace(
        before, known_to=now, version=version, digest=before.digest + added, greatest=greatest, schema=schema
    )
    told = {k: v for k, v in more.items() if v}
    id = content_id(to_doc({**facts, **told, "version": version, "digest": str(added)}))
    ingestion = Ingestion(id=id, version=version, digest=str(after.digest), greatest=after.greatest, **facts, **more)
    return ingestion, after


__all__ = ["POINTER", "QUARANTINE", "Progress", "Read", "catch_up", "take"]
