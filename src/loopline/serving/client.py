"""A lean client for `POST /predict/<endpoint>`: a few kept connections, one request each at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from loopline.base.errors import Unavailable

RETRIES = 20
"""Times a request is sent again after its connection broke: about ten seconds."""


@dataclass(frozen=True, slots=True)
class Request:
    """One row to be answered."""

    row: Mapping[str, Any]
    id: str | None = None
    entity: str | None = None
    decision_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: `error` is set where `status` is not 200."""

    status: int
    id: str | None = None
    score: float | None = None
    version: str | None = None
    fallback: str | None = None
    error: str | None = None


class _Body(msgspec.Struct, omit_defaults=True, gc=False):
    rows: list[Mapping[str, Any]]
    ids: list[str] | None = None
    entities: list[str] | None = None
    decision_times: list[datetime] | None = None


class _Answer(msgspec.Struct, gc=False):
    predictions: list[float | None] = []
    ids: list[str] = []
    version: str | None = None
    fallbacks: list[str | None] | None = None
    error: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Answer).decode


class _Connection(asyncio.Protocol):
    """Asks a batch for the next request whenever one is answered, until the batch has no more."""

    def __init__(self) -> None:
        self._buffer = b""
        self._task: tuple[int, bytes] | None = None
        self.open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def work(self, batch: _Batch, task: tuple[int, bytes]) -> asyncio.Future[tuple[int, bytes] | None]:
        """Send `task`, then what the batch gives; done with null when it gives no more, or with what was lost."""
        self._batch, self._task = batch, task
        self._free: asyncio.Future[tuple[int, bytes] | None] = asyncio.get_running_loop().create_future()
        self._transport.write(task[1])
        return self._free

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        head = data.find(b"\r\n\r\n")
        if head < 0:
            self._buffer = data
            return
        at = data.find(b"content-length: ", 0, head) + 16
        end = head + 4 + int(data[at : data.index(b"\r", at)])
        if len(data) < end:
            self._buffer = data
            return
        self._buffer = data[end:]
        if self._task is None:  # nobody asked: the server says good-bye
            self._transport.close()
            return
        self._batch.done(self._task[0], int(data[9:12]), data[head + 4 : end])
        self._task = None
        if data.find(b"connection: close", 0, head) >= 0:
            self._transport.close()
            return
        self._task = self._batch.next()
        if self._task is None:
            self._free.set_result(None)
        else:
            self._transport.write(self._task[1])

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        task, self._task = self._task, None
        if hasattr(self, "_free") and not self._free.done():
            self._free.set_result(task)

    def close(self) -> None:
        self._transport.close()


class _Batch:
    """Requests on their way, and their answers in order."""

    def __init__(self, head: bytes, requests: Iterator[Request]) -> None:
        self._head, self._requests = head, enumerate(requests)
        self.responses: dict[int, Response] = {}

    def next(self) -> tuple[int, bytes] | None:
        for place, request in self._requests:
            body = _encode(
                _Body(
                    [request.row],
                    None if request.id is None else [request.id],
                    None if request.entity is None else [request.entity],
                    None if request.decision_time is None else [request.decision_time],
                )
            )
            return place, b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        return None

    def done(self, place: int, status: int, body: bytes) -> None:
        try:
            answer = _decode(body)
        except msgspec.DecodeError:
            answer = _Answer(error=body.decode(errors="replace"))
        if status == 200:
            fallback = answer.fallbacks[0] if answer.fallbacks else None
            made = Response(200, answer.ids[0], answer.predictions[0], answer.version, fallback)
        else:
            made = Response(status, error=answer.error)
        self.responses[place] = made


class Client:
    """Sends rows to one endpoint.

    A request whose connection breaks is sent again; give it an `id`, so that it
    is logged once whichever of the two was answered.

    Parameters
    ----------
    port : int
        Of the inference server.
    endpoint : str
        Its endpoint.
    host : str
        Its address.
    connections : int
        Requests on their way at any time, each on a connection of its own.
    """

    def __init__(self, port: int, endpoint: str, *, host: str = "127.0.0.1", connections: int = 16) -> None:
        self._host, self._port, self._connections = host, port, connections
        self._head = (
            f"POST /predict/{endpoint} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
            "content-length: "
        ).encode()

    async def send(self, requests: Iterable[Request]) -> list[Response]:
        """Send every request; their answers in the same order.

        `requests` is read as connections come free, so a generator may be long.

        Raises
        ------
        Unavailable
            If nobody answers at all for about ten seconds.
        """
        kept: list[_Connection] = []
        try:
            return await self._send(requests, kept)
        finally:
            for connection in kept:
                connection.close()

    async def _send(self, requests: Iterable[Request], kept: list[_Connection]) -> list[Response]:
        """Send over `kept` connections first; those that are free afterwards lie there again."""
        batch = _Batch(self._head, iter(requests))
        await asyncio.gather(*(self._work(batch, kept) for _ in range(self._connections)))
        return [batch.responses[place] for place in sorted(batch.responses)]

    async def _work(self, batch: _Batch, kept: list[_Connection]) -> None:
        task, tries = batch.next(), 0
        while task is not None:
            connection = kept.pop() if kept else await self._connect()
            if connection is None:
                tries += 1
                if tries > RETRIES:
                    raise Unavailable(
                        f"nobody answers at {self._host}:{self._port}",
                        why="no connection can be made",
                        fix="start the server: loopline up",
                    )
                await asyncio.sleep(min(0.05 * tries, 1.0))
                continue
            if not connection.open:
                continue
            before = len(batch.responses)
            task = await connection.work(batch, task)
            tries = 0 if len(batch.responses) > before else tries + 1
            if tries > RETRIES:
                raise Unavailable(
                    f"{self._host}:{self._port} breaks every connection",
                    why="the server ends before it answers",
                    fix="look at what the server wrote to its error stream",
                )
            if connection.open:
                kept.append(connection)
            task = task or batch.next()

    async def _connect(self) -> _Connection | None:
        try:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, self._host, self._port)
        except OSError:
            return None
        return connection

    def replay(self, requests: Iterable[Request]) -> list[Response]:
        """As `send`, from code that is not asynchronous."""
        with self.session() as session:
            return session.send(requests)

    def session(self) -> Session:
        """Connections that stay open between one batch and the next, for code that is not asynchronous."""
        return Session(self)


class Session:
    """Sends batches over the same connections; close it, or use it in a `with` block."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kept: list[_Connection] = []
        try:
            import uvloop
        except ImportError:
            self._runner = asyncio.Runner()
        else:
            self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)

    def send(self, requests: Iterable[Request]) -> list[Response]:
        """Send every request, and return when all are answered; see `Client.send`."""
        return self._runner.run(self._client._send(requests, self._kept))

    def close(self) -> None:
        """Close the connections."""
        for connection in self._kept:
            connection.close()
        self._runner.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
