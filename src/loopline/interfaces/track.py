"""`loopline track`: the run log of a workspace for tracking clients, without a project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loopline.base import settings
from loopline.interfaces.http.guard import Access
from loopline.interfaces.http.listening import HOST, Server, config, require_free
from loopline.workspace import create_workspace


def track(root: Path, *, port: int, host: str = HOST, say: Callable[[str], None] = lambda _: None) -> None:
    """Serve the workspace in `root`, made if there is none, until interrupted.

    Raises
    ------
    Conflict
        If the port is in use.
    Denied
        If `host` is open to others and `LOOPLINE_TOKEN` is not set.
    """
    from loopline.interfaces.asgi import tracking

    access = Access.at(host, port, token=settings.token(), names=tuple(settings.host_names()))
    require_free(port, "tracking clients", pair=False)
    ws = create_workspace(root)
    _ = ws.artifacts
    ws.runs.compact_later()
    app = tracking(ws, access)
    try:
        Server(config(app, host=host, port=port), lambda: say(f"http://{host}:{port}")).run()
    finally:
        ws.close()
