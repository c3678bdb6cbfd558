"""A small project in a real workspace; what it does to the world goes to a receiver outside."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from loopline import registry
from loopline.loop import engine, facts
from loopline.loop.effects import Patience
from loopline.loop.project import Project
from loopline.retraining.nouns import Transition
from loopline.testing.loops import (
    Receiver,
    opened,
    small_project,
    small_workspace,
    webhooks,
)

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
AT_ONCE = Patience(tries=3, first_pause_s=0.0)


class World:
    """A small project, its workspace, and the receiver of its effects."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.folder, self.receiver = folder, receiver
        self.declare(webhooks(receiver.url))
        small_workspace(self.project)
        self.ws = opened(self.project, receiver.url)

    def declare(self, adapters: dict[str, dict[str, Any]], **how: Any) -> None:
        self.project: Project = small_project(self.folder, adapters, **how)

    def propose(self, **how: Any) -> None:
        number = facts.loop_doc(self.ws, "small")[0].get("cycles", 0)
        engine.propose(self.ws.acting_as("user:scientist"), self.project, reason=f"idea {number}", **how)

    def tick(self) -> list[str]:
        return [t.after for t in engine.tick(self.ws, self.project, patience=AT_ONCE)]

    def approve(self) -> None:
        registry.approve(self.ws.acting_as("user:ada"), self.cycle.changes["version"], reason="fine")

    def later(self, by: timedelta) -> None:
        engine.set_clock(self.ws, to=self.ws.clock() + by)

    def command(self, do: str) -> None:
        engine.command(self.ws.acting_as("user:ada"), self.project, do=do)

    @property
    def cycle(self) -> Any:
        return facts.current_cycle(self.ws, "small")

    @property
    def last(self) -> Transition:
        return engine.history(self.ws, self.project, limit=1)[0]

    def sent(self, kind: str) -> list[dict[str, Any]]:
        return [d.args for d in self.receiver.deliveries if d.kind == kind]

    def release(self) -> None:
        """One model is in service."""
        self.propose()
        self.tick()
        self.approve()
        assert self.tick()[-1] == "PROMOTED"


def shares(request: dict[str, Any]) -> list[tuple[int, str, int]]:
    return [(v["number"], v["role"], v["share"]) for v in request["variants"]]
