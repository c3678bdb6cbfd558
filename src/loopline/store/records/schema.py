"""The tables of the records; `migrations/` brings a database to this shape."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

REVISION = "0001"
"""The newest migration."""

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Json = sa.Text().with_variant(postgresql.JSONB(), "postgresql")
Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

metadata = sa.MetaData()

fact = sa.Table(
    "fact",
    metadata,
    sa.Column("n", Number, primary_key=True, autoincrement=True),
    sa.Column("kind", Key, nullable=False),
    sa.Column("id", Key, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("doc", Json, nullable=False),
    sa.Index("fact_kind_id", "kind", "id", unique=True),
    sa.Index("fact_kind_n", "kind", "n"),
)
pointer = sa.Table(
    "pointer",
    metadata,
    sa.Column("kind", Key, primary_key=True),
    sa.Column("name", Key, primary_key=True),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("generation", Number, nullable=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("doc", sa.Text, nullable=False),
)
state = sa.Table(
    "state",
    metadata,
    sa.Column("kind", Key, primary_key=True),
    sa.Column("id", Key, primary_key=True),
    sa.Column("state", Key, nullable=False),
    sa.Column("generation", Number, nullable=False),
    sa.Column("doc", sa.Text, nullable=False),
    sa.Index("state_kind_state", "kind", "state"),
)
signal = sa.Table(
    "signal",
    metadata,
    sa.Column("n", Number, primary_key=True, autoincrement=True),
    sa.Column("loop", Key, nullable=False),
    sa.Column("key", Key, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("at", Key, nullable=False),
    sa.Column("doc", sa.Text, nullable=False),
    sa.Column("consumed_by", sa.Text),
    sa.Index("signal_loop_key", "loop", "key", unique=True),
    sa.Index("signal_open", "loop", "consumed_by", "at"),
)
effect = sa.Table(
    "effect",
    metadata,
    sa.Column("n", Number, primary_key=True, autoincrement=True),
    sa.Column("id", Key, nullable=False, unique=True),
    sa.Column("topic", Key, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("status", Key, nullable=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("result", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("attempts", Number, nullable=False),
    sa.Column("owner", sa.Text),
    sa.Column("fence", Number, nullable=False),
    sa.Column("due", Number, nullable=False),
    sa.Index("effect_open", "topic", "status", "due"),
)
"""`due` is database time in milliseconds: when a pending effect may start, or the lease of a running one ends."""

lease = sa.Table(
    "lease",
    metadata,
    sa.Column("name", Key, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("fence", Number, nullable=False),
    sa.Column("until", Number, nullable=False),
)
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", Number, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("recorded_at", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("doc", sa.Text, nullable=False),
    sa.Column("prev", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)
meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", Key, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


class now_ms(GenericFunction[int]):
    """The database's own time, in milliseconds since 1970."""

    type = sa.BigInteger()
    inherit_cache = True
    name = "now_ms"


@compiles(now_ms, "sqlite")
def _now_in_sqlite(element: now_ms, compiler: sa.Compiled, **options: object) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(now_ms, "postgresql")
def _now_in_postgresql(element: now_ms, compiler: sa.Compiled, **options: object) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
