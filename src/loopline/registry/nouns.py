"""The nouns of the registry."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

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
    """Metrics of its report, the primary one first."""


@noun("deposit")
@dataclass(frozen=True, slots=True)
class Deposit:
    """A model that a tracking client registered: numbered in one row with versions, not judged.

    It becomes a `Version` of the same number once it is adopted. `name` is what
    the model was called then; `family` stays when it is renamed.
    """

    id: str
    name: str
    number: int
    family: str
    source: str
    """The address that the client gave."""
    files: dict[str, str]
    """Path to digest; kept under the owner `id[:32]` among the artifacts, where nobody can change them."""
    digest: str
    """Content id of `files`; empty where the bytes lie elsewhere and nothing is pinned."""
    author: str
    created_at: datetime
    run: str | None = None
    logged_model: str | None = None
    run_link: str = ""
    prompt: bool = False
    """Whether it is a text for a language model: its tags hold it, there are no files."""


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
    act: str = "promote"
    """`promote` or `rollback`."""


@noun("evidence")
@dataclass(frozen=True, slots=True)
class Evidence:
    """What an approval says yes or no to. `id` is the digest of it all.

    The digest covers the whole records of model and report, not only their ids.
    """

    id: str
    model: str
    report: str
    plan: dict[str, Any]
    policy: dict[str, Any]


@noun("public_key")
@dataclass(frozen=True, slots=True)
class PublicKey:
    """Whose signatures a key makes. `id` is the key's fingerprint; one key, one owner."""

    id: str
    owner: str
    public: str
    """Ed25519, raw, base64."""
    added_by: str
    at: datetime


@noun("retirement")
@dataclass(frozen=True, slots=True)
class Retirement:
    """A version that may no longer be released; its bundle may be freed. `id` is the version's."""

    id: str
    version: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that must hold before an alias moves, with what was seen."""

    name: str
    passed: bool
    observed: Any
    threshold: Any
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a version stands with those who must say yes."""

    approved: bool
    refused: str | None
    """Who said no to the present evidence; null when nobody did."""
    needed: int
    given: int
    guards: tuple[Condition, ...]

    @property
    def rejected(self) -> bool:
        """Whether somebody said no."""
        return self.refused is not None
