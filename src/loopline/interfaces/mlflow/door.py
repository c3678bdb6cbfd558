"""The door itself: one ASGI application that answers every path of the tracking protocol."""

from __future__ import annotations

import base64
import binascii
import functools
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from loopline import __version__
from loopline.base.clock import Clock, SystemClock
from loopline.base.errors import LooplineError
from loopline.base.log import logger
from loopline.interfaces.mlflow import (
    datasets,
    experiments,
    files,
    metrics,
    models,
    registry,
    registry_versions,
    runs,
    traces,
)
from loopline.interfaces.mlflow.errors import BUG, INVALID, NO_ENDPOINT, Cut, Refusal, Shaped
from loopline.interfaces.mlflow.operations import SPOKEN, Ask, Call, Empty, Encoder, Operation, Table, decoded
from loopline.interfaces.mlflow.requests import JSON, Message, Receive, Request, Send, aside, send_whole
from loopline.workspace import Workspace, authorise

log = logger(__name__)

BELOW = ("/api/2.0", "/api/3.0", "/ajax-api/2.0", "/ajax-api/3.0")
ALONE = ("/version",)
"""Where the door is mounted: everything below some paths, and single ones."""
MOST_BYTES = 16 * 1024 * 1024
THREADS = 8
_PLACE = re.compile(r"/(?:ajax-)?api/[23]\.0/mlflow(?P<files>-artifacts)?/(?P<path>.*)", re.DOTALL)
_WHO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,60}")
_SAID = (b"x-loopline-version", __version__.encode())


def server_info(call: Call, ask: Ask) -> dict[str, Any]:
    """What clients ask before they choose a way: nothing here but the plain one."""
    return {
        "store_type": None,
        "workspaces_enabled": False,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": False,
        "multipart_downloads_enabled": False,
        "presigned_upload_run_id_supported": False,
        "presigned_upload_model_id_supported": False,
        "features_enabled": {"gateway": False},
    }


OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "server-info", Empty, server_info, "training.runs"),
    *experiments.OPERATIONS,
    *runs.OPERATIONS,
    *metrics.OPERATIONS,
    *models.OPERATIONS,
    *files.OPERATIONS,
    *registry.OPERATIONS,
    *registry_versions.OPERATIONS,
    *traces.OPERATIONS,
    *datasets.OPERATIONS,
)


class Door:
    """Answers the stock client out of one workspace.

    Parameters
    ----------
    ws : Workspace
        Whose run log and artifacts it serves. Its actor is who asks, unless the request names a person.
    named : bool
        Whether the name in basic authentication is believed: where the guard asks for a token, its password has
        been checked before.
    clock : Clock, optional
        The machine's by default, whatever time a replay has set: loggers send the machine's time too.
    """

    def __init__(self, ws: Workspace, *, named: bool = False, clock: Clock | None = None) -> None:
        self._ws, self._named, self._clock = ws, named, clock or SystemClock()
        self.table = Table(OPERATIONS)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mlflow")
        self._acting = functools.lru_cache(maxsize=256)(ws.acting_as)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            await self._answer(scope, receive, send)
            return
        except Gone:
            return
        except Cut:
            raise
        except Refusal as error:
            refusal = error
        except LooplineError as error:
            refusal = Shaped(error)
        except Exception:
            log.exception("a request of a tracking client failed")
            refusal = Refusal(BUG, "Loopline stopped on a fault of its own; it is in the log.")
        await send_whole(send, refusal.status, refusal.body(), (JSON, _SAID))

    def call(self, scope: Message) -> Call:
        """Who asks, and when."""
        who = self._actor(scope)
        return Call(self._acting(who or self._ws.actor), int(self._clock().timestamp() * 1000), who is not None)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path == "/version":
            await send_whole(send, 200, SPOKEN.encode(), ((b"content-type", b"text/plain; charset=utf-8"), _SAID))
            return
        place = _PLACE.fullmatch(path)
        if place is None:
            raise _nowhere(method, path)
        if place["files"]:
            await files.serve(Request(self.call(scope), scope, receive, send, self._threads), method, place["path"])
            return
        found = self.table.find(method, place["path"].rstrip("/"))
        if found is None:
            raise _nowhere(method, path)
        operation, below = found
        body = await _body(scope, receive)
        call, query = self.call(scope), scope["query_string"].decode("latin-1")

        def work() -> bytes:
            authorise(call.ws, operation.permission)
            ask = decoded(operation, body, query, below)
            try:
                made = operation.answer(call, ask)
            except LooplineError as error:
                raise Shaped(error, conflict=operation.conflict) from error
            return made if type(made) is bytes else Encoder.encode(made)

        await send_whole(send, 200, await aside(self._threads, work), (JSON,))

    def _actor(self, scope: Message) -> str | None:
        if self._named:
            for name, value in scope["headers"]:
                if name == b"authorization":
                    return _user(value)
        return None


class Gone(Exception):
    """The client went away in the middle of its request."""


@functools.lru_cache(maxsize=256)
def _user(header: bytes) -> str | None:
    """The person that basic authentication names; null for a bearer, or a name that is none."""
    scheme, _, value = header.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        name = base64.b64decode(value.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return None
    return f"user:{name}" if _WHO.fullmatch(name) else None


async def _body(scope: Message, receive: Receive) -> bytes:
    """The whole body of a plain request."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        part = message.get("body", b"")
        size += len(part)
        if size > MOST_BYTES:
            raise Refusal(INVALID, f"The request body has more than {MOST_BYTES:,} bytes; send less.", status=413)
        parts.append(part)
        more = message.get("more_body", False)
    if size and scope["method"] != "GET":
        kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        if kind.partition(b";")[0].strip().lower() != b"application/json":
            raise Refusal(INVALID, "Bad Request. Content-Type must be one of ['application/json'].")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _nowhere(method: str, path: str) -> Refusal:
    return Refusal(NO_ENDPOINT, f"There is no endpoint {method} {path[:200]} here.")
