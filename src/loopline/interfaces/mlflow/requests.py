"""A request as the server brings it: what a way of its own needs to answer it, and the answers' bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from loopline.interfaces.mlflow.operations import Call

T = TypeVar("T")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Request:
    """A request that reads or answers in pieces, such as one for a file."""

    call: Call
    scope: Message
    receive: Receive
    send: Send
    threads: Executor

    async def aside(self, work: Callable[[], T]) -> T:
        """Do what may wait for the disk in a thread."""
        return await aside(self.threads, work)

    async def answer(self, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Answer at once."""
        await send_whole(self.send, status, body, headers or (JSON,))


async def aside(threads: Executor, work: Callable[[], T]) -> T:
    """Do what may wait for the disk in one of `threads`."""
    return await asyncio.get_running_loop().run_in_executor(threads, work)


async def send_whole(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """An answer whose body is known as a whole."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
