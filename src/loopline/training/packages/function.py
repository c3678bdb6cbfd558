"""Any Python callable: an object with `predict_proba`, or a function of X. It has no form but code."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

from loopline.base.code import calling_user_code
from loopline.training.encoding import Floats
from loopline.training.packages import pickled
from loopline.training.packages.calling import calling
from loopline.training.packages.packaged import Packaged, Scores


def package(model: Any, names: Sequence[str]) -> Packaged:
    """A callable, given a Polars frame of float32 columns `names` as its recipe was."""
    about = calling(model, names)
    score = about.bound(model)

    def native(matrix: Floats) -> Scores:
        with calling_user_code("the model that the recipe returned"):
            try:
                return score(matrix)
            except ValueError as error:  # how models refuse nulls; the gate knows it
                refused = error
        raise refused

    return Packaged(
        onnx=None,
        native=native,
        files={},
        framework=f"python {platform.python_version()}",
        ways=(pickled.way(model, about),),
        refusal="a Python callable has no conversion",
    )
