"""An application with the guard around all of it, and the pages for what goes wrong in it."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from loopline.base.errors import LooplineError
from loopline.base.log import logger
from loopline.interfaces.http.guard import Access, BodyTooLarge, Guard, Way

log = logger(__name__)

STATUS = {"invalid": 422, "not_found": 404, "conflict": 409, "denied": 403, "unavailable": 503}


class Control(Starlette):
    """An application with the guard around all of it, its own error pages included."""

    def __init__(self, access: Access, *, routes: Sequence[BaseRoute], ways: Sequence[Way] = ()) -> None:
        handlers = {LooplineError: _family, HTTPException: _plain, BodyTooLarge: _too_large, Exception: _bug}
        super().__init__(routes=routes, exception_handlers=handlers)
        self.access, self.ways = access, ways

    def build_middleware_stack(self) -> ASGIApp:
        return Guard(super().build_middleware_stack(), self.access, self.ways)


def error_page(status: int, code: str, what: str, why: str, fix: str) -> Response:
    """An error that is none of the families', in their shape."""
    return JSONResponse({"error": {"code": code, "what": what, "why": why, "fix": fix}}, status_code=status)


async def _family(request: Request, error: Exception) -> Response:
    assert isinstance(error, LooplineError)
    return JSONResponse({"error": error.as_dict()}, status_code=STATUS.get(error.code, 500))


async def _plain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == 404 else "invalid"
    fix = "send application/json" if error.status_code == 415 else "see /api/openapi.json"
    return error_page(error.status_code, code, str(error.detail), "the request does not fit", fix)


async def _too_large(request: Request, error: Exception) -> Response:
    return error_page(413, "invalid", "the body is too large", "there is a limit", "send less")


async def _bug(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    log.error("a request failed", exc_info=error)
    return error_page(
        500, "bug", "Loopline stopped on a fault of its own", "it is in the log", "report what the log says"
    )
