"""What can be done about bytes that nothing needs: look at them, and let go of them."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import islice

from loopline.base.errors import Conflict, Invalid, NotFound
from loopline.base.ids import uuid7
from loopline.governance.joining.nouns import ARRIVING
from loopline.governance.reclaiming.finding import Limits, Search
from loopline.governance.reclaiming.nouns import Reclaimed, Unneeded
from loopline.governance.traced import has_traces
from loopline.training.pipeline.answers import alone, let_go
from loopline.workspace import Workspace, query, recorded, verb

RUNS_FOR = timedelta(days=7)
"""Deleted runs can be restored for so long."""
ANSWERS_FOR = timedelta(days=30)
GRACE = timedelta(hours=1)
"""For so long after it was written a file may wait for whoever will name it."""
RUNNING = "a pipeline runs here now"
_AT_ONCE = 200
_EVER = 2**62


@query("governance.unneeded")
def unneeded(
    ws: Workspace,
    *,
    older_than: timedelta = RUNS_FOR,
    answers_older_than: timedelta = ANSWERS_FOR,
    answers_at_most: int | None = None,
    grace: timedelta = GRACE,
) -> list[Unneeded]:
    """What `gc` would let go of, whose it is, what it takes; and what stays all the same, with the reason.

    Parameters
    ----------
    older_than : timedelta
        Runs and experiments that were deleted so long ago.
    answers_older_than : timedelta
        Answers of steps that no run has needed for so long.
    answers_at_most : int, optional
        Bytes of answers together; beyond it those go that were needed longest ago.
    grace : timedelta
        Files that were written so lately stay: somebody may be about to name them.
    """
    return Search(ws, _limits(older_than, answers_older_than, answers_at_most, grace)).everything()


@verb("governance.gc")
def gc(
    ws: Workspace,
    *,
    older_than: timedelta = RUNS_FOR,
    answers_older_than: timedelta = ANSWERS_FOR,
    answers_at_most: int | None = None,
    grace: timedelta = GRACE,
) -> Reclaimed:
    """Let go of what `unneeded` finds, for good.

    Runs leave the run log first, then their files, then bytes that nobody names, then traces of what is gone:
    whoever is stopped in between leaves a workspace that opens, and the next call finds the rest. What a registered
    version or a registration of a client names stays, and so do runs with the tag `loopline.hold`.

    Parameters
    ----------
    older_than, answers_older_than, answers_at_most, grace
        As in `unneeded`.
    """
    search = Search(ws, _limits(older_than, answers_older_than, answers_at_most, grace))
    found = search.everything()
    going = [one for one in found if not one.kept]
    id = uuid7(ws.clock())
    by_kind = {
        kind: [one.id for one in going if one.kind == kind]
        for kind in ("run", "experiment", "traces", "files", "answer")
    }
    if going:
        doc = {"runs": by_kind["run"], "counts": dict(Counter(one.kind for one in going))}
        with recorded(ws, "governance.gc.begin", id, doc):
            pass
    gone, freed = _forget_runs(ws, by_kind["run"])
    for owner in (*gone, *by_kind["files"]):
        if not search.is_there(owner):  # nobody brought it again meanwhile
            ws.artifacts.delete(owner)
    swept = {one.id for one in going if one.kind == "bytes"}
    if gone or by_kind["files"] or swept:
        freed += ws.artifacts.sweep(spare=search.spared())
    for experiment in by_kind["experiment"]:
        with contextlib.suppress(Conflict, NotFound):  # a run came back, or another gc was quicker
            ws.runs.forget_experiment(experiment)
    freed += _forget_traces(search, by_kind["traces"])
    busy = False
    with alone(ws.root) as nobody:
        busy = not nobody
        if nobody:
            freed += let_go(ws, by_kind["answer"])
            freed += _leftovers(ws, [one for one in going if one.kind == "leftover"])
    ws.runs.compact()
    stays = [one for one in going if busy and one.kind in ("answer", "leftover")]
    done = [one for one in going if one not in stays and (one.kind != "run" or one.id in gone)]
    return Reclaimed(
        id=id,
        counts=dict(Counter(one.kind for one in done)),
        runs=tuple(gone),
        owners=tuple(sorted({one.owner for one in done if one.owner})),
        freed=freed,
        kept=dict(Counter(one.kept for one in found if one.kept) + Counter(RUNNING for _ in stays)),
        older_than_s=older_than.total_seconds(),
        by=ws.actor,
        at=ws.clock(),
    )


def _limits(older_than: timedelta, answers: timedelta, at_most: int | None, grace: timedelta) -> Limits:
    given = {"older_than": older_than, "answers_older_than": answers, "grace": grace}
    for name, length in given.items():
        if length < timedelta(0):
            raise Invalid(f"{name} is negative", why="nothing is younger than now", fix="for example 7d")
    if at_most is not None and at_most < 0:
        raise Invalid("answers_at_most is negative", why="it counts bytes", fix="for example 10GB")
    return Limits(older_than, answers, at_most, grace)


def _forget_runs(ws: Workspace, ids: Sequence[str]) -> tuple[list[str], int]:
    """Take runs out of the run log; those that were restored meanwhile stay. Which are gone, and the bytes freed.

    Their ids are remembered, so that they stay away, but for runs that arrived by halves.
    """
    again = {one.run.id for one in ws.runs.deleted() if ARRIVING in one.run.tags} if ids else set()
    gone: list[str] = []
    freed = 0
    for some in _batches(ids):
        try:
            freed += ws.runs.forget(some, again=again)
            gone += some
        except Conflict:
            for one in some:
                with contextlib.suppress(Conflict):
                    freed += ws.runs.forget([one], again=again)
                    gone.append(one)
    return gone, freed


def _forget_traces(search: Search, experiments: Sequence[str]) -> int:
    """Take traces of experiments out that are gone by now, and give back what deleted ones left; the bytes freed."""
    ws = search.ws
    if not has_traces(ws):
        return 0
    for experiment in experiments:
        if not search.is_experiment(experiment):
            ws.traces.delete(experiment, until_ms=_EVER)
    return ws.traces.compact()


def _batches(ids: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def _leftovers(ws: Workspace, found: Sequence[Unneeded]) -> int:
    freed = 0
    for one in found:
        path = ws.root / one.id
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        freed += one.size
    return freed
