"""Traces that travel: one that is over, with its spans, what was said of it, and the runs it belongs to."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from loopline.base.errors import Conflict, Invalid, NotFound
from loopline.base.ids import content_id
from loopline.governance.traced import has_traces
from loopline.store.runs.traces.otlp import span_of
from loopline.store.runs.traces.protocol import Span, State, Trace
from loopline.training.tracking.receiving import named
from loopline.workspace import Workspace

GONE = "gone"
"""In an inventory: it was deleted there."""
PLACE = "mlflow.artifactLocation"
"""The tag that says where files of a trace are; each workspace has its own."""
_PAGE = 1_000
_TEXTS = TypeAdapter(dict[str, str])
_LIST = TypeAdapter(list[str])
_SPANS = TypeAdapter(list[tuple[str, str]])
_ABOUT = TypeAdapter(tuple[int, int | None, State, str | None, str | None, str | None])
_TEXT: TypeAdapter[str] = TypeAdapter(str)


def over(ws: Workspace, experiments: Sequence[str], told: list[str] | None = None) -> Iterator[tuple[Trace, list[str]]]:
    """Traces that are over, each with the runs it belongs to; those that go on are told."""
    going, token = 0, None
    while experiments and has_traces(ws):
        page = ws.traces.search(experiments, limit=_PAGE, token=token)
        runs = ws.traces.runs([one.id for one in page.items])
        for one in page.items:
            if one.state == "IN_PROGRESS":
                going += 1
            else:
                yield one, runs.get(one.id, [])
        if (token := page.token) is None:
            break
    if going and told is not None:
        told.append("1 trace that goes on stays there" if going == 1 else f"{going:,} traces that go on stay there")


def sketches(ws: Workspace, experiments: Sequence[str]) -> dict[str, str]:
    """Traces by id with a digest of what they say; those that were deleted say so."""
    if not has_traces(ws):
        return {}
    return dict.fromkeys(ws.traces.gone(), GONE) | {one.id: sketch(one, runs) for one, runs in over(ws, experiments)}


def sketch(trace: Trace, runs: Sequence[str]) -> str:
    """A digest of what a trace says, its spans by their number."""
    return content_id({**_about(trace, runs), "spans": trace.spans})


def _about(trace: Trace, runs: Sequence[str]) -> dict[str, Any]:
    judged = sorted(json.dumps(one, sort_keys=True) for one in trace.judgements)
    about = [trace.start_ms, trace.duration_ms, trace.state, trace.given, trace.made, trace.request]
    tags = {key: value for key, value in trace.tags.items() if key != PLACE}
    return {"about": about, "metadata": trace.metadata, "tags": tags, "judgements": judged, "runs": list(runs)}


def document(ws: Workspace, trace: Trace, runs: Sequence[str], experiment: str) -> dict[str, Any]:
    """All of a trace; its spans as they are kept, each after what it shares with others."""
    return {**_about(trace, runs), "experiment": experiment, "spans": [list(one) for one in ws.traces.shared(trace.id)]}


def deleted(ws: Workspace) -> frozenset[str]:
    """Ids of traces that were deleted here."""
    return frozenset(ws.traces.gone() if has_traces(ws) else ())


def take(ws: Workspace, id: str, doc: Mapping[str, Any], gone: Collection[str], told: list[str]) -> bool | None:
    """Add a trace, or what it lacks here; whether it is new, null where it was deleted and stays so.

    Raises
    ------
    Conflict
        If the trace, or one of its spans, is here with another content.
    Invalid
        If it is no trace.
    """
    start_ms, duration_ms, state, given, made, request = _ABOUT.validate_python(doc.get("about"))
    metadata, tags = _TEXTS.validate_python(doc.get("metadata")), _TEXTS.validate_python(doc.get("tags"))
    spans = [(origin, _checked(id, body)) for origin, body in _SPANS.validate_python(doc.get("spans"))]
    judged = [_judgement(one) for one in _LIST.validate_python(doc.get("judgements"))]
    runs, experiment = _LIST.validate_python(doc.get("runs")), _TEXT.validate_python(doc.get("experiment"))
    try:
        here: Trace | None = ws.traces.trace(id)
    except NotFound:
        here = None
    if here is None and id in gone:
        told.append(f"trace {id} is deleted here and stays so")
        return None
    into = here.experiment if here is not None else named(ws.runs, experiment, at_ms=start_ms)
    wanted = Trace(id, into, start_ms, duration_ms, state, given, made, request, metadata)
    more = _new(ws, here, wanted, spans)
    by_origin: dict[str, list[Span]] = {}
    for origin, span in more:
        by_origin.setdefault(origin, []).append(span)
    for origin, some in by_origin.items():
        ws.traces.add_spans(into, some, origin=_json(origin))
    if here is None:
        tags = {**tags, PLACE: f"mlflow-artifacts:/{into}/traces/{id}/artifacts"}
        ws.traces.put(replace(wanted, tags=tags, judgements=tuple(judged)))
    else:
        if more and len(more) + here.spans == len(spans):  # what is here was a part of it
            ws.traces.put(wanted)
        _add(ws, here, tags, judged, told)
    for run in set(runs) - set(ws.traces.runs([id]).get(id, ())):
        ws.traces.link([id], run)
    return here is None


def _new(
    ws: Workspace, here: Trace | None, wanted: Trace, spans: Sequence[tuple[str, Span]]
) -> list[tuple[str, Span]]:  # fmt: skip
    """The spans that are not here yet."""
    if here is None:
        return list(spans)
    known = {span_of(body).id: body for _, body in ws.traces.shared(wanted.id)}
    new = [(origin, span) for origin, span in spans if span.id not in known]
    if any(known.get(span.id, span.body) != span.body for _, span in spans):
        raise Conflict(f"the trace {wanted.id} is here with another span", why="spans never change", fix="rename one")
    same = replace(here, tags={}, judgements=(), spans=0) == wanted
    if not new and len(spans) == len(known) and not same:
        raise Conflict(
            f"the trace {wanted.id} is here with another content", why="what a trace says of itself never changes",
            fix="delete one of the two",
        )  # fmt: skip
    return new


def _add(
    ws: Workspace, here: Trace, tags: Mapping[str, str], judged: Sequence[dict[str, Any]], told: list[str]
) -> None:
    """Tags and judgements that are missing here; those that say something else stay, told."""
    ws.traces.set_tags(here.id, {key: value for key, value in tags.items() if key not in here.tags})
    for key, value in tags.items():
        if here.tags.get(key, value) != value:
            said = here.tags[key]
            told.append(f"trace {here.id}: {key} says {said!r:.60} here, which stays, and {value!r:.60} there")
    known = {str(one.get("assessment_id")): one for one in here.judgements}
    for one in judged:
        name = str(one.get("assessment_id"))
        if name not in known:
            ws.traces.judge(here.id, name, one)
        elif known[name] != one:
            told.append(f"trace {here.id}: {name} is judged otherwise here, which stays")


def _checked(trace: str, body: str) -> Span:
    span = span_of(body)
    if span.body != body:
        raise Invalid("a span is not written as spans are kept", why="it was changed", fix="make the parcel again")
    if span.trace != trace:
        raise Invalid(f"a span of {span.trace}", why=f"it stands among those of {trace}", fix="make the parcel again")
    return span


def _judgement(text: str) -> dict[str, Any]:
    doc = _read(text)
    if not isinstance(doc.get("assessment_id"), str):
        raise Invalid("a judgement has no id", why="each is known by its own", fix="make the parcel again")
    return doc


def _json(origin: str) -> str:
    _read(origin)
    return origin


def _read(text: str) -> dict[str, Any]:
    try:
        doc = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid("a part of a trace is no JSON", why=str(error), fix="make the parcel again") from error
    if not isinstance(doc, dict):
        raise Invalid("a part of a trace is no object", why="OTLP says so", fix="make the parcel again")
    return doc
