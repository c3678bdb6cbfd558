"""Every door of the control plane, composed into one application on one origin."""

from __future__ import annotations

from starlette.types import ASGIApp

from loopline.interfaces.http.control import control_app
from loopline.interfaces.ui import routes
from loopline.loop.project import Project
from loopline.workspace import Workspace


def application(
    ws: Workspace, project: Project, *, host: str = "127.0.0.1", port: int = 8400, token: str | None = None
) -> ASGIApp:
    """The control API and the pages of one project, behind one guard."""
    return control_app(ws, project, host=host, port=port, token=token, routes=routes(ws, project))
