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

    metric: Metric = Field(description="What is measured on the held-out rows.", examples=["roc_auc"])
    slice: str = Field(default="all", description="`all`, or `column=value` with a column of evaluation.slices.")
    at_least: float | None = Field(default=None, description="The metric must not be lower.")
    at_most: float | None = Field(default=None, description="The metric must not be higher.")
    no_worse_by: float | None = Field(default=None, description="It may be worse than `against` by less than this.")
    better_by: float | None = Field(default=None, description="It must be better than `against` by at least this.")
    against: Literal["champion", "baseline"] | None = Field(
        default=None, description="What it is compared with, on the same rows."
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1.0, description="One-sided confidence at which the bound must hold."
    )

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

    primary: Metric = Field(
        default="roc_auc",
        description="The metric that leads: first in reports, releases, `loopline status` and `why`, and on pages.",
    )
    slices: tuple[str, ...] = Field(default=(), description="Columns whose values are judged apart as well.")
    gates: tuple[GateSpec, ...] = Field(
        default=(GateSpec(metric="roc_auc", against="baseline", better_by=0.0),),
        description="What a candidate must clear; all of them, each at its confidence.",
    )
