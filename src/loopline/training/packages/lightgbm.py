"""LightGBM: its text, with thresholds that float32 can say, and ONNX made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightgbm as lgb
import numpy as np
import onnxmltools
from onnxmltools.convert.common.data_types import FloatTensorType

from loopline.base.errors import Invalid
from loopline.training.encoding import Floats
from loopline.training.packages.graph import INPUT, trimmed
from loopline.training.packages.packaged import Packaged, Score, Scores, Way, cannot_package, stopped
from loopline.training.snap import snap_lightgbm, split_thresholds

FILE = "model.txt"


def package(model: Any, names: Sequence[str]) -> Packaged:
    """A fitted classifier or booster, as text and as ONNX."""
    booster = model if isinstance(model, lgb.Booster) else _fitted(model)
    text = snap_lightgbm(booster.model_to_string())
    native = lgb.Booster(model_str=text)
    text = native.model_to_string()
    objective = next((line for line in text.splitlines() if line.startswith("objective=")), "objective=none")
    if not objective.startswith("objective=binary"):
        raise cannot_package("LightGBM", objective.replace("=", " "), "fit it with objective='binary'")
    if native.num_feature() != len(names):
        why = f"it has {native.num_feature()} inputs, not {len(names)}"
        raise cannot_package("LightGBM", why, "fit it on X as given")
    types = [(INPUT, FloatTensorType([None, len(names)]))]
    onnx, refusal = None, None
    try:
        onnx = trimmed(onnxmltools.convert_lightgbm(native, initial_types=types, zipmap=False))
    except Exception as error:
        refusal = stopped(error)
    return Packaged(
        onnx=onnx,
        native=lambda matrix: np.asarray(native.predict(matrix), dtype=np.float64),
        files={FILE: text.encode()},
        framework=f"lightgbm {lgb.__version__}",
        thresholds=split_thresholds(text),
        ways=(Way("lightgbm", FILE, lambda _: (text.encode(), {"lightgbm": lgb.__version__})),),
        refusal=refusal,
    )


def load(data: bytes, about: Mapping[str, Any]) -> Score:
    """The scores of a model text."""
    try:
        booster = lgb.Booster(model_str=data.decode())
    except (lgb.basic.LightGBMError, UnicodeDecodeError) as error:
        raise Invalid(
            f"the model text cannot be read: {error}", why="LightGBM refuses it", fix="train the model again"
        ) from error

    def score(matrix: Floats) -> Scores:
        return np.asarray(booster.predict(matrix, num_threads=1), dtype=np.float64)

    return score


def _fitted(model: Any) -> lgb.Booster:
    from loopline.training.packages.sklearn import require_fitted

    require_fitted(model)
    return model.booster_  # type: ignore[no-any-return]
