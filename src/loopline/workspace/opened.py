"""A workspace: made, opened, and seen by whoever asks."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopline.base import settings
from loopline.base.clock import Clock, SystemClock
from loopline.base.errors import Conflict, Invalid, NotFound, Unavailable
from loopline.base.ids import moment, uuid7
from loopline.store.audit import Audit
from loopline.store.blobs.protocol import Blobs
from loopline.store.online.protocol import Online
from loopline.store.records.protocol import Records, Tx
from loopline.store.runs.protocol import RunLog
from loopline.store.runs.traces.protocol import TraceLog
from loopline.store.tables.protocol import Tables
from loopline.workspace.stores import MARKER, Stores, workspace_id

if TYPE_CHECKING:
    from loopline.compute.pool import Pool
    from loopline.store.runs.artifacts import Artifacts

FORMAT = 1
FOLDER = ".loopline"
CLOCK = "clock"
"""Where the records keep the time that a replay has set."""


class WorkspaceClock:
    """The workspace's time: the machine's, unless a replay has set it in the records."""

    def __init__(self, records: Callable[[], Records], system: Clock) -> None:
        self._records, self._system = records, system

    def __call__(self) -> datetime:
        given = self._records().meta(CLOCK)
        return moment(given) if given else self._system()


@dataclass(frozen=True)
class Workspace:
    """A folder that holds everything Loopline knows, and who is asking.

    Open one with `open_workspace`. Cheap to copy: `ws.acting_as("user:ada")`
    shares the stores.
    """

    root: Path
    stores: Stores
    clock: Clock
    actor: str
    pending: list[Callable[[Tx], object]] | None = None
    notes: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """The workspace's own id, made once."""
        return workspace_id(self.root)

    @property
    def blobs(self) -> Blobs:
        return self.stores.blobs

    @property
    def tables(self) -> Tables:
        return self.stores.tables

    @property
    def records(self) -> Records:
        return self.stores.records

    @property
    def online(self) -> Online:
        return self.stores.online

    @property
    def artifacts(self) -> Artifacts:
        """Files that runs and logged models keep."""
        return self.stores.artifacts

    @property
    def runs(self) -> RunLog:
        """Experiments, runs and what is logged of them. No verb lies before it: it is the log itself."""
        return self.stores.runs

    @property
    def traces(self) -> TraceLog:
        """Traces of programs, span by span. No verb lies before it either."""
        return self.stores.traces

    @property
    def audit(self) -> Audit:
        return self.stores.audit

    @property
    def compute(self) -> Pool:
        """Processes for long steps, kept between them."""
        return self.stores.compute

    def acting_as(self, actor: str) -> Workspace:
        """The same workspace, seen by someone else."""
        return replace(self, actor=actor, pending=None, notes=None)

    def on_commit(self, write: Callable[[Tx], object]) -> None:
        """Have `write` join the transaction that ends the running verb."""
        if self.pending is None:
            raise RuntimeError("on_commit is for the inside of a verb")
        self.pending.append(write)

    def note(self, **facts: Any) -> None:
        """Put facts about the running verb, such as its reason, into its audit entry."""
        if self.notes is None:
            raise RuntimeError("note is for the inside of a verb")
        self.notes.update(facts)

    def wake(self) -> None:
        """Tell a running control plane that there is something to look at.

        Nothing is lost when none runs: the records hold the work.
        """
        path = self.root / "run" / "wake.sock"
        if not path.exists():
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.setblocking(False)
            with contextlib.suppress(OSError):
                folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    door.sendto(b"1", f"/proc/self/fd/{folder}/{path.name}")  # a path has 107 bytes at most
                finally:
                    os.close(folder)

    def close(self) -> None:
        """Close the stores; a closed workspace may be opened again."""
        self.stores.close()


def create_workspace(root: Path, *, clock: Clock | None = None, actor: str | None = None) -> Workspace:
    """Make (or open) the workspace in the folder `root`."""
    root = Path(root).absolute()
    marker = root / MARKER
    if not marker.exists():
        try:
            root.mkdir(parents=True, exist_ok=True)
            part = marker.with_suffix(".part")
            part.write_text(json.dumps({"format": FORMAT, "id": uuid7(SystemClock()())}) + "\n")
            os.replace(part, marker)
        except OSError as error:
            raise Unavailable(
                f"no workspace can be made in {root}: {error.strerror}",
                why="Loopline writes its records there",
                fix="choose a folder you may write to, or free some space",
            ) from error
    return open_workspace(root, clock=clock, actor=actor)


def open_workspace(root: Path, *, clock: Clock | None = None, actor: str | None = None) -> Workspace:
    """Open the workspace in the folder `root`.

    Raises
    ------
    NotFound
        If there is none.
    Conflict
        If a newer Loopline made it; it stays as it is.
    """
    root = Path(root).absolute()
    marker = root / MARKER
    if not marker.exists():
        raise NotFound(
            f"{root} is not a workspace",
            why=f"it holds no {MARKER}",
            fix="run `loopline init`, or name the folder with --workspace",
        )
    try:
        found = int(json.loads(marker.read_text())["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(
            f"{marker} cannot be read: {error}",
            why="it says which format the workspace has",
            fix=f'restore it from a backup, or write {{"format": {FORMAT}, "id": "..."}} into it',
        ) from error
    if found > FORMAT:
        raise Conflict(
            f"the workspace {root} has format {found}",
            why=f"this Loopline knows formats up to {FORMAT}; nothing was changed",
            fix="pip install --upgrade loopline",
        )
    stores = Stores(root)
    return Workspace(
        root=root,
        stores=stores,
        clock=clock or WorkspaceClock(lambda: stores.records, SystemClock()),
        actor=actor or settings.actor_name(),
    )
