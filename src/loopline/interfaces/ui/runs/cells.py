"""How values of runs are written: short, whatever somebody has logged."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup

from loopline.base import figures
from loopline.base.control import shown
from loopline.base.sizes import size_text
from loopline.base.spec import length_text
from loopline.interfaces.ui.states import Said
from loopline.interfaces.ui.words import MINUS, NOTHING

CHARACTERS = 80
"""Of a text in a table at most."""
STATUSES = {
    "FINISHED": Said("finished", "good"),
    "RUNNING": Said("running", "busy"),
    "SCHEDULED": Said("scheduled", "quiet"),
    "FAILED": Said("failed", "bad"),
    "KILLED": Said("killed", "no"),
    "BROKE_OFF": Said("broke off", "no"),
    "UNDELIVERED": Said("not delivered", "warn"),
}


def figure(value: float | None) -> str:
    """A number as people read it; infinities by their sign, a dash for null."""
    if value is None:
        return NOTHING
    return minus(figures.figure(value))


def minus(text: str) -> str:
    """A figure as pages write it."""
    return text.replace("-", MINUS).replace("inf", "∞")


def cut(text: str, most: int = CHARACTERS) -> str:
    """A text in one line, its beginning only where it is long."""
    head = shown(" ".join(text[: 4 * most].split()))
    return head if len(head) <= most and len(text) <= 4 * most else head[: most - 1] + "…"


def at(ms: int | None) -> Markup | str:
    """A moment that somebody sent in milliseconds; as a number where no calendar has it."""
    if ms is None:
        return NOTHING
    try:
        moment = datetime.fromtimestamp(ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(ms)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d %H:%M:%S")
    )


def took(seconds: float | None) -> str:
    """How long something took; a dash where it has not ended, or ended before it began."""
    if seconds is None or seconds < 0 or seconds > 1e10:
        return NOTHING
    return length_text(seconds)


def size(count: int) -> str:
    """Bytes as people read them."""
    return size_text(count)


def status(text: str) -> Said:
    """The badge of a status."""
    return STATUSES.get(text, Said(text.lower(), "quiet"))
