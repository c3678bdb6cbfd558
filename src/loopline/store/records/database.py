"""Connections to SQLite or PostgreSQL, and Core statements compiled once for them.

Statements are written in SQLAlchemy Core and run on the driver itself: a read
costs tens of microseconds, not hundreds.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from loopline.base.errors import Invalid, Unavailable, missing_extra

_LOCK = 0x6C6F6F70
"""The advisory lock that makes PostgreSQL's transactions one at a time."""


class Query:
    """A Core statement, compiled for a database when first run there."""

    __slots__ = ("_compiled", "statement")

    def __init__(self, statement: sa.sql.ClauseElement) -> None:
        self.statement = statement
        self._compiled: dict[str, tuple[str, tuple[str, ...] | None, dict[str, Any]]] = {}

    def for_(self, dialect: sa.Dialect) -> tuple[str, tuple[str, ...] | None, dict[str, Any]]:
        """SQL text, the order of its parameters (null: by name), and its constants."""
        found = self._compiled.get(dialect.name)
        if found is None:
            compiled: Any = self.statement.compile(dialect=dialect)
            order = tuple(compiled.positiontup) if compiled.positional else None
            found = self._compiled[dialect.name] = (str(compiled), order, dict(compiled.params))
        return found


class Database:
    """One database file or server, safe from many threads and processes.

    `write` is serialised: by SQLite's own write lock, by an advisory lock in
    PostgreSQL. `read` never waits for a writer.
    """

    def __init__(self, url: str, *, busy_s: float = 30.0) -> None:
        try:
            self.url = sa.make_url(url)
        except sa.exc.ArgumentError as error:
            raise _no_such_kind(url) from error
        if self.url.drivername.split("+")[0] not in ("sqlite", "postgresql", "postgres"):
            raise _no_such_kind(self.url.render_as_string())
        self.busy_s = busy_s
        self.is_sqlite = self.url.drivername.startswith("sqlite")
        self.dialect: sa.Dialect
        if self.is_sqlite:
            from sqlalchemy.dialects.sqlite.pysqlite import dialect as sqlite_dialect

            self.dialect = sqlite_dialect(paramstyle="qmark")
            self._operational: tuple[type[Exception], ...] = (sqlite3.OperationalError,)
            self._driver_error: type[Exception] = sqlite3.DatabaseError
        else:
            try:
                import psycopg
            except ImportError as error:
                raise missing_extra("psycopg", "postgres") from error
            self.url = self.url.set(drivername="postgresql+psycopg")
            self.dialect = self.url.get_dialect()(dbapi=psycopg)  # type: ignore[call-arg]
            self._operational = (psycopg.OperationalError, psycopg.InterfaceError)
            self._driver_error = psycopg.DatabaseError
        self._idle: deque[Any] = deque()
        self._pid = os.getpid()
        self._writing = threading.RLock()
        self._writer: int | None = None

    @property
    def place(self) -> str:
        """Where the database is, for messages: no password."""
        return str(self.url.database) if self.is_sqlite else self.url.render_as_string(hide_password=True)

    def all(self, query: Query, **values: Any) -> list[Any]:
        """Every row of a read."""
        with self.connection() as connection:
            return self.execute(connection, query, values).fetchall()  # type: ignore[no-any-return]

    def one(self, query: Query, **values: Any) -> Any:
        """The first row of a read, or null."""
        with self.connection() as connection:
            return self.execute(connection, query, values).fetchone()

    def execute(self, connection: Any, query: Query, values: dict[str, Any]) -> Any:
        """Run a statement on a connection; the cursor holds what came back."""
        sql, order, constants = query.for_(self.dialect)
        given = {**constants, **values} if constants else values
        return connection.execute(sql, given if order is None else [given[name] for name in order])

    @contextmanager
    def write(self, *, durable: bool) -> Iterator[Any]:
        """A transaction alone among writers: committed at the end, undone by an exception."""
        me = threading.get_ident()
        if self._writer == me:
            raise RuntimeError("a transaction cannot be opened inside a transaction")
        with self._writing, self.connection() as connection:
            self.begin(connection, durable=durable)
            self._writer = me
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self.roll_back(connection)
                raise
            finally:
                self._writer = None

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """A connection of the pool; what the driver raises becomes `Unavailable`."""
        if self._pid != os.getpid():
            self._idle, self._pid, self._writing = deque(), os.getpid(), threading.RLock()
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self.connect()
            try:
                yield connection
            finally:
                if self.is_sqlite or not connection.closed:
                    self._idle.append(connection)
                else:
                    self._idle.clear()
        except self._operational as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
                raise
            raise self._unavailable(error) from error
        except self._driver_error as error:
            if type(error) is sqlite3.DatabaseError:
                raise self._unavailable(error) from error
            raise

    def connect(self) -> Any:
        """A new connection in autocommit."""
        if not self.is_sqlite:
            positional, named = self.dialect.create_connect_args(self.url)
            connection = self.dialect.loaded_dbapi.connect(*positional, **named, autocommit=True)
            return connection
        file = Path(str(self.url.database))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unavailable(error) from error
        return sqlite3.connect(
            file, timeout=self.busy_s, isolation_level=None, check_same_thread=False, cached_statements=256
        )

    def prepare(self, connection: Any) -> None:
        """Settle how the database file keeps its log, once it is known to be ours."""
        if self.is_sqlite and connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode=WAL")

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def begin(self, connection: Any, *, durable: bool) -> None:
        """Open a transaction that writes alone."""
        if self.is_sqlite:
            connection.execute("PRAGMA synchronous=FULL" if durable else "PRAGMA synchronous=NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            return
        connection.execute("BEGIN")
        connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        if not durable:
            connection.execute("SET LOCAL synchronous_commit = off")

    def roll_back(self, connection: Any) -> None:
        """Undo the open transaction, if there is one."""
        if self.is_sqlite:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        elif not connection.closed:
            connection.execute("ROLLBACK")

    def _unavailable(self, error: Exception) -> Unavailable:
        said = str(error).strip() or type(error).__name__
        return Unavailable(f"the records in {self.place} cannot be used: {said}", **_advice(said))


def _advice(said: str) -> dict[str, str]:
    text = said.lower()
    if "locked" in text or "busy" in text:
        return {
            "why": "another process held its write lock for longer than we wait",
            "fix": "try again; if it stays locked, look for a process that hangs in a transaction",
        }
    if "full" in text or "disk i/o" in text or "no space" in text:
        return {"why": "the disk is full or failing; nothing was changed", "fix": "free some space, then do it again"}
    if "readonly" in text or "read-only" in text or "unable to open" in text or "permission" in text:
        return {
            "why": "the folder cannot be written",
            "fix": "make it writable for this user, or choose another folder",
        }
    if "malformed" in text or "not a database" in text:
        return {
            "why": "the database file is damaged",
            "fix": "restore it from a backup; blobs and tables are untouched",
        }
    return {
        "why": "the database did not answer as it should",
        "fix": "see that it runs and can be reached, then try again",
    }


def _no_such_kind(url: str) -> Invalid:
    return Invalid(
        f"{url!r} is not a database that can hold records",
        why="records live in SQLite or PostgreSQL",
        fix="write sqlite:///path/records.db or postgresql://user@host/database",
    )
