"""The file of a run log: connections that read, and one writer at a time who writes for all that wait.

A call that finds nobody writing writes at once, in its own thread: an idle log has no hop and no thread. Calls that
come meanwhile queue up; whoever is next takes all of them into one transaction.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, Literal, TypeVar

from loopline.base.clock import monotonic
from loopline.base.errors import LooplineError, Unavailable
from loopline.store.runs.matching import like
from loopline.store.runs.schema import bring_up_to_date

R = TypeVar("R")
Durability = Literal["normal", "full"]

GROUP = 256
"""Calls that share a commit at most."""
GATHER_S = 0.002
"""For so long a group takes calls in."""
_WAL_PAGES = 4_000
_IDLE = 8
_KEYS_KEPT = 100_000
_ABANDONED: list[object] = []
"""Connections of a parent process: closing them here would end its locks."""


class Tx:
    """A transaction that writes: its connection, and the numbers of keys."""

    __slots__ = ("_fresh", "_known", "connection", "execute", "executemany")

    def __init__(self, connection: sqlite3.Connection, known: dict[str, int]) -> None:
        self.connection, self._known, self._fresh = connection, known, dict[str, int]()
        self.execute, self.executemany = connection.execute, connection.executemany

    def key(self, name: str) -> int:
        """The number of a key, given to it when first seen."""
        found = self._known.get(name) or self._fresh.get(name)
        if found is None:
            row = self.execute("SELECT id FROM keys WHERE name = ?", (name,)).fetchone()
            if row is None:
                row = self.execute("INSERT INTO keys (name) VALUES (?) RETURNING id", (name,)).fetchone()
            found = self._fresh[name] = int(row[0])
        return found

    def settle(self) -> None:
        """What was committed holds for later transactions."""
        if self._fresh:
            if len(self._known) > _KEYS_KEPT:
                self._known.clear()
            self._known.update(self._fresh)
            self._fresh.clear()

    def forget(self) -> None:
        """Something was undone: numbers given in this transaction may be gone."""
        self._fresh.clear()


class _Call(Generic[R]):
    __slots__ = ("busy_s", "done", "error", "gate", "result", "work")

    def __init__(self, work: Callable[[Tx], R], busy_s: float) -> None:
        self.work, self.busy_s, self.done = work, busy_s, False
        self.result: R
        self.error: BaseException | None = None
        self.gate: SimpleQueue[None] = SimpleQueue()

    def end(self, error: BaseException | None) -> None:
        self.error, self.done = error, True
        self.gate.put(None)


class Database:
    """One SQLite file with a write-ahead log, safe from many threads and processes.

    `write` returns once its work is committed, together with that of calls that came at the
    same moment; an error of one undoes that one alone. `read` never waits for a writer.

    Parameters
    ----------
    path : Path
        The file; made if there is none.
    durability : "normal" or "full"
        What is acknowledged survives the death of any process; with `full` also a power cut.
    busy_s : float
        For so long a call waits while another process writes.
    """

    def __init__(self, path: Path, *, durability: Durability = "normal", busy_s: float = 30.0) -> None:
        self.path, self._durability, self._busy_s = Path(path), durability, busy_s
        self._start()
        with self._told():
            self._idle.append(self._opened())

    def _opened(self) -> sqlite3.Connection:
        """A connection to a file that has its tables; processes that make it at the same moment take turns."""
        until = monotonic() + self._busy_s
        while True:
            connection: sqlite3.Connection | None = None
            try:
                connection = self._connect()
                bring_up_to_date(connection, self.path)
                return connection
            except BaseException as error:
                if connection is not None:
                    connection.close()
                if not isinstance(error, sqlite3.Error) or _code(error) not in _BUSY or monotonic() > until:
                    raise
                time.sleep(random.uniform(0.001, 0.01))

    def _start(self) -> None:
        self._pid = os.getpid()
        self._idle: deque[sqlite3.Connection] = deque()
        self._writing: sqlite3.Connection | None = None
        self._known: dict[str, int] = {}
        self._queue: deque[_Call[Any]] = deque()
        self._turn = threading.Lock()

    # reading

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees the file as of one moment."""
        if self._pid != os.getpid():
            self._after_fork()
        with self._told():
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
            try:
                connection.execute("BEGIN")
                yield connection
            except sqlite3.Error:
                connection.close()
                raise
            except BaseException:
                self._release(connection)
                raise
            self._release(connection)

    def _release(self, connection: sqlite3.Connection) -> None:
        connection.execute("COMMIT")
        if len(self._idle) < _IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    # writing

    def write(self, work: Callable[[Tx], R], *, busy_s: float | None = None) -> R:
        """Do `work` in a transaction and return what it returns, once that is committed.

        `work` may be done more than once, each time after all of it was undone. It is
        given up where its turn does not come within `busy_s`, or what the database waits.
        """
        if self._pid != os.getpid():
            self._after_fork()
        call = _Call(work, self._busy_s if busy_s is None else busy_s)
        self._queue.append(call)
        while not call.done:
            if self._turn.acquire(blocking=False):
                try:
                    if not call.done:
                        self._group(call)
                finally:
                    self._turn.release()
                    self._wake_next()
            elif busy_s is None:
                call.gate.get()
            else:
                self._wait(call)
        if call.error is not None:
            raise call.error
        return call.result

    def _wait(self, call: _Call[Any]) -> None:
        """Wait for as long as the call bears it; one that has begun is waited for."""
        try:
            call.gate.get(timeout=call.busy_s)
        except Empty:
            try:
                self._queue.remove(call)
            except ValueError:
                call.gate.get()
            else:
                call.end(_busy(self.path))

    def _wake_next(self) -> None:
        """Tell a call that waits to take the turn; it may find that another has done it already."""
        with suppress(IndexError):
            self._queue[0].gate.put(None)

    def _group(self, own: _Call[Any]) -> None:
        """Take the calls that wait into one transaction, and commit it."""
        taken: list[_Call[Any]] = []
        wrong: dict[_Call[Any], Exception] = {}
        try:
            with self._told():
                tx = self._begin(own.busy_s)
                try:
                    self._take(tx, taken, wrong)
                    if tx.connection.in_transaction:
                        tx.execute("COMMIT")
                        tx.settle()
                finally:
                    self._undo(tx)
        except Exception as error:
            if len(taken) > 1:  # one of them, or all of them together: each is tried by itself
                for call in taken:
                    self._alone(call)
            else:
                for call in taken or self._given_up(own):
                    call.end(error)
        except BaseException:
            self._queue.extendleft(call for call in reversed(taken) if call is not own)
            own.done = True
            raise
        else:
            for call in taken:
                call.end(wrong.get(call))

    def _take(self, tx: Tx, taken: list[_Call[Any]], wrong: dict[_Call[Any], Exception]) -> None:
        until = 0.0
        queue = self._queue
        while len(taken) < GROUP:
            try:
                call = queue.popleft()
            except IndexError:
                return
            taken.append(call)
            if len(taken) > 1:
                tx.execute("SAVEPOINT one")
            try:
                call.result = call.work(tx)
            except sqlite3.Error:
                raise
            except Exception as error:
                wrong[call] = error
                tx.forget()
                if len(taken) == 1:
                    tx.execute("ROLLBACK")
                    return
                tx.execute("ROLLBACK TO one")
            if len(taken) > 1:
                tx.execute("RELEASE one")
            elif not queue:
                return
            else:
                until = monotonic() + GATHER_S
            if monotonic() > until:
                return

    def _alone(self, call: _Call[Any]) -> None:
        try:
            with self._told():
                tx = self._begin(call.busy_s)
                try:
                    call.result = call.work(tx)
                    tx.execute("COMMIT")
                    tx.settle()
                finally:
                    self._undo(tx)
        except Exception as error:
            call.end(error)
        else:
            call.end(None)

    def _given_up(self, own: _Call[Any]) -> list[_Call[Any]]:
        """Every call that waits, where nobody can write now; only this one, where it was not to wait as long."""
        found = []
        if own.busy_s < self._busy_s:
            self._queue.remove(own)
            return [own]
        with suppress(IndexError):
            while True:
                found.append(self._queue.popleft())
        return found

    def _begin(self, busy_s: float) -> Tx:
        """Open a transaction that writes alone, waiting for other processes in short, uneven steps."""
        if self._writing is None:
            self._writing = self._connect()
            self._writing.execute("PRAGMA busy_timeout=0")
        connection = self._writing
        until = 0.0
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                now = monotonic()
                until = until or now + busy_s
                if _code(error) not in _BUSY or now > until:
                    raise
                time.sleep(random.uniform(0.0002, 0.002))
            else:
                return Tx(connection, self._known)

    def _undo(self, tx: Tx) -> None:
        """Roll back what is open; a connection that cannot is let go of."""
        if tx.connection.in_transaction:
            try:
                tx.execute("ROLLBACK")
            except sqlite3.Error:
                self._writing = None
                tx.connection.close()

    # connections

    def _connect(self) -> sqlite3.Connection:
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
            connection.execute("PRAGMA mmap_size=268435456")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.create_function("matches", 3, like, deterministic=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def _after_fork(self) -> None:
        _ABANDONED.extend((self._idle, self._writing, self._turn, self._queue))
        self._start()

    def checkpoint(self) -> None:
        """Bring what the write-ahead log holds into the file, and give free pages back to the system."""
        with self._turn, self._told():
            connection = self._connect()
            try:
                connection.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()

    def close(self) -> None:
        """Close every connection; the next call opens new ones."""
        with self._turn:
            if self._writing is not None:
                self._writing.close()
                self._writing = None
            while self._idle:
                self._idle.pop().close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except LooplineError:
            raise
        except sqlite3.Error as error:
            if _code(error) in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_CONSTRAINT):
                raise  # a bug of ours
            why, fix = _advice(error)
            raise Unavailable(f"the run log {self.path} cannot be used: {error}", why=why, fix=fix) from error


_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _busy(path: Path) -> Unavailable:
    return Unavailable(f"the run log {path} is busy", why="others write to it", fix="try again")


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _advice(error: sqlite3.Error) -> tuple[str, str]:
    """Why the file cannot be used, and what helps."""
    code = _code(error)
    if code in _BUSY:
        return "another process kept its write lock for longer than we wait", "try again, or stop that process"
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return "the disk is full or failing; nothing of the call was kept", "free some space, then do it again"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return "the file cannot be opened or written", "make it, and its folder, ones that you may write to"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return "the file is damaged", "restore it from a backup; artifacts are untouched"
    if code == sqlite3.SQLITE_TOOBIG:
        return "a value is larger than the store can hold", "log it as an artifact"
    return "the database did not answer as it should", "see that the disk is sound, then try again"
