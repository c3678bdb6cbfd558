"""The problem, written down: section `framing` of `loop.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from loopline.base.spec import Duration, Spec


class WeakLabelSpec(Spec):
    """A source of answers that counts where no better one has answered."""

    table: str = Field(description="Table that holds its answers.")
    value: str = Field(description="Column, or comparison such as `says_leaving == 'yes'`; null: it abstains.")
    confidence: float | str = Field(
        default=1.0, description="How often it is right, 0 to 1, or the column that says so for each answer."
    )
    at_least: float = Field(default=0.0, ge=0, le=1, description="Answers of less confidence do not count.")

    @field_validator("confidence")
    @classmethod
    def _share(cls, value: float | str) -> float | str:
        if isinstance(value, float) and not 0 <= value <= 1:
            raise ValueError("a confidence lies between 0 and 1")
        return value


class LabelSpec(Spec):
    """Where the answer is found and what counts as true.

    `value` is an expression over the table's columns; a null value is a void
    label (never to be scored), no row means not known yet.
    """

    table: str | None = Field(
        default=None, description="Table that holds the outcomes; without it, the data table itself."
    )
    value: str = Field(description="Column, or comparison such as `delay > 15`.")
    confidence: str | None = Field(
        default=None, description="Column that says how sure each answer is, 0 to 1; without it, 1."
    )
    weak: tuple[WeakLabelSpec, ...] = Field(
        default=(), description="Other sources of answers, best first: each counts where those before it have none."
    )


class ValueSpec(Spec):
    """What right and wrong decisions are worth, per decision."""

    currency: str = Field(default="USD", description="Name of the unit, shown beside values.")
    true_positive: float = Field(default=0.0, description="Worth of acting on a case that is true.")
    false_positive: float = Field(default=0.0, description="Worth of acting on a case that is not; a cost is negative.")
    false_negative: float = Field(default=0.0, description="Worth of leaving a case that is true; a cost is negative.")
    true_negative: float = Field(default=0.0, description="Worth of leaving a case that is not.")


class OwnerSpec(Spec):
    """Who answers for the model."""

    name: str = Field(description="Person or team, shown with the model.")
    notify: str | None = Field(default=None, description="Webhook that is told about decisions and incidents.")


class FramingSpec(Spec):
    """What is decided, and how we will know it went well."""

    objective: str = Field(
        default="", description="What a decision is for, in a sentence; report and pages open with it."
    )
    task: Literal["binary"] = Field(
        default="binary", description="Kind of answer; other kinds come with later versions."
    )
    label: LabelSpec
    unit: str = Field(description="Column with one prediction for each value; joins requests, logs and outcomes.")
    decision_time: str | None = Field(
        default=None, description="Column, or column minus a duration; nothing known later may be used."
    )
    label_arrives: Duration | None = Field(
        default=None, description="Usual delay of the label after the event; quality monitors wait for it."
    )
    value: ValueSpec | None = Field(
        default=None, description="Sets the threshold of a decision and the metric `value`."
    )
    baseline: str | None = Field(
        default=None, description="`constant`, or `file.py:function` returning a score per row."
    )
    risk: Literal["minimal", "limited", "high"] = Field(
        default="limited", description="Sets approvals, autonomy and logging: `high` never goes on without a verdict."
    )
    owner: OwnerSpec | None = Field(default=None, description="Who answers for the model and is told about it.")

    @field_validator("label", mode="before")
    @classmethod
    def _short_label(cls, value: object) -> object:
        return {"value": value} if isinstance(value, str) else value
