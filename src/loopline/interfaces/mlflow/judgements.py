"""What is said of traces: feedback and expectations, given, changed, withdrawn."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from loopline.base.ids import iso
from loopline.interfaces.mlflow.errors import invalid
from loopline.interfaces.mlflow.operations import Ask, Call, Operation

KINDS = ("feedback", "expectation")
_PARTS: dict[str, type] = {
    "assessment_id": str, "span_id": str, "rationale": str, "overrides": str, "source": dict, "metadata": dict,
    "valid": bool, "create_time": str, "last_update_time": str,
}  # fmt: skip


class Judge(Ask):
    trace_id: str | None = None
    assessment: dict[str, Any] | None = None
    assessment_id: str | None = None
    update_mask: str | dict[str, Any] | None = None


def judge(call: Call, ask: Judge) -> dict[str, Any]:
    assert ask.trace_id is not None
    doc = judged(call, ask.trace_id, ask.assessment or {})
    if overridden := doc.get("overrides"):
        before = call.ws.traces.judgement(ask.trace_id, str(overridden))
        call.ws.traces.judge(ask.trace_id, str(overridden), {**before, "valid": False})
    call.ws.traces.judge(ask.trace_id, doc["assessment_id"], doc)
    return {"assessment": doc}


def judgement(call: Call, ask: Judge) -> dict[str, Any]:
    assert ask.trace_id is not None and ask.assessment_id is not None
    return {"assessment": call.ws.traces.judgement(ask.trace_id, ask.assessment_id)}


def judge_again(call: Call, ask: Judge) -> dict[str, Any]:
    assert ask.trace_id is not None and ask.assessment_id is not None
    before, new = call.ws.traces.judgement(ask.trace_id, ask.assessment_id), ask.assessment or {}
    mask = ask.update_mask
    fields = (mask or "").split(",") if not isinstance(mask, dict) else list(mask.get("paths") or ())
    known = {_snake(field.strip()) for field in fields if field.strip()}
    if unknown := known - {"assessment_name", "rationale", "metadata", "valid", *KINDS}:
        raise invalid(f"Invalid update_mask: {', '.join(sorted(unknown))} cannot be changed.")
    if any(kind in known and kind not in before for kind in KINDS):
        raise invalid("Feedback stays feedback, and an expectation an expectation.")
    doc = {**before, **{field: new[field] for field in known if field in new}}
    doc["last_update_time"] = time_text(call.now_ms)
    _require_sound(doc)
    call.ws.traces.judge(ask.trace_id, ask.assessment_id, doc)
    return {"assessment": doc}


def withdraw(call: Call, ask: Judge) -> dict[str, Any]:
    assert ask.trace_id is not None and ask.assessment_id is not None
    call.ws.traces.withdraw(ask.trace_id, ask.assessment_id)
    return {}


def judged(call: Call, trace: str, doc: dict[str, Any]) -> dict[str, Any]:
    """What is said of a trace, checked, with its id and times."""
    _require_sound(doc)
    now = time_text(call.now_ms)
    given = {name: value for name, value in doc.items() if value is not None}
    return {
        "valid": True,
        "create_time": now,
        "last_update_time": now,
        **given,
        "assessment_id": given.get("assessment_id") or f"a-{secrets.token_hex(16)}",
        "trace_id": trace,
    }


def _require_sound(doc: dict[str, Any]) -> None:
    """See that clients can read what is said."""
    if not isinstance(doc.get("assessment_name"), str) or not doc["assessment_name"]:
        raise invalid("Missing value for required parameter 'assessment.assessment_name'.")
    said = [doc[kind] for kind in (*KINDS, "issue") if doc.get(kind) is not None]
    if len(said) != 1 or not isinstance(said[0], dict):
        raise invalid("An assessment is feedback or an expectation, one of the two.")
    for name, kind in _PARTS.items():
        if not isinstance(doc.get(name), kind | None):
            raise invalid(f"Invalid value for parameter 'assessment.{name}' supplied: it is of another type.")
    if not all(isinstance(value, str) for value in (doc.get("metadata") or {}).values()):
        raise invalid("Invalid value for parameter 'assessment.metadata' supplied: its values are texts.")


def time_text(at_ms: int) -> str:
    """A moment in milliseconds since 1970 as the JSON of protobuf has it."""
    return iso(datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000))


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


READ, WRITE = "training.runs", "training.log"
_JUDGED = "traces/{trace_id}/assessments"
OPERATIONS = (
    Operation("POST", _JUDGED, Judge, judge, WRITE, ("assessment",)),
    Operation("GET", _JUDGED + "/{assessment_id}", Judge, judgement, READ),
    Operation("PATCH", _JUDGED + "/{assessment_id}", Judge, judge_again, WRITE, ("assessment", "update_mask")),
    Operation("DELETE", _JUDGED + "/{assessment_id}", Judge, withdraw, WRITE),
)
