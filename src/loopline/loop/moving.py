"""The right to move a loop: one process has it at a time, and a dead one loses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopline.base.errors import Conflict
from loopline.base.log import logger
from loopline.base.process import is_gone
from loopline.loop.effects import Patience
from loopline.loop.renewing import Renewing
from loopline.store.records.protocol import Lease
from loopline.workspace import Workspace

if TYPE_CHECKING:
    from loopline.loop.project import Project

log = logger(__name__)


class Held:
    """Keeps a lease while the block runs, and gives it back."""

    def __init__(self, ws: Workspace, lease: Lease, lease_s: float) -> None:
        self._records, self._lease, self._lease_s = ws.records, lease, lease_s
        self._renewing = Renewing(self._renew, lease_s=lease_s)

    def _renew(self) -> None:
        renewed = self._records.lease(self._lease.name, self._lease.owner, lease_s=self._lease_s)
        self._lease = renewed or self._lease

    def __enter__(self) -> None:
        self._renewing.__enter__()

    def __exit__(self, *_: object) -> None:
        self._renewing.__exit__()
        self._records.release(self._lease)


def moving(ws: Workspace, project: Project, owner: str, patience: Patience) -> Held:
    """Hold the loop: one process at a time takes rows in and decides for it."""
    lease = ws.records.lease(f"loop/{project.name}", owner, lease_s=patience.lease_s)
    if lease is None:
        raise Conflict(
            f"the loop {project.name} is being moved by another process",
            why="one process at a time takes rows in and decides for a loop",
            fix="run it again in a moment; `loopline status` shows where it stands",
        )
    return Held(ws, lease, patience.lease_s)


def take_over(ws: Workspace) -> None:
    """Free what dead processes of this host still hold."""
    for owner in ws.records.owners():
        if is_gone(owner):
            log.info("%s has died; what it held is free", owner)
            ws.records.evict(owner)
