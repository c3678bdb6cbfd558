"""Section `features` of `loop.yaml`."""

from __future__ import annotations

from pydantic import Field, field_validator

from loopline.base.spec import Spec


class FeaturesSpec(Spec):
    """Which table is the spine, and which files define views over the others."""

    spine: str = Field(description="Table with one row per unit to predict; more rows of a unit are versions of it.")
    views: tuple[str, ...] = Field((), description="Python files; every @view in them is used.")

    @field_validator("views", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value
