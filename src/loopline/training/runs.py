"""What can be asked of logged runs, and done with them."""

from __future__ import annotations

import json
from typing import Any

from loopline.base.errors import Conflict, NotFound
from loopline.store.runs.protocol import Point, Run, View
from loopline.training.tracking.receiving import named
from loopline.workspace import Workspace, query, verb


@query("training.runs")
def runs(
    ws: Workspace,
    *,
    experiment: str | None = None,
    filter: str = "",
    order_by: list[str] | None = None,
    limit: int = 20,
    deleted: bool = False,
) -> list[dict[str, Any]]:
    """Logged runs, newest first, in the shape of the tracking protocol.

    Parameters
    ----------
    experiment : str, optional
        Its name; all by default.
    filter : str
        For example `metrics.auc > 0.8 and params.leaves = '31'`; docs/reference/run-filters.md has the grammar.
    order_by : list of str, optional
        For example `metrics.auc DESC`.
    deleted : bool
        Those that are deleted, instead of those that are not.

    Raises
    ------
    NotFound
        If there is no such experiment.
    Invalid
        If the filter is not understood.
    """
    view: View = "deleted" if deleted else "active"
    found = ws.runs.search_runs(
        _experiments(ws, experiment), filter=filter, order_by=order_by or (), view=view, limit=limit
    )
    return [json.loads(document) for document in found.items]


@query("training.logged_run")
def logged_run(ws: Workspace, run: str) -> dict[str, Any]:
    """A logged run by its id, or the first characters of it; `experiment` is its name."""
    found = find_run(ws, run)
    doc: dict[str, Any] = json.loads(ws.runs.document(found.id))
    doc["experiment"] = ws.runs.experiment(found.experiment).name
    return doc


@verb("training.delete_runs")
def delete_runs(ws: Workspace, runs: list[str]) -> list[str]:
    """Delete runs: nothing finds them any more, until they are restored or cleaned up. Their ids."""
    ids = [find_run(ws, run).id for run in runs]
    at_ms = int(ws.clock().timestamp() * 1000)
    for id in ids:
        ws.runs.change_run(id, stage="deleted", at_ms=at_ms)
    ws.note(runs=ids)
    return ids


@verb("training.restore_runs")
def restore_runs(ws: Workspace, runs: list[str]) -> list[str]:
    """Take back that runs were deleted. Their ids."""
    ids = [find_run(ws, run).id for run in runs]
    for id in ids:
        ws.runs.change_run(id, stage="active")
    ws.note(runs=ids)
    return ids


@verb("training.move_runs")
def move_runs(ws: Workspace, runs: list[str], *, experiment: str) -> list[str]:
    """Put runs into another experiment, made if there is none; what they hold stays as it is. Their ids."""
    ids = [find_run(ws, run).id for run in runs]
    to = named(ws.runs, experiment, at_ms=int(ws.clock().timestamp() * 1000))
    ws.runs.move_runs(ids, to)
    ws.note(runs=ids, experiment=experiment)
    return ids


def find_run(ws: Workspace, run: str) -> Run:
    """The run with an id, or with one that begins so.

    Raises
    ------
    NotFound
        If there is none.
    Conflict
        If several begin so.
    """
    try:
        return ws.runs.run(run)
    except NotFound:
        if not run or not run.replace("-", "").isalnum():
            raise
        asked = f"attributes.run_id LIKE '{run}%'"
        found = ws.runs.search_runs(_experiments(ws, None, view="all"), filter=asked, view="all", limit=2).items
        if not found:
            raise
    ids = [str(json.loads(document)["info"]["run_id"]) for document in found]
    if len(ids) > 1:
        raise Conflict(f"several runs begin with {run}", why=f"such as {' and '.join(ids)}", fix="give more of the id")
    return ws.runs.run(ids[0])


def series(ws: Workspace, run: str, key: str, *, limit: int = 100_000) -> list[Point]:
    """Points of a series in the order they were logged."""
    points: list[Point] = []
    token: str | None = None
    while len(points) < limit:
        page = ws.runs.history(run, key, limit=min(25_000, limit - len(points)), token=token)
        points += page.items
        token = page.token
        if token is None:
            break
    return points


def _experiments(ws: Workspace, name: str | None, *, view: View = "active") -> list[str]:
    if name is not None:
        found = ws.runs.experiment_named(name)
        if found is None:
            raise NotFound(
                f"there is no experiment {name!r}", why="no run was logged under it", fix="loopline runs list"
            )
        return [found.id]
    ids: list[str] = []
    token: str | None = None
    while True:
        page = ws.runs.search_experiments(view=view, token=token)
        ids += [one.id for one in page.items]
        token = page.token
        if token is None:
            return ids
