"""Conversions that are wrong or missing are never served: the native model answers through the real server."""

from __future__ import annotations

import json
import warnings

import lightgbm as lgb
import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer
from tests.training.packages.models import INPUTS, NAMES, UNSAFE, asked, bundled, chosen, data, frame
from tests.training.world import FRAMING, project, rows, training_set, workspace

from loopline import serving
from loopline.base.errors import Denied, Invalid
from loopline.base.keys import SigningKey
from loopline.registry.verbs import register
from loopline.testing.inference import start, variant
from loopline.training.archive import unpack
from loopline.training.encoding import encode
from loopline.training.packages.frameworks import package
from loopline.training.packages.packaged import Permission
from loopline.workspace import create_workspace

GB = GradientBoostingClassifier(n_estimators=10, random_state=0)
LGBM = {"n_estimators": 10, "verbose": -1, "n_jobs": 1, "random_state": 0}


def xgboost(**options):
    xgb = pytest.importorskip("xgboost", reason="the extra loopline[xgboost] is not installed")
    return lambda x, y: xgb.XGBClassifier(n_estimators=8, max_depth=3, n_jobs=1, **options).fit(x.to_numpy(), y)


def sklearn(model):
    pytest.importorskip("skops", reason="the extra loopline[skops] is not installed")
    return lambda x, y: model.fit(x, y)


def from_a_function(x, y):
    middle = float(np.nanmedian(x["a"].to_numpy()))
    return lambda rows: np.where(rows["a"].to_numpy() > middle, 0.75, 0.25)


WRONG = {
    "categorical_features": (True, "skops", lambda: sklearn(
        HistGradientBoostingClassifier(max_iter=8, categorical_features=[3]))),
    "isotonic": (False, "skops", lambda: sklearn(CalibratedClassifierCV(GB, method="isotonic"))),
    "linear discriminant": (False, "skops", lambda: sklearn(LinearDiscriminantAnalysis())),
    "random forest of LightGBM": (True, "lightgbm", lambda: lambda x, y: lgb.LGBMClassifier(
        boosting_type="rf", subsample=0.7, subsample_freq=1, **LGBM).fit(x, y)),
    "linear trees": (True, "lightgbm", lambda: lambda x, y: lgb.LGBMClassifier(linear_tree=True, **LGBM).fit(x, y)),
    "linear trees behind an imputer": (True, "lightgbm", lambda: lambda x, y: make_pipeline(
        SimpleImputer(), lgb.LGBMClassifier(linear_tree=True, **LGBM)).fit(x, y)),
}  # fmt: skip
MISSING = {
    "temperature": (False, "skops", lambda: sklearn(
        CalibratedClassifierCV(LogisticRegression(), method="temperature"))),
    "soft voting": (False, "skops", lambda: sklearn(
        VotingClassifier([("a", LogisticRegression()), ("b", GB)], voting="soft"))),
    "neighbours": (False, "skops", lambda: sklearn(KNeighborsClassifier())),
    "dart of XGBoost": (True, "xgboost", lambda: xgboost(booster="dart", rate_drop=0.3)),
    "gblinear": (True, "xgboost", lambda: xgboost(booster="gblinear")),
    "a function": (True, "pickle", lambda: from_a_function),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real server that allows unsafe models, and a way to have it serve another bundle."""
    patch = pytest.MonkeyPatch()
    keys = str(tmp_path_factory.mktemp("keys"))
    patch.setenv("LOOPLINE_KEYS", keys)
    patch.setenv("LOOPLINE_ALLOW_UNSAFE", "1")
    ws = create_workspace(tmp_path_factory.mktemp("world") / ".loopline", actor="user:ada")
    key = SigningKey.load(f"workspace-{ws.id}", create=True)
    started = start(ws, "ep")
    counted = iter(range(1, 1000))

    def answers(made, rows):
        number = next(counted)
        found = variant(ws, bundled(made, key), number=number)
        with pytest.MonkeyPatch.context() as own:
            own.setenv("LOOPLINE_KEYS", keys)
            serving.deploy(ws, "ep", variants=(found,), release=serving.ReleaseSpec(), salt=str(number))
        status = started.until(lambda s: s.generation >= number or s.error is not None)
        assert status.error is None, status.error
        code, _, answer = started.call("POST", "/predict/ep", {"rows": rows})
        assert code == 200, answer
        return np.array(json.loads(answer)["predictions"], dtype=float)

    yield answers
    started.stop()
    patch.undo()


@pytest.mark.parametrize("name", [*WRONG, *MISSING])
def test_the_native_model_is_served_where_onnx_is_wrong_or_missing(server, name):
    nulls, runtime, build = {**WRONG, **MISSING}[name]
    x, y = data(400, nulls=nulls)
    with warnings.catch_warnings(action="ignore"):
        packaged, made = chosen(build()(x, y), x, y, UNSAFE)
        assert made.onnx is None
        assert made.runtime["name"] == runtime
        why = made.runtime["onnx"]
        if name in WRONG:
            assert packaged.onnx is not None
            assert why["worst"] > 1e-3
            assert 0 < why["off"] <= why["rows"]
        else:
            assert "worst" not in why
        assert all(kind["worst"] <= 1e-5 for kind in made.parity.kinds.values())
        rows = asked(nulls=nulls)
        native = packaged.native(encode(frame(rows), INPUTS))
    np.testing.assert_allclose(server(made, rows), native, atol=1e-9)


def test_a_regression_loss_is_no_classifier_so_its_wrong_conversion_never_comes_up():
    x, y = data(200)
    for loss in ("poisson", "gamma"):
        model = HistGradientBoostingRegressor(loss=loss, max_iter=3).fit(x, y + 1.0)
        with pytest.raises(Invalid, match="no predict_proba"):
            package(model, NAMES)


def test_a_pickle_ships_only_where_the_project_allows_it_and_never_for_high_risk():
    x, y = data(200)
    model = from_a_function(x, y)
    with pytest.raises(Invalid, match="no conversion") as caught:
        chosen(model, x, y)
    assert "does not allow" in caught.value.why
    assert "training.packages.unsafe" in caught.value.fix
    with pytest.raises(Invalid) as caught:
        chosen(model, x, y, Permission(unsafe=True, risk="high"))
    assert "off for risk: high" in caught.value.why
    _, made = chosen(model, x, y, UNSAFE)
    assert made.runtime["unsafe"] is True
    assert "signature.json" in unpack(bundled(made, SigningKey.load("k", create=True)))


def test_a_model_that_ships_as_a_pickle_is_not_registered_once_the_risk_is_high(tmp_path):
    from datetime import UTC, datetime

    from loopline.evaluation.nouns import Report
    from loopline.training.nouns import Model

    ws = create_workspace(tmp_path / "ws", actor="user:ada")
    at = datetime(2026, 1, 1, tzinfo=UTC)
    model = Model("m" * 64, "r", "t", "p", ws.blobs.put(b"x"), (), "python", "user:ada", 0.5, {}, at, {"unsafe": True})
    report = object.__new__(Report)
    object.__setattr__(report, "model", model.id)
    with pytest.raises(Denied, match="ships as a pickle"):
        register(ws, name="n", model=model, report=report, author="user:ada", risk="high", policy={})
    ws.close()


def test_a_type_that_nobody_named_keeps_skops_from_shipping_and_a_person_can_name_it():
    pytest.importorskip("skops", reason="the extra loopline[skops] is not installed")
    x, y = data(300)
    pipe = make_pipeline(SimpleImputer(), SplineTransformer(), LogisticRegression(max_iter=300)).fit(x, y)
    with pytest.raises(Invalid) as caught:
        chosen(pipe, x, y)
    assert "scipy.interpolate._bsplines.BSpline" in caught.value.why
    assert "training.packages.trust" in caught.value.fix
    named = frozenset(
        {"scipy._lib.array_api_compat.numpy._aliases.asarray", "scipy.interpolate._bsplines.BSpline", "numpy.dtype"}
    )
    _, made = chosen(pipe, x, y, Permission(types=named))
    assert made.runtime["name"] == "skops"
    assert "scipy.interpolate._bsplines.BSpline" in made.runtime["types"]
    key = SigningKey.load("k", create=True)
    assert "signature.json" in unpack(bundled(made, key))
    from loopline.training.bundle import read_bundle
    from loopline.training.packages.trust import Trust

    with pytest.raises(Denied, match="BSpline"):
        read_bundle(bundled(made, key))
    bundle = read_bundle(bundled(made, key), Trust(False, frozenset({key.public})))
    np.testing.assert_allclose(bundle.score(x.to_numpy()), pipe.predict_proba(x)[:, 1], atol=1e-9)


RECIPE = """
import numpy as np
from shared import TREES


class Model:
    def __init__(self, middle):
        self.middle = middle

    def predict_proba(self, rows):
        p = np.where(np.nan_to_num(rows["a"].to_numpy()) > self.middle, 0.8, 1 / TREES)
        return np.column_stack([1 - p, p])


def fit(X, y):
    return Model(float(np.nanmedian(X["a"].to_numpy())))
"""


def test_a_class_of_the_project_ships_with_the_code_it_needs_and_says_what_it_is(tmp_path, monkeypatch):
    from loopline.governance.story import _model
    from loopline.training import TrainingSpec, load_bundle, train
    from loopline.training.packages.trust import trust_of
    from loopline.training.spec import PackagesSpec

    monkeypatch.setenv("LOOPLINE_ALLOW_UNSAFE", "1")
    ws = workspace(tmp_path / "ws")
    folder, given = project(tmp_path / "p", RECIPE), training_set(ws, rows(800))
    spec = TrainingSpec(recipe="train.py:fit", packages=PackagesSpec(unsafe=True))
    asked = {"training": spec, "training_set": given, "framing": FRAMING, "author": "user:ada"}
    _, model = train(ws, folder, **asked)
    again, same = train(ws, folder, **asked)
    assert (again.cached, same) == (True, model)
    assert model.package["unsafe"] is True
    for file in folder.glob("*.py"):
        file.unlink()
    bundle = load_bundle(ws.blobs.path(model.bundle), trust_of(ws.id))
    assert set(np.round(bundle.predict(rows(100, seed=5)), 6)) == {0.8, round(1 / 12, 6)}
    with pytest.raises(Denied, match="no key that is trusted"):
        load_bundle(ws.blobs.path(model.bundle), trust_of("another"))
    assert _model(type("O", (), {"model": model}))["package"]["name"] == "pickle"
    ws.close()
