"""The process that moves the loop is killed at every point of the state table, and started again."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.crash.loaded import LOADED

from loopline import registry
from loopline.base.keys import verify
from loopline.loop import engine, facts
from loopline.registry.nouns import Release
from loopline.retraining.nouns import Transition
from loopline.retraining.states import ENTRY_EFFECTS
from loopline.serving.nouns import DesiredState
from loopline.serving.verbs import current
from loopline.testing import stories
from loopline.testing.crash import killed_at_every_line
from loopline.testing.loops import Delivery, Receiver, opened, small_project, small_workspace, webhooks
from loopline.testing.stories import ENDINGS, WHEN, KillList, live, story_answers

LISTED = {(state, kind, when) for state, kinds in ENTRY_EFFECTS.items() for kind in kinds for when in WHEN}


class Lived:
    """A story that was lived in a folder, and what the world outside saw of it."""

    def __init__(self, folder: Path, *, killed: bool, alter: Callable[[], None] | None = None) -> None:
        kills = KillList(folder / "kills")
        root, keys = folder / "small", Path(os.environ["LOOPLINE_KEYS"])
        self.receiver = Receiver(story_answers())
        if killed:
            self.receiver.watch = lambda d: kills.visit(d.id, "during delivery", int((root / "pid").read_text()))
        with self.receiver:
            project = small_project(root, webhooks(self.receiver.url), mode="suggest")
            small_workspace(project)
            self.deaths = 0
            while _child(root, self.receiver.url, keys, folder / "kills" if killed else None, alter):
                self.deaths += 1
                assert set(kills.points) <= LISTED, f"the state table does not list {set(kills.points) - LISTED}"
        self.points = kills.points
        ws = opened(project)
        self.audit = ws.audit.verify()
        self.transitions = [
            (t.id, t.before, t.after, t.why, t.effects, t.at) for t in ws.records.find(Transition, newest_first=False)
        ]
        self.audited = [e["subject"] for e in ws.records.entries() if e["action"] == "loop.transition"]
        self.releases = [(r.version, r.generation) for r in ws.records.find(Release, newest_first=False)]
        self.effects = {e.id: e.status for e in ws.records.effects(topic="loop:small")}
        ws.close()


def _child(root: Path, url: str, keys: Path, kills: Path | None, alter: Callable[[], None] | None) -> bool:
    """Whether the process that lived on was killed; false when the story has ended."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    child = context.Process(target=live, args=(root, url, keys, kills, alter))
    child.start()
    child.join(60)
    code = child.exitcode
    if code is None:
        child.kill()
    assert code in (0, -signal.SIGKILL), f"the loop ended with {code}; its traceback is on the error stream"
    return code != 0


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("story-keys")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Lived:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPLINE_KEYS", str(keys))
        return Lived(tmp_path_factory.mktemp("undisturbed"), killed=False)


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Lived:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPLINE_KEYS", str(keys))
        return Lived(tmp_path_factory.mktemp("disturbed"), killed=True)


def test_the_story_ends_as_it_was_written_and_every_effect_is_delivered_once(undisturbed: Lived):
    ends = [after for _, before, after, *_ in undisturbed.transitions if after in set(ENDINGS)]
    assert tuple(ends) == ENDINGS
    failing = {id for id in undisturbed.effects if id.startswith("small/5/TRAIN")}
    assert {id: n for id, n in undisturbed.receiver.times.items() if n > 1} == dict.fromkeys(failing, 2)


def test_the_process_was_killed_at_every_point_of_the_state_table_and_at_no_other(disturbed: Lived):
    assert set(disturbed.points) == LISTED
    assert disturbed.deaths == len(disturbed.points) == len(LISTED)


def test_after_all_deaths_everything_has_come_as_if_nothing_had_happened(undisturbed: Lived, disturbed: Lived):
    assert disturbed.transitions == undisturbed.transitions
    assert disturbed.releases == undisturbed.releases
    assert disturbed.effects == undisturbed.effects


def test_every_transition_was_committed_once_and_the_audit_chain_holds(disturbed: Lived):
    cycles = [id.rpartition("/")[0] for id, *_ in disturbed.transitions]
    assert disturbed.audited == cycles
    generations = [int(id.rpartition("/")[2]) for id, *_ in disturbed.transitions]
    for cycle in set(cycles):
        own = [g for c, g in zip(cycles, generations, strict=True) if c == cycle]
        assert own == list(range(1, len(own) + 1))
    assert disturbed.audit.ok, disturbed.audit.problems


def test_the_world_outside_saw_every_effect_once_by_its_id_and_none_that_nobody_asked_for(disturbed: Lived):
    asked = {id for _, _, _, _, effects, _ in disturbed.transitions for id in effects}
    assert set(disturbed.receiver.times) == asked == set(disturbed.effects)


def test_what_was_delivered_again_was_the_same_to_the_byte_and_signed(disturbed: Lived):
    seen: dict[str, Delivery] = {}
    again = 0
    for delivery in disturbed.receiver.deliveries:
        again += delivery.id in seen
        assert seen.setdefault(delivery.id, delivery).body == delivery.body
        if "Loopline-Signature" in delivery.headers:
            assert verify(delivery.headers["Loopline-Key"], delivery.headers["Loopline-Signature"], delivery.body)
            assert json.loads(delivery.body)["id"] == delivery.headers["Loopline-Effect-Id"]
    assert again >= len(LISTED) / len(WHEN)


def test_the_campaign_fails_when_decide_asks_for_an_effect_that_the_table_does_not_list(tmp_path: Path):
    with pytest.raises(AssertionError, match=r"the state table does not list .*telegram"):
        Lived(tmp_path, killed=True, alter=stories.ask_for_an_unlisted_effect)


def test_no_line_of_a_promotion_releases_twice_or_leaves_half_a_desired_state(tmp_path: Path):
    with Receiver(story_answers()) as receiver:
        project = small_project(tmp_path / "small", webhooks(receiver.url, "train"))
        small_workspace(project)
        ws = opened(project, receiver.url)
        engine.propose(ws.acting_as("user:scientist"), project)
        engine.tick(ws, project)
        waiting = facts.current_cycle(ws, "small")
        assert waiting is not None
        registry.approve(ws.acting_as("user:ada"), waiting.changes["version"], reason="fine")
        ws.close()

    def move() -> None:
        mine = opened(project)
        engine.tick(mine, project)
        mine.close()

    deaths = sum(1 for _ in killed_at_every_line(move, every=150))
    assert deaths > 5
    ws = opened(project)
    assert facts.current_cycle(ws, "small") is None
    (release,) = ws.records.find(Release)
    desired = current(ws, "small")
    assert desired is not None
    assert [(v.version, v.share) for v in desired.variants] == [(release.version, 10_000)]
    assert desired in ws.records.find(DesiredState)
    assert ws.audit.verify().ok
    ws.close()
