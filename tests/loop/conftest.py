"""The small world that tests of the loop share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.loop.world import World

from loopline.base.clock import ManualClock
from loopline.loop.project import load
from loopline.testing.loops import (
    START,
    Elsewhere,
    Receiver,
    answers,
    small_project,
    small_workspace,
    webhooks,
)
from loopline.workspace import FOLDER, open_workspace


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Receiver(answers()) as receiver:
        made = World(tmp_path / "small", receiver)
        yield made
        made.ws.close()


@pytest.fixture
def today(tmp_path: Path) -> Iterator[World]:
    """A small world that no replay has taken into the past, windows of a day, its clock in the test's hand."""
    with Receiver(answers()) as receiver:
        project = small_project(tmp_path / "small", webhooks(receiver.url))
        page = project.file.read_text().replace("3650d", "1d")
        project.file.write_text(page)
        small_workspace(project, at=None)
        made = World.__new__(World)
        made.folder, made.receiver, made.project = project.root, receiver, load(project.root)
        made.ws = open_workspace(project.root / FOLDER, actor="service:loop", clock=ManualClock(START))
        made.ws.stores._open["compute"] = Elsewhere(made.ws.root, receiver.url)
        yield made
        made.ws.close()
