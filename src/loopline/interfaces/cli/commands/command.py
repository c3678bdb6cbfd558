"""A row of the table of commands."""

from __future__ import annotations

from dataclasses import dataclass

HERE = "loopline.interfaces.cli"

START, LOOK, DECIDE, STAGES, CARE = "Start", "Look", "Decide", "Stages", "Care"


@dataclass(frozen=True, slots=True)
class Command:
    """A command; `words` are what one types, `place` the function behind it."""

    words: str
    place: str
    help: str
    group: str
    example: str
    verb: str | None = None
    """The verb it is short for, as permission and audit name it."""
