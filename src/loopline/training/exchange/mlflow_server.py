"""A tracking server that speaks MLflow's protocol, asked page by page."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from loopline.base.errors import Denied, Invalid, LooplineError, NotFound, Unavailable
from loopline.store.runs.artifacts import clean
from loopline.store.runs.protocol import Dataset, Experiment, LoggedModel, ModelUse, Point, Run
from loopline.training.exchange import texts
from loopline.training.exchange.asking import Asking
from loopline.training.exchange.folders import DEEPEST, Fenced
from loopline.training.exchange.mlflow_folder import DATASET, local_files
from loopline.training.exchange.nouns import Offered, OfferedName, OfferedVersion, Series

API = "/api/2.0/mlflow"
PROXIED = "/api/2.0/mlflow-artifacts/artifacts"
TRACES = "/api/3.0/mlflow/traces/search"
PROMPTS = "tags.`mlflow.prompt.is_prompt` = 'true'"
TRACES_A_PAGE, TRACES_COUNTED = 100, 5_000
RUNS_A_PAGE, POINTS_A_PAGE, OTHERS_A_PAGE = 200, 25_000, 100


class MlflowServer:
    """A server at one address. Artifacts come through it; those that it keeps elsewhere as far as it hands them out."""

    kind = "mlflow server"

    def __init__(self, address: str, *folders: Path) -> None:
        self._ask, self.told = Asking(address), list[str]()
        self._fence = Fenced(*folders) if folders else None
        self._measured: dict[str, list[Point]] = {}
        self._keys: dict[str, list[str]] = {}
        self._mute = False
        """Whether it was asked for traces and could not say."""

    def experiments(self) -> list[Experiment]:
        """Experiments, deleted ones too."""
        found = []
        for doc in self._ask.pages(f"{API}/experiments/search", "experiments", view_type="ALL", max_results=1000):
            found.append(
                Experiment(
                    texts.text(doc.get("experiment_id"), "an id"), texts.text(doc.get("name"), "a name"),
                    texts.maybe(doc.get("artifact_location"), "an address"),
                    "deleted" if doc.get("lifecycle_stage") == "deleted" else "active",
                    texts.moment(doc.get("creation_time"), "a time") or 0,
                    texts.moment(doc.get("last_update_time"), "a time") or 0, _pairs(doc.get("tags")),
                )
            )  # fmt: skip
        return found

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        """Runs of an experiment, deleted ones too."""
        asked = {"experiment_ids": [experiment.id], "run_view_type": "ALL", "max_results": RUNS_A_PAGE}
        for doc in self._ask.pages(f"{API}/runs/search", "runs", **asked, order_by=["attributes.start_time ASC"]):
            info, data = _part(doc, "info"), _part(doc, "data")
            try:
                yield self._run(experiment, info, data, doc)
            except LooplineError as error:
                self.told.append(f"the run {info.get('run_id')!r:.100}: {error.what}")

    def _run(self, experiment: Experiment, info: dict[str, Any], data: dict[str, Any], doc: dict[str, Any]) -> Run:
        tags, id = _pairs(data.get("tags")), texts.text(info.get("run_id") or info.get("run_uuid"), "an id")
        self._keys = {id: [texts.text(one.get("key"), "a key") for one in _list(data.get("metrics"))]}
        return Run(
            id=id, experiment=experiment.id,
            name=texts.text(info.get("run_name") or tags.get("mlflow.runName"), "the name of a run"),
            user=texts.text(info.get("user_id"), "a user"), status=texts.status(info.get("status")),
            stage="deleted" if info.get("lifecycle_stage") == "deleted" else "active",
            start_ms=texts.moment(info.get("start_time"), "a time"),
            end_ms=texts.moment(info.get("end_time"), "a time") or None,
            artifacts=texts.text(info.get("artifact_uri"), "an address"), metrics=(),
            params=_pairs(data.get("params")), tags=tags,
            datasets=tuple(_dataset(one) for one in _list(_part(doc, "inputs").get("dataset_inputs"))),
            read=_uses(_part(doc, "inputs").get("model_inputs")),
            made=_uses(_part(doc, "outputs").get("model_outputs")),
        )  # fmt: skip

    def series(self, run: Run) -> Iterator[Series]:
        """Histories, a request and more for each metric."""
        for key in self._keys.get(run.id, ()):
            found = Series(key, array("d"), array("q"), array("q"))
            for doc in self._ask.pages(
                f"{API}/metrics/get-history", "metrics", "GET", run_id=run.id, metric_key=key, max_results=POINTS_A_PAGE
            ):
                found.values.append(texts.as_logged(texts.number(doc.get("value", 0.0), key)))
                found.times.append(texts.whole(doc.get("timestamp", 0), key))
                found.steps.append(texts.whole(doc.get("step", 0), key))
            yield found

    def measured(self, run: Run) -> Iterator[Point]:
        """Points that models say this run measured on them."""
        yield from self._measured.get(run.id, ())

    def models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        """Logged models; servers before MLflow 3 have none."""
        self._measured = {}
        asked = {"experiment_ids": [experiment.id], "max_results": 50}
        pages = self._ask.pages(f"{API}/logged-models/search", "models", **asked)
        while True:
            try:
                doc = next(pages, None)
            except NotFound:
                return
            if doc is None:
                return
            info, data = _part(doc, "info"), _part(doc, "data")
            id = texts.text(info.get("model_id"), "an id")
            for one in _list(data.get("metrics")):
                name = one.get("dataset_name")
                point = Point(
                    texts.text(one.get("key"), "a key"),
                    texts.as_logged(texts.number(one.get("value", 0.0), "a metric")),
                    texts.whole(one.get("timestamp", 0), "a time"),
                    texts.whole(one.get("step", 0), "a step"),
                    id,
                    (texts.text(name, "a dataset"), texts.text(one.get("dataset_digest"), "a digest"))
                    if name
                    else None,
                )
                run = texts.text(one.get("run_id") or info.get("source_run_id"), "an id")
                self._measured.setdefault(run, []).append(point)
            created = texts.moment(info.get("creation_timestamp_ms"), "a time") or 0
            yield LoggedModel(
                id=id, experiment=experiment.id, name=texts.text(info.get("name"), "a name"),
                run=texts.maybe(info.get("source_run_id"), "an id") or None,
                artifacts=texts.text(info.get("artifact_uri"), "an address"),
                status=texts.model_status(info.get("status")),  # type: ignore[arg-type]
                status_message=texts.text(info.get("status_message"), "a message"),
                type=texts.text(info.get("model_type"), "a type"), created_ms=created,
                updated_ms=texts.moment(info.get("last_updated_timestamp_ms"), "a time") or created,
                params=_pairs(data.get("params")), tags=_pairs(info.get("tags")),
            )  # fmt: skip

    def left(self, experiment: Experiment) -> Iterator[str]:
        """Traces, counted page by page; servers before MLflow 3 are asked in their way, those before 2.14 have none."""
        place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment.id}}
        pages = (
            self._ask.pages(TRACES, "traces", locations=[place], max_results=TRACES_A_PAGE),
            self._ask.pages(f"{API}/traces", "traces", "GET", experiment_ids=experiment.id, max_results=TRACES_A_PAGE),
        )
        for found in pages:
            try:
                count = 0 if self._mute else sum(1 for _ in islice(found, TRACES_COUNTED + 1))
            except NotFound:
                continue
            except (Denied, Invalid, Unavailable) as error:
                self._mute = True
                yield f"traces, if it has any, which cannot be counted: {error.what[:200]}"
                return
            yield from texts.left_traces(count, experiment, most=TRACES_COUNTED)
            return

    def files(self, of: Run | LoggedModel) -> Iterator[Offered]:
        """Artifacts: through the server's proxy, else as the server hands them out, else from named folders."""
        parts = urlsplit(of.artifacts)
        if parts.scheme == "mlflow-artifacts" and (not parts.netloc or self._ask.is_same(parts.netloc)):
            root = unquote(parts.path).strip("/")
            clean(root)
            yield from self._proxied(root, "", 0)
        elif parts.scheme == "mlflow-artifacts":
            self.told.append(f"artifacts at {parts.netloc[:100]} are left out: only the server that was named is asked")
        elif self._fence is not None and parts.scheme in ("", "file"):
            yield from local_files(self._fence, of, of.experiment, self.told)
        elif isinstance(of, Run):
            yield from self._handed_out(of, "", 0)
        elif of.artifacts:
            self.told.append(
                f"files of models in {parts.scheme or 'file'}: are left out; fetch them: --artifacts FOLDER"
            )

    def _proxied(self, root: str, under: str, depth: int) -> Iterator[Offered]:
        place = f"{root}/{under}".rstrip("/")
        try:
            answer = self._ask.get(PROXIED, path=place)
        except NotFound:
            return
        for name, is_folder, size in _entries(answer):
            name = name.rpartition("/")[2]
            path = clean(f"{under}/{name}" if under else name)
            if is_folder:
                if depth < DEEPEST:
                    yield from self._proxied(root, path, depth + 1)
                continue
            address = f"{PROXIED}/{quote(root)}/{quote(path)}"
            yield Offered(path, size, lambda address=address: self._ask.stream(address), local=False)  # type: ignore[misc]

    def _handed_out(self, run: Run, under: str, depth: int) -> Iterator[Offered]:
        try:
            given = {"run_id": run.id, **({"path": under} if under else {})}
            entries = _entries(self._ask.get(f"{API}/artifacts/list", **given))
        except LooplineError as error:
            if not isinstance(error, (NotFound, Invalid)) and under == "":
                self.told.append(f"artifacts of the run {run.id} cannot be listed by the server: {error.what[:200]}")
            return
        for name, is_folder, size in entries:
            path = clean(name)
            if is_folder:
                if depth < DEEPEST and path.startswith(under):
                    yield from self._handed_out(run, path, depth + 1)
                continue
            address = f"/get-artifact?path={quote(path, safe='')}&run_uuid={quote(run.id)}"
            yield Offered(path, size, lambda address=address: self._ask.stream(address), local=False)  # type: ignore[misc]

    def registered(self) -> Iterator[OfferedName]:
        """Registered models with their versions, then prompts, which a server names only if asked for them."""
        named: set[str] = set()
        for asked in ("", PROMPTS):
            for one in self._names(asked):
                if one.name not in named:
                    named.add(one.name)
                    yield one

    def _names(self, only: str) -> Iterator[OfferedName]:
        """Registered models that fit a filter; so must their versions."""
        more = {"filter": only} if only else {}
        try:
            found = list(
                self._ask.pages(
                    f"{API}/registered-models/search", "registered_models", "GET", max_results=OTHERS_A_PAGE, **more
                )
            )
        except NotFound:
            return
        for doc in found:
            name = texts.text(doc.get("name"), "a name")
            if "'" in name:
                self.told.append(f"the registered model {name!r:.100} is left out: its name cannot be asked for")
                continue
            aliases = {
                texts.text(one.get("alias"), "an alias"): texts.whole(one.get("version"), "a version")
                for one in _list(doc.get("aliases"))
            }
            asked = self._ask.pages(
                f"{API}/model-versions/search",
                "model_versions",
                "GET",
                filter=" AND ".join(filter(None, (f"name='{name}'", only))),
                max_results=OTHERS_A_PAGE,
            )
            versions = sorted((_version(one) for one in asked), key=lambda one: one.number)
            said = texts.text(doc.get("description"), "a description")
            yield OfferedName(name, said, _pairs(doc.get("tags")), aliases, tuple(versions))

    def version_files(self, of: OfferedVersion) -> Iterator[Offered]:
        """None: a version's files come with its run or its logged model."""
        return iter(())

    def close(self) -> None:
        """Close the connection."""
        self._ask.close()


def _part(doc: dict[str, Any], name: str) -> dict[str, Any]:
    found = doc.get(name)
    return found if isinstance(found, dict) else {}


def _list(found: Any) -> list[dict[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _pairs(found: Any) -> dict[str, str]:
    return {texts.text(one.get("key"), "a key"): texts.text(one.get("value"), "a value") for one in _list(found)}


def _uses(found: Any) -> tuple[ModelUse, ...]:
    return tuple(
        ModelUse(texts.text(one.get("model_id"), "an id"), texts.whole(one.get("step", 0), "a step"))
        for one in _list(found)
    )


def _dataset(doc: dict[str, Any]) -> Dataset:
    of = _part(doc, "dataset")
    given = {key: texts.text(of.get(key), f"the {key} of a dataset") for key in DATASET}
    return Dataset(
        **given,
        schema=texts.maybe(of.get("schema"), "a schema"),
        profile=texts.maybe(of.get("profile"), "a profile"),
        tags=_pairs(doc.get("tags")),
    )


def _version(doc: dict[str, Any]) -> OfferedVersion:
    source = texts.text(doc.get("source"), "an address")
    model = source.removeprefix("models:/") if source.startswith("models:/m-") else None
    return OfferedVersion(
        texts.whole(doc.get("version"), "a version"), source, texts.maybe(doc.get("run_id"), "an id") or None,
        texts.maybe(doc.get("model_id"), "an id") or model, texts.text(doc.get("description"), "a description"),
        _pairs(doc.get("tags")), texts.text(doc.get("current_stage"), "a stage") or "None",
        texts.moment(doc.get("creation_timestamp"), "a time") or 0, texts.text(doc.get("run_link"), "a link"),
    )  # fmt: skip


def _entries(answer: dict[str, Any]) -> Iterator[tuple[str, bool, int | None]]:
    for one in _list(answer.get("files")):
        size = one.get("file_size")
        yield (
            texts.text(one.get("path"), "a path"),
            bool(one.get("is_dir")),
            None if size is None else texts.whole(size, "a size"),
        )
