"""scikit-learn: trees whose thresholds float32 can say, and ONNX that sends nulls where the fitted trees send them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from skl2onnx import convert_sklearn
from skl2onnx.common._registration import get_converter, get_shape_calculator
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import check_is_fitted

from loopline.base.errors import Invalid
from loopline.training.packages import pickled, skops
from loopline.training.packages.calling import calling
from loopline.training.packages.graph import INPUT, trimmed
from loopline.training.packages.packaged import Packaged, cannot_package, stopped
from loopline.training.sklearn_steps import read_steps
from loopline.training.snap import snap_down


def package(estimator: Any, names: Sequence[str]) -> Packaged:
    """A fitted classifier with `predict_proba`, also behind a pipeline of imputers, scalers and encoders."""
    require_fitted(estimator)
    steps = read_steps(estimator, names)
    if steps is not None:
        from loopline.training.packages.frameworks import package as inner

        return inner(steps.estimator, steps.transforms.names).behind(steps.transforms, len(names))
    kind = type(estimator).__name__
    if not hasattr(estimator, "predict_proba"):
        raise Invalid(
            f"the recipe returned a {type(estimator).__module__}.{kind}",
            why="a bundle holds a classifier that gives probabilities, and this has no predict_proba",
            fix="return a classifier with predict_proba from the recipe",
        )
    classes = np.asarray(getattr(estimator, "classes_", ()))
    if classes.tolist() != [0, 1]:
        raise cannot_package(kind, f"its classes are {classes.tolist()}, not [0, 1]", "fit it on y as given")
    if getattr(estimator, "n_features_in_", len(names)) != len(names):
        why = f"it has {estimator.n_features_in_} inputs, not {len(names)}"
        raise cannot_package(kind, why, "fit it on X as given")
    for member in _members(estimator):
        for stage in getattr(member, "_predictors", ()):
            for predictor in stage:
                predictor.nodes["num_threshold"] = snap_down(predictor.nodes["num_threshold"])
    types = [(INPUT, FloatTensorType([None, len(names)]))]
    calculators, converters = _mended()
    onnx, refusal = None, None
    try:
        model = convert_sklearn(
            estimator,
            initial_types=types,
            options={id(estimator): {"zipmap": False}},
            custom_shape_calculators=calculators,
            custom_conversion_functions=converters,
        )
        onnx = trimmed(model)
    except Exception as error:
        refusal = stopped(error)
    named = names if hasattr(estimator, "feature_names_in_") else None
    about = calling(estimator, named)
    note = f"{kind} of scikit-learn has no native format that is safe to load; model.onnx is the registered model.\n"
    return Packaged(
        onnx=onnx,
        native=about.bound(estimator),
        files={"README.txt": note.encode()},
        framework=f"scikit-learn {importlib.metadata.version('scikit-learn')}",
        thresholds=_tree_thresholds(estimator),
        ways=(skops.way(estimator, about), pickled.way(estimator, about)),
        refusal=refusal,
    )


def require_fitted(estimator: BaseEstimator) -> None:
    """Refuse an estimator that was not fitted."""
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise Invalid(
            f"the recipe returned a {type(estimator).__name__} that is not fitted",
            why="what it returns is what is judged and shipped",
            fix="return model.fit(X, y)",
        ) from error


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
