"""A real server for a real browser."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import uvicorn

from loopline.interfaces.asgi import application
from loopline.loop.project import Project
from loopline.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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


def broken_rules(browser: Browser, home: str, paths: Iterable[str], script: str) -> list[str]:
    """What axe (its `script`) finds on pages of a small screen in light and dark; none of them may be too wide."""
    faults: list[str] = []
    for scheme in ("light", "dark"):
        page = browser.new_context(
            color_scheme=scheme, bypass_csp=True, viewport={"width": 420, "height": 800}
        ).new_page()
        for path in paths:
            page.goto(home + path)
            spare = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert spare <= 0, f"{path} is {spare} px too wide"
            page.evaluate(script)
            broken = page.evaluate("axe.run(document)")
            faults += [
                f"{scheme} {path}: {rule['id']} {rule['nodes'][0]['html'][:80]}" for rule in broken["violations"]
            ]
        page.close()
    return faults
