"""Section `monitoring` of `loop.yaml`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from loopline.base.spec import Duration, Spec


class MonitoringSpec(Spec):
    """How live behaviour is watched."""

    window: Duration = Field(
        default=timedelta(days=1), description="Length of the windows that are profiled and tested."
    )
    false_alarms_per_year: float = Field(
        default=2.0, gt=0, description="For the whole model: every column, slice and look."
    )
    reference: Duration = Field(
        default=timedelta(days=28), description="Trailing windows that new ones are compared with."
    )
