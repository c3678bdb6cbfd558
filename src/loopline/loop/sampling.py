"""Registered models made again now and then, as `training.reproduce` asks: the longest-unseen first."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from loopline.base.errors import LooplineError
from loopline.base.ids import iso
from loopline.base.log import logger
from loopline.evaluation.nouns import Report
from loopline.registry.nouns import Version
from loopline.training.nouns import Model, Reproduction
from loopline.workspace import Workspace

if TYPE_CHECKING:
    from loopline.loop.project import Project

SAMPLED = "reproduced"
"""Pointer from a loop to what its last sample made again."""
log = logger(__name__)


def sampled(ws: Workspace, name: str, count: int) -> list[Model]:
    """Models of versions, those made again longest ago first, never made ones before all; of these the newest."""
    from loopline.training.reproducing.verbs import newest

    held = [ws.records.find(Model, limit=1, id=one.model) for one in ws.records.find(Version, name=name)]
    known = list({one[0].id: one[0] for one in held if one}.values())
    last = {one.id: newest(ws, one.id) for one in known}
    return sorted(known, key=lambda one: iso(seen.at) if (seen := last[one.id]) is not None else "")[:count]


def reported(ws: Workspace, model: Model) -> dict[str, tuple[float | None, float | None, float | None]]:
    """Metrics with their intervals, as the newest report about a model has them; empty without one."""
    reports = ws.records.find(Report, limit=1, model=model.id)
    return {name: (e.value, e.low, e.high) for name, e in reports[0].metrics.items()} if reports else {}


def due(ws: Workspace, project: Project) -> datetime | None:
    """When the next sample is to be made; null where none is asked for, or nothing is registered yet.

    The first is due once a version is as old as the time between two samples.
    """
    asked = project.spec.training.reproduce
    if asked is None:
        return None
    last = ws.records.pointer(SAMPLED, project.name)
    if last is not None:
        return last.at + asked.every
    first = ws.records.find(Version, limit=1, newest_first=False, name=project.name)
    return first[0].created_at + asked.every if first else None


def keep_up(ws: Workspace, project: Project) -> list[Reproduction]:
    """Make models again if it is time, and put down what came of it; a failure is tried again with the next sample."""
    from loopline.training.reproducing.verbs import reproduce

    when, asked = due(ws, project), project.spec.training.reproduce
    if asked is None or when is None or when > ws.clock():
        return []
    made = []
    for model in sampled(ws, project.name, asked.sample):
        try:
            came = reproduce(
                ws, model, project=project.root, training=project.spec.training, reported=reported(ws, model)
            )
        except LooplineError as error:
            log.warning("model %s cannot be made again: %s", model.id[:12], error)
            continue
        made.append(came)
        if came.level < asked.at_least:
            log.warning(
                "model %s came again at level %s only: loopline why shows what differed", model.id[:12], came.level
            )
    with ws.records.transaction() as tx:
        tx.move(SAMPLED, project.name, made[-1].id if made else "", expect=None, at=ws.clock())
    return made
