"""The control plane's application: every verb at its path, pages beside it, one guard around all."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from loopline import __version__
from loopline.base.errors import Invalid, LooplineError, NotFound
from loopline.base.log import logger
from loopline.base.nouns import to_doc
from loopline.interfaces.http import openapi
from loopline.interfaces.http.guard import Access, BodyTooLarge, Guard
from loopline.interfaces.http.signatures import arguments, bound
from loopline.loop.project import Project
from loopline.workspace import CLOCK, VERBS, Workspace

log = logger(__name__)

STAGES = (
    "framing", "data", "features", "training", "evaluation", "registry", "serving", "monitoring", "retraining",
    "governance", "loop",
)  # fmt: skip


def control_app(
    ws: Workspace,
    project: Project,
    *,
    host: str = "127.0.0.1",
    port: int = 8400,
    token: str | None = None,
    names: tuple[str, ...] = (),
    routes: Sequence[BaseRoute] = (),
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
        Pages to mount after the API; the guard stands around them too.

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
        routes=[*own, *routes],
        exception_handlers={
            LooplineError: _family,
            HTTPException: _plain,
            BodyTooLarge: _too_large,
            Exception: _bug,
        },
    )


class Control(Starlette):
    """An application with the guard around all of it, its own error pages included."""

    def __init__(self, access: Access, **settings: Any) -> None:
        super().__init__(**settings)
        self.access = access

    def build_middleware_stack(self) -> ASGIApp:
        return Guard(super().build_middleware_stack(), self.access)


def load_verbs() -> None:
    """Import every module that may define verbs, so that `VERBS` is whole."""
    for stage in STAGES:
        package = importlib.import_module(f"loopline.{stage}")
        for module in pkgutil.iter_modules(package.__path__, f"loopline.{stage}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


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
            return _error(
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


def _error(status: int, code: str, what: str, why: str, fix: str) -> Response:
    return JSONResponse({"error": {"code": code, "what": what, "why": why, "fix": fix}}, status_code=status)


async def _family(request: Request, error: Exception) -> Response:
    assert isinstance(error, LooplineError)
    return JSONResponse({"error": error.as_dict()}, status_code=openapi.STATUS.get(error.code, 500))


async def _plain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == 404 else "invalid"
    fix = "send application/json" if error.status_code == 415 else "see /api/openapi.json"
    return _error(error.status_code, code, str(error.detail), "the request does not fit", fix)


async def _too_large(request: Request, error: Exception) -> Response:
    return _error(413, "invalid", "the body is too large", "there is a limit", "send less")


async def _bug(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    log.error("a request failed", exc_info=error)
    return _error(500, "bug", "Loopline stopped on a fault of its own", "it is in the log", "report what the log says")


__all__ = ["Access", "Control", "Guard", "control_app", "load_verbs"]
