"""Where a registration was first made: tags that it carries from workspace to workspace."""

from __future__ import annotations

from collections.abc import Mapping

from loopline.registry.shelf import Entry

ORIGIN, FROM, AUTHOR = "loopline.origin", "loopline.from", "loopline.author"
"""Tags of a registration that came from elsewhere: its id there, where that is, whose it was."""


def origin_of(entry: Entry) -> str:
    """The id that a registration was given where it was first made."""
    return entry.tags.get(ORIGIN) or entry.id


def travelling(entry: Entry, workspace: str) -> dict[str, str]:
    """The tags of a registration with those that say where it was first made."""
    own = {ORIGIN: origin_of(entry), FROM: f"{workspace} {entry.name} {entry.number}", AUTHOR: entry.author}
    return {**own, **entry.tags}


def carried(tags: Mapping[str, str]) -> dict[str, str]:
    """Of the tags of a registration that came, those that say where from."""
    return {key: value for key, value in tags.items() if key in (ORIGIN, FROM, AUTHOR)} if ORIGIN in tags else {}


def key_of(origin: str) -> str:
    """The key that it is registered under here, whichever way it came."""
    return f"arrived {origin}"
