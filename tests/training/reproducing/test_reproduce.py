from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.world import FRAMING, project, rows, training_set, workspace

from loopline import framing, training
from loopline.base.errors import NotFound, Unavailable
from loopline.base.ids import canonical
from loopline.training import Model, Reproduction, Run, TrainingSpec, cache
from loopline.training.reproducing.comparing import compared
from loopline.training.reproducing.environment import differences, installed
from loopline.training.source import packed, unfolded

RECIPE = """
from lightgbm import LGBMClassifier
from shared import TREES


def fit(X, y, seed=0, leaves=3):
    same = {"deterministic": True, "force_col_wise": True, "n_jobs": 1, "verbose": -1}
    return LGBMClassifier(n_estimators=TREES, num_leaves=leaves, random_state=seed, **same).fit(X, y)
"""
SHARED = "TREES = 3\n"
SPEC = TrainingSpec(recipe="train.py:fit", params={"leaves": 4}, seed=3)


@pytest.fixture
def ws(tmp_path):
    found = workspace(tmp_path / "ws")
    yield found
    found.close()


def trained(ws, folder: Path, spec: TrainingSpec = SPEC) -> tuple[Run, Model]:
    held = training_set(ws, rows(500))
    with ws.records.transaction() as tx:
        tx.put(held)
    framing.frame(ws, "late", FRAMING)
    return training.train(
        ws, folder, training=spec, training_set=held, framing=FRAMING, author="user:ada", tracked=False
    )


def test_a_model_comes_again_byte_by_byte_when_the_project_is_gone_and_its_bundle_is_lost(ws, tmp_path):
    folder = project(tmp_path / "p", RECIPE, shared=SHARED)
    run, model = trained(ws, folder)
    assert run.declared == {"recipe": "train.py:fit", "params": {"leaves": 4}, "seed": 3}
    for path in folder.iterdir():
        path.unlink()
    made = training.reproduce(ws, model)
    assert (made.level, made.code, made.difference, made.error) == (4, "text", 0.0, None)
    assert made.bundle == model.bundle and made.differs == {}
    assert training.reproductions(ws, model.id) == [made] == ws.records.find(Reproduction)
    ws.blobs.delete(model.bundle)
    again = training.reproduce(ws, model)
    assert again.level == 4 and model.bundle in ws.blobs and "are back" in again.differs["bundle"]


def test_code_that_was_not_kept_comes_from_its_commit_and_what_is_missing_is_named(ws, tmp_path):
    folder = project(tmp_path / "p", RECIPE, shared=SHARED)
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    run, model = trained(ws, folder)
    before = replace(run, id="run-of-before", text=None, declared=None)
    older = replace(model, id="model-of-before", run=before.id)
    with ws.records.transaction() as tx:
        tx.put(before)
        tx.put(older)
    (folder / "shared.py").write_text("TREES = 9\n")
    found = training.reproduce(ws, older, project=folder, training=SPEC)
    assert (found.level, found.code) == (4, "commit") and "declared" in found.differs
    (folder / ".git").rename(tmp_path / "elsewhere")
    found = training.reproduce(ws, older, project=folder, training=SPEC)
    assert "model.onnx" in found.differs["bundle"]["files"] and "code" in found.differs["bundle"]["manifest"]
    assert found.code == "missing" and found.differs["code"] == {"shared.py": "changed"} and found.level < 3
    found = training.reproduce(ws, older)
    assert (found.level, found.code) == (0, "missing") and "train.py" in found.error


def test_what_differs_of_the_environment_is_named_with_both_versions():
    now = cache.environment()
    then = {**now, "python": "3.9.1", "distributions": {**now["distributions"], "numpy": "1.0", "idle": "2"}}
    found = differences(then, {"numpy"})
    assert found == {
        "python": ["3.9.1", now["python"]],
        "distributions": {"numpy": ["1.0", now["distributions"]["numpy"]]},
        "other_distributions": 1,
    }
    assert differences(now, set()) == {}


def test_a_fresh_environment_that_cannot_be_had_says_so(tmp_path):
    now = cache.environment()
    with pytest.raises(Unavailable, match=r"Python 2\.7"):
        installed(tmp_path, {**now, "python": "2.7.1"}, {"numpy"})


def test_rows_that_were_erased_since_are_told_and_the_level_falls(ws, tmp_path):
    from loopline.data.nouns import Tombstone

    _, model = trained(ws, project(tmp_path / "p", RECIPE, shared=SHARED))
    used = ws.records.find(training_set(ws, rows(500)).__class__)[0]
    fewer = training_set(ws, rows(500).gather_every(2))
    with ws.records.transaction() as tx:
        tx.put(Tombstone(used.frame, fewer.frame, 250, "proof", ws.clock()))
    ws.blobs.delete(used.frame)
    reported = {"roc_auc": (0.7, 0.0, 1.0), "brier": (0.2, 0.0, 1.0)}
    found = training.reproduce(ws, model, reported=reported)
    assert found.differs["rows"]["erased"] == 250 and found.level == 1 and found.difference > 1e-6
    assert training.reproduce(ws, model, reported={"roc_auc": (0.7, 0.99, 1.0)}).level == 0


def test_a_recipe_that_fails_now_is_level_nought_with_the_reason(ws, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    opened = RECIPE.replace("    return", f"    open({str(gate)!r}).close()\n    return")
    folder = project(tmp_path / "p", opened, shared=SHARED)
    _, model = trained(ws, folder)
    gate.unlink()
    found = training.reproduce(ws, model)
    assert (found.level, found.bundle) == (0, None) and "FileNotFoundError" in found.error


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([0.0, 1e-8, 1e-5]))
def test_the_level_is_the_highest_that_holds(shift):
    from loopline.testing.inference import linear_bundle
    from loopline.training.encoding import Input
    from loopline.training.packages.trust import NOBODY

    inputs = [Input("a", "number", (), True, 0.0, 0.0, 9.0)]
    was, now = linear_bundle(inputs, [1.0]), linear_bundle(inputs, [1.0 + shift])
    from loopline.base.ids import digest

    frame = rows(50).select("a")
    truth = rows(50)["label"].cast(int).to_numpy()
    found = compared(was, digest(was), now, frame, truth, {"roc_auc": (0.5, 0.0, 1.0)}, trust=NOBODY)
    if digest(was) == digest(now):
        assert found.level == 4
    elif found.difference == 0:
        assert found.level == 3
    else:
        assert found.level == (2 if found.difference <= 1e-6 else 1)
    lost = compared(None, digest(was), now, frame, truth, {}, trust=NOBODY)
    assert lost.level == (4 if digest(was) == digest(now) else 0)


@given(st.dictionaries(st.sampled_from(["a.py", "b/c.py", "d.sql"]), st.binary(max_size=40), min_size=1))
def test_code_that_is_kept_comes_back_byte_by_byte(files):
    import tempfile

    from loopline.base.ids import digest

    with tempfile.TemporaryDirectory() as scratch:
        here, there = Path(scratch) / "here", Path(scratch) / "there"
        for name, data in files.items():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_bytes(data)
        code = cache.Closure({}, {}, {name: digest(data) for name, data in files.items()})
        kept = packed(here, code)
        there.mkdir()
        assert unfolded(kept, there) == sorted(files)
        assert {name: (there / name).read_bytes() for name in files} == files
        (here / next(iter(files))).write_bytes(b"something else that was never read")
        assert packed(here, code) is None


def test_kept_code_never_leaves_its_folder(tmp_path):
    from loopline.base.errors import Invalid

    with pytest.raises(Invalid, match="outside"):
        unfolded(canonical({"files": {"../out.py": {"text": ""}}}), tmp_path / "in")
    assert not (tmp_path / "out.py").exists()


def test_a_model_without_its_run_cannot_be_made_again(ws, tmp_path):
    _, model = trained(ws, project(tmp_path / "p", RECIPE, shared=SHARED))
    with pytest.raises(NotFound):
        training.reproduce(ws, replace(model, run="gone-for-good"))
