"""The problem, written down: section `framing` of `loop.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from loopline.base.spec import Duration, Spec


class LabelSpec(Spec):
    """Where the answer is found and what counts as true.

    `value` is an expression over the table's columns; a null value is a void
    label (never to be scored), no row means not known yet.
    """

    table: str | None = Field(None, description="Table that holds the outcomes; without it, the data table itself.")
    value: str = Field(description="Column, or comparison such as `arr_delay > 15`.")


class ValueSpec(Spec):
    """What right and wrong decisions are worth, per decision."""

    currency: str = "USD"
    true_positive: float = 0.0
    false_positive: float = 0.0
    false_negative: float = 0.0
    true_negative: float = 0.0


class OwnerSpec(Spec):
    """Who answers for the model."""

    name: str
    notify: str | None = Field(None, description="Webhook that is told about decisions and incidents.")


class FramingSpec(Spec):
    """What is decided, and how we will know it went well."""

    objective: str = ""
    task: Literal["binary"] = "binary"
    label: LabelSpec
    unit: str = Field(description="One prediction per; joins requests, logs and outcomes.")
    decision_time: str | None = Field(
        None, description="Column, or column minus a duration; nothing known later may be used."
    )
    label_arrives: Duration | None = Field(
        None, description="Usual delay of the label after the event; quality monitors wait for it."
    )
    value: ValueSpec | None = None
    baseline: str | None = Field(None, description="`constant`, or `file.py:function` returning a score per row.")
    risk: Literal["minimal", "limited", "high"] = "limited"
    owner: OwnerSpec | None = None

    @field_validator("label", mode="before")
    @classmethod
    def _short_label(cls, value: object) -> object:
        return {"value": value} if isinstance(value, str) else value
