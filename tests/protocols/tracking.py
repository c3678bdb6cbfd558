"""A server for tracking clients on a free port, in a thread of the test."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from loopline.interfaces.asgi import tracking
from loopline.interfaces.http.guard import Access
from loopline.interfaces.http.listening import Server, config
from loopline.workspace import Workspace

API = "/api/2.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts"


class Reply(NamedTuple):
    """An answer, read whole."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """The address of a server, and plain requests to it."""

    def __init__(self, port: int, ws: Workspace | None = None) -> None:
        self.port, self._ws = port, ws

    @property
    def ws(self) -> Workspace:
        """The workspace behind it, where it is in this process."""
        assert self._ws is not None
        return self._ws

    def send(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
        """One request as it is given."""
        door = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            door.request(method, path, body=body, headers=headers or {})
            reply = door.getresponse()
            return Reply(reply.status, reply.read(), {k.lower(): v for k, v in reply.getheaders()})
        finally:
            door.close()

    def call(self, path: str, method: str = "POST", **fields: Any) -> Reply:
        """An operation with a JSON body."""
        told = {"content-type": "application/json"}
        return self.send(method, API + path, json.dumps(fields).encode(), told)

    def run(self) -> str:
        """The id of a new run."""
        return str(self.call("runs/create", experiment_id="0").json["run"]["info"]["run_id"])

    def raw(self, data: bytes) -> socket.socket:
        """A connection on which `data` was sent."""
        found = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        found.sendall(data)
        return found


@contextmanager
def served(ws: Workspace, *, token: str | None = None) -> Iterator[Served]:
    """A server of `ws` until the block ends."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    ready = threading.Event()
    server = Server(
        config(tracking(ws, Access.at("127.0.0.1", port, token=token)), host="127.0.0.1", port=port), ready.set
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield Served(port, ws)
    finally:
        server.should_exit = True
        thread.join(20)


def until(true: Any, patience_s: float = 10.0) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
