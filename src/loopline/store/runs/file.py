"""The file of a run log: opened with its tables, told what is wrong with it, noticed when another takes its place."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from loopline.base.clock import monotonic
from loopline.base.errors import LooplineError, Unavailable
from loopline.store.runs.matching import like
from loopline.store.runs.schema import bring_up_to_date

Durability = Literal["normal", "full"]

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_BUGS = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_CONSTRAINT)
_WAL_PAGES = 4_000
_MAPPED_BYTES = 268_435_456
_LOOK_S = 1.0
"""For so long it may go unnoticed that the file was deleted or replaced underneath."""


class File:
    """One SQLite file with a write-ahead log.

    Parameters
    ----------
    path : Path
        The file; made if there is none.
    durability : "normal" or "full"
        What is committed survives the death of any process; with `full` also a power cut.
    busy_s : float
        For so long a connection waits while another process keeps the file.
    prepare : callable
        Gives the file its tables.
    """

    def __init__(
        self,
        path: Path,
        durability: Durability,
        busy_s: float,
        prepare: Callable[[sqlite3.Connection, Path], None] = bring_up_to_date,
    ) -> None:
        self.path, self._durability, self._busy_s, self._prepare = Path(path), durability, busy_s, prepare
        self._looked, self._found = 0.0, self._identity()

    def opened(self) -> sqlite3.Connection:
        """A connection to the file with its tables; processes that make it at the same moment take turns."""
        until = monotonic() + self._busy_s
        while True:
            connection: sqlite3.Connection | None = None
            try:
                connection = self.connect()
                self._prepare(connection, self.path)
            except BaseException as error:
                if connection is not None:
                    connection.close()
                if not isinstance(error, sqlite3.Error) or code(error) not in BUSY or monotonic() > until:
                    raise
                time.sleep(random.uniform(0.001, 0.01))
            else:
                self._found = self._identity()
                return connection

    def connect(self) -> sqlite3.Connection:
        """A new connection in autocommit."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"{self.path.parent} cannot be made: {error.strerror}",
                why="the run log lives there",
                fix="choose a folder you may write to",
            ) from error
        connection = sqlite3.connect(
            self.path, timeout=self._busy_s, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            connection.execute(f"PRAGMA synchronous={self._durability}")
            connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
            connection.execute("PRAGMA cache_size=-4000")
            connection.execute(f"PRAGMA mmap_size={_MAPPED_BYTES}")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.create_function("matches", 3, like, deterministic=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def is_another(self) -> bool:
        """Whether there is another file, or none, where the one was that was opened; looks once in a while."""
        now = monotonic()
        if now - self._looked < _LOOK_S:
            return False
        self._looked = now
        return self._identity() != self._found

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def told(self) -> Iterator[None]:
        """Errors of SQLite as `Unavailable`, but for those that are bugs."""
        try:
            yield
        except LooplineError:
            raise
        except sqlite3.Error as error:
            if code(error) in _BUGS:
                raise
            why, fix = _advice(error)
            raise Unavailable(f"the run log {self.path} cannot be used: {error}", why=why, fix=fix) from error

    def busy(self) -> Unavailable:
        """The error for a turn that did not come."""
        return Unavailable(f"the run log {self.path} is busy", why="others write to it", fix="try again")


def code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _advice(error: sqlite3.Error) -> tuple[str, str]:
    """Why the file cannot be used, and what helps."""
    found = code(error)
    if found in BUSY:
        return "another process kept its write lock for longer than we wait", "try again, or stop that process"
    if found in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return "the disk is full or failing; nothing of the call was kept", "free some space, then do it again"
    if found in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return "the file cannot be opened or written", "make it, and its folder, ones that you may write to"
    if found in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return "the file is damaged", "restore it from a backup; artifacts are untouched"
    if found == sqlite3.SQLITE_TOOBIG:
        return "a value is larger than the store can hold", "log it as an artifact"
    return "the database did not answer as it should", "see that the disk is sound, then try again"
