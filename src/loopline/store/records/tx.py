"""One transaction on the records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from loopline.base.clock import SystemClock
from loopline.base.errors import Conflict, Invalid
from loopline.base.ids import canonical, digest, iso
from loopline.base.nouns import kind_of, to_doc
from loopline.store.records import statements as sql
from loopline.store.records.chain import GENESIS, entry_hash
from loopline.store.records.database import Database, Query
from loopline.store.records.protocol import Pointer, Row

_now = SystemClock()


class SqlTx:
    """`Tx` on an open database transaction, alone among writers."""

    def __init__(self, database: Database, upserts: sql.Upserts, connection: Any, *, durable: bool) -> None:
        self._database, self._upserts, self._durable = database, upserts, durable
        self._connection: Any = connection
        self._last: tuple[int, str] | None = None

    def put(self, noun: Any) -> None:
        """Keep a noun under its kind and id. The same again changes nothing; another content is `Conflict`."""
        doc = to_doc(noun)
        mark = digest(canonical(doc))
        if self._run(self._upserts.fact, kind=kind_of(noun), id=noun.id, digest=mark, doc=dump(doc)).rowcount:
            return
        (kept,) = self._run(sql.FACT_DIGEST, kind=kind_of(noun), id=noun.id).fetchone()
        if kept != mark:
            raise Conflict(
                f"{kind_of(noun)} {noun.id} exists already with another content",
                why="a fact never changes once it is recorded",
                fix="give the new fact an id of its own",
            )

    def move(
        self, kind: str, name: str, target: str, *, expect: int | None, at: datetime, doc: dict[str, Any] | None = None
    ) -> Pointer:
        """Point `name` at `target`; `Conflict` if its generation is not `expect` (null: whatever it is)."""
        found = self._run(sql.POINTER, kind=kind, name=name).fetchone()
        generation = found[3] if found else 0
        if expect is not None and expect != generation:
            raise _moved(f"{kind} {name}", expect, generation)
        moved = Pointer(kind, name, target, generation + 1, at, to_doc(doc or {}))
        self._run(
            self._upserts.pointer,
            kind=kind,
            name=name,
            target=target,
            generation=moved.generation,
            at=iso(at),
            doc=dump(moved.doc),
        )
        return moved

    def save(self, row: Row, *, expect: int) -> None:
        """Write a state whose generation was `expect` (0: it must be new); `Conflict` otherwise."""
        if row.generation != expect + 1:
            raise Invalid(
                f"{row.kind} {row.id} cannot go from generation {expect} to {row.generation}",
                why="each change raises the generation by one",
                fix=f"save it with generation {expect + 1}",
            )
        found = self._run(sql.STATE, kind=row.kind, id=row.id).fetchone()
        generation = found[3] if found else 0
        if generation != expect:
            raise _moved(f"{row.kind} {row.id}", expect, generation)
        self._run(
            self._upserts.state,
            kind=row.kind,
            id=row.id,
            state=row.state,
            generation=row.generation,
            doc=dump(to_doc(row.doc)),
        )

    def signal(self, loop: str, key: str, kind: str, at: datetime, doc: dict[str, Any]) -> bool:
        """Add a signal once; false when the key was known."""
        added = self._run(self._upserts.signal, loop=loop, key=key, kind=kind, at=iso(at), doc=dump(to_doc(doc)))
        return bool(added.rowcount)

    def consume(self, loop: str, keys: Sequence[str], by: str) -> None:
        """Mark signals as used by a cycle; one that was used stays with its first."""
        for key in keys:
            self._run(sql.CONSUME, of_loop=loop, of_key=key, by=by)

    def enqueue(self, id: str, topic: str, kind: str, request: dict[str, Any]) -> None:
        """Put an effect or event into the outbox once."""
        self._run(self._upserts.effect, id=id, topic=topic, kind=kind, request=dump(to_doc(request)))

    def audit(self, action: str, actor: str, subject: str, doc: dict[str, Any], *, at: datetime) -> int:
        """Append to the hash chain; returns the sequence number."""
        if not self._durable:
            raise RuntimeError("audit entries need a durable transaction: a power cut must not lose them")
        if self._last is None:
            found = self._run(sql.LAST_ENTRY).fetchone()
            self._last = (found[0], found[1]) if found else (0, GENESIS)
        seq, prev = self._last[0] + 1, self._last[1]
        entry = {
            "seq": seq,
            "at": iso(at),
            "recorded_at": iso(_now()),
            "action": action,
            "actor": actor,
            "subject": subject,
            "doc": to_doc(doc),
            "prev": prev,
        }
        mark = entry_hash(entry)
        self._run(sql.ADD_ENTRY, **{**entry, "doc": dump(entry["doc"]), "hash": mark})
        self._last = (seq, mark)
        return seq

    def set_meta(self, key: str, value: str) -> None:
        """Set a workspace-wide value."""
        self._run(self._upserts.meta, key=key, value=value)

    def end(self) -> None:
        """Refuse further use."""
        self._connection = None

    def _run(self, query: Query, **values: Any) -> Any:
        if self._connection is None:
            raise RuntimeError("this transaction has ended")
        return self._database.execute(self._connection, query, values)


def dump(doc: Any) -> str:
    """A document as it is kept: compact JSON."""
    return json.dumps(doc, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def load(text: Any) -> Any:
    """The document that `dump` wrote (PostgreSQL hands JSON columns over as objects)."""
    return json.loads(text) if isinstance(text, str) else text


def _moved(what: str, expect: int, found: int) -> Conflict:
    return Conflict(
        f"{what} has moved: generation {found}, not {expect}",
        why="someone else changed it since it was read",
        fix="read it again and decide anew",
    )
