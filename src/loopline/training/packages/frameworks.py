"""Which module packages which framework: found by the model's class, imported only then."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopline.base.errors import Invalid
from loopline.training.packages.packaged import Packaged


@dataclass(frozen=True, slots=True)
class Framework:
    """One framework: the packages its classes come from, and the module here with `package(model, names)`."""

    name: str
    roots: tuple[str, ...]
    module: str


FRAMEWORKS = (
    Framework("LightGBM", ("lightgbm",), "lightgbm"),
    Framework("XGBoost", ("xgboost",), "xgboost"),
    Framework("PyTorch", ("torch",), "torch"),
    Framework("ONNX", ("onnx",), "onnx"),
    Framework("scikit-learn", ("sklearn",), "sklearn"),
)
"""Looked through in this order: the wrappers of LightGBM and XGBoost are scikit-learn estimators as well."""


def package(model: Any, names: Sequence[str]) -> Packaged:
    """Package a fitted binary classifier with inputs `names`.

    Takes a LightGBM or XGBoost classifier or booster, a scikit-learn classifier
    with `predict_proba` (also behind a pipeline), a PyTorch module, an ONNX model
    (its object, its bytes or its path), an object with `predict_proba`, or a
    function of X. Conversion may be silently wrong: `choosing.choose` finds out.

    Raises
    ------
    Invalid
        If it is something else, or does not tell two classes apart.
    """
    return _module(model).package(model, names)  # type: ignore[no-any-return]


def _module(model: Any) -> Any:
    roots = {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
    found = next((f.module for f in FRAMEWORKS if roots & set(f.roots)), None)
    if found is None and isinstance(model, (bytes, Path)):
        found = "onnx"
    if found is None and (callable(model) or callable(getattr(model, "predict_proba", None))):
        found = "function"
    if found is None:
        raise Invalid(
            f"the recipe returned a {type(model).__module__}.{type(model).__name__}",
            why="a bundle holds a classifier that gives probabilities: LightGBM, XGBoost, scikit-learn, PyTorch or "
            "ONNX, an object with predict_proba, or a function",
            fix="return such a model from the recipe",
        )
    return importlib.import_module(f"loopline.training.packages.{found}")
