"""Facts, pointers, states, signals, effects, leases, audit, meta."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

Key = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Json = sa.Text().with_variant(postgresql.JSONB(), "postgresql")
Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "fact",
        sa.Column("n", Number, primary_key=True, autoincrement=True),
        sa.Column("kind", Key, nullable=False),
        sa.Column("id", Key, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("doc", Json, nullable=False),
    )
    op.create_index("fact_kind_id", "fact", ["kind", "id"], unique=True)
    op.create_index("fact_kind_n", "fact", ["kind", "n"])
    op.create_table(
        "pointer",
        sa.Column("kind", Key, primary_key=True),
        sa.Column("name", Key, primary_key=True),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("generation", Number, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("doc", sa.Text, nullable=False),
    )
    op.create_table(
        "state",
        sa.Column("kind", Key, primary_key=True),
        sa.Column("id", Key, primary_key=True),
        sa.Column("state", Key, nullable=False),
        sa.Column("generation", Number, nullable=False),
        sa.Column("doc", sa.Text, nullable=False),
    )
    op.create_index("state_kind_state", "state", ["kind", "state"])
    op.create_table(
        "signal",
        sa.Column("n", Number, primary_key=True, autoincrement=True),
        sa.Column("loop", Key, nullable=False),
        sa.Column("key", Key, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", Key, nullable=False),
        sa.Column("doc", sa.Text, nullable=False),
        sa.Column("consumed_by", sa.Text),
    )
    op.create_index("signal_loop_key", "signal", ["loop", "key"], unique=True)
    op.create_index("signal_open", "signal", ["loop", "consumed_by", "at"])
    op.create_table(
        "effect",
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
    )
    op.create_index("effect_open", "effect", ["topic", "status", "due"])
    op.create_table(
        "lease",
        sa.Column("name", Key, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("fence", Number, nullable=False),
        sa.Column("until", Number, nullable=False),
    )
    op.create_table(
        "audit",
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
    op.create_table("meta", sa.Column("key", Key, primary_key=True), sa.Column("value", sa.Text, nullable=False))
