"""MLflow's SQLite database: opened so that nothing is written, whatever it is."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from loopline.base.errors import Conflict, Invalid, LooplineError
from loopline.store.runs.protocol import Dataset, Experiment, LoggedModel, ModelUse, Point, Run
from loopline.training.exchange import texts
from loopline.training.exchange.folders import Fenced
from loopline.training.exchange.mlflow_folder import files_at, lies_apart, local_files
from loopline.training.exchange.nouns import Offered, OfferedName, OfferedVersion, Series

LONGEST_VALUE = 100_000_000
ROWS = 20_000
"""Rows that are fetched together."""
AT_ONCE = 200
"""Runs whose params and tags are read together."""
BESIDE = ("mlruns", "mlartifacts", "artifacts")
"""Folders beside the file that artifacts are usually in."""
NEEDED = {
    "experiments": ("experiment_id", "name", "lifecycle_stage"),
    "runs": ("run_uuid", "experiment_id", "status", "start_time", "end_time", "lifecycle_stage", "artifact_uri"),
    "params": ("run_uuid", "key", "value"),
    "tags": ("run_uuid", "key", "value"),
    "metrics": ("run_uuid", "key", "value", "timestamp", "step", "is_nan"),
}
_ASKED = "(SELECT value FROM json_each(?))"


class MlflowDatabase:
    """A database file of MLflow, any schema that has what a run is.

    Artifacts are read from the folders `mlruns`, `mlartifacts` and `artifacts` beside the file and from those that
    are named with it. A file with a journal beside it, as a running server leaves one, is copied first.
    """

    kind = "mlflow database"

    def __init__(self, path: Path, *others: Path) -> None:
        self.path, self.told = Path(path), list[str]()
        beside = [self.path.parent / name for name in BESIDE]
        self._fence = Fenced(beside[0], *beside[1:], *others)
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        with self._whole():
            self._db = self._open()
            self._columns = self._look()

    def _open(self) -> sqlite3.Connection:
        path, how = self.path, "mode=ro&immutable=1"
        sidecars = [Path(f"{path}{end}") for end in ("-wal", "-journal")]
        if any(one.is_file() and one.stat().st_size for one in sidecars):
            self._scratch = tempfile.TemporaryDirectory(prefix="loopline-import-")
            copy = Path(self._scratch.name) / "copy.db"
            shutil.copyfile(path, copy)
            for one in sidecars:
                if one.is_file():
                    shutil.copyfile(one, f"{copy}{one.name[len(path.name) :]}")
            path, how = copy, "mode=rw"
        db = sqlite3.connect(f"file:{quote(str(path.absolute()))}?{how}", uri=True, isolation_level=None)
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        db.text_factory = lambda data: data.decode("utf-8", "replace")
        db.execute("PRAGMA trusted_schema=OFF")
        db.execute("PRAGMA cell_size_check=ON")
        return db

    def _look(self) -> dict[str, set[str]]:
        """Columns by table; views are none, they may be anything."""
        tables = [str(row[0]) for row in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {
            name: {str(row[1]) for row in self._db.execute("SELECT * FROM pragma_table_info(?)", (name,))}
            for name in tables
        }
        if "alembic_version" not in found or "runs" not in found:
            raise Invalid(
                f"{self.path} is no database of MLflow",
                why="it has no tables of runs and of their version",
                fix="name an mlflow.db file, a mlruns folder, or the address of a server",
            )
        row = self._db.execute("SELECT version_num FROM alembic_version").fetchone()
        missing = [
            f"{table}.{column}"
            for table, columns in NEEDED.items()
            for column in columns
            if column not in found.get(table, ())
        ]
        if missing:
            raise Conflict(
                f"{self.path} has the schema {str(row and row[0])[:40]!r}, which lacks {', '.join(missing[:5])}",
                why="it was written by an MLflow that is too old, or by one that keeps runs in another way",
                fix=f"copy it, then `mlflow db upgrade sqlite:///{self.path.absolute()}` with an MLflow from 2.0 on",
            )
        return found

    @contextmanager
    def _whole(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise Invalid(
                f"{self.path} cannot be read: {error}",
                why="it is no SQLite database, damaged, or a server changed it while it was read",
                fix="stop the server or give its address, then do the same again; what came stays",
            ) from error

    def _rows(
        self, table: str, columns: Sequence[str], where: str = "", given: Sequence[Any] = ()
    ) -> Iterator[list[Any]]:
        """Columns of a table; null for those that the schema has not."""
        for rows in self._many(table, columns, where, given):
            for row in rows:
                yield list(row)

    def _many(
        self, table: str, columns: Sequence[str], where: str, given: Sequence[Any]
    ) -> Iterator[list[tuple[Any, ...]]]:
        """The same, many rows at a time."""
        has = self._columns.get(table)
        if has is None:
            return
        listed = ", ".join(f'"{name}"' if name in has else "NULL" for name in columns)
        with self._whole():
            cursor = self._db.execute(f'SELECT {listed} FROM "{table}" {where}', given)
            while rows := cursor.fetchmany(ROWS):
                yield rows

    def _texts(
        self, table: str, of: str, ids: Sequence[Any], key: str = "key", value: str = "value"
    ) -> dict[Any, dict[str, str]]:
        found: dict[Any, dict[str, str]] = {id: {} for id in ids}
        for id, name, said in self._rows(table, (of, key, value), f'WHERE "{of}" IN {_ASKED}', (json.dumps(ids),)):
            found[id][texts.text(name, "a key")] = texts.text(said, f"the value of {name!r:.100}")
        return found

    def experiments(self) -> list[Experiment]:
        """Experiments, deleted ones too."""
        rows = list(
            self._rows(
                "experiments",
                (
                    "experiment_id",
                    "name",
                    "artifact_location",
                    "lifecycle_stage",
                    "creation_time",
                    "last_update_time",
                    "workspace",
                ),
                "ORDER BY experiment_id",
            )
        )
        tags = self._texts("experiment_tags", "experiment_id", [row[0] for row in rows])
        found = []
        for id, name, location, stage, created, updated, workspace in rows:
            called = texts.text(name, "the name of an experiment")
            found.append(
                Experiment(
                    str(id),
                    called if workspace in (None, "default") else f"{workspace}/{called}",
                    texts.maybe(location, "an address"),
                    "deleted" if stage == "deleted" else "active",
                    texts.moment(created, "a time") or 0,
                    texts.moment(updated, "a time") or 0,
                    tags[id],
                )
            )
        return found

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        """Runs of an experiment, in the order in which they began."""
        columns = ("run_uuid", "name", "user_id", "status", "lifecycle_stage", "start_time", "end_time", "artifact_uri")
        rows = list(
            self._rows("runs", columns, "WHERE experiment_id = ? ORDER BY start_time, run_uuid", (int(experiment.id),))
        )
        for at in range(0, len(rows), AT_ONCE):
            some = rows[at : at + AT_ONCE]
            ids = [row[0] for row in some]
            params, tags = self._texts("params", "run_uuid", ids), self._texts("tags", "run_uuid", ids)
            uses = self._uses(ids)
            for id, name, user, status, stage, start, end, artifacts in some:
                try:
                    yield Run(
                        id=texts.text(id, "an id"), experiment=experiment.id,
                        name=texts.text(name or tags[id].get("mlflow.runName"), "the name of a run"),
                        user=texts.text(user, "a user"), status=texts.status(status),
                        stage="deleted" if stage == "deleted" else "active",
                        start_ms=texts.moment(start, "a time"), end_ms=texts.moment(end, "a time"),
                        artifacts=texts.text(artifacts, "an address"), metrics=(), params=params[id], tags=tags[id],
                        **uses[id],
                    )  # fmt: skip
                except LooplineError as error:
                    self.told.append(f"the run {id!r:.100}: {error.what}")

    def _uses(self, ids: list[str]) -> dict[str, dict[str, Any]]:
        lists: dict[str, dict[str, list[Any]]] = {id: {"datasets": [], "read": [], "made": []} for id in ids}
        asked = (json.dumps(ids),)
        for of, kind, field in (("source_id", "RUN_INPUT", "read"), ("source_id", "RUN_OUTPUT", "made")):
            for run, model, step in self._rows(
                "inputs",
                (of, "destination_id", "step"),
                f"WHERE source_type = '{kind}' AND source_id IN {_ASKED}",
                asked,
            ):
                lists[run][field].append(ModelUse(texts.text(model, "an id"), texts.whole(step or 0, "a step")))
        used = list(
            self._rows(
                "inputs",
                ("destination_id", "source_id", "input_uuid"),
                f"WHERE source_type = 'DATASET' AND destination_type = 'RUN' AND destination_id IN {_ASKED}",
                asked,
            )
        )
        tags = self._texts("input_tags", "input_uuid", [row[2] for row in used], "name")
        fields = (
            "dataset_uuid",
            "name",
            "digest",
            "dataset_source_type",
            "dataset_source",
            "dataset_schema",
            "dataset_profile",
        )
        data = {
            row[0]: row[1:]
            for row in self._rows(
                "datasets", fields, f"WHERE dataset_uuid IN {_ASKED}", (json.dumps([row[1] for row in used]),)
            )
        }
        for run, dataset, use in used:
            if dataset in data:
                said = [texts.maybe(one, "a dataset") for one in data[dataset]]
                name, digest, typed, source, schema, profile = said
                lists[run]["datasets"].append(
                    Dataset(name or "", digest or "", typed or "", source or "", schema, profile, tags[use])
                )
        return {id: {field: tuple(found) for field, found in one.items()} for id, one in lists.items()}

    def series(self, run: Run) -> Iterator[Series]:
        """Points by time, step and value: the database knows no other order. Its stand-ins for infinity are it."""
        found: Series | None = None
        for rows in self._many(
            "metrics",
            ("key", "value", "timestamp", "step", "is_nan"),
            "WHERE run_uuid = ? ORDER BY key, timestamp, step, value",
            (run.id,),
        ):
            for key, some in groupby(rows, itemgetter(0)):
                if found is None or found.key != key:
                    if found is not None:
                        yield found
                    found = Series(texts.text(key, "a key"), array("d"), array("q"), array("q"))
                _take(found, list(some))
        if found is not None:
            yield found

    def measured(self, run: Run) -> Iterator[Point]:
        """Points that the run measured on logged models."""
        for key, value, at, step, model, name, digest in self._rows(
            "logged_model_metrics",
            (
                "metric_name",
                "metric_value",
                "metric_timestamp_ms",
                "metric_step",
                "model_id",
                "dataset_name",
                "dataset_digest",
            ),
            "WHERE run_id = ?",
            (run.id,),
        ):
            data = (texts.text(name, "a dataset"), texts.text(digest, "a digest")) if name else None
            number = float("nan") if value is None else texts.as_logged(texts.number(value, "a metric"))
            yield Point(
                texts.text(key, "a key"),
                number,
                texts.whole(at, "a time"),
                texts.whole(step, "a step"),
                texts.text(model, "an id"),
                data,
            )

    def models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        """Logged models that are not deleted."""
        columns = (
            "model_id",
            "name",
            "source_run_id",
            "artifact_location",
            "status",
            "status_message",
            "model_type",
            "creation_timestamp_ms",
            "last_updated_timestamp_ms",
        )
        rows = list(
            self._rows(
                "logged_models",
                columns,
                "WHERE experiment_id = ? AND lifecycle_stage = 'active' ORDER BY creation_timestamp_ms, model_id",
                (int(experiment.id),),
            )
        )
        ids = [row[0] for row in rows]
        params = self._texts("logged_model_params", "model_id", ids, "param_key", "param_value")
        tags = self._texts("logged_model_tags", "model_id", ids, "tag_key", "tag_value")
        for id, name, run, artifacts, status, message, kind, created, updated in rows:
            yield LoggedModel(
                id=texts.text(id, "an id"), experiment=experiment.id, name=texts.text(name, "a name"),
                run=texts.maybe(run, "an id"), artifacts=texts.text(artifacts, "an address"),
                status=texts.model_status(status), status_message=texts.text(message, "a message"),  # type: ignore[arg-type]
                type=texts.text(kind, "a type"), created_ms=texts.whole(created, "a time"),
                updated_ms=texts.whole(updated, "a time"), params=params[id], tags=tags[id],
            )  # fmt: skip

    def left(self, experiment: Experiment) -> Iterator[str]:
        """Traces."""
        rows = self._rows("trace_info", ("request_id",), "WHERE experiment_id = ?", (int(experiment.id),))
        yield from texts.left_traces(sum(1 for _ in rows), experiment)

    def files(self, of: Run | LoggedModel) -> Iterator[Offered]:
        """Artifacts, where the database says they are or beside it."""
        return local_files(self._fence, of, of.experiment, self.told)

    def registered(self) -> Iterator[OfferedName]:
        """Registered models with the versions that are not deleted."""
        for name, said, workspace in list(
            self._rows("registered_models", ("name", "description", "workspace"), "ORDER BY name")
        ):
            if workspace not in (None, "default"):
                self.told.append(f"the registered model {name!r:.100} of the workspace {workspace!r:.100} is left out")
                continue
            tags = self._texts("registered_model_tags", "name", [name])[name]
            aliases = {
                key: texts.whole(value, "a version")
                for key, value in self._texts("registered_model_aliases", "name", [name], "alias", "version")[
                    name
                ].items()
            }
            tagged: dict[int, dict[str, str]] = {}
            for number, key, value in self._rows(
                "model_version_tags", ("version", "key", "value"), "WHERE name = ?", (name,)
            ):
                tagged.setdefault(number, {})[texts.text(key, "a key")] = texts.text(value, "a value")
            versions = []
            for number, source, run, about, stage, created, link, location in self._rows(
                "model_versions",
                (
                    "version",
                    "source",
                    "run_id",
                    "description",
                    "current_stage",
                    "creation_time",
                    "run_link",
                    "storage_location",
                ),
                "WHERE name = ? ORDER BY version",
                (name,),
            ):
                if stage != "Deleted_Internal":
                    source, location = texts.text(source, "an address"), texts.text(location, "an address")
                    model = source.removeprefix("models:/") if source.startswith("models:/m-") else None
                    versions.append(
                        OfferedVersion(
                            texts.whole(number, "a version"),
                            source,
                            texts.maybe(run, "an id") or None,
                            model,
                            texts.text(about, "a description"),
                            tagged.get(number, {}),
                            stage or "None",
                            texts.moment(created, "a time") or 0,
                            texts.text(link, "a link"),
                            location,
                            lies_apart(location),
                        )
                    )
            yield OfferedName(
                texts.text(name, "a name"), texts.text(said, "a description"), tags, aliases, tuple(versions)
            )

    def version_files(self, of: OfferedVersion) -> Iterator[Offered]:
        """Files at the address of a version, if it is beside the database."""
        return files_at(self._fence, of, self.told)

    def close(self) -> None:
        """Close the file; a copy of it goes."""
        self._db.close()
        if self._scratch is not None:
            self._scratch.cleanup()


def _take(into: Series, rows: list[tuple[Any, ...]]) -> None:
    """Put points behind the others: all at once where they are plain numbers, as nearly all are."""
    _, values, times, steps, nans = zip(*rows, strict=True)
    plain = set(map(type, values)) == {float} and set(map(type, times)) == set(map(type, steps)) == {int}
    if plain and not any(nans) and min(values) > -texts.GREATEST and max(values) < texts.GREATEST:
        into.values.extend(values)
        into.times.extend(times)
        into.steps.extend(steps)
        return
    for _, value, at, step, is_nan in rows:
        into.values.append(float("nan") if is_nan else texts.as_logged(texts.number(value, into.key)))
        into.times.append(texts.whole(at, into.key))
        into.steps.append(texts.whole(step, into.key))
