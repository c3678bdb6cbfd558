"""A step that is on its way: what it was asked with, what it needs, what it prints."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from loopline.compute.devices import devices
from loopline.compute.protocol import Executor, Needs
from loopline.store.blobs.local import LocalBlobs
from loopline.training import cache
from loopline.training.pipeline.plan import Ready
from loopline.training.pipeline.task import FOLDER
from loopline.training.pipeline.values import blobs_of, keep


@dataclass(slots=True)
class Job:
    """All attempts of one step in one run."""

    ready: Ready
    why: tuple[str, ...]
    started_at: datetime
    attempt: int = 1
    fresh: bool = False
    """Whether it must have a process that has loaded nothing yet."""
    devices: list[int] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    """A file per attempt, below the workspace."""
    read: int = 0
    """Bytes of the last of them that were passed on."""

    def needs(self, project: Path, *, fresh: bool) -> Needs:
        """What the machine has to give for the next attempt."""
        options = self.ready.node.step.options
        return Needs(
            cpus=options.cpus,
            gpus=options.gpus,
            memory=options.memory,
            timeout_s=options.timeout_s,
            fresh=fresh,
            reads=tuple(f"{FOLDER}/blobs/{mark[:2]}/{mark}" for mark in sorted(set(blobs_of(self.ready.arguments)))),
            project=project,
        )

    def device(self, executor: Executor) -> str:
        """What it was computed on."""
        if self.devices:
            names = {device.number: device.name for device in devices()}
            return ", ".join(f"cuda:{number} {names[number]}" for number in self.devices)
        if self.ready.node.step.options.gpus and executor.name == "ray" and executor.gpus:
            return "cuda (ray)"
        return "cpu"

    def missed(self, project: Path, loaded: list[str]) -> tuple[str, ...]:
        """Modules among `loaded`, by a process of its own, that reading the code of the step does not find."""
        step = self.ready.node.step
        if step.file is None:
            return ()
        whole = cache.closure(project, self.ready.ref, extra=step.options.extra_files)
        return tuple(file for file in loaded if file not in whole.files)

    def opened_log(self, run: str) -> str:
        """The file that the next attempt prints to."""
        log = f"{FOLDER}/logs/{run}/{self.ready.node.name}-{self.attempt}.log"
        self.logs.append(log)
        self.read = 0
        return log

    def printed(self, root: Path) -> list[str]:
        """The whole lines that it has printed since this was asked last."""
        with contextlib.suppress(OSError), (root / self.logs[-1]).open("rb") as log:
            log.seek(self.read)
            data = log.read()
            whole = data.rfind(b"\n") + 1
            self.read += whole
            return data[:whole].decode(errors="replace").splitlines()
        return []

    def kept_log(self, root: Path, blobs: LocalBlobs) -> str | None:
        """What all attempts printed, as a blob; the files it was in are gone then."""
        with contextlib.suppress(OSError):
            paths = [path for log in self.logs if (path := root / log).exists()]
            if not paths:
                return None
            data = b"".join(path.read_bytes() for path in paths)
            mark = keep(blobs, data) if data else None
            for path in paths:
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                paths[0].parent.rmdir()
            return mark
        return None
