"""Experiments: made, renamed, deleted with their runs and restored."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from loopline.base.errors import Conflict, NotFound
from loopline.store.runs import checks
from loopline.store.runs.database import Database, Tx
from loopline.store.runs.protocol import Experiment, Found, Stage, View
from loopline.store.runs.search import search
from loopline.store.runs.targets import EXPERIMENTS

_ASKED = "(SELECT value FROM json_each(?))"
_EXPERIMENTS = f"SELECT id, name, artifacts, stage, created, updated FROM experiments WHERE id IN {_ASKED}"
_TAGS = f"""
SELECT t.experiment, k.name, t.value FROM experiment_tags t JOIN keys k ON k.id = t.key
WHERE t.experiment IN {_ASKED} ORDER BY t.experiment, k.name
"""


class Experiments:
    """The experiments of a run log."""

    db: Database
    artifacts: str
    """Where artifacts go by default; the folder of an experiment is below it."""

    def create_experiment(
        self, name: str, *, at_ms: int, artifact_location: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Experiment:
        """A new experiment; `Conflict` if one, also a deleted one, has the name."""
        checks.title("the name of an experiment", name)
        checks.whole("the time", at_ms)
        if artifact_location is not None:
            checks.text("the artifact location", artifact_location)

        def work(tx: Tx) -> Experiment:
            _refuse_taken(tx.connection, name)
            (id,) = tx.execute(
                "INSERT INTO experiments (name, artifacts, stage, created, updated)"
                " VALUES (?, ?, 'active', ?, ?) RETURNING id",
                (name, artifact_location or None, at_ms, at_ms),
            ).fetchone()
            _set_tags(tx, id, tags or {})
            return one(tx.connection, id)

        return self.db.write(work)

    def experiment(self, id: str) -> Experiment:
        """An experiment by id, deleted or not."""
        number = checks.experiment_number(id)
        with self.db.read() as connection:
            return one(connection, number)

    def experiment_named(self, name: str) -> Experiment | None:
        """An experiment by name, deleted or not; null where none has it."""
        if not isinstance(name, str):
            return None
        with self.db.read() as connection:
            row = connection.execute(
                "SELECT id FROM experiments WHERE name = ?", (checks.text("a name", name),)
            ).fetchone()
            return None if row is None else one(connection, row[0])

    def search_experiments(
        self,
        *,
        filter: str = "",
        order_by: Sequence[str] = (),
        view: View = "active",
        limit: int = 1000,
        token: str | None = None,
    ) -> Found:
        """Experiments that fit, the newest first unless `order_by` says otherwise."""
        stages = ("active", "deleted") if view == "all" else (view,)
        with self.db.read() as connection:
            ids, following = search(
                connection, EXPERIMENTS, [(stage,) for stage in stages], filter, order_by, limit, token
            )
            return Found(load(connection, ids), following)

    def change_experiment(
        self,
        id: str,
        *,
        at_ms: int,
        name: str | None = None,
        stage: Stage | None = None,
        tags: Mapping[str, str | None] | None = None,
    ) -> Experiment:
        """Rename, delete or restore, set tags (null takes one away). Its runs are deleted and restored with it."""
        number = checks.experiment_number(id)
        checks.whole("the time", at_ms)
        if name is not None:
            checks.title("the name of an experiment", name)

        def work(tx: Tx) -> Experiment:
            found = one(tx.connection, number)
            if name is not None and name != found.name:
                _refuse_taken(tx.connection, name)
                tx.execute("UPDATE experiments SET name = ? WHERE id = ?", (name, number))
            if stage is not None and stage != found.stage:
                _move_stage(tx, number, stage, at_ms)
            _set_tags(tx, number, tags or {})
            tx.execute("UPDATE experiments SET updated = ? WHERE id = ?", (at_ms, number))
            return one(tx.connection, number)

        return self.db.write(work)


def load(connection: sqlite3.Connection, ids: Sequence[int]) -> list[Experiment]:
    """Experiments by number, in that order; those that are not there are left out."""
    asked = (json.dumps(list(ids)),)
    tags: dict[int, dict[str, str]] = {id: {} for id in ids}
    for experiment, key, value in connection.execute(_TAGS, asked):
        tags[experiment][key] = value
    found = {}
    for id, name, artifacts, stage, created, updated in connection.execute(_EXPERIMENTS, asked):
        found[id] = Experiment(str(id), name, artifacts, stage, created, updated, tags[id])
    return [found[id] for id in ids if id in found]


def one(connection: sqlite3.Connection, id: int) -> Experiment:
    """An experiment by number; `NotFound` where there is none."""
    found = load(connection, [id])
    if not found:
        raise checks.no_experiment(str(id))
    return found[0]


def active(connection: sqlite3.Connection, id: int) -> Experiment:
    """As `one`; `Conflict` if it is deleted."""
    found = one(connection, id)
    if found.stage != "active":
        raise Conflict(
            f"the experiment {found.name!r} is deleted",
            why="nothing new goes into a deleted experiment",
            fix="restore it, or use another",
        )
    return found


def _refuse_taken(connection: sqlite3.Connection, name: str) -> None:
    row = connection.execute("SELECT id, stage FROM experiments WHERE name = ?", (name,)).fetchone()
    if row is not None:
        raise Conflict(
            f"an experiment has the name {name!r} already",
            why=f"it is {row[1]} and has the id {row[0]}; names are unique, deleted experiments included",
            fix="use it, restore it, or choose another name",
        )


def _move_stage(tx: Tx, id: int, stage: Stage, at_ms: int) -> None:
    """Delete or restore: the runs that went with it come back with it, those deleted before stay so."""
    if stage == "deleted":
        changed, deleted = "stage = 'active'", at_ms
        args: tuple[Any, ...] = ("deleted", at_ms, id)
    else:
        (deleted,) = tx.execute("SELECT deleted FROM experiments WHERE id = ?", (id,)).fetchone()
        changed, deleted_then = "stage = 'deleted' AND deleted IS ?", deleted
        args, deleted = ("active", None, id, deleted_then), None
    tx.execute(f"DELETE FROM documents WHERE run IN (SELECT id FROM runs WHERE experiment = ? AND {changed})", args[2:])
    tx.execute(f"UPDATE runs SET stage = ?, deleted = ? WHERE experiment = ? AND {changed}", args)
    tx.execute("UPDATE experiments SET stage = ?, deleted = ? WHERE id = ?", (stage, deleted, id))


def _set_tags(tx: Tx, id: int, tags: Mapping[str, str | None]) -> None:
    for name, value in tags.items():
        key = tx.key(checks.key("tag", name))
        if value is None:
            gone = tx.execute("DELETE FROM experiment_tags WHERE experiment = ? AND key = ?", (id, key))
            if not gone.rowcount:
                raise NotFound(
                    f"the experiment {id} has no tag {name!r:.100}", why="it was never set", fix="leave it out"
                )
        else:
            checks.text(f"the tag {name!r:.100}", value)
            tx.execute("INSERT OR REPLACE INTO experiment_tags VALUES (?, ?, ?)", (id, key, value))
