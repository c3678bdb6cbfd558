"""The way of a candidate: gates, people, canary, modes."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from tests.loop.world import DAY, World, shares

from loopline import monitoring, registry
from loopline.base.errors import Invalid, NotFound
from loopline.loop import engine, facts
from loopline.monitoring.nouns import Incident
from loopline.registry.nouns import Release
from loopline.testing.loops import (
    webhooks,
)


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


def test_a_cancelled_incident_does_not_come_back_by_itself(world: World):
    world.release()
    at = world.ws.clock()
    with world.ws.records.transaction() as tx:
        tx.put(Incident("bad", "table:rows", "data", "bad", (), at, at, at, "mend"))
    assert world.tick() == ["TRIAGE", "DATA_INCIDENT"]
    world.command("cancel")
    assert world.tick() == ["CANCELLED"]
    assert world.tick() == []
    assert "its cycle was cancelled" in engine.plan(world.ws, world.project).why
    with world.ws.records.transaction() as tx:
        tx.put(Incident("worse", "table:rows", "data", "worse", (), at, at, at, "mend"))
    assert world.tick() == ["TRIAGE", "DATA_INCIDENT"]
