"""How Alembic runs here: on the connection it is handed, inside the caller's transaction."""

from __future__ import annotations

from alembic import context

from loopline.store.records.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
