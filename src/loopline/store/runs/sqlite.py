"""The run log in one SQLite file."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from loopline.base.errors import Invalid, Unavailable
from loopline.store.runs import charts, checks, documents, entries, grouping, packing, series, tokens, upkeep
from loopline.store.runs.database import Database, Tx
from loopline.store.runs.entries import Entries
from loopline.store.runs.experiments import Experiments
from loopline.store.runs.file import Durability
from loopline.store.runs.models import Models, model_number
from loopline.store.runs.protocol import Chart, Deleted, Found, Group, Point, Run, View
from loopline.store.runs.search import count, search
from loopline.store.runs.targets import RUNS

ARTIFACTS = "mlflow-artifacts:"
"""Where artifacts go by default: through the server that a client logs to."""
_REBUILT = 8
"""So many documents that are missing are worth keeping; fewer are built again when asked for."""
_PAGE = 1_000_000
_PATIENCE_S = 0.02
"""For so long a search waits to keep the documents that it has built."""


class SqliteRuns(Experiments, Entries, Models):
    """`RunLog` in a SQLite file with a write-ahead log.

    Parameters
    ----------
    path : Path
        The file; made, with the experiment `Default` of id 0, if there is none.
    durability : "normal" or "full"
        What a call has returned from survives the death of any process; with `full` a power cut too.
    artifacts : str
        Where artifacts of experiments without a place of their own go.
    busy_s : float
        For so long a call waits while another process writes.
    """

    def __init__(
        self, path: Path, *, durability: Durability = "normal", artifacts: str = ARTIFACTS, busy_s: float = 30.0
    ) -> None:
        self.db = Database(path, durability=durability, busy_s=busy_s)
        self.artifacts = artifacts
        self._upkeep = upkeep.Upkeep(self.db)
        self.logged, self.ended = self._upkeep.logged, self._upkeep.ended

    def require_owner(self, id: str) -> None:
        """See that there is a run, or a logged model (`m-...`), with this id; far cheaper than reading it."""
        with self.db.read() as connection:
            (model_number if id.startswith("m-") else entries.numbered)(connection, id)

    # search

    def search_runs(
        self,
        experiments: Sequence[str],
        *,
        filter: str = "",
        order_by: Sequence[str] = (),
        view: View = "active",
        limit: int = 1000,
        token: str | None = None,
    ) -> Found:
        """Runs as documents (see `document`), newest first; docs/reference/run-filters.md has the grammar."""
        with self.db.read() as connection:
            ids, following = search(connection, RUNS, _parts(experiments, view), filter, order_by, limit, token)
            found = documents.ready(connection, ids)
            missing = [id for id in ids if id not in found]
            if 0 < len(missing) < _REBUILT:
                found |= documents.build(connection, missing)
        if len(missing) >= _REBUILT:
            found |= self._keep(missing)
        return Found([found[id] for id in ids if id in found], following)

    def _keep(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Build documents and keep them; a full disk, or another who writes, keeps nobody from reading."""
        try:
            return self.db.write(lambda tx: documents.keep(tx, ids), busy_s=_PATIENCE_S)
        except Unavailable:
            with self.db.read() as connection:
                return documents.build(connection, ids)

    def count_runs(self, experiments: Sequence[str], *, filter: str = "", view: View = "active") -> int:
        """How many runs fit."""
        with self.db.read() as connection:
            return count(connection, RUNS, _parts(experiments, view), filter)

    def group_runs(
        self,
        experiments: Sequence[str],
        *,
        by: str,
        filter: str = "",
        view: View = "active",
        metrics: Sequence[str] = (),
    ) -> list[Group]:
        """Runs by what they share, the largest group first; read as of one moment."""
        with self.db.read() as connection:
            return grouping.group(connection, _parts(experiments, view), by, filter, metrics)

    def columns(self, experiments: Sequence[str]) -> dict[str, list[str]]:
        """Names of the `metrics`, `params` and `tags` that runs of these experiments have."""
        numbers = [checks.experiment_number(id) for id in experiments]
        found = {}
        with self.db.read() as connection:
            for name, table in (("metrics", "latest"), ("params", "params"), ("tags", "tags")):
                keys: set[int] = set()
                for number in numbers:
                    keys.update(_keys(connection, table, number))
                names = (connection.execute("SELECT name FROM keys WHERE id = ?", (key,)).fetchone()[0] for key in keys)
                found[name] = sorted(names)
        return found

    # series

    def lengths(self, run: str) -> dict[str, int]:
        """How many points each series of a run has; repetitions count while they wait in the tail."""
        with self.db.read() as connection:
            found = series.lengths(connection, entries.numbered(connection, run)[0])
            names = dict(
                connection.execute(
                    "SELECT id, name FROM keys WHERE id IN (SELECT value FROM json_each(?))",
                    (json.dumps(list(found)),),
                ).fetchall()
            )
        return {names[key]: n for key, n in found.items()}

    def history(self, run: str, key: str, *, limit: int = 25_000, token: str | None = None) -> Found:
        """Points of a series in the order they were logged."""
        asked = tokens.question("history", run, key)
        start = tokens.read(token, asked, [int])[0] if token else 0
        with self.db.read() as connection:
            number = entries.numbered(connection, run)[0]
            columns, end = series.points(connection, number, _key(connection, key), max(0, start), _page(limit))
        values, times, steps = columns
        items = [Point(key, *row) for row in zip(values, times, steps, strict=True)]
        stop = start + len(items)
        return Found(items, tokens.write(asked, [stop]) if stop < end else None)

    def chart(
        self,
        run: str,
        key: str,
        *,
        buckets: int = 320,
        by: Literal["step", "time"] = "step",
        within: tuple[int, int] | None = None,
    ) -> Chart:
        """A series thinned to be drawn; by time, `steps` holds times in milliseconds."""
        with self.db.read() as connection:
            number = entries.numbered(connection, run)[0]
            return charts.chart(connection, number, _key(connection, key), buckets, by, within)

    def read_columns(self, run: str, key: str, *, start: int = 0, limit: int = _PAGE) -> tuple[bytes, bytes, bytes]:
        """Points of a series from a place on, counted from 0, as `log_columns` takes them."""
        checks.whole("the place", start)
        with self.db.read() as connection:
            number = entries.numbered(connection, run)[0]
            found, _ = series.points(connection, number, _key(connection, key), max(0, start), _page(limit))
        return packing.to_bytes(found)

    # upkeep

    def compact(self, run: str | None = None) -> None:
        """Turn what was appended into chunks; of one run, or wherever it is due."""
        if run is None:
            self._upkeep.compact_due()
            return
        with self.db.read() as connection:
            number = entries.numbered(connection, run)[0]
        self._upkeep.compact(number)

    def compact_later(self) -> None:
        """Compact wherever it is due, in a thread of its own; `close` waits for the run it is at."""
        self._upkeep.look_over()

    def deleted_before(self, at_ms: int) -> list[Run]:
        """Runs that may be forgotten: deleted, or of a deleted experiment, for that long."""
        checks.whole("the time", at_ms)
        with self.db.read() as connection:
            return upkeep.deleted_before(connection, at_ms)

    def deleted(self) -> list[Deleted]:
        """Every run that can still be restored, deleted longest ago first, with what it takes."""
        with self.db.read() as connection:
            return upkeep.deleted(connection)

    def gone(self) -> list[str]:
        """Ids of runs that were taken out for good."""
        with self.db.read() as connection:
            return upkeep.gone(connection)

    def forget(self, ids: Sequence[str], *, again: Collection[str] = ()) -> int:
        """Take deleted runs out for good, with their series; the bytes freed, which the file gives back.

        Their ids stay in `gone`, but for those in `again`, which may come again.
        """

        def work(tx: Tx) -> int:
            return upkeep.forget(tx, ids, again)

        freed = self.db.write(work)
        self.db.checkpoint()
        return freed

    def forget_experiment(self, id: str) -> None:
        """Take a deleted experiment out for good, once its runs are gone; its name is free again."""
        number = checks.experiment_number(id)
        self.db.write(lambda tx: upkeep.forget_experiment(tx, number))

    def close(self) -> None:
        """Close every connection; the next call opens new ones."""
        self._upkeep.close()
        self.db.close()


def _page(limit: int) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _PAGE:
        raise Invalid(
            f"{limit!r:.100} points were asked for",
            why=f"a page has 1 to {_PAGE:,}",
            fix="ask for a whole number in between",
        )
    return limit


def _parts(experiments: Sequence[str], view: View) -> list[tuple[int, str]]:
    if view not in ("active", "deleted", "all"):
        raise Invalid(f"the view {view!r:.100}", why="it is active, deleted or all", fix="send one of them")
    stages = ("active", "deleted") if view == "all" else (view,)
    return [(checks.experiment_number(id), stage) for id in experiments for stage in stages]


def _key(connection: object, key: str) -> int:
    row = connection.execute("SELECT id FROM keys WHERE name = ?", (checks.text("a key", key),)).fetchone()  # type: ignore[attr-defined]
    return -1 if row is None else int(row[0])


def _keys(connection: object, table: str, experiment: int) -> list[int]:
    """The keys of an experiment, jumping from one to the next in the index."""
    found: list[int] = []
    at = -1
    while True:
        row = connection.execute(  # type: ignore[attr-defined]
            f"SELECT key FROM {table} WHERE experiment = ? AND key > ? ORDER BY key LIMIT 1", (experiment, at)
        ).fetchone()
        if row is None:
            return found
        at = row[0]
        found.append(at)
