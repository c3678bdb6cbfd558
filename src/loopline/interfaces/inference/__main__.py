"""`python -m loopline.interfaces.inference`: serve one endpoint of a workspace."""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
from pathlib import Path

from loopline.base.errors import Denied, LooplineError, Unavailable
from loopline.interfaces.inference.children import Orphans
from loopline.interfaces.inference.supervisor import Supervisor
from loopline.serving.state import FolderSource, Place, write_atomic
from loopline.workspace import open_workspace

LOOPBACK = ("127.0.0.1", "::1", "localhost")
BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """The one listening socket that all workers share.

    Raises
    ------
    Denied
        For an address that others can reach: nobody would be asked who they are.
    Unavailable
        If the port is taken.
    """
    if host not in LOOPBACK:
        raise Denied(
            f"{host} can be reached by others",
            why="the inference server asks nobody who they are",
            fix="bind 127.0.0.1 and put a proxy that authenticates before it",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, port))
    except OSError as error:
        door.close()
        raise Unavailable(
            f"port {port} is in use",
            why=f"another program listens there ({error.strerror})",
            fix="choose another with --port, or stop that program",
        ) from error
    door.listen(BACKLOG)
    return door


def main() -> int:
    """Run until told to stop; 0 after a clean end, 1 with one clear error."""
    parser = argparse.ArgumentParser(prog="python -m loopline.interfaces.inference", description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True, help="the folder .loopline of a project")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8401, help="0 takes a free one")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        ws = open_workspace(given.workspace, actor="service:inference")
        place = Place(ws.root, given.endpoint)
        supervisor = Supervisor(ws, place, FolderSource(place), max(given.workers, 1))
        orphans = Orphans(place)
        listener = orphans.listener
        if listener is None or (given.port and listener.getsockname()[1] != given.port):
            listener = listen(given.host, given.port)
        port = listener.getsockname()[1]
        about = {"endpoint": given.endpoint, "host": given.host, "port": port, "pid": os.getpid()}
        write_atomic(place.run / f"inference-{given.endpoint}.json", json.dumps(about).encode())
        print(json.dumps(about), flush=True)
        supervisor.run(listener, orphans)
    except LooplineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
