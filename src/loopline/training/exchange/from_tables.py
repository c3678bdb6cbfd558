"""The open files of an export, read back."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from loopline.base.errors import Conflict, Invalid
from loopline.store.runs.protocol import Dataset, Experiment, LoggedModel, ModelUse, Point, Run
from loopline.training.exchange import texts
from loopline.training.exchange.folders import Fenced, require_folder, small
from loopline.training.exchange.nouns import Offered, OfferedName, OfferedVersion, Series
from loopline.training.exchange.to_tables import ARTIFACTS, FORMAT, MANIFEST, METRICS, POINTS, REGISTERED, TABLES

MANIFEST_BYTES = 50_000_000


class TablesFolder:
    """A folder that `loopline export` wrote. Only what it should hold is read from it."""

    kind = "loopline export"

    def __init__(self, root: Path) -> None:
        self.root, self.told = require_folder(root, "an export"), list[str]()
        self._fence = Fenced(self.root)
        try:
            manifest = json.loads(small(self.root / MANIFEST, MANIFEST_BYTES))
            version = manifest["format"]
        except (ValueError, KeyError, TypeError, RecursionError, Invalid) as error:
            raise Invalid(
                f"{root} is no export of runs",
                why=f"it has no {MANIFEST} that says so",
                fix="name the folder that `loopline export` wrote",
            ) from error
        if not isinstance(version, int) or version > FORMAT:
            raise Conflict(
                f"the export {root} has the format {version!r:.20}",
                why=f"this Loopline knows formats up to {FORMAT}",
                fix="pip install --upgrade loopline",
            )
        self._tables = {name: self._table(self.root / f"{name}.parquet", columns) for name, columns in TABLES.items()}
        for name, columns in REGISTERED.items():
            path = self.root / f"{name}.parquet"
            self._tables[name] = self._table(path, columns) if path.exists() else pl.DataFrame(schema=columns)
        self._of = {name: self._by(name, first) for name, first in _FIRST.items()}
        self._parts = sorted((self.root / METRICS).glob("part-*.parquet"))
        self._open: tuple[Path, dict[str, pl.DataFrame]] | None = None

    def _table(self, path: Path, columns: dict[str, Any]) -> pl.DataFrame:
        if path.is_symlink():
            raise Invalid(f"{path} is a link", why="an export holds plain files", fix="make it anew")
        try:
            return pl.read_parquet(path, columns=list(columns), glob=False).cast(pl.Schema(columns))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise Invalid(
                f"{path} cannot be read: {str(error).splitlines()[0]}",
                why="it is damaged, or not of an export",
                fix="make the export anew",
            ) from error

    def _by(self, name: str, first: str) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self._tables[name].iter_rows(named=True):
            found.setdefault(row[first], []).append(row)
        return found

    @cached_property
    def _homes(self) -> dict[str, list[Path]]:
        """Files that hold points of a run."""
        homes: dict[str, list[Path]] = {}
        for path in self._parts:
            for run in self._table(path, {"run": POINTS["run"]})["run"].unique():
                homes.setdefault(run, []).append(path)
        return homes

    def experiments(self) -> list[Experiment]:
        """Experiments, in the order in which they were made."""
        return [
            Experiment(
                row["experiment"], texts.text(row["name"], "a name"), None,
                "deleted" if row["stage"] == "deleted" else "active", row["created_ms"] or 0, row["updated_ms"] or 0,
                _pairs(self._of["experiment_tags"].get(row["experiment"])),
            )
            for row in self._tables["experiments"].iter_rows(named=True)
        ]  # fmt: skip

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        """Runs of an experiment."""
        for row in self._of["runs"].get(experiment.id, ()):
            id = texts.text(row["run"], "an id")
            uses = [(one["made"], ModelUse(one["model"], one["step"] or 0)) for one in self._of["uses"].get(id, ())]
            yield Run(
                id=id, experiment=experiment.id, name=row["name"] or "", user=row["user"] or "",
                status=texts.status(row["status"]), stage="deleted" if row["stage"] == "deleted" else "active",
                start_ms=row["start_ms"], end_ms=row["end_ms"], artifacts="", metrics=(),
                params=_pairs(self._of["params"].get(id)), tags=_pairs(self._of["tags"].get(id)),
                datasets=tuple(_dataset(one) for one in self._of["datasets"].get(id, ())),
                read=tuple(use for made, use in uses if not made), made=tuple(use for made, use in uses if made),
            )  # fmt: skip

    def series(self, run: Run) -> Iterator[Series]:
        """Points of a run, a metric at a time."""
        for path in self._homes.get(run.id, ()):
            for (key,), frame in self._points(path)[run.id].group_by(["key"], maintain_order=True):
                if frame.null_count().sum_horizontal()[0]:
                    self.told.append(f"the metric {key!r:.100} of the run {run.id} is left out: it has holes")
                    continue
                values, times, steps = array("d"), array("q"), array("q")
                for column, name in ((values, "value"), (times, "time_ms"), (steps, "step")):
                    column.frombytes(frame[name].to_numpy().tobytes())
                yield Series(texts.text(key, "a key"), values, times, steps)

    def _points(self, path: Path) -> dict[str, pl.DataFrame]:
        if self._open is None or self._open[0] != path:
            frame = self._table(path, POINTS)
            self._open = (
                path,
                {key[0]: some for key, some in frame.partition_by("run", as_dict=True, maintain_order=True).items()},
            )
        return self._open[1]

    def measured(self, run: Run) -> Iterator[Point]:
        """Points that the run measured on logged models."""
        for row in self._of["model_metrics"].get(run.id, ()):
            data = (row["dataset"], row["digest"] or "") if row["dataset"] is not None else None
            yield Point(row["key"], row["value"], row["time_ms"], row["step"], row["model"], data)

    def models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        """Logged models of an experiment."""
        for row in self._of["models"].get(experiment.id, ()):
            yield LoggedModel(
                id=texts.text(row["model"], "an id"), experiment=experiment.id, name=row["name"] or "", run=row["run"],
                artifacts="", status=texts.model_status(row["status"]),  # type: ignore[arg-type]
                status_message=row["status_message"] or "", type=row["type"] or "", created_ms=row["created_ms"] or 0,
                updated_ms=row["updated_ms"] or 0, params=_object(row["params"]), tags=_object(row["tags"]),
            )  # fmt: skip

    def left(self, experiment: Experiment) -> Iterator[str]:
        """Nothing."""
        return iter(())

    def files(self, of: Run | LoggedModel) -> Iterator[Offered]:
        """Artifacts that lie in the folder; what the table names and the folder lacks is told."""
        found = {file.path: file for file in self._owned(of.id)}
        for row in self._of["files"].get(of.id, ()):
            if row["path"] not in found:
                self.told.append(f"the file {row['path']!r:.200} of {of.id} is not in the export")
        yield from found.values()

    def _owned(self, owner: str) -> Iterator[Offered]:
        folder = self.root / ARTIFACTS / owner
        if "/" not in owner and owner not in (".", "..") and folder.is_dir() and self._fence.holds(folder):
            yield from self._fence.files(folder, self.told)

    def registered(self) -> Iterator[OfferedName]:
        """Registered models, by name."""
        for row in self._tables["registered_models"].iter_rows(named=True):
            aliases = {alias: texts.whole(number, "a version") for alias, number in _object(row["aliases"]).items()}
            versions = tuple(self._version(one) for one in self._of["versions"].get(row["name"], ()))
            yield OfferedName(
                texts.text(row["name"], "a name"), row["description"] or "", _object(row["tags"]), aliases, versions
            )

    def _version(self, row: dict[str, Any]) -> OfferedVersion:
        owner, path = row["owner"] or "", row["path"] or ""
        return OfferedVersion(
            texts.whole(row["version"], "a version"), row["source"] or "", row["run"], row["model"],
            row["description"] or "", _object(row["tags"]), row["stage"] or "None", row["created_ms"] or 0,
            row["run_link"] or "", f"{owner}/artifacts/{path}" if path else f"{owner}/artifacts" if owner else "",
            bool(owner) and owner not in self._going, owner or None, path,
        )  # fmt: skip

    @cached_property
    def _going(self) -> set[str]:
        return set(self._tables["runs"]["run"]) | set(self._tables["models"]["model"])

    def version_files(self, of: OfferedVersion) -> Iterator[Offered]:
        """Files of a version that lie apart from those of its run and its logged model."""
        return self._owned(of.owner) if of.owner is not None and of.apart else iter(())

    def close(self) -> None:
        """Nothing is open."""


_FIRST = {
    "experiment_tags": "experiment", "runs": "experiment", "params": "run", "tags": "run", "datasets": "run",
    "uses": "run", "models": "experiment", "model_metrics": "run", "files": "owner",
    "versions": "name",
}  # fmt: skip


def _pairs(rows: list[dict[str, Any]] | None) -> dict[str, str]:
    return {texts.text(row["key"], "a key"): texts.text(row["value"], "a value") for row in rows or ()}


def _object(given: str | None) -> dict[str, str]:
    try:
        doc = json.loads(given or "{}")
    except (ValueError, RecursionError) as error:
        raise texts.wrong(f"tags are {given!r:.100}", "they are an object in JSON") from error
    return {key: texts.text(value, "a value") for key, value in doc.items()} if isinstance(doc, dict) else {}


def _dataset(row: dict[str, Any]) -> Dataset:
    return Dataset(
        row["name"] or "", row["digest"] or "", row["source_type"] or "", row["source"] or "", row["schema"],
        row["profile"], _object(row["tags"]),
    )  # fmt: skip
