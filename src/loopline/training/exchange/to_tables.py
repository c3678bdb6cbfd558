"""Runs as open files: Parquet tables, a folder of artifacts, and a manifest. Everything comes back as it was.

Tables are listed in docs/how-to/import-and-export.md. Times are milliseconds since 1970 (UTC).
"""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any

import polars as pl

from loopline import __version__
from loopline.store.runs.protocol import Run
from loopline.training.exchange.leaving import Chosen, copy_files, series_of
from loopline.workspace import Workspace

FORMAT = 1
MANIFEST, METRICS, ARTIFACTS = "manifest.json", "metrics", "artifacts"
PART = 2_000_000
"""Points of a file of metrics, about."""
TEXT, INT = pl.String, pl.Int64
TABLES: dict[str, dict[str, Any]] = {
    "experiments": {"experiment": TEXT, "name": TEXT, "stage": TEXT, "created_ms": INT, "updated_ms": INT},
    "experiment_tags": {"experiment": TEXT, "key": TEXT, "value": TEXT},
    "runs": {
        "run": TEXT, "experiment": TEXT, "name": TEXT, "user": TEXT, "status": TEXT, "stage": TEXT, "start_ms": INT,
        "end_ms": INT,
    },
    "params": {"run": TEXT, "key": TEXT, "value": TEXT},
    "tags": {"run": TEXT, "key": TEXT, "value": TEXT},
    "datasets": {
        "run": TEXT, "name": TEXT, "digest": TEXT, "source_type": TEXT, "source": TEXT, "schema": TEXT, "profile": TEXT,
        "tags": TEXT,
    },
    "uses": {"run": TEXT, "made": pl.Boolean, "model": TEXT, "step": INT},
    "models": {
        "model": TEXT, "experiment": TEXT, "name": TEXT, "run": TEXT, "status": TEXT, "status_message": TEXT,
        "type": TEXT, "created_ms": INT, "updated_ms": INT, "params": TEXT, "tags": TEXT,
    },
    "model_metrics": {
        "model": TEXT, "run": TEXT, "key": TEXT, "value": pl.Float64, "time_ms": INT, "step": INT, "dataset": TEXT,
        "digest": TEXT,
    },
    "files": {"owner": TEXT, "path": TEXT, "size": INT, "sha256": TEXT},
}  # fmt: skip
"""Columns by table. `tags` and `params` of datasets and models are objects in JSON."""
REGISTERED: dict[str, dict[str, Any]] = {
    "registered_models": {
        "name": TEXT, "description": TEXT, "tags": TEXT, "aliases": TEXT, "created_ms": INT, "updated_ms": INT,
    },
    "versions": {
        "name": TEXT, "version": INT, "source": TEXT, "run": TEXT, "model": TEXT, "description": TEXT, "tags": TEXT,
        "stage": TEXT, "run_link": TEXT, "author": TEXT, "owner": TEXT, "path": TEXT, "created_ms": INT,
        "updated_ms": INT,
    },
}  # fmt: skip
"""Tables that exports of earlier versions lack. `tags` and `aliases` are objects in JSON; `owner` is whose files below
`path` a version is."""
POINTS = {"run": TEXT, "key": TEXT, "value": pl.Float64, "time_ms": INT, "step": INT}


def write(ws: Workspace, chosen: Chosen, part: Path, *, say: Any) -> None:
    """Write tables, artifacts and a manifest into `part`."""
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES | REGISTERED}
    points = _Points(part / METRICS)
    done = 0
    for experiment in chosen.experiments:
        e = experiment
        rows["experiments"].append((e.id, e.name, e.stage, e.created_ms, e.updated_ms))
        rows["experiment_tags"] += [(e.id, key, value) for key, value in e.tags.items()]
        for id in chosen.runs[e.id]:
            if done % 20 == 0:
                say(f"run {done + 1:,}", done, chosen.count)
            run = ws.runs.run(id)
            _run(run, rows)
            for series in series_of(ws, run):
                points.add(id, series.key, series.values, series.times, series.steps)
            _files(ws, id, part, chosen, rows)
            done += 1
        for model in chosen.models[e.id]:
            rows["models"].append(
                (model.id, e.id, model.name, model.run, model.status, model.status_message, model.type,
                 model.created_ms, model.updated_ms, json.dumps(model.params), json.dumps(model.tags))
            )  # fmt: skip
            for point in model.metrics:
                data = point.dataset or (None, None)
                rows["model_metrics"].append((model.id, model.run, *point[:4], *data))
            _files(ws, model.id, part, chosen, rows)
    owners = chosen.owners
    for n in chosen.registered:
        rows["registered_models"].append(
            (n.name, n.description, json.dumps(n.tags), json.dumps(n.aliases), n.created_ms, n.updated_ms)
        )
        for one in n.versions:
            rows["versions"].append(
                (n.name, one.number, one.source, one.run, one.model, one.description, json.dumps(one.tags), one.stage,
                 one.run_link, one.author, one.owner, one.path, one.created_ms, one.updated_ms)
            )  # fmt: skip
            if one.owner is not None and one.owner not in owners:
                _files(ws, one.owner, part, chosen, rows)
                owners.add(one.owner)
    chosen.points = points.end()
    for name, columns in (TABLES | REGISTERED).items():
        pl.DataFrame(rows[name], schema=columns, orient="row").write_parquet(part / f"{name}.parquet")
    told = {
        "format": FORMAT,
        "written_by": f"loopline {__version__}",
        "workspace": ws.id,
        "at": ws.clock().isoformat(),
        "tables": {name: len(found) for name, found in rows.items()},
        "points": chosen.points,
        "metrics": points.parts,
        "left_out": chosen.left_out,
    }
    (part / MANIFEST).write_text(json.dumps(told, indent=2) + "\n")


def _run(run: Run, rows: dict[str, list[tuple[Any, ...]]]) -> None:
    rows["runs"].append((run.id, run.experiment, run.name, run.user, run.status, run.stage, run.start_ms, run.end_ms))
    rows["params"] += [(run.id, key, value) for key, value in run.params.items()]
    rows["tags"] += [(run.id, key, value) for key, value in run.tags.items()]
    for d in run.datasets:
        rows["datasets"].append(
            (run.id, d.name, d.digest, d.source_type, d.source, d.schema, d.profile, json.dumps(d.tags))
        )
    rows["uses"] += [
        (run.id, made, use.model, use.step) for made, uses in ((False, run.read), (True, run.made)) for use in uses
    ]


def _files(ws: Workspace, owner: str, part: Path, chosen: Chosen, rows: dict[str, list[tuple[Any, ...]]]) -> None:
    rows["files"] += [(owner, *one) for one in copy_files(ws, owner, part / ARTIFACTS / owner, chosen)]


class _Points:
    """Points, written a file at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.parts, self._total, self._waiting = folder, 0, 0, 0
        self._frames: list[pl.DataFrame] = []
        folder.mkdir()

    def add(self, run: str, key: str, values: array[float], times: array[int], steps: array[int]) -> None:
        """Put one series behind the others."""
        n = len(steps)
        frame = pl.DataFrame({"value": values, "time_ms": times, "step": steps}).with_columns(
            pl.lit(run).alias("run"), pl.lit(key).alias("key")
        )
        self._frames.append(frame.select(list(POINTS)))
        self._waiting += n
        if self._waiting >= PART:
            self._write()

    def _write(self) -> None:
        if self._frames:
            pl.concat(self._frames).write_parquet(self.folder / f"part-{self.parts:05}.parquet")
            self.parts, self._total = self.parts + 1, self._total + self._waiting
            self._frames, self._waiting = [], 0

    def end(self) -> int:
        """Write the rest; how many points it were."""
        self._write()
        return self._total
