"""What comes in as time goes on: rows from the sources, and monitoring windows that close."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from loopline.base.ids import iso, moment
from loopline.loop import facts, parity
from loopline.workspace import Workspace

if TYPE_CHECKING:
    from loopline.loop.project import Project


def take_in(ws: Workspace, project: Project, *, everything: bool) -> None:
    """All sources before a window is judged, otherwise those whose `every` has passed."""
    from loopline import data

    if everything:
        ingest(ws, project)
    elif names := data.due(ws, project.spec.data, ws.clock()):
        data.ingest(ws, project.root, project.spec.data, names=names)


def ingest(ws: Workspace, project: Project) -> None:
    """Take in what the sources have become to know since the last time."""
    from loopline import data

    data.ingest(ws, project.root, project.spec.data)


def due_windows(ws: Workspace, project: Project) -> list[tuple[datetime, datetime]]:
    """Monitoring windows that have closed and were not checked yet, oldest first.

    The first window begins with the first release; a window is looked at once its
    end has passed. A pause of the control plane
    leaves a gap that is caught up, window by window.
    """
    held = facts.champion(ws, project.name)
    if held is None or project.spec.framing.decision_time is None:
        return []
    window = project.spec.monitoring.window
    checked = ws.records.meta(f"checked/{project.name}")
    first = _first_release(ws, project.name)
    since = moment(checked) if checked else _floor(first, window)
    now, due = ws.clock(), []
    while since + window < now:
        due.append((since, since + window))
        since += window
    return due


def _first_release(ws: Workspace, name: str) -> datetime:
    from loopline.registry.nouns import Release

    return ws.records.find(Release, limit=1, newest_first=False, name=name, alias=facts.ALIAS)[0].at


def _floor(at: datetime, window: timedelta) -> datetime:
    epoch = datetime.fromtimestamp(0, tz=at.tzinfo)
    return epoch + ((at - epoch) // window) * window


def check_window(ws: Workspace, project: Project, since: datetime, until: datetime) -> None:
    """Check one closed window and remember that it was; answers on their way to the log are put there first."""
    from loopline import monitoring, serving

    spec = project.spec
    serving.flush(ws, project.name)
    monitoring.check(
        ws,
        project=project.root,
        endpoint=project.name,
        framing=spec.framing,
        tables=spec.data,
        monitoring=spec.monitoring,
        over=spec.retraining.over,
        since=since,
        until=until,
        spine=spec.features.spine,
    )
    parity.check(ws, project, facts.current_cycle(ws, project.name))
    with ws.records.transaction(durable=False) as tx:
        tx.set_meta(f"checked/{project.name}", iso(until))
