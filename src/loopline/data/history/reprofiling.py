"""What a manifest says of rows, said again of those that remain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopline.data.history.manifest import rows_of
from loopline.data.history.profiles import PROFILED, profile
from loopline.data.nouns import Snapshot
from loopline.data.privacy.detectors import propose
from loopline.data.privacy.treatments import hide
from loopline.data.privacy.unsaid import unsaid

if TYPE_CHECKING:
    from loopline.workspace import Workspace

_COUNTED = {"type", "nulls", "distinct"}


def reprofiled(ws: Workspace, snapshot: Snapshot, doc: dict[str, Any]) -> dict[str, Any]:
    """The document of a manifest with the profile of each table made from the rows of its pinned files as they are now.

    Columns of which only counts were told stay so, and those that look personal now join them.
    """
    made = {}
    for name, entry in doc["tables"].items():
        made[name] = entry
        if not entry.get("files") or "profile" not in entry or "known_at" not in entry:
            continue
        sample = rows_of(ws, snapshot, name).tail(PROFILED).collect()
        before = entry["profile"].get("columns") or {}
        counted = {column for column, said in before.items() if set(said) <= _COUNTED}
        hidden = counted | unsaid(ws, name, None, propose(sample, name))
        made[name] = entry | {"profile": hide(profile(sample), hidden)}
    return doc | {"tables": made}
