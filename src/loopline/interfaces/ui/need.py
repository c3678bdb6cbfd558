"""One thing that waits for a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Need:
    """One thing for a person: what, why, where the evidence is, what to type."""

    tone: str
    what: str
    why: str
    since: datetime | None = None
    links: tuple[tuple[str, str], ...] = ()
    """(address, words)."""
    commands: tuple[str, ...] = ()
