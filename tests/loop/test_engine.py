"""The loop in a real workspace; what it does to the world goes to a receiver outside."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from loopline import monitoring, registry
from loopline.base.clock import ManualClock
from loopline.base.errors import Conflict, Invalid, LooplineError, NotFound
from loopline.base.settings import child_environment
from loopline.data.nouns import Ingestion
from loopline.interfaces.cli import scaffold
from loopline.interfaces.serve import Reconciler
from loopline.loop import effects, engine, facts
from loopline.loop.effects import Patience
from loopline.loop.project import Project, load
from loopline.monitoring.nouns import Incident
from loopline.registry.nouns import Release
from loopline.retraining.nouns import Transition
from loopline.serving.nouns import DesiredState
from loopline.testing.loops import (
    START,
    Elsewhere,
    Receiver,
    answers,
    opened,
    small_project,
    small_workspace,
    webhooks,
)
from loopline.workspace import FOLDER, Workspace, open_workspace

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
AT_ONCE = Patience(tries=3, first_pause_s=0.0)
ASK = "from loopline.base.process import holder; print(holder(), flush=True); input()"


class World:
    """A small project, its workspace, and the receiver of its effects."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.folder, self.receiver = folder, receiver
        self.declare(webhooks(receiver.url))
        small_workspace(self.project)
        self.ws = opened(self.project, receiver.url)

    def declare(self, adapters: dict[str, dict[str, Any]], **how: Any) -> None:
        self.project: Project = small_project(self.folder, adapters, **how)

    def propose(self, **how: Any) -> None:
        number = facts.loop_doc(self.ws, "small")[0].get("cycles", 0)
        engine.propose(self.ws.acting_as("user:scientist"), self.project, reason=f"idea {number}", **how)

    def tick(self) -> list[str]:
        return [t.after for t in engine.tick(self.ws, self.project, patience=AT_ONCE)]

    def approve(self) -> None:
        registry.approve(self.ws.acting_as("user:ada"), self.cycle.changes["version"], reason="fine")

    def later(self, by: timedelta) -> None:
        engine.set_clock(self.ws, to=self.ws.clock() + by)

    def command(self, do: str) -> None:
        engine.command(self.ws.acting_as("user:ada"), self.project, do=do)

    @property
    def cycle(self) -> Any:
        return facts.current_cycle(self.ws, "small")

    @property
    def last(self) -> Transition:
        return engine.history(self.ws, self.project, limit=1)[0]

    def sent(self, kind: str) -> list[dict[str, Any]]:
        return [d.args for d in self.receiver.deliveries if d.kind == kind]

    def release(self) -> None:
        """One model is in service."""
        self.propose()
        self.tick()
        self.approve()
        assert self.tick()[-1] == "PROMOTED"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Receiver(answers()) as receiver:
        made = World(tmp_path / "small", receiver)
        yield made
        made.ws.close()


def shares(request: dict[str, Any]) -> list[tuple[int, str, int]]:
    return [(v["number"], v["role"], v["share"]) for v in request["variants"]]


# ---------------------------------------------------------------- the way of a candidate


def test_a_candidate_goes_all_the_way_and_the_other_data_plane_hears_every_move(world: World):
    world.propose()
    assert world.tick() == ["TRIAGE", "SNAPSHOT", "TRAIN", "EVALUATE", "GATE", "AWAIT_APPROVAL"]
    world.approve()
    assert world.tick() == ["WATCH", "PROMOTED"]
    world.propose()
    world.tick()
    world.approve()
    assert world.tick() == ["ROLLOUT"]
    assert shares(world.sent("deploy")[-1]) == [(1, "champion", 9000), (2, "canary", 1000)]
    assert world.tick() == []
    world.later(DAY)
    assert world.tick() == ["ROLLOUT"]
    assert world.last.why == "unproven after 1d at 10%; on to 50%"
    assert shares(world.sent("set_traffic")[-1]) == [(1, "champion", 5000), (2, "canary", 5000)]
    world.later(DAY)
    assert world.tick() == ["WATCH", "PROMOTED"]
    assert shares(world.sent("promote")[-1]) == [(2, "champion", 10000), (1, "previous", 0)]
    assert world.last.why == "released to everyone"
    held = facts.champion(world.ws, "small")
    assert held is not None
    assert held[0].number == 2
    assert set(world.receiver.times.values()) == {1}
    assert world.ws.audit.verify().ok


def test_what_fails_its_gates_is_rejected_and_never_a_version(world: World):
    world.receiver.answers["evaluate"] = {"passed": False}
    world.propose()
    assert world.tick()[-1] == "REJECTED"
    assert "too little" in world.last.why
    assert facts.champion(world.ws, "small") is None
    assert [n["state"] for n in world.sent("notify")] == ["REJECTED"]


def test_a_refused_candidate_is_rejected_by_name(world: World):
    world.propose()
    world.tick()
    registry.reject(world.ws.acting_as("user:ada"), world.cycle.changes["version"], reason="no")
    assert world.tick() == ["REJECTED"]
    assert "user:ada" in world.last.why


def test_an_approval_that_nobody_gives_expires_and_the_author_cannot_give_it(world: World):
    world.propose()
    world.tick()
    with pytest.raises(Exception, match="scientist"):
        registry.approve(world.ws.acting_as("user:scientist"), world.cycle.changes["version"], reason="mine")
    world.later(14 * DAY - timedelta(seconds=1))
    assert world.tick() == []
    world.later(timedelta(seconds=1))
    assert world.tick() == ["EXPIRED"]


def test_without_a_canary_or_a_needed_approval_it_is_released_at_once(world: World):
    world.declare(webhooks(world.receiver.url), approvals=0)
    world.propose()
    assert world.tick()[-3:] == ["GATE", "WATCH", "PROMOTED"]


# ---------------------------------------------------------------- people


def test_a_paused_cycle_stays_and_is_counted_as_one_training(world: World):
    stop = threading.Event()
    world.receiver.watch = lambda d: world.command("pause") if d.kind == "train" and not stop.is_set() else None
    world.propose()
    assert world.tick()[-1] == "TRAIN"
    stop.set()
    assert world.cycle.paused
    assert world.tick() == []
    world.command("resume")
    assert world.tick()[:2] == ["TRAIN", "EVALUATE"]
    assert len(facts.loop_doc(world.ws, "small")[0]["trained_at"]) == 1


def test_a_pause_does_not_put_off_a_deadline(world: World):
    world.propose()
    world.tick()
    entered = world.cycle.entered_at
    world.later(10 * DAY)
    for do in ("pause", "resume"):
        world.command(do)
        assert world.tick() == ["AWAIT_APPROVAL"]
    assert world.cycle.entered_at == entered
    world.later(4 * DAY)
    assert world.tick() == ["EXPIRED"]


def test_a_cancelled_candidate_is_gone_and_its_owner_is_told(world: World):
    world.propose()
    world.tick()
    world.command("cancel")
    assert world.tick() == ["CANCELLED"]
    assert world.sent("notify")[-1]["state"] == "CANCELLED"
    with pytest.raises(NotFound, match="idle"):
        world.command("cancel")
    with pytest.raises(Invalid):
        world.command("dance")


def test_a_cancelled_canary_is_rolled_back_and_leaves_an_incident(world: World):
    world.release()
    world.propose()
    world.tick()
    world.approve()
    assert world.tick() == ["ROLLOUT"]
    world.command("cancel")
    assert world.tick() == ["ROLLING_BACK", "ROLLED_BACK"]
    assert shares(world.sent("roll_back")[-1]) == [(1, "champion", 10000)]
    (incident,) = monitoring.open_incidents(world.ws)
    assert incident.area == "release"
    assert "user:ada" in incident.title
    assert [r.act for r in world.ws.records.find(Release)] == ["promote"]


def test_the_same_proposal_at_the_same_moment_arrives_once(world: World):
    world.propose()
    world.propose()
    assert len(facts.signals(world.ws, "small")) == 1
    with pytest.raises(Exception, match="window"):
        world.propose(training={"window": "nonsense"})


# ---------------------------------------------------------------- modes


@pytest.mark.parametrize(
    ("mode", "states", "told"),
    [
        ("off", [], []),
        ("observe", ["TRIAGE", "SUPPRESSED"], []),
        ("suggest", ["TRIAGE", "SUPPRESSED"], ["SUPPRESSED"]),
        ("auto", ["TRIAGE", "SNAPSHOT", "TRAIN", "EVALUATE", "GATE", "AWAIT_APPROVAL"], ["AWAIT_APPROVAL"]),
    ],
)
def test_a_trigger_may_do_what_the_mode_allows_and_says_it_once(world: World, mode, states, told):
    world.release()
    before = len(world.sent("notify"))
    world.declare(webhooks(world.receiver.url), mode=mode)
    world.later(90 * DAY)
    planned = engine.plan(world.ws, world.project)
    assert world.tick() == states
    assert planned.next == (states[0] if states else "IDLE")
    assert world.tick() == []
    assert [n["state"] for n in world.sent("notify")[before:]] == told


def test_a_rejection_cools_the_loop_down_only_when_the_loop_itself_had_proposed(world: World):
    world.release()
    world.receiver.answers["evaluate"] = {"passed": False}
    world.later(90 * DAY)
    world.propose()
    ends = [state for state in world.tick() if state in ("REJECTED", "SUPPRESSED")]
    assert ends == ["REJECTED", "REJECTED", "SUPPRESSED"]  # a person's, the trigger's own, and then no more
    begun = [t.why for t in engine.history(world.ws, world.project) if t.before == "IDLE"]
    assert begun[:2] == ["every 90d fires"] * 2
    before = len(world.receiver.deliveries)
    assert world.tick() == []
    assert "still suppressed: cooldown after rejection" in engine.plan(world.ws, world.project).why
    assert len(world.receiver.deliveries) == before


def test_broken_data_waits_for_a_person_and_comes_to_nothing(world: World):
    world.release()
    at = world.ws.clock()
    with world.ws.records.transaction() as tx:
        tx.put(Incident("bad", "table:rows", "data", "bad", (), at, at, at, "mend"))
    assert world.tick() == ["TRIAGE", "DATA_INCIDENT"]
    assert world.tick() == []
    monitoring.resolve(world.ws, "bad", reason="mended")
    assert world.tick() == ["SUPPRESSED"]
    assert world.tick() == []
    assert not any(d.id.startswith("small/2") and d.kind == "train" for d in world.receiver.deliveries)


def test_a_person_may_override_an_incident(world: World):
    world.release()
    at = world.ws.clock()
    with world.ws.records.transaction() as tx:
        tx.put(Incident("bad", "table:rows", "data", "bad", (), at, at, at, "mend"))
    world.tick()
    world.command("override")
    assert world.tick()[:2] == ["SNAPSHOT", "TRAIN"]


# ---------------------------------------------------------------- effects that fail


def test_a_receiver_that_is_away_gets_the_same_effect_again_and_in_the_end_it_has_failed(world: World):
    world.receiver.answers["train"] = 503
    world.propose()
    assert world.tick()[-1] == "FAILED"
    assert {id: n for id, n in world.receiver.times.items() if "train" in id} == {
        "small/1/TRAIN/0/0/train": AT_ONCE.tries
    }
    assert "answered 503" in world.last.why
    assert world.sent("notify")[-1]["state"] == "FAILED"


def test_a_receiver_that_comes_back_in_time_changes_nothing(world: World):
    busy = iter([503, 500])
    world.receiver.answers["train"] = lambda d: next(busy, {"model": "model-0001"})
    world.propose()
    assert world.tick()[-1] == "AWAIT_APPROVAL"
    assert world.receiver.times["small/1/TRAIN/0/0/train"] == 3


def test_the_next_delivery_waits_and_the_loop_says_what_for(world: World):
    world.receiver.answers["train"] = 503
    world.propose()
    patience = Patience(first_pause_s=50)
    engine.tick(world.ws, world.project, patience=patience)
    assert world.cycle.state == "TRAIN"
    assert "answered 503" in engine.plan(world.ws, world.project).why
    assert effects.due_in(world.ws, world.project, patience) == 50
    assert effects.due_in(world.ws, world.project, but=frozenset({"train"})) is None
    engine.tick(world.ws, world.project, patience=patience)
    assert world.receiver.times["small/1/TRAIN/0/0/train"] == 1


def test_pauses_grow_and_end_at_the_longest():
    assert [Patience().pause_s(n) for n in (1, 2, 3, 4, 9, 999)] == [1, 4, 16, 60, 60, 60]


def test_someone_who_cannot_be_told_does_not_hold_the_loop(world: World):
    world.receiver.answers["notify"] = 500
    world.propose()
    assert world.tick()[-1] == "AWAIT_APPROVAL"
    world.approve()
    assert world.tick()[-1] == "PROMOTED"


def test_a_rollback_is_tried_until_it_works(world: World):
    world.release()
    world.propose()
    world.tick()
    world.approve()
    world.tick()
    busy = iter([500] * (AT_ONCE.tries + 4))
    world.receiver.answers["roll_back"] = lambda d: next(busy, {})
    world.command("cancel")
    assert world.tick() == ["ROLLING_BACK", "ROLLED_BACK"]
    assert world.receiver.times["small/2/ROLLING_BACK/0/0/roll_back"] == AT_ONCE.tries + 5


def test_a_promotion_that_the_data_plane_refuses_is_taken_back(world: World):
    world.release()
    world.propose()
    world.tick()
    world.approve()
    world.tick()
    world.receiver.answers["promote"] = 500
    for _ in range(2):
        world.later(DAY)
        states = world.tick()
    assert states == ["WATCH", "ROLLING_BACK", "ROLLED_BACK"]
    held = facts.champion(world.ws, "small")
    assert held is not None
    assert held[0].number == 1
    assert [r.act for r in world.ws.records.find(Release, newest_first=False)] == ["promote", "promote", "rollback"]
    assert shares(world.sent("roll_back")[-1]) == [(1, "champion", 10000)]


def test_an_effect_that_is_done_again_changes_nothing(world: World):
    world.declare(webhooks(world.receiver.url, "train", "notify"))
    world.release()
    (promote,) = (e for e in world.ws.records.effects(topic="loop:small") if e.kind == "promote")
    done = effects.perform(world.ws, world.project, promote)
    assert done == promote.result
    assert len(world.ws.records.find(DesiredState)) == len(world.ws.records.find(Release)) == 1
    rollback = replace(promote, kind="roll_back")
    effects.perform(world.ws, world.project, rollback)
    world.later(DAY)
    effects.perform(world.ws, world.project, rollback)
    assert len(world.ws.records.find(Incident)) == 1


def test_a_failed_canary_is_rolled_back(world: World):
    world.release()
    world.propose()
    world.tick()
    world.approve()
    world.receiver.answers["deploy"] = 500
    assert world.tick() == ["ROLLOUT", "ROLLING_BACK", "ROLLED_BACK"]


def test_a_mistake_in_code_fails_the_effect_and_not_the_loop(world: World):
    world.receiver.answers["train"] = {"no": "model"}
    world.propose()
    assert world.tick()[-1] == "FAILED"
    assert "KeyError" in world.last.why
    assert world.receiver.times["small/1/EVALUATE/0/0/evaluate"] == 1


def test_an_effect_may_be_a_command(world: World):
    command = {"shell": 'echo "$LOOPLINE_EFFECT_ID" >> ids; echo \'{"model": "model-0001"}\'', "timeout": "10s"}
    world.declare({**webhooks(world.receiver.url), "train": command})
    world.propose()
    assert world.tick()[-1] == "AWAIT_APPROVAL"
    assert (world.folder / "ids").read_text() == "small/1/TRAIN/0/0/train\n"
    assert world.cycle.changes["model"] == "model-0001"


def test_our_data_plane_gets_nothing_while_another_serves_and_all_otherwise(world: World):
    world.release()
    assert not (world.ws.root / "serving").exists()
    world.declare({kind: spec for kind, spec in webhooks(world.receiver.url).items() if kind in ("train", "notify")})
    world.propose()
    world.tick()
    world.approve()
    assert world.tick() == ["ROLLOUT"]
    assert (world.ws.root / "serving" / "small" / "desired.json").exists()
    world.later(5 * DAY)
    assert world.tick() == []  # nothing runs that could take the canary
    assert "take the release" in engine.plan(world.ws, world.project).why


# ---------------------------------------------------------------- several processes


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


# ---------------------------------------------------------------- looking


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


# ---------------------------------------------------------------- rows, and real learning once


def ingested(ws: Workspace) -> list[tuple[str, int]]:
    return [(i.table, i.rows) for i in ws.records.find(Ingestion, newest_first=False) if i.rows]


@pytest.fixture
def today(tmp_path: Path) -> Iterator[World]:
    """A small world that no replay has taken into the past, windows of a day, its clock in the test's hand."""
    with Receiver(answers()) as receiver:
        project = small_project(tmp_path / "small", webhooks(receiver.url))
        page = project.file.read_text().replace("3650d", "1d")
        project.file.write_text(page)
        small_workspace(project, at=None)
        made = World.__new__(World)
        made.folder, made.receiver, made.project = project.root, receiver, load(project.root)
        made.ws = open_workspace(project.root / FOLDER, actor="service:loop", clock=ManualClock(START))
        made.ws.stores._open["compute"] = Elsewhere(made.ws.root, receiver.url)
        yield made
        made.ws.close()


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
