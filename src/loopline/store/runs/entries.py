"""Runs: begun, changed, logged to, moved."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Mapping, Sequence

from loopline.base.clock import SystemClock
from loopline.base.errors import Conflict, Invalid, NotFound
from loopline.store.runs import checks, documents, experiments, metrics
from loopline.store.runs.database import Database, Tx
from loopline.store.runs.packing import Columns
from loopline.store.runs.protocol import Dataset, ModelUse, Point, Run, Stage, Status

NAME_TAG = "mlflow.runName"
"""The tag that is the name of a run: setting one sets the other."""
STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
ENDED = ("FINISHED", "FAILED", "KILLED")


class Entries:
    """The runs of a run log."""

    db: Database
    artifacts: str
    logged: Callable[[int, int], None]
    """Told which run got how many points."""
    ended: Callable[[int], None]
    """Told which run ended."""

    def create_run(
        self,
        experiment: str,
        *,
        start_ms: int,
        name: str = "",
        user: str = "",
        tags: Mapping[str, str] | None = None,
        id: str | None = None,
    ) -> Run:
        """A new run; one with an `id` that exists already is that run if it is of the same experiment."""
        number = checks.experiment_number(experiment)
        checks.whole("the start", start_ms)
        checks.text("the name of a run", name)
        checks.text("the user", user)
        given = checks.identity("run", id) if id is not None else uuid.uuid4().hex
        set_tags = dict(tags or {})
        if name:
            set_tags[NAME_TAG] = name
        name = set_tags.get(NAME_TAG, "")

        def work(tx: Tx) -> Run:
            row = tx.execute("SELECT id, experiment FROM runs WHERE uuid = ?", (given,)).fetchone()
            if row is not None:
                if row[1] != number:
                    raise Conflict(
                        f"the run {given} is of the experiment {row[1]}",
                        why=f"it cannot be begun in {number} too",
                        fix="leave the id out, or move the run",
                    )
                return documents.load(tx.connection, [row[0]])[0]
            into = experiments.active(tx.connection, number)
            base = into.artifact_location or f"{self.artifacts}/{into.id}"
            (run,) = tx.execute(
                "INSERT INTO runs (uuid, experiment, name, user, status, stage, start, artifacts)"
                " VALUES (?, ?, ?, ?, 'RUNNING', 'active', ?, ?) RETURNING id",
                (given, number, name, user, start_ms, f"{base.rstrip('/')}/{given}/artifacts"),
            ).fetchone()
            _set_tags(tx, run, number, set_tags)
            return documents.load(tx.connection, [run])[0]

        return self.db.write(work)

    def run(self, id: str) -> Run:
        """A run by id, deleted or not."""
        with self.db.read() as connection:
            return documents.load(connection, [numbered(connection, id)[0]])[0]

    def document(self, id: str) -> bytes:
        """The run as JSON in the shape of the tracking protocol, ready to be sent."""
        with self.db.read() as connection:
            row = connection.execute(
                "SELECT d.json, r.id FROM runs r LEFT JOIN documents d ON d.run = r.id WHERE r.uuid = ?", (_text(id),)
            ).fetchone()
            if row is None:
                raise checks.no_run(id)
            return bytes(row[0]) if row[0] is not None else documents.build(connection, [row[1]])[row[1]]

    def change_run(
        self,
        id: str,
        *,
        status: Status | None = None,
        end_ms: int | None = None,
        name: str | None = None,
        stage: Stage | None = None,
        at_ms: int | None = None,
    ) -> Run:
        """Change what a run says of itself; delete it (at `at_ms`) or restore it. A deleted run is only restored."""
        if status is not None and status not in STATUSES:
            raise Invalid(
                f"the status {status!r:.100}", why=f"a run is one of {', '.join(STATUSES)}", fix="send one of them"
            )
        if end_ms is not None:
            checks.whole("the end", end_ms)
        if name is not None:
            checks.text("the name of a run", name)
        deleted_ms = checks.whole("the time", at_ms) if at_ms is not None else int(SystemClock()().timestamp() * 1000)

        def work(tx: Tx) -> tuple[Run, int]:
            run, experiment, now = numbered(tx.connection, id)
            if now == "deleted" and stage != "active" and (status, end_ms, name) != (None, None, None):
                raise _deleted(id)
            if stage == "active" and now == "deleted":
                experiments.active(tx.connection, experiment)
                tx.execute("UPDATE runs SET stage = 'active', deleted = NULL WHERE id = ?", (run,))
            elif stage == "deleted" and now == "active":
                tx.execute("UPDATE runs SET stage = 'deleted', deleted = ? WHERE id = ?", (deleted_ms, run))
            if status is not None:
                tx.execute("UPDATE runs SET status = ? WHERE id = ?", (status, run))
            if end_ms is not None:
                tx.execute("UPDATE runs SET end = ? WHERE id = ?", (end_ms, run))
            if name is not None:
                _set_tags(tx, run, experiment, {NAME_TAG: name})
            touched(tx, run)
            return documents.load(tx.connection, [run])[0], run

        found, number = self.db.write(work)
        if status in ENDED:
            self.ended(number)
        return found

    def move_runs(self, ids: Sequence[str], experiment: str) -> int:
        """Put runs into another experiment; how many were not there yet. Their artifacts stay where they are."""
        to = checks.experiment_number(experiment)

        def work(tx: Tx) -> int:
            experiments.active(tx.connection, to)
            moved = 0
            for id in ids:
                run, experiment, stage = numbered(tx.connection, id)
                if stage == "deleted":
                    raise _deleted(id)
                if experiment != to:
                    for table, column in (("runs", "id"), ("params", "run"), ("tags", "run"), ("latest", "run")):
                        tx.execute(f"UPDATE {table} SET experiment = ? WHERE {column} = ?", (to, run))
                    _move_inputs(tx, run, to)
                    tx.execute("UPDATE models SET experiment = ? WHERE run = ?", (to, id))
                    touched(tx, run)
                    moved += 1
            return moved

        return self.db.write(work)

    def log(
        self,
        run: str,
        *,
        metrics: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str | None] | None = None,
    ) -> None:
        """All of it, or nothing. Params are written once: the same value again is fine. A null tag is taken away."""
        self._log(run, points(metrics), metrics, params or {}, tags or {})

    def log_columns(self, run: str, columns: Mapping[str, tuple[bytes, bytes, bytes]]) -> None:
        """Points by key as packed little-endian arrays: values (float64), times and steps (int64)."""
        self._log(run, metrics.from_bytes(columns), (), {}, {})

    def _log(
        self,
        id: str,
        columns: dict[str, Columns],
        given: Sequence[Point],
        params: Mapping[str, str],
        tags: Mapping[str, str | None],
    ) -> None:
        def work(tx: Tx) -> tuple[int, int]:
            run, experiment = writable(tx.connection, id)
            if params:
                _set_params(tx, run, experiment, params)
            if tags:
                _set_tags(tx, run, experiment, tags)
            n = metrics.append(tx, run, experiment, columns) if columns else 0
            if given:
                metrics.of_models(tx, run, given)
            touched(tx, run)
            return run, n

        number, n = self.db.write(work)
        if n:
            self.logged(number, n)

    def log_uses(
        self,
        run: str,
        *,
        datasets: Sequence[Dataset] = (),
        read: Sequence[ModelUse] = (),
        made: Sequence[ModelUse] = (),
    ) -> None:
        """What a run was given and what it made; the same again changes nothing."""
        for dataset in datasets:
            _check_dataset(dataset)
        for use in (*read, *made):
            checks.identity("model", use.model)
            checks.whole("the step", use.step)

        def work(tx: Tx) -> None:
            number, experiment = writable(tx.connection, run)
            for dataset in datasets:
                _use(tx, number, _dataset(tx, experiment, dataset), dataset.tags)
            tx.executemany(
                "INSERT OR IGNORE INTO uses VALUES (?, ?, ?, ?)",
                [(number, made_it, use.model, use.step) for made_it, uses in ((0, read), (1, made)) for use in uses],
            )
            touched(tx, number)

        self.db.write(work)


def points(given: Sequence[Point]) -> dict[str, Columns]:
    """Points by key, with the models they name checked."""
    for point in given:
        if len(point) > 4 and (point.model is not None or point.dataset is not None):
            if point.model is not None:
                checks.identity("model", point.model)
            for part in point.dataset or ():
                checks.text("a dataset of a metric", part)
    return metrics.by_key(given)


def _text(id: str) -> str:
    """An id that can be looked for; one that cannot exist is not found."""
    if isinstance(id, str):
        try:
            id.encode()
        except UnicodeEncodeError:
            pass
        else:
            return id
    raise checks.no_run(id)


def numbered(connection: sqlite3.Connection, id: str) -> tuple[int, int, str]:
    """The number of a run, that of its experiment, and its stage."""
    row = connection.execute("SELECT id, experiment, stage FROM runs WHERE uuid = ?", (_text(id),)).fetchone()
    if row is None:
        raise checks.no_run(id)
    return row[0], row[1], row[2]


def writable(connection: sqlite3.Connection, id: str) -> tuple[int, int]:
    """As `numbered`, for a run that may be written; `Conflict` if it is deleted."""
    run, experiment, stage = numbered(connection, id)
    if stage != "active":
        raise _deleted(id)
    return run, experiment


def touched(tx: Tx, run: int) -> None:
    """The document of a run no longer holds."""
    tx.execute("DELETE FROM documents WHERE run = ?", (run,))


def _deleted(id: str) -> Conflict:
    return Conflict(f"the run {id} is deleted", why="a deleted run does not change", fix="restore it first")


def _set_params(tx: Tx, run: int, experiment: int, params: Mapping[str, str]) -> None:
    for name, value in params.items():
        key = tx.key(checks.key("param", name))
        checks.text(f"the param {name!r:.100}", value)
        row = tx.execute("SELECT value FROM params WHERE run = ? AND key = ?", (run, key)).fetchone()
        if row is None:
            tx.execute(
                "INSERT INTO params (run, key, experiment, value, number) VALUES (?, ?, ?, ?, ?)",
                (run, key, experiment, value, checks.number(value)),
            )
        elif row[0] != value:
            raise Conflict(
                f"the param {name!r:.100} is {row[0]!r:.100}, not {value!r:.100}",
                why="a param is written once; nothing of this call was kept",
                fix="log it under another name, or begin another run",
            )


def _set_tags(tx: Tx, run: int, experiment: int, tags: Mapping[str, str | None]) -> None:
    for name, value in tags.items():
        key = tx.key(checks.key("tag", name))
        if value is None:
            if not tx.execute("DELETE FROM tags WHERE run = ? AND key = ?", (run, key)).rowcount:
                raise NotFound(f"the run has no tag {name!r:.100}", why="it was never set", fix="leave it out")
        else:
            checks.text(f"the tag {name!r:.100}", value)
            tx.execute("INSERT OR REPLACE INTO tags VALUES (?, ?, ?, ?)", (run, key, experiment, value))
        if name == NAME_TAG:
            tx.execute("UPDATE runs SET name = ? WHERE id = ?", (value or "", run))


def _check_dataset(dataset: Dataset) -> None:
    checks.text("the name of a dataset", dataset.name, least=1)
    checks.text("the digest of a dataset", dataset.digest, least=1)
    checks.text("the source type of a dataset", dataset.source_type)
    for part, value in (("source", dataset.source), ("schema", dataset.schema), ("profile", dataset.profile)):
        if value is not None:
            checks.text(f"the {part} of a dataset", value, most=checks.LONG_TEXT_CHARACTERS)
    for key, value in dataset.tags.items():
        checks.text(f"the tag {checks.key('tag', key)!r:.100}", value)


def _dataset(tx: Tx, experiment: int, dataset: Dataset) -> int:
    fields = (experiment, dataset.name, dataset.digest)
    tx.execute(
        "INSERT OR IGNORE INTO datasets (experiment, name, digest, source_type, source, schema, profile)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*fields, dataset.source_type, dataset.source, dataset.schema, dataset.profile),
    )
    row = tx.execute("SELECT id FROM datasets WHERE experiment = ? AND name = ? AND digest = ?", fields).fetchone()
    return int(row[0])


def _use(tx: Tx, run: int, dataset: int, tags: Mapping[str, str]) -> None:
    rows = [(run, dataset, "", ""), *((run, dataset, key, value) for key, value in tags.items())]
    tx.executemany("INSERT OR REPLACE INTO inputs VALUES (?, ?, ?, ?)", rows)


def _move_inputs(tx: Tx, run: int, to: int) -> None:
    """Give the experiment a run comes into the datasets it brings."""
    used = tx.execute(
        "SELECT DISTINCT d.id, d.name, d.digest, d.source_type, d.source, d.schema, d.profile"
        " FROM inputs i JOIN datasets d ON d.id = i.dataset WHERE i.run = ?",
        (run,),
    ).fetchall()
    for old, *fields in used:
        new = _dataset(tx, to, Dataset(*fields))
        tx.execute("UPDATE inputs SET dataset = ? WHERE run = ? AND dataset = ?", (new, run, old))
