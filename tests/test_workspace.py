import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from loopline.base import settings
from loopline.base.clock import ManualClock
from loopline.base.errors import Conflict, Denied, Invalid, NotFound
from loopline.base.nouns import noun
from loopline.training.tracking.client import start_run
from loopline.workspace import VERBS, create_workspace, open_workspace, query, recorded, verb

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@noun("mark")
@dataclass(frozen=True, slots=True)
class Mark:
    id: str
    value: int


@verb("probe.mark")
def mark(ws, *values, fail=False):
    ws.on_commit(lambda tx: tx.enqueue(f"told-{values}", "notify", "webhook", {"values": list(values)}))
    if fail:
        raise ZeroDivisionError
    return [Mark(f"mark-{value}", value) for value in values]


@verb("probe.clash")
def clash(ws):
    ws.on_commit(lambda tx: tx.set_meta("clashed", "yes"))
    return [Mark("mark-new", 1), Mark("mark-1", 999)]


SHIPPED = dict(VERBS)


@verb("registry.approve")
def approve(ws):
    return Mark("approved", 1)


VERBS.pop("registry.approve")
VERBS.update({name: info for name, info in SHIPPED.items() if name == "registry.approve"})


@query("probe.read")
def read(ws, id):
    return ws.records.get(Mark, id)


@pytest.fixture
def ws(tmp_path):
    ws = create_workspace(tmp_path / ".loopline", clock=ManualClock(NOON), actor="user:ada")
    yield ws
    ws.close()


@pytest.fixture(autouse=True)
def verbs_of_the_test(monkeypatch):
    """The probes are verbs in this module only."""
    for name in [name for name, info in VERBS.items() if info.call.__module__ == __name__]:
        monkeypatch.delitem(VERBS, name)


def test_a_verb_commits_nouns_audit_and_events_together(ws):
    assert [item.id for item in mark(ws, 1, 2)] == ["mark-1", "mark-2"]
    assert read(ws, "mark-2") == Mark("mark-2", 2)
    assert [effect.request for effect in ws.records.effects()] == [{"values": [1, 2]}]
    (entry,) = ws.records.entries()
    assert (entry["action"], entry["actor"], entry["subject"]) == ("probe.mark", "user:ada", "mark-1")
    assert entry["doc"] == {"nouns": ["mark:mark-1", "mark:mark-2"]}
    assert entry["at"] == "2026-01-01T12:00:00.000000Z"
    assert entry["recorded_at"] > entry["at"]
    assert json.loads((ws.root / "audit" / "head.json").read_text())["seq"] == 1


def test_a_verb_that_raises_records_nothing(ws):
    with pytest.raises(ZeroDivisionError):
        mark(ws, 1, fail=True)
    assert (ws.records.find(Mark), ws.records.effects(), ws.records.entries()) == ([], [], [])


def test_a_verb_whose_nouns_clash_records_nothing_of_itself(ws):
    mark(ws, 1)
    with pytest.raises(Conflict):
        clash(ws)
    assert [item.id for item in ws.records.find(Mark)] == ["mark-1"]
    assert ws.records.meta("clashed") is None
    assert len(ws.records.entries()) == 1
    assert ws.audit.verify().ok


def test_a_verb_done_again_keeps_its_nouns_and_adds_its_entry(ws):
    mark(ws, 1)
    mark(ws, 1)
    assert len(ws.records.find(Mark)) == 1
    assert len(ws.records.effects()) == 1
    assert len(ws.records.entries()) == 2


@pytest.mark.parametrize("actor", ["ada", "user:", "robot:x", "", ":"])
def test_who_is_nobody_may_do_nothing(ws, actor):
    for act in (lambda: mark(ws.acting_as(actor), 1), lambda: read(ws.acting_as(actor), "mark-1")):
        with pytest.raises(Denied):
            act()
    assert ws.records.entries() == []


def test_one_user_has_one_name_in_records_and_runs_whatever_the_shell_sets(monkeypatch, tmp_path):
    pwd = pytest.importorskip("pwd")
    for name in ("LOOPLINE_ACTOR", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    ws = create_workspace(tmp_path / "ws")
    with start_run(to=ws.root, capture=False) as run:
        pass
    login = pwd.getpwuid(os.getuid()).pw_name
    assert (ws.actor, ws.runs.run(run.id).user) == (f"user:{login}", login)
    ws.close()
    monkeypatch.setenv("LOOPLINE_ACTOR", "user:ada")
    assert (settings.actor_name(), settings.user_name()) == ("user:ada", "ada")
    monkeypatch.delenv("LOOPLINE_ACTOR")
    monkeypatch.setattr(pwd, "getpwuid", lambda _: {}["no such account"])
    assert settings.actor_name() == settings.NAMELESS


def test_no_service_account_approves(ws):
    with pytest.raises(Denied, match="service:loop may not"):
        approve(ws.acting_as("service:loop"))
    assert ws.records.find(Mark) == []
    approve(ws)


def test_control_flow_is_recorded_with_its_entry_or_not_at_all(ws):
    with recorded(ws, "loop.step", "cycle-1", {"wait": timedelta(seconds=1)}) as tx:
        tx.set_meta("m", "1")
    assert ws.records.entries()[0]["doc"] == {"wait": 1.0}
    with pytest.raises(ZeroDivisionError), recorded(ws, "loop.step", "cycle-1", {}) as tx:
        tx.set_meta("m", "2")
        raise ZeroDivisionError
    assert ws.records.meta("m") == "1"
    assert len(ws.records.entries()) == 1


def test_a_workspace_can_be_moved_and_holds_no_absolute_path(ws, tmp_path):
    mark(ws, 1)
    ws.blobs.put(b"x")
    ws.close()
    shutil.move(ws.root, tmp_path / "elsewhere")
    moved = open_workspace(tmp_path / "elsewhere", actor="user:ada")
    assert read(moved, "mark-1") == Mark("mark-1", 1)
    mark(moved, 2)
    assert moved.audit.verify().ok
    moved.close()
    files = [path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()]
    assert not [path for path in files if str(tmp_path).encode() in path.read_bytes()]


def test_a_workspace_of_a_newer_format_is_refused_and_left_as_it_is(ws):
    mark(ws, 1)
    ws.close()
    marker = ws.root / "workspace.json"
    kept = marker.read_text()
    marker.write_text(json.dumps({**json.loads(kept), "format": 99}))
    before = {path: path.read_bytes() for path in ws.root.rglob("*") if path.is_file()}
    with pytest.raises(Conflict, match="format 99"):
        open_workspace(ws.root)
    with pytest.raises(Conflict, match="format 99"):
        create_workspace(ws.root)
    assert {path: path.read_bytes() for path in ws.root.rglob("*") if path.is_file()} == before
    marker.write_text(kept)
    assert read(open_workspace(ws.root, actor="user:ada"), "mark-1").value == 1


@pytest.mark.parametrize("text", ["", "{}", '{"format": "x"}', "[]"])
def test_a_broken_marker_is_invalid(ws, text):
    (ws.root / "workspace.json").write_text(text)
    with pytest.raises(Invalid):
        open_workspace(ws.root)


def test_a_folder_that_is_no_workspace_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        open_workspace(tmp_path)


def test_a_replay_moves_the_clock_of_every_process(ws):
    one = open_workspace(ws.root, actor="user:ada")
    with ws.records.transaction() as tx:
        tx.set_meta("clock", "2013-04-01T00:00:00.000000Z")
    assert one.clock() == datetime(2013, 4, 1, tzinfo=UTC)
