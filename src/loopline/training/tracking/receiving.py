"""Frames that arrive: written into the run log of a workspace. Again is safe."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopline.base.errors import Conflict, Invalid, LooplineError, NotFound, Unavailable
from loopline.store.runs.artifacts import Artifacts
from loopline.store.runs.protocol import Dataset, RunLog
from loopline.training.tracking.frames import Begin, Data, End, Facts, File, Points, merged
from loopline.training.tracking.spool import bytes_of

DEFAULT = "Default"
"""Experiment of runs whose own one is deleted."""


@dataclass(slots=True)
class Taken:
    """What came of frames."""

    frames: int = 0
    refused: list[str] = field(default_factory=list)
    """What could not be kept, and why; the same would be refused again."""


def take(log: RunLog, artifacts: Artifacts, frames: list[Any], *, spool: Path | None = None) -> Taken:
    """Write frames into a run log.

    Parameters
    ----------
    spool : Path, optional
        Where the bytes of large files lie; null where they come another way.

    Raises
    ------
    Unavailable
        If the store cannot be written now; what was not written may be sent again, all of it.
    """
    taken = Taken(len(frames))
    for frame in merged(frames):
        try:
            _take(log, artifacts, frame, spool)
        except Unavailable:
            raise
        except LooplineError as error:
            taken.refused.append(f"{error.what} ({error.why})")
    return taken


def _take(log: RunLog, artifacts: Artifacts, frame: Any, spool: Path | None) -> None:
    if isinstance(frame, Points):
        log.log_columns(frame.run, frame.columns)
    elif isinstance(frame, Facts):
        log.log(frame.run, params=frame.params, tags=frame.tags)
    elif isinstance(frame, File):
        _keep(log, artifacts, frame, spool)
    elif isinstance(frame, Data):
        given = Dataset(
            frame.name, frame.digest, frame.source_type, frame.source, frame.schema, frame.profile, frame.tags
        )
        log.log_uses(frame.run, datasets=[given])
    elif isinstance(frame, Begin):
        _begin(log, frame)
    elif isinstance(frame, End):
        log.change_run(frame.run, status=frame.status, end_ms=frame.end_ms)


def _begin(log: RunLog, frame: Begin) -> None:
    try:
        found = log.run(frame.run)
    except NotFound:
        _create(log, frame, frame.experiment, dict(frame.tags))
        return
    if missing := {key: value for key, value in frame.tags.items() if found.tags.get(key) != value}:
        log.log(frame.run, tags=missing)


def _create(log: RunLog, frame: Begin, experiment: str, tags: dict[str, str]) -> None:
    id = named(log, experiment, at_ms=frame.start_ms)
    try:
        log.create_run(id, start_ms=frame.start_ms, name=frame.name, user=frame.user, tags=tags, id=frame.run)
    except Conflict:
        if experiment == DEFAULT:
            raise
        # the experiment is deleted; the run is kept all the same
        _create(log, frame, DEFAULT, {**tags, "loopline.experiment": experiment})


def named(log: RunLog, name: str, *, at_ms: int) -> str:
    """The id of the experiment with a name, made if there is none."""
    found = log.experiment_named(name)
    if found is None:
        try:
            found = log.create_experiment(name, at_ms=at_ms)
        except Conflict:  # somebody made it just now
            found = log.experiment_named(name)
            if found is None:
                raise
    return found.id


def _keep(log: RunLog, artifacts: Artifacts, frame: File, spool: Path | None) -> None:
    log.run(frame.run)
    if frame.data is not None:
        artifacts.put(frame.run, frame.path, frame.data, at_ms=frame.at_ms)
        return
    if spool is None:
        return
    source = bytes_of(spool, frame.digest)
    try:
        artifacts.put_file(frame.run, frame.path, source, at_ms=frame.at_ms)
    except FileNotFoundError as error:
        try:
            if artifacts.find(frame.run, frame.path).digest == frame.digest:
                return
        except NotFound:
            pass
        raise Invalid(
            f"the bytes of {frame.path!r} are gone",
            why=f"{source} was taken away before they were delivered",
            fix="log the file again",
        ) from error
