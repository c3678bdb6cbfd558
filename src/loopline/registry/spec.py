"""Section `registry` of `loop.yaml`."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from loopline.base.spec import Duration, Spec


class ApprovalsSpec(Spec):
    """Who must say yes, and how many of them."""

    needed: int = Field(default=1, ge=0, description="Signed approvals before a version may be released.")
    by: Literal["anyone", "anyone_but_author"] = Field(
        default="anyone_but_author", description="Who may approve; by default not the author."
    )
    expire: Duration = Field(
        default=timedelta(days=14), description="An approval that is still missing then ends the cycle."
    )


class KeepSpec(Spec):
    """How long old versions stay ready to be rolled back to."""

    versions: int = Field(
        default=10, ge=2, description="Released last and always kept; a promotion retires the others."
    )
    at_least: Duration = Field(default=timedelta(days=30), description="Younger versions are kept as well.")


class RegistrySpec(Spec):
    """Approvals and retention."""

    approvals: ApprovalsSpec = Field(default=ApprovalsSpec(), description="Who must say yes, and how many of them.")
    keep: KeepSpec = Field(default=KeepSpec(), description="How long old versions stay ready to be rolled back to.")
    protected: tuple[str, ...] = Field(
        default=(), description="Aliases that only a promotion moves, besides production and champion."
    )
