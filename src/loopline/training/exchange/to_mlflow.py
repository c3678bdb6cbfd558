"""Runs as a database and a folder of artifacts that the stock `mlflow` client opens."""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from loopline.base.errors import Invalid
from loopline.base.ids import content_id
from loopline.store.runs.protocol import Experiment, LoggedModel, Point, Run
from loopline.training.exchange.leaving import Chosen, copy_files, series_of
from loopline.training.exchange.nouns import OfferedName, Series
from loopline.training.exchange.texts import MODEL_STATUSES
from loopline.workspace import Workspace

DATABASE, ARTIFACTS = "mlflow.db", "artifacts"
NEWEST = "3.17"


def schemas() -> dict[str, Any]:
    """Tables of the database by version of MLflow: `statements`, and for each version their places and its revision."""
    text = files("loopline.training.exchange").joinpath("mlflow_schemas.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def write(ws: Workspace, chosen: Chosen, part: Path, dest: Path, *, version: str, say: Any) -> None:
    """Write `mlflow.db` and `artifacts` into `part`; addresses in it say `dest`.

    Infinities are kept as such, not as MLflow's stand-in. A zero and a negative zero of one time and step are one
    point there, and metrics of a model without a run do not go.

    Raises
    ------
    Invalid
        If the tables of that version are not known.
    """
    known = schemas()
    of = known["versions"].get(version)
    if of is None:
        raise Invalid(
            f"the tables of MLflow {version} are not known",
            why=f"known are those of {', '.join(sorted(known['versions']))}",
            fix=f"leave it out, then `mlflow db upgrade sqlite:///{dest / DATABASE}`",
        )
    db = sqlite3.connect(part / DATABASE, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=OFF")
        db.execute("PRAGMA synchronous=OFF")
        db.execute("BEGIN")
        for at in of["statements"]:
            db.execute(known["statements"][at])
        db.execute("INSERT INTO alembic_version VALUES (?)", (of["revision"],))
        db.execute(
            "INSERT INTO workspaces (name, description) VALUES ('default', 'Default workspace for legacy resources')"
        )
        base = (dest / ARTIFACTS).as_uri()
        if not any(one.name == "Default" for one in chosen.experiments):
            _experiment(db, Experiment("0", "Default", None, "active", 0, 0), base)
        done = 0
        for experiment in chosen.experiments:
            _experiment(db, experiment, base)
            inside = set(chosen.runs[experiment.id])
            for id in chosen.runs[experiment.id]:
                if done % 20 == 0:
                    say(f"run {done + 1:,}", done, chosen.count)
                run = ws.runs.run(id)
                _run(db, run, f"{base}/{experiment.id}/{id}/artifacts")
                chosen.points += _series(db, run.id, series_of(ws, run))
                copy_files(ws, id, part / ARTIFACTS / experiment.id / id / "artifacts", chosen)
                done += 1
            for model in chosen.models[experiment.id]:
                _model(db, model, f"{base}/{experiment.id}/models/{model.id}/artifacts", inside, chosen)
                copy_files(ws, model.id, part / ARTIFACTS / experiment.id / "models" / model.id / "artifacts", chosen)
        for registered in chosen.registered:
            _registered(ws, db, registered, part, base, chosen)
        db.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if "full" in str(error) or "disk" in str(error):
            raise OSError(28, "No space left on device") from error
        raise
    finally:
        db.close()


def _put(db: sqlite3.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        names = list(rows[0])
        listed, marks = ", ".join(f'"{name}"' for name in names), ", ".join("?" * len(names))
        db.executemany(
            f"INSERT OR IGNORE INTO {table} ({listed}) VALUES ({marks})", [tuple(row.values()) for row in rows]
        )


def _experiment(db: sqlite3.Connection, of: Experiment, base: str) -> None:
    _put(
        db, "experiments",
        [{"experiment_id": int(of.id), "name": of.name, "artifact_location": f"{base}/{of.id}", 
          "lifecycle_stage": of.stage, "creation_time": of.created_ms, "last_update_time": of.updated_ms}],
    )  # fmt: skip
    _put(
        db,
        "experiment_tags",
        [{"key": key, "value": value, "experiment_id": int(of.id)} for key, value in of.tags.items()],
    )


def _run(db: sqlite3.Connection, run: Run, artifacts: str) -> None:
    _put(
        db, "runs",
        [{"run_uuid": run.id, "name": run.name, "source_type": "UNKNOWN", "source_name": "", "entry_point_name": "",
          "user_id": run.user, "status": run.status, "start_time": run.start_ms, "end_time": run.end_ms,
          "source_version": "", "lifecycle_stage": run.stage, "artifact_uri": artifacts,
          "experiment_id": int(run.experiment)}],
    )  # fmt: skip
    for table, texts in (("params", run.params), ("tags", run.tags)):
        _put(db, table, [{"key": key, "value": value, "run_uuid": run.id} for key, value in texts.items()])
    latest = [(*_value(point.value), point) for point in run.metrics]
    _put(
        db, "latest_metrics",
        [{"key": point.key, "value": value, "timestamp": point.at_ms, "step": point.step, "is_nan": nan,
          "run_uuid": run.id}
         for value, nan, point in latest],
    )  # fmt: skip
    for data in run.datasets:
        id = content_id([run.experiment, data.name, data.digest])[:32]
        use = content_id([id, run.id])[:32]
        _put(
            db, "datasets",
            [{"dataset_uuid": id, "experiment_id": int(run.experiment), "name": data.name, "digest": data.digest,
              "dataset_source_type": data.source_type, "dataset_source": data.source, "dataset_schema": data.schema,
              "dataset_profile": data.profile}],
        )  # fmt: skip
        _use(db, use, "DATASET", id, "RUN", run.id, 0)
        _put(db, "input_tags", [{"input_uuid": use, "name": key, "value": value} for key, value in data.tags.items()])
    for kind, uses in (("INPUT", run.read), ("OUTPUT", run.made)):
        for one in uses:
            use = content_id([kind, run.id, one.model])[:32]
            _use(db, use, f"RUN_{kind}", run.id, f"MODEL_{kind}", one.model, one.step)


def _use(db: sqlite3.Connection, id: str, kind: str, of: str, into: str, to: str, step: int) -> None:
    _put(
        db, "inputs",
        [{"input_uuid": id, "source_type": kind, "source_id": of, "destination_type": into, "destination_id": to,
          "step": step}],
    )  # fmt: skip


def _series(db: sqlite3.Connection, run: str, every: Iterator[Series]) -> int:
    total = 0
    for series in every:
        rows = (
            (series.key, *_value(value), at, run, step)
            for value, at, step in zip(series.values, series.times, series.steps, strict=True)
        )
        db.executemany(
            "INSERT OR IGNORE INTO metrics (key, value, is_nan, timestamp, run_uuid, step) VALUES (?, ?, ?, ?, ?, ?)",
            rows,
        )
        total += len(series.steps)
    return total


def _value(value: float) -> tuple[float, bool]:
    """A value as the database has it: NaN is a zero with a mark."""
    return (0.0, True) if value != value else (value, False)


def _model(db: sqlite3.Connection, of: LoggedModel, artifacts: str, runs: set[str], chosen: Chosen) -> None:
    experiment = int(of.experiment)
    _put(
        db, "logged_models",
        [{"model_id": of.id, "experiment_id": experiment, "name": of.name, "artifact_location": artifacts,
          "creation_timestamp_ms": of.created_ms, "last_updated_timestamp_ms": of.updated_ms,
          "status": MODEL_STATUSES.index(of.status) + 1, "lifecycle_stage": "active", "model_type": of.type,
          "source_run_id": of.run, "status_message": of.status_message}],
    )  # fmt: skip
    for kind, texts in (("param", of.params), ("tag", of.tags)):
        _put(
            db, f"logged_model_{kind}s",
            [{"model_id": of.id, "experiment_id": experiment, f"{kind}_key": key, f"{kind}_value": value}
             for key, value in texts.items()],
        )  # fmt: skip
    if of.metrics and of.run not in runs:
        chosen.leave(f"metrics of the model {of.id}: the run that made it does not go along")
        return
    for point in of.metrics:
        _put(db, "logged_model_metrics", [_measured(point, of)])


def _registered(ws: Workspace, db: sqlite3.Connection, of: OfferedName, part: Path, base: str, chosen: Chosen) -> None:
    """A registered model. Files of a version that are not those of its run or its model lie apart."""
    _put(
        db, "registered_models",
        [{"name": of.name, "creation_time": of.created_ms, "last_updated_time": of.updated_ms,
          "description": of.description}],
    )  # fmt: skip
    tags = [{"key": key, "value": value, "name": of.name} for key, value in of.tags.items()]
    _put(db, "registered_model_tags", tags)
    aliases = [{"alias": alias, "version": number, "name": of.name} for alias, number in of.aliases.items()]
    _put(db, "registered_model_aliases", aliases)
    experiments = {id: home for home, ids in chosen.runs.items() for id in ids}
    experiments |= {one.id: f"{home}/models" for home, found in chosen.models.items() for one in found}
    for one in of.versions:
        place = one.source
        if one.owner is not None:
            inner = f"{experiments.get(one.owner, 'registered')}/{one.owner}/artifacts"
            if one.owner not in experiments:
                copy_files(ws, one.owner, part / ARTIFACTS / inner, chosen)
            place = f"{base}/{inner}/{quote(one.path)}" if one.path else f"{base}/{inner}"
        _put(
            db, "model_versions",
            [{"name": of.name, "version": one.number, "creation_time": one.created_ms,
              "last_updated_time": one.updated_ms, "description": one.description, "user_id": one.author,
              "current_stage": one.stage, "source": one.source, "run_id": one.run, "status": "READY",
              "run_link": one.run_link, "storage_location": place}],
        )  # fmt: skip
        told = [{"key": key, "value": value, "name": of.name, "version": one.number} for key, value in one.tags.items()]
        _put(db, "model_version_tags", told)


def _measured(point: Point, of: LoggedModel) -> dict[str, Any]:
    name, digest = point.dataset or (None, None)
    (value,) = array("d", [point.value])
    return {
        "model_id": of.id, "metric_name": point.key, "metric_timestamp_ms": point.at_ms, "metric_step": point.step,
        "metric_value": None if value != value else value, "experiment_id": int(of.experiment), "run_id": of.run,
        "dataset_name": name, "dataset_digest": digest,
    }  # fmt: skip
