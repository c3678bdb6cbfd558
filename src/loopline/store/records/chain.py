"""How audit entries hang together: each hash covers the one before."""

from __future__ import annotations

from typing import Any

from loopline.base.ids import content_id

GENESIS = "0" * 64
"""What the first entry calls the hash before it."""

_FIELDS = ("seq", "at", "recorded_at", "action", "actor", "subject", "doc", "prev")


def entry_hash(entry: dict[str, Any]) -> str:
    """The hash of an entry: over all of it, and so over the hash of the one before."""
    return content_id({name: entry[name] for name in _FIELDS})
