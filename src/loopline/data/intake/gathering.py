"""What happens to rows between a source and a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from loopline.base.errors import Conflict, Invalid
from loopline.base.ids import content_id, iso
from loopline.base.nouns import to_doc
from loopline.data.contracts.contract import Contract
from loopline.data.history.digest import RowsDigest
from loopline.data.history.known import known_column
from loopline.data.history.progress import Progress, Read, catch_up, running
from loopline.data.intake.admission import Admission
from loopline.data.intake.columns import require_columns
from loopline.data.intake.late import LateRows, given_column
from loopline.data.intake.news import Known, when_known
from loopline.data.nouns import Ingestion, Mixed
from loopline.data.privacy.treatments import declared
from loopline.data.spec import TableSpec

if TYPE_CHECKING:
    from loopline.data.sources.parts import Part
    from loopline.store.tables.protocol import Tables

Progressed = Callable[[str], None]


class Gathered:
    """The news of one source, judged, before any of it is in the table."""

    def __init__(
        self,
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
        once: bool = False,
    ) -> None:
        """Read the news of a source: rows known in (last, now], and those that came late.

        The source may hold all rows there ever were, or news alone. A row that says it
        was known before the last ingestion, and is not there, came late: it is known
        from now on, since what was known at a time never changes afterwards. A row
        known later than `now` waits for its time; one that says no time is set aside. A
        piece of the source that is as it was is not read again.

        Parameters
        ----------
        parts : callable
            The pieces of the source, given the time up to which rows were taken.
        folder : Path, optional
            Where rows of a source larger than one batch wait for their append.
        once : bool
            The rows are not given again, so none can wait: one that would is refused.
        """
        self.tables, self.name, self.spec, self.recorded, self.now = tables, name, spec, recorded, now
        self.contract = contract
        before = catch_up(tables, name, spec, recorded)
        self.waiting, self.expired, self.read = 0, 0, False
        self._brought: set[str] | None = None
        how = content_id(to_doc({"spec": spec.id, "contract": contract.id if contract else None}))
        shape = content_id(to_doc({"clean": [c.id for c in spec.clean], "treated": _treated(contract)}))
        if before.version is not None and before.shape != shape:
            before = replace(before, horizon=before.known_to)
        before = replace(before, shape=shape)
        pieces = list(parts(before.known_to))
        marks = {p.name: content_id([p.mark, how]) if p.mark is not None else None for p in pieces}
        same = {
            p.name for p in pieces if marks[p.name] is not None and _as_it_was(before.parts.get(p.name), marks[p.name])
        }
        whole = all(p.whole for p in pieces)
        by_time = before.horizon is not None and spec.known_at is not None and not spec.key and whole
        if ((spec.complete and whole) or by_time) and len(same) < len(pieces):
            same = set()
        horizon = before.horizon if by_time else None
        told = recorded.known_to
        late = LateRows(tables, name, spec, before.version, before.known_to, horizon, before.horizon, told)
        self.admission = Admission(tables, name, spec, contract, before.schema, before.version, now, folder, late)
        self.admission.complete = spec.complete and whole and len(same) < len(pieces)
        try:
            after = self._gather([p for p in pieces if p.name not in same], marks, before, contract, progress, once)
            kept = {p.name: before.parts[p.name] for p in pieces if p.name in same}
            self.mixed = _told(pieces, same, before, contract)
            self.state = replace(before, parts=(before.parts if not pieces else {}) | kept | after)
            self.rows = self.admission.rows() if self.read else None
        except BaseException:
            self.close()
            raise
        if not self.read and before.version is None:
            self.close()
            raise Invalid(
                f"the source of table {name} gave no rows, not even column names",
                why="a table begins with its columns",
                fix="give at least one row, or an empty frame with columns",
            )

    def close(self) -> None:
        """Drop what waited on disk."""
        self.admission.close()

    def _gather(
        self,
        unread: list[Part],
        marks: dict[str, str | None],
        before: Progress,
        contract: Contract | None,
        progress: Progressed | None,
        once: bool,
    ) -> dict[str, Read]:
        after: dict[str, Read] = {}
        total, name, spec = 0, self.name, self.spec
        for part, batch, alone in _looking_ahead((p, b) for p in unread for b in _each(p)):
            self.read = True
            if part.whole and batch.height:
                self._brought = (self._brought or set()) | set(batch.columns)
            require_columns(batch, name, spec, contract)
            sofar = after.get(part.name, Read(marks[part.name]))
            if spec.known_at is None:
                self.admission.add(batch, None, alone=alone, text=part.text)
            else:
                found = when_known(batch, name, spec, contract, before.known_to, self.now, before.expired)
                if once and found.waiting:
                    raise _cannot_wait(name, spec, found)
                self.waiting += found.waiting
                self.expired += found.expired
                sofar = replace(sofar, waits=sofar.waits or found.waiting > 0)
                seen = before.parts.get(part.name)
                unchanged = seen is not None and seen.mark is not None and seen.mark == marks[part.name]
                news = found.news if unchanged else found.known
                self.admission.add(batch, news, alone=alone, text=part.text)
            after[part.name] = sofar
            total += batch.height
            if progress is not None and not alone:
                progress(f"{name}: {total:,} rows read")
        return after

    def _lost(self) -> dict[str, datetime]:
        """Columns that the source had and has no longer, with when it had them last.

        A part of a source that was read speaks for all of it; rows that a caller gives may leave columns out.
        """
        before, spec = self.state, self.spec
        if self._brought is None or before.known_to is None:
            return before.lost
        own = {known_column(spec), given_column(spec), *({spec.tombstone} if spec.tombstone else ())}
        gone = [c for c in before.schema if c not in self._brought and c not in own]
        return {c: before.lost.get(c, before.known_to) for c in gone}

    def append(self) -> tuple[Ingestion, Progress]:
        """Put the rows into the table, in one append.

        Raises
        ------
        Conflict
            If another ingestion of the table was faster; no row entered.
        """
        before, admission, name, now = self.state, self.admission, self.name, self.now
        facts: dict[str, Any] = {"table": name, "known_from": self.recorded.known_to, "known_to": now}
        unrecorded = before.digest.rows - self.recorded.digest.rows
        version, added, greatest, schema, gone = before.version, RowsDigest(), before.greatest, dict(before.schema), 0
        found_out = {"violations": tuple(admission.violations), "mixed": self.mixed, "cleaned": admission.cleaned}
        content_id(to_doc(found_out))  # what cannot be recorded must not be in the table
        if self.rows is not None:
            good, added, newest, found, gone = self.rows
            if added.rows or version is None:
                key = content_id(to_doc({"table": name, "digest": str(added), "after": before.version}))
                try:
                    version = self.tables.append(name, good, key=key, after=-1 if version is None else version).version
                except Conflict as moved:
                    if self.tables.version(name) != before.version:
                        raise running(name) from moved
                    raise _retyped(name, before.schema, found, self.mixed, self.contract) or moved from moved
            times = [t for t in (before.greatest, newest) if t is not None]
            greatest = max(times, default=None)
            schema = before.schema | found if added.rows or not before.schema else before.schema
        assert version is not None
        facts |= {
            "rows": added.rows + unrecorded,
            "quarantined": admission.quarantined,
            "violations": tuple(admission.violations),
            "quarantine": admission.quarantine,
        }
        lost = self._lost()
        more: dict[str, Any] = {
            "cleaned": dict(sorted(admission.cleaned.items())),
            "waiting": self.waiting,
            "expired": self.expired,
            "gone": gone,
            "late": admission.late,
            "superseded": admission.superseded,
            "differing": admission.differing,
            "lost": {c: at for c, at in lost.items() if c not in before.lost},
            "mixed": self.mixed,
        }
        after = replace(
            before,
            known_to=now,
            version=version,
            digest=before.digest + added,
            greatest=greatest,
            schema=schema,
            lost=lost,
        )
        told = {k: v for k, v in more.items() if v}
        id = content_id(to_doc({**facts, **told, "version": version, "digest": str(added)}))
        made = Ingestion(id=id, version=version, digest=str(after.digest), greatest=after.greatest, **facts, **more)
        return made, after


def _told(pieces: list[Part], same: set[str], before: Progress, contract: Contract | None) -> tuple[Mixed, ...]:
    """The columns of several kinds whose type nothing declares and no earlier row decided to be text."""
    declared = {c.name for c in contract.columns if c.type is not None} if contract else set()
    found = dict.fromkeys(one for part in pieces if part.name not in same for one in part.notes)
    return tuple(m for m in found if m.column not in declared and before.schema.get(m.column) != "String")


def _retyped(
    name: str, before: dict[str, str], found: dict[str, str], mixed: tuple[Mixed, ...], contract: Contract | None
) -> Conflict | None:
    declared = {c.name: c.type for c in contract.columns} if contract else {}
    for column, dtype in found.items():
        if before.get(column, dtype) != dtype:
            first = next((m for m in mixed if m.column == column and m.source), None)
            place = f", first in line {first.line:,} of {first.source}" if first else ""
            fix = f"correct the values that changed it, or declare the type of {column} in a contract of {name}: "
            fix += "what cannot be read is set aside then"
            if declared.get(column) is not None:
                fix = f"declare {column} as the table has it, or give the table another name in loop.yaml: under that "
                fix += "its source is read from the beginning, with the type that the contract declares"
            return Conflict(
                f"column {column} of table {name} was {before[column]} and is {dtype} now{place}",
                why="a column has one type, so that old rows stay readable; nothing was taken in",
                fix=fix,
            )
    return None


def _cannot_wait(name: str, spec: TableSpec, found: Known) -> Invalid:
    assert found.first is not None
    return Invalid(
        f"{found.waiting:,} of the rows given to {name} say in {spec.known_at} that they become known later, "
        f"the first at {iso(found.first)}",
        why="rows that are given once cannot wait for their time; nothing was taken in",
        fix=f"give them when they are known, or put them into the source of {name}, where they wait",
    )


def _treated(contract: Contract | None) -> dict[str, str]:
    """What the contract does to values before they are kept, by column."""
    found = {c.name: f"type {c.type}" for c in contract.columns if c.type is not None} if contract else {}
    return found | {t.column: f"{found.get(t.column, '')} {t.how} {t.at}" for t in declared(contract).values()}


def _as_it_was(read: Read | None, mark: str | None) -> bool:
    return read is not None and read.mark == mark and not read.waits


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
