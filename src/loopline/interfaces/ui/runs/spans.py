"""One trace: its spans as a tree beside their times, and one span with all that it says."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.requests import Request

from loopline.base.control import shown
from loopline.interfaces.ui.runs import cells
from loopline.interfaces.ui.runs.context import Log
from loopline.interfaces.ui.runs.traces import STATES, name_of
from loopline.interfaces.ui.states import Said
from loopline.store.runs.traces.otlp import GIVEN, MADE, TYPE, plain_value, span_of
from loopline.store.runs.traces.protocol import RUN, Span

SHOWN = 1_000
"""Spans that a page draws."""
DEEPEST = 12
"""Levels that are set in; below that all stand at one edge."""
LONGEST = 20_000
"""Characters of a value that a page shows."""
LISTED = 300
"""Attributes of a span that a page lists."""
EVENTS = 50
WIDTH = 1_000
"""Of the drawing of times."""
TONES = {"OK": Said("ok", "good"), "ERROR": Said("error", "bad"), "UNSET": Said("not said", "quiet")}
_OWN = ("mlflow.traceRequestId", GIVEN, MADE, TYPE)


@dataclass(frozen=True, slots=True)
class Row:
    """A span in the tree."""

    span: Span
    depth: int
    x: float
    width: float
    seconds: float | None
    lost: bool
    """Whether the span that it names as its parent is not here."""


def page(log: Log, request: Request) -> dict[str, Any]:
    """The tree, and the span that was chosen (the first one else).

    Raises
    ------
    NotFound
        If the trace, or the span, is not there.
    """
    trace = log.ws.traces.trace(request.path_params["id"])
    bodies = log.ws.traces.shared(trace.id)
    spans = {span.id: (origin, span) for origin, span in ((of, span_of(body)) for of, body in bodies)}
    rows = tree([span for _, span in spans.values()])
    chosen = request.query_params.get("span") or (rows[0].span.id if rows else "")
    run = trace.metadata.get(RUN)
    linked = log.ws.traces.runs([trace.id]).get(trace.id, [])
    return {
        "trace": trace,
        "name": name_of(trace),
        "state": STATES[trace.state],
        "seconds": None if trace.duration_ms is None else trace.duration_ms / 1000,
        "experiment": log.runs.experiment(trace.experiment).name,
        "rows": rows[:SHOWN],
        "left_out": max(0, len(rows) - SHOWN),
        "width": WIDTH,
        "chosen": chosen,
        "one": told(*spans[chosen]) if chosen in spans else None,
        "runs": list(dict.fromkeys([*([run] if run else []), *linked])),
        "tags": sorted(_plainly(trace.tags)),
        "metadata": sorted(_plainly(trace.metadata)),
        "judgements": [_judged(one) for one in trace.judgements],
        "place": f"/traces/{quote(trace.id)}",
        "tone": TONES,
        "deepest": DEEPEST,
        "cells": cells,
    }


def tree(spans: Sequence[Span]) -> list[Row]:
    """Spans depth first, each below its parent by start; those whose parent is not here, or is below them, at the top.

    Places are shares of the time from the first start to the last end; a span that has not ended reaches to it.
    """
    if not spans:
        return []
    known = {one.id for one in spans}
    below: dict[str | None, list[Span]] = defaultdict(list)
    for one in sorted(spans, key=lambda one: (one.start_ns, one.id)):
        below[one.parent if one.parent in known and one.parent != one.id else None].append(one)
    first = min(one.start_ns for one in spans)
    last = max(max(one.end_ns or 0, one.start_ns) for one in spans)
    scale = WIDTH / max(1, last - first)
    rows: list[Row] = []
    seen: set[str] = set()
    waiting = [(one, 0) for one in reversed(below[None])]
    rest = iter(sorted(spans, key=lambda one: (one.start_ns, one.id)))
    while True:
        while waiting:
            one, depth = waiting.pop()
            if one.id in seen:
                continue
            seen.add(one.id)
            end = last if one.end_ns is None else max(one.end_ns, one.start_ns)
            x = (one.start_ns - first) * scale
            took = None if one.end_ns is None else max(0, one.end_ns - one.start_ns) / 1e9
            lost = one.parent is not None and one.parent not in known
            rows.append(Row(one, depth, round(x, 1), round(max(2.0, (end - one.start_ns) * scale), 1), took, lost))
            waiting += [(inner, depth + 1) for inner in reversed(below[one.id])]
        circle = next((one for one in rest if one.id not in seen), None)
        if circle is None:
            return rows
        waiting.append((circle, 0))


def told(origin: str, span: Span) -> dict[str, Any]:
    """All that a span says: what went in and came out, its attributes, what happened in it, where it came from."""
    doc = json.loads(span.body)
    attributes = _attributes(doc)
    shared = json.loads(origin)
    return {
        "span": span,
        "tone": TONES[span.status],
        "said": _text((doc.get("status") or {}).get("message")),
        "given": _text(attributes.get(GIVEN)),
        "made": _text(attributes.get(MADE)),
        "attributes": _plainly({key: value for key, value in attributes.items() if key not in _OWN})[:LISTED],
        "events": [_event(one, span.start_ns) for one in (doc.get("events") or [])[:EVENTS] if isinstance(one, dict)],
        "origin": _plainly(_attributes(shared.get("resource") or {}))[:LISTED],
        "scope": _text((shared.get("scope") or {}).get("name")),
    }


def _event(doc: dict[str, Any], start_ns: int) -> dict[str, Any]:
    try:
        after = (int(doc.get("timeUnixNano") or start_ns) - start_ns) / 1e9
    except (TypeError, ValueError):
        after = None
    return {"name": _text(doc.get("name")) or "–", "after": after, "attributes": _plainly(_attributes(doc))[:LISTED]}


def _attributes(doc: dict[str, Any]) -> dict[str, Any]:
    listed = doc.get("attributes")
    found = listed if isinstance(listed, list) else []
    return {str(one.get("key")): plain_value(one.get("value")) for one in found if isinstance(one, dict)}


def _judged(doc: dict[str, Any]) -> dict[str, str]:
    """Feedback or an expectation, by whom and why."""
    kind = next((one for one in ("feedback", "expectation") if one in doc), "issue")
    inner = doc.get(kind) if isinstance(doc.get(kind), dict) else {}
    source = doc.get("source") if isinstance(doc.get("source"), dict) else {}
    assert isinstance(inner, dict) and isinstance(source, dict)
    value = inner.get("value", inner.get("serialized_value"))
    return {
        "kind": kind,
        "name": _text(doc.get("assessment_name")),
        "value": _text(value) or "–",
        "by": _text(source.get("source_id")) or "–",
        "why": _text(doc.get("rationale")),
    }


def _plainly(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(cells.cut(key, 120), _text(value) or "–") for key, value in found.items()]


def _text(value: Any) -> str:
    """A value as people read it: JSON set in, texts as they are, both cut where they are long."""
    if value is None:
        return ""
    if isinstance(value, str):
        if value[:1] in '{["' and len(value) <= LONGEST:
            try:
                inner = json.loads(value)
            except (ValueError, RecursionError):
                inner = value
            text = inner if isinstance(inner, str) else _indented(inner)
        else:
            text = value
    else:
        text = _indented(value)
    head = shown(text[:LONGEST], keep="\n\t")
    return head if len(text) <= LONGEST else f"{head}… ({len(text):,} characters)"


def _indented(value: Any) -> str:
    try:
        return json.dumps(value, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return repr(value)[:LONGEST]
