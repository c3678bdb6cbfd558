"""Latest value by key, in one SQLite file."""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from loopline.base.clock import monotonic
from loopline.base.errors import Invalid, Unavailable
from loopline.store.online.protocol import SEPARATOR, place

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TABLE = """
CREATE TABLE IF NOT EXISTS latest (place TEXT PRIMARY KEY, at INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID
"""
_PUT = """
INSERT INTO latest VALUES (?, ?, ?) ON CONFLICT (place)
DO UPDATE SET at = excluded.at, value = excluded.value WHERE excluded.at >= latest.at
"""
_WRITE = "INSERT OR REPLACE INTO latest VALUES (?, ?, ?)"
_DELETE = "DELETE FROM latest WHERE place = ?"
_GET = "SELECT at, value FROM latest WHERE place = ?"
_AT_ONCE = 512
_STEP = 16
"""More places than this are asked for in multiples of it."""
_LOOK_S = 0.01
"""For so long a reader may miss that the file was deleted or replaced underneath."""
_PATIENCE_MS = 20
"""For so long a read waits for a lock. A log written ahead lets readers wait for nobody in ordinary life, and whoever
reads may hold up all requests of a server; writers wait for each other, up to `busy_s`."""
_REST_S = 0.25
"""For so long a file that was found locked is not asked again, unless another one comes in its place."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_WAL_PAGES = 2_000
"""Pages of the log between checkpoints: enough that a page which changes every batch is not copied every time; few,
because a read that finds its page in the log takes nearly twice as long."""


class SqliteOnline:
    """`Online` in a SQLite file with a write-ahead log.

    Values survive the death of any process; the last ones may be lost in a
    power cut (they can be built again from the tables). A file that was deleted
    or replaced underneath is opened anew, and what was forgotten is overwritten.
    A read of a file that another process keeps locked gives up within milliseconds.
    """

    def __init__(self, path: Path, *, busy_s: float = 30.0) -> None:
        self._file, self._busy_s = Path(path), busy_s
        self._idle: deque[sqlite3.Connection] = deque()
        self._patient: deque[sqlite3.Connection] = deque()
        """Connections that read, and those that write: they differ in how long they wait for a lock."""
        self._locked: tuple[float, str] | None = None
        """Until when the file is not asked again, and what it said."""
        self._pid = os.getpid()
        self._opened: tuple[int, int] | None = None
        self._looked = 0.0
        with self._connection():
            pass
        with suppress(IndexError):
            self._idle.append(_hasty(self._patient.pop()))

    def put_many(self, view: str, values: Mapping[str, tuple[datetime, bytes]]) -> None:
        """Keep values by key, all or none; an older event time changes nothing."""
        rows = [(place(view, key), micros(at), value) for key, (at, value) in values.items()]
        with self._writing() as connection:
            connection.executemany(_PUT, rows)

    def get(self, view: str, key: str) -> tuple[datetime, bytes] | None:
        """The newest value of a key with its event time (UTC); null when never put."""
        with self._connection() as connection:
            row = connection.execute(_GET, (place(view, key),)).fetchone()
        return None if row is None else (_EPOCH + row[0] * _MICROSECOND, row[1])

    def get_many(self, view: str, keys: Sequence[str]) -> list[tuple[datetime, bytes] | None]:
        """As `get`, in the order of `keys`, as of one moment."""
        found = self._found("at, value", [place(view, key) for key in keys])
        rows = (found.get(place(view, key)) for key in keys)
        return [None if row is None else (_EPOCH + row[0] * _MICROSECOND, row[1]) for row in rows]

    def delete(self, view: str, key: str) -> None:
        """Forget a key; its value leaves the log of the file too, unless a reader holds on to it."""
        with self._connection() as connection:
            connection.execute(_DELETE, (place(view, key),))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def read(self, places: Sequence[str]) -> list[bytes | None]:
        """The values at some places, as of one moment."""
        if 0 < len(places) <= _AT_ONCE and self._pid == os.getpid():
            if monotonic() - self._looked >= _LOOK_S:
                self._look()
            try:
                idle = self._idle
                connection = idle.pop()
                try:
                    found = dict(connection.execute(*_looked_up(places)).fetchall())
                except sqlite3.Error as error:
                    self._rest(error)
                    raise
                finally:
                    idle.append(connection)
                return [found.get(one) for one in places]
            except (IndexError, sqlite3.Error):
                pass  # no connection yet, or an error: the slow way opens one, or says what is wrong
        rows = self._found("value", places)
        return [rows[one][0] if one in rows else None for one in places]

    def write(
        self,
        values: Mapping[str, bytes],
        at: datetime,
        *,
        gone: Sequence[str] = (),
        only_if: tuple[str, bytes | None] | None = None,
    ) -> bool:
        """Keep values by place and forget others, all or none; false where `only_if` does not hold."""
        moment = micros(at)
        rows = [(one, moment, value) for one, value in values.items()]
        with self._writing() as connection:
            if only_if is not None:
                row = connection.execute(_GET, (only_if[0],)).fetchone()
                if (None if row is None else row[1]) != only_if[1]:
                    return False
            connection.executemany(_WRITE, rows)
            connection.executemany(_DELETE, [(one,) for one in gone])
        return True

    def keys(self, view: str) -> list[str]:
        """The keys of a view, sorted."""
        start, end = _span(view)
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT place FROM latest WHERE place >= ? AND place < ?", (start, end)
            ).fetchall()
        return sorted(row[0][len(start) :] for row in rows)

    def count(self, view: str) -> int:
        """How many keys a view has."""
        with self._connection() as connection:
            (n,) = connection.execute(
                "SELECT COUNT(*) FROM latest WHERE place >= ? AND place < ?", _span(view)
            ).fetchone()
        return int(n)

    def _found(self, columns: str, places: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        found: dict[str, tuple[Any, ...]] = {}
        with self._connection(hasty=True) as connection:
            connection.execute("BEGIN")
            try:
                for start in range(0, len(places), _AT_ONCE):
                    some = places[start : start + _AT_ONCE]
                    found.update((row[0], row[1:]) for row in connection.execute(_select(columns, len(some)), some))
            finally:
                connection.execute("COMMIT")
        return found

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close every connection."""
        for idle in (self._idle, self._patient):
            while idle:
                idle.pop().close()

    @contextmanager
    def _connection(self, *, hasty: bool = False) -> Iterator[sqlite3.Connection]:
        if self._pid != os.getpid():
            self._idle, self._patient, self._pid = deque(), deque(), os.getpid()
        self._look()
        idle = self._idle if hasty else self._patient
        try:
            if hasty and self._locked is not None:
                until, said = self._locked
                if monotonic() < until:
                    raise self._unusable(said, sqlite3.SQLITE_BUSY)
                self._locked = None
            try:
                connection = idle.pop()
            except IndexError:
                connection = self._connect(hasty)
            try:
                yield connection
            except sqlite3.Error as error:
                if _code(error) in _BUSY and not hasty:
                    idle.append(connection)
                else:  # the next one sees the file as it is then, mended or not
                    connection.close()
                raise
            except BaseException:
                idle.append(connection)
                raise
            idle.append(connection)
        except sqlite3.Error as error:
            if hasty:
                self._rest(error)
            raise self._unusable(str(error), _code(error)) from error

    def _rest(self, error: sqlite3.Error) -> None:
        """Do not ask a locked file again for a while: each time costs the wait for its lock."""
        if _code(error) in _BUSY:
            self._locked, self._idle = (monotonic() + _REST_S, str(error)), deque()

    def _unusable(self, said: str, code: int) -> Unavailable:
        why, fix = _told(code)
        return Unavailable(f"the online values in {self._file} cannot be used: {said}", why=why, fix=fix)

    def _look(self) -> None:
        """Let go of the file where another one, or none, has come in its place."""
        self._looked = monotonic()
        found = _identity(self._file)
        if found != self._opened:
            olds, self._opened, self._locked = (self._idle, self._patient), found, None
            self._idle, self._patient = deque(), deque()
            for old in olds:
                while old:
                    old.pop().close()

    def _connect(self, hasty: bool) -> sqlite3.Connection:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"{self._file.parent} cannot be made: {error.strerror}",
                why="the online values live there",
                fix="choose a folder you may write to",
            ) from error
        wait = _PATIENCE_MS / 1000 if hasty else self._busy_s
        connection = sqlite3.connect(
            self._file, timeout=wait, isolation_level=None, check_same_thread=False, cached_statements=128
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("PRAGMA mmap_size=268435456")
            connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
            connection.execute(_TABLE)
        except BaseException:
            connection.close()
            raise
        self._opened = _identity(self._file)
        return connection


def _hasty(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute(f"PRAGMA busy_timeout={_PATIENCE_MS}")
    return connection


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _told(code: int) -> tuple[str, str]:
    """Why the file cannot be used, by the code of SQLite's error, and what helps."""
    if code in _DAMAGED:
        return "the file is damaged", "`loopline features publish --backfill` sets it aside and fills a new one"
    if code in _BUSY:
        return "another process keeps the file locked", "wait for it, or stop it"
    if code == sqlite3.SQLITE_FULL:
        return "the disk is full", "free some space"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return "the file cannot be opened or written", "make it, and its folder, a file that you may write to"
    return (
        "the file was changed or moved underneath while its -wal and -shm stayed, or the disk fails",
        "`loopline features publish --backfill` sets it aside and fills a new one; if that fails too, see to the disk",
    )


def damaged(path: Path) -> bool:
    """Whether there is a file of online values that is none, not whole, or stands beside a log of another one."""
    if not path.is_file():
        return False
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.Error as error:
        return _code(error) in (*_DAMAGED, sqlite3.SQLITE_IOERR)
    finally:
        connection.close()


def set_aside(path: Path) -> Path:
    """Move a damaged file of online values out of the way, its log too."""
    away = path.with_name(f"{path.name}.damaged")
    for end in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            os.replace(f"{path}{end}", f"{away}{end}")
    return away


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@cache
def _select(columns: str, n: int) -> str:
    return f"SELECT place, {columns} FROM latest WHERE place IN ({','.join('?' * n)})"


def _looked_up(places: Sequence[str]) -> tuple[str, Sequence[str | None]]:
    """The statement for `read` and its parameters: few different ones, so that they stay prepared."""
    n = len(places)
    wide = n if n <= _STEP else -(-n // _STEP) * _STEP
    return _join(wide), places if wide == n else (*places, *(None,) * (wide - n))


@cache
def _span(view: str) -> tuple[str, str]:
    """The places of a view: from the first on, before the second."""
    return place(view, ""), f"{view}{chr(ord(SEPARATOR) + 1)}"


def _join(n: int) -> str:
    asked = ",".join(["(?)"] * n)
    return f"SELECT column1, value FROM (VALUES {asked}) CROSS JOIN latest ON place = column1"


def micros(at: datetime) -> int:
    """A moment as whole microseconds since 1970; `Invalid` without a zone."""
    if at.tzinfo is None:
        raise Invalid(
            f"{at} carries no time zone",
            why="Loopline never guesses a zone",
            fix="attach one, for example datetime(..., tzinfo=UTC)",
        )
    return (at - _EPOCH) // _MICROSECOND
