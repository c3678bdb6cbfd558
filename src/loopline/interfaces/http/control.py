"""The control plane's application: every verb at its path, pages beside it, one guard around all."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from loopline import __version__
from loopline.base.errors import Invalid, NotFound
from loopline.base.nouns import to_doc
from loopline.interfaces.http import openapi
from loopline.interfaces.http.guard import Access, Guard, Way
from loopline.interfaces.http.shell import Control, error_page
from loopline.interfaces.http.signatures import arguments, bound
from loopline.loop.project import Project
from loopline.workspace import CLOCK, VERBS, Workspace

STAGES = (
    "framing", "data", "features", "training", "evaluation", "registry", "serving", "monitoring", "retraining",
    "governance", "loop",
)  # fmt: skip
_DEFINES = re.compile(r"^@(verb|query|flow)\(", re.MULTILINE)


def control_app(
    ws: Workspace,
    project: Project,
    *,
    host: str = "127.0.0.1",
    port: int = 8400,
    token: str | None = None,
    names: tuple[str, ...] = (),
    routes: Sequence[BaseRoute] = (),
    ways: Sequence[Way] = (),
) -> Starlette:
    """The application of one workspace and project.

    Parameters
    ----------
    host, port : str, int
        Where it will listen; Host headers must name it, exactly.
    token : str, optional
        Needed on every request when given; must be given beyond loopback.
    names : tuple of str
        Further host names that it is reached by.
    routes : sequence
        Doors and pages to mount after the API; the guard stands around them too.
    ways : sequence of Way
        Paths among them whose refusals have another shape.

    Raises
    ------
    Denied
        If `host` is open to others and there is no token.
    """
    load_verbs()
    door = Door(ws, project)
    own = [
        Route("/health", door.health, methods=["GET"]),
        Route("/api/openapi.json", door.openapi, methods=["GET"]),
        Route("/api/v1/{stage}/{verb}", door.call, methods=["GET", "POST"]),
    ]
    return Control(
        Access.at(host, port, token=token, names=names),
        ways=ways,
        routes=[*own, *routes],
    )


def load_verbs() -> None:
    """Import every module that may define verbs, so that `VERBS` is whole."""
    for stage in STAGES:
        package = importlib.import_module(f"loopline.{stage}")
        for module in pkgutil.iter_modules(package.__path__, f"loopline.{stage}."):
            if not module.name.endswith("__main__"):
                _load(importlib.import_module(module.name))


def _load(module: ModuleType) -> None:
    """Import what a sub-room defines verbs in; its other modules may need libraries that only they use."""
    for path in getattr(module, "__path__", ()):
        for inner in sorted(Path(path).rglob("*.py")):
            if _DEFINES.search(inner.read_text()):
                within = inner.relative_to(path).with_suffix("").parts
                importlib.import_module(".".join((module.__name__, *within)))


class Door:
    """Translates requests to verbs and nouns to answers."""

    def __init__(self, ws: Workspace, project: Project) -> None:
        self._ws, self._project = ws, project
        self._page: dict[str, Any] | None = None

    async def health(self, request: Request) -> Response:
        """Whether records can be read."""
        await to_thread.run_sync(self._ws.records.meta, CLOCK)
        return JSONResponse({"status": "ok", "loop": self._project.name, "version": __version__})

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI page, made once."""
        if self._page is None:
            self._page = await to_thread.run_sync(openapi.page)
        return JSONResponse(self._page)

    async def call(self, request: Request) -> Response:
        """Call the verb that the path names."""
        name = f"{request.path_params['stage']}.{request.path_params['verb']}"
        info = VERBS.get(name)
        if info is None or arguments(info) is None:
            raise NotFound(f"there is no verb {name}", why="verbs are stage/verb", fix="see /api/openapi.json")
        if request.method != "POST" and info.writes:
            return error_page(
                405,
                "invalid",
                f"{name} changes something",
                "GET only reads",
                f"POST /api/v1/{name}".replace(".", "/", 1),
            )
        given = await _sent(request)

        def answer() -> Any:
            return to_doc(info.call(self._ws, **bound(info, self._ws, self._project, given)))

        return JSONResponse(await to_thread.run_sync(answer))


async def _sent(request: Request) -> Mapping[str, Any]:
    """The arguments of a request: an object as body, or the query of a GET."""
    if request.method != "POST":
        return {name: _from_query(value) for name, value in request.query_params.items()}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if not body:
        return {}
    if kind != "application/json":
        raise HTTPException(415, "send application/json")
    try:
        doc = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the body is not JSON: {error}", why="arguments travel as JSON", fix="send an object") from error
    if not isinstance(doc, dict):
        raise Invalid("the body is not an object", why="arguments have names", fix='send {"name": value}')
    return doc


def _from_query(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


__all__ = ["Access", "Control", "Guard", "Way", "control_app", "load_verbs"]
