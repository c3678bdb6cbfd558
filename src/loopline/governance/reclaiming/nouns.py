"""What is needed no more, and what was let go of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from loopline.base.nouns import noun


@dataclass(frozen=True, slots=True)
class Unneeded:
    """Something that nothing needs any more."""

    kind: str
    """`run` (with its series and files), `experiment`, `files` (whose run or model is gone), `bytes` (that nobody
    names), `answer` (of a step), `traces` (of an experiment that is gone), `space` (that deleted traces left in their
    file), `leftover` (of a process that was killed)."""
    id: str
    name: str
    """What people call it."""
    owner: str
    """Whose it is or was; empty where nothing says so."""
    size: int
    """Bytes that it takes; bytes that others share with it are counted too, and stay."""
    since: datetime
    """Since when it is not needed: deleted, written or used for the last time."""
    kept: str = ""
    """Why it stays; empty where it goes."""


@noun("reclaimed")
@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What was let go of for good."""

    id: str
    counts: dict[str, int]
    """How many of each kind."""
    runs: tuple[str, ...]
    """The runs that can no longer be restored."""
    owners: tuple[str, ...]
    """Whose bytes they were."""
    freed: int
    """Bytes."""
    kept: dict[str, int]
    """Why so many stay, which are unneeded otherwise."""
    older_than_s: float
    by: str
    at: datetime
