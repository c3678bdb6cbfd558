"""The one door: who may speak to the control plane, decided before anything else runs."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loopline.base.errors import Denied

BODY_LIMIT = 4 * 1024 * 1024
HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


_WORN = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
_API = [*_WORN, (b"cache-control", b"no-store")]
_NAMES, _API_NAMES = ({name for name, _ in worn} for worn in (_WORN, _API))


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in.

    On loopback no login is needed, but Host must be one of `hosts`, exactly, and
    a browser must come from one of them too. With a token every request needs it,
    as a bearer or as the password of HTTP basic authentication.
    """

    hosts: frozenset[str]
    token: str | None = None

    @classmethod
    def at(cls, host: str, port: int, *, token: str | None = None, names: tuple[str, ...] = ()) -> Access:
        """The access of a server on `host`; `names` are further names that people type.

        Raises
        ------
        Denied
            If `host` can be reached from elsewhere and there is no token.
        """
        local = _loopback(host)
        if not local and not token:
            raise Denied(
                f"{host}:{port} is open to others",
                why="only loopback is served without authentication",
                fix="bind 127.0.0.1, or give a token of at least 16 characters",
            )
        if token is not None and len(token) < 16:
            raise Denied("the token is too short", why="it would be guessed", fix="give at least 16 characters")
        every = {"127.0.0.1", "localhost", "[::1]"} if local else {f"[{host}]" if ":" in host else host}
        every |= set(names)
        spoken = {f"{name.lower()}:{port}" for name in every}
        return cls(frozenset(spoken | ({name.lower() for name in every} if port == 80 else set())), token)

    def refusal(self, headers: Mapping[str, list[str]]) -> tuple[int, str, str] | None:
        """Status, what and why, when a request with these headers is not let in."""
        host = headers.get("host", [])
        if len(host) != 1 or host[0].lower() not in self.hosts:
            return (
                421,
                "this host name is not served here",
                "the Host header must be one of the names it was started with",
            )
        allowed = {f"{scheme}://{name}" for scheme in ("http", "https") for name in self.hosts}
        if any(origin.lower() not in allowed for origin in headers.get("origin", [])):
            return 403, "requests from another site are refused", "the Origin header names another site"
        if any(site not in ("same-origin", "none") for site in headers.get("sec-fetch-site", [])):
            return 403, "requests from another site are refused", "the Sec-Fetch-Site header names another site"
        if self.token is not None and not self._known(headers.get("authorization", [])):
            return 401, "a token is needed", "this server can be reached by others"
        return None

    def _known(self, given: list[str]) -> bool:
        if len(given) != 1 or self.token is None:
            return False
        scheme, _, value = given[0].partition(" ")
        if scheme.lower() == "basic":
            try:
                value = base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(value.strip().encode(), self.token.encode())


Refused = Callable[[int, str, str, str], bytes]
"""From status, what, why and fix to the body of a refusal."""


@dataclass(frozen=True, slots=True)
class Way:
    """Paths whose clients read refusals in a shape of their own, and whose door counts bytes by itself."""

    prefixes: tuple[str, ...]
    refused: Refused


class Guard:
    """Stands around everything that is mounted: access, size of bodies, headers of answers."""

    def __init__(self, app: ASGIApp, access: Access, ways: Sequence[Way] = ()) -> None:
        self._app, self._access, self._ways = app, access, tuple(ways)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        path = scope.get("path", "")
        way = next((way for way in self._ways if path.startswith(way.prefixes)), None)
        refusal = self._access.refusal(headers) or (None if way else _too_large(headers))
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "no websockets are served here"})
        elif refusal is not None:
            await _refuse(*refusal, send=_dressed(send, scope), refused=way.refused if way else _error)
        else:
            await self._app(scope, receive if way else _limited(receive), _dressed(send, scope))


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _too_large(headers: Mapping[str, list[str]]) -> tuple[int, str, str] | None:
    for length in headers.get("content-length", []):
        if not length.isdigit() or int(length) > BODY_LIMIT:
            return 413, "the body is too large", f"at most {BODY_LIMIT // 1024} kB are read"
    return None


class BodyTooLarge(Exception):
    """A body without length went on beyond the limit."""


def _limited(receive: Receive) -> Receive:
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > BODY_LIMIT:
            raise BodyTooLarge
        return message

    return limited


def _dressed(send: Send, scope: Scope) -> Send:
    """Answers carry the security headers, whoever made them; those of the API are not kept."""
    api = scope.get("path", "").startswith(("/api/", "/ajax-api/"))
    extra, own = (_API, _API_NAMES) if api else (_WORN, _NAMES)

    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(n, v) for n, v in message.get("headers", []) if n.lower() not in own]
            message = {**message, "headers": [*kept, *extra]}
        await send(message)

    return dressed


def _error(status: int, what: str, why: str, fix: str) -> bytes:
    error = {"code": "denied" if status != 413 else "invalid", "what": what, "why": why, "fix": fix}
    return json.dumps({"error": error}).encode()


async def _refuse(status: int, what: str, why: str, *, send: Send, refused: Refused) -> None:
    fix = {401: "send `Authorization: Bearer <token>`", 413: "send less"}.get(
        status, "open the address that `loopline up` printed"
    )
    body = refused(status, what, why, fix)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="loopline", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
