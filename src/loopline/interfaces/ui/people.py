"""Who sits before a page."""

from __future__ import annotations

import re

from loopline.base import settings
from loopline.base.errors import Invalid

WHO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,60}")


def person(given: str | None) -> str:
    """Who labels: the name that was given, else whoever runs this."""
    if not given:
        actor = settings.actor_name()
        return actor if actor.startswith("user:") else "user:somebody"
    if not WHO.fullmatch(given):
        raise Invalid(f"{given!r} is no name", why="names are letters, digits, `.`, `_`, `-` and `@`", fix="write one")
    return f"user:{given}"
