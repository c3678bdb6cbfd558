"""Runs go out: which ones, and a folder that is there as a whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

from loopline.base.errors import Conflict, Invalid, NotFound, Unavailable
from loopline.store.runs.protocol import Experiment, LoggedModel, Run, View
from loopline.training.exchange.nouns import MOST_TOLD, OfferedName, Series
from loopline.training.exchange.one_run import read_series
from loopline.training.runs import find_run
from loopline.workspace import Workspace

CHUNK = 1 << 20


class _Info(msgspec.Struct):
    run_id: str


class _Document(msgspec.Struct):
    info: _Info


@dataclass(slots=True)
class Chosen:
    """What goes out, experiment by experiment."""

    experiments: list[Experiment]
    runs: dict[str, list[str]]
    """Ids of runs by id of the experiment, in the order in which they began."""
    models: dict[str, list[LoggedModel]]
    every: bool = False
    """Whether all runs go, and with them all that is registered."""
    registered: list[OfferedName] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    points: int = 0
    files: int = 0
    bytes: int = 0

    def leave(self, what: str) -> None:
        """Something does not go."""
        if len(self.left_out) < MOST_TOLD:
            self.left_out.append(what)

    @property
    def count(self) -> int:
        """How many runs."""
        return sum(len(ids) for ids in self.runs.values())

    @property
    def owners(self) -> set[str]:
        """Ids of the runs and models: whose files go."""
        runs = {id for ids in self.runs.values() for id in ids}
        return runs | {one.id for found in self.models.values() for one in found}


def choose(ws: Workspace, runs: Collection[str], experiments: Collection[str], *, every: bool, deleted: bool) -> Chosen:
    """Runs by id, or those of experiments, or all, with the logged models that belong to them.

    Raises
    ------
    Invalid
        If nothing, or two things, were asked for.
    NotFound
        If there is no such run or experiment.
    """
    if bool(runs) + bool(experiments) + every != 1:
        raise Invalid(
            "it is not said which runs",
            why="they are named by id, by experiment, or all",
            fix="loopline export --all DEST",
        )
    found: dict[str, list[str]] = {}
    if runs:
        for name in runs:
            one = find_run(ws, name)
            if one.id not in found.setdefault(one.experiment, []):
                found[one.experiment].append(one.id)
    else:
        view: View = "all" if deleted else "active"
        for experiment in _experiments(ws, experiments, view):
            found[experiment.id] = _runs(ws, experiment.id, view)
    chosen = Chosen([ws.runs.experiment(id) for id in sorted(found, key=int)], found, {}, every)
    for id, ids in found.items():
        models = _models(ws, id)
        if runs:
            used = {use.model for run in ids for one in (ws.runs.run(run),) for use in one.made + one.read}
            models = [one for one in models if one.run in ids or one.id in used]
        chosen.models[id] = models
    return chosen


def _experiments(ws: Workspace, names: Collection[str], view: View) -> Iterator[Experiment]:
    if names:
        for name in dict.fromkeys(names):
            found = ws.runs.experiment_named(name)
            if found is None:
                raise NotFound(
                    f"there is no experiment {name!r}", why="no run was logged under it", fix="loopline runs list"
                )
            yield found
        return
    token: str | None = None
    while True:
        page = ws.runs.search_experiments(view=view, token=token, order_by=["creation_time ASC"])
        yield from page.items
        token = page.token
        if token is None:
            return


def _runs(ws: Workspace, experiment: str, view: View) -> list[str]:
    ids: list[str] = []
    token: str | None = None
    while True:
        page = ws.runs.search_runs(
            [experiment], view=view, limit=1_000, token=token, order_by=["attributes.start_time ASC"]
        )
        ids += [msgspec.json.decode(doc, type=_Document).info.run_id for doc in page.items]
        token = page.token
        if token is None:
            return ids


def _models(ws: Workspace, experiment: str) -> list[LoggedModel]:
    found: list[LoggedModel] = []
    token: str | None = None
    while True:
        page = ws.runs.search_models([experiment], limit=100, token=token)
        found += page.items
        token = page.token
        if token is None:
            return sorted(found, key=lambda one: (one.created_ms, one.id))


def series_of(ws: Workspace, run: Run) -> Iterator[Series]:
    """Every metric of a run, whole."""
    for key in sorted(point.key for point in run.metrics):
        yield read_series(ws.runs, run.id, key)


def copy_files(ws: Workspace, owner: str, into: Path, chosen: Chosen) -> list[tuple[str, int, str]]:
    """Write the files of a run or a model below `into`, each checked against its digest: path, bytes, digest."""
    done = []
    for kept in ws.artifacts.files(owner):
        target = into / kept.path
        target.parent.mkdir(parents=True, exist_ok=True)
        sha = hashlib.sha256()
        _, source = ws.artifacts.open(owner, kept.path)
        with source, target.open("wb") as file:
            while piece := source.read(CHUNK):
                sha.update(piece)
                file.write(piece)
        if sha.hexdigest() != kept.digest:
            target.unlink()
            chosen.leave(f"the file {kept.path} of {owner}: its bytes are damaged here")
            continue
        chosen.files += 1
        chosen.bytes += kept.size
        done.append((kept.path, kept.size, kept.digest))
    return done


@contextmanager
def whole_folder(dest: Path) -> Iterator[Path]:
    """A folder to write into that becomes `dest` at the end; what an export that was killed left is cleared away.

    Raises
    ------
    Conflict
        If there is something at `dest`, or another export is writing it.
    Unavailable
        If the disk is full or the folder cannot be written; nothing stays behind.
    """
    dest = Path(dest).absolute()
    if dest.is_symlink() or (dest.exists() and (not dest.is_dir() or any(dest.iterdir()))):
        raise Conflict(
            f"{dest} is there already", why="an export is a folder of its own", fix="choose another, or move it away"
        )
    part = dest.with_name(f".{dest.name}.part")
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        guard = part.with_suffix(".lock")
        with guard.open("w") as lock:
            if not _is_ours(lock, guard):
                raise Conflict(
                    f"another export writes {dest}",
                    why="one at a time does",
                    fix="wait for it, or choose another folder",
                )
            try:
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                yield part
                _settle(part)
                part.rename(dest)
            finally:
                shutil.rmtree(part, ignore_errors=True)
                guard.unlink(missing_ok=True)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise Unavailable(
            f"{dest} cannot be written: {error.strerror or error}",
            why="the disk is full; nothing stays behind" if full else "the folder is read-only or out of reach",
            fix="free some space, then do it again" if full else "choose a folder you may write to",
        ) from error


def _is_ours(lock: IO[str], path: Path) -> bool:
    """Take a lock without waiting; a file that its last holder has just taken away does not count."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(lock.fileno()).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _settle(folder: Path) -> None:
    """Have what was written on disk before it gets its name."""
    for home, _, names in os.walk(folder):
        for name in names:
            handle = os.open(Path(home, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
