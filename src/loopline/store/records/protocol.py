"""Facts about nouns: the promise."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

N = TypeVar("N")


@dataclass(frozen=True, slots=True)
class Pointer:
    """A name that points at a fact and can be moved."""

    kind: str
    name: str
    target: str
    generation: int
    at: datetime
    doc: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A mutable state, guarded by its generation."""

    kind: str
    id: str
    state: str
    generation: int
    doc: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on something for a while. A higher fence wins."""

    name: str
    owner: str
    fence: int


@dataclass(frozen=True, slots=True)
class Effect:
    """A request in the outbox and what came of it."""

    id: str
    topic: str
    kind: str
    status: str
    """`pending`, `running`, `done` or `failed`."""
    request: dict[str, Any]
    result: dict[str, Any] | None
    attempts: int
    error: str | None


class Tx(Protocol):
    """One transaction: all of it happens, or nothing."""

    def put(self, noun: Any) -> None:
        """Keep a noun under its kind and id. The same again changes nothing; another content is `Conflict`."""
        ...

    def move(
        self, kind: str, name: str, target: str, *, expect: int | None, at: datetime, doc: dict[str, Any] | None = None
    ) -> Pointer:
        """Point `name` at `target`; `Conflict` if it moved.

        `expect` is the generation seen: 0 when it was absent, null to skip the check.
        """
        ...

    def save(self, row: Row, *, expect: int) -> None:
        """Write a state whose generation was `expect` (0: it must be new); `Conflict` otherwise.

        `row.generation` must be `expect + 1`.
        """
        ...

    def signal(self, loop: str, key: str, kind: str, at: datetime, doc: dict[str, Any]) -> bool:
        """Add a signal once; false when the key was known."""
        ...

    def consume(self, loop: str, keys: Sequence[str], by: str) -> None:
        """Mark signals as used by a cycle."""
        ...

    def enqueue(self, id: str, topic: str, kind: str, request: dict[str, Any]) -> None:
        """Put an effect or event into the outbox once."""
        ...

    def audit(self, action: str, actor: str, subject: str, doc: dict[str, Any], *, at: datetime) -> int:
        """Append to the hash chain; returns the sequence number."""
        ...

    def set_meta(self, key: str, value: str) -> None:
        """Set a workspace-wide value."""
        ...


class Records(Protocol):
    """Facts, pointers, states, signals, leases and the outbox.

    Reads see committed data only. `transaction()` is serialisable; with
    `durable=True` it survives a power cut (decisions, approvals, audit), without
    it only the death of processes (steps). Leases use the database's own time.
    A database of a newer Loopline is refused with `Conflict` and stays as it is.
    """

    def transaction(self, *, durable: bool = True) -> AbstractContextManager[Tx]: ...

    def get(self, cls: type[N], id: str) -> N:
        """The noun with that id (a unique prefix of 8 or more characters will do); `NotFound` otherwise."""
        ...

    def find(self, cls: type[N], *, limit: int | None = None, newest_first: bool = True, **where: Any) -> list[N]:
        """Nouns whose top-level fields equal `where`, by the order they were put."""
        ...

    def pointer(self, kind: str, name: str) -> Pointer | None: ...

    def pointers(self, kind: str) -> list[Pointer]: ...

    def row(self, kind: str, id: str) -> Row | None: ...

    def rows(self, kind: str, *, state: str | None = None) -> list[Row]: ...

    def last_rows(self, kind: str, *, limit: int, **where: str) -> list[Row]:
        """States of a kind whose document says `where`, by id, the greatest first: the newest of ids that grow."""
        ...

    def signals(self, loop: str, *, consumed: bool = False) -> list[tuple[str, str, datetime, dict[str, Any]]]:
        """(key, kind, at, doc) of the signals not yet consumed (or of all with `consumed=True`), oldest first."""
        ...

    def effects(self, *, topic: str | None = None, status: str | None = None, id: str | None = None) -> list[Effect]:
        """Outbox entries, oldest first."""
        ...

    def claim(self, topic: str, owner: str, *, lease_s: float, limit: int = 1) -> list[tuple[Effect, int]]:
        """Take pending effects (or running ones whose lease ran out) with a fence number each."""
        ...

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
        ...

    def extend(self, id: str, fence: int, *, lease_s: float) -> bool:
        """Keep a claimed effect for longer; false when it was overtaken."""
        ...

    def lease(self, name: str, owner: str, *, lease_s: float) -> Lease | None:
        """Take or renew a named lease; null while another holds it."""
        ...

    def release(self, lease: Lease) -> None: ...

    def owners(self) -> list[str]:
        """Who holds a lease or a claimed effect now."""
        ...

    def evict(self, owner: str) -> None:
        """Let everything that an owner holds run out at once; for owners that are known to be dead."""
        ...

    def meta(self, key: str) -> str | None: ...

    def entries(self, *, after: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """Audit entries in order: seq, at, recorded_at, action, actor, subject, doc, prev, hash."""
        ...

    def close(self) -> None: ...
