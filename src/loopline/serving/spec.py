"""Section `serving` of `loop.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from loopline.base.spec import Duration, Share, Spec


class ReleaseSpec(Spec):
    """How traffic moves to a new version.

    A step ends at its verdict; undecided at the limit it goes on, recorded as
    unproven (risk `high` holds).
    """

    canary: tuple[Share, ...] = Field((0.05, 0.25, 0.5), description="Shares of the traffic, rising.")
    each_at_most: Duration = Field(default="2d", validate_default=True)
    alpha: float = Field(0.05, gt=0, lt=1, description="Chance that a healthy canary is rolled back.")
    margin: float = Field(0.02, gt=0, lt=1, description="Rise of a guardrail's rate that counts as worse.")
    latency_ms: float = Field(50.0, gt=0, description="A slower answer counts against the latency guardrail.")


class ServingSpec(Spec):
    """The endpoint."""

    release: ReleaseSpec = ReleaseSpec()
    fallback: tuple[Literal["previous", "baseline"], ...] = ("previous",)
