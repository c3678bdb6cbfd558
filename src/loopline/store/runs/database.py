"""Reading and writing a run log: connections that read, and one writer at a time who writes for all that wait.

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
from typing import Any, Generic, TypeVar

from loopline.base.clock import monotonic
from loopline.store.runs.file import BUSY, Durability, File, code
from loopline.store.runs.schema import bring_up_to_date

R = TypeVar("R")

GROUP = 256
"""Calls that share a commit at most."""
GATHER_S = 0.002
"""For so long a group takes calls in."""
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
    prepare : callable
        Gives the file its tables: those of a run log by default.
    """

    def __init__(
        self,
        path: Path,
        *,
        durability: Durability = "normal",
        busy_s: float = 30.0,
        prepare: Callable[[sqlite3.Connection, Path], None] = bring_up_to_date,
    ) -> None:
        self._file, self._busy_s = File(path, durability, busy_s, prepare), busy_s
        self._start()
        with self._file.told():
            self._idle.append(self._file.opened())

    def _start(self) -> None:
        self._pid = os.getpid()
        self._idle: deque[sqlite3.Connection] = deque()
        self._writing: sqlite3.Connection | None = None
        self._stale = False
        self._known: dict[str, int] = {}
        self._queue: deque[_Call[Any]] = deque()
        self._turn = threading.Lock()

    # reading

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees the file as of one moment."""
        if self._pid != os.getpid():
            self._after_fork()
        with self._file.told():
            if self._file.is_another():
                self._let_go()
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._file.connect()
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
                call.end(self._file.busy())

    def _wake_next(self) -> None:
        """Tell a call that waits to take the turn; it may find that another has done it already."""
        with suppress(IndexError):
            self._queue[0].gate.put(None)

    def _group(self, own: _Call[Any]) -> None:
        """Take the calls that wait into one transaction, and commit it."""
        taken: list[_Call[Any]] = []
        wrong: dict[_Call[Any], Exception] = {}
        try:
            with self._file.told():
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
            with self._file.told():
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
        if self._file.is_another():
            self._let_go()
        connection = self._writing
        if connection is None or self._stale:
            if connection is not None:
                connection.close()
            self._known, self._stale = {}, False
            self._writing = connection = self._file.connect()
            connection.execute("PRAGMA busy_timeout=0")
        until = 0.0
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                now = monotonic()
                until = until or now + busy_s
                if code(error) not in BUSY or now > until:
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

    def _after_fork(self) -> None:
        _ABANDONED.extend((self._idle, self._writing, self._turn, self._queue))
        self._start()

    def _let_go(self) -> None:
        """The file was deleted or replaced underneath: what stands there now is opened, or made anew."""
        old, self._idle = self._idle, deque()
        while old:
            old.pop().close()
        self._stale = True
        self._idle.append(self._file.opened())

    def checkpoint(self) -> None:
        """Bring what the write-ahead log holds into the file, and give free pages back, where nobody is in the way."""
        with self._file.told():
            connection = self._file.connect()
            try:
                connection.execute("PRAGMA busy_timeout=1000")
                connection.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.OperationalError as error:
                if code(error) not in (*BUSY, sqlite3.SQLITE_FULL):  # another time, then
                    raise
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
