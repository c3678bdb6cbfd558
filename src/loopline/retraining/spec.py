"""Section `retraining` of `loop.yaml`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from loopline.base.spec import Duration, Spec, duration


class CooldownSpec(Spec):
    """Pauses between cycles."""

    after_promotion: Duration = Field(default="14d", validate_default=True)
    after_rejection: Duration = Field(default="7d", validate_default=True)


class BudgetSpec(Spec):
    """How many cycles may train within a period."""

    runs: int = Field(4, ge=1)
    per: Duration = Field(default="30d", validate_default=True)


class Adapter(Spec):
    """Who carries out an effect: ours (default), a shell command or a signed webhook."""

    shell: str | None = None
    webhook: str | None = None
    timeout: Duration = Field(default="1h", validate_default=True)

    @model_validator(mode="after")
    def _one(self) -> Adapter:
        if (self.shell is None) == (self.webhook is None):
            raise ValueError("give exactly one of shell and webhook")
        return self


EffectKind = Literal["train", "deploy", "set_traffic", "roll_back", "notify"]

TRIGGER = re.compile(
    r"\s*(?:every\s+(?P<every>\S+)"
    r"|(?P<metric>[a-z_]+)\s*(?P<op>[<>])\s*(?:(?P<ref>released)\s*(?P<sign>[+-])\s*)?(?P<bound>\d+(?:\.\d+)?))\s*"
)


def _trigger(text: str) -> str:
    match = TRIGGER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a trigger; write `metric > 0.03`, `metric < released - 0.01` or `every 90d`")
    if match["every"]:
        duration(match["every"])
    return text


Trigger = Annotated[str, AfterValidator(_trigger)]
"""When to act: `metric > bound`, `metric < released - margin` or `every 90d`."""


class RetrainingSpec(Spec):
    """When the loop acts, and how far it may go by itself."""

    mode: Literal["off", "observe", "suggest", "auto"] = "observe"
    over: Duration = Field(
        default="28d", validate_default=True, description="Trailing labelled days that triggers judge."
    )
    any_of: tuple[Trigger, ...] = Field(
        (), examples=[["calibration_error > 0.03", "roc_auc < released - 0.01", "every 90d"]]
    )
    cooldown: CooldownSpec = CooldownSpec()
    budget: BudgetSpec = BudgetSpec()
    effects: dict[EffectKind, Adapter] = Field(default_factory=dict)
