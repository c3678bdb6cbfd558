from __future__ import annotations

import warnings

import lightgbm as lgb
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from tests.training.packages.models import INPUTS, NAMES, UNSAFE, asked, bundled, chosen, data, frame, shipped

from loopline.base.errors import Invalid, NotFound
from loopline.base.keys import SigningKey
from loopline.training.archive import unpack
from loopline.training.encoding import encode
from loopline.training.packages.frameworks import package
from loopline.training.packages.graph import trimmed
from loopline.training.packages.packaged import positive
from loopline.training.snap import snap_down

FEW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1e-35, 1e30, 4.0, 5.0])
ROWS = arrays(np.float32, (12, 4), elements=FLOATS)


def same_for(model, rows, *, seed=0, x=None, y=None, expect="onnx"):
    """Whatever ships answers the random rows as the fitted model does."""
    x, y = (x, y) if x is not None else data(300, seed=seed)
    with warnings.catch_warnings(action="ignore"):
        packaged, made = chosen(model, x, y, UNSAFE)
        bundle = shipped(made, SigningKey.load("k", create=True))
        assert bundle.runtime == expect
        for matrix in (rows, encode(frame(asked(20)), INPUTS)):
            with np.errstate(all="ignore"):
                native = packaged.native(matrix)
            np.testing.assert_allclose(bundle.score(matrix), native, atol=1e-5, rtol=0)
            alone = np.concatenate([bundle.score(matrix[i : i + 1]) for i in range(len(matrix))])
            np.testing.assert_allclose(alone, bundle.score(matrix), atol=1e-6, rtol=0)


@FEW
@given(
    ROWS, st.integers(0, 99), st.integers(2, 15), st.sampled_from([None, 3]), st.sampled_from(["gbdt", "dart", "goss"])
)
def test_lightgbm_answers_alike_for_any_rows(rows, seed, leaves, category, boosting):
    x, y = data(300, seed=seed)
    train = lgb.Dataset(x.to_numpy(), y, categorical_feature=[category] if category else [], params={"verbose": -1})
    params = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": leaves, "boosting": boosting}
    same_for(lgb.train({**params, "min_data_per_group": 5}, train, 8), rows, seed=seed)


@FEW
@given(ROWS, st.integers(0, 99), st.integers(1, 6), st.sampled_from(["hist", "exact", "approx"]), st.floats(0.1, 0.9))
def test_xgboost_answers_alike_for_any_rows(rows, seed, depth, method, base):
    xgb = pytest.importorskip("xgboost", reason="the extra loopline[xgboost] is not installed")
    x, y = data(300, seed=seed)
    model = xgb.XGBClassifier(n_estimators=6, max_depth=depth, tree_method=method, base_score=base, n_jobs=1)
    same_for(model.fit(x.to_numpy(), y), rows, seed=seed)


@FEW
@given(ROWS, st.integers(0, 99), st.integers(0, 4))
def test_scikit_learn_answers_alike_for_any_rows(rows, seed, which):
    model = [
        HistGradientBoostingClassifier(max_iter=6, random_state=seed),
        RandomForestClassifier(5, random_state=seed),
        DecisionTreeClassifier(max_depth=5, random_state=seed),
        make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
        make_pipeline(SimpleImputer(), lgb.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1)),
    ][which]
    x, y = data(300, seed=seed)
    same_for(model.fit(x, y), np.clip(rows, -1e6, 1e6), seed=seed)


@pytest.fixture(scope="module")
def apart():
    weight = 0.75

    def score(frame):
        z = (
            np.nan_to_num(np.clip(frame["a"].to_numpy().astype(float), -50, 50)) * weight
            + frame["kind"].is_nan().to_numpy()
        )
        return 1 / (1 + np.exp(-z))

    return chosen(score, *data(300), UNSAFE)


@given(ROWS)
@settings(max_examples=40, deadline=None)
def test_a_function_answers_in_its_own_process_as_here(apart, rows):
    packaged, made = apart
    assert made.runtime["name"] == "pickle"
    np.testing.assert_array_equal(made.score(rows), packaged.native(rows))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_xgboost_asks_whether_a_float32_is_less_so_no_threshold_needs_to_be_snapped(values):
    xgb = pytest.importorskip("xgboost", reason="the extra loopline[xgboost] is not installed")
    assume(max(map(abs, values)) > 1e-30)
    x = np.tile(np.array(values, np.float32)[:, None], (2, 4))
    y = np.arange(len(x)) % 2
    booster = xgb.train(
        {"objective": "binary:logistic", "max_depth": 2, "min_child_weight": 0, "nthread": 1, "tree_method": "exact"},
        xgb.DMatrix(x, label=np.where(x[:, 0] > np.median(x[:, 0]), 1, y), nthread=1),
        3,
    )
    packaged = package(booster, NAMES)
    for splits in packaged.thresholds.values():
        np.testing.assert_array_equal(snap_down(splits), splits)
        near = np.float32(splits)
        edges = np.concatenate([np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))])
        rows = np.tile(edges[:, None], (1, 4)).astype(np.float32)
        from loopline.training.packages.session import scorer

        np.testing.assert_allclose(scorer(packaged.onnx)(rows), packaged.native(rows), atol=1e-6)


def test_xgboost_sends_a_row_at_its_threshold_to_the_right_in_both_forms():
    xgb = pytest.importorskip("xgboost", reason="the extra loopline[xgboost] is not installed")
    x = np.array([[0.1], [0.3]] * 50, np.float32).repeat(4, axis=1)
    y = (x[:, 0] > 0.2).astype(int)
    model = xgb.XGBClassifier(n_estimators=1, max_depth=1, tree_method="exact", n_jobs=1).fit(x, y)
    packaged = package(model, NAMES)
    (split,) = (float(v) for values in packaged.thresholds.values() for v in values)
    at, below = np.full((1, 4), split, np.float32), np.full((1, 4), np.nextafter(np.float32(split), np.float32(0)))
    from loopline.training.packages.session import scorer

    for score in (packaged.native, scorer(packaged.onnx)):
        assert score(at)[0] > 0.5 > score(below)[0]


def test_early_stopping_ships_the_trees_up_to_the_best_one_only():
    xgb = pytest.importorskip("xgboost", reason="the extra loopline[xgboost] is not installed")
    x, y = data()
    rows = x.to_numpy()
    model = xgb.XGBClassifier(n_estimators=60, learning_rate=1.0, early_stopping_rounds=3, n_jobs=1)
    model.fit(rows[:300], y[:300], eval_set=[(rows[300:], y[300:])], verbose=False)
    assert model.best_iteration < model.get_booster().num_boosted_rounds() - 1
    _, made = chosen(model, x, y)
    np.testing.assert_allclose(made.score(rows), model.predict_proba(rows)[:, 1], atol=1e-6)


# ONNX that somebody brings


def linear(
    outputs: int = 1, inputs: int | None = 4, *, rows: int | str = "n", domain: str | None = None, name: str = "in"
):
    """sigmoid(a + b) in one column, or that and its complement."""
    last = "p" if outputs == 1 else "both"
    nodes = [
        helper.make_node("IsNaN", [name], ["nan"]),
        helper.make_node("Where", ["nan", "zero", name], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["p"]),
        *([] if outputs == 1 else [helper.make_node("Sub", ["one", "p"], ["q"])]),
        *([] if outputs == 1 else [helper.make_node("Concat", ["q", "p"], ["both"], axis=1)]),
    ]
    weights = [
        numpy_helper.from_array(np.array([[1.0], [1.0], [0.0], [0.0]], np.float32), "w"),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, inputs])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [rows, outputs])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("form", ["object", "bytes", "path"])
def test_an_onnx_model_ships_whatever_form_it_comes_in(outputs, form, tmp_path):
    model = linear(outputs)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    given = {"object": model, "bytes": model.SerializeToString(), "path": tmp_path / "m.onnx"}[form]
    x, y = data()
    _, made = chosen(given, x, y)
    assert made.runtime is None
    rows = x.to_numpy()
    expected = 1 / (1 + np.exp(-np.nan_to_num(rows[:, :2]).sum(axis=1)))
    np.testing.assert_allclose(made.score(rows), expected, atol=1e-6)
    assert bundled(made) == bundled(chosen(given, x, y)[1])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: linear(inputs=5), "not \\(n, 4\\)|no ONNX model|cannot be"),
        (lambda: linear(rows=3), "3 rows"),
        (lambda: linear(domain="com.example"), "com.example"),
        (lambda: b"no onnx", "no ONNX model"),
    ],
)
def test_an_onnx_model_that_is_not_for_these_inputs_is_refused(model, message):
    with pytest.raises(Invalid, match=message):
        package(model(), NAMES)


def test_a_path_to_nothing_is_said_so(tmp_path):
    with pytest.raises(NotFound, match=r"no\.onnx"):
        package(tmp_path / "no.onnx", NAMES)


def test_weights_in_another_file_are_refused_since_a_bundle_is_one_file(tmp_path):
    model = linear()
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(Invalid, match=r"no ONNX model|lie in another file"):
        package(tmp_path / "m.onnx", NAMES)


# What is no probability


def test_what_is_no_probability_per_row_is_refused():
    for answer, message in (
        (np.full(3, 1.5), "1.5"),
        (np.zeros((3, 3)), "shape"),
        (np.zeros(2), "shape"),
        (np.full(3, -0.1), "-0.1"),
    ):
        with pytest.raises(Invalid, match=message):
            positive(answer, 3)
    np.testing.assert_array_equal(positive(np.array([[0.4, 0.6]]), 1), [0.6])
    np.testing.assert_array_equal(positive(np.array([[0.4]]), 1), [0.4])


def test_a_regressor_of_xgboost_is_refused():
    xgb = pytest.importorskip("xgboost", reason="the extra loopline[xgboost] is not installed")
    x, y = data(100)
    for model in (xgb.XGBRegressor(n_estimators=2), xgb.XGBClassifier(n_estimators=2, objective="binary:hinge")):
        with pytest.raises(Invalid, match="objective"):
            package(model.fit(x.to_numpy(), y), NAMES)
    three = xgb.XGBClassifier(n_estimators=2).fit(x.to_numpy(), np.arange(100) % 3)
    with pytest.raises(Invalid, match="softprob"):
        package(three, NAMES)


def test_onnx_bundles_stay_what_they_were(tmp_path):
    x, y = data()
    _, made = chosen(lgb.LGBMClassifier(n_estimators=4, verbose=-1, n_jobs=1).fit(x, y), x, y)
    files = unpack(bundled(made))
    assert sorted(files) == ["manifest.json", "model.onnx", "native/model.txt", "probe.arrow"]
    from tests.training.packages.models import parsed

    manifest = parsed(files["manifest.json"])
    assert sorted(manifest) == ["files", "format", "inputs", "output", "threshold"]
    assert manifest["format"] == 1


def test_the_order_in_which_a_converter_imports_operator_sets_leaves_no_trace():
    node = helper.make_node("Identity", ["X"], ["probabilities"])
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2])] for name in ("X", "probabilities")]
    sets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 1)]
    one, other = (
        trimmed(helper.make_model(helper.make_graph([node], name, *ends), opset_imports=order))
        for name, order in (("a", sets), ("b", sets[::-1]))
    )
    assert one == other
    assert [found.domain for found in onnx.ModelProto.FromString(one).opset_import] == ["", "ai.onnx.ml"]
