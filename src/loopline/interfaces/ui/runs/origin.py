"""Where a run comes from, as it was captured: code, environment, machine, what it printed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from loopline.base.errors import LooplineError
from loopline.interfaces.ui.runs.context import Log
from loopline.interfaces.ui.runs.files import readable
from loopline.interfaces.ui.runs.told import Told
from loopline.training.tracking.origin import versions
from loopline.training.tracking.watch import CODE, DIFF, LOCK, MACHINE, OUTPUT, PROCESS

LARGEST = 4 << 20
"""Bytes of a captured file that are read."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What was captured of a run; empty where nothing was, as with runs of other clients."""

    commit: str | None = None
    branch: str | None = None
    remote: str | None = None
    source: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    """Path of a file of its code to SHA-256."""
    untracked: tuple[str, ...] = ()
    diff: str = ""
    """What of it was not committed."""
    packages: dict[str, str] = field(default_factory=dict)
    """Distribution to version."""
    machine: dict[str, Any] = field(default_factory=dict)
    process: dict[str, Any] = field(default_factory=dict)


def origin(log: Log, run: Told) -> Origin:
    """What was captured of a run."""
    code, tags = _document(log, run, CODE), run.tags
    files = code.get("files")
    untracked = code.get("untracked")
    lock = text(log, run, LOCK)
    return Origin(
        commit=_told(code.get("commit") or tags.get("mlflow.source.git.commit")),
        branch=_told(code.get("branch") or tags.get("mlflow.source.git.branch")),
        remote=_told(code.get("remote") or tags.get("mlflow.source.git.repoURL")),
        source=tags.get("mlflow.source.name"),
        files={str(path): str(digest) for path, digest in files.items()} if isinstance(files, dict) else {},
        untracked=tuple(map(str, untracked)) if isinstance(untracked, dict) else (),
        diff=text(log, run, DIFF),
        packages=versions(lock),
        machine=_document(log, run, MACHINE),
        process=_document(log, run, PROCESS),
    )


def output(log: Log, run: Told) -> str:
    """The end of what a run printed."""
    return text(log, run, OUTPUT)


def text(log: Log, run: Told, path: str) -> str:
    """A captured file as text; empty where there is none that can be read."""
    try:
        _, file = log.ws.artifacts.open(run.id, path)
    except LooplineError:
        return ""
    with file:
        return readable(file.read(LARGEST)) or ""


def _document(log: Log, run: Told, path: str) -> dict[str, Any]:
    try:
        found = json.loads(text(log, run, path) or "null")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _told(value: Any) -> str | None:
    return str(value) if value else None
