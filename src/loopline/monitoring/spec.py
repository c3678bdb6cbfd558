"""Section `monitoring` of `loop.yaml`."""

from __future__ import annotations

from pydantic import Field

from loopline.base.spec import Duration, Spec


class MonitoringSpec(Spec):
    """How live behaviour is watched."""

    window: Duration = Field(default="1d", validate_default=True)
    false_alarms_per_year: float = Field(2.0, gt=0, description="For the whole model: every column, slice and look.")
    reference: Duration = Field(
        default="28d", validate_default=True, description="Trailing windows that new ones are compared with."
    )
