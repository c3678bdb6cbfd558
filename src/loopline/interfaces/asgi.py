"""Every door of the control plane, composed into one application on one origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import ASGIApp, Scope

from loopline import __version__
from loopline.base import settings
from loopline.interfaces.http import parcels
from loopline.interfaces.http.guard import Access, Way
from loopline.interfaces.http.runs import WAY, frames_route
from loopline.interfaces.http.shell import Control
from loopline.interfaces.mlflow import door
from loopline.interfaces.mlflow.errors import refused
from loopline.interfaces.otlp import door as otlp
from loopline.workspace import Workspace

if TYPE_CHECKING:
    from loopline.loop.project import Project

WAYS = (Way((*door.BELOW, *door.ALONE, otlp.PATH), refused), WAY, parcels.WAY)
"""Paths whose clients read refusals in a shape of their own."""


def application(
    ws: Workspace, project: Project, *, host: str = "127.0.0.1", port: int = 8400, token: str | None = None
) -> ASGIApp:
    """The control API, the door for tracking clients and the pages of one project, behind one guard."""
    from loopline.interfaces.http.control import control_app
    from loopline.interfaces.ui import routes

    doors = tracking_routes(ws, named=token is not None)
    return control_app(ws, project, host=host, port=port, token=token, routes=[*doors, *routes(ws, project)], ways=WAYS)


def tracking(ws: Workspace, access: Access) -> ASGIApp:
    """The door for tracking clients and the pages of runs of a workspace without a project, behind the same guard."""
    from loopline.interfaces.ui.runs.site import runs_routes

    doors = tracking_routes(ws, named=access.token is not None)
    own = [Route("/health", _health), *doors, Route("/", _front)]
    return Control(access, routes=[*own, *runs_routes(ws)], ways=WAYS)


def tracking_routes(ws: Workspace, *, named: bool) -> list[BaseRoute]:
    """The door of tracking clients at each of its prefixes, and that of OpenTelemetry."""
    acting = ws.acting_as(_somebody(ws))
    app = door.Door(acting, named=named)
    return [
        frames_route(ws),
        *parcels.parcel_routes(acting),
        Route(otlp.PATH, otlp.Door(acting)),
        *(_Below(path, app) for path in door.BELOW),
        *(Route(path, app) for path in door.ALONE),
    ]


def _somebody(ws: Workspace) -> str:
    """Who logs when no name is given: a person, also where the loop's own account serves."""
    return next((who for who in (ws.actor, settings.actor_name()) if who.startswith("user:")), "user:somebody")


class _Below(Mount):
    """A mount that takes every path below it, whatever signs the path holds."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and scope["path"].startswith(self.path + "/"):
            return Match.FULL, {"endpoint": self.app}
        return Match.NONE, {}


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok", "version": __version__})


async def _front(request: Request) -> Response:
    """To the pages; a browser keeps what stands after `#`, where tracking clients name a run."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/experiments", 303)
    return PlainTextResponse("Loopline keeps runs here. Set MLFLOW_TRACKING_URI to this address.\n")
