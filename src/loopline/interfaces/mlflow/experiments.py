"""Experiments: made, found, renamed, deleted and restored."""

from __future__ import annotations

from typing import Any

from loopline.base.errors import NotFound
from loopline.interfaces.mlflow import names, shapes
from loopline.interfaces.mlflow.errors import TAKEN
from loopline.interfaces.mlflow.operations import Ask, Call, Int64, Operation, Pair, pairs


class Create(Ask):
    name: str | None = None
    artifact_location: str | None = None
    tags: list[Pair] | None = None


class ById(Ask):
    experiment_id: str | None = None


class ByName(Ask):
    experiment_name: str | None = None


class Update(Ask):
    experiment_id: str | None = None
    new_name: str | None = None


class Search(Ask):
    max_results: Int64 | None = None
    page_token: str | None = None
    filter: str | None = None
    order_by: list[str] | None = None
    view_type: str | int | None = None


class Tag(Ask):
    experiment_id: str | None = None
    key: str | None = None
    value: str | None = None


def create(call: Call, ask: Create) -> dict[str, Any]:
    assert ask.name is not None
    made = call.log.create_experiment(
        names.require_experiment(ask.name),
        at_ms=call.now_ms,
        artifact_location=names.require_location(ask.artifact_location),
        tags=_tags(pairs(ask.tags, "tags")),
    )
    return {"experiment_id": made.id}


def get(call: Call, ask: ById) -> dict[str, Any]:
    assert ask.experiment_id is not None
    return {"experiment": shapes.experiment(call.log.experiment(ask.experiment_id))}


def get_by_name(call: Call, ask: ByName) -> dict[str, Any]:
    assert ask.experiment_name is not None
    found = call.log.experiment_named(ask.experiment_name)
    if found is None:
        raise NotFound(
            f"Could not find experiment with name '{ask.experiment_name[:500]}'",
            why="nobody has made it",
            fix="make it, or look at experiments/search",
        )
    return {"experiment": shapes.experiment(found)}


def search(call: Call, ask: Search) -> dict[str, Any]:
    found = call.log.search_experiments(
        filter=ask.filter or "",
        order_by=ask.order_by or (),
        view=shapes.view(ask.view_type),
        limit=names.require_page(ask.max_results, names.EXPERIMENTS_A_PAGE, 1000),
        token=ask.page_token or None,
    )
    answer: dict[str, Any] = {"experiments": [shapes.experiment(one) for one in found.items]}
    return answer if found.token is None else {**answer, "next_page_token": found.token}


def update(call: Call, ask: Update) -> dict[str, Any]:
    assert ask.experiment_id is not None
    if ask.new_name:
        name = names.require_experiment(ask.new_name)
        call.log.change_experiment(ask.experiment_id, at_ms=call.now_ms, name=name)
    return {}


def delete(call: Call, ask: ById) -> dict[str, Any]:
    assert ask.experiment_id is not None
    call.log.change_experiment(ask.experiment_id, at_ms=call.now_ms, stage="deleted")
    return {}


def restore(call: Call, ask: ById) -> dict[str, Any]:
    assert ask.experiment_id is not None
    call.log.change_experiment(ask.experiment_id, at_ms=call.now_ms, stage="active")
    return {}


def set_tag(call: Call, ask: Tag) -> dict[str, Any]:
    assert ask.experiment_id is not None and ask.key is not None
    call.log.change_experiment(ask.experiment_id, at_ms=call.now_ms, tags=_tags({ask.key: ask.value or ""}))
    return {}


def delete_tag(call: Call, ask: Tag) -> dict[str, Any]:
    assert ask.experiment_id is not None and ask.key is not None
    if ask.key not in call.log.experiment(ask.experiment_id).tags:
        raise NotFound(
            f"No tag with name: {ask.key[:250]}", why=f"experiment {ask.experiment_id} lacks it", fix="see its tags"
        )
    call.log.change_experiment(ask.experiment_id, at_ms=call.now_ms, tags={ask.key: None})
    return {}


def _tags(found: dict[str, str]) -> dict[str, str]:
    for key, value in found.items():
        names.require_key(key)
        names.require_length(value, names.EXPERIMENT_TAG, "value")
    return found


READ, WRITE = "training.experiments", "training.log"
OPERATIONS = (
    Operation("POST", "experiments/create", Create, create, WRITE, ("name",), TAKEN),
    Operation("GET", "experiments/get", ById, get, READ, ("experiment_id",)),
    Operation("GET", "experiments/get-by-name", ByName, get_by_name, READ, ("experiment_name",)),
    Operation("POST", "experiments/search", Search, search, READ),
    Operation("GET", "experiments/search", Search, search, READ),
    Operation("POST", "experiments/update", Update, update, WRITE, ("experiment_id",), TAKEN),
    Operation("POST", "experiments/delete", ById, delete, "training.delete", ("experiment_id",)),
    Operation("POST", "experiments/restore", ById, restore, "training.delete", ("experiment_id",), TAKEN),
    Operation("POST", "experiments/set-experiment-tag", Tag, set_tag, WRITE, ("experiment_id", "key")),
    Operation("POST", "experiments/delete-experiment-tag", Tag, delete_tag, WRITE, ("experiment_id", "key")),
)
