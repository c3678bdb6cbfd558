"""Spans in the JSON form of OTLP: checked as the trace log keeps them, and their attributes as plain values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from loopline.base.errors import Invalid
from loopline.store.runs.traces.protocol import Span

PREFIX = "tr-"
"""Before the id of a trace, as tracking clients name it."""
TYPE, GIVEN, MADE = "mlflow.spanType", "mlflow.spanInputs", "mlflow.spanOutputs"
PREVIEW = 1_000
_STATUS: dict[Any, Literal["UNSET", "OK", "ERROR"]] = {
    0: "UNSET", 1: "OK", 2: "ERROR", "STATUS_CODE_UNSET": "UNSET", "STATUS_CODE_OK": "OK", "STATUS_CODE_ERROR": "ERROR",
}  # fmt: skip
_TRACE, _SPAN = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{16}")
_LATEST_NS = 2**63


def batches(request: dict[str, Any]) -> Iterator[tuple[str, list[Span]]]:
    """What spans share, as JSON, and the spans; for each scope of each resource.

    Raises
    ------
    Invalid
        If a span lacks its ids or its times, or a part is of another type than OTLP says.
    """
    for of_resource in _listed(request, "resourceSpans"):
        for of_scope in _listed(of_resource, "scopeSpans"):
            shared = {name: of[name] for name, of in (("resource", of_resource), ("scope", of_scope)) if of.get(name)}
            try:
                spans = [_span(one) for one in _listed(of_scope, "spans")]
                origin = json.dumps(shared, sort_keys=True, separators=(",", ":"))
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                raise Invalid(
                    f"a span cannot be kept: {str(error)[:200]}",
                    why="a value in it is none that OTLP knows: half a character, a number beyond 64 bits, too deep",
                    fix="send what an OTLP exporter sends",
                ) from error
            if spans:
                yield origin, spans


def span_of(body: str) -> Span:
    """A span from what is kept of it; its `body` is how the log writes it.

    Raises
    ------
    Invalid
        If it is none.
    """
    try:
        return _span(json.loads(body))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Invalid(
            "this is no span", why=f"it is not as OTLP/JSON has them: {error}", fix="send it again"
        ) from error


def _span(doc: dict[str, Any]) -> Span:
    trace, id, parent = (str(doc.get(name) or "").lower() for name in ("traceId", "spanId", "parentSpanId"))
    if not _TRACE.fullmatch(trace) or not _SPAN.fullmatch(id) or (parent and not _SPAN.fullmatch(parent)):
        raise _wrong(doc, "a trace has an id of 16 bytes, a span and its parent one of 8")
    start, end = _moment(doc, "startTimeUnixNano"), _moment(doc, "endTimeUnixNano")
    if not start:
        raise _wrong(doc, "it has no startTimeUnixNano")
    status = doc.get("status") or {}
    if not isinstance(status, dict):
        raise _wrong(doc, "its status is no object")
    attributes = {}
    for pair in _listed(doc, "attributes"):
        attributes[pair.get("key")] = pair.get("value")
    root = not parent
    body = {**doc, "traceId": trace, "spanId": id, "startTimeUnixNano": str(start), "endTimeUnixNano": str(end)}
    if not root:
        body["parentSpanId"] = parent
    return Span(
        PREFIX + trace,
        id,
        parent or None,
        str(doc.get("name") or ""),
        _told(attributes.get(TYPE)),
        _STATUS.get(status.get("code", 0), "UNSET"),
        start,
        end or None,
        msgspec.json.encode(body).decode(),
        _told(attributes.get(GIVEN)) if root else None,
        _told(attributes.get(MADE)) if root else None,
    )


def _told(value: Any) -> str | None:
    """A value in short, as people read it; null where there is none."""
    plain = plain_value(value)
    if plain is None:
        return None
    text = plain if isinstance(plain, str) else json.dumps(plain)
    return text[:PREVIEW]


def plain_value(value: Any) -> Any:
    """An attribute's value without the words that say its type; null where it has none."""
    if not isinstance(value, dict) or not value:
        return None
    kind, given = next(iter(value.items()))
    if kind == "arrayValue":
        return [plain_value(one) for one in _listed(given or {}, "values")]
    if kind == "kvlistValue":
        return {str(one.get("key")): plain_value(one.get("value")) for one in _listed(given or {}, "values")}
    if kind == "intValue":
        return int(given)
    return given


def _listed(doc: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = doc.get(name) if isinstance(doc, dict) else None
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Invalid(f"{name} is no list of objects", why="OTLP/JSON says so", fix="send what an OTLP exporter sends")
    return found


def _moment(doc: dict[str, Any], name: str) -> int:
    try:
        found = int(doc.get(name) or 0)
    except (TypeError, ValueError):
        raise _wrong(doc, f"its {name} is no whole number") from None
    if not 0 <= found < _LATEST_NS:
        raise _wrong(doc, f"its {name} lies outside of what 63 bits hold")
    return found


def _wrong(doc: dict[str, Any], why: str) -> Invalid:
    return Invalid(f"the span {str(doc.get('name'))[:100]!r} is none", why=why, fix="send what an OTLP exporter sends")
