"""MLflow's file store (`mlruns`): a folder a run, a file a metric."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loopline.base.errors import Invalid, LooplineError
from loopline.store.runs.protocol import Dataset, Experiment, LoggedModel, ModelUse, Point, Run
from loopline.training.exchange import texts
from loopline.training.exchange.folders import DEEPEST, Fenced, chunks, small
from loopline.training.exchange.nouns import Offered, OfferedName, OfferedVersion, Series

DATASET = ("name", "digest", "source_type", "source")
META, TRASH, REGISTRY = "meta.yaml", ".trash", "models"
REGISTERED = "registered/"
"""Folder among the artifacts of an export for files of versions alone."""
_APART = re.compile(rf"/{REGISTERED}[0-9a-f]{{32}}/artifacts$")
RESERVED = frozenset({"tags", "datasets", "traces", "models"})
META_BYTES, VALUE_BYTES, SERIES_BYTES = 20_000_000, 4_000_000, 4_000_000_000


class MlflowFolder:
    """A `mlruns` folder. Nothing outside of it, and of the folders that are named with it, is read."""

    kind = "mlflow folder"

    def __init__(self, root: Path, *others: Path) -> None:
        self.root, self.told = Path(root), list[str]()
        self._fence = Fenced(self.root, *others)
        self._home: dict[str, Path] = {}
        if not any(self._folders(self.root, META)):
            raise Invalid(
                f"{root} is no file store of MLflow",
                why="no folder in it is an experiment, with a meta.yaml",
                fix="name the mlruns folder, an mlflow.db file, or the address of a server",
            )

    def experiments(self) -> list[Experiment]:
        """Those of the folder and of its trash."""
        found = []
        for parent in (self.root, self.root / TRASH):
            for folder in self._folders(parent, META):
                if parent == self.root and folder.name == REGISTRY:
                    continue
                try:
                    found.append(self._experiment(folder, deleted=parent != self.root))
                except LooplineError as error:
                    self.told.append(f"the experiment in {folder}: {error.what}")
        return found

    def _experiment(self, folder: Path, *, deleted: bool) -> Experiment:
        doc = self._meta(folder)
        self._home[folder.name] = folder
        return Experiment(
            id=folder.name,
            name=texts.text(doc.get("name"), "the name of an experiment"),
            artifact_location=texts.maybe(doc.get("artifact_location"), "an artifact location"),
            stage="deleted" if deleted or doc.get("lifecycle_stage") == "deleted" else "active",
            created_ms=texts.moment(doc.get("creation_time"), "a time") or 0,
            updated_ms=texts.moment(doc.get("last_update_time"), "a time") or 0,
            tags=self._texts(folder / "tags"),
        )

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        """Folders of the experiment that are runs."""
        home = self._home[experiment.id]
        for folder in self._folders(home, META):
            if folder.name in RESERVED:
                continue
            try:
                yield self._run(home, folder, experiment.id)
            except LooplineError as error:
                self.told.append(f"the run in {folder}: {error.what}")

    def _run(self, home: Path, folder: Path, experiment: str) -> Run:
        doc = self._meta(folder)
        tags = self._texts(folder / "tags")
        return Run(
            id=folder.name,
            experiment=experiment,
            name=texts.text(doc.get("run_name") or doc.get("name") or tags.get("mlflow.runName"), "the name of a run"),
            user=texts.text(doc.get("user_id"), "a user"),
            status=texts.status(doc.get("status")),
            stage="deleted" if doc.get("lifecycle_stage") == "deleted" else "active",
            start_ms=texts.moment(doc.get("start_time"), "a time"),
            end_ms=texts.moment(doc.get("end_time"), "a time"),
            artifacts=texts.text(doc.get("artifact_uri"), "an address"),
            metrics=(),
            params=self._texts(folder / "params"),
            tags=tags,
            **self._uses(home, folder),
        )

    def _uses(self, home: Path, folder: Path) -> dict[str, Any]:
        data, read, made = [], [], []
        for place in self._folders(folder / "inputs", META):
            doc = self._meta(place)
            id = texts.text(doc.get("source_id"), "an id")
            if doc.get("source_type") == "MODEL":
                read.append(ModelUse(id))
            elif "/" not in id and id not in ("", ".", ".."):
                data.append(self._dataset(home / "datasets" / id, doc))
        for place in self._folders(folder / "outputs", META):
            doc = self._meta(place)
            made.append(
                ModelUse(texts.text(doc.get("destination_id"), "an id"), texts.whole(doc.get("step") or 0, "a step"))
            )
        return {"datasets": tuple(data), "read": tuple(read), "made": tuple(made)}

    def _dataset(self, folder: Path, use: dict[str, Any]) -> Dataset:
        doc, tags = self._meta(folder), use.get("tags")
        given = {key: texts.text(doc.get(key), f"the {key} of a dataset") for key in DATASET}
        return Dataset(
            **given,
            schema=texts.maybe(doc.get("schema"), "a schema"),
            profile=texts.maybe(doc.get("profile"), "a profile"),
            tags={texts.text(key, "a tag"): texts.text(value, "a tag") for key, value in tags.items()}
            if isinstance(tags, dict)
            else {},
        )

    def series(self, run: Run) -> Iterator[Series]:
        """One file a metric: a line a point, `time value step`; very old ones have no step."""
        folder = self._home[run.experiment] / run.id / "metrics"
        for key, path in self._plain(folder):
            try:
                yield _series(key, path)
            except LooplineError as error:
                self.told.append(f"the metric {key!r} of the run {run.id}: {error.what}")

    def measured(self, run: Run) -> Iterator[Point]:
        """Points in the files of the models that name this run."""
        for use in run.made + run.read + tuple(ModelUse(id) for id in self._of(run)):
            folder = self._home[run.experiment] / "models" / use.model / "metrics"
            for key, path in self._plain(folder):
                for line in small(path, META_BYTES).decode("utf-8", "replace").splitlines():
                    at, value, step, of, *data = line.split(" ")[:6] + [""] * (4 - line.count(" "))
                    if of == run.id:
                        dataset = (data[0], data[1]) if len(data) > 1 and data[1] else None
                        yield Point(
                            key, texts.number(value, key), texts.whole(at, key), texts.whole(step, key), use.model,
                            dataset,
                        )  # fmt: skip

    def _of(self, run: Run) -> list[str]:
        """Models whose source is the run, and that it does not list."""
        listed = {use.model for use in run.made + run.read}
        return [id for id in self._sources.get(run.id, ()) if id not in listed]

    def models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        """Logged models that are not deleted."""
        self._sources: dict[str, list[str]] = {}
        for folder in self._folders(self._home[experiment.id] / "models", META):
            try:
                doc = self._meta(folder)
                if doc.get("lifecycle_stage") == "deleted":
                    continue
                run = texts.maybe(doc.get("source_run_id"), "an id")
                self._sources.setdefault(run or "", []).append(folder.name)
                created = texts.moment(doc.get("creation_timestamp"), "a time") or 0
                yield LoggedModel(
                    id=folder.name, experiment=experiment.id, name=texts.text(doc.get("name"), "a name"), run=run,
                    artifacts=texts.text(doc.get("artifact_location"), "an address"),
                    status=texts.model_status(doc.get("status")),  # type: ignore[arg-type]
                    status_message=texts.text(doc.get("status_message"), "a message"),
                    type=texts.text(doc.get("model_type"), "a type"), created_ms=created,
                    updated_ms=texts.moment(doc.get("last_updated_timestamp"), "a time") or created,
                    params=self._texts(folder / "params"), tags=self._texts(folder / "tags"),
                )  # fmt: skip
            except LooplineError as error:
                self.told.append(f"the model in {folder}: {error.what}")

    def left(self, experiment: Experiment) -> Iterator[str]:
        """Traces, which lie in folders of their own."""
        found = self._folders(self._home[experiment.id] / "traces", "trace_info.yaml")
        yield from texts.left_traces(len(found), experiment)

    def files(self, of: Run | LoggedModel) -> Iterator[Offered]:
        """Artifacts, where the source says they are or in the run's own folder."""
        return local_files(self._fence, of, self._home[of.experiment].name, self.told)

    def registered(self) -> Iterator[OfferedName]:
        """Registered models, from the folder `models`."""
        for folder in self._folders(self.root / REGISTRY, META):
            try:
                doc = self._meta(folder)
                pointing = {
                    key: texts.whole(value.strip(), "a version")
                    for key, value in self._texts(folder / "aliases").items()
                }
                yield OfferedName(
                    texts.text(doc.get("name"), "a name"), texts.text(doc.get("description"), "a description"),
                    self._texts(folder / "tags"), pointing,
                    tuple(sorted(self._versions(folder), key=lambda one: one.number)),
                )  # fmt: skip
            except LooplineError as error:
                self.told.append(f"the registered model in {folder}: {error.what}")

    def _versions(self, folder: Path) -> Iterator[OfferedVersion]:
        for place in self._folders(folder, META):
            doc = self._meta(place)
            stage = texts.text(doc.get("current_stage"), "a stage")
            if stage != "Deleted_Internal":
                yield OfferedVersion(
                    texts.whole(doc.get("version"), "a version"), texts.text(doc.get("source"), "an address"),
                    texts.maybe(doc.get("run_id"), "an id") or None, texts.maybe(doc.get("model_id"), "an id") or None,
                    texts.text(doc.get("description"), "a description"), self._texts(place / "tags"), stage or "None",
                    texts.moment(doc.get("creation_timestamp"), "a time") or 0,
                    texts.text(doc.get("run_link"), "a link"), texts.text(doc.get("storage_location"), "an address"),
                )  # fmt: skip

    def version_files(self, of: OfferedVersion) -> Iterator[Offered]:
        """Files at the address of a version, if it is inside of the source."""
        return files_at(self._fence, of, self.told)

    def close(self) -> None:
        """Nothing is open."""

    def _folders(self, parent: Path, having: str) -> list[Path]:
        """Folders directly inside that hold a file of that name; links are none."""
        try:
            found = sorted(entry.name for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []
        except OSError as error:
            self.told.append(f"{parent} cannot be read: {error.strerror}")
            return []
        return [parent / name for name in found if (parent / name / having).is_file()]

    def _meta(self, folder: Path) -> dict[str, Any]:
        """A `meta.yaml`: plain values by key. No tag, anchor or type of it makes anything but text and numbers."""
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        path = folder / META
        try:
            doc = YAML(typ="safe").load(small(path, META_BYTES))
        except (YAMLError, ValueError, RecursionError, OverflowError) as error:
            raise Invalid(
                f"{path} is no YAML: {str(error).splitlines()[0]}", why="it says what the folder is", fix="repair it"
            ) from error
        if not isinstance(doc, dict):
            raise Invalid(f"{path} is empty or a list", why="it holds values by name", fix="repair it")
        return doc

    def _texts(self, folder: Path) -> dict[str, str]:
        found = {}
        for key, path in self._plain(folder):
            try:
                found[key] = small(path, VALUE_BYTES).decode("utf-8", "replace")
            except LooplineError as error:
                self.told.append(error.what)
        return found

    def _plain(self, folder: Path, under: str = "", depth: int = 0) -> Iterator[tuple[str, Path]]:
        """Files below by name; a slash in a name is a folder."""
        try:
            entries = sorted(os.scandir(folder), key=lambda one: one.name)
        except OSError:
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and depth < DEEPEST:
                yield from self._plain(Path(entry.path), f"{under}{entry.name}/", depth + 1)
            elif entry.is_file(follow_symlinks=False):
                yield under + entry.name, Path(entry.path)
            else:
                self.told.append(f"{entry.path} is left out: a link, or no plain file")


def _series(key: str, path: Path) -> Series:
    found = Series(key, array("d"), array("q"), array("q"))
    rest = b""
    total = 0
    for piece in chunks(path):
        total += len(piece)
        if total > SERIES_BYTES:
            raise Invalid(f"{path} is larger than {SERIES_BYTES:,} bytes", why="no metric is", fix="look at it")
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > 1_000:
            raise Invalid(
                f"{path} has a line of over 1,000 characters", why="a point is three numbers", fix="look at it"
            )
        _add(lines, found)
    _add([rest], found)
    return found


def _add(lines: list[bytes], into: Series) -> None:
    for line in lines:
        if line:
            at, _, more = line.decode("ascii", "replace").partition(" ")
            value, _, step = more.partition(" ")
            into.values.append(texts.number(value, "a value"))
            into.times.append(texts.whole(at, "a time"))
            into.steps.append(texts.whole(step.partition(" ")[0] or "0", "a step"))


def files_at(fence: Fenced, of: OfferedVersion, told: list[str]) -> Iterator[Offered]:
    """Files of a version at a local address, or where they lie in an export that was moved."""
    address = of.location or of.source
    tail = REGISTERED + address.rpartition(f"/{REGISTERED}")[2]
    folder = fence.folder(address, [tail] if of.apart else ())
    if folder is not None:
        yield from fence.files(folder, told)


def lies_apart(location: str) -> bool:
    """Whether an address is that of a version whose files an export has put into a folder of their own."""
    return _APART.search(location) is not None


def local_files(fence: Fenced, of: Run | LoggedModel, experiment: str, told: list[str]) -> Iterator[Offered]:
    """Artifacts of a run or model at a local address, or where they lie in a store that was moved."""
    inner = f"models/{of.id}" if isinstance(of, LoggedModel) else of.id
    bases = (
        experiment,
        f"{TRASH}/{experiment}",
        f"mlruns/{experiment}",
        f"mlartifacts/{experiment}",
        f"artifacts/{experiment}",
        "artifacts",
    )
    folder = fence.folder(of.artifacts, [f"{inner}/artifacts", *(f"{base}/{inner}/artifacts" for base in bases)])
    if folder is not None:
        yield from fence.files(folder, told)
    elif of.artifacts and "://" in of.artifacts and not of.artifacts.startswith("file:"):
        scheme = of.artifacts.partition(":")[0]
        told.append(
            f"artifacts in an object store ({scheme}:) stay there; fetch them into a folder: --artifacts FOLDER"
        )
