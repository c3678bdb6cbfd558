"""XGBoost: its UBJSON, and ONNX made of it.

XGBoost keeps thresholds as float32 and asks `x < t`, so there is nothing to snap:
the conversion takes both over as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loopline.base.errors import Invalid
from loopline.training.encoding import Floats
from loopline.training.packages.graph import INPUT, trimmed
from loopline.training.packages.packaged import Packaged, Score, Scores, Way, cannot_package, missing, stopped

FILE = "model.ubj"
PROBABILITY = "binary:logistic"


def package(model: Any, names: Sequence[str]) -> Packaged:
    """A fitted binary classifier or booster, as UBJSON and as ONNX."""
    import xgboost

    booster = _plain(model if isinstance(model, xgboost.Booster) else _fitted(model))
    learner = json.loads(booster.save_config())["learner"]
    objective = learner["objective"]["name"]
    if objective != PROBABILITY:
        raise cannot_package("XGBoost", f"its objective is {objective}", f"fit it with objective='{PROBABILITY}'")
    if booster.num_features() != len(names):
        why = f"it has {booster.num_features()} inputs, not {len(names)}"
        raise cannot_package("XGBoost", why, "fit it on X as given")
    data = bytes(booster.save_raw("ubj"))
    onnx, refusal = None, None
    try:
        import onnxmltools
        from onnxmltools.convert.common.data_types import FloatTensorType

        onnx = trimmed(
            onnxmltools.convert_xgboost(booster, initial_types=[(INPUT, FloatTensorType([None, len(names)]))])
        )
    except Exception as error:
        refusal = stopped(error)
    return Packaged(
        onnx=onnx,
        native=_scores(booster),
        files={FILE: data},
        framework=f"xgboost {xgboost.__version__}",
        thresholds=_thresholds(booster),
        ways=(Way("xgboost", FILE, lambda _: (data, {"xgboost": xgboost.__version__})),),
        refusal=refusal,
    )


def load(data: bytes, about: Mapping[str, Any]) -> Score:
    """The scores of a UBJSON model."""
    try:
        import xgboost
    except ImportError as error:
        raise missing("xgboost", "xgboost", "this bundle") from error
    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(data))
    except xgboost.core.XGBoostError as error:
        said = str(error).strip().splitlines()[0]
        raise Invalid(f"model.ubj cannot be read: {said[:200]}", why="XGBoost refuses it", fix="train again") from error
    return _scores(booster)


def _fitted(model: Any) -> Any:
    from loopline.training.packages.sklearn import require_fitted

    require_fitted(model)
    booster = model.get_booster()
    last = getattr(model, "best_iteration", None) if model.early_stopping_rounds else None
    return booster if last is None else booster[: last + 1]


def _plain(booster: Any) -> Any:
    """A copy without the names of columns and without what was noted while it was fitted."""
    plain = booster.copy()
    plain.feature_names = None
    plain.feature_types = None
    for name in plain.attributes():
        plain.set_attr(**{name: None})
    plain.set_param({"nthread": 1, "device": "cpu"})
    return plain


def _scores(booster: Any) -> Score:
    import xgboost

    linear = json.loads(booster.save_config())["learner"]["gradient_booster"]["name"] == "gblinear"

    def score(matrix: Floats) -> Scores:
        if not len(matrix):
            return np.empty(0)
        if linear:  # the one kind that does not predict in place
            found = booster.predict(xgboost.DMatrix(matrix, nthread=1))
        else:
            found = booster.inplace_predict(matrix, validate_features=False)
        return np.asarray(found, dtype=np.float64)

    return score


def _thresholds(booster: Any) -> dict[int, npt.NDArray[np.float64]]:
    """Where its trees split, by the place of the input; none where it has no trees.

    The text has as many digits as tell float32 values apart, so each is read as one.
    """
    found: dict[int, set[float]] = {}
    model = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    trees = model.get("gbtree", model).get("model", {}).get("trees", [])
    for tree in trees:
        for left, feature, value in zip(
            tree["left_children"], tree["split_indices"], tree["split_conditions"], strict=True
        ):
            if left != -1:
                found.setdefault(int(feature), set()).add(float(np.float32(value)))
    return {feature: np.array(sorted(values)) for feature, values in found.items()}
