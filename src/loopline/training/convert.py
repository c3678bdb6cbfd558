"""From a fitted estimator to what is served: ONNX over float32, beside the native model."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import onnx
import onnxmltools
import polars as pl
from onnxmltools.convert.common.data_types import FloatTensorType as LightGbmFloats
from skl2onnx import convert_sklearn
from skl2onnx.common._registration import get_converter, get_shape_calculator
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import check_is_fitted

from loopline.base.errors import Invalid
from loopline.training.encoding import Floats
from loopline.training.sklearn_steps import read_steps
from loopline.training.snap import snap_down, snap_lightgbm, split_thresholds
from loopline.training.transform_graph import INPUT, with_transforms
from loopline.training.transforms import Transforms

Scores = npt.NDArray[np.float64]
OUTPUT = "probabilities"


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model twice: `onnx` to serve, `native` to compare with.

    `thresholds` maps the index of an input to the values its trees split at.
    """

    onnx: bytes
    native: Callable[[Floats], Scores]
    files: Mapping[str, bytes]
    framework: str
    thresholds: Mapping[int, npt.NDArray[np.float64]] = field(default_factory=dict)


def package(estimator: Any, names: Sequence[str]) -> Packaged:
    """Package a fitted binary classifier with inputs `names`.

    Takes a LightGBM classifier or booster, or a scikit-learn classifier with
    `predict_proba`, also behind a pipeline of imputers, scalers and encoders.
    Conversion may be silently wrong: check with `parity.check`.

    Raises
    ------
    Invalid
        If it is something else, does not answer 0 or 1, or cannot be converted.
    """
    if isinstance(estimator, BaseEstimator):
        _require_fitted(estimator)
    steps = read_steps(estimator, names)
    if steps is not None:
        return behind(steps.transforms, package(steps.estimator, steps.transforms.names), len(names))
    if isinstance(estimator, lgb.LGBMModel):
        return _lightgbm(estimator.booster_, names)
    if isinstance(estimator, lgb.Booster):
        return _lightgbm(estimator, names)
    if isinstance(estimator, BaseEstimator) and hasattr(estimator, "predict_proba"):
        return _sklearn(estimator, names)
    raise Invalid(
        f"the recipe returned a {type(estimator).__module__}.{type(estimator).__name__}",
        why="a bundle holds a classifier that gives probabilities: LightGBM or scikit-learn with predict_proba",
        fix="return such an estimator from the recipe",
    )


def behind(transforms: Transforms, packaged: Packaged, inputs: int) -> Packaged:
    """A packaged model that takes raw inputs, as many as `inputs`, and transforms them first."""
    return Packaged(
        onnx=with_transforms(packaged.onnx, transforms, inputs),
        native=lambda matrix: packaged.native(transforms.apply(matrix)),
        files=packaged.files,
        framework=packaged.framework,
        thresholds=transforms.thresholds(packaged.thresholds),
    )


def _require_fitted(estimator: BaseEstimator) -> None:
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise Invalid(
            f"the recipe returned a {type(estimator).__name__} that is not fitted",
            why="what it returns is what is judged and shipped",
            fix="return model.fit(X, y)",
        ) from error


def _lightgbm(booster: lgb.Booster, names: Sequence[str]) -> Packaged:
    text = snap_lightgbm(booster.model_to_string())
    native = lgb.Booster(model_str=text)
    text = native.model_to_string()
    objective = next((line for line in text.splitlines() if line.startswith("objective=")), "objective=none")
    if not objective.startswith("objective=binary"):
        raise _refused("LightGBM", objective.replace("=", " "), "fit it with objective='binary'")
    if native.num_feature() != len(names):
        raise _refused("LightGBM", f"it has {native.num_feature()} inputs, not {len(names)}", "fit it on X as given")
    types = [(INPUT, LightGbmFloats([None, len(names)]))]
    model = _converted("LightGBM", lambda: onnxmltools.convert_lightgbm(native, initial_types=types, zipmap=False))
    return Packaged(
        onnx=_trimmed(model),
        native=lambda matrix: np.asarray(native.predict(matrix), dtype=np.float64),
        files={"model.txt": text.encode()},
        framework=f"lightgbm {lgb.__version__}",
        thresholds=split_thresholds(text),
    )


def _sklearn(estimator: Any, names: Sequence[str]) -> Packaged:
    kind = type(estimator).__name__
    classes = np.asarray(getattr(estimator, "classes_", ()))
    if classes.tolist() != [0, 1]:
        raise _refused(kind, f"its classes are {classes.tolist()}, not [0, 1]", "fit it on y as given")
    if getattr(estimator, "n_features_in_", len(names)) != len(names):
        raise _refused(kind, f"it has {estimator.n_features_in_} inputs, not {len(names)}", "fit it on X as given")
    for member in _members(estimator):
        for stage in getattr(member, "_predictors", ()):
            for predictor in stage:
                predictor.nodes["num_threshold"] = snap_down(predictor.nodes["num_threshold"])
    types = [(INPUT, FloatTensorType([None, len(names)]))]
    calculators, converters = _mended()
    model = _converted(
        kind,
        lambda: convert_sklearn(
            estimator,
            initial_types=types,
            options={id(estimator): {"zipmap": False}},
            custom_shape_calculators=calculators,
            custom_conversion_functions=converters,
        ),
    )
    named = hasattr(estimator, "feature_names_in_")

    def native(matrix: Floats) -> Scores:
        rows = pl.from_numpy(matrix, schema=list(names)) if named else matrix
        return np.asarray(estimator.predict_proba(rows)[:, 1], dtype=np.float64)

    note = f"{kind} of scikit-learn has no native format that is safe to load; model.onnx is the registered model.\n"
    return Packaged(
        onnx=_trimmed(model),
        native=native,
        files={"README.txt": note.encode()},
        framework=f"scikit-learn {importlib.metadata.version('scikit-learn')}",
        thresholds=_tree_thresholds(estimator),
    )


class _NullsAsFitted:
    """A converter's container that sends nulls down the branch the fitted trees send them.

    The converters drop that branch for trees and forests, and give it to onnx
    as NumPy Booleans, which it refuses, for histogram boosting.
    """

    def __init__(self, container: Any, fitted: Any) -> None:
        self._container = container
        trees = [fitted] if hasattr(fitted, "tree_") else list(getattr(fitted, "estimators_", ()))
        self._left = [tree.tree_.__getstate__()["nodes"]["missing_go_to_left"] for tree in trees]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *args: Any, **kwargs: Any) -> Any:
        tracks = "nodes_missing_value_tracks_true"
        if tracks in kwargs:
            if self._left:
                places = zip(kwargs["nodes_treeids"], kwargs["nodes_nodeids"], strict=True)
                kwargs[tracks] = [self._left[tree][node] for tree, node in places]
            kwargs[tracks] = [int(v) for v in kwargs[tracks]]
        return self._container.add_node(*args, **kwargs)


_TREES = (DecisionTreeClassifier, ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier)


def _mended() -> tuple[dict[type, Any], dict[type, Any]]:
    calculators, converters = {}, {}
    for kind in _TREES:
        alias = f"Sklearn{kind.__name__}"
        calculators[kind] = get_shape_calculator(alias)
        converters[kind] = _mended_converter(get_converter(alias))
    return calculators, converters


def _mended_converter(convert: Callable[..., None]) -> Callable[..., None]:
    def converter(scope: Any, operator: Any, container: Any) -> None:
        convert(scope, operator, _NullsAsFitted(container, operator.raw_operator))

    return converter


def _converted(kind: str, convert: Callable[[], Any]) -> onnx.ModelProto:
    try:
        model: onnx.ModelProto = convert()
    except Exception as error:  # converters raise whatever they like
        cause = str(error).strip().splitlines() or [type(error).__name__]
        raise _refused(kind, f"its conversion to ONNX stopped: {cause[0][:200]}", "use another estimator") from error
    return model


def _trimmed(model: onnx.ModelProto) -> bytes:
    """Serialised with the probabilities as its only output, and nothing that differs between runs."""
    kept = [o for o in model.graph.output if o.name == OUTPUT] or [model.graph.output[-1]]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    model.graph.name = "model"
    return bytes(model.SerializeToString(deterministic=True))


def _members(estimator: Any) -> Iterator[Any]:
    """The estimator and every estimator inside it."""
    yield estimator
    waiting = [value for name, value in vars(estimator).items() if name not in ("estimator", "base_estimator")]
    while waiting:
        value = waiting.pop()
        if isinstance(value, BaseEstimator):
            yield from _members(value)
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif not isinstance(value, np.ndarray) and hasattr(value, "estimators"):
            waiting += value.estimators
        elif isinstance(value, np.ndarray) and value.dtype == object:
            waiting += value.ravel().tolist()


def _tree_thresholds(estimator: Any) -> dict[int, npt.NDArray[np.float64]]:
    """Where the trees of a scikit-learn tree or ensemble split its own inputs."""
    features: list[npt.NDArray[np.int64]] = []
    values: list[npt.NDArray[np.float64]] = []
    members = np.ravel(np.asarray(getattr(estimator, "estimators_", [estimator]), dtype=object))
    for member in members:
        tree = getattr(member, "tree_", None)
        if tree is not None:
            features.append(np.asarray(tree.feature, dtype=np.int64))
            values.append(np.asarray(tree.threshold, dtype=np.float64))
    for stage in getattr(estimator, "_predictors", ()):
        for predictor in stage:
            nodes = predictor.nodes[(predictor.nodes["is_leaf"] == 0) & (predictor.nodes["is_categorical"] == 0)]
            features.append(nodes["feature_idx"].astype(np.int64))
            values.append(nodes["num_threshold"].astype(np.float64))
    if not features:
        return {}
    feature, value = np.concatenate(features), np.concatenate(values)
    return {int(f): np.unique(value[feature == f]) for f in np.unique(feature) if f >= 0}


def _refused(kind: str, why: str, fix: str) -> Invalid:
    return Invalid(f"the fitted {kind} cannot be packaged", why=why, fix=fix)
