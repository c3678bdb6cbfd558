"""LIKE and ILIKE: `%` stands for any text, `_` for one character. Linear in the text for each piece."""

from __future__ import annotations

import re
from functools import lru_cache


@lru_cache(maxsize=512)
def pieces(pattern: str, any_case: bool) -> tuple[re.Pattern[str], ...]:
    """What stands between the `%` of a pattern, each of a fixed length."""
    flags = re.DOTALL | (re.IGNORECASE if any_case else 0)
    return tuple(
        re.compile("".join("." if character == "_" else re.escape(character) for character in part), flags)
        for part in pattern.split("%")
    )


def like(text: str | None, pattern: str, any_case: int) -> bool:
    """Whether `text` has the form of `pattern`; a text that is not there has none."""
    if text is None:
        return False
    parts = pieces(pattern, bool(any_case))
    if len(parts) == 1:
        return parts[0].fullmatch(text) is not None
    first = parts[0].match(text)
    if first is None:
        return False
    at = first.end()
    for part in parts[1:-1]:
        found = part.search(text, at)
        if found is None:
            return False
        at = found.end()
    width = _width(pattern)
    return len(text) - width >= at and parts[-1].fullmatch(text, len(text) - width) is not None


@lru_cache(maxsize=512)
def _width(pattern: str) -> int:
    """Characters after the last `%`."""
    return len(pattern) - pattern.rindex("%") - 1
