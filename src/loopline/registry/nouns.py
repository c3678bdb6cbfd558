"""The nouns of the registry."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from loopline.base.nouns import noun


@noun("version")
@dataclass(frozen=True, slots=True)
class Version:
    """A registered model: numbered, signed, with its evidence.

    `number` rises by one per model name and is never used again. `released`
    holds the metric values of the report that this version was judged on.
    """

    id: str
    name: str
    number: int
    model: str
    report: str
    bundle: str
    signature: str
    """Blob digest of the DSSE envelope over the bundle's in-toto statement."""
    problem: str
    author: str
    risk: str
    evidence: str
    """Digest of (candidate, report, release plan, policy) that approvals sign."""
    created_at: datetime
    released: dict[str, float | None]


@noun("approval")
@dataclass(frozen=True, slots=True)
class Approval:
    """A signed yes or no, bound to one digest of evidence."""

    id: str
    version: str
    evidence: str
    approver: str
    decision: str
    """`approve` or `reject`."""
    reason: str
    key: str
    """Fingerprint of the approver's public key."""
    signature: str
    at: datetime


@noun("release")
@dataclass(frozen=True, slots=True)
class Release:
    """An alias that moved: who, from what, to what, why."""

    id: str
    name: str
    alias: str
    version: str
    previous: str | None
    reason: str
    actor: str
    at: datetime
    generation: int
