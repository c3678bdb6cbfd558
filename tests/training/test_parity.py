from __future__ import annotations

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from loopline.base.errors import Invalid
from loopline.training.bundle import open_session
from loopline.training.convert import package
from loopline.training.encoding import Input
from loopline.training.parity import Differs, boundary_rows, check, clear_threshold

NAMES = ("a", "b", "c", "d")
INPUTS = tuple(Input(name, "number") for name in NAMES)


def data(nulls: bool = True) -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1500, 4)).astype(np.float32)
    x[:, 3] = rng.integers(0, 5, 1500)
    y = (x[:, 0] + x[:, 1] * (x[:, 3] % 2) + rng.normal(size=1500) > 0).astype(np.int8)
    if nulls:
        x[rng.random((1500, 4)) < 0.08] = np.nan
    return pl.from_numpy(x, schema=list(NAMES)), y


def judged(estimator, x: pl.DataFrame, threshold: float = 0.3):
    packaged = package(estimator, NAMES)
    session = open_session(packaged.onnx)
    matrix = np.ascontiguousarray(x.to_numpy()).astype(np.float32)
    return check(
        packaged.native,
        lambda m: session.run(None, {"X": m})[-1][:, 1].astype(np.float64),
        evaluation=matrix,
        boundary=boundary_rows(matrix, INPUTS, packaged.thresholds),
        threshold=threshold,
        framework=packaged.framework,
    )


@pytest.mark.parametrize(
    "estimator",
    [
        lgb.LGBMClassifier(n_estimators=20, verbose=-1, n_jobs=1),
        HistGradientBoostingClassifier(max_iter=20),
        DecisionTreeClassifier(max_depth=4, random_state=0),
        RandomForestClassifier(10, random_state=0),
        ExtraTreesClassifier(10, random_state=0),
        make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
        make_pipeline(SimpleImputer(), GradientBoostingClassifier(n_estimators=15, random_state=0)),
        make_pipeline(SimpleImputer(), RandomForestClassifier(10, random_state=0)),
    ],
    ids=lambda e: type(e).__name__ + str(len(getattr(e, "steps", ""))),
)
@pytest.mark.parametrize("nulls", [False, True])
def test_an_estimator_that_converts_exactly_passes_at_every_edge(estimator, nulls):
    x, y = data(nulls)
    found = judged(estimator.fit(x, y), x)
    assert found.threshold == pytest.approx(0.3, abs=1e-5)
    assert all(kind["worst"] <= 1e-5 for kind in found.kinds.values())
    assert found.kinds["evaluation"]["rows"] == 1500


def test_lightgbm_with_categories_and_labels_from_its_own_interface_passes():
    x, y = data()
    train = lgb.Dataset(x.to_numpy(), y, categorical_feature=[3], params={"verbose": -1})
    booster = lgb.train({"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_per_group": 5}, train, 20)
    assert judged(booster, x).kinds["boundary"]["rows"] > 100


@pytest.mark.parametrize(
    "estimator",
    [
        HistGradientBoostingClassifier(max_iter=20, categorical_features=[3]),
        CalibratedClassifierCV(make_pipeline(SimpleImputer(), GradientBoostingClassifier()), method="isotonic"),
    ],
    ids=["categorical_features", "isotonic"],
)
def test_an_estimator_that_converts_silently_wrong_is_refused(estimator):
    x, y = data()
    with pytest.raises(Invalid, match=r"differs from the fitted one|cannot be packaged"):
        judged(estimator.fit(x, y), x)


def test_an_estimator_that_refuses_nulls_passes_where_there_are_none_and_is_refused_where_there_are():
    x, y = data(nulls=False)
    found = judged(LogisticRegression().fit(x, y), x)
    assert "NaN" in found.kinds["null"]["refused"]
    with pytest.raises(Invalid, match="cannot score held-out rows"):
        judged(LogisticRegression().fit(x, y), data(nulls=True)[0])


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (LinearRegression(), "LinearRegression"),
        ({"a": "dict"}, "builtins.dict"),
        (lgb.LGBMRegressor(n_estimators=2, verbose=-1), "objective regression"),
    ],
)
def test_what_is_not_a_binary_classifier_is_refused(estimator, message):
    x, y = data()
    if hasattr(estimator, "fit"):
        estimator.fit(x.fill_nan(0), y)
    with pytest.raises(Invalid, match=message):
        package(estimator, NAMES)


def test_a_classifier_fitted_on_other_columns_or_classes_is_refused():
    x, y = data(nulls=False)
    with pytest.raises(Invalid, match="3 inputs, not 4"):
        package(LogisticRegression().fit(x.drop("d"), y), NAMES)
    with pytest.raises(Invalid, match="classes"):
        package(LogisticRegression().fit(x, y + 1), NAMES)


def test_boundary_rows_hold_each_edge_of_each_input():
    rows = np.array([[1.0, 5.0], [2.0, np.nan]], dtype=np.float32)
    edges = boundary_rows(rows, INPUTS[:2], {0: np.array([1.5])})
    low, high = (np.nextafter(np.float32(1.5), np.float32(to)) for to in (-np.inf, np.inf))
    assert {1.0, 2.0, 0.0, 1.5, float(low), float(high)} <= set(edges[:, 0][~np.isnan(edges[:, 0])].tolist())
    assert {5.0, 0.0} <= set(edges[:, 1][~np.isnan(edges[:, 1])].tolist())
    assert np.isnan(edges[:, 0]).any()


scores = st.lists(st.tuples(st.floats(0, 1), st.floats(-1e-6, 1e-6)), max_size=30)


@given(st.floats(0.1, 0.9), scores)
def test_both_models_decide_alike_at_a_cleared_threshold_that_has_hardly_moved(threshold, pairs):
    a = np.array([p for p, _ in pairs])
    b = np.array([p + d for p, d in pairs])
    cleared = clear_threshold(threshold, a, b)
    np.testing.assert_array_equal(a >= cleared, b >= cleared)
    assert threshold <= cleared <= threshold + 1e-6 * (len(pairs) + 1)
    if ((a >= threshold) == (b >= threshold)).all():
        assert cleared == threshold


def test_a_difference_in_batch_size_alone_is_found():
    x, _ = data()
    matrix = x.to_numpy().astype(np.float32)
    level = lambda m: np.full(len(m), 0.5)  # noqa: E731
    with pytest.raises(Invalid, match="single rows"):
        check(
            level,
            lambda m: np.full(len(m), 0.5 if len(m) > 1 else 0.6),
            evaluation=matrix,
            boundary=boundary_rows(matrix, INPUTS, {}),
            threshold=0.3,
            framework="x",
        )


@pytest.mark.parametrize(("apart", "moves"), [(0.0, False), (4e-6, True)])
def test_rounding_that_parts_level_rows_by_their_label_moves_the_auc_and_is_found(apart, moves):
    x, y = data(nulls=False)
    matrix = x.to_numpy().astype(np.float32)
    known = {row.tobytes(): label for row, label in zip(matrix, y, strict=True)}

    def packaged(rows):
        return np.array([0.5 + apart * known.get(row.tobytes(), 0) for row in rows])

    def judge():
        return check(
            lambda rows: np.full(len(rows), 0.5),
            packaged,
            evaluation=matrix,
            boundary=boundary_rows(matrix, INPUTS, {}),
            threshold=0.3,
            framework="x",
            labels=y,
        )

    if moves:
        with pytest.raises(Differs, match="AUC"):
            judge()
    else:
        assert judge().threshold == 0.3


def test_what_the_gate_found_can_be_told_without_its_words():
    x, _ = data()
    matrix = x.to_numpy().astype(np.float32)
    with pytest.raises(Differs) as caught:
        check(
            lambda rows: np.full(len(rows), 0.5),
            lambda rows: np.where(rows[:, 3] == 2, 0.7, 0.5),
            evaluation=matrix,
            boundary=boundary_rows(matrix, INPUTS, {}),
            threshold=0.3,
            framework="x",
        )
    found = caught.value.doc()
    assert (found["kind"], found["rows"], found["off"]) == ("evaluation", 1500, int((matrix[:, 3] == 2).sum()))
    assert found["worst"] == pytest.approx(0.2)


def test_a_fitted_model_that_answers_nan_is_refused_like_one_that_refuses_nulls():
    x, _ = data()
    matrix = x.to_numpy().astype(np.float32)
    nan = lambda rows: np.where(np.isnan(rows).any(axis=1), np.nan, 0.5)  # noqa: E731
    with pytest.raises(Invalid, match="answers NaN"):
        check(nan, nan, evaluation=matrix, boundary=boundary_rows(matrix, INPUTS, {}), threshold=0.3, framework="x")
