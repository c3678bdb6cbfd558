"""Values of foreign files, taken as what they should be, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from loopline.base.errors import Invalid
from loopline.base.figures import plural
from loopline.store.runs.protocol import Experiment, Status

STATUSES: tuple[Status, ...] = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
"""By the number they have in the protocol, counted from 1."""
MODEL_STATUSES = ("PENDING", "READY", "UPLOAD_FAILED")
GREATEST = 1.7976931348623157e308
"""What MLflow's databases hold for infinity."""
_INT64 = 2**63


def wrong(what: str, why: str) -> Invalid:
    """The error for a value that cannot be."""
    return Invalid(what, why=why, fix="repair it at its source, or leave it out")


def shown(value: Any) -> str:
    """A value as an error names it; of a list or an object only that it is one, for it may be folded to any size."""
    return f"{value!r:.100}" if isinstance(value, (str, int, float, type(None))) else f"a {type(value).__name__}"


def text(value: Any, what: str) -> str:
    """A text; nothing is the empty one."""
    if value is None:
        return ""
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise wrong(f"{what} is {shown(value)}", "it should be a text")


def maybe(value: Any, what: str) -> str | None:
    """A text, or null."""
    return None if value is None else text(value, what)


def whole(value: Any, what: str) -> int:
    """A whole number of 64 bits, also when it is written as a text."""
    if isinstance(value, str) and len(value) < 25:
        with suppress(ValueError):
            value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < _INT64:
        return value
    raise wrong(f"{what} is {shown(value)}", "it should be a whole number of 64 bits")


def moment(value: Any, what: str) -> int | None:
    """Milliseconds since 1970, or null."""
    return None if value is None or value == "" else whole(value, what)


def number(value: Any, what: str) -> float:
    """A float; words for NaN and the infinities too."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    elif isinstance(value, str) and len(value) < 400:
        try:
            return float(value)
        except ValueError:
            pass
    raise wrong(f"{what} is {shown(value)}", "it should be a number")


def as_logged(value: float) -> float:
    """Infinity, where a database holds its stand-in."""
    if value >= GREATEST:
        return float("inf")
    return float("-inf") if value <= -GREATEST else value


def status(value: Any) -> Status:
    """The state of a run: a word, or its number; RUNNING where nothing is said."""
    if value is None or value == "":
        return "RUNNING"
    for at, name in enumerate(STATUSES, start=1):
        if str(value) in (name, str(at)):
            return name
    raise wrong(f"the status of a run is {shown(value)}", f"it is one of {', '.join(STATUSES)}")


def model_status(value: Any) -> str:
    """The state of a logged model: a word, or its number."""
    for at, name in enumerate(MODEL_STATUSES, start=1):
        if str(value) in (name, f"LOGGED_MODEL_{name}", str(at)):
            return name
    return "PENDING" if str(value) == "0" else "READY"


def left_traces(count: int, experiment: Experiment, *, most: int | None = None) -> Iterator[str]:
    """That traces of an experiment do not come; beyond `most` they were not counted."""
    if most is not None and count > most:
        yield f"more than {most:,} traces of the experiment {experiment.name[:100]!r}: traces do not come"
    elif count:
        yield f"{plural(count, 'trace')} of the experiment {experiment.name[:100]!r}: traces do not come"
