"""The door where the client's frames arrive: one batch a request, taken again without harm."""

from __future__ import annotations

import json

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loopline.base.errors import Denied, Invalid, LooplineError, Unavailable
from loopline.interfaces.http.guard import Way
from loopline.training.tracking.delivery import ROUTE
from loopline.training.tracking.frames import LARGEST, require_whole
from loopline.training.tracking.receiving import take
from loopline.workspace import Workspace, authorise

MOST_BYTES = LARGEST + (1 << 20)
"""Of a request: one frame of the largest kind fits."""


def frames_route(ws: Workspace) -> Route:
    """`POST /api/v1/runs/frames/send`: whole frames in, how many and which could not be kept out."""

    async def send(request: Request) -> Response:
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > MOST_BYTES:
                return _answer(
                    413, Invalid("the batch is too large", why=f"at most {MOST_BYTES:,} bytes", fix="send less")
                )
            parts.append(part)
        data = b"".join(parts)

        def work() -> Response:
            try:
                authorise(ws, "training.log")
                taken = take(ws.runs, ws.artifacts, require_whole(data))
            except LooplineError as error:
                return _answer(
                    403 if isinstance(error, Denied) else 503 if isinstance(error, Unavailable) else 400, error
                )
            return JSONResponse({"frames": taken.frames, "refused": taken.refused})

        return await to_thread.run_sync(work)

    return Route(ROUTE, send, methods=["POST"])


def _answer(status: int, error: LooplineError) -> Response:
    return JSONResponse({"error": error.as_dict()}, status)


def _refused(status: int, what: str, why: str, fix: str) -> bytes:
    return json.dumps({"error": {"code": "denied", "what": what, "why": why, "fix": fix}}).encode()


WAY = Way((ROUTE,), _refused)
"""The door counts bytes by itself: batches are larger than other requests."""
