"""Trainings of the loop stand in the run log."""

from __future__ import annotations

import json

import pytest
from tests.training.world import FRAMING, project, rows, training_set, workspace

from loopline.base.code import UserCodeError
from loopline.evaluation import EvaluationSpec, evaluate
from loopline.training import TrainingSpec, train
from loopline.training.tracking.frames import Begin, Facts
from loopline.training.tracking.lineage import SPOOL, recorded
from loopline.training.tracking.spool import Writer

RECIPE = TrainingSpec(recipe="train.py:fit", params={"leaves": 5}, seed=3)
EVALUATED = """
from lightgbm import LGBMClassifier
from shared import TREES


def fit(X, y, track, seed=0, leaves=7):
    print("fitting", len(y))
    track.log_metric("mine", 0.5, 4)
    model = LGBMClassifier(n_estimators=TREES, num_leaves=leaves, verbose=-1, n_jobs=1, random_state=seed)
    return model.fit(X, y, eval_set=[(X, y)], eval_metric="auc")
"""


@pytest.fixture
def ws(tmp_path):
    found = workspace(tmp_path / "ws")
    yield found
    found.close()


def _train(ws, folder, **given):
    return train(
        ws,
        folder,
        training=RECIPE,
        training_set=training_set(ws, rows(1500)),
        framing=FRAMING,
        author="user:ada",
        **given,
    )


def test_a_training_is_a_run_with_its_own_id_its_origin_and_its_curves(ws, tmp_path):
    run, model = _train(ws, project(tmp_path / "p", EVALUATED), experiment="flights")
    logged = ws.runs.run(run.id)
    assert logged.status == "FINISHED"
    assert ws.runs.experiment(logged.experiment).name == "flights"
    assert logged.params == {"leaves": "5", "seed": "3"}
    assert logged.tags["loopline.training_set"] == model.training_set
    assert logged.tags["loopline.snapshot"] == "snapshot"
    assert logged.tags["loopline.bundle"] == model.bundle
    assert logged.datasets[0].digest == model.training_set
    values = {point.key: point.value for point in logged.metrics}
    assert values["threshold"] == model.threshold
    assert values["mine"] == 0.5
    assert any(key.startswith("parity/") for key in values)
    curve = ws.runs.history(run.id, "training/auc").items
    assert [point.step for point in curve] == list(range(12))
    assert curve[-1].value > curve[0].value > 0.5
    files = {file.path for file in ws.artifacts.files(run.id)}
    assert files >= {f"loopline/{name}" for name in ("code.json", "environment.txt", "machine.json", "process.json")}
    assert set(json.loads(ws.artifacts.read(run.id, "loopline/code.json"))["files"]) == {
        "train.py", "shared.py", "deeper.py",
    }  # fmt: skip
    assert "fitting" in ws.artifacts.read(run.id, "loopline/output.txt").decode()
    assert list((ws.root / "spool").rglob("*.frames")) == []


def test_an_evaluation_is_added_to_the_run_of_its_model(ws, tmp_path):
    given = training_set(ws, rows(1500))
    folder = project(tmp_path / "p")
    run, model = train(ws, folder, training=RECIPE, training_set=given, framing=FRAMING, author="user:ada")
    report = evaluate(
        ws, folder, evaluation=EvaluationSpec(), framing=FRAMING, model=model, champion=None, training_set=given
    )
    logged = ws.runs.run(run.id)
    values = {point.key: point.value for point in logged.metrics}
    assert values["evaluation/roc_auc"] == report.metrics["roc_auc"].value
    assert logged.tags["loopline.report"] == report.id
    assert logged.tags["loopline.model"] == model.id


def test_a_recipe_that_raises_leaves_a_failed_run(ws, tmp_path):
    with pytest.raises(UserCodeError):
        _train(ws, project(tmp_path / "p", "def fit(X, y, seed=0, leaves=0):\n    raise ValueError('no')\n"))
    (only,) = ws.runs.search_runs([ws.runs.experiment_named("p").id]).items
    assert json.loads(only)["info"]["status"] == "FAILED"


def test_what_might_have_been_is_not_logged_and_a_recipe_may_report_all_the_same(ws, tmp_path):
    run, _ = _train(ws, project(tmp_path / "p", EVALUATED), tracked=False)
    assert recorded(ws, run.id) is None


def test_the_run_log_does_not_change_what_is_made(tmp_path):
    made = set()
    for name, tracked in (("one", True), ("two", False)):
        ws = workspace(tmp_path / name / "ws")
        run, model = _train(ws, project(tmp_path / name / "p"), tracked=tracked)
        made.add((run.step_key, model.bundle, model.id))
        ws.close()
    assert len(made) == 1


def test_a_training_that_was_killed_is_told_by_the_next_one(ws, tmp_path):
    writer = Writer(ws.root / SPOOL, "killed")
    writer.append([Begin(run="killed", experiment="p", start_ms=1), Facts(run="killed", params={"a": "1"})])
    writer.close()
    run, _ = _train(ws, project(tmp_path / "p"))
    assert ws.runs.run(run.id).status == "FINISHED"
    assert (ws.runs.run("killed").status, ws.runs.run("killed").params) == ("KILLED", {"a": "1"})


def test_a_spool_that_cannot_be_written_stops_no_training(ws, tmp_path, caplog):
    (ws.root / "spool").write_text("in the way")
    _, model = _train(ws, project(tmp_path / "p"))
    assert model.bundle in set(ws.blobs)
    assert sum("spool" in record.message and "training goes on" in record.message for record in caplog.records) == 1
