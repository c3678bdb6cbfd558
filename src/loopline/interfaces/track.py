"""`loopline track`: the run log of a workspace for tracking clients, without a project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loopline.base import settings
from loopline.interfaces.http.guard import Access
from loopline.interfaces.http.listening import HOST, Server, config, require_free
from loopline.interfaces.http.seats import seated
from loopline.workspace import create_workspace


def track(
    root: Path,
    *,
    port: int,
    host: str = HOST,
    beside: bool = False,
    say: Callable[[str], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the workspace in `root`, made if there is none, until interrupted; `warn` is told of other servers.

    Raises
    ------
    Conflict
        If another process serves the workspace and `beside` is false, or if the port is in use.
    Denied
        If `host` is open to others and `LOOPLINE_TOKEN` is not set.
    """
    from loopline.interfaces.asgi import tracking

    access = Access.at(host, port, token=settings.token(), names=tuple(settings.host_names()))
    address = f"http://{host}:{port}"
    ws = create_workspace(root)
    try:
        with seated(ws.root, address, beside=beside, say=warn):
            require_free(port, "tracking clients", pair=False)
            _ = ws.artifacts
            ws.runs.compact_later()
            app = tracking(ws, access)
            Server(config(app, host=host, port=port), lambda: say(address)).run()
    finally:
        ws.close()
