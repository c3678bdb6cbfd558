"""Any Python callable: an object with `predict_proba`, or a function of X. It has no form but code."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

from loopline.training.packages import pickled
from loopline.training.packages.calling import calling
from loopline.training.packages.packaged import Packaged


def package(model: Any, names: Sequence[str]) -> Packaged:
    """A callable, given a Polars frame of float32 columns `names` as its recipe was."""
    about = calling(model, names)
    return Packaged(
        onnx=None,
        native=about.bound(model),
        files={},
        framework=f"python {platform.python_version()}",
        ways=(pickled.way(model, about),),
        refusal="a Python callable has no conversion",
    )
