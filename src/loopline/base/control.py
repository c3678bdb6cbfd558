"""Control characters: no name holds one, and none reaches a terminal or a page as it is."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""C0, DEL and C1, ends of lines and paragraphs, and what turns the direction of writing (Unicode 15, UAX 9)."""


def has_control(text: str) -> bool:
    """Whether a character of `text` steers instead of being shown."""
    return not text.isprintable() and _CONTROL.search(text) is not None


def without(text: str) -> str:
    """`text` with `_` in place of each control character."""
    return _CONTROL.sub("_", text)


def shown(text: str, *, keep: str = "") -> str:
    r"""`text` with its control characters written out, as `\x1b`, but for those of `keep`."""
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda found: found[0] if found[0] in keep else repr(found[0])[1:-1], text)
