"""Logged models: what runs made, on its way to or in the artifact store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from loopline.base.errors import Conflict, Invalid, NotFound
from loopline.store.runs import checks, experiments
from loopline.store.runs.database import Database, Tx
from loopline.store.runs.filters import Term, parse_order
from loopline.store.runs.protocol import Found, LoggedModel, Point
from loopline.store.runs.search import search
from loopline.store.runs.targets import MODELS

STATUSES = ("PENDING", "READY", "UPLOAD_FAILED")
_FIELDS = "id, uuid, experiment, name, run, artifacts, status, message, type, created, updated"


class Models:
    """The logged models of a run log."""

    db: Database
    artifacts: str

    def create_model(self, model: LoggedModel) -> LoggedModel:
        """A new logged model; one with an id that exists already is a `Conflict`. An empty place is given one."""
        number = checks.experiment_number(model.experiment)
        checks.identity("model", model.id)
        checks.text("the name of a model", model.name)
        checks.text("the type of a model", model.type)
        _check_status(model.status)

        def work(tx: Tx) -> LoggedModel:
            if tx.execute("SELECT 1 FROM models WHERE uuid = ?", (model.id,)).fetchone() is not None:
                raise Conflict(f"a model has the id {model.id} already", why="ids are unique", fix="make another id")
            into = experiments.active(tx.connection, number)
            base = (into.artifact_location or f"{self.artifacts}/{into.id}").rstrip("/")
            (id,) = tx.execute(
                "INSERT INTO models (uuid, experiment, name, run, artifacts, status, message, type, created, updated)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (
                    model.id,
                    number,
                    model.name,
                    model.run or None,
                    model.artifacts or f"{base}/models/{model.id}/artifacts",
                    model.status,
                    checks.text("a message", model.status_message),
                    model.type,
                    checks.whole("the time", model.created_ms),
                    checks.whole("the time", model.updated_ms),
                ),
            ).fetchone()
            _set_params(tx, id, model.params)
            _set_tags(tx, id, model.tags)
            return _load(tx.connection, [id])[0]

        return self.db.write(work)

    def model(self, id: str) -> LoggedModel:
        """A logged model by id; `NotFound` once it is deleted."""
        with self.db.read() as connection:
            return _load(connection, [model_number(connection, id)])[0]

    def change_model(
        self,
        id: str,
        *,
        at_ms: int,
        status: str | None = None,
        message: str | None = None,
        tags: Mapping[str, str | None] | None = None,
        params: Mapping[str, str] | None = None,
        deleted: bool = False,
    ) -> LoggedModel:
        """Change its status, set tags (null takes one away) and params (written once), or delete it."""
        checks.whole("the time", at_ms)
        if status is not None:
            _check_status(status)

        def work(tx: Tx) -> LoggedModel:
            number = model_number(tx.connection, id)
            _set_params(tx, number, params or {})
            _set_tags(tx, number, tags or {})
            if status is not None:
                tx.execute("UPDATE models SET status = ? WHERE id = ?", (status, number))
            if message is not None:
                tx.execute("UPDATE models SET message = ? WHERE id = ?", (checks.text("a message", message), number))
            tx.execute("UPDATE models SET updated = ? WHERE id = ?", (at_ms, number))
            found = _load(tx.connection, [number])[0]
            if deleted:
                tx.execute("UPDATE models SET deleted = ? WHERE id = ?", (at_ms, number))
            return found

        return self.db.write(work)

    def search_models(
        self,
        experiments: Sequence[str],
        *,
        filter: str = "",
        datasets: Sequence[Mapping[str, str]] = (),
        order_by: Sequence[Mapping[str, Any]] = (),
        limit: int = 50,
        token: str | None = None,
    ) -> Found:
        """Logged models that fit, the newest first.

        Parameters
        ----------
        datasets : sequence of mapping
            `dataset_name` and `dataset_digest`: metrics in the filter count if measured on one of them.
        order_by : sequence of mapping
            `field_name`, `ascending`, and `dataset_name` and `dataset_digest` for a metric.
        """
        parts = [(checks.experiment_number(id),) for id in experiments]
        terms = [_term(given) for given in order_by]
        with self.db.read() as connection:
            ids, following = search(
                connection, MODELS, parts, filter, terms, limit, token, [_data(one) or (None, None) for one in datasets]
            )
            return Found(_load(connection, ids), following)


def _load(connection: sqlite3.Connection, ids: Sequence[int]) -> list[LoggedModel]:
    asked = (json.dumps(list(ids)),)
    listed = "(SELECT value FROM json_each(?))"
    params: dict[int, dict[str, str]] = {id: {} for id in ids}
    tags: dict[int, dict[str, str]] = {id: {} for id in ids}
    metrics: dict[int, list[Point]] = {id: [] for id in ids}
    for table, into in (("model_params", params), ("model_tags", tags)):
        for model, key, value in connection.execute(
            f"SELECT t.model, k.name, t.value FROM {table} t JOIN keys k ON k.id = t.key WHERE t.model IN {listed}"
            " ORDER BY t.model, k.name",
            asked,
        ):
            into[model][key] = value
    for model, key, value, at, step, uuid, name, digest in connection.execute(
        "SELECT o.id, k.name, m.value, m.at, m.step, o.uuid, m.name, m.digest FROM models o"
        " JOIN model_metrics m ON m.model = o.uuid JOIN keys k ON k.id = m.key"
        f" WHERE o.id IN {listed} ORDER BY o.id, k.name, m.step, m.at",
        asked,
    ):
        data = (name, digest) if name or digest else None
        metrics[model].append(Point(key, float("nan") if value is None else value, at, step, uuid, data))
    found = {}
    for number, uuid, experiment, *fields in connection.execute(
        f"SELECT {_FIELDS} FROM models WHERE id IN {listed}", asked
    ):
        parts: dict[str, Any] = {"params": params[number], "tags": tags[number], "metrics": tuple(metrics[number])}
        found[number] = LoggedModel(uuid, str(experiment), *fields, **parts)
    return [found[id] for id in ids]


def model_number(connection: sqlite3.Connection, id: str) -> int:
    """The integer key of a logged model that is there."""
    row = connection.execute(
        "SELECT id FROM models WHERE uuid = ? AND deleted IS NULL", (checks.identity("model", id),)
    ).fetchone()
    if row is None:
        raise NotFound(f"no model has the id {id}", why="it was never made here, or it is gone", fix="search models")
    return int(row[0])


def _check_status(status: str) -> None:
    if status not in STATUSES:
        raise Invalid(
            f"the status {status!r:.100}", why=f"a model is one of {', '.join(STATUSES)}", fix="send one of them"
        )


def _set_params(tx: Tx, id: int, params: Mapping[str, str]) -> None:
    for name, value in params.items():
        key = tx.key(checks.key("param", name))
        checks.text(f"the param {name!r:.100}", value)
        row = tx.execute("SELECT value FROM model_params WHERE model = ? AND key = ?", (id, key)).fetchone()
        if row is None:
            tx.execute("INSERT INTO model_params VALUES (?, ?, ?, ?)", (id, key, value, checks.number(value)))
        elif row[0] != value:
            raise Conflict(
                f"the param {name!r:.100} is {row[0]!r:.100}, not {value!r:.100}",
                why="a param is written once; nothing of this call was kept",
                fix="log it under another name",
            )


def _set_tags(tx: Tx, id: int, tags: Mapping[str, str | None]) -> None:
    for name, value in tags.items():
        key = tx.key(checks.key("tag", name))
        if value is None:
            if not tx.execute("DELETE FROM model_tags WHERE model = ? AND key = ?", (id, key)).rowcount:
                raise NotFound(f"the model has no tag {name!r:.100}", why="it was never set", fix="leave it out")
        else:
            checks.text(f"the tag {name!r:.100}", value)
            tx.execute("INSERT OR REPLACE INTO model_tags VALUES (?, ?, ?)", (id, key, value))


def _term(given: Mapping[str, Any]) -> Term:
    term = parse_order(given.get("field_name", ""))
    ascending = given.get("ascending")
    return Term(term.kind, term.key, ascending is False or term.descending, term.as_number, _data(given))


def _data(given: Mapping[str, Any]) -> tuple[str | None, str | None] | None:
    name, digest = given.get("dataset_name"), given.get("dataset_digest")
    for part in (name, digest):
        if part is not None:
            checks.text("a dataset", part)
    return None if name is None and digest is None else (name, digest)
