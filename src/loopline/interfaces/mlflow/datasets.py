"""Evaluation datasets: sets of examples with names, tags and experiments, merged by their inputs."""

from __future__ import annotations

import json
from typing import Any

from loopline.interfaces.mlflow import names, registry_search
from loopline.interfaces.mlflow.errors import ABSENT, Refusal, invalid
from loopline.interfaces.mlflow.operations import Ask, Call, Int64, Operation
from loopline.interfaces.mlflow.registry_search import Seen
from loopline.store.runs.traces.examples import Examples, ExampleSet

A_PAGE, USUAL, RECORDS = 1_000, 1_000, 10_000
FIELDS = frozenset({"name", "created_time", "last_update_time", "created_by", "last_updated_by"})
USER = "mlflow.user"


class ById(Ask):
    dataset_id: str | None = None


class Create(Ask):
    name: str | None = None
    experiment_ids: list[str] | None = None
    tags: str | None = None


class Search(Ask):
    experiment_ids: list[str] | None = None
    filter_string: str | None = None
    max_results: Int64 | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class Tags(ById):
    tags: str | None = None


class TagKey(ById):
    key: str | None = None


class Records(ById):
    records: str | None = None


class Page(ById):
    max_results: Int64 | None = None
    page_token: str | None = None


class Remove(ById):
    dataset_record_ids: list[str] | None = None


class Webhook(Ask):
    webhook_id: str | None = None


class Experiments(ById):
    experiment_ids: list[str] | None = None


def create(call: Call, ask: Create) -> dict[str, Any]:
    assert ask.name is not None
    tags = _said(ask.tags)
    for one in ask.experiment_ids or ():
        call.log.experiment(one)
    made = _sets(call).create(
        ask.name, at_ms=call.now_ms, by=tags.get(USER) or call.user, tags=tags, experiments=ask.experiment_ids or ()
    )
    return {"dataset": shape(made)}


def get(call: Call, ask: ById) -> dict[str, Any]:
    assert ask.dataset_id is not None
    return {"dataset": shape(_sets(call).get(ask.dataset_id))}


def delete(call: Call, ask: ById) -> dict[str, Any]:
    assert ask.dataset_id is not None
    _sets(call).delete(ask.dataset_id)
    return {}


def search(call: Call, ask: Search) -> dict[str, Any]:
    fits = registry_search.matcher(ask.filter_string, FIELDS)
    terms = registry_search.ordering(ask.order_by, FIELDS - {"created_by", "last_updated_by"})
    most = names.require_page(ask.max_results, A_PAGE, USUAL)
    found = [one for one in _sets(call).every(ask.experiment_ids or ()) if fits(Seen(_fields(one), one.tags, False))]
    found.sort(key=lambda one: (-one.created_ms, one.id))
    asked = f"{ask.filter_string}|{ask.order_by}|{ask.experiment_ids}"
    page, token = registry_search.paged(registry_search.ordered(found, _fields, terms), most, ask.page_token, asked)
    answer: dict[str, Any] = {"datasets": [shape(one) for one in page]}
    return answer if token is None else {**answer, "next_page_token": token}


def set_tags(call: Call, ask: Tags) -> dict[str, Any]:
    assert ask.dataset_id is not None
    made = _sets(call).change(ask.dataset_id, at_ms=call.now_ms, by=call.user, tags=_said(ask.tags, nulls=True))
    return {"dataset": shape(made)}


def delete_tag(call: Call, ask: TagKey) -> dict[str, Any]:
    assert ask.dataset_id is not None and ask.key is not None
    _sets(call).change(ask.dataset_id, at_ms=call.now_ms, by=call.user, tags={ask.key: None})
    return {}


def put_records(call: Call, ask: Records) -> dict[str, Any]:
    assert ask.dataset_id is not None
    rows = _json(ask.records, "records")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise invalid("Invalid value for parameter 'records' supplied: it is a list of objects.")
    new, known = _sets(call).put(ask.dataset_id, rows, at_ms=call.now_ms, by=call.user)
    return {"inserted_count": new, "updated_count": known}


def records(call: Call, ask: Page) -> dict[str, Any]:
    assert ask.dataset_id is not None
    most = names.require_page(ask.max_results, RECORDS, USUAL)
    rows, following = _sets(call).rows(ask.dataset_id, limit=most, after=ask.page_token or "")
    answer = {"records": json.dumps(rows)}
    return answer if following is None else {**answer, "next_page_token": following}


def remove(call: Call, ask: Remove) -> dict[str, Any]:
    assert ask.dataset_id is not None
    gone = _sets(call).remove(ask.dataset_id, ask.dataset_record_ids or (), at_ms=call.now_ms, by=call.user)
    return {"deleted_count": gone}


def experiments(call: Call, ask: ById) -> dict[str, Any]:
    assert ask.dataset_id is not None
    return {"experiment_ids": list(_sets(call).get(ask.dataset_id).experiments)}


def join(call: Call, ask: Experiments) -> dict[str, Any]:
    assert ask.dataset_id is not None
    for one in ask.experiment_ids or ():
        call.log.experiment(one)
    made = _sets(call).change(ask.dataset_id, at_ms=call.now_ms, by=call.user, join=ask.experiment_ids or ())
    return {"dataset": shape(made)}


def leave(call: Call, ask: Experiments) -> dict[str, Any]:
    assert ask.dataset_id is not None
    made = _sets(call).change(ask.dataset_id, at_ms=call.now_ms, by=call.user, leave=ask.experiment_ids or ())
    return {"dataset": shape(made)}


def no_webhooks(call: Call, ask: Ask) -> dict[str, Any]:
    raise Refusal(
        ABSENT,
        "Webhooks are not made over this protocol: every change here leaves as a CloudEvent, and where to is declared "
        "as `framing.owner.notify` in loop.yaml.",
    )


def shape(found: ExampleSet) -> dict[str, Any]:
    """A set in the shape of the protocol."""
    return {
        "dataset_id": found.id,
        "name": found.name,
        "tags": json.dumps(found.tags),
        "profile": json.dumps({"num_records": found.examples}),
        "digest": found.digest,
        "created_time": found.created_ms,
        "last_update_time": found.updated_ms,
        "created_by": found.author,
        "last_updated_by": found.last,
        "experiment_ids": list(found.experiments),
    }


def _sets(call: Call) -> Examples:
    return call.ws.traces.examples


def _fields(found: ExampleSet) -> dict[str, Any]:
    doc = shape(found)
    return {name: doc[name] for name in FIELDS}


def _said(text: str | None, *, nulls: bool = False) -> dict[str, Any]:
    tags = _json(text or "{}", "tags")
    if not isinstance(tags, dict):
        raise invalid("Invalid value for parameter 'tags' supplied: it is an object.")
    for key, value in tags.items():
        names.require_length(names.require_key(key), names.KEY, "tags.key")
        if value is not None:
            names.require_length(str(value), names.TAG, "tags.value")
    return {key: None if value is None else str(value) for key, value in tags.items() if nulls or value is not None}


def _json(text: str | None, field: str) -> Any:
    try:
        return json.loads(text or "")
    except (ValueError, RecursionError):
        raise invalid(f"Invalid value for parameter '{field}' supplied: it is no JSON.") from None


READ, WRITE, ONE = "training.runs", "training.log", "datasets/{dataset_id}"
OPERATIONS = (
    Operation("POST", "datasets/create", Create, create, WRITE, ("name",)),
    Operation("POST", "datasets/search", Search, search, READ),
    Operation("GET", "datasets/search", Search, search, READ),
    Operation("GET", ONE, ById, get, READ),
    Operation("DELETE", ONE, ById, delete, "training.delete"),
    Operation("PATCH", ONE + "/tags", Tags, set_tags, WRITE, ("tags",)),
    Operation("DELETE", ONE + "/tags/{key*}", TagKey, delete_tag, WRITE),
    Operation("POST", ONE + "/records", Records, put_records, WRITE, ("records",)),
    Operation("GET", ONE + "/records", Page, records, READ),
    Operation("DELETE", ONE + "/records", Remove, remove, "training.delete"),
    Operation("GET", ONE + "/experiment-ids", ById, experiments, READ),
    Operation("POST", ONE + "/add-experiments", Experiments, join, WRITE),
    Operation("POST", ONE + "/remove-experiments", Experiments, leave, WRITE),
    Operation("POST", "webhooks", Ask, no_webhooks, READ),
    Operation("GET", "webhooks", Ask, no_webhooks, READ),
    *(
        Operation(method, "webhooks/{webhook_id*}", Webhook, no_webhooks, READ)
        for method in ("GET", "PATCH", "POST", "DELETE")
    ),
)
