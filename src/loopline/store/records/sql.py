"""Facts, pointers, states, signals, leases and the outbox in SQLite or PostgreSQL."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

import sqlalchemy as sa

from loopline.base.errors import Invalid, NotFound
from loopline.base.ids import iso, moment
from loopline.base.nouns import from_doc, kind_of
from loopline.store.records import statements as sql
from loopline.store.records.database import Database, Query
from loopline.store.records.migrate import open_up_to_date
from loopline.store.records.protocol import Effect, Lease, Pointer, Row
from loopline.store.records.tx import SqlTx, dump, load

N = TypeVar("N")
_EVERY = (1 << 53) - 1
_PREFIX = 8


class SqlRecords:
    """`Records` in one database; the same code for SQLite and PostgreSQL.

    Transactions are serialised: `BEGIN IMMEDIATE` in SQLite, an advisory lock in
    PostgreSQL. A fresh database gets its tables by migration.

    Parameters
    ----------
    url : str
        `sqlite:///path` or `postgresql://user@host/database`.
    busy_s : float
        Seconds to wait for another process's write lock.
    """

    def __init__(self, url: str, *, busy_s: float = 30.0) -> None:
        self.database = Database(url, busy_s=busy_s)
        open_up_to_date(self.database)
        self._upserts = sql.Upserts(is_sqlite=self.database.is_sqlite)
        self._claim = sql.claim()
        self._shapes: dict[Any, Query] = {}

    @classmethod
    def at(cls, path: Path, *, busy_s: float = 30.0) -> SqlRecords:
        """The records in the SQLite file `path`, made when it is missing."""
        url = sa.URL.create("sqlite", database=str(Path(path).absolute()))
        return cls(url.render_as_string(), busy_s=busy_s)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[SqlTx]:
        """One transaction: all of it happens, or nothing."""
        with self.database.write(durable=durable) as connection:
            tx = SqlTx(self.database, self._upserts, connection, durable=durable)
            try:
                yield tx
            finally:
                tx.end()

    def get(self, cls: type[N], id: str) -> N:
        """The noun with that id (a unique prefix of 8 or more characters will do); `NotFound` otherwise."""
        kind = kind_of(cls)
        found = self.database.one(sql.FACT, kind=kind, id=id)
        if found is not None:
            return from_doc(cls, load(found[0]))
        near = []
        if len(id) >= _PREFIX:
            near = self.database.all(sql.FACTS_BY_PREFIX, kind=kind, low=id, high=id + chr(0x10FFFF))
        if len(near) == 1:
            return from_doc(cls, load(near[0][1]))
        if near:
            raise NotFound(
                f"{id!r} names more than one {kind}",
                why=f"{near[0][0]} and {near[1][0]} both begin with it",
                fix="give more characters of the id",
            )
        raise NotFound(
            f"there is no {kind} {id!r}",
            why=f"no record has that id, or one prefix of at least {_PREFIX} characters",
            fix="check the id; the first 12 characters of it are enough",
        )

    def find(self, cls: type[N], *, limit: int | None = None, newest_first: bool = True, **where: Any) -> list[N]:
        """Nouns whose top-level fields equal `where`, by the order they were put."""
        kind = kind_of(cls)
        wanted = _fields(cls, where)
        shape = (limit, newest_first, *((name, value is None) for name, value in wanted.items()))
        query = self._shapes.get(shape)
        if query is None:
            empty = {name: value is None for name, value in wanted.items()}
            query = sql.facts(empty, limit=limit, newest_first=newest_first, is_sqlite=self.database.is_sqlite)
            if len(self._shapes) > 500:
                self._shapes.clear()
            self._shapes[shape] = query
        values = {
            f"is_{name}": value if self.database.is_sqlite else dump(value)
            for name, value in wanted.items()
            if value is not None
        }
        return [from_doc(cls, load(doc)) for (doc,) in self.database.all(query, kind=kind, **values)]

    def pointer(self, kind: str, name: str) -> Pointer | None:
        """Where `name` points, or null."""
        found = self.database.one(sql.POINTER, kind=kind, name=name)
        return None if found is None else _pointer(found)

    def pointers(self, kind: str) -> list[Pointer]:
        """Every pointer of a kind, by name."""
        return [_pointer(found) for found in self.database.all(sql.POINTERS, kind=kind)]

    def row(self, kind: str, id: str) -> Row | None:
        """A mutable state, or null."""
        found = self.database.one(sql.STATE, kind=kind, id=id)
        return None if found is None else _row(found)

    def rows(self, kind: str, *, state: str | None = None) -> list[Row]:
        """The states of a kind, by id."""
        if state is None:
            return [_row(found) for found in self.database.all(sql.STATES, kind=kind)]
        return [_row(found) for found in self.database.all(sql.STATES_IN, kind=kind, state=state)]

    def last_rows(self, kind: str, *, limit: int, **where: str) -> list[Row]:
        """States of a kind whose document says `where`, by id, the greatest first."""
        query = sql.last_states(tuple(where), is_sqlite=self.database.is_sqlite)
        values = {f"is_{name}": value for name, value in where.items()}
        return [_row(found) for found in self.database.all(query, kind=kind, most=limit, **values)]

    def signals(self, loop: str, *, consumed: bool = False) -> list[tuple[str, str, datetime, dict[str, Any]]]:
        """(key, kind, at, doc) of the signals not yet consumed (all with `consumed`), oldest first."""
        found = self.database.all(sql.SIGNALS if consumed else sql.SIGNALS_OPEN, loop=loop)
        return [(key, kind, moment(at), load(doc)) for key, kind, at, doc in found]

    def effects(self, *, topic: str | None = None, status: str | None = None, id: str | None = None) -> list[Effect]:
        """Outbox entries, oldest first."""
        given = {"topic": topic, "status": status, "id": id}
        filters = {name: value for name, value in given.items() if value is not None}
        shape = ("effects", *filters)
        query = self._shapes.get(shape)
        if query is None:
            query = self._shapes[shape] = sql.effects(*filters)
        return [_effect(found) for found in self.database.all(query, **filters)]

    def claim(self, topic: str, owner: str, *, lease_s: float, limit: int = 1) -> list[tuple[Effect, int]]:
        """Take pending effects (or running ones whose lease ran out) with a fence number each."""
        if self.database.one(sql.OPEN_EFFECT, topic=topic) is None:  # mostly: no need to wait for the disk then
            return []
        taken = self._write(self._claim, of_topic=topic, by=owner, in_ms=round(lease_s * 1000), most=limit)
        return [(_effect(found[1:9]), found[9]) for found in sorted(taken, key=lambda found: found[0])]

    def settle(
        self,
        id: str,
        fence: int,
        *,
        result: dict[str, Any] | None = None,
        error: str | None = None,
        retry_in_s: float | None = None,
    ) -> bool:
        """Record what came of a claimed effect; false when the fence was overtaken."""
        status = "pending" if retry_in_s is not None else "done" if error is None else "failed"
        return self._change(
            sql.SETTLE,
            of_id=id,
            of_fence=fence,
            new_status=status,
            new_result=None if result is None else dump(result),
            new_error=error,
            in_ms=round((retry_in_s or 0.0) * 1000),
        )

    def extend(self, id: str, fence: int, *, lease_s: float) -> bool:
        """Keep a claimed effect for longer; false when it was overtaken."""
        return self._change(sql.EXTEND, of_id=id, of_fence=fence, in_ms=round(lease_s * 1000))

    def lease(self, name: str, owner: str, *, lease_s: float) -> Lease | None:
        """Take or renew a named lease; null while another holds it."""
        taken = self._write(self._upserts.lease, name=name, owner=owner, in_ms=round(lease_s * 1000))
        return Lease(name, owner, taken[0][0]) if taken else None

    def release(self, lease: Lease) -> None:
        """Give a lease back; one that was overtaken stays with its new owner."""
        self._change(sql.RELEASE, of_name=lease.name, of_owner=lease.owner, of_fence=lease.fence)

    def owners(self) -> list[str]:
        """Who holds a lease or a claimed effect now."""
        return sorted(str(owner) for (owner,) in self.database.all(sql.OWNERS))

    def evict(self, owner: str) -> None:
        """Let everything that an owner holds run out at once."""
        self._change(sql.EVICT_LEASES, of_owner=owner)
        self._change(sql.EVICT_EFFECTS, of_owner=owner)

    def meta(self, key: str) -> str | None:
        """A workspace-wide value, or null."""
        found = self.database.one(sql.META, key=key)
        return None if found is None else str(found[0])

    def entries(self, *, after: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """Audit entries in order: seq, at, recorded_at, action, actor, subject, doc, prev, hash."""
        names = ("seq", "at", "recorded_at", "action", "actor", "subject", "doc", "prev", "hash")
        found = self.database.all(sql.ENTRIES, after=after, most=_EVERY if limit is None else limit)
        entries = [dict(zip(names, row, strict=True)) for row in found]
        for entry in entries:
            entry["doc"] = load(entry["doc"])
        return entries

    def close(self) -> None:
        """Close the connections."""
        self.database.close()

    def _write(self, query: Query, **values: Any) -> list[Any]:
        with self._alone() as connection:
            return self.database.execute(connection, query, values).fetchall()  # type: ignore[no-any-return]

    def _change(self, query: Query, **values: Any) -> bool:
        with self._alone() as connection:
            return bool(self.database.execute(connection, query, values).rowcount)

    @contextmanager
    def _alone(self) -> Iterator[Any]:
        """For single statements: SQLite's write lock, PostgreSQL's row locks."""
        if self.database.is_sqlite:
            with self.database.write(durable=True) as connection:
                yield connection
        else:
            with self.database.connection() as connection:
                yield connection


def _fields(cls: type[Any], where: dict[str, Any]) -> dict[str, Any]:
    """What to compare top-level fields with; times as the text that documents hold."""
    fields = {field.name for field in dataclasses.fields(cls)}
    for name, value in where.items():
        if name not in fields:
            raise Invalid(
                f"{cls.__name__} has no field {name!r}",
                why=f"its fields are {', '.join(sorted(fields))}",
                fix="search by one of those",
            )
        if not isinstance(value, (str, int, float, datetime, NoneType)):
            raise Invalid(
                f"{name}={value!r} cannot be searched for",
                why="only text, numbers, booleans, times and null can be compared",
                fix="filter the list that find returns",
            )
    return {name: iso(value) if isinstance(value, datetime) else value for name, value in where.items()}


def _pointer(found: Sequence[Any]) -> Pointer:
    kind, name, target, generation, at, doc = found
    return Pointer(kind, name, target, generation, moment(at), load(doc))


def _row(found: Sequence[Any]) -> Row:
    kind, id, state, generation, doc = found
    return Row(kind, id, state, generation, load(doc))


def _effect(found: Sequence[Any]) -> Effect:
    id, topic, kind, status, request, result, attempts, error = found
    return Effect(id, topic, kind, status, load(request), load(result), attempts, error)


__all__ = ["SqlRecords"]
