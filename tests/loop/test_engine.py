"""Looking at a loop, and rows that come in as it turns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.loop.world import DAY, HOUR, World

from loopline import registry
from loopline.base.errors import Conflict, Invalid, LooplineError
from loopline.base.settings import child_environment
from loopline.data.nouns import Ingestion
from loopline.interfaces.cli import scaffold
from loopline.loop import engine, facts
from loopline.loop.project import load
from loopline.testing.loops import (
    START,
)
from loopline.workspace import FOLDER, Workspace, open_workspace


def test_what_is_assumed_must_be_a_metric(world: World):
    with pytest.raises(Invalid, match="no metric 'roc'"):
        engine.plan(world.ws, world.project, assume={"roc": 0.5})


def test_a_plan_under_an_assumption_does_nothing(world: World):
    world.release()
    (world.folder / "loop.yaml").write_text(
        (world.folder / "loop.yaml").read_text().replace("[every 90d]", '["brier > 0.2"]')
    )
    project = load(world.folder)
    assert engine.plan(world.ws, project).next == "IDLE"
    assumed = engine.plan(world.ws, project, assume={"brier": 0.3})
    assert assumed.next == "TRIAGE"
    assert assumed.guards[0].observed.startswith("0.3")
    assert world.cycle is None
    assert engine.status(world.ws, project)["state"] == "IDLE"


def test_time_never_runs_backwards(world: World):
    with pytest.raises(Conflict, match="backwards"):
        engine.set_clock(world.ws, to=START - DAY)


def ingested(ws: Workspace) -> list[tuple[str, int]]:
    return [(i.table, i.rows) for i in ws.records.find(Ingestion, newest_first=False) if i.rows]


def test_a_run_takes_the_rows_in_first_unless_a_replay_has_set_the_clock(today: World):
    engine.run(today.ws, today.project)
    assert ingested(today.ws) == [("rows", 2)]
    assert today.cycle.state == "AWAIT_APPROVAL"
    with (today.folder / "rows.csv").open("a") as more:
        more.write("3,2031-01-01T06:00:00Z,true\n")
    today.ws.clock.advance(12 * HOUR)
    engine.set_clock(today.ws, to=START + 12 * HOUR)
    engine.run(today.ws, today.project)
    assert ingested(today.ws) == [("rows", 2)]


def test_new_rows_come_in_before_a_window_is_checked(today: World):
    engine.run(today.ws, today.project)
    today.approve()
    assert today.tick()[-1] == "PROMOTED"
    with (today.folder / "rows.csv").open("a") as more:
        more.write("3,2031-01-01T06:00:00Z,true\n")
    today.ws.clock.advance(12 * HOUR)
    assert today.tick() == []
    assert ingested(today.ws) == [("rows", 2)]
    today.ws.clock.advance(13 * HOUR)
    today.tick()
    assert ingested(today.ws) == [("rows", 2), ("rows", 1)]
    assert engine.due_windows(today.ws, today.project) == []


def test_in_a_replay_the_rows_are_left_to_the_player(today: World):
    engine.run(today.ws, today.project)
    today.approve()
    today.tick()
    with (today.folder / "rows.csv").open("a") as more:
        more.write("3,2031-01-01T06:00:00Z,true\n")
    today.ws.clock.advance(25 * HOUR)
    engine.set_clock(today.ws, to=START + 25 * HOUR)
    today.tick()
    assert engine.due_windows(today.ws, today.project) == []
    assert ingested(today.ws) == [("rows", 2)]


def test_rows_that_cannot_be_had_stop_the_checks_and_nothing_else(today: World):
    engine.run(today.ws, today.project)
    today.approve()
    today.tick()
    today.propose()
    today.ws.clock.advance(50 * HOUR)
    kept = (today.folder / "rows.csv").read_bytes()
    (today.folder / "rows.csv").unlink()
    with pytest.raises(LooplineError, match=r"rows\.csv"):
        today.tick()
    assert today.cycle.state == "AWAIT_APPROVAL"
    assert len(engine.due_windows(today.ws, today.project)) == 2
    (today.folder / "rows.csv").write_bytes(kept)
    today.tick()
    assert engine.due_windows(today.ws, today.project) == []


def test_a_newcomers_loop_turns_by_commands_alone_with_no_server(tmp_path: Path):
    def loopline(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "loopline", *words],
            cwd=tmp_path,
            env=child_environment(LOOPLINE_ACTOR="user:newcomer"),
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout

    scaffold.example(tmp_path, "first")
    assert "AWAIT_APPROVAL" in loopline("run")
    ws = open_workspace(tmp_path / FOLDER, actor="user:ada")
    waiting = facts.current_cycle(ws, "first")
    assert waiting is not None
    registry.approve(ws, waiting.changes["version"], reason="good enough")
    ws.close()
    assert "WATCH -> PROMOTED" in loopline("tick")


def test_a_plan_for_a_past_moment_is_refused(world: World):
    now = world.ws.clock()
    with pytest.raises(Invalid, match="is past: the workspace's clock stands at 2031-01-01"):
        engine.plan(world.ws, world.project, at=now - HOUR)
    assert engine.plan(world.ws, world.project, at=now).state == "IDLE"
