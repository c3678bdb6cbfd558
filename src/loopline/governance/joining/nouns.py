"""What came from another workspace."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loopline.base.nouns import noun

ARRIVING = "loopline.arriving"
"""Tag of a run that is not whole yet."""


@noun("receipt")
@dataclass(frozen=True, slots=True)
class Receipt:
    """A parcel of another workspace that was taken in."""

    id: str
    parcel: str
    """Digest of its list of contents."""
    workspace: str
    """The id of the workspace that it says it came from."""
    head: dict[str, Any] | None
    """The sealed head of that workspace's audit trail then; null where nothing was sealed."""
    key: str | None
    """Fingerprint of the key that signed the list; null where none did. Whose it is, this workspace does not know."""
    signed: bool
    """Whether that signature holds, and the same key sealed the head."""
    added: dict[str, int]
    """How many runs, models, registrations, traces and files are new here."""
    refused: tuple[str, ...]
    """Same id, another content: what is here stays."""
    told: tuple[str, ...]
    """What was not taken over, and why: tags, aliases and names that clash."""
    by: str
    at: datetime
