"""Registered models are made again when `training.reproduce` says so, the longest-unseen first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.training.world import project as files
from tests.training.world import rows, training_set

from loopline import framing, training
from loopline.base.clock import ManualClock
from loopline.base.errors import LooplineError
from loopline.loop import sampling
from loopline.loop.project import load
from loopline.registry.nouns import Version
from loopline.training.nouns import Reproduction
from loopline.workspace import create_workspace

NOW = datetime(2031, 5, 1, tzinfo=UTC)
PAGE = """name: late
framing: {{label: late, unit: id, decision_time: at}}
data: {{rows: {{source: rows.csv, known_at: at, key: id}}}}
training: {{recipe: train.py:fit{more}}}
"""
RECIPE = """
from lightgbm import LGBMClassifier


def fit(X, y, seed=0, leaves=3):
    same = {"deterministic": True, "force_col_wise": True, "n_jobs": 1, "verbose": -1}
    return LGBMClassifier(n_estimators=2, num_leaves=leaves, random_state=seed, **same).fit(X, y)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A project with two versions, and what asks for samples."""
    from tests.training.world import FRAMING

    root = tmp_path_factory.mktemp("sampling")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPLINE_KEYS", str(root / "keys"))
        folder = files(root / "p", RECIPE)
        (folder / "rows.csv").write_text("id,at,late\n1,2031-01-01,true\n")
        clock = ManualClock(NOW)
        ws = create_workspace(root / "ws", clock=clock, actor="user:ada")
        held = training_set(ws, rows(300))
        with ws.records.transaction() as tx:
            tx.put(held)
        framing.frame(ws, "late", FRAMING)
        models = []
        for number, leaves in ((1, 3), (2, 4)):
            spec = training.TrainingSpec(recipe="train.py:fit", params={"leaves": leaves})
            _, model = training.train(
                ws, folder, training=spec, training_set=held, framing=FRAMING, author="user:ada", tracked=False
            )
            models.append(model)
            with ws.records.transaction() as tx:
                tx.put(
                    Version(f"version-{number}", "late", number, model.id, "report", model.bundle, "s", model.problem,
                            "user:ada", "limited", "evidence", NOW, {})
                )  # fmt: skip
        yield ws, folder, clock, models
        ws.close()


def asking(folder, more: str = ""):
    (folder / "loop.yaml").write_text(PAGE.format(more=more))
    return load(folder)


def test_it_is_off_by_default_and_refuses_what_cannot_be(world):
    ws, folder, _, _ = world
    assert sampling.due(ws, asking(folder)) is None and sampling.keep_up(ws, asking(folder)) == []
    for wrong in ("{every: 0d}", "{sample: 0}", "{at_least: 5}", "{often: yes}"):
        with pytest.raises(LooplineError):
            asking(folder, f", reproduce: {wrong}")


def test_each_sample_takes_the_one_not_made_again_for_longest_and_its_result_is_kept(world):
    ws, folder, clock, (first, second) = world
    project = asking(folder, ", reproduce: {every: 10d, sample: 1}")
    assert sampling.due(ws, project) == NOW + timedelta(days=10)
    assert sampling.keep_up(ws, project) == []
    for turn, model in enumerate((second, first), start=1):
        clock.set(NOW + timedelta(days=10 * turn))
        (made,) = sampling.keep_up(ws, project)
        assert made.model == model.id and made.level >= 2
        assert ws.records.find(Reproduction, limit=1) == [made]
        assert sampling.keep_up(ws, project) == [], "once is enough"
        assert sampling.due(ws, project) == NOW + timedelta(days=10 * (turn + 1))
