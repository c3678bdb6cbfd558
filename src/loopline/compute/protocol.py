"""What runs steps: the promise."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from loopline.compute.spec import StepSpec


@dataclass(frozen=True, slots=True)
class Needs:
    """What a step asks of the place where it runs."""

    cpus: float = 1.0
    gpus: int = 0
    memory: int | None = None
    """Bytes; Ray keeps to it."""
    timeout_s: float | None = None
    """Seconds after which its process is killed."""
    fresh: bool = False
    """Whether it needs a process that has run nothing before."""
    reads: tuple[str, ...] = ()
    """Files below the workspace that it reads; they travel with it to another machine."""
    project: Path | None = None
    """The folder with its code; travels too."""


class Executor(Protocol):
    """Runs steps, as many at once as `cpus` allows.

    A step is JSON in, JSON out. It may write files below the workspace; they are
    there when its future is done, also where it ran on another machine.
    """

    name: str
    cpus: float
    gpus: int
    own_process: bool
    """Whether steps run in processes of their own, so that one may be killed."""

    def submit(self, spec: StepSpec, needs: Needs) -> Future[dict[str, Any]]:
        """Have a step run as soon as there is room; errors are those of `run_step`."""
        ...

    def close(self) -> None:
        """Let go of threads, processes and connections; what still runs is given up."""
        ...
