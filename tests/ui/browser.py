"""A real server for a real browser."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import uvicorn

from loopline.interfaces.asgi import application
from loopline.loop.project import Project
from loopline.workspace import Workspace

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextlib.contextmanager
def served(ws: Workspace, project: Project) -> Iterator[str]:
    """The address of the application, really served."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(64)
        port = door.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(application(ws, project, port=port), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join(timeout=10)
