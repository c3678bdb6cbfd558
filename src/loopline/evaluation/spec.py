"""Section `evaluation` of `loop.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from loopline.base.spec import Spec

METRICS = ("roc_auc", "brier", "log_loss", "calibration_error", "accuracy", "value")
Metric = Literal["roc_auc", "brier", "log_loss", "calibration_error", "accuracy", "value"]


class GateSpec(Spec):
    """A candidate passes when `metric` on `slice` clears its one bound.

    The bound must hold at the stated confidence, so a small slice cannot pass
    by luck. Without a champion, `against: champion` means the baseline.
    """

    metric: Metric = Field(examples=["roc_auc"])
    slice: str = "all"
    at_least: float | None = None
    at_most: float | None = None
    no_worse_by: float | None = None
    better_by: float | None = None
    against: Literal["champion", "baseline"] | None = None
    confidence: float = Field(0.95, gt=0.5, lt=1.0)

    @model_validator(mode="after")
    def _one_bound(self) -> GateSpec:
        absolute = [self.at_least, self.at_most]
        relative = [self.no_worse_by, self.better_by]
        if sum(b is not None for b in absolute + relative) != 1:
            raise ValueError("give exactly one of at_least, at_most, no_worse_by and better_by")
        if any(b is not None for b in relative) != (self.against is not None):
            raise ValueError("no_worse_by and better_by, and only they, need against")
        return self


class EvaluationSpec(Spec):
    """How a candidate is judged."""

    primary: Metric = "roc_auc"
    slices: tuple[str, ...] = ()
    gates: tuple[GateSpec, ...] = (GateSpec(metric="roc_auc", against="baseline", better_by=0.0),)
