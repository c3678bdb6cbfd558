"""What waits in the spool, delivered later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from loopline.base.errors import LooplineError
from loopline.base.log import logger
from loopline.training.tracking.delivery import Target, deliver
from loopline.training.tracking.frames import End, cut, pack
from loopline.training.tracking.spool import Waiting, drop_bytes, waiting

log = logger(__name__)


@dataclass(slots=True)
class Synced:
    """What came of a sync."""

    runs: list[str] = field(default_factory=list)
    """Delivered whole."""
    frames: int = 0
    running: list[str] = field(default_factory=list)
    """Still being written; their own process delivers them."""
    broken_off: list[str] = field(default_factory=list)
    """Their process died before the end; they are KILLED now."""
    refused: list[str] = field(default_factory=list)
    """What could not be kept, and why."""
    damaged: list[str] = field(default_factory=list)
    """Files with damage, set aside; what came before it is delivered."""


def sync(folder: Path, target: Target, *, say: Callable[[str, float, float], None] = lambda *_: None) -> Synced:
    """Deliver what waits in a spool. Again is safe, also beside another one.

    Parameters
    ----------
    folder : Path
        The spool.
    target : Target
        Where it goes.
    say : callable
        Told what is done, with how many of how many.

    Raises
    ------
    Unavailable
        If the target takes nothing now; what was delivered before stays delivered.
    """
    done = Synced()
    every = waiting(folder)
    for at, file in enumerate(every):
        say(f"run {file.run}", at, len(every))
        with file.held() as mine:
            if not mine:
                done.running.append(file.run)
                continue
            _one(file, target, done, alone=sum(one.run == file.run for one in every) == 1)
    return done


def _one(file: Waiting, target: Target, done: Synced, *, alone: bool) -> None:
    last_ms = file.path.stat().st_mtime_ns // 1_000_000
    _, found = deliver(file, target)
    done.frames += found.frames
    done.refused += found.refused
    if alone and not found.ended and not _has_end(file):
        end = End(run=file.run, status="KILLED", end_ms=last_ms)
        try:
            taken = target.send(pack(0, end), [end], file.path.parent)
        except LooplineError as error:
            done.refused.append(error.what)
            return
        done.refused += taken.refused
        done.broken_off.append(file.run)
    for digest in found.large:
        drop_bytes(file.path.parent, digest)
    done.runs.append(file.run)
    if found.damaged:
        done.damaged.append(file.path.name)
        file.path.replace(file.path.with_suffix(".damaged"))
    file.forget()


def _has_end(file: Waiting) -> bool:
    """Whether the end of the run is in the file."""
    at, ended = 0, False
    while True:
        part = cut(file.read(at))
        if not part.frames:
            return ended
        at += part.end
        ended |= any(isinstance(frame, End) for _, frame in part.frames)
