"""Logged models: what a run made, on its way into the artifact store and once it is there."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from loopline.base.errors import NotFound
from loopline.interfaces.mlflow import names, shapes
from loopline.interfaces.mlflow.errors import invalid
from loopline.interfaces.mlflow.operations import Ask, Call, Int64, Operation, Pair, pairs
from loopline.interfaces.mlflow.runs import DEFAULT
from loopline.store.runs.protocol import LoggedModel

_BAD = "/:.%\"'"


class Create(Ask):
    experiment_id: str | None = None
    name: str | None = None
    model_type: str | None = None
    source_run_id: str | None = None
    params: list[Pair] | None = None
    tags: list[Pair] | None = None


class ById(Ask):
    model_id: str | None = None


class Finalize(ById):
    status: str | int | None = None
    status_message: str | None = None


class Tags(ById):
    tags: list[Pair] | None = None


class TagKey(ById):
    tag_key: str | None = None


class Params(ById):
    params: list[Pair] | None = None


class OrderBy(msgspec.Struct):
    field_name: str | None = None
    ascending: bool | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class OfDataset(msgspec.Struct):
    dataset_name: str | None = None
    dataset_digest: str | None = None


class Search(Ask):
    experiment_ids: list[str] | None = None
    filter: str | None = None
    datasets: list[OfDataset] | None = None
    max_results: Int64 | None = None
    order_by: list[OrderBy] | None = None
    page_token: str | None = None


def create(call: Call, ask: Create) -> dict[str, Any]:
    experiment = ask.experiment_id or DEFAULT
    of = call.log.experiment(experiment)
    made, name = "m-" + secrets.token_hex(16), ask.name or f"model-{secrets.token_hex(4)}"
    if any(letter in name for letter in _BAD) or not name.isprintable():
        raise invalid(
            f"Invalid model name ({name[:100]!r}) provided. Model name must be a non-empty string and cannot contain "
            f"the following characters: {tuple(_BAD)}"
        )
    names.require_length(name, 500, "name")
    root = of.artifact_location or f"mlflow-artifacts:/{of.id}"
    found = call.log.create_model(
        LoggedModel(
            id=made,
            experiment=of.id,
            name=name,
            run=ask.source_run_id or None,
            artifacts=f"{root.rstrip('/')}/models/{made}/artifacts",
            status="PENDING",
            status_message="",
            type=names.require_length(ask.model_type or "", 500, "model_type"),
            created_ms=call.now_ms,
            updated_ms=call.now_ms,
            params=_params(ask.params),
            tags=_tags(ask.tags),
        )
    )
    return {"model": shapes.model(found)}


def get(call: Call, ask: ById) -> dict[str, Any]:
    assert ask.model_id is not None
    return {"model": shapes.model(call.log.model(ask.model_id))}


def finalize(call: Call, ask: Finalize) -> dict[str, Any]:
    assert ask.model_id is not None and ask.status is not None
    found = call.log.change_model(
        ask.model_id, at_ms=call.now_ms, status=shapes.model_status(ask.status), message=ask.status_message
    )
    return {"model": shapes.model(found)}


def delete(call: Call, ask: ById) -> dict[str, Any]:
    assert ask.model_id is not None
    call.log.change_model(ask.model_id, at_ms=call.now_ms, deleted=True)
    return {}


def set_tags(call: Call, ask: Tags) -> dict[str, Any]:
    assert ask.model_id is not None
    found = call.log.change_model(ask.model_id, at_ms=call.now_ms, tags=_tags(ask.tags))
    return {"model": shapes.model(found)}


def delete_tag(call: Call, ask: TagKey) -> dict[str, Any]:
    assert ask.model_id is not None and ask.tag_key is not None
    if ask.tag_key not in call.log.model(ask.model_id).tags:
        raise NotFound(
            f"No tag with key {ask.tag_key[:250]!r} found for model with ID {ask.model_id!r}",
            why="it has none",
            fix="see its tags",
        )
    call.log.change_model(ask.model_id, at_ms=call.now_ms, tags={ask.tag_key: None})
    return {}


def log_params(call: Call, ask: Params) -> dict[str, Any]:
    assert ask.model_id is not None
    call.log.change_model(ask.model_id, at_ms=call.now_ms, params=_params(ask.params))
    return {}


def search(call: Call, ask: Search) -> dict[str, Any]:
    for at, one in enumerate(ask.order_by or ()):
        if not one.field_name:
            raise invalid(f"`order_by[{at}].field_name` is required in the `order_by` clause.")
    for at, of in enumerate(ask.datasets or ()):
        if not of.dataset_name:
            raise invalid(f"Missing value for required parameter 'datasets[{at}].dataset_name'.")
    found = call.log.search_models(
        ask.experiment_ids or (),
        filter=ask.filter or "",
        datasets=[_present(msgspec.to_builtins(of)) for of in ask.datasets or ()],
        order_by=[_present(msgspec.to_builtins(one)) for one in ask.order_by or ()],
        limit=names.require_page(ask.max_results, names.RUNS_A_PAGE, 100),
        token=ask.page_token or None,
    )
    answer: dict[str, Any] = {"models": [shapes.model(one) for one in found.items]}
    return answer if found.token is None else {**answer, "next_page_token": found.token}


def _present(doc: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in doc.items() if value is not None}


def _tags(given: list[Pair] | None) -> dict[str, str]:
    found = pairs(given, "tags")
    for key in found:
        names.require_key(key)
    return {key: value[: names.TAG] for key, value in found.items()}


def _params(given: list[Pair] | None) -> dict[str, str]:
    found = pairs(given, "params")
    for key in found:
        names.require_key(key)
    return {key: value[: names.PARAM] for key, value in found.items()}


READ, WRITE, MODEL = "training.runs", "training.log", ("model_id",)
OPERATIONS = (
    Operation("POST", "logged-models", Create, create, WRITE),
    Operation("POST", "logged-models/search", Search, search, READ, ("experiment_ids",)),
    Operation("GET", "logged-models/{model_id}", ById, get, READ, MODEL),
    Operation("PATCH", "logged-models/{model_id}", Finalize, finalize, WRITE, ("model_id", "status")),
    Operation("DELETE", "logged-models/{model_id}", ById, delete, "training.delete", MODEL),
    Operation("POST", "logged-models/{model_id}/params", Params, log_params, WRITE, MODEL),
    Operation("PATCH", "logged-models/{model_id}/tags", Tags, set_tags, WRITE, MODEL),
    Operation("DELETE", "logged-models/{model_id}/tags/{tag_key*}", TagKey, delete_tag, WRITE, ("model_id", "tag_key")),
)
