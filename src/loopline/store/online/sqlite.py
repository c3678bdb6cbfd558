"""Latest value by key, in one SQLite file."""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from loopline.base.errors import Invalid, Unavailable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TABLE = """
CREATE TABLE IF NOT EXISTS online (
    view TEXT NOT NULL, key TEXT NOT NULL, at INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (view, key)
) WITHOUT ROWID
"""
_PUT = """
INSERT INTO online VALUES (?, ?, ?, ?) ON CONFLICT (view, key)
DO UPDATE SET at = excluded.at, value = excluded.value WHERE excluded.at >= online.at
"""
_GET = "SELECT at, value FROM online WHERE view = ? AND key = ?"


class SqliteOnline:
    """`Online` in a SQLite file with a write-ahead log.

    Values survive the death of any process; the last ones may be lost in a
    power cut (they can be built again from the tables).
    """

    def __init__(self, path: Path, *, busy_s: float = 30.0) -> None:
        self._file, self._busy_s = Path(path), busy_s
        self._idle: deque[sqlite3.Connection] = deque()
        self._pid = os.getpid()
        with self._connection():
            pass

    def put_many(self, view: str, values: Mapping[str, tuple[datetime, bytes]]) -> None:
        """Keep values by key, all or none; an older event time changes nothing."""
        rows = [(view, key, _micros(at), value) for key, (at, value) in values.items()]
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(_PUT, rows)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def get(self, view: str, key: str) -> tuple[datetime, bytes] | None:
        """The newest value of a key with its event time (UTC); null when never put."""
        with self._connection() as connection:
            row = connection.execute(_GET, (view, key)).fetchone()
        return None if row is None else (_EPOCH + row[0] * _MICROSECOND, row[1])

    def get_many(self, view: str, keys: Sequence[str]) -> list[tuple[datetime, bytes] | None]:
        """As `get`, in the order of `keys`, as of one moment."""
        found: list[tuple[datetime, bytes] | None] = []
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                for key in keys:
                    row = connection.execute(_GET, (view, key)).fetchone()
                    found.append(None if row is None else (_EPOCH + row[0] * _MICROSECOND, row[1]))
            finally:
                connection.execute("COMMIT")
        return found

    def delete(self, view: str, key: str) -> None:
        """Forget a key."""
        with self._connection() as connection:
            connection.execute("DELETE FROM online WHERE view = ? AND key = ?", (view, key))

    def close(self) -> None:
        """Close every connection."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if self._pid != os.getpid():
            self._idle, self._pid = deque(), os.getpid()
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection
            finally:
                self._idle.append(connection)
        except sqlite3.Error as error:
            raise Unavailable(
                f"the online values in {self._file} cannot be used: {error}",
                why="the file is locked, damaged, read-only, or the disk is full",
                fix="free some space or make it writable; a damaged file may be deleted and is filled again",
            ) from error

    def _connect(self) -> sqlite3.Connection:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"{self._file.parent} cannot be made: {error.strerror}",
                why="the online values live there",
                fix="choose a folder you may write to",
            ) from error
        connection = sqlite3.connect(
            self._file, timeout=self._busy_s, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA mmap_size=268435456")
            connection.execute(_TABLE)
        except BaseException:
            connection.close()
            raise
        return connection


def _micros(at: datetime) -> int:
    if at.tzinfo is None:
        raise Invalid(
            f"{at} carries no time zone",
            why="Loopline never guesses a zone",
            fix="attach one, for example datetime(..., tzinfo=UTC)",
        )
    return (at - _EPOCH) // _MICROSECOND
