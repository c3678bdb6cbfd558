"""Section `registry` of `loop.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from loopline.base.spec import Duration, Spec


class ApprovalsSpec(Spec):
    """Who must say yes, and how many of them."""

    needed: int = Field(1, ge=0)
    by: Literal["anyone", "anyone_but_author"] = "anyone_but_author"
    expire: Duration = Field(default="14d", validate_default=True)


class KeepSpec(Spec):
    """How long old versions stay ready to be rolled back to."""

    versions: int = Field(10, ge=2)
    at_least: Duration = Field(default="30d", validate_default=True)


class RegistrySpec(Spec):
    """Approvals and retention."""

    approvals: ApprovalsSpec = ApprovalsSpec()
    keep: KeepSpec = KeepSpec()
