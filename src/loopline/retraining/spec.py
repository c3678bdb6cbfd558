"""Section `retraining` of `loop.yaml`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from loopline.base.spec import Duration, Spec, duration


class CooldownSpec(Spec):
    """Pauses between cycles."""

    after_promotion: Duration = Field(
        default=timedelta(days=14), description="No new cycle for so long after a promotion."
    )
    after_rejection: Duration = Field(
        default=timedelta(days=7), description="No new cycle for so long after a rejection."
    )


class BudgetSpec(Spec):
    """How many cycles may train within a period."""

    runs: int = Field(default=4, ge=1, description="Trainings allowed within `per`.")
    per: Duration = Field(default=timedelta(days=30), description="The period that `runs` counts in.")


class Adapter(Spec):
    """Who carries out an effect: ours (default), a shell command or a signed webhook."""

    shell: str | None = Field(default=None, description="Command that gets the request as JSON on standard input.")
    webhook: str | None = Field(default=None, description="Address that gets the request as a signed POST.")
    timeout: Duration = Field(default=timedelta(hours=1), description="The effect has failed when it takes longer.")

    @model_validator(mode="after")
    def _one(self) -> Adapter:
        if (self.shell is None) == (self.webhook is None):
            raise ValueError("give exactly one of shell and webhook")
        return self


EffectKind = Literal["train", "deploy", "set_traffic", "roll_back", "notify"]

TRIGGER = re.compile(
    r"\s*(?:every\s+(?P<every>\S+)"
    r"|new_labels\s*>\s*(?P<growth>\d+(?:\.\d+)?)\s*%"
    r"|(?P<metric>[a-z_]+)\s*(?P<op>[<>])\s*(?:(?P<ref>released)\s*(?P<sign>[+-])\s*)?(?P<bound>\d+(?:\.\d+)?))\s*"
)


def _trigger(text: str) -> str:
    match = TRIGGER.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a trigger; write `metric > 0.03`, `metric < released - 0.01`, `new_labels > 50%` or "
            "`every 90d`"
        )
    if match["every"]:
        duration(match["every"])
    return text


Trigger = Annotated[str, AfterValidator(_trigger)]
"""When to act: `metric > bound`, `metric < released - margin`, `new_labels > 50%` or `every 90d`."""


class RetrainingSpec(Spec):
    """When the loop acts, and how far it may go by itself."""

    mode: Literal["off", "observe", "suggest", "auto"] = Field(
        default="observe",
        description="`observe` only records, `suggest` prepares a candidate for a person, `auto` acts by itself.",
    )
    over: Duration = Field(default=timedelta(days=28), description="Trailing labelled days that triggers judge.")
    any_of: tuple[Trigger, ...] = Field(
        default=(),
        description="Triggers; one whose whole 90 % interval lies beyond its bound starts a cycle. `new_labels` are "
        "labels that became known since the champion was trained, as a share of the rows it was trained on.",
        examples=[["calibration_error > 0.03", "roc_auc < released - 0.01", "new_labels > 50%", "every 90d"]],
    )
    cooldown: CooldownSpec = Field(default=CooldownSpec(), description="Pauses between cycles.")
    budget: BudgetSpec = Field(default=BudgetSpec(), description="How many cycles may train within a period.")
    effects: dict[EffectKind, Adapter] = Field(
        default_factory=dict,
        description="Who carries out an effect instead of Loopline: a command or a webhook. With `deploy` or "
        "`set_traffic` another data plane serves: it gets every move of traffic, ours gets none.",
    )
