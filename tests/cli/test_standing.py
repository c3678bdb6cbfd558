"""What a person is told of an endpoint in trouble and of a canary."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.ui.world import candidate, cycle, register

from loopline.base.nouns import to_doc
from loopline.interfaces.cli import main
from loopline.interfaces.cli.answer import FAILED, OK, REFUSED, USAGE
from loopline.loop import facts
from loopline.loop.project import load
from loopline.registry.nouns import Version
from loopline.serving import state
from loopline.serving.nouns import EndpointStatus, Variant
from loopline.store.records.protocol import Row
from loopline.workspace import FOLDER, Workspace, create_workspace

AT = datetime(2031, 1, 1, tzinfo=UTC)


def here(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, str, str]:
    code = main.run((*words, "--project", str(folder)))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def ws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Workspace:
    assert main.run(("init", str(tmp_path), "--name", "churn", "--json")) == OK
    capsys.readouterr()
    return create_workspace(tmp_path / FOLDER, actor="user:ada")


def reports(ws: Workspace, error: str | None, *, serving: tuple[Variant, ...] = ()) -> None:
    status = EndpointStatus("churn", 2, AT, serving, (), None, None, 5, error)
    state.write_status(state.Place(ws.root, "churn"), status)


def test_an_endpoint_that_cannot_take_its_bundle_is_told_first(capsys, tmp_path, ws):
    assert "endpoint" not in here(capsys, tmp_path, "status")[1]
    reports(ws, "blob 3f9a is damaged")
    code, out, _ = here(capsys, tmp_path, "status")
    assert code == OK
    assert "ERROR blob 3f9a is damaged; not running" in out
    assert "serves nothing" in out
    assert "loopline doctor" in out
    code, out, _ = here(capsys, tmp_path, "doctor", "--json")
    assert code == FAILED
    (found,) = [c for c in json.loads(out)["checks"] if c["name"] == "endpoint"]
    assert (found["state"], found["what"]) == ("fail", "blob 3f9a is damaged")


def test_a_sound_endpoint_says_what_it_serves(capsys, tmp_path, ws):
    reports(ws, None, serving=(Variant("v", 3, "b", 9_500, "champion"), Variant("w", 4, "c", 500, "canary")))
    out = here(capsys, tmp_path, "status")[1]
    assert "serves version 3 champion 95 %, version 4 canary 5 % (generation 2)" in out
    assert "ERROR" not in out


def canary(ws: Workspace, version: Version) -> None:
    cycle(ws, "churn", 1, "ROLLOUT", [("GATE", "ROLLOUT", "canary at 5%")], version)
    row = ws.records.row(facts.CYCLE, "churn/1")
    loop = ws.records.row(facts.LOOP, "churn")
    assert row is not None and loop is not None
    doc = {**row.doc, "changes": {**row.doc["changes"], "number": version.number}}
    with ws.records.transaction() as tx:
        tx.save(Row(facts.CYCLE, "churn/1", "ROLLOUT", row.generation + 1, to_doc(doc)), expect=row.generation)
        tx.save(
            Row(facts.LOOP, "churn", "ROLLOUT", loop.generation + 1, {**loop.doc, "cycle": "churn/1"}),
            expect=loop.generation,
        )


def test_a_rollback_while_a_canary_is_tried_speaks_of_cancel(capsys, tmp_path, ws):
    from loopline import registry

    versions = [register(ws, "churn", *candidate(ws, mark, auc=0.7)) for mark in ("one", "two", "three")]
    bob = ws.acting_as("user:bob")
    registry.approve(bob, versions[0], reason="fine")
    registry.promote(ws, versions[0], reason="first")
    canary(ws, versions[2])
    code, _, err = here(capsys, tmp_path, "rollback", "--reason", "worse")
    assert code == REFUSED
    assert "version 3 is only a canary" in err
    assert "fix: loopline cancel" in err
    registry.approve(bob, versions[1], reason="fine")
    registry.promote(ws, versions[1], reason="second")
    code, out, _ = here(capsys, tmp_path, "rollback", "--reason", "worse")
    assert code == OK
    assert "churn is back on version 1" in out
    assert "version 3 is still tried as a canary; `loopline cancel`" in out
    assert load(tmp_path).name == "churn"


def test_a_list_of_one_name_shows_its_versions_with_aliases_and_stages(capsys, tmp_path, ws):
    from loopline import registry
    from loopline.registry.shelving import label

    one, _ = (register(ws, "churn", *candidate(ws, mark, auc=0.7)) for mark in ("one", "two"))
    registry.approve(ws.acting_as("user:bob"), one, reason="fine")
    registry.promote(ws, one, reason="first")
    label(ws, "churn", 2, stage="Staging")
    _, out, _ = here(capsys, tmp_path, "registry", "list")
    assert "churn  2 versions" in out
    for listed in (out, here(capsys, tmp_path, "registry", "list", "churn")[1]):
        rows = [line.split()[:4] for line in listed.splitlines() if " judged " in line]
        assert rows == [["1", "judged", "@production", "-"], ["2", "judged", "-", "Staging"]]


def test_after_a_rejection_only_a_cycle_that_waits_for_the_version_wants_a_tick(capsys, tmp_path, ws):
    one, two = (register(ws, "churn", *candidate(ws, mark, auc=0.7)) for mark in ("one", "two"))
    cycle(ws, "churn", 1, "AWAIT_APPROVAL", [("GATE", "AWAIT_APPROVAL", "it passed")], two)
    for version, follow in ((one, "loopline why 1"), (two, "loopline tick")):
        code, out, _ = here(capsys, tmp_path, "reject", str(version.number), "--reason", "doubled")
        assert code == OK and f"next: {follow}" in out, out


def test_rows_that_share_their_unit_are_told_by_the_run_and_by_the_search_for_leaks(capsys, tmp_path):
    seen = [f"2026-01-{1 + n % 28:02d}T06:00:00Z" for n in range(60)]
    rows = [f"p{n % 40},{seen[n]},{20 + n % 50},{n % 3 == 0:d},{seen[n]}" for n in range(60)]
    (tmp_path / "asked.csv").write_text("\n".join(["id,seen,age,left,paid_at", *rows, ""]))
    (tmp_path / "loop.yaml").write_text(
        "name: churn\nframing: {label: left, unit: id, decision_time: seen}\n"
        "data: {asked: {source: asked.csv, known_at: seen}}\ntraining: train.py:fit\n"
    )
    recipe = "from sklearn.linear_model import LogisticRegression as Made\ndef fit(X, y): return Made().fit(X, y)\n"
    (tmp_path / "train.py").write_text(recipe)
    for command in (("features", "leaks"), ("run",)):
        _, out, err = here(capsys, tmp_path, *command)
        assert "note: 20 of 60 rows are left out: 20 share their unit with another row" in out, err
        assert "if each is a decision of its own" in out
        assert ("not a feature: paid_at (a time)" in out) == ("leaks" in command), out


def test_a_model_or_version_that_is_not_there_is_told_with_what_there_is(capsys, tmp_path, ws):
    code, _, err = here(capsys, tmp_path, "registry", "list", "nobody")
    assert code == USAGE and "name='nobody' not found" in err and "loopline registry list" in err
    code, _, err = here(capsys, tmp_path, "registry", "promote", "staging", "--reason", "?")
    assert code == USAGE and "churn has no version and no alias that is called 'staging'" in err
    assert "no version of churn is registered yet" in err and "`loopline run` registers one" in err
    code, _, err = here(capsys, tmp_path, "pipeline", "show", "zz")
    assert code == USAGE and "no run of pipelines has an id that begins with zz" in err
