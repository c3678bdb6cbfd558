"""Upkeep: the tail becomes chunks behind the back of whoever logs, and runs are taken out for good."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Collection, Sequence

from loopline.base.errors import Conflict, Unavailable
from loopline.store.runs import documents, entries, experiments, series
from loopline.store.runs.database import Database, Tx
from loopline.store.runs.metrics import SPAN
from loopline.store.runs.protocol import Deleted, Run

CALLS = 512
"""Calls of a run after which their rows are made one."""
DUE = 16_384
"""Points in the tail of a run that make a compaction worth its while."""
DUE_A_KEY = 512
"""So many more for each key, lest short series be written again and again."""
MOST_DUE = 262_144
SMALL = 256
"""An ended run with no more points than that keeps them in the tail."""

_COUNTED = 50_000
"""Runs whose points are counted at a time."""

_SIZES = {
    "tail": ("length(pack)", "id > :run * :span AND id < (:run + 1) * :span"),
    "chunks": ("length(pack)", "run = :run"),
    "coarse": ("length(pack)", "run = :run"),
    "documents": ("length(json)", "run = :run"),
    "params": ("length(value)", "run = :run"),
    "tags": ("length(value)", "run = :run"),
    "latest": ("40", "run = :run"),
    "inputs": ("length(value)", "run = :run"),
    "uses": ("length(model)", "run = :run"),
    "compactions": ("0", "run = :run"),
    "model_metrics": ("40", "run = :run"),
    "runs": ("100", "id = :run"),
}


class Upkeep:
    """The upkeep of one run log; its thread lives only while there is something to do."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._counted: dict[int, tuple[int, int]] = {}
        self._next: dict[int, int] = {}
        self._due: dict[int | None, None] = {}
        """Runs to look at, in order; null stands for all of them."""
        self._ended: dict[int, None] = {}
        self._lock, self._one = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def logged(self, run: int, points: int) -> None:
        """A run has got points."""
        if len(self._counted) > _COUNTED:
            self._counted.clear()
            self._next.clear()
        calls, found = self._counted.get(run, (0, 0))
        calls, found = calls + 1, found + points
        self._counted[run] = calls, found
        if found >= self._next.get(run, DUE) or not calls % CALLS:
            self._ask(run)

    def ended(self, run: int) -> None:
        """A run has ended: few more points will come."""
        if self._counted.pop(run, (0, MOST_DUE))[1] > SMALL:  # of one that it knows nothing about, the tail tells
            self._ended[run] = None
            self._ask(run)

    def look_over(self) -> None:
        """Look at every run in the back: processes that ended left points in tails."""
        self._ask(None)

    def _ask(self, run: int | None) -> None:
        with self._lock:
            if self._closed:
                return
            self._due[run] = None
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="loopline-runs", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._due or self._closed:
                    self._thread = None
                    return
                run = next(iter(self._due))
                del self._due[run]
            try:
                if run is None:
                    self.compact_due()
                elif self._is_due(run):
                    self._counted.pop(run, None)
                    self.compact(run)
                else:
                    self._db.write(lambda tx, run=run: series.gather(tx, run))  # type: ignore[misc]
            except Unavailable:
                continue  # the points stay in the tail; the next call of the run asks again

    def _is_due(self, run: int) -> bool:
        ended = run in self._ended
        self._ended.pop(run, None)
        with self._db.read() as connection:
            if ended:
                return series.tail_points(connection, run) > SMALL
            (keys,) = connection.execute("SELECT count(*) FROM latest WHERE run = ?", (run,)).fetchone()
        self._next[run] = min(DUE + DUE_A_KEY * int(keys), MOST_DUE)
        return self._counted.get(run, (0, 0))[1] >= self._next[run]

    def compact(self, run: int) -> None:
        """Turn the tail of a run into chunks."""
        with self._one:
            more = True
            while more:
                with self._db.read() as connection:
                    found = series.prepare(connection, run)
                if found is None:
                    return
                packs = series.packed(found)
                done = self._db.write(lambda tx, found=found, packs=packs: series.settle(tx, found, packs))  # type: ignore[misc]
                more = found.more or not done

    def compact_due(self) -> None:
        """Turn the tails into chunks where a run has ended or has many points."""
        at = 0
        while not self._closed:
            with self._db.read() as connection:
                row = connection.execute("SELECT id FROM tail WHERE id > ? ORDER BY id LIMIT 1", (at,)).fetchone()
                if row is None:
                    return
                run = row[0] // SPAN
                at = (run + 1) * SPAN
                status = connection.execute("SELECT status FROM runs WHERE id = ?", (run,)).fetchone()
                n = series.tail_points(connection, run)
            if n > (SMALL if status is None or status[0] in entries.ENDED else DUE):
                self.compact(run)

    def close(self) -> None:
        """Stop the thread after what it is at."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._closed = False


def deleted_before(connection: sqlite3.Connection, at_ms: int) -> list[Run]:
    """Runs that were deleted, by themselves or with their experiment, at `at_ms` or before."""
    rows = connection.execute(
        "SELECT id FROM runs WHERE stage = 'deleted' AND deleted <= ? ORDER BY deleted, id", (at_ms,)
    )
    return documents.load(connection, [row[0] for row in rows.fetchall()])


def deleted(connection: sqlite3.Connection) -> list[Deleted]:
    """Runs that can still be restored, with when they were deleted and the bytes that their values take."""
    rows = connection.execute("SELECT id, deleted FROM runs WHERE stage = 'deleted' ORDER BY deleted, id").fetchall()
    found = documents.load(connection, [row[0] for row in rows])
    return [
        Deleted(run, at_ms, sum(_size(connection, table, id) for table in _SIZES))
        for run, (id, at_ms) in zip(found, rows, strict=True)
    ]


def _size(db: sqlite3.Connection | Tx, table: str, run: int) -> int:
    """Bytes that a run's rows of a table take, about."""
    size, where = _SIZES[table]
    (found,) = db.execute(
        f"SELECT coalesce(sum({size}), 0) FROM {table} WHERE {where}", {"run": run, "span": SPAN}
    ).fetchone()
    return int(found)


def gone(connection: sqlite3.Connection) -> list[str]:
    """Ids of runs that were taken out for good: they do not come back from elsewhere."""
    return [row[0] for row in connection.execute("SELECT uuid FROM gone ORDER BY uuid")]


def forget(tx: Tx, ids: Sequence[str], again: Collection[str] = ()) -> int:
    """Take deleted runs out for good; the bytes that their values took. Ids that are gone already are passed over.

    The ids stay in `gone`, but for those in `again`.
    """
    freed = 0
    asked = json.dumps(list(ids))
    rows = tx.execute(
        "SELECT id, uuid, stage FROM runs WHERE uuid IN (SELECT value FROM json_each(?))", (asked,)
    ).fetchall()
    for run, uuid, stage in rows:
        if stage != "deleted":
            raise Conflict(
                f"the run {uuid} is not deleted", why="only deleted runs are taken out for good", fix="delete it first"
            )
        if uuid not in again:
            tx.execute("INSERT OR IGNORE INTO gone VALUES (?)", (uuid,))
        used = [row[0] for row in tx.execute("SELECT DISTINCT dataset FROM inputs WHERE run = ?", (run,))]
        for table, (_, where) in _SIZES.items():
            freed += _size(tx, table, run)
            tx.execute(f"DELETE FROM {table} WHERE {where}", {"run": run, "span": SPAN})
        tx.executemany(
            "DELETE FROM datasets WHERE id = ? AND NOT EXISTS (SELECT 1 FROM inputs WHERE dataset = datasets.id)",
            [(dataset,) for dataset in used],
        )
        gone = [row[0] for row in tx.execute("SELECT id FROM models WHERE run = ? AND deleted IS NOT NULL", (uuid,))]
        for model in gone:
            _forget_model(tx, model)
    return freed


def forget_experiment(tx: Tx, id: int) -> None:
    """Take an experiment out for good; `Conflict` if it is not deleted or still has runs or models."""
    found = experiments.one(tx.connection, id)
    row = tx.execute(
        "SELECT (SELECT count(*) FROM runs WHERE experiment = ?1),"
        " (SELECT count(*) FROM models WHERE experiment = ?1 AND deleted IS NULL)",
        (id,),
    ).fetchone()
    if found.stage != "deleted" or row != (0, 0) or id == 0:
        raise Conflict(
            f"the experiment {found.name!r} is {found.stage} and has {row[0]} runs and {row[1]} models",
            why="only a deleted experiment without runs and models goes, and never the default one",
            fix="delete it, and forget its runs first",
        )
    for model in tx.execute("SELECT id FROM models WHERE experiment = ?", (id,)).fetchall():
        _forget_model(tx, model[0])
    for table, column in (("experiment_tags", "experiment"), ("datasets", "experiment"), ("experiments", "id")):
        tx.execute(f"DELETE FROM {table} WHERE {column} = ?", (id,))


def _forget_model(tx: Tx, id: int) -> None:
    tx.execute("DELETE FROM model_metrics WHERE model = (SELECT uuid FROM models WHERE id = ?)", (id,))
    for table, column in (("model_params", "model"), ("model_tags", "model"), ("models", "id")):
        tx.execute(f"DELETE FROM {table} WHERE {column} = ?", (id,))
