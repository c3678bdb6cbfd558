from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.training.world import DEEPER, FRAMING, SHARED, project, rows, training_set, workspace

from loopline.base.code import UserCodeError
from loopline.base.errors import Invalid
from loopline.base.ids import canonical, digest
from loopline.features import col, together, view
from loopline.features.program import to_doc
from loopline.serving.assembled import inputs_of
from loopline.testing.inference import linear_bundle
from loopline.training import Model, Run, TrainingSpec, load_bundle, train
from loopline.training.archive import pack, unpack
from loopline.training.bundle import read_bundle
from loopline.training.encoding import Input

RECIPE = TrainingSpec(recipe="train.py:fit")


@pytest.fixture
def ws(tmp_path):
    found = workspace(tmp_path / "ws")
    yield found
    found.close()


def test_training_records_run_and_model_and_keeps_a_bundle_that_answers_like_lightgbm(ws, tmp_path):
    import lightgbm as lgb

    given = training_set(ws, rows())
    run, model = train(
        ws, project(tmp_path / "p"), training=RECIPE, training_set=given, framing=FRAMING, author="user:ada"
    )
    assert ws.records.get(Run, run.id) == run
    assert ws.records.get(Model, model.id) == model
    bundle = load_bundle(ws.blobs.path(model.bundle))
    assert bundle.names == given.features == model.features
    assert bundle.threshold == model.threshold == pytest.approx(12 / (12 + 95), abs=1e-5)
    assert bundle.manifest["problem"] == FRAMING.id
    assert bundle.base_rate == pytest.approx(rows().filter(split="train")["label"].cast(float).mean())

    from loopline.training.archive import unpack

    native = lgb.Booster(model_str=unpack(ws.blobs.get(model.bundle))["native/model.txt"].decode())
    held_out = rows().filter(split="test")
    assert np.abs(bundle.predict(held_out) - native.predict(bundle.matrix(held_out))).max() < 1e-5
    assert {"evaluation", "boundary", "null", "single"} == set(model.parity)


def test_the_vocabulary_is_learned_on_training_rows_only(ws, tmp_path):
    frame = rows().with_columns(
        pl.when(pl.col("split") == "test").then(pl.lit("later")).otherwise(pl.col("kind")).alias("kind")
    )
    _, model = train(
        ws,
        project(tmp_path / "p"),
        training=RECIPE,
        training_set=training_set(ws, frame),
        framing=FRAMING,
        author="user:ada",
    )
    bundle = load_bundle(ws.blobs.path(model.bundle))
    assert bundle.inputs[3].categories == ("x", "y", "z")
    row = frame.filter(split="test").head(1)
    unknown = row.with_columns(pl.lit(None, dtype=pl.String).alias("kind"))
    assert bundle.predict(row)[0] == bundle.predict(unknown)[0]


def test_the_same_inputs_give_the_same_bytes_in_another_workspace_and_folder(tmp_path):
    bundles = set()
    for name in ("one", "two"):
        ws = workspace(tmp_path / name / "ws")
        given = training_set(ws, rows(1500))
        _, model = train(
            ws, project(tmp_path / name / "p"), training=RECIPE, training_set=given, framing=FRAMING, author="user:ada"
        )
        bundles.add(model.bundle)
        ws.close()
    assert len(bundles) == 1


def test_a_step_is_run_again_when_code_below_it_changes_and_only_then(ws, tmp_path):
    given, folder = training_set(ws, rows(1500)), tmp_path / "p"

    def again(spec: TrainingSpec = RECIPE, author: str = "user:ada", **files: str) -> tuple[bool, Model]:
        run, model = train(
            ws, project(folder, **files), training=spec, training_set=given, framing=FRAMING, author=author
        )
        return run.cached, model

    cached, first = again()
    assert not cached
    assert again() == (True, first)
    assert again(deeper='"""Now explained."""\n' + DEEPER + "# half of them\n", unrelated="x = 1") == (True, first)
    cached, other_author = again(author="user:bob")
    assert cached
    assert other_author.bundle == first.bundle
    assert other_author.author == "user:bob"
    cached, changed = again(deeper="HALF = 9\n", shared=SHARED)
    assert not cached
    assert changed.bundle != first.bundle
    assert not again(RECIPE.model_copy(update={"params": {"leaves": 5}}))[0]
    assert not again(RECIPE.model_copy(update={"seed": 3}))[0]


def test_a_lost_or_damaged_bundle_is_made_again(ws, tmp_path):
    given, folder = training_set(ws, rows(1500)), project(tmp_path / "p")

    def again() -> tuple[Run, Model]:
        return train(ws, folder, training=RECIPE, training_set=given, framing=FRAMING, author="user:ada")

    _, first = again()
    ws.blobs.delete(first.bundle)
    run, second = again()
    assert not run.cached
    assert second == first
    path = ws.blobs.path(first.bundle)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    run, third = again()
    assert not run.cached
    assert load_bundle(ws.blobs.path(third.bundle)).threshold == third.threshold


def test_a_recipe_that_raises_shows_its_own_line_and_records_nothing(ws, tmp_path):
    folder = project(tmp_path / "p", "def fit(X, y):\n    return X['no such column']\n")
    with pytest.raises(UserCodeError) as caught:
        train(ws, folder, training=RECIPE, training_set=training_set(ws, rows(300)), framing=FRAMING, author="user:ada")
    assert "return X['no such column']" in caught.value.why
    assert caught.value.__cause__ is not None
    assert ws.records.find(Run) == []


def test_a_wrong_conversion_does_not_ship_and_the_native_model_does_with_the_reason(ws, tmp_path):
    recipe = """
from sklearn.ensemble import HistGradientBoostingClassifier


def fit(X, y):
    return HistGradientBoostingClassifier(max_iter=5, categorical_features=["kind"]).fit(X, y)
"""
    pytest.importorskip("skops", reason="the extra loopline[skops] is not installed")
    _, model = train(
        ws,
        project(tmp_path / "p", recipe),
        training=RECIPE,
        training_set=training_set(ws, rows(1500)),
        framing=FRAMING,
        author="user:ada",
    )
    assert model.package["name"] == "skops"
    assert "differs from the fitted one" in model.package["onnx"]["why"]
    assert load_bundle(ws.blobs.path(model.bundle)).runtime == "skops"
    assert "model.onnx" not in unpack(ws.blobs.get(model.bundle))


def test_a_model_that_no_form_may_ship_of_registers_nothing(ws, tmp_path):
    recipe = "def fit(X, y):\n    return lambda rows: rows['a'].is_nan().to_numpy() * 0.5\n"
    with pytest.raises(Invalid, match="no conversion") as caught:
        train(
            ws,
            project(tmp_path / "p", recipe),
            training=RECIPE,
            training_set=training_set(ws, rows(1500)),
            framing=FRAMING,
            author="user:ada",
        )
    assert "which this project does not allow" in caught.value.why
    assert ws.records.find(Model) == []


def test_a_run_knows_the_commit_and_whether_there_was_more_than_it(ws, tmp_path):
    folder = project(tmp_path / "p")
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    given = training_set(ws, rows(1500))

    def code(folder: Path) -> dict[str, object]:
        return train(ws, folder, training=RECIPE, training_set=given, framing=FRAMING, author="user:ada")[0].code

    clean = code(folder)
    assert len(str(clean["commit"])) == 40
    assert clean["dirty"] is None
    (folder / "train.py").write_text((folder / "train.py").read_text() + "\n# more\n")
    assert code(folder)["dirty"] is not None


def test_training_rows_of_one_class_are_refused(ws, tmp_path):
    with pytest.raises(Invalid, match="same label"):
        train(
            ws,
            project(tmp_path / "p"),
            training=RECIPE,
            training_set=training_set(ws, rows(300).with_columns(pl.lit(True).alias("label"))),
            framing=FRAMING,
            author="user:ada",
        )


def test_a_bundle_carries_what_its_features_need_of_a_request(ws, tmp_path):
    doc = {"format": 2, "groups": [], "columns": {"x": "number"}, "moments": {}, "clean": [], "contract": None}
    given = replace(training_set(ws, rows(600)), request=ws.blobs.put(canonical(doc)))
    _, model = train(
        ws, project(tmp_path / "p"), training=RECIPE, training_set=given, framing=FRAMING, author="user:ada"
    )
    assert load_bundle(ws.blobs.path(model.bundle)).request == doc


def test_the_expressions_of_a_bundle_of_before_are_read():
    views = together([view()(lambda: {"a": col("x") / 2})])
    files = unpack(linear_bundle([Input("a", "number", (), True, 0.0, 0.0, 9.0)], [1.0]))
    files["program.json"] = canonical(to_doc(views))
    manifest = {**json.loads(files.pop("manifest.json")), "views": views.id}

    def packed(**more):
        digests = {"files": {name: digest(data) for name, data in files.items()}}
        return pack({**files, "manifest.json": canonical({**manifest, **digests, **more})})

    found = read_bundle(packed())
    assert found.request == {"format": 1, "groups": [to_doc(views)], "columns": {}, "contract": None}
    assert inputs_of(found).judge({"x": 3}).values == (1.5,) and inputs_of(found).judge({"a": 3}).values == (3.0,)
    with pytest.raises(Invalid, match="not those of its training rows"):
        read_bundle(packed(views="other"))
