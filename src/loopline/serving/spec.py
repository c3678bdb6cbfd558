"""Section `serving` of `loop.yaml`."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from loopline.base.spec import Duration, Share, Spec


class ReleaseSpec(Spec):
    """How traffic moves to a new version.

    A step ends at its verdict; undecided at the limit it goes on, recorded as
    unproven (risk `high` holds).
    """

    canary: tuple[Share, ...] = Field(default=(0.05, 0.25, 0.5), description="Shares of the traffic, rising.")
    each_at_most: Duration = Field(
        default=timedelta(days=2), description="A step without a verdict ends then: on, unless risk is `high`."
    )
    alpha: float = Field(default=0.05, gt=0, lt=1, description="Chance that a healthy canary is rolled back.")
    margin: float = Field(default=0.02, gt=0, lt=1, description="Rise of a guardrail's rate that counts as worse.")
    parity: int = Field(
        default=1000,
        ge=0,
        description="Requests of the canary whose features are computed again from the tables before it serves "
        "everyone; one value that differs takes it back. Fewer at the limit of the last step are recorded as "
        "unproven. 0 asks for none.",
    )
    latency_ms: float = Field(default=50.0, gt=0, description="A slower answer counts against the latency guardrail.")


class ServingSpec(Spec):
    """The endpoint."""

    release: ReleaseSpec = Field(default=ReleaseSpec(), description="How traffic moves to a new version.")
    features: Literal["request", "online"] = Field(
        default="request",
        description="Whether requests carry the features, or name entities whose features the server reads from the "
        "online store (`loopline features publish` fills it).",
    )
    fallback: tuple[Literal["previous", "baseline"], ...] = Field(
        default=("previous",),
        description="Who answers, in this order, when the champion fails or its contract refuses the row: the version "
        "before it, or `baseline`, the share of positives among the champion's training rows.",
    )
