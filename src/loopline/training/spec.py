"""Section `training` of `loop.yaml`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from loopline.base.spec import Duration, Share, Spec


class SplitSpec(Spec):
    """How rows are held out. `test` is a duration by time, a share at random."""

    by: Literal["time", "random"] = "time"
    test: Annotated[Share, Field(gt=0, lt=1)] | Duration = Field(default=0.2, union_mode="left_to_right")


class TrainingSpec(Spec):
    """The recipe and what it is given."""

    recipe: str = Field(description="`file.py:function`; `fit(X, y)` returns a fitted estimator.")
    split: SplitSpec = SplitSpec()
    window: Duration | None = Field(None, description="Train on the newest part only; all of it by default.")
    search: Literal["none"] = "none"
    params: dict[str, Any] = Field(default_factory=dict, description="Passed to the recipe as keywords.")
    seed: int = 0
