"""What a promotion leaves behind, and what the loop tells first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from loopline import registry
from loopline.base.errors import Denied
from loopline.loop import engine, facts
from loopline.loop.project import Project, load
from loopline.monitoring.nouns import Quality
from loopline.registry.nouns import Release, Retirement, Version
from loopline.testing.loops import START, Receiver, answers, opened, small_project, small_workspace, webhooks
from loopline.workspace import Workspace

MONTH = timedelta(days=31)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Workspace, Project]]:
    with Receiver(answers()) as receiver:
        root = small_project(tmp_path / "small", webhooks(receiver.url)).root
        page = root / "loop.yaml"
        page.write_text(page.read_text().replace("registry: {", "registry: {keep: {versions: 2, at_least: 30d}, "))
        page.write_text(page.read_text().replace("evaluation: {", "evaluation: {primary: brier, "))
        project = load(root)
        small_workspace(project)
        ws = opened(project, receiver.url)
        yield ws, project
        ws.close()


def release(ws: Workspace, project: Project) -> Version:
    """A cycle from the proposal until everyone gets its version."""
    engine.propose(ws.acting_as("user:scientist"), project, reason=f"idea at {ws.clock()}")
    for _ in range(6):
        engine.tick(ws, project)
        cycle = facts.current_cycle(ws, project.name)
        if cycle is None:
            break
        if cycle.state == "AWAIT_APPROVAL":
            registry.approve(ws.acting_as("user:ada"), cycle.changes["version"], reason="fine")
        else:
            engine.set_clock(ws, to=ws.clock() + timedelta(days=1))
    held = facts.champion(ws, project.name)
    assert held is not None
    return held[0]


def test_a_promotion_retires_what_is_not_to_be_kept_and_leaves_the_way_back(world):
    ws, project = world
    versions = []
    for _ in range(4):
        versions.append(release(ws, project))
        engine.set_clock(ws, to=ws.clock() + timedelta(days=20))
    assert [v.number for v in versions] == [1, 2, 3, 4]
    assert {r.version for r in ws.records.find(Retirement)} == {versions[0].id}, "2 was in service until lately"
    versions.append(release(ws, project))
    assert {r.version for r in ws.records.find(Retirement)} == {v.id for v in versions[:2]}
    with pytest.raises(Denied, match="kept"):
        registry.rollback(ws, project.name, to="1", reason="?")
    assert ws.records.find(Release, limit=1)[0].previous == versions[3].id
    assert registry.rollback(ws, project.name, reason="worse").version == versions[3].id


def test_the_status_tells_the_primary_metric_first(world):
    ws, project = world
    metrics = dict.fromkeys(("accuracy", "roc_auc", "brier"), (0.5, 0.4, 0.6))
    with ws.records.transaction() as tx:
        tx.put(Quality("q", project.name, START, START, START + MONTH, 9, 9, 9, metrics))
    told = engine.status(ws, project)
    assert told["primary"] == "brier"
    assert list(told["quality"]) == ["brier", "accuracy", "roc_auc"]
