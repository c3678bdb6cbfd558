"""Effects that fail, come twice, or are carried out by others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.loop.world import AT_ONCE, DAY, World, shares

from loopline.loop import effects, engine, facts
from loopline.loop.effects import Patience
from loopline.monitoring.nouns import Incident
from loopline.registry.nouns import Release
from loopline.serving.nouns import DesiredState
from loopline.testing.loops import (
    webhooks,
)


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


def test_an_effect_that_fails_again_and_again_is_told_in_full_once(world: World, caplog: pytest.LogCaptureFixture):
    world.receiver.answers["train"] = 503
    world.propose()
    world.tick()
    told = [r.getMessage() for r in caplog.records if "TRAIN" in r.getMessage() and r.levelname == "WARNING"]
    assert len(told) == AT_ONCE.tries - 1
    assert "answered 503" in told[0]
    assert [("answered 503" in line, "the same again" in line) for line in told[1:]] == [(False, True)] * (
        len(told) - 1
    )
    assert "\n" not in "".join(told)


def test_the_end_of_an_effect_is_told_by_the_decision_and_not_by_the_log_as_well(world: World, caplog):
    world.receiver.answers["train"] = {"model": None}
    world.receiver.answers["evaluate"] = 404
    world.declare({**webhooks(world.receiver.url), "train": {"shell": "exit 3"}})
    world.propose()
    engine.tick(world.ws, world.project, patience=Patience(tries=1))
    assert "exit code 3" in world.last.why or "exit code 3" in engine.history(world.ws, world.project)[0].why
    assert not [r for r in caplog.records if r.levelname == "WARNING"]
