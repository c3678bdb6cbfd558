"""Every statement of the records, in SQLAlchemy Core."""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert_in_postgresql
from sqlalchemy.dialects.sqlite import insert as upsert_in_sqlite

from loopline.store.records.database import Query
from loopline.store.records.schema import audit, effect, fact, lease, meta, now_ms, pointer, signal, state

P = sa.bindparam

FACT = Query(sa.select(fact.c.doc).where(fact.c.kind == P("kind"), fact.c.id == P("id")))
FACT_DIGEST = Query(sa.select(fact.c.digest).where(fact.c.kind == P("kind"), fact.c.id == P("id")))
FACTS_BY_PREFIX = Query(
    sa.select(fact.c.id, fact.c.doc)
    .where(fact.c.kind == P("kind"), fact.c.id >= P("low"), fact.c.id < P("high"))
    .order_by(fact.c.id)
    .limit(3)
)
POINTER = Query(sa.select(pointer).where(pointer.c.kind == P("kind"), pointer.c.name == P("name")))
POINTERS = Query(sa.select(pointer).where(pointer.c.kind == P("kind")).order_by(pointer.c.name))
STATE = Query(sa.select(state).where(state.c.kind == P("kind"), state.c.id == P("id")))
STATES = Query(sa.select(state).where(state.c.kind == P("kind")).order_by(state.c.id))
STATES_IN = Query(sa.select(state).where(state.c.kind == P("kind"), state.c.state == P("state")).order_by(state.c.id))
_SIGNAL = sa.select(signal.c.key, signal.c.kind, signal.c.at, signal.c.doc).where(signal.c.loop == P("loop"))
SIGNALS = Query(_SIGNAL.order_by(signal.c.at, signal.c.n))
SIGNALS_OPEN = Query(_SIGNAL.where(signal.c.consumed_by.is_(None)).order_by(signal.c.at, signal.c.n))
META = Query(sa.select(meta.c.value).where(meta.c.key == P("key")))
ENTRIES = Query(sa.select(audit).where(audit.c.seq > P("after")).order_by(audit.c.seq).limit(P("most")))
LAST_ENTRY = Query(sa.select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1))

ADD_ENTRY = Query(sa.insert(audit))
CONSUME = Query(
    sa.update(signal)
    .where(signal.c.loop == P("of_loop"), signal.c.key == P("of_key"), signal.c.consumed_by.is_(None))
    .values(consumed_by=P("by"))
)
SETTLE = Query(
    sa.update(effect)
    .where(effect.c.id == P("of_id"), effect.c.fence == P("of_fence"), effect.c.status == "running")
    .values(
        status=P("new_status"),
        result=P("new_result"),
        error=P("new_error"),
        due=now_ms() + sa.cast(P("in_ms"), sa.BigInteger),
    )
)
EXTEND = Query(
    sa.update(effect)
    .where(effect.c.id == P("of_id"), effect.c.fence == P("of_fence"), effect.c.status == "running")
    .values(due=now_ms() + sa.cast(P("in_ms"), sa.BigInteger))
)
RELEASE = Query(
    sa.update(lease)
    .where(lease.c.name == P("of_name"), lease.c.owner == P("of_owner"), lease.c.fence == P("of_fence"))
    .values(until=0)
)
OWNERS = Query(
    sa.select(lease.c.owner)
    .where(lease.c.until > now_ms())
    .union(sa.select(effect.c.owner).where(effect.c.status == "running", effect.c.due > now_ms()))
)
EVICT_LEASES = Query(sa.update(lease).where(lease.c.owner == P("of_owner")).values(until=0))
EVICT_EFFECTS = Query(
    sa.update(effect).where(effect.c.owner == P("of_owner"), effect.c.status == "running").values(due=0)
)

OPEN_EFFECT = Query(
    sa.select(effect.c.n)
    .where(
        effect.c.topic == P("topic"),
        sa.or_(effect.c.status == "pending", effect.c.status == "running"),
        effect.c.due <= now_ms(),
    )
    .limit(1)
)
_EFFECT = (
    effect.c.id,
    effect.c.topic,
    effect.c.kind,
    effect.c.status,
    effect.c.request,
    effect.c.result,
    effect.c.attempts,
    effect.c.error,
)


def facts(empty: dict[str, bool], *, limit: int | None, newest_first: bool, is_sqlite: bool) -> Query:
    """Facts of a kind whose fields are null (where `empty` says so) or equal `is_<field>`."""
    chosen = sa.select(fact.c.doc).where(fact.c.kind == P("kind"))
    for name, is_empty in empty.items():
        if is_sqlite:
            member: Any = sa.func.json_extract(fact.c.doc, sa.literal_column(f"'$.{name}'"))
            chosen = chosen.where(member.is_(None) if is_empty else member == P(f"is_{name}"))
        else:
            member = fact.c.doc.op("->")(sa.literal_column(f"'{name}'"))
            given = sa.literal_column("'null'") if is_empty else P(f"is_{name}", type_=sa.Text)
            chosen = chosen.where(member == sa.cast(given, JSONB))
    chosen = chosen.order_by(fact.c.n.desc() if newest_first else fact.c.n)
    return Query(chosen if limit is None else chosen.limit(limit))


@functools.cache
def last_states(fields: tuple[str, ...], *, is_sqlite: bool) -> Query:
    """States of a kind by id, the greatest first, whose documents say `is_<field>`."""
    chosen = sa.select(state).where(state.c.kind == P("kind"))
    for name in fields:
        if is_sqlite:
            member: Any = sa.func.json_extract(state.c.doc, sa.literal_column(f"'$.{name}'"))
        else:
            member = sa.cast(state.c.doc, JSONB).op("->>")(sa.literal_column(f"'{name}'"))
        chosen = chosen.where(member == P(f"is_{name}", type_=sa.Text))
    return Query(chosen.order_by(state.c.id.desc()).limit(P("most")))


def effects(*filters: str) -> Query:
    """Outbox entries, oldest first, where the named columns equal their parameters."""
    chosen = sa.select(*_EFFECT).order_by(effect.c.n)
    return Query(chosen.where(*(effect.c[name] == P(name) for name in filters)))


def claim() -> Query:
    """Take the oldest effects that are due; rows that another worker is taking are passed over."""
    open_ = (
        sa.select(effect.c.n)
        .where(
            effect.c.topic == P("of_topic"),
            sa.or_(effect.c.status == "pending", effect.c.status == "running"),
            effect.c.due <= now_ms(),
        )
        .order_by(effect.c.n)
        .limit(P("most"))
        .with_for_update(skip_locked=True)
        .cte("open_effects")
    )
    return Query(
        sa.update(effect)
        .where(effect.c.n.in_(sa.select(open_.c.n)))
        .values(
            status="running",
            owner=P("by"),
            attempts=effect.c.attempts + 1,
            fence=effect.c.fence + 1,
            due=now_ms() + sa.cast(P("in_ms"), sa.BigInteger),
        )
        .returning(effect.c.n, *_EFFECT, effect.c.fence)
    )


class Upserts:
    """The statements that SQLite and PostgreSQL spell through their own insert."""

    def __init__(self, *, is_sqlite: bool) -> None:
        insert: Any = upsert_in_sqlite if is_sqlite else upsert_in_postgresql
        self.fact = Query(
            insert(fact)
            .values({name: P(name) for name in ("kind", "id", "digest", "doc")})
            .on_conflict_do_nothing(index_elements=["kind", "id"])
        )
        self.signal = Query(
            insert(signal)
            .values({name: P(name) for name in ("loop", "key", "kind", "at", "doc")})
            .on_conflict_do_nothing(index_elements=["loop", "key"])
        )
        self.effect = Query(
            insert(effect)
            .values(
                **{name: P(name) for name in ("id", "topic", "kind", "request")},
                status="pending",
                attempts=0,
                fence=0,
                due=0,
            )
            .on_conflict_do_nothing(index_elements=["id"])
        )
        self.meta = self._replace(insert(meta), ["key"], ["value"])
        self.pointer = self._replace(insert(pointer), ["kind", "name"], ["target", "generation", "at", "doc"])
        self.state = self._replace(insert(state), ["kind", "id"], ["state", "generation", "doc"])
        until = now_ms() + sa.cast(P("in_ms"), sa.BigInteger)
        taken = insert(lease).values(name=P("name"), owner=P("owner"), fence=1, until=until)
        kept = sa.and_(lease.c.owner == taken.excluded.owner, lease.c.until > now_ms())
        self.lease = Query(
            taken.on_conflict_do_update(
                index_elements=["name"],
                set_={
                    "owner": taken.excluded.owner,
                    "until": taken.excluded.until,
                    "fence": sa.case((kept, lease.c.fence), else_=lease.c.fence + 1),
                },
                where=sa.or_(kept, lease.c.until <= now_ms()),
            ).returning(lease.c.fence)
        )

    @staticmethod
    def _replace(into: Any, keys: list[str], values: list[str]) -> Query:
        given = into.values({name: P(name) for name in keys + values})
        return Query(
            given.on_conflict_do_update(index_elements=keys, set_={name: given.excluded[name] for name in values})
        )
