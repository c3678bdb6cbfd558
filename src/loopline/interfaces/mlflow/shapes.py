"""Nouns of the run log in the shapes of the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, isnan
from typing import Any

from loopline.interfaces.mlflow.errors import invalid
from loopline.store.runs.protocol import Dataset, Experiment, LoggedModel, Point, Run, Status, View

STATUSES: tuple[Status, ...] = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
VIEWS: dict[str, View] = {"ACTIVE_ONLY": "active", "DELETED_ONLY": "deleted", "ALL": "all"}
_VIEW_NUMBERS: dict[str, View] = {"1": "active", "2": "deleted", "3": "all"}
_MODEL = "LOGGED_MODEL_"
_MODEL_NUMBERS = {"1": "PENDING", "2": "READY", "3": "UPLOAD_FAILED"}


def view(given: str | int | None) -> View:
    """Which rows are asked for: a name, or the number it has in the protocol."""
    if given is None or given == "":
        return "active"
    found = VIEWS.get(str(given)) or _VIEW_NUMBERS.get(str(given))
    if found is None:
        raise invalid(f"Invalid value '{given}' for parameter 'view_type' supplied: it is one of {', '.join(VIEWS)}.")
    return found


def status(given: str | int) -> Status:
    """The status of a run: a name, or its number."""
    for number, name in enumerate(STATUSES, start=1):
        if str(given) in (name, str(number)):
            return name
    raise invalid(f"Invalid value '{given}' for parameter 'status' supplied: it is one of {', '.join(STATUSES)}.")


def model_status(given: str | int) -> str:
    """The status of a logged model: a name, or its number."""
    found = str(given).removeprefix(_MODEL)
    found = _MODEL_NUMBERS.get(found, found)
    if found not in _MODEL_NUMBERS.values():
        raise invalid(f"Invalid value '{given}' for parameter 'status' supplied: it is no status of a logged model.")
    return found


def number(value: float) -> float | str:
    """A value as JSON carries it: NaN and the infinities as words."""
    if isfinite(value):
        return value
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def tags(found: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags or params as a list."""
    return [{"key": key, "value": value} for key, value in found.items()]


def experiment(found: Experiment) -> dict[str, Any]:
    """An experiment."""
    return {
        "experiment_id": found.id,
        "name": found.name,
        "artifact_location": found.artifact_location or f"mlflow-artifacts:/{found.id}",
        "lifecycle_stage": found.stage,
        "last_update_time": found.updated_ms,
        "creation_time": found.created_ms,
        "tags": tags(found.tags),
    }


def metric(point: Point, run: str | None = None) -> dict[str, Any]:
    """A point of a series."""
    found: dict[str, Any] = {
        "key": point.key,
        "value": number(point.value),
        "timestamp": point.at_ms,
        "step": point.step,
    }
    if point.model is not None:
        found["model_id"] = point.model
    if point.dataset is not None:
        found["dataset_name"], found["dataset_digest"] = point.dataset
    if run is not None:
        found["run_id"] = run
    return found


def metrics(points: Sequence[Point], run: str | None = None) -> list[dict[str, Any]]:
    """Points of a series."""
    return [metric(point, run) for point in points]


def info(run: Run) -> dict[str, Any]:
    """What a run is, without its data."""
    found: dict[str, Any] = {
        "run_id": run.id,
        "run_uuid": run.id,
        "run_name": run.name,
        "experiment_id": run.experiment,
        "user_id": run.user,
        "status": run.status,
        "start_time": run.start_ms or 0,
        "artifact_uri": run.artifacts,
        "lifecycle_stage": run.stage,
    }
    if run.end_ms is not None:
        found["end_time"] = run.end_ms
    return found


def dataset(found: Dataset) -> dict[str, Any]:
    """Data that a run was given."""
    doc = {
        "name": found.name,
        "digest": found.digest,
        "source_type": found.source_type,
        "source": found.source,
        "schema": found.schema,
        "profile": found.profile,
    }
    return {"tags": tags(found.tags), "dataset": {name: value for name, value in doc.items() if value is not None}}


def model(found: LoggedModel) -> dict[str, Any]:
    """A logged model."""
    about: dict[str, Any] = {
        "model_id": found.id,
        "experiment_id": found.experiment,
        "name": found.name,
        "creation_timestamp_ms": found.created_ms,
        "last_updated_timestamp_ms": found.updated_ms,
        "artifact_uri": found.artifacts,
        "status": _MODEL + found.status,
        "model_type": found.type,
        "status_message": found.status_message,
        "tags": tags(found.tags),
    }
    if found.run is not None:
        about["source_run_id"] = found.run
    return {"info": about, "data": {"params": tags(found.params), "metrics": metrics(found.metrics, found.run)}}
