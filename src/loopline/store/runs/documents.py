"""Runs as nouns and as ready JSON in the shape of the tracking protocol."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from loopline.store.runs.database import Tx
from loopline.store.runs.protocol import Dataset, ModelUse, Point, Run

MAX = 1.7976931348623157e308
_ASKED = "(SELECT value FROM json_each(?))"
_RUNS = f"""
SELECT id, uuid, experiment, name, user, status, stage, start, end, artifacts FROM runs WHERE id IN {_ASKED}
"""
_LATEST = f"""
SELECT l.run, k.name, l.value, l.at, l.step FROM latest l JOIN keys k ON k.id = l.key WHERE l.run IN {_ASKED}
ORDER BY l.run, k.name
"""
_PARAMS, _TAGS = (
    f"""SELECT t.run, k.name, t.value FROM {table} t JOIN keys k ON k.id = t.key WHERE t.run IN {_ASKED}
ORDER BY t.run, k.name"""
    for table in ("params", "tags")
)
_INPUTS = f"""
SELECT i.run, i.dataset, d.name, d.digest, d.source_type, d.source, d.schema, d.profile, i.key, i.value
FROM inputs i JOIN datasets d ON d.id = i.dataset WHERE i.run IN {_ASKED} ORDER BY i.run, i.dataset, i.key
"""
_USES = f"SELECT run, made, model, step FROM uses WHERE run IN {_ASKED} ORDER BY run, made, step, model"


class _Parts(NamedTuple):
    metrics: list[Point]
    params: dict[str, str]
    tags: dict[str, str]
    datasets: dict[int, Dataset]
    uses: tuple[list[ModelUse], list[ModelUse]]


def load(connection: sqlite3.Connection, ids: Iterable[int]) -> list[Run]:
    """Runs by number, in that order; those that are gone are left out."""
    ids = list(ids)
    asked = (json.dumps(ids),)
    parts: defaultdict[int, _Parts] = defaultdict(lambda: _Parts([], {}, {}, {}, ([], [])))
    nan = float("nan")
    for run, key, value, at, step in connection.execute(_LATEST, asked):
        parts[run].metrics.append(Point(key, nan if value is None else value, at, step))
    for run, key, value in connection.execute(_PARAMS, asked):
        parts[run].params[key] = value
    for run, key, value in connection.execute(_TAGS, asked):
        parts[run].tags[key] = value
    for run, number, *fields, key, value in connection.execute(_INPUTS, asked):
        found = parts[run].datasets.setdefault(number, Dataset(*fields))
        if key:
            found.tags[key] = value
    for run, made, model, step in connection.execute(_USES, asked):
        parts[run].uses[made].append(ModelUse(model, step))
    found_runs = {}
    for number, uuid, experiment, *fields in connection.execute(_RUNS, asked):
        of = parts[number]
        given: dict[str, Any] = {"metrics": tuple(of.metrics), "params": of.params, "tags": of.tags}
        given |= {"datasets": tuple(of.datasets.values()), "read": tuple(of.uses[0]), "made": tuple(of.uses[1])}
        found_runs[number] = Run(uuid, str(experiment), *fields, **given)
    return [found_runs[number] for number in ids if number in found_runs]


def ready(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, bytes]:
    """The documents that are kept, of those asked for."""
    return dict(
        connection.execute(f"SELECT run, json FROM documents WHERE run IN {_ASKED}", (json.dumps(ids),)).fetchall()
    )


def keep(tx: Tx, ids: Sequence[int]) -> dict[int, bytes]:
    """Build the documents of some runs and keep them until something of the run changes."""
    built = build(tx.connection, ids)
    tx.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?)", list(built.items()))
    return built


def build(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, bytes]:
    """The documents of some runs, as they stand."""
    numbers = dict(connection.execute(f"SELECT uuid, id FROM runs WHERE id IN {_ASKED}", (json.dumps(ids),)).fetchall())
    return {numbers[run.id]: encode(run) for run in load(connection, ids)}


def encode(run: Run) -> bytes:
    """A run as JSON: `info`, `data`, `inputs`, `outputs`. What is null is left out."""
    info: dict[str, Any] = {
        "run_id": run.id,
        "run_uuid": run.id,
        "run_name": run.name,
        "experiment_id": run.experiment,
        "user_id": run.user,
        "status": run.status,
        "start_time": run.start_ms,
        "artifact_uri": run.artifacts,
        "lifecycle_stage": run.stage,
    }
    if run.end_ms is not None:
        info["end_time"] = run.end_ms
    doc = {
        "info": info,
        "data": {
            "metrics": [
                {"key": key, "value": value if -MAX <= value <= MAX else spelt(value), "timestamp": at, "step": step}
                for key, value, at, step, *_ in run.metrics
            ],
            "params": _pairs(run.params),
            "tags": _pairs(run.tags),
        },
        "inputs": {
            "dataset_inputs": [{"dataset": _dataset(used), "tags": _pairs(used.tags)} for used in run.datasets],
            "model_inputs": [{"model_id": used.model} for used in run.read],
        },
        "outputs": {"model_outputs": [{"model_id": used.model, "step": used.step} for used in run.made]},
    }
    return msgspec.json.encode(doc)


def spelt(value: float) -> str:
    """A value that JSON has no number for."""
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _pairs(texts: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in texts.items()]


def _dataset(used: Dataset) -> dict[str, str]:
    fields = ("name", "digest", "source_type", "source", "schema", "profile")
    return {name: value for name in fields if (value := getattr(used, name)) is not None}
