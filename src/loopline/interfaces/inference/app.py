"""Everything on the inference port that is no plain inference request: ordinary ASGI."""

from __future__ import annotations

import json
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from loopline.base import settings
from loopline.interfaces.inference import messages, oip
from loopline.interfaces.inference.protocol import MOST_BYTES, Turn
from loopline.serving.calls import Refused
from loopline.serving.inputs import shown_range
from loopline.serving.route import Route
from loopline.training.bundle import Input

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Answer = tuple[int, bytes, list[tuple[bytes, bytes]]]

JSON = (b"content-type", b"application/json")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


class App:
    """Metadata, health, metrics, and inference with special headers."""

    def __init__(self, turn: Turn, metrics: Path) -> None:
        self._turn, self._metrics = turn, metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            status, body, headers = await self._answer(scope, receive)
        except Refused as refusal:
            status, body, headers = refusal.status, messages.error_body(refusal.text), [JSON]
        headers = [*headers, (b"content-length", str(len(body)).encode())]
        if self._turn.draining or status == 413:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Message, receive: Receive) -> Answer:
        _same_origin(dict(scope["headers"]))
        method, path = scope["method"], scope["path"].rstrip("/") or "/"
        parts = path.strip("/").split("/")
        endpoint = self._turn.engine.endpoint
        if parts[0] == "v2" and len(parts) > 2 and parts[1] == "models":
            if parts[2] != endpoint:
                raise Refused(404, f"there is no model {parts[2]!r} here; this server answers for {endpoint!r}")
            rest = parts[3:]
            if rest[:1] == ["versions"] and len(rest) > 1:
                self._check_version(rest[1])
                rest = rest[2:]
            if rest == ["infer"]:
                _allow(method, "POST")
                return await self._infer(scope, receive)
            _allow(method, "GET", "HEAD")
            if not rest:
                return _json(self._metadata())
            if rest == ["ready"]:
                return self._ready({"name": endpoint})
            raise Refused(404, f"there is no {path}")
        if path == "/invocations":
            _allow(method, "POST")
            return await self._plain(scope, receive, self._turn.paths[b"/invocations"])
        if parts[0] == "predict" and len(parts) == 2:
            if parts[1] != endpoint:
                raise Refused(404, f"there is no endpoint {parts[1]!r} here; this server answers for {endpoint!r}")
            _allow(method, "POST")
            return await self._plain(scope, receive, self._turn.paths[f"/predict/{endpoint}".encode()])
        pages: dict[str, Callable[[], Answer]] = {
            "/v2": lambda: _json({"name": "loopline", "version": "2", "extensions": oip.EXTENSIONS}),
            "/v2/health/live": lambda: _json({"live": True}),
            "/v2/health/ready": lambda: self._ready({}),
            "/health": lambda: self._ready({"status": "ok", "endpoint": endpoint, "generation": self._generation()}),
            "/ping": lambda: self._ready({}),
            "/metrics": self._metrics_text,
        }
        if path not in pages:
            raise Refused(404, f"there is no {path}")
        _allow(method, "GET", "HEAD")
        return pages[path]()

    async def _plain(self, scope: Message, receive: Receive, read: Any) -> Answer:
        call, reply = read(self._turn.reader, await _body(scope, receive))
        self._turn.engine.answer([call])
        if call.refused is not None:
            raise call.refused
        return 200, reply(), [JSON]

    async def _infer(self, scope: Message, receive: Receive) -> Answer:
        given = dict(scope["headers"]).get(b"inference-header-content-length")
        if given is not None and not given.isdigit():
            raise Refused(400, "Inference-Header-Content-Length is no number")
        inference = oip.read(self._turn.reader, await _body(scope, receive), None if given is None else int(given))
        self._turn.engine.answer([inference.call])
        if inference.call.refused is not None:
            raise inference.call.refused
        body, length = inference.reply(self._turn.engine.endpoint)
        if length is None:
            return 200, body, [JSON]
        kind = (b"content-type", b"application/octet-stream")
        return 200, body, [kind, (b"inference-header-content-length", str(length).encode())]

    def _check_version(self, version: str) -> None:
        route = self._turn.engine.route
        number = None if route is None else str(route.champion.variant.number)
        if version != number:
            raise Refused(404, f"version {version} is not the one that is served; that is {number}")

    def _metadata(self) -> dict[str, Any]:
        route = self._turn.engine.route
        if route is None:
            raise Refused(404, f"nothing is deployed at {self._turn.engine.endpoint!r} yet")
        kinds = oip.known_inputs(route)
        return {
            "name": self._turn.engine.endpoint,
            "versions": [str(item.variant.number) for item in route.loaded if item.variant.share],
            "platform": "loopline",
            "inputs": [
                {"name": name, "datatype": kinds[name], "shape": [-1], "parameters": more}
                for name, more in _asked(route, kinds).items()
            ],
            "outputs": [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in oip.OUTPUTS.items()],
        }

    def _ready(self, more: dict[str, Any]) -> Answer:
        ready = self._turn.engine.route is not None and not self._turn.draining
        return (200 if ready else 503), messages.json_body({**more, "ready": ready}), [JSON]

    def _generation(self) -> int | None:
        route = self._turn.engine.route
        return None if route is None else route.generation

    def _metrics_text(self) -> Answer:
        try:
            totals = json.loads(self._metrics.read_bytes())
        except (FileNotFoundError, ValueError):
            totals = {}
        lines = []
        for name, value in totals.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines.append(f"# TYPE loopline_{name} {kind}")
            lines.append(f'loopline_{name}{{endpoint="{self._turn.engine.endpoint}"}} {value}')
        return 200, ("\n".join(lines) + "\n").encode(), [(b"content-type", b"text/plain; version=0.0.4")]


def _asked(route: Route, kinds: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What a request brings, and what is known of it: the inputs, or the columns that they are made from."""
    if route.desired.online:
        return {name: {} for name in kinds}
    return {i.name: {"nullable": i.nullable, **_range(i)} for i in _inputs_of(route)}


def _inputs_of(route: Route) -> list[Input]:
    """What clients must send: the champion's inputs, then those that other answering versions read too."""
    answering = [route.champion, *(loaded for _, loaded in route.canaries)]
    named = {i.name: i for loaded in reversed(answering) for i in loaded.inputs.inputs}
    return [named[name] for name in dict.fromkeys(i.name for loaded in answering for i in loaded.inputs.inputs)]


def _range(spec: Any) -> dict[str, Any]:
    if spec.kind == "category":
        return {"categories": len(spec.categories)}
    found = shown_range(spec)
    return {} if found is None else {"low": found[0], "high": found[1]}


def _json(doc: dict[str, Any]) -> Answer:
    return 200, messages.json_body(doc), [JSON]


def _allow(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise Refused(405, f"{method} is not allowed here; use {' or '.join(allowed)}")


def _same_origin(headers: dict[bytes, bytes]) -> None:
    """Refuse what a foreign web page sends through a browser, also under a name that it made point here.

    A page's POST always carries an Origin; its other requests at least a Host.
    """
    host, origin = headers.get(b"host", b"").lower(), headers.get(b"origin")
    if origin is not None and origin.lower().split(b"://")[-1] != host:
        raise Refused(403, "requests from other web pages are refused")
    if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
        raise Refused(403, "requests from other web pages are refused")
    name = host.decode("latin-1").rpartition(":")[0] if b":" in host.split(b"]")[-1] else host.decode("latin-1")
    if host and name not in LOOPBACK and name not in settings.host_names():
        raise Refused(403, f"this server is not called {name!r}; set LOOPLINE_HOSTS to the names it has")


async def _body(scope: Message, receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the connection ended within the body")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BYTES:
            raise Refused(413, f"the body has more than {MOST_BYTES:,} bytes")
        if not message.get("more_body"):
            break
    body = b"".join(parts)
    encoding = dict(scope["headers"]).get(b"content-encoding", b"identity").lower()
    if encoding in (b"gzip", b"deflate"):
        return _inflate(body, 47 if encoding == b"gzip" else 15)
    if encoding != b"identity":
        raise Refused(415, f"content-encoding {encoding.decode('latin-1')} is unknown; use gzip or deflate")
    return body


def _inflate(body: bytes, window: int) -> bytes:
    inflater = zlib.decompressobj(window)
    try:
        plain = inflater.decompress(body, MOST_BYTES)
    except zlib.error as error:
        raise Refused(400, f"the body cannot be unpacked: {error}") from error
    if inflater.unconsumed_tail:
        raise Refused(413, f"the body unpacks to more than {MOST_BYTES:,} bytes")
    if not inflater.eof:
        raise Refused(400, "the packed body is cut off")
    return plain
