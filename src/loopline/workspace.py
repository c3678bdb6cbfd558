"""What every verb is given: stores, clock, actor. Permission and audit, once."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from loopline.base import settings
from loopline.base.clock import Clock, SystemClock
from loopline.base.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from loopline.base.ids import iso, moment, uuid7
from loopline.base.nouns import kind_of, to_doc
from loopline.store.audit import Audit
from loopline.store.blobs.protocol import Blobs
from loopline.store.online.protocol import Online
from loopline.store.records.protocol import Records, Tx
from loopline.store.runs.protocol import RunLog
from loopline.store.runs.traces.protocol import TraceLog
from loopline.store.tables.protocol import Tables

if TYPE_CHECKING:
    from loopline.compute.pool import Pool
    from loopline.store.runs.artifacts import Artifacts

P = ParamSpec("P")
R = TypeVar("R")

FORMAT = 1
STEPS_AT_ONCE = 1
FOLDER = ".loopline"
MARKER = "workspace.json"
CLOCK = "clock"
"""Where the records keep the time that a replay has set."""


@dataclass(frozen=True, slots=True)
class VerbInfo:
    """A verb as every interface finds it."""

    name: str
    call: Callable[..., Any]
    writes: bool
    offered: bool = True
    """Whether it is a door of its own. A part of another verb is none, and neither is what is done beside the
    workspace only: both keep their permission and their audit entry."""


VERBS: dict[str, VerbInfo] = {}


class WorkspaceClock:
    """The workspace's time: the machine's, unless a replay has set it in the records."""

    def __init__(self, records: Callable[[], Records], system: Clock) -> None:
        self._records, self._system = records, system

    def __call__(self) -> datetime:
        given = self._records().meta(CLOCK)
        return moment(given) if given else self._system()


@dataclass
class Stores:
    """The doors, opened when first used."""

    root: Path
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _open: dict[str, Any] = field(default_factory=dict)

    def _get(self, name: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            if name not in self._open:
                self._open[name] = make()
            return self._open[name]

    @property
    def blobs(self) -> Blobs:
        from loopline.store.blobs.local import LocalBlobs

        return self._get("blobs", lambda: LocalBlobs(self.root / "blobs"))  # type: ignore[no-any-return]

    @property
    def tables(self) -> Tables:
        from loopline.store.tables.delta import DeltaTables

        return self._get("tables", lambda: DeltaTables(self.root / "tables"))  # type: ignore[no-any-return]

    @property
    def records(self) -> Records:
        from loopline.store.records.sql import SqlRecords

        return self._get("records", lambda: SqlRecords.at(self.root / "records.db"))  # type: ignore[no-any-return]

    @property
    def online(self) -> Online:
        from loopline.store.online import at

        return self._get("online", lambda: at(self.root, workspace_id(self.root)))  # type: ignore[no-any-return]

    @property
    def artifacts(self) -> Artifacts:
        from loopline.store.blobs.local import LocalBlobs
        from loopline.store.runs.artifacts import Artifacts

        folder, durable = self.root / "artifacts", settings.run_log_durability() == "full"
        return self._get("artifacts", lambda: Artifacts(folder, LocalBlobs(folder), durable=durable))  # type: ignore[no-any-return]

    def mend_online(self) -> Path | None:
        """Set damaged online values aside, to be filled again; where they are now, or null where they are whole."""
        from loopline.store.online import mend

        with self._lock:
            away = mend(self.root)
            if away is not None and (store := self._open.pop("online", None)) is not None:
                store.close()
            return away

    @property
    def runs(self) -> RunLog:
        from loopline.store.runs.sqlite import SqliteRuns

        durability = settings.run_log_durability()
        return self._get("runs", lambda: SqliteRuns(self.root / "runs.db", durability=durability))  # type: ignore[no-any-return]

    @property
    def traces(self) -> TraceLog:
        from loopline.store.runs.traces.sqlite import SqliteTraces

        durability = settings.run_log_durability()
        return self._get("traces", lambda: SqliteTraces(self.root / "traces.db", durability=durability))  # type: ignore[no-any-return]

    @property
    def audit(self) -> Audit:
        return self._get("audit", lambda: Audit(self.records, self.root / "audit"))  # type: ignore[no-any-return]

    @property
    def compute(self) -> Pool:
        from loopline.compute import Pool

        return self._get("compute", lambda: Pool(self.root, workers=STEPS_AT_ONCE))  # type: ignore[no-any-return]

    def forget_audit(self) -> None:
        """Open the audit trail anew when it is next used: the workspace has another id."""
        with self._lock:
            self._open.pop("audit", None)

    def close(self) -> None:
        with self._lock:
            for name in ("compute", "records", "online", "runs", "traces", "artifacts"):
                store = self._open.pop(name, None)
                if store is not None:
                    store.close()
            self._open.clear()


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


def workspace_id(root: Path) -> str:
    """The id of the workspace in a folder."""
    return str(json.loads((root / MARKER).read_text())["id"])


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


def authorise(ws: Workspace, name: str) -> None:
    """Deny by default what the actor's role does not hold; forbid wins.

    Service accounts act for the loop and may do all but what a person must
    answer for. Named users of the machine own their workspace.
    """
    kind, _, who = ws.actor.partition(":")
    if kind not in ("user", "service") or not who:
        raise Denied(
            f"{ws.actor!r} may not {name}",
            why="an actor is `user:<name>` or `service:<name>`",
            fix="set LOOPLINE_ACTOR, for example user:ada",
        )
    if kind == "service" and name in FORBIDDEN_TO_SERVICES:
        raise Denied(
            f"{ws.actor} may not {name}",
            why="a person must answer for this; no service account can",
            fix="have a person run it",
        )


FORBIDDEN_TO_SERVICES = frozenset({"registry.approve", "registry.reject", "registry.add_key"})


def verb(
    name: str, *, offered: bool = True
) -> Callable[[Callable[Concatenate[Workspace, P], R]], Callable[Concatenate[Workspace, P], R]]:
    """Make a function a verb: permission before; then nouns, audit and events in one transaction.

    The function does its long work first (blobs, tables, under content ids). What
    it returns (a noun, or a sequence of nouns) is committed with the audit entry
    and whatever it handed to `ws.on_commit`. It must be idempotent. One that is not `offered` has no path of its own.
    """

    def wrap(function: Callable[Concatenate[Workspace, P], R]) -> Callable[Concatenate[Workspace, P], R]:
        @functools.wraps(function)
        def call(ws: Workspace, /, *args: P.args, **kwargs: P.kwargs) -> R:
            authorise(ws, name)
            inner = replace(ws, pending=[], notes={})
            result = function(inner, *args, **kwargs)
            nouns = list(_nouns(result))
            with ws.records.transaction() as tx:
                for item in nouns:
                    tx.put(item)
                for write in inner.pending or ():
                    write(tx)
                subject = nouns[0].id if nouns else ""
                doc = {"nouns": [f"{kind_of(item)}:{item.id}" for item in nouns], **to_doc(inner.notes)}
                tx.audit(name, ws.actor, subject, doc, at=ws.clock())
            ws.audit.seal()
            return result

        VERBS[name] = VerbInfo(name, call, writes=True, offered=offered)
        return call

    return wrap


def query(name: str) -> Callable[[Callable[Concatenate[Workspace, P], R]], Callable[Concatenate[Workspace, P], R]]:
    """Make a function a query: permission before, nothing written."""

    def wrap(function: Callable[Concatenate[Workspace, P], R]) -> Callable[Concatenate[Workspace, P], R]:
        @functools.wraps(function)
        def call(ws: Workspace, /, *args: P.args, **kwargs: P.kwargs) -> R:
            authorise(ws, name)
            return function(ws, *args, **kwargs)

        VERBS[name] = VerbInfo(name, call, writes=False)
        return call

    return wrap


def flow(
    name: str, *, offered: bool = True
) -> Callable[[Callable[Concatenate[Workspace, P], R]], Callable[Concatenate[Workspace, P], R]]:
    """Make a function a verb made of verbs: permission here, each part commits and is audited by itself."""

    def wrap(function: Callable[Concatenate[Workspace, P], R]) -> Callable[Concatenate[Workspace, P], R]:
        @functools.wraps(function)
        def call(ws: Workspace, /, *args: P.args, **kwargs: P.kwargs) -> R:
            authorise(ws, name)
            return function(ws, *args, **kwargs)

        VERBS[name] = VerbInfo(name, call, writes=True, offered=offered)
        return call

    return wrap


def _nouns(result: Any) -> Iterator[Any]:
    if kind_of(result) is not None:
        yield result
    elif isinstance(result, (list, tuple)):
        for item in result:
            yield from _nouns(item)


@contextmanager
def recorded(ws: Workspace, name: str, subject: str, doc: dict[str, Any]) -> Iterator[Tx]:
    """One durable transaction with its audit entry, for the control flow itself."""
    with ws.records.transaction() as tx:
        yield tx
        tx.audit(name, ws.actor, subject, to_doc(doc), at=ws.clock())
    ws.audit.seal()


def parameters(info: VerbInfo) -> list[inspect.Parameter]:
    """The parameters of a verb, without the workspace."""
    return list(inspect.signature(info.call).parameters.values())[1:]


__all__ = [
    "VERBS",
    "VerbInfo",
    "Workspace",
    "authorise",
    "create_workspace",
    "flow",
    "iso",
    "open_workspace",
    "parameters",
    "query",
    "recorded",
    "verb",
]
