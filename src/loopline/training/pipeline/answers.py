"""The store of answers: which there are, when each was last used, and letting go of some while nobody runs."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from loopline.base.errors import Unavailable
from loopline.base.ids import moment
from loopline.training.pipeline.nouns import StepRun
from loopline.training.pipeline.task import FOLDER, store
from loopline.workspace import Workspace

LOCK = ".lock"
RUNS = "pipeline_run"
"""Kind of the rows that say how a run stands."""
FILES, LOGS = "files", "logs"


@dataclass(frozen=True, slots=True)
class Kept:
    """A blob of the store of answers."""

    digest: str
    size: int
    """Bytes."""
    written: float
    """When its file was written, in seconds since 1970 by this machine."""
    step: StepRun | None
    """The newest step run that stands on it; null where none does."""
    used: datetime | None
    """When a run last needed it; null where no run names it."""


@contextmanager
def in_use(workspace: Path) -> Iterator[None]:
    """While a pipeline runs, its answers stay; many may run at once, and a run that is killed holds nothing.

    Raises
    ------
    Unavailable
        If the folder of answers cannot be written.
    """
    with _locked(workspace, fcntl.LOCK_SH):
        yield


@contextmanager
def alone(workspace: Path) -> Iterator[bool]:
    """Whether no pipeline runs on this machine; if so, none begins until the block ends."""
    try:
        with _locked(workspace, fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield True
    except BlockingIOError:
        yield False


@contextmanager
def _locked(workspace: Path, how: int) -> Iterator[None]:
    folder = workspace / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / LOCK).open("w")
    except OSError as error:
        raise Unavailable(
            f"{folder} cannot be written: {error.strerror}",
            why="answers of steps are kept there",
            fix="free some space, or make it writable",
        ) from error
    with handle:
        fcntl.flock(handle, how)
        yield


def answers(ws: Workspace) -> list[Kept]:
    """Every blob of the store, those that were needed longest ago first."""
    newest: dict[str, StepRun] = {}
    for made in ws.records.find(StepRun, newest_first=False):
        for digest in (*made.blobs, *((made.log,) if made.log else ())):
            seen = newest.get(digest)
            if seen is None or made.started_at >= seen.started_at:
                newest[digest] = made
    failed = _logs_of_failed(ws)
    blobs, found = store(ws.root), []
    for digest in blobs:
        with contextlib.suppress(FileNotFoundError):
            about = blobs.where(digest).stat()
            step = newest.get(digest)
            used = step.started_at if step is not None else failed.get(digest)
            found.append(Kept(digest, about.st_size, about.st_mtime, step, used))
    return sorted(found, key=lambda one: (one.used.timestamp() if one.used else one.written, one.digest))


def _logs_of_failed(ws: Workspace) -> dict[str, datetime]:
    """What failed steps printed, by digest, and when they ran."""
    return {
        begun["log"]: moment(begun["started_at"])
        for row in ws.records.rows(RUNS)
        for begun in row.doc.get("begun", {}).values()
        if begun.get("log")
    }


def runs_of(ws: Workspace) -> Iterator[tuple[dict[str, str], dict[str, list[str]]]]:
    """Of each run of a pipeline the step runs by step, and the steps whose answers each step reads."""
    for row in ws.records.rows(RUNS):
        yield row.doc["steps"], {step: row.doc["after"].get(step, []) for step in row.doc["steps"]}


def let_go(ws: Workspace, digests: Collection[str]) -> int:
    """Delete blobs of the store, under every name they have; the bytes freed. For when nobody runs (`alone`)."""
    blobs, freed = store(ws.root), 0
    for digest in digests:
        shutil.rmtree(ws.root / FOLDER / FILES / digest, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            size = blobs.where(digest).stat().st_size
            blobs.delete(digest)
            freed += size
    return freed


def left_behind(workspace: Path, *, before: float) -> list[Path]:
    """Logs and second names of answers that are gone, of runs that were killed; written before `before`."""
    blobs = store(workspace)
    found = [path for path in (workspace / FOLDER / FILES).glob("*") if path.name not in blobs]
    found += (workspace / FOLDER / LOGS).glob("*")
    old = []
    for path in found:
        with contextlib.suppress(FileNotFoundError):
            if max(one.stat().st_mtime for one in (path, *path.glob("*"))) < before:
                old.append(path)
    return sorted(old)
