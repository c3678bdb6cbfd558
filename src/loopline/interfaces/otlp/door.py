"""`POST /v1/traces`: spans in protobuf or JSON, plain or gzip, kept before they are answered.

The header `x-mlflow-experiment-id` says where they belong (the default experiment
without it), `x-mlflow-run-id` which run they belong to besides.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from loopline.base.errors import Conflict, Denied, Invalid, LooplineError, NotFound
from loopline.base.log import logger
from loopline.interfaces.otlp import protobuf
from loopline.store.runs.traces.otlp import batches
from loopline.workspace import Workspace, authorise

log = logger(__name__)

PATH = "/v1/traces"
MOST_BYTES = 64 * 1024 * 1024
"""Of a request, unpacked."""
PROTOBUF, JSON = "application/x-protobuf", "application/json"
_CODES = {Invalid: (400, "INVALID_PARAMETER_VALUE"), NotFound: (404, "RESOURCE_DOES_NOT_EXIST"),
          Conflict: (400, "INVALID_PARAMETER_VALUE"), Denied: (403, "PERMISSION_DENIED")}  # fmt: skip

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Door:
    """Takes spans into the trace log of one workspace.

    Errors are JSON with `error_code` and `message`, as tracking clients read them; exporters go by the status: they
    try again on 429, 502, 503 and 504 alone.
    """

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="otlp")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            if scope["method"] != "POST":
                await _send(send, 405, _said("INVALID_PARAMETER_VALUE", "Spans are sent by POST."))
                return
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            body = await _body(receive)
            if body is None:
                return
            kind = await asyncio.get_running_loop().run_in_executor(self._threads, self._keep, headers, body)
        except LooplineError as error:
            status, code = _CODES.get(type(error), (503, "TEMPORARILY_UNAVAILABLE"))
            await _send(send, status, _said(code, f"{error.what}: {error.why}; {error.fix}"))
        except Exception:
            log.exception("spans could not be kept")
            await _send(send, 500, _said("INTERNAL_ERROR", "Loopline stopped on a fault of its own; it is in the log."))
        else:
            await _send(send, 200, b"{}" if kind == JSON else b"", kind)

    def _keep(self, headers: dict[str, str], body: bytes) -> str:
        """Keep the spans of a request; in which form it was, and is to be answered."""
        authorise(self._ws, "training.log")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (PROTOBUF, JSON):
            raise Invalid(
                f"spans of the type {kind[:60]!r}", why=f"they are {PROTOBUF} or {JSON}", fix="use OTLP over HTTP"
            )
        request = _read(kind, _unpacked(body, headers.get("content-encoding", "")))
        found = list(batches(request))
        experiment = self._ws.runs.experiment(headers.get("x-mlflow-experiment-id") or "0")
        if experiment.stage != "active":
            raise Invalid(
                f"experiment {experiment.id} is deleted", why="nothing is logged to it any more", fix="restore it"
            )
        for origin, spans in found:
            self._ws.traces.add_spans(experiment.id, spans, origin=origin)
        if run := headers.get("x-mlflow-run-id"):
            self._ws.runs.require_owner(run)
            self._ws.traces.link(sorted({one.trace for _, spans in found for one in spans}), run)
        return kind


def _read(kind: str, data: bytes) -> dict[str, Any]:
    try:
        if kind == PROTOBUF:
            return protobuf.request(data)
        found = json.loads(data)
        if not isinstance(found, dict):
            raise ValueError("it is no object")
        return found
    except (ValueError, RecursionError) as error:
        raise Invalid(
            f"the spans cannot be read: {str(error)[:200]}",
            why="the body is no ExportTraceServiceRequest",
            fix="send what an OTLP exporter sends",
        ) from error


def _unpacked(body: bytes, encoding: str) -> bytes:
    wanted = encoding.strip().lower()
    if wanted in ("", "identity"):
        return body
    if wanted not in ("gzip", "deflate"):
        raise Invalid(f"the encoding {encoding[:40]!r}", why="bodies are plain, gzip or deflate", fix="use gzip")
    reader = zlib.decompressobj(wbits=31 if wanted == "gzip" else 15)
    try:
        data = reader.decompress(body, MOST_BYTES + 1)
        if reader.unconsumed_tail or len(data) > MOST_BYTES:
            raise _large()
        if not reader.eof:
            raise zlib.error("it ends too early")
    except zlib.error as error:
        raise Invalid(f"the body is no {wanted}: {error}", why="it cannot be unpacked", fix="send it again") from error
    return data


async def _body(receive: Receive) -> bytes | None:
    """The whole body; null when the client went away."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BYTES:
            raise _large()
        more = message.get("more_body", False)
    return b"".join(parts)


def _large() -> Invalid:
    return Invalid(f"more than {MOST_BYTES:,} bytes", why="a request holds no more", fix="send smaller batches")


def _said(code: str, message: str) -> bytes:
    return json.dumps({"error_code": code, "message": message}).encode()


async def _send(send: Send, status: int, body: bytes, kind: str = JSON) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
