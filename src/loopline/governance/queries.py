"""What can be asked across the stages."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from loopline.base.errors import LooplineError, NotFound
from loopline.base.nouns import to_doc
from loopline.governance.changes import changes, difference
from loopline.governance.evidence import bundle_manifest, evidence_of, origins_of_inputs
from loopline.governance.graph import draw
from loopline.governance.nouns import Graph
from loopline.governance.origins import Origins, before, origins, recorded
from loopline.governance.story import story
from loopline.registry.nouns import Version
from loopline.registry.queries import resolve, verify
from loopline.training.nouns import Model
from loopline.training.reproducing.verbs import newest
from loopline.training.tracking.lineage import recorded as recorded_run
from loopline.workspace import Workspace, query

N = TypeVar("N")


@query("governance.why")
def why(ws: Workspace, what: str) -> dict[str, Any]:
    """Explain a version, a model or one prediction from the records.

    Parameters
    ----------
    what : str
        Id of a version or model (8 characters will do), `name/3`, a model name
        (its version in production), or the id of a prediction.

    Returns
    -------
    dict
        `version`, `rows`, `features`, `code`, `model`, `report`, `gates`,
        `approvals`, `releases`, `leaks` searched before training, `parity` of its
        answers with the tables, `run` (what the run log says of its training),
        `reproduced` (how near it came when it was last made again), the `search` that its params come from,
        `contracts` of its rows, `transforms`, `requests`
        (whether they carry features or keys), `checks` (each with what was found),
        `previous` and `changed` since it, and for a prediction `prediction`
        with inputs, answer and `origins` (where each input came from). What the
        records do not hold is null.

    Raises
    ------
    NotFound
        If nothing has that name or id.
    """
    version, answer = _named(ws, what), None
    if version is None:
        version, answer = _of_prediction(ws, what)
    found = origins(ws, version)
    told: dict[str, Any] = {}
    if answer is not None:
        from loopline.governance.predictions import discreet

        came = origins_of_inputs(ws, answer, found, bundle_manifest(ws, found))
        told["prediction"] = {**discreet(ws, answer, found.training_set), "origins": came}
    told |= story(found) | evidence_of(ws, found)
    told["run"] = recorded_run(ws, found.run.id) if found.run else None
    told["reproduced"] = to_doc(newest(ws, found.model.id)) if found.model else None
    told["checks"] = [
        {"name": c.name, "passed": c.passed, "found": c.observed, "wanted": c.threshold} for c in verify(ws, version)
    ]
    previous = before(ws, version)
    told["previous"] = {"id": previous.id, "number": previous.number} if previous else None
    if previous:
        old = origins(ws, previous)
        told["changed"] = changes(old, found, old_packages=_packages(ws, old), new_packages=_packages(ws, found))
        was = recorded_run(ws, old.run.id) if old.run else None
        if was and told["run"] and (machine := difference(_machine(was), _machine(told["run"]))):
            told["changed"]["machine"] = machine
    else:
        told["changed"] = {}
    return told


def _machine(run: dict[str, Any]) -> dict[str, Any]:
    return {name: run[name] for name in ("machine", "gpus") if run[name] is not None}


@query("governance.lineage")
def lineage(ws: Workspace, version: str | Version) -> Graph:
    """Where a version came from, as a graph from raw tables to releases.

    Raises
    ------
    NotFound
        If there is no such version.
    """
    own = version if isinstance(version, Version) else _named(ws, version)
    if own is None:
        raise _nothing(str(version))
    found = origins(ws, own)
    compared = found.report.champion if found.report else None
    champions = ws.records.find(Version, limit=1, model=compared) if compared else []
    return draw(found, origins(ws, champions[0]) if champions else None)


def _named(ws: Workspace, what: str) -> Version | None:
    name, slash, ref = what.rpartition("/")
    if slash:
        try:
            return resolve(ws, name, ref)
        except NotFound:
            return None
    pointer = ws.records.pointer("alias", f"{what}/production")
    if pointer is not None:
        return recorded(ws, Version, pointer.target)
    for version in _prefixed(ws, Version, what):
        return version
    for model in _prefixed(ws, Model, what):
        for version in ws.records.find(Version, limit=1, model=model.id):
            return version
        raise NotFound(
            f"model {model.id[:12]} has no version",
            why="it was trained, but never registered: its gates may have failed",
            fix="loopline status",
        )
    newest = ws.records.find(Version, limit=1, name=what)
    return newest[0] if newest else None


def _prefixed(ws: Workspace, cls: type[N], id: str) -> list[N]:
    try:
        return [ws.records.get(cls, id)]
    except LooplineError:
        return []


def _of_prediction(ws: Workspace, what: str) -> tuple[Version, dict[str, Any]]:
    from loopline.governance.predictions import find_prediction

    answer = find_prediction(ws, what)
    if answer is None:
        raise _nothing(what)
    version = recorded(ws, Version, answer["version"])
    if version is None:
        raise NotFound(
            f"prediction {what} was made by version {answer['version'][:12]}, which is not recorded here",
            why="the log came from another workspace, or the records were restored from before",
            fix="ask in the workspace that released it",
        )
    return version, answer


def _packages(ws: Workspace, found: Origins) -> dict[str, str]:
    if found.run is None:
        return {}
    try:
        doc = json.loads(ws.blobs.get(found.run.environment))
    except NotFound:
        return {}
    return {str(name): str(version) for name, version in doc.get("distributions", {}).items()}


def _nothing(what: str) -> NotFound:
    return NotFound(
        f"nothing is called {what}",
        why="it is no model, no version, and no prediction in the logs of this workspace",
        fix="name a model, a version as name/3, or the prediction_id that an answer carried",
    )
