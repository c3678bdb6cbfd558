"""A gc that is killed frees nothing that is needed, and the next one frees the rest."""

from __future__ import annotations

import functools
from datetime import timedelta
from pathlib import Path

from tests.crash.loaded import LOADED

from loopline.governance import reclaiming
from loopline.store.blobs.local import LocalBlobs
from loopline.store.runs.protocol import Point
from loopline.testing.crash import killed_at_every_call
from loopline.workspace import FOLDER, Workspace, create_workspace, open_workspace

CALLS = (
    "loopline.store.runs.sqlite:SqliteRuns.forget",
    "loopline.store.runs.artifacts:Artifacts.delete",
    "loopline.store.blobs.local:LocalBlobs.delete",
    "loopline.store.audit:Audit.seal",
)


def gc(root: Path) -> None:
    ws = open_workspace(root, actor="user:ada")
    nothing = timedelta(0)
    reclaiming.gc(ws, older_than=nothing, answers_older_than=nothing, grace=nothing)
    ws.close()


def a_run(ws: Workspace) -> str:
    run = ws.runs.create_run("0", start_ms=1).id
    ws.runs.log(run, metrics=[Point("m", float(n), n, n) for n in range(500)])
    ws.artifacts.put(run, "own.txt", f"of {run}".encode(), at_ms=1)
    ws.artifacts.put(run, "shared.txt", b"of everybody", at_ms=1)
    return run


def test_no_kill_in_between_loses_what_is_needed_and_the_next_gc_frees_the_rest(tmp_path):
    ws = create_workspace(tmp_path / FOLDER, actor="user:ada")
    stays = a_run(ws)
    for _ in range(2):
        ws.runs.change_run(a_run(ws), stage="deleted", at_ms=2)
    answers = LocalBlobs(ws.root / "steps" / "blobs")
    answers.put(b"an old answer")
    ws.close()
    deaths = 0
    for _ in killed_at_every_call(functools.partial(gc, ws.root), CALLS, preload=LOADED):
        deaths += 1
        again = open_workspace(ws.root, actor="user:ada")
        assert again.artifacts.read(stays, "own.txt") == f"of {stays}".encode()
        assert again.artifacts.read(stays, "shared.txt") == b"of everybody"
        assert len(again.runs.history(stays, "m").items) == 500
        again.close()
    ws = open_workspace(ws.root, actor="user:ada")
    assert deaths >= 6 and ws.artifacts.index().keys() == {stays} and ws.artifacts.unused() == []
    assert ws.runs.deleted() == [] and list(answers) == [] and ws.audit.verify().ok
    ws.close()
