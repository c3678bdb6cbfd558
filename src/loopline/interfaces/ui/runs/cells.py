"""How values of runs are written: short, whatever somebody has logged."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from markupsafe import Markup

from loopline.base.control import shown
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
}


def figure(value: float | None) -> str:
    """A number in six figures; NaN and infinities by name, a dash for null."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else f"{MINUS}∞"
    return f"{value:.6g}".replace("-", MINUS)


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
    return f"{seconds:.2g} s" if seconds < 1 else length_text(seconds)


def size(count: int) -> str:
    """Bytes as people read them."""
    if count < 1_000:
        return f"{count} bytes"
    told, units = count / 1_000, ["kB", "MB", "GB"]
    while told >= 1_000 and len(units) > 1:
        told, units = told / 1_000, units[1:]
    return f"{told:,.3g} {units[0]}" if told < 1_000 else f"{told:,.0f} {units[0]}"


def status(text: str) -> Said:
    """The badge of a status."""
    return STATUSES.get(text, Said(text.lower(), "quiet"))
