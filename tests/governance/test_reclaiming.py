"""Giving bytes back: what is needed stays, what is not goes, and whoever is killed in between loses nothing."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.training.pipeline.world import World
from tests.ui.world import candidate, register

from loopline import registry
from loopline.base.errors import Invalid, NotFound
from loopline.base.sizes import size, size_text
from loopline.governance import reclaiming
from loopline.interfaces.cli import main
from loopline.registry import shelving
from loopline.store.runs.protocol import LoggedModel, Point
from loopline.store.runs.traces.protocol import Span, Trace
from loopline.training.pipeline.answers import in_use
from loopline.training.pipeline.task import store
from loopline.workspace import FOLDER, Workspace, create_workspace

NOW = {"older_than": timedelta(0), "answers_older_than": timedelta(0), "grace": timedelta(0)}
MODEL = "m-" + "0" * 32


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    made = create_workspace(tmp_path / FOLDER, actor="user:ada")
    yield made
    made.close()


def a_run(ws: Workspace, name: str = "one", *, deleted: bool = False, **tags: str) -> str:
    run = ws.runs.create_run("0", start_ms=1, name=name, user="bob", tags=tags).id
    ws.runs.log(run, metrics=[Point("m", float(n), n, n) for n in range(500)], params={"p": "x"})
    ws.artifacts.put(run, "own.txt", f"of {run}".encode(), at_ms=1)
    ws.artifacts.put(run, "shared.txt", b"of everybody", at_ms=1)
    if deleted:
        ws.runs.change_run(run, stage="deleted", at_ms=2)
    return run


def kept(ws: Workspace) -> dict[str, str]:
    """Why each thing stays, that would go otherwise."""
    return {one.id: one.kept for one in reclaiming.unneeded(ws, **NOW) if one.kept}


def test_a_deleted_run_can_be_restored_until_its_bytes_are_freed_and_its_owner_is_named(ws):
    gone, stays = a_run(ws, "gone", deleted=True), a_run(ws, "stays")
    (listed,) = reclaiming.unneeded(ws, **NOW)
    assert (listed.kind, listed.id, listed.name, listed.owner) == ("run", gone, "gone", "bob")
    ws.runs.change_run(gone, stage="active")
    assert reclaiming.gc(ws, **NOW).counts == {}
    assert ws.artifacts.read(gone, "own.txt") == f"of {gone}".encode()
    ws.runs.change_run(gone, stage="deleted", at_ms=2)
    done = reclaiming.gc(ws, **NOW)
    assert (done.runs, done.owners, done.counts) == ((gone,), ("bob",), {"run": 1})
    assert done.freed >= listed.size - len(b"of everybody")
    with pytest.raises(NotFound):
        ws.runs.run(gone)
    assert ws.artifacts.index().keys() == {stays}
    assert ws.artifacts.read(stays, "shared.txt") == b"of everybody"
    assert len(ws.runs.history(stays, "m").items) == 500
    assert ws.artifacts.unused() == []
    assert [e["action"] for e in ws.records.entries()][-2:] == ["governance.gc.begin", "governance.gc"]
    assert ws.records.get(reclaiming.Reclaimed, done.id) == done


def test_what_was_deleted_lately_stays_and_a_dry_run_changes_nothing(ws, capsys):
    run = a_run(ws, deleted=True)
    ws.runs.change_run(run, stage="active")
    ws.runs.change_run(run, stage="deleted", at_ms=int(time.time() * 1000) - 1000)
    assert [one.kept for one in reclaiming.unneeded(ws)] == ["it was deleted only a short while ago"]
    assert reclaiming.gc(ws).counts == {}
    told = ("gc", "--workspace", str(ws.root), "--older-than", "0d")
    assert main.run(told) == 0
    assert run[:12] in (out := capsys.readouterr().out) and "bob" in out and "Nothing was changed" in out
    assert ws.runs.run(run).stage == "deleted"
    assert main.run((*told, "--yes")) == 0
    assert "1 deleted run" in capsys.readouterr().out
    assert main.run(("gc", "--workspace", str(ws.root), "--older-than", "soon")) == 2
    with pytest.raises(Invalid):
        reclaiming.gc(ws, older_than=timedelta(days=-1))


def test_files_go_once_their_run_model_or_registration_is_gone(ws):
    run = a_run(ws)
    ws.traces.put(Trace("tr-1", "0", 1, 1, "OK"))
    for owner in ("f" * 32, MODEL, "tr-1", "tr-2"):
        ws.artifacts.put(owner, "a", owner.encode(), at_ms=1)
    ws.runs.create_model(LoggedModel(MODEL, "0", "m", run, "mlflow-artifacts:/x", "READY", "", "", 1, 1))
    shelving.create(ws, "churn")
    made = shelving.deposit(ws, "churn", source="models:/x", owner=run, run=run)
    withdrawn = shelving.deposit(ws, "churn", source="models:/x", owner=run)
    shelving.withdraw(ws, "churn", withdrawn.number)
    ws.artifacts.put(withdrawn.id[:32], "late", b"late", at_ms=1)  # by one who had not heard of it
    found = {one.id: one for one in reclaiming.unneeded(ws, **NOW)}
    assert {id for id, one in found.items() if not one.kept} == {"f" * 32, withdrawn.id[:32], "tr-2"}
    assert found[made.id[:32]].kept == "version 1 of churn names it"
    ws.runs.change_model(MODEL, at_ms=2, deleted=True)
    reclaiming.gc(ws, **NOW)
    assert ws.artifacts.index().keys() == {run, made.id[:32], "tr-1"}
    ws.runs.change_run(run, stage="deleted", at_ms=2)
    assert reclaiming.gc(ws, **NOW).kept[f"version {made.number} of churn names it"] == 2  # the run, and its files
    assert ws.runs.run(run).stage == "deleted"


def test_traces_go_with_their_experiment_and_deleted_ones_give_their_space_back(ws):
    def log(experiment: str, trace: str) -> None:
        ws.traces.add_spans(
            experiment, [Span(trace, "1" * 16, None, "answer", None, "OK", 1, 2, '{"x": "' + "y" * 99_999 + '"}')]
        )

    gone = ws.runs.create_experiment("gone", at_ms=1).id
    for number in range(20):
        log("0", f"tr-{number}")
    log(gone, "tr-of-gone")
    assert reclaiming.unneeded(ws, **NOW) == [], "no experiment is deleted"
    ws.traces.delete("0", ids=[f"tr-{number}" for number in range(19)])
    ws.runs.change_experiment(gone, stage="deleted", at_ms=2)
    found = {one.kind: one for one in reclaiming.unneeded(ws, **NOW)}
    assert found.keys() == {"experiment", "traces", "space"}
    assert (found["traces"].id, found["traces"].size) == (gone, 100_008) and found["space"].size > 1_500_000
    before = sum(file.stat().st_size for file in ws.root.glob("traces.db*"))
    done = reclaiming.gc(ws, **NOW)
    assert done.counts == {"experiment": 1, "traces": 1, "space": 1} and done.freed > 1_600_000
    assert before - sum(file.stat().st_size for file in ws.root.glob("traces.db*")) > 1_600_000
    assert [one.id for one in ws.traces.traces(["tr-19", "tr-18", "tr-of-gone"])] == ["tr-19"]
    assert reclaiming.unneeded(ws, **NOW) == []


def test_runs_that_are_held_and_runs_of_registered_versions_stay(ws):
    model, report = candidate(ws, "one", auc=0.7)
    version = register(ws, "churn", model, report)
    held = a_run(ws, deleted=True, **{"loopline.hold": "the auditor asked"})
    ws.runs.create_run("0", start_ms=1, id=model.run)
    ws.runs.change_run(model.run, stage="deleted", at_ms=2)
    assert kept(ws) == {held: "held: the auditor asked", model.run: f"version {version.number} of churn names it"}
    assert reclaiming.gc(ws, **NOW).runs == ()
    assert all(condition.passed for condition in registry.verify(ws, version))


def test_a_deleted_experiment_goes_with_its_last_run_and_its_name_is_free(ws):
    made = ws.runs.create_experiment("mine", at_ms=1)
    run = ws.runs.create_run(made.id, start_ms=1).id
    ws.runs.log(run, tags={"loopline.hold": "not yet"})
    ws.runs.change_experiment(made.id, at_ms=2, stage="deleted")
    assert kept(ws)[made.id] == "runs or models of it stay"
    ws.runs.change_experiment(made.id, at_ms=3, stage="active")
    ws.runs.log(run, tags={"loopline.hold": None})
    ws.runs.change_experiment(made.id, at_ms=4, stage="deleted")
    assert reclaiming.gc(ws, **NOW).counts == {"run": 1, "experiment": 1}
    assert ws.runs.create_experiment("mine", at_ms=5).id != made.id


def test_answers_go_by_age_and_size_and_are_computed_again(tmp_path):
    world = World(tmp_path)
    first = world.run()
    assert reclaiming.gc(world.ws).counts == {}
    blobs = store(world.ws.root)
    data = {digest: blobs.put(os.urandom(1000)) for digest in "ab"}  # nobody names them
    before = set(blobs)
    assert reclaiming.gc(world.ws, answers_older_than=timedelta(0)).counts == {}  # they were written just now
    assert set(blobs) == before
    done = reclaiming.gc(world.ws, answers_at_most=1000, grace=timedelta(0))
    assert done.counts["answer"] >= 1 and sum(blobs.where(d).stat().st_size for d in blobs) <= 1000
    reclaiming.gc(world.ws, **NOW)
    assert list(blobs) == [] and set(data.values()).isdisjoint(blobs)
    again = world.run()
    assert world.value(again) == world.value(world.run()) and first.answers == again.answers


def test_while_a_pipeline_runs_its_answers_stay(tmp_path):
    world = World(tmp_path)
    blobs = store(world.ws.root)
    kept = blobs.put(b"an answer")
    with in_use(world.ws.root):
        assert reclaiming.gc(world.ws, **NOW).kept == {"a pipeline runs here now": 1}
        assert kept in blobs
    assert reclaiming.gc(world.ws, **NOW).counts == {"answer": 1} and kept not in blobs


def test_what_killed_processes_left_goes_after_a_while(ws):
    left = [ws.root / name for name in ("artifacts/part-x", "steps/logs/run/load-1.log", "steps/files/" + "0" * 64)]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    assert reclaiming.gc(ws).counts == {}
    assert reclaiming.gc(ws, **NOW).counts == {"leftover": 3}
    assert not any(path.exists() for path in left)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.lists(st.sampled_from("abc"), max_size=2, unique=True)), max_size=5
    )
)
def test_exactly_what_nobody_needs_goes(runs, tmp_path_factory):
    ws = create_workspace(tmp_path_factory.mktemp("ws") / FOLDER, actor="user:ada")
    made = {}
    for deleted, held, files in runs:
        run = ws.runs.create_run("0", start_ms=1, tags={"loopline.hold": ""} if held else {}).id
        for file in files:
            ws.artifacts.put(run, file, file.encode(), at_ms=1)
        if deleted:
            ws.runs.change_run(run, stage="deleted", at_ms=2)
        made[run] = (not deleted or held, files)
    stay = {run: files for run, (stays, files) in made.items() if stays}
    reclaiming.gc(ws, **NOW)
    assert {run for run in made if ws.runs.search_runs(["0"], filter=f"run_id = '{run}'", view="all").items} == set(
        stay
    )
    assert {owner: [one.path for one in files] for owner, files in ws.artifacts.index().items()} == {
        run: sorted(files) for run, files in stay.items() if files
    }
    assert len(list(ws.artifacts.blobs)) == len({file for files in stay.values() for file in files})
    assert reclaiming.gc(ws, **NOW).counts == {}
    ws.close()


def test_sizes_are_read_and_written_as_people_do():
    assert [size(text) for text in ("7", "1.5kB", "2 MiB", "10GB")] == [7, 1500, 2 << 20, 10**10]
    assert [size_text(n) for n in (0, 999, 1200, 34_000_000)] == ["0 B", "999 B", "1.2 kB", "34.0 MB"]
    for wrong in ("", "much", "1 XB", "-1"):
        with pytest.raises(ValueError, match="no size"):
            size(wrong)
