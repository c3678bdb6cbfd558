"""A copy of a workspace gets an id of its own, and forgets nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.ui.world import candidate, register

from loopline import governance, registry, serving
from loopline.base.errors import Invalid, NotFound
from loopline.base.keys import SigningKey, forebears
from loopline.base.settings import keys_folder
from loopline.interfaces.cli import main
from loopline.serving import state
from loopline.serving.nouns import Variant
from loopline.serving.spec import ReleaseSpec
from loopline.workspace import FOLDER, Workspace, create_workspace, open_workspace


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    assert main.run(("init", str(tmp_path / "one"), "--name", "churn", "--json")) == 0
    return create_workspace(tmp_path / "one" / FOLDER, actor="user:ada")


def copied(ws: Workspace) -> Workspace:
    ws.close()
    there = ws.root.parent.parent / "two"
    shutil.copytree(ws.root.parent, there)
    return open_workspace(there / FOLDER, actor="user:ada")


def released(ws: Workspace) -> str:
    version = register(ws, "churn", *candidate(ws, "one", auc=0.7))
    registry.approve(ws.acting_as("user:bob"), version, reason="fine")
    registry.promote(ws, version, reason="first")
    serving.deploy(
        ws,
        "churn",
        variants=(Variant(version.id, 1, version.bundle, 10_000, "champion"),),
        release=ReleaseSpec(),
        salt="s",
    )
    return str(version.id)


def test_the_copy_has_its_own_id_and_trail_and_the_former_is_untouched(ws):
    released(ws)
    former, entries = ws.id, len(ws.records.entries())
    copy = copied(ws)
    made = governance.fork(copy, reason="a second way")
    assert copy.id == made.id != former
    assert (made.former, made.entries, made.problems) == (former, entries, ())
    last = copy.records.entries()[-1]
    assert (last["action"], last["doc"]["former"], last["doc"]["reason"]) == ("governance.fork", former, "a second way")
    assert copy.audit.verify().ok
    again = open_workspace(ws.root, actor="user:ada")
    for one in (again, copy, again, copy):  # both go on beside each other
        registry.add_key(one, f"user:new-{len(one.records.entries())}")
        report = one.audit.verify()
        assert report.ok, report.problems
    assert again.id == former
    assert json.loads((copy.root / "workspace.json").read_text())["forked_from"] == former


def test_what_the_former_signed_counts_and_what_anyone_else_signs_does_not(ws):
    version = released(ws)
    copy = copied(ws)
    governance.fork(copy, reason="a second way")
    assert all(condition.passed for condition in registry.verify(copy, version))
    newer = register(copy, "churn", *candidate(copy, "two", auc=0.71))
    registry.approve(copy.acting_as("user:bob"), newer, reason="fine")
    registry.promote(copy, newer, reason="better")
    assert registry.rollback(copy, "churn", reason="worse").version == version
    signed = (copy.root / "serving" / "churn" / "desired.json").read_bytes()
    assert state.check(signed, public=SigningKey.load(f"workspace-{copy.id}").public)[0].endpoint == "churn"
    kept = next(path for path in keys_folder().glob(f"workspace-{copy.id}.forebears.json"))
    kept.write_text("{}")
    assert not all(condition.passed for condition in registry.verify(copy, version))


def test_a_fork_of_a_fork_knows_both(ws):
    version = released(ws)
    first = ws.id
    copy = copied(ws)
    second = governance.fork(copy, reason="once").id
    third = governance.fork(copy, reason="twice").id
    assert list(forebears(third)) == [second, first]
    assert all(condition.passed for condition in registry.verify(copy, version))
    assert copy.audit.verify().ok


def test_a_copy_that_already_wrote_forks_with_that_on_record(ws):
    released(ws)
    copy = copied(ws)
    again = open_workspace(ws.root, actor="user:ada")
    registry.add_key(again, "user:here")
    registry.add_key(copy, "user:there")
    assert not copy.audit.verify().ok
    made = governance.fork(copy, reason="both went on")
    assert made.problems
    assert copy.records.entries()[-1]["doc"]["problems"] == list(made.problems)


def test_a_fork_needs_a_reason_and_the_former_key(ws, monkeypatch, tmp_path):
    released(ws)
    copy = copied(ws)
    with pytest.raises(Invalid, match="reason"):
        governance.fork(copy, reason=" ")
    monkeypatch.setenv("LOOPLINE_KEYS", str(tmp_path / "nothing-here"))
    before = copy.id
    with pytest.raises(NotFound, match="no key"):
        governance.fork(copy, reason="a second way")
    assert copy.id == before
