"""The pages of a small project, over records written as the loop writes them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.ui.world import NOW

from loopline.base.clock import ManualClock
from loopline.interfaces.asgi import application
from loopline.loop.project import Project, load
from loopline.workspace import FOLDER, Workspace, create_workspace

WORLD = Path(__file__).parent.parent / "worlds" / "parcels"
HOME = "http://127.0.0.1:8400"

Get = Callable[..., httpx.Response]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    shutil.copytree(WORLD, tmp_path / "parcels", ignore=shutil.ignore_patterns("__pycache__"))
    return load(tmp_path / "parcels")


@pytest.fixture
def ws(project: Project) -> Iterator[Workspace]:
    made = create_workspace(project.root / FOLDER, clock=ManualClock(NOW), actor="user:ada")
    yield made
    made.close()


@pytest.fixture
def get(ws: Workspace, project: Project) -> Get:
    """`get("/worth")`: the answer of the whole application, its guard included."""
    return asking(ws, project)


def asking(ws: Workspace, project: Project) -> Get:
    """As `get`, of any project."""
    app = application(ws, project)

    def ask(path: str, **headers: str) -> httpx.Response:
        async def one() -> httpx.Response:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url=HOME) as client:
                return await client.get(path, headers={"accept": "text/html", **headers})

        return asyncio.run(one())

    return ask
