"""The doors where another workspace asks what is here, fetches what it lacks, and brings what this one lacks."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from loopline.base.errors import Denied, Invalid, LooplineError, NotFound, Unavailable
from loopline.base.nouns import to_doc
from loopline.interfaces.http.guard import Way
from loopline.workspace import Workspace

ABOVE = "/api/v1/runs/parcels"
INVENTORY, GIVE, TAKE = f"{ABOVE}/inventory", f"{ABOVE}/give", f"{ABOVE}/take"
MOST_BYTES = 64 << 30
MOST_ASKED = 1 << 28
"""Bytes of a list of what the other has."""
_CHUNK = 1 << 20
_STATUS = ((Denied, 403), (NotFound, 404), (Unavailable, 503))


def parcel_routes(ws: Workspace) -> list[Route]:
    """`GET inventory` as JSON; `POST give` takes another's inventory and answers a parcel; `POST take` takes one in."""

    async def inventory(request: Request) -> Response:
        from loopline.governance import joining

        return await _answered(lambda: JSONResponse(joining.inventory(ws)))

    async def give(request: Request) -> Response:
        from loopline.governance import joining

        with tempfile.TemporaryFile(dir=_room(ws)) as asked:
            if not await _received(request, asked, MOST_ASKED):
                return _too_much(MOST_ASKED)
            asked.seek(0)
            body = asked.read()

        def work() -> Response:
            parcel = Path(tempfile.mkdtemp(dir=_room(ws), prefix="parcel-")) / "parcel.zip"
            try:
                joining.pack(ws, parcel, have=_object(body))
                opened = parcel.open("rb")
            finally:
                parcel.unlink(missing_ok=True)
                parcel.parent.rmdir()
            return StreamingResponse(_parts(opened), media_type="application/zip")

        return await _answered(work)

    async def take(request: Request) -> Response:
        from loopline.governance import joining

        with tempfile.NamedTemporaryFile(dir=_room(ws), prefix="parcel-") as file:
            if not await _received(request, file, MOST_BYTES):
                return _too_much(MOST_BYTES)
            file.flush()

            def work() -> Response:
                with joining.Parcel(Path(file.name)) as parcel:
                    return JSONResponse(to_doc(joining.receive(ws, parcel)))

            return await _answered(work)

    return [
        Route(INVENTORY, inventory, methods=["GET"]),
        Route(GIVE, give, methods=["POST"]),
        Route(TAKE, take, methods=["POST"]),
    ]


def _room(ws: Workspace) -> Path:
    """Where parcels wait: on the disk of the workspace, as they may be large."""
    folder = ws.root / "run"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def _received(request: Request, into: IO[bytes], most: int) -> bool:
    """Write a body to a file; false where it is larger than `most`."""
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            return False
        await to_thread.run_sync(into.write, part)
    return True


async def _parts(opened: IO[bytes]) -> AsyncIterator[bytes]:
    with opened:
        while part := await to_thread.run_sync(opened.read, _CHUNK):
            yield part


async def _answered(work: Callable[[], Response]) -> Response:
    def told() -> Response:
        try:
            return work()
        except LooplineError as error:
            status = next((status for cls, status in _STATUS if isinstance(error, cls)), 400)
            return JSONResponse({"error": error.as_dict()}, status)

    return await to_thread.run_sync(told)


def _object(body: bytes) -> dict[str, Any]:
    try:
        doc = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise Invalid("the list of what is there is no JSON", why=str(error)[:200], fix="send an inventory") from error
    parts = {"runs": dict, "models": dict, "registrations": dict, "blobs": list}
    if not isinstance(doc, dict) or any(not isinstance(doc.get(key, kind()), kind) for key, kind in parts.items()):
        raise Invalid("the list of what is there is no inventory", why="it has other parts", fix="GET an inventory")
    if not all(isinstance(one, str) for one in doc.get("blobs", [])):
        raise Invalid("blobs are digests", why="one is no text", fix="send an inventory")
    return doc


def _too_much(most: int) -> Response:
    error = Invalid("the body is too large", why=f"at most {most:,} bytes", fix="send less, or a file to be carried")
    return JSONResponse({"error": error.as_dict()}, 413)


def _refused(status: int, what: str, why: str, fix: str) -> bytes:
    return json.dumps({"error": {"code": "denied", "what": what, "why": why, "fix": fix}}).encode()


WAY = Way((ABOVE,), _refused)
"""These doors count bytes by themselves: parcels are larger than other requests."""
