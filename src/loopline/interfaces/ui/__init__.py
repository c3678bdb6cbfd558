"""Pages for people: rendered on the server, one address each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from loopline.loop.project import Project
    from loopline.workspace import Workspace


def routes(ws: Workspace, project: Project) -> list[BaseRoute]:
    """The pages of one project, its static files and the figures of its charts.

    They read; what they may do besides stands in `actions`. Approvals are typed, and
    signed with the person's own key. Order matters; the last route answers any other path of one
    segment with a page that says where to go.
    """
    from loopline.interfaces.ui.site import project_routes

    return project_routes(ws, project)
