"""Several processes and one loop: one moves it, nothing is done twice, the dead hold nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.loop.world import World

from loopline.base.errors import Conflict
from loopline.data.nouns import Ingestion
from loopline.interfaces.serve import Reconciler
from loopline.loop import engine, facts
from loopline.loop.effects import Patience
from loopline.loop.project import load
from loopline.testing.loops import (
    opened,
)
from loopline.workspace import open_workspace

ASK = "from loopline.base.process import holder; print(holder(), flush=True); input()"


def at_once(*actions: Callable[[], object]) -> list[object]:
    found: list[object] = [None] * len(actions)

    def do(n: int) -> None:
        try:
            found[n] = actions[n]()
        except Conflict as error:
            found[n] = error

    threads = [threading.Thread(target=do, args=(n,)) for n in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_of_two_ticks_at_once_one_is_refused_and_nothing_is_done_twice(world: World):
    inside, go = threading.Event(), threading.Event()

    def hold(delivery: Any) -> None:
        if delivery.kind == "train":
            inside.set()
            assert go.wait(20)

    world.receiver.watch = hold
    world.propose()

    def second() -> object:
        assert inside.wait(20)
        other = opened(world.project, world.receiver.url)
        try:
            return engine.tick(other, world.project)
        finally:
            go.set()
            other.close()

    first, refused = at_once(world.tick, second)
    assert first[-1] == "AWAIT_APPROVAL"
    assert isinstance(refused, Conflict)
    assert "another process" in str(refused)
    assert set(world.receiver.times.values()) == {1}


def test_many_ticks_at_once_do_everything_once(world: World):
    world.propose()
    others = [opened(world.project, world.receiver.url) for _ in range(4)]
    at_once(*(lambda ws=ws: engine.tick(ws, world.project) for ws in others))
    world.tick()
    assert world.cycle.state == "AWAIT_APPROVAL"
    assert set(world.receiver.times.values()) == {1}
    assert [t.generation for t in engine.history(world.ws, world.project)] == [6, 5, 4, 3, 2, 1]


def test_what_a_killed_process_of_this_host_held_is_taken_over_at_once(world: World):
    world.propose()
    while world.cycle is None or world.cycle.state != "SNAPSHOT":
        engine.step(world.ws, world.project)
    holder = subprocess.Popen([sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    name = holder.stdout.readline().strip()
    assert world.ws.records.lease("loop/small", name, lease_s=3600)
    assert world.ws.records.claim("loop:small", name, lease_s=3600)
    with pytest.raises(Conflict):
        world.tick()
    holder.kill()
    holder.wait()
    assert world.tick()[-1] == "AWAIT_APPROVAL"


def test_a_holder_elsewhere_is_taken_over_when_its_lease_has_run_out(world: World):
    world.propose()
    assert world.ws.records.lease("loop/small", "elsewhere/1/1/1", lease_s=0.3)
    with pytest.raises(Conflict):
        world.tick()
    time.sleep(0.35)
    assert world.tick()[-1] == "AWAIT_APPROVAL"


def test_a_lease_is_kept_as_long_as_its_holder_works(world: World):
    def slow(delivery: Any) -> None:
        if delivery.kind == "train":
            other = opened(world.project)
            for pause_s in (0.0, 0.8):
                time.sleep(pause_s)
                assert other.records.lease("loop/small", "b", lease_s=1) is None
                assert other.records.claim("loop:small", "b", lease_s=1) == []
            other.close()

    world.receiver.watch = slow
    world.propose()
    engine.tick(world.ws, world.project, patience=Patience(lease_s=0.4))
    assert world.cycle.state == "AWAIT_APPROVAL"
    assert world.ws.records.lease("loop/small", "b", lease_s=1)


def test_a_sleeping_reconciler_is_woken_and_moves_the_loop(world: World):
    with Reconciler(world.ws, world.project):
        world.propose()
        world.ws.wake()
        deadline = time.monotonic() + 20
        while world.cycle is None or world.cycle.state != "AWAIT_APPROVAL":
            assert time.monotonic() < deadline
            time.sleep(0.01)


SLOW = """\
import pathlib, time
import polars as pl

here = pathlib.Path(__file__).parent

def rows():
    (here / "inside").touch()
    for _ in range(1500):
        if (here / "go").exists():
            break
        time.sleep(0.01)
    return pl.read_csv(here / "rows.csv", try_parse_dates=True)
"""


def test_of_two_runs_at_once_the_second_is_told_to_run_again_and_has_done_nothing(today: World):
    (today.folder / "slow.py").write_text(SLOW)
    page = today.project.file.read_text()
    today.project.file.write_text(page.replace("source: rows.csv", "source: slow.py:rows"))
    today.project = load(today.folder)

    def second() -> object:
        while not (today.folder / "inside").exists():
            time.sleep(0.01)
        other = open_workspace(today.ws.root, actor="service:loop")
        try:
            return engine.run(other, today.project)
        finally:
            (today.folder / "go").touch()
            other.close()

    first, refused = at_once(lambda: engine.run(today.ws, today.project), second)
    assert [t.after for t in first][-1] == "AWAIT_APPROVAL"
    assert isinstance(refused, Conflict)
    assert "moved by another process" in refused.what
    assert "run it again" in refused.fix
    assert facts.signals(today.ws, "small") == []
    assert len(today.ws.records.find(Ingestion)) == 1


def test_a_server_says_in_its_log_why_a_cycle_failed(world: World, caplog: pytest.LogCaptureFixture):
    world.receiver.answers["train"] = {"no": "model"}
    with Reconciler(world.ws, world.project):
        world.propose()
        world.ws.wake()
        deadline = time.monotonic() + 20
        while not any("EVALUATE -> FAILED: evaluate failed" in r.getMessage() for r in caplog.records):
            assert time.monotonic() < deadline
            time.sleep(0.01)
