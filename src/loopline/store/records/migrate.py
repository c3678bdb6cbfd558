"""Bring a database to the newest revision; leave a newer one alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from loopline.base.errors import Conflict, Unavailable
from loopline.store.records.database import Database
from loopline.store.records.schema import REVISION

FOLDER = Path(__file__).parent / "migrations"


def open_up_to_date(database: Database) -> None:
    """See that `database` has the tables of this Loopline, with one read when it has.

    Raises
    ------
    Conflict
        If a newer Loopline wrote it; it stays as it is.
    Unavailable
        If it cannot be opened, is damaged, or another process holds it.
    """
    with database.connection() as connection:
        found = _revision(database, connection)
        if found != REVISION:
            _refuse_newer(database, found)
            database.prepare(connection)
            _migrate(database, connection)


def known_revisions() -> set[str]:
    """The revisions this Loopline has a migration for."""
    return {path.stem.split("_")[0] for path in (FOLDER / "versions").glob("[0-9]*_*.py")}


def _revision(database: Database, connection: Any) -> str | None:
    if database.is_sqlite:
        table = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
    else:
        table = "SELECT 1 WHERE to_regclass('alembic_version') IS NOT NULL"
    if connection.execute(table).fetchone() is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def _refuse_newer(database: Database, found: str | None) -> None:
    if found is not None and found not in known_revisions():
        raise Conflict(
            f"the records in {database.place} have revision {found}",
            why=f"this Loopline knows revisions up to {REVISION}; nothing was changed",
            fix="pip install --upgrade loopline",
        )


def _migrate(database: Database, connection: Any) -> None:
    """Run the missing migrations in one transaction; who comes second finds them done."""
    from alembic import command
    from alembic.config import Config

    engine = sa.create_engine(database.url, creator=lambda: connection, poolclass=StaticPool)
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    try:
        with engine.connect() as opened, opened.begin():
            database.begin(connection, durable=True)
            found = _revision(database, connection)
            _refuse_newer(database, found)
            if found != REVISION:
                config.attributes["connection"] = opened
                command.upgrade(config, "head")
    except sa.exc.DBAPIError as error:
        database.roll_back(connection)
        raise Unavailable(
            f"the records in {database.place} could not be brought up to date: {error.orig}",
            why=f"a migration to revision {REVISION} stopped; nothing was changed",
            fix="free some space or make the folder writable, then open it again",
        ) from error
    except BaseException:
        database.roll_back(connection)
        raise
