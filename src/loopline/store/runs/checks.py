"""What a value must be so that the store can hold it; a door may ask for more."""

from __future__ import annotations

import re
from typing import Any

from loopline.base.control import has_control, without
from loopline.base.errors import Invalid, NotFound

KEY_CHARACTERS = 1_000
TEXT_CHARACTERS = 1_000_000
LONG_TEXT_CHARACTERS = 50_000_000
_INT64 = 2**63
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]{0,255}")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


def text(what: str, value: Any, *, most: int = TEXT_CHARACTERS, least: int = 0) -> str:
    """`value`, if it is a text of fitting length that can be written down.

    Raises
    ------
    Invalid
        If it is not.
    """
    if not isinstance(value, str):
        raise Invalid(f"{what} is {value!r:.100}", why="it is a text", fix=f"send {str(value)[:100]!r}")
    if not least <= len(value) <= most:
        raise Invalid(
            f"{what} has {len(value):,} characters",
            why=f"it may have {least:,} to {most:,}",
            fix="give a name" if not value else "shorten it, or log it as an artifact",
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Invalid(
            f"{what} is no text: {value[:100]!r}", why="half a surrogate pair stands for nothing", fix="send UTF-8"
        ) from error
    return value


def key(what: str, value: Any) -> str:
    """The name of a metric, a param or a tag."""
    return title(f"the name of a {what}", value, most=KEY_CHARACTERS)


def title(what: str, value: Any, *, most: int = TEXT_CHARACTERS) -> str:
    """`value`, if it is a text that names something: not empty, and of characters that are shown.

    Raises
    ------
    Invalid
        If it is not.
    """
    text(what, value, most=most, least=1)
    if has_control(value):
        raise Invalid(
            f"{what} is {value[:100]!r}",
            why="it holds a control character, which is not shown but obeyed",
            fix=f"name it for example {without(value)[:100]!r}",
        )
    return str(value)


def whole(what: str, value: Any) -> int:
    """`value`, if it is a whole number of 64 bits."""
    if isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < _INT64:
        return value
    raise Invalid(f"{what} is {value!r:.100}", why="it is a whole number of 64 bits", fix="send such a number")


def identity(what: str, value: Any) -> str:
    """An id that somebody else made."""
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise Invalid(
        f"the id {value!r:.100} of a {what}",
        why="an id has up to 256 letters, digits, `_` and `-`, and starts with a letter or a digit",
        fix="leave it out to have one made",
    )


def number(value: str) -> float | None:
    """The finite number that a text writes, or null."""
    if len(value) > 400 or _NUMBER.fullmatch(value) is None:
        return None
    found = float(value)
    return found if abs(found) != float("inf") else None


def experiment_number(id: str) -> int:
    """The number behind the id of an experiment."""
    if isinstance(id, str) and id.isascii() and id.isdigit() and len(id) < 19:
        return int(id)
    raise no_experiment(id)


def no_experiment(id: str) -> NotFound:
    """The error for an experiment that is not there."""
    return NotFound(
        f"no experiment has the id {id!r:.100}", why="it was never made here, or it is gone", fix="search experiments"
    )


def no_run(id: str) -> NotFound:
    """The error for a run that is not there."""
    return NotFound(
        f"no run has the id {id!r:.300}",
        why="it was never made here, or it is gone",
        fix="see what there is: `loopline runs list`, or search for runs",
    )
