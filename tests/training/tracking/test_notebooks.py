"""What a notebook makes is recorded, and never promoted."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.training.world import FRAMING, project, rows, training_set, workspace

from loopline import registry
from loopline.base.errors import Denied
from loopline.evaluation import EvaluationSpec, evaluate
from loopline.training import TrainingSpec, train
from loopline.training.tracking import lineage, origin


class ZMQInteractiveShell:
    """What IPython's kernel calls its shell."""


class Kernel:
    @staticmethod
    def get_ipython() -> ZMQInteractiveShell:
        return ZMQInteractiveShell()


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", Kernel)


def _registered(ws, folder):
    given = training_set(ws, rows(1500))
    run, model = train(
        ws, folder, training=TrainingSpec(recipe="train.py:fit"), training_set=given, framing=FRAMING, author="user:ada"
    )
    report = evaluate(
        ws, folder, evaluation=EvaluationSpec(), framing=FRAMING, model=model, champion=None, training_set=given
    )
    version = registry.register(ws, name="late", model=model, report=report, author="user:ada", risk="low", policy={})
    registry.approve(ws.acting_as("user:bob"), version, reason="better")
    return run, version


def test_a_model_of_a_notebook_is_refused_with_the_reason_and_one_of_files_is_not(tmp_path, notebook, monkeypatch):
    ws = workspace(tmp_path / "ws")
    run, version = _registered(ws, project(tmp_path / "p"))
    assert ws.runs.run(run.id).tags["loopline.exploratory"] == "true"
    assert ws.runs.run(run.id).tags["mlflow.source.type"] == "NOTEBOOK"
    assert lineage.is_exploratory(ws, run.id)
    with pytest.raises(Denied, match="notebook") as told:
        registry.promote(ws, version, reason="now")
    assert "loopline run" in told.value.fix
    ws.runs.log(run.id, tags={"loopline.exploratory": "false"})  # the record itself says it too
    with pytest.raises(Denied, match="notebook"):
        registry.promote(ws, version, reason="now")
    monkeypatch.delitem(sys.modules, "IPython")
    _, version = _registered(ws, project(tmp_path / "p", deeper="HALF = 7\n"))
    assert registry.promote(ws, version, reason="now").version == version.id
    ws.close()


def test_a_plain_interpreter_and_a_shell_of_ipython_are_no_notebooks(monkeypatch):
    assert not origin.is_notebook()
    shell = type("TerminalInteractiveShell", (), {})
    monkeypatch.setitem(sys.modules, "IPython", type("I", (), {"get_ipython": staticmethod(shell)}))
    assert not origin.is_notebook()
    code = "import loopline.training.tracking.client, sys; print('IPython' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
