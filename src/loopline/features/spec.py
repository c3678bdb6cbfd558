"""Section `features` of `loop.yaml`, and the part of `training` that decides its rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from loopline.base.spec import Duration, Share, Spec


class FeaturesSpec(Spec):
    """Which table is the spine, and which files define views over the others."""

    spine: str = Field(description="Table with one row per unit to predict; more rows of a unit are versions of it.")
    views: tuple[str, ...] = Field((), description="Python files; every @view in them is used.")

    @field_validator("views", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


Leaks = Literal[
    "target_copy",
    "too_good",
    "missing_values",
    "row_number",
    "encoded_target",
    "time_overlap",
    "group_overlap",
    "duplicate_rows",
    "early_label",
    "future_known_at",
    "own_outcome",
    "reads_future",
]
"""Kinds of leak that are looked for before training."""


class SplitSpec(Spec):
    """How rows are held out. `test` is a duration by time, a share at random."""

    by: Literal["time", "random"] = Field(
        default="time", description="Hold out the newest rows, or random ones (without framing.decision_time)."
    )
    test: Annotated[Share, Field(gt=0, lt=1)] | Duration = Field(
        default=0.2,
        union_mode="left_to_right",
        description="How much is held out: the newest 28d, or a share of the rows as 20%.",
    )
    group: str | None = Field(
        default=None, description="Column of the spine: rows with one value of it are held out together (at random)."
    )


class AcceptSpec(Spec):
    """A finding that is known to be none, with the reason; it stays in the report."""

    kind: Leaks = Field(description="Kind of finding, as the report names it.")
    column: str | None = Field(default=None, description="Feature, group column or table; any by default.")
    reason: str = Field(description="Why the rows may be trained on all the same.", min_length=10)


class LeakageSpec(Spec):
    """The search for leaks before training: always on; what was looked into may be accepted."""

    groups: tuple[str, ...] = Field(
        default=(), description="Columns of the spine whose values must not be both in training and held-out rows."
    )
    accept: tuple[AcceptSpec, ...] = Field(default=(), description="Findings that do not keep training back.")

    @field_validator("groups", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class CutSpec(Spec):
    """How the rows of a training set are held out, and what leaks are looked for in them."""

    split: SplitSpec = Field(default=SplitSpec(), description="How rows are held out to judge a candidate.")
    window: Duration | None = Field(default=None, description="Train on the newest part only; all of it by default.")
    leakage: LeakageSpec = Field(
        default=LeakageSpec(), description="The search for leaks that comes before every training."
    )
    seed: int = Field(default=0, description="Seeds the recipe, Python and NumPy.")
