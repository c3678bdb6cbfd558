"""Runs: started, ended, tagged, searched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from loopline.base.errors import NotFound
from loopline.interfaces.mlflow import names, shapes
from loopline.interfaces.mlflow.errors import invalid
from loopline.interfaces.mlflow.operations import Ask, Call, Int64, Operation, Pair, page, pairs
from loopline.store.runs.protocol import Dataset, ModelUse

NAME, USER, HISTORY = "mlflow.runName", "mlflow.user", "mlflow.log-model.history"
MANDATORY = frozenset({"artifact_path", "flavors", "utc_time_created", "run_id"})
DEFAULT = "0"
"""The experiment of runs that name none."""


class Create(Ask):
    experiment_id: str | None = None
    user_id: str | None = None
    run_name: str | None = None
    start_time: Int64 | None = None
    tags: list[Pair] | None = None


class ById(Ask):
    run_id: str | None = None
    run_uuid: str | None = None


class Update(ById):
    status: str | int | None = None
    end_time: Int64 | None = None
    run_name: str | None = None


class Search(Ask):
    experiment_ids: list[str] | None = None
    filter: str | None = None
    run_view_type: str | int | None = None
    max_results: Int64 | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class Tag(ById):
    key: str | None = None
    value: str | None = None


class GivenDataset(msgspec.Struct):
    name: str | None = None
    digest: str | None = None
    source_type: str | None = None
    source: str | None = None
    schema: str | None = None
    profile: str | None = None


class DatasetInput(msgspec.Struct):
    tags: list[Pair] | None = None
    dataset: GivenDataset | None = None


class GivenModel(msgspec.Struct):
    model_id: str | None = None
    step: Int64 | None = None


class Inputs(ById):
    datasets: list[DatasetInput] | None = None
    models: list[GivenModel] | None = None


class Outputs(ById):
    models: list[GivenModel] | None = None


class LogModel(ById):
    model_json: str | None = None


def create(call: Call, ask: Create) -> dict[str, Any]:
    tags = run_tags(pairs(ask.tags, "tags"))
    named = tags.get(NAME, "")
    if ask.run_name and named and ask.run_name != named:
        raise invalid(
            f"Both 'run_name' argument and '{NAME}' tag are specified, but with different values: "
            f"{ask.run_name!r} and {named!r}."
        )
    start = call.now_ms if ask.start_time is None else _moment(ask.start_time, "start_time")
    name = names.require_length(ask.run_name or named or names.made_up(), names.TAG, "run_name")
    made = call.log.create_run(
        ask.experiment_id or DEFAULT,
        start_ms=start,
        name=name,
        user=names.require_length(_user(call, ask, tags), names.KEY, "user_id"),
        tags={**tags, NAME: name},
    )
    return {"run": {"info": shapes.info(made), "data": {"metrics": [], "params": [], "tags": shapes.tags(made.tags)}}}


def get(call: Call, ask: ById) -> bytes:
    return _document(call, _id(ask))


def update(call: Call, ask: Update) -> dict[str, Any]:
    run = _id(ask)
    changed = call.log.change_run(
        run,
        status=None if ask.status is None else shapes.status(ask.status),
        end_ms=None if ask.end_time is None else _moment(ask.end_time, "end_time"),
        name=names.require_length(ask.run_name, names.TAG, "run_name") if ask.run_name else None,
        at_ms=call.now_ms,
    )
    if ask.run_name:
        call.log.log(run, tags={NAME: ask.run_name})
    return {"run_info": shapes.info(changed)}


def delete(call: Call, ask: ById) -> dict[str, Any]:
    call.log.change_run(_id(ask), stage="deleted", at_ms=call.now_ms)
    return {}


def restore(call: Call, ask: ById) -> dict[str, Any]:
    call.log.change_run(_id(ask), stage="active", at_ms=call.now_ms)
    return {}


def search(call: Call, ask: Search) -> bytes:
    found = call.log.search_runs(
        ask.experiment_ids or (),
        filter=ask.filter or "",
        order_by=ask.order_by or (),
        view=shapes.view(ask.run_view_type),
        limit=names.require_page(ask.max_results, names.RUNS_A_PAGE, 1000),
        token=ask.page_token or None,
    )
    return page("runs", found.items, found.token)


def set_tag(call: Call, ask: Tag) -> dict[str, Any]:
    assert ask.key is not None
    write_tags(call, _id(ask), run_tags({ask.key: ask.value or ""}))
    return {}


def delete_tag(call: Call, ask: Tag) -> dict[str, Any]:
    assert ask.key is not None
    run = _id(ask)
    if ask.key not in call.log.run(run).tags:
        raise NotFound(f"No tag with name: {ask.key[:250]} in run with id {run}", why="it has none", fix="see its tags")
    call.log.log(run, tags={ask.key: None})
    return {}


def log_inputs(call: Call, ask: Inputs) -> dict[str, Any]:
    datasets = [_dataset(one, at) for at, one in enumerate(ask.datasets or ())]
    call.log.log_uses(_id(ask), datasets=datasets, read=_uses(ask.models, "models"))
    return {}


def outputs(call: Call, ask: Outputs) -> dict[str, Any]:
    call.log.log_uses(_id(ask), made=_uses(ask.models, "models"))
    return {}


def log_model(call: Call, ask: LogModel) -> dict[str, Any]:
    """The older way to tell of a model: a list in a tag."""
    run = _id(ask)
    try:
        told = json.loads(ask.model_json or "")
    except (ValueError, RecursionError):
        raise invalid("Malformed model info: 'model_json' is not valid JSON.") from None
    missing = MANDATORY - (set(told) if isinstance(told, dict) else set())
    if missing:
        raise invalid(f"Model json is missing mandatory fields: {', '.join(sorted(missing))}")
    before = json.loads(call.log.run(run).tags.get(HISTORY, "[]"))
    call.log.log(run, tags={HISTORY: json.dumps([*before, told], separators=(",", ":"))})
    return {}


def _user(call: Call, ask: Create, tags: dict[str, str]) -> str:
    """Whose run it is: who gave their name with a token, else whom the client names, else who runs the server."""
    told = ask.user_id if ask.user_id != "unknown" else None
    return call.user if call.named else told or tags.get(USER) or call.user


def run_tags(found: dict[str, str]) -> dict[str, str]:
    """Tags of a run, keys checked; a value that is too long is cut, as the protocol's own server does."""
    for key in found:
        names.require_key(key)
    return {key: value[: names.TAG] for key, value in found.items()}


def write_tags(call: Call, run: str, tags: dict[str, str]) -> None:
    """Set tags; that of its name names the run."""
    call.log.log(run, tags=tags)
    if tags.get(NAME):
        call.log.change_run(run, name=tags[NAME], at_ms=call.now_ms)


def _document(call: Call, run: str) -> bytes:
    return b'{"run":' + call.log.document(run) + b"}"


def _id(ask: ById) -> str:
    assert ask.run_id is not None
    return names.require_run(ask.run_id)


def _moment(at_ms: int, field: str) -> int:
    if at_ms < 0:
        raise invalid(f"Invalid value {at_ms} for parameter '{field}' supplied: it is milliseconds since 1970.")
    return at_ms


def _dataset(given: DatasetInput, at: int) -> Dataset:
    found = given.dataset or GivenDataset()
    place = f"datasets[{at}].dataset"
    limits = {
        "name": names.DATASET, "digest": names.DIGEST, "source": names.DATASET_SOURCE,
        "schema": names.DATASET_SCHEMA, "profile": names.DATASET_PROFILE,
    }  # fmt: skip
    for field in ("name", "digest", "source_type", "source"):
        if getattr(found, field) is None:
            raise invalid(f"Missing value for required parameter '{place}.{field}'.")
    for field, most in limits.items():
        names.require_length(getattr(found, field) or "", most, f"{place}.{field}")
    tags = pairs(given.tags, f"datasets[{at}].tags")
    for key, value in tags.items():
        names.require_length(key, names.INPUT_TAG_KEY, f"datasets[{at}].tags.key")
        names.require_length(value, names.INPUT_TAG, f"datasets[{at}].tags.value")
    return Dataset(
        found.name or "", found.digest or "", found.source_type or "", found.source or "", found.schema, found.profile,
        tags,
    )  # fmt: skip


def _uses(given: Sequence[GivenModel] | None, field: str) -> list[ModelUse]:
    found = []
    for at, one in enumerate(given or ()):
        if not one.model_id:
            raise invalid(f"Missing value for required parameter '{field}[{at}].model_id'.")
        found.append(ModelUse(one.model_id, one.step or 0))
    return found


READ, WRITE, DELETE = "training.runs", "training.log", "training.delete"
RUN = ("run_id",)
OPERATIONS = (
    Operation("POST", "runs/create", Create, create, WRITE),
    Operation("GET", "runs/get", ById, get, READ, RUN),
    Operation("POST", "runs/update", Update, update, WRITE, RUN),
    Operation("POST", "runs/delete", ById, delete, DELETE, RUN),
    Operation("POST", "runs/restore", ById, restore, DELETE, RUN),
    Operation("POST", "runs/search", Search, search, READ),
    Operation("POST", "runs/set-tag", Tag, set_tag, WRITE, ("run_id", "key")),
    Operation("POST", "runs/delete-tag", Tag, delete_tag, WRITE, ("run_id", "key")),
    Operation("POST", "runs/log-inputs", Inputs, log_inputs, WRITE, RUN),
    Operation("POST", "runs/outputs", Outputs, outputs, WRITE, RUN),
    Operation("POST", "runs/log-model", LogModel, log_model, WRITE, ("run_id", "model_json")),
)
