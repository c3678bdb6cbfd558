"""The nouns of serving."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loopline.base.nouns import noun

BASELINE = "baseline"
"""In a chain of fallbacks, and as `fallback` of an answer: the champion's base rate."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One version behind an endpoint and its part of the traffic."""

    version: str
    number: int
    bundle: str
    share: int
    """Of 10,000."""
    role: str
    """`champion`, `canary`, `shadow` or `previous` (kept warm as the fallback, share 0)."""


@noun("desired_state")
@dataclass(frozen=True, slots=True)
class DesiredState:
    """What an endpoint should serve. Taken only if its generation is higher."""

    id: str
    endpoint: str
    generation: int
    variants: tuple[Variant, ...]
    salt: str
    """Keys the hash that assigns entities; constant over one release."""
    guardrails: tuple[dict[str, Any], ...]
    """`{"name", "kind", "alpha", "margin"}`; see `serving.release`."""
    fallback: tuple[str, ...]
    kill: bool
    issued_at: datetime
    holdout: float = 0.0
    online: bool = False
    """Whether requests name entities, and the data plane reads their features from the online store."""


@dataclass(frozen=True, slots=True)
class Guardrail:
    """What the data plane found about a canary, under continuous looking."""

    name: str
    canary_n: int
    canary_bad: int
    champion_n: int
    champion_bad: int
    worse: float
    """E-value against "the canary is no worse"."""
    fine: float
    """E-value against "the canary is worse by the margin or more"."""
    verdict: str
    """`worse`, `fine` or `open`."""


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What an endpoint serves now, as its supervisor last wrote it."""

    endpoint: str
    generation: int
    applied_at: datetime
    serving: tuple[Variant, ...]
    guardrails: tuple[Guardrail, ...]
    rolled_back: str | None
    """Version that the data plane took out by itself, with `reason`."""
    reason: str | None
    requests: int
    error: str | None
    """Why the newest desired state could not be taken; the last good one is served."""
