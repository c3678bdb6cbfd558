"""What is needed no more: runs that were deleted, files whose owner is gone, bytes nobody names, old answers."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from loopline.base.clock import SystemClock
from loopline.base.errors import NotFound
from loopline.governance.reclaiming.holding import Held
from loopline.governance.reclaiming.nouns import Unneeded
from loopline.governance.traced import FILE, has_traces
from loopline.store.runs.artifacts import Kept
from loopline.store.runs.protocol import Experiment
from loopline.training.pipeline.answers import Kept as Answer
from loopline.training.pipeline.answers import answers, left_behind
from loopline.training.pipeline.task import FOLDER
from loopline.workspace import Workspace

PARTS = "part-*"
"""Files that were being written; whoever is killed leaves them."""
ELSEWHERE = "mlflow-artifacts:"
OF_TRACES = "tr-"
SHORT = "it was deleted only a short while ago"
FRESH = "it was written only a short while ago"


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on something may go."""

    older_than: timedelta
    """Runs and experiments, since they were deleted."""
    answers_older_than: timedelta
    """Answers of steps, since a run needed them."""
    answers_at_most: int | None
    """Bytes of all answers together; null for no limit."""
    grace: timedelta
    """Files, since they were written: somebody may be about to name them."""


class Search:
    """What a workspace holds without need, as of one moment; nothing is changed."""

    def __init__(self, ws: Workspace, limits: Limits) -> None:
        self.ws, self.limits = ws, limits
        now = SystemClock()()
        self.now = min(ws.clock(), now)
        self.written_before = (now - limits.grace).timestamp()
        """Seconds since 1970 by this machine: files written later are left alone."""
        self._held = Held(ws)
        self._files = ws.artifacts.index()

    def everything(self) -> list[Unneeded]:
        """All of it; what stays all the same says why."""
        runs = self.runs()
        going = {one.id for one in runs if not one.kept}
        files = self.files()
        gone = going | {one.id for one in files if not one.kept}
        experiments = self.experiments(going)
        left = self.traces({one.id for one in experiments if not one.kept})
        return [*runs, *experiments, *left, *files, *self.bytes(gone), *self.answers(), *self.leftovers()]

    def runs(self) -> list[Unneeded]:
        """Deleted runs, with their series and files."""
        found = []
        before = _millis(self.now - self.limits.older_than)
        for run, at_ms, size in self.ws.runs.deleted():
            kept = self._held.why_run(run) or ("" if at_ms <= before else SHORT)
            files = sum(file.size for file in self._files.get(run.id, ()))
            found.append(Unneeded("run", run.id, run.name, run.user, size + files, _at(at_ms), kept))
        return found

    def experiments(self, going: Collection[str]) -> list[Unneeded]:
        """Deleted experiments that have no run and no model left once the runs in `going` are gone."""
        left: dict[str, int] = defaultdict(int)
        for run, _, _ in self.ws.runs.deleted():
            left[run.experiment] += run.id not in going
        before = _millis(self.now - self.limits.older_than)
        found = []
        for one in self._deleted_experiments():
            kept = "" if one.updated_ms <= before else SHORT
            if left[one.id] or self.ws.runs.search_models([one.id], limit=1).items:
                kept = "runs or models of it stay"
            found.append(Unneeded("experiment", one.id, one.name, "", 0, _at(one.updated_ms), kept))
        return found

    def traces(self, going: Collection[str]) -> list[Unneeded]:
        """Traces of experiments that are gone or in `going`, and the space that deleted ones left in their file."""
        if not has_traces(self.ws):
            return []
        found = []
        for experiment, share in self.ws.traces.shares().items():
            if experiment in going or not self.is_experiment(experiment):
                name = f"{share.traces:,} of experiment {experiment}"
                found.append(Unneeded("traces", experiment, name, "", share.bytes, _at(share.newest_ms)))
        if space := self.ws.traces.free():
            found.append(Unneeded("space", FILE, "left by deleted traces", "", space, self.now))
        return found

    def is_experiment(self, id: str) -> bool:
        """Whether there is such an experiment, deleted or not."""
        try:
            self.ws.runs.experiment(id)
        except NotFound:
            return False
        return True

    def _deleted_experiments(self) -> Iterator[Experiment]:
        token: str | None = None
        while True:
            page = self.ws.runs.search_experiments(view="deleted", token=token)
            yield from page.items
            if (token := page.token) is None:
                return

    def files(self) -> list[Unneeded]:
        """Files whose owner is gone: a run, trace or model that was taken out, a registration that was withdrawn."""
        found = []
        for owner, files in self._files.items():
            if self.is_there(owner):
                continue
            newest = max(file.at_ms for file in files)
            kept = self._held.why_owner(owner, files)
            if not kept and newest >= self.written_before * 1000:
                kept = FRESH
            found.append(Unneeded("files", owner, _named(files), "", _sum(files), _at(newest), kept))
        return found

    def is_there(self, owner: str) -> bool:
        """Whether files are those of a run, a trace or a logged model of now."""
        try:
            if owner.startswith("m-"):
                self.ws.runs.model(owner)
            elif owner.startswith(OF_TRACES):
                return has_traces(self.ws) and bool(self.ws.traces.traces([owner]))
            else:
                self.ws.runs.run(owner)
        except NotFound:
            return False
        return True

    def bytes(self, gone: Collection[str]) -> list[Unneeded]:
        """Files of the store that no owner names, as one; what the owners in `gone` alone name is counted there."""
        named = {file.digest for files in self._files.values() for file in files}
        found, oldest = [], self.now.timestamp()
        for digest, size in self.ws.artifacts.unused():
            if digest not in named and not self._held.why(digest):
                with contextlib.suppress(FileNotFoundError):
                    oldest = min(oldest, self.ws.artifacts.blobs.where(digest).stat().st_mtime)
                found.append(size)
        if not found:
            return []
        name = f"{len(found)} file{'s' if len(found) > 1 else ''} of the artifact store"
        return [Unneeded("bytes", "artifacts", name, "", sum(found), _at(oldest * 1000))]

    def spared(self) -> frozenset[str]:
        """Digests that a registered model names: they stay although no owner has them."""
        return frozenset(digest for digest, _ in self.ws.artifacts.unused() if self._held.why(digest))

    def answers(self) -> list[Unneeded]:
        """Answers of steps that no run has needed for long, and beyond the limit those needed longest ago."""
        every = answers(self.ws)
        over = sum(one.size for one in every)
        over -= over if self.limits.answers_at_most is None else self.limits.answers_at_most
        found = []
        for one in every:
            since = one.used or _at(one.written * 1000)
            old = since < self.now - self.limits.answers_older_than if one.used else one.written < self.written_before
            crowded = self.limits.answers_at_most is not None and over > 0
            if not old and not crowded:
                continue
            kept = self._why_answer(one)
            if not kept:
                over -= one.size
            found.append(Unneeded("answer", one.digest, _step(one), _pipeline(one), one.size, since, kept))
        return found

    def _why_answer(self, one: Answer) -> str:
        if one.written >= self.written_before or (one.used and one.used >= self.now - self.limits.grace):
            return FRESH
        made = one.step
        return self._held.why(one.digest, *((made.id, made.made_by, made.run, made.key) if made else ()))

    def leftovers(self) -> list[Unneeded]:
        """Files that were being written by a process that was killed."""
        found = []
        for path in (*self._parts(), *left_behind(self.ws.root, before=self.written_before)):
            with contextlib.suppress(FileNotFoundError):
                about = path.stat()
                size = _bytes_of(path)
                id = path.relative_to(self.ws.root).as_posix()
                found.append(Unneeded("leftover", id, path.name, "", size, _at(about.st_mtime * 1000)))
        return found

    def _parts(self) -> Iterator[Path]:
        for folder in (self.ws.root / "artifacts", self.ws.root / "blobs", self.ws.root / FOLDER / "blobs"):
            for path in (*folder.glob(PARTS), *folder.glob(f"[0-9a-f][0-9a-f]/{PARTS}")):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < self.written_before:
                        yield path


def _named(files: Iterable[Kept]) -> str:
    paths = [file.path for file in files]
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def _sum(files: Iterable[Kept]) -> int:
    return sum(file.size for file in files)


def _step(one: Answer) -> str:
    if one.step is None:
        return "what no run names" if one.used is None else "what a failed step printed"
    return f"{one.step.step}{', what it printed' if one.digest == one.step.log else ''}"


def _pipeline(one: Answer) -> str:
    return one.step.pipeline if one.step is not None else ""


def _bytes_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def _millis(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _at(ms: float) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
