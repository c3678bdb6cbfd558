"""Traces: told when they are over, searched, fetched with their spans, tagged, deleted.

Their spans come by `/v1/traces`; what is kept of a span is OTLP/JSON, which is here
turned into the JSON of protobuf (ids in base64).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from loopline.base.errors import NotFound
from loopline.base.ids import moment
from loopline.interfaces.mlflow import judgements, names
from loopline.interfaces.mlflow.errors import ABSENT, Refusal, invalid
from loopline.interfaces.mlflow.judgements import judged, time_text
from loopline.interfaces.mlflow.operations import Ask, Call, Encoder, Int64, Operation
from loopline.store.runs.traces.protocol import State, Trace

LOCATION, KEPT, PLACE = "mlflow.trace.spansLocation", "TRACKING_STORE", "mlflow.artifactLocation"
PROMPTS = "mlflow.linkedPrompts"
OWN = frozenset({LOCATION, PLACE})
"""Tags that say where a trace lies, which nobody else says."""
A_PAGE, USUAL, LINKED = 500, 100, 100
STATES: tuple[State, ...] = ("STATE_UNSPECIFIED", "OK", "ERROR", "IN_PROGRESS")


class Info(msgspec.Struct):
    trace_id: str | None = None
    client_request_id: str | None = None
    trace_location: dict[str, Any] | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    request_time: str | None = None
    execution_duration: str | None = None
    state: str | int | None = None
    trace_metadata: dict[str, str] | None = None
    tags: dict[str, str] | None = None
    assessments: list[dict[str, Any]] | None = None


class Told(msgspec.Struct):
    trace_info: Info | None = None


class Start(Ask):
    trace: Told | None = None


class ById(Ask):
    trace_id: str | None = None


class ByIds(Ask):
    trace_ids: list[str] | None = None
    experiment_ids: list[str] | None = None


class Search(Ask):
    locations: list[dict[str, Any]] | None = None
    filter: str | None = None
    max_results: Int64 | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class Delete(Ask):
    experiment_id: str | None = None
    max_timestamp_millis: Int64 | None = None
    max_traces: Int64 | None = None
    request_ids: list[str] | None = None
    trace_ids: list[str] | None = None


class Tag(ById):
    key: str | None = None
    value: str | None = None


class Link(Ask):
    trace_ids: list[str] | None = None
    run_id: str | None = None


class PromptVersion(msgspec.Struct):
    name: str | None = None
    version: str | int | None = None


class Prompts(ById):
    prompt_versions: list[PromptVersion] | None = None


def start(call: Call, ask: Start) -> dict[str, Any]:
    """Say what a trace was; clients call it when it is over, whatever its name."""
    told = (ask.trace or Told()).trace_info
    if told is None:
        raise invalid("Missing value for required parameter 'trace.trace_info': clients from 3.0 on send it.")
    if not told.trace_id:
        raise invalid("Missing value for required parameter 'trace.trace_info.trace_id'.")
    experiment = call.log.experiment(_experiment(told.trace_location or {}))
    if experiment.stage != "active":
        raise invalid(f"The experiment {experiment.id} must be in the 'active' state; it is deleted.")
    root = (experiment.artifact_location or f"mlflow-artifacts:/{experiment.id}").rstrip("/")
    tags = {**_tags(told.tags or {}), PLACE: f"{root}/traces/{told.trace_id}/artifacts"}
    made = call.ws.traces.put(
        Trace(
            id=told.trace_id,
            experiment=experiment.id,
            start_ms=_millis(told.request_time, "request_time", call.now_ms),
            duration_ms=None if told.execution_duration is None else _duration(told.execution_duration),
            state=_state(told.state),
            given=told.request_preview,
            made=told.response_preview,
            request=told.client_request_id,
            metadata=told.trace_metadata or {},
            tags=tags,
            judgements=tuple(judged(call, told.trace_id, one) for one in told.assessments or ()),
        )
    )
    return {"trace": {"trace_info": info(made)}}


def get_info(call: Call, ask: ById) -> dict[str, Any]:
    assert ask.trace_id is not None
    return {"trace": {"trace_info": info(call.ws.traces.trace(ask.trace_id))}}


def get(call: Call, ask: ById) -> bytes:
    assert ask.trace_id is not None
    return b'{"trace":' + _whole(call, call.ws.traces.trace(ask.trace_id)) + b"}"


def get_many(call: Call, ask: ByIds) -> bytes:
    return b'{"traces":[' + b",".join(_whole(call, one) for one in _asked(call, ask)) + b"]}"


def get_infos(call: Call, ask: ByIds) -> dict[str, Any]:
    return {"trace_infos": [info(one) for one in _asked(call, ask)]}


def search(call: Call, ask: Search) -> dict[str, Any]:
    found = call.ws.traces.search(
        [_experiment(one) for one in ask.locations or ()],
        filter=ask.filter or "",
        order_by=ask.order_by or (),
        limit=names.require_page(ask.max_results, A_PAGE, USUAL),
        token=ask.page_token or None,
    )
    answer: dict[str, Any] = {"traces": [info(one) for one in found.items]}
    return answer if found.token is None else {**answer, "next_page_token": found.token}


def delete(call: Call, ask: Delete) -> dict[str, Any]:
    assert ask.experiment_id is not None
    ids = ask.request_ids or ask.trace_ids
    if bool(ids) == (ask.max_timestamp_millis is not None):
        raise invalid("Either `max_timestamp_millis` or `request_ids` must be specified, but not both.")
    if ids and ask.max_traces is not None:
        raise invalid("`max_traces` can't be specified if `request_ids` is specified.")
    if ask.max_traces is not None and ask.max_traces < 1:
        raise invalid("`max_traces` must be a positive integer.")
    call.log.experiment(ask.experiment_id)
    gone = call.ws.traces.delete(
        ask.experiment_id, ids=ids or None, until_ms=ask.max_timestamp_millis, most=ask.max_traces
    )
    return {"traces_deleted": gone}


def set_tag(call: Call, ask: Tag) -> dict[str, Any]:
    assert ask.trace_id is not None and ask.key is not None
    call.ws.traces.set_tags(ask.trace_id, _tags({_open(ask.key): ask.value or ""}))
    return {}


def delete_tag(call: Call, ask: Tag) -> dict[str, Any]:
    assert ask.trace_id is not None and ask.key is not None
    call.ws.traces.set_tags(ask.trace_id, {_open(ask.key): None})
    return {}


def link(call: Call, ask: Link) -> dict[str, Any]:
    assert ask.run_id is not None and ask.trace_ids is not None
    if len(ask.trace_ids) > LINKED:
        raise invalid(f"Cannot link more than {LINKED} traces to a run in a single request.")
    call.log.require_owner(names.require_run(ask.run_id))
    call.ws.traces.link(ask.trace_ids, ask.run_id)
    return {}


def link_prompts(call: Call, ask: Prompts) -> dict[str, Any]:
    assert ask.trace_id is not None
    tag = call.ws.traces.trace(ask.trace_id).tags.get(PROMPTS)
    listed = json.loads(tag) if tag else []
    for one in ask.prompt_versions or ():
        if not one.name or one.version is None:
            raise invalid("A prompt version has a name and a version.")
        if (entry := {"name": one.name, "version": str(one.version)}) not in listed:
            listed.append(entry)
    call.ws.traces.set_tags(ask.trace_id, {PROMPTS: json.dumps(listed)})
    return {}


def absent(what: str) -> Callable[[Call, Any], dict[str, Any]]:
    """The answer where there is something else for it."""

    def refuse(call: Call, ask: Any) -> dict[str, Any]:
        raise Refusal(ABSENT, f"{what} Loopline does not do over this protocol.")

    return refuse


def info(found: Trace) -> dict[str, Any]:
    """A trace without its spans."""
    tags = {**found.tags, LOCATION: KEPT} if found.spans else found.tags
    doc: dict[str, Any] = {
        "trace_id": found.id,
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": found.experiment}},
        "request_time": time_text(found.start_ms),
        "state": found.state,
        "trace_metadata": found.metadata,
        "tags": tags,
    }
    if found.duration_ms is not None:
        doc["execution_duration"] = f"{found.duration_ms / 1000:.3f}s"
    for name, text in (
        ("request_preview", found.given),
        ("response_preview", found.made),
        ("client_request_id", found.request),
    ):
        if text is not None:
            doc[name] = text
    if found.judgements:
        doc["assessments"] = list(found.judgements)
    return doc


def _whole(call: Call, found: Trace) -> bytes:
    spans = [as_protobuf(json.loads(body)) for body in call.ws.traces.spans(found.id)]
    return Encoder.encode({"trace_info": info(found), "spans": spans})


def as_protobuf(span: dict[str, Any]) -> dict[str, Any]:
    """A span of OTLP/JSON in the JSON of protobuf, where ids are base64."""
    doc = {**span}
    for name in ("traceId", "spanId", "parentSpanId"):
        if doc.get(name):
            doc[name] = base64.b64encode(bytes.fromhex(doc[name])).decode()
    if doc.get("links"):
        doc["links"] = [as_protobuf(one) for one in doc["links"]]
    return doc


def _asked(call: Call, ask: ByIds) -> list[Trace]:
    found = call.ws.traces.traces(ask.trace_ids or ())
    return found if ask.experiment_ids is None else [one for one in found if one.experiment in ask.experiment_ids]


def _experiment(location: dict[str, Any]) -> str:
    of = location.get("mlflow_experiment")
    found = of.get("experiment_id") if isinstance(of, dict) else None
    if not isinstance(found, str) or not found:
        raise invalid("Traces are kept in experiments: a location names an mlflow_experiment.")
    return found


def _state(given: str | int | None) -> State:
    for number, name in enumerate(STATES):
        if given in (name, number, str(number)):
            return name
    if given is None:
        return "STATE_UNSPECIFIED"
    raise invalid(f"Invalid value '{given}' for parameter 'state' supplied: it is one of {', '.join(STATES)}.")


def _millis(given: str | None, field: str, otherwise: int) -> int:
    if given is None:
        return otherwise
    try:
        at = moment(given)
        if at.tzinfo is None:
            raise ValueError("it has no zone")
        return round(at.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise invalid(f"Invalid value {given[:60]!r} for parameter '{field}' supplied: it is no time.") from None


def _duration(given: str) -> int:
    try:
        found = float(given.removesuffix("s"))
        if not given.endswith("s") or not 0 <= found < 1e12:
            raise ValueError
    except ValueError:
        raise invalid(f"Invalid value {given[:60]!r} for parameter 'execution_duration' supplied.") from None
    return round(found * 1000)


def _open(key: str) -> str:
    if key in OWN:
        raise invalid(f"Invalid tag {key!r}: it says where the trace lies.")
    return key


def _tags(given: dict[str, str]) -> dict[str, str]:
    return {key[: names.KEY]: value[: names.TAG] for key, value in given.items() if key not in OWN}


def require_kept(call: Call, trace: str) -> None:
    """See that there is such a trace: files are kept for no other."""
    if not call.ws.traces.traces([trace]):
        raise NotFound(f"Trace with ID '{trace}' not found", why="it was never logged here", fix="log the trace first")


def _several(paths: Sequence[tuple[str, str]], what: str) -> tuple[Operation, ...]:
    return tuple(Operation(method, path, Ask, absent(what), READ) for method, path in paths)


READ, WRITE, ONE = "training.runs", "training.log", ("trace_id",)
OPERATIONS = (
    Operation("POST", "traces", Start, start, WRITE),
    Operation("GET", "traces/get", ById, get, READ, ONE),
    Operation("GET", "traces/batchGet", ByIds, get_many, READ, ("trace_ids",)),
    Operation("POST", "traces/batchGetInfos", ByIds, get_infos, READ, ("trace_ids",)),
    Operation("POST", "traces/search", Search, search, READ, ("locations",)),
    Operation("POST", "traces/delete-traces", Delete, delete, "training.delete", ("experiment_id",)),
    Operation("POST", "traces/link-to-run", Link, link, WRITE, ("trace_ids", "run_id")),
    Operation("POST", "traces/link-prompts", Prompts, link_prompts, WRITE, ("trace_id", "prompt_versions")),
    *_several(
        [("POST", "traces/metrics"), ("POST", "traces/calculate-filter-correlation")], "Aggregates over traces are what"
    ),
    Operation("GET", "traces/{trace_id}", ById, get_info, READ),
    Operation("PATCH", "traces/{trace_id}/tags", Tag, set_tag, WRITE, ("key",)),
    Operation("DELETE", "traces/{trace_id}/tags", Tag, delete_tag, WRITE, ("key",)),
    *judgements.OPERATIONS,
)
