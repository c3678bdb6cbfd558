"""Pages for people: rendered on the server, one address each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from loopline.loop.project import Project
    from loopline.workspace import Workspace


def routes(ws: Workspace, project: Project) -> list[BaseRoute]:
    """The pages of one project."""
    return []
