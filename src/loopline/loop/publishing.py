"""Keeping the online store up to date for endpoints that read it.

What is published is what the models that serve, or are about to, were trained on: the views as they were then. A file
of views that is being worked on changes nothing for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from loopline.registry.nouns import Version
from loopline.training.nouns import Model
from loopline.workspace import CLOCK

if TYPE_CHECKING:
    from loopline.loop.project import Project
    from loopline.workspace import Workspace

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ours(ws: Workspace, project: Project) -> bool:
    """Whether the loop publishes: the endpoint reads the store, and no replay has set the clock (its player does)."""
    return project.spec.serving.features == "online" and not ws.records.meta(CLOCK)


def publish(ws: Workspace, project: Project, versions: Sequence[str] = ()) -> None:
    """Bring the views of the versions that serve, and of these, to what is known now."""
    from loopline import features

    if made := _training_sets(ws, project, versions):
        features.publish(ws, project.root, features=project.spec.features, tables=project.spec.data, training_sets=made)


def keep_up(ws: Workspace, project: Project) -> None:
    """Publish where a refresh has passed since the last time."""
    if due(ws, project):
        publish(ws, project)


def next_refresh(ws: Workspace, project: Project) -> datetime | None:
    """When the views are due to move on; null where nobody reads them, or they never do."""
    from loopline.features.publishing import served

    if not ours(ws, project):
        return None
    groups = served(ws, project.root, (), _training_sets(ws, project))
    refresh = min((one.refresh for group in groups for one in group.views if one.refresh is not None), default=None)
    if refresh is None:
        return None
    now = ws.clock()
    return now - (now - EPOCH) % refresh + refresh


def due(ws: Workspace, project: Project) -> bool:
    """Whether a refresh has passed since the views were published, or rows were erased from them."""
    from loopline import features

    if not ours(ws, project):
        return False
    made = _training_sets(ws, project)
    if not made:
        return False
    late = features.freshness(ws, project.root, features=project.spec.features, training_sets=made)
    return any(_behind(one.late, one.refresh, one.behind, one.stands_at) for one in late)


def _behind(late: str | None, refresh: timedelta | None, behind: timedelta | None, stands_at: datetime | None) -> bool:
    if refresh is None:
        return late == "never published"
    return stands_at is None or bool(behind)


def _training_sets(ws: Workspace, project: Project, versions: Sequence[str] = ()) -> tuple[str, ...]:
    """What the models that serve, and those of `versions`, were trained on."""
    from loopline.serving.verbs import current

    state = current(ws, project.name)
    live = [one.version for one in state.variants] if state is not None else []
    made = []
    for version in (*live, *versions):
        for known in ws.records.find(Version, limit=1, id=version):
            made += [ws.records.get(Model, known.model).training_set]
    return tuple(dict.fromkeys(made))
