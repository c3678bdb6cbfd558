"""Where steps run: one promise, several places."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from loopline.base.errors import Invalid
from loopline.compute.local import Processes, Threads
from loopline.compute.protocol import Executor

KINDS = ("here", "threads", "processes", "ray")


@dataclass(frozen=True, slots=True)
class Place:
    """Which executor, where it is, and how many steps it runs at once."""

    executor: str = "here"
    address: str | None = None
    workers: int | None = None

    @classmethod
    def parse(cls, text: str) -> Place:
        """`here`, `threads`, `threads:4`, `processes`, `processes:8`, `ray`, or `ray://host:port`."""
        if text.startswith("ray://"):
            return cls("ray", address=text)
        kind, _, rest = text.partition(":")
        if kind == "ray":
            return cls("ray", address=rest or None)
        if kind not in KINDS or (rest and not rest.isdecimal()) or (kind == "here" and rest) or rest == "0":
            raise Invalid(
                f"{text!r} is no place to run steps",
                why=f"there are {', '.join(KINDS)}; threads and processes may say how many",
                fix="write for example processes:4 or ray://head:10001",
            )
        return cls(kind, workers=int(rest) if rest else None)


def open_executor(place: Place, workspace: Path) -> Executor:
    """An executor as a place describes it; close it when done.

    Raises
    ------
    Unavailable
        If its extra is not installed, or its address does not answer.
    """
    if place.executor == "here":
        return Threads(workspace)
    if place.executor == "threads":
        return Threads(workspace, workers=max(2, place.workers or _cores()))
    if place.executor == "processes":
        return Processes(workspace, workers=place.workers)
    from loopline.compute.ray import RayExecutor

    return RayExecutor(workspace, address=place.address)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
