"""What an approval is bound to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopline.base.ids import canonical, content_id
from loopline.base.nouns import to_doc
from loopline.evaluation.nouns import Report
from loopline.training.nouns import Model


def evidence(candidate: Model, report: Report, plan: Mapping[str, Any], policy: Mapping[str, Any]) -> str:
    """Digest of candidate, report, release plan and policy: a change of any of them changes it."""
    return content_id(
        {
            "candidate": _candidate(candidate),
            "report": to_doc(report),
            "plan": to_doc(dict(plan)),
            "policy": to_doc(dict(policy)),
        }
    )


def _candidate(model: Model) -> dict[str, Any]:
    """The record; without the field that only models in a native runtime have, where it says nothing."""
    doc: dict[str, Any] = to_doc(model)
    return {name: value for name, value in doc.items() if name != "package" or value is not None}


def ballot(version: str, evidence_digest: str, approver: str, decision: str, reason: str) -> bytes:
    """The bytes that an approver signs."""
    return canonical(
        {
            "loopline": "approval/v1",
            "version": version,
            "evidence": evidence_digest,
            "approver": approver,
            "decision": decision,
            "reason": reason,
        }
    )


def same_person(one: str, other: str) -> bool:
    """Whether two actors are one person, however their names are written."""
    return _bare(one) == _bare(other)


def _bare(actor: str) -> str:
    return actor.rpartition(":")[2].strip().casefold()
