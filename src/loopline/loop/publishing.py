"""Keeping the online store up to date for endpoints that read it.

What is published is what the models that serve, or are about to, were trained on: the views as they were then. A file
of views that is being worked on changes nothing for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from loopline.features.nouns import EMPTIED, NEVER
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
    """Bring the views of the versions that serve, and of these, to what is known now.

    What became known by the refresh that is due is taken in first.
    """
    from loopline import features

    if made := _training_sets(ws, project, versions):
        _take_in(ws, project, made)
        features.publish(ws, project.root, features=project.spec.features, tables=project.spec.data, training_sets=made)


def keep_up(ws: Workspace, project: Project) -> None:
    """Publish where a refresh has passed since the last time."""
    if due(ws, project):
        publish(ws, project)


def watch(ws: Workspace, project: Project) -> None:
    """Tell of views that became late, and remember those that recovered."""
    from loopline import monitoring
    from loopline.monitoring.levels import late_now

    made = _training_sets(ws, project) if ours(ws, project) else ()
    if not made:
        return
    features = project.spec.features
    late = late_now(ws, project.root, features=features, training_sets=made)
    if late.keys() != monitoring.late_views(ws, project.name).keys():
        monitoring.check_freshness(ws, project.root, endpoint=project.name, features=features, training_sets=made)


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


def _take_in(ws: Workspace, project: Project, training_sets: Sequence[str]) -> None:
    """News of the tables that the views read, where the last were from before the refresh that is due."""
    from loopline import data
    from loopline.features.publishing import served, taken_in

    now, specs = ws.clock(), project.spec.data
    needed: dict[str, None] = {}
    for group in served(ws, project.root, (), training_sets):
        refreshes = [one.refresh for one in group.views if one.refresh is not None]
        standing = now - (now - EPOCH) % min(refreshes) if refreshes else now
        for name in group.tables:
            if name in specs and (to := taken_in(ws, {name: specs[name]})) is not None and to < standing:
                needed[name] = None
    if needed:
        data.ingest(ws, project.root, specs, names=list(needed))


def _behind(late: str | None, refresh: timedelta | None, behind: timedelta | None, stands_at: datetime | None) -> bool:
    if refresh is None:
        return late in (NEVER, EMPTIED)
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
