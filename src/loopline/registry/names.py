"""Which names models and aliases may have, and which aliases only a promotion moves."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from loopline.base.errors import Invalid

PROTECTED = ("production", "champion")
"""Aliases that only a promotion moves, whatever else is declared: loops release by the first."""
LONGEST = 256
_NEVER = re.compile(r"latest|v\d+|\d+|[0-9a-f]{8,}", re.IGNORECASE)
_ALIAS = re.compile(r"[\w-]{1,255}")


def check_shelf(name: str) -> str:
    """The name of a registered model, checked; wider than what a loop may be called.

    Raises
    ------
    Invalid
        For `/`, `:`, `@` or `%`, a control character, `.` and `..`, spaces at an end, or more than 256 characters.
    """
    why = None
    if not name or name != name.strip() or name in (".", ".."):
        why = "a name is no blank, no dots alone, and neither begins nor ends with a space"
    elif any(letter in name for letter in "/:@%\\"):
        why = "a name holds no '/', ':', '@', '%' or backslash: these stand in addresses of models"
    elif not name.isprintable():
        why = "a name holds no letter that cannot be seen"
    elif len(name) > LONGEST:
        why = f"a name has {LONGEST} characters at most"
    if why is not None:
        raise Invalid(f"{name[:100]!r} cannot name a registered model", why=why, fix="for example claims-fraud")
    return name


def check_free_alias(alias: str) -> str:
    """An alias that clients may set, checked.

    Raises
    ------
    Invalid
        If it could be taken for a number, an id or the newest version.
    """
    if not _ALIAS.fullmatch(alias) or _NEVER.fullmatch(alias) or _NEVER.fullmatch(_plain(alias)) or alias.isdigit():
        raise Invalid(
            f"{alias[:100]!r} cannot be an alias",
            why="an alias has letters, digits, `_` and `-`, and is not 'latest', a number such as 3 or v3, or an id",
            fix="for example staging or challenger",
        )
    return alias


def guarded(alias: str, declared: Iterable[str] = ()) -> str | None:
    """The protected alias that this is another spelling of; null for one that moves freely."""
    plain = _plain(alias)
    return next((name for name in (*PROTECTED, *declared) if _plain(name) == plain), None)


def _plain(alias: str) -> str:
    return unicodedata.normalize("NFKC", alias).casefold()
