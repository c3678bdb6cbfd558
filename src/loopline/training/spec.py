"""Section `training` of `loop.yaml`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from loopline.base.spec import Duration, Share, Spec


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


class TrainingSpec(Spec):
    """The recipe and what it is given."""

    recipe: str = Field(description="`file.py:function`; `fit(X, y)` returns a fitted estimator.")
    split: SplitSpec = Field(default=SplitSpec(), description="How rows are held out to judge a candidate.")
    window: Duration | None = Field(default=None, description="Train on the newest part only; all of it by default.")
    search: Literal["none"] = Field(default="none", description="Search over params; comes with a later version.")
    params: dict[str, Any] = Field(default_factory=dict, description="Passed to the recipe as keywords.")
    seed: int = Field(default=0, description="Seeds the recipe, Python and NumPy.")
