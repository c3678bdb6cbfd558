"""How connections are met: each answer leaves in one write, and at once.

uvicorn writes head and body of an answer by themselves; with Nagle's algorithm on, the second then waits 40 ms for
the first to be acknowledged.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from loopline.base.errors import Conflict, Invalid

HOST = "127.0.0.1"
HIGHEST_PORT = 65_535
GATHERED = 64 * 1024
KEEP_ALIVE_S = 75


def require_free(port: int, what: str, *, pair: bool = True) -> None:
    """Say now, in words, that a port is taken, or is none; `pair` where the next one is used too."""
    use = " (N and N+1 are used)" if pair else ""
    if not 0 < port <= HIGHEST_PORT:
        raise Invalid(
            f"port {port} for {what} does not exist",
            why=f"ports are 1 to {HIGHEST_PORT:,}",
            fix=f"choose one with --port N{use}",
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise Conflict(
                f"port {port} for {what} is in use",
                why=f"another program listens on {HOST}:{port}",
                fix=f"stop it, or choose another with --port N{use}",
            ) from error


class Gathering:
    """A transport that sends what one turn of the event loop writes at once."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Have `data` sent at the end of this turn; at once when much has come together."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size >= GATHERED:
            self.flush()

    def flush(self) -> None:
        """Send what was gathered."""
        if self._parts:
            parts, self._parts, self._size = self._parts, [], 0
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def close(self) -> None:
        """Send what was gathered, and close."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class OneWrite(HttpToolsProtocol):
    """uvicorn's protocol over such a transport, on a connection that waits for no acknowledgement."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        found = transport.get_extra_info("socket")
        if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(Gathering(transport, self.loop))  # type: ignore[arg-type]


def config(app: Any, *, host: str, port: int) -> uvicorn.Config:
    """How every server of the control plane listens."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=OneWrite,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=5,
    )


Ready = Callable[[], None]


class Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Ready) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
