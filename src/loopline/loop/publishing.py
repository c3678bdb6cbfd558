"""Keeping the online store up to date for endpoints that read it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from loopline.workspace import CLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopline.loop.project import Project
    from loopline.workspace import Workspace

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ours(ws: Workspace, project: Project) -> bool:
    """Whether the loop publishes: the endpoint reads the store, and no replay has set the clock (its player does)."""
    return project.spec.serving.features == "online" and not ws.records.meta(CLOCK)


def publish(ws: Workspace, project: Project, views: Sequence[str] | None = None) -> None:
    """Bring the project's views (and those of a candidate) to what is known now."""
    from loopline import features

    files = tuple(dict.fromkeys([*project.spec.features.views, *(views or ())]))
    if files:
        features.publish(ws, project.root, features=project.spec.features, tables=project.spec.data, views=files)


def next_refresh(ws: Workspace, project: Project) -> datetime | None:
    """When the views are due to move on; null where nobody reads them, or they never do."""
    refresh = _refresh(project) if ours(ws, project) else None
    if refresh is None:
        return None
    now = ws.clock()
    return now - (now - EPOCH) % refresh + refresh


def due(ws: Workspace, project: Project) -> bool:
    """Whether a refresh has passed since the views were published."""
    from loopline import features

    refresh = _refresh(project) if ours(ws, project) else None
    if refresh is None:
        return False
    now = ws.clock()
    late = features.freshness(ws, project.root, features=project.spec.features, at=now)
    return any(one.stands_at is None or one.behind for one in late if one.refresh is not None)


def _refresh(project: Project) -> timedelta | None:
    from loopline import features

    if not project.spec.features.views:
        return None
    loaded = features.load_views(project.root, project.spec.features.views)
    return min((one.refresh for one in loaded.views if one.refresh is not None), default=None)
