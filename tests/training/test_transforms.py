"""Transforms are fitted on training rows only, travel with the model, and are the same everywhere."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.world import FRAMING, project, rows, training_set, workspace

from loopline.base.errors import Invalid
from loopline.features.leakage_columns import columns
from loopline.serving.inputs import Inputs
from loopline.training import TrainingSpec, load_bundle, train
from loopline.training.encoding import encode, learn
from loopline.training.transforms import fit

NAMES = ("a", "b", "c", "kind")
ALL = (
    {"columns": ["a"], "scale": "standard"},
    {"columns": ["b"], "impute": "median", "flag_missing": True, "scale": "robust"},
    {"columns": ["c"], "impute": 0.5, "scale": "minmax"},
    {"columns": ["kind"], "encode": "target"},
)
LINEAR = """
from sklearn.linear_model import LogisticRegression


def fit(X, y):
    return LogisticRegression(max_iter=500).fit(X.to_numpy(), y)
"""
TREES = """
from lightgbm import LGBMClassifier


def fit(X, y, seed=0):
    return LGBMClassifier(n_estimators=12, num_leaves=7, verbose=-1, n_jobs=1, random_state=seed).fit(X, y)
"""


def declared(*transforms: dict[str, object]) -> TrainingSpec:
    return TrainingSpec.model_validate({"recipe": "train.py:fit", "transforms": list(transforms)})


@pytest.fixture
def ws(tmp_path):
    found = workspace(tmp_path / "ws")
    yield found
    found.close()


def made(ws, tmp_path, frame: pl.DataFrame, spec: TrainingSpec, recipe: str):
    given_set = training_set(ws, frame)
    folder = project(tmp_path / "p", recipe)
    _, model = train(ws, folder, training=spec, training_set=given_set, framing=FRAMING, author="user:ada")
    return model, load_bundle(ws.blobs.path(model.bundle))


@pytest.mark.parametrize("recipe", [LINEAR, TREES])
@pytest.mark.parametrize(
    "encode_as",
    [{"encode": "target"}, {"encode": "onehot", "min_rows": 5}, {"encode": "ordinal", "order": ["z", "x", "y"]}],
)
def test_a_model_behind_transforms_answers_natively_and_packaged_alike(ws, tmp_path, recipe, encode_as):
    if encode_as["encode"] == "ordinal":
        recipe = TREES  # null has no place in an order, and a linear model takes no null
    spec = declared(*ALL[:3], {"columns": "categories", **encode_as})
    model, bundle = made(ws, tmp_path, rows(1500), spec, recipe)
    assert max(kind["worst"] for kind in model.parity.values()) < 1e-5
    assert model.parity["null"]["rows"] >= len(NAMES) and model.parity["boundary"]["rows"] > len(NAMES)
    assert bundle.names == NAMES
    names = [column["name"] for column in bundle.manifest["transforms"]]
    assert names[:4] == ["a", "b", "c", "b_missing"]


PIPELINE = """
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, RobustScaler, StandardScaler, TargetEncoder

NUMBERS = ["a", "b", "c"]


def fit(X, y):
    scaled = make_pipeline(SimpleImputer(strategy="median"), {scaler}())
    prepare = ColumnTransformer([("k", {encoder}, ["kind"]), ("n", scaled, NUMBERS)])
    return make_pipeline(prepare, {model}).fit(X, y)
"""


@pytest.mark.parametrize(
    ("scaler", "encoder", "model"),
    [
        ("StandardScaler", "OneHotEncoder(handle_unknown='ignore')", "LogisticRegression()"),
        ("RobustScaler", "TargetEncoder()", "LGBMClassifier(n_estimators=9, verbose=-1, n_jobs=1)"),
        (
            "StandardScaler",
            "OrdinalEncoder(handle_unknown='use_encoded_value', unknown_value=-1)",
            "HistGradientBoostingClassifier(max_iter=5)",
        ),
    ],
)
def test_a_pipeline_of_scikit_learn_is_packaged_with_its_column_transformer(ws, tmp_path, scaler, encoder, model):
    recipe = PIPELINE.replace("{scaler}", scaler).replace("{encoder}", encoder).replace("{model}", model)
    made_model, bundle = made(ws, tmp_path, rows(1200), declared(), recipe)
    assert max(kind["worst"] for kind in made_model.parity.values()) < 1e-5 and made_model.parity["null"]["rows"] > 0
    assert np.isfinite(bundle.predict(rows(1200).filter(split="test"))).all()


def test_null_and_unseen_are_read_alike_by_frame_by_row_and_by_native_model(ws, tmp_path):
    _, bundle = made(ws, tmp_path, rows(1500), declared(*ALL), LINEAR)
    row = rows(1500).filter(split="test").head(1)
    odd = [row.with_columns(pl.lit(v, pl.String).alias("kind")) for v in ("never seen", None)]
    scores = [float(bundle.predict(one)[0]) for one in odd]
    assert scores[0] == scores[1] and np.isfinite(scores[0])
    inputs = Inputs(bundle.inputs)
    for one, score in zip(odd, scores, strict=True):
        judged = inputs.judge(one.select(NAMES).row(0, named=True))
        values = np.array([[np.nan if v is None else v for v in judged.values]], np.float32)
        assert float(bundle.score(values)[0]) == score


def test_held_out_rows_cannot_influence_what_is_fitted(ws, tmp_path):
    frame = rows(1500)
    test = pl.col("split") == "test"
    other = frame.with_columns(
        a=pl.when(test).then(pl.col("a") * 1000 + 7).otherwise("a"),
        b=pl.when(test).then(None).otherwise("b"),
        c=pl.when(test).then(pl.lit(-1e6)).otherwise("c"),
        kind=pl.when(test).then(pl.lit("later")).otherwise("kind"),
        label=pl.when(test).then(~pl.col("label")).otherwise("label"),
    ).cast({"a": pl.Float32, "b": pl.Float32, "c": pl.Float32})
    _, first = made(ws, tmp_path, frame, declared(*ALL), LINEAR)
    _, second = made(ws, tmp_path, other, declared(*ALL), LINEAR)
    assert first.manifest["transforms"] == second.manifest["transforms"]
    assert first.manifest["files"]["model.onnx"] == second.manifest["files"]["model.onnx"]
    assert "later" not in json.dumps(second.manifest)


def test_other_transforms_are_another_model_and_none_leave_everything_as_it_was(ws, tmp_path):
    frame = rows(1500)
    plain, bundle = made(ws, tmp_path, frame, declared(), TREES)
    assert "transforms" not in bundle.manifest
    scaled, _ = made(ws, tmp_path, frame, declared(ALL[0]), TREES)
    assert scaled.id != plain.id and made(ws, tmp_path, frame, declared(ALL[0]), TREES)[0] == scaled


def frame_of(words: list[str | None], labels: list[bool]) -> pl.DataFrame:
    return pl.DataFrame({"k": words, "label": labels}, schema={"k": pl.String, "label": pl.Boolean})


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(["p", "q", "r", None]), st.booleans()), min_size=12, max_size=60),
    st.integers(0, 9),
)
def test_no_row_sees_its_own_label_in_a_cross_fitted_encoding(pairs, seed):
    words, labels = [list(part) for part in zip(*pairs, strict=True)]
    spec = declared({"columns": "k", "encode": "target"}).transforms

    def encoded(answers: list[bool]) -> np.ndarray:
        frame = frame_of(words, answers)
        inputs = learn(frame, ["k"], ["k"])
        return fit(spec, inputs, encode(frame, inputs), np.array(answers, np.int8), seed=seed)[1][:, 0]

    before = encoded(labels)
    row = seed % len(labels)
    flipped = [not one if n == row else one for n, one in enumerate(labels)]
    assert encoded(flipped)[row] == before[row]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6, width=32)), min_size=3, max_size=40).filter(
        lambda v: any(x is not None for x in v)
    )
)
def test_scales_and_imputations_are_those_of_the_textbook(values):
    frame = pl.DataFrame({"x": values}, schema={"x": pl.Float32})
    inputs = learn(frame, ["x"], [])
    y = np.arange(len(values), dtype=np.int8) % 2
    known = np.array([v for v in values if v is not None], np.float64)
    for impute, fill in (("mean", known.mean()), ("median", np.median(known)), (-3.0, -3.0)):
        spec = declared({"columns": ["x"], "impute": impute, "scale": "standard"}).transforms
        column = fit(spec, inputs, encode(frame, inputs), y, seed=0)[0].columns[0]
        filled = np.array([fill if v is None else v for v in values])
        assert column.fill == pytest.approx(fill, rel=1e-6, abs=1e-6)
        assert column.shift == pytest.approx(filled.mean(), rel=1e-5, abs=1e-3)
        if filled.std() > 1e-2:
            assert column.by == pytest.approx(filled.std(), rel=1e-4)


def test_a_mean_over_all_rows_is_caught_as_a_leak_and_the_cross_fitted_one_is_not():
    rng = np.random.default_rng(1)
    n = 6000
    words = [f"w{k}" for k in rng.integers(0, 300, n)]
    labels = (rng.random(n) < 0.3).tolist()
    frame = frame_of(words, labels).with_columns(split=pl.lit("train"))
    inputs = learn(frame, ["k"], ["k"])
    spec = declared({"columns": "k", "encode": "target"}).transforms
    _, crossed = fit(spec, inputs, encode(frame, inputs), frame["label"].cast(pl.Int8).to_numpy(), seed=0)
    naive = frame.with_columns(x=pl.col("label").mean().over("k").cast(pl.Float32))
    assert [leak.kind for leak in columns(naive, ["x"], [])] == ["encoded_target"]
    assert list(columns(frame.with_columns(x=pl.Series(crossed[:, 0])), ["x"], [])) == []


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        ({"columns": ["nowhere"], "scale": "standard"}, "is no feature"),
        ({"columns": ["kind"], "scale": "standard"}, "kind is a category"),
        ({"columns": ["a"], "encode": "target"}, "a is a number"),
        ({"columns": ["kind"], "encode": "ordinal", "order": ["x", "y"]}, "lacks z"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(ws, tmp_path, transform, said):
    with pytest.raises(Invalid, match=said):
        made(ws, tmp_path, rows(300), declared(transform), TREES)


@pytest.mark.parametrize(
    "transform",
    [
        {"columns": ["a"]},
        {"columns": ["a"], "scale": "standard", "encode": "target"},
        {"columns": ["a"], "encode": "ordinal"},
    ],
)
def test_a_transform_says_one_thing(transform):
    with pytest.raises(ValueError, match=r"say what to do|give each its own|belong together"):
        declared(transform)
