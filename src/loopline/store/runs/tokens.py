"""Tokens of pages: the place where a page ended, bound to the question it answered."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from loopline.base.errors import Invalid

_CHARACTERS = 100_000


def question(*parts: Any) -> str:
    """A short digest of what was asked."""
    return hashlib.blake2b(json.dumps(parts, ensure_ascii=True, default=str).encode(), digest_size=9).hexdigest()


def write(asked: str, place: Sequence[Any]) -> str:
    """A token that asks for what comes after `place`."""
    return base64.urlsafe_b64encode(json.dumps([asked, *place]).encode()).decode().rstrip("=")


def read(token: str, asked: str, kinds: Sequence[type]) -> list[Any]:
    """The place in a token.

    Parameters
    ----------
    kinds : sequence of type
        What stands in the place: str, int, or float, which an int is too.

    Raises
    ------
    Invalid
        If it was not written here, or for another question.
    """
    try:
        if len(token) > _CHARACTERS:
            raise ValueError
        found = json.loads(base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), b"-_", validate=True))
        if not isinstance(found, list) or len(found) != len(kinds) + 1:
            raise ValueError
        for value, kind in zip(found[1:], kinds, strict=True):
            fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
            if not fits or isinstance(value, bool) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
                raise ValueError
            if isinstance(value, str):
                value.encode()
    except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise _bad(token, "it was not given out here") from error
    if found[0] != asked:
        raise _bad(token, "it belongs to another question: filter, order or experiments differ")
    return found[1:]


def _bad(token: Any, why: str) -> Invalid:
    return Invalid(
        f"the page token {str(token)[:60]!r} leads nowhere", why=why, fix="ask again from the first page, without it"
    )
